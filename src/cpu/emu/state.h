/* SPDX-License-Identifier: MIT
 * The embedder's view of a vCPU's registers: the backend table's accessors. */
#ifndef EMU_STATE_H
#define EMU_STATE_H

#include "emu.h"

int state_gprs(struct backend_cpu *cpu, bool set, struct vc_gprs *r);
int state_sregs(struct backend_cpu *cpu, bool set, struct vc_sregs *r);
int state_fpu(struct backend_cpu *cpu, bool set, struct vc_fpu *r);
int state_reg(struct backend_cpu *cpu, bool set, enum vc_reg reg, uint64_t *value);
int state_msr(struct backend_cpu *cpu, bool set, uint32_t index, uint64_t *value);
int state_translate(struct backend_cpu *cpu, uint64_t linear, uint32_t access, uint64_t *gpa);
int state_exception(struct backend_cpu *cpu, uint8_t vector, uint32_t err, uint64_t cr2);
int state_single_step(struct backend_cpu *cpu, bool on);

#endif
