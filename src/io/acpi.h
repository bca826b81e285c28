/* SPDX-License-Identifier: MIT
 * What firmware would leave in memory: ACPI and MP tables, BIOS data area. */
#ifndef IO_ACPI_H
#define IO_ACPI_H

#include "../mmu/mem.h"

/* All tables lie in the BIOS segment, RSDP at PC_RSDP, below firmware.h's code. */
#define ACPI_AREA_LEN 0xf000u

/* A byte string that grows in a fixed buffer; what does not fit is dropped and
 * remembered. */
struct acpi_buf {
    uint8_t *data;
    size_t len, cap;
    bool overflow;
};
void acpi_put(struct acpi_buf *b, const void *bytes, size_t n);
void acpi_u8(struct acpi_buf *b, unsigned v);
void acpi_u16(struct acpi_buf *b, unsigned v);
void acpi_u32(struct acpi_buf *b, uint32_t v);
void acpi_u64(struct acpi_buf *b, uint64_t v);

/* The definition block's body: AML without its table header. */
void acpi_dsdt(struct acpi_buf *b, unsigned cpus);
void acpi_dsdt_bare(struct acpi_buf *b, unsigned cpus);

/* Writes ACPI tables, MP table and BIOS data area. 0 or a code with error set. */
int acpi_write(struct mem *mem, unsigned cpus);
/* The tables of a machine without a PC's devices: processors and their local APICs, in
 * the same place; a PVH guest of Xen's finds such. */
int acpi_write_bare(struct mem *mem, unsigned cpus);

/* The MP table (Intel MultiProcessor Specification 1.4) for a place at gpa, which
 * is a multiple of 16. */
void mptable_build(struct acpi_buf *b, uint32_t gpa, unsigned cpus);

#endif
