/* SPDX-License-Identifier: MIT
 * The model's CPUID, as a table for KVM, which answers the guest by itself. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ENTRIES_MAX 512u

/* ---- what KVM can ---------------------------------------------------------------- */

int kvm_cpuid_load(struct kvm_vm *vm)
{
    for (unsigned n = 128; n <= ENTRIES_MAX; n *= 2) {
        free(vm->cpuid);
        vm->cpuid = calloc(1, sizeof *vm->cpuid + n * sizeof vm->cpuid->entries[0]);
        if (!vm->cpuid)
            return err_set(VC_ENOMEM, "no host memory for a table of CPUID's answers");
        vm->cpuid->nent = n;
        if (!ioctl(vm->host.fd, KVM_GET_SUPPORTED_CPUID, vm->cpuid))
            return 0;
        if (errno != E2BIG)
            break;
    }
    return kvm_error(errno, "asking what processor KVM can offer");
}

static const struct kvm_cpuid_entry2 *supported(const struct kvm_vm *vm, uint32_t leaf,
                                                uint32_t sub)
{
    for (unsigned i = 0; i < vm->cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &vm->cpuid->entries[i];
        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
            return e;
    }
    return NULL;
}

/* Where CPUID has each word. */
static const struct {
    uint32_t leaf;
    uint8_t sub, reg;
} where[CW_COUNT] = {
    [CW_1_ECX] = {1, 0, 2},
    [CW_1_EDX] = {1, 0, 3},
    [CW_7_EBX] = {7, 0, 1},
    [CW_7_ECX] = {7, 0, 2},
    [CW_7_EDX] = {7, 0, 3},
    [CW_D1_EAX] = {0xd, 1, 0},
    [CW_EXT1_ECX] = {0x80000001, 0, 2},
    [CW_EXT1_EDX] = {0x80000001, 0, 3},
    [CW_EXT8_EBX] = {0x80000008, 0, 1},
    [CW_EXT21_EAX] = {0x80000021, 0, 0},
};

static uint32_t supported_word(const struct kvm_vm *vm, enum cpu_word w)
{
    const struct kvm_cpuid_entry2 *e = supported(vm, where[w].leaf, where[w].sub);
    if (!e)
        return 0;
    const uint32_t reg[4] = {e->eax, e->ebx, e->ecx, e->edx};
    return reg[where[w].reg];
}

/* What there is beyond KVM's answer: HYPERVISOR is ours to say, so are the features of
 * our local APIC, and bits that only describe. */
static const uint32_t always[CW_COUNT] = {
    [CW_1_ECX] = BIT(F_HYPERVISOR % 32) | BIT(F_X2APIC % 32) | BIT(F_TSC_DEADLINE % 32),
    [CW_1_EDX] =
        BIT(F_APIC % 32) | BIT(F_MTRR % 32) | BIT(F_MCE % 32) | BIT(F_MCA % 32) | BIT(F_PAT % 32),
    [CW_7_EBX] = BIT(F_TSC_ADJUST % 32),
    [CW_EXT1_ECX] = BIT(F_TOPOEXT % 32),
};

/* For the sentence that refuses a model. */
static const struct {
    enum cpu_feat feat;
    const char *name;
} names[] = {
    {F_SSE3, "SSE3"},     {F_SSSE3, "SSSE3"},   {F_CX16, "CMPXCHG16B"}, {F_SSE4_1, "SSE4.1"},
    {F_SSE4_2, "SSE4.2"}, {F_POPCNT, "POPCNT"}, {F_LAHF, "LAHF"},       {F_FMA, "FMA"},
    {F_MOVBE, "MOVBE"},   {F_AVX, "AVX"},       {F_F16C, "F16C"},       {F_BMI1, "BMI1"},
    {F_AVX2, "AVX2"},     {F_BMI2, "BMI2"},     {F_ABM, "LZCNT"},       {F_XSAVE, "XSAVE"},
    {F_RDRAND, "RDRAND"}, {F_SMEP, "SMEP"},
};

/* But for "host" a model is what its name says, or it is refused. */
static int refuse(const struct cpu_model *m, unsigned word, uint32_t lacks)
{
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].feat / 32 == word && lacks >> (names[i].feat % 32) & 1)
            return err_set(VC_ENOTSUP,
                           "CPU model '%s' has %s, which the host's KVM cannot give a guest; use "
                           "'host'",
                           m->name, names[i].name);
    return err_set(VC_ENOTSUP,
                   "CPU model '%s' has bit %u of CPUID %#x, which the host's KVM cannot give a "
                   "guest; use 'host'",
                   m->name, (unsigned)__builtin_ctz(lacks), where[word].leaf);
}

int kvm_cpuid_check(struct kvm_vm *vm)
{
    struct cpu_model *m = &vm->model;
    bool named = strcmp(m->name, "host") != 0;
    for (unsigned w = 0; w < CW_COUNT; w++) {
        uint32_t lacks = m->word[w] & ~(supported_word(vm, (enum cpu_word)w) | always[w]);
        if (named && lacks)
            return refuse(m, w, lacks);
        m->word[w] &= ~lacks;
    }
    const struct kvm_cpuid_entry2 *e = supported(vm, 0xd, 0);
    m->xcr0 &= e ? e->eax | (uint64_t)e->edx << 32 : XCR0_X87 | XCR0_SSE;
    if (!model_has(m, F_PKU))
        m->xcr0 &= ~(uint64_t)XCR0_PKRU;
    if (!model_has(m, F_LA57))
        m->linear_bits = 48;
    e = supported(vm, 0x80000008, 0);
    unsigned bits = e ? e->eax & 0xff : m->phys_bits;
    if (named && bits < m->phys_bits)
        return err_set(
            VC_ENOTSUP,
            "CPU model '%s' has physical addresses of %u bits, the host's KVM of %u; use "
            "'host'",
            m->name, m->phys_bits, bits);
    if (bits < m->phys_bits)
        m->phys_bits = bits;
    return 0;
}

unsigned kvm_pkru_off(const struct kvm_vm *vm)
{
    const struct kvm_cpuid_entry2 *e = supported(vm, 0xd, 9);
    return e && e->eax >= 4 && e->ebx <= sizeof(struct kvm_xsave) - 4 ? e->ebx : 0;
}

/* ---- the table -------------------------------------------------------------------- */

struct table {
    unsigned nent, pad;
    struct kvm_cpuid_entry2 entry[64];
};

static void put(struct table *t, uint32_t leaf, uint32_t sub, bool indexed, const uint32_t r[4])
{
    t->entry[t->nent++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = sub,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = r[0],
        .ebx = r[1],
        .ecx = r[2],
        .edx = r[3],
    };
}

/* State components have the host's places: XSAVE runs natively. KVM fills in the sizes
 * that depend on XCR0. */
static void put_xsave(struct table *t, const struct kvm_vm *vm)
{
    uint64_t all = vm->model.xcr0;
    uint32_t size = 576, first[4] = {(uint32_t)all, 0, 0, (uint32_t)(all >> 32)};
    uint32_t second[4] = {vm->model.word[CW_D1_EAX], 0, 0, 0};
    unsigned at = t->nent;
    put(t, 0xd, 0, true, first);
    put(t, 0xd, 1, true, second);
    for (uint32_t n = 2; n < 10; n++) {
        const struct kvm_cpuid_entry2 *e = all >> n & 1 ? supported(vm, 0xd, n) : NULL;
        uint32_t r[4] = {0};
        if (e) {
            r[0] = e->eax, r[1] = e->ebx, r[2] = e->ecx;
            if (e->ebx + e->eax > size)
                size = e->ebx + e->eax;
        }
        if (e)
            put(t, 0xd, n, true, r);
    }
    t->entry[at].ebx = t->entry[at].ecx = size;
}

static const struct {
    uint32_t leaf, subs; /* subs: how many, of a leaf that has them */
} leaves[] = {
    {0, 0},          {1, 0},          {6, 0},          {7, 1},          {0xb, 3},
    {0xd, 0},        {0x15, 0},       {0x16, 0},       {0x40000000, 0}, {0x40000001, 0},
    {0x40000010, 0}, {0x80000000, 0}, {0x80000001, 0}, {0x80000002, 0}, {0x80000003, 0},
    {0x80000004, 0}, {0x80000005, 0}, {0x80000006, 0}, {0x80000007, 0}, {0x80000008, 0},
    {0x80000019, 0}, {0x8000001a, 0}, {0x8000001d, 5}, {0x8000001e, 0}, {0x80000021, 0},
};

int kvm_cpuid_set(struct kvm_cpu *c)
{
    struct kvm_vm *vm = c->vm;
    const struct cpuid_state s = {
        .model = &vm->model,
        .index = c->index,
        .cores = vm->ncpus > 1 ? vm->ncpus : 1,
        .apic = vm->platform,
        .apic_on = true, /* KVM lets the bit follow the APIC base */
        .tsc_hz = vm->env.tsc_hz,
    };
    struct table *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(VC_ENOMEM, "no host memory for a table of CPUID's answers");
    for (unsigned i = 0; i < ARRAY_LEN(leaves); i++) {
        if (leaves[i].leaf == 0xd && model_has(&vm->model, F_XSAVE))
            put_xsave(t, vm);
        for (unsigned n = 0; leaves[i].leaf != 0xd && n < (leaves[i].subs ? leaves[i].subs : 1);
             n++) {
            uint32_t r[4];
            cpuid_answer(&s, leaves[i].leaf, n, r);
            put(t, leaves[i].leaf, n, leaves[i].subs, r);
        }
    }
    int rc = ioctl(c->fd, KVM_SET_CPUID2, t) ? kvm_error(errno, "telling KVM of the processor") : 0;
    free(t);
    c->cores = s.cores;
    return rc;
}
