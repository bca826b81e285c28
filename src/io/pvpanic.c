/* SPDX-License-Identifier: MIT
 * pvpanic: one port through which a guest says that it panicked (bit 0), or
 * that its crash kernel takes over (bit 1). A read tells which bits count.
 */
#include "pcdev.h"

#define PANICKED     0x01u
#define CRASH_LOADED 0x02u

static uint8_t pvpanic_read(void *ud, unsigned reg)
{
    (void)ud;
    (void)reg;
    return PANICKED | CRASH_LOADED;
}

/* A crash kernel that takes over will end the machine itself. */
static void pvpanic_write(void *ud, unsigned reg, uint8_t v)
{
    const struct pc_host *host = ud;
    (void)reg;
    if (v & PANICKED)
        host->power(host->ctx, VC_POWER_PANIC, v);
}

int pvpanic_access(void *ud, struct vc_access *a)
{
    return io8_access(a, PC_PORT_PVPANIC, 1, pvpanic_read, pvpanic_write, ud);
}
