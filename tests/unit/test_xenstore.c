/* SPDX-License-Identifier: MIT
 * Xenstore: the tree, permissions, quotas, transactions, watches; by ring and by call. */
#include <errno.h>
#include "xs_guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

static struct xs *xs;
static struct guest *g;

/* A guest's home, as a toolstack makes it. */
static void home(uint16_t domid)
{
    char path[64];
    struct xs_perm read[] = {{0, 0}, {domid, XS_R}}, own[] = {{domid, 0}};
    snprintf(path, sizeof path, "/local/domain/%u", domid);
    cr_assert_eq(xs_mkdir(xs, path), 0);
    cr_assert_eq(xs_set_perms(xs, path, read, 2), 0);
    strcat(path, "/data");
    cr_assert_eq(xs_mkdir(xs, path), 0);
    cr_assert_eq(xs_set_perms(xs, path, own, 1), 0);
}

static void setup(void)
{
    xs = xs_new();
    cr_assert_not_null(xs);
    home(1);
    g = guest_new(xs, 1);
}

static void teardown(void)
{
    guest_free(g);
    xs_free(xs);
}
TestSuite(xenstore, .init = setup, .fini = teardown);

Test(xenstore, reads_and_writes)
{
    cr_expect_eq(guest_write(g, "data/a", "one"), 0);
    cr_expect_str_eq(g->data, "OK");
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
    cr_expect_str_eq(g->data, "one");
    cr_expect_eq(g->hdr.len, 3);
    cr_expect_eq(guest_ask(g, XS_READ, "/local/domain/1/data/a", NULL), 0);
    cr_expect_str_eq(g->data, "one");
    cr_expect_eq(guest_write(g, "data/x/y/z", ""), 0);
    cr_expect_eq(guest_ask(g, XS_DIRECTORY, "data", NULL), 0);
    cr_expect_eq(g->hdr.len, 4);
    cr_expect(!memcmp(g->data, "a\0x", 4));
    cr_expect_eq(guest_ask(g, XS_MKDIR, "data/x/m", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_MKDIR, "data/x/m", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_RM, "data/x", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_RM, "data/x", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_RM, "data/x/y", NULL), ENOENT);
    cr_expect_eq(guest_ask(g, XS_READ, "data/x/y/z", NULL), ENOENT);
    char buf[8];
    size_t len;
    cr_expect_eq(xs_read(xs, "/local/domain/1/data/a", buf, 2, &len), 0);
    cr_expect_eq(len, 3);
    cr_expect(!memcmp(buf, "on", 2));
    uint64_t v;
    cr_expect_eq(xs_printf(xs, "/n", "%u", 4096), 0);
    cr_expect_eq(xs_read_num(xs, "/n", 4096, &v), 0);
    cr_expect_eq(v, 4096);
    cr_expect_eq(xs_read_num(xs, "/n", 4095, &v), EINVAL);
    cr_expect_eq(xs_write(xs, "/n", "12a", 3), 0);
    cr_expect_eq(xs_read_num(xs, "/n", 4096, &v), EINVAL);
    cr_expect_eq(xs_write(xs, "/n", "99999999999999999999999999", 26), 0);
    cr_expect_eq(xs_read_num(xs, "/n", UINT64_MAX, &v), EINVAL);
    cr_expect_eq(xs_read_num(xs, "/none", 1, &v), ENOENT);
}

Test(xenstore, refuses_bad_requests)
{
    static const char *const paths[] = {"",        "/",     "//",        "data/",
                                        "data//a", "da ta", "data/\xff", "@x"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int rc = guest_write(g, paths[i], "x");
        cr_expect(rc == EINVAL || rc == EACCES, "\"%s\": %d", paths[i], rc);
    }
    char deep[4096];
    memset(deep, 0, sizeof deep);
    for (int i = 0; i < 130; i++)
        strcat(deep, "/a");
    cr_expect_eq(guest_ask(g, XS_READ, deep, NULL), EINVAL);
    memset(deep, 'a', 2049);
    cr_expect_eq(guest_ask(g, XS_READ, deep, NULL), EINVAL);
    memset(deep, 'a', sizeof deep);
    cr_expect_eq(guest_call(g, XS_READ, deep, sizeof deep), EINVAL); /* no terminator */
    cr_expect_eq(guest_call(g, XS_READ, "data\0data", 10), EINVAL);
    cr_expect_eq(guest_call(g, XS_READ, NULL, 0), EINVAL);
    cr_expect_eq(guest_call(g, XS_WATCH, "data", 5), EINVAL);
    cr_expect_eq(guest_call(g, 20, "", 1), ENOSYS);
    cr_expect_eq(guest_call(g, 99, "", 1), ENOSYS);
    cr_expect_eq(guest_call(g, XS_INVALID, "", 1), ENOSYS);
    cr_expect_eq(guest_call(g, XS_INTRODUCE, "2\0001\0001", 6), EACCES);
    cr_expect_eq(guest_call(g, XS_RELEASE, "2", 2), EACCES);
    cr_expect_eq(guest_call(g, XS_CONTROL, "help", 5), EACCES);
    cr_expect_eq(guest_call(g, XS_SET_TARGET, "1\0001", 4), EACCES);
    cr_expect_eq(guest_call(g, XS_WATCH_EVENT, "a\0b", 4), ENOSYS);
    cr_expect_eq(guest_ask(g, XS_WATCH, "@introduceDomain", "t"), EACCES);
    cr_expect_eq(guest_ask(g, XS_GET_DOMAIN_PATH, "7", NULL), 0);
    cr_expect_str_eq(g->data, "/local/domain/7");
    cr_expect_eq(guest_ask(g, XS_GET_DOMAIN_PATH, "x", NULL), EINVAL);
    cr_expect_eq(guest_ask(g, XS_IS_DOMAIN_INTRODUCED, "1", NULL), 0);
    cr_expect_str_eq(g->data, "T");
    cr_expect_eq(guest_ask(g, XS_IS_DOMAIN_INTRODUCED, "9", NULL), 0);
    cr_expect_str_eq(g->data, "F");
}

Test(xenstore, guards_nodes)
{
    cr_expect_eq(xs_write(xs, "/secret/key", "k", 1), 0);
    cr_expect_eq(guest_ask(g, XS_READ, "/secret/key", NULL), EACCES);
    cr_expect_eq(guest_ask(g, XS_READ, "/secret/none", NULL), EACCES);
    cr_expect_eq(guest_write(g, "/secret/key", "x"), EACCES);
    cr_expect_eq(guest_ask(g, XS_RM, "/secret/key", NULL), EACCES);
    cr_expect_eq(guest_ask(g, XS_RM, "/", NULL), EINVAL);
    cr_expect_eq(guest_ask(g, XS_DIRECTORY, "/", NULL), EACCES);
    cr_expect_eq(guest_write(g, "name", "x"), EACCES); /* its home is not its own */
    cr_expect_eq(guest_ask(g, XS_READ, "none", NULL), ENOENT);
    cr_expect_eq(guest_write(g, "data/a", "1"), 0);
    cr_expect_eq(guest_ask(g, XS_GET_PERMS, "data/a", NULL), 0);
    cr_expect_str_eq(g->data, "n1");
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "data/a\0n1\0r2\0", 13), 0);
    cr_expect_eq(guest_ask(g, XS_GET_PERMS, "data/a", NULL), 0);
    cr_expect(!memcmp(g->data, "n1\0r2", 6));
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "data/a\0n2\0", 10), EPERM);
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "/secret\0n1\0", 11), EACCES);
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "data/a\0", 7), EINVAL);
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "data/a\0z1\0", 10), EINVAL);
    cr_expect_eq(guest_call(g, XS_SET_PERMS, "data/a\0n99999999999\0", 20), EINVAL);
    struct guest *h = guest_new(xs, 2);
    cr_expect_eq(guest_ask(h, XS_READ, "/local/domain/1/data/a", NULL), 0);
    cr_expect_str_eq(h->data, "1");
    cr_expect_eq(guest_write(h, "/local/domain/1/data/a", "2"), EACCES);
    cr_expect_eq(guest_ask(h, XS_READ, "/local/domain/1/data", NULL), EACCES);
    guest_free(h);
}

Test(xenstore, keeps_quotas)
{
    char path[64], value[XS_QUOTA_VALUE + 2];
    memset(value, 'v', sizeof value);
    value[XS_QUOTA_VALUE + 1] = 0;
    cr_expect_eq(guest_write(g, "data/big", value), ENOSPC);
    value[XS_QUOTA_VALUE] = 0;
    cr_expect_eq(guest_write(g, "data/big", value), 0);
    /* It owns data and data/big already. */
    int rc = 0;
    unsigned made = 2;
    for (; !rc && made < 2000; made++) {
        snprintf(path, sizeof path, "data/%u", made);
        rc = guest_write(g, path, "x");
    }
    cr_expect_eq(rc, ENOSPC);
    cr_expect_eq(made - 1, XS_QUOTA_NODES);
    cr_expect_eq(guest_write(g, "data/a/b", "x"), ENOSPC);
    cr_expect_eq(guest_ask(g, XS_RM, "data/5", NULL), 0);
    cr_expect_eq(guest_write(g, "data/a/b", "x"), ENOSPC);
    cr_expect_eq(guest_write(g, "data/a", "x"), 0);
    /* A list that is too long for a message is read in parts. */
    cr_expect_eq(guest_ask(g, XS_DIRECTORY, "data", NULL), 0);
    for (unsigned i = 10; i < 200; i++) {
        snprintf(path, sizeof path, "data/%u", i);
        cr_expect_eq(guest_ask(g, XS_RM, path, NULL), 0);
        snprintf(path, sizeof path, "data/%032u", i);
        cr_expect_eq(guest_write(g, path, ""), 0);
    }
    cr_expect_eq(guest_ask(g, XS_DIRECTORY, "data", NULL), E2BIG);
    unsigned offset = 0, names = 0;
    char gen[24] = "", number[16];
    for (bool last = false; !last;) {
        snprintf(number, sizeof number, "%u", offset);
        cr_assert_eq(guest_ask(g, XS_DIRECTORY_PART, "data", number), 0);
        size_t at = strlen(g->data) + 1;
        cr_expect(!*gen || !strcmp(gen, g->data));
        snprintf(gen, sizeof gen, "%.20s", g->data);
        while (at < g->hdr.len && !last) {
            size_t n = strlen(g->data + at) + 1;
            last = n == 1;
            names += !last;
            offset += last ? 0 : (unsigned)n;
            at += n;
        }
    }
    cr_expect_eq(names, XS_QUOTA_NODES - 1);
    for (unsigned i = 0; i < XS_QUOTA_WATCHES; i++) {
        snprintf(number, sizeof number, "%u", i);
        cr_expect_eq(guest_ask(g, XS_WATCH, "data", number), 0);
    }
    cr_expect_eq(guest_ask(g, XS_WATCH, "data", "more"), E2BIG);
    cr_expect_eq(guest_ask(g, XS_UNWATCH, "data", "0"), 0);
    cr_expect_eq(guest_ask(g, XS_WATCH, "data", "more"), 0);
    for (unsigned i = 0; i < XS_QUOTA_TXNS; i++)
        cr_expect_eq(guest_ask(g, XS_TRANSACTION_START, "", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_START, "", NULL), ENOSPC);
    cr_expect_eq(guest_ask(g, XS_RESET_WATCHES, "", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_START, "", NULL), 0);
    /* Domain 0 has no quota of nodes, though it makes them in the guest's place. */
    cr_expect_eq(xs_write(xs, "/local/domain/1/data/by0", "", 0), 0);
}

static uint32_t start(void)
{
    g->tx = 0;
    cr_assert_eq(guest_ask(g, XS_TRANSACTION_START, "", NULL), 0);
    return (uint32_t)strtoul(g->data, NULL, 10);
}

Test(xenstore, transactions_are_atomic)
{
    uint32_t t = start();
    g->tx = t;
    cr_expect_eq(guest_write(g, "data/a", "1"), 0);
    cr_expect_eq(guest_write(g, "data/b", "2"), 0);
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_START, "", NULL), EBUSY);
    g->tx = 0;
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), ENOENT);
    g->tx = t;
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), ENOENT);
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL),
                 ENOENT); /* the number is no transaction's */
    g->tx = 0;
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
    cr_expect_str_eq(g->data, "1");
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_RM, "data", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), ENOENT);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "x", NULL), EINVAL);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "F", NULL), 0);
    g->tx = 0;
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
}

Test(xenstore, transactions_conflict)
{
    /* What it read was changed by others. */
    cr_expect_eq(guest_write(g, "data/a", "1"), 0);
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
    cr_expect_eq(guest_write(g, "data/b", "2"), 0);
    cr_expect_eq(xs_write(xs, "/local/domain/1/data/a", "3", 1), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), EAGAIN);
    g->tx = 0;
    cr_expect_eq(guest_ask(g, XS_READ, "data/b", NULL), ENOENT);
    /* Others changed something else. */
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_READ, "data/a", NULL), 0);
    cr_expect_eq(guest_write(g, "data/b", "2"), 0);
    cr_expect_eq(xs_write(xs, "/local/domain/1/data/c", "3", 1), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), 0);
    g->tx = 0;
    cr_expect_eq(guest_ask(g, XS_READ, "data/b", NULL), 0);
    cr_expect_eq(guest_ask(g, XS_READ, "data/c", NULL), 0);
    /* A list that changed; a node that came; a node that went. */
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_DIRECTORY, "data", NULL), 0);
    cr_expect_eq(xs_write(xs, "/local/domain/1/data/d", "", 0), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), EAGAIN);
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_READ, "data/e", NULL), ENOENT);
    cr_expect_eq(xs_write(xs, "/local/domain/1/data/e", "", 0), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), EAGAIN);
    g->tx = start();
    cr_expect_eq(guest_ask(g, XS_RM, "data/e", NULL), 0);
    cr_expect_eq(guest_write(g, "data/b", "5"), 0);
    cr_expect_eq(xs_rm(xs, "/local/domain/1/data"), 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), EAGAIN);
    g->tx = 0;
}

Test(xenstore, a_transaction_has_an_end)
{
    g->tx = start();
    int rc = 0;
    unsigned n = 0;
    while (!rc && n++ < 2 * XS_QUOTA_TXN_OPS)
        rc = guest_ask(g, XS_READ, "data", NULL);
    cr_expect_eq(rc, ENOSPC);
    cr_expect_eq(n - 1, XS_QUOTA_TXN_OPS);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), 0);
    char value[XS_QUOTA_VALUE + 1];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    g->tx = start();
    for (rc = 0, n = 0; !rc && n < 1000; n++)
        rc = guest_write(g, "data/a", value);
    cr_expect_eq(rc, ENOSPC);
    cr_expect_lt(n, 200);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "F", NULL), 0);
    g->tx = 0;
}

Test(xenstore, watches_tell)
{
    cr_expect_eq(guest_ask(g, XS_WATCH, "data/w", "tok"), 0);
    cr_expect(guest_message(g));
    cr_expect(!memcmp(g->event, "data/w\0tok", 11)); /* the first, though nothing is there */
    cr_expect_eq(guest_ask(g, XS_WATCH, "data/w", "tok"), EEXIST);
    cr_expect_eq(guest_write(g, "data/w/x", "1"), 0); /* the event comes with the answer */
    cr_expect_eq(g->events, 2);
    cr_expect(!memcmp(g->event, "data/w/x\0tok", 13));
    cr_expect_eq(guest_write(g, "data/ww", "1"), 0);
    cr_expect_eq(xs_write(xs, "/local/domain/1/data", "1", 1), 0);
    cr_expect(!guest_message(g));
    /* One for a node that goes with what is above it; absolute paths stay absolute. */
    cr_expect_eq(guest_ask(g, XS_WATCH, "/local/domain/1/data/w/x", "abs"), 0);
    cr_expect(guest_message(g));
    g->events = 0;
    cr_expect_eq(xs_rm(xs, "/local/domain/1/data/w"), 0);
    cr_expect(guest_message(g));
    cr_expect(!memcmp(g->event, "/local/domain/1/data/w/x\0abs", 29));
    cr_expect(guest_message(g));
    cr_expect(!memcmp(g->event, "data/w\0tok", 11));
    cr_expect(!guest_message(g));
    /* A transaction tells when it ends. */
    g->events = 0;
    g->tx = start();
    cr_expect_eq(guest_write(g, "data/ww", "2"), 0);
    cr_expect_eq(guest_ask(g, XS_MKDIR, "data/w", NULL), 0);
    cr_expect_eq(g->events, 0);
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), 0);
    cr_expect_eq(g->events, 1);
    cr_expect(!memcmp(g->event, "data/w\0tok", 11));
    g->tx = 0;
    g->events = 0;
    cr_expect_eq(guest_ask(g, XS_UNWATCH, "data/w", "other"), ENOENT);
    cr_expect_eq(guest_ask(g, XS_UNWATCH, "data/w", "tok"), 0);
    cr_expect_eq(g->events, 0);
    /* Nobody hears of what it may not read. */
    cr_expect_eq(guest_ask(g, XS_WATCH, "/secret", "s"), 0);
    cr_expect(guest_message(g));
    cr_expect_eq(xs_write(xs, "/secret/k", "1", 1), 0);
    cr_expect_eq(xs_rm(xs, "/secret"), 0);
    cr_expect(!guest_message(g));
}

Test(xenstore, a_flood_of_events_is_bounded)
{
    cr_expect_eq(guest_ask(g, XS_WATCH, "data", "t"), 0);
    for (unsigned i = 0; i < 5000; i++) {
        char path[64];
        snprintf(path, sizeof path, "/local/domain/1/data/%u", i);
        cr_assert_eq(xs_write(xs, path, "", 0), 0);
    }
    g->events = 0;
    while (guest_message(g))
        ;
    cr_expect_gt(g->events, 100);
    cr_expect_leq(g->events, 600);
    cr_expect_str_eq(g->event, "data"); /* that more happened is told by the watch's own path */
}

struct heard {
    unsigned n;
    int id;
    char last[256];
};

static void hear(void *ud, const char *path)
{
    struct heard *h = ud;
    h->n++;
    snprintf(h->last, sizeof h->last, "%s", path);
}

static void hear_once(void *ud, const char *path)
{
    struct heard *h = ud;
    hear(ud, path);
    if (h->n == 2) {
        cr_expect_eq(xs_unwatch(xs, h->id), 0);
        cr_expect_eq(xs_unwatch(xs, h->id), ENOENT);
        cr_expect_eq(xs_write(xs, "/q/again", "", 0), 0);
    }
}

Test(xenstore, domain_0_watches)
{
    struct heard a = {0}, b = {0}, c = {0};
    a.id = xs_watch(xs, "/local/domain/1/data", hear, &a);
    cr_expect_gt(a.id, 0);
    cr_expect_eq(a.n, 1);
    cr_expect_eq(guest_write(g, "data/x/y", "1"), 0);
    cr_expect_eq(a.n, 2);
    cr_expect_str_eq(a.last, "/local/domain/1/data/x/y");
    b.id = xs_watch(xs, "/q", hear_once, &b);
    cr_expect_eq(xs_write(xs, "/q/1", "", 0), 0);
    cr_expect_eq(xs_write(xs, "/q/2", "", 0), 0);
    cr_expect_eq(b.n, 2);
    c.id = xs_watch(xs, "@introduceDomain", hear, &c);
    cr_expect_eq(c.n, 1);
    struct guest *h = guest_new(xs, 3);
    cr_expect_eq(c.n, 2);
    guest_free(h);
    cr_expect_eq(xs_unwatch(xs, a.id), 0);
    cr_expect_eq(guest_write(g, "data/x/y", "2"), 0);
    cr_expect_eq(a.n, 2);
    cr_expect_lt(xs_watch(xs, "bad path", hear, &a), 0);
}

/* ---- the ring ------------------------------------------------------------------------ */

Test(xenstore, impossible_indices)
{
    g->page.req_prod = g->page.req_cons + XENSTORE_RING_SIZE + 1;
    xs_kick(g->conn);
    cr_expect_eq(g->page.error, XENSTORE_ERROR_RINGIDX);
    unsigned n = g->notified;
    cr_expect_gt(n, 0);
    g->page.req_prod = g->page.req_cons;
    cr_expect_eq(guest_write(g, "data/a", "1"), -1); /* no answer any more */
    g->page.connection = XENSTORE_RECONNECT;
    xs_kick(g->conn);
    cr_expect_eq(g->page.connection, XENSTORE_CONNECTED);
    cr_expect_eq(g->page.error, XENSTORE_ERROR_NONE);
    cr_expect_eq(g->page.req_prod | g->page.req_cons | g->page.rsp_prod | g->page.rsp_cons, 0);
    cr_expect_eq(guest_write(g, "data/a", "1"), 0);
    g->page.rsp_cons = g->page.rsp_prod + 1;
    guest_send(g, XS_READ, "data/a", 7);
    cr_expect_eq(g->page.error, XENSTORE_ERROR_RINGIDX);
}

Test(xenstore, impossible_lengths)
{
    struct xsd_sockmsg h = {.type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1};
    guest_put(g, &h, sizeof h);
    xs_kick(g->conn);
    cr_expect_eq(g->page.error, XENSTORE_ERROR_PROTO);
}

Test(xenstore, reconnects_in_the_middle)
{
    cr_expect_eq(guest_ask(g, XS_WATCH, "data", "t"), 0);
    uint32_t t = start();
    struct xsd_sockmsg h = {.type = XS_READ, .len = 100};
    guest_put(g, &h, 10);
    xs_kick(g->conn);
    guest_put(g, (char *)&h + 10, 6);
    guest_put(g, "data", 4);
    xs_kick(g->conn);
    g->page.connection = XENSTORE_RECONNECT;
    xs_kick(g->conn);
    cr_expect_eq(g->page.connection, XENSTORE_CONNECTED);
    g->events = 0;
    cr_expect_eq(guest_write(g, "data/a", "1"), 0);
    cr_expect(!guest_message(g));
    cr_expect_eq(g->events, 0); /* watches and transactions are gone */
    g->tx = t;
    cr_expect_eq(guest_ask(g, XS_TRANSACTION_END, "T", NULL), ENOENT);
    g->tx = 0;
}

Test(xenstore, requests_wait_for_room)
{
    char value[1001];
    memset(value, 'v', 1000);
    value[1000] = 0;
    cr_assert_eq(guest_write(g, "data/a", value), 0);
    /* A hundred requests, no answer taken: the ring fills, nothing is lost. */
    struct xsd_sockmsg h = {.type = XS_READ, .len = 7};
    unsigned sent = 0;
    for (; sent < 100; sent++) {
        if (XENSTORE_RING_SIZE - (g->page.req_prod - g->page.req_cons) < sizeof h + 7)
            break;
        h.req_id = sent;
        guest_put(g, &h, sizeof h);
        guest_put(g, "data/a", 7);
        xs_kick(g->conn);
    }
    cr_expect_lt(sent, 60);
    for (unsigned i = 0; i < sent; i++) {
        cr_assert(guest_message(g));
        cr_expect_eq(g->hdr.req_id, i);
        cr_expect_eq(g->hdr.len, 1000);
    }
    cr_expect(!guest_message(g));
}

Test(xenstore, guests_come_and_go)
{
    int err;
    struct xs_ring ring = {&g->page, guest_notified, g};
    cr_expect_null(xs_attach(xs, 1, &ring, &err));
    cr_expect_eq(err, EEXIST);
    cr_expect_null(xs_attach(xs, 0, &ring, &err));
    cr_expect_eq(err, EINVAL);
    cr_expect_null(xs_attach(xs, 0x7ff0, &ring, &err));
    cr_expect_eq(err, EINVAL);
    struct guest *more[XS_DOMAINS_MAX];
    for (unsigned i = 0; i < XS_DOMAINS_MAX - 1; i++)
        more[i] = guest_new(xs, (uint16_t)(10 + i));
    cr_expect_null(xs_attach(xs, 100, &ring, &err));
    cr_expect_eq(err, ENOSPC);
    for (unsigned i = 0; i < XS_DOMAINS_MAX - 1; i++)
        guest_free(more[i]);
}

static void *hammer(void *ud)
{
    (void)ud;
    for (unsigned i = 0; i < 3000; i++) {
        struct heard h = {0};
        int id = xs_watch(xs, "/local/domain/1/data", hear, &h);
        xs_printf(xs, "/local/domain/1/data/h", "%u", i);
        xs_unwatch(xs, id);
        unsigned n = h.n;
        xs_rm(xs, "/local/domain/1/data/h");
        if (h.n != n)
            abort();
    }
    return NULL;
}

Test(xenstore, threads)
{
    pthread_t t[2];
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&t[i], NULL, hammer, NULL), 0);
    for (unsigned i = 0; i < 1000; i++) {
        cr_expect_eq(guest_write(g, "data/a", "1"), 0);
        g->tx = start();
        cr_expect_eq(guest_write(g, "data/b", "1"), 0);
        int rc = guest_ask(g, XS_TRANSACTION_END, "T", NULL);
        cr_expect(rc == 0 || rc == EAGAIN);
        g->tx = 0;
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

/* A thread whose own change is told comes back, though another one changes on and on. */
static _Atomic bool flood;

static void slowly(void *ud, const char *path)
{
    (void)path;
    usleep(200);
    ++*(_Atomic unsigned *)ud;
}

static void *flooder(void *ud)
{
    (void)ud;
    for (unsigned i = 0; flood; i++)
        xs_printf(xs, "/local/domain/1/data/f", "%u", i);
    return NULL;
}

Test(xenstore, nobody_is_kept)
{
    pthread_t t;
    _Atomic unsigned n = 0;
    flood = true;
    int id = xs_watch(xs, "/local/domain/1/data", slowly, (void *)&n);
    cr_assert_gt(id, 0);
    cr_assert_eq(pthread_create(&t, NULL, flooder, NULL), 0);
    for (unsigned i = 0; i < 20; i++)
        cr_expect_eq(xs_write(xs, "/local/domain/1/data/a", "1", 1), 0);
    flood = false;
    pthread_join(t, NULL);
    cr_expect_eq(xs_unwatch(xs, id), 0);
    cr_expect_gt(n, 1);
}

/* ---- the embedder's calls ------------------------------------------------------------- */

Test(xenstore, embedders_calls)
{
    vc_vm *vm = vc_open("emu", NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    char buf[64];
    size_t len;
    cr_expect_eq(vc_xs_read(vm, "/tool", buf, sizeof buf, &len), VC_ENOENT);
    cr_expect_eq(vc_xs_write(vm, "/tool/a", "one", 3), 0);
    cr_expect_eq(vc_xs_read(vm, "/tool/a", buf, sizeof buf, &len), 0);
    cr_expect_eq(len, 3);
    cr_expect_eq(vc_xs_read(vm, "/tool/a", NULL, 0, NULL), 0);
    cr_expect_eq(vc_xs_list(vm, "/tool", buf, sizeof buf, &len), 0);
    cr_expect_eq(len, 2);
    cr_expect_str_eq(buf, "a");
    struct heard h = {0};
    int id = vc_xs_watch(vm, "/tool", hear, &h);
    cr_expect_gt(id, 0);
    cr_expect_eq(vc_xs_rm(vm, "/tool/a"), 0);
    cr_expect_eq(h.n, 2);
    cr_expect_str_eq(h.last, "/tool/a");
    cr_expect_eq(vc_xs_unwatch(vm, id), 0);
    cr_expect_eq(vc_xs_unwatch(vm, id), VC_ENOENT);
    cr_expect_eq(vc_xs_perms(vm, "/tool", "n0 r1 b22"), 0);
    cr_expect_eq(vc_xs_perms(vm, "/tool", "n0,r1"), VC_EINVAL);
    cr_expect_eq(vc_xs_perms(vm, "/tool", ""), VC_EINVAL);
    cr_expect_eq(vc_xs_perms(vm, "/none", "n0"), VC_ENOENT);
    static char big[5000];
    cr_expect_eq(vc_xs_write(vm, "/tool/a", big, sizeof big), VC_ERANGE);
    cr_expect_eq(vc_xs_write(vm, "tool", "", 0), VC_EINVAL);
    cr_expect(strstr(vc_errmsg(), "tool"));
    cr_expect_eq(vc_xs_write(vm, NULL, "", 0), VC_EINVAL);
    vc_errclear();
    cr_expect_eq(vc_xs_rm(NULL, "/a"), VC_EINVAL);
    cr_expect_eq(vc_close(vm), 0);
}
