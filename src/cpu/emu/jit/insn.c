/* SPDX-License-Identifier: MIT
 * The code of one instruction that is not a branch. */
#include "trans.h"
#include "../simd/thunk.h"

void put_callout(struct trans *t, struct tinsn *ti, unsigned i)
{
    if (put_string(t, ti, i))
        return;
    spill_flags(t, ti->live_before);
    put_x87_pointers(t);
    struct jit_site *s = trans_site(t, i);
    if (!s)
        return;
    s->always = true;
    mov_imm64(&t->a, H_R11, (uint64_t)(uintptr_t)s);
    call_to(&t->a, t->gates->callout);
    t->simd = 0;
}

uint8_t trans_simd(const struct tinsn *ti)
{
    if (ti->kind == T_X87) /* MMX's conversions use MXCSR */
        return simd_isa(ti->zi.meta.isa_set) && ti->zi.meta.isa_set != ZYDIS_ISA_SET_PENTIUMMMX
                   ? JIT_SIMD_X87 | JIT_SIMD_SSE
                   : JIT_SIMD_X87;
    return ti->kind != T_VECTOR                                ? 0
           : ti->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? JIT_SIMD_AVX
                                                               : JIT_SIMD_SSE;
}

void finish_cold(struct trans *t, struct cold *k, const struct tinsn *ti)
{
    if (!k)
        return;
    k->after = here(&t->a);
    k->reload = t->flags == IN_HOST && ti->live_after;
}

void put_simd(struct trans *t, uint8_t need, unsigned i, uint8_t also)
{
    gs_op(&t->a, false, 0xf6, 0, EMU_OFF(simd_live)); /* test byte, need */
    put8(&t->a, need);
    struct cold *k = trans_cold_new(t, i, COLD_SIMD);
    k->from = jump_cc(&t->a, 4, NULL);
    k->back = here(&t->a);
    k->site = trans_site(t, i);
    if (k->site)
        k->site->size = need;
    t->simd |= need | also;
}

void put_simd_check(struct trans *t, struct tinsn *ti, unsigned i)
{
    uint8_t need = trans_simd(ti) & (uint8_t)~t->simd;
    if (!need)
        return;
    keep_flags(t, ti, i);
    if (need & JIT_SIMD_X87)
        put_simd(t, JIT_SIMD_X87, i, 0);
    if (need & JIT_SIMD_VEC)
        put_simd(t, need & JIT_SIMD_VEC, i, JIT_SIMD_SSE);
}

/* ---- copies ---------------------------------------------------------------------- */

struct field {
    int guest;
    unsigned *host, scratch;
    bool read, write;
};

static void how_used(const struct tinsn *ti, ZydisOperandEncoding enc, struct field *f)
{
    for (unsigned i = 0; i < ti->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &ti->zop[i];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || o->encoding != enc)
            continue;
        f->write |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        /* Part of it may be left alone; all of it, too (BSF of 0). */
        f->read |= o->actions != ZYDIS_OPERAND_ACTION_WRITE || o->size < 32 ||
                   ti->zi.mnemonic == ZYDIS_MNEMONIC_BSF || ti->zi.mnemonic == ZYDIS_MNEMONIC_BSR;
    }
}

/* May the rm operand, a register that lives in memory, be a memory operand? */
static bool rm_in_place(const struct tinsn *ti, const struct encoding *e, const struct field *rm)
{
    if (!rm->write)
        switch (ti->zi.mnemonic) {
        case ZYDIS_MNEMONIC_BT:
        case ZYDIS_MNEMONIC_BTS:
        case ZYDIS_MNEMONIC_BTR:
        case ZYDIS_MNEMONIC_BTC: return false; /* bits beyond the operand */
        default: return true;
        }
    if (ti->kind != T_COPY || homed(e->reg) || ti->zi.operand_width == 32)
        return false;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR: return true;
    default: return false;
    }
}

/* xchg of a register's two low bytes. */
static void put_swap_bytes(struct asmbuf *a, unsigned reg)
{
    put8(a, 0x86);
    put8(a, 0xc0u | (reg + 4) << 3 | reg);
}

static void put_encoded(struct trans *t, const struct tinsn *ti, struct encoding *e);

/* AH..BH and memory: a host operand may need REX, which rules them out, so the
 * register's bytes change places around the instruction. */
static void put_high8(struct trans *t, const struct tinsn *ti, struct encoding *e)
{
    int reg = ti->zi.raw.modrm.reg & 3;
    if (e->mem.base == reg || e->mem.index == reg)
        put_collapse(t, &e->mem);
    e->reg = reg;
    e->high8 = false;
    put_swap_bytes(&t->a, (unsigned)reg);
    put_encoded(t, ti, e);
    put_swap_bytes(&t->a, (unsigned)reg);
}

/* The instruction with host registers: homed ones go through scratch registers. */
static void put_encoded(struct trans *t, const struct tinsn *ti, struct encoding *e)
{
    struct asmbuf *a = &t->a;
    bool m = e->has_mem;
    struct field f[4] = {
        {.guest = e->reg, .host = &e->h_reg, .scratch = H_R10},
        {.guest = e->rm, .host = &e->h_rm, .scratch = H_R11},
        {.guest = e->opc, .host = &e->h_opc, .scratch = H_R10},
        {.guest = e->vvvv, .host = &e->h_vvvv, .scratch = m ? H_R10 : H_R11},
    };
    how_used(ti, ZYDIS_OPERAND_ENCODING_MODRM_REG, &f[0]);
    how_used(ti, ZYDIS_OPERAND_ENCODING_MODRM_RM, &f[1]);
    how_used(ti, ZYDIS_OPERAND_ENCODING_OPCODE, &f[2]);
    how_used(ti, ZYDIS_OPERAND_ENCODING_NDSNDD, &f[3]);
    if (!m && homed(e->rm) && rm_in_place(ti, e, &f[1])) {
        e->has_mem = true;
        e->mem = (struct hmem){-1, -1, 0, (int32_t)GPR_OFF((unsigned)e->rm), true};
        f[1].guest = -1;
    } else if (m && (e->mem.base == H_R10 || e->mem.index == H_R10)) {
        /* r10 may become the destination, which is written last. */
        if ((homed(e->reg) && f[0].read) || homed(e->vvvv))
            put_collapse(t, &e->mem);
    }
    for (unsigned n = 0; n < 4; n++) {
        if (f[n].guest < 0)
            continue;
        *f[n].host = homed(f[n].guest) ? f[n].scratch : host_reg(f[n].guest);
        if (homed(f[n].guest) && f[n].read)
            gs_load(a, f[n].scratch, GPR_OFF((unsigned)f[n].guest));
    }
    if (!encoding_put(a, e))
        t->failed = true;
    for (unsigned n = 0; n < 4; n++)
        if (f[n].guest >= 0 && homed(f[n].guest) && f[n].write)
            gs_store(a, f[n].scratch, GPR_OFF((unsigned)f[n].guest));
}

void put_again(struct trans *t, const struct tinsn *ti)
{
    struct encoding e;
    encoding_of(&e, &ti->zi, ti->zop, ti->bytes);
    put_encoded(t, ti, &e);
}

static void put_align(struct trans *t, struct hmem *h, unsigned i, unsigned size)
{
    struct asmbuf *a = &t->a;
    put_collapse(t, h);
    if (h->disp)
        hmem_op(a, 0x8d, H_R11, h), h->disp = 0;
    put8(a, 0x41), put8(a, 0xf6), put8(a, 0xc3); /* test r11b, size - 1 */
    put8(a, size - 1);
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->from = jump_cc(a, 5, NULL);
    k->site = trans_site(t, i);
}

void put_copy(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct encoding e;
    const struct access *m = ti->has_access ? &ti->m : NULL;
    bool align = m && trans_must_align(ti);
    unsigned first = t->ncold;

    encoding_of(&e, &ti->zi, ti->zop, ti->bytes);
    /* Flags that the instruction needs, or leaves and somebody needs. */
    uint32_t needs = ti->use | (ti->live_after & ~ti->def);
    bool touches = ti->use || trans_flags(ti);
    put_simd_check(t, ti, i);
    if (m) {
        if (access_clobbers(t, i) || align)
            keep_flags(t, ti, i);
        put_check(t, i, m);
    }
    if (align) {
        e.mem = put_operand(t, m);
        put_align(t, &e.mem, i, m->size);
    }
    if (touches)
        need_flags(t, needs);
    if (m && !align)
        e.mem = put_operand(t, m);
    if (m && e.high8)
        put_high8(t, ti, &e);
    else
        put_encoded(t, ti, &e);
    x87_done(t, ti, i);
    if (m && m->write && !access_free(t, i)) {
        if (touches)
            spill_flags(t, ti->live_after);
        put_stored(t, i, m, false);
    }
    for (unsigned n = first; n < t->ncold; n++)
        if (t->cold[n].kind == COLD_FILL || t->cold[n].kind == COLD_CALLOUT)
            finish_cold(t, &t->cold[n], ti);
}

/* ---- the stack --------------------------------------------------------------------- */

void put_sp(struct trans *t, int32_t n)
{
    lea_disp_w(&t->a, !t->code32, H_R9, H_R9, n);
}

/* mov of a slot of the stack. */
static void put_slot(struct trans *t, unsigned opcode, unsigned reg, const struct hmem *h)
{
    hmem_op_w(&t->a, !t->code32, opcode, reg, h);
}

static struct cold *stack_check(struct trans *t, struct tinsn *ti, unsigned i)
{
    if (access_clobbers(t, i))
        keep_flags(t, ti, i);
    return put_check(t, i, &ti->m);
}

/* emu.jit_tmp = what PUSH finds in memory. */
static struct cold *put_pushed(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct access m = trans_access(ti, &ti->zop[0]);
    keep_flags(t, ti, i);
    struct cold *k = put_check(t, i, &m);
    if (k->site) /* the check of the stack is left out */
        k->site->group = ti->grouped;
    struct hmem h = put_operand(t, &m);
    put_slot(t, 0x8b, H_R10, &h);
    gs_store(&t->a, H_R10, EMU_OFF(jit_tmp));
    return k;
}

static void put_push(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    bool memory = ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    struct cold *from_memory = memory ? put_pushed(t, ti, i) : NULL;
    struct cold *k = stack_check(t, ti, i);
    struct hmem h = put_operand(t, &ti->m);
    if (memory) {
        gs_load(a, H_R10, EMU_OFF(jit_tmp));
        put_slot(t, 0x89, H_R10, &h);
    } else if (ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        put_slot(t, 0xc7, 0, &h); /* mov [h], imm32 */
        put32(a, (uint32_t)ti->op.imm);
    } else {
        int guest = op_gpr(ti->zop[0].reg.value) / 8;
        unsigned from = homed(guest) ? (unsigned)H_R10 : host_reg(guest);
        if (homed(guest))
            gs_load(a, H_R10, GPR_OFF((unsigned)guest));
        put_slot(t, 0x89, from, &h);
    }
    put_sp(t, -(int32_t)t->word);
    struct access now = ti->m;
    now.disp = 0;
    if (!access_free(t, i))
        put_stored(t, i, &now, false);
    finish_cold(t, from_memory, ti);
    finish_cold(t, k, ti);
}

static void put_pop(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = stack_check(t, ti, i);
    int guest = op_gpr(ti->zop[0].reg.value) / 8;
    unsigned to = homed(guest) ? (unsigned)H_R10 : host_reg(guest);
    struct hmem h = put_operand(t, &ti->m);
    put_slot(t, 0x8b, to, &h);
    if (guest != 4)
        put_sp(t, (int32_t)t->word);
    if (homed(guest))
        gs_store(a, H_R10, GPR_OFF((unsigned)guest));
    finish_cold(t, k, ti);
}

static void put_leave(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = stack_check(t, ti, i);
    struct hmem h = put_operand(t, &ti->m);
    put_slot(t, 0x8b, H_R10, &h);
    lea_disp_w(a, !t->code32, H_R9, H_RBP, (int32_t)t->word);
    mov_reg(a, H_RBP, H_R10);
    finish_cold(t, k, ti);
}

void trans_insn(struct trans *t, struct tinsn *ti, unsigned i)
{
    x87_before(t, ti);
    switch (ti->kind) {
    case T_NOP: break;
    case T_CALLOUT: put_callout(t, ti, i); break;
    case T_END:
        put_callout(t, ti, i);
        t->ended = true;
        break;
    case T_COPY:
    case T_VECTOR: put_copy(t, ti, i); break;
    case T_X87: put_x87(t, ti, i); break;
    case T_BIT: put_bit(t, ti, i); break;
    case T_SYS: put_sys(t, ti, i); break;
    case T_DIV: put_div(t, ti, i); break;
    case T_LEA: put_lea(t, ti); break;
    case T_PUSH: put_push(t, ti, i); break;
    case T_POP: put_pop(t, ti, i); break;
    case T_LEAVE: put_leave(t, ti, i); break;
    default: put_branch(t, ti, i); break;
    }
}
