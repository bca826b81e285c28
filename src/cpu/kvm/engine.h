/* SPDX-License-Identifier: MIT
 * The kvm backend's insides: one virtual machine of the host's kernel (/dev/kvm,
 * Linux' Documentation/virt/kvm/api.rst), its memory slots and its vCPUs. */
#ifndef KVM_ENGINE_H
#define KVM_ENGINE_H

#include "../backend.h"
#include "../model.h"
#include <linux/kvm.h>
#include <time.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define KVM_DEVICE   "/dev/kvm"
#define KVM_CPUS_MAX 64u
#define KVM_FEATURES                                                                               \
    (VC_FEAT_BUDGET_NS | VC_FEAT_SMP | VC_FEAT_SINGLE_STEP | VC_FEAT_DIRTY_LOG | VC_FEAT_HW)

/* What the host's KVM is like. */
struct kvm_host {
    int fd; /* /dev/kvm */
    unsigned max_cpus, max_slots;
    size_t run_size; /* of the area shared with a vCPU */
    bool xen;        /* hypercalls can come as exits of Xen's */
    bool tsc_offset; /* KVM_VCPU_TSC_OFFSET */
};

/* A piece of RAM as the kernel knows it; len 0: the slot is free. */
struct kvm_slot {
    uint64_t gpa, len;
    uint8_t *host;
    uint32_t flags; /* KVM_MEM_* */
};

struct kvm_cpu;

struct kvm_vm {
    struct kvm_host host;
    int fd;
    struct cpu_env env;
    struct cpu_model model;
    struct kvm_cpuid2 *cpuid; /* what KVM can offer */
    pthread_mutex_t lock;     /* slots, and the list of vCPUs */
    struct kvm_slot *slot;
    unsigned nslots; /* of the table */
    unsigned ncpus;  /* in use */
    /* vCPUs stay until the machine ends: KVM does not take one back, nor give its number
     * twice. One that was freed serves the next of that number. */
    struct kvm_cpu *cpu[KVM_CPUS_MAX];
    bool platform;              /* it is a PC */
    enum chips_owned chips;     /* the interrupt controllers that are in the kernel */
    unsigned ring_entries;      /* of each vCPU's dirty ring; 0: bitmaps tell */
    _Atomic bool batches;       /* there were ranges whose writes are collected, */
    pthread_mutex_t batch_lock; /* told under this */
    _Atomic uint32_t changing;  /* slots are being changed: no vCPU may run (futex) */
    struct backend_vm *emu;     /* for instructions that KVM cannot do; made on first need */
};

/* Accesses of one exit, that devices or the embedder answer piece by piece, in sizes
 * that a bus has. */
struct kvm_io {
    enum vc_space space;
    bool write;
    bool string;   /* all pieces of one size, at one address */
    bool due;      /* the embedder was asked for the next piece */
    uint8_t *data; /* where the kernel has the next piece's bytes, or wants them */
    uint64_t addr; /* of the next piece */
    unsigned size; /* of a string's pieces */
    unsigned left; /* bytes; 0: none */
};

struct kvm_cpu {
    struct kvm_vm *vm;
    vc_cpu *handle;
    unsigned index;
    int fd;
    struct kvm_run *run;
    struct kvm_dirty_gfn *ring; /* of pages written; NULL: none */
    unsigned ring_at;
    struct kvm_coalesced_mmio_ring *batch; /* the machine's collected writes */
    int batch_rc;                          /* a code of theirs, with which the run ends */
    struct cpu_mail *mail;                 /* NULL: not in use */
    bool ran;                              /* CPUID cannot change any more */
    bool fresh;                            /* as KVM made it */
    bool unfinished; /* an instruction that left the kernel ends in the next KVM_RUN */
    bool halted, wait_sipi;
    bool step; /* vc_single_step */
    struct kvm_io io;
    bool hcall_due; /* the embedder was asked for a hypercall */
    uint64_t tsc_offset;
    unsigned cores;          /* that CPUID told of */
    struct backend_cpu *emu; /* and its state, while it does an instruction */
    struct cpu_mail emu_mail;
    bool in_emu;
    int32_t tid; /* of the thread that runs it */
    struct vc_exit *exit;
    uint64_t deadline_ns;
    struct vc_stats stats;
};

static inline struct kvm_vm *kvm_vm(struct backend_vm *b)
{
    return (struct kvm_vm *)b;
}
static inline struct kvm_cpu *kvm_cpu(struct backend_cpu *b)
{
    return (struct kvm_cpu *)b;
}

/* probe.c */
/* Opens the device and looks at what it can. A code with error set. */
int kvm_host_open(struct kvm_host *host);
void kvm_host_close(struct kvm_host *host);
void kvm_probe(struct vc_probe_info *info);
/* What the kernel said, as a code and sentence: "creating a virtual machine: ...". */
int kvm_error(int err, const char *doing);

/* vm.c */
int kvm_open(const struct vc_vm_opts *opts, const struct cpu_env *env, struct backend_vm **out);
void kvm_close(struct backend_vm *bvm);
void kvm_info(struct backend_vm *bvm, struct vc_probe_info *info);
int kvm_machine(const struct kvm_host *host);

/* slots.c */
int kvm_map_changed(struct backend_vm *bvm);
/* Waits while slots are being changed. */
void kvm_wait_change(struct kvm_vm *vm);

/* dirty.c */
void kvm_dirty_sync(struct backend_vm *bvm);
/* Before there is a vCPU. */
void kvm_dirty_begin(struct kvm_vm *vm);
/* What is known of a slot goes to the region's dirty bits. With the lock. */
void kvm_dirty_take(struct kvm_vm *vm, unsigned slot);
void kvm_dirty_full(struct kvm_cpu *c); /* KVM_EXIT_DIRTY_RING_FULL */
int kvm_dirty_cpu(struct kvm_cpu *c);
void kvm_dirty_cpu_end(struct kvm_cpu *c);

/* cpu.c */
int kvm_cpu_new(struct backend_vm *bvm, vc_cpu *handle, unsigned index, struct cpu_mail *mail,
                struct backend_cpu **out);
void kvm_cpu_free(struct backend_cpu *bc);
void kvm_cpu_end(struct kvm_cpu *c); /* for good */
int kvm_cpu_reset(struct backend_cpu *bc, bool wait_sipi);
int kvm_reset(struct kvm_cpu *c, bool init);
int kvm_single_step(struct backend_cpu *bc, bool on);

/* cpuid.c */
int kvm_cpuid_load(struct kvm_vm *vm);
/* Takes from the model what KVM cannot do; VC_ENOTSUP with a sentence when a named
 * model would not be itself. */
int kvm_cpuid_check(struct kvm_vm *vm);
int kvm_cpuid_set(struct kvm_cpu *c);
/* Where PKRU is in the XSAVE area; 0: nowhere. */
unsigned kvm_pkru_off(const struct kvm_vm *vm);

/* regs.c, fpu.c, msr.c */
int kvm_gprs(struct backend_cpu *bc, bool set, struct vc_gprs *r);
int kvm_sregs(struct backend_cpu *bc, bool set, struct vc_sregs *r);
int kvm_fpu(struct backend_cpu *bc, bool set, struct vc_fpu *r);
int kvm_reg(struct backend_cpu *bc, bool set, enum vc_reg reg, uint64_t *value);
int kvm_msr(struct backend_cpu *bc, bool set, uint32_t index, uint64_t *value);
int kvm_translate(struct backend_cpu *bc, uint64_t linear, uint32_t access, uint64_t *gpa);
/* The general registers are in c->run->s.regs.regs, and are changed through this. */
struct kvm_regs *kvm_regs_change(struct kvm_cpu *c);
int kvm_regs_load(struct kvm_cpu *c);
int kvm_regs_flush(struct kvm_cpu *c);
int kvm_sregs_load(struct kvm_cpu *c, struct kvm_sregs *s);
int kvm_sregs_store(struct kvm_cpu *c, const struct kvm_sregs *s);
uint64_t kvm_apic_base(struct kvm_cpu *c);
int kvm_xcr0(struct kvm_cpu *c, bool set, uint64_t *value);
int kvm_pkru(struct kvm_cpu *c, bool set, uint32_t *value);
int kvm_fpu_reset(struct kvm_cpu *c);
int kvm_msr_host(struct kvm_cpu *c, bool set, uint32_t index, uint64_t *value);
int kvm_msr_reset(struct kvm_cpu *c);
int kvm_msr_filter(struct kvm_vm *vm);
void kvm_msr_exit(struct kvm_cpu *c); /* KVM_EXIT_X86_RDMSR, WRMSR */
void kvm_tsc_rate(struct kvm_cpu *c);
int kvm_tsc_start(struct kvm_cpu *c);
/* The deadline of a local APIC in the kernel, in the host's ticks; 0: none. */
int kvm_deadline(struct kvm_cpu *c, bool set, uint64_t *host);

/* chips.c: interrupt controllers in the kernel. */
int kvm_chips_make(struct kvm_vm *vm);
int kvm_chips_reset(struct kvm_cpu *c, bool wait_sipi);
enum chips_owned kvm_has_chips(struct backend_vm *bvm);
int kvm_irq_line(struct backend_vm *bvm, unsigned gsi, bool level);
int kvm_irq_msi(struct backend_vm *bvm, uint64_t address, uint32_t data);
void kvm_irq_routes(struct backend_vm *bvm, const struct chips_msi route[IOAPIC_PINS]);
/* chips_state.c: what they know, as plain structs. */
int kvm_irq_state(struct backend_vm *bvm, bool set, struct chips_state *st);
/* A register by number: its offset / 16. */
static inline void kvm_lapic_put(struct kvm_lapic_state *l, unsigned reg, uint32_t value)
{
    __builtin_memcpy(l->regs + 16 * reg, &value, sizeof value);
}
/* batch.c */
void kvm_batch(struct backend_vm *bvm, bool on, enum vc_space space, uint64_t base, uint64_t len);
/* Tells what was collected; a handler's code. */
int kvm_batch_take(struct kvm_cpu *c);
/* bind.c */
int kvm_bind(struct backend_vm *bvm, bool on, const struct backend_bind *b);
/* Ends a halt, because its state is changed. */
int kvm_wake(struct kvm_cpu *c);

/* events.c */
int kvm_exception(struct backend_cpu *bc, uint8_t vector, uint32_t err, uint64_t cr2);
/* What the mail has for the guest itself: interrupts, NMIs. */
int kvm_inject(struct kvm_cpu *c);
int kvm_events_reset(struct kvm_cpu *c);
int kvm_events_drop_exception(struct kvm_cpu *c);
int kvm_take_init(struct kvm_cpu *c);
int kvm_take_sipi(struct kvm_cpu *c);

/* io.c */
enum kvm_next { NEXT_GO = 0, NEXT_LEAVE = 1 }; /* else a negative code */
int kvm_io_exit(struct kvm_cpu *c);
int kvm_mmio_exit(struct kvm_cpu *c);
/* Goes on with the pieces, the embedder's answer first. */
int kvm_io_go(struct kvm_cpu *c);
int kvm_hcall_exit(struct kvm_cpu *c);

/* step.c: one instruction by the interpreter. */
int kvm_step_begin(struct kvm_cpu *c);
int kvm_step_go(struct kvm_cpu *c);
int kvm_step_finish(struct kvm_cpu *c); /* c->exit: the answer */
void kvm_step_free(struct kvm_cpu *c);

/* run.c */
int kvm_cpu_run(struct backend_cpu *bc, const struct vc_budget *budget, struct vc_exit *exit);
int kvm_cpu_finish(struct backend_cpu *bc, struct vc_exit *exit);
/* Lets an instruction that left the kernel end, before its state is looked at. */
int kvm_finish(struct kvm_cpu *c);
int kvm_failed(struct kvm_cpu *c, uint32_t reason, const char *why);

/* signal.c: interrupting KVM_RUN. */
struct kvm_alarm {
    bool made;
    timer_t timer;
    bool blocked; /* the signal was, by the embedder */
};
int kvm_signal_install(void);
/* The thread's part, for the length of a run. deadline_ns: 0: none. */
int kvm_signal_begin(struct kvm_cpu *c, struct kvm_alarm *a);
void kvm_signal_end(struct kvm_cpu *c, struct kvm_alarm *a);

#endif
