/* SPDX-License-Identifier: MIT
 * The `emu` backend: opening a partition's engine, its vCPUs, and the table. */
#include "block.h"
#include "jit/jit.h"
#include "jit/perf_map.h"
#include "lockstep/lockstep.h"
#include "pv.h"
#include "run.h"
#include "sampler.h"
#include "state.h"
#include "sys/sys.h"
#include "simd/thunk.h"
#include "tlb.h"
#include "../../base/err.h"
#include "../../base/pages.h"
#include <stdio.h>
#include <stdlib.h>

#define EMU_MAX_CPUS 64u
#define EMU_FEATURES                                                                               \
    (VC_FEAT_BUDGET_INSNS | VC_FEAT_BUDGET_NS | VC_FEAT_SMP | VC_FEAT_SINGLE_STEP |                \
     VC_FEAT_DIRTY_LOG | VC_FEAT_HCALL)

static void emu_probe(struct vc_probe_info *info)
{
    struct thunk_cache *tc = thunk_cache_new();
    info->usable = tc != NULL;
    info->features = tc ? EMU_FEATURES : 0;
    info->max_cpus = tc ? EMU_MAX_CPUS : 0;
    snprintf(info->reason, sizeof info->reason, "%s",
             tc ? "pure emulation works on every x86-64 Linux host" : vc_errmsg());
    thunk_cache_free(tc);
}

static void emu_close(struct backend_vm *bvm)
{
    struct emu_vm *vm = (struct emu_vm *)bvm;
    if (!vm)
        return;
    if (vm->env.mem && vm->env.mem->code_ctx == vm) {
        vm->env.mem->code_hit = NULL;
        vm->env.mem->code_ctx = NULL;
    }
    sampler_stop(vm->sampler);
    lockstep_close(vm);
    code_cache_free(vm->code);
    thunk_cache_free(vm->thunks);
    jit_free(vm->jit);
    perf_map_close(vm->perf_map);
    free(vm->model);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->split_lock);
    free(vm);
}

static bool wants_jit(uint32_t engine)
{
    return engine != VC_ENGINE_INTERP;
}

/* Who asked for the translator is told why it is not to be had here; who left the
 * choice gets the interpreter, and a line in the log: with the first vCPU, because the
 * engine is opened more than once. */
static int jit_open(struct emu_vm *vm, const struct vc_vm_opts *opts)
{
    if (vm->model->host[F_LAHF / 32] & BIT(F_LAHF % 32)) /* its way of keeping flags */
        vm->jit = jit_new(model_has(vm->model, F_AVX), opts->flags & VC_OPT_PERF_MAP);
    else
        err_set(VC_ENOTSUP, "the host's CPU has no LAHF in 64-bit mode");
    if (vm->jit)
        return 0;
    snprintf(vm->no_jit, sizeof vm->no_jit, "%s", vc_errmsg());
    err_begin();
    if (opts->engine != VC_ENGINE_AUTO)
        return err_set(VC_ENOTSUP, "the translator cannot run here: %s; use the interpreter",
                       vm->no_jit);
    return 0;
}

/* What only looks on. */
static int open_watchers(struct emu_vm *vm, const struct vc_vm_opts *opts)
{
    int rc = 0;
    if (opts->flags & VC_OPT_SAMPLE)
        rc = sampler_start(vm, &vm->sampler);
    if (!rc && vm->jit && opts->flags & VC_OPT_PERF_MAP)
        rc = perf_map_open(opts->perf_symbols, &vm->perf_map);
    if (rc == VC_EIO) { /* a profile without names */
        if (vm->env.log)
            vm->env.log(vm->env.ctx, VC_LOG_WARN, "%s", vc_errmsg());
        err_begin();
        rc = 0;
    }
    return rc;
}

static int emu_open(const struct vc_vm_opts *opts, const struct cpu_env *env,
                    struct backend_vm **out)
{
    struct emu_vm *vm = calloc(1, sizeof *vm);
    struct cpu_model *model = malloc(sizeof *model);
    if (!vm || !model) {
        free(vm);
        free(model);
        return err_set(VC_ENOMEM, "no host memory for a partition; close other programs");
    }
    if (cpu_model_find(opts->cpu_model ? opts->cpu_model : "host", model)) {
        free(vm);
        free(model);
        return vc_errcode();
    }
    vm->env = *env;
    vm->model = model;
    vm->max_cpus = EMU_MAX_CPUS;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->split_lock, NULL);
    vm->code = code_cache_new(vm);
    vm->thunks = vm->code ? thunk_cache_new() : NULL;
    if (!vm->thunks) {
        emu_close((struct backend_vm *)vm);
        return vc_errcode();
    }
    if (wants_jit(opts->engine) && jit_open(vm, opts)) {
        emu_close((struct backend_vm *)vm);
        return vc_errcode();
    }
    if (opts->engine == VC_ENGINE_LOCKSTEP) {
        int rc = lockstep_open(vm, opts);
        if (rc) {
            emu_close((struct backend_vm *)vm);
            return rc;
        }
    }
    if (open_watchers(vm, opts)) {
        emu_close((struct backend_vm *)vm);
        return vc_errcode();
    }
    env->mem->code_ctx = vm;
    env->mem->code_hit = code_hit;
    *out = (struct backend_vm *)vm;
    return 0;
}

/* Translations are dropped by each vCPU itself, at its next block; blocks at
 * once. VM paused, or a trap that takes effect soon. */
static int emu_map_changed(struct backend_vm *bvm)
{
    struct emu_vm *vm = (struct emu_vm *)bvm;
    if (vm->lockstep)
        lockstep_map_changed(vm);
    code_drop_all(vm->code);
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < EMU_MAX_CPUS; i++)
        if (vm->cpu[i])
            mail_post(vm->cpu[i]->mail, PEND_FLUSH);
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

static void emu_cpu_free(struct backend_cpu *bc)
{
    struct emu *c = (struct emu *)bc;
    if (!c)
        return;
    if (c->vm->cpu[c->index] == c) {
        pthread_mutex_lock(&c->vm->lock);
        code_cpu_gone(c);
        pthread_mutex_unlock(&c->vm->lock);
    }
    mem_hold_del(c->env->mem, &c->hold);
    if (c->mail)
        atomic_store(&c->mail->doorbell, NULL);
    lockstep_detach(c);
    tlb_free(c);
    free(c->trans);
    pages_free(c->jcache, sizeof *c->jcache);
    free(c->decoded);
    free(c->unit);
    free(c->steps);
    free(c->slot_logs);
    pages_free(c, c->bytes);
}

/* The vCPU and what translated code needs. */
static int jit_parts(struct emu *c)
{
    if (!c->vm->jit)
        return 0;
    c->trans = trans_new();
    c->unit = calloc(1, sizeof *c->unit + 2 * sizeof(struct op));
    c->slot_logs = calloc(1, sizeof *c->slot_logs);
    return c->trans && c->unit && c->slot_logs ? 0 : VC_ENOMEM;
}

static int emu_cpu_new(struct backend_vm *bvm, vc_cpu *handle, unsigned index,
                       struct cpu_mail *mail, struct backend_cpu **out)
{
    struct emu_vm *vm = (struct emu_vm *)bvm;
    size_t size = vm->jit ? JIT_SLOT_OFF(JIT_SLOTS, start) : sizeof(struct emu);
    struct emu *c = pages_new(size);

    if (!c)
        return err_set(VC_ENOMEM, "no host memory for a vCPU; close other programs");
    c->bytes = size;
    c->vm = vm;
    c->env = &vm->env;
    c->handle = handle;
    c->index = index;
    c->mail = mail;
    c->walk.phys_bits = vm->model->phys_bits;
    c->walk.gbpages = model_has(vm->model, F_PDPE1GB);
    c->jcache = pages_new(sizeof *c->jcache);
    c->decoded = calloc(1, sizeof *c->decoded);
    c->steps = calloc(ZYDIS_MNEMONIC_MAX_VALUE + 1, sizeof *c->steps);
    if (!c->jcache || !c->decoded || !c->steps || jit_parts(c) || tlb_new(c)) {
        emu_cpu_free((struct backend_cpu *)c);
        return err_set(VC_ENOMEM, "no host memory for a vCPU; close other programs");
    }
    atomic_store(&c->jcache->seen, UINT64_MAX);
    mem_hold_add(vm->env.mem, &c->hold);
    c->self = c;
    doing(c, DOING_OUTSIDE);
    if (vm->lockstep && lockstep_attach(c)) {
        emu_cpu_free((struct backend_cpu *)c);
        return vc_errcode();
    }
    atomic_store(&mail->doorbell, &c->icount_check);
    emu_reset(c, false);
    if (handle && index == 0 && *vm->no_jit && vm->env.log)
        vm->env.log(vm->env.ctx, VC_LOG_WARN, "code is interpreted, not translated: %s",
                    vm->no_jit);
    pthread_mutex_lock(&vm->lock);
    vm->cpu[index] = c;
    if (vm->ncpu <= index)
        vm->ncpu = index + 1;
    pthread_mutex_unlock(&vm->lock);
    *out = (struct backend_cpu *)c;
    return 0;
}

static int emu_be_run(struct backend_cpu *bc, const struct vc_budget *budget, struct vc_exit *exit)
{
    return emu_run((struct emu *)bc, budget, exit);
}

static int emu_be_finish(struct backend_cpu *bc, struct vc_exit *exit)
{
    return emu_finish((struct emu *)bc, exit);
}

static int emu_be_reset(struct backend_cpu *bc, bool wait_sipi)
{
    struct emu *c = (struct emu *)bc;
    emu_reset(c, false);
    c->wait_sipi = wait_sipi;
    c->halted = 0;
    emu_replay_forget(c);
    emu_flush_all(c);
    emu_mode_changed(c);
    return 0;
}

/* The most frequent ones of c->steps, sorted. */
static void stats_steps(const struct emu *c, struct vc_stats *out)
{
    unsigned n = 0;
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
        uint64_t count = c->steps[m];
        unsigned at = n;
        if (!count || (n == ARRAY_LEN(out->steps) && count <= out->steps[n - 1].count))
            continue;
        while (at && out->steps[at - 1].count < count)
            at--;
        n += n < ARRAY_LEN(out->steps);
        memmove(&out->steps[at + 1], &out->steps[at], (n - at - 1) * sizeof *out->steps);
        const char *name = ZydisMnemonicGetString((ZydisMnemonic)m);
        snprintf(out->steps[at].name, sizeof out->steps[at].name, "%s", name ? name : "?");
        out->steps[at].count = count;
    }
}

static void emu_be_stats(struct backend_cpu *bc, struct vc_stats *out)
{
    const struct emu *c = (const struct emu *)bc;
    size_t size = out->size;
    *out = c->stats;
    out->size = size;
    stats_steps(c, out);
    for (unsigned i = 0; i < VC_DOING_COUNT; i++)
        out->samples[i] = atomic_load_explicit(&c->samples[i], memory_order_relaxed);
}

const struct backend backend_emu = {
    .name = "emu",
    .probe = emu_probe,
    .open = emu_open,
    .close = emu_close,
    .map_changed = emu_map_changed,
    .cpu_new = emu_cpu_new,
    .cpu_free = emu_cpu_free,
    .run = emu_be_run,
    .finish = emu_be_finish,
    .reset = emu_be_reset,
    .gprs = state_gprs,
    .sregs = state_sregs,
    .fpu = state_fpu,
    .reg = state_reg,
    .msr = state_msr,
    .translate = state_translate,
    .exception = state_exception,
    .single_step = state_single_step,
    .stats = emu_be_stats,
};
