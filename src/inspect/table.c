/* SPDX-License-Identifier: MIT
 * A PC's partition table: four entries in the first sector, one of which may hold a chain of
 * boot records with a logical partition each. */
#include "table.h"
#include "../base/err.h"
#include "../base/util.h"

#define LOGICAL_MAX 128u

struct entry {
    uint8_t status, type;
    uint64_t start, len; /* bytes; as the table says: relative to something */
};

static struct entry entry_of(const uint8_t *sector, unsigned i)
{
    const uint8_t *e = sector + MBR_ENTRIES + (size_t)i * MBR_ENTRY;
    return (struct entry){.status = e[0],
                          .type = e[4],
                          .start = (uint64_t)get_le32(e + 8) * SECTOR,
                          .len = (uint64_t)get_le32(e + 12) * SECTOR};
}

static bool is_signed(const uint8_t *sector)
{
    return sector[510] == 0x55 && sector[511] == 0xaa;
}

static bool is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

static const char *type_name(struct vc_report *r, uint8_t type)
{
    switch (type) {
    case 0x01: return "FAT12";
    case 0x04:
    case 0x06:
    case 0x0e: return "FAT16";
    case 0x05:
    case 0x0f:
    case 0x85: return "extended";
    case 0x07: return "NTFS or exFAT";
    case 0x0b:
    case 0x0c: return "FAT32";
    case 0x82: return "Linux swap";
    case 0x83: return "Linux";
    case 0x8e: return "Linux LVM";
    case 0xef: return "EFI system";
    case 0xfd: return "Linux RAID";
    default: return report_text(r, "type %#04x", type);
    }
}

static void add(struct vc_report *r, const struct view *disk, unsigned number,
                const struct entry *e)
{
    const char *name = report_text(r, "(hd0,msdos%u)", number);
    if (e->start >= disk->len) {
        report_line(r, &r->facts, "%s begins behind the end of the disk", name);
        return;
    }
    if (e->len > disk->len - e->start)
        report_line(r, &r->facts, "%s ends behind the end of the disk", name);
    struct view v = view_part(disk, e->start, e->len);
    struct part *p = report_part(r, &v);
    if (!p)
        return;
    p->pub.number = number;
    p->pub.name = name;
    p->pub.type = type_name(r, e->type);
    p->pub.flags = (e->status & 0x80 ? VC_PART_ACTIVE : 0) |
                   (is_extended(e->type) ? VC_PART_EXTENDED : 0) |
                   (e->type == 0xef ? VC_PART_ESP : 0);
}

/* Each boot record has its partition, relative to itself, and the next record, relative to
 * the first. A record that was there already ends it. */
static void read_logical(struct vc_report *r, const struct view *disk, uint64_t first)
{
    uint64_t seen[LOGICAL_MAX], at = first;
    for (unsigned n = 0; n < LOGICAL_MAX; n++) {
        uint8_t sector[SECTOR];
        for (unsigned i = 0; i < n; i++) {
            if (seen[i] == at) {
                report_line(r, &r->facts, "the chain of logical partitions is a circle");
                return;
            }
        }
        seen[n] = at;
        if (view_read(disk, at, sector, sizeof sector) || !is_signed(sector)) {
            report_line(r, &r->facts, "the boot record of logical partition %u is damaged", n + 5);
            err_begin();
            return;
        }
        struct entry own = entry_of(sector, 0), next = entry_of(sector, 1);
        own.start += at;
        if (own.type && own.len)
            add(r, disk, n + 5, &own);
        if (!is_extended(next.type) || !next.len)
            return;
        at = first + next.start;
    }
    report_line(r, &r->facts, "there are more than %u logical partitions, which are left out",
                LOGICAL_MAX);
}

/* Boot sectors of file systems have the signature too: what counts is that all four entries
 * can be meant as such. */
static bool plausible(const uint8_t *sector, bool *gpt)
{
    unsigned used = 0;
    *gpt = false;
    for (unsigned i = 0; i < 4; i++) {
        struct entry e = entry_of(sector, i);
        if (e.status & 0x7f)
            return false;
        if (e.type && e.len && e.start)
            used++;
        *gpt |= e.type == MBR_GPT;
    }
    return used > 0;
}

const char *table_read(struct vc_report *r, const struct view *disk)
{
    uint8_t sector[SECTOR];
    bool gpt;
    if (view_read(disk, 0, sector, sizeof sector)) {
        err_begin();
        return NULL;
    }
    if (!is_signed(sector) || !plausible(sector, &gpt)) {
        uint8_t sign[8];
        if (!view_read(disk, SECTOR, sign, sizeof sign) && !memcmp(sign, "EFI PART", 8))
            report_line(r, &r->facts,
                        "there is a GPT, but no MBR that says so: boot loaders and "
                        "kernels do not look at it");
        err_begin();
        return NULL;
    }
    if (gpt && gpt_read(r, disk))
        return "GPT";
    for (unsigned i = 0; i < 4; i++) {
        struct entry e = entry_of(sector, i);
        if (!e.type || !e.len || e.type == MBR_GPT)
            continue;
        add(r, disk, i + 1, &e);
    }
    for (unsigned i = 0; i < 4; i++) {
        struct entry e = entry_of(sector, i);
        if (is_extended(e.type) && e.len) {
            read_logical(r, disk, e.start);
            break;
        }
    }
    return "MBR";
}
