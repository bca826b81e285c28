/* SPDX-License-Identifier: MIT
 * x87 and vector state: initial values, images, and the embedder's view. */
#include "fpu.h"
#include "../../../base/err.h"

void fpu_rotate(struct emu *c, unsigned from, unsigned to)
{
    uint8_t st[8][16];
    memcpy(st, c->fx + FX_ST, sizeof st);
    for (unsigned i = 0; i < 8; i++)
        memcpy(c->fx + FX_ST + 16 * i, st[(i + to - from) & 7], 16);
}

void fpu_init(struct emu *c)
{
    fpu_rotate(c, fpu_top(c), 0);
    memset(c->fx, 0, FX_MXCSR);
    put_le16(c->fx + FX_FCW, 0x037f);
}

void fpu_reset(struct emu *c)
{
    memset(c->fx, 0, sizeof c->fx);
    put_le16(c->fx + FX_FCW, 0x0040);
    c->fx[FX_FTW] = 0xff; /* all zero, not empty */
    memset(c->ymm, 0, sizeof c->ymm);
    c->mxcsr = MXCSR_INIT;
}

void fpu_settle(struct emu *c)
{
    uint16_t fcw = (get_le16(c->fx + FX_FCW) & 0x1f3f) | 0x40;
    uint16_t fsw = get_le16(c->fx + FX_FSW) & 0x7f7f;
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    put_le16(c->fx + FX_FCW, fcw);
    put_le16(c->fx + FX_FSW, fsw);
    put_le16(c->fx + FX_FOP, get_le16(c->fx + FX_FOP) & 0x7ff);
    c->fx[FX_FTW + 1] = 0;
}

static bool any_set(const uint8_t *p, size_t n)
{
    uint8_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= p[i];
    return v != 0;
}

unsigned fpu_in_use(const struct emu *c)
{
    unsigned parts = 0;
    bool regs = false;
    for (unsigned i = 0; i < 8; i++)
        regs |= any_set(c->fx + FX_ST + 16 * i, 10);
    if (get_le16(c->fx + FX_FCW) != 0x037f || any_set(c->fx + 2, FX_MXCSR - 2) || regs)
        parts |= XS_X87;
    for (unsigned i = 0; i < 16; i++) {
        if (any_set(c->ymm[i], 16))
            parts |= XS_SSE;
        if (any_set(c->ymm[i] + 16, 16))
            parts |= XS_YMM;
    }
    if (c->pkru)
        parts |= XS_PKRU;
    return parts;
}

void fpu_init_parts(struct emu *c, unsigned parts, unsigned nregs)
{
    if (parts & XS_X87) {
        fpu_init(c);
        memset(c->fx + FX_ST, 0, 128);
    }
    for (unsigned i = 0; i < nregs; i++) {
        if (parts & XS_SSE)
            memset(c->ymm[i], 0, 16);
        if (parts & XS_YMM)
            memset(c->ymm[i] + 16, 0, 16);
    }
}

/* Bytes 0-23 and 32-159. */
void fpu_put_x87(const struct emu *c, uint8_t *area, bool wide)
{
    memcpy(area, c->fx, FX_MXCSR);
    if (!wide) {
        put_le16(area + FX_FIP + 6, 0);
        put_le16(area + FX_FDP + 6, 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(area + FX_ST + 16 * i, c->fx + FX_ST + 16 * i, 10);
        memset(area + FX_ST + 16 * i + 10, 0, 6);
    }
}

void fpu_get_x87(struct emu *c, const uint8_t *area, bool wide)
{
    memcpy(c->fx, area, FX_MXCSR);
    if (!wide) {
        put_le16(c->fx + FX_FIP + 6, 0);
        put_le16(c->fx + FX_FDP + 6, 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(c->fx + FX_ST + 16 * i, area + FX_ST + 16 * i, 10);
        memset(c->fx + FX_ST + 16 * i + 10, 0, 6);
    }
    fpu_settle(c);
}

void emu_fpu_get(struct emu *c, struct vc_fpu *out)
{
    uint8_t *a = out->xsave;
    memset(a, 0, XS_SIZE);
    out->xcr0 = c->xcr0;
    fpu_put_x87(c, a, true);
    put_le32(a + FX_MXCSR, c->mxcsr);
    put_le32(a + FX_MXCSR_MASK, MXCSR_VALID);
    put_le64(a + XS_BV, XS_FPU);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(a + FX_XMM + 16 * i, c->ymm[i], 16);
        memcpy(a + XS_AVX + 16 * i, c->ymm[i] + 16, 16);
    }
}

int emu_fpu_set(struct emu *c, const struct vc_fpu *in)
{
    const uint8_t *a = in->xsave;
    uint64_t bv = get_le64(a + XS_BV);
    if (get_le64(a + XS_COMP))
        return err_set(VC_EINVAL, "the FPU state is not in the standard XSAVE format");
    if (bv & ~(uint64_t)XS_FPU)
        return err_set(VC_EINVAL, "XSTATE_BV %#llx names state that is not x87, SSE or AVX",
                       (unsigned long long)bv);
    if (get_le32(a + FX_MXCSR) & ~MXCSR_VALID)
        return err_set(VC_EINVAL, "MXCSR %#x has reserved bits set", get_le32(a + FX_MXCSR));
    if (in->xcr0 != c->xcr0 && !emu_set_xcr0(c, in->xcr0))
        return err_set(VC_EINVAL, "XCR0 %#llx is not possible here", (unsigned long long)in->xcr0);
    fpu_init_parts(c, XS_FPU & ~(unsigned)bv, 16);
    if (bv & XS_X87)
        fpu_get_x87(c, a, true);
    c->mxcsr = get_le32(a + FX_MXCSR);
    for (unsigned i = 0; i < 16; i++) {
        if (bv & XS_SSE)
            memcpy(c->ymm[i], a + FX_XMM + 16 * i, 16);
        if (bv & XS_YMM)
            memcpy(c->ymm[i] + 16, a + XS_AVX + 16 * i, 16);
    }
    return 0;
}
