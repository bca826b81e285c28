/* SPDX-License-Identifier: MIT
 * The pv backend: a paravirtual guest ABI on top of another engine. The ABI is
 * not part of this version, so it is never usable. */
#include "../cpu/backend.h"
#include "../base/err.h"
#include <stdio.h>

static void pv_probe(struct vc_probe_info *info)
{
    info->usable = 0;
    info->features = 0;
    info->max_cpus = 0;
    snprintf(info->reason, sizeof info->reason,
             "libvirtcore %s does not have the paravirtual ABI yet: use emu", vc_version());
}

static int pv_open(const struct vc_vm_opts *opts, const struct cpu_env *env,
                   struct backend_vm **out)
{
    (void)opts, (void)env, (void)out;
    struct vc_probe_info info;
    pv_probe(&info);
    return err_set(VC_ENOTSUP, "%s", info.reason);
}

/* Nothing else is reached: open never gives a partition. */
const struct backend backend_pv = {.name = "pv", .probe = pv_probe, .open = pv_open};
