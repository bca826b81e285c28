/* SPDX-License-Identifier: MIT
 * Why a host's KVM cannot be used, against one that is told what to lack: its answers to
 * the library's system calls are made here. */
#include "api.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define RUN_SIZE 12288

/* What it is like; 0: nothing is wrong. */
static struct kvm_like {
    int version, run_size; /* what it says instead */
    int lacks;             /* a capability that it has not */
    bool lacks_one;
    int vm_error, cpu_error, cpuid_error; /* errno */
    bool unmappable;                      /* its vCPUs share no memory */
} like;
static bool fake;

/* ---- /dev/kvm ----------------------------------------------------------------------------- */

static int null_file(void)
{
    return (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
}

static int vcpu_file(void)
{
    int fd = like.unmappable ? null_file() : memfd_create("vcpu", MFD_CLOEXEC);
    if (!like.unmappable && ftruncate(fd, RUN_SIZE))
        return -1;
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    if (fake && !strcmp(path, "/dev/kvm"))
        return null_file();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int failing(int error)
{
    errno = error;
    return -1;
}

static int answer(unsigned long request, void *arg)
{
    switch (request) {
    case KVM_GET_API_VERSION: return like.version ? like.version : KVM_API_VERSION;
    case KVM_GET_VCPU_MMAP_SIZE: return like.run_size ? like.run_size : RUN_SIZE;
    case KVM_CHECK_EXTENSION:
        if (like.lacks_one && (long)(intptr_t)arg == like.lacks)
            return 0;
        switch ((long)(intptr_t)arg) {
        case KVM_CAP_NR_MEMSLOTS: return 64;
        case KVM_CAP_MAX_VCPUS: return 8;
        case KVM_CAP_DIRTY_LOG_RING:
        case KVM_CAP_XEN_HVM:
        case KVM_CAP_VCPU_ATTRIBUTES: return 0;
        default: return 1;
        }
    case KVM_CREATE_VM: return like.vm_error ? failing(like.vm_error) : null_file();
    case KVM_CREATE_VCPU: return like.cpu_error ? failing(like.cpu_error) : vcpu_file();
    case KVM_GET_SUPPORTED_CPUID:
        if (like.cpuid_error)
            return failing(like.cpuid_error);
        ((struct kvm_cpuid2 *)arg)->nent = 0;
        return 0;
    default: return 0;
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (fake && _IOC_TYPE(request) == KVMIO)
        return answer(request, arg);
    return (int)syscall(SYS_ioctl, fd, request, arg);
}

/* ---- what is said -----------------------------------------------------------------------------
 */

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    cr_assert_not_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* The probe says so, kvm is refused so, auto takes emu and says it too; no file stays. */
static void refused_with(struct kvm_like k, int code, const char *says)
{
    struct vc_probe_info info = {.size = sizeof info};
    struct vc_vm_info vi = {.size = sizeof vi};
    unsigned before = open_files();
    like = k;
    fake = true;
    works(vc_probe("kvm", &info));
    cr_assert(!info.usable && !info.features && !info.max_cpus, "%s: usable", says);
    cr_assert(strstr(info.reason, says), "%s, not %s", info.reason, says);
    refused(vc_open("kvm", NULL), code);
    cr_assert(strstr(vc_errmsg(), says), "%s, not %s", vc_errmsg(), says);
    vc_vm *vm = vc_open("auto", NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    works(vc_info(vm, &vi));
    cr_assert_eq(strcmp(vi.backend, "emu"), 0, "%s", vi.backend);
    cr_assert(strstr(vi.why, "not kvm: ") && strstr(vi.why, says), "%s, not %s", vi.why, says);
    works(vc_close(vm));
    fake = false;
    cr_assert_eq(open_files(), before, "%s: files stay open", says);
}

/* And with nothing wrong it is usable: the tests below fail for their own reason. */
Test(kvm_probe, nothing_is_wrong)
{
    struct vc_probe_info info = {.size = sizeof info};
    like = (struct kvm_like){0};
    fake = true;
    works(vc_probe("kvm", &info));
    fake = false;
    cr_assert(info.usable, "%s", info.reason);
    cr_assert_eq(info.max_cpus, 8);
    cr_assert(info.features & VC_FEAT_HW);
}

#define NEEDED(X)                                                                                  \
    X(KVM_CAP_USER_MEMORY)                                                                         \
    X(KVM_CAP_EXT_CPUID)                                                                           \
    X(KVM_CAP_DESTROY_MEMORY_REGION_WORKS)                                                         \
    X(KVM_CAP_USER_NMI)                                                                            \
    X(KVM_CAP_MP_STATE)                                                                            \
    X(KVM_CAP_VCPU_EVENTS)                                                                         \
    X(KVM_CAP_DEBUGREGS)                                                                           \
    X(KVM_CAP_XSAVE)                                                                               \
    X(KVM_CAP_XCRS)                                                                                \
    X(KVM_CAP_SYNC_REGS)                                                                           \
    X(KVM_CAP_READONLY_MEM)                                                                        \
    X(KVM_CAP_IMMEDIATE_EXIT)                                                                      \
    X(KVM_CAP_X86_USER_SPACE_MSR)                                                                  \
    X(KVM_CAP_X86_MSR_FILTER)

Test(kvm_probe, too_old_by_the_name_of_what_it_lacks)
{
#define ENTRY(cap) {cap, #cap ", which Linux has since 5.10"},
    static const struct {
        int cap;
        const char *says;
    } needed[] = {NEEDED(ENTRY)};
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
        refused_with((struct kvm_like){.lacks = needed[i].cap, .lacks_one = true}, VC_ENOTSUP,
                     needed[i].says);
}

Test(kvm_probe, another_interface)
{
    refused_with((struct kvm_like){.version = 13}, VC_ENOTSUP, "version 13 instead of 12");
    refused_with((struct kvm_like){.version = -1}, VC_ENOTSUP, "is not KVM");
    refused_with((struct kvm_like){.run_size = 512}, VC_ENOTSUP, "512 bytes");
}

Test(kvm_probe, no_machine)
{
    static const struct {
        int error, code;
        const char *says;
    } why[] = {
        {EOPNOTSUPP, VC_ENOTSUP, "off in the firmware or not passed on"},
        {EBUSY, VC_EIO, "in use by another hypervisor"},
        {EMFILE, VC_ELIMIT, "ulimit -n"},
        {ENOMEM, VC_ENOMEM, "no memory"},
        {EPERM, VC_EPERM, "refused"},
        {EIO, VC_EIO, "Input/output error"},
    };
    for (unsigned i = 0; i < sizeof why / sizeof *why; i++) {
        refused_with((struct kvm_like){.vm_error = why[i].error}, why[i].code, why[i].says);
        refused_with((struct kvm_like){.cpu_error = why[i].error}, why[i].code, why[i].says);
    }
    refused_with((struct kvm_like){.vm_error = EIO}, VC_EIO, "creating a virtual machine");
    refused_with((struct kvm_like){.cpu_error = EIO}, VC_EIO, "creating a vCPU");
    refused_with((struct kvm_like){.unmappable = true}, VC_EIO, "mapping a vCPU");
}

/* ---- models of the processor
 * --------------------------------------------------------------------- */

Test(kvm_probe, models_that_kvm_cannot_give)
{
    const struct vc_vm_opts v2 = {.size = sizeof v2, .cpu_model = "x86-64-v2"},
                            none = {.size = sizeof none, .cpu_model = "i4004"};
    struct vc_vm_info vi = {.size = sizeof vi};
    like = (struct kvm_like){0};
    fake = true; /* its CPUID is empty */
    refused(vc_open("kvm", &none), VC_ENOENT);
    vc_vm *vm = vc_open("emu", &v2);
    if (vm) { /* else the processor of these tests is older */
        works(vc_close(vm));
        refused(vc_open("kvm", &v2), VC_ENOTSUP);
        cr_assert(strstr(vc_errmsg(), "'x86-64-v2' has SSE3, which the host's KVM cannot"), "%s",
                  vc_errmsg());
        vm = vc_open("auto", &v2);
        cr_assert_not_null(vm, "%s", vc_errmsg());
        works(vc_info(vm, &vi));
        cr_assert_eq(strcmp(vi.backend, "emu"), 0, "%s", vi.backend);
        cr_assert(strstr(vi.why, "SSE3"), "%s", vi.why);
        works(vc_close(vm));
    }
    fake = false;
}
