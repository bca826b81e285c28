/* SPDX-License-Identifier: MIT
 * Programs for UEFI. */
#include "pe.h"
#include "../base/util.h"

#define SECTIONS_MAX      64u
#define SUBSYSTEM_EFI_APP 10u

/* Offsets in the PE header: signature, COFF header of 20 bytes, optional header. */
enum { PE_MACHINE = 4, PE_SECTIONS = 6, PE_OPT_LEN = 20, PE_OPT = 24, OPT_SUBSYSTEM = 68 };
/* Of a section's header, of 40 bytes. */
enum { SEC_MEM_LEN = 8, SEC_FILE_LEN = 16, SEC_FILE = 20, SEC_LEN = 40 };

static void take_section(const uint8_t *image, size_t len, const uint8_t *sec, struct pe *pe)
{
    uint32_t off = get_le32(sec + SEC_FILE);
    uint64_t n = min_u64(get_le32(sec + SEC_MEM_LEN), get_le32(sec + SEC_FILE_LEN));
    if (off >= len || n > len - off)
        return;
    if (!memcmp(sec, ".linux\0", 8)) {
        pe->linux_image = image + off;
        pe->linux_len = n;
    } else if (!memcmp(sec, ".cmdline", 8)) {
        pe->cmdline = image + off;
        pe->cmdline_len = n;
    }
}

bool pe_read(const uint8_t *image, size_t len, struct pe *pe)
{
    memset(pe, 0, sizeof *pe);
    if (len < 0x40 || image[0] != 'M' || image[1] != 'Z')
        return false;
    uint32_t at = get_le32(image + 0x3c);
    if (at > len || len - at < PE_OPT + OPT_SUBSYSTEM + 2 || memcmp(image + at, "PE\0", 4) != 0)
        return false;
    const uint8_t *h = image + at;
    if (get_le16(h + PE_OPT + OPT_SUBSYSTEM) != SUBSYSTEM_EFI_APP)
        return false;
    pe->machine = get_le16(h + PE_MACHINE);
    size_t sec = at + PE_OPT + get_le16(h + PE_OPT_LEN);
    unsigned n = get_le16(h + PE_SECTIONS);
    for (unsigned i = 0; i < n && i < SECTIONS_MAX; i++, sec += SEC_LEN) {
        if (sec > len || len - sec < SEC_LEN)
            break;
        take_section(image, len, image + sec, pe);
    }
    return true;
}

const char *pe_machine(uint16_t machine)
{
    switch (machine) {
    case PE_X86_64: return "x86-64";
    case PE_I386: return "32-bit x86";
    case 0xaa64: return "64-bit ARM";
    default: return "another processor";
    }
}
