/* SPDX-License-Identifier: MIT
 * Integer instructions: what their families share. */
#include "../block.h"
#include "int.h"

bool select_int(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    return select_move(in, op) || select_alu(in, op) || select_branch(in, op) ||
           select_stack(in, op) || select_shift(in, op) || select_muldiv(in, op) ||
           select_bit(in, op) || select_atomic(in, op) || select_string(in, op) ||
           select_decimal(in, op);
}

enum form op_form(const struct insn *in, struct op *op)
{
    const ZydisDecodedOperand *a = &in->zop[0], *b = &in->zop[1];
    if (in->zi.operand_count_visible < 2)
        return F_COUNT;
    if (a->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        op->dst = op_gpr(a->reg.value);
        switch (b->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER: op->src = op_gpr(b->reg.value); return F_RR;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: return F_RI;
        case ZYDIS_OPERAND_TYPE_MEMORY: return F_RM;
        default: return F_COUNT;
        }
    }
    if (a->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (b->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            op->src = op_gpr(b->reg.value);
            return F_MR;
        }
        return b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? F_MI : F_COUNT;
    }
    return F_COUNT;
}

uint8_t implicit_segment(const struct insn *in)
{
    ZydisInstructionAttributes a = in->zi.attributes;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        return SEG_FS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return SEG_GS;
    if (in->code_size == 8)
        return SEG_DS;
    return a & ZYDIS_ATTRIB_HAS_SEGMENT_CS   ? SEG_CS
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_SS ? SEG_SS
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? SEG_ES
                                             : SEG_DS;
}

GUEST_UNSEEN static bool cas(void *p, unsigned size, uint64_t old, uint64_t new)
{
    switch (size) {
    case 1: {
        uint8_t o = (uint8_t)old;
        return __atomic_compare_exchange_n((uint8_t *)p, &o, (uint8_t) new, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
    case 2: {
        uint16_t o = (uint16_t)old;
        return __atomic_compare_exchange_n((uint16_t *)p, &o, (uint16_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    case 4: {
        uint32_t o = (uint32_t)old;
        return __atomic_compare_exchange_n((uint32_t *)p, &o, (uint32_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    default:
        return __atomic_compare_exchange_n((uint64_t *)p, &old, new, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
}

static uint64_t get(const void *p, unsigned size)
{
    uint64_t v = 0;
    guest_copy(&v, p, size);
    return v;
}

uint64_t rm_modify(struct emu *c, const struct op *op, unsigned size, rmw_fn *fn)
{
    if (op->flags & OP_RM_MEM)
        return rm_modify_at(c, op, op_linear(c, op, size, true), size, fn);
    uint64_t old = reg_read(c, op->dst, size), new = fn(c, op, old);
    reg_write(c, op->dst, size, new);
    return old;
}

uint64_t rm_modify_at(struct emu *c, const struct op *op, uint64_t lin, unsigned size, rmw_fn *fn)
{
    uint64_t old, new;
    void *p = emu_rmw_ptr(c, op, lin, size);
    uint64_t dst = c->cc_dst, src = c->cc_src;
    uint32_t cc = c->cc_op;
    if (likely(p != NULL)) {
        if (op->flags & OP_LOCK) {
            for (;;) {
                old = get(p, size);
                c->cc_dst = dst;
                c->cc_src = src;
                c->cc_op = cc;
                new = fn(c, op, old);
                if (cas(p, size, old, new))
                    break;
            }
        } else {
            old = get(p, size);
            new = fn(c, op, old);
            guest_copy(p, &new, size);
        }
        emu_rmw_done(c, lin, size);
        return old;
    }
    /* Across a page border, or a device: a store may leave for the embedder, so
     * flags change only after it. */
    emu_probe_store(c, op, lin, size);
    emu_split_lock(c);
    old = mem_load(c, op, lin, size);
    new = fn(c, op, old);
    uint64_t ndst = c->cc_dst, nsrc = c->cc_src;
    uint32_t ncc = c->cc_op;
    c->cc_dst = dst;
    c->cc_src = src;
    c->cc_op = cc;
    mem_store(c, op, lin, size, new);
    c->cc_dst = ndst;
    c->cc_src = nsrc;
    c->cc_op = ncc;
    emu_split_unlock(c);
    return old;
}

void op_restart(struct emu *c, const struct op *op)
{
    uint64_t at = (uint64_t)(op - c->block->op);
    c->icount -= c->block->nops - at;
    c->rip = ip_wrap(c, op_ip(c, op));
    /* The count stands still, so the dispatcher looks at the clock by itself. */
    atomic_store_explicit(&c->icount_check, 0, memory_order_relaxed);
}
