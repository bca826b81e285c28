/* SPDX-License-Identifier: MIT
 * Registers by group. The general ones are in the area shared with the kernel, as the
 * last run left them: looking at them and changing them costs no system call. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include "../../mmu/walk.h"
#include "../msr.h"
#include <errno.h>

#define CR0_PE      0x1ull
#define CR0_ET      0x10ull
#define CR0_NW      0x20000000ull
#define CR0_CD      0x40000000ull
#define CR0_PG      0x80000000ull
#define CR0_BITS    0xe005003full
#define CR4_PAE     0x20ull
#define CR4_LA57    0x1000ull
#define CR4_PCIDE   0x20000ull
#define CR4_PKE     0x400000ull
#define CR4_PKS     0x1000000ull
#define EFER_LME    0x100ull
#define EFER_LMA    0x400ull
#define EFER_NXE    0x800ull
#define EFER_SCE    0x1ull
#define EFER_AIBRSE 0x200000ull
#define RFLAGS_AC   0x40000ull

/* ---- the general ones ------------------------------------------------------------ */

/* From here on the shared area counts. */
int kvm_regs_load(struct kvm_cpu *c)
{
    if (ioctl(c->fd, KVM_GET_REGS, &c->run->s.regs.regs))
        return kvm_error(errno, "reading registers");
    c->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    return 0;
}

struct kvm_regs *kvm_regs_change(struct kvm_cpu *c)
{
    c->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    /* Whether interrupts can be taken has to be asked anew. */
    c->run->ready_for_interrupt_injection = 0;
    return &c->run->s.regs.regs;
}

/* What was changed in the shared area, told before a call that looks at it. */
int kvm_regs_flush(struct kvm_cpu *c)
{
    if (!(c->run->kvm_dirty_regs & KVM_SYNC_X86_REGS))
        return 0;
    if (ioctl(c->fd, KVM_SET_REGS, &c->run->s.regs.regs))
        return kvm_error(errno, "setting registers");
    c->run->kvm_dirty_regs = 0;
    return 0;
}

static void regs_copy(struct kvm_regs *k, bool set, struct vc_gprs *r)
{
    __u64 *const slot[16] = {&k->rax, &k->rcx, &k->rdx, &k->rbx, &k->rsp, &k->rbp,
                             &k->rsi, &k->rdi, &k->r8,  &k->r9,  &k->r10, &k->r11,
                             &k->r12, &k->r13, &k->r14, &k->r15};
    for (unsigned i = 0; i < 16; i++) {
        if (set)
            *slot[i] = r->gpr[i];
        else
            r->gpr[i] = *slot[i];
    }
    if (set) {
        k->rip = r->rip;
        k->rflags = r->rflags;
    } else {
        r->rip = k->rip;
        r->rflags = k->rflags;
    }
}

int kvm_gprs(struct backend_cpu *bc, bool set, struct vc_gprs *r)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (c->in_emu)
        return backend_emu.gprs(c->emu, set, r);
    if (!set) {
        regs_copy(&c->run->s.regs.regs, false, r);
        return 0;
    }
    /* An instruction that waits for an answer ends as it began, unless the caller goes
     * elsewhere. */
    if (c->run->s.regs.regs.rip != r->rip) {
        int rc = kvm_finish(c);
        if (rc)
            return rc;
    }
    regs_copy(kvm_regs_change(c), true, r);
    struct kvm_regs *k = &c->run->s.regs.regs;
    k->rflags = (k->rflags & 0x3f7fd5ull) | 2;
    return kvm_wake(c);
}

/* ---- segments, tables, control registers ------------------------------------------- */

int kvm_sregs_load(struct kvm_cpu *c, struct kvm_sregs *s)
{
    int rc = kvm_regs_flush(c);
    if (!rc && ioctl(c->fd, KVM_GET_SREGS, s))
        rc = kvm_error(errno, "reading segment and control registers");
    return rc;
}

int kvm_sregs_store(struct kvm_cpu *c, const struct kvm_sregs *s)
{
    int rc = kvm_regs_flush(c);
    if (rc)
        return rc;
    if (!ioctl(c->fd, KVM_SET_SREGS, s)) {
        c->run->ready_for_interrupt_injection = 0;
        return 0;
    }
    if (errno != EINVAL)
        return kvm_error(errno, "setting segment and control registers");
    return err_set(VC_EINVAL,
                   "CR0 %#llx, CR4 %#llx, EFER %#llx cannot be together, or have bits that this "
                   "CPU does not offer",
                   (unsigned long long)s->cr0, (unsigned long long)s->cr4,
                   (unsigned long long)s->efer);
}

static struct vc_segment from_kvm(const struct kvm_segment *k)
{
    return (struct vc_segment){
        .base = k->base,
        .limit = k->limit,
        .selector = k->selector,
        .attr = (uint16_t)(k->type | k->s << 4 | k->dpl << 5 | (k->present && !k->unusable) << 7 |
                           k->avl << 8 | k->l << 9 | k->db << 10 | k->g << 11),
    };
}

static struct kvm_segment to_kvm(const struct vc_segment *s)
{
    uint16_t a = s->attr;
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = a & 15,
        .s = a >> 4 & 1,
        .dpl = a >> 5 & 3,
        .present = a >> 7 & 1,
        .avl = a >> 8 & 1,
        .l = a >> 9 & 1,
        .db = a >> 10 & 1,
        .g = a >> 11 & 1,
        .unusable = !(a >> 7 & 1),
    };
}

static void segments(struct kvm_sregs *k, bool set, struct vc_sregs *r)
{
    struct vc_segment *const v[8] = {&r->es, &r->cs, &r->ss,   &r->ds,
                                     &r->fs, &r->gs, &r->ldtr, &r->tr};
    struct kvm_segment *const s[8] = {&k->es, &k->cs, &k->ss,  &k->ds,
                                      &k->fs, &k->gs, &k->ldt, &k->tr};
    for (unsigned i = 0; i < 8; i++) {
        if (set)
            *s[i] = to_kvm(v[i]);
        else
            *v[i] = from_kvm(s[i]);
    }
}

static uint64_t cr8_get(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    return env->cr8_get ? env->cr8_get(env->ctx, c->index) : 0;
}

static void cr8_set(struct kvm_cpu *c, uint64_t v)
{
    const struct cpu_env *env = &c->vm->env;
    if (env->cr8_set)
        env->cr8_set(env->ctx, c->index, v);
}

/* The local APIC's, whether that is ours or there is none: CPUID follows it. */
uint64_t kvm_apic_base(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    uint64_t base = 0;
    if (env->apic_msr)
        env->apic_msr(env->ctx, c->index, MSR_APIC_BASE, false, &base);
    return base;
}

int kvm_sregs(struct backend_cpu *bc, bool set, struct vc_sregs *r)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    struct kvm_sregs k;
    if (c->in_emu)
        return backend_emu.sregs(c->emu, set, r);
    int rc = set ? kvm_finish(c) : 0;
    if (!rc)
        rc = kvm_sregs_load(c, &k);
    if (rc)
        return rc;
    if (!set) {
        segments(&k, false, r);
        r->gdt_base = k.gdt.base, r->gdt_limit = k.gdt.limit;
        r->idt_base = k.idt.base, r->idt_limit = k.idt.limit;
        r->cr0 = k.cr0, r->cr2 = k.cr2, r->cr3 = k.cr3, r->cr4 = k.cr4;
        r->cr8 = c->vm->chips ? k.cr8 : cr8_get(c);
        r->efer = k.efer;
        r->apic_base = c->vm->chips ? k.apic_base : kvm_apic_base(c);
        return 0;
    }
    if (r->cr8 > 15 || r->cr0 >> 32 || (r->cr0 & CR0_PG && !(r->cr0 & CR0_PE)))
        return err_set(VC_EINVAL, "CR0 %#llx and CR8 %#llx cannot be", (unsigned long long)r->cr0,
                       (unsigned long long)r->cr8);
    const struct cpu_env *env = &c->vm->env;
    segments(&k, true, r);
    k.gdt.base = r->gdt_base, k.gdt.limit = (uint16_t)r->gdt_limit;
    k.idt.base = r->idt_base, k.idt.limit = (uint16_t)r->idt_limit;
    k.cr0 = r->cr0 | CR0_ET, k.cr2 = r->cr2, k.cr3 = r->cr3, k.cr4 = r->cr4;
    k.cr8 = r->cr8;
    k.efer = r->efer;
    if (env->apic_msr && r->apic_base)
        env->apic_msr(env->ctx, c->index, MSR_APIC_BASE, true, &r->apic_base);
    if (!c->vm->chips)
        k.apic_base = kvm_apic_base(c);
    else if (r->apic_base)
        k.apic_base = r->apic_base;
    rc = kvm_sregs_store(c, &k);
    if (!rc)
        cr8_set(c, r->cr8);
    return rc;
}

/* ---- single ones, with the checks that the guest's own instructions meet ------------ */

static bool pae_paging(const struct kvm_sregs *k)
{
    return k->cr0 & CR0_PG && k->cr4 & CR4_PAE && !(k->efer & EFER_LMA);
}

static bool put_cr0(struct kvm_sregs *k, uint64_t v)
{
    if (v >> 32)
        return false;
    v = (v & CR0_BITS) | CR0_ET;
    if ((v & CR0_PG && !(v & CR0_PE)) || (v & CR0_NW && !(v & CR0_CD)))
        return false;
    uint64_t change = v ^ k->cr0;
    if (change & v & CR0_PG && k->efer & EFER_LME) {
        if (!(k->cr4 & CR4_PAE) || k->cs.l)
            return false;
        k->efer |= EFER_LMA;
    } else if (change & ~v & CR0_PG) {
        if (k->cr4 & CR4_PCIDE || (k->efer & EFER_LMA && k->cs.l))
            return false;
        k->efer &= ~EFER_LMA;
    }
    k->cr0 = v;
    return true;
}

static bool put_cr3(const struct kvm_cpu *c, struct kvm_sregs *k, uint64_t v)
{
    if (!(k->efer & EFER_LMA)) {
        k->cr3 = (uint32_t)v;
        return true;
    }
    if (k->cr4 & CR4_PCIDE)
        v &= ~BIT64(63);
    if (v >> c->vm->model.phys_bits)
        return false;
    k->cr3 = v;
    return true;
}

static bool put_cr4(struct kvm_sregs *k, uint64_t v)
{
    uint64_t change = v ^ k->cr4;
    if (k->efer & EFER_LMA && change & (CR4_PAE | CR4_LA57))
        return false;
    if (change & v & CR4_PCIDE && (!(k->efer & EFER_LMA) || k->cr3 & 0xfff))
        return false;
    k->cr4 = v; /* KVM knows which bits there are */
    return true;
}

static bool put_efer(const struct kvm_cpu *c, struct kvm_sregs *k, uint64_t v)
{
    const struct cpu_model *m = &c->vm->model;
    uint64_t bits = EFER_LMA | (model_has(m, F_SYSCALL) ? EFER_SCE : 0) |
                    (model_has(m, F_LM) ? EFER_LME : 0) | (model_has(m, F_NX) ? EFER_NXE : 0) |
                    (model_has(m, F_AUTOIBRS) ? EFER_AIBRSE : 0);
    if (v & ~bits)
        return false;
    v = (v & ~EFER_LMA) | (k->efer & EFER_LMA);
    if ((v ^ k->efer) & EFER_LME && k->cr0 & CR0_PG)
        return false;
    k->efer = v;
    return true;
}

static int sreg(struct kvm_cpu *c, bool set, enum vc_reg reg, uint64_t *value)
{
    struct kvm_sregs k;
    int rc = set ? kvm_finish(c) : 0;
    if (!rc)
        rc = kvm_sregs_load(c, &k);
    if (rc)
        return rc;
    bool ok = true;
    switch (reg) {
    case VC_REG_CR0:
        if (set)
            ok = put_cr0(&k, *value);
        else
            *value = k.cr0;
        break;
    case VC_REG_CR2:
        if (set)
            k.cr2 = *value;
        else
            *value = k.cr2;
        break;
    case VC_REG_CR3:
        if (set)
            ok = put_cr3(c, &k, *value);
        else
            *value = k.cr3;
        break;
    case VC_REG_CR4:
        if (set)
            ok = put_cr4(&k, *value);
        else
            *value = k.cr4;
        break;
    case VC_REG_CR8:
        if (set)
            k.cr8 = *value;
        else
            *value = k.cr8;
        break;
    default:
        if (set)
            ok = put_efer(c, &k, *value);
        else
            *value = k.efer;
        break;
    }
    if (!ok)
        return VC_EINVAL;
    return set ? kvm_sregs_store(c, &k) : 0;
}

#define DR6_FIXED 0xffff0ff0ull
#define DR7_FIXED 0x400ull

static int dreg(struct kvm_cpu *c, bool set, enum vc_reg reg, uint64_t *value)
{
    struct kvm_debugregs d;
    int rc = set ? kvm_finish(c) : 0;
    if (!rc && ioctl(c->fd, KVM_GET_DEBUGREGS, &d))
        rc = kvm_error(errno, "reading debug registers");
    if (rc)
        return rc;
    if (!set) {
        *value = reg == VC_REG_DR7 ? d.dr7 : reg == VC_REG_DR6 ? d.dr6 : d.db[reg - VC_REG_DR0];
        return 0;
    }
    if (reg >= VC_REG_DR6 && *value >> 32)
        return VC_EINVAL;
    if (reg == VC_REG_DR7)
        d.dr7 = DR7_FIXED | (*value & 0xffff23ffu);
    else if (reg == VC_REG_DR6)
        d.dr6 = DR6_FIXED | (*value & 0xe00fu);
    else
        d.db[reg - VC_REG_DR0] = *value;
    return ioctl(c->fd, KVM_SET_DEBUGREGS, &d) ? VC_EINVAL : 0;
}

static int pkru(struct kvm_cpu *c, bool set, uint64_t *value)
{
    uint32_t v = (uint32_t)*value;
    if (set && *value >> 32)
        return VC_EINVAL;
    if (!model_has(&c->vm->model, F_PKU)) {
        *value = set ? *value : 0;
        return set && v ? VC_EINVAL : 0;
    }
    int rc = kvm_pkru(c, set, &v);
    *value = v;
    return rc;
}

int kvm_reg(struct backend_cpu *bc, bool set, enum vc_reg reg, uint64_t *value)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (c->in_emu)
        return backend_emu.reg(c->emu, set, reg, value);
    switch (reg) {
    case VC_REG_CR8:
        if (set && *value > 15)
            return VC_EINVAL;
        if (c->vm->chips)
            return sreg(c, set, reg, value);
        if (set)
            cr8_set(c, *value);
        else
            *value = cr8_get(c);
        return 0;
    case VC_REG_XCR0: return kvm_xcr0(c, set, value);
    case VC_REG_PKRU: return pkru(c, set, value);
    case VC_REG_DR0:
    case VC_REG_DR1:
    case VC_REG_DR2:
    case VC_REG_DR3:
    case VC_REG_DR6:
    case VC_REG_DR7: return dreg(c, set, reg, value);
    default: return sreg(c, set, reg, value);
    }
}

/* ---- addresses ------------------------------------------------------------------------ */

/* By our own walk: KVM_TRANSLATE does not look at rights. */
int kvm_translate(struct backend_cpu *bc, uint64_t linear, uint32_t access, uint64_t *gpa)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    struct kvm_sregs k;
    if (c->in_emu)
        return backend_emu.translate(c->emu, linear, access, gpa);
    int rc = kvm_sregs_load(c, &k);
    if (rc)
        return rc;
    const struct cpu_model *m = &c->vm->model;
    struct walk_regs w = {
        .cr0 = k.cr0,
        .cr3 = k.cr3,
        .cr4 = k.cr4,
        .efer = k.efer,
        .phys_bits = m->phys_bits,
        .gbpages = model_has(m, F_PDPE1GB),
    };
    uint64_t pkrs = 0;
    if (k.cr4 & CR4_PKE)
        kvm_pkru(c, false, &w.pkru);
    if (k.cr4 & CR4_PKS && !kvm_msr_host(c, false, MSR_PKRS, &pkrs))
        w.pkrs = (uint32_t)pkrs;
    if (k.efer & EFER_LMA) {
        unsigned unused = k.cr4 & CR4_LA57 ? 7 : 16;
        if ((uint64_t)((int64_t)(linear << unused) >> unused) != linear)
            return VC_EFAULT;
    }
    /* The processor has the four of its last load of CR3; these are memory's. */
    if (pae_paging(&k) && !mmu_load_pdptes(c->vm->env.mem, &w))
        return VC_EFAULT;
    struct walk out;
    enum walk_access how = access & VC_ACC_FETCH   ? WALK_FETCH
                           : access & VC_ACC_WRITE ? WALK_WRITE
                                                   : WALK_READ;
    if (mmu_walk(c->vm->env.mem, &w, linear, how, access & VC_ACC_USER,
                 c->run->s.regs.regs.rflags & RFLAGS_AC, false, &out))
        return VC_EFAULT;
    *gpa = out.gpa;
    return 0;
}
