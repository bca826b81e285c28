/* SPDX-License-Identifier: MIT
 * A guest maps grants. There is no other domain that could have granted it something but
 * itself; domain 0 is the back ends', which grant nothing. A mapping for the processor is
 * an entry in a page table of the guest's like any other, with the same counts, so it may
 * be overwritten as any other: then the handle cannot be given back, and the grant stays
 * pinned. Guests that place frames by physmap (PVH) cannot have one frame twice. */
#include "domain.h"
#include <stdlib.h>

#define KINDS (GNTMAP_device_map | GNTMAP_host_map)

static bool writes(uint32_t flags)
{
    return !(flags & GNTMAP_readonly);
}

/* ---- handles ---------------------------------------------------------------------------- */

static bool handle_new(struct pv_domain *d, uint32_t *handle)
{
    if (!d->maps)
        d->maps = calloc(GRANT_MAPS_MAX, sizeof *d->maps);
    if (!d->maps || (!d->maps_free && d->maps_end == GRANT_MAPS_MAX))
        return false;
    if (d->maps_free) {
        *handle = d->maps_free - 1;
        d->maps_free = d->maps[*handle].ref;
    } else {
        *handle = d->maps_end++;
    }
    return true;
}

static void handle_free(struct pv_domain *d, uint32_t handle)
{
    d->maps[handle] = (struct pv_map){.ref = d->maps_free};
    d->maps_free = handle + 1;
}

/* ---- entries ---------------------------------------------------------------------------- */

/* The one that the guest means by a linear address, or by the entry's own. */
static bool entry_at(struct pv_vcpu *v, uint64_t addr, bool is_pte, struct pv_entry *where)
{
    const struct pv_domain *d = v->d;
    uint64_t mfn = addr >> 12;
    if (d->pvh)
        return false;
    if (!is_pte) {
        bool there = pv_entry_find(v, addr, &mfn);
        *where = (struct pv_entry){mfn, 1, addr >> 12 & 511};
        return there;
    }
    *where = (struct pv_entry){mfn, 1, (addr & (PAGE - 1)) / 8};
    return !(addr & 7) && pv_frame_ok(d, mfn) && d->page[mfn].types && d->page[mfn].type == TYPE_L1;
}

static uint64_t entry_read(const struct pv_domain *d, const struct pv_entry *where)
{
    return __atomic_load_n((uint64_t *)pv_frame_ptr(d, where->mfn) + where->i, __ATOMIC_RELAXED);
}

static int16_t entry_put(struct pv_vcpu *v, uint64_t addr, uint32_t flags, uint64_t mfn)
{
    const uint64_t avail = flags >> _GNTMAP_guest_avail0 & 7;
    uint64_t e = mfn << 12 | PTE_P | PTE_A | PTE_D | PTE_NX | avail << 9;
    struct pv_entry where;
    if (!entry_at(v, addr, flags & GNTMAP_contains_pte, &where))
        return GNTST_general_error;
    if (writes(flags))
        e |= PTE_W;
    return pv_entry_set(v->d, &where, e, false, NULL) ? GNTST_general_error : GNTST_okay;
}

/* instead: where the entry is from that takes its place; 0: none. */
static int16_t entry_take(struct pv_vcpu *v, uint64_t addr, const struct pv_map *m,
                          uint64_t instead)
{
    struct pv_domain *d = v->d;
    struct pv_entry where, from;
    const bool is_pte = m->flags & GNTMAP_contains_pte;
    uint64_t should = m->mfn << 12 | PTE_P | (writes(m->flags) ? PTE_W : 0), e = 0;
    if (!entry_at(v, addr, is_pte, &where) ||
        (entry_read(d, &where) ^ should) & (PTE_FRAME | PTE_P | PTE_W))
        return GNTST_general_error;
    if (instead) {
        if (is_pte || !entry_at(v, instead, false, &from) ||
            (from.mfn == where.mfn && from.i == where.i))
            return GNTST_general_error;
        e = entry_read(d, &from);
    }
    if (pv_entry_set(d, &where, e, false, NULL))
        return GNTST_general_error;
    if (instead)
        pv_entry_set(d, &from, 0, false, NULL);
    return GNTST_okay;
}

static void lock(struct pv_vcpu *v)
{
    pv_lock(v);
    pthread_mutex_lock(&v->d->grant_lock);
}

static void unlock(struct pv_vcpu *v)
{
    pthread_mutex_unlock(&v->d->grant_lock);
    pv_unlock(v);
}

/* ---- map -------------------------------------------------------------------------------- */

static int16_t map_pinned(struct pv_vcpu *v, const struct gnttab_map_grant_ref *op, uint64_t mfn)
{
    struct pv_domain *d = v->d;
    int16_t status = GNTST_okay;
    if (op->flags & GNTMAP_device_map && pv_grant_hold(d, mfn, writes(op->flags)))
        return GNTST_general_error;
    if (op->flags & GNTMAP_host_map)
        status = entry_put(v, op->host_addr, op->flags, mfn);
    if (status && op->flags & GNTMAP_device_map)
        pv_grant_let_go(d, mfn, writes(op->flags));
    return status;
}

/* With both locks. */
static int16_t map_own(struct pv_vcpu *v, struct gnttab_map_grant_ref *op)
{
    struct pv_domain *d = v->d;
    uint32_t handle;
    uint64_t mfn;
    if (!handle_new(d, &handle))
        return GNTST_no_space;
    int16_t status = pv_grant_claim(d, op->ref, writes(op->flags), &mfn);
    if (!status) {
        status = map_pinned(v, op, mfn);
        if (status)
            pv_grant_unpin(d, op->ref, writes(op->flags));
    }
    if (status) {
        handle_free(d, handle);
        return status;
    }
    d->maps[handle] = (struct pv_map){.ref = op->ref, .flags = op->flags, .mfn = mfn};
    op->handle = handle;
    op->dev_bus_addr = mfn << 12;
    return GNTST_okay;
}

static int16_t map(struct pv_vcpu *v, struct gnttab_map_grant_ref *op)
{
    const uint32_t not_pvh = GNTMAP_device_map | GNTMAP_application_map | GNTMAP_contains_pte;
    if (!(op->flags & KINDS))
        return GNTST_bad_gntref;
    if (v->d->pvh && op->flags & not_pvh)
        return GNTST_general_error;
    if (op->dom == BACK_END) /* its table has one frame, of nothing */
        return op->ref < GRANTS_PER_FRAME ? GNTST_general_error : GNTST_bad_gntref;
    if (op->dom != OWN_DOMID) /* DOMID_SELF is nobody's number here */
        return GNTST_bad_domain;
    lock(v);
    int16_t status = map_own(v, op);
    unlock(v);
    return status;
}

long pv_grant_op_map(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_map_grant_ref op;
    if (!pv_copy_from(v, &op, at, sizeof op))
        return -XEN_EFAULT;
    op.status = map(v, &op);
    return pv_copy_to(v, at, &op, sizeof op) ? 0 : -XEN_EFAULT;
}

/* ---- unmap ------------------------------------------------------------------------------ */

struct unmap {
    uint32_t handle;
    uint64_t host, device, instead; /* addresses; 0: none */
};

/* With both locks. The handle is not free yet. */
static int16_t unmap_kinds(struct pv_vcpu *v, const struct unmap *u)
{
    struct pv_domain *d = v->d;
    struct pv_map *m = u->handle < d->maps_end ? &d->maps[u->handle] : NULL;
    if (!m || !(m->flags & KINDS))
        return GNTST_bad_handle;
    bool device = u->device && m->flags & GNTMAP_device_map;
    if (device && u->device != m->mfn << 12)
        return GNTST_bad_dev_addr;
    if (u->host && m->flags & GNTMAP_host_map) {
        int16_t status = entry_take(v, u->host, m, u->instead);
        if (status)
            return status;
        m->flags &= ~(uint32_t)GNTMAP_host_map;
    }
    if (device) {
        m->flags &= ~(uint32_t)GNTMAP_device_map;
        pv_grant_let_go(d, m->mfn, writes(m->flags));
    }
    return GNTST_okay;
}

/* The grant shows as unused when no vCPU remembers the mapping any more. Until then the
 * handle is nobody's: neither of a mapping nor free. */
static int16_t unmap(struct pv_vcpu *v, const struct unmap *u)
{
    struct pv_domain *d = v->d;
    lock(v);
    int16_t status = unmap_kinds(v, u);
    bool last = !status && !(d->maps[u->handle].flags & KINDS);
    unlock(v);
    if (status)
        return status;
    pv_flush_cpus(v);
    if (last) {
        lock(v);
        pv_grant_unpin(d, d->maps[u->handle].ref, writes(d->maps[u->handle].flags));
        handle_free(d, u->handle);
        unlock(v);
    }
    return GNTST_okay;
}

long pv_grant_op_unmap(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_unmap_grant_ref op;
    if (!pv_copy_from(v, &op, at, sizeof op))
        return -XEN_EFAULT;
    const struct unmap u = {.handle = op.handle, .host = op.host_addr, .device = op.dev_bus_addr};
    op.status = unmap(v, &u);
    return pv_copy_to(v, at, &op, sizeof op) ? 0 : -XEN_EFAULT;
}

long pv_grant_op_replace(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_unmap_and_replace op;
    if (!pv_copy_from(v, &op, at, sizeof op))
        return -XEN_EFAULT;
    const struct unmap u = {.handle = op.handle, .host = op.host_addr, .instead = op.new_addr};
    op.status = unmap(v, &u);
    return pv_copy_to(v, at, &op, sizeof op) ? 0 : -XEN_EFAULT;
}
