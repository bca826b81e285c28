/* SPDX-License-Identifier: MIT
 * AML encoding (ACPI 6.4, chapter 20) and resource descriptors (6.4). */
#ifndef IO_AML_H
#define IO_AML_H

#include "acpi.h"

/* Things with a PkgLength: begin returns what end needs. */
size_t aml_scope(struct acpi_buf *b, const char *path);
size_t aml_device(struct acpi_buf *b, const char *name);
size_t aml_package(struct acpi_buf *b, unsigned elements);
void aml_end(struct acpi_buf *b, size_t begin);

void aml_name(struct acpi_buf *b, const char *name); /* Name (name, the next term) */
void aml_int(struct acpi_buf *b, uint64_t v);
void aml_str(struct acpi_buf *b, const char *s);
void aml_eisaid(struct acpi_buf *b, const char *id); /* "PNP0501" as EISA id */

/* A resource template: build it in a buffer of its own, then emit it. */
void aml_resources(struct acpi_buf *b, const struct acpi_buf *res);
void res_io(struct acpi_buf *r, unsigned base, unsigned len);
void res_irq(struct acpi_buf *r, unsigned irq);
void res_mem32(struct acpi_buf *r, uint32_t base, uint32_t len);
/* Windows a bridge passes on. */
void res_bus(struct acpi_buf *r, unsigned first, unsigned last);
void res_io_window(struct acpi_buf *r, unsigned first, unsigned last);
void res_mem_window(struct acpi_buf *r, uint32_t first, uint32_t last);

#endif
