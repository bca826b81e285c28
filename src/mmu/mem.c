/* SPDX-License-Identifier: MIT
 * The partition's memory map: adding and removing regions and holes.
 * Copies and lookups are in mem_copy.c. */
#include "mem.h"
#include "../base/err.h"
#include "../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <virtcore/vm.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x08u /* Linux 6.3 */
#endif

#define HUGE_2M   (2ull << 20)
#define PROT_BITS (VC_MEM_RWX | VC_MEM_LOG)

/* ---- maps ------------------------------------------------------------------- */

static struct mem_map *map_new(unsigned nregions, unsigned nholes)
{
    struct mem_map *map =
        calloc(1, sizeof *map + nregions * sizeof *map->region + nholes * sizeof *map->hole);
    if (!map) {
        err_set(VC_ENOMEM, "the host has no memory for a memory map of %u regions", nregions);
        return NULL;
    }
    map->nregions = nregions;
    map->nholes = nholes;
    map->region = (struct mem_region *)(map + 1);
    map->hole = (struct mem_hole *)(map->region + nregions);
    return map;
}

static void map_free(struct mem_map *map)
{
    free(map->gone_code);
    free(map->gone_dirty);
    free(map->gone_touched);
    free(map->gone_given);
    free(map);
}

static void bitmaps_free(struct mem_region *r)
{
    free(r->code);
    free(r->dirty);
    free(r->touched);
    free(r->given);
}

static struct mem_map *map_now(struct mem *mem)
{
    return atomic_load(&mem->map);
}

/* With the lock held: `map` takes over, the old one retires. */
static void map_publish(struct mem *mem, struct mem_map *map)
{
    struct mem_map *old = atomic_exchange(&mem->map, map);
    old->retired_gen = atomic_fetch_add(&mem->gen, 1) + 1;
    old->retired = mem->retired;
    mem->retired = old;
    mem->nretired++;
}

/* With the lock held: waits for copies that may have begun under an older map.
 * They are short and never wait for the lock. A copy counts itself by the epoch's
 * parity before it loads the map, possibly with a stale epoch: so both parities
 * must drain once. */
void mem_wait_readers(struct mem *mem)
{
    for (int i = 0; i < 2; i++) {
        unsigned slot = atomic_fetch_add(&mem->epoch, 1) & 1;
        while (atomic_load(&mem->readers[slot]))
            sched_yield();
    }
}

void mem_hold_add(struct mem *mem, struct mem_hold *h)
{
    mem_hold_end(h);
    pthread_mutex_lock(&mem->lock);
    h->since = mem_gen(mem); /* it knows nothing */
    h->next = mem->holds;
    mem->holds = h;
    pthread_mutex_unlock(&mem->lock);
}

void mem_hold_del(struct mem *mem, struct mem_hold *h)
{
    pthread_mutex_lock(&mem->lock);
    struct mem_hold **at = &mem->holds;
    while (*at && *at != h)
        at = &(*at)->next;
    if (*at)
        *at = h->next;
    pthread_mutex_unlock(&mem->lock);
}

/* With the lock held. */
static void reclaim(struct mem *mem)
{
    uint64_t gen = UINT64_MAX;
    for (struct mem_hold *h = mem->holds; h; h = h->next)
        gen = min_u64(gen, atomic_load(&h->seen));
    struct mem_map **at = &mem->retired; /* newest first */
    while (*at && (*at)->retired_gen > gen)
        at = &(*at)->retired;
    struct mem_map *dead = *at;
    *at = NULL;
    if (dead)
        mem_wait_readers(mem);
    while (dead) {
        struct mem_map *next = dead->retired;
        map_free(dead);
        dead = next;
        mem->nretired--;
    }
}

void mem_reclaim(struct mem *mem)
{
    pthread_mutex_lock(&mem->lock);
    reclaim(mem);
    pthread_mutex_unlock(&mem->lock);
}

/* With the lock held, before a change and after one. A vCPU that stays in a trap's handler
 * keeps what it knows, while others may change the map without end. */
static int change_begin(struct mem *mem)
{
    if (mem->nretired >= MEM_RETIRED_MAX)
        reclaim(mem);
    return mem->nretired < MEM_RETIRED_MAX
               ? 0
               : err_set(VC_EBUSY,
                         "%u memory maps wait for a vCPU that is not done with them: does a trap's "
                         "handler not come back?",
                         mem->nretired);
}

static int change_end(struct mem *mem, int rc)
{
    if (!rc)
        reclaim(mem);
    pthread_mutex_unlock(&mem->lock);
    return rc;
}

/* ---- the partition ------------------------------------------------------------ */

/* Reserves address space for the quota, or as much of it as the host gives: a
 * quota is a promise not to exceed, not to use. */
static bool reserve_room(struct mem *mem, uint64_t quota)
{
    uint64_t room = (min_u64(quota, MEM_GPA_MAX) + HUGE_2M - 1) & ~(HUGE_2M - 1);
    for (; room >= HUGE_2M; room = (room / 2) & ~(HUGE_2M - 1)) {
        uint8_t *p = mmap(NULL, room + HUGE_2M, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            continue;
        uint64_t skip = -(uint64_t)(uintptr_t)p & (HUGE_2M - 1);
        if (skip)
            munmap(p, skip);
        if (HUGE_2M - skip)
            munmap(p + skip + room, HUGE_2M - skip);
        mem->base = p + skip;
        mem->room = room;
        return true;
    }
    return false;
}

int mem_init(struct mem *mem, uint64_t quota)
{
    memset(mem, 0, sizeof *mem);
    mem->fd = -1;
    mem->quota = quota;
    if (pthread_mutex_init(&mem->lock, NULL) != 0)
        return err_set(VC_ENOMEM, "the host has no memory for a lock");
    struct mem_map *map = map_new(0, 0);
    atomic_store(&mem->map, map);
    if (!map) {
        mem_fini(mem);
        return VC_ENOMEM;
    }
    /* A host may demand that the file's maker says whether it is ever executed. */
    mem->fd = memfd_create("virtcore-ram", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (mem->fd < 0 && errno == EINVAL) /* an older kernel */
        mem->fd = memfd_create("virtcore-ram", MFD_CLOEXEC);
    if (mem->fd < 0) {
        int e = errno;
        mem_fini(mem);
        if (e == EMFILE || e == ENFILE)
            return err_set(VC_ELIMIT, "no file descriptor is left for the guest's RAM; raise the "
                                      "limit (ulimit -n), or close files");
        return err_set(e == EPERM || e == EACCES ? VC_EPERM : VC_ENOMEM,
                       "the host refused a memory file for the guest's RAM: %s", strerror(e));
    }
    if (!reserve_room(mem, quota)) {
        mem_fini(mem);
        return err_set(VC_ENOMEM, "the host has no address space for guest RAM; look at "
                                  "`ulimit -v` or pass a smaller mem_quota");
    }
    if (!slices_init(&mem->free, mem->room)) {
        mem_fini(mem);
        return err_set(VC_ENOMEM, "the host has no memory for the list of free RAM");
    }
    return 0;
}

void mem_fini(struct mem *mem)
{
    struct mem_map *map = map_now(mem);
    if (map) {
        for (unsigned i = 0; i < map->nregions; i++) {
            bitmaps_free(&map->region[i]);
        }
        map_free(map);
        atomic_store(&mem->map, NULL);
    }
    while (mem->retired) {
        struct mem_map *next = mem->retired->retired;
        map_free(mem->retired);
        mem->retired = next;
    }
    slices_fini(&mem->free);
    pool_give(mem->pool, mem->charged);
    mem->charged = 0;
    if (mem->base)
        munmap(mem->base, mem->room);
    mem->base = NULL;
    if (mem->fd >= 0)
        close(mem->fd);
    mem->fd = -1;
    pthread_mutex_destroy(&mem->lock);
}

/* ---- slices of the memfd -------------------------------------------------------- */

static int grow_file(struct mem *mem, uint64_t size)
{
    if (size <= mem->fd_used)
        return 0;
    /* Growing past this limit would raise SIGXFSZ in the embedder. */
    struct rlimit lim;
    if (getrlimit(RLIMIT_FSIZE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY && size > lim.rlim_cur)
        return err_set(VC_EPERM,
                       "the process's file size limit (%llu bytes, `ulimit -f`) also holds for "
                       "guest RAM, which needs %llu bytes",
                       (unsigned long long)lim.rlim_cur, (unsigned long long)size);
    if (ftruncate(mem->fd, (off_t)size) != 0)
        return err_set(VC_ENOMEM, "the host has no memory for %llu bytes of guest RAM: %s",
                       (unsigned long long)size, strerror(errno));
    mem->fd_used = size;
    return 0;
}

static void slice_free(struct mem *mem, uint64_t off, uint64_t len)
{
    fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
    /* Back to reserved. Should the host refuse, the slice stays mapped, which
     * harms nobody: the next user maps over it. */
    mmap(mem->base + off, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
         -1, 0);
    slices_give(&mem->free, off, len);
}

static int slice_new(struct mem *mem, struct mem_region *r)
{
    uint64_t off;
    bool huge = r->len >= HUGE_2M;
    if (!(huge && slices_take(&mem->free, r->len, HUGE_2M, &off)) &&
        !slices_take(&mem->free, r->len, PAGE_SIZE_4K, &off))
        return err_set(VC_ENOMEM,
                       "the host's address space has no room for another %llu bytes of guest RAM "
                       "(it gave %llu for all of it)",
                       (unsigned long long)r->len, (unsigned long long)mem->room);
    int rc = grow_file(mem, off + r->len);
    if (rc) {
        slices_give(&mem->free, off, r->len);
        return rc;
    }
    void *p = mmap(mem->base + off, r->len, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_NORESERVE | MAP_FIXED, mem->fd, (off_t)off);
    if (p == MAP_FAILED) {
        int e = errno;
        slice_free(mem, off, r->len);
        return err_set(VC_ENOMEM, "the host refused to map %llu bytes of guest RAM: %s",
                       (unsigned long long)r->len, strerror(e));
    }
    if (huge)
        madvise(p, r->len, MADV_HUGEPAGE);
    r->host = p;
    r->fd_off = off;
    return 0;
}

/* ---- regions ------------------------------------------------------------------- */

static bool overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

/* Page-aligned, not empty, inside the guest's physical address space. */
static int check_range(uint64_t gpa, uint64_t len)
{
    if (len == 0)
        return err_set(VC_ERANGE, "a region of 0 bytes at %#llx", (unsigned long long)gpa);
    if ((gpa | len) & (PAGE_SIZE_4K - 1))
        return err_set(VC_ERANGE, "region %#llx of %#llx bytes is not a multiple of 4096",
                       (unsigned long long)gpa, (unsigned long long)len);
    if (gpa > MEM_GPA_MAX || len > MEM_GPA_MAX - gpa)
        return err_set(VC_ERANGE, "region %#llx of %#llx bytes ends above 2^46",
                       (unsigned long long)gpa, (unsigned long long)len);
    return 0;
}

static int check_add(struct mem *mem, uint64_t gpa, uint64_t len, uint32_t prot, const void *host)
{
    int rc = check_range(gpa, len);
    if (rc)
        return rc;
    if ((prot & ~PROT_BITS) || !(prot & VC_MEM_READ))
        return err_set(VC_EINVAL,
                       "protection %#x: VC_MEM_READ is needed, VC_MEM_WRITE, VC_MEM_EXEC and "
                       "VC_MEM_LOG may be added",
                       prot);
    if ((uintptr_t)host & (PAGE_SIZE_4K - 1))
        return err_set(VC_ERANGE, "the host memory at %p is not page-aligned", host);
    if (host && (uintptr_t)host + len < (uintptr_t)host)
        return err_set(VC_ERANGE, "the host memory at %p of %#llx bytes wraps around", host,
                       (unsigned long long)len);
    const struct mem_map *map = map_now(mem);
    for (unsigned i = 0; i < map->nregions; i++) {
        const struct mem_region *r = &map->region[i];
        if (overlap(gpa, len, r->gpa, r->len))
            return err_set(VC_EEXIST,
                           "region %#llx of %#llx bytes overlaps the one at %#llx of "
                           "%#llx bytes",
                           (unsigned long long)gpa, (unsigned long long)len,
                           (unsigned long long)r->gpa, (unsigned long long)r->len);
    }
    if (mem->mapped > mem->quota || len > mem->quota - mem->mapped)
        return err_set(VC_ELIMIT, "%llu bytes more than the %llu mapped exceed the quota of %llu",
                       (unsigned long long)len, (unsigned long long)mem->mapped,
                       (unsigned long long)mem->quota);
    if (map->nregions >= MEM_REGIONS_MAX)
        return err_set(VC_ELIMIT, "a partition has at most %u regions", MEM_REGIONS_MAX);
    return 0;
}

static int bitmaps_new(struct mem_region *r)
{
    uint64_t pages = r->len / PAGE_SIZE_4K;
    uint64_t chunks = (r->len - 1) / (1ull << MEM_CHUNK_SHIFT) + 1;
    r->code = calloc(pages, sizeof *r->code);
    if (r->prot & VC_MEM_LOG)
        r->dirty = calloc((pages + 63) / 64, sizeof *r->dirty);
    if (!r->foreign) {
        r->touched = calloc((chunks + 63) / 64, sizeof *r->touched);
        r->given = mem_given_new(r);
    }
    if (r->code && (r->dirty || !(r->prot & VC_MEM_LOG)) &&
        (r->foreign || (r->touched && r->given)))
        return 0;
    bitmaps_free(r);
    return err_set(VC_ENOMEM, "the host has no memory for the bitmaps of %llu bytes of RAM",
                   (unsigned long long)r->len);
}

static int own_memory(struct mem *mem, struct mem_region *r)
{
    int rc = pool_ask(mem->pool, r->len);
    if (rc)
        return rc;
    rc = slice_new(mem, r);
    if (rc)
        pool_give(mem->pool, r->len);
    else
        mem->charged += r->len;
    return rc;
}

static int add_locked(struct mem *mem, uint64_t gpa, uint64_t len, uint32_t prot, void *host)
{
    int rc = check_add(mem, gpa, len, prot, host);
    if (rc)
        return rc;
    struct mem_region r = {
        .gpa = gpa, .len = len, .host = host, .prot = prot, .foreign = host != NULL};
    const struct mem_map *old = map_now(mem);
    struct mem_map *map = map_new(old->nregions + 1, old->nholes);
    if (!map)
        return VC_ENOMEM;
    rc = bitmaps_new(&r);
    if (rc) {
        map_free(map);
        return rc;
    }
    if (!host) {
        rc = own_memory(mem, &r);
        if (rc) {
            bitmaps_free(&r);
            map_free(map);
            return rc;
        }
    }
    unsigned at = 0;
    while (at < old->nregions && old->region[at].gpa < gpa)
        at++;
    memcpy(map->region, old->region, at * sizeof r);
    map->region[at] = r;
    memcpy(map->region + at + 1, old->region + at, (old->nregions - at) * sizeof r);
    memcpy(map->hole, old->hole, old->nholes * sizeof *old->hole);
    mem->mapped += len;
    map_publish(mem, map);
    return 0;
}

int mem_add(struct mem *mem, uint64_t gpa, uint64_t len, uint32_t prot, void *host)
{
    pthread_mutex_lock(&mem->lock);
    int rc = change_begin(mem);
    return change_end(mem, rc ? rc : add_locked(mem, gpa, len, prot, host));
}

static int del_locked(struct mem *mem, uint64_t gpa, uint64_t len)
{
    struct mem_map *old = map_now(mem);
    unsigned at = 0;
    while (at < old->nregions && old->region[at].gpa != gpa)
        at++;
    if (at == old->nregions || old->region[at].len != len)
        return err_set(VC_ENOENT, "no region is exactly %#llx of %#llx bytes",
                       (unsigned long long)gpa, (unsigned long long)len);
    struct mem_map *map = map_new(old->nregions - 1, old->nholes);
    if (!map)
        return VC_ENOMEM;
    struct mem_region r = old->region[at];
    memcpy(map->region, old->region, at * sizeof r);
    memcpy(map->region + at, old->region + at + 1, (map->nregions - at) * sizeof r);
    memcpy(map->hole, old->hole, old->nholes * sizeof *old->hole);
    mem->mapped -= len;
    map_publish(mem, map);
    old->gone_code = r.code;
    old->gone_dirty = r.dirty;
    old->gone_touched = r.touched;
    old->gone_given = r.given;
    /* After this no copy touches the memory, so that the embedder may free its
     * own and the slice may be used again. */
    mem_wait_readers(mem);
    if (!r.foreign) {
        slice_free(mem, r.fd_off, len);
        len -= atomic_load(&r.given->pages) * PAGE_SIZE_4K;
        mem->charged -= len;
        pool_give(mem->pool, len);
    }
    return 0;
}

int mem_del(struct mem *mem, uint64_t gpa, uint64_t len)
{
    pthread_mutex_lock(&mem->lock);
    return change_end(mem, del_locked(mem, gpa, len));
}

/* ---- holes ----------------------------------------------------------------------- */

static struct mem_map *map_with_holes(const struct mem_map *old, unsigned nholes)
{
    struct mem_map *map = map_new(old->nregions, nholes);
    if (map)
        memcpy(map->region, old->region, old->nregions * sizeof *old->region);
    return map;
}

static int hole_add_locked(struct mem *mem, uint64_t gpa, uint64_t len)
{
    const struct mem_map *old = map_now(mem);
    unsigned at = 0;
    for (unsigned i = 0; i < old->nholes; i++) {
        const struct mem_hole *h = &old->hole[i];
        if (overlap(gpa, len, h->gpa, h->len))
            return err_set(VC_EEXIST, "the range %#llx of %#llx bytes is already claimed",
                           (unsigned long long)gpa, (unsigned long long)len);
        at += h->gpa < gpa;
    }
    if (old->nholes >= MEM_REGIONS_MAX)
        return err_set(VC_ELIMIT, "at most %u device ranges lie over RAM", MEM_REGIONS_MAX);
    struct mem_map *map = map_with_holes(old, old->nholes + 1);
    if (!map)
        return VC_ENOMEM;
    memcpy(map->hole, old->hole, at * sizeof *map->hole);
    map->hole[at] = (struct mem_hole){gpa, len};
    memcpy(map->hole + at + 1, old->hole + at, (old->nholes - at) * sizeof *map->hole);
    map_publish(mem, map);
    return 0;
}

int mem_hole_add(struct mem *mem, uint64_t gpa, uint64_t len)
{
    int rc = check_range(gpa, len);
    if (rc)
        return rc;
    pthread_mutex_lock(&mem->lock);
    rc = change_begin(mem);
    return change_end(mem, rc ? rc : hole_add_locked(mem, gpa, len));
}

static int hole_del_locked(struct mem *mem, uint64_t gpa, uint64_t len)
{
    const struct mem_map *old = map_now(mem);
    unsigned at = 0;
    while (at < old->nholes && (old->hole[at].gpa != gpa || old->hole[at].len != len))
        at++;
    if (at == old->nholes)
        return err_set(VC_ENOENT, "no device range is exactly %#llx of %#llx bytes",
                       (unsigned long long)gpa, (unsigned long long)len);
    struct mem_map *map = map_with_holes(old, old->nholes - 1);
    if (!map)
        return VC_ENOMEM;
    memcpy(map->hole, old->hole, at * sizeof *map->hole);
    memcpy(map->hole + at, old->hole + at + 1, (map->nholes - at) * sizeof *map->hole);
    map_publish(mem, map);
    return 0;
}

int mem_hole_del(struct mem *mem, uint64_t gpa, uint64_t len)
{
    pthread_mutex_lock(&mem->lock);
    return change_end(mem, hole_del_locked(mem, gpa, len));
}

bool mem_overlaps_ram(struct mem *mem, uint64_t gpa, uint64_t len)
{
    if (len == 0)
        return false;
    uint64_t last = gpa + (len - 1) < gpa ? UINT64_MAX : gpa + (len - 1);
    unsigned slot = mem_pin(mem);
    const struct mem_map *map = map_now(mem);
    bool hit = false;
    for (unsigned i = 0; i < map->nregions && !hit; i++)
        hit = map->region[i].gpa <= last && gpa <= map->region[i].gpa + (map->region[i].len - 1);
    mem_unpin(mem, slot);
    return hit;
}
