/* SPDX-License-Identifier: MIT
 * Programs for UEFI (PE/COFF, as the UEFI specification uses it). */
#ifndef INSPECT_PE_H
#define INSPECT_PE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PE_X86_64 0x8664u
#define PE_I386   0x014cu

struct pe {
    uint16_t machine;
    /* A unified kernel image has these in sections; NULL: there is none. */
    const uint8_t *linux_image, *cmdline;
    size_t linux_len, cmdline_len;
};

/* An EFI application? The headers must be in the first len bytes; sections are found as far
 * as these reach. */
bool pe_read(const uint8_t *image, size_t len, struct pe *pe);
const char *pe_machine(uint16_t machine);

#endif
