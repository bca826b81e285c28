/* SPDX-License-Identifier: MIT
 * Memory regions: the public calls over src/mmu/mem.c. */
#include "vm.h"
#include "../base/err.h"

bool vm_overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

/* The pages a PC's interrupt controllers answer at. */
static bool claimed(struct vc_vm *vm, uint64_t gpa, uint64_t len)
{
    return vm->pc && gpa + len >= gpa &&
           (vm_overlaps(gpa, len, PC_IOAPIC_BASE, PAGE_SIZE_4K) ||
            vm_overlaps(gpa, len, PC_LAPIC_BASE, PAGE_SIZE_4K));
}

static bool is_private(struct vc_vm *vm, uint64_t gpa)
{
    return vm->long64_tables && gpa == LONG64_BASE;
}

/* With the partition paused: engines take the new map, then the old ones go. */
int vm_map_renew(struct vc_vm *vm)
{
    int rc = vm_map_changed(vm);
    mem_reclaim(&vm->mem);
    return rc;
}

static int map_region(vc_vm *vm, uint64_t gpa, uint64_t len, uint32_t prot, void *host)
{
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    if (claimed(vm, gpa, len))
        rc = err_set(VC_EEXIST, "the interrupt controllers at %#llx and %#llx are in the way",
                     PC_IOAPIC_BASE, PC_LAPIC_BASE);
    else if (vm_trap_in_way(vm, gpa, len))
        rc = err_set(VC_EEXIST, "a trap that is not page-aligned lies in %#llx of %#llx bytes",
                     (unsigned long long)gpa, (unsigned long long)len);
    else
        rc = mem_add(&vm->mem, gpa, len, prot, host);
    if (!rc) {
        rc = vm_map_renew(vm);
        if (rc) {
            mem_del(&vm->mem, gpa, len);
            vm_map_renew(vm);
        }
    }
    vm_resume(vm);
    return rc;
}

int vc_map(vc_vm *vm, uint64_t gpa, uint64_t len, uint32_t prot)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    return map_region(vm, gpa, len, prot, NULL);
}

int vc_map_host(vc_vm *vm, uint64_t gpa, uint64_t len, uint32_t prot, void *host)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (!host)
        return err_set(VC_EINVAL, "host is NULL: vc_map() gives the partition its own memory");
    return map_region(vm, gpa, len, prot, host);
}

int vc_unmap(vc_vm *vm, uint64_t gpa, uint64_t len)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    if (vm->pv)
        rc = err_set(VC_EBUSY, "a paravirtual guest's memory stays as it is");
    else if (is_private(vm, gpa))
        rc = err_set(VC_EBUSY, "the tables of VC_MODE_LONG64 lie at %#llx", LONG64_BASE);
    else
        rc = mem_del(&vm->mem, gpa, len);
    if (!rc)
        vm_map_renew(vm);
    vm_resume(vm);
    return rc;
}

int vc_read(vc_vm *vm, uint64_t gpa, void *buf, size_t len)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    return mem_read(&vm->mem, gpa, buf, len);
}

int vc_write(vc_vm *vm, uint64_t gpa, const void *buf, size_t len)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    return mem_write(&vm->mem, gpa, buf, len);
}

void *vc_ptr(vc_vm *vm, uint64_t gpa, size_t len)
{
    if (!vm) {
        err_null("vm");
        return NULL;
    }
    err_begin();
    void *p = mem_ptr(&vm->mem, gpa, len);
    if (!p)
        err_set(VC_EFAULT, "guest memory %#llx of %#zx bytes is not inside one region",
                (unsigned long long)gpa, len);
    return p;
}

int vc_dirty_log(vc_vm *vm, uint64_t gpa, uint64_t len, void *bitmap, size_t bytes)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    if (vm->be->dirty_sync && vm->bvm)
        vm->be->dirty_sync(vm->bvm);
    rc = mem_dirty_fetch(&vm->mem, gpa, len, bitmap, bytes);
    vm_resume(vm);
    return rc;
}
