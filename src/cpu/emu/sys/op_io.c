/* SPDX-License-Identifier: MIT
 * IN, OUT, INS, OUTS (SDM volume 1, chapter 19). All end their block: a device
 * may have changed what comes next. */
#include "../int/int.h"
#include "sys.h"

/* REP: iterations between looks at the dispatcher. */
#define REP_RUN 64u

/* ---- permission ----------------------------------------------------------------- */

/* The bits of the TSS's I/O permission map (SDM volume 1, 19.5.2). */
static bool bitmap_allows(struct emu *c, uint16_t port, unsigned size)
{
    const struct seg *tr = &c->seg[SEG_TR];
    unsigned type = tr->attr & SEG_A_TYPE;
    uint8_t word[2];

    if (!(tr->attr & SEG_A_P) || (type != 9 && type != 11) || tr->limit < 0x67)
        return false;
    uint64_t wrap = c->efer & EFER_LMA ? UINT64_MAX : UINT32_MAX;
    sys_load(c, (tr->base + 0x66) & wrap, word, 2);
    uint32_t at = get_le16(word) + (port >> 3);
    /* Two bytes are read always. */
    if (at + 1 > tr->limit)
        return false;
    sys_load(c, (tr->base + at) & wrap, word, 2);
    return !(get_le16(word) >> (port & 7) & ((1u << size) - 1));
}

static void check_port(struct emu *c, const struct op *op, uint16_t port, unsigned size)
{
    if (likely(!(c->cr0 & CR0_PE)))
        return;
    if (!(c->rflags & FL_VM) && c->cpl <= (c->rflags & FL_IOPL) >> 12)
        return;
    emu_at(c, op);
    if (!bitmap_allows(c, port, size))
        emu_gp0(c, op);
}

/* ---- IN, OUT: op->opsize bytes; OP_USER1: the port is DX -------------------------- */

static uint16_t port_of(const struct emu *c, const struct op *op)
{
    return op->flags & OP_USER1 ? (uint16_t)c->gpr[R_RDX] : (uint8_t)op->imm;
}

static void op_in(struct emu *c, const struct op *op)
{
    uint16_t port = port_of(c, op);
    check_port(c, op, port, op->opsize);
    reg_write(c, R_RAX * 8, op->opsize, emu_port_in(c, op, port, op->opsize));
    c->rip = op_next_ip(c, op);
}

static void op_out(struct emu *c, const struct op *op)
{
    uint16_t port = port_of(c, op);
    check_port(c, op, port, op->opsize);
    emu_port_out(c, op, port, op->opsize, (uint32_t)reg_read(c, R_RAX * 8, op->opsize));
    c->rip = op_next_ip(c, op);
}

/* ---- INS, OUTS --------------------------------------------------------------------- */

static void advance(struct emu *c, const struct op *op, unsigned reg)
{
    uint64_t step = c->rflags & FL_DF ? 0 - (uint64_t)op->opsize : op->opsize;
    reg_write(c, reg * 8, op->asize, c->gpr[reg] + step);
}

static void store(struct emu *c, const struct op *op, uint64_t lin, uint32_t v)
{
    switch (op->opsize) {
    case 1: st8(c, op, lin, (uint8_t)v); break;
    case 2: st16(c, op, lin, (uint16_t)v); break;
    default: st32(c, op, lin, v); break;
    }
}

static uint32_t load(struct emu *c, const struct op *op, uint64_t lin)
{
    switch (op->opsize) {
    case 1: return ld8(c, op, lin);
    case 2: return ld16(c, op, lin);
    default: return ld32(c, op, lin);
    }
}

static void ins_once(struct emu *c, const struct op *op)
{
    uint16_t port = (uint16_t)c->gpr[R_RDX];
    uint64_t lin = seg_linear(c, op, SEG_ES, reg_read(c, R_RDI * 8, op->asize), op->opsize, true);

    /* What the store would raise comes before the device is asked. */
    if (unlikely(c->ac_check) && lin & (op->opsize - 1u)) {
        emu_at(c, op);
        emu_raise_err(c, EXC_AC, 0);
    }
    emu_probe_store(c, op, lin, op->opsize);
    store(c, op, lin, emu_port_in(c, op, port, op->opsize));
    advance(c, op, R_RDI);
}

static void outs_once(struct emu *c, const struct op *op)
{
    uint16_t port = (uint16_t)c->gpr[R_RDX];
    uint64_t off = reg_read(c, R_RSI * 8, op->asize);
    uint64_t lin = seg_linear(c, op, op->seg, off, op->opsize, false);

    emu_port_out(c, op, port, op->opsize, load(c, op, lin));
    advance(c, op, R_RSI);
}

/* REP: registers follow each iteration, so that whatever comes between two of
 * them finds the instruction ready to go on. */
static void string_io(struct emu *c, const struct op *op,
                      void (*once)(struct emu *c, const struct op *op))
{
    uint64_t left = 1;
    unsigned done = 0;

    check_port(c, op, (uint16_t)c->gpr[R_RDX], op->opsize);
    if (!(op->flags & (OP_REP | OP_REPNE))) {
        once(c, op);
        c->rip = op_next_ip(c, op);
        return;
    }
    while ((left = reg_read(c, R_RCX * 8, op->asize)) != 0) {
        once(c, op);
        reg_write(c, R_RCX * 8, op->asize, --left);
        emu_replay_done(c);
        if (!left || c->mode & MODE_STEP || ++done == REP_RUN ||
            atomic_load_explicit(&c->mail->pending, memory_order_relaxed) & c->pend_mask)
            break;
    }
    if (left)
        op_restart(c, op);
    else
        c->rip = op_next_ip(c, op);
}

static void op_ins(struct emu *c, const struct op *op)
{
    string_io(c, op, ins_once);
}

static void op_outs(struct emu *c, const struct op *op)
{
    string_io(c, op, outs_once);
}

/* ---- selection ------------------------------------------------------------------------ */

static uint8_t segment(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_ES: return SEG_ES;
    case ZYDIS_REGISTER_CS: return SEG_CS;
    case ZYDIS_REGISTER_SS: return SEG_SS;
    case ZYDIS_REGISTER_FS: return SEG_FS;
    case ZYDIS_REGISTER_GS: return SEG_GS;
    default: return SEG_DS;
    }
}

/* OUTS reads DS:rSI, or what a prefix says; INS writes ES:rDI. */
static void string_segment(const struct insn *in, struct op *op)
{
    for (unsigned i = 0; i < in->zi.operand_count; i++)
        if (in->zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            op->seg = segment(in->zop[i].mem.segment);
}

bool select_io(struct emu *c, struct insn *in, struct op *op)
{
    unsigned port;

    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_IN: /* the sizes are 1, 2 and 4: REX.W counts for nothing */
        op->fn = op_in;
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        port = 1;
        break;
    case ZYDIS_MNEMONIC_OUT:
        op->fn = op_out;
        op->opsize = (uint8_t)(in->zop[1].size / 8);
        port = 0;
        break;
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_OUTSB: op->opsize = 1; goto string;
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_OUTSW: op->opsize = 2; goto string;
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSD: op->opsize = 4; goto string;
    default: return false;
    }
    if (in->zop[port].type == ZYDIS_OPERAND_TYPE_REGISTER)
        op->flags |= OP_USER1;
    in->ends_block = true;
    return true;

string:
    string_segment(in, op);
    op->fn = in->zi.mnemonic == ZYDIS_MNEMONIC_INSB || in->zi.mnemonic == ZYDIS_MNEMONIC_INSW ||
                     in->zi.mnemonic == ZYDIS_MNEMONIC_INSD
                 ? op_ins
                 : op_outs;
    in->ends_block = true;
    return true;
}
