/* SPDX-License-Identifier: MIT
 * The reference's RAM: the same map as the partition's over memory of its own,
 * which holds what the reference stored and what came from outside. */
#include "inner.h"
#include "../../../base/err.h"
#include "../../../mmu/guest.h"
#include <unistd.h>
#include <virtcore/vm.h>

#define STEP (2ull << 20)
/* An over-wide store shows in the bytes beside its place. */
#define BESIDE 16u

int shadow_open(struct lockstep *ls, uint64_t quota)
{
    return mem_init(&ls->shadow, quota);
}

/* ---- the map --------------------------------------------------------------------- */

static const struct mem_region *same_region(const struct mem_map *map, const struct mem_region *r)
{
    for (unsigned i = 0; i < map->nregions; i++) {
        const struct mem_region *s = &map->region[i];
        if (s->gpa == r->gpa && s->len == r->len &&
            (s->prot | VC_MEM_LOG) == (r->prot | VC_MEM_LOG))
            return s;
    }
    return NULL;
}

static bool same_hole(const struct mem_map *map, const struct mem_hole *h)
{
    for (unsigned i = 0; i < map->nholes; i++)
        if (map->hole[i].gpa == h->gpa && map->hole[i].len == h->len)
            return true;
    return false;
}

static struct mem_map *now(struct mem *mem)
{
    return atomic_load(&mem->map);
}

/* What one has and the other has not goes; each removal makes a new map. */
static void drop_others(struct mem *shadow, const struct mem_map *real)
{
    for (unsigned i = 0; i < now(shadow)->nregions;) {
        const struct mem_region *s = &now(shadow)->region[i];
        if (same_region(real, s) || mem_del(shadow, s->gpa, s->len))
            i++;
    }
    for (unsigned i = 0; i < now(shadow)->nholes;) {
        const struct mem_hole *h = &now(shadow)->hole[i];
        if (same_hole(real, h) || mem_hole_del(shadow, h->gpa, h->len))
            i++;
    }
}

static bool add_missing(struct mem *shadow, const struct mem_map *real)
{
    for (unsigned i = 0; i < real->nregions; i++) {
        const struct mem_region *r = &real->region[i];
        if (!same_region(now(shadow), r) &&
            mem_add(shadow, r->gpa, r->len, r->prot & ~VC_MEM_LOG, NULL))
            return false;
    }
    for (unsigned i = 0; i < real->nholes; i++) {
        const struct mem_hole *h = &real->hole[i];
        if (!same_hole(now(shadow), h) && mem_hole_add(shadow, h->gpa, h->len))
            return false;
    }
    return true;
}

/* Through the embedder's pointers. */
bool shadow_lent(struct lockstep *ls)
{
    struct mem *real = ls->env.mem;
    bool lent = atomic_load(&real->lent);
    unsigned slot = mem_pin(real);
    for (unsigned i = 0; i < now(real)->nregions; i++)
        lent |= now(real)->region[i].foreign;
    mem_unpin(real, slot);
    return lent;
}

bool shadow_sync_map(struct lockstep *ls)
{
    struct mem *real = ls->env.mem;
    unsigned slot = mem_pin(real);
    drop_others(&ls->shadow, now(real));
    bool ok = add_missing(&ls->shadow, now(real));
    mem_unpin(real, slot);
    return ok;
}

/* ---- contents ---------------------------------------------------------------------- */

/* Has the memory file a page there? Looking would make one. */
static bool has_data(const struct mem *mem, const struct mem_region *r, uint64_t off, uint64_t len)
{
    if (r->foreign)
        return true;
    off_t at = lseek(mem->fd, (off_t)(r->fd_off + off), SEEK_DATA);
    return at >= 0 && (uint64_t)at < r->fd_off + off + len;
}

/* Calls page for every page that one of them may have; true ends it. */
static bool each_page(struct lockstep *ls,
                      bool (*page)(uint8_t *shadow, const uint8_t *real, uint64_t gpa, void *ud),
                      void *ud)
{
    struct mem *real = ls->env.mem;
    bool stop = false;
    unsigned slot = mem_pin(real);
    const struct mem_map *map = now(real);
    for (unsigned i = 0; i < map->nregions && !stop; i++) {
        const struct mem_region *r = &map->region[i], *s = same_region(now(&ls->shadow), r);
        for (uint64_t off = 0; s && off < r->len && !stop; off += STEP) {
            uint64_t n = min_u64(STEP, r->len - off);
            if (!has_data(real, r, off, n) && !has_data(&ls->shadow, s, off, n))
                continue;
            for (uint64_t at = off; at < off + n && !stop; at += PAGE_SIZE_4K)
                stop = page(s->host + at, r->host + at, r->gpa + at, ud);
        }
    }
    mem_unpin(real, slot);
    return stop;
}

static bool page_copy(uint8_t *shadow, const uint8_t *real, uint64_t gpa, void *ud)
{
    (void)gpa, (void)ud;
    if (memcmp(shadow, real, PAGE_SIZE_4K) != 0)
        guest_copy(shadow, real, PAGE_SIZE_4K);
    return false;
}

void shadow_sync_ram(struct lockstep *ls)
{
    each_page(ls, page_copy, NULL);
}

static bool first_difference(const uint8_t *a, const uint8_t *b, uint64_t len, uint64_t *at)
{
    if (memcmp(a, b, len) == 0)
        return false;
    for (*at = 0; a[*at] == b[*at];)
        ++*at;
    return true;
}

static bool page_differs(uint8_t *shadow, const uint8_t *real, uint64_t gpa, void *where)
{
    uint64_t at;
    if (!first_difference(shadow, real, PAGE_SIZE_4K, &at))
        return false;
    *(uint64_t *)where = gpa + at;
    return true;
}

bool shadow_differs_anywhere(struct lockstep *ls, uint64_t *where)
{
    return each_page(ls, page_differs, where);
}

/* Both sides of one place; false: not RAM. len stays within the page. */
static bool sides(struct lockstep *ls, uint64_t gpa, uint8_t **shadow, const uint8_t **real)
{
    const struct mem_region *r = mem_find(ls->env.mem, gpa), *s = mem_find(&ls->shadow, gpa);
    if (!r || !s)
        return false;
    *real = r->host + (gpa - r->gpa);
    *shadow = s->host + (gpa - s->gpa);
    return true;
}

void shadow_copy(struct lockstep *ls, uint64_t gpa, uint64_t len)
{
    uint8_t *shadow;
    const uint8_t *real;
    while (len) {
        uint64_t n = min_u64(len, PAGE_SIZE_4K - (gpa & 4095));
        if (sides(ls, gpa, &shadow, &real)) {
            guest_copy(shadow, real, n);
            const struct mem_region *s = mem_find(&ls->shadow, gpa);
            mem_stored(&ls->shadow, s, gpa, n);
        }
        gpa += n;
        len -= n;
    }
}

bool shadow_differs(struct lockstep *ls, uint64_t gpa, uint64_t len, uint64_t *where)
{
    uint8_t *shadow;
    const uint8_t *real;
    uint64_t end = (gpa + len + BESIDE - 1) & ~(uint64_t)(BESIDE - 1), at;
    for (gpa &= ~(uint64_t)(BESIDE - 1); gpa < end;) {
        uint64_t n = min_u64(end - gpa, PAGE_SIZE_4K - (gpa & 4095));
        if (sides(ls, gpa, &shadow, &real) && first_difference(shadow, real, n, &at)) {
            *where = gpa + at;
            return true;
        }
        gpa += n;
    }
    return false;
}

bool shadow_outside(struct lockstep *ls)
{
    pthread_mutex_lock(&ls->lock);
    bool any = ls->noutside || ls->sync_all;
    for (unsigned i = 0; i < ls->noutside; i++)
        shadow_copy(ls, ls->outside[i].gpa, ls->outside[i].len);
    bool all = ls->sync_all;
    ls->noutside = 0;
    ls->sync_all = false;
    pthread_mutex_unlock(&ls->lock);
    if (all)
        shadow_sync_ram(ls);
    return any;
}
