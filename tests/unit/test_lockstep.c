/* SPDX-License-Identifier: MIT
 * The lockstep engine: programs on which translator and interpreter agree, and
 * differences planted behind its back, which it must find. */
#include "api.h"
#include "src/cpu/emu/lockstep/lockstep.h"
#include "src/vm/vm.h"
#include <stdio.h>

#define DATA 0x4000ull

struct logged {
    unsigned lines;
    char all[8192];
};

static void log_line(void *ud, int level, const char *line)
{
    struct logged *l = ud;
    size_t n = strlen(l->all);
    (void)level;
    l->lines++;
    snprintf(l->all + n, sizeof l->all - n, "%s\n", line);
}

static vc_vm *open_lockstep(struct logged *l)
{
    struct vc_vm_opts opts = {.size = sizeof opts,
                              .engine = VC_ENGINE_LOCKSTEP,
                              .log = l ? log_line : NULL,
                              .log_ud = l,
                              .log_level = VC_LOG_ERROR};
    vc_vm *vm = vc_open("emu", &opts);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    return vm;
}

static struct emu *engine_of(vc_cpu *cpu)
{
    return (struct emu *)cpu->bcpu;
}

static struct vc_stats stats_of(vc_cpu *cpu)
{
    struct vc_stats s = {.size = sizeof s};
    works(vc_cpu_stats(cpu, &s));
    return s;
}

/* rcx times: integers, flags, vectors, stores, the time-stamp counter, a port,
 * flags that nobody defined on the stack, a string copy. */
static const uint8_t program[] = {
    0xbc, 0x00, 0xf0, 0x00, 0x00,             /* mov esp, 0xf000 */
    0x48, 0xc7, 0xc1, 0x00, 0x08, 0x00, 0x00, /* mov rcx, 2048 */
    0xbb, 0x00, 0x40, 0x00, 0x00,             /* mov ebx, DATA */
    /* loop: */
    0x48, 0x01, 0xc8,                         /* add rax, rcx */
    0x48, 0xd1, 0xe8,                         /* shr rax, 1: AF undefined */
    0x9c,                                     /* pushfq */
    0x5a,                                     /* pop rdx */
    0x48, 0x89, 0x13,                         /* mov [rbx], rdx */
    0x48, 0x89, 0x44, 0xcb, 0x08,             /* mov [rbx + rcx*8 + 8], rax */
    0x66, 0x48, 0x0f, 0x6e, 0xc0,             /* movq xmm0, rax */
    0x66, 0x0f, 0xfe, 0xc8,                   /* paddd xmm1, xmm0 */
    0x0f, 0x31,                               /* rdtsc */
    0x49, 0x89, 0xc0,                         /* mov r8, rax */
    0x0f, 0xa2,                               /* cpuid */
    0xbb, 0x00, 0x40, 0x00, 0x00,             /* mov ebx, DATA */
    0x49, 0x83, 0xc1, 0x01,                   /* add r9, 1 */
    0xb9, 0x20, 0x00, 0x00, 0x00,             /* mov ecx, 32 */
    0xbe, 0x00, 0x40, 0x00, 0x00,             /* mov esi, DATA */
    0xbf, 0x00, 0x90, 0x00, 0x00,             /* mov edi, 0x9000 */
    0xf3, 0x48, 0xa5,                         /* rep movsq */
    0xe4, 0x40,                               /* in al, 0x40 */
    0x41, 0x81, 0xf9, 0x00, 0x04, 0x00, 0x00, /* cmp r9d, 1024 */
    0xb9, 0x10, 0x00, 0x00, 0x00,             /* mov ecx, 16 */
    0x75, 0xb5,                               /* jne loop */
    0xf4,                                     /* hlt */
};

static int port(void *ud, struct vc_access *a)
{
    unsigned *n = ud;
    if (!a->write)
        a->data = (*n)++;
    return 0;
}

Test(lockstep, agrees)
{
    unsigned reads = 0;
    vc_vm *vm = open_lockstep(NULL);
    vc_cpu *cpu = code_cpu(vm, program, sizeof program);
    works(vc_trap(vm, VC_SPACE_PORT, 0x40, 1, port, &reads));
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT, "exit %u", x.kind);
    cr_assert_eq(reads, 1024); /* each device access happens once */
    struct vc_stats s = stats_of(cpu);
    cr_assert_geq(s.lockstep_insns, s.insns);
    cr_assert_gt(s.lockstep_pieces, 1024);
    cr_assert_eq(s.lockstep_taken, 0);
    works(vc_close(vm));
}

Test(lockstep, budgets_answers_and_changes_between_runs)
{
    vc_vm *vm = open_lockstep(NULL);
    vc_cpu *cpu = code_cpu(vm, program, sizeof program);
    struct vc_budget b = {.size = sizeof b, .insns = 777};
    struct vc_exit x = {.size = sizeof x};
    unsigned ports = 0, budgets = 0;
    do {
        works(vc_run(cpu, &b, &x));
        ports += x.kind == VC_EXIT_PORT;
        budgets += x.kind == VC_EXIT_BUDGET;
        if (x.kind == VC_EXIT_PORT)
            x.u.port.data = ports & 255;
        /* What the embedder does between two runs both sides see. */
        uint64_t v = ports;
        works(vc_write(vm, DATA + 64, &v, 8));
        works(vc_reg_set(cpu, VC_REG_R12, v));
    } while (x.kind != VC_EXIT_HLT);
    cr_assert_eq(ports, 1024);
    works(vc_close(vm));
}

Test(lockstep, one_vcpu)
{
    vc_vm *vm = open_lockstep(NULL);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_RESET, 0);
    cr_assert_not_null(cpu);
    refused(vc_cpu_new(vm, VC_MODE_RESET, 0), VC_ENOTSUP);
    works(vc_cpu_free(cpu));
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_RESET, 0), "%s", vc_errmsg());
    works(vc_close(vm));
}

/* ---- planted differences ---------------------------------------------------------- */

struct plant {
    unsigned wait; /* pieces */
    void (*what)(struct emu *c);
};

static void plant(struct emu *c, void *ud)
{
    struct plant *p = ud;
    if (p->wait && !--p->wait)
        p->what(c);
}

static void found(void (*what)(struct emu *c), const char *sentence, const char *log)
{
    struct logged l = {0};
    unsigned reads = 0;
    struct plant p = {300, what};
    vc_vm *vm = open_lockstep(&l);
    vc_cpu *cpu = code_cpu(vm, program, sizeof program);
    works(vc_trap(vm, VC_SPACE_PORT, 0x40, 1, port, &reads));
    lockstep_tamper(engine_of(cpu), plant, &p);
    struct vc_exit x = {.size = sizeof x};
    fails(vc_run(cpu, NULL, &x), VC_EINTERNAL);
    cr_assert_eq(x.kind, VC_EXIT_FAILED);
    cr_assert_gt(x.u.failed.nbytes, 0);
    cr_assert_not_null(strstr(vc_errmsg(), sentence), "no '%s' in: %s", sentence, vc_errmsg());
    cr_assert_not_null(strstr(l.all, log), "no '%s' in:\n%s", log, l.all);
    fails(vc_run(cpu, NULL, &x), VC_ESTATE);
    works(vc_cpu_reset(cpu, VC_MODE_LONG64, CODE));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    works(vc_close(vm));
}

static void flip_register(struct emu *c)
{
    c->gpr[12] ^= 1ull << 40;
}
static void flip_vector(struct emu *c)
{
    c->ymm[7][31] ^= 0x80;
}
static void flip_x87(struct emu *c)
{
    c->fx[32 + 16 * 3] ^= 1;
}
static void flip_flag(struct emu *c)
{
    c->rflags ^= FL_DF;
}
static void flip_control(struct emu *c)
{
    c->star ^= 1;
}
static void more_work(struct emu *c)
{
    c->icount++;
}
static void stray_store(struct emu *c)
{
    uint8_t *p = mem_ptr(c->env->mem, 0xf123, 1);
    *p ^= 4;
}
static void stray_fault(struct emu *c)
{
    c->stats.exceptions++;
}

Test(lockstep, finds_a_register)
{
    found(flip_register, "r12 is 0x10000000000", "r12 ");
}
Test(lockstep, finds_a_vector)
{
    found(flip_vector, "ymm7 bytes 24-31", "translated 8000000000000000");
}
Test(lockstep, finds_x87)
{
    found(flip_x87, "st3 bytes 0-7", "st3");
}
Test(lockstep, finds_a_flag)
{
    found(flip_flag, "rflags", "rflags");
}
Test(lockstep, finds_a_control_register)
{
    found(flip_control, "star", "star");
}
Test(lockstep, finds_a_miscount)
{
    found(more_work, "differ", "block at");
}
Test(lockstep, finds_a_stray_store)
{
    found(stray_store, "guest-physical 0xf123", "memory 0xf120");
}
Test(lockstep, finds_a_fault_that_is_none)
{
    found(stray_fault, "the course of things", "exceptions: translated 1, interpreted 0");
}
