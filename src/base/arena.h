/* SPDX-License-Identifier: MIT
 * Memory for many small objects that are made and dropped all the time: taken from
 * the host in large pieces, given back to it all at once. Not for several threads. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#define ARENA_MAX 8192u /* bytes of an object */

struct arena;

struct arena *arena_new(void);
void arena_delete(struct arena *a); /* with all that is in it */
/* Not cleared; aligned to 16, and multiples of a cache line to one. NULL: no memory, or too
 * large. */
void *arena_alloc(struct arena *a, size_t size);
void arena_free(struct arena *a, void *p, size_t size);
/* Bytes taken from the host's pieces so far. What was freed is used again for
 * objects of the same size only, so this may grow without more objects. */
size_t arena_used(const struct arena *a);
bool arena_empty(const struct arena *a);

#endif
