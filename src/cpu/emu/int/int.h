/* SPDX-License-Identifier: MIT
 * What the integer handlers share: operand forms, the stack, restarting. */
#ifndef EMU_INT_H
#define EMU_INT_H

#include "../access.h"
#include "../flags.h"

/* Forms of a two-operand instruction: destination, source. */
enum form { F_RR, F_RI, F_RM, F_MR, F_MI, F_COUNT };

/* Sub-selectors of select_int, one a file. */
bool select_alu(struct insn *in, struct op *op);
bool select_move(struct insn *in, struct op *op);
bool select_branch(struct insn *in, struct op *op);
bool select_stack(struct insn *in, struct op *op);
bool select_shift(struct insn *in, struct op *op);
bool select_muldiv(struct insn *in, struct op *op);
bool select_bit(struct insn *in, struct op *op);
bool select_atomic(struct insn *in, struct op *op);
bool select_string(struct insn *in, struct op *op);
bool select_decimal(struct insn *in, struct op *op);

/* The form of the first two explicit operands; fills dst and src. F_COUNT: some
 * other shape. */
enum form op_form(const struct insn *in, struct op *op);
/* The segment of an implicit DS operand: DS unless overridden. */
uint8_t implicit_segment(const struct insn *in);
/* log2 of a size in bytes. */
static inline unsigned size_log2(unsigned size)
{
    return size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
}
static inline uint64_t size_mask(unsigned size)
{
    return size == 8 ? UINT64_MAX : BIT64(size * 8) - 1;
}
static inline int64_t sign_extend(uint64_t v, unsigned size)
{
    unsigned s = 64 - size * 8;
    return (int64_t)(v << s) >> s;
}

/* The operand that ModRM.rm names: memory when OP_USER1 is set, else register
 * op->dst. For instructions where speed is not in the form. */
#define OP_RM_MEM OP_USER1
static inline uint64_t mem_load(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    switch (size) {
    case 1: return ld8(c, op, lin);
    case 2: return ld16(c, op, lin);
    case 4: return ld32(c, op, lin);
    default: return ld64(c, op, lin);
    }
}
static inline void mem_store(struct emu *c, const struct op *op, uint64_t lin, unsigned size,
                             uint64_t v)
{
    switch (size) {
    case 1: st8(c, op, lin, (uint8_t)v); break;
    case 2: st16(c, op, lin, (uint16_t)v); break;
    case 4: st32(c, op, lin, (uint32_t)v); break;
    default: st64(c, op, lin, v); break;
    }
}
static inline uint64_t rm_read(struct emu *c, const struct op *op, unsigned size)
{
    if (op->flags & OP_RM_MEM)
        return mem_load(c, op, op_linear(c, op, size, false), size);
    return reg_read(c, op->dst, size);
}

/* A read-modify-write of the rm operand: the new value and flags come from fn,
 * which must set flags in *c only. Locked when OP_LOCK. Returns the old value. */
typedef uint64_t rmw_fn(struct emu *c, const struct op *op, uint64_t old);
uint64_t rm_modify(struct emu *c, const struct op *op, unsigned size, rmw_fn *fn);
/* The same at a linear address that the caller computed. */
uint64_t rm_modify_at(struct emu *c, const struct op *op, uint64_t lin, unsigned size, rmw_fn *fn);

/* Stack address arithmetic by the stack's width. */
static inline uint64_t stack_mask(const struct emu *c)
{
    if (likely((c->mode & MODE_CODE_MASK) == MODE_CODE64))
        return UINT64_MAX;
    return c->mode & MODE_SS32 ? UINT32_MAX : UINT16_MAX;
}
static inline void stack_set(struct emu *c, uint64_t sp)
{
    uint64_t m = stack_mask(c);
    if (m == UINT32_MAX)
        c->gpr[R_RSP] = (uint32_t)sp;
    else
        c->gpr[R_RSP] = (c->gpr[R_RSP] & ~m) | (sp & m);
}
static inline uint64_t stack_linear(struct emu *c, const struct op *op, uint64_t sp, unsigned size,
                                    bool write)
{
    return seg_linear(c, op, SEG_SS, sp & stack_mask(c), size, write);
}
void push_value(struct emu *c, const struct op *op, uint64_t v, unsigned size);
/* The value at the top; the caller moves the pointer when nothing else can fault. */
uint64_t stack_top(struct emu *c, const struct op *op, unsigned size);

/* Ends the block before `op` is done: it runs again. */
void op_restart(struct emu *c, const struct op *op);

/* Near transfers: checks the target, then sets c->rip. */
void jump_near(struct emu *c, const struct op *op, uint64_t ip);

static inline void set_logic(struct emu *c, uint64_t r, unsigned size)
{
    c->cc_dst = r;
    c->cc_op = CC_LOGIC + size_log2(size);
}

#endif
