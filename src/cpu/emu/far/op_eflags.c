/* SPDX-License-Identifier: MIT
 * PUSHF, POPF, CLI, STI: RFLAGS under the rules of IOPL (SDM volume 2). Neither
 * VME nor PVI is offered. */
#include "far.h"
#include "../int/int.h"

static void do_pushf(struct emu *c, const struct op *op)
{
    if (v86_mode(c) && iopl(c) != 3)
        emu_gp0(c, op);
    push_value(c, op, flags_shown(c, op) & ~(uint64_t)(FL_VM | FL_RF), op->opsize);
    NEXT;
}

static void do_popf(struct emu *c, const struct op *op)
{
    uint32_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

    if (v86_mode(c) && iopl(c) != 3)
        emu_gp0(c, op);
    uint64_t v = stack_top(c, op, op->opsize);
    if (c->cpl <= iopl(c))
        mask |= FL_IF;
    if (c->cpl == 0)
        mask |= FL_IOPL;
    if (op->opsize > 2)
        mask |= FL_AC | FL_ID;
    flags_merge(c, v, mask);
    c->rflags &= ~FL_RF;
    stack_set(c, c->gpr[R_RSP] + op->opsize);
    far_done(c, op_next_ip(c, op));
}

/* CPL is 0 in real mode and 3 in virtual-8086 mode, so one rule is enough. */
static void need_iopl(struct emu *c, const struct op *op)
{
    if (c->cpl > iopl(c))
        emu_gp0(c, op);
}

static void do_cli(struct emu *c, const struct op *op)
{
    need_iopl(c, op);
    c->rflags &= ~FL_IF;
    far_done(c, op_next_ip(c, op));
}

static void do_sti(struct emu *c, const struct op *op)
{
    need_iopl(c, op);
    if (!(c->rflags & FL_IF)) {
        c->rflags |= FL_IF;
        c->shadow = 1;
    }
    far_done(c, op_next_ip(c, op));
}

bool select_eflags(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        op->seg = SEG_SS;
        op->fn = do_pushf;
        return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        op->seg = SEG_SS;
        op->fn = do_popf;
        break;
    case ZYDIS_MNEMONIC_CLI: op->fn = do_cli; break;
    case ZYDIS_MNEMONIC_STI: op->fn = do_sti; break;
    default: return false;
    }
    in->ends_block = true;
    return true;
}
