/* SPDX-License-Identifier: MIT */
#include "irq_fixture.h"
#include <unistd.h>

TestSuite(lapic, .init = setup, .fini = teardown, .timeout = 60);

#define BASE     0x1bu
#define X2(reg)  (0x800u + (reg))
#define DEADLINE 0x6e0u
#define LVT(i)   (REG_LVT + (i))
#define MS       1000000u

static void to_x2(unsigned cpu)
{
    uint64_t base = irqchip_apic_base(chip, cpu);
    cr_assert(wrmsr(cpu, BASE, base | APIC_BASE_EXTD));
    cr_assert(wrmsr(cpu, X2(REG_SVR), 0x1ff));
}

static void self(unsigned cpu, uint8_t vector)
{
    apic_w(cpu, REG_ICR, 1u << 18 | vector);
}

Test(lapic, after_reset)
{
    cr_assert(irqchip_apic_base(chip, 0) == (PC_LAPIC_BASE | 0x900));
    cr_assert(irqchip_apic_base(chip, 1) == (PC_LAPIC_BASE | 0x800));
    for (unsigned i = 0; i < CPUS; i++) {
        cr_assert(apic_r(i, REG_ID) == i << 24);
        cr_assert(apic_r(i, REG_VERSION) == 0x50014);
        cr_assert(apic_r(i, REG_SVR) == 0xff);
        cr_assert(apic_r(i, REG_DFR) == ~0u);
        cr_assert(apic_r(i, LVT(LVT_TIMER)) == LVT_MASKED);
        cr_assert(apic_r(i, LVT(LVT_LINT0)) == (i ? LVT_MASKED : 0x700));
        cr_assert(irqchip_ack(chip, i) == -1);
        cr_assert(!pending(i));
    }
}

Test(lapic, software_disabled_accepts_nothing_and_keeps_masks)
{
    self(0, 0x50);
    cr_assert(!pending(0));
    apic_w(0, LVT(LVT_ERROR), 0x33);
    cr_assert(apic_r(0, LVT(LVT_ERROR)) == (LVT_MASKED | 0x33));
    apic_w(0, REG_SVR, 0x1ff);
    apic_w(0, LVT(LVT_ERROR), 0x33);
    cr_assert(apic_r(0, LVT(LVT_ERROR)) == 0x33);
    self(0, 0x50);
    apic_w(0, REG_SVR, 0xff);
    cr_assert(apic_r(0, LVT(LVT_ERROR)) == (LVT_MASKED | 0x33));
    cr_assert(pending(0), "what was accepted before stays");
}

Test(lapic, priorities)
{
    enable_all();
    self(0, 0x41);
    self(0, 0x83);
    self(0, 0x45);
    cr_assert(apic_r(0, REG_IRR + 2) == ((1u << 1) | (1u << 5)));
    cr_assert(pending(0));
    cr_assert(irqchip_ack(chip, 0) == 0x83);
    cr_assert(apic_r(0, REG_PPR) == 0x80);
    cr_assert(!pending(0), "0x4x is below what is in service");
    self(0, 0x85); /* the same class does not nest */
    cr_assert(!pending(0));
    self(0, 0x91);
    cr_assert(pending(0));
    cr_assert(irqchip_ack(chip, 0) == 0x91);
    apic_w(0, REG_EOI, 0);
    cr_assert(apic_r(0, REG_PPR) == 0x80 && !pending(0));
    apic_w(0, REG_EOI, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x85);
    apic_w(0, REG_EOI, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x45);
    apic_w(0, REG_EOI, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x41);
    apic_w(0, REG_EOI, 0);
    cr_assert(irqchip_ack(chip, 0) == -1);
    for (unsigned i = 0; i < 24; i++)
        cr_assert(apic_r(0, REG_ISR + i) == 0);
}

Test(lapic, tpr_and_cr8)
{
    enable_all();
    irqchip_cr8_set(chip, 0, 5);
    cr_assert(apic_r(0, REG_TPR) == 0x50);
    self(0, 0x5f);
    cr_assert(!pending(0));
    irqchip_cr8_set(chip, 0, 4);
    cr_assert(pending(0));
    apic_w(0, REG_TPR, 0x6f);
    cr_assert(!pending(0), "PEND_IRQ follows TPR up");
    cr_assert(irqchip_ack(chip, 0) == -1);
    cr_assert(irqchip_cr8_get(chip, 0) == 6);
    cr_assert(apic_r(0, REG_PPR) == 0x6f);
    irqchip_cr8_set(chip, 0, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x5f);
}

Test(lapic, error_status)
{
    enable_all();
    apic_w(0, LVT(LVT_ERROR), 0xe1);
    self(0, 5);
    cr_assert(irqchip_ack(chip, 0) == 0xe1);
    apic_w(0, REG_EOI, 0);
    cr_assert(apic_r(0, REG_ESR) == 0, "not before a write");
    apic_w(0, REG_ESR, 0);
    cr_assert(apic_r(0, REG_ESR) == ESR_SEND_ILLEGAL);
    apic_w(0, REG_ESR, 0);
    cr_assert(apic_r(0, REG_ESR) == 0);
    cr_assert(apic_r(0, 0x3d) == 0);
    irqchip_msi(chip, 0xfee00000, 3);
    apic_w(0, REG_ESR, 0);
    cr_assert(apic_r(0, REG_ESR) == (ESR_ILLEGAL_REG | ESR_RECV_ILLEGAL));
    apic_w(0, REG_VERSION, 0); /* read-only is not illegal */
    apic_w(0, REG_ESR, 0);
    cr_assert(apic_r(0, REG_ESR) == 0);
}

Test(lapic, odd_accesses_are_harmless)
{
    enable_all();
    io_write(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0x80, 1, 0xff);
    io_write(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0x82, 4, 0xff);
    io_write(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0x80, 8, 0xff);
    cr_assert(apic_r(0, REG_TPR) == 0);
    cr_assert(io_read(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0x32, 1) == 5);
    cr_assert(io_read(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0x34, 4) == 0);
    cr_assert(io_read(0, VC_SPACE_MMIO, PC_LAPIC_BASE + 0xfff, 8) == 0);
    struct vc_access a = {.addr = PC_LAPIC_BASE + 0x30, .len = 4};
    cr_assert(bus_access(bus, VC_SPACE_MMIO, &a) == 0 && a.data == ~0ull, "no vCPU");
}

/* ---- modes -------------------------------------------------------------------------- */

Test(lapic, mode_transitions)
{
    uint64_t base = PC_LAPIC_BASE | APIC_BASE_BSP, x2 = APIC_BASE_EN | APIC_BASE_EXTD, v;
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EXTD));
    cr_assert(wrmsr(0, BASE, base | x2));
    cr_assert(wrmsr(0, BASE, base | x2));
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EN));
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EXTD));
    cr_assert(wrmsr(0, BASE, base));
    cr_assert(!wrmsr(0, BASE, base | x2));
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EXTD));
    cr_assert(wrmsr(0, BASE, base | APIC_BASE_EN));
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EN | 1));
    cr_assert(!wrmsr(0, BASE, base | APIC_BASE_EN | 1ull << 46));
    cr_assert(rdmsr(0, BASE, &v) && v == (base | APIC_BASE_EN));
    cr_assert(!rdmsr(0, X2(REG_ID), &v));
    cr_assert(!rdmsr(0, 0x7ff, &v) && !rdmsr(0, 0x900, &v));
}

Test(lapic, disabled_and_back)
{
    enable_all();
    self(0, 0x55);
    uint64_t base = irqchip_apic_base(chip, 0);
    irqchip_cr8_set(chip, 0, 3);
    cr_assert(wrmsr(0, BASE, base & ~APIC_BASE_EN));
    cr_assert(!pending(0) && irqchip_ack(chip, 0) == -1);
    cr_assert(apic_r(0, REG_VERSION) == ~0u);
    apic_w(0, REG_TPR, ~0u);
    cr_assert(irqchip_cr8_get(chip, 0) == 3, "CR8 lives without the APIC");
    irqchip_cr8_set(chip, 0, 2);
    cr_assert(wrmsr(0, BASE, base));
    cr_assert(apic_r(0, REG_TPR) == 0x20);
    cr_assert(apic_r(0, REG_SVR) == 0xff);
    cr_assert(apic_r(0, REG_IRR + 2) == 0);
}

Test(lapic, moves_its_registers)
{
    uint64_t to = 0xfed40000;
    struct vc_access a = {.addr = to + 0x30, .len = 4, .cpu = &handle[0]};
    cr_assert(bus_access(bus, VC_SPACE_MMIO, &a) == ENV_UNHANDLED);
    cr_assert(wrmsr(0, BASE, to | APIC_BASE_BSP | APIC_BASE_EN));
    cr_assert(io_read(0, VC_SPACE_MMIO, to + 0x30, 4) == 0x50014);
    cr_assert(apic_r(0, REG_VERSION) == ~0u);
    cr_assert(apic_r(1, REG_VERSION) == 0x50014);
    a.cpu = &handle[1];
    a.cpu_index = 1;
    cr_assert(bus_access(bus, VC_SPACE_MMIO, &a) == ENV_UNHANDLED);
}

Test(lapic, init_keeps_id_and_base)
{
    enable_all();
    apic_w(1, REG_ID, 9u << 24);
    apic_w(1, REG_TPR, 0x30);
    self(1, 0x77);
    irqchip_reset_cpu(chip, 1, true);
    cr_assert(apic_r(1, REG_ID) == 9u << 24);
    cr_assert(apic_r(1, REG_SVR) == 0xff && apic_r(1, REG_TPR) == 0);
    cr_assert(!pending(1));
    to_x2(2);
    irqchip_reset_cpu(chip, 2, true);
    uint64_t v;
    cr_assert(rdmsr(2, X2(REG_ID), &v) && v == 2, "still x2APIC");
    irqchip_reset_cpu(chip, 2, false);
    cr_assert(apic_r(2, REG_ID) == 2u << 24);
}

Test(lapic, x2apic_registers)
{
    static const uint8_t readable[] = {0x02, 0x03, 0x08, 0x0a, 0x0d, 0x0f, 0x28, 0x30, 0x32,
                                       0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3e};
    static const uint8_t writable[] = {0x08, 0x0b, 0x0f, 0x28, 0x30, 0x32, 0x33,
                                       0x34, 0x35, 0x36, 0x37, 0x38, 0x3e, 0x3f};
    uint64_t v;
    to_x2(3);
    for (unsigned reg = 0; reg < 0x100; reg++) {
        bool r = (reg >= 0x10 && reg < 0x28) || memchr(readable, (int)reg, sizeof readable);
        bool w = memchr(writable, (int)reg, sizeof writable);
        cr_assert(rdmsr(3, X2(reg), &v) == r, "read %#x", reg);
        if (reg == REG_ICR || reg == REG_SELF_IPI)
            cr_assert(wrmsr(3, X2(reg), 0x55));
        else
            cr_assert(wrmsr(3, X2(reg), 0) == w, "write %#x", reg);
    }
    cr_assert(wrmsr(3, X2(REG_SVR), 0x1ff));
    cr_assert(rdmsr(3, X2(REG_LDR), &v) && v == 8);
    cr_assert(!wrmsr(3, X2(REG_TPR), 0x100));
    cr_assert(!wrmsr(3, X2(REG_EOI), 1));
    cr_assert(!wrmsr(3, X2(REG_ESR), 1));
    cr_assert(!wrmsr(3, X2(REG_SVR), 0x400));
    cr_assert(!wrmsr(3, X2(REG_SELF_IPI), 0x100));
    cr_assert(!wrmsr(3, X2(LVT(LVT_ERROR)), 0x700));
    cr_assert(!wrmsr(3, X2(REG_TIMER_INITIAL), 1ull << 32));
    cr_assert(!wrmsr(3, X2(REG_ICR), 1u << 13));
    cr_assert(wrmsr(3, X2(REG_ICR), 3ull << 32 | 0x66));
    cr_assert(rdmsr(3, X2(REG_ICR), &v) && v == (3ull << 32 | 0x66));
    cr_assert(apic_r(3, REG_ID) == ~0u, "no MMIO in x2APIC mode");
}

/* ---- interprocessor interrupts -------------------------------------------------------- */

static void ipi(unsigned from, uint32_t dest, uint32_t icr)
{
    apic_w(from, REG_ICR_HI, dest << 24);
    apic_w(from, REG_ICR, icr);
}

#define LOGICAL 0x800u

Test(lapic, shorthands_and_physical)
{
    enable_all();
    ipi(1, 0, 0x60 | 1u << 18);
    cr_assert(who_vector(0x60) == 2);
    ipi(1, 0, 0x61 | 2u << 18);
    cr_assert(who_vector(0x61) == 15);
    ipi(1, 0, 0x62 | 3u << 18);
    cr_assert(who_vector(0x62) == 13);
    ipi(0, 2, 0x63);
    cr_assert(who_vector(0x63) == 4);
    ipi(0, 0xff, 0x64);
    cr_assert(who_vector(0x64) == 15);
    ipi(0, 77, 0x65);
    cr_assert(who_vector(0x65) == 0);
    cr_assert(apic_r(0, REG_ICR) == 0x65 && apic_r(0, REG_ICR_HI) == 77u << 24);
    apic_w(3, REG_ID, 0);
    ipi(1, 0, 0x66);
    cr_assert(who_vector(0x66) == 9, "two with one xAPIC ID");
}

Test(lapic, logical_flat_and_cluster)
{
    enable_all();
    for (unsigned i = 0; i < CPUS; i++)
        apic_w(i, REG_LDR, 1u << (24 + i));
    for (unsigned dest = 0; dest < 0xff; dest++) {
        ipi(0, dest, 0x60 | LOGICAL);
        cr_assert(who_vector(0x60) == (dest & 15));
    }
    ipi(0, 0xff, 0x60 | LOGICAL);
    cr_assert(who_vector(0x60) == 15);
    for (unsigned i = 0; i < CPUS; i++) {
        apic_w(i, REG_DFR, 0x0fffffff);
        apic_w(i, REG_LDR, ((i / 2 + 1) << 4 | 1u << i % 2) << 24);
    }
    ipi(0, 0x13, 0x61 | LOGICAL);
    cr_assert(who_vector(0x61) == 3);
    ipi(0, 0x22, 0x61 | LOGICAL);
    cr_assert(who_vector(0x61) == 8);
    ipi(0, 0x3f, 0x61 | LOGICAL);
    cr_assert(who_vector(0x61) == 0);
    ipi(0, 0xff, 0x61 | LOGICAL);
    cr_assert(who_vector(0x61) == 15);
}

Test(lapic, x2apic_destinations)
{
    to_x2(0);
    to_x2(1);
    apic_w(2, REG_SVR, 0x1ff);
    apic_w(3, REG_SVR, 0x1ff);
    cr_assert(wrmsr(0, X2(REG_ICR), 1ull << 32 | 0x70));
    cr_assert(who_vector(0x70) == 2);
    cr_assert(wrmsr(0, X2(REG_ICR), 0xffffffffull << 32 | 0x70));
    cr_assert(who_vector(0x70) == 15, "xAPICs hear the broadcast");
    cr_assert(wrmsr(0, X2(REG_ICR), 0xffull << 32 | 0x70));
    cr_assert(who_vector(0x70) == 0, "255 is an ID here");
    cr_assert(wrmsr(0, X2(REG_ICR), 3ull << 32 | LOGICAL | 0x71));
    cr_assert(who_vector(0x71) == 3);
    cr_assert(wrmsr(0, X2(REG_ICR), 0x10003ull << 32 | LOGICAL | 0x71));
    cr_assert(who_vector(0x71) == 0, "another cluster");
    ipi(2, 0xff, 0x72);
    cr_assert(who_vector(0x72) == 15);
    cr_assert(wrmsr(1, X2(REG_SELF_IPI), 0x73));
    cr_assert(who_vector(0x73) == 2);
}

Test(lapic, nmi_init_sipi)
{
    /* All of them reach an APIC that is disabled by software. */
    ipi(0, 1, DM_NMI << 8);
    cr_assert(who(PEND_NMI) == 2);
    ipi(0, 0, DM_NMI << 8 | 3u << 18);
    cr_assert(who(PEND_NMI) == 14);
    ipi(0, 0, DM_INIT << 8 | 0x4000 | 3u << 18);
    cr_assert(who(PEND_INIT) == 14);
    ipi(0, 2, DM_INIT << 8 | 0x8000); /* level de-assert */
    cr_assert(who(PEND_INIT) == 0);
    ipi(0, 0, DM_SIPI << 8 | 0x9a | 3u << 18);
    cr_assert(who(PEND_SIPI) == 14);
    cr_assert(atomic_load(&mail[3].sipi_vector) == 0x9a);
    ipi(0, 0, DM_INIT << 8 | 2u << 18);
    cr_assert(who(PEND_INIT) == 0, "not with this shorthand");
    irqchip_msi(chip, 0xfeeff000, DM_SIPI << 8);
    cr_assert(who(PEND_SIPI) == 0, "not by message");
}

Test(lapic, lowest_priority)
{
    enable_all();
    for (unsigned i = 0; i < CPUS; i++)
        apic_w(i, REG_LDR, 1u << (24 + i));
    apic_w(0, REG_TPR, 0x20);
    apic_w(1, REG_TPR, 0x10);
    apic_w(3, REG_TPR, 0x30);
    apic_w(2, REG_SVR, 0xff);
    irqchip_msi(chip, 0xfee0f004, 0x80 | DM_LOWEST << 8);
    cr_assert(who_vector(0x80) == 2);
    for (unsigned i = 0; i < CPUS; i++)
        apic_w(i, REG_TPR, 0);
    unsigned seen = 0;
    for (int i = 0; i < 3; i++) {
        irqchip_msi(chip, 0xfee0f00c, 0x81); /* redirection hint */
        seen |= who_vector(0x81);
    }
    cr_assert(seen == 11, "equals take turns");
}

Test(lapic, msi_addresses)
{
    enable_all();
    cr_assert(irqchip_msi(chip, 0xfec00000, 0x40) == VC_EINVAL);
    cr_assert(irqchip_msi(chip, 0x1fee00000, 0x40) == VC_EINVAL);
    cr_assert(irqchip_msi(chip, 0xfee03000, 0x40) == 0);
    cr_assert(who_vector(0x40) == 8);
    cr_assert(irqchip_msi(chip, 0xfee00000, 0xc041) == 0);
    cr_assert(apic_r(0, REG_TMR + 2) == 2);
    cr_assert(who_vector(0x41) == 1);
    cr_assert(irqchip_msi(chip, 0xfee00000, 0x41) == 0);
    cr_assert(apic_r(0, REG_TMR + 2) == 0);
}

/* ---- the timer ---------------------------------------------------------------------- */

Test(lapic, one_shot)
{
    enable_all();
    apic_w(1, REG_TIMER_DIVIDE, 0xb);
    apic_w(1, LVT(LVT_TIMER), 0xee);
    uint64_t t0 = host_now_ns();
    apic_w(1, REG_TIMER_INITIAL, 20 * MS);
    uint32_t now = apic_r(1, REG_TIMER_CURRENT);
    cr_assert(now > 0 && now < 20 * MS);
    cr_assert(wait_irq(1, 5000));
    cr_assert(host_now_ns() - t0 >= 20 * MS);
    cr_assert(irqchip_ack(chip, 1) == 0xee);
    apic_w(1, REG_EOI, 0);
    cr_assert(apic_r(1, REG_TIMER_CURRENT) == 0);
    cr_assert(apic_r(1, REG_TIMER_INITIAL) == 20 * MS);
    cr_assert(!wait_irq(1, 40), "once");
    apic_w(1, LVT(LVT_TIMER), 1u << 17 | 0xee);
    cr_assert(apic_r(1, REG_TIMER_CURRENT) == 0, "periodic does not wake a dead count");
    cr_assert(!wait_irq(1, 40));
}

Test(lapic, periodic_and_divided)
{
    enable_all();
    apic_w(0, REG_TIMER_DIVIDE, 0x3); /* by 16 */
    apic_w(0, LVT(LVT_TIMER), 1u << 17 | 0x40);
    uint64_t t0 = host_now_ns();
    apic_w(0, REG_TIMER_INITIAL, 5 * MS / 16);
    for (int i = 0; i < 4; i++) {
        cr_assert(wait_irq(0, 5000));
        cr_assert(irqchip_ack(chip, 0) == 0x40);
        apic_w(0, REG_EOI, 0);
    }
    cr_assert(host_now_ns() - t0 >= 20 * MS);
    cr_assert(apic_r(0, REG_TIMER_CURRENT) <= 5 * MS / 16);
    apic_w(0, REG_TIMER_INITIAL, 0);
    cr_assert(apic_r(0, REG_TIMER_CURRENT) == 0);
    cr_assert(!wait_irq(0, 20));
}

Test(lapic, a_masked_timer_counts)
{
    enable_all();
    apic_w(0, REG_TIMER_DIVIDE, 0xb);
    apic_w(0, REG_TIMER_INITIAL, 2 * MS);
    usleep(5000);
    cr_assert(apic_r(0, REG_TIMER_CURRENT) == 0);
    apic_w(0, LVT(LVT_TIMER), 0x40);
    cr_assert(!wait_irq(0, 10), "ran out while masked");
}

Test(lapic, mode_changes_keep_the_count)
{
    enable_all();
    apic_w(0, REG_TIMER_DIVIDE, 0xb);
    apic_w(0, LVT(LVT_TIMER), LVT_MASKED);
    apic_w(0, REG_TIMER_INITIAL, 1000 * MS);
    usleep(5000);
    apic_w(0, LVT(LVT_TIMER), LVT_MASKED | 1u << 17);
    uint32_t v = apic_r(0, REG_TIMER_CURRENT);
    cr_assert(v > 0 && v <= 995 * MS);
    apic_w(0, REG_TIMER_DIVIDE, 0xa); /* by 128 */
    usleep(5000);
    uint32_t w = apic_r(0, REG_TIMER_CURRENT);
    cr_assert(w <= v && w > v - 500 * MS / 128);
    apic_w(0, LVT(LVT_TIMER), LVT_MASKED | 2u << 17);
    cr_assert(apic_r(0, REG_TIMER_CURRENT) == 0);
}

Test(lapic, a_hostile_period_is_merged)
{
    enable_all();
    apic_w(0, REG_TIMER_DIVIDE, 0xb);
    apic_w(0, LVT(LVT_TIMER), 1u << 17 | 0x40);
    apic_w(0, REG_TIMER_INITIAL, 1);
    for (int i = 0; i < 3; i++) {
        cr_assert(wait_irq(0, 5000));
        cr_assert(irqchip_ack(chip, 0) == 0x40);
        apic_w(0, REG_EOI, 0);
    }
    cr_assert(apic_r(0, REG_TIMER_CURRENT) == 1);
}

Test(lapic, tsc_deadline)
{
    uint64_t v = 1;
    enable_all();
    cr_assert(wrmsr(0, DEADLINE, 123) && rdmsr(0, DEADLINE, &v) && v == 0, "other modes");
    apic_w(0, LVT(LVT_TIMER), 2u << 17 | 0xef);
    cr_assert(wrmsr(0, DEADLINE, fake_tsc(NULL)));
    cr_assert(pending(0), "a deadline that passed fires within WRMSR");
    cr_assert(irqchip_ack(chip, 0) == 0xef);
    apic_w(0, REG_EOI, 0);
    cr_assert(rdmsr(0, DEADLINE, &v) && v == 0);

    uint64_t at = fake_tsc(NULL) + 2ull * 20 * MS;
    cr_assert(wrmsr(0, DEADLINE, at));
    cr_assert(rdmsr(0, DEADLINE, &v) && v == at);
    apic_w(0, REG_TIMER_INITIAL, 5);
    cr_assert(apic_r(0, REG_TIMER_INITIAL) == 0 && apic_r(0, REG_TIMER_CURRENT) == 0);
    cr_assert(wait_irq(0, 5000));
    cr_assert(fake_tsc(NULL) >= at);
    cr_assert(rdmsr(0, DEADLINE, &v) && v == 0);
    irqchip_ack(chip, 0);
    apic_w(0, REG_EOI, 0);

    cr_assert(wrmsr(0, DEADLINE, ~0ull));
    cr_assert(!wait_irq(0, 10));
    cr_assert(wrmsr(0, DEADLINE, fake_tsc(NULL) + 2ull * 10 * MS));
    cr_assert(wrmsr(0, DEADLINE, 0));
    cr_assert(!wait_irq(0, 20), "disarmed");
}

/* ---- threads ---------------------------------------------------------------------------- */

static void *sender(void *ud)
{
    unsigned cpu = (unsigned)(uintptr_t)ud;
    for (int i = 0; i < 3000; i++) {
        ipi(cpu, cpu ^ 1, 0x80);
        while (irqchip_ack(chip, cpu) == 0x80)
            apic_w(cpu, REG_EOI, 0);
        if (i % 100 == 0)
            irqchip_cr8_set(chip, cpu, i / 100 % 16);
    }
    return NULL;
}

Test(lapic, two_threads)
{
    pthread_t t[2];
    enable_all();
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, sender, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    for (unsigned i = 0; i < 2; i++) {
        irqchip_cr8_set(chip, i, 0);
        cr_assert(pending(i) == (irqchip_ack(chip, i) >= 0));
    }
}
