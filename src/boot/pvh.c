/* SPDX-License-Identifier: MIT
 * The PVH entry (docs/misc/pvh.pandoc of Xen): an ELF whose note gives a 32-bit
 * entry, taken with paging off and EBX pointing to a start_info. */
#include "loader.h"
#include "../base/err.h"
#include "../base/util.h"
#include <assert.h>

#define START_MAGIC   0x336ec578u
#define START_VERSION 1u /* has the memory map */

/* public/arch-x86/hvm/start_info.h; all little-endian, naturally aligned. */
struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};
struct start_module {
    uint64_t paddr, size, cmdline_paddr, reserved;
};
struct start_memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};
static_assert(sizeof(struct start_info) == 56, "start_info");
static_assert(sizeof(struct start_module) == 32, "modlist entry");
static_assert(sizeof(struct start_memmap) == 24, "memmap entry");

/* What the guest gets, in one piece of low memory. */
struct start {
    struct start_info info;
    struct start_module module;
    struct start_memmap memmap[MEMMAP_MAX];
    char cmdline[LOADER_CMDLINE_MAX + 1];
};

static int put_start(struct loader *l, uint64_t at, uint64_t initrd)
{
    struct start s = {
        .info = {.magic = START_MAGIC,
                 .version = START_VERSION,
                 .cmdline_paddr = at + offsetof(struct start, cmdline),
                 .rsdp_paddr = l->ram->rsdp,
                 .memmap_paddr = at + offsetof(struct start, memmap)},
    };
    if (l->initrd_len) {
        s.info.nr_modules = 1;
        s.info.modlist_paddr = at + offsetof(struct start, module);
        s.module.paddr = initrd;
        s.module.size = l->initrd_len;
    }
    struct memmap_entry map[MEMMAP_MAX];
    s.info.memmap_entries = layout_memmap(l->ram, map);
    for (unsigned i = 0; i < s.info.memmap_entries; i++)
        s.memmap[i] =
            (struct start_memmap){.addr = map[i].addr, .size = map[i].len, .type = map[i].type};
    memcpy(s.cmdline, l->cmdline, l->cmdline_len);
    return loader_put(l, at, &s, sizeof s);
}

int pvh_load(struct loader *l)
{
    struct elf_image elf;
    struct state_tables tables;
    uint64_t start = 0, initrd = 0;
    int rc = elf_parse(l->image, l->len, &elf);
    if (rc)
        return rc;
    if (!elf.has_pvh)
        return err_set(VC_EFORMAT, "the ELF image has no PVH entry note (\"Xen\", type 18)");
    if (!elf_holds(&elf, elf.pvh_entry))
        return err_set(VC_EFORMAT, "the PVH entry %#x is in none of the ELF segments",
                       elf.pvh_entry);
    rc = loader_claim_elf(l, &elf);
    if (!rc)
        rc = state_place(l, false, &tables);
    if (!rc)
        rc = loader_find_low(l, sizeof(struct start), 16, "the PVH start info", &start);
    if (!rc)
        rc = loader_find_initrd(l, LAYOUT_1M, LAYOUT_4G, &initrd);
    if (!rc)
        rc = loader_put_elf(l, &elf);
    if (!rc)
        rc = loader_put(l, initrd, l->initrd, l->initrd_len);
    if (!rc)
        rc = put_start(l, start, initrd);
    if (!rc)
        rc = state_flat32(l, &tables, elf.pvh_entry);
    l->st->gprs.gpr[GPR_RBX] = start;
    return rc;
}
