/* SPDX-License-Identifier: MIT
 * State that decides what an instruction may do, changed for a moment: alignment
 * checks, SMAP, protection keys, TS, XCR0, PCIDs; vector state through memory;
 * IRET and far RET to what follows. */
#include "gen.h"
#include <string.h>

/* What may fault now is not what usually may. */
static void skipping(struct gen *g, unsigned n)
{
    bool before = g->skips;
    g->skips = true;
    gen_seq(g, n);
    g->skips = before;
}

/* RFLAGS through the stack: an OR or an AND with the word's doubleword. */
static void change_flags(struct gen *g, bool set, uint32_t bits)
{
    uint32_t v = set ? bits : ~bits;
    settle(g, FL_ARITH);
    EMIT(g, 0x9c);
    EMIT(g, 0x81, set ? 0x0c : 0x24, 0x24, (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
         (uint8_t)(v >> 24));
    EMIT(g, 0x9d);
    g->undef = 0;
}

static void align_check(struct gen *g)
{
    if (!g->p->user) {
        EMIT(g, 0x0f, 0x01, 0xcb); /* stac */
        gen_seq(g, 4);
        EMIT(g, 0x0f, 0x01, 0xca); /* clac */
        return;
    }
    change_flags(g, true, 0x40000);
    skipping(g, 4);
    gen_mode_off(g);
}

void gen_mode_off(struct gen *g)
{
    if (g->p->user)
        change_flags(g, false, 0x40000);
    else
        EMIT(g, 0x0f, 0x06); /* clts */
}

static void task_switched(struct gen *g)
{
    unsigned r = dst_reg(g);
    EMIT(g, 0x40 | r >> 3, 0x0f, 0x20, 0xc0 | (r & 7)); /* mov r, cr0 */
    EMIT(g, 0x48 | r >> 3, 0x83, 0xc8 | (r & 7), 8);    /* or r, 8 */
    EMIT(g, 0x40 | r >> 3, 0x0f, 0x22, 0xc0 | (r & 7));
    g->undef = FL_ARITH;
    skipping(g, 4);
    EMIT(g, 0x0f, 0x06);
}

static void load_edx_eax(struct gen *g, uint8_t v)
{
    EMIT(g, 0x31, 0xc9); /* xor ecx, ecx */
    EMIT(g, 0x31, 0xd2);
    EMIT(g, 0xb8, v, 0, 0, 0);
    g->undef = FL_AF;
}

static void xcr0(struct gen *g)
{
    load_edx_eax(g, 3);
    EMIT(g, 0x0f, 0x01, 0xd1); /* xsetbv */
    g->keep |= BIT(RAX) | BIT(RCX) | BIT(RDX);
    skipping(g, 3);
    g->keep &= (uint16_t) ~(BIT(RAX) | BIT(RCX) | BIT(RDX));
    load_edx_eax(g, 7);
    EMIT(g, 0x0f, 0x01, 0xd1);
}

static void protection_key(struct gen *g)
{
    load_edx_eax(g, (uint8_t)(4 * below(&g->r, 4)));
    EMIT(g, 0x0f, 0x01, 0xef); /* wrpkru */
    if (one_in(&g->r, 3)) {
        EMIT(g, 0x31, 0xc9);
        EMIT(g, 0x0f, 0x01, 0xee);
    }
}

static void pcid(struct gen *g)
{
    unsigned r = dst_reg(g);
    EMIT(g, 0x40 | r >> 3, 0x0f, 0x20, 0xd8 | (r & 7)); /* mov r, cr3 */
    EMIT(g, 0x48 | r >> 3, 0x83, 0xf0 | (r & 7), (uint8_t)below(&g->r, 8));
    if (one_in(&g->r, 2))
        EMIT(g, 0x48 | r >> 3, 0x0f, 0xba, 0xe8 | (r & 7), 63); /* bts: keep the TLB */
    EMIT(g, 0x40 | r >> 3, 0x0f, 0x22, 0xd8 | (r & 7));
    g->undef = FL_ARITH;
}

/* FXSAVE or XSAVE, other things, and back. */
static void vector_state(struct gen *g)
{
    bool x = one_in(&g->r, 2) && may_write(g, BIT(RAX) | BIT(RDX) | BIT(RCX));
    unsigned r = dst_reg(g), rm = r & 7;
    if (rm == 4 || rm == 5 || (x && r <= RDX))
        return;
    emit_lea(g, r, W_DATA + 0x8000 + 0x40 * below(&g->r, 16));
    uint16_t keep = (uint16_t)(BIT(r) & ~g->keep);
    g->keep |= keep;
    if (x) {
        load_edx_eax(g, (uint8_t)(1 + below(&g->r, 7)));
        for (unsigned i = 0; i < 8; i++) /* the header: mov qword [r + 512 + 8 i], 0 */
            EMIT(g, 0x48 | r >> 3, 0xc7, 0x80 | rm, (uint8_t)(8 * i), 2, 0, 0, 0, 0, 0, 0);
    }
    uint8_t rex = (uint8_t)(0x48 | r >> 3);
    EMIT(g, rex, 0x0f, 0xae, (uint8_t)((x ? 0x20 : 0) | rm));
    gen_seq(g, 3);
    if (x)
        load_edx_eax(g, (uint8_t)(1 + below(&g->r, 7)));
    EMIT(g, rex, 0x0f, 0xae, (uint8_t)((x ? 0x28 : 0x08) | rm));
    g->keep &= (uint16_t)~keep;
}

/* IRETQ or RETF to the next instruction. */
static void far_return(struct gen *g)
{
    unsigned r = dst_reg(g), at;
    bool iret = one_in(&g->r, 2);
    settle(g, FL_ARITH);
    if (iret) {
        emit2(g, ZYDIS_MNEMONIC_MOV, reg_op(r, 8), reg_op(RSP, 8));
        EMIT(g, 0x6a, g->p->user ? 0x2b : 0x18); /* SS */
        EMIT(g, 0x40 | r >> 3, 0x50 | (r & 7));
        EMIT(g, 0x9c);
    }
    EMIT(g, 0x6a, g->p->user ? 0x33 : 0x10);
    at = g->at;
    emit_lea(g, r, W_CODE);
    EMIT(g, 0x40 | r >> 3, 0x50 | (r & 7));
    EMIT(g, 0x48, iret ? 0xcf : 0xcb);
    if (g->full)
        return;
    int32_t disp = (int32_t)(g->at - (at + 7));
    memcpy(g->p->code + at + 3, &disp, 4);
    g->undef = FL_AF;
}

void gen_mode(struct gen *g)
{
    bool kernel = !g->p->user, abc = may_write(g, BIT(RAX) | BIT(RCX) | BIT(RDX));
    switch (below(&g->r, g->p->narrow ? 7 : 8)) {
    case 0:
    case 1: align_check(g); return;
    case 2:
        if (kernel)
            task_switched(g);
        return;
    case 3:
        if (kernel && abc)
            xcr0(g);
        return;
    case 4:
        if (abc)
            protection_key(g);
        return;
    case 5:
        if (kernel && !has(g, F_PAGING))
            pcid(g);
        return;
    case 6:
        if (!has(g, F_X87))
            vector_state(g);
        return;
    default: far_return(g); return;
    }
}
