/* SPDX-License-Identifier: MIT
 * The public API and bad input: traps, devices, interrupts, the PC. */
#include "api.h"
#include <stdlib.h>

static int count(void *ud, struct vc_access *a)
{
    ++*(int *)ud;
    a->data = 0x5a;
    return 0;
}

/* ---- traps --------------------------------------------------------------------- */

Test(api_dev, trap_arguments)
{
    vc_vm *vm = open_vm();
    int n = 0;
    fails(vc_trap(vm, VC_SPACE_PORT, 0, 1, NULL, &n), VC_EINVAL);
    fails(vc_trap(vm, (enum vc_space)4, 0, 1, count, &n), VC_EINVAL);
    fails(vc_trap(vm, VC_SPACE_PORT_BATCH, 0xffff, 2, count, &n), VC_ERANGE);
    fails(vc_trap(vm, VC_SPACE_PORT, 0x10, 0, count, &n), VC_ERANGE);
    fails(vc_trap(vm, VC_SPACE_PORT, 0xffff, 2, count, &n), VC_ERANGE);
    fails(vc_trap(vm, VC_SPACE_MMIO, UINT64_MAX - 1, 4, count, &n), VC_ERANGE);
    int id = vc_trap(vm, VC_SPACE_PORT, 0x10, 4, count, &n);
    works(id);
    fails(vc_trap(vm, VC_SPACE_PORT, 0x13, 1, count, &n), VC_EEXIST);
    fails(vc_untrap(vm, id + 1), VC_ENOENT);
    works(vc_untrap(vm, id));
    fails(vc_untrap(vm, id), VC_ENOENT);
    works(vc_trap(vm, VC_SPACE_PORT, 0x13, 1, count, &n));
    works(vc_close(vm));
}

Test(api_dev, traps_and_memory)
{
    vc_vm *vm = open_vm();
    int n = 0;
    works(vc_map(vm, 0x10000, 0x4000, VC_MEM_RWX));
    fails(vc_trap(vm, VC_SPACE_MMIO, 0x10010, 4, count, &n), VC_ERANGE);
    works(vc_trap(vm, VC_SPACE_MMIO, 0x20010, 4, count, &n));
    fails(vc_map(vm, 0x20000, 0x1000, VC_MEM_RWX), VC_EEXIST);
    /* Whole pages: before or after the RAM there. */
    works(vc_trap(vm, VC_SPACE_MMIO, 0x11000, 0x1000, count, &n));
    works(vc_trap(vm, VC_SPACE_MMIO, 0x31000, 0x1000, count, &n));
    works(vc_map(vm, 0x30000, 0x4000, VC_MEM_RWX));
    works(vc_write(vm, 0x10000, "x", 1));
    fails(vc_write(vm, 0x31000, "x", 1), VC_EFAULT);
    works(vc_close(vm));
}

/* What batched traps and one that is not saw. */
struct batch {
    unsigned n, wrong, at_other;
    int rc;
};

static int batched(void *ud, struct vc_access *a)
{
    struct batch *b = ud;
    uint32_t value = 500 - b->n / 2;
    if (b->n < 1000)
        b->wrong += b->n & 1 ? a->addr != 0x20000000 || a->len != 4 || a->data != value
                             : a->addr != 0x20 || a->len != 1 || a->data != (value & 0xff);
    b->n++;
    return b->rc;
}

static int other(void *ud, struct vc_access *a)
{
    struct batch *b = ud;
    (void)a;
    b->at_other = b->n;
    return 0;
}

/* More than KVM's ring has room for; in their order, before another access is told, and
 * before the run ends. */
Test(api_dev, batched_traps)
{
    static const uint8_t code[] = {
        0xb9, 0xf4, 0x01, 0x00, 0x00, /* mov ecx, 500 */
        0xbf, 0x00, 0x00, 0x00, 0x20, /* mov edi, 0x20000000 */
        0x89, 0xc8,                   /* again: mov eax, ecx */
        0xe6, 0x20,                   /* out 0x20, al */
        0x89, 0x0f,                   /* mov [rdi], ecx */
        0xff, 0xc9,                   /* dec ecx */
        0x75, 0xf6,                   /* jnz again */
        0xe6, 0x30,                   /* out 0x30, al */
        0xe6, 0x20,                   /* out 0x20, al */
        0xeb, 0xfe,                   /* jmp $ */
    };
    vc_vm *vm = open_vm();
    struct batch b = {0};
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    int id = vc_trap(vm, VC_SPACE_PORT_BATCH, 0x20, 1, batched, &b);
    works(id);
    fails(vc_trap(vm, VC_SPACE_PORT, 0x20, 1, other, &b), VC_EEXIST);
    works(vc_trap(vm, VC_SPACE_MMIO_BATCH, 0x20000000, 4, batched, &b));
    works(vc_trap(vm, VC_SPACE_PORT, 0x30, 1, other, &b));
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget soon = {.size = sizeof soon, .ns = 20000000};
    do
        works(vc_run(cpu, &soon, &x));
    while (b.n < 1001);
    cr_expect_eq(b.at_other, 1000);
    cr_expect_eq(b.wrong, 0);
    struct vc_stats s = {.size = sizeof s};
    works(vc_cpu_stats(cpu, &s));
    cr_expect_eq(s.port_exits + s.mmio_exits, 1002);
    b.rc = VC_EIO;
    works(vc_reg_set(cpu, VC_REG_RIP, CODE + sizeof code - 4));
    fails(vc_run(cpu, &soon, &x), VC_ECALLBACK);
    b.rc = 0;
    works(vc_untrap(vm, id));
    works(vc_reg_set(cpu, VC_REG_RIP, CODE + sizeof code - 4));
    works(vc_run(cpu, NULL, &x)); /* now it is the embedder's, at once */
    cr_expect_eq(x.kind, VC_EXIT_PORT);
    works(vc_close(vm));
}

Test(api_dev, trap_over_code_that_ran)
{
    /* mov al, [0x8000]; out 0x10, al; jmp back */
    static const uint8_t code[] = {0x8a, 0x04, 0x25, 0x00, 0x80, 0, 0, 0xe6, 0x10, 0xeb, 0xf5};
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    int n = 0;
    struct vc_exit x = {.size = sizeof x};
    works(vc_write(vm, 0x8000, "\x11", 1));
    for (int i = 0; i < 3; i++) {
        works(vc_run(cpu, NULL, &x));
        cr_assert_eq(x.u.port.data & 0xff, 0x11);
    }
    int id = vc_trap(vm, VC_SPACE_MMIO, 0x8000, 0x1000, count, &n);
    works(id);
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.u.port.data & 0xff, 0x5a);
    cr_assert_eq(n, 1);
    works(vc_untrap(vm, id));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.u.port.data & 0xff, 0x11);
    int ports = 0;
    works(vc_trap(vm, VC_SPACE_PORT, 0x10, 1, count, &ports));
    struct vc_budget b = little(300);
    do {
        works(vc_run(cpu, &b, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    } while (ports < 99 && !b.insns); /* what a time suffices for nobody knows */
    cr_assert_geq(ports, 99);
    works(vc_close(vm));
}

static int fail_once(void *ud, struct vc_access *a)
{
    (void)a;
    return ++*(int *)ud == 1 ? -77 : 0;
}

Test(api_dev, handler_that_fails_ends_the_run)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, out_out_hlt, sizeof out_out_hlt);
    int n = 0;
    works(vc_trap(vm, VC_SPACE_PORT, 0x10, 1, fail_once, &n));
    struct vc_exit x = {.size = sizeof x};
    fails(vc_run(cpu, NULL, &x), VC_ECALLBACK);
    works(vc_run(cpu, NULL, &x)); /* the instruction again, and on */
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_eq(n, 3);
    works(vc_close(vm));
}

struct self {
    vc_vm *vm;
    int id, calls;
};

static int remove_itself(void *ud, struct vc_access *a)
{
    struct self *s = ud;
    (void)a;
    s->calls++;
    cr_expect_eq(vc_untrap(s->vm, s->id), 0);
    cr_expect_eq(vc_untrap(s->vm, s->id), VC_ENOENT);
    return 0;
}

Test(api_dev, trap_that_removes_itself)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, out_out_hlt, sizeof out_out_hlt);
    struct self s = {.vm = vm};
    s.id = vc_trap(vm, VC_SPACE_PORT, 0x10, 1, remove_itself, &s);
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    cr_assert_eq(x.rip, CODE + 2);
    cr_assert_eq(s.calls, 1);
    works(vc_close(vm));
}

static int misuse(void *ud, struct vc_access *a)
{
    vc_vm *vm = ud;
    struct vc_exit x = {.size = sizeof x};
    cr_expect_eq(vc_run(a->cpu, NULL, &x), VC_EBUSY);
    cr_expect_eq(vc_close(vm), VC_EBUSY);
    cr_expect_eq(vc_cpu_free(a->cpu), VC_EBUSY);
    cr_expect_eq(vc_map(vm, 0x100000, 0x1000, VC_MEM_RWX), VC_EBUSY);
    cr_expect_eq(vc_write(vm, 0x8000, "ok", 2), 0);
    cr_expect_eq(vc_kick(a->cpu), 0);
    return 0;
}

Test(api_dev, handler_that_misuses_the_library, .timeout = 30)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, out_out_hlt, sizeof out_out_hlt);
    works(vc_trap(vm, VC_SPACE_PORT, 0x10, 1, misuse, vm));
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK);
    works(vc_close(vm));
}

/* ---- devices --------------------------------------------------------------------- */

struct device {
    vc_dev *handle;
    int calls, freed, resets;
};

static int device_access(void *ud, struct vc_access *a)
{
    struct device *d = ud;
    (void)a;
    d->calls++;
    return 0;
}

static int device_leaves(void *ud, struct vc_access *a)
{
    struct device *d = ud;
    (void)a;
    d->calls++;
    cr_expect_eq(vc_dev_detach(d->handle), 0);
    cr_expect_eq(d->freed, 0, "freed while its handler runs");
    return 0;
}

static void device_free(void *ud)
{
    ((struct device *)ud)->freed++;
}

static void device_reset(void *ud)
{
    ((struct device *)ud)->resets++;
}

static const struct vc_dev_ops ops = {.size = sizeof ops,
                                      .name = "device",
                                      .access = device_access,
                                      .reset = device_reset,
                                      .free = device_free};
static const struct vc_dev_ops leaving = {
    .size = sizeof leaving, .name = "leaving", .access = device_leaves, .free = device_free};
static const struct vc_dev_range ports[2] = {{.space = VC_SPACE_PORT, .base = 0x10, .len = 1},
                                             {.space = VC_SPACE_PORT, .base = 0x20, .len = 1}};
static const struct vc_dev_range twice[2] = {{.space = VC_SPACE_PORT, .base = 0x30, .len = 4},
                                             {.space = VC_SPACE_PORT, .base = 0x33, .len = 1}};

Test(api_dev, device_life)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, out_out_hlt, sizeof out_out_hlt);
    struct device d = {0};
    d.handle = vc_dev_attach(vm, &ops, ports, 2, &d);
    cr_assert_not_null(d.handle, "%s", vc_errmsg());
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(d.calls, 2);
    works(vc_dev_detach(d.handle));
    cr_assert_eq(d.freed, 1);
    int n = 0; /* both ranges are free again */
    works(vc_trap(vm, VC_SPACE_PORT, 0, 0x10000, count, &n));
    works(vc_close(vm));
    cr_assert_eq(d.freed, 1);
}

Test(api_dev, attach_frees_on_failure)
{
    vc_vm *vm = open_vm();
    struct device d = {0};
    refused(vc_dev_attach(vm, &ops, twice, 2, &d), VC_EEXIST);
    cr_assert_eq(d.freed, 1);
    refused(vc_dev_attach(vm, &ops, NULL, 0, &d), VC_EINVAL);
    cr_assert_eq(d.freed, 2);
    refused(vc_dev_attach(NULL, &ops, ports, 2, &d), VC_EINVAL);
    cr_assert_eq(d.freed, 3);
    refused(vc_dev_attach(vm, NULL, ports, 2, &d), VC_EINVAL);
    int n = 0;
    works(vc_trap(vm, VC_SPACE_PORT, 0, 0x10000, count, &n));
    works(vc_close(vm));
}

Test(api_dev, device_that_detaches_itself)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, out_out_hlt, sizeof out_out_hlt);
    struct device d = {0};
    d.handle = vc_dev_attach(vm, &leaving, ports, 2, &d);
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    cr_assert_eq(d.calls, 1);
    cr_assert_eq(d.freed, 1);
    works(vc_close(vm));
    cr_assert_eq(d.freed, 1);
}

Test(api_dev, close_frees_devices)
{
    vc_vm *vm = open_vm();
    struct device d = {0};
    cr_assert_not_null(vc_dev_attach(vm, &ops, ports, 2, &d));
    works(vc_close(vm));
    cr_assert_eq(d.freed, 1);
}

Test(api_dev, detach_while_another_thread_is_inside, .timeout = 30)
{
    /* out 0x10, al; jmp back */
    static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc};
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    struct device *d = calloc(1, sizeof *d);
    d->handle = vc_dev_attach(vm, &ops, ports, 1, d);
    struct runner r = {.cpu = cpu};
    pthread_create(&r.thread, NULL, runner_main, &r);
    usleep(20000);
    works(vc_dev_detach(d->handle));
    free(d); /* no handler uses it any more */
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.exit.kind, VC_EXIT_PORT);
    works(vc_close(vm));
}

/* A page that is RAM and a device in turn, while a vCPU reads it, and writes its own code's. */
Test(api_dev, map_changes_under_a_vcpu, .timeout = 60)
{
    static const uint8_t code[] = {
        0x48, 0x8b, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* again: mov rax, [0x8000] */
        0xff, 0x04, 0x25, 0x00, 0x90, 0x00, 0x00,       /* inc dword [0x9000] */
        0xff, 0x04, 0x25, 0x00, 0x1f, 0x00, 0x00,       /* inc dword [0x1f00] */
        0xeb, 0xe8,                                     /* jmp again */
    };
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    struct runner r;
    uint32_t at[2] = {0};
    int n = 0;
    runner_start(&r, cpu);
    for (unsigned i = 0; i < 300; i++) {
        int id = vc_trap(vm, VC_SPACE_MMIO, 0x8000, 0x1000, count, &n);
        works(id);
        if (i % 50 == 0)
            usleep(2000);
        works(vc_untrap(vm, id));
    }
    while (!at[0]) /* a busy host may not have come to it */
        works(vc_read(vm, 0x9000, &at[0], 4));
    runner_stop(&r);
    works(vc_read(vm, 0x9000, &at[0], 4));
    works(vc_read(vm, 0x1f00, &at[1], 4));
    cr_expect_leq(at[0] - at[1], 1);
    works(vc_close(vm));
}

/* ---- hypercalls ------------------------------------------------------------------------ */

static int add_args(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    (void)ud, (void)cpu;
    *ret = nr + args[0] + args[1];
    return 0;
}

Test(api_dev, hypercalls)
{
    static const uint8_t code[] = {0x0f, 0x01, 0xc1, 0xf4}; /* vmcall; hlt */
    if (!can(VC_FEAT_HCALL))
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    works(vc_hcall_set(vm, add_args, NULL));
    works(vc_reg_set(cpu, VC_REG_RAX, 100));
    works(vc_reg_set(cpu, VC_REG_RDI, 20));
    works(vc_reg_set(cpu, VC_REG_RSI, 3));
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    uint64_t v;
    works(vc_reg_get(cpu, VC_REG_RAX, &v));
    cr_assert_eq(v, 123);
    works(vc_close(vm));
}

/* ---- the PC ------------------------------------------------------------------------------ */

Test(api_dev, without_a_platform)
{
    vc_vm *vm = open_vm();
    fails(vc_irq_line(vm, 1, 1), VC_ENOTSUP);
    fails(vc_irq_line(vm, 24, 1), VC_ERANGE);
    fails(vc_msi(vm, 0xfee00000, 0x20), VC_ENOTSUP);
    fails(vc_serial_in(vm, "x", 1), VC_ENOTSUP);
    fails(vc_serial_wait(vm, 0), VC_ENOTSUP);
    struct vc_boot_opts b = {.size = sizeof b, .kernel = "x", .kernel_len = 1};
    fails(vc_boot(vm, &b), VC_ENOTSUP);
    works(vc_close(vm));
}

Test(api_dev, pc_arguments)
{
    struct vc_vm_opts vo = {.size = sizeof vo, .max_cpus = 4, .mem_quota = 64u << 20};
    vc_vm *vm = vc_open(tested(), &vo);
    struct vc_pc_opts o = {.size = sizeof o, .ram = 0, .cpus = 1};
    fails(vc_pc(vm, &o), VC_ERANGE);
    o.ram = (16u << 20) + 1;
    fails(vc_pc(vm, &o), VC_ERANGE);
    o.ram = 1ull << 50;
    fails(vc_pc(vm, &o), VC_ERANGE);
    o.ram = 128u << 20;
    fails(vc_pc(vm, &o), VC_ELIMIT);
    o.ram = 16u << 20;
    o.cpus = 0;
    fails(vc_pc(vm, &o), VC_ELIMIT);
    o.cpus = 5;
    fails(vc_pc(vm, &o), VC_ELIMIT);
    o.cpus = 2;
    o.flags = 0x80000000;
    fails(vc_pc(vm, &o), VC_EINVAL);
    o.flags = 0;
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_RESET, 0);
    fails(vc_pc(vm, &o), VC_ESTATE);
    works(vc_cpu_free(cpu));
    works(vc_pc(vm, &o));
    fails(vc_pc(vm, &o), VC_ESTATE);
    fails(vc_map(vm, 0xfee00000, 0x1000, VC_MEM_RWX), VC_EEXIST);
    struct vc_boot_opts b = {.size = sizeof b, .kernel = "x", .kernel_len = 1};
    fails(vc_boot(vm, &b), VC_ESTATE);
    cpu = vc_cpu_new(vm, VC_MODE_RESET, 0);
    fails(vc_boot(vm, &b), VC_EFORMAT);
    b.kernel_len = 0;
    fails(vc_boot(vm, &b), VC_EINVAL);
    fails(vc_inject_irq(cpu, 0x20), VC_ENOTSUP);
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0));
    refused(vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0), VC_ELIMIT);
    works(vc_close(vm));
}

Test(api_dev, power_ends_every_vcpu, .timeout = 60)
{
    /* mov al, 3; out 0xf4, al (isa-debug-exit), at the image's start */
    static uint8_t image[4096] = {0xb0, 3, 0xe6, 0xf4, 0xeb, 0xfe};
    vc_vm *vm = open_vm();
    struct vc_pc_opts o = {.size = sizeof o, .ram = 16u << 20, .cpus = 2};
    works(vc_pc(vm, &o));
    vc_cpu *a = vc_cpu_new(vm, VC_MODE_RESET, 0), *b = vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0);
    struct device d = {0};
    cr_assert_not_null(
        vc_dev_attach(vm, &ops, &(struct vc_dev_range){.base = 0x3000, .len = 1}, 1, &d), "%s",
        vc_errmsg());
    struct vc_boot_opts boot = {
        .size = sizeof boot, .kind = VC_IMAGE_FLAT, .kernel = image, .kernel_len = sizeof image};
    works(vc_boot(vm, &boot));
    cr_assert_eq(d.resets, 1);
    struct runner r;
    runner_start(&r, b);
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(a, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_POWER);
    cr_assert_eq(x.u.power.kind, VC_POWER_EXIT);
    cr_assert_eq(x.u.power.code, 7);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.exit.kind, VC_EXIT_POWER);
    cr_assert_eq(vc_serial_wait(vm, -1), 0);
    works(vc_run(a, NULL, &x)); /* it stays down */
    cr_assert_eq(x.kind, VC_EXIT_POWER);
    works(vc_close(vm));
}
