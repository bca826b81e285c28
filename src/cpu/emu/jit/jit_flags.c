/* SPDX-License-Identifier: MIT
 * Liveness of the arithmetic flags. */
#include "asm.h"
#include "jit.h"
#include "../simd/thunk.h"

#define LOOK 24 /* instructions looked at behind a jump */

/* A shift or rotate whose count may be 0 leaves the flags. */
static bool may_leave_flags(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: break;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: return true;
    default:
        return zi->attributes &
               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    }
    return zop[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
           !(zop[1].imm.value.u & (zi->operand_width == 64 ? 63 : 31));
}

void flags_effect(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop, uint32_t *use,
                  uint32_t *def)
{
    const ZydisAccessedFlags *f = zi->cpu_flags;
    *use = *def = 0;
    if (!f)
        return;
    *use = f->tested & FL_ARITH;
    *def = (f->modified | f->set_0 | f->set_1 | f->undefined) & FL_ARITH;
    if (may_leave_flags(zi, zop))
        *def = 0;
}

/* It may fault, or saves all flags by itself (SYSCALL in R11, INT in a frame). */
static bool shows_flags(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop)
{
    switch (zi->meta.category) {
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_PKU:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_XSAVE: return true;
    default: break;
    }
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2: return true;
    default: break;
    }
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY && zop[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
            return true;
    return false;
}

/* #NM: a handler that skips it sees the flags of before. */
static bool uses_unit(const ZydisDecodedInstruction *zi)
{
    return simd_isa(zi->meta.isa_set) || zi->meta.category == ZYDIS_CATEGORY_X87_ALU;
}

uint32_t flags_live_at(const ZydisDecoder *dec, const uint8_t *page, unsigned off, uint64_t *lines)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    uint32_t live = 0, known = 0;

    for (unsigned i = 0; i < LOOK && off < 4096 && known != FL_ARITH; i++) {
        uint32_t use, def;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(dec, page + off, 4096 - off, &zi, zop)))
            break;
        *lines |= BIT64(off >> 6) | BIT64((off + zi.length - 1) >> 6);
        if (shows_flags(&zi, zop))
            break;
        flags_effect(&zi, zop, &use, &def);
        live |= use & ~known;
        if (def && uses_unit(&zi))
            break;
        known |= def;
        if (zi.meta.category == ZYDIS_CATEGORY_UNCOND_BR && zi.mnemonic == ZYDIS_MNEMONIC_JMP &&
            zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            int64_t to = (int64_t)off + zi.length + zop[0].imm.value.s;
            if (to < 0 || to > 4095)
                break;
            off = (unsigned)to;
            continue;
        }
        if (zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
            break;
        off += zi.length;
    }
    return live | (FL_ARITH & ~known);
}
