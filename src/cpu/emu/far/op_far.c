/* SPDX-License-Identifier: MIT
 * Far JMP, CALL and RET (SDM volume 2; volume 3, 5.8). */
#include "far.h"
#include "gate.h"

uint16_t far_load(struct emu *c, const struct op *op, uint64_t *off)
{
    uint64_t lin = op_linear(c, op, op->opsize + 2u, false);
    uint64_t lin_sel = lin + op->opsize;

    if (!code64(c))
        lin_sel = (uint32_t)lin_sel;
    switch (op->opsize) {
    case 2: *off = ld16(c, op, lin); break;
    case 4: *off = ld32(c, op, lin); break;
    default: *off = ld64(c, op, lin); break;
    }
    return ld16(c, op, lin_sel);
}

/* ---- JMP and CALL ------------------------------------------------------------- */

static void push_return(struct emu *c, const struct op *op, struct stack *st, unsigned size)
{
    uint64_t frame[2] = {c->seg[SEG_CS].sel, op_next_ip(c, op)};

    stack_push(c, st, frame, 2, size);
}

static void transfer_real(struct emu *c, const struct op *op, uint16_t sel, uint64_t off, bool call)
{
    struct stack st;

    if (off > c->seg[SEG_CS].limit)
        emu_raise_err(c, EXC_GP, 0);
    if (call) {
        stack_current(c, &st);
        push_return(c, op, &st, op->opsize);
        stack_commit(c, &st);
    }
    if (v86_mode(c))
        seg_set_v86(c, SEG_CS, sel);
    else
        seg_set_real(c, SEG_CS, sel);
    far_done(c, off);
}

static void transfer_code(struct emu *c, const struct op *op, struct desc *cs, uint64_t off,
                          bool call)
{
    uint16_t sel = cs->seg.sel;
    unsigned dpl = seg_dpl(&cs->seg);
    struct stack st;

    if (seg_conforming(&cs->seg) ? dpl > c->cpl : sel_rpl(sel) > c->cpl || dpl != c->cpl)
        seg_fault(c, EXC_GP, sel);
    seg_code_is64(c, &cs->seg);
    if (!(cs->seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
    seg_check_ip(c, &cs->seg, off);
    desc_mark_accessed(c, cs);
    if (call) {
        stack_current(c, &st);
        push_return(c, op, &st, op->opsize);
        stack_commit(c, &st);
    }
    seg_set_cs(c, &cs->seg, c->cpl);
    far_done(c, off);
}

/* A call gate's parameters, from the caller's stack. */
static void copy_params(struct emu *c, struct stack *to, unsigned n, unsigned size)
{
    struct stack from;
    uint64_t v[31], rev[31];

    if (!n)
        return;
    stack_current(c, &from);
    stack_pop(c, &from, v, n, size);
    for (unsigned i = 0; i < n; i++)
        rev[i] = v[n - 1 - i];
    stack_push(c, to, rev, n, size);
}

static void transfer_gate(struct emu *c, const struct op *op, const struct desc *d, bool call)
{
    bool wide = long_mode(c);
    uint64_t upper = 0;
    struct stack st;
    struct desc cs;

    if (wide && !desc_read_upper(c, d, &upper))
        seg_fault(c, EXC_GP, d->seg.sel);
    struct gate g = gate_unpack(d->raw, upper & UINT32_MAX);
    if (g.dpl < c->cpl || sel_rpl(d->seg.sel) > g.dpl)
        seg_fault(c, EXC_GP, d->seg.sel);
    if (!g.present)
        seg_fault(c, EXC_NP, d->seg.sel);

    if (sel_null(g.sel))
        emu_raise_err(c, EXC_GP, 0);
    if (!desc_read(c, g.sel, &cs) || !seg_is_code(&cs.seg))
        seg_fault(c, EXC_GP, g.sel);
    unsigned dpl = seg_dpl(&cs.seg);
    bool same = seg_conforming(&cs.seg) || dpl == c->cpl;
    if (dpl > c->cpl || !(call || same))
        seg_fault(c, EXC_GP, g.sel);
    if (wide && !seg_code_is64(c, &cs.seg))
        seg_fault(c, EXC_GP, g.sel);
    if (!(cs.seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, g.sel);

    unsigned cpl = same ? c->cpl : dpl;
    unsigned size = wide ? 8 : g.type & 8 ? 4 : 2;
    if (call && !same) {
        uint64_t old[2] = {c->seg[SEG_SS].sel, c->gpr[R_RSP]};
        stack_inner(c, &st, cpl);
        seg_check_ip(c, &cs.seg, g.off);
        desc_mark_accessed(c, &cs);
        stack_push(c, &st, old, 2, size);
        if (!wide)
            copy_params(c, &st, g.params, size);
        push_return(c, op, &st, size);
        stack_commit(c, &st);
    } else {
        seg_check_ip(c, &cs.seg, g.off);
        desc_mark_accessed(c, &cs);
        if (call) {
            if (wide)
                stack_wide(c, &st, c->gpr[R_RSP], cpl);
            else
                stack_current(c, &st);
            push_return(c, op, &st, size);
            stack_commit(c, &st);
        }
    }
    seg_set_cs(c, &cs.seg, cpl);
    far_done(c, g.off);
}

static void transfer(struct emu *c, const struct op *op, uint16_t sel, uint64_t off, bool call)
{
    struct desc d;

    emu_at(c, op);
    if (!protected_mode(c)) {
        transfer_real(c, op, sel, off, call);
        return;
    }
    if (sel_null(sel))
        emu_raise_err(c, EXC_GP, 0);
    if (!desc_read(c, sel, &d))
        seg_fault(c, EXC_GP, sel);
    if (seg_is_code(&d.seg)) {
        transfer_code(c, op, &d, off, call);
        return;
    }
    unsigned type = seg_type(&d.seg);
    if (!(d.seg.attr & SEG_A_S) && (type == SYS_CALL32 || (type == SYS_CALL16 && !long_mode(c)))) {
        transfer_gate(c, op, &d, call);
        return;
    }
    /* Data; or a task-state segment or task gate: no task switches here. */
    seg_fault(c, EXC_GP, sel);
}

static void do_jmp_far(struct emu *c, const struct op *op)
{
    transfer(c, op, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, false);
}

static void do_call_far(struct emu *c, const struct op *op)
{
    transfer(c, op, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, true);
}

static void do_jmp_far_m(struct emu *c, const struct op *op)
{
    uint64_t off;
    uint16_t sel = far_load(c, op, &off);
    transfer(c, op, sel, off, false);
}

static void do_call_far_m(struct emu *c, const struct op *op)
{
    uint64_t off;
    uint16_t sel = far_load(c, op, &off);
    transfer(c, op, sel, off, true);
}

/* ---- RET ------------------------------------------------------------------------ */

void far_return_cs(struct emu *c, uint16_t sel, struct desc *cs)
{
    if (sel_null(sel))
        emu_raise_err(c, EXC_GP, 0);
    if (!desc_read(c, sel, cs) || !seg_is_code(&cs->seg) || sel_rpl(sel) < c->cpl)
        seg_fault(c, EXC_GP, sel);
    unsigned dpl = seg_dpl(&cs->seg);
    if (seg_conforming(&cs->seg) ? dpl > sel_rpl(sel) : dpl != sel_rpl(sel))
        seg_fault(c, EXC_GP, sel);
    seg_code_is64(c, &cs->seg);
    if (!(cs->seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
}

bool far_return_ss(struct emu *c, uint16_t sel, const struct seg *cs, struct desc *ss)
{
    unsigned cpl = sel_rpl(cs->sel);

    /* Null goes with 64-bit code but in ring 3. */
    if (sel_null(sel) && long_mode(c) && cs->attr & SEG_A_L && cpl != 3 && sel_rpl(sel) == cpl)
        return false;
    seg_read_stack(c, sel, cpl, EXC_GP, ss);
    return true;
}

void far_return_outer(struct emu *c, const struct desc *cs, const struct desc *ss, uint16_t ss_sel,
                      uint64_t sp)
{
    unsigned was = c->cpl;

    seg_set_cs(c, &cs->seg, sel_rpl(cs->seg.sel));
    if (ss)
        c->seg[SEG_SS] = ss->seg;
    else
        seg_set_null(c, SEG_SS, ss_sel);
    /* A 16-bit stack takes SP only. */
    if (long_mode(c) && cs->seg.attr & SEG_A_L)
        c->gpr[R_RSP] = sp;
    else if (c->seg[SEG_SS].attr & SEG_A_DB)
        c->gpr[R_RSP] = (uint32_t)sp;
    else
        R16(c, R_RSP * 8) = (uint16_t)sp;
    if (c->cpl != was)
        seg_drop_inner(c);
}

static void do_ret_far(struct emu *c, const struct op *op)
{
    unsigned size = op->opsize;
    uint16_t release = (uint16_t)op->imm;
    uint64_t v[2], outer[2];
    struct desc cs, ss;
    struct stack st;

    emu_at(c, op);
    stack_current(c, &st);
    stack_pop(c, &st, v, 2, size);
    uint16_t sel = (uint16_t)v[1];
    if (!protected_mode(c)) {
        if (v[0] > c->seg[SEG_CS].limit)
            emu_raise_err(c, EXC_GP, 0);
        st.sp = (st.sp + release) & st.mask;
        stack_commit(c, &st);
        if (v86_mode(c))
            seg_set_v86(c, SEG_CS, sel);
        else
            seg_set_real(c, SEG_CS, sel);
        far_done(c, v[0]);
        return;
    }
    far_return_cs(c, sel, &cs);
    st.sp = (st.sp + release) & st.mask;
    if (sel_rpl(sel) == c->cpl) {
        seg_check_ip(c, &cs.seg, v[0]);
        desc_mark_accessed(c, &cs);
        stack_commit(c, &st);
        seg_set_cs(c, &cs.seg, c->cpl);
        far_done(c, v[0]);
        return;
    }
    stack_pop(c, &st, outer, 2, size);
    uint16_t ss_sel = (uint16_t)outer[1];
    bool has_ss = far_return_ss(c, ss_sel, &cs.seg, &ss);
    seg_check_ip(c, &cs.seg, v[0]);
    desc_mark_accessed(c, &cs);
    if (has_ss)
        desc_mark_accessed(c, &ss);
    far_return_outer(c, &cs, has_ss ? &ss : NULL, ss_sel, outer[0] + release);
    far_done(c, v[0]);
}

/* ---- selection ---------------------------------------------------------------------- */

static bool select_transfer(struct insn *in, struct op *op)
{
    const ZydisDecodedOperand *z = &in->zop[0];
    bool call = in->zi.mnemonic == ZYDIS_MNEMONIC_CALL;

    if (in->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
        return false;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_RET:
        op->fn = do_ret_far;
        if (!in->zi.operand_count_visible)
            op->imm = 0;
        break;
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        if (z->type == ZYDIS_OPERAND_TYPE_POINTER) {
            uint32_t mask = op->opsize == 2 ? UINT16_MAX : UINT32_MAX;
            op->imm = (uint64_t)z->ptr.segment << 32 | (z->ptr.offset & mask);
            op->fn = call ? do_call_far : do_jmp_far;
        } else if (z->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            op->fn = call ? do_call_far_m : do_jmp_far_m;
        } else {
            return false;
        }
        break;
    default: return false;
    }
    in->ends_block = true;
    return true;
}

bool select_far(struct emu *c, struct insn *in, struct op *op)
{
    return select_transfer(in, op) || select_seg(c, in, op) || select_desc(c, in, op) ||
           select_iret(c, in, op) || select_syscall(c, in, op) || select_eflags(c, in, op);
}
