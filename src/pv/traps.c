/* SPDX-License-Identifier: MIT
 * How the guest's kernel gets what its user, its own instructions or the outside world
 * raise: bounce frames on its stack, and the way back by iret. */
#include "domain.h"
#include <xen/callback.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11 };

#define FL_FIXED 0x2ull
#define FL_TF    BIT64(8)
#define FL_IF    BIT64(9)
#define FL_IOPL  (3ull << FL_IOPL_SHIFT)
#define FL_NT    BIT64(14)
#define FL_RF    BIT64(16)
#define FL_VM    BIT64(17)
#define FL_AC    BIT64(18)

#define VEC_NMI 2u
#define VEC_UD  6u
#define VEC_NM  7u
#define VEC_GP  13u
#define VEC_PF  14u
#define PF_P    1u
#define PF_W    2u
#define PF_U    4u
#define PF_RSVD 8u
#define PF_I    16u

#define TRAP_DPL  3u
#define TRAP_MASK 4u

/* ---- kernel and user ------------------------------------------------------------------- */

static void mode_set(struct pv_vcpu *v, bool kernel)
{
    const struct pv_engine *e = v->d->eng;
    if (v->kernel == kernel)
        return;
    uint64_t gs = e->base(v->bc, PV_GS);
    e->set_base(v->bc, PV_GS, v->gs_other);
    v->gs_other = gs;
    v->kernel = kernel;
    if (!kernel)
        pv_space_ready(v);
    e->switch_mode(v->bc, kernel, (kernel ? v->kernel_mfn : v->user_mfn) << 12);
}

/* ---- bounce frames -------------------------------------------------------------------------- */

struct bounce {
    uint64_t address;
    bool mask; /* events are masked from here on */
    bool has_err, failsafe;
    uint32_t err;
};

/* From the top of the stack: RCX, R11, the data selectors if it is the failsafe
 * callback's, an error code if there is one, RIP, CS, RFLAGS, RSP, SS. */
static void bounce(struct pv_vcpu *v, const struct bounce *b)
{
    const struct pv_engine *e = v->d->eng;
    uint64_t *gpr = e->gprs(v->bc), frame[12], sp, flags = e->rflags(v->bc);
    uint16_t cs = e->selector(v->bc, PV_CS), ss = e->selector(v->bc, PV_SS);
    uint8_t masked = v->info->evtchn_upcall_mask;
    unsigned n = 0;

    if (!b->address) {
        pv_domain_crash(v, "the guest's kernel has no handler for what happened");
        return;
    }
    if (v->kernel) {
        sp = gpr[RSP];
        cs &= 0xfffc; /* how the guest knows its own mode */
    } else {
        mode_set(v, true);
        sp = v->kernel_sp;
    }
    sp &= ~15ull;
    flags &= ~(FL_IF | FL_IOPL);
    if (!masked)
        flags |= FL_IF;
    if (atomic_load(&v->d->iopl_in_flags))
        flags |= (uint64_t)v->iopl << FL_IOPL_SHIFT;
    frame[n++] = gpr[RCX];
    frame[n++] = gpr[R11];
    if (b->failsafe) {
        frame[n++] = e->selector(v->bc, PV_DS);
        frame[n++] = e->selector(v->bc, PV_ES);
        frame[n++] = e->selector(v->bc, PV_FS);
        frame[n++] = e->selector(v->bc, PV_GS);
    }
    if (b->has_err)
        frame[n++] = b->err;
    frame[n++] = e->rip(v->bc);
    frame[n++] = cs | (uint64_t)masked << 32;
    frame[n++] = flags;
    frame[n++] = gpr[RSP];
    frame[n++] = ss;
    sp -= n * sizeof *frame;
    if (!pv_copy_to(v, sp, frame, n * sizeof *frame)) {
        pv_domain_crash(v, "the guest's kernel has no stack for an exception's frame");
        return;
    }
    if (b->mask)
        v->info->evtchn_upcall_mask = 1;
    gpr[RSP] = sp;
    e->set_rflags(v->bc, e->rflags(v->bc) & ~(FL_AC | FL_VM | FL_RF | FL_NT | FL_TF));
    e->flat_cs_ss(v->bc, FLAT_KERNEL_CS64, FLAT_KERNEL_SS64);
    e->set_rip(v->bc, b->address);
}

static void inject(struct pv_vcpu *v, unsigned vector, bool has_err, uint32_t err)
{
    const struct pv_trap *t = &v->trap[vector & 0xff];
    const struct bounce b = {
        .address = t->address, .mask = t->flags & TRAP_MASK, .has_err = has_err, .err = err};
    if (!b.address && v->d->host.log)
        v->d->host.log(v->d->host.ctx, VC_LOG_WARN, "exception %u (error %#x) at %#llx, cr2 %#llx",
                       vector, err, (unsigned long long)v->d->eng->rip(v->bc),
                       (unsigned long long)v->info->arch.cr2);
    bounce(v, &b);
}

void pv_upcall(struct pv_vcpu *v)
{
    if (!pv_upcall_pending(v) || v->info->evtchn_upcall_mask || !v->callback[CB_EVENT].address)
        return;
    const struct bounce b = {.address = v->callback[CB_EVENT].address, .mask = true};
    bounce(v, &b);
}

/* ---- exceptions ---------------------------------------------------------------------------------
 */

static void soft_interrupt(struct pv_vcpu *v, const struct pv_event *ev)
{
    const struct pv_trap *t = &v->trap[ev->vector];
    /* The kernel may use any; it has no IDT whose gates could say less. */
    if (!t->address || (!v->kernel && (t->flags & TRAP_DPL) < 3)) {
        v->d->eng->set_rip(v->bc, ev->insn_ip);
        inject(v, VEC_GP, true, ev->vector * 8u + 2);
        return;
    }
    inject(v, ev->vector, false, 0);
}

static void page_fault(struct pv_vcpu *v, const struct pv_event *ev)
{
    uint32_t err = ev->err;
    if (v->kernel && (err & (PF_P | PF_W)) == (PF_P | PF_W) && !(err & (PF_RSVD | PF_I)) &&
        pv_pt_write(v, ev->cr2))
        return;
    v->info->arch.cr2 = ev->cr2;
    inject(v, VEC_PF, true, v->kernel ? err & ~PF_U : err | PF_U);
}

/* The kernel set CR0.TS: it gets #NM once. */
static void no_fpu(struct pv_vcpu *v)
{
    v->cr0 &= ~BIT64(3);
    v->d->eng->set_ts(v->bc, false);
    inject(v, VEC_NM, false, 0);
}

static void exception(struct pv_vcpu *v, const struct pv_event *ev)
{
    switch (ev->vector) {
    case VEC_PF: page_fault(v, ev); return;
    case VEC_NM: no_fpu(v); return;
    case VEC_UD:
        if (pv_forced_cpuid(v))
            return;
        break;
    case VEC_GP:
        if (!ev->err && pv_privop(v))
            return;
        break;
    default: break;
    }
    inject(v, ev->vector, ev->has_err, ev->err);
}

static struct pv_vcpu *vcpu_of(void *ctx, unsigned cpu)
{
    struct pv_domain *d = ctx;
    struct pv_vcpu *v = cpu < d->host.ncpu ? &d->vcpu[cpu] : NULL;
    return v && v->bc && atomic_load(&v->up) ? v : NULL;
}

/* Down: it goes on where it stopped, once it is up again. */
static void stay_down(const struct pv_domain *d, unsigned cpu)
{
    if (cpu < d->host.ncpu && d->vcpu[cpu].bc)
        d->eng->halt(d->vcpu[cpu].bc);
}

void pv_hook_event(void *ctx, unsigned cpu, const struct pv_event *ev)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v) {
        stay_down(ctx, cpu);
        return;
    }
    if (ev->kind == PV_EV_SOFT)
        soft_interrupt(v, ev);
    else if (ev->kind == PV_EV_NMI)
        inject(v, VEC_NMI, false, 0);
    else
        exception(v, ev);
    pv_upcall(v);
}

void pv_hook_syscall(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v)
        return;
    /* SYSCALL's way in and back loses CS and SS: Xen says these, whatever they were. */
    if (v->d->eng->code64(v->bc) && v->d->eng->selector(v->bc, PV_CS) != FLAT_KERNEL_CS64)
        v->d->eng->flat_cs_ss(v->bc, FLAT_KERNEL_CS64, FLAT_KERNEL_SS64);
    if (v->kernel) {
        pv_hypercall(v);
    } else {
        bool wide = v->d->eng->code64(v->bc);
        unsigned cb = wide ? CB_SYSCALL : CB_SYSCALL32;
        const struct bounce b = {.address = v->callback[cb].address, .mask = v->callback[cb].mask};
        if (b.address) {
            bounce(v, &b);
        } else {
            v->d->eng->set_rip(v->bc, v->d->eng->rip(v->bc) - 2);
            inject(v, VEC_UD, false, 0);
        }
    }
    pv_upcall(v);
}

void pv_hook_wake(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v) {
        stay_down(ctx, cpu);
        return;
    }
    if (atomic_exchange(&v->polling, false))
        clock_timer_disarm(v->poll_timer);
    pv_runstate_set(v, RUNSTATE_running);
    pv_upcall(v);
}

/* ---- the way back
 * ---------------------------------------------------------------------------------- */

long hc_iret(struct pv_vcpu *v, const uint64_t a[6])
{
    const struct pv_engine *e = v->d->eng;
    uint64_t *gpr = e->gprs(v->bc);
    struct iret_context f;
    (void)a;
    if (!pv_copy_from(v, &f, gpr[RSP], sizeof f)) {
        pv_domain_crash(v, "iret without a frame");
        return 0;
    }
    bool to_user = (f.cs & 3) == 3;
    if (to_user && v->user_mfn == FRAME_NR) {
        pv_domain_crash(v, "iret to user mode without page tables for it");
        return 0;
    }
    uint16_t cs = (uint16_t)f.cs | 3, ss = (uint16_t)f.ss | 3;
    if (to_user)
        mode_set(v, false);
    e->set_rip(v->bc, f.rip);
    e->set_rflags(v->bc, (f.rflags & ~(FL_IOPL | FL_VM)) | FL_IF | FL_FIXED);
    gpr[RSP] = f.rsp;
    if (!(f.flags & VGCF_in_syscall)) {
        gpr[R11] = f.r11;
        gpr[RCX] = f.rcx;
    }
    gpr[RAX] = f.rax;
    v->no_result = true;
    v->info->evtchn_upcall_mask = !(f.rflags & FL_IF);
    if (atomic_load(&v->d->iopl_in_flags))
        v->iopl = f.rflags >> FL_IOPL_SHIFT & 3;
    if (cs == FLAT_KERNEL_CS64 && ss == FLAT_KERNEL_SS64) {
        e->flat_cs_ss(v->bc, cs, ss);
    } else if (!e->load_cs_ss(v->bc, cs, ss)) {
        const struct bounce b = {.address = v->callback[CB_FAILSAFE].address,
                                 .mask = v->callback[CB_FAILSAFE].mask,
                                 .failsafe = true};
        bounce(v, &b);
    }
    return 0;
}

/* ---- what the kernel registers
 * --------------------------------------------------------------------- */

long hc_set_trap_table(struct pv_vcpu *v, const uint64_t a[6])
{
    if (!a[0]) {
        memset(v->trap, 0, sizeof v->trap);
        return 0;
    }
    for (uint64_t at = a[0];; at += sizeof(struct trap_info)) {
        struct trap_info t;
        if (!pv_spend(v))
            return -XEN_E2BIG;
        if (!pv_copy_from(v, &t, at, sizeof t))
            return -XEN_EFAULT;
        if (!t.address)
            return 0;
        if (!pv_va_allowed(t.address))
            return -XEN_EINVAL;
        v->trap[t.vector] = (struct pv_trap){.address = t.address, .cs = t.cs, .flags = t.flags};
    }
}

static long callback_set(struct pv_vcpu *v, unsigned type, uint64_t address, bool mask)
{
    static const uint8_t slot[] = {[CALLBACKTYPE_event] = 1 + CB_EVENT,
                                   [CALLBACKTYPE_failsafe] = 1 + CB_FAILSAFE,
                                   [CALLBACKTYPE_syscall] = 1 + CB_SYSCALL,
                                   [CALLBACKTYPE_syscall32] = 1 + CB_SYSCALL32,
                                   [CALLBACKTYPE_sysenter] = 1 + CB_SYSENTER};
    if (!pv_va_allowed(address))
        return -XEN_EINVAL;
    if (type == CALLBACKTYPE_nmi)
        return 0;
    if (type >= ARRAY_LEN(slot) || !slot[type])
        return -XEN_ENOSYS;
    v->callback[slot[type] - 1].address = address;
    v->callback[slot[type] - 1].mask = mask;
    return 0;
}

long hc_callback_op(struct pv_vcpu *v, const uint64_t a[6])
{
    struct callback_register r;
    switch ((uint32_t)a[0]) {
    case CALLBACKOP_register:
        if (!pv_copy_from(v, &r, a[1], sizeof r))
            return -XEN_EFAULT;
        return callback_set(v, r.type, r.address, r.flags & CALLBACKF_mask_events);
    case CALLBACKOP_unregister:
        if (!pv_copy_from(v, &r, a[1], sizeof(struct callback_unregister)))
            return -XEN_EFAULT;
        return callback_set(v, r.type, 0, false);
    default: return -XEN_ENOSYS;
    }
}

long hc_set_callbacks(struct pv_vcpu *v, const uint64_t a[6])
{
    if (!pv_va_allowed(a[0]) || !pv_va_allowed(a[1]) || !pv_va_allowed(a[2]))
        return -XEN_EINVAL;
    v->callback[CB_EVENT].address = a[0];
    v->callback[CB_FAILSAFE].address = a[1];
    v->callback[CB_SYSCALL].address = a[2];
    return 0;
}

long hc_stack_switch(struct pv_vcpu *v, const uint64_t a[6])
{
    v->kernel_ss = (uint16_t)a[0];
    v->kernel_sp = a[1];
    return 0;
}
