/* SPDX-License-Identifier: MIT
 * The interrupt controllers as one: who gets a message, how lines are wired, and
 * the calls of the layers around. One lock protects all of it: nearly every
 * operation reaches more than one controller. */
#include "irqchip.h"
#include "pc.h"
#include "../base/err.h"
#include <stdlib.h>

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

/* ---- destinations ------------------------------------------------------------------ */

/* SDM 10.6.2 and 10.12.9; an 8-bit sender's 0xff is a broadcast to APICs in
 * either mode. */
static bool is_destination(const struct lapic *l, const struct irq_msg *msg)
{
    uint32_t dest = msg->dest;

    switch (msg->to) {
    case TO_SELF: return l == msg->from;
    case TO_ALL: return true;
    case TO_OTHERS: return l != msg->from;
    default: break;
    }
    if (dest == (msg->dest32 ? 0xffffffffu : 0xffu))
        return true;
    if (lapic_x2(l)) {
        if (!msg->logical)
            return dest == l->index;
        uint32_t ldr = lapic_x2_ldr(l);
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    }
    if (dest > 0xff)
        return false;
    if (!msg->logical)
        return dest == l->s.id;
    uint32_t ldr = l->s.ldr >> 24;
    if (l->s.dfr >> 28 == 0xf) /* flat model */
        return dest & ldr;
    return l->s.dfr >> 28 == 0 && dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
}

/* Of the destinations the one with the lowest priority; among equals the next
 * after the one before. */
static struct lapic *lowest_priority(struct irqchip *chip, const struct irq_msg *msg)
{
    struct lapic *best = NULL;
    unsigned n = chip->opts.max_cpus;

    for (unsigned i = 1; i <= n; i++) {
        struct lapic *l = &chip->cpu[(chip->lowest + i) % n];
        if (lapic_on(l) && (l->s.svr & SVR_ENABLE) && is_destination(l, msg) &&
            (!best || lapic_ppr(l) < lapic_ppr(best)))
            best = l;
    }
    if (best)
        chip->lowest = best->index;
    return best;
}

struct chips_msi irq_msi(const struct irq_msg *msg)
{
    return (struct chips_msi){
        .address = PC_LAPIC_BASE | (msg->dest & 0xff) << 12 | (msg->redirect ? 8 : 0) |
                   (msg->logical ? 4 : 0),
        .data = (msg->level ? 0xc000u : 0) | (uint32_t)msg->mode << 8 | msg->vector,
    };
}

unsigned irq_send(struct irqchip *chip, const struct irq_msg *msg)
{
    unsigned n = 0;

    if (chip->outer) {
        struct chips_msi m = irq_msi(msg);
        int took = chip->outer->msi(chip->outer_ctx, m.address, m.data);
        return took > 0 ? (unsigned)took : 0;
    }
    if (msg->mode == DM_SIPI && !msg->from)
        return 0; /* only the ICR sends it */
    if (msg->mode == DM_LOWEST || (msg->redirect && msg->logical && msg->mode == DM_FIXED)) {
        struct lapic *l = lowest_priority(chip, msg);
        return l && lapic_deliver(l, msg);
    }
    for (unsigned i = 0; i < chip->opts.max_cpus; i++)
        if (lapic_on(&chip->cpu[i]) && is_destination(&chip->cpu[i], msg))
            n += lapic_deliver(&chip->cpu[i], msg);
    return n;
}

/* ---- wiring ------------------------------------------------------------------------ */

void irq_mail(struct cpu_mail *mail, bool want)
{
    bool has = atomic_load(&mail->pending) & PEND_IRQ;

    if (want && !has)
        mail_post(mail, PEND_IRQ);
    else if (!want && has && atomic_load(&mail->inject) < 0)
        mail_clear(mail, PEND_IRQ);
}

/* Local APICs elsewhere take it where LINT0 is an ExtINT, and nothing else of it. */
void irq_pic_out(struct irqchip *chip, bool level)
{
    if (chip->pic_out == level)
        return;
    chip->pic_out = level;
    ioapic_pin(chip, 0, level);
    if (chip->boot)
        irq_mail(chip->boot, level);
    for (unsigned i = 0; i < chip->opts.max_cpus; i++)
        if (chip->cpu[i].mail)
            lapic_lint0(&chip->cpu[i]);
}

void irqchip_line(struct irqchip *chip, unsigned gsi, int level)
{
    if (gsi >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&chip->lock);
    chip->gsi = level ? chip->gsi | BIT(gsi) : chip->gsi & ~BIT(gsi);
    if (chip->outer && chip->outer->owned == CHIPS_ALL) {
        chip->outer->line(chip->outer_ctx, gsi, level);
        pthread_mutex_unlock(&chip->lock);
        return;
    }
    if (gsi < 16 && gsi != 2) /* input 2 is the slave's */
        pic_line(chip, gsi, level);
    if (gsi == 0 || gsi == 2) /* pin 0 is the 8259's, so IRQ 0 went to pin 2 */
        ioapic_pin(chip, 2, chip->gsi & (BIT(0) | BIT(2)));
    else
        ioapic_pin(chip, gsi, level);
    pthread_mutex_unlock(&chip->lock);
}

/* SDM 10.11. */
int irqchip_msi(struct irqchip *chip, uint64_t address, uint32_t data)
{
    struct irq_msg msg = {
        .dest = (uint32_t)address >> 12 & 0xff,
        .redirect = address & 8,
        .logical = address & 4,
        .vector = data & 0xff,
        .mode = data >> 8 & 7,
        .level = (data & 0xc000) == 0xc000,
    };

    if (address >> 20 != 0xfee)
        return err_set(VC_EINVAL, "0x%llx is not the address of an MSI (0xfee00000-0xfeefffff)",
                       (unsigned long long)address);
    if ((data & 0xc000) == 0x8000)
        return 0; /* level de-assert: the message of it asks for nothing */
    if (chip->outer) {
        int rc = chip->outer->msi(chip->outer_ctx, address, data);
        return rc < 0 ? rc : 0; /* one that nobody takes is no error */
    }
    pthread_mutex_lock(&chip->lock);
    irq_send(chip, &msg);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

void irqchip_eoi(struct irqchip *chip, uint8_t vector)
{
    pthread_mutex_lock(&chip->lock);
    ioapic_eoi(chip, vector);
    pthread_mutex_unlock(&chip->lock);
}

void irqchip_vector(struct irqchip *chip, unsigned cpu, uint8_t vector)
{
    pthread_mutex_lock(&chip->lock);
    if (cpu < chip->opts.max_cpus && chip->cpu[cpu].mail)
        lapic_put(&chip->cpu[cpu], vector, false);
    pthread_mutex_unlock(&chip->lock);
}

/* ---- memory-mapped local APICs --------------------------------------------------------- */

/* The local APIC of the vCPU that accesses, where that is in xAPIC mode and has
 * its registers at this address. */
static struct lapic *lapic_at(struct irqchip *chip, const struct vc_access *a)
{
    if (!a->cpu || a->cpu_index >= chip->opts.max_cpus)
        return NULL;
    struct lapic *l = &chip->cpu[a->cpu_index];
    bool here = lapic_on(l) && !lapic_x2(l) && !((a->addr ^ l->s.base) & PAGE_MASK_4K);
    return here ? l : NULL;
}

/* Registers are 32 bits wide at multiples of 16 (SDM 10.4.1). Smaller reads give
 * their part, everything else around reads 0; other writes are dropped. */
static int lapic_access(struct irqchip *chip, struct vc_access *a)
{
    uint32_t off = a->addr & 0xfff;
    int rc = ENV_UNHANDLED;

    pthread_mutex_lock(&chip->lock);
    struct lapic *l = lapic_at(chip, a);
    if (l) {
        rc = ENV_HANDLED;
        if (!a->write)
            a->data = (off & 15) < 4 ? lapic_mmio_read(l, off) >> 8 * (off & 3) : 0;
        else if (a->len == 4 && (off & 15) == 0)
            lapic_mmio_write(l, off, (uint32_t)a->data);
    }
    pthread_mutex_unlock(&chip->lock);
    return rc;
}

/* Where the APICs lie unless moved. Nothing else is there: floating bus. */
static int lapic_usual(void *ud, struct vc_access *a)
{
    if (lapic_access(ud, a) == ENV_UNHANDLED && !a->write)
        a->data = ~0ull;
    return ENV_HANDLED;
}

/* Everywhere else; nobody's but for a vCPU that moved its APIC there. */
static int lapic_moved(void *ud, struct vc_access *a)
{
    return lapic_access(ud, a);
}

/* ---- life -------------------------------------------------------------------------- */

static const struct {
    enum vc_space space;
    uint64_t base, len;
    unsigned flags;
    vc_trap_fn *fn;
} ranges[CHIP_RANGES] = {
    {VC_SPACE_MMIO, PC_LAPIC_BASE, 0x1000, BUS_UNLOCKED, lapic_usual},
    {VC_SPACE_MMIO, 0, 1ull << 52, BUS_UNLOCKED | BUS_DEFAULT, lapic_moved},
    {VC_SPACE_MMIO, PC_IOAPIC_BASE, 0x1000, BUS_UNLOCKED, ioapic_mmio},
    {VC_SPACE_PORT, 0x20, 2, BUS_UNLOCKED, pic_port},
    {VC_SPACE_PORT, 0xa0, 2, BUS_UNLOCKED, pic_port},
    {VC_SPACE_PORT, 0x4d0, 2, BUS_UNLOCKED, pic_elcr},
};

struct irqchip *irqchip_new(const struct irqchip_opts *opts)
{
    if (!opts->bus || !opts->clock || !opts->tsc_hz || opts->max_cpus < 1 || opts->max_cpus > 255) {
        err_set(VC_EINVAL, "interrupt controllers need a bus, a clock and 1 to 255 vCPUs");
        return NULL;
    }
    struct irqchip *chip = calloc(1, sizeof *chip + opts->max_cpus * sizeof chip->cpu[0]);
    if (!chip) {
        err_set(VC_ENOMEM, "no memory for interrupt controllers");
        return NULL;
    }
    chip->opts = *opts;
    if (!chip->opts.phys_bits)
        chip->opts.phys_bits = 46;
    pthread_mutex_init(&chip->lock, NULL);
    for (unsigned i = 0; i < opts->max_cpus; i++) {
        chip->cpu[i].chip = chip;
        chip->cpu[i].index = i;
    }
    ioapic_reset(&chip->ioapic);
    pic_reset(chip);
    for (unsigned i = 0; i < CHIP_RANGES; i++) {
        chip->range[i] = bus_add(opts->bus, ranges[i].space, ranges[i].base, ranges[i].len,
                                 ranges[i].flags, ranges[i].fn, chip);
        if (chip->range[i] < 0) {
            irqchip_free(chip);
            return NULL;
        }
    }
    return chip;
}

void irqchip_free(struct irqchip *chip)
{
    if (!chip)
        return;
    for (unsigned i = 0; i < CHIP_RANGES; i++)
        if (chip->range[i] > 0)
            bus_del(chip->opts.bus, chip->range[i]);
    for (unsigned i = 0; i < chip->opts.max_cpus; i++)
        irqchip_del_cpu(chip, i);
    pthread_mutex_destroy(&chip->lock);
    free(chip);
}

void irqchip_use(struct irqchip *chip, const struct irqchip_outer *outer, void *ctx)
{
    pthread_mutex_lock(&chip->lock);
    chip->outer = outer;
    chip->outer_ctx = ctx;
    for (unsigned gsi = 0; gsi < IOAPIC_PINS && outer->owned == CHIPS_ALL; gsi++)
        if (chip->gsi & BIT(gsi))
            outer->line(ctx, gsi, true);
    pthread_mutex_unlock(&chip->lock);
}

int irqchip_add_cpu(struct irqchip *chip, unsigned cpu, struct cpu_mail *mail)
{
    if (cpu >= chip->opts.max_cpus)
        return err_set(VC_ELIMIT, "vCPU %u: the platform was made for %u", cpu,
                       chip->opts.max_cpus);
    if (chip->outer) {
        pthread_mutex_lock(&chip->lock);
        chip->cpus |= BIT64(cpu);
        if (irq_split(chip) && cpu == 0) {
            chip->boot = mail;
            irq_mail(mail, chip->pic_out);
        }
        pthread_mutex_unlock(&chip->lock);
        return 0;
    }
    struct lapic *l = &chip->cpu[cpu];
    if (l->mail)
        return err_set(VC_EEXIST, "vCPU %u has a local APIC already", cpu);
    struct clock_timer *timer = clock_timer_new(chip->opts.clock, lapic_timer_fn, l);
    if (!timer)
        return VC_ENOMEM;
    pthread_mutex_lock(&chip->lock);
    l->timer = timer;
    l->mail = mail;
    chip->cpus |= BIT64(cpu);
    lapic_reset(l, false);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

void irqchip_del_cpu(struct irqchip *chip, unsigned cpu)
{
    if (cpu >= chip->opts.max_cpus)
        return;
    struct lapic *l = &chip->cpu[cpu];
    pthread_mutex_lock(&chip->lock);
    struct clock_timer *timer = l->timer;
    l->mail = NULL;
    l->timer = NULL;
    chip->cpus &= ~BIT64(cpu);
    if (cpu == 0)
        chip->boot = NULL;
    pthread_mutex_unlock(&chip->lock);
    clock_timer_free(timer); /* waits for lapic_timer_fn, which takes the lock */
}

void irqchip_reset_cpu(struct irqchip *chip, unsigned cpu, bool init)
{
    if (cpu >= chip->opts.max_cpus)
        return;
    pthread_mutex_lock(&chip->lock);
    if (chip->cpu[cpu].mail)
        lapic_reset(&chip->cpu[cpu], init);
    pthread_mutex_unlock(&chip->lock);
}

/* ---- the vCPU's side ------------------------------------------------------------------- */

/* A vCPU that the platform has no local APIC for gets harmless answers. */
static struct lapic *lapic_lock(struct irqchip *chip, unsigned cpu)
{
    if (cpu >= chip->opts.max_cpus)
        return NULL;
    pthread_mutex_lock(&chip->lock);
    if (chip->cpu[cpu].mail)
        return &chip->cpu[cpu];
    pthread_mutex_unlock(&chip->lock);
    return NULL;
}

static void lapic_unlock(struct lapic *l)
{
    pthread_mutex_unlock(&l->chip->lock);
}

/* The 8259's interrupt, for a local APIC elsewhere. */
static int ack_extint(struct irqchip *chip, unsigned cpu)
{
    pthread_mutex_lock(&chip->lock);
    int vector = cpu == 0 && chip->boot && chip->pic_out ? pic_ack(chip) : -1;
    if (cpu == 0 && chip->boot)
        irq_mail(chip->boot, chip->pic_out);
    pthread_mutex_unlock(&chip->lock);
    return vector;
}

int irqchip_ack(struct irqchip *chip, unsigned cpu)
{
    if (irq_split(chip))
        return ack_extint(chip, cpu);
    struct lapic *l = lapic_lock(chip, cpu);
    if (!l)
        return -1;
    int vector = lapic_ack(l);
    lapic_unlock(l);
    return vector;
}

uint64_t irqchip_cr8_get(struct irqchip *chip, unsigned cpu)
{
    struct lapic *l = lapic_lock(chip, cpu);
    if (!l)
        return 0;
    uint64_t tpr = l->s.tpr >> 4;
    lapic_unlock(l);
    return tpr;
}

void irqchip_cr8_set(struct irqchip *chip, unsigned cpu, uint64_t tpr)
{
    struct lapic *l = lapic_lock(chip, cpu);
    if (!l)
        return;
    l->s.tpr = (tpr & 15) << 4;
    lapic_update(l);
    lapic_unlock(l);
}

static bool msr_read(struct lapic *l, uint32_t index, uint64_t *value)
{
    switch (index) {
    case MSR_APIC_BASE: *value = l->s.base; return true;
    case MSR_TSC_DEADLINE: *value = lapic_deadline_get(l); return true;
    default: return index - MSR_X2APIC < 0x100 && lapic_msr_read(l, index - MSR_X2APIC, value);
    }
}

static bool msr_write(struct lapic *l, uint32_t index, uint64_t value)
{
    switch (index) {
    case MSR_APIC_BASE: return lapic_base_write(l, value);
    case MSR_TSC_DEADLINE: lapic_deadline_set(l, value); return true;
    default: return index - MSR_X2APIC < 0x100 && lapic_msr_write(l, index - MSR_X2APIC, value);
    }
}

bool irqchip_msr(struct irqchip *chip, unsigned cpu, uint32_t index, bool write, uint64_t *value)
{
    struct lapic *l = lapic_lock(chip, cpu);
    if (!l)
        return false;
    bool ok = write ? msr_write(l, index, *value) : msr_read(l, index, value);
    lapic_unlock(l);
    return ok;
}

uint64_t irqchip_apic_base(struct irqchip *chip, unsigned cpu)
{
    struct lapic *l = lapic_lock(chip, cpu);
    if (!l)
        return 0;
    uint64_t base = l->s.base;
    lapic_unlock(l);
    return base;
}
