/* SPDX-License-Identifier: MIT
 * Grant tables: the back ends' side. The guest may take a grant back at any moment before
 * it can see that the frame is in use. In version 1 that is said by the same word, which
 * so changes only by comparing; in version 2 by a word apart, so what was granted is looked
 * at once more after that was set. */
#include "domain.h"

union head { /* the first word of an entry, of either version */
    struct {
        uint16_t flags;
        domid_t domid;
    };
    uint32_t word;
};
struct lent {
    uint64_t mfn;
    uint32_t off, len;
};

static grant_status_t *status_of(const struct pv_domain *d, uint32_t ref)
{
    return &d->status[ref / STATUS_PER_FRAME][ref % STATUS_PER_FRAME];
}

static struct grant_entry_v1 *entry_v1(const struct pv_domain *d, uint32_t ref)
{
    return &d->grant[ref / GRANTS_PER_FRAME][ref % GRANTS_PER_FRAME];
}

static bool in_table(const struct pv_domain *d, uint32_t ref)
{
    return ref < d->grant_frames * (d->grant_version == 1 ? GRANTS_PER_FRAME : GRANTS_V2_PER_FRAME);
}

/* All uses in the lower half, and in the upper one those that write. */
static uint16_t use_of(uint32_t pins)
{
    return (uint16_t)((pins & 0xffff ? GTF_reading : 0) | (pins >> 16 ? GTF_writing : 0));
}

void pv_grant_show_use(struct pv_domain *d, uint32_t ref)
{
    const uint16_t all = GTF_reading | GTF_writing, use = use_of(d->grant_pins[ref]);
    uint16_t *at = d->grant_version == 1 ? &entry_v1(d, ref)->flags : status_of(d, ref);
    __atomic_fetch_and(at, (uint16_t) ~(all & ~use), __ATOMIC_SEQ_CST);
    __atomic_fetch_or(at, use, __ATOMIC_SEQ_CST);
}

/* ---- what is granted ------------------------------------------------------------------- */

static bool permits(union head h, bool write)
{
    return (h.flags & GTF_type_mask) == GTF_permit_access && h.domid == BACK_END &&
           !(write && h.flags & GTF_readonly);
}

static bool claim_v1(struct grant_entry_v1 *g, bool write, struct lent *l)
{
    union head was, now;
    uint32_t *word = (uint32_t *)g;
    *l = (struct lent){.len = PAGE};
    was.word = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do {
        if (!permits(was, write))
            return false;
        l->mfn = __atomic_load_n(&g->frame, __ATOMIC_SEQ_CST);
        now.word = was.word;
        now.flags |= GTF_reading | (write ? GTF_writing : 0);
    } while (!__atomic_compare_exchange_n(word, &was.word, now.word, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    return true;
}

/* Transitive ones would lead to what another domain granted this one; there is none that
 * could have. */
static bool look_v2(const union grant_entry_v2 *g, bool write, bool part, struct lent *l)
{
    union head h;
    h.word = __atomic_load_n((const uint32_t *)g, __ATOMIC_SEQ_CST);
    if (!permits(h, write))
        return false;
    *l = (struct lent){.len = PAGE, .mfn = __atomic_load_n(&g->full_page.frame, __ATOMIC_SEQ_CST)};
    if (!(h.flags & GTF_sub_page))
        return true;
    l->off = __atomic_load_n(&g->sub_page.page_off, __ATOMIC_SEQ_CST);
    l->len = __atomic_load_n(&g->sub_page.length, __ATOMIC_SEQ_CST);
    return part && l->off + l->len <= PAGE;
}

static bool claim_v2(struct pv_domain *d, uint32_t ref, bool write, bool part, struct lent *l)
{
    const union grant_entry_v2 *g = pv_grant_v2(d, ref);
    if (!look_v2(g, write, part, l))
        return false;
    __atomic_fetch_or(status_of(d, ref), (uint16_t)(GTF_reading | (write ? GTF_writing : 0)),
                      __ATOMIC_SEQ_CST);
    if (look_v2(g, write, part, l))
        return true;
    pv_grant_show_use(d, ref);
    return false;
}

/* ---- use -------------------------------------------------------------------------------- */

/* With both locks. */
static bool begin(struct pv_domain *d, uint32_t ref, bool write, bool part, struct lent *l)
{
    if (!in_table(d, ref) || (d->grant_pins[ref] & 0xffff) == UINT16_MAX)
        return false;
    if (d->grant_version == 1 ? !claim_v1(entry_v1(d, ref), write, l)
                              : !claim_v2(d, ref, write, part, l))
        return false;
    if (write ? pv_frame_get_type(d, l->mfn, TYPE_WRITABLE) : pv_frame_get(d, l->mfn)) {
        pv_grant_show_use(d, ref);
        return false;
    }
    d->grant_pins[ref] += write ? 0x10001 : 1;
    return true;
}

/* A frame that the guest lends, all of it or, if `part` does, less. */
static bool borrow(struct pv_domain *d, uint32_t ref, bool write, bool part, struct lent *l)
{
    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->grant_lock);
    bool ok = begin(d, ref, write, part, l);
    pthread_mutex_unlock(&d->grant_lock);
    pthread_mutex_unlock(&d->lock);
    return ok;
}

void *pv_grant_map(struct pv_domain *d, uint32_t ref, bool write, uint64_t *gpa)
{
    struct lent l;
    if (!borrow(d, ref, write, false, &l))
        return NULL;
    *gpa = l.mfn << 12;
    return pv_frame_ptr(d, l.mfn);
}

void pv_grant_unmap(struct pv_domain *d, uint32_t ref, bool write, uint64_t gpa)
{
    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->grant_lock);
    d->grant_pins[ref] -= write ? 0x10001 : 1;
    pv_grant_show_use(d, ref);
    if (write)
        pv_frame_put_type(d, gpa >> 12);
    else
        pv_frame_put(d, gpa >> 12);
    pthread_mutex_unlock(&d->grant_lock);
    pthread_mutex_unlock(&d->lock);
}

bool pv_grant_copy(struct pv_domain *d, uint32_t ref, bool write, uint32_t off, void *buf,
                   uint32_t n)
{
    struct lent l;
    if (!borrow(d, ref, write, true, &l))
        return false;
    bool ok = off >= l.off && off <= l.off + l.len && n <= l.off + l.len - off;
    uint8_t *page = pv_frame_ptr(d, l.mfn);
    if (ok && write)
        memcpy(page + off, buf, n);
    else if (ok)
        memcpy(buf, page + off, n);
    pv_grant_unmap(d, ref, write, l.mfn << 12);
    return ok;
}
