/* SPDX-License-Identifier: MIT
 * First states of a vCPU, so that nobody writes tables before the first
 * instruction. */
#include "vm.h"
#include "../base/err.h"

/* Control register bits, SDM 2.5. */
#define CR0_PE         0x1ull
#define CR0_MP         0x2ull
#define CR0_ET         0x10ull
#define CR0_NE         0x20ull
#define CR0_PG         0x80000000ull
#define CR4_PAE        0x20ull
#define CR4_OSFXSR     0x200ull
#define CR4_OSXMMEXCPT 0x400ull
#define EFER_LME       0x100ull
#define EFER_LMA       0x400ull

/* Segment attributes as in struct vc_segment. */
#define ATTR_CODE64 0xa9bu /* G, L, present, code, readable, accessed */
#define ATTR_CODE32 0xc9bu
#define ATTR_DATA32 0xc93u
#define ATTR_LDT    0x82u
#define ATTR_TSS    0x8bu

#define SEL_CODE 0x08u
#define SEL_DATA 0x10u
#define SEL_TSS  0x18u

/* The region of VC_MODE_LONG64, a page each. */
#define L64_GDT  (LONG64_BASE + 0x0000)
#define L64_PML4 (LONG64_BASE + 0x1000)
#define L64_PDPT (LONG64_BASE + 0x2000)
#define L64_PD   (LONG64_BASE + 0x3000) /* four of them */
#define L64_TSS  (LONG64_BASE + 0x7000)

#define PTE_P_W_U 0x7ull /* present, writable, user */
#define PTE_PS    0x80ull

static const struct vc_segment flat_data = {
    .limit = 0xffffffffu, .selector = SEL_DATA, .attr = ATTR_DATA32};

static void flat_segments(struct vc_sregs *s, uint16_t code_attr)
{
    s->es = s->ss = s->ds = s->fs = s->gs = flat_data;
    s->cs = (struct vc_segment){.limit = 0xffffffffu, .selector = SEL_CODE, .attr = code_attr};
    s->ldtr = (struct vc_segment){.attr = ATTR_LDT};
    s->tr = (struct vc_segment){.limit = 0x67, .selector = SEL_TSS, .attr = ATTR_TSS};
    s->gdt_base = s->idt_base = 0;
    s->gdt_limit = s->idt_limit = 0;
}

static int put64(struct mem *mem, uint64_t gpa, uint64_t v)
{
    return mem_write(mem, gpa, &v, sizeof v);
}

/* The first 4 GiB to themselves, in pages of 2 MiB (SDM 4.5). */
static int long64_write(struct mem *mem)
{
    int rc = put64(mem, L64_PML4, L64_PDPT | PTE_P_W_U);
    for (uint64_t i = 0; i < 4 && !rc; i++)
        rc = put64(mem, L64_PDPT + i * 8, (L64_PD + i * 4096) | PTE_P_W_U);
    for (uint64_t i = 0; i < 2048 && !rc; i++)
        rc = put64(mem, L64_PD + i * 8, (i << 21) | PTE_PS | PTE_P_W_U);

    /* Descriptors that say what the hidden parts say, SDM 3.4.5 and 7.2.3. */
    const uint64_t gdt[] = {
        0,
        0x00af9b000000ffffull,
        0x00cf93000000ffffull,
        0x00008b0000000067ull | (L64_TSS & 0xffffff) << 16 | (L64_TSS >> 24 & 0xff) << 56,
        L64_TSS >> 32,
    };
    if (!rc)
        rc = mem_write(mem, L64_GDT, gdt, sizeof gdt);
    /* OUT VC_RETURN_PORT, EAX; UD2: where vc_call's functions return to. */
    static const uint8_t trap[] = {0xe7, VC_RETURN_PORT, 0x0f, 0x0b};
    return rc ? rc : mem_write(mem, LONG64_RETURN, trap, sizeof trap);
}

int preset_long64_tables(struct vc_vm *vm)
{
    if (vm->long64_tables)
        return 0;
    int rc = mem_add(&vm->mem, LONG64_BASE, LONG64_LEN, VC_MEM_RWX, NULL);
    if (rc)
        return rc;
    rc = long64_write(&vm->mem);
    if (rc) {
        mem_del(&vm->mem, LONG64_BASE, LONG64_LEN);
        return rc;
    }
    rc = vm_map_changed(vm);
    if (rc) {
        mem_del(&vm->mem, LONG64_BASE, LONG64_LEN);
        vm_map_changed(vm);
        return rc;
    }
    vm->long64_tables = true;
    return 0;
}

static void make_real16(struct vc_sregs *s, struct vc_gprs *g, uint64_t pc)
{
    s->cs.base = pc & 0xffff0000u;
    s->cs.selector = (uint16_t)(s->cs.base >> 4);
    s->cr0 = CR0_ET;
    g->rip = pc & 0xffff;
}

static void make_flat32(struct vc_sregs *s)
{
    flat_segments(s, ATTR_CODE32);
    s->cr0 = CR0_PE | CR0_ET | CR0_NE;
}

static void make_long64(struct vc_sregs *s)
{
    flat_segments(s, ATTR_CODE64);
    s->tr.base = L64_TSS;
    s->gdt_base = L64_GDT;
    s->gdt_limit = 5 * 8 - 1;
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
    s->cr3 = L64_PML4;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    s->efer = EFER_LME | EFER_LMA;
}

static int check_pc(enum vc_mode mode, uint64_t pc)
{
    if (mode == VC_MODE_REAL16 || mode == VC_MODE_FLAT32 || mode == VC_MODE_LONG64) {
        if (pc > 0xffffffffull)
            return err_set(VC_ERANGE, "the first instruction at %#llx is not in the first 4 GiB",
                           (unsigned long long)pc);
    } else if (mode != VC_MODE_RESET && mode != VC_MODE_WAIT_SIPI) {
        return err_set(VC_EINVAL, "there is no mode %d", (int)mode);
    }
    return 0;
}

int preset_apply(struct vc_cpu *cpu, enum vc_mode mode, uint64_t pc)
{
    struct vc_vm *vm = cpu->vm;
    int rc = check_pc(mode, pc);
    if (!rc && mode == VC_MODE_LONG64)
        rc = preset_long64_tables(vm);
    if (!rc)
        rc = vm->be->reset(cpu->bcpu, mode == VC_MODE_WAIT_SIPI);
    if (rc || mode == VC_MODE_RESET || mode == VC_MODE_WAIT_SIPI)
        return rc;

    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g, .rip = pc, .rflags = 2};
    rc = vm->be->sregs(cpu->bcpu, false, &s);
    if (rc)
        return rc;
    if (mode == VC_MODE_REAL16)
        make_real16(&s, &g, pc);
    else if (mode == VC_MODE_FLAT32)
        make_flat32(&s);
    else
        make_long64(&s);
    rc = vm->be->sregs(cpu->bcpu, true, &s);
    return rc ? rc : vm->be->gprs(cpu->bcpu, true, &g);
}
