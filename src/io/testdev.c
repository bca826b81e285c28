/* SPDX-License-Identifier: MIT
 * What kvm-unit-tests expects beside an ordinary PC: a register that keeps what
 * is written (0xe0, and once more at 0xe8), a port that asks for a page to be
 * dropped from caches (0xe4, nothing to do), interrupt lines that follow what is
 * written (0x2000 + GSI), and memory that is reached by MMIO.
 */
#include "pcdev.h"

#include <stdlib.h>

static uint8_t reg_read(void *ud, unsigned reg)
{
    return ((struct testdev *)ud)->s.reg[reg & 3];
}

static void reg_write(void *ud, unsigned reg, uint8_t v)
{
    ((struct testdev *)ud)->s.reg[reg & 3] = v;
}

int testdev_reg_access(void *ud, struct vc_access *a)
{
    return io8_access(a, a->addr & ~3ull, 4, reg_read, reg_write, ud);
}

int testdev_null_access(void *ud, struct vc_access *a)
{
    (void)ud;
    if (!a->write)
        a->data = ~0ull;
    return 0;
}

int testdev_irq_access(void *ud, struct vc_access *a)
{
    const struct testdev *t = ud;
    uint64_t gsi = a->addr - 0x2000;
    if (!a->write)
        a->data = ~0ull;
    else if (gsi < 24)
        irqchip_line(t->host->irq, (unsigned)gsi, (a->data & 0xff) != 0);
    return 0;
}

int testdev_mem_access(void *ud, struct vc_access *a)
{
    struct testdev *t = ud;
    uint64_t off = a->addr - TESTDEV_MEM_BASE, data = ~0ull;
    size_t n;

    if (off >= TESTDEV_MEM_LEN)
        n = 0;
    else
        n = (size_t)min_u64(min_u64(a->len, 8), TESTDEV_MEM_LEN - off);
    if (a->write) {
        memcpy(t->s.mem + (n ? off : 0), &a->data, n);
    } else {
        memcpy(&data, t->s.mem + (n ? off : 0), n);
        a->data = data;
    }
    return 0;
}

struct testdev *testdev_new(const struct pc_host *host)
{
    struct testdev *t = calloc(1, sizeof *t);
    if (t)
        t->host = host;
    return t;
}

void testdev_free(struct testdev *t)
{
    free(t);
}
