/* SPDX-License-Identifier: MIT
 * Runs each kernel natively and in the engine, in turns in one process, and
 * prints the ratio of the best times. The guest runs the very bytes of this
 * program: it is linked at a fixed address below 4 GiB, and its image is copied
 * to the same addresses in the guest.
 *
 *   bench-engine [-r ROUNDS] [-b BACKEND] [-j] [-p] [KERNEL...]
 *
 * -j: translated; -p: in pages of 4 KiB, as a process has them, else of 2 MiB
 */
#include "kernels/kernels.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

extern const char __executable_start[], _end[]; /* of the linker's */

#define STACK_TOP 0x200000ull
#define DONE_PORT 0x99
#define TABLES    (1ull << 32) /* physical */
#define TARGET    0.02         /* seconds of one measurement */

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "bench-engine: %s: %s\n", what, vc_errmsg());
    exit(1);
}

struct guest {
    vc_vm *vm;
    vc_cpu *cpu;
    uint64_t done; /* address of the code that says so */
};

static uint64_t guest_call(struct guest *g, uint64_t fn, uint64_t n);

/* Linear addresses below end are physical ones, by pages of 4 KiB. */
static void small_pages(struct guest *g, uint64_t end)
{
    enum { PRESENT = 1, WRITE = 2, USED = 0x60, FLAGS = PRESENT | WRITE | USED };
    uint64_t npt = (end >> 21) + 1, *t = calloc(6 + npt, 4096);
    if (!t || end >> 32 || vc_map(g->vm, TABLES, (6 + npt) * 4096, VC_MEM_RWX))
        die("page tables");
    t[0] = (TABLES + 4096) | FLAGS;
    for (uint64_t i = 0; i < 4; i++)
        t[512 + i] = (TABLES + (2 + i) * 4096) | FLAGS;
    for (uint64_t i = 0; i < npt; i++)
        t[2 * 512 + i] = (TABLES + (6 + i) * 4096) | FLAGS;
    for (uint64_t i = 0; i < end >> 12; i++)
        t[6 * 512 + i] = i << 12 | FLAGS;
    vc_write(g->vm, TABLES, t, (6 + npt) * 4096);
    free(t);
    if (vc_reg_set(g->cpu, VC_REG_CR3, TABLES))
        die("CR3");
}

static struct guest guest_new(const char *backend, uint32_t engine, int small)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = engine};
    struct guest g;
    uint64_t base = (uint64_t)(uintptr_t)__executable_start & ~4095ull;
    uint64_t end = ((uint64_t)(uintptr_t)_end + 4095) & ~4095ull;
    static const uint8_t done[] = {0xe6, DONE_PORT, 0xf4}; /* out; hlt */
    static const uint8_t init[] = {0xdb, 0xe3, 0xc3};      /* fninit; ret */

    g.vm = vc_open(backend, &opts);
    g.cpu = NULL;
    if (!g.vm || vc_map(g.vm, 0, STACK_TOP, VC_MEM_RWX) ||
        vc_map(g.vm, base, end - base, VC_MEM_RWX) ||
        vc_write(g.vm, base, __executable_start, (size_t)(_end - __executable_start)))
        die("memory");
    g.done = 0x1000;
    vc_write(g.vm, g.done, done, sizeof done);
    vc_write(g.vm, g.done + sizeof done, init, sizeof init);
    g.cpu = vc_cpu_new(g.vm, VC_MODE_LONG64, base);
    uint64_t cr4 = 0;
    if (!g.cpu || vc_reg_get(g.cpu, VC_REG_CR4, &cr4) ||
        vc_reg_set(g.cpu, VC_REG_CR4, cr4 | 1u << 18) || vc_reg_set(g.cpu, VC_REG_XCR0, 7))
        die("vCPU");
    if (small)
        small_pages(&g, end);
    guest_call(&g, g.done + sizeof done, 0);
    return g;
}

static uint64_t guest_call(struct guest *g, uint64_t fn, uint64_t n)
{
    struct vc_gprs r = {.size = sizeof r};
    struct vc_exit x = {.size = sizeof x};
    r.gpr[VC_REG_RDI] = n;
    r.gpr[VC_REG_RSP] = STACK_TOP - 4096 - 8;
    r.rip = fn;
    r.rflags = 2;
    vc_write(g->vm, r.gpr[VC_REG_RSP], &g->done, 8);
    if (vc_gprs_set(g->cpu, &r) || vc_run(g->cpu, NULL, &x))
        die("run");
    if (x.kind != VC_EXIT_PORT || x.u.port.port != DONE_PORT) {
        fprintf(stderr, "bench-engine: exit %u at %#llx\n", x.kind, (unsigned long long)x.rip);
        exit(1);
    }
    vc_gprs_get(g->cpu, &r);
    return r.gpr[VC_REG_RAX];
}

/* Runs n rounds here, or in the guest if there is one. */
static uint64_t run(struct guest *g, const struct kernel *k, uint64_t n)
{
    return g ? guest_call(g, (uint64_t)(uintptr_t)k->run, n) : k->run(n);
}

static double timed(struct guest *g, const struct kernel *k, uint64_t n)
{
    double start = seconds();
    run(g, k, n);
    return seconds() - start;
}

/* How many rounds take about TARGET. */
static uint64_t enough(struct guest *g, const struct kernel *k)
{
    uint64_t n = 1;
    double t = timed(g, k, n);
    while (t < TARGET * 0.7) {
        double grow = t > 0 ? TARGET / t : 10;
        n = (uint64_t)((double)n * fmin(grow, 10)) + 1;
        t = timed(g, k, n);
    }
    return n;
}

static double measure(struct guest *g, const struct kernel *k, int rounds)
{
    if (k->setup) {
        k->setup();
        guest_call(g, (uint64_t)(uintptr_t)k->setup, 0);
    }
    if (run(NULL, k, k->check_rounds) != k->check || run(g, k, k->check_rounds) != k->check) {
        printf("%-12s WRONG RESULT\n", k->name);
        return 0;
    }
    uint64_t native_n = enough(NULL, k), guest_n = enough(g, k), insns = 0;
    double native = 1e9, engine = 1e9;
    for (int i = 0; i < rounds; i++) {
        struct vc_stats s0 = {.size = sizeof s0}, s1 = {.size = sizeof s1};
        native = fmin(native, timed(NULL, k, native_n) / (double)native_n);
        vc_cpu_stats(g->cpu, &s0);
        engine = fmin(engine, timed(g, k, guest_n) / (double)guest_n);
        vc_cpu_stats(g->cpu, &s1);
        insns = s1.insns - s0.insns;
    }
    double mips = (double)insns / (engine * (double)guest_n) * 1e-6;
    printf("%-12s %-8s %10.2f %10.2f %8.1f %8.0f\n", k->name, k->group, native * 1e6, engine * 1e6,
           engine / native, mips);
    fflush(stdout);
    return engine / native;
}

static int wanted(const struct kernel *k, char **names)
{
    if (!*names)
        return 1;
    for (; *names; names++)
        if (!strcmp(*names, k->name) || !strcmp(*names, k->group))
            return 1;
    return 0;
}

static void print_mean(const char *group, double log_sum, unsigned n)
{
    if (n > 1)
        printf("%-12s %-8s %30.1f\n", "geomean", group, exp(log_sum / n));
}

int main(int argc, char **argv)
{
    const char *backend = "emu";
    int rounds = 5, small = 0, opt;
    uint32_t engine = VC_ENGINE_INTERP;
    while ((opt = getopt(argc, argv, "r:b:jp")) != -1) {
        if (opt == 'r')
            rounds = atoi(optarg);
        else if (opt == 'b')
            backend = optarg;
        else if (opt == 'j')
            engine = VC_ENGINE_JIT;
        else if (opt == 'p')
            small = 1;
        else
            return 2;
    }
    if (mprotect(code_buffer, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        perror("mprotect");
        return 1;
    }
    struct guest g = guest_new(backend, engine, small);
    printf("%-12s %-8s %10s %10s %8s %8s\n", "kernel", "group", "native us", "guest us", "ratio",
           "MIPS");
    const char *group = NULL;
    double log_sum = 0;
    unsigned n = 0;
    FOR_EACH_KERNEL(table, k)
    {
        if (!wanted(k, argv + optind))
            continue;
        if (group && strcmp(group, k->group)) {
            print_mean(group, log_sum, n);
            log_sum = 0;
            n = 0;
        }
        group = k->group;
        double ratio = measure(&g, k, rounds);
        if (ratio > 0) {
            log_sum += log(ratio);
            n++;
        }
    }
    print_mean(group, log_sum, n);
    vc_close(g.vm);
    return 0;
}
