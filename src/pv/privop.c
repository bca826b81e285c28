/* SPDX-License-Identifier: MIT
 * Privileged instructions of a kernel at ring 3, done on its behalf; CPUID as a PV
 * guest sees it; control and debug registers that are only remembered. */
#include "decode.h"

enum { RAX, RCX, RDX, RBX };

#define CR0_TS    BIT64(3)
#define CR4_DE    BIT64(3)
#define DR7_ZERO  0xffffffff0000d800ull /* and no GD */
#define DR7_ONE   BIT64(10)
#define CR4_GUEST (BIT64(3) | BIT64(16) | BIT64(18)) /* DE FSGSBASE OSXSAVE */

/* ---- MSRs --------------------------------------------------------------------------------- */

enum {
    MSR_APIC_BASE = 0x1b,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_EFER = 0xc0000080,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102
};

static bool msr_read(struct pv_vcpu *v, uint32_t index, uint64_t *value)
{
    const struct pv_engine *e = v->d->eng;
    switch (index) {
    case MSR_FS_BASE: *value = e->base(v->bc, PV_FS); return true;
    case MSR_GS_BASE: *value = e->base(v->bc, PV_GS); return true;
    case MSR_KERNEL_GS_BASE: *value = v->gs_other; return true;
    case MSR_APIC_BASE: /* none */
    case MSR_DEBUGCTL: *value = 0; return true;
    case 0x10: /* TSC */
    case 0x8b: /* microcode */
    case MSR_MISC_ENABLE:
    case 0x277: /* PAT */
    case MSR_EFER:
    case 0xc0010015: /* HWCR */ return !v->d->host.be->msr(v->bc, false, index, value);
    default: return false;
    }
}

static bool msr_write(struct pv_vcpu *v, uint32_t index, uint64_t value)
{
    const struct pv_engine *e = v->d->eng;
    switch (index) {
    case MSR_FS_BASE:
        if (pv_canonical(value))
            e->set_base(v->bc, PV_FS, value);
        return pv_canonical(value);
    case MSR_GS_BASE:
        if (pv_canonical(value))
            e->set_base(v->bc, PV_GS, value);
        return pv_canonical(value);
    case MSR_KERNEL_GS_BASE:
        if (pv_canonical(value))
            v->gs_other = value;
        return pv_canonical(value);
    case MSR_EFER:
    case MSR_MISC_ENABLE:
    case 0x277:
    case 0xc0010015: return true; /* stays as it is */
    default: return false;
    }
}

/* ---- CPUID ---------------------------------------------------------------------------------- */

/* What a PV guest has not: page sizes, its own paging features, interrupt controllers,
 * virtualization. */
static void filter(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    switch (leaf) {
    case 1:
        /* MONITOR, PDCM, PCID, x2APIC, TSC deadline; HYPERVISOR on */
        out[2] &= ~(BIT(3) | BIT(15) | BIT(17) | BIT(21) | BIT(24));
        out[2] |= BIT(31);
        /* VME PSE MCE PGE MTRR PSE36 DS ACPI SS HT TM PBE */
        out[3] &= ~(BIT(1) | BIT(3) | BIT(7) | BIT(12) | BIT(13) | BIT(17) | BIT(21) | BIT(22) |
                    BIT(27) | BIT(28) | BIT(29) | BIT(31));
        break;
    case 6: out[0] = out[1] = out[2] = out[3] = 0; break;
    case 7:
        if (sub)
            break;
        out[1] &= ~(BIT(1) | BIT(7) | BIT(10) | BIT(20)); /* TSC_ADJUST SMEP INVPCID SMAP */
        out[2] &= ~(BIT(2) | BIT(3) | BIT(4) | BIT(16) | BIT(22) | BIT(31)); /* UMIP PKU OSPKE
                                                                               LA57 RDPID PKS */
        break;
    case 0x80000001:
        out[2] &= ~(BIT(2) | BIT(10) | BIT(12) | BIT(13)); /* SVM IBS SKINIT WDT */
        /* PSE PGE MTRR PSE36, pages of 1 GiB, RDTSCP */
        out[3] &= ~(BIT(1) | BIT(3) | BIT(12) | BIT(13) | BIT(17) | BIT(26) | BIT(27));
        break;
    case 0x8000000a: out[0] = out[1] = out[2] = out[3] = 0; break;
    default: break;
    }
}

void pv_hook_cpuid(void *ctx, unsigned cpu, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct pv_domain *d = ctx;
    if (pv_cpuid_is_xen(leaf))
        pv_cpuid_xen(d, cpu, leaf, sub, out);
    else
        filter(leaf, sub, out);
}

static void cpuid(struct pv_vcpu *v)
{
    uint64_t *gpr = v->d->eng->gprs(v->bc);
    uint32_t out[4];
    v->d->eng->cpuid(v->bc, (uint32_t)gpr[RAX], (uint32_t)gpr[RCX], out);
    gpr[RAX] = out[0];
    gpr[RBX] = out[1];
    gpr[RCX] = out[2];
    gpr[RDX] = out[3];
}

/* XEN_EMULATE_PREFIX, then CPUID. */
bool pv_forced_cpuid(struct pv_vcpu *v)
{
    static const uint8_t wanted[] = {0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2};
    uint64_t rip = v->d->eng->rip(v->bc);
    uint8_t b[sizeof wanted];
    if (!pv_copy_from(v, b, rip, sizeof b) || memcmp(b, wanted, sizeof b) != 0)
        return false;
    cpuid(v);
    v->d->eng->set_rip(v->bc, rip + sizeof b);
    return true;
}

/* ---- control and debug registers ------------------------------------------------------------ */

static uint64_t m2p_cr3(const struct pv_vcpu *v)
{
    return v->kernel_mfn << 12;
}

static bool cr_read(struct pv_vcpu *v, unsigned n, uint64_t *value)
{
    switch (n) {
    case 0: *value = v->cr0; return true;
    case 2: *value = v->info->arch.cr2; return true;
    case 3: *value = m2p_cr3(v); return true;
    case 4: *value = v->cr4; return true;
    default: return false;
    }
}

static bool cr_write(struct pv_vcpu *v, unsigned n, uint64_t value)
{
    const struct pv_engine *e = v->d->eng;
    uint64_t real;
    int rc;
    switch (n) {
    case 0:
        if ((value ^ v->cr0) & ~CR0_TS)
            return false; /* only TS may change */
        v->cr0 = value;
        e->set_ts(v->bc, value & CR0_TS);
        return true;
    case 2: v->info->arch.cr2 = value; return true;
    case 3:
        pv_lock(v);
        rc = pv_base_set(v, value >> 12, false);
        pv_unlock(v);
        return !rc;
    case 4:
        if (v->d->host.be->reg(v->bc, false, VC_REG_CR4, &real))
            return false;
        v->cr4 = (v->cr4 & ~CR4_GUEST) | (value & CR4_GUEST);
        real = (real & ~CR4_GUEST) | (value & CR4_GUEST);
        return !v->d->host.be->reg(v->bc, true, VC_REG_CR4, &real);
    default: return false;
    }
}

/* Breakpoints in user space and the kernel alike, none in the hypervisor's part. Those on
 * I/O are remembered: ports are the hypervisor's. */
static int dr_write(struct pv_vcpu *v, unsigned n, uint64_t value)
{
    uint64_t real = value;
    if (n == 4 || n == 5)
        n += 2;
    if (n < 4 && !pv_va_allowed(value))
        return -XEN_EPERM;
    if (n == 6)
        real = value & 0xe00f;
    if (n == 7) {
        value = (value & ~DR7_ZERO) | DR7_ONE;
        real = value;
        for (unsigned i = 0; i < 4; i++) {
            if ((value >> (16 + 4 * i) & 3) != 2)
                continue;
            if (!(v->cr4 & CR4_DE))
                return -XEN_EPERM;
            real &= ~(3ull << 2 * i);
        }
    }
    if (n > 7 || v->d->host.be->reg(v->bc, true, VC_REG_DR0 + (n < 4 ? n : n - 2), &real))
        return -XEN_EINVAL;
    v->dr[n] = value;
    return 0;
}

long hc_set_debugreg(struct pv_vcpu *v, const uint64_t a[6])
{
    return a[0] > 7 ? -XEN_EINVAL : dr_write(v, (unsigned)a[0], a[1]);
}

long hc_get_debugreg(struct pv_vcpu *v, const uint64_t a[6])
{
    unsigned n = (unsigned)a[0];
    uint64_t value = 0;
    if (a[0] > 7)
        return -XEN_EINVAL;
    if (n == 4 || n == 5)
        n += 2;
    if (n == 7)
        return (long)(v->dr[7] | DR7_ONE);
    v->d->host.be->reg(v->bc, false, VC_REG_DR0 + (n < 4 ? n : n - 2), &value);
    return (long)value;
}

long hc_fpu_taskswitch(struct pv_vcpu *v, const uint64_t a[6])
{
    v->cr0 = a[0] ? v->cr0 | CR0_TS : v->cr0 & ~CR0_TS;
    v->d->eng->set_ts(v->bc, a[0] != 0);
    return 0;
}

/* ---- #GP(0) --------------------------------------------------------------------------------- */

static bool mov_special(struct pv_vcpu *v, const struct pv_insn *in)
{
    ZydisRegister to = in->op[0].reg.value, from = in->op[1].reg.value;
    uint64_t value;
    if (in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
        in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    switch (ZydisRegisterGetClass(to)) {
    case ZYDIS_REGCLASS_CONTROL:
        return pv_insn_reg_get(v, from, &value) &&
               cr_write(v, (unsigned)ZydisRegisterGetId(to), value);
    case ZYDIS_REGCLASS_DEBUG:
        return pv_insn_reg_get(v, from, &value) &&
               !dr_write(v, (unsigned)ZydisRegisterGetId(to), value);
    default: break;
    }
    if (ZydisRegisterGetClass(from) == ZYDIS_REGCLASS_CONTROL)
        return cr_read(v, (unsigned)ZydisRegisterGetId(from), &value) &&
               pv_insn_reg_set(v, to, value);
    if (ZydisRegisterGetClass(from) == ZYDIS_REGCLASS_DEBUG) {
        const uint64_t a[6] = {(uint64_t)ZydisRegisterGetId(from)};
        return pv_insn_reg_set(v, to, (uint64_t)hc_get_debugreg(v, a));
    }
    return false;
}

static bool rdmsr(struct pv_vcpu *v)
{
    uint64_t *gpr = v->d->eng->gprs(v->bc), value;
    if (!msr_read(v, (uint32_t)gpr[RCX], &value))
        return false;
    gpr[RAX] = (uint32_t)value;
    gpr[RDX] = value >> 32;
    return true;
}

static uint64_t edx_eax(const uint64_t *gpr)
{
    return gpr[RDX] << 32 | (uint32_t)gpr[RAX];
}

static bool emulate(struct pv_vcpu *v, const struct pv_insn *in)
{
    const uint64_t *gpr = v->d->eng->gprs(v->bc);
    const uint64_t clear[6] = {0};
    uint64_t value;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_RDMSR: return rdmsr(v);
    case ZYDIS_MNEMONIC_WRMSR: return msr_write(v, (uint32_t)gpr[RCX], edx_eax(gpr));
    case ZYDIS_MNEMONIC_XSETBV:
        value = edx_eax(gpr);
        return !(uint32_t)gpr[RCX] && !v->d->host.be->reg(v->bc, true, VC_REG_XCR0, &value);
    case ZYDIS_MNEMONIC_MOV: return mov_special(v, in);
    case ZYDIS_MNEMONIC_CLTS: return !hc_fpu_taskswitch(v, clear);
    case ZYDIS_MNEMONIC_CPUID: cpuid(v); return true;
    case ZYDIS_MNEMONIC_WBINVD:
    case ZYDIS_MNEMONIC_INVD: return true; /* caches hide nothing */
    default: return false;
    }
}

bool pv_privop(struct pv_vcpu *v)
{
    struct pv_insn in;
    if (!pv_insn_decode(v, v->d->eng->rip(v->bc), &in))
        return false;
    if (!pv_port_insn(v, &in) && !(v->kernel && emulate(v, &in)))
        return false;
    v->d->eng->set_rip(v->bc, in.next);
    return true;
}
