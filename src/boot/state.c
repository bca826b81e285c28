/* SPDX-License-Identifier: MIT
 * First states of the boot processor: flat 32-bit and identity-mapped 64-bit. */
#include "loader.h"
#include "../base/util.h"

#define PAGE 4096ull

/* Selectors as the Linux boot protocol wants them; nobody else cares. */
#define SEL_CODE 0x10u
#define SEL_DATA 0x18u
#define SEL_TSS  0x20u

/* Attributes of struct vc_segment; types of SDM 3.4.5.1 and 3.5. */
#define ATTR_CODE64 0x0a9bu /* G, L, P, S, execute/read, accessed */
#define ATTR_CODE32 0x0c9bu /* G, D, P, S, execute/read, accessed */
#define ATTR_DATA   0x0c93u /* G, B, P, S, read/write, accessed */
#define ATTR_TSS    0x008bu /* P, busy 32-bit or 64-bit TSS */
#define ATTR_LDT    0x0082u

#define GDT_ENTRIES 6u /* null, unused, code, data, TSS in two */
#define TSS_LIMIT   0x67u

#define CR0_PE        0x1u
#define CR0_ET        0x10u
#define CR0_NE        0x20u
#define CR0_PG        0x80000000u
#define CR4_PAE       0x20u
#define EFER_LME      0x100u
#define EFER_LMA      0x400u
#define APIC_BASE_BSP 0xfee00900u /* enabled, boot processor: SDM 11.4.4 */

/* One PML4, one page-directory-pointer table, a directory for each GiB. */
#define DIRECTORIES 4u
#define TABLES_LEN  ((2 + DIRECTORIES) * PAGE)
#define PTE_TABLE   0x3u /* present, writable */
#define PTE_2M      0x83u

int state_place(struct loader *l, bool long_mode, struct state_tables *t)
{
    t->pages = 0;
    int rc = loader_find_low(l, GDT_ENTRIES * 8, 16, "the boot GDT", &t->gdt);
    if (!rc && long_mode)
        rc = loader_find_low(l, TABLES_LEN, PAGE, "the boot page tables", &t->pages);
    return rc;
}

/* A flat descriptor of 4 GiB, SDM 3.4.5. */
static uint64_t descriptor(uint16_t attr)
{
    return 0x000f00000000ffffull | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(attr >> 8) << 52;
}

static int put_gdt(struct loader *l, uint64_t gdt, uint16_t code)
{
    const uint64_t entry[GDT_ENTRIES] = {
        [SEL_CODE / 8] = descriptor(code),
        [SEL_DATA / 8] = descriptor(ATTR_DATA),
        [SEL_TSS / 8] = TSS_LIMIT | (uint64_t)ATTR_TSS << 40, /* byte-granular */
    };
    return loader_put(l, gdt, entry, sizeof entry);
}

static int put_page_tables(struct loader *l, uint64_t base)
{
    uint64_t table[512] = {base + PAGE + PTE_TABLE};
    int rc = loader_put(l, base, table, sizeof table);
    memset(table, 0, sizeof table);
    for (unsigned i = 0; i < DIRECTORIES; i++)
        table[i] = (base + (2 + i) * PAGE) | PTE_TABLE;
    if (!rc)
        rc = loader_put(l, base + PAGE, table, sizeof table);
    for (unsigned i = 0; i < DIRECTORIES && !rc; i++) {
        for (unsigned j = 0; j < 512; j++)
            table[j] = ((uint64_t)i << 30 | (uint64_t)j << 21) | PTE_2M;
        rc = loader_put(l, base + (2 + i) * PAGE, table, sizeof table);
    }
    return rc;
}

static void fill(struct boot_state *st, uint64_t gdt, uint64_t entry, uint16_t code)
{
    const struct vc_segment data = {.limit = UINT32_MAX, .selector = SEL_DATA, .attr = ATTR_DATA};
    memset(st, 0, sizeof *st);
    st->gprs = (struct vc_gprs){.size = sizeof st->gprs, .rip = entry, .rflags = 2};
    st->sregs = (struct vc_sregs){
        .size = sizeof st->sregs,
        .es = data,
        .cs = {.limit = UINT32_MAX, .selector = SEL_CODE, .attr = code},
        .ss = data,
        .ds = data,
        .fs = data,
        .gs = data,
        .ldtr = {.limit = 0xffff, .attr = ATTR_LDT},
        .tr = {.limit = TSS_LIMIT, .selector = SEL_TSS, .attr = ATTR_TSS},
        .gdt_base = gdt,
        .gdt_limit = GDT_ENTRIES * 8 - 1,
        .cr0 = CR0_PE | CR0_ET | CR0_NE,
        .apic_base = APIC_BASE_BSP,
    };
}

int state_flat32(struct loader *l, const struct state_tables *t, uint64_t entry)
{
    fill(l->st, t->gdt, entry, ATTR_CODE32);
    return put_gdt(l, t->gdt, ATTR_CODE32);
}

int state_long64(struct loader *l, const struct state_tables *t, uint64_t entry)
{
    fill(l->st, t->gdt, entry, ATTR_CODE64);
    l->st->sregs.cr0 |= CR0_PG;
    l->st->sregs.cr3 = t->pages;
    l->st->sregs.cr4 = CR4_PAE;
    l->st->sregs.efer = EFER_LME | EFER_LMA;
    int rc = put_gdt(l, t->gdt, ATTR_CODE64);
    return rc ? rc : put_page_tables(l, t->pages);
}
