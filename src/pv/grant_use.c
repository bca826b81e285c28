/* SPDX-License-Identifier: MIT
 * Grant tables: the side of who maps, a back end or the guest itself. The guest may take a grant
 * back at any moment before it can see that the frame is in use. In version 1 that is said by the
 * same word, which so changes only by comparing; in version 2 by a word apart, so what was granted
 * is looked at once more after that was set. */
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

static uint16_t use_of(const struct pv_pin *p)
{
    return (uint16_t)((p->all ? GTF_reading : 0) | (p->writers ? GTF_writing : 0));
}

void pv_grant_show_use(struct pv_domain *d, uint32_t ref)
{
    const uint16_t all = GTF_reading | GTF_writing, use = use_of(&d->grant_pins[ref]);
    uint16_t *at = d->grant_version == 1 ? &entry_v1(d, ref)->flags : status_of(d, ref);
    __atomic_fetch_and(at, (uint16_t) ~(all & ~use), __ATOMIC_SEQ_CST);
    __atomic_fetch_or(at, use, __ATOMIC_SEQ_CST);
}

/* ---- what is granted ------------------------------------------------------------------- */

struct use { /* what is wanted of it */
    domid_t who;
    bool write;
    bool part; /* what is granted may be less than a frame */
};

static bool permits(union head h, const struct use *u)
{
    return (h.flags & GTF_type_mask) == GTF_permit_access && h.domid == u->who &&
           !(u->write && h.flags & GTF_readonly);
}

static bool claim_v1(struct grant_entry_v1 *g, const struct use *u, struct lent *l)
{
    union head was, now;
    uint32_t *word = (uint32_t *)g;
    *l = (struct lent){.len = PAGE};
    was.word = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do {
        if (!permits(was, u))
            return false;
        l->mfn = __atomic_load_n(&g->frame, __ATOMIC_SEQ_CST);
        now.word = was.word;
        now.flags |= GTF_reading | (u->write ? GTF_writing : 0);
    } while (!__atomic_compare_exchange_n(word, &was.word, now.word, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    return true;
}

/* Transitive ones would lead to what another domain granted this one; there is none that
 * could have. */
static bool look_v2(const union grant_entry_v2 *g, const struct use *u, struct lent *l)
{
    union head h;
    h.word = __atomic_load_n((const uint32_t *)g, __ATOMIC_SEQ_CST);
    if (!permits(h, u))
        return false;
    *l = (struct lent){.len = PAGE, .mfn = __atomic_load_n(&g->full_page.frame, __ATOMIC_SEQ_CST)};
    if (!(h.flags & GTF_sub_page))
        return true;
    l->off = __atomic_load_n(&g->sub_page.page_off, __ATOMIC_SEQ_CST);
    l->len = __atomic_load_n(&g->sub_page.length, __ATOMIC_SEQ_CST);
    return u->part && l->off + l->len <= PAGE;
}

static bool claim_v2(struct pv_domain *d, uint32_t ref, const struct use *u, struct lent *l)
{
    const union grant_entry_v2 *g = pv_grant_v2(d, ref);
    if (!look_v2(g, u, l))
        return false;
    __atomic_fetch_or(status_of(d, ref), (uint16_t)(GTF_reading | (u->write ? GTF_writing : 0)),
                      __ATOMIC_SEQ_CST);
    if (look_v2(g, u, l))
        return true;
    pv_grant_show_use(d, ref);
    return false;
}

/* ---- use -------------------------------------------------------------------------------- */

/* With grant_lock. The guest sees it in use: pin or show_use follow. GNTST_*. */
static int16_t claim(struct pv_domain *d, uint32_t ref, const struct use *u, struct lent *l)
{
    if (!in_table(d, ref))
        return GNTST_bad_gntref;
    const struct pv_pin *p = &d->grant_pins[ref];
    if (p->all == UINT16_MAX || (p->all && p->who != u->who))
        return GNTST_general_error;
    bool ok = d->grant_version == 1 ? claim_v1(entry_v1(d, ref), u, l) : claim_v2(d, ref, u, l);
    return ok ? GNTST_okay : GNTST_general_error;
}

static void pin(struct pv_domain *d, uint32_t ref, const struct use *u)
{
    struct pv_pin *p = &d->grant_pins[ref];
    p->who = u->who;
    p->all++;
    p->writers = (uint16_t)(p->writers + u->write);
}

void pv_grant_unpin(struct pv_domain *d, uint32_t ref, bool write)
{
    struct pv_pin *p = &d->grant_pins[ref];
    p->all--;
    p->writers = (uint16_t)(p->writers - write);
    pv_grant_show_use(d, ref);
}

int pv_grant_hold(struct pv_domain *d, uint64_t mfn, bool write)
{
    return write ? pv_frame_get_type(d, mfn, TYPE_WRITABLE) : pv_frame_get(d, mfn);
}

void pv_grant_let_go(struct pv_domain *d, uint64_t mfn, bool write)
{
    if (write)
        pv_frame_put_type(d, mfn);
    else
        pv_frame_put(d, mfn);
}

int16_t pv_grant_claim(struct pv_domain *d, uint32_t ref, bool write, uint64_t *mfn)
{
    const struct use u = {.who = OWN_DOMID, .write = write};
    struct lent l;
    int16_t status = claim(d, ref, &u, &l);
    if (status)
        return status;
    *mfn = l.mfn;
    pin(d, ref, &u);
    if (pv_frame_ok(d, l.mfn))
        return GNTST_okay;
    pv_grant_unpin(d, ref, write);
    return GNTST_bad_page;
}

/* ---- back ends -------------------------------------------------------------------------- */

/* With both locks. */
static bool begin(struct pv_domain *d, uint32_t ref, const struct use *u, struct lent *l)
{
    if (claim(d, ref, u, l))
        return false;
    if (pv_grant_hold(d, l->mfn, u->write)) {
        pv_grant_show_use(d, ref);
        return false;
    }
    pin(d, ref, u);
    return true;
}

/* A frame that the guest lends, all of it or, if `part` does, less. */
static bool borrow(struct pv_domain *d, uint32_t ref, bool write, bool part, struct lent *l)
{
    const struct use u = {.who = BACK_END, .write = write, .part = part};
    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->grant_lock);
    bool ok = begin(d, ref, &u, l);
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
    pv_grant_unpin(d, ref, write);
    pv_grant_let_go(d, gpa >> 12, write);
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
