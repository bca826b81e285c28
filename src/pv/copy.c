/* SPDX-License-Identifier: MIT
 * The guest's memory as its kernel sees it: what hypercalls point to. Each structure
 * is copied once, then looked at. */
#include "domain.h"
#include "../mmu/guest.h"

/* A PVH guest has all addresses; the engine looks whether they are canonical. */
static bool va_ok(const struct pv_vcpu *v, uint64_t va)
{
    return v->d->pvh || pv_va_allowed(va);
}

/* Of a 32-bit hypercall: bytes of the buffer, or none. */
static void *xlat_ptr(const struct pv_vcpu *v, uint64_t va, size_t n)
{
    return va >= XLAT_BASE && va - XLAT_BASE <= XLAT_SIZE && n <= XLAT_SIZE - (va - XLAT_BASE)
               ? (uint8_t *)v->xlat + (va - XLAT_BASE)
               : NULL;
}

/* It may not lead out of 4 GiB, as no pointer of 32 bits does. */
static bool xlat_beyond(const struct pv_vcpu *v, uint64_t va, size_t n)
{
    return v->xlat && (va > UINT32_MAX || n > BIT64(32) - va);
}

bool pv_copy_from(struct pv_vcpu *v, void *to, uint64_t va, size_t n)
{
    uint8_t *t = to;
    if (unlikely(xlat_beyond(v, va, n))) {
        const void *p = xlat_ptr(v, va, n);
        if (p)
            memcpy(to, p, n);
        return p;
    }
    while (n) {
        size_t k = min_u64(n, PAGE - (va & (PAGE - 1)));
        const void *p = va_ok(v, va) ? v->d->eng->ptr(v->bc, va, PV_READ, NULL) : NULL;
        if (!p)
            return false;
        guest_copy(t, p, k);
        t += k;
        va += k;
        n -= k;
    }
    return true;
}

bool pv_copy_to(struct pv_vcpu *v, uint64_t va, const void *from, size_t n)
{
    const uint8_t *f = from;
    if (unlikely(xlat_beyond(v, va, n))) {
        void *p = xlat_ptr(v, va, n);
        if (p)
            memcpy(p, from, n);
        return p;
    }
    while (n) {
        uint64_t gpa;
        size_t k = min_u64(n, PAGE - (va & (PAGE - 1)));
        /* From the walk to the store: another vCPU that takes the mapping away waits
         * before the frame becomes a table (pv_flush_everywhere). */
        atomic_store(&v->storing, true);
        void *p = va_ok(v, va) ? v->d->eng->ptr(v->bc, va, PV_WRITE, &gpa) : NULL;
        if (p)
            guest_copy(p, f, k);
        atomic_store_explicit(&v->storing, false, memory_order_release);
        if (!p)
            return false;
        v->d->eng->stored(v->bc, gpa, (unsigned)k);
        f += k;
        va += k;
        n -= k;
    }
    return true;
}
