/* SPDX-License-Identifier: MIT
 * Xenstore, as the rest of the library sees it: one store for a partition, the calls of
 * domain 0 (the embedder and the back ends), and the guests' rings.
 *
 * Threads: every function may be called from any thread. Watch functions and the rings'
 * `notify` are called without any lock of the store, one at a time for each store, on
 * the thread whose change they tell of, or on one that is telling already; they may
 * call everything here but xs_free(). So a caller of anything that changes the store
 * must hold no lock that a watch function or `notify` takes. */
#ifndef PV_XENSTORE_XENSTORE_H
#define PV_XENSTORE_XENSTORE_H

#include "tree.h"

struct xs;
struct xs_conn;

struct xs *xs_new(void); /* NULL: no memory */
/* All rings are detached before. */
void xs_free(struct xs *xs);

/* ---- domain 0's calls: 0 or an errno of the protocol ------------------------------ */

/* The value's length goes to *len, also when it is more than cap; cap bytes at most are
 * copied, without a terminator. */
int xs_read(struct xs *xs, const char *path, void *buf, size_t cap, size_t *len);
int xs_write(struct xs *xs, const char *path, const void *value, size_t len);
int xs_printf(struct xs *xs, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A value that is a decimal number up to max; EINVAL for anything else. */
int xs_read_num(struct xs *xs, const char *path, uint64_t max, uint64_t *value);
int xs_mkdir(struct xs *xs, const char *path);
int xs_rm(struct xs *xs, const char *path);
/* The children's names, each with its terminator; len and cap as for xs_read(). */
int xs_list(struct xs *xs, const char *path, char *buf, size_t cap, size_t *len);
int xs_set_perms(struct xs *xs, const char *path, const struct xs_perm *perms, uint32_t n);

/* Called once soon after it is set, with the path itself, and then for each change of
 * the node or below it, with the path that changed. Changes of the same path that
 * nobody was told of yet are told once; a flood of them is told as one of the watched
 * path. */
typedef void xs_watch_fn(void *ud, const char *path);
/* > 0: an id; else a negative errno. */
int xs_watch(struct xs *xs, const char *path, xs_watch_fn *fn, void *ud);
/* After it, fn is not called and not running, unless this is called by fn itself. */
int xs_unwatch(struct xs *xs, int id);

/* ---- guests' rings ---------------------------------------------------------------- */

struct xs_ring {
    void *page; /* struct xenstore_domain_interface, 4096 bytes, mapped as long as attached */
    void (*notify)(void *ud); /* raises the guest's event channel */
    void *ud;
};

/* Connects a guest; NULL with errno's number in *err: EEXIST, ENOSPC (too many), ENOMEM,
 * EINVAL (no such domain number). Announced by @introduceDomain. */
struct xs_conn *xs_attach(struct xs *xs, uint16_t domid, const struct xs_ring *ring, int *err);
/* The guest raised its event channel: does what it asked for until then. */
void xs_kick(struct xs_conn *conn);
/* The guest is gone: after it neither page nor notify are used. Its nodes stay. */
void xs_detach(struct xs_conn *conn);

#endif
