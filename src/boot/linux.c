/* SPDX-License-Identifier: MIT
 * bzImage by the Linux/x86 boot protocol (Documentation/arch/x86/boot.rst), from
 * version 2.06. A 64-bit kernel whose payload this build can unpack is entered
 * directly, at its ELF entry and with what its own unpacker would hand over; any
 * other through the unpacker, by the 64-bit or the 32-bit entry. */
#include "loader.h"
#include "payload.h"
#include "../base/err.h"
#include "../base/util.h"

typedef unsigned long long ull;

/* Offsets of the setup header, the same in the image and in boot_params. */
enum {
    HDR_SETUP_SECTS = 0x1f1, /* 1 */
    HDR_START = 0x1f1,
    HDR_SYSSIZE = 0x1f4,   /* 4, in paragraphs of 16 bytes */
    HDR_VID_MODE = 0x1fa,  /* 2 */
    HDR_BOOT_FLAG = 0x1fe, /* 2 */
    HDR_JUMP = 0x201,      /* 1: from 0x202 to the header's end */
    HDR_MAGIC = 0x202,     /* 4 */
    HDR_VERSION = 0x206,   /* 2 */
    HDR_LOADER = 0x210,    /* 1 */
    HDR_LOADFLAGS = 0x211, /* 1 */
    HDR_CODE32 = 0x214,    /* 4 */
    HDR_RAMDISK = 0x218,   /* 4 */
    HDR_RAMDISK_LEN = 0x21c,
    HDR_CMDLINE = 0x228,      /* 4 */
    HDR_INITRD_MAX = 0x22c,   /* 4; 2.03 */
    HDR_ALIGNMENT = 0x230,    /* 4; 2.05 */
    HDR_RELOCATABLE = 0x234,  /* 1; 2.05 */
    HDR_XLOADFLAGS = 0x236,   /* 2; 2.12 */
    HDR_CMDLINE_SIZE = 0x238, /* 4; 2.06 */
    HDR_END_206 = 0x23c,
    HDR_PAYLOAD = 0x248, /* 4; 2.08 */
    HDR_PAYLOAD_LEN = 0x24c,
    HDR_END_208 = 0x250,
    HDR_SETUP_DATA = 0x250, /* 8; 2.09 */
    HDR_PREF = 0x258,       /* 8; 2.10 */
    HDR_INIT_SIZE = 0x260,  /* 4; 2.10 */
    HDR_END_210 = 0x264,
    HDR_END_MAX = 0x290, /* boot_params has other things behind */
};

/* Of boot_params (Documentation/arch/x86/zero-page.rst). */
enum {
    BP_RSDP = 0x070,        /* 8 */
    BP_EXT_RAMDISK = 0x0c0, /* 4: upper halves */
    BP_EXT_RAMDISK_LEN = 0x0c4,
    BP_E820_COUNT = 0x1e8, /* 1 */
    BP_E820 = 0x2d0,       /* 128 of 20 bytes */
    BP_LEN = 4096,
};

#define BOOT_FLAG       0xaa55u
#define HDR_MAGIC_VALUE 0x53726448u /* "HdrS" */
#define LOADED_HIGH     0x01u
#define LOADER_OTHER    0xffu
#define VID_NORMAL      0xffffu
#define XLF_KERNEL_64   0x1u
#define XLF_ABOVE_4G    0x2u
#define ENTRY_64        0x200u
#define SECTOR          512u

struct setup {
    uint16_t version;
    size_t hdr_end;      /* of the header, in the image */
    const uint8_t *code; /* the protected-mode part */
    size_t code_len;
    const uint8_t *payload; /* inside the code; NULL: not announced */
    size_t payload_len;
    uint16_t xloadflags;
    uint64_t initrd_max; /* one past the last byte an initrd may use */
    uint64_t base, len;  /* the memory the kernel needs until it knows its own */
    uint64_t load;       /* where the protected-mode part goes */
};

/* What goes where. */
struct plan {
    struct state_tables tables;
    uint64_t params, cmdline, initrd;
    bool direct; /* the ELF inside is loaded, not the protected-mode part */
    bool long_mode;
    struct elf_image elf;
};

bool linux_match(const uint8_t *image, size_t len)
{
    return len >= HDR_VERSION + 2 && get_le16(image + HDR_BOOT_FLAG) == BOOT_FLAG &&
           get_le32(image + HDR_MAGIC) == HDR_MAGIC_VALUE;
}

/* ---- the header --------------------------------------------------------------------- */

static int check_extent(const uint8_t *image, size_t len, struct setup *s)
{
    if (!linux_match(image, len))
        return err_set(VC_EFORMAT, "the image of %zu bytes has no Linux setup header", len);
    s->version = get_le16(image + HDR_VERSION);
    if (s->version < 0x206)
        return err_set(VC_EFORMAT,
                       "the kernel speaks boot protocol %u.%02u; 2.06 (Linux 2.6.22) is needed",
                       s->version >> 8, s->version & 0xff);
    size_t need = s->version >= 0x20a   ? HDR_END_210
                  : s->version >= 0x208 ? HDR_END_208
                                        : HDR_END_206;
    s->hdr_end = HDR_MAGIC + image[HDR_JUMP];
    if (s->hdr_end < need)
        return err_set(VC_EFORMAT,
                       "the kernel's setup header ends at %#zx, too early for protocol %u.%02u",
                       s->hdr_end, s->version >> 8, s->version & 0xff);
    size_t setup_len =
        (size_t)(image[HDR_SETUP_SECTS] ? image[HDR_SETUP_SECTS] : 4) * SECTOR + SECTOR;
    if (s->hdr_end > setup_len || setup_len >= len)
        return err_set(VC_EFORMAT,
                       "the kernel image is truncated: %zu bytes, of which the setup alone takes "
                       "%zu",
                       len, setup_len);
    if (!(image[HDR_LOADFLAGS] & LOADED_HIGH))
        return err_set(VC_EFORMAT, "the kernel is a zImage for low memory, not a bzImage");
    /* syssize is rounded up to a paragraph; a signature may follow. */
    uint64_t code_len = (uint64_t)get_le32(image + HDR_SYSSIZE) * 16;
    s->code = image + setup_len;
    s->code_len = len - setup_len;
    if (code_len > s->code_len + 15)
        return err_set(VC_EFORMAT,
                       "the kernel image is truncated: its code of %llu bytes has only %zu left",
                       (ull)code_len, s->code_len);
    if (code_len && code_len < s->code_len)
        s->code_len = (size_t)code_len;
    return 0;
}

static int read_payload(const uint8_t *image, struct setup *s)
{
    if (s->version < 0x208)
        return 0;
    uint32_t off = get_le32(image + HDR_PAYLOAD), n = get_le32(image + HDR_PAYLOAD_LEN);
    if (off > s->code_len || n > s->code_len - off)
        return err_set(VC_EFORMAT,
                       "the kernel's payload (offset %#x, %u bytes) ends behind its code of %zu "
                       "bytes",
                       off, n, s->code_len);
    if (n) {
        s->payload = s->code + off;
        s->payload_len = n;
    }
    return 0;
}

static int read_addresses(const uint8_t *image, struct setup *s)
{
    bool relocatable = image[HDR_RELOCATABLE] != 0;
    uint32_t align = get_le32(image + HDR_ALIGNMENT);
    if (relocatable && (align == 0 || (align & (align - 1))))
        return err_set(VC_EFORMAT, "the kernel's alignment %#x is not a power of two", align);
    s->initrd_max = (uint64_t)get_le32(image + HDR_INITRD_MAX) + 1;
    s->load = LAYOUT_1M;
    s->base = s->load;
    s->len = s->code_len;
    if (s->version < 0x20a)
        return 0;
    uint64_t pref = get_le64(image + HDR_PREF), init_size = get_le32(image + HDR_INIT_SIZE);
    if (pref < LAYOUT_1M || pref >= LAYOUT_4G)
        return err_set(VC_EFORMAT, "the kernel wants to be at %#llx, not between 1 MiB and 4 GiB",
                       (ull)pref);
    if (relocatable && (pref & (align - 1)))
        return err_set(VC_EFORMAT,
                       "the kernel wants to be at %#llx, not a multiple of its own alignment %#x",
                       (ull)pref, align);
    if (relocatable)
        s->load = pref;
    /* From the lower start to the higher end of what is loaded and what it
     * unpacks to. */
    uint64_t end = pref + init_size;
    if (s->load + s->code_len > end)
        end = s->load + s->code_len;
    s->base = min_u64(pref, s->load);
    s->len = end - s->base;
    return 0;
}

int linux_payload(const uint8_t *image, size_t len, const uint8_t **payload, size_t *payload_len)
{
    struct setup s = {0};
    int rc = check_extent(image, len, &s);
    if (!rc)
        rc = read_payload(image, &s);
    if (!rc && !s.payload)
        rc = err_set(VC_EFORMAT, "the kernel image does not say where its packed kernel is");
    *payload = s.payload;
    *payload_len = s.payload_len;
    return rc;
}

static int read_setup(const struct loader *l, struct setup *s)
{
    memset(s, 0, sizeof *s);
    int rc = check_extent(l->image, l->len, s);
    if (!rc)
        rc = read_payload(l->image, s);
    if (!rc)
        rc = read_addresses(l->image, s);
    if (rc)
        return rc;
    if (s->version >= 0x20c)
        s->xloadflags = get_le16(l->image + HDR_XLOADFLAGS);
    if ((s->xloadflags & XLF_KERNEL_64) && s->code_len <= ENTRY_64)
        return err_set(VC_EFORMAT, "the kernel's code of %zu bytes has no 64-bit entry",
                       s->code_len);
    uint32_t cmdline_max = get_le32(l->image + HDR_CMDLINE_SIZE);
    if (l->cmdline_len > cmdline_max)
        return err_set(VC_ERANGE,
                       "the command line of %zu bytes is longer than the %u this kernel "
                       "takes",
                       l->cmdline_len, cmdline_max);
    return 0;
}

/* ---- placing ------------------------------------------------------------------------- */

/* The segments of the unpacked kernel: each in the memory that the header
 * announces, none over another. */
static int check_kernel_elf(const struct loader *l, const struct setup *s,
                            const struct elf_image *elf)
{
    struct layout own = {.ram = l->ram};
    if (!elf->is64)
        return err_set(VC_EFORMAT, "the kernel says it is 64-bit but unpacks to a 32-bit ELF");
    for (unsigned i = 0; i < elf->nseg; i++) {
        uint64_t at = elf->seg[i].paddr, n = elf->seg[i].memsz;
        if (at < s->base || at - s->base > s->len || n > s->len - (at - s->base))
            return err_set(VC_EFORMAT,
                           "the unpacked kernel's segment at %#llx of %#llx bytes is outside the "
                           "%#llx-%#llx its header announces",
                           (ull)at, (ull)n, (ull)s->base, (ull)(s->base + s->len));
        int rc = layout_claim(&own, at, n, "a segment of the unpacked kernel");
        if (rc)
            return rc;
    }
    return 0;
}

static int place(struct loader *l, const struct setup *s, struct plan *p)
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

static int put_params(struct loader *l, const struct setup *s, const struct plan *p)
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

static int write_all(struct loader *l, const struct setup *s, const struct plan *p)
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
    struct setup s;
    struct plan p = {0};
    uint8_t *kernel = NULL;
    size_t kernel_len = 0;
    int rc = read_setup(l, &s);
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
