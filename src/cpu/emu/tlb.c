/* SPDX-License-Identifier: MIT
 * Filling and flushing the soft TLB (SDM 4.10). A flush may drop more than the
 * manual asks for, never less. */
#include "tlb.h"
#include "block.h"
#include "../../base/pages.h"
#include "jit/jit.h"

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

static void slot_flush(struct tlb *t, struct tlb_slot *s)
{
    for (unsigned p = 0; p < TLB_PRIVS - 1; p++)
        priv_flush(s, (enum tlb_priv)p);
    s->large[0] = s->large[1] = TLB_NO_HULL;
    s->gen = ++t->gen;
    s->x_evicted = false;
}

void tlb_forget_implicit(struct emu *c)
{
    priv_flush(c->tlbs->cur, TLB_KERNEL);
}

void tlb_new_gens(struct emu *c)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        c->tlbs->slot[i].gen = ++c->tlbs->gen;
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

enum tlb_priv tlb_priv(const struct emu *c)
{
    if (c->cpl == 3)
        return c->pv_kernel ? TLB_PV_KERNEL : TLB_USER;
    return c->rflags & FL_AC ? TLB_KERNEL_AC : TLB_KERNEL;
}

void tlb_fill(struct emu *c, enum tlb_priv priv, enum tlb_kind kind, uint64_t lin, void *host_page,
              _Atomic uint64_t *code, const struct walk *w)
{
    struct tlb_slot *s = c->tlbs->cur;
    struct tlb_set *set = &s->set[priv];
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    uint64_t page = lin & PAGE_MASK_4K;
    struct tlb_ent *e = &set->e[kind][i];

    if (e->tag == TLB_NONE(i)) {
        struct tlb_log *log = &s->log[priv];
        if (log->n < TLB_LOG)
            log->at[log->n] = (uint16_t)(kind << TLB_BITS | i);
        if (log->n <= TLB_LOG)
            log->n++;
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
    unsigned how = w->global && c->cr4 & CR4_PGE ? TLB_GLOBAL : 0;
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

static void slot_flush_page(struct tlb *t, struct tlb_slot *s, uint64_t lin)
{
    if (hull_has(&s->large[lin >> 63], lin)) {
        slot_flush(t, s);
        return;
    }
    unsigned i = (unsigned)(lin >> 12) & (TLB_N - 1);
    for (unsigned p = 0; p < TLB_PRIVS - 1; p++)
        for (unsigned k = 0; k < TLB_KINDS; k++)
            if (s->set[p].e[k][i].tag == (lin & PAGE_MASK_4K)) {
                s->set[p].e[k][i].tag = TLB_NONE(i);
                if (k == TLB_X)
                    s->x_evicted = true;
            }
    if (s->x_evicted) {
        s->gen = ++t->gen;
        s->x_evicted = false;
    }
}

void emu_flush_page(struct emu *c, uint64_t linear)
{
    for (unsigned i = 0; i < TLB_SLOTS; i++)
        if (c->tlbs->slot[i].live)
            slot_flush_page(c->tlbs, &c->tlbs->slot[i], linear);
    jit_slots_flush_page(c, linear);
    jcache_retag(c);
}

void emu_flush_page_pcid(struct emu *c, uint16_t pcid, uint64_t linear)
{
    struct tlb_slot *s = slot_find(c->tlbs, pcid);
    if (s)
        slot_flush_page(c->tlbs, s, linear);
    if (s == c->tlbs->cur)
        jit_slots_flush_page(c, linear);
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
