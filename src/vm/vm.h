/* SPDX-License-Identifier: MIT
 * The partition and its vCPUs, as the public calls see them.
 *
 * Locks, in the order they may be taken:
 *   gate   held shared by everyone inside vc_run, exclusively (by trying, never
 *          by waiting) by calls that need the partition paused
 *   bus    one device handler at a time (src/io/bus.h)
 *   lock   the lists of vCPUs, traps and devices; held for moments only, and
 *          never while calling out of src/vm
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "../base/util.h"
#include "../cpu/backend.h"
#include "../io/pc.h"
#include "../mmu/mem.h"
#include "sched.h"
#include <pthread.h>
#include <stdatomic.h>
#include <virtcore/virtcore.h>

#define VM_CPUS_MAX 64u

/* A trap that the embedder registered, or one range of a device of its. */
struct vm_trap {
    struct vm_trap *next;
    int id; /* of the bus */
    enum vc_space space;
    uint64_t base, len;
    bool hole;   /* claims its pages from RAM */
    bool batch;  /* the engine may collect writes */
    vc_dev *dev; /* NULL: vc_trap's */
};

struct vc_dev {
    struct vc_dev *next;
    struct vc_vm *vm;
    struct vc_dev_ops ops;
    void *ud;
    unsigned busy; /* handlers of it on the stack; under the bus lock */
    bool dead;     /* detached by its own handler, freed when that returns */
};

struct vc_vm {
    const struct backend *be;
    struct backend_vm *bvm;
    struct vc_vm_opts opts;
    char why[600];
    uint32_t features, max_cpus;
    struct mem mem;
    struct bus *bus;
    struct cpu_env env; /* copied by the backend when it opens */

    pthread_rwlock_t gate;
    pthread_mutex_t lock;
    struct vc_cpu *cpu[VM_CPUS_MAX];
    unsigned ncpus;
    struct vm_trap *traps;
    struct vc_dev *devs;
    bool long64_tables; /* VC_MODE_LONG64's region is mapped */
    _Atomic int failed; /* 1 + index of the vCPU whose run failed; 0: none */

    /* The platform: all NULL without vc_pc. */
    struct clock *clock;
    struct irqchip *irq;
    struct pc *pc;
    struct vc_pc_opts pc_opts;
    struct pv_domain *pv;         /* a guest of Xen's was loaded */
    _Atomic bool bare;            /* a PVH guest, which has few of the PC's devices */
    struct vm_attached *attached; /* disks and links: attach.c */
    struct pv_front *front;       /* their back ends' guest, while there is one */
    _Atomic uint64_t power;       /* how it went down: kind << 32 | code; 0: it is up */

    vc_hcall_fn *hcall; /* under the bus lock */
    void *hcall_ud;
    _Atomic bool has_hcall; /* or a typed one */
    struct hcall **hcalls;  /* typed ones, sorted by number; under lock (hcall.c) */
    unsigned nhcalls, hcalls_room;
    pthread_cond_t hcall_idle; /* one that is being removed has no user any more */

    struct xs *xs; /* the xenstore, once somebody asked for it; under lock until then */

    pthread_mutex_t log_lock;

    /* Bound descriptors: bind.c. Nothing but the interrupt controllers' lock is taken
     * under theirs. */
    pthread_mutex_t bind_lock;
    struct vm_bind *binds;
    struct bind_watch *watch;
    int bind_id; /* the last one given */
    _Atomic unsigned nbinds;
};

struct vc_cpu {
    struct vc_vm *vm;
    struct backend_cpu *bcpu;
    unsigned index;
    atomic_flag busy; /* somebody is inside a call of "the vCPU's user" */
    struct cpu_mail mail;
    struct vc_exit exit; /* as the engine left it: answers go in here */
    bool answered;       /* exit has its answer: the caller's is not asked for */
    int callback_rc;     /* the code a handler ended the run with */
    _Atomic uint64_t run_ns;
    /* Calls between host and guest (hcall.c, call.c). */
    _Atomic uintptr_t lent_to;     /* the thread whose hypercall function may use it; 0: none */
    struct hcall_frame *frame;     /* functions on the stack, innermost first */
    const struct run_limit *limit; /* of the innermost run; NULL: its budget is all */
    unsigned calls;                /* vc_call on the stack */
    unsigned depth;                /* runs of the engine on the stack */
    _Atomic uintptr_t runner;      /* the thread whose stack has the frames; 0: none */
    struct sched_member sched;
};

/* When a run has to end, over all the times that it enters the engine. */
struct run_limit {
    const struct run_limit *outer;
    uint64_t deadline_ns; /* 0: none */
    uint64_t insns_end;   /* in vc_stats.insns; 0: none */
};

/* A hypercall's function that runs. */
struct hcall_frame {
    struct hcall_frame *prev;
    struct hcall *hcall;
    unsigned calls; /* cpu->calls when it was called */
    bool finished;  /* a nested call had the engine finish the instruction */
    int stop;       /* vc_hcall_stop's code */
};

/* vm.c: the partition paused, for the length of a call; VC_EBUSY with the
 * error set while a vCPU runs. */
int vm_pause(struct vc_vm *vm);
void vm_resume(struct vc_vm *vm);
/* Opens the engine anew after env changed; no vCPU may exist. */
int vm_reopen(struct vc_vm *vm);
int vm_map_changed(struct vc_vm *vm); /* a code: the map goes back */
int vm_map_renew(struct vc_vm *vm);   /* and former maps are freed; VM paused: memory.c */
void vm_log(void *vm, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* memory.c */
/* VC_MODE_LONG64's tables (paging.c) lie here. */
#define LONG64_BASE 0xfeffc000ull
#define LONG64_LEN  0x10000ull
bool vm_overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen);

/* cpu.c */
void cpu_destroy(struct vc_cpu *cpu);
/* Takes the vCPU for a call of its user; VC_EBUSY with the error set. */
int cpu_enter(struct vc_cpu *cpu);
void cpu_leave(struct vc_cpu *cpu);
/* Whether the calling thread is inside a hypercall's function of that vCPU. */
bool cpu_is_lent(struct vc_cpu *cpu);
/* Runs the engine until an exit that is no typed hypercall. The vCPU is taken, the gate
 * is held, cpu->exit is as the engine left it or empty. cpu->limit counts where there is
 * one, else budget. */
int cpu_run_engine(struct vc_cpu *cpu, const struct vc_budget *budget);
/* A limit for the runs until it is popped; it ends no later than the one around it. */
void cpu_limit_push(struct vc_cpu *cpu, const struct vc_budget *budget, struct run_limit *limit);
void cpu_limit_pop(struct vc_cpu *cpu);
/* VC_ESTATE after a failure of the engine's. */
int vm_check_failed(struct vc_vm *vm);

/* preset.c: first states. */
int preset_apply(struct vc_cpu *cpu, enum vc_mode mode, uint64_t pc);
/* The region of VC_MODE_LONG64, which has the return trap of vc_call too. VM paused. */
int preset_long64_tables(struct vc_vm *vm);
#define LONG64_RETURN (LONG64_BASE + 0x8000)

/* hcall.c */
/* Whether it has a function: then the engine exits with it. */
bool hcall_known(struct vc_vm *vm, uint64_t nr);
/* cpu->exit may be a hypercall with a function: 0: it is done, go on; 1: it is none;
 * negative: the run ends. */
int hcall_exit(struct vc_cpu *cpu);
/* The frame of the function that runs now; NULL: none, or one that called the guest. */
struct hcall_frame *hcall_frame(struct vc_cpu *cpu);
void hcalls_free(struct vc_vm *vm);

/* dev.c: what the engine calls. */
int vm_access(void *vm, enum vc_space space, struct vc_access *access);
int vm_hcall(void *vm, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret);
bool vm_has_hcall(void *vm);
/* Whether mapping RAM there would hide a trap that is not page-aligned. */
bool vm_trap_in_way(struct vc_vm *vm, uint64_t gpa, uint64_t len);
void vm_devs_reset(struct vc_vm *vm);
void vm_traps_reopened(struct vc_vm *vm); /* the engine is another one */
void vm_devs_free(struct vc_vm *vm);

/* xenstore.c. NULL with the error set: no memory. */
struct xs *vm_xs(struct vc_vm *vm);
void vm_xs_free(struct vc_vm *vm);

/* bind.c */
/* Signals what is tied to such a write; false: nothing is. */
bool vm_bind_write(struct vc_vm *vm, enum vc_space space, const struct vc_access *a);
void vm_bind_reopened(struct vc_vm *vm);
void vm_binds_free(struct vc_vm *vm);

/* machine.c: the platform. */
void vm_power(void *vm, uint32_t kind, uint32_t code);
void vm_platform_free(struct vc_vm *vm);

/* attach.c: disks and links. VM paused. */
/* Gives the guest that was loaded all of them, and takes them from it. */
int vm_attached_join(struct vc_vm *vm);
void vm_attached_leave(struct vc_vm *vm);
void vm_attached_free(struct vc_vm *vm);

/* domain.c: the partition as a Xen PV domain. VM paused. */
int vm_pv_boot(struct vc_vm *vm, const struct vc_boot_opts *opts);
/* The partition becomes one; what it shares with its guest lies at *base. */
int vm_pvh_make(struct vc_vm *vm, uint64_t *base, uint64_t *len);
void vm_pv_free(struct vc_vm *vm);
void vm_pv_cpu_gone(struct vc_vm *vm, unsigned cpu);
/* It wants to run, but it is not its turn. */
void vm_pv_waits(struct vc_vm *vm, unsigned cpu, bool waits);
/* What it has of its memory, and what it may have: pv.h. */
struct pv_memory;
void vm_pv_memory(struct vc_vm *vm, struct pv_memory *m);
void vm_pv_memory_limit(struct vc_vm *vm, uint64_t bytes);
int vm_pv_memory_target(struct vc_vm *vm, uint64_t bytes);
void vm_pv_down(struct vc_vm *vm);
void vm_pv_resume(struct vc_vm *vm);
long vm_pv_serial_in(struct vc_vm *vm, const void *bytes, size_t n);
int vm_pv_serial_wait(struct vc_vm *vm, int timeout_ms);

#endif
