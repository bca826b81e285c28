/* SPDX-License-Identifier: MIT
 * Filling and flushing the soft TLB (SDM 4.10). A flush may drop more than the
 * manual asks for, never less. */
#include "tlb.h"
#include "block.h"
#include "../pv_engine.h"
#include "../../base/pages.h"
#include "jit/jit.h"

#define ALL_KINDS (BIT(TLB_KINDS) - 1)

static void set_clear(struct tlb_set *s)
{
    for (unsigned k = 0; k < TLB_KINDS; k++)
        for (unsigned i = 0; i < TLB_N; i++)
            s->e[k][i].tag = TLB_NONE(i);
}

/* ---- forgetting --------------------------------------------------------------------- */

/* The place of a page in the filter: sixteen neighbours have bits of their own. */
static unsigned evicted_bit(uint64_t lin)
{
    uint64_t page = lin >> 12;
    return (unsigned)((page ^ (page >> 4) * 0x9e3779b97f4a7c15u >> 52 << 4) &
                      (TLB_EVICTED_BITS - 1));
}

static void evicted_add(struct tlb_evicted *v, uint64_t lin)
{
    unsigned bit = evicted_bit(lin);
    v->some = true;
    v->bits[bit / 64] |= BIT64(bit % 64);
}

static bool evicted_has(const struct tlb_evicted *v, uint64_t lin)
{
    unsigned bit = evicted_bit(lin);
    return v->some && v->bits[bit / 64] >> bit % 64 & 1;
}

static void new_gen(struct tlb *t, struct tlb_group *g)
{
    g->gen = ++t->gen;
    if (g->evicted.some)
        g->evicted = (struct tlb_evicted){0};
}

static void group_clear(struct tlb *t, struct tlb_group *g)
{
    g->large[0] = g->large[1] = TLB_NO_HULL;
    new_gen(t, g);
}

static void set_flush(struct tlb_set *s, struct tlb_log *log)
{
    if (log->n > TLB_LOG) {
        set_clear(s);
    } else {
        for (unsigned n = 0; n < log->n; n++) {
            unsigned i = log->at[n] & (TLB_N - 1);
            s->e[log->at[n] >> TLB_BITS][i].tag = TLB_NONE(i);
        }
    }
    log->n = 0;
}

static void slot_flush(struct tlb *t, struct tlb_slot *s)
{
    set_flush(&s->set, &s->log);
    group_clear(t, &s->group);
}

static void kernel_flush(struct tlb *t, unsigned p)
{
    set_flush(&t->kernel[p], &t->log[p]);
    t->own[p].n = 0;
}

static void kernels_flush(struct tlb *t)
{
    for (unsigned p = 0; p < TLB_KERNELS; p++)
        kernel_flush(t, p);
    group_clear(t, &t->group);
    t->own_x = false;
}

static void drop_own(struct tlb_set *s, unsigned k, unsigned i)
{
    if ((s->how[k][i] & TLB_LOG_MASK) == TLB_LOG_OWN)
        s->e[k][i].tag = TLB_NONE(i);
}

/* Of the kernel's, what is not global. */
static void own_flush(struct tlb *t)
{
    for (unsigned p = 0; p < TLB_KERNELS; p++) {
        struct tlb_log *log = &t->own[p];
        if (log->n > TLB_LOG) {
            for (unsigned k = 0; k < TLB_KINDS; k++)
                for (unsigned i = 0; i < TLB_N; i++)
                    drop_own(&t->kernel[p], k, i);
        } else {
            for (unsigned n = 0; n < log->n; n++)
                drop_own(&t->kernel[p], log->at[n] >> TLB_BITS, log->at[n] & (TLB_N - 1));
        }
        log->n = 0;
    }
    if (t->own_x)
        new_gen(t, &t->group);
    t->own_x = false;
}

void tlb_forget_own(struct emu *c)
{
    slot_flush(c->tlbs, c->tlbs->cur);
    own_flush(c->tlbs);
    jit_slots_flush(c, false);
    c->stats.tlb_flushes++;
    jcache_retag(c);
}

void tlb_new_gens(struct emu *c)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        new_gen(c->tlbs, &c->tlbs->slot[i].group);
    new_gen(c->tlbs, &c->tlbs->group);
}

/* ---- life --------------------------------------------------------------------------- */

int tlb_new(struct emu *c)
{
    struct tlb *t = pages_new(sizeof *t);
    if (!t)
        return VC_ENOMEM;
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        t->slot[i].log.n = TLB_LOG + 1; /* to be cleared when it becomes live */
    t->log[0].n = t->log[1].n = TLB_LOG + 1;
    slot_flush(t, &t->slot[0]);
    kernels_flush(t);
    set_clear(&t->never);
    t->cur = &t->slot[0];
    t->cur->live = true;
    c->tlbs = t;
    c->tlb = &t->never;
    return 0;
}

void tlb_free(struct emu *c)
{
    pages_free(c->tlbs, sizeof *c->tlbs);
    c->tlbs = NULL;
}

enum tlb_priv tlb_priv(const struct emu *c)
{
    if (c->cpl == 3)
        return c->pv_kernel ? TLB_PV_KERNEL : TLB_USER;
    return c->rflags & FL_AC ? TLB_KERNEL_AC : TLB_KERNEL;
}

/* ---- filling ------------------------------------------------------------------------ */

/* Notes what is about to be cached. false: nobody could know of it until now, and what was
 * read may have changed before. */
static bool note_seen(struct emu *c, uint64_t lin, uint64_t entry)
{
    uint64_t word = pv_seen_word(c->pv_root, lin), was;
    if (entry >> 12 >= c->env->pv_seen_n)
        return true;
    _Atomic uint64_t *at = &c->env->pv_seen[entry >> 12];
    was = atomic_load(at);
    if (was == word || was & PV_SEEN_MANY)
        return true;
    atomic_compare_exchange_strong(at, &was, was ? was | PV_SEEN_MANY : word);
    return false;
}

uint32_t tlb_walk(struct emu *c, uint64_t lin, enum walk_access access, enum tlb_priv priv,
                  struct walk *w)
{
    uint32_t err;
    do
        err = mmu_walk(c->env->mem, &c->walk, lin, access, tlb_user(c, priv), priv == TLB_KERNEL_AC,
                       true, w);
    while (!err && c->env->pv_seen && !note_seen(c, lin, w->entry));
    return err;
}

/* Does the page's table map 2 MiB in a row, all to be read, and marked as accessed? Then they
 * are read as one. The table's use was noted before, so whoever changes an entry of it has
 * this forgotten. */
static bool whole(struct emu *c, const struct walk *w)
{
    const uint64_t must = BIT64(0) | BIT64(2) | BIT64(5); /* present, user, accessed */
    const uint64_t compared = 0x000ffffffffff000ull | must;
    const struct mem_region *r = mem_find(c->env->mem, w->entry & PAGE_MASK_4K);
    if (!r || w->shift != 12)
        return false;
    uint64_t i = w->entry >> 3 & 511, first = (w->gpa & PAGE_MASK_4K) - (i << 12);
    const _Atomic uint64_t *t =
        (const _Atomic uint64_t *)(r->host + ((w->entry & PAGE_MASK_4K) - r->gpa));
    for (unsigned n = 0; n < 512; n++) {
        unsigned at = n * 341 & 511; /* what differs is found soon */
        uint64_t e = atomic_load_explicit(&t[at], memory_order_relaxed);
        if ((e & compared) != ((first + ((uint64_t)at << 12)) | must))
            return false;
    }
    return i << 12 <= (w->gpa & PAGE_MASK_4K) && mem_holds(c->env->mem, first, SIZE_2M);
}

static void log_fill(struct tlb_log *log, enum tlb_kind kind, unsigned i)
{
    if (log->n < TLB_LOG)
        log->at[log->n] = (uint16_t)(kind << TLB_BITS | i);
    if (log->n <= TLB_LOG)
        log->n++;
}

/* Into which log of page checks, and of how much it is a part. */
static unsigned how_entered(struct emu *c, bool pv_upper, enum tlb_kind kind, const struct walk *w)
{
    unsigned how = w->global && c->cr4 & CR4_PGE ? TLB_LOG_GLOBAL : TLB_LOG_OWN;
    if (pv_upper)
        how = kind == TLB_R ? TLB_LOG_READS : TLB_LOG_GLOBAL;
    if (pv_upper && kind == TLB_R && w->shift == 12 && whole(c, w))
        return how | TLB_2M | TLB_WHOLE;
    if (w->shift > 12)
        how |= w->shift == 21 ? TLB_2M : TLB_HUGE;
    if (kind == TLB_R && w->shift >= 21 && mem_holds(c->env->mem, w->gpa & PAGE_MASK_2M, SIZE_2M))
        how |= TLB_WHOLE;
    return how;
}

void tlb_fill(struct emu *c, enum tlb_priv priv, enum tlb_kind kind, uint64_t lin, void *host_page,
              _Atomic uint64_t *code, const struct walk *w)
{
    struct tlb *t = c->tlbs;
    struct tlb_set *set = tlb_set(c, priv);
    struct tlb_group *group = tlb_group(c, priv);
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    uint64_t page = lin & PAGE_MASK_4K;
    struct tlb_ent *e = &set->e[kind][i];
    unsigned how = how_entered(c, c->env->pv && priv != TLB_USER && lin >> 63, kind, w);
    bool own = (how & TLB_LOG_MASK) == TLB_LOG_OWN, none = e->tag == TLB_NONE(i);

    if (priv != TLB_USER && own) {
        if (none || (set->how[kind][i] & TLB_LOG_MASK) != TLB_LOG_OWN)
            log_fill(&t->own[priv], kind, i);
        t->own_x |= kind == TLB_X;
    }
    if (none)
        log_fill(priv == TLB_USER ? &t->cur->log : &t->log[priv], kind, i);
    else if (kind == TLB_X && e->tag != page)
        evicted_add(&group->evicted, e->tag);
    e->tag = page;
    e->addend = (uint64_t)(uintptr_t)host_page - page;
    if (kind == TLB_W) {
        set->wx[i].code = code;
        set->wx[i].phys = w->gpa & PAGE_MASK_4K;
    }
    if (kind == TLB_X)
        set->xphys[i] = w->gpa & PAGE_MASK_4K;
    set->how[kind][i] = (uint8_t)how;
    if (w->shift > 12) {
        uint64_t lo = lin & ~(BIT64(w->shift) - 1);
        hull_grow(&group->large[lin >> 63], lo, lo + BIT64(w->shift) - 1);
    }
}

/* ---- flushes that the guest asks for -------------------------------------------------- */

static void user_flush(struct tlb *t)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (t->slot[i].live)
            slot_flush(t, &t->slot[i]);
}

void emu_flush_all(struct emu *c)
{
    user_flush(c->tlbs);
    kernels_flush(c->tlbs);
    c->tlbs->keys = 0;
    c->stats.tlb_flushes++;
    jit_slots_flush(c, true);
    jcache_retag(c);
}

void emu_flush_nonglobal(struct emu *c)
{
    user_flush(c->tlbs);
    own_flush(c->tlbs);
    c->stats.tlb_flushes++;
    jit_slots_flush(c, false);
    jcache_retag(c);
}

static struct tlb_slot *slot_find(struct tlb *t, uint16_t pcid)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (t->slot[i].live && t->slot[i].pcid == pcid)
            return &t->slot[i];
    return NULL;
}

void emu_flush_pcid(struct emu *c, uint16_t pcid)
{
    struct tlb_slot *s = slot_find(c->tlbs, pcid);
    if (s && s == c->tlbs->cur)
        tlb_forget_own(c);
    else if (s)
        slot_flush(c->tlbs, s);
}

/* In one set, of those kinds. Was a fetch among them? */
static bool set_flush_page(struct tlb_set *s, uint64_t lin, unsigned kinds)
{
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    bool fetch = false;
    for (unsigned k = 0; k < TLB_KINDS; k++)
        if (kinds >> k & 1 && s->e[k][i].tag == (lin & PAGE_MASK_4K)) {
            s->e[k][i].tag = TLB_NONE(i);
            fetch |= k == TLB_X;
        }
    return fetch;
}

static void slot_flush_page(struct tlb *t, struct tlb_slot *s, uint64_t lin, unsigned kinds)
{
    if (hull_has(&s->group.large[lin >> 63], lin)) {
        slot_flush(t, s);
        return;
    }
    bool fetch = set_flush_page(&s->set, lin, kinds);
    if (fetch || (kinds >> TLB_X & 1 && evicted_has(&s->group.evicted, lin)))
        new_gen(t, &s->group);
}

static void kernels_flush_page(struct tlb *t, uint64_t lin, unsigned kinds)
{
    bool fetch = kinds >> TLB_X & 1 && evicted_has(&t->group.evicted, lin);
    if (hull_has(&t->group.large[lin >> 63], lin)) {
        kernels_flush(t);
        return;
    }
    for (unsigned p = 0; p < TLB_KERNELS; p++)
        fetch |= set_flush_page(&t->kernel[p], lin, kinds);
    if (fetch)
        new_gen(t, &t->group);
}

void emu_flush_page_kinds(struct emu *c, uint64_t linear, unsigned kinds)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (c->tlbs->slot[i].live)
            slot_flush_page(c->tlbs, &c->tlbs->slot[i], linear, kinds);
    kernels_flush_page(c->tlbs, linear, kinds);
    jit_slots_flush_page(c, linear, kinds);
    jcache_retag(c);
}

void emu_flush_page(struct emu *c, uint64_t linear)
{
    emu_flush_page_kinds(c, linear, ALL_KINDS);
}

void emu_flush_page_pcid(struct emu *c, uint16_t pcid, uint64_t linear)
{
    struct tlb_slot *s = slot_find(c->tlbs, pcid);
    if (!s)
        return;
    slot_flush_page(c->tlbs, s, linear, ALL_KINDS);
    if (s == c->tlbs->cur) {
        kernels_flush_page(c->tlbs, linear, ALL_KINDS);
        jit_slots_flush_page(c, linear, ALL_KINDS);
        jcache_retag(c);
    }
}

/* ---- address spaces ------------------------------------------------------------------- */

/* That slot's from now on; what is not global of the kernel's belongs to the other. */
static void slot_enter(struct emu *c, struct tlb_slot *s)
{
    struct tlb *t = c->tlbs;
    if (!s->live)
        slot_flush(t, s);
    s->live = true;
    if (s == t->cur)
        return;
    own_flush(t);
    jit_slots_flush(c, false);
    t->cur = s;
}

void tlb_space(struct emu *c, unsigned number)
{
    slot_enter(c, &c->tlbs->slot[number]);
    emu_mode_changed(c);
}

static struct tlb_slot *slot_oldest(struct tlb *t)
{
    struct tlb_slot *s = &t->slot[0];
    for (unsigned i = 0; i < TLB_SLOTS && s->live; i++)
        if (!t->slot[i].live || t->slot[i].used < s->used)
            s = &t->slot[i];
    return s;
}

void emu_switch_cr3(struct emu *c, bool keep)
{
    struct tlb *t = c->tlbs;
    uint16_t pcid = c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;
    struct tlb_slot *s = slot_find(t, pcid);

    if (!s) {
        s = slot_oldest(t);
        s->live = false;
        s->pcid = pcid;
        keep = true; /* there is nothing */
        if (s == t->cur)
            tlb_forget_own(c);
    }
    slot_enter(c, s);
    if (!keep)
        tlb_forget_own(c);
    s->used = ++t->clock;
    emu_mode_changed(c);
}
