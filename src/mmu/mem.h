/* SPDX-License-Identifier: MIT
 * The partition's guest-physical memory: regions of one memfd, or of the
 * embedder's memory. Readers take no lock: the region table is an immutable
 * array that changes by being replaced. */
#ifndef MMU_MEM_H
#define MMU_MEM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "pool.h"
#include "slice.h"

#define MEM_GPA_MAX     (1ull << 46)
#define MEM_REGIONS_MAX 8192u

/* Pages that the guest gave back: nobody finds them, the host has their memory. */
struct mem_given {
    _Atomic uint64_t pages;
    _Atomic uint64_t bit[]; /* one a page */
};

struct mem_region {
    uint64_t gpa, len;
    uint8_t *host;
    uint32_t prot;   /* VC_MEM_* */
    bool foreign;    /* the embedder's memory, not a slice of the memfd */
    uint64_t fd_off; /* of the slice in the memfd */
    /* One word a page; bit n: the n-th 64-byte line holds decoded code. */
    _Atomic uint64_t *code;
    /* One bit a page, in words; NULL without VC_MEM_LOG. */
    _Atomic uint64_t *dirty;
    /* One bit a chunk that has its host pages; NULL for foreign memory. */
    _Atomic uint64_t *touched;
    struct mem_given *given; /* NULL for foreign memory */
};

/* A range that devices claim although RAM is mapped there; page-aligned. */
struct mem_hole {
    uint64_t gpa, len;
};

struct mem_map {
    unsigned nregions, nholes;
    struct mem_region *region; /* sorted by gpa, no overlap */
    struct mem_hole *hole;     /* sorted by gpa, no overlap */
    /* Once replaced: the next older map, the generation that replaced it, and
     * the bitmaps of the region that went with it. */
    struct mem_map *retired;
    uint64_t retired_gen;
    _Atomic uint64_t *gone_code, *gone_dirty, *gone_touched;
    struct mem_given *gone_given;
};

/* A vCPU's claim on maps: while it runs it keeps pointers into those since `seen`, in its
 * TLB among others, without a pin for each. */
struct mem_hold {
    struct mem_hold *next;
    _Atomic uint64_t seen; /* UINT64_MAX: none */
    uint64_t since;        /* the generation at the last time it forgot everything */
};

/* So many maps may wait for a vCPU that does not come to forget them. */
#define MEM_RETIRED_MAX 4096u

struct mem {
    pthread_mutex_t lock; /* writers */
    _Atomic(struct mem_map *) map;
    int fd;
    uint64_t fd_used; /* the file's size */
    uint8_t *base;    /* address space for `room` bytes of the file; slice at base + fd_off */
    uint64_t room;
    struct slices free;     /* of the file */
    uint64_t mapped, quota; /* mapped counts the embedder's memory too */
    struct vc_pool *pool;   /* own memory is out of it; or NULL */
    uint64_t charged;       /* bytes of it */
    struct mem_map *retired;
    unsigned nretired;
    struct mem_hold *holds;
    _Atomic uint64_t gen; /* counts the maps */
    /* Copies in flight, by the parity of `epoch` when they began. */
    _Atomic uint32_t epoch;
    _Atomic uint32_t readers[2];
    /* Called after a store to lines that hold code (address of the page, bits of
     * the lines), from any thread that stores: the engine drops what it decoded
     * there. It must not change the map. */
    void (*code_hit)(void *ctx, uint64_t gpa_page, uint64_t lines);
    void *code_ctx;
    /* Called after a copy into RAM, from any thread; or NULL. */
    void (*wrote)(void *ctx, uint64_t gpa, uint64_t len);
    void *wrote_ctx;
    _Atomic bool lent; /* a pointer into RAM was given away: it changes without notice */
};

int mem_init(struct mem *mem, uint64_t quota);
void mem_fini(struct mem *mem);

/* Argument checks of vc_map and its kin included; errors set. host == NULL:
 * own memory. */
int mem_add(struct mem *mem, uint64_t gpa, uint64_t len, uint32_t prot, void *host);
int mem_del(struct mem *mem, uint64_t gpa, uint64_t len);
int mem_hole_add(struct mem *mem, uint64_t gpa, uint64_t len);
int mem_hole_del(struct mem *mem, uint64_t gpa, uint64_t len);
bool mem_overlaps_ram(struct mem *mem, uint64_t gpa, uint64_t len);

/* A replaced map lives on until nobody can hold a pointer into it; then the next change,
 * or mem_reclaim, lets it go. */
static inline uint64_t mem_gen(struct mem *mem)
{
    return atomic_load(&mem->gen);
}
void mem_reclaim(struct mem *mem);

void mem_hold_add(struct mem *mem, struct mem_hold *h);
void mem_hold_del(struct mem *mem, struct mem_hold *h); /* one that was not added, too */

/* The vCPU begins to use maps. True: what it kept may be of one that is gone, and it
 * forgets all of that before it uses any:
 *     uint64_t gen = mem_gen(mem);
 *     (forgets)
 *     mem_hold_since(h, gen);
 * So it does when it is told of a change, too. Whoever lets maps go either sees this claim,
 * or was done with it before, and the generation tells. */
static inline bool mem_hold_begin(struct mem *mem, struct mem_hold *h)
{
    atomic_store(&h->seen, h->since);
    return mem_gen(mem) != h->since;
}
static inline void mem_hold_since(struct mem_hold *h, uint64_t gen)
{
    h->since = gen;
    atomic_store(&h->seen, gen);
}
static inline void mem_hold_end(struct mem_hold *h)
{
    atomic_store(&h->seen, UINT64_MAX);
}

/* The region that holds gpa, or NULL when it is unmapped or in a hole. For
 * vCPUs' threads that hold maps; others bracket the use of the pointer by mem_pin and
 * mem_unpin, and hold it briefly. */
const struct mem_region *mem_find(struct mem *mem, uint64_t gpa);
/* The same in one map, and in *run how many bytes from there lie in the region and
 * in no hole, and were not given back (the last of the next `want` bytes only). */
const struct mem_region *mem_find_region(const struct mem_map *map, uint64_t gpa); /* holes too */
const struct mem_region *mem_find_run(const struct mem_map *map, uint64_t gpa, uint64_t want,
                                      uint64_t *run);
/* Do all these bytes lie in one region and in no hole? Called as mem_find is. */
bool mem_holds(struct mem *mem, uint64_t gpa, uint64_t len);

static inline unsigned mem_pin(struct mem *mem)
{
    unsigned slot = atomic_load(&mem->epoch) & 1;
    atomic_fetch_add(&mem->readers[slot], 1);
    return slot;
}
static inline void mem_unpin(struct mem *mem, unsigned slot)
{
    atomic_fetch_sub(&mem->readers[slot], 1);
}

/* All-or-nothing copies; VC_EFAULT with error set. mem_write ignores ROM
 * protection, marks dirty and reports stores to code. */
int mem_read(struct mem *mem, uint64_t gpa, void *buf, size_t len);
int mem_write(struct mem *mem, uint64_t gpa, const void *buf, size_t len);
/* The same without an error sentence: for guests' addresses. */
bool mem_copy_out(struct mem *mem, uint64_t gpa, void *buf, size_t len);
bool mem_copy_in(struct mem *mem, uint64_t gpa, const void *buf, size_t len);
/* A vCPU's access to a device's page that no device took: is RAM there by now? Then done;
 * a write to ROM has no effect. */
bool mem_late(struct mem *mem, uint64_t gpa, void *data, size_t len, bool write);

/* Whether all of it is RAM. */
bool mem_is_mapped(struct mem *mem, uint64_t gpa, uint64_t len);

/* A pointer to [gpa, gpa + len) when that lies in one region, else NULL. */
void *mem_ptr(struct mem *mem, uint64_t gpa, size_t len);

static inline _Atomic uint64_t *mem_code_word(const struct mem_region *r, uint64_t gpa)
{
    return &r->code[(gpa - r->gpa) >> 12];
}

/* The page whose word of lines with code this is; false: it is gone. */
bool mem_of_code_word(struct mem *mem, const _Atomic uint64_t *word, uint64_t *gpa);

static inline void mem_mark_dirty(const struct mem_region *r, uint64_t gpa)
{
    if (r->dirty) {
        uint64_t page = (gpa - r->gpa) >> 12;
        atomic_fetch_or_explicit(&r->dirty[page >> 6], 1ull << (page & 63), memory_order_relaxed);
    }
}

/* Before memory is used through a host pointer, best where translations are made:
 * has the host allocate a whole chunk around gpa at once. Optional, and many times
 * cheaper than a host page fault for each page. */
#define MEM_CHUNK_SHIFT 18
void mem_populate(const struct mem_region *r, uint64_t chunk);
static inline void mem_touch(const struct mem_region *r, uint64_t gpa)
{
    uint64_t chunk = (gpa - r->gpa) >> MEM_CHUNK_SHIFT;
    if (r->touched &&
        !(atomic_load_explicit(&r->touched[chunk >> 6], memory_order_relaxed) >> (chunk & 63) & 1))
        mem_populate(r, chunk);
}

/* After a store of len bytes (within one page) through a host pointer: reports
 * it when it hit code. */
void mem_stored(struct mem *mem, const struct mem_region *r, uint64_t gpa, size_t len);

/* ---- pages that the guest gives back and takes again: given.c --------------------- */

/* Nobody finds the page of own memory any more. false: there is none, or it was given. */
bool mem_give(struct mem *mem, uint64_t gpa);
/* When nobody uses pages that were given any more, by former translations: the host gets
 * their memory, the pool has it back. */
void mem_drop(struct mem *mem, const uint64_t *gpas, unsigned n);
/* A page that was dropped is there again, all zeroes. false: the pool has no room. */
bool mem_take(struct mem *mem, uint64_t gpa);
/* All of them; VC_ELIMIT. No vCPU runs. */
int mem_take_all(struct mem *mem);
struct mem_given *mem_given_new(const struct mem_region *r); /* NULL: no memory */
static inline bool mem_is_given(const struct mem_region *r, uint64_t gpa)
{
    uint64_t page = (gpa - r->gpa) >> 12;
    return atomic_load_explicit(&r->given->bit[page >> 6], memory_order_relaxed) >> (page & 63) & 1;
}
/* With the lock: waits for copies that may have begun before. */
void mem_wait_readers(struct mem *mem);

int mem_dirty_fetch(struct mem *mem, uint64_t gpa, uint64_t len, void *bitmap, size_t bytes);

#endif
