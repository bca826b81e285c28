/* SPDX-License-Identifier: MIT
 * bench-calls [BACKEND]: what calls between host and guest cost, in nanoseconds of
 * processor time, the least of ten rounds: a function of the guest's that returns at once
 * (vc_call), a hypercall handled by a typed function and by a raw handler. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <virtcore/virtcore.h>

#define CODE   0x1000
#define RET    0x1100
#define LOOP   1000u
#define CALLS  2000
#define ROUNDS 10

/* mov ebx, LOOP; 1: mov eax, NR; push rax; out 0xbc, eax; pop rax; dec ebx; jnz 1b; hlt */
static const uint8_t by_port[] = {0xbb, 0xe8, 0x03, 0,    0,    0xb8, 7,    0,    0,   0,
                                  0x50, 0xe7, 0xbc, 0x58, 0xff, 0xcb, 0x75, 0xf3, 0xf4};
/* The same by VMCALL. */
static const uint8_t by_vmcall[] = {0xbb, 0xe8, 0x03, 0,    0,    0xb8, 7,    0,    0,
                                    0,    0x0f, 0x01, 0xc1, 0xff, 0xcb, 0x75, 0xf4, 0xf4};

static int64_t typed(int64_t n)
{
    return n;
}
static int raw(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    (void)ud, (void)cpu, (void)nr;
    *ret = args[0];
    return 0;
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* LOOP hypercalls. */
static int hypercalls(vc_cpu *cpu)
{
    struct vc_exit x = {.size = sizeof x};
    int rc = vc_reg_set(cpu, VC_REG_RIP, CODE);
    do {
        rc = rc ? rc : vc_run(cpu, NULL, &x);
    } while (!rc && x.kind == VC_EXIT_HCALL);
    return rc ? rc : x.kind == VC_EXIT_HLT ? 0 : VC_ESTATE;
}

static int calls(vc_cpu *cpu)
{
    struct vc_value r, v = {.v.i = 5};
    int rc = 0;
    for (unsigned i = 0; i < CALLS && !rc; i++)
        rc = vc_call(cpu, RET, "i64(i64)", &v, 1, &r, NULL);
    return rc;
}

static int row(const char *engine, const char *what, vc_cpu *cpu, int (*fn)(vc_cpu *), double n)
{
    double least = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        int rc = fn(cpu);
        double each = (now() - start) / n;
        if (rc) {
            fprintf(stderr, "bench-calls: %s: %s\n", what, vc_errmsg());
            return 1;
        }
        if (!i || each < least)
            least = each;
    }
    printf("%-12s %-28s %8.0f ns\n", engine, what, least);
    return 0;
}

static int bench(const char *backend, const char *name, uint32_t engine)
{
    struct vc_vm_opts o = {.size = sizeof o, .engine = engine};
    vc_vm *vm = vc_open(backend, &o);
    vc_map(vm, 0, 0x10000, VC_MEM_RWX);
    vc_write(vm, RET, "\x48\x89\xf8\xc3", 4); /* mov rax, rdi; ret */
    vc_write(vm, CODE, by_port, sizeof by_port);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    if (!cpu) {
        fprintf(stderr, "bench-calls: %s\n", vc_errmsg());
        return 1;
    }
    vc_reg_set(cpu, VC_REG_RSP, 0xf000);
    int bad = row(name, "vc_call", cpu, calls, CALLS);
    if (!vc_hcall(vm, 7, "i64(i64)", VC_FN(typed), NULL)) {
        bad |= row(name, "hypercall, port, typed", cpu, hypercalls, LOOP);
        if (!strcmp(backend, "emu")) {
            vc_write(vm, CODE, by_vmcall, sizeof by_vmcall);
            bad |= row(name, "hypercall, VMCALL, typed", cpu, hypercalls, LOOP);
            vc_hcall_set(vm, raw, NULL);
            vc_hcall_del(vm, 7);
            bad |= row(name, "hypercall, VMCALL, raw", cpu, hypercalls, LOOP);
        }
    }
    vc_close(vm);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "emu"))
        return bench(argv[1], argv[1], VC_ENGINE_AUTO);
    return bench("emu", "interpreter", VC_ENGINE_INTERP) |
           bench("emu", "translator", VC_ENGINE_AUTO);
}
