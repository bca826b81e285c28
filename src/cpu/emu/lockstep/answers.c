/* SPDX-License-Identifier: MIT
 * What the translated vCPU is told from outside, noted and told again. */
#include "inner.h"
#include <stdio.h>

#define MSR_TSC_DEADLINE 0x6e0u

static struct lockstep *of(void *ctx)
{
    return ctx;
}

/* ---- noting ------------------------------------------------------------------ */

void answers_note(struct lockstep *ls, struct answer a)
{
    if (!ls->running)
        return;
    if (ls->logged < LOG_MAX)
        ls->log[ls->logged++] = a;
    else
        ls->log_full = true;
}

static int note_access(void *ctx, enum vc_space space, struct vc_access *access)
{
    struct lockstep *ls = of(ctx);
    struct answer a = {.kind = ANS_ACCESS,
                       .space = (uint8_t)space,
                       .write = access->write,
                       .addr = access->addr,
                       .len = access->len,
                       .in = access->data};
    a.rc = ls->env.access(ls->env.ctx, space, access);
    a.out = access->data;
    answers_note(ls, a);
    return a.rc;
}

static bool note_msr(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value)
{
    struct lockstep *ls = of(ctx);
    struct answer a = {.kind = ANS_MSR, .write = write, .addr = index, .in = write ? *value : 0};
    a.rc = ls->env.apic_msr(ls->env.ctx, cpu, index, write, value);
    a.out = *value;
    answers_note(ls, a);
    return a.rc;
}

static uint64_t note_cr8_get(void *ctx, unsigned cpu)
{
    struct lockstep *ls = of(ctx);
    struct answer a = {.kind = ANS_CR8_GET, .out = ls->env.cr8_get(ls->env.ctx, cpu)};
    answers_note(ls, a);
    return a.out;
}

static void note_cr8_set(void *ctx, unsigned cpu, uint64_t tpr)
{
    struct lockstep *ls = of(ctx);
    ls->env.cr8_set(ls->env.ctx, cpu, tpr);
    answers_note(ls, (struct answer){.kind = ANS_CR8_SET, .in = tpr});
}

static int note_hcall(void *ctx, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    struct lockstep *ls = of(ctx);
    struct answer a = {.kind = ANS_HCALL, .addr = nr};
    a.rc = ls->env.hcall(ls->env.ctx, cpu, nr, args, ret);
    a.out = *ret;
    answers_note(ls, a);
    return a.rc;
}

static bool pass_has_hcall(void *ctx)
{
    struct lockstep *ls = of(ctx);
    return ls->env.has_hcall(ls->env.ctx);
}

static int pass_irq_ack(void *ctx, unsigned cpu)
{
    struct lockstep *ls = of(ctx);
    return ls->env.irq_ack(ls->env.ctx, cpu);
}

static void pass_init(void *ctx, unsigned cpu)
{
    struct lockstep *ls = of(ctx);
    ls->env.init(ls->env.ctx, cpu);
}

/* RAM was written by a device, or by another thread of the embedder's. */
void lockstep_wrote(void *ctx, uint64_t gpa, uint64_t len)
{
    struct lockstep *ls = of(ctx);
    if (ls->running && pthread_equal(ls->thread, pthread_self())) {
        answers_note(ls, (struct answer){.kind = ANS_WRITE, .addr = gpa, .len = len});
        return;
    }
    pthread_mutex_lock(&ls->lock);
    if (ls->noutside < OUTSIDE_MAX)
        ls->outside[ls->noutside++] = (struct range){gpa, len};
    else
        ls->sync_all = true;
    pthread_mutex_unlock(&ls->lock);
}

/* ---- telling ----------------------------------------------------------------- */

void answers_writes(struct lockstep *ls)
{
    for (; ls->told < ls->logged && ls->log[ls->told].kind == ANS_WRITE; ls->told++)
        shadow_copy(ls, ls->log[ls->told].addr, ls->log[ls->told].len);
}

const struct answer *answers_tell(struct lockstep *ls, struct answer q)
{
    static const struct answer none = {.rc = ENV_HANDLED};
    static const char *const names[] = {
        "access", "MSR", "CR8", "CR8", "hypercall", "clock or random number", "flags"};
    answers_writes(ls);
    const struct answer *a = ls->told < ls->logged ? &ls->log[ls->told] : NULL;
    if (a && a->kind == q.kind && a->space == q.space && a->write == q.write && a->addr == q.addr &&
        a->len == q.len && a->in == q.in) {
        ls->told++;
        return a;
    }
    if (!ls->asked_else)
        snprintf(ls->question, sizeof ls->question, "%s %s %#llx, %llu bytes, of %#llx",
                 names[q.kind], q.write ? "write" : "read", (unsigned long long)q.addr,
                 (unsigned long long)q.len, (unsigned long long)q.in);
    ls->asked_else = true;
    return &none;
}

static int tell_access(void *ctx, enum vc_space space, struct vc_access *access)
{
    const struct answer *a = answers_tell(of(ctx), (struct answer){.kind = ANS_ACCESS,
                                                                   .space = (uint8_t)space,
                                                                   .write = access->write,
                                                                   .addr = access->addr,
                                                                   .len = access->len,
                                                                   .in = access->data});
    access->data = a->out;
    return a->rc;
}

static bool tell_msr(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value)
{
    struct lockstep *ls = of(ctx);
    struct answer q = {.kind = ANS_MSR, .write = write, .addr = index, .in = write ? *value : 0};
    (void)cpu;
    /* What is written there is made of the host's clock. */
    answers_writes(ls);
    if (write && index == MSR_TSC_DEADLINE && ls->told < ls->logged)
        q.in = ls->log[ls->told].in;
    const struct answer *a = answers_tell(ls, q);
    *value = a->out;
    return a->rc;
}

static uint64_t tell_cr8_get(void *ctx, unsigned cpu)
{
    (void)cpu;
    return answers_tell(of(ctx), (struct answer){.kind = ANS_CR8_GET})->out;
}

static void tell_cr8_set(void *ctx, unsigned cpu, uint64_t tpr)
{
    (void)cpu;
    answers_tell(of(ctx), (struct answer){.kind = ANS_CR8_SET, .in = tpr});
}

static int tell_hcall(void *ctx, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    (void)cpu, (void)args;
    const struct answer *a = answers_tell(of(ctx), (struct answer){.kind = ANS_HCALL, .addr = nr});
    *ret = a->out;
    return a->rc;
}

static int tell_irq_ack(void *ctx, unsigned cpu)
{
    (void)ctx, (void)cpu;
    return -1; /* interrupts come by lockstep_event() */
}

static void tell_nothing(void *ctx, int level, const char *fmt, ...)
{
    (void)ctx, (void)level, (void)fmt;
}

uint64_t lockstep_value(struct emu *c, uint64_t v)
{
    struct lockstep *ls = c->lockstep;
    if (is_reference(c))
        return answers_tell(ls, (struct answer){.kind = ANS_VALUE})->out;
    answers_note(ls, (struct answer){.kind = ANS_VALUE, .out = v});
    return v;
}

/* What the partition does not have, neither has. */
void answers_setup(struct lockstep *ls)
{
    const struct cpu_env *e = &ls->env;
    ls->noting = (struct cpu_env){
        .ctx = ls,
        .mem = e->mem,
        .tsc_hz = e->tsc_hz,
        .access = e->access ? note_access : NULL,
        .irq_ack = e->irq_ack ? pass_irq_ack : NULL,
        .cr8_get = e->cr8_get ? note_cr8_get : NULL,
        .cr8_set = e->cr8_set ? note_cr8_set : NULL,
        .apic_msr = e->apic_msr ? note_msr : NULL,
        .init = e->init ? pass_init : NULL,
        .hcall = e->hcall ? note_hcall : NULL,
        .has_hcall = e->has_hcall ? pass_has_hcall : NULL,
        .log = tell_nothing,
    };
    ls->telling = (struct cpu_env){
        .ctx = ls,
        .mem = &ls->shadow,
        .tsc_hz = e->tsc_hz,
        .access = e->access ? tell_access : NULL,
        .irq_ack = e->irq_ack ? tell_irq_ack : NULL,
        .cr8_get = e->cr8_get ? tell_cr8_get : NULL,
        .cr8_set = e->cr8_set ? tell_cr8_set : NULL,
        .apic_msr = e->apic_msr ? tell_msr : NULL,
        .hcall = e->hcall ? tell_hcall : NULL,
        .has_hcall = e->has_hcall ? pass_has_hcall : NULL,
        .log = tell_nothing,
    };
}
