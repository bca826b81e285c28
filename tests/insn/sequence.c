/* SPDX-License-Identifier: MIT
 * Straight runs of random instructions: flags that are worked out late, blocks of several
 * instructions, and what one instruction leaves for the next. Memory operands go through a register
 * that nothing in the run writes. */
#include "insn.h"
#include <stdlib.h>
#include <string.h>

#define POINTER R15 /* into the data pages, all through the run */

static bool names_register(const struct insn *in, unsigned n, bool explicit_only)
{
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->op[i];
        if (explicit_only && o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            continue;
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
            if (k >= ZYDIS_REGCLASS_GPR8 && k <= ZYDIS_REGCLASS_GPR64 &&
                ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
                                                                    o->reg.value)) == (int)n)
                return true;
        }
    }
    return false;
}

/* Forms that may be anywhere in a run: no branches, nothing that always raises, memory only through
 * an explicit operand that stays where its base says. */
static bool usable(const struct form *f)
{
    const ZydisDecodedInstruction *zi = &f->in.zi;
    if (f->excluded || f->hidden || !isa_offered(zi->meta.isa_set, false) ||
        zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
        (zi->attributes & (ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_LOCK)) ||
        f->enc.kind == ENC_XOP || f->enc.kind == ENC_EVEX)
        return false;
    switch (zi->meta.isa_set) {
    case ZYDIS_ISA_SET_X87: /* pending exceptions would end most runs */
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_SSE3X87:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_SHA: return false;
    default: break;
    }
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: /* longer counts leave the result undefined */
        if (f->in.op[0].size == 16)
            return false;
        break;
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_VLDMXCSR: return false;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        if (f->in.op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return false;
        break;
    default: break;
    }
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (f->in.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (f->in.op[i].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
             !f->enc.has_modrm || /* a random address of this process */
             f->in.op[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB))
            return false;
    return !names_register(&f->in, RSP, false);
}

/* Flags as they are known, after an instruction that leaves some undefined: add %r14d, %r14d. */
static const uint8_t settle[] = {0x45, 0x01, 0xf6};

static bool append(struct code *code, const struct form *f)
{
    struct enc e;
    struct insn in;
    uint8_t bytes[32];
    for (unsigned tries = 0; tries < 8; tries++) {
        form_vary(f, &e, &in, bytes);
        if (e.has_modrm && e.modrm >> 6 != 3) {
            e.modrm = (uint8_t)(0x80 | (e.modrm & 0x38) | 7); /* disp32(%r15) */
            e.disp = (int32_t)(rnd_below(0x800) - 0x400) & ~31;
            e.seg = e.p67 = 0;
            e.b = 1;
            e.rex |= 0x41;
        }
        unsigned n = enc_emit(&e, bytes);
        if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, n, &in) || form_key(&in) != f->key ||
            names_register(&in, POINTER, true) || names_register(&in, RSP, true))
            continue;
        if (code->len + in.zi.length + sizeof settle > CODE_MAX)
            return false;
        memcpy(code->bytes + code->len, bytes, in.zi.length);
        code->len += in.zi.length;
        if (in.zi.cpu_flags && in.zi.cpu_flags->undefined) {
            memcpy(code->bytes + code->len, settle, sizeof settle);
            code->len += sizeof settle;
        }
        return true;
    }
    return true;
}

void sequences_run(struct tally *t, const struct form *forms, size_t n, unsigned cases)
{
    static struct state start;
    static uint8_t mem[SCR_SIZE];
    const struct form **pick = malloc(n * sizeof *pick);
    size_t picks = 0, integer = 0;
    if (!pick)
        return;
    /* Integer forms first: half of the instructions are drawn of them. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++)
            if (usable(&forms[i]) && (forms[i].in.zi.meta.isa_ext == ZYDIS_ISA_EXT_BASE) == !pass)
                pick[picks++] = &forms[i];
        if (!pass)
            integer = picks;
    }
    rng_seed(12);
    struct insn nop;
    insn_decode(ZYDIS_MACHINE_MODE_LONG_64, (const uint8_t *)"\x90", 1, &nop);
    for (unsigned i = 0; i < cases && picks; i++) {
        struct code code = {.ip =
                                CODE_BASE + 0x80 * rnd_below(CODE_SIZE / 0x80 - 4) + rnd_below(16)};
        unsigned want = 2 + rnd_below(30);
        while (want--)
            if (!append(&code, pick[rnd_below((uint32_t)(one_in(2) ? integer : picks))]))
                break;
        gen_case(&nop, &code, &start, mem);
        start.gpr[POINTER] = SCR_BASE + 0x1800 - 0x400 * rnd_below(2);
        /* No unmasked exception, no pending one. */
        start.xsave[XS_FCW] |= 0x3f;
        start.xsave[XS_FSW] &= 0x7f;
        start.xsave[XS_FSW + 1] &= 0x7f;
        start.xsave[XS_MXCSR] |= 0x80;
        start.xsave[XS_MXCSR + 1] |= 0x1f;
        run_case(t, &nop, &code, &start, mem, false);
    }
    free(pick);
}
