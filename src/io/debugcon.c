/* SPDX-License-Identifier: MIT
 * The debug console port of Bochs: a read of 0xe9 gives 0xe9, so that firmware
 * knows it may write there. The bytes go nowhere.
 */
#include "pcdev.h"

static uint8_t debugcon_read(void *ud, unsigned reg)
{
    (void)ud;
    (void)reg;
    return 0xe9;
}

static void debugcon_write(void *ud, unsigned reg, uint8_t v)
{
    (void)ud;
    (void)reg;
    (void)v;
}

int debugcon_access(void *ud, struct vc_access *a)
{
    return io8_access(a, 0xe9, 1, debugcon_read, debugcon_write, ud);
}
