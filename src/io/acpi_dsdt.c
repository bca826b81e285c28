/* SPDX-License-Identifier: MIT
 * The DSDT: sleep state, PCI root bridge, legacy devices, processors. */
#include "aml.h"
#include "pci.h"

#include <stdio.h>

/* _CRS from a few resources. */
#define RES_MAX 256
struct res {
    uint8_t bytes[RES_MAX];
    struct acpi_buf b;
};

static struct acpi_buf *res_begin(struct res *r)
{
    r->b = (struct acpi_buf){.data = r->bytes, .cap = sizeof r->bytes};
    return &r->b;
}

static void crs(struct acpi_buf *b, struct res *r)
{
    aml_name(b, "_CRS");
    aml_resources(b, &r->b);
}

static void hid(struct acpi_buf *b, const char *id)
{
    aml_name(b, "_HID");
    aml_eisaid(b, id);
}

/* _PRT: {slot << 16 | any function, pin, no link device, GSI} (ACPI 6.2.13). */
static void prt(struct acpi_buf *b)
{
    aml_name(b, "_PRT");
    size_t all = aml_package(b, PCI_SLOTS * 4);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t one = aml_package(b, 4);
            aml_int(b, (uint64_t)slot << 16 | 0xffff);
            aml_int(b, pin);
            aml_int(b, 0);
            aml_int(b, pci_gsi(slot, pin));
            aml_end(b, one);
        }
    aml_end(b, all);
}

static void pci_root(struct acpi_buf *b)
{
    struct res r;
    struct acpi_buf *res = res_begin(&r);
    size_t dev = aml_device(b, "PCI0");
    hid(b, "PNP0A08");
    aml_name(b, "_CID");
    aml_eisaid(b, "PNP0A03");
    aml_name(b, "_UID");
    aml_int(b, 0);
    aml_name(b, "_BBN");
    aml_int(b, 0);
    aml_name(b, "_SEG");
    aml_int(b, 0);
    aml_name(b, "_CCA");
    aml_int(b, 1);
    res_bus(res, 0, PC_ECAM_BUSES - 1);
    res_io(res, 0xcf8, 8);
    res_io_window(res, 0, 0xcf7);
    res_io_window(res, 0xd00, 0xffff);
    res_mem_window(res, (uint32_t)PC_LOW_RAM_MAX, (uint32_t)PC_ECAM_BASE - 1);
    res_mem_window(res, (uint32_t)(PC_ECAM_BASE + (PC_ECAM_BUSES << 20)),
                   (uint32_t)PC_IOAPIC_BASE - 1);
    crs(b, &r);
    prt(b);
    aml_end(b, dev);
}

/* A device with one range of ports and perhaps an interrupt. */
static void isa(struct acpi_buf *b, const char *name, const char *id, unsigned port, unsigned len,
                int irq)
{
    struct res r;
    struct acpi_buf *res = res_begin(&r);
    size_t dev = aml_device(b, name);
    hid(b, id);
    res_io(res, port, len);
    if (irq >= 0)
        res_irq(res, (unsigned)irq);
    crs(b, &r);
    aml_end(b, dev);
}

static void keyboard(struct acpi_buf *b)
{
    struct res r;
    struct acpi_buf *res = res_begin(&r);
    size_t dev = aml_device(b, "KBD_");
    hid(b, "PNP0303");
    res_io(res, 0x60, 1);
    res_io(res, 0x64, 1);
    res_irq(res, PC_IRQ_KBD);
    crs(b, &r);
    aml_end(b, dev);
}

/* Devices that go by a string instead of an EISA id. */
static void named(struct acpi_buf *b, const char *name, const char *id, unsigned port, unsigned len)
{
    struct res r;
    struct acpi_buf *res = res_begin(&r);
    size_t dev = aml_device(b, name);
    aml_name(b, "_HID");
    aml_str(b, id);
    aml_name(b, "_STA");
    aml_int(b, 0x0b); /* present, enabled, not shown, works */
    res_io(res, port, len);
    crs(b, &r);
    aml_end(b, dev);
}

/* What belongs to the board: operating systems believe MCFG only when its range
 * is reserved here (PCI Firmware 3.0, 4.1.2). */
static void board(struct acpi_buf *b)
{
    struct res r;
    struct acpi_buf *res = res_begin(&r);
    size_t dev = aml_device(b, "MBRD");
    hid(b, "PNP0C02");
    res_mem32(res, (uint32_t)PC_ECAM_BASE, PC_ECAM_BUSES << 20);
    res_io(res, PC_PORT_PM, PC_PM_LEN);
    crs(b, &r);
    aml_end(b, dev);
}

static void processor(struct acpi_buf *b, unsigned n)
{
    char name[8];
    snprintf(name, sizeof name, "C%03X", n & 0xfff);
    size_t dev = aml_device(b, name);
    aml_name(b, "_HID");
    aml_str(b, "ACPI0007");
    aml_name(b, "_UID");
    aml_int(b, n);
    aml_end(b, dev);
}

static void processors(struct acpi_buf *b, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++)
        processor(b, i);
}

/* SLP_TYP 0 is S5, as pm.c has it; no other sleep state. */
static void sleep_states(struct acpi_buf *b)
{
    aml_name(b, "_S5_");
    size_t s5 = aml_package(b, 4);
    for (int i = 0; i < 4; i++)
        aml_int(b, 0);
    aml_end(b, s5);
}

void acpi_dsdt_bare(struct acpi_buf *b, unsigned cpus)
{
    sleep_states(b);
    size_t sb = aml_scope(b, "\\_SB_");
    processors(b, cpus);
    aml_end(b, sb);
}

void acpi_dsdt(struct acpi_buf *b, unsigned cpus)
{
    sleep_states(b);
    size_t sb = aml_scope(b, "\\_SB_");
    pci_root(b);
    board(b);
    isa(b, "COM1", "PNP0501", PC_PORT_UART, 8, PC_IRQ_UART);
    isa(b, "RTC_", "PNP0B00", PC_PORT_RTC, 2, PC_IRQ_RTC);
    keyboard(b);
    named(b, "PVPN", "QEMU0001", PC_PORT_PVPANIC, 1);
    named(b, "FWCF", "QEMU0002", PC_PORT_FWCFG, 12);
    processors(b, cpus);
    aml_end(b, sb);
}
