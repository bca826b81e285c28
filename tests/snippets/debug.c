/* SPDX-License-Identifier: MIT
 * Debug registers, single step, breakpoints (SDM volume 3, chapter 18).
 * The assembly beside the bytes is as objdump prints it, with the address it is linked at. */
#include "snip.h"

static const uint8_t debug_step[] = {
    0x9c,                                     /* 1000: pushf */
    0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00, /* 1001: orl $0x100,(%rsp) */
    0x9d,                                     /* 1008: popf */
    0x90,                                     /* 1009: nop */
    0xf4,                                     /* 100a: hlt */
};
static const uint8_t debug_exec[] = {
    0xb8, 0x14, 0x10, 0x00, 0x00, /* 1000: mov $0x1014,%eax */
    0x0f, 0x23, 0xc0,             /* 1005: mov %rax,%db0 */
    0xb8, 0x01, 0x04, 0x00, 0x00, /* 1008: mov $0x401,%eax */
    0x0f, 0x23, 0xf8,             /* 100d: mov %rax,%db7 */
    0x90,                         /* 1010: nop */
    0x90,                         /* 1011: nop */
    0x90,                         /* 1012: nop */
    0x90,                         /* 1013: nop */
    0x90,                         /* 1014: nop */
    0x90,                         /* 1015: nop */
    0x90,                         /* 1016: nop */
    0x90,                         /* 1017: nop */
    0xf4,                         /* 1018: hlt */
};
static const uint8_t debug_write[] = {
    0xb8, 0x02, 0x80, 0x00, 0x00,                                     /* 1000: mov $0x8002,%eax */
    0x0f, 0x23, 0xc8,                                                 /* 1005: mov %rax,%db1 */
    0xb8, 0x04, 0x04, 0x50, 0x00,                                     /* 1008: mov $0x500404,%eax */
    0x0f, 0x23, 0xf8,                                                 /* 100d: mov %rax,%db7 */
    0xc6, 0x04, 0x25, 0x01, 0x80, 0x00, 0x00, 0x01,                   /* 1010: movb $0x1,0x8001 */
    0x8a, 0x04, 0x25, 0x02, 0x80, 0x00, 0x00,                         /* 1018: mov 0x8002,%al */
    0xc7, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, /* 101f: movl $0x1,0x8000 */
    0x90,                                                             /* 102a: nop */
    0xf4,                                                             /* 102b: hlt */
};
static const uint8_t debug_read[] = {
    0xb8, 0x00, 0x80, 0x00, 0x00,             /* 1000: mov $0x8000,%eax */
    0x0f, 0x23, 0xd0,                         /* 1005: mov %rax,%db2 */
    0xb8, 0x30, 0x04, 0x00, 0x0f,             /* 1008: mov $0xf000430,%eax */
    0x0f, 0x23, 0xf8,                         /* 100d: mov %rax,%db7 */
    0x8a, 0x04, 0x25, 0x03, 0x80, 0x00, 0x00, /* 1010: mov 0x8003,%al */
    0xf4,                                     /* 1017: hlt */
};
static const uint8_t debug_io[] = {
    0x0f, 0x20, 0xe0,             /* 1000: mov %cr4,%rax */
    0x83, 0xc8, 0x08,             /* 1003: or $0x8,%eax */
    0x0f, 0x22, 0xe0,             /* 1006: mov %rax,%cr4 */
    0xb8, 0x10, 0x00, 0x00, 0x00, /* 1009: mov $0x10,%eax */
    0x0f, 0x23, 0xd8,             /* 100e: mov %rax,%db3 */
    0xb8, 0x80, 0x04, 0x00, 0x20, /* 1011: mov $0x20000480,%eax */
    0x0f, 0x23, 0xf8,             /* 1016: mov %rax,%db7 */
    0xe6, 0x10,                   /* 1019: out %al,$0x10 */
    0x90,                         /* 101b: nop */
    0xf4,                         /* 101c: hlt */
};
static const uint8_t debug_gd[] = {
    0xb8, 0x00, 0x24, 0x00, 0x00, /* 1000: mov $0x2400,%eax */
    0x0f, 0x23, 0xf8,             /* 1005: mov %rax,%db7 */
    0x0f, 0x21, 0xf3,             /* 1008: mov %db6,%rbx */
    0xf4,                         /* 100b: hlt */
};
static const uint8_t debug_icebp[] = {
    0xf1, /* 1000: int1 */
    0xf4, /* 1001: hlt */
};
static const uint8_t debug_int3[] = {
    0xcc, /* 1000: int3 */
    0xf4, /* 1001: hlt */
};
static const uint8_t debug_dr4[] = {
    0xb8, 0x11, 0x00, 0x00, 0x00, /* 1000: mov $0x11,%eax */
    0x0f, 0x23, 0xf0,             /* 1005: mov %rax,%db6 */
    0x0f, 0x21, 0xe3,             /* 1008: mov %db4,%rbx */
    0x0f, 0x20, 0xe0,             /* 100b: mov %cr4,%rax */
    0x83, 0xc8, 0x08,             /* 100e: or $0x8,%eax */
    0x0f, 0x22, 0xe0,             /* 1011: mov %rax,%cr4 */
    0x0f, 0x21, 0xe1,             /* 1014: mov %db4,%rcx */
    0xf4,                         /* 1017: hlt */
};
static const uint8_t debug_mov_ss[] = {
    0xb8, 0x00, 0x80, 0x00, 0x00,             /* 1000: mov $0x8000,%eax */
    0x0f, 0x23, 0xc0,                         /* 1005: mov %rax,%db0 */
    0xb8, 0x01, 0x04, 0x07, 0x00,             /* 1008: mov $0x70401,%eax */
    0x0f, 0x23, 0xf8,                         /* 100d: mov %rax,%db7 */
    0x8e, 0x14, 0x25, 0x00, 0x80, 0x00, 0x00, /* 1010: mov 0x8000,%ss */
    0x90,                                     /* 1017: nop */
    0xf4,                                     /* 1018: hlt */
};
static const uint8_t debug_bad_dr7[] = {
    0xb8, 0x01, 0x00, 0x00, 0x00, /* 1000: mov $0x1,%eax */
    0x48, 0xc1, 0xe0, 0x20,       /* 1005: shl $0x20,%rax */
    0x0f, 0x23, 0xf8,             /* 1009: mov %rax,%db7 */
    0xf4,                         /* 100c: hlt */
};

#define KIT            .kit = KIT_LONG
#define DEBUG(ip, dr6) .ending = END_EXCEPTION, .vector = E_DB, .at = ip, .end = {R(DR6, dr6)}

static void first_dr6(struct rig *r)
{
    rig_set(r, VC_REG_DR6, 0xffff0ff0);
}

static const struct snippet list[] = {
    {.name = "debug: single step",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_step)},
     DEBUG(0x100a, 0xffff4ff0)},
    {.name = "debug: breakpoint on code",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_exec)},
     DEBUG(0x1014, 0xffff0ff1)},
    {.name = "debug: breakpoint on writes",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_write)},
     DEBUG(0x102a, 0xffff0ff2)},
    {.name = "debug: breakpoint on reads and writes",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_read)},
     DEBUG(0x1017, 0xffff0ff4)},
    {.name = "debug: breakpoint on a port",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_io)},
     .exits = {PORT_OUT(0x10, 1, 0x80)},
     DEBUG(0x101b, 0xffff0ff8)},
    {.name = "debug: general detect",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_gd)},
     .ending = END_EXCEPTION,
     .vector = E_DB,
     .at = 0x1008,
     .end = {R(DR6, 0xffff2ff0), R(DR7, 0x400)}},
    {.name = "debug: INT1",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_icebp)},
     DEBUG(0x1001, 0xffff0ff0)},
    {.name = "debug: INT3",
     KIT,
     .parts = {CODE(0x1000, debug_int3)},
     .ending = END_EXCEPTION,
     .vector = E_BP,
     .at = 0x1001},
    {.name = "debug: DR4 is DR6, unless CR4.DE",
     KIT,
     .parts = {CODE(0x1000, debug_dr4)},
     .ending = END_EXCEPTION,
     .vector = E_UD,
     .at = 0x1014,
     .end = {R(RBX, 0xffff0ff1)}},
    {.name = "debug: MOV SS holds a data breakpoint off",
     KIT,
     .prepare = first_dr6,
     .parts = {CODE(0x1000, debug_mov_ss), DATA(0x8000, "\x10\x00")},
     DEBUG(0x1018, 0xffff0ff1)},
    {.name = "debug: upper half of DR7",
     KIT,
     .parts = {CODE(0x1000, debug_bad_dr7)},
     .ending = END_EXCEPTION,
     .vector = E_GP,
     .at = 0x1009},
};
const struct snippets debug = SNIPPETS(list);
