/* SPDX-License-Identifier: MIT
 * The soft TLB of one vCPU: one slot for each recently used PCID, in each slot
 * one set for each kind of privilege. */
#ifndef EMU_TLB_H
#define EMU_TLB_H

#include "emu.h"

#define TLB_SLOTS 8
#define TLB_LOG   384

/* Which entries of a set were filled, so that a flush touches no others. */
struct tlb_log {
    unsigned n; /* > TLB_LOG: too many, clear all */
    uint16_t at[TLB_LOG];
};

struct tlb_slot {
    struct tlb_set set[TLB_PRIVS - 1];
    struct tlb_log log[TLB_PRIVS - 1];
    /* In the kernel's set of a deprivileged guest: the entries of the lower half. */
    struct tlb_log lower;
    bool lower_x;    /* code was among them */
    uint64_t gen[2]; /* of the jump cache's entries made under this slot; [1]: in user mode */
    uint64_t used;   /* for choosing a victim */
    uint16_t pcid;
    bool live;
    bool x_evicted; /* a fetch entry was replaced since gen changed: INVLPG cannot see it */
    /* Hulls of the large pages that were entered piecewise, in either half of the linear
     * addresses: INVLPG inside one drops the whole slot. Empty when lo > hi. */
    struct tlb_hull {
        uint64_t lo, hi;
    } large[2];
};

struct tlb {
    struct tlb_slot slot[TLB_SLOTS];
    struct tlb_set never; /* matches nothing: every access takes the slow path */
    struct tlb_slot *cur;
    uint64_t gen, clock;
    uint64_t pv_gen; /* of a deprivileged guest's kernel, in all slots */
    uint32_t keys;   /* protection keys that entries were made under, as in struct walk */
};

static inline bool hull_has(const struct tlb_hull *h, uint64_t lin)
{
    return lin >= h->lo && lin <= h->hi;
}
static inline void hull_grow(struct tlb_hull *h, uint64_t lo, uint64_t hi)
{
    if (lo < h->lo)
        h->lo = lo;
    if (hi > h->hi)
        h->hi = hi;
}
#define TLB_NO_HULL ((struct tlb_hull){UINT64_MAX, 0})

int tlb_new(struct emu *c);
void tlb_free(struct emu *c);
/* New generations everywhere: jump cache entries of before match no more. */
void tlb_new_gens(struct emu *c);
/* The walk for an access of that privilege, before its result is entered. */
uint32_t tlb_walk(struct emu *c, uint64_t lin, enum walk_access access, enum tlb_priv priv,
                  struct walk *w);
/* Enters a page that was found by w. */
void tlb_fill(struct emu *c, enum tlb_priv priv, enum tlb_kind kind, uint64_t lin, void *host_page,
              _Atomic uint64_t *code, const struct walk *w);
/* The privilege class of accesses at the current CPL. */
enum tlb_priv tlb_priv(const struct emu *c);
/* Of a deprivileged guest: what the processor read for itself; the lower half, and all of
 * user mode. */
void tlb_forget_implicit(struct emu *c);
void tlb_forget_lower(struct emu *c);
/* Another slot of a deprivileged guest's. */
void tlb_space(struct emu *c, unsigned number);
/* The generation of what the jump cache holds for the mode it is in. */
uint64_t tlb_gen(const struct emu *c);
/* Has it the rights of CPL 3? */
static inline bool tlb_user(const struct emu *c, enum tlb_priv priv)
{
    return priv == TLB_USER || (priv == TLB_PV_KERNEL && c->pv_kernel);
}

#endif
