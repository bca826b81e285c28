/* SPDX-License-Identifier: MIT
 * Running one vCPU of the emulation engine. */
#ifndef EMU_RUN_H
#define EMU_RUN_H

#include "emu.h"

int emu_run(struct emu *c, const struct vc_budget *budget, struct vc_exit *exit);

#endif
