/* SPDX-License-Identifier: MIT
 * System control port A, 0x92 (IBM PS/2 Hardware Interface Technical Reference)
 * and the PCI chip set's reset control register, 0xcf9.
 */
#include "pcdev.h"

#define P92_RESET 0x01u
#define P92_A20   0x02u
#define RST_CPU   0x04u /* 0 to 1: reset, hard or soft by bit 1 */

static uint8_t port92_read(void *ud, unsigned reg)
{
    (void)reg;
    return ((struct sysctl *)ud)->s.port92;
}

static void port92_write(void *ud, unsigned reg, uint8_t v)
{
    struct sysctl *c = ud;
    bool reset = (v & ~c->s.port92) & P92_RESET;
    (void)reg;
    c->s.port92 = v;
    if (reset)
        c->host->power(c->host->ctx, VC_POWER_RESET, 0);
}

int sysctl_port92_access(void *ud, struct vc_access *a)
{
    return io8_access(a, PC_PORT_FAST_RST, 1, port92_read, port92_write, ud);
}

uint8_t sysctl_rst_cnt_read(struct sysctl *c)
{
    return c->s.rst_cnt;
}

void sysctl_rst_cnt_write(struct sysctl *c, uint8_t v)
{
    bool reset = (v & ~c->s.rst_cnt) & RST_CPU;
    c->s.rst_cnt = v & 0x0e;
    if (reset)
        c->host->power(c->host->ctx, VC_POWER_RESET, 0);
}

void sysctl_init(struct sysctl *c, const struct pc_host *host)
{
    memset(c, 0, sizeof *c);
    c->host = host;
    c->s.port92 = P92_A20;
}
