/* SPDX-License-Identifier: MIT
 * Budgets, kicks, single steps, injected events, triple faults.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

static const uint8_t spin[] = {
    0xeb, 0xfe, /* 1000: jmp 1000 */
};
static const uint8_t count[] = {
    0x48, 0xff, 0xc0, /* 1000: inc %rax */
    0xeb, 0xfb,       /* 1003: jmp 1000 */
};
static const uint8_t nops[] = {
    0xff, 0xc0, /* 1000: inc %eax */
    0xff, 0xc0, /* 1002: inc %eax */
    0xff, 0xc0, /* 1004: inc %eax */
    0xff, 0xc0, /* 1006: inc %eax */
    0xf4,       /* 1008: hlt */
};
static const uint8_t irq_window[] = {
    0xfa,                         /* 1000: cli */
    0xb8, 0x01, 0x00, 0x00, 0x00, /* 1001: mov $0x1,%eax */
    0xe4, 0x10,                   /* 1006: in $0x10,%al */
    0xfb,                         /* 1008: sti */
    0xb8, 0x02, 0x00, 0x00, 0x00, /* 1009: mov $0x2,%eax */
    0xb8, 0x03, 0x00, 0x00, 0x00, /* 100e: mov $0x3,%eax */
    0xf4,                         /* 1013: hlt */
};
static const uint8_t irq_handler[] = {
    0xff, 0xc3, /* 2000: inc %ebx */
    0x48, 0xcf, /* 2002: iretq */
};
static const uint8_t nmi[] = {
    0xe4, 0x10, /* 1000: in $0x10,%al */
    0xff, 0xc6, /* 1002: inc %esi */
    0xf4,       /* 1004: hlt */
};
static const uint8_t nmi_handler[] = {
    0xe4, 0x11, /* 2000: in $0x11,%al */
    0xff, 0xc3, /* 2002: inc %ebx */
    0x48, 0xcf, /* 2004: iretq */
};
static const uint8_t step_two[] = {
    0xb8, 0x01, 0x00, 0x00, 0x00, /* 1000: mov $0x1,%eax */
    0xbb, 0x02, 0x00, 0x00, 0x00, /* 1005: mov $0x2,%ebx */
    0xf4,                         /* 100a: hlt */
};
static const uint8_t ud2[] = {
    0x0f, 0x0b, /* 1000: ud2 */
};
static const uint8_t ud2_16[] = {
    0x0f, 0x0b, /* 1000: ud2 */
};
static const uint8_t lidt_ud2[] = {
    0x0f, 0x01, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1000: lidt 0x8000 */
    0x0f, 0x0b,                                     /* 1008: ud2 */
};
static const uint8_t bad_cr3[] = {
    0xb8, 0x00, 0x70, 0x00, 0x00, /* 1000: mov $0x7000,%eax */
    0x0f, 0x22, 0xd8,             /* 1005: mov %rax,%cr3 */
    0x90,                         /* 1008: nop */
};
static const uint8_t bad_stack[] = {
    0xbc, 0x00, 0xa8, 0x00, 0x00, /* 1000: mov $0xa800,%esp */
    0x0f, 0x0b,                   /* 1005: ud2 */
};
static const uint8_t halt[] = {
    0xfb,       /* 1000: sti */
    0xf4,       /* 1001: hlt */
    0xff, 0xc0, /* 1002: inc %eax */
    0xf4,       /* 1004: hlt */
};

static void want_exit(struct rig *r, uint32_t kind)
{
    const struct want w = {.kind = kind};
    rig_want(r, &w);
}

/* ---- budgets and kicks -------------------------------------------------------------- */

static void check_budget(struct rig *r)
{
    for (uint64_t n = 1; n <= 4; n++) {
        if (!rig_run(r, 1))
            return;
        want_exit(r, VC_EXIT_BUDGET);
        rig_want_reg(r, VC_REG_RAX, n);
        rig_want_reg(r, VC_REG_RIP, 0x1000 + 2 * n);
    }
    if (rig_run(r, 100))
        want_exit(r, VC_EXIT_HLT);
}

static void check_budget_exact(struct rig *r)
{
    static const uint64_t budgets[] = {1, 2, 63, 64, 65, 1000, 100001, 1000000};
    uint64_t total = 0;
    for (unsigned i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        total += budgets[i];
        if (!rig_run(r, budgets[i]))
            return;
        want_exit(r, VC_EXIT_BUDGET);
        rig_want_reg(r, VC_REG_RAX, (total + 1) / 2);
    }
    struct vc_stats stats = {.size = sizeof stats};
    if (vc_cpu_stats(r->cpu, &stats) != 0 || stats.insns != total)
        rig_fail(r, "%llu instructions counted, not %llu", (unsigned long long)stats.insns,
                 (unsigned long long)total);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void check_time(struct rig *r)
{
    struct vc_budget budget = {.size = sizeof budget, .ns = 30000000};
    uint64_t t0 = now_ns();
    if (vc_run(r->cpu, &budget, &r->exit) != 0)
        rig_fail(r, "vc_run: %s", vc_errmsg());
    uint64_t ns = now_ns() - t0;
    want_exit(r, VC_EXIT_BUDGET);
    if (ns < 30000000 || ns > 3000000000ull)
        rig_fail(r, "a budget of 30 ms took %llu us", (unsigned long long)ns / 1000);
}

static void check_kick_before(struct rig *r)
{
    if (vc_kick(r->cpu) != 0 || vc_kick(r->cpu) != 0)
        rig_fail(r, "vc_kick: %s", vc_errmsg());
    if (!rig_run(r, 0))
        return;
    want_exit(r, VC_EXIT_KICK);
    /* Both kicks were for the call that came back. */
    if (rig_run(r, 1000))
        want_exit(r, VC_EXIT_BUDGET);
}

static void *kick_later(void *ud)
{
    struct timespec ts = {0, 20000000};
    nanosleep(&ts, NULL);
    vc_kick(ud);
    return NULL;
}

static void check_kick(struct rig *r)
{
    for (unsigned i = 0; i < 5; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, kick_later, r->cpu) != 0) {
            rig_fail(r, "no thread");
            return;
        }
        bool ok = rig_run(r, 0);
        pthread_join(thread, NULL);
        if (!ok)
            return;
        want_exit(r, VC_EXIT_KICK);
    }
}

static vc_cpu *alarm_cpu;
static void on_alarm(int sig)
{
    (void)sig;
    vc_kick(alarm_cpu);
}

static void check_kick_signal(struct rig *r)
{
    struct sigaction sa = {.sa_handler = on_alarm}, old;
    struct itimerval timer = {.it_value = {0, 20000}};
    alarm_cpu = r->cpu;
    sigaction(SIGALRM, &sa, &old);
    setitimer(ITIMER_REAL, &timer, NULL);
    if (rig_run(r, 0))
        want_exit(r, VC_EXIT_KICK);
    sigaction(SIGALRM, &old, NULL);
}

static void check_step(struct rig *r)
{
    if (vc_single_step(r->cpu, 1) != 0)
        rig_fail(r, "vc_single_step: %s", vc_errmsg());
    if (!rig_run(r, 0))
        return;
    want_exit(r, VC_EXIT_DEBUG);
    rig_want_reg(r, VC_REG_RIP, 0x1005);
    rig_want_reg(r, VC_REG_RAX, 1);
    rig_want_reg(r, VC_REG_RBX, 0);
    if (!rig_run(r, 0))
        return;
    want_exit(r, VC_EXIT_DEBUG);
    rig_want_reg(r, VC_REG_RIP, 0x100a);
    rig_want_reg(r, VC_REG_RFLAGS, 2);
    vc_single_step(r->cpu, 0);
    if (rig_run(r, 0))
        want_exit(r, VC_EXIT_HLT);
}

/* ---- injected events ------------------------------------------------------------------ */

static void check_irq(struct rig *r)
{
    static const struct want in = PORT_IN(0x10, 1, 1);
    rig_gate(r, 0x30, 0x2000, 0);
    if (!rig_run(r, 0) || !rig_want(r, &in))
        return;
    if (vc_inject_irq(r->cpu, 0x30) != 0)
        rig_fail(r, "vc_inject_irq: %s", vc_errmsg());
    if (vc_inject_irq(r->cpu, 0x31) != VC_EBUSY)
        rig_fail(r, "a second interrupt may wait");
    vc_errclear();
    if (rig_run(r, 0))
        want_exit(r, VC_EXIT_HLT);
    rig_want_reg(r, VC_REG_RBX, 1);
    rig_want_reg(r, VC_REG_RAX, 3);
    /* STI holds it off for one instruction: it came before the second MOV. */
    uint64_t saved = rig_get(r, K_START_SP - 40, 8);
    if (saved != 0x100e)
        rig_fail(r, "interrupted at %#llx, not 0x100e", (unsigned long long)saved);
}

/* An NMI inside the handler of one waits for its IRET. */
static void check_nmi(struct rig *r)
{
    static const struct want in = PORT_IN(0x10, 1, 0), inside = PORT_IN(0x11, 1, 0);
    rig_gate(r, E_NMI, 0x2000, 0);
    if (!rig_run(r, 0) || !rig_want(r, &in) || vc_inject_nmi(r->cpu) != 0 || !rig_run(r, 0) ||
        !rig_want(r, &inside)) {
        rig_fail(r, "no NMI");
        return;
    }
    rig_want_reg(r, VC_REG_RBX, 0);
    vc_inject_nmi(r->cpu);
    if (!rig_run(r, 0) || !rig_want(r, &inside))
        return;
    rig_want_reg(r, VC_REG_RBX, 1);
    rig_want_reg(r, VC_REG_RSI, 0);
    if (rig_run(r, 0))
        want_exit(r, VC_EXIT_HLT);
    rig_want_reg(r, VC_REG_RBX, 2);
    rig_want_reg(r, VC_REG_RSI, 1);
}

static void check_exception(struct rig *r)
{
    if (vc_inject_exception(r->cpu, E_PF, 6, 0x123456789000) != 0)
        rig_fail(r, "vc_inject_exception: %s", vc_errmsg());
    if (!rig_run(r, 0))
        return;
    rig_want_exception(r, E_PF, 6, 0x1000);
    rig_want_reg(r, VC_REG_CR2, 0x123456789000);
}

static void *irq_later(void *ud)
{
    struct timespec ts = {0, 20000000};
    nanosleep(&ts, NULL);
    vc_inject_irq(ud, 0x30);
    return NULL;
}

/* HLT without anything that could wake it is an exit; the run then goes on. */
static void check_halt(struct rig *r)
{
    rig_gate(r, 0x30, 0x2000, 0);
    if (!rig_run(r, 0))
        return;
    want_exit(r, VC_EXIT_HLT);
    rig_want_reg(r, VC_REG_RIP, 0x1002);
    irq_later(r->cpu);
    if (!rig_run(r, 0))
        return;
    want_exit(r, VC_EXIT_HLT);
    rig_want_reg(r, VC_REG_RBX, 1);
    rig_want_reg(r, VC_REG_RAX, 1);
}

/* ---- triple faults -------------------------------------------------------------------- */

static void no_idt(struct rig *r)
{
    struct vc_sregs s;
    rig_sregs(r, false, &s);
    s.idt_limit = 0;
    rig_sregs(r, true, &s);
}

static void no_ist(struct rig *r)
{
    rig_put(r, K_IDT + 16 * E_DF + 4, 0, 1);
}

static void null_gates(struct rig *r)
{
    for (unsigned v = 0; v < 32; v++)
        rig_put(r, K_IDT + 16 * v + 2, 0, 2);
}

static void bad_rsp0(struct rig *r)
{
    rig_put(r, K_TSS + 4, 0x800000000000, 8);
    rig_put(r, K_TSS + 0x24, 0x800000000000, 8);
}

static void absent_gates(struct rig *r)
{
    for (unsigned v = 0; v < 32; v++)
        rig_put(r, K_IDT + 16 * v + 5, 0x0e, 1);
}

#define KIT     .kit = KIT_LONG
#define OWN(fn) .ending = END_OWN, .check = fn

static const struct snippet list[] = {
    {.name = "budget: one instruction at a time",
     KIT,
     .needs = VC_FEAT_BUDGET_INSNS,
     .parts = {CODE(0x1000, nops)},
     OWN(check_budget)},
    {.name = "budget: exact in a loop",
     KIT,
     .needs = VC_FEAT_BUDGET_INSNS,
     .parts = {CODE(0x1000, count)},
     OWN(check_budget_exact)},
    {.name = "budget: time",
     KIT,
     .needs = VC_FEAT_BUDGET_NS,
     .parts = {CODE(0x1000, spin)},
     OWN(check_time)},
    {.name = "kick: before the run, twice",
     KIT,
     .needs = VC_FEAT_BUDGET_INSNS,
     .parts = {CODE(0x1000, spin)},
     OWN(check_kick_before)},
    {.name = "kick: from another thread", KIT, .parts = {CODE(0x1000, spin)}, OWN(check_kick)},
    {.name = "kick: from a signal handler",
     KIT,
     .parts = {CODE(0x1000, spin)},
     OWN(check_kick_signal)},
    {.name = "step: two instructions",
     KIT,
     .needs = VC_FEAT_SINGLE_STEP,
     .parts = {CODE(0x1000, step_two)},
     OWN(check_step)},
    {.name = "inject: an interrupt waits for STI and one more",
     KIT,
     .parts = {CODE(0x1000, irq_window), CODE(0x2000, irq_handler)},
     OWN(check_irq)},
    {.name = "inject: NMIs do not nest",
     KIT,
     .parts = {CODE(0x1000, nmi), CODE(0x2000, nmi_handler)},
     OWN(check_nmi)},
    {.name = "inject: a page fault", KIT, .parts = {CODE(0x1000, nops)}, OWN(check_exception)},
    {.name = "HLT, and an interrupt later",
     KIT,
     .parts = {CODE(0x1000, halt), CODE(0x2000, irq_handler)},
     OWN(check_halt)},
    {.name = "triple fault: LIDT of nothing",
     KIT,
     .parts = {CODE(0x1000, lidt_ud2)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: no IDT, real mode",
     .kit = KIT_REAL,
     .prepare = no_idt,
     .parts = {CODE(0x1000, ud2_16)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: no page tables",
     KIT,
     .parts = {CODE(0x1000, bad_cr3)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: no stack",
     KIT,
     .prepare = no_ist,
     .parts = {CODE(0x1000, bad_stack)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: gates without a code segment",
     KIT,
     .prepare = null_gates,
     .parts = {CODE(0x1000, ud2)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: gates that are absent",
     KIT,
     .prepare = absent_gates,
     .parts = {CODE(0x1000, ud2)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: non-canonical inner stacks",
     .kit = KIT_LONG,
     .user = true,
     .prepare = bad_rsp0,
     .parts = {CODE(0x1000, ud2)},
     .ending = END_SHUTDOWN},
};
const struct snippets control = SNIPPETS(list);
