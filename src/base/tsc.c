/* SPDX-License-Identifier: MIT
 * How fast the host's time-stamp counter runs. */
#include "tsc.h"
#include <pthread.h>

struct pair {
    uint64_t tsc, ns;
};

/* Both clocks at one moment: of several readings the one where the counter moved
 * least around the clock's. */
static struct pair read_pair(void)
{
    struct pair best = {0};
    uint64_t best_gap = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = host_tsc(), ns = host_now_ns(), gap = host_tsc() - before;
        if (gap < best_gap) {
            best_gap = gap;
            best = (struct pair){.tsc = before + gap / 2, .ns = ns};
        }
    }
    return best;
}

/* A constant of the host, found once a process. */
static uint64_t tsc_hz;
static pthread_once_t tsc_once = PTHREAD_ONCE_INIT;

static void measure(void)
{
    struct pair a = read_pair();
    struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    nanosleep(&pause, NULL);
    struct pair b = read_pair();
    uint64_t ns = b.ns - a.ns;
    tsc_hz = ns ? (uint64_t)((unsigned __int128)(b.tsc - a.tsc) * 1000000000u / ns) : 0;
    /* A counter that stands still cannot be offered; nobody divides by 0. */
    if (tsc_hz < 1000000)
        tsc_hz = 1000000;
}

uint64_t host_tsc_hz(void)
{
    pthread_once(&tsc_once, measure);
    return tsc_hz;
}
