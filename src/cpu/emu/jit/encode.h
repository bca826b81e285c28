/* SPDX-License-Identifier: MIT
 * Writing a guest instruction again with host registers. */
#ifndef JIT_ENCODE_H
#define JIT_ENCODE_H

#include "asm.h"

/* What trans.c knows of the instruction at hand. */
struct encoding {
    const ZydisDecodedInstruction *zi;
    const uint8_t *bytes;
    bool has_mem;                        /* the rm operand is memory: */
    struct hmem mem;                     /* here */
    int reg, rm, opc, vvvv;              /* guest general registers of those fields; -1: none */
    bool vector;                         /* names XMM or YMM registers, which keep their numbers */
    unsigned v_reg, v_rm;                /* vector registers of those fields */
    unsigned h_reg, h_rm, h_opc, h_vvvv; /* what they become */
    bool high8;                          /* uses AH, CH, DH or BH: no REX allowed */
    bool low8;                           /* uses SPL..DIL-like numbers in 8 bits: REX needed */
};

/* Fills everything but h_*; false: of a form that this file cannot write. */
bool encoding_of(struct encoding *e, const ZydisDecodedInstruction *zi,
                 const ZydisDecodedOperand *zop, const uint8_t *bytes);
/* Writes it; false: impossible with these registers. */
bool encoding_put(struct asmbuf *a, const struct encoding *e);

#endif
