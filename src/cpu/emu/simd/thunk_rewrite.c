/* SPDX-License-Identifier: MIT
 * Rewriting an instruction for the host: other registers, [rsi] for memory, no
 * prefix that does not matter. */
#include "thunk_reg.h"

/* The fields of an encoding that name operands. */
struct fields {
    uint8_t reg, rm, vvvv; /* register numbers */
    uint8_t imm, imm_len;
    bool mem, gpr;
};

/* Collects them, with host registers in place of the guest's general ones. */
static bool collect(const struct insn *in, struct op *op, struct fields *f)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    *f = (struct fields){.reg = zi->raw.modrm.reg, .rm = zi->raw.modrm.rm};
    op->dst = op->src = NO_GPR;
    if (zi->raw.imm[1].size || (zi->raw.imm[0].size && zi->raw.imm[0].size != 8))
        return false;
    f->imm_len = zi->raw.imm[0].size / 8;
    f->imm = (uint8_t)zi->raw.imm[0].value.u;

    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &in->zop[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
                o->mem.type != ZYDIS_MEMOP_TYPE_MEM)
                return false;
            f->mem = true;
            continue;
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || o->encoding == ZYDIS_OPERAND_ENCODING_NONE)
            continue; /* implied ones stay what they are */
        ZydisRegister r = o->reg.value;
        uint8_t id = (uint8_t)ZydisRegisterGetId(r);
        bool gpr = is_gpr(r);
        if (!gpr && !is_vector(r) && !is_x87(r))
            return false;
        switch (o->encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG:
            f->reg = gpr ? HOST_RAX : id;
            if (gpr)
                op->dst = op_gpr(r);
            break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM:
            f->rm = gpr ? HOST_RCX : id;
            if (gpr)
                op->src = op_gpr(r);
            break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD:
            if (gpr)
                return false;
            f->vvvv = id;
            break;
        case ZYDIS_OPERAND_ENCODING_IS4: /* outside 64-bit mode bit 7 is ignored */
            f->imm = (uint8_t)(id << 4 | (f->imm & 0xf));
            break;
        default: return false;
        }
        f->gpr |= gpr;
    }
    if (f->mem)
        f->rm = HOST_RSI;
    return true;
}

/* VEX.W is ignored outside 64-bit mode where it would make a general register,
 * or the memory in its place, 64 bits wide (SDM 2.3.5.6). */
static bool vex_w(const struct insn *in, const struct fields *f)
{
    if (!in->zi.raw.vex.W || in->code_size == 8)
        return in->zi.raw.vex.W;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD: return false;
    default: return !f->gpr;
    }
}

static uint8_t modrm_of(const struct fields *f)
{
    return (uint8_t)((f->mem ? 0 : 0xc0) | (f->reg & 7) << 3 | (f->rm & 7));
}

static unsigned put_vex(uint8_t *p, const struct insn *in, const struct fields *f)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    p[0] = 0xc4;
    p[1] = (uint8_t)((f->reg < 8) << 7 | 1 << 6 | (f->rm < 8) << 5 | zi->raw.vex.m_mmmm);
    p[2] = (uint8_t)(vex_w(in, f) << 7 | (~f->vvvv & 15) << 3 | (zi->raw.vex.L & 1) << 2 |
                     zi->raw.vex.pp);
    p[3] = zi->opcode;
    p[4] = modrm_of(f);
    return 5;
}

static unsigned put_legacy(uint8_t *p, const struct insn *in, const struct fields *f)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    unsigned n = 0;
    uint8_t rep = 0;
    bool opsize = false;
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        uint8_t b = zi->raw.prefixes[i].value;
        if (b == 0x66)
            opsize = true;
        else if (b == 0xf2 || b == 0xf3)
            rep = b; /* the last one counts */
    }
    if (opsize)
        p[n++] = 0x66;
    if (rep)
        p[n++] = rep;
    uint8_t rex =
        (uint8_t)((in->code_size == 8 && zi->raw.rex.W) << 3 | (f->reg > 7) << 2 | (f->rm > 7));
    if (rex)
        p[n++] = 0x40 | rex;
    switch (zi->opcode_map) {
    case ZYDIS_OPCODE_MAP_DEFAULT: break;
    case ZYDIS_OPCODE_MAP_0F: p[n++] = 0x0f; break;
    case ZYDIS_OPCODE_MAP_0F38:
        p[n++] = 0x0f;
        p[n++] = 0x38;
        break;
    case ZYDIS_OPCODE_MAP_0F3A:
        p[n++] = 0x0f;
        p[n++] = 0x3a;
        break;
    default: return 0;
    }
    p[n++] = zi->opcode;
    p[n++] = modrm_of(f);
    return n;
}

bool thunk_rewrite(const struct insn *in, struct op *op)
{
    struct fields f;
    uint8_t b[16] = {0};
    unsigned n = 0;
    if (!(in->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
        if (in->zi.mnemonic != ZYDIS_MNEMONIC_EMMS) /* the only one without operands */
            return false;
        b[0] = 0x0f;
        b[1] = 0x77;
        memcpy(&op->imm, b, sizeof op->imm);
        op->dst = op->src = NO_GPR;
        return true;
    }
    if (!collect(in, op, &f))
        return false;
    if (in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        n = put_vex(b, in, &f);
    else if (in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        n = put_legacy(b, in, &f);
    if (!n)
        return false;
    if (f.imm_len)
        b[n++] = f.imm;
    if (n > THUNK_INSN_MAX)
        return false;
    memcpy(&op->imm, b, sizeof op->imm);
    return true;
}
