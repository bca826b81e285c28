/* SPDX-License-Identifier: MIT
 * MOV to and from control registers, CLTS, LMSW, SMSW. */
#include "sys.h"

/* Writing a control register ends the block: what follows may be fetched,
 * decoded and checked differently. */
static void next_block(struct emu *c, const struct op *op)
{
    c->rip = op_next_ip(c, op);
}

/* ---- reading ----------------------------------------------------------------- */

static void read_cr(struct emu *c, const struct op *op, uint64_t v)
{
    reg_write(c, op->dst, op->opsize, v);
}

static void op_mov_from_cr0(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    read_cr(c, op, c->cr0);
    NEXT;
}

static void op_mov_from_cr2(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    read_cr(c, op, c->cr2);
    NEXT;
}

static void op_mov_from_cr3(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    read_cr(c, op, c->cr3);
    NEXT;
}

static void op_mov_from_cr4(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    read_cr(c, op, c->cr4);
    NEXT;
}

static void op_mov_from_cr8(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    read_cr(c, op, c->env->cr8_get ? c->env->cr8_get(c->env->ctx, c->index) : 0);
    NEXT;
}

/* ---- writing ------------------------------------------------------------------- */

static void op_mov_to_cr0(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    uint64_t next = op_next_ip(c, op);
    if (!emu_set_cr0(c, reg_read(c, op->src, op->opsize)))
        emu_gp0(c, op);
    c->rip = next;
}

static void op_mov_to_cr2(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    c->cr2 = reg_read(c, op->src, op->opsize);
    NEXT;
}

static void op_mov_to_cr3(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    if (!emu_set_cr3(c, reg_read(c, op->src, op->opsize)))
        emu_gp0(c, op);
    next_block(c, op);
}

static void op_mov_to_cr4(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    if (!emu_set_cr4(c, reg_read(c, op->src, op->opsize)))
        emu_gp0(c, op);
    next_block(c, op);
}

static void op_mov_to_cr8(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    uint64_t v = reg_read(c, op->src, op->opsize);
    if (v >> 4)
        emu_gp0(c, op);
    if (c->env->cr8_set)
        c->env->cr8_set(c->env->ctx, c->index, v);
    next_block(c, op); /* an interrupt may pass now */
}

static void op_clts(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    c->cr0 &= ~(uint64_t)CR0_TS;
    emu_mode_changed(c);
    next_block(c, op);
}

/* LMSW writes PE, MP, EM and TS, and cannot clear PE. */
static void lmsw(struct emu *c, const struct op *op, uint16_t v)
{
    uint64_t next = op_next_ip(c, op);
    uint64_t cr0 = (c->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (v & 0xf);
    if (!emu_set_cr0(c, cr0))
        emu_gp0(c, op);
    c->rip = next;
}

static void op_lmsw_r(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    lmsw(c, op, R16(c, op->src));
}

static void op_lmsw_m(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    lmsw(c, op, ld16(c, op, op_linear(c, op, 2, false)));
}

static void smsw_check(struct emu *c, const struct op *op)
{
    if (unlikely(c->cr4 & CR4_UMIP && c->cpl))
        emu_gp0(c, op);
}

static void op_smsw_r(struct emu *c, const struct op *op)
{
    smsw_check(c, op);
    reg_write(c, op->dst, op->opsize, c->cr0);
    NEXT;
}

static void op_smsw_m(struct emu *c, const struct op *op)
{
    smsw_check(c, op);
    st16(c, op, op_linear(c, op, 2, true), (uint16_t)c->cr0);
    NEXT;
}

/* ---- selection -------------------------------------------------------------------- */

static bool is_cr(const ZydisDecodedOperand *z)
{
    return z->type == ZYDIS_OPERAND_TYPE_REGISTER && z->reg.value >= ZYDIS_REGISTER_CR0 &&
           z->reg.value <= ZYDIS_REGISTER_CR15;
}

static bool select_mov_cr(struct insn *in, struct op *op)
{
    static op_fn *const from[] = {
        op_mov_from_cr0, NULL, op_mov_from_cr2, op_mov_from_cr3, op_mov_from_cr4, NULL, NULL, NULL,
        op_mov_from_cr8};
    static op_fn *const to[] = {op_mov_to_cr0, NULL, op_mov_to_cr2, op_mov_to_cr3, op_mov_to_cr4,
                                NULL,          NULL, NULL,          op_mov_to_cr8};
    bool write = is_cr(&in->zop[0]);
    if (!write && !is_cr(&in->zop[1]))
        return false;
    unsigned n = in->zop[!write].reg.value - ZYDIS_REGISTER_CR0;
    if (n >= ARRAY_LEN(to) || !to[n])
        return false;
    op->opsize = in->code_size == 8 ? 8 : 4;
    if (write) {
        op->src = op_gpr(in->zop[1].reg.value);
        op->fn = to[n];
        in->ends_block = n != 2;
    } else {
        op->dst = op_gpr(in->zop[0].reg.value);
        op->fn = from[n];
    }
    return true;
}

bool select_cr(struct emu *c, struct insn *in, struct op *op)
{
    bool reg = in->zop[0].type == ZYDIS_OPERAND_TYPE_REGISTER;

    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOV: return select_mov_cr(in, op);
    case ZYDIS_MNEMONIC_CLTS:
        op->fn = op_clts;
        in->ends_block = true;
        return true;
    case ZYDIS_MNEMONIC_LMSW:
        if (reg)
            op->src = op_gpr(in->zop[0].reg.value);
        op->fn = reg ? op_lmsw_r : op_lmsw_m;
        in->ends_block = true;
        return true;
    case ZYDIS_MNEMONIC_SMSW:
        if (reg) {
            op->dst = op_gpr(in->zop[0].reg.value);
            op->opsize = (uint8_t)(in->zop[0].size / 8);
        }
        op->fn = reg ? op_smsw_r : op_smsw_m;
        return true;
    default: return false;
    }
}
