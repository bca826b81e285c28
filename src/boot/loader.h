/* SPDX-License-Identifier: MIT
 * What the loaders share. */
#ifndef BOOT_LOADER_H
#define BOOT_LOADER_H

#include "elf.h"
#include "layout.h"

#define LOADER_CMDLINE_MAX 2047u

/* One boot. The options were checked: no NULL with a length, cmdline never NULL. */
struct loader {
    struct mem *mem;
    const struct boot_ram *ram;
    const uint8_t *image;
    size_t len;
    const uint8_t *initrd;
    size_t initrd_len;
    const char *cmdline;
    size_t cmdline_len;
    struct boot_state *st;
    struct layout layout;
};

/* The loaders, by kind. They look at everything first, then write. */
int linux_load(struct loader *l);
int pvh_load(struct loader *l);
int multiboot_load(struct loader *l);
int elf_load(struct loader *l);
int flat_load(struct loader *l);

/* Does it look like one? */
bool multiboot_match(const uint8_t *image, size_t len);
/* What is loaded of it, and its entry. VC_EFORMAT, VC_ENOTSUP. */
int multiboot_parse(const uint8_t *image, size_t len, struct elf_image *elf);

/* ---- placing (loader.c) ---------------------------------------------------------- */

/* For what the loaders make themselves: highest free place below the EBDA. */
int loader_find_low(struct loader *l, uint64_t len, uint64_t align, const char *what,
                    uint64_t *base);
/* A page-aligned place for the initrd in [lo, hi); *base is 0 without an initrd. */
int loader_find_initrd(struct loader *l, uint64_t lo, uint64_t hi, uint64_t *base);
bool loader_initrd_fits(const struct loader *l, uint64_t lo, uint64_t hi);
int loader_claim_elf(struct loader *l, const struct elf_image *elf);

/* ---- writing ----------------------------------------------------------------------- */

int loader_put(struct loader *l, uint64_t gpa, const void *bytes, size_t len);
int loader_zero(struct loader *l, uint64_t gpa, uint64_t len);
/* The segments, zeroes behind what the file has of them. */
int loader_put_elf(struct loader *l, const struct elf_image *elf);

/* ---- first states (state.c) ---------------------------------------------------------- */

/* Tables for a start: a GDT, and for 64-bit mode page tables that map the first
 * 4 GiB to themselves. Placed by state_place, written by state_*. */
struct state_tables {
    uint64_t gdt, pages;
};
int state_place(struct loader *l, bool long_mode, struct state_tables *t);
int state_flat32(struct loader *l, const struct state_tables *t, uint64_t entry);
int state_long64(struct loader *l, const struct state_tables *t, uint64_t entry);

enum { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI };

#endif
