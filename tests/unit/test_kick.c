/* SPDX-License-Identifier: MIT
 * Loops that never end, interrupts off, in every engine of emu, or on another backend: a
 * kick, a budget of time and one of instructions end them, and they go on afterwards.
 * How soon is measured by bench/kick.c; here nothing depends on the host's speed. */
#include "api.h"
#include "loops.h"

static uint64_t insns(vc_cpu *cpu)
{
    struct vc_stats s = {.size = sizeof s};
    works(vc_cpu_stats(cpu, &s));
    return s.insns;
}

static void in_each(uint32_t engine, void (*fn)(vc_cpu *cpu, const struct loop *l))
{
    if ((engine == VC_ENGINE_AUTO) == !strcmp(tested(), "emu"))
        cr_skip_test("%s runs code in another way", tested());
    for (unsigned i = 0; i < LOOPS; i++) {
        vc_vm *vm = loop_open(tested(), engine);
        cr_assert_not_null(vm, "%s", vc_errmsg());
        vc_cpu *cpu = loop_make(vm, &loops[i]);
        cr_assert_not_null(cpu, "%s: %s", loops[i].name, vc_errmsg());
        fn(cpu, &loops[i]);
        works(vc_close(vm));
    }
}

static void kicked(vc_cpu *cpu, const struct loop *l)
{
    for (unsigned i = 0; i < 3; i++) {
        struct runner r;
        runner_start(&r, cpu);
        usleep(2000);
        works(vc_kick(cpu));
        pthread_join(r.thread, NULL);
        cr_assert_eq(r.rc, 0, "%s: %d", l->name, r.rc);
        cr_assert_eq(r.exit.kind, VC_EXIT_KICK, "%s: exit %u", l->name, r.exit.kind);
    }
}

/* One that came before the run counts too, once. */
static void kicked_before(vc_cpu *cpu, const struct loop *l)
{
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b, .ns = 300000};
    works(vc_kick(cpu));
    works(vc_run(cpu, &b, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK, "%s: exit %u", l->name, x.kind);
    works(vc_run(cpu, &b, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET, "%s: exit %u", l->name, x.kind);
}

static void timed(vc_cpu *cpu, const struct loop *l)
{
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b};
    for (unsigned i = 0; i < 8; i++) {
        b.ns = 1 + 300000 * i;
        works(vc_run(cpu, &b, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET, "%s: exit %u", l->name, x.kind);
    }
}

static void counted(vc_cpu *cpu, const struct loop *l)
{
    if (!can(VC_FEAT_BUDGET_INSNS))
        return;
    static const uint64_t counts[] = {1,     2,     3,   1000,  65537, 1,     200001,
                                      20001, 20003, 160, 20000, 20090, 20150, 161};
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b};
    for (unsigned i = 0; l->counts && i < sizeof counts / sizeof *counts; i++) {
        uint64_t before = insns(cpu);
        b.insns = counts[i];
        works(vc_run(cpu, &b, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET, "%s: exit %u", l->name, x.kind);
        cr_assert_eq(insns(cpu) - before, counts[i], "%s: %llu of %llu", l->name,
                     (unsigned long long)(insns(cpu) - before), (unsigned long long)counts[i]);
    }
}

#define ENGINES(what)                                                                              \
    Test(kick, what##_interpreted)                                                                 \
    {                                                                                              \
        in_each(VC_ENGINE_INTERP, what);                                                           \
    }                                                                                              \
    Test(kick, what##_translated)                                                                  \
    {                                                                                              \
        in_each(VC_ENGINE_JIT, what);                                                              \
    }                                                                                              \
    Test(kick, what##_in_lockstep)                                                                 \
    {                                                                                              \
        in_each(VC_ENGINE_LOCKSTEP, what);                                                         \
    }                                                                                              \
    Test(kick, what##_elsewhere)                                                                   \
    {                                                                                              \
        in_each(VC_ENGINE_AUTO, what);                                                             \
    }
ENGINES(kicked)
ENGINES(kicked_before)
ENGINES(timed)
ENGINES(counted)
