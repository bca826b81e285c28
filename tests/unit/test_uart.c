/* SPDX-License-Identifier: MIT
 * The 16550A: registers, FIFOs, interrupts, and no byte lost on the way in. */
#include "pc_rig.h"
#include <pthread.h>

enum { RBR = 0x3f8, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct uart uart;
static uint8_t sent[4096];
static size_t nsent;

static void collect(void *ud, const void *bytes, size_t n)
{
    (void)ud;
    if (nsent + n <= sizeof sent)
        memcpy(sent + nsent, bytes, n);
    nsent += n;
}

static void setup(void)
{
    nsent = 0;
    rig_init(1 << 20);
    cr_assert_eq(uart_init(&uart, &rig.host, collect, NULL), 0);
    cr_assert_gt(bus_add(rig.host.bus, VC_SPACE_PORT, RBR, 8, 0, uart_access, &uart), 0);
}
static void teardown(void)
{
    uart_fini(&uart);
    rig_fini();
}
TestSuite(uart, .init = setup, .fini = teardown, .timeout = 60);

static size_t feed(const void *bytes, size_t n)
{
    bus_lock(rig.host.bus);
    size_t done = uart_receive(&uart, bytes, n);
    bus_unlock(rig.host.bus);
    return done;
}

Test(uart, scratch_divisor_and_wide_access)
{
    out(SCR, 1, 0xa5);
    cr_expect_eq(in(SCR, 1), 0xa5);
    out(LCR, 1, 0x83);
    out(RBR, 2, 0x1234); /* two byte cycles: DLL, DLM */
    cr_expect_eq(in(RBR, 2), 0x1234);
    out(LCR, 1, 0x03);
    cr_expect_eq(in(IER, 1), 0);
    out(IER, 1, 0xff);
    cr_expect_eq(in(IER, 1), 0x0f);
    cr_expect_eq(in(SCR, 4) >> 8, 0xffffff, "beyond the last register the bus floats");
    cr_expect_eq(nsent, 0);
}

Test(uart, transmits_at_once)
{
    for (const char *p = "hello"; *p; p++) {
        cr_expect_eq(in(LSR, 1), 0x60);
        out(RBR, 1, (uint8_t)*p);
    }
    cr_expect_eq(nsent, 5);
    cr_expect_arr_eq(sent, "hello", 5);
}

Test(uart, thre_interrupt)
{
    out(MCR, 1, 0x08);
    out(IER, 1, 0x02);
    cr_expect(uart.s.line, "enabling it with an empty holding register raises it");
    cr_expect_eq(in(IIR, 1), 0x02);
    cr_expect_eq(in(IIR, 1), 0x01);
    cr_expect_not(uart.s.line);
    out(RBR, 1, 'x');
    cr_expect(uart.s.line);
    out(IER, 1, 0);
    cr_expect_not(uart.s.line);
}

Test(uart, trigger_level_and_timeout)
{
    out(IIR, 1, 0x87); /* FIFOs, 8 bytes */
    out(IER, 1, 0x01);
    cr_expect_eq(feed("abc", 3), 3);
    cr_expect_eq(in(IIR, 1) & 0xc0, 0xc0);
    cr_expect(wait_for(uart.s.line), "three bytes below the trigger: the timeout");
    cr_expect_eq(in(IIR, 1), 0xcc);
    cr_expect_eq(in(RBR, 1), 'a');
    cr_expect_not(uart.s.line, "one read clears it");
    cr_expect(wait_for(uart.s.line), "and it comes again");
    cr_expect_eq(feed("defghi", 6), 6);
    cr_expect_eq(in(IIR, 1), 0xc4, "eight bytes: the trigger");
    for (const char *p = "bcdefghi"; *p; p++) {
        cr_expect(in(LSR, 1) & 1);
        cr_expect_eq(in(RBR, 1), (uint8_t)*p);
    }
    cr_expect_eq(in(LSR, 1) & 1, 0);
    cr_expect_eq(in(IIR, 1), 0xc1);
}

Test(uart, priorities)
{
    out(IIR, 1, 0x01);
    out(MCR, 1, 0x1b); /* loop, OUT2, RTS, DTR: no change of the modem lines yet */
    in(MSR, 1);
    out(IER, 1, 0x0f);
    in(IIR, 1);        /* THRE taken */
    out(MCR, 1, 0x19); /* RTS off: delta CTS */
    cr_expect_eq(in(IIR, 1), 0xc0, "modem");
    for (int i = 0; i < 17; i++)
        out(RBR, 1, (uint32_t)i);
    cr_expect_eq(in(IIR, 1), 0xc6, "line status first: the loop overran");
    cr_expect_eq(in(LSR, 1), 0x63);
    cr_expect_eq(in(IIR, 1), 0xc4);
    for (unsigned i = 0; i < 16; i++)
        cr_expect_eq(in(RBR, 1), i);
    cr_expect_eq(in(IIR, 1), 0xc2);
    cr_expect_eq(in(IIR, 1), 0xc0);
    cr_expect_eq(in(MSR, 1) & 0x0f, 0x01);
    cr_expect_eq(in(IIR, 1), 0xc1);
    cr_expect_eq(nsent, 0, "nothing leaves in loopback");
}

Test(uart, modem_lines)
{
    cr_expect_eq(in(MSR, 1), 0xb0);
    out(MCR, 1, 0x14); /* loop, OUT1: RI up; leaving CTS, DSR, DCD */
    cr_expect_eq(in(MSR, 1), 0x4b);
    out(MCR, 1, 0x10);
    cr_expect_eq(in(MSR, 1), 0x04, "trailing edge of RI");
}

/* A driver's start-up clears FIFOs and reads RBR blindly; input stays. */
Test(uart, keeps_input_for_a_guest_that_is_not_up)
{
    cr_expect_eq(feed("early", 5), 5);
    for (int i = 0; i < 3; i++) {
        out(IIR, 1, 0x01);
        out(IIR, 1, 0x07);
        out(IIR, 1, 0x00);
        in(LSR, 1);
        in(RBR, 1);
        in(IIR, 1);
        in(MSR, 1);
    }
    out(IIR, 1, 0x01);
    out(IER, 1, 0x05);
    for (const char *p = "early"; *p; p++)
        cr_expect_eq(in(RBR, 1), (uint8_t)*p);
}

/* Linux tries the interrupt bits while it looks for the port, prints by polling
 * LSR, and enables interrupts before it clears the FIFO a last time. */
Test(uart, keeps_input_while_linux_starts)
{
    cr_expect_eq(feed("early", 5), 5);
    out(IER, 1, 0x0f);
    cr_expect_eq(in(IER, 1), 0x0f);
    out(IER, 1, 0);
    out(IIR, 1, 0x01);
    out(IIR, 1, 0x00);
    in(RBR, 1);
    for (const char *p = "printed"; *p; p++) {
        in(LSR, 1);
        out(RBR, 1, (uint8_t)*p);
    }
    for (int i = 0; i < 2; i++) {
        in(LSR, 1);
        in(RBR, 1);
        in(IIR, 1);
        in(MSR, 1);
        in(LSR, 1);
    }
    out(IER, 1, 0x05);
    out(IIR, 1, 0x01);
    out(IIR, 1, 0x81);
    for (const char *p = "early"; *p; p++)
        cr_expect_eq(in(RBR, 1), (uint8_t)*p);
    cr_expect_eq(in(LSR, 1) & 1, 0);
}

Test(uart, polled_input)
{
    cr_expect_eq(feed("xyz", 3), 3);
    for (const char *p = "xyz"; *p; p++) {
        int polls = 0;
        while (!(in(LSR, 1) & 1) && polls < 10)
            polls++;
        cr_expect_lt(polls, 8);
        cr_expect_eq(in(RBR, 1), (uint8_t)*p);
        out(RBR, 1, (uint8_t)*p); /* echo */
    }
    cr_expect_arr_eq(sent, "xyz", 3);
}

Test(uart, honours_rts)
{
    out(IIR, 1, 0x01);
    out(MCR, 1, 0x0b);
    out(IER, 1, 0x01);
    cr_expect_eq(feed("a", 1), 1);
    out(MCR, 1, 0x09);
    cr_expect_eq(feed("b", 1), 1);
    cr_expect_eq(in(RBR, 1), 'a');
    cr_expect_eq(in(LSR, 1) & 1, 0);
    out(MCR, 1, 0x0b);
    cr_expect_eq(in(RBR, 1), 'b');
}

#define PASTE 300000u

static void *paster(void *ud)
{
    (void)ud;
    static uint8_t text[PASTE];
    for (unsigned i = 0; i < PASTE; i++)
        text[i] = (uint8_t)(i * 7 + i / 251);
    size_t done = 0;
    while (done < PASTE) {
        done += feed(text + done, PASTE - done);
        if (done < PASTE && uart_wait(&uart, -1) != 1)
            return NULL;
    }
    return &uart;
}

Test(uart, a_fast_paste_loses_nothing)
{
    pthread_t thread;
    void *ok;
    out(IIR, 1, 0xc1);
    out(MCR, 1, 0x0b);
    out(IER, 1, 0x01);
    cr_assert_eq(pthread_create(&thread, NULL, paster, NULL), 0);
    for (unsigned i = 0; i < PASTE;) {
        if (!wait_for(uart.s.line))
            break;
        while (in(LSR, 1) & 1) {
            uint8_t v = (uint8_t)in(RBR, 1);
            cr_assert_eq(v, (uint8_t)(i * 7 + i / 251), "byte %u", i);
            i++;
        }
    }
    pthread_join(thread, &ok);
    cr_expect(ok);
    cr_expect_eq(in(LSR, 1), 0x60, "no overrun");
}

Test(uart, waiting_for_room)
{
    static uint8_t junk[UART_QUEUE];
    cr_expect_eq(uart_wait(&uart, -1), 1);
    cr_expect_eq(feed(junk, sizeof junk), sizeof junk);
    cr_expect_eq(feed(junk, 1), 0);
    cr_expect_eq(uart_wait(&uart, 0), 0);
    cr_expect_eq(uart_wait(&uart, 20), 0);
    out(IER, 1, 1);
    cr_expect_eq(uart_wait(&uart, -1), 1);
    uart_down(&uart);
    cr_expect_eq(uart_wait(&uart, -1), 0);
}
