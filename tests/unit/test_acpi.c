/* SPDX-License-Identifier: MIT
 * What firmware would leave: ACPI and MP tables, checksums, and iasl's opinion. */
#include "pc_rig.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint8_t seg[0x10000]; /* 0xf0000 on */

static void make(unsigned cpus)
{
    struct vc_pc_opts opts = {.size = sizeof opts, .ram = 4 << 20, .cpus = cpus};
    rig_init(opts.ram);
    rig.pc = pc_new(&rig.host, &opts);
    cr_assert(rig.pc, "%s", vc_errmsg());
    cr_assert_eq(mem_read(&rig.mem, PC_RSDP, seg, sizeof seg), 0);
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

/* A table at a guest-physical address, checked. */
static const uint8_t *table(uint64_t gpa, const char *sig)
{
    cr_assert(gpa >= PC_RSDP && gpa + 36 <= PC_RSDP + sizeof seg, "%s at %lx", sig,
              (unsigned long)gpa);
    const uint8_t *p = seg + (gpa - PC_RSDP);
    cr_assert_arr_eq(p, sig, 4);
    uint32_t len = get_le32(p + 4);
    cr_assert(gpa + len <= PC_RSDP + sizeof seg);
    if (memcmp(sig, "FACS", 4))
        cr_assert_eq(sum(p, len), 0, "checksum of %s", sig);
    return p;
}

static const uint8_t *find(const char *sig)
{
    const uint8_t *xsdt = table(get_le64(seg + 24), "XSDT");
    for (uint32_t i = 36; i < get_le32(xsdt + 4); i += 8) {
        const uint8_t *p = seg + (get_le64(xsdt + i) - PC_RSDP);
        if (!memcmp(p, sig, 4))
            return table(get_le64(xsdt + i), sig);
    }
    cr_assert_fail("no %s", sig);
    return NULL;
}

Test(acpi, tables_hang_together)
{
    make(64);
    cr_expect_arr_eq(seg, "RSD PTR ", 8);
    cr_expect_eq(sum(seg, 20), 0);
    cr_expect_eq(sum(seg, 36), 0);
    const uint8_t *rsdt = table(get_le32(seg + 16), "RSDT");
    const uint8_t *xsdt = table(get_le64(seg + 24), "XSDT");
    cr_expect_eq((get_le32(rsdt + 4) - 36) / 4, (get_le32(xsdt + 4) - 36) / 8);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(get_le32(rsdt + 36 + 4 * i), get_le64(xsdt + 36 + 8 * i));

    const uint8_t *fadt = find("FACP");
    cr_expect_eq(get_le32(fadt + 4), 276);
    cr_expect_eq(fadt[8], 6);
    cr_expect_eq(get_le16(fadt + 46), 9);
    cr_expect_eq(get_le32(fadt + 56), 0x600);
    cr_expect_eq(get_le32(fadt + 64), 0x604);
    cr_expect_eq(get_le32(fadt + 76), 0x608);
    cr_expect_eq(fadt[88], 4);
    cr_expect_eq(fadt[89], 2);
    cr_expect_eq(fadt[91], 4);
    cr_expect_eq(fadt[108], 0x32);
    cr_expect_eq(get_le64(fadt + 120), 0xcf9);
    cr_expect_eq(fadt[128], 6);
    cr_expect_eq(get_le64(fadt + 152), 0x600);
    cr_expect_eq(get_le64(fadt + 176), 0x604);
    cr_expect_eq(get_le64(fadt + 212), 0x608);
    table(get_le32(fadt + 36), "FACS");
    cr_expect_eq(get_le32(fadt + 36) % 64, 0);
    table(get_le32(fadt + 40), "DSDT");
    cr_expect_eq(get_le64(fadt + 140), get_le32(fadt + 40));

    const uint8_t *madt = find("APIC");
    unsigned lapics = 0, ioapics = 0, overrides = 0;
    for (uint32_t i = 44; i < get_le32(madt + 4); i += madt[i + 1]) {
        cr_assert_gt(madt[i + 1], 1);
        lapics += madt[i] == 0 && madt[i + 3] == lapics && (madt[i + 4] & 1);
        ioapics += madt[i] == 1 && get_le32(madt + i + 4) == 0xfec00000;
        overrides += madt[i] == 2;
    }
    cr_expect_eq(lapics, 64);
    cr_expect_eq(ioapics, 1);
    cr_expect_eq(overrides, 2);

    const uint8_t *mcfg = find("MCFG");
    cr_expect_eq(get_le64(mcfg + 44), PC_ECAM_BASE);
    cr_expect_eq(mcfg[55], PC_ECAM_BUSES - 1);
    rig_fini();
}

Test(acpi, mp_table)
{
    make(2);
    const uint8_t *fp = NULL;
    for (uint32_t i = 0; i < sizeof seg; i += 16)
        if (!memcmp(seg + i, "_MP_", 4))
            fp = seg + i;
    cr_assert(fp);
    cr_expect_eq(sum(fp, 16), 0);
    cr_assert_leq(get_le32(fp + 4), PC_RSDP + sizeof seg - 44);
    const uint8_t *cfg = seg + (get_le32(fp + 4) - PC_RSDP);
    cr_assert_arr_eq(cfg, "PCMP", 4);
    cr_assert_leq(cfg + get_le16(cfg + 4), seg + sizeof seg);
    cr_expect_eq(sum(cfg, get_le16(cfg + 4)), 0);
    uint32_t at = 44, n = 0, types[5] = {0};
    for (; at < get_le16(cfg + 4); n++) {
        cr_assert_lt(cfg[at], 5);
        types[cfg[at]]++;
        at += cfg[at] ? 8 : 20;
    }
    cr_expect_eq(at, get_le16(cfg + 4));
    cr_expect_eq(n, get_le16(cfg + 34));
    cr_expect_eq(types[0], 2);
    cr_expect_eq(types[1], 2);
    cr_expect_eq(types[2], 1);
    cr_expect_eq(types[4], 2);
    rig_fini();
}

Test(acpi, bios_data_area)
{
    make(1);
    uint8_t bda[0x16];
    cr_assert_eq(mem_read(&rig.mem, 0x400, bda, sizeof bda), 0);
    cr_expect_eq(get_le16(bda), 0x3f8);
    cr_expect_eq(get_le16(bda + 0x0e), 0x9fc0);
    cr_expect_eq(get_le16(bda + 0x13), 639);
    rig_fini();
}

static void write_file(const char *dir, const char *name, const uint8_t *p)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s.dat", dir, name);
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    fwrite(p, 1, get_le32(p + 4), f);
    fclose(f);
}

/* iasl takes the tables apart without complaint, and its text of the DSDT
 * compiles again without an error. */
Test(acpi, iasl_agrees, .timeout = 120)
{
    if (system("command -v iasl >/dev/null 2>&1") != 0)
        cr_skip_test("iasl is not installed");
    char dir[] = "/tmp/vc-acpi-XXXXXX", cmd[512];
    cr_assert(mkdtemp(dir));
    make(64);
    const uint8_t *fadt = find("FACP");
    write_file(dir, "facp", fadt);
    write_file(dir, "apic", find("APIC"));
    write_file(dir, "mcfg", find("MCFG"));
    write_file(dir, "dsdt", table(get_le32(fadt + 40), "DSDT"));
    snprintf(cmd, sizeof cmd,
             "cd %s && iasl -d facp.dat apic.dat mcfg.dat dsdt.dat >log 2>&1 && "
             "! grep -iE 'warn|invalid|error|unknown|cannot|mismatch' log && "
             "iasl -tc -p again dsdt.dsl >log2 2>&1 && grep -q '0 Errors, 0 Warnings' log2 || "
             "{ cat log log2; exit 1; }",
             dir);
    cr_expect_eq(system(cmd), 0);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_expect_eq(system(cmd), 0);
    rig_fini();
}
