/* SPDX-License-Identifier: MIT
 * A guest that suspends itself, and goes on. */
#include "xen_pvh_rig.h"
#include <xen/sched.h>

enum { RAX, RSI = 6, RDI = 7 };

static long shut_down(struct rig *r, uint32_t reason)
{
    struct sched_shutdown s = {reason};
    uint64_t *g = r->d->eng->gprs(r->v->bc);
    memcpy(r->scratch, &s, sizeof s);
    g[RAX] = __HYPERVISOR_sched_op;
    g[RDI] = SCHEDOP_shutdown;
    g[RSI] = r->at;
    pv_hypercall(r->v);
    return (long)g[RAX];
}

static struct vc_exit run(struct rig *r, unsigned cpu)
{
    struct vc_budget b = {.size = sizeof b, .ns = 20000000};
    struct vc_exit e = {.size = sizeof e};
    cr_assert_eq(vc_run(r->vm->cpu[cpu], &b, &e), 0, "%s", vc_errmsg());
    return e;
}

static void suspend_and_go_on(struct rig *r)
{
    uint64_t *rax = &r->d->eng->gprs(r->v->bc)[RAX];
    cr_assert_eq(vc_resume(r->vm), VC_ESTATE);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(shut_down(r, SHUTDOWN_suspend), 0);
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            struct vc_exit e = run(r, cpu);
            cr_assert_eq(e.kind, VC_EXIT_POWER);
            cr_assert_eq(e.u.power.kind, VC_POWER_SUSPEND);
            cr_assert_eq(e.u.power.code, SHUTDOWN_suspend);
        }
        cr_assert_eq(run(r, 0).kind, VC_EXIT_POWER); /* it stays so */
        cr_assert_eq(vc_resume(r->vm), 0, "%s", vc_errmsg());
        cr_assert_eq(*rax, 1);
        cr_assert_eq(vc_resume(r->vm), VC_ESTATE);
        cr_assert_eq(run(r, 0).kind, VC_EXIT_BUDGET);
        cr_assert_eq(run(r, 1).kind, VC_EXIT_BUDGET);
    }
    /* Going down for good counts more, whoever asks for it later. */
    cr_assert_eq(shut_down(r, SHUTDOWN_suspend), 0);
    cr_assert_eq(shut_down(r, SHUTDOWN_poweroff), 0);
    cr_assert_eq(shut_down(r, SHUTDOWN_suspend), 0);
    cr_assert_eq(run(r, 0).u.power.kind, VC_POWER_OFF);
    cr_assert_eq(vc_resume(r->vm), VC_ESTATE);
    vc_close(r->vm);
}

Test(xen_suspend, pv)
{
    struct rig r = rig_new(2);
    suspend_and_go_on(&r);
}

Test(xen_suspend, pvh)
{
    struct rig r = rig_pvh(2);
    suspend_and_go_on(&r);
}

Test(xen_suspend, not_within_other_calls)
{
    struct rig r = rig_new(1);
    uint64_t *g = r.d->eng->gprs(r.v->bc);
    struct multicall_entry *m = (struct multicall_entry *)r.scratch;
    m[0] = (struct multicall_entry){.op = __HYPERVISOR_sched_op,
                                    .args = {SCHEDOP_shutdown, r.at + 512}};
    *(uint32_t *)(r.scratch + 64) = SHUTDOWN_suspend;
    g[RAX] = __HYPERVISOR_multicall;
    g[RDI] = r.at;
    g[RSI] = 1;
    pv_hypercall(r.v);
    cr_assert_eq(g[RAX], 0);
    cr_assert_eq((long)m[0].result, -XEN_EINVAL);
    cr_assert_eq(shut_down(&r, 99), -XEN_EINVAL);
    vc_close(r.vm);
}

Test(xen_suspend, nobody_there)
{
    cr_assert_eq(vc_resume(NULL), VC_EINVAL);
    vc_vm *vm = vc_open("emu", NULL);
    cr_assert_eq(vc_resume(vm), VC_ESTATE);
    vc_close(vm);
}
