/* SPDX-License-Identifier: MIT
 * What vCPUs do, sampled: each says so in one byte; a thread looks at it once a
 * millisecond. */
#ifndef EMU_SAMPLER_H
#define EMU_SAMPLER_H

#include "emu.h"

#define DOING_OUTSIDE VC_DOING_COUNT /* not in vc_run */

static inline uint8_t doing_now(const struct emu *c)
{
    return atomic_load_explicit(&c->doing, memory_order_relaxed);
}
static inline void doing(struct emu *c, uint8_t what)
{
    atomic_store_explicit(&c->doing, what, memory_order_relaxed);
}

int sampler_start(struct emu_vm *vm, struct sampler **out);
void sampler_stop(struct sampler *s); /* NULL: nothing */

#endif
