/* SPDX-License-Identifier: MIT
 * Interrupt controllers on a bus without any engine: vCPUs are a number and a
 * mailbox. Each test file that includes this is one program. */
#ifndef IRQ_FIXTURE_H
#define IRQ_FIXTURE_H

#include <criterion/criterion.h>
#include "io/irq.h"
#include "io/irqchip.h"
#include "io/pc.h"

enum { CPUS = 4 };

struct vc_cpu {
    int index;
};

static struct bus *bus;
static struct clock *clk;
static struct irqchip *chip;
static struct cpu_mail mail[CPUS];
static vc_cpu handle[CPUS] = {{0}, {1}, {2}, {3}};
#define TSC_HZ 2000000000u

static __attribute__((unused)) uint64_t fake_tsc(void *ctx)
{
    (void)ctx;
    return 2 * clock_now(clk);
}

static __attribute__((unused)) void setup(void)
{
    bus = bus_new();
    clk = clock_new(TSC_HZ);
    chip = irqchip_new(&(struct irqchip_opts){
        .bus = bus, .clock = clk, .max_cpus = CPUS, .tsc_hz = TSC_HZ, .tsc_now = fake_tsc});
    cr_assert(bus && clk && chip);
    for (unsigned i = 0; i < CPUS; i++) {
        mail[i] = (struct cpu_mail){.inject = -1};
        cr_assert(irqchip_add_cpu(chip, i, &mail[i]) == 0);
    }
}

static __attribute__((unused)) void teardown(void)
{
    irqchip_free(chip);
    clock_free(clk);
    bus_free(bus);
}

static __attribute__((unused)) uint64_t io_read(unsigned cpu, enum vc_space space, uint64_t addr,
                                                unsigned len)
{
    struct vc_access a = {.addr = addr, .len = len, .cpu = &handle[cpu], .cpu_index = cpu};
    cr_assert(bus_access(bus, space, &a) == ENV_HANDLED);
    return len == 8 ? a.data : a.data & ((1ull << 8 * len) - 1);
}

static __attribute__((unused)) void io_write(unsigned cpu, enum vc_space space, uint64_t addr,
                                             unsigned len, uint64_t data)
{
    struct vc_access a = {
        .addr = addr, .len = len, .cpu = &handle[cpu], .cpu_index = cpu, .write = 1, .data = data};
    cr_assert(bus_access(bus, space, &a) == ENV_HANDLED);
}

static __attribute__((unused)) uint8_t inb(unsigned port)
{
    return (uint8_t)io_read(0, VC_SPACE_PORT, port, 1);
}
static __attribute__((unused)) void outb(unsigned port, uint8_t v)
{
    io_write(0, VC_SPACE_PORT, port, 1, v);
}

/* xAPIC registers by number. */
static __attribute__((unused)) uint32_t apic_r(unsigned cpu, unsigned reg)
{
    return (uint32_t)io_read(cpu, VC_SPACE_MMIO, PC_LAPIC_BASE + 16 * reg, 4);
}
static __attribute__((unused)) void apic_w(unsigned cpu, unsigned reg, uint32_t v)
{
    io_write(cpu, VC_SPACE_MMIO, PC_LAPIC_BASE + 16 * reg, 4, v);
}
static __attribute__((unused)) bool wrmsr(unsigned cpu, uint32_t msr, uint64_t v)
{
    return irqchip_msr(chip, cpu, msr, true, &v);
}
static __attribute__((unused)) bool rdmsr(unsigned cpu, uint32_t msr, uint64_t *v)
{
    return irqchip_msr(chip, cpu, msr, false, v);
}

static __attribute__((unused)) void enable_all(void)
{
    for (unsigned i = 0; i < CPUS; i++)
        apic_w(i, REG_SVR, 0x1ff);
}

static __attribute__((unused)) bool pending(unsigned cpu)
{
    return atomic_load(&mail[cpu].pending) & PEND_IRQ;
}

/* Which vCPUs have a pending bit, as a mask; clears it. */
static __attribute__((unused)) unsigned who(uint32_t bit)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < CPUS; i++)
        if (atomic_load(&mail[i].pending) & bit) {
            mask |= 1u << i;
            mail_clear(&mail[i], bit);
        }
    return mask;
}

/* Which vCPUs get this vector next; acknowledges and ends it there. */
static __attribute__((unused)) unsigned who_vector(int vector)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < CPUS; i++) {
        if (!pending(i))
            continue;
        cr_assert(irqchip_ack(chip, i) == vector);
        mask |= 1u << i;
        if (lapic_x2(&chip->cpu[i]))
            cr_assert(wrmsr(i, 0x80b, 0));
        else
            apic_w(i, REG_EOI, 0);
    }
    return mask;
}

/* Waits for PEND_IRQ as a halted vCPU would. */
static __attribute__((unused)) bool wait_irq(unsigned cpu, unsigned ms)
{
    return mail_wait(&mail[cpu], PEND_IRQ, host_now_ns() + ms * 1000000ull);
}

#endif
