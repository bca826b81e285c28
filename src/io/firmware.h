/* SPDX-License-Identifier: MIT
 * What a PC's firmware leaves behind for guests that are started without it. */
#ifndef IO_FIRMWARE_H
#define IO_FIRMWARE_H

#include "bus.h"
#include "../mmu/mem.h"

/* Code of the BIOS segment lies above the ACPI tables, which end here. */
#define FIRMWARE_CODE 0xff000ull

/* Writes real mode's interrupt vectors and their handlers into memory. 0 or a
 * code with error set. */
int firmware_write(struct mem *mem);

/* Brings the 8259s and the interval timer into the state that firmware hands
 * over: for boot protocols that start on a PC whose firmware ran. */
int firmware_devices(struct bus *bus);

#endif
