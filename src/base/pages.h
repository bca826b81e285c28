/* SPDX-License-Identifier: MIT
 * Large memory of the library's own, taken from the host in pieces as large as it
 * has them: on a virtualized host each page fault costs some ten microseconds. */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#define PAGES_HUGE (2ull << 20)

/* Zeroes, at a multiple of 2 MiB when len is at least that; NULL: no memory. */
void *pages_new(size_t len);
void pages_free(void *p, size_t len);
/* Makes one huge page of what lies at p, a multiple of PAGES_HUGE, and is there in part:
 * of shared memory, too, for which few hosts are set up to give huge pages unasked. What
 * it holds stays. false: the host has none now, or never. */
bool pages_join(void *p);

#endif
