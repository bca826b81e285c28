/* SPDX-License-Identifier: MIT
 * The store: its lock, changes, who is told, and domain 0's calls. */
#include "store.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct xs *xs_new(void)
{
    struct xs *xs = calloc(1, sizeof *xs);
    if (!xs)
        return NULL;
    for (unsigned i = 0; i < XS_DOMAINS_MAX; i++)
        xs->doms[i] = XS_DOMID_NONE;
    if (tree_init(&xs->tree, xs->doms, &xs->gen)) {
        free(xs);
        return NULL;
    }
    pthread_mutex_init(&xs->lock, NULL);
    pthread_cond_init(&xs->called, NULL);
    xs->events_end = &xs->events;
    return xs;
}

void xs_free(struct xs *xs)
{
    if (!xs)
        return;
    while (xs->watches)
        watch_free(xs, &xs->watches);
    tree_drop(&xs->tree);
    pthread_cond_destroy(&xs->called);
    pthread_mutex_destroy(&xs->lock);
    free(xs);
}

/* ---- telling ------------------------------------------------------------------------ */

static void xs_lock(struct xs *xs)
{
    pthread_mutex_lock(&xs->lock);
}

static void call_begin(struct xs *xs, const void *what)
{
    xs->calling = what;
    pthread_mutex_unlock(&xs->lock);
}

static void call_end(struct xs *xs)
{
    pthread_mutex_lock(&xs->lock);
    xs->calling = NULL;
    pthread_cond_broadcast(&xs->called);
}

/* Whoever would free what is being called waits for the call, but not for itself. */
static void call_wait(struct xs *xs, const void *what)
{
    while (xs->calling == what && !pthread_equal(xs->teller, pthread_self()))
        pthread_cond_wait(&xs->called, &xs->lock);
}

static bool tell_conn(struct xs *xs)
{
    struct xs_conn *c = xs->conns;
    while (c && !c->notify_due)
        c = c->next;
    if (!c)
        return false;
    c->notify_due = false;
    struct xs_ring ring = c->ring;
    call_begin(xs, c);
    ring.notify(ring.ud);
    call_end(xs);
    return true;
}

static bool tell_watch(struct xs *xs)
{
    struct xs_event *e = xs->events;
    if (!e)
        return false;
    xs->events = e->next;
    if (!xs->events)
        xs->events_end = &xs->events;
    xs->nevents--;
    struct xs_watch *w = e->watch;
    call_begin(xs, w);
    w->fn(w->ud, e->path);
    call_end(xs);
    free(e);
    if (w->dead) {
        struct xs_watch **at = &xs->watches;
        while (*at != w)
            at = &(*at)->next;
        watch_free(xs, at);
    }
    return true;
}

/* A thread that has told so much for others hands over to the next one that comes: else
 * one vCPU of a guest could keep another one's thread in here. */
#define TOLD_MAX 256u

static void tell_all(struct xs *xs)
{
    xs->telling = true;
    xs->teller = pthread_self();
    xs->told = 0;
    while ((xs->told < TOLD_MAX || !xs->takers) && (tell_conn(xs) || tell_watch(xs)))
        xs->told++;
    xs->telling = false;
    pthread_cond_broadcast(&xs->called);
}

/* What is due is told then. */
static void xs_unlock(struct xs *xs)
{
    for (struct xs_conn *c = xs->conns; c; c = c->next)
        ring_flush(c);
    bool inside = xs->telling && pthread_equal(xs->teller, pthread_self());
    if (!inside) {
        xs->takers++;
        while (xs->telling && xs->told >= TOLD_MAX)
            pthread_cond_wait(&xs->called, &xs->lock);
        xs->takers--;
        if (!xs->telling)
            tell_all(xs);
    }
    pthread_mutex_unlock(&xs->lock);
}

/* ---- changes ------------------------------------------------------------------------- */

int xs_apply(struct xs_tree *t, uint16_t domid, const struct xs_op *op)
{
    switch (op->kind) {
    case XS_OP_WRITE: return tree_write(t, domid, op->path, op->data, op->len);
    case XS_OP_MKDIR: return tree_mkdir(t, domid, op->path);
    case XS_OP_RM: return tree_rm(t, domid, op->path);
    case XS_OP_PERMS:
        return tree_set_perms(t, domid, op->path, op->data,
                              op->len / (uint32_t)sizeof(struct xs_perm));
    default: return 0; /* reads change nothing */
    }
}

int xs_change(struct xs *xs, uint16_t domid, struct xs_txn *txn, enum xs_op_kind kind,
              const char *path, const void *data, size_t len)
{
    struct xs_op op = {kind, (char *)path, (void *)data, (uint32_t)len};
    if (txn) {
        int rc = txn_note(txn, domid, &op);
        if (rc)
            return rc;
        rc = xs_apply(&txn->now, domid, &op);
        if (rc) /* that it failed depends on what was there */
            txn->ops[txn->nops - 1].kind = XS_OP_READ;
        return rc;
    }
    /* The old tree is kept until watchers' rights are looked at; and comes back when
     * the change failed half-way. */
    struct xs_tree was = tree_hold(&xs->tree);
    int rc = xs_apply(&xs->tree, domid, &op);
    if (rc) {
        tree_drop(&xs->tree);
        xs->tree = was;
        return rc;
    }
    if (kind != XS_OP_MKDIR || xs->tree.root != was.root)
        watch_fire(xs, &was, &xs->tree, path, kind == XS_OP_RM);
    tree_drop(&was);
    return 0;
}

static int change0(struct xs *xs, enum xs_op_kind kind, const char *path, const void *data,
                   size_t len)
{
    if (!path_valid(path))
        return EINVAL;
    if (len > XENSTORE_PAYLOAD_MAX)
        return ENOSPC;
    xs_lock(xs);
    int rc = xs_change(xs, 0, NULL, kind, path, data, len);
    xs_unlock(xs);
    return rc;
}

int xs_write(struct xs *xs, const char *path, const void *value, size_t len)
{
    return change0(xs, XS_OP_WRITE, path, value, len);
}

int xs_printf(struct xs *xs, const char *path, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        return ENOSPC;
    return xs_write(xs, path, text, (size_t)n);
}

int xs_mkdir(struct xs *xs, const char *path)
{
    return change0(xs, XS_OP_MKDIR, path, NULL, 0);
}

int xs_rm(struct xs *xs, const char *path)
{
    return change0(xs, XS_OP_RM, path, NULL, 0);
}

int xs_set_perms(struct xs *xs, const char *path, const struct xs_perm *perms, uint32_t n)
{
    if (!n || n > XS_PERMS_MAX)
        return EINVAL;
    return change0(xs, XS_OP_PERMS, path, perms, n * sizeof *perms);
}

/* ---- reading --------------------------------------------------------------------------- */

int xs_read(struct xs *xs, const char *path, void *buf, size_t cap, size_t *len)
{
    if (!path_valid(path))
        return EINVAL;
    pthread_mutex_lock(&xs->lock);
    const struct xs_node *n = tree_find(&xs->tree, path);
    *len = n ? n->value_len : 0;
    if (*len && cap)
        memcpy(buf, n->value, *len < cap ? *len : cap);
    pthread_mutex_unlock(&xs->lock);
    return n ? 0 : ENOENT;
}

int xs_read_num(struct xs *xs, const char *path, uint64_t max, uint64_t *value)
{
    char text[24];
    size_t len;
    int rc = xs_read(xs, path, text, sizeof text, &len);
    if (rc)
        return rc;
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (i >= sizeof text || text[i] < '0' || text[i] > '9' ||
            __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
            return EINVAL;
    }
    if (!len || v > max)
        return EINVAL;
    *value = v;
    return 0;
}

int xs_list(struct xs *xs, const char *path, char *buf, size_t cap, size_t *len)
{
    if (!path_valid(path))
        return EINVAL;
    pthread_mutex_lock(&xs->lock);
    const struct xs_node *n = tree_find(&xs->tree, path);
    *len = 0;
    for (uint32_t i = 0; n && i < n->nkids; i++) {
        size_t l = strlen(n->kids[i]->name) + 1;
        if (*len < cap)
            memcpy(buf + *len, n->kids[i]->name, l < cap - *len ? l : cap - *len);
        *len += l;
    }
    pthread_mutex_unlock(&xs->lock);
    return n ? 0 : ENOENT;
}

/* ---- domain 0's watches ------------------------------------------------------------------ */

int xs_watch(struct xs *xs, const char *path, xs_watch_fn *fn, void *ud)
{
    if (path[0] != '@' && !path_valid(path))
        return -EINVAL;
    struct xs_watch *w = calloc(1, sizeof *w);
    size_t len = strlen(path) + 1;
    struct xs_event *e = malloc(sizeof *e + len);
    if (!w || !e || !(w->path = strdup(path))) {
        free(w);
        free(e);
        return -ENOMEM;
    }
    *e = (struct xs_event){.watch = w};
    memcpy(e->path, path, len);
    w->fn = fn;
    w->ud = ud;
    xs_lock(xs);
    int id = xs->next_watch = xs->next_watch < 0x7fffffff ? xs->next_watch + 1 : 1;
    w->id = id;
    w->next = xs->watches;
    xs->watches = w;
    *xs->events_end = e;
    xs->events_end = &e->next;
    xs->nevents++;
    xs_unlock(xs);
    return id;
}

int xs_unwatch(struct xs *xs, int id)
{
    pthread_mutex_lock(&xs->lock);
    struct xs_watch **at = &xs->watches;
    while (*at && ((*at)->conn || (*at)->id != id || (*at)->dead))
        at = &(*at)->next;
    struct xs_watch *w = *at;
    if (w) {
        w->dead = true;
        if (xs->calling != w)
            watch_free(xs, at);
        else
            call_wait(xs, w); /* who called it frees it */
    }
    pthread_mutex_unlock(&xs->lock);
    return w ? 0 : ENOENT;
}

/* ---- guests ------------------------------------------------------------------------------ */

static int join(struct xs *xs, uint16_t domid)
{
    int slot = -1;
    for (const struct xs_conn *c = xs->conns; c; c = c->next) {
        if (c->domid == domid)
            return EEXIST;
    }
    for (int i = XS_DOMAINS_MAX - 1; i >= 0; i--) {
        if (xs->doms[i] == domid)
            return 0; /* it was here before */
        if (xs->doms[i] == XS_DOMID_NONE)
            slot = i;
    }
    if (slot < 0)
        return ENOSPC;
    /* What it owns counts from now on, but not in the snapshots that are there. */
    xs->doms[slot] = domid;
    tree_recount(&xs->tree);
    for (struct xs_conn *c = xs->conns; c; c = c->next) {
        for (struct xs_txn *t = c->txns; t; t = t->next)
            t->stale = true;
    }
    return 0;
}

struct xs_conn *xs_attach(struct xs *xs, uint16_t domid, const struct xs_ring *ring, int *err)
{
    *err = !domid || domid >= XS_DOMID_NONE ? EINVAL : 0;
    struct xs_conn *c = *err ? NULL : calloc(1, sizeof *c);
    if (!c) {
        *err = *err ? *err : ENOMEM;
        return NULL;
    }
    c->xs = xs;
    c->domid = domid;
    c->ring = *ring;
    c->out_end = &c->out;
    xs_lock(xs);
    *err = join(xs, domid);
    if (*err) {
        xs_unlock(xs);
        free(c);
        return NULL;
    }
    c->next = xs->conns;
    xs->conns = c;
    struct xenstore_domain_interface *page = ring->page;
    page->server_features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
    page->error = XENSTORE_ERROR_NONE;
    watch_fire_special(xs, "@introduceDomain");
    ring_work(c);
    xs_unlock(xs);
    return c;
}

void xs_kick(struct xs_conn *conn)
{
    struct xs *xs = conn->xs;
    xs_lock(xs);
    ring_work(conn);
    xs_unlock(xs);
}

void xs_detach(struct xs_conn *conn)
{
    if (!conn)
        return;
    struct xs *xs = conn->xs;
    xs_lock(xs);
    struct xs_conn **at = &xs->conns;
    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    call_wait(xs, conn);
    ring_reset(conn);
    watch_fire_special(xs, "@releaseDomain");
    xs_unlock(xs);
    free(conn);
}
