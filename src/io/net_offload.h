/* SPDX-License-Identifier: MIT
 * What network hardware would do for a guest: checksums, and cutting TCP into frames. */
#ifndef IO_NET_OFFLOAD_H
#define IO_NET_OFFLOAD_H

#include "net.h"

typedef void offload_emit_fn(void *ud, const uint8_t *frame, size_t len);
/* Gives the finished frames to emit, one after the other. */
void offload_run(const uint8_t *frame, size_t len, const struct net_offload *off,
                 offload_emit_fn *emit, void *ud);

#endif
