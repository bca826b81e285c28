/* SPDX-License-Identifier: MIT
 * ACPI fixed hardware (ACPI 6.4, 4.8.3): PM1a event and control blocks and the
 * power-management timer. There is no SMI command port, so the machine is in
 * ACPI mode from the start and SCI_EN reads 1.
 */
#include "pcdev.h"
#include "../base/err.h"

#define STS_TMR 0x0001u
#define STS_ALL 0x8721u /* TMR, GBL, PWRBTN, SLPBTN, RTC, WAK */
#define EN_ALL  0x0721u

#define CNT_SCI_EN 0x0001u
#define CNT_SLP_EN 0x2000u
#define CNT_KEEP   0x1c02u /* SLP_TYP, BM_RLD */
#define SLP_TYP(v) (((v) >> 10) & 7u)
#define SLP_TYP_S5 0u /* as the DSDT's _S5 says */

#define PM_TIMER_HZ 3579545ull

static uint64_t ticks(const struct pm *pm)
{
    uint64_t ns = clock_now(pm->host->clock) - pm->s.start;
    return (uint64_t)((unsigned __int128)ns * PM_TIMER_HZ / 1000000000u);
}

/* TMR_STS follows every change of the counter's top bit (4.8.3.3), here bit 31. */
static void raise_flags(struct pm *pm)
{
    uint64_t carry = ticks(pm) >> 31;
    if (carry != pm->s.carry) {
        pm->s.carry = carry;
        pm->s.sts |= STS_TMR;
    }
}

static void update_irq(struct pm *pm)
{
    struct pm_state *s = &pm->s;
    bool level = s->sts & s->en;
    if (level != s->line) {
        s->line = level;
        irqchip_line(pm->host->irq, PC_IRQ_SCI, level);
    }
    if ((s->en & STS_TMR) && !(s->sts & STS_TMR)) {
        unsigned __int128 at = (unsigned __int128)((s->carry + 1) << 31) * 1000000000u;
        clock_timer_arm(pm->timer, s->start + (uint64_t)((at + PM_TIMER_HZ - 1) / PM_TIMER_HZ));
    } else {
        clock_timer_disarm(pm->timer);
    }
}

static void pm_fired(void *ud)
{
    struct pm *pm = ud;
    bus_lock(pm->host->bus);
    raise_flags(pm);
    update_irq(pm);
    bus_unlock(pm->host->bus);
}

static uint16_t read16(struct pm *pm, unsigned reg)
{
    switch (reg) {
    case 0: raise_flags(pm); return pm->s.sts;
    case 2: return pm->s.en;
    default: return pm->s.cnt | CNT_SCI_EN;
    }
}

static void write16(struct pm *pm, unsigned reg, uint16_t v, uint16_t mask)
{
    struct pm_state *s = &pm->s;
    switch (reg) {
    case 0: /* a 1 clears */
        raise_flags(pm);
        s->sts &= (uint16_t) ~(v & mask & STS_ALL);
        break;
    case 2: s->en = ((s->en & ~mask) | (v & mask)) & EN_ALL; break;
    default:
        v = (uint16_t)((s->cnt & ~mask) | (v & mask));
        s->cnt = v & CNT_KEEP;
        if ((v & CNT_SLP_EN) && SLP_TYP(v) == SLP_TYP_S5)
            pm->host->power(pm->host->ctx, VC_POWER_OFF, 0);
        break;
    }
}

/* Registers may be reached by bytes or several at once (4.8.3: «accessed by 8,
 * 16 or 32 bits»); each 16-bit register is touched once an access, and the
 * timer is sampled once. */
int pm_access(void *ud, struct vc_access *a)
{
    struct pm *pm = ud;
    uint64_t off = a->addr - PC_PORT_PM, data = 0;
    uint32_t timer = (uint32_t)ticks(pm);

    for (unsigned i = 0; i < a->len && i < 8;) {
        uint64_t reg = off + i;
        unsigned n = 1;
        if (reg < 8) {
            unsigned r16 = (unsigned)(reg & ~1u), shift = 8 * (unsigned)(reg & 1);
            n = !shift && i + 1 < a->len ? 2 : 1;
            if (!a->write)
                data |=
                    (uint64_t)(r16 < 6 ? (read16(pm, r16) >> shift) & (n == 2 ? 0xffff : 0xff) : 0)
                    << (8 * i);
            else if (r16 < 6)
                write16(pm, r16, (uint16_t)((a->data >> (8 * i)) << shift),
                        (uint16_t)((n == 2 ? 0xffff : 0xff) << shift));
        } else if (!a->write) {
            data |= (uint64_t)(reg < 12 ? (timer >> (8 * (reg - 8))) & 0xff : 0xff) << (8 * i);
        }
        i += n;
    }
    if (a->write)
        update_irq(pm);
    else
        a->data = data;
    return 0;
}

int pm_init(struct pm *pm, const struct pc_host *host)
{
    memset(pm, 0, sizeof *pm);
    pm->timer = clock_timer_new(host->clock, pm_fired, pm);
    if (!pm->timer)
        return err_set(VC_ENOMEM, "no memory for the PM timer");
    pm->host = host;
    pm->s.start = clock_now(host->clock);
    return 0;
}

void pm_fini(struct pm *pm)
{
    if (pm->timer)
        clock_timer_free(pm->timer);
    pm->timer = NULL;
}
