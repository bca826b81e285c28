/* SPDX-License-Identifier: MIT
 * Transactions: each works on a snapshot and notes what it read and changed. At the end
 * nothing of that may have been changed by others, or the guest does it again (EAGAIN). */
#include "store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int txn_start(struct xs_conn *conn, uint32_t *id)
{
    if (conn->ntxns >= XS_QUOTA_TXNS)
        return ENOSPC;
    struct xs_txn *t = calloc(1, sizeof *t);
    if (!t)
        return ENOMEM;
    do
        t->id = ++conn->next_txn;
    while (!t->id || txn_find(conn, t->id));
    t->base = tree_hold(&conn->xs->tree);
    t->now = tree_hold(&conn->xs->tree);
    t->next = conn->txns;
    conn->txns = t;
    conn->ntxns++;
    *id = t->id;
    return 0;
}

struct xs_txn *txn_find(struct xs_conn *conn, uint32_t id)
{
    struct xs_txn *t = conn->txns;
    while (t && t->id != id)
        t = t->next;
    return t;
}

int txn_note(struct xs_txn *txn, uint16_t domid, const struct xs_op *op)
{
    size_t path_len = strlen(op->path) + 1;
    if (domid &&
        (txn->nops >= XS_QUOTA_TXN_OPS || txn->bytes + path_len + op->len > XS_QUOTA_TXN_BYTES))
        return ENOSPC;
    if (txn->nops == txn->cap) {
        uint32_t cap = txn->cap ? txn->cap * 2 : 16;
        struct xs_op *ops = realloc(txn->ops, cap * sizeof *ops);
        if (!ops)
            return ENOMEM;
        txn->ops = ops;
        txn->cap = cap;
    }
    struct xs_op copy = {.kind = op->kind, .len = op->len, .path = malloc(path_len)};
    if (copy.path && op->len)
        copy.data = malloc(op->len);
    if (!copy.path || (op->len && !copy.data)) {
        free(copy.path);
        return ENOMEM;
    }
    memcpy(copy.path, op->path, path_len);
    if (op->len)
        memcpy(copy.data, op->data, op->len);
    txn->ops[txn->nops++] = copy;
    txn->bytes += path_len + op->len;
    return 0;
}

static bool is_change(const struct xs_op *op)
{
    return op->kind >= XS_OP_WRITE;
}

static bool same(const struct xs_tree *base, const struct xs_tree *now, const struct xs_op *op)
{
    const struct xs_node *a = tree_find(base, op->path), *b = tree_find(now, op->path);
    if (!a || !b)
        return a == b;
    if (op->kind == XS_OP_LIST)
        return a->kids_gen == b->kids_gen;
    return a->gen == b->gen && (op->kind != XS_OP_RM || a->kids_gen == b->kids_gen);
}

/* The transaction's changes once more, on the tree of today. */
static int replay(struct xs_conn *conn, const struct xs_txn *txn, struct xs_tree *now)
{
    for (uint32_t i = 0; i < txn->nops; i++) {
        if (!same(&txn->base, &conn->xs->tree, &txn->ops[i]))
            return EAGAIN;
    }
    for (uint32_t i = 0; i < txn->nops; i++) {
        if (is_change(&txn->ops[i]) && xs_apply(now, conn->domid, &txn->ops[i]))
            return EAGAIN;
    }
    return 0;
}

static int commit(struct xs_conn *conn, struct xs_txn *txn)
{
    struct xs *xs = conn->xs;
    bool alone = txn->base.root == xs->tree.root;
    if (txn->stale)
        return EAGAIN;
    struct xs_tree now = tree_hold(alone ? &txn->now : &xs->tree);
    int rc = alone ? 0 : replay(conn, txn, &now);
    if (rc) {
        tree_drop(&now);
        return rc;
    }
    struct xs_tree was = xs->tree;
    xs->tree = now;
    for (uint32_t i = 0; i < txn->nops; i++) {
        if (is_change(&txn->ops[i]))
            watch_fire(xs, &was, &now, txn->ops[i].path, txn->ops[i].kind == XS_OP_RM);
    }
    tree_drop(&was);
    return 0;
}

static void txn_free(struct xs_conn *conn, struct xs_txn *txn)
{
    struct xs_txn **at = &conn->txns;
    while (*at != txn)
        at = &(*at)->next;
    *at = txn->next;
    conn->ntxns--;
    for (uint32_t i = 0; i < txn->nops; i++) {
        free(txn->ops[i].path);
        free(txn->ops[i].data);
    }
    free(txn->ops);
    tree_drop(&txn->base);
    tree_drop(&txn->now);
    free(txn);
}

int txn_end(struct xs_conn *conn, struct xs_txn *txn, bool wanted)
{
    int rc = wanted ? commit(conn, txn) : 0;
    txn_free(conn, txn);
    return rc;
}

void txn_drop_all(struct xs_conn *conn)
{
    while (conn->txns)
        txn_free(conn, conn->txns);
}
