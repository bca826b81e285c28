/* SPDX-License-Identifier: MIT
 * MUL IMUL DIV IDIV. */
#include "int.h"

static void set_mul(struct emu *c, bool overflow, uint64_t low, unsigned size)
{
    /* SF, ZF, AF, PF are undefined: as if from the low half. */
    set_logic(c, low & size_mask(size), size);
    uint32_t f = flags_arith(c);
    flags_set_arith(c, f | (overflow ? FL_CF | FL_OF : 0));
}

static void put_product(struct emu *c, unsigned size, unsigned __int128 p)
{
    if (size == 1) {
        R16(c, R_RAX * 8) = (uint16_t)p;
    } else {
        reg_write(c, R_RAX * 8, size, (uint64_t)p);
        reg_write(c, R_RDX * 8, size, (uint64_t)(p >> (size * 8)));
    }
}

static void op_mul(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    unsigned __int128 p = (unsigned __int128)rm_read(c, op, n) * reg_read(c, R_RAX * 8, n);
    put_product(c, n, p);
    set_mul(c, (uint64_t)(p >> (n * 8)) != 0, (uint64_t)p, n);
    NEXT;
}

static void op_imul1(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    __int128 p =
        (__int128)sign_extend(rm_read(c, op, n), n) * sign_extend(reg_read(c, R_RAX * 8, n), n);
    put_product(c, n, (unsigned __int128)p);
    set_mul(c, p != sign_extend((uint64_t)p, n), (uint64_t)p, n);
    NEXT;
}

/* Two and three operands: dst = a * b. src2: the destination. */
static inline void imul_into(struct emu *c, const struct op *op, uint64_t a, uint64_t b)
{
    unsigned n = op->opsize;
    __int128 p = (__int128)sign_extend(a, n) * sign_extend(b, n);
    reg_write(c, op->src2, n, (uint64_t)p);
    set_mul(c, p != sign_extend((uint64_t)p, n), (uint64_t)p, n);
}

static void op_imul2(struct emu *c, const struct op *op)
{
    imul_into(c, op, rm_read(c, op, op->opsize), reg_read(c, op->src2, op->opsize));
    NEXT;
}

static void op_imul3(struct emu *c, const struct op *op)
{
    imul_into(c, op, rm_read(c, op, op->opsize), op->imm);
    NEXT;
}

static _Noreturn void divide_error(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise(c, EXC_DE);
}

static void put_quotient(struct emu *c, unsigned size, uint64_t q, uint64_t r)
{
    if (size == 1) {
        R8(c, R_RAX * 8) = (uint8_t)q;
        R8(c, R_RAX * 8 + 1) = (uint8_t)r;
    } else {
        reg_write(c, R_RAX * 8, size, q);
        reg_write(c, R_RDX * 8, size, r);
    }
}

static void op_div(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    uint64_t d = rm_read(c, op, n), q, r;
    if (!d)
        divide_error(c, op);
    if (n == 8) {
        uint64_t hi = c->gpr[R_RDX];
        if (hi >= d)
            divide_error(c, op);
        unsigned __int128 v = (unsigned __int128)hi << 64 | c->gpr[R_RAX];
        q = (uint64_t)(v / d);
        r = (uint64_t)(v % d);
    } else {
        uint64_t v = n == 1 ? R16(c, R_RAX * 8)
                            : reg_read(c, R_RDX * 8, n) << (n * 8) | reg_read(c, R_RAX * 8, n);
        q = v / d;
        r = v % d;
        if (q > size_mask(n))
            divide_error(c, op);
    }
    put_quotient(c, n, q, r);
    NEXT;
}

static void op_idiv(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    int64_t d = sign_extend(rm_read(c, op, n), n);
    __int128 v, q, r;
    if (!d)
        divide_error(c, op);
    if (n == 8)
        v = (__int128)((unsigned __int128)c->gpr[R_RDX] << 64 | c->gpr[R_RAX]);
    else if (n == 1)
        v = (int16_t)R16(c, R_RAX * 8);
    else
        v = sign_extend(reg_read(c, R_RDX * 8, n) << (n * 8) | reg_read(c, R_RAX * 8, n), n * 2);
    /* The one quotient that does not fit into 128 bits. */
    if (d == -1 && v == (__int128)((unsigned __int128)1 << 127))
        divide_error(c, op);
    q = v / d;
    r = v % d;
    if (q != sign_extend((uint64_t)q, n))
        divide_error(c, op);
    put_quotient(c, n, (uint64_t)q, (uint64_t)r);
    NEXT;
}

static void rm_operand(const ZydisDecodedOperand *z, struct op *op)
{
    if (z->type == ZYDIS_OPERAND_TYPE_MEMORY)
        op->flags |= OP_RM_MEM;
    else
        op->dst = op_gpr(z->reg.value);
}

bool select_muldiv(struct insn *in, struct op *op)
{
    unsigned visible = in->zi.operand_count_visible;
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_MUL: op->fn = op_mul; break;
    case ZYDIS_MNEMONIC_DIV: op->fn = op_div; break;
    case ZYDIS_MNEMONIC_IDIV: op->fn = op_idiv; break;
    case ZYDIS_MNEMONIC_IMUL:
        if (visible == 1) {
            op->fn = op_imul1;
            break;
        }
        op->src2 = op_gpr(in->zop[0].reg.value);
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        rm_operand(&in->zop[1], op);
        op->fn = visible == 2 ? op_imul2 : op_imul3;
        return true;
    default: return false;
    }
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    rm_operand(&in->zop[0], op);
    return true;
}
