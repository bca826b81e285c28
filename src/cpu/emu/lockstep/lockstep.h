/* SPDX-License-Identifier: MIT
 * Lockstep (VC_ENGINE_LOCKSTEP): every piece of the guest that the translator runs
 * is run once more by a second, interpreted vCPU, the reference. It has RAM of its
 * own, which follows the partition's, and no devices: what the first vCPU was told
 * by devices, by clocks and by random numbers is written down and told again.
 * After each piece the two must agree; the first difference ends the run. */
#ifndef EMU_LOCKSTEP_H
#define EMU_LOCKSTEP_H

#include "../emu.h"

/* A partition's part. 0, or a negative code with the error set. */
int lockstep_open(struct emu_vm *vm, const struct vc_vm_opts *opts);
void lockstep_close(struct emu_vm *vm);
/* The one vCPU comes and goes. */
int lockstep_attach(struct emu *c);
void lockstep_detach(struct emu *c);
/* The memory map changed; any thread. */
void lockstep_map_changed(struct emu_vm *vm);

/* Around a run of the vCPU. end: an error code when they differ. */
void lockstep_begin(struct emu *c);
int lockstep_end(struct emu *c);

/* Between two pieces, with the doorbell set as usual: the reference follows and is
 * compared; then the next piece is made short. */
void lockstep_turn(struct emu *c);
/* An interrupt or NMI is about to be delivered: the reference takes it too. */
void lockstep_event(struct emu *c, enum emu_event type, unsigned vector);
/* The vCPU was changed from outside: the reference takes its state over. */
void lockstep_forget(struct emu *c);

/* A value of which each look gives another: clocks, random numbers. The reference
 * gets the one that its model got. */
uint64_t lockstep_value(struct emu *c, uint64_t v);
/* The reference stored there. */
void lockstep_stored(struct emu *c, uint64_t gpa, unsigned len);

static inline bool is_reference(const struct emu *c)
{
    return c->store_watch != NULL;
}

/* For tests: fn may change the translated vCPU after each piece. */
void lockstep_tamper(struct emu *c, void (*fn)(struct emu *c, void *ud), void *ud);

#endif
