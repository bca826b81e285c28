/* SPDX-License-Identifier: MIT
 * The kvm backend: says what the host's KVM is like. The engine on top of it is
 * not part of this version, so it is never usable. */
#include "../backend.h"
#include "../../base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"

/* One sentence on why KVM cannot be used here. */
static void kvm_reason(char *text, size_t size)
{
    int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        int version = ioctl(fd, KVM_GET_API_VERSION, 0);
        close(fd);
        if (version == KVM_API_VERSION)
            snprintf(text, size, "%s works, but libvirtcore %s has no kvm engine yet: use emu",
                     KVM_DEVICE, vc_version());
        else
            snprintf(text, size, "%s speaks API version %d instead of %d", KVM_DEVICE, version,
                     KVM_API_VERSION);
        return;
    }
    switch (errno) {
    case ENOENT:
        snprintf(text, size,
                 "%s does not exist: the processor's virtualization is off or not passed on to "
                 "this machine, or the module kvm_intel or kvm_amd is not loaded (and libvirtcore "
                 "%s has no kvm engine yet)",
                 KVM_DEVICE, vc_version());
        break;
    case EACCES:
    case EPERM:
        snprintf(text, size,
                 "no permission to open %s: add the user to its group, kvm (and libvirtcore %s "
                 "has no kvm engine yet)",
                 KVM_DEVICE, vc_version());
        break;
    default:
        snprintf(text, size, "%s cannot be opened: %s (and libvirtcore %s has no kvm engine yet)",
                 KVM_DEVICE, strerrordesc_np(errno), vc_version());
        break;
    }
}

static void kvm_probe(struct vc_probe_info *info)
{
    info->usable = 0;
    info->features = 0;
    info->max_cpus = 0;
    kvm_reason(info->reason, sizeof info->reason);
}

static int kvm_open(const struct vc_vm_opts *opts, const struct cpu_env *env,
                    struct backend_vm **out)
{
    (void)opts, (void)env, (void)out;
    struct vc_probe_info info;
    kvm_probe(&info);
    return err_set(VC_ENOTSUP, "%s", info.reason);
}

/* Nothing else is reached: open never gives a partition. */
const struct backend backend_kvm = {.name = "kvm", .probe = kvm_probe, .open = kvm_open};
