/* SPDX-License-Identifier: MIT
 * The answers of CPUID (AMD APM volume 3, appendix E; Intel SDM volume 2A,
 * CPUID), and the hypervisor leaves of KVM's paravirtual clock. */
#include "../simd/fpu.h"
#include "sys.h"

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
static unsigned cores(const struct emu *c)
{
    return c->vm->ncpu > 1 ? c->vm->ncpu : 1;
}

static unsigned core_bits(const struct emu *c)
{
    unsigned bits = 0;
    while (BIT(bits) < cores(c))
        bits++;
    return bits;
}

/* APIC and its kin are there when the partition has local APICs; the bit follows
 * the enable bit of the APIC base MSR. */
static bool apic_enabled(struct emu *c, bool *present)
{
    uint64_t base = 0;
    *present = c->env->apic_msr && c->env->apic_msr(c->env->ctx, c->index, 0x1b, false, &base);
    return *present && (base & 0x800);
}

static uint32_t features_edx(struct emu *c, bool *apic)
{
    uint32_t edx = c->vm->model->word[CW_1_EDX];
    if (!apic_enabled(c, apic))
        edx &= ~BIT(F_APIC % 32);
    return edx;
}

static void leaf_1(struct emu *c, uint32_t out[4])
{
    bool apic;
    uint32_t edx = features_edx(c, &apic), ecx = c->vm->model->word[CW_1_ECX];

    if (!apic)
        ecx &= ~(BIT(F_X2APIC % 32) | BIT(F_TSC_DEADLINE % 32));
    if (c->cr4 & CR4_OSXSAVE)
        ecx |= BIT(F_OSXSAVE % 32);
    if (cores(c) > 1)
        edx |= BIT(F_HTT % 32);
    set(out, CPU_SIGNATURE, c->index << 24 | cores(c) << 16 | 8 << 8 /* CLFLUSH: 64 bytes */, ecx,
        edx);
}

/* Extended topology: threads of a core, cores of the package. */
static void leaf_topology(struct emu *c, uint32_t sub, uint32_t out[4])
{
    if (sub == 0)
        set(out, 0, 1, 1 << 8, c->index);
    else if (sub == 1)
        set(out, core_bits(c), cores(c), 2 << 8 | 1, c->index);
    else
        set(out, 0, 0, sub & 0xff, c->index);
}

/* State components: sizes of areas, then size and place of each component. */
static void leaf_xsave(struct emu *c, uint32_t sub, uint32_t out[4])
{
    uint64_t all = c->vm->model->xcr0;

    if (sub == 0)
        set(out, (uint32_t)all, xs_size(c->xcr0, false), xs_size(all, false), 0);
    else if (sub == 1)
        set(out, c->vm->model->word[CW_D1_EAX], xs_size(c->xcr0, true), 0, 0);
    else if (sub == 2 && all & XS_YMM)
        set(out, XS_AVX_LEN, XS_AVX, 0, 0);
    else if (sub == 9 && all & XS_PKRU)
        set(out, XS_PKRU_LEN, xs_pkru(false, 0), 0, 0);
}

/* Caches: 32 KiB L1 each, 1 MiB L2, 32 MiB L3 for all. */
static void leaf_cache(struct emu *c, uint32_t sub, uint32_t out[4])
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
    uint32_t sharing = cache[sub].shared ? cores(c) - 1 : 0;
    set(out, cache[sub].type | (uint32_t)cache[sub].level << 5 | 1 << 8 | sharing << 14,
        63 | (cache[sub].ways - 1u) << 22, cache[sub].sets - 1, cache[sub].level == 2 ? 2 : 0);
}

static void leaf_brand(uint32_t leaf, uint32_t out[4])
{
    static const char brand[48] = "libvirtcore emulated x86-64 processor";
    memcpy(out, brand + (leaf - 0x80000002u) * 16, 16);
}

static void leaf_ext1(struct emu *c, uint32_t out[4])
{
    const uint32_t *w = c->vm->model->word;
    /* EDX repeats some bits of leaf 1: 0-9, 12-17, 23 and 24. */
    bool apic;
    uint32_t same = features_edx(c, &apic) & 0x0183f3ffu;
    set(out, CPU_SIGNATURE, 0, w[CW_EXT1_ECX] | (cores(c) > 1 ? BIT(F_CMP_LEGACY % 32) : 0),
        w[CW_EXT1_EDX] | same);
}

static void leaf_ext(struct emu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct cpu_model *m = c->vm->model;

    switch (leaf) {
    case 0x80000000: set(out, LEAF_EXT_MAX, 0x68747541, 0x444d4163, 0x69746e65); break;
    case 0x80000001: leaf_ext1(c, out); break;
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
            core_bits(c) << 12 | (cores(c) - 1), 0);
        break;
    case 0x80000019: set(out, 0xf040f040, 0, 0, 0); break; /* TLBs for 1 GiB pages */
    case 0x8000001a: set(out, 6, 0, 0, 0); break;          /* 256-bit paths; MOVU as fast as MOVA */
    case 0x8000001d: leaf_cache(c, sub, out); break;
    case 0x8000001e:
        set(out, c->index, c->index, 0, 0);
        break; /* core, node 0 */
    /* ECX: not affected by the transient scheduler flaws. */
    case 0x80000021: set(out, m->word[CW_EXT21_EAX], 0, BIT(1) | BIT(2), 0); break;
    default: break;
    }
}

static void leaf_hypervisor(struct emu *c, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case LEAF_HV: set(out, LEAF_HV_FREQ, 0x4b4d564b, 0x564b4d56, 0x4d); break; /* KVMKVMKVM */
    case LEAF_HV + 1:
        out[0] = KVM_CLOCKSOURCE | KVM_NOP_IO_DELAY | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE;
        break;
    case LEAF_HV_FREQ: /* kHz: TSC, APIC timer */
        set(out, (uint32_t)(c->env->tsc_hz / 1000), (uint32_t)(APIC_HZ / 1000), 0, 0);
        break;
    default: break;
    }
}

static void cpuid_own(struct emu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const uint32_t *w = c->vm->model->word;
    uint64_t hz = c->env->tsc_hz;

    set(out, 0, 0, 0, 0);
    if (leaf >= 0x80000000u) {
        leaf_ext(c, leaf, sub, out);
        return;
    }
    if (leaf >= LEAF_HV) {
        leaf_hypervisor(c, leaf, out);
        return;
    }
    switch (leaf) {
    case 0: set(out, LEAF_MAX, 0x68747541, 0x444d4163, 0x69746e65); break; /* AuthenticAMD */
    case 1: leaf_1(c, out); break;
    case 6: out[0] = BIT(2); break; /* the APIC timer never stops */
    case 7:
        if (sub == 0)
            set(out, 0, w[CW_7_EBX], w[CW_7_ECX] | (c->cr4 & CR4_PKE ? BIT(F_OSPKE % 32) : 0),
                w[CW_7_EDX]);
        break;
    case 0xb: leaf_topology(c, sub, out); break;
    case 0xd: leaf_xsave(c, sub, out); break;
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

void emu_cpuid(struct emu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    cpuid_own(c, leaf, sub, out);
    if (unlikely(c->env->pv))
        c->env->pv->cpuid(c->env->pv_ctx, c->index, leaf, sub, out);
}
