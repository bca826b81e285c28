/* SPDX-License-Identifier: MIT
 * Guest-physical memory from the host's side: copies. */
#include "mem.h"
#include "guest.h"
#include "../base/err.h"
#include "../base/util.h"
#include <sys/mman.h>
#include <virtcore/vm.h>

/* ---- copies ------------------------------------------------------------------- */

void mem_stored(struct mem *mem, const struct mem_region *r, uint64_t gpa, size_t len)
{
    /* The store comes before the look: whoever decodes sets the code bit first
     * and reads the bytes afterwards, so one of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t word = atomic_load_explicit(mem_code_word(r, gpa), memory_order_relaxed);
    if (likely(!word) || !len)
        return;
    unsigned first = (unsigned)(gpa & 4095) >> 6;
    unsigned last = (unsigned)((gpa & 4095) + (len - 1)) >> 6;
    if (last > 63)
        last = 63;
    uint64_t lines = (~0ull << first) & (~0ull >> (63 - last));
    if ((word & lines) && mem->code_hit)
        mem->code_hit(mem->code_ctx, gpa & PAGE_MASK_4K, word & lines);
}

/* What a store of n bytes that may span pages leaves behind. */
static void after_store(struct mem *mem, const struct mem_region *r, uint64_t gpa, uint64_t n)
{
    while (n) {
        uint64_t part = min_u64(n, PAGE_SIZE_4K - (gpa & (PAGE_SIZE_4K - 1)));
        mem_mark_dirty(r, gpa);
        mem_stored(mem, r, gpa, part);
        gpa += part;
        n -= part;
    }
}

static bool all_mapped(const struct mem_map *map, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint64_t run;
        if (!mem_find_run(map, gpa, len, &run))
            return false;
        run = min_u64(run, len);
        gpa += run;
        len -= run;
    }
    return true;
}

bool mem_is_mapped(struct mem *mem, uint64_t gpa, uint64_t len)
{
    if (gpa + len < gpa)
        return false;
    unsigned slot = mem_pin(mem);
    bool ok = all_mapped(atomic_load(&mem->map), gpa, len);
    mem_unpin(mem, slot);
    return ok;
}

static bool transfer(struct mem *mem, uint64_t gpa, void *out, const void *in, uint64_t len)
{
    if (gpa + len < gpa)
        return false;
    unsigned slot = mem_pin(mem);
    const struct mem_map *map = atomic_load(&mem->map);
    bool ok = all_mapped(map, gpa, len);
    for (uint64_t done = 0; ok && done < len;) {
        uint64_t run, at = gpa + done;
        const struct mem_region *r = mem_find_run(map, at, len - done, &run);
        run = min_u64(run, len - done);
        uint8_t *host = r->host + (at - r->gpa);
        if (in) {
            for (uint64_t i = 0; i < run; i += 1ull << MEM_CHUNK_SHIFT)
                mem_touch(r, at + i);
            guest_copy(host, (const uint8_t *)in + done, run);
            after_store(mem, r, at, run);
        } else {
            guest_copy((uint8_t *)out + done, host, run);
        }
        done += run;
    }
    mem_unpin(mem, slot);
    if (in && ok && mem->wrote)
        mem->wrote(mem->wrote_ctx, gpa, len);
    return ok;
}

bool mem_copy_out(struct mem *mem, uint64_t gpa, void *buf, size_t len)
{
    return len == 0 || transfer(mem, gpa, buf, NULL, len);
}

bool mem_copy_in(struct mem *mem, uint64_t gpa, const void *buf, size_t len)
{
    return len == 0 || transfer(mem, gpa, NULL, buf, len);
}

static int check_copy(const char *what, const void *buf, size_t len)
{
    if (!buf && len)
        return err_set(VC_EINVAL, "the buffer to %s is NULL", what);
    return 0;
}

int mem_read(struct mem *mem, uint64_t gpa, void *buf, size_t len)
{
    int rc = check_copy("read into", buf, len);
    if (rc)
        return rc;
    if (!mem_copy_out(mem, gpa, buf, len))
        return err_set(VC_EFAULT, "guest memory %#llx of %#llx bytes is not all mapped",
                       (unsigned long long)gpa, (unsigned long long)len);
    return 0;
}

int mem_write(struct mem *mem, uint64_t gpa, const void *buf, size_t len)
{
    int rc = check_copy("write from", buf, len);
    if (rc)
        return rc;
    if (!mem_copy_in(mem, gpa, buf, len))
        return err_set(VC_EFAULT, "guest memory %#llx of %#llx bytes is not all mapped",
                       (unsigned long long)gpa, (unsigned long long)len);
    return 0;
}

/* ---- the dirty log -------------------------------------------------------------- */

static int dirty_fetch(const struct mem_map *map, uint64_t gpa, uint64_t len, void *bitmap,
                       size_t bytes)
{
    const struct mem_region *r = mem_find_region(map, gpa);
    if (!r || r->gpa != gpa || r->len != len)
        return err_set(VC_ENOENT, "no region is exactly %#llx of %#llx bytes",
                       (unsigned long long)gpa, (unsigned long long)len);
    if (!r->dirty)
        return err_set(VC_EINVAL, "the region at %#llx was mapped without VC_MEM_LOG",
                       (unsigned long long)gpa);
    uint64_t pages = len / PAGE_SIZE_4K, need = (pages + 7) / 8;
    if (!bitmap || bytes < need)
        return err_set(VC_EINVAL, "the dirty log of %#llx needs a bitmap of %llu bytes",
                       (unsigned long long)gpa, (unsigned long long)need);
    for (uint64_t i = 0; i * 8 < need; i++) {
        uint64_t word = atomic_exchange(&r->dirty[i], 0);
        memcpy((uint8_t *)bitmap + i * 8, &word, min_u64(8, need - i * 8));
    }
    return 0;
}

int mem_dirty_fetch(struct mem *mem, uint64_t gpa, uint64_t len, void *bitmap, size_t bytes)
{
    unsigned slot = mem_pin(mem);
    int rc = dirty_fetch(atomic_load(&mem->map), gpa, len, bitmap, bytes);
    mem_unpin(mem, slot);
    return rc;
}

bool mem_late(struct mem *mem, uint64_t gpa, void *data, size_t len, bool write)
{
    unsigned pin = mem_pin(mem);
    const struct mem_region *r = mem_find(mem, gpa);
    bool rom = r && !(r->prot & VC_MEM_WRITE);
    mem_unpin(mem, pin);
    if (!r)
        return false;
    return write ? rom || mem_copy_in(mem, gpa, data, len) : mem_copy_out(mem, gpa, data, len);
}
