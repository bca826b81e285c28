/* SPDX-License-Identifier: MIT
 * The shape of a program: functions, then a main loop of sequences with
 * branches, loops, calls and jumps through tables. */
#include "gen.h"
#include <string.h>

#define FUNCTIONS 8u
struct function {
    unsigned at, pops;
};
static _Thread_local struct function function[FUNCTIONS];

static void put_table(struct gen *g, unsigned slot, uint64_t v)
{
    memcpy(g->p->data + D_TABLES + 8 * slot, &v, 8);
}

static void branch(struct gen *g)
{
    bool near = g->depth > 0 && one_in(&g->r, 2) ? false : true;
    unsigned token = emit_jump(g, (int)below(&g->r, 16), near);
    gen_seq(g, near ? 1 + below(&g->r, 5) : 1);
    if (near && one_in(&g->r, 3)) { /* else */
        unsigned over = emit_jump(g, -1, true);
        close_jump(g, token);
        gen_seq(g, 1 + below(&g->r, 4));
        close_jump(g, over);
        return;
    }
    if (!near && g->at - (token >> 1) > 120) /* too far for a short one: its target is next */
        return;
    close_jump(g, token);
}

/* It advances through a page, goes back by one jump, and by another with the pointer in
 * another page. */
static void loop_two_ends(struct gen *g)
{
    unsigned r = dst_reg(g), p, every = 1u << (3 + below(&g->r, 3));
    int32_t step = one_in(&g->r, 2) ? 8 : -8;
    g->keep |= (uint16_t)BIT(r);
    p = dst_reg(g);
    g->keep |= (uint16_t)BIT(p);
    emit2(g, ZYDIS_MNEMONIC_MOV, reg_op(r, 8), imm_op(40 + below(&g->r, 100)));
    emit_lea(g, p, W_DATA + 0x1800);
    settle_flow(g);
    unsigned top = g->at;
    for (unsigned i = 1 + below(&g->r, 3); i > 0; i--) {
        request q = req(one_in(&g->r, 2) ? ZYDIS_MNEMONIC_ADD : ZYDIS_MNEMONIC_XOR);
        operand m = {.type = ZYDIS_OPERAND_TYPE_MEMORY};
        m.mem.base = (ZydisRegister)(ZYDIS_REGISTER_RAX + p);
        m.mem.displacement = 8 * (int64_t)below(&g->r, 4);
        m.mem.size = 4;
        bool load = one_in(&g->r, 3);
        add_operand(&q, load ? reg_op(dst_reg(g), 4) : m);
        add_operand(&q, load ? m : reg_op(any_reg(g), 4));
        emit(g, &q, false);
    }
    emit2(g, ZYDIS_MNEMONIC_ADD, reg_op(p, 8), imm_op(step));
    emit2(g, ZYDIS_MNEMONIC_SUB, reg_op(r, 8), imm_op(1));
    unsigned out = emit_jump(g, 8, true); /* js */
    emit2(g, ZYDIS_MNEMONIC_TEST, reg_op(r, 4), imm_op(every - 1));
    g->undef &= ~FL_AF;
    emit_jump_back(g, 5, top);
    emit_lea(g, p, W_DATA + 0x2800 + 0x1000 * below(&g->r, 5));
    emit_jump_back(g, -1, top);
    close_jump(g, out);
    g->keep &= (uint16_t) ~(BIT(r) | BIT(p));
}

static void loop(struct gen *g)
{
    unsigned n = 2 + below(&g->r, g->depth ? 10 : 30), kind = below(&g->r, 4), top;
    unsigned body = 2 + below(&g->r, 8), r = 0;
    if (one_in(&g->r, 6) && !g->p->narrow) {
        loop_two_ends(g);
        return;
    }
    if (kind == 3 && !may_write(g, BIT(RCX)))
        kind = 0;
    switch (kind) {
    case 0: {
        unsigned slot = W_DATA + D_TABLES + 0x800 + 8 * (g->slots++ & 127);
        emit2(g, ZYDIS_MNEMONIC_MOV, rip_op(g, slot, 4), imm_op(n));
        settle_flow(g);
        top = g->at;
        gen_seq(g, body);
        request q = req(one_in(&g->r, 2) ? ZYDIS_MNEMONIC_DEC : ZYDIS_MNEMONIC_SUB);
        add_operand(&q, rip_op(g, slot, 4));
        if (q.mnemonic == ZYDIS_MNEMONIC_SUB)
            add_operand(&q, imm_op(1));
        emit(g, &q, false);
        emit_jump_back(g, one_in(&g->r, 2) ? 5 : 15, top); /* jnz, jg */
        return;
    }
    case 1:
    case 3:
        r = kind == 3 ? (unsigned)RCX : dst_reg(g);
        emit2(g, ZYDIS_MNEMONIC_MOV, reg_op(r, 8), imm_op(n));
        g->keep |= (uint16_t)BIT(r);
        settle_flow(g);
        top = g->at;
        gen_seq(g, kind == 3 ? 1 + below(&g->r, 2) : body);
        g->keep &= (uint16_t)~BIT(r);
        if (kind == 3) {
            settle_flow(g);
            int32_t d = (int32_t)top - (int32_t)(g->at + 2);
            if (d >= -128)
                EMIT(g, 0xe2, (uint8_t)d); /* loop */
            return;
        }
        if (one_in(&g->r, 2)) {
            request q = req(ZYDIS_MNEMONIC_DEC);
            add_operand(&q, reg_op(r, 4));
            emit(g, &q, false);
        } else {
            emit2(g, ZYDIS_MNEMONIC_ADD, reg_op(r, 8), imm_op(-1));
        }
        emit_jump_back(g, one_in(&g->r, 2) ? 5 : 15, top);
        return;
    default: {
        EMIT(g, 0x6a, (uint8_t)n);
        settle_flow(g);
        top = g->at;
        gen_seq(g, body);
        /* Not DEC [rsp]: where RSP was lost it would be skipped, and leave flags open. */
        r = dst_reg(g);
        EMIT(g, 0x48 | (r >> 3 << 2), 0x8b, 0x04 | (r & 7) << 3, 0x24);
        EMIT(g, 0x40 | r >> 3, 0xff, 0xc8 | (r & 7));
        EMIT(g, 0x48 | (r >> 3 << 2), 0x89, 0x04 | (r & 7) << 3, 0x24);
        g->undef &= FL_CF;
        emit_jump_back(g, 5, top);
        r = dst_reg(g);
        EMIT(g, 0x40 | r >> 3, 0x58 | (r & 7)); /* pop */
        return;
    }
    }
}

static void call(struct gen *g)
{
    if (!g->functions || g->skips)
        return;
    unsigned f = below(&g->r, g->functions);
    if (function[f].pops)
        EMIT(g, 0x48, 0x8d, 0x64, 0x24, (uint8_t)(0u - function[f].pops)); /* lea rsp, */
    switch (below(&g->r, 4)) {
    case 0: { /* through a table */
        request q = req(ZYDIS_MNEMONIC_CALL);
        add_operand(&q, rip_op(g, W_DATA + D_TABLES + 8 * f, 8));
        settle_flow(g);
        emit(g, &q, false);
        break;
    }
    case 1: {
        unsigned r = dst_reg(g);
        settle_flow(g);
        emit_lea(g, r, W_CODE + function[f].at);
        EMIT(g, 0x40 | r >> 3, 0xff, 0xd0 | (r & 7));
        break;
    }
    default: emit_call(g, function[f].at); break;
    }
    g->undef = FL_AF;
}

/* A jump through a table of up to four places. */
static void table_jump(struct gen *g)
{
    unsigned r = dst_reg(g), slot = 16 + 4 * g->tables, over[4];
    if (slot + 4 > 0x100)
        return;
    g->tables++;
    request q = req(ZYDIS_MNEMONIC_MOV);
    add_operand(&q, reg_op(r, 4));
    add_operand(&q, reg_op(any_reg(g), 4));
    emit(g, &q, false);
    emit2(g, ZYDIS_MNEMONIC_AND, reg_op(r, 4), imm_op(3));
    settle_flow(g);
    unsigned ptr = dst_reg(g);
    if (ptr == r)
        return;
    emit_lea(g, ptr, W_DATA + D_TABLES + 8 * slot);
    /* jmp [ptr + r * 8] */
    EMIT(g, 0x40 | (r >> 3 << 1) | ptr >> 3, 0xff, 0x64, 0xc0 | (r & 7) << 3 | (ptr & 7), 0);
    for (unsigned i = 0; i < 4; i++) {
        g->undef = FL_AF;
        put_table(g, slot + i, code_ip(g, g->at));
        gen_seq(g, 1 + below(&g->r, 2));
        over[i] = emit_jump(g, -1, true);
    }
    for (unsigned i = 0; i < 4; i++)
        close_jump(g, over[i]);
}

void gen_gap(struct gen *g, bool to_border)
{
    static const uint8_t zeros[4096];
    unsigned n = 80, token = emit_jump(g, -1, true);
    if (to_border)
        n = (0u - g->at - below(&g->r, 20)) & 4095;
    if (!g->full && !to_border && g->npools < 16)
        g->pool[g->npools++] = g->at + 16;
    emit_raw(g, zeros, n);
    close_jump(g, token);
}

/* What drops translations, or leads away from them, is worth most between many
 * runs of translated code: done once in a while. The jump is closed behind it. */
static unsigned seldom(struct gen *g)
{
    unsigned slot = W_DATA + D_TABLES + 0x800 + 8 * (g->slots++ & 127), token;
    emit2(g, ZYDIS_MNEMONIC_SUB, rip_op(g, slot, 4), imm_op(1));
    token = emit_jump(g, 9, true); /* jns */
    emit2(g, ZYDIS_MNEMONIC_MOV, rip_op(g, slot, 4), imm_op(10 + (int64_t)below(&g->r, 60)));
    return token;
}

typedef void gen_fn(struct gen *g);
static void sometimes(struct gen *g, gen_fn *fn, unsigned always_in)
{
    if (one_in(&g->r, always_in)) {
        fn(g);
        return;
    }
    unsigned token = seldom(g);
    fn(g);
    close_jump(g, token);
}

/* Registers for pieces that keep some, and pieces in them. */
static bool enough_free(const struct gen *g)
{
    return __builtin_popcount(~(g->keep | BIT(RSP)) & (g->p->narrow ? 0xffu : 0xffffu)) >= 4;
}

static void piece(struct gen *g)
{
    bool nest = g->depth < 3 && enough_free(g);
    unsigned k = below(&g->r, 100);
    if (g->p->narrow && nest && one_in(&g->r, 12)) {
        gen_narrow(g);
        return;
    }
    bool leaves = (k >= 10 && k < 14) || (k >= 42 && k < 46) || k == 48;
    if (leaves && g->straight && !one_in(&g->r, 6))
        k = one_in(&g->r, 3) ? 18 : 99;
    if (k < 4 && nest) {
        loop(g);
    } else if (k < 10 && nest) {
        branch(g);
    } else if (k < 13) {
        call(g);
    } else if (k < 14 && nest) {
        table_jump(g);
    } else if (k < 18 && has(g, F_STACK) && nest) {
        gen_stack(g);
    } else if (k < 22 && has(g, F_SMC)) {
        if (one_in(&g->r, 2))
            gen_site(g);
        else
            sometimes(g, gen_smc, 5);
    } else if (k < 24 && has(g, F_STRING)) {
        gen_string(g);
    } else if (k < 38 && has(g, F_SIMD)) {
        gen_simd(g);
    } else if (k < 42 && has(g, F_X87)) {
        gen_x87(g);
    } else if (k < 43 && has(g, F_ALIAS)) {
        gen_alias_jump(g);
    } else if (k < 44 && has(g, F_IO)) {
        sometimes(g, gen_io, 2);
    } else if (k < 46 && has(g, F_SYS) && nest) {
        sometimes(g, gen_system, 3);
    } else if (k < 47 && has(g, F_FAULT)) {
        sometimes(g, gen_fault, 4);
    } else if (k < 48 && has(g, F_STEP) && nest && one_in(&g->r, 2)) {
        sometimes(g, gen_step, 4);
    } else if (k < 49) {
        gen_gap(g, one_in(&g->r, 2));
    } else if (k < 51 && has(g, F_MODE) && nest) {
        sometimes(g, gen_mode, 3);
    } else {
        gen_int(g);
    }
}

void gen_seq(struct gen *g, unsigned n)
{
    g->depth++;
    for (unsigned i = 0; i < n && !g->full; i++)
        piece(g);
    g->depth--;
}

static void functions(struct gen *g)
{
    unsigned n = below(&g->r, FUNCTIONS);
    for (unsigned i = 0; i < n && !g->full; i++) {
        struct function f = {g->at, one_in(&g->r, 3) ? 8 + 8 * below(&g->r, 3) : 0};
        g->undef = FL_AF;
        gen_seq(g, 3 + below(&g->r, 10));
        settle_flow(g);
        if (f.pops)
            EMIT(g, 0xc2, (uint8_t)f.pops, 0);
        else
            EMIT(g, 0xc3);
        put_table(g, i, code_ip(g, f.at));
        function[i] = f;
        g->functions = i + 1;
    }
}

static void pointers(struct gen *g)
{
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = g->p->window + W_DATA + 0x4000 + 0x40 * below(&g->r, 16);
        emit_mov_imm64(g, g->ptr[i], at);
    }
}

static const uint64_t narrow_windows[4] = {0x400000, 0x7fc00000, 0xc0400000, 0xffc00000};
const uint64_t program_windows[4] = {0x400000, 0x7f1234400000, 0xffffffff80400000,
                                     0xffff888000400000};

void program_make(struct program *p, uint64_t seed, uint32_t features)
{
    struct gen g = {.r = {seed * 0x9e3779b97f4a7c15ull ^ 0x6c6f636b73746570ull}, .p = p};
    memset(p, 0, sizeof *p);
    p->seed = seed;
    p->features = features & (uint32_t)(rnd(&g.r) | rnd(&g.r));
    p->user = one_in(&g.r, 3);
    p->window = program_windows[below(&g.r, 4)];
    if (features & F_NARROW && one_in(&g.r, 2)) {
        p->narrow = p->user = true;
        p->features &= ~(uint32_t)F_ALIAS;
        p->window = narrow_windows[below(&g.r, 4)];
        p->fs_limit = one_in(&g.r, 2) ? UINT32_MAX : 0x7fff;
    }
    p->rflags = 0x202 | (one_in(&g.r, 2) ? 0x3000 : 0);
    /* Based at data, or so that a pointer and a base make an address. */
    p->fs = one_in(&g.r, 2) ? p->window + W_DATA + 0x5000 : 0x240;
    p->gs = one_in(&g.r, 2) ? p->window + W_DATA + 0x6000 : 0x480;
    for (unsigned i = 0; i < 16; i++)
        p->gpr[i] = rnd_int(&g.r);
    for (unsigned i = 0; i < D_TABLES; i += 8) {
        uint64_t v = rnd_int(&g.r);
        memcpy(p->data + i, &v, 8);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (p->narrow && i) { /* they are few */
            g.ptr[i] = g.ptr[0];
            continue;
        }
        do
            g.ptr[i] = (uint8_t)any_reg(&g);
        while (!may_write(&g, BIT(g.ptr[i])));
        g.keep |= (uint16_t)BIT(g.ptr[i]);
    }
    g.straight = one_in(&g.r, 2);
    unsigned room = one_in(&g.r, 4) ? 200 : 20 + below(&g.r, 60);

    /* The head: where everything that went astray comes back. */
    emit_lea(&g, RSP, STACK_TOP);
    EMIT(&g, 0xfc);
    if (p->narrow)
        gen_narrow_head(&g);
    settle_flow(&g);
    pointers(&g);
    g.undef = FL_ARITH;
    unsigned to_main = emit_jump(&g, -1, true);
    functions(&g);
    close_jump(&g, to_main);
    unsigned top = g.at;
    if (p->features & F_MODE)
        gen_mode_off(&g);
    settle_flow(&g);
    gen_seq(&g, room);
    g.full = false;
    emit_lea(&g, RSP, STACK_TOP);
    emit_jump_back(&g, -1, top);
    p->size = g.at;
    g.full = true; /* a last jump fits: the room that emit_raw leaves */

    memcpy(p->alt, p->code, sizeof p->alt);
    for (unsigned i = 0; i < g.nsites; i++) {
        const struct site *s = &g.site[i];
        if (s->modrm)
            p->alt[s->at + s->modrm] ^= (uint8_t)(8 * below(&g.r, 8));
        p->alt[s->at + s->imm] = (uint8_t)rnd(&g.r);
        p->site[p->nsites++] = s->at + s->imm;
    }
}
