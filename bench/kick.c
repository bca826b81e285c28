/* SPDX-License-Identifier: MIT
 * bench-kick [TIMES]: how soon a guest in a tight loop with interrupts off obeys a
 * kick, and how far it overruns a budget of a millisecond, in microseconds of the
 * vCPU thread's own processor time, so that other load on the host does not count. */
#include "tests/unit/loops.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct runner {
    vc_cpu *cpu;
    clockid_t clock;
    _Atomic int running;
    double end; /* microseconds of the clock */
    struct vc_exit exit;
    int rc;
};

static double clock_us(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void *run(void *ud)
{
    struct runner *r = ud;
    pthread_getcpuclockid(pthread_self(), &r->clock);
    atomic_store(&r->running, 1);
    r->rc = vc_run(r->cpu, NULL, &r->exit);
    r->end = clock_us(r->clock);
    return NULL;
}

/* Microseconds from the kick to vc_run's return; < 0: it failed. */
static double kick(vc_cpu *cpu, unsigned round)
{
    struct runner r = {.cpu = cpu, .exit = {.size = sizeof r.exit}};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &r))
        return -1;
    while (!atomic_load(&r.running))
        usleep(100);
    while (clock_us(r.clock) < 1500)
        usleep(200 + round % 7 * 50);
    double start = clock_us(r.clock);
    vc_kick(cpu);
    double done = clock_us(r.clock);
    pthread_join(thread, NULL);
    if (r.rc || r.exit.kind != VC_EXIT_KICK)
        return -1;
    /* The host took the processor from this thread in the middle of its kick. */
    return done - start > 100 && done < r.end ? kick(cpu, round) : r.end - start;
}

/* Microseconds over a budget of one millisecond; a host that gives the processor to
 * somebody else meanwhile makes it less. */
static double overrun(vc_cpu *cpu)
{
    struct vc_budget b = {.size = sizeof b, .ns = 1000000};
    struct vc_exit x = {.size = sizeof x};
    double start = clock_us(CLOCK_THREAD_CPUTIME_ID);
    if (vc_run(cpu, &b, &x) || x.kind != VC_EXIT_BUDGET)
        return -1;
    return clock_us(CLOCK_THREAD_CPUTIME_ID) - start - 1000;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    printf(" %8.0f %8.0f %8.0f", v[n / 2], v[n * 9 / 10], v[n - 1]);
}

static int measure(const struct loop *l, uint32_t engine, unsigned times, double *v)
{
    vc_vm *vm = loop_open("emu", engine);
    vc_cpu *cpu = vm ? loop_make(vm, l) : NULL;
    int rc = cpu ? 0 : -1;
    for (unsigned i = 0; i < times && !rc; i++)
        rc = (v[i] = kick(cpu, i)) < 0 ? -1 : 0;
    if (!rc)
        print(v, times);
    for (unsigned i = 0; i < times && !rc; i++)
        rc = (v[i] = overrun(cpu)) < -1000 ? -1 : 0;
    if (!rc)
        print(v, times);
    if (rc)
        printf("  failed: %s", vc_errmsg());
    vc_close(vm);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint32_t engine;
    } engines[] = {{"interp", VC_ENGINE_INTERP}, {"jit", VC_ENGINE_JIT}};
    unsigned times = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 30;
    double *v = times && times < 100000 ? malloc(times * sizeof *v) : NULL;
    int rc = 0;
    if (!v) {
        fprintf(stderr, "bench-kick [TIMES]\n");
        return 2;
    }
    printf("%-32s %-7s %26s %26s\n", "us of CPU time", "", "kick: median 90%      max",
           "budget over: median 90% max");
    for (unsigned i = 0; i < LOOPS; i++) {
        for (unsigned e = 0; e < sizeof engines / sizeof *engines; e++) {
            printf("%-32s %-7s", loops[i].name, engines[e].name);
            rc |= measure(&loops[i], engines[e].engine, times, v);
            printf("\n");
            fflush(stdout);
        }
    }
    free(v);
    return rc != 0;
}
