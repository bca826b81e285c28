/* SPDX-License-Identifier: MIT
 * Writing a guest instruction again with host registers in place of the guest's
 * and a host operand in place of its memory operand (SDM volume 2, chapter 2). */
#include "encode.h"

static int gpr_number(ZydisRegister reg, struct encoding *e)
{
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        e->high8 = true; /* of a register that has its own number: the field stays */
        return -1;
    }
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
        if (reg >= ZYDIS_REGISTER_SPL)
            e->low8 = true;
        break;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: break;
    default: return -1;
    }
    return op_gpr(reg) / 8;
}

/* Its number with the bit that REX or VEX adds. */
static void vector_field(struct encoding *e, const ZydisDecodedOperand *o)
{
    unsigned n = (unsigned)ZydisRegisterGetId(o->reg.value);
    e->vector = true;
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: e->v_reg = n; break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: e->v_rm = n; break;
    default: break; /* VEX.vvvv and imm8 are copied as they are */
    }
}

bool encoding_of(struct encoding *e, const ZydisDecodedInstruction *zi,
                 const ZydisDecodedOperand *zop, const uint8_t *bytes)
{
    *e = (struct encoding){.zi = zi, .bytes = bytes, .reg = -1, .rm = -1, .opc = -1, .vvvv = -1};
    if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return false;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &zop[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
                return false;
            e->has_mem = true;
            continue;
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
        if (k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM) {
            vector_field(e, o);
            continue;
        }
        int n = gpr_number(o->reg.value, e);
        switch (o->encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG: e->reg = n; break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM: e->rm = n; break;
        case ZYDIS_OPERAND_ENCODING_OPCODE: e->opc = n; break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD: e->vvvv = n; break;
        default:
            /* An implicit register must be where the guest's is. */
            if (n == 4 || (n >= 8 && n <= 11))
                return false;
            break;
        }
    }
    return true;
}

static void put_legacy_prefixes(struct asmbuf *a, const ZydisDecodedInstruction *zi)
{
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        unsigned v = zi->raw.prefixes[i].value;
        if (v == 0x66 || v == 0xf2 || v == 0xf3 || v == 0xf0)
            put8(a, v);
    }
}

static void put_opcode_map(struct asmbuf *a, ZydisOpcodeMap map)
{
    if (map == ZYDIS_OPCODE_MAP_0F || map == ZYDIS_OPCODE_MAP_0F38 || map == ZYDIS_OPCODE_MAP_0F3A)
        put8(a, 0x0f);
    if (map == ZYDIS_OPCODE_MAP_0F38)
        put8(a, 0x38);
    if (map == ZYDIS_OPCODE_MAP_0F3A)
        put8(a, 0x3a);
}

static void put_tail(struct asmbuf *a, const ZydisDecodedInstruction *zi, const uint8_t *bytes)
{
    if (zi->raw.imm[0].size)
        for (unsigned i = zi->raw.imm[0].offset; i < zi->length; i++)
            put8(a, bytes[i]);
}

/* INC and DEC in one byte, which is a REX prefix in 64-bit mode. */
static bool is_short_inc(const ZydisDecodedInstruction *zi)
{
    return zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && (zi->opcode & 0xf0) == 0x40;
}

bool encoding_put(struct asmbuf *a, const struct encoding *e)
{
    const ZydisDecodedInstruction *zi = e->zi;
    bool modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    unsigned reg = e->reg >= 0 ? e->h_reg : modrm ? zi->raw.modrm.reg | (e->v_reg & 8) : 0;
    unsigned rm = e->rm >= 0 ? e->h_rm : zi->raw.modrm.rm | (e->v_rm & 8);
    unsigned xb = e->has_mem ? hmem_rex(&e->mem) : rm >> 3;
    unsigned opcode = zi->opcode;
    bool moffs = e->has_mem && !modrm, inc = is_short_inc(zi);
    if (moffs) { /* MOV AL/rAX, moffs: as MOV reg, rm or the other way round */
        if (zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (opcode & 0xfc) != 0xa0)
            return false;
        opcode = 0x88 | (~opcode & 2) | (opcode & 1);
    }

    if (e->has_mem && e->mem.gs)
        put8(a, 0x65);
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        unsigned vvvv = e->vvvv >= 0 ? e->h_vvvv : ~(unsigned)zi->raw.vex.vvvv & 15u;
        put8(a, 0xc4);
        put8(a, (reg & 8 ? 0 : 0x80u) | ((~xb & 3u) << 5) | zi->raw.vex.m_mmmm);
        put8(a, (unsigned)zi->raw.vex.W << 7 | (~vvvv & 15u) << 3 | (unsigned)zi->raw.vex.L << 2 |
                    zi->raw.vex.pp);
        put8(a, zi->opcode);
    } else {
        unsigned rex = zi->raw.rex.W ? 8 : 0;
        unsigned opc = e->opc >= 0 ? e->h_opc : 0;
        if (modrm || moffs)
            rex |= (reg & 8 ? 4u : 0) | xb;
        if (e->opc >= 0)
            rex |= opc & 8 ? 1u : 0;
        if (e->high8) {
            if (rex)
                return false;
        } else if (rex || e->low8) {
            rex |= 0x40;
        }
        put_legacy_prefixes(a, zi);
        if (rex)
            put8(a, rex);
        put_opcode_map(a, zi->opcode_map);
        if (inc) /* FF /0, or /1 for DEC */
            put8(a, 0xff), put8(a, 0xc0u | (opcode & 8) | (opc & 7));
        else
            put8(a, e->opc >= 0 ? (opcode & 0xf8u) | (opc & 7) : opcode);
    }
    if (e->has_mem)
        put_hmem(a, reg, &e->mem);
    else if (modrm)
        put8(a, 0xc0u | (reg & 7) << 3 | (rm & 7));
    put_tail(a, zi, e->bytes);
    return !a->full;
}
