/* SPDX-License-Identifier: MIT
 * Watches: who is told of which path. */
#include "store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- queueing an event ----------------------------------------------------------- */

static bool queued(const struct xs_conn *conn, const uint8_t *data, size_t len)
{
    for (const struct xs_msg *m = conn->out; m; m = m->next) {
        if (m->event && m->len == sizeof conn->hdr + len &&
            !memcmp(m->data + sizeof conn->hdr, data, len) && (m != conn->out || !conn->out_off))
            return true;
    }
    return false;
}

static void event_to_guest(struct xs_conn *conn, const char *path, const char *token)
{
    uint8_t data[XENSTORE_PAYLOAD_MAX];
    size_t plen = strlen(path) + 1, tlen = strlen(token) + 1;
    if (conn->broken || plen + tlen > sizeof data)
        return; /* watch_add() sees to it that it fits */
    memcpy(data, path, plen);
    memcpy(data + plen, token, tlen);
    if (queued(conn, data, plen + tlen))
        return;
    proto_send(conn, XS_WATCH_EVENT, 0, 0, data, plen + tlen);
}

static void event_to_host(struct xs *xs, struct xs_watch *w, const char *path)
{
    for (const struct xs_event *e = xs->events; e; e = e->next) {
        if (e->watch == w && !strcmp(e->path, path))
            return;
    }
    size_t len = strlen(path) + 1;
    struct xs_event *e = malloc(sizeof *e + len);
    if (!e)
        return;
    e->next = NULL;
    e->watch = w;
    memcpy(e->path, path, len);
    *xs->events_end = e;
    xs->events_end = &e->next;
    xs->nevents++;
}

static void tell(struct xs *xs, struct xs_watch *w, const char *path)
{
    if (w->dead)
        return;
    if ((w->conn ? w->conn->nevents : xs->nevents) >= XS_EVENTS_MAX)
        path = w->path;
    if (w->conn)
        event_to_guest(w->conn, path + w->skip, w->token);
    else
        event_to_host(xs, w, path);
}

/* ---- who is told ------------------------------------------------------------------ */

static bool below(const char *path, const char *top)
{
    size_t n = strlen(top);
    if (n == 1)
        return path[0] == '/'; /* the root */
    return !strncmp(path, top, n) && (path[n] == '/' || !path[n]);
}

/* Nobody learns the name of a node that it may not read. */
static bool visible(const struct xs_tree *was, const struct xs_tree *is, uint16_t domid,
                    const char *path)
{
    const struct xs_node *n = tree_find(is, path);
    if (!n)
        n = tree_find(was, path);
    return n && node_allows(n, domid, XS_R);
}

void watch_fire(struct xs *xs, const struct xs_tree *was, const struct xs_tree *is,
                const char *path, bool removed)
{
    for (struct xs_watch *w = xs->watches; w; w = w->next) {
        const char *at =
            below(path, w->path) ? path
            : removed && below(w->path, path) && tree_find(was, w->path) && !tree_find(is, w->path)
                ? w->path
                : NULL;
        if (at && visible(was, is, w->conn ? w->conn->domid : 0, at))
            tell(xs, w, at);
    }
}

void watch_fire_special(struct xs *xs, const char *name)
{
    for (struct xs_watch *w = xs->watches; w; w = w->next) {
        if (!strcmp(w->path, name))
            tell(xs, w, name);
    }
}

/* ---- setting and removing ---------------------------------------------------------- */

int watch_add(struct xs_conn *conn, const char *path, uint32_t skip, const char *token)
{
    struct xs *xs = conn->xs;
    /* Events of it must fit into a message. */
    if (strlen(token) + 2 + XENSTORE_ABS_PATH_MAX > XENSTORE_PAYLOAD_MAX)
        return EINVAL;
    for (const struct xs_watch *w = xs->watches; w; w = w->next) {
        if (w->conn == conn && !strcmp(w->path, path) && !strcmp(w->token, token))
            return EEXIST;
    }
    if (conn->nwatches >= XS_QUOTA_WATCHES)
        return E2BIG;
    struct xs_watch *w = calloc(1, sizeof *w);
    if (w && (!(w->path = strdup(path)) || !(w->token = strdup(token)))) {
        free(w->path);
        free(w);
        w = NULL;
    }
    if (!w)
        return ENOMEM;
    w->conn = conn;
    w->skip = skip;
    w->next = xs->watches;
    xs->watches = w;
    conn->nwatches++;
    return 0;
}

void watch_first(struct xs_conn *conn, const char *path, const char *token)
{
    event_to_guest(conn, path, token);
}

/* Takes it out of the list, with its events, and frees it. */
void watch_free(struct xs *xs, struct xs_watch **at)
{
    struct xs_watch *w = *at;
    *at = w->next;
    if (w->conn)
        w->conn->nwatches--;
    struct xs_event **e = &xs->events;
    while (*e) {
        struct xs_event *gone = *e;
        if (gone->watch != w) {
            e = &gone->next;
            continue;
        }
        *e = gone->next;
        free(gone);
        xs->nevents--;
    }
    xs->events_end = e;
    free(w->path);
    free(w->token);
    free(w);
}

int watch_del(struct xs_conn *conn, const char *path, const char *token)
{
    for (struct xs_watch **at = &conn->xs->watches; *at; at = &(*at)->next) {
        if ((*at)->conn == conn && !strcmp((*at)->path, path) && !strcmp((*at)->token, token)) {
            watch_free(conn->xs, at);
            return 0;
        }
    }
    return ENOENT;
}

void watch_drop_all(struct xs_conn *conn)
{
    struct xs_watch **at = &conn->xs->watches;
    while (*at) {
        if ((*at)->conn == conn)
            watch_free(conn->xs, at);
        else
            at = &(*at)->next;
    }
}
