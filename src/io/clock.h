/* SPDX-License-Identifier: MIT
 * Device time and timers. One thread a partition sleeps until the next timer is
 * due; it is started with the first timer that is made. */
#ifndef IO_CLOCK_H
#define IO_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct clock_timer;

struct clock *clock_new(uint64_t tsc_hz);
void clock_free(struct clock *clock); /* stops the thread; timers must be freed before */

/* Nanoseconds of guest time (CLOCK_MONOTONIC), never backwards. */
uint64_t clock_now(struct clock *clock);
/* Ticks a second of the guest's time-stamp counter. */
uint64_t clock_tsc_hz(const struct clock *clock);

/* fn runs on the clock's thread, without any lock of the clock held; it may arm,
 * disarm and free timers. NULL with error set. */
struct clock_timer *clock_timer_new(struct clock *clock, void (*fn)(void *ud), void *ud);
void clock_timer_free(struct clock_timer *t); /* waits for fn in flight, unless called by it;
                                                 the caller holds no lock that fn takes */
void clock_timer_arm(struct clock_timer *t, uint64_t at_ns); /* replaces an earlier time */
void clock_timer_disarm(struct clock_timer *t);

#endif
