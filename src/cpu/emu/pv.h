/* SPDX-License-Identifier: MIT
 * Where the engine hands a paravirtual guest's events to its ABI: ../pv_engine.h. */
#ifndef EMU_PV_H
#define EMU_PV_H

#include "emu.h"

void pv_deliver(struct emu *c, enum emu_event type, unsigned vector, bool has_err, uint32_t err,
                uint64_t insn_ip);
void pv_syscall(struct emu *c);
void pv_wake(struct emu *c);
void pv_start(struct emu *c);
void hvm_hypercall(struct emu *c); /* at CPL 0; c->rip is the next instruction's */

#endif
