/* SPDX-License-Identifier: MIT
 * The interrupt controllers' insides: shared between irqchip.c, lapic*.c,
 * ioapic.c and pic.c. Everything here is called with the chip's lock held. */
#ifndef IO_IRQCHIP_H
#define IO_IRQCHIP_H

#include "irq.h"
#include "../base/util.h"

/* Delivery modes: of the ICR, LVT entries, redirection entries and MSIs. */
enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_NMI = 4, DM_INIT, DM_SIPI, DM_EXTINT };

/* An interrupt message on its way to local APICs. */
struct lapic;
enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS }; /* the ICR's shorthands */
struct irq_msg {
    const struct lapic *from; /* of an IPI */
    uint8_t to;               /* TO_* */
    uint32_t dest;
    uint8_t vector;
    uint8_t mode;  /* DM_* */
    bool logical;  /* destination mode */
    bool level;    /* trigger mode: sets TMR, wants EOI */
    bool dest32;   /* sent by an x2APIC: dest is an x2APIC ID, not 8 bits */
    bool redirect; /* an MSI's redirection hint: to one of the destinations */
};

/* ---- local APIC ----------------------------------------------------------------- */

/* Register numbers: offset / 16 in xAPIC mode, MSR - 0x800 in x2APIC mode. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HI = 0x31,
    REG_LVT = 0x32, /* the first of six */
    REG_TIMER_INITIAL = 0x38,
    REG_TIMER_CURRENT = 0x39,
    REG_TIMER_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f
};

#define LVT_VECTOR          0x000000ffu
#define LVT_MODE(lvt)       ((lvt) >> 8 & 7)
#define LVT_REMOTE_IRR      0x00004000u
#define LVT_LEVEL           0x00008000u
#define LVT_MASKED          0x00010000u
#define LVT_TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define APIC_BASE_BSP  0x100ull
#define APIC_BASE_EXTD 0x400ull
#define APIC_BASE_EN   0x800ull

#define SVR_ENABLE 0x100u

/* Error status (SDM 10.5.3). */
#define ESR_SEND_ILLEGAL 0x20u
#define ESR_RECV_ILLEGAL 0x40u
#define ESR_ILLEGAL_REG  0x80u

struct lapic {
    struct lapic_state s;
    struct irqchip *chip;
    struct cpu_mail *mail; /* NULL: no such vCPU */
    struct clock_timer *timer;
    unsigned index;
};

void lapic_reset(struct lapic *l, bool init);
static inline bool lapic_on(const struct lapic *l) /* the APIC base says so */
{
    return l->mail && (l->s.base & APIC_BASE_EN);
}
static inline bool lapic_x2(const struct lapic *l)
{
    return (l->s.base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}
uint32_t lapic_x2_ldr(const struct lapic *l);
uint32_t lapic_ppr(const struct lapic *l);
/* Brings PEND_IRQ in step with what is deliverable. After every change. */
void lapic_update(struct lapic *l);
/* Requests a vector from 16 on. */
void lapic_put(struct lapic *l, uint8_t vector, bool level);
/* A fixed interrupt arrives. false: not accepted. */
bool lapic_accept(struct lapic *l, uint8_t vector, bool level);
/* Any message arrives, of which this APIC is a destination. */
bool lapic_deliver(struct lapic *l, const struct irq_msg *msg);
void lapic_error(struct lapic *l, uint32_t esr_bit);
void lapic_eoi(struct lapic *l);
/* The 8259's output, wired to LINT0, changed: chip->pic_out. */
void lapic_lint0(struct lapic *l);
int lapic_ack(struct lapic *l);

/* lapic_regs.c */
uint32_t lapic_mmio_read(struct lapic *l, uint32_t off);
void lapic_mmio_write(struct lapic *l, uint32_t off, uint32_t value);
bool lapic_msr_read(struct lapic *l, uint32_t reg, uint64_t *value);
bool lapic_msr_write(struct lapic *l, uint32_t reg, uint64_t value);
bool lapic_base_write(struct lapic *l, uint64_t value);

/* lapic_timer.c */
void lapic_timer_fn(void *ud);
void lapic_timer_stop(struct lapic *l);
void lapic_timer_lvt(struct lapic *l, uint32_t lvt);
void lapic_timer_start(struct lapic *l, uint32_t count);
uint32_t lapic_timer_current(struct lapic *l);
void lapic_timer_divide(struct lapic *l, uint32_t divide);
uint64_t lapic_deadline_get(struct lapic *l);
void lapic_deadline_set(struct lapic *l, uint64_t tsc);
/* The state with a timer that counts from now, which is 0 there, and back. */
void lapic_timer_save(struct lapic *l, struct lapic_state *out);
void lapic_timer_load(struct lapic *l);

/* ---- IOAPIC ------------------------------------------------------------------- */

void ioapic_reset(struct ioapic_state *s);
void ioapic_pin(struct irqchip *chip, unsigned pin, bool level);
void ioapic_eoi(struct irqchip *chip, uint8_t vector);
int ioapic_mmio(void *ud, struct vc_access *a);
/* Tells whoever has the local APICs which interrupts want an EOI told here. */
void ioapic_routes(struct irqchip *chip);
/* The state was put in: level-triggered pins that are high ask. */
void ioapic_loaded(struct irqchip *chip);

/* ---- 8259 --------------------------------------------------------------------- */

void pic_reset(struct irqchip *chip);
void pic_line(struct irqchip *chip, unsigned irq, bool level);
/* INTA: the vector, a spurious one if nothing asks. */
int pic_ack(struct irqchip *chip);
/* The INT output as the two states make it, and nobody is told. */
void pic_loaded(struct irqchip *chip);
int pic_port(void *ud, struct vc_access *a); /* 0x20, 0x21, 0xa0, 0xa1 */
int pic_elcr(void *ud, struct vc_access *a); /* 0x4d0, 0x4d1 */

/* ---- the whole ------------------------------------------------------------------ */

enum { CHIP_RANGES = 6 };

struct irqchip {
    pthread_mutex_t lock; /* protects everything; then the clock's and the mail's */
    struct irqchip_opts opts;
    const struct irqchip_outer *outer; /* NULL: none */
    void *outer_ctx;
    /* With local APICs elsewhere: the boot processor's mailbox, or NULL; and what they
     * know of the IOAPIC. */
    struct cpu_mail *boot;
    struct chips_msi route[IOAPIC_PINS];
    int range[CHIP_RANGES];
    struct ioapic_state ioapic;
    struct pic_state pic[2]; /* master, slave */
    bool pic_out;            /* the master's INT output */
    uint32_t gsi;            /* levels of irqchip_line */
    unsigned lowest;         /* who got the last lowest-priority interrupt */
    uint64_t cpus;           /* the vCPUs that there are, a bit each */
    struct lapic cpu[];
};

/* Sends to all destinations. The number of APICs that accepted. */
unsigned irq_send(struct irqchip *chip, const struct irq_msg *msg);
/* The same as a write to memory, where it is not an IPI. */
struct chips_msi irq_msi(const struct irq_msg *msg);
/* The 8259's INT output becomes `level`. */
void irq_pic_out(struct irqchip *chip, bool level);
/* Brings PEND_IRQ in step with whether there is an interrupt. */
void irq_mail(struct cpu_mail *mail, bool want);
/* Whether only the local APICs are elsewhere. */
static inline bool irq_split(const struct irqchip *chip)
{
    return chip->outer && chip->outer->owned == CHIPS_LAPICS;
}

#endif
