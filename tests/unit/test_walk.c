/* SPDX-License-Identifier: MIT
 * The page walk, mode by mode, against what the SDM says of each entry. */
#include "base/util.h"
#include "mmu/walk.h"
#include <criterion/criterion.h>
#include <virtcore/vm.h>

#define P  1ull
#define W  2ull
#define U  4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull
#define G  0x100ull
#define NX (1ull << 63)

#define CR0  0x80000001ull
#define WP   0x10000ull
#define PSE  0x10ull
#define PAE  0x20ull
#define PGE  0x80ull
#define LA57 0x1000ull
#define SMEP 0x100000ull
#define SMAP 0x200000ull
#define LMA  0x500ull
#define NXE  0x800ull

#define ROM 0x200000ull

static struct mem mem;
static struct walk_regs regs;
static struct walk w;

static void setup(void)
{
    cr_assert_eq(mem_init(&mem, 4 << 20), 0);
    cr_assert_eq(mem_add(&mem, 0, 1 << 20, VC_MEM_RWX | VC_MEM_LOG, NULL), 0);
    cr_assert_eq(mem_add(&mem, ROM, 0x10000, VC_MEM_ROM, NULL), 0);
    regs = (struct walk_regs){.cr0 = CR0 | WP, .cr3 = 0x1000, .phys_bits = 46, .gbpages = true};
}
static void teardown(void)
{
    mem_fini(&mem);
}
TestSuite(walk, .init = setup, .fini = teardown);

static void put64(uint64_t at, uint64_t v)
{
    cr_assert(mem_copy_in(&mem, at, &v, 8));
}
static uint64_t get64(uint64_t at)
{
    uint64_t v = 0;
    cr_assert(mem_copy_out(&mem, at, &v, 8));
    return v;
}
static void put32(uint64_t at, uint32_t v)
{
    cr_assert(mem_copy_in(&mem, at, &v, 4));
}
static uint32_t get32(uint64_t at)
{
    uint32_t v = 0;
    cr_assert(mem_copy_out(&mem, at, &v, 4));
    return v;
}
static uint32_t go(uint64_t gva, enum walk_access access, bool user)
{
    return mmu_walk(&mem, &regs, gva, access, user, false, true, &w);
}
#define FAULTS(gva, access, user, err) cr_expect_eq(go(gva, access, user), WALK_FAULT | (err))
#define WORKS(gva, access, user, to)                                                               \
    do {                                                                                           \
        cr_expect_eq(go(gva, access, user), 0);                                                    \
        cr_expect_eq(w.gpa, to);                                                                   \
    } while (0)

/* 4-level tables for gva 0x8080604000: indices 1, 2, 3, 4. */
#define GVA ((1ull << 39) | (2ull << 30) | (3ull << 21) | (4ull << 12))
#define E4  (0x1000 + 8 * 1)
#define E3  (0x2000 + 8 * 2)
#define E2  (0x3000 + 8 * 3)
#define E1  (0x4000 + 8 * 4)
static void long_mode(void)
{
    regs.cr4 = PAE;
    regs.efer = LMA | NXE;
    put64(E4, 0x2000 | P | W | U);
    put64(E3, 0x3000 | P | W | U);
    put64(E2, 0x4000 | P | W | U);
    put64(E1, 0x9000 | P | W | U);
}

Test(walk, paging_off_is_the_identity)
{
    regs.cr0 = 1;
    WORKS(0x12345678, WALK_WRITE, true, 0x12345678);
    cr_expect(w.writable && w.user && !w.nx && !w.global);
    cr_expect_eq(w.shift, 12);
}

Test(walk, four_levels_and_flags)
{
    long_mode();
    WORKS(GVA + 0x123, WALK_READ, true, 0x9123);
    cr_expect_eq(w.shift, 12);
    cr_expect(w.writable && w.user && !w.nx && !w.dirty);
    cr_expect_eq(get64(E4), 0x2000 | P | W | U | A);
    cr_expect_eq(get64(E3), 0x3000 | P | W | U | A);
    cr_expect_eq(get64(E2), 0x4000 | P | W | U | A);
    cr_expect_eq(get64(E1), 0x9000 | P | W | U | A);
    WORKS(GVA, WALK_WRITE, true, 0x9000);
    cr_expect(w.dirty);
    cr_expect_eq(get64(E1), 0x9000 | P | W | U | A | D);
    WORKS(GVA, WALK_READ, false, 0x9000);
    cr_expect(w.dirty);
    uint8_t log[32];
    cr_expect_eq(mem_dirty_fetch(&mem, 0, 1 << 20, log, 32), 0);
    cr_expect_eq(log[0], 0x1e);
}

Test(walk, without_update_touches_nothing)
{
    long_mode();
    cr_expect_eq(mmu_walk(&mem, &regs, GVA, WALK_WRITE, false, false, false, &w), 0);
    cr_expect_not(w.dirty);
    cr_expect_eq(get64(E4) & A, 0);
    cr_expect_eq(get64(E1) & (A | D), 0);
}

Test(walk, not_present_at_each_level)
{
    const uint64_t at[] = {E4, E3, E2, E1};
    for (unsigned i = 0; i < 4; i++) {
        long_mode();
        put64(at[i], get64(at[i]) & ~P);
        FAULTS(GVA, WALK_READ, false, 0);
        FAULTS(GVA, WALK_WRITE, true, PF_W | PF_U);
        FAULTS(GVA, WALK_FETCH, false, PF_I);
        put64(at[i], ~P); /* nothing else of it counts */
        FAULTS(GVA, WALK_READ, false, 0);
        cr_expect_eq(get64(at[i]), ~P);
        for (unsigned j = 0; j < i; j++)
            cr_expect(get64(at[j]) & A, "an entry used on the way is accessed");
    }
}

Test(walk, reserved_bits_in_long_mode)
{
    const uint64_t at[] = {E4, E3, E2, E1};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned bit = 0; bit < 64; bit++) {
            if (bit <= 6 || (bit >= 12 && bit < 46)) /* flags and address */
                continue;
            long_mode();
            regs.gbpages = false;
            regs.efer = LMA;
            put64(at[i], get64(at[i]) | BIT64(bit));
            /* PS is an address question in a PDE and PAT in a PTE. */
            if (bit == 7 && i >= 2)
                continue;
            bool rsvd = bit == 7 || (bit >= 46 && bit < 52) || bit == 63;
            cr_expect_eq(go(GVA, WALK_READ, true), rsvd ? WALK_FAULT | PF_P | PF_U | PF_RSVD : 0,
                         "level %u bit %u", 4 - i, bit);
            if (rsvd)
                cr_expect_eq(get64(at[i]) & A, 0);
        }
    }
}

Test(walk, large_pages)
{
    long_mode();
    put64(E2, 0x600000 | P | W | U | PS | 0x1000); /* bit 12 is PAT */
    WORKS(GVA + 0xabc, WALK_WRITE, true, 0x600000 + 0x4abc);
    cr_expect_eq(w.shift, 21);
    cr_expect_eq(get64(E2), 0x601000 | P | W | U | PS | A | D);
    for (unsigned bit = 13; bit < 21; bit++) {
        put64(E2, 0x600000 | P | PS | BIT64(bit));
        FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
    }
    put64(E3, 0x80000000 | P | W | U | PS | 0x1000);
    WORKS(GVA + 0xabc, WALK_READ, true, 0x80000000 + 0x604abc);
    cr_expect_eq(w.shift, 30);
    for (unsigned bit = 13; bit < 30; bit++) {
        put64(E3, 0x80000000 | P | PS | BIT64(bit));
        FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
    }
    put64(E3, 0x80000000 | P | PS);
    regs.gbpages = false;
    FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
}

Test(walk, rights_are_the_least_of_all_levels)
{
    const uint64_t at[] = {E4, E3, E2, E1};
    for (unsigned i = 0; i < 4; i++) {
        long_mode();
        put64(at[i], get64(at[i]) & ~U);
        FAULTS(GVA, WALK_READ, true, PF_P | PF_U);
        FAULTS(GVA, WALK_WRITE, true, PF_P | PF_U | PF_W);
        FAULTS(GVA, WALK_FETCH, true, PF_P | PF_U | PF_I);
        WORKS(GVA, WALK_WRITE, false, 0x9000);
        cr_expect_not(w.user);

        long_mode();
        put64(at[i], get64(at[i]) & ~W);
        WORKS(GVA, WALK_READ, true, 0x9000);
        cr_expect_not(w.writable);
        FAULTS(GVA, WALK_WRITE, true, PF_P | PF_U | PF_W);
        FAULTS(GVA, WALK_WRITE, false, PF_P | PF_W);
        cr_expect_eq(get64(E1) & D, 0, "a refused store leaves D alone");
        regs.cr0 = CR0;
        WORKS(GVA, WALK_WRITE, false, 0x9000);
        FAULTS(GVA, WALK_WRITE, true, PF_P | PF_U | PF_W);
        regs.cr0 = CR0 | WP;

        long_mode();
        put64(at[i], get64(at[i]) | NX);
        WORKS(GVA, WALK_READ, true, 0x9000);
        cr_expect(w.nx);
        FAULTS(GVA, WALK_FETCH, true, PF_P | PF_U | PF_I);
        FAULTS(GVA, WALK_FETCH, false, PF_P | PF_I);
    }
}

Test(walk, smep_and_smap)
{
    long_mode();
    WORKS(GVA, WALK_FETCH, false, 0x9000);
    regs.cr4 |= SMEP | SMAP;
    FAULTS(GVA, WALK_FETCH, false, PF_P | PF_I);
    WORKS(GVA, WALK_FETCH, true, 0x9000);
    FAULTS(GVA, WALK_READ, false, PF_P);
    FAULTS(GVA, WALK_WRITE, false, PF_P | PF_W);
    regs.cr0 = CR0; /* WP does not matter to SMAP */
    FAULTS(GVA, WALK_WRITE, false, PF_P | PF_W);
    cr_expect_eq(mmu_walk(&mem, &regs, GVA, WALK_WRITE, false, true, true, &w), 0);
    cr_expect_eq(mmu_walk(&mem, &regs, GVA, WALK_FETCH, false, true, true, &w),
                 WALK_FAULT | PF_P | PF_I);
    put64(E1, 0x9000 | P | W);
    WORKS(GVA, WALK_FETCH, false, 0x9000);
    WORKS(GVA, WALK_WRITE, false, 0x9000);
    /* The I/D bit of the error code without NXE comes from SMEP alone. */
    regs.efer = LMA;
    put64(E1, 0);
    FAULTS(GVA, WALK_FETCH, false, PF_I);
    regs.cr4 = PAE;
    FAULTS(GVA, WALK_FETCH, false, 0);
}

Test(walk, global_needs_pge_and_the_leaf)
{
    long_mode();
    put64(E2, get64(E2) | G);
    regs.cr4 |= PGE;
    WORKS(GVA, WALK_READ, false, 0x9000);
    cr_expect_not(w.global);
    put64(E1, get64(E1) | G);
    WORKS(GVA, WALK_READ, false, 0x9000);
    cr_expect(w.global);
    regs.cr4 = PAE;
    WORKS(GVA, WALK_READ, false, 0x9000);
    cr_expect_not(w.global);
}

Test(walk, five_levels)
{
    long_mode();
    regs.cr4 |= LA57;
    regs.cr3 = 0x8000;
    put64(0x8000 + 8 * 511, 0x1000 | P | W | U);
    WORKS((511ull << 48 | GVA) + 5, WALK_READ, true, 0x9005);
    FAULTS(GVA, WALK_READ, true, PF_U);
    put64(0x8000 + 8 * 511, 0x1000 | P | W | U | PS);
    FAULTS(511ull << 48 | GVA, WALK_READ, true, PF_P | PF_U | PF_RSVD);
}

Test(walk, tables_outside_ram_read_as_ones)
{
    long_mode();
    put64(E2, 0x800000 | P | W | U);
    FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
    long_mode();
    cr_assert_eq(mem_hole_add(&mem, 0x4000, 4096), 0);
    FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
    regs.cr3 = 0xffffffffff000;
    FAULTS(GVA, WALK_READ, false, PF_P | PF_RSVD);
}

Test(walk, tables_in_rom_keep_their_flags)
{
    long_mode();
    put64(E2, ROM | P | W | U);
    put64(ROM + 8 * 4, 0x9000 | P | W | U);
    WORKS(GVA, WALK_WRITE, true, 0x9000);
    cr_expect(w.dirty, "the processor takes it as done");
    cr_expect_eq(get64(ROM + 8 * 4), 0x9000 | P | W | U);
}

static unsigned hits;
static void on_hit(void *ctx, uint64_t page, uint64_t lines)
{
    (void)ctx;
    cr_expect_eq(page, 0x4000);
    cr_expect_eq(lines, 1);
    hits++;
}

Test(walk, flags_stored_over_code_are_reported)
{
    long_mode();
    mem.code_hit = on_hit;
    atomic_store(mem_code_word(mem_find(&mem, 0x4000), 0x4000), 1);
    WORKS(GVA, WALK_READ, true, 0x9000);
    cr_expect_eq(hits, 1);
    WORKS(GVA, WALK_READ, true, 0x9000);
    cr_expect_eq(hits, 1);
}

/* PAE: gva 0xc0604000 is PDPTE 3, PDE 3, PTE 4. */
#define GVA_PAE (3ull << 30 | 3ull << 21 | 4ull << 12)
static void pae(void)
{
    regs.cr4 = PAE;
    regs.efer = NXE;
    regs.cr3 = 0x1020;
    put64(0x1020 + 24, 0x3000 | P);
    put64(E2, 0x4000 | P | W | U);
    put64(E1, 0x9000 | P | W | U);
    cr_assert(mmu_load_pdptes(&mem, &regs));
}

Test(walk, pae)
{
    pae();
    WORKS(GVA_PAE + 7, WALK_WRITE, true, 0x9007);
    cr_expect_eq(get64(0x1020 + 24), 0x3000 | P, "a PDPTE has no A");
    cr_expect_eq(get64(E2) & A, A);
    FAULTS(0, WALK_READ, true, PF_U);
    for (unsigned bit = 46; bit < 64; bit++) {
        pae();
        put64(E1, 0x9000 | P | W | U | BIT64(bit));
        if (bit < 63)
            FAULTS(GVA_PAE, WALK_READ, false, PF_P | PF_RSVD);
        else
            FAULTS(GVA_PAE, WALK_FETCH, false, PF_P | PF_I);
    }
    regs.efer = 0;
    FAULTS(GVA_PAE, WALK_FETCH, false, PF_P | PF_RSVD);
    pae();
    put64(E2, 0x400000 | P | W | U | PS);
    WORKS(GVA_PAE + 1, WALK_READ, true, 0x404001);
    cr_expect_eq(w.shift, 21);
}

Test(walk, pdptes_are_checked_when_loaded)
{
    pae();
    struct walk_regs old = regs;
    for (unsigned bit = 1; bit < 64; bit++) {
        put64(0x1020 + 24, 0x5000 | P | BIT64(bit));
        bool rsvd = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 46;
        regs = old;
        cr_expect_eq(mmu_load_pdptes(&mem, &regs), !rsvd, "bit %u", bit);
        if (rsvd)
            cr_expect_eq(regs.pdpte[3], old.pdpte[3]);
        put64(0x1020 + 24, 0x5000 | BIT64(bit)); /* not present: anything goes */
        cr_expect(mmu_load_pdptes(&mem, &regs));
    }
    regs.cr3 = 0x700000;
    cr_expect_not(mmu_load_pdptes(&mem, &regs));
}

/* 32-bit: gva 0x00c04000 is PDE 3, PTE 4. */
Test(walk, thirty_two_bit)
{
    const uint64_t gva = 3 << 22 | 4 << 12;
    put32(0x1000 + 12, 0x2000 | P | W | U);
    put32(0x2000 + 16, 0x9000 | P | W | U);
    put32(0x2000 + 20, 0x5a5a5a5a);
    regs.efer = NXE; /* means nothing here */
    WORKS(gva + 3, WALK_WRITE, true, 0x9003);
    cr_expect_eq(get32(0x1000 + 12), 0x2000 | P | W | U | A);
    cr_expect_eq(get32(0x2000 + 16), 0x9000 | P | W | U | A | D);
    cr_expect_eq(get32(0x2000 + 20), 0x5a5a5a5a);
    put32(0x2000 + 16, 0x9000 | P | U);
    FAULTS(gva, WALK_WRITE, false, PF_P | PF_W);
    put32(0x2000 + 16, 0);
    FAULTS(gva, WALK_FETCH, true, PF_U);
    regs.cr4 = SMEP;
    FAULTS(gva, WALK_FETCH, true, PF_U | PF_I);
}

Test(walk, four_megabyte_pages)
{
    const uint64_t gva = 3 << 22 | 4 << 12;
    put32(0x1000 + 12, 0x2000 | P | W | U | PS);
    put32(0x2000 + 16, 0x9000 | P | W | U);
    WORKS(gva, WALK_READ, true, 0x9000); /* PS means nothing without CR4.PSE */
    regs.cr4 = PSE;
    put32(0x1000 + 12, 0x40000000 | P | W | U | PS | 0x1000 | 0x5a << 13);
    WORKS(gva + 1, WALK_WRITE, true, 0x5a40004001);
    cr_expect_eq(w.shift, 22);
    put32(0x1000 + 12, 0x40000000 | P | PS | 1 << 21);
    FAULTS(gva, WALK_READ, false, PF_P | PF_RSVD);
    regs.phys_bits = 36;
    put32(0x1000 + 12, 0x40000000 | P | PS | 1 << 16);
    WORKS(gva, WALK_READ, false, 0x840004000);
    put32(0x1000 + 12, 0x40000000 | P | PS | 1 << 17);
    FAULTS(gva, WALK_READ, false, PF_P | PF_RSVD);
}
