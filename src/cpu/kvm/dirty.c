/* SPDX-License-Identifier: MIT
 * Which pages the guest wrote: the kernel's answers become the regions' own dirty bits.
 *
 * It tells by a bitmap for each slot, which costs time by the slot's size; or, where it can,
 * by a ring for each vCPU, which costs time by the pages written. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include "../../mmu/mem.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define RING_ENTRIES 1024u /* 4 MiB of written pages until the vCPU comes out */

/* ---- rings ------------------------------------------------------------------------------- */

void kvm_dirty_begin(struct kvm_vm *vm)
{
    int most = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
    uint64_t bytes =
        min_u64(most > 0 ? (uint64_t)most : 0, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
    struct kvm_enable_cap e = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {bytes}};
    if (bytes && !ioctl(vm->fd, KVM_ENABLE_CAP, &e))
        vm->ring_entries = (unsigned)(bytes / sizeof(struct kvm_dirty_gfn));
}

static size_t ring_size(const struct kvm_vm *vm)
{
    return vm->ring_entries * sizeof(struct kvm_dirty_gfn);
}

int kvm_dirty_cpu(struct kvm_cpu *c)
{
    if (!c->vm->ring_entries)
        return 0;
    void *ring = mmap(NULL, ring_size(c->vm), PROT_READ | PROT_WRITE, MAP_SHARED, c->fd,
                      KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE_4K);
    if (ring == MAP_FAILED)
        return kvm_error(errno, "mapping a vCPU's dirty ring");
    c->ring = ring;
    return 0;
}

void kvm_dirty_cpu_end(struct kvm_cpu *c)
{
    if (c->ring)
        munmap(c->ring, ring_size(c->vm));
}

/* The slot's page was written. With the map pinned. */
static void mark(struct kvm_vm *vm, const struct mem_map *map, unsigned slot, uint64_t page)
{
    if (slot >= vm->nslots || page >= vm->slot[slot].len >> 12)
        return;
    uint64_t gpa = vm->slot[slot].gpa + (page << 12);
    const struct mem_region *r = mem_find_region(map, gpa);
    if (r)
        mem_mark_dirty(r, gpa);
}

static unsigned ring_take(struct kvm_vm *vm, struct kvm_cpu *c, const struct mem_map *map)
{
    unsigned n = 0;
    for (; n < vm->ring_entries; n++, c->ring_at++) {
        struct kvm_dirty_gfn *g = &c->ring[c->ring_at % vm->ring_entries];
        if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
            break;
        mark(vm, map, g->slot & 0xffff, g->offset); /* its upper half: the address space */
        __atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    return n;
}

/* With the lock. */
static void rings_take(struct kvm_vm *vm)
{
    unsigned n = 0, pin = mem_pin(vm->env.mem);
    const struct mem_map *map = atomic_load(&vm->env.mem->map);
    for (unsigned i = 0; i < KVM_CPUS_MAX; i++)
        if (vm->cpu[i] && vm->cpu[i]->ring)
            n += ring_take(vm, vm->cpu[i], map);
    mem_unpin(vm->env.mem, pin);
    if (n)
        ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
}

void kvm_dirty_full(struct kvm_cpu *c)
{
    pthread_mutex_lock(&c->vm->lock);
    rings_take(c->vm);
    pthread_mutex_unlock(&c->vm->lock);
}

/* ---- bitmaps ----------------------------------------------------------------------------- */

static void bitmap_take(struct kvm_vm *vm, unsigned n)
{
    const struct kvm_slot *s = &vm->slot[n];
    uint64_t pages = s->len >> 12;
    uint64_t *bits = calloc((pages + 63) / 64, sizeof *bits);
    struct kvm_dirty_log log = {.slot = n, .dirty_bitmap = bits};
    bool all = !bits || ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
    unsigned pin = mem_pin(vm->env.mem);
    const struct mem_map *map = atomic_load(&vm->env.mem->map);
    for (uint64_t w = 0; w < (pages + 63) / 64; w++) {
        /* Without the kernel's answer every page may have been written. */
        uint64_t word = all ? UINT64_MAX : bits[w];
        for (; word; word &= word - 1)
            mark(vm, map, n, w * 64 + (unsigned)__builtin_ctzll(word));
    }
    mem_unpin(vm->env.mem, pin);
    free(bits);
}

/* ---- either ------------------------------------------------------------------------------- */

void kvm_dirty_take(struct kvm_vm *vm, unsigned n)
{
    const struct kvm_slot *s = &vm->slot[n];
    if (!s->len || !(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
        return;
    if (vm->ring_entries)
        rings_take(vm);
    else
        bitmap_take(vm, n);
}

void kvm_dirty_sync(struct backend_vm *bvm)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->nslots; i++)
        kvm_dirty_take(vm, i);
    pthread_mutex_unlock(&vm->lock);
}
