/* SPDX-License-Identifier: MIT
 * PUSH, POP, PUSHA, POPA, ENTER, LEAVE. */
#include "int.h"

void push_value(struct emu *c, const struct op *op, uint64_t v, unsigned size)
{
    uint64_t sp = c->gpr[R_RSP] - size;
    mem_store(c, op, stack_linear(c, op, sp, size, true), size, v);
    stack_set(c, sp);
}

uint64_t stack_top(struct emu *c, const struct op *op, unsigned size)
{
    return mem_load(c, op, stack_linear(c, op, c->gpr[R_RSP], size, false), size);
}

static void push_reg64(struct emu *c, const struct op *op)
{
    uint64_t sp = c->gpr[R_RSP] - 8;
    st64(c, op, sp, R64(c, op->dst));
    c->gpr[R_RSP] = sp;
    NEXT;
}

static void pop_reg64(struct emu *c, const struct op *op)
{
    uint64_t v = ld64(c, op, c->gpr[R_RSP]);
    c->gpr[R_RSP] += 8;
    R64(c, op->dst) = v;
    NEXT;
}

static void push_reg(struct emu *c, const struct op *op)
{
    push_value(c, op, reg_read(c, op->dst, op->opsize), op->opsize);
    NEXT;
}

static void push_imm(struct emu *c, const struct op *op)
{
    push_value(c, op, op->imm, op->opsize);
    NEXT;
}

static void push_mem(struct emu *c, const struct op *op)
{
    uint64_t v = mem_load(c, op, op_linear(c, op, op->opsize, false), op->opsize);
    push_value(c, op, v, op->opsize);
    NEXT;
}

static void pop_reg(struct emu *c, const struct op *op)
{
    uint64_t v = stack_top(c, op, op->opsize);
    stack_set(c, c->gpr[R_RSP] + op->opsize);
    reg_write(c, op->dst, op->opsize, v);
    NEXT;
}

/* The destination's address is computed with the pointer already moved. */
static void pop_mem(struct emu *c, const struct op *op)
{
    uint64_t old = c->gpr[R_RSP];
    uint64_t v = stack_top(c, op, op->opsize);
    stack_set(c, old + op->opsize);
    uint64_t ea = op_ea(c, op), moved = c->gpr[R_RSP];
    c->gpr[R_RSP] = old;
    mem_store(c, op, seg_linear(c, op, op->seg, ea, op->opsize, true), op->opsize, v);
    c->gpr[R_RSP] = moved;
    NEXT;
}

static void op_pusha(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    uint64_t sp = c->gpr[R_RSP];
    uint8_t frame[32];
    for (unsigned i = 0; i < 8; i++) /* DI lowest */
        memcpy(frame + i * n, &c->gpr[7 - i], n);
    for (unsigned i = 0; i < 8; i++) { /* each slot by itself: the stack may wrap */
        uint64_t v = 0;
        memcpy(&v, frame + (7 - i) * n, n);
        sp -= n;
        mem_store(c, op, stack_linear(c, op, sp, n, true), n, v);
    }
    stack_set(c, sp);
    NEXT;
}

static void op_popa(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    uint64_t v[8], sp = c->gpr[R_RSP];
    for (unsigned i = 0; i < 8; i++, sp += n)
        v[i] = mem_load(c, op, stack_linear(c, op, sp, n, false), n);
    stack_set(c, sp);
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != R_RSP)
            reg_write(c, (7 - i) * 8, n, v[i]);
    NEXT;
}

/* ENTER size, level (SDM volume 2): imm is the size, aux the level. */
static void op_enter(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize, level = op->src2 & 31;
    uint64_t sp = c->gpr[R_RSP] - n, bp = c->gpr[R_RBP];
    mem_store(c, op, stack_linear(c, op, sp, n, true), n, bp);
    uint64_t frame = sp;
    for (unsigned i = 1; i < level; i++) {
        bp -= n;
        uint64_t v = mem_load(c, op, stack_linear(c, op, bp, n, false), n);
        sp -= n;
        mem_store(c, op, stack_linear(c, op, sp, n, true), n, v);
    }
    if (level) {
        sp -= n;
        mem_store(c, op, stack_linear(c, op, sp, n, true), n, frame);
    }
    sp -= op->imm & 0xffff;
    /* The new top must be writable, or ENTER faults as a whole. */
    emu_probe_store(c, op, stack_linear(c, op, sp, n, true), n);
    stack_set(c, sp);
    /* BP takes the stack's width, merged by the operand's. */
    uint64_t m = stack_mask(c) & size_mask(n);
    uint64_t new = (c->gpr[R_RBP] & ~m) | (frame & m);
    c->gpr[R_RBP] = n == 4 ? (uint32_t) new : new;
    NEXT;
}

static void op_leave(struct emu *c, const struct op *op)
{
    unsigned n = op->opsize;
    uint64_t sp = c->gpr[R_RBP];
    uint64_t v = mem_load(c, op, stack_linear(c, op, sp, n, false), n);
    stack_set(c, sp + n);
    reg_write(c, R_RBP * 8, n, v);
    NEXT;
}

static bool general(const ZydisDecodedOperand *z)
{
    if (z->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    ZydisRegisterClass k = ZydisRegisterGetClass(z->reg.value);
    return k == ZYDIS_REGCLASS_GPR16 || k == ZYDIS_REGCLASS_GPR32 || k == ZYDIS_REGCLASS_GPR64;
}

static bool select_push_pop(struct insn *in, struct op *op, bool push)
{
    const ZydisDecodedOperand *z = &in->zop[0];
    if (z->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        op->fn = push ? push_mem : pop_mem;
        return true;
    }
    if (z->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        op->fn = push_imm;
        op->seg = SEG_SS;
        return true;
    }
    if (!general(z))
        return false;
    op->dst = op_gpr(z->reg.value);
    op->seg = SEG_SS;
    if (in->code_size == 8 && op->opsize == 8)
        op->fn = push ? push_reg64 : pop_reg64;
    else
        op->fn = push ? push_reg : pop_reg;
    return true;
}

bool select_stack(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH: return select_push_pop(in, op, true);
    case ZYDIS_MNEMONIC_POP: return select_push_pop(in, op, false);
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD: op->fn = op_pusha; break;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD: op->fn = op_popa; break;
    case ZYDIS_MNEMONIC_ENTER:
        op->src2 = (uint8_t)in->zop[1].imm.value.u;
        op->fn = op_enter;
        break;
    case ZYDIS_MNEMONIC_LEAVE: op->fn = op_leave; break;
    default: return false;
    }
    op->seg = SEG_SS;
    return true;
}
