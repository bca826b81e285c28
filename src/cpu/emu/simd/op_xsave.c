/* SPDX-License-Identifier: MIT
 * Saving and restoring: FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR, STMXCSR,
 * VZEROALL, VZEROUPPER (SDM volume 1, 10.5 and 13.6-13.12). */
#include "fpu.h"
#include "simd.h"

#define WIDE    OP_USER1 /* REX.W: 64-bit FIP and FDP */
#define USE_VEX OP_USER2

static unsigned vector_regs(const struct emu *c)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 16 : 8;
}

static uint64_t area_linear(struct emu *c, const struct op *op, unsigned size, unsigned align,
                            bool write)
{
    uint64_t lin = op_linear(c, op, size, write);
    if (lin & (align - 1))
        emu_gp0(c, op);
    return lin;
}

/* ---- FXSAVE, FXRSTOR ------------------------------------------------------------ */

/* EFER.FFXSR: the kernel's FXSAVE in 64-bit mode leaves the XMM registers out
 * (AMD APM volume 2, 3.1.7). */
static bool fast_fx(const struct emu *c)
{
    return (c->efer & EFER_FFXSR) && c->cpl == 0 && vector_regs(c) == 16;
}

static void fx_check(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if (c->cr0 & (CR0_EM | CR0_TS))
        emu_raise(c, EXC_NM);
}

static __attribute__((noinline)) void fxsave(struct emu *c, const struct op *op)
{
    uint8_t area[FX_SIZE];
    uint64_t lin = area_linear(c, op, FX_SIZE, 16, true);
    unsigned n = fast_fx(c) ? 0 : vector_regs(c);
    emu_probe_store(c, op, lin, FX_SIZE);
    fpu_put_x87(c, area, op->flags & WIDE);
    put_le32(area + FX_MXCSR, c->mxcsr);
    put_le32(area + FX_MXCSR_MASK, MXCSR_VALID);
    for (unsigned i = 0; i < n; i++)
        memcpy(area + FX_XMM + 16 * i, c->ymm[i], 16);
    emu_store(c, op, lin, area, FX_XMM + 16 * n);
}

static __attribute__((noinline)) void fxrstor(struct emu *c, const struct op *op)
{
    uint8_t area[FX_SIZE];
    uint64_t lin = area_linear(c, op, FX_SIZE, 16, false);
    unsigned n = fast_fx(c) ? 0 : vector_regs(c);
    emu_load(c, op, lin, area, FX_SIZE);
    if (get_le32(area + FX_MXCSR) & ~MXCSR_VALID)
        emu_gp0(c, op);
    fpu_get_x87(c, area, op->flags & WIDE);
    c->mxcsr = get_le32(area + FX_MXCSR);
    for (unsigned i = 0; i < n; i++)
        memcpy(c->ymm[i], area + FX_XMM + 16 * i, 16);
}

static void h_fxsave(struct emu *c, const struct op *op)
{
    fx_check(c, op);
    fxsave(c, op);
    NEXT;
}

static void h_fxrstor(struct emu *c, const struct op *op)
{
    fx_check(c, op);
    fxrstor(c, op);
    NEXT;
}

/* ---- XSAVE, XSAVEOPT, XSAVEC, XSAVES --------------------------------------------- */

static void xsave_check(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if (!(c->cr4 & CR4_OSXSAVE))
        emu_raise(c, EXC_UD);
    if (c->cr0 & CR0_TS)
        emu_raise(c, EXC_NM);
    bool supervisor =
        op->mnemonic == ZYDIS_MNEMONIC_XSAVES || op->mnemonic == ZYDIS_MNEMONIC_XSAVES64 ||
        op->mnemonic == ZYDIS_MNEMONIC_XRSTORS || op->mnemonic == ZYDIS_MNEMONIC_XRSTORS64;
    if (supervisor && c->cpl)
        emu_gp0(c, op);
}

/* The requested components: EDX:EAX and XCR0 (IA32_XSS is 0). */
static unsigned requested(const struct emu *c)
{
    return (unsigned)(c->gpr[R_RAX] & c->xcr0 & XS_ALL);
}

static __attribute__((noinline)) void put_ymm(struct emu *c, const struct op *op, uint64_t lin,
                                              unsigned n)
{
    uint8_t upper[256];
    for (unsigned i = 0; i < n; i++)
        memcpy(upper + 16 * i, c->ymm[i] + 16, 16);
    emu_store(c, op, lin + XS_AVX, upper, 16 * n);
}

/* compact: XSAVEC and XSAVES; opt: components in their initial configuration
 * are only noted as such. */
static __attribute__((noinline)) void xsave(struct emu *c, const struct op *op, bool compact,
                                            bool opt)
{
    uint8_t area[FX_XMM + 256];
    unsigned rfbm = requested(c), n = vector_regs(c);
    unsigned used = fpu_in_use(c) & rfbm;
    if ((rfbm & XS_SSE) && c->mxcsr != MXCSR_INIT)
        used |= XS_SSE;
    unsigned saved = opt ? used : rfbm;
    unsigned size = xs_size(rfbm, compact);
    uint64_t lin = area_linear(c, op, size, 64, true);
    uint64_t header[2] = {used, rfbm | XS_COMPACT};
    emu_probe_store(c, op, lin, size);
    if (!compact) {
        uint64_t old;
        emu_load(c, op, lin + XS_BV, &old, 8);
        header[0] |= old & ~(uint64_t)rfbm;
    }

    if (saved & XS_X87) {
        fpu_put_x87(c, area, op->flags & WIDE);
        emu_store(c, op, lin, area, FX_MXCSR);
        emu_store(c, op, lin + FX_ST, area + FX_ST, 128);
    }
    /* In the standard format MXCSR goes with SSE and with AVX, always. */
    if (compact ? saved & XS_SSE : rfbm & (XS_SSE | XS_YMM)) {
        uint32_t mx[2] = {c->mxcsr, MXCSR_VALID};
        emu_store(c, op, lin + FX_MXCSR, mx, 8);
    }
    if (saved & XS_SSE) {
        for (unsigned i = 0; i < n; i++)
            memcpy(area + 16 * i, c->ymm[i], 16);
        emu_store(c, op, lin + FX_XMM, area, 16 * n);
    }
    if (saved & XS_YMM)
        put_ymm(c, op, lin, n);
    if (saved & XS_PKRU) {
        uint64_t pkru = c->pkru;
        emu_store(c, op, lin + xs_pkru(compact, rfbm), &pkru, XS_PKRU_LEN);
    }
    emu_store(c, op, lin + XS_BV, header, compact ? 16 : 8);
}

static void h_xsave(struct emu *c, const struct op *op)
{
    xsave_check(c, op);
    xsave(c, op, false, false);
    NEXT;
}

static void h_xsaveopt(struct emu *c, const struct op *op)
{
    xsave_check(c, op);
    xsave(c, op, false, true);
    NEXT;
}

static void h_xsavec(struct emu *c, const struct op *op)
{
    xsave_check(c, op);
    xsave(c, op, true, true);
    NEXT;
}

/* ---- XRSTOR ----------------------------------------------------------------------- */

/* SDM volume 1, 13.8: which headers raise #GP. */
static bool header_ok(struct emu *c, const uint8_t *area, bool only_compact)
{
    uint64_t bv = get_le64(area + XS_BV), comp = get_le64(area + XS_COMP);
    bool rest_zero = true;
    for (unsigned i = XS_COMP + 8; i < XS_AVX; i++)
        rest_zero &= area[i] == 0;
    if (comp & XS_COMPACT)
        return emu_has_isa(c, ZYDIS_ISA_SET_XSAVEC) && rest_zero &&
               !(comp & ~XS_COMPACT & ~c->xcr0) && !(bv & ~comp);
    return !only_compact && !comp && get_le64(area + XS_COMP + 8) == 0 && !(bv & ~c->xcr0);
}

static __attribute__((noinline)) void xrstor(struct emu *c, const struct op *op, bool only_compact)
{
    uint8_t area[XS_SIZE];
    unsigned rfbm = requested(c), n = vector_regs(c);
    uint64_t lin = area_linear(c, op, XS_AVX, 64, false);
    emu_load(c, op, lin, area, XS_AVX);
    if (!header_ok(c, area, only_compact))
        emu_gp0(c, op);
    bool compact = get_le64(area + XS_COMP) & XS_COMPACT;
    unsigned bv = (unsigned)get_le64(area + XS_BV);
    /* What a compacted area does not hold is initialized as well. */
    unsigned load = rfbm & bv, init = rfbm & ~bv;
    if (load & XS_YMM) {
        op_linear(c, op, XS_SIZE, false);
        emu_load(c, op, lin + XS_AVX, area + XS_AVX, 16 * n);
    }
    uint64_t pkru = 0;
    if (load & XS_PKRU) {
        unsigned at = xs_pkru(compact, get_le64(area + XS_COMP));
        op_linear(c, op, at + XS_PKRU_LEN, false);
        emu_load(c, op, lin + at, &pkru, XS_PKRU_LEN);
    }
    bool mxcsr = compact ? load & XS_SSE : rfbm & (XS_SSE | XS_YMM);
    if (mxcsr && (get_le32(area + FX_MXCSR) & ~MXCSR_VALID))
        emu_gp0(c, op);

    if (mxcsr)
        c->mxcsr = get_le32(area + FX_MXCSR);
    else if (init & XS_SSE)
        c->mxcsr = MXCSR_INIT;
    if (load & XS_X87)
        fpu_get_x87(c, area, op->flags & WIDE);
    fpu_init_parts(c, init, n);
    for (unsigned i = 0; i < n; i++) {
        if (load & XS_SSE)
            memcpy(c->ymm[i], area + FX_XMM + 16 * i, 16);
        if (load & XS_YMM)
            memcpy(c->ymm[i] + 16, area + XS_AVX + 16 * i, 16);
    }
    if (rfbm & XS_PKRU)
        emu_set_pkru(c, (uint32_t)pkru);
}

static void h_xrstor(struct emu *c, const struct op *op)
{
    xsave_check(c, op);
    xrstor(c, op, false);
    NEXT;
}

static void h_xrstors(struct emu *c, const struct op *op)
{
    xsave_check(c, op);
    xrstor(c, op, true);
    NEXT;
}

/* ---- MXCSR, and clearing vector registers ------------------------------------------ */

static void vector_check(struct emu *c, const struct op *op)
{
    if (op->flags & USE_VEX)
        avx_check(c, op);
    else
        sse_check(c, op);
}

static void h_ldmxcsr(struct emu *c, const struct op *op)
{
    vector_check(c, op);
    uint32_t v = ld32(c, op, op_linear(c, op, 4, false));
    if (v & ~MXCSR_VALID)
        emu_gp0(c, op);
    c->mxcsr = v;
    NEXT;
}

static void h_stmxcsr(struct emu *c, const struct op *op)
{
    vector_check(c, op);
    st32(c, op, op_linear(c, op, 4, true), c->mxcsr);
    NEXT;
}

static void h_vzeroupper(struct emu *c, const struct op *op)
{
    avx_check(c, op);
    fpu_init_parts(c, XS_YMM, vector_regs(c));
    NEXT;
}

static void h_vzeroall(struct emu *c, const struct op *op)
{
    avx_check(c, op);
    fpu_init_parts(c, XS_SSE | XS_YMM, vector_regs(c));
    NEXT;
}

static op_fn *handler_of(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: return h_fxsave;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64: return h_fxrstor;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64: return h_xsave;
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: return h_xsaveopt;
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVES:
    case ZYDIS_MNEMONIC_XSAVES64: return h_xsavec;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: return h_xrstor;
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64: return h_xrstors;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR: return h_ldmxcsr;
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR: return h_stmxcsr;
    case ZYDIS_MNEMONIC_VZEROUPPER: return h_vzeroupper;
    case ZYDIS_MNEMONIC_VZEROALL: return h_vzeroall;
    default: return NULL;
    }
}

bool select_xsave(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    op_fn *fn = handler_of(in->zi.mnemonic);
    if (!fn)
        return false;
    op->fn = fn;
    if (in->zi.attributes & ZYDIS_ATTRIB_HAS_REX && in->zi.raw.rex.W)
        op->flags |= WIDE;
    if (is_vex(in))
        op->flags |= USE_VEX;
    return true;
}
