/* SPDX-License-Identifier: MIT
 * The small devices of the PC platform. Each keeps all that the guest can see
 * or change in one plain `s`, so that a snapshot is a copy of it; what belongs
 * to this process (timers, locks, callbacks) stands beside it.
 *
 * Register handlers and the functions below run under the bus lock unless they
 * say otherwise; timers' callbacks take it themselves. *_fini must be called
 * without it, after the device's ranges left the bus: it waits for callbacks.
 */
#ifndef IO_PCDEV_H
#define IO_PCDEV_H

#include "pc.h"
#include "../base/util.h"

/* Fixed places of the platform. */
#define PC_PORT_UART     0x3f8u
#define PC_PORT_RTC      0x70u
#define PC_PORT_FAST_RST 0x92u
#define PC_PORT_PVPANIC  0x505u
#define PC_PORT_FWCFG    0x510u
#define PC_PORT_PM       0x600u
#define PC_PM_LEN        0x0cu
#define PC_PORT_RST_CNT  0xcf9u
#define PC_ECAM_BUSES    128u /* PC_ECAM_BASE is aligned to 128 MiB, not more */

#define PC_IRQ_KBD  1u
#define PC_IRQ_UART 4u
#define PC_IRQ_RTC  8u
#define PC_IRQ_SCI  9u
#define PC_IRQ_AUX  12u

/* A block of 8-bit registers behind a wider bus: the access is split into byte
 * cycles as an ISA bridge does; bytes past the block float high. */
static inline int io8_access(struct vc_access *a, uint64_t base, unsigned nregs,
                             uint8_t (*rd)(void *ud, unsigned reg),
                             void (*wr)(void *ud, unsigned reg, uint8_t v), void *ud)
{
    uint64_t data = 0;
    for (unsigned i = 0; i < a->len && i < 8; i++) {
        uint64_t reg = a->addr - base + i;
        if (a->write) {
            if (reg < nregs)
                wr(ud, (unsigned)reg, (uint8_t)(a->data >> (8 * i)));
        } else {
            uint64_t v = reg < nregs ? rd(ud, (unsigned)reg) : 0xff;
            data |= v << (8 * i);
        }
    }
    if (!a->write)
        a->data = data;
    return 0;
}

/* ---- 16550A at COM1 (uart.c) ---- */

#define UART_FIFO  16u
#define UART_QUEUE 1024u

struct uart_state {
    uint8_t ier, fcr, lcr, mcr, lsr_err, msr, scr, dll, dlm;
    bool thre;     /* the THR-empty interrupt is due */
    bool timeout;  /* the character-timeout interrupt is due */
    bool polled;   /* what is in the FIFO went there because the guest polled */
    bool seen;     /* the guest, interrupts on, learnt of what is in the FIFO */
    bool rts_seen; /* the guest uses RTS: honour it */
    uint8_t polls; /* reads of LSR in a row */
    uint8_t fifo_len;
    uint8_t fifo[UART_FIFO];
    uint32_t q_head, q_len; /* bytes from outside that wait for the FIFO */
    uint8_t queue[UART_QUEUE + UART_FIFO];
    uint64_t timeout_at;
    bool timer_on;
    bool line; /* level of the interrupt line */
};

struct uart {
    struct uart_state s;
    const struct pc_host *host;
    struct clock_timer *timer;
    vc_serial_out_fn *out;
    void *out_ud;
    /* For threads that wait for room; never held while the bus lock is taken. */
    pthread_mutex_t wait_lock;
    pthread_cond_t wait_cond;
    bool room, down; /* under wait_lock */
    bool room_seen;  /* last published room; under the bus lock */
};

int uart_init(struct uart *u, const struct pc_host *host, vc_serial_out_fn *out, void *ud);
void uart_fini(struct uart *u);
int uart_access(void *ud, struct vc_access *a);
size_t uart_receive(struct uart *u, const uint8_t *bytes, size_t n);
/* Without the bus lock. 1: there is room; 0: timeout, or the machine is down. */
int uart_wait(struct uart *u, int timeout_ms);
void uart_down(struct uart *u); /* without the bus lock */

/* ---- MC146818 (rtc.c) ---- */

struct rtc_state {
    uint8_t index;
    uint8_t ram[128];
    /* Running time is base_s + (clock + phase_ns) / 1 s, seconds since 1970. */
    int64_t base_s;
    uint64_t phase_ns;
    int64_t last_s;           /* seconds up to here raised their flags */
    uint64_t per_base, per_n; /* periodic ticks: start, and how many were raised */
    int8_t dow;               /* day of week as set minus the calendar's */
    bool line;
};

struct rtc {
    struct rtc_state s;
    const struct pc_host *host;
    struct clock_timer *timer;
};

/* utc: seconds since 1970; ram: bytes of RAM; cpus for the NVRAM. */
int rtc_init(struct rtc *r, const struct pc_host *host, int64_t utc, uint64_t ram, unsigned cpus);
void rtc_fini(struct rtc *r);
int rtc_access(void *ud, struct vc_access *a);

/* ---- 8042 with a keyboard, and the reset ports (i8042.c) ---- */

struct i8042_state {
    uint8_t status, config, outport, pending_cmd, kbd_cmd;
    uint8_t ram[32];
    uint8_t len;
    uint8_t queue[16]; /* answers; queue[0] is in the output buffer */
    uint16_t aux;      /* bit n: queue[n] came from the second port */
    bool kbd_line, aux_line;
};

struct i8042 {
    struct i8042_state s;
    const struct pc_host *host;
};

void i8042_init(struct i8042 *k, const struct pc_host *host);
int i8042_data_access(void *ud, struct vc_access *a);   /* 0x60 */
int i8042_status_access(void *ud, struct vc_access *a); /* 0x64 */

/* Port 0x92 and reset control 0xcf9. */
struct sysctl_state {
    uint8_t port92, rst_cnt;
};
struct sysctl {
    struct sysctl_state s;
    const struct pc_host *host;
};
void sysctl_init(struct sysctl *c, const struct pc_host *host);
int sysctl_port92_access(void *ud, struct vc_access *a);
uint8_t sysctl_rst_cnt_read(struct sysctl *c);
void sysctl_rst_cnt_write(struct sysctl *c, uint8_t v);

/* ---- ACPI fixed registers (pm.c) ---- */

struct pm_state {
    uint16_t sts, en, cnt;
    uint64_t start; /* clock when the timer was 0 */
    uint64_t carry; /* changes of the timer's top bit that raised TMR_STS */
    bool line;
};
struct pm {
    struct pm_state s;
    const struct pc_host *host;
    struct clock_timer *timer;
};
int pm_init(struct pm *pm, const struct pc_host *host);
void pm_fini(struct pm *pm);
int pm_access(void *ud, struct vc_access *a);

/* ---- fw_cfg (fw_cfg.c) ---- */

#define FW_CFG_ITEMS 48u
#define FW_CFG_FILES 16u

struct fw_cfg_item {
    uint16_t key;
    uint32_t len;
    uint8_t *data;
};
struct fw_cfg_file {
    uint16_t key;
    uint32_t len;
    char name[56];
};
struct fw_cfg_state {
    uint16_t key;
    uint32_t off;
    uint64_t dma_addr;
};
struct fw_cfg {
    struct fw_cfg_state s;
    const struct pc_host *host;
    unsigned nitems, nfiles;
    struct fw_cfg_item item[FW_CFG_ITEMS];
    struct fw_cfg_file file[FW_CFG_FILES];
};
int fw_cfg_init(struct fw_cfg *f, const struct pc_host *host, uint64_t ram, unsigned cpus);
void fw_cfg_fini(struct fw_cfg *f);
/* Adds an item, or replaces it; the data is copied. A code with error set. */
int fw_cfg_set(struct fw_cfg *f, uint16_t key, const void *data, uint32_t len);
/* Adds a named file; name is at most 55 bytes. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t len);
int fw_cfg_access(void *ud, struct vc_access *a);

/* ---- One-register devices; ud is the const struct pc_host (misc files) ---- */

int debugexit_access(void *ud, struct vc_access *a); /* 0xf4, 4 ports */
int pvpanic_access(void *ud, struct vc_access *a);   /* 0x505 */
int debugcon_access(void *ud, struct vc_access *a);  /* 0xe9 */

/* ---- Test device (testdev.c) ---- */

#define TESTDEV_MEM_BASE 0xff000000ull
#define TESTDEV_MEM_LEN  0x10000u

struct testdev_state {
    uint8_t reg[4];
    uint8_t mem[TESTDEV_MEM_LEN];
};
struct testdev {
    const struct pc_host *host;
    struct testdev_state s;
};
struct testdev *testdev_new(const struct pc_host *host);
void testdev_free(struct testdev *t);
int testdev_reg_access(void *ud, struct vc_access *a);  /* 0xe0-0xe3, 0xe8-0xeb */
int testdev_null_access(void *ud, struct vc_access *a); /* 0xe4-0xe7 */
int testdev_irq_access(void *ud, struct vc_access *a);  /* 0x2000-0x2017 */
int testdev_mem_access(void *ud, struct vc_access *a);

#endif
