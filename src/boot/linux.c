/* SPDX-License-Identifier: MIT
 * bzImage by the Linux/x86 boot protocol (Documentation/arch/x86/boot.rst), from
 * version 2.06. A 64-bit kernel whose payload this build can unpack is entered
 * directly, at its ELF entry and with what its own unpacker would hand over; any
 * other through the unpacker, by the 64-bit or the 32-bit entry. */
#include "linux_setup.h"
#include "loader.h"
#include "payload.h"
#include "../base/err.h"
#include "../base/util.h"

typedef unsigned long long ull;

/* Of boot_params (Documentation/arch/x86/zero-page.rst). */
enum {
    BP_RSDP = 0x070,        /* 8 */
    BP_EXT_RAMDISK = 0x0c0, /* 4: upper halves */
    BP_EXT_RAMDISK_LEN = 0x0c4,
    BP_E820_COUNT = 0x1e8, /* 1 */
    BP_E820 = 0x2d0,       /* 128 of 20 bytes */
    BP_LEN = 4096,
};

#define LOADER_OTHER 0xffu
#define VID_NORMAL   0xffffu

/* What goes where. */
struct plan {
    struct state_tables tables;
    uint64_t params, cmdline, initrd;
    bool direct; /* the ELF inside is loaded, not the protected-mode part */
    bool long_mode;
    struct elf_image elf;
};

/* ---- placing ------------------------------------------------------------------------- */

/* The segments of the unpacked kernel: each in the memory that the header
 * announces, none over another. */
static int check_kernel_elf(const struct loader *l, const struct linux_setup *s,
                            const struct elf_image *elf)
{
    struct layout own = {.ram = l->ram};
    int rc = linux_check_elf(s, elf);
    for (unsigned i = 0; i < elf->nseg && !rc; i++)
        rc = layout_claim(&own, elf->seg[i].paddr, elf->seg[i].memsz,
                          "a segment of the unpacked kernel");
    return rc;
}

static int place(struct loader *l, const struct linux_setup *s, struct plan *p)
{
    int rc = state_place(l, p->long_mode, &p->tables);
    if (!rc)
        rc = loader_find_low(l, BP_LEN, 4096, "the boot parameters", &p->params);
    if (!rc)
        rc = loader_find_low(l, l->cmdline_len + 1, 16, "the command line", &p->cmdline);
    if (rc)
        return rc;
    /* Below 4 GiB if there is room, where every kernel finds it at once. */
    if (p->long_mode && (s->xloadflags & XLF_ABOVE_4G) && l->ram->high &&
        !loader_initrd_fits(l, LAYOUT_1M, s->initrd_max))
        return loader_find_initrd(l, LAYOUT_4G, UINT64_MAX, &p->initrd);
    return loader_find_initrd(l, LAYOUT_1M, s->initrd_max, &p->initrd);
}

/* ---- writing -------------------------------------------------------------------------- */

static void put_e820(const struct loader *l, uint8_t *bp)
{
    struct memmap_entry map[MEMMAP_MAX];
    unsigned n = layout_memmap(l->ram, map);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = bp + BP_E820 + i * 20;
        put_le64(e, map[i].addr);
        put_le64(e + 8, map[i].len);
        put_le32(e + 16, map[i].type);
    }
    bp[BP_E820_COUNT] = (uint8_t)n;
}

static int put_params(struct loader *l, const struct linux_setup *s, const struct plan *p)
{
    uint8_t bp[BP_LEN] = {0};
    size_t end = min_u64(s->hdr_end, HDR_END_MAX);
    memcpy(bp + HDR_START, l->image + HDR_START, end - HDR_START);
    put_le16(bp + HDR_VID_MODE, VID_NORMAL);
    bp[HDR_LOADER] = LOADER_OTHER;
    bp[HDR_LOADFLAGS] = LOADED_HIGH;
    put_le32(bp + HDR_CODE32, (uint32_t)s->load);
    put_le32(bp + HDR_CMDLINE, (uint32_t)p->cmdline);
    put_le32(bp + HDR_RAMDISK, (uint32_t)p->initrd);
    put_le32(bp + HDR_RAMDISK_LEN, (uint32_t)l->initrd_len);
    put_le32(bp + BP_EXT_RAMDISK, (uint32_t)(p->initrd >> 32));
    put_le32(bp + BP_EXT_RAMDISK_LEN, (uint32_t)((uint64_t)l->initrd_len >> 32));
    if (s->version >= 0x209)
        put_le64(bp + HDR_SETUP_DATA, 0);
    put_le64(bp + BP_RSDP, l->ram->rsdp);
    put_e820(l, bp);
    return loader_put(l, p->params, bp, sizeof bp);
}

static int write_all(struct loader *l, const struct linux_setup *s, const struct plan *p)
{
    int rc = p->direct ? loader_put_elf(l, &p->elf) : loader_put(l, s->load, s->code, s->code_len);
    if (!rc)
        rc = loader_put(l, p->initrd, l->initrd, l->initrd_len);
    if (!rc)
        rc = loader_put(l, p->cmdline, l->cmdline, l->cmdline_len + 1);
    if (!rc)
        rc = put_params(l, s, p);
    if (rc)
        return rc;
    if (p->direct)
        rc = state_long64(l, &p->tables, p->elf.entry);
    else if (p->long_mode)
        rc = state_long64(l, &p->tables, s->load + ENTRY_64);
    else
        rc = state_flat32(l, &p->tables, s->load);
    l->st->gprs.gpr[GPR_RSI] = p->params;
    return rc;
}

int linux_load(struct loader *l)
{
    struct linux_setup s;
    struct plan p = {0};
    uint8_t *kernel = NULL;
    size_t kernel_len = 0;
    int rc = linux_setup_read(l->image, l->len, &s);
    if (!rc && l->cmdline_len > s.cmdline_max)
        rc = err_set(VC_ERANGE,
                     "the command line of %zu bytes is longer than the %u this kernel takes",
                     l->cmdline_len, s.cmdline_max);
    if (!rc)
        rc = layout_claim(&l->layout, s.base, s.len, "the kernel");
    if (rc)
        return rc;
    p.long_mode = (s.xloadflags & XLF_KERNEL_64) != 0;
    p.direct = p.long_mode && s.payload && payload_known(s.payload, s.payload_len);
    if (p.direct) {
        rc = payload_unpack(s.payload, s.payload_len, s.len, &kernel, &kernel_len);
        if (!rc)
            rc = elf_parse(kernel, kernel_len, &p.elf);
        if (!rc)
            rc = check_kernel_elf(l, &s, &p.elf);
    }
    if (!rc)
        rc = place(l, &s, &p);
    if (!rc)
        rc = write_all(l, &s, &p);
    payload_free(kernel, kernel_len);
    return rc;
}
