/* SPDX-License-Identifier: MIT
 * ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT: one handler for each
 * operation, form and size. */
#include "int.h"

/* What an operation does: takes a and b of its width, returns the result and
 * leaves the flags. Results and operands are kept zero-extended. */
#define DEF_CALC(bits)                                                                             \
    static inline uint##bits##_t calc_add##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        uint##bits##_t r = (uint##bits##_t)(a + b);                                                \
        c->cc_dst = r, c->cc_src = b, c->cc_op = CC_ADD + SZ(bits);                                \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_sub##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        uint##bits##_t r = (uint##bits##_t)(a - b);                                                \
        c->cc_dst = r, c->cc_src = b, c->cc_op = CC_SUB + SZ(bits);                                \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_and##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        uint##bits##_t r = a & b;                                                                  \
        c->cc_dst = r, c->cc_op = CC_LOGIC + SZ(bits);                                             \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_or##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b)  \
    {                                                                                              \
        uint##bits##_t r = a | b;                                                                  \
        c->cc_dst = r, c->cc_op = CC_LOGIC + SZ(bits);                                             \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_xor##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        uint##bits##_t r = a ^ b;                                                                  \
        c->cc_dst = r, c->cc_op = CC_LOGIC + SZ(bits);                                             \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_adc##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        unsigned cf = flags_carry(c);                                                              \
        uint##bits##_t r = (uint##bits##_t)(a + b + cf);                                           \
        carry_flags(c, a, b, r, cf ? r <= a : r < a, (a ^ r) & (b ^ r), bits);                     \
        return r;                                                                                  \
    }                                                                                              \
    static inline uint##bits##_t calc_sbb##bits(struct emu *c, uint##bits##_t a, uint##bits##_t b) \
    {                                                                                              \
        unsigned cf = flags_carry(c);                                                              \
        uint##bits##_t r = (uint##bits##_t)(a - b - cf);                                           \
        carry_flags(c, a, b, r, cf ? a <= b : a < b, (a ^ b) & (a ^ r), bits);                     \
        return r;                                                                                  \
    }
#define SZ(bits) ((bits) == 8 ? 0 : (bits) == 16 ? 1 : (bits) == 32 ? 2 : 3)

/* ADC and SBB need a carry that the lazy form does not keep: flags at once. */
static inline void carry_flags(struct emu *c, uint64_t a, uint64_t b, uint64_t r, bool cf,
                               uint64_t of, unsigned bits)
{
    uint64_t top = BIT64(bits - 1);
    uint32_t f = cf ? FL_CF : 0;
    f |= __builtin_parity((unsigned)r & 0xff) ? 0 : FL_PF;
    f |= (uint32_t)(a ^ b ^ r) & FL_AF;
    f |= r == 0 ? FL_ZF : 0;
    f |= r & top ? FL_SF : 0;
    f |= of & top ? FL_OF : 0;
    c->cc_op = CC_FLAGS;
    c->cc_src = f;
}

DEF_CALC(8)
DEF_CALC(16)
DEF_CALC(32)
DEF_CALC(64)

/* A 32-bit register write clears the upper half; narrower ones keep it. */
#define W8(c, o, v)  (R8(c, o) = (v))
#define W16(c, o, v) (R16(c, o) = (v))
#define W32(c, o, v) (R64(c, o) = (v))
#define W64(c, o, v) (R64(c, o) = (v))

/* Memory destinations: a pointer when it is plain RAM, else the general way. */
#define RMW_BODY(name, bits, operand)                                                              \
    uint64_t lin = op_linear(c, op, bits / 8, true);                                               \
    unsigned i = tlb_index(lin);                                                                   \
    const struct tlb_ent *e = &c->tlb->e[TLB_W][i];                                                \
    if (tlb_hit(e, lin, bits / 8)) {                                                               \
        void *p = (void *)(uintptr_t)(lin + e->addend);                                            \
        uint##bits##_t v;                                                                          \
        guest_copy(&v, p, sizeof v);                                                               \
        v = calc_##name##bits(c, v, (uint##bits##_t)(operand));                                    \
        guest_copy(p, &v, sizeof v);                                                               \
        if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))              \
            access_stored_code(c, lin, bits / 8);                                                  \
    } else {                                                                                       \
        rm_modify(c, op, bits / 8, modify_##name##bits);                                           \
    }                                                                                              \
    NEXT

#define DEF_READ_FORMS(name, bits, WRITE)                                                          \
    static void name##_rr##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        uint##bits##_t r = calc_##name##bits(c, R##bits(c, op->dst), R##bits(c, op->src));         \
        WRITE;                                                                                     \
        NEXT;                                                                                      \
    }                                                                                              \
    static void name##_ri##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        uint##bits##_t r = calc_##name##bits(c, R##bits(c, op->dst), (uint##bits##_t)op->imm);     \
        WRITE;                                                                                     \
        NEXT;                                                                                      \
    }                                                                                              \
    static void name##_rm##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        uint##bits##_t m = ld##bits(c, op, op_linear(c, op, bits / 8, false));                     \
        uint##bits##_t r = calc_##name##bits(c, R##bits(c, op->dst), m);                           \
        WRITE;                                                                                     \
        NEXT;                                                                                      \
    }

#define DEF_WRITE_FORMS(name, bits)                                                                \
    static uint64_t modify_##name##bits(struct emu *c, const struct op *op, uint64_t old)          \
    {                                                                                              \
        bool imm = op->flags & OP_USER2;                                                           \
        return calc_##name##bits(c, (uint##bits##_t)old,                                           \
                                 imm ? (uint##bits##_t)op->imm : R##bits(c, op->src));             \
    }                                                                                              \
    static void name##_mr##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        RMW_BODY(name, bits, R##bits(c, op->src));                                                 \
    }                                                                                              \
    static void name##_mi##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        RMW_BODY(name, bits, op->imm);                                                             \
    }                                                                                              \
    static void name##_lock##bits(struct emu *c, const struct op *op)                              \
    {                                                                                              \
        rm_modify(c, op, bits / 8, modify_##name##bits);                                           \
        NEXT;                                                                                      \
    }

#define DEF_STORE_OP(name, bits)                                                                   \
    DEF_READ_FORMS(name, bits, W##bits(c, op->dst, r))                                             \
    DEF_WRITE_FORMS(name, bits)
#define DEF_TEST_OP(name, calc, bits)                                                              \
    static inline uint##bits##_t calc_##name##bits(struct emu *c, uint##bits##_t a,                \
                                                   uint##bits##_t b)                               \
    {                                                                                              \
        return calc_##calc##bits(c, a, b);                                                         \
    }                                                                                              \
    DEF_READ_FORMS(name, bits, (void)r)                                                            \
    static void name##_mr##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        uint##bits##_t m = ld##bits(c, op, op_linear(c, op, bits / 8, false));                     \
        calc_##calc##bits(c, m, R##bits(c, op->src));                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void name##_mi##bits(struct emu *c, const struct op *op)                                \
    {                                                                                              \
        uint##bits##_t m = ld##bits(c, op, op_linear(c, op, bits / 8, false));                     \
        calc_##calc##bits(c, m, (uint##bits##_t)op->imm);                                          \
        NEXT;                                                                                      \
    }

#define DEF_ALL(DEF, ...)                                                                          \
    DEF(__VA_ARGS__, 8) DEF(__VA_ARGS__, 16) DEF(__VA_ARGS__, 32) DEF(__VA_ARGS__, 64)
DEF_ALL(DEF_STORE_OP, add)
DEF_ALL(DEF_STORE_OP, or)
DEF_ALL(DEF_STORE_OP, adc)
DEF_ALL(DEF_STORE_OP, sbb)
DEF_ALL(DEF_STORE_OP, and)
DEF_ALL(DEF_STORE_OP, sub)
DEF_ALL(DEF_STORE_OP, xor)
DEF_ALL(DEF_TEST_OP, cmp, sub)
DEF_ALL(DEF_TEST_OP, test, and)

#define SIZES(name)                                                                                \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }
#define ROWS(name)                                                                                 \
    {                                                                                              \
        [F_RR] = SIZES(name##_rr), [F_RI] = SIZES(name##_ri), [F_RM] = SIZES(name##_rm),           \
        [F_MR] = SIZES(name##_mr), [F_MI] = SIZES(name##_mi)                                       \
    }
static const struct {
    uint16_t mnemonic;
    op_fn *fn[F_COUNT][4];
    op_fn *lock[4];
} alu[] = {
    {ZYDIS_MNEMONIC_ADD, ROWS(add), SIZES(add_lock)},
    {ZYDIS_MNEMONIC_OR, ROWS(or), SIZES(or_lock)},
    {ZYDIS_MNEMONIC_ADC, ROWS(adc), SIZES(adc_lock)},
    {ZYDIS_MNEMONIC_SBB, ROWS(sbb), SIZES(sbb_lock)},
    {ZYDIS_MNEMONIC_AND, ROWS(and), SIZES(and_lock)},
    {ZYDIS_MNEMONIC_SUB, ROWS(sub), SIZES(sub_lock)},
    {ZYDIS_MNEMONIC_XOR, ROWS(xor), SIZES(xor_lock)},
    {ZYDIS_MNEMONIC_CMP, ROWS(cmp), {0}},
    {ZYDIS_MNEMONIC_TEST, ROWS(test), {0}},
};

/* ---- one operand ------------------------------------------------------------------ */

static uint64_t modify_inc(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t cf = flags_carry(c), r = (old + 1) & size_mask(op->opsize);
    c->cc_src = cf, c->cc_dst = r, c->cc_op = CC_INC + size_log2(op->opsize);
    return r;
}

static uint64_t modify_dec(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t cf = flags_carry(c), r = (old - 1) & size_mask(op->opsize);
    c->cc_src = cf, c->cc_dst = r, c->cc_op = CC_DEC + size_log2(op->opsize);
    return r;
}

/* In a register. */
#define DEF_COUNT(name, step, cc, bits)                                                            \
    static void name##_r##bits(struct emu *c, const struct op *op)                                 \
    {                                                                                              \
        uint##bits##_t r = (uint##bits##_t)(R##bits(c, op->dst) + (uint##bits##_t)(step));         \
        c->cc_src = flags_carry(c), c->cc_dst = r, c->cc_op = (cc) + SZ(bits);                     \
        W##bits(c, op->dst, r);                                                                    \
        NEXT;                                                                                      \
    }
DEF_ALL(DEF_COUNT, inc, 1, CC_INC)
DEF_ALL(DEF_COUNT, dec, -1, CC_DEC)

static uint64_t modify_neg(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t r = (0 - old) & size_mask(op->opsize);
    c->cc_src = old, c->cc_dst = r, c->cc_op = CC_SUB + size_log2(op->opsize);
    return r;
}

static uint64_t modify_not(struct emu *c, const struct op *op, uint64_t old)
{
    (void)c;
    return ~old & size_mask(op->opsize);
}

static void op_inc(struct emu *c, const struct op *op)
{
    rm_modify(c, op, op->opsize, modify_inc);
    NEXT;
}

static void op_dec(struct emu *c, const struct op *op)
{
    rm_modify(c, op, op->opsize, modify_dec);
    NEXT;
}

static void op_neg(struct emu *c, const struct op *op)
{
    rm_modify(c, op, op->opsize, modify_neg);
    NEXT;
}

static void op_not(struct emu *c, const struct op *op)
{
    rm_modify(c, op, op->opsize, modify_not);
    NEXT;
}

static op_fn *one_operand(uint16_t mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_INC: return op_inc;
    case ZYDIS_MNEMONIC_DEC: return op_dec;
    case ZYDIS_MNEMONIC_NEG: return op_neg;
    case ZYDIS_MNEMONIC_NOT: return op_not;
    default: return NULL;
    }
}

static op_fn *const in_register[2][4] = {SIZES(inc_r), SIZES(dec_r)};

bool select_alu(struct insn *in, struct op *op)
{
    op_fn *fn = one_operand(op->mnemonic);
    if (fn) {
        op->fn = fn;
        if (in->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            op->flags |= OP_RM_MEM;
        else
            op->dst = op_gpr(in->zop[0].reg.value);
        if (!(op->flags & OP_RM_MEM) && (fn == op_inc || fn == op_dec))
            op->fn = in_register[fn == op_dec][size_log2(op->opsize)];
        return true;
    }
    for (unsigned i = 0; i < ARRAY_LEN(alu); i++) {
        if (alu[i].mnemonic != op->mnemonic)
            continue;
        enum form f = op_form(in, op);
        if (f == F_COUNT)
            return false;
        op->opsize = (uint8_t)(in->zop[0].size / 8);
        op->fn = alu[i].fn[f][size_log2(op->opsize)];
        if (f == F_MR || f == F_MI)
            op->flags |= OP_RM_MEM | (f == F_MI ? OP_USER2 : 0);
        if (op->flags & OP_LOCK)
            op->fn = alu[i].lock[size_log2(op->opsize)];
        return op->fn != NULL;
    }
    return false;
}
