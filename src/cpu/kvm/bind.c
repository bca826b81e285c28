/* SPDX-License-Identifier: MIT
 * Event descriptors in the kernel: a guest's write signals one, one drives a line,
 * neither by way of the vCPU's thread. */
#include "engine.h"
#include "../../base/err.h"
#include <errno.h>

static int bind_write(struct kvm_vm *vm, bool on, const struct backend_bind *b)
{
    const struct kvm_ioeventfd e = {
        .datamatch = b->data,
        .addr = b->addr,
        .len = b->len,
        .fd = b->fd,
        .flags = (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN) |
                 (b->space == VC_SPACE_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0) |
                 (b->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };
    return ioctl(vm->fd, KVM_IOEVENTFD, &e) ? kvm_error(errno, "binding a write") : 0;
}

static int bind_irq(struct kvm_vm *vm, bool on, const struct backend_bind *b)
{
    const struct kvm_irqfd i = {
        .fd = (uint32_t)b->fd, .gsi = b->gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
    if (vm->chips != CHIPS_ALL)
        return err_set(VC_ENOTSUP, "the IOAPIC and the 8259 are not in the kernel");
    return ioctl(vm->fd, KVM_IRQFD, &i) ? kvm_error(errno, "binding an interrupt line") : 0;
}

int kvm_bind(struct backend_vm *bvm, bool on, const struct backend_bind *b)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    return b->kind == VC_BIND_WRITE ? bind_write(vm, on, b) : bind_irq(vm, on, b);
}
