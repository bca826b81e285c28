/* SPDX-License-Identifier: MIT
 * The 8254 interval timer (Intel 231164) and port 0x61, which gates channel 2
 * and shows its output. Counters are computed from the time since they were
 * loaded; only channel 0's edges, which interrupt, need a host timer. */
#include "pit.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdlib.h>

#define PIT_HZ    1193182u
#define SECOND_NS 1000000000u
/* Faster periodic interrupts come merged at this rate. */
#define PERIOD_MIN_NS 100000u
#define REFRESH_NS    15085u /* half a period of the refresh bit of port 0x61 */

enum { RW_LSB = 1, RW_MSB, RW_BOTH };

struct pit_channel {
    uint8_t mode, rw;
    bool bcd, gate;
    bool write_msb, read_msb; /* RW_BOTH: the other byte is next */
    uint8_t lsb;              /* the first byte of a count being written */
    bool count_latched, status_latched;
    uint16_t latch;
    uint8_t status;

    uint32_t reload; /* the count last written, 1 to 65536; 0: none yet */
    uint32_t count;  /* the one being counted down */
    bool null;       /* reload is not yet in count */
    bool armed;      /* loaded, and triggered where the mode needs it */
    bool counting;   /* clocks count: since `since`, after `done` of them */
    uint64_t since, done;
};

struct pit_state {
    struct pit_channel ch[3];
    uint8_t port61; /* the bits that can be written: 3:0 */
};

struct pit {
    struct pit_state s;
    pthread_mutex_t lock;
    struct bus *bus;
    struct clock *clock;
    struct irqchip *irq;
    struct clock_timer *timer;
    int range[2];
    uint64_t edge_at; /* when the timer is to make an edge */
};

/* ---- counting --------------------------------------------------------------------- */

static uint64_t to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / SECOND_NS);
}

/* The first nanosecond at which so many ticks are over. */
static uint64_t to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * SECOND_NS + PIT_HZ - 1) / PIT_HZ);
}

static bool is_periodic(const struct pit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

static uint64_t elapsed(const struct pit_channel *c, uint64_t now)
{
    return c->done + (c->counting ? to_ticks(now - c->since) : 0);
}

static void pause_at(struct pit_channel *c, uint64_t now)
{
    c->done = elapsed(c, now);
    c->counting = false;
}

static void resume_at(struct pit_channel *c, uint64_t now)
{
    c->since = now;
    c->counting = true;
}

/* Loads the count written last and starts from its top. */
static void start(struct pit_channel *c, uint64_t now)
{
    c->count = c->reload;
    c->null = false;
    c->armed = true;
    c->done = 0;
    c->since = now;
    c->counting = c->gate || c->mode == 1 || c->mode == 5;
}

/* A new count of a periodic mode is loaded at the end of the current period. */
static void sync(struct pit_channel *c, uint64_t now)
{
    if (!is_periodic(c) || !c->armed || !c->counting || !c->null || elapsed(c, now) < c->count)
        return;
    c->since += to_ns(c->count - c->done);
    c->done = 0;
    c->count = c->reload;
    c->null = false;
}

static bool output(const struct pit_channel *c, uint64_t now)
{
    if (!c->armed)
        return c->mode != 0;
    uint64_t d = elapsed(c, now);
    switch (c->mode) {
    case 0:
    case 1: return d >= c->count;
    case 2: return !c->gate || d % c->count != c->count - 1;
    case 3: return !c->gate || d % c->count < (c->count + 1) / 2;
    default: return d != c->count;
    }
}

/* The counting element, as a guest reads it. */
static uint16_t counter(const struct pit_channel *c, uint64_t now)
{
    uint32_t modulus = c->bcd ? 10000 : 65536, v = c->count;

    if (c->armed) {
        uint64_t d = elapsed(c, now);
        if (c->mode == 2) {
            v = c->count - (uint32_t)(d % c->count);
        } else if (c->mode == 3) { /* twice a period down by twos, from an even number */
            uint32_t half = (c->count + 1) / 2, p = (uint32_t)(d % c->count);
            v = (c->count & ~1u) - 2 * (p < half ? p : p - half);
        } else { /* wraps around and goes on */
            v = (c->count % modulus + modulus - (uint32_t)(d % modulus)) % modulus;
        }
    }
    v %= modulus;
    if (c->bcd)
        v = v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10;
    return (uint16_t)v;
}

/* ---- channel 0's interrupt ---------------------------------------------------------- */

/* Sets the timer to channel 0's next rising edge. */
static void arm(struct pit *pit, uint64_t now)
{
    const struct pit_channel *c = &pit->s.ch[0];
    uint64_t d = elapsed(c, now), edge = 0;

    if (c->armed && c->counting) {
        if (is_periodic(c))
            edge = (d / c->count + 1) * c->count;
        else if (c->mode == 0 && d < c->count)
            edge = c->count;
        else if (c->mode == 4 && d <= c->count)
            edge = c->count + 1;
    }
    if (!edge) {
        pit->edge_at = 0;
        clock_timer_disarm(pit->timer);
        return;
    }
    pit->edge_at = c->since + to_ns(edge - c->done);
    if (is_periodic(c) && to_ns(c->count) < PERIOD_MIN_NS && pit->edge_at < now + PERIOD_MIN_NS)
        pit->edge_at = now + PERIOD_MIN_NS;
    clock_timer_arm(pit->timer, pit->edge_at);
}

static void timer_fn(void *ud)
{
    struct pit *pit = ud;

    pthread_mutex_lock(&pit->lock);
    uint64_t now = clock_now(pit->clock);
    if (pit->edge_at && now >= pit->edge_at) {
        sync(&pit->s.ch[0], now);
        irqchip_line(pit->irq, 0, 0); /* low for a clock or half a period before */
        irqchip_line(pit->irq, 0, 1);
        arm(pit, now);
    }
    pthread_mutex_unlock(&pit->lock);
}

/* ---- registers ------------------------------------------------------------------------ */

static void count_written(struct pit_channel *c, uint16_t v, uint64_t now)
{
    uint32_t n = v;

    if (c->bcd)
        n = (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
    c->reload = n ? n : c->bcd ? 10000 : 65536;
    c->null = true;
    /* Modes 1 and 5 wait for a trigger, 2 and 3 for the end of the period. */
    if (c->mode == 0 || c->mode == 4 || (is_periodic(c) && !c->armed))
        start(c, now);
}

static void write_byte(struct pit_channel *c, uint8_t v, uint64_t now)
{
    switch (c->rw) {
    case RW_LSB: count_written(c, v, now); break;
    case RW_MSB: count_written(c, (uint16_t)(v << 8), now); break;
    default:
        c->write_msb = !c->write_msb;
        if (!c->write_msb) {
            count_written(c, (uint16_t)(v << 8 | c->lsb), now);
            break;
        }
        c->lsb = v;
        if (c->mode == 0) { /* the first byte stops the count, OUT goes low */
            pause_at(c, now);
            c->armed = false;
        }
    }
}

static uint8_t read_byte(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t v = c->count_latched ? c->latch : counter(c, now);
    bool msb = c->rw == RW_MSB;
    if (c->rw == RW_BOTH) {
        msb = c->read_msb;
        c->read_msb = !msb;
    }
    if (c->rw != RW_BOTH || msb)
        c->count_latched = false;
    return (uint8_t)(msb ? v >> 8 : v);
}

static void latch_count(struct pit_channel *c, uint64_t now)
{
    if (c->count_latched)
        return; /* the first one stays until it is read */
    c->count_latched = true;
    c->latch = counter(c, now);
}

static void latch_status(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status_latched = true;
    c->status = (uint8_t)(output(c, now) << 7 | c->null << 6 | c->rw << 4 | c->mode << 1 | c->bcd);
}

static void control(struct pit *pit, uint8_t v, uint64_t now)
{
    unsigned which = v >> 6, rw = v >> 4 & 3;

    if (which == 3) { /* read-back: low bits latch, inverted */
        for (unsigned i = 0; i < 3; i++) {
            if (!(v & BIT(i + 1)))
                continue;
            if (!(v & 0x20))
                latch_count(&pit->s.ch[i], now);
            if (!(v & 0x10))
                latch_status(&pit->s.ch[i], now);
        }
        return;
    }
    struct pit_channel *c = &pit->s.ch[which];
    if (!rw) {
        latch_count(c, now);
        return;
    }
    uint8_t mode = v >> 1 & 7;
    *c = (struct pit_channel){
        .mode = mode > 5 ? mode - 4 : mode, /* the high bit does not count in 2 and 3 */
        .rw = (uint8_t)rw,
        .bcd = v & 1,
        .gate = c->gate,
        .null = true,
        .count = c->count,
    };
}

static uint8_t port_byte(struct pit *pit, unsigned port, bool write, uint8_t v, uint64_t now)
{
    if (port > 0x43 || (port == 0x43 && !write))
        return 0xff;
    if (port == 0x43) {
        control(pit, v, now);
        return 0;
    }
    struct pit_channel *c = &pit->s.ch[port & 3];
    if (!write)
        return read_byte(c, now);
    write_byte(c, v, now);
    return 0;
}

static int counter_ports(void *ud, struct vc_access *a)
{
    struct pit *pit = ud;
    uint64_t data = 0;

    pthread_mutex_lock(&pit->lock);
    uint64_t now = clock_now(pit->clock);
    for (unsigned i = 0; i < 3; i++)
        sync(&pit->s.ch[i], now);
    for (unsigned i = 0; i < a->len; i++) /* a byte at a time, as the ISA bus does */
        data |= (uint64_t)port_byte(pit, (unsigned)a->addr + i, a->write,
                                    (uint8_t)(a->data >> 8 * i), now)
                << 8 * i;
    if (a->write) {
        irqchip_line(pit->irq, 0, output(&pit->s.ch[0], now));
        arm(pit, now);
    } else {
        a->data = data;
    }
    pthread_mutex_unlock(&pit->lock);
    return 0;
}

/* ---- port 0x61 ------------------------------------------------------------------------- */

static void set_gate(struct pit_channel *c, bool gate, uint64_t now)
{
    bool rise = gate && !c->gate, fall = !gate && c->gate;

    sync(c, now);
    if (fall && c->mode != 1 && c->mode != 5)
        pause_at(c, now);
    c->gate = gate;
    if (!rise || !c->reload)
        return;
    if (c->mode != 0 && c->mode != 4)
        start(c, now); /* triggers 1 and 5, begins a period of 2 and 3 */
    else if (c->armed)
        resume_at(c, now);
}

/* 0: gate of channel 2, 1: speaker, 2-3: error enables; read-only 4: refresh,
 * 5: output of channel 2. */
static int port_61(void *ud, struct vc_access *a)
{
    struct pit *pit = ud;

    pthread_mutex_lock(&pit->lock);
    uint64_t now = clock_now(pit->clock);
    if (a->write) {
        pit->s.port61 = a->data & 0xf;
        set_gate(&pit->s.ch[2], a->data & 1, now);
    } else {
        sync(&pit->s.ch[2], now);
        a->data = ~0xffull | pit->s.port61 | (now / REFRESH_NS & 1) << 4 |
                  (uint64_t)output(&pit->s.ch[2], now) << 5;
    }
    pthread_mutex_unlock(&pit->lock);
    return 0;
}

/* ---- life ------------------------------------------------------------------------------- */

struct pit *pit_new(struct bus *bus, struct clock *clock, struct irqchip *irq)
{
    struct pit *pit = calloc(1, sizeof *pit);

    if (!pit) {
        err_set(VC_ENOMEM, "no memory for the interval timer");
        return NULL;
    }
    pthread_mutex_init(&pit->lock, NULL);
    pit->bus = bus;
    pit->clock = clock;
    pit->irq = irq;
    for (unsigned i = 0; i < 3; i++) /* stopped, outputs high, until programmed */
        pit->s.ch[i] = (struct pit_channel){.mode = 3, .rw = RW_BOTH, .gate = i < 2, .null = true};
    pit->timer = clock_timer_new(clock, timer_fn, pit);
    pit->range[0] = bus_add(bus, VC_SPACE_PORT, 0x40, 4, BUS_UNLOCKED, counter_ports, pit);
    pit->range[1] = bus_add(bus, VC_SPACE_PORT, 0x61, 1, BUS_UNLOCKED, port_61, pit);
    if (!pit->timer || pit->range[0] < 0 || pit->range[1] < 0) {
        pit_free(pit);
        return NULL;
    }
    irqchip_line(irq, 0, 1);
    return pit;
}

void pit_free(struct pit *pit)
{
    if (!pit)
        return;
    for (unsigned i = 0; i < 2; i++)
        if (pit->range[i] > 0)
            bus_del(pit->bus, pit->range[i]);
    clock_timer_free(pit->timer);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}
