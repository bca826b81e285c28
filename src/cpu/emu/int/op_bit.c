/* SPDX-License-Identifier: MIT
 * BT BTS BTR BTC, BSF BSR. */
#include "int.h"

/* src2 of BT*: which. A register offset reaches beyond the operand in memory:
 * it is signed and moves the address by whole operands. */
enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static uint64_t bit_result(unsigned kind, uint64_t v, uint64_t bit)
{
    switch (kind) {
    case BIT_SET: return v | bit;
    case BIT_RESET: return v & ~bit;
    case BIT_COMPLEMENT: return v ^ bit;
    default: return v;
    }
}

static void set_cf(struct emu *c, bool cf)
{
    flags_set_arith(c, (flags_arith(c) & ~FL_CF) | (cf ? FL_CF : 0));
}

static uint64_t bit_offset(struct emu *c, const struct op *op)
{
    return op->flags & OP_USER2 ? op->imm & 0xff : reg_read(c, op->src, op->opsize);
}

static void bt_reg(struct emu *c, const struct op *op)
{
    uint64_t n = bit_offset(c, op) & (op->opsize * 8u - 1), v = reg_read(c, op->dst, op->opsize);
    set_cf(c, v >> n & 1);
    if (op->src2 != BIT_TEST)
        reg_write(c, op->dst, op->opsize, bit_result(op->src2, v, BIT64(n)));
    NEXT;
}

static uint64_t modify_bit(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t n = bit_offset(c, op) & (op->opsize * 8u - 1);
    set_cf(c, old >> n & 1);
    return bit_result(op->src2, old, BIT64(n));
}

static void bt_mem(struct emu *c, const struct op *op)
{
    unsigned size = op->opsize;
    struct op at = *op; /* the same with the address moved */
    if (!(op->flags & OP_USER2)) {
        int64_t off = sign_extend(bit_offset(c, op), size);
        at.disp += (off >> (3 + size_log2(size))) * (int64_t)size;
    }
    emu_at(c, op);
    if (op->src2 == BIT_TEST) {
        uint64_t lin = seg_linear(c, op, op->seg, op_ea(c, &at), size, false);
        uint64_t v = mem_load(c, op, lin, size);
        set_cf(c, v >> (bit_offset(c, op) & (size * 8u - 1)) & 1);
        NEXT;
    }
    rm_modify_at(c, op, seg_linear(c, op, op->seg, op_ea(c, &at), size, true), size, modify_bit);
    NEXT;
}

/* A zero source leaves the destination and sets ZF. */
static inline void scan(struct emu *c, const struct op *op, bool reverse)
{
    uint64_t v = op->flags & OP_RM_MEM
                     ? mem_load(c, op, op_linear(c, op, op->opsize, false), op->opsize)
                     : reg_read(c, op->src, op->opsize);
    set_logic(c, v, op->opsize);
    if (v)
        reg_write(c, op->dst, op->opsize,
                  (uint64_t)(reverse ? 63 - __builtin_clzll(v) : __builtin_ctzll(v)));
}

static void op_bsf(struct emu *c, const struct op *op)
{
    scan(c, op, false);
    NEXT;
}

static void op_bsr(struct emu *c, const struct op *op)
{
    scan(c, op, true);
    NEXT;
}

bool select_bit(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_BT: op->src2 = BIT_TEST; break;
    case ZYDIS_MNEMONIC_BTS: op->src2 = BIT_SET; break;
    case ZYDIS_MNEMONIC_BTR: op->src2 = BIT_RESET; break;
    case ZYDIS_MNEMONIC_BTC: op->src2 = BIT_COMPLEMENT; break;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
        op->flags |= op_form(in, op) == F_RM ? OP_RM_MEM : 0;
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        op->fn = op->mnemonic == ZYDIS_MNEMONIC_BSF ? op_bsf : op_bsr;
        return true;
    default: return false;
    }
    enum form f = op_form(in, op);
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    if (f == F_RI || f == F_MI)
        op->flags |= OP_USER2;
    op->fn = f == F_RR || f == F_RI ? bt_reg : bt_mem;
    if (op->fn == bt_mem)
        op->flags |= OP_RM_MEM;
    return true;
}
