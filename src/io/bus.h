/* SPDX-License-Identifier: MIT
 * Port and MMIO dispatch: sorted ranges, handlers, detaching while in use. */
#ifndef IO_BUS_H
#define IO_BUS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <virtcore/dev.h>

/* Handlers of one bus run one at a time under `big`, a recursive lock that
 * devices' timers and the public calls that reach devices take too. */
struct bus;

struct bus *bus_new(void);
void bus_free(struct bus *bus);
void bus_lock(struct bus *bus);
void bus_unlock(struct bus *bus);

/* flags: */
#define BUS_UNLOCKED 1u /* the handler does its own locking (local APIC) */
#define BUS_DEFAULT 2u  /* only asked when no other range matches; may overlap others */
/* Returns id > 0 or a code with error set. */
int bus_add(struct bus *bus, enum vc_space space, uint64_t base, uint64_t len, unsigned flags,
            vc_trap_fn *fn, void *ud);
int bus_del(struct bus *bus, int id);
/* The range of an id, for the caller who must undo a memory hole. */
bool bus_range(struct bus *bus, int id, enum vc_space *space, uint64_t *base, uint64_t *len);

/* ENV_HANDLED, ENV_UNHANDLED, or the handler's negative code. */
int bus_access(struct bus *bus, enum vc_space space, struct vc_access *access);

#endif
