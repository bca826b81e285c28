/* SPDX-License-Identifier: MIT
 * Writes that the kernel collects (coalesced I/O) in a ring of the machine's, until a vCPU
 * comes out: then they are told to their devices before anything else is. */
#include "engine.h"
#include "../../base/util.h"

void kvm_batch(struct backend_vm *bvm, bool on, enum vc_space space, uint64_t base, uint64_t len)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    struct kvm_coalesced_mmio_zone zone = {
        .addr = base, .size = (uint32_t)len, .pio = space == VC_SPACE_PORT};
    int cap = space == VC_SPACE_PORT ? KVM_CAP_COALESCED_PIO : KVM_CAP_COALESCED_MMIO;
    if (len > UINT32_MAX || ioctl(vm->fd, KVM_CHECK_EXTENSION, (unsigned long)cap) <= 0)
        return;
    /* What it does not take comes one by one. */
    if (!ioctl(vm->fd, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone) &&
        on)
        atomic_store(&vm->batches, true);
}

/* Where the ring is, in pages from a vCPU's shared area on; 0: nowhere. */
static struct kvm_coalesced_mmio_ring *ring_of(struct kvm_cpu *c)
{
    int page = ioctl(c->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
    if (page <= 0 || ((size_t)page + 1) * PAGE_SIZE_4K > c->vm->host.run_size)
        return NULL;
    return (void *)((uint8_t *)c->run + (size_t)page * PAGE_SIZE_4K);
}

static int tell(struct kvm_cpu *c, const struct kvm_coalesced_mmio *e)
{
    const struct cpu_env *env = &c->vm->env;
    struct vc_access a = {
        .addr = e->phys_addr,
        .len = (uint32_t)min_u64(e->len, sizeof a.data),
        .write = true,
        .cpu = c->handle,
        .cpu_index = c->index,
    };
    memcpy(&a.data, e->data, a.len);
    if (e->pio)
        c->stats.port_exits++;
    else
        c->stats.mmio_exits++;
    int rc = env->access ? env->access(env->ctx, e->pio ? VC_SPACE_PORT : VC_SPACE_MMIO, &a)
                         : ENV_UNHANDLED;
    return rc < 0 ? rc : 0; /* nobody's any more */
}

int kvm_batch_take(struct kvm_cpu *c)
{
    struct kvm_vm *vm = c->vm;
    int rc = 0;
    if (!c->batch && !(c->batch = ring_of(c)))
        return 0;
    struct kvm_coalesced_mmio_ring *r = c->batch;
    const unsigned max = (unsigned)((PAGE_SIZE_4K - sizeof *r) / sizeof(struct kvm_coalesced_mmio));
    if (__atomic_load_n(&r->last, __ATOMIC_ACQUIRE) == r->first)
        return 0;
    /* One after the other, and what another vCPU took is told before this one goes on. */
    pthread_mutex_lock(&vm->batch_lock);
    while (__atomic_load_n(&r->last, __ATOMIC_ACQUIRE) != r->first && r->first < max) {
        struct kvm_coalesced_mmio e = r->coalesced_mmio[r->first];
        __atomic_store_n(&r->first, (r->first + 1) % max, __ATOMIC_RELEASE);
        int told = tell(c, &e);
        rc = rc ? rc : told;
    }
    pthread_mutex_unlock(&vm->batch_lock);
    return rc;
}
