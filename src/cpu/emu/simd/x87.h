/* SPDX-License-Identifier: MIT
 * The x87 environment in memory: op_x87_env.c. */
#ifndef EMU_X87_H
#define EMU_X87_H

#include "../emu.h"

/* FNSTENV, or with the registers FNSAVE; op->msize tells the layout. */
void x87_store_env(struct emu *c, const struct op *op, bool regs);
/* FLDENV, FRSTOR. */
void x87_load_env(struct emu *c, const struct op *op, bool regs);

#endif
