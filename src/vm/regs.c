/* SPDX-License-Identifier: MIT
 * A vCPU's registers, its address translation, injected events and counts. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"

/* ---- whole sets ------------------------------------------------------------------ */

/* get: the engine's state out to the caller's structure. set: the caller's over
 * the current state, which stays where an older structure has no field. */
#define DEF_SET(name, type)                                                                        \
    int vc_##name##_get(vc_cpu *cpu, struct vc_##type *out)                                        \
    {                                                                                              \
        if (!cpu || !out)                                                                          \
            return err_null(cpu ? #type : "cpu");                                                  \
        err_begin();                                                                               \
        struct vc_##type full = {.size = sizeof full};                                             \
        int rc = args_size(out, #type);                                                            \
        if (!rc)                                                                                   \
            rc = cpu_enter(cpu);                                                                   \
        if (rc)                                                                                    \
            return rc;                                                                             \
        rc = cpu->vm->be->name(cpu->bcpu, false, &full);                                           \
        cpu_leave(cpu);                                                                            \
        return rc ? rc : args_out(out, &full, sizeof full, #type);                                 \
    }                                                                                              \
    int vc_##name##_set(vc_cpu *cpu, const struct vc_##type *in)                                   \
    {                                                                                              \
        if (!cpu || !in)                                                                           \
            return err_null(cpu ? #type : "cpu");                                                  \
        err_begin();                                                                               \
        struct vc_##type full = {.size = sizeof full};                                             \
        int rc = cpu_enter(cpu);                                                                   \
        if (rc)                                                                                    \
            return rc;                                                                             \
        rc = cpu->vm->be->name(cpu->bcpu, false, &full);                                           \
        if (!rc)                                                                                   \
            rc = args_in(&full, sizeof full, in, #type);                                           \
        if (!rc)                                                                                   \
            rc = cpu->vm->be->name(cpu->bcpu, true, &full);                                        \
        cpu_leave(cpu);                                                                            \
        return rc;                                                                                 \
    }
DEF_SET(gprs, gprs)
DEF_SET(sregs, sregs)
DEF_SET(fpu, fpu)
#undef DEF_SET

/* ---- single ones -------------------------------------------------------------------- */

/* Where a general register, RIP or RFLAGS lies in the set; NULL: it is another. */
static uint64_t *gpr_slot(struct vc_gprs *g, enum vc_reg reg)
{
    if (reg <= VC_REG_R15)
        return &g->gpr[reg];
    return reg == VC_REG_RIP ? &g->rip : reg == VC_REG_RFLAGS ? &g->rflags : NULL;
}

static int reg_access(struct vc_cpu *cpu, bool set, enum vc_reg reg, uint64_t *value)
{
    const struct backend *be = cpu->vm->be;
    struct vc_gprs g = {.size = sizeof g};
    uint64_t *slot = gpr_slot(&g, reg);
    if (!slot) {
        bool known =
            (reg >= VC_REG_CR0 && reg <= VC_REG_PKRU) || (reg >= VC_REG_DR0 && reg <= VC_REG_DR7);
        if (!known)
            return err_set(VC_EINVAL, "there is no register %d", (int)reg);
        int rc = be->reg(cpu->bcpu, set, reg, value);
        return rc ? err_set(rc, "register %d cannot hold %#llx", (int)reg,
                            (unsigned long long)*value)
                  : 0;
    }
    int rc = be->gprs(cpu->bcpu, false, &g);
    if (rc)
        return rc;
    if (!set) {
        *value = *slot;
        return 0;
    }
    *slot = *value;
    return be->gprs(cpu->bcpu, true, &g);
}

int vc_reg_get(vc_cpu *cpu, enum vc_reg reg, uint64_t *value)
{
    if (!cpu || !value)
        return err_null(cpu ? "value" : "cpu");
    err_begin();
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = reg_access(cpu, false, reg, value);
    cpu_leave(cpu);
    return rc;
}

int vc_reg_set(vc_cpu *cpu, enum vc_reg reg, uint64_t value)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = reg_access(cpu, true, reg, &value);
    cpu_leave(cpu);
    return rc;
}

static int msr_access(struct vc_cpu *cpu, bool set, uint32_t index, uint64_t *value)
{
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = cpu->vm->be->msr(cpu->bcpu, set, index, value);
    cpu_leave(cpu);
    return rc ? err_set(rc, "%s MSR %#x would raise #GP", set ? "writing" : "reading", index) : 0;
}

int vc_msr_get(vc_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (!cpu || !value)
        return err_null(cpu ? "value" : "cpu");
    err_begin();
    return msr_access(cpu, false, index, value);
}

int vc_msr_set(vc_cpu *cpu, uint32_t index, uint64_t value)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    return msr_access(cpu, true, index, &value);
}

int vc_translate(vc_cpu *cpu, uint64_t linear, uint32_t access, uint64_t *gpa)
{
    if (!cpu || !gpa)
        return err_null(cpu ? "gpa" : "cpu");
    err_begin();
    if (access & ~(VC_ACC_WRITE | VC_ACC_FETCH | VC_ACC_USER) ||
        (access & (VC_ACC_WRITE | VC_ACC_FETCH)) == (VC_ACC_WRITE | VC_ACC_FETCH))
        return err_set(VC_EINVAL, "access %#x is not one of VC_ACC_READ, WRITE, FETCH", access);
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = cpu->vm->be->translate(cpu->bcpu, linear, access, gpa);
    cpu_leave(cpu);
    return rc ? err_set(rc, "linear address %#llx is not mapped for that access",
                        (unsigned long long)linear)
              : 0;
}

/* ---- events ---------------------------------------------------------------------------- */

int vc_inject_irq(vc_cpu *cpu, uint8_t vector)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    if (cpu->vm->irq)
        return err_set(VC_ENOTSUP, "the partition has interrupt controllers: use vc_irq_line() or "
                                   "vc_msi()");
    int32_t none = -1;
    if (!atomic_compare_exchange_strong(&cpu->mail.inject, &none, vector))
        return err_set(VC_EBUSY, "interrupt %d still waits to be taken", none);
    mail_post(&cpu->mail, PEND_IRQ);
    return 0;
}

int vc_inject_nmi(vc_cpu *cpu)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    mail_post(&cpu->mail, PEND_NMI);
    return 0;
}

int vc_inject_exception(vc_cpu *cpu, uint8_t vector, uint32_t error_code, uint64_t cr2)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    if (vector > 31 || vector == 2)
        return err_set(VC_EINVAL, "vector %u is no exception's", vector);
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = cpu->vm->be->exception(cpu->bcpu, vector, error_code, cr2);
    cpu_leave(cpu);
    return rc;
}

int vc_single_step(vc_cpu *cpu, int on)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    if (!(cpu->vm->features & VC_FEAT_SINGLE_STEP))
        return err_set(VC_ENOTSUP, "%s cannot step", cpu->vm->be->name);
    int rc = cpu_enter(cpu);
    if (rc)
        return rc;
    rc = cpu->vm->be->single_step(cpu->bcpu, on != 0);
    cpu_leave(cpu);
    return rc;
}

int vc_cpu_stats(vc_cpu *cpu, struct vc_stats *stats)
{
    if (!cpu || !stats)
        return err_null(cpu ? "stats" : "cpu");
    err_begin();
    struct vc_stats full = {.size = sizeof full};
    cpu->vm->be->stats(cpu->bcpu, &full);
    full.run_ns = atomic_load_explicit(&cpu->run_ns, memory_order_relaxed);
    return args_out(stats, &full, sizeof full, "stats");
}
