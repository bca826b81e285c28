/* SPDX-License-Identifier: MIT
 * The soft TLB of one vCPU: a set for user mode in each slot, of which recently used
 * PCIDs have one each, and a set for each way of being in the kernel. What of those is
 * not global goes when the slot changes. */
#ifndef EMU_TLB_H
#define EMU_TLB_H

#include "emu.h"

#define TLB_SLOTS   8
#define TLB_LOG     384
#define TLB_KERNELS 2 /* TLB_KERNEL and TLB_KERNEL_AC */

/* Which entries of a set were filled, so that a flush touches no others. */
struct tlb_log {
    unsigned n; /* > TLB_LOG: too many, look at all */
    uint16_t at[TLB_LOG];
};

/* The smallest range with all large pages that were entered piecewise: INVLPG inside one
 * drops the whole set. Empty when lo > hi; one for either half of the linear addresses. */
struct tlb_hull {
    uint64_t lo, hi;
};

/* The pages whose fetch entry was replaced, as a Bloom filter: their code may still be in the
 * jump cache, where INVLPG sees no pages. */
#define TLB_EVICTED_BITS 4096u
struct tlb_evicted {
    bool some;
    uint64_t bits[TLB_EVICTED_BITS / 64];
};

/* What belongs together when a fetch is remembered elsewhere, too: in the jump cache. */
struct tlb_group {
    struct tlb_hull large[2];
    uint64_t gen;               /* of the jump cache's entries */
    struct tlb_evicted evicted; /* since gen changed */
};

struct tlb_slot {
    struct tlb_set set;
    struct tlb_log log;
    struct tlb_group group;
    uint64_t used; /* for choosing a victim */
    uint16_t pcid;
    bool live;
};

struct tlb {
    struct tlb_slot slot[TLB_SLOTS]; /* user mode */
    struct tlb_slot *cur;
    struct tlb_set kernel[TLB_KERNELS];
    struct tlb_log log[TLB_KERNELS], own[TLB_KERNELS]; /* all; those that are not global */
    struct tlb_group group;                            /* of both */
    bool own_x;                                        /* a fetch was among what is not global */
    struct tlb_set never; /* matches nothing: every access takes the slow path */
    uint64_t gen, clock;
    uint32_t keys; /* protection keys that entries were made under, as in struct walk */
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
/* Of a deprivileged guest: what is not global, and all of user mode. */
void tlb_forget_own(struct emu *c);
/* Another slot of a deprivileged guest's. */
void tlb_space(struct emu *c, unsigned number);
static inline struct tlb_set *tlb_set(struct emu *c, enum tlb_priv priv)
{
    return priv == TLB_USER ? &c->tlbs->cur->set : &c->tlbs->kernel[priv];
}
static inline struct tlb_group *tlb_group(struct emu *c, enum tlb_priv priv)
{
    return priv == TLB_USER ? &c->tlbs->cur->group : &c->tlbs->group;
}
/* Has it the rights of CPL 3? */
static inline bool tlb_user(const struct emu *c, enum tlb_priv priv)
{
    return priv == TLB_USER || (priv == TLB_PV_KERNEL && c->pv_kernel);
}

#endif
