/* SPDX-License-Identifier: MIT
 * MOVS, STOS and LODS, repeated or not: the host's own instruction on the host's
 * addresses, when DF is clear and each side lies in one page that the soft TLB
 * knows. One piece of code a form and size does that for all places. */
#include "trans.h"

#define ENT_OFF(kind)                                                                              \
    ((int32_t)(offsetof(struct tlb_set, e) + (kind) * sizeof(struct tlb_ent) * TLB_N))
#define ADDEND_OFF(kind) (ENT_OFF(kind) + (int32_t)offsetof(struct tlb_ent, addend))

static void shift_imm(struct asmbuf *a, unsigned ext, unsigned reg, unsigned n)
{
    put8(a, 0x48u | reg >> 3), put8(a, 0xc1), put8(a, 0xc0u | ext << 3 | (reg & 7)), put8(a, n);
}

static void alu_imm(struct asmbuf *a, bool wide, unsigned ext, unsigned reg, uint32_t v)
{
    unsigned rex = 0x40u | (wide ? 8u : 0) | reg >> 3;
    if (rex != 0x40)
        put8(a, rex);
    put8(a, 0x81), put8(a, 0xc0u | ext << 3 | (reg & 7)), put32(a, v);
}

/* entry = the soft TLB's for the address in `at`; to the returned jump when it is
 * another page's, or the r11 bytes there pass its end. Clobbers rdx. */
static uint8_t *put_side(struct asmbuf *a, enum tlb_kind kind, unsigned at, unsigned entry)
{
    mov_reg(a, entry, at);
    shift_imm(a, 5, entry, 8); /* shr */
    alu_imm(a, false, 4, entry, (TLB_N - 1) << 4);
    gs_op(a, true, 0x03, entry, EMU_OFF(tlb));
    mov_reg(a, H_RDX, at);
    mem_op(a, 0x2b, H_RDX, entry, ENT_OFF(kind));
    reg_op(a, 0x01, H_RDX, H_R11);
    alu_imm(a, true, 7, H_RDX, 4096); /* cmp */
    return jump_cc(a, 7, NULL);       /* ja */
}

static void put_insn(struct asmbuf *a, enum jit_string form, unsigned size_log2, bool rep)
{
    static const uint8_t opcode[] = {[JIT_MOVS] = 0xa4, [JIT_STOS] = 0xaa, [JIT_LODS] = 0xac};
    if (rep)
        put8(a, 0xf3);
    if (size_log2 == 1)
        put8(a, 0x66);
    if (size_log2 == 3)
        put8(a, 0x48);
    put8(a, opcode[form] | (size_log2 != 0));
}

const uint8_t *emit_string(struct asmbuf *a, enum jit_string form, unsigned size_log2, bool rep)
{
    const uint8_t *start = here(a);
    bool from = form != JIT_STOS, to = form != JIT_LODS;
    uint8_t *fail[2] = {NULL, NULL}, *miss[3] = {NULL, NULL, NULL};

    gs_op(a, false, 0xf6, 0, EMU_OFF(rflags) + 1), put8(a, FL_DF >> 8); /* test byte */
    fail[0] = jump_cc(a, 5, NULL);
    mov_imm64(a, H_R11, 1u << size_log2);
    if (rep) {
        lea_disp(a, H_R10, H_RCX, -1);
        alu_imm(a, true, 7, H_R10, (4096u >> size_log2) - 1);
        fail[1] = jump_cc(a, 7, NULL);
        mov_reg(a, H_R11, H_RCX);
        shift_imm(a, 4, H_R11, size_log2); /* shl */
    }
    put8(a, 0x50 | H_RDX), put8(a, 0x50 | H_RBX); /* push */
    if (to) {
        miss[0] = put_side(a, TLB_W, H_RDI, H_RBX);
        /* Which lines it stores to is known to C only. What gets code from now on
         * shows in the look after the store, and then the whole page counts. */
        mem_op(a, 0x8b, H_R10, H_RBX, (int32_t)offsetof(struct tlb_set, wx));
        put8(a, 0x49), put8(a, 0x83), put8(a, 0x3a), put8(a, 0); /* cmp qword [r10], 0 */
        miss[2] = jump_cc(a, 5, NULL);
    }
    if (from) {
        miss[1] = put_side(a, TLB_R, H_RSI, H_R10);
        mem_op(a, 0x8b, H_RDX, H_R10, ADDEND_OFF(TLB_R));
        reg_op(a, 0x01, H_RSI, H_RDX);
    }
    if (to) {
        mem_op(a, 0x8b, H_R10, H_RBX, ADDEND_OFF(TLB_W));
        reg_op(a, 0x01, H_RDI, H_R10);
        mem_op(a, 0x8b, H_R11, H_RBX, (int32_t)offsetof(struct tlb_set, wx));
    }
    put_insn(a, form, size_log2, rep);
    if (from)
        reg_op(a, 0x29, H_RSI, H_RDX);
    if (to)
        reg_op(a, 0x29, H_RDI, H_R10);
    put8(a, 0x58 | H_RBX), put8(a, 0x58 | H_RDX); /* pop */
    put8(a, 0xf8), put8(a, 0xc3);                 /* clc; ret */
    for (unsigned i = 0; i < 3; i++)
        if (miss[i])
            patch_here(a, miss[i]);
    put8(a, 0x58 | H_RBX), put8(a, 0x58 | H_RDX);
    for (unsigned i = 0; i < 2; i++)
        if (fail[i])
            patch_here(a, fail[i]);
    put8(a, 0xf9), put8(a, 0xc3); /* stc; ret */
    return start;
}

static bool form_of(const struct tinsn *ti, enum jit_string *form)
{
    if (ti->zi.meta.category != ZYDIS_CATEGORY_STRINGOP || ti->op.asize != insn_word(ti) ||
        ti->op.seg == SEG_CS || ti->op.seg == SEG_FS || ti->op.seg == SEG_GS)
        return false;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ: *form = JIT_MOVS; return true;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ: *form = JIT_STOS; return true;
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ: *form = JIT_LODS; return true;
    default: return false;
    }
}

bool put_string(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    enum jit_string form;
    if (!form_of(ti, &form))
        return false;
    bool rep = ti->op.flags & (OP_REP | OP_REPNE);
    unsigned size = ti->op.opsize;

    spill_flags(t, ti->live_before);
    call_to(a, t->gates->string[form][rep][size == 8 ? 3 : size == 4 ? 2 : size - 1]);
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->from = jump_cc(a, 2, NULL); /* jc */
    k->site = trans_site(t, i);
    if (t->code32) /* where the last page was passed */
        zero_upper(a, H_RSI), zero_upper(a, H_RDI);
    if (form != JIT_LODS) {
        put8(a, 0x49), put8(a, 0x83), put8(a, 0x3b), put8(a, 0); /* cmp qword [r11], 0 */
        struct cold *s = trans_cold_new(t, i, COLD_STORED);
        s->from = jump_cc(a, 5, NULL);
        s->back = here(a);
        s->m = (struct access){.base = 7, .index = -1, .disp = -1, .seg = -1};
        s->site = trans_site(t, i);
        if (s->site)
            s->site->size = 0; /* anywhere in the page */
    }
    finish_cold(t, k, ti);
    return true;
}
