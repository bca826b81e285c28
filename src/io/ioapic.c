/* SPDX-License-Identifier: MIT
 * The I/O APIC: 24 pins to interrupt messages (82093AA, with the EOI register of
 * version 0x20). Pin 0 is the 8259's output, pin 2 IRQ 0. */
#include "irqchip.h"

/* Redirection entries. Polarity is kept for the guest to read but not applied:
 * devices here say whether they ask, not how many volts. */
#define REDIR_MODE(e)   ((unsigned)((e) >> 8 & 7))
#define REDIR_LOGICAL   BIT64(11)
#define REDIR_READ_ONLY (BIT64(12) | REDIR_REMOTE_IRR)
#define REDIR_BITS      (0xff0000000001ffffull & ~BIT64(12))

enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40 };
enum { IOAPIC_ID, IOAPIC_VERSION, IOAPIC_ARB, IOAPIC_REDIR = 0x10 };

void ioapic_reset(struct ioapic_state *s)
{
    *s = (struct ioapic_state){0};
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        s->redir[i] = REDIR_MASKED;
}

/* NMI, INIT, SMI and ExtINT are edge-triggered, whatever the entry says. */
static bool is_level(uint64_t e)
{
    return (e & REDIR_LEVEL) && REDIR_MODE(e) <= DM_LOWEST;
}

static struct irq_msg message(uint64_t e)
{
    return (struct irq_msg){
        .dest = (uint32_t)(e >> 56),
        .vector = e & 0xff,
        .mode = (uint8_t)REDIR_MODE(e),
        .logical = e & REDIR_LOGICAL,
        .level = is_level(e),
    };
}

static void deliver(struct irqchip *chip, unsigned pin)
{
    uint64_t *e = &chip->ioapic.redir[pin];
    struct irq_msg msg = message(*e);

    if (irq_send(chip, &msg) && msg.level)
        *e |= REDIR_REMOTE_IRR;
}

/* A level-triggered pin asks again as long as it is high and not being served. */
static void level_check(struct irqchip *chip, unsigned pin)
{
    uint64_t e = chip->ioapic.redir[pin];
    if ((chip->ioapic.pins & BIT(pin)) && is_level(e) && !(e & (REDIR_MASKED | REDIR_REMOTE_IRR)))
        deliver(chip, pin);
}

void ioapic_pin(struct irqchip *chip, unsigned pin, bool level)
{
    struct ioapic_state *s = &chip->ioapic;
    bool was = s->pins & BIT(pin);

    s->pins = level ? s->pins | BIT(pin) : s->pins & ~BIT(pin);
    if (is_level(s->redir[pin]))
        level_check(chip, pin);
    else if (level && !was && !(s->redir[pin] & REDIR_MASKED))
        deliver(chip, pin); /* an edge while masked is lost */
}

void ioapic_eoi(struct irqchip *chip, uint8_t vector)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t *e = &chip->ioapic.redir[i];
        if ((*e & 0xff) == vector && (*e & REDIR_REMOTE_IRR)) {
            *e &= ~REDIR_REMOTE_IRR;
            level_check(chip, i);
        }
    }
}

void ioapic_loaded(struct irqchip *chip)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        level_check(chip, i);
}

/* A masked entry may have an interrupt in service: its route stays. */
void ioapic_routes(struct irqchip *chip)
{
    struct chips_msi route[IOAPIC_PINS] = {{0}};

    if (!irq_split(chip))
        return;
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        struct irq_msg msg = message(chip->ioapic.redir[i]);
        if (msg.level)
            route[i] = irq_msi(&msg);
    }
    if (!memcmp(route, chip->route, sizeof route))
        return;
    memcpy(chip->route, route, sizeof route);
    chip->outer->routes(chip->outer_ctx, route);
}

/* ---- registers ------------------------------------------------------------------- */

static uint32_t reg_read(const struct ioapic_state *s)
{
    switch (s->select) {
    case IOAPIC_ID:
    case IOAPIC_ARB: return s->id;
    case IOAPIC_VERSION: return 0x20u | (IOAPIC_PINS - 1) << 16;
    default: break;
    }
    unsigned i = s->select - IOAPIC_REDIR;
    if (s->select < IOAPIC_REDIR || i >= 2 * IOAPIC_PINS)
        return 0;
    return (uint32_t)(s->redir[i / 2] >> ((i & 1) ? 32 : 0));
}

static void reg_write(struct irqchip *chip, uint32_t value)
{
    struct ioapic_state *s = &chip->ioapic;
    unsigned i = s->select - IOAPIC_REDIR;

    if (s->select == IOAPIC_ID)
        s->id = value & 0x0f000000u;
    if (s->select < IOAPIC_REDIR || i >= 2 * IOAPIC_PINS)
        return;
    uint64_t *e = &s->redir[i / 2];
    uint64_t full = (i & 1) ? (uint64_t)value << 32 | (uint32_t)*e : (*e >> 32 << 32) | value;
    *e = (full & REDIR_BITS & ~REDIR_READ_ONLY) | (*e & REDIR_READ_ONLY);
    if (!is_level(*e)) /* nothing would ever clear it */
        *e &= ~REDIR_REMOTE_IRR;
    ioapic_routes(chip); /* before the first that has to be told of */
    level_check(chip, i / 2);
}

int ioapic_mmio(void *ud, struct vc_access *a)
{
    struct irqchip *chip = ud;
    uint32_t off = a->addr & 0xfff;

    pthread_mutex_lock(&chip->lock);
    if (!a->write) {
        uint32_t value = 0;
        if ((off & ~3u) == IOREGSEL)
            value = chip->ioapic.select;
        else if ((off & ~3u) == IOWIN)
            value = reg_read(&chip->ioapic);
        a->data = value >> 8 * (off & 3);
    } else if (off == IOREGSEL) {
        chip->ioapic.select = (uint8_t)a->data;
    } else if (off == IOWIN && a->len == 4) {
        reg_write(chip, (uint32_t)a->data);
    } else if (off == IOEOI) {
        ioapic_eoi(chip, (uint8_t)a->data);
    }
    pthread_mutex_unlock(&chip->lock);
    return ENV_HANDLED;
}
