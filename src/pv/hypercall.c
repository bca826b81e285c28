/* SPDX-License-Identifier: MIT
 * The table of hypercalls, and calls of several at once. */
#include "domain.h"
#include <xen/sched.h>

enum { RAX, RDX = 2, RSI = 6, RDI = 7, R8 = 8, R10 = 10 };

static long hc_multicall(struct pv_vcpu *v, const uint64_t a[6]);

/* A DomU may not ask these of Xen. */
static long hc_denied(struct pv_vcpu *v, const uint64_t a[6])
{
    (void)v, (void)a;
    return -XEN_EPERM;
}

static long hc_xenpmu(struct pv_vcpu *v, const uint64_t a[6])
{
    (void)v, (void)a;
    return -XEN_EOPNOTSUPP;
}

static long hc_nmi_op(struct pv_vcpu *v, const uint64_t a[6])
{
    (void)v;
    return a[0] <= 1 ? 0 : -XEN_ENOSYS;
}

static hypercall_fn *const table[64] = {
    [__HYPERVISOR_set_trap_table] = hc_set_trap_table,
    [__HYPERVISOR_mmu_update] = hc_mmu_update,
    [__HYPERVISOR_set_gdt] = hc_set_gdt,
    [__HYPERVISOR_stack_switch] = hc_stack_switch,
    [__HYPERVISOR_set_callbacks] = hc_set_callbacks,
    [__HYPERVISOR_fpu_taskswitch] = hc_fpu_taskswitch,
    [__HYPERVISOR_platform_op] = hc_denied,
    [__HYPERVISOR_set_debugreg] = hc_set_debugreg,
    [__HYPERVISOR_get_debugreg] = hc_get_debugreg,
    [__HYPERVISOR_update_descriptor] = hc_update_descriptor,
    [__HYPERVISOR_memory_op] = hc_memory_op,
    [__HYPERVISOR_multicall] = hc_multicall,
    [__HYPERVISOR_update_va_mapping] = hc_update_va_mapping,
    [__HYPERVISOR_set_timer_op] = hc_set_timer_op,
    [__HYPERVISOR_xen_version] = hc_xen_version,
    [__HYPERVISOR_console_io] = hc_console_io,
    [__HYPERVISOR_grant_table_op] = hc_grant_table_op,
    [__HYPERVISOR_vm_assist] = hc_vm_assist,
    [__HYPERVISOR_update_va_mapping_otherdomain] = hc_denied,
    [__HYPERVISOR_iret] = hc_iret,
    [__HYPERVISOR_vcpu_op] = hc_vcpu_op,
    [__HYPERVISOR_set_segment_base] = hc_set_segment_base,
    [__HYPERVISOR_mmuext_op] = hc_mmuext_op,
    [__HYPERVISOR_nmi_op] = hc_nmi_op,
    [__HYPERVISOR_sched_op] = hc_sched_op,
    [__HYPERVISOR_callback_op] = hc_callback_op,
    [__HYPERVISOR_event_channel_op] = hc_event_channel_op,
    [__HYPERVISOR_physdev_op] = hc_physdev_op,
    [__HYPERVISOR_sysctl] = hc_denied,
    [__HYPERVISOR_domctl] = hc_denied,
    [__HYPERVISOR_xenpmu_op] = hc_xenpmu,
    [__HYPERVISOR_hvm_op] = hc_hvm_op,
};

/* And those that a PVH guest may ask. */
static const uint64_t pvh_calls =
    BIT64(__HYPERVISOR_platform_op) | BIT64(__HYPERVISOR_memory_op) |
    BIT64(__HYPERVISOR_multicall) | BIT64(__HYPERVISOR_set_timer_op) |
    BIT64(__HYPERVISOR_xen_version) | BIT64(__HYPERVISOR_console_io) |
    BIT64(__HYPERVISOR_grant_table_op) | BIT64(__HYPERVISOR_vm_assist) |
    BIT64(__HYPERVISOR_vcpu_op) | BIT64(__HYPERVISOR_sched_op) |
    BIT64(__HYPERVISOR_event_channel_op) | BIT64(__HYPERVISOR_sysctl) | BIT64(__HYPERVISOR_domctl) |
    BIT64(__HYPERVISOR_xenpmu_op) | BIT64(__HYPERVISOR_hvm_op);

static long call(struct pv_vcpu *v, uint64_t nr, const uint64_t a[6])
{
    struct pv_domain *d = v->d;
    if (nr >= ARRAY_LEN(table) || !table[nr] || (d->pvh && !(pvh_calls >> nr & 1)))
        return -XEN_ENOSYS;
    __atomic_fetch_add(&d->calls[nr], 1, __ATOMIC_RELAXED);
    return table[nr](v, a);
}

/* A result goes back with each, so that the guest knows which one failed. Calls within
 * calls would need no end. */
static long hc_multicall(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t at = a[0];
    if (v->multi)
        return -XEN_EINVAL;
    for (uint32_t i = 0; i < (uint32_t)a[1]; i++, at += sizeof(struct multicall_entry)) {
        struct multicall_entry m;
        if (!pv_spend(v))
            return -XEN_E2BIG;
        if (!pv_copy_from(v, &m, at, sizeof m))
            return -XEN_EFAULT;
        uint64_t args[6];
        if (m.op == __HYPERVISOR_iret && !v->d->pvh)
            return hc_iret(v, a); /* the last one: the guest is elsewhere then */
        memcpy(args, m.args, sizeof args);
        v->multi = 1;
        uint64_t result = (uint64_t)call(v, m.op, args);
        v->multi = 0;
        if (!pv_copy_to(v, at + offsetof(struct multicall_entry, result), &result, sizeof result))
            return -XEN_EFAULT;
    }
    return 0;
}

/* Many times what guests put into one call. */
#define WORK_MAX 131072u

bool pv_spend(struct pv_vcpu *v)
{
    return v->work && v->work--;
}

void pv_work_begin(struct pv_vcpu *v)
{
    v->work = WORK_MAX;
}

void pv_hypercall(struct pv_vcpu *v)
{
    uint64_t *gpr = v->d->eng->gprs(v->bc);
    const uint64_t a[6] = {gpr[RDI], gpr[RSI], gpr[RDX], gpr[R10], gpr[R8], gpr[9]};
    v->no_result = false;
    pv_work_begin(v);
    long rc = call(v, (uint32_t)gpr[RAX], a);
    if (!v->no_result)
        gpr[RAX] = (uint64_t)rc;
}

void pv_domain_crash(struct pv_vcpu *v, const char *why)
{
    struct pv_domain *d = v->d;
    if (d->host.log)
        d->host.log(d->host.ctx, VC_LOG_ERROR, "vCPU %u at %#llx: %s", v->id,
                    (unsigned long long)d->eng->rip(v->bc), why);
    d->host.power(d->host.ctx, VC_POWER_PANIC, SHUTDOWN_crash);
    d->eng->halt(v->bc);
}
