/* SPDX-License-Identifier: MIT
 * Model-specific registers. KVM has nearly all; those of the local APIC are ours,
 * writes of the time-stamp counter are looked at, and what KVM does not know comes
 * here before it raises #GP. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/tsc.h"
#include "../../base/util.h"
#include "../msr.h"
#include <errno.h>

static bool is_apic(uint32_t index)
{
    return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
           (index >= 0x800 && index <= 0x8ff);
}

/* ---- KVM's own -------------------------------------------------------------------- */

int kvm_msr_host(struct kvm_cpu *c, bool set, uint32_t index, uint64_t *value)
{
    struct { /* as struct kvm_msrs begins */
        uint32_t nmsrs, pad;
        struct kvm_msr_entry entry;
    } m = {.nmsrs = 1, .entry = {.index = index, .data = set ? *value : 0}};
    if (ioctl(c->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &m) != 1)
        return VC_ENOENT;
    if (!set)
        *value = m.entry.data;
    return 0;
}

/* Which reads and writes of the guest's leave the kernel although KVM knows them. A
 * clear bit does. */
#define FILTERED 0x700u

int kvm_msr_filter(struct kvm_vm *vm)
{
    uint8_t reads[FILTERED / 8], writes[FILTERED / 8];
    struct kvm_msr_filter f = {
        .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
        .ranges =
            {
                {.flags = KVM_MSR_FILTER_READ, .nmsrs = FILTERED, .bitmap = reads},
                {.flags = KVM_MSR_FILTER_WRITE, .nmsrs = FILTERED, .bitmap = writes},
            },
    };
    memset(reads, 0xff, sizeof reads);
    memset(writes, 0xff, sizeof writes);
    static const uint16_t both[] = {MSR_APIC_BASE, MSR_TSC_DEADLINE};
    static const uint16_t write[] = {MSR_TSC, MSR_TSC_ADJUST};
    for (unsigned i = 0; !vm->chips && i < ARRAY_LEN(both); i++) {
        reads[both[i] / 8] &= (uint8_t)~BIT(both[i] % 8);
        writes[both[i] / 8] &= (uint8_t)~BIT(both[i] % 8);
    }
    for (unsigned i = 0; vm->host.tsc_offset && i < ARRAY_LEN(write); i++)
        writes[write[i] / 8] &= (uint8_t)~BIT(write[i] % 8);
    return ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f)
               ? kvm_error(errno, "filtering model-specific registers")
               : 0;
}

/* ---- the time-stamp counter ---------------------------------------------------------- */

static int offset_set(struct kvm_cpu *c, uint64_t offset)
{
    const struct kvm_device_attr a = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&offset,
    };
    if (ioctl(c->fd, KVM_SET_DEVICE_ATTR, &a))
        return kvm_error(errno, "setting the time-stamp counter");
    c->tsc_offset = offset;
    return 0;
}

/* As fast as the host's. A KVM that was loaded before its kernel had measured the counter for
 * good, without hardware to scale it, asks every vCPU for the frequency of then, cannot give it
 * and leaves a scale of 0: the counter that it knows of stands still, and a local APIC's deadline
 * of a millisecond from now comes when the host has run twice as long. 0 is the frequency of now.
 */
void kvm_tsc_rate(struct kvm_cpu *c)
{
    ioctl(c->fd, KVM_SET_TSC_KHZ, 0ul);
}

/* The guest's counter begins as the host's, as on every engine. */
int kvm_tsc_start(struct kvm_cpu *c)
{
    uint64_t zero = 0, now = host_tsc();
    kvm_msr_host(c, true, MSR_TSC_ADJUST, &zero);
    if (c->vm->host.tsc_offset && !offset_set(c, 0))
        return 0;
    err_begin();
    c->vm->host.tsc_offset = false;
    return kvm_msr_host(c, true, MSR_TSC, &now)
               ? err_set(VC_EIO, "KVM does not take a time-stamp counter")
               : 0;
}

static uint64_t guest_tsc(struct kvm_cpu *c)
{
    uint64_t now = host_tsc();
    if (c->vm->host.tsc_offset)
        return now + c->tsc_offset;
    kvm_msr_host(c, false, MSR_TSC, &now);
    return now;
}

static bool tsc_shift(struct kvm_cpu *c, uint64_t by)
{
    uint64_t adjust = 0;
    if (offset_set(c, c->tsc_offset + by))
        return false;
    kvm_msr_host(c, false, MSR_TSC_ADJUST, &adjust);
    adjust += by;
    return !kvm_msr_host(c, true, MSR_TSC_ADJUST, &adjust);
}

static bool tsc_write(struct kvm_cpu *c, uint32_t index, uint64_t v)
{
    uint64_t old = 0;
    if (index == MSR_TSC)
        return tsc_shift(c, v - guest_tsc(c));
    return !kvm_msr_host(c, false, MSR_TSC_ADJUST, &old) && tsc_shift(c, v - old);
}

/* ---- the local APIC's ------------------------------------------------------------------ */

/* Its deadline counts the host's ticks. */
static uint64_t deadline_to_host(struct kvm_cpu *c, uint64_t v)
{
    if (!v)
        return 0;
    uint64_t host = host_tsc(), guest = guest_tsc(c), ahead = v > guest ? v - guest : 0;
    return host + ahead < host ? UINT64_MAX : host + ahead;
}

int kvm_deadline(struct kvm_cpu *c, bool set, uint64_t *host)
{
    uint64_t v = 0, ahead = c->vm->host.tsc_offset ? c->tsc_offset : guest_tsc(c) - host_tsc();
    if (set) {
        v = *host ? *host + ahead : 0;
        return kvm_msr_host(c, true, MSR_TSC_DEADLINE, &v);
    }
    int rc = kvm_msr_host(c, false, MSR_TSC_DEADLINE, &v);
    *host = v ? v - ahead : 0;
    return rc;
}

static bool apic_msr(struct kvm_cpu *c, bool write, uint32_t index, uint64_t *v)
{
    const struct cpu_env *env = &c->vm->env;
    uint64_t value = *v;
    if (!env->apic_msr)
        return false;
    if (write && index == MSR_TSC_DEADLINE)
        value = deadline_to_host(c, value);
    if (!env->apic_msr(env->ctx, c->index, index, write, &value))
        return false;
    if (write) { /* KVM's CPUID follows the enable bit */
        if (index == MSR_APIC_BASE && kvm_msr_host(c, true, index, &value)) {
            value &= ~0x400ull;
            kvm_msr_host(c, true, index, &value);
        }
        return true;
    }
    if (index == MSR_TSC_DEADLINE && value)
        value += guest_tsc(c) - host_tsc();
    *v = value;
    return true;
}

/* ---- AMD's that KVM may not know --------------------------------------------------------- */

/* They read as 0, and what is written is dropped, as on emu. */
static bool inert(uint32_t index)
{
    switch (index) {
    case MSR_IORR_BASE0:
    case MSR_IORR_MASK0:
    case MSR_IORR_BASE1:
    case MSR_IORR_MASK1:
    case MSR_TOP_MEM:
    case MSR_TOP_MEM2:
    case MSR_NB_CFG:
    case MSR_SYSCFG:
    case MSR_INT_PENDING:
    case MSR_MMIO_CONF_BASE:
    case MSR_DC_CFG:
    case MSR_BU_CFG2: return true;
    default: return false;
    }
}

static bool unknown(bool write, uint32_t index, uint64_t *v)
{
    if (!inert(index))
        return false;
    if (!write)
        *v = 0;
    return true;
}

/* ---- who asks ------------------------------------------------------------------------------ */

void kvm_msr_exit(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    bool write = run->exit_reason == KVM_EXIT_X86_WRMSR, ok;
    uint32_t index = run->msr.index;
    uint64_t v = write ? run->msr.data : 0;
    if (is_apic(index) && !c->vm->chips)
        ok = apic_msr(c, write, index, &v);
    else if (run->msr.reason & KVM_MSR_EXIT_REASON_FILTER)
        ok = write && tsc_write(c, index, v);
    else
        ok = unknown(write, index, &v);
    run->msr.error = !ok;
    if (!write)
        run->msr.data = v;
    c->unfinished = true;
}

int kvm_msr(struct backend_cpu *bc, bool set, uint32_t index, uint64_t *value)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (c->in_emu)
        return backend_emu.msr(c->emu, set, index, value);
    int rc = set ? kvm_finish(c) : kvm_regs_flush(c);
    if (rc)
        return rc;
    if (is_apic(index) && !c->vm->chips)
        return apic_msr(c, set, index, value) ? 0 : VC_ENOENT;
    if (set && c->vm->host.tsc_offset && (index == MSR_TSC || index == MSR_TSC_ADJUST))
        return tsc_write(c, index, *value) ? 0 : VC_ENOENT;
    if (!kvm_msr_host(c, set, index, value))
        return 0;
    return unknown(set, index, value) ? 0 : VC_ENOENT;
}

/* RESET: SDM 10.1.1, table 10-1. What KVM does not have stays away. */
int kvm_msr_reset(struct kvm_cpu *c)
{
    static const struct {
        uint32_t index;
        uint64_t value;
    } reset[] = {
        {MSR_KVM_SYSTEM_TIME_NEW, 0},
        {MSR_KVM_WALL_CLOCK_NEW, 0},
        {MSR_SYSENTER_CS, 0},
        {MSR_SYSENTER_ESP, 0},
        {MSR_SYSENTER_EIP, 0},
        {MSR_STAR, 0},
        {MSR_LSTAR, 0},
        {MSR_CSTAR, 0},
        {MSR_FMASK, 0},
        {MSR_KERNEL_GS_BASE, 0},
        {MSR_TSC_AUX, 0},
        {MSR_PAT, 0x0007040600070406ull},
        {MSR_MISC_ENABLE, 1},
        {MSR_DEBUGCTL, 0},
        {0x2ff, 0}, /* MTRRs: off */
    };
    for (unsigned i = 0; i < ARRAY_LEN(reset); i++) {
        uint64_t v = reset[i].value;
        kvm_msr_host(c, true, reset[i].index, &v);
    }
    return kvm_tsc_start(c);
}
