/* SPDX-License-Identifier: MIT
 * What firmware would leave: a real-mode program that knows nothing of interrupts
 * lets them in and waits. Run on a whole machine. */
#include "api.h"

#define CODE16 0x7c00ull

struct machine {
    vc_vm *vm;
    vc_cpu *cpu;
    struct vc_exit exit;
};

static uint32_t get32(vc_vm *vm, uint64_t gpa)
{
    uint32_t v = 0;
    works(vc_read(vm, gpa, &v, sizeof v));
    return v;
}

/* A multiboot image of a few bytes, which is what brings the devices up. */
static void boot(struct machine *m)
{
    const uint32_t image[] = {0x1badb002, 0x10000,  0u - 0x1badb002u - 0x10000u,
                              0x100000,   0x100000, 0x100024,
                              0,          0x100020, 0xf4};
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 2 << 20, .cpus = 1};
    struct vc_boot_opts opts = {.size = sizeof opts, .kernel = image, .kernel_len = sizeof image};
    m->vm = open_vm();
    works(vc_pc(m->vm, &pc));
    m->cpu = vc_cpu_new(m->vm, VC_MODE_REAL16, CODE16);
    cr_assert_not_null(m->cpu, "%s", vc_errmsg());
    works(vc_boot(m->vm, &opts));
    m->exit = (struct vc_exit){.size = sizeof m->exit};
}

/* 16-bit code with a stack; it ends by a write to the exit port. */
static void run16(struct machine *m, const void *code, size_t len)
{
    const struct vc_segment seg = {.limit = 0xffff, .attr = 0x93};
    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g, .rip = CODE16, .rflags = 2, .gpr[4] = 0x7000};
    struct vc_budget budget = {.size = sizeof budget, .ns = 20000000000ull};
    works(vc_sregs_get(m->cpu, &s));
    s.cs = s.ds = s.es = s.fs = s.gs = s.ss = seg;
    s.cs.attr = 0x9b;
    s.cr0 &= ~1ull;
    s.idt_base = 0;
    s.idt_limit = 0x3ff;
    works(vc_sregs_set(m->cpu, &s));
    works(vc_gprs_set(m->cpu, &g));
    works(vc_write(m->vm, CODE16, code, len));
    works(vc_run(m->cpu, &budget, &m->exit));
}

Test(firmware, sti_hlt_wakes_up, .timeout = 60)
{
    static const uint8_t code[] = {
        0xfb, 0xf4, 0xf4, 0xfa,             /* sti; hlt; hlt; cli */
        0x31, 0xc0, 0xe6, 0xf4, 0xeb, 0xfe, /* xor ax, ax; out f4h, al; jmp $ */
    };
    struct machine m;
    boot(&m);
    cr_expect_eq(get32(m.vm, 0x46c), 0);
    run16(&m, code, sizeof code);
    cr_expect_eq(m.exit.kind, VC_EXIT_POWER);
    cr_expect_geq(get32(m.vm, 0x46c), 2);
    works(vc_close(m.vm));
}

/* The tick handler at midnight, user hook included, and the plain ones. */
Test(firmware, handlers, .timeout = 60)
{
    static const uint8_t code[] = {
        0xb8, 0x34, 0x12,                   /*     mov ax, 1234h */
        0xcd, 0x08, 0xcd, 0x08,             /*     int 8; int 8 */
        0xcd, 0x0d, 0xcd, 0x70, 0xcd, 0x13, /*     int 0dh; int 70h; int 13h */
        0xa3, 0x00, 0x06,                   /*     mov [600h], ax */
        0xe6, 0xf4, 0xeb, 0xfe,             /*     out f4h, al; jmp $ */
    };
    static const uint8_t hook[] = {0x2e, 0xff, 0x06,
                                   0x04, 0x06, 0xcf}; /* inc word [cs:604h]; iret */
    const uint32_t last_tick = 0x1800ae, zero = 0, to_hook = 0x0610;
    struct machine m;
    boot(&m);
    works(vc_write(m.vm, 0x46c, &last_tick, 4));
    works(vc_write(m.vm, 0x604, &zero, 4));
    works(vc_write(m.vm, 0x610, hook, sizeof hook));
    works(vc_write(m.vm, 0x1c * 4, &to_hook, 4));
    run16(&m, code, sizeof code);
    cr_expect_eq(m.exit.kind, VC_EXIT_POWER);
    cr_expect_eq(get32(m.vm, 0x600) & 0xffff, 0x1234);
    cr_expect_eq(get32(m.vm, 0x604), 2);
    cr_expect_eq(get32(m.vm, 0x46c), 0);
    cr_expect_eq(get32(m.vm, 0x470) & 0xff, 1);
    works(vc_close(m.vm));
}
