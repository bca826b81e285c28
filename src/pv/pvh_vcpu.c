/* SPDX-License-Identifier: MIT
 * vCPUs of a PVH guest that are started by hypercall: with protected or long mode on and
 * registers as the guest wants them, instead of at a SIPI's vector. */
#include "domain.h"
#include <stdlib.h>
#include <xen/hvm/hvm_vcpu.h>

#define CR0_PE BIT64(0)
#define CR0_ET BIT64(4)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)

#define CR4_PAE BIT64(5)

#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define EFER_ALL (BIT64(0) | EFER_LME | EFER_LMA | BIT64(11)) /* SCE, NXE */

#define FL_FIXED BIT64(1)
#define FL_VM    BIT64(17)
#define FL_ALL   0x3f7fd7ull /* all that there are */

/* Attributes: type, S, DPL, P, and from bit 8 on AVL, L, DB, G. */
#define AR_CODE64 0xa9b
#define AR_DATA   0xc93
#define AR_TSS    0x08b
#define AR_P      0x80u
#define AR_S      0x10u
#define AR_CODE   0x08u
#define AR_DPL    0x60u
#define AR_KNOWN  0xfffu

struct first {
    struct vc_sregs s;
    struct vc_gprs g;
};

/* ---- what a guest may ask for ------------------------------------------------------------ */

static struct vc_segment flat(uint16_t attr)
{
    return (struct vc_segment){.limit = UINT32_MAX, .attr = attr};
}

static bool wide(const struct vcpu_hvm_x86_64 *r, struct first *f)
{
    const uint64_t gpr[8] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi};
    const uint64_t efer = r->efer | EFER_LMA;
    if (!(r->cr0 & CR0_PG) || !(r->cr4 & CR4_PAE) || !(r->efer & EFER_LME) || !pv_canonical(r->rip))
        return false;
    memcpy(f->g.gpr, gpr, sizeof gpr);
    f->g.rip = r->rip;
    f->g.rflags = r->rflags;
    f->s.cs = flat(AR_CODE64);
    f->s.ds = f->s.es = f->s.ss = f->s.fs = f->s.gs = flat(AR_DATA);
    f->s.tr = (struct vc_segment){.limit = 0x67, .attr = AR_TSS};
    f->s.cr0 = r->cr0;
    f->s.cr3 = r->cr3;
    f->s.cr4 = r->cr4;
    f->s.efer = efer;
    return true;
}

/* Code, data or neither; with CPL 0. */
static bool segment(struct vc_segment *to, uint32_t base, uint32_t limit, uint16_t ar, bool code)
{
    *to = (struct vc_segment){.base = base, .limit = limit, .attr = ar};
    if (ar & ~AR_KNOWN)
        return false;
    if (!code && !(ar & AR_P))
        return true;
    return ar & AR_P && ar & AR_S && !(ar & AR_DPL) && !(ar & AR_CODE) == !code;
}

static bool narrow(const struct vcpu_hvm_x86_32 *r, struct first *f)
{
    const uint64_t gpr[8] = {r->eax, r->ecx, r->edx, r->ebx, r->esp, r->ebp, r->esi, r->edi};
    bool paged = r->cr0 & CR0_PG, lme = r->efer & EFER_LME;
    if (paged && lme && !(r->cr4 & CR4_PAE))
        return false;
    if (!segment(&f->s.cs, r->cs_base, r->cs_limit, r->cs_ar, true) ||
        !segment(&f->s.ss, r->ss_base, r->ss_limit, r->ss_ar, false) ||
        !segment(&f->s.ds, r->ds_base, r->ds_limit, r->ds_ar, false) ||
        !segment(&f->s.es, r->es_base, r->es_limit, r->es_ar, false))
        return false;
    f->s.tr = (struct vc_segment){.base = r->tr_base, .limit = r->tr_limit, .attr = r->tr_ar};
    if (r->tr_ar & ~AR_KNOWN || (r->tr_ar & AR_P && (r->tr_ar & 0x1f) != 0xb))
        return false;
    memcpy(f->g.gpr, gpr, sizeof gpr);
    f->g.rip = r->eip;
    f->g.rflags = r->eflags;
    f->s.cr0 = r->cr0;
    f->s.cr3 = r->cr3;
    f->s.cr4 = r->cr4;
    f->s.efer = (r->efer & ~EFER_LMA) | (paged && lme ? EFER_LMA : 0);
    return true;
}

static bool first_of(const struct vcpu_hvm_context *c, struct first *f)
{
    *f = (struct first){.s.size = sizeof f->s, .g.size = sizeof f->g};
    if (c->mode == VCPU_HVM_MODE_64B
            ? !wide(&c->cpu_regs.x86_64, f)
            : c->mode != VCPU_HVM_MODE_32B || !narrow(&c->cpu_regs.x86_32, f))
        return false;
    f->s.cr0 |= CR0_ET;
    f->g.rflags |= FL_FIXED;
    return f->s.cr0 & CR0_PE && !(f->s.cr0 >> 32) && !(f->s.cr0 & CR0_NW && !(f->s.cr0 & CR0_CD)) &&
           !(f->s.cr3 >> 52) && !(f->s.efer & ~EFER_ALL) && !(f->g.rflags & ~FL_ALL) &&
           !(f->g.rflags & FL_VM);
}

long pvh_initialise(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t at)
{
    struct first f;
    struct vcpu_hvm_context *c = malloc(sizeof *c);
    long rc = c ? 0 : -XEN_ENOMEM;
    if (!rc && !pv_copy_from(v, c, at, sizeof *c))
        rc = -XEN_EFAULT;
    if (!rc && !first_of(c, &f))
        rc = -XEN_EINVAL;
    pv_lock(v);
    if (!rc && atomic_load(&who->initialised))
        rc = -XEN_EEXIST;
    if (!rc) {
        free(atomic_exchange(&who->first, c));
        atomic_store(&who->initialised, true);
        c = NULL;
    }
    pv_unlock(v);
    free(c);
    return rc;
}

/* ---- the start ----------------------------------------------------------------------------- */

bool pvh_start(struct pv_vcpu *v)
{
    const struct backend *be = v->d->host.be;
    struct vcpu_hvm_context *c = atomic_exchange(&v->first, NULL);
    bool called = atomic_exchange(&v->called_up, false);
    bool parked = atomic_exchange(&v->parked, false);
    struct first f;
    atomic_store(&v->initialised, true);
    if (!called) /* by another's local APIC */
        parked = false;
    else if (c && first_of(c, &f)) {
        struct vc_sregs now = {.size = sizeof now};
        parked = !be->sregs(v->bc, false, &now);
        f.s.apic_base = now.apic_base;
        f.s.cr8 = now.cr8;
        /* Flags first, as the mode that follows from the rest counts on them. */
        if (!parked || be->gprs(v->bc, true, &f.g) || be->sregs(v->bc, true, &f.s))
            pv_domain_crash(v, "a vCPU cannot start with what it was initialised with");
    }
    free(c);
    return parked;
}

void pvh_reset(struct pv_vcpu *v)
{
    free(atomic_exchange(&v->first, NULL));
    atomic_store(&v->called_up, false);
    atomic_store(&v->parked, false);
    if (v->id)
        atomic_store(&v->initialised, false);
}
