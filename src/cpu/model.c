/* SPDX-License-Identifier: MIT
 * CPU models: which features a guest gets. */
#include "model.h"
#include "../base/err.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define B(feat) BIT((feat) % 32)

/* MOVBE to ADX are done in C; what follows AVX and SSE runs on the host. */
#define V2_1_ECX (B(F_SSE3) | B(F_SSSE3) | B(F_CX16) | B(F_SSE4_1) | B(F_SSE4_2) | B(F_POPCNT))
#define V3_1_ECX (V2_1_ECX | B(F_FMA) | B(F_MOVBE) | B(F_AVX) | B(F_F16C))
#define V3_7_EBX (B(F_BMI1) | B(F_AVX2) | B(F_BMI2))

/* Features of the system, which the interpreter has on every host. */
#define SYS_1_ECX                                                                                  \
    (B(F_PCID) | B(F_X2APIC) | B(F_TSC_DEADLINE) | B(F_XSAVE) | B(F_RDRAND) | B(F_HYPERVISOR))
#define SYS_1_EDX                                                                                  \
    (B(F_FPU) | B(F_DE) | B(F_PSE) | B(F_TSC) | B(F_MSR) | B(F_PAE) | B(F_MCE) | B(F_CX8) |        \
     B(F_APIC) | B(F_SEP) | B(F_MTRR) | B(F_PGE) | B(F_MCA) | B(F_CMOV) | B(F_PAT) | B(F_PSE36) |  \
     B(F_CLFSH) | B(F_MMX) | B(F_FXSR) | B(F_SSE) | B(F_SSE2))
#define SYS_7_EBX                                                                                  \
    (B(F_FSGSBASE) | B(F_TSC_ADJUST) | B(F_SMEP) | B(F_ERMS) | B(F_INVPCID) | B(F_SMAP) |          \
     B(F_CLFLUSHOPT) | B(F_CLWB))
#define SYS_7_ECX    (B(F_UMIP) | B(F_PKU) | B(F_RDPID) | B(F_PKS))
#define SYS_D1_EAX   (B(F_XSAVEOPT) | B(F_XSAVEC) | B(F_XGETBV1))
#define SYS_EXT1_ECX (B(F_LAHF) | B(F_PREFETCHW) | B(F_TOPOEXT))
#define SYS_EXT1_EDX (B(F_SYSCALL) | B(F_NX) | B(F_MMXEXT) | B(F_PDPE1GB) | B(F_RDTSCP) | B(F_LM))
/* Guest code does not run speculatively here: the flaws of real processors
 * that these bits deny are not there to be mitigated. */
#define SYS_EXT8_EBX                                                                               \
    (B(F_XSAVEERPTR) | B(F_WBNOINVD) | B(F_LMSLE_ABSENT) | B(F_SSB_NO) | B(F_BTC_NO))
#define SYS_EXT21_EAX                                                                              \
    (B(F_LFENCE_SERIAL) | B(F_NULL_SEL_CLR) | B(F_AUTOIBRS) | B(F_NO_SMM_CTL) | B(F_SRSO_NO))

static const struct cpu_model model_host = {
    .name = "host",
    .word =
        {
            [CW_1_ECX] = V3_1_ECX | SYS_1_ECX | B(F_PCLMUL) | B(F_AES),
            [CW_1_EDX] = SYS_1_EDX,
            [CW_7_EBX] = V3_7_EBX | SYS_7_EBX | B(F_RDSEED) | B(F_ADX) | B(F_SHA),
            [CW_7_ECX] = SYS_7_ECX | B(F_GFNI) | B(F_VAES) | B(F_VPCLMUL) | B(F_LA57) |
                         B(F_MOVDIRI) | B(F_MOVDIR64B),
            [CW_7_EDX] = B(F_FSRM),
            [CW_D1_EAX] = SYS_D1_EAX,
            [CW_EXT1_ECX] = SYS_EXT1_ECX | B(F_ABM),
            [CW_EXT1_EDX] = SYS_EXT1_EDX,
            [CW_EXT8_EBX] = SYS_EXT8_EBX,
            [CW_EXT21_EAX] = SYS_EXT21_EAX,
        },
    .phys_bits = 46, /* MEM_GPA_MAX */
};

/* A level of the psABI, and of the system what every processor that has the level gives a
 * KVM guest, nested or not: so that a model is the same on all engines and hosts. */
#define NAMED_1_ECX    (B(F_X2APIC) | B(F_TSC_DEADLINE) | B(F_XSAVE) | B(F_RDRAND) | B(F_HYPERVISOR))
#define NAMED_7_EBX    (B(F_FSGSBASE) | B(F_TSC_ADJUST) | B(F_SMEP))
#define NAMED_EXT1_ECX (B(F_LAHF) | B(F_TOPOEXT))
#define NAMED_EXT1_EDX (B(F_SYSCALL) | B(F_NX) | B(F_RDTSCP) | B(F_LM))

static const struct cpu_model model_v2 = {
    .name = "x86-64-v2",
    .word =
        {
            [CW_1_ECX] = V2_1_ECX | NAMED_1_ECX,
            [CW_1_EDX] = SYS_1_EDX,
            [CW_7_EBX] = NAMED_7_EBX,
            [CW_D1_EAX] = B(F_XSAVEOPT),
            [CW_EXT1_ECX] = NAMED_EXT1_ECX,
            [CW_EXT1_EDX] = NAMED_EXT1_EDX,
        },
    .phys_bits = 39,
};

static const struct cpu_model model_v3 = {
    .name = "x86-64-v3",
    .word =
        {
            [CW_1_ECX] = V3_1_ECX | NAMED_1_ECX,
            [CW_1_EDX] = SYS_1_EDX,
            [CW_7_EBX] = V3_7_EBX | NAMED_7_EBX,
            [CW_D1_EAX] = B(F_XSAVEOPT),
            [CW_EXT1_ECX] = NAMED_EXT1_ECX | B(F_ABM),
            [CW_EXT1_EDX] = NAMED_EXT1_EDX,
        },
    .phys_bits = 39,
};

/* Instructions that run natively: only what the host has can be offered. */
static const uint32_t native[CW_COUNT] = {
    [CW_1_ECX] = B(F_SSE3) | B(F_PCLMUL) | B(F_SSSE3) | B(F_FMA) | B(F_SSE4_1) | B(F_SSE4_2) |
                 B(F_AES) | B(F_AVX) | B(F_F16C),
    [CW_7_EBX] = B(F_AVX2) | B(F_SHA),
    [CW_7_ECX] = B(F_GFNI) | B(F_VAES) | B(F_VPCLMUL),
    [CW_EXT8_EBX] = B(F_XSAVEERPTR),
};
/* What the host's CPUID and kernel offer, features done in C among them. */
static void host_words(uint32_t word[CW_COUNT], bool *rdrand, bool *rdseed)
{
    memset(word, 0, CW_COUNT * sizeof *word);
    *rdrand = *rdseed = false;
#if defined(__x86_64__)
    unsigned a, b, c, d, vendor;
    if (!__get_cpuid(0, &a, &vendor, &c, &d) || !__get_cpuid(1, &a, &b, &c, &d))
        return;
    word[CW_1_ECX] = c;
    *rdrand = c & bit_RDRND;
    bool avx = false;
    if (c & bit_OSXSAVE) {
        uint32_t lo, hi;
        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        avx = (lo & 6) == 6;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        word[CW_7_EBX] = b;
        word[CW_7_ECX] = c;
        *rdseed = b & bit_RDSEED;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        word[CW_EXT1_ECX] = c;
    /* AMD says whether FXSAVE always writes the pointers; elsewhere it does. */
    if (vendor != signature_AMD_ebx)
        word[CW_EXT8_EBX] = B(F_XSAVEERPTR);
    else if (__get_cpuid(0x80000008, &a, &b, &c, &d))
        word[CW_EXT8_EBX] = b;
    if (!avx)
        word[CW_1_ECX] &= ~B(F_AVX);
#endif
}

/* ---- a model by its name -------------------------------------------------------- */

/* Features that can be taken away by name, and those that go with each. */
static const struct {
    const char *name;
    enum cpu_feat feat, with[4]; /* 0 ends the list: SSE3 goes with none */
} features[] = {
    {"sse3", F_SSE3, {F_SSSE3}},
    {"ssse3", F_SSSE3, {F_SSE4_1}},
    {"sse4_1", F_SSE4_1, {F_SSE4_2}},
    {"sse4_2", F_SSE4_2, {F_AVX}},
    {"popcnt", F_POPCNT, {0}},
    {"aes", F_AES, {F_VAES}},
    /* The decoder files VPCLMULQDQ's 128-bit form under AVX. */
    {"pclmulqdq", F_PCLMUL, {F_AVX}},
    {"avx", F_AVX, {F_FMA, F_F16C, F_AVX2}},
    {"avx2", F_AVX2, {F_VAES, F_VPCLMUL}},
    {"fma", F_FMA, {0}},
    {"f16c", F_F16C, {0}},
    {"vaes", F_VAES, {0}},
    {"vpclmulqdq", F_VPCLMUL, {0}},
    {"sha", F_SHA, {0}},
    {"gfni", F_GFNI, {0}},
    {"bmi1", F_BMI1, {0}},
    {"bmi2", F_BMI2, {0}},
    {"lzcnt", F_ABM, {0}},
    {"movbe", F_MOVBE, {0}},
    {"adx", F_ADX, {0}},
};

static void take(uint32_t word[CW_COUNT], enum cpu_feat f)
{
    word[f / 32] &= ~B(f);
    for (unsigned i = 0; i < ARRAY_LEN(features); i++)
        if (features[i].feat == f)
            for (unsigned n = 0; n < ARRAY_LEN(features[i].with) && features[i].with[n]; n++)
                take(word, features[i].with[n]);
}

/* What a feature needs that is not there takes the feature along. */
static void take_absent(uint32_t word[CW_COUNT])
{
    for (unsigned i = 0; i < ARRAY_LEN(features); i++)
        if (!(word[features[i].feat / 32] & B(features[i].feat)))
            take(word, features[i].feat);
}

/* The list of features behind a model's name; takes those marked with `mark`. */
static int take_listed(uint32_t word[CW_COUNT], const char *list, char mark)
{
    while (*list == ',') {
        if (list[1] != '-' && list[1] != '~')
            return err_set(VC_EINVAL,
                           "'%s' in a CPU model's name is not ',-FEATURE': ',-avx2' takes AVX2 "
                           "away",
                           list);
        const char *name = list + 2;
        size_t len = strcspn(name, ",");
        unsigned i = 0;
        while (i < ARRAY_LEN(features) &&
               (strlen(features[i].name) != len || strncmp(features[i].name, name, len) != 0))
            i++;
        if (i == ARRAY_LEN(features))
            return err_set(VC_ENOENT, "no CPU feature that can be taken away is called '%.*s'",
                           (int)min_u64(len, 64), name);
        if (list[1] == mark)
            take(word, features[i].feat);
        list = name + len;
    }
    return 0;
}

static bool same_name(const struct cpu_model *m, const char *name, size_t len)
{
    return strlen(m->name) == len && !strncmp(m->name, name, len);
}

int cpu_model_find(const char *name, struct cpu_model *out)
{
    static const struct cpu_model *const wanted[] = {&model_host, &model_v2, &model_v3};
    size_t len = strcspn(name, ",");
    uint32_t host[CW_COUNT];
    bool rdrand, rdseed;
    const struct cpu_model *m = NULL;

    for (unsigned i = 0; i < ARRAY_LEN(wanted) && !m; i++)
        m = same_name(wanted[i], name, len) ? wanted[i] : NULL;
    if (!m)
        return err_set(VC_ENOENT,
                       "no CPU model is called '%.*s'; there are host, x86-64-v2 and x86-64-v3",
                       (int)min_u64(len, 64), name);
    host_words(host, &rdrand, &rdseed);
    take_absent(host);
    if (take_listed(host, name + len, '~'))
        return vc_errcode();
    *out = *m;
    for (unsigned w = 0; w < CW_COUNT; w++) {
        uint32_t missing = out->word[w] & native[w] & ~host[w];
        out->word[w] &= ~missing;
        if (m != &model_host && w != CW_EXT8_EBX && missing)
            return err_set(VC_ENOTSUP,
                           "CPU model '%s' needs instructions that this host's CPU does not have; "
                           "use 'host'",
                           m->name);
    }
    if (take_listed(out->word, name + len, '-') || take_listed(host, name + len, '-'))
        return vc_errcode();
    memcpy(out->host, host, sizeof host);
    out->linear_bits = model_has(out, F_LA57) ? 57 : 48;
    out->xcr0 = XCR0_X87 | XCR0_SSE;
    if (model_has(out, F_AVX))
        out->xcr0 |= XCR0_YMM;
    if (model_has(out, F_PKU))
        out->xcr0 |= XCR0_PKRU;
    out->host_rdrand = rdrand;
    out->host_rdseed = rdseed;
    return 0;
}
