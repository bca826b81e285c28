/* SPDX-License-Identifier: MIT
 * The interrupt controllers' state from one kind of machine to another: the library's
 * own, and on kvm those in the kernel, all of them or the local APICs. */
#include "api.h"
#include "base/tsc.h"
#include "io/irqchip.h"
#include "vm/vm.h"
#include <stdio.h>

enum { CPUS = 2 };

static unsigned kinds(uint32_t kind[3])
{
    kind[0] = VC_IRQCHIP_USER;
    kind[1] = VC_IRQCHIP_KERNEL;
    kind[2] = VC_IRQCHIP_SPLIT;
    return strcmp(tested(), "kvm") ? 1 : 3;
}

static vc_vm *machine(uint32_t kind)
{
    vc_vm *vm = open_vm();
    const struct vc_pc_opts pc = {.size = sizeof pc, .ram = 1 << 20, .cpus = CPUS, .irqchip = kind};
    works(vc_pc(vm, &pc));
    return vm;
}

/* ---- every field ---------------------------------------------------------------------- */

static void pattern(struct chips_state *st)
{
    memset(st, 0, sizeof *st);
    st->lines = BIT(9) | BIT(10);
    st->pic[0] = (struct pic_state){.edges = BIT(1),
                                    .imr = 0xf0,
                                    .isr = BIT(5),
                                    .base = 0x20,
                                    .first = 3,
                                    .ready = true,
                                    .need_icw4 = true,
                                    .sfnm = true,
                                    .special_mask = true,
                                    .read_isr = true};
    st->pic[1] = (struct pic_state){.lines = BIT(1) | BIT(2),
                                    .imr = 0xff,
                                    .elcr = BIT(1) | BIT(2),
                                    .base = 0x28,
                                    .icw = 3,
                                    .need_icw4 = true,
                                    .aeoi = true,
                                    .rotate_aeoi = true};
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        st->ioapic.redir[i] = REDIR_MASKED | i;
    st->ioapic.redir[4] = 1ull << 56 | DM_LOWEST << 8 | 0x54;
    st->ioapic.redir[9] = REDIR_LEVEL | REDIR_REMOTE_IRR | 0x59;
    st->ioapic.redir[10] = 3ull << 56 | REDIR_MASKED | REDIR_LEVEL | BIT(13) | BIT(11) | 0x5a;
    st->ioapic.pins = BIT(9) | BIT(10);
    st->ioapic.id = 0x02000000;
    st->ioapic.select = 0x12;
    st->cpus = 3;
    st->lapic[0] = (struct lapic_state){
        .base = PC_LAPIC_BASE | APIC_BASE_EN | APIC_BASE_BSP,
        .tpr = 0x20,
        .ldr = 0x01000000,
        .dfr = 0xffffffff,
        .svr = 0x1ff,
        .icr = 0x000040fd,
        .icr_dest = 1,
        .lvt = {TIMER_PERIODIC << 17 | LVT_MASKED | 0xec, LVT_MASKED, LVT_MASKED | 0x31,
                LVT_MASKED | DM_EXTINT << 8, DM_NMI << 8, 0xfe},
        .isr = {[0x59 / 32] = BIT(0x59 % 32)},
        .tmr = {[0x59 / 32] = BIT(0x59 % 32)},
        .irr = {[0x31 / 32] = BIT(0x31 % 32)},
        .timer_initial = 0x7fffffff,
        .timer_divide = 3,
        .timer_count = 0x70000000,
        .timer_runs = true,
    };
    st->lapic[1] = (struct lapic_state){
        .base = PC_LAPIC_BASE | APIC_BASE_EN | APIC_BASE_EXTD,
        .id = 1,
        .dfr = 0xffffffff,
        .svr = 0x1ff,
        .icr = 0x000008f1,
        .icr_dest = 0x10001,
        .lvt = {TIMER_DEADLINE << 17 | LVT_MASKED | 0xed, LVT_MASKED, LVT_MASKED, LVT_MASKED,
                LVT_MASKED, LVT_MASKED},
        .deadline = host_tsc() + BIT64(45),
    };
}

#define SAME(field)                                                                                \
    cr_assert_eq(got->field, want->field, "%s: " #field " is %#llx, not %#llx", way,               \
                 (unsigned long long)got->field, (unsigned long long)want->field)

static void same_pic(const char *way, const struct pic_state *got, const struct pic_state *want)
{
    SAME(lines);
    SAME(edges);
    SAME(imr);
    SAME(isr);
    SAME(elcr);
    SAME(base);
    SAME(first);
    SAME(icw);
    SAME(ready);
    SAME(need_icw4);
    SAME(aeoi);
    SAME(sfnm);
    SAME(rotate_aeoi);
    SAME(special_mask);
    SAME(poll);
    SAME(read_isr);
}

static void same_ioapic(const char *way, const struct ioapic_state *got,
                        const struct ioapic_state *want)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        SAME(redir[i]);
    SAME(id);
    SAME(pins);
    SAME(select);
}

static void same_lapic(const char *way, const struct lapic_state *got,
                       const struct lapic_state *want)
{
    SAME(base);
    SAME(id);
    SAME(tpr);
    SAME(ldr);
    SAME(dfr);
    SAME(svr);
    SAME(esr);
    SAME(icr);
    SAME(icr_dest);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        SAME(lvt[i]);
    for (unsigned i = 0; i < 8; i++) {
        SAME(isr[i]);
        SAME(tmr[i]);
        SAME(irr[i]);
    }
    SAME(timer_initial);
    SAME(timer_divide);
    SAME(timer_runs);
    /* It counts on: 16 ns each, half a minute at most. */
    cr_assert_leq(got->timer_count, want->timer_count, "%s", way);
    cr_assert_leq(want->timer_count - got->timer_count, 30000000000ull / 16, "%s", way);
    uint64_t off = got->deadline - want->deadline + 1000000000;
    cr_assert(got->deadline == want->deadline || off < 2000000000, "%s: deadline %#llx, not %#llx",
              way, (unsigned long long)got->deadline, (unsigned long long)want->deadline);
}

static void same(const char *way, const struct chips_state *got, const struct chips_state *want)
{
    SAME(lines);
    SAME(cpus);
    same_pic(way, &got->pic[0], &want->pic[0]);
    same_pic(way, &got->pic[1], &want->pic[1]);
    same_ioapic(way, &got->ioapic, &want->ioapic);
    same_lapic(way, &got->lapic[0], &want->lapic[0]);
    same_lapic(way, &got->lapic[1], &want->lapic[1]);
}

static void vcpus(vc_vm *vm)
{
    for (unsigned i = 0; i < CPUS; i++)
        cr_assert_not_null(vc_cpu_new(vm, i ? VC_MODE_WAIT_SIPI : VC_MODE_RESET, 0), "%s",
                           vc_errmsg());
}

static void there_and_back(uint32_t from, uint32_t to)
{
    struct chips_state *want = malloc(3 * sizeof *want), *first = want + 1, *second = want + 2;
    char way[64];
    cr_assert_not_null(want);
    snprintf(way, sizeof way, "from %u to %u", from, to);
    vc_vm *a = machine(from), *b = machine(to);
    vcpus(a);
    vcpus(b);
    pattern(want);
    works(irqchip_state(a->irq, true, want));
    works(irqchip_state(a->irq, false, first));
    same(way, first, want);
    works(irqchip_state(b->irq, true, first));
    works(irqchip_state(b->irq, false, second));
    same(way, second, want);
    works(irqchip_state(a->irq, true, second));
    works(irqchip_state(a->irq, false, first));
    same(way, first, want);
    want->cpus = 1;
    fails(irqchip_state(b->irq, true, want), VC_EINVAL); /* and nothing changed */
    works(irqchip_state(b->irq, false, second));
    same(way, second, first);
    works(vc_close(b));
    works(vc_close(a));
    free(want);
}

Test(chips, there_and_back)
{
    uint32_t kind[3];
    unsigned n = kinds(kind);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            there_and_back(kind[i], kind[k]);
}

/* ---- a guest that goes on elsewhere ------------------------------------------------------ */

#define GDT   0x0800
#define IDT   0x2000
#define STUBS 0x3000
#define LEN   0x10000

/* What the handlers said, wherever the guest was. */
static struct said {
    vc_vm *vm; /* where the guest is */
    unsigned at[256], all, stop_at;
} said;

/* The line goes down when it was served once more after the EOI. */
static int say(void *ud, struct vc_access *a)
{
    uint8_t vector = (uint8_t)a->data;
    (void)ud;
    said.at[vector]++;
    if (vector == 0x59 && said.at[vector] == 2)
        works(vc_irq_line(said.vm, 9, 0));
    return ++said.all == said.stop_at ? vc_kick(a->cpu) : 0;
}

/* Interrupts of 32-bit code: each handler says its vector and ends its interrupt. */
static void write_guest(vc_vm *vm)
{
    static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    static const uint8_t code[] = {
        0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, /* the EOI that is due */
        0xfb, 0xf4, 0xeb, 0xfc,                         /* sti; hlt; again */
    };
    uint8_t lapic[] = {0x50, 0xb0, 0, 0xe6, 0x11, 0xc7, 0x05, 0xb0, 0x00,
                       0xe0, 0xfe, 0, 0,    0,    0,    0x58, 0xcf};
    uint8_t pic[] = {0x50, 0xb0, 0, 0xe6, 0x11, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
    for (unsigned v = 0x20; v < 256; v++) {
        uint64_t at = STUBS + 32 * v, gate = 0x00008e0000080000 | at;
        lapic[2] = pic[2] = (uint8_t)v;
        if (v < 0x30)
            works(vc_write(vm, at, pic, sizeof pic));
        else
            works(vc_write(vm, at, lapic, sizeof lapic));
        works(vc_write(vm, IDT + 8 * v, &gate, sizeof gate));
    }
    works(vc_write(vm, GDT, gdt, sizeof gdt));
    works(vc_write(vm, CODE, code, sizeof code));
}

/* In the service of 0x59, whose line is still high; 0x61 and the 8259's IRQ 1 wait. */
static void waiting(struct chips_state *st)
{
    memset(st, 0, sizeof *st);
    st->lines = BIT(9);
    st->pic[0] = (struct pic_state){
        .edges = BIT(1), .imr = 0xfd, .base = 0x20, .ready = true, .need_icw4 = true};
    st->pic[1] = (struct pic_state){.lines = BIT(1),
                                    .edges = BIT(1),
                                    .imr = 0xff,
                                    .base = 0x28,
                                    .ready = true,
                                    .need_icw4 = true};
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        st->ioapic.redir[i] = REDIR_MASKED;
    st->ioapic.redir[9] = REDIR_LEVEL | REDIR_REMOTE_IRR | 0x59;
    st->ioapic.pins = BIT(9);
    st->cpus = 3;
    for (unsigned i = 0; i < CPUS; i++) {
        struct lapic_state *l = &st->lapic[i];
        *l = (struct lapic_state){.base = PC_LAPIC_BASE | APIC_BASE_EN | (i ? 0 : APIC_BASE_BSP),
                                  .id = i,
                                  .dfr = 0xffffffff,
                                  .svr = 0x1ff};
        for (unsigned k = 0; k < LVT_COUNT; k++)
            l->lvt[k] = LVT_MASKED;
    }
    st->lapic[0].lvt[LVT_LINT0] = DM_EXTINT << 8;
    st->lapic[0].isr[0x59 / 32] = st->lapic[0].tmr[0x59 / 32] = BIT(0x59 % 32);
    st->lapic[0].irr[0x61 / 32] = BIT(0x61 % 32);
}

static vc_cpu *guest(vc_vm *vm)
{
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_FLAT32, CODE);
    cr_assert_not_null(cpu, "%s", vc_errmsg());
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0), "%s", vc_errmsg());
    works(vc_trap(vm, VC_SPACE_PORT, 0x11, 1, say, NULL));
    return cpu;
}

/* A handler of the guest's for 0x59 began on one machine; after `stop_at` of the four
 * interrupts that are to come it goes on with another. */
static void move(uint32_t from, uint32_t to, unsigned stop_at)
{
    struct chips_state *st = malloc(sizeof *st);
    uint8_t *ram = malloc(LEN);
    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g};
    struct vc_exit x = {.size = sizeof x};
    const struct vc_budget soon = {.size = sizeof soon, .ns = 10000000000},
                           calm = {.size = sizeof calm, .ns = 50000000};
    cr_assert(st && ram);
    vc_vm *a = machine(from), *b = machine(to);
    vc_cpu *ca = guest(a), *cb = guest(b);
    said = (struct said){.vm = a, .stop_at = stop_at};
    write_guest(a);
    works(vc_sregs_get(ca, &s));
    s.gdt_base = GDT, s.gdt_limit = 23;
    s.idt_base = IDT, s.idt_limit = 8 * 256 - 1;
    works(vc_sregs_set(ca, &s));
    works(vc_reg_set(ca, VC_REG_RSP, 0x9000));
    waiting(st);
    works(irqchip_state(a->irq, true, st));
    if (stop_at) {
        works(vc_run(ca, &soon, &x));
        cr_assert_eq(x.kind, VC_EXIT_KICK, "from %u: exit %u after %u", from, x.kind, said.all);
    }

    works(vc_read(a, 0, ram, LEN));
    works(vc_write(b, 0, ram, LEN));
    works(vc_sregs_get(ca, &s));
    works(vc_gprs_get(ca, &g));
    works(irqchip_state(a->irq, false, st));
    works(vc_sregs_set(cb, &s));
    works(vc_gprs_set(cb, &g));
    works(irqchip_state(b->irq, true, st));
    said.vm = b;
    said.stop_at = 4;
    if (said.all < 4) {
        works(vc_run(cb, &soon, &x));
        cr_assert_eq(x.kind, VC_EXIT_KICK, "to %u: exit %u after %u", to, x.kind, said.all);
    }
    works(vc_run(cb, &calm, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET, "to %u: exit %u", to, x.kind);
    cr_assert_eq(said.all, 4, "from %u to %u after %u: %u", from, to, stop_at, said.all);
    cr_assert(said.at[0x59] == 2 && said.at[0x61] == 1 && said.at[0x21] == 1);
    works(vc_close(b));
    works(vc_close(a));
    free(ram);
    free(st);
}

Test(chips, a_guest_moves)
{
    uint32_t kind[3];
    unsigned n = kinds(kind);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            for (unsigned stop_at = 0; stop_at <= 4; stop_at += 2)
                move(kind[i], kind[k], stop_at);
}
