/* SPDX-License-Identifier: MIT
 * What page checks remember, and how they learn it. Called while guest vectors
 * are in the host's registers: this file, and what it calls, is compiled to use
 * general registers only. */
#include "../access.h"
#include "../tlb.h"
#include "jit.h"

/* ---- forgetting -------------------------------------------------------------------- */

static unsigned page_hash(uint64_t lin)
{
    return (unsigned)((lin >> 12) * JIT_LOG_HASH >> (64 - JIT_LOG_PAGE_BITS));
}

static unsigned page_hash_2m(uint64_t lin)
{
    return (unsigned)((lin >> 21) * JIT_LOG_HASH_2M >> (64 - JIT_LOG_PAGE_BITS));
}

static void slot_empty(struct emu *c, uint32_t n)
{
    struct jit_slot *slot = jit_slot(c, n);
    slot->now.lim = slot->other.lim = 0;
}

static void log_flush(struct emu *c, struct jit_log *log)
{
    for (unsigned i = 0; i < log->n; i++) {
        slot_empty(c, log->note[i].slot);
        log->head[log->note[i].hash] = 0;
    }
    log->n = 0;
    log->huge = TLB_NO_HULL;
}

void jit_slots_flush(struct emu *c, bool global_too)
{
    for (unsigned i = 0; c->slot_logs && i < (global_too ? TLB_LOGS : 1); i++)
        log_flush(c, &c->slot_logs->log[i]);
}

static void chain_flush(struct emu *c, struct jit_log *log, unsigned hash)
{
    for (unsigned at = log->head[hash]; at; at = log->note[at - 1].next)
        slot_empty(c, log->note[at - 1].slot);
    log->head[hash] = 0;
}

/* All that comes from the page that lin is in, whatever its size. */
static void log_flush_page(struct emu *c, struct jit_log *log, uint64_t lin)
{
    if (hull_has(&log->huge, lin)) {
        log_flush(c, log);
        return;
    }
    chain_flush(c, log, page_hash(lin));
    chain_flush(c, log, page_hash_2m(lin));
}

void jit_slots_flush_page(struct emu *c, uint64_t lin, unsigned kinds)
{
    if (!c->slot_logs || !(kinds & (BIT(TLB_R) | BIT(TLB_W))))
        return;
    for (unsigned i = 0; i < TLB_LOGS; i++)
        if (i != TLB_LOG_READS || kinds & BIT(TLB_R))
            log_flush_page(c, &c->slot_logs->log[i], lin);
}

/* For the flush to come. A slot may be in all logs, and in several chains. how: of the
 * TLB's entry. */
static void note(struct emu *c, uint32_t slot, uint64_t lin, unsigned how)
{
    struct jit_log *log = &c->slot_logs->log[how & TLB_LOG_MASK];
    unsigned hash = how & TLB_2M ? page_hash_2m(lin) : page_hash(lin);
    if (how & TLB_HUGE) { /* 1 GiB, 4 MiB; the TLB's hull has it */
        const struct tlb_hull *hull = &tlb_group(c, tlb_priv(c))->large[lin >> 63];
        if (!log->n)
            log->huge = TLB_NO_HULL;
        hull_grow(&log->huge, hull->lo, hull->hi);
    }
    if (log->head[hash] && log->note[log->head[hash] - 1].slot == slot)
        return;
    if (log->n == JIT_NOTES)
        log_flush(c, log);
    log->note[log->n++] = (struct jit_note){slot, log->head[hash], (uint16_t)hash};
    log->head[hash] = (uint16_t)log->n;
}

/* ---- learning ---------------------------------------------------------------------- */

/* The page of the TLB entry, made if need be; false: the interpreter finds out
 * what is the matter. */
static bool enter_page(struct emu *c, enum tlb_kind kind, uint64_t lin)
{
    enum tlb_priv priv = tlb_priv(c);
    struct walk w;

    c->stats.tlb_misses++;
    if (!canonical(c, lin) || tlb_walk(c, lin, kind == TLB_W ? WALK_WRITE : WALK_READ, priv, &w))
        return false;
    const struct mem_region *r = mem_find(c->env->mem, w.gpa);
    if (!r || !(r->prot & (kind == TLB_W ? VC_MEM_WRITE : VC_MEM_READ)))
        return false;
    mem_touch(r, w.gpa);
    if (kind == TLB_W)
        mem_mark_dirty(r, w.gpa);
    c->tlbs->keys |= w.keys;
    tlb_fill(c, priv, kind, lin, r->host + (w.gpa - r->gpa) - (lin & 4095), mem_code_word(r, w.gpa),
             &w);
    return true;
}

/* Misses that follow each other closely: the place reaches many pages in turn. vCPUs
 * that are here at once may spoil each other's figures, no more. */
static void count_miss(struct emu *c, struct jit_site *s)
{
    uint64_t now = c->fuel_base - (uint64_t)c->fuel;
    bool close = now - LOOSE(s->last_miss) < JIT_SCATTER_INSNS;
    LOOSE_SET(s->last_miss, now);
    if (!close)
        LOOSE_SET(s->misses, 0);
    else if (!jit_site_scattered(s))
        LOOSE_SET(s->misses, LOOSE(s->misses) + 1);
}

uint32_t jit_do_fill(struct emu *c, struct jit_site *s, uint64_t sum)
{
    jit_seen(c); /* before anything of the place is read */
    enum tlb_kind kind = s->write ? TLB_W : TLB_R;
    uint64_t lin = sum & (s->page_mask | 4095);
    unsigned i = tlb_index(lin);
    const struct tlb_ent *e = &c->tlb->e[kind][i];

    c->stats.check_misses++;
    if (s->slot != JIT_NO_SLOT)
        count_miss(c, s);
    if (jit_site_scattered(s))
        return 0;
    if ((s->seg && !(c->spans >> s->seg & 1)) || (s->moves && lin != sum))
        return 0;
    if (c->tlb == &c->tlbs->never || (lin & 4095) + s->span > 4096 || (lin + s->at) & s->align)
        return 0;
    if (e->tag != (lin & PAGE_MASK_4K)) {
        /* A page that is read now and written later is not written yet. */
        if (s->write && !s->writes)
            return 0;
        if (!enter_page(c, kind, lin))
            return 0;
    } else {
        c->stats.check_hits++;
    }
    c->fill_addend = e->addend;
    if (s->slot == JIT_NO_SLOT)
        return 1;

    struct jit_slot *slot = jit_slot(c, s->slot);
    unsigned how = c->tlb->how[kind][i];
    /* narrow.c counts on one page in 32-bit code. */
    uint64_t size = how & TLB_WHOLE && s->page_mask == PAGE_MASK_4K ? SIZE_2M : 4096;
    note(c, s->slot, lin, how);
    slot->other = slot->now;
    slot->now.start = (lin & ~(size - 1)) - (lin - sum) - (uint64_t)(int64_t)s->bias;
    slot->now.lim = size - s->span + 1;
    slot->now.addend = c->fill_addend = e->addend + (lin - sum);
    slot->now.code = s->write ? c->tlb->wx[i].code : NULL;
    return 1;
}
