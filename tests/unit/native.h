/* SPDX-License-Identifier: MIT
 * Runs an instruction's bytes on the host with all registers given. */
#ifndef TEST_NATIVE_H
#define TEST_NATIVE_H

#include <stdint.h>

struct native {
    uint64_t gpr[16]; /* rsp is not used */
    uint64_t flags;
    uint32_t mxcsr, pad;
    uint8_t ymm[16][32];
    uint8_t fx[512] __attribute__((aligned(64)));
} __attribute__((aligned(64)));

/* code: the instruction, then RET. */
void native_run(struct native *s, const void *code);

__asm__(".text\n"
        ".globl native_run\n.hidden native_run\n.type native_run, @function\n"
        "native_run:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "sub $16, %rsp\n"
        "stmxcsr (%rsp); fnstcw 8(%rsp)\n"
        "push %rsi; push %rdi\n"
        "fxrstor64 704(%rdi)\n"
        "ldmxcsr 136(%rdi)\n"
        ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "vmovups 144+32*\\r(%rdi), %ymm\\r\n"
        ".endr\n"
        "push 128(%rdi); popfq\n"
        "mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
        "mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "mov 56(%rdi), %rdi\n"
        "call *8(%rsp)\n"
        "xchg %rdi, (%rsp)\n"
        "mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
        "mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n"
        "mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
        "mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
        "pop 56(%rdi)\n"
        "pushfq; pop 128(%rdi)\n"
        "stmxcsr 136(%rdi)\n"
        ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "vmovups %ymm\\r, 144+32*\\r(%rdi)\n"
        ".endr\n"
        "fxsave64 704(%rdi)\n"
        "fninit; vzeroupper\n"
        "add $8, %rsp\n"
        "ldmxcsr (%rsp); fldcw 8(%rsp)\n"
        "add $16, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        ".size native_run, . - native_run\n");

_Static_assert(__builtin_offsetof(struct native, flags) == 128, "the assembler knows the layout");
_Static_assert(__builtin_offsetof(struct native, mxcsr) == 136, "the assembler knows the layout");
_Static_assert(__builtin_offsetof(struct native, ymm) == 144, "the assembler knows the layout");
_Static_assert(__builtin_offsetof(struct native, fx) == 704, "the assembler knows the layout");

#endif
