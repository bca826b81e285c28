/* SPDX-License-Identifier: MIT
 * Segments, event delivery and far transfers of the interpreter: short guest
 * programs in real, protected, virtual-8086 and 64-bit mode, and what they leave
 * in registers and on stacks. Handlers are `jmp .` at known places. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <string.h>
#include <virtcore/virtcore.h>

/* Where things are. */
enum {
    GDT = 0x1000,
    IDT = 0x2000,
    TSS = 0x3000,
    LDT = 0x3800,
    IST1 = 0x5000,
    USTACK = 0x6000,
    KSTACK = 0x7000,
    CODE = 0x8000,
    UCODE = 0x9000,
    HANDLERS = 0xa000, /* 16 bytes each */
    PML4 = 0x10000
};
/* Selectors. */
enum {
    K_CS32 = 0x08,
    K_DS = 0x10,
    U_CS32 = 0x1b,
    U_DS = 0x23,
    K_CS64 = 0x28,
    U_CS64 = 0x33,
    K_CS16 = 0x38,
    NP_DATA = 0x40,
    RO_DATA = 0x48,
    S_TSS = 0x50,  /* 16 bytes */
    S_GATE = 0x60, /* 16 bytes */
    CONF_CS = 0x70,
    S_LDT = 0x78, /* 16 bytes */
    DOWN_DATA = 0x88,
    S_TSS2 = 0x90, /* 16 bytes, available */
    S_TASK = 0xa0,
    GDT_LEN = 0xa8
};
enum { GATE_INT = 14, GATE_TRAP = 15, GATE_TASK = 5 };
enum { FL_CF = 1, FL_IF = 0x200, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000 };
enum { DB = 1, OF = 4, UD = 6, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13, PF = 14 };

static vc_vm *vm;
static vc_cpu *cpu;
static struct vc_exit ex;
static bool wide; /* long mode */

static void put(uint64_t gpa, const void *p, size_t n)
{
    cr_assert_eq(vc_write(vm, gpa, p, n), 0, "%s", vc_errmsg());
}
static void put64(uint64_t gpa, uint64_t v)
{
    put(gpa, &v, 8);
}
static uint64_t get(uint64_t gpa, unsigned n)
{
    uint64_t v = 0;
    cr_assert_eq(vc_read(vm, gpa, &v, n), 0, "%s", vc_errmsg());
    return v;
}
#define code(at, ...)                                                                              \
    do {                                                                                           \
        const uint8_t bytes_[] = {__VA_ARGS__};                                                    \
        put(at, bytes_, sizeof bytes_);                                                            \
    } while (0)

static uint64_t reg(enum vc_reg r)
{
    uint64_t v = 0;
    cr_assert_eq(vc_reg_get(cpu, r, &v), 0, "%s", vc_errmsg());
    return v;
}
static void set(enum vc_reg r, uint64_t v)
{
    cr_assert_eq(vc_reg_set(cpu, r, v), 0, "%s", vc_errmsg());
}
static struct vc_sregs sregs(void)
{
    struct vc_sregs s = {.size = sizeof s};
    cr_assert_eq(vc_sregs_get(cpu, &s), 0, "%s", vc_errmsg());
    return s;
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

static void gate(unsigned vector, unsigned type, unsigned dpl, uint16_t sel, unsigned ist)
{
    uint64_t off = HANDLERS + vector * 16;
    uint64_t lo = (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                  (uint64_t)(0x80 | dpl << 5 | type) << 40 | (off >> 16 & 0xffff) << 48;
    if (wide) {
        put64(IDT + vector * 16, lo);
        put64(IDT + vector * 16 + 8, off >> 32);
    } else {
        put64(IDT + vector * 8, lo);
    }
}
static void drop_gate(unsigned vector) /* not present */
{
    uint64_t at = IDT + vector * (wide ? 16 : 8) + 5;
    uint8_t b = (uint8_t)(get(at, 1) & 0x7f);
    put(at, &b, 1);
}

static void common(void)
{
    vm = vc_open("emu", NULL);
    cr_assert(vm, "%s", vc_errmsg());
    cr_assert_eq(vc_map(vm, 0, 4 << 20, VC_MEM_RWX), 0, "%s", vc_errmsg());
    for (unsigned v = 0; v < 256; v++)
        code(HANDLERS + v * 16, 0xeb, 0xfe);
    code(UCODE, 0xeb, 0xfe);

    put64(GDT + K_CS32, descriptor(0, 0xfffff, 0x9a, 0xc));
    put64(GDT + K_DS, descriptor(0, 0xfffff, 0x92, 0xc));
    put64(GDT + (U_CS32 & ~3), descriptor(0, 0xfffff, 0xfa, 0xc));
    put64(GDT + (U_DS & ~3), descriptor(0, 0xfffff, 0xf2, 0xc));
    put64(GDT + K_CS64, descriptor(0, 0, 0x9a, 0x2));
    put64(GDT + (U_CS64 & ~3), descriptor(0, 0, 0xfa, 0x2));
    put64(GDT + K_CS16, descriptor(0, 0xffff, 0x9a, 0x0));
    put64(GDT + NP_DATA, descriptor(0, 0xfffff, 0x12, 0xc));
    put64(GDT + RO_DATA, descriptor(0, 0xfff, 0x90, 0x4));
    put64(GDT + S_TSS, descriptor(TSS, 0x67, 0x8b, 0));
    put64(GDT + S_TSS2, descriptor(TSS, 0x67, 0x89, 0));
    put64(GDT + S_TASK, (uint64_t)0xe5 << 40 | (uint64_t)S_TSS2 << 16);
    put64(GDT + CONF_CS, descriptor(0, 0xfffff, 0x9e, 0xc));
    put64(GDT + S_LDT, descriptor(LDT, 0xf, 0x82, 0));
    put64(GDT + DOWN_DATA, descriptor(0, 0x0fff, 0x96, 0x4));
    put64(LDT + 8, descriptor(0x1234, 0xff, 0x92, 0x4));
}

static void start(enum vc_mode mode)
{
    cpu = vc_cpu_new(vm, mode, CODE);
    cr_assert(cpu, "%s", vc_errmsg());
    set(VC_REG_RSP, KSTACK);
}

static struct vc_segment flat(uint16_t sel, uint16_t attr)
{
    return (struct vc_segment){.limit = UINT32_MAX, .selector = sel, .attr = attr};
}

static void tables(uint16_t cs, uint16_t cs_attr)
{
    struct vc_sregs s = sregs();
    s.cs = flat(cs, cs_attr);
    s.ss = s.ds = s.es = s.fs = s.gs = flat(K_DS, 0xc93);
    s.tr = (struct vc_segment){.base = TSS, .limit = 0x67, .selector = S_TSS, .attr = 0x8b};
    s.gdt_base = GDT;
    s.gdt_limit = GDT_LEN - 1;
    s.idt_base = IDT;
    s.idt_limit = 256 * (wide ? 16 : 8) - 1;
    cr_assert_eq(vc_sregs_set(cpu, &s), 0, "%s", vc_errmsg());
    for (unsigned v = 0; v < 256; v++)
        gate(v, GATE_INT, 0, cs, 0);
}

static void real_mode(void)
{
    wide = false;
    common();
    for (unsigned v = 0; v < 256; v++)
        put(v * 4, (uint16_t[]){(uint16_t)(HANDLERS + v * 16), 0}, 4);
    start(VC_MODE_REAL16);
}
static void protected_mode(void)
{
    wide = false;
    common();
    start(VC_MODE_FLAT32);
    tables(K_CS32, 0xc9b);
    put(TSS + 4, (uint32_t[]){KSTACK, K_DS}, 8);
}
static void long_mode(void)
{
    wide = true;
    common();
    put64(PML4, (PML4 + 0x1000) | 7);
    put64(PML4 + 0x1000, (PML4 + 0x2000) | 7);
    put64(PML4 + 0x2000, 0x87);
    put64(PML4 + 0x2008, 0x200087);
    start(VC_MODE_LONG64);
    tables(K_CS64, 0xa9b);
    set(VC_REG_CR3, PML4);
    put64(TSS + 4, KSTACK);
    put64(TSS + 36, IST1);
}
static void done(void)
{
    cr_expect_eq(vc_close(vm), 0, "%s", vc_errmsg());
}

/* Runs n instructions. */
static void run(uint64_t n)
{
    struct vc_budget b = {.size = sizeof b, .insns = n};
    memset(&ex, 0, sizeof ex);
    ex.size = sizeof ex;
    cr_assert_eq(vc_run(cpu, &b, &ex), 0, "%s", vc_errmsg());
}
static void run_ok(uint64_t n, uint64_t rip)
{
    run(n);
    cr_expect_eq(ex.kind, VC_EXIT_BUDGET, "exit %u", ex.kind);
    cr_expect_eq(reg(VC_REG_RIP), rip, "rip %#llx, not %#llx", (long long)reg(VC_REG_RIP),
                 (long long)rip);
}
/* What lies on the stack, from the top. */
static uint64_t slot(unsigned i, unsigned size)
{
    return get(sregs().ss.base + reg(VC_REG_RSP) + i * size, size);
}
/* Runs n instructions and expects to be in a handler. */
static void run_to(uint64_t n, unsigned vector)
{
    run_ok(n, HANDLERS + vector * 16);
}
/* n instructions, the last of which faults with that error code. */
static void run_fault(uint64_t n, unsigned vector, uint32_t err, uint64_t ip)
{
    unsigned size = wide ? 8 : 4;
    run_to(n, vector);
    cr_expect_eq(slot(0, size), err, "vector %u: error code %#llx, not %#x", vector,
                 (long long)slot(0, size), err);
    cr_expect_eq(slot(1, size), ip, "vector %u: pushed ip %#llx, not %#llx", vector,
                 (long long)slot(1, size), (long long)ip);
    cr_expect(slot(3, size) & FL_RF);
}
/* To ring 3, in the way an operating system does it. */
static void to_user(void)
{
    set(VC_REG_RIP, CODE);
    if (wide) {
        uint64_t f[] = {UCODE, U_CS64, 0x202, USTACK, U_DS};
        code(CODE, 0x48, 0xcf);
        set(VC_REG_RSP, KSTACK - sizeof f);
        put(KSTACK - sizeof f, f, sizeof f);
    } else {
        uint32_t f[] = {UCODE, U_CS32, 0x202, USTACK, U_DS};
        code(CODE, 0xcf);
        set(VC_REG_RSP, KSTACK - sizeof f);
        put(KSTACK - sizeof f, f, sizeof f);
    }
    run_ok(1, UCODE);
    cr_expect_eq(reg(VC_REG_RSP), USTACK);
}

/* ---- real mode ------------------------------------------------------------------ */

TestSuite(real, .init = real_mode, .fini = done);

Test(real, int_and_iret)
{
    code(CODE, 0xcd, 0x21);           /* int 0x21 */
    code(HANDLERS + 0x21 * 16, 0xcf); /* iret */
    set(VC_REG_RFLAGS, 0x202 | FL_CF);
    run_to(1, 0x21);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 6);
    cr_expect_eq(slot(0, 2), CODE + 2);
    cr_expect_eq(slot(1, 2), 0);
    cr_expect_eq(slot(2, 2), 0x202 | FL_CF);
    cr_expect(!(reg(VC_REG_RFLAGS) & FL_IF));
    run_ok(1, CODE + 2);
    cr_expect_eq(reg(VC_REG_RFLAGS), 0x202 | FL_CF);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK);
}

Test(real, stack_wraps)
{
    code(CODE, 0xcd, 0x21);
    set(VC_REG_RSP, 4);
    run_to(1, 0x21);
    cr_expect_eq(reg(VC_REG_RSP), 0xfffe);
    cr_expect_eq(get(0xfffe, 2), CODE + 2);
    cr_expect_eq(get(2, 2), 2);
}

Test(real, far_calls_and_segments)
{
    code(CODE, 0x9a, 0x04, 0x00, 0x00, 0x09); /* call 0x900:4 */
    code(0x9004, 0xcb);                       /* retf */
    run_ok(1, 4);
    cr_expect_eq(sregs().cs.base, 0x9000);
    run_ok(1, CODE + 5);
    code(CODE + 5, 0x8e, 0xd8, 0x1e, 0x07); /* mov ds, ax; push ds; pop es */
    set(VC_REG_RAX, 0x1234);
    run_ok(3, CODE + 9);
    cr_expect_eq(sregs().ds.base, 0x12340);
    cr_expect_eq(sregs().es.selector, 0x1234);
}

Test(real, far_call_to_segment_with_offset)
{
    put(0x7800, (uint16_t[]){0x0010, 0x0a00}, 4);
    code(CODE, 0xff, 0x2e, 0x00, 0x78); /* jmp far [0x7800] */
    run_ok(1, 0x10);
    cr_expect_eq(sregs().cs.base, 0xa000);
}

Test(real, ivt_limit_ends_in_shutdown)
{
    struct vc_sregs s = sregs();
    s.idt_limit = 0x21 * 4 + 2;
    vc_sregs_set(cpu, &s);
    code(CODE, 0xcd, 0x21);
    run_to(1, GP);
    cr_expect_eq(slot(0, 2), CODE);
    s.idt_limit = 0;
    s.cs.base = s.cs.selector = 0;
    vc_sregs_set(cpu, &s);
    set(VC_REG_RIP, CODE);
    run(1);
    cr_expect_eq(ex.kind, VC_EXIT_SHUTDOWN);
}

Test(real, sti_holds_interrupts_for_one_instruction)
{
    code(CODE, 0xfb, 0x40, 0x40); /* sti; inc ax; inc ax */
    cr_assert_eq(vc_inject_irq(cpu, 0x40), 0);
    run_to(3, 0x40);
    cr_expect_eq(slot(0, 2), CODE + 2);
}

Test(real, protected_mode_instructions_are_undefined)
{
    code(CODE, 0x0f, 0x00, 0xc0); /* sldt */
    run_to(1, UD);
}

/* ---- protected mode ---------------------------------------------------------------- */

TestSuite(prot, .init = protected_mode, .fini = done);

Test(prot, selector_faults)
{
    const struct {
        uint16_t sel;
        unsigned vector;
        bool ss;
    } t[] = {
        {NP_DATA, NP, false}, {NP_DATA, SS, true},   {GDT_LEN, GP, false}, {S_TSS, GP, false},
        {K_CS32, GP, true},   {RO_DATA, GP, true},   {U_DS, GP, true},     {K_DS | 3, GP, false},
        {K_DS | 3, GP, true}, {K_DS | 4, GP, false}, {0, GP, true},
    };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        code(CODE, 0x8e, t[i].ss ? 0xd0 : 0xd8); /* mov ss/ds, ax */
        set(VC_REG_RIP, CODE);
        set(VC_REG_RSP, KSTACK);
        set(VC_REG_RAX, t[i].sel);
        run_fault(1, t[i].vector, t[i].sel & 0xfffc, CODE);
        cr_expect_eq(sregs().ds.selector, K_DS);
        cr_expect_eq(sregs().ss.selector, K_DS);
    }
}

Test(prot, loads_set_the_accessed_bit)
{
    code(CODE, 0x8e, 0xd8);
    set(VC_REG_RAX, RO_DATA);
    run_ok(1, CODE + 2);
    cr_expect_eq(get(GDT + RO_DATA + 5, 1), 0x91);
    cr_expect_eq(sregs().ds.limit, 0xfff);
}

Test(prot, limits)
{
    code(CODE, 0x8e, 0xd8, 0x8a, 0x03, 0x66, 0x8b, 0x03); /* mov ds,ax; mov al,[ebx]; mov ax,.. */
    set(VC_REG_RAX, RO_DATA);
    set(VC_REG_RBX, 0xfff);
    run_ok(2, CODE + 4);
    run_fault(1, GP, 0, CODE + 4);
    code(CODE, 0x8e, 0xd8, 0x88, 0x03); /* mov [ebx], al */
    set(VC_REG_RAX, RO_DATA);
    set(VC_REG_RIP, CODE);
    run_fault(2, GP, 0, CODE + 2);
    set(VC_REG_RAX, DOWN_DATA);
    set(VC_REG_RIP, CODE);
    run_fault(2, GP, 0, CODE + 2);
    set(VC_REG_RAX, DOWN_DATA);
    set(VC_REG_RBX, 0x1000);
    set(VC_REG_RIP, CODE);
    run_ok(2, CODE + 4);
    set(VC_REG_RAX, 0); /* null loads, and faults when used */
    set(VC_REG_RIP, CODE);
    run_fault(2, GP, 0, CODE + 2);
}

Test(prot, int_from_ring_3)
{
    to_user();
    gate(0x80, GATE_TRAP, 3, K_CS32, 0);
    code(UCODE, 0xcd, 0x80, 0xcd, 0x81);
    code(HANDLERS + 0x80 * 16, 0xcf);
    run_to(1, 0x80);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 20);
    cr_expect_eq(slot(0, 4), UCODE + 2);
    cr_expect_eq(slot(1, 4), U_CS32);
    cr_expect_eq(slot(2, 4), 0x202);
    cr_expect_eq(slot(3, 4), USTACK);
    cr_expect_eq(slot(4, 4), U_DS);
    cr_expect(reg(VC_REG_RFLAGS) & FL_IF);
    cr_expect_eq(sregs().ss.selector, K_DS);
    run_ok(1, UCODE + 2);
    cr_expect_eq(sregs().cs.selector, U_CS32);
    cr_expect_eq(sregs().ss.selector, U_DS);
    cr_expect_eq(sregs().ds.selector, 0, "DPL 0 data survives in ring 3");
    /* A gate of DPL 0 is not for ring 3. */
    run_fault(1, GP, 0x81 * 8 + 2, UCODE + 2);
}

Test(prot, gate_errors_say_ext)
{
    drop_gate(0x40);
    set(VC_REG_RFLAGS, 0x202);
    code(CODE, 0x90, 0x90);
    cr_assert_eq(vc_inject_irq(cpu, 0x40), 0);
    run_to(1, NP);
    cr_expect_eq(slot(0, 4), 0x40 * 8 + 2 + 1);
    code(CODE, 0xcd, 0x40); /* by software: no EXT */
    set(VC_REG_RIP, CODE);
    run_fault(1, NP, 0x40 * 8 + 2, CODE);
    gate(0x40, GATE_TASK, 0, S_TSS2, 0);
    set(VC_REG_RIP, CODE);
    run_fault(1, GP, 0x40 * 8 + 2, CODE);
    gate(0x40, GATE_INT, 0, NP_DATA, 0);
    set(VC_REG_RIP, CODE);
    run_fault(1, GP, NP_DATA, CODE);
}

Test(prot, double_and_triple_fault)
{
    drop_gate(UD);
    drop_gate(GP);
    code(CODE, 0x0f, 0x0b);
    run_to(1, NP); /* #UD is benign: the next one in its own right */
    cr_expect_eq(slot(0, 4), UD * 8 + 2 + 1);
    code(CODE, 0x8e, 0xd8);
    set(VC_REG_RAX, GDT_LEN);
    set(VC_REG_RIP, CODE);
    run_to(1, DF);
    cr_expect_eq(slot(0, 4), 0);
    cr_expect_eq(slot(1, 4), CODE);
    drop_gate(DF);
    set(VC_REG_RIP, CODE);
    run(1);
    cr_expect_eq(ex.kind, VC_EXIT_SHUTDOWN);
}

Test(prot, bad_inner_stack_is_ts)
{
    to_user();
    put(TSS + 8, (uint16_t[]){U_DS}, 2);
    gate(GP, GATE_INT, 0, CONF_CS, 0); /* these stay in ring 3 */
    gate(TS, GATE_INT, 0, CONF_CS, 0);
    gate(0x80, GATE_INT, 3, K_CS32, 0);
    code(UCODE, 0xcd, 0x80);
    run_to(1, TS);
    cr_expect_eq(slot(0, 4), U_DS & ~3);
    cr_expect_eq(slot(1, 4), UCODE);
    cr_expect_eq(sregs().cs.selector, CONF_CS | 3);
}

Test(prot, call_gate_with_parameters)
{
    uint64_t off = HANDLERS;
    put64(GDT + S_GATE,
          (off & 0xffff) | (uint64_t)K_CS32 << 16 | 2ull << 32 | 0xecull << 40 | (off >> 16) << 48);
    to_user();
    put(USTACK - 8, (uint32_t[]){0x11111111, 0x22222222}, 8);
    set(VC_REG_RSP, USTACK - 8);
    code(UCODE, 0x9a, 0, 0, 0, 0, S_GATE | 3, 0); /* call gate */
    code(HANDLERS, 0xca, 0x08, 0x00);             /* retf 8 */
    run_ok(1, HANDLERS);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 24);
    cr_expect_eq(slot(0, 4), UCODE + 7);
    cr_expect_eq(slot(1, 4), U_CS32);
    cr_expect_eq(slot(2, 4), 0x11111111);
    cr_expect_eq(slot(3, 4), 0x22222222);
    cr_expect_eq(slot(4, 4), USTACK - 8);
    cr_expect_eq(slot(5, 4), U_DS);
    run_ok(1, UCODE + 7);
    cr_expect_eq(reg(VC_REG_RSP), USTACK);
    cr_expect_eq(sregs().cs.selector, U_CS32);
}

Test(prot, far_jumps)
{
    const struct {
        uint16_t sel;
        int vector;
    } t[] = {{K_CS16, -1}, {CONF_CS, -1}, {K_DS, GP},        {S_TSS2, GP},
             {S_TASK, GP}, {0, GP},       {U_CS32 & ~3, GP}, {GDT_LEN, GP}};
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        set(VC_REG_RIP, CODE);
        set(VC_REG_RSP, KSTACK);
        code(CODE, 0xea, 0x00, 0x90, 0, 0, (uint8_t)t[i].sel, (uint8_t)(t[i].sel >> 8));
        if (t[i].vector < 0) {
            run_ok(1, UCODE);
            cr_expect_eq(sregs().cs.selector, t[i].sel);
            struct vc_sregs s = sregs();
            s.cs = flat(K_CS32, 0xc9b);
            vc_sregs_set(cpu, &s);
        } else {
            run_fault(1, (unsigned)t[i].vector, t[i].sel & 0xfffc, CODE);
        }
    }
}

Test(prot, to_virtual_8086_and_back)
{
    uint32_t f[] = {0x100, 0x0900, 0x23202, 0x800, 0x0500, 1, 2, 3, 4};
    code(CODE, 0xcf);
    set(VC_REG_RSP, KSTACK - sizeof f);
    put(KSTACK - sizeof f, f, sizeof f);
    gate(0x21, GATE_INT, 3, K_CS32, 0);
    code(0x9100, 0xcd, 0x21);
    run_ok(1, 0x100);
    struct vc_sregs s = sregs();
    cr_expect_eq(s.cs.base, 0x9000);
    cr_expect_eq(s.ss.base, 0x5000);
    cr_expect_eq(s.gs.base, 0x40);
    cr_expect(reg(VC_REG_RFLAGS) & FL_VM);
    run_to(1, 0x21);
    const uint32_t want[] = {0x102, 0x0900, 0x23202, 0x800, 0x0500, 1, 2, 3, 4};
    for (unsigned i = 0; i < 9; i++)
        cr_expect_eq(slot(i, 4), want[i], "slot %u is %#llx", i, (long long)slot(i, 4));
    s = sregs();
    cr_expect_eq(s.ds.selector | s.es.selector | s.fs.selector | s.gs.selector, 0);
    cr_expect(!(reg(VC_REG_RFLAGS) & FL_VM));
    cr_expect_eq(s.cs.selector, K_CS32);
}

Test(prot, virtual_8086_needs_iopl_3)
{
    uint32_t f[] = {0x100, 0x0900, 0x20202, 0x800, 0x0500, 0, 0, 0, 0};
    code(CODE, 0xcf);
    set(VC_REG_RSP, KSTACK - sizeof f);
    put(KSTACK - sizeof f, f, sizeof f);
    run_ok(1, 0x100);
    const uint8_t ops[][2] = {{0xcd, 0x21}, {0xfa, 0x90}, {0x9c, 0x90}, {0x9d, 0x90}, {0xcf, 0}};
    struct vc_sregs s = sregs();
    for (unsigned i = 0; i < 5; i++) {
        put(0x9100, ops[i], 2);
        run_fault(1, GP, 0, 0x100);
        vc_sregs_set(cpu, &s);
        set(VC_REG_RFLAGS, 0x20202);
        set(VC_REG_RSP, 0x800);
        set(VC_REG_RIP, 0x100);
    }
}

Test(prot, questions_about_selectors)
{
    const struct {
        uint16_t sel;
        uint8_t op[4];
        bool zf;
        uint32_t eax;
    } t[] = {
        {K_CS32, {0x0f, 0x02, 0xc1}, true, 0x00cf9a00}, /* lar eax, ecx */
        {S_TSS, {0x0f, 0x02, 0xc1}, true, 0x00008b00},
        {GDT_LEN, {0x0f, 0x02, 0xc1}, false, 7},
        {0, {0x0f, 0x02, 0xc1}, false, 7},
        {K_DS, {0x0f, 0x03, 0xc1}, true, UINT32_MAX}, /* lsl */
        {RO_DATA, {0x0f, 0x03, 0xc1}, true, 0xfff},
        {K_DS | 3, {0x0f, 0x03, 0xc1}, false, 7},
        {S_TASK, {0x0f, 0x03, 0xc1}, false, 7},
        {RO_DATA, {0x0f, 0x00, 0xe1}, true, 7},  /* verr */
        {RO_DATA, {0x0f, 0x00, 0xe9}, false, 7}, /* verw */
        {CONF_CS | 3, {0x0f, 0x00, 0xe1}, true, 7},
        {K_DS, {0x0f, 0x00, 0xe9}, true, 7},
    };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        put(CODE, t[i].op, 3);
        set(VC_REG_RIP, CODE);
        set(VC_REG_RAX, 7);
        set(VC_REG_RCX, t[i].sel);
        run_ok(1, CODE + 3);
        cr_expect_eq(!!(reg(VC_REG_RFLAGS) & 0x40), t[i].zf, "case %u", i);
        cr_expect_eq(reg(VC_REG_RAX), t[i].eax, "case %u: %#llx", i, (long long)reg(VC_REG_RAX));
    }
}

Test(prot, ldtr_and_tr)
{
    code(CODE, 0x0f, 0x00, 0xd0, 0x0f, 0x00, 0xd9, 0x8e, 0xda); /* lldt ax; ltr cx; mov ds,dx */
    set(VC_REG_RAX, S_LDT);
    set(VC_REG_RCX, S_TSS2);
    set(VC_REG_RDX, 0x0c); /* TI, index 1 */
    run_ok(3, CODE + 8);
    cr_expect_eq(get(GDT + S_TSS2 + 5, 1), 0x8b);
    cr_expect_eq(sregs().tr.selector, S_TSS2);
    cr_expect_eq(sregs().ds.base, 0x1234);
    set(VC_REG_RIP, CODE + 3); /* busy now */
    run_fault(1, GP, S_TSS2, CODE + 3);
    to_user();
    code(UCODE, 0x0f, 0x00, 0xd0);
    run_fault(1, GP, 0, UCODE);
}

Test(prot, nested_task_flag_is_refused)
{
    uint32_t f[] = {CODE, K_CS32, 2};
    code(CODE, 0xcf);
    put(KSTACK - 12, f, 12);
    set(VC_REG_RSP, KSTACK - 12);
    set(VC_REG_RFLAGS, 2 | FL_NT);
    run_fault(1, GP, 0, CODE);
}

Test(prot, popf_obeys_iopl)
{
    to_user();
    code(UCODE, 0x9d, 0xfa); /* popf; cli */
    put(USTACK - 4, (uint32_t[]){0x3ed7}, 4);
    set(VC_REG_RSP, USTACK - 4);
    run_ok(1, UCODE + 1);
    cr_expect_eq(reg(VC_REG_RFLAGS) & 0x3200, 0x200);
    cr_expect(reg(VC_REG_RFLAGS) & FL_CF);
    run_fault(1, GP, 0, UCODE + 1);
}

/* ---- 64-bit mode ------------------------------------------------------------------- */

TestSuite(wide, .init = long_mode, .fini = done);

Test(wide, int_and_iret)
{
    set(VC_REG_RSP, KSTACK - 3);
    code(CODE, 0xcd, 0x80);
    code(HANDLERS + 0x80 * 16, 0x48, 0xcf);
    run_to(1, 0x80);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 16 - 40);
    cr_expect_eq(slot(0, 8), CODE + 2);
    cr_expect_eq(slot(1, 8), K_CS64);
    cr_expect_eq(slot(3, 8), KSTACK - 3);
    cr_expect_eq(slot(4, 8), K_DS);
    run_ok(1, CODE + 2);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 3);
}

Test(wide, ring_3_and_ist)
{
    to_user();
    gate(0x80, GATE_INT, 3, K_CS64, 1);
    code(UCODE, 0xcd, 0x80);
    code(HANDLERS + 0x80 * 16, 0x48, 0xcf);
    run_to(1, 0x80);
    cr_expect_eq(reg(VC_REG_RSP), IST1 - 40);
    cr_expect_eq(slot(3, 8), USTACK);
    cr_expect_eq(slot(4, 8), U_DS);
    cr_expect_eq(sregs().ss.selector, 0);
    run_ok(1, UCODE + 2);
    cr_expect_eq(sregs().ss.selector, U_DS);
    gate(0x80, GATE_INT, 0, K_CS64, 1);
    set(VC_REG_RIP, UCODE);
    run_fault(1, GP, 0x80 * 8 + 2, UCODE);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 48);
}

Test(wide, gates_must_lead_to_64_bit_code)
{
    gate(0x80, GATE_INT, 0, K_CS32, 0);
    code(CODE, 0xcd, 0x80);
    run_fault(1, GP, K_CS32, CODE);
}

Test(wide, not_canonical)
{
    code(CODE, 0x0f, 0xa0); /* push fs */
    gate(SS, GATE_INT, 0, K_CS64, 1);
    set(VC_REG_RSP, 0x800000000008);
    run_to(1, SS);
    cr_expect_eq(slot(0, 8), 0);
    code(CODE, 0x48, 0xcf);
    set(VC_REG_RIP, CODE);
    set(VC_REG_RSP, KSTACK - 40);
    put(KSTACK - 40, (uint64_t[]){1ull << 47, K_CS64, 2, KSTACK, K_DS}, 40);
    run_fault(1, GP, 0, CODE);
}

Test(wide, compatibility_mode)
{
    uint64_t f[] = {UCODE, U_CS32, 0x202, USTACK, U_DS};
    code(CODE, 0x48, 0xcf);
    set(VC_REG_RSP, KSTACK - 40);
    put(KSTACK - 40, f, 40);
    gate(0x80, GATE_INT, 3, K_CS64, 0);
    code(UCODE, 0x40, 0xcd, 0x80); /* inc eax */
    run_ok(2, UCODE + 1);
    cr_expect_eq(reg(VC_REG_RAX), 1);
    run_to(1, 0x80);
    cr_expect_eq(slot(1, 8), U_CS32);
    /* A null stack segment does not go with it. */
    f[4] = 3;
    put(KSTACK - 40, f, 40);
    set(VC_REG_RSP, KSTACK - 40);
    set(VC_REG_RIP, CODE);
    run_fault(1, GP, 0, CODE);
}

Test(wide, call_gate)
{
    put64(GDT + S_GATE, (HANDLERS & 0xffff) | (uint64_t)K_CS64 << 16 | 0xecull << 40);
    put64(GDT + S_GATE + 8, 0);
    to_user();
    put(USTACK + 64, (uint8_t[]){0, 0, 0, 0, S_GATE | 3, 0}, 6);
    set(VC_REG_RBX, USTACK + 64);
    code(UCODE, 0xff, 0x1b);    /* call far [rbx] */
    code(HANDLERS, 0x48, 0xcb); /* retfq */
    run_ok(1, HANDLERS);
    cr_expect_eq(reg(VC_REG_RSP), KSTACK - 32);
    cr_expect_eq(slot(0, 8), UCODE + 2);
    cr_expect_eq(slot(1, 8), U_CS64);
    cr_expect_eq(slot(2, 8), USTACK);
    cr_expect_eq(slot(3, 8), U_DS);
    run_ok(1, UCODE + 2);
    cr_expect_eq(reg(VC_REG_RSP), USTACK);
    put64(GDT + S_GATE + 8, 1ull << 40);
    set(VC_REG_RIP, UCODE);
    run_fault(1, GP, S_GATE, UCODE);
}

Test(wide, syscall_and_sysret)
{
    code(CODE, 0x0f, 0x05); /* syscall */
    set(VC_REG_EFER, reg(VC_REG_EFER) & ~1ull);
    run_to(1, UD);
    set(VC_REG_EFER, reg(VC_REG_EFER) | 1);
    /* SYSRET: CS = 0x20 + 16, SS = 0x20 + 8. */
    cr_assert_eq(vc_msr_set(cpu, 0xc0000081, (uint64_t)0x23 << 48 | (uint64_t)K_CS64 << 32), 0);
    cr_assert_eq(vc_msr_set(cpu, 0xc0000082, HANDLERS + 0x900), 0);
    cr_assert_eq(vc_msr_set(cpu, 0xc0000084, 0x200), 0);
    to_user();
    code(UCODE, 0x0f, 0x05);
    code(HANDLERS + 0x900, 0x48, 0x0f, 0x07);
    run_ok(1, HANDLERS + 0x900);
    cr_expect_eq(reg(VC_REG_RCX), UCODE + 2);
    cr_expect_eq(reg(VC_REG_R11), 0x202);
    cr_expect_eq(reg(VC_REG_RFLAGS), 2);
    cr_expect_eq(sregs().cs.selector, K_CS64);
    cr_expect_eq(sregs().ss.selector, K_CS64 + 8);
    run_ok(1, UCODE + 2);
    cr_expect_eq(sregs().cs.selector, 0x33);
    cr_expect_eq(sregs().ss.selector, 0x2b);
    cr_expect_eq(reg(VC_REG_RFLAGS), 0x202);
    code(UCODE + 2, 0x0f, 0x05); /* TF counts as SYSRET leaves it */
    code(HANDLERS + 0x900, 0x41, 0x80, 0xcd, 0x00, 0x49, 0x81, 0xcb, 0, 1, 0, 0, 0x48, 0x0f, 0x07);
    run_to(4, DB); /* syscall; or r13b, 0; or r11, 0x100; sysretq */
    cr_expect_eq(slot(0, 8), UCODE + 4);
    cr_expect_eq(slot(1, 8), 0x33);
    code(CODE, 0x48, 0xcf);
    set(VC_REG_RIP, CODE);
    put(reg(VC_REG_RSP) + 16, (uint64_t[]){0x202, USTACK, U_DS}, 24);
    run_ok(1, UCODE + 4);
    code(UCODE + 4, 0x48, 0x0f, 0x07); /* not in ring 3 */
    run_fault(1, GP, 0, UCODE + 4);
    code(CODE, 0x0f, 0x34); /* sysenter: not in long mode */
    set(VC_REG_RIP, CODE);
    run_to(1, UD);
}

Test(wide, bases_of_fs_and_gs)
{
    set(VC_REG_CR4, reg(VC_REG_CR4) & ~0x10000ull);
    code(CODE, 0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase rax */
    run_to(1, UD);
    set(VC_REG_CR4, reg(VC_REG_CR4) | 0x10000);
    set(VC_REG_RIP, CODE);
    set(VC_REG_RAX, 0x123456789abc);
    run_ok(1, CODE + 5);
    cr_expect_eq(sregs().fs.base, 0x123456789abc);
    set(VC_REG_RAX, 1ull << 62);
    set(VC_REG_RIP, CODE);
    run_fault(1, GP, 0, CODE);
    code(CODE, 0x0f, 0x01, 0xf8); /* swapgs */
    cr_assert_eq(vc_msr_set(cpu, 0xc0000102, 0x5555), 0);
    set(VC_REG_RIP, CODE);
    run_ok(1, CODE + 3);
    cr_expect_eq(sregs().gs.base, 0x5555);
}

Test(wide, page_fault_in_delivery_is_a_double_fault)
{
    gate(PF, GATE_INT, 0, NP_DATA, 0);
    gate(DF, GATE_INT, 0, K_CS64, 1);
    code(CODE, 0x48, 0x8b, 0x03); /* mov rax, [rbx] */
    set(VC_REG_RBX, 0x12345678);
    run_to(1, DF);
    cr_expect_eq(reg(VC_REG_CR2), 0x12345678);
    cr_expect_eq(slot(1, 8), CODE);
    cr_expect_eq(reg(VC_REG_RSP), IST1 - 48);
}

Test(wide, umip)
{
    set(VC_REG_CR4, reg(VC_REG_CR4) | 0x800);
    code(CODE, 0x0f, 0x00, 0xc8); /* str eax: fine in ring 0 */
    run_ok(1, CODE + 3);
    cr_expect_eq(reg(VC_REG_RAX), S_TSS);
    to_user();
    code(UCODE, 0x0f, 0x00, 0xc8);
    run_fault(1, GP, 0, UCODE);
}
