/* SPDX-License-Identifier: MIT
 * A PVH guest: it has the processor and its local APIC for itself, and of Xen all but the
 * page tables. What the engine asks about it, and how it learns of events. */
#include "domain.h"
#include "../base/err.h"
#include <stdlib.h>
#include <xen/hvm/params.h>

/* ---- events ----------------------------------------------------------------------------- */

/* A vector that is not the local APIC's, as an 8259 would give it: for guests that know
 * no better. */
static void inject(struct pv_vcpu *v, uint8_t vector)
{
    int32_t none = -1;
    atomic_compare_exchange_strong(&v->mail->inject, &none, vector);
    mail_post(v->mail, PEND_IRQ);
}

void pvh_upcall(struct pv_vcpu *v)
{
    const struct pv_domain *d = v->d;
    uint64_t callback = __atomic_load_n(&d->pvh->callback, __ATOMIC_RELAXED);
    uint8_t vector = __atomic_load_n(&v->upcall_vector, __ATOMIC_RELAXED);
    if (!v->mail)
        return;
    if (vector)
        d->host.vector(d->host.ctx, v->id, vector);
    else if (callback >> 56 == HVM_PARAM_CALLBACK_TYPE_VECTOR && (uint8_t)callback >= 16)
        inject(v, (uint8_t)callback);
}

/* ---- hooks -------------------------------------------------------------------------------- */

static struct pv_vcpu *vcpu_of(void *ctx, unsigned cpu)
{
    struct pv_domain *d = ctx;
    return cpu < d->host.ncpu && d->vcpu[cpu].bc ? &d->vcpu[cpu] : NULL;
}

/* It runs, and was perhaps started without a word to the hypervisor. */
static void runs(struct pv_vcpu *v)
{
    atomic_store(&v->up, true);
    if (atomic_exchange(&v->polling, false))
        clock_timer_disarm(v->poll_timer);
    if (v->run.state != RUNSTATE_running)
        pv_runstate_set(v, RUNSTATE_running);
}

static void hook_hypercall(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v)
        return;
    runs(v);
    if (v->d->eng->code64(v->bc))
        pv_hypercall(v);
    else
        pv_hypercall32(v);
}

static void hook_wake(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (v)
        runs(v);
}

static void hook_idle(void *ctx, unsigned cpu, bool idle)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (v)
        pv_runstate_set(v, idle ? RUNSTATE_blocked : RUNSTATE_running);
}

/* It is down till the next SIPI, but for the first. An interrupt went with the APIC's
 * state; the event is there still. */
static void hook_init(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v)
        return;
    if (cpu) {
        atomic_store(&v->up, false);
        pvh_reset(v);
        pv_runstate_set(v, RUNSTATE_offline);
    }
    pthread_mutex_lock(&v->d->port_lock);
    if (pv_upcall_pending(v))
        pvh_upcall(v);
    pthread_mutex_unlock(&v->d->port_lock);
}

static bool hook_start(void *ctx, unsigned cpu)
{
    struct pv_vcpu *v = vcpu_of(ctx, cpu);
    if (!v)
        return false;
    bool ready = pvh_start(v);
    runs(v);
    return ready;
}

static void hook_cpuid(void *ctx, unsigned cpu, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    if (pv_cpuid_is_xen(leaf))
        pv_cpuid_xen(ctx, cpu, leaf, sub, out);
}

/* Hypercall n is at the page's n-th 32 bytes: MOV EAX, n; VMCALL; RET. */
static bool put_page(struct pv_domain *d, uint64_t at)
{
    uint8_t page[PAGE] = {0};
    if (at & (PAGE - 1) || !pv_frame_ok(d, at >> 12))
        return false;
    for (unsigned i = 0; i < PAGE / 32; i++) {
        const uint8_t code[] = {0xb8, (uint8_t)i, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3};
        memcpy(page + 32 * i, code, sizeof code);
    }
    return mem_copy_in(d->host.mem, at, page, sizeof page);
}

static bool hook_msr(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value)
{
    (void)cpu;
    if (index != PVH_MSR_PAGE)
        return false;
    if (write)
        return put_page(ctx, *value);
    *value = 0;
    return true;
}

static const struct hvm_hooks hooks = {
    .hypercall = hook_hypercall,
    .wake = hook_wake,
    .init = hook_init,
    .start = hook_start,
    .idle = hook_idle,
    .cpuid = hook_cpuid,
    .msr = hook_msr,
};

/* ---- life ------------------------------------------------------------------------------------ */

struct pvh *pvh_alloc(void)
{
    struct pvh *p = calloc(1, sizeof *p);
    for (unsigned i = 0; p && i < SPECIAL_COUNT; i++)
        p->at[i] = FRAME_NR;
    return p;
}

int pvh_make(struct pv_domain *d)
{
    d->store_mfn = d->special + SPECIAL_STORE;
    d->console_mfn = d->special + SPECIAL_CONSOLE;
    return 0;
}

int pvh_attach(struct pv_domain *d)
{
    return d->eng->attach_hvm(d->host.bvm, &hooks, d);
}

void pvh_free(struct pv_domain *d)
{
    pvh_homes(d);
    free(d->pvh);
}
