/* SPDX-License-Identifier: MIT
 * Getting and setting a vCPU's state from outside a run. What is set goes
 * through the checks that the guest's own instructions would meet, except that
 * whole sets may be given in any order. */
#include "state.h"
#include "access.h"
#include "flags.h"
#include "sys/sys.h"
#include "../../base/err.h"

int state_gprs(struct backend_cpu *bc, bool set, struct vc_gprs *r)
{
    struct emu *c = (struct emu *)bc;
    if (!set) {
        memcpy(r->gpr, c->gpr, sizeof r->gpr);
        r->rip = c->rip;
        r->rflags = flags_get(c);
        return 0;
    }
    memcpy(c->gpr, r->gpr, sizeof r->gpr);
    if (c->rip != r->rip)
        emu_replay_forget(c);
    c->rip = r->rip;
    flags_set(c, r->rflags);
    c->shadow = 0;
    c->halted = 0;
    emu_mode_changed(c);
    return 0;
}

static const unsigned seg_order[SEG_COUNT] = {SEG_ES, SEG_CS, SEG_SS,   SEG_DS,
                                              SEG_FS, SEG_GS, SEG_LDTR, SEG_TR};

static void segments(struct emu *c, bool set, struct vc_sregs *r)
{
    struct vc_segment *v[SEG_COUNT] = {&r->es, &r->cs, &r->ss,   &r->ds,
                                       &r->fs, &r->gs, &r->ldtr, &r->tr};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        struct seg *s = &c->seg[seg_order[i]];
        if (set)
            *s = (struct seg){.base = v[i]->base,
                              .limit = v[i]->limit,
                              .sel = v[i]->selector,
                              .attr = v[i]->attr & 0xfff};
        else
            *v[i] = (struct vc_segment){
                .base = s->base, .limit = s->limit, .selector = s->sel, .attr = s->attr};
    }
}

/* LMA follows LME and PG; everything else must be a combination that exists. */
static bool sane(const struct vc_sregs *r)
{
    bool pg = r->cr0 & CR0_PG, pe = r->cr0 & CR0_PE, lme = r->efer & EFER_LME;
    if (pg && !pe)
        return false;
    if (!!(r->efer & EFER_LMA) != (pg && lme))
        return false;
    if (pg && lme && !(r->cr4 & CR4_PAE))
        return false;
    return r->cr0 >> 32 == 0 && r->cr8 < 16;
}

int state_sregs(struct backend_cpu *bc, bool set, struct vc_sregs *r)
{
    struct emu *c = (struct emu *)bc;
    if (!set) {
        segments(c, false, r);
        r->gdt_base = c->gdt.base, r->gdt_limit = c->gdt.limit;
        r->idt_base = c->idt.base, r->idt_limit = c->idt.limit;
        r->cr0 = c->cr0, r->cr2 = c->cr2, r->cr3 = c->cr3, r->cr4 = c->cr4;
        r->cr8 = c->env->cr8_get ? c->env->cr8_get(c->env->ctx, c->index) : 0;
        r->efer = c->efer;
        r->apic_base = 0;
        if (c->env->apic_msr)
            c->env->apic_msr(c->env->ctx, c->index, 0x1b, false, &r->apic_base);
        return 0;
    }
    if (!sane(r))
        return err_set(VC_EINVAL, "CR0 %#llx, CR4 %#llx, EFER %#llx cannot be together",
                       (unsigned long long)r->cr0, (unsigned long long)r->cr4,
                       (unsigned long long)r->efer);
    if (r->cr4 & ~cr4_allowed(c))
        return err_set(VC_EINVAL, "CR4 %#llx has bits that this CPU does not offer",
                       (unsigned long long)r->cr4);
    segments(c, true, r);
    c->gdt = (struct dtable){r->gdt_base, r->gdt_limit & 0xffff};
    c->idt = (struct dtable){r->idt_base, r->idt_limit & 0xffff};
    c->cr0 = r->cr0 | CR0_ET;
    c->cr2 = r->cr2;
    c->cr3 = r->cr3;
    c->cr4 = r->cr4;
    c->efer = r->efer;
    if (c->env->cr8_set)
        c->env->cr8_set(c->env->ctx, c->index, r->cr8);
    if (c->env->apic_msr && r->apic_base)
        c->env->apic_msr(c->env->ctx, c->index, 0x1b, true, &r->apic_base);
    c->cpl = c->rflags & FL_VM    ? 3
             : !(c->cr0 & CR0_PE) ? 0
                                  : c->seg[SEG_SS].attr >> SEG_A_DPL_SHIFT & 3;
    emu_replay_forget(c);
    emu_mode_changed(c);
    if (c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !(c->efer & EFER_LMA))
        mmu_load_pdptes(c->env->mem, &c->walk);
    emu_flush_all(c);
    emu_switch_cr3(c, false);
    return 0;
}

int state_fpu(struct backend_cpu *bc, bool set, struct vc_fpu *r)
{
    struct emu *c = (struct emu *)bc;
    if (set)
        return emu_fpu_set(c, r);
    emu_fpu_get(c, r);
    return 0;
}

static int reg_get(struct emu *c, enum vc_reg reg, uint64_t *v)
{
    switch (reg) {
    case VC_REG_CR0: *v = c->cr0; return 0;
    case VC_REG_CR2: *v = c->cr2; return 0;
    case VC_REG_CR3: *v = c->cr3; return 0;
    case VC_REG_CR4: *v = c->cr4; return 0;
    case VC_REG_CR8: *v = c->env->cr8_get ? c->env->cr8_get(c->env->ctx, c->index) : 0; return 0;
    case VC_REG_EFER: *v = c->efer; return 0;
    case VC_REG_XCR0: *v = c->xcr0; return 0;
    case VC_REG_PKRU: *v = c->pkru; return 0;
    case VC_REG_DR0:
    case VC_REG_DR1:
    case VC_REG_DR2:
    case VC_REG_DR3: *v = c->dr[reg - VC_REG_DR0]; return 0;
    case VC_REG_DR6: *v = c->dr6; return 0;
    case VC_REG_DR7: *v = c->dr7; return 0;
    default: return VC_EINVAL;
    }
}

static bool reg_put(struct emu *c, enum vc_reg reg, uint64_t v)
{
    switch (reg) {
    case VC_REG_CR0: return emu_set_cr0(c, v);
    case VC_REG_CR2: c->cr2 = v; return true;
    case VC_REG_CR3: return emu_set_cr3(c, v);
    case VC_REG_CR4: return emu_set_cr4(c, v);
    case VC_REG_CR8:
        if (v > 15)
            return false;
        if (c->env->cr8_set)
            c->env->cr8_set(c->env->ctx, c->index, v);
        return true;
    case VC_REG_EFER: return emu_set_efer(c, v);
    case VC_REG_XCR0: return emu_set_xcr0(c, v);
    case VC_REG_PKRU: return emu_set_pkru(c, v);
    case VC_REG_DR0:
    case VC_REG_DR1:
    case VC_REG_DR2:
    case VC_REG_DR3: return dr_set(c, reg - VC_REG_DR0, v);
    case VC_REG_DR6: return dr_set(c, 6, v);
    case VC_REG_DR7: return dr_set(c, 7, v);
    default: return false;
    }
}

int state_reg(struct backend_cpu *bc, bool set, enum vc_reg reg, uint64_t *value)
{
    struct emu *c = (struct emu *)bc;
    if (!set)
        return reg_get(c, reg, value);
    if (!reg_put(c, reg, *value))
        return VC_EINVAL;
    emu_mode_changed(c);
    return 0;
}

int state_msr(struct backend_cpu *bc, bool set, uint32_t index, uint64_t *value)
{
    struct emu *c = (struct emu *)bc;
    bool ok = set ? emu_msr_write(c, index, *value) : emu_msr_read(c, index, value);
    return ok ? 0 : VC_ENOENT;
}

int state_translate(struct backend_cpu *bc, uint64_t linear, uint32_t access, uint64_t *gpa)
{
    struct emu *c = (struct emu *)bc;
    struct walk w;
    enum walk_access how = access & VC_ACC_FETCH   ? WALK_FETCH
                           : access & VC_ACC_WRITE ? WALK_WRITE
                                                   : WALK_READ;
    if (c->efer & EFER_LMA && !canonical(c, linear))
        return VC_EFAULT;
    unsigned pin = mem_pin(c->env->mem); /* it need not run */
    bool fault = mmu_walk(c->env->mem, &c->walk, linear, how, access & VC_ACC_USER,
                          c->rflags & FL_AC, false, &w);
    mem_unpin(c->env->mem, pin);
    if (fault)
        return VC_EFAULT;
    *gpa = w.gpa;
    return 0;
}

/* Which exceptions push an error code (SDM table 6-1). */
static bool has_error_code(uint8_t vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

int state_exception(struct backend_cpu *bc, uint8_t vector, uint32_t err, uint64_t cr2)
{
    struct emu *c = (struct emu *)bc;
    if (c->queued.valid)
        return err_set(VC_EBUSY, "an exception already waits for the next vc_run");
    c->queued.vector = vector;
    c->queued.has_err = has_error_code(vector);
    c->queued.err = err;
    c->queued.cr2 = cr2;
    c->queued.valid = true;
    return 0;
}

int state_single_step(struct backend_cpu *bc, bool on)
{
    struct emu *c = (struct emu *)bc;
    c->step_exit = on;
    emu_mode_changed(c);
    return 0;
}
