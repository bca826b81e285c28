/* SPDX-License-Identifier: MIT
 * A second vCPU: started, heard of by an event, gone down, and up again. */
#include "kernel.h"
#include <xen/sched.h>
#include <xen/vcpu.h>

extern char second_start[], event_entry[];
static uint32_t port;
static volatile unsigned rounds;

void second_main(void)
{
    for (;;) {
        rounds = rounds + 1;
        check(event_send(port) == 0, "an event from the second vCPU");
        HC(vcpu_op, VCPUOP_down, 1, 0, 0); /* comes back when it is up again */
    }
}

static void wait_down(void)
{
    while (HC(vcpu_op, VCPUOP_is_up, 1, 0, 0))
        HC(sched_op, SCHEDOP_yield, 0, 0, 0);
}

void smp_check(void)
{
    static char stack[8192] __attribute__((aligned(16)));
    static struct vcpu_guest_context c;
    long up = HC(vcpu_op, VCPUOP_is_up, 1, 0, 0);
    if (up == -XEN_ENOENT) {
        print("pvkernel: one vCPU\n");
        return;
    }
    check(up == 0 && HC(vcpu_op, VCPUOP_up, 1, 0, 0) == -XEN_EINVAL, "a vCPU without a state");
    port = event_bind_ipi(0);
    event_unmask(port);
    c.flags = VGCF_in_kernel;
    c.user_regs.rip = (uint64_t)second_start;
    c.user_regs.rsp = (uint64_t)stack + sizeof stack;
    c.user_regs.cs = FLAT_KERNEL_CS;
    c.user_regs.ss = FLAT_KERNEL_SS;
    c.user_regs.rflags = 0x200;
    c.kernel_ss = FLAT_KERNEL_SS;
    c.kernel_sp = c.user_regs.rsp;
    c.ctrlreg[3] = xen_pfn_to_cr3(mfn_of((void *)start_info->pt_base));
    c.event_callback_eip = (uint64_t)event_entry;
    check(HC(vcpu_op, VCPUOP_initialise, 1, &c, 0) == 0, "initialising a vCPU");
    check(HC(vcpu_op, VCPUOP_initialise, 1, &c, 0) == -XEN_EEXIST, "once");
    for (unsigned i = 1; i <= 3; i++) {
        check(HC(vcpu_op, VCPUOP_up, 1, 0, 0) == 0, "starting a vCPU");
        event_wait(port);
        check(rounds == i, "what the second vCPU did");
        wait_down();
    }
    print("pvkernel: a second vCPU\n");
}
