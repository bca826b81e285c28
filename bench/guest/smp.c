/* SPDX-License-Identifier: MIT
 * The same integer work in one thread and in two at once: how much more two
 * processors get done. Its kernels write no data that threads would share. */
#include "guest.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define THREADS 2
#define KERNELS 3
#define LONGER  12 /* than other rows: starting threads must not count */

struct task {
    uint64_t rounds, sum;
};

static const struct kernel *work[KERNELS];

static void *run_task(void *arg)
{
    struct task *t = arg;
    t->sum = 0;
    for (unsigned i = 0; i < KERNELS; i++)
        t->sum = mix(t->sum, work[i]->run(t->rounds));
    return NULL;
}

/* Runs the work in so many threads; their wall-clock time, or a negative number
 * when they do not agree. */
static double run_threads(unsigned threads, uint64_t rounds)
{
    pthread_t id[THREADS];
    struct task task[THREADS];
    double start = seconds(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < threads; i++) {
        task[i].rounds = rounds;
        if (pthread_create(&id[i], NULL, run_task, &task[i]))
            return -1;
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    double t = seconds(CLOCK_MONOTONIC) - start;
    for (unsigned i = 1; i < threads; i++)
        if (task[i].sum != task[0].sum)
            return -1;
    return t;
}

bool smp_rows(struct effort effort)
{
    static const char *const names[KERNELS] = {"state", "interp", "calls"};
    uint64_t rounds = 1;
    double least[THREADS + 1];
    FOR_EACH_KERNEL(table, k)
    {
        for (unsigned i = 0; i < KERNELS; i++)
            if (!strcmp(k->name, names[i]))
                work[i] = k;
    }
    double t = run_threads(1, rounds);
    while (t < effort.target * LONGER && effort.reps) {
        rounds *= 2;
        t = run_threads(1, rounds);
    }
    least[1] = t;
    least[2] = 1e9;
    for (int i = 0; i < effort.reps || !i; i++)
        for (unsigned threads = 1; threads <= THREADS; threads++) {
            t = run_threads(threads, rounds);
            if (t < 0) {
                puts("WRONG smp smp");
                return false;
            }
            least[threads] = t < least[threads] ? t : least[threads];
        }
    if (effort.reps) {
        print_row("smp", "one", least[1] / (double)rounds * 1e9);
        print_row("smp", "two", least[2] / (double)rounds * 1e9);
    }
    return true;
}
