/* SPDX-License-Identifier: MIT
 * The local APIC's timer (SDM 10.5.4): one-shot, periodic, TSC deadline. It
 * counts at 1 GHz before the divider, so that a tick is a nanosecond of
 * clock_now. Counters are computed when somebody looks; a host timer is armed
 * only where an interrupt would come of it. */
#include "irqchip.h"

/* A guest that asks for a tick every few nanoseconds gets one as often as this:
 * ticks that come while the one before is not yet taken are merged anyway. */
#define PERIOD_MIN_NS 100000u
/* Far deadlines are looked at again after this time. */
#define DEADLINE_STEP_NS (3600ull * 1000000000u)

/* Divide configuration: bits 3, 1, 0 are the exponent minus one, 7: by 1. */
static unsigned divide_shift(const struct lapic *l)
{
    uint32_t d = l->s.timer_divide;
    return ((d & 3) + ((d & 8) ? 4 : 0) + 1) & 7;
}

static unsigned timer_mode(const struct lapic *l)
{
    return LVT_TIMER_MODE(l->s.lvt[LVT_TIMER]);
}

static uint64_t tsc_now(const struct lapic *l)
{
    const struct irqchip_opts *o = &l->chip->opts;
    if (o->tsc_now)
        return o->tsc_now(o->ctx);
    return (uint64_t)((unsigned __int128)clock_now(o->clock) * o->tsc_hz / 1000000000u);
}

static void fire(struct lapic *l)
{
    uint32_t lvt = l->s.lvt[LVT_TIMER];
    if (!(lvt & LVT_MASKED))
        lapic_accept(l, lvt & LVT_VECTOR, false);
}

/* When timer_count runs out. */
static uint64_t expiry(const struct lapic *l)
{
    return l->s.timer_since + ((uint64_t)l->s.timer_count << divide_shift(l));
}

/* Arms the host timer for the next interrupt. */
static void arm(struct lapic *l, uint64_t now)
{
    const struct lapic_state *s = &l->s;
    uint64_t at = 0;

    if (s->lvt[LVT_TIMER] & LVT_MASKED) {
        at = 0;
    } else if (timer_mode(l) == TIMER_DEADLINE && s->deadline) {
        uint64_t tsc = tsc_now(l);
        unsigned __int128 ns = s->deadline > tsc ? s->deadline - tsc : 0;
        ns = (ns * 1000000000u + l->chip->opts.tsc_hz - 1) / l->chip->opts.tsc_hz;
        at = now + (ns < DEADLINE_STEP_NS ? (uint64_t)ns : DEADLINE_STEP_NS);
    } else if (s->timer_runs) {
        at = expiry(l);
        if (timer_mode(l) == TIMER_PERIODIC && at < now + PERIOD_MIN_NS &&
            ((uint64_t)s->timer_initial << divide_shift(l)) < PERIOD_MIN_NS)
            at = now + PERIOD_MIN_NS;
    }
    if (at)
        clock_timer_arm(l->timer, at);
    else
        clock_timer_disarm(l->timer);
}

/* Lets happen what is due by now. Before anything looks at or changes the timer. */
static void sync(struct lapic *l, uint64_t now)
{
    struct lapic_state *s = &l->s;

    if (s->deadline && tsc_now(l) >= s->deadline) {
        s->deadline = 0;
        fire(l);
    }
    if (!s->timer_runs || now < expiry(l))
        return;
    if (timer_mode(l) == TIMER_PERIODIC && s->timer_initial) {
        uint64_t period = (uint64_t)s->timer_initial << divide_shift(l);
        uint64_t over = now - expiry(l);
        s->timer_since = now - over % period;
        s->timer_count = s->timer_initial;
    } else {
        s->timer_runs = false;
    }
    fire(l);
}

void lapic_timer_fn(void *ud)
{
    struct lapic *l = ud;

    pthread_mutex_lock(&l->chip->lock);
    if (l->mail) {
        uint64_t now = clock_now(l->chip->opts.clock);
        sync(l, now);
        arm(l, now);
    }
    pthread_mutex_unlock(&l->chip->lock);
}

void lapic_timer_stop(struct lapic *l)
{
    l->s.timer_runs = false;
    l->s.deadline = 0;
    if (l->timer)
        clock_timer_disarm(l->timer);
}

/* Changing between counting and TSC deadline disarms; between one-shot and
 * periodic the count goes on. */
void lapic_timer_lvt(struct lapic *l, uint32_t lvt)
{
    uint64_t now = clock_now(l->chip->opts.clock);
    unsigned old = timer_mode(l);

    sync(l, now);
    l->s.lvt[LVT_TIMER] = lvt;
    unsigned mode = timer_mode(l);
    if (mode != old && (mode >= TIMER_DEADLINE || old >= TIMER_DEADLINE)) {
        lapic_timer_stop(l);
        l->s.timer_initial = 0;
    }
    arm(l, now);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
    if (timer_mode(l) >= TIMER_DEADLINE)
        return;
    uint64_t now = clock_now(l->chip->opts.clock);
    sync(l, now);
    l->s.timer_initial = l->s.timer_count = count;
    l->s.timer_since = now;
    l->s.timer_runs = count != 0;
    arm(l, now);
}

/* What is left of the count now; sync was called. */
static uint32_t left(const struct lapic *l, uint64_t now)
{
    if (!l->s.timer_runs)
        return 0;
    uint64_t gone = (now - l->s.timer_since) >> divide_shift(l);
    return gone < l->s.timer_count ? l->s.timer_count - (uint32_t)gone : 0;
}

uint32_t lapic_timer_current(struct lapic *l)
{
    uint64_t now = clock_now(l->chip->opts.clock);
    sync(l, now);
    return left(l, now);
}

void lapic_timer_divide(struct lapic *l, uint32_t divide)
{
    uint64_t now = clock_now(l->chip->opts.clock);
    sync(l, now);
    if (l->s.timer_runs) { /* go on from where it is, at the new speed */
        l->s.timer_count = left(l, now);
        l->s.timer_since = now;
    }
    l->s.timer_divide = divide;
    arm(l, now);
}

/* IA32_TSC_DEADLINE is 0 and ignores writes in the other modes. */
uint64_t lapic_deadline_get(struct lapic *l)
{
    if (timer_mode(l) != TIMER_DEADLINE)
        return 0;
    sync(l, clock_now(l->chip->opts.clock));
    return l->s.deadline;
}

void lapic_deadline_set(struct lapic *l, uint64_t tsc)
{
    if (timer_mode(l) != TIMER_DEADLINE)
        return;
    uint64_t now = clock_now(l->chip->opts.clock);
    sync(l, now);
    l->s.deadline = tsc;
    sync(l, now); /* a deadline that has passed fires before WRMSR is done */
    arm(l, now);
}

void lapic_timer_save(struct lapic *l, struct lapic_state *out)
{
    uint64_t now = clock_now(l->chip->opts.clock);
    sync(l, now);
    *out = l->s;
    out->timer_count = left(l, now);
    out->timer_since = 0;
}

void lapic_timer_load(struct lapic *l)
{
    uint64_t now = clock_now(l->chip->opts.clock);
    l->s.timer_since = now;
    sync(l, now); /* a deadline that passed on the way */
    arm(l, now);
}
