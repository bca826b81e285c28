/* SPDX-License-Identifier: MIT
 * What a PV guest's vCPU remembers of translations: it sees every change of a page table
 * when it asks for a flush or changes roots, and keeps the rest. Loads and stores are the
 * guest's own, by its engine. */
#include "xen_rig.h"

#define CODE       0x100u /* where the kernel of nothing begins */
#define AT_A       0x200u
#define AT_B       0x201u
#define AT_L1      0x202u /* tables of a mapping in the lower half: to be linked, */
#define AT_L2      0x203u
#define AT_L3      0x204u
#define AT_L4      0x205u /* and a second root */
#define AT_L1_NEXT 0x206u
#define LOWER      0x7000000000ull
#define LOWER_CODE (LOWER + PAGE)
#define ENTRY      (PTE_P | PTE_U | PTE_A | PTE_D)
#define IN_A       0xaaaaull
#define IN_B       0xbbbbull

/* At the entry point: a load, a store. */
static const uint8_t code[] = {0x48, 0x8b, 0x07, 0x48, 0x89, 0x37};

static void step(struct rig *r, uint64_t rip, uint64_t va, uint64_t value)
{
    struct vc_budget b = {.size = sizeof b, .insns = 1};
    struct vc_exit e = {.size = sizeof e};
    uint64_t *gpr = r->d->eng->gprs(r->v->bc);
    r->d->eng->set_rip(r->v->bc, rip);
    gpr[7] = va;
    gpr[6] = value;
    cr_assert_eq(vc_run(r->vm->cpu[0], &b, &e), 0, "%s", vc_errmsg());
}

static uint64_t load_by(struct rig *r, uint64_t code_va, uint64_t va)
{
    step(r, code_va, va, 0);
    cr_assert_eq(r->d->eng->rip(r->v->bc), code_va + 3, "the load faulted");
    return r->d->eng->gprs(r->v->bc)[0];
}

static uint64_t load(struct rig *r, uint64_t va)
{
    return load_by(r, rig_va(CODE), va);
}

/* In user mode, where the code is in the lower half, too. */
static uint64_t user_load(struct rig *r, uint64_t va)
{
    r->v->kernel = false;
    pv_space_ready(r->v);
    r->d->eng->switch_mode(r->v->bc, false, r->v->user_mfn << 12);
    uint64_t got = load_by(r, LOWER_CODE, va);
    r->v->kernel = true;
    r->d->eng->switch_mode(r->v->bc, true, r->v->kernel_mfn << 12);
    return got;
}

static void roots(struct rig *r, uint64_t mfn)
{
    cr_assert_eq(rig_ext(r, MMUEXT_NEW_BASEPTR, mfn), 0);
    cr_assert_eq(rig_ext(r, MMUEXT_NEW_USER_BASEPTR, mfn), 0);
}

static void store(struct rig *r, uint64_t va, uint64_t value)
{
    step(r, rig_va(CODE) + 3, va, value);
    cr_assert_eq(r->d->eng->rip(r->v->bc), rig_va(CODE) + 6, "the store faulted");
}

static uint64_t walks(struct rig *r)
{
    struct vc_stats s = {.size = sizeof s};
    cr_assert_eq(vc_cpu_stats(r->vm->cpu[0], &s), 0);
    return s.tlb_misses;
}

/* A page of zeros that gets an entry, and is mapped nowhere else for writing. */
static void table(struct rig *r, uint64_t pfn, uint64_t entry_at, uint64_t entry)
{
    uint64_t *t = pv_frame_ptr(r->d, pfn);
    t[entry_at] = entry;
    cr_assert_eq(rig_protect(r, pfn), 0);
}

/* Two roots, the same below, with A at LOWER. */
static struct rig two_roots(void)
{
    struct rig r = rig_new(1);
    struct pv_domain *d = r.d;
    memcpy(pv_frame_ptr(d, CODE), code, sizeof code);
    *(uint64_t *)pv_frame_ptr(d, AT_A) = IN_A;
    *(uint64_t *)pv_frame_ptr(d, AT_B) = IN_B;
    *((uint64_t *)pv_frame_ptr(d, AT_L1) + 1) = CODE << 12 | ENTRY;
    table(&r, AT_L1, 0, AT_A << 12 | ENTRY | PTE_W);
    table(&r, AT_L2, 0, AT_L1 << 12 | ENTRY | PTE_W);
    table(&r, AT_L3, LOWER >> 30 & 511, AT_L2 << 12 | ENTRY | PTE_W);
    const uint64_t *old = pv_frame_ptr(d, r.v->kernel_mfn);
    uint64_t *l4 = pv_frame_ptr(d, AT_L4);
    memcpy(l4, old, PAGE);
    memset(l4 + HV_SLOT_FIRST, 0, (HV_SLOT_LAST - HV_SLOT_FIRST + 1) * sizeof *l4);
    l4[0] = AT_L3 << 12 | ENTRY | PTE_W;
    cr_assert_eq(rig_protect(&r, AT_L4), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L4_TABLE, AT_L4), 0);
    cr_assert_eq(rig_update(&r, r.v->kernel_mfn << 12, AT_L3 << 12 | ENTRY | PTE_W), 0);
    return r;
}

static void change(struct rig *r, uint64_t va, uint64_t entry)
{
    uint64_t l1;
    const uint64_t *at = pv_entry_find(r->v, va, &l1);
    cr_assert_not_null(at);
    cr_assert_eq(rig_update(r, l1 << 12 | (va >> 12 & 511) * 8, entry), 0);
}

static const uint64_t places[] = {LOWER, RIG_BASE + 0x210000};

Test(xen_space, a_flush_forgets_what_has_changed)
{
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        struct rig r = two_roots();
        uint64_t va = places[i];
        change(&r, va, AT_A << 12 | ENTRY | PTE_W);
        cr_expect_eq(load(&r, va), IN_A);
        store(&r, va, IN_A);
        change(&r, va, AT_B << 12 | ENTRY | PTE_W);
        cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
        cr_expect_eq(load(&r, va), IN_B, "%#llx is not where it is mapped", (unsigned long long)va);
        store(&r, va, 1);
        cr_expect_eq(*(uint64_t *)pv_frame_ptr(r.d, AT_A), IN_A);
        cr_expect_eq(*(uint64_t *)pv_frame_ptr(r.d, AT_B), 1);
        vc_close(r.vm);
    }
}

/* The root that is entered had its translations kept; what changed meanwhile shows. */
Test(xen_space, roots_that_come_back_know_of_changes)
{
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        struct rig r = two_roots();
        uint64_t va = places[i], first = r.v->kernel_mfn;
        change(&r, va, AT_A << 12 | ENTRY | PTE_W);
        cr_expect_eq(load(&r, va), IN_A);
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, AT_L4), 0);
        cr_expect_eq(load(&r, va), IN_A);
        change(&r, va, AT_B << 12 | ENTRY | PTE_W);
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, first), 0);
        cr_expect_eq(load(&r, va), IN_B, "%#llx is not where it is mapped", (unsigned long long)va);
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_BASEPTR, AT_L4), 0);
        cr_expect_eq(load(&r, va), IN_B);
        vc_close(r.vm);
    }
}

/* A table of a higher level that goes takes what was below it along. */
Test(xen_space, a_table_that_is_taken_out_takes_its_pages)
{
    struct rig r = two_roots();
    cr_expect_eq(load(&r, LOWER), IN_A);
    cr_assert_eq(rig_update(&r, AT_L2 << 12, 0), 0);
    memset(pv_frame_ptr(r.d, AT_L1), 0, 8);
    *(uint64_t *)pv_frame_ptr(r.d, AT_L1) = AT_B << 12 | ENTRY | PTE_W;
    cr_assert_eq(rig_update(&r, AT_L2 << 12, AT_L1 << 12 | ENTRY | PTE_W), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    cr_expect_eq(load(&r, LOWER), IN_B);
    vc_close(r.vm);
}

/* Nobody stores to what has become a table, whether the guest asked for a flush or not. */
Test(xen_space, a_page_that_becomes_a_table_is_written_by_nobody)
{
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        struct rig r = two_roots();
        uint64_t va = places[i];
        const uint64_t *a = pv_frame_ptr(r.d, AT_A);
        memset(pv_frame_ptr(r.d, AT_A), 0, PAGE);
        change(&r, va, AT_A << 12 | ENTRY | PTE_W);
        store(&r, va, 0);
        cr_assert_eq(rig_protect(&r, AT_A), 0);
        if (va == LOWER)
            change(&r, va, AT_A << 12 | ENTRY);
        else
            change(&r, LOWER, AT_B << 12 | ENTRY), change(&r, va, AT_A << 12 | ENTRY);
        cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L1_TABLE, AT_A), 0);
        step(&r, rig_va(CODE) + 3, va, AT_B << 12 | ENTRY | PTE_PWT);
        cr_expect_eq(*a, 0, "stored %#llx past the checks", (unsigned long long)*a);
        vc_close(r.vm);
    }
}

Test(xen_space, users_of_roots_that_come_back_know_of_changes)
{
    struct rig r = two_roots();
    uint64_t first = r.v->kernel_mfn;
    roots(&r, first);
    cr_expect_eq(user_load(&r, LOWER), IN_A);
    roots(&r, AT_L4);
    change(&r, LOWER, AT_B << 12 | ENTRY);
    roots(&r, first); /* alone has seen the page */
    cr_expect_eq(user_load(&r, LOWER), IN_B);
    roots(&r, AT_L4);
    cr_expect_eq(user_load(&r, LOWER), IN_B);
    change(&r, LOWER, AT_A << 12 | ENTRY);
    roots(&r, first); /* both have */
    cr_expect_eq(user_load(&r, LOWER), IN_A);
    /* Another root for the user alone. */
    cr_assert_eq(rig_update(&r, AT_L4 << 12, 0), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, AT_L4), 0);
    r.v->kernel = false;
    pv_space_ready(r.v);
    r.d->eng->switch_mode(r.v->bc, false, r.v->user_mfn << 12);
    step(&r, LOWER_CODE, LOWER, 0);
    cr_expect_neq(r.d->eng->rip(r.v->bc), LOWER_CODE + 3, "it sees what the root has not");
    vc_close(r.vm);
}

/* Without a change nothing is walked again. */
Test(xen_space, roots_that_come_back_still_know)
{
    struct rig r = two_roots();
    uint64_t first = r.v->kernel_mfn, before = 0;
    for (unsigned i = 0; i < 6; i++) {
        roots(&r, i & 1 ? AT_L4 : first);
        cr_expect_eq(user_load(&r, LOWER), IN_A);
        if (i == 1)
            before = walks(&r);
    }
    cr_expect_eq(walks(&r), before);
    vc_close(r.vm);
}

Test(xen_space, a_change_leaves_other_pages_known)
{
    struct rig r = two_roots();
    cr_expect_eq(load(&r, LOWER), IN_A);
    uint64_t other = load(&r, LOWER_CODE);
    change(&r, LOWER, AT_B << 12 | ENTRY);
    cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    uint64_t before = walks(&r);
    cr_expect_eq(load(&r, LOWER_CODE), other);
    cr_expect_eq(walks(&r), before);
    cr_expect_eq(load(&r, LOWER), IN_B);
    cr_expect_eq(walks(&r), before + 1);
    vc_close(r.vm);
}

/* More of them than are remembered one by one. */
Test(xen_space, many_changes_are_all_known)
{
    const unsigned first = 2, end = 2 + CHANGES + 20;
    struct rig r = two_roots();
    for (unsigned i = first; i < end; i++)
        cr_assert_eq(rig_update(&r, AT_L1 << 12 | i * 8, AT_A << 12 | ENTRY), 0);
    for (unsigned i = first; i < end; i++)
        cr_assert_eq(load(&r, LOWER + i * PAGE), IN_A);
    for (unsigned i = first; i < end; i++)
        cr_assert_eq(rig_update(&r, AT_L1 << 12 | i * 8, AT_B << 12 | ENTRY), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    for (unsigned i = first; i < end; i++)
        cr_expect_eq(load(&r, LOWER + i * PAGE), IN_B, "page %u is where it was", i);
    vc_close(r.vm);
}

/* Entries of levels 2 to 4 that go. */
Test(xen_space, what_is_below_a_table_that_is_taken_out_is_gone)
{
    for (unsigned level = 2; level <= 4; level++) {
        struct rig r = two_roots();
        const uint64_t at[] = {[2] = AT_L2 << 12,
                               [3] = AT_L3 << 12 | (LOWER >> 30 & 511) * 8,
                               [4] = r.v->kernel_mfn << 12};
        cr_expect_eq(load(&r, LOWER), IN_A);
        cr_assert_eq(rig_update(&r, at[level], 0), 0);
        cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
        step(&r, rig_va(CODE), LOWER, 0);
        cr_expect_neq(r.d->eng->rip(r.v->bc), rig_va(CODE) + 3, "level %u: it is still there",
                      level);
        vc_close(r.vm);
    }
}

/* Pages first, then their table, as guests do it. */
Test(xen_space, a_table_that_goes_empty_leaves_other_pages_known)
{
    const uint64_t other = LOWER + (2u << 20);
    struct rig r = two_roots();
    table(&r, AT_L1_NEXT, 0, AT_B << 12 | ENTRY);
    cr_assert_eq(rig_update(&r, AT_L2 << 12 | 8, AT_L1_NEXT << 12 | ENTRY), 0);
    cr_expect_eq(load(&r, LOWER), IN_A);
    change(&r, LOWER, 0);
    change(&r, LOWER_CODE, 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    cr_expect_eq(load(&r, other), IN_B);
    uint64_t before = walks(&r);
    cr_assert_eq(rig_update(&r, AT_L2 << 12, 0), 0);
    cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    cr_expect_eq(load(&r, other), IN_B);
    cr_expect_eq(walks(&r), before);
    vc_close(r.vm);
}

/* A root of user mode that was something else meanwhile, under the same root of the kernel's,
 * whether the guest asked for a flush or not. */
Test(xen_space, a_frame_that_is_a_users_root_again_is_another)
{
    for (unsigned flush = 0; flush < 2; flush++) {
        struct rig r = two_roots();
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, AT_L4), 0);
        cr_expect_eq(user_load(&r, LOWER), IN_A);
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, 0), 0);
        cr_assert_eq(rig_ext(&r, MMUEXT_UNPIN_TABLE, AT_L4), 0);
        *(uint64_t *)pv_frame_ptr(r.d, AT_L4) = 0;
        cr_assert_eq(rig_ext(&r, MMUEXT_PIN_L4_TABLE, AT_L4), 0);
        if (flush)
            cr_assert_eq(rig_ext(&r, MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
        cr_assert_eq(rig_ext(&r, MMUEXT_NEW_USER_BASEPTR, AT_L4), 0);
        r.v->kernel = false;
        pv_space_ready(r.v);
        r.d->eng->switch_mode(r.v->bc, false, r.v->user_mfn << 12);
        step(&r, LOWER_CODE, LOWER, 0);
        cr_expect_neq(r.d->eng->rip(r.v->bc), LOWER_CODE + 3, "it sees what the root has not");
        vc_close(r.vm);
    }
}
