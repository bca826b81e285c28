/* SPDX-License-Identifier: MIT
 * How back and front ends of a device find each other: their directories in the store
 * and the states that they go through (Xen's io/xenbus.h). */
#ifndef PV_XENBUS_H
#define PV_XENBUS_H

#include "front.h"

#define XENBUS_PATH 128u

struct xenbus {
    const struct pv_front *front;
    char back[XENBUS_PATH], path[XENBUS_PATH]; /* the directories: ours, the guest's */
    /* Both are called one at a time, connect when the guest's end is ready; false: what
     * it says does not do, and the device is closed until it starts anew. */
    bool (*connect)(void *ud);
    void (*disconnect)(void *ud);
    void *ud;
    int watch;
    unsigned state;
    bool connected;
};

/* Makes both directories of device `kind`/`id`, empty but for what links them. */
int xenbus_make(struct xenbus *bus, const struct pv_front *front, const char *kind, uint32_t id);
/* Our directory's and the guest's nodes. */
int xenbus_set(struct xenbus *bus, const char *name, uint64_t value);
int xenbus_set_front(struct xenbus *bus, const char *name, uint64_t value);
/* The guest's number at `name`, at most max; false: there is none such. */
bool xenbus_get(struct xenbus *bus, const char *dir, const char *name, uint64_t max,
                uint64_t *value);
/* The same, or `other` where there is no such node; UINT64_MAX where it is no such number. */
uint64_t xenbus_get_or(struct xenbus *bus, const char *name, uint64_t max, uint64_t other);

/* From here on the guest sees the device. */
int xenbus_start(struct xenbus *bus);
/* Disconnects and removes both directories. Not from a watch function. */
void xenbus_stop(struct xenbus *bus);

#endif
