/* SPDX-License-Identifier: MIT
 * A guest's ring (xs_wire.h). Its indices are the guest's to write at any time: each is
 * read once and checked; requests are copied before they are looked at. */
#include "store.h"
#include <stdlib.h>
#include <string.h>

static struct xenstore_domain_interface *page_of(struct xs_conn *conn)
{
    return conn->ring.page;
}

static uint32_t load(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

void ring_break(struct xs_conn *conn, uint32_t error)
{
    store(&page_of(conn)->error, error);
    conn->broken = true;
    conn->notify_due = true;
}

void ring_reset(struct xs_conn *conn)
{
    watch_drop_all(conn);
    txn_drop_all(conn);
    while (conn->out) {
        struct xs_msg *m = conn->out;
        conn->out = m->next;
        free(m);
    }
    conn->out_end = &conn->out;
    conn->out_off = conn->in_len = conn->nevents = 0;
    conn->broken = false;
}

static void reconnect(struct xs_conn *conn)
{
    struct xenstore_domain_interface *page = page_of(conn);
    ring_reset(conn);
    page->req_cons = page->req_prod = page->rsp_cons = page->rsp_prod = 0;
    page->error = XENSTORE_ERROR_NONE;
    store(&page->connection, XENSTORE_CONNECTED);
    conn->notify_due = true;
}

/* Moves len bytes at most between a ring's bytes from index at, and linear memory. */
static uint32_t span(uint32_t at, uint32_t len)
{
    uint32_t to_end = XENSTORE_RING_SIZE - MASK_XENSTORE_IDX(at);
    return len < to_end ? len : to_end;
}

static void out_done(struct xs_conn *conn)
{
    struct xs_msg *m = conn->out;
    conn->out = m->next;
    if (!conn->out)
        conn->out_end = &conn->out;
    conn->out_off = 0;
    conn->nevents -= m->event;
    free(m);
}

void ring_flush(struct xs_conn *conn)
{
    struct xenstore_domain_interface *page = page_of(conn);
    if (!conn->out || conn->broken)
        return;
    uint32_t prod = load(&page->rsp_prod), cons = load(&page->rsp_cons), start = prod;
    if (prod - cons > XENSTORE_RING_SIZE) {
        ring_break(conn, XENSTORE_ERROR_RINGIDX);
        return;
    }
    uint32_t room = XENSTORE_RING_SIZE - (prod - cons);
    while (conn->out && room) {
        struct xs_msg *m = conn->out;
        uint32_t n = m->len - conn->out_off;
        n = span(prod, n < room ? n : room);
        memcpy(page->rsp + MASK_XENSTORE_IDX(prod), m->data + conn->out_off, n);
        prod += n;
        room -= n;
        conn->out_off += n;
        if (conn->out_off == m->len)
            out_done(conn);
    }
    if (prod != start) {
        store(&page->rsp_prod, prod);
        conn->notify_due = true;
    }
}

/* Takes up to n bytes that are there until prod. */
static uint32_t take(struct xs_conn *conn, void *to, uint32_t n, uint32_t *cons, uint32_t prod)
{
    uint32_t done = 0;
    while (done < n && *cons != prod) {
        uint32_t left = n - done, have = prod - *cons;
        uint32_t part = span(*cons, left < have ? left : have);
        memcpy((uint8_t *)to + done, page_of(conn)->req + MASK_XENSTORE_IDX(*cons), part);
        *cons += part;
        done += part;
    }
    return done;
}

/* Whether an answer waits for room: then nothing more is asked. */
static bool answers_wait(const struct xs_conn *conn)
{
    const struct xs_msg *m = conn->out;
    while (m && m->event)
        m = m->next;
    return m;
}

/* One request, as far as it is there; true: a whole one was done. */
static bool work_one(struct xs_conn *conn, uint32_t *cons, uint32_t prod)
{
    const uint32_t head = sizeof conn->hdr;
    if (conn->in_len < head)
        conn->in_len +=
            take(conn, (uint8_t *)&conn->hdr + conn->in_len, head - conn->in_len, cons, prod);
    if (conn->in_len < head)
        return false;
    if (conn->hdr.len > XENSTORE_PAYLOAD_MAX) {
        ring_break(conn, XENSTORE_ERROR_PROTO);
        return false;
    }
    uint32_t have = conn->in_len - head;
    conn->in_len += take(conn, conn->in + have, conn->hdr.len - have, cons, prod);
    if (conn->in_len < head + conn->hdr.len)
        return false;
    conn->in_len = 0;
    proto_request(conn);
    return true;
}

void ring_work(struct xs_conn *conn)
{
    struct xenstore_domain_interface *page = page_of(conn);
    uint32_t state = load(&page->connection);
    if (state == XENSTORE_RECONNECT) {
        reconnect(conn);
        return;
    }
    if (conn->broken)
        return;
    uint32_t start = load(&page->req_cons), cons = start, prod = load(&page->req_prod);
    if (prod - cons > XENSTORE_RING_SIZE) {
        ring_break(conn, XENSTORE_ERROR_RINGIDX);
        return;
    }
    /* What comes later comes with a notification of its own. */
    do
        ring_flush(conn);
    while (!conn->broken && !answers_wait(conn) && work_one(conn, &cons, prod));
    if (cons != start) {
        store(&page->req_cons, cons);
        conn->notify_due = true; /* there is room again */
    }
}
