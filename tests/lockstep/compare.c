/* SPDX-License-Identifier: MIT
 * The states of two guests side by side. */
#include "lockstep.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Makes XSAVE images comparable: init-state components written out, FIP, FDP,
 * FOP and what is reserved zero (SDM volume 1, 13.4, 13.6). */
static void normalize(uint8_t *xs)
{
    static const uint8_t fcw[2] = {0x7f, 3};
    if (!(xs[512] & 1)) {
        memset(xs, 0, 24);
        memcpy(xs, fcw, 2);
        memset(xs + 32, 0, 128);
    }
    if (!(xs[512] & 2))
        memset(xs + 160, 0, 256);
    if (!(xs[512] & 4))
        memset(xs + 576, 0, 256);
    memset(xs + 6, 0, 18);
    memset(xs + 28, 0, 4);
    memset(xs + 416, 0, 160);
    for (unsigned i = 0; i < 8; i++)
        memset(xs + 32 + 16 * i + 10, 0, 6);
}

void snapshot_take(struct guest *g, struct snapshot *s)
{
    memset(s, 0, sizeof *s);
    s->regs.size = sizeof s->regs;
    s->fpu.size = sizeof s->fpu;
    s->sregs.size = sizeof s->sregs;
    vc_gprs_get(g->cpu, &s->regs);
    vc_fpu_get(g->cpu, &s->fpu);
    vc_sregs_get(g->cpu, &s->sregs);
    normalize(s->fpu.xsave);
    s->insns = guest_insns(g);
}

/* ---- which flags matter ---------------------------------------------------------- */

static unsigned fetch(struct guest *g, uint64_t ip, uint8_t *bytes)
{
    unsigned n = 0;
    while (n < 15) {
        uint64_t gpa;
        unsigned run = 4096 - (unsigned)((ip + n) & 4095);
        if (vc_translate(g->cpu, ip + n, VC_ACC_FETCH, &gpa) != 0)
            break;
        if (run > 15 - n)
            run = 15 - n;
        if (vc_read(g->vm, gpa, bytes + n, run) != 0)
            break;
        n += run;
    }
    return n;
}

static bool decode(struct guest *g, uint64_t ip, ZydisDecodedInstruction *zi,
                   ZydisDecodedOperand *zop)
{
    uint8_t bytes[15];
    ZydisDecoder dec;
    struct vc_sregs s = {.size = sizeof s};
    vc_sregs_get(g->cpu, &s);
    if (s.cs.attr & 0x200) /* L */
        ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else
        ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, bytes, fetch(g, ip, bytes), zi, zop));
}

/* A shift or a repeated instruction that may do nothing leaves the flags. */
static bool may_do_nothing(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop)
{
    const ZydisDecodedOperand *count = &zop[1];
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: break;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: count = &zop[2]; break;
    default:
        return zi->attributes &
               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    }
    return count->type == ZYDIS_OPERAND_TYPE_REGISTER ||
           !(count->imm.value.u & (zi->operand_width == 64 ? 63 : 31));
}

static uint32_t live_at(struct guest *g, uint64_t ip, unsigned left)
{
    uint32_t live = 0, known = 0;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    while (left-- && known != FL_ARITH) {
        if (!decode(g, ip, &zi, zop))
            break;
        const ZydisAccessedFlags *f = zi.cpu_flags;
        if (f) {
            live |= f->tested & FL_ARITH & ~known;
            if (!may_do_nothing(&zi, zop))
                known |= (f->modified | f->set_0 | f->set_1 | f->undefined) & FL_ARITH;
        }
        uint64_t next = ip + zi.length;
        bool relative = zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && zop[0].imm.is_relative;
        if (relative && zi.meta.category == ZYDIS_CATEGORY_COND_BR) {
            live |= live_at(g, next + (uint64_t)zop[0].imm.value.s, left / 2) & ~known;
            left = left / 2;
        } else if (relative) {
            next += (uint64_t)zop[0].imm.value.s;
        } else if (zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
                   zi.meta.category == ZYDIS_CATEGORY_RET) {
            /* Anything may follow; the generator leaves AF open there. */
            return live | (FL_ARITH & ~FL_AF & ~known);
        } else if (zi.mnemonic == ZYDIS_MNEMONIC_IRETQ || zi.mnemonic == ZYDIS_MNEMONIC_SYSRET) {
            break;
        }
        ip = next;
    }
    return live;
}

uint32_t flags_live(struct guest *g)
{
    uint64_t ip = 0;
    vc_reg_get(g->cpu, VC_REG_RIP, &ip);
    return live_at(g, ip, 160);
}

/* ---- comparing ------------------------------------------------------------------------ */

struct text {
    char *to;
    size_t left;
    bool any;
};
static void say(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    t->any = true;
    va_start(ap, fmt);
    int n = vsnprintf(t->to, t->left, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->to += used;
    t->left -= used;
}

static void compare_u64(struct text *t, const char *name, uint64_t a, uint64_t b)
{
    if (a != b)
        say(t, "  %-8s interpreter %016llx translator %016llx\n", name, (unsigned long long)a,
            (unsigned long long)b);
}

static void compare_bytes(struct text *t, const char *name, const uint8_t *a, const uint8_t *b,
                          size_t from, size_t to)
{
    unsigned shown = 0;
    if (!memcmp(a + from, b + from, to - from))
        return;
    for (size_t i = from & ~(size_t)7; i < to && shown < 6; i += 8)
        if (memcmp(a + i, b + i, 8)) {
            uint64_t x, y;
            char where[32];
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            snprintf(where, sizeof where, "%s+%zx", name, i);
            compare_u64(t, where, x, y);
            shown++;
        }
}

bool differ(struct guest *a, struct guest *b, char *text, size_t n)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    struct text t = {text, n, false};
    struct snapshot x, y;
    snapshot_take(a, &x);
    snapshot_take(b, &y);
    text[0] = 0;
    if (a->rc != b->rc)
        say(&t, "  vc_run   interpreter %d translator %d\n", a->rc, b->rc);
    compare_u64(&t, "exit", a->exit.kind, b->exit.kind);
    compare_u64(&t, "insns", x.insns, y.insns);
    for (unsigned i = 0; i < 16; i++)
        compare_u64(&t, names[i], x.regs.gpr[i], y.regs.gpr[i]);
    compare_u64(&t, "rip", x.regs.rip, y.regs.rip);
    if (x.regs.rip == y.regs.rip && x.regs.rflags != y.regs.rflags) {
        uint64_t mask = ~(uint64_t)FL_ARITH | flags_live(a);
        compare_u64(&t, "rflags", x.regs.rflags & mask, y.regs.rflags & mask);
    }
    compare_bytes(&t, "xsave", x.fpu.xsave, y.fpu.xsave, 0, sizeof x.fpu.xsave);
    compare_u64(&t, "fs", x.sregs.fs.base, y.sregs.fs.base);
    compare_u64(&t, "gs", x.sregs.gs.base, y.sregs.gs.base);
    compare_u64(&t, "cs", x.sregs.cs.selector, y.sregs.cs.selector);
    compare_u64(&t, "ss", x.sregs.ss.selector, y.sregs.ss.selector);
    compare_u64(&t, "cr2", x.sregs.cr2, y.sregs.cr2);
    compare_u64(&t, "accesses", a->events, b->events);
    compare_u64(&t, "traffic", a->traffic, b->traffic);
    compare_bytes(&t, "memory", a->ram, b->ram, 0, P_PRIVATE);
    compare_bytes(&t, "memory", a->ram, b->ram, P_CODE, RAM_SIZE);
    if (a->logs) {
        uint8_t la[(RAM_SIZE >> 15) + 1] = {0}, lb[sizeof la] = {0};
        vc_dirty_log(a->vm, 0, RAM_SIZE, la, sizeof la);
        vc_dirty_log(b->vm, 0, RAM_SIZE, lb, sizeof lb);
        for (unsigned i = 0; i < sizeof la; i++)
            compare_u64(&t, "dirty", (uint64_t)la[i] << 8 | i, (uint64_t)lb[i] << 8 | i);
    }
    return t.any;
}

bool disassemble(struct guest *g, uint64_t ip, char *text, size_t n)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter f;
    if (!decode(g, ip, &zi, zop)) {
        snprintf(text, n, "?");
        return false;
    }
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    return ZYAN_SUCCESS(
        ZydisFormatterFormatInstruction(&f, &zi, zop, zi.operand_count_visible, text, n, ip, NULL));
}

/* Zydis' names of flags are RFLAGS' bits. */
bool reads_undefined(struct guest *g, uint64_t ip, uint32_t *undefined)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode(g, ip, &zi, zop) || !zi.cpu_flags)
        return false;
    const ZydisAccessedFlags *f = zi.cpu_flags;
    if (f->tested & *undefined)
        return true;
    *undefined &= ~(f->modified | f->set_0 | f->set_1);
    *undefined |= f->undefined & FL_ARITH;
    return false;
}
