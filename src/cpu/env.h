/* SPDX-License-Identifier: MIT
 * What an engine asks of the machine around it, and the pending word through
 * which the machine reaches a running vCPU. */
#ifndef CPU_ENV_H
#define CPU_ENV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <virtcore/cpu.h>
#include <virtcore/dev.h>

struct mem;
struct pv_hooks;
struct hvm_hooks;

enum { ENV_HANDLED = 0, ENV_UNHANDLED = 1 }; /* else a negative code: stop the run */

/* A table of functions of the layers above; ctx is theirs. A function may be
 * NULL where the partition has no such thing. All are called on the vCPU's
 * thread. */
struct cpu_env {
    void *ctx;
    struct mem *mem;
    uint64_t tsc_hz;
    /* One port or MMIO access; fills access->data on a read. */
    int (*access)(void *ctx, enum vc_space space, struct vc_access *access);
    /* The next external interrupt's vector, now acknowledged; -1: none. */
    int (*irq_ack)(void *ctx, unsigned cpu);
    /* Local APIC: task priority (CR8), base MSR, x2APIC MSRs 0x800-0x8ff and
     * the TSC deadline. false: #GP. */
    uint64_t (*cr8_get)(void *ctx, unsigned cpu);
    void (*cr8_set)(void *ctx, unsigned cpu, uint64_t tpr);
    bool (*apic_msr)(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value);
    /* An engine's local APIC served a level-triggered interrupt: who sent it is told. */
    void (*eoi)(void *ctx, uint8_t vector);
    /* The vCPU was reset by INIT; its local APIC follows. */
    void (*init)(void *ctx, unsigned cpu);
    int (*hcall)(void *ctx, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret);
    bool (*has_hcall)(void *ctx);
    /* Who has the interrupt controllers of a PC (enum vc_irqchip). With an engine that has
     * the local APICs, irq_ack gives the 8259's interrupts only, to vCPU 0. */
    uint32_t chips;
    /* A paravirtual guest's ABI, and its context: pv_engine.h. NULL without. */
    const struct pv_hooks *pv;
    /* The same of a guest that has the whole machine, but asks by hypercall. One of the
     * two at most. */
    const struct hvm_hooks *hvm;
    void *pv_ctx;
    _Atomic uint64_t *pv_seen; /* its notes of what was cached: pv_engine.h */
    uint64_t pv_seen_n;
    void (*log)(void *ctx, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
};

/* Bits of the pending word. */
#define PEND_KICK  0x01u
#define PEND_IRQ   0x02u /* the interrupt controller has a vector for this CPU */
#define PEND_NMI   0x04u
#define PEND_INIT  0x08u
#define PEND_SIPI  0x10u  /* vector in sipi_vector */
#define PEND_FLUSH 0x20u  /* memory map or traps changed: drop translations */
#define PEND_POWER 0x40u  /* the machine goes down: leave with VC_EXIT_POWER */
#define PEND_STOP  0x80u  /* leave at the next boundary (stop the world) */
#define PEND_TIME  0x100u /* the time budget is used up */
#define PEND_TURN  0x400u /* another's turn, or its own: leave with VC_EXIT_NONE */
#define PEND_EVENT 0x200u /* for the hooks of a paravirtual guest: pv_engine.h */

/* The part of a vCPU that other threads touch. */
struct cpu_mail {
    _Atomic uint32_t pending;
    _Atomic uint32_t asleep; /* the thread waits on `pending` (futex) */
    _Atomic uint32_t sipi_vector;
    _Atomic int32_t inject; /* vector of vc_inject_irq; -1: none */
    _Atomic uint32_t nmi;   /* how many NMIs PEND_NMI stands for: mail.c */
    /* A word of the engine's that a post sets to 0, so that it looks here; or NULL. */
    _Atomic(_Atomic uint64_t *) doorbell;
    /* The same for an engine whose thread is inside the host's kernel: a byte that a
     * post sets to 1, or NULL, and the thread that is in there now and gets a signal
     * after it, or 0. */
    _Atomic(_Atomic uint8_t *) stop;
    _Atomic int32_t inside;
    _Atomic uint32_t callers; /* posts that may be about to send one */
};

#define MAIL_SIGNAL SIGURG

/* Sets bits and wakes the vCPU when it sleeps. Any thread, signal handlers. */
void mail_post(struct cpu_mail *mail, uint32_t bits);
/* Says whom a post has to interrupt, and that from now on there is nobody: then no
 * signal of a post is under way any more. */
void mail_inside(struct cpu_mail *mail, int32_t tid);
void mail_outside(struct cpu_mail *mail);
/* Clearing PEND_NMI takes one NMI; the bit stays set when a second one waits.
 * false: there was none. */
bool mail_clear(struct cpu_mail *mail, uint32_t bits);
/* NMIs are no longer blocked (IRET, reset): two may wait again instead of one. */
void mail_nmi_done(struct cpu_mail *mail);
/* Sleeps until (pending & mask) != 0 or the host time deadline_ns (0: none)
 * passed. Returns pending & mask. */
uint32_t mail_wait(struct cpu_mail *mail, uint32_t mask, uint64_t deadline_ns);

#endif
