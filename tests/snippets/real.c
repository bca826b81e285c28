/* SPDX-License-Identifier: MIT
 * Real mode (SDM volume 3, 20.1).
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t real_add[] = {
    0xb8, 0xff, 0x7f, /* 1000: mov $0x7fff,%ax */
    0x83, 0xc0, 0x01, /* 1003: add $0x1,%ax */
    0x9c,             /* 1006: pushf */
    0x5b,             /* 1007: pop %bx */
    0xe7, 0x10,       /* 1008: out %ax,$0x10 */
    0xf4,             /* 100a: hlt */
};
static const uint8_t real_segments[] = {
    0xb8, 0x00, 0x08,             /* 1000: mov $0x800,%ax */
    0x8e, 0xd8,                   /* 1003: mov %ax,%ds */
    0xbb, 0x34, 0x12,             /* 1005: mov $0x1234,%bx */
    0x89, 0x1e, 0x10, 0x00,       /* 1008: mov %bx,0x10 */
    0x8e, 0xc0,                   /* 100c: mov %ax,%es */
    0x26, 0x8b, 0x0e, 0x10, 0x00, /* 100e: mov %es:0x10,%cx */
    0xf4,                         /* 1013: hlt */
};
static const uint8_t real_limit[] = {
    0xbb, 0xff, 0xff, /* 1000: mov $0xffff,%bx */
    0x8a, 0x07,       /* 1003: mov (%bx),%al */
    0x8b, 0x07,       /* 1005: mov (%bx),%ax */
    0xf4,             /* 1007: hlt */
};
static const uint8_t real_stack_limit[] = {
    0xbc, 0x01, 0x00, /* 1000: mov $0x1,%sp */
    0x50,             /* 1003: push %ax */
    0xf4,             /* 1004: hlt */
};
static const uint8_t real_int[] = {
    0xfb,       /* 1000: sti */
    0xf9,       /* 1001: stc */
    0xcd, 0x40, /* 1002: int $0x40 */
    0xb2, 0x02, /* 1004: mov $0x2,%dl */
    0xf4,       /* 1006: hlt */
};
static const uint8_t real_int_handler[] = {
    0x9c,       /* 3000: pushf */
    0x59,       /* 3001: pop %cx */
    0xb6, 0x01, /* 3002: mov $0x1,%dh */
    0xcf,       /* 3004: iret */
};
static const uint8_t real_divide[] = {
    0x31, 0xdb, /* 1000: xor %bx,%bx */
    0xf7, 0xf3, /* 1002: div %bx */
    0xf4,       /* 1004: hlt */
};
static const uint8_t real_bound[] = {
    0xb8, 0x09, 0x00, /* 1000: mov $0x9,%ax */
    0xbb, 0x00, 0x80, /* 1003: mov $0x8000,%bx */
    0x62, 0x07,       /* 1006: bound %ax,(%bx) */
    0xf4,             /* 1008: hlt */
};
static const uint8_t real_into[] = {
    0xb0, 0x7f, /* 1000: mov $0x7f,%al */
    0x04, 0x01, /* 1002: add $0x1,%al */
    0xce,       /* 1004: into */
    0xf4,       /* 1005: hlt */
};
static const uint8_t real_far[] = {
    0x9a, 0x10, 0x00, 0x00, 0x03, /* 1000: lcall $0x300,$0x10 */
    0xea, 0x00, 0x00, 0x10, 0x03, /* 1005: ljmp $0x310,$0x0 */
};
static const uint8_t real_far_callee[] = {
    0xb0, 0x05, /* 3010: mov $0x5,%al */
    0xcb,       /* 3012: lret */
};
static const uint8_t real_far_target[] = {
    0xf4, /* 3100: hlt */
};
static const uint8_t real_pusha[] = {
    0x60,                   /* 1000: pusha */
    0x61,                   /* 1001: popa */
    0x89, 0xe5,             /* 1002: mov %sp,%bp */
    0xc8, 0x08, 0x00, 0x02, /* 1004: enter $0x8,$0x2 */
    0xc9,                   /* 1008: leave */
    0xf4,                   /* 1009: hlt */
};
static const uint8_t real_rep_wrap[] = {
    0xbe, 0xfe, 0xff, /* 1000: mov $0xfffe,%si */
    0xbf, 0x00, 0x80, /* 1003: mov $0x8000,%di */
    0xb9, 0x04, 0x00, /* 1006: mov $0x4,%cx */
    0xfc,             /* 1009: cld */
    0xf3, 0xa5,       /* 100a: rep movsw %ds:(%si),%es:(%di) */
    0xf4,             /* 100c: hlt */
};
static const uint8_t real_les[] = {
    0xc4, 0x1e, 0x00, 0x80, /* 1000: les -0x8000,%bx */
    0xc5, 0x36, 0x04, 0x80, /* 1004: lds -0x7ffc,%si */
    0xf4,                   /* 1008: hlt */
};
static const uint8_t real_a32[] = {
    0x66, 0xbb, 0x00, 0x80, 0x00, 0x00,                   /* 1000: mov $0x8000,%ebx */
    0x66, 0xb9, 0x02, 0x00, 0x00, 0x00,                   /* 1006: mov $0x2,%ecx */
    0x67, 0x66, 0xc7, 0x04, 0x8b, 0xef, 0xcd, 0xab, 0x89, /* 100c: movl $0x89abcdef,(%ebx,%ecx,4) */
    0x67, 0x66, 0xa1, 0x08, 0x80, 0x00, 0x00,             /* 1015: addr32 mov 0x8008,%eax */
    0xf4,                                                 /* 101c: hlt */
};
static const uint8_t real_to_32[] = {
    0x66, 0x0f, 0x01, 0x16, 0x00, 0x80,             /* 1000: lgdtl 0x8000 */
    0x0f, 0x20, 0xc0,                               /* 1006: mov %cr0,%eax */
    0x0c, 0x01,                                     /* 1009: or $0x1,%al */
    0x0f, 0x22, 0xc0,                               /* 100b: mov %eax,%cr0 */
    0x66, 0xea, 0x00, 0x20, 0x00, 0x00, 0x08, 0x00, /* 100e: ljmpl $0x8,$0x2000 */
};
static const uint8_t real_to_32_rest[] = {
    0x66, 0xb8, 0x10, 0x00,       /* 2000: mov $0x10,%ax */
    0x8e, 0xd8,                   /* 2004: mov %eax,%ds */
    0x8e, 0xd0,                   /* 2006: mov %eax,%ss */
    0xbc, 0x00, 0x90, 0x00, 0x00, /* 2008: mov $0x9000,%esp */
    0x68, 0x78, 0x56, 0x34, 0x12, /* 200d: push $0x12345678 */
    0x5b,                         /* 2012: pop %ebx */
    0xf4,                         /* 2013: hlt */
};
static const uint8_t real_to_64[] = {
    0x66, 0x0f, 0x01, 0x16, 0x00, 0x80,             /* 1000: lgdtl 0x8000 */
    0x66, 0xb8, 0x00, 0x00, 0x02, 0x00,             /* 1006: mov $0x20000,%eax */
    0x0f, 0x22, 0xd8,                               /* 100c: mov %eax,%cr3 */
    0x66, 0xb8, 0x20, 0x00, 0x00, 0x00,             /* 100f: mov $0x20,%eax */
    0x0f, 0x22, 0xe0,                               /* 1015: mov %eax,%cr4 */
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,             /* 1018: mov $0xc0000080,%ecx */
    0x66, 0xb8, 0x00, 0x01, 0x00, 0x00,             /* 101e: mov $0x100,%eax */
    0x66, 0x31, 0xd2,                               /* 1024: xor %edx,%edx */
    0x0f, 0x30,                                     /* 1027: wrmsr */
    0x0f, 0x20, 0xc0,                               /* 1029: mov %cr0,%eax */
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80,             /* 102c: or $0x80000001,%eax */
    0x0f, 0x22, 0xc0,                               /* 1032: mov %eax,%cr0 */
    0x66, 0xea, 0x00, 0x20, 0x00, 0x00, 0x18, 0x00, /* 1035: ljmpl $0x18,$0x2000 */
};
static const uint8_t real_to_64_rest[] = {
    0x48, 0xbb, 0xf0, 0xde, 0xbc,
    0x9a, 0x78, 0x56, 0x34, 0x12, /* 2000: movabs $0x123456789abcdef0,%rbx */
    0x0f, 0x32,                   /* 200a: rdmsr */
    0x89, 0xc6,                   /* 200c: mov %eax,%esi */
    0xf4,                         /* 200e: hlt */
};
static const uint8_t real_unreal[] = {
    0x66, 0x0f, 0x01, 0x16, 0x00, 0x80,             /* 1000: lgdtl 0x8000 */
    0x0f, 0x20, 0xc0,                               /* 1006: mov %cr0,%eax */
    0x0c, 0x01,                                     /* 1009: or $0x1,%al */
    0x0f, 0x22, 0xc0,                               /* 100b: mov %eax,%cr0 */
    0xbb, 0x10, 0x00,                               /* 100e: mov $0x10,%bx */
    0x8e, 0xdb,                                     /* 1011: mov %bx,%ds */
    0x24, 0xfe,                                     /* 1013: and $0xfe,%al */
    0x0f, 0x22, 0xc0,                               /* 1015: mov %eax,%cr0 */
    0x66, 0xbb, 0x00, 0x00, 0x10, 0x00,             /* 1018: mov $0x100000,%ebx */
    0x67, 0x66, 0xc7, 0x03, 0xaa, 0x55, 0x00, 0x00, /* 101e: movl $0x55aa,(%ebx) */
    0x67, 0x66, 0x8b, 0x0b,                         /* 1026: mov (%ebx),%ecx */
    0xf4,                                           /* 102a: hlt */
};
static const uint8_t real_a20[] = {
    0xb8, 0xff, 0xff,             /* 1000: mov $0xffff,%ax */
    0x8e, 0xd8,                   /* 1003: mov %ax,%ds */
    0xc6, 0x06, 0x10, 0x00, 0x77, /* 1005: movb $0x77,0x10 */
    0xf4,                         /* 100a: hlt */
};
static const uint8_t real_smsw[] = {
    0x66, 0x0f, 0x01, 0xe0,             /* 1000: smsw %eax */
    0x66, 0x0f, 0x01, 0x0e, 0x00, 0x80, /* 1004: sidtl 0x8000 */
    0xf4,                               /* 100a: hlt */
};

static void gdt_real(struct rig *r)
{
    /* A pseudo-descriptor at 0x8000 and what it names at 0x8010: 08 code, 10 data, 18 64-bit code.
     */
    rig_put(r, 0x8000, 0x1f, 2);
    rig_put(r, 0x8002, 0x8010, 4);
    rig_put(r, 0x8018, 0x00cf9b000000ffff, 8);
    rig_put(r, 0x8020, 0x00cf93000000ffff, 8);
    rig_put(r, 0x8028, 0x00af9b000000ffff, 8);
}

static void gdt_and_pages(struct rig *r)
{
    gdt_real(r);
    rig_put(r, K_PML4, (K_PML4 + 0x1000) | 3, 8);
    rig_put(r, K_PML4 + 0x1000, 0x83, 8); /* a 1-GiB page at 0 */
}

static void check_long(struct rig *r)
{
    if (!(rig_reg(r, VC_REG_EFER) & 0x400))
        rig_fail(r, "EFER.LMA is not set");
}

static const struct snippet list[] = {
    {.name = "real: ADD sets the flags, OUT exits",
     .parts = {CODE(0x1000, real_add)},
     .exits = {PORT_OUT(0x10, 2, 0x8000)},
     .end = {R(RAX, 0x8000), R(RBX, 0x896)}},
    {.name = "real: segment bases",
     .parts = {CODE(0x1000, real_segments)},
     .end = {R(RCX, 0x1234)},
     .mem = {{0x8010, 2, 0x1234}}},
    {.name = "real: a word at the segment's last byte",
     .parts = {CODE(0x1000, real_limit)},
     .ending = END_EXCEPTION,
     .vector = E_GP,
     .at = 0x1005},
    {.name = "real: a push that wraps within a word",
     .parts = {CODE(0x1000, real_stack_limit)},
     .ending = END_SHUTDOWN},
    {.name = "real: INT and IRET",
     .parts = {CODE(0x1000, real_int), CODE(0x3000, real_int_handler),
               DATA(0x100, "\x00\x30\x00\x00")},
     .end = {R(RDX, 0x102), R(RCX, 0x3), R(RFLAGS, 0x203), R(RSP, U_START_SP)}},
    {.name = "real: divide error",
     .parts = {CODE(0x1000, real_divide)},
     .ending = END_EXCEPTION,
     .vector = E_DE,
     .at = 0x1002},
    {.name = "real: BOUND outside",
     .parts = {CODE(0x1000, real_bound), DATA(0x8000, "\x00\x00\x08\x00")},
     .ending = END_EXCEPTION,
     .vector = E_BR,
     .at = 0x1006},
    {.name = "real: BOUND inside",
     .parts = {CODE(0x1000, real_bound), DATA(0x8000, "\x00\x00\x09\x00")},
     .end = {R(RAX, 9)}},
    {.name = "real: INTO",
     .parts = {CODE(0x1000, real_into)},
     .ending = END_EXCEPTION,
     .vector = E_OF,
     .at = 0x1005},
    {.name = "real: far call, return and jump",
     .parts = {CODE(0x1000, real_far), CODE(0x3010, real_far_callee),
               CODE(0x3100, real_far_target)},
     .end = {R(RAX, 5), R(RIP, 1), R(RSP, U_START_SP)}},
    {.name = "real: PUSHA, POPA, ENTER, LEAVE",
     .parts = {CODE(0x1000, real_pusha)},
     .start = {R(RAX, 1), R(RSI, 2)},
     .end = {R(RAX, 1), R(RSI, 2), R(RBP, U_START_SP), R(RSP, U_START_SP)}},
    {.name = "real: REP MOVSW wraps SI",
     .parts = {CODE(0x1000, real_rep_wrap), DATA(0, "\x11\x11\x22\x22\x33\x33"),
               DATA(0xfffe, "\x44\x44")},
     .end = {R(RSI, 6), R(RDI, 0x8008), R(RCX, 0)},
     .mem = {{0x8000, 8, 0x3333222211114444}}},
    {.name = "real: LES and LDS",
     .parts = {CODE(0x1000, real_les), DATA(0x8000, "\x34\x12\x00\x20\x78\x56\x00\x30")},
     .end = {R(RBX, 0x1234), R(RSI, 0x5678)}},
    {.name = "real: 32-bit addresses",
     .parts = {CODE(0x1000, real_a32)},
     .end = {R(RAX, 0x89abcdef)}},
    {.name = "real: to protected mode",
     .parts = {CODE(0x1000, real_to_32), CODE(0x2000, real_to_32_rest)},
     .prepare = gdt_real,
     .end = {R(RBX, 0x12345678), R(RSP, 0x9000), R(CR0, 0x11)}},
    {.name = "real: straight to long mode",
     .parts = {CODE(0x1000, real_to_64), CODE(0x2000, real_to_64_rest)},
     .prepare = gdt_and_pages,
     .end = {R(RBX, 0x123456789abcdef0), R(RSI, 0x500)},
     .check = check_long},
    {.name = "real: limits of protected mode stay",
     .parts = {CODE(0x1000, real_unreal)},
     .prepare = gdt_real,
     .end = {R(RCX, 0x55aa)},
     .mem = {{0x100000, 4, 0x55aa}}},
    {.name = "real: above 1 MiB", .parts = {CODE(0x1000, real_a20)}, .mem = {{0x100000, 1, 0x77}}},
    {.name = "real: SMSW and SIDT",
     .parts = {CODE(0x1000, real_smsw)},
     .end = {R(RAX, 0x10)},
     .mem = {{0x8000, 6, 0xffff}}},
};
const struct snippets real_mode = SNIPPETS(list);
