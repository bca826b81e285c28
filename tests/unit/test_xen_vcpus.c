/* SPDX-License-Identifier: MIT
 * vCPUs of a PVH guest that it starts and stops by hypercall. */
#include "xen_pvh_rig.h"
#include <xen/hvm/hvm_vcpu.h>

#define CODE 0x80000u
#define OUT  0x90000u
#define PML4 0x70000u

static long vcpu_op(struct rig *r, unsigned cmd, unsigned id, const void *op, size_t n)
{
    const uint64_t a[6] = {cmd, id, r->at};
    if (n)
        memcpy(r->scratch, op, n);
    return hc_vcpu_op(r->v, a);
}

static long initialise(struct rig *r, const struct vcpu_hvm_context *c)
{
    return vcpu_op(r, VCPUOP_initialise, 1, c, sizeof *c);
}

/* The first 2 MiB where they are. */
static struct vcpu_hvm_context wide(struct rig *r)
{
    const uint64_t e[] = {(PML4 + 0x1000) | 7, (PML4 + 0x2000) | 7, 0x87};
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(vc_write(r->vm, PML4 + i * 0x1000, &e[i], 8), 0);
    return (struct vcpu_hvm_context){.mode = VCPU_HVM_MODE_64B,
                                     .cpu_regs.x86_64 = {.rax = 0x1122334455667788,
                                                         .rbx = OUT,
                                                         .rsp = 0xa0000,
                                                         .rip = CODE,
                                                         .cr0 = 0x80000011,
                                                         .cr3 = PML4,
                                                         .cr4 = 0x20,
                                                         .efer = 0x500}};
}

static struct vcpu_hvm_context narrow(void)
{
    return (struct vcpu_hvm_context){.mode = VCPU_HVM_MODE_32B,
                                     .cpu_regs.x86_32 = {.eax = 0x12345678,
                                                         .eip = CODE,
                                                         .cr0 = 1,
                                                         .cs_limit = UINT32_MAX,
                                                         .ds_limit = UINT32_MAX,
                                                         .es_limit = UINT32_MAX,
                                                         .ss_limit = UINT32_MAX,
                                                         .tr_limit = 0x67,
                                                         .cs_ar = 0xc9b,
                                                         .ds_ar = 0xc93,
                                                         .es_ar = 0xc93,
                                                         .ss_ar = 0xc93,
                                                         .tr_ar = 0x8b}};
}

static unsigned run(struct rig *r, unsigned cpu)
{
    struct vc_budget b = {.size = sizeof b, .ns = 100000000};
    struct vc_exit e = {.size = sizeof e};
    cr_assert_eq(vc_run(r->vm->cpu[cpu], &b, &e), 0, "%s", vc_errmsg());
    return e.kind;
}

static uint64_t out(struct rig *r, unsigned at)
{
    uint64_t v;
    cr_assert_eq(vc_read(r->vm, OUT + at, &v, sizeof v), 0);
    return v;
}

Test(xen_vcpus, up_down_and_up)
{
    static const uint8_t code[] = {
        0x48, 0x89,
        0x03, /* mov [rbx], rax */
        0xbf, VCPUOP_down,
        0,    0,
        0, /* mov edi, VCPUOP_down */
        0xbe, 1,
        0,    0,
        0, /* mov esi, 1 */
        0xb8, __HYPERVISOR_vcpu_op,
        0,    0,
        0, /* mov eax, vcpu_op */
        0x0f, 0x01,
        0xc1, /* vmcall */
        0x48, 0x89,
        0x43, 0x08, /* mov [rbx + 8], rax */
        0xc6, 0x43,
        0x10, 0x77, /* mov byte [rbx + 16], 77h */
        0xf4,       /* hlt */
    };
    struct rig r = rig_pvh(2);
    struct vcpu_hvm_context c = wide(&r);
    const uint64_t odd = UINT64_MAX;
    cr_assert_eq(vc_write(r.vm, CODE, code, sizeof code), 0);
    cr_assert_eq(vc_write(r.vm, OUT + 8, &odd, sizeof odd), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), -XEN_EINVAL);
    cr_assert_eq(initialise(&r, &c), 0);
    cr_assert_eq(initialise(&r, &c), -XEN_EEXIST);
    cr_assert_eq(vcpu_op(&r, VCPUOP_is_up, 1, NULL, 0), 0);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET); /* nobody called it */
    cr_assert_eq(out(&r, 0), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_is_up, 1, NULL, 0), 1);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET); /* it went down */
    cr_assert_eq(out(&r, 0), 0x1122334455667788);
    cr_assert_eq(out(&r, 8), odd);
    cr_assert_eq(vcpu_op(&r, VCPUOP_is_up, 1, NULL, 0), 0);
    cr_assert_eq(r.d->vcpu[1].run.state, RUNSTATE_offline);
    cr_assert_eq(initialise(&r, &c), -XEN_EEXIST);
    mail_post(&r.vm->cpu[1]->mail, PEND_EVENT | PEND_NMI);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET);
    cr_assert_eq(out(&r, 8), odd);
    mail_clear(&r.vm->cpu[1]->mail, PEND_NMI);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), 0);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET); /* where it stopped, and then it sleeps */
    cr_assert_eq(out(&r, 8), 0);
    cr_assert_eq(out(&r, 16), 0x77);
    vc_close(r.vm);
}

Test(xen_vcpus, protected_mode)
{
    static const uint8_t code[] = {0xa3, 0, 0, 9, 0, 0xf4}; /* mov [90000h], eax; hlt */
    struct rig r = rig_pvh(2);
    struct vcpu_hvm_context c = narrow();
    cr_assert_eq(vc_write(r.vm, CODE, code, sizeof code), 0);
    cr_assert_eq(initialise(&r, &c), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), 0);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET);
    cr_assert_eq(out(&r, 0), 0x12345678);
    vc_close(r.vm);
}

/* INIT and SIPI as ever, although there was something else to start with. */
Test(xen_vcpus, init_and_sipi)
{
    static const uint8_t code[] = {0xb8, 0,    0x90, 0x8e, 0xd8, /* mov ax, 9000h; mov ds, ax */
                                   0xc6, 0x06, 0,    0,    0x55, 0xf4}; /* mov [0], 55h; hlt */
    struct rig r = rig_pvh(2);
    struct vcpu_hvm_context c = wide(&r);
    cr_assert_eq(vc_write(r.vm, CODE, code, sizeof code), 0);
    cr_assert_eq(initialise(&r, &c), 0);
    mail_post(&r.vm->cpu[1]->mail, PEND_INIT);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), -XEN_EINVAL); /* forgotten */
    atomic_store(&r.vm->cpu[1]->mail.sipi_vector, CODE >> 12);
    mail_post(&r.vm->cpu[1]->mail, PEND_SIPI);
    cr_assert_eq(run(&r, 1), VC_EXIT_BUDGET);
    cr_assert_eq(out(&r, 0), 0x55);
    cr_assert_eq(vcpu_op(&r, VCPUOP_is_up, 1, NULL, 0), 1);
    cr_assert_eq(initialise(&r, &c), -XEN_EEXIST);
    vc_close(r.vm);
}

Test(xen_vcpus, the_last_one_goes)
{
    static const uint8_t code[] = {0xf4};
    struct rig r = rig_code(2, code, sizeof code);
    cr_assert_eq(vcpu_op(&r, VCPUOP_down, 1, NULL, 0), -XEN_EINVAL); /* each its own */
    cr_assert_eq(vcpu_op(&r, VCPUOP_down, 0, NULL, 0), 0);
    cr_assert_eq(atomic_load(&r.vm->power) >> 32, VC_POWER_OFF);
    cr_assert_eq(run(&r, 0), VC_EXIT_POWER);
    vc_close(r.vm);
}

Test(xen_vcpus, refused_states)
{
    struct rig r = rig_pvh(2);
    const struct vcpu_hvm_context good = wide(&r), low = narrow();
    struct vcpu_hvm_context bad[16];
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = i < 10 ? good : low;
    bad[n++].mode = 2;
    bad[n++].cpu_regs.x86_64.cr0 = 0x11;
    bad[n++].cpu_regs.x86_64.cr0 = 0x80000010;
    bad[n++].cpu_regs.x86_64.cr0 = 0x180000011;
    bad[n++].cpu_regs.x86_64.cr4 = 0;
    bad[n++].cpu_regs.x86_64.efer = 0;
    bad[n++].cpu_regs.x86_64.efer = 0x1500;
    bad[n++].cpu_regs.x86_64.rip = 1ull << 47;
    bad[n++].cpu_regs.x86_64.rflags = 1 << 17;
    bad[n++].cpu_regs.x86_64.cr3 = 1ull << 52;
    bad[n++].cpu_regs.x86_32.cs_ar = 0xc93;
    bad[n++].cpu_regs.x86_32.ss_ar = 0xcf3;
    bad[n++].cpu_regs.x86_32.ds_ar = 0x1c93;
    bad[n++].cpu_regs.x86_32.tr_ar = 0x83;
    bad[n++].cpu_regs.x86_32.cr0 = 0;
    bad[n++].cpu_regs.x86_32.cr0 = 0x20000001;
    for (unsigned i = 0; i < n; i++)
        cr_assert_eq(initialise(&r, &bad[i]), -XEN_EINVAL, "%u", i);
    const uint64_t nowhere[6] = {VCPUOP_initialise, 1, HOLE << 12};
    cr_assert_eq(hc_vcpu_op(r.v, nowhere), -XEN_EFAULT);
    /* Bits of CR4 that this processor has not: only the engine knows. */
    struct vcpu_hvm_context odd = good;
    odd.cpu_regs.x86_64.cr4 |= 1ull << 40;
    cr_assert_eq(initialise(&r, &odd), 0);
    cr_assert_eq(vcpu_op(&r, VCPUOP_up, 1, NULL, 0), 0);
    cr_assert_eq(run(&r, 1), VC_EXIT_POWER);
    vc_close(r.vm);
}

/* Where vCPUs beyond those of shared_info have theirs, and all their runstates. */
Test(xen_vcpus, areas)
{
    struct rig r = rig_pvh(2);
    struct vcpu_register_vcpu_info info = {.mfn = 0x60, .offset = 64};
    cr_assert_eq(vcpu_op(&r, VCPUOP_register_vcpu_info, 1, &info, sizeof info), 0);
    cr_assert_eq(r.d->vcpu[1].info_mfn, 0x60);
    cr_assert_eq(vcpu_op(&r, VCPUOP_register_vcpu_info, 1, &info, sizeof info), -XEN_EINVAL);
    info.mfn = HOLE;
    cr_assert_lt(vcpu_op(&r, VCPUOP_register_vcpu_info, 0, &info, sizeof info), 0);
    info = (struct vcpu_register_vcpu_info){.mfn = 0x60, .offset = PAGE - 8};
    cr_assert_eq(vcpu_op(&r, VCPUOP_register_vcpu_info, 0, &info, sizeof info), -XEN_ENXIO);
    struct vcpu_register_runstate_memory_area run_area = {0};
    run_area.addr.v = (struct vcpu_runstate_info *)(uintptr_t)0x61ff8; /* on two pages */
    cr_assert_eq(vcpu_op(&r, VCPUOP_register_runstate_memory_area, 1, &run_area, sizeof run_area),
                 0);
    cr_assert_eq(r.d->page[0x61].types, 1);
    cr_assert_eq(r.d->page[0x62].types, 1);
    struct vcpu_runstate_info now;
    cr_assert_eq(vc_read(r.vm, 0x61ff8, &now, sizeof now), 0);
    cr_assert_eq(now.state, RUNSTATE_offline);
    run_area.addr.v = (struct vcpu_runstate_info *)(uintptr_t)(HOLE << 12);
    cr_assert_eq(vcpu_op(&r, VCPUOP_register_runstate_memory_area, 1, &run_area, sizeof run_area),
                 -XEN_EFAULT);
    cr_assert_eq(r.d->page[0x61].types, 0);
    vc_close(r.vm);
}
