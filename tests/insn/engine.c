/* SPDX-License-Identifier: MIT
 * One instruction in the engine, through the library's public calls only. The guest is a vCPU at
 * CPL 3 with page tables, a GDT like Linux's and an IDT whose handlers are one HLT each, on a stack
 * of their own (SDM volume 3, 6.14.5), so that the vector shows in RIP. */
#include "insn.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define SYS_BASE     0x30000000ull /* supervisor pages: tables and handlers */
#define SYS_SIZE     0x20000u
#define SYS_PML4     (SYS_BASE + 0x0000)
#define SYS_PDPT     (SYS_BASE + 0x1000)
#define SYS_PD       (SYS_BASE + 0x2000)
#define SYS_PT_SCR   (SYS_BASE + 0x3000)
#define SYS_PT_CODE  (SYS_BASE + 0x4000)
#define SYS_PT_SYS   (SYS_BASE + 0x5000)
#define SYS_GDT      (SYS_BASE + 0x6000)
#define SYS_TSS      (SYS_BASE + 0x7000)
#define SYS_IDT      (SYS_BASE + 0x8000)
#define SYS_HANDLERS (SYS_BASE + 0x9000)
#define SYS_STACK    (SYS_BASE + 0x10000) /* top */
#define SYS_CPUID    (SYS_BASE + 0x1f000) /* CPUID; HLT */

#define PTE_P  0x001ull
#define PTE_W  0x002ull
#define PTE_U  0x004ull
#define PTE_AD 0x060ull

#define SEL_KCODE  0x10
#define SEL_CODE32 0x23
#define SEL_DATA   0x2b
#define SEL_CODE64 0x33
#define SEL_TSS    0x40

bool engine_absent;
unsigned engine_warmup;
static vc_vm *vm;
static vc_cpu *cpu;
static uint8_t *sys, *scratch;
static char why[512];
static enum engine_bits current_bits;
static uint64_t xcr0 = 7;

static bool fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return false;
}

const char *engine_why(void)
{
    return why;
}

bool engine_avx(void)
{
    return xcr0 & 4;
}

uint8_t *engine_mem(void)
{
    return scratch;
}

static void put64(uint64_t gpa, uint64_t v)
{
    memcpy(sys + (gpa - SYS_BASE), &v, 8);
}

static void map_pages(uint64_t pt, uint64_t base, uint64_t size, uint64_t bits)
{
    put64(SYS_PD + 8 * (base >> 21 & 511), pt | PTE_P | PTE_W | PTE_U | PTE_AD);
    for (uint64_t at = base; at < base + size; at += 4096)
        put64(pt + 8 * (at >> 12 & 511), at | bits | PTE_P | PTE_AD);
}

static void make_tables(void)
{
    put64(SYS_PML4, SYS_PDPT | PTE_P | PTE_W | PTE_U | PTE_AD);
    put64(SYS_PDPT, SYS_PD | PTE_P | PTE_W | PTE_U | PTE_AD);
    map_pages(SYS_PT_SCR, SCR_BASE, SCR_SIZE, PTE_W | PTE_U);
    map_pages(SYS_PT_CODE, CODE_BASE, CODE_SIZE, PTE_U);
    map_pages(SYS_PT_SYS, SYS_BASE, SYS_SIZE, PTE_W);
    /* Descriptors, SDM 3.4.5: access byte at bits 40-47, flags G D/B L at 55-53. */
    put64(SYS_GDT + SEL_KCODE, 0x00af9b000000ffff);
    put64(SYS_GDT + 0x18, 0x00cf93000000ffff);
    put64(SYS_GDT + 0x20, 0x00cffb000000ffff);
    put64(SYS_GDT + 0x28, 0x00cff3000000ffff);
    put64(SYS_GDT + 0x30, 0x00affb000000ffff);
    put64(SYS_GDT + SEL_TSS,
          0x00008b0000000067 | (SYS_TSS & 0xffffff) << 16 | (SYS_TSS >> 24 & 0xff) << 56);
    put64(SYS_GDT + SEL_TSS + 8, SYS_TSS >> 32);
    put64(SYS_TSS + 0x24, SYS_STACK);      /* IST1 */
    put64(SYS_TSS + 4, SYS_STACK);         /* RSP0 */
    sys[SYS_TSS - SYS_BASE + 0x66] = 0x68; /* no I/O permission bitmap */
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = SYS_HANDLERS + 16 * v;
        uint64_t dpl = v == VEC_BP || v == VEC_OF ? 3 : 0;
        put64(SYS_IDT + 16 * v, (to & 0xffff) | SEL_KCODE << 16 | 1ull << 32 |
                                    (0x8e | dpl << 5) << 40 | (to >> 16 & 0xffff) << 48);
        put64(SYS_IDT + 16 * v + 8, to >> 32);
        sys[to - SYS_BASE] = 0xf4;
    }
    memcpy(sys + (SYS_CPUID - SYS_BASE), "\x0f\xa2\xf4", 3);
}

/* The segments of each kind of code; what is 0 is unusable. */
static bool set_mode(enum engine_bits bits, bool user)
{
    struct vc_sregs s = {.size = sizeof s};
    if (vc_sregs_get(cpu, &s) != 0)
        return fail("vc_sregs_get: %s", vc_errmsg());
    struct vc_segment null = {0}, data = {0, 0xffffffff, SEL_DATA, 0xcf3};
    s.ss = data;
    s.es = s.ds = s.fs = s.gs = bits == ENGINE_64 ? null : data;
    s.gs.base = GS_BASE;
    s.cs = (struct vc_segment){0, 0xffffffff, SEL_CODE64, 0xafb};
    if (bits == ENGINE_32) {
        s.cs.selector = SEL_CODE32;
        s.cs.attr = 0xcfb;
    } else if (bits == ENGINE_16) { /* compatibility mode, 16-bit code and stack */
        s.cs.selector = SEL_CODE32;
        s.cs.base = CODE_BASE;
        s.cs.attr = 0x8fb;
        s.ss.attr = 0x8f3;
    }
    if (!user) {
        s.cs = (struct vc_segment){0, 0xffffffff, SEL_KCODE, 0xa9b};
        s.ss = (struct vc_segment){0, 0xffffffff, 0x18, 0xc93};
    }
    s.tr = (struct vc_segment){SYS_TSS, 0x67, SEL_TSS, 0x8b};
    s.ldtr = (struct vc_segment){0, 0xffff, 0, 0x82};
    s.gdt_base = SYS_GDT;
    s.gdt_limit = 0x4f;
    s.idt_base = SYS_IDT;
    s.idt_limit = 0xfff;
    s.cr3 = SYS_PML4;
    s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    s.cr4 = 0x40620;    /* OSXSAVE OSXMMEXCPT OSFXSR PAE */
    s.efer = 0xd01;     /* NXE LMA LME SCE */
    if (vc_sregs_set(cpu, &s) != 0)
        return fail("vc_sregs_set: %s", vc_errmsg());
    current_bits = bits;
    return true;
}

static void log_line(void *ud, int level, const char *line)
{
    (void)ud;
    fprintf(stderr, "engine: log %d: %s\n", level, line);
}

static uint32_t engine_number(const char *name)
{
    return strcmp(name, "jit") == 0      ? VC_ENGINE_JIT
           : strcmp(name, "interp") == 0 ? VC_ENGINE_INTERP
                                         : VC_ENGINE_AUTO;
}

bool engine_start(const char *backend, const char *model, const char *engine)
{
    if (engine_absent) {
        static uint8_t pages[SCR_SIZE];
        scratch = pages;
        return true;
    }
    struct vc_vm_opts opts = {.size = sizeof opts,
                              .cpu_model = model,
                              .log = log_line,
                              .log_level = VC_LOG_WARN,
                              .engine = engine_number(engine)};
    vm = vc_open(backend, &opts);
    if (!vm)
        return fail("vc_open: %s", vc_errmsg());
    if (vc_map(vm, SCR_BASE, SCR_SIZE, VC_MEM_RWX) != 0 ||
        vc_map(vm, CODE_BASE, CODE_SIZE, VC_MEM_RWX) != 0 ||
        vc_map(vm, SYS_BASE, SYS_SIZE, VC_MEM_RWX) != 0)
        return fail("vc_map: %s", vc_errmsg());
    sys = vc_ptr(vm, SYS_BASE, SYS_SIZE);
    scratch = vc_ptr(vm, SCR_BASE, SCR_SIZE);
    if (!sys || !scratch)
        return fail("vc_ptr: %s", vc_errmsg());
    make_tables();
    cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE_BASE);
    if (!cpu)
        return fail("vc_cpu_new: %s", vc_errmsg());
    struct vc_fpu fpu = {.size = sizeof fpu};
    if (vc_fpu_get(cpu, &fpu) != 0)
        return fail("vc_fpu_get: %s", vc_errmsg());
    if (!set_mode(ENGINE_64, true))
        return false;
    uint32_t leaf[4];
    engine_cpuid(0xd, 0, leaf);
    fpu.xcr0 = xcr0 = leaf[0] & 7;
    if (vc_fpu_set(cpu, &fpu) != 0)
        return fail("vc_fpu_set: %s", vc_errmsg());
    return true;
}

void engine_stop(void)
{
    vc_close(vm);
    vm = NULL;
}

bool engine_place(const struct code *code)
{
    if (engine_absent) {
        native_place(code);
        return true;
    }
    uint8_t bytes[CODE_MAX + 2];
    memset(bytes, 0xcc, sizeof bytes);
    memcpy(bytes, code->bytes, code->len);
    if (vc_write(vm, code->ip, bytes, code->len + 2u) != 0 ||
        (code->taken && vc_write(vm, code->taken, "\xcc\xcc", 2) != 0))
        return fail("vc_write: %s", vc_errmsg());
    return true;
}

/* 16-bit IPs count from the code pages' start. */
static uint64_t cs_base(void)
{
    return current_bits == ENGINE_16 ? CODE_BASE : 0;
}

static bool load(const struct code *code, const struct state *in)
{
    struct vc_gprs g = {.size = sizeof g, .rip = code->ip - cs_base(), .rflags = in->rflags};
    memcpy(g.gpr, in->gpr, sizeof g.gpr);
    if (vc_gprs_set(cpu, &g) != 0)
        return fail("vc_gprs_set: %s", vc_errmsg());
    struct vc_fpu fpu;
    fpu.size = sizeof fpu;
    fpu.xcr0 = xcr0;
    memcpy(fpu.xsave, in->xsave, XS_SIZE);
    if (vc_fpu_set(cpu, &fpu) != 0)
        return fail("vc_fpu_set: %s", vc_errmsg());
    return true;
}

/* Takes the exception's frame off the handler's stack. */
static void unwind(const struct vc_gprs *g, struct state *out)
{
    uint64_t frame[6];
    unsigned words = (unsigned)(SYS_STACK - g->gpr[RSP]) / 8;
    memset(frame, 0, sizeof frame);
    memcpy(frame + (6 - words), sys + (g->gpr[RSP] - SYS_BASE), 8 * words);
    out->err = words == 6 ? (uint32_t)frame[0] : 0;
    out->rip = frame[1] + cs_base();
    out->rflags = frame[3];
    out->gpr[RSP] = frame[4];
    out->cr2 = 0;
    if (out->vector == VEC_PF)
        vc_reg_get(cpu, VC_REG_CR2, &out->cr2);
}

static bool run_once(const struct code *code, enum engine_bits bits, bool budgeted,
                     const struct state *in, struct state *out)
{
    if (engine_absent) {
        memcpy((void *)SCR_BASE, scratch, SCR_SIZE);
        native_run(code, in, out);
        memcpy(scratch, (void *)SCR_BASE, SCR_SIZE);
        return true;
    }
    /* An exception leaves the vCPU at CPL 0. */
    static bool in_handler;
    if ((in_handler || bits != current_bits) && !set_mode(bits, true))
        return false;
    in_handler = false;
    if (!load(code, in))
        return false;

    struct vc_exit ex = {.size = sizeof ex};
    struct vc_budget budget = {.size = sizeof budget, .insns = budgeted ? 1 : 100000};
    struct vc_gprs g = {.size = sizeof g};
    for (unsigned n = 0;; n++) {
        int rc = vc_run(cpu, &budget, &ex);
        if (rc != 0)
            return fail("vc_run: %s: %s", vc_errname(rc), vc_errmsg());
        if (vc_gprs_get(cpu, &g) != 0)
            return fail("vc_gprs_get: %s", vc_errmsg());
        if (!code->rep || !budgeted || ex.kind != VC_EXIT_BUDGET || g.rip + cs_base() != code->ip ||
            n > 4000)
            break;
    }
    memcpy(out->gpr, g.gpr, sizeof out->gpr);
    out->rip = g.rip + cs_base();
    out->rflags = g.rflags;
    out->vector = VEC_NONE;
    out->err = 0;
    out->cr2 = 0;
    if (ex.kind != VC_EXIT_BUDGET && ex.kind != VC_EXIT_HLT)
        return fail("exit kind %u at rip %#llx", ex.kind, (unsigned long long)ex.rip);
    if (g.rip >= SYS_HANDLERS && g.rip < SYS_HANDLERS + 0x1000) {
        out->vector = (int)(g.rip - SYS_HANDLERS) / 16;
        in_handler = true;
        unwind(&g, out);
        /* The INT3 that ends an unbudgeted run. */
        uint64_t after = code->ip + code->len;
        if (!budgeted && out->vector == VEC_BP &&
            (out->rip == after + 1 || (code->taken && out->rip == code->taken + 1))) {
            out->vector = VEC_NONE;
            out->rip--;
        }
    } else if (ex.kind == VC_EXIT_HLT) {
        return fail("HLT at rip %#llx", (unsigned long long)g.rip);
    } else if (!budgeted) {
        return fail("still running at rip %#llx", (unsigned long long)g.rip);
    }
    struct vc_fpu fpu;
    fpu.size = sizeof fpu;
    if (vc_fpu_get(cpu, &fpu) != 0)
        return fail("vc_fpu_get: %s", vc_errmsg());
    memcpy(out->xsave, fpu.xsave, XS_SIZE);
    return true;
}

bool engine_run(const struct code *code, enum engine_bits bits, bool budgeted,
                const struct state *in, struct state *out)
{
    if (!engine_warmup || engine_absent || code->loops)
        return run_once(code, bits, budgeted, in, out);
    static uint8_t mem[SCR_SIZE];
    memcpy(mem, scratch, SCR_SIZE);
    for (unsigned i = 0; i < engine_warmup; i++) {
        if (!run_once(code, bits, false, in, out))
            return false;
        memcpy(scratch, mem, SCR_SIZE);
    }
    return run_once(code, bits, false, in, out);
}

void engine_cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    struct vc_gprs g = {.size = sizeof g, .rip = SYS_CPUID, .rflags = 2};
    struct vc_exit ex = {.size = sizeof ex};
    struct vc_budget budget = {.size = sizeof budget, .insns = 16};
    g.gpr[RAX] = leaf;
    g.gpr[RCX] = sub;
    memset(out, 0, 16);
    if (set_mode(ENGINE_64, false) && vc_gprs_set(cpu, &g) == 0 && vc_run(cpu, &budget, &ex) == 0 &&
        vc_gprs_get(cpu, &g) == 0) {
        out[0] = (uint32_t)g.gpr[RAX];
        out[1] = (uint32_t)g.gpr[RBX];
        out[2] = (uint32_t)g.gpr[RCX];
        out[3] = (uint32_t)g.gpr[RDX];
    }
    set_mode(ENGINE_64, true);
}
