/* SPDX-License-Identifier: MIT
 * Large memory of the library's own, taken from the host in pieces as large as it
 * has them: on a virtualized host each page fault costs some ten microseconds. */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include <stddef.h>

/* Zeroes, at a multiple of 2 MiB when len is at least that; NULL: no memory. */
void *pages_new(size_t len);
void pages_free(void *p, size_t len);

#endif
