/* SPDX-License-Identifier: MIT
 * The code around a rewritten instruction. */
#include "thunk_reg.h"

/* ---- traits ----------------------------------------------------------------- */

/* Floating-point arithmetic that looks at MXCSR and may raise #XM: the SIMD
 * exception classes 2, 3 and 11 (SDM volume 2, 2.4), and what has no class. */
static bool uses_mxcsr(const ZydisDecodedInstruction *zi)
{
    switch (zi->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11: return true;
    default: break;
    }
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
    /* Raise nothing, but CPUs differ in how far they heed DAZ and FTZ. */
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRCPPS:
    case ZYDIS_MNEMONIC_VRCPSS:
    case ZYDIS_MNEMONIC_VRSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTSS: return true;
    default: return false;
    }
}

/* Legacy SSE wants 16-byte operands aligned, but for these (SDM volume 2, 2.4:
 * exception class 4). */
bool simd_unaligned_ok(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM: return true;
    default: return false;
    }
}

static uint8_t traits_of(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop)
{
    bool vex = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    uint8_t t = vex ? THUNK_AVX : 0;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &zop[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
                t |= THUNK_LOAD;
            if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
                t |= THUNK_STORE;
            if (!vex && o->size == 128 && !simd_unaligned_ok(zi->mnemonic))
                t |= THUNK_ALIGN;
        } else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ZydisRegister r = o->reg.value;
            if (is_x87(r))
                t |= THUNK_X87;
            else if (is_vector(r) && !vex)
                t |= THUNK_SSE;
            else if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_FLAGS)
                t |= THUNK_FLAGS;
        }
    }
    if (uses_mxcsr(zi)) /* a conversion from memory to a general register names no XMM register */
        t |= vex ? THUNK_MXCSR : THUNK_MXCSR | THUNK_SSE;
    if (zi->meta.isa_ext == ZYDIS_ISA_EXT_MMX || zi->meta.isa_ext == ZYDIS_ISA_EXT_X87)
        t |= THUNK_X87;
    return t;
}

/* ---- code ------------------------------------------------------------------- */

struct gen {
    uint8_t *out;
    unsigned n;
};

static void put8(struct gen *g, unsigned b)
{
    g->out[g->n++] = (uint8_t)b;
}

/* [rdi + disp32] as the memory operand of an instruction with this reg field. */
static void put_mem(struct gen *g, unsigned reg, size_t disp)
{
    put8(g, 0x80 | (reg & 7) << 3 | HOST_RDI);
    put_le32(g->out + g->n, (uint32_t)disp);
    g->n += 4;
}

/* One- or two-byte opcode with a memory operand in the environment, [r8 + disp8]. */
static void put_env(struct gen *g, unsigned opcode, unsigned reg, size_t disp)
{
    put8(g, reg > 7 ? 0x45 : 0x41);
    if (opcode > 0xff)
        put8(g, opcode >> 8);
    put8(g, opcode);
    put8(g, 0x40 | (reg & 7) << 3 | 0);
    put8(g, (unsigned)disp);
}
#define ENV(field) offsetof(struct thunk_env, field)
#define OP_FNSTCW  0xd9, 7
#define OP_FLDCW   0xd9, 5
#define OP_STMXCSR 0x0fae, 3
#define OP_LDMXCSR 0x0fae, 2

/* MOVUPS, or VMOVUPS of a register's 16 or 32 bytes. store: 1. */
static void put_vector(struct gen *g, bool vex, unsigned bytes, unsigned reg, unsigned store)
{
    if (vex) {
        put8(g, 0xc5);
        put8(g, (reg < 8) << 7 | 0x78 | (bytes == 32) << 2);
    } else {
        if (reg > 7)
            put8(g, 0x44);
        put8(g, 0x0f);
    }
    put8(g, 0x10 | store);
    put_mem(g, reg, offsetof(struct emu, ymm) + 32 * reg);
}

static void put_gpr(struct gen *g, unsigned host, unsigned guest_off, bool store)
{
    put8(g, 0x48);
    put8(g, store ? 0x89 : 0x8b);
    put_mem(g, host, offsetof(struct emu, gpr) + guest_off);
}

/* What a register operand is inside the thunk. */
struct reg_use {
    uint8_t host, guest; /* guest: number, or byte offset in gpr */
    bool vector, written;
    uint16_t bytes;
};

static bool reg_use(const struct op *op, const ZydisDecodedOperand *o, struct reg_use *u)
{
    ZydisRegister r = o->reg.value;
    uint8_t id = (uint8_t)ZydisRegisterGetId(r);
    *u = (struct reg_use){.host = id, .written = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE};
    if (is_vector(r)) {
        u->vector = true;
        u->bytes = ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_YMM ? 32 : 16;
        return true;
    }
    if (!is_gpr(r))
        return false;
    u->bytes = 8;
    if (o->encoding == ZYDIS_OPERAND_ENCODING_NONE)
        u->guest = (uint8_t)(8 * id);
    else
        u->guest = id == HOST_RAX ? op->dst : op->src;
    return true;
}

/* All of it is checked here once more: the rewritten instruction touches no
 * memory but [rsi] and no register but those that are loaded. */
static bool may_run(const struct op *op, const ZydisDecodedInstruction *zi,
                    const ZydisDecodedOperand *zop)
{
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &zop[i];
        struct reg_use u;
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
                o->mem.base != ZYDIS_REGISTER_RSI || o->mem.index != ZYDIS_REGISTER_NONE ||
                o->mem.disp.value || o->size > 256)
                return false;
        } else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ZydisRegister r = o->reg.value;
            if (is_x87(r) || ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_FLAGS)
                continue;
            if (!reg_use(op, o, &u))
                return false;
            if (!u.vector && (u.host > 2 || u.guest == NO_GPR))
                return false;
        } else if (o->type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            return false;
        }
    }
    return zi->meta.branch_type == ZYDIS_BRANCH_TYPE_NONE;
}

static void put_prologue(struct gen *g, unsigned t)
{
    if (!(t & THUNK_ENV))
        return;
    put8(g, 0x49); /* mov r8, rdx */
    put8(g, 0x89);
    put8(g, 0xd0);
    if (t & (THUNK_X87 | THUNK_MXCSR))
        put_env(g, OP_STMXCSR, ENV(host_mxcsr));
    if (t & THUNK_X87) {
        put_env(g, OP_FNSTCW, ENV(host_fcw));
        put8(g, 0x48); /* fxrstor64 [rdi + fx] */
        put8(g, 0x0f);
        put8(g, 0xae);
        put_mem(g, 1, offsetof(struct emu, fx));
    }
    if (t & THUNK_MXCSR)
        put_env(g, OP_LDMXCSR, ENV(run));
}

/* A register may be two operands, at two widths: it is loaded once, whole. */
static unsigned load_bytes(const struct op *op, const ZydisDecodedOperand *zop, unsigned n,
                           unsigned at, const struct reg_use *u)
{
    unsigned bytes = u->bytes;
    for (unsigned i = 0; i < n; i++) {
        struct reg_use v;
        if (zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER || !reg_use(op, &zop[i], &v) ||
            v.vector != u->vector || v.host != u->host)
            continue;
        if (i < at)
            return 0; /* done */
        if (v.bytes > bytes)
            bytes = v.bytes;
    }
    return bytes;
}

static void put_loads(struct gen *g, const struct op *op, const ZydisDecodedInstruction *zi,
                      const ZydisDecodedOperand *zop)
{
    for (unsigned i = 0; i < zi->operand_count; i++) {
        struct reg_use u;
        if (zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER || !reg_use(op, &zop[i], &u))
            continue;
        unsigned bytes = load_bytes(op, zop, zi->operand_count, i, &u);
        if (bytes && u.vector)
            put_vector(g, zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX, bytes, u.host, 0);
        else if (bytes)
            put_gpr(g, u.host, u.guest, false);
    }
}

static void put_stores(struct gen *g, const struct op *op, const ZydisDecodedInstruction *zi,
                       const ZydisDecodedOperand *zop)
{
    bool vex = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        struct reg_use u;
        if (zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER || !reg_use(op, &zop[i], &u) || !u.written)
            continue;
        if (u.vector) /* VEX clears what is above a result */
            put_vector(g, vex, vex ? 32 : 16, u.host, 1);
        else
            put_gpr(g, u.host, u.guest, true);
    }
}

unsigned thunk_emit(const struct op *op, uint8_t out[THUNK_CODE_MAX], uint8_t *traits,
                    ZydisMnemonic *mnemonic)
{
    ZydisDecoder dec;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    uint8_t insn[THUNK_INSN_MAX];
    memcpy(insn, &op->imm, sizeof insn);
    if (ZYAN_FAILED(ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
        ZYAN_FAILED(ZydisDecoderDecodeFull(&dec, insn, sizeof insn, &zi, zop)) ||
        !may_run(op, &zi, zop))
        return 0;
    unsigned t = traits_of(&zi, zop);
    struct gen g = {.out = out};
    put_prologue(&g, t);
    put_loads(&g, op, &zi, zop);
    /* What writes flags writes all six; only FCMOV reads them. */
    if ((t & THUNK_FLAGS) && zi.cpu_flags && zi.cpu_flags->tested) {
        put_env(&g, 0xff, 6, ENV(flags)); /* push [flags]; popfq */
        put8(&g, 0x9d);
    }
    memcpy(out + g.n, insn, zi.length);
    g.n += zi.length;
    if (t & THUNK_FLAGS) {
        put8(&g, 0x9c); /* pushfq; pop [flags] */
        put_env(&g, 0x8f, 0, ENV(flags));
    }
    unsigned jump = 0;
    if (t & THUNK_MXCSR) {
        put_env(&g, OP_STMXCSR, ENV(after));
        put_env(&g, 0x8b, 9, ENV(after));    /* mov r9d, [after] */
        put_env(&g, 0x23, 9, ENV(unmasked)); /* and r9d, [unmasked] */
        put8(&g, 0x75);                      /* jnz: nothing is written */
        jump = g.n;
        put8(&g, 0);
    }
    put_stores(&g, op, &zi, zop);
    if (t & THUNK_X87) {
        put8(&g, 0x48); /* fxsave64 [rdi + fx] */
        put8(&g, 0x0f);
        put8(&g, 0xae);
        put_mem(&g, 0, offsetof(struct emu, fx));
    }
    if (jump)
        out[jump] = (uint8_t)(g.n - jump - 1);
    if (t & THUNK_X87) {
        put8(&g, 0xdb); /* fninit: no pending exception, empty stack */
        put8(&g, 0xe3);
        put_env(&g, OP_FLDCW, ENV(host_fcw));
    }
    if (t & (THUNK_X87 | THUNK_MXCSR))
        put_env(&g, OP_LDMXCSR, ENV(host_mxcsr));
    if (t & THUNK_AVX) {
        put8(&g, 0xc5); /* vzeroupper */
        put8(&g, 0xf8);
        put8(&g, 0x77);
    }
    if (t & THUNK_MXCSR) {
        put8(&g, 0x44); /* mov eax, r9d */
        put8(&g, 0x89);
        put8(&g, 0xc8);
    }
    put8(&g, 0xc3);
    *traits = (uint8_t)t;
    *mnemonic = zi.mnemonic;
    return g.n;
}
