/* SPDX-License-Identifier: MIT
 * 64-bit mode: system calls, interrupts, addresses, what raises what.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t long_basic[] = {
    0x48, 0xb8, 0xf0, 0xde, 0xbc, 0x9a, 0x78,
    0x56, 0x34, 0x12,                         /* 1000: movabs $0x123456789abcdef0,%rax */
    0x48, 0x8d, 0x1d, 0x10, 0x00, 0x00, 0x00, /* 100a: lea 0x10(%rip),%rbx */
    0x49, 0x89, 0xc7,                         /* 1011: mov %rax,%r15 */
    0x49, 0x0f, 0xcf,                         /* 1014: bswap %r15 */
    0x45, 0x89, 0xfe,                         /* 1017: mov %r15d,%r14d */
    0xf4,                                     /* 101a: hlt */
};
static const uint8_t long_noncanonical[] = {
    0x48, 0xb8, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x80, 0x00, 0x00, /* 1000: movabs $0x800000000000,%rax */
    0x8a, 0x00,                   /* 100a: mov (%rax),%al */
    0xf4,                         /* 100c: hlt */
};
static const uint8_t long_noncanonical_stack[] = {
    0x48, 0xbc, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x80, 0x00, 0x00, /* 1000: movabs $0x800000000000,%rsp */
    0x50,                         /* 100a: push %rax */
    0xf4,                         /* 100b: hlt */
};
static const uint8_t long_fs_gs[] = {
    0xb9, 0x00, 0x01, 0x00, 0xc0,                         /* 1000: mov $0xc0000100,%ecx */
    0xb8, 0x00, 0x80, 0x00, 0x00,                         /* 1005: mov $0x8000,%eax */
    0x31, 0xd2,                                           /* 100a: xor %edx,%edx */
    0x0f, 0x30,                                           /* 100c: wrmsr */
    0xb9, 0x02, 0x01, 0x00, 0xc0,                         /* 100e: mov $0xc0000102,%ecx */
    0xb8, 0x00, 0x88, 0x00, 0x00,                         /* 1013: mov $0x8800,%eax */
    0x0f, 0x30,                                           /* 1018: wrmsr */
    0x0f, 0x01, 0xf8,                                     /* 101a: swapgs */
    0x64, 0x48, 0x8b, 0x1c, 0x25, 0x08, 0x00, 0x00, 0x00, /* 101d: mov %fs:0x8,%rbx */
    0x65, 0x48, 0x8b, 0x34, 0x25, 0x08, 0x00, 0x00, 0x00, /* 1026: mov %gs:0x8,%rsi */
    0xf3, 0x48, 0x0f, 0xae, 0xc7,                         /* 102f: rdfsbase %rdi */
    0xf4,                                                 /* 1034: hlt */
};
static const uint8_t long_syscall[] = {
    0xb9, 0x80, 0x00, 0x00, 0xc0,       /* 1000: mov $0xc0000080,%ecx */
    0x0f, 0x32,                         /* 1005: rdmsr */
    0x83, 0xc8, 0x01,                   /* 1007: or $0x1,%eax */
    0x0f, 0x30,                         /* 100a: wrmsr */
    0xb9, 0x81, 0x00, 0x00, 0xc0,       /* 100c: mov $0xc0000081,%ecx */
    0xba, 0x08, 0x00, 0x18, 0x00,       /* 1011: mov $0x180008,%edx */
    0x31, 0xc0,                         /* 1016: xor %eax,%eax */
    0x0f, 0x30,                         /* 1018: wrmsr */
    0xb9, 0x82, 0x00, 0x00, 0xc0,       /* 101a: mov $0xc0000082,%ecx */
    0xb8, 0x00, 0x20, 0x00, 0x00,       /* 101f: mov $0x2000,%eax */
    0x31, 0xd2,                         /* 1024: xor %edx,%edx */
    0x0f, 0x30,                         /* 1026: wrmsr */
    0xb9, 0x84, 0x00, 0x00, 0xc0,       /* 1028: mov $0xc0000084,%ecx */
    0xb8, 0x00, 0x07, 0x00, 0x00,       /* 102d: mov $0x700,%eax */
    0x0f, 0x30,                         /* 1032: wrmsr */
    0xb9, 0x00, 0x30, 0x00, 0x00,       /* 1034: mov $0x3000,%ecx */
    0x41, 0xbb, 0x02, 0x02, 0x00, 0x00, /* 1039: mov $0x202,%r11d */
    0x48, 0x0f, 0x07,                   /* 103f: sysretq */
};
static const uint8_t long_syscall_user[] = {
    0x8c, 0xcb, /* 3000: mov %cs,%ebx */
    0x8c, 0xd5, /* 3002: mov %ss,%ebp */
    0xfd,       /* 3004: std */
    0x0f, 0x05, /* 3005: syscall */
};
static const uint8_t long_syscall_entry[] = {
    0x8c, 0xce, /* 2000: mov %cs,%esi */
    0x8c, 0xd7, /* 2002: mov %ss,%edi */
    0x9c,       /* 2004: pushf */
    0x41, 0x5c, /* 2005: pop %r12 */
    0xf4,       /* 2007: hlt */
};
static const uint8_t long_sysret_noncanonical[] = {
    0xb9, 0x80, 0x00, 0x00, 0xc0, /* 1000: mov $0xc0000080,%ecx */
    0x0f, 0x32,                   /* 1005: rdmsr */
    0x83, 0xc8, 0x01,             /* 1007: or $0x1,%eax */
    0x0f, 0x30,                   /* 100a: wrmsr */
    0x48, 0xb9, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x80, 0x00, 0x00,             /* 100c: movabs $0x800000000000,%rcx */
    0x41, 0xbb, 0x02, 0x00, 0x00, 0x00, /* 1016: mov $0x2,%r11d */
    0x48, 0x0f, 0x07,                   /* 101c: sysretq */
};
static const uint8_t long_syscall_off[] = {
    0x0f, 0x05, /* 1000: syscall */
};
static const uint8_t long_iret_user[] = {
    0x6a, 0x23,                   /* 1000: push $0x23 */
    0x68, 0x00, 0x8f, 0x00, 0x00, /* 1002: push $0x8f00 */
    0x68, 0x02, 0x02, 0x00, 0x00, /* 1007: push $0x202 */
    0x6a, 0x2b,                   /* 100c: push $0x2b */
    0x68, 0x00, 0x20, 0x00, 0x00, /* 100e: push $0x2000 */
    0x48, 0xcf,                   /* 1013: iretq */
};
static const uint8_t long_iret_user_code[] = {
    0x8c, 0xc8,       /* 2000: mov %cs,%eax */
    0x48, 0x89, 0xe3, /* 2002: mov %rsp,%rbx */
    0xcd, 0x40,       /* 2005: int $0x40 */
};
static const uint8_t long_iret_compat[] = {
    0x6a, 0x23,                   /* 1000: push $0x23 */
    0x68, 0x00, 0x8f, 0x00, 0x00, /* 1002: push $0x8f00 */
    0x68, 0x02, 0x02, 0x00, 0x00, /* 1007: push $0x202 */
    0x6a, 0x1b,                   /* 100c: push $0x1b */
    0x68, 0x00, 0x20, 0x00, 0x00, /* 100e: push $0x2000 */
    0x48, 0xcf,                   /* 1013: iretq */
};
static const uint8_t long_iret_compat_code[] = {
    0xb8, 0xff, 0xff, 0xff, 0xff, /* 2000: mov $0xffffffff,%eax */
    0x40,                         /* 2005: inc %eax */
    0x50,                         /* 2006: push %eax */
    0x89, 0xe3,                   /* 2007: mov %esp,%ebx */
    0xcd, 0x40,                   /* 2009: int $0x40 */
};
static const uint8_t long_iret_noncanonical[] = {
    0x6a, 0x10,                   /* 1000: push $0x10 */
    0x68, 0x00, 0x8f, 0x00, 0x00, /* 1002: push $0x8f00 */
    0x6a, 0x02,                   /* 1007: push $0x2 */
    0x6a, 0x08,                   /* 1009: push $0x8 */
    0x48, 0xb8, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x80, 0x00, 0x00, /* 100b: movabs $0x800000000000,%rax */
    0x50,                         /* 1015: push %rax */
    0x48, 0xcf,                   /* 1016: iretq */
};
static const uint8_t long_iret_bad_cs[] = {
    0x6a, 0x10,                   /* 1000: push $0x10 */
    0x68, 0x00, 0x8f, 0x00, 0x00, /* 1002: push $0x8f00 */
    0x6a, 0x02,                   /* 1007: push $0x2 */
    0x6a, 0x48,                   /* 1009: push $0x48 */
    0x68, 0x00, 0x20, 0x00, 0x00, /* 100b: push $0x2000 */
    0x48, 0xcf,                   /* 1010: iretq */
};
static const uint8_t long_iret_nt[] = {
    0x68, 0x02, 0x40, 0x00, 0x00, /* 1000: push $0x4002 */
    0x9d,                         /* 1005: popf */
    0x48, 0xcf,                   /* 1006: iretq */
};
static const uint8_t long_ist[] = {
    0x48, 0xc7, 0xc4, 0xf7, 0x8f, 0x00, 0x00, /* 1000: mov $0x8ff7,%rsp */
    0x0f, 0x0b,                               /* 1007: ud2 */
};
static const uint8_t long_int_align[] = {
    0x48, 0xc7, 0xc4, 0xf7, 0x8f, 0x00, 0x00, /* 1000: mov $0x8ff7,%rsp */
    0xcd, 0x40,                               /* 1007: int $0x40 */
};
static const uint8_t long_far_jump[] = {
    0xff, 0x2c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1000: ljmp *0x8000 */
};
static const uint8_t long_far_jump_target[] = {
    0x8c, 0xc8, /* 2000: mov %cs,%eax */
    0xf4,       /* 2002: hlt */
};
static const uint8_t long_invalid[] = {
    0x06, /* 1000: (bad) */
    0xf4, /* 1001: hlt */
};
static const uint8_t long_lock_register[] = {
    0xf0, 0x01, 0xd8, /* 1000: lock add %ebx,%eax */
    0xf4,             /* 1003: hlt */
};
static const uint8_t long_too_long[] = {
    0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
    0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, /* 1000: cs cs cs cs cs cs cs cs cs cs cs cs cs cs */
    0x90,                                     /* 100e: nop */
    0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
    0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, /* 100f: cs cs cs cs cs cs cs cs cs cs cs cs cs cs */
    0x2e, 0x90,                               /* 101d: cs nop */
};
static const uint8_t long_cmpxchg16b_unaligned[] = {
    0xbb, 0x08, 0x80, 0x00, 0x00, /* 1000: mov $0x8008,%ebx */
    0x48, 0x0f, 0xc7, 0x0b,       /* 1005: cmpxchg16b (%rbx) */
    0xf4,                         /* 1009: hlt */
};
static const uint8_t long_movaps_unaligned[] = {
    0x0f, 0x28, 0x04, 0x25, 0x08, 0x80, 0x00, 0x00, /* 1000: movaps 0x8008,%xmm0 */
    0xf4,                                           /* 1008: hlt */
};
/* The block that ends at 1007 is translated by when what is behind it raises #NM. */
static const uint8_t long_nm_flags[] = {
    0xb9, 0x64, 0x00, 0x00, 0x00, /* 1000: mov $0x64,%ecx */
    0x3c, 0x01,                   /* 1005: cmp $0x1,%al */
    0xeb, 0x01,                   /* 1007: jmp 100a */
    0x90,                         /* 1009: nop */
    0x66, 0x0f, 0x2e, 0xc0,       /* 100a: ucomisd %xmm0,%xmm0 */
    0xff, 0xc9,                   /* 100e: dec %ecx */
    0x75, 0xf3,                   /* 1010: jne 1005 */
    0x0f, 0x20, 0xc2,             /* 1012: mov %cr0,%rdx */
    0x83, 0xca, 0x08,             /* 1015: or $0x8,%edx */
    0x0f, 0x22, 0xc2,             /* 1018: mov %rdx,%cr0 */
    0xeb, 0xe8,                   /* 101b: jmp 1005 */
};
/* One place adds to three pages by turns, R10 being how far two of them are apart. The
 * flags before it only a fault would show. */
static const uint8_t long_three_pages[] = {
    0x41, 0xba, 0x00, 0x30, 0x00, 0x00, /* 1000: mov $0x3000,%r10d */
    0xb9, 0x64, 0x00, 0x00, 0x00,       /* 1006: mov $0x64,%ecx */
    0xb8, 0x00, 0x30, 0x04, 0x00,       /* 100b: mov $0x43000,%eax */
    0xe8, 0x19, 0x00, 0x00, 0x00,       /* 1010: call 102e */
    0xb8, 0x00, 0x00, 0x04, 0x00,       /* 1015: mov $0x40000,%eax */
    0xe8, 0x0f, 0x00, 0x00, 0x00,       /* 101a: call 102e */
    0xb8, 0x00, 0x60, 0x04, 0x00,       /* 101f: mov $0x46000,%eax */
    0xe8, 0x05, 0x00, 0x00, 0x00,       /* 1024: call 102e */
    0xff, 0xc9,                         /* 1029: dec %ecx */
    0x75, 0xde,                         /* 102b: jne 100b */
    0xf4,                               /* 102d: hlt */
    0x4c, 0x29, 0xd7,                   /* 102e: sub %r10,%rdi */
    0x48, 0x83, 0x00, 0x01,             /* 1031: addq $0x1,(%rax) */
    0xc3,                               /* 1035: ret */
};
/* A loop with two ends; by the second it goes on in another page. */
static const uint8_t long_two_ends[] = {
    0xb9, 0x00, 0x0a, 0x00, 0x00,       /* 1000: mov $0xa00,%ecx */
    0xbe, 0x00, 0x00, 0x04, 0x00,       /* 1005: mov $0x40000,%esi */
    0xb8, 0x3f, 0x00, 0x00, 0x00,       /* 100a: mov $0x3f,%eax */
    0xff, 0xc9,                         /* 100f: dec %ecx */
    0x78, 0x16,                         /* 1011: js 1029 */
    0x48, 0x83, 0x44, 0xc6, 0x08, 0x01, /* 1013: addq $0x1,0x8(%rsi,%rax,8) */
    0x48, 0x83, 0xe8, 0x01,             /* 1019: sub $0x1,%rax */
    0x79, 0xf0,                         /* 101d: jns 100f */
    0x48, 0x8b, 0x36,                   /* 101f: mov (%rsi),%rsi */
    0xb8, 0x3f, 0x00, 0x00, 0x00,       /* 1022: mov $0x3f,%eax */
    0xeb, 0xe6,                         /* 1027: jmp 100f */
    0xf4,                               /* 1029: hlt */
};
static const uint8_t long_nm[] = {
    0x0f, 0x20, 0xc0,       /* 1000: mov %cr0,%rax */
    0x48, 0x83, 0xc8, 0x08, /* 1003: or $0x8,%rax */
    0x0f, 0x22, 0xc0,       /* 1007: mov %rax,%cr0 */
    0x0f, 0x58, 0xc8,       /* 100a: addps %xmm0,%xmm1 */
    0xf4,                   /* 100d: hlt */
};
static const uint8_t long_mf[] = {
    0xdb, 0xe3,                               /* 1000: fninit */
    0xd9, 0x2c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1002: fldcw 0x8000 */
    0xd9, 0xee,                               /* 1009: fldz */
    0xd9, 0xe8,                               /* 100b: fld1 */
    0xd8, 0xf1,                               /* 100d: fdiv %st(1),%st */
    0x9b,                                     /* 100f: fwait */
    0xf4,                                     /* 1010: hlt */
};
static const uint8_t long_xm[] = {
    0x0f, 0xae, 0x14, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1000: ldmxcsr 0x8000 */
    0x0f, 0x57, 0xc0,                               /* 1008: xorps %xmm0,%xmm0 */
    0xf3, 0x0f, 0x5e, 0xc0,                         /* 100b: divss %xmm0,%xmm0 */
    0xf4,                                           /* 100f: hlt */
};
static const uint8_t long_ac[] = {
    0x9c,                                     /* 1000: pushf */
    0x81, 0x0c, 0x24, 0x00, 0x00, 0x04, 0x00, /* 1001: orl $0x40000,(%rsp) */
    0x9d,                                     /* 1008: popf */
    0x8b, 0x04, 0x25, 0x01, 0x80, 0x00, 0x00, /* 1009: mov 0x8001,%eax */
    0xf4,                                     /* 1010: hlt */
};
static const uint8_t long_bad_cr4[] = {
    0xb8, 0x00, 0x00, 0x00, 0x80, /* 1000: mov $0x80000000,%eax */
    0x0f, 0x22, 0xe0,             /* 1005: mov %rax,%cr4 */
    0xf4,                         /* 1008: hlt */
};
static const uint8_t long_bad_cr0[] = {
    0x0f, 0x20, 0xc0,       /* 1000: mov %cr0,%rax */
    0x48, 0x83, 0xe0, 0xfe, /* 1003: and $0xfffffffffffffffe,%rax */
    0x0f, 0x22, 0xc0,       /* 1007: mov %rax,%cr0 */
    0xf4,                   /* 100a: hlt */
};
static const uint8_t long_bad_msr[] = {
    0xb9, 0x45, 0x23, 0x01, 0x00, /* 1000: mov $0x12345,%ecx */
    0x0f, 0x32,                   /* 1005: rdmsr */
    0xf4,                         /* 1007: hlt */
};
static const uint8_t long_bad_efer[] = {
    0xb9, 0x80, 0x00, 0x00, 0xc0, /* 1000: mov $0xc0000080,%ecx */
    0x0f, 0x32,                   /* 1005: rdmsr */
    0x25, 0xff, 0xfe, 0xff, 0xff, /* 1007: and $0xfffffeff,%eax */
    0x0f, 0x30,                   /* 100c: wrmsr */
    0xf4,                         /* 100e: hlt */
};
static const uint8_t long_xsetbv[] = {
    0x0f, 0x20, 0xe0,             /* 1000: mov %cr4,%rax */
    0x0d, 0x00, 0x00, 0x04, 0x00, /* 1003: or $0x40000,%eax */
    0x0f, 0x22, 0xe0,             /* 1008: mov %rax,%cr4 */
    0x31, 0xc9,                   /* 100b: xor %ecx,%ecx */
    0x31, 0xd2,                   /* 100d: xor %edx,%edx */
    0xb8, 0x03, 0x00, 0x00, 0x00, /* 100f: mov $0x3,%eax */
    0x0f, 0x01, 0xd1,             /* 1014: xsetbv */
    0x0f, 0x01, 0xd0,             /* 1017: xgetbv */
    0x89, 0xc3,                   /* 101a: mov %eax,%ebx */
    0xb8, 0x04, 0x00, 0x00, 0x00, /* 101c: mov $0x4,%eax */
    0x0f, 0x01, 0xd1,             /* 1021: xsetbv */
    0xf4,                         /* 1024: hlt */
};
static const uint8_t long_swapgs_user[] = {
    0x0f, 0x01, 0xf8, /* 1000: swapgs */
};
static const uint8_t long_umip[] = {
    0x0f, 0x01, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1000: sgdt 0x8000 */
};
static const uint8_t long_hlt_user[] = {
    0xf4, /* 1000: hlt */
};
static const uint8_t long_compat_far[] = {
    0x6a, 0x48,                   /* 1000: push $0x48 */
    0x68, 0x00, 0x20, 0x00, 0x00, /* 1002: push $0x2000 */
    0x48, 0xcb,                   /* 1007: lretq */
};
static const uint8_t long_seg_load_user[] = {
    0xb8, 0x10, 0x00, 0x00, 0x00, /* 1000: mov $0x10,%eax */
    0x8e, 0xd8,                   /* 1005: mov %eax,%ds */
};

static void cr4_fsgsbase(struct rig *r)
{
    rig_set(r, VC_REG_CR4, rig_reg(r, VC_REG_CR4) | 0x10000);
}

static void cr4_umip(struct rig *r)
{
    rig_set(r, VC_REG_CR4, rig_reg(r, VC_REG_CR4) | 0x800);
}

static void cr0_am(struct rig *r)
{
    rig_set(r, VC_REG_CR0, rig_reg(r, VC_REG_CR0) | 0x40000);
}

static void ud_ist(struct rig *r)
{
    rig_put(r, K_IDT + 16 * E_UD + 4, 1, 1);
}

#define KIT             .kit = KIT_LONG
#define USER            .kit = KIT_LONG, .user = true
#define FAULT(v, e, ip) .ending = END_EXCEPTION, .vector = v, .error = e, .at = ip

static const struct snippet list[] = {
    {.name = "long: 64-bit registers, RIP-relative address",
     KIT,
     .parts = {CODE(0x1000, long_basic)},
     .end = {R(RAX, 0x123456789abcdef0), R(RBX, 0x1021), R(R15, 0xf0debc9a78563412),
             R(R14, 0x78563412)}},
    {.name = "long: non-canonical address",
     KIT,
     .parts = {CODE(0x1000, long_noncanonical)},
     FAULT(E_GP, 0, 0x100a)},
    {.name = "long: non-canonical stack",
     KIT,
     .prepare = NULL,
     .parts = {CODE(0x1000, long_noncanonical_stack)},
     FAULT(E_DF, 0, 0x100a)},
    {.name = "long: FS and GS bases, SWAPGS",
     KIT,
     .prepare = cr4_fsgsbase,
     .parts = {CODE(0x1000, long_fs_gs), DATA(0x8008, "\x11\x22\x33\x44\x55\x66\x77\x88"),
               DATA(0x8808, "\x99\xaa\xbb\xcc\xdd\xee\xff\x01")},
     .end = {R(RBX, 0x8877665544332211), R(RSI, 0x01ffeeddccbbaa99), R(RDI, 0x8000)}},
    {.name = "long: SYSRET and SYSCALL",
     KIT,
     .parts = {CODE(0x1000, long_syscall), CODE(0x2000, long_syscall_entry),
               CODE(0x3000, long_syscall_user)},
     .end = {R(RBX, L_UCODE), R(RBP, L_UDATA), R(RSI, L_CODE), R(RDI, L_DATA), R(RCX, 0x3007),
             R(R11, 0x602), R(R12, 2)}},
    {.name = "long: SYSRET to a non-canonical address",
     KIT,
     .parts = {CODE(0x1000, long_sysret_noncanonical)},
     FAULT(E_GP, 0, 0)},
    {.name = "long: SYSCALL is off",
     KIT,
     .parts = {CODE(0x1000, long_syscall_off)},
     FAULT(E_UD, 0, 0x1000)},
    {.name = "long: IRETQ to ring 3, INT back",
     KIT,
     .parts = {CODE(0x1000, long_iret_user), CODE(0x2000, long_iret_user_code)},
     FAULT(0x40, 0, 0x2007),
     .end = {R(RAX, L_UCODE), R(RBX, 0x8f00), R(RSP, K_STACK - 40)}},
    {.name = "long: IRETQ to compatibility mode",
     KIT,
     .parts = {CODE(0x1000, long_iret_compat), CODE(0x2000, long_iret_compat_code)},
     FAULT(0x40, 0, 0x200b),
     .end = {R(RAX, 0), R(RBX, 0x8efc)}},
    {.name = "long: IRETQ to a non-canonical address",
     KIT,
     .parts = {CODE(0x1000, long_iret_noncanonical)},
     FAULT(E_GP, 0, 0x1016)},
    {.name = "long: IRETQ to absent code",
     KIT,
     .parts = {CODE(0x1000, long_iret_bad_cs)},
     FAULT(E_NP, 0x48, 0x1010)},
    {.name = "long: IRETQ with NT",
     KIT,
     .parts = {CODE(0x1000, long_iret_nt)},
     FAULT(E_GP, 0, 0x1006)},
    {.name = "long: a stack of the interrupt stack table",
     KIT,
     .prepare = ud_ist,
     .parts = {CODE(0x1000, long_ist)},
     FAULT(E_UD, 0, 0x1007),
     .end = {R(RSP, K_IST - 40)}},
    {.name = "long: the frame is aligned",
     KIT,
     .parts = {CODE(0x1000, long_int_align)},
     FAULT(0x40, 0, 0x1009),
     .end = {R(RSP, 0x8ff0 - 40)}},
    {.name = "long: far jump",
     KIT,
     .parts = {CODE(0x1000, long_far_jump), CODE(0x2000, long_far_jump_target),
               DATA(0x8000, "\x00\x20\x00\x00\x08\x00")},
     .end = {R(RAX, L_CODE)}},
    {.name = "long: invalid opcode",
     KIT,
     .parts = {CODE(0x1000, long_invalid)},
     FAULT(E_UD, 0, 0x1000)},
    {.name = "long: LOCK with a register",
     KIT,
     .parts = {CODE(0x1000, long_lock_register)},
     FAULT(E_UD, 0, 0x1000)},
    {.name = "long: 15 bytes are fine, 16 are too long",
     KIT,
     .parts = {CODE(0x1000, long_too_long)},
     FAULT(E_GP, 0, 0x100f)},
    {.name = "long: CMPXCHG16B unaligned",
     KIT,
     .parts = {CODE(0x1000, long_cmpxchg16b_unaligned)},
     FAULT(E_GP, 0, 0x1005)},
    {.name = "long: MOVAPS unaligned",
     KIT,
     .parts = {CODE(0x1000, long_movaps_unaligned)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "long: CR0.TS", KIT, .parts = {CODE(0x1000, long_nm)}, FAULT(E_NM, 0, 0x100a)},
    {.name = "long: CR0.TS, and the flags of before",
     KIT,
     .parts = {CODE(0x1000, long_nm_flags)},
     FAULT(E_NM, 0, 0x100a),
     .mem = {{K_START_SP - 0x18, 1, 0x97}}},
    {.name = "long: three pages by turns",
     KIT,
     .parts = {CODE(0x1000, long_three_pages),
               DATA(K_PT + 0x46 * 8, "\x03\x00\x05\x00\x00\x00\x00\x00")},
     .mem = {{0x40000, 8, 100}, {0x43000, 8, 100}, {0x50000, 8, 100}}},
    {.name = "long: a loop with two ends",
     KIT,
     .parts = {CODE(0x1000, long_two_ends),
               DATA(K_PT + 0x46 * 8, "\x03\x00\x05\x00\x00\x00\x00\x00"),
               DATA(0x40000, "\x00\x60\x04"), DATA(0x50000, "\x00\x00\x04")},
     .mem = {{0x40008, 8, 20}, {0x40200, 8, 20}, {0x50008, 8, 20}, {0x50200, 8, 20}}},
    {.name = "long: x87 division by zero",
     KIT,
     .parts = {CODE(0x1000, long_mf), DATA(0x8000, "\x7b\x03")},
     FAULT(E_MF, 0, 0x100f)},
    {.name = "long: SSE invalid operation",
     KIT,
     .parts = {CODE(0x1000, long_xm), DATA(0x8000, "\x00\x1f\x00\x00")},
     FAULT(E_XM, 0, 0x100b)},
    {.name = "long: alignment check",
     USER,
     .prepare = cr0_am,
     .parts = {CODE(0x1000, long_ac)},
     FAULT(E_AC, 0, 0x1009)},
    {.name = "long: reserved bit of CR4",
     KIT,
     .parts = {CODE(0x1000, long_bad_cr4)},
     FAULT(E_GP, 0, 0x1005)},
    {.name = "long: CR0.PG without PE",
     KIT,
     .parts = {CODE(0x1000, long_bad_cr0)},
     FAULT(E_GP, 0, 0x1007)},
    {.name = "long: no such MSR",
     KIT,
     .parts = {CODE(0x1000, long_bad_msr)},
     FAULT(E_GP, 0, 0x1005)},
    {.name = "long: EFER.LME with paging on",
     KIT,
     .parts = {CODE(0x1000, long_bad_efer)},
     FAULT(E_GP, 0, 0x100c)},
    {.name = "long: XSETBV, XGETBV",
     KIT,
     .parts = {CODE(0x1000, long_xsetbv)},
     FAULT(E_GP, 0, 0x1021),
     .end = {R(RBX, 3)}},
    {.name = "long: SWAPGS in ring 3",
     USER,
     .parts = {CODE(0x1000, long_swapgs_user)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "long: UMIP",
     USER,
     .prepare = cr4_umip,
     .parts = {CODE(0x1000, long_umip)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "long: HLT in ring 3",
     USER,
     .parts = {CODE(0x1000, long_hlt_user)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "long: far return to absent code",
     KIT,
     .parts = {CODE(0x1000, long_compat_far)},
     FAULT(E_NP, 0x48, 0x1007)},
    {.name = "long: ring 0's data segment in ring 3",
     USER,
     .parts = {CODE(0x1000, long_seg_load_user)},
     FAULT(E_GP, 0x10, 0x1005)},
};
const struct snippets long_mode = SNIPPETS(list);
