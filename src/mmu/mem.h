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

#define MEM_GPA_MAX (1ull << 46)

struct mem_region {
    uint64_t gpa, len;
    uint8_t *host;
    uint32_t prot;  /* VC_MEM_* */
    bool foreign;   /* the embedder's memory, not a slice of the memfd */
    uint64_t fd_off; /* of the slice in the memfd */
    /* One word a page; bit n: the n-th 64-byte line holds decoded code. */
    _Atomic uint64_t *code;
    /* One bit a page, in words; NULL without VC_MEM_LOG. */
    _Atomic uint64_t *dirty;
};

/* A range that devices claim although RAM is mapped there; page-aligned. */
struct mem_hole {
    uint64_t gpa, len;
};

struct mem_map {
    unsigned nregions, nholes;
    struct mem_region *region; /* sorted by gpa, no overlap */
    struct mem_hole *hole;
    struct mem_map *retired; /* older maps, freed with the partition */
};

struct mem {
    pthread_mutex_t lock; /* writers */
    _Atomic(struct mem_map *) map;
    int fd;
    uint64_t fd_used;
    uint64_t mapped, quota;
    /* Called after a store to lines that hold code (page, line bits), from any
     * thread that stores: the engine drops what it decoded there. */
    void (*code_hit)(void *ctx, uint64_t gpa_page, uint64_t lines);
    void *code_ctx;
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

/* The region that holds gpa, or NULL when it is unmapped or in a hole. */
const struct mem_region *mem_find(struct mem *mem, uint64_t gpa);

/* All-or-nothing copies; VC_EFAULT with error set. mem_write ignores ROM
 * protection, marks dirty and reports stores to code. */
int mem_read(struct mem *mem, uint64_t gpa, void *buf, size_t len);
int mem_write(struct mem *mem, uint64_t gpa, const void *buf, size_t len);
/* The same without an error sentence: for guests' addresses. */
bool mem_copy_out(struct mem *mem, uint64_t gpa, void *buf, size_t len);
bool mem_copy_in(struct mem *mem, uint64_t gpa, const void *buf, size_t len);

/* A pointer to [gpa, gpa + len) when that lies in one region, else NULL. */
void *mem_ptr(struct mem *mem, uint64_t gpa, size_t len);

static inline _Atomic uint64_t *mem_code_word(const struct mem_region *r, uint64_t gpa)
{
    return &r->code[(gpa - r->gpa) >> 12];
}

static inline void mem_mark_dirty(const struct mem_region *r, uint64_t gpa)
{
    if (r->dirty) {
        uint64_t page = (gpa - r->gpa) >> 12;
        atomic_fetch_or_explicit(&r->dirty[page >> 6], 1ull << (page & 63), memory_order_relaxed);
    }
}

/* After a store of len bytes (within one page) through a host pointer: reports
 * it when it hit code. */
void mem_stored(struct mem *mem, const struct mem_region *r, uint64_t gpa, size_t len);

int mem_dirty_fetch(struct mem *mem, uint64_t gpa, uint64_t len, void *bitmap, size_t bytes);

#endif
