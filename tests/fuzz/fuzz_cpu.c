/* SPDX-License-Identifier: MIT
 * One vCPU through the public API. The input says in which environment it
 * starts, then lists calls that change its state, memory and traps, with runs
 * in between; what is left is the code. Everything is answered, nothing is
 * expected: it must end, in time, and free what it took. */
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

#define RAM_LEN   0x40000u
#define ROM       0x200000u
#define MMIO      0x300000u /* a trap answers; what lies between leaves vc_run */
#define IDT       0x3000u
#define GDT       0x4000u
#define TSS       0x5000u
#define HANDLERS  0x6000u /* 16 bytes for each vector */
#define TABLES    0x10000u
#define STACK     0x28000u
#define CODE      0x20000u
#define MAX_EXITS 48

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        v |= (uint64_t)*in->p++ << (8 * i);
    return v;
}

/* A value that something may depend on, or any. */
static uint64_t value(struct input *in)
{
    static const uint64_t known[] = {0,
                                     1,
                                     UINT64_MAX,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     INT32_MAX,
                                     0x80000000,
                                     UINT32_MAX,
                                     INT64_MAX,
                                     1ull << 63,
                                     0x7fffffffffff,
                                     0x800000000000,
                                     0xffff800000000000,
                                     CODE,
                                     CODE + 0xffc,
                                     STACK,
                                     STACK + 0xffd,
                                     TABLES,
                                     TABLES + 0x3000,
                                     IDT,
                                     GDT,
                                     TSS,
                                     RAM_LEN - 3,
                                     RAM_LEN + 0x1000,
                                     ROM - 1,
                                     ROM + 0xffc,
                                     MMIO - 2,
                                     MMIO + 8,
                                     0xfee00000,
                                     0xfeffd000,
                                     0x3f800000};
    unsigned k = (unsigned)take(in, 1);
    return k & 0x80 ? take(in, 1 + (k & 7)) : known[k % LEN(known)];
}

/* ---- the machine ------------------------------------------------------------- */

struct guest {
    vc_vm *vm;
    vc_cpu *cpu;
    uint64_t noise; /* what devices answer */
    int trap;       /* an id; 0: none */
    int changed;    /* the memory map is not what it was */
    struct vc_exit exit;
};

static int trap_fn(void *ud, struct vc_access *a)
{
    struct guest *g = ud;
    if (!a->write)
        a->data = g->noise = g->noise * 6364136223846793005u + a->addr;
    return 0;
}

static int hcall_fn(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    struct guest *g = ud;
    (void)cpu;
    *ret = nr ^ args[0] ^ g->noise;
    return nr == 0xdead ? -1 : 0;
}

static void put(struct guest *g, uint64_t gpa, const void *p, size_t n)
{
    vc_write(g->vm, gpa, p, n);
}

static void put64(struct guest *g, uint64_t gpa, uint64_t v)
{
    put(g, gpa, &v, 8);
}

/* Gates to handlers that return, or halt for every other vector. */
static void make_idt(struct guest *g, unsigned bits)
{
    static const uint8_t iret[] = {0x48, 0xcf}, hlt[] = {0xf4};
    for (unsigned v = 0; v < 40; v++) {
        uint32_t to = HANDLERS + 16 * v;
        uint64_t gate = (to & 0xffff) | 8u << 16 | (v == 3 ? 0xeeull : 0x8eull) << 40 |
                        (uint64_t)(to >> 16) << 48;
        if (bits == 16) {
            uint32_t far = (HANDLERS >> 4) << 16 | 16 * v;
            put(g, 4 * v, &far, 4);
        } else if (bits == 32) {
            put64(g, IDT + 8 * v, gate);
        } else {
            put64(g, IDT + 16 * v, gate | (v == 8 ? 1ull << 32 : 0));
            put64(g, IDT + 16 * v + 8, 0);
        }
        if (v & 1)
            put(g, to, bits == 64 ? iret : iret + 1, bits == 64 ? 2 : 1);
        else
            put(g, to, hlt, sizeof hlt);
    }
}

/* Selectors 8, 10: ring 0; 1b, 23: ring 3; 28: 16-bit code; 30: the TSS; 40: a call gate. */
static void make_gdt(struct guest *g, int wide)
{
    const uint64_t l = wide ? 1ull << 53 : 1ull << 54;
    put64(g, GDT, 0);
    put64(g, GDT + 0x08, 0x008f9b000000ffff | l);
    put64(g, GDT + 0x10, 0x00cf93000000ffff);
    put64(g, GDT + 0x18, 0x008ffb000000ffff | l);
    put64(g, GDT + 0x20, 0x00cff3000000ffff);
    put64(g, GDT + 0x28, 0x00009b000000ffff);
    put64(g, GDT + 0x30, 0x0000890000000067 | (uint64_t)TSS << 16);
    put64(g, GDT + 0x38, 0);
    put64(g, GDT + 0x40, 0x0000ec0000080000 | HANDLERS);
    put64(g, GDT + 0x48, 0);
    put64(g, TSS + 4, STACK);
    put64(g, TSS + 8, wide ? 0 : 0x10);
    put64(g, TSS + 36, STACK - 0x800); /* IST 1 */
}

/* The first 2 MiB by small pages, of which some differ; then a large one. levels
 * 2: 32-bit paging, 3: PAE, 4. */
static void make_tables(struct guest *g, unsigned levels)
{
    const unsigned size = levels == 2 ? 4 : 8;
    uint64_t at = TABLES;
    for (unsigned l = levels; l > 1; l--, at += 0x1000) {
        uint64_t next = (at + 0x1000) | (levels == 3 && l == 3 ? 1 : 7);
        put(g, at, &next, size);
        if (l == 2) {
            uint64_t large = (levels == 2 ? 0x400000 : 0x200000) | 0x87;
            put(g, at + size, &large, size);
        }
    }
    for (unsigned i = 0; i < 0x200; i++) {
        uint64_t pte = i << 12 | 7;
        if (i == 0x2a)
            pte = 0;
        else if (i == 0x2b)
            pte &= ~2ull;
        else if (i == 0x2c)
            pte &= ~4ull;
        else if (i == 0x2d && size == 8)
            pte |= 1ull << 63;
        put(g, at + i * size, &pte, size);
    }
}

static struct vc_segment flat(uint16_t sel, uint16_t attr)
{
    return (struct vc_segment){.limit = UINT32_MAX, .selector = sel, .attr = attr};
}

/* An operating system's tables, at ring 0 or 3. levels 0: no paging. */
static void protect(struct guest *g, unsigned levels, int user)
{
    struct vc_sregs s = {.size = sizeof s};
    int wide = levels == 4;
    if (vc_sregs_get(g->cpu, &s))
        return;
    make_idt(g, wide ? 64 : 32);
    make_gdt(g, wide);
    if (levels)
        make_tables(g, levels);
    s.gdt_base = GDT, s.gdt_limit = 0x4f;
    s.idt_base = IDT, s.idt_limit = (wide ? 16 : 8) * 40 - 1;
    s.tr = (struct vc_segment){.base = TSS, .limit = 0x67, .selector = 0x30, .attr = 0x8b};
    uint16_t dpl = user ? 0x60 : 0;
    s.cs = flat(user ? 0x1b : 8, (uint16_t)((wide ? 0xa9b : 0xc9b) | dpl));
    s.ss = s.ds = s.es = s.fs = s.gs = flat(user ? 0x23 : 0x10, (uint16_t)(0xc93 | dpl));
    s.cr4 |= 0x610 | (levels == 3 ? 0x20 : 0);
    if (levels) {
        s.cr3 = TABLES;
        s.cr0 |= 0x80010000;
        s.efer |= levels != 2 ? 0x801 : 1;
    }
    vc_sregs_set(g->cpu, &s);
}

static void start(struct guest *g, unsigned kind)
{
    static const enum vc_mode modes[] = {VC_MODE_REAL16, VC_MODE_FLAT32, VC_MODE_LONG64};
    switch (kind) {
    case 0:
    case 1:
    case 2: g->cpu = vc_cpu_new(g->vm, modes[kind], CODE); break;
    case 3: g->cpu = vc_cpu_new(g->vm, VC_MODE_RESET, 0); break;
    case 4:
    case 5:
    case 6: g->cpu = vc_cpu_new(g->vm, VC_MODE_FLAT32, CODE); break;
    default: g->cpu = vc_cpu_new(g->vm, VC_MODE_LONG64, CODE); break;
    }
    if (!g->cpu)
        return;
    switch (kind) {
    case 0: make_idt(g, 16); break;
    case 4: protect(g, 2, 0); break;
    case 5: protect(g, 2, 1); break;
    case 6: protect(g, 3, 1); break;
    case 7: protect(g, 4, 0); break;
    case 8: protect(g, 4, 1); break;
    default: break;
    }
    vc_reg_set(g->cpu, VC_REG_RSP, kind ? STACK : 0xfff0);
}

/* ---- runs ---------------------------------------------------------------------- */

static void answer(struct guest *g)
{
    uint64_t v = g->noise = g->noise * 6364136223846793005u + 1442695040888963407u;
    switch (g->exit.kind) {
    case VC_EXIT_PORT: g->exit.u.port.data = (uint32_t)(v >> 32); break;
    case VC_EXIT_MMIO: g->exit.u.mmio.data = v; break;
    case VC_EXIT_HCALL: g->exit.u.hcall.ret = v; break;
    default: break;
    }
}

static void run(struct guest *g, uint64_t insns)
{
    for (unsigned i = 0; i < MAX_EXITS; i++) {
        struct vc_budget b = {.size = sizeof b, .insns = insns, .ns = 4000000};
        if (vc_run(g->cpu, &b, &g->exit) < 0)
            return;
        answer(g);
        if (g->exit.kind == VC_EXIT_BUDGET || g->exit.kind == VC_EXIT_SHUTDOWN ||
            g->exit.kind == VC_EXIT_HLT)
            return;
    }
}

/* ---- calls ----------------------------------------------------------------------- */

static void change_sregs(struct guest *g, struct input *in)
{
    struct vc_sregs s = {.size = sizeof s};
    vc_sregs_get(g->cpu, &s);
    for (unsigned n = 1 + (take(in, 1) & 7); n; n--) {
        unsigned at = sizeof s.size + take(in, 1) % (sizeof s - sizeof s.size);
        ((uint8_t *)&s)[at] = (uint8_t)take(in, 1);
    }
    vc_sregs_set(g->cpu, &s);
}

static void change_fpu(struct guest *g, struct input *in)
{
    struct vc_fpu f = {.size = sizeof f};
    vc_fpu_get(g->cpu, &f);
    for (unsigned n = 1 + (take(in, 1) & 15); n; n--) {
        unsigned at = sizeof f.size + take(in, 2) % (sizeof f - sizeof f.size);
        ((uint8_t *)&f)[at] = (uint8_t)take(in, 1);
    }
    vc_fpu_set(g->cpu, &f);
}

static void change_msr(struct guest *g, struct input *in)
{
    static const uint32_t base[] = {0, 0x10, 0x174, 0x1a0, 0x200, 0x250, 0x400, 0x800, 0xc0000080};
    uint32_t index = base[take(in, 1) % LEN(base)] + (uint32_t)(take(in, 1) & 127);
    uint64_t v;
    vc_msr_get(g->cpu, index, &v);
    vc_msr_set(g->cpu, index, value(in));
    vc_msr_get(g->cpu, index, &v);
}

static void change_memory(struct guest *g, struct input *in)
{
    uint8_t bytes[32] = {0};
    uint64_t gpa = value(in) + take(in, 1);
    size_t n = take(in, 1) & 31;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)take(in, 1);
    vc_write(g->vm, gpa, bytes, n);
}

static void change_map(struct guest *g, struct input *in)
{
    uint64_t gpa = value(in) & ~4095ull, len = (take(in, 1) & 15) << 12;
    uint8_t dirty[8];
    g->changed = 1;
    switch (take(in, 1) & 7) {
    case 0: vc_map(g->vm, gpa, len, (uint32_t)take(in, 2)); break;
    case 1: vc_unmap(g->vm, gpa, len); break;
    case 2: vc_unmap(g->vm, ROM, 0x2000); break;
    case 3: vc_dirty_log(g->vm, 0, RAM_LEN, dirty, sizeof dirty); break;
    case 4:
        if (!g->trap) {
            int id = vc_trap(g->vm, VC_SPACE_MMIO, gpa, len, trap_fn, g);
            g->trap = id > 0 ? id : 0;
        }
        break;
    case 5:
        if (g->trap)
            vc_untrap(g->vm, g->trap);
        g->trap = 0;
        break;
    case 6: vc_ptr(g->vm, gpa, len); break;
    default: vc_irq_line(g->vm, (unsigned)take(in, 1), 1); break;
    }
}

static void look(struct guest *g, struct input *in)
{
    struct vc_stats st = {.size = sizeof st};
    struct vc_gprs r = {.size = sizeof r};
    struct vc_vm_info info = {.size = sizeof info};
    uint64_t v;
    vc_translate(g->cpu, value(in), (uint32_t)take(in, 1) & 7, &v);
    vc_reg_get(g->cpu, (enum vc_reg)take(in, 1), &v);
    vc_cpu_stats(g->cpu, &st);
    vc_gprs_get(g->cpu, &r);
    vc_info(g->vm, &info);
}

static void call(struct guest *g, struct input *in)
{
    switch (take(in, 1) & 15) {
    case 0: run(g, 1 + (take(in, 1) & 63)); break;
    case 1: change_memory(g, in); break;
    case 2:
    case 3: vc_reg_set(g->cpu, (enum vc_reg)(take(in, 1) & 15), value(in)); break;
    case 4: vc_reg_set(g->cpu, (enum vc_reg)(take(in, 1) & 63), value(in)); break;
    case 5: change_sregs(g, in); break;
    case 6: change_fpu(g, in); break;
    case 7: change_msr(g, in); break;
    case 8: vc_inject_irq(g->cpu, (uint8_t)take(in, 1)); break;
    case 9: vc_inject_nmi(g->cpu); break;
    case 10: {
        uint8_t vector = (uint8_t)take(in, 1);
        uint32_t err = (uint32_t)take(in, 2);
        vc_inject_exception(g->cpu, vector, err, value(in));
        break;
    }
    case 11: vc_single_step(g->cpu, (int)take(in, 1) & 1); break;
    case 12: vc_kick(g->cpu); break;
    case 13: {
        enum vc_mode mode = (enum vc_mode)(take(in, 1) % 6);
        vc_cpu_reset(g->cpu, mode, value(in));
        break;
    }
    case 14: change_map(g, in); break;
    default: look(g, in); break;
    }
}

/* Up to eight calls between runs, so that what they did has an effect. */
static void play(struct guest *g, struct input *in, unsigned calls)
{
    for (unsigned i = 0; i < calls && in->left; i++)
        call(g, in);
    put(g, CODE, in->p, in->left < 0x2000 ? in->left : 0x2000);
    run(g, 3000);
    vc_inject_irq(g->cpu, 33);
    vc_inject_nmi(g->cpu);
    run(g, 500);
}

/* ---- one input ------------------------------------------------------------------ */

/* Opening takes longer than most inputs run, so that a partition serves many. Its
 * vCPU and memory are new for each. */
#define USES    256
#define L64     0xfeffc000ull /* what VC_MODE_LONG64 adds */
#define L64_LEN 0x10000u

struct pool {
    struct guest g;
    unsigned uses;
    uint8_t *l64; /* as it was at first */
};

static void open_vm(struct guest *g, unsigned how)
{
    static const char *const models[] = {"host", "x86-64-v2", "x86-64-v3"};
    struct vc_vm_opts opts = {.size = sizeof opts,
                              .mem_quota = 16u << 20,
                              .cpu_model = models[how % 3],
                              .engine = how >= 3 ? VC_ENGINE_JIT : VC_ENGINE_INTERP};
    g->vm = vc_open("emu", &opts);
    if (!g->vm || vc_trap(g->vm, VC_SPACE_PORT, 0, 0x8000, trap_fn, g) < 0 ||
        vc_trap(g->vm, VC_SPACE_MMIO, MMIO, 0x1000, trap_fn, g) < 0)
        abort();
}

static void close_vm(struct pool *p)
{
    if (vc_close(p->g.vm))
        abort();
    free(p->l64);
    *p = (struct pool){0};
}

static void begin(struct pool *p, unsigned kind, unsigned how)
{
    struct guest *g = &p->g;
    if (!g->vm)
        open_vm(g, how);
    g->noise = 0;
    g->exit = (struct vc_exit){.size = sizeof g->exit};
    if (vc_map(g->vm, 0, RAM_LEN, VC_MEM_RWX | VC_MEM_LOG) ||
        vc_map(g->vm, ROM, 0x2000, VC_MEM_ROM))
        abort();
    if (p->l64)
        put(g, L64, p->l64, L64_LEN);
    start(g, kind);
    if (!g->cpu)
        abort();
    if (!p->l64 && vc_ptr(g->vm, L64, L64_LEN)) {
        p->l64 = malloc(L64_LEN);
        if (!p->l64 || vc_read(g->vm, L64, p->l64, L64_LEN))
            abort();
    }
}

/* What the input itself mapped or trapped goes with the partition. */
static void end(struct pool *p, int changed)
{
    struct guest *g = &p->g;
    if (vc_cpu_free(g->cpu))
        abort();
    vc_hcall_set(g->vm, NULL, NULL);
    if (changed || ++p->uses == USES || vc_unmap(g->vm, 0, RAM_LEN) || vc_unmap(g->vm, ROM, 0x2000))
        close_vm(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pool pools[6];
    struct input in = {data, size};
    unsigned kind = (unsigned)take(&in, 1), how = (unsigned)take(&in, 1);
    struct pool *p = &pools[(how & 0x80 ? 3 : 0) + (how >> 4 & 3) % 3];

    begin(p, kind % 9, (unsigned)(p - pools));
    if (how & 0x40)
        vc_hcall_set(p->g.vm, hcall_fn, &p->g);
    play(&p->g, &in, how & 15);
    end(p, p->g.changed);
    return 0;
}
