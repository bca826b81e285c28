/* SPDX-License-Identifier: MIT
 * MC146818 real-time clock and its NVRAM (Motorola MC146818A data sheet; the
 * NVRAM bytes as IBM PC/AT firmware leaves them).
 *
 * The time is not counted but computed from the clock when it is looked at. The
 * three flags of register C are raised then, too, or by one timer that is armed
 * for the next moment the guest asked an interrupt for.
 */
#include "pcdev.h"
#include "../base/err.h"

#define NS_S 1000000000ull

enum {
    REG_SEC = 0,
    REG_SEC_ALARM,
    REG_MIN,
    REG_MIN_ALARM,
    REG_HOUR,
    REG_HOUR_ALARM,
    REG_WDAY,
    REG_MDAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    REG_CENTURY = 0x32
};
#define A_UIP  0x80u
#define B_SET  0x80u
#define B_PIE  0x40u
#define B_AIE  0x20u
#define B_UIE  0x10u
#define B_DM   0x04u /* binary, else BCD */
#define B_24H  0x02u
#define C_IRQF 0x80u
#define C_PF   0x40u
#define C_AF   0x20u
#define C_UF   0x10u
#define D_VRT  0x80u
/* UIP comes this long before the second changes (data sheet, table 5: tBUC). */
#define UIP_NS 244000u

/* ---- calendar ---- */

struct civil {
    int64_t year;
    unsigned month, day, hour, min, sec, wday; /* wday: 0 is Sunday */
};

static int64_t div_floor(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days from 1970-01-01; counts years from March, so that the leap day is last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = year + div_floor(month - 3, 12);
    int64_t m = month - 3 - 12 * div_floor(month - 3, 12); /* 0: March */
    return 365 * y + div_floor(y, 4) - div_floor(y, 100) + div_floor(y, 400) + (153 * m + 2) / 5 +
           day - 1 - 719468;
}

static struct civil civil_of(int64_t t)
{
    struct civil c;
    int64_t days = div_floor(t, 86400), sod = t - days * 86400, month = 1;

    c.year = 1970 + div_floor(days * 400, 146097); /* right, or one off */
    while (days_of(c.year, 1, 1) > days)
        c.year--;
    while (days_of(c.year + 1, 1, 1) <= days)
        c.year++;
    while (month < 12 && days_of(c.year, month + 1, 1) <= days)
        month++;
    c.month = (unsigned)month;
    c.day = (unsigned)(days - days_of(c.year, month, 1) + 1);
    c.hour = (unsigned)(sod / 3600);
    c.min = (unsigned)(sod / 60 % 60);
    c.sec = (unsigned)(sod % 60);
    c.wday = (unsigned)(days + 4 - 7 * div_floor(days + 4, 7)); /* 1970-01-01: Thursday */
    return c;
}

/* ---- registers and time ---- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    v %= 100;
    return (uint8_t)(r->s.ram[REG_B] & B_DM ? v : (v / 10) << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->s.ram[REG_B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->s.ram[REG_B] & B_24H)
        return encode(r, h);
    return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->s.ram[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static bool running(const struct rtc *r)
{
    /* SET, or the divider chain held in reset (DV = 11x). */
    return !(r->s.ram[REG_B] & B_SET) && (r->s.ram[REG_A] & 0x60) != 0x60;
}

static uint64_t phase(const struct rtc *r)
{
    return clock_now(r->host->clock) + r->s.phase_ns;
}

static int64_t seconds_now(const struct rtc *r)
{
    return r->s.base_s + (int64_t)(phase(r) / NS_S);
}

/* The time registers from the running time. */
static void load_time(struct rtc *r)
{
    struct civil c = civil_of(seconds_now(r));
    uint8_t *ram = r->s.ram;
    ram[REG_SEC] = encode(r, c.sec);
    ram[REG_MIN] = encode(r, c.min);
    ram[REG_HOUR] = encode_hour(r, c.hour);
    ram[REG_WDAY] = encode(r, (c.wday + (unsigned)(r->s.dow + 7)) % 7 + 1);
    ram[REG_MDAY] = encode(r, c.day);
    ram[REG_MONTH] = encode(r, c.month);
    ram[REG_YEAR] = encode(r, (unsigned)(c.year - 100 * div_floor(c.year, 100)));
    ram[REG_CENTURY] = encode(r, (unsigned)div_floor(c.year, 100));
}

/* The running time from the time registers; the part of a second goes on. */
static void store_time(struct rtc *r)
{
    const uint8_t *ram = r->s.ram;
    int64_t year = 100 * (int64_t)decode(r, ram[REG_CENTURY]) + decode(r, ram[REG_YEAR]);
    int64_t t = 86400 * days_of(year, decode(r, ram[REG_MONTH]), decode(r, ram[REG_MDAY])) +
                3600 * (int64_t)decode_hour(r, ram[REG_HOUR]) + 60 * decode(r, ram[REG_MIN]) +
                decode(r, ram[REG_SEC]);
    r->s.base_s = t - (int64_t)(phase(r) / NS_S);
    r->s.last_s = t;
    r->s.dow = (int8_t)(((int)decode(r, ram[REG_WDAY]) - 1 - (int)civil_of(t).wday) % 7);
}

/* The first second after t that the alarm registers describe; INT64_MAX: none.
 * Skips whole hours and minutes, so that it takes some 200 steps at most. */
static int64_t next_alarm(const struct rtc *r, int64_t t)
{
    const uint8_t *ram = r->s.ram;
    t++;
    for (unsigned i = 0; i < 400; i++) {
        unsigned sod = (unsigned)(t - 86400 * div_floor(t, 86400));
        if ((ram[REG_HOUR_ALARM] & 0xc0) != 0xc0 &&
            decode_hour(r, ram[REG_HOUR_ALARM]) != sod / 3600)
            t += 3600 - sod % 3600;
        else if ((ram[REG_MIN_ALARM] & 0xc0) != 0xc0 &&
                 decode(r, ram[REG_MIN_ALARM]) != sod / 60 % 60)
            t += 60 - sod % 60;
        else if ((ram[REG_SEC_ALARM] & 0xc0) != 0xc0 && decode(r, ram[REG_SEC_ALARM]) != sod % 60)
            t++;
        else
            return t;
    }
    return INT64_MAX;
}

/* Length of a periodic tick in ns * 32768 (data sheet, table 3); 0: off. */
static uint64_t tick_scaled(const struct rtc *r)
{
    unsigned rs = r->s.ram[REG_A] & 15;
    if (!rs || (r->s.ram[REG_A] & 0x60) == 0x60)
        return 0;
    if (rs < 3)
        rs += 7;
    return NS_S << (rs - 1);
}

static uint64_t ticks_now(const struct rtc *r, uint64_t scaled)
{
    return (uint64_t)((unsigned __int128)(clock_now(r->host->clock) - r->s.per_base) * 32768 /
                      scaled);
}

static void restart_ticks(struct rtc *r)
{
    r->s.per_base = clock_now(r->host->clock);
    r->s.per_n = 0;
}

/* ---- flags and interrupts ---- */

/* Raises what has become due since the last look. */
static void raise_flags(struct rtc *r)
{
    struct rtc_state *s = &r->s;
    uint64_t scaled = tick_scaled(r);

    if (running(r)) {
        int64_t now = seconds_now(r);
        if (now > s->last_s) {
            s->ram[REG_C] |= C_UF;
            if (next_alarm(r, s->last_s) <= now)
                s->ram[REG_C] |= C_AF;
            s->last_s = now;
        }
    }
    if (scaled) {
        uint64_t n = ticks_now(r, scaled);
        if (n > s->per_n) {
            s->ram[REG_C] |= C_PF;
            s->per_n = n;
        }
    }
}

static void update_irq(struct rtc *r)
{
    struct rtc_state *s = &r->s;
    bool level = s->ram[REG_C] & s->ram[REG_B] & (C_PF | C_AF | C_UF);
    if (level)
        s->ram[REG_C] |= C_IRQF;
    else
        s->ram[REG_C] &= (uint8_t)~C_IRQF;
    if (level != s->line) {
        s->line = level;
        irqchip_line(r->host->irq, PC_IRQ_RTC, level);
    }
}

/* Arms the timer for the next flag that will raise an interrupt. A flag that is
 * up already raises none until register C is read. */
static void rearm(struct rtc *r)
{
    const struct rtc_state *s = &r->s;
    uint8_t want = s->ram[REG_B] & (uint8_t)~s->ram[REG_C];
    uint64_t at = UINT64_MAX, scaled = tick_scaled(r);
    int64_t sec = INT64_MAX;

    if (running(r)) {
        if (want & B_UIE)
            sec = s->last_s + 1;
        else if (want & B_AIE)
            sec = next_alarm(r, s->last_s);
    }
    if (sec != INT64_MAX && sec > s->base_s)
        at = (uint64_t)(sec - s->base_s) * NS_S - s->phase_ns;
    if ((want & B_PIE) && scaled) {
        uint64_t tick =
            s->per_base + (uint64_t)(((unsigned __int128)(s->per_n + 1) * scaled + 32767) / 32768);
        if (tick < at)
            at = tick;
    }
    if (at == UINT64_MAX)
        clock_timer_disarm(r->timer);
    else
        clock_timer_arm(r->timer, at);
}

static void rtc_fired(void *ud)
{
    struct rtc *r = ud;
    bus_lock(r->host->bus);
    raise_flags(r);
    update_irq(r);
    rearm(r);
    bus_unlock(r->host->bus);
}

/* ---- register access ---- */

static bool is_time(unsigned reg)
{
    return reg == REG_SEC || reg == REG_MIN || reg == REG_HOUR ||
           (reg >= REG_WDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint8_t read_reg(struct rtc *r, unsigned reg)
{
    struct rtc_state *s = &r->s;
    uint8_t v;

    if (is_time(reg) && running(r))
        load_time(r);
    switch (reg) {
    case REG_A: return s->ram[REG_A] | (running(r) && phase(r) % NS_S >= NS_S - UIP_NS ? A_UIP : 0);
    case REG_C:
        raise_flags(r);
        update_irq(r);
        v = s->ram[REG_C];
        s->ram[REG_C] = 0;
        update_irq(r);
        rearm(r);
        return v;
    case REG_D: return D_VRT;
    default: return s->ram[reg];
    }
}

static void write_ab(struct rtc *r, unsigned reg, uint8_t v)
{
    struct rtc_state *s = &r->s;
    bool was = running(r), held = (s->ram[REG_A] & 0x60) == 0x60;

    if (was)
        load_time(r);
    if (reg == REG_A) {
        uint8_t diff = (v ^ s->ram[REG_A]) & 0x7f;
        s->ram[REG_A] = v & 0x7f;
        if (diff)
            restart_ticks(r);
    } else {
        /* SET ends update interrupts (data sheet, register B). */
        s->ram[REG_B] = v & B_SET ? v & (uint8_t)~B_UIE : v;
    }
    if (running(r) && !was) {
        /* Out of divider reset the first second is half as long. */
        if (held)
            s->phase_ns += NS_S + NS_S / 2 - phase(r) % NS_S;
        s->phase_ns %= NS_S;
        store_time(r);
    }
}

static void write_reg(struct rtc *r, unsigned reg, uint8_t v)
{
    raise_flags(r);
    if (reg == REG_A || reg == REG_B) {
        write_ab(r, reg, v);
    } else if (is_time(reg) && running(r)) {
        load_time(r);
        r->s.ram[reg] = v;
        store_time(r);
    } else if (reg != REG_C && reg != REG_D) {
        r->s.ram[reg] = v;
    }
    if (reg <= REG_D || reg == REG_CENTURY) {
        update_irq(r);
        rearm(r);
    }
}

static uint8_t rtc_read(void *ud, unsigned reg)
{
    struct rtc *r = ud;
    return reg ? read_reg(r, r->s.index) : 0xff; /* the index cannot be read */
}

static void rtc_write(void *ud, unsigned reg, uint8_t v)
{
    struct rtc *r = ud;
    if (reg)
        write_reg(r, r->s.index, v);
    else
        r->s.index = v & 0x7f; /* bit 7 masks NMI on a PC; nothing here raises it so */
}

int rtc_access(void *ud, struct vc_access *a)
{
    return io8_access(a, PC_PORT_RTC, 2, rtc_read, rtc_write, ud);
}

static void put16(uint8_t *ram, unsigned at, uint64_t v)
{
    put_le16(ram + at, (uint16_t)min_u64(v, 0xffff));
}

int rtc_init(struct rtc *r, const struct pc_host *host, int64_t utc, uint64_t ram, unsigned cpus)
{
    uint8_t *nv = r->s.ram;
    uint64_t low = min_u64(ram, PC_LOW_RAM_MAX), high = (ram - low) >> 16;

    memset(r, 0, sizeof *r);
    r->timer = clock_timer_new(host->clock, rtc_fired, r);
    if (!r->timer)
        return err_set(VC_ENOMEM, "no memory for the RTC's timer");
    r->host = host;
    nv[REG_A] = 0x26; /* 32768 Hz, 1024 ticks a second */
    nv[REG_B] = B_24H;
    nv[0x14] = 0x04;      /* equipment: a keyboard, no display, no floppy */
    put16(nv, 0x15, 639); /* KiB below the EBDA */
    put16(nv, 0x17, (low >> 10) - 1024);
    put16(nv, 0x30, (low >> 10) - 1024);
    put16(nv, 0x34, low > (16u << 20) ? (low >> 16) - 256 : 0);
    nv[0x5b] = (uint8_t)high; /* above 4 GiB, in 64 KiB */
    nv[0x5c] = (uint8_t)(high >> 8);
    nv[0x5d] = (uint8_t)(high >> 16);
    nv[0x5f] = (uint8_t)(cpus - 1);
    r->s.base_s = utc - (int64_t)(phase(r) / NS_S);
    r->s.last_s = utc;
    restart_ticks(r);
    load_time(r);
    return 0;
}

void rtc_fini(struct rtc *r)
{
    if (r->timer)
        clock_timer_free(r->timer);
    r->timer = NULL;
}
