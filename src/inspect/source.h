/* SPDX-License-Identifier: MIT
 * The bytes that are looked at: a file, a block device or memory, and windows into them.
 * All reading goes through here and draws on one allowance, so that an image that leads
 * its readers in circles costs no more than that. */
#ifndef INSPECT_SOURCE_H
#define INSPECT_SOURCE_H

#include <stddef.h>
#include <stdint.h>

struct source {
    int fd; /* -1: bytes */
    const uint8_t *bytes;
    uint64_t size;
    uint64_t allowance; /* bytes that may still be read */
    uint64_t unpack;    /* bytes that kernels may still unpack to */
};
struct view {
    struct source *src;
    uint64_t base, len; /* inside the source */
};

#define SOURCE_ALLOWANCE (2ull << 30)
#define SOURCE_UNPACK    (1ull << 30)

/* Opens a regular file or a block device, read-only. VC_ENOENT, VC_EPERM, VC_EIO,
 * VC_EFORMAT (neither of them; empty). */
int source_open(struct source *s, const char *path);
void source_memory(struct source *s, const void *bytes, size_t len);
void source_close(struct source *s);

struct view view_all(struct source *s);
/* The part of a window that is inside it. */
struct view view_part(const struct view *v, uint64_t off, uint64_t len);
/* All n bytes, or VC_EFORMAT (behind the end), VC_ELIMIT (the allowance), VC_EIO. */
int view_read(const struct view *v, uint64_t off, void *to, size_t n);
/* n bytes in memory for free(). VC_ENOMEM too. */
int view_load(const struct view *v, uint64_t off, size_t n, uint8_t **bytes);

#endif
