/* SPDX-License-Identifier: MIT
 * The page walk. Sections are those of the Intel SDM, volume 3. */
#include "walk.h"
#include "guest.h"
#include "../base/util.h"
#include <virtcore/vm.h>

#define CR0_WP   BIT64(16)
#define CR0_PG   BIT64(31)
#define CR4_PSE  BIT64(4)
#define CR4_PAE  BIT64(5)
#define CR4_PGE  BIT64(7)
#define CR4_LA57 BIT64(12)
#define CR4_SMEP BIT64(20)
#define CR4_SMAP BIT64(21)
#define CR4_PKE  BIT64(22)
#define CR4_PKS  BIT64(24)
#define EFER_LMA BIT64(10)
#define EFER_NXE BIT64(11)

#define PTE_P  BIT64(0)
#define PTE_W  BIT64(1)
#define PTE_U  BIT64(2)
#define PTE_A  BIT64(5)
#define PTE_D  BIT64(6)
#define PTE_PS BIT64(7)
#define PTE_G  BIT64(8)
#define PTE_NX BIT64(63)

/* Bits lo to hi. */
static inline uint64_t bits(unsigned lo, unsigned hi)
{
    return hi < lo ? 0 : (~0ull << lo) & (~0ull >> (63 - hi));
}

/* What stays the same for one walk. */
struct walk_ctx {
    struct mem *mem;
    const struct walk_regs *regs;
    uint64_t gva;
    enum walk_access access;
    bool user, ac, update;
    bool nxe;      /* execute-disable works: never in 32-bit paging */
    uint64_t rsvd; /* bits reserved in every present entry */
};

/* Where an entry lies; region NULL: not in RAM. */
struct slot {
    const struct mem_region *region;
    uint64_t gpa;
    unsigned size; /* 4 or 8 */
};

static struct slot slot_at(const struct walk_ctx *k, uint64_t gpa, unsigned size)
{
    return (struct slot){mem_find(k->mem, gpa), gpa, size};
}

static void *slot_host(const struct slot *s)
{
    return s->region->host + (s->gpa - s->region->gpa);
}

/* Where there is no memory a bus answers a read with all ones: such an entry is
 * present and, in the formats that have reserved bits, has them set. */
GUEST_UNSEEN static uint64_t slot_load(const struct slot *s)
{
    if (!s->region)
        return s->size == 4 ? UINT32_MAX : UINT64_MAX;
    if (s->size == 4)
        return atomic_load_explicit((_Atomic uint32_t *)slot_host(s), memory_order_acquire);
    return atomic_load_explicit((_Atomic uint64_t *)slot_host(s), memory_order_acquire);
}

/* Sets flags in an entry that was read as `pte`. false: it changed meanwhile and
 * must be looked at anew. Writes to ROM, and to nothing, are dropped. */
GUEST_UNSEEN static bool slot_set(const struct walk_ctx *k, const struct slot *s, uint64_t pte,
                                  uint64_t flags)
{
    if (!k->update || (pte & flags) == flags || !s->region || !(s->region->prot & VC_MEM_WRITE))
        return true;
    bool ok;
    if (s->size == 4) {
        uint32_t old = (uint32_t)pte;
        ok = atomic_compare_exchange_strong((_Atomic uint32_t *)slot_host(s), &old,
                                            (uint32_t)(pte | flags));
    } else {
        uint64_t old = pte;
        ok = atomic_compare_exchange_strong((_Atomic uint64_t *)slot_host(s), &old, pte | flags);
    }
    if (ok) {
        mem_mark_dirty(s->region, s->gpa);
        mem_stored(k->mem, s->region, s->gpa, s->size);
    }
    return ok;
}

/* The error code of SDM 4.7 with what this access adds to it. */
static uint32_t fault(const struct walk_ctx *k, uint32_t code)
{
    if (k->access == WALK_WRITE)
        code |= PF_W;
    if (k->user)
        code |= PF_U;
    if (k->access == WALK_FETCH && (k->nxe || (k->regs->cr4 & CR4_SMEP)))
        code |= PF_I;
    return code | WALK_FAULT;
}

/* Access rights, SDM 4.6.1. */
static bool allowed(const struct walk_ctx *k, const struct walk *w)
{
    uint64_t cr4 = k->regs->cr4;
    if (k->user) {
        if (!w->user)
            return false;
        return k->access == WALK_FETCH ? !w->nx : k->access == WALK_READ || w->writable;
    }
    if (k->access == WALK_FETCH)
        return !w->nx && !(w->user && (cr4 & CR4_SMEP));
    if (w->user && (cr4 & CR4_SMAP) && !k->ac)
        return false;
    return k->access == WALK_READ || w->writable || !(k->regs->cr0 & CR0_WP);
}

/* Protection keys, SDM 4.6.2: whether the page's forbids this access. Instruction
 * fetches have no keys. */
static bool key_forbids(const struct walk_ctx *k, uint64_t pte, struct walk *w)
{
    const struct walk_regs *regs = k->regs;
    if (!(regs->cr4 & (w->user ? CR4_PKE : CR4_PKS)) || !(regs->efer & EFER_LMA))
        return false;
    unsigned key = pte >> 59 & 15;
    w->keys = BIT(w->user ? key : 16 + key);
    if (k->access == WALK_FETCH)
        return false;
    uint32_t rights = (w->user ? regs->pkru : regs->pkrs) >> (2 * key);
    bool no_access = rights & 1, no_write = rights & 2;
    return no_access || (no_write && k->access == WALK_WRITE && (k->user || (regs->cr0 & CR0_WP)));
}

/* The leaf was found: checks rights, sets A and D. false: look at it anew. */
static bool finish(const struct walk_ctx *k, const struct slot *s, uint64_t pte, struct walk *w,
                   uint32_t *result)
{
    bool key = key_forbids(k, pte, w);
    if (key || !allowed(k, w)) {
        *result = fault(k, key ? PF_P | PF_PK : PF_P);
        return true;
    }
    uint64_t flags = k->access == WALK_WRITE ? PTE_A | PTE_D : PTE_A;
    if (!slot_set(k, s, pte, flags))
        return false;
    w->dirty = (pte & PTE_D) || (k->update && k->access == WALK_WRITE);
    w->global = (pte & PTE_G) && (k->regs->cr4 & CR4_PGE);
    *result = 0;
    return true;
}

static void narrow(struct walk *w, const struct walk *upper, uint64_t pte, bool nxe)
{
    w->writable = upper->writable && (pte & PTE_W);
    w->user = upper->user && (pte & PTE_U);
    w->nx = upper->nx || (nxe && (pte & PTE_NX));
}

/* ---- 32-bit paging: SDM 4.3 ------------------------------------------------------ */

static uint32_t walk_32(const struct walk_ctx *k, struct walk *w)
{
    const struct walk_regs *regs = k->regs;
    const struct walk top = *w;
    uint64_t table = regs->cr3 & 0xfffff000;
    uint32_t result;
    uint64_t pde;
    struct slot s = slot_at(k, table + (k->gva >> 22 & 0x3ff) * 4, 4);
    for (;;) { /* until the entry holds still */
        pde = slot_load(&s);
        if (!(pde & PTE_P))
            return fault(k, 0);
        narrow(w, &top, pde, false);
        if (!(pde & PTE_PS) || !(regs->cr4 & CR4_PSE)) {
            if (slot_set(k, &s, pde, PTE_A))
                break;
            continue;
        }
        /* A 4 MiB page; bits 20:13 are the address's bits 39:32 (PSE-36), as
         * far as it has them. */
        unsigned m = regs->phys_bits < 40 ? regs->phys_bits : 40;
        if (pde & bits(m > 32 ? m - 19 : 13, 21))
            return fault(k, PF_P | PF_RSVD);
        w->shift = 22;
        w->gpa = (pde & 0xffc00000) | (pde & 0x1fe000) << 19 | (k->gva & 0x3fffff);
        if (finish(k, &s, pde, w, &result))
            return result;
    }
    const struct walk upper = *w;
    s = slot_at(k, (pde & 0xfffff000) + (k->gva >> 12 & 0x3ff) * 4, 4);
    do {
        pde = slot_load(&s);
        if (!(pde & PTE_P))
            return fault(k, 0);
        narrow(w, &upper, pde, false);
        w->shift = 12;
        w->gpa = (pde & 0xfffff000) | (k->gva & 0xfff);
    } while (!finish(k, &s, pde, w, &result));
    return result;
}

/* ---- 64-bit entries: PAE, 4-level, 5-level --------------------------------------- */

/* Reserved bits of a leaf above level 1, SDM tables 4-9, 4-16, 4-18; bit 12 is
 * PAT. */
static uint64_t large_rsvd(unsigned shift)
{
    return bits(13, shift - 1);
}

/* Walks from the table of `level` (5 to 1) down. */
static uint32_t walk_64(const struct walk_ctx *k, uint64_t table, unsigned level, struct walk *w)
{
    const uint64_t addr_mask = bits(12, 51);
    for (;; level--) {
        const struct walk upper = *w;
        unsigned shift = 12 + 9 * (level - 1);
        struct slot s = slot_at(k, table + (k->gva >> shift & 0x1ff) * 8, 8);
        uint64_t pte;
        for (;;) {
            uint32_t result;
            pte = slot_load(&s);
            if (!(pte & PTE_P))
                return fault(k, 0);
            uint64_t rsvd = k->rsvd;
            bool leaf = level == 1 || ((pte & PTE_PS) && level <= 3);
            if (level > 3 || (level == 3 && !k->regs->gbpages))
                rsvd |= PTE_PS;
            if (leaf && level > 1)
                rsvd |= large_rsvd(shift);
            if (pte & rsvd)
                return fault(k, PF_P | PF_RSVD);
            narrow(w, &upper, pte, k->nxe);
            if (!leaf) {
                if (slot_set(k, &s, pte, PTE_A))
                    break;
                continue;
            }
            uint64_t frame = pte & addr_mask & ~bits(0, shift - 1);
            w->shift = (uint8_t)shift;
            w->entry = s.gpa;
            w->gpa = frame | (k->gva & bits(0, shift - 1));
            if (finish(k, &s, pte, w, &result))
                return result;
        }
        table = pte & addr_mask;
    }
}

uint32_t mmu_walk(struct mem *mem, const struct walk_regs *regs, uint64_t gva,
                  enum walk_access access, bool user, bool ac, bool update, struct walk *w)
{
    *w = (struct walk){.gpa = gva, .shift = 12, .writable = true, .user = true, .dirty = true};
    if (!(regs->cr0 & CR0_PG))
        return 0;
    struct walk_ctx k = {.mem = mem,
                         .regs = regs,
                         .gva = gva,
                         .access = access,
                         .user = user,
                         .ac = ac,
                         .update = update,
                         .nxe = (regs->cr4 & CR4_PAE) && (regs->efer & EFER_NXE)};
    if (!(regs->cr4 & CR4_PAE))
        return walk_32(&k, w);
    k.rsvd = bits(regs->phys_bits, 51) | (k.nxe ? 0 : PTE_NX);
    if (regs->efer & EFER_LMA) /* SDM 4.5 */
        return walk_64(&k, regs->cr3 & bits(12, 51), regs->cr4 & CR4_LA57 ? 5 : 4, w);
    /* PAE, SDM 4.4: the entries have no ignored bits 62:52. A PDPTE was checked
     * when it was loaded; it grants everything and has no A bit. */
    uint64_t pdpte = regs->pdpte[gva >> 30 & 3];
    if (!(pdpte & PTE_P))
        return fault(&k, 0);
    k.rsvd |= bits(52, 62);
    return walk_64(&k, pdpte & bits(12, 51), 2, w);
}

bool mmu_load_pdptes(struct mem *mem, struct walk_regs *regs)
{
    uint64_t pdpte[4];
    uint64_t rsvd = bits(1, 2) | bits(5, 8) | bits(regs->phys_bits, 63);
    uint64_t table = regs->cr3 & bits(5, 31);
    const struct walk_ctx k = {.mem = mem};
    unsigned pin = mem_pin(mem); /* the embedder may set CR3 */
    for (unsigned i = 0; i < 4; i++) {
        struct slot s = slot_at(&k, table + i * 8, 8);
        pdpte[i] = slot_load(&s);
    }
    mem_unpin(mem, pin);
    for (unsigned i = 0; i < 4; i++)
        if ((pdpte[i] & PTE_P) && (pdpte[i] & rsvd))
            return false;
    memcpy(regs->pdpte, pdpte, sizeof pdpte);
    return true;
}
