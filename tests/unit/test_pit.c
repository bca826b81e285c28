/* SPDX-License-Identifier: MIT */
#include "irq_fixture.h"
#include "io/pit.h"
#include <unistd.h>

static struct pit *pit;

static void setup_pit(void)
{
    setup();
    pit = pit_new(bus, clk, chip);
    cr_assert(pit != NULL);
    cr_assert(chip->gsi == 1, "OUT is high");
    /* IRQ 0 as vector 0x30 through the IOAPIC. */
    apic_w(0, REG_SVR, 0x1ff);
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE, 4, 0x14);
    io_write(0, VC_SPACE_MMIO, PC_IOAPIC_BASE + 0x10, 4, 0x30);
}
static void teardown_pit(void)
{
    pit_free(pit);
    teardown();
}
TestSuite(pit, .init = setup_pit, .fini = teardown_pit, .timeout = 60);

static void program(unsigned ch, unsigned mode, unsigned count)
{
    outb(0x43, (uint8_t)(ch << 6 | 0x30 | mode << 1));
    outb(0x40 + ch, (uint8_t)count);
    outb(0x40 + ch, (uint8_t)(count >> 8));
}
static unsigned read16(unsigned ch)
{
    unsigned low = inb(0x40 + ch);
    return low | inb(0x40 + ch) << 8;
}
static unsigned latch(unsigned ch)
{
    outb(0x43, (uint8_t)(ch << 6));
    return read16(ch);
}
static uint8_t status(unsigned ch)
{
    outb(0x43, (uint8_t)(0xe0 | 2u << ch));
    return inb(0x40 + ch);
}
static bool out2(void)
{
    return inb(0x61) & 0x20;
}
#define OUT        0x80
#define NULL_COUNT 0x40

Test(pit, counts_down_and_latches)
{
    program(1, 2, 60000);
    unsigned a = latch(1);
    usleep(2000);
    outb(0x43, 0x40);
    usleep(2000);
    outb(0x43, 0x40); /* the first latch stays */
    unsigned b = read16(1), c = latch(1);
    cr_assert(a > b && b > c);
    cr_assert(a - b >= 2386 && b - c >= 2386, "%u %u %u", a, b, c);
}

/* Is the output so, or so many milliseconds since t0 over, as may be on a busy host? */
static bool still(uint64_t t0, unsigned ms, bool level)
{
    bool is = out2();
    return is == level || host_now_ns() - t0 >= ms * 1000000u;
}

Test(pit, mode_0_times_out)
{
    outb(0x61, 1);
    uint64_t t0 = host_now_ns();
    program(2, 0, 11932); /* 10 ms */
    cr_assert(still(t0, 10, false));
    while (!out2())
        ;
    uint64_t t = host_now_ns() - t0;
    cr_assert(t >= 10000000, "%lu", (unsigned long)t);
    unsigned below = latch(2);
    if (host_now_ns() - t0 < 30000000)
        cr_assert((int16_t)below <= 0, "goes on below zero");
    outb(0x42, 0xff); /* the first byte of a new count */
    cr_assert(!out2());
}

Test(pit, the_gate_holds_channel_2)
{
    outb(0x61, 0);
    program(2, 0, 1194);
    usleep(3000);
    cr_assert(!out2() && latch(2) == 1194);
    outb(0x61, 1);
    usleep(3000);
    cr_assert(out2());
    cr_assert((inb(0x61) & 0xf) == 1);
}

Test(pit, one_shot_by_gate)
{
    outb(0x61, 0);
    program(2, 1, 2387); /* 2 ms */
    cr_assert(out2());
    usleep(3000);
    cr_assert(out2(), "waits for a trigger");
    uint64_t t0 = host_now_ns();
    outb(0x61, 1);
    cr_assert(still(t0, 2, false));
    outb(0x61, 0); /* the gate's level does not matter */
    usleep(4000);
    cr_assert(out2());
}

Test(pit, square_wave)
{
    outb(0x61, 1);
    program(2, 3, 23864); /* 20 ms */
    unsigned high = 0, n = 0;
    uint64_t t0 = host_now_ns();
    /* Two periods, or as long as a busy host takes to look at both halves. */
    while (host_now_ns() - t0 < 40000000 || !high || high == n) {
        cr_assert(host_now_ns() - t0 < 60000000000u, "it stays as it is");
        high += out2();
        n++;
        unsigned v = latch(2);
        cr_assert(v <= 23864 && v % 2 == 0);
    }
    outb(0x61, 0);
    cr_assert(out2(), "high without gate");
}

Test(pit, read_back)
{
    program(0, 3, 0x1234);
    program(1, 2, 100);
    outb(0x43, 0x80 | 0x40 | 0x06); /* count and status of channels 0 and 1 */
    cr_assert((inb(0x40) & 0x3f) == 0x36);
    cr_assert(read16(0) <= 0x1234);
    cr_assert((inb(0x41) & 0x3f) == 0x34);
    cr_assert(read16(1) <= 100);
    outb(0x43, 0x30); /* mode 0, no count yet */
    cr_assert(status(0) == (NULL_COUNT | 0x30));
    outb(0x40, 0);
    cr_assert(status(0) == (NULL_COUNT | 0x30));
    outb(0x40, 0x10);
    cr_assert((status(0) & 0x7f) == 0x30);
}

Test(pit, bytes_and_bcd)
{
    outb(0x61, 0);
    outb(0x43, 0x90 | 1); /* channel 2, low byte, mode 0, BCD */
    outb(0x42, 0x42);
    cr_assert(inb(0x42) == 0x42);
    outb(0x43, 0xa0 | 1); /* high byte */
    outb(0x42, 0x12);
    cr_assert(inb(0x42) == 0x12);
    program(2, 0, 0);
    cr_assert(latch(2) == 0);
    outb(0x43, 0xb1);
    outb(0x42, 0x34);
    outb(0x42, 0x12);
    cr_assert(latch(2) == 0x1234);
    outb(0x61, 1);
    usleep(500);
    unsigned v = latch(2);
    for (unsigned i = 0; i < 16; i += 4)
        cr_assert((v >> i & 15) < 10);
}

Test(pit, a_new_period_starts_after_the_old)
{
    outb(0x61, 1);
    program(2, 2, 0x4000); /* 13.7 ms */
    outb(0x42, 100);
    outb(0x42, 0);
    cr_assert(status(2) & NULL_COUNT);
    cr_assert(latch(2) > 100);
    usleep(20000);
    cr_assert(latch(2) <= 100);
    cr_assert(!(status(2) & NULL_COUNT));
}

Test(pit, refresh_toggles)
{
    unsigned seen = 0;
    uint64_t t0 = host_now_ns();
    while (seen != 3 && host_now_ns() - t0 < 1000000000u)
        seen |= (inb(0x61) & 0x10) ? 1 : 2;
    cr_assert(seen == 3);
}

/* ---- interrupts ------------------------------------------------------------------------ */

static bool tick(unsigned ms)
{
    if (!wait_irq(0, ms))
        return false;
    cr_assert(irqchip_ack(chip, 0) == 0x30);
    apic_w(0, REG_EOI, 0);
    return true;
}

Test(pit, periodic_interrupts)
{
    for (unsigned mode = 2; mode <= 3; mode++) {
        uint64_t t0 = host_now_ns();
        program(0, mode, 5966); /* 5 ms */
        for (int i = 0; i < 5; i++)
            cr_assert(tick(5000));
        cr_assert(host_now_ns() - t0 >= 20000000, "OUT goes high with the mode, from mode 0");
        program(0, 0, 0);
        while (tick(1))
            ;
        outb(0x43, 0x30);
        cr_assert(!tick(60), "stopped");
    }
}

Test(pit, one_interrupt)
{
    for (unsigned mode = 0; mode <= 4; mode += 4) {
        outb(0x43, 0x30);
        while (tick(1))
            ;
        uint64_t t0 = host_now_ns();
        program(0, mode, 5966);
        if (mode == 4)
            while (tick(1)) /* OUT went high with the mode */
                ;
        cr_assert(tick(5000));
        cr_assert(host_now_ns() - t0 >= 5000000);
        cr_assert(!tick(20));
    }
}

Test(pit, hostile_periods)
{
    static const uint8_t bytes[] = {0, 1, 2, 3};
    for (unsigned mode = 0; mode < 8; mode++)
        for (unsigned i = 0; i < sizeof bytes; i++) {
            outb(0x43, (uint8_t)(0x10 | mode << 1));
            outb(0x40, bytes[i]);
            for (int k = 0; k < 20; k++) {
                inb(0x40);
                status(0);
            }
        }
    cr_assert(io_read(0, VC_SPACE_PORT, 0x43, 4) == 0xffffffff);
    io_write(0, VC_SPACE_PORT, 0x42, 4, 0xffffffff);
}
