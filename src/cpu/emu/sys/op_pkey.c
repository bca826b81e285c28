/* SPDX-License-Identifier: MIT
 * Protection keys (SDM 2.7, 4.6.2): RDPKRU, WRPKRU, and what a change of the
 * rights means for the soft TLB, whose entries were checked as they were made. */
#include "sys.h"
#include "../tlb.h"

/* Rights that grow need nothing: what they forbade made no entries. keys_at: where
 * the register's keys are in tlb->keys. */
static void rights_changed(struct emu *c, uint32_t old, uint32_t now, unsigned keys_at)
{
    uint32_t lost = now & ~old, keys = 0;
    for (unsigned key = 0; key < 16; key++)
        if (lost >> (2 * key) & 3)
            keys |= BIT(keys_at + key);
    if (keys & c->tlbs->keys)
        emu_flush_all(c);
    c->walk.pkru = c->pkru;
    c->walk.pkrs = c->pkrs;
}

bool emu_set_pkru(struct emu *c, uint64_t v)
{
    uint32_t old = c->pkru;
    if (!cpu_has(c, F_PKU) || v >> 32)
        return false;
    c->pkru = (uint32_t)v;
    rights_changed(c, old, c->pkru, 0);
    return true;
}

bool emu_set_pkrs(struct emu *c, uint64_t v)
{
    uint32_t old = c->pkrs;
    if (!cpu_has(c, F_PKS) || v >> 32)
        return false;
    c->pkrs = (uint32_t)v;
    rights_changed(c, old, c->pkrs, 16);
    return true;
}

static void check(struct emu *c, const struct op *op)
{
    if (!(c->cr4 & CR4_PKE))
        emu_ud(c, op);
    if ((uint32_t)c->gpr[R_RCX])
        emu_gp0(c, op);
}

static void op_rdpkru(struct emu *c, const struct op *op)
{
    check(c, op);
    c->gpr[R_RAX] = c->pkru;
    c->gpr[R_RDX] = 0;
    NEXT;
}

static void op_wrpkru(struct emu *c, const struct op *op)
{
    check(c, op);
    if ((uint32_t)c->gpr[R_RDX])
        emu_gp0(c, op);
    emu_set_pkru(c, (uint32_t)c->gpr[R_RAX]);
    c->rip = op_next_ip(c, op);
}

bool select_pkey(struct emu *c, struct insn *in, struct op *op)
{
    bool write = in->zi.mnemonic == ZYDIS_MNEMONIC_WRPKRU;
    if (!write && in->zi.mnemonic != ZYDIS_MNEMONIC_RDPKRU)
        return false;
    op->fn = write ? op_wrpkru : op_rdpkru;
    in->ends_block = write;
    return emu_has_isa(c, in->zi.meta.isa_set);
}
