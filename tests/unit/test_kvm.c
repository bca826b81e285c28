/* SPDX-License-Identifier: MIT
 * The kvm backend where there is no KVM: what it says, and that nothing else takes its
 * place unasked. Tests on a real /dev/kvm are tests/kvm-lab's. */
#include "api.h"
#include "cpu/env.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* From here on every open() of this process fails so. */
static bool opens_fail(int error)
{
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof *code,
                              .filter = (struct sock_filter *)(uintptr_t)code};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

struct reason {
    int error, code;
    const char *says;
};

/* 0: all as it should be. */
static int look(const struct reason *r)
{
    struct vc_probe_info info = {.size = sizeof info};
    if (!opens_fail(r->error))
        return 77;
    if (vc_probe("kvm", &info) || info.usable || info.features || info.max_cpus)
        return 1;
    if (!strstr(info.reason, r->says))
        return 2;
    if (vc_open("kvm", NULL) || vc_errcode() != r->code || !strstr(vc_errmsg(), r->says))
        return 3;
    vc_vm *vm = vc_open("auto", NULL);
    struct vc_vm_info vi = {.size = sizeof vi};
    if (!vm || vc_info(vm, &vi) || strcmp(vi.backend, "emu") != 0)
        return 4;
    if (!strstr(vi.why, "not ") || !strstr(vi.why, "/dev/kvm"))
        return 5;
    return vc_close(vm) ? 6 : 0;
}

Test(kvm, each_reason_has_its_code_and_sentence)
{
    static const struct reason reasons[] = {
        {ENOENT, VC_ENOTSUP, "does not exist"}, {ENODEV, VC_ENOTSUP, "no driver"},
        {EACCES, VC_EPERM, "group, kvm"},       {EMFILE, VC_ELIMIT, "ulimit -n"},
        {EBUSY, VC_EIO, "another hypervisor"},
    };
    for (unsigned i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(look(&reasons[i]));
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
            return; /* the host has no seccomp filters */
        cr_assert_eq(WEXITSTATUS(status), 0, "%s: %d", reasons[i].says, WEXITSTATUS(status));
    }
}

Test(kvm, controllers_in_the_kernel_are_not_emus)
{
    vc_vm *vm = vc_open("emu", NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 1 << 20, .cpus = 1, .irqchip = 4};
    fails(vc_pc(vm, &pc), VC_EINVAL);
    pc.irqchip = VC_IRQCHIP_KERNEL;
    fails(vc_pc(vm, &pc), VC_ENOTSUP);
    pc.irqchip = VC_IRQCHIP_SPLIT;
    fails(vc_pc(vm, &pc), VC_ENOTSUP);
    pc.irqchip = VC_IRQCHIP_USER; /* and it is as if nothing had been */
    works(vc_pc(vm, &pc));
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_RESET, 0), "%s", vc_errmsg());
    works(vc_close(vm));
}

/* ---- a thread inside the kernel, as mail.c sees it ------------------------------------- */

static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
    (void)signal;
    signals++;
}

Test(kvm, a_post_signals_who_is_inside_and_nobody_else)
{
    _Atomic uint8_t stop = 0;
    struct cpu_mail m = {.inject = -1};
    signal(MAIL_SIGNAL, count_signal);
    mail_post(&m, PEND_KICK); /* an engine without this */
    atomic_store(&m.stop, &stop);
    mail_post(&m, PEND_KICK);
    cr_assert_eq(signals, 0);
    cr_assert_eq(stop, 0);
    int32_t tid = (int32_t)syscall(SYS_gettid);
    mail_inside(&m, tid);
    mail_post(&m, PEND_KICK);
    cr_assert_eq(stop, 1);
    cr_assert_eq(signals, 1);
    mail_post(&m, PEND_NMI); /* it has been told */
    cr_assert_eq(signals, 1);
    mail_inside(&m, tid);
    cr_assert_eq(stop, 0);
    mail_post(&m, PEND_IRQ);
    cr_assert_eq(signals, 2);
    mail_outside(&m);
    mail_post(&m, PEND_IRQ);
    cr_assert_eq(signals, 2);
}
