/* SPDX-License-Identifier: MIT
 * A program being generated. */
#ifndef GEN_H
#define GEN_H

#include "lockstep.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
#define BIT(r) (1u << (r))

typedef ZydisEncoderOperand operand;
typedef ZydisEncoderRequest request;

/* An instruction that stores change: the place of its immediate, and of the
 * ModRM byte, whose operation may become another. */
struct site {
    unsigned at, len, imm, imm_size, modrm;
};
#define SITES 48

struct gen {
    struct rng r;
    struct program *p;
    unsigned at;
    uint32_t undef; /* flags that the manual leaves open */
    uint16_t keep;  /* registers that are not to be written */
    uint8_t ptr[3]; /* registers, or one, that point into the plain data pages */
    unsigned depth, slots, tables, calls;
    unsigned functions;
    bool full;
    bool skips;    /* anything that touches memory or vectors may fault now */
    bool straight; /* long runs without jumps that are always taken */
    struct site site[SITES];
    unsigned nsites;
    unsigned pool[16], npools; /* data among the code */
    unsigned fn_slot[8];       /* tables with addresses of functions */
};

extern const uint64_t program_windows[4]; /* one of them is the program's */

static inline bool has(const struct gen *g, uint32_t feature)
{
    return g->p->features & feature;
}
static inline uint64_t code_ip(const struct gen *g, unsigned at)
{
    return g->p->window + W_CODE + at;
}

/* ---- emitting: gen_emit.c ------------------------------------------------------- */

void emit_bytes(struct gen *g, const void *bytes, unsigned n); /* one instruction */
/* The same of 64-bit mode: 32-bit code leaves out its REX prefix. */
void emit_rex_bytes(struct gen *g, const uint8_t *bytes, unsigned n);
#define EMIT(g, ...)                                                                               \
    emit_rex_bytes(g, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
/* Not instructions: lens stays 0. */
void emit_raw(struct gen *g, const void *bytes, unsigned n);
/* Encodes and emits; false: there is no such instruction. may_skip: it may fault
 * and be skipped. */
bool emit(struct gen *g, request *q, bool may_skip);
request req(ZydisMnemonic m);
void add_operand(request *q, operand o);
operand reg_op(unsigned reg, unsigned size);
operand high_op(unsigned reg); /* AH, CH, DH, BH of 0-3 */
operand imm_op(int64_t v);
bool emit2(struct gen *g, ZydisMnemonic m, operand a, operand b);
void emit_mov_imm64(struct gen *g, unsigned reg, uint64_t v);
/* lea reg, [rip + where]: an offset in the window. 32-bit code: mov reg, imm32. */
void emit_lea(struct gen *g, unsigned reg, unsigned where);
/* An instruction with a RIP-relative operand of that size in the window. */
operand rip_op(struct gen *g, unsigned where, unsigned size);
/* Gives those of the flags that are open a defined value. */
void settle(struct gen *g, uint32_t flags);
/* Before a jump, and where jumps arrive. */
void settle_flow(struct gen *g);
/* jmp or jcc (0-15; -1: jmp) with an open end, and closing it here. */
unsigned emit_jump(struct gen *g, int cond, bool near);
void close_jump(struct gen *g, unsigned token);
void emit_jump_back(struct gen *g, int cond, unsigned to);
void emit_call(struct gen *g, unsigned to);

/* ---- operands -------------------------------------------------------------------- */

unsigned any_reg(struct gen *g);  /* to read */
unsigned byte_reg(struct gen *g); /* one whose low byte has a name */
unsigned dst_reg(struct gen *g);  /* one that may be written; never RSP */
bool may_write(const struct gen *g, uint32_t regs);
unsigned int_size(struct gen *g);
int64_t imm_of(struct gen *g, unsigned size);

struct mem {
    operand op;
    ZydisInstructionAttributes prefixes;
    bool may_skip;
};
#define M_WRITE 1u
#define M_ALIGN 2u /* by its size, mostly */
#define M_SAFE  4u /* nothing that faults, no device */
/* May emit instructions that prepare it. */
struct mem mem_of(struct gen *g, unsigned size, unsigned how);

/* ---- pieces --------------------------------------------------------------------------- */

void gen_int(struct gen *g); /* gen_int.c: one integer instruction */
void gen_muldiv(struct gen *g);
void gen_string(struct gen *g);
void gen_flags(struct gen *g);
void gen_simd(struct gen *g); /* gen_simd.c */
void gen_x87(struct gen *g);
void gen_stack(struct gen *g); /* gen_stack.c */
void gen_smc(struct gen *g);   /* gen_sys.c */
void gen_site(struct gen *g);
void gen_system(struct gen *g);
void gen_io(struct gen *g);
void gen_fault(struct gen *g);
void gen_alias_jump(struct gen *g);
void gen_step(struct gen *g);
void gen_mode(struct gen *g); /* gen_mode.c */
void gen_mode_off(struct gen *g);
void gen_narrow(struct gen *g); /* gen_narrow.c */
void gen_narrow_head(struct gen *g);
void narrow_operands(request *q);
struct mem narrow_sum(struct gen *g, unsigned at, unsigned size);
void gen_seq(struct gen *g, unsigned n); /* gen.c */
/* Data in the midst, or a way to the end of the page. */
void gen_gap(struct gen *g, bool to_border);

#endif
