/* SPDX-License-Identifier: MIT
 * The PC platform as one object: made by vc_pc, torn down by vc_close. */
#ifndef IO_PC_H
#define IO_PC_H

#include "irq.h"
#include "../mmu/mem.h"
#include <virtcore/pc.h>

struct pc;

struct pc_host { /* what the platform needs from the layer above it */
    void *ctx;
    struct mem *mem;
    struct bus *bus;
    struct clock *clock;
    struct irqchip *irq;
    /* The machine goes down: all vCPUs leave with VC_EXIT_POWER. Any thread. */
    void (*power)(void *ctx, uint32_t kind, uint32_t code);
    /* Memory map changed (a PCI BAR moved over RAM): engines re-read it. */
    void (*map_changed)(void *ctx);
};

/* RAM is already mapped. Adds all devices to the bus and writes the ACPI tables
 * into guest memory. NULL with error set. */
struct pc *pc_new(const struct pc_host *host, const struct vc_pc_opts *opts);
void pc_free(struct pc *pc);
long pc_serial_in(struct pc *pc, const void *bytes, size_t n);
int pc_serial_wait(struct pc *pc, int timeout_ms);
/* The machine went down: wakes pc_serial_wait. */
void pc_down(struct pc *pc);

/* For what is added to the platform: the PCI bus (pci.h) and fw_cfg (pcdev.h). */
struct pci_bus;
struct fw_cfg;
struct pci_bus *pc_pci(struct pc *pc);
struct fw_cfg *pc_fw_cfg(struct pc *pc);

/* Where things lie in a PC's guest-physical memory. */
#define PC_LOW_RAM_MAX 0xc0000000ull /* RAM above goes to 4 GiB */
#define PC_ECAM_BASE 0xe8000000ull   /* 128 buses, to 0xf0000000 */
#define PC_IOAPIC_BASE 0xfec00000ull
#define PC_LAPIC_BASE 0xfee00000ull
#define PC_RSDP 0xf0000ull           /* ACPI tables: 0xf0000-0xfefff, for loaders */

#endif
