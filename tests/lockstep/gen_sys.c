/* SPDX-License-Identifier: MIT
 * What is not plain computation: the stack, code that changes, system
 * instructions, ports, faults, aliases, single steps. */
#include "gen.h"
#include <string.h>

#define Z(x) ZYDIS_MNEMONIC_##x

/* ---- the stack -------------------------------------------------------------------- */

static void push(struct gen *g)
{
    request q = req(Z(PUSH));
    struct mem m = {.may_skip = false};
    switch (below(&g->r, 6)) {
    case 0: add_operand(&q, imm_op(imm_of(g, one_in(&g->r, 2) ? 1 : 4))); break;
    case 1:
        m = mem_of(g, 8, M_SAFE);
        add_operand(&q, m.op);
        break;
    case 2: add_operand(&q, reg_op(RSP, 8)); break;
    default: add_operand(&q, reg_op(any_reg(g), 8)); break;
    }
    q.prefixes |= m.prefixes;
    emit(g, &q, false);
}

static void pop(struct gen *g)
{
    request q = req(Z(POP));
    struct mem m = {.may_skip = false};
    if (one_in(&g->r, 4)) {
        m = mem_of(g, 8, M_SAFE | M_WRITE);
        add_operand(&q, m.op);
    } else {
        add_operand(&q, reg_op(dst_reg(g), 8));
    }
    q.prefixes |= m.prefixes;
    emit(g, &q, false);
}

void gen_stack(struct gen *g)
{
    switch (below(&g->r, 9)) {
    case 0: /* flags through memory, changed on the way */
        settle(g, FL_ARITH);
        EMIT(g, 0x9c);
        if (one_in(&g->r, 2))
            EMIT(g, 0x81, 0x34, 0x24, (uint8_t)rnd(&g->r) & 0xd5, one_in(&g->r, 2) ? 8 : 0, 0, 0);
        g->undef = FL_AF;
        EMIT(g, 0x9d);
        g->undef = 0;
        return;
    case 1: /* pushfq, pop reg */
        settle(g, FL_ARITH);
        EMIT(g, 0x9c);
        pop(g);
        return;
    case 2: /* push rsp, pop rsp */
        EMIT(g, 0x54);
        EMIT(g, 0x5c);
        return;
    case 3: /* 16-bit pushes and pops */
        EMIT(g, 0x66, 0x50);
        EMIT(g, 0x66, 0x6a, (uint8_t)rnd(&g->r));
        emit2(g, Z(ADD), reg_op(RSP, 8), imm_op(4));
        return;
    case 4: /* enter n, 0; leave */
        if (!may_write(g, BIT(RBP)))
            return;
        EMIT(g, 0xc8, (uint8_t)below(&g->r, 64) & 0xf8, 0, 0);
        g->keep |= BIT(RBP);
        gen_seq(g, 2);
        g->keep &= (uint16_t)~BIT(RBP);
        EMIT(g, 0xc9);
        return;
    case 5: { /* another stack for a moment */
        unsigned r = dst_reg(g);
        emit2(g, Z(MOV), reg_op(r, 8), reg_op(RSP, 8));
        emit2(g, Z(AND), reg_op(RSP, 8), imm_op(-64));
        g->keep |= (uint16_t)BIT(r);
        gen_seq(g, 2);
        g->keep &= (uint16_t)~BIT(r);
        emit2(g, Z(MOV), reg_op(RSP, 8), reg_op(r, 8));
        return;
    }
    case 6: { /* pop [rsp + n], whose address is taken after the pop; push [rsp + n] */
        uint8_t n = (uint8_t)(8 * below(&g->r, 4));
        push(g);
        push(g);
        EMIT(g, 0xff, 0x74, 0x24, n & 8);
        EMIT(g, 0x8f, 0x44, 0x24, n & 8);
        pop(g);
        pop(g);
        return;
    }
    default: {
        unsigned n = 1 + below(&g->r, 5);
        for (unsigned i = 0; i < n; i++)
            push(g);
        if (g->depth < 3)
            gen_seq(g, below(&g->r, 4));
        for (unsigned i = 0; i < n; i++)
            pop(g);
        return;
    }
    }
}

/* ---- code that changes -------------------------------------------------------------- */

/* Its operation and its immediate may change while it stays what it is: an
 * instruction of that length which defines all flags, or none (MOV). */
void gen_site(struct gen *g)
{
    struct site s = {.at = g->at};
    unsigned r = dst_reg(g), op = below(&g->r, 8);
    if (g->nsites == SITES)
        return;
    if (one_in(&g->r,
               g->straight ? 12 : 3)) { /* behind a jump that knows which flags matter there */
        g->undef = FL_ARITH;
        settle(g, FL_ARITH);
        gen_gap(g, false);
    }
    settle_flow(g);
    s.at = g->at;
    switch (below(&g->r, 3)) {
    case 0:
        EMIT(g, 0x48 | r >> 3, 0x83, 0xc0 | (uint8_t)(op << 3) | (r & 7), (uint8_t)rnd(&g->r));
        s.imm = 3, s.imm_size = 1, s.modrm = 2;
        break;
    case 1:
        EMIT(g, 0x40 | r >> 3, 0x81, 0xc0 | (uint8_t)(op << 3) | (r & 7), (uint8_t)rnd(&g->r),
             (uint8_t)rnd(&g->r), 1, 2);
        s.imm = 3, s.imm_size = 4, s.modrm = 2;
        break;
    default:
        EMIT(g, 0x40 | r >> 3, 0xb8 | (r & 7), (uint8_t)rnd(&g->r), 3, 4, 5);
        s.imm = 2, s.imm_size = 4;
        break;
    }
    if (g->full)
        return;
    if (g->p->narrow) { /* no REX */
        s.imm--;
        s.modrm -= s.modrm > 0;
    }
    s.len = g->at - s.at;
    g->site[g->nsites++] = s;
    g->undef = FL_AF;
}

static unsigned code_window(struct gen *g)
{
    return has(g, F_ALIAS) && one_in(&g->r, 3) ? W_CODE_RW : W_CODE;
}

/* A store to a site that lies right ahead. */
static void store_ahead(struct gen *g)
{
    unsigned fillers = below(&g->r, 4), at = g->at;
    settle_flow(g);
    at = g->at;
    EMIT(g, 0x80, 0x35, 0, 0, 0, 0, (uint8_t)(8 * below(&g->r, 8))); /* xor byte [rip + d], i */
    for (unsigned i = 0; i < fillers; i++) {
        unsigned r = dst_reg(g);
        EMIT(g, 0x48 | r >> 3, 0xff, 0xc0 | (r & 7)); /* inc */
    }
    unsigned n = g->nsites;
    gen_site(g);
    if (g->full || g->nsites == n)
        return;
    const struct site *s = &g->site[n];
    unsigned to = s->at + (s->modrm ? s->modrm : s->imm);
    if (!s->modrm && !one_in(&g->r, 2))
        to++;
    int32_t disp = (int32_t)(to - (at + 7) + (one_in(&g->r, 3) ? W_CODE_RW : 0));
    memcpy(g->p->code + at + 2, &disp, 4);
}

void gen_smc(struct gen *g)
{
    if (!g->nsites || (one_in(&g->r, 4) && !g->p->narrow)) {
        if (!g->p->narrow)
            store_ahead(g);
        return;
    }
    const struct site *s = &g->site[below(&g->r, g->nsites)];
    unsigned w = code_window(g), size = s->imm_size;
    if (s->modrm && one_in(&g->r, 2)) {
        emit2(g, Z(XOR), rip_op(g, w + s->at + s->modrm, 1),
              imm_op((int64_t)(8 * below(&g->r, 8))));
        return;
    }
    static const ZydisMnemonic ops[] = {Z(MOV), Z(ADD), Z(XOR), Z(INC), Z(ROL)};
    request q = req(ops[below(&g->r, 5)]);
    add_operand(&q, rip_op(g, w + s->at + s->imm, size));
    if (q.mnemonic == Z(ROL))
        add_operand(&q, imm_op(1));
    else if (q.mnemonic != Z(INC))
        add_operand(&q, one_in(&g->r, 2) ? reg_op(any_reg(g), size) : imm_op(imm_of(g, size)));
    emit(g, &q, false);
}

/* On at the next instruction, in the other copy of the window. */
void gen_alias_jump(struct gen *g)
{
    unsigned r = dst_reg(g);
    settle_flow(g);
    unsigned at = g->at;
    emit_lea(g, r, W_CODE);
    emit2(g, Z(XOR), reg_op(r, 8), imm_op(WINDOW));
    settle_flow(g);
    EMIT(g, 0x40 | r >> 3, 0xff, 0xe0 | (r & 7));
    if (g->full)
        return;
    int32_t disp = (int32_t)(g->at - (at + 7));
    memcpy(g->p->code + at + 3, &disp, 4);
}

/* ---- system ---------------------------------------------------------------------------- */

void gen_step(struct gen *g)
{
    settle(g, FL_ARITH);
    EMIT(g, 0x9c);
    EMIT(g, 0x80, 0x4c, 0x24, 1, 1); /* or byte [rsp + 1], 1: TF */
    EMIT(g, 0x9d);
    g->undef = 0;
    gen_seq(g, 3);
}

static void segment_base(struct gen *g)
{
    bool fs = one_in(&g->r, 2);
    uint64_t base = (fs ? g->p->fs : g->p->gs) + 64 * below(&g->r, 8);
    if (!g->p->user && one_in(&g->r, 2) && may_write(g, BIT(RAX) | BIT(RCX) | BIT(RDX))) {
        emit_mov_imm64(g, RAX, base);
        emit2(g, Z(MOV), reg_op(RDX, 8), reg_op(RAX, 8));
        EMIT(g, 0x48, 0xc1, 0xea, 32); /* shr rdx, 32 */
        EMIT(g, 0xb9, fs ? 0 : 1, 1, 0, 0xc0);
        EMIT(g, 0x0f, 0x30);
        if (one_in(&g->r, 2))
            EMIT(g, 0x0f, 0x32);
        g->undef = FL_ARITH;
        return;
    }
    unsigned r = dst_reg(g);
    emit_mov_imm64(g, r, base);
    EMIT(g, 0xf3, 0x48 | r >> 3, 0x0f, 0xae, (fs ? 0xd0 : 0xd8) | (r & 7)); /* wrfsbase */
    if (one_in(&g->r, 2))
        EMIT(g, 0xf3, 0x48 | r >> 3, 0x0f, 0xae, (fs ? 0xc0 : 0xc8) | (r & 7));
}

static void privileged(struct gen *g)
{
    unsigned r = dst_reg(g);
    switch (below(&g->r, 6)) {
    case 0: { /* accessed and dirty bits of a data page, from 0 */
        unsigned pte = W_SYS + P_PT + 8 * ((W_DATA >> 12) + below(&g->r, 11));
        if (!has(g, F_PAGING))
            return;
        emit2(g, Z(AND), rip_op(g, pte, 4), imm_op(~0x60));
        __attribute__((fallthrough));
    }
    case 1:
        EMIT(g, 0x40 | r >> 3, 0x0f, 0x20, 0xd8 | (r & 7)); /* mov r, cr3 */
        EMIT(g, 0x40 | r >> 3, 0x0f, 0x22, 0xd8 | (r & 7));
        g->undef = FL_ARITH;
        return;
    case 2:
        EMIT(g, 0x40 | r >> 3, 0x0f, 0x20, 0xc0 | (r & 7)); /* mov r, cr0: WP off and on */
        EMIT(g, 0x48 | r >> 3, 0x0f, 0xba, 0xf8 | (r & 7), 16);
        EMIT(g, 0x40 | r >> 3, 0x0f, 0x22, 0xc0 | (r & 7));
        emit2(g, Z(MOV), rip_op(g, W_DATA + D_BAD + 8 * below(&g->r, 64), 8), reg_op(r, 8));
        EMIT(g, 0x48 | r >> 3, 0x0f, 0xba, 0xf8 | (r & 7), 16);
        EMIT(g, 0x40 | r >> 3, 0x0f, 0x22, 0xc0 | (r & 7));
        g->undef = FL_ARITH;
        return;
    case 3:
        EMIT(g, 0x0f, 0x01, 0xf8); /* swapgs twice */
        EMIT(g, 0x0f, 0x01, 0xf8);
        return;
    case 4:
        EMIT(g, 0x0f, 0x06); /* clts */
        return;
    default: {
        operand o = rip_op(g, W_DATA + below(&g->r, D_PLAIN), 1);
        request q = req(Z(INVLPG));
        add_operand(&q, o);
        emit(g, &q, false);
        return;
    }
    }
}

void gen_system(struct gen *g)
{
    static const uint8_t in_narrow[] = {0, 1, 4, 5, 6};
    switch (g->p->narrow ? in_narrow[below(&g->r, sizeof in_narrow)] : below(&g->r, 10)) {
    case 0:
    case 1: /* a service of the handlers */
        EMIT(g, 0xcd, 0x30 + (has(g, F_PAGING) ? below(&g->r, 8) : 0));
        return;
    case 2:
        if (!g->p->user || !may_write(g, BIT(RCX) | BIT(R11)))
            return;
        settle(g, FL_ARITH);
        if (!has(g, F_PAGING)) {
            if (!may_write(g, BIT(RAX)))
                return;
            EMIT(g, 0xb8, 0, 0, 0, 0);
        }
        EMIT(g, 0x0f, 0x05);
        return;
    case 3: segment_base(g); return;
    case 4:
        if (!may_write(g, BIT(RAX) | BIT(RCX) | BIT(RDX) | BIT(RBX)))
            return;
        EMIT(g, 0xb8, (uint8_t)below(&g->r, 2), 0, 0, 0); /* cpuid of leaf 0 */
        EMIT(g, 0x31, 0xc0);
        EMIT(g, 0x0f, 0xa2);
        g->undef = FL_AF;
        return;
    case 5: /* cli, sti */
        EMIT(g, 0xfa);
        gen_seq(g, 2);
        EMIT(g, 0xfb);
        return;
    case 6: EMIT(g, 0xcc); return;
    case 7:
        if (!g->p->user && one_in(&g->r, 4)) {
            EMIT(g, 0xf4); /* hlt */
            return;
        }
        __attribute__((fallthrough));
    default:
        if (g->p->user)
            segment_base(g);
        else
            privileged(g);
        return;
    }
}

void gen_io(struct gen *g)
{
    unsigned size = below(&g->r, 3); /* 1, 2, 4 */
    bool out = one_in(&g->r, 2);
    uint8_t b[8];
    unsigned n = 0;
    if (!out && !may_write(g, BIT(RAX)))
        return;
    if (one_in(&g->r, 4) && may_write(g, BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RDX))) {
        emit_lea(g, out ? RSI : RDI, W_DATA + below(&g->r, D_PLAIN - 256));
        EMIT(g, 0xb9, (uint8_t)below(&g->r, 8), 0, 0, 0);
        EMIT(g, 0xba, 0x80 + (uint8_t)below(&g->r, 0x30), 0, 0, 0);
        EMIT(g, 0xf3, (out ? 0x6e : 0x6c) | (size ? 1 : 0));
        return;
    }
    if (size == 1)
        b[n++] = 0x66;
    if (one_in(&g->r, 2) || !may_write(g, BIT(RDX))) {
        b[n++] = (uint8_t)((out ? 0xe6 : 0xe4) | (size ? 1 : 0));
        b[n++] = (uint8_t)(0x80 + below(&g->r, 0x30));
    } else {
        EMIT(g, 0xba, (uint8_t)rnd(&g->r) & 0x1c, one_in(&g->r, 3) ? 2 : 0, 0, 0);
        b[n++] = (uint8_t)((out ? 0xee : 0xec) | (size ? 1 : 0));
    }
    emit_bytes(g, b, n);
}

void gen_fault(struct gen *g)
{
    unsigned r = dst_reg(g);
    switch (below(&g->r, 8)) {
    case 0: EMIT(g, 0x0f, 0x0b); return; /* ud2 */
    case 6: /* to where other programs lie, which these partitions may have run */
        settle_flow(g);
        emit_mov_imm64(g, r, program_windows[below(&g->r, 4)] ^ (one_in(&g->r, 2) ? 0 : WINDOW));
        if (one_in(&g->r, 2))
            emit2(g, Z(ADD), reg_op(r, 8), imm_op(0x2a + (int64_t)below(&g->r, 8)));
        settle_flow(g);
        EMIT(g, 0x40 | r >> 3, 0xff, 0xe0 | (r & 7));
        g->undef = FL_ARITH;
        return;
    case 1: /* jmp, call to where nothing can be */
        settle_flow(g);
        emit_mov_imm64(g, r, 0x8000000000000000ull | rnd(&g->r) >> 8);
        EMIT(g, 0x40 | r >> 3, 0xff, (one_in(&g->r, 2) ? 0xe0 : 0xd0) | (r & 7));
        g->undef = FL_ARITH;
        return;
    case 2: /* push, pop, call with a stack that is not there */
        settle(g, FL_ARITH);
        emit2(g, Z(MOV), reg_op(r, 8), reg_op(RSP, 8));
        emit_lea(g, RSP, W_DATA + D_BAD + (one_in(&g->r, 2) ? 0x1800 : 0x800));
        switch (below(&g->r, 4)) {
        case 0: EMIT(g, 0x50 | (any_reg(g) & 7)); break;
        case 1: EMIT(g, 0xe8, 0, 0, 0, 0); break;
        case 2: EMIT(g, 0x9c); break;
        default: EMIT(g, 0x6a, 0x55); break;
        }
        emit2(g, Z(MOV), reg_op(RSP, 8), reg_op(r, 8));
        return;
    case 3: /* a register of the stack that is not canonical: #SS */
        emit2(g, Z(MOV), reg_op(r, 8), reg_op(RSP, 8));
        EMIT(g, 0x48, 0x0f, 0xba, 0xfc, 62);          /* btc rsp, 62 */
        EMIT(g, 0x40 | r >> 3, 0x8f, 0xc0 | (r & 7)); /* pop r: skipped */
        emit2(g, Z(MOV), reg_op(RSP, 8), reg_op(r, 8));
        g->undef = FL_ARITH;
        return;
    case 4:
        EMIT(g, 0xf0, 0x0f, 0x0b); /* lock ud2 */
        return;
    case 5: /* a privileged one */
        if (g->p->user)
            EMIT(g, 0x40 | r >> 3, 0x0f, 0x20, 0xc0 | (r & 7));
        return;
    default: gen_muldiv(g); return;
    }
}
