/* SPDX-License-Identifier: MIT
 * x87, SSE and AVX state, XCR0 and PKRU. KVM gives an XSAVE area in the standard
 * format; the embedder's is its beginning. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>

enum { X_MXCSR = 24, X_MXCSR_MASK = 28, X_BV = 512, X_COMP = 520, X_RESERVED = 528 };
#define PARTS       (XCR0_X87 | XCR0_SSE | XCR0_YMM)
#define MXCSR_VALID 0xffffu
#define MXCSR_INIT  0x1f80u
#define FCW_INIT    0x37fu

static int area_get(struct kvm_cpu *c, struct kvm_xsave *x)
{
    return ioctl(c->fd, KVM_GET_XSAVE, x) ? kvm_error(errno, "reading vector registers") : 0;
}

static int area_set(struct kvm_cpu *c, const struct kvm_xsave *x)
{
    return ioctl(c->fd, KVM_SET_XSAVE, x) ? kvm_error(errno, "setting vector registers") : 0;
}

int kvm_xcr0(struct kvm_cpu *c, bool set, uint64_t *value)
{
    struct kvm_xcrs x = {.nr_xcrs = 1};
    if (!set) {
        if (ioctl(c->fd, KVM_GET_XCRS, &x))
            return kvm_error(errno, "reading XCR0");
        *value = x.nr_xcrs ? x.xcrs[0].value : 1;
        return 0;
    }
    if (!(*value & XCR0_X87) || *value & ~c->vm->model.xcr0 ||
        (*value & XCR0_YMM && !(*value & XCR0_SSE)))
        return VC_EINVAL;
    int rc = kvm_finish(c);
    if (rc)
        return rc;
    x.xcrs[0].value = *value;
    return ioctl(c->fd, KVM_SET_XCRS, &x) ? VC_EINVAL : 0;
}

int kvm_pkru(struct kvm_cpu *c, bool set, uint32_t *value)
{
    struct kvm_xsave x;
    unsigned off = kvm_pkru_off(c->vm);
    uint8_t *area = (uint8_t *)&x;
    int rc = set ? kvm_finish(c) : 0;
    if (!rc)
        rc = area_get(c, &x);
    if (rc || !off) {
        *value = set ? *value : 0;
        return rc;
    }
    if (!set) {
        /* A component in its initial state is not written. */
        *value = get_le64(area + X_BV) & XCR0_PKRU ? get_le32(area + off) : 0;
        return 0;
    }
    put_le64(area + X_BV, get_le64(area + X_BV) | XCR0_PKRU);
    put_le64(area + off, *value);
    return area_set(c, &x);
}

int kvm_fpu(struct backend_cpu *bc, bool set, struct vc_fpu *r)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (c->in_emu)
        return backend_emu.fpu(c->emu, set, r);
    struct kvm_xsave x;
    uint8_t *area = (uint8_t *)&x;
    uint64_t xcr0;
    int rc = set ? kvm_finish(c) : 0;
    if (!rc)
        rc = area_get(c, &x);
    if (!rc)
        rc = kvm_xcr0(c, false, &xcr0);
    if (rc)
        return rc;
    if (!set) {
        uint64_t bv = get_le64(area + X_BV);
        /* Parts in their initial state are shown as such: all of them are there. */
        if (!(bv & XCR0_X87)) {
            memset(area, 0, X_MXCSR);
            memset(area + 32, 0, 128);
            put_le16(area, FCW_INIT);
        }
        if (!(bv & XCR0_SSE))
            memset(area + 160, 0, 256);
        if (!(bv & XCR0_YMM))
            memset(area + 576, 0, 256);
        if (!(bv & (XCR0_SSE | XCR0_YMM)))
            put_le32(area + X_MXCSR, MXCSR_INIT);
        put_le32(area + X_MXCSR_MASK, MXCSR_VALID);
        memset(area + 416, 0, X_BV - 416);
        memset(area + X_BV, 0, 64);
        put_le64(area + X_BV, PARTS);
        memcpy(r->xsave, area, sizeof r->xsave);
        r->xcr0 = xcr0;
        return 0;
    }
    uint64_t bv = get_le64(r->xsave + X_BV);
    if (get_le64(r->xsave + X_COMP))
        return err_set(VC_EINVAL, "the FPU state is not in the standard XSAVE format");
    if (bv & ~(uint64_t)PARTS)
        return err_set(VC_EINVAL, "XSTATE_BV %#llx names state that is not x87, SSE or AVX",
                       (unsigned long long)bv);
    if (get_le32(r->xsave + X_MXCSR) & ~MXCSR_VALID)
        return err_set(VC_EINVAL, "MXCSR %#x has reserved bits set", get_le32(r->xsave + X_MXCSR));
    if (r->xcr0 != xcr0 && kvm_xcr0(c, true, &r->xcr0))
        return err_set(VC_EINVAL, "XCR0 %#llx is not possible here", (unsigned long long)r->xcr0);
    uint64_t others = get_le64(area + X_BV) & ~(uint64_t)PARTS;
    memcpy(area, r->xsave, sizeof r->xsave);
    bv &= c->vm->model.xcr0; /* no YMM: their zeroes go nowhere */
    put_le64(area + X_BV, bv | others);
    return area_set(c, &x);
}

/* RESET: SDM 10.1.1, table 10-1. */
int kvm_fpu_reset(struct kvm_cpu *c)
{
    struct kvm_xsave x = {.region = {0}};
    uint8_t *area = (uint8_t *)&x;
    uint64_t xcr0 = XCR0_X87;
    put_le16(area, 0x40); /* FCW */
    put_le16(area + 4, 0xff);
    put_le32(area + X_MXCSR, MXCSR_INIT);
    put_le64(area + X_BV, XCR0_X87 | XCR0_SSE);
    int rc = area_set(c, &x);
    return rc ? rc : kvm_xcr0(c, true, &xcr0);
}
