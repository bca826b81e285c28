/* SPDX-License-Identifier: MIT
 * Memory type range registers (SDM 12.11) and machine-check banks (SDM 16.3):
 * checked and kept. Memory is coherent whatever type it has, and no machine
 * check ever happens. */
#include "sys.h"

#define MTRR_VARS 8u
#define MTRR_CAP  (MTRR_VARS | 1u << 8 /* fixed ranges */ | 1u << 10 /* write-combining */)

/* UC, WC, WT, WP, WB. */
static bool mtrr_type_ok(uint64_t type)
{
    return type < 8 && (0x73u >> type & 1);
}

static int fixed_index(uint32_t index)
{
    switch (index) {
    case 0x250: return 0;
    case 0x258: return 1;
    case 0x259: return 2;
    default: return index >= 0x268 && index <= 0x26f ? (int)(3 + index - 0x268) : -1;
    }
}

int mtrr_msr_read(struct emu *c, uint32_t index, uint64_t *v)
{
    int fixed = fixed_index(index);

    if (index == 0xfe)
        *v = MTRR_CAP;
    else if (index == 0x2ff)
        *v = c->mtrr_def;
    else if (fixed >= 0)
        *v = c->mtrr_fixed[fixed];
    else if (index >= 0x200 && index < 0x200 + 2 * MTRR_VARS)
        *v = c->mtrr_var[index - 0x200];
    else
        return -1;
    return 1;
}

static bool fixed_ok(const struct emu *c, uint64_t v)
{
    /* AMD: bits 3 and 4 of each type say whether reads and writes go to DRAM
     * (APM volume 2, 7.9.1). */
    uint64_t dram = c->syscfg & SYSCFG_FIX_DRAM_MOD ? 0x18 : 0;
    for (unsigned i = 0; i < 8; i++)
        if (!mtrr_type_ok((v >> (8 * i) & 0xff) & ~dram))
            return false;
    return true;
}

int mtrr_msr_write(struct emu *c, uint32_t index, uint64_t v)
{
    int fixed = fixed_index(index);

    if (index == 0xfe)
        return 0;
    if (index == 0x2ff) {
        if (v & ~0xcffull || !mtrr_type_ok(v & 0xff))
            return 0;
        c->mtrr_def = v;
    } else if (fixed >= 0) {
        if (!fixed_ok(c, v))
            return 0;
        c->mtrr_fixed[fixed] = v;
    } else if (index >= 0x200 && index < 0x200 + 2 * MTRR_VARS) {
        bool mask = index & 1;
        if (v & (cpu_phys_rsvd(c) | (mask ? 0x7ff : 0xf00)) || (!mask && !mtrr_type_ok(v & 0xff)))
            return 0;
        c->mtrr_var[index - 0x200] = v;
    } else {
        return -1;
    }
    return 1;
}

/* ---- machine check ----------------------------------------------------------------- */

#define MCG_CAP    0x179u
#define MCG_STATUS 0x17au
#define MCG_CTL    0x17bu
#define MC_BANKS   4u
#define MCG_CTL_P  (1u << 8)
#define MC0_CTL    0x400u
enum { MC_CTL, MC_STATUS, MC_ADDR, MC_MISC };

_Static_assert(sizeof((struct emu *)0)->mc_bank == MC_BANKS * 4 * sizeof(uint64_t), "banks");

int mce_msr_read(struct emu *c, uint32_t index, uint64_t *v)
{
    switch (index) {
    case 0x00: /* P5_MC_ADDR, P5_MC_TYPE: nothing ever happened */
    case 0x01: *v = 0; return 1;
    case MCG_CAP: *v = MC_BANKS | MCG_CTL_P; return 1;
    case MCG_STATUS: *v = c->mcg_status; return 1;
    case MCG_CTL: *v = c->mcg_ctl; return 1;
    default:
        if (index < MC0_CTL || index >= MC0_CTL + 4 * MC_BANKS)
            return -1;
        *v = c->mc_bank[index - MC0_CTL];
        return 1;
    }
}

int mce_msr_write(struct emu *c, uint32_t index, uint64_t v)
{
    switch (index) {
    case 0x00:
    case 0x01: return v == 0;
    case MCG_CAP: return 0;
    case MCG_STATUS:
        if (v & ~7ull)
            return 0;
        c->mcg_status = v;
        return 1;
    case MCG_CTL:
        if (v && ~v)
            return 0;
        c->mcg_ctl = v;
        return 1;
    default: break;
    }
    if (index < MC0_CTL || index >= MC0_CTL + 4 * MC_BANKS)
        return -1;
    switch (index & 3) {
    case MC_CTL:
        if (v && ~v)
            return 0;
        break;
    case MC_STATUS: /* only to clear it, unless HWCR says otherwise */
        if (v && !(c->hwcr & HWCR_MC_STATUS))
            return 0;
        break;
    default: break;
    }
    c->mc_bank[index - MC0_CTL] = v;
    return 1;
}
