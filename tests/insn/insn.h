/* SPDX-License-Identifier: MIT
 *
 * The instruction test: every instruction form that Zydis knows, run on the host's own CPU and in
 * the engine from the same state, and what came out compared.
 *
 * Both sides use the same addresses, so that nothing has to be translated: data pages at SCR_BASE,
 * code at CODE_BASE, GS based at GS_BASE; around the data nothing is mapped. Both run at CPL 3 with
 * IOPL 0 and with the selectors Linux uses.
 */
#ifndef INSN_H
#define INSN_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCR_BASE  0x10001000ull
#define SCR_SIZE  0x3000u
#define CODE_BASE 0x20000000ull
#define CODE_SIZE 0x4000u
#define GS_BASE   (SCR_BASE + 0x800)

#define FL_CF    0x0001u
#define FL_PF    0x0004u
#define FL_AF    0x0010u
#define FL_ZF    0x0040u
#define FL_SF    0x0080u
#define FL_TF    0x0100u
#define FL_IF    0x0200u
#define FL_DF    0x0400u
#define FL_OF    0x0800u
#define FL_NT    0x4000u
#define FL_RF    0x10000u
#define FL_AC    0x40000u
#define FL_ID    0x200000u
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum {
    VEC_NONE = -1,
    VEC_DE = 0,
    VEC_DB,
    VEC_BP = 3,
    VEC_OF,
    VEC_UD = 6,
    VEC_NM,
    VEC_GP = 13,
    VEC_PF,
    VEC_MF = 16,
    VEC_AC,
    VEC_XM = 19
};

/* Offsets in the standard XSAVE layout. */
#define XS_FCW    0
#define XS_FSW    2
#define XS_FTW    4
#define XS_MXCSR  24
#define XS_ST     32
#define XS_XMM    160
#define XS_HEADER 512
#define XS_YMMH   576
#define XS_SIZE   832

struct state {
    _Alignas(64) uint8_t xsave[XS_SIZE];
    uint64_t gpr[16];
    uint64_t rip, rflags;
    int vector; /* the exception it raised, or VEC_NONE */
    uint32_t err;
    uint64_t cr2; /* of a #PF */
};

/* One instruction, where it lies, and where its branches go. */
#define CODE_MAX 192u
struct code {
    uint8_t bytes[CODE_MAX]; /* one instruction, or a straight run of them */
    uint8_t len;
    uint64_t ip;
    uint64_t taken; /* target of its branch; 0: it has none */
    uint64_t ea;    /* of its memory operand; 0: it has none */
    bool rep;       /* may run for several instructions' worth of budget */
    bool loops;     /* is a loop, which gets hot by itself */
};

/* ---- randomness: rng.c ------------------------------------------------------ */
void rng_seed(uint64_t seed);
uint64_t rnd(void);
static inline uint32_t rnd_below(uint32_t n)
{
    return (uint32_t)((rnd() >> 32) * n >> 32);
}
static inline bool one_in(uint32_t n)
{
    return rnd_below(n) == 0;
}
uint64_t rnd_int(void);            /* boundary or random, of random width */
void rnd_fill(void *to, size_t n); /* random bytes */
/* Values of one kind in a row of n bytes: FILL_*. */
enum fill { FILL_BITS, FILL_INT, FILL_F32, FILL_F64, FILL_F80, FILL_F16, FILL_ZERO, FILL_KINDS };
void rnd_typed(void *to, size_t n, enum fill kind);

/* ---- the host's side: native.c ---------------------------------------------- */
bool native_start(void);
/* The data pages are at SCR_BASE. */
void native_place(const struct code *code);
void native_run(const struct code *code, const struct state *in, struct state *out);

/* ---- the engine's side, by the public API only: engine.c --------------------- */
extern bool engine_absent; /* the host is compared with itself: tests the test */
bool engine_start(const char *backend, const char *model, const char *engine);
void engine_stop(void);
/* How often code is run before the run that counts: a translator wants to see
 * it that often before it translates. */
extern unsigned engine_warmup;
uint8_t *engine_mem(void); /* the guest's data pages */
bool engine_avx(void);     /* the guest has YMM registers */
bool engine_place(const struct code *code);
enum engine_bits { ENGINE_64, ENGINE_32, ENGINE_16 };
/* budgeted: stop by a budget of one instruction; else run on into the INT3 that
 * follows. false: the engine failed; engine_why() says how. */
bool engine_run(const struct code *code, enum engine_bits bits, bool budgeted,
                const struct state *in, struct state *out);
const char *engine_why(void);
void engine_cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* Makes XSAVE images comparable: init-state components written out, FIP, FDP,
 * FOP and reserved bytes zero. */
void xsave_normalize(uint8_t xs[XS_SIZE]);

/* ---- instruction forms: forms.c, encode.c, exclude.c, isa.c ------------------- */
enum enc_kind { ENC_LEGACY, ENC_VEX, ENC_XOP, ENC_EVEX };
struct enc {
    uint8_t kind;
    uint8_t seg, p67, lock, p66, rep; /* prefix bytes; 0: absent */
    uint8_t rex;                      /* 0: absent */
    uint8_t map;                      /* legacy: 0-3; VEX, XOP, EVEX: their number */
    uint8_t w, l, pp, vvvv;           /* of VEX, XOP, EVEX; vvvv not inverted */
    uint8_t r, x, b;
    uint8_t opcode, modrm, sib;
    uint8_t has_modrm;
    int32_t disp;
    uint8_t tail[10]; /* immediates, as many bytes as the form has */
};
unsigned enc_emit(const struct enc *e, uint8_t out[32]);

struct insn {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};
bool insn_decode(ZydisMachineMode mode, const uint8_t *bytes, unsigned n, struct insn *in);

struct form {
    uint64_t key;
    struct enc enc;
    struct insn in;
    const char *excluded; /* why it isn't run; NULL: it is */
    const char *hidden;   /* the ISA set's name when the guest's CPUID does not offer it */
};
uint64_t form_key(const struct insn *in);
/* All forms, in the order of enumeration. */
struct form *forms_make(size_t *n);
/* Another encoding of the same form: other registers, addressing, immediates. */
/* Calls fn for every opcode and ModRM byte that Zydis takes for undefined. */
void forms_undefined(void (*fn)(void *ud, const uint8_t *bytes, unsigned n), void *ud);
void form_vary(const struct form *f, struct enc *e, struct insn *in, uint8_t bytes[32]);
const char *form_exclude(const struct insn *in);

/* Does the guest's (or the host's) CPUID offer this ISA set? */
bool isa_offered(ZydisISASet isa, bool guest);
/* Without it the encoding does nothing, or means an older instruction. */
bool isa_falls_back(const struct insn *in);

/* ---- operands: gen.c; comparing: compare.c ------------------------------------ */
/* Fills a start state and the data pages at mem (SCR_SIZE bytes) for an
 * instruction; fixes up addresses inside its bytes. false: try another encoding. */
bool gen_case(const struct insn *in, struct code *code, struct state *st, uint8_t *mem);

struct masks {
    uint32_t flags; /* flags that must agree */
    uint16_t fsw;
};
void compare_masks(const struct insn *in, const struct state *start, struct masks *m);
/* Bytes of memory that the manual leaves open are made equal in b. */
void compare_fix_memory(const struct insn *in, uint64_t ea, const uint8_t *a, uint8_t *b);
/* The same for state behind an exception. Returns whether sticky flags of MXCSR
 * differed beside #XM. */
bool compare_fix_state(const struct insn *in, const struct state *a, struct state *b);
/* Where they differ, as text; false: they agree. */
bool compare(const struct masks *m, const struct state *a, const struct state *b,
             const uint8_t *mem_a, const uint8_t *mem_b, char *text, size_t n);

/* ---- running: main.c; directed.c, sequence.c; 32- and 16-bit code:
 * narrow.c, decimal.c */
struct tally {
    uint64_t cases, differences;
    uint64_t sticky;     /* cases that differ in sticky flags beside #XM only */
    uint64_t raised[33]; /* by exception on the host; 32: none */
};
/* One case, both sides; mem is what the data pages start with. */
void run_case(struct tally *t, const struct insn *in, const struct code *code,
              const struct state *start, const uint8_t *mem, bool budgeted);
void report(struct tally *t, const struct code *code, const struct state *start, const char *text);
void directed_run(struct tally *t);
void undefined_run(struct tally *t);
/* Runs of random instructions, so that what one leaves is what the next finds. */
void sequences_run(struct tally *t, const struct form *forms, size_t n, unsigned cases);
void decimal_run(struct tally *t);
void narrow_run(struct tally *t, const struct form *forms, size_t n, unsigned cases);

#endif
