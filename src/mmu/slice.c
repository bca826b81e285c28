/* SPDX-License-Identifier: MIT
 * Free extents of the memfd. */
#include "slice.h"
#include <stdlib.h>
#include <string.h>

bool slices_init(struct slices *s, uint64_t len)
{
    s->cap = 8;
    s->v = malloc(s->cap * sizeof *s->v);
    if (!s->v)
        return false;
    s->n = len ? 1 : 0;
    s->taken = 0;
    s->v[0] = (struct slice){0, len};
    return true;
}

void slices_fini(struct slices *s)
{
    free(s->v);
    s->v = NULL;
    s->n = s->cap = 0;
}

/* Every taken extent may become a free one of its own when it is given back: room
 * for all of them is kept, so that giving back needs no memory. */
static bool reserve(struct slices *s, unsigned spare)
{
    if (s->n + spare <= s->cap)
        return true;
    unsigned cap = 2 * s->cap + spare;
    struct slice *v = realloc(s->v, cap * sizeof *v);
    if (!v)
        return false;
    s->v = v;
    s->cap = cap;
    return true;
}

static void insert(struct slices *s, unsigned at, uint64_t off, uint64_t len)
{
    memmove(&s->v[at + 1], &s->v[at], (s->n - at) * sizeof *s->v);
    s->v[at] = (struct slice){off, len};
    s->n++;
}

static void erase(struct slices *s, unsigned at)
{
    s->n--;
    memmove(&s->v[at], &s->v[at + 1], (s->n - at) * sizeof *s->v);
}

bool slices_take(struct slices *s, uint64_t len, uint64_t align, uint64_t *off)
{
    for (unsigned i = 0; i < s->n; i++) {
        struct slice f = s->v[i];
        uint64_t start = (f.off + align - 1) & ~(align - 1);
        if (start < f.off || start - f.off > f.len || f.len - (start - f.off) < len)
            continue;
        if (!reserve(s, 2 + s->taken))
            return false;
        s->taken++;
        uint64_t before = start - f.off, after = f.len - before - len;
        erase(s, i);
        if (after)
            insert(s, i, start + len, after);
        if (before)
            insert(s, i, f.off, before);
        *off = start;
        return true;
    }
    return false;
}

void slices_give(struct slices *s, uint64_t off, uint64_t len)
{
    unsigned i = 0;
    while (i < s->n && s->v[i].off < off)
        i++;
    s->taken--;
    bool joins_prev = i > 0 && s->v[i - 1].off + s->v[i - 1].len == off;
    bool joins_next = i < s->n && off + len == s->v[i].off;
    if (joins_prev && joins_next) {
        s->v[i - 1].len += len + s->v[i].len;
        erase(s, i);
    } else if (joins_prev) {
        s->v[i - 1].len += len;
    } else if (joins_next) {
        s->v[i].off = off;
        s->v[i].len += len;
    } else {
        insert(s, i, off, len);
    }
}
