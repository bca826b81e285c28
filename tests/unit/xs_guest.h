/* SPDX-License-Identifier: MIT
 * A guest's end of a xenstore ring. */
#ifndef TESTS_UNIT_XS_GUEST_H
#define TESTS_UNIT_XS_GUEST_H

#include "pv/xenstore/xenstore.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

struct guest {
    struct xenstore_domain_interface page;
    struct xs_conn *conn;
    unsigned notified;
    uint32_t tx;
    struct xsd_sockmsg hdr;
    char data[XENSTORE_PAYLOAD_MAX + 1]; /* of the last answer */
    char event[XENSTORE_PAYLOAD_MAX + 1];
    unsigned events;
};

static inline void guest_notified(void *ud)
{
    ((struct guest *)ud)->notified++;
}

static inline struct guest *guest_new(struct xs *xs, uint16_t domid)
{
    struct guest *g = calloc(1, sizeof *g);
    cr_assert_not_null(g);
    struct xs_ring ring = {&g->page, guest_notified, g};
    int err;
    g->conn = xs_attach(xs, domid, &ring, &err);
    cr_assert_not_null(g->conn, "%s", strerror(err));
    return g;
}

static inline void guest_free(struct guest *g)
{
    xs_detach(g->conn);
    free(g);
}

static inline void guest_put(struct guest *g, const void *data, size_t len)
{
    const char *p = data;
    for (size_t i = 0; i < len; i++) {
        while (g->page.req_prod - g->page.req_cons == XENSTORE_RING_SIZE)
            xs_kick(g->conn);
        g->page.req[MASK_XENSTORE_IDX(g->page.req_prod)] = p[i];
        g->page.req_prod++;
    }
}

/* What is there of len bytes. */
static inline size_t guest_take(struct guest *g, void *to, size_t len)
{
    char *p = to;
    size_t i = 0;
    for (; i < len; i++) {
        if (g->page.rsp_prod == g->page.rsp_cons)
            xs_kick(g->conn);
        if (g->page.rsp_prod == g->page.rsp_cons)
            break;
        p[i] = g->page.rsp[MASK_XENSTORE_IDX(g->page.rsp_cons)];
        g->page.rsp_cons++;
    }
    return i;
}

/* One message; false: none. */
static inline bool guest_message(struct guest *g)
{
    struct xsd_sockmsg h;
    size_t n = guest_take(g, &h, sizeof h);
    if (!n)
        return false;
    cr_assert_eq(n, sizeof h);
    cr_assert_leq(h.len, XENSTORE_PAYLOAD_MAX);
    char *to = h.type == XS_WATCH_EVENT ? g->event : g->data;
    memset(to, 0, sizeof g->data);
    cr_assert_eq(guest_take(g, to, h.len), h.len);
    if (h.type == XS_WATCH_EVENT)
        g->events++;
    else
        g->hdr = h;
    return true;
}

static inline void guest_send(struct guest *g, uint32_t type, const void *data, size_t len)
{
    struct xsd_sockmsg h = {.type = type, .req_id = 77, .tx_id = g->tx, .len = (uint32_t)len};
    guest_put(g, &h, sizeof h);
    guest_put(g, data, len);
    xs_kick(g->conn);
}

/* A request and its answer: 0, or the error's number. */
static inline int guest_call(struct guest *g, uint32_t type, const void *data, size_t len)
{
    guest_send(g, type, data, len);
    memset(&g->hdr, 0xff, sizeof g->hdr);
    while (g->hdr.type == XS_INVALID || g->hdr.type == ~0u) {
        if (!guest_message(g))
            return -1;
    }
    cr_assert_eq(g->hdr.req_id, 77);
    cr_assert_eq(g->hdr.tx_id, g->tx);
    if (g->hdr.type != XS_ERROR) {
        cr_assert_eq(g->hdr.type, type);
        return 0;
    }
    for (size_t i = 0; i < sizeof xsd_errors / sizeof *xsd_errors; i++) {
        if (!strcmp(g->data, xsd_errors[i].errstring))
            return xsd_errors[i].errnum;
    }
    return -2;
}

/* With strings, each with its terminator. */
static inline int guest_ask(struct guest *g, uint32_t type, const char *a, const char *b)
{
    char text[XENSTORE_PAYLOAD_MAX];
    size_t n = strlen(a) + 1, m = b ? strlen(b) + 1 : 0;
    memcpy(text, a, n);
    if (b)
        memcpy(text + n, b, m);
    return guest_call(g, type, text, n + m);
}

static inline int guest_write(struct guest *g, const char *path, const char *value)
{
    char text[XENSTORE_PAYLOAD_MAX];
    size_t n = strlen(path) + 1, m = strlen(value);
    memcpy(text, path, n);
    memcpy(text + n, value, m);
    return guest_call(g, XS_WRITE, text, n + m);
}

#endif
