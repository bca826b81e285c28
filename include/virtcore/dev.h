/* SPDX-License-Identifier: MIT
 *
 * virtcore/dev.h - traps, devices, interrupt lines.
 *
 * Handlers run on the thread of the vCPU whose instruction is handled, one at a
 * time for each VM, with no library lock that a handler could deadlock on: they
 * may call vc_trap, vc_untrap, vc_dev_detach (also on themselves), vc_irq_line,
 * vc_msi, vc_kick, vc_read and vc_write. They must not call vc_run or vc_close.
 */
#ifndef VIRTCORE_DEV_H
#define VIRTCORE_DEV_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum vc_space {
    VC_SPACE_PORT = 0,
    VC_SPACE_MMIO = 1,
    /* Of traps and devices' ranges only: the same, but writes may be told late, many at
     * once, so that the guest need not be left for each: kvm has the kernel collect them.
     * They come in their order, before any other access is told and before vc_run()
     * returns (a kick makes it); so not for writes that the guest waits for an effect of.
     * With several vCPUs, access->cpu is the one that came out, not the one that wrote.
     * What was not told when the trap is removed is not told any more. */
    VC_SPACE_PORT_BATCH = 2,
    VC_SPACE_MMIO_BATCH = 3
};

struct vc_access {
    uint64_t addr; /* port number, or guest-physical address */
    uint64_t data; /* written value; the answer of a read. Only the low len bytes count */
    uint32_t len;  /* 1, 2, 4, 8 (8: MMIO only) */
    uint32_t write;
    vc_cpu *cpu;
    uint32_t cpu_index; /* its number */
    uint32_t pad;
};

/* 0: handled. A negative code ends the run: vc_run returns VC_ECALLBACK. */
typedef int vc_trap_fn(void *ud, struct vc_access *access);

/* Calls fn for every access that starts inside [base, base + len). Ports:
 * base + len <= 65536. MMIO: takes precedence over RAM mapped there only when
 * the range is page-aligned (else VC_ERANGE when RAM is mapped there). Ranges
 * must not overlap (VC_EEXIST). Takes effect at once, on code that already ran
 * as well. Returns a positive id, or a negative code; VC_EBUSY for a range of MMIO when a
 * vCPU stayed inside some trap's fn while the memory changed thousands of times. Any thread. */
VC_API int vc_trap(vc_vm *vm, enum vc_space space, uint64_t base, uint64_t len, vc_trap_fn *fn,
                   void *ud);

/* Removes a trap; waits for handlers in flight on other threads, so that `ud`
 * may be freed afterwards. Called inside its own handler it returns at once and
 * the handler is the last call. VC_ENOENT for an unknown id. Any thread. */
VC_API int vc_untrap(vc_vm *vm, int id);

/* A device: named ranges behind one object. `free` is called once, when the
 * device is detached, when attaching failed, or by vc_close. save/load move its
 * state through a snapshot and may be NULL for a device without state. */
struct vc_dev_range {
    enum vc_space space;
    uint32_t pad;
    uint64_t base, len;
};
struct vc_dev_ops {
    size_t size;
    const char *name;
    vc_trap_fn *access;
    void (*reset)(void *ud);
    void (*free)(void *ud);
};
VC_API vc_dev *vc_dev_attach(vc_vm *vm, const struct vc_dev_ops *ops,
                             const struct vc_dev_range *ranges, unsigned nranges, void *ud);
VC_API int vc_dev_detach(vc_dev *dev);

/* Drives an interrupt line (global system interrupt 0-23) of the platform's
 * interrupt controllers: level 1 or 0. VC_ENOTSUP without a platform. Any
 * thread. */
VC_API int vc_irq_line(vc_vm *vm, unsigned gsi, int level);

/* Sends a message-signalled interrupt (SDM 10.11). VC_ENOTSUP without a
 * platform. Any thread. */
VC_API int vc_msi(vc_vm *vm, uint64_t address, uint32_t data);

/* Ties an eventfd (eventfd(2)) to the guest, so that no handler runs on the vCPU's
 * thread: a device's doorbell wakes the thread that serves it, and that thread raises
 * its interrupt. kvm does both in the kernel, the vCPU goes on at once; elsewhere the
 * library writes and reads the eventfd, with the same effect. */
enum vc_bind_kind {
    /* A write of `len` bytes at `addr` adds 1 to the eventfd and does nothing else; it
     * comes before traps there. */
    VC_BIND_WRITE = 1,
    /* Signalling the eventfd makes an edge on interrupt line `gsi`. VC_ENOTSUP without
     * a platform. */
    VC_BIND_IRQ = 2
};
#define VC_BIND_MATCH (1u << 0) /* only writes of `data` */
struct vc_bind {
    size_t size;
    uint32_t kind;  /* enum vc_bind_kind */
    uint32_t flags; /* VC_BIND_MATCH */
    uint64_t addr;  /* VC_BIND_WRITE: port, or address where no RAM is mapped */
    uint64_t data;
    uint32_t space; /* enum vc_space */
    uint32_t len;   /* 1, 2, 4; in memory also 8 */
    uint32_t gsi;   /* VC_BIND_IRQ */
    int32_t fd;     /* may be closed after the call: the library has its own copy */
};
/* Returns a positive id, or a negative code: VC_EEXIST when such writes are tied
 * already. Any thread. */
VC_API int vc_bind_fd(vc_vm *vm, const struct vc_bind *bind);
/* When it returns nothing is signalled any more. VC_ENOENT. Any thread, but not while
 * it holds what a handler of this partition waits for. */
VC_API int vc_unbind_fd(vc_vm *vm, int id);

/* A hypercall handler: VMCALL/VMMCALL in the guest, number in RAX, arguments in
 * RDI, RSI, RDX, R10, R8, R9; the result goes to RAX. 0: handled; 1: not this
 * one, which exits with VC_EXIT_HCALL; a negative code ends the run. One for each
 * VM; NULL removes it. Numbers that vc_hcall() gave a function do not come here; while
 * there is a handler of either kind, hypercalls come by VC_HCALL_PORT too
 * (virtcore/abi.h). Without one a PC answers -1000 (KVM's "no such call",
 * which its CPUID leaves promise), and a bare partition raises #UD, as a processor
 * without virtualization. Without VC_FEAT_HCALL (kvm on most hosts) VMCALL always
 * answers -1000, and only the port's form comes here. */
typedef int vc_hcall_fn(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret);
VC_API int vc_hcall_set(vc_vm *vm, vc_hcall_fn *fn, void *ud);

#ifdef __cplusplus
}
#endif
#endif
