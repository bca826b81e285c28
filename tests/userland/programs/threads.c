/* SPDX-License-Identifier: MIT
 * Threads: locks, conditions, atomics of every width, signals to threads, and
 * the orders of memory that x86 promises. What it prints does not depend on who
 * ran when. */
#define _GNU_SOURCE
#include "show.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS  20000

static void each(void *(*fn)(void *))
{
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&t[i], NULL, fn, (void *)i))
            exit(2);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
}

/* ---- atomics --------------------------------------------------------------------- */

static _Atomic uint8_t a8;
static _Atomic uint16_t a16;
static _Atomic uint32_t a32;
static _Atomic uint64_t a64, bits, total;
static struct {
    char pad[61]; /* across a line, not a page */
    uint32_t v;
} __attribute__((packed, aligned(64))) split;

static void *atomics(void *arg)
{
    uint64_t me = (uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        a8++;
        atomic_fetch_add(&a16, 3);
        atomic_fetch_sub(&a32, (uint32_t)me + 1);
        uint64_t old = atomic_load(&a64);
        while (!atomic_compare_exchange_weak(&a64, &old, old + (old & 1) + 1))
            ;
        atomic_fetch_xor(&bits, 1ull << (me * 16 + (unsigned)i % 16));
        atomic_fetch_add(&total, atomic_exchange(&a16, 0));
        if (i % 64 == 0)
            __asm__ volatile("lock incl %0" : "+m"(split.v)::"cc");
    }
    return NULL;
}

#ifdef __x86_64__
static struct {
    uint64_t lo, hi;
} __attribute__((aligned(16))) pair;

static void *wide(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t lo = pair.lo, hi = pair.hi;
        unsigned char done;
        do {
            __asm__ volatile("lock cmpxchg16b %1"
                             : "=@ccz"(done), "+m"(pair), "+a"(lo), "+d"(hi)
                             : "b"(lo + 1), "c"(hi + lo + 1)
                             : "memory");
        } while (!done);
    }
    return NULL;
}
#endif

/* ---- orders ------------------------------------------------------------------------ */

static _Atomic uint64_t box[2], stop, torn;
static uint64_t payload[64];

static void *messages(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    if (me == 0) {
        for (uint64_t i = 1; i <= ROUNDS; i++) {
            for (int k = 0; k < 64; k++)
                payload[k] = i * (uint64_t)k;
            atomic_store_explicit(&box[0], i, memory_order_release);
            while (atomic_load_explicit(&box[1], memory_order_acquire) != i)
                if (i % 16 == 0)
                    sched_yield();
        }
        atomic_store(&stop, 1);
    } else if (me == 1) {
        uint64_t last = 0;
        while (last < ROUNDS) {
            uint64_t i = atomic_load_explicit(&box[0], memory_order_acquire);
            if (i == last) {
                sched_yield();
                continue;
            }
            for (int k = 0; k < 64; k++)
                if (payload[k] != i * (uint64_t)k)
                    atomic_fetch_add(&torn, 1);
            last = i;
            atomic_store_explicit(&box[1], i, memory_order_release);
        }
    }
    return NULL;
}

/* Stores and loads of one variable by two threads, with the fence between: never
 * do both read the old value (SDM volume 3, 9.2.3.4 and 9.2.5). */
static _Atomic uint32_t x, y;
static uint32_t seen[2];
static pthread_barrier_t barrier;
static unsigned both_old;

static void *fences(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    for (int i = 0; me < 2 && i < 1500; i++) {
        pthread_barrier_wait(&barrier);
        if (me == 0) {
            x = 1;
            seen[0] = y;
        } else {
            y = 1;
            seen[1] = x;
        }
        pthread_barrier_wait(&barrier);
        if (me == 0) {
            both_old += !seen[0] && !seen[1];
            x = y = 0;
        }
    }
    return NULL;
}

/* ---- the library's ------------------------------------------------------------------ */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_spinlock_t spin;
static sem_t sem;
static uint64_t counter, shared, turn, spun;
static __thread uint64_t mine;

static void *locks(void *arg)
{
    uint64_t me = (uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        counter += me;
        pthread_mutex_unlock(&mutex);
        if (i % 100 == 0) {
            pthread_rwlock_wrlock(&rwlock);
            shared++;
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_rwlock_rdlock(&rwlock);
            mine += shared != 0;
            pthread_rwlock_unlock(&rwlock);
        }
        if (i % 20 == 0) {
            sem_wait(&sem);
            sem_post(&sem);
            pthread_spin_lock(&spin);
            spun++;
            pthread_spin_unlock(&spin);
        }
    }
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != me)
            pthread_cond_wait(&cond, &mutex);
        turn++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static _Atomic unsigned signals;
static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static _Atomic int started;
static void *target(void *arg)
{
    started = 1;
    double d = 1;
    while (!stop)
        d = d * 1.0000001 + 1e-9;
    *(double *)arg = d;
    return NULL;
}

static void signalled(void)
{
    pthread_t t;
    double d = 0;
    stop = 0;
    signal(SIGUSR1, on_signal);
    if (pthread_create(&t, NULL, target, &d))
        exit(2);
    while (!started)
        sched_yield();
    for (unsigned i = 0; i < 300; i++) {
        unsigned before = signals;
        pthread_kill(t, SIGUSR1);
        while (signals == before)
            sched_yield();
    }
    stop = 1;
    pthread_join(t, NULL);
    add(signals);
    add(d >= 1);
    show("signals");
}

int main(void)
{
    each(atomics);
    total += a16;
    add(a8);
    add(total);
    add(a32);
    add(bits);
    add(split.v);
    show("atomics");
#ifdef __x86_64__
    each(wide);
    add(pair.lo);
    add(pair.hi);
#endif
    show("cmpxchg16b");
    each(messages);
    add(torn);
    show("messages");
    pthread_barrier_init(&barrier, NULL, 2);
    each(fences);
    add(both_old);
    show("fences");
    pthread_spin_init(&spin, 0);
    sem_init(&sem, 0, 2);
    each(locks);
    add(counter);
    add(shared);
    add(turn);
    add(spun);
    show("locks");
    signalled();
    return 0;
}
