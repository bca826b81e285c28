/* SPDX-License-Identifier: MIT
 * A paravirtual guest on an engine: kernel and user both run at CPL 3, and what they
 * do beyond that is given to hooks instead of descriptor tables. The guest ABI
 * (src/pv) sees the vCPU through the engine's accessors, the engine sees the ABI
 * through the hooks; neither includes the other. */
#ifndef CPU_PV_ENGINE_H
#define CPU_PV_ENGINE_H

#include "env.h"
#include "../base/util.h"

struct backend_vm;
struct backend_cpu;

enum pv_event_kind {
    PV_EV_FAULT, /* an exception; IP is what its frame would have */
    PV_EV_SOFT,  /* INT n, INT3, INTO: IP is the next instruction's, insn_ip its own */
    PV_EV_NMI
};
struct pv_event {
    enum pv_event_kind kind;
    uint8_t vector;
    bool has_err;
    uint32_t err;
    uint64_t cr2;     /* of a page fault */
    uint64_t insn_ip; /* PV_EV_SOFT */
};

/* All are called on the vCPU's thread, between two instructions. They change the state
 * through the accessors, and may halt the vCPU. */
struct pv_hooks {
    void (*event)(void *ctx, unsigned cpu, const struct pv_event *ev);
    /* SYSCALL: RIP is the next instruction's, RCX and R11 are set. */
    void (*syscall)(void *ctx, unsigned cpu);
    /* PEND_EVENT was posted; it is cleared, and a halted vCPU awake. */
    void (*wake)(void *ctx, unsigned cpu);
    /* A vCPU in wait-for-SIPI got one: it starts. */
    void (*start)(void *ctx, unsigned cpu);
    /* CPUID, with what the engine would answer; also within an instruction. */
    void (*cpuid)(void *ctx, unsigned cpu, uint32_t leaf, uint32_t sub, uint32_t out[4]);
};

/* A guest that runs as on a real machine, and knows its hypervisor: what it asks that.
 * Called as those above; cpuid and the MSRs within an instruction. */
struct hvm_hooks {
    /* VMCALL or VMMCALL at CPL 0: RIP is the next instruction's. */
    void (*hypercall)(void *ctx, unsigned cpu);
    /* PEND_EVENT was posted; it is cleared, and a halted vCPU awake. */
    void (*wake)(void *ctx, unsigned cpu);
    /* The vCPU was reset by INIT, its local APIC too. */
    void (*init)(void *ctx, unsigned cpu);
    /* A vCPU in wait-for-SIPI got one. true: its state is the one to start with. */
    bool (*start)(void *ctx, unsigned cpu);
    /* It is about to sleep in HLT, or does no longer; it may have been awake at once. */
    void (*idle)(void *ctx, unsigned cpu, bool idle);
    void (*cpuid)(void *ctx, unsigned cpu, uint32_t leaf, uint32_t sub, uint32_t out[4]);
    /* A register that the engine does not know. false: #GP. */
    bool (*msr)(void *ctx, unsigned cpu, uint32_t index, bool write, uint64_t *value);
};

/* ---- what was cached ----------------------------------------------------------------
 * Address spaces of a vCPU, each with translations of its own in the engine, which stay
 * when another is entered. The ABI knows of every change to a table and has those
 * forgotten that it made untrue: for that the engine notes, in a word for each frame,
 * what it caches from a table of the lowest level there. */
#define PV_SPACES    8u
#define PV_SEEN      BIT64(27) /* something was */
#define PV_SEEN_MANY BIT64(63) /* from several places or roots */
/* Bits 26:0 the linear address's bits 47:21; above PV_SEEN, in the lower half, the frame
 * of the space's root: the upper half is all spaces' own. */
static inline uint64_t pv_seen_word(uint64_t root_mfn, uint64_t lin)
{
    return PV_SEEN | (lin >> 21 & (PV_SEEN - 1)) | (lin >> 63 ? 0 : root_mfn << 28);
}
static inline bool pv_seen_upper(uint64_t word)
{
    return word >> 26 & 1;
}
static inline uint64_t pv_seen_root(uint64_t word)
{
    return word >> 28 & (BIT64(35) - 1);
}
static inline uint64_t pv_seen_linear(uint64_t word)
{
    return (uint64_t)((int64_t)(word << 37) >> 37) << 21;
}

/* What translations of a page are forgotten: those for writing, those for data, or all. */
enum pv_forget { PV_FORGET_WRITES, PV_FORGET_DATA, PV_FORGET_ALL };

enum pv_seg { PV_ES, PV_CS, PV_SS, PV_DS, PV_FS, PV_GS };
enum pv_access { PV_READ, PV_WRITE };

/* For hooks, and for others while the vCPU does not run. */
struct pv_engine {
    /* Hooks for all vCPUs, made already or not; VC_ENOTSUP with the error set. */
    int (*attach)(struct backend_vm *bvm, const struct pv_hooks *hooks, void *ctx);
    /* The same for a guest that has the whole machine. */
    int (*attach_hvm)(struct backend_vm *bvm, const struct hvm_hooks *hooks, void *ctx);
    uint64_t *(*gprs)(struct backend_cpu *c); /* 16, in encoding order */
    uint64_t (*rip)(struct backend_cpu *c);
    void (*set_rip)(struct backend_cpu *c, uint64_t rip);
    uint64_t (*rflags)(struct backend_cpu *c);
    void (*set_rflags)(struct backend_cpu *c, uint64_t rflags);
    uint16_t (*selector)(struct backend_cpu *c, enum pv_seg seg);
    bool (*code64)(struct backend_cpu *c);
    /* CS and SS from the GDT and LDT, for CPL 3 only. false: nothing changed. */
    bool (*load_cs_ss)(struct backend_cpu *c, uint16_t cs, uint16_t ss);
    /* Flat 64-bit CS and SS with these selectors, which nobody checks. */
    void (*flat_cs_ss)(struct backend_cpu *c, uint16_t cs, uint16_t ss);
    bool (*load_data)(struct backend_cpu *c, enum pv_seg seg, uint16_t sel);
    uint64_t (*base)(struct backend_cpu *c, enum pv_seg seg); /* FS, GS */
    void (*set_base)(struct backend_cpu *c, enum pv_seg seg, uint64_t base);
    void (*set_gdt)(struct backend_cpu *c, uint64_t base, uint32_t limit);
    void (*set_ldt)(struct backend_cpu *c, uint64_t base, uint32_t limit); /* limit 0: none */
    /* Where the notes of what was cached are, one for each frame below n; NULL: none are
     * made. */
    void (*note_seen)(struct backend_vm *vm, _Atomic uint64_t *seen, uint64_t n);
    /* Page tables: 4-level. Into the guest's kernel or user mode, each with a root of its
     * own, or to another root of the mode it is in. Forgets nothing. */
    void (*switch_mode)(struct backend_cpu *c, bool kernel, uint64_t cr3);
    /* The address space with this number, below PV_SPACES, whose notes are to name
     * root_mfn. fresh: its translations of the lower half, and all of user mode's, are
     * forgotten first. */
    void (*space)(struct backend_cpu *c, unsigned number, uint64_t root_mfn, bool fresh);
    void (*set_ts)(struct backend_cpu *c, bool ts);
    /* In all address spaces. */
    void (*flush)(struct backend_cpu *c);
    void (*flush_page)(struct backend_cpu *c, uint64_t linear, enum pv_forget what);
    /* On other vCPUs by bits of mask; they have forgotten when this returns. For a
     * hook, which may hold locks: who waits in a hook counts as done. */
    void (*flush_others)(struct backend_cpu *c, uint64_t mask);
    /* The same on all vCPUs, for threads that are none's. */
    void (*flush_all)(struct backend_vm *bvm);
    /* Guest memory with the rights of the guest's kernel, which has those of CPL 3 where
     * the guest is deprivileged, within one page: a host pointer, good until
     * the hook returns; NULL: it would fault. */
    void *(*ptr)(struct backend_cpu *c, uint64_t linear, enum pv_access access, uint64_t *gpa);
    /* Bytes were stored through such a pointer: code there is forgotten. */
    void (*stored)(struct backend_cpu *c, uint64_t gpa, unsigned len);
    void (*halt)(struct backend_cpu *c);
    void (*park)(struct backend_cpu *c); /* into wait-for-SIPI, with its state */
    void (*cpuid)(struct backend_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);
};

#endif
