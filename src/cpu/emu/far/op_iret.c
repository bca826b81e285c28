/* SPDX-License-Identifier: MIT
 * INT n, INT3, INTO, INT1 and IRET (SDM volume 2). */
#include "far.h"

/* ---- software interrupts ---------------------------------------------------------- */

static void interrupt(struct emu *c, const struct op *op, enum emu_event type, unsigned vector)
{
    emu_at(c, op);
    c->rip = op_next_ip(c, op);
    if (!emu_deliver(c, type, vector, false, 0, op_ip(c, op)))
        emu_shutdown(c);
}

static void do_int(struct emu *c, const struct op *op)
{
    if (v86_mode(c) && iopl(c) != 3)
        emu_gp0(c, op);
    interrupt(c, op, EV_SOFTINT, (uint8_t)op->imm);
}

static void do_int3(struct emu *c, const struct op *op)
{
    interrupt(c, op, EV_SOFTINT, EXC_BP);
}

static void do_int1(struct emu *c, const struct op *op)
{
    interrupt(c, op, EV_ICEBP, EXC_DB);
}

static void do_into(struct emu *c, const struct op *op)
{
    if (flags_arith(c) & FL_OF)
        interrupt(c, op, EV_SOFTINT, EXC_OF);
    else
        c->rip = op_next_ip(c, op);
}

/* ---- IRET ------------------------------------------------------------------------- */

#define IRET_FLAGS16 (FL_ARITH | FL_TF | FL_DF | FL_NT)
#define IRET_FLAGS32 (FL_RF | FL_AC | FL_ID)

static void iret_real(struct emu *c, const struct op *op)
{
    uint32_t mask = IRET_FLAGS16 | FL_IF | (op->opsize > 2 ? IRET_FLAGS32 : 0);
    bool v86 = v86_mode(c);
    struct stack st;
    uint64_t v[3]; /* IP, CS, FLAGS */

    if (v86 && iopl(c) != 3)
        emu_raise_err(c, EXC_GP, 0);
    stack_current(c, &st);
    stack_pop(c, &st, v, 3, op->opsize);
    if (v[0] > c->seg[SEG_CS].limit)
        emu_raise_err(c, EXC_GP, 0);

    stack_commit(c, &st);
    flags_merge(c, v[2], v86 ? mask : mask | FL_IOPL);
    if (v86)
        seg_set_v86(c, SEG_CS, (uint16_t)v[1]);
    else
        seg_set_real(c, SEG_CS, (uint16_t)v[1]);
    c->rip = v[0];
}

static void iret_to_v86(struct emu *c, struct stack *st, const uint64_t v[3])
{
    uint64_t w[6]; /* SP, SS, ES, DS, FS, GS */

    stack_pop(c, st, w, 6, 4);
    if (v[0] > UINT16_MAX)
        emu_raise_err(c, EXC_GP, 0);

    flags_set(c, v[2]);
    c->gpr[R_RSP] = w[0];
    c->cpl = 3;
    c->rip = v[0];
    seg_set_v86(c, SEG_CS, (uint16_t)v[1]);
    seg_set_v86(c, SEG_SS, (uint16_t)w[1]);
    seg_set_v86(c, SEG_ES, (uint16_t)w[2]);
    seg_set_v86(c, SEG_DS, (uint16_t)w[3]);
    seg_set_v86(c, SEG_FS, (uint16_t)w[4]);
    seg_set_v86(c, SEG_GS, (uint16_t)w[5]);
}

/* What the current privilege may change. */
static uint32_t iret_mask(const struct emu *c, unsigned opsize)
{
    uint32_t mask = IRET_FLAGS16;

    if (opsize > 2)
        mask |= IRET_FLAGS32;
    if (c->cpl <= iopl(c))
        mask |= FL_IF;
    if (c->cpl == 0)
        mask |= FL_IOPL | (opsize > 2 ? FL_VIF | FL_VIP : 0);
    return mask;
}

static void iret_protected(struct emu *c, const struct op *op)
{
    uint64_t v[3], outer[2];
    struct desc cs, ss;
    struct stack st;

    if (c->rflags & FL_NT) /* a return from a task, of which there are none */
        emu_raise_err(c, EXC_GP, 0);
    stack_current(c, &st);
    stack_pop(c, &st, v, 3, op->opsize);
    if (op->opsize == 4 && v[2] & FL_VM && c->cpl == 0 && !long_mode(c)) {
        iret_to_v86(c, &st, v);
        return;
    }
    uint16_t sel = (uint16_t)v[1];
    uint32_t mask = iret_mask(c, op->opsize);
    far_return_cs(c, sel, &cs);
    if (sel_rpl(sel) == c->cpl && !code64(c)) {
        seg_check_ip(c, &cs.seg, v[0]);
        desc_mark_accessed(c, &cs);
        stack_commit(c, &st);
        seg_set_cs(c, &cs.seg, c->cpl);
    } else {
        /* 64-bit mode always pops the stack pointer (SDM 6.14.3). */
        stack_pop(c, &st, outer, 2, op->opsize);
        uint16_t ss_sel = (uint16_t)outer[1];
        bool has_ss = far_return_ss(c, ss_sel, &cs.seg, &ss);
        seg_check_ip(c, &cs.seg, v[0]);
        desc_mark_accessed(c, &cs);
        if (has_ss)
            desc_mark_accessed(c, &ss);
        far_return_outer(c, &cs, has_ss ? &ss : NULL, ss_sel, outer[0]);
    }
    flags_merge(c, v[2], mask);
    c->rip = v[0];
}

static void do_iret(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if (protected_mode(c))
        iret_protected(c, op);
    else
        iret_real(c, op);
    if (c->nmi_masked) {
        c->nmi_masked = false;
        mail_nmi_done(c->mail);
    }
    if (!c->db_exec)
        c->rflags &= ~FL_RF; /* for one instruction, and there it would change nothing */
    emu_mode_changed(c);
}

bool select_iret(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_INT: op->fn = do_int; break;
    case ZYDIS_MNEMONIC_INT3: op->fn = do_int3; break;
    case ZYDIS_MNEMONIC_INT1: op->fn = do_int1; break;
    case ZYDIS_MNEMONIC_INTO: op->fn = do_into; break;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ: op->fn = do_iret; break;
    default: return false;
    }
    in->ends_block = true;
    return true;
}
