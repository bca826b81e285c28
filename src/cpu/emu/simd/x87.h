/* SPDX-License-Identifier: MIT
 * x87 for others, and its environment in memory: op_x87_env.c. */
#ifndef EMU_X87_H
#define EMU_X87_H

#include "../emu.h"

/* Does it leave pointers to itself and its operand (SDM volume 1, 8.1.8)? Then its
 * FOP is in op->imm behind the bytes of the thunk. */
bool x87_sets_pointers(const struct op *op);
#define X87_FOP_SHIFT 32

/* FNSTENV, or with the registers FNSAVE; op->msize tells the layout. */
void x87_store_env(struct emu *c, const struct op *op, bool regs);
/* FLDENV, FRSTOR. */
void x87_load_env(struct emu *c, const struct op *op, bool regs);

#endif
