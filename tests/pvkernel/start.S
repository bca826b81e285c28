/* SPDX-License-Identifier: MIT
 * Start of day, and the frames that the hypervisor pushes: from the top of the stack RCX,
 * R11, an error code for some vectors, RIP, CS, RFLAGS, RSP, SS. */
#include <xen/elfnote.h>

#define BASE      0xffffffff80000000
#define HC_IRET   (hypercall_page + 23 * 32)
#define STACK     16384

.macro note type, value:vararg
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:  \value
2:  .balign 4
.endm

    .section .note.xen, "a", @note
    .balign 4
    note XEN_ELFNOTE_GUEST_OS, .asciz "pvkernel"
    note XEN_ELFNOTE_LOADER, .asciz "generic"
    note XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    note XEN_ELFNOTE_ENTRY, .quad start
    note XEN_ELFNOTE_VIRT_BASE, .quad BASE
    note XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
    note XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables"

    .text
    .globl start, second_start, hypercall_page, event_entry, trap_entries

    .balign 4096
hypercall_page: /* filled by whoever builds the domain */
    .skip 4096

start:
    cld
    leaq stack + STACK(%rip), %rsp
    movq %rsi, %rdi
    xorl %ebp, %ebp
    call kernel_main
    ud2

second_start: /* its stack came with its first state */
    cld
    xorl %ebp, %ebp
    call second_main
    ud2

/* Vectors 8, 10 to 14, 17 and 21 have an error code. */
.macro trap vector
    .balign 16
    popq %rcx
    popq %r11
    .if !((1 << \vector) & 0x227d00)
    pushq $0
    .endif
    pushq $\vector
    jmp all_traps
.endm

    .balign 16
trap_entries: /* 16 bytes each */
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    trap \n
    .endr
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    trap \n
    .endr

    .balign 16
event_entry:
    popq %rcx
    popq %r11
    pushq $0
    pushq $-1

all_traps:
    .irp reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pushq %\reg
    .endr
    movq %rsp, %rdi
    cld
    call trap
    .irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    popq %\reg
    .endr
    addq $16, %rsp
    pushq $0 /* not from a system call */
    jmp HC_IRET

    .bss
    .balign 16
stack:
    .skip STACK
    .section .note.GNU-stack, "", @progbits
