/* SPDX-License-Identifier: MIT
 * Thunks: few bytes of host code that run one guest instruction natively. They
 * load the registers it uses from struct emu, run it, and put back what it
 * wrote, so that the host CPU itself is the instruction's semantics.
 *
 * The instruction is rewritten first: general registers become fixed host
 * registers, a memory operand becomes [rsi], prefixes that no longer matter go.
 * A rewritten instruction has at most eight bytes and is kept in op->imm, which
 * is all that is needed to make its thunk again. */
#ifndef EMU_THUNK_H
#define EMU_THUNK_H

#include "../emu.h"

struct thunk_cache;

/* What a thunk needs besides registers: op->src2 says what is used. */
struct thunk_env {
    uint64_t flags;    /* EFLAGS: in for what reads them, out for what writes them */
    uint32_t run;      /* MXCSR to run with: everything masked, no flag set */
    uint32_t unmasked; /* exception flags that stop the instruction */
    uint32_t after;    /* MXCSR after it */
    uint32_t host_mxcsr;
    uint16_t host_fcw;
};

/* mem: where the memory operand is, or goes. Not 0: an unmasked exception (SSE
 * floating point), nothing was written. Only THUNK_MXCSR ones return a value. */
typedef uint32_t thunk_fn(struct emu *c, void *mem, struct thunk_env *env);

#define THUNK_AVX   0x01u /* VEX-encoded */
#define THUNK_SSE   0x02u /* legacy, uses XMM registers */
#define THUNK_X87   0x04u /* x87 or MMX registers, through the FXSAVE image */
#define THUNK_MXCSR 0x08u /* floating-point arithmetic: reads MXCSR, may raise #XM */
#define THUNK_FLAGS 0x10u /* reads or writes EFLAGS */
#define THUNK_LOAD  0x20u /* reads memory */
#define THUNK_STORE 0x40u /* writes memory */
#define THUNK_ALIGN 0x80u /* the 16-byte memory operand must be aligned */
#define THUNK_ENV   (THUNK_X87 | THUNK_MXCSR | THUNK_FLAGS)

#define THUNK_INSN_MAX 8u
#define THUNK_CODE_MAX 256u

/* Code memory of a partition. NULL with an error set: the host refuses memory
 * that is executable, or has none. */
struct thunk_cache *thunk_cache_new(void);
void thunk_cache_free(struct thunk_cache *tc);
/* Caps the code memory in bytes; for tests of the full cache. */
void thunk_cache_limit(struct thunk_cache *tc, size_t bytes);
size_t thunk_cache_used(const struct thunk_cache *tc);

/* Turns a decoded instruction into op: rewritten bytes in imm, guest registers
 * in dst (ModRM.reg) and src (ModRM.rm), traits in src2, the thunk in aux (NULL
 * when the code memory is full). false: it cannot run as a thunk. */
/* Legacy SSE with a 16-byte operand that need not be aligned. */
bool simd_unaligned_ok(ZydisMnemonic m);
/* An instruction set of vectors. */
bool simd_isa(ZydisISASet isa);
bool thunk_make(struct emu *c, const struct insn *in, struct op *op);
/* The thunk of an op that has none, made for this execution. */
thunk_fn *thunk_scratch(struct emu *c, const struct op *op);

static inline thunk_fn *thunk_of(struct emu *c, const struct op *op)
{
    return likely(op->aux != NULL) ? (thunk_fn *)(uintptr_t)op->aux : thunk_scratch(c, op);
}

/* thunk_rewrite.c. false: not an instruction that works on registers and one
 * memory operand. */
bool thunk_rewrite(const struct insn *in, struct op *op);
/* thunk_gen.c. Decodes the rewritten instruction and emits its thunk; its length, or 0. The
 * traits go to *traits, the mnemonic to *mnemonic. */
unsigned thunk_emit(const struct op *op, uint8_t out[THUNK_CODE_MAX], uint8_t *traits,
                    ZydisMnemonic *mnemonic);

#endif
