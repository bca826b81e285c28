/* SPDX-License-Identifier: MIT
 * vCPUs: creating, running, stopping. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include <stdlib.h>

/* ---- who uses it ------------------------------------------------------------- */

bool cpu_is_lent(struct vc_cpu *cpu)
{
    return atomic_load_explicit(&cpu->lent_to, memory_order_relaxed) == (uintptr_t)pthread_self();
}

/* A hypercall's function is a guest of the vc_run that called it. */
int cpu_enter(struct vc_cpu *cpu)
{
    if (cpu_is_lent(cpu))
        return 0;
    if (atomic_flag_test_and_set_explicit(&cpu->busy, memory_order_acquire))
        return err_set(VC_EBUSY,
                       "vCPU %u is in use: it runs, or another thread is inside a call "
                       "on it",
                       cpu->index);
    return 0;
}

void cpu_leave(struct vc_cpu *cpu)
{
    if (!cpu_is_lent(cpu))
        atomic_flag_clear_explicit(&cpu->busy, memory_order_release);
}

/* For what may not be done from within a run, on the vCPU that runs. */
static int enter_stopped(struct vc_cpu *cpu, const char *what)
{
    if (cpu_is_lent(cpu))
        return err_set(VC_EBUSY, "%s: vCPU %u runs, it is in a hypercall's function", what,
                       cpu->index);
    return cpu_enter(cpu);
}

int vc_cpu_index(const vc_cpu *cpu)
{
    return cpu ? (int)cpu->index : err_null("cpu");
}

/* ---- creating ------------------------------------------------------------------ */

/* Numbers are given in order; one that was freed is given again. */
static int cpu_link(struct vc_vm *vm, struct vc_cpu *cpu)
{
    unsigned i = 0;
    pthread_mutex_lock(&vm->lock);
    while (i < vm->max_cpus && vm->cpu[i])
        i++;
    bool room = i < vm->max_cpus;
    if (room) {
        cpu->index = i;
        vm->cpu[i] = cpu;
        vm->ncpus++;
    }
    pthread_mutex_unlock(&vm->lock);
    if (!room)
        return err_set(VC_ELIMIT, "the partition has all of its %u vCPUs", vm->max_cpus);
    return 0;
}

static void cpu_unlink(struct vc_cpu *cpu)
{
    struct vc_vm *vm = cpu->vm;
    pthread_mutex_lock(&vm->lock);
    vm->cpu[cpu->index] = NULL;
    vm->ncpus--;
    pthread_mutex_unlock(&vm->lock);
}

void cpu_destroy(struct vc_cpu *cpu)
{
    struct vc_vm *vm = cpu->vm;
    cpu_unlink(cpu);
    if (vm->pv)
        vm_pv_cpu_gone(vm, cpu->index);
    if (vm->irq)
        irqchip_del_cpu(vm->irq, cpu->index);
    sched_forget(cpu);
    if (cpu->bcpu)
        vm->be->cpu_free(cpu->bcpu);
    free(cpu);
}

static int cpu_make(struct vc_cpu *cpu, enum vc_mode mode, uint64_t pc)
{
    struct vc_vm *vm = cpu->vm;
    if (!vm->bvm)
        return err_set(VC_ESTATE, "the engine did not come back after vc_pc() failed");
    if (vm->pv)
        return err_set(VC_ESTATE, "a paravirtual guest runs: its vCPUs come before vc_boot()");
    int rc = vm->irq ? irqchip_add_cpu(vm->irq, cpu->index, &cpu->mail) : 0;
    if (!rc)
        rc = vm->be->cpu_new(vm->bvm, cpu, cpu->index, &cpu->mail, &cpu->bcpu);
    if (!rc)
        rc = preset_apply(cpu, mode, pc);
    if (!rc && atomic_load(&vm->power))
        mail_post(&cpu->mail, PEND_POWER);
    return rc;
}

vc_cpu *vc_cpu_new(vc_vm *vm, enum vc_mode mode, uint64_t pc)
{
    if (!vm) {
        err_null("vm");
        return NULL;
    }
    err_begin();
    if (vm_pause(vm))
        return NULL;
    struct vc_cpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
    if (!cpu) {
        err_set(VC_ENOMEM, "no memory for a vCPU");
    } else {
        memset(cpu, 0, sizeof *cpu);
        cpu->vm = vm;
        atomic_flag_clear(&cpu->busy);
        atomic_store(&cpu->mail.inject, -1);
        if (cpu_link(vm, cpu)) {
            free(cpu);
            cpu = NULL;
        } else if (cpu_make(cpu, mode, pc)) {
            cpu_destroy(cpu);
            cpu = NULL;
        }
    }
    vm_resume(vm);
    return cpu;
}

int vc_cpu_free(vc_cpu *cpu)
{
    if (!cpu)
        return 0;
    err_begin();
    int rc = enter_stopped(cpu, "vc_cpu_free");
    if (!rc)
        cpu_destroy(cpu);
    return rc;
}

int vc_cpu_reset(vc_cpu *cpu, enum vc_mode mode, uint64_t pc)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    if (cpu->vm->pv)
        return err_set(VC_ESTATE, "a paravirtual guest runs: vc_boot() starts it anew");
    int rc = enter_stopped(cpu, "vc_cpu_reset");
    if (rc)
        return rc;
    rc = preset_apply(cpu, mode, pc);
    if (!rc) {
        struct vc_vm *vm = cpu->vm;
        if (vm->irq)
            irqchip_reset_cpu(vm->irq, cpu->index, mode == VC_MODE_WAIT_SIPI);
        memset(&cpu->exit, 0, sizeof cpu->exit);
        cpu->answered = false;
        atomic_store(&cpu->mail.inject, -1);
        int mine = (int)cpu->index + 1;
        atomic_compare_exchange_strong(&vm->failed, &mine, 0);
    }
    cpu_leave(cpu);
    return rc;
}

/* ---- running -------------------------------------------------------------------- */

/* The answer to a read or a hypercall that left the last run: from the caller's
 * exit into ours, from which the engine takes it. Nothing else of the caller's
 * is believed. Otherwise the exit starts empty. */
static void take_answer(struct vc_cpu *cpu, const struct vc_exit *caller)
{
    struct vc_exit *x = &cpu->exit, answer = {.size = sizeof answer};
    if (cpu->answered) {
        cpu->answered = false;
        return;
    }
    size_t n = min_u64(caller->size, sizeof answer);
    memcpy((uint8_t *)&answer + sizeof answer.size, (const uint8_t *)caller + sizeof answer.size,
           n - sizeof answer.size);
    if (x->kind == VC_EXIT_PORT && !x->u.port.write)
        x->u.port.data = answer.u.port.data;
    else if (x->kind == VC_EXIT_MMIO && !x->u.mmio.write)
        x->u.mmio.data = answer.u.mmio.data;
    else if (x->kind == VC_EXIT_HCALL)
        x->u.hcall.ret = answer.u.hcall.ret;
    else
        memset(x, 0, sizeof *x);
    x->size = sizeof *x;
}

static void finish_exit(struct vc_cpu *cpu, int rc)
{
    struct vc_vm *vm = cpu->vm;
    struct vc_exit *x = &cpu->exit;
    if (x->kind == VC_EXIT_POWER && !rc) {
        uint64_t power = atomic_load(&vm->power);
        x->u.power.kind = (uint32_t)(power >> 32);
        x->u.power.code = (uint32_t)power;
    }
    /* A kick is answered by the run that it ends, however often it came; where calls
     * nest, by all of them. */
    if (x->kind == VC_EXIT_KICK && !rc) {
        mail_clear(&cpu->mail, PEND_KICK);
        if (cpu->depth > 1)
            mail_post(&cpu->mail, PEND_KICK);
    }
    if (rc == VC_ECALLBACK) {
        if (!cpu->answered)
            x->kind = VC_EXIT_NONE; /* the instruction runs again when the run goes on */
    } else if (rc == VC_EINTERNAL || x->kind == VC_EXIT_FAILED) {
        x->kind = VC_EXIT_FAILED;
        atomic_store(&vm->failed, (int)cpu->index + 1);
    }
}

static int run_error(struct vc_cpu *cpu, int rc)
{
    if (cpu->exit.kind == VC_EXIT_FAILED && !rc)
        rc = VC_EINTERNAL;
    if (rc == VC_ECALLBACK) {
        err_begin();
        err_set(rc, "a handler of the embedder's ended the run with code %d", cpu->callback_rc);
    } else if (rc) {
        err_set(rc, "the engine cannot go on at %#llx", (unsigned long long)cpu->exit.rip);
    }
    return rc;
}

int vm_check_failed(struct vc_vm *vm)
{
    int failed = atomic_load(&vm->failed);
    return failed ? err_set(VC_ESTATE,
                            "vCPU %d failed: the partition does not go on before vc_cpu_reset() "
                            "on it",
                            failed - 1)
                  : 0;
}

static uint64_t insns_done(struct vc_cpu *cpu)
{
    struct vc_stats stats = {.size = sizeof stats};
    cpu->vm->be->stats(cpu->bcpu, &stats);
    return stats.insns;
}

/* A run within a run ends no later than that. */
static struct run_limit limit_of(struct vc_cpu *cpu, const struct vc_budget *b, uint64_t now)
{
    struct run_limit l = cpu->limit ? *cpu->limit : (struct run_limit){0};
    uint64_t end;
    if (b->ns && !__builtin_add_overflow(now, b->ns, &end))
        l.deadline_ns = l.deadline_ns ? min_u64(l.deadline_ns, end) : end;
    if (b->insns && !__builtin_add_overflow(insns_done(cpu), b->insns, &end))
        l.insns_end = l.insns_end ? min_u64(l.insns_end, end) : end;
    return l;
}

/* What is left, at least enough to finish an instruction. */
static struct vc_budget limit_left(struct vc_cpu *cpu, const struct run_limit *l)
{
    struct vc_budget b = {.size = sizeof b};
    if (l->deadline_ns) {
        uint64_t now = host_now_ns();
        b.ns = now < l->deadline_ns ? l->deadline_ns - now : 1;
    }
    if (l->insns_end) {
        uint64_t done = insns_done(cpu);
        b.insns = done < l->insns_end ? l->insns_end - done : 1;
    }
    return b;
}

void cpu_limit_push(struct vc_cpu *cpu, const struct vc_budget *b, struct run_limit *l)
{
    *l = limit_of(cpu, b, host_now_ns());
    l->outer = cpu->limit;
    cpu->limit = l;
}

void cpu_limit_pop(struct vc_cpu *cpu)
{
    cpu->limit = cpu->limit->outer;
}

/* A run without hypercalls has its budget as it is: the engine keeps to it. */
int cpu_run_engine(struct vc_cpu *cpu, const struct vc_budget *budget)
{
    struct vc_vm *vm = cpu->vm;
    uint64_t start = host_now_ns();
    struct vc_budget left = budget ? *budget : (struct vc_budget){0};
    int rc;
    if (!cpu->depth++)
        sched_enter(cpu);
    cpu->callback_rc = 0;
    do {
        if (cpu->sched.sched)
            sched_wait(cpu, cpu->limit ? cpu->limit->deadline_ns : 0);
        if (cpu->limit)
            left = limit_left(cpu, cpu->limit);
        rc = vm->be->run(cpu->bcpu, &left, &cpu->exit);
    } while (!rc && (cpu->exit.kind == VC_EXIT_NONE || !(rc = hcall_exit(cpu))));
    if (rc > 0)
        rc = 0;
    if (cpu->depth == 1)
        sched_leave(cpu);
    if (cpu->depth == 1)
        atomic_fetch_add_explicit(&cpu->run_ns, host_now_ns() - start, memory_order_relaxed);
    finish_exit(cpu, rc);
    cpu->depth--;
    return run_error(cpu, rc);
}

static int run_locked(struct vc_cpu *cpu, const struct vc_budget *budget, struct vc_exit *exit)
{
    int rc = vm_check_failed(cpu->vm);
    if (rc)
        return rc;
    take_answer(cpu, exit);
    struct run_limit limit;
    bool again = vm_has_hcall(cpu->vm) || cpu->sched.sched; /* may enter more than once */
    if (again)
        cpu_limit_push(cpu, budget, &limit);
    rc = cpu_run_engine(cpu, budget);
    if (again)
        cpu_limit_pop(cpu);
    struct vc_exit seen = cpu->exit;
    if (cpu->answered)
        seen.kind = VC_EXIT_NONE;
    args_out(exit, &seen, sizeof seen, "exit");
    return rc;
}

static int check_budget(struct vc_vm *vm, struct vc_budget *b, const struct vc_budget *budget)
{
    int rc = budget ? args_in(b, sizeof *b, budget, "budget") : 0;
    if (!rc && b->insns && !(vm->features & VC_FEAT_BUDGET_INSNS))
        rc = err_set(VC_ENOTSUP, "%s cannot count instructions", vm->be->name);
    if (!rc && b->ns && !(vm->features & VC_FEAT_BUDGET_NS))
        rc = err_set(VC_ENOTSUP, "%s cannot limit a run's time", vm->be->name);
    return rc;
}

int vc_run(vc_cpu *cpu, const struct vc_budget *budget, struct vc_exit *exit)
{
    if (!cpu || !exit)
        return err_null(cpu ? "exit" : "cpu");
    err_begin();
    struct vc_vm *vm = cpu->vm;
    struct vc_budget b = {.size = sizeof b};
    int rc = check_budget(vm, &b, budget);
    if (!rc)
        rc = args_size(exit, "exit");
    if (!rc && exit->size < offsetof(struct vc_exit, u) + sizeof exit->u.hcall)
        rc = err_set(VC_EINVAL, "exit.size is %zu: set it to sizeof(struct vc_exit)", exit->size);
    if (!rc)
        rc = enter_stopped(cpu, "vc_run");
    if (rc)
        return rc;
    pthread_rwlock_rdlock(&vm->gate);
    rc = run_locked(cpu, &b, exit);
    pthread_rwlock_unlock(&vm->gate);
    cpu_leave(cpu);
    return rc;
}

/* Called in signal handlers: no locks, no error store but for a NULL handle. */
int vc_kick(vc_cpu *cpu)
{
    if (!cpu)
        return VC_EINVAL;
    mail_post(&cpu->mail, PEND_KICK);
    return 0;
}
