/* SPDX-License-Identifier: MIT */
#include "irq_fixture.h"

static void setup_enabled(void)
{
    setup();
    enable_all();
}
TestSuite(ioapic, .init = setup_enabled, .fini = teardown, .timeout = 60);

#define LEVEL      0x8000u
#define MASK       0x10000u
#define REMOTE_IRR 0x4000u

static uint32_t io_r(unsigned reg)
{
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE, 4, reg);
    return (uint32_t)io_read(0, VC_SPACE_MMIO, PC_IOAPIC_BASE + 0x10, 4);
}
static void io_w(unsigned reg, uint32_t v)
{
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE, 4, reg);
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE + 0x10, 4, v);
}
static void redir(unsigned pin, uint32_t low, uint8_t dest)
{
    io_w(0x11 + 2 * pin, (uint32_t)dest << 24);
    io_w(0x10 + 2 * pin, low);
}
static uint32_t redir_low(unsigned pin)
{
    return io_r(0x10 + 2 * pin);
}
static void pulse(unsigned gsi)
{
    irqchip_line(chip, gsi, 1);
    irqchip_line(chip, gsi, 0);
}
static void eoi(unsigned cpu)
{
    apic_w(cpu, REG_EOI, 0);
}

Test(ioapic, registers)
{
    cr_assert(io_r(1) == 0x170020);
    io_w(1, ~0u);
    cr_assert(io_r(1) == 0x170020);
    io_w(0, ~0u);
    cr_assert(io_r(0) == 0x0f000000 && io_r(2) == 0x0f000000);
    io_w(2, 0);
    cr_assert(io_r(2) == 0x0f000000);
    for (unsigned pin = 0; pin < 24; pin++) {
        cr_assert(redir_low(pin) == MASK);
        io_w(0x10 + 2 * pin, ~0u);
        io_w(0x11 + 2 * pin, ~0u);
        cr_assert(redir_low(pin) == 0x1afff && io_r(0x11 + 2 * pin) == 0xff000000);
    }
    io_w(0x40, ~0u);
    cr_assert(io_r(0x40) == 0 && io_r(3) == 0 && io_r(0xff) == 0);
    cr_assert(io_read(0, VC_SPACE_MMIO, PC_IOAPIC_BASE, 4) == 0xff);
}

Test(ioapic, edges)
{
    redir(14, 0x76, 0);
    pulse(14);
    pulse(14);
    cr_assert(who_vector(0x76) == 1);
    cr_assert(!pending(0), "two edges are one interrupt");
    irqchip_line(chip, 14, 1);
    irqchip_line(chip, 14, 1);
    cr_assert(who_vector(0x76) == 1);
    cr_assert(!pending(0));
    irqchip_line(chip, 14, 0);
    redir(14, 0x76 | MASK, 0);
    pulse(14);
    redir(14, 0x76, 0);
    cr_assert(!pending(0), "an edge while masked is lost");
    pulse(24);
    pulse(~0u);
}

Test(ioapic, levels)
{
    redir(10, 0x77 | LEVEL, 1);
    irqchip_line(chip, 10, 1);
    cr_assert(redir_low(10) & REMOTE_IRR);
    cr_assert(irqchip_ack(chip, 1) == 0x77);
    cr_assert(apic_r(1, REG_TMR + 3) == 1u << 23);
    irqchip_line(chip, 10, 0);
    irqchip_line(chip, 10, 1);
    cr_assert(apic_r(1, REG_IRR + 3) == 0, "not again before EOI");
    eoi(1);
    cr_assert(redir_low(10) & REMOTE_IRR, "still high: asks again");
    cr_assert(irqchip_ack(chip, 1) == 0x77);
    irqchip_line(chip, 10, 0);
    eoi(1);
    cr_assert(!(redir_low(10) & REMOTE_IRR) && !pending(1));
}

Test(ioapic, level_masks)
{
    redir(10, 0x82 | LEVEL | MASK, 0);
    irqchip_line(chip, 10, 1);
    cr_assert(!pending(0));
    redir(10, 0x82 | LEVEL, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x82);
    redir(10, 0x82 | LEVEL | MASK, 0);
    cr_assert(redir_low(10) & REMOTE_IRR, "read-only");
    eoi(0);
    cr_assert(!(redir_low(10) & REMOTE_IRR) && !pending(0));
    redir(10, 0x82 | LEVEL, 0);
    cr_assert(irqchip_ack(chip, 0) == 0x82);
    redir(10, 0x82, 0); /* becoming edge-triggered clears remote IRR */
    cr_assert(!(redir_low(10) & REMOTE_IRR));
    eoi(0);
}

Test(ioapic, destination_changes_before_eoi)
{
    redir(13, 0x64 | LEVEL, 0);
    irqchip_line(chip, 13, 1);
    cr_assert(irqchip_ack(chip, 0) == 0x64);
    io_w(0x11 + 2 * 13, 1u << 24);
    eoi(0);
    cr_assert(who_vector(0x64) == 2, "asks again, elsewhere");
}

Test(ioapic, eoi_register)
{
    redir(5, 0x50 | LEVEL, 0);
    irqchip_line(chip, 5, 1);
    irqchip_line(chip, 5, 0);
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE + 0x40, 4, 0x51);
    cr_assert(redir_low(5) & REMOTE_IRR);
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE + 0x40, 4, 0x50);
    cr_assert(!(redir_low(5) & REMOTE_IRR));
}

Test(ioapic, nobody_takes_it)
{
    redir(5, 0x50 | LEVEL, 99);
    irqchip_line(chip, 5, 1);
    cr_assert(!(redir_low(5) & REMOTE_IRR), "remote IRR says that an APIC accepted");
    io_w(0x11 + 2 * 5, 2u << 24);
    cr_assert(who_vector(0x50) == 4);
}

Test(ioapic, delivery_and_destination_modes)
{
    for (unsigned i = 0; i < CPUS; i++)
        apic_w(i, REG_LDR, 1u << (24 + i));
    redir(9, 0x86 | 0x800, 0xd);
    pulse(9);
    cr_assert(who_vector(0x86) == 13);
    redir(9, 0x87 | DM_LOWEST << 8 | 0x800 | LEVEL, 0xd);
    apic_w(0, REG_TPR, 0x20);
    apic_w(2, REG_TPR, 0x20);
    irqchip_line(chip, 9, 1);
    cr_assert(pending(3) && !pending(0) && !pending(2));
    irqchip_line(chip, 9, 0);
    cr_assert(who_vector(0x87) == 8);
    redir(9, DM_NMI << 8 | LEVEL, 2);
    pulse(9);
    cr_assert(who(PEND_NMI) == 4);
    cr_assert(!(redir_low(9) & REMOTE_IRR));
    redir(9, 0x88, 0xff);
    pulse(9);
    cr_assert(who_vector(0x88) == 15);
    redir(9, 0x09, 0);
    pulse(9);
    cr_assert(!pending(0), "vectors below 16 are errors");
}

Test(ioapic, irq0_is_pin_2)
{
    redir(2, 0x30, 0);
    redir(0, 0x31, 0);
    pulse(0);
    cr_assert(who_vector(0x30) == 1);
    irqchip_line(chip, 2, 1);
    cr_assert(who_vector(0x30) == 1);
}

/* Pin 0 is the 8259: an ExtINT message makes the vCPU ask it for the vector. */
Test(ioapic, extint)
{
    apic_w(0, REG_LVT + LVT_LINT0, LVT_MASKED);
    redir(0, DM_EXTINT << 8, 1);
    outb(0x20, 0x11);
    outb(0x21, 0x40);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0x21, 0);
    irqchip_line(chip, 1, 1);
    cr_assert(!pending(0) && pending(1));
    irqchip_line(chip, 3, 1);
    cr_assert(irqchip_ack(chip, 1) == 0x41);
    cr_assert(!pending(1));
    outb(0x20, 0x20);
    cr_assert(irqchip_ack(chip, 1) == 0x43);
}
