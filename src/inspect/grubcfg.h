/* SPDX-License-Identifier: MIT
 * What a grub.cfg starts. It is a script, which nobody runs here: lines that load a kernel are
 * found by their first word, and what is computed is not known. */
#ifndef INSPECT_GRUBCFG_H
#define INSPECT_GRUBCFG_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define GRUB_KERNELS_MAX 32u

struct grub_kernel {
    char title[96];   /* of the menu's entry; "" */
    char path[256];   /* "/boot/vmlinuz"; without its device */
    char device[64];  /* "hd0,msdos1" or "$root"; "": none was given */
    char initrd[256]; /* "" */
    char params[512];
    bool computed; /* the path has variables in it */
};
struct grubcfg {
    unsigned n;
    struct grub_kernel kernel[GRUB_KERNELS_MAX];
};

void grubcfg_parse(const uint8_t *text, size_t len, struct grubcfg *cfg);

#endif
