/* SPDX-License-Identifier: MIT
 * Interrupt controllers in the kernel: local APICs, IOAPIC and both 8259, which a PC's
 * guest then reaches without leaving it. HLT, IPIs, INIT and SIPI are the kernel's, too.
 * Devices' lines and messages come here from src/io through the backend table.
 *
 * Split, only the local APICs are: messages go to them by KVM_SIGNAL_MSI, the 8259's
 * interrupts by KVM_INTERRUPT (events.c), which waits until LINT0 takes an ExtINT, and the
 * EOIs of the IOAPIC's level-triggered interrupts come as exits. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <stdlib.h>
#include <virtcore/pc.h>

#define PIC_PINS  16u
#define PIC_SLAVE 2u /* the master's input that the slave is at */

struct routes { /* as struct kvm_irq_routing begins */
    uint32_t nr, flags;
    struct kvm_irq_routing_entry entry[IOAPIC_PINS + PIC_PINS];
};

/* ISA interrupts go to both kinds; the timer's, IRQ 0, to pin 2 of the IOAPIC. */
static int set_routes(struct kvm_vm *vm)
{
    struct routes *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(VC_ENOMEM, "no host memory for interrupt routes");
    unsigned n = 0;
    for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        if (gsi < PIC_PINS && gsi != PIC_SLAVE)
            r->entry[n++] = (struct kvm_irq_routing_entry){
                .gsi = gsi,
                .type = KVM_IRQ_ROUTING_IRQCHIP,
                .u.irqchip = {gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi & 7},
            };
        r->entry[n++] = (struct kvm_irq_routing_entry){
            .gsi = gsi,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2},
        };
    }
    r->nr = n;
    int rc = ioctl(vm->fd, KVM_SET_GSI_ROUTING, r)
                 ? kvm_error(errno, "wiring the interrupt controllers")
                 : 0;
    free(r);
    return rc;
}

static bool can(struct kvm_vm *vm, int cap)
{
    return ioctl(vm->fd, KVM_CHECK_EXTENSION, (unsigned long)cap) > 0;
}

static int make_all(struct kvm_vm *vm)
{
    if (!can(vm, KVM_CAP_IRQCHIP))
        return 0; /* ours do as well */
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
        return kvm_error(errno, "making interrupt controllers");
    vm->chips = CHIPS_ALL;
    vm->env.irq_ack = NULL;
    vm->env.eoi = NULL;
    return set_routes(vm);
}

static int make_lapics(struct kvm_vm *vm)
{
    const struct kvm_enable_cap e = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS}};
    if (!can(vm, KVM_CAP_SPLIT_IRQCHIP))
        return 0;
    if (ioctl(vm->fd, KVM_ENABLE_CAP, &e))
        return kvm_error(errno, "making local APICs");
    vm->chips = CHIPS_LAPICS;
    return 0;
}

int kvm_chips_make(struct kvm_vm *vm)
{
    vm->platform = vm->env.irq_ack != NULL;
    if (!vm->platform || vm->env.chips == VC_IRQCHIP_USER)
        return 0;
    if (!can(vm, KVM_CAP_IRQ_ROUTING) || !can(vm, KVM_CAP_SIGNAL_MSI) ||
        !can(vm, KVM_CAP_TSC_DEADLINE_TIMER))
        return 0;
    int rc = vm->env.chips == VC_IRQCHIP_SPLIT ? make_lapics(vm) : make_all(vm);
    if (vm->chips == CHIPS_NONE)
        return rc;
    vm->env.cr8_get = NULL;
    vm->env.cr8_set = NULL;
    vm->env.apic_msr = NULL;
    vm->env.init = NULL;
    return rc;
}

enum chips_owned kvm_has_chips(struct backend_vm *bvm)
{
    return kvm_vm(bvm)->chips;
}

int kvm_irq_line(struct backend_vm *bvm, unsigned gsi, bool level)
{
    struct kvm_irq_level l = {.irq = gsi, .level = level};
    return ioctl(kvm_vm(bvm)->fd, KVM_IRQ_LINE, &l) ? kvm_error(errno, "driving an interrupt line")
                                                    : 0;
}

int kvm_irq_msi(struct backend_vm *bvm, uint64_t address, uint32_t data)
{
    struct kvm_msi m = {
        .address_lo = (uint32_t)address,
        .address_hi = (uint32_t)(address >> 32),
        .data = data,
    };
    int took = ioctl(kvm_vm(bvm)->fd, KVM_SIGNAL_MSI, &m);
    if (took >= 0)
        return took;
    /* One that nobody takes is no error. */
    return errno == EINVAL ? err_set(VC_EINVAL, "0x%llx is not the address of an MSI",
                                     (unsigned long long)address)
                           : 0;
}

void kvm_irq_routes(struct backend_vm *bvm, const struct chips_msi route[IOAPIC_PINS])
{
    struct kvm_vm *vm = kvm_vm(bvm);
    struct routes r = {.nr = 0};
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        if (route[pin].address)
            r.entry[r.nr++] = (struct kvm_irq_routing_entry){
                .gsi = pin,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = {.address_lo = route[pin].address, .data = route[pin].data},
            };
    if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r) && vm->env.log)
        vm->env.log(vm->env.ctx, VC_LOG_ERROR,
                    "the IOAPIC's routes: %s; level-triggered interrupts may not come again",
                    strerrordesc_np(errno));
}

/* ---- a vCPU's part -------------------------------------------------------------------- */

static int mp_state(struct kvm_cpu *c, uint32_t state)
{
    struct kvm_mp_state s = {.mp_state = state};
    return ioctl(c->fd, KVM_SET_MP_STATE, &s) ? kvm_error(errno, "starting or stopping a vCPU") : 0;
}

int kvm_wake(struct kvm_cpu *c)
{
    struct kvm_mp_state s;
    c->halted = false;
    if (!c->vm->chips || ioctl(c->fd, KVM_GET_MP_STATE, &s) || s.mp_state != KVM_MP_STATE_HALTED)
        return 0;
    return mp_state(c, KVM_MP_STATE_RUNNABLE);
}

/* SDM 10.4.7; the boot processor's LINT0 as firmware leaves it (irqchip.c says why). */
int kvm_chips_reset(struct kvm_cpu *c, bool wait_sipi)
{
    struct kvm_lapic_state l;
    if (!c->vm->chips)
        return 0;
    if (ioctl(c->fd, KVM_GET_LAPIC, &l))
        return kvm_error(errno, "reading a local APIC");
    for (unsigned reg = 0x08; reg < 0x40; reg++)
        kvm_lapic_put(&l, reg, 0);
    kvm_lapic_put(&l, 0x0e, 0xffffffff); /* DFR */
    kvm_lapic_put(&l, 0x0f, 0xff);       /* SVR */
    for (unsigned reg = 0x32; reg < 0x38; reg++)
        kvm_lapic_put(&l, reg, 0x10000);
    if (c->index == 0)
        kvm_lapic_put(&l, 0x35, 0x700); /* LINT0: ExtINT */
    if (ioctl(c->fd, KVM_SET_LAPIC, &l))
        return kvm_error(errno, "setting a local APIC");
    return mp_state(c, wait_sipi ? KVM_MP_STATE_INIT_RECEIVED : KVM_MP_STATE_RUNNABLE);
}
