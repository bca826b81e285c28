/* SPDX-License-Identifier: MIT
 * The MP table of systems before ACPI (Intel MultiProcessor Specification 1.4,
 * chapter 4). */
#include "acpi.h"
#include "pci.h"

#define APIC_VERSION   0x14u
#define IOAPIC_VERSION 0x11u
#define BUS_ISA        0u
#define BUS_PCI        1u

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

static void processors(struct acpi_buf *b, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++) {
        acpi_u8(b, 0);
        acpi_u8(b, i);
        acpi_u8(b, APIC_VERSION);
        acpi_u8(b, i == 0 ? 3 : 1); /* enabled; the first one boots */
        acpi_u32(b, 0x600);         /* family 6 */
        acpi_u32(b, 0x201);         /* APIC and FPU on chip */
        acpi_u64(b, 0);
    }
}

static void bus(struct acpi_buf *b, unsigned id, const char *type)
{
    acpi_u8(b, 1);
    acpi_u8(b, id);
    acpi_put(b, type, 6);
}

/* type: 0 INT, 1 NMI, 3 ExtINT; local: to the processors' LINT pins. */
static void interrupt(struct acpi_buf *b, bool local, unsigned type, unsigned flags,
                      unsigned src_bus, unsigned src, unsigned apic, unsigned pin)
{
    acpi_u8(b, local ? 4 : 3);
    acpi_u8(b, type);
    acpi_u16(b, flags);
    acpi_u8(b, src_bus);
    acpi_u8(b, src);
    acpi_u8(b, apic);
    acpi_u8(b, pin);
}

void mptable_build(struct acpi_buf *b, uint32_t gpa, unsigned cpus)
{
    size_t fp = b->len, cfg = fp + 16;
    unsigned entries = cpus + 2 + 1 + 15 + (PCI_SLOTS - 1) * 4 + 2; /* all of below */

    /* Floating pointer (4.1). */
    acpi_put(b, "_MP_", 4);
    acpi_u32(b, gpa + 16);
    acpi_u8(b, 1); /* 16 bytes */
    acpi_u8(b, 4); /* version 1.4 */
    acpi_u8(b, 0);
    acpi_u8(b, 0); /* a configuration table follows */
    acpi_u32(b, 0);

    /* Configuration table header (4.2). */
    acpi_put(b, "PCMP", 4);
    acpi_u16(b, 0);
    acpi_u8(b, 4);
    acpi_u8(b, 0);
    acpi_put(b, "VIRTCORE", 8);
    acpi_put(b, "PC          ", 12);
    acpi_u32(b, 0);
    acpi_u16(b, 0);
    acpi_u16(b, 0);
    acpi_u32(b, (uint32_t)PC_LAPIC_BASE);
    acpi_u32(b, 0);

    processors(b, cpus);
    bus(b, BUS_ISA, "ISA   ");
    bus(b, BUS_PCI, "PCI   ");
    acpi_u8(b, 2);
    acpi_u8(b, 0);
    acpi_u8(b, IOAPIC_VERSION);
    acpi_u8(b, 1);
    acpi_u32(b, (uint32_t)PC_IOAPIC_BASE);

    /* IRQ 2 is the cascade; pin 2 is the timer's. The SCI is level-triggered and
     * active high, the rest as its bus. */
    for (unsigned irq = 0; irq < 16; irq++)
        if (irq != 2)
            interrupt(b, false, 0, irq == PC_IRQ_SCI ? 0x0d : 0, BUS_ISA, irq, 0, irq ? irq : 2);
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            interrupt(b, false, 0, 0x0d, BUS_PCI, slot << 2 | pin, 0, pci_gsi(slot, pin));
    interrupt(b, true, 3, 0, BUS_ISA, 0, 0xff, 0);
    interrupt(b, true, 1, 0, BUS_ISA, 0, 0xff, 1);

    if (b->overflow)
        return;
    put_le16(b->data + cfg + 4, (uint16_t)(b->len - cfg));
    put_le16(b->data + cfg + 34, (uint16_t)entries);
    b->data[cfg + 7] = checksum(b->data + cfg, b->len - cfg);
    b->data[fp + 10] = checksum(b->data + fp, 16);
}
