/* SPDX-License-Identifier: MIT
 * System and I/O instructions, run in 64-bit mode and in real mode. */
#include "sys_rig.h"

static struct rig rig;
static struct emu *c;

static void setup(void)
{
    rig_open(&rig, "host");
    c = rig.c;
}

static void teardown(void)
{
    rig_close(&rig);
}

TestSuite(sys_ops, .init = setup, .fini = teardown);

static void real_mode(void)
{
    emu_reset(c, false);
    for (unsigned i = 0; i < 6; i++)
        c->seg[i] = (struct seg){.limit = 0xffff, .attr = i == SEG_CS ? 0x9b : 0x93};
    c->seg[SEG_CS].base = RIG_CODE & ~0xffffu;
    c->seg[SEG_CS].sel = RIG_CODE >> 4;
    c->gpr[R_RSP] = 0x7000;
    /* The vectors' handlers halt; their segment is 0. */
    for (unsigned v = 0; v < 32; v++) {
        uint8_t vec[4];
        put_le16(vec, (uint16_t)(RIG_HANDLERS + 16 * v));
        put_le16(vec + 2, 0);
        rig_put(&rig, 4 * v, vec, 4);
        rig_put(&rig, RIG_HANDLERS + 16 * v, "\xf4", 1);
    }
}

static int real(const void *code, size_t n)
{
    rig_put(&rig, RIG_CODE, code, n);
    rig_put(&rig, RIG_CODE + n, "\xf4", 1);
    c->rip = 0;
    c->halted = 0;
    emu_mode_changed(c);
    return rig_go(&rig);
}

/* ---- control registers ---------------------------------------------------------------- */

Test(sys_ops, mov_cr)
{
    rig_long(&rig, 0);
    /* mov rax, cr0; mov rbx, cr3; mov rcx, cr4; mov cr2, rbx; mov rdx, cr2 */
    cr_assert_eq(RUN(&rig, "\x0f\x20\xc0\x0f\x20\xdb\x0f\x20\xe1\x0f\x22\xd3\x0f\x20\xd2"),
                 RIG_HALTED);
    cr_assert_eq(c->gpr[R_RAX], c->cr0);
    cr_assert_eq(c->gpr[R_RBX], RIG_PML4);
    cr_assert_eq(c->gpr[R_RCX], CR4_PAE);
    cr_assert_eq(c->gpr[R_RDX], RIG_PML4);
    /* mov cr4, rax with VME */
    c->gpr[R_RAX] = CR4_PAE | CR4_VME;
    cr_assert_eq(RUN(&rig, "\x0f\x22\xe0"), EXC_GP);
    /* mov cr0, rax: PG off in 64-bit mode */
    c->gpr[R_RAX] = CR0_PE;
    cr_assert_eq(RUN(&rig, "\x0f\x22\xc0"), EXC_GP);
    /* mov cr8, rax; mov rbx, cr8 */
    c->gpr[R_RAX] = 5;
    cr_assert_eq(RUN(&rig, "\x44\x0f\x22\xc0\x44\x0f\x20\xc3"), RIG_HALTED);
    cr_assert_eq(rig.cr8, 5);
    cr_assert_eq(c->gpr[R_RBX], 5);
    c->gpr[R_RAX] = 16;
    cr_assert_eq(RUN(&rig, "\x44\x0f\x22\xc0"), EXC_GP);
    /* cr1, cr5 */
    cr_assert_eq(RUN(&rig, "\x0f\x20\xc8"), EXC_UD);
    cr_assert_eq(RUN(&rig, "\x0f\x22\xe8"), EXC_UD);
}

Test(sys_ops, wp_takes_effect)
{
    rig_long(&rig, 0);
    rig_put64(&rig, 0x102008, 0x200085); /* the second 2 MiB read-only */
    c->gpr[R_RBX] = 0x200000;
    cr_assert_eq(RUN(&rig, "\x88\x03"), RIG_HALTED); /* mov [rbx], al: WP off */
    /* mov rcx, cr0; bts ecx, 16; mov cr0, rcx; mov [rbx], al */
    cr_assert_eq(RUN(&rig, "\x0f\x20\xc1\x0f\xba\xe9\x10\x0f\x22\xc1\x88\x03"), EXC_PF);
    cr_assert_eq(c->cr2, 0x200000);
}

Test(sys_ops, lmsw_smsw_clts)
{
    real_mode();
    /* mov ax, 8; lmsw ax; smsw bx; clts; smsw ecx; smsw [0x100] */
    cr_assert_eq(real("\xb8\x08\x00\x0f\x01\xf0\x0f\x01\xe3\x0f\x06\x66\x0f\x01\xe1"
                      "\x0f\x01\x26\x00\x01",
                      20),
                 RIG_HALTED);
    cr_assert_eq(c->gpr[R_RBX] & 0xffff, 0x18);
    cr_assert_eq(c->gpr[R_RCX] & 0xffffffff, 0x60000010);
    cr_assert_eq(rig_get64(&rig, 0x100) & 0xffffffff, 0x10);
    /* LMSW cannot clear PE. */
    rig_long(&rig, 0);
    c->gpr[R_RAX] = 4;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xf0"), RIG_HALTED);
    cr_assert_eq(c->cr0 & 0xf, CR0_PE | CR0_EM);
}

Test(sys_ops, user_mode_may_not)
{
    static const struct {
        const char *code;
        unsigned n;
        int vector;
    } t[] = {
        {"\x0f\x20\xc0", 3, EXC_GP},         /* mov rax, cr0 */
        {"\x44\x0f\x20\xc0", 4, EXC_GP},     /* mov rax, cr8 */
        {"\x0f\x21\xc0", 3, EXC_GP},         /* mov rax, dr0 */
        {"\x0f\x06", 2, EXC_GP},             /* clts */
        {"\x0f\x01\xf0", 3, EXC_GP},         /* lmsw ax */
        {"\x0f\x30", 2, EXC_GP},             /* wrmsr */
        {"\x0f\x32", 2, EXC_GP},             /* rdmsr */
        {"\x0f\x33", 2, EXC_GP},             /* rdpmc, CR4.PCE off */
        {"\x0f\x08", 2, EXC_GP},             /* invd */
        {"\x0f\x09", 2, EXC_GP},             /* wbinvd */
        {"\x0f\x01\x3b", 3, EXC_GP},         /* invlpg [rbx] */
        {"\x66\x0f\x38\x82\x03", 5, EXC_GP}, /* invpcid rax, [rbx] */
        {"\x0f\x01\x13", 3, EXC_GP},         /* lgdt [rbx] */
        {"\x0f\x01\x1b", 3, EXC_GP},         /* lidt [rbx] */
        {"\xf4", 1, EXC_GP},                 /* hlt */
        {"\x0f\x01\xcb", 3, EXC_UD},         /* stac */
        {"\x0f\x01\xd0", 3, EXC_UD},         /* xgetbv, CR4.OSXSAVE off */
        {"\xe4\x10", 2, EXC_GP},             /* in al, 0x10 */
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        rig_long(&rig, 3);
        rig_put(&rig, RIG_TSS + 0x66, "\xff\xff", 2); /* no permission map */
        c->gpr[R_RBX] = 0x30000;
        cr_assert_eq(rig_run(&rig, t[i].code, t[i].n), t[i].vector, "%u", i);
        cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + (t[i].vector == EXC_UD ? 0 : 8)), RIG_CODE,
                     "%u: the fault names the instruction", i);
    }
}

Test(sys_ops, user_mode_may)
{
    rig_long(&rig, 3);
    c->gpr[R_RBX] = 0x30000;
    /* sgdt [rbx]; sidt [rbx+16]; smsw ecx; rdtsc; int3 */
    cr_assert_eq(RUN(&rig, "\x0f\x01\x03\x0f\x01\x4b\x10\x0f\x01\xe1\x0f\x31\xcc"), EXC_GP,
                 "INT3's gate has DPL 0");
    cr_assert_eq(rig_get64(&rig, 0x30000), 0xffull | (uint64_t)RIG_GDT << 16);
    cr_assert_eq(rig_get64(&rig, 0x30010), 0x1ffull | (uint64_t)RIG_IDT << 16);
    cr_assert_eq(c->gpr[R_RCX], c->cr0);
}

Test(sys_ops, umip_and_tsd)
{
    static const char *const code[] = {"\x0f\x01\x03", "\x0f\x01\x0b", "\x0f\x01\xe1"};
    for (unsigned i = 0; i < 3; i++) {
        rig_long(&rig, 3);
        c->cr4 |= CR4_UMIP;
        c->gpr[R_RBX] = 0x30000;
        cr_assert_eq(rig_run(&rig, code[i], 3), EXC_GP);
        rig_long(&rig, 0);
        c->cr4 |= CR4_UMIP;
        c->gpr[R_RBX] = 0x30000;
        cr_assert_eq(rig_run(&rig, code[i], 3), RIG_HALTED);
    }
    rig_long(&rig, 3);
    c->cr4 |= CR4_TSD;
    cr_assert_eq(RUN(&rig, "\x0f\x31"), EXC_GP);
    rig_long(&rig, 3);
    c->cr4 |= CR4_TSD;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xf9"), EXC_GP);
    rig_long(&rig, 0);
    c->cr4 |= CR4_TSD;
    c->tsc_aux = 0x155;
    /* rdtscp; rdpid rbx */
    cr_assert_eq(RUN(&rig, "\x0f\x01\xf9\xf3\x0f\xc7\xfb"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RCX], 0x155);
    cr_assert_eq(c->gpr[R_RBX], 0x155);
}

/* ---- descriptor tables, translations -------------------------------------------------------- */

Test(sys_ops, lgdt)
{
    rig_long(&rig, 0);
    rig_put(&rig, 0x30000, "\x34\x12\x00\x00\x00\x00\x00\x80\xff\xff", 10);
    c->gpr[R_RBX] = 0x30000;
    cr_assert_eq(RUN(&rig, "\x0f\x01\x13"), RIG_HALTED);
    cr_assert_eq(c->gdt.base, 0xffff800000000000);
    cr_assert_eq(c->gdt.limit, 0x1234);
    rig_long(&rig, 0);
    rig_put64(&rig, 0x30002, 0xaaaaaaaaaaaaaaaa);
    c->gpr[R_RBX] = 0x30000;
    cr_assert_eq(RUN(&rig, "\x0f\x01\x13"), EXC_GP);
    cr_assert_eq(c->gdt.base, RIG_GDT);
    real_mode();
    rig_put(&rig, 0x100, "\xff\x01\x78\x56\x34\x12", 6);
    cr_assert_eq(real("\x0f\x01\x1e\x00\x01", 5), RIG_HALTED); /* lidt [0x100]: 24 bits */
    cr_assert_eq(c->idt.base, 0x345678);
    c->idt.base = 0;
    cr_assert_eq(real("\x66\x0f\x01\x1e\x00\x01", 6), RIG_HALTED);
    cr_assert_eq(c->idt.base, 0x12345678);
}

Test(sys_ops, invlpg)
{
    rig_long(&rig, 0);
    rig_put64(&rig, 0x102008, 0x103007);
    for (unsigned i = 0; i < 512; i++)
        rig_put64(&rig, 0x103000 + 8 * i, 0x200007 + 0x1000 * i);
    rig_put64(&rig, 0x200000, 0x11);
    rig_put64(&rig, 0x201000, 0x22);
    c->gpr[R_RBX] = 0x200000;
    c->gpr[R_RSI] = 0x103000;
    c->gpr[R_RDI] = 0x201007;
    /* mov al, [rbx]; mov [rsi], rdi; invlpg [rbx]; mov cl, [rbx] */
    cr_assert_eq(RUN(&rig, "\x8a\x03\x48\x89\x3e\x0f\x01\x3b\x8a\x0b"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RAX] & 0xff, 0x11);
    cr_assert_eq(c->gpr[R_RCX] & 0xff, 0x22);
    c->gpr[R_RBX] = 0xaaaaaaaaaaaaaaaa;
    cr_assert_eq(RUN(&rig, "\x0f\x01\x3b"), RIG_HALTED, "no check of canonicality");
}

static int invpcid(uint64_t type, uint64_t pcid, uint64_t lin, uint64_t cr4)
{
    rig_long(&rig, 0);
    c->cr4 |= cr4;
    rig_put64(&rig, 0x30000, pcid);
    rig_put64(&rig, 0x30008, lin);
    c->gpr[R_RAX] = type;
    c->gpr[R_RBX] = 0x30000;
    return RUN(&rig, "\x66\x0f\x38\x82\x03");
}

Test(sys_ops, invpcid)
{
    for (unsigned type = 0; type < 4; type++) {
        cr_assert_eq(invpcid(type, 0, 0, 0), RIG_HALTED);
        cr_assert_eq(invpcid(type, 1, 0, 0), type < 2 ? EXC_GP : RIG_HALTED);
        cr_assert_eq(invpcid(type, 10, 0, CR4_PCIDE), RIG_HALTED);
        cr_assert_eq(invpcid(type, 0x1000, 0, CR4_PCIDE), EXC_GP);
    }
    cr_assert_eq(invpcid(4, 0, 0, 0), EXC_GP);
    cr_assert_eq(invpcid(BIT64(32), 0, 0, 0), EXC_GP);
    cr_assert_eq(invpcid(0, 10, 0xaaaaaaaaaaaaaaaa, CR4_PCIDE), EXC_GP);
    cr_assert_eq(invpcid(0, 10, 0xffffffffa0000000, CR4_PCIDE), RIG_HALTED);
}

/* ---- debug registers ------------------------------------------------------------------------- */

Test(sys_ops, mov_dr)
{
    rig_long(&rig, 0);
    c->gpr[R_RAX] = 0x1234567812345678;
    /* mov dr1, rax; mov rbx, dr1; mov ecx, ecx; mov dr6, rcx; mov rdx, dr4 */
    cr_assert_eq(RUN(&rig, "\x0f\x23\xc8\x0f\x21\xcb\x31\xc9\x0f\x23\xf1\x0f\x21\xe2"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RBX], 0x1234567812345678);
    cr_assert_eq(c->gpr[R_RDX], 0xffff0ff0);
    c->cr4 |= CR4_DE;
    cr_assert_eq(RUN(&rig, "\x0f\x21\xe2"), EXC_UD);
    rig_long(&rig, 0);
    c->gpr[R_RAX] = BIT64(32);
    cr_assert_eq(RUN(&rig, "\x0f\x23\xf8"), EXC_GP); /* mov dr7, rax */
    rig_long(&rig, 0);
    c->dr7 = DR7_FIXED | DR7_GD;
    c->dr6 = DR6_FIXED;
    cr_assert_eq(RUN(&rig, "\x0f\x23\xf1"), EXC_DB);
    cr_assert_eq(c->dr6, DR6_FIXED | DR6_BD);
    cr_assert_eq(c->dr7, DR7_FIXED, "GD goes off");
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP]), RIG_CODE, "a fault");
}

/* ---- XCR0, random numbers, hints ----------------------------------------------------------------
 */

Test(sys_ops, xcr0)
{
    rig_long(&rig, 0);
    cr_assert_eq(RUN(&rig, "\x0f\x01\xd0"), EXC_UD);
    rig_long(&rig, 0);
    c->cr4 |= CR4_OSXSAVE;
    c->gpr[R_RAX] = 3;
    c->gpr[R_RCX] = 0xabcd00000000; /* the upper half does not count */
    c->gpr[R_RDX] = 0;
    /* xsetbv; xor eax, eax; xgetbv */
    cr_assert_eq(RUN(&rig, "\x0f\x01\xd1\x31\xc0\x0f\x01\xd0"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RAX], 3);
    for (unsigned i = 1; i < 32; i++) {
        rig_long(&rig, 0);
        c->cr4 |= CR4_OSXSAVE;
        c->gpr[R_RAX] = 1;
        c->gpr[R_RDX] = 0;
        c->gpr[R_RCX] = i;
        cr_assert_eq(RUN(&rig, "\x0f\x01\xd1"), EXC_GP);
    }
    rig_long(&rig, 0);
    c->cr4 |= CR4_OSXSAVE;
    c->gpr[R_RCX] = 1;
    memset(c->ymm, 0, sizeof c->ymm);
    c->ymm[4][3] = 1;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xd0"), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RAX] & 6, 2, "XINUSE");
    c->gpr[R_RCX] = 2;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xd0"), EXC_GP);
}

Test(sys_ops, random)
{
    rig_long(&rig, 0);
    uint64_t seen = 0;
    for (unsigned i = 0; i < 16; i++) {
        flags_set_arith(c, FL_OF | FL_ZF | FL_SF);
        /* rdrand rax */
        cr_assert_eq(RUN(&rig, "\x48\x0f\xc7\xf0"), RIG_HALTED);
        cr_assert_eq(flags_arith(c), FL_CF);
        seen |= c->gpr[R_RAX];
    }
    cr_assert_eq(seen >> 32, 0xffffffff, "sixteen draws set every bit but one time in 2^11");
    c->gpr[R_RBX] = UINT64_MAX;
    cr_assert_eq(RUN(&rig, "\x0f\xc7\xfb"), RIG_HALTED); /* rdseed ebx */
    cr_assert_eq(c->gpr[R_RBX] >> 32, 0);
    c->gpr[R_RBX] = 0;
    cr_assert_eq(RUN(&rig, "\x66\x0f\xc7\xfb"), RIG_HALTED); /* rdseed bx */
    cr_assert_eq(c->gpr[R_RBX] >> 16, 0);
}

Test(sys_ops, hints_do_nothing)
{
    rig_long(&rig, 3);
    c->gpr[R_RAX] = 0xaaaaaaaaaaaaaaaa;
    /* endbr64; rdsspq rax; nop [rax]; prefetcht0 [rax]; prefetchw [rax]; pause;
     * bndmov bnd0, [rax]; lfence; mfence; sfence; ud2 */
    cr_assert_eq(RUN(&rig,
                     "\xf3\x0f\x1e\xfa\xf3\x48\x0f\x1e\xc8\x0f\x1f\x00\x0f\x18\x08\x0f\x0d\x08"
                     "\xf3\x90\x66\x0f\x1a\x00\x0f\xae\xe8\x0f\xae\xf0\x0f\xae\xf8\x0f\x0b"),
                 EXC_UD);
    cr_assert_eq(c->gpr[R_RAX], 0xaaaaaaaaaaaaaaaa);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP]), RIG_CODE + 33, "it got as far as UD2");
}

Test(sys_ops, clflush_checks)
{
    rig_long(&rig, 0);
    c->gpr[R_RBX] = 0x30000;
    /* clflush [rbx]; clflushopt [rbx]; clwb [rbx] */
    cr_assert_eq(RUN(&rig, "\x0f\xae\x3b\x66\x0f\xae\x3b\x66\x0f\xae\x33"), RIG_HALTED);
    c->gpr[R_RBX] = 0x40000000;
    cr_assert_eq(RUN(&rig, "\x0f\xae\x3b"), EXC_PF);
    rig_long(&rig, 0);
    c->gpr[R_RBX] = 0xaaaaaaaaaaaaaaaa;
    cr_assert_eq(RUN(&rig, "\x66\x0f\xae\x3b"), EXC_GP);
}

Test(sys_ops, hidden_instructions)
{
    static const char *const code[] = {
        "\x0f\x01\xc8", /* monitor */
        "\x0f\x01\xc9", /* mwait */
        "\x0f\x01\xfd", /* rdpru */
        "\x0f\x01\xfc", /* clzero */
        "\x0f\x01\xd8", /* vmrun */
        "\x0f\x01\xdc", /* stgi */
        "\x0f\x01\xc2", /* vmlaunch */
        "\x0f\x01\xee", /* rdpkru: CR4.PKE is 0 */
        "\x0f\x01\xd5", /* xend */
        "\x0f\xaa\x90", /* rsm */
        "\x0f\x01\xc1", /* vmcall */
        "\x0f\x01\xd9", /* vmmcall */
    };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        rig_long(&rig, 0);
        cr_assert_eq(rig_run(&rig, code[i], 3), EXC_UD, "%u", i);
    }
}

/* ---- hypercalls
 * ------------------------------------------------------------------------------------ */

Test(sys_ops, hypercall)
{
    rig_long(&rig, 0);
    rig.hcall = true;
    c->gpr[R_RAX] = 7;
    c->gpr[R_RDI] = 1, c->gpr[R_RSI] = 2, c->gpr[R_RDX] = 3;
    c->gpr[10] = 4, c->gpr[8] = 5, c->gpr[9] = 6;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xd9"), RIG_HALTED);
    cr_assert_eq(rig.hcall_nr, 7);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(rig.hcall_args[i], i + 1);
    cr_assert_eq(c->gpr[R_RAX], 0x1234);

    /* Nobody handles this one: the embedder answers. */
    rig.hcall_rc = ENV_UNHANDLED;
    c->gpr[R_RAX] = 9;
    cr_assert_eq(RUN(&rig, "\x0f\x01\xc1\x48\x89\xc3"), 100 + VC_EXIT_HCALL); /* mov rbx, rax */
    cr_assert_eq(rig.exit.u.hcall.nr, 9);
    cr_assert_eq(rig.exit.u.hcall.args[5], 6);
    cr_assert_eq(rig.exit.rip, RIG_CODE);
    rig.exit.u.hcall.ret = 0x5678;
    rig.hcall_nr = 0;
    cr_assert_eq(rig_go(&rig), RIG_HALTED);
    cr_assert_eq(rig.hcall_nr, 0, "not asked again");
    cr_assert_eq(c->gpr[R_RBX], 0x5678);

    rig_long(&rig, 3);
    cr_assert_eq(RUN(&rig, "\x0f\x01\xc1"), EXC_GP, "not from user mode");
}

/* ---- ports
 * -------------------------------------------------------------------------------------------- */

Test(sys_ops, in_out)
{
    rig_long(&rig, 0);
    rig.port_value = 0x1122334455667788;
    c->gpr[R_RAX] = UINT64_MAX;
    c->gpr[R_RDX] = 0x1234;
    /* in al, dx; out dx, ax; in eax, 0x60; out 0x80, al */
    cr_assert_eq(RUN(&rig, "\xec\x66\xef\xe5\x60\xe6\x80"), RIG_HALTED);
    cr_assert_eq(rig.nports, 4);
    cr_assert(rig.port[0].addr == 0x1234 && rig.port[0].len == 1 && !rig.port[0].write);
    cr_assert(rig.port[1].addr == 0x1234 && rig.port[1].len == 2 && rig.port[1].data == 0xff88);
    cr_assert(rig.port[2].addr == 0x60 && rig.port[2].len == 4);
    cr_assert(rig.port[3].addr == 0x80 && rig.port[3].len == 1 && rig.port[3].data == 0x88);
    cr_assert_eq(c->gpr[R_RAX], 0x55667788, "32 bits clear the upper half");
}

Test(sys_ops, in_that_the_embedder_answers)
{
    rig_long(&rig, 0);
    rig.port_rc = ENV_UNHANDLED;
    c->gpr[R_RDX] = 0x99;
    c->gpr[R_RAX] = 0x4400;
    cr_assert_eq(RUN(&rig, "\xec\xee"), 100 + VC_EXIT_PORT);
    cr_assert(rig.exit.u.port.port == 0x99 && rig.exit.u.port.len == 1 && !rig.exit.u.port.write);
    rig.exit.u.port.data = 0x77;
    cr_assert_eq(rig_go(&rig), 100 + VC_EXIT_PORT);
    cr_assert(rig.exit.u.port.write && rig.exit.u.port.data == 0x77);
    cr_assert_eq(rig_go(&rig), RIG_HALTED);
    cr_assert_eq(c->gpr[R_RAX], 0x4477);
    cr_assert_eq(rig.nports, 2);
}

Test(sys_ops, permission_bitmap)
{
    uint8_t map[16] = {0};
    put_le16(map, 0x68);
    rig_put(&rig, RIG_TSS + 0x66, map, 2);
    memset(map, 0xff, sizeof map);
    map[2] = 0x7f; /* port 0x17 */
    map[3] = 0xfe; /* port 0x18 */
    rig_put(&rig, RIG_TSS + 0x68, map, sizeof map);
    static const struct {
        const char *code;
        bool ok;
    } t[] = {
        {"\xe4\x17", true},  /* in al, 0x17 */
        {"\xe4\x16", false}, /* in al, 0x16 */
        {"\xe4\x18", true},
        {"\xe5\x17", false}, /* in eax, 0x17: 0x19 is closed */
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        rig_long(&rig, 3);
        cr_assert_eq(rig_run(&rig, t[i].code, 2), EXC_GP);
        uint64_t at = rig_get64(&rig, c->gpr[R_RSP] + 8);
        cr_assert_eq(at, t[i].ok ? RIG_CODE + 2 : RIG_CODE, "%u", i); /* or at the HLT */
    }
    /* in ax, 0x17 spans two bytes of the map. */
    rig_long(&rig, 3);
    cr_assert_eq(RUN(&rig, "\x66\xe5\x17"), EXC_GP);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + 8), RIG_CODE + 3);
    /* Past the limit: closed. Two bytes are read for the last port. */
    rig_long(&rig, 3);
    c->seg[SEG_TR].limit = 0x68 + 2;
    cr_assert_eq(RUN(&rig, "\xe4\x17"), EXC_GP);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + 8), RIG_CODE);
    /* IOPL 3: no look at the map. */
    rig_long(&rig, 3);
    c->rflags |= FL_IOPL;
    cr_assert_eq(RUN(&rig, "\xe4\x16"), EXC_GP);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + 8), RIG_CODE + 2);
}

Test(sys_ops, string_io)
{
    rig_long(&rig, 0);
    c->gpr[R_RDX] = 0x3f8;
    c->gpr[R_RCX] = 5;
    c->gpr[R_RSI] = 0x30000;
    rig_put(&rig, 0x30000, "hello", 5);
    cr_assert_eq(RUN(&rig, "\xf3\x6e"), RIG_HALTED); /* rep outsb */
    cr_assert_eq(rig.nports, 5);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(rig.port[i].data, (uint8_t) "hello"[i]);
    cr_assert_eq(c->gpr[R_RSI], 0x30005);
    cr_assert_eq(c->gpr[R_RCX], 0);

    /* Downwards, 16 bits, 32-bit addresses. */
    rig.port_value = 0xbeef;
    c->gpr[R_RCX] = 0xffffffff00000003;
    c->gpr[R_RDI] = 0xffffffff00031004;
    cr_assert_eq(RUN(&rig, "\xfd\x67\x66\xf3\x6d"), RIG_HALTED); /* std; rep insw */
    cr_assert_eq(rig_get64(&rig, 0x31000), 0x0000beefbeefbeef);
    cr_assert_eq(c->gpr[R_RDI], 0x30ffe);
    cr_assert_eq(c->gpr[R_RCX], 0);
}

Test(sys_ops, string_io_faults_between_iterations)
{
    rig_long(&rig, 0);
    c->gpr[R_RDX] = 0x10;
    c->gpr[R_RCX] = 8;
    c->gpr[R_RDI] = 0x3ffff8; /* the mapping ends at 4 MiB */
    rig.port_value = 0x01020304;
    cr_assert_eq(RUN(&rig, "\xf3\x6d"), EXC_PF); /* rep insd */
    cr_assert_eq(rig.nports, 2, "the device is not asked for what cannot be stored");
    cr_assert_eq(c->gpr[R_RCX], 6);
    cr_assert_eq(c->gpr[R_RDI], 0x400000);
    cr_assert_eq(c->cr2, 0x400000);
    cr_assert_eq(rig_get64(&rig, c->gpr[R_RSP] + 8), RIG_CODE);
}

Test(sys_ops, string_io_is_interruptible)
{
    rig_long(&rig, 0);
    c->gpr[R_RDX] = 0x10;
    c->gpr[R_RCX] = 1000;
    c->gpr[R_RSI] = 0x30000;
    mail_post(&rig.mail, PEND_NMI); /* taken before the first */
    cr_assert_eq(RUN(&rig, "\xf3\x6e"), EXC_NMI);
    rig.c->nmi_masked = false;
    rig.c->halted = 0;
    cr_assert_eq(RUN(&rig, "\xf3\x6e"), RIG_HALTED);
    cr_assert_eq(rig.nports, 1000);
    cr_assert_eq(c->gpr[R_RSI], 0x30000 + 1000);
}

Test(sys_ops, string_io_answered_by_the_embedder)
{
    rig_long(&rig, 0);
    rig.port_rc = ENV_UNHANDLED;
    c->gpr[R_RDX] = 0x10;
    c->gpr[R_RCX] = 3;
    c->gpr[R_RDI] = 0x30000;
    int k = RUN(&rig, "\xf3\x6c"); /* rep insb */
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(k, 100 + VC_EXIT_PORT);
        cr_assert_eq(c->gpr[R_RCX], 3 - i);
        rig.exit.u.port.data = 'a' + i;
        k = rig_go(&rig);
    }
    cr_assert_eq(k, RIG_HALTED);
    cr_assert_eq(rig_get64(&rig, 0x30000), 0x636261);
}

Test(sys_ops, string_io_segments)
{
    real_mode();
    c->seg[SEG_ES].base = 0x30000;
    c->seg[SEG_DS].base = 0x31000;
    c->seg[SEG_FS].base = 0x32000;
    rig_put(&rig, 0x31010, "D", 1);
    rig_put(&rig, 0x32011, "F", 1);
    rig.port_value = 'i';
    c->gpr[R_RSI] = 0x10;
    c->gpr[R_RDI] = 0xffff;
    c->gpr[R_RDX] = 1;
    /* outsb; fs outsb; fs insb */
    cr_assert_eq(real("\x6e\x64\x6e\x64\x6c", 5), RIG_HALTED);
    cr_assert_eq(rig.port[0].data, 'D');
    cr_assert_eq(rig.port[1].data, 'F');
    cr_assert_eq(rig_get64(&rig, 0x3ffff) & 0xff, 'i', "INS stores to ES always");
    cr_assert_eq(c->gpr[R_RDI] & 0xffff, 0);
}

/* ---- MSRs, CPUID, HLT as instructions
 * -------------------------------------------------------------------- */

Test(sys_ops, msr_instructions)
{
    rig_long(&rig, 0);
    c->gpr[R_RCX] = MSR_LSTAR;
    c->gpr[R_RAX] = 0xffffffff11223344;
    c->gpr[R_RDX] = 0xffffffff00005566;
    /* wrmsr; xor eax, eax; xor edx, edx; rdmsr */
    cr_assert_eq(RUN(&rig, "\x0f\x30\x31\xc0\x31\xd2\x0f\x32"), RIG_HALTED);
    cr_assert_eq(c->lstar, 0x556611223344);
    cr_assert_eq(c->gpr[R_RAX], 0x11223344);
    cr_assert_eq(c->gpr[R_RDX], 0x5566);
    c->gpr[R_RCX] = 0x12345;
    cr_assert_eq(RUN(&rig, "\x0f\x32"), EXC_GP);
    cr_assert_eq(c->gpr[R_RAX], 0x11223344, "nothing changed");
}

Test(sys_ops, cpuid_instruction)
{
    rig_long(&rig, 3);
    c->gpr[R_RAX] = 0xffffffff00000000;
    c->gpr[R_RBX] = c->gpr[R_RCX] = c->gpr[R_RDX] = UINT64_MAX;
    cr_assert_eq(RUN(&rig, "\x0f\xa2"), EXC_GP); /* the HLT */
    cr_assert_eq(c->gpr[R_RAX], 0x16);
    cr_assert_eq(c->gpr[R_RBX], 0x68747541);
    cr_assert_eq(c->gpr[R_RDX], 0x69746e65);
    cr_assert_eq(c->gpr[R_RCX], 0x444d4163);
}

Test(sys_ops, stac_clac)
{
    rig_long(&rig, 0);
    cr_assert_eq(RUN(&rig, "\x0f\x01\xcb"), RIG_HALTED);
    cr_assert(c->rflags & FL_AC);
    cr_assert_eq(RUN(&rig, "\x0f\x01\xca"), RIG_HALTED);
    cr_assert_not(c->rflags & FL_AC);
}
