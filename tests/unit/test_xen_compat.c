/* SPDX-License-Identifier: MIT
 * Hypercalls of 32-bit code in a PVH guest, as PVH-GRUB makes them. */
#include "xen_pvh_rig.h"
#include <xen/memory.h>
#include <xen/sched.h>

/* The upper halves of registers are nobody's. */
static int32_t call32(struct rig *r, uint32_t nr, uint32_t b, uint32_t c, uint32_t d)
{
    uint64_t *g = r->d->eng->gprs(r->v->bc), junk = 0xdeadbeefull << 32;
    g[0] = junk | nr;
    g[3] = junk | b;
    g[1] = junk | c;
    g[2] = junk | d;
    pv_hypercall32(r->v);
    cr_assert_null(r->v->xlat);
    cr_assert_leq(g[0], UINT32_MAX);
    return (int32_t)g[0];
}

static uint32_t *words(const struct rig *r)
{
    return (uint32_t *)r->scratch;
}

Test(xen_compat, grants)
{
    struct rig r = rig_pvh(1);
    uint32_t *w = words(&r), at = (uint32_t)r.at, *list = w + 16;
    const uint32_t nr = __HYPERVISOR_grant_table_op, first = (uint32_t)r.d->special + SPECIAL_GRANT;
    const uint32_t ask[4] = {DOMID_SELF, 3, 0x77, at + 64};
    memcpy(w, ask, sizeof ask);
    memset(list, 0x55, 512);
    cr_assert_eq(call32(&r, nr, GNTTABOP_setup_table, at, 1), 0);
    cr_assert_eq((int16_t)w[2], GNTST_okay);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(list[i], first + i);
    cr_assert_eq(list[3], 0x55555555);
    cr_assert_eq(w[3], at + 64);
    w[1] = GRANT_FRAMES_MAX + 1;
    cr_assert_eq(call32(&r, nr, GNTTABOP_setup_table, at, 1), 0);
    cr_assert_eq((int16_t)w[2], GNTST_general_error);
    w[1] = GRANT_FRAMES_MAX;
    cr_assert_eq(call32(&r, nr, GNTTABOP_setup_table, at, 1), 0);
    cr_assert_eq((int16_t)w[2], GNTST_okay);
    cr_assert_eq(list[GRANT_FRAMES_MAX - 1], first + GRANT_FRAMES_MAX - 1);
    w[3] = HOLE << 12; /* nothing is there */
    cr_assert_eq(call32(&r, nr, GNTTABOP_setup_table, at, 1), -XEN_EFAULT);
    cr_assert_eq(call32(&r, nr, GNTTABOP_setup_table, HOLE << 12, 1), -XEN_EFAULT);
    w[0] = DOMID_SELF;
    cr_assert_eq(call32(&r, nr, GNTTABOP_query_size, at, 1), 0);
    cr_assert_eq(w[1], GRANT_FRAMES_MAX);
    cr_assert_eq(call32(&r, nr, GNTTABOP_map_grant_ref, at, 1), -XEN_ENOSYS);
    vc_close(r.vm);
}

Test(xen_compat, places)
{
    struct rig r = rig_pvh(1);
    uint32_t *w = words(&r), at = (uint32_t)r.at;
    const uint32_t add[4] = {DOMID_SELF, XENMAPSPACE_shared_info, 0, 0x300};
    memcpy(w, add, sizeof add);
    cr_assert_eq(call32(&r, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, at, 0), 0);
    cr_assert_eq((void *)r.d->shared, pv_frame_ptr(r.d, 0x300));
    w[1] = 0x300;
    cr_assert_eq(call32(&r, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, at, 0), 0);
    cr_assert_neq((void *)r.d->shared, pv_frame_ptr(r.d, 0x300));
    w[0] = 5;
    cr_assert_eq(call32(&r, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, at, 0), -XEN_EPERM);
    vc_close(r.vm);
}

Test(xen_compat, memory_map)
{
    struct rig r = rig_pvh(1);
    uint32_t *w = words(&r), at = (uint32_t)r.at;
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) *e = (void *)(w + 16);
    w[0] = 16;
    w[1] = at + 64;
    cr_assert_eq(call32(&r, __HYPERVISOR_memory_op, XENMEM_memory_map, at, 0), 0);
    cr_assert(w[0] > 1 && w[0] < 16);
    cr_assert_eq(e[0].addr, 0);
    cr_assert_eq(e[w[0] - 1].addr, r.d->special << 12);
    w[0] = 1;
    cr_assert_eq(call32(&r, __HYPERVISOR_memory_op, XENMEM_memory_map, at, 0), -XEN_EINVAL);
    vc_close(r.vm);
}

/* Longer than what is looked at in one go. */
Test(xen_compat, memory_goes_and_comes)
{
    enum { N = 300 };
    struct rig r = rig_pvh(1);
    uint32_t *w = words(&r), at = (uint32_t)r.at, *list = w + 16;
    const uint32_t nr = __HYPERVISOR_memory_op, ask[5] = {at + 64, N, 0, 0, DOMID_SELF};
    uint64_t had = r.d->frames;
    memcpy(w, ask, sizeof ask);
    for (unsigned i = 0; i < N; i++)
        list[i] = 0x400 + i;
    cr_assert_eq(call32(&r, nr, XENMEM_decrease_reservation, at, 0), N);
    cr_assert_eq(r.d->frames, had - N);
    cr_assert_eq(call32(&r, nr, XENMEM_decrease_reservation, at, 0), 0);
    list[200] = (uint32_t)r.d->special; /* up to there */
    cr_assert_eq(call32(&r, nr, XENMEM_populate_physmap, at, 0), 200);
    cr_assert_eq(list[199], 0x400 + 199);
    list[200] = 0x400 + 200;
    w[0] += 200 * 4;
    w[1] = N - 200;
    cr_assert_eq(call32(&r, nr, XENMEM_populate_physmap, at, 0), N - 200);
    cr_assert_eq(r.d->frames, had);
    w[0] = 0xfffffff8; /* a list that ends behind 4 GiB */
    cr_assert_eq(call32(&r, nr, XENMEM_decrease_reservation, at, 0), 0);
    w[4] = 7;
    w[0] = at + 64;
    cr_assert_eq(call32(&r, nr, XENMEM_decrease_reservation, at, 0), -XEN_EPERM);
    vc_close(r.vm);
}

Test(xen_compat, the_rest)
{
    struct rig r = rig_pvh(1);
    uint32_t *w = words(&r), at = (uint32_t)r.at;
    const uint32_t poll[5] = {at + 16, 1, 0, 0, r.d->store_port};
    memcpy(w, poll, sizeof poll);
    pv_port_notify(r.d, r.d->store_port); /* pending: it does not wait */
    cr_assert_eq(call32(&r, __HYPERVISOR_sched_op, SCHEDOP_poll, at, 0), 0);
    w[4] = UINT32_MAX;
    cr_assert_eq(call32(&r, __HYPERVISOR_sched_op, SCHEDOP_poll, at, 0), -XEN_EINVAL);
    w[0] = UINT32_MAX;
    cr_assert_eq(call32(&r, __HYPERVISOR_sched_op, SCHEDOP_poll, at, 0), -XEN_EFAULT);
    cr_assert_eq(call32(&r, __HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0), 0);
    cr_assert_eq(call32(&r, __HYPERVISOR_xen_version, 0, 0, 0), 4 << 16 | 17);
    w[1] = 0x55555555;
    cr_assert_eq(call32(&r, __HYPERVISOR_xen_version, 5, at, 0), 0);
    cr_assert_eq(w[1], 0x55555555); /* a long has 4 bytes */
    cr_assert_eq(call32(&r, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 0, 0), 1);
    cr_assert_eq(call32(&r, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 0, at), -XEN_ENOSYS);
    cr_assert_eq(call32(&r, __HYPERVISOR_multicall, at, 1, 0), -XEN_ENOSYS);
    cr_assert_eq(call32(&r, UINT32_MAX, 0, 0, 0), -XEN_ENOSYS);
    vc_close(r.vm);
}

/* Whatever it says: the host lives, and no word of the buffer is left behind. */
Test(xen_compat, any_hypercall)
{
    struct rig r = rig_pvh(2);
    uint64_t seed = 1;
    uint32_t *w = words(&r), at = (uint32_t)r.at;
    static const uint8_t calls[] = {__HYPERVISOR_memory_op,        __HYPERVISOR_grant_table_op,
                                    __HYPERVISOR_xen_version,      __HYPERVISOR_hvm_op,
                                    __HYPERVISOR_event_channel_op, __HYPERVISOR_console_io,
                                    __HYPERVISOR_vm_assist,        __HYPERVISOR_vcpu_op};
    for (unsigned i = 0; i < 20000; i++) {
        for (unsigned k = 0; k < 8; k++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            uint32_t x = (uint32_t)(seed >> 33);
            w[k] = x % 3 ? x % 5 ? x % 70 : at + x % 4096 : x % 7 ? DOMID_SELF : ~(x % 64);
        }
        call32(&r, calls[seed >> 40 & 7], (uint32_t)(seed >> 50) % 24,
               seed >> 62 ? at : (uint32_t)(seed >> 30), (uint32_t)(seed >> 47) % 4);
    }
    vc_close(r.vm);
}
