/* SPDX-License-Identifier: MIT
 * Page tables of a PV guest: what is not allowed is refused, with Xen's code. */
#include "xen_rig.h"

#define FREE 0x300u /* a frame that nobody uses, mapped writable */

static uint64_t l4(struct rig *r)
{
    return r->v->kernel_mfn;
}

static uint64_t l1_of(struct rig *r, uint64_t va)
{
    uint64_t mfn;
    cr_assert_not_null(pv_entry_find(r->v, va, &mfn));
    return mfn;
}

Test(xen_mmu, start_of_day)
{
    struct rig r = rig_new(1);
    const struct pv_page *p = &r.d->page[l4(&r)];
    cr_assert(p->pinned && p->valid && p->type == TYPE_L4);
    cr_assert_eq(r.d->page[l1_of(&r, rig_va(0))].type, TYPE_L1);
    /* The kernel runs at ring 3: every entry is a user's. */
    uint64_t mfn, *e = pv_entry_find(r.v, rig_va(FREE), &mfn);
    cr_assert_eq(*e & (PTE_P | PTE_W | PTE_U), PTE_P | PTE_W | PTE_U);
    e = pv_entry_find(r.v, rig_va(l4(&r)), &mfn);
    cr_assert_eq(*e & (PTE_P | PTE_W), PTE_P);
    /* The table of machine frames is there to read. */
    const uint64_t *m2p = r.d->eng->ptr(r.v->bc, MACH2PHYS_VIRT_START + 8 * FREE, PV_READ, NULL);
    cr_assert_not_null(m2p);
    cr_assert_eq(*m2p, FREE);
    cr_assert_null(r.d->eng->ptr(r.v->bc, MACH2PHYS_VIRT_START, PV_WRITE, NULL));
    cr_assert_null(r.d->eng->ptr(r.v->bc, HV_OWN_BASE, PV_READ, NULL));
    vc_close(r.vm);
}

Test(xen_mmu, no_writable_mapping_of_a_table)
{
    struct rig r = rig_new(1);
    const uint64_t tables[] = {l4(&r), l1_of(&r, rig_va(0))};
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(rig_map(&r, FREE, tables[i] << 12 | PTE_P | PTE_W), -XEN_EBUSY);
        cr_assert_eq(rig_map(&r, FREE, tables[i] << 12 | PTE_P), 0);
    }
    /* Nor by a hypercall that clears or copies. */
    cr_assert_eq(rig_ext(&r, MMUEXT_CLEAR_PAGE, l4(&r)), -XEN_EINVAL);
    vc_close(r.vm);
}

Test(xen_mmu, no_frame_outside)
{
    struct rig r = rig_new(1);
    const struct {
        uint64_t mfn;
        long code;
    } outside[] = {
        {r.d->nmfn, -XEN_EBUSY}, /* the hypervisor's descriptors, tables */
        {r.d->m2p_l3, -XEN_EBUSY},
        {(r.d->hidden >> 12) + 512, -XEN_EBUSY}, /* the table of frames */
        {(r.d->hidden + r.d->hidden_len) >> 12, -XEN_EPERM},
        {r.d->special - 1 + (1ull << 30), -XEN_EPERM},
        {PTE_FRAME >> 12, -XEN_EINVAL},
    };
    for (unsigned i = 0; i < ARRAY_LEN(outside); i++) {
        uint64_t at = outside[i].mfn << 12;
        cr_assert_eq(rig_map(&r, FREE, at | PTE_P), outside[i].code);
        cr_assert_eq(rig_map(&r, FREE, at | PTE_P | PTE_W), outside[i].code);
        cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, outside[i].mfn), -XEN_EINVAL);
        cr_assert_eq(rig_update(&r, at, 0), -XEN_EINVAL);
    }
    /* What is shared may be mapped, and may not become a table. */
    cr_assert_eq(rig_map(&r, FREE, r.d->special << 12 | PTE_P | PTE_W), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, r.d->special), -XEN_EINVAL);
    vc_close(r.vm);
}

Test(xen_mmu, a_table_is_not_writable_and_its_entries_count)
{
    struct rig r = rig_new(1);
    uint64_t *t = pv_frame_ptr(r.d, FREE);
    memset(t, 0, PAGE);
    t[3] = (uint64_t)(FREE + 1) << 12 | PTE_P | PTE_W;
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, FREE), -XEN_EINVAL); /* still writable */
    cr_assert_eq(rig_protect(&r, FREE), 0);
    uint32_t refs = r.d->page[FREE + 1].refs;
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, FREE), 0);
    cr_assert_eq(r.d->page[FREE + 1].refs, refs + 1);
    cr_assert_eq(t[3] & PTE_U, PTE_U);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, FREE), -XEN_EINVAL); /* is pinned */
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L2_TABLE, FREE), -XEN_EINVAL);
    cr_assert_eq(rig_map(&r, FREE, FREE << 12 | PTE_P | PTE_W), -XEN_EBUSY);
    /* A frame with a writable mapping in it is no table. */
    cr_assert_eq(rig_protect(&r, FREE + 1), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, FREE + 1), -XEN_EINVAL);
    cr_assert_eq(rig_update(&r, FREE << 12 | 3 * 8, 0), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, FREE + 1), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_UNPIN_TABLE, FREE + 1), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_UNPIN_TABLE, FREE + 1), -XEN_EINVAL);
    cr_assert_eq(rig_ext(&r, MMUEXT_UNPIN_TABLE, FREE), 0);
    cr_assert_eq(rig_map(&r, FREE, FREE << 12 | PTE_P | PTE_W), 0);
    vc_close(r.vm);
}

Test(xen_mmu, a_bad_entry_refuses_the_whole_table)
{
    struct rig r = rig_new(1);
    uint64_t *t = pv_frame_ptr(r.d, FREE);
    static const struct {
        uint64_t entry;
        unsigned pin;
        long code;
    } bad[] = {
        {0x301000 | PTE_P | PTE_PS, MMUEXT_PIN_L1_TABLE, -XEN_EINVAL},
        {0x301000 | PTE_P | PTE_PCD, MMUEXT_PIN_L1_TABLE, -XEN_EINVAL},
        {0x7f0000000000 | PTE_P, MMUEXT_PIN_L1_TABLE, -XEN_EPERM},
        {0x200000 | PTE_P | PTE_PS, MMUEXT_PIN_L2_TABLE, -XEN_EINVAL},
        {0x301000 | PTE_P, MMUEXT_PIN_L2_TABLE, -XEN_EINVAL}, /* writable elsewhere */
        {0x300000 | PTE_P, MMUEXT_PIN_L4_TABLE, -XEN_EINVAL}, /* itself */
    };
    memset(t, 0, PAGE);
    t[1] = 0x302000 | PTE_P;
    cr_assert_eq(rig_protect(&r, FREE), 0);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        t[1] = bad[i].pin == MMUEXT_PIN_L1_TABLE ? 0x302000 | PTE_P : 0;
        t[2] = bad[i].entry;
        uint32_t refs = r.d->page[0x302].refs;
        cr_assert_eq(rig_ext(&r, bad[i].pin, FREE), bad[i].code, "%u", i);
        cr_assert_eq(r.d->page[0x302].refs, refs);
        cr_assert_eq(r.d->page[FREE].types, 0);
    }
    vc_close(r.vm);
}

Test(xen_mmu, roots)
{
    struct rig r = rig_new(1);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, FREE), -XEN_EINVAL);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, l1_of(&r, rig_va(0))), -XEN_EINVAL);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, FREE), -XEN_EINVAL);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, 0), 0);
    for (unsigned i = HV_SLOT_FIRST; i <= HV_SLOT_LAST; i++)
        cr_assert_eq(rig_update(&r, l4(&r) << 12 | i * 8, 0), -XEN_EINVAL);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, l4(&r)), 0);
    cr_assert_eq(rig_ext(&r, 4711, 0), -XEN_ENOSYS);
    vc_close(r.vm);
}

Test(xen_mmu, domains_and_pointers)
{
    struct rig r = rig_new(1);
    const uint64_t other[6] = {r.at, 1, 0, 7}, wild[6] = {0x1234, 1, 0, DOMID_SELF};
    const uint64_t hv[6] = {HV_OWN_BASE, 1, 0, DOMID_SELF};
    cr_assert_eq(hc_mmu_update(r.v, other), -XEN_ESRCH);
    cr_assert_eq(hc_mmuext_op(r.v, other), -XEN_ESRCH);
    cr_assert_eq(hc_mmu_update(r.v, wild), -XEN_EFAULT);
    cr_assert_eq(hc_mmuext_op(r.v, hv), -XEN_EFAULT);
    cr_assert_eq(rig_update(&r, FREE << 12 | MMU_MACHPHYS_UPDATE, 42), 0);
    cr_assert_eq(r.d->m2p[FREE], 42);
    cr_assert_eq(rig_update(&r, r.d->special << 12 | MMU_MACHPHYS_UPDATE, 42), -XEN_EINVAL);
    cr_assert_eq(rig_update(&r, FREE << 12 | 3, 42), -XEN_ENOSYS);
    vc_close(r.vm);
}

Test(xen_mmu, descriptors)
{
    struct rig r = rig_new(1);
    uint64_t *gdt = pv_frame_ptr(r.d, FREE);
    const uint64_t a[6] = {r.at, 16};
    memset(gdt, 0, PAGE);
    gdt[2] = 0x00af9b000000ffffull; /* ring 0 code becomes ring 3's */
    *r.scratch = FREE;
    cr_assert_eq(hc_set_gdt(r.v, a), -XEN_EINVAL); /* writable */
    cr_assert_eq(rig_protect(&r, FREE), 0);
    gdt[3] = 0x00008b0000000067ull; /* a TSS */
    cr_assert_eq(hc_set_gdt(r.v, a), -XEN_EINVAL);
    gdt[3] = 0x00008c0000100000ull; /* a call gate */
    cr_assert_eq(hc_set_gdt(r.v, a), -XEN_EINVAL);
    gdt[3] = 0;
    *r.scratch = FREE;
    cr_assert_eq(hc_set_gdt(r.v, a), 0);
    cr_assert_eq(gdt[2] >> 45 & 3, 3);
    const uint64_t gate[6] = {FREE << 12 | 24, 0x00008c0000100000ull};
    const uint64_t data[6] = {FREE << 12 | 24, 0x00cf93000000ffffull};
    cr_assert_eq(hc_update_descriptor(r.v, gate), -XEN_EINVAL);
    cr_assert_eq(hc_update_descriptor(r.v, data), 0);
    cr_assert_eq(gdt[3], 0x00cff3000000ffffull);
    cr_assert_eq(rig_map(&r, FREE, FREE << 12 | PTE_P | PTE_W), -XEN_EBUSY);
    const uint64_t many[6] = {r.at, 7169};
    cr_assert_eq(hc_set_gdt(r.v, many), -XEN_EINVAL);
    vc_close(r.vm);
}

Test(xen_mmu, images)
{
    vc_vm *vm = rig_vm(1);
    struct rig_image im = rig_image();
    cr_assert_lt(rig_boot(vm, "x", 1), 0);
    im.note[1].type = 99;
    cr_assert_eq(rig_boot(vm, &im, sizeof im), VC_EFORMAT);
    im = rig_image();
    im.note[1].desc = 0xffff800000000000ull;
    cr_assert_eq(rig_boot(vm, &im, sizeof im), VC_EFORMAT);
    im = rig_image();
    im.ph[0].p_memsz = 1ull << 40;
    cr_assert_eq(rig_boot(vm, &im, sizeof im), VC_EFORMAT);
    im = rig_image();
    im.ph[0].p_memsz = 64u << 20;
    cr_assert_eq(rig_boot(vm, &im, sizeof im), VC_ERANGE);
    im = rig_image();
    cr_assert_eq(rig_boot(vm, &im, sizeof im), 0);
    cr_assert_eq(rig_boot(vm, &im, sizeof im), 0); /* anew */
    vc_close(vm);
    vm = vc_open("emu", NULL);
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 32u << 20, .cpus = 1};
    vc_pc(vm, &pc);
    vc_cpu_new(vm, VC_MODE_RESET, 0);
    cr_assert_eq(rig_boot(vm, &im, sizeof im), VC_ENOTSUP);
    vc_close(vm);
}
