/* SPDX-License-Identifier: MIT
 * Ports, memory that is not there, ROM, traps, hypercalls.
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t io_out[] = {
    0xb8, 0xef, 0xcd, 0xab, 0x89, /* 1000: mov $0x89abcdef,%eax */
    0xe6, 0x10,                   /* 1005: out %al,$0x10 */
    0x66, 0xe7, 0x12,             /* 1007: out %ax,$0x12 */
    0xe7, 0x14,                   /* 100a: out %eax,$0x14 */
    0x66, 0xba, 0x34, 0x12,       /* 100c: mov $0x1234,%dx */
    0xee,                         /* 1010: out %al,(%dx) */
    0xf4,                         /* 1011: hlt */
};
static const uint8_t io_in[] = {
    0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, /* 1000: mov $0xffffffffffffffff,%rax */
    0xe4, 0x10,                               /* 1007: in $0x10,%al */
    0x48, 0x89, 0xc3,                         /* 1009: mov %rax,%rbx */
    0x66, 0xe5, 0x12,                         /* 100c: in $0x12,%ax */
    0x48, 0x89, 0xc6,                         /* 100f: mov %rax,%rsi */
    0xe5, 0x14,                               /* 1012: in $0x14,%eax */
    0xf4,                                     /* 1014: hlt */
};
static const uint8_t io_outs[] = {
    0xbe, 0x00, 0x80, 0x00, 0x00, /* 1000: mov $0x8000,%esi */
    0xb9, 0x03, 0x00, 0x00, 0x00, /* 1005: mov $0x3,%ecx */
    0x66, 0xba, 0x20, 0x00,       /* 100a: mov $0x20,%dx */
    0x66, 0xf3, 0x6f,             /* 100e: rep outsw %ds:(%rsi),(%dx) */
    0xf4,                         /* 1011: hlt */
};
static const uint8_t io_ins[] = {
    0xbf, 0x08, 0x80, 0x00, 0x00, /* 1000: mov $0x8008,%edi */
    0xb9, 0x03, 0x00, 0x00, 0x00, /* 1005: mov $0x3,%ecx */
    0x66, 0xba, 0x20, 0x00,       /* 100a: mov $0x20,%dx */
    0xfd,                         /* 100e: std */
    0xf3, 0x6d,                   /* 100f: rep insl (%dx),%es:(%rdi) */
    0xf4,                         /* 1011: hlt */
};
static const uint8_t io_outs_fault[] = {
    0xbe, 0xfe, 0x9f, 0x00, 0x00, /* 1000: mov $0x9ffe,%esi */
    0xb9, 0x04, 0x00, 0x00, 0x00, /* 1005: mov $0x4,%ecx */
    0x66, 0xba, 0x20, 0x00,       /* 100a: mov $0x20,%dx */
    0xf3, 0x6e,                   /* 100e: rep outsb %ds:(%rsi),(%dx) */
};
static const uint8_t mmio_sizes[] = {
    0xbb, 0x00, 0x00, 0x00, 0x40, /* 1000: mov $0x40000000,%ebx */
    0x48, 0xb8, 0x88, 0x77, 0x66,
    0x55, 0x44, 0x33, 0x22, 0x11, /* 1005: movabs $0x1122334455667788,%rax */
    0x88, 0x03,                   /* 100f: mov %al,(%rbx) */
    0x66, 0x89, 0x43, 0x02,       /* 1011: mov %ax,0x2(%rbx) */
    0x89, 0x43, 0x04,             /* 1015: mov %eax,0x4(%rbx) */
    0x48, 0x89, 0x43, 0x08,       /* 1018: mov %rax,0x8(%rbx) */
    0x8a, 0x0b,                   /* 101c: mov (%rbx),%cl */
    0x66, 0x8b, 0x53, 0x02,       /* 101e: mov 0x2(%rbx),%dx */
    0x8b, 0x73, 0x04,             /* 1022: mov 0x4(%rbx),%esi */
    0x48, 0x8b, 0x7b, 0x08,       /* 1025: mov 0x8(%rbx),%rdi */
    0xf4,                         /* 1029: hlt */
};
static const uint8_t mmio_rmw[] = {
    0xbb, 0x00, 0x00, 0x00, 0x40, /* 1000: mov $0x40000000,%ebx */
    0xb8, 0x05, 0x00, 0x00, 0x00, /* 1005: mov $0x5,%eax */
    0x01, 0x03,                   /* 100a: add %eax,(%rbx) */
    0xf0, 0x0f, 0xc1, 0x43, 0x04, /* 100c: lock xadd %eax,0x4(%rbx) */
    0x87, 0x43, 0x08,             /* 1011: xchg %eax,0x8(%rbx) */
    0xf4,                         /* 1014: hlt */
};
static const uint8_t mmio_cmpxchg[] = {
    0xbb, 0x00, 0x00, 0x00, 0x40, /* 1000: mov $0x40000000,%ebx */
    0xb8, 0x07, 0x00, 0x00, 0x00, /* 1005: mov $0x7,%eax */
    0xb9, 0x09, 0x00, 0x00, 0x00, /* 100a: mov $0x9,%ecx */
    0xf0, 0x0f, 0xb1, 0x0b,       /* 100f: lock cmpxchg %ecx,(%rbx) */
    0xf4,                         /* 1013: hlt */
};
static const uint8_t mmio_rep_movs[] = {
    0xbe, 0x00, 0x80, 0x00, 0x00, /* 1000: mov $0x8000,%esi */
    0xbf, 0x10, 0x00, 0x00, 0x40, /* 1005: mov $0x40000010,%edi */
    0xb9, 0x02, 0x00, 0x00, 0x00, /* 100a: mov $0x2,%ecx */
    0xf3, 0xa5,                   /* 100f: rep movsl %ds:(%rsi),%es:(%rdi) */
    0xbe, 0x20, 0x00, 0x00, 0x40, /* 1011: mov $0x40000020,%esi */
    0xbf, 0x10, 0x80, 0x00, 0x00, /* 1016: mov $0x8010,%edi */
    0xb9, 0x02, 0x00, 0x00, 0x00, /* 101b: mov $0x2,%ecx */
    0xf3, 0xa4,                   /* 1020: rep movsb %ds:(%rsi),%es:(%rdi) */
    0xf4,                         /* 1022: hlt */
};
static const uint8_t mmio_sse[] = {
    0xbb, 0x00, 0x00, 0x00, 0x40,                   /* 1000: mov $0x40000000,%ebx */
    0x0f, 0x10, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1005: movups 0x8000,%xmm0 */
    0x0f, 0x11, 0x03,                               /* 100d: movups %xmm0,(%rbx) */
    0x0f, 0x10, 0x4b, 0x10,                         /* 1010: movups 0x10(%rbx),%xmm1 */
    0x0f, 0x11, 0x0c, 0x25, 0x10, 0x80, 0x00, 0x00, /* 1014: movups %xmm1,0x8010 */
    0xf4,                                           /* 101c: hlt */
};
static const uint8_t mmio_odd[] = {
    0xbb, 0x00, 0x00, 0x00, 0x40,                   /* 1000: mov $0x40000000,%ebx */
    0x0f, 0x10, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1005: movups 0x8000,%xmm0 */
    0x66, 0x0f, 0xfe, 0x03,                         /* 100d: paddd (%rbx),%xmm0 */
    0xdb, 0xe3,                                     /* 1011: fninit */
    0xdb, 0x43, 0x10,                               /* 1013: fildl 0x10(%rbx) */
    0xdf, 0x7b, 0x20,                               /* 1016: fistpll 0x20(%rbx) */
    0x0f, 0x11, 0x04, 0x25, 0x10, 0x80, 0x00, 0x00, /* 1019: movups %xmm0,0x8010 */
    0xf4,                                           /* 1021: hlt */
};
static const uint8_t mmio_push_pop[] = {
    0xff, 0x34, 0x25, 0x00, 0x00, 0x00, 0x40, /* 1000: push 0x40000000 */
    0x8f, 0x04, 0x25, 0x08, 0x00, 0x00, 0x40, /* 1007: pop 0x40000008 */
    0xf4,                                     /* 100e: hlt */
};
static const uint8_t mmio_border[] = {
    0xbb, 0xfe, 0xff, 0x1f, 0x00, /* 1000: mov $0x1ffffe,%ebx */
    0xb8, 0x11, 0x22, 0x33, 0x44, /* 1005: mov $0x44332211,%eax */
    0x89, 0x03,                   /* 100a: mov %eax,(%rbx) */
    0x8b, 0x0b,                   /* 100c: mov (%rbx),%ecx */
    0xf4,                         /* 100e: hlt */
};
static const uint8_t mmio_unaligned[] = {
    0x8b, 0x04, 0x25, 0x03, 0x00, 0x00, 0x40, /* 1000: mov 0x40000003,%eax */
    0xf4,                                     /* 1007: hlt */
};
static const uint8_t mmio_fetch[] = {
    0xb8, 0x00, 0x00, 0x00, 0x40, /* 1000: mov $0x40000000,%eax */
    0xff, 0xe0,                   /* 1005: jmp *%rax */
};
static const uint8_t rom_write[] = {
    0x8b, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, /* 1000: mov 0x300000,%eax */
    0xc7, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00,
    0x55, 0x00, 0x00, 0x00,                   /* 1007: movl $0x55,0x300000 */
    0x8b, 0x1c, 0x25, 0x00, 0x00, 0x30, 0x00, /* 1012: mov 0x300000,%ebx */
    0xf4,                                     /* 1019: hlt */
};
static const uint8_t trap_port[] = {
    0xb0, 0x07, /* 1000: mov $0x7,%al */
    0xe6, 0x30, /* 1002: out %al,$0x30 */
    0xe4, 0x30, /* 1004: in $0x30,%al */
    0xe6, 0x40, /* 1006: out %al,$0x40 */
    0xf4,       /* 1008: hlt */
};
static const uint8_t trap_mmio[] = {
    0xc7, 0x04, 0x25, 0x00, 0x10, 0x00, 0x40,
    0x34, 0x12, 0x00, 0x00,                   /* 1000: movl $0x1234,0x40001000 */
    0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x40, /* 100b: mov 0x40001000,%eax */
    0x89, 0x04, 0x25, 0x00, 0x20, 0x00, 0x40, /* 1012: mov %eax,0x40002000 */
    0xf4,                                     /* 1019: hlt */
};
static const uint8_t trap_ram[] = {
    0xb9, 0x03, 0x00, 0x00, 0x00,             /* 1000: mov $0x3,%ecx */
    0xff, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, /* 1005: incl 0x5000 */
    0xff, 0xc9,                               /* 100c: dec %ecx */
    0x75, 0xf5,                               /* 100e: jne 1005 */
    0xe4, 0x10,                               /* 1010: in $0x10,%al */
    0xff, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, /* 1012: incl 0x5000 */
    0xf4,                                     /* 1019: hlt */
};
static const uint8_t trap_late[] = {
    0xb9, 0x02, 0x00, 0x00, 0x00, /* 1000: mov $0x2,%ecx */
    0xe6, 0x30,                   /* 1005: out %al,$0x30 */
    0xe4, 0x10,                   /* 1007: in $0x10,%al */
    0xff, 0xc9,                   /* 1009: dec %ecx */
    0x75, 0xf8,                   /* 100b: jne 1005 */
    0xf4,                         /* 100d: hlt */
};
static const uint8_t hcall[] = {
    0xb8, 0x21, 0x00, 0x00, 0x00,       /* 1000: mov $0x21,%eax */
    0xbf, 0x01, 0x00, 0x00, 0x00,       /* 1005: mov $0x1,%edi */
    0xbe, 0x02, 0x00, 0x00, 0x00,       /* 100a: mov $0x2,%esi */
    0xba, 0x03, 0x00, 0x00, 0x00,       /* 100f: mov $0x3,%edx */
    0x41, 0xba, 0x04, 0x00, 0x00, 0x00, /* 1014: mov $0x4,%r10d */
    0x41, 0xb8, 0x05, 0x00, 0x00, 0x00, /* 101a: mov $0x5,%r8d */
    0x41, 0xb9, 0x06, 0x00, 0x00, 0x00, /* 1020: mov $0x6,%r9d */
    0x0f, 0x01, 0xc1,                   /* 1026: vmcall */
    0x48, 0x89, 0xc3,                   /* 1029: mov %rax,%rbx */
    0xb8, 0x22, 0x00, 0x00, 0x00,       /* 102c: mov $0x22,%eax */
    0x0f, 0x01, 0xd9,                   /* 1031: vmmcall */
    0xf4,                               /* 1034: hlt */
};

/* ---- traps: counted, and answered ------------------------------------------------ */

struct trap {
    unsigned calls;
    uint64_t last;
};

static int on_trap(void *ud, struct vc_access *a)
{
    struct trap *t = ud;
    t->calls++;
    if (a->write)
        t->last = a->data;
    else
        a->data = t->last + 1;
    return 0;
}

static void check_trap(struct rig *r, enum vc_space space, uint64_t base, const struct want *want)
{
    static const struct want hlt = {.kind = VC_EXIT_HLT};
    struct trap t = {0, 0};
    int id = vc_trap(r->vm, space, base, 0x1000 >> (space == VC_SPACE_PORT ? 8 : 0), on_trap, &t);
    if (id <= 0) {
        rig_fail(r, "vc_trap: %s", vc_errmsg());
        return;
    }
    if (rig_run(r, 0) && rig_want(r, want) && rig_run(r, 0))
        rig_want(r, &hlt);
    if (t.calls != 2)
        rig_fail(r, "the handler was called %u times, not 2", t.calls);
    if (vc_untrap(r->vm, id) != 0)
        rig_fail(r, "vc_untrap: %s", vc_errmsg());
}

static void check_port(struct rig *r)
{
    static const struct want out = PORT_OUT(0x40, 1, 8);
    check_trap(r, VC_SPACE_PORT, 0x30, &out);
}

static void check_mmio(struct rig *r)
{
    static const struct want out = MMIO_OUT(MMIO + 0x2000, 4, 0x1235);
    check_trap(r, VC_SPACE_MMIO, MMIO + 0x1000, &out);
}

/* RAM first; then the same page is trapped, although it has been used. */
static void check_ram(struct rig *r)
{
    static const struct want in = PORT_IN(0x10, 1, 0), hlt = {.kind = VC_EXIT_HLT};
    struct trap t = {0, 40};
    if (!rig_run(r, 0) || !rig_want(r, &in))
        return;
    if (rig_get(r, 0x5000, 4) != 3)
        rig_fail(r, "RAM holds %llu, not 3", (unsigned long long)rig_get(r, 0x5000, 4));
    if (vc_trap(r->vm, VC_SPACE_MMIO, 0x5000, 0x1000, on_trap, &t) <= 0)
        rig_fail(r, "vc_trap: %s", vc_errmsg());
    if (rig_run(r, 0) && rig_want(r, &hlt) && (t.calls != 2 || t.last != 42))
        rig_fail(r, "%u calls, last %llu; expected 2, 42", t.calls, (unsigned long long)t.last);
}

/* A port that exits, until somebody handles it. */
static void check_late(struct rig *r)
{
    static const struct want out = PORT_OUT(0x30, 1, 0), in = PORT_IN(0x10, 1, 0),
                             hlt = {.kind = VC_EXIT_HLT};
    struct trap t = {0, 0};
    if (!rig_run(r, 0) || !rig_want(r, &out) || !rig_run(r, 0) || !rig_want(r, &in))
        return;
    if (vc_trap(r->vm, VC_SPACE_PORT, 0x30, 1, on_trap, &t) <= 0)
        rig_fail(r, "vc_trap: %s", vc_errmsg());
    if (rig_run(r, 0) && rig_want(r, &in) && rig_run(r, 0) && rig_want(r, &hlt) && t.calls != 1)
        rig_fail(r, "the handler was called %u times, not once", t.calls);
}

/* ---- hypercalls -------------------------------------------------------------------- */

/* Declines the first one, so that it exits. */
static int on_hcall(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    (void)cpu;
    if (nr == 0x21)
        return 1;
    *(uint64_t *)ud = nr << 32 | args[0] << 16 | args[5];
    *ret = 0x77;
    return 0;
}

static void check_hcall(struct rig *r)
{
    static const struct want call = {.kind = VC_EXIT_HCALL, .where = 0x21, .data = 0x99},
                             hlt = {.kind = VC_EXIT_HLT};
    uint64_t seen = 0;
    if (vc_hcall_set(r->vm, on_hcall, &seen) != 0)
        rig_fail(r, "vc_hcall_set: %s", vc_errmsg());
    if (!rig_run(r, 0) || !rig_want(r, &call))
        return;
    for (unsigned i = 0; i < 6; i++)
        if (r->exit.u.hcall.args[i] != i + 1)
            rig_fail(r, "argument %u is %#llx", i, (unsigned long long)r->exit.u.hcall.args[i]);
    if (!rig_want(r, &call) || !rig_run(r, 0) || !rig_want(r, &hlt))
        return;
    rig_want_reg(r, VC_REG_RBX, 0x99);
    rig_want_reg(r, VC_REG_RAX, 0x77);
    if (seen != 0x2200010006)
        rig_fail(r, "the handler saw %#llx", (unsigned long long)seen);
}

#define KIT .kit = KIT_LONG

static const struct snippet list[] = {
    {.name = "io: OUT of each size",
     KIT,
     .parts = {CODE(0x1000, io_out)},
     .exits = {PORT_OUT(0x10, 1, 0xef), PORT_OUT(0x12, 2, 0xcdef), PORT_OUT(0x14, 4, 0x89abcdef),
               PORT_OUT(0x1234, 1, 0xef)}},
    {.name = "io: IN of each size",
     KIT,
     .parts = {CODE(0x1000, io_in)},
     .exits = {PORT_IN(0x10, 1, 0x11), PORT_IN(0x12, 2, 0x2222), PORT_IN(0x14, 4, 0x33333333)},
     .end = {R(RBX, 0xffffffffffffff11), R(RSI, 0xffffffffffff2222), R(RAX, 0x33333333)}},
    {.name = "io: REP OUTSW",
     KIT,
     .parts = {CODE(0x1000, io_outs), DATA(0x8000, "\x11\x11\x22\x22\x33\x33")},
     .exits = {PORT_OUT(0x20, 2, 0x1111), PORT_OUT(0x20, 2, 0x2222), PORT_OUT(0x20, 2, 0x3333)},
     .end = {R(RSI, 0x8006), R(RCX, 0)}},
    {.name = "io: REP INSD backwards",
     KIT,
     .parts = {CODE(0x1000, io_ins)},
     .exits = {PORT_IN(0x20, 4, 1), PORT_IN(0x20, 4, 2), PORT_IN(0x20, 4, 3)},
     .end = {R(RDI, 0x7ffc), R(RCX, 0)},
     .mem = {{0x8000, 4, 3}, {0x8004, 4, 2}, {0x8008, 4, 1}}},
    {.name = "io: REP OUTSB up to a page fault",
     KIT,
     .parts = {CODE(0x1000, io_outs_fault), DATA(0x9ffe, "\x11\x22")},
     .exits = {PORT_OUT(0x20, 1, 0x11), PORT_OUT(0x20, 1, 0x22)},
     .ending = END_EXCEPTION,
     .vector = E_PF,
     .at = 0x100e,
     .end = {R(RSI, 0xa000), R(RCX, 2), R(CR2, 0xa000)}},
    {.name = "mmio: each size",
     KIT,
     .parts = {CODE(0x1000, mmio_sizes)},
     .exits = {MMIO_OUT(MMIO, 1, 0x88), MMIO_OUT(MMIO + 2, 2, 0x7788),
               MMIO_OUT(MMIO + 4, 4, 0x55667788), MMIO_OUT(MMIO + 8, 8, 0x1122334455667788),
               MMIO_IN(MMIO, 1, 0x11), MMIO_IN(MMIO + 2, 2, 0x2222),
               MMIO_IN(MMIO + 4, 4, 0x33333333), MMIO_IN(MMIO + 8, 8, 0x4444444444444444)},
     .end = {R(RCX, 0x11), R(RDX, 0x2222), R(RSI, 0x33333333), R(RDI, 0x4444444444444444)}},
    {.name = "mmio: ADD, XADD, XCHG",
     KIT,
     .parts = {CODE(0x1000, mmio_rmw)},
     .exits = {MMIO_IN(MMIO, 4, 100), MMIO_OUT(MMIO, 4, 105), MMIO_IN(MMIO + 4, 4, 200),
               MMIO_OUT(MMIO + 4, 4, 205), MMIO_IN(MMIO + 8, 4, 300), MMIO_OUT(MMIO + 8, 4, 200)},
     .end = {R(RAX, 300)}},
    {.name = "mmio: CMPXCHG that matches",
     KIT,
     .parts = {CODE(0x1000, mmio_cmpxchg)},
     .exits = {MMIO_IN(MMIO, 4, 7), MMIO_OUT(MMIO, 4, 9)},
     .end = {R(RAX, 7)}},
    {.name = "mmio: CMPXCHG that does not",
     KIT,
     .parts = {CODE(0x1000, mmio_cmpxchg)},
     .exits = {MMIO_IN(MMIO, 4, 8), MMIO_OUT(MMIO, 4, 8)},
     .end = {R(RAX, 8)}},
    {.name = "mmio: REP MOVS to and from",
     KIT,
     .parts = {CODE(0x1000, mmio_rep_movs), DATA(0x8000, "\x11\x11\x11\x11\x22\x22\x22\x22")},
     .exits = {MMIO_OUT(MMIO + 0x10, 4, 0x11111111), MMIO_OUT(MMIO + 0x14, 4, 0x22222222),
               MMIO_IN(MMIO + 0x20, 1, 0x33), MMIO_IN(MMIO + 0x21, 1, 0x44)},
     .end = {R(RCX, 0), R(RDI, 0x8012)},
     .mem = {{0x8010, 2, 0x4433}}},
    {.name = "mmio: 16 bytes are two accesses",
     KIT,
     .parts = {CODE(0x1000, mmio_sse), DATA(0x8000, "\1\1\1\1\1\1\1\1\2\2\2\2\2\2\2\2")},
     .exits = {MMIO_OUT(MMIO, 8, 0x0101010101010101), MMIO_OUT(MMIO + 8, 8, 0x0202020202020202),
               MMIO_IN(MMIO + 0x10, 8, 0x11), MMIO_IN(MMIO + 0x18, 8, 0x22)},
     .mem = {{0x8010, 8, 0x11}, {0x8018, 8, 0x22}}},
    {.name = "mmio: PADDD, FILD, FISTP", /* KVM leaves them to the interpreter */
     KIT,
     .parts = {CODE(0x1000, mmio_odd), DATA(0x8000, "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0")},
     .exits = {MMIO_IN(MMIO, 8, 0x1000000010), MMIO_IN(MMIO + 8, 8, 0x2000000020),
               MMIO_IN(MMIO + 0x10, 4, 0x12345), MMIO_OUT(MMIO + 0x20, 8, 0x12345)},
     .mem = {{0x8010, 8, 0x1200000011}, {0x8018, 8, 0x2400000023}}},
    {.name = "mmio: PUSH and POP",
     KIT,
     .parts = {CODE(0x1000, mmio_push_pop)},
     .exits = {MMIO_IN(MMIO, 8, 0x1234), MMIO_OUT(MMIO + 8, 8, 0x1234)},
     .end = {R(RSP, K_START_SP)}},
    {.name = "mmio: across the end of RAM",
     KIT,
     .parts = {CODE(0x1000, mmio_border)},
     .exits = {MMIO_OUT(RAM_SIZE, 2, 0x4433), MMIO_IN(RAM_SIZE, 2, 0x6655)},
     .end = {R(RCX, 0x66552211)},
     .mem = {{0x1ffffe, 2, 0x2211}}},
    {.name = "mmio: unaligned",
     KIT,
     .parts = {CODE(0x1000, mmio_unaligned)},
     .exits = {MMIO_IN(MMIO + 3, 4, 0x12345678)},
     .end = {R(RAX, 0x12345678)}},
    {.name = "mmio: code there",
     KIT,
     .parts = {CODE(0x1000, mmio_fetch)},
     .ending = END_EXCEPTION,
     .vector = E_UD,
     .at = MMIO},
    {.name = "rom: writes are dropped",
     KIT,
     .parts = {CODE(0x1000, rom_write)},
     .end = {R(RAX, 0x12345678), R(RBX, 0x12345678)}},
    {.name = "trap: a port",
     KIT,
     .parts = {CODE(0x1000, trap_port)},
     .ending = END_OWN,
     .check = check_port},
    {.name = "trap: MMIO",
     KIT,
     .parts = {CODE(0x1000, trap_mmio)},
     .ending = END_OWN,
     .check = check_mmio},
    {.name = "trap: RAM, after it was used",
     KIT,
     .parts = {CODE(0x1000, trap_ram)},
     .ending = END_OWN,
     .check = check_ram},
    {.name = "trap: on code that already ran",
     KIT,
     .parts = {CODE(0x1000, trap_late)},
     .ending = END_OWN,
     .check = check_late},
    {.name = "hypercall: as an exit, and handled",
     KIT,
     .needs = VC_FEAT_HCALL,
     .parts = {CODE(0x1000, hcall)},
     .ending = END_OWN,
     .check = check_hcall},
    {.name = "hypercall: nobody takes them",
     KIT,
     .parts = {CODE(0x1000, hcall)},
     .ending = END_EXCEPTION,
     .vector = E_UD,
     .at = 0x1026},
};
const struct snippets io = SNIPPETS(list);
