/* SPDX-License-Identifier: MIT
 * What the tests of the public API share. */
#ifndef TESTS_UNIT_API_H
#define TESTS_UNIT_API_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define CODE 0x1000ull

/* A failure has its code, and a sentence. */
#define fails(call, want)                                                                          \
    do {                                                                                           \
        vc_errclear();                                                                             \
        long long got_ = (call);                                                                   \
        cr_assert_eq(got_, (want), "%s is %lld (%s), not " #want, #call, got_, vc_errmsg());       \
        cr_assert_eq(vc_errcode(), (want), "%s leaves %s", #call, vc_errname(vc_errcode()));       \
        cr_assert(strlen(vc_errmsg()) > 8, "%s says nothing", #call);                              \
    } while (0)
#define works(call)                                                                                \
    do {                                                                                           \
        long long got_ = (call);                                                                   \
        cr_assert_geq(got_, 0, "%s is %lld: %s", #call, got_, vc_errmsg());                        \
    } while (0)
#define refused(handle, want)                                                                      \
    do {                                                                                           \
        vc_errclear();                                                                             \
        cr_assert_null((handle), "%s is not NULL", #handle);                                       \
        cr_assert_eq(vc_errcode(), (want), "%s leaves %s", #handle, vc_errname(vc_errcode()));     \
        cr_assert(strlen(vc_errmsg()) > 8, "%s says nothing", #handle);                            \
    } while (0)

/* The backend that is tested: the environment's VC_TEST_BACKEND, or the one that works
 * everywhere. tests/kvm-lab runs what asks here on kvm. */
static inline const char *tested(void)
{
    const char *name = getenv("VC_TEST_BACKEND");
    return name && *name ? name : "emu";
}

static inline bool can(uint32_t feature)
{
    struct vc_probe_info info = {.size = sizeof info};
    works(vc_probe(tested(), &info));
    return info.features & feature;
}

/* A budget that is soon used up: instructions, where the backend counts them. */
static inline struct vc_budget little(uint64_t insns)
{
    struct vc_budget b = {.size = sizeof b};
    if (can(VC_FEAT_BUDGET_INSNS))
        b.insns = insns;
    else
        b.ns = 2000000;
    return b;
}

static inline vc_vm *open_vm(void)
{
    vc_vm *vm = vc_open(tested(), NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    return vm;
}

/* A vCPU in 64-bit mode at code that lies at CODE in 64 KiB of RAM from 0. */
static inline vc_cpu *code_cpu(vc_vm *vm, const void *code, size_t len)
{
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_write(vm, CODE, code, len));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    cr_assert_not_null(cpu, "%s", vc_errmsg());
    return cpu;
}

static const uint8_t spin[] = {0xeb, 0xfe};                          /* jmp $ */
static const uint8_t out_out_hlt[] = {0xe6, 0x10, 0xe6, 0x10, 0xf4}; /* out 0x10, al; twice */

/* A vCPU that spins on a thread of its own until it is kicked. */
struct runner {
    vc_cpu *cpu;
    pthread_t thread;
    struct vc_exit exit;
    int rc;
};

static inline void *runner_main(void *ud)
{
    struct runner *r = ud;
    r->exit = (struct vc_exit){.size = sizeof r->exit};
    do /* runner_start() is inside a call now and then */
        r->rc = vc_run(r->cpu, NULL, &r->exit);
    while (r->rc == VC_EBUSY);
    return NULL;
}

static inline void runner_start(struct runner *r, vc_cpu *cpu)
{
    r->cpu = cpu;
    cr_assert_eq(pthread_create(&r->thread, NULL, runner_main, r), 0);
    /* It runs when its registers are taken. */
    uint64_t v;
    while (vc_reg_get(cpu, VC_REG_RAX, &v) != VC_EBUSY)
        usleep(1000);
}

static inline void runner_stop(struct runner *r)
{
    works(vc_kick(r->cpu));
    pthread_join(r->thread, NULL);
    cr_assert_eq(r->rc, 0);
    cr_assert_eq(r->exit.kind, VC_EXIT_KICK);
}

#endif
