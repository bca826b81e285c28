/* SPDX-License-Identifier: MIT
 * Disks: checking requests, and the threads that do them. */
#include "block.h"
#include "../base/err.h"
#include "../base/util.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS_MAX 4u

struct block {
    struct block_ops ops;
    void *ud;
    uint64_t size;
    bool read_only;

    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct block_req *first, **last;
    unsigned pending; /* queued, or being done */
    unsigned nthreads;
    bool closing;
    pthread_t thread[THREADS_MAX];
};

struct block *block_new(const struct block_ops *ops, void *ud, uint64_t size, bool read_only)
{
    struct block *b = NULL;
    if (!size || size > BLOCK_SIZE_MAX || size % BLOCK_SECTOR)
        err_set(VC_ERANGE, "a disk has a multiple of %u bytes, up to 2^50, not %llu", BLOCK_SECTOR,
                (unsigned long long)size);
    else if (!ops->read || (!read_only && !ops->write))
        err_set(VC_EINVAL, "a disk that can't be %s", ops->read ? "written is read-only" : "read");
    else if (!(b = calloc(1, sizeof *b)))
        err_set(VC_ENOMEM, "no memory for a disk");
    if (!b) {
        if (ops->free)
            ops->free(ud);
        return NULL;
    }
    b->ops = *ops;
    b->ud = ud;
    b->size = size;
    b->read_only = read_only;
    b->last = &b->first;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->work, NULL);
    pthread_cond_init(&b->idle, NULL);
    return b;
}

void block_drain(struct block *b)
{
    pthread_mutex_lock(&b->lock);
    while (b->pending)
        pthread_cond_wait(&b->idle, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

void block_close(struct block *b)
{
    if (!b)
        return;
    block_drain(b);
    pthread_mutex_lock(&b->lock);
    b->closing = true;
    pthread_cond_broadcast(&b->work);
    pthread_mutex_unlock(&b->lock);
    for (unsigned i = 0; i < b->nthreads; i++)
        pthread_join(b->thread[i], NULL);
    if (b->ops.free)
        b->ops.free(b->ud);
    pthread_cond_destroy(&b->idle);
    pthread_cond_destroy(&b->work);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

uint64_t block_size(const struct block *b)
{
    return b->size;
}

bool block_read_only(const struct block *b)
{
    return b->read_only;
}

bool block_can_discard(const struct block *b)
{
    return b->ops.discard && !b->read_only;
}

/* ---- requests ------------------------------------------------------------------------ */

/* The bytes of a request's pieces; UINT64_MAX: too many. */
static uint64_t iov_len(const struct iovec *iov, unsigned n)
{
    uint64_t len = 0;
    if (n > BLOCK_IOV_MAX)
        return UINT64_MAX;
    for (unsigned i = 0; i < n; i++) {
        if (iov[i].iov_len > BLOCK_LEN_MAX)
            return UINT64_MAX;
        len += iov[i].iov_len;
    }
    return len <= BLOCK_LEN_MAX ? len : UINT64_MAX;
}

static int check(const struct block *b, const struct block_req *req)
{
    if (req->kind == BLOCK_FLUSH)
        return 0;
    if (req->kind != BLOCK_READ && b->read_only)
        return VC_EPERM;
    if (req->kind == BLOCK_DISCARD && !b->ops.discard)
        return VC_ENOTSUP;
    uint64_t len = req->kind == BLOCK_DISCARD ? req->len : iov_len(req->iov, req->niov);
    if (!len || (req->offset | len) % BLOCK_SECTOR || req->offset > b->size ||
        len > b->size - req->offset)
        return VC_ERANGE;
    return 0;
}

static int perform(struct block *b, const struct block_req *req)
{
    switch (req->kind) {
    case BLOCK_READ: return b->ops.read(b->ud, req->offset, req->iov, req->niov);
    case BLOCK_WRITE: return b->ops.write(b->ud, req->offset, req->iov, req->niov);
    case BLOCK_DISCARD: return b->ops.discard(b->ud, req->offset, req->len);
    default: return b->ops.flush && !b->read_only ? b->ops.flush(b->ud) : 0;
    }
}

int block_do(struct block *b, const struct block_req *req)
{
    int rc = check(b, req);
    return rc ? rc : perform(b, req);
}

static void *worker(void *ud)
{
    struct block *b = ud;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        struct block_req *req = b->first;
        if (!req) {
            if (b->closing)
                break;
            pthread_cond_wait(&b->work, &b->lock);
            continue;
        }
        b->first = req->next;
        if (!b->first)
            b->last = &b->first;
        pthread_mutex_unlock(&b->lock);
        int rc = perform(b, req);
        req->done(req, rc);
        pthread_mutex_lock(&b->lock);
        if (!--b->pending)
            pthread_cond_broadcast(&b->idle);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* One thread more, which takes no signals of the program's; under the lock. */
static bool thread_add(struct block *b)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = !pthread_create(&b->thread[b->nthreads], NULL, worker, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    b->nthreads += ok;
    return ok;
}

int block_submit(struct block *b, struct block_req *req)
{
    int rc = check(b, req);
    if (rc)
        return rc;
    pthread_mutex_lock(&b->lock);
    if (b->pending >= BLOCK_QUEUE_MAX)
        rc = VC_EBUSY;
    else if (b->pending >= b->nthreads && b->nthreads < THREADS_MAX && !thread_add(b) &&
             !b->nthreads)
        rc = VC_ENOMEM;
    if (!rc) {
        req->next = NULL;
        *b->last = req;
        b->last = &req->next;
        b->pending++;
        pthread_cond_signal(&b->work);
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}
