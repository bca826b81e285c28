/* SPDX-License-Identifier: MIT
 * A hostile guest at its xenstore ring. The input is a list of commands, each a byte
 * and its arguments: bytes into the ring, well-formed requests with hostile payloads,
 * indices of its choice, reconnects, and changes by domain 0 in between. */
#include "pv/xenstore/xenstore.h"
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct in {
    const uint8_t *p;
    size_t n;
};

static uint8_t next(struct in *in)
{
    return in->n ? in->n--, *in->p++ : 0;
}

static struct xenstore_domain_interface page;

static void notified(void *ud)
{
    ++*(unsigned *)ud;
}

static void heard(void *ud, const char *path)
{
    size_t len;
    xs_read(ud, path, NULL, 0, &len);
}

static void put(const void *data, size_t len)
{
    const char *p = data;
    for (size_t i = 0; i < len; i++)
        page.req[MASK_XENSTORE_IDX(page.req_prod++)] = p[i];
}

/* Payloads that mean something, so that the input need not find them. */
static const char *const words[] = {
    "data",
    "data/a",
    "data/b/c",
    "/local/domain/1",
    "/",
    "/secret",
    "/local/domain/1/data",
    "T",
    "F",
    "n1",
    "r2",
    "b0",
    "0",
    "1",
    "4096",
    "token",
    "",
    "@releaseDomain",
};

static void request(struct in *in)
{
    char payload[256];
    size_t len = 0;
    struct xsd_sockmsg h = {.type = next(in) % 24, .req_id = 1};
    h.tx_id = next(in) % 4;
    for (unsigned n = next(in) % 5; n; n--) {
        uint8_t w = next(in);
        if (w < 128) {
            const char *s = words[w % (sizeof words / sizeof *words)];
            memcpy(payload + len, s, strlen(s) + 1);
            len += strlen(s) + 1;
        } else {
            for (w &= 15; w; w--)
                payload[len++] = (char)next(in);
        }
    }
    h.len = (uint32_t)len;
    put(&h, sizeof h);
    put(payload, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct in in = {data, size};
    struct xs *xs = xs_new();
    unsigned notes = 0;
    struct xs_ring ring = {&page, notified, &notes};
    struct xs_perm own = {1, 0};
    int err;
    memset(&page, 0, sizeof page);
    if (!xs || xs_write(xs, "/secret", "s", 1) || xs_mkdir(xs, "/local/domain/1/data") ||
        xs_set_perms(xs, "/local/domain/1/data", &own, 1))
        abort();
    struct xs_conn *conn = xs_attach(xs, 1, &ring, &err);
    if (!conn || xs_watch(xs, "/local", heard, xs) <= 0)
        abort();
    while (in.n) {
        switch (next(&in) % 8) {
        case 0: page.req_prod += next(&in); break;
        case 1: page.req[next(&in) * 4] = (char)next(&in); break;
        case 2: page.rsp_cons += next(&in); break;
        case 3: page.connection = next(&in) & 1; break;
        case 4: xs_write(xs, "/local/domain/1/data/a", "x", next(&in) & 1); break;
        case 5: xs_rm(xs, "/local/domain/1/data/b"); break;
        case 6: page.rsp_cons = page.rsp_prod; break;
        default: request(&in); break;
        }
        xs_kick(conn);
        /* What it may not read or change stays. */
        size_t len;
        char c = 0;
        if (xs_read(xs, "/secret", &c, 1, &len) || len != 1 || c != 's')
            abort();
    }
    xs_detach(conn);
    xs_free(xs);
    return 0;
}
