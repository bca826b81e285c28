/* SPDX-License-Identifier: MIT
 * One instruction: how it is translated, and the code. */
#include "trans.h"
#include "../simd/thunk.h"

/* ---- which way ------------------------------------------------------------------- */

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

static const ZydisDecodedOperand *memory_of(const struct tinsn *ti)
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

static bool can_copy(const struct tinsn *ti, bool vector)
{
    struct encoding e;
    const ZydisDecodedOperand *m = memory_of(ti);
    if (!encoding_of(&e, &ti->zi, ti->zop, ti->bytes))
        return false;
    if (m && (!address_possible(ti, m) || ti->op.msize > (vector ? 32 : 8) || !ti->op.msize ||
              !(ti->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM)))
        return false;
    if (e.high8 && (m || e.low8 || ti->zi.raw.rex.W || needs_rex(e.reg) || needs_rex(e.rm) ||
                    needs_rex(e.opc)))
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
static bool must_align(const struct tinsn *ti)
{
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

static bool gpr64(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR64;
}

static enum trans_kind branch_kind(const struct tinsn *ti)
{
    bool relative = ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    bool near = ti->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR ||
                ti->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT;
    bool indirect = near && ((gpr64(&ti->zop[0]) && op_gpr(ti->zop[0].reg.value) / 8 != 4) ||
                             (ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY && ti->op.msize == 8 &&
                              address_possible(ti, &ti->zop[0])));
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

enum trans_kind trans_kind(const struct tinsn *ti)
{
    if (ti->op.flags & OP_END)
        return ti->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ? branch_kind(ti) : T_END;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR64: return T_NOP;
    case ZYDIS_MNEMONIC_LEA:
        return address_possible(ti, &ti->zop[1]) && ti->zi.operand_width >= 32 ? T_LEA : T_CALLOUT;
    case ZYDIS_MNEMONIC_PUSH:
        if (ti->op.opsize == 8 &&
            (gpr64(&ti->zop[0]) || (ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)))
            return T_PUSH;
        return T_CALLOUT;
    case ZYDIS_MNEMONIC_POP: return ti->op.opsize == 8 && gpr64(&ti->zop[0]) ? T_POP : T_CALLOUT;
    default: break;
    }
    if (ti->zi.meta.category == ZYDIS_CATEGORY_PREFETCH)
        return T_NOP;
    if (is_copyable(&ti->zi) || is_bit_test(ti))
        return can_copy(ti, false) ? T_COPY : T_CALLOUT;
    return is_vector(ti) && can_copy(ti, true) ? T_VECTOR : T_CALLOUT;
}

bool trans_may_fault(const struct tinsn *ti)
{
    switch (ti->kind) {
    case T_COPY:
    case T_VECTOR: return memory_of(ti) != NULL;
    case T_PUSH:
    case T_POP:
    case T_CALL:
    case T_CALL_IND:
    case T_RET: return true;
    case T_JMP_IND: return ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    default: return false;
    }
}

/* ---- pieces ------------------------------------------------------------------------- */

static bool homed(int guest)
{
    return guest >= 8 && guest <= 11;
}

static unsigned host_reg(int guest)
{
    return guest == 4 ? (unsigned)H_R9 : (unsigned)guest;
}

static void put_callout(struct trans *t, struct tinsn *ti, unsigned i)
{
    spill_flags(t, ti->live_before);
    struct jit_site *s = trans_site(t, i);
    if (!s)
        return;
    mov_imm64(&t->a, H_R11, (uint64_t)(uintptr_t)s);
    call_to(&t->a, t->gates->callout);
    t->simd = 0;
}

static void count(struct trans *t, unsigned done)
{
    struct asmbuf *a = &t->a; /* add qword gs:[icount], done */
    put8(a, 0x65), put8(a, 0x48), put8(a, 0x83), put8(a, 0x04), put8(a, 0x25);
    put32(a, EMU_OFF(icount));
    put8(a, done);
}

void trans_exit(struct trans *t, unsigned done, int64_t off, uint32_t live)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, live);
    count(t, done);
    if (off == (int64_t)t->start) {
        jump_to(a, t->entry + a->to_exec);
        return;
    }
    if (off >= 0 && off < 4096) {
        struct jit_link *l = trans_own(t, sizeof *l);
        if (!l)
            return;
        while (((uintptr_t)a->w + 1) & 3)
            put8(a, 0x90);
        l->disp = a->w + 1;
        put8(a, 0xe9), put32(a, 0); /* to what follows, until linked */
        gs_load(a, H_R10, GPR_OFF(R_IPB));
        lea_disp(a, H_R10, H_R10, (int32_t)off);
        gs_store(a, H_R10, EMU_OFF(rip));
        mov_imm64(a, H_R11, (uint64_t)(uintptr_t)l);
        jump_to(a, t->gates->link);
        return;
    }
    gs_load(a, H_R10, GPR_OFF(R_IPB));
    lea_disp(a, H_R10, H_R10, (int32_t)off);
    jump_to(a, t->gates->lookup);
}

/* ---- copies ---------------------------------------------------------------------------- */

static bool written(const struct tinsn *ti, ZydisOperandEncoding enc)
{
    for (unsigned i = 0; i < ti->zi.operand_count; i++)
        if (ti->zop[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ti->zop[i].encoding == enc &&
            ti->zop[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return true;
    return false;
}

struct field {
    int guest;
    unsigned *host, scratch;
    bool write;
};

/* The guest's vectors into the host's registers, unless they are there. */
static void put_simd_check(struct trans *t, struct tinsn *ti, unsigned i)
{
    uint8_t need = ti->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? JIT_SIMD_AVX : JIT_SIMD_SSE;
    if (t->simd & need)
        return;
    spill_flags(t, ti->live_before);
    gs_op(&t->a, false, 0xf6, 0, EMU_OFF(simd_live)); /* test byte, need */
    put8(&t->a, need);
    struct cold *k = trans_new_cold(t, i);
    k->kind = COLD_SIMD;
    k->from[0] = jump_cc(&t->a, 4, NULL);
    k->back = here(&t->a);
    k->site = trans_site(t, i);
    if (k->site)
        k->site->size = need;
    t->simd |= need | JIT_SIMD_SSE;
}

static void put_copy(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct encoding e;
    const ZydisDecodedOperand *m = memory_of(ti);
    bool write = m && m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    struct cold *k = NULL;

    encoding_of(&e, &ti->zi, ti->zop, ti->bytes);
    /* Flags that the instruction needs, or leaves and somebody needs. */
    uint32_t needs = ti->use | (ti->live_after & ~ti->def);
    bool touches =
        ti->use || ti->def || (ti->zi.cpu_flags && ti->zi.cpu_flags->modified & FL_ARITH);
    if (ti->kind == T_VECTOR)
        put_simd_check(t, ti, i);
    if (m) {
        spill_flags(t, ti->live_before);
        put_address(t, ti, m, H_R10);
        k = put_check(t, i, write, write && touches, ti->op.msize);
        if (ti->kind == T_VECTOR && must_align(ti)) {
            put8(a, 0x41), put8(a, 0xf6), put8(a, 0xc2); /* test r10b, size - 1 */
            put8(a, ti->op.msize - 1u);
            k->from[2] = jump_cc(a, 5, NULL);
        }
    }
    if (touches)
        need_flags(t, needs);

    struct field f[4] = {
        {e.reg, &e.h_reg, H_R8, written(ti, ZYDIS_OPERAND_ENCODING_MODRM_REG)},
        {e.rm, &e.h_rm, H_R11, written(ti, ZYDIS_OPERAND_ENCODING_MODRM_RM)},
        {e.opc, &e.h_opc, H_R8, written(ti, ZYDIS_OPERAND_ENCODING_OPCODE)},
        {e.vvvv, &e.h_vvvv, m ? (unsigned)H_R11 : (unsigned)H_R10,
         written(ti, ZYDIS_OPERAND_ENCODING_NDSNDD)},
    };
    for (unsigned n = 0; n < 4; n++) {
        if (f[n].guest < 0)
            continue;
        *f[n].host = homed(f[n].guest) ? f[n].scratch : host_reg(f[n].guest);
        /* One that is only written may be left alone (BSF of 0) or in part. */
        if (homed(f[n].guest))
            gs_load(a, f[n].scratch, GPR_OFF((unsigned)f[n].guest));
    }
    if (!encoding_put(a, &e))
        t->failed = true;
    for (unsigned n = 0; n < 4; n++)
        if (f[n].guest >= 0 && homed(f[n].guest) && f[n].write)
            gs_store(a, f[n].scratch, GPR_OFF((unsigned)f[n].guest));
    if (m && write && !touches)
        put_stored(t, i, ti->op.msize);
    if (k) {
        k->back = here(a);
        k->site = trans_site(t, i);
        k->reload = touches && t->flags == IN_HOST && ti->live_after;
    }
}

static void put_lea(struct trans *t, struct tinsn *ti)
{
    struct asmbuf *a = &t->a;
    int guest = op_gpr(ti->zop[0].reg.value) / 8;
    unsigned to = homed(guest) ? (unsigned)H_R10 : host_reg(guest);
    if (ti->zi.operand_width == 64) {
        put_address(t, ti, &ti->zop[1], to);
    } else {
        put_address(t, ti, &ti->zop[1], H_R10); /* mov to32, r10d */
        put8(a, 0x44u | to >> 3), put8(a, 0x89), put8(a, 0xd0u | (to & 7));
    }
    if (homed(guest))
        gs_store(a, to, GPR_OFF((unsigned)guest));
}

/* ---- the stack --------------------------------------------------------------------------- */

static struct cold *stack_check(struct trans *t, struct tinsn *ti, unsigned i, int32_t disp,
                                bool write, bool guard)
{
    spill_flags(t, ti->live_before);
    lea_disp(&t->a, H_R10, H_R9, disp);
    return put_check(t, i, write, guard, 8);
}

static void put_push(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = stack_check(t, ti, i, -8, true, false);
    if (ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        put8(a, 0x49), put8(a, 0xc7), put8(a, 0x02); /* mov qword [r10], imm32 */
        put32(a, (uint32_t)ti->op.imm);
    } else {
        int guest = op_gpr(ti->zop[0].reg.value) / 8;
        unsigned from = homed(guest) ? (unsigned)H_R8 : host_reg(guest);
        if (homed(guest))
            gs_load(a, H_R8, GPR_OFF((unsigned)guest));
        mem_op(a, 0x89, from, H_R10, 0);
    }
    lea_disp(a, H_R9, H_R9, -8);
    put_stored(t, i, 8);
    k->back = here(a);
    k->site = trans_site(t, i);
}

static void put_pop(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = stack_check(t, ti, i, 0, false, false);
    int guest = op_gpr(ti->zop[0].reg.value) / 8;
    unsigned to = homed(guest) ? (unsigned)H_R8 : host_reg(guest);
    lea_disp(a, H_R9, H_R9, 8);
    mem_op(a, 0x8b, to, H_R10, 0);
    if (homed(guest))
        gs_store(a, H_R8, GPR_OFF((unsigned)guest));
    k->back = here(a);
    k->site = trans_site(t, i);
}

/* Return address to the stack; the target follows. A page with code on the stack
 * is left to the interpreter. */
static void put_return_address(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = stack_check(t, ti, i, -8, true, true);
    gs_load(a, H_R8, GPR_OFF(R_IPB));
    lea_disp(a, H_R8, H_R8, (int32_t)(ti->off + ti->op.len));
    mem_op(a, 0x89, H_R8, H_R10, 0);
    lea_disp(a, H_R9, H_R9, -8);
    k->site = trans_site(t, i); /* the interpreter's CALL leaves the block by itself */
    k->back = here(a);
}

/* ---- branches ------------------------------------------------------------------------------ */

static void put_jcc(struct trans *t, struct tinsn *ti, unsigned i)
{
    need_flags(t, FL_ARITH);
    struct cold *k = trans_new_cold(t, i);
    k->kind = COLD_TAKEN;
    k->flags = t->flags;
    k->from[0] = jump_cc(&t->a, ti->zi.opcode & 15, NULL);
}

/* A branch to an address that is not canonical raises #GP as the branch, so the
 * interpreter does it (SDM volume 2, JMP, CALL, RET). Clobbers r8 and flags. */
static void put_canonical(struct trans *t, struct cold *k)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R8, H_R10);
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xe0), put8(a, 16); /* shl r8, 16 */
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xf8), put8(a, 16); /* sar r8, 16 */
    reg_op(a, 0x39, H_R8, H_R10);
    k->from[1] = jump_cc(a, 5, NULL);
}

/* r10 = the value a register or memory operand names. */
static void put_target(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    if (ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
        spill_flags(t, ti->live_before);
        put_address(t, ti, &ti->zop[0], H_R10);
        struct cold *k = put_check(t, i, false, false, 8);
        mem_op(a, 0x8b, H_R10, H_R10, 0);
        put_canonical(t, k);
        k->site = trans_site(t, i);
        k->back = here(a);
        return;
    }
    unsigned guest = op_gpr(ti->zop[0].reg.value) / 8u;
    spill_flags(t, ti->live_before);
    struct cold *k = trans_new_cold(t, i);
    if (homed((int)guest))
        gs_load(a, H_R10, GPR_OFF(guest));
    else
        mov_reg(a, H_R10, host_reg((int)guest));
    put_canonical(t, k);
    k->site = trans_site(t, i);
    k->back = here(a);
}

static void put_branch(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    t->ended = true;
    switch (ti->kind) {
    case T_JMP: trans_exit(t, i + 1, ti->op.disp, ti->live_after); return;
    case T_CALL:
        put_return_address(t, ti, i);
        trans_exit(t, i + 1, ti->op.disp, 0);
        return;
    case T_CALL_IND:
        put_target(t, ti, i);
        gs_store(a, H_R10, EMU_OFF(jit_tmp));
        put_return_address(t, ti, i);
        gs_load(a, H_R10, EMU_OFF(jit_tmp));
        break;
    case T_JMP_IND:
        spill_flags(t, ti->live_before);
        put_target(t, ti, i);
        break;
    default: { /* RET */
        struct cold *k = stack_check(t, ti, i, 0, false, false);
        mem_op(a, 0x8b, H_R10, H_R10, 0);
        put_canonical(t, k);
        lea_disp(a, H_R9, H_R9, 8 + (int32_t)(ti->op.imm & 0xffff));
        k->site = trans_site(t, i);
        k->back = here(a);
        break;
    }
    }
    count(t, i + 1);
    jump_to(a, t->gates->lookup);
}

void trans_insn(struct trans *t, struct tinsn *ti, unsigned i)
{
    switch (ti->kind) {
    case T_NOP: break;
    case T_CALLOUT: put_callout(t, ti, i); break;
    case T_END:
        put_callout(t, ti, i);
        t->ended = true;
        break;
    case T_COPY:
    case T_VECTOR: put_copy(t, ti, i); break;
    case T_LEA: put_lea(t, ti); break;
    case T_PUSH: put_push(t, ti, i); break;
    case T_POP: put_pop(t, ti, i); break;
    case T_JCC: put_jcc(t, ti, i); break;
    default: put_branch(t, ti, i); break;
    }
}

/* ---- the slow paths ------------------------------------------------------------------------- */

void trans_cold(struct trans *t)
{
    struct asmbuf *a = &t->a;
    for (unsigned n = 0; n < t->ncold && !a->full && !t->failed; n++) {
        struct cold *k = &t->cold[n];
        struct tinsn *ti = &t->insn[k->insn];
        for (unsigned f = 0; f < ARRAY_LEN(k->from); f++)
            if (k->from[f])
                patch_here(a, k->from[f]);
        if (k->kind == COLD_TAKEN) {
            t->flags = k->flags;
            trans_exit(t, k->insn + 1, ti->op.disp, ti->live_taken);
            continue;
        }
        if (k->kind == COLD_STORED) /* r10 = linear */
            mem_op(a, 0x2b, H_R10, H_R11,
                   (int32_t)(offsetof(struct tlb_set, e) + TLB_W * sizeof(struct tlb_ent) * TLB_N +
                             offsetof(struct tlb_ent, addend)));
        mov_imm64(a, H_R11, (uint64_t)(uintptr_t)k->site);
        call_to(a, k->kind == COLD_STORED ? t->gates->stored
                   : k->kind == COLD_SIMD ? t->gates->simd_on
                                          : t->gates->callout);
        if (k->simd && k->kind != COLD_SIMD)
            call_to(a, t->gates->simd_resume);
        if (k->reload)
            put_flags_load(t);
        jump_to(a, k->back);
    }
}
