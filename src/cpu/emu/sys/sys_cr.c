/* SPDX-License-Identifier: MIT
 * Writing control registers, EFER and XCR0: what is allowed (SDM 2.5, 2.6, 4.1),
 * and which translations a change makes stale (SDM 4.10.4.1). */
#include "sys.h"

/* Bits of CR0 that exist; others are dropped on a write. */
#define CR0_BITS                                                                                   \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)

#define EFER_AIBRSE BIT64(21) /* automatic IBRS: nothing here speculates for the guest */

#define CR3_NOFLUSH BIT64(63)

static bool long_mode(const struct emu *c)
{
    return c->efer & EFER_LMA;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

/* Loads the PDPTEs for PAE paging under new control registers. They are only
 * taken over when all four are fine. */
static bool load_pdptes(struct emu *c, uint64_t cr0, uint64_t cr3, uint64_t cr4)
{
    struct walk_regs w = c->walk;
    w.cr0 = cr0;
    w.cr3 = cr3;
    w.cr4 = cr4;
    w.efer = c->efer;
    if (!mmu_load_pdptes(c->env->mem, &w))
        return false;
    memcpy(c->walk.pdpte, w.pdpte, sizeof w.pdpte);
    return true;
}

bool emu_set_cr0(struct emu *c, uint64_t v)
{
    uint64_t old = c->cr0, efer = c->efer;

    if (v >> 32)
        return false;
    v = (v & CR0_BITS) | CR0_ET;
    if ((v & CR0_PG && !(v & CR0_PE)) || (v & CR0_NW && !(v & CR0_CD)))
        return false;

    uint64_t change = v ^ old;
    if (change & v & CR0_PG && efer & EFER_LME) {
        /* Into long mode: by way of PAE, and not from a segment that would
         * become 64-bit code at once (SDM 4.1.2). */
        if (!(c->cr4 & CR4_PAE) || c->seg[SEG_CS].attr & SEG_A_L)
            return false;
        efer |= EFER_LMA;
    } else if (change & old & CR0_PG) {
        if (c->cr4 & CR4_PCIDE || (long_mode(c) && c->seg[SEG_CS].attr & SEG_A_L))
            return false;
        efer &= ~(uint64_t)EFER_LMA;
    }
    /* SDM 4.4.1 */
    if (pae_paging(v, c->cr4, efer) && change & (CR0_PG | CR0_CD | CR0_NW) &&
        !load_pdptes(c, v, c->cr3, c->cr4))
        return false;

    c->cr0 = v;
    c->efer = efer;
    /* Translations kept by the soft TLB have WP in them. */
    if (change & (CR0_PG | CR0_WP | CR0_PE))
        emu_flush_all(c);
    emu_mode_changed(c);
    return true;
}

bool emu_set_cr3(struct emu *c, uint64_t v)
{
    bool keep = false;

    if (long_mode(c)) {
        if (c->cr4 & CR4_PCIDE) {
            keep = v & CR3_NOFLUSH;
            v &= ~CR3_NOFLUSH;
        }
        if (v & cpu_phys_rsvd(c))
            return false;
    } else {
        v = (uint32_t)v;
        if (pae_paging(c->cr0, c->cr4, c->efer) && !load_pdptes(c, c->cr0, v, c->cr4))
            return false;
    }
    c->cr3 = v;
    emu_switch_cr3(c, keep);
    emu_mode_changed(c);
    return true;
}

/* The bits of CR4 that this CPU has. */
uint64_t cr4_allowed(const struct emu *c)
{
    uint64_t bits = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
                    CR4_OSFXSR | CR4_OSXMMEXCPT;
    static const struct {
        enum cpu_feat feat;
        uint32_t bit;
    } optional[] = {
        {F_UMIP, CR4_UMIP},  {F_LA57, CR4_LA57},     {F_FSGSBASE, CR4_FSGSBASE},
        {F_PCID, CR4_PCIDE}, {F_XSAVE, CR4_OSXSAVE}, {F_SMEP, CR4_SMEP},
        {F_SMAP, CR4_SMAP},  {F_PKU, CR4_PKE},       {F_PKS, CR4_PKS},
    };
    for (unsigned i = 0; i < ARRAY_LEN(optional); i++)
        if (cpu_has(c, optional[i].feat))
            bits |= optional[i].bit;
    return bits;
}

bool emu_set_cr4(struct emu *c, uint64_t v)
{
    uint64_t change = v ^ c->cr4;

    if (v & ~cr4_allowed(c))
        return false;
    if (long_mode(c) && change & (CR4_PAE | CR4_LA57))
        return false;
    if (change & v & CR4_PCIDE && (!long_mode(c) || c->cr3 & 0xfff))
        return false;
    if (pae_paging(c->cr0, v, c->efer) && change & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) &&
        !load_pdptes(c, c->cr0, c->cr3, v))
        return false;

    c->cr4 = v;
    if (change & CR4_PCIDE)
        emu_switch_cr3(c, false);
    /* More than the manual asks for: the soft TLB holds permissions as they
     * were worked out under SMEP, SMAP and protection keys. */
    if (change & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP |
                  CR4_PKE | CR4_PKS))
        emu_flush_all(c);
    emu_mode_changed(c);
    return true;
}

bool emu_set_efer(struct emu *c, uint64_t v)
{
    uint64_t bits = EFER_LMA;

    if (cpu_has(c, F_SYSCALL))
        bits |= EFER_SCE;
    if (cpu_has(c, F_LM))
        bits |= EFER_LME;
    if (cpu_has(c, F_NX))
        bits |= EFER_NXE;
    if (cpu_has(c, F_AUTOIBRS))
        bits |= EFER_AIBRSE;
    if (v & ~bits)
        return false;
    /* LMA follows CR0.PG and LME; writing it changes nothing. */
    v = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);

    uint64_t change = v ^ c->efer;
    if (change & EFER_LME && c->cr0 & CR0_PG)
        return false;
    c->efer = v;
    if (change & EFER_NXE)
        emu_flush_all(c);
    emu_mode_changed(c);
    return true;
}

bool emu_set_xcr0(struct emu *c, uint64_t v)
{
    /* x87 always; AVX only with SSE (SDM volume 1, 13.3). */
    if (!(v & 1) || v & ~c->vm->model->xcr0 || (v & 4 && !(v & 2)))
        return false;
    c->xcr0 = v;
    return true;
}
