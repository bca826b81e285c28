/* SPDX-License-Identifier: MIT
 * Events in two levels: a pending bit and a mask bit for each port in shared_info, a
 * selector of their words and an upcall flag in each vcpu_info. */
#include "domain.h"

static bool bit_set(xen_ulong_t *words, uint32_t bit)
{
    return __atomic_fetch_or(&words[bit / 64], BIT64(bit % 64), __ATOMIC_SEQ_CST) >> (bit % 64) & 1;
}

static bool bit_clear(xen_ulong_t *words, uint32_t bit)
{
    return __atomic_fetch_and(&words[bit / 64], ~BIT64(bit % 64), __ATOMIC_SEQ_CST) >> (bit % 64) &
           1;
}

static bool bit_test(const xen_ulong_t *words, uint32_t bit)
{
    return __atomic_load_n(&words[bit / 64], __ATOMIC_SEQ_CST) >> (bit % 64) & 1;
}

static void select_port(struct pv_domain *d, uint32_t port)
{
    struct pv_vcpu *v = &d->vcpu[d->port[port].cpu];
    xen_ulong_t sel =
        __atomic_fetch_or(&v->info->evtchn_pending_sel, BIT64(port / 64), __ATOMIC_SEQ_CST);
    if (!(sel >> (port / 64) & 1) || !pv_upcall_pending(v))
        pv_poke(v);
}

static bool raise_port(struct pv_domain *d, uint32_t port)
{
    if (bit_set(d->shared->evtchn_pending, port))
        return false;
    if (!bit_test(d->shared->evtchn_mask, port))
        select_port(d, port);
    return true;
}

static bool pending(const struct pv_domain *d, uint32_t port)
{
    return bit_test(d->shared->evtchn_pending, port);
}

static void clear(struct pv_domain *d, uint32_t port)
{
    bit_clear(d->shared->evtchn_pending, port);
}

static void unmask(struct pv_domain *d, uint32_t port)
{
    if (bit_clear(d->shared->evtchn_mask, port) && pending(d, port))
        select_port(d, port);
}

/* An event that waits is the new vCPU's to see. */
static void moved(struct pv_domain *d, uint32_t port)
{
    if (pending(d, port) && !bit_test(d->shared->evtchn_mask, port))
        select_port(d, port);
}

static bool busy(const struct pv_domain *d, uint32_t port)
{
    (void)d, (void)port;
    return false;
}

const struct port_layout pv_layout_2l = {
    .raise = raise_port,
    .pending = pending,
    .clear = clear,
    .unmask = unmask,
    .open = clear,
    .moved = moved,
    .busy = busy,
};
