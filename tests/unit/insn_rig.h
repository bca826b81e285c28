/* SPDX-License-Identifier: MIT
 * A vCPU of the interpreter made by hand, with one page of memory, whose
 * instructions are compared with the host's. Each test file that includes this
 * is one program. */
#ifndef TEST_INSN_RIG_H
#define TEST_INSN_RIG_H

#include "cpu/emu/emu.h"
#include "cpu/emu/flags.h"
#include "cpu/emu/simd/fpu.h"
#include "cpu/emu/sys/sys.h"
#include "cpu/emu/simd/thunk.h"
#include "cpu/emu/tlb.h"
#include "native.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LINEAR 0x10000ull
#define BASE   6 /* rsi: the memory operand's base */

struct rig {
    struct cpu_model model;
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
    r->vm.model = &r->model;
    cr_assert(r->vm.thunks && !cpu_model_find("host", &r->model));
    size_t size = (sizeof *r->c + 63) & ~(size_t)63;
    r->c = aligned_alloc(64, size);
    memset(r->c, 0, size);
    r->c->vm = &r->vm;
    r->c->env = &r->vm.env;
    r->c->tlb = &r->set;
    r->c->tlbs = calloc(1, sizeof *r->c->tlbs); /* nothing in it: accesses elsewhere fault */
    r->c->tlbs->cur = r->c->tlbs->slot;
    for (unsigned k = 0; k < TLB_KINDS; k++)
        for (unsigned i = 0; i < TLB_N; i++)
            r->set.e[k][i].tag = TLB_NONE(i);
    struct tlb_ent e = {LINEAR, (uint64_t)(uintptr_t)r->guest - LINEAR};
    unsigned at = LINEAR >> 12 & (TLB_N - 1);
    r->set.e[TLB_R][at] = r->set.e[TLB_W][at] = e;
    r->set.wx[at].code = &r->no_code;
    r->c->mode = MODE_CODE64;
    r->c->cr0 = CR0_PE | CR0_NE | CR0_PG;
    r->c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE;
    r->c->efer = EFER_LME | EFER_LMA;
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
    free(r->c->tlbs);
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

static __attribute__((unused)) void point(struct rig *r, struct native *s, unsigned reg,
                                          unsigned off)
{
    s->gpr[reg] = (uint64_t)(uintptr_t)r->host + off;
    r->c->gpr[reg] = LINEAR + off;
}

static __attribute__((unused)) void native(struct rig *r, struct native *s, const uint8_t *b,
                                           unsigned n)
{
    memcpy(r->code, b, n);
    r->code[n] = 0xc3;
    native_run(s, r->code);
}

/* What differs, or NULL. */
static __attribute__((unused)) const char *differ(struct rig *r, const struct native *s,
                                                  const struct insn *in)
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

static __attribute__((unused)) void name(const struct insn *in, char *text, size_t n)
{
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&f, &in->zi, in->zop, in->zi.operand_count_visible, text, n, 0,
                                    NULL);
}

#endif
