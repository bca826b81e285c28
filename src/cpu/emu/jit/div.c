/* SPDX-License-Identifier: MIT
 * DIV and IDIV. The host must not raise #DE, so what could is left to the
 * interpreter: for DIV exactly what does, a high half not less than the divisor;
 * for IDIV also dividends that are not the sign extension of their low half. */
#include "trans.h"

/* op of two registers; a register field may be an opcode's extension. */
static void op_rr(struct asmbuf *a, unsigned size, unsigned opcode, unsigned reg, unsigned rm)
{
    unsigned rex = 0x40u | (size == 8 ? 8u : 0) | reg >> 3 << 2 | rm >> 3;
    if (size == 2)
        put8(a, 0x66);
    if (rex != 0x40)
        put8(a, rex);
    put8(a, size == 1 ? opcode & ~1u : opcode);
    put8(a, 0xc0u | (reg & 7) << 3 | (rm & 7));
}

/* r10 = the divisor in memory; the operand's upper bytes do not matter. */
static void load_divisor(struct asmbuf *a, unsigned size, const struct hmem *h)
{
    if (h->gs)
        put8(a, 0x65);
    if (size == 8) {
        hmem_op(a, 0x8b, H_R10, h);
        return;
    }
    put8(a, 0x44u | hmem_rex(h));
    if (size < 4) /* movzx */
        put8(a, 0x0f), put8(a, size == 1 ? 0xb6 : 0xb7);
    else
        put8(a, 0x8b);
    put_hmem(a, H_R10, h);
}

/* The host register that holds the divisor. */
static unsigned put_divisor(struct trans *t, struct tinsn *ti, unsigned i, struct cold **check)
{
    struct asmbuf *a = &t->a;
    unsigned size = ti->op.opsize;
    if (ti->has_access) {
        *check = put_check(t, i, &ti->m);
        struct hmem h = put_operand(t, &ti->m);
        load_divisor(a, size, &h);
        return H_R10;
    }
    unsigned off = op_gpr(ti->zop[0].reg.value), guest = off / 8;
    if (homed((int)guest)) {
        gs_load(a, H_R10, GPR_OFF(guest));
        return H_R10;
    }
    if (off & 1) { /* AH..BH */
        mov_reg(a, H_R10, guest);
        op_rr(a, 4, 0xc1, 5, H_R10), put8(a, 8); /* shr r10d, 8 */
        return H_R10;
    }
    if (size > 1)
        return host_reg((int)guest);
    mov_reg(a, H_R10, host_reg((int)guest)); /* so that its low byte can be named */
    return H_R10;
}

static void put_unsigned_check(struct asmbuf *a, unsigned size, unsigned d, struct cold *k)
{
    unsigned high = H_RDX;
    if (size == 1) {
        high = H_R11;
        mov_reg(a, H_R11, H_RAX);
        op_rr(a, 4, 0xc1, 5, H_R11), put8(a, 8); /* shr r11d, 8 */
    }
    op_rr(a, size, 0x39, d, high);
    k->from = jump_cc(a, 3, NULL); /* jae */
}

static void put_signed_check(struct asmbuf *a, unsigned size, unsigned d, struct cold *k)
{
    lea_disp(a, H_R11, d, 1);
    op_rr(a, size, size == 1 ? 0x81 : 0x83, 7, H_R11), put8(a, 1); /* cmp r11, 1 */
    k->from = jump_cc(a, 6, NULL);                                 /* jbe: 0 or -1 */
    if (size == 1) {
        put8(a, 0x44), put8(a, 0x0f), put8(a, 0xbe), put8(a, 0xd8); /* movsx r11d, al */
        op_rr(a, 2, 0x39, H_R11, H_RAX);
    } else {
        mov_reg(a, H_R11, H_RAX);
        op_rr(a, size, 0xc1, 7, H_R11), put8(a, size * 8 - 1); /* sar r11 */
        op_rr(a, size, 0x39, H_R11, H_RDX);
    }
    k->from2 = jump_cc(a, 5, NULL);
}

void put_div(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    bool is_signed = ti->zi.mnemonic == ZYDIS_MNEMONIC_IDIV;
    unsigned size = ti->op.opsize;
    struct cold *fill = NULL;

    keep_flags(t, ti, i);
    unsigned d = put_divisor(t, ti, i, &fill);
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->site = trans_site(t, i);
    if (is_signed)
        put_signed_check(a, size, d, k);
    else
        put_unsigned_check(a, size, d, k);
    op_rr(a, size, 0xf7, is_signed ? 7 : 6, d);
    need_flags(t, ti->live_after & ~ti->def);
    finish_cold(t, fill, ti);
    finish_cold(t, k, ti);
}
