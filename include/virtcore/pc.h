/* SPDX-License-Identifier: MIT
 *
 * virtcore/pc.h - the ordinary small PC: platform devices, and booting.
 */
#ifndef VIRTCORE_PC_H
#define VIRTCORE_PC_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes the guest sent to its first serial port (COM1). Any vCPU's thread. */
typedef void vc_serial_out_fn(void *ud, const void *bytes, size_t n);

struct vc_pc_opts {
    size_t size;
    uint64_t ram; /* bytes, a multiple of 4096, >= 1 MiB. Below 3 GiB at 0, the
                     rest from 4 GiB on. */
    uint32_t cpus; /* 1-64: what ACPI and the MP tables announce */
    uint32_t flags; /* VC_PC_* */
    vc_serial_out_fn *serial_out; /* NULL: output is dropped */
    void *serial_ud;
    uint32_t irqchip; /* enum vc_irqchip */
};

/* Where the interrupt controllers are. Guests see the same. */
enum vc_irqchip {
    VC_IRQCHIP_AUTO = 0,   /* in the host's kernel where the backend has them there */
    VC_IRQCHIP_KERNEL = 1, /* there, or VC_ENOTSUP */
    VC_IRQCHIP_USER = 2,   /* in the library */
    VC_IRQCHIP_SPLIT = 3   /* local APICs in the host's kernel, IOAPIC and 8259 in the
                              library; or VC_ENOTSUP */
};
#define VC_PC_TESTDEV (1u << 0) /* the test devices of kvm-unit-tests: ports 0xe0-0xe8, memory
                                   at 0xff000000, the irq ports 0x2000-0x2017 */

/* Makes the partition a PC: maps RAM, attaches local APICs, IOAPIC, 8259, 8254,
 * RTC, PM timer, COM1, keyboard controller, PCI host bridge, fw_cfg,
 * isa-debug-exit (0xf4), pvpanic (0x505), and builds the ACPI tables. The vCPUs
 * are made by the caller afterwards: number 0 boots, the others in
 * VC_MODE_WAIT_SIPI. Once for each partition. VM paused. */
VC_API int vc_pc(vc_vm *vm, const struct vc_pc_opts *opts);

/* Bytes for the guest's COM1. Returns how many were taken, 0 to n: a full FIFO
 * takes no more, nothing is lost. Any thread. */
VC_API long vc_serial_in(vc_vm *vm, const void *bytes, size_t n);

/* Blocks until vc_serial_in would take a byte, or timeout_ms passed (-1: no
 * timeout), or the machine went down. 1, 0 (timeout or down) or a code. Any
 * thread. */
VC_API int vc_serial_wait(vc_vm *vm, int timeout_ms);

enum vc_image_kind {
    VC_IMAGE_AUTO = 0,
    VC_IMAGE_BZIMAGE = 1,   /* Linux boot protocol, 64-bit entry */
    VC_IMAGE_PVH = 2,       /* ELF with a XEN_ELFNOTE_PHYS32_ENTRY note */
    VC_IMAGE_MULTIBOOT = 3, /* multiboot 1 */
    VC_IMAGE_ELF = 4,       /* ELF without either: loaded, entered at e_entry */
    VC_IMAGE_FLAT = 5       /* raw bytes at 0x100000, 64-bit; only when asked for */
};

/* What the guest is told that it runs on. */
enum vc_virt {
    VC_VIRT_HVM = 0, /* the PC, as if it were a real one */
    /* A Xen PV domain: deprivileged, by hypercalls. Backend pv only (VC_ENOTSUP); kind
     * is not looked at: a bzImage or ELF with Xen's notes (VC_EFORMAT without). The
     * PC's devices are gone but the timer chip's speaker channel and the clock; the
     * first console of the guest takes the place of COM1. All vCPUs exist. */
    VC_VIRT_PV = 1,
    /* The same hypervisor under a guest that has the processor for itself: Xen's PVH.
     * Backend pv only (VC_ENOTSUP); kind is not looked at: an ELF with the PVH entry's
     * note, or a bzImage that has one inside (VC_EFORMAT without). The vCPUs are made as
     * for VC_VIRT_HVM, all before the call (VC_ESTATE). There are local APICs, ACPI
     * tables with the processors, the 8254; of the PC's other devices none. Console,
     * disks and links are those of VC_VIRT_PV. */
    VC_VIRT_PVH = 2
};

struct vc_boot_opts {
    size_t size;
    uint32_t kind; /* enum vc_image_kind */
    uint32_t virt; /* enum vc_virt */
    const void *kernel; /* the image's bytes; not kept after the call */
    size_t kernel_len;
    const void *initrd; /* may be NULL */
    size_t initrd_len;
    const char *cmdline; /* may be NULL; at most 2047 bytes */
};

/* Loads an image into a vc_pc partition and sets the first state of vCPU 0,
 * which must exist. Nothing in the image is trusted: VC_EFORMAT with a sentence
 * for what is truncated or lies, VC_ERANGE for what does not fit into RAM. VM
 * paused. */
VC_API int vc_boot(vc_vm *vm, const struct vc_boot_opts *opts);

/* Lets a guest go on that suspended itself (VC_EXIT_POWER with VC_POWER_SUSPEND): as a
 * Xen guest does when "suspend" is written to control/shutdown in its part of the
 * xenstore. Its hypercall returns 1, which says that it is where it was: its devices,
 * events and grants are connected still. Then vc_run() on all vCPUs as before. VC_ESTATE
 * where no guest is suspended. VM paused. */
VC_API int vc_resume(vc_vm *vm);

#ifdef __cplusplus
}
#endif
#endif
