/* SPDX-License-Identifier: MIT
 * The benchmark's program: one static file that runs on the host and, as the first
 * process, in a guest. Prints a line a row: "row GROUP NAME NANOSECONDS", the least
 * time of a round; a wrong result is "WRONG GROUP NAME".
 *
 *   bench-guest [-r REPS] [-t MS] [-c] [GROUP|ROW...]
 *     -r  repetitions of which the least counts (5)
 *     -t  length of a repetition in milliseconds (20)
 *     -c  no times: check every row's result only
 *
 * As process 1 it says so first, and powers off at the end. */
#define _GNU_SOURCE
#include "guest.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

const char *self_path = "/proc/self/exe";
static bool first_process;

double seconds(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

void print_row(const char *group, const char *name, double ns)
{
    printf("row %s %s %.3f\n", group, name, ns);
    fflush(stdout);
}

static bool check(const struct kernel *k)
{
    if (k->setup)
        k->setup();
    uint64_t got = k->run(k->check_rounds);
    if (got == k->check)
        return true;
    printf("WRONG %s %s %#llx\n", k->group, k->name, (unsigned long long)got);
    return false;
}

static double timed(const struct kernel *k, clockid_t clock, uint64_t n)
{
    double start = seconds(clock);
    k->run(n);
    return seconds(clock) - start;
}

static void measure(const struct kernel *k, clockid_t clock, struct effort effort)
{
    uint64_t n = 1;
    double t = timed(k, clock, n);
    while (t < effort.target * 0.7) {
        double grow = t > 0 ? effort.target / t : 100;
        n = (uint64_t)((double)n * (grow < 10 ? grow : 10)) + 1;
        t = timed(k, clock, n);
    }
    double least = t;
    for (int i = 1; i < effort.reps; i++) {
        t = timed(k, clock, n);
        least = t < least ? t : least;
    }
    print_row(k->group, k->name, least / (double)n * 1e9);
}

static bool wanted(const char *group, const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (!strcmp(*names, name) || !strcmp(*names, group))
            return true;
    return false;
}

static bool run_table(const struct kernel *k, clockid_t clock, struct effort effort, char **names)
{
    bool ok = true;
    for (; k->name; k++) {
        if (!wanted(k->group, k->name, names))
            continue;
        if (!strcmp(k->group, "avx2") &&
            !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
            continue;
        if (!check(k))
            ok = false;
        else if (effort.reps)
            measure(k, clock, effort);
    }
    return ok;
}

static int finish(int status)
{
    if (first_process) {
        puts(status ? "bench: failed" : "bench: end");
        fflush(stdout);
        reboot(RB_POWER_OFF);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct effort effort = {5, 0.02};
    bool ok = true;
    int opt;
    if (argc == 2 && !strcmp(argv[1], "--exit"))
        return 0;
    if (getpid() == 1) {
        first_process = true;
        self_path = "/init";
        puts("bench: init");
        fflush(stdout);
        mkdir("/tmp", 0777);
    }
    while ((opt = getopt(argc, argv, "r:t:c")) != -1) {
        if (opt == 'r')
            effort.reps = atoi(optarg);
        else if (opt == 't')
            effort.target = atof(optarg) * 1e-3;
        else if (opt == 'c')
            effort.reps = 0;
        else
            return finish(2);
    }
    if (mprotect(code_buffer, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        perror("mprotect");
        return finish(1);
    }
    for (const struct kernel *const *table = kernel_tables; *table; table++)
        ok &= run_table(*table, CLOCK_THREAD_CPUTIME_ID, effort, argv + optind);
    ok &= run_table(os_kernels, CLOCK_MONOTONIC, effort, argv + optind);
    if (wanted("smp", "smp", argv + optind))
        ok &= smp_rows(effort);
    return finish(!ok);
}
