/* SPDX-License-Identifier: MIT
 * The CPUID leaves by which Xen shows itself (public/arch-x86/cpuid.h). */
#include "domain.h"
#include <xen/arch-x86/cpuid.h>

static void hypercalls(const struct pv_domain *d, uint32_t out[4])
{
    if (d->pvh) {
        out[0] = 1; /* page of hypercalls, put where this register says */
        out[1] = PVH_MSR_PAGE;
    }
    out[2] = XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD;
}

/* Never emulated. */
static void leaf_time(const struct pv_domain *d, uint32_t sub, uint32_t out[4])
{
    if (sub)
        return;
    out[0] = 1;
    out[1] = 2;
    out[2] = (uint32_t)(d->host.tsc_hz / 1000);
}

static void hvm(const struct pv_domain *d, unsigned cpu, uint32_t sub, uint32_t out[4])
{
    if (!d->pvh || sub)
        return;
    out[0] = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT |
             XEN_HVM_CPUID_UPCALL_VECTOR | XEN_HVM_CPUID_X2APIC_VIRT;
    out[1] = cpu;
    out[2] = OWN_DOMID;
}

void pv_cpuid_xen(const struct pv_domain *d, unsigned cpu, uint32_t leaf, uint32_t sub,
                  uint32_t out[4])
{
    memset(out, 0, 4 * sizeof *out);
    switch (leaf - XEN_CPUID_FIRST_LEAF) {
    case 0:
        out[0] = XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES;
        out[1] = XEN_CPUID_SIGNATURE_EBX;
        out[2] = XEN_CPUID_SIGNATURE_ECX;
        out[3] = XEN_CPUID_SIGNATURE_EDX;
        break;
    case 1: out[0] = 4 << 16 | 17; break;
    case 2: hypercalls(d, out); break;
    case 3: leaf_time(d, sub, out); break;
    case 4: hvm(d, cpu, sub, out); break;
    case 5: out[1] = d->pvh ? 0 : 40; break; /* bits of a machine address */
    default: break;
    }
}
