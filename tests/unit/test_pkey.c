/* SPDX-License-Identifier: MIT
 * Protection keys: the walk's rules, the instructions, the MSR, the soft TLB after a change of
 * rights, XSAVE's component. */
#include "cpu/emu/simd/fpu.h"
#include "sys_rig.h"

static struct rig rig;
static struct emu *c;

#define PAGE    0x300000ull /* mapped by an entry of its own, to itself */
#define PTE     0x103000ull
#define KEY(n)  ((uint64_t)(n) << 59)
#define AD(key) (1u << (2 * (key)))
#define WD(key) (2u << (2 * (key)))

#define READ  "\x8b\x06" /* mov eax, [rsi] */
#define WRITE "\x89\x06" /* mov [rsi], eax */

/* 64-bit mode with keys on; PAGE for users or not, with a key. */
static void with_page(unsigned cpl, uint64_t flags)
{
    rig_long(&rig, cpl);
    rig_put64(&rig, 0x102000 + 8, PTE | 7);
    for (unsigned i = 0; i < 512; i++)
        rig_put64(&rig, PTE + 8 * i, (0x200000 + 4096ull * i) | 7);
    rig_put64(&rig, PTE + 8 * (PAGE >> 12 & 511), PAGE | 3 | flags);
    cr_assert(emu_set_cr4(c, CR4_PAE | CR4_PKE | CR4_PKS));
    emu_flush_all(c);
    c->gpr[R_RSI] = PAGE;
}

static void setup(void)
{
    rig_open(&rig, NULL);
    c = rig.c;
}
static void teardown(void)
{
    rig_close(&rig);
}
TestSuite(pkey, .init = setup, .fini = teardown);

/* A key's rights for reads and writes of a CPL: whether they fault, and with what. */
static void expect(unsigned cpl, uint64_t cr0, int read, int write)
{
    for (unsigned i = 0; i < 2; i++) {
        int want = i ? write : read;
        uint32_t err = 1 | (i ? 2 : 0) | (cpl ? 4 : 0) | 0x20;
        emu_flush_all(c);
        c->cr0 = (c->cr0 & ~(uint64_t)CR0_WP) | cr0;
        int got = i ? RUN(&rig, WRITE) : RUN(&rig, READ);
        if (cpl && got == EXC_GP) /* the HLT behind it */
            got = RIG_HALTED;
        cr_expect_eq(got, want, "cpl %u write %u: %d", cpl, i, got);
        if (want == EXC_PF) {
            cr_expect_eq(c->fault.err, err, "%x", c->fault.err);
            cr_expect_eq(c->cr2, PAGE);
        }
    }
}

Test(pkey, user_pages)
{
    with_page(0, 4 | KEY(5));
    cr_assert(emu_set_pkru(c, ~(AD(5) | WD(5))));
    cr_assert(emu_set_pkrs(c, UINT32_MAX));
    expect(0, CR0_WP, RIG_HALTED, RIG_HALTED);
    cr_assert(emu_set_pkru(c, WD(5)));
    expect(0, CR0_WP, RIG_HALTED, EXC_PF);
    with_page(0, 4 | KEY(5));
    expect(0, 0, RIG_HALTED, RIG_HALTED);
    cr_assert(emu_set_pkru(c, AD(5)));
    expect(0, 0, EXC_PF, EXC_PF);
}

Test(pkey, user_accesses)
{
    static const struct {
        uint32_t pkru;
        int read, write;
    } cases[] = {
        {~(AD(15) | WD(15)), EXC_GP, EXC_GP}, {WD(15), EXC_GP, EXC_PF}, {AD(15), EXC_PF, EXC_PF}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned write = 0; write < 2; write++) {
            with_page(3, 4 | KEY(15)); /* CR0.WP is 0: of no use to a user */
            cr_assert(emu_set_pkru(c, cases[i].pkru & ~3u));
            int want = write ? cases[i].write : cases[i].read;
            cr_expect_eq(write ? RUN(&rig, WRITE) : RUN(&rig, READ), want, "%u %u", i, write);
            if (want == EXC_PF)
                cr_expect_eq(c->fault.err, write ? 0x27 : 0x25);
        }
    }
}

Test(pkey, supervisor_pages)
{
    with_page(0, KEY(1));
    cr_assert(emu_set_pkru(c, UINT32_MAX & ~3u));
    expect(0, CR0_WP, RIG_HALTED, RIG_HALTED);
    cr_assert(emu_set_pkrs(c, WD(1)));
    expect(0, CR0_WP, RIG_HALTED, EXC_PF);
    with_page(0, KEY(1));
    expect(0, 0, RIG_HALTED, RIG_HALTED);
    cr_assert(emu_set_pkrs(c, AD(1)));
    expect(0, 0, EXC_PF, EXC_PF);
    cr_assert(emu_set_cr4(c, CR4_PAE | CR4_PKE));
    expect(0, 0, RIG_HALTED, RIG_HALTED);
}

Test(pkey, fetches_have_no_keys)
{
    with_page(0, KEY(2));
    cr_assert(emu_set_pkrs(c, AD(2)));
    rig_put(&rig, PAGE, "\xf4", 1);
    cr_expect_eq(RUN(&rig, "\xff\xe6"), RIG_HALTED); /* jmp rsi */
    cr_expect_eq(c->rip, PAGE + 1);
}

/* Cached translations follow a change of rights, without INVLPG. */
Test(pkey, rights_take_effect)
{
    with_page(0, 4 | KEY(3));
    c->cr0 |= CR0_WP;
    uint64_t flushes = c->stats.tlb_flushes;
    /* mov [rsi], eax; mov eax, edi; wrpkru; mov [rsi], eax */
    c->gpr[R_RCX] = c->gpr[R_RDX] = 0;
    c->gpr[R_RDI] = AD(4) + WD(5);
    cr_expect_eq(RUN(&rig, WRITE "\x89\xf8\x0f\x01\xef" WRITE), RIG_HALTED);
    cr_expect_eq(c->stats.tlb_flushes, flushes, "no page of those keys is cached");
    c->gpr[R_RDI] |= WD(3);
    cr_expect_eq(RUN(&rig, WRITE "\x89\xf8\x0f\x01\xef" WRITE), EXC_PF);
    cr_expect_eq(c->fault.err, 0x23);
    cr_expect_eq(c->stats.tlb_flushes, flushes + 1);
}

Test(pkey, instructions)
{
    with_page(0, 4);
    c->gpr[R_RAX] = 0xffffffff55555554;
    c->gpr[R_RCX] = 0xffffffff00000000;
    c->gpr[R_RDX] = 0xffffffff00000000;
    cr_expect_eq(RUN(&rig, "\x0f\x01\xef\xb8\x01\x00\x00\x00\x0f\x01\xee"), RIG_HALTED);
    cr_expect_eq(c->gpr[R_RAX], 0x55555554);
    cr_expect_eq(c->gpr[R_RDX], 0);
    cr_expect_eq(c->pkru, 0x55555554);
    cr_expect_eq(emu_has_isa(c, ZYDIS_ISA_SET_PKU), true);

    for (unsigned i = 0; i < 4; i++) {
        static const uint8_t bad[4][2] = {{1, 0}, {0, 1}, {1, 0}, {0, 1}}; /* ECX, EDX */
        with_page(0, 4);
        c->gpr[R_RCX] = bad[i][0];
        c->gpr[R_RDX] = bad[i][1];
        int want = i == 3 ? RIG_HALTED : EXC_GP; /* RDPKRU does not look at EDX */
        cr_expect_eq(i < 2 ? RUN(&rig, "\x0f\x01\xef") : RUN(&rig, "\x0f\x01\xee"), want, "%u", i);
    }
    with_page(0, 4);
    cr_assert(emu_set_cr4(c, CR4_PAE));
    c->gpr[R_RCX] = 0;
    cr_expect_eq(RUN(&rig, "\x0f\x01\xee"), EXC_UD);
}

Test(pkey, registers)
{
    uint32_t out[4];
    uint64_t v = 1;
    emu_cpuid(c, 7, 0, out);
    cr_expect_eq(out[2] >> 3 & 3, 1);
    cr_expect_eq(out[2] >> 31, 1);
    cr_assert(emu_set_cr4(c, CR4_PKE));
    emu_cpuid(c, 7, 0, out);
    cr_expect_eq(out[2] >> 3 & 3, 3);

    cr_expect(emu_msr_read(c, MSR_PKRS, &v) && v == 0);
    cr_expect(emu_msr_write(c, MSR_PKRS, 0x12345678));
    cr_expect_not(emu_msr_write(c, MSR_PKRS, 1ull << 32));
    cr_expect(emu_msr_read(c, MSR_PKRS, &v) && v == 0x12345678);
    v = 0x55555554;
    cr_expect_eq(backend_emu.reg(rig.bc, true, VC_REG_PKRU, &v), 0);
    emu_reset(c, true);
    v = 0;
    cr_expect_eq(backend_emu.reg(rig.bc, false, VC_REG_PKRU, &v), 0);
    cr_expect_eq(v, 0x55555554, "INIT keeps it");
    cr_expect_eq(c->pkrs, 0x12345678);
    emu_reset(c, false);
    cr_expect_eq(c->pkru | c->pkrs, 0);
}

/* [rsi] is the area. */
#define XSAVE  "\x0f\xae\x26"
#define XSAVEC "\x0f\xc7\x26"
#define XRSTOR "\x0f\xae\x2e"

static void state_on(uint64_t xcr0)
{
    with_page(0, 4);
    cr_assert(emu_set_cr4(c, c->cr4 | CR4_OSFXSR | CR4_OSXSAVE));
    cr_assert(emu_set_xcr0(c, xcr0));
    c->gpr[R_RDX] = 0;
}

Test(pkey, xsave)
{
    uint32_t out[4];
    bool avx = cpu_has(c, F_AVX);
    state_on(c->vm->model->xcr0);
    emu_cpuid(c, 0xd, 0, out);
    cr_expect_eq(out[0], avx ? 0x207 : 0x203);
    cr_expect_eq(out[1], 840);
    cr_expect_eq(out[2], 840);
    emu_cpuid(c, 0xd, 9, out);
    cr_expect_eq(out[0], 8);
    cr_expect_eq(out[1], 832);

    c->gpr[R_RAX] = 0x200;
    cr_assert(emu_set_pkru(c, 0xabcd1230));
    cr_expect_eq(RUN(&rig, XSAVE), RIG_HALTED);
    cr_expect_eq(rig_get64(&rig, PAGE + 832), 0xabcd1230);
    cr_expect_eq(rig_get64(&rig, PAGE + 512), 0x200);
    cr_assert(emu_set_pkru(c, 0x10));
    cr_expect_eq(RUN(&rig, XRSTOR), RIG_HALTED);
    cr_expect_eq(c->pkru, 0xabcd1230);
    rig_put64(&rig, PAGE + 512, 0);
    cr_expect_eq(RUN(&rig, XRSTOR), RIG_HALTED);
    cr_expect_eq(c->pkru, 0, "initialized");
    cr_expect_eq(RUN(&rig, XSAVE), RIG_HALTED);
    cr_expect_eq(rig_get64(&rig, PAGE + 512), 0, "not in use");

    /* Compacted: where the YMM registers would be. */
    cr_assert(emu_set_pkru(c, 0x30));
    cr_expect_eq(RUN(&rig, XSAVEC), RIG_HALTED);
    cr_expect_eq(rig_get64(&rig, PAGE + 576), 0x30);
    cr_expect_eq(rig_get64(&rig, PAGE + 520), XS_COMPACT | 0x200);
    cr_assert(emu_set_pkru(c, 0));
    cr_expect_eq(RUN(&rig, XRSTOR), RIG_HALTED);
    cr_expect_eq(c->pkru, 0x30);
    if (avx) {
        c->ymm[2][20] = 9;
        c->gpr[R_RAX] = 0x204;
        cr_expect_eq(RUN(&rig, XSAVEC), RIG_HALTED);
        cr_expect_eq(rig_get64(&rig, PAGE + 832), 0x30);
        cr_assert(emu_set_pkru(c, 0));
        c->ymm[2][20] = 0;
        cr_expect_eq(RUN(&rig, XRSTOR), RIG_HALTED);
        cr_expect_eq(c->pkru, 0x30);
        cr_expect_eq(c->ymm[2][20], 9);
    }
    /* Without its bit in XCR0 it is left alone. */
    cr_assert(emu_set_xcr0(c, 3));
    c->gpr[R_RAX] = 0x203;
    rig_put64(&rig, PAGE + 512, 0);
    rig_put64(&rig, PAGE + 520, 0);
    cr_expect_eq(RUN(&rig, XRSTOR), RIG_HALTED);
    cr_expect_eq(c->pkru, 0x30);
}

/* What the embedder sees stays what it was: 832 bytes without PKRU. */
Test(pkey, embedder)
{
    struct vc_fpu fpu = {.size = sizeof fpu};
    state_on(c->vm->model->xcr0);
    cr_assert(emu_set_pkru(c, 0x30));
    emu_fpu_get(c, &fpu);
    cr_expect_eq(fpu.xcr0, c->vm->model->xcr0);
    cr_expect_eq(get_le64(fpu.xsave + XS_BV), 7);
    cr_expect_eq(emu_fpu_set(c, &fpu), 0);
    cr_expect_eq(c->pkru, 0x30);
    put_le64(fpu.xsave + XS_BV, 0x207);
    cr_expect_eq(emu_fpu_set(c, &fpu), VC_EINVAL);
}
