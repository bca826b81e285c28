/* SPDX-License-Identifier: MIT
 * Code that changes under way: the next instruction fetches the new bytes.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t smc_next[] = {
    0xc6, 0x04, 0x25, 0x09, 0x10, 0x00, 0x00, 0xff, /* 1000: movb $0xff,0x1009 */
    0xb0, 0x01,                                     /* 1008: mov $0x1,%al */
    0xf4,                                           /* 100a: hlt */
};
static const uint8_t smc_same_block_loop[] = {
    0xb9, 0x03, 0x00, 0x00, 0x00,             /* 1000: mov $0x3,%ecx */
    0x88, 0x0c, 0x25, 0x0d, 0x10, 0x00, 0x00, /* 1005: mov %cl,0x100d */
    0xb0, 0x55,                               /* 100c: mov $0x55,%al */
    0x00, 0xc3,                               /* 100e: add %al,%bl */
    0xff, 0xc9,                               /* 1010: dec %ecx */
    0x75, 0xf1,                               /* 1012: jne 1005 */
    0xf4,                                     /* 1014: hlt */
};
static const uint8_t smc_other_page[] = {
    0xe8, 0xfb, 0x0f, 0x00, 0x00,                   /* 1000: call 2000 */
    0x88, 0xc3,                                     /* 1005: mov %al,%bl */
    0xc6, 0x04, 0x25, 0x01, 0x20, 0x00, 0x00, 0x09, /* 1007: movb $0x9,0x2001 */
    0xe8, 0xec, 0x0f, 0x00, 0x00,                   /* 100f: call 2000 */
    0xf4,                                           /* 1014: hlt */
};
static const uint8_t smc_other_page_callee[] = {
    0xb0, 0x04, /* 2000: mov $0x4,%al */
    0xc3,       /* 2002: ret */
};
static const uint8_t smc_rep_stos[] = {
    0xbf, 0x10, 0x10, 0x00, 0x00, /* 1000: mov $0x1010,%edi */
    0xb9, 0x10, 0x00, 0x00, 0x00, /* 1005: mov $0x10,%ecx */
    0xb0, 0xf4,                   /* 100a: mov $0xf4,%al */
    0xf3, 0xaa,                   /* 100c: rep stos %al,%es:(%rdi) */
    0x90,                         /* 100e: nop */
    0x90,                         /* 100f: nop */
};
static const uint8_t smc_rep_stos_rest[] = {
    0xb3, 0x01,                   /* 1010: mov $0x1,%bl */
    0xe9, 0xf9, 0xff, 0xff, 0xff, /* 1012: jmp 1010 */
};
static const uint8_t smc_cross_page[] = {
    0xe8, 0xf9, 0x00, 0x00, 0x00,                   /* 1f00: call 1ffe */
    0x89, 0xc3,                                     /* 1f05: mov %eax,%ebx */
    0xc6, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00, 0x77, /* 1f07: movb $0x77,0x2000 */
    0xe8, 0xea, 0x00, 0x00, 0x00,                   /* 1f0f: call 1ffe */
    0xf4,                                           /* 1f14: hlt */
};
static const uint8_t smc_cross_page_callee[] = {
    0xb8, 0x78, 0x56, 0x34, 0x12, /* 1ffe: mov $0x12345678,%eax */
    0xc3,                         /* 2003: ret */
};

/* The same, by when it has been run often. */
static const uint8_t smc_cross_hot[] = {
    0x31, 0xdb,                                     /* 1f00: xor %ebx,%ebx */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f02: mov $0x64,%ecx */
    0xe8, 0xf2, 0x00, 0x00, 0x00,                   /* 1f07: call 1ffe */
    0x01, 0xc3,                                     /* 1f0c: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f0e: dec %ecx */
    0x75, 0xf5,                                     /* 1f10: jne 1f07 */
    0xc6, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00, 0x77, /* 1f12: movb $0x77,0x2000 */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f1a: mov $0x64,%ecx */
    0xe8, 0xda, 0x00, 0x00, 0x00,                   /* 1f1f: call 1ffe */
    0x01, 0xc3,                                     /* 1f24: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f26: dec %ecx */
    0x75, 0xf5,                                     /* 1f28: jne 1f1f */
    0xf4,                                           /* 1f2a: hlt */
};
/* Its second half in another frame. */
static const uint8_t smc_cross_remapped[] = {
    0x31, 0xdb,                                     /* 1f00: xor %ebx,%ebx */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f02: mov $0x64,%ecx */
    0xe8, 0xf2, 0x00, 0x00, 0x00,                   /* 1f07: call 1ffe */
    0x01, 0xc3,                                     /* 1f0c: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f0e: dec %ecx */
    0x75, 0xf5,                                     /* 1f10: jne 1f07 */
    0xc7, 0x04, 0x25, 0x10, 0x30, 0x02, 0x00,       /* 1f12: movl $0x9007,0x23010: */
    0x07, 0x90, 0x00, 0x00,                         /*       the PTE of 0x2000 */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x20, 0x00, 0x00, /* 1f1d: invlpg 0x2000 */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f25: mov $0x64,%ecx */
    0xe8, 0xcf, 0x00, 0x00, 0x00,                   /* 1f2a: call 1ffe */
    0x01, 0xc3,                                     /* 1f2f: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f31: dec %ecx */
    0x75, 0xf5,                                     /* 1f33: jne 1f2a */
    0xf4,                                           /* 1f35: hlt */
};
static const uint8_t smc_cross_other_half[] = {0x11, 0x22, 0x33, 0xc3};

/* A page of code is called often, then one 8 MiB further on, for which a cache of
 * translations may give up the first one's. */
static const uint8_t code_pushed_out[] = {
    0x31, 0xdb,                                     /* 1f00: xor %ebx,%ebx */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f02: mov $0x64,%ecx */
    0xe8, 0xf4, 0x00, 0x00, 0x00,                   /* 1f07: call 2000 */
    0x01, 0xc3,                                     /* 1f0c: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f0e: dec %ecx */
    0x75, 0xf5,                                     /* 1f10: jne 1f07 */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f12: mov $0x64,%ecx */
    0xe8, 0xe4, 0x00, 0x80, 0x00,                   /* 1f17: call 802000 */
    0xff, 0xc9,                                     /* 1f1c: dec %ecx */
    0x75, 0xf7,                                     /* 1f1e: jne 1f17 */
    0xc7, 0x04, 0x25, 0x10, 0x30, 0x02, 0x00,       /* 1f20: movl $0x9007,0x23010: */
    0x07, 0x90, 0x00, 0x00,                         /*       the PTE of 0x2000 */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x20, 0x00, 0x00, /* 1f2b: invlpg 0x2000 */
    0xb9, 0x64, 0x00, 0x00, 0x00,                   /* 1f33: mov $0x64,%ecx */
    0xe8, 0xc3, 0x00, 0x00, 0x00,                   /* 1f38: call 2000 */
    0x01, 0xc3,                                     /* 1f3d: add %eax,%ebx */
    0xff, 0xc9,                                     /* 1f3f: dec %ecx */
    0x75, 0xf5,                                     /* 1f41: jne 1f38 */
    0xf4,                                           /* 1f43: hlt */
};
static const uint8_t code_before[] = {0xb8, 0x01, 0x00, 0x00, 0x00, 0xc3}; /* mov $1,%eax; ret */
static const uint8_t code_after[] = {0xb8, 0x00, 0x01, 0x00, 0x00, 0xc3};  /* mov $0x100,%eax */

/* The first 2 MiB once more at 8 MiB. */
static void mapped_twice(struct rig *r)
{
    rig_put(r, K_PML4 + 0x2020, K_PT | 0x67, 8);
}

#define KIT .kit = KIT_LONG

static const struct snippet list[] = {
    {.name = "code: the next instruction",
     KIT,
     .parts = {CODE(0x1000, smc_next)},
     .end = {R(RAX, 0xff)}},
    {.name = "code: in a loop, three times",
     KIT,
     .parts = {CODE(0x1000, smc_same_block_loop)},
     .end = {R(RBX, 6), R(RCX, 0)}},
    {.name = "code: in another page that ran",
     KIT,
     .parts = {CODE(0x1000, smc_other_page), CODE(0x2000, smc_other_page_callee)},
     .end = {R(RBX, 4), R(RAX, 9)}},
    {.name = "code: REP STOS over what follows",
     KIT,
     .parts = {CODE(0x1000, smc_rep_stos), CODE(0x1010, smc_rep_stos_rest)},
     .end = {R(RBX, 0)}},
    {.name = "code: an instruction across pages, its second half",
     KIT,
     .pc = 0x1f00,
     .parts = {CODE(0x1f00, smc_cross_page), CODE(0x1ffe, smc_cross_page_callee)},
     .end = {R(RBX, 0x12345678), R(RAX, 0x12347778)}},
    {.name = "code: an instruction across pages, often, then its second half",
     KIT,
     .pc = 0x1f00,
     .parts = {CODE(0x1f00, smc_cross_hot), CODE(0x1ffe, smc_cross_page_callee)},
     .end = {R(RBX, 0x38f071c0), R(RAX, 0x12347778)}},
    {.name = "code: an instruction across pages, often, then another second half",
     KIT,
     .pc = 0x1f00,
     .parts = {CODE(0x1f00, smc_cross_remapped), CODE(0x1ffe, smc_cross_page_callee),
               CODE(0x9000, smc_cross_other_half)},
     .end = {R(RBX, 0x15c099c0), R(RAX, 0x33221178)}},
    {.name = "code: in another frame, its translation pushed out before INVLPG",
     KIT,
     .pc = 0x1f00,
     .prepare = mapped_twice,
     .parts = {CODE(0x1f00, code_pushed_out), CODE(0x2000, code_before), CODE(0x9000, code_after)},
     .end = {R(RBX, 100 * 0x101)}},
};
const struct snippets code_changes = SNIPPETS(list);
