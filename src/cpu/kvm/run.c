/* SPDX-License-Identifier: MIT
 * Running: what waits for the vCPU, KVM_RUN, what it came back for. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include "../../mmu/mem.h"
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RFLAGS_IF 0x200u
#define DR6_BS    0x4000u

/* ---- failures ------------------------------------------------------------------------ */

/* The code at RIP, as far as it can be reached. */
static unsigned code_bytes(struct kvm_cpu *c, uint8_t bytes[16])
{
    struct kvm_sregs s;
    if (kvm_sregs_load(c, &s))
        return 0;
    uint64_t at = s.cs.base + c->run->s.regs.regs.rip, gpa;
    unsigned n = 0;
    for (; n < 16; n++)
        if (kvm_translate((struct backend_cpu *)c, at + n, VC_ACC_FETCH, &gpa) ||
            !mem_copy_out(c->vm->env.mem, gpa, &bytes[n], 1))
            break;
    return n;
}

static void log_state(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    const struct kvm_regs *r = &c->run->s.regs.regs;
    struct kvm_sregs s;
    if (!env->log)
        return;
#define U(x) ((unsigned long long)(x))
    env->log(env->ctx, VC_LOG_ERROR,
             "vCPU %u: rip %llx rflags %llx rax %llx rcx %llx rdx %llx rbx %llx rsp %llx rbp %llx "
             "rsi %llx rdi %llx",
             c->index, U(r->rip), U(r->rflags), U(r->rax), U(r->rcx), U(r->rdx), U(r->rbx),
             U(r->rsp), U(r->rbp), U(r->rsi), U(r->rdi));
    env->log(env->ctx, VC_LOG_ERROR,
             "vCPU %u: r8 %llx r9 %llx r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx r15 %llx",
             c->index, U(r->r8), U(r->r9), U(r->r10), U(r->r11), U(r->r12), U(r->r13), U(r->r14),
             U(r->r15));
    if (!kvm_sregs_load(c, &s))
        env->log(env->ctx, VC_LOG_ERROR,
                 "vCPU %u: cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx cs %x:%llx ss %x gdt "
                 "%llx+%x idt %llx+%x",
                 c->index, U(s.cr0), U(s.cr2), U(s.cr3), U(s.cr4), U(s.efer), s.cs.selector,
                 U(s.cs.base), s.ss.selector, U(s.gdt.base), s.gdt.limit, U(s.idt.base),
                 s.idt.limit);
#undef U
}

int kvm_failed(struct kvm_cpu *c, uint32_t reason, const char *why)
{
    const struct cpu_env *env = &c->vm->env;
    struct vc_exit *x = c->exit;
    char code[3 * 16 + 1] = "";
    memset(&x->u, 0, sizeof x->u);
    x->kind = VC_EXIT_FAILED;
    x->u.failed.reason = reason;
    x->u.failed.nbytes = code_bytes(c, x->u.failed.bytes);
    for (unsigned i = 0; i < x->u.failed.nbytes; i++)
        snprintf(code + 3 * i, sizeof code - 3 * i, "%02x ", x->u.failed.bytes[i]);
    if (env->log)
        env->log(env->ctx, VC_LOG_ERROR, "vCPU %u: %s; code %s", c->index, why, code);
    log_state(c);
    err_begin();
    return err_set(VC_EINTERNAL, "KVM cannot go on: %s; rip %#llx, code %s", why,
                   (unsigned long long)c->run->s.regs.regs.rip, code);
}

/* ---- KVM_RUN --------------------------------------------------------------------------- */

#define WAITS                                                                                      \
    (PEND_KICK | PEND_IRQ | PEND_NMI | PEND_INIT | PEND_SIPI | PEND_POWER | PEND_STOP |            \
     PEND_TIME | PEND_TURN)

/* Whether something came that has to be looked at before the guest goes on. */
static bool something_waits(const struct kvm_cpu *c)
{
    uint32_t mask = c->run->request_interrupt_window ? WAITS & ~PEND_IRQ : WAITS;
    return atomic_load(&c->mail->pending) & mask;
}

/* 0: there is an exit to look at. EINTR: none. */
static int enter(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    for (;;) {
        mail_inside(c->mail, c->tid);
        if (likely(!atomic_load(&c->vm->changing)))
            break;
        atomic_store(&c->mail->inside, 0);
        kvm_wait_change(c->vm);
    }
    /* From here on the alarm that ends a run finds the byte reset. */
    bool late = c->deadline_ns && host_now_ns() >= c->deadline_ns;
    if (late || something_waits(c)) {
        if (!c->unfinished) {
            atomic_store_explicit(&c->mail->inside, 0, memory_order_release);
            return EINTR;
        }
        __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_RELAXED);
    }
    int rc = ioctl(c->fd, KVM_RUN, 0) ? errno : 0;
    atomic_store_explicit(&c->mail->inside, 0, memory_order_release);
    c->unfinished = false;
    return rc;
}

/* The kernel ends the instruction that left it, and begins no other. *more: that one
 * has another access, in c->run. */
static int end_insn(struct kvm_cpu *c, bool *more)
{
    *more = false;
    atomic_store(&c->mail->inside, 0);
    __atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_RELAXED);
    int e = ioctl(c->fd, KVM_RUN, 0) ? errno : 0;
    c->unfinished = false;
    if (e && e != EINTR && e != EAGAIN)
        return kvm_error(e, "ending an instruction");
    *more = !e && (c->run->exit_reason == KVM_EXIT_IO || c->run->exit_reason == KVM_EXIT_MMIO);
    return 0;
}

int kvm_finish(struct kvm_cpu *c)
{
    while (c->unfinished) {
        /* What nobody answered reads as what is there. */
        int rc = end_insn(c, &c->unfinished);
        if (rc)
            return rc;
    }
    c->io.left = 0;
    c->hcall_due = false;
    return kvm_regs_flush(c);
}

/* ---- exits ------------------------------------------------------------------------------ */

static int leave(struct kvm_cpu *c, uint32_t kind)
{
    memset(&c->exit->u, 0, sizeof c->exit->u);
    c->exit->kind = kind;
    return NEXT_LEAVE;
}

static int debug_exit(struct kvm_cpu *c)
{
    leave(c, VC_EXIT_DEBUG);
    c->exit->u.debug.dr6 = c->run->debug.arch.dr6 & 0xe00f;
    return NEXT_LEAVE;
}

static int internal_error(struct kvm_cpu *c)
{
    const struct kvm_run *run = c->run;
    char why[96];
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        int rc = kvm_events_drop_exception(c);
        return rc ? rc : kvm_step_begin(c);
    }
    snprintf(why, sizeof why, "internal error %u, data %#llx %#llx", run->internal.suberror,
             (unsigned long long)(run->internal.ndata > 0 ? run->internal.data[0] : 0),
             (unsigned long long)(run->internal.ndata > 1 ? run->internal.data[1] : 0));
    return kvm_failed(c, run->exit_reason, why);
}

static int handle(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    char why[96];
    switch (run->exit_reason) {
    case KVM_EXIT_IO: return kvm_io_exit(c);
    case KVM_EXIT_MMIO: return kvm_mmio_exit(c);
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR: return NEXT_GO;
    case KVM_EXIT_HLT:
        c->stats.hlts++;
        c->halted = true;
        return NEXT_GO;
    case KVM_EXIT_SHUTDOWN: return leave(c, VC_EXIT_SHUTDOWN);
    case KVM_EXIT_DEBUG: return debug_exit(c);
    case KVM_EXIT_DIRTY_RING_FULL: kvm_dirty_full(c); return NEXT_GO;
    case KVM_EXIT_IOAPIC_EOI: c->vm->env.eoi(c->vm->env.ctx, run->eoi.vector); return NEXT_GO;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR: kvm_msr_exit(c); return NEXT_GO;
    case KVM_EXIT_XEN: return kvm_hcall_exit(c);
    case KVM_EXIT_INTERNAL_ERROR: return internal_error(c);
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(why, sizeof why, "the processor refused to enter the guest, reason %#llx",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        return kvm_failed(c, run->exit_reason, why);
    default:
        snprintf(why, sizeof why, "exit %u, which nobody asked for", run->exit_reason);
        return kvm_failed(c, run->exit_reason, why);
    }
}

static int run_error(struct kvm_cpu *c, int e)
{
    char why[96];
    snprintf(why, sizeof why, "KVM_RUN: %s%s", strerrordesc_np(e),
             e == EFAULT ? " (host memory of the partition went away?)" : "");
    return kvm_failed(c, c->run->exit_reason, why);
}

/* ---- before it goes on -------------------------------------------------------------------- */

/* Sleeps in HLT or wait-for-SIPI until something counts. */
static int sleep_halted(struct kvm_cpu *c)
{
    uint32_t mask = WAITS;
    if (c->wait_sipi)
        mask &= ~(PEND_IRQ | PEND_NMI);
    else if (!(c->run->s.regs.regs.rflags & RFLAGS_IF))
        mask &= ~PEND_IRQ;
    if (!c->vm->env.irq_ack && !c->wait_sipi && !(atomic_load(&c->mail->pending) & mask)) {
        c->halted = false;
        return leave(c, VC_EXIT_HLT);
    }
    uint64_t t0 = host_now_ns();
    uint32_t got = mail_wait(c->mail, mask, c->deadline_ns);
    c->stats.idle_ns += host_now_ns() - t0;
    return got ? NEXT_GO : leave(c, VC_EXIT_BUDGET);
}

/* Everything that the pending word may hold, most urgent first; NEXT_GO with *again:
 * look once more. */
static int take_pending(struct kvm_cpu *c, bool *again)
{
    uint32_t p = atomic_load(&c->mail->pending);
    if (p & PEND_POWER)
        return leave(c, VC_EXIT_POWER);
    if (p & PEND_KICK) {
        mail_clear(c->mail, PEND_KICK);
        return leave(c, VC_EXIT_KICK);
    }
    if (p & PEND_TIME) {
        mail_clear(c->mail, PEND_TIME);
        return leave(c, VC_EXIT_BUDGET);
    }
    if (p & PEND_TURN) {
        mail_clear(c->mail, PEND_TURN);
        return leave(c, VC_EXIT_NONE);
    }
    if (p & (PEND_STOP | PEND_FLUSH))
        mail_clear(c->mail, PEND_STOP | PEND_FLUSH); /* enter() waits */
    *again = true;
    if (p & PEND_INIT)
        return kvm_take_init(c);
    if (p & PEND_SIPI)
        return kvm_take_sipi(c);
    if (c->wait_sipi)
        return sleep_halted(c);
    *again = false;
    int rc = kvm_inject(c);
    /* An interrupt that can be taken, once KVM has said so, ends the halt. */
    bool coming = c->run->request_interrupt_window && c->run->s.regs.regs.rflags & RFLAGS_IF;
    if (!rc && c->halted && !coming) {
        *again = true;
        return sleep_halted(c);
    }
    return rc;
}

static bool cr8_in(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    if (!env->cr8_get)
        return false;
    c->run->cr8 = env->cr8_get(env->ctx, c->index);
    return true;
}

static int prepare(struct kvm_cpu *c)
{
    bool again = true;
    int rc = NEXT_GO;
    while (again && rc == NEXT_GO) {
        again = false;
        if (atomic_load_explicit(&c->mail->pending, memory_order_acquire) | c->halted |
            c->wait_sipi | c->run->request_interrupt_window)
            rc = take_pending(c, &again);
    }
    if (rc == NEXT_GO && c->deadline_ns && host_now_ns() >= c->deadline_ns)
        rc = leave(c, VC_EXIT_BUDGET);
    return rc;
}

/* The answer to a hypercall that left the last run. */
static void hcall_answer(struct kvm_cpu *c)
{
    if (!c->hcall_due)
        return;
    c->hcall_due = false;
    c->run->xen.u.hcall.result = c->exit->u.hcall.ret;
}

/* Accesses that are still to come are the devices'; without one they have no effect,
 * and read as what is there: who asks for this cannot be asked again. */
int kvm_cpu_finish(struct backend_cpu *bc, struct vc_exit *exit)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    struct vc_exit x = *exit;
    int rc = 0;
    c->exit = &x;
    hcall_answer(c);
    if (c->in_emu) {
        rc = kvm_step_finish(c);
    } else {
        if (c->io.left)
            rc = kvm_io_go(c);
        for (bool more = c->unfinished; more && rc >= 0;) {
            rc = end_insn(c, &more);
            if (more && !rc)
                rc = c->run->exit_reason == KVM_EXIT_IO ? kvm_io_exit(c) : kvm_mmio_exit(c);
        }
        c->io.left = 0;
    }
    c->exit = NULL;
    return rc < 0 ? rc : 0;
}

static int loop(struct kvm_cpu *c)
{
    int rc = NEXT_GO;
    hcall_answer(c);
    if (c->in_emu)
        rc = kvm_step_go(c);
    else if (c->io.left)
        rc = kvm_io_go(c);
    if (rc == NEXT_GO)
        memset(c->exit, 0, sizeof *c->exit);
    while (rc == NEXT_GO && !c->batch_rc) {
        if (!c->unfinished)
            rc = prepare(c);
        if (rc != NEXT_GO)
            break;
        bool tpr = cr8_in(c);
        uint64_t cr8 = c->run->cr8;
        int e = enter(c);
        if (unlikely(atomic_load_explicit(&c->vm->batches, memory_order_relaxed)))
            c->batch_rc = kvm_batch_take(c); /* before what it came out for */
        if (tpr && c->run->cr8 != cr8)
            c->vm->env.cr8_set(c->vm->env.ctx, c->index, c->run->cr8);
        if (!e)
            rc = handle(c);
        else if (e != EINTR && e != EAGAIN)
            rc = run_error(c, e);
    }
    /* A code of a collected write waits while there is an exit to tell first. */
    if (rc == NEXT_GO && c->batch_rc) {
        rc = c->batch_rc;
        c->batch_rc = 0;
    }
    return rc;
}

/* ---- a run ---------------------------------------------------------------------------------- */

int kvm_cpu_run(struct backend_cpu *bc, const struct vc_budget *budget, struct vc_exit *exit)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    struct kvm_alarm alarm;
    uint64_t t0 = host_now_ns();
    c->exit = exit;
    c->tid = (int32_t)syscall(SYS_gettid);
    c->deadline_ns = budget->ns ? t0 + budget->ns : 0;
    if (budget->ns && c->deadline_ns < t0)
        c->deadline_ns = 0;                    /* beyond the end of time: no limit */
    if (!c->ran && c->cores != c->vm->ncpus) { /* more came since CPUID was told */
        int rc = kvm_cpuid_set(c);
        if (rc)
            return rc;
    }
    c->ran = true;
    int rc = kvm_signal_begin(c, &alarm);
    if (!rc)
        rc = loop(c);
    kvm_signal_end(c, &alarm);
    exit->size = sizeof *exit;
    if (!c->in_emu)
        exit->rip = c->run->s.regs.regs.rip;
    c->stats.exits[exit->kind & 15]++;
    c->exit = NULL;
    return rc == NEXT_LEAVE ? 0 : rc;
}
