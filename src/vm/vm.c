/* SPDX-License-Identifier: MIT
 * Partitions: probing, opening, closing, and what they say of themselves. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../base/tsc.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MEM_QUOTA_DEFAULT (64ull << 30)

/* ---- probing -------------------------------------------------------------- */

const char *vc_backend_name(unsigned index)
{
    for (unsigned i = 0; backends[i]; i++) {
        if (i == index)
            return backends[i]->name;
    }
    return NULL;
}

static int unknown_backend(const char *name)
{
    return err_set(VC_ENOENT, "there is no backend \"%.32s\": auto, kvm, emu and pv are known",
                   name);
}

int vc_probe(const char *backend, struct vc_probe_info *info)
{
    if (!backend || !info)
        return err_null(backend ? "info" : "backend");
    err_begin();
    int rc = args_size(info, "probe_info");
    if (rc)
        return rc;
    const struct backend *be = backend_find(backend);
    if (!be)
        return unknown_backend(backend);
    struct vc_probe_info full = {.size = sizeof full};
    be->probe(&full);
    return args_out(info, &full, sizeof full, "probe_info");
}

/* ---- opening -------------------------------------------------------------- */

void vm_log(void *ctx, int level, const char *fmt, ...)
{
    struct vc_vm *vm = ctx;
    if (!vm->opts.log || level > vm->opts.log_level)
        return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&vm->log_lock);
    vm->opts.log(vm->opts.log_ud, level, line);
    pthread_mutex_unlock(&vm->log_lock);
}

int vm_map_changed(struct vc_vm *vm)
{
    return vm->bvm && vm->be->map_changed ? vm->be->map_changed(vm->bvm) : 0;
}

static void engine_close(struct vc_vm *vm)
{
    if (vm->bvm)
        vm->be->close(vm->bvm);
    vm->bvm = NULL;
}

int vm_reopen(struct vc_vm *vm)
{
    engine_close(vm);
    int rc = vm->be->open(&vm->opts, &vm->env, &vm->bvm);
    if (!rc) {
        vm_bind_reopened(vm);
        vm_traps_reopened(vm);
    }
    return rc;
}

/* Opens a backend and makes a vCPU, only to know that it can. */
static int engine_try(struct vc_vm *vm, const struct backend *be)
{
    struct vc_probe_info info = {.size = sizeof info};
    vm->be = be;
    if (!be->info) {
        be->probe(&info);
        if (!info.usable)
            return err_set(VC_ENOTSUP, "%s: %s", be->name, info.reason);
    }
    int rc = vm_reopen(vm);
    if (rc)
        return rc;
    if (be->info)
        be->info(vm->bvm, &info);
    if (vm->opts.max_cpus > info.max_cpus) {
        engine_close(vm);
        return err_set(VC_ELIMIT, "%s can give a partition %u vCPUs, not %u", be->name,
                       info.max_cpus, vm->opts.max_cpus);
    }
    vm->features = info.features;
    vm->max_cpus = vm->opts.max_cpus ? vm->opts.max_cpus : info.max_cpus;
    if (vm->max_cpus > VM_CPUS_MAX)
        vm->max_cpus = VM_CPUS_MAX;

    struct cpu_mail mail = {.inject = -1};
    struct backend_cpu *trial = NULL;
    rc = be->cpu_new(vm->bvm, NULL, 0, &mail, &trial);
    if (rc) {
        engine_close(vm);
        return rc;
    }
    be->cpu_free(trial);
    snprintf(vm->why, sizeof vm->why, "%s: %s", be->name, info.reason);
    return 0;
}

static int engine_auto(struct vc_vm *vm)
{
    char passed[256] = "";
    int rc = VC_ENOTSUP;
    for (unsigned i = 0; backends[i]; i++) {
        err_begin();
        rc = engine_try(vm, backends[i]);
        if (!rc) {
            size_t n = strlen(vm->why);
            snprintf(vm->why + n, sizeof vm->why - n, "%s%s", *passed ? "; not " : "", passed);
            return 0;
        }
        /* A wrong argument is wrong for every backend. */
        if (rc == VC_EINVAL || rc == VC_ENOENT)
            return rc;
        if (!*passed)
            snprintf(passed, sizeof passed, "%s: %s", backends[i]->name, vc_errmsg());
    }
    return rc;
}

static int vm_init(struct vc_vm *vm)
{
    vm->env = (struct cpu_env){
        .ctx = vm,
        .mem = &vm->mem,
        .tsc_hz = host_tsc_hz(),
        .access = vm_access,
        .hcall = vm_hcall,
        .has_hcall = vm_has_hcall,
        .log = vm_log,
    };
    pthread_rwlock_init(&vm->gate, NULL);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->log_lock, NULL);
    pthread_mutex_init(&vm->bind_lock, NULL);
    pthread_cond_init(&vm->hcall_idle, NULL);
    vm->bus = bus_new();
    return vm->bus ? 0 : err_set(VC_ENOMEM, "no memory for a partition's buses");
}

static void vm_fini(struct vc_vm *vm)
{
    engine_close(vm);
    vm_xs_free(vm);
    if (vm->bus)
        bus_free(vm->bus);
    mem_fini(&vm->mem);
    pool_leave(vm->mem.pool);
    hcalls_free(vm);
    pthread_cond_destroy(&vm->hcall_idle);
    pthread_mutex_destroy(&vm->bind_lock);
    pthread_mutex_destroy(&vm->log_lock);
    pthread_mutex_destroy(&vm->lock);
    pthread_rwlock_destroy(&vm->gate);
    free(vm);
}

vc_vm *vc_open(const char *backend, const struct vc_vm_opts *opts)
{
    if (!backend) {
        err_null("backend");
        return NULL;
    }
    err_begin();
    struct vc_vm_opts o = {.size = sizeof o, .log_level = VC_LOG_INFO};
    if (opts && args_in(&o, sizeof o, opts, "vm_opts"))
        return NULL;
    if (o.engine > VC_ENGINE_LOCKSTEP) {
        err_set(VC_EINVAL, "engine %u is not one of VC_ENGINE_*", o.engine);
        return NULL;
    }
    if (o.flags & ~(VC_OPT_SAMPLE | VC_OPT_PERF_MAP | VC_OPT_DIRTY_BITMAP)) {
        err_set(VC_EINVAL, "flags %#x are not all VC_OPT_*", o.flags);
        return NULL;
    }
    const struct backend *be = NULL;
    bool any = !strcmp(backend, "auto");
    if (!any && !(be = backend_find(backend))) {
        unknown_backend(backend);
        return NULL;
    }
    if (!o.mem_quota)
        o.mem_quota = MEM_QUOTA_DEFAULT;

    struct vc_vm *vm = calloc(1, sizeof *vm);
    if (!vm) {
        err_set(VC_ENOMEM, "no memory for a partition");
        return NULL;
    }
    vm->opts = o;
    if (mem_init(&vm->mem, o.mem_quota)) {
        free(vm);
        return NULL;
    }
    vm->mem.pool = o.pool;
    pool_join(o.pool);
    if (vm_init(vm) || (any ? engine_auto(vm) : engine_try(vm, be))) {
        vm_fini(vm);
        return NULL;
    }
    err_begin(); /* what `auto` passed over is no failure */
    vm_log(vm, VC_LOG_INFO, "opened %s", vm->why);
    return vm;
}

/* ---- pausing, closing ------------------------------------------------------ */

int vm_pause(struct vc_vm *vm)
{
    if (pthread_rwlock_trywrlock(&vm->gate))
        return err_set(VC_EBUSY, "a vCPU of the partition runs: this needs it paused");
    return 0;
}

void vm_resume(struct vc_vm *vm)
{
    pthread_rwlock_unlock(&vm->gate);
}

int vc_close(vc_vm *vm)
{
    if (!vm)
        return 0;
    err_begin();
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    for (unsigned i = 0; i < VM_CPUS_MAX; i++) {
        if (vm->cpu[i])
            cpu_destroy(vm->cpu[i]);
    }
    vm_binds_free(vm);
    vm_devs_free(vm);
    vm_platform_free(vm);
    vm_attached_free(vm);
    vm_resume(vm);
    vm_fini(vm);
    return 0;
}

/* ---- information ------------------------------------------------------------ */

int vc_info(vc_vm *vm, struct vc_vm_info *info)
{
    if (!vm || !info)
        return err_null(vm ? "info" : "vm");
    err_begin();
    struct vc_vm_info full = {
        .size = sizeof full,
        .features = vm->features,
        .max_cpus = vm->max_cpus,
        .mem_quota = vm->opts.mem_quota,
        .tsc_hz = vm->env.tsc_hz,
    };
    snprintf(full.backend, sizeof full.backend, "%s", vm->be->name);
    snprintf(full.why, sizeof full.why, "%.255s", vm->why);
    pthread_mutex_lock(&vm->lock);
    full.cpus = vm->ncpus;
    pthread_mutex_unlock(&vm->lock);
    pthread_mutex_lock(&vm->mem.lock);
    full.mem_mapped = vm->mem.mapped;
    pthread_mutex_unlock(&vm->mem.lock);
    return args_out(info, &full, sizeof full, "vm_info");
}
