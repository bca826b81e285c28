/* SPDX-License-Identifier: MIT
 * The requests of a guest (xs_wire.h) and their answers. A guest is never privileged:
 * what is for toolstacks is answered EACCES. */
#include <errno.h> /* before xs_wire.h, whose table of names needs it */
#include "store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE (XENSTORE_ABS_PATH_MAX + 1)

bool proto_send(struct xs_conn *conn, uint32_t type, uint32_t req, uint32_t tx, const void *data,
                size_t len)
{
    struct xsd_sockmsg hdr = {.type = type, .req_id = req, .tx_id = tx, .len = (uint32_t)len};
    struct xs_msg *m = malloc(sizeof *m + sizeof hdr + len);
    if (!m)
        return false;
    m->next = NULL;
    m->len = (uint32_t)(sizeof hdr + len);
    m->event = type == XS_WATCH_EVENT;
    memcpy(m->data, &hdr, sizeof hdr);
    if (len)
        memcpy(m->data + sizeof hdr, data, len);
    *conn->out_end = m;
    conn->out_end = &m->next;
    conn->nevents += m->event;
    return true;
}

/* ---- a request's parts ------------------------------------------------------------- */

/* A request while it is done, and its answer. */
struct req {
    struct xs_conn *conn;
    struct xs_txn *txn;
    const char *data;
    size_t len;
    size_t out_len;
    char path[PATH_SIZE];
    uint32_t skip; /* of path: what the guest did not write */
    char out[XENSTORE_PAYLOAD_MAX];
};

/* The next string with its terminator; NULL: there is none. */
static const char *next_string(struct req *r)
{
    const char *s = r->data, *end = r->len ? memchr(s, 0, r->len) : NULL;
    if (!end)
        return NULL;
    r->len -= (size_t)(end + 1 - s);
    r->data = end + 1;
    return s;
}

/* The next string as an absolute path, in r->path. */
static int next_path(struct req *r)
{
    const char *s = next_string(r);
    size_t len = s ? strlen(s) : 0;
    if (!len || len > (*s == '/' ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX))
        return EINVAL;
    r->skip = *s == '/' ? 0
                        : (uint32_t)snprintf(r->path, sizeof r->path, "/local/domain/%u/",
                                             r->conn->domid);
    if (r->skip + len >= sizeof r->path)
        return EINVAL;
    memcpy(r->path + r->skip, s, len + 1);
    return path_valid(r->path) ? 0 : EINVAL;
}

/* A path, and nothing behind it. */
static int only_path(struct req *r)
{
    int rc = next_path(r);
    return rc ? rc : r->len ? EINVAL : 0;
}

/* A decimal number that ends its string. */
static bool number(const char *s, uint32_t *value)
{
    uint32_t v = 0;
    if (!s || !*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint32_t)(*s - '0'), &v))
            return false;
    }
    *value = v;
    return true;
}

/* Adds a string and its terminator to the answer. */
static bool put(struct req *r, const char *s)
{
    size_t len = strlen(s) + 1;
    if (len > sizeof r->out - r->out_len)
        return false;
    memcpy(r->out + r->out_len, s, len);
    r->out_len += len;
    return true;
}

/* ---- reading ------------------------------------------------------------------------- */

/* The node of a path, as the transaction sees it, which notes that it was looked at. */
static int look(struct req *r, enum xs_op_kind kind, const struct xs_node **n)
{
    struct xs_conn *conn = r->conn;
    if (r->txn) {
        int rc = txn_note(r->txn, conn->domid, &(struct xs_op){.kind = kind, .path = r->path});
        if (rc)
            return rc;
    }
    return tree_get(r->txn ? &r->txn->now : &conn->xs->tree, conn->domid, r->path, n);
}

static int do_read(struct req *r)
{
    const struct xs_node *n;
    int rc = only_path(r);
    rc = rc ? rc : look(r, XS_OP_READ, &n);
    if (rc)
        return rc;
    if (n->value_len)
        memcpy(r->out, n->value, n->value_len);
    r->out_len = n->value_len;
    return 0;
}

static int do_directory(struct req *r)
{
    const struct xs_node *n;
    int rc = only_path(r);
    rc = rc ? rc : look(r, XS_OP_LIST, &n);
    for (uint32_t i = 0; !rc && i < n->nkids; i++)
        rc = put(r, n->kids[i]->name) ? 0 : E2BIG;
    return rc;
}

/* A list too long for one message, from a byte offset: whole names, after the list's
 * generation; an empty name ends the last part. */
static int do_directory_part(struct req *r)
{
    const struct xs_node *n;
    uint32_t offset, at = 0, i = 0;
    int rc = next_path(r);
    if (rc)
        return rc;
    if (!number(next_string(r), &offset) || r->len)
        return EINVAL;
    rc = look(r, XS_OP_LIST, &n);
    if (rc)
        return rc;
    r->out_len =
        (size_t)snprintf(r->out, sizeof r->out, "%llu", (unsigned long long)n->kids_gen) + 1;
    for (; i < n->nkids && at < offset; i++)
        at += (uint32_t)strlen(n->kids[i]->name) + 1;
    while (i < n->nkids && put(r, n->kids[i]->name))
        i++;
    if (i == n->nkids)
        put(r, "");
    return 0;
}

static int do_get_perms(struct req *r)
{
    static const char letters[] = {'n', 'r', 'w', 'b'};
    const struct xs_node *n;
    int rc = only_path(r);
    rc = rc ? rc : look(r, XS_OP_READ, &n);
    for (uint32_t i = 0; !rc && i < n->nperms; i++) {
        char text[16];
        snprintf(text, sizeof text, "%c%u", letters[n->perms[i].bits & (XS_R | XS_W)],
                 n->perms[i].domid);
        put(r, text);
    }
    return rc;
}

/* ---- changing -------------------------------------------------------------------------- */

static int change(struct req *r, enum xs_op_kind kind, const void *data, size_t len)
{
    int rc = xs_change(r->conn->xs, r->conn->domid, r->txn, kind, r->path, data, len);
    if (!rc)
        put(r, "OK");
    return rc;
}

static int do_write(struct req *r)
{
    int rc = next_path(r);
    return rc ? rc : change(r, XS_OP_WRITE, r->data, r->len);
}

static int do_mkdir(struct req *r)
{
    int rc = only_path(r);
    return rc ? rc : change(r, XS_OP_MKDIR, NULL, 0);
}

static int do_rm(struct req *r)
{
    int rc = only_path(r);
    return rc ? rc : change(r, XS_OP_RM, NULL, 0);
}

static int do_set_perms(struct req *r)
{
    struct xs_perm perms[XS_PERMS_MAX];
    uint32_t n = 0;
    int rc = next_path(r);
    while (!rc && r->len) {
        const char *s = next_string(r);
        uint32_t domid;
        if (!s || !*s || !number(s + 1, &domid) || domid >= XS_DOMID_NONE)
            return EINVAL;
        if (n == XS_PERMS_MAX)
            return ENOSPC;
        perms[n].domid = (uint16_t)domid;
        switch (*s) {
        case 'n': perms[n].bits = 0; break;
        case 'r': perms[n].bits = XS_R; break;
        case 'w': perms[n].bits = XS_W; break;
        case 'b': perms[n].bits = XS_R | XS_W; break;
        default: return EINVAL;
        }
        n++;
    }
    if (rc || !n)
        return rc ? rc : EINVAL;
    return change(r, XS_OP_PERMS, perms, n * sizeof *perms);
}

/* ---- transactions ------------------------------------------------------------------------ */

static int do_start(struct req *r)
{
    uint32_t id;
    if (r->conn->hdr.tx_id)
        return EBUSY;
    int rc = txn_start(r->conn, &id);
    if (rc)
        return rc;
    char text[16];
    snprintf(text, sizeof text, "%u", id);
    put(r, text);
    return 0;
}

static int do_end(struct req *r)
{
    const char *s = next_string(r);
    if (!s || r->len || (strcmp(s, "T") && strcmp(s, "F")))
        return EINVAL;
    if (!r->txn)
        return ENOENT;
    int rc = txn_end(r->conn, r->txn, *s == 'T');
    r->txn = NULL;
    if (!rc)
        put(r, "OK");
    return rc;
}

/* ---- watches ------------------------------------------------------------------------------- */

static int watch_args(struct req *r, const char **token)
{
    /* @introduceDomain and the like tell of other guests. */
    if (r->len && *r->data == '@')
        return EACCES;
    int rc = next_path(r);
    if (rc)
        return rc;
    *token = next_string(r);
    return *token && !r->len ? 0 : EINVAL;
}

static int do_watch(struct req *r)
{
    const char *token;
    int rc = watch_args(r, &token);
    rc = rc ? rc : watch_add(r->conn, r->path, r->skip, token);
    if (!rc)
        put(r, "OK");
    return rc;
}

static int do_unwatch(struct req *r)
{
    const char *token;
    int rc = watch_args(r, &token);
    rc = rc ? rc : watch_del(r->conn, r->path, token);
    if (!rc)
        put(r, "OK");
    return rc;
}

static int do_reset(struct req *r)
{
    watch_drop_all(r->conn);
    txn_drop_all(r->conn);
    r->txn = NULL;
    put(r, "OK");
    return 0;
}

/* ---- domains --------------------------------------------------------------------------------- */

static int domain_arg(struct req *r, uint32_t *domid)
{
    return number(next_string(r), domid) && !r->len ? 0 : EINVAL;
}

static int do_domain_path(struct req *r)
{
    uint32_t domid;
    char text[48];
    int rc = domain_arg(r, &domid);
    if (rc)
        return rc;
    snprintf(text, sizeof text, "/local/domain/%u", domid);
    put(r, text);
    return 0;
}

static int do_introduced(struct req *r)
{
    uint32_t domid;
    int rc = domain_arg(r, &domid);
    if (rc)
        return rc;
    bool yes = !domid;
    for (const struct xs_conn *c = r->conn->xs->conns; c; c = c->next)
        yes |= c->domid == domid;
    put(r, yes ? "T" : "F");
    return 0;
}

static int denied(struct req *r)
{
    (void)r;
    return EACCES;
}

/* ---- dispatch ----------------------------------------------------------------------------------
 */

static const struct {
    int (*fn)(struct req *r);
    bool in_txn; /* the header's transaction means something */
} requests[XS_TYPE_COUNT] = {
    [XS_CONTROL] = {denied, false},
    [XS_DIRECTORY] = {do_directory, true},
    [XS_READ] = {do_read, true},
    [XS_GET_PERMS] = {do_get_perms, true},
    [XS_WATCH] = {do_watch, false},
    [XS_UNWATCH] = {do_unwatch, false},
    [XS_TRANSACTION_START] = {do_start, false},
    [XS_TRANSACTION_END] = {do_end, true},
    [XS_INTRODUCE] = {denied, false},
    [XS_RELEASE] = {denied, false},
    [XS_GET_DOMAIN_PATH] = {do_domain_path, false},
    [XS_WRITE] = {do_write, true},
    [XS_MKDIR] = {do_mkdir, true},
    [XS_RM] = {do_rm, true},
    [XS_SET_PERMS] = {do_set_perms, true},
    [XS_IS_DOMAIN_INTRODUCED] = {do_introduced, false},
    [XS_RESUME] = {denied, false},
    [XS_SET_TARGET] = {denied, false},
    [XS_RESET_WATCHES] = {do_reset, false},
    [XS_DIRECTORY_PART] = {do_directory_part, true},
};

static const char *error_name(int err)
{
    for (size_t i = 0; i < sizeof xsd_errors / sizeof *xsd_errors; i++) {
        if (xsd_errors[i].errnum == err)
            return xsd_errors[i].errstring;
    }
    return "EINVAL";
}

static int run(struct req *r)
{
    const struct xsd_sockmsg *h = &r->conn->hdr;
    if (h->type >= XS_TYPE_COUNT || !requests[h->type].fn)
        return ENOSYS;
    if (requests[h->type].in_txn && h->tx_id) {
        r->txn = txn_find(r->conn, h->tx_id);
        if (!r->txn)
            return ENOENT;
    }
    return requests[h->type].fn(r);
}

void proto_request(struct xs_conn *conn)
{
    struct xsd_sockmsg h = conn->hdr;
    struct req *r = malloc(sizeof *r);
    int rc = ENOMEM;
    if (r) {
        r->conn = conn;
        r->txn = NULL;
        r->data = (const char *)conn->in;
        r->len = h.len;
        r->out_len = 0;
        rc = run(r);
    }
    bool sent;
    if (rc) {
        const char *name = error_name(rc);
        sent = proto_send(conn, XS_ERROR, h.req_id, h.tx_id, name, strlen(name) + 1);
    } else {
        sent = proto_send(conn, h.type, h.req_id, h.tx_id, r->out, r->out_len);
        /* The first event follows the answer: path and token are in the request still. */
        if (h.type == XS_WATCH)
            watch_first(conn, r->path + r->skip,
                        (const char *)conn->in + strlen((char *)conn->in) + 1);
    }
    free(r);
    /* A guest that got no answer would wait for ever: it is told that this is over. */
    if (!sent)
        ring_break(conn, XENSTORE_ERROR_COMM);
}
