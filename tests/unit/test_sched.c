/* SPDX-License-Identifier: MIT
 * vCPUs that share host CPUs: in proportion to their weights, not above their caps, where
 * they are pinned; what waits can be kicked; the bad calls. Shares are compared with each
 * other in processor time, which the host's other load does not change. */
#include "api.h"
#include <sched.h>
#include <time.h>

#define MANY 6

struct guests {
    vc_sched *sched;
    unsigned n;
    vc_vm *vm[MANY];
    vc_cpu *cpu[MANY];
    struct runner r[MANY];
};

/* The first host CPU that this process may use. */
static uint64_t one_cpu(void)
{
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    for (unsigned i = 0; i < 64; i++)
        if (CPU_ISSET(i, &set))
            return 1ull << i;
    cr_skip_test("the host CPUs of this process are beyond the first 64");
    return 0;
}

static struct vc_sched_time time_of(struct guests *g, unsigned i)
{
    struct vc_sched_time t = {.size = sizeof t};
    works(vc_sched_time(g->sched, g->cpu[i], &t));
    return t;
}

/* Each vCPU in a partition of its own. */
static void start(struct guests *g, uint64_t host_cpus, unsigned n,
                  const struct vc_sched_share *shares)
{
    struct vc_sched_opts o = {.size = sizeof o, .host_cpus = host_cpus, .slice_us = 1000};
    g->sched = vc_sched_new(&o);
    cr_assert_not_null(g->sched, "%s", vc_errmsg());
    g->n = n;
    for (unsigned i = 0; i < n; i++) {
        g->vm[i] = open_vm();
        g->cpu[i] = code_cpu(g->vm[i], spin, sizeof spin);
        works(vc_sched_set(g->sched, g->cpu[i], &shares[i]));
    }
    for (unsigned i = 0; i < n; i++)
        runner_start(&g->r[i], g->cpu[i]);
}

static uint64_t all_ran(struct guests *g, uint64_t ran[MANY])
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < g->n; i++)
        sum += ran[i] = time_of(g, i).ran_ns;
    return sum;
}

/* Lets them have so much more processor time together; what each had of it. */
static uint64_t go_on(struct guests *g, uint64_t ns, uint64_t ran[MANY])
{
    uint64_t before[MANY], sum, from = all_ran(g, before);
    while ((sum = all_ran(g, ran)) - from < ns)
        usleep(2000);
    for (unsigned i = 0; i < g->n; i++)
        ran[i] -= before[i];
    return sum - from;
}

static void stop(struct guests *g)
{
    for (unsigned i = 0; i < g->n; i++)
        runner_stop(&g->r[i]);
    fails(vc_sched_free(g->sched), VC_EBUSY);
    for (unsigned i = 0; i < g->n; i++) {
        if (i)
            works(vc_cpu_free(g->cpu[i])); /* leaves it, as closing and removing do */
        else
            works(vc_sched_remove(g->sched, g->cpu[i]));
        works(vc_close(g->vm[i]));
    }
    works(vc_sched_free(g->sched));
}

static void near(uint64_t had, double want, const char *who)
{
    cr_expect(had > want * 0.95 && had < want * 1.05, "%s had %.1f ms, not %.1f", who, had / 1e6,
              want / 1e6);
}

/* Over seconds of one host CPU, as the host may give the one who decides its turns late. */
Test(sched, by_weight, .timeout = 120)
{
    static const struct vc_sched_share shares[] = {
        {.size = sizeof *shares, .weight = 128},
        {.size = sizeof *shares},
        {.size = sizeof *shares, .weight = 512},
        {.size = sizeof *shares, .weight = 128},
    };
    struct guests g;
    uint64_t ran[MANY];
    start(&g, one_cpu(), 4, shares);
    uint64_t sum = go_on(&g, 5000000000, ran);
    near(ran[0], sum / 8.0, "weight 128");
    near(ran[1], sum / 4.0, "weight 256");
    near(ran[2], sum / 2.0, "weight 512");
    near(ran[3], sum / 8.0, "the other with 128");
    cr_expect_gt(time_of(&g, 0).turns, 10);
    cr_expect_gt(time_of(&g, 0).waited_ns, sum / 4);
    /* Changed while it runs. */
    works(vc_sched_set(g.sched, g.cpu[0], &shares[2]));
    sum = go_on(&g, 5000000000, ran);
    near(ran[0], sum * 4 / 11.0, "now 512");
    near(ran[3], sum / 11.0, "still 128");
    stop(&g);
}

Test(sched, a_cap, .timeout = 120)
{
    static const struct vc_sched_share shares[] = {
        {.size = sizeof *shares, .cap = 20},
        {.size = sizeof *shares},
    };
    struct guests g;
    uint64_t ran[MANY];
    start(&g, one_cpu(), 2, shares);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    go_on(&g, 600000000, ran);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double wall = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    /* A fifth of the time that went by, and what it had in a window that had begun. */
    cr_expect_leq(ran[0], wall * 0.2 + 12e6, "%.0f ms of %.0f", ran[0] / 1e6, wall / 1e6);
    cr_expect_gt(ran[0], 0);
    cr_expect_gt(ran[1], ran[0]);
    stop(&g);
}

/* Two on one host CPU, one on the other: pinned, or as all are. */
Test(sched, pinned, .timeout = 120)
{
    cpu_set_t set;
    uint64_t bit = one_cpu(), other = 0;
    sched_getaffinity(0, sizeof set, &set);
    for (unsigned i = 0; i < 64; i++)
        if (CPU_ISSET(i, &set) && 1ull << i != bit)
            other = 1ull << i;
    if (!other)
        cr_skip_test("there is one host CPU");
    const struct vc_sched_share shares[] = {
        {.size = sizeof *shares, .pin = bit},
        {.size = sizeof *shares, .pin = bit},
        {.size = sizeof *shares, .pin = other},
    };
    struct guests g;
    uint64_t ran[MANY];
    start(&g, bit | other, 3, shares);
    go_on(&g, 5000000000, ran);
    near(ran[0], (double)(ran[0] + ran[1]) / 2, "one of two pinned alike");
    cr_expect_eq(time_of(&g, 2).turns, 0, "the one alone waited %llu times",
                 (unsigned long long)time_of(&g, 2).turns);
    stop(&g);
    cpu_set_t after;
    sched_getaffinity(0, sizeof after, &after);
    cr_expect(CPU_EQUAL(&set, &after));
}

/* Who sleeps takes nobody's turn, and is not kept from waking. */
Test(sched, who_sleeps, .timeout = 120)
{
    static const uint8_t hlt[] = {0xfb, 0xf4, 0xeb, 0xfd}; /* sti; hlt; jmp hlt */
    static const struct vc_sched_share shares[] = {
        {.size = sizeof *shares},
        {.size = sizeof *shares},
    };
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 16 << 20, .cpus = 1};
    struct guests g;
    uint64_t ran[MANY];
    start(&g, one_cpu(), 1, shares);
    vc_vm *vm = open_vm();
    works(vc_pc(vm, &pc));
    works(vc_write(vm, CODE, hlt, sizeof hlt));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    cr_assert_not_null(cpu, "%s", vc_errmsg());
    works(vc_sched_set(g.sched, cpu, NULL));
    struct runner r;
    runner_start(&r, cpu);
    struct vc_sched_time t = {.size = sizeof t};
    go_on(&g, 100000000, ran);
    works(vc_sched_time(g.sched, cpu, &t));
    cr_expect_lt(t.ran_ns, 50000000);
    cr_expect_lt(time_of(&g, 0).turns, 25, "%llu", (unsigned long long)time_of(&g, 0).turns);
    runner_stop(&r);
    works(vc_close(vm));
    stop(&g);
}

/* Not its turn for a long time, but kicked and limited all the same. */
Test(sched, who_waits_can_be_stopped, .timeout = 120)
{
    static const struct vc_sched_share shares[] = {
        {.size = sizeof *shares, .weight = VC_SCHED_WEIGHT_MAX},
        {.size = sizeof *shares, .weight = 1},
    };
    struct guests g;
    uint64_t ran[MANY];
    start(&g, one_cpu(), 2, shares);
    go_on(&g, 50000000, ran);
    runner_stop(&g.r[1]);
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b, .ns = 20000000};
    for (unsigned i = 0; i < 5; i++) {
        works(vc_run(g.cpu[1], &b, &x));
        cr_expect_eq(x.kind, VC_EXIT_BUDGET, "exit %u", x.kind);
    }
    works(vc_sched_set(g.sched, g.cpu[1], NULL)); /* what it had is not much any more */
    if (can(VC_FEAT_BUDGET_INSNS)) {
        b = (struct vc_budget){.size = sizeof b, .insns = 1000};
        struct vc_stats s0 = {.size = sizeof s0}, s1 = s0;
        works(vc_cpu_stats(g.cpu[1], &s0));
        works(vc_run(g.cpu[1], &b, &x));
        works(vc_cpu_stats(g.cpu[1], &s1));
        cr_expect_eq(s1.insns - s0.insns, 1000);
    }
    runner_start(&g.r[1], g.cpu[1]);
    stop(&g);
}

Test(sched, bad_calls)
{
    struct vc_sched_opts o = {.size = sizeof o, .slice_us = 199};
    struct vc_sched_share share = {.size = sizeof share, .weight = VC_SCHED_WEIGHT_MAX + 1};
    struct vc_sched_time t = {.size = sizeof t};
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    refused(vc_sched_new(&o), VC_ERANGE);
    o.slice_us = 100001;
    refused(vc_sched_new(&o), VC_ERANGE);
    o = (struct vc_sched_opts){.size = sizeof o, .host_cpus = ~0ull};
    if (sysconf(_SC_NPROCESSORS_CONF) < 64)
        refused(vc_sched_new(&o), VC_ERANGE);
    o = (struct vc_sched_opts){.size = sizeof o, .host_cpus = one_cpu()};
    vc_sched *s = vc_sched_new(&o), *other = vc_sched_new(NULL);
    cr_assert(s && other, "%s", vc_errmsg());
    fails(vc_sched_set(s, cpu, &share), VC_ERANGE);
    share = (struct vc_sched_share){.size = sizeof share, .cap = 101};
    fails(vc_sched_set(s, cpu, &share), VC_ERANGE);
    share = (struct vc_sched_share){.size = sizeof share, .pin = ~one_cpu()};
    fails(vc_sched_set(s, cpu, &share), VC_ERANGE);
    fails(vc_sched_set(NULL, cpu, NULL), VC_EINVAL);
    fails(vc_sched_set(s, NULL, NULL), VC_EINVAL);
    fails(vc_sched_remove(s, cpu), VC_ESTATE);
    fails(vc_sched_time(s, cpu, &t), VC_ESTATE);
    works(vc_sched_set(s, cpu, NULL));
    fails(vc_sched_set(other, cpu, NULL), VC_ESTATE);
    fails(vc_sched_remove(other, cpu), VC_ESTATE);
    fails(vc_sched_time(s, cpu, NULL), VC_EINVAL);
    struct runner r;
    runner_start(&r, cpu);
    fails(vc_sched_remove(s, cpu), VC_EBUSY);
    runner_stop(&r);
    works(vc_close(vm));
    works(vc_sched_free(s));
    works(vc_sched_free(other));
    works(vc_sched_free(NULL));
}
