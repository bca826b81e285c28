/* SPDX-License-Identifier: MIT
 * Which parts of a linear space are free: sorted extents, first fit. */
#ifndef MMU_SLICE_H
#define MMU_SLICE_H

#include <stdbool.h>
#include <stdint.h>

struct slice {
    uint64_t off, len;
};
struct slices {
    struct slice *v;
    unsigned n, cap;
    unsigned taken; /* extents in use */
};

/* Makes [0, len) free. false: no memory. */
bool slices_init(struct slices *s, uint64_t len);
void slices_fini(struct slices *s);

/* The lowest free extent of len bytes at a multiple of align (a power of two);
 * false when there is none or no memory. A successful take guarantees that
 * giving the extent back cannot fail. */
bool slices_take(struct slices *s, uint64_t len, uint64_t align, uint64_t *off);
void slices_give(struct slices *s, uint64_t off, uint64_t len);

#endif
