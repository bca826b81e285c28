/* SPDX-License-Identifier: MIT
 * What a PC's firmware would start: the code in the first sector. */
#include "disk.h"
#include "table.h"
#include "../base/err.h"
#include "../base/util.h"

/* Words that the well-known ones have in them. */
static const struct {
    const char *text, *name;
} known[] = {
    {"GRUB ", "GRUB's"},
    {"LILO", "LILO's"},
    {"SYSLINUX", "SYSLINUX's"},
    {"isolinux", "ISOLINUX's"},
    {"BOOTMGR", "Windows'"},
    {"Missing operating system", "code that starts the active partition"},
    {"Error loading operating system", "code that starts the active partition"},
};

static bool has_text(const uint8_t *sector, const char *text)
{
    return memmem(sector, 510, text, strlen(text)) != NULL;
}

const char *boot_sector_code(struct vc_report *r, const struct view *disk)
{
    static const uint8_t zeroes[MBR_ENTRIES];
    uint8_t s[SECTOR];
    if (view_read(disk, 0, s, sizeof s)) {
        err_begin();
        return NULL;
    }
    if (s[510] != 0x55 || s[511] != 0xaa) {
        report_line(r, &r->facts, "the first sector has no boot signature (55 aa)");
        return NULL;
    }
    /* The last six bytes before the table are the disk's number. */
    if (!memcmp(s, zeroes, 440)) {
        report_line(r, &r->facts, "the boot sector has a signature, but no code");
        return NULL;
    }
    if (has_text(s, "not a bootable disk")) {
        report_line(r, &r->facts, "the boot sector's code only says that the disk is not bootable");
        return NULL;
    }
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (has_text(s, known[i].text))
            return known[i].name;
    return "code of an unknown loader";
}

/* The boot record of El Torito, in the 18th sector of 2048 bytes. */
bool boot_sector_cd(const struct view *disk)
{
    static const char sign[] = "\0CD001\1EL TORITO SPECIFICATION";
    uint8_t s[sizeof sign - 1];
    bool found = disk->len >= 18 * 2048u && !view_read(disk, 17 * 2048u, s, sizeof s) &&
                 !memcmp(s, sign, sizeof s);
    err_begin();
    return found;
}
