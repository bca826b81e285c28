/* SPDX-License-Identifier: MIT
 * The partition as a PC: the platform's parts put together, booting, power. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../base/tsc.h"
#include "../boot/boot.h"
#include "../io/acpi.h"
#include "../io/firmware.h"

#define RAM_MIN  (1ull << 20)
#define HIGH_RAM (1ull << 32)

/* ---- what the engine asks of the platform --------------------------------------- */

static int ask_irq_ack(void *ctx, unsigned cpu)
{
    return irqchip_ack(((struct vc_vm *)ctx)->irq, cpu);
}

static uint64_t ask_cr8_get(void *ctx, unsigned cpu)
{
    return irqchip_cr8_get(((struct vc_vm *)ctx)->irq, cpu);
}

static void ask_cr8_set(void *ctx, unsigned cpu, uint64_t tpr)
{
    irqchip_cr8_set(((struct vc_vm *)ctx)->irq, cpu, tpr);
}

static bool ask_apic_msr(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value)
{
    return irqchip_msr(((struct vc_vm *)ctx)->irq, cpu, index, write, value);
}

static void ask_eoi(void *ctx, uint8_t vector)
{
    irqchip_eoi(((struct vc_vm *)ctx)->irq, vector);
}

static void ask_init(void *ctx, unsigned cpu)
{
    irqchip_reset_cpu(((struct vc_vm *)ctx)->irq, cpu, true);
}

static void env_platform(struct vc_vm *vm, bool on)
{
    vm->env.irq_ack = on ? ask_irq_ack : NULL;
    vm->env.cr8_get = on ? ask_cr8_get : NULL;
    vm->env.cr8_set = on ? ask_cr8_set : NULL;
    vm->env.apic_msr = on ? ask_apic_msr : NULL;
    vm->env.eoi = on ? ask_eoi : NULL;
    vm->env.init = on ? ask_init : NULL;
}

/* ---- what the platform asks ---------------------------------------------------------- */

static uint64_t guest_tsc(void *ctx)
{
    (void)ctx;
    return host_tsc();
}

void vm_power(void *ctx, uint32_t kind, uint32_t code)
{
    struct vc_vm *vm = ctx;
    uint64_t was = 0, down = (uint64_t)kind << 32 | code;
    while (!atomic_compare_exchange_strong(&vm->power, &was, down))
        if (was >> 32 != VC_POWER_SUSPEND || kind == VC_POWER_SUSPEND)
            return; /* the first reason counts that is for good */
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < VM_CPUS_MAX; i++) {
        if (vm->cpu[i])
            mail_post(&vm->cpu[i]->mail, PEND_POWER);
    }
    pthread_mutex_unlock(&vm->lock);
    if (kind == VC_POWER_SUSPEND)
        return; /* it may go on: nobody who waits for its console gives up */
    if (vm->pv)
        vm_pv_down(vm);
    if (vm->pc)
        pc_down(vm->pc);
}

static void platform_map_changed(void *ctx)
{
    vm_map_changed(ctx);
}

/* ---- building it ------------------------------------------------------------------------ */

void vm_platform_free(struct vc_vm *vm)
{
    vm_pv_free(vm);
    if (vm->pc)
        pc_free(vm->pc);
    if (vm->irq)
        irqchip_free(vm->irq);
    if (vm->clock)
        clock_free(vm->clock);
    vm->pc = NULL;
    vm->irq = NULL;
    vm->clock = NULL;
}

static uint64_t ram_low(const struct vc_pc_opts *o)
{
    return min_u64(o->ram, PC_LOW_RAM_MAX);
}

static int ram_map(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    uint64_t low = ram_low(o);
    int rc = mem_add(&vm->mem, 0, low, VC_MEM_RWX, NULL);
    if (!rc && o->ram > low) {
        rc = mem_add(&vm->mem, HIGH_RAM, o->ram - low, VC_MEM_RWX, NULL);
        if (rc)
            mem_del(&vm->mem, 0, low);
    }
    return rc;
}

static void ram_unmap(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    uint64_t low = ram_low(o);
    mem_del(&vm->mem, 0, low);
    if (o->ram > low)
        mem_del(&vm->mem, HIGH_RAM, o->ram - low);
}

static int outer_line(void *ctx, unsigned gsi, bool level)
{
    struct vc_vm *vm = ctx;
    return vm->be->irq_line(vm->bvm, gsi, level);
}

static int outer_msi(void *ctx, uint64_t address, uint32_t data)
{
    struct vc_vm *vm = ctx;
    return vm->be->irq_msi(vm->bvm, address, data);
}

static void outer_routes(void *ctx, const struct chips_msi route[IOAPIC_PINS])
{
    struct vc_vm *vm = ctx;
    vm->be->irq_routes(vm->bvm, route);
}

static int outer_state(void *ctx, bool set, struct chips_state *st)
{
    struct vc_vm *vm = ctx;
    return vm->be->irq_state(vm->bvm, set, st);
}

static const struct irqchip_outer outer[] = {
    [CHIPS_ALL] = {CHIPS_ALL, outer_line, outer_msi, NULL, outer_state},
    [CHIPS_LAPICS] = {CHIPS_LAPICS, NULL, outer_msi, outer_routes, outer_state},
};

/* The engine's own interrupt controllers, where it has some. */
static int engine_chips(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    enum chips_owned has = vm->be->has_chips ? vm->be->has_chips(vm->bvm) : CHIPS_NONE;
    if (o->irqchip == VC_IRQCHIP_KERNEL && has != CHIPS_ALL)
        return err_set(VC_ENOTSUP, "%s has no interrupt controllers in the host's kernel",
                       vm->be->name);
    if (o->irqchip == VC_IRQCHIP_SPLIT && has != CHIPS_LAPICS)
        return err_set(VC_ENOTSUP,
                       "%s has no local APICs in the host's kernel without the other controllers",
                       vm->be->name);
    if (has != CHIPS_NONE)
        irqchip_use(vm->irq, &outer[has], vm);
    return 0;
}

static int platform_new(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    vm->clock = clock_new(vm->env.tsc_hz);
    if (!vm->clock)
        return err_set(VC_ENOMEM, "no memory for the platform's clock");
    const struct irqchip_opts irq = {
        .bus = vm->bus,
        .clock = vm->clock,
        .max_cpus = o->cpus,
        .tsc_hz = vm->env.tsc_hz,
        .tsc_now = guest_tsc,
        .ctx = vm,
    };
    vm->irq = irqchip_new(&irq);
    if (!vm->irq)
        return err_set(VC_ENOMEM, "no memory for the interrupt controllers");
    const struct pc_host host = {
        .ctx = vm,
        .mem = &vm->mem,
        .bus = vm->bus,
        .clock = vm->clock,
        .irq = vm->irq,
        .power = vm_power,
        .map_changed = platform_map_changed,
    };
    vm->pc = pc_new(&host, o);
    if (!vm->pc)
        return err_set(VC_ENOMEM, "no memory for the platform");
    env_platform(vm, true);
    vm->env.chips = o->irqchip;
    int rc = vm_reopen(vm); /* engines copy env when they open */
    if (!rc)
        rc = engine_chips(vm, o);
    if (rc)
        env_platform(vm, false);
    return rc;
}

static int pc_make(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    if (vm->pc)
        return err_set(VC_ESTATE, "the partition is a PC already");
    if (vm->ncpus)
        return err_set(VC_ESTATE, "the partition has vCPUs: vc_pc() comes before vc_cpu_new()");
    int rc = ram_map(vm, o);
    if (rc)
        return rc;
    rc = platform_new(vm, o);
    if (rc) {
        vm_platform_free(vm);
        ram_unmap(vm, o);
        vm_reopen(vm); /* should it fail, vc_cpu_new says so */
        return rc;
    }
    vm->max_cpus = o->cpus;
    vm->pc_opts = *o;
    return vm_map_changed(vm);
}

static int check_opts(struct vc_vm *vm, const struct vc_pc_opts *o)
{
    if (o->ram < RAM_MIN || o->ram % PAGE_SIZE_4K)
        return err_set(VC_ERANGE, "%llu bytes of RAM: a PC has at least 1 MiB, in pages of 4096",
                       (unsigned long long)o->ram);
    if (o->ram > MEM_GPA_MAX / 2)
        return err_set(VC_ERANGE, "%llu bytes of RAM do not fit below 2^46",
                       (unsigned long long)o->ram);
    if (!o->cpus || o->cpus > vm->max_cpus)
        return err_set(VC_ELIMIT, "a PC of %u vCPUs: this partition may have 1 to %u", o->cpus,
                       vm->max_cpus);
    if (o->irqchip > VC_IRQCHIP_SPLIT)
        return err_set(VC_EINVAL, "irqchip %u is not one of VC_IRQCHIP_*", o->irqchip);
    if (o->flags & ~VC_PC_TESTDEV)
        return err_set(VC_EINVAL, "flags %#x are not known", o->flags);
    return 0;
}

int vc_pc(vc_vm *vm, const struct vc_pc_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    struct vc_pc_opts o = {.size = sizeof o};
    int rc = args_in(&o, sizeof o, opts, "pc_opts");
    if (!rc)
        rc = check_opts(vm, &o);
    if (!rc)
        rc = vm_pause(vm);
    if (rc)
        return rc;
    rc = pc_make(vm, &o);
    vm_resume(vm);
    return rc;
}

/* ---- the serial port ------------------------------------------------------------------------ */

static int no_pc(void)
{
    return err_set(VC_ENOTSUP, "the partition is no PC: call vc_pc() first");
}

long vc_serial_in(vc_vm *vm, const void *bytes, size_t n)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (!vm->pc)
        return no_pc();
    if (!bytes && n)
        return err_set(VC_EINVAL, "bytes is NULL");
    if (vm->pv)
        return vm_pv_serial_in(vm, bytes, n);
    return n ? pc_serial_in(vm->pc, bytes, n) : 0;
}

int vc_serial_wait(vc_vm *vm, int timeout_ms)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (vm->pv)
        return vm_pv_serial_wait(vm, timeout_ms);
    return vm->pc ? pc_serial_wait(vm->pc, timeout_ms) : no_pc();
}

/* ---- booting ----------------------------------------------------------------------------------
 */

static int boot_apply(struct vc_cpu *cpu, struct boot_state *st)
{
    const struct backend *be = cpu->vm->be;
    struct vc_sregs now = {.size = sizeof now};
    int rc = preset_apply(cpu, VC_MODE_RESET, 0);
    if (!rc)
        rc = be->sregs(cpu->bcpu, false, &now);
    if (rc)
        return rc;
    st->sregs.size = sizeof st->sregs;
    st->gprs.size = sizeof st->gprs;
    st->sregs.apic_base = now.apic_base; /* the platform's, not the image's */
    rc = be->sregs(cpu->bcpu, true, &st->sregs);
    return rc ? rc : be->gprs(cpu->bcpu, true, &st->gprs);
}

static int boot_paused(struct vc_vm *vm, const struct vc_boot_opts *o, struct boot_ram *ram)
{
    struct vc_cpu *cpu = vm->cpu[0];
    if (!cpu)
        return err_set(VC_ESTATE, "vCPU 0 does not exist: call vc_cpu_new() first");
    ram->low = ram_low(&vm->pc_opts);
    ram->high = vm->pc_opts.ram - ram->low;
    ram->rsdp = PC_RSDP;
    struct boot_state st = {.gprs.size = sizeof st.gprs, .sregs.size = sizeof st.sregs};
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = boot_load(&vm->mem, ram, o, &st);
    if (!rc)
        rc = boot_apply(cpu, &st);
    if (!rc && st.firmware)
        rc = firmware_devices(vm->bus);
    cpu_leave(cpu);
    return rc;
}

static int boot_pvh(struct vc_vm *vm, struct vc_boot_opts *o)
{
    struct boot_ram ram = {0};
    o->kind = VC_IMAGE_PVH;
    int rc = vm_pvh_make(vm, &ram.reserved, &ram.reserved_len);
    if (!rc)
        rc = acpi_write_bare(&vm->mem, vm->ncpus);
    if (!rc)
        rc = boot_paused(vm, o, &ram);
    vm->bare = !rc;
    if (rc) {
        vm_pv_free(vm);
        acpi_write(&vm->mem, vm->pc_opts.cpus);
    }
    return rc;
}

/* The former guest's machine goes. */
static int boot_any(struct vc_vm *vm, struct vc_boot_opts *o)
{
    struct boot_ram ram = {0};
    vm_pv_free(vm);
    int rc = mem_take_all(&vm->mem);
    if (!rc && vm->bare)
        rc = acpi_write(&vm->mem, vm->pc_opts.cpus);
    if (rc)
        return rc;
    vm->bare = false;
    switch (o->virt) {
    case VC_VIRT_PV: return vm_pv_boot(vm, o);
    case VC_VIRT_PVH: return boot_pvh(vm, o);
    default: return boot_paused(vm, o, &ram);
    }
}

int vc_boot(vc_vm *vm, const struct vc_boot_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    if (!vm->pc)
        return no_pc();
    struct vc_boot_opts o = {.size = sizeof o};
    int rc = args_in(&o, sizeof o, opts, "boot_opts");
    if (rc)
        return rc;
    if (!o.kernel || !o.kernel_len)
        return err_set(VC_EINVAL, "there is no image: kernel is NULL or empty");
    if (!o.initrd && o.initrd_len)
        return err_set(VC_EINVAL, "initrd is NULL, but not of length 0");
    if (o.virt > VC_VIRT_PVH)
        return err_set(VC_EINVAL, "virt %u is not one of VC_VIRT_*", o.virt);
    rc = vm_pause(vm);
    if (rc)
        return rc;
    if (vm->attached && o.virt == VC_VIRT_HVM) {
        vm_resume(vm);
        return err_set(VC_ENOTSUP, "an unmodified guest has no device for disks and links yet: "
                                   "load it as VC_VIRT_PV or VC_VIRT_PVH, or add none");
    }
    rc = boot_any(vm, &o);
    if (!rc)
        vm_devs_reset(vm);
    vm_resume(vm);
    return rc;
}

/* ---- suspended --------------------------------------------------------------------------- */

static int resume_paused(struct vc_vm *vm)
{
    uint64_t power = atomic_load(&vm->power);
    if (!vm->pv || power >> 32 != VC_POWER_SUSPEND ||
        !atomic_compare_exchange_strong(&vm->power, &power, 0))
        return err_set(VC_ESTATE, "no guest of Xen's is suspended here");
    for (unsigned i = 0; i < VM_CPUS_MAX; i++)
        if (vm->cpu[i])
            mail_clear(&vm->cpu[i]->mail, PEND_POWER);
    vm_pv_resume(vm);
    return 0;
}

int vc_resume(vc_vm *vm)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    rc = resume_paused(vm);
    vm_resume(vm);
    return rc;
}
