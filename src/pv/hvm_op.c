/* SPDX-License-Identifier: MIT
 * hvm_op: what a PVH guest asks about its rings, and says about its interrupts. */
#include "domain.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

/* Parameters that a guest may read; the rest is its maker's. */
static long get(const struct pv_domain *d, struct xen_hvm_param *p)
{
    switch (p->index) {
    case HVM_PARAM_CALLBACK_IRQ: p->value = d->pvh->callback; return 0;
    case HVM_PARAM_STORE_PFN: p->value = d->store_mfn; return 0;
    case HVM_PARAM_STORE_EVTCHN: p->value = d->store_port; return 0;
    case HVM_PARAM_CONSOLE_PFN: p->value = d->console_mfn; return 0;
    case HVM_PARAM_CONSOLE_EVTCHN: p->value = d->console_port; return 0;
    default: return p->index < HVM_NR_PARAMS ? -XEN_EPERM : -XEN_EINVAL;
    }
}

static long set(struct pv_domain *d, const struct xen_hvm_param *p)
{
    if (p->index != HVM_PARAM_CALLBACK_IRQ)
        return p->index < HVM_NR_PARAMS ? -XEN_EPERM : -XEN_EINVAL;
    __atomic_store_n(&d->pvh->callback, p->value, __ATOMIC_RELAXED);
    return 0;
}

static long param(struct pv_vcpu *v, bool write, uint64_t at)
{
    struct xen_hvm_param p;
    if (!pv_copy_from(v, &p, at, sizeof p))
        return -XEN_EFAULT;
    if (!pv_own(p.domid))
        return -XEN_EPERM;
    long rc = write ? set(v->d, &p) : get(v->d, &p);
    return rc || write || pv_copy_to(v, at, &p, sizeof p) ? rc : -XEN_EFAULT;
}

static long upcall_vector(struct pv_vcpu *v, uint64_t at)
{
    struct xen_hvm_evtchn_upcall_vector u;
    if (!pv_copy_from(v, &u, at, sizeof u))
        return -XEN_EFAULT;
    if (u.vector < 16)
        return -XEN_EINVAL;
    if (u.vcpu >= v->d->host.ncpu)
        return -XEN_ENOENT;
    struct pv_vcpu *who = &v->d->vcpu[u.vcpu];
    pthread_mutex_lock(&v->d->port_lock);
    __atomic_store_n(&who->upcall_vector, u.vector, __ATOMIC_RELAXED);
    if (pv_upcall_pending(who))
        pvh_upcall(who);
    pthread_mutex_unlock(&v->d->port_lock);
    return 0;
}

static long get_time(struct pv_vcpu *v, uint64_t at)
{
    const struct xen_hvm_get_time t = {.now = pv_system_time(v->d)};
    return pv_copy_to(v, at, &t, sizeof t) ? 0 : -XEN_EFAULT;
}

long hc_hvm_op(struct pv_vcpu *v, const uint64_t a[6])
{
    if (!v->d->pvh)
        return -XEN_ENOSYS;
    switch ((uint32_t)a[0]) {
    case HVMOP_set_param: return param(v, true, a[1]);
    case HVMOP_get_param: return param(v, false, a[1]);
    case HVMOP_get_time: return get_time(v, a[1]);
    case HVMOP_set_evtchn_upcall_vector: return upcall_vector(v, a[1]);
    case HVMOP_flush_tlbs: return a[1] ? -XEN_EINVAL : -XEN_EPERM;
    default: return -XEN_ENOSYS;
    }
}
