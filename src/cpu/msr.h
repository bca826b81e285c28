/* SPDX-License-Identifier: MIT
 * Numbers of model-specific registers. */
#ifndef CPU_MSR_H
#define CPU_MSR_H

#define MSR_TSC              0x00000010u
#define MSR_PLATFORM_ID      0x00000017u
#define MSR_APIC_BASE        0x0000001bu
#define MSR_TSC_ADJUST       0x0000003bu
#define MSR_PATCH_LEVEL      0x0000008bu
#define MSR_SYSENTER_CS      0x00000174u
#define MSR_SYSENTER_ESP     0x00000175u
#define MSR_SYSENTER_EIP     0x00000176u
#define MSR_MISC_ENABLE      0x000001a0u
#define MSR_DEBUGCTL         0x000001d9u
#define MSR_LAST_BRANCH_FROM 0x000001dbu
#define MSR_LAST_BRANCH_TO   0x000001dcu
#define MSR_LAST_INT_FROM    0x000001ddu
#define MSR_LAST_INT_TO      0x000001deu
#define MSR_PAT              0x00000277u
#define MSR_TSC_DEADLINE     0x000006e0u
#define MSR_PKRS             0x000006e1u

#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_FMASK          0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

#define MSR_K7_EVNTSEL0    0xc0010000u
#define MSR_K7_PERFCTR3    0xc0010007u
#define MSR_SYSCFG         0xc0010010u
#define MSR_HWCR           0xc0010015u
#define MSR_IORR_BASE0     0xc0010016u
#define MSR_IORR_MASK0     0xc0010017u
#define MSR_IORR_BASE1     0xc0010018u
#define MSR_IORR_MASK1     0xc0010019u
#define MSR_TOP_MEM        0xc001001au
#define MSR_TOP_MEM2       0xc001001du
#define MSR_NB_CFG         0xc001001fu
#define MSR_INT_PENDING    0xc0010055u
#define MSR_MMIO_CONF_BASE 0xc0010058u
#define MSR_VM_CR          0xc0010114u
#define MSR_DC_CFG         0xc0011022u
#define MSR_DE_CFG         0xc0011029u
#define MSR_BU_CFG2        0xc001102au

/* Of the KVM paravirtual ABI. */
#define MSR_KVM_WALL_CLOCK      0x00000011u
#define MSR_KVM_SYSTEM_TIME     0x00000012u
#define MSR_KVM_WALL_CLOCK_NEW  0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u

#endif
