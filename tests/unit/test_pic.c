/* SPDX-License-Identifier: MIT */
#include "irq_fixture.h"

/* Vectors 0x30 and 0x38, everything unmasked, acknowledged through LINT0. */
static void program(uint8_t icw4)
{
    outb(0x20, 0x11);
    outb(0x21, 0x30);
    outb(0x21, 0x04);
    outb(0x21, icw4);
    outb(0xa0, 0x11);
    outb(0xa1, 0x38);
    outb(0xa1, 0x02);
    outb(0xa1, icw4 & ~0x10);
}

static void setup_pic(void)
{
    setup();
    program(1);
}
TestSuite(pic, .init = setup_pic, .fini = teardown, .timeout = 60);

static int ack(void)
{
    return irqchip_ack(chip, 0);
}
static void pulse(unsigned irq)
{
    irqchip_line(chip, irq, 1);
    irqchip_line(chip, irq, 0);
}
static uint8_t irr(unsigned port)
{
    outb(port, 0x0a);
    return inb(port);
}
static uint8_t isr(unsigned port)
{
    outb(port, 0x0b);
    return inb(port);
}

Test(pic, silent_until_initialized)
{
    irqchip_free(chip);
    chip = irqchip_new(
        &(struct irqchip_opts){.bus = bus, .clock = clk, .max_cpus = 1, .tsc_hz = TSC_HZ});
    cr_assert(irqchip_add_cpu(chip, 0, &mail[0]) == 0);
    cr_assert(inb(0x21) == 0xff);
    pulse(1);
    outb(0x21, 0);
    cr_assert(!pending(0));
    program(1);
    cr_assert(!pending(0), "ICW1 forgets edges");
    pulse(1);
    cr_assert(ack() == 0x31);
}

Test(pic, priorities_and_eoi)
{
    pulse(5);
    pulse(3);
    cr_assert(pending(0) && !pending(1));
    cr_assert(irr(0x20) == 0x28);
    cr_assert(ack() == 0x33);
    cr_assert(isr(0x20) == 8 && irr(0x20) == 0x20);
    cr_assert(!pending(0), "5 is below 3");
    pulse(1);
    cr_assert(ack() == 0x31);
    outb(0x20, 0x20);
    cr_assert(isr(0x20) == 8);
    outb(0x20, 0x63); /* specific */
    cr_assert(ack() == 0x35);
    outb(0x20, 0x20);
    cr_assert(isr(0x20) == 0 && ack() == -1);
}

Test(pic, slave)
{
    pulse(12);
    cr_assert(irr(0x20) == 4 && irr(0xa0) == 0x10);
    cr_assert(ack() == 0x3c);
    cr_assert(isr(0x20) == 4 && isr(0xa0) == 0x10);
    pulse(9);
    cr_assert(!pending(0), "the master is busy with its input 2");
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    cr_assert(ack() == 0x39);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    cr_assert(isr(0x20) == 0 && isr(0xa0) == 0);
}

Test(pic, special_fully_nested)
{
    program(0x11);
    pulse(12);
    cr_assert(ack() == 0x3c);
    pulse(9);
    cr_assert(ack() == 0x39, "a higher one of the slave nests");
    pulse(14);
    cr_assert(!pending(0));
}

Test(pic, masks)
{
    outb(0x21, 0x08);
    cr_assert(inb(0x21) == 8);
    pulse(3);
    cr_assert(!pending(0) && ack() == -1);
    outb(0x21, 0);
    cr_assert(ack() == 0x33, "an edge waits behind the mask");
    outb(0x20, 0x20);
    outb(0xa1, 0xff);
    pulse(8);
    cr_assert(!pending(0));
    outb(0xa1, 0);
    cr_assert(pending(0));
    outb(0x21, 4);
    cr_assert(!pending(0), "the cascade can be masked");
}

Test(pic, special_mask_mode)
{
    pulse(2 + 1);
    cr_assert(ack() == 0x33);
    outb(0x21, 0x08);
    outb(0x20, 0x68);
    pulse(6);
    cr_assert(ack() == 0x36, "a masked one in service does not block");
    outb(0x20, 0x20);
    cr_assert(isr(0x20) == 8);
    outb(0x20, 0x20);
    cr_assert(isr(0x20) == 8, "nor does an unspecific EOI end it");
    outb(0x20, 0x48);
    outb(0x21, 0);
    pulse(6);
    cr_assert(!pending(0));
}

Test(pic, levels)
{
    outb(0x4d0, 0xff);
    outb(0x4d1, 0xff);
    cr_assert(inb(0x4d0) == 0xf8 && inb(0x4d1) == 0xde);
    irqchip_line(chip, 11, 1);
    cr_assert(ack() == 0x3b);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    cr_assert(ack() == 0x3b, "still high");
    irqchip_line(chip, 11, 0);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    cr_assert(ack() == -1);
    irqchip_line(chip, 5, 1);
    cr_assert(pending(0));
    irqchip_line(chip, 5, 0);
    cr_assert(!pending(0), "PEND_IRQ follows the line");
}

Test(pic, automatic_eoi_and_rotation)
{
    program(3);
    pulse(4);
    cr_assert(ack() == 0x34);
    cr_assert(isr(0x20) == 0);
    outb(0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(4);
    cr_assert(ack() == 0x34);
    pulse(3);
    pulse(5);
    cr_assert(ack() == 0x35, "4 became the lowest");
    cr_assert(ack() == 0x33);
}

Test(pic, rotation)
{
    outb(0x20, 0xc2); /* 2 lowest: 3 highest */
    pulse(1);
    pulse(3);
    cr_assert(ack() == 0x33);
    outb(0x20, 0xa0); /* rotate on unspecific EOI: 4 highest, 3 lowest */
    pulse(3);
    pulse(7);
    cr_assert(ack() == 0x37);
    outb(0x20, 0xe7); /* and specific: 0 highest */
    cr_assert(ack() == 0x31);
    outb(0x20, 0x20);
    cr_assert(ack() == 0x33);
}

Test(pic, poll)
{
    pulse(6);
    outb(0x20, 0x0c);
    cr_assert(inb(0x20) == 0x86);
    cr_assert(isr(0x20) == 0x40);
    cr_assert(!pending(0));
    outb(0x20, 0x0c);
    cr_assert(inb(0x20) == 0);
    cr_assert(inb(0x20) == 0x40, "one read only");
}

Test(pic, spurious)
{
    pthread_mutex_lock(&chip->lock);
    int vector = pic_ack(chip);
    pthread_mutex_unlock(&chip->lock);
    cr_assert(vector == 0x37 && isr(0x20) == 0);
    outb(0x4d1, 0x08);
    irqchip_line(chip, 11, 1);
    pthread_mutex_lock(&chip->lock);
    chip->pic[1].lines = 0; /* goes away between the two INTA cycles' chips */
    vector = pic_ack(chip);
    pthread_mutex_unlock(&chip->lock);
    cr_assert(vector == 0x3f);
    cr_assert(isr(0x20) == 4 && isr(0xa0) == 0);
}

Test(pic, word_access_is_two_bytes)
{
    io_write(0, VC_SPACE_PORT, 0x20, 2, 0xa50b);
    cr_assert(inb(0x21) == 0xa5);
    cr_assert(io_read(0, VC_SPACE_PORT, 0x21, 4) == 0xffffffa5);
}

/* ---- ways to the processor -------------------------------------------------------- */

Test(pic, through_a_disabled_apic)
{
    apic_w(0, REG_LVT + LVT_LINT0, LVT_MASKED);
    pulse(1);
    cr_assert(!pending(0));
    cr_assert(irqchip_msr(chip, 0, 0x1b, true, &(uint64_t){PC_LAPIC_BASE | APIC_BASE_BSP}));
    cr_assert(pending(0));
    cr_assert(ack() == 0x31);
}

Test(pic, lint0_fixed)
{
    enable_all();
    apic_w(0, REG_LVT + LVT_LINT0, 0x55);
    pulse(1);
    cr_assert(ack() == 0x55);
    apic_w(0, REG_EOI, 0);
    cr_assert(!pending(0), "one edge of the 8259's output");
    apic_w(0, REG_LVT + LVT_LINT0, 0x8056); /* level: its output is still high */
    cr_assert(apic_r(0, REG_LVT + LVT_LINT0) == 0xc056);
    cr_assert(ack() == 0x56);
    outb(0x21, 0xff);
    apic_w(0, REG_EOI, 0);
    cr_assert(apic_r(0, REG_LVT + LVT_LINT0) == 0x8056);
    cr_assert(!pending(0));
}

Test(pic, lint0_nmi)
{
    enable_all();
    apic_w(1, REG_LVT + LVT_LINT0, DM_NMI << 8);
    pulse(1);
    cr_assert(who(PEND_NMI) == 2);
}

Test(pic, extint_comes_before_fixed)
{
    apic_w(0, REG_SVR, 0x1ff);
    apic_w(0, REG_LVT + LVT_LINT0, DM_EXTINT << 8);
    apic_w(0, REG_ICR, 1u << 18 | 0x90);
    pulse(1);
    cr_assert(ack() == 0x31);
    cr_assert(ack() == 0x90);
    cr_assert(ack() == -1 && !pending(0));
}
