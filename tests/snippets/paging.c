/* SPDX-License-Identifier: MIT
 * Page faults and their error codes (SDM volume 3, 4.7), TLB invalidation.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t page_read[] = {
    0x8a, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, /* 1000: mov 0xa000,%al */
};
static const uint8_t page_write[] = {
    0x88, 0x04, 0x25, 0x23, 0xa1, 0x00, 0x00, /* 1000: mov %al,0xa123 */
};
static const uint8_t page_fetch[] = {
    0xb8, 0x00, 0xa0, 0x00, 0x00, /* 1000: mov $0xa000,%eax */
    0xff, 0xe0,                   /* 1005: jmp *%rax */
};
static const uint8_t page_nx[] = {
    0xb8, 0x00, 0xd0, 0x00, 0x00, /* 1000: mov $0xd000,%eax */
    0xff, 0xe0,                   /* 1005: jmp *%rax */
};
static const uint8_t page_write_protected[] = {
    0x88, 0x04, 0x25, 0x00, 0xb0, 0x00, 0x00, /* 1000: mov %al,0xb000 */
};
static const uint8_t page_write_supervisor[] = {
    0x0f, 0x20, 0xc0,                               /* 1000: mov %cr0,%rax */
    0x48, 0x0f, 0xba, 0xf0, 0x10,                   /* 1003: btr $0x10,%rax */
    0x0f, 0x22, 0xc0,                               /* 1008: mov %rax,%cr0 */
    0xc6, 0x04, 0x25, 0x00, 0xb0, 0x00, 0x00, 0x66, /* 100b: movb $0x66,0xb000 */
    0x48, 0x0f, 0xba, 0xe8, 0x10,                   /* 1013: bts $0x10,%rax */
    0x0f, 0x22, 0xc0,                               /* 1018: mov %rax,%cr0 */
    0xc6, 0x04, 0x25, 0x01, 0xb0, 0x00, 0x00, 0x77, /* 101b: movb $0x77,0xb001 */
};
static const uint8_t page_supervisor[] = {
    0x8a, 0x04, 0x25, 0x00, 0xc0, 0x00, 0x00, /* 1000: mov 0xc000,%al */
};
static const uint8_t page_reserved[] = {
    0x8a, 0x04, 0x25, 0x00, 0xe0, 0x00, 0x00, /* 1000: mov 0xe000,%al */
};
static const uint8_t page_smep[] = {
    0x0f, 0x20, 0xe0,             /* 2000: mov %cr4,%rax */
    0x0d, 0x00, 0x00, 0x10, 0x00, /* 2003: or $0x100000,%eax */
    0x0f, 0x22, 0xe0,             /* 2008: mov %rax,%cr4 */
    0xb8, 0x00, 0x10, 0x00, 0x00, /* 200b: mov $0x1000,%eax */
    0xff, 0xe0,                   /* 2010: jmp *%rax */
};
static const uint8_t page_smap[] = {
    0x0f, 0x20, 0xe0,                         /* 1000: mov %cr4,%rax */
    0x0d, 0x00, 0x00, 0x20, 0x00,             /* 1003: or $0x200000,%eax */
    0x0f, 0x22, 0xe0,                         /* 1008: mov %rax,%cr4 */
    0x0f, 0x01, 0xcb,                         /* 100b: stac */
    0x8a, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 100e: mov 0x8000,%bl */
    0x0f, 0x01, 0xca,                         /* 1015: clac */
    0x8a, 0x0c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1018: mov 0x8000,%cl */
};
static const uint8_t page_cross_write[] = {
    0x48, 0xc7, 0x04, 0x25, 0xfc, 0x9f,
    0x00, 0x00, 0xff, 0xff, 0xff, 0xff, /* 1000: movq $0xffffffffffffffff,0x9ffc */
};
static const uint8_t page_cross_read[] = {
    0x8b, 0x04, 0x25, 0xfd, 0x9f, 0x00, 0x00, /* 1000: mov 0x9ffd,%eax */
};
static const uint8_t page_cross_insn[] = {
    0xb8, /* 9ffe: .byte 0xb8 */
    0x01, /* 9fff: .byte 0x1 */
};
static const uint8_t page_cross_insn_ok[] = {
    0xb8, 0x78, 0x56, 0x34, 0x12, /* 1ffd: mov $0x12345678,%eax */
    0xf4,                         /* 2002: hlt */
};
static const uint8_t page_invlpg[] = {
    0x8a, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1000: mov 0x8000,%al */
    0x48, 0xc7, 0x04, 0x25, 0x40, 0x30, 0x02, 0x00,
    0x67, 0x90, 0x00, 0x00,                         /* 1007: movq $0x9067,0x23040 */
    0x8a, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00,       /* 1013: mov 0x8000,%bl */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 101a: invlpg 0x8000 */
    0x8a, 0x0c, 0x25, 0x00, 0x80, 0x00, 0x00,       /* 1022: mov 0x8000,%cl */
    0x0f, 0x20, 0xda,                               /* 1029: mov %cr3,%rdx */
    0x48, 0xc7, 0x04, 0x25, 0x40, 0x30, 0x02, 0x00,
    0x67, 0x80, 0x00, 0x00,                   /* 102c: movq $0x8067,0x23040 */
    0x0f, 0x22, 0xda,                         /* 1038: mov %rdx,%cr3 */
    0x8a, 0x14, 0x25, 0x00, 0x80, 0x00, 0x00, /* 103b: mov 0x8000,%dl */
    0xf4,                                     /* 1042: hlt */
};
static const uint8_t page_accessed_dirty[] = {
    0x8a, 0x04, 0x25, 0x00, 0x60, 0x00, 0x00,       /* 1000: mov 0x6000,%al */
    0x48, 0x8b, 0x1c, 0x25, 0x30, 0x30, 0x02, 0x00, /* 1007: mov 0x23030,%rbx */
    0x88, 0x04, 0x25, 0x00, 0x60, 0x00, 0x00,       /* 100f: mov %al,0x6000 */
    0x48, 0x8b, 0x0c, 0x25, 0x30, 0x30, 0x02, 0x00, /* 1016: mov 0x23030,%rcx */
    0xf4,                                           /* 101e: hlt */
};
static const uint8_t page_global[] = {
    0x0f, 0x20, 0xe0,             /* 1000: mov %cr4,%rax */
    0x0d, 0x80, 0x00, 0x00, 0x00, /* 1003: or $0x80,%eax */
    0x0f, 0x22, 0xe0,             /* 1008: mov %rax,%cr4 */
    0x48, 0xc7, 0x04, 0x25, 0x40, 0x30, 0x02, 0x00,
    0x67, 0x81, 0x00, 0x00,                         /* 100b: movq $0x8167,0x23040 */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1017: invlpg 0x8000 */
    0x8a, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00,       /* 101f: mov 0x8000,%al */
    0x48, 0xc7, 0x04, 0x25, 0x40, 0x30, 0x02, 0x00,
    0x67, 0x91, 0x00, 0x00,                   /* 1026: movq $0x9167,0x23040 */
    0x0f, 0x20, 0xda,                         /* 1032: mov %cr3,%rdx */
    0x0f, 0x22, 0xda,                         /* 1035: mov %rdx,%cr3 */
    0x8a, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1038: mov 0x8000,%bl */
    0x0f, 0x20, 0xe2,                         /* 103f: mov %cr4,%rdx */
    0x81, 0xe2, 0x7f, 0xff, 0xff, 0xff,       /* 1042: and $0xffffff7f,%edx */
    0x0f, 0x22, 0xe2,                         /* 1048: mov %rdx,%cr4 */
    0x8a, 0x0c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 104b: mov 0x8000,%cl */
    0xf4,                                     /* 1052: hlt */
};
static const uint8_t page_double_fault[] = {
    0xbc, 0x00, 0xa8, 0x00, 0x00, /* 1000: mov $0xa800,%esp */
    0x6a, 0x01,                   /* 1005: push $0x1 */
};
static const uint8_t page_huge[] = {
    0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x40, /* 1000: mov 0x40000000,%eax */
    0x89, 0x04, 0x25, 0x08, 0x00, 0x20, 0x40, /* 1007: mov %eax,0x40200008 */
    0xf4,                                     /* 100e: hlt */
};

/* Twice: reads a page of a large one often, then maps small pages there and flushes at
 * another address of the large one, which flushes it all (SDM volume 3, 4.10.4.1). */
static const uint8_t page_invlpg_large[] = {
    0xbf, 0x02, 0x00, 0x00, 0x00,                   /* 1000: mov $2,%edi */
    0xb9, 0xa0, 0x0f, 0x00, 0x00,                   /* 1005: mov $4000,%ecx */
    0x0f, 0xb6, 0x04, 0x25, 0x00, 0x80, 0x60, 0x00, /* 100a: movzbl 0x608000,%eax */
    0xff, 0xc9,                                     /* 1012: dec %ecx */
    0x75, 0xf4,                                     /* 1014: jne 100a */
    0xc1, 0xe3, 0x08,                               /* 1016: shl $8,%ebx */
    0x09, 0xc3,                                     /* 1019: or %eax,%ebx */
    0x48, 0xc7, 0x04, 0x25, 0x18, 0x20, 0x02, 0x00, /* 101b: movq $0x23067,0x22018 */
    0x67, 0x30, 0x02, 0x00,                         /* */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x10, 0x60, 0x00, /* 1027: invlpg 0x601000 */
    0xff, 0xcf,                                     /* 102f: dec %edi */
    0x75, 0xd2,                                     /* 1031: jne 1005 */
    0xf4,                                           /* 1033: hlt */
};
/* The same of a page of 4 KiB. */
static const uint8_t page_invlpg_often[] = {
    0xbf, 0x02, 0x00, 0x00, 0x00,                   /* 1000: mov $2,%edi */
    0xb9, 0xa0, 0x0f, 0x00, 0x00,                   /* 1005: mov $4000,%ecx */
    0x0f, 0xb6, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* 100a: movzbl 0x8000,%eax */
    0xff, 0xc9,                                     /* 1012: dec %ecx */
    0x75, 0xf4,                                     /* 1014: jne 100a */
    0xc1, 0xe3, 0x08,                               /* 1016: shl $8,%ebx */
    0x09, 0xc3,                                     /* 1019: or %eax,%ebx */
    0x48, 0xc7, 0x04, 0x25, 0x40, 0x30, 0x02, 0x00, /* 101b: movq $0x9067,0x23040 */
    0x67, 0x90, 0x00, 0x00,                         /* */
    0x0f, 0x01, 0x3c, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1027: invlpg 0x8000 */
    0xff, 0xcf,                                     /* 102f: dec %edi */
    0x75, 0xd2,                                     /* 1031: jne 1005 */
    0xf4,                                           /* 1033: hlt */
};

static void fresh_page(struct rig *r)
{
    rig_page(r, 0x6000, 7);
}

static void two_pages(struct rig *r)
{
    rig_put(r, 0x8000, 0x11, 1);
    rig_put(r, 0x9000, 0x22, 1);
}

static void large_page(struct rig *r)
{
    two_pages(r);
    rig_put(r, K_PML4 + 0x2018, 0xe7, 8); /* 600000: 2 MiB from 0 */
    rig_put(r, K_PT + 8 * 8, 0x9067, 8);  /* 608000, once there is a table: 9000 */
}

static void supervisor_code(struct rig *r)
{
    rig_page(r, 0x2000, 0x63);
}

#define KIT  .kit = KIT_LONG
#define USER .kit = KIT_LONG, .user = true
#define PAGE_FAULT(e, ip, address)                                                                 \
    .ending = END_EXCEPTION, .vector = E_PF, .error = e, .at = ip, .end = {R(CR2, address)}

static const struct snippet list[] = {
    {.name = "page: read, absent",
     KIT,
     .parts = {CODE(0x1000, page_read)},
     PAGE_FAULT(0, 0x1000, 0xa000)},
    {.name = "page: write, absent",
     KIT,
     .parts = {CODE(0x1000, page_write)},
     PAGE_FAULT(2, 0x1000, 0xa123)},
    {.name = "page: fetch, absent",
     KIT,
     .parts = {CODE(0x1000, page_fetch)},
     PAGE_FAULT(0x10, 0xa000, 0xa000)},
    {.name = "page: fetch, NX",
     KIT,
     .parts = {CODE(0x1000, page_nx)},
     PAGE_FAULT(0x11, 0xd000, 0xd000)},
    {.name = "page: write, read-only, CR0.WP",
     KIT,
     .parts = {CODE(0x1000, page_write_protected)},
     PAGE_FAULT(3, 0x1000, 0xb000)},
    {.name = "page: CR0.WP off and on",
     KIT,
     .parts = {CODE(0x1000, page_write_supervisor)},
     PAGE_FAULT(3, 0x101b, 0xb001),
     .mem = {{0xb000, 2, 0x66}}},
    {.name = "page: ring 3 reads, absent",
     USER,
     .parts = {CODE(0x1000, page_read)},
     PAGE_FAULT(4, 0x1000, 0xa000)},
    {.name = "page: ring 3 writes, read-only",
     USER,
     .parts = {CODE(0x1000, page_write_protected)},
     PAGE_FAULT(7, 0x1000, 0xb000)},
    {.name = "page: ring 3 reads the supervisor's",
     USER,
     .parts = {CODE(0x1000, page_supervisor)},
     PAGE_FAULT(5, 0x1000, 0xc000)},
    {.name = "page: ring 3 fetches, NX",
     USER,
     .parts = {CODE(0x1000, page_nx)},
     PAGE_FAULT(0x15, 0xd000, 0xd000)},
    {.name = "page: reserved bit",
     KIT,
     .parts = {CODE(0x1000, page_reserved)},
     PAGE_FAULT(9, 0x1000, 0xe000)},
    {.name = "page: SMEP",
     KIT,
     .pc = 0x2000,
     .prepare = supervisor_code,
     .parts = {CODE(0x2000, page_smep)},
     PAGE_FAULT(0x11, 0x1000, 0x1000)},
    {.name = "page: SMAP, STAC, CLAC",
     KIT,
     .parts = {CODE(0x1000, page_smap)},
     PAGE_FAULT(1, 0x1018, 0x8000)},
    {.name = "page: a write into the next page stores nothing",
     KIT,
     .parts = {CODE(0x1000, page_cross_write)},
     PAGE_FAULT(2, 0x1000, 0xa000),
     .mem = {{0x9ffc, 4, 0}}},
    {.name = "page: a read into the next page",
     KIT,
     .parts = {CODE(0x1000, page_cross_read)},
     PAGE_FAULT(0, 0x1000, 0xa000)},
    {.name = "page: an instruction into the next page, absent",
     KIT,
     .pc = 0x9ffe,
     .parts = {CODE(0x9ffe, page_cross_insn)},
     PAGE_FAULT(0x10, 0x9ffe, 0xa000)},
    {.name = "page: an instruction into the next page",
     KIT,
     .pc = 0x1ffd,
     .parts = {CODE(0x1ffd, page_cross_insn_ok)},
     .end = {R(RAX, 0x12345678)}},
    {.name = "page: INVLPG and MOV to CR3",
     KIT,
     .prepare = two_pages,
     .parts = {CODE(0x1000, page_invlpg)},
     .end = {R(RAX, 0x11), R(RCX, 0x22), R(RDX, 0x20011)}},
    {.name = "page: INVLPG elsewhere in a large page",
     KIT,
     .prepare = large_page,
     .parts = {CODE(0x1000, page_invlpg_large)},
     .end = {R(RBX, 0x1122)}},
    {.name = "page: INVLPG of a page that is read often",
     KIT,
     .prepare = two_pages,
     .parts = {CODE(0x1000, page_invlpg_often)},
     .end = {R(RBX, 0x1122)}},
    {.name = "page: accessed and dirty",
     KIT,
     .prepare = fresh_page,
     .parts = {CODE(0x1000, page_accessed_dirty)},
     .end = {R(RBX, 0x6027), R(RCX, 0x6067)}},
    {.name = "page: CR4.PGE flushes global pages",
     KIT,
     .prepare = two_pages,
     .parts = {CODE(0x1000, page_global)},
     .end = {R(RAX, 0x611), R(RCX, 0x22)}},
    {.name = "page: a fault on the stack of the fault",
     KIT,
     .parts = {CODE(0x1000, page_double_fault)},
     .ending = END_EXCEPTION,
     .vector = E_DF,
     .at = 0x1005,
     .end = {R(RSP, K_IST - 48)}},
    {.name = "page: 1 GiB",
     KIT,
     .parts = {CODE(0x1000, page_huge)},
     .exits = {MMIO_IN(MMIO, 4, 0x1234), MMIO_OUT(MMIO + 0x200008, 4, 0x1234)}},
};
const struct snippets paging = SNIPPETS(list);
