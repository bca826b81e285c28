/* SPDX-License-Identifier: MIT
 * Device timers: a heap by time, and one thread that sleeps on its top. */
#include "clock.h"
#include "../base/err.h"
#include "../base/util.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

struct clock_timer {
    struct clock *clock;
    void (*fn)(void *ud);
    void *ud;
    uint64_t at;
    size_t pos; /* place in the heap, from 1; 0: not armed */
};

struct clock {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the thread: the top changed, or stop */
    pthread_cond_t idle; /* for clock_timer_free: fn returned */
    pthread_t thread;
    bool started, stop;
    uint64_t tsc_hz;
    struct clock_timer *running; /* whose fn is being called */
    struct clock_timer **heap;   /* heap[0] is unused: children of i are 2i, 2i + 1 */
    size_t armed;                /* timers in the heap */
    size_t timers, room;         /* the heap has room for every timer there is */
};

/* ---- the heap ----------------------------------------------------------------- */

static void heap_put(struct clock *c, size_t pos, struct clock_timer *t)
{
    c->heap[pos] = t;
    t->pos = pos;
}

/* Puts t where it belongs, from the free place pos. */
static void heap_settle(struct clock *c, size_t pos, struct clock_timer *t)
{
    while (pos > 1 && c->heap[pos / 2]->at > t->at) {
        heap_put(c, pos, c->heap[pos / 2]);
        pos /= 2;
    }
    for (;;) {
        size_t kid = 2 * pos;
        if (kid > c->armed)
            break;
        if (kid < c->armed && c->heap[kid + 1]->at < c->heap[kid]->at)
            kid++;
        if (c->heap[kid]->at >= t->at)
            break;
        heap_put(c, pos, c->heap[kid]);
        pos = kid;
    }
    heap_put(c, pos, t);
}

static void heap_remove(struct clock *c, struct clock_timer *t)
{
    size_t pos = t->pos;
    if (!pos)
        return;
    t->pos = 0;
    struct clock_timer *last = c->heap[c->armed--];
    if (last != t)
        heap_settle(c, pos, last);
}

/* ---- the thread ----------------------------------------------------------------- */

static void *clock_thread(void *ud)
{
    struct clock *c = ud;

    /* The default slack of 50 us is more than many guests' timer periods. */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (!c->armed) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        struct clock_timer *t = c->heap[1];
        if (t->at > host_now_ns()) {
            struct timespec ts = {.tv_sec = (time_t)(t->at / 1000000000u),
                                  .tv_nsec = (long)(t->at % 1000000000u)};
            pthread_cond_timedwait(&c->wake, &c->lock, &ts);
            continue;
        }
        heap_remove(c, t);
        c->running = t;
        pthread_mutex_unlock(&c->lock);
        t->fn(t->ud);
        pthread_mutex_lock(&c->lock);
        c->running = NULL;
        pthread_cond_broadcast(&c->idle);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Called with the lock held. Signals are for the embedder's threads. */
static int clock_start(struct clock *c)
{
    sigset_t all, old;

    if (c->started)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&c->thread, NULL, clock_thread, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return err_set(VC_ENOMEM, "the host has no thread left for timers");
    c->started = true;
    return 0;
}

/* ---- the clock ------------------------------------------------------------------ */

struct clock *clock_new(uint64_t tsc_hz)
{
    struct clock *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;

    if (!c) {
        err_set(VC_ENOMEM, "no memory for a clock");
        return NULL;
    }
    c->tsc_hz = tsc_hz;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_cond_init(&c->idle, NULL);
    pthread_condattr_destroy(&attr);
    return c;
}

void clock_free(struct clock *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    if (c->started)
        pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->idle);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c->heap);
    free(c);
}

uint64_t clock_now(struct clock *c)
{
    (void)c;
    return host_now_ns();
}

uint64_t clock_tsc_hz(const struct clock *c)
{
    return c->tsc_hz;
}

/* ---- timers --------------------------------------------------------------------- */

struct clock_timer *clock_timer_new(struct clock *c, void (*fn)(void *ud), void *ud)
{
    struct clock_timer *t = calloc(1, sizeof *t);
    bool ok = t != NULL;

    if (!t) {
        err_set(VC_ENOMEM, "no memory for a timer");
        return NULL;
    }
    *t = (struct clock_timer){.clock = c, .fn = fn, .ud = ud};
    pthread_mutex_lock(&c->lock);
    if (c->timers == c->room) { /* so that arming cannot fail */
        size_t room = c->room ? 2 * c->room : 16;
        struct clock_timer **heap = realloc(c->heap, (room + 1) * sizeof *heap);
        if (heap) {
            c->heap = heap;
            c->room = room;
        } else {
            err_set(VC_ENOMEM, "no memory for a timer");
            ok = false;
        }
    }
    ok = ok && clock_start(c) == 0;
    if (ok)
        c->timers++;
    pthread_mutex_unlock(&c->lock);
    if (!ok) {
        free(t);
        return NULL;
    }
    return t;
}

void clock_timer_free(struct clock_timer *t)
{
    if (!t)
        return;
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    bool inside = c->running == t && pthread_equal(pthread_self(), c->thread);
    heap_remove(c, t);
    while (!inside && c->running == t) {
        pthread_cond_wait(&c->idle, &c->lock);
        heap_remove(c, t); /* fn may have armed it again */
    }
    c->timers--;
    pthread_mutex_unlock(&c->lock);
    free(t);
}

void clock_timer_arm(struct clock_timer *t, uint64_t at_ns)
{
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    bool was_top = c->armed && c->heap[1] == t;
    heap_remove(c, t);
    t->at = at_ns;
    heap_settle(c, ++c->armed, t);
    if (c->heap[1] == t || was_top)
        pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void clock_timer_disarm(struct clock_timer *t)
{
    struct clock *c = t->clock;
    pthread_mutex_lock(&c->lock);
    heap_remove(c, t); /* a thread that wakes for nothing sleeps again */
    pthread_mutex_unlock(&c->lock);
}
