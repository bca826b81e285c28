/* SPDX-License-Identifier: MIT
 * Model-specific registers (SDM volume 4; AMD APM volume 2, appendix A). A
 * register that is not here raises #GP. */
#include "sys.h"
#include "../sampler.h"
#include "../../msr.h"

/* The microcode's number, in the form of the family that CPUID names. */
#define PATCH_LEVEL 0x0a1011ffull

/* MISC_ENABLE: no branch trace store, no PEBS, no performance monitoring;
 * read-only. */
#define MISC_ENABLE_RO 0x1880ull

#define LFENCE_SERIALIZING 2ull /* in DE_CFG */

static bool apic_msr(struct emu *c, uint32_t index, bool write, uint64_t *v)
{
    doing(c, VC_DOING_DEVICES);
    bool ok = c->env->apic_msr && c->env->apic_msr(c->env->ctx, c->index, index, write, v);
    doing(c, VC_DOING_INTERPRETER);
    return ok;
}

/* One that nobody else knows. */
static bool hvm_msr(struct emu *c, uint32_t index, bool write, uint64_t *v)
{
    return c->env->hvm && c->env->hvm->msr(c->env->pv_ctx, c->index, index, write, v);
}

static bool pat_ok(uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t type = v >> (8 * i) & 0xff;
        if (type >= 8 || !(0xf3u >> type & 1)) /* UC WC - - WT WP WB UC- */
            return false;
    }
    return true;
}

static bool set_canonical(struct emu *c, uint64_t *reg, uint64_t v)
{
    if (!cpu_canonical(c, v))
        return false;
    *reg = v;
    return true;
}

/* ---- AMD's ---------------------------------------------------------------------------- */

/* Registers that exist on every AMD processor but do nothing here: they read as
 * 0, and what is written is dropped. */
static bool amd_inert(uint32_t index)
{
    switch (index) {
    case MSR_IORR_BASE0:
    case MSR_IORR_MASK0:
    case MSR_IORR_BASE1:
    case MSR_IORR_MASK1:
    case MSR_TOP_MEM:
    case MSR_TOP_MEM2:
    case MSR_INT_PENDING:
    case MSR_MMIO_CONF_BASE:
    case MSR_DC_CFG:
    case MSR_BU_CFG2: return true;
    default: /* performance counters, of which CPUID offers none */
        return index >= MSR_K7_EVNTSEL0 && index <= MSR_K7_PERFCTR3;
    }
}

static bool amd_read(struct emu *c, uint32_t index, uint64_t *v)
{
    switch (index) {
    case MSR_SYSCFG: *v = c->syscfg; return true;
    case MSR_HWCR: *v = c->hwcr | HWCR_TSC_P0; return true;
    case MSR_NB_CFG: *v = c->nb_cfg; return true;
    case MSR_DE_CFG: *v = LFENCE_SERIALIZING; return true;
    case MSR_VM_CR: *v = 0x18; return true; /* SVM is disabled, and locked so */
    default: *v = 0; return amd_inert(index);
    }
}

static bool amd_write(struct emu *c, uint32_t index, uint64_t v)
{
    switch (index) {
    case MSR_SYSCFG:
        /* MtrrFixDramEn, MtrrFixDramModEn, MtrrVarDramEn, MtrrTom2En,
         * Tom2ForceMemTypeWB */
        if (v & ~0x7c0000ull)
            return false;
        c->syscfg = v;
        return true;
    case MSR_HWCR:
        /* TlbCacheDis, INVD as WBINVD, FFDIS, IGNNE emulation, McStatusWrEn */
        if (v & ~(0x158ull | HWCR_MC_STATUS | HWCR_TSC_P0))
            return false;
        c->hwcr = v & ~HWCR_TSC_P0;
        return true;
    case MSR_NB_CFG: c->nb_cfg = v; return true;
    case MSR_DE_CFG: return !(v & ~LFENCE_SERIALIZING);
    case MSR_VM_CR: return !(v & ~0x1full);
    default: return amd_inert(index);
    }
}

/* ---- reading ------------------------------------------------------------------------------ */

bool emu_msr_read(struct emu *c, uint32_t index, uint64_t *v)
{
    int known;

    if (index == MSR_APIC_BASE || (index >= 0x800 && index <= 0x8ff))
        return apic_msr(c, index, false, v);
    if ((known = mtrr_msr_read(c, index, v)) >= 0 || (known = mce_msr_read(c, index, v)) >= 0)
        return known;
    if (index >= 0xc0010000u && index <= 0xc001ffffu)
        return amd_read(c, index, v);

    switch (index) {
    case MSR_TSC: *v = emu_tsc(c); break;
    case MSR_TSC_ADJUST: *v = c->tsc_adjust; break;
    case MSR_TSC_DEADLINE: return tsc_deadline_read(c, v);
    case MSR_TSC_AUX: *v = c->tsc_aux; break;
    case MSR_EFER: *v = c->efer; break;
    case MSR_STAR: *v = c->star; break;
    case MSR_LSTAR: *v = c->lstar; break;
    case MSR_CSTAR: *v = c->cstar; break;
    case MSR_FMASK: *v = c->fmask; break;
    case MSR_FS_BASE: *v = c->seg[SEG_FS].base; break;
    case MSR_GS_BASE: *v = c->seg[SEG_GS].base; break;
    case MSR_KERNEL_GS_BASE: *v = c->kernel_gs_base; break;
    case MSR_SYSENTER_CS: *v = c->sysenter_cs; break;
    case MSR_SYSENTER_ESP: *v = c->sysenter_esp; break;
    case MSR_SYSENTER_EIP: *v = c->sysenter_eip; break;
    case MSR_PAT: *v = c->pat; break;
    case MSR_PKRS:
        if (!cpu_has(c, F_PKS))
            return false;
        *v = c->pkrs;
        break;
    case MSR_MISC_ENABLE: *v = c->misc_enable | MISC_ENABLE_RO; break;
    case MSR_PATCH_LEVEL: *v = PATCH_LEVEL; break;
    case MSR_PLATFORM_ID:
    case MSR_DEBUGCTL:
    case MSR_LAST_BRANCH_FROM:
    case MSR_LAST_BRANCH_TO:
    case MSR_LAST_INT_FROM:
    case MSR_LAST_INT_TO: *v = 0; break;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW: *v = c->kvm_system_time; break;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW: *v = c->kvm_wall_clock; break;
    default: return hvm_msr(c, index, false, v);
    }
    return true;
}

/* ---- writing ------------------------------------------------------------------------------- */

bool emu_msr_write(struct emu *c, uint32_t index, uint64_t v)
{
    int known;

    if (index == MSR_APIC_BASE || (index >= 0x800 && index <= 0x8ff))
        return apic_msr(c, index, true, &v);
    if ((known = mtrr_msr_write(c, index, v)) >= 0 || (known = mce_msr_write(c, index, v)) >= 0)
        return known;
    if (index >= 0xc0010000u && index <= 0xc001ffffu)
        return amd_write(c, index, v);

    switch (index) {
    case MSR_TSC: tsc_write(c, v); return true;
    case MSR_TSC_ADJUST: tsc_adjust_write(c, v); return true;
    case MSR_TSC_DEADLINE: return tsc_deadline_write(c, v);
    case MSR_TSC_AUX:
        if (v >> 32)
            return false;
        c->tsc_aux = v;
        return true;
    case MSR_EFER: return emu_set_efer(c, v);
    case MSR_STAR: c->star = v; return true;
    case MSR_LSTAR: return set_canonical(c, &c->lstar, v);
    case MSR_CSTAR: return set_canonical(c, &c->cstar, v);
    case MSR_FMASK: c->fmask = (uint32_t)v; return true;
    case MSR_FS_BASE: return set_canonical(c, &c->seg[SEG_FS].base, v);
    case MSR_GS_BASE: return set_canonical(c, &c->seg[SEG_GS].base, v);
    case MSR_KERNEL_GS_BASE: return set_canonical(c, &c->kernel_gs_base, v);
    case MSR_SYSENTER_CS: c->sysenter_cs = (uint32_t)v; return true;
    case MSR_SYSENTER_ESP: return set_canonical(c, &c->sysenter_esp, v);
    case MSR_SYSENTER_EIP: return set_canonical(c, &c->sysenter_eip, v);
    case MSR_PAT:
        if (!pat_ok(v))
            return false;
        c->pat = v;
        return true;
    case MSR_PKRS: return emu_set_pkrs(c, v);
    case MSR_MISC_ENABLE: c->misc_enable = v & ~MISC_ENABLE_RO; return true;
    case MSR_PATCH_LEVEL: return true; /* Intel's way to ask for it starts so; no effect */
    case MSR_DEBUGCTL: return v == 0;  /* neither branch records nor branch steps */
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW: kvm_clock_set(c, v); return true;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW: kvm_wall_clock_set(c, v); return true;
    default: return hvm_msr(c, index, true, &v);
    }
}
