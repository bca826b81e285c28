/* SPDX-License-Identifier: MIT
 * What a vCPU does when it has nothing to do, and how a domain ends. */
#include "domain.h"
#include <sched.h>
#include <xen/sched.h>

static long block(struct pv_vcpu *v)
{
    __atomic_store_n(&v->info->evtchn_upcall_mask, 0, __ATOMIC_SEQ_CST);
    if (pv_upcall_pending(v))
        return 0;
    pv_runstate_set(v, RUNSTATE_blocked);
    v->d->eng->halt(v->bc);
    return 0;
}

#define POLL_MAX 128u

static long poll(struct pv_vcpu *v, uint64_t at)
{
    struct pv_domain *d = v->d;
    struct sched_poll p;
    if (!pv_copy_from(v, &p, at, sizeof p))
        return -XEN_EFAULT;
    if (p.nr_ports > POLL_MAX)
        return -XEN_EINVAL;
    atomic_store(&v->polling, true);
    for (unsigned i = 0; i < p.nr_ports; i++) {
        evtchn_port_t port;
        bool bad =
            !pv_copy_from(v, &port, (uint64_t)(uintptr_t)p.ports.p + i * sizeof port, sizeof port);
        if (bad || port >= PORTS_MAX || pv_port_pending(d, port)) {
            atomic_store(&v->polling, false);
            return bad ? -XEN_EFAULT : port >= PORTS_MAX ? -XEN_EINVAL : 0;
        }
    }
    if (p.timeout)
        pv_timer_at(v, v->poll_timer, p.timeout);
    pv_runstate_set(v, RUNSTATE_blocked);
    d->eng->halt(v->bc);
    return 0;
}

static long shutdown(struct pv_vcpu *v, uint32_t reason)
{
    struct pv_domain *d = v->d;
    uint32_t kind;
    if (reason == SHUTDOWN_suspend && v->multi)
        return -XEN_EINVAL; /* nobody could tell it how that ended */
    switch (reason) {
    case SHUTDOWN_poweroff: kind = VC_POWER_OFF; break;
    case SHUTDOWN_reboot:
    case SHUTDOWN_soft_reset: kind = VC_POWER_RESET; break;
    case SHUTDOWN_crash:
    case SHUTDOWN_watchdog: kind = VC_POWER_PANIC; break;
    case SHUTDOWN_suspend:
        kind = VC_POWER_SUSPEND;
        atomic_store(&v->suspended, true);
        break;
    default: return -XEN_EINVAL;
    }
    d->host.power(d->host.ctx, kind, reason);
    d->eng->halt(v->bc);
    return 0;
}

#define SUSPEND_CANCELLED 1

/* The vCPUs do not run. One that slept in the hypercall wakes up behind it. */
void pv_resume(struct pv_domain *d)
{
    enum { RAX };
    for (unsigned i = 0; i < d->host.ncpu; i++) {
        struct pv_vcpu *v = &d->vcpu[i];
        if (!atomic_exchange(&v->suspended, false) || !v->bc)
            continue;
        d->eng->gprs(v->bc)[RAX] = SUSPEND_CANCELLED;
        mail_post(v->mail, PEND_EVENT);
    }
}

long hc_sched_op(struct pv_vcpu *v, const uint64_t a[6])
{
    struct sched_shutdown s;
    switch ((uint32_t)a[0]) {
    case SCHEDOP_yield: sched_yield(); return 0;
    case SCHEDOP_block: return block(v);
    case SCHEDOP_shutdown:
        return pv_copy_from(v, &s, a[1], sizeof s) ? shutdown(v, s.reason) : -XEN_EFAULT;
    case SCHEDOP_shutdown_code: return 0;
    case SCHEDOP_poll: return poll(v, a[1]);
    default: return -XEN_ENOSYS;
    }
}
