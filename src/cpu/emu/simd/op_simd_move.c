/* SPDX-License-Identifier: MIT
 * Vector moves and bitwise logic in C: frequent, and simpler than a thunk.
 * op->dst and op->src are vector register numbers; src2 the first source of a
 * three-operand VEX form. A VEX-encoded 128-bit operation clears bits 255:128
 * of its destination (SDM volume 1, 14.3.2). */
#include "simd.h"

#define MOVE_ALIGNED OP_USER1

/* A general-register operand keeps its byte offset in gpr. */
enum enc { SSE, VEX128, VEX256 };

static inline __attribute__((always_inline)) void check(struct emu *c, const struct op *op,
                                                        enum enc enc)
{
    if (enc == SSE)
        sse_check(c, op);
    else
        avx_check(c, op);
}

static inline __attribute__((always_inline)) void clear_upper(struct emu *c, unsigned n,
                                                              enum enc enc)
{
    if (enc == VEX128)
        xmm(c, n)[1] = (vec128){0, 0};
}

static inline __attribute__((always_inline)) uint64_t address(struct emu *c, const struct op *op,
                                                              unsigned size, bool write)
{
    uint64_t lin = op_linear(c, op, size, write);
    if (op->flags & MOVE_ALIGNED)
        simd_align(c, op, lin, size);
    return lin;
}

/* ---- whole registers ------------------------------------------------------- */

#define DEF_WHOLE(name, enc)                                                                       \
    static void h_load_##name(struct emu *c, const struct op *op)                                  \
    {                                                                                              \
        unsigned size = enc == VEX256 ? 32 : 16;                                                   \
        check(c, op, enc);                                                                         \
        guest_copy(c->ymm[op->dst], simd_load(c, op, address(c, op, size, false), size), size);    \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_store_##name(struct emu *c, const struct op *op)                                 \
    {                                                                                              \
        unsigned size = enc == VEX256 ? 32 : 16;                                                   \
        check(c, op, enc);                                                                         \
        simd_store(c, op, address(c, op, size, true), c->ymm[op->src], size);                      \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_move_##name(struct emu *c, const struct op *op)                                  \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        if (enc == VEX256)                                                                         \
            xmm(c, op->dst)[1] = xmm(c, op->src)[1];                                               \
        xmm(c, op->dst)[0] = xmm(c, op->src)[0];                                                   \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }
DEF_WHOLE(sse, SSE)
DEF_WHOLE(v128, VEX128)
DEF_WHOLE(v256, VEX256)

static op_fn *const load_whole[] = {h_load_sse, h_load_v128, h_load_v256};
static op_fn *const store_whole[] = {h_store_sse, h_store_v128, h_store_v256};
static op_fn *const move_whole[] = {h_move_sse, h_move_v128, h_move_v256};

/* ---- 32 and 64 bits ----------------------------------------------------------- */

#define DEF_SCALAR(bits, name, enc)                                                                \
    /* memory, or a general register, to the low part; the rest is cleared */                      \
    static void h_load##bits##_##name(struct emu *c, const struct op *op)                          \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        uint64_t v = ld##bits(c, op, op_linear(c, op, bits / 8, false));                           \
        xmm(c, op->dst)[0] = (vec128){v, 0};                                                       \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_from_gpr##bits##_##name(struct emu *c, const struct op *op)                      \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        xmm(c, op->dst)[0] = (vec128){R##bits(c, op->src), 0};                                     \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_store##bits##_##name(struct emu *c, const struct op *op)                         \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        st##bits(c, op, op_linear(c, op, bits / 8, true), (uint##bits##_t)xmm(c, op->src)[0][0]);  \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_to_gpr##bits##_##name(struct emu *c, const struct op *op)                        \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        R64(c, op->dst) = (uint##bits##_t)xmm(c, op->src)[0][0];                                   \
        NEXT;                                                                                      \
    }
DEF_SCALAR(32, sse, SSE)
DEF_SCALAR(32, vex, VEX128)
DEF_SCALAR(64, sse, SSE)
DEF_SCALAR(64, vex, VEX128)

/* [64-bit][VEX] */
static op_fn *const load_scalar[2][2] = {{h_load32_sse, h_load32_vex},
                                         {h_load64_sse, h_load64_vex}};
static op_fn *const from_gpr[2][2] = {{h_from_gpr32_sse, h_from_gpr32_vex},
                                      {h_from_gpr64_sse, h_from_gpr64_vex}};
static op_fn *const store_scalar[2][2] = {{h_store32_sse, h_store32_vex},
                                          {h_store64_sse, h_store64_vex}};
static op_fn *const to_gpr[2][2] = {{h_to_gpr32_sse, h_to_gpr32_vex},
                                    {h_to_gpr64_sse, h_to_gpr64_vex}};

/* MOVQ between registers: the upper half is cleared. */
#define DEF_MOVQ(name, enc)                                                                        \
    static void h_movq_##name(struct emu *c, const struct op *op)                                  \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        xmm(c, op->dst)[0] = (vec128){xmm(c, op->src)[0][0], 0};                                   \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }
DEF_MOVQ(sse, SSE)
DEF_MOVQ(vex, VEX128)

/* Legacy MOVSS and MOVSD between registers change only the low element. */
static void h_merge32(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    memcpy(c->ymm[op->dst], c->ymm[op->src], 4);
    NEXT;
}

static void h_merge64(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    xmm(c, op->dst)[0][0] = xmm(c, op->src)[0][0];
    NEXT;
}

/* MOVLPS, MOVHPS and the PD ones: one half of the register. */
static void h_load_low(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    xmm(c, op->dst)[0][0] = ld64(c, op, op_linear(c, op, 8, false));
    NEXT;
}

static void h_load_high(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    xmm(c, op->dst)[0][1] = ld64(c, op, op_linear(c, op, 8, false));
    NEXT;
}

static void h_store_high(struct emu *c, const struct op *op)
{
    sse_check(c, op);
    st64(c, op, op_linear(c, op, 8, true), xmm(c, op->src)[0][1]);
    NEXT;
}

/* ---- logic --------------------------------------------------------------------- */

#define DEF_LOGIC(op_name, name, enc, expr)                                                        \
    static void h_##op_name##_##name(struct emu *c, const struct op *op)                           \
    {                                                                                              \
        check(c, op, enc);                                                                         \
        for (unsigned i = 0; i < (enc == VEX256 ? 2u : 1u); i++) {                                 \
            vec128 a = xmm(c, op->src2)[i], b = xmm(c, op->src)[i];                                \
            xmm(c, op->dst)[i] = expr;                                                             \
        }                                                                                          \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }                                                                                              \
    static void h_##op_name##_m_##name(struct emu *c, const struct op *op)                         \
    {                                                                                              \
        vec128 m[2];                                                                               \
        unsigned size = enc == VEX256 ? 32 : 16;                                                   \
        check(c, op, enc);                                                                         \
        guest_copy(m, simd_load(c, op, address(c, op, size, false), size), size);                  \
        for (unsigned i = 0; i < (enc == VEX256 ? 2u : 1u); i++) {                                 \
            vec128 a = xmm(c, op->src2)[i], b = m[i];                                              \
            xmm(c, op->dst)[i] = expr;                                                             \
        }                                                                                          \
        clear_upper(c, op->dst, enc);                                                              \
        NEXT;                                                                                      \
    }
#define DEF_LOGICS(op_name, expr)                                                                  \
    DEF_LOGIC(op_name, sse, SSE, expr)                                                             \
    DEF_LOGIC(op_name, v128, VEX128, expr)                                                         \
    DEF_LOGIC(op_name, v256, VEX256, expr)                                                         \
    static op_fn *const op_name##_fn[3][2] = {{h_##op_name##_sse, h_##op_name##_m_sse},            \
                                              {h_##op_name##_v128, h_##op_name##_m_v128},          \
                                              {h_##op_name##_v256, h_##op_name##_m_v256}};
DEF_LOGICS(and, a &b)
DEF_LOGICS(andn, ~a &b)
DEF_LOGICS(or, a | b)
DEF_LOGICS(xor, a ^ b)

/* ---- selection ---------------------------------------------------------------- */

static bool is_xmm_or_ymm(const ZydisDecodedOperand *o)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           (k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM);
}

static bool is_general(const ZydisDecodedOperand *o)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           (k == ZYDIS_REGCLASS_GPR32 || k == ZYDIS_REGCLASS_GPR64);
}

static bool select_whole(const struct insn *in, struct op *op, enum enc enc, bool aligned)
{
    const ZydisDecodedOperand *d = &in->zop[0], *s = &in->zop[1];
    if (aligned)
        op->flags |= MOVE_ALIGNED;
    if (is_mem(d) && is_xmm_or_ymm(s)) {
        op->src = vec_id(s);
        op->fn = store_whole[enc];
    } else if (is_xmm_or_ymm(d) && is_mem(s)) {
        op->dst = vec_id(d);
        op->fn = load_whole[enc];
    } else if (is_xmm_or_ymm(d) && is_xmm_or_ymm(s)) {
        op->dst = vec_id(d);
        op->src = vec_id(s);
        op->fn = move_whole[enc];
    } else {
        return false;
    }
    return true;
}

/* MOVD, MOVQ, and MOVSS and MOVSD with memory. */
static bool select_scalar(const struct insn *in, struct op *op, bool wide)
{
    const ZydisDecodedOperand *d = &in->zop[0], *s = &in->zop[1];
    bool vex = is_vex(in);
    if (is_mem(d) && is_xmm_or_ymm(s)) {
        op->src = vec_id(s);
        op->fn = store_scalar[wide][vex];
    } else if (is_xmm_or_ymm(d) && is_mem(s)) {
        op->dst = vec_id(d);
        op->fn = load_scalar[wide][vex];
    } else if (is_general(d) && is_xmm_or_ymm(s)) {
        op->dst = op_gpr(d->reg.value);
        op->src = vec_id(s);
        op->fn = to_gpr[wide][vex];
    } else if (is_xmm_or_ymm(d) && is_general(s)) {
        op->dst = vec_id(d);
        op->src = op_gpr(s->reg.value);
        op->fn = from_gpr[wide][vex];
    } else {
        return false;
    }
    return true;
}

/* MOVSS and MOVSD, which between registers merge. */
static bool select_float(const struct insn *in, struct op *op, bool wide)
{
    const ZydisDecodedOperand *d = &in->zop[0], *s = &in->zop[1];
    if (is_mem(d) || is_mem(s))
        return select_scalar(in, op, wide);
    if (is_vex(in))
        return false; /* three operands: a thunk */
    op->dst = vec_id(d);
    op->src = vec_id(s);
    op->fn = wide ? h_merge64 : h_merge32;
    return true;
}

static bool select_half(const struct insn *in, struct op *op, bool high)
{
    const ZydisDecodedOperand *d = &in->zop[0], *s = &in->zop[1];
    if (is_mem(d)) {
        op->src = vec_id(s);
        op->fn = high ? h_store_high : h_store64_sse;
        return true;
    }
    if (!is_mem(s))
        return false;
    op->dst = vec_id(d);
    op->fn = high ? h_load_high : h_load_low;
    return true;
}

static bool select_logic(const struct insn *in, struct op *op, op_fn *const fn[3][2], enum enc enc)
{
    unsigned last = enc == SSE ? 1 : 2; /* SSE: the destination is the first source */
    const ZydisDecodedOperand *d = &in->zop[0], *a = &in->zop[last - 1], *b = &in->zop[last];
    if (!is_xmm_or_ymm(d) || !is_xmm_or_ymm(a)) /* MMX has the same mnemonics */
        return false;
    op->dst = vec_id(d);
    op->src2 = vec_id(a);
    if (!is_mem(b))
        op->src = vec_id(b);
    else if (enc == SSE)
        op->flags |= MOVE_ALIGNED;
    op->fn = fn[enc][is_mem(b)];
    return true;
}

bool select_simd_move(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    bool vex = is_vex(in);
    enum enc enc = !vex ? SSE : in->zi.avx.vector_length == 256 ? VEX256 : VEX128;
    if (!vex && in->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return select_whole(in, op, enc, true);
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU: return select_whole(in, op, enc, false);
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_VMOVD: return select_scalar(in, op, false);
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_VMOVQ:
        if (is_xmm_or_ymm(&in->zop[0]) && is_xmm_or_ymm(&in->zop[1])) {
            op->dst = vec_id(&in->zop[0]);
            op->src = vec_id(&in->zop[1]);
            op->fn = vex ? h_movq_vex : h_movq_sse;
            return true;
        }
        return select_scalar(in, op, true);
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_VMOVSS: return select_float(in, op, false);
    case ZYDIS_MNEMONIC_MOVSD: /* the string instruction is select_int's */
    case ZYDIS_MNEMONIC_VMOVSD: return select_float(in, op, true);
    case ZYDIS_MNEMONIC_MOVLPS:
    case ZYDIS_MNEMONIC_MOVLPD: return select_half(in, op, false);
    case ZYDIS_MNEMONIC_MOVHPS:
    case ZYDIS_MNEMONIC_MOVHPD: return select_half(in, op, true);
    case ZYDIS_MNEMONIC_ANDPS:
    case ZYDIS_MNEMONIC_ANDPD:
    case ZYDIS_MNEMONIC_PAND:
    case ZYDIS_MNEMONIC_VANDPS:
    case ZYDIS_MNEMONIC_VANDPD:
    case ZYDIS_MNEMONIC_VPAND: return select_logic(in, op, and_fn, enc);
    case ZYDIS_MNEMONIC_ANDNPS:
    case ZYDIS_MNEMONIC_ANDNPD:
    case ZYDIS_MNEMONIC_PANDN:
    case ZYDIS_MNEMONIC_VANDNPS:
    case ZYDIS_MNEMONIC_VANDNPD:
    case ZYDIS_MNEMONIC_VPANDN: return select_logic(in, op, andn_fn, enc);
    case ZYDIS_MNEMONIC_ORPS:
    case ZYDIS_MNEMONIC_ORPD:
    case ZYDIS_MNEMONIC_POR:
    case ZYDIS_MNEMONIC_VORPS:
    case ZYDIS_MNEMONIC_VORPD:
    case ZYDIS_MNEMONIC_VPOR: return select_logic(in, op, or_fn, enc);
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD:
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_VXORPS:
    case ZYDIS_MNEMONIC_VXORPD:
    case ZYDIS_MNEMONIC_VPXOR: return select_logic(in, op, xor_fn, enc);
    default: return false;
    }
}
