/* SPDX-License-Identifier: MIT
 * Vector and x87 instructions: whatever the encoder can make of a mnemonic and a
 * pattern of operands. */
#include "gen.h"
#include <stdlib.h>

/* Operands: X xmm, Y ymm, Q mm, g and G 32- and 64-bit registers, I immediate;
 * memory by its size: 1 2 4 8, x 16, y 32. */
static const char *const patterns[] = {
    "",     "XX",   "Xx",   "xX",   "X8",   "8X",   "X4",   "4X",   "X2",   "X1",   "gX",   "GX",
    "Xg",   "XG",   "YY",   "Yy",   "yY",   "Yx",   "Y8",   "Y4",   "Y2",   "Y1",   "YX",   "XY",
    "Xy",   "gY",   "g4",   "g8",   "G4",   "G8",   "QQ",   "Q8",   "8Q",   "Qg",   "gQ",   "XQ",
    "QX",   "XXI",  "XxI",  "X8I",  "X4I",  "YYI",  "YyI",  "XXX",  "XXx",  "XX8",  "XX4",  "YYY",
    "YYy",  "XXg",  "XXG",  "4XI",  "2XI",  "1XI",  "8XI",  "gXI",  "GXI",  "XYI",  "xYI",  "xXI",
    "XgI",  "XGI",  "X1I",  "X2I",  "XI",   "YI",   "YXI",  "YYX",  "YYx",  "xXX",  "yYY",  "QQI",
    "QI",   "XXXI", "XXxI", "YYYI", "YYyI", "YYXI", "YYxI", "XX4I", "XX8I", "XX1I", "XX2I", "XXgI",
    "XXGI", "XXXX", "XXxX", "YYYY", "YYyY"};

struct vform {
    uint16_t mnemonic;
    uint8_t pattern;
    bool vex, store;
};
static struct vform *forms;
static unsigned nforms;

static unsigned mem_size(char k)
{
    return k == 'x' ? 16 : k == 'y' ? 32 : k >= '1' && k <= '8' ? (unsigned)(k - '0') : 0;
}

static operand vec(ZydisRegister first, unsigned n)
{
    operand o = reg_op(0, 8);
    o.reg.value = (ZydisRegister)(first + n);
    return o;
}

static operand plain_op(char k)
{
    operand o = reg_op(0, 8);
    if (k == 'X' || k == 'Y')
        return vec(k == 'X' ? ZYDIS_REGISTER_XMM0 : ZYDIS_REGISTER_YMM0, 1);
    if (k == 'Q')
        return vec(ZYDIS_REGISTER_MM0, 1);
    if (k == 'g' || k == 'G')
        return reg_op(RCX, k == 'g' ? 4 : 8);
    if (k == 'I')
        return imm_op(1);
    o.type = ZYDIS_OPERAND_TYPE_MEMORY;
    o.reg.value = ZYDIS_REGISTER_NONE;
    o.mem.base = ZYDIS_REGISTER_RBX;
    o.mem.size = (uint16_t)mem_size(k);
    return o;
}

static bool wanted(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) { /* stores through RDI; what the host may not have alike */
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_MASKMOVQ: return false;
    default: break;
    }
    switch (zi->meta.isa_ext) {
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_PCLMULQDQ: return true;
    default: return false;
    }
}

void simd_forms_make(void)
{
    ZydisDecoder dec;
    unsigned cap = 0;
    ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
        for (unsigned p = 0; p < sizeof patterns / sizeof *patterns; p++) {
            request q = req((ZydisMnemonic)m);
            for (const char *k = patterns[p]; *k; k++)
                add_operand(&q, plain_op(*k));
            uint8_t b[16];
            ZyanUSize n = sizeof b;
            ZydisDecodedInstruction zi;
            ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
            if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&q, b, &n)) ||
                !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, b, n, &zi, zop)) || !wanted(&zi))
                continue;
            if (nforms == cap) {
                cap = cap ? cap * 2 : 1024;
                forms = realloc(forms, cap * sizeof *forms);
                if (!forms)
                    abort();
            }
            forms[nforms++] = (struct vform){
                (uint16_t)m, (uint8_t)p, zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX,
                (zop[0].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0};
        }
}

void gen_simd(struct gen *g)
{
    const struct vform *f = &forms[below(&g->r, nforms)];
    const char *pattern = patterns[f->pattern];
    struct mem m = {.may_skip = false};
    for (const char *k = pattern; *k; k++)
        if (mem_size(*k)) {
            unsigned size = mem_size(*k);
            m = mem_of(g, size, size >= 16 && (!f->vex || one_in(&g->r, 2)) ? M_ALIGN : 0);
            if (size >= 16)
                m.may_skip = true; /* some want it aligned, some do not */
        }
    request q = req((ZydisMnemonic)f->mnemonic);
    q.allowed_encodings = f->vex ? ZYDIS_ENCODABLE_ENCODING_VEX : ZYDIS_ENCODABLE_ENCODING_LEGACY;
    for (const char *k = pattern; *k; k++) {
        operand o = plain_op(*k);
        if (*k == 'X' || *k == 'Y')
            o = vec(*k == 'X' ? ZYDIS_REGISTER_XMM0 : ZYDIS_REGISTER_YMM0, below(&g->r, 16));
        else if (*k == 'Q')
            o = vec(ZYDIS_REGISTER_MM0, below(&g->r, 8));
        else if (*k == 'g' || *k == 'G')
            o = reg_op(k == pattern ? dst_reg(g) : any_reg(g), *k == 'g' ? 4 : 8);
        else if (*k == 'I')
            o = imm_op((int64_t)below(&g->r, one_in(&g->r, 2) ? 256 : 8));
        else
            o = m.op;
        add_operand(&q, o);
    }
    q.prefixes |= m.prefixes;
    /* String compares leave RCX. */
    bool implicit =
        f->mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || f->mnemonic == ZYDIS_MNEMONIC_PCMPISTRI ||
        f->mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || f->mnemonic == ZYDIS_MNEMONIC_VPCMPISTRI;
    if (implicit && !may_write(g, BIT(RCX)))
        return;
    emit(g, &q, m.may_skip || has(g, F_MODE));
}

/* MXCSR with another rounding, or flush-to-zero; all exceptions stay masked. */
static void mxcsr(struct gen *g)
{
    unsigned r = dst_reg(g);
    uint32_t v =
        0x1f80 | below(&g->r, 4) << 13 | (one_in(&g->r, 3) ? 0x8040u : 0) | below(&g->r, 64);
    if (one_in(&g->r, 8))
        v &= ~(1u << (7 + below(&g->r, 6)));
    EMIT(g, 0x40 | r >> 3, 0xb8 | (r & 7), (uint8_t)v, (uint8_t)(v >> 8), 0, 0);
    operand at = rip_op(g, W_DATA + 0x2468, 4);
    emit2(g, ZYDIS_MNEMONIC_MOV, at, reg_op(r, 4));
    request q = req(one_in(&g->r, 2) ? ZYDIS_MNEMONIC_LDMXCSR : ZYDIS_MNEMONIC_VLDMXCSR);
    add_operand(&q, at);
    emit(g, &q, false);
}

static void x87_memory(struct gen *g)
{
    static const struct {
        uint8_t op, ext, size;
    } list[] = {{0xd9, 0, 4}, {0xd9, 2, 4}, {0xd9, 3, 4}, {0xd9, 7, 2},  {0xd9, 5, 2},
                {0xdd, 0, 8}, {0xdd, 2, 8}, {0xdd, 3, 8}, {0xdb, 5, 10}, {0xdb, 7, 10},
                {0xdf, 0, 2}, {0xdf, 3, 2}, {0xdb, 0, 4}, {0xdb, 1, 4},  {0xdb, 2, 4},
                {0xdb, 3, 4}, {0xdf, 5, 8}, {0xdf, 7, 8}, {0xdf, 4, 10}, {0xdf, 6, 10},
                {0xd8, 0, 4}, {0xd8, 1, 4}, {0xd8, 6, 4}, {0xdc, 0, 8},  {0xdc, 4, 8},
                {0xde, 1, 2}, {0xda, 5, 4}};
    unsigned i = below(&g->r, sizeof list / sizeof *list);
    /* op [ptr + disp8] */
    unsigned ptr = g->ptr[below(&g->r, 3)];
    uint8_t b[5];
    unsigned n = 0;
    if (ptr >= 8)
        b[n++] = 0x41;
    b[n++] = list[i].op;
    b[n++] = (uint8_t)(0x40 | list[i].ext << 3 | (ptr & 7));
    if ((ptr & 7) == 4)
        b[n++] = 0x24;
    b[n++] = (uint8_t)(rnd(&g->r) & 0x78);
    emit_bytes(g, b, n);
}

void gen_x87(struct gen *g)
{
    switch (below(&g->r, 8)) {
    case 0: EMIT(g, 0xdb, 0xe3); return;                   /* fninit */
    case 1: EMIT(g, 0xd9, 0xe8 + below(&g->r, 7)); return; /* constants */
    case 2:
        if (may_write(g, BIT(RAX)))
            EMIT(g, 0xdf, 0xe0); /* fnstsw ax */
        return;
    case 3:
    case 4:
    case 5: x87_memory(g); return;
    case 6: mxcsr(g); return;
    default: {
        unsigned op = 0xd8 + below(&g->r, 8), rm = 0xc0 + below(&g->r, 64);
        if (op == 0xdf && rm == 0xe0)
            return;
        settle_flow(g); /* FCMOVcc reads flags, FCOMI sets some */
        EMIT(g, (uint8_t)op, (uint8_t)rm);
        g->undef = FL_ARITH;
        return;
    }
    }
}
