/* SPDX-License-Identifier: MIT
 * The partition as a Xen PV domain: what src/pv needs of the machine, put together. */
#include "vm.h"
#include "../base/err.h"

#ifdef HAVE_XEN

#include "../pv/pv.h"

static int port_access(void *ctx, enum vc_space space, struct vc_access *a)
{
    return bus_access(((struct vc_vm *)ctx)->bus, space, a);
}

static void lapic_vector(void *ctx, unsigned cpu, uint8_t vector)
{
    irqchip_vector(((struct vc_vm *)ctx)->irq, cpu, vector);
}

static void map_changed(void *ctx)
{
    vm_map_changed(ctx);
}

static int host_fill(struct vc_vm *vm, struct pv_host *h)
{
    *h = (struct pv_host){
        .ctx = vm,
        .mem = &vm->mem,
        .clock = vm->clock,
        .be = vm->be,
        .bvm = vm->bvm,
        .access = port_access,
        .power = vm_power,
        .vector = lapic_vector,
        .map_changed = map_changed,
        .log = vm_log,
        .out = vm->pc_opts.serial_out,
        .out_ud = vm->pc_opts.serial_ud,
        .xs = vm_xs(vm),
        .tsc_hz = vm->env.tsc_hz,
        .ram_low = min_u64(vm->pc_opts.ram, PC_LOW_RAM_MAX),
        .ncpu = vm->ncpus,
    };
    h->ram_high = vm->pc_opts.ram - h->ram_low;
    if (!h->xs)
        return VC_ENOMEM;
    for (unsigned i = 0; i < h->ncpu; i++) {
        if (!vm->cpu[i])
            return err_set(VC_ESTATE, "vCPU %u was freed: a PV domain's are numbered without gaps",
                           i);
        h->cpu[i].bc = vm->cpu[i]->bcpu;
        h->cpu[i].mail = &vm->cpu[i]->mail;
        h->cpu[i].handle = vm->cpu[i];
    }
    return 0;
}

static int check(struct vc_vm *vm, struct pv_host *host)
{
    if (!vm->be->pv)
        return err_set(VC_ENOTSUP, "backend %s runs no guests of Xen's: open pv", vm->be->name);
    if (!vm->ncpus)
        return err_set(VC_ESTATE, "vCPU 0 does not exist: call vc_cpu_new() first");
    return host_fill(vm, host);
}

/* With the domain made, or not: NULL. */
static int made(struct vc_vm *vm, struct pv_domain *d)
{
    vm->pv = d;
    vm_map_renew(vm);
    int rc = d ? vm_attached_join(vm) : vc_errcode();
    if (rc)
        vm_pv_free(vm);
    return rc;
}

int vm_pv_boot(struct vc_vm *vm, const struct vc_boot_opts *opts)
{
    struct pv_host host;
    int rc = check(vm, &host);
    return rc ? rc : made(vm, pv_new(&host, opts));
}

int vm_pvh_make(struct vc_vm *vm, uint64_t *base, uint64_t *len)
{
    struct pv_host host;
    int rc = check(vm, &host);
    return rc ? rc : made(vm, pvh_new(&host, base, len));
}

void vm_pv_free(struct vc_vm *vm)
{
    if (!vm->pv)
        return;
    vm_attached_leave(vm);
    pv_free(vm->pv);
    vm->pv = NULL;
    vm_map_renew(vm);
}

void vm_pv_cpu_gone(struct vc_vm *vm, unsigned cpu)
{
    pv_cpu_gone(vm->pv, cpu);
}

void vm_pv_waits(struct vc_vm *vm, unsigned cpu, bool waits)
{
    if (vm->pv)
        pv_cpu_waits(vm->pv, cpu, waits);
}

void vm_pv_memory(struct vc_vm *vm, struct pv_memory *m)
{
    pv_memory(vm->pv, m);
}

void vm_pv_memory_limit(struct vc_vm *vm, uint64_t bytes)
{
    pv_memory_limit(vm->pv, bytes);
}

int vm_pv_memory_target(struct vc_vm *vm, uint64_t bytes)
{
    return pv_memory_target(vm->pv, bytes);
}

void vm_pv_down(struct vc_vm *vm)
{
    pv_console_down(vm->pv);
}

void vm_pv_resume(struct vc_vm *vm)
{
    pv_resume(vm->pv);
}

long vm_pv_serial_in(struct vc_vm *vm, const void *bytes, size_t n)
{
    return (long)pv_console_in(vm->pv, bytes, n);
}

int vm_pv_serial_wait(struct vc_vm *vm, int timeout_ms)
{
    return pv_console_wait(vm->pv, timeout_ms);
}

#else

int vm_pv_boot(struct vc_vm *vm, const struct vc_boot_opts *opts)
{
    (void)vm, (void)opts;
    return err_set(VC_ENOTSUP, "this library was built without Xen's headers: it has no PV guests");
}

int vm_pvh_make(struct vc_vm *vm, uint64_t *base, uint64_t *len)
{
    (void)base, (void)len;
    return vm_pv_boot(vm, NULL);
}

void vm_pv_free(struct vc_vm *vm)
{
    (void)vm;
}

void vm_pv_cpu_gone(struct vc_vm *vm, unsigned cpu)
{
    (void)vm, (void)cpu;
}

void vm_pv_waits(struct vc_vm *vm, unsigned cpu, bool waits)
{
    (void)vm, (void)cpu, (void)waits;
}

void vm_pv_memory(struct vc_vm *vm, struct pv_memory *m)
{
    (void)vm, (void)m;
}

void vm_pv_memory_limit(struct vc_vm *vm, uint64_t bytes)
{
    (void)vm, (void)bytes;
}

int vm_pv_memory_target(struct vc_vm *vm, uint64_t bytes)
{
    (void)vm, (void)bytes;
    return VC_ENOTSUP;
}

void vm_pv_down(struct vc_vm *vm)
{
    (void)vm;
}

void vm_pv_resume(struct vc_vm *vm)
{
    (void)vm;
}

long vm_pv_serial_in(struct vc_vm *vm, const void *bytes, size_t n)
{
    (void)vm, (void)bytes, (void)n;
    return VC_ENOTSUP;
}

int vm_pv_serial_wait(struct vc_vm *vm, int timeout_ms)
{
    (void)vm, (void)timeout_ms;
    return VC_ENOTSUP;
}

#endif
