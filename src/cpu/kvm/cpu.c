/* SPDX-License-Identifier: MIT
 * vCPUs: making, resetting, freeing. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- life --------------------------------------------------------------------------- */

void kvm_cpu_end(struct kvm_cpu *c)
{
    kvm_step_free(c);
    kvm_dirty_cpu_end(c);
    if (c->run)
        munmap(c->run, c->vm->host.run_size);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

static int make(struct kvm_vm *vm, unsigned index, struct kvm_cpu **out)
{
    struct kvm_cpu *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(VC_ENOMEM, "no host memory for a vCPU; close other programs");
    c->vm = vm;
    c->index = index;
    c->fresh = true;
    c->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (c->fd < 0) {
        int rc = kvm_error(errno, "creating a vCPU");
        free(c);
        return rc;
    }
    void *run = mmap(NULL, vm->host.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (run == MAP_FAILED) {
        int rc = kvm_error(errno, "mapping a vCPU");
        kvm_cpu_end(c);
        return rc;
    }
    c->run = run;
    int rc = kvm_dirty_cpu(c);
    if (!rc)
        rc = kvm_regs_load(c);
    if (!rc) {
        kvm_tsc_rate(c);
        rc = kvm_tsc_start(c);
    }
    if (rc)
        kvm_cpu_end(c);
    else
        *out = c;
    return rc;
}

int kvm_cpu_new(struct backend_vm *bvm, vc_cpu *handle, unsigned index, struct cpu_mail *mail,
                struct backend_cpu **out)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    struct kvm_cpu *c = vm->cpu[index];
    int rc = c ? 0 : make(vm, index, &c);
    if (rc)
        return rc;
    pthread_mutex_lock(&vm->lock);
    vm->cpu[index] = c;
    vm->ncpus++;
    c->handle = handle;
    c->mail = mail;
    pthread_mutex_unlock(&vm->lock);
    atomic_store(&mail->stop, (_Atomic uint8_t *)&c->run->immediate_exit);
    rc = c->ran ? 0 : kvm_cpuid_set(c);
    if (rc)
        kvm_cpu_free((struct backend_cpu *)c);
    else
        *out = (struct backend_cpu *)c;
    return rc;
}

/* It stays with KVM, for the next of its number. */
void kvm_cpu_free(struct backend_cpu *bc)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (!c)
        return;
    kvm_step_free(c);
    if (c->step)
        kvm_single_step(bc, false);
    memset(&c->stats, 0, sizeof c->stats);
    atomic_store(&c->mail->stop, NULL);
    pthread_mutex_lock(&c->vm->lock);
    c->mail = NULL;
    c->handle = NULL;
    c->vm->ncpus--;
    pthread_mutex_unlock(&c->vm->lock);
}

/* IA32_APIC_BASE: SDM 10.4.4. */
#define APIC_BASE 0xfee00800ull
#define APIC_BSP  0x100ull

/* ---- RESET and INIT: SDM 10.1.1, table 10-1 -------------------------------------------- */

static struct kvm_segment segment(uint64_t base, uint16_t selector, uint8_t type, bool s)
{
    return (struct kvm_segment){
        .base = base, .limit = 0xffff, .selector = selector, .type = type, .present = 1, .s = s};
}

static int reset_sregs(struct kvm_cpu *c, bool init)
{
    struct kvm_sregs s;
    int rc = kvm_sregs_load(c, &s);
    if (rc)
        return rc;
    uint64_t caching = init ? s.cr0 & 0x60000000 : 0x60000000; /* CD, NW: INIT keeps them */
    s.ds = s.es = s.fs = s.gs = s.ss = segment(0, 0, 3, true);
    s.cs = segment(0xffff0000, 0xf000, 11, true);
    s.ldt = segment(0, 0, 2, false);
    s.tr = segment(0, 0, 11, false);
    s.gdt = s.idt = (struct kvm_dtable){.limit = 0xffff};
    s.cr0 = caching | 0x10;
    s.cr2 = s.cr3 = s.cr4 = s.cr8 = s.efer = 0;
    if (!c->vm->chips)
        s.apic_base = kvm_apic_base(c);
    else if (!init)
        s.apic_base = APIC_BASE | (c->index ? 0 : APIC_BSP);
    memset(s.interrupt_bitmap, 0, sizeof s.interrupt_bitmap);
    return kvm_sregs_store(c, &s);
}

static int reset_debug(struct kvm_cpu *c)
{
    const struct kvm_debugregs d = {.dr6 = 0xffff0ff0, .dr7 = 0x400};
    return ioctl(c->fd, KVM_SET_DEBUGREGS, &d) ? kvm_error(errno, "setting debug registers") : 0;
}

int kvm_reset(struct kvm_cpu *c, bool init)
{
    struct kvm_regs *r = kvm_regs_change(c);
    memset(r, 0, sizeof *r);
    r->rdx = CPU_SIGNATURE;
    r->rip = 0xfff0;
    r->rflags = 2;
    c->io.left = 0;
    c->hcall_due = false;
    c->halted = false;
    c->in_emu = false;
    int rc = reset_sregs(c, init);
    if (!rc)
        rc = reset_debug(c);
    if (!rc)
        rc = kvm_events_reset(c);
    if (!rc && !init)
        rc = kvm_fpu_reset(c);
    if (!rc && !init && !c->fresh)
        rc = kvm_msr_reset(c);
    c->fresh = false;
    return rc;
}

int kvm_cpu_reset(struct backend_cpu *bc, bool wait_sipi)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    int rc = kvm_finish(c);
    if (!rc)
        rc = kvm_reset(c, false);
    if (!rc)
        rc = kvm_chips_reset(c, wait_sipi);
    c->wait_sipi = wait_sipi && !c->vm->chips;
    return rc;
}

int kvm_single_step(struct backend_cpu *bc, bool on)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    struct kvm_guest_debug d = {.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};
    int rc = kvm_regs_flush(c);
    if (!rc && ioctl(c->fd, KVM_SET_GUEST_DEBUG, &d))
        rc = kvm_error(errno, "stepping");
    if (!rc)
        c->step = on;
    return rc;
}
