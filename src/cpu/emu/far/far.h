/* SPDX-License-Identifier: MIT
 * Handlers of select_far(): segment registers, far transfers, system calls. */
#ifndef EMU_FAR_H
#define EMU_FAR_H

#include "../access.h"
#include "../flags.h"
#include "seg.h"
#include "stack.h"

/* Sub-selectors, one a file. */
bool select_seg(struct emu *c, struct insn *in, struct op *op);     /* op_seg.c */
bool select_desc(struct emu *c, struct insn *in, struct op *op);    /* op_desc.c */
bool select_iret(struct emu *c, struct insn *in, struct op *op);    /* op_iret.c */
bool select_syscall(struct emu *c, struct insn *in, struct op *op); /* op_syscall.c */
bool select_eflags(struct emu *c, struct insn *in, struct op *op);  /* op_eflags.c */

static inline unsigned iopl(const struct emu *c)
{
    return c->rflags >> 12 & 3;
}
/* Sets the RFLAGS bits of mask to those of v. */
static inline void flags_merge(struct emu *c, uint64_t v, uint32_t mask)
{
    flags_set(c, (flags_get(c) & ~(uint64_t)mask) | (v & mask));
}
/* The end of a transfer that may have changed the mode. */
static inline void far_done(struct emu *c, uint64_t ip)
{
    c->rip = ip;
    emu_mode_changed(c);
}

/* A far pointer in memory: offset of op->opsize bytes, then the selector. */
uint16_t far_load(struct emu *c, const struct op *op, uint64_t *off);

/* The code segment a far return goes to, with its checks (SDM volume 2, RET);
 * its privilege is the selector's RPL. */
void far_return_cs(struct emu *c, uint16_t sel, struct desc *cs);
/* The stack segment that goes with it: false when it is null, and may be. */
bool far_return_ss(struct emu *c, uint16_t sel, const struct seg *cs, struct desc *ss);
/* Loads CS and SS:SP of a far return, and drops what an outer ring may not
 * have. ss: NULL for a null selector. */
void far_return_outer(struct emu *c, const struct desc *cs, const struct desc *ss, uint16_t ss_sel,
                      uint64_t sp);

#endif
