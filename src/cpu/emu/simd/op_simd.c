/* SPDX-License-Identifier: MIT
 * MMX, SSE and AVX: which instructions run as thunks, and the handlers around
 * a thunk. Every rule about the instruction's registers is the host's; here are
 * availability, memory operands and floating-point exceptions. */
#include "simd.h"

void sse_refuse(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise(c, (c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR) ? EXC_UD : EXC_NM);
}

void avx_refuse(struct emu *c, const struct op *op)
{
    bool ud = !vex_mode_ok(c) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6;
    emu_at(c, op);
    emu_raise(c, ud ? EXC_UD : EXC_NM);
}

void mmx_refuse(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise(c, c->cr0 & CR0_EM ? EXC_UD : c->cr0 & CR0_TS ? EXC_NM : EXC_MF);
}

/* ---- thunks without an environment: nearly all integer instructions -------- */

static void h_sse_reg(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    thunk_of(c, op)(c, NULL, NULL);
    NEXT;
}

static void h_sse_load(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    uint64_t lin = op_linear(c, op, op->msize, false);
    thunk_of(c, op)(c, simd_load(c, op, lin, op->msize), NULL);
    NEXT;
}

static void h_sse_load_aligned(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    uint64_t lin = op_linear(c, op, 16, false);
    simd_align(c, op, lin, 16);
    thunk_of(c, op)(c, simd_load(c, op, lin, 16), NULL);
    NEXT;
}

static void h_avx_reg(struct emu *c, const struct op *op)
{
    avx_check(c, op);
    thunk_of(c, op)(c, NULL, NULL);
    NEXT;
}

static void h_avx_load(struct emu *c, const struct op *op)
{
    avx_check(c, op);
    uint64_t lin = op_linear(c, op, op->msize, false);
    thunk_of(c, op)(c, simd_load(c, op, lin, op->msize), NULL);
    NEXT;
}

/* A store with no other effect. */
static void h_store(struct emu *c, const struct op *op)
{
    if (op->src2 & THUNK_AVX)
        avx_check(c, op);
    else
        sse_check(c, op);
    uint64_t lin = op_linear(c, op, op->msize, true);
    thunk_of(c, op)(c, c->membuf, NULL);
    emu_store(c, op, lin, c->membuf, op->msize);
    NEXT;
}

/* ---- with MXCSR, flags or MMX registers -------------------------------------- */

#define MX_PRE 0x07u /* invalid, denormal, divide by zero: found before computing */
#define MX_ALL 0x3fu
#define MX_UM  0x0800u /* underflow masked */
#define MX_FZ  0x8000u

/* Everything masked and no flag set, the guest's rounding. Where the guest has
 * underflow unmasked, a tiny result raises it even when exact (SDM volume 1,
 * 4.9.1.5); flush-to-zero, which works only while it is masked, makes the CPU
 * report exactly those. */
static uint32_t mxcsr_to_run(uint32_t guest)
{
    uint32_t run = (guest & ~MX_ALL) | 0x1f80;
    return guest & MX_UM ? run : run | MX_FZ;
}

/* SDM volume 1, 11.5: when one is found before computing nothing is computed. */
static _Noreturn void raise_xm(struct emu *c, const struct op *op, const struct thunk_env *env)
{
    uint32_t flags = env->after & MX_ALL;
    if (flags & env->unmasked & MX_PRE)
        flags &= MX_PRE;
    c->mxcsr |= flags;
    emu_at(c, op);
    emu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* Error pointers are an x87 instruction's; MMX leaves them alone. */
#define FX_POINTERS     6
#define FX_POINTERS_LEN 18

/* Not inlined: its locals' addresses escape, and the handlers end in tail calls. */
static __attribute__((noinline)) void run_env(struct emu *c, const struct op *op, void *mem)
{
    struct thunk_env env = {0};
    uint8_t pointers[FX_POINTERS_LEN];
    unsigned t = op->src2;
    if (t & THUNK_MXCSR) {
        env.run = mxcsr_to_run(c->mxcsr);
        env.unmasked = ~(c->mxcsr >> 7) & MX_ALL;
    }
    if (t & THUNK_X87) {
        put_le32(c->fx + 24, 0x1f80); /* FXRSTOR loads MXCSR too */
        memcpy(pointers, c->fx + FX_POINTERS, sizeof pointers);
    }
    uint32_t unmasked = thunk_of(c, op)(c, mem, &env);
    if (t & THUNK_MXCSR) {
        if (unmasked)
            raise_xm(c, op, &env);
        c->mxcsr |= env.after & MX_ALL;
    }
    if (t & THUNK_FLAGS)
        flags_set_arith(c, (uint32_t)env.flags);
    if (t & THUNK_X87)
        memcpy(c->fx + FX_POINTERS, pointers, sizeof pointers);
}

/* A store of one of these: it comes before the rest of the state changes, since
 * it may leave for a device and run again. */
static __attribute__((noinline)) void run_env_store(struct emu *c, const struct op *op,
                                                    uint64_t lin)
{
    uint8_t before[160], after[160];
    uint32_t mxcsr = c->mxcsr;
    memcpy(before, c->fx, sizeof before);
    run_env(c, op, c->membuf);
    uint32_t mxcsr_after = c->mxcsr;
    memcpy(after, c->fx, sizeof after);
    memcpy(c->fx, before, sizeof before);
    c->mxcsr = mxcsr;
    emu_store(c, op, lin, c->membuf, op->msize);
    memcpy(c->fx, after, sizeof after);
    c->mxcsr = mxcsr_after;
}

static void h_env(struct emu *c, const struct op *op)
{
    unsigned t = op->src2;
    if (t & THUNK_AVX)
        avx_check(c, op);
    if (t & THUNK_SSE)
        sse_check(c, op);
    if (t & THUNK_X87)
        mmx_check(c, op);
    void *mem = NULL;
    if (t & (THUNK_LOAD | THUNK_STORE)) {
        uint64_t lin = op_linear(c, op, op->msize, t & THUNK_STORE);
        if (t & THUNK_ALIGN)
            simd_align(c, op, lin, 16);
        if (t & THUNK_STORE) {
            emu_probe_store(c, op, lin, op->msize);
            run_env_store(c, op, lin);
            NEXT;
        }
        mem = simd_load(c, op, lin, op->msize);
    }
    run_env(c, op, mem);
    NEXT;
}

/* ---- selection --------------------------------------------------------------- */

bool simd_isa(ZydisISASet isa)
{
    switch (isa) {
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_SSE4A:
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_PCLMULQDQ:
    case ZYDIS_ISA_SET_SHA:
    case ZYDIS_ISA_SET_GFNI:
    case ZYDIS_ISA_SET_AVX:
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVXAES:
    case ZYDIS_ISA_SET_AVX_GFNI:
    case ZYDIS_ISA_SET_AVX_VNNI:
    case ZYDIS_ISA_SET_F16C:
    case ZYDIS_ISA_SET_FMA:
    case ZYDIS_ISA_SET_VAES:
    case ZYDIS_ISA_SET_VPCLMULQDQ: return true;
    default: return false;
    }
}

static bool select_thunk(struct emu *c, struct insn *in, struct op *op)
{
    if (!simd_isa(in->zi.meta.isa_set) || !thunk_make(c, in, op))
        return false;
    unsigned t = op->src2;
    bool mem = t & (THUNK_LOAD | THUNK_STORE);
    if (!(t & (THUNK_AVX | THUNK_SSE | THUNK_X87)) || op->msize > sizeof c->membuf ||
        (mem && !op->msize))
        return false;
    if (t & THUNK_ENV)
        op->fn = h_env;
    else if (t & THUNK_STORE)
        op->fn = t & (THUNK_LOAD | THUNK_ALIGN) ? h_env : h_store;
    else if (t & THUNK_AVX)
        op->fn = t & THUNK_LOAD ? h_avx_load : h_avx_reg;
    else if (t & THUNK_ALIGN)
        op->fn = h_sse_load_aligned;
    else
        op->fn = t & THUNK_LOAD ? h_sse_load : h_sse_reg;
    return true;
}

bool select_simd(struct emu *c, struct insn *in, struct op *op)
{
    if (select_bmi(c, in, op)) /* LZCNT and TZCNT mean something else when not offered */
        return true;
    if (!emu_has_isa(c, in->zi.meta.isa_set))
        return false;
    return select_x87(c, in, op) || select_xsave(c, in, op) || select_gather(c, in, op) ||
           select_simd_move(c, in, op) || select_thunk(c, in, op);
}
