/* SPDX-License-Identifier: MIT
 * A PC platform without vCPUs, driven by accesses to its bus. */
#ifndef TESTS_PC_RIG_H
#define TESTS_PC_RIG_H

#include "base/err.h"
#include "io/pci.h"
#include <criterion/criterion.h>
#include <time.h>
#include <virtcore/vm.h>

struct rig {
    struct mem mem;
    struct pc_host host;
    struct cpu_mail mail;
    struct pc *pc;
    /* The last call of power, and how many there were. */
    uint32_t power_kind, power_code, powers;
};
static struct rig rig;

static void rig_power(void *ctx, uint32_t kind, uint32_t code)
{
    struct rig *r = ctx;
    r->power_kind = kind;
    r->power_code = code;
    r->powers++;
}

static void rig_map_changed(void *ctx)
{
    (void)ctx;
}

static uint64_t rig_tsc(void *ctx)
{
    (void)ctx;
    return host_now_ns();
}

/* Everything below the devices. */
static inline void rig_init(uint64_t ram)
{
    memset(&rig, 0, sizeof rig);
    cr_assert_eq(mem_init(&rig.mem, 1ull << 40), 0);
    cr_assert_eq(mem_add(&rig.mem, 0, min_u64(ram, PC_LOW_RAM_MAX), VC_MEM_RWX, NULL), 0);
    if (ram > PC_LOW_RAM_MAX)
        cr_assert_eq(mem_add(&rig.mem, 1ull << 32, ram - PC_LOW_RAM_MAX, VC_MEM_RWX, NULL), 0);
    rig.host = (struct pc_host){.ctx = &rig,
                                .mem = &rig.mem,
                                .bus = bus_new(),
                                .clock = clock_new(1000000000),
                                .power = rig_power,
                                .map_changed = rig_map_changed};
    struct irqchip_opts irq = {.bus = rig.host.bus,
                               .clock = rig.host.clock,
                               .max_cpus = 1,
                               .tsc_hz = 1000000000,
                               .tsc_now = rig_tsc};
    cr_assert(rig.host.bus && rig.host.clock);
    rig.host.irq = irqchip_new(&irq);
    cr_assert(rig.host.irq);
    cr_assert_eq(irqchip_add_cpu(rig.host.irq, 0, &rig.mail), 0);
}

static inline void rig_fini(void)
{
    pc_free(rig.pc);
    irqchip_free(rig.host.irq);
    clock_free(rig.host.clock);
    bus_free(rig.host.bus);
    mem_fini(&rig.mem);
}

static inline uint64_t rig_read(enum vc_space space, uint64_t addr, unsigned len)
{
    struct vc_access a = {.addr = addr, .len = len, .data = 0x5a5a5a5a5a5a5a5a};
    cr_assert_eq(bus_access(rig.host.bus, space, &a), ENV_HANDLED);
    return len >= 8 ? a.data : a.data & ((1ull << (8 * len)) - 1);
}

static inline void rig_write(enum vc_space space, uint64_t addr, unsigned len, uint64_t data)
{
    struct vc_access a = {.addr = addr, .len = len, .data = data, .write = 1};
    cr_assert_eq(bus_access(rig.host.bus, space, &a), ENV_HANDLED);
}

static inline uint32_t in(unsigned port, unsigned len)
{
    return (uint32_t)rig_read(VC_SPACE_PORT, port, len);
}
static inline void out(unsigned port, unsigned len, uint32_t v)
{
    rig_write(VC_SPACE_PORT, port, len, v);
}

static inline void sleep_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

/* The level of a device's line once its timers had time to change it. */
#define wait_for(cond)                                                                             \
    ({                                                                                             \
        bool yes_ = false;                                                                         \
        for (int i_ = 0; i_ < 3000 && !yes_; i_++) {                                               \
            bus_lock(rig.host.bus);                                                                \
            yes_ = (cond);                                                                         \
            bus_unlock(rig.host.bus);                                                              \
            if (!yes_)                                                                             \
                sleep_ms(1);                                                                       \
        }                                                                                          \
        yes_;                                                                                      \
    })

#endif
