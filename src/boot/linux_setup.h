/* SPDX-License-Identifier: MIT
 * The setup header of a bzImage: what a kernel says of itself before anybody loads it. */
#ifndef BOOT_LINUX_SETUP_H
#define BOOT_LINUX_SETUP_H

#include "elf.h"

/* Offsets of the setup header, the same in the image and in boot_params. */
enum {
    HDR_SETUP_SECTS = 0x1f1, /* 1 */
    HDR_START = 0x1f1,
    HDR_SYSSIZE = 0x1f4,   /* 4, in paragraphs of 16 bytes */
    HDR_VID_MODE = 0x1fa,  /* 2 */
    HDR_BOOT_FLAG = 0x1fe, /* 2 */
    HDR_JUMP = 0x201,      /* 1: from 0x202 to the header's end */
    HDR_MAGIC = 0x202,     /* 4 */
    HDR_VERSION = 0x206,   /* 2 */
    HDR_NAME = 0x20e,      /* 2: from 0x200 on */
    HDR_LOADER = 0x210,    /* 1 */
    HDR_LOADFLAGS = 0x211, /* 1 */
    HDR_CODE32 = 0x214,    /* 4 */
    HDR_RAMDISK = 0x218,   /* 4 */
    HDR_RAMDISK_LEN = 0x21c,
    HDR_CMDLINE = 0x228,      /* 4 */
    HDR_INITRD_MAX = 0x22c,   /* 4; 2.03 */
    HDR_ALIGNMENT = 0x230,    /* 4; 2.05 */
    HDR_RELOCATABLE = 0x234,  /* 1; 2.05 */
    HDR_XLOADFLAGS = 0x236,   /* 2; 2.12 */
    HDR_CMDLINE_SIZE = 0x238, /* 4; 2.06 */
    HDR_END_206 = 0x23c,
    HDR_PAYLOAD = 0x248, /* 4; 2.08 */
    HDR_PAYLOAD_LEN = 0x24c,
    HDR_END_208 = 0x250,
    HDR_SETUP_DATA = 0x250, /* 8; 2.09 */
    HDR_PREF = 0x258,       /* 8; 2.10 */
    HDR_INIT_SIZE = 0x260,  /* 4; 2.10 */
    HDR_END_210 = 0x264,
    HDR_END_MAX = 0x290, /* boot_params has other things behind */
};

#define LOADED_HIGH 0x01u
#define ENTRY_64    0x200u /* of the 64-bit entry, from the protected-mode part on */

#define XLF_KERNEL_64 0x1u
#define XLF_ABOVE_4G  0x2u
#define XLF_EFI_64    0x8u

struct linux_setup {
    uint16_t version;
    size_t hdr_end;      /* of the header, in the image */
    const uint8_t *code; /* the protected-mode part */
    size_t code_len;
    const uint8_t *payload; /* inside the code; NULL: not announced */
    size_t payload_len;
    uint16_t xloadflags;
    bool relocatable;
    uint32_t cmdline_max; /* bytes, without the terminator */
    uint64_t initrd_max;  /* one past the last byte an initrd may use */
    uint64_t base, len;   /* the memory the kernel needs until it knows its own */
    uint64_t load;        /* where the protected-mode part goes */
    const char *name;     /* its version as text, of name_len bytes; NULL: it has none */
    size_t name_len;
};

/* Does it look like one? */
bool linux_match(const uint8_t *image, size_t len);

/* VC_EFORMAT: truncated, lying, or older than protocol 2.06. */
int linux_setup_read(const uint8_t *image, size_t len, struct linux_setup *s);

/* The packed kernel inside a bzImage; VC_EFORMAT when there is none. */
int linux_payload(const uint8_t *image, size_t len, const uint8_t **payload, size_t *payload_len);

/* The kernel unpacked to this: VC_EFORMAT unless it is a 64-bit ELF whose segments are in the
 * memory that the header announces. */
int linux_check_elf(const struct linux_setup *s, const struct elf_image *elf);

#endif
