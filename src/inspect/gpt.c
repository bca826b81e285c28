/* SPDX-License-Identifier: MIT
 * GUID partition tables (UEFI specification 2.10, 5.3): a header and its entries behind the
 * first sector, and copies of both at the disk's end, each with checksums. */
#include "table.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    GPT_HEADER_LEN = 12,
    GPT_HEADER_CRC = 16,
    GPT_OWN = 24,
    GPT_ENTRIES = 72,
    GPT_COUNT = 80,
    GPT_ENTRY_LEN = 84,
    GPT_ENTRIES_CRC = 88,
    GPT_LEN = 92
};
enum { ENT_FIRST = 32, ENT_LAST = 40, ENT_FLAGS = 48, ENT_NAME = 56, ENT_LEN = 128 };

#define ENTRIES_LEN_MAX (1u << 20) /* bytes; usual is 16 KiB */
#define LEGACY_BOOT     0x4u

struct gpt {
    uint32_t sector;
    uint8_t *entries;
    uint32_t count, entry_len;
};

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    while (n--) {
        crc ^= *p++;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static const char *bad(const char *why)
{
    err_begin();
    return why;
}

/* NULL: it is good, and g has its entries. Otherwise what is wrong with it. */
static const char *read_header(const struct view *disk, uint64_t lba, struct gpt *g)
{
    uint8_t h[4096];
    if (lba > disk->len / g->sector || view_read(disk, lba * g->sector, h, g->sector))
        return bad("it cannot be read");
    if (memcmp(h, "EFI PART", 8) != 0)
        return "it has no signature";
    uint32_t len = get_le32(h + GPT_HEADER_LEN), crc = get_le32(h + GPT_HEADER_CRC);
    if (len < GPT_LEN || len > g->sector)
        return "its length cannot be";
    put_le32(h + GPT_HEADER_CRC, 0);
    if (crc32_of(h, len) != crc)
        return "its checksum is wrong";
    if (get_le64(h + GPT_OWN) != lba)
        return "it says that it is elsewhere";
    uint32_t count = get_le32(h + GPT_COUNT), entry_len = get_le32(h + GPT_ENTRY_LEN);
    uint64_t at = get_le64(h + GPT_ENTRIES), n = (uint64_t)count * entry_len;
    if (entry_len < ENT_LEN || entry_len & 7 || !n || n > ENTRIES_LEN_MAX)
        return "it announces entries that cannot be";
    if (at > disk->len / g->sector || view_load(disk, at * g->sector, n, &g->entries))
        return bad("its entries cannot be read");
    if (crc32_of(g->entries, n) != get_le32(h + GPT_ENTRIES_CRC)) {
        free(g->entries);
        g->entries = NULL;
        return "the checksum of its entries is wrong";
    }
    g->count = count;
    g->entry_len = entry_len;
    return NULL;
}

/* The first three fields of a GUID are little-endian. */
static void guid_text(const uint8_t *g, char out[37])
{
    snprintf(out, 37, "%08X-%04X-%04X-%02X%02X-%02X%02X%02X%02X%02X%02X", get_le32(g),
             get_le16(g + 4), get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14],
             g[15]);
}

#define GUID_ESP "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
static const struct {
    const char *guid, *name;
} types[] = {
    {GUID_ESP, "EFI system"},
    {"21686148-6449-6E6F-744E-656564454649", "BIOS boot"},
    {"0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux"},
    {"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root (x86-64)"},
    {"BC13C2FF-59E6-4262-A352-B275FD6F7172", "Linux boot"},
    {"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "Linux swap"},
    {"933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "Linux home"},
    {"E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"},
    {"A19D880F-05FC-4D3B-A006-743F0F84911E", "Linux RAID"},
    {"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "Microsoft basic data"},
};

static void name_type(struct vc_report *r, struct part *p, const uint8_t *e)
{
    char guid[37];
    guid_text(e, guid);
    p->pub.type = report_text(r, "%s", guid);
    for (unsigned i = 0; i < ARRAY_LEN(types); i++)
        if (!strcmp(types[i].guid, guid))
            p->pub.type = types[i].name;
    if (!strcmp(guid, GUID_ESP))
        p->pub.flags |= VC_PART_ESP;
}

static void add(struct vc_report *r, const struct view *disk, const struct gpt *g, unsigned i)
{
    static const uint8_t unused[16];
    const uint8_t *e = g->entries + (size_t)i * g->entry_len;
    uint64_t first = get_le64(e + ENT_FIRST), last = get_le64(e + ENT_LAST);
    uint64_t sectors = disk->len / g->sector;
    if (!memcmp(e, unused, sizeof unused))
        return;
    if (first > last || last >= sectors) {
        report_line(
            r, &r->facts, "(hd0,gpt%u) is not inside the disk: sectors %llu to %llu of %llu", i + 1,
            (unsigned long long)first, (unsigned long long)last, (unsigned long long)sectors);
        if (first > last || first >= sectors)
            return;
        last = sectors - 1;
    }
    struct view v = view_part(disk, first * g->sector, (last - first + 1) * g->sector);
    struct part *p = report_part(r, &v);
    if (!p)
        return;
    char label[37] = "";
    for (unsigned c = 0; c < 36; c++) {
        uint16_t unit = get_le16(e + ENT_NAME + 2 * c);
        label[c] = unit < 0x80 ? (char)unit : '?';
    }
    p->pub.number = i + 1;
    p->pub.name = report_text(r, "(hd0,gpt%u)", i + 1);
    p->pub.label = report_text(r, "%s", label);
    if (get_le64(e + ENT_FLAGS) & LEGACY_BOOT)
        p->pub.flags |= VC_PART_ACTIVE;
    name_type(r, p, e);
}

bool gpt_read(struct vc_report *r, const struct view *disk)
{
    const char *why = NULL, *why_copy = NULL;
    struct gpt g = {0};
    for (g.sector = SECTOR; g.sector <= 4096; g.sector *= 8) {
        why = read_header(disk, 1, &g);
        if (why && disk->len >= 2 * g.sector) {
            why_copy = read_header(disk, disk->len / g.sector - 1, &g);
            if (!why_copy)
                report_line(r, &r->facts,
                            "the GPT's first header is damaged (%s): its copy at "
                            "the disk's end was used",
                            why);
        } else if (!why) {
            struct gpt copy = {.sector = g.sector};
            why_copy = read_header(disk, disk->len / g.sector - 1, &copy);
            free(copy.entries);
            if (why_copy)
                report_line(r, &r->facts, "the GPT's copy at the disk's end is damaged (%s)",
                            why_copy);
        }
        if (g.entries)
            break;
    }
    if (!g.entries) {
        report_line(r, &r->facts,
                    "the MBR says that there is a GPT, but neither its header nor the copy at the "
                    "disk's end is good (%s)",
                    why ? why : "the disk is too small");
        return false;
    }
    for (unsigned i = 0; i < g.count; i++)
        add(r, disk, &g, i);
    free(g.entries);
    return true;
}
