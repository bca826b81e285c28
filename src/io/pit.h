/* SPDX-License-Identifier: MIT
 * The 8254 interval timer at ports 0x40-0x43, and port 0x61. */
#ifndef IO_PIT_H
#define IO_PIT_H

#include "irq.h"

struct pit;

/* Channel 0 drives IRQ 0. NULL with error set. */
struct pit *pit_new(struct bus *bus, struct clock *clock, struct irqchip *irq);
/* Waits for handlers and the timer in flight. */
void pit_free(struct pit *pit);

#endif
