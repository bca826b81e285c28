/* SPDX-License-Identifier: MIT
 * The console's ring. */
#include "kernel.h"
#include <xen/io/console.h>
#include <xen/sched.h>

static void put(struct xencons_interface *ring, char c)
{
    XENCONS_RING_IDX prod = ring->out_prod;
    while (prod - __atomic_load_n(&ring->out_cons, __ATOMIC_ACQUIRE) >= sizeof ring->out) {
        event_send(start_info->console.domU.evtchn);
        HC(sched_op, SCHEDOP_yield, 0, 0, 0);
    }
    ring->out[MASK_XENCONS_IDX(prod, ring->out)] = c;
    __atomic_store_n(&ring->out_prod, prod + 1, __ATOMIC_RELEASE);
}

void print(const char *s)
{
    struct xencons_interface *ring = va_of(start_info->console.domU.mfn);
    for (; *s; s++) {
        if (*s == '\n')
            put(ring, '\r');
        put(ring, *s);
    }
    event_send(start_info->console.domU.evtchn);
}

void print_number(uint64_t n)
{
    char text[21];
    unsigned i = sizeof text - 1;
    text[i] = '\0';
    do
        text[--i] = (char)('0' + n % 10);
    while (n /= 10);
    print(text + i);
}
