/* SPDX-License-Identifier: MIT
 * Start states: random registers and memory, then what the instruction needs to do something worth
 * comparing: operands inside the data pages, short counts, divisors that fit. */
#include "insn.h"
#include <stdlib.h>
#include <string.h>

struct job {
    const struct insn *in;
    struct code *code;
    struct state *st;
    uint8_t *mem;
    uint32_t fixed; /* registers whose value is an address already */
};

static bool is_string(const ZydisDecodedInstruction *zi)
{
    return zi->meta.category == ZYDIS_CATEGORY_STRINGOP;
}

static enum fill fill_of(ZydisElementType type)
{
    switch (type) {
    case ZYDIS_ELEMENT_TYPE_FLOAT16: return FILL_F16;
    case ZYDIS_ELEMENT_TYPE_FLOAT32: return FILL_F32;
    case ZYDIS_ELEMENT_TYPE_FLOAT64: return FILL_F64;
    case ZYDIS_ELEMENT_TYPE_FLOAT80: return FILL_F80;
    default: return one_in(3) ? FILL_BITS : FILL_INT;
    }
}

/* What its vector operands are probably made of. */
static enum fill vector_kind(const struct insn *in)
{
    const ZydisDecodedOperand *o =
        &in->op[rnd_below(in->zi.operand_count ? in->zi.operand_count : 1)];
    if (one_in(12))
        return (enum fill)rnd_below(FILL_KINDS);
    if (in->zi.operand_count == 0 || o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return one_in(2) ? FILL_F32 : FILL_F64;
    return fill_of(o->element_type);
}

static void gen_fpu(const struct insn *in, uint8_t *xs)
{
    bool mmx = in->zi.meta.isa_set == ZYDIS_ISA_SET_PENTIUMMMX ||
               in->zi.meta.isa_set == ZYDIS_ISA_SET_SSSE3MMX;
    memset(xs, 0, XS_SIZE);
    uint16_t fcw = (uint16_t)(0x37f & ~0xf00u) | (uint16_t)(rnd_below(4) << 10) |
                   (uint16_t)((one_in(2) ? 3u : rnd_below(4)) << 8);
    if (one_in(8))
        fcw &= (uint16_t)~rnd_below(64);
    uint16_t fsw = (uint16_t)(rnd() & 0x7f00); /* C0-C3 and TOP */
    if (one_in(3))
        fsw |= (uint16_t)rnd_below(128);
    if (mmx && !one_in(8))
        fcw |= 0x3f;
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    else
        fsw &= (uint16_t)~0x80;
    memcpy(xs + XS_FCW, &fcw, 2);
    memcpy(xs + XS_FSW, &fsw, 2);
    xs[XS_FTW] = one_in(3) ? (uint8_t)rnd() : 0xff;
    for (int i = 0; i < 8; i++)
        rnd_typed(xs + XS_ST + 16 * i, 10, mmx || one_in(8) ? FILL_INT : FILL_F80);
    uint32_t mxcsr = 0x1f80 | rnd_below(4) << 13;
    if (one_in(6))
        mxcsr |= 0x8000;
    if (one_in(6))
        mxcsr |= 0x40;
    if (one_in(3))
        mxcsr |= rnd_below(64);
    if (one_in(8))
        mxcsr &= ~(rnd_below(64) << 7);
    memcpy(xs + XS_MXCSR, &mxcsr, 4);
    for (int i = 0; i < 16; i++) {
        rnd_typed(xs + XS_XMM + 16 * i, 16, vector_kind(in));
        rnd_typed(xs + XS_YMMH + 16 * i, 16, vector_kind(in));
    }
    if (!engine_avx())
        memset(xs + XS_YMMH, 0, 256);
    xs[XS_HEADER] = 7;
}

/* Random bytes for the data pages, taken from a pool. */
static void gen_memory(uint8_t *mem)
{
    static uint8_t pool[4 * SCR_SIZE];
    static bool ready;
    if (!ready) {
        for (size_t i = 0; i < sizeof pool; i += 64)
            rnd_typed(pool + i, 64, (enum fill)rnd_below(3));
        ready = true;
    }
    memcpy(mem, pool + rnd_below(sizeof pool - SCR_SIZE), SCR_SIZE);
}

static unsigned reg_number(ZydisRegister r)
{
    return (unsigned)ZydisRegisterGetId(
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static bool is_gpr(const ZydisDecodedOperand *o)
{
    if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
    return k >= ZYDIS_REGCLASS_GPR8 && k <= ZYDIS_REGCLASS_GPR64;
}

static void set_gpr(struct job *j, unsigned n, uint64_t v)
{
    if (!(j->fixed >> n & 1))
        j->st->gpr[n] = v;
}

/* Where a memory operand of that many bytes goes. */
static uint64_t choose_target(const struct job *j, unsigned size)
{
    const ZydisDecodedInstruction *zi = &j->in->zi;
    uint32_t at;
    if (is_string(zi) || zi->mnemonic == ZYDIS_MNEMONIC_BT || zi->mnemonic == ZYDIS_MNEMONIC_BTS ||
        zi->mnemonic == ZYDIS_MNEMONIC_BTR || zi->mnemonic == ZYDIS_MNEMONIC_BTC)
        at = 0xc00 + rnd_below(0x1800);
    else if (one_in(10)) /* across a page border, and now and then off the end */
        at = 0x1000 * (1 + rnd_below(one_in(4) ? 3 : 2)) - rnd_below(size + 1);
    else
        at = rnd_below(SCR_SIZE - size);
    if ((zi->attributes & ZYDIS_ATTRIB_HAS_LOCK) || zi->meta.isa_set == ZYDIS_ISA_SET_SHA)
        at &= ~15u; /* split locks are a trap of their own on some hosts; AMD's processors take SHA
                       operands unaligned, Intel's do not */
    else if (one_in(2))
        at &= ~63u;
    else if (!one_in(3) && size)
        at -= at % (size & -size);
    return SCR_BASE + at;
}

static void patch(struct job *j, unsigned offset, unsigned bits, uint64_t v)
{
    memcpy(j->code->bytes + offset, &v, bits / 8);
}

/* Lanes of a gather's index: small. */
static void gen_vsib(struct job *j, const ZydisDecodedOperand *o)
{
    unsigned n = (unsigned)ZydisRegisterGetId(o->mem.index) & 15;
    const char *name = ZydisMnemonicGetString(j->in->zi.mnemonic);
    bool dwords = strstr(name, "gatherd") != NULL;
    for (unsigned half = 0; half < 2; half++) {
        uint8_t *lane = j->st->xsave + (half ? XS_YMMH : XS_XMM) + 16 * n;
        for (unsigned i = 0; i < 16; i += dwords ? 4 : 8) {
            int64_t v = (int64_t)rnd_below(256) - 128;
            memcpy(lane + i, &v, dwords ? 4 : 8);
        }
    }
}

static uint64_t address_mask(const ZydisDecodedInstruction *zi)
{
    return zi->address_width == 64 ? ~0ull : (1ull << zi->address_width) - 1;
}

/* Gives a memory operand an address: through its base register or its displacement. */
static bool place_operand(struct job *j, const ZydisDecodedOperand *o)
{
    const ZydisDecodedInstruction *zi = &j->in->zi;
    struct state *st = j->st;
    uint64_t mask = address_mask(zi), index = 0, target = choose_target(j, o->size / 8),
             want = target;
    int64_t disp = o->mem.disp.value;
    if (o->mem.type == ZYDIS_MEMOP_TYPE_AGEN || o->mem.type == ZYDIS_MEMOP_TYPE_MIB)
        return true;
    if (o->mem.segment == ZYDIS_REGISTER_FS)
        return false;
    if (o->mem.segment == ZYDIS_REGISTER_GS)
        want -= GS_BASE;
    if (o->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
        gen_vsib(j, o);
        want += SCR_BASE + 0x1800 - 4 * rnd_below(64) - target;
    } else if (o->mem.index != ZYDIS_REGISTER_NONE) {
        unsigned n = reg_number(o->mem.index);
        if (o->mem.base != ZYDIS_REGISTER_NONE && reg_number(o->mem.base) == n)
            return false;
        if (o->mem.base == ZYDIS_REGISTER_RSP || o->mem.base == ZYDIS_REGISTER_ESP)
            set_gpr(j, n, rnd_below(64));
        index = st->gpr[n];
        if (o->mem.index == ZYDIS_REGISTER_AL)
            index &= 0xff;
        index *= o->mem.scale;
        j->fixed |= 1u << n;
    }
    ZydisRegister base = o->mem.base;
    if (base == ZYDIS_REGISTER_NONE) {
        if (!zi->raw.disp.size)
            return false;
        uint64_t v = want - index;
        if (zi->raw.disp.size < 64 && (v & mask) != ((uint64_t)(int64_t)(int32_t)v & mask))
            return false;
        patch(j, zi->raw.disp.offset, zi->raw.disp.size, v);
        j->code->ea = target;
        return true;
    }
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP) {
        int64_t rel = (int64_t)(want - (j->code->ip + zi->length));
        if (zi->address_width == 64 && rel != (int32_t)rel)
            return false;
        patch(j, zi->raw.disp.offset, 32, (uint64_t)rel);
        j->code->ea = target;
        return true;
    }
    unsigned n = reg_number(base);
    if (n == RSP) {
        /* Pushes and pops have it where it is; others move their displacement. */
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && zi->raw.disp.size == 32) {
            disp = (int64_t)rnd_below(1024) - 512;
            patch(j, zi->raw.disp.offset, 32, (uint64_t)disp);
        }
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
            o->mem.segment == ZYDIS_REGISTER_GS)
            return false;
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            j->code->ea = (st->gpr[RSP] + index + (uint64_t)disp) & mask;
        j->fixed |= 1u << RSP;
        return true;
    }
    if (j->fixed >> n & 1)
        return false;
    uint64_t v = want - index - (uint64_t)disp;
    st->gpr[n] = mask == ~0ull ? v : (st->gpr[n] & ~mask) | (v & mask);
    j->fixed |= 1u << n;
    if (o->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
        j->code->ea = target;
    return true;
}

/* Bytes at a guest address, as far as they are inside the data pages. */
static void poke(struct job *j, uint64_t at, const void *bytes, size_t n)
{
    if (at >= SCR_BASE && at < SCR_BASE + SCR_SIZE) {
        size_t room = (size_t)(SCR_BASE + SCR_SIZE - at);
        memcpy(j->mem + (at - SCR_BASE), bytes, n < room ? n : room);
    }
}

static void fill_operand(struct job *j, const ZydisDecodedOperand *o)
{
    uint8_t value[512];
    unsigned size = o->size / 8;
    if (size == 0 || size > sizeof value || !j->code->ea)
        return;
    rnd_typed(value, size, one_in(16) ? FILL_BITS : fill_of(o->element_type));
    poke(j, j->code->ea, value, size);
}

static void gen_divide(struct job *j)
{
    unsigned size = j->in->op[0].size / 8;
    uint64_t *g = j->st->gpr;
    if (one_in(4))
        return;
    if (size == 1) {
        set_gpr(j, RAX, (g[RAX] & ~0xffffull) | rnd_below(one_in(2) ? 0x100 : 0x1000));
    } else {
        uint64_t sign = size == 8 ? (uint64_t)((int64_t)g[RAX] >> 63)
                                  : (uint64_t)(g[RAX] << (64 - 8 * size) >> 63) * ~0ull;
        set_gpr(j, RDX,
                j->in->zi.mnemonic == ZYDIS_MNEMONIC_IDIV ? sign
                : one_in(2)                               ? 0
                                                          : rnd_below(16));
    }
}

/* Makes the comparison succeed half of the time. */
static void gen_cmpxchg(struct job *j)
{
    const ZydisDecodedOperand *o = &j->in->op[0];
    uint64_t *g = j->st->gpr;
    if (one_in(2))
        return;
    switch (j->in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CMPXCHG:
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
            poke(j, j->code->ea, &g[RAX], o->size / 8);
        else
            set_gpr(j, reg_number(o->reg.value), g[RAX]);
        break;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        poke(j, j->code->ea, &g[RAX], 4);
        poke(j, j->code->ea + 4, &g[RDX], 4);
        break;
    default:
        poke(j, j->code->ea, &g[RAX], 8);
        poke(j, j->code->ea + 8, &g[RDX], 8);
        break;
    }
}

static void gen_bcd(struct job *j)
{
    uint8_t digits[10];
    rnd_fill(digits, sizeof digits);
    if (!one_in(4))
        for (int i = 0; i < 9; i++)
            digits[i] = (uint8_t)(rnd_below(10) << 4 | rnd_below(10));
    poke(j, j->code->ea, digits, sizeof digits);
}

/* An MXCSR in memory. Bit 17 is AMD's own and some hosts have it. */
static void gen_mxcsr(struct job *j, uint64_t at)
{
    uint32_t v = (uint32_t)rnd() & 0xffff;
    if (one_in(8))
        v |= (uint32_t)rnd() & ~(1u << 17);
    poke(j, at, &v, 4);
}

static bool gen_branch(struct job *j)
{
    const ZydisDecodedInstruction *zi = &j->in->zi;
    const ZydisDecodedOperand *o = &j->in->op[0];
    struct code *code = j->code;
    code->taken = code->ip + zi->length + 32;
    if (zi->mnemonic == ZYDIS_MNEMONIC_RET) {
        poke(j, j->st->gpr[RSP], &code->taken, 8);
    } else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        patch(j, zi->raw.imm[0].offset, zi->raw.imm[0].size, 32);
    } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        poke(j, code->ea, &code->taken, 8);
    } else {
        unsigned n = reg_number(o->reg.value);
        if (n == RSP)
            return false;
        j->st->gpr[n] = code->taken;
    }
    if (zi->meta.category == ZYDIS_CATEGORY_COND_BR)
        set_gpr(j, RCX, rnd_below(3) | (zi->address_width == 32 ? rnd() << 32 : 0));
    return true;
}

static unsigned shift_count(const struct job *j)
{
    const ZydisDecodedOperand *o = &j->in->op[2];
    return (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? j->code->bytes[j->in->zi.raw.imm[0].offset]
                                                    : (unsigned)j->st->gpr[RCX]) &
           31;
}

/* What single instructions ask for. */
static bool gen_special(struct job *j)
{
    const ZydisDecodedInstruction *zi = &j->in->zi;
    uint64_t *g = j->st->gpr;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: gen_divide(j); break;
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B: gen_cmpxchg(j); break;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: /* more than the operand's size: undefined */
        return j->in->op[0].size != 16 || shift_count(j) <= 16;
    case ZYDIS_MNEMONIC_ENTER:
        patch(j, zi->raw.imm[0].offset, 16, rnd_below(256));
        set_gpr(j, RBP, SCR_BASE + 0x1800 + 8 * rnd_below(64));
        break;
    case ZYDIS_MNEMONIC_LEAVE: g[RBP] = SCR_BASE + 0x1000 + 8 * rnd_below(256) + one_in(4); break;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
        if (g[RSP] >= SCR_BASE && g[RSP] < SCR_BASE + SCR_SIZE - 1)
            j->mem[g[RSP] - SCR_BASE + 1] &= (uint8_t)~1u; /* TF */
        break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC: /* the bit offset reaches beyond the operand */
        if (j->in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && is_gpr(&j->in->op[1])) {
            unsigned n = reg_number(j->in->op[1].reg.value);
            uint64_t v = (uint64_t)((int64_t)rnd_below(16384) - 8192);
            if (j->fixed >> n & 1)
                return false;
            if (j->in->op[0].size == 16)
                g[n] = (g[n] & ~0xffffull) | (v & 0xffff);
            else
                g[n] = j->in->op[0].size == 32 ? (g[n] << 32) | (uint32_t)v : v;
        }
        break;
    case ZYDIS_MNEMONIC_FBLD: gen_bcd(j); break;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR: gen_mxcsr(j, j->code->ea); break;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64: gen_mxcsr(j, j->code->ea + XS_MXCSR); break;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        if (!one_in(3)) {
            set_gpr(j, RAX, (uint64_t)((int64_t)rnd_below(40) - 20));
            set_gpr(j, RDX, (uint64_t)((int64_t)rnd_below(40) - 20));
        }
        break;
    default: break;
    }
    return true;
}

bool gen_case(const struct insn *in, struct code *code, struct state *st, uint8_t *mem)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    struct job j = {in, code, st, mem, 0};
    for (int i = 0; i < 16; i++)
        st->gpr[i] = rnd_int();
    st->gpr[RSP] = SCR_BASE + 0x1000 + 8 * rnd_below(0x100) + (one_in(8) ? rnd_below(8) : 0);
    st->rflags = (rnd() & (FL_ARITH | FL_ID)) | FL_IF | 2;
    if (one_in(is_string(zi) ? 2 : 8))
        st->rflags |= FL_DF;
    gen_fpu(in, st->xsave);
    gen_memory(mem);
    code->ea = code->taken = 0;
    code->rep = is_string(zi);

    if (is_string(zi)) {
        st->gpr[RCX] = rnd_below(one_in(2) ? 4 : 24);
        if (zi->address_width == 32)
            st->gpr[RCX] |= rnd() << 32;
        j.fixed |= 1u << RCX;
    }
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (!place_operand(&j, &in->op[i]))
                return false;
            if (!is_string(zi))
                fill_operand(&j, &in->op[i]);
            if (zi->meta.isa_set == ZYDIS_ISA_SET_SHA && (code->ea & 15))
                return false;
        }
    /* Half of the string comparisons find what they look for, or don't. */
    if (is_string(zi) && one_in(2))
        memset(mem + 0xc00, one_in(4) ? (int)(st->gpr[RAX] & 0xff) : 0, 0x1800);
    if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && !gen_branch(&j))
        return false;
    return gen_special(&j);
}
