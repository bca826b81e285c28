/* SPDX-License-Identifier: MIT
 * Traps, devices and hypercalls of the embedder's. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../io/pcdev.h"
#include <stdlib.h>

#define PORTS    0x10000ull
#define MMIO_END (1ull << 52) /* of any physical address (SDM 4.1.4) */

/* ---- what the engine calls --------------------------------------------------- */

/* Ports of virtcore/abi.h, while they mean something: these leave the engine. */
static bool is_call(struct vc_vm *vm, const struct vc_access *a)
{
    if (!a->write || a->len != 4)
        return false;
    return (a->addr == VC_HCALL_PORT && vm_has_hcall(vm)) ||
           (a->addr == VC_RETURN_PORT && a->cpu && a->cpu->calls);
}

/* Of the PC's devices a PVH guest finds the 8254 with the speaker's port, the power
 * management registers, the debug port and the reset control; the embedder's own it finds
 * all. What is not there floats high. */
static bool bare_hides(const struct vc_vm *vm, enum vc_space space, const struct vc_access *a)
{
    static const struct {
        enum vc_space space;
        uint64_t base, len;
    } gone[] = {
        {VC_SPACE_PORT, 0x20, 2},
        {VC_SPACE_PORT, 0x60, 1},
        {VC_SPACE_PORT, 0x64, 1},
        {VC_SPACE_PORT, PC_PORT_RTC, 2},
        {VC_SPACE_PORT, 0xa0, 2},
        {VC_SPACE_PORT, PC_PORT_UART, 8},
        {VC_SPACE_PORT, 0x4d0, 2},
        {VC_SPACE_PORT, PC_PORT_FWCFG, 12},
        {VC_SPACE_PORT, 0xcf8, 1},
        {VC_SPACE_PORT, 0xcfc, 4},
        {VC_SPACE_MMIO, PC_IOAPIC_BASE, 0x1000},
        {VC_SPACE_MMIO, PC_ECAM_BASE, PC_ECAM_BUSES << 20},
    };
    if (!atomic_load_explicit(&vm->bare, memory_order_relaxed))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(gone); i++)
        if (space == gone[i].space && a->addr - gone[i].base < gone[i].len)
            return true;
    return false;
}

int vm_access(void *ctx, enum vc_space space, struct vc_access *access)
{
    struct vc_vm *vm = ctx;
    if (bare_hides(vm, space, access)) {
        if (!access->write)
            access->data = UINT64_MAX;
        return ENV_HANDLED;
    }
    if (space == VC_SPACE_PORT && is_call(vm, access))
        return ENV_UNHANDLED;
    if (access->write && atomic_load_explicit(&vm->nbinds, memory_order_relaxed) &&
        vm_bind_write(vm, space, access))
        return ENV_HANDLED;
    int rc = bus_access(vm->bus, space, access);
    if (rc >= 0)
        return rc;
    if (access->cpu)
        access->cpu->callback_rc = rc;
    return VC_ECALLBACK;
}

/* "No such call" of the interface that a PC's CPUID names. */
#define KVM_ENOSYS 1000

int vm_hcall(void *ctx, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    struct vc_vm *vm = ctx;
    if (hcall_known(vm, nr))
        return ENV_UNHANDLED; /* its function is called outside the engine: hcall.c */
    bus_lock(vm->bus);
    bool any = vm->hcall != NULL;
    int rc = any ? vm->hcall(vm->hcall_ud, cpu, nr, args, ret) : ENV_UNHANDLED;
    bus_unlock(vm->bus);
    if (!any && vm->pc) {
        *ret = (uint64_t)-KVM_ENOSYS;
        return ENV_HANDLED;
    }
    if (rc >= 0)
        return rc;
    if (cpu)
        cpu->callback_rc = rc;
    return VC_ECALLBACK;
}

bool vm_has_hcall(void *ctx)
{
    struct vc_vm *vm = ctx;
    return atomic_load_explicit(&vm->has_hcall, memory_order_relaxed);
}

int vc_hcall_set(vc_vm *vm, vc_hcall_fn *fn, void *ud)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    bus_lock(vm->bus);
    vm->hcall = fn;
    vm->hcall_ud = ud;
    pthread_mutex_lock(&vm->lock);
    atomic_store(&vm->has_hcall, fn || vm->nhcalls);
    pthread_mutex_unlock(&vm->lock);
    bus_unlock(vm->bus);
    return 0;
}

/* ---- traps -------------------------------------------------------------------- */

static int check_range(enum vc_space space, uint64_t base, uint64_t len)
{
    uint64_t end = space == VC_SPACE_PORT ? PORTS : MMIO_END;
    if ((unsigned)space > VC_SPACE_MMIO)
        return err_set(VC_EINVAL, "space %d is neither ports nor MMIO", (int)space);
    if (!len || base >= end || len > end - base)
        return err_set(VC_ERANGE, "%s range %#llx of %#llx bytes is empty or ends above %#llx",
                       space == VC_SPACE_PORT ? "port" : "MMIO", (unsigned long long)base,
                       (unsigned long long)len, (unsigned long long)end);
    return 0;
}

/* A range that is page-aligned claims its pages from RAM, whether that is there
 * now or is mapped later. */
static bool claims_pages(enum vc_space space, uint64_t base, uint64_t len)
{
    return space == VC_SPACE_MMIO && !((base | len) & (PAGE_SIZE_4K - 1)) &&
           base + len <= MEM_GPA_MAX;
}

static void trap_batch(struct vc_vm *vm, const struct vm_trap *t, bool on)
{
    if (t->batch && vm->be->batch && vm->bvm)
        vm->be->batch(vm->bvm, on, t->space, t->base, t->len);
}

void vm_traps_reopened(struct vc_vm *vm)
{
    for (const struct vm_trap *t = vm->traps; t; t = t->next)
        trap_batch(vm, t, true);
}

static void trap_free(struct vc_vm *vm, struct vm_trap *t)
{
    trap_batch(vm, t, false);
    /* RAM comes back first, so that no access finds neither. */
    if (t->hole) {
        mem_hole_del(&vm->mem, t->base, t->len);
        if (mem_overlaps_ram(&vm->mem, t->base, t->len))
            vm_map_changed(vm);
    }
    bus_del(vm->bus, t->id);
    free(t);
}

static int trap_new(struct vc_vm *vm, enum vc_space kind, uint64_t base, uint64_t len,
                    vc_trap_fn *fn, void *ud, vc_dev *dev)
{
    bool batch = kind == VC_SPACE_PORT_BATCH || kind == VC_SPACE_MMIO_BATCH;
    enum vc_space space = batch ? (enum vc_space)(kind - VC_SPACE_PORT_BATCH) : kind;
    int rc = check_range(space, base, len);
    if (rc)
        return rc;
    bool hole = claims_pages(space, base, len);
    bool ram = space == VC_SPACE_MMIO && mem_overlaps_ram(&vm->mem, base, len);
    if (ram && !hole)
        return err_set(VC_ERANGE,
                       "RAM is mapped in %#llx of %#llx bytes: a trap over RAM covers whole pages",
                       (unsigned long long)base, (unsigned long long)len);
    struct vm_trap *t = malloc(sizeof *t);
    if (!t)
        return err_set(VC_ENOMEM, "no memory for a trap");
    int id = bus_add(vm->bus, space, base, len, 0, fn, ud);
    if (id < 0) {
        free(t);
        return id;
    }
    *t = (struct vm_trap){
        .id = id, .space = space, .base = base, .len = len, .batch = batch, .dev = dev};
    if (hole) {
        rc = mem_hole_add(&vm->mem, base, len);
        if (rc) {
            trap_free(vm, t);
            return rc;
        }
        t->hole = true;
        rc = ram ? vm_map_changed(vm) : 0;
        if (rc) {
            trap_free(vm, t);
            return rc;
        }
    }
    pthread_mutex_lock(&vm->lock);
    t->next = vm->traps;
    vm->traps = t;
    pthread_mutex_unlock(&vm->lock);
    trap_batch(vm, t, true);
    return id;
}

/* Takes the first trap that matches out of the list: by id among vc_trap's, or
 * any of a device's. */
static struct vm_trap *trap_take(struct vc_vm *vm, int id, const vc_dev *dev)
{
    pthread_mutex_lock(&vm->lock);
    struct vm_trap **at = &vm->traps;
    while (*at && ((*at)->dev != dev || (!dev && (*at)->id != id)))
        at = &(*at)->next;
    struct vm_trap *t = *at;
    if (t)
        *at = t->next;
    pthread_mutex_unlock(&vm->lock);
    return t;
}

bool vm_trap_in_way(struct vc_vm *vm, uint64_t gpa, uint64_t len)
{
    bool hit = false;
    if (gpa + len < gpa)
        return false; /* mem_add says what is wrong */
    pthread_mutex_lock(&vm->lock);
    for (const struct vm_trap *t = vm->traps; t && !hit; t = t->next)
        hit = t->space == VC_SPACE_MMIO && !t->hole && vm_overlaps(gpa, len, t->base, t->len);
    pthread_mutex_unlock(&vm->lock);
    return hit;
}

int vc_trap(vc_vm *vm, enum vc_space space, uint64_t base, uint64_t len, vc_trap_fn *fn, void *ud)
{
    if (!vm || !fn)
        return err_null(vm ? "fn" : "vm");
    err_begin();
    return trap_new(vm, space, base, len, fn, ud, NULL);
}

int vc_untrap(vc_vm *vm, int id)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    struct vm_trap *t = trap_take(vm, id, NULL);
    if (!t)
        return err_set(VC_ENOENT, "no trap has the id %d", id);
    trap_free(vm, t);
    return 0;
}

/* ---- devices ------------------------------------------------------------------- */

static void dev_free(struct vc_dev *dev)
{
    if (dev->ops.free)
        dev->ops.free(dev->ud);
    free(dev);
}

/* Every access of a device comes through here, under the bus lock. */
static int dev_access(void *ud, struct vc_access *access)
{
    struct vc_dev *dev = ud;
    dev->busy++;
    int rc = dev->ops.access(dev->ud, access);
    if (!--dev->busy && dev->dead)
        dev_free(dev);
    return rc;
}

static void dev_untrap(struct vc_dev *dev)
{
    struct vm_trap *t;
    while ((t = trap_take(dev->vm, 0, dev)))
        trap_free(dev->vm, t);
}

static int dev_trap(struct vc_dev *dev, const struct vc_dev_range *ranges, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int rc =
            trap_new(dev->vm, ranges[i].space, ranges[i].base, ranges[i].len, dev_access, dev, dev);
        if (rc < 0)
            return rc;
    }
    return 0;
}

vc_dev *vc_dev_attach(vc_vm *vm, const struct vc_dev_ops *ops, const struct vc_dev_range *ranges,
                      unsigned nranges, void *ud)
{
    if (!ops) {
        err_null("ops");
        return NULL;
    }
    struct vc_dev_ops o = {.size = sizeof o};
    if (vm)
        err_begin();
    if (args_in(&o, sizeof o, ops, "dev_ops"))
        return NULL;
    struct vc_dev *dev = NULL;
    if (!vm)
        err_null("vm");
    else if (!o.access || !ranges || !nranges)
        err_set(VC_EINVAL, "a device needs ops.access and at least one range");
    else if (!(dev = calloc(1, sizeof *dev)))
        err_set(VC_ENOMEM, "no memory for a device");
    if (!dev) {
        if (o.free)
            o.free(ud);
        return NULL;
    }
    *dev = (struct vc_dev){.vm = vm, .ops = o, .ud = ud};

    bus_lock(vm->bus); /* no access before all ranges are there */
    int rc = dev_trap(dev, ranges, nranges);
    if (rc) {
        dev_untrap(dev);
    } else {
        pthread_mutex_lock(&vm->lock);
        dev->next = vm->devs;
        vm->devs = dev;
        pthread_mutex_unlock(&vm->lock);
    }
    bus_unlock(vm->bus);
    if (!rc)
        return dev;
    dev_free(dev);
    return NULL;
}

/* Out of the partition's list; false: it is not in it (any more). */
static bool dev_unlink(struct vc_dev *dev)
{
    struct vc_vm *vm = dev->vm;
    pthread_mutex_lock(&vm->lock);
    struct vc_dev **at = &vm->devs;
    while (*at && *at != dev)
        at = &(*at)->next;
    bool found = *at != NULL;
    if (found)
        *at = dev->next;
    pthread_mutex_unlock(&vm->lock);
    return found;
}

int vc_dev_detach(vc_dev *dev)
{
    if (!dev)
        return err_null("dev");
    err_begin();
    if (!dev_unlink(dev))
        return err_set(VC_ENOENT, "the device is already detached");
    struct vc_vm *vm = dev->vm;
    dev_untrap(dev);
    /* Handlers on other threads are through now; one on this thread is the
     * caller, and the device must outlive it. */
    bus_lock(vm->bus);
    bool busy = dev->busy;
    dev->dead = busy;
    bus_unlock(vm->bus);
    if (!busy)
        dev_free(dev);
    return 0;
}

void vm_devs_reset(struct vc_vm *vm)
{
    bus_lock(vm->bus);
    for (struct vc_dev *dev = vm->devs; dev; dev = dev->next) {
        if (dev->ops.reset)
            dev->ops.reset(dev->ud);
    }
    bus_unlock(vm->bus);
}

void vm_devs_free(struct vc_vm *vm)
{
    while (vm->devs) {
        struct vc_dev *dev = vm->devs;
        dev_unlink(dev);
        dev_untrap(dev);
        dev_free(dev);
    }
    struct vm_trap *t;
    while (vm->traps) {
        t = vm->traps;
        vm->traps = t->next;
        trap_free(vm, t);
    }
}

/* ---- interrupts ------------------------------------------------------------------ */

static int no_platform(const char *what)
{
    return err_set(VC_ENOTSUP, "%s needs the interrupt controllers that vc_pc() attaches", what);
}

int vc_irq_line(vc_vm *vm, unsigned gsi, int level)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (gsi > 23)
        return err_set(VC_ERANGE, "interrupt line %u: there are 0 to 23", gsi);
    if (!vm->irq)
        return no_platform("vc_irq_line");
    irqchip_line(vm->irq, gsi, level != 0);
    return 0;
}

int vc_msi(vc_vm *vm, uint64_t address, uint32_t data)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (!vm->irq)
        return no_platform("vc_msi");
    return irqchip_msi(vm->irq, address, data);
}
