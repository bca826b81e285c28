/* SPDX-License-Identifier: MIT
 * Vector instructions whose memory accesses depend on a mask or on vector
 * indices: each element is accessed for itself, and those that are masked off
 * are not touched. */
#include "fpu.h"
#include "../int/int.h"
#include "simd.h"

/* Elements of a vector register as integers. */
static inline uint64_t element(struct emu *c, unsigned reg, unsigned i, unsigned size)
{
    return size == 8 ? get_le64(c->ymm[reg] + 8 * i) : get_le32(c->ymm[reg] + 4 * i);
}

static inline void set_element(struct emu *c, unsigned reg, unsigned i, unsigned size, uint64_t v)
{
    if (size == 8)
        put_le64(c->ymm[reg] + 8 * i, v);
    else
        put_le32(c->ymm[reg] + 4 * i, (uint32_t)v);
}

static inline bool masked_in(struct emu *c, unsigned reg, unsigned i, unsigned size)
{
    return c->ymm[reg][size * (i + 1) - 1] & 0x80;
}

/* ---- VPGATHER, VGATHER ------------------------------------------------------------ */

/* opsize is the data element's size, msize the number of elements; OP_USER1:
 * indices of 64 bits. dst, src (mask) and src2 (index) are vector registers. */
#define INDEX64 OP_USER1

/* SDM volume 2, VPGATHERDD: elements are done from the lowest, each clearing
 * its mask element, so that a fault leaves the rest to be done. */
static void h_gather(struct emu *c, const struct op *op)
{
    unsigned size = op->opsize, n = op->msize;
    avx_check(c, op);
    emu_at(c, op);
    for (unsigned i = 0; i < n; i++) {
        if (!masked_in(c, op->src, i, size)) {
            set_element(c, op->src, i, size, 0);
            continue;
        }
        uint64_t index = element(c, op->src2, i, op->flags & INDEX64 ? 8 : 4);
        if (!(op->flags & INDEX64))
            index = (uint64_t)(int32_t)index;
        uint64_t ea = op_ea_index(c, op, index);
        uint64_t lin = seg_linear(c, op, op->seg, ea, size, false);
        set_element(c, op->dst, i, size, mem_load(c, op, lin, size));
        set_element(c, op->src, i, size, 0);
        emu_replay_done(c);
    }
    memset(c->ymm[op->src], 0, 32);
    memset(c->ymm[op->dst] + n * size, 0, 32 - n * size);
    NEXT;
}

static bool gather_shape(ZydisMnemonic m, bool *wide_index, bool *wide_data)
{
    switch (m) {
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VGATHERDPS: *wide_index = false, *wide_data = false; return true;
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VGATHERDPD: *wide_index = false, *wide_data = true; return true;
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VGATHERQPS: *wide_index = true, *wide_data = false; return true;
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VGATHERQPD: *wide_index = true, *wide_data = true; return true;
    default: return false;
    }
}

static bool select_vgather(const struct insn *in, struct op *op)
{
    bool wide_index, wide_data;
    const ZydisDecodedOperand *m = &in->zop[1];
    if (!is_vex(in) || !gather_shape(in->zi.mnemonic, &wide_index, &wide_data) || !is_mem(m))
        return false;
    op->dst = vec_id(&in->zop[0]);
    op->src = vec_id(&in->zop[2]);
    op->src2 = (uint8_t)ZydisRegisterGetId(m->mem.index);
    if (op->dst == op->src || op->dst == op->src2 || op->src == op->src2)
        return false; /* #UD */
    unsigned lanes = in->zi.avx.vector_length / 128u;
    op->opsize = wide_data ? 8 : 4;
    op->msize = (uint16_t)(lanes * (wide_index || wide_data ? 2 : 4));
    op->scale = (uint8_t)__builtin_ctz(m->mem.scale ? m->mem.scale : 1u);
    if (wide_index)
        op->flags |= INDEX64;
    op->fn = h_gather;
    return true;
}

/* ---- VMASKMOV, VPMASKMOV ------------------------------------------------------------ */

/* opsize is the element's size, msize the operand's. dst or src2 is the data,
 * src the mask. */
static __attribute__((noinline)) void mask_load(struct emu *c, const struct op *op)
{
    unsigned size = op->opsize;
    uint64_t v[4] = {0};
    uint64_t ea = op_ea(c, op);
    for (unsigned i = 0; i < op->msize / size; i++) {
        if (!masked_in(c, op->src, i, size))
            continue;
        uint64_t lin = seg_linear(c, op, op->seg, ea_wrap(op, ea + i * size), size, false);
        uint64_t e = mem_load(c, op, lin, size);
        memcpy((uint8_t *)v + i * size, &e, size);
    }
    memcpy(c->ymm[op->dst], v, 32);
}

static void h_mask_load(struct emu *c, const struct op *op)
{
    avx_check(c, op);
    emu_at(c, op);
    mask_load(c, op);
    NEXT;
}

/* Two passes: nothing is stored unless everything can be. */
static void h_mask_store(struct emu *c, const struct op *op)
{
    unsigned size = op->opsize;
    avx_check(c, op);
    emu_at(c, op);
    uint64_t ea = op_ea(c, op);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < op->msize / size; i++) {
            if (!masked_in(c, op->src, i, size))
                continue;
            uint64_t lin = seg_linear(c, op, op->seg, ea_wrap(op, ea + i * size), size, true);
            if (pass == 0)
                emu_probe_store(c, op, lin, size);
            else
                mem_store(c, op, lin, size, element(c, op->src2, i, size));
        }
    }
    NEXT;
}

static bool select_vmaskmov(const struct insn *in, struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD: op->opsize = 4; break;
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: op->opsize = 8; break;
    default: return false;
    }
    op->msize = in->zi.avx.vector_length / 8;
    op->src = vec_id(&in->zop[1]);
    if (is_mem(&in->zop[0])) {
        op->src2 = vec_id(&in->zop[2]);
        op->fn = h_mask_store;
    } else {
        op->dst = vec_id(&in->zop[0]);
        op->fn = h_mask_load;
    }
    return true;
}

/* ---- MASKMOVDQU, MASKMOVQ: bytes, to DS:rDI ------------------------------------------ */

static __attribute__((noinline)) void store_bytes(struct emu *c, const struct op *op,
                                                  const uint8_t *data, const uint8_t *mask,
                                                  unsigned n)
{
    uint64_t ea = op_ea(c, op);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < n; i++) {
            if (!(mask[i] & 0x80))
                continue;
            uint64_t lin = seg_linear(c, op, op->seg, ea_wrap(op, ea + i), 1, true);
            if (pass == 0)
                emu_probe_store(c, op, lin, 1);
            else
                st8(c, op, lin, data[i]);
        }
    }
}

static void h_maskmovdqu(struct emu *c, const struct op *op)
{
    if (op->flags & OP_USER1)
        avx_check(c, op);
    else
        sse_check(c, op);
    emu_at(c, op);
    store_bytes(c, op, c->ymm[op->dst], c->ymm[op->src], 16);
    NEXT;
}

/* The x87 registers become MMX registers before an MMX instruction reads them:
 * the stack's top is 0 and all are valid (SDM volume 1, 9.2). */
static __attribute__((noinline)) void mask_mmx(struct emu *c, const struct op *op)
{
    uint8_t data[8], mask[8];
    unsigned top = fpu_top(c);
    memcpy(data, c->fx + FX_ST + 16 * ((op->dst - top) & 7), 8);
    memcpy(mask, c->fx + FX_ST + 16 * ((op->src - top) & 7), 8);
    store_bytes(c, op, data, mask, 8);
    fpu_rotate(c, top, 0);
    put_le16(c->fx + FX_FSW, get_le16(c->fx + FX_FSW) & 0xc7ff);
    c->fx[FX_FTW] = 0xff;
}

static void h_maskmovq(struct emu *c, const struct op *op)
{
    mmx_check(c, op);
    emu_at(c, op);
    mask_mmx(c, op);
    NEXT;
}

static bool select_maskmov(const struct insn *in, struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ: op->fn = h_maskmovq; break;
    case ZYDIS_MNEMONIC_MASKMOVDQU: op->fn = h_maskmovdqu; break;
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        op->fn = h_maskmovdqu;
        op->flags |= OP_USER1;
        break;
    default: return false;
    }
    op->dst = vec_id(&in->zop[0]);
    op->src = vec_id(&in->zop[1]);
    op->base = R_RDI * 8;
    op->seg = implicit_segment(in);
    return true;
}

bool select_gather(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    return select_vgather(in, op) || select_vmaskmov(in, op) || select_maskmov(in, op);
}
