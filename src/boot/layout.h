/* SPDX-License-Identifier: MIT
 * What lies where in the guest's RAM before it starts. */
#ifndef BOOT_LAYOUT_H
#define BOOT_LAYOUT_H

#include "boot.h"

/* A PC's RAM has a gap from the extended BIOS data area to 1 MiB: video memory,
 * ROMs, and the ACPI tables. */
#define LAYOUT_EBDA 0x9fc00ull
#define LAYOUT_1M   0x100000ull
#define LAYOUT_4G   0x100000000ull

struct span {
    uint64_t base, len;
};

#define LAYOUT_MAX 96
struct layout {
    const struct boot_ram *ram;
    unsigned n;
    struct span used[LAYOUT_MAX];
};

/* Is all of [base, base + len) usable RAM? */
bool layout_in_ram(const struct layout *l, uint64_t base, uint64_t len);

/* Claims a place that an image dictates. VC_ERANGE outside RAM, VC_EFORMAT on
 * what is claimed already; `what` names it in the sentence. */
int layout_claim(struct layout *l, uint64_t base, uint64_t len, const char *what);

/* The highest free place in [lo, hi); align is a power of two. false: none. */
bool layout_search(const struct layout *l, uint64_t len, uint64_t align, uint64_t lo, uint64_t hi,
                   uint64_t *base);
/* Finds and claims the highest free place in [lo, hi).
 * VC_ERANGE when there is none. */
int layout_find(struct layout *l, uint64_t len, uint64_t align, uint64_t lo, uint64_t hi,
                const char *what, uint64_t *base);

/* The memory map that the guest is told, in the numbering that E820, PVH and
 * multiboot share. */
enum { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 };
#define MEMMAP_MAX 8
struct memmap_entry {
    uint64_t addr, len;
    uint32_t type;
};
unsigned layout_memmap(const struct boot_ram *ram, struct memmap_entry map[MEMMAP_MAX]);

#endif
