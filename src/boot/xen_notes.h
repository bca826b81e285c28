/* SPDX-License-Identifier: MIT
 * A kernel's ELF notes for Xen: what it asks of the domain that it starts in. */
#ifndef BOOT_XEN_NOTES_H
#define BOOT_XEN_NOTES_H

#include "elf.h"

struct kernel_notes {
    uint64_t virt_base, paddr_offset, entry, init_p2m, hypercall_page, hv_start_low;
    uint64_t supported; /* features, a bit each */
    unsigned n;         /* Xen's, of whatever kind */
    bool has_entry, has_init_p2m, has_hypercall_page, has_supported;
    bool mod_start_pfn; /* the initrd need not be mapped */
    char guest_os[16], guest_version[16], loader[16], xen_version[16], features[160];
};

/* Takes what is there; nothing is checked but lengths. */
void xen_notes_read(const struct elf_image *elf, struct kernel_notes *n);

/* Can it be a PV guest? VC_EFORMAT: no, and why. */
int xen_notes_check_pv(const struct elf_image *elf, struct kernel_notes *n);

/* How far the kernel reaches from its virtual base on, in bytes; a kernel's entry must be in
 * there. VC_EFORMAT. */
int xen_notes_extent(const struct elf_image *elf, const struct kernel_notes *n, uint64_t *end);

/* L4 slots of the hypervisor's in each PV guest's address spaces. */
#define HV_SLOT_FIRST 256u
#define HV_SLOT_LAST  271u
/* Canonical, and not the hypervisor's. */
static inline bool xen_va_allowed(uint64_t va)
{
    const uint64_t upper = 0xffff000000000000ull;
    const uint64_t lo = upper | (uint64_t)HV_SLOT_FIRST << 39;
    const uint64_t hi = upper | (HV_SLOT_LAST + 1ull) << 39;
    return (int64_t)(va << 16) >> 16 == (int64_t)va && (va < lo || va >= hi);
}

#endif
