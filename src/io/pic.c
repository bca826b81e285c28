/* SPDX-License-Identifier: MIT
 * Two 8259A interrupt controllers, the slave on the master's input 2, with the
 * edge/level registers of later chipsets. Names as in Intel's data sheet. */
#include "irqchip.h"

enum { MASTER, SLAVE };
#define CASCADE 2

/* Inputs that can be level-triggered: not the timer, keyboard, cascade, RTC or
 * coprocessor. */
static const uint8_t elcr_bits[2] = {0xf8, 0xde};

/* A level-triggered input asks as long as it is high. An edge is latched until
 * it is acknowledged. */
static uint8_t irr(const struct pic_state *p)
{
    return (p->edges & ~p->elcr) | (p->lines & p->elcr);
}

/* The interrupt that the chip asks for, or -1. */
static int request(const struct pic_state *p, bool master)
{
    uint8_t ask = irr(p) & ~p->imr, blocking = p->isr;

    if (!p->ready || !ask)
        return -1;
    if (p->special_mask)
        blocking &= ~p->imr;
    if (master && p->sfnm) /* fully nested among the slave's: it decides itself */
        blocking &= ~BIT(CASCADE);
    for (unsigned i = 0; i < 8; i++) {
        unsigned irq = (p->first + i) & 7;
        if (blocking & BIT(irq))
            return -1;
        if (ask & BIT(irq))
            return (int)irq;
    }
    return -1;
}

/* Follows a change anywhere in the two. The slave's INT is a level at the
 * master's input. */
static void update(struct irqchip *chip)
{
    struct pic_state *m = &chip->pic[MASTER], *s = &chip->pic[SLAVE];
    bool cascade = request(s, false) >= 0;

    m->edges = cascade ? m->edges | BIT(CASCADE) : m->edges & ~BIT(CASCADE);
    irq_pic_out(chip, request(m, true) >= 0);
}

void pic_loaded(struct irqchip *chip)
{
    chip->pic_out = request(&chip->pic[MASTER], true) >= 0;
}

void pic_reset(struct irqchip *chip)
{
    /* Until the guest initializes them nothing gets through. */
    for (unsigned i = 0; i < 2; i++)
        chip->pic[i] = (struct pic_state){.imr = 0xff};
}

void pic_line(struct irqchip *chip, unsigned irq, bool level)
{
    struct pic_state *p = &chip->pic[irq / 8];
    uint8_t bit = BIT(irq & 7);

    if (level && !(p->lines & bit))
        p->edges |= bit;
    p->lines = level ? p->lines | bit : p->lines & ~bit;
    update(chip);
}

/* ---- acknowledge ------------------------------------------------------------------ */

static void rotate_after(struct pic_state *p, unsigned irq)
{
    p->first = (irq + 1) & 7;
}

static void intack(struct pic_state *p, unsigned irq)
{
    p->edges &= ~BIT(irq);
    if (!p->aeoi)
        p->isr |= BIT(irq);
    else if (p->rotate_aeoi)
        rotate_after(p, irq);
}

/* An INTA cycle to one chip: the vector; input 7's if nothing asks any more. */
static int acknowledge(struct pic_state *p, bool master, int *irq)
{
    *irq = request(p, master);
    if (*irq >= 0)
        intack(p, (unsigned)*irq);
    return p->base | (*irq >= 0 ? *irq : 7);
}

int pic_ack(struct irqchip *chip)
{
    int irq, vector = acknowledge(&chip->pic[MASTER], true, &irq);

    if (irq == CASCADE && !chip->pic[MASTER].single)
        vector = acknowledge(&chip->pic[SLAVE], false, &irq);
    irq_pic_out(chip, false); /* INT drops for an acknowledge: the next one is an edge */
    update(chip);
    return vector;
}

/* ---- programming ------------------------------------------------------------------ */

static void icw1(struct pic_state *p, uint8_t v)
{
    uint8_t lines = p->lines, elcr = p->elcr, base = p->base;
    *p = (struct pic_state){
        .lines = lines, .elcr = elcr, .base = base, .icw = 2, .single = v & 2, .need_icw4 = v & 1};
}

static void icw_next(struct pic_state *p, uint8_t v)
{
    switch (p->icw) {
    case 2:
        p->base = v & 0xf8;
        p->icw = !p->single ? 3 : p->need_icw4 ? 4 : 0;
        break;
    case 3: p->icw = p->need_icw4 ? 4 : 0; break; /* the cascade is wired */
    case 4:
        p->aeoi = v & 2;
        p->sfnm = v & 0x10;
        p->icw = 0;
        break;
    }
    p->ready = !p->icw;
}

/* The interrupt in service that an unspecific EOI ends, or -1. */
static int in_service(const struct pic_state *p)
{
    uint8_t isr = p->special_mask ? p->isr & ~p->imr : p->isr;
    for (unsigned i = 0; i < 8; i++)
        if (isr & BIT((p->first + i) & 7))
            return (p->first + i) & 7;
    return -1;
}

static void ocw2(struct pic_state *p, uint8_t v)
{
    bool rotate = v & 0x80, specific = v & 0x40, eoi = v & 0x20;
    int irq = specific ? v & 7 : in_service(p);

    if (!eoi && !specific) {
        p->rotate_aeoi = rotate;
        return;
    }
    if (irq < 0)
        return;
    if (eoi)
        p->isr &= ~BIT(irq);
    if (rotate)
        rotate_after(p, (unsigned)irq);
}

static void ocw3(struct pic_state *p, uint8_t v)
{
    if (v & 0x40)
        p->special_mask = v & 0x20;
    p->poll = v & 4;
    if (v & 2)
        p->read_isr = v & 1;
}

static void port_write(struct pic_state *p, bool data, uint8_t v)
{
    if (!data && (v & 0x10))
        icw1(p, v);
    else if (!data && (v & 8))
        ocw3(p, v);
    else if (!data)
        ocw2(p, v);
    else if (p->icw)
        icw_next(p, v);
    else
        p->imr = v;
}

static uint8_t port_read(struct pic_state *p, bool master, bool data)
{
    if (p->poll) { /* the read is the acknowledge */
        int irq;
        p->poll = false;
        acknowledge(p, master, &irq);
        return irq >= 0 ? (uint8_t)(0x80 | irq) : 0;
    }
    if (data)
        return p->imr;
    return p->read_isr ? p->isr : irr(p);
}

/* ---- ports; wider accesses are bytes one after the other ------------------------------ */

typedef uint8_t port_fn(struct irqchip *chip, unsigned port, bool write, uint8_t v);

static int port_bytes(struct irqchip *chip, struct vc_access *a, uint64_t end, port_fn *fn)
{
    uint64_t data = 0;

    pthread_mutex_lock(&chip->lock);
    for (unsigned i = 0; i < a->len; i++) {
        uint8_t v = 0xff;
        if (a->addr + i < end)
            v = fn(chip, (unsigned)a->addr + i, a->write, (uint8_t)(a->data >> 8 * i));
        data |= (uint64_t)v << 8 * i;
    }
    update(chip);
    pthread_mutex_unlock(&chip->lock);
    if (!a->write)
        a->data = data;
    return ENV_HANDLED;
}

static uint8_t command_data(struct irqchip *chip, unsigned port, bool write, uint8_t v)
{
    unsigned which = port >= 0xa0 ? SLAVE : MASTER;
    struct pic_state *p = &chip->pic[which];

    if (!write)
        return port_read(p, which == MASTER, port & 1);
    port_write(p, port & 1, v);
    return 0;
}

int pic_port(void *ud, struct vc_access *a)
{
    return port_bytes(ud, a, (a->addr | 1) + 1, command_data);
}

static uint8_t edge_level(struct irqchip *chip, unsigned port, bool write, uint8_t v)
{
    struct pic_state *p = &chip->pic[port & 1];

    if (write)
        p->elcr = v & elcr_bits[port & 1];
    return p->elcr;
}

int pic_elcr(void *ud, struct vc_access *a)
{
    return port_bytes(ud, a, 0x4d2, edge_level);
}
