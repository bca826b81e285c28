/* SPDX-License-Identifier: MIT
 * Memory slots: the partition's regions, less what devices claim of them, as the
 * kernel is to know them. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include "../../mmu/mem.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the world stops ---------------------------------------------------------- */

/* A slot cannot change its size: it goes and comes back, and a vCPU that looked there
 * in between would find nothing. So none runs meanwhile. */
static void stop_all(struct kvm_vm *vm)
{
    atomic_store(&vm->changing, 1);
    for (unsigned i = 0; i < KVM_CPUS_MAX; i++)
        if (vm->cpu[i] && vm->cpu[i]->mail)
            mail_post(vm->cpu[i]->mail, PEND_STOP);
    for (unsigned i = 0; i < KVM_CPUS_MAX; i++)
        while (vm->cpu[i] && vm->cpu[i]->mail && atomic_load(&vm->cpu[i]->mail->inside))
            sched_yield();
}

static void start_all(struct kvm_vm *vm)
{
    atomic_store(&vm->changing, 0);
    syscall(SYS_futex, &vm->changing, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void kvm_wait_change(struct kvm_vm *vm)
{
    while (atomic_load(&vm->changing))
        syscall(SYS_futex, &vm->changing, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- one slot ------------------------------------------------------------------ */

static int slot_set(struct kvm_vm *vm, unsigned n, const struct kvm_slot *s, uint64_t len)
{
    const struct kvm_userspace_memory_region r = {
        .slot = n,
        .flags = len ? s->flags : 0,
        .guest_phys_addr = s->gpa,
        .memory_size = len,
        .userspace_addr = (uintptr_t)s->host,
    };
    if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r))
        return 0;
    if (errno == EEXIST)
        return err_set(VC_EEXIST, "KVM keeps guest-physical memory at %#llx for itself",
                       (unsigned long long)s->gpa);
    return kvm_error(errno, "giving KVM a memory slot");
}

/* ---- all of them ---------------------------------------------------------------- */

/* The slots that the map asks for; *n of them, to be freed. */
static struct kvm_slot *wanted_slots(struct mem *mem, unsigned *n)
{
    unsigned pin = mem_pin(mem), count = 0;
    const struct mem_map *map = atomic_load(&mem->map);
    struct kvm_slot *v = calloc(map->nregions + map->nholes + 1, sizeof *v);
    for (unsigned i = 0, h = 0; v && i < map->nregions; i++) {
        const struct mem_region *r = &map->region[i];
        uint64_t at = r->gpa, end = r->gpa + r->len;
        while (h < map->nholes && map->hole[h].gpa + map->hole[h].len <= at)
            h++;
        while (at < end) {
            const struct mem_hole *hole = h < map->nholes ? &map->hole[h] : NULL;
            uint64_t stop = hole && hole->gpa < end ? hole->gpa : end;
            if (stop > at)
                v[count++] = (struct kvm_slot){
                    .gpa = at,
                    .len = stop - at,
                    .host = r->host + (at - r->gpa),
                    .flags = (r->prot & VC_MEM_LOG ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
                             (r->prot & VC_MEM_WRITE ? 0 : KVM_MEM_READONLY),
                };
            if (stop == end)
                break;
            at = hole->gpa + hole->len;
            if (at <= end)
                h++; /* else it reaches into the next region */
        }
    }
    mem_unpin(mem, pin);
    *n = count;
    return v;
}

static bool same_slot(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->gpa == b->gpa && a->len == b->len && a->host == b->host && a->flags == b->flags;
}

/* The wanted slot that starts there: they are sorted. */
static struct kvm_slot *find_slot(struct kvm_slot *v, unsigned n, uint64_t gpa)
{
    unsigned lo = 0;
    while (lo < n) {
        unsigned mid = (lo + n) / 2;
        if (v[mid].gpa == gpa)
            return &v[mid];
        if (v[mid].gpa < gpa)
            lo = mid + 1;
        else
            n = mid;
    }
    return NULL;
}

static int apply(struct kvm_vm *vm, struct kvm_slot *want, unsigned n)
{
    int rc = 0;
    if (n > vm->nslots)
        return err_set(VC_ELIMIT,
                       "memory in %u pieces: KVM has %u slots; map less, or devices that lie in "
                       "RAM closer together",
                       n, vm->nslots);
    for (unsigned i = 0; i < vm->nslots && !rc; i++) {
        struct kvm_slot *s = &vm->slot[i];
        if (!s->len)
            continue;
        struct kvm_slot *w = find_slot(want, n, s->gpa);
        if (w && same_slot(w, s)) {
            w->len = 0; /* is there */
            continue;
        }
        kvm_dirty_take(vm, i);
        rc = slot_set(vm, i, s, 0);
        if (!rc)
            s->len = 0;
    }
    for (unsigned i = 0, at = 0; i < n && !rc; i++) {
        if (!want[i].len)
            continue;
        while (vm->slot[at].len)
            at++;
        rc = slot_set(vm, at, &want[i], want[i].len);
        if (!rc)
            vm->slot[at] = want[i];
    }
    return rc;
}

int kvm_map_changed(struct backend_vm *bvm)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    unsigned n;
    pthread_mutex_lock(&vm->lock);
    struct kvm_slot *want = wanted_slots(vm->env.mem, &n);
    int rc = want ? 0 : err_set(VC_ENOMEM, "no host memory for the list of memory slots");
    if (!rc) {
        stop_all(vm);
        rc = apply(vm, want, n);
        start_all(vm);
    }
    free(want);
    if (vm->emu)
        backend_emu.map_changed(vm->emu);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}
