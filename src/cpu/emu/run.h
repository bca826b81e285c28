/* SPDX-License-Identifier: MIT
 * Running one vCPU of the emulation engine. */
#ifndef EMU_RUN_H
#define EMU_RUN_H

#include "emu.h"

int emu_run(struct emu *c, const struct vc_budget *budget, struct vc_exit *exit);
/* The instruction that the last run left, and no more. */
int emu_finish(struct emu *c, struct vc_exit *exit);

/* ---- following another vCPU: lockstep/ ------------------------------------------ */

#define GOAL_TRAIL 32u
struct emu_step {
    uint64_t rip, icount, phys;
};
struct emu_goal {
    uint64_t icount, faults; /* instructions done, exceptions taken */
    uint64_t rip, rcx;       /* there, of a string instruction in its middle */
    struct emu_step trail[GOAL_TRAIL]; /* blocks gone through, a ring; phys: NO_PAGE when
                                          it is not known */
    unsigned ntrail;
};
enum goal_end {
    GOAL_REACHED,
    GOAL_MISSED, /* another fault, or none where there should be one */
    GOAL_LEFT    /* the vCPU left: c->exit */
};
/* Interprets up to a place that another vCPU has reached: no device waits, no
 * budget. */
enum goal_end emu_run_to(struct emu *c, struct emu_goal *goal);
/* Delivers an interrupt or NMI between two instructions. false: triple fault. */
bool emu_take(struct emu *c, enum emu_event type, unsigned vector);

#endif
