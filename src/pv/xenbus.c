/* SPDX-License-Identifier: MIT */
#include "xenbus.h"
#include "../base/util.h"
#include <errno.h>
#include <stdio.h>
#include <xen/io/xenbus.h>

int xenbus_make(struct xenbus *bus, const struct pv_front *front, const char *kind, uint32_t id)
{
    unsigned dom = front->domid;
    const struct xs_perm ours[] = {{0, 0}, {front->domid, XS_R}},
                         its[] = {{front->domid, 0}, {0, XS_R}};
    bus->front = front;
    snprintf(bus->back, sizeof bus->back, "/local/domain/0/backend/%s/%u/%u", kind, dom, id);
    snprintf(bus->path, sizeof bus->path, "/local/domain/%u/device/%s/%u", dom, kind, id);
    char node[XENBUS_PATH + 32];
    int rc = xs_mkdir(front->xs, bus->back);
    rc = rc ? rc : xs_set_perms(front->xs, bus->back, ours, 2);
    rc = rc ? rc : xs_mkdir(front->xs, bus->path);
    rc = rc ? rc : xs_set_perms(front->xs, bus->path, its, 2);
    /* Where its other end is the guest may read, but not say. */
    static const char *const links[] = {"backend", "backend-id"};
    for (size_t i = 0; !rc && i < ARRAY_LEN(links); i++) {
        snprintf(node, sizeof node, "%s/%s", bus->path, links[i]);
        rc = xs_printf(front->xs, node, "%s", i ? "0" : bus->back);
        rc = rc ? rc : xs_set_perms(front->xs, node, ours, 2);
    }
    snprintf(node, sizeof node, "%s/frontend", bus->back);
    rc = rc ? rc : xs_printf(front->xs, node, "%s", bus->path);
    rc = rc ? rc : xenbus_set(bus, "frontend-id", dom);
    rc = rc ? rc : xenbus_set(bus, "online", 1);
    return rc ? rc : xenbus_set_front(bus, "state", XenbusStateInitialising);
}

static int set(struct xenbus *bus, const char *dir, const char *name, uint64_t value)
{
    char node[XENBUS_PATH + 64];
    snprintf(node, sizeof node, "%s/%s", dir, name);
    return xs_printf(bus->front->xs, node, "%llu", (unsigned long long)value);
}

int xenbus_set(struct xenbus *bus, const char *name, uint64_t value)
{
    return set(bus, bus->back, name, value);
}

int xenbus_set_front(struct xenbus *bus, const char *name, uint64_t value)
{
    return set(bus, bus->path, name, value);
}

bool xenbus_get(struct xenbus *bus, const char *dir, const char *name, uint64_t max,
                uint64_t *value)
{
    char node[XENBUS_PATH + 64];
    snprintf(node, sizeof node, "%s/%s%s%s", bus->path, dir, *dir ? "/" : "", name);
    return !xs_read_num(bus->front->xs, node, max, value);
}

uint64_t xenbus_get_or(struct xenbus *bus, const char *name, uint64_t max, uint64_t other)
{
    char node[XENBUS_PATH + 64];
    uint64_t value;
    snprintf(node, sizeof node, "%s/%s", bus->path, name);
    int rc = xs_read_num(bus->front->xs, node, max, &value);
    return !rc ? value : rc == ENOENT ? other : UINT64_MAX;
}

static void state_set(struct xenbus *bus, unsigned state)
{
    if (bus->state == state)
        return;
    bus->state = state;
    xenbus_set(bus, "state", state);
}

static void disconnect(struct xenbus *bus)
{
    if (bus->connected)
        bus->disconnect(bus->ud);
    bus->connected = false;
}

/* The guest's end changed its state. */
static void changed(void *ud, const char *path)
{
    struct xenbus *bus = ud;
    uint64_t front = xenbus_get_or(bus, "state", XenbusStateReconfigured, XenbusStateUnknown);
    (void)path;
    switch (front) {
    case XenbusStateInitialising:
        /* It starts, or starts anew without having said that it ended. */
        disconnect(bus);
        state_set(bus, XenbusStateInitWait);
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        if (bus->connected || bus->state != XenbusStateInitWait)
            break;
        bus->connected = bus->connect(bus->ud);
        state_set(bus, bus->connected ? XenbusStateConnected : XenbusStateClosing);
        break;
    case XenbusStateClosing:
        disconnect(bus);
        state_set(bus, XenbusStateClosing);
        break;
    case XenbusStateClosed:
    case XenbusStateUnknown: /* its directory is gone */
        disconnect(bus);
        state_set(bus, XenbusStateClosed);
        break;
    default: break; /* it waits for us */
    }
}

int xenbus_start(struct xenbus *bus)
{
    char node[XENBUS_PATH + 16];
    state_set(bus, XenbusStateInitWait);
    snprintf(node, sizeof node, "%s/state", bus->path);
    bus->watch = xs_watch(bus->front->xs, node, changed, bus);
    return bus->watch > 0 ? 0 : -bus->watch;
}

void xenbus_stop(struct xenbus *bus)
{
    if (bus->watch > 0)
        xs_unwatch(bus->front->xs, bus->watch);
    disconnect(bus);
    state_set(bus, XenbusStateClosed);
    xs_rm(bus->front->xs, bus->path);
    xs_rm(bus->front->xs, bus->back);
}
