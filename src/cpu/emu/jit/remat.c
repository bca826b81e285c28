/* SPDX-License-Identifier: MIT
 * Flags that nobody reads, but that the frame of a fault would show: instead of
 * being saved before each access they are made again, in the slow path, from the
 * registers that they came from. */
#include "trans.h"

static bool plain_gpr(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           !(o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH);
}

/* Does it change any arithmetic flag? */
bool trans_flags(const struct tinsn *ti)
{
    return ti->def || (ti->zi.cpu_flags && ti->zi.cpu_flags->modified & FL_ARITH);
}

static struct remat remat_of(const struct tinsn *ti, unsigned i)
{
    struct remat r = {.insn = i, .a = -1, .b = -1};
    const ZydisDecodedOperand *o = ti->zop;
    bool imm = o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

    if (ti->kind != T_COPY || ti->def != FL_ARITH || !plain_gpr(&o[0]))
        return r;
    r.a = op_gpr(o[0].reg.value) / 8;
    if (!imm && plain_gpr(&o[1]))
        r.b = op_gpr(o[1].reg.value) / 8;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST: r.how = imm || r.b >= 0 ? REMAT_AGAIN : REMAT_NOT; break;
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
        r.how = REMAT_RESULT;
        r.b = -1;
        break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (ti->op.opsize >= 4 && (imm || (r.b >= 0 && r.b != r.a)))
            r.how = ti->zi.mnemonic == ZYDIS_MNEMONIC_ADD ? REMAT_ADD : REMAT_SUB;
        break;
    default: break;
    }
    return r;
}

bool trans_writes(const struct tinsn *ti, int guest)
{
    for (unsigned i = 0; guest >= 0 && i < ti->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &ti->zop[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE && op_gpr(o->reg.value) / 8 == guest)
            return true;
    }
    return false;
}

static bool leaves_block(const struct tinsn *ti)
{
    switch (ti->kind) {
    case T_COPY:
    case T_VECTOR:
    case T_X87:
    case T_BIT:
    case T_SYS:
    case T_DIV:
    case T_LEA:
    case T_PUSH:
    case T_POP:
    case T_LEAVE:
    case T_NOP: return false;
    default: return true;
    }
}

/* From instruction i on: can they be made wherever somebody may want to see them? */
static bool lasts(const struct trans *t, unsigned i)
{
    const struct remat *r = &t->rm;
    bool changed = false;
    for (; i < t->n; i++) {
        const struct tinsn *ti = &t->insn[i];
        if (leaves_block(ti) || (changed && trans_may_fault(ti)))
            return false;
        if (trans_writes(ti, r->a) || trans_writes(ti, r->b)) {
            if (ti->has_access && ti->m.write) /* seen after it, too */
                return false;
            changed = true;
        }
        if (ti->def == FL_ARITH)
            return true;
        if (ti->use || trans_flags(ti))
            return false;
    }
    return false;
}

static void put_remat(struct trans *t, const struct remat *r)
{
    struct asmbuf *a = &t->a;
    const struct tinsn *ti = &t->insn[r->insn];
    unsigned rex = ti->op.opsize == 8 ? 8 : 0, from = H_R10, other = H_R11;

    if (r->how == REMAT_AGAIN) {
        put_again(t, ti);
        return;
    }
    if (homed(r->a))
        gs_load(a, H_R10, GPR_OFF((unsigned)r->a));
    else
        mov_reg(a, H_R10, host_reg(r->a));
    if (r->how == REMAT_RESULT) { /* test r10, r10 */
        if (ti->op.opsize == 2)
            put8(a, 0x66);
        put8(a, 0x45u | rex), put8(a, ti->op.opsize == 1 ? 0x84 : 0x85), put8(a, 0xd2);
        return;
    }
    bool add = r->how == REMAT_ADD;
    if (r->b >= 0) { /* sub r10, b; add r10, b */
        if (homed(r->b))
            gs_load(a, H_R11, GPR_OFF((unsigned)r->b));
        else
            other = host_reg(r->b);
        for (unsigned n = 0; n < 2; n++) {
            put8(a, 0x41u | rex | (other >> 3 << 2));
            put8(a, add == (n == 0) ? 0x29 : 0x01);
            put8(a, 0xc0u | (other & 7) << 3 | (from & 7));
        }
        return;
    }
    for (unsigned n = 0; n < 2; n++) {
        put8(a, 0x41u | rex), put8(a, 0x81);
        put8(a, (add == (n == 0) ? 0xe8u : 0xc0u) | (from & 7));
        put32(a, (uint32_t)ti->op.imm);
    }
}

void spill_flags(struct trans *t, uint32_t live)
{
    if (t->flags == IN_REGISTERS && live)
        put_remat(t, &t->rm);
    if (t->flags != IN_MEMORY && live)
        put_flags_save(t);
    t->flags = IN_MEMORY;
}

void keep_flags(struct trans *t, const struct tinsn *ti, unsigned i)
{
    if (t->flags == IN_HOST && ti->live_before && !ti->need_before && t->rm.how && lasts(t, i))
        t->flags = IN_REGISTERS;
    else if (t->flags != IN_REGISTERS)
        spill_flags(t, ti->live_before);
}

void need_flags(struct trans *t, uint32_t live)
{
    if (t->flags == IN_MEMORY && live == FL_CF)
        put_carry_load(t);
    else if (t->flags == IN_MEMORY && live)
        put_flags_load(t);
    if (t->flags == IN_REGISTERS && live)
        put_remat(t, &t->rm);
    t->flags = IN_HOST;
}

/* Instruction i is written: what becomes of the flags. */
void remat_step(struct trans *t, unsigned i)
{
    const struct tinsn *ti = &t->insn[i];
    if (trans_flags(ti) || leaves_block(ti))
        t->rm = ti->kind == T_JCC ? t->rm : remat_of(ti, i);
    else if (trans_writes(ti, t->rm.a) || trans_writes(ti, t->rm.b))
        t->rm.how = REMAT_NOT;
}
