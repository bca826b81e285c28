/* SPDX-License-Identifier: MIT
 * Where a PVH guest has shared_info and its grant table: at a frame of its RAM, which
 * takes over what it holds, or where it has no memory. */
#include "domain.h"
#include "../base/err.h"
#include <xen/memory.h>

static uint8_t *home(const struct pv_domain *d, unsigned which)
{
    return d->hv + which * PAGE;
}

/* What back ends and hypercalls use from now on. */
static void use(struct pv_domain *d, unsigned which, void *at)
{
    if (which == SPECIAL_SHARED)
        pv_shared_move(d, at);
    else
        pv_grants_move(d, which - SPECIAL_GRANT, at);
}

static void forget(struct pv_domain *d, unsigned which)
{
    uint64_t gfn = d->pvh->at[which];
    d->pvh->at[which] = FRAME_NR;
    if (gfn == FRAME_NR)
        return;
    if (pv_ram_frame(d, gfn)) {
        pv_frame_put_type(d, gfn);
    } else {
        mem_del(d->host.mem, gfn << 12, PAGE);
        d->host.map_changed(d->host.ctx);
    }
}

static int hold_ram(struct pv_domain *d, uint64_t gfn)
{
    int rc = d->page[gfn].refs ? 0 : pv_frame_take(d, gfn);
    return rc ? rc : pv_frame_get_type(d, gfn, TYPE_WRITABLE);
}

/* Memory of the hypervisor's once more, at an address where nothing is. */
static int map_page(struct pv_domain *d, unsigned which, uint64_t gfn)
{
    if (gfn >= MEM_GPA_MAX >> 12)
        return -XEN_EINVAL;
    int rc = mem_add(d->host.mem, gfn << 12, PAGE, VC_MEM_READ | VC_MEM_WRITE, home(d, which));
    if (rc) {
        err_begin();
        return rc == VC_EBUSY ? -XEN_EBUSY : -XEN_EINVAL;
    }
    d->host.map_changed(d->host.ctx);
    return 0;
}

/* With the lock. */
static int place(struct pv_domain *d, unsigned which, uint64_t gfn)
{
    bool ram = pv_ram_frame(d, gfn);
    for (unsigned i = 0; i < SPECIAL_COUNT; i++)
        if (d->pvh->at[i] == gfn && i != which)
            return -XEN_EBUSY;
    if (gfn != d->pvh->at[which]) {
        int rc = ram ? hold_ram(d, gfn) : map_page(d, which, gfn);
        if (rc)
            return rc;
    }
    use(d, which, ram ? (uint8_t *)pv_frame_ptr(d, gfn) : home(d, which));
    if (gfn != d->pvh->at[which]) {
        forget(d, which);
        d->pvh->at[which] = gfn;
    }
    return 0;
}

void pvh_homes(struct pv_domain *d)
{
    for (unsigned i = 0; i < SPECIAL_COUNT; i++) {
        if (d->pvh->at[i] == FRAME_NR)
            continue;
        use(d, i, home(d, i));
        forget(d, i);
    }
}

static long add(struct pv_vcpu *v, uint64_t at)
{
    struct xen_add_to_physmap x;
    unsigned which, first = SPECIAL_GRANT, frames = GRANT_FRAMES_MAX;
    if (!pv_copy_from(v, &x, at, sizeof x))
        return -XEN_EFAULT;
    if (!pv_own(x.domid))
        return -XEN_EPERM;
    switch (x.space) {
    case XENMAPSPACE_shared_info:
        if (x.idx)
            return -XEN_EINVAL;
        which = SPECIAL_SHARED;
        break;
    case XENMAPSPACE_grant_table:
        if (v->d->grant_version == 2 && x.idx & XENMAPIDX_grant_table_status) {
            first = SPECIAL_STATUS;
            frames = STATUS_FRAMES_MAX;
            x.idx &= ~(xen_ulong_t)XENMAPIDX_grant_table_status;
        }
        if (x.idx >= frames)
            return -XEN_EINVAL;
        which = first + (unsigned)x.idx;
        break;
    default: return -XEN_EOPNOTSUPP;
    }
    pv_lock(v);
    long rc = place(v->d, which, x.gpfn);
    pv_unlock(v);
    return rc;
}

/* What was mapped there goes back to where it began. */
static long take_away(struct pv_vcpu *v, uint64_t at)
{
    struct xen_remove_from_physmap x;
    struct pv_domain *d = v->d;
    long rc = -XEN_ENOENT;
    if (!pv_copy_from(v, &x, at, sizeof x))
        return -XEN_EFAULT;
    if (!pv_own(x.domid))
        return -XEN_EPERM;
    pv_lock(v);
    for (unsigned i = 0; i < SPECIAL_COUNT && rc; i++)
        if (x.gpfn != FRAME_NR && d->pvh->at[i] == x.gpfn) {
            use(d, i, home(d, i));
            forget(d, i);
            rc = 0;
        }
    pv_unlock(v);
    return rc;
}

long hc_physmap_op(struct pv_vcpu *v, const uint64_t a[6])
{
    if (!v->d->pvh)
        return -XEN_ENOSYS;
    return ((uint32_t)a[0] & 0x3f) == XENMEM_add_to_physmap ? add(v, a[1]) : take_away(v, a[1]);
}
