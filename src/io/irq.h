/* SPDX-License-Identifier: MIT
 * Interrupt routing between devices, controllers and vCPUs. */
#ifndef IO_IRQ_H
#define IO_IRQ_H

#include "bus.h"
#include "clock.h"
#include "../cpu/chips.h"
#include "../cpu/env.h"

/* The interrupt controllers of a PC: local APICs (xAPIC and x2APIC, TSC
 * deadline, SDM 10), one IOAPIC (24 pins), two 8259. */
struct irqchip;

struct irqchip_opts {
    struct bus *bus;
    struct clock *clock;
    unsigned max_cpus;
    uint64_t tsc_hz;
    /* The guest's TSC now, as RDTSC on any vCPU gives it, for TSC deadlines. */
    uint64_t (*tsc_now)(void *ctx);
    void *ctx;
    unsigned phys_bits; /* as CPUID says: bits above are reserved in the base MSR; 0: 46 */
};
struct irqchip *irqchip_new(const struct irqchip_opts *opts);
void irqchip_free(struct irqchip *chip);
/* Controllers elsewhere, in the host's kernel, take the place of these: all, with lines
 * and messages going there; or the local APICs, which get the IOAPIC's and devices'
 * messages, and say by irqchip_eoi what was served. The 8259's output then is the boot
 * processor's PEND_IRQ. Before the first vCPU. */
struct irqchip_outer {
    enum chips_owned owned;
    int (*line)(void *ctx, unsigned gsi, bool level); /* all */
    /* How many local APICs took it; or a code. */
    int (*msi)(void *ctx, uint64_t address, uint32_t data);
    /* CHIPS_LAPICS: the messages that want an EOI told; under the lock. */
    void (*routes)(void *ctx, const struct chips_msi route[IOAPIC_PINS]);
    /* Its part of the state, from there or to there. A code. */
    int (*state)(void *ctx, bool set, struct chips_state *st);
};
void irqchip_use(struct irqchip *chip, const struct irqchip_outer *outer, void *ctx);
/* A vCPU appears: its mailbox gets PEND_IRQ/NMI/INIT/SIPI. Index < max_cpus. */
int irqchip_add_cpu(struct irqchip *chip, unsigned cpu, struct cpu_mail *mail);
void irqchip_reset_cpu(struct irqchip *chip, unsigned cpu, bool init);
void irqchip_del_cpu(struct irqchip *chip, unsigned cpu);

/* Level of a global system interrupt, 0-23: 1 asserts it, whatever polarity the
 * pin is programmed for. ISA IRQ n drives 8259 pin n and IOAPIC pin n, IRQ 0
 * IOAPIC pin 2. Any thread. */
void irqchip_line(struct irqchip *chip, unsigned gsi, int level);
/* A vector for one vCPU's local APIC from its hypervisor: it is not refused while
 * software has the APIC disabled. Not with controllers elsewhere. Any thread. */
void irqchip_vector(struct irqchip *chip, unsigned cpu, uint8_t vector);
int irqchip_msi(struct irqchip *chip, uint64_t address, uint32_t data);
/* A local APIC elsewhere served a level-triggered interrupt. */
void irqchip_eoi(struct irqchip *chip, uint8_t vector);

/* All that the controllers know, wherever they are, taken out or put in; a code with
 * error set. Put in, it has to be of as many vCPUs. No vCPU runs. */
int irqchip_state(struct irqchip *chip, bool set, struct chips_state *st);

/* The cpu_env side; thread of that vCPU. The MSRs are the APIC base (0x1b), the
 * TSC deadline (0x6e0) and x2APIC's (0x800-0x8ff). */
int irqchip_ack(struct irqchip *chip, unsigned cpu);
uint64_t irqchip_cr8_get(struct irqchip *chip, unsigned cpu);
void irqchip_cr8_set(struct irqchip *chip, unsigned cpu, uint64_t tpr);
bool irqchip_msr(struct irqchip *chip, unsigned cpu, uint32_t index, bool write, uint64_t *value);
uint64_t irqchip_apic_base(struct irqchip *chip, unsigned cpu);

#endif
