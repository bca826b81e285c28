/* SPDX-License-Identifier: MIT
 * Bit manipulation on general registers: BMI1, BMI2, ADX, LZCNT, POPCNT, CRC32,
 * MOVBE, and the direct stores MOVNTI, MOVDIRI, MOVDIR64B.
 *
 * dst is ModRM.reg, src is ModRM.rm when it is a register (OP_USER1: memory),
 * src2 is VEX.vvvv; opsize is the operands' size. Flags that the manual leaves
 * undefined become 0. */
#include "../int/int.h"
#include "simd.h"

#define RM_MEMORY OP_USER1

static inline uint64_t source(struct emu *c, const struct op *op)
{
    if (op->flags & RM_MEMORY)
        return mem_load(c, op, op_linear(c, op, op->opsize, false), op->opsize);
    return reg_read(c, op->src, op->opsize);
}

static inline void check_vex(struct emu *c, const struct op *op)
{
    if (unlikely(!vex_mode_ok(c)))
        emu_ud(c, op);
}

static inline unsigned bits_of(const struct op *op)
{
    return op->opsize * 8u;
}

/* SF and ZF of a result. */
static inline uint32_t sign_zero(uint64_t r, unsigned size)
{
    return (r == 0 ? FL_ZF : 0) | (r >> (size * 8 - 1) & 1 ? FL_SF : 0);
}

/* ---- BMI1 and BMI2 --------------------------------------------------------------- */

static void h_andn(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t r = ~reg_read(c, op->src2, op->opsize) & source(c, op);
    reg_write(c, op->dst, op->opsize, r);
    flags_set_arith(c, sign_zero(r, op->opsize));
    NEXT;
}

static void h_bextr(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op), control = reg_read(c, op->src2, op->opsize);
    unsigned start = control & 0xff, len = control >> 8 & 0xff;
    uint64_t r = start < 64 ? v >> start : 0;
    if (len < 64)
        r &= BIT64(len) - 1;
    reg_write(c, op->dst, op->opsize, r);
    flags_set_arith(c, r == 0 ? FL_ZF : 0);
    NEXT;
}

/* BLSR, BLSMSK, BLSI write vvvv. */
static void h_blsr(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op), r = v & (v - 1);
    reg_write(c, op->src2, op->opsize, r);
    flags_set_arith(c, sign_zero(r, op->opsize) | (v == 0 ? FL_CF : 0));
    NEXT;
}

static void h_blsmsk(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op), r = (v ^ (v - 1)) & size_mask(op->opsize);
    reg_write(c, op->src2, op->opsize, r);
    flags_set_arith(c, (sign_zero(r, op->opsize) & FL_SF) | (v == 0 ? FL_CF : 0));
    NEXT;
}

static void h_blsi(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op), r = v & (0 - v);
    reg_write(c, op->src2, op->opsize, r);
    flags_set_arith(c, sign_zero(r, op->opsize) | (v != 0 ? FL_CF : 0));
    NEXT;
}

static void h_bzhi(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op);
    unsigned n = (uint8_t)reg_read(c, op->src2, op->opsize);
    uint64_t r = n < bits_of(op) ? v & (BIT64(n) - 1) : v;
    reg_write(c, op->dst, op->opsize, r);
    flags_set_arith(c, sign_zero(r, op->opsize) | (n >= bits_of(op) ? FL_CF : 0));
    NEXT;
}

/* rdx times the source; the high half last, so that it wins when both
 * destinations are one register. */
static void h_mulx(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op);
    if (op->opsize == 8) {
        unsigned __int128 p = (unsigned __int128)v * c->gpr[R_RDX];
        R64(c, op->src2) = (uint64_t)p;
        R64(c, op->dst) = (uint64_t)(p >> 64);
    } else {
        uint64_t p = v * (uint32_t)c->gpr[R_RDX];
        R64(c, op->src2) = (uint32_t)p;
        R64(c, op->dst) = p >> 32;
    }
    NEXT;
}

static void h_pdep(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = reg_read(c, op->src2, op->opsize), mask = source(c, op), r = 0;
    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1)
            r |= mask & (0 - mask);
    reg_write(c, op->dst, op->opsize, r);
    NEXT;
}

static void h_pext(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = reg_read(c, op->src2, op->opsize), mask = source(c, op), r = 0;
    for (unsigned i = 0; mask; mask &= mask - 1, i++)
        if (v & mask & (0 - mask))
            r |= BIT64(i);
    reg_write(c, op->dst, op->opsize, r);
    NEXT;
}

static void h_rorx(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op);
    unsigned n = op->imm & (bits_of(op) - 1);
    reg_write(c, op->dst, op->opsize, n ? v >> n | v << (bits_of(op) - n) : v);
    NEXT;
}

static void h_sarx(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    int64_t v = sign_extend(source(c, op), op->opsize);
    unsigned n = reg_read(c, op->src2, op->opsize) & (bits_of(op) - 1);
    reg_write(c, op->dst, op->opsize, (uint64_t)(v >> n));
    NEXT;
}

static void h_shlx(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op);
    unsigned n = reg_read(c, op->src2, op->opsize) & (bits_of(op) - 1);
    reg_write(c, op->dst, op->opsize, v << n);
    NEXT;
}

static void h_shrx(struct emu *c, const struct op *op)
{
    check_vex(c, op);
    uint64_t v = source(c, op);
    unsigned n = reg_read(c, op->src2, op->opsize) & (bits_of(op) - 1);
    reg_write(c, op->dst, op->opsize, v >> n);
    NEXT;
}

/* ---- legacy encodings --------------------------------------------------------------- */

/* ADCX and ADOX: an addition through one flag, the others unchanged. */
static inline void add_with(struct emu *c, const struct op *op, uint32_t flag)
{
    uint64_t v = source(c, op), d = reg_read(c, op->dst, op->opsize);
    uint32_t fl = flags_arith(c);
    unsigned __int128 sum = (unsigned __int128)d + v + ((fl & flag) != 0);
    bool carry = (sum >> bits_of(op)) & 1;
    reg_write(c, op->dst, op->opsize, (uint64_t)sum);
    flags_set_arith(c, (fl & ~flag) | (carry ? flag : 0));
}

static void h_adcx(struct emu *c, const struct op *op)
{
    add_with(c, op, FL_CF);
    NEXT;
}

static void h_adox(struct emu *c, const struct op *op)
{
    add_with(c, op, FL_OF);
    NEXT;
}

static void h_lzcnt(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    uint64_t r = v ? (uint64_t)__builtin_clzll(v) - (64 - bits_of(op)) : bits_of(op);
    reg_write(c, op->dst, op->opsize, r);
    flags_set_arith(c, (v == 0 ? FL_CF : 0) | (r == 0 ? FL_ZF : 0));
    NEXT;
}

static void h_tzcnt(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    uint64_t r = v ? (uint64_t)__builtin_ctzll(v) : bits_of(op);
    reg_write(c, op->dst, op->opsize, r);
    flags_set_arith(c, (v == 0 ? FL_CF : 0) | (r == 0 ? FL_ZF : 0));
    NEXT;
}

/* What LZCNT and TZCNT are on a CPU that does not have them: BSR and BSF with a
 * prefix that is ignored. A zero source leaves the destination as it was. */
static void h_bsr(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    if (v)
        reg_write(c, op->dst, op->opsize, 63 - (uint64_t)__builtin_clzll(v));
    flags_set_arith(c, (flags_arith(c) & ~FL_ZF) | (v ? 0 : FL_ZF));
    NEXT;
}

static void h_bsf(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    if (v)
        reg_write(c, op->dst, op->opsize, (uint64_t)__builtin_ctzll(v));
    flags_set_arith(c, (flags_arith(c) & ~FL_ZF) | (v ? 0 : FL_ZF));
    NEXT;
}

static void h_popcnt(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    reg_write(c, op->dst, op->opsize, (uint64_t)__builtin_popcountll(v));
    flags_set_arith(c, v ? 0 : FL_ZF);
    NEXT;
}

/* CRC-32C (polynomial 0x11EDC6F41), bit-reflected, four bits at a time. */
static uint32_t crc32c(uint32_t crc, uint64_t v, unsigned size)
{
    static const uint32_t step[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                      0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                      0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (unsigned i = 0; i < size * 2; i++, v >>= 4)
        crc = crc >> 4 ^ step[(crc ^ v) & 15];
    return crc;
}

/* opsize is the source's; the destination is 32 bits, zero-extended. */
static void h_crc32(struct emu *c, const struct op *op)
{
    uint64_t v = source(c, op);
    R64(c, op->dst) = crc32c(R32(c, op->dst), v, op->opsize);
    NEXT;
}

static inline uint64_t swap_bytes(uint64_t v, unsigned size)
{
    return __builtin_bswap64(v) >> (64 - size * 8);
}

static void h_movbe_load(struct emu *c, const struct op *op)
{
    reg_write(c, op->dst, op->opsize, swap_bytes(source(c, op), op->opsize));
    NEXT;
}

static void h_movbe_store(struct emu *c, const struct op *op)
{
    uint64_t lin = op_linear(c, op, op->opsize, true);
    mem_store(c, op, lin, op->opsize, swap_bytes(reg_read(c, op->dst, op->opsize), op->opsize));
    NEXT;
}

static void h_store(struct emu *c, const struct op *op)
{
    uint64_t lin = op_linear(c, op, op->opsize, true);
    mem_store(c, op, lin, op->opsize, reg_read(c, op->dst, op->opsize));
    NEXT;
}

static __attribute__((noinline)) void move64(struct emu *c, const struct op *op)
{
    uint8_t buf[64];
    uint64_t to = reg_read(c, op->dst, op->asize);
    emu_load(c, op, op_linear(c, op, 64, false), buf, 64);
    uint64_t lin = seg_linear(c, op, SEG_ES, to, 64, true);
    if (lin & 63)
        emu_gp0(c, op);
    emu_store(c, op, lin, buf, 64);
}

/* From memory to ES:reg. */
static void h_movdir64b(struct emu *c, const struct op *op)
{
    move64(c, op);
    NEXT;
}

/* ---- selection ------------------------------------------------------------------- */

static bool select_store(const struct insn *in, struct op *op, op_fn *fn)
{
    op->dst = op_gpr(in->zop[1].reg.value);
    op->opsize = (uint8_t)(in->zop[1].size / 8);
    op->fn = fn;
    return true;
}

static op_fn *handler_of(struct emu *c, ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_ANDN: return h_andn;
    case ZYDIS_MNEMONIC_BEXTR: return h_bextr;
    case ZYDIS_MNEMONIC_BLSR: return h_blsr;
    case ZYDIS_MNEMONIC_BLSMSK: return h_blsmsk;
    case ZYDIS_MNEMONIC_BLSI: return h_blsi;
    case ZYDIS_MNEMONIC_BZHI: return h_bzhi;
    case ZYDIS_MNEMONIC_MULX: return h_mulx;
    case ZYDIS_MNEMONIC_PDEP: return h_pdep;
    case ZYDIS_MNEMONIC_PEXT: return h_pext;
    case ZYDIS_MNEMONIC_RORX: return h_rorx;
    case ZYDIS_MNEMONIC_SARX: return h_sarx;
    case ZYDIS_MNEMONIC_SHLX: return h_shlx;
    case ZYDIS_MNEMONIC_SHRX: return h_shrx;
    case ZYDIS_MNEMONIC_ADCX: return h_adcx;
    case ZYDIS_MNEMONIC_ADOX: return h_adox;
    case ZYDIS_MNEMONIC_LZCNT: return emu_has_isa(c, ZYDIS_ISA_SET_LZCNT) ? h_lzcnt : h_bsr;
    case ZYDIS_MNEMONIC_TZCNT: return emu_has_isa(c, ZYDIS_ISA_SET_BMI1) ? h_tzcnt : h_bsf;
    case ZYDIS_MNEMONIC_POPCNT: return h_popcnt;
    case ZYDIS_MNEMONIC_CRC32: return h_crc32;
    case ZYDIS_MNEMONIC_MOVBE: return h_movbe_load;
    case ZYDIS_MNEMONIC_MOVDIR64B: return h_movdir64b;
    default: return NULL;
    }
}

bool select_bmi(struct emu *c, struct insn *in, struct op *op)
{
    ZydisMnemonic m = in->zi.mnemonic;
    bool count = (m == ZYDIS_MNEMONIC_LZCNT || m == ZYDIS_MNEMONIC_TZCNT) && !is_vex(in);
    if (in->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && !is_vex(in))
        return false; /* BEXTR has an XOP form */
    if (!count && !emu_has_isa(c, in->zi.meta.isa_set))
        return false;
    if (m == ZYDIS_MNEMONIC_MOVNTI || m == ZYDIS_MNEMONIC_MOVDIRI)
        return select_store(in, op, h_store);
    if (m == ZYDIS_MNEMONIC_MOVBE && is_mem(&in->zop[0]))
        return select_store(in, op, h_movbe_store);
    op->fn = handler_of(c, m);
    if (!op->fn)
        return false;
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->zop[i];
        if (is_mem(o) && o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            op->flags |= RM_MEMORY;
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            op->dst = op_gpr(o->reg.value);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            op->src = op_gpr(o->reg.value);
        else if (o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
            op->src2 = op_gpr(o->reg.value);
    }
    if (m == ZYDIS_MNEMONIC_CRC32)
        op->opsize = (uint8_t)(in->zop[1].size / 8);
    return true;
}
