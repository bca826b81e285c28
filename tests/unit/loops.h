/* SPDX-License-Identifier: MIT
 * Guests that never end, with interrupts off: what a kick and a budget must end. For
 * the test of that and for the measurement (bench/kick.c). */
#ifndef TESTS_UNIT_LOOPS_H
#define TESTS_UNIT_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define LOOP_CODE    0x100ff0ull /* 16 bytes before a page's end */
#define LOOP_HANDLER 0x106000ull
#define LOOP_IDT     0x8000ull
#define LOOP_TABLES  0x2000ull
#define LOOP_PML4    0xfeffd000ull /* VC_MODE_LONG64's */
/* From here to 2^47 everything is one and the same 2 MiB. */
#define LOOP_WIDE (1ull << 39)

/* rcx 2^46, rdi and rsi LOOP_WIDE and a little more, rbx the code's begin, r15 where
 * nothing is mapped, all else 0. Every exception goes to the handler. */
struct loop {
    const char *name;
    uint8_t code[48];
    uint8_t len;
    uint8_t handler[8];
    uint8_t once; /* bytes at the begin that run once */
    bool counts;  /* does instructions: an instruction budget ends it too */
};

#define LOOP(name, counts, once, ...)                                                              \
    {                                                                                              \
        name, {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), {0x48, 0xcf}, once, counts          \
    }

/* add rsp, 8; iretq */
#define LOOP_PF                                                                                    \
    {                                                                                              \
        0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf                                                         \
    }

static const struct loop loops[] = {
    LOOP("jmp to itself", true, 0, 0xeb, 0xfe),
    LOOP("dec, jnz", true, 0, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xeb, 0xf9),
    LOOP("loop to itself", true, 0, 0xe2, 0xfe, 0xeb, 0xfc),
    LOOP("loads and stores", true, 0, 0x48, 0x8b, 0x07, 0x48, 0x83, 0xc0, 0x03, 0x48, 0x89, 0x46,
         0x40, 0xeb, 0xf3),
    LOOP("stores through many pages", true, 0, 0x48, 0x89, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00,
         0x00, 0x48, 0xff, 0xc9, 0x75, 0xf1),
    LOOP("across a page", true, 0, 0x48, 0xff, 0xc0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
         0x90, 0x90, 0x90, 0x48, 0x05, 0x78, 0x56, 0x34, 0x12, 0xeb, 0xea),
    LOOP("between two pages", true, 0, 0xeb, 0x1e, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
         0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
         0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xeb, 0xde),
    LOOP("jmp rbx", true, 0, 0xff, 0xe3),
    LOOP("jmp through memory", true, 4, 0x48, 0x89, 0x1f, 0x90, 0xff, 0x27),
    LOOP("call and ret", true, 0, 0xe8, 0x02, 0x00, 0x00, 0x00, 0xeb, 0xf9, 0xc3),
    LOOP("call rbx, for ever deeper", true, 0, 0xff, 0xd3),
    LOOP("push, ret", true, 0, 0x53, 0xc3),
    LOOP("cpuid", true, 0, 0x0f, 0xa2, 0xeb, 0xfc),
    LOOP("rdtsc, pause", true, 0, 0x0f, 0x31, 0xf3, 0x90, 0xeb, 0xfa),
    LOOP("cli, sti, pushf, popf", true, 0, 0xfa, 0x9c, 0x9d, 0xeb, 0xfb),
    LOOP("mov cr3", true, 3, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xeb, 0xfb),
    LOOP("in from a device", true, 0, 0xe4, 0x40, 0xeb, 0xfc),
    LOOP("its own code rewritten", true, 0, 0x48, 0x8d, 0x05, 0x01, 0x00, 0x00, 0x00, 0xb9, 0x00,
         0x00, 0x00, 0x00, 0xff, 0x00, 0xeb, 0xf0),
    LOOP("vectors", true, 0, 0x66, 0x0f, 0xfe, 0xc1, 0x0f, 0x58, 0xd3, 0xf3, 0x0f, 0x6f, 0x27, 0xeb,
         0xf3),
    LOOP("x87", true, 4, 0xdb, 0xe3, 0xd9, 0xeb, 0xd9, 0xfa, 0xd9, 0xe8, 0xde, 0xc1, 0xeb, 0xf8),
    LOOP("rep stosb", false, 0, 0xf3, 0xaa),
    LOOP("rep stosq, not aligned", false, 4, 0x48, 0x83, 0xc7, 0x03, 0xf3, 0x48, 0xab),
    LOOP("rep movsb", false, 0, 0xf3, 0xa4),
    LOOP("rep movsb, overlapping", false, 4, 0x48, 0x8d, 0x77, 0xff, 0xf3, 0xa4),
    LOOP("rep movsq, not aligned", false, 4, 0x48, 0x83, 0xc7, 0x03, 0xf3, 0x48, 0xa5),
    LOOP("rep lodsb", false, 0, 0xf3, 0xac),
    LOOP("repe cmpsb", false, 4, 0x48, 0x89, 0xfe, 0x90, 0xf3, 0xa6),
    LOOP("repe scasq", false, 0, 0xf3, 0x48, 0xaf),
    LOOP("rep insb", false, 0, 0xf3, 0x6c),
    LOOP("rep outsb", false, 0, 0xf3, 0x6e),
    LOOP("ud2, iret", true, 0, 0x0f, 0x0b),
    {"page faults, iret", {0x49, 0x8b, 0x07}, 3, LOOP_PF, 0, true},
    {"a store that faults in a block",
     {0x48, 0xff, 0xc0, 0x49, 0x89, 0x07, 0xeb, 0xf8},
     8,
     LOOP_PF,
     0,
     true},
    {"ud2 in its own handler", {0x0f, 0x0b}, 2, {0x0f, 0x0b}, 0, false},
    {"page faults in their own handler", {0x49, 0x8b, 0x07}, 3, {0x49, 0x8b, 0x07}, 0, false},
};
#define LOOPS (sizeof loops / sizeof *loops)

static inline int loop_put(vc_vm *vm, uint64_t gpa, uint64_t v)
{
    return vc_write(vm, gpa, &v, 8);
}

/* Ports of the loops. */
static inline int loop_port(void *ud, struct vc_access *a)
{
    (void)ud;
    if (!a->write)
        a->data = 0x5a;
    return 0;
}

/* A vCPU that will run it; NULL: vc_errmsg() says why. */
static inline vc_cpu *loop_make(vc_vm *vm, const struct loop *l)
{
    if (vc_map(vm, 0, 4u << 20, VC_MEM_RWX))
        return NULL;
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, LOOP_CODE);
    int rc = !cpu || vc_write(vm, LOOP_CODE, l->code, l->len) ||
             vc_write(vm, LOOP_HANDLER, l->handler, sizeof l->handler) ||
             vc_trap(vm, VC_SPACE_PORT, 0, 0x100, loop_port, NULL) < 0;
    for (unsigned i = 1; i < 256 && !rc; i++)
        rc = loop_put(vm, LOOP_PML4 + i * 8, LOOP_TABLES | 7);
    for (unsigned i = 0; i < 512 && !rc; i++) {
        rc = loop_put(vm, LOOP_TABLES + i * 8, (LOOP_TABLES + 0x1000) | 7);
        if (!rc)
            rc = loop_put(vm, LOOP_TABLES + 0x1000 + i * 8, 0x200000 | 0x87);
    }
    for (unsigned i = 0; i < 32 && !rc; i++) { /* interrupt gates (SDM 6.14.1) */
        rc = loop_put(vm, LOOP_IDT + i * 16,
                      (LOOP_HANDLER & 0xffff) | 8ull << 16 | 0x8e00ull << 32 |
                          (LOOP_HANDLER & 0xffff0000) << 32);
    }
    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g};
    if (rc || vc_sregs_get(cpu, &s) || vc_gprs_get(cpu, &g))
        return NULL;
    s.idt_base = LOOP_IDT;
    s.idt_limit = 32 * 16 - 1;
    g.gpr[1] = 1ull << 46;
    g.gpr[3] = LOOP_CODE + l->once;
    g.gpr[4] = (1ull << 47) - 0x10000;
    g.gpr[6] = LOOP_WIDE + 0x3000;
    g.gpr[7] = LOOP_WIDE;
    g.gpr[15] = 0xffff900000000000ull;
    return vc_sregs_set(cpu, &s) || vc_gprs_set(cpu, &g) ? NULL : cpu;
}

static inline vc_vm *loop_open(const char *backend, uint32_t engine)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .mem_quota = 16u << 20, .engine = engine};
    return vc_open(backend, &opts);
}

#endif
