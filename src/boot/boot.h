/* SPDX-License-Identifier: MIT
 * Loaders: from an image's bytes to a vCPU's first state. */
#ifndef BOOT_H
#define BOOT_H

#include "../mmu/mem.h"
#include <virtcore/cpu.h>
#include <virtcore/pc.h>

/* What a loader decides; the caller applies it to vCPU 0. */
struct boot_state {
    struct vc_gprs gprs;
    struct vc_sregs sregs;
    bool firmware; /* the boot protocol starts on a PC whose firmware ran */
};
struct boot_ram { /* the PC's RAM: low part from 0, high part from 4 GiB */
    uint64_t low, high;
    uint64_t rsdp; /* guest-physical, 0: none */
    uint64_t reserved, reserved_len; /* behind it all, not for the guest to use as RAM */
};
/* Loads opts->kernel into mem and fills st. 0 or a code with error set. */
int boot_load(struct mem *mem, const struct boot_ram *ram, const struct vc_boot_opts *opts,
              struct boot_state *st);

#endif
