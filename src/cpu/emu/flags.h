/* SPDX-License-Identifier: MIT
 * Arithmetic flags, kept as the operation that made them until somebody asks. */
#ifndef EMU_FLAGS_H
#define EMU_FLAGS_H

#include "emu.h"

/* cc_op. The numbered ones come in groups of four: 8, 16, 32, 64 bits (add
 * log2 of the size in bytes). r: the result, in cc_dst. */
enum cc_op {
    CC_FLAGS = 0,  /* cc_src holds FL_ARITH bits themselves */
    CC_ADD = 4,    /* cc_src: the addend. Results and operands are kept zero-extended. */
    CC_SUB = 12,   /* cc_src: the subtrahend; minuend = r + cc_src */
    CC_LOGIC = 20, /* CF = OF = 0 */
    CC_INC = 24,   /* cc_src: old CF (0/1) */
    CC_DEC = 28,
    CC_SHL = 32,  /* cc_src: the value before the last bit went (CF = its top bit) */
    CC_HOST = 40, /* cc_src: AX as LAHF and SETO AL leave it (translated code) */
    CC_SAR = 36,  /* cc_src: the value before the last bit went (CF = bit 0); SHR too, OF by
                     its rule for count 1 */
};

/* FL_ARITH bits now. */
uint32_t flags_arith(const struct emu *c);
/* CF alone, which INC, DEC, ADC and SBB need often. */
static inline uint32_t flags_carry(const struct emu *c)
{
    unsigned shift = 64 - (8u << (c->cc_op & 3));
    uint64_t r = c->cc_dst << shift, s = c->cc_src << shift;
    switch (c->cc_op & ~3u) {
    case CC_FLAGS:
    case CC_INC:
    case CC_DEC: return (uint32_t)c->cc_src & FL_CF;
    case CC_ADD: return r < s;
    case CC_SUB: return r + s < s;
    case CC_LOGIC: return 0;
    default: return flags_arith(c) & FL_CF;
    }
}
/* The whole RFLAGS as PUSHF sees it (bit 1 set). */
static inline uint64_t flags_get(const struct emu *c)
{
    return c->rflags | flags_arith(c);
}
/* The same for a guest's eyes: PUSHF, LAHF, SYSCALL (op: which one), or the frame of
 * an event (op: NULL). Here lockstep's two sides agree on flags that the manual
 * leaves undefined. */
uint64_t lockstep_flags(struct emu *c, const struct op *op);
static inline uint64_t flags_shown(struct emu *c, const struct op *op)
{
    return unlikely(c->lockstep) ? lockstep_flags(c, op) : flags_get(c);
}
static inline void flags_set_arith(struct emu *c, uint32_t v)
{
    c->cc_op = CC_FLAGS;
    c->cc_src = v & FL_ARITH;
}
/* Sets all of RFLAGS, bit 1 forced, reserved bits cleared; the caller checked
 * privilege, and calls emu_mode_changed() when IF, TF, AC or VM changed. */
static inline void flags_set(struct emu *c, uint64_t v)
{
    flags_set_arith(c, (uint32_t)v);
    c->rflags = ((uint32_t)v & 0x003f7700u) | 2u;
}
/* Condition code 0-15 as in Jcc's opcode (0 O, 1 NO, 2 B, ... 15 NLE). */
bool flags_cond(const struct emu *c, unsigned cond);

#endif
