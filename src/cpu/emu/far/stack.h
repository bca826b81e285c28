/* SPDX-License-Identifier: MIT
 * The stack of a far transfer: checked and written before any register changes. */
#ifndef EMU_STACK_H
#define EMU_STACK_H

#include "seg.h"

struct stack {
    struct seg ss;    /* not in 64-bit mode */
    uint64_t sp;      /* of which `mask` counts */
    uint64_t mask;    /* 16, 32 or 64 bits */
    uint16_t err_sel; /* the selector in #SS's error code: 0 for the current stack */
    uint8_t cpl;      /* privilege of accesses */
    bool load_ss;     /* an inner ring's: SS changes with it */
};

/* The current stack, as the current mode addresses it. */
void stack_current(struct emu *c, struct stack *st);
/* A 64-bit stack at rsp for privilege cpl; SS becomes null when that changes. */
void stack_wide(struct emu *c, struct stack *st, uint64_t rsp, unsigned cpl);
/* The stack of an inner ring, from the task-state segment (SDM 5.8.5, 7.2);
 * SS with the checks of a privilege change. */
void stack_inner(struct emu *c, struct stack *st, unsigned cpl);
/* RSP0-2 (slot 0-2) and IST1-7 (slot 4-10) of the 64-bit TSS (SDM 7.7). */
uint64_t tss64_rsp(struct emu *c, unsigned slot);

/* Pushes v[0] .. v[n - 1] in this order; #SS outside of limits. */
void stack_push(struct emu *c, struct stack *st, const uint64_t *v, unsigned n, unsigned size);
/* Pops n values from the current privilege's stack, the first into v[0]. */
void stack_pop(struct emu *c, struct stack *st, uint64_t *v, unsigned n, unsigned size);
/* Makes it the current stack. The caller has set c->cpl. */
void stack_commit(struct emu *c, const struct stack *st);

#endif
