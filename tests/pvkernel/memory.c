/* SPDX-License-Identifier: MIT
 * Page tables of a guest that sees the machine's frames: changed by hypercall and by
 * plain stores, and what the hypervisor must refuse. And the grant table. */
#include "kernel.h"
#include <xen/grant_table.h>

#define M2P ((const uint64_t *)MACH2PHYS_VIRT_START)

uint64_t pfn_of(uint64_t mfn)
{
    return M2P[mfn];
}

void *va_of(uint64_t mfn)
{
    return (void *)(BASE + pfn_of(mfn) * PAGE);
}

uint64_t mfn_of(const void *va)
{
    return ((const uint64_t *)start_info->mfn_list)[((uint64_t)va - BASE) / PAGE];
}

long map_at(const void *va, uint64_t entry)
{
    return HC(update_va_mapping, va, entry, UVMF_INVLPG | UVMF_ALL, 0);
}

/* The lowest table's entry for an address, where the kernel can read it. */
static volatile uint64_t *entry_of(const void *va)
{
    uint64_t *table = (uint64_t *)start_info->pt_base;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t e = table[(uint64_t)va >> shift & 511];
        check(e & PTE_P, "the first page tables");
        table = va_of((e & PTE_FRAME) >> 12);
    }
    return &table[(uint64_t)va >> 12 & 511];
}

static uint64_t machine(volatile uint64_t *entry)
{
    return mfn_of((void *)entry) << 12 | ((uint64_t)entry & (PAGE - 1));
}

static long update(volatile uint64_t *entry, uint64_t value)
{
    struct mmu_update u = {machine(entry) | MMU_NORMAL_PT_UPDATE, value};
    uint32_t done = 0;
    long rc = HC(mmu_update, &u, 1, &done, DOMID_SELF);
    check(rc || done == 1, "how many updates were done");
    return rc;
}

static long ext(unsigned cmd, uint64_t arg)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = arg};
    return HC(mmuext_op, &op, 1, 0, DOMID_SELF);
}

static volatile uint64_t PAGE_ALIGN left[PAGE / 8], right[PAGE / 8];
static uint64_t PAGE_ALIGN table[PAGE / 8];

static void changes(void)
{
    volatile uint64_t *entry = entry_of((void *)left);
    uint64_t was = mfn_of((void *)left) << 12 | PTE_DATA;
    uint64_t other = mfn_of((void *)right) << 12 | PTE_DATA;
    left[0] = 1;
    right[0] = 2;
    check(left[0] == 1, "a page of its own");
    check(update(entry, other) == 0 && ext(MMUEXT_INVLPG_LOCAL, (uint64_t)left) == 0, "mmu_update");
    check(left[0] == 2, "what mmu_update mapped");
    check(map_at((void *)left, was) == 0 && left[0] == 1, "update_va_mapping");
    /* The table is mapped read-only: the hypervisor emulates the store. */
    uint64_t before = __atomic_exchange_n(entry, other, __ATOMIC_SEQ_CST);
    check((before & PTE_FRAME) == (was & PTE_FRAME), "a store to a page table");
    check(ext(MMUEXT_INVLPG_LOCAL, (uint64_t)left) == 0 && left[0] == 2, "what it mapped");
    *entry = was;
    check(ext(MMUEXT_TLB_FLUSH_LOCAL, 0) == 0 && left[0] == 1, "and back");
}

/* A table made of a page, and no way to write to it while it is one. */
static void table_of_ours(void)
{
    uint64_t mfn = mfn_of(table);
    check(ext(MMUEXT_PIN_L1_TABLE, mfn) < 0, "a page that is mapped writable is no table");
    check(map_at(table, mfn << 12 | PTE_P | PTE_U | PTE_A) == 0, "a read-only mapping");
    check(ext(MMUEXT_PIN_L1_TABLE, mfn) == 0, "pinning a table");
    check(map_at(table, mfn << 12 | PTE_DATA) < 0, "a table is not mapped writable");
    check(map_at((void *)left, mfn << 12 | PTE_DATA) < 0, "nor elsewhere");
    check(ext(MMUEXT_UNPIN_TABLE, mfn) == 0, "unpinning it");
    check(map_at(table, mfn << 12 | PTE_DATA) == 0, "it is a page again");
    table[0] = 1;
}

static void refused(void)
{
    volatile uint64_t *entry = entry_of((void *)left);
    check(map_at((void *)start_info->pt_base, mfn_of((void *)start_info->pt_base) << 12 | PTE_DATA),
          "the L4 table is not mapped writable");
    check(update(entry, 0x7fffffffffull << 12 | PTE_DATA) < 0, "a frame of nobody's");
    check(HC(update_va_mapping, M2P, mfn_of((void *)left) << 12 | PTE_DATA, 0, 0) < 0,
          "the hypervisor's addresses");
    check(left[0] == 1, "what was refused changed nothing");
}

void memory_check(void)
{
    check(pfn_of(mfn_of((void *)left)) == ((uint64_t)left - BASE) / PAGE, "M2P and P2M");
    changes();
    table_of_ours();
    refused();
    print("pvkernel: page tables\n");
}

/* ---- grants ----------------------------------------------------------------------------- */

void grants_check(void)
{
    static struct grant_entry_v1 PAGE_ALIGN grants[PAGE / sizeof(struct grant_entry_v1)];
    xen_pfn_t frame = 0;
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
    setup.frame_list.p = &frame;
    check(HC(grant_table_op, GNTTABOP_setup_table, &setup, 1, 0) == 0 && setup.status == GNTST_okay,
          "setup_table");
    check(map_at(grants, frame << 12 | PTE_DATA) == 0, "mapping the grant table");
    check(grants[GNTTAB_RESERVED_CONSOLE].frame == start_info->console.domU.mfn &&
              grants[GNTTAB_RESERVED_XENSTORE].frame == start_info->store_mfn,
          "the grants there are from the start");
    volatile struct grant_entry_v1 *g = &grants[GNTTAB_NR_RESERVED_ENTRIES];
    g->frame = (uint32_t)mfn_of((void *)right);
    g->domid = 0;
    __atomic_store_n(&g->flags, GTF_permit_access, __ATOMIC_RELEASE);
    uint16_t flags = GTF_permit_access; /* nobody uses it: it can be taken back */
    check(__atomic_compare_exchange_n(&g->flags, &flags, 0, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST),
          "taking a grant back");
    print("pvkernel: grants\n");
}
