/* SPDX-License-Identifier: MIT
 * The back end of a PV network device (Xen's io/netif.h). */
#ifndef PV_NETBACK_H
#define PV_NETBACK_H

#include "front.h"
#include "../io/net.h"

struct netback;

/* Offers the guest a network device with this number and address on a link, which has
 * no other device. The front and the link stay the caller's, and stay until
 * netback_free(). NULL with the error set. */
struct netback *netback_new(const struct pv_front *front, struct net *link, uint32_t handle,
                            const uint8_t mac[6]);
/* VM paused, and not from a watch function. */
void netback_free(struct netback *n);

#endif
