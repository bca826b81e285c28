/* SPDX-License-Identifier: MIT
 * BT, BTS, BTR, BTC of memory with the bit's number in a register, which counts from
 * the operand's first bit as far as it likes (SDM volume 2, BT). */
#include "trans.h"

bool trans_bit(const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC: break;
    default: return false;
    }
    return ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
           ti->zop[1].type == ZYDIS_OPERAND_TYPE_REGISTER && address_possible(ti, &ti->zop[0]) &&
           (code64_insn(ti) || ti->op.seg < SEG_FS);
}

/* r10 = the bit's number, sign-extended. */
static void put_number(struct asmbuf *a, unsigned guest, unsigned size)
{
    unsigned from = homed((int)guest) ? (unsigned)H_R10 : host_reg((int)guest);
    if (homed((int)guest))
        gs_load(a, H_R10, GPR_OFF(guest));
    if (size == 8) {
        mov_reg(a, H_R10, from);
        return;
    }
    put8(a, 0x4cu | from >> 3);
    if (size == 4)
        put8(a, 0x63); /* movsxd */
    else
        put8(a, 0x0f), put8(a, 0xbf); /* movsx */
    put8(a, 0xd0u | (from & 7));
}

/* R_TMP = the offset of the word that has the bit, emu.jit_tmp = which bit of it. */
static void put_word(struct trans *t, const struct tinsn *ti, const struct access *m)
{
    struct asmbuf *a = &t->a;
    unsigned size = m->size, guest = op_gpr(ti->zop[1].reg.value) / 8u;
    struct access offset = *m;
    offset.seg = -1;
    put_linear(t, &offset, H_R11, m->disp);
    put_number(a, guest, size);
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xfa); /* sar r10: words */
    put8(a, size == 8 ? 6 : size == 4 ? 5 : 4);
    hmem_op(a, 0x8d, H_R11,
            &(struct hmem){H_R11, H_R10,
                           size == 8   ? 3
                           : size == 4 ? 2
                                       : 1,
                           0, false});
    gs_store(a, H_R11, GPR_OFF(R_TMP));
    put_number(a, guest, size);
    put8(a, 0x41), put8(a, 0x83), put8(a, 0xe2), put8(a, size * 8 - 1); /* and r10d */
    gs_store(a, H_R10, EMU_OFF(jit_tmp));
}

void put_bit(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct access m = trans_access(ti, &ti->zop[0]);

    m.size = ti->op.opsize;
    keep_flags(t, ti, i);
    put_word(t, ti, &m);
    m = (struct access){.base = R_TMP, .index = -1, .seg = m.seg, .size = m.size, .write = m.write};
    struct cold *k = put_check(t, i, &m);
    struct hmem h = put_operand(t, &m);
    put_collapse(t, &h);
    need_flags(t, ti->use | (ti->live_after & ~ti->def));
    gs_load(a, H_R10, EMU_OFF(jit_tmp));
    if (m.size == 2)
        put8(a, 0x66);
    if (ti->op.flags & OP_LOCK)
        put8(a, 0xf0);
    put8(a, m.size == 8 ? 0x4d : 0x45);
    put8(a, 0x0f), put8(a, ti->zi.opcode);
    put_hmem(a, H_R10, &h);
    if (m.write) {
        spill_flags(t, ti->live_after);
        put_stored(t, i, &m, false);
    }
    finish_cold(t, k, ti);
}
