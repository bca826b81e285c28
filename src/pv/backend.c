/* SPDX-License-Identifier: MIT
 * The pv backend: a paravirtual guest ABI on another backend's engine, to which it
 * passes everything on. The ABI attaches itself when a paravirtual kernel is loaded;
 * until then a partition is like one of the engine's own. */
#include "../cpu/backend.h"
#include "../base/err.h"
#include <stdio.h>

static const struct backend *const engine = &backend_emu;

static void probe(struct vc_probe_info *info)
{
    engine->probe(info);
    if (info->usable)
        snprintf(info->reason, sizeof info->reason,
                 "paravirtual guests run on the %s engine, which works on every x86-64 Linux host",
                 engine->name);
}

static int open_vm(const struct vc_vm_opts *opts, const struct cpu_env *env,
                   struct backend_vm **out)
{
    return engine->open(opts, env, out);
}

static void close_vm(struct backend_vm *bvm)
{
    engine->close(bvm);
}

static int map_changed(struct backend_vm *bvm)
{
    return engine->map_changed(bvm);
}

static int cpu_new(struct backend_vm *bvm, vc_cpu *handle, unsigned index, struct cpu_mail *mail,
                   struct backend_cpu **out)
{
    return engine->cpu_new(bvm, handle, index, mail, out);
}

static void cpu_free(struct backend_cpu *cpu)
{
    engine->cpu_free(cpu);
}

static int run(struct backend_cpu *cpu, const struct vc_budget *budget, struct vc_exit *exit)
{
    return engine->run(cpu, budget, exit);
}

static int finish(struct backend_cpu *cpu, struct vc_exit *exit)
{
    return engine->finish(cpu, exit);
}

static int reset(struct backend_cpu *cpu, bool wait_sipi)
{
    return engine->reset(cpu, wait_sipi);
}

static int gprs(struct backend_cpu *cpu, bool set, struct vc_gprs *r)
{
    return engine->gprs(cpu, set, r);
}

static int sregs(struct backend_cpu *cpu, bool set, struct vc_sregs *r)
{
    return engine->sregs(cpu, set, r);
}

static int fpu(struct backend_cpu *cpu, bool set, struct vc_fpu *r)
{
    return engine->fpu(cpu, set, r);
}

static int reg(struct backend_cpu *cpu, bool set, enum vc_reg index, uint64_t *value)
{
    return engine->reg(cpu, set, index, value);
}

static int msr(struct backend_cpu *cpu, bool set, uint32_t index, uint64_t *value)
{
    return engine->msr(cpu, set, index, value);
}

static int translate(struct backend_cpu *cpu, uint64_t linear, uint32_t access, uint64_t *gpa)
{
    return engine->translate(cpu, linear, access, gpa);
}

static int exception(struct backend_cpu *cpu, uint8_t vector, uint32_t err, uint64_t cr2)
{
    return engine->exception(cpu, vector, err, cr2);
}

static int single_step(struct backend_cpu *cpu, bool on)
{
    return engine->single_step(cpu, on);
}

static void stats(struct backend_cpu *cpu, struct vc_stats *out)
{
    engine->stats(cpu, out);
}

const struct backend backend_pv = {
    .name = "pv",
    .probe = probe,
    .open = open_vm,
    .close = close_vm,
    .map_changed = map_changed,
    .cpu_new = cpu_new,
    .cpu_free = cpu_free,
    .run = run,
    .finish = finish,
    .reset = reset,
    .gprs = gprs,
    .sregs = sregs,
    .fpu = fpu,
    .reg = reg,
    .msr = msr,
    .translate = translate,
    .exception = exception,
    .single_step = single_step,
    .stats = stats,
    .pv = &emu_pv,
};

/* ---- pv:kvm ------------------------------------------------------------------------- */

static void kvm_probe(struct vc_probe_info *info)
{
    info->usable = 0;
    info->features = 0;
    info->max_cpus = 0;
    snprintf(info->reason, sizeof info->reason,
             "a paravirtual guest runs its kernel at privilege level 3, which KVM gives a guest "
             "only under a hypervisor of its own: use pv:emu");
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
const struct backend backend_pv_kvm = {.name = "pv:kvm", .probe = kvm_probe, .open = kvm_open};
