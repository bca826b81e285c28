/* SPDX-License-Identifier: MIT
 * Looking up guest-physical addresses, and getting the memory there ready. */
#include "mem.h"
#include "../base/pages.h"
#include "../base/util.h"
#include <sys/mman.h>

const struct mem_region *mem_find_region(const struct mem_map *map, uint64_t gpa)
{
    unsigned lo = 0, hi = map->nregions;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_region *r = &map->region[mid];
        if (gpa < r->gpa)
            hi = mid;
        else if (gpa - r->gpa >= r->len)
            lo = mid + 1;
        else
            return r;
    }
    return NULL;
}

/* The first hole that ends above gpa, or NULL. */
static const struct mem_hole *next_hole(const struct mem_map *map, uint64_t gpa)
{
    unsigned lo = 0, hi = map->nholes;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (map->hole[mid].gpa + map->hole[mid].len <= gpa)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < map->nholes ? &map->hole[lo] : NULL;
}

/* How many bytes from gpa on were not given back; what is behind the next `want` is not
 * looked at, and counts as if it were. */
static uint64_t not_given(const struct mem_region *r, uint64_t gpa, uint64_t want)
{
    uint64_t off = gpa - r->gpa, end = off + min_u64(want, r->len - off);
    for (uint64_t page = off >> 12; page << 12 < end; page = (page | 63) + 1) {
        uint64_t bits = atomic_load(&r->given->bit[page >> 6]) >> (page & 63);
        if (bits)
            return ((page + (unsigned)__builtin_ctzll(bits)) << 12) - off;
    }
    return r->len - off;
}

const struct mem_region *mem_find_run(const struct mem_map *map, uint64_t gpa, uint64_t want,
                                      uint64_t *run)
{
    const struct mem_region *r = mem_find_region(map, gpa);
    if (!r)
        return NULL;
    *run = r->len - (gpa - r->gpa);
    const struct mem_hole *h = map->nholes ? next_hole(map, gpa) : NULL;
    if (h) {
        if (h->gpa <= gpa)
            return NULL;
        *run = min_u64(*run, h->gpa - gpa);
    }
    if (r->given && atomic_load_explicit(&r->given->pages, memory_order_relaxed)) {
        if (mem_is_given(r, gpa))
            return NULL;
        *run = min_u64(*run, not_given(r, gpa, want));
    }
    return r;
}

const struct mem_region *mem_find(struct mem *mem, uint64_t gpa)
{
    uint64_t run;
    return mem_find_run(atomic_load_explicit(&mem->map, memory_order_acquire), gpa, 1, &run);
}

bool mem_holds(struct mem *mem, uint64_t gpa, uint64_t len)
{
    uint64_t run;
    const struct mem_map *map = atomic_load_explicit(&mem->map, memory_order_acquire);
    return mem_find_run(map, gpa, len, &run) && run >= len;
}

void *mem_ptr(struct mem *mem, uint64_t gpa, size_t len)
{
    uint64_t run;
    unsigned slot = mem_pin(mem);
    const struct mem_region *r = mem_find_run(atomic_load(&mem->map), gpa, len, &run);
    void *p = r && len <= run ? r->host + (gpa - r->gpa) : NULL;
    mem_unpin(mem, slot);
    atomic_store(&mem->lent, true);
    return p;
}

bool mem_of_code_word(struct mem *mem, const _Atomic uint64_t *word, uint64_t *gpa)
{
    const struct mem_map *map = atomic_load_explicit(&mem->map, memory_order_acquire);
    for (unsigned i = 0; i < map->nregions; i++) {
        const struct mem_region *r = &map->region[i];
        if (r->code && word >= r->code && word < r->code + (r->len >> 12)) {
            *gpa = r->gpa + ((uint64_t)(word - r->code) << 12);
            return true;
        }
    }
    return false;
}

/* Host memory that the guest gave back shall not come again by its neighbours. */
static bool any_given(const struct mem_region *r, uint64_t chunk, uint64_t n)
{
    uint64_t end = min_u64(chunk + n, (r->len - 1) / (1ull << MEM_CHUNK_SHIFT) + 1), any = 0;
    for (; chunk < end; chunk++)
        any |= atomic_load_explicit(&r->given->bit[chunk], memory_order_relaxed);
    return any;
}

void mem_populate(const struct mem_region *r, uint64_t chunk)
{
    const uint64_t chunks = PAGES_HUGE >> MEM_CHUNK_SHIFT, first = chunk & ~(chunks - 1);
    uint64_t off = chunk << MEM_CHUNK_SHIFT, bits = 1ull << (chunk & 63);
    uint64_t all = ((1ull << chunks) - 1) << (first & 63);
    _Atomic uint64_t *word = &r->touched[chunk >> 6];
    /* An older host kernel does not know it: then pages come one by one. */
    if (!any_given(r, chunk, 1))
        madvise(r->host + off, min_u64(1ull << MEM_CHUNK_SHIFT, r->len - off), MADV_POPULATE_WRITE);
    /* The second of its neighbourhood brings the others. */
    if (atomic_load_explicit(word, memory_order_relaxed) & all &&
        r->len - (first << MEM_CHUNK_SHIFT) >= PAGES_HUGE && !any_given(r, first, chunks) &&
        pages_join(r->host + (first << MEM_CHUNK_SHIFT)))
        bits = all;
    atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
}
