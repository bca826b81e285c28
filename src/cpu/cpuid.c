/* SPDX-License-Identifier: MIT
 * The answers of CPUID (AMD APM volume 3, appendix E; Intel SDM volume 2A,
 * CPUID), and the hypervisor leaves of KVM's paravirtual clock. */
#include "model.h"

#define LEAF_MAX     0x16u
#define LEAF_EXT_MAX 0x80000021u
#define LEAF_HV      0x40000000u
#define LEAF_HV_FREQ 0x40000010u

/* KVM features: a clock page (both generations of its MSRs), no need of delays
 * at port I/O, and a clock that is the same on all vCPUs. */
#define KVM_CLOCKSOURCE        BIT(0)
#define KVM_NOP_IO_DELAY       BIT(1)
#define KVM_CLOCKSOURCE2       BIT(3)
#define KVM_CLOCKSOURCE_STABLE BIT(24)

/* The local APIC's timer counts at 1 GHz before its divider. */
#define APIC_HZ 1000000000ull

static void set(uint32_t out[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

/* One package of single-thread cores: as many as the partition has vCPUs. */
static unsigned core_bits(const struct cpuid_state *s)
{
    unsigned bits = 0;
    while (BIT(bits) < s->cores)
        bits++;
    return bits;
}

/* APIC and its kin are there when the partition has local APICs; the bit follows
 * the enable bit of the APIC base MSR. */
static uint32_t features_edx(const struct cpuid_state *s)
{
    uint32_t edx = s->model->word[CW_1_EDX];
    return s->apic && s->apic_on ? edx : edx & ~BIT(F_APIC % 32);
}

static void leaf_1(const struct cpuid_state *s, uint32_t out[4])
{
    uint32_t edx = features_edx(s), ecx = s->model->word[CW_1_ECX];

    if (!s->apic)
        ecx &= ~(BIT(F_X2APIC % 32) | BIT(F_TSC_DEADLINE % 32));
    if (s->osxsave)
        ecx |= BIT(F_OSXSAVE % 32);
    if (s->cores > 1)
        edx |= BIT(F_HTT % 32);
    set(out, CPU_SIGNATURE, s->index << 24 | s->cores << 16 | 8 << 8 /* CLFLUSH: 64 bytes */, ecx,
        edx);
}

/* Extended topology: threads of a core, cores of the package. */
static void leaf_topology(const struct cpuid_state *s, uint32_t sub, uint32_t out[4])
{
    if (sub == 0)
        set(out, 0, 1, 1 << 8, s->index);
    else if (sub == 1)
        set(out, core_bits(s), s->cores, 2 << 8 | 1, s->index);
    else
        set(out, 0, 0, sub & 0xff, s->index);
}

/* Caches: 32 KiB L1 each, 1 MiB L2, 32 MiB L3 for all. */
static void leaf_cache(const struct cpuid_state *s, uint32_t sub, uint32_t out[4])
{
    static const struct {
        uint8_t type, level, shared;
        uint16_t ways;
        uint32_t sets;
    } cache[] = {
        {1, 1, 0, 8, 64},
        {2, 1, 0, 8, 64},
        {3, 2, 0, 8, 2048},
        {3, 3, 1, 16, 32768},
    };
    if (sub >= ARRAY_LEN(cache))
        return;
    uint32_t sharing = cache[sub].shared ? s->cores - 1 : 0;
    set(out, cache[sub].type | (uint32_t)cache[sub].level << 5 | 1 << 8 | sharing << 14,
        63 | (cache[sub].ways - 1u) << 22, cache[sub].sets - 1, cache[sub].level == 2 ? 2 : 0);
}

static void leaf_brand(uint32_t leaf, uint32_t out[4])
{
    static const char brand[48] = "libvirtcore emulated x86-64 processor";
    memcpy(out, brand + (leaf - 0x80000002u) * 16, 16);
}

static void leaf_ext1(const struct cpuid_state *s, uint32_t out[4])
{
    const uint32_t *w = s->model->word;
    /* EDX repeats some bits of leaf 1: 0-9, 12-17, 23 and 24. */
    uint32_t same = features_edx(s) & 0x0183f3ffu;
    set(out, CPU_SIGNATURE, 0, w[CW_EXT1_ECX] | (s->cores > 1 ? BIT(F_CMP_LEGACY % 32) : 0),
        w[CW_EXT1_EDX] | same);
}

static void leaf_ext(const struct cpuid_state *s, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct cpu_model *m = s->model;

    switch (leaf) {
    case 0x80000000: set(out, LEAF_EXT_MAX, 0x68747541, 0x444d4163, 0x69746e65); break;
    case 0x80000001: leaf_ext1(s, out); break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: leaf_brand(leaf, out); break;
    /* TLBs, and L1: KiB, ways, lines a tag, bytes a line. */
    case 0x80000005: set(out, 0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140); break;
    /* L2: KiB, ways (6: 8 ways); L3: 512 KiB units, 8: 16 ways. */
    case 0x80000006:
        set(out, 0x48006400, 0x68006400, 1024u << 16 | 6 << 12 | 0x140,
            64u << 18 | 8 << 12 | 0x140);
        break;
    case 0x80000007: set(out, 0, 0, 0, BIT(8) /* invariant TSC */); break;
    case 0x80000008:
        set(out, m->phys_bits | m->linear_bits << 8, m->word[CW_EXT8_EBX],
            core_bits(s) << 12 | (s->cores - 1), 0);
        break;
    case 0x80000019: set(out, 0xf040f040, 0, 0, 0); break; /* TLBs for 1 GiB pages */
    case 0x8000001a: set(out, 6, 0, 0, 0); break;          /* 256-bit paths; MOVU as fast as MOVA */
    case 0x8000001d: leaf_cache(s, sub, out); break;
    case 0x8000001e:
        set(out, s->index, s->index, 0, 0);
        break; /* core, node 0 */
    /* ECX: not affected by the transient scheduler flaws. */
    case 0x80000021: set(out, m->word[CW_EXT21_EAX], 0, BIT(1) | BIT(2), 0); break;
    default: break;
    }
}

static void leaf_hypervisor(const struct cpuid_state *s, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case LEAF_HV: set(out, LEAF_HV_FREQ, 0x4b4d564b, 0x564b4d56, 0x4d); break; /* KVMKVMKVM */
    case LEAF_HV + 1:
        out[0] = KVM_CLOCKSOURCE | KVM_NOP_IO_DELAY | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE;
        break;
    case LEAF_HV_FREQ: /* kHz: TSC, APIC timer */
        set(out, (uint32_t)(s->tsc_hz / 1000), (uint32_t)(APIC_HZ / 1000), 0, 0);
        break;
    default: break;
    }
}

void cpuid_answer(const struct cpuid_state *s, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const uint32_t *w = s->model->word;
    uint64_t hz = s->tsc_hz;

    set(out, 0, 0, 0, 0);
    if (leaf >= 0x80000000u) {
        leaf_ext(s, leaf, sub, out);
        return;
    }
    if (leaf >= LEAF_HV) {
        leaf_hypervisor(s, leaf, out);
        return;
    }
    switch (leaf) {
    case 0: set(out, LEAF_MAX, 0x68747541, 0x444d4163, 0x69746e65); break; /* AuthenticAMD */
    case 1: leaf_1(s, out); break;
    case 6: out[0] = BIT(2); break; /* the APIC timer never stops */
    case 7:
        if (sub == 0)
            set(out, 0, w[CW_7_EBX], w[CW_7_ECX] | (s->ospke ? BIT(F_OSPKE % 32) : 0), w[CW_7_EDX]);
        break;
    case 0xb: leaf_topology(s, sub, out); break;
    case 0x15: /* TSC = 1 GHz * EBX / EAX */
        if (hz)
            set(out, 1000000, (uint32_t)(hz / 1000), (uint32_t)APIC_HZ, 0);
        break;
    case 0x16: /* MHz: base, highest, bus */
        set(out, (uint32_t)(hz / 1000000), (uint32_t)(hz / 1000000), 100, 0);
        break;
    default: break;
    }
}
