/* SPDX-License-Identifier: MIT
 * Event channels in queues: their order, what moves between queues, what is refused, and
 * a guest that writes anything into its words. */
#include "xen_rig.h"
#include "xen_audit.h"

#define BLOCK 0x41u /* frames: the vCPUs' blocks, and words */
#define WORDS 0x42u

#define P (1u << EVTCHN_FIFO_PENDING)
#define M (1u << EVTCHN_FIFO_MASKED)
#define L (1u << EVTCHN_FIFO_LINKED)

static long event_op(struct rig *r, unsigned cmd, void *op, size_t n)
{
    const uint64_t a[6] = {cmd, r->at};
    memcpy(r->scratch, op, n);
    long rc = hc_event_channel_op(r->v, a);
    memcpy(op, r->scratch, n);
    return rc;
}

static long control(struct rig *r, uint64_t gfn, uint32_t offset, uint32_t vcpu)
{
    struct evtchn_init_control op = {.control_gfn = gfn, .offset = offset, .vcpu = vcpu};
    long rc = event_op(r, EVTCHNOP_init_control, &op, sizeof op);
    if (!rc)
        cr_assert_eq(op.link_bits, EVTCHN_FIFO_LINK_BITS);
    return rc;
}

static long expand(struct rig *r, uint64_t gfn)
{
    struct evtchn_expand_array op = {.array_gfn = gfn};
    return event_op(r, EVTCHNOP_expand_array, &op, sizeof op);
}

static long priority(struct rig *r, uint32_t port, uint32_t to)
{
    struct evtchn_set_priority op = {.port = port, .priority = to};
    return event_op(r, EVTCHNOP_set_priority, &op, sizeof op);
}

static long port_op(struct rig *r, unsigned cmd, uint32_t port)
{
    struct evtchn_send op = {port};
    return event_op(r, cmd, &op, sizeof op);
}

static uint32_t ipi(struct rig *r, uint32_t vcpu)
{
    struct evtchn_bind_ipi op = {.vcpu = vcpu};
    cr_assert_eq(event_op(r, EVTCHNOP_bind_ipi, &op, sizeof op), 0);
    return op.port;
}

static uint32_t *word(const struct rig *r, uint32_t port)
{
    return (uint32_t *)pv_frame_ptr(r->d, WORDS) + port;
}

static struct evtchn_fifo_control_block *block(const struct rig *r, uint32_t vcpu)
{
    return (void *)((uint8_t *)pv_frame_ptr(r->d, BLOCK) + vcpu * 128);
}

static struct rig rig_fifo(unsigned cpus)
{
    struct rig r = rig_new(cpus);
    for (unsigned i = 0; i < cpus; i++)
        cr_assert_eq(control(&r, BLOCK, i * 128, i), 0);
    cr_assert_eq(expand(&r, WORDS), 0);
    return r;
}

/* As a guest takes the next port of a queue: 0 when it was the last. */
static uint32_t consume(struct rig *r, uint32_t port)
{
    uint32_t next = *word(r, port) & EVTCHN_FIFO_LINK_MASK;
    *word(r, port) &= ~(L | P | EVTCHN_FIFO_LINK_MASK);
    return next;
}

Test(xen_fifo, refused)
{
    struct rig r = rig_new(2);
    uint32_t port = ipi(&r, 0);
    cr_assert_eq(expand(&r, WORDS), -XEN_EOPNOTSUPP);
    cr_assert_eq(priority(&r, port, 3), -XEN_ENOSYS);
    cr_assert_eq(control(&r, BLOCK, 0, 2), -XEN_ENOENT);
    cr_assert_eq(control(&r, BLOCK, 4, 0), -XEN_EINVAL);
    cr_assert_eq(control(&r, BLOCK, PAGE - 64, 0), -XEN_EINVAL);
    cr_assert_eq(control(&r, BLOCK, UINT32_MAX & ~7u, 0), -XEN_EINVAL);
    cr_assert_eq(control(&r, r.v->kernel_mfn, 0, 0), -XEN_EINVAL);
    cr_assert_eq(control(&r, UINT64_MAX, 0, 0), -XEN_EINVAL);
    cr_assert_null(r.d->fifo);
    cr_assert_eq(control(&r, BLOCK, PAGE - 72, 0), 0);
    cr_assert_eq(control(&r, BLOCK, 0, 0), -XEN_EINVAL);
    cr_assert_eq(expand(&r, r.v->kernel_mfn), -XEN_EINVAL);
    for (unsigned i = 0; i < FIFO_FRAMES; i++)
        cr_assert_eq(expand(&r, WORDS + i), 0);
    cr_assert_eq(expand(&r, WORDS), -XEN_ENOSPC);
    cr_assert_eq(priority(&r, port, 16), -XEN_EINVAL);
    cr_assert_eq(priority(&r, PORTS_MAX, 0), -XEN_EINVAL);
    cr_assert_eq(priority(&r, port, 0), 0);
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    /* Held as memory that is written to: it can be no table. */
    cr_assert_neq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, WORDS), 0);
    struct evtchn_reset all = {DOMID_SELF};
    cr_assert_eq(event_op(&r, EVTCHNOP_reset, &all, sizeof all), 0);
    cr_assert_null(r.d->fifo);
    cr_assert_eq(expand(&r, WORDS), -XEN_EOPNOTSUPP);
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    vc_close(r.vm);
}

Test(xen_fifo, a_queue)
{
    struct rig r = rig_fifo(2);
    uint32_t a = ipi(&r, 1), b = ipi(&r, 1), c = ipi(&r, 1);
    struct evtchn_fifo_control_block *k = block(&r, 1);
    struct vcpu_info *info = r.d->vcpu[1].info;
    *word(&r, c) = M;
    cr_assert_eq(port_op(&r, EVTCHNOP_send, a), 0);
    cr_assert_eq(info->evtchn_upcall_pending, 1);
    cr_assert_eq(k->ready, 1u << EVTCHN_FIFO_PRIORITY_DEFAULT);
    cr_assert_eq(k->head[EVTCHN_FIFO_PRIORITY_DEFAULT], a);
    cr_assert_eq(*word(&r, a), P | L);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, b), 0);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, b), 0);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, c), 0);
    cr_assert_eq(*word(&r, a), P | L | b);
    cr_assert_eq(*word(&r, b), P | L);
    cr_assert_eq(*word(&r, c), P | M);
    cr_assert(pv_port_pending(r.d, c));
    cr_assert_eq(port_op(&r, EVTCHNOP_unmask, c), 0);
    cr_assert_eq(*word(&r, c), P | L);
    cr_assert_eq(consume(&r, a), b);
    cr_assert_eq(consume(&r, b), c);
    cr_assert_eq(consume(&r, c), 0);
    /* The queue is empty, whatever the hypervisor remembers of it. */
    k->ready = 0;
    info->evtchn_upcall_pending = 0;
    cr_assert_eq(port_op(&r, EVTCHNOP_send, c), 0);
    cr_assert_eq(k->head[EVTCHN_FIFO_PRIORITY_DEFAULT], c);
    cr_assert_eq(*word(&r, c), P | L);
    cr_assert_eq(k->ready, 1u << EVTCHN_FIFO_PRIORITY_DEFAULT);
    cr_assert_eq(info->evtchn_upcall_pending, 1);
    vc_close(r.vm);
}

Test(xen_fifo, priorities_and_moves)
{
    struct rig r = rig_fifo(2);
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = BACK_END};
    cr_assert_eq(event_op(&r, EVTCHNOP_alloc_unbound, &u, sizeof u), 0);
    uint32_t a = u.port, b = ipi(&r, 0);
    int none = 0;
    cr_assert_eq(pv_port_connect(r.d, a, NULL, &none), 0); /* raises it */
    cr_assert_eq(block(&r, 0)->head[7], a);
    cr_assert_eq(consume(&r, a), 0);
    /* It was the old queue's last; it is no longer, so b does not come after it. */
    struct evtchn_bind_vcpu to = {.port = a, .vcpu = 1};
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_vcpu, &to, sizeof to), 0);
    cr_assert_eq(priority(&r, a, 2), 0);
    pv_port_notify(r.d, a);
    cr_assert_eq(block(&r, 1)->head[2], a);
    cr_assert_eq(block(&r, 1)->ready, 1u << 2);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, b), 0);
    cr_assert_eq(*word(&r, a), P | L);
    cr_assert_eq(block(&r, 0)->head[7], b);
    /* A closed port that is linked still is not given out anew. */
    pv_port_disconnect(r.d, a);
    cr_assert_eq(port_op(&r, EVTCHNOP_close, a), 0);
    cr_assert_eq(*word(&r, a), L);
    cr_assert_neq(ipi(&r, 0), a);
    consume(&r, a);
    cr_assert_eq(ipi(&r, 0), a);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, a), 0);
    cr_assert_eq(*word(&r, b), P | L | a);
    vc_close(r.vm);
}

Test(xen_fifo, nothing_is_lost_on_the_way)
{
    struct rig r = rig_new(2);
    uint32_t a = ipi(&r, 0), b = ipi(&r, 1);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, a), 0); /* in two levels */
    cr_assert_eq(control(&r, BLOCK, 0, 0), 0);
    cr_assert(pv_port_pending(r.d, a));
    cr_assert_eq(port_op(&r, EVTCHNOP_send, b), 0); /* without a word */
    *word(&r, b) = M;
    cr_assert_eq(expand(&r, WORDS), 0);
    cr_assert_eq(*word(&r, a), P | L);
    cr_assert_eq(block(&r, 0)->head[7], a);
    cr_assert_eq(*word(&r, b), P | M);
    cr_assert_eq(port_op(&r, EVTCHNOP_unmask, b), 0);
    cr_assert_eq(*word(&r, b), P); /* its vCPU has no queues */
    cr_assert_eq(control(&r, BLOCK, 128, 1), 0);
    cr_assert_eq(*word(&r, b), P | L);
    cr_assert_eq(block(&r, 1)->head[7], b);
    cr_assert_eq(pv_upcall_pending(&r.d->vcpu[1]), 1);
    vc_close(r.vm);
}

Test(xen_fifo, any_words)
{
    struct rig r = rig_fifo(2);
    uint64_t seed = 1;
    uint32_t port[40];
    for (unsigned i = 0; i < ARRAY_LEN(port); i++)
        port[i] = ipi(&r, i % 2);
    for (unsigned i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint32_t n = (uint32_t)(seed >> 32), which = port[n % ARRAY_LEN(port)];
        if (n >> 8 & 1)
            *word(&r, which) = n << 9;
        if (n >> 9 & 1)
            block(&r, n >> 10 & 1)->head[n >> 11 & 15] = n;
        switch (n >> 16 & 7) {
        case 0: port_op(&r, EVTCHNOP_unmask, which); break;
        case 1: priority(&r, which, n >> 20 & 31); break;
        case 2:
            port_op(&r, EVTCHNOP_close, which);
            port[n % ARRAY_LEN(port)] = ipi(&r, n >> 20 & 1);
            break;
        default: port_op(&r, EVTCHNOP_send, which);
        }
        if (i % 1000 == 0)
            for (unsigned k = 0; k < PORTS_MAX && k < FIFO_PER_FRAME; k++)
                *word(&r, k) = 0; /* or it runs out of ports that are not linked */
    }
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    vc_close(r.vm);
}
