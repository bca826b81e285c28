/* SPDX-License-Identifier: MIT
 * Event channels: ports, whose they are and who listens. How the guest learns of an event
 * is its layout's: evtchn_2l.c, evtchn_fifo.c. */
#include "domain.h"

/* ---- raising ------------------------------------------------------------------------------ */

void pv_poke(struct pv_vcpu *v)
{
    bool was = __atomic_exchange_n(&v->info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
    if (v->d->pvh && !was)
        pvh_upcall(v);
    else if (v->mail && !v->d->pvh)
        mail_post(v->mail, PEND_EVENT);
}

/* With port_lock. */
static void raise_locked(struct pv_domain *d, uint32_t port)
{
    if (!d->layout->raise(d, port))
        return;
    /* A vCPU that polls waits for masked ports too. */
    for (unsigned i = 0; i < d->host.ncpu; i++)
        if (atomic_load(&d->vcpu[i].polling) && d->vcpu[i].mail)
            mail_post(d->vcpu[i].mail, PEND_EVENT);
}

static void port_raise(struct pv_domain *d, uint32_t port)
{
    pthread_mutex_lock(&d->port_lock);
    if (d->port[port].state != PORT_FREE)
        raise_locked(d, port);
    pthread_mutex_unlock(&d->port_lock);
}

void pv_port_virq(struct pv_vcpu *v, unsigned virq)
{
    uint32_t port = atomic_load(&v->virq_port[virq]);
    if (port)
        port_raise(v->d, port);
}

/* ---- ports ---------------------------------------------------------------------------------- */

void pv_ports_init(struct pv_domain *d)
{
    d->layout = &pv_layout_2l;
    d->port[0].state = PORT_UNBOUND; /* never given out */
    d->port[0].remote = DOMID_INVALID;
}

bool pv_port_pending(struct pv_domain *d, uint32_t port)
{
    pthread_mutex_lock(&d->port_lock);
    bool is = port < PORTS_MAX && d->layout->pending(d, port);
    pthread_mutex_unlock(&d->port_lock);
    return is;
}

static int port_free(struct pv_domain *d)
{
    for (uint32_t i = 1; i < PORTS_MAX; i++)
        if (d->port[i].state == PORT_FREE && !d->layout->busy(d, i))
            return (int)i;
    return -XEN_ENOSPC;
}

static int port_make(struct pv_domain *d, struct pv_port as)
{
    int port = port_free(d);
    if (port > 0) {
        d->port[port] = as;
        d->layout->open(d, (uint32_t)port);
    }
    return port;
}

static bool port_ok(const struct pv_domain *d, uint32_t port)
{
    return port && port < PORTS_MAX && d->port[port].state != PORT_FREE;
}

static long alloc_unbound(struct pv_vcpu *v, struct evtchn_alloc_unbound *op)
{
    if (!pv_own(op->dom))
        return -XEN_EPERM;
    int port =
        port_make(v->d, (struct pv_port){.state = PORT_UNBOUND,
                                         .remote = op->remote_dom == DOMID_SELF ? OWN_DOMID
                                                                                : op->remote_dom});
    op->port = (uint32_t)port;
    return port < 0 ? port : 0;
}

static long bind_virq(struct pv_vcpu *v, struct evtchn_bind_virq *op)
{
    struct pv_domain *d = v->d;
    if (op->virq >= NR_VIRQS)
        return -XEN_EINVAL;
    if (op->vcpu >= d->host.ncpu)
        return -XEN_ENOENT;
    struct pv_vcpu *to = &d->vcpu[op->vcpu];
    if (atomic_load(&to->virq_port[op->virq]))
        return -XEN_EEXIST;
    int port = port_make(
        d,
        (struct pv_port){.state = PORT_VIRQ, .virq = (uint8_t)op->virq, .cpu = (uint16_t)op->vcpu});
    if (port < 0)
        return port;
    atomic_store(&to->virq_port[op->virq], (uint32_t)port);
    op->port = (uint32_t)port;
    return 0;
}

static long bind_ipi(struct pv_vcpu *v, struct evtchn_bind_ipi *op)
{
    if (op->vcpu >= v->d->host.ncpu)
        return -XEN_ENOENT;
    int port = port_make(v->d, (struct pv_port){.state = PORT_IPI, .cpu = (uint16_t)op->vcpu});
    op->port = (uint32_t)port;
    return port < 0 ? port : 0;
}

static long port_close(struct pv_domain *d, uint32_t port)
{
    if (!port_ok(d, port))
        return -XEN_EINVAL;
    struct pv_port *p = &d->port[port];
    if (p->state == PORT_VIRQ)
        atomic_store(&d->vcpu[p->cpu].virq_port[p->virq], 0);
    *p = (struct pv_port){.state = PORT_FREE};
    d->layout->clear(d, port);
    return 0;
}

/* The back end is called without the lock: it may raise ports itself. */
static long send(struct pv_domain *d, uint32_t port)
{
    void (*fn)(void *ud) = NULL;
    void *ud = NULL;
    long rc = 0;
    pthread_mutex_lock(&d->port_lock);
    if (!port_ok(d, port)) {
        rc = -XEN_EINVAL;
    } else {
        switch (d->port[port].state) {
        case PORT_IPI: raise_locked(d, port); break;
        case PORT_BACKEND:
            fn = d->port[port].fn;
            ud = d->port[port].ud;
            break;
        case PORT_UNBOUND: break; /* nobody listens yet */
        default: rc = -XEN_EINVAL; break;
        }
    }
    pthread_mutex_unlock(&d->port_lock);
    if (fn)
        fn(ud);
    return rc;
}

static long status(struct pv_vcpu *v, struct evtchn_status *op)
{
    const struct pv_domain *d = v->d;
    if (!pv_own(op->dom))
        return -XEN_EPERM;
    if (op->port >= PORTS_MAX)
        return -XEN_EINVAL;
    const struct pv_port *p = &d->port[op->port];
    op->vcpu = p->cpu;
    switch (p->state) {
    case PORT_UNBOUND:
        op->status = EVTCHNSTAT_unbound;
        op->u.unbound.dom = p->remote;
        break;
    case PORT_BACKEND:
        op->status = EVTCHNSTAT_interdomain;
        op->u.interdomain.dom = BACK_END;
        op->u.interdomain.port = op->port;
        break;
    case PORT_VIRQ:
        op->status = EVTCHNSTAT_virq;
        op->u.virq = p->virq;
        break;
    case PORT_IPI: op->status = EVTCHNSTAT_ipi; break;
    default: op->status = EVTCHNSTAT_closed; break;
    }
    return 0;
}

static long unmask(struct pv_domain *d, uint32_t port)
{
    if (!port_ok(d, port))
        return -XEN_EINVAL;
    d->layout->unmask(d, port);
    return 0;
}

static long bind_vcpu(struct pv_domain *d, const struct evtchn_bind_vcpu *op)
{
    if (op->vcpu >= d->host.ncpu)
        return -XEN_ENOENT;
    if (!port_ok(d, op->port))
        return -XEN_EINVAL;
    struct pv_port *p = &d->port[op->port];
    if (p->state == PORT_IPI || (p->state == PORT_VIRQ && p->virq != VIRQ_CONSOLE &&
                                 p->virq != VIRQ_DOM_EXC && p->virq != VIRQ_TBUF))
        return -XEN_EINVAL; /* each vCPU has its own */
    p->cpu = (uint16_t)op->vcpu;
    d->layout->moved(d, op->port);
    return 0;
}

static long reset(struct pv_domain *d, domid_t dom)
{
    if (!pv_own(dom))
        return -XEN_EPERM;
    for (uint32_t i = 1; i < PORTS_MAX; i++)
        if (d->port[i].state != PORT_FREE && d->port[i].state != PORT_BACKEND)
            port_close(d, i);
    pv_fifo_end(d);
    return 0;
}

/* ---- the hypercall ------------------------------------------------------------------------------
 */

union evtchn_any {
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
    struct evtchn_init_control init_control;
    struct evtchn_expand_array expand_array;
    struct evtchn_set_priority set_priority;
};

static const uint8_t sizes[] = {
    [EVTCHNOP_bind_virq] = sizeof(struct evtchn_bind_virq),
    [EVTCHNOP_close] = sizeof(struct evtchn_close),
    [EVTCHNOP_send] = sizeof(struct evtchn_send),
    [EVTCHNOP_status] = sizeof(struct evtchn_status),
    [EVTCHNOP_alloc_unbound] = sizeof(struct evtchn_alloc_unbound),
    [EVTCHNOP_bind_ipi] = sizeof(struct evtchn_bind_ipi),
    [EVTCHNOP_bind_vcpu] = sizeof(struct evtchn_bind_vcpu),
    [EVTCHNOP_unmask] = sizeof(struct evtchn_unmask),
    [EVTCHNOP_reset] = sizeof(struct evtchn_reset),
    [EVTCHNOP_init_control] = sizeof(struct evtchn_init_control),
    [EVTCHNOP_expand_array] = sizeof(struct evtchn_expand_array),
    [EVTCHNOP_set_priority] = sizeof(struct evtchn_set_priority),
};

static long op_locked(struct pv_vcpu *v, unsigned cmd, union evtchn_any *op)
{
    struct pv_domain *d = v->d;
    switch (cmd) {
    case EVTCHNOP_bind_virq: return bind_virq(v, &op->bind_virq);
    case EVTCHNOP_bind_ipi: return bind_ipi(v, &op->bind_ipi);
    case EVTCHNOP_close: return port_close(d, op->close.port);
    case EVTCHNOP_status: return status(v, &op->status);
    case EVTCHNOP_alloc_unbound: return alloc_unbound(v, &op->alloc_unbound);
    case EVTCHNOP_bind_vcpu: return bind_vcpu(d, &op->bind_vcpu);
    case EVTCHNOP_unmask: return unmask(d, op->unmask.port);
    case EVTCHNOP_init_control: return pv_fifo_control(d, &op->init_control);
    case EVTCHNOP_expand_array: return pv_fifo_expand(d, &op->expand_array);
    case EVTCHNOP_set_priority:
        return port_ok(d, op->set_priority.port) ? pv_fifo_priority(d, &op->set_priority)
                                                 : -XEN_EINVAL;
    default: return reset(d, op->reset.dom);
    }
}

long hc_event_channel_op(struct pv_vcpu *v, const uint64_t a[6])
{
    union evtchn_any op;
    unsigned cmd = (unsigned)a[0];
    /* Interdomain binding and physical interrupts are a back end's. */
    if (cmd >= ARRAY_LEN(sizes) || !sizes[cmd])
        return cmd == EVTCHNOP_bind_interdomain || cmd == EVTCHNOP_bind_pirq ? -XEN_EINVAL
                                                                             : -XEN_ENOSYS;
    memset(&op, 0, sizeof op);
    if (!pv_copy_from(v, &op, a[1], sizes[cmd]))
        return -XEN_EFAULT;
    if (cmd == EVTCHNOP_send)
        return send(v->d, op.send.port);
    /* Some take frames of the guest's, or give them back. */
    bool frames =
        cmd == EVTCHNOP_init_control || cmd == EVTCHNOP_expand_array || cmd == EVTCHNOP_reset;
    if (frames)
        pv_lock(v);
    pthread_mutex_lock(&v->d->port_lock);
    long rc = op_locked(v, cmd, &op);
    pthread_mutex_unlock(&v->d->port_lock);
    if (frames)
        pv_unlock(v);
    if (!rc && !pv_copy_to(v, a[1], &op, sizes[cmd]))
        return -XEN_EFAULT;
    return rc;
}

/* ---- vcpu_info
 * ------------------------------------------------------------------------------------- */

int pv_info_register(struct pv_vcpu *v, uint64_t mfn, uint32_t offset)
{
    struct pv_domain *d = v->d;
    if (offset > PAGE - sizeof(struct vcpu_info))
        return -XEN_ENXIO;
    if (offset % 8)
        return -XEN_EINVAL;
    if (v->info_mfn != FRAME_NR)
        return -XEN_EINVAL; /* once */
    int rc = pv_frame_get_type(d, mfn, TYPE_WRITABLE);
    if (rc)
        return rc;
    struct vcpu_info *to = (struct vcpu_info *)((uint8_t *)pv_frame_ptr(d, mfn) + offset);
    pthread_mutex_lock(&d->port_lock);
    /* What was pending stays so; one that comes in between is found by the upcall
     * that is made in any case. */
    *to = *v->info;
    v->info = to;
    v->info_mfn = mfn;
    __atomic_store_n(&to->evtchn_pending_sel, UINT64_MAX, __ATOMIC_SEQ_CST);
    pv_poke(v);
    pthread_mutex_unlock(&d->port_lock);
    return 0;
}

void pv_shared_move(struct pv_domain *d, struct shared_info *to)
{
    pthread_mutex_lock(&d->port_lock);
    if (to != d->shared) {
        *to = *d->shared;
        for (unsigned i = 0; i < d->host.ncpu && i < XEN_LEGACY_MAX_VCPUS; i++)
            if (d->vcpu[i].info_mfn == FRAME_NR)
                d->vcpu[i].info = &to->vcpu_info[i];
        d->shared = to;
    }
    pthread_mutex_unlock(&d->port_lock);
}

/* ---- for back ends
 * --------------------------------------------------------------------------------- */

int pv_port_connect(struct pv_domain *d, uint32_t port, void (*fn)(void *ud), void *ud)
{
    int rc = -XEN_EINVAL;
    pthread_mutex_lock(&d->port_lock);
    if (port_ok(d, port) && d->port[port].state == PORT_UNBOUND &&
        d->port[port].remote == BACK_END) {
        d->port[port].state = PORT_BACKEND;
        d->port[port].fn = fn;
        d->port[port].ud = ud;
        raise_locked(d, port); /* as Xen does: what was sent before is not lost */
        rc = 0;
    }
    pthread_mutex_unlock(&d->port_lock);
    return rc;
}

void pv_port_disconnect(struct pv_domain *d, uint32_t port)
{
    pthread_mutex_lock(&d->port_lock);
    if (port_ok(d, port) && d->port[port].state == PORT_BACKEND) {
        d->port[port].state = PORT_UNBOUND;
        d->port[port].remote = BACK_END;
        d->port[port].fn = NULL;
    }
    pthread_mutex_unlock(&d->port_lock);
}

void pv_port_notify(struct pv_domain *d, uint32_t port)
{
    pthread_mutex_lock(&d->port_lock);
    if (port < PORTS_MAX && d->port[port].state == PORT_BACKEND)
        raise_locked(d, port);
    pthread_mutex_unlock(&d->port_lock);
}

int pv_port_new(struct pv_domain *d, void (*fn)(void *ud), void *ud)
{
    pthread_mutex_lock(&d->port_lock);
    int port = port_make(
        d, (struct pv_port){.state = PORT_BACKEND, .remote = BACK_END, .fn = fn, .ud = ud});
    pthread_mutex_unlock(&d->port_lock);
    return port;
}
