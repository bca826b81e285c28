/* SPDX-License-Identifier: MIT
 * The instruction a vCPU stands on, for what is emulated on its behalf. */
#ifndef PV_DECODE_H
#define PV_DECODE_H

#include "domain.h"
#include <Zydis/Zydis.h>

struct pv_insn {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    uint64_t rip, next;
};

/* At `rip`; false: not readable, or no instruction. */
bool pv_insn_decode(struct pv_vcpu *v, uint64_t rip, struct pv_insn *in);
/* General registers with their widths. AH to BH are none of them: false. */
bool pv_insn_reg_get(struct pv_vcpu *v, ZydisRegister reg, uint64_t *value);
bool pv_insn_reg_set(struct pv_vcpu *v, ZydisRegister reg, uint64_t value);
/* ioport.c: one that needs the right to ports. Done, but for RIP? */
bool pv_port_insn(struct pv_vcpu *v, const struct pv_insn *in);

#endif
