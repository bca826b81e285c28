/* SPDX-License-Identifier: MIT
 * 32- and 16-bit code. A 64-bit process cannot run it, but most of its instructions have a twin in
 * 64-bit mode: the same opcode and operands, with an address-size prefix so that addresses have 32
 * bits, and with the operand-size prefix that the mode wants. The host runs the twin, the engine
 * runs the narrow encoding in compatibility mode, and the lower halves of the registers are
 * compared. */
#include "insn.h"
#include <stdio.h>
#include <string.h>

static bool same_register(ZydisRegister a, ZydisRegister b)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(a);
    if (k == ZYDIS_REGCLASS_IP || k == ZYDIS_REGCLASS_FLAGS)
        return ZydisRegisterGetClass(b) == k;
    return a == b;
}

/* Do both decode to the same instruction with the same operands? */
static bool twins(const struct insn *a, const struct insn *b)
{
    if (a->zi.mnemonic != b->zi.mnemonic || a->zi.operand_count != b->zi.operand_count ||
        a->zi.address_width != b->zi.address_width)
        return false;
    for (unsigned i = 0; i < a->zi.operand_count; i++) {
        const ZydisDecodedOperand *x = &a->op[i], *y = &b->op[i];
        if (x->type != y->type)
            return false;
        switch (x->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (!same_register(x->reg.value, y->reg.value))
                return false;
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            if (x->size != y->size || x->mem.type != y->mem.type || x->mem.base != y->mem.base ||
                x->mem.index != y->mem.index || x->mem.scale != y->mem.scale)
                return false;
            break;
        default:
            if (x->imm.is_relative != y->imm.is_relative)
                return false;
            break;
        }
    }
    return true;
}

static unsigned prefixes(const struct enc *e)
{
    return !!e->seg + !!e->p67 + !!e->lock + !!e->p66 + !!e->rep;
}

/* The narrow encoding of what code64 holds. false: it has none. */
static bool narrow_code(const struct enc *e, const struct insn *in, const struct code *code64,
                        enum engine_bits bits, struct code *code)
{
    ZydisMachineMode mode =
        bits == ENGINE_32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
    for (unsigned toggle = 0; toggle < 2; toggle++) {
        struct enc p = *e;
        struct insn got;
        uint8_t head[32];
        p.p67 = bits == ENGINE_16 ? 0x67 : 0;
        p.p66 = (uint8_t)(toggle ? p.p66 ^ 0x66 : p.p66);
        if (toggle && e->kind != ENC_LEGACY)
            return false;
        enc_emit(&p, head);
        unsigned n = prefixes(&p), rest = code64->len - prefixes(e);
        *code = *code64;
        memcpy(code->bytes, head, n);
        memcpy(code->bytes + n, code64->bytes + prefixes(e), rest);
        code->len = (uint8_t)(n + rest);
        if (code64->taken)
            code->taken = code->ip + code->len + 32;
        if (insn_decode(mode, code->bytes, code->len, &got) && got.zi.length == code->len &&
            twins(in, &got))
            return true;
    }
    return false;
}

/* Forms of the modes' own, and those whose images differ by mode. */
static bool usable(const struct form *f)
{
    const ZydisDecodedInstruction *zi = &f->in.zi;
    if (f->excluded || f->hidden || !isa_offered(zi->meta.isa_set, false) || f->enc.rex ||
        (f->enc.kind != ENC_LEGACY && f->enc.kind != ENC_VEX))
        return false;
    for (unsigned i = 0; i < zi->operand_count_visible; i++) /* the selectors are other ones */
        if (f->in.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(f->in.op[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return false;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_MOVDIR64B:
    case ZYDIS_MNEMONIC_VZEROALL: /* eight registers there */
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_ENQCMD: return false;
    default: return true;
    }
}

static void vary(const struct form *f, struct enc *e)
{
    *e = f->enc;
    rnd_fill(e->tail, sizeof e->tail);
    if (e->has_modrm) {
        unsigned mod = e->modrm >> 6 == 3 ? 3 : rnd_below(3);
        bool sib = (f->enc.modrm & 7) == 4 && mod != 3;
        if (!one_in(4))
            e->modrm = (uint8_t)((e->modrm & 0xc7) | rnd_below(8) << 3);
        e->modrm = (uint8_t)((e->modrm & 0x38) | mod << 6 | (sib ? 4 : rnd_below(8)));
        e->sib = (uint8_t)rnd();
        e->disp = one_in(2) ? (int8_t)rnd() : (int32_t)rnd();
    }
    if (e->kind == ENC_VEX && e->vvvv)
        e->vvvv = rnd_below(8);
    e->p67 = 0x67;
}

/* Where an instruction came out, not as an address: both have their own. */
static uint64_t way_out(const struct code *code, uint64_t rip)
{
    return rip == code->ip ? 0 : rip == code->ip + code->len ? 1 : rip == code->taken ? 2 : rip;
}

static void run_one(struct tally *t, const struct insn *in, const struct code *code64,
                    const struct code *code, enum engine_bits bits, const struct state *start,
                    const uint8_t *mem)
{
    static struct state host, engine;
    static uint8_t host_mem[SCR_SIZE];
    static char text[8192], all[8400];
    t->cases++;
    memcpy((void *)SCR_BASE, mem, SCR_SIZE);
    memcpy(engine_mem(), mem, SCR_SIZE);
    native_place(code64);
    native_run(code64, start, &host);
    memcpy(host_mem, (void *)SCR_BASE, SCR_SIZE);
    t->raised[host.vector < 0 ? 32 : host.vector & 31]++;
    const char *name = bits == ENGINE_32 ? "32-bit code" : "16-bit code";
    if (!engine_place(code) || !engine_run(code, bits, true, start, &engine)) {
        snprintf(all, sizeof all, "    %s: %s; host exception %d\n", name, engine_why(),
                 host.vector);
        report(t, code64, start, all);
        return;
    }
    xsave_normalize(host.xsave);
    xsave_normalize(engine.xsave);
    for (unsigned i = 0; i < 16; i++) {
        host.gpr[i] = (uint32_t)host.gpr[i];
        engine.gpr[i] = (uint32_t)engine.gpr[i];
    }
    host.rip = way_out(code64, host.rip);
    engine.rip = way_out(code, engine.rip);
    struct masks m;
    compare_masks(in, start, &m);
    compare_fix_memory(in, code64->ea, host_mem, engine_mem());
    t->sticky += compare_fix_state(in, &host, &engine);
    if (compare(&m, &host, &engine, host_mem, engine_mem(), text, sizeof text)) {
        snprintf(all, sizeof all, "    %s\n%s", name, text);
        report(t, code64, start, all);
    }
}

void narrow_run(struct tally *t, const struct form *forms, size_t n, unsigned cases)
{
    static struct state start;
    static uint8_t mem[SCR_SIZE];
    for (size_t i = 0; i < n; i++) {
        const struct form *f = &forms[i];
        if (!usable(f))
            continue;
        rng_seed(13 ^ f->key);
        for (unsigned c = 0; c < cases; c++) {
            struct enc e;
            struct insn in;
            uint8_t bytes[32];
            vary(f, &e);
            unsigned len = enc_emit(&e, bytes);
            if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, len, &in) ||
                form_key(&in) != f->key)
                continue;
            struct code code64 = {.len = in.zi.length, .ip = CODE_BASE + 0x40 + rnd_below(0x3f00)};
            struct code code;
            memcpy(code64.bytes, bytes, code64.len);
            /* Not of this mode: find out before the work. */
            enum engine_bits bits = c & 1 ? ENGINE_16 : ENGINE_32;
            if (!narrow_code(&e, &in, &code64, bits, &code) ||
                !gen_case(&in, &code64, &start, mem) || !narrow_code(&e, &in, &code64, bits, &code))
                continue;
            for (unsigned r = 0; r < 16; r++)
                start.gpr[r] = (uint32_t)start.gpr[r];
            run_one(t, &in, &code64, &code, bits, &start, mem);
        }
    }
}
