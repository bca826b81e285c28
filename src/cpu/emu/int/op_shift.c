/* SPDX-License-Identifier: MIT
 * SHL SHR SAR ROL ROR RCL RCR SHLD SHRD. The count is masked to 5 bits, 6 for
 * 64-bit operands; a count of 0 leaves all flags. */
#include "int.h"

enum shift_kind { K_SHL, K_SHR, K_SAR, K_ROL, K_ROR, K_RCL, K_RCR, K_SHLD, K_SHRD };

/* src2 holds the kind; OP_USER2: count in CL, else imm. */
static unsigned count_of(const struct emu *c, const struct op *op)
{
    unsigned n = op->flags & OP_USER2 ? (unsigned)c->gpr[R_RCX] : (unsigned)op->imm;
    return n & (op->opsize == 8 ? 63 : 31);
}

static void set_cf_of(struct emu *c, bool cf, bool of)
{
    uint32_t f = flags_arith(c) & ~(FL_CF | FL_OF);
    flags_set_arith(c, f | (cf ? FL_CF : 0) | (of ? FL_OF : 0));
}

static inline void lazy(struct emu *c, unsigned group, unsigned size, uint64_t r, uint64_t before)
{
    c->cc_op = group + size_log2(size);
    c->cc_dst = r;
    c->cc_src = before;
}

static uint64_t shift_shl(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), size = op->opsize, bits = size * 8;
    if (!n)
        return v;
    uint64_t before = n - 1 < bits ? v << (n - 1) : 0;
    uint64_t r = (before << 1) & size_mask(size);
    lazy(c, CC_SHL, size, r, before & size_mask(size));
    return r;
}

static uint64_t shift_shr(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), size = op->opsize, bits = size * 8;
    if (!n)
        return v;
    uint64_t before = n - 1 < bits ? v >> (n - 1) : 0;
    uint64_t r = before >> 1;
    lazy(c, CC_SAR, size, r, before);
    return r;
}

static uint64_t shift_sar(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), size = op->opsize;
    if (!n)
        return v;
    int64_t before = sign_extend(v, size) >> (n - 1);
    uint64_t r = (uint64_t)(before >> 1) & size_mask(size);
    lazy(c, CC_SAR, size, r, (uint64_t)before & size_mask(size));
    return r;
}

static uint64_t shift_rol(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), bits = op->opsize * 8u, k = n % bits;
    if (!n)
        return v;
    uint64_t r = k ? ((v << k) | (v >> (bits - k))) & size_mask(op->opsize) : v;
    set_cf_of(c, r & 1, ((r >> (bits - 1)) ^ r) & 1);
    return r;
}

static uint64_t shift_ror(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), bits = op->opsize * 8u, k = n % bits;
    if (!n)
        return v;
    uint64_t r = k ? ((v >> k) | (v << (bits - k))) & size_mask(op->opsize) : v;
    set_cf_of(c, r >> (bits - 1) & 1, ((r >> (bits - 1)) ^ (r >> (bits - 2))) & 1);
    return r;
}

/* Through carry: a rotation of bits + 1 bits. */
static uint64_t shift_rcl(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), bits = op->opsize * 8u;
    n = bits == 64 ? n : n % (bits + 1);
    if (!n)
        return v;
    uint64_t cf = flags_arith(c) & FL_CF, r = v << n | cf << (n - 1);
    if (n > 1)
        r |= v >> (bits + 1 - n);
    r &= size_mask(op->opsize);
    cf = v >> (bits - n) & 1;
    set_cf_of(c, cf, (r >> (bits - 1) & 1) ^ cf);
    return r;
}

static uint64_t shift_rcr(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), bits = op->opsize * 8u;
    n = bits == 64 ? n : n % (bits + 1);
    if (!n)
        return v;
    uint64_t cf = flags_arith(c) & FL_CF;
    uint64_t r = (n < 64 ? v >> n : 0) | cf << (bits - n);
    if (n > 1)
        r |= v << (bits + 1 - n);
    r &= size_mask(op->opsize);
    cf = v >> (n - 1) & 1;
    set_cf_of(c, cf, ((r >> (bits - 1)) ^ (r >> (bits - 2))) & 1);
    return r;
}

/* Double shifts of 16 bits by more than 16 are undefined by the manual; what
 * processors do is to go on as if the operands repeated. */
static uint64_t shift_shld(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), size = op->opsize, bits = size * 8;
    uint64_t s = reg_read(c, op->src, size), r, before;
    if (!n)
        return v;
    if (size == 2) {
        uint64_t all = v << 32 | s << 16 | v; /* 48 bits */
        before = all << (n - 1) >> 32;
        r = all << n >> 32;
    } else {
        before = n == 1 ? v : v << (n - 1) | s >> (bits - n + 1);
        r = v << n | s >> (bits - n);
    }
    r &= size_mask(size);
    lazy(c, CC_SHL, size, r, before & size_mask(size));
    return r;
}

static uint64_t shift_shrd(struct emu *c, const struct op *op, uint64_t v)
{
    unsigned n = count_of(c, op), size = op->opsize, bits = size * 8;
    uint64_t s = reg_read(c, op->src, size), r, before;
    if (!n)
        return v;
    if (size == 2) {
        uint64_t all = v << 32 | s << 16 | v;
        before = all >> (n - 1);
        r = all >> n;
    } else {
        before = n == 1 ? v : v >> (n - 1) | s << (bits - n + 1);
        r = v >> n | s << (bits - n);
    }
    r &= size_mask(size);
    lazy(c, CC_SAR, size, r, before & size_mask(size));
    return r;
}

#define DEF_SHIFT(kind)                                                                            \
    static void op_##kind(struct emu *c, const struct op *op)                                      \
    {                                                                                              \
        rm_modify(c, op, op->opsize, shift_##kind);                                                \
        NEXT;                                                                                      \
    }
DEF_SHIFT(shl)
DEF_SHIFT(shr)
DEF_SHIFT(sar)
DEF_SHIFT(rol)
DEF_SHIFT(ror)
DEF_SHIFT(rcl)
DEF_SHIFT(rcr)
DEF_SHIFT(shld)
DEF_SHIFT(shrd)

/* Register by a constant other than 0: the everyday case. */
#define DEF_SHIFT_FAST(bits, type)                                                                 \
    static void shl_ri##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        uint##bits##_t before = (uint##bits##_t)(R##bits(c, op->dst) << (op->imm - 1));            \
        uint##bits##_t r = (uint##bits##_t)(before << 1);                                          \
        lazy(c, CC_SHL, bits / 8, r, before);                                                      \
        R64(c, op->dst) = r;                                                                       \
        NEXT;                                                                                      \
    }                                                                                              \
    static void shr_ri##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        uint##bits##_t before = R##bits(c, op->dst) >> (op->imm - 1), r = before >> 1;             \
        lazy(c, CC_SAR, bits / 8, r, before);                                                      \
        R64(c, op->dst) = r;                                                                       \
        NEXT;                                                                                      \
    }                                                                                              \
    static void sar_ri##bits(struct emu *c, const struct op *op)                                   \
    {                                                                                              \
        type before = (type)R##bits(c, op->dst) >> (op->imm - 1);                                  \
        uint##bits##_t r = (uint##bits##_t)(before >> 1);                                          \
        lazy(c, CC_SAR, bits / 8, r, (uint##bits##_t)before);                                      \
        R64(c, op->dst) = r;                                                                       \
        NEXT;                                                                                      \
    }
DEF_SHIFT_FAST(32, int32_t)
DEF_SHIFT_FAST(64, int64_t)

static op_fn *fast_shift(uint16_t mnemonic, bool wide)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SHL: return wide ? shl_ri64 : shl_ri32;
    case ZYDIS_MNEMONIC_SHR: return wide ? shr_ri64 : shr_ri32;
    case ZYDIS_MNEMONIC_SAR: return wide ? sar_ri64 : sar_ri32;
    default: return NULL;
    }
}

static op_fn *general_shift(uint16_t mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SHL: return op_shl;
    case ZYDIS_MNEMONIC_SHR: return op_shr;
    case ZYDIS_MNEMONIC_SAR: return op_sar;
    case ZYDIS_MNEMONIC_ROL: return op_rol;
    case ZYDIS_MNEMONIC_ROR: return op_ror;
    case ZYDIS_MNEMONIC_RCL: return op_rcl;
    case ZYDIS_MNEMONIC_RCR: return op_rcr;
    case ZYDIS_MNEMONIC_SHLD: return op_shld;
    case ZYDIS_MNEMONIC_SHRD: return op_shrd;
    default: return NULL;
    }
}

bool select_shift(struct insn *in, struct op *op)
{
    op_fn *fn = general_shift(op->mnemonic);
    if (!fn)
        return false;
    bool dbl = op->mnemonic == ZYDIS_MNEMONIC_SHLD || op->mnemonic == ZYDIS_MNEMONIC_SHRD;
    const ZydisDecodedOperand *count = &in->zop[dbl ? 2 : 1];
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    op->fn = fn;
    if (dbl)
        op->src = op_gpr(in->zop[1].reg.value);
    if (count->type == ZYDIS_OPERAND_TYPE_REGISTER)
        op->flags |= OP_USER2;
    if (in->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
        op->flags |= OP_RM_MEM;
        return true;
    }
    op->dst = op_gpr(in->zop[0].reg.value);
    if (!(op->flags & OP_USER2) && op->opsize >= 4) {
        unsigned n = (unsigned)op->imm & (op->opsize == 8 ? 63 : 31);
        fn = fast_shift(op->mnemonic, op->opsize == 8);
        if (fn && n) {
            op->imm = n;
            op->fn = fn;
        }
    }
    return true;
}
