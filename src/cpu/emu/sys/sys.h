/* SPDX-License-Identifier: MIT
 * What the system-instruction files share: the CPU model, debug registers,
 * control registers, model-specific registers. */
#ifndef EMU_SYS_H
#define EMU_SYS_H

#include "../access.h"
#include "../emu.h"
#include "../flags.h"

/* ---- CPUID: cpuid.c -------------------------------------------------------- */

/* CPUID registers that hold feature bits. */
enum cpu_word {
    CW_1_ECX,
    CW_1_EDX,
    CW_7_EBX,
    CW_7_ECX,
    CW_7_EDX,
    CW_D1_EAX,
    CW_EXT1_ECX, /* 8000_0001 */
    CW_EXT1_EDX,
    CW_EXT8_EBX,  /* 8000_0008 */
    CW_EXT21_EAX, /* 8000_0021 */
    CW_COUNT
};

/* A feature is its word and bit. */
#define CPU_FEAT(word, bit) ((word)*32u + (bit))
enum cpu_feat {
    F_SSE3 = CPU_FEAT(CW_1_ECX, 0),
    F_PCLMUL = CPU_FEAT(CW_1_ECX, 1),
    F_SSSE3 = CPU_FEAT(CW_1_ECX, 9),
    F_FMA = CPU_FEAT(CW_1_ECX, 12),
    F_CX16 = CPU_FEAT(CW_1_ECX, 13),
    F_PCID = CPU_FEAT(CW_1_ECX, 17),
    F_SSE4_1 = CPU_FEAT(CW_1_ECX, 19),
    F_SSE4_2 = CPU_FEAT(CW_1_ECX, 20),
    F_X2APIC = CPU_FEAT(CW_1_ECX, 21),
    F_MOVBE = CPU_FEAT(CW_1_ECX, 22),
    F_POPCNT = CPU_FEAT(CW_1_ECX, 23),
    F_TSC_DEADLINE = CPU_FEAT(CW_1_ECX, 24),
    F_AES = CPU_FEAT(CW_1_ECX, 25),
    F_XSAVE = CPU_FEAT(CW_1_ECX, 26),
    F_OSXSAVE = CPU_FEAT(CW_1_ECX, 27), /* follows CR4 */
    F_AVX = CPU_FEAT(CW_1_ECX, 28),
    F_F16C = CPU_FEAT(CW_1_ECX, 29),
    F_RDRAND = CPU_FEAT(CW_1_ECX, 30),
    F_HYPERVISOR = CPU_FEAT(CW_1_ECX, 31),

    F_FPU = CPU_FEAT(CW_1_EDX, 0),
    F_DE = CPU_FEAT(CW_1_EDX, 2),
    F_PSE = CPU_FEAT(CW_1_EDX, 3),
    F_TSC = CPU_FEAT(CW_1_EDX, 4),
    F_MSR = CPU_FEAT(CW_1_EDX, 5),
    F_PAE = CPU_FEAT(CW_1_EDX, 6),
    F_MCE = CPU_FEAT(CW_1_EDX, 7),
    F_CX8 = CPU_FEAT(CW_1_EDX, 8),
    F_APIC = CPU_FEAT(CW_1_EDX, 9), /* follows the APIC's enable bit */
    F_SEP = CPU_FEAT(CW_1_EDX, 11),
    F_MTRR = CPU_FEAT(CW_1_EDX, 12),
    F_PGE = CPU_FEAT(CW_1_EDX, 13),
    F_MCA = CPU_FEAT(CW_1_EDX, 14),
    F_CMOV = CPU_FEAT(CW_1_EDX, 15),
    F_PAT = CPU_FEAT(CW_1_EDX, 16),
    F_PSE36 = CPU_FEAT(CW_1_EDX, 17),
    F_CLFSH = CPU_FEAT(CW_1_EDX, 19),
    F_MMX = CPU_FEAT(CW_1_EDX, 23),
    F_FXSR = CPU_FEAT(CW_1_EDX, 24),
    F_SSE = CPU_FEAT(CW_1_EDX, 25),
    F_SSE2 = CPU_FEAT(CW_1_EDX, 26),
    F_HTT = CPU_FEAT(CW_1_EDX, 28), /* with more than one vCPU */

    F_FSGSBASE = CPU_FEAT(CW_7_EBX, 0),
    F_TSC_ADJUST = CPU_FEAT(CW_7_EBX, 1),
    F_BMI1 = CPU_FEAT(CW_7_EBX, 3),
    F_AVX2 = CPU_FEAT(CW_7_EBX, 5),
    F_SMEP = CPU_FEAT(CW_7_EBX, 7),
    F_BMI2 = CPU_FEAT(CW_7_EBX, 8),
    F_ERMS = CPU_FEAT(CW_7_EBX, 9),
    F_INVPCID = CPU_FEAT(CW_7_EBX, 10),
    F_RDSEED = CPU_FEAT(CW_7_EBX, 18),
    F_ADX = CPU_FEAT(CW_7_EBX, 19),
    F_SMAP = CPU_FEAT(CW_7_EBX, 20),
    F_CLFLUSHOPT = CPU_FEAT(CW_7_EBX, 23),
    F_CLWB = CPU_FEAT(CW_7_EBX, 24),
    F_SHA = CPU_FEAT(CW_7_EBX, 29),

    F_UMIP = CPU_FEAT(CW_7_ECX, 2),
    F_PKU = CPU_FEAT(CW_7_ECX, 3),
    F_OSPKE = CPU_FEAT(CW_7_ECX, 4), /* follows CR4 */
    F_GFNI = CPU_FEAT(CW_7_ECX, 8),
    F_VAES = CPU_FEAT(CW_7_ECX, 9),
    F_VPCLMUL = CPU_FEAT(CW_7_ECX, 10),
    F_LA57 = CPU_FEAT(CW_7_ECX, 16),
    F_RDPID = CPU_FEAT(CW_7_ECX, 22),
    F_MOVDIRI = CPU_FEAT(CW_7_ECX, 27),
    F_MOVDIR64B = CPU_FEAT(CW_7_ECX, 28),
    F_PKS = CPU_FEAT(CW_7_ECX, 31),
    F_FSRM = CPU_FEAT(CW_7_EDX, 4),

    F_XSAVEOPT = CPU_FEAT(CW_D1_EAX, 0),
    F_XSAVEC = CPU_FEAT(CW_D1_EAX, 1),
    F_XGETBV1 = CPU_FEAT(CW_D1_EAX, 2),

    F_LAHF = CPU_FEAT(CW_EXT1_ECX, 0),
    F_CMP_LEGACY = CPU_FEAT(CW_EXT1_ECX, 1), /* with more than one vCPU */
    F_ABM = CPU_FEAT(CW_EXT1_ECX, 5),
    F_MISALIGNSSE = CPU_FEAT(CW_EXT1_ECX, 7),
    F_PREFETCHW = CPU_FEAT(CW_EXT1_ECX, 8),
    F_TOPOEXT = CPU_FEAT(CW_EXT1_ECX, 22),

    F_SYSCALL = CPU_FEAT(CW_EXT1_EDX, 11),
    F_NX = CPU_FEAT(CW_EXT1_EDX, 20),
    F_MMXEXT = CPU_FEAT(CW_EXT1_EDX, 22),
    F_PDPE1GB = CPU_FEAT(CW_EXT1_EDX, 26),
    F_RDTSCP = CPU_FEAT(CW_EXT1_EDX, 27),
    F_LM = CPU_FEAT(CW_EXT1_EDX, 29),

    F_XSAVEERPTR = CPU_FEAT(CW_EXT8_EBX, 2),
    F_WBNOINVD = CPU_FEAT(CW_EXT8_EBX, 9),
    F_LMSLE_ABSENT = CPU_FEAT(CW_EXT8_EBX, 20),
    F_SSB_NO = CPU_FEAT(CW_EXT8_EBX, 26),
    F_BTC_NO = CPU_FEAT(CW_EXT8_EBX, 29),

    F_LFENCE_SERIAL = CPU_FEAT(CW_EXT21_EAX, 2),
    F_NULL_SEL_CLR = CPU_FEAT(CW_EXT21_EAX, 6),
    F_AUTOIBRS = CPU_FEAT(CW_EXT21_EAX, 8),
    F_NO_SMM_CTL = CPU_FEAT(CW_EXT21_EAX, 9),
    F_SRSO_NO = CPU_FEAT(CW_EXT21_EAX, 29),
};

struct cpu_model {
    const char *name;
    uint32_t word[CW_COUNT]; /* what is offered, but for bits that follow a register */
    uint32_t host[CW_COUNT]; /* what the host has, as far as it may be used */
    unsigned phys_bits;      /* MAXPHYADDR */
    unsigned linear_bits;    /* 57 with LA57, else 48 */
    uint64_t xcr0;           /* bits XCR0 may hold */
    bool host_rdrand, host_rdseed;
};

/* By a name as in vc_vm_opts.cpu_model. The list behind it may also have ",~FEATURE":
 * as on a host without it, where what is done in C is still offered. */
int cpu_model_find(const char *name, struct cpu_model *out);

static inline bool model_has(const struct cpu_model *m, enum cpu_feat f)
{
    return m->word[f / 32] >> (f % 32) & 1;
}
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

/* CPUID.1:EAX, which RESET and INIT leave in EDX. */
#define CPU_SIGNATURE 0x00a10f11u

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
