/* SPDX-License-Identifier: MIT
 * One vCPU of the interpreter over 4 MiB of RAM, with a local APIC of two
 * registers, and ways to run a few bytes of code in each mode. */
#ifndef SYS_RIG_H
#define SYS_RIG_H

#include "cpu/msr.h"
#include "cpu/emu/sys/sys.h"
#include <criterion/criterion.h>
#include <virtcore/vm.h>

#define RIG_CODE     0x10000u
#define RIG_STACK    0x20000u
#define RIG_HANDLERS 0x8000u /* of vector v at + 16 * v: a HLT */
#define RIG_IDT      0x4000u
#define RIG_GDT      0x5000u
#define RIG_TSS      0x6000u
#define RIG_PML4     0x100000u

struct rig {
    struct mem mem;
    struct cpu_mail mail;
    struct cpu_env env;
    struct backend_vm *bvm;
    struct backend_cpu *bc;
    struct emu *c;
    struct vc_exit exit;
    bool apic, hcall;
    uint64_t apic_base, deadline, cr8;
    int hcall_rc;
    uint64_t hcall_nr, hcall_args[6];
    /* Ports: what was written, and what a read gives. */
    unsigned nports;
    struct vc_access port[32];
    uint64_t port_value;
    int port_rc;
};

static bool rig_apic_msr(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *v)
{
    struct rig *r = ctx;
    uint64_t *reg = index == MSR_APIC_BASE      ? &r->apic_base
                    : index == MSR_TSC_DEADLINE ? &r->deadline
                                                : NULL;
    (void)cpu;
    if (!r->apic || !reg)
        return false;
    if (write)
        *reg = *v;
    else
        *v = *reg;
    return true;
}

static uint64_t rig_cr8_get(void *ctx, unsigned cpu)
{
    (void)cpu;
    return ((struct rig *)ctx)->cr8;
}

static void rig_cr8_set(void *ctx, unsigned cpu, uint64_t v)
{
    (void)cpu;
    ((struct rig *)ctx)->cr8 = v;
}

static int rig_access(void *ctx, enum vc_space space, struct vc_access *a)
{
    struct rig *r = ctx;
    if (space != VC_SPACE_PORT)
        return ENV_UNHANDLED;
    if (r->nports < ARRAY_LEN(r->port))
        r->port[r->nports] = *a;
    r->nports++;
    if (!a->write)
        a->data = r->port_value;
    return r->port_rc;
}

static bool rig_has_hcall(void *ctx)
{
    return ((struct rig *)ctx)->hcall;
}

static int rig_hcall(void *ctx, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    struct rig *r = ctx;
    (void)cpu;
    r->hcall_nr = nr;
    memcpy(r->hcall_args, args, sizeof r->hcall_args);
    *ret = 0x1234;
    return r->hcall_rc;
}

static inline void rig_open(struct rig *r, const char *model)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .cpu_model = model};

    memset(r, 0, sizeof *r);
    atomic_store(&r->mail.inject, -1);
    r->apic = true;
    r->apic_base = 0xfee00900;
    cr_assert_eq(mem_init(&r->mem, 1ull << 30), 0);
    cr_assert_eq(mem_add(&r->mem, 0, 4 << 20, VC_MEM_RWX, NULL), 0);
    cr_assert_eq(mem_add(&r->mem, 0xf0000000, 4096, VC_MEM_ROM, NULL), 0);
    r->env = (struct cpu_env){.ctx = r,
                              .mem = &r->mem,
                              .tsc_hz = 2000000000,
                              .access = rig_access,
                              .apic_msr = rig_apic_msr,
                              .cr8_get = rig_cr8_get,
                              .cr8_set = rig_cr8_set,
                              .hcall = rig_hcall,
                              .has_hcall = rig_has_hcall};
    cr_assert_eq(backend_emu.open(&opts, &r->env, &r->bvm), 0, "%s", vc_errmsg());
    cr_assert_eq(backend_emu.cpu_new(r->bvm, NULL, 0, &r->mail, &r->bc), 0);
    r->c = (struct emu *)r->bc;
}

static inline void rig_close(struct rig *r)
{
    backend_emu.cpu_free(r->bc);
    backend_emu.close(r->bvm);
    mem_fini(&r->mem);
}

static inline void rig_put(struct rig *r, uint64_t gpa, const void *bytes, size_t n)
{
    cr_assert_eq(mem_write(&r->mem, gpa, bytes, n), 0);
}

static inline void rig_put64(struct rig *r, uint64_t gpa, uint64_t v)
{
    rig_put(r, gpa, &v, 8);
}

static inline uint64_t rig_get64(struct rig *r, uint64_t gpa)
{
    uint64_t v = 0;
    cr_assert_eq(mem_read(&r->mem, gpa, &v, 8), 0);
    return v;
}

/* 64-bit mode: the first 4 MiB mapped to themselves for everybody; each vector
 * has an interrupt gate whose handler halts. */
static inline void rig_long(struct rig *r, unsigned cpl)
{
    static const uint64_t gdt[] = {0, 0x00209b0000000000, /* 08: kernel code */
                                   0x00cf93000000ffff,    /* 10: data */
                                   0x0020fb0000000000,    /* 18: user code */
                                   0x00cff3000000ffff};
    struct emu *c = r->c;
    struct vc_sregs s = {.size = sizeof s};

    rig_put64(r, RIG_PML4, 0x101007);
    rig_put64(r, 0x101000, 0x102007);
    rig_put64(r, 0x102000, 0x000087);
    rig_put64(r, 0x102008, 0x200087);
    rig_put(r, RIG_GDT, gdt, sizeof gdt);
    for (unsigned v = 0; v < 32; v++) {
        uint64_t at = RIG_HANDLERS + 16 * v;
        uint64_t gate[2] = {(at & 0xffff) | 0x08 << 16 | 0x8eull << 40 | (at >> 16) << 48, 0};
        rig_put(r, RIG_IDT + 16 * v, gate, 16);
        rig_put(r, at, "\xf4", 1);
    }
    rig_put64(r, RIG_TSS + 4, RIG_STACK + 0x8000); /* RSP0 */

    cr_assert_eq(backend_emu.sregs(r->bc, false, &s), 0);
    s.cs = (struct vc_segment){
        .limit = 0xffffffff, .selector = cpl ? 0x1b : 0x08, .attr = cpl ? 0xafb : 0xa9b};
    s.ss = (struct vc_segment){
        .limit = 0xffffffff, .selector = cpl ? 0x23 : 0x10, .attr = cpl ? 0xcf3 : 0xc93};
    s.ds = s.es = s.fs = s.gs = s.ss;
    s.tr = (struct vc_segment){.base = RIG_TSS, .limit = 0xfff, .selector = 0x28, .attr = 0x8b};
    s.gdt_base = RIG_GDT, s.gdt_limit = 0xff;
    s.idt_base = RIG_IDT, s.idt_limit = 0x1ff;
    s.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
    s.cr3 = RIG_PML4;
    s.cr4 = CR4_PAE;
    s.efer = EFER_LME | EFER_LMA;
    cr_assert_eq(backend_emu.sregs(r->bc, true, &s), 0, "%s", vc_errmsg());
    c->gpr[R_RSP] = RIG_STACK;
}

#define RIG_HALTED (-1)

/* Runs code that ends in HLT (CPL 0) at the current mode. Returns the vector of
 * the exception that came first, RIG_HALTED, or 100 + the kind of another exit. */
static inline int rig_go(struct rig *r)
{
    struct vc_budget budget = {.size = sizeof budget, .insns = 100000};

    r->exit.size = sizeof r->exit;
    cr_assert_eq(backend_emu.run(r->bc, &budget, &r->exit), 0);
    if (r->exit.kind != VC_EXIT_HLT)
        return 100 + (int)r->exit.kind;
    uint64_t at = r->c->rip - 1 - RIG_HANDLERS;
    return r->c->rip > RIG_HANDLERS && at < 16 * 32 ? (int)(at / 16) : RIG_HALTED;
}

static inline int rig_run(struct rig *r, const void *code, size_t n)
{
    rig_put(r, RIG_CODE, code, n);
    rig_put(r, RIG_CODE + n, "\xf4", 1);
    r->c->rip = RIG_CODE;
    emu_mode_changed(r->c);
    return rig_go(r);
}
#define RUN(r, code) rig_run(r, code, sizeof(code) - 1)

#endif
