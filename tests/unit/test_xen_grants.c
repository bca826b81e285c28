/* SPDX-License-Identifier: MIT
 * Grant tables of both versions: what they lend, to whom, how their guest sees that it is
 * in use, and what changes with the version. */
#include "xen_pvh_rig.h"
#include "xen_audit.h"
#include <xen/memory.h>

#define REF  20u
#define DATA 0x300u

static long set_version(struct rig *r, uint32_t version)
{
    struct gnttab_set_version s = {version};
    long rc = rig_grant_op(r, GNTTABOP_set_version, &s, sizeof s);
    cr_assert_eq(s.version, r->d->grant_version);
    return rc;
}

static struct rig rig_v2(void)
{
    struct rig r = rig_new(1);
    cr_assert_eq(set_version(&r, 2), 0);
    return r;
}

static void grant(struct rig *r, uint16_t flags, domid_t who, uint64_t frame)
{
    union grant_entry_v2 *g = pv_grant_v2(r->d, REF);
    g->full_page.hdr.domid = who;
    g->full_page.frame = frame;
    g->full_page.hdr.flags = flags;
}

Test(xen_grants, versions)
{
    struct rig r = rig_new(1);
    struct gnttab_get_version g = {.dom = DOMID_SELF};
    uint64_t gpa;
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_get_version, &g, sizeof g), 0);
    cr_assert_eq(g.version, 1);
    g.dom = 3;
    cr_assert_eq(rig_grant_op(&r, GNTTABOP_get_version, &g, sizeof g), -XEN_EPERM);
    cr_assert_eq(set_version(&r, 0), -XEN_EINVAL);
    cr_assert_eq(set_version(&r, 3), -XEN_EINVAL);
    r.d->grant[0][REF] = (struct grant_entry_v1){GTF_permit_access, BACK_END, DATA};
    cr_assert_not_null(pv_grant_map(r.d, REF, true, &gpa));
    cr_assert_eq(set_version(&r, 2), -XEN_EBUSY);
    pv_grant_unmap(r.d, REF, true, gpa);
    /* The first ones stay, in use or not. */
    cr_assert_not_null(pv_grant_map(r.d, GNTTAB_RESERVED_CONSOLE, false, &gpa));
    cr_assert_eq(set_version(&r, 2), 0);
    const union grant_entry_v2 *c = pv_grant_v2(r.d, GNTTAB_RESERVED_CONSOLE);
    cr_assert_eq(c->full_page.hdr.flags, GTF_permit_access);
    cr_assert_eq(c->full_page.frame, r.d->console_mfn);
    cr_assert_eq(r.d->status[0][GNTTAB_RESERVED_CONSOLE], GTF_reading);
    cr_assert_null(pv_grant_map(r.d, REF, false, &(uint64_t){0})); /* forgotten */
    cr_assert_eq(set_version(&r, 2), 0);
    cr_assert_eq(set_version(&r, 1), 0);
    cr_assert_eq(r.d->grant[0][GNTTAB_RESERVED_CONSOLE].flags, GTF_permit_access | GTF_reading);
    cr_assert_eq(r.d->grant[0][GNTTAB_RESERVED_XENSTORE].frame, r.d->store_mfn);
    pv_grant_unmap(r.d, GNTTAB_RESERVED_CONSOLE, false, gpa);
    cr_assert_eq(r.d->grant[0][GNTTAB_RESERVED_CONSOLE].flags, GTF_permit_access);
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    vc_close(r.vm);
}

Test(xen_grants, what_version_1_cannot_say)
{
    struct rig r = rig_v2();
    union grant_entry_v2 *g = pv_grant_v2(r.d, 5);
    g->full_page.frame = 1ull << 32;
    g->hdr.flags = GTF_permit_access;
    cr_assert_eq(set_version(&r, 1), -XEN_ERANGE);
    g->full_page.frame = DATA;
    g->hdr.flags = GTF_permit_access | GTF_sub_page;
    cr_assert_eq(set_version(&r, 1), -XEN_EINVAL);
    g->hdr.flags = GTF_transitive;
    cr_assert_eq(set_version(&r, 1), -XEN_EINVAL);
    g->hdr.flags = GTF_invalid;
    cr_assert_eq(set_version(&r, 1), 0);
    vc_close(r.vm);
}

Test(xen_grants, whole_frames)
{
    struct rig r = rig_v2();
    uint64_t gpa, other;
    grant(&r, GTF_permit_access, BACK_END, DATA);
    cr_assert_eq(pv_grant_map(r.d, REF, false, &gpa), pv_frame_ptr(r.d, DATA));
    cr_assert_eq(gpa, DATA << 12);
    cr_assert_eq(r.d->status[0][REF], GTF_reading);
    cr_assert_not_null(pv_grant_map(r.d, REF, true, &other));
    cr_assert_eq(r.d->status[0][REF], GTF_reading | GTF_writing);
    cr_assert_eq(pv_grant_v2(r.d, REF)->hdr.flags, GTF_permit_access); /* the guest's alone */
    pv_grant_unmap(r.d, REF, true, other);
    cr_assert_eq(r.d->status[0][REF], GTF_reading);
    grant(&r, GTF_invalid, BACK_END, UINT64_MAX); /* taken back; who has it has it */
    pv_grant_unmap(r.d, REF, false, gpa);
    cr_assert_eq(r.d->status[0][REF], 0);
    static const struct {
        uint16_t flags;
        domid_t domid;
        uint64_t frame;
    } bad[] = {
        {0, BACK_END, DATA},
        {GTF_permit_access, 3, DATA},
        {GTF_permit_access | GTF_readonly, BACK_END, DATA},
        {GTF_permit_access, BACK_END, UINT64_MAX},
        {GTF_permit_access, BACK_END, DATA | 1ull << 32},
        {GTF_permit_access | GTF_sub_page, BACK_END, DATA},
        {GTF_transitive, BACK_END, DATA},
        {GTF_accept_transfer, BACK_END, DATA},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        grant(&r, bad[i].flags, bad[i].domid, bad[i].frame);
        cr_assert_null(pv_grant_map(r.d, REF, true, &gpa), "%u", i);
        cr_assert_eq(r.d->status[0][REF], 0, "%u", i);
    }
    cr_assert_null(pv_grant_map(r.d, GRANTS_V2_PER_FRAME, false, &gpa)); /* not set up */
    cr_assert_null(pv_grant_map(r.d, UINT32_MAX, false, &gpa));
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    vc_close(r.vm);
}

Test(xen_grants, parts_of_frames)
{
    struct rig r = rig_v2();
    union grant_entry_v2 *g = pv_grant_v2(r.d, REF);
    uint8_t *page = pv_frame_ptr(r.d, DATA), buf[PAGE];
    grant(&r, GTF_permit_access | GTF_sub_page, BACK_END, DATA);
    g->sub_page.page_off = 100;
    g->sub_page.length = 50;
    memset(page, 7, PAGE);
    cr_assert(pv_grant_copy(r.d, REF, false, 100, buf, 50));
    cr_assert_eq(buf[49], 7);
    cr_assert(pv_grant_copy(r.d, REF, false, 149, buf, 1));
    cr_assert(pv_grant_copy(r.d, REF, false, 150, buf, 0));
    cr_assert_not(pv_grant_copy(r.d, REF, false, 99, buf, 1));
    cr_assert_not(pv_grant_copy(r.d, REF, false, 100, buf, 51));
    cr_assert_not(pv_grant_copy(r.d, REF, false, 150, buf, 1));
    cr_assert_not(pv_grant_copy(r.d, REF, false, 120, buf, UINT32_MAX));
    memset(buf, 9, sizeof buf);
    cr_assert(pv_grant_copy(r.d, REF, true, 110, buf, 5));
    cr_assert(page[109] == 7 && page[110] == 9 && page[114] == 9 && page[115] == 7);
    g->hdr.flags |= GTF_readonly;
    cr_assert_not(pv_grant_copy(r.d, REF, true, 110, buf, 5));
    g->sub_page.page_off = 4000;
    g->sub_page.length = 97; /* beyond the frame */
    cr_assert_not(pv_grant_copy(r.d, REF, false, 4000, buf, 1));
    g->sub_page.page_off = UINT16_MAX;
    g->sub_page.length = UINT16_MAX;
    cr_assert_not(pv_grant_copy(r.d, REF, false, 65535, buf, 1));
    g->hdr.flags = GTF_permit_access;
    cr_assert(pv_grant_copy(r.d, REF, false, 0, buf, PAGE));
    cr_assert_not(pv_grant_copy(r.d, REF, false, 1, buf, PAGE));
    g->hdr.flags = GTF_transitive;
    cr_assert_not(pv_grant_copy(r.d, REF, false, 0, buf, 1));
    cr_assert_eq(r.d->status[0][REF], 0);
    cr_assert_null(xen_audit(r.d), "%s", xen_audit(r.d));
    vc_close(r.vm);
}

static int16_t status_frames(struct rig *r, uint32_t n)
{
    struct gnttab_get_status_frames s = {.nr_frames = n, .dom = DOMID_SELF};
    s.frame_list.p = (uint64_t *)(uintptr_t)(r->at + 512);
    cr_assert_eq(rig_grant_op(r, GNTTABOP_get_status_frames, &s, sizeof s), 0);
    return s.status;
}

static void setup_table(struct rig *r, uint32_t n)
{
    struct gnttab_setup_table s = {.nr_frames = n, .dom = DOMID_SELF};
    s.frame_list.p = (xen_pfn_t *)(uintptr_t)(r->at + 512);
    cr_assert_eq(rig_grant_op(r, GNTTABOP_setup_table, &s, sizeof s), 0);
    cr_assert_eq(s.status, GNTST_okay);
}

Test(xen_grants, frames_of_bits)
{
    struct rig r = rig_new(1);
    cr_assert_eq(status_frames(&r, 1), GNTST_general_error);
    cr_assert_eq(set_version(&r, 2), 0);
    cr_assert_eq(status_frames(&r, 1), GNTST_okay);
    cr_assert_eq(r.scratch[64], r.d->special + SPECIAL_STATUS);
    cr_assert_eq(status_frames(&r, 2), GNTST_general_error);
    setup_table(&r, 9);
    cr_assert_eq(status_frames(&r, 2), GNTST_okay);
    cr_assert_eq(r.scratch[65], r.d->special + SPECIAL_STATUS + 1);
    setup_table(&r, GRANT_FRAMES_MAX);
    cr_assert_eq(status_frames(&r, STATUS_FRAMES_MAX), GNTST_okay);
    cr_assert_eq(status_frames(&r, UINT32_MAX), GNTST_general_error);
    /* The last one of all. */
    uint64_t gpa;
    const uint32_t last = GRANT_FRAMES_MAX * GRANTS_V2_PER_FRAME - 1;
    pv_grant_v2(r.d, last)->full_page.frame = DATA;
    pv_grant_v2(r.d, last)->hdr.flags = GTF_permit_access;
    cr_assert_not_null(pv_grant_map(r.d, last, false, &gpa));
    cr_assert_eq(r.d->status[STATUS_FRAMES_MAX - 1][STATUS_PER_FRAME - 1], GTF_reading);
    pv_grant_unmap(r.d, last, false, gpa);
    cr_assert_null(pv_grant_map(r.d, last + 1, false, &gpa));
    vc_close(r.vm);
}

Test(xen_grants, frames_of_bits_of_a_pvh_guest)
{
    struct rig r = rig_pvh(1);
    struct xen_add_to_physmap x = {.domid = DOMID_SELF,
                                   .space = XENMAPSPACE_grant_table,
                                   .idx = XENMAPIDX_grant_table_status,
                                   .gpfn = 0x60};
    const uint64_t frame0 = DATA << 12;
    uint64_t gpa;
    uint16_t bits;
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_add_to_physmap, &x, sizeof x), -XEN_EINVAL);
    cr_assert_eq(set_version(&r, 2), 0);
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_add_to_physmap, &x, sizeof x), 0);
    cr_assert_eq(status_frames(&r, 1), GNTST_okay);
    cr_assert_eq(r.scratch[64], 0x60);
    grant(&r, GTF_permit_access, BACK_END, DATA);
    cr_assert_not_null(pv_grant_map(r.d, REF, false, &gpa));
    cr_assert_eq(gpa, frame0);
    cr_assert_eq(vc_read(r.vm, 0x60000 + 2 * REF, &bits, 2), 0);
    cr_assert_eq(bits, GTF_reading);
    pv_grant_unmap(r.d, REF, false, gpa);
    x.idx |= STATUS_FRAMES_MAX;
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_add_to_physmap, &x, sizeof x), -XEN_EINVAL);
    vc_close(r.vm);
}
