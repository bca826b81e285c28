/* SPDX-License-Identifier: MIT
 * vc_inspect() on images that are made here byte by byte: tables, damage, circles, and what
 * takes more than there is. Real file systems and kernels are tests/inspect's. */
#include "boot_images.h"
#include "boot_payloads.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <virtcore/inspect.h>

#define SECTOR 512u

static vc_report *look(const void *bytes, size_t len)
{
    /* Exactly so many, for the sanitizer. */
    void *copy = malloc(len);
    memcpy(copy, bytes, len);
    struct vc_inspect_opts o = {.size = sizeof o, .bytes = copy, .len = len};
    vc_report *r = vc_inspect(&o);
    cr_assert_neq(r, NULL, "%s", vc_errmsg());
    free(copy);
    return r;
}

static struct vc_report_info info_of(const vc_report *r)
{
    struct vc_report_info info = {.size = sizeof info};
    cr_assert_eq(vc_report_info(r, &info), 0);
    return info;
}
static struct vc_report_part part_of(const vc_report *r, uint32_t i)
{
    struct vc_report_part part = {.size = sizeof part};
    cr_assert_eq(vc_report_part(r, i, &part), 0, "%s", vc_errmsg());
    return part;
}
static uint32_t answer_of(const vc_report *r, uint32_t virt)
{
    struct vc_report_virt v = {.size = sizeof v};
    cr_assert_eq(vc_report_virt(r, VC_REPORT_FILE, virt, &v), 0);
    cr_expect(v.reasons > 0);
    return v.answer;
}
static bool has_fact(const vc_report *r, uint32_t kernel, const char *words)
{
    const char *line;
    for (uint32_t i = 0; (line = vc_report_fact(r, kernel, i)); i++)
        if (strstr(line, words))
            return true;
    return false;
}
static bool has_reason(const vc_report *r, uint32_t virt, const char *words)
{
    const char *line;
    for (uint32_t i = 0; (line = vc_report_reason(r, VC_REPORT_FILE, virt, i)); i++)
        if (strstr(line, words))
            return true;
    return false;
}

/* ---- arguments ---------------------------------------------------------------------------- */

Test(inspect, arguments)
{
    struct vc_inspect_opts o = {.size = sizeof o};
    struct vc_report_info info = {.size = sizeof info};
    struct vc_report_virt virt = {.size = sizeof virt};
    struct vc_report_part part = {.size = sizeof part};
    struct vc_report_kernel kernel = {.size = sizeof kernel};
    cr_expect_eq(vc_inspect(NULL), NULL);
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    cr_expect_eq(vc_inspect(&o), NULL); /* nothing to look at */
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    o.bytes = "x";
    cr_expect_eq(vc_inspect(&o), NULL); /* no bytes */
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    o.len = 1;
    o.path = "/";
    cr_expect_eq(vc_inspect(&o), NULL); /* both */
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    o.bytes = NULL;
    cr_expect_eq(vc_inspect(&o), NULL); /* a directory */
    cr_expect_eq(vc_errcode(), VC_EFORMAT);
    o.path = "/nowhere/at/all";
    cr_expect_eq(vc_inspect(&o), NULL);
    cr_expect_eq(vc_errcode(), VC_ENOENT);
    o.path = "/dev/null"; /* a device, but none of blocks */
    cr_expect_eq(vc_inspect(&o), NULL);
    cr_expect_eq(vc_errcode(), VC_EFORMAT);
    o.size = 3;
    cr_expect_eq(vc_inspect(&o), NULL);
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    vc_errclear();
    cr_expect_eq(vc_report_info(NULL, &info), VC_EINVAL);
    cr_expect_eq(vc_report_fact(NULL, 0, 0), NULL);
    cr_expect_eq(vc_report_reason(NULL, 0, 0, 0), NULL);
    vc_report_free(NULL);

    vc_report *r = look("of no kind", 10);
    cr_expect_eq(info_of(r).kind, VC_FILE_UNKNOWN);
    cr_expect_eq(info_of(r).bytes, 10);
    cr_expect_eq(vc_report_part(r, 0, &part), VC_ENOENT);
    cr_expect_eq(vc_report_kernel(r, 0, &kernel), VC_ENOENT);
    cr_expect_eq(vc_report_virt(r, 0, VC_VIRT_PV, &virt), VC_ENOENT);
    cr_expect_eq(vc_report_virt(r, VC_REPORT_FILE, 3, &virt), VC_EINVAL);
    cr_expect_eq(vc_report_info(r, NULL), VC_EINVAL);
    info.size = 0;
    cr_expect_eq(vc_report_info(r, &info), VC_EINVAL);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_UNKNOWN);
    cr_expect_eq(vc_report_reason(r, VC_REPORT_FILE, VC_VIRT_PV, 99), NULL);
    cr_expect_eq(vc_report_reason(r, VC_REPORT_FILE, 99, 0), NULL);
    vc_report_free(r);
}

/* ---- kernels --------------------------------------------------------------------------------- */

Test(inspect, elf_kernels)
{
    struct elf64 e = elf64_good();
    struct vc_report_kernel k = {.size = sizeof k};
    vc_report *r = look(&e, sizeof e);
    cr_expect_eq(info_of(r).kind, VC_FILE_KERNEL);
    cr_expect_eq(info_of(r).kernels, 1);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_eq(k.kind, VC_IMAGE_PVH);
    cr_expect_eq(k.pvh_entry, 4 * MIB + 0x20);
    cr_expect_eq(k.flags, VC_KERNEL_64BIT);
    cr_expect_str_eq(k.name, "");
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    cr_expect_eq(answer_of(r, VC_VIRT_PVH), VC_ANSWER_YES);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_PV, "XEN_ELFNOTE_ENTRY"));
    vc_report_free(r);

    e.note.desc = 64 * MIB; /* where no segment is */
    r = look(&e, sizeof e);
    cr_expect_eq(answer_of(r, VC_VIRT_PVH), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_PVH, "in none of the ELF segments"));
    vc_report_free(r);

    e = elf64_good();
    e.note.nh.n_type = 1; /* the entry of a PV guest */
    e.note.desc = 0xffffffff80000010;
    r = look(&e, sizeof e);
    cr_expect_eq(answer_of(r, VC_VIRT_PVH), VC_ANSWER_NO);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO); /* mapped from 0 on, it is not there */
    cr_expect(has_reason(r, VC_VIRT_PV, "is not in it"));
    e.note.desc = 4 * MIB + 0x10;
    vc_report_free(r);
    r = look(&e, sizeof e);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_YES);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_HVM, "its entry is for Xen PV"));
    vc_report_free(r);

    e = elf64_good();
    e.ph[2].p_type = PT_INTERP;
    r = look(&e, sizeof e);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_HVM, "dynamic linker"));
    vc_report_free(r);

    struct elf32 m = elf32_good();
    r = look(&m, sizeof m);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_eq(k.kind, VC_IMAGE_MULTIBOOT);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO);
    vc_report_free(r);
}

/* A bzImage around a payload: boot sector, one sector of setup, code. */
static size_t bzimage(uint8_t *b, const uint8_t *payload, uint32_t len)
{
    size_t code = (0x200 + len + 15) & ~15u;
    memset(b, 0, 1024 + code);
    b[0x1f1] = 1;
    put_le32(b + 0x1f4, (uint32_t)(code / 16));
    put_le16(b + 0x1fe, 0xaa55);
    b[0x201] = 0x66;
    memcpy(b + 0x202, "HdrS", 4);
    put_le16(b + 0x206, 0x20f);
    b[0x211] = 1;
    put_le32(b + 0x22c, 0x7fffffff);
    put_le32(b + 0x230, 0x200000);
    b[0x234] = 1;
    put_le16(b + 0x236, 1);
    put_le32(b + 0x238, 2047);
    put_le32(b + 0x248, 0x200);
    put_le32(b + 0x24c, len);
    put_le64(b + 0x258, PAYLOAD_AT);
    put_le32(b + 0x260, 0x8000);
    memcpy(b + 1024 + 0x200, payload, len);
    return 1024 + code;
}

Test(inspect, bzimages)
{
    static uint8_t b[16384];
    struct vc_report_kernel k = {.size = sizeof k};
    size_t n = bzimage(b, payload_xz, sizeof payload_xz);
    vc_report *r = look(b, n);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_eq(k.kind, VC_IMAGE_BZIMAGE);
    cr_expect_eq(k.protocol, 0x20f);
    cr_expect_str_eq(k.packed, "xz");
    cr_expect_eq(k.flags, VC_KERNEL_64BIT | VC_KERNEL_UNPACKED);
    cr_expect_eq(k.entry, PAYLOAD_ENTRY);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO);
    vc_report_free(r);

    b[n - 40] ^= 0x55; /* in the packed bytes */
    r = look(b, n);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_PV, "does not unpack"));
    vc_report_free(r);

    n = bzimage(b, (const uint8_t *)"BZh9 nobody unpacks this", 24);
    r = look(b, n);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_str_eq(k.packed, "bzip2");
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES); /* its own unpacker does */
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_UNKNOWN);
    vc_report_free(r);

    n = bzimage(b, payload_xz, sizeof payload_xz);
    put_le32(b + 0x260, 0x100); /* less memory than it unpacks to */
    r = look(b, n);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_HVM, "it unpacks to 1280 bytes"));
    vc_report_free(r);
    for (size_t len = 1; len < n; len += 7)
        vc_report_free(look(b, len));
}

/* What an image says goes to a terminal. */
Test(inspect, no_control_characters)
{
    static uint8_t b[16384];
    struct vc_report_kernel k = {.size = sizeof k};
    size_t n = bzimage(b, payload_xz, sizeof payload_xz);
    put_le16(b + 0x20e, 0x100);
    memcpy(b + 0x300, "6.1 \x1b[2J\x9b\n", 11);
    vc_report *r = look(b, n);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_str_eq(k.version, "6.1 ?[2J??");
    vc_report_free(r);
}

/* ---- MBR ---------------------------------------------------------------------------------------
 */

#define DISK_LEN (1u << 20)
static uint8_t disk[DISK_LEN];

static void mbr_entry(size_t sector, unsigned i, uint8_t status, uint8_t type, uint32_t start,
                      uint32_t len)
{
    uint8_t *s = disk + sector * SECTOR, *e = s + 446 + (size_t)i * 16;
    s[510] = 0x55;
    s[511] = 0xaa;
    e[0] = status;
    e[4] = type;
    put_le32(e + 8, start);
    put_le32(e + 12, len);
}

Test(inspect, mbr)
{
    memset(disk, 0, sizeof disk);
    mbr_entry(0, 0, 0x80, 0x83, 64, 100);
    mbr_entry(0, 1, 0, 0x0f, 200, 1000);
    mbr_entry(0, 3, 0, 0xef, 1900, 1000); /* ends behind the disk */
    mbr_entry(200, 0, 0, 0x82, 10, 100);
    mbr_entry(200, 1, 0, 0x05, 300, 200);
    mbr_entry(500, 0, 0, 0xab, 10, 50);
    vc_report *r = look(disk, sizeof disk);
    cr_expect_eq(info_of(r).kind, VC_FILE_DISK);
    cr_assert_eq(info_of(r).parts, 5);
    cr_expect_str_eq(part_of(r, 0).name, "(hd0,msdos1)");
    cr_expect_eq(part_of(r, 0).start, 64 * SECTOR);
    cr_expect_eq(part_of(r, 0).flags, VC_PART_ACTIVE);
    cr_expect_eq(part_of(r, 1).flags, VC_PART_EXTENDED);
    cr_expect_eq(part_of(r, 2).flags, VC_PART_ESP);
    cr_expect_eq(part_of(r, 2).bytes, (2048 - 1900) * SECTOR); /* as much as there is */
    cr_expect(has_fact(r, VC_REPORT_FILE, "(hd0,msdos4) ends behind"));
    cr_expect_eq(part_of(r, 3).number, 5);
    cr_expect_eq(part_of(r, 3).start, 210 * SECTOR);
    cr_expect_str_eq(part_of(r, 3).type, "Linux swap");
    cr_expect_eq(part_of(r, 4).start, 510 * SECTOR);
    cr_expect_str_eq(part_of(r, 4).type, "type 0xab");
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_UNKNOWN); /* nobody knows what is in there */
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_UNKNOWN);
    vc_report_free(r);

    memcpy(disk, "\xeb\x63\x90 GRUB ", 9);
    r = look(disk, sizeof disk);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    cr_expect(has_reason(r, VC_VIRT_HVM, "by BIOS: the boot sector has code: GRUB's"));
    vc_report_free(r);
}

Test(inspect, chains_of_logical_partitions)
{
    memset(disk, 0, sizeof disk);
    mbr_entry(0, 0, 0, 0x05, 100, 1900);
    mbr_entry(100, 0, 0, 0x83, 10, 10);
    mbr_entry(100, 1, 0, 0x05, 100, 100);
    mbr_entry(200, 0, 0, 0x83, 10, 10);
    mbr_entry(200, 1, 0, 0x05, 0, 100); /* the first one again */
    vc_report *r = look(disk, sizeof disk);
    cr_expect_eq(info_of(r).parts, 3);
    cr_expect(has_fact(r, VC_REPORT_FILE, "is a circle"));
    vc_report_free(r);

    for (unsigned i = 0; i < 900; i++) { /* longer than any is followed */
        mbr_entry(100 + i * 2, 0, 0, 0x83, 1, 1);
        mbr_entry(100 + i * 2, 1, 0, 0x05, (i + 1) * 2, 2);
    }
    r = look(disk, sizeof disk);
    cr_expect_eq(info_of(r).parts, 129);
    cr_expect(has_fact(r, VC_REPORT_FILE, "more than 128 logical partitions"));
    vc_report_free(r);

    mbr_entry(100, 1, 0, 0x05, UINT32_MAX, 2); /* far behind the end */
    r = look(disk, sizeof disk);
    cr_expect(has_fact(r, VC_REPORT_FILE, "logical partition 6 is damaged"));
    vc_report_free(r);
}

Test(inspect, boot_sectors)
{
    memset(disk, 0, sizeof disk);
    mbr_entry(0, 0, 0, 0x82, 64, 100);
    vc_report *r = look(disk, sizeof disk);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_NO); /* a table, no code; only swap */
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_NO);
    cr_expect(has_reason(r, VC_VIRT_PV, "no kernel was found"));
    vc_report_free(r);

    disk[0] = 0xfa;
    r = look(disk, sizeof disk);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    vc_report_free(r);

    disk[511] = 0; /* without its signature nobody starts it, and it is no table */
    r = look(disk, sizeof disk);
    cr_expect_eq(info_of(r).kind, VC_FILE_UNKNOWN);
    vc_report_free(r);

    memset(disk, 0, sizeof disk);
    memcpy(disk + 0x8001, "CD001", 5);
    r = look(disk, sizeof disk);
    cr_expect_str_eq(part_of(r, 0).fs, "ISO 9660");
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_UNKNOWN);
    vc_report_free(r);
    memcpy(disk + 0x8800, "\0CD001\1EL TORITO SPECIFICATION", 30);
    r = look(disk, sizeof disk);
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_YES);
    cr_expect(has_reason(r, VC_VIRT_HVM, "El Torito"));
    vc_report_free(r);
}

/* ---- GPT ---------------------------------------------------------------------------------------
 */

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

static void gpt_header(uint32_t sector, uint64_t at, uint64_t entries, uint32_t count,
                       uint32_t entry_len)
{
    uint8_t *h = disk + at * sector;
    memcpy(h, "EFI PART", 8);
    put_le32(h + 12, 92);
    put_le64(h + 24, at);
    put_le64(h + 72, entries);
    put_le32(h + 80, count);
    put_le32(h + 84, entry_len);
    uint64_t n = (uint64_t)count * entry_len, from = entries * sector;
    put_le32(h + 88, from < DISK_LEN && n < DISK_LEN - from ? crc32_of(disk + from, n) : 0);
    put_le32(h + 16, 0);
    put_le32(h + 16, crc32_of(h, 92));
}

static void gpt_disk(uint32_t sector)
{
    static const uint8_t linux_guid[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                           0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
    const uint64_t last = DISK_LEN / sector - 1, copy = last - 16;
    memset(disk, 0, sizeof disk);
    mbr_entry(0, 0, 0, 0xee, 1, UINT32_MAX);
    uint8_t *e = disk + 2 * (size_t)sector;
    memcpy(e, linux_guid, 16);
    put_le64(e + 32, 40);
    put_le64(e + 40, 49);
    memcpy(e + 56, "r\0\x1b\0\xe4\x20t\0", 8);
    memcpy(disk + copy * sector, e, 128);
    gpt_header(sector, 1, 2, 16, 128);
    gpt_header(sector, last, copy, 16, 128);
}

Test(inspect, gpt)
{
    for (uint32_t sector = 512; sector <= 4096; sector *= 8) {
        gpt_disk(sector);
        vc_report *r = look(disk, sizeof disk);
        cr_assert_eq(info_of(r).parts, 1);
        cr_expect_str_eq(part_of(r, 0).name, "(hd0,gpt1)");
        cr_expect_str_eq(part_of(r, 0).type, "Linux");
        cr_expect_str_eq(part_of(r, 0).label, "r??t");
        cr_expect_eq(part_of(r, 0).start, 40 * sector);
        cr_expect_eq(part_of(r, 0).bytes, 10 * sector);
        cr_expect(!has_fact(r, VC_REPORT_FILE, "damaged"));
        vc_report_free(r);

        disk[sector + 30]++; /* the header */
        r = look(disk, sizeof disk);
        cr_expect_eq(info_of(r).parts, 1);
        cr_expect(has_fact(r, VC_REPORT_FILE, "its checksum is wrong): its copy"));
        vc_report_free(r);

        disk[DISK_LEN - sector + 20]++; /* the copy, too */
        r = look(disk, sizeof disk);
        cr_expect_eq(info_of(r).parts, 0);
        cr_expect(has_fact(r, VC_REPORT_FILE, "neither its header nor the copy"));
        vc_report_free(r);

        gpt_disk(sector);
        disk[2 * sector + 33]++; /* an entry */
        r = look(disk, sizeof disk);
        cr_expect(has_fact(r, VC_REPORT_FILE, "the checksum of its entries is wrong"));
        cr_expect_eq(part_of(r, 0).start, 40 * sector);
        vc_report_free(r);
    }
}

/* Headers whose checksums are right, and which lie. */
Test(inspect, gpt_that_lies)
{
    static const char sizes[] = "damaged (it announces entries that cannot be)",
                      place[] = "damaged (its entries cannot be read)";
    const struct {
        uint64_t entries;
        uint32_t count, len;
        const char *why;
    } lies[] = {{2, UINT32_MAX, UINT32_MAX, sizes},
                {2, 1u << 24, 128, sizes},
                {2, 16, 1, sizes},
                {2, 16, 132, sizes},
                {2, 0, 128, sizes},
                {UINT64_MAX, 16, 128, place},
                {2040, 128, 128, place}};
    for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
        gpt_disk(512);
        gpt_header(512, 1, lies[i].entries, lies[i].count, lies[i].len);
        vc_report *r = look(disk, sizeof disk);
        cr_expect(has_fact(r, VC_REPORT_FILE, lies[i].why), "lie %u", i);
        cr_expect_eq(info_of(r).parts, 1);
        vc_report_free(r);
    }
    gpt_disk(512);
    put_le64(disk + 1024 + 40, UINT64_MAX - 1); /* a partition without an end */
    put_le64(disk + 1024 + 128 + 32, 9);
    disk[1024 + 128] = 1; /* one that ends before it begins */
    gpt_header(512, 1, 2, 16, 128);
    vc_report *r = look(disk, sizeof disk);
    cr_assert_eq(info_of(r).parts, 1);
    cr_expect_eq(part_of(r, 0).bytes, DISK_LEN - 40 * 512);
    cr_expect(has_fact(r, VC_REPORT_FILE, "(hd0,gpt1) is not inside the disk"));
    cr_expect(has_fact(r, VC_REPORT_FILE, "(hd0,gpt2) is not inside the disk"));
    vc_report_free(r);
}

/* ---- FAT ---------------------------------------------------------------------------------------
 */

/* FAT12: one sector of table, 16 entries in the root, clusters of a sector from sector 3 on. */
#define FAT_TABLE 512u
#define FAT_ROOT  1024u
#define FAT_DATA  1536u
static void fat_disk(void)
{
    memset(disk, 0, sizeof disk);
    disk[0] = 0xeb;
    put_le16(disk + 0x0b, 512);
    disk[0x0d] = 1;
    put_le16(disk + 0x0e, 1);
    disk[0x10] = 1;
    put_le16(disk + 0x11, 16);
    put_le16(disk + 0x13, 300);
    put_le16(disk + 0x16, 1);
    disk[0x1fe] = 0x55;
    disk[0x1ff] = 0xaa;
}
static void fat_next(unsigned cluster, unsigned next)
{
    uint8_t *p = disk + FAT_TABLE + cluster + cluster / 2;
    put_le16(p, (uint16_t)(cluster & 1 ? (get_le16(p) & 0xf) | next << 4
                                       : (get_le16(p) & 0xf000) | next));
}
static void fat_file(size_t at, const char *name, uint8_t attr, unsigned cluster, uint32_t size)
{
    memcpy(disk + at, name, 11);
    disk[at + 11] = attr;
    put_le16(disk + at + 26, (uint16_t)cluster);
    put_le32(disk + at + 28, size);
}

Test(inspect, fat)
{
    struct elf64 e = elf64_good();
    struct vc_report_kernel k = {.size = sizeof k};
    fat_disk();
    fat_file(FAT_ROOT, "VMLINUZ    ", 0, 2, sizeof e);
    /* Not in the order of the clusters. */
    static const unsigned chain[] = {2, 9, 4, 7, 5, 11, 0xfff};
    for (size_t i = 0; i * 512 < sizeof e; i++) {
        fat_next(chain[i], (i + 1) * 512 < sizeof e ? chain[i + 1] : 0xfff);
        memcpy(disk + FAT_DATA + (chain[i] - 2) * 512, (uint8_t *)&e + i * 512,
               min_u64(512, sizeof e - i * 512));
    }
    vc_report *r = look(disk, sizeof disk);
    cr_expect_str_eq(part_of(r, 0).fs, "FAT12");
    cr_expect_eq(info_of(r).kernels, 0); /* the names of Linux' kernels are in lower case */
    vc_report_free(r);
    disk[FAT_ROOT + 12] = 0x08; /* and so is this one */
    r = look(disk, sizeof disk);
    cr_assert_eq(info_of(r).kernels, 1);
    cr_assert_eq(vc_report_kernel(r, 0, &k), 0);
    cr_expect_str_eq(k.name, "(hd0)/vmlinuz");
    cr_expect_eq(k.kind, VC_IMAGE_PVH);
    cr_expect_eq(answer_of(r, VC_VIRT_PVH), VC_ANSWER_YES);
    vc_report_free(r);

    fat_next(9, 2); /* a circle: the file is what its size says, of wrong bytes */
    vc_report_free(look(disk, sizeof disk));
    fat_next(9, 400); /* where no cluster is */
    r = look(disk, sizeof disk);
    cr_expect_eq(answer_of(r, VC_VIRT_PVH), VC_ANSWER_UNKNOWN);
    cr_expect(has_reason(r, VC_VIRT_PVH, "leads to cluster 400"));
    vc_report_free(r);
    fat_next(9, 0); /* free */
    r = look(disk, sizeof disk);
    cr_expect(has_reason(r, VC_VIRT_PVH, "leads to a free one"));
    vc_report_free(r);
    fat_next(9, 0xfff); /* too short */
    r = look(disk, sizeof disk);
    cr_expect(has_reason(r, VC_VIRT_PVH, "has clusters for"));
    vc_report_free(r);
}

/* A directory in a circle of full clusters ends; a file of 4 GiB is as long as its chain. */
Test(inspect, fat_circles)
{
    fat_disk();
    fat_file(FAT_ROOT, "EFI        ", 0x10, 2, 0);
    fat_file(FAT_ROOT + 32, "BOOT       ", 0x10, 3, 0);
    fat_next(2, 2);
    fat_next(3, 3);
    for (unsigned i = 0; i < 32; i++)
        fat_file(FAT_DATA + 32 * (size_t)i, "BOOT       ", 0x10, 2, 0);
    fat_file(FAT_ROOT + 64, "VMLINUZ    ", 0, 4, UINT32_MAX);
    disk[FAT_ROOT + 64 + 12] = 0x08;
    fat_next(4, 4);
    memcpy(disk + FAT_DATA + 1024,
           "\x7f"
           "ELF",
           4);
    vc_report *r = look(disk, sizeof disk);
    cr_expect_eq(info_of(r).kernels, 0);
    vc_report_free(r);
}

/* ---- bounds -------------------------------------------------------------------------------------
 */

/* An image of 1 TiB that has nothing in it but a file system's claims. */
Test(inspect, huge_claims)
{
    int fd = memfd_create("image", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cr_assert_eq(ftruncate(fd, 1ll << 40), 0);
    struct vc_inspect_opts o = {.size = sizeof o, .path = path};
    uint8_t super[1024] = {0};
    put_le32(super + 0x00, 16);         /* inodes */
    put_le32(super + 0x04, UINT32_MAX); /* blocks */
    put_le32(super + 0x14, 1);          /* the first of them */
    put_le32(super + 0x20, 8);          /* blocks of a group */
    put_le32(super + 0x24, 8);
    put_le32(super + 0x28, 8); /* inodes of a group */
    put_le16(super + 0x38, 0xef53);
    put_le32(super + 0x4c, 1);
    put_le32(super + 0x54, 11);
    put_le16(super + 0x58, 128);
    cr_assert_eq(pwrite(fd, super, sizeof super, 1024), (ssize_t)sizeof super);
    vc_report *r = vc_inspect(&o);
    cr_assert_neq(r, NULL, "%s", vc_errmsg());
    cr_expect_eq(answer_of(r, VC_VIRT_PV), VC_ANSWER_UNKNOWN);
    cr_expect_str_eq(part_of(r, 0).fs, "ext2");
#ifdef HAVE_EXT2FS
    cr_expect(has_reason(r, VC_VIRT_PV, "more than are looked at"));
#endif
    vc_report_free(r);

    memset(super, 0, sizeof super);
    cr_assert_eq(pwrite(fd, super, sizeof super, 1024), (ssize_t)sizeof super);
    cr_assert_eq(pwrite(fd,
                        "\x7f"
                        "ELF",
                        4, 0),
                 4); /* a kernel of 1 TiB */
    r = vc_inspect(&o);
    cr_assert_neq(r, NULL, "%s", vc_errmsg());
    cr_expect_eq(answer_of(r, VC_VIRT_HVM), VC_ANSWER_UNKNOWN);
    cr_expect(has_reason(r, VC_VIRT_HVM, "larger than any"));
    vc_report_free(r);
    close(fd);
}

Test(inspect, empty_file)
{
    int fd = memfd_create("image", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct vc_inspect_opts o = {.size = sizeof o, .path = path};
    cr_expect_eq(vc_inspect(&o), NULL);
    cr_expect_eq(vc_errcode(), VC_EFORMAT);
    close(fd);
}
