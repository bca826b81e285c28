/* SPDX-License-Identifier: MIT
 * Hypercalls of 32-bit code in a PVH guest: boot loaders make them, before a 64-bit kernel
 * runs. Where x86_32's structures differ, x86_64's are made of them in a buffer that
 * handlers find at XLAT_BASE, where no 32-bit address leads. */
#include "domain.h"
#include <xen/hvm/hvm_op.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/version.h>

enum { RAX, RCX, RDX, RBX, RBP = 5, RSI, RDI };

#define LIST_MAX 128u /* frames of a list that are looked at in one go */
_Static_assert(LIST_MAX >= GRANT_FRAMES_MAX, "a whole grant table's frames");

/* x86_32's layouts, by the public headers: pointers, longs and frame numbers have 4 bytes,
 * and 8-byte numbers are aligned to 4. */
struct setup_table32 {
    uint16_t dom;
    uint32_t nr_frames;
    int16_t status;
    uint32_t frame_list;
};
_Static_assert(sizeof(struct setup_table32) == 16, "x86_32's layout");
_Static_assert(offsetof(struct setup_table32, frame_list) == 12, "x86_32's layout");
struct add_to_physmap32 {
    uint16_t domid, size;
    uint32_t space, idx, gpfn;
};
_Static_assert(sizeof(struct add_to_physmap32) == 16, "x86_32's layout");
struct remove_from_physmap32 {
    uint16_t domid;
    uint32_t gpfn;
};
_Static_assert(offsetof(struct remove_from_physmap32, gpfn) == 4, "x86_32's layout");
struct memory_map32 {
    uint32_t nr_entries, buffer;
};
_Static_assert(sizeof(struct memory_map32) == 8, "x86_32's layout");
struct reservation32 {
    uint32_t extent_start, nr_extents, extent_order, mem_flags;
    uint16_t domid;
};
_Static_assert(sizeof(struct reservation32) == 20, "x86_32's layout");
struct poll32 {
    uint32_t ports, nr_ports, timeout_lo, timeout_hi;
};
_Static_assert(sizeof(struct poll32) == 16, "x86_32's layout");

/* And those that are the same. */
_Static_assert(sizeof(struct gnttab_query_size) == 16, "no pointers, nothing to align");
_Static_assert(sizeof(struct xen_hvm_param) == 16 && offsetof(struct xen_hvm_param, value) == 8,
               "aligned on x86_32, too");
_Static_assert(sizeof(struct sched_shutdown) == 4, "no pointers, nothing to align");
_Static_assert(sizeof(struct evtchn_status) == 24, "no pointers, nothing to align");

/* The buffer: a structure, and a list that it may point to. */
struct xlat {
    union {
        struct gnttab_setup_table setup_table;
        struct xen_add_to_physmap add;
        struct xen_remove_from_physmap remove;
        struct xen_memory_map map;
        struct xen_memory_reservation reservation;
        struct sched_poll poll;
    };
    uint64_t list[LIST_MAX];
};
_Static_assert(sizeof(struct xlat) <= XLAT_SIZE, "the buffer");
#define XLAT_LIST ((void *)(uintptr_t)(XLAT_BASE + offsetof(struct xlat, list)))

static inline void *pointer(uint32_t guest)
{
    return (void *)(uintptr_t)guest;
}

/* ---- lists of frames -------------------------------------------------------------------- */

static bool list_in(struct pv_vcpu *v, struct xlat *x, uint64_t at, unsigned n)
{
    uint32_t frames[LIST_MAX];
    if (!pv_copy_from(v, frames, at, n * sizeof *frames))
        return false;
    for (unsigned i = 0; i < n; i++)
        x->list[i] = frames[i];
    return true;
}

static bool list_out(struct pv_vcpu *v, const struct xlat *x, uint64_t at, unsigned n)
{
    uint32_t frames[LIST_MAX];
    for (unsigned i = 0; i < n; i++)
        frames[i] = (uint32_t)x->list[i];
    return pv_copy_to(v, at, frames, n * sizeof *frames);
}

/* ---- grant_table_op --------------------------------------------------------------------- */

static long setup_table(struct pv_vcpu *v, struct xlat *x, uint64_t at)
{
    struct setup_table32 s;
    const uint64_t a[6] = {GNTTABOP_setup_table, XLAT_BASE, 1};
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    x->setup_table = (struct gnttab_setup_table){.dom = s.dom, .nr_frames = s.nr_frames};
    x->setup_table.frame_list.p = XLAT_LIST;
    long rc = hc_grant_table_op(v, a);
    if (rc)
        return rc;
    s.status = x->setup_table.status;
    if (s.status == GNTST_okay &&
        (s.nr_frames > LIST_MAX || !list_out(v, x, s.frame_list, s.nr_frames)))
        return -XEN_EFAULT;
    return pv_copy_to(v, at, &s, sizeof s) ? 0 : -XEN_EFAULT;
}

static long grant_table_op(struct pv_vcpu *v, struct xlat *x, const uint64_t a[6])
{
    uint64_t at = a[1];
    long rc = 0;
    switch (a[0]) {
    case GNTTABOP_query_size:
    case GNTTABOP_get_version:
    case GNTTABOP_set_version: return hc_grant_table_op(v, a);
    case GNTTABOP_setup_table: break;
    default: return -XEN_ENOSYS;
    }
    for (uint32_t n = (uint32_t)a[2]; n && !rc; n--, at += sizeof(struct setup_table32))
        rc = pv_spend(v) ? setup_table(v, x, at) : -XEN_E2BIG;
    return rc;
}

/* ---- memory_op -------------------------------------------------------------------------- */

static long add_to_physmap(struct pv_vcpu *v, struct xlat *x, const uint64_t to[6], uint64_t at)
{
    struct add_to_physmap32 p;
    if (!pv_copy_from(v, &p, at, sizeof p))
        return -XEN_EFAULT;
    x->add = (struct xen_add_to_physmap){
        .domid = p.domid, .size = p.size, .space = p.space, .idx = p.idx, .gpfn = p.gpfn};
    return hc_memory_op(v, to);
}

static long remove_from_physmap(struct pv_vcpu *v, struct xlat *x, const uint64_t to[6],
                                uint64_t at)
{
    struct remove_from_physmap32 p;
    if (!pv_copy_from(v, &p, at, sizeof p))
        return -XEN_EFAULT;
    x->remove = (struct xen_remove_from_physmap){.domid = p.domid, .gpfn = p.gpfn};
    return hc_memory_op(v, to);
}

/* The entries are the same. */
static long memory_map(struct pv_vcpu *v, struct xlat *x, const uint64_t to[6], uint64_t at)
{
    struct memory_map32 m;
    if (!pv_copy_from(v, &m, at, sizeof m))
        return -XEN_EFAULT;
    x->map = (struct xen_memory_map){.nr_entries = m.nr_entries};
    x->map.buffer.p = pointer(m.buffer);
    long rc = hc_memory_op(v, to);
    m.nr_entries = x->map.nr_entries;
    return rc || pv_copy_to(v, at, &m, sizeof m) ? rc : -XEN_EFAULT;
}

/* How many extents were done. */
static long reservation(struct pv_vcpu *v, struct xlat *x, const uint64_t to[6], uint64_t at)
{
    struct reservation32 r;
    uint32_t done = 0;
    if (!pv_copy_from(v, &r, at, sizeof r))
        return -XEN_EFAULT;
    while (done < r.nr_extents) {
        unsigned n = (unsigned)min_u64(r.nr_extents - done, LIST_MAX);
        uint64_t list = r.extent_start + done * 4ull;
        if (to[0] != XENMEM_increase_reservation && !list_in(v, x, list, n))
            break;
        x->reservation = (struct xen_memory_reservation){.nr_extents = n,
                                                         .extent_order = r.extent_order,
                                                         .mem_flags = r.mem_flags,
                                                         .domid = r.domid};
        x->reservation.extent_start.p = XLAT_LIST;
        long rc = hc_memory_op(v, to);
        if (rc < 0 && !done)
            return rc;
        if (rc <= 0 ||
            (to[0] != XENMEM_decrease_reservation && !list_out(v, x, list, (unsigned)rc)))
            break;
        done += (uint32_t)rc;
        if (rc < (long)n)
            break;
    }
    return (long)done;
}

static long memory_op(struct pv_vcpu *v, struct xlat *x, const uint64_t a[6])
{
    const uint64_t to[6] = {a[0] & 0x3f, XLAT_BASE};
    switch (to[0]) {
    case XENMEM_add_to_physmap: return add_to_physmap(v, x, to, a[1]);
    case XENMEM_remove_from_physmap: return remove_from_physmap(v, x, to, a[1]);
    case XENMEM_memory_map: return memory_map(v, x, to, a[1]);
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap: return reservation(v, x, to, a[1]);
    case XENMEM_maximum_ram_page:
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation: return hc_memory_op(v, a);
    default: return -XEN_ENOSYS;
    }
}

/* ---- the rest --------------------------------------------------------------------------- */

static long sched_op(struct pv_vcpu *v, struct xlat *x, const uint64_t a[6])
{
    const uint64_t to[6] = {SCHEDOP_poll, XLAT_BASE};
    struct poll32 p;
    if (a[0] != SCHEDOP_poll)
        return hc_sched_op(v, a);
    if (!pv_copy_from(v, &p, a[1], sizeof p))
        return -XEN_EFAULT;
    x->poll = (struct sched_poll){.nr_ports = p.nr_ports,
                                  .timeout = (uint64_t)p.timeout_hi << 32 | p.timeout_lo};
    x->poll.ports.p = pointer(p.ports);
    return hc_sched_op(v, to);
}

/* A long of the 32-bit ABI, where that hypervisor's part of the addresses would begin. */
static long xen_version(struct pv_vcpu *v, const uint64_t a[6])
{
    const uint32_t virt_start = 0xf5800000;
    if (a[0] != XENVER_platform_parameters)
        return hc_xen_version(v, a);
    return pv_copy_to(v, a[1], &virt_start, sizeof virt_start) ? 0 : -XEN_EFAULT;
}

static long call(struct pv_vcpu *v, struct xlat *x, uint32_t nr, const uint64_t a[6])
{
    switch (nr) {
    case __HYPERVISOR_grant_table_op: return grant_table_op(v, x, a);
    case __HYPERVISOR_memory_op: return memory_op(v, x, a);
    case __HYPERVISOR_sched_op: return sched_op(v, x, a);
    case __HYPERVISOR_xen_version: return xen_version(v, a);
    case __HYPERVISOR_event_channel_op: return hc_event_channel_op(v, a);
    case __HYPERVISOR_hvm_op: return hc_hvm_op(v, a);
    case __HYPERVISOR_console_io: return hc_console_io(v, a);
    case __HYPERVISOR_vm_assist: return hc_vm_assist(v, a);
    case __HYPERVISOR_vcpu_op: return a[0] == VCPUOP_is_up ? hc_vcpu_op(v, a) : -XEN_ENOSYS;
    default: return -XEN_ENOSYS; /* of another layout, or not a boot loader's */
    }
}

void pv_hypercall32(struct pv_vcpu *v)
{
    uint64_t *g = v->d->eng->gprs(v->bc);
    const uint64_t a[6] = {(uint32_t)g[RBX], (uint32_t)g[RCX], (uint32_t)g[RDX],
                           (uint32_t)g[RSI], (uint32_t)g[RDI], (uint32_t)g[RBP]};
    struct xlat x = {0};
    pv_work_begin(v);
    v->xlat = &x;
    long rc = call(v, &x, (uint32_t)g[RAX], a);
    v->xlat = NULL;
    g[RAX] = (uint32_t)rc;
}
