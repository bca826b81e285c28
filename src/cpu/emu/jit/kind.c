/* SPDX-License-Identifier: MIT
 * How an instruction is translated. */
#include "trans.h"
#include "../simd/thunk.h"

static bool is_copyable(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_PDEP:
    case ZYDIS_MNEMONIC_PEXT:
    case ZYDIS_MNEMONIC_RORX:
    case ZYDIS_MNEMONIC_SARX:
    case ZYDIS_MNEMONIC_SHLX:
    case ZYDIS_MNEMONIC_SHRX:
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADOX:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CMC: return true;
    default: break;
    }
    /* SETcc and CMOVcc. */
    return zi->opcode_map == ZYDIS_OPCODE_MAP_0F &&
           zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           ((zi->opcode & 0xf0) == 0x40 || (zi->opcode & 0xf0) == 0x90);
}

/* With a register as offset these reach memory beyond their operand. */
static bool is_bit_test(const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return ti->zop[0].type == ZYDIS_OPERAND_TYPE_REGISTER ||
               ti->zop[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    default: return false;
    }
}

const ZydisDecodedOperand *trans_memory(const struct tinsn *ti)
{
    for (unsigned i = 0; i < ti->zi.operand_count_visible; i++)
        if (ti->zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return &ti->zop[i];
    return NULL;
}

static bool needs_rex(int guest)
{
    return guest == 4 || guest >= 8;
}

/* A store that changes the registers of its own address: nobody could say later
 * where it went. */
static bool moves_its_address(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
    if (!(m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        return false;
    for (unsigned i = 0; i < ti->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &ti->zop[i];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        unsigned n = op_gpr(o->reg.value) / 8u;
        if ((m->mem.base != ZYDIS_REGISTER_NONE && n == op_gpr(m->mem.base) / 8u) ||
            (m->mem.index != ZYDIS_REGISTER_NONE && n == op_gpr(m->mem.index) / 8u))
            return true;
    }
    return false;
}

bool address_possible(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
    return ti->zi.address_width == 8 * insn_word(ti) &&
           (code64_insn(ti) ? ti->op.disp == (int32_t)ti->op.disp : ti->op.seg != SEG_CS) &&
           (m->mem.type == ZYDIS_MEMOP_TYPE_MEM || m->mem.type == ZYDIS_MEMOP_TYPE_AGEN);
}

static bool can_copy(const struct tinsn *ti, bool vector, bool x87)
{
    struct encoding e;
    const ZydisDecodedOperand *m = trans_memory(ti);
    unsigned most = vector ? 32 : ti->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B ? 16 : 8;
    if (!encoding_of(&e, &ti->zi, ti->zop, ti->bytes))
        return false;
    if (m && (!address_possible(ti, m) || ti->op.msize > most || !ti->op.msize ||
              moves_its_address(ti, m)))
        return false;
    if (!code64_insn(ti) && !narrow_same(ti))
        return false;
    /* Beside memory AH changes places with AL, which must not be named as well. */
    if (e.high8 &&
        (m ? ti->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG
           : e.low8 || ti->zi.raw.rex.W || needs_rex(e.reg) || needs_rex(e.rm) || needs_rex(e.opc)))
        return false;
    for (unsigned i = 0; i < ti->zi.operand_count; i++) {
        if (ti->zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(ti->zop[i].reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
        case ZYDIS_REGCLASS_FLAGS: break;
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
            if (vector)
                break;
            return false;
        case ZYDIS_REGCLASS_X87:
        case ZYDIS_REGCLASS_MMX:
        case ZYDIS_REGCLASS_INVALID: /* x87's status and control */
            if (x87)
                break;
            return false;
        default: return false;
        }
    }
    return true;
}

/* Vectors run as they are, but for what touches memory piecemeal or MXCSR. */
static bool is_vector(const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return false;
    default: break;
    }
    return ti->zi.mnemonic != ZYDIS_MNEMONIC_EMMS && simd_isa(ti->zi.meta.isa_set);
}

/* The operand must be aligned to its size, or the instruction raises #GP. */
bool trans_must_align(const struct tinsn *ti)
{
    if (ti->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B)
        return true;
    if (ti->kind != T_VECTOR)
        return false;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD: return true;
    default:
        return ti->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && ti->op.msize == 16 &&
               !simd_unaligned_ok(ti->zi.mnemonic);
    }
}

/* A general register that is as wide as addresses. */
static bool word_gpr(const struct tinsn *ti, const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(o->reg.value) ==
               (code64_insn(ti) ? ZYDIS_REGCLASS_GPR64 : ZYDIS_REGCLASS_GPR32);
}

static enum trans_kind branch_kind(const struct tinsn *ti)
{
    bool relative = ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    bool near = ti->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR ||
                ti->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT;
    bool indirect = near && ((word_gpr(ti, &ti->zop[0]) && op_gpr(ti->zop[0].reg.value) / 8 != 4) ||
                             (ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
                              ti->op.msize == insn_word(ti) && address_possible(ti, &ti->zop[0])));
    if (ti->op.opsize != insn_word(ti)) /* IP of 16 bits */
        return T_END;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_JMP: return relative ? T_JMP : indirect ? T_JMP_IND : T_END;
    case ZYDIS_MNEMONIC_CALL: return relative ? T_CALL : indirect ? T_CALL_IND : T_END;
    case ZYDIS_MNEMONIC_RET: return near ? T_RET : T_END;
    default: break;
    }
    bool jcc = ti->zi.meta.category == ZYDIS_CATEGORY_COND_BR && relative &&
               (ti->zi.opcode_map == ZYDIS_OPCODE_MAP_0F ? (ti->zi.opcode & 0xf0) == 0x80
                                                         : (ti->zi.opcode & 0xf0) == 0x70);
    return jcc ? T_JCC : T_END;
}

enum trans_kind trans_kind(struct emu *c, const struct tinsn *ti)
{
    if (trans_sys(c, ti))
        return T_SYS;
    if (ti->op.flags & OP_END)
        return ti->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ? branch_kind(ti) : T_END;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR64: return T_NOP;
    case ZYDIS_MNEMONIC_LEA:
        return address_possible(ti, &ti->zop[1]) && ti->zi.operand_width >= 32 ? T_LEA : T_CALLOUT;
    case ZYDIS_MNEMONIC_PUSH:
        if (ti->op.opsize == insn_word(ti) &&
            (word_gpr(ti, &ti->zop[0]) || ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
             (ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY && address_possible(ti, &ti->zop[0]))))
            return T_PUSH;
        return T_CALLOUT;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: {
        const ZydisDecodedOperand *m = trans_memory(ti);
        return !m || address_possible(ti, m) ? T_DIV : T_CALLOUT;
    }
    case ZYDIS_MNEMONIC_LEAVE: return ti->op.opsize == insn_word(ti) ? T_LEAVE : T_CALLOUT;
    case ZYDIS_MNEMONIC_POP:
        return ti->op.opsize == insn_word(ti) && word_gpr(ti, &ti->zop[0]) ? T_POP : T_CALLOUT;
    default: break;
    }
    if (ti->zi.meta.category == ZYDIS_CATEGORY_PREFETCH)
        return T_NOP;
    if (is_copyable(&ti->zi) || is_bit_test(ti))
        return can_copy(ti, false, false) && emu_runs_natively(c, ti->zi.meta.isa_set) ? T_COPY
                                                                                       : T_CALLOUT;
    if (trans_bit(ti))
        return T_BIT;
    if (trans_x87(ti))
        return jit_x87(c->vm->jit) && can_copy(ti, true, true) ? T_X87 : T_CALLOUT;
    return is_vector(ti) && can_copy(ti, true, false) ? T_VECTOR : T_CALLOUT;
}

/* Accesses whose check was another's cannot fault, but a store may turn out to
 * be to code, and the block be left. */
bool trans_may_fault(const struct tinsn *ti)
{
    if (ti->def && trans_simd(ti)) /* #NM: a handler that skips it sees the flags of before */
        return true;
    if (!ti->has_access)
        return ti->kind == T_CALL_IND || ti->kind == T_DIV || ti->kind == T_BIT ||
               trans_sys_faults(ti);
    return ti->lead < 0 || ti->m.write || ti->kind == T_CALL_IND || ti->kind == T_DIV ||
           trans_must_align(ti);
}
