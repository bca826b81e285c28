/* SPDX-License-Identifier: MIT
 * A backend is one table of functions. */
#ifndef CPU_BACKEND_H
#define CPU_BACKEND_H

#include "chips.h"
#include "env.h"
#include "pv_engine.h"
#include <virtcore/vm.h>

struct backend_vm;  /* a backend's part of a partition */
struct backend_cpu; /* a backend's part of a vCPU */

/* An eventfd tied to a guest's write, or to an interrupt line: vc_bind_fd. */
struct backend_bind {
    uint32_t kind; /* enum vc_bind_kind */
    enum vc_space space;
    uint64_t addr, data;
    uint32_t len, gsi;
    bool match; /* only writes of `data` */
    int fd;
};

struct backend {
    const char *name;
    void (*probe)(struct vc_probe_info *info); /* fills usable, reason, features, max_cpus */
    int (*open)(const struct vc_vm_opts *opts, const struct cpu_env *env, struct backend_vm **out);
    void (*close)(struct backend_vm *bvm);
    /* What an open partition has, as probe says it; NULL: probe does. */
    void (*info)(struct backend_vm *bvm, struct vc_probe_info *info);
    /* The memory map or the traps changed. vCPUs forget the old before they run on. A code
     * with error set when the engine cannot have such a map: it goes back then. */
    int (*map_changed)(struct backend_vm *bvm);
    /* Brings the regions' dirty bits up to date; NULL: they always are. */
    void (*dirty_sync)(struct backend_vm *bvm);
    int (*cpu_new)(struct backend_vm *bvm, vc_cpu *handle, unsigned index, struct cpu_mail *mail,
                   struct backend_cpu **out);
    void (*cpu_free)(struct backend_cpu *cpu);
    /* budget is never NULL; exit is zeroed but for answers due. */
    int (*run)(struct backend_cpu *cpu, const struct vc_budget *budget, struct vc_exit *exit);
    /* Finishes the instruction that the last run left with an exit, exit holding the
     * answer, and runs nothing else; 0 where there is none. NULL: cannot. */
    int (*finish)(struct backend_cpu *cpu, struct vc_exit *exit);
    int (*reset)(struct backend_cpu *cpu, bool wait_sipi); /* RESET, or INIT + wait-for-SIPI */
    int (*gprs)(struct backend_cpu *cpu, bool set, struct vc_gprs *r);
    int (*sregs)(struct backend_cpu *cpu, bool set, struct vc_sregs *r);
    int (*fpu)(struct backend_cpu *cpu, bool set, struct vc_fpu *r);
    int (*reg)(struct backend_cpu *cpu, bool set, enum vc_reg reg, uint64_t *value); /* CRs, DRs */
    int (*msr)(struct backend_cpu *cpu, bool set, uint32_t index, uint64_t *value);
    int (*translate)(struct backend_cpu *cpu, uint64_t linear, uint32_t access, uint64_t *gpa);
    int (*exception)(struct backend_cpu *cpu, uint8_t vector, uint32_t err, uint64_t cr2);
    int (*single_step)(struct backend_cpu *cpu, bool on);
    void (*stats)(struct backend_cpu *cpu, struct vc_stats *out);
    /* Interrupt controllers of the engine's own for a PC, which serve in the place of the
     * platform's: which an open partition has, devices' lines (0-23), messages (how many
     * local APICs took it, or a code), the IOAPIC's messages whose EOIs env's eoi is to
     * be told where the engine has the local APICs only. All NULL: never. Any thread. */
    enum chips_owned (*has_chips)(struct backend_vm *bvm);
    int (*irq_line)(struct backend_vm *bvm, unsigned gsi, bool level);
    int (*irq_msi)(struct backend_vm *bvm, uint64_t address, uint32_t data);
    void (*irq_routes)(struct backend_vm *bvm, const struct chips_msi route[IOAPIC_PINS]);
    /* Their state out or in; no vCPU runs. Lines are the caller's to know. */
    int (*irq_state)(struct backend_vm *bvm, bool set, struct chips_state *st);
    /* Has the engine do that by itself, until it is taken back; NULL, or a code: it
     * cannot, and is not missed. */
    int (*bind)(struct backend_vm *bvm, bool on, const struct backend_bind *bind);
    /* Writes in that range may be collected, from now on or no more; NULL, or what it does
     * not do: they come one by one. */
    void (*batch)(struct backend_vm *bvm, bool on, enum vc_space space, uint64_t base,
                  uint64_t len);
    const struct pv_engine *pv; /* NULL: no paravirtual guests */
};

extern const struct backend backend_emu;
extern const struct backend backend_kvm;
extern const struct backend backend_pv;
extern const struct backend backend_pv_kvm; /* by name only: it says why not */
extern const struct pv_engine emu_pv;

/* The table, in the order `auto` tries; NULL-terminated. */
extern const struct backend *const backends[];
const struct backend *backend_find(const char *name);

#endif
