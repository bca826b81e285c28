/* SPDX-License-Identifier: MIT
 * The domain in the xenstore: its ring, and the nodes by which it knows itself. */
#include "domain.h"
#include "../base/err.h"
#include "xenstore/xenstore.h"
#include <stdio.h>

#define HOME   "/local/domain/1"
#define TARGET HOME "/memory/target"
#define UUID   "00000000-0000-0000-0000-000000000001"

static void notify(void *ud)
{
    struct pv_domain *d = ud;
    pv_port_notify(d, d->store_port);
}

void pv_store_kick(void *ud)
{
    struct pv_domain *d = ud;
    if (d->store)
        xs_kick(d->store);
}

/* Nodes of domain 0's that the guest may read, or owns. */
struct node {
    const char *path, *value;
    bool guests;
};
static const struct node nodes[] = {
    {HOME, "", false},
    {HOME "/vm", "/vm/" UUID, false},
    {HOME "/name", "guest", false},
    {HOME "/domid", "1", false},
    {HOME "/cpu", "", false},
    {HOME "/memory", "", false},
    {HOME "/memory/videoram", "0", false},
    {HOME "/device", "", false},
    {HOME "/control", "", false},
    {HOME "/control/shutdown", "", true},
    {HOME "/control/feature-poweroff", "", true},
    {HOME "/control/feature-reboot", "", true},
    {HOME "/control/feature-suspend", "", true},
    {HOME "/control/sysrq", "", true},
    {HOME "/control/platform-feature-multiprocessor-suspend", "1", false},
    {HOME "/control/platform-feature-xs_reset_watches", "1", false},
    {HOME "/data", "", true},
    {HOME "/drivers", "", true},
    {HOME "/feature", "", true},
    {HOME "/attr", "", true},
    {HOME "/error", "", true},
    {HOME "/console", "", false},
    {HOME "/console/backend", "/local/domain/0/backend/console/1/0", false},
    {HOME "/console/backend-id", "0", false},
    {HOME "/console/limit", "1048576", false},
    {HOME "/console/type", "xenconsoled", false},
    {HOME "/console/output", "pty", false},
    {HOME "/store", "", false},
    {"/vm/" UUID "/uuid", UUID, false},
    {"/vm/" UUID "/name", "guest", false},
    {"/local/domain/0/backend/console/1/0/frontend", HOME "/console", false},
    {"/local/domain/0/backend/console/1/0/frontend-id", "1", false},
    {"/local/domain/0/backend/console/1/0/online", "1", false},
    {"/local/domain/0/backend/console/1/0/state", "1", false},
    {"/local/domain/0/backend/console/1/0/protocol", "vt100", false},
};

static int put(struct xs *xs, const struct node *n)
{
    const struct xs_perm owned[] = {{OWN_DOMID, 0}};
    const struct xs_perm read[] = {{BACK_END, 0}, {OWN_DOMID, XS_R}};
    int rc = xs_write(xs, n->path, n->value, strlen(n->value));
    if (!rc)
        rc = n->guests ? xs_set_perms(xs, n->path, owned, 1) : xs_set_perms(xs, n->path, read, 2);
    return rc;
}

/* A number, of which it is known at start only. */
static int put_num(struct xs *xs, const char *path, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    const struct node n = {path, text, false};
    return put(xs, &n);
}

static int put_nodes(struct pv_domain *d, struct xs *xs)
{
    int rc = 0;
    for (unsigned i = 0; i < ARRAY_LEN(nodes) && !rc; i++)
        rc = put(xs, &nodes[i]);
    for (unsigned i = 0; i < d->host.ncpu && !rc; i++) {
        char path[64];
        snprintf(path, sizeof path, HOME "/cpu/%u", i);
        rc = put(xs, &(struct node){path, "", false});
        snprintf(path, sizeof path, HOME "/cpu/%u/availability", i);
        if (!rc)
            rc = put(xs, &(struct node){path, "online", false});
    }
    if (!rc)
        rc = put_num(xs, HOME "/memory/static-max", d->npfn * (PAGE / 1024));
    if (!rc)
        rc = put_num(xs, TARGET, d->target / 1024);
    if (!rc)
        rc = put_num(xs, HOME "/console/ring-ref", d->console_mfn);
    if (!rc)
        rc = put_num(xs, HOME "/console/port", d->console_port);
    if (!rc)
        rc = put_num(xs, HOME "/store/ring-ref", d->store_mfn);
    if (!rc)
        rc = put_num(xs, HOME "/store/port", d->store_port);
    return rc;
}

int pv_store_target(struct pv_domain *d, uint64_t bytes)
{
    return put_num(d->host.xs, TARGET, bytes / 1024)
               ? err_set(VC_ENOMEM, "no host memory for the guest's target in the xenstore")
               : 0;
}

int pv_store_attach(struct pv_domain *d)
{
    const struct xs_ring ring = {.page = pv_frame_ptr(d, d->store_mfn), .notify = notify, .ud = d};
    int err = 0;
    if (put_nodes(d, d->host.xs))
        return err_set(VC_ENOMEM, "no host memory for the domain's part of the xenstore");
    d->store = xs_attach(d->host.xs, OWN_DOMID, &ring, &err);
    return d->store ? 0 : err_set(VC_ENOMEM, "the domain gets no ring to the xenstore (%d)", err);
}

void pv_store_detach(struct pv_domain *d)
{
    if (d->store)
        xs_detach(d->store);
    d->store = NULL;
}
