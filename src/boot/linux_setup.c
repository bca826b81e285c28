/* SPDX-License-Identifier: MIT
 * The setup header of a bzImage (Documentation/arch/x86/boot.rst). */
#include "linux_setup.h"
#include "layout.h"
#include "../base/err.h"
#include "../base/util.h"

typedef unsigned long long ull;

#define BOOT_FLAG       0xaa55u
#define HDR_MAGIC_VALUE 0x53726448u /* "HdrS" */
#define SECTOR          512u
#define NAME_MAX_LEN    256u

bool linux_match(const uint8_t *image, size_t len)
{
    return len >= HDR_VERSION + 2 && get_le16(image + HDR_BOOT_FLAG) == BOOT_FLAG &&
           get_le32(image + HDR_MAGIC) == HDR_MAGIC_VALUE;
}

static int check_extent(const uint8_t *image, size_t len, struct linux_setup *s)
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

static int read_payload(const uint8_t *image, struct linux_setup *s)
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

static int read_addresses(const uint8_t *image, struct linux_setup *s)
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
    struct linux_setup s = {0};
    int rc = check_extent(image, len, &s);
    if (!rc)
        rc = read_payload(image, &s);
    if (!rc && !s.payload)
        rc = err_set(VC_EFORMAT, "the kernel image does not say where its packed kernel is");
    *payload = s.payload;
    *payload_len = s.payload_len;
    return rc;
}

/* A string in the setup part, at an offset from the boot sector's end. */
static void read_name(const uint8_t *image, struct linux_setup *s)
{
    size_t at = (size_t)get_le16(image + HDR_NAME) + SECTOR, end = (size_t)(s->code - image);
    if (at == SECTOR || at >= end)
        return;
    s->name = (const char *)image + at;
    s->name_len = strnlen(s->name, min_u64(end - at, NAME_MAX_LEN));
}

int linux_setup_read(const uint8_t *image, size_t len, struct linux_setup *s)
{
    memset(s, 0, sizeof *s);
    int rc = check_extent(image, len, s);
    if (!rc)
        rc = read_payload(image, s);
    if (!rc)
        rc = read_addresses(image, s);
    if (rc)
        return rc;
    if (s->version >= 0x20c)
        s->xloadflags = get_le16(image + HDR_XLOADFLAGS);
    if ((s->xloadflags & XLF_KERNEL_64) && s->code_len <= ENTRY_64)
        return err_set(VC_EFORMAT, "the kernel's code of %zu bytes has no 64-bit entry",
                       s->code_len);
    s->relocatable = image[HDR_RELOCATABLE] != 0;
    s->cmdline_max = get_le32(image + HDR_CMDLINE_SIZE);
    read_name(image, s);
    return 0;
}

int linux_check_elf(const struct linux_setup *s, const struct elf_image *elf)
{
    if (!elf->is64)
        return err_set(VC_EFORMAT, "the kernel says it is 64-bit but unpacks to a 32-bit ELF");
    for (unsigned i = 0; i < elf->nseg; i++) {
        uint64_t at = elf->seg[i].paddr, n = elf->seg[i].memsz;
        if (at < s->base || at - s->base > s->len || n > s->len - (at - s->base))
            return err_set(VC_EFORMAT,
                           "the unpacked kernel's segment at %#llx of %#llx bytes is outside the "
                           "%#llx-%#llx its header announces",
                           (ull)at, (ull)n, (ull)s->base, (ull)(s->base + s->len));
    }
    return 0;
}
