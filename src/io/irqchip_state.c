/* SPDX-License-Identifier: MIT
 * The controllers' state taken out and put in. Where others have a controller they give
 * and take its part, so a state fits machines of any kind. */
#include "irqchip.h"
#include "../base/err.h"

static void lapics_get(struct irqchip *chip, struct chips_state *st)
{
    st->cpus = chip->cpus;
    for (unsigned i = 0; i < CHIPS_CPUS_MAX; i++)
        if (st->cpus & BIT64(i))
            lapic_timer_save(&chip->cpu[i], &st->lapic[i]);
}

static void lapics_set(struct irqchip *chip, const struct chips_state *st)
{
    for (unsigned i = 0; i < CHIPS_CPUS_MAX; i++)
        if (st->cpus & BIT64(i)) {
            struct lapic *l = &chip->cpu[i];
            lapic_timer_stop(l);
            l->s = st->lapic[i];
            lapic_timer_load(l);
            lapic_update(l);
        }
}

static bool has_vector(const uint32_t *set, unsigned vector)
{
    return set[vector / 32] & BIT(vector % 32);
}

/* An EOI that was made but is not yet told here: its interrupt is in no local APIC. */
static void late_eois(struct chips_state *st)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *e = &st->ioapic.redir[pin];
        bool there = false;
        for (unsigned i = 0; i < CHIPS_CPUS_MAX; i++)
            there |= st->cpus & BIT64(i) && (has_vector(st->lapic[i].irr, *e & 0xff) ||
                                             has_vector(st->lapic[i].isr, *e & 0xff));
        if (!there)
            *e &= ~REDIR_REMOTE_IRR;
    }
}

static int get(struct irqchip *chip, struct chips_state *st)
{
    int rc = 0;
    memset(st, 0, sizeof *st);
    st->lines = chip->gsi;
    if (!chip->outer || irq_split(chip)) {
        memcpy(st->pic, chip->pic, sizeof st->pic);
        st->ioapic = chip->ioapic;
    }
    if (!chip->outer)
        lapics_get(chip, st);
    else
        rc = chip->outer->state(chip->outer_ctx, false, st);
    if (!rc && irq_split(chip))
        late_eois(st);
    return rc;
}

/* The local APICs last: what they accept of the others is in their state already. */
static int set(struct irqchip *chip, struct chips_state *st)
{
    int rc = 0;
    if (st->cpus != chip->cpus)
        return err_set(VC_EINVAL, "the state of vCPUs %#llx is not one of vCPUs %#llx",
                       (unsigned long long)st->cpus, (unsigned long long)chip->cpus);
    chip->gsi = st->lines;
    if (!chip->outer || irq_split(chip)) {
        memcpy(chip->pic, st->pic, sizeof chip->pic);
        chip->ioapic = st->ioapic;
        pic_loaded(chip);
        ioapic_routes(chip);
    }
    if (chip->outer)
        rc = chip->outer->state(chip->outer_ctx, true, st);
    else
        lapics_set(chip, st);
    if (!rc && (!chip->outer || irq_split(chip)))
        ioapic_loaded(chip);
    if (!rc && chip->boot)
        irq_mail(chip->boot, chip->pic_out);
    return rc;
}

int irqchip_state(struct irqchip *chip, bool put, struct chips_state *st)
{
    pthread_mutex_lock(&chip->lock);
    int rc = put ? set(chip, st) : get(chip, st);
    pthread_mutex_unlock(&chip->lock);
    return rc;
}
