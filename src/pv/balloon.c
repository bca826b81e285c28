/* SPDX-License-Identifier: MIT
 * Ballooning: the guest gives frames back and takes others, up to its limit and as far as
 * the host's pool has room. */
#include "domain.h"
#include <xen/memory.h>

#define BATCH 512u /* frames between two flushes; Linux gives as many in a hypercall */

/* Only what nobody uses any more. Translations may linger: until a flush the frame is nobody's,
 * and its memory stays. */
static bool give(struct pv_domain *d, uint64_t mfn)
{
    if (!pv_frame_ok(d, mfn) || d->page[mfn].special || d->page[mfn].refs != 1 ||
        !mem_give(d->host.mem, mfn << 12))
        return false;
    d->page[mfn].refs = 0;
    if (d->m2p)
        d->m2p[mfn] = FRAME_NR;
    d->free_from = min_u64(d->free_from, pv_mfn_to_pfn(d, mfn));
    d->frames--;
    return true;
}

static void no_more(struct pv_domain *d, const uint64_t *gpas, unsigned n)
{
    if (!n)
        return;
    pv_flush_everywhere(d);
    mem_drop(d->host.mem, gpas, n);
}

/* A frame that nobody has. */
static uint64_t free_frame(struct pv_domain *d)
{
    for (; d->free_from < d->npfn; d->free_from++) {
        uint64_t mfn = pv_pfn_to_mfn(d, d->free_from);
        if (!d->page[mfn].refs)
            return mfn;
    }
    return FRAME_NR;
}

int pv_frame_take(struct pv_domain *d, uint64_t mfn)
{
    if (d->frames >= atomic_load(&d->limit) || !mem_take(d->host.mem, mfn << 12))
        return -XEN_ENOMEM;
    d->page[mfn] = (struct pv_page){.refs = 1};
    d->frames++;
    return 0;
}

/* A PVH guest says which frame it wants, a PV guest which number it gives it. */
static uint64_t take(struct pv_domain *d, uint64_t wanted)
{
    uint64_t mfn = wanted;
    if (!d->pvh)
        mfn = free_frame(d);
    else if (!pv_ram_frame(d, wanted) || d->page[wanted].refs)
        return FRAME_NR;
    if (mfn == FRAME_NR || pv_frame_take(d, mfn))
        return FRAME_NR;
    if (d->m2p)
        d->m2p[mfn] = wanted;
    return mfn;
}

static bool number(struct pv_vcpu *v, const struct xen_memory_reservation *r, uint64_t i,
                   uint64_t *frame)
{
    return pv_copy_from(v, frame, (uint64_t)(uintptr_t)r->extent_start.p + i * sizeof(xen_pfn_t),
                        sizeof *frame);
}

/* Both: how many extents were done; the first that cannot be ends it. */
static uint64_t decrease(struct pv_vcpu *v, const struct xen_memory_reservation *r)
{
    uint64_t done = 0, frame, gpas[BATCH];
    unsigned n;
    do {
        pv_lock(v);
        for (n = 0; n < BATCH && done < r->nr_extents && pv_spend(v); n++, done++) {
            if (!number(v, r, done, &frame) || !give(v->d, frame))
                break;
            gpas[n] = frame << 12;
        }
        no_more(v->d, gpas, n);
        pv_unlock(v);
    } while (n == BATCH);
    return done;
}

static uint64_t increase(struct pv_vcpu *v, const struct xen_memory_reservation *r, bool populate)
{
    uint64_t i = 0;
    pv_lock(v);
    for (; i < r->nr_extents && pv_spend(v); i++) {
        uint64_t frame = FRAME_NR;
        if (populate && !number(v, r, i, &frame))
            break;
        uint64_t mfn = take(v->d, frame);
        if (mfn == FRAME_NR ||
            !pv_copy_to(v, (uint64_t)(uintptr_t)r->extent_start.p + i * sizeof(xen_pfn_t), &mfn,
                        sizeof mfn))
            break;
    }
    pv_unlock(v);
    return i;
}

long hc_reservation(struct pv_vcpu *v, const uint64_t a[6])
{
    struct xen_memory_reservation r;
    unsigned cmd = (uint32_t)a[0] & 0x3f;
    if (!pv_copy_from(v, &r, a[1], sizeof r))
        return -XEN_EFAULT;
    if (!pv_own(r.domid))
        return -XEN_EPERM;
    if (r.extent_order)
        return 0; /* no contiguous frames are promised */
    return (long)(cmd == XENMEM_decrease_reservation
                      ? decrease(v, &r)
                      : increase(v, &r, cmd == XENMEM_populate_physmap));
}

/* ---- for the embedder -------------------------------------------------------------------- */

void pv_memory(const struct pv_domain *d, struct pv_memory *m)
{
    *m = (struct pv_memory){
        .most = d->npfn * PAGE,
        .now = atomic_load(&d->frames) * PAGE,
        .limit = atomic_load(&d->limit) * PAGE,
        .target = atomic_load(&d->target),
    };
}

void pv_memory_limit(struct pv_domain *d, uint64_t bytes)
{
    atomic_store(&d->limit, bytes / PAGE);
}

int pv_memory_target(struct pv_domain *d, uint64_t bytes)
{
    int rc = pv_store_target(d, bytes);
    if (!rc)
        atomic_store(&d->target, bytes);
    return rc;
}
