/* SPDX-License-Identifier: MIT
 * A PV disk's requests: taken from the rings on the thread that notifies, done by the
 * disk's threads, which answer. Each request is copied before it is looked at.
 *
 * Grants are mapped for each request and unmapped when it is done, persistent ones too:
 * a mapping costs less here than keeping a table of them, and the guest still saves
 * granting them anew. */
#include "blkback.h"
#include "blkif_abi.h"
#include "shring.h"
#include "xenbus.h"
#include "../base/err.h"
#include "../base/util.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <xen/io/protocols.h>

#define QUEUES_MAX     4u
#define RING_ORDER_MAX 2u /* with 4 queues: 512 requests at once, fewer than a disk takes */
#define SEGS_MAX       256u
#define ROUNDS_MAX     8u /* looks at a ring for one notification */
#define SEG_SECTORS    (PAGE_SIZE_4K / BLOCK_SECTOR)
#define PORT_MAX       (1u << 17)

_Static_assert(SEGS_MAX <= BLOCK_IOV_MAX, "a request is one of the disk's");
_Static_assert(SEGS_MAX * sizeof(struct blkif_request_segment) <= PAGE_SIZE_4K,
               "one page has all segments of an indirect request");

struct queue {
    struct blkback *b;
    pthread_mutex_t lock; /* of the ring */
    bool live;
    struct shring ring;
    uint32_t port, in_flight;
    pthread_cond_t idle;
};

struct blkback {
    const struct pv_front *front;
    struct block *disk;
    struct xenbus bus;
    bool abi32;
    uint32_t nqueues;
    struct queue queue[QUEUES_MAX];
};

/* A request under way. */
struct io {
    struct block_req req;
    struct queue *q;
    uint64_t id;
    uint8_t op;
    bool then_write; /* a flush that has data */
    bool into;       /* the guest's memory is written */
    uint32_t nsegs;
    struct iovec iov[SEGS_MAX];
    uint32_t ref[SEGS_MAX];
    uint64_t gpa[SEGS_MAX];
};

/* ---- answers ---------------------------------------------------------------------------- */

/* With the queue's lock. */
static void answer(struct queue *q, uint64_t id, uint8_t op, int status)
{
    struct blkif_response rsp = {.id = id, .operation = op, .status = (int16_t)status};
    shring_put(&q->ring, &rsp, blkif_rsp_len(q->b->abi32));
    if (shring_publish(&q->ring))
        q->b->front->notify(q->b->front->ctx, q->port);
}

static int status_of(int rc)
{
    return !rc ? BLKIF_RSP_OKAY : rc == VC_ENOTSUP ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
}

static void io_free(struct io *io)
{
    const struct pv_front *f = io->q->b->front;
    for (uint32_t i = 0; i < io->nsegs; i++)
        f->unmap(f->ctx, io->ref[i], io->into, io->gpa[i]);
    free(io);
}

/* On a thread of the disk's. */
static void io_done(struct block_req *req, int rc)
{
    struct io *io = req->ud;
    struct queue *q = io->q;
    if (!rc && io->then_write) {
        io->then_write = false;
        io->req.kind = BLOCK_WRITE;
        rc = block_submit(q->b->disk, &io->req);
        if (!rc)
            return;
    }
    uint64_t id = io->id;
    uint8_t op = io->op;
    io_free(io);
    pthread_mutex_lock(&q->lock);
    answer(q, id, op, status_of(rc));
    if (!--q->in_flight)
        pthread_cond_broadcast(&q->idle);
    pthread_mutex_unlock(&q->lock);
}

/* ---- requests ------------------------------------------------------------------------------ */

static int io_map(struct io *io, const struct blkif_request_segment *segs, uint32_t n)
{
    const struct pv_front *f = io->q->b->front;
    io->into = io->req.kind == BLOCK_READ;
    for (; io->nsegs < n; io->nsegs++) {
        const struct blkif_request_segment *s = &segs[io->nsegs];
        uint32_t i = io->nsegs;
        if (s->first_sect > s->last_sect || s->last_sect >= SEG_SECTORS)
            return VC_ERANGE;
        uint8_t *p = f->map(f->ctx, s->gref, io->into, &io->gpa[i]);
        if (!p)
            return VC_EFAULT;
        io->ref[i] = s->gref;
        io->iov[i].iov_base = p + s->first_sect * BLOCK_SECTOR;
        io->iov[i].iov_len = (s->last_sect - s->first_sect + 1u) * BLOCK_SECTOR;
    }
    return 0;
}

/* The segments of an indirect request, copied out of the guest's page. */
static int segments(struct queue *q, const struct blkif_request_indirect *r,
                    struct blkif_request_segment *segs)
{
    const struct pv_front *f = q->b->front;
    uint64_t gpa;
    if (!r->nr_segments || r->nr_segments > SEGS_MAX)
        return VC_ERANGE;
    void *page = f->map(f->ctx, r->indirect_grefs[0], false, &gpa);
    if (!page)
        return VC_EFAULT;
    memcpy(segs, page, r->nr_segments * sizeof *segs);
    f->unmap(f->ctx, r->indirect_grefs[0], false, gpa);
    return 0;
}

static bool to_bytes(uint64_t sectors, uint64_t *bytes)
{
    *bytes = sectors * BLOCK_SECTOR;
    return sectors <= BLOCK_SIZE_MAX / BLOCK_SECTOR;
}

/* Fills io->req from a request. */
static int prepare(struct io *io, const union blkif_any *r)
{
    struct blkif_request_segment segs[SEGS_MAX];
    uint32_t n = r->rw.nr_segments;
    uint64_t sector = r->rw.sector_number;
    uint8_t op = r->rw.operation;
    int rc = 0;
    if (op == BLKIF_OP_INDIRECT) {
        op = r->indirect.indirect_op;
        sector = r->indirect.sector_number;
        n = r->indirect.nr_segments;
        rc = op == BLKIF_OP_READ || op == BLKIF_OP_WRITE ? segments(io->q, &r->indirect, segs)
                                                         : VC_ENOTSUP;
    } else if (op != BLKIF_OP_DISCARD) {
        if (n > BLKIF_MAX_SEGMENTS_PER_REQUEST)
            return VC_ERANGE;
        memcpy(segs, r->rw.seg, n * sizeof *segs);
    }
    if (rc)
        return rc;
    switch (op) {
    case BLKIF_OP_READ: io->req.kind = BLOCK_READ; break;
    case BLKIF_OP_WRITE: io->req.kind = BLOCK_WRITE; break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        io->req.kind = BLOCK_FLUSH;
        io->then_write = n;
        break;
    case BLKIF_OP_DISCARD:
        io->req.kind = BLOCK_DISCARD;
        sector = r->discard.sector_number;
        if (r->discard.flag & BLKIF_DISCARD_SECURE)
            return VC_ENOTSUP;
        if (!to_bytes(r->discard.nr_sectors, &io->req.len))
            return VC_ERANGE;
        n = 0;
        break;
    default: return VC_ENOTSUP;
    }
    if (!to_bytes(sector, &io->req.offset))
        return VC_ERANGE;
    rc = io_map(io, segs, n);
    io->req.iov = io->iov;
    io->req.niov = n;
    return rc;
}

/* With the queue's lock. */
static void request(struct queue *q)
{
    union blkif_any r;
    memset(&r, 0, sizeof r);
    shring_get(&q->ring, 0, r.bytes, blkif_entry(q->b->abi32));
    q->ring.req_cons++;
    blkif_widen(&r, q->b->abi32);
    /* All kinds have their number at the same place. */
    _Static_assert(
        offsetof(struct blkif_request, id) == offsetof(struct blkif_request_indirect, id) &&
            offsetof(struct blkif_request, id) == offsetof(struct blkif_request_discard, id),
        "id");
    uint64_t id = r.rw.id;
    /* What the answer names: front ends want to read what was done, not how it was asked. */
    uint8_t op = r.rw.operation == BLKIF_OP_INDIRECT ? r.indirect.indirect_op : r.rw.operation;
    struct io *io = malloc(sizeof *io);
    if (!io) {
        answer(q, id, op, BLKIF_RSP_ERROR);
        return;
    }
    io->req = (struct block_req){.done = io_done, .ud = io};
    io->q = q;
    io->id = id;
    io->op = op;
    io->then_write = false;
    io->nsegs = 0;
    int rc = prepare(io, &r);
    rc = rc ? rc : block_submit(q->b->disk, &io->req);
    if (!rc) {
        q->in_flight++;
        return;
    }
    io_free(io);
    answer(q, id, op, status_of(rc));
}

/* The guest notified. A guest that asks without end is served again when it notifies
 * again, so that this thread goes on. */
static void kicked(void *ud)
{
    struct queue *q = ud;
    pthread_mutex_lock(&q->lock);
    for (unsigned i = 0; q->live && i < ROUNDS_MAX; i++) {
        for (uint32_t n = shring_waiting(&q->ring); n; n--)
            request(q);
        shring_arm(&q->ring, 0);
        if (!shring_waiting(&q->ring))
            break;
    }
    pthread_mutex_unlock(&q->lock);
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void queue_close(struct queue *q)
{
    const struct pv_front *f = q->b->front;
    pthread_mutex_lock(&q->lock);
    bool live = q->live;
    uint32_t port = q->port;
    q->live = false; /* nothing more is taken */
    while (q->in_flight)
        pthread_cond_wait(&q->idle, &q->lock);
    if (live)
        shring_unmap(&q->ring);
    q->port = 0;
    pthread_mutex_unlock(&q->lock);
    if (port)
        f->disconnect(f->ctx, port);
}

static bool queue_open(struct queue *q, const char *dir, uint32_t order, bool single)
{
    struct blkback *b = q->b;
    uint32_t refs[1u << RING_ORDER_MAX];
    uint64_t v;
    char name[24] = "ring-ref";
    for (uint32_t i = 0; i < 1u << order; i++) {
        if (!single)
            snprintf(name, sizeof name, "ring-ref%u", i);
        if (!xenbus_get(&b->bus, dir, name, UINT32_MAX, &v))
            return false;
        refs[i] = (uint32_t)v;
    }
    if (!xenbus_get(&b->bus, dir, "event-channel", PORT_MAX, &v))
        return false;
    struct shring ring;
    if (!shring_map(&ring, b->front, refs, 1u << order, blkif_entry(b->abi32)))
        return false;
    ring.front = b->front;
    pthread_mutex_lock(&q->lock);
    q->ring = ring;
    q->live = true;
    q->port = (uint32_t)v; /* before the first request can come */
    pthread_mutex_unlock(&q->lock);
    if (!b->front->connect(b->front->ctx, (uint32_t)v, kicked, q))
        return true;
    pthread_mutex_lock(&q->lock);
    q->port = 0;
    pthread_mutex_unlock(&q->lock);
    return false;
}

static void disconnect(void *ud)
{
    struct blkback *b = ud;
    for (uint32_t i = 0; i < QUEUES_MAX; i++)
        queue_close(&b->queue[i]);
}

/* What the guest's ring looks like; native where it says nothing. */
static bool abi_of(struct blkback *b, bool *abi32)
{
    char path[XENBUS_PATH + 16], text[16];
    size_t len;
    *abi32 = false;
    snprintf(path, sizeof path, "%s/protocol", b->bus.path);
    if (xs_read(b->front->xs, path, text, sizeof text, &len))
        return true;
    *abi32 = len == strlen(XEN_IO_PROTO_ABI_X86_32) && !memcmp(text, XEN_IO_PROTO_ABI_X86_32, len);
    return *abi32 ||
           (len == strlen(XEN_IO_PROTO_ABI_X86_64) && !memcmp(text, XEN_IO_PROTO_ABI_X86_64, len));
}

static bool connect(void *ud)
{
    struct blkback *b = ud;
    uint64_t v;
    uint64_t queues = xenbus_get_or(&b->bus, "multi-queue-num-queues", QUEUES_MAX, 1);
    uint64_t order = xenbus_get_or(&b->bus, "ring-page-order", RING_ORDER_MAX, 0);
    bool ok = queues && queues <= QUEUES_MAX && order <= RING_ORDER_MAX && abi_of(b, &b->abi32);
    b->nqueues = ok ? (uint32_t)queues : 0;
    for (uint32_t i = 0; ok && i < b->nqueues; i++) {
        char dir[24] = "";
        if (b->nqueues > 1)
            snprintf(dir, sizeof dir, "queue-%u", i);
        bool single = xenbus_get(&b->bus, dir, "ring-ref", UINT32_MAX, &v);
        ok = (!single || !order) && queue_open(&b->queue[i], dir, (uint32_t)order, single);
    }
    if (!ok) {
        disconnect(b);
        return false;
    }
    xenbus_set(&b->bus, "sectors", block_size(b->disk) / BLOCK_SECTOR);
    xenbus_set(&b->bus, "info", block_read_only(b->disk) ? VDISK_READONLY : 0);
    xenbus_set(&b->bus, "sector-size", BLOCK_SECTOR);
    xenbus_set(&b->bus, "physical-sector-size", BLOCK_SECTOR);
    /* What was asked before the port was ours. */
    for (uint32_t i = 0; i < b->nqueues; i++)
        kicked(&b->queue[i]);
    return true;
}

static int text(struct blkback *b, const char *dir, const char *name, const char *value)
{
    char path[XENBUS_PATH + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return xs_printf(b->front->xs, path, "%s", value);
}

static int publish(struct blkback *b, uint32_t vdev)
{
    static const struct {
        const char *name;
        uint32_t value;
    } offers[] = {
        {"feature-flush-cache", 1},
        {"feature-persistent", 1},
        {"feature-max-indirect-segments", SEGS_MAX},
        {"multi-queue-max-queues", QUEUES_MAX},
        {"max-ring-page-order", RING_ORDER_MAX},
        {"removable", 0},
        {"bootable", 1},
    };
    struct xenbus *bus = &b->bus;
    int rc = 0;
    for (size_t i = 0; !rc && i < ARRAY_LEN(offers); i++)
        rc = xenbus_set(bus, offers[i].name, offers[i].value);
    if (!rc && block_can_discard(b->disk)) {
        rc = xenbus_set(bus, "feature-discard", 1);
        rc = rc ? rc : xenbus_set(bus, "discard-granularity", PAGE_SIZE_4K);
        rc = rc ? rc : xenbus_set(bus, "discard-alignment", 0);
        rc = rc ? rc : xenbus_set(bus, "discard-secure", 0);
    }
    rc = rc ? rc : text(b, bus->back, "mode", block_read_only(b->disk) ? "r" : "w");
    rc = rc ? rc : text(b, bus->back, "device-type", "disk");
    rc = rc ? rc : text(b, bus->path, "device-type", "disk");
    return rc ? rc : xenbus_set_front(bus, "virtual-device", vdev);
}

struct blkback *blkback_new(const struct pv_front *front, struct block *disk, uint32_t vdev)
{
    struct blkback *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(VC_ENOMEM, "no memory for a PV disk");
        return NULL;
    }
    b->front = front;
    b->disk = disk;
    b->bus.connect = connect;
    b->bus.disconnect = disconnect;
    b->bus.ud = b;
    for (uint32_t i = 0; i < QUEUES_MAX; i++) {
        b->queue[i].b = b;
        pthread_mutex_init(&b->queue[i].lock, NULL);
        pthread_cond_init(&b->queue[i].idle, NULL);
    }
    if (xenbus_make(&b->bus, front, "vbd", vdev) || publish(b, vdev) || xenbus_start(&b->bus)) {
        err_set(VC_ENOMEM, "no memory for a PV disk's nodes in the xenstore");
        blkback_free(b);
        return NULL;
    }
    return b;
}

void blkback_free(struct blkback *b)
{
    if (!b)
        return;
    xenbus_stop(&b->bus);
    for (uint32_t i = 0; i < QUEUES_MAX; i++) {
        pthread_cond_destroy(&b->queue[i].idle);
        pthread_mutex_destroy(&b->queue[i].lock);
    }
    free(b);
}
