/* SPDX-License-Identifier: MIT
 * Pages that a guest gave back, and takes again. */
#include "mem.h"
#include "../base/err.h"
#include "../base/util.h"
#include <fcntl.h>
#include <stdlib.h>

#define CHUNK_PAGES (1u << (MEM_CHUNK_SHIFT - 12))
_Static_assert(CHUNK_PAGES == 64, "a word of the bits is a chunk");

static uint64_t pages_of(const struct mem_region *r)
{
    return r->len / PAGE_SIZE_4K;
}

struct mem_given *mem_given_new(const struct mem_region *r)
{
    struct mem_given *g = calloc(1, sizeof *g + (pages_of(r) + 63) / 64 * sizeof *g->bit);
    return g;
}

/* With the lock: maps change only under it. */
static const struct mem_region *own_region(struct mem *mem, uint64_t gpa)
{
    const struct mem_region *r = mem_find_region(atomic_load(&mem->map), gpa);
    return r && r->given ? r : NULL;
}

bool mem_give(struct mem *mem, uint64_t gpa)
{
    pthread_mutex_lock(&mem->lock);
    const struct mem_region *r = own_region(mem, gpa);
    bool ok = false;
    if (r) {
        uint64_t page = (gpa - r->gpa) >> 12;
        ok = !(atomic_fetch_or(&r->given->bit[page >> 6], BIT64(page & 63)) >> (page & 63) & 1);
        if (ok)
            atomic_fetch_add(&r->given->pages, 1);
    }
    pthread_mutex_unlock(&mem->lock);
    return ok;
}

/* Without its host pages it reads as zeroes. */
static void drop(struct mem *mem, const struct mem_region *r, uint64_t gpa, uint64_t len)
{
    uint64_t off = gpa - r->gpa;
    if (fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(r->fd_off + off),
                  (off_t)len))
        memset(r->host + off, 0, len); /* the host keeps it: no page may show what it held */
    mem->charged -= len;
    pool_give(mem->pool, len);
}

/* Runs of pages that follow each other go at once. */
void mem_drop(struct mem *mem, const uint64_t *gpas, unsigned n)
{
    pthread_mutex_lock(&mem->lock);
    mem_wait_readers(mem);
    for (unsigned i = 0, run; i < n; i += run) {
        const struct mem_region *r = own_region(mem, gpas[i]);
        uint64_t room = r ? (r->gpa + r->len - gpas[i]) >> 12 : 0;
        for (run = 1; i + run < n && run < room && gpas[i + run] == gpas[i] + run * PAGE_SIZE_4K;)
            run++;
        if (r)
            drop(mem, r, gpas[i], run * PAGE_SIZE_4K);
    }
    pthread_mutex_unlock(&mem->lock);
}

/* It is there again, with the chunk's host pages to come at once if the whole chunk is. */
static void back(struct mem *mem, const struct mem_region *r, uint64_t page)
{
    uint64_t gpa = r->gpa + page * PAGE_SIZE_4K, chunk = page >> 6, bit = BIT64(page & 63);
    if (atomic_fetch_and(&r->given->bit[chunk], ~bit) == bit)
        atomic_fetch_and(&r->touched[chunk >> 6], ~BIT64(chunk & 63));
    atomic_fetch_sub(&r->given->pages, 1);
    mem_mark_dirty(r, gpa);
    mem_stored(mem, r, gpa, PAGE_SIZE_4K); /* what was decoded there is no longer so */
}

bool mem_take(struct mem *mem, uint64_t gpa)
{
    pthread_mutex_lock(&mem->lock);
    const struct mem_region *r = own_region(mem, gpa);
    bool ok = r && pool_take(mem->pool, PAGE_SIZE_4K);
    if (ok) {
        mem->charged += PAGE_SIZE_4K;
        back(mem, r, (gpa - r->gpa) >> 12);
    }
    pthread_mutex_unlock(&mem->lock);
    return ok;
}

static void all_back(struct mem *mem, const struct mem_region *r)
{
    if (!r->given || !atomic_load(&r->given->pages))
        return;
    for (uint64_t page = 0; page < pages_of(r); page++)
        if (atomic_load(&r->given->bit[page >> 6]) >> (page & 63) & 1)
            back(mem, r, page);
}

int mem_take_all(struct mem *mem)
{
    pthread_mutex_lock(&mem->lock);
    const struct mem_map *map = atomic_load(&mem->map);
    uint64_t pages = 0;
    for (unsigned i = 0; i < map->nregions; i++)
        pages += map->region[i].given ? atomic_load(&map->region[i].given->pages) : 0;
    int rc = pages ? pool_ask(mem->pool, pages * PAGE_SIZE_4K) : 0;
    if (!rc) {
        mem->charged += pages * PAGE_SIZE_4K;
        for (unsigned i = 0; i < map->nregions; i++)
            all_back(mem, &map->region[i]);
    }
    pthread_mutex_unlock(&mem->lock);
    return rc;
}
