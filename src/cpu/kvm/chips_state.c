/* SPDX-License-Identifier: MIT
 * The state of the kernel's interrupt controllers as plain structs, and back, so that it
 * goes from one kind of machine to another. Of what the plain structs tell the kernel
 * does not keep:
 *  - errors that a local APIC collected and did not yet show, ExtINT messages, how much a
 *    one-shot timer that ran out had counted;
 *  - that an 8259 works alone (ICW1's SNGL), and levels of edge-triggered IOAPIC pins.
 * A one-shot timer may fire once more: the kernel does not tell one that fired from one
 * whose interrupt is still on its way, and an interrupt twice is better than none. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>

#define APIC_X2 0xc00ull /* IA32_APIC_BASE: EN, EXTD */

/* ---- 8259 ------------------------------------------------------------------------------- */

static void pic_from(struct pic_state *p, const struct kvm_pic_state *k)
{
    *p = (struct pic_state){
        .lines = k->last_irr,
        .edges = k->irr & ~k->elcr,
        .imr = k->imr,
        .isr = k->isr,
        .elcr = k->elcr,
        .base = k->irq_base,
        .first = k->priority_add & 7,
        .icw = k->init_state ? k->init_state + 1 : 0,
        .ready = !k->init_state && k->irq_base, /* no guest has it at the exceptions */
        .need_icw4 = k->init4,
        .aeoi = k->auto_eoi,
        .sfnm = k->special_fully_nested_mode,
        .rotate_aeoi = k->rotate_on_auto_eoi,
        .special_mask = k->special_mask,
        .poll = k->poll,
        .read_isr = k->read_reg_select,
    };
}

static void pic_to(struct kvm_pic_state *k, const struct pic_state *p)
{
    uint8_t elcr_mask = k->elcr_mask;
    *k = (struct kvm_pic_state){
        .last_irr = p->lines,
        .irr = (uint8_t)((p->edges & ~p->elcr) | (p->lines & p->elcr)),
        .imr = p->imr,
        .isr = p->isr,
        .priority_add = p->first,
        .irq_base = p->base,
        .read_reg_select = p->read_isr,
        .poll = p->poll,
        .special_mask = p->special_mask,
        .init_state = p->icw ? p->icw - 1 : 0,
        .auto_eoi = p->aeoi,
        .rotate_on_auto_eoi = p->rotate_aeoi,
        .special_fully_nested_mode = p->sfnm,
        .init4 = p->need_icw4,
        .elcr = p->elcr,
        .elcr_mask = elcr_mask,
    };
}

/* ---- IOAPIC ------------------------------------------------------------------------------- */

#define REDIR_STATUS (1ull << 12)

static void ioapic_from(struct ioapic_state *s, const struct kvm_ioapic_state *k)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        s->redir[i] = k->redirtbl[i].bits & 0xff0000000001ffffull & ~REDIR_STATUS;
    s->id = (k->id & 15) << 24;
    s->pins = k->irr;
    s->select = (uint8_t)k->ioregsel;
}

/* An edge-triggered pin that is said to be high would interrupt at once. */
static void ioapic_to(struct kvm_ioapic_state *k, const struct ioapic_state *s)
{
    k->irr = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        k->redirtbl[i].bits = s->redir[i];
        if (s->redir[i] & REDIR_LEVEL)
            k->irr |= s->pins & BIT(i);
    }
    k->id = s->id >> 24 & 15;
    k->ioregsel = s->select;
}

/* ---- one of the three of the kernel's chips -------------------------------------------------- */

static int chip(struct kvm_vm *vm, bool set, uint32_t which, struct chips_state *st)
{
    struct kvm_irqchip k = {.chip_id = which};
    if (ioctl(vm->fd, KVM_GET_IRQCHIP, &k))
        return kvm_error(errno, "reading an interrupt controller");
    if (which == KVM_IRQCHIP_IOAPIC && set)
        ioapic_to(&k.chip.ioapic, &st->ioapic);
    else if (which == KVM_IRQCHIP_IOAPIC)
        ioapic_from(&st->ioapic, &k.chip.ioapic);
    else if (set)
        pic_to(&k.chip.pic, &st->pic[which]);
    else
        pic_from(&st->pic[which], &k.chip.pic);
    if (set && ioctl(vm->fd, KVM_SET_IRQCHIP, &k))
        return kvm_error(errno, "setting an interrupt controller");
    return 0;
}

/* ---- local APIC ----------------------------------------------------------------------------- */

/* Register numbers: offset / 16 (SDM table 10-1). */
enum {
    ID = 0x02,
    TPR = 0x08,
    LDR = 0x0d,
    DFR = 0x0e,
    SVR = 0x0f,
    ISR = 0x10,
    TMR = 0x18,
    IRR = 0x20,
    ESR = 0x28,
    ICR = 0x30,
    ICR_HI = 0x31,
    LVT = 0x32,
    TIMER_INITIAL = 0x38,
    TIMER_CURRENT = 0x39,
    TIMER_DIVIDE = 0x3e,
};
#define ICR_STATUS 0x1000u

static uint32_t reg(const struct kvm_lapic_state *l, unsigned number)
{
    uint32_t v;
    memcpy(&v, l->regs + 16 * number, sizeof v);
    return v;
}

static bool is_x2(uint64_t base)
{
    return (base & APIC_X2) == APIC_X2;
}

enum { ONE_SHOT, PERIODIC, DEADLINE };
static unsigned timer_mode(uint32_t lvt)
{
    return lvt >> 17 & 3;
}

static void timer_from(struct lapic_state *s, const struct kvm_lapic_state *l)
{
    unsigned mode = timer_mode(s->lvt[LVT_TIMER]);
    s->timer_divide = reg(l, TIMER_DIVIDE);
    s->timer_initial = reg(l, TIMER_INITIAL);
    s->timer_runs = mode < DEADLINE && s->timer_initial;
    s->timer_count = s->timer_runs ? reg(l, TIMER_CURRENT) : 0;
    if (s->timer_runs && mode == PERIODIC && !s->timer_count)
        s->timer_count = s->timer_initial;
}

static void lapic_from(struct lapic_state *s, uint64_t base, const struct kvm_lapic_state *l)
{
    bool x2 = is_x2(base);
    *s = (struct lapic_state){
        .base = base,
        .id = reg(l, ID) >> 24,
        .tpr = reg(l, TPR),
        .ldr = x2 ? 0 : reg(l, LDR), /* there it is the ID's */
        .dfr = reg(l, DFR),
        .svr = reg(l, SVR),
        .esr = reg(l, ESR),
        .icr = reg(l, ICR) & ~ICR_STATUS,
        .icr_dest = x2 ? reg(l, ICR_HI) : reg(l, ICR_HI) >> 24,
    };
    for (unsigned i = 0; i < LVT_COUNT; i++)
        s->lvt[i] = reg(l, LVT + i);
    for (unsigned i = 0; i < 8; i++) {
        s->isr[i] = reg(l, ISR + i);
        s->tmr[i] = reg(l, TMR + i);
        s->irr[i] = reg(l, IRR + i);
    }
    timer_from(s, l);
}

static void lapic_to(struct kvm_lapic_state *l, unsigned index, const struct lapic_state *s)
{
    bool x2 = is_x2(s->base);
    kvm_lapic_put(l, ID, (x2 ? index : s->id) << 24);
    kvm_lapic_put(l, TPR, s->tpr);
    kvm_lapic_put(l, LDR, s->ldr);
    kvm_lapic_put(l, DFR, s->dfr);
    kvm_lapic_put(l, SVR, s->svr);
    kvm_lapic_put(l, ESR, s->esr);
    kvm_lapic_put(l, ICR, s->icr);
    kvm_lapic_put(l, ICR_HI, x2 ? s->icr_dest : s->icr_dest << 24);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        kvm_lapic_put(l, LVT + i, s->lvt[i]);
    for (unsigned i = 0; i < 8; i++) {
        kvm_lapic_put(l, ISR + i, s->isr[i]);
        kvm_lapic_put(l, TMR + i, s->tmr[i]);
        kvm_lapic_put(l, IRR + i, s->irr[i]);
    }
    /* One that ran out would fire again if its count were said. */
    kvm_lapic_put(l, TIMER_DIVIDE, s->timer_divide);
    kvm_lapic_put(l, TIMER_INITIAL, s->timer_runs ? s->timer_initial : 0);
    kvm_lapic_put(l, TIMER_CURRENT, s->timer_runs ? s->timer_count : 0);
}

static int lapic_get(struct kvm_cpu *c, struct lapic_state *s)
{
    struct kvm_lapic_state l;
    struct kvm_sregs sregs;
    int rc = kvm_sregs_load(c, &sregs);
    if (rc)
        return rc;
    if (ioctl(c->fd, KVM_GET_LAPIC, &l))
        return kvm_error(errno, "reading a local APIC");
    lapic_from(s, sregs.apic_base, &l);
    return kvm_deadline(c, false, &s->deadline)
               ? err_set(VC_EIO, "KVM does not tell a local APIC's deadline")
               : 0;
}

/* The mode first, which the registers depend on; the deadline last, which depends on the
 * timer's mode. */
static int lapic_set(struct kvm_cpu *c, const struct lapic_state *s)
{
    struct kvm_lapic_state l;
    struct kvm_sregs sregs;
    uint64_t deadline = s->deadline;
    int rc = kvm_sregs_load(c, &sregs);
    if (!rc) {
        sregs.apic_base = s->base;
        rc = kvm_sregs_store(c, &sregs);
    }
    if (rc)
        return rc;
    if (ioctl(c->fd, KVM_GET_LAPIC, &l))
        return kvm_error(errno, "reading a local APIC");
    lapic_to(&l, c->index, s);
    if (ioctl(c->fd, KVM_SET_LAPIC, &l))
        return kvm_error(errno, "setting a local APIC");
    c->run->ready_for_interrupt_injection = 0;
    if (timer_mode(s->lvt[LVT_TIMER]) == DEADLINE && kvm_deadline(c, true, &deadline))
        return err_set(VC_EIO, "KVM does not take a local APIC's deadline");
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static uint64_t cpus(const struct kvm_vm *vm)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < KVM_CPUS_MAX; i++)
        if (vm->cpu[i] && vm->cpu[i]->mail)
            mask |= BIT64(i);
    return mask;
}

static int lapics(struct kvm_vm *vm, bool set, struct chips_state *st)
{
    uint64_t here = cpus(vm);
    if (set && st->cpus != here)
        return err_set(VC_EINVAL, "the state of vCPUs %#llx is not one of vCPUs %#llx",
                       (unsigned long long)st->cpus, (unsigned long long)here);
    st->cpus = here;
    int rc = 0;
    for (unsigned i = 0; i < KVM_CPUS_MAX && !rc; i++)
        if (here & BIT64(i))
            rc = set ? lapic_set(vm->cpu[i], &st->lapic[i]) : lapic_get(vm->cpu[i], &st->lapic[i]);
    return rc;
}

/* The local APICs last: what they accept of the others' is in their state already. */
int kvm_irq_state(struct backend_vm *bvm, bool set, struct chips_state *st)
{
    struct kvm_vm *vm = kvm_vm(bvm);
    int rc = 0;
    pthread_mutex_lock(&vm->lock);
    for (uint32_t which = KVM_IRQCHIP_PIC_MASTER;
         which <= KVM_IRQCHIP_IOAPIC && vm->chips == CHIPS_ALL && !rc; which++)
        rc = chip(vm, set, which, st);
    if (!rc)
        rc = lapics(vm, set, st);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}
