/* SPDX-License-Identifier: MIT
 * What frames of a PV guest are used as: each way to get at one, against each use it may
 * have already, answers as Xen 4.17 does. And who holds a frame while others want it. */
#include "xen_rig.h"
#include <pthread.h>
#include <unistd.h>
#include <xen/memory.h>

enum { AT_L1 = 0x300, AT_L2, AT_L3, AT_L4, AT_GDT, AT_DATA, AT_LEAF, AT_WINDOW, AT_LIST };

/* A frame for each use. */
static struct rig uses_new(void)
{
    struct rig r = rig_new(1);
    const uint64_t frame[6] = {r.at, 16};
    for (unsigned pfn = AT_L1; pfn <= AT_GDT; pfn++) {
        memset(pv_frame_ptr(r.d, pfn), 0, PAGE);
        cr_assert_eq(rig_protect(&r, pfn), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE + i, AT_L1 + i), 0);
    *r.scratch = AT_GDT;
    cr_assert_eq(hc_set_gdt(r.v, frame), 0);
    return r;
}

/* ---- ways to a frame -------------------------------------------------------------------- */

static long as_entry(struct rig *r, unsigned table, uint64_t mfn, uint64_t flags)
{
    uint64_t at = (uint64_t)table << 12;
    long rc = rig_update(r, at, mfn << 12 | flags | PTE_P);
    if (!rc)
        rig_update(r, at, 0);
    return rc;
}

static long map_rw(struct rig *r, uint64_t mfn)
{
    return as_entry(r, AT_L1, mfn, PTE_W);
}

static long map_ro(struct rig *r, uint64_t mfn)
{
    return as_entry(r, AT_L1, mfn, 0);
}

static long in_l2(struct rig *r, uint64_t mfn)
{
    return as_entry(r, AT_L2, mfn, PTE_W);
}

static long in_l3(struct rig *r, uint64_t mfn)
{
    return as_entry(r, AT_L3, mfn, PTE_W);
}

static long in_l4(struct rig *r, uint64_t mfn)
{
    return as_entry(r, AT_L4, mfn, PTE_W);
}

static long by_va(struct rig *r, uint64_t mfn)
{
    long rc = rig_map(r, AT_WINDOW, mfn << 12 | PTE_P | PTE_W);
    if (!rc)
        rig_map(r, AT_WINDOW, (uint64_t)AT_WINDOW << 12 | PTE_P | PTE_W);
    return rc;
}

static long base(struct rig *r, uint64_t mfn)
{
    uint64_t was = r->v->kernel_mfn;
    long rc = rig_ext(r, MMUEXT_NEW_BASEPTR, mfn);
    if (!rc)
        pv_base_set(r->v, was, false); /* there is no kernel in the new one to ask */
    return rc;
}

static long user_base(struct rig *r, uint64_t mfn)
{
    long rc = rig_ext(r, MMUEXT_NEW_USER_BASEPTR, mfn);
    if (!rc)
        rig_ext(r, MMUEXT_NEW_USER_BASEPTR, 0);
    return rc;
}

static long clear(struct rig *r, uint64_t mfn)
{
    return rig_ext(r, MMUEXT_CLEAR_PAGE, mfn);
}

static long copy_to(struct rig *r, uint64_t mfn)
{
    const struct mmuext_op op = {.cmd = MMUEXT_COPY_PAGE, .arg1.mfn = mfn, .arg2.src_mfn = AT_LEAF};
    const uint64_t a[6] = {r->at, 1, 0, DOMID_SELF};
    memcpy(r->scratch, &op, sizeof op);
    return hc_mmuext_op(r->v, a);
}

static long gdt(struct rig *r, uint64_t mfn)
{
    const uint64_t frame[6] = {r->at, 16}, none[6] = {r->at, 0};
    *r->scratch = mfn;
    long rc = hc_set_gdt(r->v, frame);
    if (!rc) { /* back to what it was */
        hc_set_gdt(r->v, none);
        *r->scratch = AT_GDT;
        hc_set_gdt(r->v, frame);
    }
    return rc;
}

static long descriptor(struct rig *r, uint64_t mfn)
{
    const uint64_t a[6] = {mfn << 12, 0x00cff3000000ffffull};
    return hc_update_descriptor(r->v, a);
}

static long info(struct rig *r, uint64_t mfn)
{
    struct pv_vcpu other = {.d = r->d, .info = &other.own_info, .info_mfn = FRAME_NR};
    pv_lock(r->v);
    int rc = pv_info_register(&other, mfn, 0);
    if (!rc)
        pv_frame_put_type(r->d, mfn);
    pv_unlock(r->v);
    return rc;
}

static long grant(struct rig *r, uint64_t mfn, bool write)
{
    uint64_t gpa;
    r->d->grant[0][20] = (struct grant_entry_v1){GTF_permit_access, BACK_END, (uint32_t)mfn};
    if (!pv_grant_map(r->d, 20, write, &gpa))
        return GNTST_general_error;
    pv_grant_unmap(r->d, 20, write, gpa);
    return 0;
}

static long grant_rw(struct rig *r, uint64_t mfn)
{
    return grant(r, mfn, true);
}

static long grant_ro(struct rig *r, uint64_t mfn)
{
    return grant(r, mfn, false);
}

/* How many frames it gave back: it says no more. */
static long give_back(struct rig *r, uint64_t mfn)
{
    struct xen_memory_reservation m = {.nr_extents = 1, .domid = DOMID_SELF};
    const uint64_t a[6] = {XENMEM_decrease_reservation, r->at};
    m.extent_start.p = (xen_pfn_t *)(r->at + 512);
    memcpy(r->scratch, &m, sizeof m);
    r->scratch[64] = mfn;
    return hc_memory_op(r->v, a);
}

/* ---- the table ------------------------------------------------------------------------------ */

#define OK  0
#define INV (-XEN_EINVAL)
#define BSY (-XEN_EBUSY)
#define PRM (-XEN_EPERM)
#define ERR GNTST_general_error

enum { U_L1, U_L2, U_L3, U_L4, U_GDT, U_DATA, U_SHARED, U_HIDDEN, U_NONE, U_ALL1, USES };

/* The use that it has: L1, L2, L3, L4, descriptors, writable data, shared_info; the
 * hypervisor's own frame, one of no memory, and the number of all ones. A table goes into
 * one of the next level, and a pinned one is not pinned again. */
static const struct {
    const char *name;
    long (*way)(struct rig *r, uint64_t mfn);
    long code[USES];
} ways[] = {
    {"mapped writable", map_rw, {BSY, BSY, BSY, BSY, BSY, OK, OK, BSY, PRM, INV}},
    {"mapped by address", by_va, {BSY, BSY, BSY, BSY, BSY, OK, OK, BSY, PRM, INV}},
    {"mapped read-only", map_ro, {OK, OK, OK, OK, OK, OK, OK, BSY, PRM, INV}},
    {"in an L2 table", in_l2, {OK, INV, INV, INV, INV, INV, INV, INV, INV, INV}},
    {"in an L3 table", in_l3, {INV, OK, INV, INV, INV, INV, INV, INV, INV, INV}},
    {"in an L4 table", in_l4, {INV, INV, OK, INV, INV, INV, INV, INV, INV, INV}},
    {"the kernel's root", base, {INV, INV, INV, OK, INV, INV, INV, INV, INV, INV}},
    {"the user's root", user_base, {INV, INV, INV, OK, INV, INV, INV, INV, INV, INV}},
    {"cleared", clear, {INV, INV, INV, INV, INV, OK, OK, INV, INV, INV}},
    {"copied to", copy_to, {INV, INV, INV, INV, INV, OK, OK, INV, INV, INV}},
    {"descriptors", gdt, {INV, INV, INV, INV, OK, INV, INV, INV, INV, INV}},
    {"a descriptor", descriptor, {INV, INV, INV, INV, OK, OK, OK, INV, INV, INV}},
    {"vcpu_info", info, {INV, INV, INV, INV, INV, OK, OK, INV, INV, INV}},
    {"granted", grant_rw, {ERR, ERR, ERR, ERR, ERR, OK, OK, ERR, ERR, ERR}},
    {"granted read-only", grant_ro, {OK, OK, OK, OK, OK, OK, OK, ERR, ERR, ERR}},
    {"given back", give_back, {OK, OK, OK, OK, OK, OK, OK, OK, OK, OK}},
};

Test(xen_types, every_way_to_every_use)
{
    struct rig r = uses_new();
    const uint64_t mfn[USES] = {AT_L1,   AT_L2,        AT_L3,       AT_L4,      AT_GDT,
                                AT_DATA, r.d->special, r.d->m2p_l3, 1ull << 30, PTE_FRAME >> 12};
    for (unsigned w = 0; w < ARRAY_LEN(ways); w++) {
        for (unsigned u = 0; u < USES; u++) {
            struct pv_page was = {0}, *p = mfn[u] < r.d->nmfn ? &r.d->page[mfn[u]] : &was;
            was = *p;
            long rc = ways[w].way(&r, mfn[u]);
            cr_expect_eq(rc, ways[w].code[u], "%s, use %u: %ld, not %ld", ways[w].name, u, rc,
                         ways[w].code[u]);
            cr_expect(p->refs == was.refs && p->types == was.types, "%s, use %u", ways[w].name, u);
        }
    }
    for (unsigned level = 0; level < 4; level++)
        for (unsigned u = 0; u < USES; u++)
            cr_expect_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE + level, mfn[u]), INV, "L%u, use %u",
                         level + 1, u);
    vc_close(r.vm);
}

/* ---- what the host writes to ------------------------------------------------------------- */

/* The rings' pages are written by back ends at any time. */
Test(xen_types, rings_stay_writable_memory)
{
    struct rig r = rig_new(1);
    const uint64_t ring[] = {r.d->store_mfn, r.d->console_mfn};
    for (unsigned i = 0; i < 2; i++) {
        memset(pv_frame_ptr(r.d, ring[i]), 0, PAGE);
        cr_assert_eq(rig_protect(&r, ring[i]), 0);
        for (unsigned level = 0; level < 4; level++)
            cr_expect_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE + level, ring[i]), -XEN_EINVAL);
        cr_expect_eq(gdt(&r, ring[i]), -XEN_EINVAL);
        cr_assert_eq(rig_map(&r, ring[i], 0), 0);
        cr_expect_eq(give_back(&r, ring[i]), 0);
        cr_expect_eq(rig_map(&r, ring[i], ring[i] << 12 | PTE_P | PTE_W), 0);
    }
    vc_close(r.vm);
}

/* ---- who may remember a translation ----------------------------------------------------- */

static void make_up(struct pv_vcpu *v, bool up)
{
    v->initialised = true;
    atomic_store(&v->up, up);
    v->kernel_mfn = v->d->vcpu[0].kernel_mfn;
    v->work = UINT32_MAX;
}

static bool forgot(const struct rig *r, unsigned cpu, uint64_t stamp)
{
    return r->d->vcpu[cpu].synced >= stamp;
}

/* As if a vCPU had cached something from the page's table. */
static void was_used(struct rig *r, uint64_t pfn)
{
    uint64_t l1;
    cr_assert_not_null(pv_entry_find(r->v, rig_va(pfn), &l1));
    atomic_store(&r->d->seen[l1], pv_seen_word(r->v->kernel_mfn, rig_va(pfn)));
}

/* The place of the entry of level 2 for an address beyond the kernel's own. */
static uint64_t l2_entry(const struct rig *r)
{
    uint64_t va = rig_va(0) + (256u << 20), mfn = r->v->kernel_mfn;
    for (unsigned level = 4; level > 2; level--) {
        const uint64_t *t = pv_frame_ptr(r->d, mfn);
        cr_assert(t[va >> (12 + 9 * (level - 1)) & 511] & PTE_P);
        mfn = PTE_MFN(t[va >> (12 + 9 * (level - 1)) & 511]);
    }
    return mfn << 12 | (va >> 21 & 511) * 8;
}

/* A table of level 1 that was reached for a while. Returns when it was no longer. */
static uint64_t table_for_a_while(struct rig *r, uint64_t pfn)
{
    cr_assert_eq(rig_protect(r, pfn), 0);
    cr_assert_eq(rig_ext(r, MMUEXT_PIN_L1_TABLE, pfn), 0);
    cr_assert_eq(rig_update(r, l2_entry(r), pfn << 12 | PTE_P | PTE_W | PTE_U), 0);
    cr_assert_eq(rig_update(r, l2_entry(r), 0), 0);
    cr_assert_eq(rig_ext(r, MMUEXT_UNPIN_TABLE, pfn), 0);
    return r->d->page[pfn].stamp;
}

Test(xen_types, a_table_that_was_writable_is_forgotten_by_all)
{
    struct rig r = rig_new(2);
    make_up(&r.d->vcpu[1], true);
    memset(pv_frame_ptr(r.d, AT_DATA), 0, PAGE);
    was_used(&r, AT_DATA);
    cr_assert_eq(rig_protect(&r, AT_DATA), 0);
    uint64_t stamp = r.d->page[AT_DATA].stamp;
    cr_assert_not(forgot(&r, 1, stamp));
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, AT_DATA), 0);
    cr_assert(forgot(&r, 0, stamp) && forgot(&r, 1, stamp));
    vc_close(r.vm);
}

/* Another vCPU's walk may be inside it. */
Test(xen_types, memory_that_was_a_table_is_left_by_all)
{
    struct rig r = rig_new(2);
    make_up(&r.d->vcpu[1], true);
    memset(pv_frame_ptr(r.d, AT_DATA), 0, PAGE);
    uint64_t stamp = table_for_a_while(&r, AT_DATA);
    cr_assert_not(forgot(&r, 1, stamp));
    cr_assert_eq(rig_map(&r, AT_DATA, (uint64_t)AT_DATA << 12 | PTE_P | PTE_W), 0);
    cr_assert(forgot(&r, 1, stamp));
    /* By a back end's grant, too. */
    stamp = table_for_a_while(&r, AT_DATA);
    cr_assert_not(forgot(&r, 1, stamp));
    cr_assert_eq(grant_rw(&r, AT_DATA), 0);
    cr_assert(forgot(&r, 0, stamp) && forgot(&r, 1, stamp));
    vc_close(r.vm);
}

/* A vCPU that is down does not run, and is not asked. */
Test(xen_types, a_vcpu_goes_down_without_translations)
{
    struct rig r = rig_new(2);
    struct pv_vcpu *v = &r.d->vcpu[1];
    const uint64_t down[6] = {VCPUOP_down, 1}, up[6] = {VCPUOP_up, 1};
    const struct pv_event nmi = {.kind = PV_EV_NMI, .vector = 2};
    make_up(v, true);
    r.d->tick++;
    uint64_t rip = r.d->eng->rip(v->bc);
    cr_assert_eq(hc_vcpu_op(v, down), 0);
    cr_assert_eq(v->synced, r.d->tick);
    pv_hook_event(r.d, 1, &nmi); /* nothing of it reaches the guest */
    pv_hook_wake(r.d, 1);
    cr_assert_eq(r.d->eng->rip(v->bc), rip);
    cr_assert_eq(hc_vcpu_op(r.v, up), 0);
    cr_assert(atomic_load(&v->up));
    vc_close(r.vm);
}

/* ---- vCPUs of each other ------------------------------------------------------------------ */

static void *switcher(void *arg)
{
    struct pv_vcpu *v = arg;
    for (unsigned i = 0; i < 20000; i++)
        pv_runstate_set(v, i & 1 ? RUNSTATE_running : RUNSTATE_blocked);
    return NULL;
}

/* One vCPU moves another's area, and makes a table of the place, while that one writes. */
Test(xen_types, runstate_is_not_written_to_a_place_of_before)
{
    struct rig r = rig_new(2);
    struct vcpu_register_runstate_memory_area area = {0};
    const uint64_t a[6] = {VCPUOP_register_runstate_memory_area, 1, r.at};
    const uint64_t *table = pv_frame_ptr(r.d, AT_DATA);
    pthread_t t;
    make_up(&r.d->vcpu[1], true);
    pthread_create(&t, NULL, switcher, &r.d->vcpu[1]);
    for (unsigned i = 0; i < 300; i++) {
        area.addr.p = (uint64_t)rig_va(AT_DATA);
        memcpy(r.scratch, &area, sizeof area);
        cr_assert_eq(hc_vcpu_op(r.v, a), 0);
        area.addr.p = 0;
        memcpy(r.scratch, &area, sizeof area);
        cr_assert_eq(hc_vcpu_op(r.v, a), 0);
        memset(pv_frame_ptr(r.d, AT_DATA), 0, PAGE);
        cr_assert_eq(rig_protect(&r, AT_DATA), 0);
        cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, AT_DATA), 0);
        for (unsigned w = 0; w < sizeof(struct vcpu_runstate_info) / 8; w++)
            cr_assert_eq(table[w], 0);
        cr_assert_eq(rig_ext(&r, MMUEXT_UNPIN_TABLE, AT_DATA), 0);
        cr_assert_eq(rig_map(&r, AT_DATA, (uint64_t)AT_DATA << 12 | PTE_P | PTE_W), 0);
    }
    pthread_join(t, NULL);
    vc_close(r.vm);
}

/* Kept from running by a scheduler, but not one that sleeps. */
Test(xen_types, waiting_for_a_turn_is_runnable)
{
    struct rig r = rig_new(1);
    struct vcpu_runstate_info a, b, c;
    pv_runstate_set(r.v, RUNSTATE_running);
    pv_cpu_waits(r.d, 0, true);
    pv_runstate_get(r.v, &a);
    cr_expect_eq(a.state, RUNSTATE_runnable);
    usleep(2000);
    pv_cpu_waits(r.d, 0, false);
    pv_runstate_get(r.v, &b);
    cr_expect_eq(b.state, RUNSTATE_running);
    cr_expect_geq(b.time[RUNSTATE_runnable] - a.time[RUNSTATE_runnable], 2000000);
    pv_runstate_set(r.v, RUNSTATE_blocked);
    pv_cpu_waits(r.d, 0, true);
    pv_cpu_waits(r.d, 0, false);
    pv_runstate_get(r.v, &c);
    cr_expect_eq(c.state, RUNSTATE_blocked);
    pv_cpu_waits(r.d, 1, true); /* there is none */
    vc_close(r.vm);
}

static long register_info(struct rig *r, unsigned cpu, uint64_t mfn, uint32_t offset)
{
    const struct vcpu_register_vcpu_info i = {.mfn = mfn, .offset = offset};
    const uint64_t a[6] = {VCPUOP_register_vcpu_info, cpu, r->at};
    memcpy(r->scratch, &i, sizeof i);
    return hc_vcpu_op(r->v, a);
}

Test(xen_types, vcpu_info_of_one_that_runs_stays_where_it_is)
{
    struct rig r = rig_new(3);
    make_up(&r.d->vcpu[1], true);
    cr_assert_eq(register_info(&r, 1, AT_DATA, 0), -XEN_EINVAL);
    cr_assert_eq(register_info(&r, 2, AT_DATA, PAGE - 8), -XEN_ENXIO);
    cr_assert_eq(register_info(&r, 2, AT_DATA, 0), 0);
    cr_assert_eq(register_info(&r, 2, AT_LEAF, 0), -XEN_EINVAL); /* once */
    cr_assert_eq(register_info(&r, 0, AT_DATA, 64), 0);
    vc_close(r.vm);
}

Test(xen_types, first_states)
{
    struct rig r = rig_new(2);
    /* Where a context that is larger than the scratch page's rest may lie. */
    uint64_t at = rig_va(AT_LEAF);
    struct vcpu_guest_context *c = (void *)pv_frame_ptr(r.d, AT_LEAF);
    const uint64_t a[6] = {VCPUOP_initialise, 1, at};
    memset(c, 0, sizeof *c);
    c->flags = VGCF_in_kernel;
    c->ctrlreg[3] = xen_pfn_to_cr3(r.v->kernel_mfn);
    uint64_t *const bases[] = {&c->fs_base, &c->gs_base_kernel, &c->gs_base_user, &c->user_regs.rip,
                               &c->kernel_sp};
    for (unsigned i = 0; i < ARRAY_LEN(bases); i++) {
        *bases[i] = 1ull << 47;
        cr_expect_eq(hc_vcpu_op(r.v, a), -XEN_EINVAL, "%u", i);
        *bases[i] = 0;
    }
    cr_assert_eq(hc_vcpu_op(r.v, a), 0);
    cr_assert_eq(hc_vcpu_op(r.v, a), -XEN_EEXIST);
    vc_close(r.vm);
}

/* ---- grants ---------------------------------------------------------------------------------- */

Test(xen_types, a_frame_is_granted_to_several_at_once)
{
    struct rig r = rig_new(1);
    uint64_t gpa;
    r.d->grant[0][20] = (struct grant_entry_v1){GTF_permit_access, BACK_END, AT_DATA};
    for (unsigned i = 0; i < 3; i++)
        cr_assert_not_null(pv_grant_map(r.d, 20, i != 1, &gpa));
    pv_grant_unmap(r.d, 20, true, gpa);
    cr_assert_eq(r.d->grant[0][20].flags, GTF_permit_access | GTF_reading | GTF_writing);
    pv_grant_unmap(r.d, 20, true, gpa);
    cr_assert_eq(r.d->grant[0][20].flags, GTF_permit_access | GTF_reading);
    pv_grant_unmap(r.d, 20, false, gpa);
    cr_assert_eq(r.d->grant[0][20].flags, GTF_permit_access);
    vc_close(r.vm);
}

/* ---- other domains ------------------------------------------------------------------------- */

Test(xen_types, other_domains)
{
    struct rig r = rig_new(1);
    static const struct {
        uint32_t id;
        long code;
    } others[] = {{0, -XEN_EPERM}, {DOMID_IO, -XEN_EPERM},      {DOMID_XEN, -XEN_EPERM},
                  {7, -XEN_ESRCH}, {DOMID_INVALID, -XEN_ESRCH}, {DOMID_SELF, 0}};
    const struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        const uint64_t a[6] = {r.at, 1, 0, others[i].id}, none[6] = {r.at, 0, 0, others[i].id};
        memcpy(r.scratch, &op, sizeof op);
        cr_expect_eq(hc_mmuext_op(r.v, a), others[i].code, "%#x", others[i].id);
        cr_expect_eq(hc_mmu_update(r.v, none), others[i].code, "%#x", others[i].id);
    }
    cr_expect_eq(rig_ext(&r, MMUEXT_FLUSH_CACHE, 0), -XEN_EACCES);
    cr_expect_eq(rig_ext(&r, MMUEXT_FLUSH_CACHE_GLOBAL, 0), -XEN_EINVAL);
    cr_expect_eq(rig_ext(&r, MMUEXT_MARK_SUPER, 0), -XEN_EOPNOTSUPP);
    vc_close(r.vm);
}
