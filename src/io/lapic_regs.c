/* SPDX-License-Identifier: MIT
 * The local APIC's registers: memory-mapped in xAPIC mode (SDM 10.4.1), MSRs in
 * x2APIC mode (SDM 10.12), and the mode itself. */
#include "irqchip.h"

/* Version 0x14, six LVT entries. */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

#define SVR_BITS    0x3ffu
#define DIVIDE_BITS 0xbu
#define ICR_BITS    0x000ccfffu /* without the delivery status, which is always idle */
#define ICR_STATUS  0x00001000u
#define ICR_LOGICAL 0x800u
#define ICR_ASSERT  0x4000u
#define ICR_LEVEL   0x8000u

/* What software can write in each LVT entry (SDM figure 10-8). */
static const uint32_t lvt_bits[LVT_COUNT] = {
    [LVT_TIMER] = 0x000700ff, [LVT_THERMAL] = 0x000107ff, [LVT_PERF] = 0x000107ff,
    [LVT_LINT0] = 0x0001a7ff, [LVT_LINT1] = 0x0001a7ff,   [LVT_ERROR] = 0x000100ff,
};

static bool is_lvt(uint32_t reg)
{
    return reg - REG_LVT < LVT_COUNT;
}

/* The registers both modes have, as 32 bits. false: there is no such register. */
static bool reg_read(struct lapic *l, uint32_t reg, uint32_t *value)
{
    const struct lapic_state *s = &l->s;

    *value = 0;
    if (is_lvt(reg)) {
        *value = s->lvt[reg - REG_LVT];
        return true;
    }
    if (reg >= REG_ISR && reg < REG_ESR) {
        const uint32_t *set = reg < REG_TMR ? s->isr : reg < REG_IRR ? s->tmr : s->irr;
        *value = set[reg & 7];
        return true;
    }
    switch (reg) {
    case REG_ID: *value = lapic_x2(l) ? l->index : s->id << 24; return true;
    case REG_VERSION: *value = VERSION; return true;
    case REG_TPR: *value = s->tpr; return true;
    case REG_PPR: *value = lapic_ppr(l); return true;
    case REG_LDR: *value = lapic_x2(l) ? lapic_x2_ldr(l) : s->ldr; return true;
    case REG_SVR: *value = s->svr; return true;
    case REG_ESR: *value = s->esr; return true;
    case REG_ICR: *value = s->icr; return true;
    case REG_TIMER_INITIAL: *value = s->timer_initial; return true;
    case REG_TIMER_CURRENT: *value = lapic_timer_current(l); return true;
    case REG_TIMER_DIVIDE: *value = s->timer_divide; return true;
    default: return false;
    }
}

static void lvt_write(struct lapic *l, unsigned i, uint32_t value)
{
    uint32_t *lvt = &l->s.lvt[i];

    value &= lvt_bits[i];
    if (!(l->s.svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (i == LVT_TIMER) {
        lapic_timer_lvt(l, value);
        return;
    }
    /* Remote IRR is read-only and means something for level-triggered fixed
     * interrupts alone. */
    if (LVT_MODE(value) == DM_FIXED && (value & LVT_LEVEL))
        value |= *lvt & LVT_REMOTE_IRR;
    *lvt = value;
    if (i == LVT_LINT0 && LVT_MODE(value) == DM_FIXED && (value & LVT_LEVEL))
        lapic_lint0(l); /* a level that is there already */
    lapic_update(l);
}

static void svr_write(struct lapic *l, uint32_t value)
{
    l->s.svr = value & SVR_BITS;
    if (value & SVR_ENABLE)
        return;
    /* Software disable masks all LVT entries and keeps them masked (SDM
     * 10.4.7.2). What is in IRR and ISR stays. */
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lvt_write(l, i, l->s.lvt[i]);
}

static void icr_send(struct lapic *l)
{
    uint32_t icr = l->s.icr;
    struct irq_msg msg = {
        .from = l,
        .to = icr >> 18 & 3,
        .dest = l->s.icr_dest,
        .dest32 = lapic_x2(l),
        .vector = icr & 0xff,
        .mode = icr >> 8 & 7,
        .logical = icr & ICR_LOGICAL,
    };

    switch (msg.mode) {
    case DM_FIXED:
    case DM_LOWEST:
        if (msg.vector < 16) {
            lapic_error(l, ESR_SEND_ILLEGAL);
            return;
        }
        break;
    case DM_INIT:
        if ((icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
            return; /* INIT level de-assert: for the arbitration IDs of old */
        __attribute__((fallthrough));
    case DM_SIPI:
        if (msg.to == TO_SELF || msg.to == TO_ALL)
            return; /* not valid (SDM table 10-3) */
        break;
    case DM_SMI:
    case DM_NMI: break;
    default: return;
    }
    irq_send(l->chip, &msg);
}

/* The writable registers both modes have. The value has no reserved bits. */
static bool reg_write(struct lapic *l, uint32_t reg, uint32_t value)
{
    struct lapic_state *s = &l->s;

    if (is_lvt(reg)) {
        lvt_write(l, reg - REG_LVT, value);
        return true;
    }
    switch (reg) {
    case REG_TPR:
        s->tpr = value & 0xff;
        lapic_update(l);
        return true;
    case REG_EOI: lapic_eoi(l); return true;
    case REG_SVR: svr_write(l, value); return true;
    case REG_ESR: /* a write makes what was collected readable */
        s->esr = s->esr_new;
        s->esr_new = 0;
        return true;
    case REG_ICR:
        s->icr = value & ICR_BITS;
        icr_send(l);
        return true;
    case REG_TIMER_INITIAL: lapic_timer_start(l, value); return true;
    case REG_TIMER_DIVIDE: lapic_timer_divide(l, value & DIVIDE_BITS); return true;
    default: return false;
    }
}

/* ---- xAPIC ------------------------------------------------------------------------ */

uint32_t lapic_mmio_read(struct lapic *l, uint32_t off)
{
    uint32_t reg = off >> 4;
    uint32_t value;

    if (reg_read(l, reg, &value))
        return value;
    switch (reg) {
    case REG_DFR: return l->s.dfr;
    case REG_ICR_HI: return l->s.icr_dest << 24;
    case REG_APR:
    case REG_RRD:
    case REG_EOI: return 0;
    default: lapic_error(l, ESR_ILLEGAL_REG); return 0;
    }
}

void lapic_mmio_write(struct lapic *l, uint32_t off, uint32_t value)
{
    uint32_t reg = off >> 4;
    uint32_t old;

    switch (reg) {
    case REG_ID: l->s.id = value >> 24; return;
    case REG_LDR: l->s.ldr = value & 0xff000000u; return;
    case REG_DFR: l->s.dfr = value | 0x0fffffffu; return;
    case REG_ICR_HI: l->s.icr_dest = value >> 24; return;
    case REG_APR:
    case REG_RRD: return;
    default:
        if (!reg_write(l, reg, value) && !reg_read(l, reg, &old))
            lapic_error(l, ESR_ILLEGAL_REG); /* neither writable nor read-only */
    }
}

/* ---- x2APIC ------------------------------------------------------------------------ */

bool lapic_msr_read(struct lapic *l, uint32_t reg, uint64_t *value)
{
    uint32_t low;

    if (!lapic_x2(l) || !reg_read(l, reg, &low))
        return false;
    *value = low;
    if (reg == REG_ICR)
        *value |= (uint64_t)l->s.icr_dest << 32;
    return true;
}

/* The bits that may be set in a write; -1: the register is not written. */
static int64_t x2_bits(uint32_t reg)
{
    if (is_lvt(reg)) /* the read-only bits may be there: software writes back what it read */
        return lvt_bits[reg - REG_LVT] | 0x1000u |
               (reg - REG_LVT == LVT_LINT0 || reg - REG_LVT == LVT_LINT1 ? LVT_REMOTE_IRR : 0);
    switch (reg) {
    case REG_EOI:
    case REG_ESR: return 0;
    case REG_TPR:
    case REG_SELF_IPI: return 0xff;
    case REG_SVR: return SVR_BITS;
    case REG_TIMER_INITIAL: return 0xffffffff;
    case REG_TIMER_DIVIDE: return DIVIDE_BITS;
    default: return -1;
    }
}

bool lapic_msr_write(struct lapic *l, uint32_t reg, uint64_t value)
{
    if (!lapic_x2(l))
        return false;
    if (reg == REG_ICR) {
        if ((uint32_t)value & ~(ICR_BITS | ICR_STATUS))
            return false;
        l->s.icr_dest = (uint32_t)(value >> 32);
        return reg_write(l, reg, (uint32_t)value);
    }
    int64_t bits = x2_bits(reg);
    if (bits < 0 || (value & ~(uint64_t)bits))
        return false;
    if (reg == REG_SELF_IPI) {
        if (value < 16)
            lapic_error(l, ESR_SEND_ILLEGAL);
        else
            lapic_accept(l, (uint8_t)value, false);
        return true;
    }
    return reg_write(l, reg, (uint32_t)value);
}

/* IA32_APIC_BASE: the modes and the ways between them (SDM 10.12.5): from x2APIC
 * mode only to disabled, into it only from xAPIC mode, and never EXTD alone. */
bool lapic_base_write(struct lapic *l, uint64_t value)
{
    struct lapic_state *s = &l->s;
    uint64_t modes = APIC_BASE_EN | APIC_BASE_EXTD;
    uint64_t old = s->base & modes, new = value &modes;
    uint64_t address = (BIT64(l->chip->opts.phys_bits) - 1) & PAGE_MASK_4K;

    if (value & ~(address | modes | APIC_BASE_BSP))
        return false;
    if (new == APIC_BASE_EXTD)
        return false;
    if (old == modes && new == APIC_BASE_EN)
        return false;
    if (old == 0 && new == modes)
        return false;

    if (old && !new) {         /* disabling loses the state, as power-up (SDM 10.4.3) */
        uint32_t tpr = s->tpr; /* CR8 goes on without the APIC */
        lapic_reset(l, true);
        s->tpr = tpr;
        s->id = l->index & 0xff;
    } else if (new == modes && old != modes) {
        s->icr_dest = 0;
    }
    s->base = value;
    lapic_update(l);
    return true;
}
