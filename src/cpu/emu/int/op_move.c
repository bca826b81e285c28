/* SPDX-License-Identifier: MIT
 * MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, BSWAP, CBW and its kin, XLAT. */
#include "int.h"

#define W8(c, o, v)  (R8(c, o) = (uint8_t)(v))
#define W16(c, o, v) (R16(c, o) = (uint16_t)(v))
#define W32(c, o, v) (R64(c, o) = (uint32_t)(v))
#define W64(c, o, v) (R64(c, o) = (uint64_t)(v))

#define DEF_MOV(bits)                                                                              \
    static void mov_rr##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        W##bits(c, op->dst, R##bits(c, op->src));                                                  \
        NEXT;                                                                                      \
    }                                                                                              \
    static void mov_ri##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        W##bits(c, op->dst, op->imm);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void mov_rm##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        uint##bits##_t v = ld##bits(c, op, op_linear(c, op, bits / 8, false));                     \
        W##bits(c, op->dst, v);                                                                    \
        NEXT;                                                                                      \
    }                                                                                              \
    static void mov_mr##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        st##bits(c, op, op_linear(c, op, bits / 8, true), R##bits(c, op->src));                    \
        NEXT;                                                                                      \
    }                                                                                              \
    static void mov_mi##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        st##bits(c, op, op_linear(c, op, bits / 8, true), (uint##bits##_t)op->imm);                \
        NEXT;                                                                                      \
    }
DEF_MOV(8)
DEF_MOV(16)
DEF_MOV(32)
DEF_MOV(64)

#define SIZES(name)                                                                                \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }
static op_fn *const mov[F_COUNT][4] = {
    [F_RR] = SIZES(mov_rr), [F_RI] = SIZES(mov_ri), [F_RM] = SIZES(mov_rm),
    [F_MR] = SIZES(mov_mr), [F_MI] = SIZES(mov_mi),
};

/* Extending moves: from `from` bits, kind zx or sx, to 16, 32 or 64 bits. */
#define DEF_EXTEND(kind, type, from, to)                                                           \
    static void kind##_rr##from##_##to(struct emu *c, const struct op *op)                         \
    {                                                                                              \
        W##to(c, op->dst, (type)R##from(c, op->src));                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void kind##_rm##from##_##to(struct emu *c, const struct op *op)                         \
    {                                                                                              \
        type v = (type)ld##from(c, op, op_linear(c, op, from / 8, false));                         \
        W##to(c, op->dst, v);                                                                      \
        NEXT;                                                                                      \
    }
#define DEF_EXTEND_ALL(kind, t8, t16, t32)                                                         \
    DEF_EXTEND(kind, t8, 8, 16)                                                                    \
    DEF_EXTEND(kind, t8, 8, 32)                                                                    \
    DEF_EXTEND(kind, t8, 8, 64)                                                                    \
    DEF_EXTEND(kind, t16, 16, 16)                                                                  \
    DEF_EXTEND(kind, t16, 16, 32)                                                                  \
    DEF_EXTEND(kind, t16, 16, 64)                                                                  \
    DEF_EXTEND(kind, t32, 32, 16)                                                                  \
    DEF_EXTEND(kind, t32, 32, 32)                                                                  \
    DEF_EXTEND(kind, t32, 32, 64)
DEF_EXTEND_ALL(zx, uint8_t, uint16_t, uint32_t)
DEF_EXTEND_ALL(sx, int8_t, int16_t, int32_t)
#define EXT_ROW(kind, form, from)                                                                  \
    {                                                                                              \
        kind##_##form##from##_16, kind##_##form##from##_32, kind##_##form##from##_64               \
    }
#define EXT_FORM(kind, form)                                                                       \
    {                                                                                              \
        EXT_ROW(kind, form, 8), EXT_ROW(kind, form, 16), EXT_ROW(kind, form, 32)                   \
    }
/* [sign][memory][log2 from][log2 to - 1] */
static op_fn *const extend[2][2][3][3] = {
    {EXT_FORM(zx, rr), EXT_FORM(zx, rm)},
    {EXT_FORM(sx, rr), EXT_FORM(sx, rm)},
};

static void lea64(struct emu *c, const struct op *op)
{
    R64(c, op->dst) = op_ea(c, op);
    NEXT;
}

static void lea(struct emu *c, const struct op *op)
{
    reg_write(c, op->dst, op->opsize, op_ea(c, op));
    NEXT;
}

/* CMOVcc reads its source even when the condition is false, and a 32-bit one
 * clears the upper half even then. */
static void op_cmov(struct emu *c, const struct op *op)
{
    uint64_t v;
    if (op->flags & OP_RM_MEM)
        v = mem_load(c, op, op_linear(c, op, op->opsize, false), op->opsize);
    else
        v = reg_read(c, op->src, op->opsize);
    if (!flags_cond(c, op->src2))
        v = reg_read(c, op->dst, op->opsize);
    reg_write(c, op->dst, op->opsize, v);
    NEXT;
}

static void op_setcc_reg(struct emu *c, const struct op *op)
{
    R8(c, op->dst) = flags_cond(c, op->src2);
    NEXT;
}

static void op_setcc_mem(struct emu *c, const struct op *op)
{
    st8(c, op, op_linear(c, op, 1, true), flags_cond(c, op->src2));
    NEXT;
}

static void op_bswap(struct emu *c, const struct op *op)
{
    if (op->opsize == 8)
        R64(c, op->dst) = __builtin_bswap64(R64(c, op->dst));
    else if (op->opsize == 4)
        R64(c, op->dst) = __builtin_bswap32(R32(c, op->dst));
    else
        R16(c, op->dst) = 0; /* undefined by the manual; what processors do */
    NEXT;
}

/* CBW CWDE CDQE, CWD CDQ CQO: src and dst sizes by opsize. */
static void op_extend_acc(struct emu *c, const struct op *op)
{
    reg_write(c, R_RAX * 8, op->opsize, (uint64_t)sign_extend(c->gpr[R_RAX], op->opsize / 2u));
    NEXT;
}

static void op_extend_dx(struct emu *c, const struct op *op)
{
    reg_write(c, R_RDX * 8, op->opsize, (uint64_t)(sign_extend(c->gpr[R_RAX], op->opsize) >> 63));
    NEXT;
}

static void op_xlat(struct emu *c, const struct op *op)
{
    uint64_t ea = c->gpr[R_RBX] + R8(c, R_RAX * 8);
    if (op->asize < 8)
        ea &= size_mask(op->asize);
    R8(c, R_RAX * 8) = ld8(c, op, seg_linear(c, op, op->seg, ea, 1, false));
    NEXT;
}

/* The condition code of CMOVcc/SETcc/Jcc is the low nibble of the opcode. */
static bool is_cmov(const struct insn *in)
{
    return in->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && in->zi.opcode >= 0x40 &&
           in->zi.opcode <= 0x4f && in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static bool is_setcc(const struct insn *in)
{
    return in->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && in->zi.opcode >= 0x90 &&
           in->zi.opcode <= 0x9f && in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static bool select_mov(struct insn *in, struct op *op)
{
    for (unsigned i = 0; i < 2; i++) {
        ZydisRegisterClass k = in->zop[i].type == ZYDIS_OPERAND_TYPE_REGISTER
                                   ? ZydisRegisterGetClass(in->zop[i].reg.value)
                                   : ZYDIS_REGCLASS_INVALID;
        if (k == ZYDIS_REGCLASS_SEGMENT || k == ZYDIS_REGCLASS_CONTROL ||
            k == ZYDIS_REGCLASS_DEBUG || k == ZYDIS_REGCLASS_TEST)
            return false;
    }
    enum form f = op_form(in, op);
    if (f == F_COUNT)
        return false;
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    op->fn = mov[f][size_log2(op->opsize)];
    return true;
}

static bool select_extend(struct insn *in, struct op *op, bool sign)
{
    bool memory = op_form(in, op) == F_RM;
    unsigned from = in->zop[1].size / 8, to = in->zop[0].size / 8;
    if (from > 4 || to < 2)
        return false;
    op->fn = extend[sign][memory][size_log2(from)][size_log2(to) - 1];
    return true;
}

bool select_move(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_MOV: return select_mov(in, op);
    case ZYDIS_MNEMONIC_MOVZX: return select_extend(in, op, false);
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD: return select_extend(in, op, true);
    case ZYDIS_MNEMONIC_LEA:
        op->dst = op_gpr(in->zop[0].reg.value);
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        op->fn = op->opsize == 8 && op->asize == 8 ? lea64 : lea;
        return true;
    case ZYDIS_MNEMONIC_BSWAP:
        op->dst = op_gpr(in->zop[0].reg.value);
        op->fn = op_bswap;
        return true;
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE: op->fn = op_extend_acc; return true;
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO: op->fn = op_extend_dx; return true;
    case ZYDIS_MNEMONIC_XLAT:
        op->seg = implicit_segment(in);
        op->fn = op_xlat;
        return true;
    default: break;
    }
    if (is_cmov(in)) {
        enum form f = op_form(in, op);
        op->src2 = in->zi.opcode & 15;
        op->flags |= f == F_RM ? OP_RM_MEM : 0;
        op->fn = op_cmov;
        return true;
    }
    if (is_setcc(in)) {
        op->src2 = in->zi.opcode & 15;
        if (in->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            op->fn = op_setcc_mem;
        } else {
            op->dst = op_gpr(in->zop[0].reg.value);
            op->fn = op_setcc_reg;
        }
        return true;
    }
    return false;
}
