/* SPDX-License-Identifier: MIT
 * The kvm backend's table: the processor's own virtualization, by the host's kernel. */
#include "engine.h"

static void kvm_stats(struct backend_cpu *bc, struct vc_stats *out)
{
    size_t size = out->size;
    *out = kvm_cpu(bc)->stats;
    out->size = size;
}

const struct backend backend_kvm = {
    .name = "kvm",
    .probe = kvm_probe,
    .info = kvm_info,
    .open = kvm_open,
    .close = kvm_close,
    .map_changed = kvm_map_changed,
    .dirty_sync = kvm_dirty_sync,
    .cpu_new = kvm_cpu_new,
    .cpu_free = kvm_cpu_free,
    .run = kvm_cpu_run,
    .finish = kvm_cpu_finish,
    .reset = kvm_cpu_reset,
    .gprs = kvm_gprs,
    .sregs = kvm_sregs,
    .fpu = kvm_fpu,
    .reg = kvm_reg,
    .msr = kvm_msr,
    .translate = kvm_translate,
    .exception = kvm_exception,
    .single_step = kvm_single_step,
    .stats = kvm_stats,
    .has_chips = kvm_has_chips,
    .irq_line = kvm_irq_line,
    .irq_msi = kvm_irq_msi,
    .irq_routes = kvm_irq_routes,
    .irq_state = kvm_irq_state,
    .bind = kvm_bind,
    .batch = kvm_batch,
};
