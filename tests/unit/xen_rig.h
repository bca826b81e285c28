/* SPDX-License-Identifier: MIT
 * A Xen PV domain of 32 MiB with a kernel of nothing, whose hypercalls a test makes in
 * its place. */
#ifndef XEN_RIG_H
#define XEN_RIG_H

#include "../../src/pv/domain.h"
#include "../../src/vm/vm.h"
#include "xen_image.h"
#include <criterion/criterion.h>

struct rig {
    vc_vm *vm;
    struct pv_domain *d;
    struct pv_vcpu *v;
    uint64_t *scratch; /* a page of the guest's for arguments: */
    uint64_t at;       /* its address */
};

static inline vc_vm *rig_vm(unsigned cpus)
{
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 32u << 20, .cpus = cpus};
    vc_vm *vm = vc_open("pv", NULL);
    cr_assert_eq(vc_pc(vm, &pc), 0, "%s", vc_errmsg());
    for (unsigned i = 0; i < cpus; i++)
        cr_assert_not_null(vc_cpu_new(vm, i ? VC_MODE_WAIT_SIPI : VC_MODE_RESET, 0));
    return vm;
}

static inline struct rig rig_new(unsigned cpus)
{
    struct rig r = {.vm = rig_vm(cpus), .at = rig_va(0x40)};
    struct rig_image im = rig_image();
    cr_assert_eq(rig_boot(r.vm, &im, sizeof im), 0, "%s", vc_errmsg());
    r.d = r.vm->pv;
    r.v = &r.d->vcpu[0];
    r.scratch = pv_frame_ptr(r.d, 0x40);
    r.v->work = UINT32_MAX;
    return r;
}

/* A page's mapping at its own place: 0 or Xen's code. */
static inline long rig_map(struct rig *r, uint64_t pfn, uint64_t entry)
{
    const uint64_t a[6] = {rig_va(pfn), entry, UVMF_INVLPG};
    return hc_update_va_mapping(r->v, a);
}

static inline long rig_protect(struct rig *r, uint64_t pfn)
{
    return rig_map(r, pfn, pfn << 12 | PTE_P);
}

static inline long rig_ext(struct rig *r, unsigned cmd, uint64_t mfn)
{
    const struct mmuext_op op = {.cmd = cmd, .arg1.mfn = mfn};
    const uint64_t a[6] = {r->at, 1, 0, DOMID_SELF};
    memcpy(r->scratch, &op, sizeof op);
    return hc_mmuext_op(r->v, a);
}

/* A hypercall of grants with one structure. */
static inline long rig_grant_op(struct rig *r, unsigned cmd, void *arg, size_t n)
{
    const uint64_t a[6] = {cmd, r->at, 1};
    memcpy(r->scratch, arg, n);
    long rc = hc_grant_table_op(r->v, a);
    memcpy(arg, r->scratch, n);
    return rc;
}

static inline long rig_update(struct rig *r, uint64_t ptr, uint64_t val)
{
    const struct mmu_update u = {ptr, val};
    const uint64_t a[6] = {r->at, 1, 0, DOMID_SELF};
    memcpy(r->scratch, &u, sizeof u);
    return hc_mmu_update(r->v, a);
}

#endif
