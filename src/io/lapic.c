/* SPDX-License-Identifier: MIT
 * The local APIC: accepting, prioritizing and acknowledging interrupts
 * (SDM 10.8). Registers are in lapic_regs.c, the timer in lapic_timer.c. */
#include "irqchip.h"
#include "pc.h"

/* ---- 256-bit vector sets -------------------------------------------------------- */

static bool set_has(const uint32_t *set, uint8_t vector)
{
    return set[vector / 32] & BIT(vector % 32);
}

static void set_put(uint32_t *set, uint8_t vector, bool on)
{
    if (on)
        set[vector / 32] |= BIT(vector % 32);
    else
        set[vector / 32] &= ~BIT(vector % 32);
}

/* The highest vector, or -1. */
static int set_top(const uint32_t *set)
{
    for (int i = 7; i >= 0; i--)
        if (set[i])
            return 32 * i + 31 - __builtin_clz(set[i]);
    return -1;
}

/* ---- state ------------------------------------------------------------------------ */

/* After RESET, or after INIT, which keeps the APIC ID, the base and the mode
 * (SDM 10.4.7). */
void lapic_reset(struct lapic *l, bool init)
{
    struct lapic_state *s = &l->s;
    uint64_t base = s->base;
    uint32_t id = s->id;

    lapic_timer_stop(l);
    memset(s, 0, sizeof *s);
    s->base = init ? base : PC_LAPIC_BASE | APIC_BASE_EN | (l->index ? 0 : APIC_BASE_BSP);
    s->id = init ? id : l->index & 0xff;
    s->dfr = 0xffffffffu;
    s->svr = 0xff;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        s->lvt[i] = LVT_MASKED;
    /* There is no firmware that would set up virtual wire mode before the first
     * guest instruction (MP specification 3.6.2.2): the boot processor takes the
     * 8259's interrupts until its guest says otherwise. */
    if (!init && l->index == 0)
        s->lvt[LVT_LINT0] = DM_EXTINT << 8;
    lapic_update(l);
}

/* SDM 10.12.10.2: derived from the x2APIC ID, read-only. */
uint32_t lapic_x2_ldr(const struct lapic *l)
{
    return (l->index >> 4) << 16 | BIT(l->index & 15);
}

/* Processor priority: the higher class of TPR and what is in service. */
uint32_t lapic_ppr(const struct lapic *l)
{
    int top = set_top(l->s.isr);
    uint32_t in_service = top < 0 ? 0 : (uint32_t)top & 0xf0;
    return (l->s.tpr & 0xf0) >= in_service ? l->s.tpr : in_service;
}

/* The highest requested vector whose class is above the processor's, or -1. */
static int deliverable(const struct lapic *l)
{
    if (!lapic_on(l))
        return -1;
    int top = set_top(l->s.irr);
    return top >= 0 && ((uint32_t)top & 0xf0) > (lapic_ppr(l) & 0xf0) ? top : -1;
}

/* Whether an acknowledge goes to the 8259. A disabled local APIC leaves LINT0
 * connected to the processor's INTR pin (SDM 10.4.3). */
static bool extint_pending(const struct lapic *l)
{
    if (l->s.extint)
        return true;
    if (!l->chip->pic_out)
        return false;
    if (!lapic_on(l))
        return l->s.base & APIC_BASE_BSP;
    uint32_t lvt = l->s.lvt[LVT_LINT0];
    return !(lvt & LVT_MASKED) && LVT_MODE(lvt) == DM_EXTINT;
}

void lapic_update(struct lapic *l)
{
    if (!l->mail)
        return;
    irq_mail(l->mail, extint_pending(l) || deliverable(l) >= 0);
}

/* ---- arriving interrupts ----------------------------------------------------------- */

void lapic_put(struct lapic *l, uint8_t vector, bool level)
{
    set_put(l->s.irr, vector, true);
    set_put(l->s.tmr, vector, level);
    lapic_update(l);
}

bool lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (!lapic_on(l) || !(l->s.svr & SVR_ENABLE))
        return false;
    if (vector < 16) {
        lapic_error(l, ESR_RECV_ILLEGAL);
        return false;
    }
    lapic_put(l, vector, level);
    return true;
}

bool lapic_deliver(struct lapic *l, const struct irq_msg *msg)
{
    if (!lapic_on(l))
        return false;
    switch (msg->mode) {
    case DM_FIXED:
    case DM_LOWEST: return lapic_accept(l, msg->vector, msg->level);
    case DM_SMI: return true; /* there is no system management mode to enter */
    case DM_NMI: mail_post(l->mail, PEND_NMI); return true;
    case DM_INIT:
        mail_clear(l->mail, PEND_SIPI); /* one from before it counts no more */
        mail_post(l->mail, PEND_INIT);
        return true;
    case DM_SIPI:
        atomic_store(&l->mail->sipi_vector, msg->vector);
        mail_post(l->mail, PEND_SIPI);
        return true;
    case DM_EXTINT:
        l->s.extint = true;
        lapic_update(l);
        return true;
    default: return false;
    }
}

/* Notes an error; the error LVT tells of each new one (SDM 10.5.3). */
void lapic_error(struct lapic *l, uint32_t esr_bit)
{
    uint32_t lvt = l->s.lvt[LVT_ERROR];

    if (l->s.esr_new & esr_bit)
        return;
    l->s.esr_new |= esr_bit;
    if (!(lvt & LVT_MASKED))
        lapic_accept(l, lvt & LVT_VECTOR, false);
}

void lapic_lint0(struct lapic *l)
{
    uint32_t *lvt = &l->s.lvt[LVT_LINT0];

    if (lapic_on(l) && l->chip->pic_out && !(*lvt & LVT_MASKED)) {
        if (LVT_MODE(*lvt) == DM_NMI) {
            mail_post(l->mail, PEND_NMI);
        } else if (LVT_MODE(*lvt) == DM_FIXED && !(*lvt & LVT_LEVEL)) {
            lapic_accept(l, *lvt & LVT_VECTOR, false);
        } else if (LVT_MODE(*lvt) == DM_FIXED && !(*lvt & LVT_REMOTE_IRR)) {
            if (lapic_accept(l, *lvt & LVT_VECTOR, true))
                *lvt |= LVT_REMOTE_IRR;
        }
    }
    lapic_update(l); /* ExtINT follows the level */
}

/* ---- the processor's side ------------------------------------------------------------ */

void lapic_eoi(struct lapic *l)
{
    struct lapic_state *s = &l->s;
    int vector = set_top(s->isr);

    if (vector < 0)
        return;
    set_put(s->isr, (uint8_t)vector, false);
    if (set_has(s->tmr, (uint8_t)vector)) {
        uint32_t *lint0 = &s->lvt[LVT_LINT0];
        if ((*lint0 & LVT_REMOTE_IRR) && (int)(*lint0 & LVT_VECTOR) == vector) {
            *lint0 &= ~LVT_REMOTE_IRR;
            lapic_lint0(l);
        }
        ioapic_eoi(l->chip, (uint8_t)vector);
    }
    lapic_update(l);
}

int lapic_ack(struct lapic *l)
{
    if (extint_pending(l)) {
        l->s.extint = false;
        int vector = pic_ack(l->chip);
        lapic_update(l);
        return vector;
    }
    int vector = deliverable(l);
    if (vector >= 0) {
        set_put(l->s.irr, (uint8_t)vector, false);
        set_put(l->s.isr, (uint8_t)vector, true);
    }
    lapic_update(l);
    return vector;
}
