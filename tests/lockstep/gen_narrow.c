/* SPDX-License-Identifier: MIT
 * 32-bit code: what differs in encoding, and what is its own: addresses that wrap at
 * 4 GiB in all places where one is added up, segments that are not flat for a moment,
 * stacks that lie elsewhere. */
#include "gen.h"
#include <string.h>

#define M(x) ZYDIS_MNEMONIC_##x

#define SEL_DATA 0x2b
#define SEL_FS   0x53
#define SEL_GS   0x5b
enum { ES, CS, SS, DS, FS, GS };

/* ---- operands of 64-bit mode -------------------------------------------------------- */

static ZydisRegister low_half(ZydisRegister r)
{
    if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
        return (ZydisRegister)(ZYDIS_REGISTER_EAX + ((r - ZYDIS_REGISTER_RAX) & 7));
    if (r >= ZYDIS_REGISTER_XMM8 && r <= ZYDIS_REGISTER_XMM15)
        return (ZydisRegister)(r - 8);
    if (r >= ZYDIS_REGISTER_YMM8 && r <= ZYDIS_REGISTER_YMM15)
        return (ZydisRegister)(r - 8);
    return r;
}

void narrow_operands(request *q)
{
    bool integers = q->mnemonic != M(CMPXCHG8B);
    for (unsigned i = 0; i < q->operand_count; i++) {
        operand *o = &q->operands[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            o->reg.value = low_half(o->reg.value);
            integers &= ZydisRegisterGetClass(o->reg.value) <= ZYDIS_REGCLASS_GPR64;
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            o->mem.base = low_half(o->mem.base);
            o->mem.index = low_half(o->mem.index);
        }
    }
    for (unsigned i = 0; integers && i < q->operand_count; i++)
        if (q->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && q->operands[i].mem.size == 8)
            q->operands[i].mem.size = 4;
}

static operand based(unsigned base, int index, unsigned scale, int32_t disp, unsigned size)
{
    operand o;
    memset(&o, 0, sizeof o);
    o.type = ZYDIS_OPERAND_TYPE_MEMORY;
    o.mem.base = (ZydisRegister)(ZYDIS_REGISTER_EAX + base);
    if (index >= 0) {
        o.mem.index = (ZydisRegister)(ZYDIS_REGISTER_EAX + (unsigned)index);
        o.mem.scale = (uint8_t)(1u << scale);
    }
    o.mem.displacement = disp;
    o.mem.size = (uint16_t)size;
    return o;
}

static int32_t any_disp(struct gen *g)
{
    switch (below(&g->r, 4)) {
    case 0: return (int32_t)rnd(&g->r);
    case 1: return (int32_t)below(&g->r, 0x3000) - 0x1800;
    default: return (int8_t)rnd(&g->r);
    }
}

static uint32_t any_index(struct gen *g)
{
    return one_in(&g->r, 3) ? (uint32_t)rnd(&g->r) : below(&g->r, 200) - 100;
}

/* A place in the window as a sum of registers that may pass 4 GiB more than once. */
struct mem narrow_sum(struct gen *g, unsigned at, unsigned size)
{
    struct mem m = {.may_skip = false};
    unsigned a = dst_reg(g), b = dst_reg(g), scale = below(&g->r, 4);
    uint32_t index = any_index(g);
    int32_t disp = any_disp(g);
    if (a == b) {
        m.op = rip_op(g, at, size);
        return m;
    }
    emit_mov_imm64(g, b, index);
    emit_mov_imm64(g, a, (uint32_t)(g->p->window + at) - (index << scale) - (uint32_t)disp);
    m.op = based(a, (int)b, scale, disp, size);
    return m;
}

/* ---- pieces ----------------------------------------------------------------------------- */

/* Where accesses are worth most: at the ends of pages and of all addresses. */
static uint32_t place(struct gen *g)
{
    uint32_t data = (uint32_t)g->p->window + W_DATA, off = below(&g->r, 64);
    switch (below(&g->r, 8)) {
    case 0: return 0u - off;
    case 1: return off;
    case 2: return data + D_FIXED + 0x1000 * below(&g->r, 2) + off;
    case 3:
    case 4: return data + 0x1000 * (1 + below(&g->r, 9)) - off;
    default: return data + 0x400 + below(&g->r, D_PLAIN - 0x800);
    }
}

/* An instruction that loads or stores there. */
static void access(struct gen *g, operand at)
{
    static const ZydisMnemonic ops[] = {M(MOV), M(ADD), M(XOR), M(CMP), M(MOV), M(AND)};
    static const uint8_t sizes[] = {1, 2, 4, 4};
    request q = req(ops[below(&g->r, 6)]);
    unsigned size = sizes[below(&g->r, 4)];
    at.mem.size = (uint16_t)size;
    if (one_in(&g->r, 2)) {
        unsigned r = dst_reg(g);
        add_operand(&q, reg_op(size == 1 && r > 3 ? any_reg(g) & 3 : r, size));
        if (size == 1 && !may_write(g, BIT(q.operands[0].reg.value - ZYDIS_REGISTER_AL)))
            return;
        add_operand(&q, at);
    } else {
        add_operand(&q, at);
        add_operand(&q, one_in(&g->r, 4) ? imm_op((int8_t)rnd(&g->r))
                                         : reg_op(any_reg(g) & (size == 1 ? 3 : 7), size));
    }
    emit(g, &q, true);
}

static void advance(struct gen *g, unsigned r, int by)
{
    if (by == 1 && one_in(&g->r, 2)) {
        request q = req(M(INC));
        add_operand(&q, reg_op(r, 4));
        emit(g, &q, false);
    } else if (one_in(&g->r, 3)) {
        emit2(g, M(LEA), reg_op(r, 4), based(r, -1, 0, by, 4));
    } else {
        bool add = one_in(&g->r, 2);
        emit2(g, add ? M(ADD) : M(SUB), reg_op(r, 4), imm_op(add ? by : -by));
    }
}

static int any_step(struct gen *g)
{
    static const int steps[] = {1, 2, 4, 4, 8, 16, 60, -1, -4, -4, -16, -100};
    return steps[below(&g->r, 12)];
}

static void walk(struct gen *g)
{
    unsigned r = dst_reg(g), n = 3 + below(&g->r, 6);
    int32_t disp = any_disp(g);
    emit_mov_imm64(g, r, place(g) - (uint32_t)disp);
    g->keep |= (uint16_t)BIT(r);
    for (unsigned i = 0; i < n; i++) {
        if (one_in(&g->r, 3))
            advance(g, r, any_step(g));
        else
            access(g, based(r, -1, 0, disp + (int32_t)below(&g->r, 40) - 20, 4));
    }
    g->keep &= (uint16_t)~BIT(r);
}

/* One block that jumps to its own start. */
static void stride(struct gen *g)
{
    unsigned r = dst_reg(g), idx = dst_reg(g), n = dst_reg(g), scale = below(&g->r, 4), top;
    bool indexed = one_in(&g->r, 2);
    uint32_t index = any_index(g);
    int32_t disp = any_disp(g);
    if (r == idx || r == n || idx == n)
        return;
    uint16_t keep = (uint16_t)(BIT(r) | BIT(n) | (indexed ? BIT(idx) : 0));
    emit_mov_imm64(g, n, 2 + below(&g->r, 90));
    if (indexed)
        emit_mov_imm64(g, idx, index);
    emit_mov_imm64(g, r, place(g) - (uint32_t)disp - (indexed ? index << scale : 0));
    g->keep |= keep;
    settle_flow(g);
    top = g->at;
    operand at = based(r, indexed ? (int)idx : -1, scale, disp, 4);
    for (unsigned i = 1 + below(&g->r, 3); i > 0; i--) {
        at.mem.displacement = disp + (int32_t)(4 * below(&g->r, 4));
        access(g, at);
        if (one_in(&g->r, 3))
            advance(g, indexed ? idx : r, any_step(g));
    }
    if (!one_in(&g->r, 6))
        advance(g, indexed && !one_in(&g->r, 6) ? idx : r, any_step(g));
    emit2(g, M(SUB), reg_op(n, 4), imm_op(1));
    emit_jump_back(g, 5, top);
    g->keep &= (uint16_t)~keep;
}

static void other_stack(struct gen *g)
{
    unsigned r = dst_reg(g), n = 2 + below(&g->r, 6);
    emit2(g, M(MOV), reg_op(r, 4), reg_op(RSP, 4));
    g->keep |= (uint16_t)BIT(r);
    emit_mov_imm64(g, RSP, place(g));
    for (unsigned i = 0; i < n; i++) {
        switch (below(&g->r, 7)) {
        case 0: EMIT(g, 0x6a, (uint8_t)rnd(&g->r)); break;
        case 1: /* call the next one */
            settle_flow(g);
            EMIT(g, 0xe8, 0, 0, 0, 0);
            g->undef = FL_AF;
            break;
        case 2: EMIT(g, 0x66, 0x50); break;
        case 3:
        case 4: EMIT(g, 0x58 | (uint8_t)dst_reg(g)); break;
        default: EMIT(g, 0x50 | (uint8_t)any_reg(g)); break;
        }
    }
    emit2(g, M(MOV), reg_op(RSP, 4), reg_op(r, 4));
    g->keep &= (uint16_t)~BIT(r);
}

static void load_segment(struct gen *g, unsigned seg, unsigned sel)
{
    unsigned r = dst_reg(g);
    emit_mov_imm64(g, r, sel);
    EMIT(g, 0x8e, (uint8_t)(0xc0 | seg << 3 | r));
}

void gen_narrow_head(struct gen *g)
{
    load_segment(g, DS, SEL_DATA);
    load_segment(g, ES, SEL_DATA);
    load_segment(g, FS, SEL_FS);
    load_segment(g, GS, SEL_GS);
}

/* A null one, another one, or that of SS, and back. */
static void segments(struct gen *g)
{
    static const uint8_t segs[] = {DS, ES, FS, GS}, own[] = {SEL_DATA, SEL_DATA, SEL_FS, SEL_GS};
    unsigned i = below(&g->r, 4), push = below(&g->r, 2);
    bool skips = g->skips;
    g->skips = true;
    if (push && i < 2)
        EMIT(g, i ? 0x06 : 0x1e);
    load_segment(g, segs[i], one_in(&g->r, 2) ? 0 : i < 2 ? SEL_FS : SEL_DATA);
    gen_seq(g, 1 + below(&g->r, 4));
    if (push && i < 2)
        EMIT(g, i ? 0x07 : 0x1f);
    load_segment(g, segs[i], own[i]);
    g->skips = skips;
}

/* Encodings that 64-bit mode does not have. */
static void old_forms(struct gen *g)
{
    unsigned r = dst_reg(g);
    uint32_t at = (uint32_t)g->p->window + W_DATA + below(&g->r, D_PLAIN - 8);
    switch (below(&g->r, 6)) {
    case 0:
    case 1: { /* inc, dec of 32 or 16 bits */
        uint8_t b[2] = {0x66, (uint8_t)(0x40 | (one_in(&g->r, 2) ? 8 : 0) | r)};
        bool word = one_in(&g->r, 3);
        settle(g, FL_CF);
        emit_bytes(g, b + !word, 1u + word);
        g->undef &= FL_CF;
        return;
    }
    case 2: EMIT(g, 0x60), EMIT(g, 0x61); return; /* pusha, popa */
    case 3:                                       /* an address of 16 bits */
        EMIT(g, 0x67, 0x8b, (uint8_t)(r << 3 | below(&g->r, 6)));
        return;
    case 4: { /* mov r, seg:[at] */
        static const uint8_t over[] = {0x2e, 0x26, 0x36, 0x3e};
        uint8_t b[7] = {over[below(&g->r, 4)], 0x8b, (uint8_t)(r << 3 | 5)};
        memcpy(b + 3, &at, 4);
        emit_bytes(g, b, 7);
        return;
    }
    default: /* where am I */
        settle_flow(g);
        EMIT(g, 0xe8, 0, 0, 0, 0);
        g->undef = FL_AF;
        EMIT(g, 0x58 | (uint8_t)r);
        return;
    }
}

void gen_narrow(struct gen *g)
{
    switch (below(&g->r, 6)) {
    case 0: walk(g); return;
    case 1:
    case 2: stride(g); return;
    case 3: other_stack(g); return;
    case 4:
        if (g->depth < 3 && one_in(&g->r, 3))
            segments(g);
        else
            walk(g);
        return;
    default: old_forms(g); return;
    }
}
