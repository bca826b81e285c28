/* SPDX-License-Identifier: MIT
 * The real-time clock: calendar, formats, alarms, the three interrupts. */
#include "pc_rig.h"

static struct rtc rtc;

static uint8_t get(unsigned reg)
{
    out(0x70, 1, reg);
    return (uint8_t)in(0x71, 1);
}
static void set(unsigned reg, unsigned v)
{
    out(0x70, 1, reg | 0x80);
    out(0x71, 1, v);
}

/* 2024-02-29 23:59:58, a Thursday */
#define LEAP 1709251198

static void setup(void)
{
    rig_init(1 << 20);
    cr_assert_eq(rtc_init(&rtc, &rig.host, LEAP, 5ull << 30, 4), 0);
    cr_assert_gt(bus_add(rig.host.bus, VC_SPACE_PORT, 0x70, 2, 0, rtc_access, &rtc), 0);
}
static void teardown(void)
{
    rtc_fini(&rtc);
    rig_fini();
}
TestSuite(rtc, .init = setup, .fini = teardown, .timeout = 60);

Test(rtc, reads_the_time)
{
    set(0x0b, 0x82); /* SET: it stands still while we look */
    cr_expect_eq(get(0x00) & 0xfe, 0x58);
    cr_expect_eq(get(0x02), 0x59);
    cr_expect_eq(get(0x04), 0x23);
    cr_expect_eq(get(0x06), 0x05);
    cr_expect_eq(get(0x07), 0x29);
    cr_expect_eq(get(0x08), 0x02);
    cr_expect_eq(get(0x09), 0x24);
    cr_expect_eq(get(0x32), 0x20);
    cr_expect_eq(get(0x0d), 0x80);
    cr_expect_eq(in(0x70, 1), 0xff);
}

Test(rtc, rolls_over_into_march)
{
    sleep_ms(2300);
    cr_expect_eq(get(0x08), 0x03);
    cr_expect_eq(get(0x07), 0x01);
    cr_expect_eq(get(0x06), 0x06);
    cr_expect_eq(get(0x04), 0x00);
    set(0x0b, 0x82); /* SET holds it */
    uint8_t sec = get(0x00);
    sleep_ms(1100);
    cr_expect_eq(get(0x00), sec);
}

Test(rtc, every_day_of_four_centuries_survives)
{
    set(0x0b, 0x06); /* binary, 24 h */
    for (int64_t day = -146097; day < 146097; day += 11) {
        struct tm tm;
        time_t t = (time_t)(day * 86400 + 3661);
        gmtime_r(&t, &tm);
        set(0x0b, 0x86);
        set(0x00, (unsigned)tm.tm_sec);
        set(0x02, (unsigned)tm.tm_min);
        set(0x04, (unsigned)tm.tm_hour);
        set(0x06, (unsigned)tm.tm_wday + 1);
        set(0x07, (unsigned)tm.tm_mday);
        set(0x08, (unsigned)tm.tm_mon + 1);
        set(0x09, (unsigned)(tm.tm_year + 1900) % 100);
        set(0x32, (unsigned)(tm.tm_year + 1900) / 100);
        set(0x0b, 0x06);
        cr_assert_eq(get(0x07), tm.tm_mday, "day %ld", (long)day);
        cr_assert_eq(get(0x08), tm.tm_mon + 1);
        cr_assert_eq(get(0x09), (tm.tm_year + 1900) % 100);
        cr_assert_eq(get(0x32), (tm.tm_year + 1900) / 100);
        cr_assert_eq(get(0x06), tm.tm_wday + 1);
        cr_assert_eq(get(0x04), tm.tm_hour);
        cr_assert_eq(get(0x02), tm.tm_min);
    }
}

Test(rtc, twelve_hour_format)
{
    static const struct {
        uint8_t h24, bcd12, bin12;
    } rows[] = {{0, 0x12, 12},   {1, 0x01, 1},    {11, 0x11, 11},
                {12, 0x92, 140}, {13, 0x81, 129}, {23, 0x91, 139}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        set(0x0b, 0x86);
        set(0x02, 0);
        set(0x00, 0);
        set(0x04, rows[i].h24);
        set(0x0b, 0x06);
        set(0x0b, 0x00);
        cr_expect_eq(get(0x04), rows[i].bcd12, "%u", rows[i].h24);
        set(0x0b, 0x04);
        cr_expect_eq(get(0x04), rows[i].bin12, "%u", rows[i].h24);
        set(0x04, rows[i].bin12);
        set(0x0b, 0x06);
        cr_expect_eq(get(0x04), rows[i].h24);
    }
}

Test(rtc, update_and_alarm_interrupts)
{
    get(0x0c);
    set(0x0b, 0x12);
    cr_expect(wait_for(rtc.s.line), "update ended");
    cr_expect_eq(get(0x0c) & 0xbf, 0x90, "UF; the alarm is off");
    cr_expect_not(rtc.s.line);
    set(0x0b, 0x02);
    set(0x01, 0xc0); /* every second */
    set(0x03, 0xff);
    set(0x05, 0xc5);
    set(0x0b, 0x22);
    cr_expect(wait_for(rtc.s.line));
    cr_expect_eq(get(0x0c) & 0xbf, 0xb0, "AF, and UF without its interrupt");
}

Test(rtc, alarm_at_a_time)
{
    set(0x0b, 0x82);
    set(0x00, 0x00);
    set(0x02, 0x30);
    set(0x04, 0x12);
    set(0x01, 0x01);
    set(0x03, 0x30);
    set(0x05, 0x12);
    set(0x0b, 0x22);
    get(0x0c);
    cr_expect(wait_for(rtc.s.line));
    cr_expect_eq(get(0x00), 0x01);
    cr_expect_eq(get(0x0c) & 0xa0, 0xa0);
    set(0x05, 0x7f); /* no such hour */
    set(0x01, 0x03);
    sleep_ms(50);
    cr_expect_eq(get(0x0c) & 0x20, 0);
}

Test(rtc, periodic_interrupt)
{
    get(0x0c);
    set(0x0a, 0x2a); /* 64 Hz */
    set(0x0b, 0x42);
    uint64_t t = host_now_ns();
    for (int i = 0; i < 16; i++) {
        cr_expect(wait_for(rtc.s.line));
        cr_expect_eq(get(0x0c) & 0xc0, 0xc0);
    }
    t = host_now_ns() - t;
    cr_expect(t > 200000000, "%lu ns for a quarter of a second", (unsigned long)t);
    set(0x0b, 0x02);
    set(0x0a, 0x20);
    get(0x0c);
    sleep_ms(40);
    cr_expect_eq(get(0x0c) & 0x40, 0);
}

Test(rtc, update_in_progress_comes_before_the_second)
{
    uint8_t sec;
    unsigned n = 0;
    while (!(get(0x0a) & 0x80) && n < 50000000)
        n++;
    sec = get(0x00);
    while ((get(0x0a) & 0x80))
        ;
    cr_expect_neq(get(0x00), sec);
    set(0x0b, 0x82);
    cr_expect_eq(get(0x0a) & 0x80, 0);
}

Test(rtc, nvram)
{
    cr_expect_eq(get(0x15) | get(0x16) << 8, 639);
    cr_expect_eq(get(0x17) | get(0x18) << 8, 0xffff);
    cr_expect_eq(get(0x34) | get(0x35) << 8, (3 << 14) - 256);
    cr_expect_eq(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 2 << 14);
    cr_expect_eq(get(0x5f), 3);
    set(0x0f, 0x0a);
    set(0x7f, 0x77);
    cr_expect_eq(get(0x0f), 0x0a);
    cr_expect_eq(get(0x7f), 0x77);
}
