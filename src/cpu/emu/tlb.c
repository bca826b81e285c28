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

static void priv_flush(struct tlb_slot *s, enum tlb_priv p)
{
    struct tlb_log *log = &s->log[p];
    if (log->n > TLB_LOG) {
        set_clear(&s->set[p]);
    } else {
        for (unsigned n = 0; n < log->n; n++) {
            unsigned i = log->at[n] & (TLB_N - 1);
            s->set[p].e[log->at[n] >> TLB_BITS][i].tag = TLB_NONE(i);
        }
    }
    log->n = 0;
}

static void new_gens(struct tlb *t, struct tlb_slot *s)
{
    s->gen[0] = ++t->gen;
    s->gen[1] = ++t->gen;
    t->pv_gen = ++t->gen;
}

static void slot_flush(struct tlb *t, struct tlb_slot *s)
{
    for (unsigned p = 0; p < TLB_PRIVS - 1; p++)
        priv_flush(s, (enum tlb_priv)p);
    s->lower.n = 0;
    s->lower_x = false;
    s->large[0] = s->large[1] = TLB_NO_HULL;
    new_gens(t, s);
    s->x_evicted = false;
}

void tlb_forget_implicit(struct emu *c)
{
    priv_flush(c->tlbs->cur, TLB_KERNEL);
}

/* The upper half's entries stay: the kernel's, in all address spaces. */
static void lower_flush(struct tlb_slot *s)
{
    struct tlb_set *set = &s->set[TLB_PV_KERNEL];
    if (s->lower.n > TLB_LOG) {
        for (unsigned k = 0; k < TLB_KINDS; k++)
            for (unsigned i = 0; i < TLB_N; i++)
                if (!(set->e[k][i].tag >> 63))
                    set->e[k][i].tag = TLB_NONE(i);
    } else {
        for (unsigned n = 0; n < s->lower.n; n++) {
            unsigned i = s->lower.at[n] & (TLB_N - 1);
            struct tlb_ent *e = &set->e[s->lower.at[n] >> TLB_BITS][i];
            if (!(e->tag >> 63))
                e->tag = TLB_NONE(i);
        }
    }
    s->lower.n = 0;
}

void tlb_forget_lower(struct emu *c)
{
    struct tlb *t = c->tlbs;
    struct tlb_slot *s = t->cur;
    priv_flush(s, TLB_USER);
    priv_flush(s, TLB_KERNEL);
    lower_flush(s);
    s->gen[1] = ++t->gen;
    if (s->lower_x)
        t->pv_gen = ++t->gen;
    s->lower_x = false;
    jit_slots_flush(c, false);
    c->stats.tlb_flushes++;
    jcache_retag(c);
}

void tlb_space(struct emu *c, unsigned number)
{
    struct tlb *t = c->tlbs;
    struct tlb_slot *s = &t->slot[number];
    if (s == t->cur)
        return;
    if (!s->live) {
        uint64_t kernels = t->pv_gen;
        slot_flush(t, s);
        t->pv_gen = kernels;
    }
    s->live = true;
    priv_flush(s, TLB_KERNEL);
    jit_slots_flush(c, false);
    t->cur = s;
    emu_mode_changed(c);
}

void tlb_new_gens(struct emu *c)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        new_gens(c->tlbs, &c->tlbs->slot[i]);
}

int tlb_new(struct emu *c)
{
    struct tlb *t = pages_new(sizeof *t);
    if (!t)
        return VC_ENOMEM;
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        for (unsigned p = 0; p < TLB_PRIVS - 1; p++)
            t->slot[i].log[p].n = TLB_LOG + 1; /* to be cleared when it becomes live */
    slot_flush(t, &t->slot[0]);
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

uint64_t tlb_gen(const struct emu *c)
{
    const struct tlb *t = c->tlbs;
    if (tlb_priv(c) == TLB_USER)
        return t->cur->gen[1];
    return c->env->pv ? t->pv_gen : t->cur->gen[0];
}

enum tlb_priv tlb_priv(const struct emu *c)
{
    if (c->cpl == 3)
        return c->pv_kernel ? TLB_PV_KERNEL : TLB_USER;
    return c->rflags & FL_AC ? TLB_KERNEL_AC : TLB_KERNEL;
}

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

void tlb_fill(struct emu *c, enum tlb_priv priv, enum tlb_kind kind, uint64_t lin, void *host_page,
              _Atomic uint64_t *code, const struct walk *w)
{
    struct tlb_slot *s = c->tlbs->cur;
    struct tlb_set *set = &s->set[priv];
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    uint64_t page = lin & PAGE_MASK_4K;
    struct tlb_ent *e = &set->e[kind][i];

    bool pv_kernel = c->env->pv && priv == TLB_PV_KERNEL;
    if (pv_kernel && !(lin >> 63)) {
        if (e->tag == TLB_NONE(i) || e->tag >> 63)
            log_fill(&s->lower, kind, i);
        s->lower_x |= kind == TLB_X;
    }
    if (e->tag == TLB_NONE(i)) {
        log_fill(&s->log[priv], kind, i);
    } else if (kind == TLB_X && e->tag != page) {
        s->x_evicted = true;
    }
    e->tag = page;
    e->addend = (uint64_t)(uintptr_t)host_page - page;
    if (kind == TLB_W) {
        set->wx[i].code = code;
        set->wx[i].phys = w->gpa & PAGE_MASK_4K;
    }
    if (kind == TLB_X)
        set->xphys[i] = w->gpa & PAGE_MASK_4K;
    unsigned how = w->global && c->cr4 & CR4_PGE ? TLB_LOG_GLOBAL : TLB_LOG_OWN;
    if (pv_kernel && lin >> 63)
        how = kind != TLB_R ? TLB_LOG_GLOBAL
              : whole(c, w) ? TLB_LOG_READS | TLB_2M | TLB_WHOLE
                            : TLB_LOG_READS;
    if (w->shift > 12)
        how |= w->shift == 21 ? TLB_2M : TLB_HUGE;
    if (kind == TLB_R && w->shift >= 21 && mem_holds(c->env->mem, w->gpa & PAGE_MASK_2M, SIZE_2M))
        how |= TLB_WHOLE;
    set->how[kind][i] = (uint8_t)how;
    if (w->shift > 12) {
        uint64_t lo = lin & ~(BIT64(w->shift) - 1);
        hull_grow(&s->large[lin >> 63], lo, lo + BIT64(w->shift) - 1);
    }
}

void emu_flush_all(struct emu *c)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (c->tlbs->slot[i].live)
            slot_flush(c->tlbs, &c->tlbs->slot[i]);
    c->tlbs->keys = 0;
    c->stats.tlb_flushes++;
    jit_slots_flush(c, true);
    jcache_retag(c);
}

/* Global translations live in the slots of each PCID, so nothing is kept. */
void emu_flush_nonglobal(struct emu *c)
{
    emu_flush_all(c);
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
    if (s)
        slot_flush(c->tlbs, s);
    if (s == c->tlbs->cur)
        jit_slots_flush(c, false);
    c->stats.tlb_flushes++;
    jcache_retag(c);
}

static void slot_flush_page(struct tlb *t, struct tlb_slot *s, uint64_t lin, unsigned kinds)
{
    if (hull_has(&s->large[lin >> 63], lin)) {
        slot_flush(t, s);
        return;
    }
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    for (unsigned p = 0; p < TLB_PRIVS - 1; p++)
        for (unsigned k = 0; k < TLB_KINDS; k++)
            if (kinds >> k & 1 && s->set[p].e[k][i].tag == (lin & PAGE_MASK_4K)) {
                s->set[p].e[k][i].tag = TLB_NONE(i);
                if (k == TLB_X)
                    s->x_evicted = true;
            }
    if (s->x_evicted && kinds >> TLB_X & 1) {
        new_gens(t, s);
        s->x_evicted = false;
    }
}

void emu_flush_page_kinds(struct emu *c, uint64_t linear, unsigned kinds)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (c->tlbs->slot[i].live)
            slot_flush_page(c->tlbs, &c->tlbs->slot[i], linear, kinds);
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
    if (s)
        slot_flush_page(c->tlbs, s, linear, ALL_KINDS);
    if (s == c->tlbs->cur)
        jit_slots_flush_page(c, linear, ALL_KINDS);
    jcache_retag(c);
}

void emu_switch_cr3(struct emu *c, bool keep)
{
    struct tlb *t = c->tlbs;
    uint16_t pcid = c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;
    struct tlb_slot *s = slot_find(t, pcid);

    if (!s) {
        s = &t->slot[0];
        for (unsigned i = 0; i < TLB_SLOTS; i++) {
            if (!t->slot[i].live) {
                s = &t->slot[i];
                break;
            }
            if (t->slot[i].used < s->used)
                s = &t->slot[i];
        }
        slot_flush(t, s);
        s->pcid = pcid;
        s->live = true;
    } else if (!keep) {
        slot_flush(t, s);
        c->stats.tlb_flushes++;
    }
    s->used = ++t->clock;
    if (s != t->cur || !keep)
        jit_slots_flush(c, false);
    t->cur = s;
    emu_mode_changed(c);
}
