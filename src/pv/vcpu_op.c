/* SPDX-License-Identifier: MIT
 * vCPUs made, started and stopped by the guest; their information areas and timers. */
#include "domain.h"
#include <stdlib.h>
#include <xen/sched.h>

static struct pv_vcpu *vcpu_nr(struct pv_domain *d, uint64_t id)
{
    return (uint32_t)id < d->host.ncpu ? &d->vcpu[(uint32_t)id] : NULL;
}

/* ---- the first state -------------------------------------------------------------------- */

static void put_gprs(struct pv_vcpu *v, const struct cpu_user_regs *r)
{
    uint64_t *g = v->d->eng->gprs(v->bc);
    const uint64_t from[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                               r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    memcpy(g, from, sizeof from);
}

static int put_tables(struct pv_vcpu *v, const struct vcpu_guest_context *c)
{
    uint64_t gdt[16];
    int rc = 0;
    for (unsigned i = 0; i < 16; i++)
        gdt[i] = c->gdt_frames[i];
    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY || c->ldt_ents)
        return -XEN_EINVAL; /* an LDT needs the vCPU's own tables: it sets one later */
    rc = pv_gdt_set(v, gdt, (unsigned)c->gdt_ents);
    if (!rc)
        rc = pv_base_set(v, xen_cr3_to_pfn(c->ctrlreg[3]), false);
    if (!rc && c->ctrlreg[1])
        rc = pv_base_set(v, xen_cr3_to_pfn(c->ctrlreg[1]), true);
    return rc;
}

/* With the lock. The vCPU does not run. */
static int context_put(struct pv_vcpu *v, const struct vcpu_guest_context *c)
{
    if (!pv_canonical(c->user_regs.rip) || !pv_canonical(c->user_regs.rsp) ||
        !pv_canonical(c->kernel_sp) || !pv_canonical(c->fs_base) ||
        !pv_canonical(c->gs_base_kernel) || !pv_canonical(c->gs_base_user))
        return -XEN_EINVAL;
    if (!pv_va_allowed(c->event_callback_eip) || !pv_va_allowed(c->failsafe_callback_eip) ||
        !pv_va_allowed(c->syscall_callback_eip) || !(c->flags & VGCF_in_kernel))
        return -XEN_EINVAL;
    for (unsigned i = 0; i < 256; i++) {
        const struct trap_info *t = &c->trap_ctxt[i];
        if (!pv_va_allowed(t->address))
            return -XEN_EINVAL;
        v->trap[i] = (struct pv_trap){.address = t->address, .cs = t->cs, .flags = t->flags};
    }
    int rc = put_tables(v, c);
    if (rc)
        return rc;
    v->callback[CB_EVENT].address = c->event_callback_eip;
    v->callback[CB_FAILSAFE].address = c->failsafe_callback_eip;
    v->callback[CB_FAILSAFE].mask = c->flags & VGCF_failsafe_disables_events;
    v->callback[CB_SYSCALL].address = c->syscall_callback_eip;
    v->callback[CB_SYSCALL].mask = c->flags & VGCF_syscall_disables_events;
    v->kernel_ss = (uint16_t)c->kernel_ss;
    v->kernel_sp = c->kernel_sp;
    v->kernel = true;
    v->gs_other = c->gs_base_user;
    v->iopl = c->user_regs.rflags >> FL_IOPL_SHIFT & 3;
    v->d->eng->set_base(v->bc, PV_FS, c->fs_base);
    v->d->eng->set_base(v->bc, PV_GS, c->gs_base_kernel);
    v->d->eng->set_rip(v->bc, c->user_regs.rip);
    v->d->eng->set_rflags(v->bc, (c->user_regs.rflags & 0xcd5ull) | 0x202);
    put_gprs(v, &c->user_regs);
    v->initialised = true;
    return 0;
}

/* Once: another vCPU may be at it, too. */
static long initialise(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t at)
{
    struct vcpu_guest_context *c = malloc(sizeof *c);
    long rc = -XEN_ENOMEM;
    if (c) {
        rc = pv_copy_from(v, c, at, sizeof *c) ? 0 : -XEN_EFAULT;
        if (!rc) {
            pv_lock(v);
            rc = who->initialised ? -XEN_EEXIST : context_put(who, c);
            pv_unlock(v);
        }
        free(c);
    }
    return rc;
}

/* On the vCPU's own thread: it was woken for the first time. */
void pv_hook_start(void *ctx, unsigned cpu)
{
    struct pv_domain *d = ctx;
    if (cpu >= d->host.ncpu || !d->vcpu[cpu].bc)
        return;
    struct pv_vcpu *v = &d->vcpu[cpu];
    const struct pv_engine *e = d->eng;
    e->switch_mode(v->bc, true, v->kernel_mfn << 12);
    pv_lock(v);
    pv_space_enter(v);
    pv_unlock(v);
    pv_descriptors_load(v);
    e->flat_cs_ss(v->bc, FLAT_KERNEL_CS64, FLAT_KERNEL_SS64);
    pv_time_publish(v);
    pv_runstate_set(v, RUNSTATE_running);
    pv_upcall(v);
}

static long up(struct pv_vcpu *who)
{
    if (!who->initialised || !who->bc)
        return -XEN_EINVAL;
    /* It waits for its first start, or where it went down. */
    if (!atomic_exchange(&who->up, true)) {
        atomic_store(&who->called_up, true);
        mail_post(who->mail, PEND_SIPI | PEND_EVENT);
    }
    return 0;
}

static bool others_up(const struct pv_vcpu *v)
{
    for (unsigned i = 0; i < v->d->host.ncpu; i++)
        if (i != v->id && atomic_load(&v->d->vcpu[i].up))
            return true;
    return false;
}

/* Without translations: nobody asks it to forget any until it is up again. */
static void down(struct pv_vcpu *v)
{
    struct pv_domain *d = v->d;
    pv_runstate_set(v, RUNSTATE_offline);
    pv_lock(v);
    if (!d->pvh)
        pv_flush(v);
    atomic_store(&v->up, false);
    pv_unlock(v);
    if (d->pvh) { /* where no interrupt wakes it */
        atomic_store(&v->parked, true);
        d->eng->park(v->bc);
    } else {
        d->eng->halt(v->bc);
    }
    if (!others_up(v)) /* nobody could ever call it up again */
        d->host.power(d->host.ctx, VC_POWER_OFF, SHUTDOWN_poweroff);
}

/* ---- timers --------------------------------------------------------------------------------- */

static long periodic(struct pv_vcpu *v, uint64_t at)
{
    struct vcpu_set_periodic_timer t;
    if (!pv_copy_from(v, &t, at, sizeof t))
        return -XEN_EFAULT;
    if (t.period_ns < 1000000 || t.period_ns > INT64_MAX / 2)
        return -XEN_EINVAL;
    __atomic_store_n(&v->period, t.period_ns, __ATOMIC_RELAXED);
    clock_timer_arm(v->periodic, clock_now(v->d->host.clock) + t.period_ns);
    return 0;
}

static long singleshot(struct pv_vcpu *v, uint64_t at)
{
    struct vcpu_set_singleshot_timer t;
    if (!pv_copy_from(v, &t, at, sizeof t))
        return -XEN_EFAULT;
    if (t.flags & VCPU_SSHOTTMR_future && t.timeout_abs_ns < pv_system_time(v->d))
        return -XEN_ETIME;
    pv_timer_at(v, v->timer, t.timeout_abs_ns);
    return 0;
}

/* ---- the hypercall ------------------------------------------------------------------------------
 */

static long register_info(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t at)
{
    struct vcpu_register_vcpu_info r;
    if (!pv_copy_from(v, &r, at, sizeof r))
        return -XEN_EFAULT;
    pv_lock(v);
    long rc =
        who != v && atomic_load(&who->up) ? -XEN_EINVAL : pv_info_register(who, r.mfn, r.offset);
    pv_unlock(v);
    return rc;
}

static long runstate(struct pv_vcpu *v, struct pv_vcpu *who, unsigned cmd, uint64_t at)
{
    struct vcpu_register_runstate_memory_area area;
    struct vcpu_runstate_info now;
    if (cmd == VCPUOP_get_runstate_info) {
        if (who == v)
            pv_runstate_set(v, RUNSTATE_running);
        pv_runstate_get(who, &now);
        return pv_copy_to(v, at, &now, sizeof now) ? 0 : -XEN_EFAULT;
    }
    if (!pv_copy_from(v, &area, at, sizeof area))
        return -XEN_EFAULT;
    return pv_runstate_register(v, who, (uint64_t)(uintptr_t)area.addr.v);
}

/* What never changes is written once, and the area forgotten. */
static long time_area(struct pv_vcpu *v, uint64_t at)
{
    struct vcpu_register_time_memory_area area;
    struct vcpu_time_info t;
    if (!pv_copy_from(v, &area, at, sizeof area))
        return -XEN_EFAULT;
    pv_time_info(v->d, &t);
    uint64_t to = (uint64_t)(uintptr_t)area.addr.v;
    return !to || pv_copy_to(v, to, &t, sizeof t) ? 0 : -XEN_EFAULT;
}

long hc_vcpu_op(struct pv_vcpu *v, const uint64_t a[6])
{
    unsigned cmd = (unsigned)a[0];
    struct pv_vcpu *who = vcpu_nr(v->d, a[1]);
    if (!who || !who->bc)
        return -XEN_ENOENT;
    switch (cmd) {
    case VCPUOP_initialise:
        if (who == v)
            return -XEN_EEXIST;
        return v->d->pvh ? pvh_initialise(v, who, a[2]) : initialise(v, who, a[2]);
    case VCPUOP_up: return up(who);
    case VCPUOP_down:
        if (who != v)
            return -XEN_EINVAL;
        down(v);
        return 0;
    case VCPUOP_is_up: return atomic_load(&who->up);
    case VCPUOP_get_runstate_info:
    case VCPUOP_register_runstate_memory_area: return runstate(v, who, cmd, a[2]);
    case VCPUOP_register_vcpu_time_memory_area: return time_area(v, a[2]);
    case VCPUOP_register_vcpu_info: return register_info(v, who, a[2]);
    case VCPUOP_set_periodic_timer: return who == v ? periodic(v, a[2]) : -XEN_EINVAL;
    case VCPUOP_stop_periodic_timer:
        __atomic_store_n(&who->period, 0, __ATOMIC_RELAXED);
        clock_timer_disarm(who->periodic);
        return 0;
    case VCPUOP_set_singleshot_timer: return who == v ? singleshot(v, a[2]) : -XEN_EINVAL;
    case VCPUOP_stop_singleshot_timer: clock_timer_disarm(who->timer); return 0;
    case VCPUOP_send_nmi: mail_post(who->mail, PEND_NMI); return 0;
    default: return -XEN_ENOSYS;
    }
}
