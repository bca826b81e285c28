/* SPDX-License-Identifier: MIT
 * The guest's processor, the same on every engine: which features it has, and what
 * CPUID says of it. */
#ifndef CPU_MODEL_H
#define CPU_MODEL_H

#include "../base/util.h"

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

/* CPUID.1:EAX, which RESET and INIT leave in EDX. */
#define CPU_SIGNATURE 0x00a10f11u

/* Bits of XCR0 (SDM volume 1, 13.3). */
#define XCR0_X87  1u
#define XCR0_SSE  2u
#define XCR0_YMM  4u
#define XCR0_PKRU 0x200u

/* What the answers of CPUID depend on beside the model. */
struct cpuid_state {
    const struct cpu_model *model;
    unsigned index, cores; /* this vCPU's number; how many there are */
    bool apic, apic_on;    /* there is a local APIC; its base says that it is enabled */
    bool osxsave, ospke;   /* bits of CR4 */
    uint64_t tsc_hz;       /* 0: not known */
};
/* All but leaf 0xd, whose sizes and places are the engine's. */
void cpuid_answer(const struct cpuid_state *s, uint32_t leaf, uint32_t sub, uint32_t out[4]);

#endif
