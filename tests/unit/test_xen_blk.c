/* SPDX-License-Identifier: MIT
 * The back end of PV disks, with a front end that behaves and ones that do not. */
#include "base/err.h"
#include "base/util.h"
#include "fake_front.h"
#include "pv/blkback.h"
#include "pv/blkif_abi.h"
#include <criterion/criterion.h>
#include <xen/io/xenbus.h>

#define SECTORS 4096u
#define RING    1u /* the page of the ring */
#define PORT    3u

static struct fake *f;
static struct block *disk;
static struct blkback *back;
static uint8_t *store; /* the disk */
static unsigned flushes;

static int mem_read(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud;
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len)
        memcpy(iov[i].iov_base, store + offset, iov[i].iov_len);
    return 0;
}

static int mem_write(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud;
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len)
        memcpy(store + offset, iov[i].iov_base, iov[i].iov_len);
    return 0;
}

static int mem_flush(void *ud)
{
    (void)ud;
    flushes++;
    return 0;
}

static int mem_discard(void *ud, uint64_t offset, uint64_t len)
{
    (void)ud;
    memset(store + offset, 0, len);
    return 0;
}

static void setup(void)
{
    static const struct block_ops ops = {mem_read, mem_write, mem_flush, mem_discard, NULL};
    f = fake_new();
    store = malloc(SECTORS * 512);
    for (unsigned i = 0; i < SECTORS; i++)
        memset(store + i * 512, (int)i, 512);
    disk = block_new(&ops, NULL, SECTORS * 512, false);
    cr_assert_not_null(disk);
    back = blkback_new(&f->front, disk, 51712);
    cr_assert_not_null(back, "%s", vc_errmsg());
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateInitWait);
}

static void teardown(void)
{
    blkback_free(back);
    block_close(disk);
    cr_expect_eq(fake_leaks(f), 0);
    fake_free(f);
    free(store);
}
TestSuite(xen_blk, .init = setup, .fini = teardown);

/* ---- a front end ------------------------------------------------------------------------ */

static bool abi32;
static uint32_t prod, taken;

static void ring_reset(void)
{
    struct blkif_sring *s = (struct blkif_sring *)f->page[RING];
    memset(s, 0, 4096);
    s->req_event = s->rsp_event = 1;
    prod = taken = 0;
}

static void connect_as(const char *protocol)
{
    abi32 = protocol && !strcmp(protocol, "x86_32-abi");
    ring_reset();
    fake_say(f, "vbd/51712", "ring-ref", "1");
    fake_say(f, "vbd/51712", "event-channel", "3");
    if (protocol)
        fake_say(f, "vbd/51712", "protocol", protocol);
    fake_say(f, "vbd/51712", "state", "3");
}

static uint8_t *entry(uint32_t i)
{
    return f->page[RING] + 64 + (i % 32) * blkif_entry(abi32);
}

static void push(const union blkif_any *r)
{
    uint8_t *e = entry(prod++);
    memcpy(e, r->bytes, 4);
    memcpy(e + 4, r->bytes + (abi32 ? 8 : 4), blkif_entry(abi32) - 4);
}

static void send(void)
{
    struct blkif_sring *s = (struct blkif_sring *)f->page[RING];
    __atomic_store_n(&s->req_prod, prod, __ATOMIC_RELEASE);
    fake_send(f, PORT);
}

/* The next answer's status; its id is checked. -99: none within a second. */
static uint8_t answered; /* the operation it names */

static int answer(uint64_t *id)
{
    struct blkif_sring *s = (struct blkif_sring *)f->page[RING];
    for (unsigned i = 0; i < 1000; i++) {
        if (__atomic_load_n(&s->rsp_prod, __ATOMIC_ACQUIRE) != taken) {
            uint8_t *e = entry(taken++);
            int16_t status;
            memcpy(id, e, 8);
            memcpy(&status, e + 10, 2);
            answered = e[8];
            __atomic_store_n(&s->rsp_event, taken + 1, __ATOMIC_SEQ_CST);
            return status;
        }
        usleep(1000);
    }
    return -99;
}

static int ask(const union blkif_any *r)
{
    uint64_t id = 0;
    push(r);
    send();
    int rc = answer(&id);
    cr_expect(rc == -99 || id == r->rw.id);
    cr_expect(rc == -99 ||
              answered == (r->rw.operation == BLKIF_OP_INDIRECT ? r->indirect.indirect_op
                                                                : r->rw.operation));
    return rc;
}

static union blkif_any rw(uint8_t op, uint64_t sector, uint32_t first_page, uint8_t n)
{
    union blkif_any r = {
        .rw = {
            .operation = op, .nr_segments = n, .id = 0x1234567890abcdef, .sector_number = sector}};
    for (uint8_t i = 0; i < n && i < 11; i++)
        r.rw.seg[i] = (struct blkif_request_segment){first_page + i, 0, 7};
    return r;
}

static void reads_and_writes(void)
{
    flushes = 0;
    memset(f->page[10], 0, 4096);
    union blkif_any r = rw(BLKIF_OP_READ, 8, 10, 3);
    r.rw.seg[0].first_sect = 2;
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    cr_expect_eq(f->page[10][0], 0);
    cr_expect_eq(f->page[10][1024], 8); /* the first of the sectors */
    cr_expect_eq(f->page[11][0], 14);
    cr_expect_eq(f->page[12][4095], 8 + 21);
    memset(f->page[20], 0xab, 4096);
    r = rw(BLKIF_OP_WRITE, SECTORS - 8, 20, 1);
    f->readonly[20] = true; /* to be read by the back end is enough */
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    cr_expect_eq(store[SECTORS * 512 - 1], 0xab);
    f->readonly[20] = false;
    r = rw(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0);
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    cr_expect_eq(flushes, 1);
    r = rw(BLKIF_OP_FLUSH_DISKCACHE, 100, 20, 1); /* with data */
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    cr_expect_eq(flushes, 2);
    cr_expect_eq(store[100 * 512], 0xab);
    union blkif_any d = {
        .discard = {.operation = BLKIF_OP_DISCARD, .id = 5, .sector_number = 100, .nr_sectors = 1}};
    cr_expect_eq(ask(&d), BLKIF_RSP_OKAY);
    cr_expect_eq(store[100 * 512], 0);
    cr_expect_eq(store[101 * 512], 0xab);
    struct blkif_request_segment *segs = (struct blkif_request_segment *)f->page[40];
    for (uint32_t i = 0; i < 256; i++)
        segs[i] = (struct blkif_request_segment){50 + i, 0, 7};
    union blkif_any big = {.indirect = {.operation = BLKIF_OP_INDIRECT,
                                        .indirect_op = BLKIF_OP_READ,
                                        .nr_segments = 256,
                                        .id = 6,
                                        .sector_number = 1024,
                                        .indirect_grefs = {40}}};
    cr_expect_eq(ask(&big), BLKIF_RSP_OKAY);
    cr_expect_eq(memcmp(f->page[50], store + 1024 * 512, 4096), 0);
    cr_expect_eq(memcmp(f->page[305], store + (1024 + 255 * 8) * 512, 4096), 0);
    cr_expect_gt(f->notified[PORT], 0);
}

Test(xen_blk, abi_64)
{
    connect_as("x86_64-abi");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateConnected);
    reads_and_writes();
}

Test(xen_blk, abi_32)
{
    connect_as("x86_32-abi");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateConnected);
    reads_and_writes();
}

Test(xen_blk, reconnects_with_another_abi)
{
    connect_as("x86_32-abi");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateConnected);
    union blkif_any r = rw(BLKIF_OP_READ, 8, 10, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    fake_say(f, "vbd/51712", "state", "5");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateClosing);
    fake_say(f, "vbd/51712", "state", "6");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateClosed);
    cr_expect_eq(fake_leaks(f), 0);
    fake_say(f, "vbd/51712", "state", "1");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateInitWait);
    connect_as("x86_64-abi");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateConnected);
    reads_and_writes();
    /* And one that dies without a word: the next begins anew. */
    r = rw(BLKIF_OP_READ, 8, 10, 3);
    push(&r);
    send();
    fake_say(f, "vbd/51712", "state", "1");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateInitWait);
    cr_expect_eq(fake_leaks(f), 0);
    connect_as("x86_64-abi");
    reads_and_writes();
}

Test(xen_blk, full_rings)
{
    connect_as(NULL);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 32; i++) {
            union blkif_any r = rw(BLKIF_OP_READ, i, 10 + i, 1);
            r.rw.id = i;
            push(&r);
        }
        send();
        uint32_t seen = 0;
        for (unsigned i = 0; i < 32; i++) {
            uint64_t id = 99;
            cr_assert_eq(answer(&id), BLKIF_RSP_OKAY);
            cr_assert_lt(id, 32);
            seen |= 1u << id;
        }
        cr_expect_eq(seen, UINT32_MAX);
    }
}

Test(xen_blk, bad_requests)
{
    connect_as(NULL);
    union blkif_any r = rw(BLKIF_OP_READ, SECTORS - 7, 10, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR); /* beyond the end */
    r = rw(BLKIF_OP_READ, ~0ull, 10, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_WRITE, 1ull << 55, 10, 1); /* wraps as bytes */
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_READ, 0, 10, 12);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_READ, 0, 10, 255);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_READ, 0, 10, 0);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_READ, 0, 10, 2);
    r.rw.seg[1].first_sect = 5, r.rw.seg[1].last_sect = 4;
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r.rw.seg[1].last_sect = 8;
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_READ, 0, FAKE_PAGES - 1, 2); /* the second is nobody's */
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    f->readonly[10] = true;
    r = rw(BLKIF_OP_READ, 0, 10, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    f->granted[11] = false;
    r = rw(BLKIF_OP_WRITE, 0, 11, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_ERROR);
    r = rw(BLKIF_OP_WRITE_BARRIER, 0, 12, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_EOPNOTSUPP);
    r = rw(77, 0, 12, 1);
    cr_expect_eq(ask(&r), BLKIF_RSP_EOPNOTSUPP);
    union blkif_any d = {
        .discard = {.operation = BLKIF_OP_DISCARD, .sector_number = 100, .nr_sectors = ~0ull}};
    cr_expect_eq(ask(&d), BLKIF_RSP_ERROR);
    d.discard.nr_sectors = 1;
    d.discard.flag = BLKIF_DISCARD_SECURE;
    cr_expect_eq(ask(&d), BLKIF_RSP_EOPNOTSUPP);
    union blkif_any i = {.indirect = {.operation = BLKIF_OP_INDIRECT,
                                      .indirect_op = BLKIF_OP_READ,
                                      .nr_segments = 257,
                                      .indirect_grefs = {40}}};
    cr_expect_eq(ask(&i), BLKIF_RSP_ERROR);
    i.indirect.nr_segments = 0;
    cr_expect_eq(ask(&i), BLKIF_RSP_ERROR);
    i.indirect.nr_segments = 10;
    i.indirect.indirect_grefs[0] = UINT32_MAX;
    cr_expect_eq(ask(&i), BLKIF_RSP_ERROR);
    i.indirect.indirect_op = BLKIF_OP_INDIRECT;
    cr_expect_eq(ask(&i), BLKIF_RSP_EOPNOTSUPP);
    r = rw(BLKIF_OP_READ, 0, 12, 1); /* it still works */
    cr_expect_eq(ask(&r), BLKIF_RSP_OKAY);
    /* Indices that can't be: nothing more is done for this ring. */
    prod += 100;
    cr_expect_eq(ask(&r), -99);
}

Test(xen_blk, bad_connections)
{
    static const char *const cases[][2] = {
        {"ring-ref", "100000"},
        {"ring-ref", "x"},
        {"ring-ref", "18446744073709551617"},
        {"event-channel", "99"},
        {"event-channel", ""},
        {"protocol", "arm-abi"},
        {"protocol", ""},
        {"ring-page-order", "1"},
        {"ring-page-order", "3"},
        {"multi-queue-num-queues", "5"},
        {"multi-queue-num-queues", "0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake_say(f, "vbd/51712", "ring-ref", "1");
        fake_say(f, "vbd/51712", "event-channel", "3");
        fake_say(f, "vbd/51712", "protocol", "x86_64-abi");
        fake_say(f, "vbd/51712", "ring-page-order", "0");
        fake_say(f, "vbd/51712", "multi-queue-num-queues", "1");
        fake_say(f, "vbd/51712", cases[i][0], cases[i][1]);
        fake_say(f, "vbd/51712", "state", "4");
        cr_expect_eq(fake_state(f, "vbd", "51712"), XenbusStateClosing, "%s", cases[i][0]);
        cr_expect_eq(fake_leaks(f), 0);
        fake_say(f, "vbd/51712", "state", "4"); /* it does not give in */
        cr_expect_eq(fake_state(f, "vbd", "51712"), XenbusStateClosing);
        fake_say(f, "vbd/51712", "state", "9");
        fake_say(f, "vbd/51712", "state", "1");
        cr_expect_eq(fake_state(f, "vbd", "51712"), XenbusStateInitWait);
    }
    xs_rm(f->front.xs, "/local/domain/1/device");
    cr_expect_eq(fake_state(f, "vbd", "51712"), XenbusStateClosed);
}

Test(xen_blk, many_queues_of_many_pages)
{
    fake_say(f, "vbd/51712", "multi-queue-num-queues", "4");
    fake_say(f, "vbd/51712", "ring-page-order", "2");
    for (unsigned q = 0; q < 4; q++) {
        char node[64], value[16];
        for (unsigned i = 0; i < 4; i++) {
            snprintf(node, sizeof node, "queue-%u/ring-ref%u", q, i);
            snprintf(value, sizeof value, "%u", 100 + q * 4 + i);
            fake_say(f, "vbd/51712", node, value);
        }
        snprintf(node, sizeof node, "queue-%u/event-channel", q);
        snprintf(value, sizeof value, "%u", q + 1);
        fake_say(f, "vbd/51712", node, value);
        struct blkif_sring *s = (struct blkif_sring *)f->page[100 + q * 4];
        s->req_event = s->rsp_event = 1;
    }
    fake_say(f, "vbd/51712", "state", "3");
    cr_assert_eq(fake_state(f, "vbd", "51712"), XenbusStateConnected);
    /* 128 entries a ring; the pages lie side by side here, so entries are easy to find. */
    for (unsigned q = 0; q < 4; q++) {
        struct blkif_sring *s = (struct blkif_sring *)f->page[100 + q * 4];
        for (unsigned i = 0; i < 128; i++) {
            union blkif_any r = rw(BLKIF_OP_READ, i, 200 + i, 1);
            memcpy((uint8_t *)s + 64 + i * 112, r.bytes, 112);
        }
        __atomic_store_n(&s->req_prod, 128, __ATOMIC_RELEASE);
        fake_send(f, q + 1);
        for (unsigned i = 0; i < 2000 && __atomic_load_n(&s->rsp_prod, __ATOMIC_ACQUIRE) < 128; i++)
            usleep(1000);
        cr_expect_eq(s->rsp_prod, 128);
        for (unsigned i = 0; i < 128; i++) {
            struct blkif_response rsp;
            memcpy(&rsp, (uint8_t *)s + 64 + i * 112, sizeof rsp);
            cr_expect_eq(rsp.status, BLKIF_RSP_OKAY);
        }
    }
    cr_expect_eq(f->page[327][0], 127);
}
