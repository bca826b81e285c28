/* SPDX-License-Identifier: MIT
 * What the back ends need of the guest whose devices they serve. */
#ifndef PV_FRONT_H
#define PV_FRONT_H

#include "xenstore/xenstore.h"

struct pv_front {
    struct xs *xs;
    uint16_t domid;
    void *ctx; /* of the functions below, which any thread may call */
    /* A frame that the guest granted to domain 0: its 4096 bytes, until unmap; NULL: it
     * did not, or not for writing. *gpa is for unmap. */
    void *(*map)(void *ctx, uint32_t ref, bool write, uint64_t *gpa);
    void (*unmap)(void *ctx, uint32_t ref, bool write, uint64_t gpa);
    /* Bytes from such a frame into buf, or the other way. Of grants of a part of a frame,
     * too, which map() does not take. false: not granted, or not all of them. */
    bool (*copy)(void *ctx, uint32_t ref, bool write, uint32_t off, void *buf, uint32_t n);
    /* The guest's unbound port: fn is called when the guest sends, under no lock that the
     * other functions or the store take. 0, or negative. A call may be under way still
     * when disconnect returns: `ud` stays until the partition is paused. */
    int (*connect)(void *ctx, uint32_t port, void (*fn)(void *ud), void *ud);
    void (*disconnect)(void *ctx, uint32_t port);
    void (*notify)(void *ctx, uint32_t port);
};

#endif
