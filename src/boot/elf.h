/* SPDX-License-Identifier: MIT
 * ELF executables as loaders see them: segments, entry, the PVH note. */
#ifndef BOOT_ELF_H
#define BOOT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_SEGS_MAX  64
#define ELF_NOTES_MAX 8

struct elf_seg {
    uint64_t paddr, vaddr;
    uint64_t memsz, filesz;
    const uint8_t *bytes; /* filesz of them, inside the image */
};
struct elf_image {
    bool is64;
    uint64_t entry;   /* physical */
    uint64_t e_entry; /* as the header says */
    unsigned nseg;
    struct elf_seg seg[ELF_SEGS_MAX]; /* loadable, not empty */
    bool has_interp; /* a dynamic linker is to load it: an operating system's program */
    bool has_pvh;
    uint32_t pvh_entry; /* physical, 32-bit */
    unsigned nnotes;
    struct { /* segments or sections of notes, inside the image */
        const uint8_t *bytes;
        uint64_t len;
    } notes[ELF_NOTES_MAX];
};

bool elf_match(const uint8_t *image, size_t len);

/* Parses an x86 executable. VC_EFORMAT for what lies. Whether the segments fit
 * into RAM is the caller's to check. */
int elf_parse(const uint8_t *image, size_t len, struct elf_image *elf);

/* The value of a symbol that is defined. VC_ENOENT: there is none by that name. */
int elf_symbol(const uint8_t *image, size_t len, const char *name, uint64_t *value);

/* Does a segment hold this physical address? */
bool elf_holds(const struct elf_image *elf, uint64_t paddr);

#endif
