/* SPDX-License-Identifier: MIT
 * A partition's virtual machine: opening and closing. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Where Intel processors that cannot run real mode by themselves have three pages for
 * their own use: where PCs have their firmware. */
#define TSS_BASE      0xfffbd000ull
#define IDENTITY_BASE 0xfffbc000ull

int kvm_machine(const struct kvm_host *host)
{
    int fd;
    do
        fd = ioctl(host->fd, KVM_CREATE_VM, 0);
    while (fd < 0 && errno == EINTR);
    return fd >= 0 ? fd : kvm_error(errno, "creating a virtual machine");
}

/* Whether the processor needs those pages; an AMD one never does. */
static bool needs_tss(void)
{
    char c = 'N';
    int fd = open("/sys/module/kvm_intel/parameters/unrestricted_guest", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (read(fd, &c, 1) != 1)
        c = 'N';
    close(fd);
    return c != 'Y' && c != '1';
}

static int enable(struct kvm_vm *vm, uint32_t cap, uint64_t arg)
{
    struct kvm_enable_cap e = {.cap = cap, .args = {arg}};
    return ioctl(vm->fd, KVM_ENABLE_CAP, &e);
}

static int set_up(struct kvm_vm *vm)
{
    uint64_t identity = IDENTITY_BASE;
    if (needs_tss() && (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
                        ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_BASE)))
        return kvm_error(errno, "giving the processor pages of its own");
    if (enable(vm, KVM_CAP_X86_USER_SPACE_MSR,
               KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
                   KVM_MSR_EXIT_REASON_FILTER))
        return kvm_error(errno, "asking for model-specific registers");
    /* Newer kernels leave what they cannot emulate to us at every privilege. */
    if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0)
        enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
    struct kvm_xen_hvm_config xen = {.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL};
    if (vm->host.xen && ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &xen))
        vm->host.xen = false;
    int rc = kvm_chips_make(vm);
    return rc ? rc : kvm_msr_filter(vm);
}

int kvm_open(const struct vc_vm_opts *opts, const struct cpu_env *env, struct backend_vm **out)
{
    struct kvm_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return err_set(VC_ENOMEM, "no host memory for a partition; close other programs");
    vm->fd = vm->host.fd = -1;
    vm->env = *env;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->batch_lock, NULL);
    int rc = cpu_model_find(opts->cpu_model ? opts->cpu_model : "host", &vm->model);
    if (!rc && opts->engine != VC_ENGINE_AUTO)
        rc = err_set(VC_ENOTSUP, "engine %u is one of emu's: kvm has the processor's own",
                     opts->engine);
    if (!rc)
        rc = kvm_host_open(&vm->host);
    if (!rc)
        rc = kvm_signal_install();
    if (!rc)
        rc = kvm_cpuid_load(vm);
    if (!rc)
        rc = kvm_cpuid_check(vm);
    if (!rc && (vm->fd = kvm_machine(&vm->host)) < 0)
        rc = vm->fd;
    if (!rc && !(opts->flags & VC_OPT_DIRTY_BITMAP))
        kvm_dirty_begin(vm);
    if (!rc)
        rc = set_up(vm);
    if (!rc) {
        vm->nslots = vm->host.max_slots;
        vm->slot = calloc(vm->nslots, sizeof *vm->slot);
        if (!vm->slot)
            rc = err_set(VC_ENOMEM, "no host memory for %u memory slots", vm->nslots);
    }
    if (!rc)
        rc = kvm_map_changed((struct backend_vm *)vm);
    if (rc)
        kvm_close((struct backend_vm *)vm);
    else
        *out = (struct backend_vm *)vm;
    return rc;
}

void kvm_close(struct backend_vm *bvm)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    if (!vm)
        return;
    for (unsigned i = 0; i < KVM_CPUS_MAX; i++)
        if (vm->cpu[i])
            kvm_cpu_end(vm->cpu[i]);
    if (vm->emu)
        backend_emu.close(vm->emu);
    if (vm->fd >= 0)
        close(vm->fd);
    kvm_host_close(&vm->host);
    free(vm->slot);
    free(vm->cpuid);
    pthread_mutex_destroy(&vm->batch_lock);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

void kvm_info(struct backend_vm *bvm, struct vc_probe_info *info)
{
    const struct kvm_vm *vm = kvm_vm(bvm);
    info->usable = 1;
    info->features = KVM_FEATURES | (vm->host.xen ? VC_FEAT_HCALL : 0);
    info->max_cpus = vm->host.max_cpus;
    snprintf(info->reason, sizeof info->reason, "%s works", KVM_DEVICE);
}
