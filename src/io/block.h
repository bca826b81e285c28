/* SPDX-License-Identifier: MIT
 * Disks: an array of bytes in a file or behind an embedder's functions, read and
 * written off the vCPUs' threads. They know nothing of the device that a guest sees. */
#ifndef IO_BLOCK_H
#define IO_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLOCK_SECTOR    512u
#define BLOCK_IOV_MAX   512u         /* pieces of one request */
#define BLOCK_LEN_MAX   (4ull << 20) /* bytes of one read or write */
#define BLOCK_SIZE_MAX  (1ull << 50)
#define BLOCK_QUEUE_MAX 1024u /* requests that were not done yet */

struct block;

/* The embedder's. All return 0 or a code of base.h, and are called on the disk's
 * threads, several at once; ranges were checked. */
struct block_ops {
    int (*read)(void *ud, uint64_t offset, const struct iovec *iov, unsigned n);
    int (*write)(void *ud, uint64_t offset, const struct iovec *iov, unsigned n); /* or NULL */
    int (*flush)(void *ud);                                  /* or NULL: nothing is held back */
    int (*discard)(void *ud, uint64_t offset, uint64_t len); /* or NULL: not offered */
    void (*free)(void *ud);                                  /* or NULL */
};

/* A raw image. Its size is cut to whole sectors. A second writer, or a writer beside
 * readers, is VC_EBUSY, in this process and others. NULL with the error set. */
struct block *block_open(const char *path, bool read_only);
/* size: a multiple of BLOCK_SECTOR, not 0. ops are copied; on failure ops->free is
 * called too. NULL with the error set. */
struct block *block_new(const struct block_ops *ops, void *ud, uint64_t size, bool read_only);
/* Waits for what was submitted. */
void block_close(struct block *b);

uint64_t block_size(const struct block *b);
bool block_read_only(const struct block *b);
bool block_can_discard(const struct block *b);

enum block_kind { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD };

struct block_req {
    enum block_kind kind;
    uint64_t offset, len; /* of sectors; len: of BLOCK_DISCARD */
    const struct iovec *iov;
    unsigned niov;
    /* Called once, on a thread of the disk's; the request is the caller's again. */
    void (*done)(struct block_req *req, int rc);
    void *ud;
    struct block_req *next; /* the disk's, while it has the request */
};

/* Has a request done; it and what it points to stay until `done`. 0, or a code, and
 * `done` is not called: VC_ERANGE (not sectors, not inside the disk, too long),
 * VC_EPERM (read-only), VC_ENOTSUP (no discard), VC_EBUSY (too many at once),
 * VC_ENOMEM (no thread). No sentence is set. Requests are done in any order; a flush
 * covers the writes that were done when it was submitted. Any thread, not in `done` of
 * a disk that is being closed. */
int block_submit(struct block *b, struct block_req *req);
/* The same at once, on the caller's thread; done is not called. */
int block_do(struct block *b, const struct block_req *req);
/* Returns when nothing is submitted. */
void block_drain(struct block *b);

#endif
