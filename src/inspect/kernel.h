/* SPDX-License-Identifier: MIT
 * Kernels, by what the loaders would say of them. */
#ifndef INSPECT_KERNEL_H
#define INSPECT_KERNEL_H

#include "report.h"

/* More is no kernel; with debugging information it may be several hundred MiB. */
#define KERNEL_FILE_MAX (512u << 20)

/* By its first bytes (and all that there is of them, up to 32 KiB): a bzImage, ELF, EFI
 * program or multiboot image? */
bool kernel_match(const uint8_t *head, size_t len);
/* As kernel_match(), but only what cannot be a disk's first bytes. */
bool kernel_match_surely(const uint8_t *head, size_t len);

/* Fills in everything but the name. src: whose allowance unpacking draws on. */
void kernel_inspect(struct vc_report *r, struct kernel *k, struct source *src, const uint8_t *image,
                    size_t len);

#endif
