/* SPDX-License-Identifier: MIT
 * Disks: files, an embedder's functions, ranges, threads. */
#include "base/err.h"
#include "base/util.h"
#include "io/block.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (1u << 20)

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/virtcore-disk-%d", (int)getpid());
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_eq(ftruncate(fileno(f), SIZE + 100), 0);
    fclose(f);
}

static void teardown(void)
{
    unlink(path);
}
TestSuite(block, .init = setup, .fini = teardown);

static int rw(struct block *b, enum block_kind kind, uint64_t offset, void *buf, size_t len)
{
    struct iovec iov[2] = {{buf, len / 2}, {(char *)buf + len / 2, len - len / 2}};
    struct block_req req = {.kind = kind, .offset = offset, .iov = iov, .niov = 2};
    return block_do(b, &req);
}

Test(block, a_file)
{
    struct block *b = block_open(path, false);
    cr_assert_not_null(b, "%s", vc_errmsg());
    cr_expect_eq(block_size(b), SIZE); /* whole sectors */
    cr_expect(!block_read_only(b));
    char out[1024], in[1024];
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7);
    cr_expect_eq(rw(b, BLOCK_WRITE, 4096, out, sizeof out), 0);
    cr_expect_eq(rw(b, BLOCK_READ, 4096, in, sizeof in), 0);
    cr_expect(!memcmp(in, out, sizeof in));
    cr_expect_eq(rw(b, BLOCK_FLUSH, 0, NULL, 0), 0);
    struct block_req discard = {.kind = BLOCK_DISCARD, .offset = 4096, .len = 512};
    int rc = block_do(b, &discard);
    cr_expect(rc == 0 || rc == VC_ENOTSUP);
    if (!rc) {
        cr_expect_eq(rw(b, BLOCK_READ, 4096, in, sizeof in), 0);
        cr_expect_eq(in[100], 0);
        cr_expect_eq(in[600], out[600]);
    }
    struct stat st;
    cr_expect_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_size, SIZE + 100);
    block_close(b);
}

Test(block, ranges)
{
    struct block *b = block_open(path, false);
    cr_assert_not_null(b);
    static char buf[4096];
    static const struct {
        uint64_t offset;
        size_t len;
        int rc;
    } cases[] = {
        {SIZE - 512, 512, 0},         {SIZE - 512, 1024, VC_ERANGE},
        {SIZE, 512, VC_ERANGE},       {0, 0, VC_ERANGE},
        {1, 512, VC_ERANGE},          {0, 511, VC_ERANGE},
        {~0ull << 9, 512, VC_ERANGE}, {~0ull << 9, 1024, VC_ERANGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cr_expect_eq(rw(b, BLOCK_READ, cases[i].offset, buf, cases[i].len), cases[i].rc, "%zu", i);
        cr_expect_eq(rw(b, BLOCK_WRITE, cases[i].offset, buf, cases[i].len), cases[i].rc, "%zu", i);
        struct block_req d = {
            .kind = BLOCK_DISCARD, .offset = cases[i].offset, .len = cases[i].len};
        int rc = block_do(b, &d);
        cr_expect(rc == cases[i].rc || (!cases[i].rc && rc == VC_ENOTSUP));
    }
    struct block_req d = {.kind = BLOCK_DISCARD, .offset = 512, .len = ~511ull};
    cr_expect_eq(block_do(b, &d), VC_ERANGE);
    struct iovec huge = {buf, SIZE_MAX};
    struct block_req h = {.kind = BLOCK_READ, .iov = &huge, .niov = 1};
    cr_expect_eq(block_do(b, &h), VC_ERANGE);
    h.niov = BLOCK_IOV_MAX + 1;
    cr_expect_eq(block_submit(b, &h), VC_ERANGE);
    block_close(b);
}

Test(block, read_only_and_locks)
{
    char buf[512] = {0};
    struct block *r = block_open(path, true);
    cr_assert_not_null(r);
    cr_expect(block_read_only(r));
    cr_expect(!block_can_discard(r));
    cr_expect_eq(rw(r, BLOCK_WRITE, 0, buf, 512), VC_EPERM);
    cr_expect_eq(rw(r, BLOCK_READ, 0, buf, 512), 0);
    cr_expect_eq(rw(r, BLOCK_FLUSH, 0, NULL, 0), 0);
    struct block *again = block_open(path, true);
    cr_expect_not_null(again);
    err_begin();
    cr_expect_null(block_open(path, false));
    cr_expect_eq(vc_errcode(), VC_EBUSY);
    block_close(r);
    block_close(again);
    struct block *w = block_open(path, false);
    cr_assert_not_null(w);
    err_begin();
    cr_expect_null(block_open(path, true));
    cr_expect_eq(vc_errcode(), VC_EBUSY);
    block_close(w);
    block_close(NULL);
}

Test(block, files_that_are_none)
{
    static const struct {
        const char *path;
        int code;
    } cases[] = {{"/nonexistent/disk", VC_ENOENT}, {"/tmp", VC_EFORMAT}, {"/dev/null", VC_EFORMAT}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        err_begin();
        cr_expect_null(block_open(cases[i].path, true));
        cr_expect_eq(vc_errcode(), cases[i].code, "%s: %s", cases[i].path, vc_errmsg());
    }
    cr_assert_eq(truncate(path, 511), 0);
    err_begin();
    cr_expect_null(block_open(path, true));
    cr_expect_eq(vc_errcode(), VC_EFORMAT);
}

Test(block, a_file_that_shrinks)
{
    struct block *b = block_open(path, true);
    cr_assert_not_null(b);
    cr_assert_eq(truncate(path, 1024), 0);
    static char buf[4096];
    cr_expect_eq(rw(b, BLOCK_READ, 512, buf, 512), 0);
    cr_expect_eq(rw(b, BLOCK_READ, 512, buf, 1024), VC_EIO);
    block_close(b);
}

/* ---- an embedder's disk, and threads ----------------------------------------------------- */

static _Atomic unsigned freed, inside, most, done_ok, done_bad;

static int slow_read(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud;
    unsigned now = atomic_fetch_add(&inside, 1) + 1, m = atomic_load(&most);
    while (now > m && !atomic_compare_exchange_weak(&most, &m, now))
        ;
    usleep(2000);
    for (unsigned i = 0; i < n; i++)
        memset(iov[i].iov_base, (int)(offset / 512), iov[i].iov_len);
    atomic_fetch_sub(&inside, 1);
    return offset == 512 * 13 ? VC_EIO : 0;
}

static void on_free(void *ud)
{
    (void)ud;
    freed++;
}

static void on_done(struct block_req *req, int rc)
{
    if (rc)
        done_bad++;
    else if (*(uint8_t *)req->iov->iov_base == req->offset / 512)
        done_ok++;
}

Test(block, an_embedders_disk)
{
    static const struct block_ops ops = {.read = slow_read, .free = on_free};
    err_begin();
    cr_expect_null(block_new(&ops, NULL, SIZE, false)); /* it can't be written */
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    cr_expect_eq(freed, 1);
    err_begin();
    cr_expect_null(block_new(&ops, NULL, 511, true));
    cr_expect_eq(vc_errcode(), VC_ERANGE);
    struct block *b = block_new(&ops, NULL, SIZE, true);
    cr_assert_not_null(b);
    static uint8_t buf[100][512];
    static struct iovec iov[100];
    static struct block_req req[100];
    for (unsigned i = 0; i < 100; i++) {
        iov[i] = (struct iovec){buf[i], 512};
        req[i] = (struct block_req){
            .kind = BLOCK_READ, .offset = 512 * i, .iov = &iov[i], .niov = 1, .done = on_done};
        cr_expect_eq(block_submit(b, &req[i]), 0);
    }
    block_drain(b);
    cr_expect_eq(done_ok, 99);
    cr_expect_eq(done_bad, 1);
    cr_expect_gt(most, 1);
    cr_expect_leq(most, 4);
    for (unsigned i = 0; i < 10; i++)
        cr_expect_eq(block_submit(b, &req[i]), 0);
    block_close(b); /* waits */
    cr_expect_eq(done_ok, 109);
    cr_expect_eq(freed, 3);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int gated_read(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud, (void)offset;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    for (unsigned i = 0; i < n; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    return 0;
}

Test(block, too_many_at_once)
{
    static const struct block_ops ops = {.read = gated_read};
    struct block *b = block_new(&ops, NULL, SIZE, true);
    cr_assert_not_null(b);
    static uint8_t buf[BLOCK_QUEUE_MAX + 10][512];
    static struct iovec iov[BLOCK_QUEUE_MAX + 10];
    struct block_req *req = calloc(BLOCK_QUEUE_MAX + 10, sizeof *req);
    cr_assert_not_null(req);
    unsigned refused = 0, before = done_ok;
    pthread_mutex_lock(&gate); /* none is done before all were asked for */
    for (unsigned i = 0; i < BLOCK_QUEUE_MAX + 10; i++) {
        iov[i] = (struct iovec){buf[i], 512};
        req[i] = (struct block_req){.kind = BLOCK_READ, .iov = &iov[i], .niov = 1, .done = on_done};
        refused += block_submit(b, &req[i]) == VC_EBUSY;
    }
    cr_expect_eq(refused, 10);
    pthread_mutex_unlock(&gate);
    block_close(b);
    cr_expect_eq(done_ok - before, BLOCK_QUEUE_MAX);
    free(req);
}
