/* SPDX-License-Identifier: MIT
 * Objects one behind the other in large pieces; a free list for each size. */
#include "arena.h"
#include "pages.h"
#include "util.h"
#include <stdlib.h>

#define GRAIN       32u
#define CLASSES     (ARENA_MAX / GRAIN + 1)
#define PIECE_FIRST (64u << 10)
#define PIECE_MAX   (2u << 20)

struct piece {
    struct piece *next;
    size_t len;
};
struct unused {
    struct unused *next;
};

struct arena {
    struct piece *pieces;
    uint8_t *at, *end; /* of the newest piece */
    size_t next_len, used, live;
    struct unused *unused[CLASSES];
};

struct arena *arena_new(void)
{
    struct arena *a = calloc(1, sizeof *a);
    if (a)
        a->next_len = PIECE_FIRST;
    return a;
}

void arena_delete(struct arena *a)
{
    if (!a)
        return;
    for (struct piece *p = a->pieces, *next; p; p = next) {
        next = p->next;
        pages_free(p, p->len);
    }
    free(a);
}

#ifdef SANITIZED
/* Each object by itself, so that the sanitizers see what is used after it was
 * freed. Who deletes an arena has freed what was in it. */
void *arena_alloc(struct arena *a, size_t size)
{
    void *p = size && size <= ARENA_MAX ? malloc(size) : NULL;
    if (p) {
        a->live++;
        a->used += size;
    }
    return p;
}

void arena_free(struct arena *a, void *p, size_t size)
{
    (void)size;
    a->live -= p != NULL;
    free(p);
}
#else
static bool grow(struct arena *a)
{
    struct piece *p = pages_new(a->next_len);
    if (!p)
        return false;
    *p = (struct piece){a->pieces, a->next_len};
    a->pieces = p;
    a->at = (uint8_t *)p + ((sizeof *p + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
    a->end = (uint8_t *)p + a->next_len;
    if (a->next_len < PIECE_MAX)
        a->next_len *= 2;
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t class = (size + GRAIN - 1) / GRAIN;
    if (!size || size > ARENA_MAX)
        return NULL;
    struct unused *u = a->unused[class];
    if (u) {
        a->unused[class] = u->next;
        a->live++;
        return u;
    }
    size = class * GRAIN;
    if ((size_t)(a->end - a->at) < size && !grow(a))
        return NULL;
    void *p = a->at;
    a->at += size;
    a->used += size;
    a->live++;
    return p;
}

void arena_free(struct arena *a, void *p, size_t size)
{
    if (!p)
        return;
    struct unused *u = p;
    size_t class = (size + GRAIN - 1) / GRAIN;
    u->next = a->unused[class];
    a->unused[class] = u;
    a->live--;
}
#endif

size_t arena_used(const struct arena *a)
{
    return a->used;
}

bool arena_empty(const struct arena *a)
{
    return !a->live;
}
