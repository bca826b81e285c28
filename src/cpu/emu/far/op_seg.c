/* SPDX-License-Identifier: MIT
 * MOV, PUSH and POP of segment registers; LDS, LES, LFS, LGS, LSS (SDM volume 2;
 * volume 3, 5.6 and 5.7). */
#include "far.h"
#include "../block.h"
#include "../int/int.h"

/* POP SS and MOV SS hold off interrupts and debug traps until the next
 * instruction is done (SDM 6.8.3). */
static void ss_done(struct emu *c, const struct op *op)
{
    c->shadow = 2;
    far_done(c, op_next_ip(c, op));
}

static uint16_t selector_operand(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    return op->flags & OP_RM_MEM ? ld16(c, op, op_linear(c, op, 2, false)) : R16(c, op->src);
}

/* The end of a load of DS, ES, FS or GS: the block goes on unless that changed the
 * mode. */
static inline void data_done(struct emu *c, const struct op *op)
{
    if (unlikely(emu_segment_loaded(c))) {
        c->icount -= c->block->nops - (uint64_t)(op - c->block->op) - 1;
        c->rip = op_next_ip(c, op);
        return;
    }
    NEXT;
}

static void do_mov_to_seg(struct emu *c, const struct op *op)
{
    seg_load(c, op->dst, selector_operand(c, op));
    data_done(c, op);
}

static void do_mov_to_ss(struct emu *c, const struct op *op)
{
    seg_load(c, SEG_SS, selector_operand(c, op));
    ss_done(c, op);
}

static void do_mov_from_seg(struct emu *c, const struct op *op)
{
    uint16_t sel = c->seg[op->src].sel;

    if (op->flags & OP_RM_MEM)
        st16(c, op, op_linear(c, op, 2, true), sel);
    else
        reg_write(c, op->dst, op->opsize, sel);
    NEXT;
}

static void do_push_seg(struct emu *c, const struct op *op)
{
    push_value(c, op, c->seg[op->src].sel, op->opsize);
    NEXT;
}

static void do_pop_seg(struct emu *c, const struct op *op)
{
    uint16_t sel = (uint16_t)stack_top(c, op, op->opsize);

    emu_at(c, op);
    seg_load(c, op->dst, sel);
    stack_set(c, c->gpr[R_RSP] + op->opsize);
    data_done(c, op);
}

static void do_pop_ss(struct emu *c, const struct op *op)
{
    uint16_t sel = (uint16_t)stack_top(c, op, op->opsize);

    emu_at(c, op);
    seg_load(c, SEG_SS, sel);
    stack_set(c, c->gpr[R_RSP] + op->opsize); /* by the old width: c->mode is of before */
    ss_done(c, op);
}

/* Not inlined: its locals' addresses escape, and the handler ends in a tail call. */
static __attribute__((noinline)) void load_pointer(struct emu *c, const struct op *op)
{
    uint64_t off;
    uint16_t sel = far_load(c, op, &off);

    emu_at(c, op);
    seg_load(c, op->src, sel);
    reg_write(c, op->dst, op->opsize, off);
}

static void do_load_pointer(struct emu *c, const struct op *op)
{
    load_pointer(c, op);
    data_done(c, op);
}

static void do_load_ss_pointer(struct emu *c, const struct op *op)
{
    load_pointer(c, op);
    far_done(c, op_next_ip(c, op));
}

/* ---- selection ------------------------------------------------------------------- */

/* The segment register an operand names; SEG_COUNT: none. */
static unsigned operand_seg(const ZydisDecodedOperand *z)
{
    if (z->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return SEG_COUNT;
    switch (z->reg.value) {
    case ZYDIS_REGISTER_ES: return SEG_ES;
    case ZYDIS_REGISTER_CS: return SEG_CS;
    case ZYDIS_REGISTER_SS: return SEG_SS;
    case ZYDIS_REGISTER_DS: return SEG_DS;
    case ZYDIS_REGISTER_FS: return SEG_FS;
    case ZYDIS_REGISTER_GS: return SEG_GS;
    default: return SEG_COUNT;
    }
}

static bool select_mov(struct insn *in, struct op *op)
{
    unsigned to = operand_seg(&in->zop[0]), from = operand_seg(&in->zop[1]);
    const ZydisDecodedOperand *rm = &in->zop[to < SEG_COUNT ? 1 : 0];

    if (to >= SEG_COUNT && from >= SEG_COUNT)
        return false;
    if (to == SEG_CS)
        return false; /* #UD */
    if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY)
        op->flags |= OP_RM_MEM;
    if (to < SEG_COUNT) {
        op->dst = (uint8_t)to;
        op->src =
            op_gpr(rm->type == ZYDIS_OPERAND_TYPE_REGISTER ? rm->reg.value : ZYDIS_REGISTER_NONE);
        op->fn = to == SEG_SS ? do_mov_to_ss : do_mov_to_seg;
        in->ends_block = to == SEG_SS;
    } else {
        op->src = (uint8_t)from;
        if (!(op->flags & OP_RM_MEM)) {
            op->dst = op_gpr(rm->reg.value);
            op->opsize = (uint8_t)(rm->size / 8);
        }
        op->fn = do_mov_from_seg;
    }
    return true;
}

static bool select_push_pop(struct insn *in, struct op *op)
{
    unsigned seg = operand_seg(&in->zop[0]);

    if (seg >= SEG_COUNT)
        return false;
    op->seg = SEG_SS;
    if (in->zi.mnemonic == ZYDIS_MNEMONIC_PUSH) {
        op->src = (uint8_t)seg;
        op->fn = do_push_seg;
        return true;
    }
    op->dst = (uint8_t)seg;
    op->fn = seg == SEG_SS ? do_pop_ss : do_pop_seg;
    in->ends_block = seg == SEG_SS;
    return true;
}

static bool select_pointer(struct insn *in, struct op *op, unsigned seg)
{
    op->dst = op_gpr(in->zop[0].reg.value);
    op->src = (uint8_t)seg;
    op->fn = seg == SEG_SS ? do_load_ss_pointer : do_load_pointer;
    in->ends_block = seg == SEG_SS;
    return true;
}

bool select_seg(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOV: return select_mov(in, op);
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP: return select_push_pop(in, op);
    case ZYDIS_MNEMONIC_LES: return select_pointer(in, op, SEG_ES);
    case ZYDIS_MNEMONIC_LDS: return select_pointer(in, op, SEG_DS);
    case ZYDIS_MNEMONIC_LSS: return select_pointer(in, op, SEG_SS);
    case ZYDIS_MNEMONIC_LFS: return select_pointer(in, op, SEG_FS);
    case ZYDIS_MNEMONIC_LGS: return select_pointer(in, op, SEG_GS);
    default: return false;
    }
}
