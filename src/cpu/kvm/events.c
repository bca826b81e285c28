/* SPDX-License-Identifier: MIT
 * Interrupts, NMIs, exceptions, INIT and SIPI on their way into the guest. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>

/* ---- exceptions ------------------------------------------------------------------ */

static int events_get(struct kvm_cpu *c, struct kvm_vcpu_events *e)
{
    return ioctl(c->fd, KVM_GET_VCPU_EVENTS, e) ? kvm_error(errno, "reading pending events") : 0;
}

static int events_set(struct kvm_cpu *c, struct kvm_vcpu_events *e)
{
    /* What came meanwhile stays; the rest is as it was read. */
    e->flags &= ~(uint32_t)(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR);
    return ioctl(c->fd, KVM_SET_VCPU_EVENTS, e) ? kvm_error(errno, "setting pending events") : 0;
}

/* Which exceptions push an error code (SDM table 6-1). */
static bool has_error_code(uint8_t vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

int kvm_exception(struct backend_cpu *bc, uint8_t vector, uint32_t err, uint64_t cr2)
{
    struct kvm_cpu *c = kvm_cpu(bc);
    if (c->in_emu)
        return backend_emu.exception(c->emu, vector, err, cr2);
    struct kvm_vcpu_events e;
    int rc = kvm_finish(c);
    if (!rc)
        rc = events_get(c, &e);
    if (rc)
        return rc;
    if (e.exception.injected || e.exception.pending)
        return err_set(VC_EBUSY, "an exception already waits for the next vc_run");
    if (vector == 14) {
        rc = kvm_reg(bc, true, VC_REG_CR2, &cr2);
        if (rc)
            return rc;
    }
    e.exception.injected = 1;
    e.exception.nr = vector;
    e.exception.has_error_code = has_error_code(vector);
    e.exception.error_code = has_error_code(vector) ? err : 0;
    rc = kvm_wake(c);
    return rc ? rc : events_set(c, &e);
}

/* An instruction that KVM could not do: some versions leave #UD pending. */
int kvm_events_drop_exception(struct kvm_cpu *c)
{
    struct kvm_vcpu_events e;
    int rc = events_get(c, &e);
    if (rc || (!e.exception.injected && !e.exception.pending))
        return rc;
    memset(&e.exception, 0, sizeof e.exception);
    return events_set(c, &e);
}

int kvm_events_reset(struct kvm_cpu *c)
{
    struct kvm_vcpu_events e;
    int rc = events_get(c, &e);
    if (rc)
        return rc;
    memset(&e.exception, 0, sizeof e.exception);
    memset(&e.interrupt, 0, sizeof e.interrupt);
    memset(&e.nmi, 0, sizeof e.nmi);
    e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | (e.flags & KVM_VCPUEVENT_VALID_SHADOW);
    if (ioctl(c->fd, KVM_SET_VCPU_EVENTS, &e))
        return kvm_error(errno, "clearing pending events");
    /* NMIs that wait belong to the time before: two at most (src/cpu/mail.c). */
    mail_clear(c->mail, PEND_NMI);
    mail_clear(c->mail, PEND_NMI);
    mail_nmi_done(c->mail);
    return 0;
}

/* ---- interrupts ------------------------------------------------------------------- */

static int take_nmi(struct kvm_cpu *c)
{
    while (mail_clear(c->mail, PEND_NMI)) {
        /* KVM latches them as the processor does; IRET is its to see. */
        if (ioctl(c->fd, KVM_NMI))
            return kvm_error(errno, "sending an NMI");
        mail_nmi_done(c->mail);
        c->halted = false;
    }
    return 0;
}

static int take_irq(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    int vector = atomic_exchange(&c->mail->inject, -1);
    if (vector < 0 && env->irq_ack) {
        vector = env->irq_ack(env->ctx, c->index);
    } else if (!env->irq_ack) {
        mail_clear(c->mail, PEND_IRQ);
        if (atomic_load(&c->mail->inject) >= 0)
            mail_post(c->mail, PEND_IRQ);
    }
    if (vector < 0)
        return 0;
    struct kvm_interrupt irq = {.irq = (uint32_t)vector};
    if (ioctl(c->fd, KVM_INTERRUPT, &irq))
        return kvm_error(errno, "sending an interrupt");
    c->stats.irqs++;
    c->halted = false;
    c->run->ready_for_interrupt_injection = 0;
    return 0;
}

int kvm_inject(struct kvm_cpu *c)
{
    uint32_t p = atomic_load(&c->mail->pending);
    int rc = 0;
    c->run->request_interrupt_window = 0;
    if (p & PEND_NMI)
        rc = take_nmi(c);
    if (rc || !(p & PEND_IRQ))
        return rc;
    if (c->run->ready_for_interrupt_injection)
        rc = take_irq(c);
    /* What still waits is told when the guest can take it. */
    if (!rc && atomic_load(&c->mail->pending) & PEND_IRQ)
        c->run->request_interrupt_window = 1;
    return rc;
}

/* ---- INIT and SIPI (SDM 8.4.1) ------------------------------------------------------ */

int kvm_take_init(struct kvm_cpu *c)
{
    const struct cpu_env *env = &c->vm->env;
    mail_clear(c->mail, PEND_INIT);
    int rc = kvm_reset(c, true);
    if (env->init)
        env->init(env->ctx, c->index);
    c->wait_sipi = c->index != 0;
    return rc;
}

int kvm_take_sipi(struct kvm_cpu *c)
{
    struct kvm_sregs s;
    mail_clear(c->mail, PEND_SIPI);
    uint32_t v = atomic_load(&c->mail->sipi_vector) & 0xff;
    if (!c->wait_sipi)
        return 0;
    c->wait_sipi = false;
    int rc = kvm_sregs_load(c, &s);
    if (rc)
        return rc;
    s.cs.selector = (uint16_t)(v << 8);
    s.cs.base = v << 12;
    kvm_regs_change(c)->rip = 0;
    return kvm_sregs_store(c, &s);
}
