/* SPDX-License-Identifier: MIT
 * A PVH guest: how it starts, where it puts what it shares with the hypervisor, how it
 * learns of events; and hypercalls of a hostile one. */
#include "xen_pvh_rig.h"
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/features.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/version.h>

/* ---- start -------------------------------------------------------------------------------- */

Test(xen_pvh, what_it_finds)
{
    struct rig r = rig_pvh(1);
    struct vc_gprs g = {.size = sizeof g};
    struct hvm_start_info s;
    struct hvm_memmap_table_entry map[8];
    char line[16];
    cr_assert_eq(vc_gprs_get(r.vm->cpu[0], &g), 0);
    cr_assert_eq(g.rip, RIG_LOAD);
    cr_assert_eq(vc_read(r.vm, g.gpr[3], &s, sizeof s), 0);
    cr_assert_eq(s.magic, XEN_HVM_START_MAGIC_VALUE);
    cr_assert_eq(s.version, 1);
    cr_assert_eq(s.rsdp_paddr, PC_RSDP);
    cr_assert_eq(vc_read(r.vm, s.cmdline_paddr, line, 11), 0);
    cr_assert_str_eq(line, "to be read");
    cr_assert_leq(s.memmap_entries, 8);
    cr_assert_eq(vc_read(r.vm, s.memmap_paddr, map, s.memmap_entries * sizeof *map), 0);
    const struct hvm_memmap_table_entry *last = &map[s.memmap_entries - 1];
    cr_assert_eq(last->addr, r.d->special << 12); /* the rings are not RAM */
    cr_assert_eq(last->size, SPECIAL_COUNT * PAGE);
    cr_assert_eq(last->type, XEN_HVM_MEMMAP_TYPE_RESERVED);
    vc_close(r.vm);
}

Test(xen_pvh, refused_images_and_backends)
{
    vc_vm *vm = rig_vm(1);
    struct rig_image im = rig_image();
    cr_assert_eq(pvh_boot(vm, &im), VC_EFORMAT); /* PV's notes only */
    im = pvh_image();
    im.note[0].desc = 0x90000000;
    cr_assert_eq(pvh_boot(vm, &im), VC_EFORMAT);
    im = pvh_image();
    cr_assert_eq(pvh_boot(vm, &im), 0, "%s", vc_errmsg());
    cr_assert_eq(pvh_boot(vm, &im), 0, "%s", vc_errmsg()); /* anew */
    struct rig_image pv = rig_image();
    cr_assert_eq(rig_boot(vm, &pv, sizeof pv), 0, "%s", vc_errmsg());
    cr_assert_eq(pvh_boot(vm, &im), 0, "%s", vc_errmsg());
    vc_close(vm);

    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 32u << 20, .cpus = 1};
    vm = vc_open("emu", NULL);
    cr_assert_eq(vc_pc(vm, &pc), 0);
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_RESET, 0));
    cr_assert_eq(pvh_boot(vm, &im), VC_ENOTSUP);
    vc_close(vm);
}

/* The engine's part: CPUID, the register of the hypercall page, VMCALL. Bytes of a
 * device that it has not float. */
Test(xen_pvh, the_processor)
{
    static const uint8_t code[] = {
        0xb8, 0x00, 0x00, 0x00, 0x40, 0x0f, 0xa2,             /* mov eax, 40000000h; cpuid */
        0x89, 0x1d, 0x00, 0x00, 0x05, 0x00,                   /* mov [50000h], ebx */
        0xb9, 0x00, 0x00, 0x00, 0x40, 0xb8, 0x00, 0x10, 0x05, /* mov ecx, 40000000h; */
        0x00, 0x31, 0xd2, 0x0f, 0x30,             /* mov eax, 51000h; xor edx, edx; wrmsr */
        0xb8, 0x11, 0x00, 0x00, 0x00, 0x31, 0xdb, /* mov eax, 17; xor ebx, ebx */
        0x0f, 0x01, 0xc1,                         /* vmcall */
        0xa3, 0x04, 0x00, 0x05, 0x00,             /* mov [50004h], eax */
        0xba, 0xfd, 0x03, 0x00, 0x00, 0xec,       /* mov edx, 3fdh; in al, dx */
        0xe6, 0xf4,                               /* out f4h, al */
    };
    struct rig r = rig_code(1, code, sizeof code);
    struct vc_budget b = {.size = sizeof b, .insns = 1000000};
    struct vc_exit e = {.size = sizeof e};
    uint32_t seen[2];
    const uint8_t entry[9] = {0xb8, 17, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3};
    uint8_t page[9];
    cr_assert_eq(vc_run(r.vm->cpu[0], &b, &e), 0, "%s", vc_errmsg());
    cr_assert_eq(e.kind, VC_EXIT_POWER, "%u at %llx", e.kind, (unsigned long long)e.rip);
    cr_assert_eq(vc_read(r.vm, 0x50000, seen, sizeof seen), 0);
    cr_assert_eq(seen[0], 0x566e6558);   /* "XenV" */
    cr_assert_eq(seen[1], 4 << 16 | 17); /* from 32-bit code */
    cr_assert_eq(vc_read(r.vm, 0x51000 + 17 * 32, page, sizeof page), 0);
    cr_assert_arr_eq(page, entry, sizeof page);
    vc_close(r.vm);
}

/* ---- hypercalls ----------------------------------------------------------------------------- */

Test(xen_pvh, features)
{
    struct rig r = rig_pvh(1);
    struct xen_feature_info f = {0};
    cr_assert_eq(with(&r, hc_xen_version, XENVER_get_features, &f, sizeof f), 0);
    cr_assert_eq(f.submap, 0x00012305); /* as real Xen gives it */
    vc_close(r.vm);
}

Test(xen_pvh, parameters)
{
    struct rig r = rig_pvh(1);
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = HVM_PARAM_STORE_PFN};
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_get_param, &p, sizeof p), 0);
    cr_assert_eq(p.value, r.d->store_mfn);
    p.index = HVM_PARAM_CONSOLE_EVTCHN;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_get_param, &p, sizeof p), 0);
    cr_assert_eq(p.value, r.d->console_port);
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_set_param, &p, sizeof p), -XEN_EPERM);
    p.index = HVM_PARAM_IDENT_PT;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_get_param, &p, sizeof p), -XEN_EPERM);
    p.index = HVM_NR_PARAMS;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_get_param, &p, sizeof p), -XEN_EINVAL);
    p.domid = 7;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_get_param, &p, sizeof p), -XEN_EPERM);
    cr_assert_eq(with(&r, hc_hvm_op, 99, &p, sizeof p), -XEN_ENOSYS);
    const uint64_t nowhere[6] = {HVMOP_get_param, HOLE << 12};
    cr_assert_eq(hc_hvm_op(r.v, nowhere), -XEN_EFAULT);
    vc_close(r.vm);
}

static long add(struct rig *r, unsigned space, uint64_t idx, uint64_t gfn)
{
    struct xen_add_to_physmap x = {.domid = DOMID_SELF, .space = space, .idx = idx, .gpfn = gfn};
    return with(r, hc_memory_op, XENMEM_add_to_physmap, &x, sizeof x);
}

static long take_away(struct rig *r, uint64_t gfn)
{
    struct xen_remove_from_physmap x = {.domid = DOMID_SELF, .gpfn = gfn};
    return with(r, hc_memory_op, XENMEM_remove_from_physmap, &x, sizeof x);
}

Test(xen_pvh, shared_info_moves)
{
    struct rig r = rig_pvh(2);
    uint64_t mul = r.d->shared->vcpu_info[1].time.tsc_to_system_mul;
    cr_assert_neq(mul, 0);
    const uint64_t at[] = {0x60, HOLE, 0x61, HOLE + 7, 0x60};
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        struct shared_info s;
        cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 0, at[i]), 0, "%u", i);
        cr_assert_eq(vc_read(r.vm, at[i] << 12, &s, sizeof s), 0);
        cr_assert_eq(s.vcpu_info[1].time.tsc_to_system_mul, mul);
        r.d->shared->wc_sec = i;
        cr_assert_eq(vc_read(r.vm, at[i] << 12, &s, sizeof s), 0);
        cr_assert_eq(s.wc_sec, i);
        cr_assert_eq(r.d->vcpu[1].info, &r.d->shared->vcpu_info[1]);
        if (i) /* where it was, it is no more */
            cr_assert_eq(r.d->page[0x60].types, at[i] == 0x60);
    }
    cr_assert_neq(vc_read(r.vm, HOLE << 12, &mul, 8), 0);
    cr_assert_eq(take_away(&r, 0x60), 0);
    cr_assert_eq(take_away(&r, 0x60), -XEN_ENOENT);
    cr_assert_eq(r.d->page[0x60].refs, 1);
    vc_close(r.vm);
}

Test(xen_pvh, refused_places)
{
    struct rig r = rig_pvh(1);
    const uint64_t bad[] = {MEM_GPA_MAX >> 12, UINT64_MAX,   UINT64_MAX >> 12,
                            BIT64(52),         r.d->special, r.d->special + SPECIAL_STORE};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_lt(add(&r, XENMAPSPACE_shared_info, 0, bad[i]), 0, "%u", i);
    cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 1, 0x60), -XEN_EINVAL);
    cr_assert_eq(add(&r, XENMAPSPACE_grant_table, GRANT_FRAMES_MAX, 0x60), -XEN_EINVAL);
    cr_assert_eq(add(&r, XENMAPSPACE_grant_table, XENMAPIDX_grant_table_status, 0x60), -XEN_EINVAL);
    cr_assert_eq(add(&r, XENMAPSPACE_gmfn, 0x61, 0x60), -XEN_EOPNOTSUPP);
    cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 0, 0x60), 0);
    cr_assert_eq(add(&r, XENMAPSPACE_grant_table, 0, 0x60), -XEN_EBUSY);
    vc_close(r.vm);
}

Test(xen_pvh, to_and_fro)
{
    struct rig r = rig_pvh(1);
    for (unsigned n = 0; n < 200; n++)
        cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 0, HOLE + n % 2), 0);
    cr_assert_eq(r.d->host.mem->nretired, 0); /* nobody runs */
    cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 0, 0x60), 0);
    vc_close(r.vm);
}

Test(xen_pvh, a_grant_through_a_moved_table)
{
    struct rig r = rig_pvh(1);
    uint64_t gpa;
    cr_assert_eq(add(&r, XENMAPSPACE_grant_table, 1, HOLE), 0);
    struct grant_entry_v1 g = {GTF_permit_access, BACK_END, 0x70};
    cr_assert_eq(vc_write(r.vm, HOLE << 12, &g, sizeof g), 0);
    cr_assert_eq(pv_grant_map(r.d, GRANTS_PER_FRAME, true, &gpa), pv_frame_ptr(r.d, 0x70));
    cr_assert_eq(gpa, 0x70000);
    cr_assert_eq(add(&r, XENMAPSPACE_grant_table, 1, 0x62), 0);
    cr_assert_eq(vc_read(r.vm, 0x62000, &g, sizeof g), 0);
    cr_assert_eq(g.flags, GTF_permit_access | GTF_reading | GTF_writing);
    pv_grant_unmap(r.d, GRANTS_PER_FRAME, true, gpa);
    cr_assert_eq(vc_read(r.vm, 0x62000, &g, sizeof g), 0);
    cr_assert_eq(g.flags, GTF_permit_access);
    g.frame = (uint32_t)HOLE; /* not the guest's */
    cr_assert_eq(vc_write(r.vm, 0x62000, &g, sizeof g), 0);
    cr_assert_null(pv_grant_map(r.d, GRANTS_PER_FRAME, true, &gpa));
    vc_close(r.vm);
}

Test(xen_pvh, memory_goes_and_comes)
{
    struct rig r = rig_pvh(1);
    uint64_t frames = r.d->frames, *list = r.scratch + 64;
    struct xen_memory_reservation m = {.nr_extents = 2, .domid = DOMID_SELF};
    set_xen_guest_handle(m.extent_start, (xen_pfn_t *)(uintptr_t)(r.at + 512));
    cr_assert_eq(add(&r, XENMAPSPACE_shared_info, 0, 0x60), 0);
    list[0] = 0x80;
    list[1] = 0x60; /* in use */
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_decrease_reservation, &m, sizeof m), 1);
    cr_assert_eq(r.d->frames, frames - 1);
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_decrease_reservation, &m, sizeof m), 0);
    list[0] = 0x80;
    list[1] = HOLE; /* never the guest's */
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_populate_physmap, &m, sizeof m), 1);
    cr_assert_eq(r.d->frames, frames);
    cr_assert_eq(r.d->page[0x80].refs, 1);
    vc_close(r.vm);
}

/* ---- events -------------------------------------------------------------------------------- */

Test(xen_pvh, an_event_is_an_interrupt)
{
    struct rig r = rig_pvh(2);
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 1, .vector = 0xf3};
    struct evtchn_bind_ipi ipi = {.vcpu = 1};
    _Atomic uint32_t *pending = &r.vm->cpu[1]->mail.pending;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_set_evtchn_upcall_vector, &u, sizeof u), 0);
    cr_assert_eq(with(&r, hc_event_channel_op, EVTCHNOP_bind_ipi, &ipi, sizeof ipi), 0);
    cr_assert_not(atomic_load(pending) & PEND_IRQ);
    struct evtchn_send s = {ipi.port};
    cr_assert_eq(with(&r, hc_event_channel_op, EVTCHNOP_send, &s, sizeof s), 0);
    cr_assert(atomic_load(pending) & PEND_IRQ);
    cr_assert_eq(irqchip_ack(r.vm->irq, 1), 0xf3);
    cr_assert_not(atomic_load(pending) & PEND_IRQ);
    cr_assert(pv_upcall_pending(&r.d->vcpu[1])); /* the guest did not look yet */
    u.vector = 15;
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_set_evtchn_upcall_vector, &u, sizeof u), -XEN_EINVAL);
    u = (struct xen_hvm_evtchn_upcall_vector){.vcpu = 2, .vector = 32};
    cr_assert_eq(with(&r, hc_hvm_op, HVMOP_set_evtchn_upcall_vector, &u, sizeof u), -XEN_ENOENT);
    vc_close(r.vm);
}

/* ---- a hostile guest ------------------------------------------------------------------------- */

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 20;
}

/* A word that is often nearly right. */
static uint64_t word(uint64_t *seed)
{
    static const uint64_t words[] = {0,       1,         2,          0x7ff0,    0x60,
                                     0x80,    0x1fff,    HOLE,       4096,      0x40000,
                                     0x40ffc, 0x1fffff8, UINT64_MAX, 0x80000000};
    uint64_t n = next(seed);
    return n % 4 ? words[n / 4 % ARRAY_LEN(words)] : next(seed) >> n / 4 % 40;
}

Test(xen_pvh, any_hypercall)
{
    struct rig r = rig_pvh(2);
    uint64_t seed = 1, *gpr = r.d->eng->gprs(r.v->bc);
    static const uint8_t regs[] = {7, 6, 2, 10, 8, 9};
    for (unsigned i = 0; i < 8000; i++) {
        for (unsigned k = 0; k < 16; k++)
            r.scratch[k] = word(&seed);
        for (unsigned k = 0; k < ARRAY_LEN(regs); k++)
            gpr[regs[k]] = k == 1 || next(&seed) % 4 == 0 ? r.at : word(&seed) & 0xffffff;
        uint64_t nr = next(&seed) % 64;
        gpr[0] = nr;
        if (nr < 32 && gpr[7] % 3)
            gpr[7] %= 30;
        pv_hypercall(r.v);
    }
    for (uint64_t i = 0; i < r.d->nmfn; i++)
        if (r.d->page[i].types)
            cr_assert_eq(r.d->page[i].type, TYPE_WRITABLE);
    cr_assert_leq(r.d->frames, r.d->npfn);
    vc_close(r.vm);
}
