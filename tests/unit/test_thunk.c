/* SPDX-License-Identifier: MIT
 * Vector, x87 and bit-manipulation instructions of the interpreter against the
 * same bytes run on the host: every opcode Zydis knows and CPUID offers, with
 * registers and with memory that ends at the end of a page. */
#include "cpu/emu/emu.h"
#include "cpu/emu/flags.h"
#include "cpu/emu/fpu.h"
#include "cpu/emu/sys.h"
#include "cpu/emu/thunk.h"
#include "native.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LINEAR 0x10000ull
#define BASE   6 /* rsi: the memory operand's base */

struct rig {
    struct emu_vm vm;
    struct emu *c;
    struct tlb_set set;
    _Atomic uint64_t no_code;
    uint8_t *guest, *host; /* a page each, a guard page behind it */
    uint8_t *code;         /* native code */
    jmp_buf jmp;
    uint64_t seed;
    ZydisDecoder dec64, dec32, dec16;
};

static struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);
    uint8_t *p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(p != MAP_FAILED && r->code != (uint8_t *)MAP_FAILED);
    mprotect(p + 4096, 4096, PROT_NONE);
    mprotect(p + 3 * 4096, 4096, PROT_NONE);
    r->guest = p;
    r->host = p + 2 * 4096;
    r->seed = 88172645463325252ull;
    ZydisDecoderInit(&r->dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderInit(&r->dec32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&r->dec16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    r->vm.thunks = thunk_cache_new();
    r->vm.model = cpu_model_find("host");
    cr_assert(r->vm.thunks && r->vm.model);
    size_t size = (sizeof *r->c + 63) & ~(size_t)63;
    r->c = aligned_alloc(64, size);
    memset(r->c, 0, size);
    r->c->vm = &r->vm;
    r->c->env = &r->vm.env;
    r->c->tlb = &r->set;
    for (unsigned k = 0; k < TLB_KINDS; k++)
        for (unsigned i = 0; i < TLB_N; i++)
            r->set.e[k][i].tag = TLB_INVALID;
    struct tlb_ent e = {LINEAR, (uint64_t)(uintptr_t)r->guest - LINEAR};
    unsigned at = LINEAR >> 12 & (TLB_N - 1);
    r->set.e[TLB_R][at] = r->set.e[TLB_W][at] = e;
    r->set.wcode[at] = &r->no_code;
    r->c->mode = MODE_CODE64;
    r->c->cr0 = CR0_PE | CR0_NE | CR0_PG;
    r->c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE;
    r->c->xcr0 = r->vm.model->xcr0;
    r->c->mxcsr = MXCSR_INIT;
    r->c->rflags = 2;
    put_le16(r->c->fx, 0x37f);
    for (unsigned s = 0; s < SEG_COUNT; s++)
        r->c->seg[s] = (struct seg){.limit = UINT32_MAX, .sel = 8, .attr = 0xc93};
    r->c->seg[SEG_CS].attr = 0xa9b;
    r->c->jmp = &r->jmp;
    return r;
}

static void rig_free(struct rig *r)
{
    thunk_cache_free(r->vm.thunks);
    munmap(r->guest, 4 * 4096);
    munmap(r->code, 4096);
    free(r->c);
    free(r);
}

static uint64_t rnd(struct rig *r)
{
    r->seed ^= r->seed << 13;
    r->seed ^= r->seed >> 7;
    r->seed ^= r->seed << 17;
    return r->seed * 2685821657736338717ull;
}

/* ---- one instruction ------------------------------------------------------------- */

static void op_end(struct emu *c, const struct op *op)
{
    (void)c, (void)op;
}

/* Decodes as the engine does. false: not an instruction, or nobody's. */
static bool decode(struct rig *r, ZydisDecoder *dec, unsigned code_size, const uint8_t *b, size_t n,
                   struct insn *in, struct op op[2])
{
    memset(in, 0, sizeof *in);
    memset(op, 0, 2 * sizeof *op);
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(dec, b, n, &in->zi, in->zop)))
        return false;
    in->bytes = b;
    in->code_size = code_size;
    op[0].len = in->zi.length;
    op[0].mnemonic = (uint16_t)in->zi.mnemonic;
    op[0].opsize = in->zi.operand_width / 8;
    op[0].asize = in->zi.address_width / 8;
    op[0].base = op[0].index = R_ZERO * 8;
    op[0].seg = SEG_DS;
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->zop[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
            op[0].base = op_gpr(o->mem.base);
            if (o->mem.index && o->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
                op[0].index = op_gpr(o->mem.index);
            op[0].disp = o->mem.disp.value;
            op[0].msize = o->size / 8;
        } else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            op[0].imm = o->imm.value.u;
        }
    }
    op[1].fn = op_end;
    return select_simd(r->c, in, op);
}

/* The vector of the exception it raises, or -1. */
static int run(struct rig *r, const struct op *op)
{
    if (setjmp(r->jmp))
        return r->c->fault.vector;
    op->fn(r->c, op);
    return -1;
}

static void random_vector(struct rig *r, uint8_t *p)
{
    static const double special[] = {0.0,          -0.0,   1.0,  -1.0, 2.5,     1e300,
                                     -1e-300,      5e-324, 1e40, 3e38, 1.2e-38, 1e-45,
                                     2147483648.0, 0.5,    1e19, -7.0};
    unsigned kind = rnd(r) % 6;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t v = rnd(r);
        double d = special[v % 16];
        float f[2] = {(float)special[v >> 8 & 15], (float)special[v >> 16 & 15]};
        if (kind == 1)
            memcpy(&v, &d, 8);
        else if (kind == 2)
            memcpy(&v, f, 8);
        else if (kind == 3)
            v = v & 0x0f0f0f0f0f0f0f0full;
        else if (kind == 4 && (v & 3) == 0)
            v = v & 4 ? 0x7ff0000000000001ull : 0x7f8000017fc00000ull;
        memcpy(p + 8 * i, &v, 8);
    }
}

static void random_st(struct rig *r, uint8_t *p)
{
    static const double value[] = {0.0, 1.0, -2.5, 3.25, 1e10, -1e-10, 1e300, 0.7};
    long double v = value[rnd(r) % 8];
    memset(p, 0, 16);
    memcpy(p, &v, 10);
    if (rnd(r) % 8 == 0) { /* any bits at all */
        put_le64(p, rnd(r));
        put_le16(p + 8, (uint16_t)rnd(r));
    }
}

/* The same random state for both sides. */
static void random_state(struct rig *r, struct native *s, unsigned msize)
{
    struct emu *c = r->c;
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = rnd(r) % 3 == 0 ? rnd(r) % 20 : rnd(r);
        random_vector(r, s->ymm[i]);
    }
    s->flags = (rnd(r) & FL_ARITH) | 2;
    s->mxcsr = 0x1f80 | (rnd(r) & 0x6000) | (rnd(r) % 4 == 0 ? 0x8000 : 0) |
               (rnd(r) % 4 == 0 ? 0x40 : 0) | (rnd(r) & 0x3f);
    memset(s->fx, 0, sizeof s->fx);
    put_le16(s->fx, 0x37f & ~(rnd(r) & 0x300));
    put_le16(s->fx + FX_FSW, (uint16_t)(rnd(r) & 0x3800));
    s->fx[FX_FTW] = rnd(r) % 2 ? (uint8_t)rnd(r) : 0xff;
    put_le32(s->fx + FX_MXCSR, 0x1f80);
    for (unsigned i = 0; i < 8; i++)
        random_st(r, s->fx + FX_ST + 16 * i);
    for (unsigned i = 0; i < 4096; i += 32)
        random_vector(r, r->guest + i);
    if (msize == 10)
        random_st(r, r->guest + 4096 - 16), memmove(r->guest + 4086, r->guest + 4080, 10);
    memcpy(r->host, r->guest, 4096);

    memcpy(c->gpr, s->gpr, sizeof s->gpr);
    memcpy(c->ymm, s->ymm, sizeof c->ymm);
    memcpy(c->fx, s->fx, 512);
    c->gpr[R_ZERO] = c->gpr[R_IPB] = 0;
    c->mxcsr = s->mxcsr;
    flags_set_arith(c, (uint32_t)s->flags);
}

static void point(struct rig *r, struct native *s, unsigned reg, unsigned off)
{
    s->gpr[reg] = (uint64_t)(uintptr_t)r->host + off;
    r->c->gpr[reg] = LINEAR + off;
}

static void native(struct rig *r, struct native *s, const uint8_t *b, unsigned n)
{
    memcpy(r->code, b, n);
    r->code[n] = 0xc3;
    native_run(s, r->code);
}

/* What differs, or NULL. */
static const char *differ(struct rig *r, const struct native *s, const struct insn *in)
{
    static char text[64];
    struct emu *c = r->c;
    uint32_t ignore = in->zi.cpu_flags ? in->zi.cpu_flags->undefined : 0;
    for (unsigned i = 0; i < 16; i++) {
        bool pointer = s->gpr[i] - (uint64_t)(uintptr_t)r->host == c->gpr[i] - LINEAR;
        snprintf(text, sizeof text, "register %u: %llx for %llx", i, (unsigned long long)c->gpr[i],
                 (unsigned long long)s->gpr[i]);
        if (i != R_RSP && !pointer && c->gpr[i] != s->gpr[i])
            return text;
        snprintf(text, sizeof text, "vector register %u", i);
        if (memcmp(c->ymm[i], s->ymm[i], 32))
            return text;
    }
    if ((flags_arith(c) ^ s->flags) & FL_ARITH & ~ignore)
        return "flags";
    if (c->mxcsr != s->mxcsr)
        return "MXCSR";
    if (memcmp(r->guest, r->host, 4096))
        return "memory";
    snprintf(text, sizeof text, "x87 control: %04x %04x %02x for %04x %04x %02x", get_le16(c->fx),
             get_le16(c->fx + 2), c->fx[4], get_le16(s->fx), get_le16(s->fx + 2), s->fx[4]);
    if (memcmp(c->fx, s->fx, 5))
        return text;
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(c->fx + FX_ST + 16 * i, s->fx + FX_ST + 16 * i, 10))
            return "x87 registers";
    return NULL;
}

static void name(const struct insn *in, char *text, size_t n)
{
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&f, &in->zi, in->zop, in->zi.operand_count_visible, text, n, 0,
                                    NULL);
}

/* Loads of control state, which random numbers would make fault. */
static bool control_state(const struct insn *in, const struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FLDCW: return true;
    default: return op->msize > 32;
    }
}

/* rsp is the host's here; rsi and rdi hold addresses, which differ. */
static bool uses_pointer(const struct insn *in, const struct op *op)
{
    bool memory = op->base != R_ZERO * 8;
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        if (in->zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        unsigned n = op_gpr(in->zop[i].reg.value) / 8;
        if (n == R_RSP || (memory && (n == R_RSI || n == R_RDI)))
            return true;
    }
    return false;
}

/* Runs it both ways `times` times. false: not to be run. */
static bool compare(struct rig *r, const uint8_t *b, unsigned n, unsigned times, unsigned *bad)
{
    struct insn in;
    struct op op[2];
    char text[128];
    if (!decode(r, &r->dec64, 8, b, n, &in, op) || control_state(&in, op) || uses_pointer(&in, op))
        return false;
    for (unsigned i = 0; i < times; i++) {
        struct native s;
        random_state(r, &s, op->msize);
        if (op->base == BASE * 8)
            point(r, &s, BASE, 4096 - op->msize);
        if (op->base == R_RDI * 8)
            point(r, &s, R_RDI, 4096 - 16);
        uint64_t length = in.zi.length;
        int fault = run(r, op);
        native(r, &s, b, (unsigned)length);
        const char *what = fault >= 0 ? "an exception" : differ(r, &s, &in);
        if (!what)
            continue;
        name(&in, text, sizeof text);
        if (++*bad <= 20)
            cr_log_error("%s: %s", text, what);
        return true;
    }
    return true;
}

/* ---- every opcode ------------------------------------------------------------------- */

static unsigned put_opcode(uint8_t *b, bool vex, unsigned map, unsigned opcode, unsigned pp, bool w,
                           bool l, unsigned ext, unsigned vvvv)
{
    static const uint8_t prefix[] = {0, 0x66, 0xf3, 0xf2};
    unsigned n = 0;
    if (vex) {
        b[n++] = 0xc4;
        b[n++] = (uint8_t)((~ext & 7) << 5 | map);
        b[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
    } else {
        if (pp)
            b[n++] = prefix[pp];
        if (w || ext)
            b[n++] = (uint8_t)(0x40 | w << 3 | ext);
        b[n++] = 0x0f;
        if (map > 1)
            b[n++] = map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = (uint8_t)opcode;
    return n;
}

/* Calls compare() for the forms of one opcode, with random register numbers. */
static unsigned opcode_forms(struct rig *r, bool vex, unsigned map, unsigned opcode, unsigned times,
                             unsigned *bad)
{
    unsigned done = 0;
    if (map == 1 && (opcode == 0x38 || opcode == 0x3a)) /* the other maps */
        return 0;
    for (unsigned form = 0; form < (vex ? 256u : 128u); form++) {
        unsigned pp = form & 3, w = form >> 2 & 1, mem = form >> 3 & 1, reg = form >> 4 & 7;
        bool l = form >> 7;
        uint64_t x = rnd(r);
        /* Some VEX instructions have no second source: vvvv must be 1111. */
        for (unsigned v = 0; v < (vex ? 2u : 1u); v++) {
            uint8_t b[16] = {0};
            unsigned vvvv = v ? 1 + x % 3 : 0;
            unsigned ext = (x >> 8 & 4) | (mem ? 0 : (x >> 16 & 1));
            unsigned n = put_opcode(b, vex, map, opcode, pp, w, l, ext, vvvv);
            b[n++] = (uint8_t)((mem ? 0 : 0xc0) | reg << 3 | (mem ? BASE : (x >> 24 & 3)));
            b[n++] = (uint8_t)(x >> 32); /* an immediate, perhaps */
            done += compare(r, b, sizeof b, times, bad);
        }
    }
    return done;
}

Test(thunk, every_opcode, .timeout = 120)
{
    struct rig *r = rig_new();
    unsigned done = 0, bad = 0;
    for (unsigned vex = 0; vex < 2; vex++)
        for (unsigned map = 1; map <= 3; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                done += opcode_forms(r, vex, map, opcode, 4, &bad);
    cr_log_info("%u forms, %zu bytes of thunks", done, thunk_cache_used(r->vm.thunks));
    cr_expect_eq(bad, 0, "%u forms differ", bad);
    cr_expect_gt(done, 5000);
    rig_free(r);
}

Test(thunk, every_x87_opcode, .timeout = 60)
{
    struct rig *r = rig_new();
    unsigned done = 0, bad = 0;
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
        for (unsigned modrm = 0; modrm < 256; modrm++) {
            uint8_t b[16] = {(uint8_t)opcode, (uint8_t)modrm};
            if (modrm >= 0xc0 || (modrm & 0xc7) == BASE)
                done += compare(r, b, sizeof b, 24, &bad);
        }
    }
    cr_expect_eq(bad, 0, "%u forms differ", bad);
    cr_expect_gt(done, 300);
    rig_free(r);
}
