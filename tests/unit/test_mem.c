/* SPDX-License-Identifier: MIT
 * Guest-physical memory: arguments, regions, holes, copies, logs, code lines. */
#include "base/err.h"
#include "base/util.h"
#include "mmu/mem.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <virtcore/vm.h>

#define MIB (1ull << 20)
#define RWX VC_MEM_RWX

static struct mem mem;

static void setup(void)
{
    cr_assert_eq(mem_init(&mem, 256 * MIB), 0);
}
static void teardown(void)
{
    mem_fini(&mem);
}
TestSuite(mem, .init = setup, .fini = teardown);

static void expect(int rc, int want)
{
    cr_expect_eq(rc, want, "got %d, want %d: %s", rc, want, vc_errmsg());
    if (want) {
        cr_expect_eq(vc_errcode(), want);
        cr_expect(vc_errmsg()[0] != 0);
    }
    vc_errclear();
}

Test(mem, refuses_bad_ranges)
{
    expect(mem_add(&mem, 0, 0, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, 1, 4096, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, 4096, 4095, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, 0xfffffffffffff000, 4096, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, 4096, 0xfffffffffffff000, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, MEM_GPA_MAX, 4096, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, MEM_GPA_MAX - 4096, 8192, RWX, NULL), VC_ERANGE);
    expect(mem_add(&mem, MEM_GPA_MAX - 4096, 4096, RWX, NULL), 0);
    expect(mem_add(&mem, 0, 4096, 0, NULL), VC_EINVAL);
    expect(mem_add(&mem, 0, 4096, VC_MEM_WRITE, NULL), VC_EINVAL);
    expect(mem_add(&mem, 0, 4096, RWX | 0x80, NULL), VC_EINVAL);
    static _Alignas(4096) uint8_t page[4096];
    expect(mem_add(&mem, 0, 4096, RWX, page + 1), VC_ERANGE);
    expect(mem_add(&mem, 0, 8192, RWX, (void *)(uintptr_t)0xfffffffffffff000), VC_ERANGE);
    cr_expect_eq(mem.mapped, 4096);
}

Test(mem, refuses_overlap_and_quota)
{
    expect(mem_add(&mem, 16 * MIB, MIB, RWX, NULL), 0);
    expect(mem_add(&mem, 16 * MIB, MIB, RWX, NULL), VC_EEXIST);
    expect(mem_add(&mem, 15 * MIB, MIB + 4096, RWX, NULL), VC_EEXIST);
    expect(mem_add(&mem, 17 * MIB - 4096, MIB, RWX, NULL), VC_EEXIST);
    expect(mem_add(&mem, 15 * MIB, 3 * MIB, RWX, NULL), VC_EEXIST);
    expect(mem_add(&mem, 15 * MIB, MIB, RWX, NULL), 0);
    expect(mem_add(&mem, 17 * MIB, MIB, RWX, NULL), 0);
    expect(mem_add(&mem, 32 * MIB, 254 * MIB, RWX, NULL), VC_ELIMIT);
    expect(mem_add(&mem, 512 * MIB, 253 * MIB, RWX, NULL), 0);
    expect(mem_add(&mem, 1024 * MIB, 4096, RWX, NULL), VC_ELIMIT);
    expect(mem_del(&mem, 512 * MIB, 253 * MIB - 4096), VC_ENOENT);
    expect(mem_del(&mem, 512 * MIB + 4096, 253 * MIB), VC_ENOENT);
    expect(mem_del(&mem, 512 * MIB, 253 * MIB), 0);
    expect(mem_del(&mem, 512 * MIB, 253 * MIB), VC_ENOENT);
    cr_expect_eq(mem.mapped, 3 * MIB);
}

Test(mem, limits_the_number_of_regions)
{
    for (unsigned i = 0; i < 1024; i++)
        cr_assert_eq(mem_add(&mem, i * 8192ull, 4096, RWX, NULL), 0);
    cr_expect_null(mem_find(&mem, 4096));
    cr_expect_eq(mem_find(&mem, 1023 * 8192ull + 4095)->gpa, 1023 * 8192ull);
    for (unsigned i = 0; i < 1024; i += 2)
        cr_assert_eq(mem_del(&mem, i * 8192ull, 4096), 0);
    for (unsigned i = 1; i < 1024; i += 2)
        cr_assert_eq(mem_del(&mem, i * 8192ull, 4096), 0);
    cr_expect_eq(mem.free.n, 1);
    cr_expect_eq(mem.free.v[0].len, mem.room);
    expect(mem_add(&mem, 0, 256 * MIB, RWX, NULL), 0);
}

Test(mem, copies_span_regions_all_or_nothing)
{
    expect(mem_add(&mem, 0, 8192, RWX, NULL), 0);
    expect(mem_add(&mem, 8192, 8192, VC_MEM_ROM, NULL), 0);
    uint8_t in[8192], out[8192];
    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 7 + 1);
    expect(mem_write(&mem, 4096, in, sizeof in), 0);
    expect(mem_read(&mem, 4096, out, sizeof out), 0);
    cr_expect_arr_eq(in, out, sizeof in);
    memset(out, 0x55, sizeof out);
    expect(mem_read(&mem, 16384 - 10, out, 11), VC_EFAULT);
    cr_expect_eq(out[0], 0x55);
    expect(mem_write(&mem, 16384 - 10, out, 11), VC_EFAULT);
    expect(mem_read(&mem, 16384 - 10, out, 1), 0);
    cr_expect_eq(out[0], 0);
    expect(mem_read(&mem, UINT64_MAX - 1, out, 4), VC_EFAULT);
    expect(mem_read(&mem, UINT64_MAX, out, 0), 0);
    expect(mem_read(&mem, 0, NULL, 1), VC_EINVAL);
    expect(mem_write(&mem, 0, NULL, 1), VC_EINVAL);
    cr_expect_null(mem_ptr(&mem, 8191, 2));
    cr_expect_null(mem_ptr(&mem, 16384, 1));
    cr_expect_null(mem_ptr(&mem, 0, SIZE_MAX));
    cr_expect_not_null(mem_ptr(&mem, 8191, 1));
    cr_expect_eq(memcmp(mem_ptr(&mem, 8192, 4096), in + 4096, 4096), 0);
}

Test(mem, holes_hide_ram)
{
    expect(mem_add(&mem, 0, 64 * 4096, RWX, NULL), 0);
    uint32_t v = 0x12345678;
    expect(mem_write(&mem, 8 * 4096, &v, 4), 0);
    expect(mem_hole_add(&mem, 8 * 4096, 4096), 0);
    expect(mem_hole_add(&mem, 4 * 4096, 4096), 0);
    expect(mem_hole_add(&mem, 7 * 4096, 2 * 4096), VC_EEXIST);
    expect(mem_hole_add(&mem, 4097, 4096), VC_ERANGE);
    expect(mem_hole_add(&mem, 0, 0), VC_ERANGE);
    cr_expect_null(mem_find(&mem, 8 * 4096));
    cr_expect_null(mem_find(&mem, 5 * 4096 - 1));
    cr_expect_not_null(mem_find(&mem, 5 * 4096));
    cr_expect_not_null(mem_find(&mem, 9 * 4096));
    expect(mem_read(&mem, 8 * 4096 - 2, &v, 4), VC_EFAULT);
    cr_expect_null(mem_ptr(&mem, 7 * 4096, 4097));
    cr_expect_not_null(mem_ptr(&mem, 7 * 4096, 4096));
    cr_expect(mem_overlaps_ram(&mem, 8 * 4096, 1));
    cr_expect(mem_overlaps_ram(&mem, 0, UINT64_MAX));
    cr_expect_not(mem_overlaps_ram(&mem, 64 * 4096, UINT64_MAX));
    cr_expect_not(mem_overlaps_ram(&mem, 0, 0));
    expect(mem_hole_del(&mem, 8 * 4096, 8192), VC_ENOENT);
    expect(mem_hole_del(&mem, 8 * 4096, 4096), 0);
    expect(mem_read(&mem, 8 * 4096, &v, 4), 0);
    cr_expect_eq(v, 0x12345678);
}

Test(mem, reused_memory_is_zero_and_given_back)
{
    expect(mem_add(&mem, 0, 16 * MIB, RWX, NULL), 0);
    memset(mem_ptr(&mem, 0, 16 * MIB), 0xff, 16 * MIB);
    struct stat st;
    fstat(mem.fd, &st);
    cr_expect_geq((uint64_t)st.st_blocks * 512, 16 * MIB);
    expect(mem_del(&mem, 0, 16 * MIB), 0);
    fstat(mem.fd, &st);
    cr_expect_eq(st.st_blocks, 0);
    expect(mem_add(&mem, MIB, 16 * MIB, RWX, NULL), 0);
    cr_expect_eq(mem.fd_used, 16 * MIB);
    const uint8_t *p = mem_ptr(&mem, MIB, 16 * MIB);
    for (size_t i = 0; i < 16 * MIB; i += 4096)
        cr_assert_eq(p[i], 0);
}

Test(mem, embedders_memory)
{
    uint8_t *own = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    own[4096] = 42;
    expect(mem_add(&mem, 4096, 8192, RWX, own), 0);
    uint8_t b = 0;
    expect(mem_read(&mem, 8192, &b, 1), 0);
    cr_expect_eq(b, 42);
    cr_expect_eq(mem_ptr(&mem, 4096, 8192), own);
    expect(mem_del(&mem, 4096, 8192), 0);
    munmap(own, 8192);
}

Test(mem, dirty_log)
{
    uint64_t len = 70 * 4096;
    expect(mem_add(&mem, 0, len, RWX | VC_MEM_LOG, NULL), 0);
    expect(mem_add(&mem, 16 * MIB, 4096, RWX, NULL), 0);
    uint8_t map[9], four[8192] = {0};
    expect(mem_dirty_fetch(&mem, 0, len, map, 8), VC_EINVAL);
    expect(mem_dirty_fetch(&mem, 0, len, NULL, 9), VC_EINVAL);
    expect(mem_dirty_fetch(&mem, 0, len - 4096, map, 9), VC_ENOENT);
    expect(mem_dirty_fetch(&mem, 16 * MIB, 4096, map, 9), VC_EINVAL);
    expect(mem_write(&mem, 4095, four, 2), 0);
    expect(mem_write(&mem, 69 * 4096, four, 1), 0);
    expect(mem_write(&mem, 63 * 4096 + 1, four, 8191), 0);
    expect(mem_dirty_fetch(&mem, 0, len, map, 9), 0);
    const uint8_t want[9] = {3, 0, 0, 0, 0, 0, 0, 0x80, 0x21};
    cr_expect_arr_eq(map, want, 9);
    expect(mem_dirty_fetch(&mem, 0, len, map, 9), 0);
    const uint8_t none[9] = {0};
    cr_expect_arr_eq(map, none, 9);
}

static struct {
    unsigned n;
    uint64_t page[8], lines[8];
} hits;

static void on_hit(void *ctx, uint64_t page, uint64_t lines)
{
    cr_assert_eq(ctx, &hits);
    hits.page[hits.n] = page;
    hits.lines[hits.n++] = lines;
}

Test(mem, stores_report_code)
{
    expect(mem_add(&mem, MIB, 4 * 4096, RWX, NULL), 0);
    mem.code_hit = on_hit;
    mem.code_ctx = &hits;
    const struct mem_region *r = mem_find(&mem, MIB);
    atomic_store(mem_code_word(r, MIB), 1ull << 63 | 1ull << 5);
    atomic_store(mem_code_word(r, MIB + 4096), 1);
    uint8_t buf[8192] = {0};
    expect(mem_write(&mem, MIB, buf, 5 * 64), 0);
    expect(mem_write(&mem, MIB + 6 * 64, buf, 57 * 64), 0);
    expect(mem_write(&mem, MIB + 4096 + 64, buf, 8192 - 64), 0);
    cr_expect_eq(hits.n, 0);
    expect(mem_write(&mem, MIB + 4095, buf, 2), 0);
    cr_expect_eq(hits.n, 2);
    cr_expect_eq(hits.page[0], MIB);
    cr_expect_eq(hits.lines[0], 1ull << 63);
    cr_expect_eq(hits.page[1], MIB + 4096);
    cr_expect_eq(hits.lines[1], 1);
    expect(mem_write(&mem, MIB + 5 * 64 + 63, buf, 1), 0);
    cr_expect_eq(hits.n, 3);
    cr_expect_eq(hits.lines[2], 1ull << 5);
    mem_stored(&mem, r, MIB, 1 << 20); /* longer than its page: clipped */
    cr_expect_eq(hits.lines[3], 1ull << 63 | 1ull << 5);
}

static unsigned retired(void)
{
    unsigned n = 0;
    for (struct mem_map *m = mem.retired; m; m = m->retired)
        n++;
    cr_expect_eq(mem.nretired, n);
    return n;
}

Test(mem, maps_that_nobody_holds_go)
{
    for (unsigned i = 0; i < 100; i++) {
        expect(mem_add(&mem, 0, 4096, RWX | VC_MEM_LOG, NULL), 0);
        expect(mem_del(&mem, 0, 4096), 0);
        expect(mem_hole_add(&mem, 0, 4096), 0);
        expect(mem_hole_del(&mem, 0, 4096), 0);
        cr_assert_eq(retired(), 0);
    }
}

Test(mem, maps_stay_while_a_vcpu_holds_them)
{
    struct mem_hold a = {0}, b = {0};
    mem_hold_add(&mem, &a);
    mem_hold_add(&mem, &b);
    cr_expect_not(mem_hold_begin(&mem, &a)); /* it knows of none */
    mem_hold_end(&a);
    expect(mem_hole_add(&mem, 0, 4096), 0);
    cr_expect_eq(retired(), 0); /* neither runs */

    cr_expect(mem_hold_begin(&mem, &a)); /* it may remember the first */
    mem_hold_since(&a, mem_gen(&mem));
    expect(mem_hole_del(&mem, 0, 4096), 0);
    expect(mem_hole_add(&mem, 0, 4096), 0);
    cr_expect_eq(retired(), 2);
    cr_expect(mem_hold_begin(&mem, &b));
    mem_hold_since(&b, mem_gen(&mem));
    mem_reclaim(&mem);
    cr_expect_eq(retired(), 2); /* for a */
    mem_hold_since(&a, mem_gen(&mem));
    expect(mem_hole_del(&mem, 0, 4096), 0);
    cr_expect_eq(retired(), 1); /* what both may use */

    mem_hold_end(&a);
    mem_hold_end(&b);
    mem_reclaim(&mem);
    cr_expect_eq(retired(), 0);
    cr_expect(mem_hold_begin(&mem, &a));
    mem_hold_since(&a, mem_gen(&mem));
    mem_hold_end(&a);
    cr_expect_not(mem_hold_begin(&mem, &a)); /* nothing changed meanwhile */
    mem_hold_del(&mem, &b);
    mem_hold_del(&mem, &b);
    mem_hold_del(&mem, &a);
}

Test(mem, a_vcpu_that_stays_away_ends_changes)
{
    struct mem_hold h = {0};
    mem_hold_add(&mem, &h);
    mem_hold_begin(&mem, &h);
    int rc = 0;
    unsigned n = 0;
    for (; !rc && n < 2 * MEM_RETIRED_MAX; n++) {
        rc = mem_hole_add(&mem, 0, 4096);
        if (!rc)
            expect(mem_hole_del(&mem, 0, 4096), 0);
    }
    expect(rc, VC_EBUSY);
    cr_expect_geq(retired(), MEM_RETIRED_MAX);
    mem_hold_since(&h, mem_gen(&mem));
    expect(mem_hole_add(&mem, 0, 4096), 0);
    cr_expect_eq(retired(), 1);
    mem_hold_del(&mem, &h);
}

static atomic_bool stop;

static void *reader(void *arg)
{
    (void)arg;
    uint64_t v;
    while (!stop) {
        if (mem_copy_out(&mem, 0x3ffc, &v, 8))
            cr_assert_eq(v, 0);
        mem_copy_in(&mem, 0x4ff8, &(uint64_t){0}, 8);
        mem_ptr(&mem, 0x4000, 8);
    }
    return NULL;
}

Test(mem, copies_race_with_changes)
{
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, reader, NULL);
    for (unsigned i = 0; i < 500; i++) {
        expect(mem_add(&mem, 0, 0x4000, RWX, NULL), 0);
        expect(mem_add(&mem, 0x4000, 0x4000, RWX, NULL), 0);
        expect(mem_hole_add(&mem, 0x5000, 0x1000), 0);
        expect(mem_hole_del(&mem, 0x5000, 0x1000), 0);
        expect(mem_del(&mem, 0, 0x4000), 0);
        expect(mem_del(&mem, 0x4000, 0x4000), 0);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

Test(mem_host, file_size_limit_is_an_error)
{
    cr_assert_eq(mem_init(&mem, 64 * MIB), 0);
    struct rlimit old, lim;
    getrlimit(RLIMIT_FSIZE, &old);
    lim = (struct rlimit){MIB, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &lim);
    expect(mem_add(&mem, 0, 2 * MIB, RWX, NULL), VC_EPERM);
    expect(mem_add(&mem, 0, MIB, RWX, NULL), 0);
    setrlimit(RLIMIT_FSIZE, &old);
    mem_fini(&mem);
}

/* A sanitizer needs its address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITED 0
#elif defined(__has_feature)
#define LIMITED !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define LIMITED 1
#endif

Test(mem_host, little_address_space_is_an_error)
{
    if (!LIMITED)
        cr_skip("built with a sanitizer");
    struct rlimit lim = {2048 * MIB, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &lim);
    cr_assert_eq(mem_init(&mem, 1ull << 50), 0);
    expect(mem_add(&mem, 0, 1ull << 40, RWX, NULL), VC_ENOMEM);
    expect(mem_add(&mem, 0, 64 * MIB, RWX, NULL), 0);
    mem_fini(&mem);
}

Test(mem_host, no_file_descriptors_is_an_error)
{
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    int rc = mem_init(&mem, MIB);
    setrlimit(RLIMIT_NOFILE, &old);
    expect(rc, VC_ELIMIT);
}
