/* SPDX-License-Identifier: MIT
 * Grant tables, by which a guest lends frames to back ends: the guest's side. */
#include "domain.h"
#include <stdlib.h>

int pv_grants_init(struct pv_domain *d)
{
    for (unsigned i = 0; i < GRANT_FRAMES_MAX; i++)
        d->grant[i] = pv_frame_ptr(d, d->special + SPECIAL_GRANT + i);
    for (unsigned i = 0; i < STATUS_FRAMES_MAX; i++)
        d->status[i] = pv_frame_ptr(d, d->special + SPECIAL_STATUS + i);
    d->grant_version = 1;
    d->grant_frames = 1;
    d->grant_pins = calloc(GRANTS_MAX, sizeof *d->grant_pins);
    if (!d->grant_pins)
        return VC_ENOMEM;
    d->grant[0][GNTTAB_RESERVED_CONSOLE] = (struct grant_entry_v1){
        .flags = GTF_permit_access, .domid = BACK_END, .frame = (uint32_t)d->console_mfn};
    d->grant[0][GNTTAB_RESERVED_XENSTORE] = (struct grant_entry_v1){
        .flags = GTF_permit_access, .domid = BACK_END, .frame = (uint32_t)d->store_mfn};
    return 0;
}

void pv_grants_move(struct pv_domain *d, unsigned frame, void *to)
{
    pthread_mutex_lock(&d->grant_lock);
    bool status = frame >= GRANT_FRAMES_MAX;
    void *from = status ? (void *)d->status[frame - GRANT_FRAMES_MAX] : d->grant[frame];
    if (to != from)
        memcpy(to, from, PAGE);
    if (status)
        d->status[frame - GRANT_FRAMES_MAX] = to;
    else
        d->grant[frame] = to;
    if (!status && frame >= d->grant_frames)
        d->grant_frames = frame + 1;
    pthread_mutex_unlock(&d->grant_lock);
}

/* ---- the guest's side ------------------------------------------------------------------ */

static long setup_table(struct pv_vcpu *v, uint64_t at)
{
    struct pv_domain *d = v->d;
    struct gnttab_setup_table s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    if (!pv_own(s.dom)) {
        s.status = GNTST_permission_denied;
    } else if (s.nr_frames > GRANT_FRAMES_MAX) {
        s.status = GNTST_general_error;
    } else {
        s.status = GNTST_okay;
        pthread_mutex_lock(&d->grant_lock);
        if (s.nr_frames > d->grant_frames)
            d->grant_frames = s.nr_frames;
        pthread_mutex_unlock(&d->grant_lock);
        for (uint64_t i = 0; i < s.nr_frames; i++) {
            xen_pfn_t mfn = d->special + SPECIAL_GRANT + i;
            if (!pv_copy_to(v, (uint64_t)(uintptr_t)s.frame_list.p + i * sizeof mfn, &mfn,
                            sizeof mfn))
                return -XEN_EFAULT;
        }
    }
    return pv_copy_to(v, at, &s, sizeof s) ? 0 : -XEN_EFAULT;
}

static long query_size(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_query_size q;
    if (!pv_copy_from(v, &q, at, sizeof q))
        return -XEN_EFAULT;
    q.status = pv_own(q.dom) ? GNTST_okay : GNTST_permission_denied;
    if (q.status == GNTST_okay) {
        q.nr_frames = v->d->grant_frames;
        q.max_nr_frames = GRANT_FRAMES_MAX;
    }
    return pv_copy_to(v, at, &q, sizeof q) ? 0 : -XEN_EFAULT;
}

static long get_version(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_get_version g;
    if (!pv_copy_from(v, &g, at, sizeof g))
        return -XEN_EFAULT;
    if (!pv_own(g.dom))
        return -XEN_EPERM;
    g.version = v->d->grant_version;
    return pv_copy_to(v, at, &g, sizeof g) ? 0 : -XEN_EFAULT;
}

/* ---- versions -------------------------------------------------------------------------- */

/* The first ones stay from version to version. */
struct kept {
    uint16_t flags;
    domid_t domid;
    uint64_t frame;
};

static struct kept keep(const struct pv_domain *d, uint32_t ref)
{
    const struct grant_entry_v1 *g1 = &d->grant[0][ref];
    const union grant_entry_v2 *g2 = pv_grant_v2(d, ref);
    struct kept k = {
        .flags =
            __atomic_load_n(d->grant_version == 1 ? &g1->flags : &g2->hdr.flags, __ATOMIC_RELAXED),
        .domid =
            __atomic_load_n(d->grant_version == 1 ? &g1->domid : &g2->hdr.domid, __ATOMIC_RELAXED),
        .frame = d->grant_version == 1 ? __atomic_load_n(&g1->frame, __ATOMIC_RELAXED)
                                       : __atomic_load_n(&g2->full_page.frame, __ATOMIC_RELAXED)};
    k.flags &= (uint16_t) ~(GTF_reading | GTF_writing);
    return k;
}

/* What version 1 has no words for. */
static int narrow(const struct kept *k)
{
    unsigned type = k->flags & GTF_type_mask;
    if (type == GTF_invalid)
        return 0;
    if (type != GTF_permit_access || k->flags & GTF_sub_page)
        return -XEN_EINVAL;
    return k->frame >> 32 ? -XEN_ERANGE : 0;
}

static void put_kept(struct pv_domain *d, uint32_t ref, const struct kept *k)
{
    if (d->grant_version == 1) {
        d->grant[0][ref] = (struct grant_entry_v1){
            .flags = k->flags, .domid = k->domid, .frame = (uint32_t)k->frame};
    } else {
        union grant_entry_v2 *g = pv_grant_v2(d, ref);
        g->full_page.hdr.domid = k->domid;
        g->full_page.frame = k->frame;
        g->full_page.hdr.flags = k->flags;
    }
    pv_grant_show_use(d, ref);
}

/* The guest maps one of the frames of bits, which version 1 has not. */
static bool status_mapped(const struct pv_domain *d)
{
    for (unsigned i = 0; i < STATUS_FRAMES_MAX; i++)
        if (d->page[d->special + SPECIAL_STATUS + i].refs > 1)
            return true;
    return false;
}

/* With both locks. Nothing but the first ones may be in use. */
static long change(struct pv_domain *d, uint32_t version)
{
    struct kept kept[GNTTAB_NR_RESERVED_ENTRIES];
    for (uint32_t ref = GNTTAB_NR_RESERVED_ENTRIES; ref < GRANTS_MAX; ref++)
        if (d->grant_pins[ref].all)
            return -XEN_EBUSY;
    if (version == 1 && status_mapped(d))
        return -XEN_EBUSY;
    for (uint32_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        kept[ref] = keep(d, ref);
        int rc = version == 1 ? narrow(&kept[ref]) : 0;
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < GRANT_FRAMES_MAX; i++)
        memset(d->grant[i], 0, PAGE);
    for (unsigned i = 0; i < STATUS_FRAMES_MAX; i++)
        memset(d->status[i], 0, PAGE);
    d->grant_version = (uint8_t)version;
    for (uint32_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++)
        put_kept(d, ref, &kept[ref]);
    return 0;
}

static long set_version(struct pv_vcpu *v, uint64_t at)
{
    struct pv_domain *d = v->d;
    struct gnttab_set_version s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    long rc = s.version == 1 || s.version == 2 ? 0 : -XEN_EINVAL;
    for (unsigned i = 0; i < GRANT_FRAMES_MAX && !rc; i++) /* all are cleared */
        if (!pv_spend(v))
            rc = -XEN_E2BIG;
    pv_lock(v);
    pthread_mutex_lock(&d->grant_lock);
    if (!rc && s.version != d->grant_version)
        rc = change(d, s.version);
    s.version = d->grant_version;
    pthread_mutex_unlock(&d->grant_lock);
    pv_unlock(v);
    return pv_copy_to(v, at, &s, sizeof s) ? rc : -XEN_EFAULT;
}

/* Where a PVH guest put them; a PV guest maps those that there are. */
static long get_status_frames(struct pv_vcpu *v, uint64_t at)
{
    struct pv_domain *d = v->d;
    struct gnttab_get_status_frames s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    pthread_mutex_lock(&d->grant_lock);
    uint64_t grants = (uint64_t)d->grant_frames * GRANTS_V2_PER_FRAME;
    unsigned have =
        d->grant_version == 2 ? (unsigned)(grants + STATUS_PER_FRAME - 1) / STATUS_PER_FRAME : 0;
    pthread_mutex_unlock(&d->grant_lock);
    if (!pv_own(s.dom))
        s.status = GNTST_permission_denied;
    else
        s.status = s.nr_frames > have ? GNTST_general_error : GNTST_okay;
    for (unsigned i = 0; s.status == GNTST_okay && i < s.nr_frames; i++) {
        uint64_t mfn = d->special + SPECIAL_STATUS + i;
        if (d->pvh)
            mfn = d->pvh->at[SPECIAL_STATUS + i];
        if (!pv_copy_to(v, (uint64_t)(uintptr_t)s.frame_list.p + i * sizeof mfn, &mfn, sizeof mfn))
            return -XEN_EFAULT;
    }
    return pv_copy_to(v, at, &s, sizeof s) ? 0 : -XEN_EFAULT;
}

/* ---- the hypercall ----------------------------------------------------------------------- */

long hc_grant_table_op(struct pv_vcpu *v, const uint64_t a[6])
{
    unsigned cmd = (unsigned)a[0];
    uint64_t at = a[1], count = (uint32_t)a[2];
    long rc = 0;
    static const uint8_t sizes[] = {
        [GNTTABOP_map_grant_ref] = sizeof(struct gnttab_map_grant_ref),
        [GNTTABOP_unmap_grant_ref] = sizeof(struct gnttab_unmap_grant_ref),
        [GNTTABOP_unmap_and_replace] = sizeof(struct gnttab_unmap_and_replace),
        [GNTTABOP_setup_table] = sizeof(struct gnttab_setup_table),
        [GNTTABOP_query_size] = sizeof(struct gnttab_query_size),
        [GNTTABOP_set_version] = sizeof(struct gnttab_set_version),
        [GNTTABOP_get_version] = sizeof(struct gnttab_get_version),
        [GNTTABOP_get_status_frames] = sizeof(struct gnttab_get_status_frames),
    };
    if (cmd >= ARRAY_LEN(sizes) || !sizes[cmd])
        return -XEN_ENOSYS;
    for (; count && !rc; count--, at += sizes[cmd]) {
        if (!pv_spend(v))
            return -XEN_E2BIG;
        switch (cmd) {
        case GNTTABOP_map_grant_ref: rc = pv_grant_op_map(v, at); break;
        case GNTTABOP_unmap_grant_ref: rc = pv_grant_op_unmap(v, at); break;
        case GNTTABOP_unmap_and_replace: rc = pv_grant_op_replace(v, at); break;
        case GNTTABOP_setup_table: rc = setup_table(v, at); break;
        case GNTTABOP_query_size: rc = query_size(v, at); break;
        case GNTTABOP_get_version: rc = get_version(v, at); break;
        case GNTTABOP_get_status_frames: rc = get_status_frames(v, at); break;
        default: rc = set_version(v, at); break;
        }
    }
    return rc;
}
