/* SPDX-License-Identifier: MIT
 * A guest that maps what it granted itself: entries, handles, pins, and what each refusal
 * says. After every case the counts of all frames and pins must add up. */
#include "xen_pvh_rig.h"
#include "xen_audit.h"

#define REF   20u
#define DATA  0x300u
#define PLACE 0x310u /* pages whose entries the maps take */
#define TABLE 0x320u /* what becomes a page table */

static void grant_to(struct rig *r, uint32_t ref, uint16_t flags, domid_t who, uint64_t frame)
{
    if (r->d->grant_version == 1) {
        r->d->grant[0][ref] = (struct grant_entry_v1){flags, who, (uint32_t)frame};
    } else {
        union grant_entry_v2 *g = pv_grant_v2(r->d, ref);
        g->full_page.hdr.domid = who;
        g->full_page.frame = frame;
        g->full_page.hdr.flags = flags;
    }
}

static void grant(struct rig *r, uint16_t flags)
{
    grant_to(r, REF, flags, OWN_DOMID, DATA);
}

static uint16_t use(const struct rig *r)
{
    uint16_t flags = r->d->grant_version == 1 ? r->d->grant[0][REF].flags : r->d->status[0][REF];
    return flags & (GTF_reading | GTF_writing);
}

static int16_t map_op(struct rig *r, struct gnttab_map_grant_ref *m)
{
    cr_assert_eq(rig_grant_op(r, GNTTABOP_map_grant_ref, m, sizeof *m), 0);
    return m->status;
}

/* The handle; the status if that is an error. */
static int map(struct rig *r, uint32_t flags, uint64_t addr)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = addr, .flags = flags, .ref = REF, .dom = OWN_DOMID};
    int16_t status = map_op(r, &m);
    if (!status)
        cr_assert_eq(m.dev_bus_addr, (uint64_t)DATA << 12);
    return status ? status : (int)m.handle;
}

static int16_t unmap_both(struct rig *r, int handle, uint64_t host, uint64_t device)
{
    struct gnttab_unmap_grant_ref u = {
        .host_addr = host, .dev_bus_addr = device, .handle = (uint32_t)handle};
    cr_assert_eq(rig_grant_op(r, GNTTABOP_unmap_grant_ref, &u, sizeof u), 0);
    return u.status;
}

static int16_t unmap(struct rig *r, int handle, uint64_t host)
{
    return unmap_both(r, handle, host, 0);
}

static int16_t replace(struct rig *r, int handle, uint64_t host, uint64_t from)
{
    struct gnttab_unmap_and_replace u = {
        .host_addr = host, .new_addr = from, .handle = (uint32_t)handle};
    cr_assert_eq(rig_grant_op(r, GNTTABOP_unmap_and_replace, &u, sizeof u), 0);
    return u.status;
}

static uint64_t *entry(struct rig *r, uint64_t pfn)
{
    uint64_t l1;
    return pv_entry_find(r->v, rig_va(pfn), &l1);
}

/* As the guest knows it. */
static uint64_t entry_address(struct rig *r, uint64_t pfn)
{
    uint64_t l1;
    cr_assert_not_null(pv_entry_find(r->v, rig_va(pfn), &l1));
    return l1 << 12 | (rig_va(pfn) >> 12 & 511) * 8;
}

static void sound(const struct rig *r)
{
    const char *wrong = xen_audit(r->d);
    cr_assert_null(wrong, "%s", wrong);
}

static void end(struct rig *r)
{
    sound(r);
    for (uint32_t ref = 0; ref < GRANTS_MAX; ref++)
        cr_assert_eq(r->d->grant_pins[ref].all, 0);
    vc_close(r->vm);
}

static struct rig rig_version(uint32_t version)
{
    struct rig r = rig_new(1);
    struct gnttab_set_version s = {version};
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_set_version, &s, sizeof s), 0);
    return r;
}

static void by_address(uint32_t version)
{
    struct rig r = rig_version(version);
    grant(&r, GTF_permit_access);
    uint32_t refs = r.d->page[DATA].refs, types = r.d->page[DATA].types;
    int h = map(&r, GNTMAP_host_map | 5u << _GNTMAP_guest_avail0, rig_va(PLACE) + 8);
    cr_assert_geq(h, 0);
    cr_assert_eq(*entry(&r, PLACE),
                 (uint64_t)DATA << 12 | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_NX | 5 << 9);
    cr_assert_eq(use(&r), GTF_reading | GTF_writing);
    cr_assert_eq(r.d->page[DATA].refs, refs + 1);
    cr_assert_eq(r.d->page[DATA].types, types + 1);
    sound(&r);
    int h2 = map(&r, GNTMAP_host_map | GNTMAP_readonly, rig_va(PLACE + 1));
    cr_assert(h2 >= 0 && h2 != h);
    cr_assert_eq(*entry(&r, PLACE + 1) & (PTE_FRAME | PTE_W), (uint64_t)DATA << 12);
    sound(&r);
    grant(&r, (uint16_t)(GTF_permit_access | GTF_reading | GTF_writing));
    cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_okay);
    cr_assert_eq(*entry(&r, PLACE), 0);
    cr_assert_eq(use(&r), GTF_reading);
    cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_bad_handle);
    cr_assert_eq(unmap(&r, h2, rig_va(PLACE + 1)), GNTST_okay);
    cr_assert_eq(use(&r), 0);
    cr_assert_eq(r.d->page[DATA].refs, refs);
    end(&r);
}

Test(xen_grant_maps, version_1)
{
    by_address(1);
}

Test(xen_grant_maps, version_2)
{
    by_address(2);
}

Test(xen_grant_maps, entries_by_their_address)
{
    struct rig r = rig_new(1);
    const uint32_t how = GNTMAP_host_map | GNTMAP_contains_pte;
    uint64_t at = entry_address(&r, PLACE);
    grant(&r, GTF_permit_access);
    int h = map(&r, how, at);
    cr_assert_geq(h, 0);
    cr_assert_eq(PTE_MFN(*entry(&r, PLACE)), DATA);
    cr_assert_eq(unmap(&r, h, at + 8), GNTST_general_error); /* another entry */
    cr_assert_eq(unmap(&r, h, at + 1), GNTST_general_error);
    cr_assert_eq(unmap(&r, h, (uint64_t)PLACE << 12), GNTST_general_error);
    cr_assert_eq(replace(&r, h, at, rig_va(PLACE + 1)), GNTST_general_error);
    cr_assert_eq(unmap(&r, h, at), GNTST_okay);
    cr_assert_eq(map(&r, how, at + 4), GNTST_general_error);
    cr_assert_eq(map(&r, how, (uint64_t)DATA << 12), GNTST_general_error);  /* no table */
    cr_assert_eq(map(&r, how, r.v->kernel_mfn << 12), GNTST_general_error); /* not the lowest */
    cr_assert_eq(map(&r, how, r.d->m2p_l3 << 12), GNTST_general_error);     /* not its own */
    cr_assert_eq(map(&r, how, UINT64_MAX & ~7ull), GNTST_general_error);
    cr_assert_eq(use(&r), 0);
    end(&r);
}

Test(xen_grant_maps, refusals_to_map)
{
    struct rig r = rig_new(1);
    const uint64_t to = rig_va(PLACE), was = *entry(&r, PLACE);
    static const struct {
        uint32_t flags, ref;
        domid_t dom;
        uint64_t addr;
        int16_t status;
    } bad[] = {
        {0, REF, OWN_DOMID, 0, GNTST_bad_gntref},
        {GNTMAP_readonly, REF, OWN_DOMID, 0, GNTST_bad_gntref},
        {GNTMAP_host_map, REF, 3, 0, GNTST_bad_domain},
        {GNTMAP_host_map, REF, DOMID_SELF, 0, GNTST_bad_domain},
        {GNTMAP_host_map, REF, BACK_END, 0, GNTST_general_error},
        {GNTMAP_host_map, GRANTS_PER_FRAME, BACK_END, 0, GNTST_bad_gntref},
        {GNTMAP_host_map, GRANTS_PER_FRAME, OWN_DOMID, 0, GNTST_bad_gntref},
        {GNTMAP_host_map, UINT32_MAX, OWN_DOMID, 0, GNTST_bad_gntref},
        {GNTMAP_host_map, REF + 1, OWN_DOMID, 0, GNTST_general_error},
        {GNTMAP_host_map, REF, OWN_DOMID, HV_OWN_BASE, GNTST_general_error},
        {GNTMAP_host_map, REF, OWN_DOMID, MACH2PHYS_VIRT_START, GNTST_general_error},
        {GNTMAP_host_map, REF, OWN_DOMID, 1ull << 47, GNTST_general_error},
        {GNTMAP_host_map, REF, OWN_DOMID, 0x4000000000, GNTST_general_error},
        {GNTMAP_host_map | GNTMAP_device_map, REF, OWN_DOMID, 0x4000000000, GNTST_general_error},
    };
    grant(&r, GTF_permit_access);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct gnttab_map_grant_ref m = {.host_addr = bad[i].addr ? bad[i].addr : to,
                                         .flags = bad[i].flags,
                                         .ref = bad[i].ref,
                                         .dom = bad[i].dom};
        cr_assert_eq(map_op(&r, &m), bad[i].status, "%u: %d", i, m.status);
        cr_assert_eq(use(&r), 0, "%u", i);
        sound(&r);
    }
    cr_assert_eq(*entry(&r, PLACE), was);
    end(&r);
}

Test(xen_grant_maps, what_was_not_granted)
{
    static const struct {
        uint16_t flags;
        domid_t who;
        uint64_t frame;
        int16_t status;
    } bad[] = {
        {GTF_invalid, OWN_DOMID, DATA, GNTST_general_error},
        {GTF_permit_access, BACK_END, DATA, GNTST_general_error},
        {GTF_permit_access, DOMID_SELF, DATA, GNTST_general_error},
        {GTF_permit_access | GTF_readonly, OWN_DOMID, DATA, GNTST_general_error},
        {GTF_permit_access | GTF_sub_page, OWN_DOMID, DATA, GNTST_general_error},
        {GTF_accept_transfer, OWN_DOMID, DATA, GNTST_general_error},
        {GTF_transitive, OWN_DOMID, DATA, GNTST_general_error},
        {GTF_permit_access, OWN_DOMID, UINT64_MAX, GNTST_bad_page},
        {GTF_permit_access, OWN_DOMID, 0x80000, GNTST_bad_page},
        {GTF_permit_access, OWN_DOMID, TABLE, GNTST_general_error},
    };
    struct rig r = rig_version(2);
    memset(pv_frame_ptr(r.d, TABLE), 0, PAGE);
    cr_assert_eq(rig_protect(&r, TABLE), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, TABLE), 0);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        grant_to(&r, REF, bad[i].flags, bad[i].who, bad[i].frame);
        cr_assert_eq(map(&r, GNTMAP_host_map, rig_va(PLACE)), bad[i].status, "%u", i);
        cr_assert_eq(map(&r, GNTMAP_device_map, 0), bad[i].status, "%u", i);
        cr_assert_eq(use(&r), 0, "%u", i);
        sound(&r);
    }
    grant_to(&r, REF, GTF_permit_access | GTF_readonly, OWN_DOMID, DATA);
    int h = map(&r, GNTMAP_host_map | GNTMAP_readonly, rig_va(PLACE));
    cr_assert_geq(h, 0);
    cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_okay);
    end(&r);
}

/* While it is in use by the one, the other has no business with it, whatever the table says. */
Test(xen_grant_maps, one_user_at_a_time)
{
    struct rig r = rig_new(1);
    uint64_t gpa;
    grant(&r, GTF_permit_access);
    int h = map(&r, GNTMAP_host_map, rig_va(PLACE));
    cr_assert_geq(h, 0);
    grant_to(&r, REF, GTF_permit_access, BACK_END, DATA);
    cr_assert_null(pv_grant_map(r.d, REF, false, &gpa));
    cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_okay);
    cr_assert_not_null(pv_grant_map(r.d, REF, false, &gpa));
    grant(&r, GTF_permit_access);
    cr_assert_eq(map(&r, GNTMAP_host_map, rig_va(PLACE)), GNTST_general_error);
    pv_grant_unmap(r.d, REF, false, gpa);
    end(&r);
}

Test(xen_grant_maps, device_and_host)
{
    struct rig r = rig_new(1);
    const uint64_t device = (uint64_t)DATA << 12, host = rig_va(PLACE);
    grant(&r, GTF_permit_access);
    cr_assert_eq(rig_protect(&r, DATA), 0);
    int h = map(&r, GNTMAP_host_map | GNTMAP_device_map, host);
    cr_assert_geq(h, 0);
    cr_assert_eq(r.d->page[DATA].types, 2);
    sound(&r);
    cr_assert_eq(unmap_both(&r, h, host, device + 4096), GNTST_bad_dev_addr);
    cr_assert_eq(PTE_MFN(*entry(&r, PLACE)), DATA);
    cr_assert_eq(unmap_both(&r, h, 0, 0), GNTST_okay); /* nothing asked for */
    cr_assert_eq(unmap(&r, h, host), GNTST_okay);
    cr_assert_eq(r.d->page[DATA].types, 1);
    cr_assert_eq(use(&r), GTF_reading | GTF_writing);
    cr_assert_eq(unmap(&r, h, host), GNTST_okay); /* is not mapped so: ignored */
    cr_assert_eq(use(&r), GTF_reading | GTF_writing);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, DATA), -XEN_EINVAL); /* a device may write */
    sound(&r);
    cr_assert_eq(unmap_both(&r, h, 0, device), GNTST_okay);
    cr_assert_eq(r.d->page[DATA].types, 0);
    h = map(&r, GNTMAP_host_map | GNTMAP_device_map | GNTMAP_readonly, host);
    cr_assert_eq(r.d->page[DATA].types, 0);
    cr_assert_eq(unmap_both(&r, h, host, device), GNTST_okay);
    cr_assert_eq(unmap_both(&r, h, host, device), GNTST_bad_handle);
    end(&r);
}

/* The entry is the guest's: it may put another there. Then the mapping is not given back
 * till the frame is there again, with the same right to write. */
Test(xen_grant_maps, an_entry_overwritten)
{
    struct rig r = rig_new(1);
    const uint64_t e = (uint64_t)DATA << 12 | PTE_P;
    grant(&r, GTF_permit_access);
    int h = map(&r, GNTMAP_host_map, rig_va(PLACE));
    static const uint64_t other[] = {0, (uint64_t)DATA << 12 | PTE_P,
                                     (uint64_t)(DATA + 1) << 12 | PTE_P | PTE_W,
                                     (uint64_t)DATA << 12 | PTE_W};
    for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
        cr_assert_eq(rig_map(&r, PLACE, other[i]), 0);
        cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_general_error, "%u", i);
        cr_assert_eq(use(&r), GTF_reading | GTF_writing);
        sound(&r);
    }
    struct gnttab_set_version s = {2};
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_set_version, &s, sizeof s), -XEN_EBUSY);
    cr_assert_eq(rig_map(&r, PLACE, e | PTE_W), 0);
    cr_assert_eq(unmap(&r, h, rig_va(PLACE)), GNTST_okay);
    end(&r);
}

Test(xen_grant_maps, replaced)
{
    struct rig r = rig_new(1);
    const uint64_t here = rig_va(PLACE), from = rig_va(PLACE + 1);
    uint64_t e = *entry(&r, PLACE + 1);
    grant(&r, GTF_permit_access);
    int h = map(&r, GNTMAP_host_map, here);
    cr_assert_eq(replace(&r, h, from, here), GNTST_general_error); /* does not map it */
    cr_assert_eq(replace(&r, h, here, here), GNTST_general_error);
    cr_assert_eq(replace(&r, h, here, HV_OWN_BASE), GNTST_general_error);
    cr_assert_eq(*entry(&r, PLACE + 1), e);
    cr_assert_eq(PTE_MFN(*entry(&r, PLACE)), DATA);
    cr_assert_eq(replace(&r, h, here, from), GNTST_okay);
    cr_assert_eq(*entry(&r, PLACE), e);
    cr_assert_eq(*entry(&r, PLACE + 1), 0);
    cr_assert_eq(replace(&r, h, here, from), GNTST_bad_handle);
    sound(&r);
    h = map(&r, GNTMAP_host_map, here);
    cr_assert_eq(replace(&r, h, here, 0), GNTST_okay); /* with nothing */
    cr_assert_eq(*entry(&r, PLACE), 0);
    end(&r);
}

Test(xen_grant_maps, handles_end)
{
    struct rig r = rig_new(1);
    grant(&r, GTF_permit_access);
    cr_assert_eq(unmap(&r, 0, rig_va(PLACE)), GNTST_bad_handle); /* none was ever */
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < GRANT_MAPS_MAX; i++)
            cr_assert_geq(map(&r, GNTMAP_device_map | GNTMAP_readonly, 0), 0, "%u", i);
        cr_assert_eq(map(&r, GNTMAP_device_map, 0), GNTST_no_space);
        sound(&r);
        for (unsigned i = 0; i < GRANT_MAPS_MAX; i++)
            cr_assert_eq(unmap_both(&r, (int)i, 0, (uint64_t)DATA << 12), GNTST_okay, "%u", i);
    }
    cr_assert_eq(unmap(&r, GRANT_MAPS_MAX, rig_va(PLACE)), GNTST_bad_handle);
    cr_assert_eq(unmap(&r, -1, rig_va(PLACE)), GNTST_bad_handle);
    end(&r);
}

/* The next domain of the partition begins with none of them. */
Test(xen_grant_maps, the_domain_ends)
{
    struct rig r = rig_new(1);
    struct rig_image im = rig_image();
    grant(&r, GTF_permit_access);
    cr_assert_geq(map(&r, GNTMAP_host_map | GNTMAP_device_map, rig_va(PLACE)), 0);
    cr_assert_eq(rig_boot(r.vm, &im, sizeof im), 0, "%s", vc_errmsg());
    r.d = r.vm->pv;
    r.v = &r.d->vcpu[0];
    end(&r);
}

/* It would be a frame at two places, which this memory cannot be. */
Test(xen_grant_maps, a_pvh_guest)
{
    struct rig r = rig_pvh(1);
    grant(&r, GTF_permit_access);
    cr_assert_eq(map(&r, GNTMAP_host_map, 0x310000), GNTST_general_error);
    cr_assert_eq(map(&r, GNTMAP_device_map, 0), GNTST_general_error);
    cr_assert_eq(map(&r, 0, 0), GNTST_bad_gntref);
    cr_assert_eq(unmap(&r, 0, 0x310000), GNTST_bad_handle);
    cr_assert_eq(use(&r), 0);
    vc_close(r.vm);
}

/* Version 1 has no frames of bits: they must not be mapped then. */
Test(xen_grant_maps, bits_that_are_mapped_keep_the_version)
{
    struct rig r = rig_version(2);
    struct gnttab_set_version s = {1};
    uint64_t bits = r.d->special + SPECIAL_STATUS;
    cr_assert_eq(rig_map(&r, PLACE, bits << 12 | PTE_P), 0);
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_set_version, &s, sizeof s), -XEN_EBUSY);
    cr_assert_eq(s.version, 2);
    cr_assert_eq(rig_map(&r, PLACE, (bits + STATUS_FRAMES_MAX - 1) << 12 | PTE_P), 0);
    s.version = 1;
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_set_version, &s, sizeof s), -XEN_EBUSY);
    cr_assert_eq(rig_map(&r, PLACE, 0), 0);
    s.version = 1;
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_set_version, &s, sizeof s), 0);
    end(&r);
}
