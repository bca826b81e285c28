/* SPDX-License-Identifier: MIT
 * One partition: its tables, loading a program, running it to a count. */
#include "lockstep.h"
#include <stdio.h>
#include <string.h>

#define PTE_P   0x001ull
#define PTE_W   0x002ull
#define PTE_U   0x004ull
#define PTE_AD  0x060ull
#define PTE_FIX 0x200ull /* for software: the fault handler may repair it */

#define SEL_KCODE   0x10
#define SEL_KDATA   0x18
#define SEL_UDATA   0x2b
#define SEL_UCODE32 0x23
#define SEL_UCODE   0x33
#define SEL_TSS     0x40
#define SEL_FS      0x53
#define SEL_GS      0x5b

static void log_line(void *ud, int level, const char *line)
{
    (void)ud;
    fprintf(stderr, "log %d: %s\n", level, line);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    struct rng r = {a ^ b * 0xd6e8feb86659fd93ull};
    return rnd(&r);
}

/* A device's answers: the same on both sides, as long as they do the same. */
static uint64_t traffic(struct guest *g, uint64_t addr, uint32_t len, bool write, uint64_t data)
{
    uint64_t mask = len >= 8 ? ~0ull : (1ull << 8 * len) - 1;
    uint64_t answer = mix(g->seed, ++g->events);
    g->traffic = mix(g->traffic, addr ^ (uint64_t)len << 48 ^ (uint64_t)write << 60);
    if (write)
        g->traffic = mix(g->traffic, data & mask);
    return answer & mask;
}

static int on_access(void *ud, struct vc_access *a)
{
    struct guest *g = ud;
    uint64_t v = traffic(g, a->addr, a->len, a->write, a->data);
    if (!a->write)
        a->data = v;
    if (g->kicks && v % 16 == 3)
        vc_kick(a->cpu);
    return 0;
}

bool guest_open(struct guest *g, uint32_t engine, bool logs)
{
    struct vc_vm_opts o = {
        .size = sizeof o, .log = log_line, .log_level = VC_LOG_WARN, .engine = engine};
    *g = (struct guest){.logs = logs, .exit = {.size = sizeof g->exit}};
    g->vm = vc_open("emu", &o);
    if (!g->vm || vc_map(g->vm, 0, RAM_SIZE, VC_MEM_RWX | (logs ? VC_MEM_LOG : 0)) != 0 ||
        !(g->ram = vc_ptr(g->vm, 0, RAM_SIZE)) ||
        !(g->cpu = vc_cpu_new(g->vm, VC_MODE_LONG64, 0)) ||
        vc_trap(g->vm, VC_SPACE_MMIO, P_MMIO, 4096, on_access, g) < 0 ||
        vc_trap(g->vm, VC_SPACE_PORT, 0x80, 0x40, on_access, g) < 0) {
        fprintf(stderr, "lockstep: %s\n", vc_errmsg());
        return false;
    }
    return true;
}

void guest_close(struct guest *g)
{
    vc_close(g->vm);
    g->vm = NULL;
}

static void put64(struct guest *g, uint64_t gpa, uint64_t v)
{
    vc_write(g->vm, gpa, &v, 8);
}

static void map(struct guest *g, unsigned at, unsigned pages, uint64_t gpa, uint64_t bits)
{
    for (unsigned i = 0; i < pages; i++)
        put64(g, P_PT + 8 * ((at >> 12) + i), (gpa + 4096ull * i) | bits);
}

static void make_tables(struct guest *g, const struct program *p)
{
    const uint64_t up = PTE_P | PTE_W | PTE_U | PTE_AD, rw = PTE_P | PTE_W | PTE_AD;
    const uint64_t own = rw | (p->user ? PTE_U : 0), w = p->window;
    put64(g, P_PML4 + 8 * (w >> 39 & 511), P_PDPT | up);
    put64(g, P_PDPT + 8 * (w >> 30 & 511), P_PD | up);
    put64(g, P_PD + 8 * (w >> 21 & 511), P_PT | up);
    put64(g, P_PD + 8 * ((w >> 21 & 511) + 1), P_PT | up);
    map(g, W_CODE, CODE_PAGES, P_CODE, own | PTE_FIX);
    map(g, W_CODE_RW, CODE_PAGES, P_CODE, own);
    map(g, W_DATA, DATA_PAGES, P_DATA, own);
    /* Plain pages in another order, so that one taken for another shows. */
    static const uint8_t order[] = {0, 4, 7, 2, 8, 5, 1, 3, 6};
    for (unsigned i = 0; i < sizeof order; i++)
        map(g, W_DATA + i * 4096, 1, P_DATA + order[i] * 4096u, own);
    map(g, W_DATA + D_BAD, 1, P_DATA + D_BAD, own & ~PTE_W);
    if (p->features & F_MODE) /* a user page, with a protection key where there are some */
        map(g, W_DATA + D_BAD + 4096, 1, P_DATA + D_BAD + 4096, up | 1ull << 59);
    else
        map(g, W_DATA + D_BAD + 4096, 1, 0, 0);
    map(g, W_DATA + D_FIXED, 2, P_DATA + D_FIXED, own | PTE_FIX);
    map(g, W_STACK, 4, P_STACK, own);
    map(g, W_MMIO, 2, P_MMIO, own);
    map(g, W_SYS, P_CODE >> 12, 0, rw);
    if (p->narrow) /* up to 4 GiB, in one of the windows */
        map(g, WINDOW - 4096, 1, P_DATA, own);
}

/* Data of ring 3 with its limit in pages. */
static uint64_t data_descriptor(uint64_t base, uint32_t limit)
{
    return 0x00c0f30000000000 | (limit >> 12 & 0xffff) | (uint64_t)(limit >> 28) << 48 |
           (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
}

static void make_descriptors(struct guest *g, const struct program *p, uint64_t sys)
{
    uint64_t tss = sys + P_TSS;
    put64(g, P_GDT + SEL_KCODE, 0x00af9b000000ffff);
    put64(g, P_GDT + SEL_KDATA, 0x00cf93000000ffff);
    put64(g, P_GDT + 0x20, 0x00cffb000000ffff);
    put64(g, P_GDT + 0x28, 0x00cff3000000ffff);
    put64(g, P_GDT + 0x30, 0x00affb000000ffff);
    put64(g, P_GDT + SEL_TSS,
          0x00008b0000000067 | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56);
    put64(g, P_GDT + SEL_TSS + 8, tss >> 32);
    put64(g, P_GDT + 0x50, data_descriptor(p->fs, p->fs_limit));
    put64(g, P_GDT + 0x58, data_descriptor(p->gs, UINT32_MAX));
    uint8_t t[0x68] = {[0x66] = 0x68}; /* no I/O permission bitmap */
    uint64_t ist1 = sys + 0x1c000, ist2 = sys + 0x1d000, ist3 = sys + 0x1f000;
    memcpy(t + 4, &ist1, 8);
    memcpy(t + 0x24, &ist1, 8);
    memcpy(t + 0x2c, &ist2, 8);
    memcpy(t + 0x34, &ist3, 8);
    vc_write(g->vm, P_TSS, t, sizeof t);
    for (unsigned v = 0; v < 80; v++) {
        uint64_t to = sys + P_HANDLERS + 16 * v, dpl = v >= 3 ? 3 : 0,
                 ist = v == 2 || v == 3 ? v : 1;
        put64(g, P_IDT + 16 * v,
              (to & 0xffff) | SEL_KCODE << 16 | ist << 32 | (0x8e | dpl << 5) << 40 |
                  (to >> 16 & 0xffff) << 48);
        put64(g, P_IDT + 16 * v + 8, to >> 32);
    }
}

static bool set_registers(struct guest *g, const struct program *p)
{
    uint64_t sys = p->window + W_SYS;
    struct vc_sregs s = {.size = sizeof s};
    struct vc_segment null = {0}, udata = {0, 0xffffffff, SEL_UDATA, 0xcf3};
    struct vc_segment kdata = {0, 0xffffffff, SEL_KDATA, 0xc93};
    vc_sregs_get(g->cpu, &s);
    s.cs = p->user ? (struct vc_segment){0, 0xffffffff, SEL_UCODE, 0xafb}
                   : (struct vc_segment){0, 0xffffffff, SEL_KCODE, 0xa9b};
    s.ss = p->user ? udata : kdata;
    s.ds = s.es = p->user ? udata : kdata;
    s.fs = s.gs = null;
    if (p->narrow) {
        s.cs = (struct vc_segment){0, 0xffffffff, SEL_UCODE32, 0xcfb};
        s.fs = (struct vc_segment){p->fs, p->fs_limit, SEL_FS, 0xcf3};
        s.gs = (struct vc_segment){p->gs, 0xffffffff, SEL_GS, 0xcf3};
    }
    s.fs.base = p->fs;
    s.gs.base = p->gs;
    s.tr = (struct vc_segment){sys + P_TSS, 0x67, SEL_TSS, 0x8b};
    s.ldtr = (struct vc_segment){0, 0xffff, 0, 0x82};
    s.gdt_base = sys + P_GDT;
    s.gdt_limit = 0x5f;
    s.idt_base = sys + P_IDT;
    s.idt_limit = 80 * 16 - 1;
    s.cr3 = P_PML4;
    s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    s.cr2 = 0;
    s.cr4 = 0x506a0; /* OSXSAVE FSGSBASE OSXMMEXCPT OSFXSR PGE PAE */
    s.efer = 0xd01;  /* NXE LMA LME SCE */
    if (vc_sregs_set(g->cpu, &s) != 0)
        return false;
    for (unsigned i = 0; p->features & F_MODE && i < 3; i++) {
        static const uint64_t wanted[] = {0x20000, 0x200000, 0x400000}; /* PCIDE, SMAP, PKE */
        s.cr4 |= wanted[i];
        if (vc_sregs_set(g->cpu, &s) != 0)
            s.cr4 &= ~wanted[i];
    }
    vc_msr_set(g->cpu, 0xc0000081, (uint64_t)0x23 << 48 | (uint64_t)SEL_KCODE << 32);
    vc_msr_set(g->cpu, 0xc0000082,
               sys + P_HANDLERS + (uint64_t)(handlers_syscall - handlers_begin));
    vc_msr_set(g->cpu, 0xc0000084, 0x47700);
    struct vc_gprs r = {.size = sizeof r, .rip = p->window + W_CODE, .rflags = p->rflags};
    memcpy(r.gpr, p->gpr, sizeof r.gpr);
    r.gpr[4] = p->window + STACK_TOP;
    if (vc_gprs_set(g->cpu, &r) != 0)
        return false;
    struct vc_fpu f = {.size = sizeof f};
    vc_fpu_get(g->cpu, &f);
    memset(f.xsave, 0, sizeof f.xsave);
    uint16_t fcw = 0x37f;
    uint32_t mxcsr = 0x1f80;
    memcpy(f.xsave, &fcw, 2);
    memcpy(f.xsave + 24, &mxcsr, 4);
    memcpy(f.xsave + 160, p->data, 256);
    memcpy(f.xsave + 576, p->data + 256, 256);
    f.xcr0 = 7;
    f.xsave[512] = 7;
    return vc_fpu_set(g->cpu, &f) == 0;
}

bool guest_load(struct guest *g, const struct program *p)
{
    static const uint8_t zeros[RAM_SIZE];
    uint64_t sys = p->window + W_SYS;
    struct handler_data d = {
        .window = p->window,
        .head = p->window + W_CODE,
        .stack = p->window + STACK_TOP,
        .pt = sys + P_PT,
        .lens = sys + P_LENS,
        .log = sys + P_LOG,
        .ncode = (p->size + 4095) >> 12,
        .code_size = CODE_SIZE,
        .cr3 = P_PML4,
        .rsp_private = sys + 0x1e000,
        .delta = P_CODE ^ P_ALT,
    };
    if (g->trap)
        guest_toggle_trap(g);
    vc_cpu_reset(g->cpu, VC_MODE_LONG64, 0);
    vc_write(g->vm, 0, zeros, sizeof zeros);
    make_tables(g, p);
    make_descriptors(g, p, sys);
    vc_write(g->vm, P_HANDLERS, handlers_begin, (size_t)(handlers_end - handlers_begin));
    vc_write(g->vm, P_HANDLERS + 4096, &d, sizeof d);
    vc_write(g->vm, P_LENS, p->lens, sizeof p->lens);
    vc_write(g->vm, P_CODE, p->code, sizeof p->code);
    vc_write(g->vm, P_ALT, p->alt, sizeof p->alt);
    vc_write(g->vm, P_DATA, p->data, sizeof p->data);
    g->seed = p->seed;
    g->events = g->traffic = 0;
    g->kicks = p->features & F_EVENTS;
    g->rc = 0;
    g->exit.kind = VC_EXIT_NONE;
    g->start = 0;
    g->start = guest_insns(g);
    if (!set_registers(g, p)) {
        fprintf(stderr, "lockstep: %s\n", vc_errmsg());
        return false;
    }
    return true;
}

void guest_toggle_trap(struct guest *g)
{
    if (g->trap) {
        vc_untrap(g->vm, g->trap);
        g->trap = 0;
        return;
    }
    int id = vc_trap(g->vm, VC_SPACE_MMIO, P_DATA + 0x9000, 4096, on_access, g);
    g->trap = id > 0 ? id : 0;
}

uint64_t guest_insns(struct guest *g)
{
    struct vc_stats s = {.size = sizeof s};
    vc_cpu_stats(g->cpu, &s);
    return s.insns - g->start;
}

void guest_run(struct guest *g, uint64_t to)
{
    struct vc_exit *e = &g->exit;
    for (uint64_t at; (at = guest_insns(g)) < to;) {
        struct vc_budget b = {.size = sizeof b, .insns = to - at};
        g->rc = vc_run(g->cpu, &b, e);
        if (g->rc)
            return;
        switch (e->kind) {
        case VC_EXIT_PORT: {
            uint64_t v = traffic(g, e->u.port.port, e->u.port.len, e->u.port.write, e->u.port.data);
            if (!e->u.port.write)
                e->u.port.data = (uint32_t)v;
            break;
        }
        case VC_EXIT_MMIO: {
            uint64_t v = traffic(g, e->u.mmio.gpa, e->u.mmio.len, e->u.mmio.write, e->u.mmio.data);
            if (!e->u.mmio.write)
                e->u.mmio.data = v;
            break;
        }
        case VC_EXIT_HLT: g->traffic = mix(g->traffic, e->rip); break;
        case VC_EXIT_BUDGET: break;
        default: return;
        }
    }
}
