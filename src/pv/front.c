/* SPDX-License-Identifier: MIT
 * A domain as the back ends of devices see it: front.h. */
#include "domain.h"
#include "front.h"

static void *map(void *ctx, uint32_t ref, bool write, uint64_t *gpa)
{
    return pv_grant_map(ctx, ref, write, gpa);
}

static void unmap(void *ctx, uint32_t ref, bool write, uint64_t gpa)
{
    pv_grant_unmap(ctx, ref, write, gpa);
}

static bool copy(void *ctx, uint32_t ref, bool write, uint32_t off, void *buf, uint32_t n)
{
    return pv_grant_copy(ctx, ref, write, off, buf, n);
}

static int connect(void *ctx, uint32_t port, void (*fn)(void *ud), void *ud)
{
    return pv_port_connect(ctx, port, fn, ud);
}

static void disconnect(void *ctx, uint32_t port)
{
    pv_port_disconnect(ctx, port);
}

static void notify(void *ctx, uint32_t port)
{
    pv_port_notify(ctx, port);
}

void pv_front_of(struct pv_domain *d, struct pv_front *front)
{
    *front = (struct pv_front){
        .xs = d->host.xs,
        .domid = OWN_DOMID,
        .ctx = d,
        .map = map,
        .unmap = unmap,
        .copy = copy,
        .connect = connect,
        .disconnect = disconnect,
        .notify = notify,
    };
}
