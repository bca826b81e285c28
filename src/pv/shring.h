/* SPDX-License-Identifier: MIT
 * The back end's side of a ring of requests and responses (Xen's io/ring.h), in pages
 * that the guest may change at any time: indices are read once and checked, entries
 * are copied out. */
#ifndef PV_SHRING_H
#define PV_SHRING_H

#include "front.h"

#define SHRING_PAGES_MAX 4u

struct shring {
    const struct pv_front *front;
    uint32_t npages, ref[SHRING_PAGES_MAX];
    uint8_t *page[SHRING_PAGES_MAX];
    uint64_t gpa[SHRING_PAGES_MAX];
    uint32_t entry;    /* bytes of a request or response, the larger */
    uint32_t entries;  /* a power of two */
    uint32_t req_cons; /* the next request */
    uint32_t rsp_prod; /* the next response */
    bool broken;       /* an impossible index: nothing more is taken */
};

/* Maps the pages of a ring; the guest's indices say where it stands. false: not
 * granted, or indices that cannot be. */
bool shring_map(struct shring *r, const struct pv_front *front, const uint32_t *refs,
                uint32_t npages, uint32_t entry);
void shring_unmap(struct shring *r);

/* How many requests wait, at most `entries`; 0 also when the ring is broken. */
uint32_t shring_waiting(struct shring *r);
/* Copies a request, counted from req_cons; len <= entry. */
void shring_get(const struct shring *r, uint32_t at, void *buf, uint32_t len);
/* Asks for a notification at the next request after the `left` ones that stay; then
 * shring_waiting() is to be looked at once more. */
void shring_arm(struct shring *r, uint32_t left);
/* Puts a response; shring_publish() shows all of them and says whether the guest wants
 * to be notified. */
void shring_put(struct shring *r, const void *rsp, uint32_t len);
bool shring_publish(struct shring *r);

#endif
