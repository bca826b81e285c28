/* SPDX-License-Identifier: MIT
 * What the files of the store share. Everything here is under `lock`. */
#ifndef PV_XENSTORE_STORE_H
#define PV_XENSTORE_STORE_H

#include "xenstore.h"
#include <pthread.h>
#include <xen/io/xs_wire.h>

#define XS_EVENTS_MAX                                                                              \
    512u /* events that one guest, or domain 0, has not taken yet; then only                       \
            one more for each watch */

/* A message on its way to a guest. */
struct xs_msg {
    struct xs_msg *next;
    uint32_t len; /* with the header */
    bool event;
    uint8_t data[];
};

struct xs_op {
    enum xs_op_kind {
        XS_OP_READ,
        XS_OP_LIST,
        XS_OP_WRITE,
        XS_OP_MKDIR,
        XS_OP_RM,
        XS_OP_PERMS
    } kind;
    char *path;
    void *data; /* the value, or the permissions */
    uint32_t len;
};

struct xs_txn {
    struct xs_txn *next;
    uint32_t id;
    bool stale;               /* can't be committed any more: EAGAIN */
    struct xs_tree base, now; /* as it was found, and with the transaction's own changes */
    struct xs_op *ops;
    uint32_t nops, cap;
    size_t bytes;
};

struct xs_watch {
    struct xs_watch *next;
    struct xs_conn *conn; /* NULL: domain 0's */
    char *path;           /* absolute, or @introduceDomain */
    uint32_t skip;        /* bytes of a path that the watcher does not see */
    char *token;          /* a guest's */
    xs_watch_fn *fn;      /* domain 0's */
    void *ud;
    int id;
    bool dead; /* unwatched by its own function, freed when that returns */
};

/* Domain 0's events. */
struct xs_event {
    struct xs_event *next;
    struct xs_watch *watch;
    char path[];
};

struct xs_conn {
    struct xs_conn *next;
    struct xs *xs;
    uint16_t domid;
    struct xs_ring ring;
    bool broken; /* broke the protocol: nothing more until it reconnects */
    bool notify_due;
    struct xs_txn *txns;
    uint32_t ntxns, next_txn, nwatches;
    /* The message that comes in, and those that go out. */
    uint32_t in_len, out_off, nevents;
    struct xs_msg *out, **out_end;
    struct xsd_sockmsg hdr;
    uint8_t in[XENSTORE_PAYLOAD_MAX];
};

struct xs {
    pthread_mutex_t lock;
    pthread_cond_t called; /* a watch function or notify returned */
    struct xs_tree tree;
    uint64_t gen;
    uint16_t doms[XS_DOMAINS_MAX];
    struct xs_conn *conns;
    struct xs_watch *watches;
    int next_watch;
    struct xs_event *events, **events_end;
    uint32_t nevents;
    bool telling;
    pthread_t teller;
    uint32_t told, takers; /* calls of the teller's; threads that would go on for it */
    const void *calling;   /* the watch or connection whose function runs */
};

/* store.c */
/* A change as domid: to the store, or to its transaction. data: a value, or n permissions. */
int xs_change(struct xs *xs, uint16_t domid, struct xs_txn *txn, enum xs_op_kind kind,
              const char *path, const void *data, size_t len);
int xs_apply(struct xs_tree *t, uint16_t domid, const struct xs_op *op);

/* txn.c */
int txn_start(struct xs_conn *conn, uint32_t *id);
struct xs_txn *txn_find(struct xs_conn *conn, uint32_t id);
/* Notes what a transaction read or changed. */
int txn_note(struct xs_txn *txn, uint16_t domid, const struct xs_op *op);
int txn_end(struct xs_conn *conn, struct xs_txn *txn, bool commit);
void txn_drop_all(struct xs_conn *conn);

/* watch.c */
/* Tells watchers of a path: `was` and `is` are the trees around the change. */
void watch_fire(struct xs *xs, const struct xs_tree *was, const struct xs_tree *is,
                const char *path, bool removed);
void watch_fire_special(struct xs *xs, const char *name);
int watch_add(struct xs_conn *conn, const char *path, uint32_t skip, const char *token);
int watch_del(struct xs_conn *conn, const char *path, const char *token);
/* The first event, once the guest has its answer. */
void watch_first(struct xs_conn *conn, const char *path, const char *token);
void watch_drop_all(struct xs_conn *conn);
void watch_free(struct xs *xs, struct xs_watch **at);

/* proto.c */
/* Does the request in conn->hdr and conn->in, and queues its answer. */
void proto_request(struct xs_conn *conn);
/* Queues a message; false: no memory. */
bool proto_send(struct xs_conn *conn, uint32_t type, uint32_t req, uint32_t tx, const void *data,
                size_t len);

/* ring.c */
/* Forgets everything of this connection but the guest's nodes. */
void ring_reset(struct xs_conn *conn);
/* Nothing more is done for a guest that breaks the protocol, until it reconnects. */
void ring_break(struct xs_conn *conn, uint32_t error);
void ring_flush(struct xs_conn *conn);
void ring_work(struct xs_conn *conn);

#endif
