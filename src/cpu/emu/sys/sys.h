/* SPDX-License-Identifier: MIT
 * What the system-instruction files share: the CPU model, debug registers,
 * control registers, model-specific registers. */
#ifndef EMU_SYS_H
#define EMU_SYS_H

#include "../access.h"
#include "../emu.h"
#include "../flags.h"
#include "../../model.h"

/* ---- what the CPU model has -------------------------------------------------- */

static inline bool cpu_has(const struct emu *c, enum cpu_feat f)
{
    return model_has(c->vm->model, f);
}

/* Whether an address is canonical for the widest linear address of the model,
 * whatever CR4.LA57 says: the rule for base addresses in MSRs, descriptor-table
 * registers and INVPCID (SDM 4.5.2, "CPU-canonical"). */
static inline bool cpu_canonical(const struct emu *c, uint64_t linear)
{
    unsigned unused = 64 - c->vm->model->linear_bits;
    return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}
/* The bits of a physical address that must be 0. */
static inline uint64_t cpu_phys_rsvd(const struct emu *c)
{
    return ~(BIT64(c->vm->model->phys_bits) - 1);
}

/* The bits of CR4 that this model has. */
uint64_t cr4_allowed(const struct emu *c);

/* ---- debug registers: sys_dr.c (SDM 18.2) ---------------------------------- */

#define DR6_FIXED 0xffff0ff0ull
#define DR6_B     0x0000000full
#define DR6_BD    0x00002000ull
#define DR6_BS    0x00004000ull
#define DR6_BT    0x00008000ull
#define DR7_FIXED 0x00000400ull
#define DR7_GD    0x00002000ull

/* DR6.B0-B3 of the armed breakpoints that an event hits. */
uint64_t dr_match_exec(struct emu *c, uint64_t lin);
uint64_t dr_match_data(struct emu *c, uint64_t lin, unsigned len, bool write);
uint64_t dr_match_io(struct emu *c, uint16_t port, unsigned len);
/* Whether an armed one is of that kind. */
bool dr_armed_exec(const struct emu *c);
bool dr_armed_data(const struct emu *c); /* data or I/O */
/* At the delivery of #DB: DR6 takes the bits (B0-B3 are replaced, the others
 * stick), DR7.GD goes off. The caller calls emu_mode_changed(). */
void dr_report(struct emu *c, uint64_t bits);
/* DR6 and DR7 with their fixed bits; false: the upper half is not 0. */
bool dr_set(struct emu *c, unsigned n, uint64_t v);
uint64_t dr_get(const struct emu *c, unsigned n);

/* ---- time: sys_clock.c ------------------------------------------------------ */

void tsc_write(struct emu *c, uint64_t v);
void tsc_adjust_write(struct emu *c, uint64_t v);
/* The local APIC counts host ticks; these are on the guest's scale. */
bool tsc_deadline_read(struct emu *c, uint64_t *v);
bool tsc_deadline_write(struct emu *c, uint64_t v);
/* The clock pages of KVM guests. */
void kvm_clock_set(struct emu *c, uint64_t v);
void kvm_wall_clock_set(struct emu *c, uint64_t v);

/* ---- MSRs of memory types and machine checks: sys_mtrr.c. ------------------- */
/* 1: done, 0: #GP, -1: not one of these. */
int mtrr_msr_read(struct emu *c, uint32_t index, uint64_t *v);
int mtrr_msr_write(struct emu *c, uint32_t index, uint64_t v);
int mce_msr_read(struct emu *c, uint32_t index, uint64_t *v);
int mce_msr_write(struct emu *c, uint32_t index, uint64_t v);
/* AMD's configuration registers. */
#define HWCR_TSC_P0         BIT64(24) /* the TSC counts at the P0 frequency: read-only */
#define HWCR_MC_STATUS      BIT64(18) /* machine-check status may be written */
#define SYSCFG_FIX_DRAM_MOD BIT64(19) /* fixed MTRRs show their RdMem and WrMem bits */

/* ---- pieces of select_sys ---------------------------------------------------- */

bool select_cr(struct emu *c, struct insn *in, struct op *op);    /* op_cr.c */
bool select_dr(struct emu *c, struct insn *in, struct op *op);    /* sys_dr.c */
bool select_cache(struct emu *c, struct insn *in, struct op *op); /* op_cache.c */
bool select_pkey(struct emu *c, struct insn *in, struct op *op);  /* op_pkey.c */

/* Raises #GP(0) unless CPL is 0. */
static inline void need_cpl0(struct emu *c, const struct op *op)
{
    if (unlikely(c->cpl))
        emu_gp0(c, op);
}

#endif
