/* SPDX-License-Identifier: MIT
 * What memory the guest has: the map, and how much. */
#include "domain.h"
#include "../boot/layout.h"
#include <xen/memory.h>

/* A PV guest's frames are numbered without holes: one entry. A PVH guest has a PC's. */
static long memory_map(struct pv_vcpu *v, uint64_t at)
{
    struct pv_domain *d = v->d;
    struct xen_memory_map m;
    struct e820_entry {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) e[MEMMAP_MAX];
    struct memmap_entry map[MEMMAP_MAX] = {{0, d->npfn << 12, MEMMAP_RAM}};
    const struct boot_ram ram = {.low = d->host.ram_low,
                                 .high = d->host.ram_high,
                                 .reserved = d->hidden,
                                 .reserved_len = d->hidden_len};
    unsigned n = d->pvh ? layout_memmap(&ram, map) : 1;
    if (!pv_copy_from(v, &m, at, sizeof m))
        return -XEN_EFAULT;
    if (m.nr_entries < n)
        return -XEN_EINVAL;
    m.nr_entries = n;
    for (unsigned i = 0; i < n; i++)
        e[i] = (struct e820_entry){map[i].addr, map[i].len, map[i].type};
    if (!pv_copy_to(v, (uint64_t)(uintptr_t)m.buffer.p, e, n * sizeof *e) ||
        !pv_copy_to(v, at, &m, sizeof m))
        return -XEN_EFAULT;
    return 0;
}

static long machphys_mapping(struct pv_vcpu *v, uint64_t at)
{
    const struct xen_machphys_mapping m = {
        .v_start = MACH2PHYS_VIRT_START,
        .v_end = MACH2PHYS_VIRT_END,
        .max_mfn = v->d->special - 1,
    };
    return pv_copy_to(v, at, &m, sizeof m) ? 0 : -XEN_EFAULT;
}

static long quantity(struct pv_vcpu *v, uint64_t at, uint64_t frames)
{
    domid_t id;
    if (!pv_copy_from(v, &id, at, sizeof id))
        return -XEN_EFAULT;
    return pv_own(id) ? (long)frames : -XEN_EPERM;
}

long hc_memory_op(struct pv_vcpu *v, const uint64_t a[6])
{
    unsigned cmd = (uint32_t)a[0] & 0x3f;
    switch (cmd) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap: return hc_reservation(v, a);
    case XENMEM_maximum_ram_page: return (long)(v->d->special - 1);
    case XENMEM_current_reservation: return quantity(v, a[1], v->d->frames);
    case XENMEM_maximum_reservation: return quantity(v, a[1], atomic_load(&v->d->limit));
    case XENMEM_machphys_mapping: return v->d->pvh ? -XEN_ENOSYS : machphys_mapping(v, a[1]);
    case XENMEM_add_to_physmap:
    case XENMEM_remove_from_physmap: return hc_physmap_op(v, a);
    case XENMEM_memory_map: return memory_map(v, a[1]);
    case XENMEM_machine_memory_map: return -XEN_EPERM;
    default: return -XEN_ENOSYS;
    }
}
