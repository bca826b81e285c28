/* SPDX-License-Identifier: MIT
 * Exceptions, in a table of the kernel's own, and instructions that the hypervisor runs
 * for it. */
#include "kernel.h"
#include <xen/arch-x86/cpuid.h>

extern char trap_entries[];

/* One exception is expected: what came, and where to go on. */
static volatile struct {
    int64_t vector;
    uint64_t err, cr2;
} seen;
static volatile uint64_t resume;

void events_run(void);

void trap(struct frame *f)
{
    if ((int64_t)f->vector < 0) {
        events_run();
        return;
    }
    seen.vector = (int64_t)f->vector;
    seen.err = f->err;
    seen.cr2 = shared->vcpu_info[0].arch.cr2;
    check(resume, "no exception");
    f->rip = resume;
    resume = 0;
}

/* Runs the instruction; the vector of the exception that it ended with. */
#define PROVOKE(insn, ...)                                                                         \
    ({                                                                                             \
        seen.vector = -1;                                                                          \
        __asm__ volatile("leaq 1f(%%rip), %%rax\n\tmovq %%rax, %0\n\t" insn "\n1:"                 \
                         : "=m"(resume)                                                            \
                         : __VA_ARGS__                                                             \
                         : "rax", "rcx", "rdx", "memory");                                         \
        resume = 0;                                                                                \
        seen.vector;                                                                               \
    })

static void exceptions(void)
{
    volatile char *const nowhere = (char *)0x7ff000001000;
    check(PROVOKE("ud2") == 6, "#UD");
    check(PROVOKE("int3") == 3, "#BP");
    check(PROVOKE("int $0x55") == 13 && seen.err == 0x55 * 8 + 2, "INT n without a gate");
    check(PROVOKE("xorl %%ecx, %%ecx; divl %%ecx") == 0, "#DE");
    check(PROVOKE("movb %1, %%al", "m"(*nowhere)) == 14, "#PF");
    check(seen.cr2 == (uint64_t)nowhere && !(seen.err & 3), "what the page fault says");
    check(PROVOKE("movq %1, %%rax", "m"(*(uint64_t *)0x8000000000000000)) == 13,
          "an address that is not canonical");
}

/* A kernel at CPL 3 does these only because the hypervisor does them for it. */
static void privileged(void)
{
    uint64_t cr0, cr3;
    uint32_t eax = 0x40000000, ebx, ecx, edx;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    check((cr0 & 0x80000001) == 0x80000001, "CR0");
    check(cr3 >> 12 == mfn_of((void *)start_info->pt_base), "CR3");
    __asm__ volatile(".byte 0x0f, 0x0b, 'x', 'e', 'n'; cpuid"
                     : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    check(ebx == XEN_CPUID_SIGNATURE_EBX && ecx == XEN_CPUID_SIGNATURE_ECX, "the prefixed CPUID");
}

void traps_check(void)
{
    static struct trap_info table[33];
    for (unsigned i = 0; i < 32; i++)
        table[i] = (struct trap_info){.vector = (uint8_t)i,
                                      .flags = i == 3 ? 3 : 0,
                                      .cs = FLAT_KERNEL_CS,
                                      .address = (uint64_t)trap_entries + 16 * i};
    check(HC(set_trap_table, table, 0, 0, 0) == 0, "set_trap_table");
    exceptions();
    privileged();
    print("pvkernel: exceptions\n");
}
