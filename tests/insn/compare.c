/* SPDX-License-Identifier: MIT
 * Two end states side by side, without what the manual leaves undefined. */
#include "insn.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static unsigned count_of(const struct insn *in, const struct state *start, unsigned operand)
{
    const ZydisDecodedOperand *o = &in->op[operand];
    unsigned mask = in->op[0].size == 64 ? 63 : 31;
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return (unsigned)o->imm.value.u & mask;
    return (unsigned)start->gpr[RCX] & mask;
}

/* Which flags a shift by this count leaves undefined (SDM volume 2, each instruction's "Flags
 * Affected"). */
static uint32_t shift_undefined(const struct insn *in, const struct state *start)
{
    unsigned size = in->op[0].size;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: return count_of(in, start, 1) > 1 ? FL_OF : 0;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR: {
        unsigned n = count_of(in, start, 1);
        uint32_t u = n == 0 ? 0 : n == 1 ? FL_AF : FL_AF | FL_OF;
        return n >= size && in->zi.mnemonic != ZYDIS_MNEMONIC_SAR ? u | FL_CF : u;
    }
    default: {
        unsigned n = count_of(in, start, 2);
        return n == 0 ? 0 : n == 1 ? FL_AF : n > size ? FL_ARITH : FL_AF | FL_OF;
    }
    }
}

void compare_masks(const struct insn *in, const struct state *start, struct masks *m)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    uint32_t undefined = zi->cpu_flags ? zi->cpu_flags->undefined : 0;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: undefined = shift_undefined(in, start); break;
    default: break;
    }
    m->flags = ~undefined;
    m->fsw = 0xffff;
    if (zi->fpu_flags) {
        uint32_t u = zi->fpu_flags->undefined; /* C0-C3 as bits 0-3 */
        m->fsw = (uint16_t) ~((u & 7) << 8 | (u & 8) << 11);
    }
}

/* FIP, FDP, FOP and reserved fields of saved x87 state: SDM volume 1, 8.1.10 and 10.5.1. */
void compare_fix_memory(const struct insn *in, uint64_t ea, const uint8_t *a, uint8_t *b)
{
    struct range {
        uint16_t from, to;
    };
    static const struct range env32[] = {{2, 4}, {6, 8}, {10, 12}, {12, 28}, {0, 0}};
    static const struct range env16[] = {{6, 14}, {0, 0}};
    static const struct range fx[] = {{5, 24},    {28, 32},   {42, 48},   {58, 64},
                                      {74, 80},   {90, 96},   {106, 112}, {122, 128},
                                      {138, 144}, {154, 160}, {416, 512}, {0, 0}};
    const struct range *r;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE: r = in->zi.operand_width == 16 ? env16 : env32; break;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: r = fx; break;
    default: return;
    }
    for (; r->to; r++)
        for (uint64_t at = ea + r->from; at < ea + r->to; at++)
            if (at >= SCR_BASE && at < SCR_BASE + SCR_SIZE)
                b[at - SCR_BASE] = a[at - SCR_BASE];
}

static bool names_mmx(const struct insn *in)
{
    for (unsigned i = 0; i < in->zi.operand_count_visible; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(in->op[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return false;
}

/* Which of the accesses of a long operand comes first is not architectural. */
static bool long_operand(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64: return true;
    default: return false;
    }
}

bool compare_fix_state(const struct insn *in, const struct state *a, struct state *b)
{
    if (a->vector != b->vector || a->vector == VEC_NONE)
        return false;
    if (long_operand(in->zi.mnemonic) && (a->cr2 ^ b->cr2) < 0x1000)
        b->cr2 = a->cr2;
    /* Whether x87 was already switched to MMX when an exception came is not documented. */
    if (names_mmx(in)) {
        memcpy(b->xsave, a->xsave, XS_MXCSR);
        memcpy(b->xsave + XS_ST, a->xsave + XS_ST, 128);
    }
    if (a->vector != VEC_XM)
        return false;
    /* Sticky flags that go with an unmasked exception. An overflow or underflow flags PE too only
     * when the result were inexact with an unbounded exponent (SDM volume 1, 4.9.1.4, 4.9.1.5): the
     * engine flags it always. The dot products stop at the first multiplication or addition that
     * raises one: the engine flags what the others found as well. */
    uint32_t ma, mb, extra = 0x20;
    memcpy(&ma, a->xsave + XS_MXCSR, 4);
    memcpy(&mb, b->xsave + XS_MXCSR, 4);
    bool dot = in->zi.mnemonic == ZYDIS_MNEMONIC_DPPS || in->zi.mnemonic == ZYDIS_MNEMONIC_DPPD ||
               in->zi.mnemonic == ZYDIS_MNEMONIC_VDPPS || in->zi.mnemonic == ZYDIS_MNEMONIC_VDPPD;
    if (dot)
        extra = 0x3f;
    else if (!(ma & ~(ma >> 7) & 0x18))
        return false;
    if (ma == mb || ((ma ^ mb) & ~extra))
        return false;
    memcpy(b->xsave + XS_MXCSR, &ma, 4);
    return true;
}

struct text {
    char *at;
    size_t room;
    bool any;
};

static void differ(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->at, t->room, fmt, ap);
    va_end(ap);
    t->any = true;
    if (n > 0) {
        size_t used = (size_t)n < t->room ? (size_t)n : t->room - 1;
        t->at += used;
        t->room -= used;
    }
}

static void hex(char *out, const uint8_t *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sprintf(out + 2 * i, "%02x", p[n - 1 - i]);
}

static void compare_bytes(struct text *t, const char *name, int index, const uint8_t *a,
                          const uint8_t *b, unsigned n)
{
    char ha[64], hb[64];
    if (memcmp(a, b, n) == 0)
        return;
    hex(ha, a, n);
    hex(hb, b, n);
    differ(t, "    %s%d: host %s engine %s\n", name, index, ha, hb);
}

static void compare_fpu(struct text *t, const struct masks *m, const uint8_t *a, const uint8_t *b)
{
    uint16_t fa, fb;
    uint32_t ma, mb;
    memcpy(&fa, a, 2);
    memcpy(&fb, b, 2);
    if (fa != fb)
        differ(t, "    fcw: host %04x engine %04x\n", fa, fb);
    memcpy(&fa, a + XS_FSW, 2);
    memcpy(&fb, b + XS_FSW, 2);
    if ((fa ^ fb) & m->fsw)
        differ(t, "    fsw: host %04x engine %04x (of %04x)\n", fa, fb, m->fsw);
    if (a[XS_FTW] != b[XS_FTW])
        differ(t, "    tags: host %02x engine %02x\n", a[XS_FTW], b[XS_FTW]);
    memcpy(&ma, a + XS_MXCSR, 4);
    memcpy(&mb, b + XS_MXCSR, 4);
    if (ma != mb)
        differ(t, "    mxcsr: host %08x engine %08x\n", ma, mb);
    for (int i = 0; i < 8; i++)
        compare_bytes(t, "st", i, a + XS_ST + 16 * i, b + XS_ST + 16 * i, 10);
    for (int i = 0; i < 16; i++)
        compare_bytes(t, "xmm", i, a + XS_XMM + 16 * i, b + XS_XMM + 16 * i, 16);
    for (int i = 0; i < 16; i++)
        compare_bytes(t, "ymmh", i, a + XS_YMMH + 16 * i, b + XS_YMMH + 16 * i, 16);
}

bool compare(const struct masks *m, const struct state *a, const struct state *b,
             const uint8_t *mem_a, const uint8_t *mem_b, char *text, size_t n)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    struct text t = {text, n, false};
    text[0] = 0;
    if (a->vector != b->vector)
        differ(&t, "    exception: host %d engine %d\n", a->vector, b->vector);
    else if (a->err != b->err || a->cr2 != b->cr2)
        differ(&t, "    error code, cr2: host %x %llx engine %x %llx\n", a->err,
               (unsigned long long)a->cr2, b->err, (unsigned long long)b->cr2);
    for (int i = 0; i < 16; i++)
        if (a->gpr[i] != b->gpr[i])
            differ(&t, "    %s: host %016llx engine %016llx\n", names[i],
                   (unsigned long long)a->gpr[i], (unsigned long long)b->gpr[i]);
    if (a->rip != b->rip)
        differ(&t, "    rip: host %llx engine %llx\n", (unsigned long long)a->rip,
               (unsigned long long)b->rip);
    if ((a->rflags ^ b->rflags) & m->flags)
        differ(&t, "    flags: host %06llx engine %06llx (differ %06llx)\n",
               (unsigned long long)a->rflags, (unsigned long long)b->rflags,
               (unsigned long long)((a->rflags ^ b->rflags) & m->flags));
    if (memcmp(a->xsave, b->xsave, XS_SIZE) != 0)
        compare_fpu(&t, m, a->xsave, b->xsave);
    if (memcmp(mem_a, mem_b, SCR_SIZE) != 0) {
        unsigned at = 0, shown;
        while (mem_a[at] == mem_b[at])
            at++;
        shown = SCR_SIZE - at < 16 ? SCR_SIZE - at : 16;
        char ha[40], hb[40];
        hex(ha, mem_a + at, shown);
        hex(hb, mem_b + at, shown);
        differ(&t, "    memory at %llx: host %s engine %s\n", (unsigned long long)(SCR_BASE + at),
               ha, hb);
    }
    return t.any;
}
