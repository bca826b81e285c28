/* SPDX-License-Identifier: MIT
 * x87 and MMX. The host's x87 registers hold the guest's from the first such
 * instruction on until C runs, and instructions run as they are, while all
 * exceptions are masked. Only the pointers to the last instruction and its operand
 * (SDM volume 1, 8.1.8) would be the host's: they are put into emu.fx, but not
 * before somebody may look there. */
#include "trans.h"
#include "../simd/fpu.h"
#include "../simd/x87.h"

#define FX_OFF(at) (EMU_OFF(fx) + (at))
#define MASKS      0x3fu /* of all exceptions, in the control word */

bool trans_x87(const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNOP:
    case ZYDIS_MNEMONIC_FWAIT:
    case ZYDIS_MNEMONIC_EMMS: return true;
    default: break;
    }
    for (unsigned i = 0; i < ti->zi.operand_count; i++)
        if (ti->zop[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(ti->zop[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return ti->op.msize <= 8;
    return x87_sets_pointers(&ti->op);
}

/* ---- the pointers ----------------------------------------------------------------- */

/* An offset, which outside 64-bit mode is of 32 bits and has the selector beside it. */
static void put_pointer(struct trans *t, unsigned from, uint32_t to, unsigned seg)
{
    struct asmbuf *a = &t->a;
    gs_op(a, !t->code32, 0x89, from, to);
    if (!t->code32)
        return;
    put8(a, 0x65), put8(a, 0x44), put8(a, 0x0f), put8(a, 0xb7); /* movzx r11d, word */
    put8(a, 0x1c), put8(a, 0x25);
    put32(a,
          EMU_OFF(seg) + seg * (uint32_t)sizeof(struct seg) + (uint32_t)offsetof(struct seg, sel));
    gs_op(a, false, 0x89, H_R11, to + 4);
}

static void put_data_pointer(struct trans *t)
{
    if (!t->x87.data)
        return;
    const struct tinsn *ti = &t->insn[t->x87.data - 1];
    struct access m = ti->m;
    m.seg = -1;
    put_linear(t, &m, H_R11, m.disp);
    put_pointer(t, H_R11, FX_OFF(FX_FDP), ti->op.seg);
    t->x87.data = 0;
}

static void put_opcode(struct asmbuf *a, unsigned fop)
{
    put8(a, 0x65), put8(a, 0x66), put8(a, 0xc7), put8(a, 0x04), put8(a, 0x25);
    put32(a, FX_OFF(FX_FOP)), put8(a, fop & 0xff), put8(a, fop >> 8); /* mov word */
}

void put_x87_pointers(struct trans *t)
{
    put_data_pointer(t);
    if (!t->x87.insn)
        return;
    const struct tinsn *ti = &t->insn[t->x87.insn - 1];
    put_ip(t, ti->off);
    put_pointer(t, H_R10, FX_OFF(FX_FIP), SEG_CS);
    put_opcode(&t->a, (unsigned)(ti->op.imm >> X87_FOP_SHIFT));
    t->x87.insn = 0;
}

/* FNINIT clears them. */
static void put_no_pointers(struct trans *t)
{
    put_opcode(&t->a, 0);
    gs_op(&t->a, true, 0xc7, 0, FX_OFF(FX_FIP)), put32(&t->a, 0); /* mov qword */
    gs_op(&t->a, true, 0xc7, 0, FX_OFF(FX_FDP)), put32(&t->a, 0);
    t->x87 = (struct x87_ptrs){0};
}

/* Before an instruction changes registers that the operand's address is made of. */
void x87_before(struct trans *t, const struct tinsn *ti)
{
    if (!t->x87.data)
        return;
    const struct access *m = &t->insn[t->x87.data - 1].m;
    if (trans_writes(ti, m->base) || trans_writes(ti, m->index))
        put_data_pointer(t);
}

void x87_done(struct trans *t, const struct tinsn *ti, unsigned i)
{
    if (!x87_sets_pointers(&ti->op))
        return;
    t->x87.insn = (uint16_t)(i + 1);
    if (ti->has_access)
        t->x87.data = (uint16_t)(i + 1);
}

/* What is so at the start of each turn of a loop's second body, when the end of
 * the turn before it makes it so: its last instruction was the last. */
struct x87_ptrs x87_at_turn(const struct trans *t)
{
    struct x87_ptrs p = {0};
    for (unsigned i = 0; i <= t->loop.last; i++) {
        const struct tinsn *ti = &t->insn[i];
        if (ti->kind == T_X87 && x87_sets_pointers(&ti->op))
            p.insn = (uint16_t)(i + 1);
        else if (ti->zi.mnemonic == ZYDIS_MNEMONIC_FNINIT)
            p.insn = 0;
        if (i < t->loop.last && ti->kind == T_JCC && ti->op.disp == (int64_t)t->start)
            return (struct x87_ptrs){0}; /* turns end in several places */
    }
    return p;
}

void put_x87_turn(struct trans *t)
{
    put_data_pointer(t);
    if (!x87_at_turn(t).insn)
        put_x87_pointers(t);
}

/* ---- instructions ------------------------------------------------------------------- */

/* A control word that unmasks an exception is the interpreter's, which then leaves
 * the block. The word is read once. */
static void put_fldcw(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    put_simd_check(t, ti, i);
    keep_flags(t, ti, i);
    struct cold *fill = put_check(t, i, &ti->m);
    struct hmem h = put_operand(t, &ti->m);
    put8(a, 0x44u | hmem_rex(&h)), put8(a, 0x0f), put8(a, 0xb7); /* movzx r10d, word */
    put_hmem(a, H_R10, &h);
    gs_store(a, H_R10, EMU_OFF(jit_tmp));
    put8(a, 0x41), put8(a, 0xf7), put8(a, 0xd2);                 /* not r10d */
    put8(a, 0x41), put8(a, 0xf6), put8(a, 0xc2), put8(a, MASKS); /* test r10b */
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->from = jump_cc(a, 5, NULL);
    k->site = trans_site(t, i);
    put8(a, 0x65), put8(a, 0xd9), put8(a, 0x2c), put8(a, 0x25); /* fldcw [jit_tmp] */
    put32(a, EMU_OFF(jit_tmp));
    finish_cold(t, fill, ti);
    finish_cold(t, k, ti);
}

void put_x87(struct trans *t, struct tinsn *ti, unsigned i)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FLDCW: put_fldcw(t, ti, i); break;
    case ZYDIS_MNEMONIC_FNOP: /* nothing is pending */
    case ZYDIS_MNEMONIC_FWAIT: put_simd_check(t, ti, i); break;
    case ZYDIS_MNEMONIC_FNINIT:
        put_copy(t, ti, i);
        put_no_pointers(t);
        break;
    default: put_copy(t, ti, i); break;
    }
}
