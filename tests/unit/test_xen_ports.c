/* SPDX-License-Identifier: MIT
 * Which ports a PV guest's kernel and its user mode may use, and CLI: by the I/O privilege
 * level, as a hypercall sets it or as flags say it, and by the kernel's bitmap. */
#include "xen_rig.h"
#include <xen/physdev.h>

#define CODE    0x300u
#define STACK   0x301u
#define BITMAP  0x302u /* and the pages after it */
#define HANDLER 0x30cu
#define VEC_GP  13

enum { RAX, RDX = 2, RSP = 4 };

static const struct pv_event gp = {.kind = PV_EV_FAULT, .vector = VEC_GP, .has_err = true};

static struct rig rig_ports(void)
{
    struct rig r = rig_new(1);
    r.v->trap[VEC_GP].address = rig_va(HANDLER);
    r.v->kernel_sp = rig_va(STACK) + 2048;
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, r.v->kernel_mfn), 0);
    return r;
}

/* The kernel goes on at the code, or goes there in user mode. */
static void go(struct rig *r, bool user, uint64_t flags)
{
    uint64_t *g = r->d->eng->gprs(r->v->bc);
    const struct iret_context f = {.rip = rig_va(CODE),
                                   .cs = user ? FLAT_USER_CS64 : FLAT_KERNEL_CS64 & ~3u,
                                   .rflags = flags | 0x200,
                                   .rsp = rig_va(STACK) + 1024,
                                   .ss = FLAT_USER_SS64};
    cr_assert(r->v->kernel);
    memcpy(r->scratch, &f, sizeof f);
    g[RSP] = r->at;
    cr_assert_eq(hc_iret(r->v, (const uint64_t[6]){0}), 0);
    cr_assert_eq(r->v->kernel, !user);
}

/* The instruction, which faults as all of them do: is it done on the guest's behalf? Then the
 * kernel is back. The flags that it finds with a fault: */
static uint64_t frame_flags;
static bool done(struct rig *r, bool user, const char *code, size_t len)
{
    const uint64_t *stack = (const uint64_t *)pv_frame_ptr(r->d, STACK);
    const struct pv_event other = {
        .kind = PV_EV_FAULT, .vector = VEC_GP, .has_err = true, .err = 8};
    memcpy(pv_frame_ptr(r->d, CODE), code, len);
    go(r, user, (uint64_t)r->v->iopl << 12);
    r->d->eng->gprs(r->v->bc)[RDX] = 0x61;
    pv_hook_event(r->d, 0, &gp);
    uint64_t rip = r->d->eng->rip(r->v->bc);
    bool ok = rip == rig_va(CODE) + len;
    cr_assert(ok || rip == rig_va(HANDLER));
    cr_assert_eq(r->v->kernel, !(ok && user));
    if (ok)
        pv_hook_event(r->d, 0, &other);
    cr_assert_eq(r->d->eng->rip(r->v->bc), rig_va(HANDLER));
    /* RCX, R11, the error code, RIP, CS, RFLAGS */
    frame_flags = stack[(r->d->eng->gprs(r->v->bc)[RSP] & (PAGE - 1)) / 8 + 5];
    return ok;
}
#define DONE(r, user, code) done(r, user, code, sizeof code - 1)

#define CLI   "\xfa"
#define STI   "\xfb"
#define OUTB  "\xe6\x80"
#define IN61  "\xe4\x61"
#define IN61W "\x66\xe5\x61"
#define IN67W "\x66\xe5\x67"
#define INDX  "\xec"
#define CLTS  "\x0f\x06"

static void all(struct rig *r, bool user, bool allowed)
{
    cr_assert_eq(DONE(r, user, CLI), allowed);
    cr_assert_eq(DONE(r, user, STI), allowed);
    cr_assert_eq(DONE(r, user, OUTB), allowed);
    cr_assert_eq(DONE(r, user, IN61), allowed);
    cr_assert_eq(DONE(r, user, INDX), allowed);
    cr_assert_eq(DONE(r, user, CLTS), !user); /* of no such level */
}

static long physdev(struct rig *r, unsigned cmd, const void *arg, size_t n)
{
    memcpy(r->scratch, arg, n);
    return hc_physdev_op(r->v, (const uint64_t[6]){cmd, r->at});
}

static long set_iopl(struct rig *r, uint32_t iopl)
{
    const struct physdev_set_iopl s = {iopl};
    return physdev(r, PHYSDEVOP_set_iopl, &s, sizeof s);
}

Test(xen_ports, a_level_by_hypercall)
{
    struct rig r = rig_ports();
    all(&r, false, false); /* it begins with none */
    all(&r, true, false);
    for (uint32_t level = 0; level < 4; level++) {
        cr_assert_eq(set_iopl(&r, level), 0);
        all(&r, false, level >= 1);
        all(&r, true, level == 3);
        cr_assert_eq(frame_flags & 0x3000, 0);
    }
    cr_assert_eq(set_iopl(&r, 4), -XEN_EINVAL);
    cr_assert_eq(hc_physdev_op(r.v, (const uint64_t[6]){PHYSDEVOP_set_iopl, 0}), -XEN_EFAULT);
    go(&r, true, 0); /* flags say nothing of it */
    cr_assert_eq(r.v->iopl, 3);
    vc_close(r.vm);
}

Test(xen_ports, a_level_in_flags)
{
    struct rig r = rig_ports();
    const uint64_t on[6] = {VMASST_CMD_enable, VMASST_TYPE_architectural_iopl},
                   off[6] = {VMASST_CMD_disable, VMASST_TYPE_architectural_iopl};
    cr_assert_eq(hc_vm_assist(r.v, on), 0);
    for (uint32_t level = 0; level < 4; level++) {
        go(&r, false, (uint64_t)level << 12);
        cr_assert_eq(r.v->iopl, level);
        all(&r, false, true);
        all(&r, true, level == 3);
        cr_assert_eq(frame_flags & 0x3000, (uint64_t)level << 12);
    }
    cr_assert_eq(hc_vm_assist(r.v, off), 0);
    cr_assert_eq(set_iopl(&r, 0), 0);
    all(&r, false, false);
    vc_close(r.vm);
}

static long set_bitmap(struct rig *r, uint64_t at, uint32_t ports)
{
    struct physdev_set_iobitmap s = {.nr_ports = ports};
    s.bitmap.p = (uint8_t *)(uintptr_t)at;
    return physdev(r, PHYSDEVOP_set_iobitmap, &s, sizeof s);
}

Test(xen_ports, a_bitmap)
{
    struct rig r = rig_ports();
    uint8_t *bits = pv_frame_ptr(r.d, BITMAP);
    memset(bits, 0xff, PAGE);
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP), 65536), 0);
    cr_assert_not(DONE(&r, true, IN61));
    bits[0x61 / 8] &= (uint8_t) ~(1 << 0x61 % 8);
    cr_assert(DONE(&r, true, IN61));
    cr_assert(DONE(&r, true, INDX));
    cr_assert(DONE(&r, false, IN61));
    cr_assert_not(DONE(&r, true, IN61W)); /* two ports */
    cr_assert_not(DONE(&r, true, OUTB));
    cr_assert_not(DONE(&r, true, CLI)); /* that is no port */
    bits[0x62 / 8] &= (uint8_t) ~(1 << 0x62 % 8);
    cr_assert(DONE(&r, true, IN61W));
    bits[0x67 / 8] &= (uint8_t) ~(1 << 0x67 % 8);
    cr_assert_not(DONE(&r, true, IN67W)); /* their bits are in two bytes */
    bits[0x68 / 8] &= (uint8_t) ~(1 << 0x68 % 8);
    cr_assert(DONE(&r, true, IN67W));
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP), 0x62), 0);
    cr_assert(DONE(&r, true, IN61));
    cr_assert_not(DONE(&r, true, IN61W));
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP), 0x61), 0);
    cr_assert_not(DONE(&r, true, IN61));
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP), 0), 0);
    cr_assert_not(DONE(&r, true, IN61));
    /* The byte after it is looked at, too. */
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP + 1) - 0x61 / 8 - 1, 65536), 0);
    bits[PAGE - 1] = 0;
    cr_assert(DONE(&r, true, IN61));
    cr_assert_eq(rig_map(&r, BITMAP + 1, 0), 0);
    cr_assert_not(DONE(&r, true, IN61));
    cr_assert_eq(set_bitmap(&r, rig_va(BITMAP), 65537), -XEN_EINVAL);
    cr_assert_eq(set_bitmap(&r, HV_OWN_BASE, 1), -XEN_EINVAL);
    cr_assert_eq(set_bitmap(&r, (1ull << 47) - 8000, 1), -XEN_EINVAL);
    vc_close(r.vm);
}

/* A vCPU's first flags have the level that it begins with. */
Test(xen_ports, another_vcpu)
{
    struct rig r = rig_new(2);
    struct vcpu_guest_context *c = pv_frame_ptr(r.d, CODE);
    memset(c, 0, sizeof *c);
    c->flags = VGCF_in_kernel;
    c->ctrlreg[3] = xen_pfn_to_cr3(r.v->kernel_mfn);
    c->user_regs.rflags = 1 << 12;
    const uint64_t a[6] = {VCPUOP_initialise, 1, rig_va(CODE)};
    cr_assert_eq(hc_vcpu_op(r.v, a), 0);
    cr_assert_eq(r.d->vcpu[1].iopl, 1);
    vc_close(r.vm);
}
