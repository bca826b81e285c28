/* SPDX-License-Identifier: MIT
 * ACPI tables (ACPI 6.4, chapter 5) in the BIOS segment, and the words of the
 * BIOS data area that operating systems still read. */
#include "acpi.h"
#include "pci.h"
#include "../base/err.h"

#include <stdlib.h>

#define OEM_ID       "VIRTC "
#define OEM_TABLE_ID "VIRTCPC "
#define CREATOR_ID   "VCOR"

#define EBDA 0x9fc00u

static uint32_t gpa_of(size_t off)
{
    return (uint32_t)(PC_RSDP + off);
}

static void align(struct acpi_buf *b, size_t to)
{
    while (b->len % to && !b->overflow)
        acpi_u8(b, 0);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* System description table header (5.2.6); length and checksum by table_end. */
static size_t table(struct acpi_buf *b, const char *sig, unsigned revision)
{
    align(b, 16);
    size_t at = b->len;
    acpi_put(b, sig, 4);
    acpi_u32(b, 0);
    acpi_u8(b, revision);
    acpi_u8(b, 0);
    acpi_put(b, OEM_ID, 6);
    acpi_put(b, OEM_TABLE_ID, 8);
    acpi_u32(b, 1);
    acpi_put(b, CREATOR_ID, 4);
    acpi_u32(b, 1);
    return at;
}

static uint32_t table_end(struct acpi_buf *b, size_t at)
{
    if (!b->overflow) {
        uint8_t *p = b->data + at;
        put_le32(p + 4, (uint32_t)(b->len - at));
        p[9] = 0;
        p[9] = checksum(p, b->len - at);
    }
    return gpa_of(at);
}

/* Generic address structure of an I/O port (5.2.3.2). */
static void gas_io(struct acpi_buf *b, unsigned port, unsigned bits, unsigned access)
{
    acpi_u8(b, port ? 1 : 0);
    acpi_u8(b, bits);
    acpi_u8(b, 0);
    acpi_u8(b, access);
    acpi_u64(b, port);
}

static uint32_t facs(struct acpi_buf *b)
{
    align(b, 64);
    size_t at = b->len;
    acpi_put(b, "FACS", 4);
    acpi_u32(b, 64);
    acpi_u32(b, 0); /* hardware signature */
    acpi_u32(b, 0); /* waking vector */
    acpi_u32(b, 0); /* global lock */
    acpi_u32(b, 0); /* flags */
    acpi_u64(b, 0); /* 64-bit waking vector */
    acpi_u8(b, 2);  /* version */
    while (b->len < at + 64 && !b->overflow)
        acpi_u8(b, 0);
    return gpa_of(at);
}

static uint32_t dsdt(struct acpi_buf *b, unsigned cpus, bool bare)
{
    size_t at = table(b, "DSDT", 2);
    if (bare)
        acpi_dsdt_bare(b, cpus);
    else
        acpi_dsdt(b, cpus);
    return table_end(b, at);
}

/* FADT (5.2.9): flags */
#define F_WBINVD    BIT(0)
#define F_PROC_C1   BIT(2)
#define F_PWR_BUT   BIT(4) /* no fixed power and sleep buttons */
#define F_SLP_BUT   BIT(5)
#define F_FIX_RTC   BIT(6) /* no RTC status in PM1 */
#define F_TMR_32    BIT(8)
#define F_RESET_REG BIT(10)
/* IAPC_BOOT_ARCH */
#define ARCH_LEGACY  0x01u
#define ARCH_8042    0x02u
#define ARCH_NO_VGA  0x04u
#define ARCH_NO_ASPM 0x10u
#define ARCH_NO_RTC  0x20u

static uint32_t fadt(struct acpi_buf *b, uint32_t facs_gpa, uint32_t dsdt_gpa, bool bare)
{
    size_t at = table(b, "FACP", bare ? 5 : 6);

    acpi_u32(b, facs_gpa);
    acpi_u32(b, dsdt_gpa);
    acpi_u8(b, 0);
    acpi_u8(b, 0); /* preferred profile: unspecified */
    acpi_u16(b, PC_IRQ_SCI);
    acpi_u32(b, 0);          /* SMI_CMD: none, always in ACPI mode */
    acpi_u32(b, 0);          /* ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT */
    acpi_u32(b, PC_PORT_PM); /* PM1a_EVT */
    acpi_u32(b, 0);
    acpi_u32(b, PC_PORT_PM + 4); /* PM1a_CNT */
    acpi_u32(b, 0);
    acpi_u32(b, 0);              /* PM2_CNT */
    acpi_u32(b, PC_PORT_PM + 8); /* PM_TMR */
    acpi_u32(b, 0);              /* GPE0, GPE1 */
    acpi_u32(b, 0);
    acpi_u8(b, 4); /* lengths: PM1_EVT, PM1_CNT, PM2_CNT, PM_TMR, GPE0, GPE1 */
    acpi_u8(b, 2);
    acpi_u8(b, 0);
    acpi_u8(b, 4);
    acpi_u8(b, 0);
    acpi_u8(b, 0);
    acpi_u8(b, 0);      /* GPE1_BASE */
    acpi_u8(b, 0);      /* CST_CNT */
    acpi_u16(b, 0xfff); /* P_LVL2_LAT, P_LVL3_LAT: no C2, no C3 */
    acpi_u16(b, 0xfff);
    acpi_u16(b, 0); /* FLUSH_SIZE, FLUSH_STRIDE */
    acpi_u16(b, 0);
    acpi_u8(b, 0); /* DUTY_OFFSET, DUTY_WIDTH */
    acpi_u8(b, 0);
    acpi_u8(b, 0); /* RTC: no day alarm, no month alarm, the century's register */
    acpi_u8(b, 0);
    acpi_u8(b, bare ? 0 : 0x32);
    acpi_u16(b, ARCH_NO_VGA | ARCH_NO_ASPM | (bare ? ARCH_NO_RTC : ARCH_LEGACY | ARCH_8042));
    acpi_u8(b, 0);
    acpi_u32(b, F_WBINVD | F_PROC_C1 | F_PWR_BUT | F_SLP_BUT | F_FIX_RTC | F_TMR_32 | F_RESET_REG);
    gas_io(b, PC_PORT_RST_CNT, 8, 1);
    acpi_u8(b, 0x06);         /* RESET_VALUE: full reset */
    acpi_u16(b, 0);           /* ARM_BOOT_ARCH */
    acpi_u8(b, bare ? 1 : 4); /* minor version: 5.1, 6.4 */
    acpi_u64(b, 0);           /* X_FIRMWARE_CTRL: the 32-bit one counts */
    acpi_u64(b, dsdt_gpa);
    gas_io(b, PC_PORT_PM, 32, 2);
    gas_io(b, 0, 0, 0);
    gas_io(b, PC_PORT_PM + 4, 16, 2);
    gas_io(b, 0, 0, 0);
    gas_io(b, 0, 0, 0);
    gas_io(b, PC_PORT_PM + 8, 32, 3);
    gas_io(b, 0, 0, 0);
    gas_io(b, 0, 0, 0);
    gas_io(b, 0, 0, 0); /* sleep control and status: not hardware-reduced */
    gas_io(b, 0, 0, 0);
    if (!bare)
        acpi_u64(b, 0); /* hypervisor vendor identity: since revision 6 */
    return table_end(b, at);
}

/* MADT (5.2.12) */
static size_t local_apics(struct acpi_buf *b, unsigned cpus, bool bare)
{
    size_t at = table(b, "APIC", bare ? 4 : 5);

    acpi_u32(b, (uint32_t)PC_LAPIC_BASE);
    acpi_u32(b, !bare); /* PCAT_COMPAT: there are 8259s to mask */
    for (unsigned i = 0; i < cpus; i++) {
        acpi_u8(b, 0);
        acpi_u8(b, 8);
        acpi_u8(b, i); /* processor UID, local APIC ID */
        acpi_u8(b, i);
        acpi_u32(b, 1);
    }
    return at;
}

static uint32_t madt(struct acpi_buf *b, unsigned cpus, bool bare)
{
    size_t at = local_apics(b, cpus, bare);

    if (bare)
        return table_end(b, at);
    acpi_u8(b, 1); /* I/O APIC */
    acpi_u8(b, 12);
    acpi_u8(b, 0);
    acpi_u8(b, 0);
    acpi_u32(b, (uint32_t)PC_IOAPIC_BASE);
    acpi_u32(b, 0);
    acpi_u8(b, 2); /* IRQ 0 arrives at pin 2 */
    acpi_u8(b, 10);
    acpi_u8(b, 0);
    acpi_u8(b, 0);
    acpi_u32(b, 2);
    acpi_u16(b, 0);
    acpi_u8(b, 2); /* the SCI: level-triggered, active high */
    acpi_u8(b, 10);
    acpi_u8(b, 0);
    acpi_u8(b, PC_IRQ_SCI);
    acpi_u32(b, PC_IRQ_SCI);
    acpi_u16(b, 0x0d);
    acpi_u8(b, 4); /* NMI at LINT1 of all processors */
    acpi_u8(b, 6);
    acpi_u8(b, 0xff);
    acpi_u16(b, 0);
    acpi_u8(b, 1);
    return table_end(b, at);
}

/* MCFG (PCI Firmware 3.0, 4.1.2) */
static uint32_t mcfg(struct acpi_buf *b)
{
    size_t at = table(b, "MCFG", 1);
    acpi_u64(b, 0);
    acpi_u64(b, PC_ECAM_BASE);
    acpi_u16(b, 0);
    acpi_u8(b, 0);
    acpi_u8(b, PC_ECAM_BUSES - 1);
    acpi_u32(b, 0);
    return table_end(b, at);
}

static void rsdp(struct acpi_buf *b, uint32_t rsdt, uint32_t xsdt)
{
    uint8_t *p = b->data;
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, OEM_ID, 6);
    p[15] = 2;
    put_le32(p + 16, rsdt);
    put_le32(p + 20, 36);
    put_le64(p + 24, xsdt);
    p[8] = checksum(p, 20);
    p[32] = checksum(p, 36);
}

static void build(struct acpi_buf *b, unsigned cpus, bool bare)
{
    unsigned n = 0;
    uint32_t list[3], facs_gpa, dsdt_gpa, rsdt, xsdt;
    size_t at;

    b->len = 48; /* RSDP, filled in at last */
    facs_gpa = facs(b);
    dsdt_gpa = dsdt(b, cpus, bare);
    list[n++] = fadt(b, facs_gpa, dsdt_gpa, bare);
    list[n++] = madt(b, cpus, bare);
    if (!bare)
        list[n++] = mcfg(b);
    at = table(b, "RSDT", 1);
    for (unsigned i = 0; i < n; i++)
        acpi_u32(b, list[i]);
    rsdt = table_end(b, at);
    at = table(b, "XSDT", 1);
    for (unsigned i = 0; i < n; i++)
        acpi_u64(b, list[i]);
    xsdt = table_end(b, at);
    rsdp(b, rsdt, xsdt);
    if (bare)
        return;
    align(b, 16);
    mptable_build(b, gpa_of(b->len), cpus);
}

/* EBDA segment, COM1's port, KiB of base memory (IBM PC/AT Technical Reference,
 * BIOS data area); the EBDA's first byte is its size in KiB. */
static int bios_data(struct mem *mem)
{
    uint8_t bda[0x16] = {0}, ebda = 1;
    int rc;

    put_le16(bda, PC_PORT_UART);      /* 40:00 */
    put_le16(bda + 0x0e, EBDA >> 4);  /* 40:0e */
    put_le16(bda + 0x10, 0x0200);     /* 40:10: one serial port */
    put_le16(bda + 0x13, EBDA >> 10); /* 40:13 */
    rc = mem_write(mem, 0x400, bda, sizeof bda);
    return rc ? rc : mem_write(mem, EBDA, &ebda, 1);
}

static int write_tables(struct mem *mem, unsigned cpus, bool bare)
{
    struct acpi_buf b = {.data = calloc(1, ACPI_AREA_LEN), .cap = ACPI_AREA_LEN};
    int rc;

    if (!b.data)
        return err_set(VC_ENOMEM, "no memory for the ACPI tables");
    build(&b, cpus, bare);
    if (b.overflow)
        rc = err_set(VC_EINTERNAL, "the ACPI tables of %u processors do not fit", cpus);
    else /* and what was there before is gone */
        rc = mem_write(mem, PC_RSDP, b.data, ACPI_AREA_LEN);
    free(b.data);
    return rc;
}

int acpi_write(struct mem *mem, unsigned cpus)
{
    int rc = write_tables(mem, cpus, false);
    return rc ? rc : bios_data(mem);
}

int acpi_write_bare(struct mem *mem, unsigned cpus)
{
    return write_tables(mem, cpus, true);
}
