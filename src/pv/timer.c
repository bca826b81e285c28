/* SPDX-License-Identifier: MIT
 * Time: the scale by which the guest turns its time-stamp counter into nanoseconds,
 * one-shot and periodic timers, and what each vCPU did with its time. */
#include "domain.h"
#include "../base/err.h"
#include "../base/tsc.h"
#include <time.h>

/* ---- the clock -------------------------------------------------------------------------- */

/* ns = ticks * mul / 2^32, with ticks shifted first: pvclock's arithmetic. */
struct scale {
    uint32_t mul;
    int8_t shift;
};

static struct scale scale_of(uint64_t hz)
{
    struct scale s = {0};
    uint64_t rate = hz;
    while (rate > 2000000000ull) {
        rate >>= 1;
        s.shift--;
    }
    while (rate <= 1000000000ull) {
        rate <<= 1;
        s.shift++;
    }
    s.mul = (uint32_t)(((__uint128_t)1000000000ull << 32) / rate);
    return s;
}

static uint64_t to_ns(struct scale s, uint64_t ticks)
{
    ticks = s.shift < 0 ? ticks >> -s.shift : ticks << s.shift;
    return (uint64_t)((__uint128_t)ticks * s.mul >> 32);
}

uint64_t pv_system_time(const struct pv_domain *d)
{
    return to_ns(scale_of(d->host.tsc_hz), host_tsc() - d->tsc0);
}

/* The same for all vCPUs and for ever: the counter runs evenly. */
void pv_time_info(const struct pv_domain *d, struct vcpu_time_info *t)
{
    struct scale s = scale_of(d->host.tsc_hz);
    *t = (struct vcpu_time_info){
        .version = 2,
        .tsc_timestamp = d->tsc0,
        .tsc_to_system_mul = s.mul,
        .tsc_shift = s.shift,
        .flags = XEN_PVCLOCK_TSC_STABLE_BIT,
    };
}

void pv_time_publish(struct pv_vcpu *v)
{
    pv_time_info(v->d, &v->info->time);
}

void pv_wallclock_publish(struct pv_domain *d)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - pv_system_time(d);
    struct shared_info *s = d->shared;
    __atomic_store_n(&s->wc_version, s->wc_version | 1, __ATOMIC_SEQ_CST);
    s->wc_sec = (uint32_t)(ns / 1000000000u);
    s->wc_sec_hi = (uint32_t)(ns / 1000000000u >> 32);
    s->wc_nsec = (uint32_t)(ns % 1000000000u);
    __atomic_store_n(&s->wc_version, s->wc_version + 1, __ATOMIC_SEQ_CST);
}

/* ---- timers ---------------------------------------------------------------------------------- */

static void single_due(void *ud)
{
    pv_port_virq(ud, VIRQ_TIMER);
}

static void period_due(void *ud)
{
    struct pv_vcpu *v = ud;
    uint64_t period = __atomic_load_n(&v->period, __ATOMIC_RELAXED);
    pv_port_virq(v, VIRQ_TIMER);
    if (period)
        clock_timer_arm(v->periodic, clock_now(v->d->host.clock) + period);
}

static void poll_due(void *ud)
{
    struct pv_vcpu *v = ud;
    if (v->mail)
        mail_post(v->mail, PEND_EVENT);
}

int pv_timers_init(struct pv_vcpu *v)
{
    struct clock *c = v->d->host.clock;
    v->timer = clock_timer_new(c, single_due, v);
    v->periodic = clock_timer_new(c, period_due, v);
    v->poll_timer = clock_timer_new(c, poll_due, v);
    return v->timer && v->periodic && v->poll_timer ? 0 : vc_errcode();
}

void pv_timers_free(struct pv_vcpu *v)
{
    if (v->timer)
        clock_timer_free(v->timer);
    if (v->periodic)
        clock_timer_free(v->periodic);
    if (v->poll_timer)
        clock_timer_free(v->poll_timer);
    v->timer = v->periodic = v->poll_timer = NULL;
}

void pv_timer_at(struct pv_vcpu *v, struct clock_timer *t, uint64_t system_ns)
{
    uint64_t now = pv_system_time(v->d), base = clock_now(v->d->host.clock);
    clock_timer_arm(t, system_ns > now ? base + (system_ns - now) : base);
}

/* (when): 0 stops it. */
long hc_set_timer_op(struct pv_vcpu *v, const uint64_t a[6])
{
    if (!a[0])
        clock_timer_disarm(v->timer);
    else
        pv_timer_at(v, v->timer, a[0]);
    return 0;
}

/* ---- runstate ----------------------------------------------------------------------------------
 */

/* With run_lock. */
static void run_publish(struct pv_vcpu *v)
{
    const uint8_t *from = (const uint8_t *)&v->run;
    for (unsigned i = 0; i < 2 && v->run_area[i]; i++) {
        memcpy(v->run_area[i], from, v->run_len[i]);
        from += v->run_len[i];
    }
}

/* With run_lock. */
static void run_change(struct pv_vcpu *v, int state)
{
    uint64_t now = pv_system_time(v->d);
    v->run.time[v->run.state] += now - v->run.state_entry_time;
    v->run.state_entry_time = now;
    v->run.state = state;
    run_publish(v);
}

void pv_runstate_set(struct pv_vcpu *v, int state)
{
    pthread_mutex_lock(&v->run_lock);
    run_change(v, state);
    pthread_mutex_unlock(&v->run_lock);
}

void pv_cpu_waits(struct pv_domain *d, unsigned cpu, bool waits)
{
    if (cpu >= d->host.ncpu || !d->vcpu[cpu].bc)
        return;
    struct pv_vcpu *v = &d->vcpu[cpu];
    pthread_mutex_lock(&v->run_lock);
    /* One that sleeps or is down does not wait for a host CPU. */
    if (v->run.state == (waits ? RUNSTATE_running : RUNSTATE_runnable))
        run_change(v, waits ? RUNSTATE_runnable : RUNSTATE_running);
    pthread_mutex_unlock(&v->run_lock);
}

void pv_runstate_get(struct pv_vcpu *v, struct vcpu_runstate_info *now)
{
    pthread_mutex_lock(&v->run_lock);
    *now = v->run;
    pthread_mutex_unlock(&v->run_lock);
}

/* With run_lock, which the vCPU holds while it writes there. */
static void runstate_forget(struct pv_vcpu *v)
{
    for (unsigned i = 0; i < 2; i++) {
        if (v->run_area[i])
            pv_frame_put_type(v->d, v->run_mfn[i]);
        v->run_area[i] = NULL;
    }
}

/* The frame of such an address, which the guest may write. */
static int frame_at(struct pv_vcpu *v, uint64_t va, uint64_t *mfn)
{
    uint64_t l1, gpa;
    if (v->d->pvh) {
        if (!v->d->eng->ptr(v->bc, va, PV_WRITE, &gpa))
            return -XEN_EFAULT;
        *mfn = gpa >> 12;
    } else {
        const uint64_t *at = pv_entry_find(v, va, &l1);
        uint64_t e = at ? *at : 0;
        if ((e & (PTE_P | PTE_W)) != (PTE_P | PTE_W))
            return -XEN_EFAULT;
        *mfn = PTE_MFN(e);
    }
    return pv_frame_get_type(v->d, *mfn, TYPE_WRITABLE);
}

/* Where the structure lies: in one frame, or on the border of two. */
long pv_runstate_register(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t va)
{
    struct pv_domain *d = v->d;
    uint64_t left = sizeof who->run;
    long rc = 0;
    pv_lock(v);
    pthread_mutex_lock(&who->run_lock);
    runstate_forget(who);
    for (unsigned i = 0; i < 2 && left && va && !rc; i++) {
        uint64_t n = min_u64(left, PAGE - (va & (PAGE - 1)));
        rc = frame_at(v, va, &who->run_mfn[i]);
        if (rc)
            break;
        who->run_len[i] = (unsigned)n;
        who->run_area[i] = (uint8_t *)pv_frame_ptr(d, who->run_mfn[i]) + (va & (PAGE - 1));
        va += n;
        left -= n;
    }
    if (rc)
        runstate_forget(who);
    else
        run_publish(who);
    pthread_mutex_unlock(&who->run_lock);
    pv_unlock(v);
    return rc;
}
