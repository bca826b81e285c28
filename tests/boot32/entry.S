/* SPDX-License-Identifier: MIT
 * The multiboot header, the first instructions, and the entries of interrupts. */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0x00000003, -(0x1badb002 + 3)

    .text
    .globl _start
_start:
    movl $stack_top, %esp
    pushl $0
    popfl
    pushl %eax
    call main
1:  hlt
    jmp 1b

/* Vectors 0 to 47 and 0x80; those that push no error code get one. */
    .macro entry n
    .globl entry_\n
entry_\n:
    .if (\n != 8) && (\n < 10 || \n > 14) && (\n != 17) && (\n != 21)
    pushl $0
    .endif
    pushl $\n
    jmp common
    .endm
    .altmacro
    .macro entries from, to
    .set i, \from
    .rept \to - \from + 1
    entry %i
    .set i, i + 1
    .endr
    .endm
    entries 0, 47
    entry 128

common:
    cld
    pushal
    pushl %ds
    pushl %es
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    leal 8(%esp), %eax
    pushl %eax
    call interrupt
    addl $4, %esp
    popl %es
    popl %ds
    popal
    addl $8, %esp
    iretl

/* To CPL 3 at the first argument, on the stack that is the second; interrupt()
 * comes back to user_return. */
    .globl user_enter, user_return, user_esp
user_enter:
    pushal
    movl 36(%esp), %eax
    movl 40(%esp), %ecx
    movl %esp, user_esp
    movl $0x23, %edx
    movl %edx, %ds
    movl %edx, %es
    pushl $0x23
    pushl %ecx
    pushl $0x202
    pushl $0x1b
    pushl %eax
    iretl
user_return:
    movl user_esp, %esp
    movl $0x10, %edx
    movl %edx, %ds
    movl %edx, %es
    movl %eax, 28(%esp)
    popal
    sti
    ret

/* SYSENTER arrives with interrupts off: eax + 1, and back to edx, on stack ecx. */
    .globl sysenter_entry
sysenter_entry:
    incl %eax
    sti
    sysexit

    .section .rodata
    .globl entry_table
entry_table:
    .macro addresses from, to
    .set i, \from
    .rept \to - \from + 1
    address %i
    .set i, i + 1
    .endr
    .endm
    .macro address n
    .long entry_\n
    .endm
    addresses 0, 47
    .long entry_128

    .bss
    .align 16
user_esp:
    .skip 4
    .align 16
    .skip 65536
stack_top:
    .section .note.GNU-stack, "", @progbits
