/* SPDX-License-Identifier: MIT
 * Who answers: xen_version and other questions without consequences. */
#include "domain.h"
#include <stdio.h>
#include <virtcore/base.h>
#include <xen/features.h>
#include <xen/version.h>

#define XEN_MAJOR 4u
#define XEN_MINOR 17u

/* What real Xen gives a PV guest. */
#define FEATURES0                                                                                  \
    (1u << XENFEAT_pae_pgdir_above_4gb | 1u << XENFEAT_mmu_pt_update_preserve_ad |                 \
     1u << XENFEAT_highmem_assist | 1u << XENFEAT_gnttab_map_avail_bits |                          \
     1u << XENFEAT_memory_op_vnode_supported | 1u << XENFEAT_direct_mapped)

/* And a PVH guest. */
#define FEATURES0_PVH                                                                              \
    (1u << XENFEAT_writable_page_tables | 1u << XENFEAT_auto_translated_physmap |                  \
     1u << XENFEAT_hvm_callback_vector | 1u << XENFEAT_hvm_safe_pvclock |                          \
     1u << XENFEAT_memory_op_vnode_supported | 1u << XENFEAT_not_direct_mapped)

static long features(struct pv_vcpu *v, uint64_t at)
{
    struct xen_feature_info f;
    if (!pv_copy_from(v, &f, at, sizeof f))
        return -XEN_EFAULT;
    if (f.submap_idx >= XENFEAT_NR_SUBMAPS)
        return -XEN_EINVAL;
    f.submap = f.submap_idx ? 0 : v->d->pvh ? FEATURES0_PVH : FEATURES0;
    return pv_copy_to(v, at, &f, sizeof f) ? 0 : -XEN_EFAULT;
}

static long text(struct pv_vcpu *v, uint64_t at, size_t size, const char *s)
{
    char buf[1024] = {0};
    snprintf(buf, size, "%s", s);
    return pv_copy_to(v, at, buf, size) ? 0 : -XEN_EFAULT;
}

static long compile_info(struct pv_vcpu *v, uint64_t at)
{
    struct xen_compile_info c = {0};
    snprintf(c.compiler, sizeof c.compiler, "C");
    snprintf(c.compile_by, sizeof c.compile_by, "libvirtcore");
    snprintf(c.compile_date, sizeof c.compile_date, "%s", vc_version());
    return pv_copy_to(v, at, &c, sizeof c) ? 0 : -XEN_EFAULT;
}

static long platform(struct pv_vcpu *v, uint64_t at)
{
    const struct xen_platform_parameters p = {.virt_start = 0xffff800000000000ull};
    return pv_copy_to(v, at, &p, sizeof p) ? 0 : -XEN_EFAULT;
}

long hc_xen_version(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t at = a[1];
    xen_domain_handle_t handle = {0};
    switch ((uint32_t)a[0]) {
    case XENVER_version: return XEN_MAJOR << 16 | XEN_MINOR;
    case XENVER_extraversion: return text(v, at, sizeof(xen_extraversion_t), ".0");
    case XENVER_compile_info: return compile_info(v, at);
    case XENVER_capabilities:
        return text(v, at, sizeof(xen_capabilities_info_t),
                    v->d->pvh ? "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
                              : "xen-3.0-x86_64 ");
    case XENVER_changeset: return text(v, at, sizeof(xen_changeset_info_t), "unavailable");
    case XENVER_platform_parameters: return platform(v, at);
    case XENVER_get_features: return features(v, at);
    case XENVER_pagesize: return (long)PAGE;
    case XENVER_guest_handle: return pv_copy_to(v, at, handle, sizeof handle) ? 0 : -XEN_EFAULT;
    case XENVER_commandline: return text(v, at, sizeof(xen_commandline_t), "");
    default: return -XEN_ENOSYS;
    }
}

long hc_vm_assist(struct pv_vcpu *v, const uint64_t a[6])
{
    if (a[0] > VMASST_CMD_disable)
        return -XEN_ENOSYS;
    if (v->d->pvh && (uint32_t)a[1] != VMASST_TYPE_runstate_update_flag)
        return -XEN_EINVAL;
    switch ((uint32_t)a[1]) {
    case VMASST_TYPE_4gb_segments:
    case VMASST_TYPE_4gb_segments_notify:
    case VMASST_TYPE_writable_pagetables: /* direct writes are always emulated */
    case VMASST_TYPE_pae_extended_cr3:
    case VMASST_TYPE_runstate_update_flag:
    case VMASST_TYPE_m2p_strict: return 0;
    case VMASST_TYPE_architectural_iopl:
        atomic_store(&v->d->iopl_in_flags, a[0] == VMASST_CMD_enable);
        return 0;
    default: return -XEN_EINVAL;
    }
}
