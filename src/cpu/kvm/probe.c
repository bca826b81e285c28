/* SPDX-License-Identifier: MIT
 * Whether the host's KVM can be used, and if not exactly why. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the backend cannot do without; all of it is in Linux since 5.10. */
static const struct {
    int cap;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, "KVM_CAP_DESTROY_MEMORY_REGION_WORKS"},
    {KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
};

int kvm_error(int err, const char *doing)
{
    switch (err) {
    case EMFILE:
    case ENFILE:
        return err_set(VC_ELIMIT, "%s: %s; raise the limit (ulimit -n), or close files", doing,
                       strerrordesc_np(err));
    case ENOMEM: return err_set(VC_ENOMEM, "%s: the host has no memory", doing);
    case EPERM:
    case EACCES:
        return err_set(VC_EPERM, "%s: the host's kernel refused (%s)", doing, strerrordesc_np(err));
    case EBUSY:
        return err_set(VC_EIO,
                       "%s: the processor's virtualization is in use by another hypervisor "
                       "(VirtualBox, VMware): stop its machines",
                       doing);
    case EOPNOTSUPP:
        return err_set(VC_ENOTSUP,
                       "%s: the processor's virtualization is off in the firmware or not passed "
                       "on to this machine",
                       doing);
    default: return err_set(VC_EIO, "%s: %s", doing, strerrordesc_np(err));
    }
}

static int open_device(void)
{
    int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case ENOENT:
        return err_set(VC_ENOTSUP,
                       "%s does not exist: the processor's virtualization is off or not passed on "
                       "to this machine, or the module kvm_intel or kvm_amd is not loaded",
                       KVM_DEVICE);
    case ENODEV:
    case ENXIO:
        return err_set(VC_ENOTSUP,
                       "%s has no driver behind it: load the module kvm_intel or kvm_amd; where "
                       "that fails the processor's virtualization is off or missing",
                       KVM_DEVICE);
    case EACCES:
    case EPERM:
        return err_set(VC_EPERM, "no permission to open %s: add the user to its group, kvm",
                       KVM_DEVICE);
    default: return kvm_error(errno, "opening " KVM_DEVICE);
    }
}

static int capability(int fd, int cap)
{
    return ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

static int check_needed(int fd)
{
    for (unsigned i = 0; i < ARRAY_LEN(needed); i++)
        if (capability(fd, needed[i].cap) <= 0)
            return err_set(VC_ENOTSUP,
                           "the host's KVM is too old: it lacks %s, which Linux has since 5.10",
                           needed[i].name);
    return 0;
}

static int look(struct kvm_host *h)
{
    int version = ioctl(h->fd, KVM_GET_API_VERSION, 0);
    if (version < 0) /* some other device, or a file */
        return err_set(VC_ENOTSUP, "%s is not KVM: %s", KVM_DEVICE, strerrordesc_np(errno));
    if (version != KVM_API_VERSION)
        return err_set(VC_ENOTSUP, "%s speaks API version %d instead of %d", KVM_DEVICE, version,
                       KVM_API_VERSION);
    int rc = check_needed(h->fd);
    if (rc)
        return rc;
    int size = ioctl(h->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run))
        return err_set(VC_ENOTSUP, "%s shares %d bytes with a vCPU: too few", KVM_DEVICE, size);
    int cpus = capability(h->fd, KVM_CAP_MAX_VCPUS), slots = capability(h->fd, KVM_CAP_NR_MEMSLOTS);
    h->run_size = (size_t)size;
    h->max_cpus = cpus < 1 ? 1 : (unsigned)min_u64((unsigned)cpus, KVM_CPUS_MAX);
    h->max_slots = slots < 1 ? 32 : (unsigned)slots;
    int xen = capability(h->fd, KVM_CAP_XEN_HVM);
    h->xen = xen > 0 && xen & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL;
    h->tsc_offset = capability(h->fd, KVM_CAP_VCPU_ATTRIBUTES) > 0;
    return 0;
}

int kvm_host_open(struct kvm_host *host)
{
    memset(host, 0, sizeof *host);
    host->fd = open_device();
    if (host->fd < 0)
        return vc_errcode();
    int rc = look(host);
    if (rc)
        kvm_host_close(host);
    return rc;
}

void kvm_host_close(struct kvm_host *host)
{
    if (host->fd >= 0)
        close(host->fd);
    host->fd = -1;
}

/* A machine and a vCPU, only to know that they can be had. */
static int try_machine(const struct kvm_host *host)
{
    int vm = kvm_machine(host);
    if (vm < 0)
        return vm;
    int rc = 0, cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (cpu < 0) {
        rc = kvm_error(errno, "creating a vCPU");
    } else {
        void *run = mmap(NULL, host->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
        if (run == MAP_FAILED)
            rc = kvm_error(errno, "mapping a vCPU");
        else
            munmap(run, host->run_size);
        close(cpu);
    }
    close(vm);
    return rc;
}

void kvm_probe(struct vc_probe_info *info)
{
    struct kvm_host host;
    int rc = kvm_host_open(&host);
    if (!rc) {
        rc = try_machine(&host);
        kvm_host_close(&host);
    }
    info->usable = !rc;
    info->features = rc ? 0 : KVM_FEATURES | (host.xen ? VC_FEAT_HCALL : 0);
    info->max_cpus = rc ? 0 : host.max_cpus;
    snprintf(info->reason, sizeof info->reason, "%s",
             rc ? vc_errmsg() : KVM_DEVICE " works: a machine and a vCPU could be made");
    err_begin();
}
