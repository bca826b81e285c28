/* SPDX-License-Identifier: MIT
 * What vCPUs remember of translations, and when it is no longer true. Every change to a
 * page table comes by here, so a flush that a guest asks for forgets only what has changed,
 * and a change of roots keeps what is known of others: up to PV_SPACES address spaces. */
#include "domain.h"
#include <sched.h>

void pv_lock(struct pv_vcpu *v)
{
    pthread_mutex_lock(&v->d->lock);
    v->d->cur = v;
}

void pv_unlock(struct pv_vcpu *v)
{
    v->d->cur = NULL;
    pthread_mutex_unlock(&v->d->lock);
}

/* ---- changes -------------------------------------------------------------------------- */

/* Does all that was allowed by the one entry stay so by the other, but for these bits? */
static bool keeps(uint64_t old, uint64_t now, uint64_t but)
{
    const uint64_t kept = (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D) & ~but;
    return !((old ^ now) & PTE_FRAME) && !(old & ~now & kept) && !(now & ~old & PTE_NX);
}

static bool wider(uint64_t old, uint64_t now)
{
    return keeps(old, now, 0);
}

static enum pv_forget forget_what(uint64_t old, uint64_t now)
{
    if (keeps(old, now, PTE_W | PTE_D))
        return PV_FORGET_WRITES;
    return old & PTE_NX ? PV_FORGET_DATA : PV_FORGET_ALL;
}

static void add(struct pv_changes *changes, uint64_t page, uint64_t root, uint64_t tick)
{
    changes->at[changes->n++ % CHANGES] = (struct pv_change){page, root, tick};
}

static void entry_changed(struct pv_domain *d, const struct pv_entry *where, uint64_t old,
                          uint64_t now)
{
    uint64_t word = atomic_load(&d->seen[where->mfn]);
    if (!word)
        return;
    d->tick++;
    uint64_t page = pv_seen_linear(word) | (uint64_t)where->i << 12 | forget_what(old, now);
    if (word & PV_SEEN_MANY) {
        d->any_change = d->tick;
    } else if (pv_seen_upper(word)) {
        add(&d->upper, page, FRAME_NR, d->tick);
    } else {
        add(&d->lower, page, pv_seen_root(word), d->tick);
        d->page[pv_seen_root(word)].stamp = d->tick;
    }
}

static bool empty(const uint64_t *table)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < 512; i++)
        all |= __atomic_load_n(&table[i], __ATOMIC_RELAXED);
    return !(all & PTE_P);
}

/* What was cached from the tables below an entry of a higher level. Guests take their
 * mappings away one by one before they take the tables: of those that are empty all is
 * known. *left: tables that may still be looked at. */
static void below_changed(struct pv_domain *d, unsigned level, uint64_t e, unsigned *left)
{
    const uint64_t *t = pv_frame_ptr(d, PTE_MFN(e));
    uint64_t word = atomic_load(&d->seen[PTE_MFN(e)]);
    if (level == 2) {
        if (!word || empty(t))
            return;
        d->tick++;
        if (word & PV_SEEN_MANY || pv_seen_upper(word))
            d->any_change = d->tick;
        else
            d->page[pv_seen_root(word)].stamp = d->tick;
        return;
    }
    for (unsigned i = 0; i < 512 && *left; i++) {
        uint64_t below = __atomic_load_n(&t[i], __ATOMIC_RELAXED);
        if (below & PTE_P && --*left)
            below_changed(d, level - 1, below, left);
    }
}

/* The engine notes what it caches before it reads the entry anew, so either its note is
 * seen here or it saw the change. */
void pv_changed(struct pv_domain *d, const struct pv_entry *where, uint64_t old, uint64_t now)
{
    unsigned left = 64;
    if (wider(old, now))
        return;
    if (where->level == 1) {
        entry_changed(d, where, old, now);
        return;
    }
    below_changed(d, where->level, old, &left);
    if (!left)
        d->any_change = ++d->tick;
}

/* ---- forgetting ----------------------------------------------------------------------------- */

/* Nothing is remembered any more. */
static void is_flushed(struct pv_vcpu *v)
{
    struct pv_domain *d = v->d;
    for (unsigned i = 0; i < PV_SPACES; i++) {
        v->space[i].synced = d->tick;
        v->space[i].changes_seen = d->lower.n;
    }
    v->synced = d->tick;
    v->changes_seen = d->upper.n;
    atomic_store(&v->user_stale, false);
    v->space[v->in_space].user_mfn = v->user_mfn;
}

void pv_flush(struct pv_vcpu *v)
{
    v->d->eng->flush(v->bc);
    is_flushed(v);
}

static void apply(struct pv_vcpu *v, const struct pv_change *change)
{
    v->d->eng->flush_page(v->bc, change->page & ~(PAGE - 1),
                          (enum pv_forget)(change->page & (PAGE - 1)));
}

/* Was the frame of its root for user mode something else since? */
static bool user_gone(const struct pv_domain *d, const struct pv_space *s)
{
    return s->user_mfn != FRAME_NR && d->page[s->user_mfn].stamp > s->synced;
}

/* Forgets of the space's lower half what has changed, page by page. false: that is not known,
 * or too much. */
static bool space_follow(struct pv_vcpu *v, const struct pv_space *s)
{
    const struct pv_domain *d = v->d;
    uint64_t stamp = d->page[s->kernel_mfn].stamp, last = 0;
    if (user_gone(d, s))
        return false;
    if (stamp <= s->synced)
        return true;
    if (d->lower.n - s->changes_seen > CHANGES)
        return false;
    for (uint64_t n = s->changes_seen; n != d->lower.n; n++)
        if (d->lower.at[n % CHANGES].root == s->kernel_mfn)
            last = d->lower.at[n % CHANGES].tick;
    if (last != stamp)
        return false;
    for (uint64_t n = s->changes_seen; n != d->lower.n; n++)
        if (d->lower.at[n % CHANGES].root == s->kernel_mfn)
            apply(v, &d->lower.at[n % CHANGES]);
    return true;
}

/* fresh: what was remembered of its lower half is no longer true. */
static void enter(struct pv_vcpu *v, bool fresh)
{
    struct pv_space *s = &v->space[v->in_space];
    v->d->eng->space(v->bc, v->in_space, v->kernel_mfn, fresh);
    s->synced = v->d->tick;
    s->changes_seen = v->d->lower.n;
    if (fresh) {
        s->user_mfn = v->user_mfn;
        atomic_store(&v->user_stale, false);
    }
}

/* Of all spaces the upper half. */
static void sync_upper(struct pv_vcpu *v)
{
    struct pv_domain *d = v->d;
    if (d->any_change > v->synced || d->upper.n - v->changes_seen > CHANGES) {
        pv_flush(v);
        return;
    }
    for (; v->changes_seen != d->upper.n; v->changes_seen++)
        apply(v, &d->upper.at[v->changes_seen % CHANGES]);
}

void pv_sync(struct pv_vcpu *v)
{
    const struct pv_space *s = &v->space[v->in_space];
    if (v->synced == v->d->tick)
        return;
    sync_upper(v);
    if (s->kernel_mfn != FRAME_NR)
        enter(v, !space_follow(v, s));
    v->synced = v->d->tick;
}

/* A hook stores to where its walk led: one that began before may be about to. */
static void wait_stores(const struct pv_domain *d)
{
    for (unsigned i = 0; i < d->host.ncpu; i++)
        while (&d->vcpu[i] != d->cur && atomic_load(&d->vcpu[i].storing))
            sched_yield();
}

void pv_flush_everywhere(struct pv_domain *d)
{
    if (d->cur) {
        d->eng->flush(d->cur->bc);
        d->eng->flush_others(d->cur->bc, UINT64_MAX);
    } else {
        d->eng->flush_all(d->host.bvm);
    }
    wait_stores(d);
    for (unsigned i = 0; i < d->host.ncpu; i++)
        is_flushed(&d->vcpu[i]);
}

/* Before a frame that was writable becomes something else: no vCPU may remember the old
 * mapping. Before one that was a table does: no other vCPU's walk may still be in it. A
 * vCPU that is not up remembers nothing. */
void pv_forget_uses(struct pv_domain *d, uint64_t mfn)
{
    const struct pv_page *p = &d->page[mfn];
    uint64_t others = 0;
    if (p->type == TYPE_WRITABLE || pv_is_table(p->type)) {
        for (unsigned i = 0; i < d->host.ncpu; i++) {
            struct pv_vcpu *v = &d->vcpu[i];
            if (!atomic_load(&v->up) || v->synced >= p->stamp)
                continue;
            if (v == d->cur)
                pv_sync(v);
            else
                others |= BIT64(i);
        }
        if (others && !d->cur)
            pv_flush_everywhere(d);
        else if (others)
            d->eng->flush_others(d->cur->bc, others);
        wait_stores(d);
        for (; others; others &= others - 1)
            is_flushed(&d->vcpu[__builtin_ctzll(others)]);
    }
    atomic_store(&d->seen[mfn], 0);
}

/* ---- roots -------------------------------------------------------------------------------------
 */

/* Is the kernel's half the same under both roots? Then what is remembered of it without a
 * space stays true. */
static bool same_upper(const struct pv_domain *d, uint64_t a, uint64_t b)
{
    const uint64_t *x = pv_frame_ptr(d, a), *y = pv_frame_ptr(d, b), ad = PTE_A | PTE_D;
    uint64_t differs = 0;
    for (unsigned i = 256; i < 512; i++)
        differs |=
            (__atomic_load_n(&x[i], __ATOMIC_RELAXED) ^ __atomic_load_n(&y[i], __ATOMIC_RELAXED)) &
            ~ad;
    return !differs;
}

/* The one of that root, or the one that was not used for longest. */
static unsigned find(const struct pv_vcpu *v, uint64_t root)
{
    unsigned oldest = 0;
    for (unsigned i = 0; i < PV_SPACES; i++) {
        if (v->space[i].kernel_mfn == root)
            return i;
        if (v->space[i].used < v->space[oldest].used)
            oldest = i;
    }
    return oldest;
}

/* Two calls set the two roots, so what is remembered of user mode is looked at last. */
void pv_space_user(struct pv_vcpu *v)
{
    const struct pv_space *s = &v->space[v->in_space];
    atomic_store(&v->user_stale, s->user_mfn != v->user_mfn || user_gone(v->d, s));
}

void pv_space_ready(struct pv_vcpu *v)
{
    if (!atomic_load(&v->user_stale))
        return;
    pv_lock(v);
    if (atomic_load(&v->user_stale))
        enter(v, true);
    pv_unlock(v);
}

void pv_space_enter(struct pv_vcpu *v)
{
    struct pv_domain *d = v->d;
    uint64_t before = v->space[v->in_space].kernel_mfn;
    sync_upper(v);
    if (before == FRAME_NR || !same_upper(d, before, v->kernel_mfn))
        pv_flush(v);
    v->in_space = find(v, v->kernel_mfn);
    struct pv_space *s = &v->space[v->in_space];
    bool fresh = s->kernel_mfn != v->kernel_mfn || !space_follow(v, s);
    s->kernel_mfn = v->kernel_mfn;
    s->used = ++v->space_clock;
    enter(v, fresh);
    pv_space_user(v);
    v->synced = d->tick;
}
