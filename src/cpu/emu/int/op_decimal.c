/* SPDX-License-Identifier: MIT
 * Decimal adjustment, flag bits, BOUND, SALC, UD: the small old ones. */
#include "int.h"

#define AL (*(uint8_t *)&c->gpr[R_RAX])
#define AH (*((uint8_t *)&c->gpr[R_RAX] + 1))

static void set_result_flags(struct emu *c, uint8_t al, bool cf, bool af)
{
    set_logic(c, al, 1);
    uint32_t f = flags_arith(c) & ~(FL_CF | FL_AF | FL_OF);
    flags_set_arith(c, f | (cf ? FL_CF : 0) | (af ? FL_AF : 0));
}

static void decimal(struct emu *c, bool subtract)
{
    uint32_t f = flags_arith(c);
    uint8_t old = AL;
    bool af = (old & 15) > 9 || f & FL_AF, cf = old > 0x99 || f & FL_CF;
    uint8_t fix = (uint8_t)((af ? 6 : 0) + (cf ? 0x60 : 0));
    bool carry = cf;
    if (subtract && af && old < 6)
        carry = true;
    AL = (uint8_t)(subtract ? old - fix : old + fix);
    set_result_flags(c, AL, carry, af);
}

static void op_daa(struct emu *c, const struct op *op)
{
    decimal(c, false);
    NEXT;
}

static void op_das(struct emu *c, const struct op *op)
{
    decimal(c, true);
    NEXT;
}

static void ascii(struct emu *c, int sign)
{
    bool adjust = (AL & 15) > 9 || flags_arith(c) & FL_AF;
    if (adjust)
        R16(c, R_RAX * 8) = (uint16_t)(R16(c, R_RAX * 8) + sign * 0x106);
    AL &= 15;
    set_result_flags(c, AL, adjust, adjust);
}

static void op_aaa(struct emu *c, const struct op *op)
{
    ascii(c, 1);
    NEXT;
}

static void op_aas(struct emu *c, const struct op *op)
{
    ascii(c, -1);
    NEXT;
}

static void op_aam(struct emu *c, const struct op *op)
{
    uint8_t base = (uint8_t)op->imm, v = AL;
    if (!base) {
        emu_at(c, op);
        emu_raise(c, EXC_DE);
    }
    AH = v / base;
    AL = v % base;
    set_result_flags(c, AL, false, false);
    NEXT;
}

static void op_aad(struct emu *c, const struct op *op)
{
    AL = (uint8_t)(AL + AH * (uint8_t)op->imm);
    AH = 0;
    set_result_flags(c, AL, false, false);
    NEXT;
}

static void op_salc(struct emu *c, const struct op *op)
{
    AL = flags_arith(c) & FL_CF ? 0xff : 0;
    NEXT;
}

static void op_bound(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    uint64_t lin = op_linear(c, op, 2 * n, false);
    int64_t lo = sign_extend(mem_load(c, op, lin, n), n);
    int64_t hi = sign_extend(mem_load(c, op, lin + n, n), n);
    int64_t v = sign_extend(reg_read(c, op->dst, n), n);
    if (v < lo || v > hi) {
        emu_at(c, op);
        emu_raise(c, EXC_BR);
    }
    NEXT;
}

static void op_clc(struct emu *c, const struct op *op)
{
    flags_set_arith(c, flags_arith(c) & ~FL_CF);
    NEXT;
}

static void op_stc(struct emu *c, const struct op *op)
{
    flags_set_arith(c, flags_arith(c) | FL_CF);
    NEXT;
}

static void op_cmc(struct emu *c, const struct op *op)
{
    flags_set_arith(c, flags_arith(c) ^ FL_CF);
    NEXT;
}

static void op_cld(struct emu *c, const struct op *op)
{
    c->rflags &= ~FL_DF;
    NEXT;
}

static void op_std(struct emu *c, const struct op *op)
{
    c->rflags |= FL_DF;
    NEXT;
}

static void op_lahf(struct emu *c, const struct op *op)
{
    AH = (uint8_t)((flags_shown(c, op) & 0xd5) | 2);
    NEXT;
}

static void op_sahf(struct emu *c, const struct op *op)
{
    flags_set_arith(c, (flags_arith(c) & FL_OF) | (AH & ~FL_OF));
    NEXT;
}

static void op_undefined(struct emu *c, const struct op *op)
{
    emu_ud(c, op);
}

bool select_decimal(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_DAA: op->fn = op_daa; break;
    case ZYDIS_MNEMONIC_DAS: op->fn = op_das; break;
    case ZYDIS_MNEMONIC_AAA: op->fn = op_aaa; break;
    case ZYDIS_MNEMONIC_AAS: op->fn = op_aas; break;
    case ZYDIS_MNEMONIC_AAM: op->fn = op_aam; break;
    case ZYDIS_MNEMONIC_AAD: op->fn = op_aad; break;
    case ZYDIS_MNEMONIC_SALC: op->fn = op_salc; break;
    case ZYDIS_MNEMONIC_BOUND:
        op->dst = op_gpr(in->zop[0].reg.value);
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        op->fn = op_bound;
        break;
    case ZYDIS_MNEMONIC_CLC: op->fn = op_clc; break;
    case ZYDIS_MNEMONIC_STC: op->fn = op_stc; break;
    case ZYDIS_MNEMONIC_CMC: op->fn = op_cmc; break;
    case ZYDIS_MNEMONIC_CLD: op->fn = op_cld; break;
    case ZYDIS_MNEMONIC_STD: op->fn = op_std; break;
    case ZYDIS_MNEMONIC_LAHF: op->fn = op_lahf; break;
    case ZYDIS_MNEMONIC_SAHF: op->fn = op_sahf; break;
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
        op->fn = op_undefined;
        in->ends_block = true;
        break;
    default: return false;
    }
    return true;
}
