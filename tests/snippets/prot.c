/* SPDX-License-Identifier: MIT
 * Protected mode: segments, gates, rings, virtual-8086 mode, 32-bit paging.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t prot_limit[] = {
    0x66, 0xb8, 0x30, 0x00,             /* 1000: mov $0x30,%ax */
    0x8e, 0xd8,                         /* 1004: mov %eax,%ds */
    0xa0, 0xff, 0x0f, 0x00, 0x00,       /* 1006: mov 0xfff,%al */
    0x8b, 0x1d, 0xfc, 0x0f, 0x00, 0x00, /* 100b: mov 0xffc,%ebx */
    0x8b, 0x0d, 0xfd, 0x0f, 0x00, 0x00, /* 1011: mov 0xffd,%ecx */
    0xf4,                               /* 1017: hlt */
};
static const uint8_t prot_expand_down[] = {
    0x66, 0xb8, 0x38, 0x00,             /* 1000: mov $0x38,%ax */
    0x8e, 0xd8,                         /* 1004: mov %eax,%ds */
    0xa0, 0x00, 0x10, 0x00, 0x00,       /* 1006: mov 0x1000,%al */
    0x8a, 0x1d, 0xff, 0x0f, 0x00, 0x00, /* 100b: mov 0xfff,%bl */
    0xf4,                               /* 1011: hlt */
};
static const uint8_t prot_read_only[] = {
    0x66, 0xb8, 0x40, 0x00,       /* 1000: mov $0x40,%ax */
    0x8e, 0xd8,                   /* 1004: mov %eax,%ds */
    0xa1, 0x00, 0x80, 0x00, 0x00, /* 1006: mov 0x8000,%eax */
    0xa3, 0x00, 0x80, 0x00, 0x00, /* 100b: mov %eax,0x8000 */
    0xf4,                         /* 1010: hlt */
};
static const uint8_t prot_not_present[] = {
    0x66, 0xb8, 0x48, 0x00, /* 1000: mov $0x48,%ax */
    0x8e, 0xc0,             /* 1004: mov %eax,%es */
    0xf4,                   /* 1006: hlt */
};
static const uint8_t prot_ss_not_present[] = {
    0x66, 0xb8, 0x48, 0x00, /* 1000: mov $0x48,%ax */
    0x8e, 0xd0,             /* 1004: mov %eax,%ss */
    0xf4,                   /* 1006: hlt */
};
static const uint8_t prot_null[] = {
    0x31, 0xc0,                   /* 1000: xor %eax,%eax */
    0x8e, 0xd8,                   /* 1002: mov %eax,%ds */
    0xa1, 0x00, 0x80, 0x00, 0x00, /* 1004: mov 0x8000,%eax */
    0xf4,                         /* 1009: hlt */
};
static const uint8_t prot_ss_null[] = {
    0x31, 0xc0, /* 1000: xor %eax,%eax */
    0x8e, 0xd0, /* 1002: mov %eax,%ss */
    0xf4,       /* 1004: hlt */
};
static const uint8_t prot_gdt_limit[] = {
    0x66, 0xb8, 0xf8, 0x07, /* 1000: mov $0x7f8,%ax */
    0x8e, 0xd8,             /* 1004: mov %eax,%ds */
    0xf4,                   /* 1006: hlt */
};
static const uint8_t prot_exec_only[] = {
    0x66, 0xb8, 0x58, 0x00, /* 1000: mov $0x58,%ax */
    0x8e, 0xd8,             /* 1004: mov %eax,%ds */
    0xf4,                   /* 1006: hlt */
};
static const uint8_t prot_code_write[] = {
    0x2e, 0xa3, 0x00, 0x80, 0x00, 0x00, /* 1000: mov %eax,%cs:0x8000 */
    0xf4,                               /* 1006: hlt */
};
static const uint8_t prot_conforming[] = {
    0xea, 0x00, 0x20, 0x00, 0x00, 0x53, 0x00, /* 1000: ljmp $0x53,$0x2000 */
};
static const uint8_t prot_conforming_rest[] = {
    0x8c, 0xc8, /* 2000: mov %cs,%eax */
    0xfa,       /* 2002: cli */
};
static const uint8_t prot_stack_fault[] = {
    0x66, 0xb8, 0x30, 0x00,             /* 1000: mov $0x30,%ax */
    0x8e, 0xd0,                         /* 1004: mov %eax,%ss */
    0xbc, 0x00, 0x08, 0x00, 0x00,       /* 1006: mov $0x800,%esp */
    0x36, 0xa1, 0x00, 0x10, 0x00, 0x00, /* 100b: mov %ss:0x1000,%eax */
    0xf4,                               /* 1011: hlt */
};
static const uint8_t prot_stack_triple[] = {
    0x66, 0xb8, 0x30, 0x00,       /* 1000: mov $0x30,%ax */
    0x8e, 0xd0,                   /* 1004: mov %eax,%ss */
    0xbc, 0x04, 0x10, 0x00, 0x00, /* 1006: mov $0x1004,%esp */
    0x50,                         /* 100b: push %eax */
    0xf4,                         /* 100c: hlt */
};
static const uint8_t prot_call_gate[] = {
    0x68, 0x11, 0x11, 0x11, 0x11,             /* 1000: push $0x11111111 */
    0x68, 0x22, 0x22, 0x22, 0x22,             /* 1005: push $0x22222222 */
    0x9a, 0x00, 0x00, 0x00, 0x00, 0x63, 0x00, /* 100a: lcall $0x63,$0x0 */
};
static const uint8_t prot_call_gate_callee[] = {
    0x8c, 0xc8,             /* 2000: mov %cs,%eax */
    0x8b, 0x5c, 0x24, 0x08, /* 2002: mov 0x8(%esp),%ebx */
    0x8b, 0x4c, 0x24, 0x0c, /* 2006: mov 0xc(%esp),%ecx */
    0x89, 0xe2,             /* 200a: mov %esp,%edx */
    0xca, 0x08, 0x00,       /* 200c: lret $0x8 */
};
static const uint8_t prot_call_gate_back[] = {
    0x8c, 0xce, /* 1011: mov %cs,%esi */
    0x89, 0xe7, /* 1013: mov %esp,%edi */
    0xcd, 0x40, /* 1015: int $0x40 */
};
static const uint8_t prot_int_ring3[] = {
    0xb8, 0x77, 0x00, 0x00, 0x00, /* 1000: mov $0x77,%eax */
    0xcd, 0x40,                   /* 1005: int $0x40 */
    0xfa,                         /* 1007: cli */
};
static const uint8_t prot_int_ring3_handler[] = {
    0x89, 0xe3,             /* 3000: mov %esp,%ebx */
    0x8b, 0x0c, 0x24,       /* 3002: mov (%esp),%ecx */
    0x8b, 0x54, 0x24, 0x0c, /* 3005: mov 0xc(%esp),%edx */
    0xcf,                   /* 3009: iret */
};
static const uint8_t prot_gate_dpl[] = {
    0xcd, 0x41, /* 1000: int $0x41 */
    0xf4,       /* 1002: hlt */
};
static const uint8_t prot_gate_absent[] = {
    0xcd, 0x42, /* 1000: int $0x42 */
    0xf4,       /* 1002: hlt */
};
static const uint8_t prot_task_gate[] = {
    0xcd, 0x43, /* 1000: int $0x43 */
    0xf4,       /* 1002: hlt */
};
static const uint8_t prot_call_tss[] = {
    0x9a, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, /* 1000: lcall $0x80,$0x0 */
    0xf4,                                     /* 1007: hlt */
};
static const uint8_t prot_cli_ring3[] = {
    0xfa, /* 1000: cli */
};
static const uint8_t prot_io_ring3[] = {
    0xe4, 0x10, /* 1000: in $0x10,%al */
};
static const uint8_t prot_io_bitmap[] = {
    0xe4, 0x20, /* 1000: in $0x20,%al */
    0xe4, 0x21, /* 1002: in $0x21,%al */
};
static const uint8_t prot_v86[] = {
    0x6a, 0x00,                   /* 1000: push $0x0 */
    0x6a, 0x00,                   /* 1002: push $0x0 */
    0x68, 0x00, 0x08, 0x00, 0x00, /* 1004: push $0x800 */
    0x6a, 0x00,                   /* 1009: push $0x0 */
    0x68, 0x00, 0x01, 0x00, 0x00, /* 100b: push $0x100 */
    0x68, 0x00, 0x08, 0x00, 0x00, /* 1010: push $0x800 */
    0x68, 0x02, 0x30, 0x02, 0x00, /* 1015: push $0x23002 */
    0x68, 0x00, 0x02, 0x00, 0x00, /* 101a: push $0x200 */
    0x68, 0x00, 0x20, 0x00, 0x00, /* 101f: push $0x2000 */
    0xcf,                         /* 1024: iret */
};
static const uint8_t prot_v86_code[] = {
    0xb8, 0x34, 0x12, /* 4000: mov $0x1234,%ax */
    0xa3, 0x10, 0x00, /* 4003: mov %ax,0x10 */
    0x9c,             /* 4006: pushf */
    0x5b,             /* 4007: pop %bx */
    0xf4,             /* 4008: hlt */
};
static const uint8_t prot_v86_int[] = {
    0xcd, 0x40, /* 4000: int $0x40 */
};
static const uint8_t prot_code16[] = {
    0xea, 0x00, 0x20, 0x00, 0x00, 0x70, 0x00, /* 1000: ljmp $0x70,$0x2000 */
};
static const uint8_t prot_code16_rest[] = {
    0xb8, 0x34, 0x12,                   /* 2000: mov $0x1234,%ax */
    0x66, 0xbb, 0xef, 0xcd, 0xab, 0x89, /* 2003: mov $0x89abcdef,%ebx */
    0x50,                               /* 2009: push %ax */
    0x66, 0x89, 0xe1,                   /* 200a: mov %esp,%ecx */
    0xf4,                               /* 200d: hlt */
};
static const uint8_t prot_sysenter[] = {
    0x0f, 0x34, /* 1000: sysenter */
};
static const uint8_t prot_sysenter_target[] = {
    0x8c, 0xc8,                   /* 2000: mov %cs,%eax */
    0x8c, 0xd3,                   /* 2002: mov %ss,%ebx */
    0x89, 0xe6,                   /* 2004: mov %esp,%esi */
    0xba, 0x00, 0x30, 0x00, 0x00, /* 2006: mov $0x3000,%edx */
    0xb9, 0x00, 0x88, 0x00, 0x00, /* 200b: mov $0x8800,%ecx */
    0x0f, 0x35,                   /* 2010: sysexit */
};
static const uint8_t prot_sysenter_back[] = {
    0x8c, 0xc8, /* 3000: mov %cs,%eax */
    0x89, 0xe7, /* 3002: mov %esp,%edi */
    0xcd, 0x40, /* 3004: int $0x40 */
};
static const uint8_t prot_paging_on[] = {
    0xb8, 0x00, 0x80, 0x02, 0x00, /* 1000: mov $0x28000,%eax */
    0x0f, 0x22, 0xd8,             /* 1005: mov %eax,%cr3 */
    0x0f, 0x20, 0xe0,             /* 1008: mov %cr4,%eax */
    0x83, 0xc8, 0x10,             /* 100b: or $0x10,%eax */
    0x0f, 0x22, 0xe0,             /* 100e: mov %eax,%cr4 */
    0x0f, 0x20, 0xc0,             /* 1011: mov %cr0,%eax */
    0x0d, 0x00, 0x00, 0x00, 0x80, /* 1014: or $0x80000000,%eax */
    0x0f, 0x22, 0xc0,             /* 1019: mov %eax,%cr0 */
    0xc7, 0x05, 0x00, 0x00, 0x40, 0x00,
    0xce, 0xfa, 0xed, 0xfe,             /* 101c: movl $0xfeedface,0x400000 */
    0x8b, 0x1d, 0x00, 0x80, 0x00, 0x00, /* 1026: mov 0x8000,%ebx */
    0xa3, 0x00, 0xa0, 0x00, 0x00,       /* 102c: mov %eax,0xa000 */
    0xf4,                               /* 1031: hlt */
};
static const uint8_t prot_lar[] = {
    0xb9, 0x40, 0x00, 0x00, 0x00, /* 1000: mov $0x40,%ecx */
    0x0f, 0x02, 0xc1,             /* 1005: lar %ecx,%eax */
    0x0f, 0x94, 0xc2,             /* 1008: sete %dl */
    0x0f, 0x03, 0xd9,             /* 100b: lsl %ecx,%ebx */
    0x0f, 0x00, 0xe1,             /* 100e: verr %cx */
    0x0f, 0x94, 0xc6,             /* 1011: sete %dh */
    0x0f, 0x00, 0xe9,             /* 1014: verw %cx */
    0x0f, 0x95, 0xc5,             /* 1017: setne %ch */
    0xbe, 0xf8, 0x07, 0x00, 0x00, /* 101a: mov $0x7f8,%esi */
    0xbf, 0x55, 0x55, 0x00, 0x00, /* 101f: mov $0x5555,%edi */
    0x0f, 0x02, 0xfe,             /* 1024: lar %esi,%edi */
    0xf4,                         /* 1027: hlt */
};
static const uint8_t prot_arpl[] = {
    0xb8, 0x10, 0x00, 0x00, 0x00, /* 1000: mov $0x10,%eax */
    0xbb, 0x13, 0x00, 0x00, 0x00, /* 1005: mov $0x13,%ebx */
    0x63, 0xd8,                   /* 100a: arpl %bx,%ax */
    0x0f, 0x94, 0xc1,             /* 100c: sete %cl */
    0x63, 0xd8,                   /* 100f: arpl %bx,%ax */
    0x0f, 0x94, 0xc5,             /* 1011: sete %ch */
    0xf4,                         /* 1014: hlt */
};
static const uint8_t prot_iret_nested[] = {
    0x68, 0x02, 0x40, 0x00, 0x00, /* 1000: push $0x4002 */
    0x9d,                         /* 1005: popf */
    0xcf,                         /* 1006: iret */
};

static void ring3_gate(struct rig *r)
{
    rig_gate(r, 0x40, 0x3000, 3);
}

static void sysenter_msrs(struct rig *r)
{
    if (vc_msr_set(r->cpu, 0x174, P_CODE) || vc_msr_set(r->cpu, 0x175, 0x8700) ||
        vc_msr_set(r->cpu, 0x176, 0x2000))
        rig_fail(r, "vc_msr_set: %s", vc_errmsg());
}

/* 4-KiB pages to themselves but for 0xa000; a 4-MiB page at 0x400000 that is physical 0. */
static void tables32(struct rig *r)
{
    rig_put(r, K_PD32, (K_PD32 + 0x1000) | 7, 4);
    rig_put(r, K_PD32 + 4, 0x87, 4);
    for (uint32_t i = 0; i < 1024; i++)
        rig_put(r, K_PD32 + 0x1000 + 4 * i, i == 0xa ? 0 : i << 12 | 7, 4);
}

static void no_idt(struct rig *r)
{
    struct vc_sregs s;
    rig_sregs(r, false, &s);
    s.idt_limit = 0;
    rig_sregs(r, true, &s);
}

static void small_tss(struct rig *r)
{
    struct vc_sregs s;
    rig_sregs(r, false, &s);
    s.tr.limit = 7;
    rig_sregs(r, true, &s);
}

#define KIT             .kit = KIT_PROT
#define USER            .kit = KIT_PROT, .user = true
#define FAULT(v, e, ip) .ending = END_EXCEPTION, .vector = v, .error = e, .at = ip

static const struct snippet list[] = {
    {.name = "prot: segment limit",
     KIT,
     .parts = {CODE(0x1000, prot_limit)},
     FAULT(E_GP, 0, 0x1011)},
    {.name = "prot: expand-down limit",
     KIT,
     .parts = {CODE(0x1000, prot_expand_down)},
     FAULT(E_GP, 0, 0x100b)},
    {.name = "prot: read-only data",
     KIT,
     .parts = {CODE(0x1000, prot_read_only)},
     FAULT(E_GP, 0, 0x100b)},
    {.name = "prot: segment not present",
     KIT,
     .parts = {CODE(0x1000, prot_not_present)},
     FAULT(E_NP, 0x48, 0x1004)},
    {.name = "prot: stack segment not present",
     KIT,
     .parts = {CODE(0x1000, prot_ss_not_present)},
     FAULT(E_SS, 0x48, 0x1004)},
    {.name = "prot: null segment used",
     KIT,
     .parts = {CODE(0x1000, prot_null)},
     FAULT(E_GP, 0, 0x1004)},
    {.name = "prot: null stack segment",
     KIT,
     .parts = {CODE(0x1000, prot_ss_null)},
     FAULT(E_GP, 0, 0x1002)},
    {.name = "prot: selector beyond the GDT",
     KIT,
     .parts = {CODE(0x1000, prot_gdt_limit)},
     FAULT(E_GP, 0x7f8, 0x1004)},
    {.name = "prot: unreadable code as data",
     KIT,
     .parts = {CODE(0x1000, prot_exec_only)},
     FAULT(E_GP, 0x58, 0x1004)},
    {.name = "prot: write through CS",
     KIT,
     .parts = {CODE(0x1000, prot_code_write)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "prot: conforming code keeps the ring",
     USER,
     .parts = {CODE(0x1000, prot_conforming), CODE(0x2000, prot_conforming_rest)},
     FAULT(E_GP, 0, 0x2002),
     .end = {R(RAX, 0x53)}},
    {.name = "prot: stack limit",
     KIT,
     .parts = {CODE(0x1000, prot_stack_fault)},
     FAULT(E_SS, 0, 0x100b)},
    {.name = "prot: call gate to ring 0 and back",
     USER,
     .parts = {CODE(0x1000, prot_call_gate), CODE(0x2000, prot_call_gate_callee),
               CODE(0x1011, prot_call_gate_back)},
     FAULT(0x40, 0, 0x1017),
     .end = {R(RAX, P_CODE), R(RBX, 0x22222222), R(RCX, 0x11111111), R(RDX, K_STACK - 24),
             R(RSI, P_UCODE), R(RDI, U_START_SP)}},
    {.name = "prot: INT from ring 3 and IRET",
     USER,
     .prepare = ring3_gate,
     .parts = {CODE(0x1000, prot_int_ring3), CODE(0x3000, prot_int_ring3_handler)},
     FAULT(E_GP, 0, 0x1007),
     .end = {R(RAX, 0x77), R(RBX, K_STACK - 20), R(RCX, 0x1007), R(RDX, U_START_SP)}},
    {.name = "prot: INT through a gate of ring 0",
     USER,
     .parts = {CODE(0x1000, prot_gate_dpl)},
     FAULT(E_GP, 0x20a, 0x1000)},
    {.name = "prot: INT through an absent gate",
     USER,
     .parts = {CODE(0x1000, prot_gate_absent)},
     FAULT(E_NP, 0x212, 0x1000)},
    {.name = "prot: task gates are refused",
     KIT,
     .parts = {CODE(0x1000, prot_task_gate)},
     FAULT(E_GP, 0x21a, 0x1000)},
    {.name = "prot: calls to a TSS are refused",
     KIT,
     .parts = {CODE(0x1000, prot_call_tss)},
     FAULT(E_GP, 0x80, 0x1000)},
    {.name = "prot: CLI in ring 3",
     USER,
     .parts = {CODE(0x1000, prot_cli_ring3)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "prot: IN in ring 3",
     USER,
     .parts = {CODE(0x1000, prot_io_ring3)},
     FAULT(E_GP, 0, 0x1000)},
    {.name = "prot: the I/O permission bitmap",
     USER,
     .parts = {CODE(0x1000, prot_io_bitmap)},
     .exits = {PORT_IN(0x20, 1, 0x5a)},
     FAULT(E_GP, 0, 0x1002),
     .end = {R(RAX, 0x5a)}},
    {.name = "prot: IRET to virtual-8086 mode, HLT there",
     KIT,
     .parts = {CODE(0x1000, prot_v86), CODE(0x4000, prot_v86_code)},
     FAULT(E_GP, 0, 0x2008),
     .end = {R(RAX, 0x1234), R(RBX, 0x3002)},
     .mem = {{0x8010, 2, 0x1234}}},
    {.name = "prot: INT in virtual-8086 mode",
     KIT,
     .parts = {CODE(0x1000, prot_v86), CODE(0x4000, prot_v86_int)},
     FAULT(0x40, 0, 0x2002)},
    {.name = "prot: 16-bit code",
     KIT,
     .parts = {CODE(0x1000, prot_code16), CODE(0x2000, prot_code16_rest)},
     .end = {R(RAX, 0x1234), R(RBX, 0x89abcdef), R(RCX, K_START_SP - 2)}},
    {.name = "prot: SYSENTER and SYSEXIT",
     USER,
     .prepare = sysenter_msrs,
     .parts = {CODE(0x1000, prot_sysenter), CODE(0x2000, prot_sysenter_target),
               CODE(0x3000, prot_sysenter_back)},
     FAULT(0x40, 0, 0x3006),
     .end = {R(RAX, P_UCODE), R(RBX, P_DATA), R(RSI, 0x8700), R(RDI, 0x8800)}},
    {.name = "prot: 32-bit paging with a 4-MiB page",
     KIT,
     .prepare = tables32,
     .parts = {CODE(0x1000, prot_paging_on), DATA(0x8000, "\x44\x33\x22\x11")},
     FAULT(E_PF, 2, 0x102c),
     .end = {R(RBX, 0x11223344), R(CR2, 0xa000)},
     .mem = {{0, 4, 0xfeedface}}},
    {.name = "prot: LAR, LSL, VERR, VERW",
     KIT,
     .parts = {CODE(0x1000, prot_lar)},
     .end = {R(RDX, 0x101), R(RCX, 0x140), R(RBX, 0xffffffff), R(RDI, 0x5555)}},
    {.name = "prot: ARPL",
     KIT,
     .parts = {CODE(0x1000, prot_arpl)},
     .end = {R(RAX, 0x13), R(RCX, 1)}},
    {.name = "prot: IRET from a nested task",
     KIT,
     .parts = {CODE(0x1000, prot_iret_nested)},
     FAULT(E_GP, 0, 0x1006)},
    {.name = "triple fault: a stack that takes no frame",
     KIT,
     .parts = {CODE(0x1000, prot_stack_triple)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: no IDT, 32-bit",
     KIT,
     .prepare = no_idt,
     .parts = {CODE(0x1000, prot_gate_dpl)},
     .ending = END_SHUTDOWN},
    {.name = "triple fault: no inner stack in the TSS",
     USER,
     .prepare = small_tss,
     .parts = {CODE(0x1000, prot_cli_ring3)},
     .ending = END_SHUTDOWN},
};
const struct snippets protected_mode = SNIPPETS(list);
