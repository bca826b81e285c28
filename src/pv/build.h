/* SPDX-License-Identifier: MIT
 * Start of day: what a PV kernel asks for in its ELF notes, and what it finds. */
#ifndef PV_BUILD_H
#define PV_BUILD_H

#include "domain.h"
#include "../boot/elf.h"

struct kernel_notes {
    uint64_t virt_base, paddr_offset, entry, init_p2m, hypercall_page, hv_start_low;
    bool any; /* Xen's, of whatever kind */
    bool has_entry, has_init_p2m, has_hypercall_page;
    bool mod_start_pfn; /* the initrd need not be mapped */
    char guest_os[16], loader[16], xen_version[16], features[160];
};

/* VC_EFORMAT: not a kernel for Xen PV, and why. */
int pv_notes_read(const struct elf_image *elf, struct kernel_notes *n);

#endif
