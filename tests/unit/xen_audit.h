/* SPDX-License-Identifier: MIT
 * Are a PV domain's counts true? They are added up anew from what is there: tables, pins,
 * vCPUs, rings. And is what the guest may not change as it was? */
#ifndef XEN_AUDIT_H
#define XEN_AUDIT_H

#include "../../src/pv/domain.h"
#include <stdio.h>
#include <stdlib.h>

/* A fuzzer's input is not to be steered by what looks at the outcome, which has many times
 * the comparisons of what is tested. */
#ifdef __clang__
#define AUDIT __attribute__((no_sanitize("coverage"))) static inline
#else
#define AUDIT static inline
#endif

struct audit {
    const struct pv_domain *d;
    uint32_t *refs, *types;
    char wrong[160]; /* the first thing that is; or "" */
};

AUDIT void audit_wrong(struct audit *a, const char *what, uint64_t mfn, uint64_t is,
                       uint64_t should)
{
    if (!a->wrong[0])
        snprintf(a->wrong, sizeof a->wrong, "%s: frame %#llx, %#llx instead of %#llx", what,
                 (unsigned long long)mfn, (unsigned long long)is, (unsigned long long)should);
}

/* Somebody holds the frame, and its type if there is one. */
AUDIT void audit_hold(struct audit *a, const char *who, uint64_t mfn, unsigned type)
{
    if (mfn >= a->d->nmfn || !a->d->page[mfn].refs) {
        audit_wrong(a, who, mfn, 0, 1);
        return;
    }
    a->refs[mfn]++;
    if (type == TYPE_NONE)
        return;
    a->types[mfn]++;
    if (a->d->page[mfn].type != type)
        audit_wrong(a, who, mfn, a->d->page[mfn].type, type);
}

AUDIT void audit_entry(struct audit *a, unsigned level, uint64_t e)
{
    if (!(e & PTE_U) || e & (PTE_PS | PTE_G | PTE_PWT | PTE_PCD))
        audit_wrong(a, "bits of an entry", PTE_MFN(e), e & 0xfff, PTE_U);
    if (level > 1)
        audit_hold(a, "a table below", PTE_MFN(e), TYPE_L1 + level - 2);
    else
        audit_hold(a, "a mapping", PTE_MFN(e), e & PTE_W ? TYPE_WRITABLE : TYPE_NONE);
}

AUDIT void audit_table(struct audit *a, uint64_t mfn, unsigned level)
{
    const struct pv_domain *d = a->d;
    const uint64_t *t = pv_frame_ptr(d, mfn);
    for (unsigned i = 0; i < 512; i++) {
        bool own = level == 4 && i >= HV_SLOT_FIRST && i <= HV_SLOT_LAST;
        uint64_t should = i == HV_SLOT_M2P ? d->m2p_l3 : i == HV_SLOT_OWN ? d->own_l3 : 0;
        if (own && PTE_MFN(t[i]) != should)
            audit_wrong(a, "the hypervisor's slot", mfn, t[i], should << 12);
        if (own && should && !!(t[i] & PTE_U) != (i == HV_SLOT_M2P))
            audit_wrong(a, "the hypervisor's slot", mfn, t[i], should << 12);
        if (!own && t[i] & PTE_P)
            audit_entry(a, level, t[i]);
    }
}

AUDIT void audit_descriptors(struct audit *a, uint64_t mfn)
{
    const uint64_t *t = pv_frame_ptr(a->d, mfn);
    for (unsigned i = 0; i < 512; i++)
        if (t[i] >> 47 & 1 && (!(t[i] >> 44 & 1) || (t[i] >> 45 & 3) != 3))
            audit_wrong(a, "a descriptor", mfn, t[i], 0);
}

AUDIT void audit_vcpu(struct audit *a, const struct pv_vcpu *v)
{
    const uint64_t *own = a->d->own_l1 + v->id * HV_CPU_PAGES;
    if (v->kernel_mfn != FRAME_NR)
        audit_hold(a, "a vCPU's root", v->kernel_mfn, TYPE_L4);
    if (v->user_mfn != FRAME_NR)
        audit_hold(a, "a vCPU's user root", v->user_mfn, TYPE_L4);
    for (unsigned i = 0; i < v->gdt_frames; i++)
        audit_hold(a, "a GDT", v->gdt_mfn[i], TYPE_SEGDESC);
    for (unsigned i = 0; i < v->ldt_frames; i++)
        audit_hold(a, "an LDT", v->ldt_mfn[i], TYPE_SEGDESC);
    for (unsigned i = 0; i < HV_CPU_PAGES; i++) {
        bool ldt = i >= 16;
        unsigned k = i % 16, n = ldt ? v->ldt_frames : v->gdt_frames;
        uint64_t should = k < n ? (ldt ? v->ldt_mfn : v->gdt_mfn)[k] : 0;
        if (i != FIRST_RESERVED_GDT_PAGE && PTE_MFN(own[i]) != should)
            audit_wrong(a, "where descriptors are read", v->id, PTE_MFN(own[i]), should);
    }
    if (v->info_mfn != FRAME_NR)
        audit_hold(a, "vcpu_info", v->info_mfn, TYPE_WRITABLE);
    for (unsigned i = 0; i < 2; i++)
        if (v->run_area[i])
            audit_hold(a, "runstate", v->run_mfn[i], TYPE_WRITABLE);
}

AUDIT void audit_fifo(struct audit *a, const struct pv_fifo *f)
{
    for (unsigned i = 0; i < f->frames; i++)
        audit_hold(a, "words of events", f->mfn[i], TYPE_WRITABLE);
    for (unsigned i = 0; i < PV_CPUS_MAX; i++)
        if (f->cpu[i].block)
            audit_hold(a, "queues of events", f->cpu[i].mfn, TYPE_WRITABLE);
}

/* What the guest mapped of its own grants, and nobody else any. */
AUDIT void audit_maps(struct audit *a)
{
    const struct pv_domain *d = a->d;
    struct pv_pin *pins = calloc(GRANTS_MAX, sizeof *pins);
    if (!pins)
        abort();
    for (uint32_t i = 0; i < d->maps_end; i++) {
        const struct pv_map *m = &d->maps[i];
        bool write = !(m->flags & GNTMAP_readonly);
        if (!(m->flags & (GNTMAP_host_map | GNTMAP_device_map)))
            continue;
        if (m->flags & GNTMAP_device_map)
            audit_hold(a, "a device's mapping", m->mfn, write ? TYPE_WRITABLE : TYPE_NONE);
        pins[m->ref].all++;
        pins[m->ref].writers = (uint16_t)(pins[m->ref].writers + write);
    }
    for (uint32_t i = 0; i < GRANTS_MAX; i++)
        if (pins[i].all != d->grant_pins[i].all || pins[i].writers != d->grant_pins[i].writers)
            audit_wrong(a, "pins of a grant", i, d->grant_pins[i].all, pins[i].all);
    free(pins);
}

AUDIT void audit_compare(struct audit *a)
{
    const struct pv_domain *d = a->d;
    uint64_t frames = 0;
    for (uint64_t mfn = 0; mfn < d->nmfn; mfn++) {
        const struct pv_page *p = &d->page[mfn];
        if (p->refs != a->refs[mfn])
            audit_wrong(a, "references", mfn, p->refs, a->refs[mfn]);
        if (p->types != a->types[mfn])
            audit_wrong(a, "holders of the type", mfn, p->types, a->types[mfn]);
        if (p->types && !p->valid)
            audit_wrong(a, "not checked", mfn, 0, 1);
        frames += p->refs && !p->special;
    }
    if (frames != d->frames)
        audit_wrong(a, "the number of frames", 0, d->frames, frames);
}

/* What is wrong, in static memory; NULL: nothing is. Nobody runs, and no back end has a grant. */
AUDIT const char *xen_audit(const struct pv_domain *d)
{
    static struct audit a;
    a = (struct audit){
        .d = d, .refs = calloc(d->nmfn, sizeof *a.refs), .types = calloc(d->nmfn, sizeof *a.types)};
    if (!a.refs || !a.types)
        abort();
    for (uint64_t mfn = 0; mfn < d->nmfn; mfn++) {
        const struct pv_page *p = &d->page[mfn];
        a.refs[mfn] += p->refs != 0; /* the domain's own */
        a.types[mfn] += p->special;
        if (p->pinned)
            audit_hold(&a, "a pin", mfn, p->type);
        if (p->types && p->type >= TYPE_L1 && p->type <= TYPE_L4)
            audit_table(&a, mfn, p->type - TYPE_L1 + 1u);
        if (p->types && p->type == TYPE_SEGDESC)
            audit_descriptors(&a, mfn);
    }
    for (unsigned i = 0; i < d->host.ncpu; i++)
        audit_vcpu(&a, &d->vcpu[i]);
    if (d->fifo)
        audit_fifo(&a, d->fifo);
    audit_maps(&a);
    audit_hold(&a, "xenstore's ring", d->store_mfn, TYPE_WRITABLE);
    audit_hold(&a, "the console's ring", d->console_mfn, TYPE_WRITABLE);
    audit_compare(&a);
    free(a.refs);
    free(a.types);
    return a.wrong[0] ? a.wrong : NULL;
}

#endif
