/* SPDX-License-Identifier: MIT
 * Files that the guest gets. */
#ifndef MINIVM_IMAGE_H
#define MINIVM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

struct image {
    void *bytes;
    size_t len;
};

/* Reads a whole file; false: what is wrong was said. */
bool image_read(struct image *image, const char *path);
void image_free(struct image *image);

/* A Linux kernel in its own format: it knows what `panic=` means. */
bool image_is_linux(const struct image *image);

/* The command line for it: malloc'ed; NULL without memory. append may be NULL. */
char *image_cmdline(const struct image *image, const char *append, const char *console);

#endif
