/* SPDX-License-Identifier: MIT
 * Debug registers (SDM 18.2): MOV DR, and which breakpoints an event hits. */
#include "sys.h"

/* DR7: L0 G0 L1 G1.. in bits 0-7, then four bits a breakpoint from 16 on: R/W,
 * LEN. */
enum dr_kind { DR_EXEC = 0, DR_WRITE = 1, DR_IO = 2, DR_RW = 3 };

static bool armed(const struct emu *c, unsigned n)
{
    return c->dr7 >> (2 * n) & 3;
}

static enum dr_kind kind(const struct emu *c, unsigned n)
{
    return (enum dr_kind)(c->dr7 >> (16 + 4 * n) & 3);
}

static unsigned length(const struct emu *c, unsigned n)
{
    static const uint8_t bytes[] = {1, 2, 8, 4};
    return bytes[c->dr7 >> (18 + 4 * n) & 3];
}

/* Whether [at, at + len) meets the breakpoint's aligned range. */
static bool meets(const struct emu *c, unsigned n, uint64_t at, unsigned len)
{
    uint64_t size = length(c, n), base = c->dr[n] & ~(size - 1);
    return at - base < size || base - at < len;
}

uint64_t dr_match_exec(struct emu *c, uint64_t lin)
{
    uint64_t hit = 0;
    for (unsigned n = 0; n < 4; n++)
        if (armed(c, n) && kind(c, n) == DR_EXEC && c->dr[n] == lin)
            hit |= BIT64(n);
    return hit;
}

uint64_t dr_match_data(struct emu *c, uint64_t lin, unsigned len, bool write)
{
    uint64_t hit = 0;
    for (unsigned n = 0; n < 4; n++) {
        bool watched = kind(c, n) == DR_RW || (write && kind(c, n) == DR_WRITE);
        if (armed(c, n) && watched && meets(c, n, lin, len))
            hit |= BIT64(n);
    }
    return hit;
}

uint64_t dr_match_io(struct emu *c, uint16_t port, unsigned len)
{
    uint64_t hit = 0;
    if (!(c->cr4 & CR4_DE))
        return 0;
    for (unsigned n = 0; n < 4; n++)
        if (armed(c, n) && kind(c, n) == DR_IO && meets(c, n, port, len))
            hit |= BIT64(n);
    return hit;
}

bool dr_armed_exec(const struct emu *c)
{
    for (unsigned n = 0; n < 4; n++)
        if (armed(c, n) && kind(c, n) == DR_EXEC)
            return true;
    return false;
}

bool dr_armed_data(const struct emu *c)
{
    for (unsigned n = 0; n < 4; n++)
        if (armed(c, n) && kind(c, n) != DR_EXEC)
            return true;
    return false;
}

void dr_report(struct emu *c, uint64_t bits)
{
    c->dr6 = DR6_FIXED | (c->dr6 & (DR6_BD | DR6_BS | DR6_BT)) | bits;
    c->dr7 &= ~DR7_GD;
}

bool dr_set(struct emu *c, unsigned n, uint64_t v)
{
    if (n < 4) {
        c->dr[n] = v;
        return true;
    }
    if (v >> 32)
        return false;
    if (n & 1)
        c->dr7 = DR7_FIXED | (v & 0xffff23ffu);
    else
        c->dr6 = DR6_FIXED | (v & (DR6_B | DR6_BD | DR6_BS | DR6_BT));
    return true;
}

uint64_t dr_get(const struct emu *c, unsigned n)
{
    return n < 4 ? c->dr[n] : n & 1 ? c->dr7 : c->dr6;
}

/* ---- MOV DR: op->imm is the register's number ------------------------------------- */

static void check_dr(struct emu *c, const struct op *op)
{
    /* DR4 and DR5 are DR6 and DR7, unless debug extensions are on. */
    if ((op->imm == 4 || op->imm == 5) && c->cr4 & CR4_DE)
        emu_ud(c, op);
    need_cpl0(c, op);
    if (c->dr7 & DR7_GD) {
        emu_at(c, op);
        c->fault.db6 = DR6_BD;
        emu_raise(c, EXC_DB);
    }
}

static void op_mov_from_dr(struct emu *c, const struct op *op)
{
    check_dr(c, op);
    reg_write(c, op->dst, op->opsize, dr_get(c, (unsigned)op->imm));
    NEXT;
}

static void op_mov_to_dr(struct emu *c, const struct op *op)
{
    check_dr(c, op);
    if (!dr_set(c, (unsigned)op->imm, reg_read(c, op->src, op->opsize)))
        emu_gp0(c, op);
    emu_mode_changed(c);
    c->rip = op_next_ip(c, op);
}

static bool is_dr(const ZydisDecodedOperand *z)
{
    return z->type == ZYDIS_OPERAND_TYPE_REGISTER && z->reg.value >= ZYDIS_REGISTER_DR0 &&
           z->reg.value <= ZYDIS_REGISTER_DR7;
}

bool select_dr(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    if (in->zi.mnemonic != ZYDIS_MNEMONIC_MOV)
        return false;
    bool write = is_dr(&in->zop[0]);
    if (!write && !is_dr(&in->zop[1]))
        return false;
    op->imm = in->zop[!write].reg.value - ZYDIS_REGISTER_DR0;
    op->opsize = in->code_size == 8 ? 8 : 4;
    if (write) {
        op->src = op_gpr(in->zop[1].reg.value);
        op->fn = op_mov_to_dr;
        in->ends_block = true;
    } else {
        op->dst = op_gpr(in->zop[0].reg.value);
        op->fn = op_mov_from_dr;
    }
    return true;
}
