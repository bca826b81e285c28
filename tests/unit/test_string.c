/* SPDX-License-Identifier: MIT
 * String instructions where a run of them ends early: page faults, limits, wrapped
 * addresses, devices, budgets. What they compute is the instruction test's. */
#include "sys_rig.h"
#include "cpu/emu/flags.h"

static struct rig rig;
static struct emu *c;

static void open_rig(void)
{
    rig_open(&rig, NULL);
    c = rig.c;
}

static void close_rig(void)
{
    rig_close(&rig);
}

TestSuite(string, .init = open_rig, .fini = close_rig);

static void regs(uint64_t rcx, uint64_t rsi, uint64_t rdi)
{
    c->gpr[R_RCX] = rcx;
    c->gpr[R_RSI] = rsi;
    c->gpr[R_RDI] = rdi;
}

static uint8_t byte_at(uint64_t gpa)
{
    uint8_t b = 0;
    cr_assert_eq(mem_read(&rig.mem, gpa, &b, 1), 0);
    return b;
}

Test(string, fault_in_the_middle)
{
    rig_long(&rig, 0);
    /* The destination's third page is not there. */
    regs(20000, 0x200003, 0x3fe801);
    cr_assert_eq(RUN(&rig, "\xf3\xa4"), EXC_PF); /* rep movsb */
    cr_assert_eq(c->gpr[R_RCX], 20000 - 0x17ff);
    cr_assert_eq(c->gpr[R_RSI], 0x200003 + 0x17ff);
    cr_assert_eq(c->gpr[R_RDI], 0x400000);
    cr_assert_eq(c->cr2, 0x400000);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + 8), RIG_CODE);

    /* An element across the last page's end is not stored in part. */
    rig_put64(&rig, 0x3ffff8, 0);
    c->gpr[R_RAX] = UINT64_MAX;
    regs(100, 0, 0x3ffffc - 80);
    cr_assert_eq(RUN(&rig, "\xf3\x48\xab"), EXC_PF); /* rep stosq */
    cr_assert_eq(c->gpr[R_RCX], 90);
    cr_assert_eq(c->gpr[R_RDI], 0x3ffffc);
    cr_assert_eq(c->cr2, 0x400000);
    cr_assert_eq(rig_get64(&rig, 0x3ffff8), 0xffffffff);
}

Test(string, fault_downwards)
{
    rig_long(&rig, 0);
    regs(4096, 0x2ffff0, 0x600);
    rig_put64(&rig, 0x2ffff0, 0x1122334455667788);
    cr_assert_eq(RUN(&rig, "\xfd\xf3\x48\xa5"), EXC_PF); /* std; rep movsq */
    cr_assert_eq(c->gpr[R_RCX], 4096 - 0xc1);
    cr_assert_eq(c->gpr[R_RDI], (uint64_t)-8);
    cr_assert_eq(c->gpr[R_RSI], 0x2ffff0 - 0x608);
    cr_assert_eq(c->cr2, (uint64_t)-8);
    cr_assert_eq(rig_get64(&rig, 0x600), 0x1122334455667788);
}

Test(string, overlap_repeats)
{
    static const uint8_t pattern[] = {1, 2, 3};
    rig_long(&rig, 0);
    rig_put(&rig, 0x30ffe, pattern, 3);
    regs(9000, 0x30ffe, 0x31001);
    cr_assert_eq(RUN(&rig, "\xf3\xa4"), RIG_HALTED);
    for (unsigned i = 0; i < 9000; i++)
        cr_assert_eq(byte_at(0x31001 + i), pattern[i % 3], "%u", i);
    cr_assert_eq(byte_at(0x31001 + 9000), 0);
}

Test(string, address_size_wraps)
{
    rig_long(&rig, 0);
    c->seg[SEG_FS].base = 0xffffffff00030018; /* 4 GiB below 0x30018 */
    rig_put(&rig, 0x30008, "abcdefghijklmnop", 16);
    regs(0x5500000020, 0x77fffffff0, 0x40000);
    cr_assert_eq(RUN(&rig, "\x67\xf3\x64\xa4"), EXC_PF); /* rep movsb fs:[esi] */
    cr_assert_eq(c->gpr[R_RCX], 0x10);
    cr_assert_eq(c->gpr[R_RSI], 0);
    cr_assert_eq(c->gpr[R_RDI], 0x40010);
    cr_assert_eq(c->cr2, 0xffffffff00030018);
    cr_assert_eq(byte_at(0x4000f), 'p');
    cr_assert_eq(byte_at(0x40010), 0);
}

/* 32-bit code without paging, flat. */
static void flat32(void)
{
    rig_long(&rig, 0);
    c->cr0 = CR0_PE | CR0_ET;
    c->efer = 0;
    c->seg[SEG_CS].attr = 0xc9b;
    c->seg[SEG_CS].limit = UINT32_MAX;
    for (unsigned i = 0; i < 8; i++) /* 32-bit gates */
        rig_put64(&rig, RIG_IDT + 8 * (8 + i),
                  (RIG_HANDLERS + 16 * (8 + i)) | 0x08 << 16 | 0x8eull << 40);
    rig_put64(&rig, RIG_GDT + 8, 0x00cf9b000000ffff);
    emu_mode_changed(c);
}

Test(string, segment_limit_in_the_middle)
{
    flat32();
    c->seg[SEG_ES].base = 0x30010;
    c->seg[SEG_ES].limit = 0x2005;
    c->gpr[R_RAX] = 0x11;
    regs(0x4000, 0, 0x10);
    cr_assert_eq(RUN(&rig, "\xf3\xaa"), EXC_GP); /* rep stosb */
    cr_assert_eq(c->gpr[R_RDI], 0x2006);
    cr_assert_eq(c->gpr[R_RCX], 0x4000 - 0x1ff6);
    cr_assert_eq(byte_at(0x30010 + 0x2005), 0x11);
    cr_assert_eq(byte_at(0x30010 + 0x2006), 0);
    cr_assert_eq(byte_at(0x3001f), 0);
    cr_assert_eq(byte_at(0x30020), 0x11);

    /* Four bytes at a time the last does not fit. */
    regs(0x4000, 0, 0x2000);
    cr_assert_eq(RUN(&rig, "\xf3\xab"), EXC_GP); /* rep stosd */
    cr_assert_eq(c->gpr[R_RDI], 0x2004);

    /* Not writable; expand-down: up to the limit nothing is inside. */
    c->seg[SEG_ES].attr = 0xc91;
    regs(1, 0, 0);
    cr_assert_eq(RUN(&rig, "\xf3\xaa"), EXC_GP);
    c->seg[SEG_ES].attr = 0xc97;
    cr_assert_eq(RUN(&rig, "\xf3\xaa"), EXC_GP);
    regs(3, 0, 0x2006);
    cr_assert_eq(RUN(&rig, "\xf3\xaa"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RDI], 0x2009);
}

Test(string, search_keeps_the_last_comparison)
{
    rig_long(&rig, 0);
    rig_put(&rig, 0x31800, "\x90", 1);
    c->gpr[R_RAX] = 0x90;
    regs(UINT64_MAX, 0, 0x30000);
    cr_assert_eq(RUN(&rig, "\xf2\xae"), RIG_HALTED); /* repne scasb */
    cr_assert_eq(c->gpr[R_RDI], 0x31801);
    cr_assert_eq(c->gpr[R_RCX], UINT64_MAX - 0x1801);
    cr_assert_eq(flags_arith(c), FL_ZF | FL_PF);
    /* Not there at all: flags of 0x90 - 0. */
    regs(0x500, 0, 0x30000);
    cr_assert_eq(RUN(&rig, "\xf2\xae"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RCX], 0);
    cr_assert_eq(flags_arith(c), FL_SF | FL_PF);
    /* A count of 0 leaves flags alone. */
    regs(0, 0, 0x30000);
    cr_assert_eq(RUN(&rig, "\xf9\xf2\xae"), RIG_HALTED); /* stc */
    cr_assert(flags_arith(c) & FL_CF);
}

Test(string, long_ones_keep_to_the_budget)
{
    struct vc_budget budget = {.size = sizeof budget, .ns = 2000000};
    rig_long(&rig, 0);
    /* The first 2 MiB once more at every address up to 1 GiB. */
    for (unsigned i = 0; i < 512; i++)
        rig_put64(&rig, 0x102000 + 8 * i, 0x87);
    rig_put(&rig, RIG_CODE, "\xf3\xac", 2); /* rep lodsb */
    regs(1ull << 40, 0, 0);
    c->rip = RIG_CODE;
    emu_mode_changed(c);
    rig.exit.size = sizeof rig.exit;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = c->gpr[R_RSI];
        cr_assert_eq(backend_emu.run(rig.bc, &budget, &rig.exit), 0);
        if (rig.exit.kind != VC_EXIT_BUDGET)
            break; /* fast enough to come to the end */
        cr_assert_eq(c->rip, RIG_CODE);
        cr_assert_gt(c->gpr[R_RSI], before);
        cr_assert_eq(c->gpr[R_RSI] + c->gpr[R_RCX], 1ull << 40);
    }
}
