/* SPDX-License-Identifier: MIT
 * Grant tables, version 1: by them a guest lends frames to back ends. */
#include "domain.h"
#include <stdlib.h>

static struct grant_entry_v1 *entry(const struct pv_domain *d, uint32_t ref)
{
    return &d->grant[ref / GRANTS_PER_FRAME][ref % GRANTS_PER_FRAME];
}

int pv_grants_init(struct pv_domain *d)
{
    for (unsigned i = 0; i < GRANT_FRAMES_MAX; i++)
        d->grant[i] = pv_frame_ptr(d, d->special + SPECIAL_GRANT + i);
    d->grant_frames = 1;
    d->grant_pins = calloc(GRANTS_MAX, sizeof *d->grant_pins);
    if (!d->grant_pins)
        return VC_ENOMEM;
    *entry(d, GNTTAB_RESERVED_CONSOLE) = (struct grant_entry_v1){
        .flags = GTF_permit_access, .domid = BACK_END, .frame = (uint32_t)d->console_mfn};
    *entry(d, GNTTAB_RESERVED_XENSTORE) = (struct grant_entry_v1){
        .flags = GTF_permit_access, .domid = BACK_END, .frame = (uint32_t)d->store_mfn};
    return 0;
}

void pv_grants_move(struct pv_domain *d, unsigned frame, void *to)
{
    pthread_mutex_lock(&d->grant_lock);
    if (to != d->grant[frame])
        memcpy(to, d->grant[frame], PAGE);
    d->grant[frame] = to;
    if (frame >= d->grant_frames)
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
    g.version = 1;
    return pv_copy_to(v, at, &g, sizeof g) ? 0 : -XEN_EFAULT;
}

static long set_version(struct pv_vcpu *v, uint64_t at)
{
    struct gnttab_set_version s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    uint32_t asked = s.version;
    s.version = 1;
    if (!pv_copy_to(v, at, &s, sizeof s))
        return -XEN_EFAULT;
    return asked == 1 ? 0 : asked == 2 ? -XEN_ENOSYS : -XEN_EINVAL;
}

long hc_grant_table_op(struct pv_vcpu *v, const uint64_t a[6])
{
    unsigned cmd = (unsigned)a[0];
    uint64_t at = a[1], count = (uint32_t)a[2];
    long rc = 0;
    static const uint8_t sizes[] = {
        [GNTTABOP_setup_table] = sizeof(struct gnttab_setup_table),
        [GNTTABOP_query_size] = sizeof(struct gnttab_query_size),
        [GNTTABOP_set_version] = sizeof(struct gnttab_set_version),
        [GNTTABOP_get_version] = sizeof(struct gnttab_get_version),
    };
    if (cmd >= ARRAY_LEN(sizes) || !sizes[cmd])
        return -XEN_ENOSYS;
    for (; count && !rc; count--, at += sizes[cmd]) {
        if (!pv_spend(v))
            return -XEN_E2BIG;
        switch (cmd) {
        case GNTTABOP_setup_table: rc = setup_table(v, at); break;
        case GNTTABOP_query_size: rc = query_size(v, at); break;
        case GNTTABOP_get_version: rc = get_version(v, at); break;
        default: rc = set_version(v, at); break;
        }
    }
    return rc;
}

/* ---- the back ends' side ------------------------------------------------------------------- */

/* The guest may take the grant back at any moment before its flags say that the frame
 * is read or written: so they change only by comparing. */
static bool claim(struct grant_entry_v1 *g, bool write, uint64_t *mfn)
{
    union {
        struct {
            uint16_t flags;
            domid_t domid;
        };
        uint32_t word;
    } was, now;
    uint32_t *word = (uint32_t *)g;
    was.word = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do {
        if ((was.flags & GTF_type_mask) != GTF_permit_access || was.domid != BACK_END ||
            (write && was.flags & GTF_readonly))
            return false;
        *mfn = __atomic_load_n(&g->frame, __ATOMIC_SEQ_CST);
        now.word = was.word;
        now.flags |= GTF_reading | (write ? GTF_writing : 0);
    } while (!__atomic_compare_exchange_n(word, &was.word, now.word, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    return true;
}

void *pv_grant_map(struct pv_domain *d, uint32_t ref, bool write, uint64_t *gpa)
{
    uint64_t mfn;
    void *p = NULL;
    if (ref >= GRANTS_MAX)
        return NULL;
    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->grant_lock);
    uint32_t *pins = &d->grant_pins[ref];
    if (ref < d->grant_frames * GRANTS_PER_FRAME && (*pins & 0xffff) < UINT16_MAX &&
        claim(entry(d, ref), write, &mfn)) {
        int rc = write ? pv_frame_get_type(d, mfn, TYPE_WRITABLE) : pv_frame_get(d, mfn);
        if (!rc) {
            p = pv_frame_ptr(d, mfn);
            *gpa = mfn << 12;
            *pins += write ? 0x10001 : 1; /* all, and in the upper half those that write */
        } else if (!*pins) {
            __atomic_fetch_and(&entry(d, ref)->flags, (uint16_t) ~(GTF_reading | GTF_writing),
                               __ATOMIC_SEQ_CST);
        }
    }
    pthread_mutex_unlock(&d->grant_lock);
    pthread_mutex_unlock(&d->lock);
    return p;
}

void pv_grant_unmap(struct pv_domain *d, uint32_t ref, bool write, uint64_t gpa)
{
    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->grant_lock);
    uint32_t *pins = &d->grant_pins[ref];
    uint16_t gone = 0;
    *pins -= write ? 0x10001 : 1;
    if (!(*pins & 0xffff))
        gone |= GTF_reading;
    if (!(*pins >> 16))
        gone |= GTF_writing;
    if (gone)
        __atomic_fetch_and(&entry(d, ref)->flags, (uint16_t)~gone, __ATOMIC_SEQ_CST);
    if (write)
        pv_frame_put_type(d, gpa >> 12);
    else
        pv_frame_put(d, gpa >> 12);
    pthread_mutex_unlock(&d->grant_lock);
    pthread_mutex_unlock(&d->lock);
}
