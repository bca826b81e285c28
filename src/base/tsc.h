/* SPDX-License-Identifier: MIT
 * The host's time-stamp counter, from which guests' counters are made. */
#ifndef BASE_TSC_H
#define BASE_TSC_H

#include "util.h"

#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t host_tsc(void)
{
    return __rdtsc();
}
#else
/* Elsewhere a counter of 1 GHz stands in. */
static inline uint64_t host_tsc(void)
{
    return host_now_ns();
}
#endif

/* Ticks a second, measured against CLOCK_MONOTONIC on the first call (10 ms). */
uint64_t host_tsc_hz(void);

#endif
