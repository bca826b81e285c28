/* SPDX-License-Identifier: MIT
 * Descriptor tables and segment bases. Each vCPU has a range of linear addresses in
 * the hypervisor's part of every page table, where the frames of its GDT and LDT are
 * mapped for the engine's own reads. */
#include "domain.h"

static uint64_t gdt_base(const struct pv_vcpu *v)
{
    return HV_OWN_BASE + v->id * HV_CPU_PAGES * PAGE;
}

static uint64_t *slot(const struct pv_vcpu *v, unsigned page)
{
    return &v->d->own_l1[v->id * HV_CPU_PAGES + page];
}

void pv_descriptors_load(struct pv_vcpu *v)
{
    const struct pv_engine *e = v->d->eng;
    /* The hypervisor's own descriptors are behind the guest's. */
    e->set_gdt(v->bc, gdt_base(v), 15 * PAGE - 1);
    e->set_ldt(v->bc, gdt_base(v) + 16 * PAGE, v->ldt_ents ? v->ldt_ents * 8 - 1 : 0);
}

static void map_table(struct pv_vcpu *v, unsigned first, const uint64_t *mfn, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        *slot(v, first + i) = mfn[i] << 12 | PTE_P | PTE_W | PTE_A | PTE_D | PTE_NX;
}

static void drop(struct pv_vcpu *v, unsigned first, const uint64_t *mfn, unsigned *n)
{
    for (unsigned i = 0; i < *n; i++) {
        *slot(v, first + i) = 0;
        pv_frame_put_type(v->d, mfn[i]);
    }
    *n = 0;
}

/* On the vCPU itself, or before it runs. */
static void changed(struct pv_vcpu *v)
{
    if (v->bc && atomic_load(&v->up)) {
        pv_flush(v);
        pv_descriptors_load(v);
    }
}

static int take_frames(struct pv_domain *d, const uint64_t *mfn, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int rc = pv_frame_get_type(d, mfn[i], TYPE_SEGDESC);
        if (rc) {
            while (i)
                pv_frame_put_type(d, mfn[--i]);
            return rc;
        }
    }
    return 0;
}

int pv_gdt_set(struct pv_vcpu *v, const uint64_t *frames, unsigned ents)
{
    unsigned n = (ents + 511) / 512;
    if (ents > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    int rc = take_frames(v->d, frames, n);
    if (rc)
        return rc;
    drop(v, 0, v->gdt_mfn, &v->gdt_frames);
    memcpy(v->gdt_mfn, frames, n * sizeof *frames);
    v->gdt_frames = n;
    v->gdt_ents = ents;
    map_table(v, 0, v->gdt_mfn, n);
    changed(v);
    return 0;
}

/* The guest's frames behind an address, at once: Xen looks when they are used. */
int pv_ldt_set(struct pv_vcpu *v, uint64_t va, unsigned ents)
{
    uint64_t mfn[16], l1;
    unsigned n = (ents + 511) / 512;
    if (ents > 8192 || va & (PAGE - 1) || (ents && !pv_va_allowed(va)))
        return -XEN_EINVAL;
    for (unsigned i = 0; i < n; i++) {
        const uint64_t *at = pv_entry_find(v, va + i * PAGE, &l1);
        if (!at || !(*at & PTE_P))
            return -XEN_EINVAL;
        mfn[i] = PTE_MFN(*at);
    }
    int rc = take_frames(v->d, mfn, n);
    if (rc)
        return rc;
    drop(v, 16, v->ldt_mfn, &v->ldt_frames);
    memcpy(v->ldt_mfn, mfn, n * sizeof *mfn);
    v->ldt_frames = n;
    v->ldt_ents = ents;
    map_table(v, 16, v->ldt_mfn, n);
    changed(v);
    return 0;
}

long hc_set_gdt(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t frames[16];
    uint32_t ents = (uint32_t)a[1];
    if (ents > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    if (!pv_copy_from(v, frames, a[0], (ents + 511) / 512 * sizeof *frames))
        return -XEN_EFAULT;
    pv_lock(v);
    int rc = pv_gdt_set(v, frames, ents);
    pv_unlock(v);
    return rc;
}

/* (machine address, descriptor) */
long hc_update_descriptor(struct pv_vcpu *v, const uint64_t a[6])
{
    struct pv_domain *d = v->d;
    uint64_t mfn = a[0] >> 12, desc = a[1];
    int rc = -XEN_EINVAL;
    if (a[0] & 7 || !pv_desc_fix(&desc))
        return -XEN_EINVAL;
    pv_lock(v);
    if (pv_frame_ok(d, mfn)) {
        struct pv_page *p = &d->page[mfn];
        enum pv_type type = p->types && p->type == TYPE_SEGDESC ? TYPE_SEGDESC : TYPE_WRITABLE;
        rc = pv_frame_get_type(d, mfn, type);
        if (!rc) {
            uint8_t *page = pv_frame_ptr(d, mfn);
            __atomic_store_n((uint64_t *)(page + (a[0] & (PAGE - 1))), desc, __ATOMIC_RELAXED);
            pv_frame_put_type(d, mfn);
        }
    }
    pv_unlock(v);
    return rc;
}

/* The selector of GS as the guest's user will have it, and its base. */
static long user_gs(struct pv_vcpu *v, uint16_t sel)
{
    const struct pv_engine *e = v->d->eng;
    uint64_t own = e->base(v->bc, PV_GS);
    bool ok = e->load_data(v->bc, PV_GS, sel);
    if (!ok)
        e->load_data(v->bc, PV_GS, 0);
    v->gs_other = e->base(v->bc, PV_GS);
    e->set_base(v->bc, PV_GS, own);
    return ok ? 0 : -XEN_EINVAL;
}

long hc_set_segment_base(struct pv_vcpu *v, const uint64_t a[6])
{
    const struct pv_engine *e = v->d->eng;
    if ((uint32_t)a[0] == SEGBASE_GS_USER_SEL)
        return user_gs(v, (uint16_t)a[1]);
    if (!pv_canonical(a[1]))
        return -XEN_EINVAL;
    switch ((uint32_t)a[0]) {
    case SEGBASE_FS: e->set_base(v->bc, PV_FS, a[1]); return 0;
    case SEGBASE_GS_USER: v->gs_other = a[1]; return 0;
    case SEGBASE_GS_KERNEL: e->set_base(v->bc, PV_GS, a[1]); return 0;
    default: return -XEN_EINVAL;
    }
}
