/* SPDX-License-Identifier: MIT
 * The interrupt controllers of a PC as plain structs: what there is to know of a chip,
 * the same whether src/io or the host's kernel has it. */
#ifndef CPU_CHIPS_H
#define CPU_CHIPS_H

#include <stdbool.h>
#include <stdint.h>

#define CHIPS_CPUS_MAX 64
#define IOAPIC_PINS    24

/* Which of them an engine has itself. */
enum chips_owned { CHIPS_NONE, CHIPS_ALL, CHIPS_LAPICS };

/* ---- local APIC (SDM 10) ---------------------------------------------------------- */

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct lapic_state {
    uint64_t base; /* IA32_APIC_BASE */
    uint32_t id;   /* the xAPIC ID, which software may change */
    uint32_t tpr, ldr, dfr, svr;
    uint32_t esr, esr_new; /* what a read gives; what the next write makes readable */
    uint32_t icr, icr_dest;
    uint32_t lvt[LVT_COUNT];
    uint32_t isr[8], tmr[8], irr[8];
    bool extint; /* an ExtINT message arrived: the next acknowledge goes to the 8259 */

    /* The timer counts down from timer_count since timer_since (clock_now), divided by
     * timer_divide's factor from 1 GHz. */
    uint32_t timer_initial, timer_divide, timer_count;
    bool timer_runs;
    uint64_t timer_since;
    uint64_t deadline; /* TSC; 0: disarmed */
};

/* ---- IOAPIC ------------------------------------------------------------------------ */

#define REDIR_REMOTE_IRR (1ull << 14)
#define REDIR_LEVEL      (1ull << 15)
#define REDIR_MASKED     (1ull << 16)

struct ioapic_state {
    uint64_t redir[IOAPIC_PINS];
    uint32_t id;
    uint32_t pins; /* levels */
    uint8_t select;
};

/* ---- 8259 ---------------------------------------------------------------------------- */

struct pic_state {        /* one of the two */
    uint8_t lines, edges; /* input levels; latched rising edges */
    uint8_t imr, isr, elcr;
    uint8_t base;  /* ICW2 */
    uint8_t first; /* the IRQ of highest priority (rotation) */
    uint8_t icw;   /* the initialization word that comes next: 2-4; 0: none */
    bool ready;    /* initialized */
    bool single, need_icw4, aeoi, sfnm;
    bool rotate_aeoi, special_mask, poll, read_isr;
};

/* ---- the whole ------------------------------------------------------------------------- */

/* Counting timers count from now: their timer_since is 0 here. */
struct chips_state {
    uint32_t lines; /* levels of the interrupt lines, 0-23 */
    struct pic_state pic[2];
    struct ioapic_state ioapic;
    uint64_t cpus; /* whose local APICs these are: a bit each */
    struct lapic_state lapic[CHIPS_CPUS_MAX];
};

/* An interrupt message as a write to memory (SDM 10.11); address 0: none. */
struct chips_msi {
    uint32_t address, data;
};

#endif
