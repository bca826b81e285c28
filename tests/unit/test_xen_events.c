/* SPDX-License-Identifier: MIT
 * Event channels, multicalls and vCPUs of a PV guest. */
#include "xen_rig.h"

static long event_op(struct rig *r, unsigned cmd, void *op, size_t n)
{
    const uint64_t a[6] = {cmd, r->at};
    memcpy(r->scratch, op, n);
    long rc = hc_event_channel_op(r->v, a);
    memcpy(op, r->scratch, n);
    return rc;
}

static bool pending(const struct rig *r, uint32_t port)
{
    return r->d->shared->evtchn_pending[port / 64] >> (port % 64) & 1;
}

static long port_op(struct rig *r, unsigned cmd, uint32_t port)
{
    struct evtchn_send op = {port}; /* close, send and unmask have the same */
    return event_op(r, cmd, &op, sizeof op);
}

Test(xen_events, an_ipi)
{
    struct rig r = rig_new(2);
    struct evtchn_bind_ipi op = {.vcpu = 1};
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_ipi, &op, sizeof op), 0);
    struct vcpu_info *info = r.d->vcpu[1].info;
    cr_assert_eq(port_op(&r, EVTCHNOP_send, op.port), 0);
    cr_assert(pending(&r, op.port));
    cr_assert_eq(info->evtchn_upcall_pending, 0); /* all ports start masked */
    cr_assert_eq(port_op(&r, EVTCHNOP_unmask, op.port), 0);
    cr_assert_eq(info->evtchn_upcall_pending, 1);
    cr_assert_eq(info->evtchn_pending_sel, 1ull << (op.port / 64));
    cr_assert_eq(port_op(&r, EVTCHNOP_close, op.port), 0);
    cr_assert_not(pending(&r, op.port));
    cr_assert_eq(port_op(&r, EVTCHNOP_close, op.port), -XEN_EINVAL);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, op.port), -XEN_EINVAL);
    op.vcpu = 2;
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_ipi, &op, sizeof op), -XEN_ENOENT);
    vc_close(r.vm);
}

Test(xen_events, wrong_ports)
{
    struct rig r = rig_new(1);
    const uint32_t wrong[] = {0, 999, 4095, 4096, UINT32_MAX};
    const uint64_t a[6] = {EVTCHNOP_send, 0x1000}, none[6] = {77, r.at};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        cr_assert_eq(port_op(&r, EVTCHNOP_send, wrong[i]), -XEN_EINVAL);
        cr_assert_eq(port_op(&r, EVTCHNOP_unmask, wrong[i]), -XEN_EINVAL);
        cr_assert_eq(port_op(&r, EVTCHNOP_close, wrong[i]), -XEN_EINVAL);
    }
    cr_assert_eq(hc_event_channel_op(r.v, a), -XEN_EFAULT);
    cr_assert_eq(hc_event_channel_op(r.v, none), -XEN_ENOSYS);
    vc_close(r.vm);
}

Test(xen_events, virqs_are_bound_once)
{
    struct rig r = rig_new(1);
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER};
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_virq, &op, sizeof op), 0);
    uint32_t port = op.port;
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_virq, &op, sizeof op), -XEN_EEXIST);
    pv_port_virq(r.v, VIRQ_TIMER);
    cr_assert(pending(&r, port));
    struct evtchn_status st = {.dom = DOMID_SELF, .port = port};
    cr_assert_eq(event_op(&r, EVTCHNOP_status, &st, sizeof st), 0);
    cr_assert_eq(st.status, EVTCHNSTAT_virq);
    op.virq = NR_VIRQS;
    cr_assert_eq(event_op(&r, EVTCHNOP_bind_virq, &op, sizeof op), -XEN_EINVAL);
    vc_close(r.vm);
}

static void count(void *ud)
{
    ++*(int *)ud;
}

Test(xen_events, a_back_end_at_the_other_end)
{
    struct rig r = rig_new(1);
    struct evtchn_alloc_unbound op = {.dom = DOMID_SELF, .remote_dom = BACK_END};
    int sent = 0;
    cr_assert_eq(event_op(&r, EVTCHNOP_alloc_unbound, &op, sizeof op), 0);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, op.port), 0); /* nobody listens */
    cr_assert_eq(pv_port_connect(r.d, op.port, count, &sent), 0);
    cr_assert(pending(&r, op.port));
    cr_assert_lt(pv_port_connect(r.d, op.port, count, &sent), 0);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, op.port), 0);
    cr_assert_eq(sent, 1);
    pv_port_disconnect(r.d, op.port);
    cr_assert_eq(port_op(&r, EVTCHNOP_send, op.port), 0);
    cr_assert_eq(sent, 1);
    op = (struct evtchn_alloc_unbound){.dom = 5};
    cr_assert_eq(event_op(&r, EVTCHNOP_alloc_unbound, &op, sizeof op), -XEN_EPERM);
    vc_close(r.vm);
}

static long syscall(struct rig *r, uint64_t nr, uint64_t a0, uint64_t a1)
{
    uint64_t *g = r->d->eng->gprs(r->v->bc);
    g[0] = nr;
    g[7] = a0;
    g[6] = a1;
    pv_hypercall(r->v);
    return (long)g[0];
}

/* Where the guest is then, no call of its kernel's is made any more. */
Test(xen_events, iret_ends_a_multicall)
{
    struct rig r = rig_new(1);
    struct multicall_entry *m = (struct multicall_entry *)r.scratch;
    struct iret_context *f = (struct iret_context *)(r.scratch + 256);
    uint64_t *g = r.d->eng->gprs(r.v->bc);
    m[0] = (struct multicall_entry){.op = __HYPERVISOR_iret};
    m[1] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .result = 77};
    *f = (struct iret_context){.rax = 1234,
                               .rip = RIG_BASE + RIG_LOAD,
                               .cs = FLAT_KERNEL_CS64 & ~3u,
                               .ss = FLAT_KERNEL_SS64,
                               .rflags = 0x202,
                               .rsp = r.at + 4096};
    g[4] = r.at + 2048;
    cr_assert_eq(syscall(&r, __HYPERVISOR_multicall, r.at, 2), 1234);
    cr_assert_eq(m[1].result, 77);
    cr_assert_eq(g[4], r.at + 4096);
    cr_assert_eq(r.d->eng->rip(r.v->bc), RIG_BASE + RIG_LOAD);
    vc_close(r.vm);
}

/* SYSCALL does not keep a code segment of the guest's own. */
Test(xen_events, selectors_of_a_hypercall)
{
    struct rig r = rig_new(1);
    uint64_t *g = r.d->eng->gprs(r.v->bc);
    r.d->eng->flat_cs_ss(r.v->bc, 0x1b, 0x2b);
    g[0] = __HYPERVISOR_xen_version;
    g[7] = 0;
    pv_hook_syscall(r.d, 0);
    cr_assert_eq(g[0], 4 << 16 | 17);
    cr_assert_eq(r.d->eng->selector(r.v->bc, PV_CS), FLAT_KERNEL_CS64);
    cr_assert_eq(r.d->eng->selector(r.v->bc, PV_SS), FLAT_KERNEL_SS64);
    vc_close(r.vm);
}

/* Ports are the hypervisor's: such a breakpoint is remembered, and never armed. */
Test(xen_events, breakpoints_on_io)
{
    struct rig r = rig_new(1);
    const uint64_t on = 1ull << 17 | 2 | 0x600, set[6] = {7, on}, get[6] = {7};
    uint64_t real;
    cr_assert_eq(hc_get_debugreg(r.v, get), 0x400);
    cr_assert_eq(hc_set_debugreg(r.v, set), -XEN_EPERM); /* CR4.DE is not set */
    r.v->cr4 |= 8;
    cr_assert_eq(hc_set_debugreg(r.v, set), 0);
    cr_assert_eq(hc_get_debugreg(r.v, get), (long)on);
    cr_assert_eq(r.d->host.be->reg(r.v->bc, false, VC_REG_DR7, &real), 0);
    cr_assert_eq(real & 3, 0);
    r.v->cr4 &= ~8ull;
    cr_assert_eq(hc_set_debugreg(r.v, set), -XEN_EPERM);
    cr_assert_eq(hc_get_debugreg(r.v, get), (long)on);
    vc_close(r.vm);
}

Test(xen_events, multicalls)
{
    struct rig r = rig_new(1);
    struct multicall_entry *m = (struct multicall_entry *)r.scratch;
    m[0] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {0}};
    m[1] = (struct multicall_entry){.op = 55};
    m[2] = (struct multicall_entry){.op = __HYPERVISOR_multicall, .args = {r.at, 1}};
    m[3] = (struct multicall_entry){.op = UINT64_MAX};
    cr_assert_eq(syscall(&r, __HYPERVISOR_multicall, r.at, 4), 0);
    cr_assert_eq(m[0].result, 4 << 16 | 17);
    cr_assert_eq((long)m[1].result, -XEN_ENOSYS);
    cr_assert_eq((long)m[2].result, -XEN_EINVAL);
    cr_assert_eq((long)m[3].result, -XEN_ENOSYS);
    cr_assert_eq(syscall(&r, __HYPERVISOR_multicall, 0x10, 1), -XEN_EFAULT);
    cr_assert_eq(syscall(&r, 63, 0, 0), -XEN_ENOSYS);
    cr_assert_eq(syscall(&r, UINT32_MAX, 0, 0), -XEN_ENOSYS);
    cr_assert_eq(syscall(&r, __HYPERVISOR_domctl, 0, 0), -XEN_EPERM);
    vc_close(r.vm);
}

Test(xen_events, vcpus)
{
    struct rig r = rig_new(2);
    cr_assert_eq(syscall(&r, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 0), 1);
    cr_assert_eq(syscall(&r, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 1), 0);
    cr_assert_eq(syscall(&r, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 2), -XEN_ENOENT);
    cr_assert_eq(syscall(&r, __HYPERVISOR_vcpu_op, VCPUOP_up, 1), -XEN_EINVAL);
    cr_assert_eq(syscall(&r, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 0), -XEN_EEXIST);
    vc_close(r.vm);
}

Test(xen_events, grants)
{
    struct rig r = rig_new(1);
    uint64_t gpa;
    uint8_t *page = pv_grant_map(r.d, GNTTAB_RESERVED_CONSOLE, true, &gpa);
    cr_assert_eq(page, pv_frame_ptr(r.d, r.d->console_mfn));
    cr_assert_eq(r.d->grant[0][0].flags, GTF_permit_access | GTF_reading | GTF_writing);
    pv_grant_unmap(r.d, GNTTAB_RESERVED_CONSOLE, true, gpa);
    cr_assert_eq(r.d->grant[0][0].flags, GTF_permit_access);
    static const struct grant_entry_v1 bad[] = {
        {0, BACK_END, 0x300},
        {GTF_permit_access, 3, 0x300},
        {GTF_permit_access | GTF_readonly, BACK_END, 0x300},
        {GTF_permit_access, BACK_END, UINT32_MAX},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        r.d->grant[0][20] = bad[i];
        cr_assert_null(pv_grant_map(r.d, 20, true, &gpa));
        cr_assert_eq(r.d->grant[0][20].flags, bad[i].flags);
    }
    /* Not for writing: a page table. */
    r.d->grant[0][20] =
        (struct grant_entry_v1){GTF_permit_access, BACK_END, (uint32_t)r.v->kernel_mfn};
    cr_assert_null(pv_grant_map(r.d, 20, true, &gpa));
    cr_assert_null(pv_grant_map(r.d, GRANTS_MAX, false, &gpa));
    cr_assert_null(pv_grant_map(r.d, UINT32_MAX, false, &gpa));
    vc_close(r.vm);
}
