/* SPDX-License-Identifier: MIT
 * The xenstore, by its ring: nodes read and written. */
#include "kernel.h"
#include <xen/io/xs_wire.h>
#include <xen/sched.h>

static struct xenstore_domain_interface *ring(void)
{
    return va_of(start_info->store_mfn);
}

/* Sleeps until the other side has done something. */
static void wait(void)
{
    evtchn_port_t port = start_info->store_evtchn;
    struct sched_poll poll = {.nr_ports = 1};
    poll.ports.p = &port;
    event_send(port);
    check(HC(sched_op, SCHEDOP_poll, &poll, 0, 0) == 0, "poll");
    __atomic_fetch_and(&shared->evtchn_pending[port / 64], ~(1ull << port % 64), __ATOMIC_SEQ_CST);
}

static void put(const void *bytes, size_t n)
{
    struct xenstore_domain_interface *r = ring();
    const char *p = bytes;
    for (; n; n--, p++) {
        while (r->req_prod - __atomic_load_n(&r->req_cons, __ATOMIC_ACQUIRE) == XENSTORE_RING_SIZE)
            wait();
        r->req[MASK_XENSTORE_IDX(r->req_prod)] = *p;
        __atomic_store_n(&r->req_prod, r->req_prod + 1, __ATOMIC_RELEASE);
    }
}

static void get(void *bytes, size_t n)
{
    struct xenstore_domain_interface *r = ring();
    char *p = bytes;
    for (; n; n--, p++) {
        while (__atomic_load_n(&r->rsp_prod, __ATOMIC_ACQUIRE) == r->rsp_cons)
            wait();
        *p = r->rsp[MASK_XENSTORE_IDX(r->rsp_cons)];
        __atomic_store_n(&r->rsp_cons, r->rsp_cons + 1, __ATOMIC_RELEASE);
    }
}

/* The answer's length; its text is in answer. */
static char answer[256];
static size_t ask(unsigned type, const char *path, const char *value)
{
    static uint32_t id;
    size_t n = length(path) + 1, m = value ? length(value) : 0;
    struct xsd_sockmsg msg = {.type = type, .req_id = ++id, .len = (uint32_t)(n + m)};
    put(&msg, sizeof msg);
    put(path, n);
    put(value, m);
    event_send(start_info->store_evtchn);
    get(&msg, sizeof msg);
    check(msg.req_id == id && msg.len < sizeof answer, "the xenstore's answer");
    get(answer, msg.len);
    answer[msg.len] = '\0';
    return msg.type == type ? msg.len : 0;
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

void store_check(void)
{
    check(ask(XS_READ, "domid", NULL) && same(answer, "1"), "xenstore: domid");
    check(ask(XS_READ, "name", NULL) && same(answer, "guest"), "xenstore: name");
    check(ask(XS_WRITE, "data/pvkernel", "hello") && same(answer, "OK"), "xenstore: write");
    check(ask(XS_READ, "data/pvkernel", NULL) && same(answer, "hello"), "xenstore: read");
    check(!ask(XS_READ, "nothing", NULL) && same(answer, "ENOENT"), "xenstore: no such node");
    check(!ask(XS_WRITE, "name", "mine") && same(answer, "EACCES"), "xenstore: permissions");
    print("pvkernel: xenstore\n");
}
