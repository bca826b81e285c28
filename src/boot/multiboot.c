/* SPDX-License-Identifier: MIT
 * Multiboot 1 (specification 0.6.96): ELF images, and any file whose header says
 * where to load it. */
#include "loader.h"
#include "../base/err.h"
#include "../base/util.h"
#include <assert.h>
#include <stdio.h>

typedef unsigned long long ull;

#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC   0x2badb002u
#define HEADER_REACH 8192u /* the header lies all in the first so many bytes */

/* Header flags (3.1.2). Bits 0-15 must be understood or the image refused. */
#define WANT_ALIGNED  0x1u
#define WANT_MEMORY   0x2u
#define WANT_VIDEO    0x4u
#define WANT_MASK     0xffffu
#define HAS_ADDRESSES 0x10000u

/* Information flags (3.3). */
#define INFO_MEMORY  0x001u
#define INFO_CMDLINE 0x004u
#define INFO_MODS    0x008u
#define INFO_MMAP    0x040u
#define INFO_NAME    0x200u

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
    uint32_t apm_table, vbe[4];
};
struct module {
    uint32_t start, end, string, reserved;
};
struct __attribute__((packed)) mmap_entry {
    uint32_t size; /* of what follows */
    uint64_t addr, len;
    uint32_t type;
};
static_assert(sizeof(struct info) == 88, "multiboot information");
static_assert(sizeof(struct mmap_entry) == 24, "memory map entry");

/* What the guest gets, in one piece of low memory. */
struct start {
    struct info info;
    struct module module;
    struct mmap_entry mmap[MEMMAP_MAX];
    char name[16];
    char module_name[8];
    char cmdline[8 + LOADER_CMDLINE_MAX];
};

/* Finds the header: returns its offset, or SIZE_MAX. Fields that the flags do not
 * announce are left 0. */
static size_t find_header(const uint8_t *image, size_t len, struct header *h)
{
    size_t reach = min_u64(len, HEADER_REACH);
    for (size_t at = 0; at + 12 <= reach; at += 4) {
        if (get_le32(image + at) != HEADER_MAGIC)
            continue;
        memset(h, 0, sizeof *h);
        memcpy(h, image + at, 12);
        if ((uint32_t)(h->magic + h->flags + h->checksum) != 0)
            continue;
        if (h->flags & HAS_ADDRESSES) {
            if (sizeof *h > reach - at)
                continue;
            memcpy(h, image + at, sizeof *h);
        }
        return at;
    }
    return SIZE_MAX;
}

bool multiboot_match(const uint8_t *image, size_t len)
{
    struct header h;
    return find_header(image, len, &h) != SIZE_MAX;
}

static int check_flags(const struct header *h)
{
    if (h->flags & WANT_VIDEO)
        return err_set(VC_ENOTSUP, "the multiboot image requires a video mode, this machine has a "
                                   "serial console only");
    uint32_t unknown = h->flags & WANT_MASK & ~(WANT_ALIGNED | WANT_MEMORY);
    if (unknown)
        return err_set(VC_ENOTSUP,
                       "the multiboot image requires features nobody defined: flags "
                       "%#x",
                       unknown);
    return 0;
}

/* The load addresses of the header as an ELF image with one segment. */
static int use_addresses(const uint8_t *image, size_t len, size_t at, const struct header *h,
                         struct elf_image *elf)
{
    if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > at)
        return err_set(VC_EFORMAT,
                       "the multiboot header at offset %#zx wants to be at %#x in an image loaded "
                       "at %#x",
                       at, h->header_addr, h->load_addr);
    size_t off = at - (h->header_addr - h->load_addr);
    uint64_t filesz = len - off;
    if (h->load_end_addr) {
        if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > filesz)
            return err_set(VC_EFORMAT,
                           "the multiboot image is to be loaded from %#x to %#x but has %llu bytes",
                           h->load_addr, h->load_end_addr, (ull)filesz);
        filesz = h->load_end_addr - h->load_addr;
    }
    uint64_t memsz = filesz;
    if (h->bss_end_addr) {
        if (h->bss_end_addr < h->load_addr + filesz)
            return err_set(VC_EFORMAT,
                           "the multiboot image's bss ends at %#x, before its data at "
                           "%#llx",
                           h->bss_end_addr, (ull)(h->load_addr + filesz));
        memsz = h->bss_end_addr - h->load_addr;
    }
    memset(elf, 0, sizeof *elf);
    elf->nseg = 1;
    elf->seg[0] = (struct elf_seg){.paddr = h->load_addr,
                                   .vaddr = h->load_addr,
                                   .memsz = memsz,
                                   .filesz = filesz,
                                   .bytes = image + off};
    elf->entry = h->entry_addr;
    if (!elf_holds(elf, elf->entry))
        return err_set(VC_EFORMAT, "the multiboot entry %#x is not in the image", h->entry_addr);
    return 0;
}

int multiboot_parse(const uint8_t *image, size_t len, struct elf_image *elf)
{
    struct header h;
    size_t at = find_header(image, len, &h);
    if (at == SIZE_MAX)
        return err_set(VC_EFORMAT, "the image has no multiboot header in its first %u bytes",
                       HEADER_REACH);
    int rc = check_flags(&h);
    if (rc)
        return rc;
    if (h.flags & HAS_ADDRESSES)
        rc = use_addresses(image, len, at, &h, elf);
    else if (elf_match(image, len))
        rc = elf_parse(image, len, elf);
    else
        rc = err_set(VC_EFORMAT, "the multiboot image is neither ELF nor says where to load it");
    if (!rc && elf->entry > UINT32_MAX)
        rc = err_set(VC_EFORMAT, "the multiboot entry %#llx is not a 32-bit address",
                     (ull)elf->entry);
    return rc;
}

static int put_start(struct loader *l, uint64_t at, uint64_t initrd)
{
#define AT(field) ((uint32_t)(at + offsetof(struct start, field)))
    struct start s = {
        .info = {.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_NAME,
                 .mem_lower = (uint32_t)(min_u64(l->ram->low, LAYOUT_EBDA) >> 10),
                 .mem_upper = (uint32_t)((l->ram->low - LAYOUT_1M) >> 10),
                 .cmdline = AT(cmdline),
                 .mmap_addr = AT(mmap),
                 .boot_loader_name = AT(name)},
        .name = "libvirtcore",
        .module_name = "initrd",
    };
    if (l->initrd_len) {
        s.info.flags |= INFO_MODS;
        s.info.mods_count = 1;
        s.info.mods_addr = AT(module);
        s.module = (struct module){.start = (uint32_t)initrd,
                                   .end = (uint32_t)(initrd + l->initrd_len),
                                   .string = AT(module_name)};
    }
#undef AT
    struct memmap_entry map[MEMMAP_MAX];
    unsigned n = layout_memmap(l->ram, map);
    s.info.mmap_length = n * (uint32_t)sizeof s.mmap[0];
    for (unsigned i = 0; i < n; i++)
        s.mmap[i] = (struct mmap_entry){.size = sizeof s.mmap[0] - sizeof s.mmap[0].size,
                                        .addr = map[i].addr,
                                        .len = map[i].len,
                                        .type = map[i].type};
    /* The first word is the image's own name, as boot loaders pass it. */
    snprintf(s.cmdline, sizeof s.cmdline, "kernel%s%s", l->cmdline_len ? " " : "", l->cmdline);
    return loader_put(l, at, &s, sizeof s);
}

int multiboot_load(struct loader *l)
{
    struct elf_image elf;
    struct state_tables tables;
    uint64_t start = 0, initrd = 0;
    int rc = multiboot_parse(l->image, l->len, &elf);
    if (!rc)
        rc = loader_claim_elf(l, &elf);
    if (!rc)
        rc = state_place(l, false, &tables);
    if (!rc)
        rc = loader_find_low(l, sizeof(struct start), 16, "the multiboot information", &start);
    if (!rc)
        rc = loader_find_initrd(l, LAYOUT_1M, LAYOUT_4G, &initrd);
    if (!rc)
        rc = loader_put_elf(l, &elf);
    if (!rc)
        rc = loader_put(l, initrd, l->initrd, l->initrd_len);
    if (!rc)
        rc = put_start(l, start, initrd);
    if (!rc)
        rc = state_flat32(l, &tables, elf.entry);
    l->st->firmware = true;
    l->st->gprs.gpr[GPR_RAX] = BOOT_MAGIC;
    l->st->gprs.gpr[GPR_RBX] = start;
    return rc;
}
