/* SPDX-License-Identifier: MIT
 * The public API and bad input: partitions, memory, vCPUs, running. */
#include "api.h"
#include <stdlib.h>
#include <sys/mman.h>

/* ---- errors, probing, opening -------------------------------------------------- */

Test(api, names)
{
    cr_assert_str_eq(vc_version(), "0.1.0");
    cr_assert_str_eq(vc_errname(VC_EINVAL), "VC_EINVAL");
    cr_assert_str_eq(vc_errname(VC_EINTERNAL), "VC_EINTERNAL");
    cr_assert_str_eq(vc_errname(VC_EKICKED), "VC_EKICKED");
    cr_assert_str_eq(vc_errname(-17), "unknown");
    cr_assert_str_eq(vc_errname(7), "unknown");
    cr_assert_str_eq(vc_errname(-2147483647 - 1), "unknown");
    cr_assert_str_eq(vc_backend_name(0), "kvm");
    cr_assert_str_eq(vc_backend_name(1), "emu");
    cr_assert_null(vc_backend_name(99));
}

Test(api, first_failure_of_a_chain_is_kept)
{
    vc_vm *vm = vc_open("pv:kvm", NULL);
    cr_assert_null(vm);
    char first[256];
    strcpy(first, vc_errmsg());
    cr_assert_eq(vc_map(vm, 0, 4096, VC_MEM_RWX), VC_ENOTSUP);
    cr_assert_null(vc_cpu_new(vm, VC_MODE_LONG64, 0));
    struct vc_exit x = {.size = sizeof x};
    cr_assert_eq(vc_run(NULL, NULL, &x), VC_ENOTSUP);
    cr_assert_str_eq(vc_errmsg(), first);
    cr_assert_eq(vc_errcode(), VC_ENOTSUP);
    cr_assert_eq(vc_close(vm), 0);
    vc_errclear();
    cr_assert_str_eq(vc_errmsg(), "");
}

Test(api, null_handles)
{
    uint64_t v;
    struct vc_exit x = {.size = sizeof x};
    fails(vc_map(NULL, 0, 4096, VC_MEM_RWX), VC_EINVAL);
    fails(vc_read(NULL, 0, &v, 8), VC_EINVAL);
    fails(vc_run(NULL, NULL, &x), VC_EINVAL);
    fails(vc_reg_get(NULL, VC_REG_RAX, &v), VC_EINVAL);
    fails(vc_dev_detach(NULL), VC_EINVAL);
    fails(vc_serial_in(NULL, "x", 1), VC_EINVAL);
    cr_assert_eq(vc_kick(NULL), VC_EINVAL);
    cr_assert_eq(vc_close(NULL), 0);
    cr_assert_eq(vc_cpu_free(NULL), 0);
    refused(vc_ptr(NULL, 0, 1), VC_EINVAL);
}

Test(api, probe)
{
    struct vc_probe_info info = {.size = sizeof info};
    works(vc_probe("emu", &info));
    cr_assert(info.usable);
    cr_assert(info.features & VC_FEAT_BUDGET_INSNS);
    cr_assert(*info.reason);
    for (unsigned i = 0; vc_backend_name(i); i++) {
        works(vc_probe(vc_backend_name(i), &info));
        cr_assert(*info.reason);
        cr_assert(info.usable || (!info.features && !info.max_cpus));
    }
    fails(vc_probe("vax", &info), VC_ENOENT);
    fails(vc_probe(NULL, &info), VC_EINVAL);
    info.size = 0;
    fails(vc_probe("emu", &info), VC_EINVAL);
}

Test(api, open_and_info)
{
    vc_vm *vm = vc_open("auto", NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    cr_assert_eq(vc_errcode(), 0);
    struct vc_vm_info info = {.size = sizeof info};
    works(vc_info(vm, &info));
    cr_assert(*info.backend && *info.why);
    cr_assert_eq(info.mem_mapped, 0);
    cr_assert_gt(info.tsc_hz, 1000000);
    works(vc_close(vm));
}

Test(api, open_refuses)
{
    struct vc_vm_opts o = {.size = 0};
    refused(vc_open(tested(), &o), VC_EINVAL);
    o = (struct vc_vm_opts){.size = sizeof o, .max_cpus = 1u << 20};
    refused(vc_open(tested(), &o), VC_ELIMIT);
    refused(vc_open("auto", &o), VC_ELIMIT);
    o = (struct vc_vm_opts){.size = sizeof o, .cpu_model = "i4004"};
    cr_assert_null(vc_open(tested(), &o));
    cr_assert_lt(vc_errcode(), 0);
    refused(vc_open(NULL, NULL), VC_EINVAL);
    refused(vc_open("", NULL), VC_ENOENT);
    refused(vc_open("kvm:emu", NULL), VC_ENOENT);
    refused(vc_open("pv:kvm", NULL), VC_ENOTSUP);
    refused(vc_open("pv:none", NULL), VC_ENOENT);
}

Test(api, structures_of_other_ages)
{
    /* Older and shorter: only the quota. */
    struct {
        size_t size;
        uint64_t mem_quota;
    } older = {sizeof older, 8192};
    vc_vm *vm = vc_open(tested(), (const struct vc_vm_opts *)(const void *)&older);
    cr_assert_not_null(vm);
    fails(vc_map(vm, 0, 12288, VC_MEM_RWX), VC_ELIMIT);
    struct {
        size_t size;
        char backend[16];
        char guard[8];
    } info = {.size = sizeof(size_t) + 16, .guard = "guarded"};
    works(vc_info(vm, (struct vc_vm_info *)(void *)&info));
    cr_assert_str_eq(info.backend, tested());
    cr_assert_str_eq(info.guard, "guarded");
    works(vc_close(vm));

    /* Newer and longer: what it sets must be known. */
    struct {
        struct vc_vm_opts o;
        uint64_t more;
    } newer = {.o.size = sizeof newer};
    vm = vc_open(tested(), &newer.o);
    cr_assert_not_null(vm);
    works(vc_close(vm));
    newer.more = 1;
    refused(vc_open(tested(), &newer.o), VC_ENOTSUP);
}

/* ---- memory ---------------------------------------------------------------------- */

Test(api, regions)
{
    vc_vm *vm = open_vm();
    fails(vc_map(vm, 0, 0, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 1, 4096, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 0, 4095, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 1ull << 46, 4096, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 0xfffffffffffff000ull, 8192, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 4096, 0xfffffffffffff000ull, VC_MEM_RWX), VC_ERANGE);
    fails(vc_map(vm, 0, 4096, 0), VC_EINVAL);
    fails(vc_map(vm, 0, 4096, 0x800), VC_EINVAL);
    fails(vc_map(vm, 0, 1ull << 45, VC_MEM_RWX), VC_ELIMIT);
    works(vc_map(vm, 0x4000, 0x4000, VC_MEM_RWX));
    fails(vc_map(vm, 0x4000, 0x4000, VC_MEM_RWX), VC_EEXIST);
    fails(vc_map(vm, 0x3000, 0x2000, VC_MEM_RWX), VC_EEXIST);
    fails(vc_map(vm, 0x7000, 0x1000, VC_MEM_ROM), VC_EEXIST);
    works(vc_map(vm, 0x8000, 0x1000, VC_MEM_ROM));
    fails(vc_unmap(vm, 0x4000, 0x1000), VC_ENOENT);
    fails(vc_unmap(vm, 0x5000, 0x3000), VC_ENOENT);
    works(vc_unmap(vm, 0x4000, 0x4000));
    fails(vc_unmap(vm, 0x4000, 0x4000), VC_ENOENT);
    struct vc_vm_info info = {.size = sizeof info};
    works(vc_info(vm, &info));
    cr_assert_eq(info.mem_mapped, 0x1000);
    works(vc_close(vm));
}

Test(api, host_memory)
{
    vc_vm *vm = open_vm();
    char *host = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fails(vc_map_host(vm, 0, 4096, VC_MEM_RWX, NULL), VC_EINVAL);
    fails(vc_map_host(vm, 0, 4096, VC_MEM_RWX, host + 16), VC_ERANGE);
    works(vc_map_host(vm, 0x2000, 8192, VC_MEM_RWX, host));
    works(vc_write(vm, 0x2ffe, "abcd", 4));
    cr_assert_eq(memcmp(host + 4094, "abcd", 4), 0);
    cr_assert_eq(vc_ptr(vm, 0x3000, 1), host + 4096);
    works(vc_close(vm));
    munmap(host, 8192);
}

Test(api, copies_are_all_or_nothing)
{
    vc_vm *vm = open_vm();
    works(vc_map(vm, 0x1000, 0x1000, VC_MEM_RWX));
    works(vc_map(vm, 0x2000, 0x1000, VC_MEM_ROM));
    char buf[16] = "unchanged";
    fails(vc_read(vm, 0x2ff8, buf, 16), VC_EFAULT);
    cr_assert_str_eq(buf, "unchanged");
    fails(vc_write(vm, 0x2ff8, "0123456789abcdef", 16), VC_EFAULT);
    works(vc_read(vm, 0x2ff8, buf, 8));
    cr_assert_eq(memcmp(buf, "\0\0\0\0\0\0\0\0", 8), 0);
    works(vc_write(vm, 0x1ff8, "0123456789abcdef", 16)); /* into the ROM behind */
    works(vc_read(vm, 0x1ffc, buf, 8));
    cr_assert_eq(memcmp(buf, "456789ab", 8), 0);
    fails(vc_read(vm, UINT64_MAX - 3, buf, 8), VC_EFAULT);
    fails(vc_read(vm, 0x1000, NULL, 8), VC_EINVAL);
    fails(vc_write(vm, 0x1000, buf, SIZE_MAX), VC_EFAULT);
    works(vc_read(vm, 0x9000, NULL, 0));
    refused(vc_ptr(vm, 0x1fff, 2), VC_EFAULT);
    works(vc_close(vm));
}

Test(api, dirty_log)
{
    static const uint8_t code[] = {0xc6, 0x04, 0x25, 0x00, 0x10, 0x10, 0x00, 1, 0xf4};
    vc_vm *vm = open_vm(); /* mov byte [0x101000], 1; hlt */
    works(vc_map(vm, 0x100000, 0x9000, VC_MEM_RWX | VC_MEM_LOG));
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    uint8_t bits[2];
    fails(vc_dirty_log(vm, 0x100000, 0x9000, bits, 1), VC_EINVAL);
    fails(vc_dirty_log(vm, 0x100000, 0x8000, bits, 2), VC_ENOENT);
    fails(vc_dirty_log(vm, 0, 0x10000, bits, 2), VC_EINVAL);
    works(vc_dirty_log(vm, 0x100000, 0x9000, bits, 2));
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    works(vc_write(vm, 0x108000, "x", 1));
    works(vc_dirty_log(vm, 0x100000, 0x9000, bits, 2));
    cr_assert_eq(bits[0], 2);
    cr_assert_eq(bits[1], 1);
    works(vc_dirty_log(vm, 0x100000, 0x9000, bits, 2));
    cr_assert_eq(bits[0] | bits[1], 0);
    works(vc_close(vm));
}

/* More pages than KVM's ring has room for; by rings and by bitmaps; again after it was
 * looked at, in a part. */
static void dirty_many(uint32_t flags)
{
    enum { BASE = 0x1000000, PAGES = 10000, LEN = PAGES * 4096 };
    static const uint8_t code[] = {
        0x88, 0x07,                               /* again: mov [rdi], al */
        0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add rdi, 0x1000 */
        0xff, 0xc9,                               /* dec ecx */
        0x75, 0xf3,                               /* jnz again */
        0xf4,                                     /* hlt */
    };
    static uint8_t bits[PAGES / 8];
    struct vc_vm_opts o = {.size = sizeof o, .flags = flags};
    vc_vm *vm = vc_open(tested(), &o);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    works(vc_map(vm, BASE, LEN, VC_MEM_RWX | VC_MEM_LOG));
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    struct vc_exit x = {.size = sizeof x};
    for (unsigned part = 1; part <= 2; part++) {
        works(vc_reg_set(cpu, VC_REG_RIP, CODE));
        works(vc_reg_set(cpu, VC_REG_RDI, BASE));
        works(vc_reg_set(cpu, VC_REG_RCX, PAGES / part));
        works(vc_run(cpu, NULL, &x));
        cr_assert_eq(x.kind, VC_EXIT_HLT);
        works(vc_dirty_log(vm, BASE, LEN, bits, sizeof bits));
        for (unsigned i = 0; i < sizeof bits; i++)
            cr_assert_eq(bits[i], i < sizeof bits / part ? 0xff : 0, "%u: %x", i, bits[i]);
    }
    /* A page of the guest's and a region that comes meanwhile are not lost. */
    works(vc_reg_set(cpu, VC_REG_RIP, CODE));
    works(vc_reg_set(cpu, VC_REG_RDI, BASE + 8 * 4096));
    works(vc_reg_set(cpu, VC_REG_RCX, 1));
    works(vc_run(cpu, NULL, &x));
    works(vc_map(vm, BASE + LEN, 0x10000, VC_MEM_RWX | VC_MEM_LOG));
    works(vc_dirty_log(vm, BASE, LEN, bits, sizeof bits));
    cr_assert_eq(bits[0], 0);
    cr_assert_eq(bits[1], 1);
    works(vc_close(vm));
}

Test(api, dirty_many_pages)
{
    dirty_many(0);
    dirty_many(VC_OPT_DIRTY_BITMAP);
}

/* ---- vCPUs ------------------------------------------------------------------------- */

Test(api, cpus)
{
    struct vc_vm_opts o = {.size = sizeof o, .max_cpus = 2};
    vc_vm *vm = vc_open(tested(), &o);
    refused(vc_cpu_new(vm, (enum vc_mode)77, 0), VC_EINVAL);
    refused(vc_cpu_new(vm, VC_MODE_LONG64, 1ull << 32), VC_ERANGE);
    refused(vc_cpu_new(vm, VC_MODE_FLAT32, 1ull << 40), VC_ERANGE);
    vc_cpu *a = vc_cpu_new(vm, VC_MODE_RESET, 0), *b = vc_cpu_new(vm, VC_MODE_RESET, 0);
    cr_assert_eq(vc_cpu_index(a), 0);
    cr_assert_eq(vc_cpu_index(b), 1);
    refused(vc_cpu_new(vm, VC_MODE_RESET, 0), VC_ELIMIT);
    works(vc_cpu_free(a));
    a = vc_cpu_new(vm, VC_MODE_REAL16, 0x12345);
    cr_assert_eq(vc_cpu_index(a), 0);
    struct vc_sregs s = {.size = sizeof s};
    works(vc_sregs_get(a, &s));
    cr_assert_eq(s.cs.base, 0x10000);
    uint64_t v;
    works(vc_reg_get(a, VC_REG_RIP, &v));
    cr_assert_eq(v, 0x2345);
    works(vc_close(vm)); /* frees both */
}

Test(api, region_of_long64)
{
    vc_vm *vm = open_vm();
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_LONG64, 0));
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_LONG64, 0));
    fails(vc_unmap(vm, 0xfeffc000, 0x10000), VC_EBUSY);
    works(vc_close(vm));
    vm = open_vm();
    works(vc_map(vm, 0xff000000, 0x1000, VC_MEM_RWX));
    refused(vc_cpu_new(vm, VC_MODE_LONG64, 0), VC_EEXIST);
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_FLAT32, 0));
    works(vc_close(vm));
}

Test(api, registers)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    uint64_t v;
    fails(vc_reg_get(cpu, (enum vc_reg)20, &v), VC_EINVAL);
    fails(vc_reg_set(cpu, (enum vc_reg) - 1, 0), VC_EINVAL);
    fails(vc_reg_set(cpu, VC_REG_CR0, 1ull << 40), VC_EINVAL);
    fails(vc_reg_get(cpu, VC_REG_RAX, NULL), VC_EINVAL);
    works(vc_reg_set(cpu, VC_REG_R13, 0x1122334455667788));
    works(vc_reg_get(cpu, VC_REG_R13, &v));
    cr_assert_eq(v, 0x1122334455667788);
    struct vc_gprs g = {.size = 0};
    fails(vc_gprs_get(cpu, &g), VC_EINVAL);
    g.size = sizeof g;
    works(vc_gprs_get(cpu, &g));
    cr_assert_eq(g.rip, CODE);
    cr_assert_eq(g.gpr[13], 0x1122334455667788);
    fails(vc_msr_get(cpu, 0x12345678, &v), VC_ENOENT);
    fails(vc_translate(cpu, 1ull << 40, VC_ACC_READ, &v), VC_EFAULT);
    fails(vc_translate(cpu, 0, 99, &v), VC_EINVAL);
    works(vc_translate(cpu, 0x1234, VC_ACC_WRITE | VC_ACC_USER, &v));
    cr_assert_eq(v, 0x1234);
    fails(vc_inject_exception(cpu, 32, 0, 0), VC_EINVAL);
    works(vc_inject_irq(cpu, 0x20));
    fails(vc_inject_irq(cpu, 0x21), VC_EBUSY);
    works(vc_close(vm));
}

/* ---- running --------------------------------------------------------------------------- */

Test(api, run_arguments)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    struct vc_exit x = {.size = 0};
    fails(vc_run(cpu, NULL, NULL), VC_EINVAL);
    fails(vc_run(cpu, NULL, &x), VC_EINVAL);
    x.size = 16;
    fails(vc_run(cpu, NULL, &x), VC_EINVAL);
    x.size = sizeof x;
    struct vc_budget b = {.size = 0};
    fails(vc_run(cpu, &b, &x), VC_EINVAL);
    works(vc_close(vm));
}

Test(api, budgets, .timeout = 30)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b, .insns = 12345};
    struct vc_stats s = {.size = sizeof s};
    if (can(VC_FEAT_BUDGET_INSNS)) {
        works(vc_run(cpu, &b, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET);
        works(vc_cpu_stats(cpu, &s));
        cr_assert_eq(s.insns, 12345);
    } else {
        fails(vc_run(cpu, &b, &x), VC_ENOTSUP);
    }
    b = (struct vc_budget){.size = sizeof b, .ns = 20000000};
    works(vc_run(cpu, &b, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    works(vc_cpu_stats(cpu, &s));
    cr_assert_geq(s.run_ns, 20000000);
    works(vc_close(vm));
}

Test(api, kick_is_sticky_and_counted_once, .timeout = 30)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = little(1000);
    works(vc_kick(cpu));
    works(vc_kick(cpu));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK);
    works(vc_run(cpu, &b, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    works(vc_close(vm));
}

Test(api, while_it_runs_all_else_is_busy, .timeout = 30)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, spin, sizeof spin);
    struct runner r;
    runner_start(&r, cpu);
    struct vc_exit x = {.size = sizeof x};
    uint64_t v;
    fails(vc_run(cpu, NULL, &x), VC_EBUSY);
    fails(vc_cpu_free(cpu), VC_EBUSY);
    fails(vc_cpu_reset(cpu, VC_MODE_RESET, 0), VC_EBUSY);
    fails(vc_reg_get(cpu, VC_REG_RAX, &v), VC_EBUSY);
    fails(vc_map(vm, 0x100000, 0x1000, VC_MEM_RWX), VC_EBUSY);
    fails(vc_unmap(vm, 0, 0x10000), VC_EBUSY);
    fails(vc_close(vm), VC_EBUSY);
    refused(vc_cpu_new(vm, VC_MODE_RESET, 0), VC_EBUSY);
    works(vc_write(vm, 0x8000, "any thread", 10));
    runner_stop(&r);
    works(vc_map(vm, 0x100000, 0x1000, VC_MEM_RWX));
    works(vc_close(vm));
}

static struct vc_exit run_code(const void *code, size_t len, enum vc_mode mode)
{
    vc_vm *vm = open_vm();
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_map(vm, 0x20000, 0x1000, VC_MEM_ROM));
    works(vc_write(vm, CODE, code, len));
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b, .ns = 2000000000};
    vc_cpu *cpu = vc_cpu_new(vm, mode, CODE);
    works(vc_run(cpu, &b, &x));
    works(vc_close(vm));
    return x;
}

Test(api, guests_that_misbehave, .timeout = 60)
{
    /* No IDT: the first fault is the last. */
    static const uint8_t ud2[] = {0x0f, 0x0b};
    cr_assert_eq(run_code(ud2, sizeof ud2, VC_MODE_LONG64).kind, VC_EXIT_SHUTDOWN);
    cr_assert_eq(run_code(ud2, sizeof ud2, VC_MODE_FLAT32).kind, VC_EXIT_SHUTDOWN);
    /* Interrupts off, forever. */
    static const uint8_t cli_spin[] = {0xfa, 0xeb, 0xfe};
    cr_assert_eq(run_code(cli_spin, sizeof cli_spin, VC_MODE_LONG64).kind, VC_EXIT_BUDGET);
    /* mov byte [0x20000], 1: ROM drops it; hlt */
    static const uint8_t rom[] = {0xc6, 0x04, 0x25, 0, 0, 2, 0, 1, 0xf4};
    cr_assert_eq(run_code(rom, sizeof rom, VC_MODE_LONG64).kind, VC_EXIT_HLT);
    /* mov byte [0x30000], 0x77: nothing there */
    static const uint8_t hole[] = {0xc6, 0x04, 0x25, 0, 0, 3, 0, 0x77, 0xf4};
    struct vc_exit x = run_code(hole, sizeof hole, VC_MODE_LONG64);
    cr_assert_eq(x.kind, VC_EXIT_MMIO);
    cr_assert_eq(x.u.mmio.gpa, 0x30000);
    cr_assert_eq(x.u.mmio.len, 1);
    cr_assert_eq(x.u.mmio.write, 1);
    cr_assert_eq((uint8_t)x.u.mmio.data, 0x77);
    /* Real mode: every vector points to 0:0, which is zeroes: it runs through
     * memory and beyond, for as long as one lets it. */
    run_code(ud2, sizeof ud2, VC_MODE_REAL16);
}

/* Real mode's vector 6 points to where nothing is: #UD again and again, and no
 * instruction is ever done. */
Test(api, a_budget_ends_a_guest_that_faults_forever, .timeout = 60)
{
    static const uint8_t ud2[] = {0x0f, 0x0b}, nowhere[] = {0, 0, 0, 0xf0};
    vc_vm *vm = open_vm();
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_write(vm, 6 * 4, nowhere, sizeof nowhere));
    works(vc_write(vm, CODE, ud2, sizeof ud2));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_REAL16, CODE);
    works(vc_reg_set(cpu, VC_REG_RSP, 0x8000));
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget insns = little(10000);
    works(vc_run(cpu, &insns, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    struct vc_budget ns = {.size = sizeof ns, .ns = 10000000};
    works(vc_run(cpu, &ns, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    works(vc_close(vm));
}

Test(api, no_memory_at_all)
{
    vc_vm *vm = open_vm();
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_REAL16, 0x1000);
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = little(1000);
    int rc = vc_run(cpu, &b, &x);
    cr_assert(rc < 0 || x.kind != VC_EXIT_NONE);
    works(vc_close(vm));
}
