/* SPDX-License-Identifier: MIT
 * One translation in progress. */
#ifndef JIT_TRANS_H
#define JIT_TRANS_H

#include "../flags.h"
#include "asm.h"
#include "encode.h"
#include "jit.h"

#define TRANS_MAX 96

enum trans_kind {
    T_CALLOUT, /* the interpreter does it */
    T_END,     /* so, and it ends the block */
    T_COPY,    /* the same instruction with other registers */
    T_VECTOR,  /* the same, and it needs the guest's vectors in the host's registers */
    T_X87,     /* the same; x87 or MMX registers */
    T_DIV,
    T_BIT, /* BT m, r and the like */
    T_SYS, /* changes the system's state a little */
    T_LEA,
    T_PUSH,
    T_POP,
    T_LEAVE,
    T_JCC,
    T_JMP,
    T_CALL,
    T_RET,
    T_JMP_IND,
    T_CALL_IND,
    T_NOP
};

/* A memory access: guest registers by number, G_IP for IP-relative. */
#define G_IP 17
struct access {
    int base, index; /* -1: none */
    unsigned scale;  /* shift count of the index */
    int32_t disp;
    int seg; /* SEG_FS, SEG_GS: its base is added; else -1 */
    unsigned size;
    bool write;
};

struct tinsn {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    const uint8_t *bytes;
    struct op op; /* the interpreter's, with offsets from the page's start */
    unsigned off; /* in the page */
    enum trans_kind kind;
    uint32_t use, def, live_before, live_after, live_taken;
    uint32_t need_before; /* of live_before: what instructions read, not only faults show */
    bool has_access;
    struct access m;
    /* Its group: the first access with the same base, whose check serves all. */
    int lead;         /* index of that instruction; -1: alone */
    int32_t lo, hi;   /* of a lead: bytes that the group reaches from its base */
    bool group_write; /* of a lead: some access of the group writes */
    bool grouped;     /* of a lead: it has followers */
    bool moves;       /* of a lead in 32-bit code: with a base register changed meanwhile */
    uint32_t slot;    /* of a lead */
    /* Of a lead in a loop: is its base but a constant off that at the loop's start?
     * Then start is the constant, and when it steps, it grows by step in each turn. */
    bool invariant, steps;
    int32_t start, step;
};

/* Where the arithmetic flags are. */
enum flags_place { IN_MEMORY, IN_HOST, IN_REGISTERS };

/* How flags are made again from guest registers. */
struct remat {
    enum { REMAT_NOT, REMAT_AGAIN, REMAT_RESULT, REMAT_ADD, REMAT_SUB } how;
    unsigned insn; /* that set them */
    int a, b;      /* registers that must be as then; -1 */
};

/* A block that ends in a jump to its own start has a second body, entered when
 * what it steps through lies in one page for some turns to come. */
struct loop {
    bool on;
    unsigned last;     /* instruction that jumps back */
    bool saves;        /* flags are in memory at each turn's start */
    uint8_t need_simd; /* JIT_SIMD_* */
    uint8_t *start;    /* of the checked body */
    uint8_t *prologue; /* NULL: not written yet */
    uint8_t *second;   /* the second body */
    uint8_t *from[4];  /* jumps that wait for the prologue */
    unsigned nfrom;
};

/* Code out of the way: a slow path, written after the block. */
enum cold_kind {
    COLD_FILL,     /* a page check failed */
    COLD_CALLOUT,  /* the interpreter does the instruction */
    COLD_STORED,   /* stored to a page with code */
    COLD_TAKEN,    /* a branch is taken */
    COLD_SIMD,     /* vectors are not live */
    COLD_POLL,     /* out of fuel */
    COLD_LOOP_END, /* a loop's second body is left at its end */
    COLD_MISS      /* r11: a jump cache entry that is not the one; leave to [r10] */
};
enum cold_ip {
    IP_OFF,  /* an offset of the page */
    IP_TMP,  /* emu.jit_tmp */
    IP_ENTRY /* of the jump cache's entry in r11 */
};
/* The x87's pointers to its last instruction and operand: indices of these plus 1,
 * or 0 when emu.fx has them. */
struct x87_ptrs {
    uint16_t insn, data;
};

struct cold {
    enum cold_kind kind;
    uint8_t *from, *from2; /* jumps that lead here */
    const uint8_t *back;   /* where it goes on: after the check */
    const uint8_t *after;  /* and after the whole instruction */
    struct jit_site *site;
    struct access m; /* FILL, STORED: what is accessed */
    uint32_t slot;   /* FILL: whose pages failed, or JIT_NO_SLOT */
    enum cold_ip ip; /* POLL, MISS: where to leave to */
    int64_t off;
    unsigned insn;
    bool reload; /* flags to the host's before it goes on after the instruction */
    enum flags_place flags;
    struct remat rm; /* when they are in registers */
    uint8_t simd;    /* JIT_SIMD_*: live in the main path */
    struct x87_ptrs x87;
    bool fast; /* in a loop's second body */
};
#define COLD_MAX (8 * TRANS_MAX)

struct trans {
    struct emu *c;
    struct block *block;
    struct jit *jit;
    const struct jit_gates *gates;
    struct asmbuf a;
    ZydisDecoder dec;
    bool code32;   /* flat 32-bit code: narrow.c */
    unsigned word; /* bytes of the stack's slots and of addresses: 8, or 4 */
    uint8_t *entry;
    uint64_t *lines;
    unsigned start, end; /* offsets in the page */
    unsigned n;
    bool failed, ended, undecodable;
    enum flags_place flags;
    struct remat rm; /* of the flags in the host's, or in registers */
    struct loop loop;
    bool fast;    /* writing the loop's second body */
    uint8_t simd; /* JIT_SIMD_* that are live for sure */
    struct x87_ptrs x87;
    uint32_t slot; /* of the last check */
    struct jit_block *jb;
    struct jit_chunk *owned;
    size_t chunk_left;
    unsigned ncold;
    struct cold cold[COLD_MAX];
    uint8_t page[4096 + INSN_MAX]; /* the guest's, read once; and what the next begins with */
    bool crosses;                  /* the block's one instruction ends in the next page */
    struct tinsn insn[TRANS_MAX];
};

/* Guest registers that have no host register. */
static inline bool homed(int guest)
{
    return guest >= 8 && guest <= 11;
}
static inline unsigned host_reg(int guest)
{
    return guest == 4 ? (unsigned)H_R9 : (unsigned)guest;
}

/* ---- kind.c --------------------------------------------------------------------- */
enum trans_kind trans_kind(struct emu *c, const struct tinsn *ti);
bool trans_may_fault(const struct tinsn *ti);
/* The memory operand, or NULL. */
const ZydisDecodedOperand *trans_memory(const struct tinsn *ti);
uint8_t trans_simd(const struct tinsn *ti); /* JIT_SIMD_* that it needs */
bool trans_must_align(const struct tinsn *ti);
bool address_possible(const struct tinsn *ti, const ZydisDecodedOperand *m);

/* ---- narrow.c: 32-bit code ----------------------------------------------------------- */
static inline bool code64_insn(const struct tinsn *ti)
{
    return ti->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
}
static inline unsigned insn_word(const struct tinsn *ti)
{
    return code64_insn(ti) ? 8 : 4;
}
/* Do its bytes mean the same in 64-bit mode, or does encode.c know better? */
bool narrow_same(const struct tinsn *ti);
/* A jump taken when FS or GS is not as native accesses need it. */
uint8_t *put_narrow_seg(struct trans *t, int seg);
/* r11: registers of an access that a loop advances. To `elsewhere` unless none of them can
 * pass 0 or 4 GiB while the access stays in its page. */
void put_narrow_turn(struct trans *t, const uint8_t *elsewhere);
/* May a loop advance the access? base, index: what was added to its registers. */
bool narrow_steps(const struct tinsn *ti, int64_t base, int64_t index);

/* ---- group.c: which accesses share a check ------------------------------------------ */
void trans_accesses(struct trans *t);
/* Of an operand in memory. */
struct access trans_access(const struct tinsn *ti, const ZydisDecodedOperand *o);

/* ---- mem.c ---------------------------------------------------------------------- */
/* Makes sure that the access is possible and r11 the addend. NULL: it was known
 * before. Clobbers r10 and, unless NULL, flags. */
struct cold *put_check(struct trans *t, unsigned i, const struct access *m);
/* Is the access checked by nothing in its place? */
bool access_free(const struct trans *t, unsigned i);
/* Will the instruction's access have to write code that clobbers flags? */
bool access_clobbers(const struct trans *t, unsigned i);
/* The host operand, once r11 is the addend of the last check. May use r10, keeps flags. */
struct hmem put_operand(struct trans *t, const struct access *m);
/* r11 alone, so that r10 is free. */
void put_collapse(struct trans *t, struct hmem *m);
/* to = base, index and segment base, plus disp. Uses r10, r11, and flags when there is
 * a segment. */
void put_linear(struct trans *t, const struct access *m, unsigned to, int32_t disp);
/* After a store, flags being in memory: has the page code? m: as registers are now. */
void put_stored(struct trans *t, unsigned i, const struct access *m, bool stays);
void put_lea(struct trans *t, struct tinsn *ti);

struct jit_site *trans_site(struct trans *t, unsigned i);
void *trans_own(struct trans *t, size_t size);
struct cold *trans_cold_new(struct trans *t, unsigned i, enum cold_kind kind);

/* ---- insn.c, div.c, string.c, branch.c, cold.c
 * --------------------------------------------------- */
void trans_insn(struct trans *t, struct tinsn *ti, unsigned i);
void put_callout(struct trans *t, struct tinsn *ti, unsigned i);
/* What a slow path needs to know once the instruction is written. */
void finish_cold(struct trans *t, struct cold *k, const struct tinsn *ti);
/* The guest's vectors and x87 registers into the host's, unless they are there. */
void put_simd_check(struct trans *t, struct tinsn *ti, unsigned i);
void put_copy(struct trans *t, struct tinsn *ti, unsigned i);
/* In place of a callout, when there is a faster way. */
bool put_string(struct trans *t, struct tinsn *ti, unsigned i);
void put_div(struct trans *t, struct tinsn *ti, unsigned i);
void put_branch(struct trans *t, struct tinsn *ti, unsigned i);
/* Leaves for an offset of the page (may be outside it), `done` instructions of
 * the block done. */
void trans_exit(struct trans *t, unsigned done, int64_t off, uint32_t live);
void trans_cold(struct trans *t);
/* sub r8, n: the fuel. */
void put_fuel(struct asmbuf *a, unsigned n);
/* r10 = the guest IP of an offset of the page. */
void put_ip(struct trans *t, int64_t off);
/* Adds to the guest's stack pointer; keeps flags. */
void put_sp(struct trans *t, int32_t n);

/* ---- flags to and from memory ----------------------------------------------------- */
void put_flags_save(struct trans *t);
void put_flags_load(struct trans *t);
void put_carry_load(struct trans *t); /* CF alone */
/* To memory, as far as they live, before code that clobbers them. */
void spill_flags(struct trans *t, uint32_t live);
/* To where slow paths find them, before instruction i's check. */
void keep_flags(struct trans *t, const struct tinsn *ti, unsigned i);
/* To the host's. */
void need_flags(struct trans *t, uint32_t live);

/* ---- sys.c, bit.c --------------------------------------------------------------------- */
bool trans_sys(const struct emu *c, const struct tinsn *ti);
bool trans_sys_faults(const struct tinsn *ti);
/* Is it the last of an interpreted block, but not of a translation? */
bool trans_goes_on(const struct tinsn *ti);
void put_sys(struct trans *t, struct tinsn *ti, unsigned i);
bool trans_bit(const struct tinsn *ti);
void put_bit(struct trans *t, struct tinsn *ti, unsigned i);

/* ---- x87.c ---------------------------------------------------------------------------- */
bool trans_x87(const struct tinsn *ti);
void put_x87(struct trans *t, struct tinsn *ti, unsigned i);
/* The pointers to emu.fx: before C or another block runs. Uses r10, r11; keeps flags. */
void put_x87_pointers(struct trans *t);
/* Before and after the code of an instruction. */
void x87_before(struct trans *t, const struct tinsn *ti);
void x87_done(struct trans *t, const struct tinsn *ti, unsigned i);
/* At the start of each turn of a loop's second body, and what makes it so. */
struct x87_ptrs x87_at_turn(const struct trans *t);
void put_x87_turn(struct trans *t);

/* ---- remat.c ------------------------------------------------------------------------ */
bool trans_flags(const struct tinsn *ti);
bool trans_writes(const struct tinsn *ti, int guest);
void remat_step(struct trans *t, unsigned i);
/* The instruction without memory operand once more. */
void put_again(struct trans *t, const struct tinsn *ti);

/* ---- loop.c --------------------------------------------------------------------------- */
bool loop_find(struct trans *t);
void put_loop(struct trans *t);
/* Before the second body is left: did a page that it stored to get code? */
void put_loop_stored(struct trans *t);
void put_loop_back(struct trans *t, struct tinsn *ti, unsigned i);
/* Vectors into the host's registers, or the interpreter does instruction i. */
void put_simd(struct trans *t, uint8_t need, unsigned i, uint8_t also);

#endif
