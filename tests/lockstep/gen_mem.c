/* SPDX-License-Identifier: MIT
 * Operands: registers, immediates, and memory in all its forms. */
#include "gen.h"
#include <string.h>

unsigned any_reg(struct gen *g)
{
    return below(&g->r, g->p->narrow ? 8 : 16);
}

unsigned byte_reg(struct gen *g)
{
    return below(&g->r, g->p->narrow ? 4 : 16);
}

bool may_write(const struct gen *g, uint32_t regs)
{
    return !((g->keep | BIT(RSP)) & regs);
}

unsigned dst_reg(struct gen *g)
{
    for (;;) {
        unsigned r = any_reg(g);
        if (may_write(g, BIT(r)))
            return r;
    }
}

unsigned int_size(struct gen *g)
{
    static const uint8_t sizes[] = {1, 2, 4, 4, 4, 8, 8, 8};
    return sizes[below(&g->r, 8)];
}

int64_t imm_of(struct gen *g, unsigned size)
{
    int64_t v = (int64_t)rnd_int(&g->r);
    if (one_in(&g->r, 3))
        return (int8_t)v;
    return size == 1 ? (int8_t)v : size == 2 ? (int16_t)v : (int32_t)v;
}

/* Where in the plain data pages. */
static unsigned plain(struct gen *g, unsigned size, unsigned how)
{
    unsigned at = below(&g->r, D_PLAIN - 64);
    if (one_in(&g->r, 3))
        at = below(&g->r, 4) * 0x1040 + below(&g->r, 64); /* often the same places */
    if (!(how & M_ALIGN) && one_in(&g->r, 8))             /* across a page's end */
        at = (1 + below(&g->r, 10)) * 4096 - 1 - below(&g->r, size);
    if (how & M_ALIGN && !one_in(&g->r, 24))
        at &= ~(size - 1);
    return at;
}

static operand based(unsigned base, int index, unsigned scale, int64_t disp, unsigned size)
{
    operand o;
    memset(&o, 0, sizeof o);
    o.type = ZYDIS_OPERAND_TYPE_MEMORY;
    o.mem.base = (ZydisRegister)(ZYDIS_REGISTER_RAX + base);
    if (index >= 0) {
        o.mem.index = (ZydisRegister)(ZYDIS_REGISTER_RAX + (unsigned)index);
        o.mem.scale = (uint8_t)scale;
    }
    o.mem.displacement = disp;
    o.mem.size = (uint16_t)size;
    return o;
}

/* A register with 0-255, flags as they are. */
static unsigned small_index(struct gen *g)
{
    unsigned r = dst_reg(g), from = byte_reg(g);
    request q = req(ZYDIS_MNEMONIC_MOVZX);
    add_operand(&q, reg_op(r, 4));
    add_operand(&q, reg_op(from, 1));
    emit(g, &q, false);
    return r;
}

static struct mem bad(struct gen *g, unsigned size, unsigned how)
{
    struct mem m = {.may_skip = true};
    unsigned at = D_BAD + below(&g->r, 0x2000 - 64);
    unsigned r = dst_reg(g);
    switch (below(&g->r, 4)) {
    case 0: /* into the page behind the plain ones, or the tables */
        at = D_BAD - 1 - below(&g->r, size > 1 ? size - 1 : 1);
        if (size == 1)
            at = D_BAD + 4096;
        break;
    case 1: /* not canonical, or far away */
        emit_mov_imm64(g, r,
                       one_in(&g->r, 2) ? 0x7fffffffffffull - below(&g->r, 16)
                                        : rnd(&g->r) | 0x1000000000000000ull);
        m.op = based(r, -1, 0, (int8_t)rnd(&g->r), size);
        return m;
    default: break;
    }
    (void)how;
    m.op = rip_op(g, W_DATA + at, size);
    return m;
}

struct mem mem_of(struct gen *g, unsigned size, unsigned how)
{
    struct mem m = {.may_skip = false};
    unsigned ptr = g->ptr[below(&g->r, 3)];
    unsigned at = plain(g, size, how);
    uint64_t w = g->p->window + W_DATA;
    if (g->p->narrow) {
        w = (uint64_t)(int32_t)w;
        if (!(how & M_ALIGN) && one_in(&g->r, 8))
            return narrow_sum(g, W_DATA + at, size);
    }
    /* Vector stores that fault because they are misaligned are skipped. */
    m.may_skip = how & M_ALIGN && at & (size - 1);
    switch (below(&g->r, how & M_SAFE ? 20 : 26)) {
    case 0:
    case 1:
    case 2:
    case 3: m.op = rip_op(g, W_DATA + at, size); return m;
    case 4:
    case 5: /* pointers lie at 0x4000 + 0x40 n */
        if (one_in(&g->r, 4)) {
            unsigned idx = small_index(g);
            if (how & M_ALIGN)
                m.may_skip = true;
            m.op = based(ptr, (int)idx, 1u << below(&g->r, 4), (int32_t)below(&g->r, 0x800) - 0x400,
                         size);
            return m;
        }
        __attribute__((fallthrough));
    case 6:
    case 7:
    case 8:
    case 9: {
        int32_t d = one_in(&g->r, 2) ? (int8_t)rnd(&g->r) : (int32_t)below(&g->r, 0x6000) - 0x3000;
        if (how & M_ALIGN) {
            d &= ~(int32_t)(size - 1);
            m.may_skip = false;
        }
        m.op = based(ptr, -1, 0, d, size);
        return m;
    }
    case 10:
        if ((int64_t)(int32_t)w != (int64_t)w)
            break;
        m.op = rip_op(g, W_DATA, size);
        m.op.mem.base = ZYDIS_REGISTER_NONE;
        m.op.mem.displacement = (int64_t)w + at;
        return m;
    case 11:
        if ((int64_t)(int32_t)w != (int64_t)w)
            break;
        m.op = based(RAX, (int)small_index(g), 1u << below(&g->r, 4), (int64_t)w + at / 2, size);
        m.op.mem.base = ZYDIS_REGISTER_NONE;
        m.may_skip |= how & M_ALIGN;
        return m;
    case 12:
    case 13:
    case 14: {
        bool fs = one_in(&g->r, 2);
        m.prefixes = fs ? ZYDIS_ATTRIB_HAS_SEGMENT_FS : ZYDIS_ATTRIB_HAS_SEGMENT_GS;
        m.may_skip = fs && g->p->narrow && g->p->fs_limit != UINT32_MAX;
        if ((fs ? g->p->fs : g->p->gs) < 4096) {
            m.op = based(ptr, -1, 0, ((int32_t)below(&g->r, 0x2000) - 0x1000) & ~63, size);
            return m;
        }
        unsigned r = small_index(g);
        m.op = based(r, -1, 0, (int32_t)below(&g->r, 0x2000) - 0x1000, size);
        if (one_in(&g->r, 2)) {
            m.op.mem.base = ZYDIS_REGISTER_NONE;
            m.op.mem.displacement = below(&g->r, 0x2000);
        }
        m.may_skip |= how & M_ALIGN;
        return m;
    }
    case 15: /* 32-bit addresses */
        if (w >> 32 || g->p->narrow)
            break;
        m.op = based(ptr, -1, 0, (int8_t)(rnd(&g->r) & ~(uint64_t)63), size);
        m.op.mem.base = (ZydisRegister)(ZYDIS_REGISTER_EAX + ptr);
        m.may_skip = false;
        if (one_in(&g->r, 2)) {
            unsigned idx = small_index(g);
            m.op.mem.index = (ZydisRegister)(ZYDIS_REGISTER_EAX + idx);
            m.op.mem.scale = (uint8_t)(1u << below(&g->r, 4));
            m.may_skip = how & M_ALIGN;
        }
        return m;
    case 16:
    case 17: { /* below the stack pointer */
        int32_t d = -0x100 - (int32_t)below(&g->r, 0x400);
        m.op = based(RSP, -1, 0, d & ~63, size);
        m.may_skip = true; /* RSP may have been lost */
        return m;
    }
    case 18:
    case 19: /* among the code */
        if (!g->npools || !has(g, F_SMC))
            break;
        at = g->pool[below(&g->r, g->npools)];
        if (how & M_ALIGN)
            at = (at + 31) & ~31u;
        else
            at += below(&g->r, 16);
        m.op = rip_op(g, W_CODE + at + (has(g, F_ALIAS) && one_in(&g->r, 3) ? W_CODE_RW : 0), size);
        m.may_skip = false;
        return m;
    case 20:
    case 21:
    case 22:
        if (!has(g, F_PAGING))
            break;
        at = D_FIXED + below(&g->r, 0x2000 - 64);
        if (one_in(&g->r, 4))
            at = D_FIXED + 4096 - 1 - below(&g->r, size);
        if (how & M_ALIGN)
            at &= ~(size - 1);
        m.may_skip = false;
        m.op = rip_op(g, W_DATA + at, size);
        return m;
    case 23:
        if (!has(g, F_FAULT))
            break;
        return bad(g, size, how);
    case 24:
        if (!has(g, F_IO) || one_in(&g->r, 2))
            break;
        m.op =
            rip_op(g, W_MMIO + (one_in(&g->r, 4) ? 4096 : 0) + (below(&g->r, 4000) & ~31u), size);
        m.may_skip = false;
        return m;
    default: break;
    }
    m.op = rip_op(g, W_DATA + at, size);
    return m;
}
