/* SPDX-License-Identifier: MIT
 * Hostile front ends of a PV disk and a PV network device. The input writes anything
 * anywhere into the pages that the rings are in and into those with segments, sends,
 * connects and disconnects; the first byte picks the disk's ABI. What must hold: no
 * grant is held when the devices are gone, and the pages that were never granted stay
 * as they were. */
#define FAKE_PAGES 72u
#include "../unit/fake_front.h"
#include "pv/blkback.h"
#include "pv/netback.h"
#include <xen/io/xenbus.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Few pages, as they are made anew for each input. */
#define HIDDEN 64u /* this and all above are not granted */
#define DISK   (64u * 512)

static uint8_t disk[DISK];

static int disk_io(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud;
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len)
        memcpy(iov[i].iov_base, disk + offset, iov[i].iov_len);
    return 0;
}

static int disk_write(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud;
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len)
        memcpy(disk + offset, iov[i].iov_base, iov[i].iov_len);
    return 0;
}

static int disk_discard(void *ud, uint64_t offset, uint64_t len)
{
    (void)ud;
    memset(disk + offset, 0, len);
    return 0;
}

static void sent(void *ud, const uint8_t *frame, size_t len)
{
    *(uint8_t *)ud ^= frame[0] ^ frame[len - 1];
}

struct in {
    const uint8_t *p;
    size_t n;
};

static uint8_t next(struct in *in)
{
    return in->n ? in->n--, *in->p++ : 0;
}

/* A disk's request, or a packet, that is nearly right. */
static void request(struct fake *f, struct in *in, uint32_t *prod)
{
    uint8_t *e = f->page[1] + 64 + (*prod & 31) * 112;
    memset(e, 0, 112);
    e[0] = next(in) % 8;
    e[1] = next(in) % 14;
    e[2] = next(in);
    e[16] = next(in) % 70;
    for (unsigned i = 0; i < 11; i++) {
        e[24 + i * 8] = next(in) % 70;
        e[28 + i * 8] = next(in) % 9;
        e[29 + i * 8] = next(in) % 9;
    }
    ++*prod;
    memcpy(f->page[1], prod, 4);
}

static void packet(struct fake *f, struct in *in, uint32_t *prod)
{
    uint8_t *e = f->page[2] + 64 + (*prod & 255) * 12;
    e[0] = next(in) % 70;
    e[1] = e[2] = e[3] = 0;
    e[4] = next(in), e[5] = next(in) & 15;
    e[6] = next(in) & 15, e[7] = 0;
    e[8] = next(in), e[9] = 0;
    e[10] = next(in), e[11] = next(in) & 31;
    ++*prod;
    memcpy(f->page[2], prod, 4);
}

static void command(struct fake *f, struct in *in, struct net *link, uint32_t prods[2])
{
    static const char *const nodes[] = {
        "ring-ref",        "event-channel", "protocol",    "multi-queue-num-queues",
        "ring-page-order", "tx-ring-ref",   "rx-ring-ref", "feature-sg"};
    char value[8];
    uint8_t page, frame[100] = {0};
    switch (next(in) % 10) {
    case 0:
    case 1: request(f, in, &prods[0]); break;
    case 2:
    case 3: packet(f, in, &prods[1]); break;
    case 4:
        page = next(in) % 8;
        f->page[page][next(in) << 4 | (next(in) & 15)] = next(in);
        break;
    case 5:
        f->page[3][0] = next(in); /* room for frames */
        f->page[3][64 + 4 + (next(in) & 31) * 8] = next(in) % 70;
        net_deliver(link, frame, 14 + next(in) % 80);
        break;
    case 6:
        snprintf(value, sizeof value, "%u", next(in));
        fake_say(f, next(in) & 1 ? "vbd/51712" : "vif/0", nodes[next(in) % 8], value);
        break;
    case 7:
        snprintf(value, sizeof value, "%u", next(in) % 9);
        fake_say(f, next(in) & 1 ? "vbd/51712" : "vif/0", "state", value);
        break;
    default: break;
    }
    fake_send(f, 3);
    fake_send(f, 4);
    fake_send(f, 5);
}

static void fail(const char *what, unsigned n)
{
    fprintf(stderr, "fuzz_rings: %s (%u)\n", what, n);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct block_ops disk_ops = {disk_io, disk_write, NULL, disk_discard, NULL};
    static const struct net_ops net_ops = {sent, NULL};
    static const uint8_t mac[6] = {0, 0x16, 0x3e, 0, 0, 1};
    struct in in = {data, size};
    static uint8_t sink;
    uint32_t prods[2] = {0, 0};
    struct fake *f = fake_new();
    memset(disk, 0, sizeof disk); /* an input does the same each time */
    memset(f->granted + HIDDEN, 0, FAKE_PAGES - HIDDEN);
    memset(f->page[HIDDEN], 0x5a, 8 * 4096);
    /* Their threads stay. */
    static struct block *disks[2];
    static struct net *link;
    for (unsigned i = 0; !link && i < 2; i++)
        disks[i] = block_new(&disk_ops, NULL, DISK, i);
    if (!link)
        link = net_new(&net_ops, &sink);
    struct block *b = disks[next(&in) >> 1 & 1];
    struct blkback *blk = blkback_new(&f->front, b, 51712);
    struct netback *net = netback_new(&f->front, link, 0, mac);
    if (!b || !link || !blk || !net)
        fail("the devices could not be made", 0);
    static const char *const say[][3] = {
        {"vbd/51712", "ring-ref", "1"},     {"vbd/51712", "event-channel", "3"},
        {"vif/0", "tx-ring-ref", "2"},      {"vif/0", "rx-ring-ref", "3"},
        {"vif/0", "event-channel-tx", "4"}, {"vif/0", "event-channel-rx", "5"},
        {"vif/0", "request-rx-copy", "1"},  {"vif/0", "feature-sg", "1"},
    };
    for (size_t i = 0; i < sizeof say / sizeof *say; i++)
        fake_say(f, say[i][0], say[i][1], say[i][2]);
    fake_say(f, "vbd/51712", "protocol", size && data[0] & 1 ? "x86_32-abi" : "x86_64-abi");
    fake_say(f, "vbd/51712", "state", "4");
    fake_say(f, "vif/0", "state", "4");
    while (in.n)
        command(f, &in, link, prods);
    netback_free(net);
    blkback_free(blk);
    for (unsigned i = 0; i < 8 * 4096; i++) {
        if (f->page[HIDDEN + i / 4096][i % 4096] != 0x5a)
            fail("a page that was not granted is written", i / 4096);
    }
    if (fake_leaks(f))
        fail("grants or ports are held, or were given back twice", fake_leaks(f));
    fake_free(f);
    return 0;
}
