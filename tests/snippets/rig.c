/* SPDX-License-Identifier: MIT
 * Kits, and running one snippet. */
#include "snip.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void rig_fail(struct rig *r, const char *fmt, ...)
{
    va_list ap;
    printf("FAIL %s on %s%s: ", r->snippet->name, r->backend,
           r->engine == VC_ENGINE_JIT        ? " (translated)"
           : r->engine == VC_ENGINE_LOCKSTEP ? " (lockstep)"
                                             : "");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    r->failed = true;
}

/* ---- memory and registers -------------------------------------------------------- */

void rig_put(struct rig *r, uint32_t at, uint64_t value, unsigned len)
{
    memcpy(r->ram + at, &value, len);
}

uint64_t rig_get(struct rig *r, uint32_t at, unsigned len)
{
    uint64_t v = 0;
    memcpy(&v, r->ram + at, len);
    return v;
}

uint64_t rig_reg(struct rig *r, enum vc_reg reg)
{
    uint64_t v = 0;
    if (vc_reg_get(r->cpu, reg, &v) != 0)
        rig_fail(r, "vc_reg_get %d: %s", reg, vc_errmsg());
    return v;
}

void rig_set(struct rig *r, enum vc_reg reg, uint64_t value)
{
    if (vc_reg_set(r->cpu, reg, value) != 0)
        rig_fail(r, "vc_reg_set %d to %#llx: %s", reg, (unsigned long long)value, vc_errmsg());
}

void rig_want_reg(struct rig *r, enum vc_reg reg, uint64_t value)
{
    static const char *const names[VC_REG_DR7 + 1] = {
        [VC_REG_RAX] = "rax",   [VC_REG_RCX] = "rcx", [VC_REG_RDX] = "rdx",
        [VC_REG_RBX] = "rbx",   [VC_REG_RSP] = "rsp", [VC_REG_RBP] = "rbp",
        [VC_REG_RSI] = "rsi",   [VC_REG_RDI] = "rdi", [VC_REG_R8] = "r8",
        [VC_REG_R9] = "r9",     [VC_REG_R10] = "r10", [VC_REG_R11] = "r11",
        [VC_REG_R12] = "r12",   [VC_REG_R13] = "r13", [VC_REG_R14] = "r14",
        [VC_REG_R15] = "r15",   [VC_REG_RIP] = "rip", [VC_REG_RFLAGS] = "rflags",
        [VC_REG_CR0] = "cr0",   [VC_REG_CR2] = "cr2", [VC_REG_CR3] = "cr3",
        [VC_REG_CR4] = "cr4",   [VC_REG_CR8] = "cr8", [VC_REG_EFER] = "efer",
        [VC_REG_XCR0] = "xcr0", [VC_REG_DR6] = "dr6", [VC_REG_DR7] = "dr7",
    };
    uint64_t v = rig_reg(r, reg);
    if (v != value)
        rig_fail(r, "%s is %#llx, not %#llx", names[reg] ? names[reg] : "?", (unsigned long long)v,
                 (unsigned long long)value);
}

void rig_sregs(struct rig *r, bool set, struct vc_sregs *s)
{
    s->size = sizeof *s;
    /* QEMU 7.2's software processor gives up on a TSS that SVM's guest has as busy. */
    if (set && getenv("VC_TEST_LAB"))
        s->tr.attr &= ~2;
    if ((set ? vc_sregs_set(r->cpu, s) : vc_sregs_get(r->cpu, s)) != 0)
        rig_fail(r, "vc_sregs: %s", vc_errmsg());
}

/* ---- kits -------------------------------------------------------------------------- */

static struct vc_segment flat(uint16_t selector, uint16_t attr)
{
    return (struct vc_segment){0, 0xffffffff, selector, attr};
}

void rig_gate(struct rig *r, unsigned vector, uint32_t handler, unsigned dpl)
{
    unsigned size = r->snippet->kit == KIT_LONG ? 16 : 8;
    rig_put(r, K_IDT + size * vector,
            (handler & 0xffff) | P_CODE << 16 | (uint64_t)(0x8e | dpl << 5) << 40 |
                (uint64_t)(handler >> 16) << 48,
            8);
    if (size == 16)
        rig_put(r, K_IDT + size * vector + 8, 0, 8);
}

static void fill_handlers(struct rig *r)
{
    for (unsigned v = 0; v < 256; v++) {
        uint32_t at = K_HANDLERS + 16 * v;
        rig_put(r, at, 0xf4, 1);
        if (r->snippet->kit == KIT_REAL)
            rig_put(r, 4 * v, (K_HANDLERS >> 4) << 16 | 16 * v, 4);
        else
            rig_gate(r, v, at, v == 0x40 ? 3 : 0);
    }
}

static void kit_real(struct rig *r)
{
    (void)r;
}

/* Descriptors: SDM volume 3, 3.4.5 and 3.5. */
static void kit_prot(struct rig *r)
{
    const uint64_t gdt[] = {
        0,
        0x00cf9b000000ffff, /* 08 code */
        0x00cf93000000ffff, /* 10 data */
        0x00cffb000000ffff, /* 18 code, ring 3 */
        0x00cff3000000ffff, /* 20 data, ring 3 */
        0x00008b0120000fff, /* 28 TSS at 0x12000, busy */
        0x0040930000000fff, /* 30 data up to 0xfff */
        0x0040970000000fff, /* 38 data from 0x1000 on: expand-down */
        0x00cf91000000ffff, /* 40 read-only data */
        0x00cf13000000ffff, /* 48 data, not present */
        0x00cf9f000000ffff, /* 50 conforming code */
        0x00cf99000000ffff, /* 58 code, not readable */
        0x0000ec0200082000, /* 60 call gate to 08:2000, two parameters, DPL 3 */
        0x0000e50000800000, /* 68 task gate to 80, DPL 3 */
        0x00009b000000ffff, /* 70 16-bit code */
        0x000093000000ffff, /* 78 16-bit data */
        0x0000890128000067, /* 80 another TSS, at 0x12800 */
    };
    memcpy(r->ram + K_GDT, gdt, sizeof gdt);
    rig_gate(r, 0x41, K_HANDLERS + 0x410, 0);
    rig_put(r, K_IDT + 8 * 0x42, 0x00006e0000080000, 8); /* not present */
    rig_put(r, K_IDT + 8 * 0x43, 0x0000e50000800000, 8); /* task gate */
    rig_put(r, K_TSS + 4, K_STACK, 4);
    rig_put(r, K_TSS + 8, P_DATA, 4);
    rig_put(r, K_TSS + 0x66, 0x68, 2);
    memset(r->ram + K_TSS + 0x68, 0xff, 0x400);
    rig_put(r, K_TSS + 0x68 + 4, 0xfe, 1); /* port 0x20 is allowed */

    struct vc_sregs s;
    rig_sregs(r, false, &s);
    s.cs = r->snippet->user ? flat(P_UCODE, 0xcfb) : flat(P_CODE, 0xc9b);
    s.ss = s.ds = s.es = s.fs = s.gs =
        r->snippet->user ? flat(P_UDATA, 0xcf3) : flat(P_DATA, 0xc93);
    s.tr = (struct vc_segment){K_TSS, 0xfff, 0x28, 0x8b};
    s.ldtr = (struct vc_segment){0, 0xffff, 0, 0x82};
    s.gdt_base = K_GDT;
    s.gdt_limit = sizeof gdt - 1;
    s.idt_base = K_IDT;
    s.idt_limit = 0x7ff;
    s.cr0 = 0x33;
    rig_sregs(r, true, &s);
}

void rig_page(struct rig *r, uint32_t page, uint64_t bits)
{
    rig_put(r, K_PT + 8 * (page >> 12), (bits & 1 ? page : 0) | bits, 8);
}

static void kit_long(struct rig *r)
{
    const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff, /* 08 code */
        0x00cf93000000ffff, /* 10 data */
        0x00cffb000000ffff, /* 18 32-bit code, ring 3 */
        0x00cff3000000ffff, /* 20 data, ring 3 */
        0x00affb000000ffff, /* 28 code, ring 3 */
        0x00008b0120000fff, /* 30 TSS at 0x12000 */
        0,
        0x00cf9b000000ffff, /* 40 32-bit code */
        0x00af1b000000ffff, /* 48 code, not present */
    };
    memcpy(r->ram + K_GDT, gdt, sizeof gdt);
    rig_put(r, K_IDT + 16 * E_DF + 4, 1, 1); /* IST1 */
    rig_put(r, K_TSS + 4, K_STACK, 8);
    rig_put(r, K_TSS + 0x24, K_IST, 8);
    rig_put(r, K_TSS + 0x66, 0x68, 2);
    memset(r->ram + K_TSS + 0x68, 0xff, 0x400);

    rig_put(r, K_PML4, (K_PML4 + 0x1000) | 0x67, 8);
    rig_put(r, K_PML4 + 0x1000, (K_PML4 + 0x2000) | 0x67, 8);
    rig_put(r, K_PML4 + 0x1008, MMIO | 0xe7, 8); /* a 1-GiB page */
    rig_put(r, K_PML4 + 0x2000, K_PT | 0x67, 8);
    rig_put(r, K_PML4 + 0x2008, 0x200000 | 0xe7, 8);
    for (uint32_t page = 0; page < RAM_SIZE; page += 4096)
        rig_page(r, page, page >= K_GDT && page < K_PML4 ? 0x63 : 0x67);
    rig_page(r, 0xa000, 0);
    rig_page(r, 0xb000, 0x65);
    rig_page(r, 0xc000, 0x63);
    rig_page(r, 0xd000, 0x67 | 1ull << 63);
    rig_page(r, 0xe000, 0x67 | 1ull << 51);

    struct vc_sregs s;
    rig_sregs(r, false, &s);
    s.cs = r->snippet->user ? flat(L_UCODE, 0xafb) : flat(L_CODE, 0xa9b);
    s.ss = r->snippet->user ? flat(L_UDATA, 0xcf3) : flat(L_DATA, 0xc93);
    s.ds = s.es = s.fs = s.gs = s.ss;
    s.tr = (struct vc_segment){K_TSS, 0xfff, 0x30, 0x8b};
    s.ldtr = (struct vc_segment){0, 0xffff, 0, 0x82};
    s.gdt_base = K_GDT;
    s.gdt_limit = sizeof gdt - 1;
    s.idt_base = K_IDT;
    s.idt_limit = 0xfff;
    s.cr0 = 0x80010033; /* PG WP NE ET MP PE */
    s.cr3 = K_PML4;
    s.cr4 = 0x620;  /* OSXMMEXCPT OSFXSR PAE */
    s.efer = 0xd00; /* NXE LMA LME */
    rig_sregs(r, true, &s);
}

bool rig_start(struct rig *r)
{
    static const enum vc_mode modes[] = {VC_MODE_REAL16, VC_MODE_FLAT32, VC_MODE_LONG64};
    const struct snippet *s = r->snippet;
    vc_errclear();
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = r->engine};
    r->vm = vc_open(r->backend, &opts);
    if (vc_map(r->vm, 0, RAM_SIZE, VC_MEM_RWX) != 0 ||
        vc_map(r->vm, ROM_BASE, 0x1000, VC_MEM_ROM) != 0 ||
        !(r->cpu = vc_cpu_new(r->vm, modes[s->kit], s->pc ? s->pc : 0x1000)) ||
        !(r->ram = vc_ptr(r->vm, 0, RAM_SIZE)) ||
        vc_write(r->vm, ROM_BASE, "\x78\x56\x34\x12", 4) != 0) {
        rig_fail(r, "%s", vc_errmsg());
        return false;
    }
    fill_handlers(r);
    if (s->kit == KIT_REAL)
        kit_real(r);
    else if (s->kit == KIT_PROT)
        kit_prot(r);
    else
        kit_long(r);
    rig_set(r, VC_REG_RSP, s->user || s->kit == KIT_REAL ? U_START_SP : K_START_SP);
    for (unsigned i = 0; i < sizeof s->parts / sizeof *s->parts && s->parts[i].len; i++)
        if (vc_write(r->vm, s->parts[i].at, s->parts[i].bytes, s->parts[i].len) != 0)
            rig_fail(r, "vc_write: %s", vc_errmsg());
    for (const struct reg_value *v = s->start; v->reg; v++)
        rig_set(r, (enum vc_reg)(v->reg - 1), v->value);
    if (s->prepare)
        s->prepare(r);
    memset(&r->exit, 0, sizeof r->exit);
    r->exit.size = sizeof r->exit;
    return !r->failed;
}

void rig_end(struct rig *r)
{
    if (vc_close(r->vm) != 0)
        rig_fail(r, "vc_close: %s", vc_errmsg());
    r->vm = NULL;
    r->cpu = NULL;
}

/* ---- exits -------------------------------------------------------------------------- */

bool rig_run(struct rig *r, uint64_t insns)
{
    /* A snippet that never ends is a failure, not a hang. */
    struct vc_budget budget = {.size = sizeof budget, .insns = insns, .ns = 5000000000ull};
    int rc = vc_run(r->cpu, &budget, &r->exit);
    if (rc != 0)
        rig_fail(r, "vc_run: %s: %s", vc_errname(rc), vc_errmsg());
    return rc == 0;
}

static void describe(const struct vc_exit *e, char *text, size_t n)
{
    switch (e->kind) {
    case VC_EXIT_PORT:
        snprintf(text, n, "port %s %#x, %u bytes, %#x", e->u.port.write ? "write" : "read",
                 e->u.port.port, e->u.port.len, e->u.port.data);
        break;
    case VC_EXIT_MMIO:
        snprintf(text, n, "MMIO %s %#llx, %u bytes, %#llx", e->u.mmio.write ? "write" : "read",
                 (unsigned long long)e->u.mmio.gpa, e->u.mmio.len,
                 (unsigned long long)e->u.mmio.data);
        break;
    default: snprintf(text, n, "exit %u at %#llx", e->kind, (unsigned long long)e->rip); break;
    }
}

static uint64_t low(uint64_t v, uint32_t len)
{
    return len >= 8 ? v : v & ((1ull << 8 * len) - 1);
}

bool rig_want(struct rig *r, const struct want *w)
{
    struct vc_exit *e = &r->exit, wanted = {.kind = w->kind};
    bool ok = e->kind == w->kind;
    if (w->kind == VC_EXIT_PORT) {
        wanted.u.port.port = (uint16_t)w->where;
        wanted.u.port.len = (uint8_t)w->len;
        wanted.u.port.write = w->write;
        wanted.u.port.data = (uint32_t)w->data;
        ok = ok && e->u.port.port == w->where && e->u.port.len == w->len &&
             e->u.port.write == w->write && (!w->write || low(e->u.port.data, w->len) == w->data);
    } else if (w->kind == VC_EXIT_MMIO) {
        wanted.u.mmio.gpa = w->where;
        wanted.u.mmio.len = w->len;
        wanted.u.mmio.write = w->write;
        wanted.u.mmio.data = w->data;
        ok = ok && e->u.mmio.gpa == w->where && e->u.mmio.len == w->len &&
             e->u.mmio.write == w->write && (!w->write || low(e->u.mmio.data, w->len) == w->data);
    } else if (w->kind == VC_EXIT_HCALL) {
        ok = ok && e->u.hcall.nr == w->where;
    }
    if (!ok) {
        char got[120], should[120];
        describe(e, got, sizeof got);
        describe(&wanted, should, sizeof should);
        rig_fail(r, "%s; expected %s", got, should);
        return false;
    }
    if (w->kind == VC_EXIT_PORT && !w->write)
        e->u.port.data = (uint32_t)w->data;
    if (w->kind == VC_EXIT_MMIO && !w->write)
        e->u.mmio.data = w->data;
    if (w->kind == VC_EXIT_HCALL)
        e->u.hcall.ret = w->data;
    return true;
}

static bool pushes_error(int vector)
{
    return vector == E_DF || (vector >= E_TS && vector <= E_PF) || vector == E_AC;
}

void rig_want_exception(struct rig *r, int vector, uint32_t error, uint64_t at)
{
    uint64_t rip = rig_reg(r, VC_REG_RIP), sp = rig_reg(r, VC_REG_RSP);
    if (r->snippet->kit == KIT_REAL) { /* CS is the handlers' segment */
        rip += K_HANDLERS;
        sp &= 0xffff;
    }
    if (r->exit.kind != VC_EXIT_HLT || rip < K_HANDLERS || rip >= K_HANDLERS + 0x1000) {
        rig_fail(r, "exit %u at rip %#llx; expected exception %d", r->exit.kind,
                 (unsigned long long)rip, vector);
        return;
    }
    int got = (int)(rip - K_HANDLERS) / 16;
    if (got != vector) {
        rig_fail(r, "exception %d (saved rip %#llx, cr2 %#llx); expected %d", got,
                 (unsigned long long)rig_get(r, (uint32_t)sp + (pushes_error(got) ? 8 : 0), 8),
                 (unsigned long long)rig_reg(r, VC_REG_CR2), vector);
        return;
    }
    unsigned word = r->snippet->kit == KIT_LONG ? 8 : r->snippet->kit == KIT_PROT ? 4 : 2;
    if (word != 2 && pushes_error(vector)) {
        uint64_t e = rig_get(r, (uint32_t)sp, word);
        if (e != error)
            rig_fail(r, "error code %#llx, not %#x", (unsigned long long)e, error);
        sp += word;
    }
    uint64_t saved = rig_get(r, (uint32_t)sp, word);
    if (at && saved != at)
        rig_fail(r, "saved instruction pointer %#llx, not %#llx", (unsigned long long)saved,
                 (unsigned long long)at);
}
