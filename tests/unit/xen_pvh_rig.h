/* SPDX-License-Identifier: MIT
 * The same for a PVH guest, which has a kernel of a few bytes. */
#ifndef XEN_PVH_RIG_H
#define XEN_PVH_RIG_H

#include "xen_rig.h"

#define HOLE 0x20000ull /* frames from here on are nobody's */

static inline struct rig_image pvh_image(void)
{
    struct rig_image im = rig_image();
    im.note[0] = (struct rig_note){4, 8, XEN_ELFNOTE_PHYS32_ENTRY, "Xen", RIG_LOAD};
    return im;
}

static inline int pvh_boot(vc_vm *vm, const struct rig_image *im)
{
    struct vc_boot_opts o = {.size = sizeof o,
                             .virt = VC_VIRT_PVH,
                             .kernel = im,
                             .kernel_len = sizeof *im,
                             .cmdline = "to be read"};
    return vc_boot(vm, &o);
}

/* Paging is off: addresses are the guest's physical ones. */
static inline struct rig rig_code(unsigned cpus, const uint8_t *code, size_t len)
{
    struct rig r = {.vm = rig_vm(cpus), .at = 0x40000};
    struct rig_image im = pvh_image();
    memcpy(im.code, code, len);
    cr_assert_eq(pvh_boot(r.vm, &im), 0, "%s", vc_errmsg());
    r.d = r.vm->pv;
    r.v = &r.d->vcpu[0];
    r.scratch = pv_frame_ptr(r.d, 0x40);
    r.v->work = UINT32_MAX;
    return r;
}

static inline struct rig rig_pvh(unsigned cpus)
{
    static const uint8_t spin[] = {0xeb, 0xfe};
    return rig_code(cpus, spin, sizeof spin);
}

static inline long with(struct rig *r, hypercall_fn *fn, unsigned cmd, void *op, size_t n)
{
    const uint64_t a[6] = {cmd, r->at};
    memcpy(r->scratch, op, n);
    long rc = fn(r->v, a);
    memcpy(op, r->scratch, n);
    return rc;
}

#endif
