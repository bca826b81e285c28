/* SPDX-License-Identifier: MIT
 * What surrounds vector and x87 instructions: when they are refused, floating-
 * point exceptions, gathers, saved state, other code sizes, a full code memory. */
#include "insn_rig.h"

#define B(...) ((const uint8_t[16]){__VA_ARGS__})

static struct rig *rig;

static void setup(void)
{
    rig = rig_new();
}

static void teardown(void)
{
    rig_free(rig);
}

TestSuite(simd_state, .init = setup, .fini = teardown, .timeout = 60);

/* Runs one 64-bit instruction; its exception, -1, or -2 when it is nobody's. */
static int run64(const uint8_t *b)
{
    struct insn in;
    struct op op[2];
    if (!decode(rig, &rig->dec64, 8, b, 16, &in, op))
        return -2;
    return run(rig, op);
}

#define ADDPS_REG  B(0x0f, 0x58, 0xc1) /* addps xmm0, xmm1 */
#define ADDPS_MEM  B(0x0f, 0x58, 0x06) /* addps xmm0, [rsi] */
#define MOVAPS_MEM B(0x0f, 0x28, 0x06)
#define MOVUPS_MEM B(0x0f, 0x10, 0x06)
#define VADDPS     B(0xc5, 0xf4, 0x58, 0xc2) /* vaddps ymm0, ymm1, ymm2 */
#define VMOVAPS_ST B(0xc5, 0xfc, 0x29, 0x06) /* vmovaps [rsi], ymm0 */
#define PADDB_MMX  B(0x0f, 0xfc, 0xc1)
#define FADD       B(0xd8, 0xc1)
#define FWAIT      B(0x9b)
#define ANDN       B(0xc4, 0xe2, 0x70, 0xf2, 0xc2) /* andn eax, ecx, edx */

Test(simd_state, refused)
{
    struct emu *c = rig->c;
    c->gpr[R_RSI] = LINEAR;
    c->cr0 |= CR0_TS;
    cr_expect_eq(run64(ADDPS_REG), EXC_NM);
    cr_expect_eq(run64(MOVUPS_MEM), EXC_NM);
    cr_expect_eq(run64(VADDPS), EXC_NM);
    cr_expect_eq(run64(PADDB_MMX), EXC_NM);
    cr_expect_eq(run64(FADD), EXC_NM);
    cr_expect_eq(run64(FWAIT), -1);
    c->cr0 |= CR0_MP;
    cr_expect_eq(run64(FWAIT), EXC_NM);
    c->cr0 = (c->cr0 & ~(uint64_t)CR0_TS) | CR0_EM;
    cr_expect_eq(run64(ADDPS_REG), EXC_UD);
    cr_expect_eq(run64(PADDB_MMX), EXC_UD);
    cr_expect_eq(run64(FADD), EXC_NM);
    cr_expect_eq(run64(VADDPS), -1, "AVX does not look at CR0.EM");
    c->cr0 &= ~(uint64_t)CR0_EM;
    c->cr4 &= ~(uint64_t)CR4_OSFXSR;
    cr_expect_eq(run64(ADDPS_REG), EXC_UD);
    cr_expect_eq(run64(PADDB_MMX), -1);
    c->cr4 |= CR4_OSFXSR;
    c->xcr0 = 3;
    cr_expect_eq(run64(VADDPS), EXC_UD);
    c->xcr0 = 7;
    c->cr4 &= ~(uint64_t)CR4_OSXSAVE;
    cr_expect_eq(run64(VADDPS), EXC_UD);
    c->cr4 |= CR4_OSXSAVE;
    cr_expect_eq(run64(ANDN), -1);
    c->rflags |= FL_VM;
    cr_expect_eq(run64(VADDPS), EXC_UD);
    cr_expect_eq(run64(ANDN), EXC_UD);
}

Test(simd_state, alignment)
{
    struct emu *c = rig->c;
    c->gpr[R_RSI] = LINEAR + 8;
    cr_expect_eq(run64(ADDPS_MEM), EXC_GP);
    cr_expect_eq(run64(MOVAPS_MEM), EXC_GP);
    cr_expect_eq(run64(MOVUPS_MEM), -1);
    cr_expect_eq(run64(VMOVAPS_ST), EXC_GP);
    cr_expect_eq(run64(B(0xc5, 0xf4, 0x58, 0x06)), -1, "VEX has no alignment");
    cr_expect_eq(run64(B(0x66, 0x0f, 0x2d, 0x06)), EXC_GP, "cvtpd2pi mm0, [rsi]");
    cr_expect_eq(run64(B(0x66, 0x0f, 0x3a, 0x63, 0x06, 0x0c)), -1, "pcmpistri is exempt");
    cr_expect_eq(run64(B(0x0f, 0xae, 0x06)), EXC_GP, "fxsave");
    c->gpr[R_RSI] = LINEAR + 16;
    cr_expect_eq(run64(VMOVAPS_ST), EXC_GP);
    cr_expect_eq(run64(B(0x0f, 0xae, 0x26)), EXC_GP, "xsave");
    cr_expect_eq(run64(ADDPS_MEM), -1);
}

Test(simd_state, not_offered)
{
    cr_expect_eq(run64(B(0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2)), -2, "EVEX");
    cr_expect_eq(run64(B(0x0f, 0x0f, 0xc1, 0x9e)), -2, "3DNow!");
    cr_expect_eq(run64(B(0xc4, 0xe1, 0x7a, 0xbc, 0xc1)), -2, "an accelerator card's TZCNT");
    cr_assert_eq(cpu_model_find("x86-64-v2", &rig->model), 0);
    cr_expect_eq(run64(VADDPS), -2);
    cr_expect_eq(run64(ANDN), -2);
    rig->c->gpr[R_RCX] = 0x100;
    cr_expect_eq(run64(B(0xf3, 0x0f, 0xbc, 0xc1)), -1);
    cr_expect_eq(rig->c->gpr[R_RAX], 8);
    cr_expect_eq(run64(B(0xf3, 0x0f, 0xbd, 0xc1)), -1, "lzcnt is bsr on such a CPU");
}

/* ---- exceptions ---------------------------------------------------------------------- */

static void set_lane(unsigned reg, unsigned lane, float f)
{
    memcpy(rig->c->ymm[reg] + 4 * lane, &f, 4);
}

Test(simd_state, xm)
{
    struct emu *c = rig->c;
    const uint8_t *divps = B(0x0f, 0x5e, 0xc1);
    for (unsigned i = 0; i < 4; i++) {
        set_lane(0, i, 1.0f);
        set_lane(1, i, i == 2 ? 0.0f : 3.0f);
    }
    uint8_t before[32];
    memcpy(before, c->ymm[0], 32);
    c->mxcsr = 0x1f80 & ~0x200u; /* divide by zero unmasked */
    cr_expect_eq(run64(divps), EXC_XM);
    cr_expect_arr_eq(before, c->ymm[0], 32);
    cr_expect_eq(c->mxcsr, 0x1d84, "nothing was computed, so nothing is inexact: %x", c->mxcsr);
    c->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    cr_expect_eq(run64(divps), EXC_UD);
    c->cr4 |= CR4_OSXMMEXCPT;
    c->mxcsr = 0x1f80;
    cr_expect_eq(run64(divps), -1);
    cr_expect_eq(c->mxcsr, 0x1fa4);
    /* An unmasked flag that is already set raises nothing by itself. */
    c->mxcsr = 0x1d84;
    set_lane(0, 0, 1.0f);
    cr_expect_eq(run64(ADDPS_REG), -1);
}

Test(simd_state, unmasked_underflow_of_an_exact_result)
{
    struct emu *c = rig->c;
    set_lane(0, 0, 0x1p-126f);
    set_lane(1, 0, 0.5f);
    c->mxcsr = 0x1f80;
    cr_expect_eq(run64(B(0xf3, 0x0f, 0x59, 0xc1)), -1);
    cr_expect_eq(c->mxcsr, 0x1f80, "exact, so not flagged while masked");
    set_lane(0, 0, 0x1p-126f);
    c->mxcsr = 0x1f80 & ~0x800u;
    cr_expect_eq(run64(B(0xf3, 0x0f, 0x59, 0xc1)), EXC_XM);
    cr_expect(c->mxcsr & 0x10);
}

Test(simd_state, host_state_is_left_alone)
{
    uint32_t before, after;
    uint16_t cw_before, cw_after;
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(before), "=m"(cw_before));
    rig->c->mxcsr = 0xffff;
    set_lane(0, 0, 1e30f);
    set_lane(1, 0, 1e-30f);
    run64(ADDPS_REG);
    put_le16(rig->c->fx, 0x0c40);
    run64(B(0xd9, 0xeb)); /* fldpi */
    run64(PADDB_MMX);
    run64(B(0x0f, 0x2a, 0xc0)); /* cvtpi2ps xmm0, mm0 */
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(after), "=m"(cw_after));
    cr_expect_eq(before, after);
    cr_expect_eq(cw_before, cw_after);
}

Test(simd_state, mf)
{
    struct emu *c = rig->c;
    c->gpr[R_RSI] = LINEAR;
    run64(B(0xdb, 0xe3));                   /* fninit */
    put_le16(rig->guest, 0x037b);           /* divide by zero unmasked */
    cr_expect_eq(run64(B(0xd9, 0x2e)), -1); /* fldcw [rsi] */
    run64(B(0xd9, 0xee));                   /* fldz */
    run64(B(0xd9, 0xe8));                   /* fld1 */
    cr_expect_eq(run64(B(0xd8, 0xf1)), -1, "fdiv st0, st1 itself is done");
    cr_expect_eq(get_le16(c->fx + FX_FSW) & 0x8084, 0x8084);
    cr_expect_eq(run64(FADD), EXC_MF);
    cr_expect_eq(run64(FWAIT), EXC_MF);
    cr_expect_eq(run64(PADDB_MMX), EXC_MF);
    cr_expect_eq(run64(B(0xd9, 0x2e)), EXC_MF, "fldcw waits");
    cr_expect_eq(run64(B(0xdf, 0xe0)), -1, "fnstsw ax does not");
    cr_expect_eq(c->gpr[R_RAX] & 0x8084, 0x8084);
    cr_expect_eq(run64(B(0xdb, 0xe2)), -1, "fnclex");
    cr_expect_eq(run64(FADD), -1);
    /* Unmasking what is flagged makes it pending. */
    run64(B(0xdb, 0xe3));
    run64(B(0xd9, 0xee));
    run64(B(0xd9, 0xe8));
    run64(B(0xd8, 0xf1));
    cr_expect_eq(get_le16(c->fx + FX_FSW) & 0x8084, 4);
    cr_expect_eq(run64(B(0xd9, 0x2e)), -1);
    cr_expect_eq(get_le16(c->fx + FX_FSW) & 0x8084, 0x8084);
    cr_expect_eq(run64(FADD), EXC_MF);
}

Test(simd_state, unmasked_invalid_store_keeps_memory)
{
    struct emu *c = rig->c;
    c->gpr[R_RSI] = LINEAR + 64;
    run64(B(0xdb, 0xe3));
    put_le16(c->fx, 0x037e);
    put_le32(rig->guest + 64, 0x12345678);
    cr_expect_eq(run64(B(0xd9, 0x1e)), -1, "fstp from an empty stack");
    cr_expect_eq(get_le32(rig->guest + 64), 0x12345678);
    cr_expect_eq(run64(FWAIT), EXC_MF);
}

Test(simd_state, error_pointers)
{
    struct emu *c = rig->c;
    uint8_t env[28];
    c->gpr[R_RSI] = LINEAR + 256;
    c->gpr[R_IPB] = 0x400000;
    memset(rig->guest + 256, 0, 28);
    run64(B(0xdb, 0xe3));
    cr_expect_eq(run64(B(0xd9, 0x06)), -1); /* fld dword [rsi] */
    run64(B(0xd9, 0x36));                   /* fnstenv [rsi] */
    memcpy(env, rig->guest + 256, 28);
    cr_expect_eq(get_le32(env + 12), 0x400000);
    cr_expect_eq(get_le16(env + 18), 0x106);
    cr_expect_eq(get_le32(env + 20), LINEAR + 256);
    run64(B(0x0f, 0xfc, 0xc1)); /* MMX leaves them */
    cr_expect_eq(get_le64(c->fx + FX_FDP), LINEAR + 256);
}

/* ---- gathers -------------------------------------------------------------------------- */

Test(simd_state, gather)
{
    struct emu *c = rig->c;
    static const uint8_t op[8] = {0x90, 0x90, 0x91, 0x91, 0x92, 0x92, 0x93, 0x93};
    for (unsigned n = 0; n < 200; n++) {
        struct native s;
        bool w = n & 1, l = n >> 3 & 1;
        /* ymm1, [rsi + ymm2 * scale + 16], ymm3 */
        const uint8_t *b = B(0xc4, 0xe2, (uint8_t)(w << 7 | (~3u & 15) << 3 | l << 2 | 1),
                             op[n & 7], 0x4c, (uint8_t)((n >> 4 & 3) << 6 | 2 << 3 | BASE), 16);
        random_state(rig, &s, 0);
        point(rig, &s, BASE, 1024);
        for (unsigned i = 0; i < 8; i++)
            put_le32(s.ymm[2] + 4 * i, (uint32_t)(rnd(rig) % 200));
        if (op[n & 7] & 1) /* 64-bit indices, also negative */
            for (unsigned i = 0; i < 4; i++)
                put_le64(s.ymm[2] + 8 * i, rnd(rig) % 200 - 100);
        memcpy(c->ymm[2], s.ymm[2], 32);
        cr_assert_eq(run64(b), -1);
        native(rig, &s, b, 7);
        struct insn in;
        struct op o[2];
        decode(rig, &rig->dec64, 8, b, 16, &in, o);
        const char *what = differ(rig, &s, &in);
        cr_assert_null(what, "form %u: %s", n, what);
    }
    cr_expect_eq(run64(B(0xc4, 0xe2, 0x75, 0x90, 0x0c, 0x16)), -2, "mask is the destination: #UD");
}

/* vpgatherqq ymm1, [rsi + ymm2], ymm3 whose third element is not at a canonical address. */
Test(simd_state, gather_keeps_what_is_done)
{
    struct emu *c = rig->c;
    c->gpr[R_RSI] = LINEAR;
    memset(c->ymm[3], 0xff, 32);
    memset(c->ymm[1], 0x77, 32);
    memset(c->ymm[2], 0, 32);
    put_le64(c->ymm[2] + 8, 8);
    put_le64(c->ymm[2] + 16, 1ull << 62);
    put_le64(rig->guest, 11);
    put_le64(rig->guest + 8, 22);
    cr_expect_eq(run64(B(0xc4, 0xe2, 0xe5, 0x91, 0x0c, 0x16)), EXC_GP);
    cr_expect_eq(get_le64(c->ymm[1]), 11);
    cr_expect_eq(get_le64(c->ymm[1] + 8), 22);
    cr_expect_eq(c->ymm[1][16], 0x77);
    cr_expect_eq(get_le64(c->ymm[3]) | get_le64(c->ymm[3] + 8), 0);
    cr_expect_eq(c->ymm[3][23], 0xff);
    put_le64(c->ymm[2] + 16, 0);
    cr_expect_eq(run64(B(0xc4, 0xe2, 0xe5, 0x91, 0x0c, 0x16)), -1);
    cr_expect_eq(get_le64(c->ymm[1] + 24), 11);
    cr_expect_eq(get_le64(c->ymm[1] + 8), 22);
}

/* ---- saved state ----------------------------------------------------------------------- */

static void both(const uint8_t *b, unsigned n, struct native *s, unsigned off)
{
    point(rig, s, BASE, off);
    cr_assert_eq(run64(b), -1);
    native(rig, s, b, n);
}

/* Skips what belongs to the last x87 instruction. */
static bool same_image(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a, b, 5) && !memcmp(a + 24, b + 24, 4) && !memcmp(a + 32, b + 32, 384);
}

static void clean_st(struct native *s)
{
    for (unsigned i = 0; i < 8; i++)
        memset(s->fx + FX_ST + 16 * i + 10, 0, 6);
    memcpy(rig->c->fx, s->fx, 512);
}

Test(simd_state, fxsave)
{
    struct native s;
    for (unsigned n = 0; n < 50; n++) {
        random_state(rig, &s, 0);
        clean_st(&s);
        both(B(0x48, 0x0f, 0xae, 0x06), 4, &s, 512);
        cr_assert(same_image(rig->guest + 512, rig->host + 512));
        cr_assert_arr_eq(rig->guest + 512 + 416, rig->host + 512 + 416, 96);
    }
    /* And back. */
    memset(rig->c->ymm, 0, sizeof rig->c->ymm);
    rig->c->fx[FX_FTW] = 0;
    rig->c->mxcsr = 0;
    cr_assert_eq(run64(B(0x48, 0x0f, 0xae, 0x0e)), -1);
    cr_expect_eq(rig->c->mxcsr, s.mxcsr);
    cr_expect_arr_eq(rig->c->fx, s.fx, 5);
    for (unsigned i = 0; i < 16; i++)
        cr_expect_arr_eq(rig->c->ymm[i], s.ymm[i], 16);
    put_le32(rig->guest + 512 + 24, 0x10000);
    cr_expect_eq(run64(B(0x48, 0x0f, 0xae, 0x0e)), EXC_GP, "a reserved bit of MXCSR");
}

/* The forms: xsave, xsaveopt, xsavec (REX.W), with every mask, against the host's. */
Test(simd_state, xsave)
{
    static const uint8_t forms[3][8] = {
        {0x48, 0x0f, 0xae, 0x26}, {0x48, 0x0f, 0xae, 0x36}, {0x48, 0x0f, 0xc7, 0x26}};
    struct native s;
    for (unsigned n = 0; n < 48; n++) {
        unsigned form = n % 3, mask = n / 3 % 8;
        random_state(rig, &s, 0);
        clean_st(&s);
        if (n >= 24) { /* initial configuration */
            memset(s.ymm, 0, sizeof s.ymm);
            memcpy(rig->c->ymm, s.ymm, sizeof s.ymm);
            s.mxcsr = rig->c->mxcsr = MXCSR_INIT;
        }
        s.gpr[R_RAX] = rig->c->gpr[R_RAX] = mask;
        s.gpr[R_RDX] = rig->c->gpr[R_RDX] = 0;
        put_le64(rig->guest + 1024 + 512, 0);
        memcpy(rig->host, rig->guest, 4096);
        uint8_t *g = rig->guest + 1024, *h = rig->host + 1024;
        both(forms[form], 4, &s, 1024);
        /* A host may call a component in use that is not. */
        uint64_t more = get_le64(h + XS_BV) & ~get_le64(g + XS_BV);
        cr_expect_eq(get_le64(g + XS_BV) & ~get_le64(h + XS_BV), 0);
        if (more)
            continue;
        cr_expect_eq(get_le64(g + XS_COMP), get_le64(h + XS_COMP), "form %u mask %u", form, mask);
        memcpy(g + 5, h + 5, 19); /* pointers */
        memset(g + 28, 0, 4), memset(h + 28, 0, 4);
        cr_expect_arr_eq(g, h, 416, "form %u mask %u", form, mask);
        cr_expect_arr_eq(g + XS_AVX, h + XS_AVX, 256, "form %u mask %u", form, mask);
    }
}

Test(simd_state, xrstor)
{
    struct emu *c = rig->c;
    struct native s;
    const uint8_t *xsavec = B(0x48, 0x0f, 0xc7, 0x26), *xrstor = B(0x48, 0x0f, 0xae, 0x2e);
    random_state(rig, &s, 0);
    point(rig, &s, BASE, 1024);
    memset(rig->guest + 1024, 0, 1024);
    c->gpr[R_RAX] = 7;
    cr_assert_eq(run64(xsavec), -1);
    memset(c->ymm, 0x55, sizeof c->ymm);
    fpu_init(c);
    c->mxcsr = MXCSR_INIT;
    cr_assert_eq(run64(xrstor), -1);
    cr_expect_arr_eq(c->ymm, s.ymm, sizeof s.ymm);
    cr_expect_eq(c->mxcsr, s.mxcsr);
    cr_expect_arr_eq(c->fx, s.fx, 5);
    /* Only AVX requested: the rest stays. */
    memset(c->ymm, 0x55, sizeof c->ymm);
    c->gpr[R_RAX] = 4;
    cr_assert_eq(run64(xrstor), -1);
    cr_expect_eq(c->ymm[3][0], 0x55);
    cr_expect_arr_eq(c->ymm[3] + 16, s.ymm[3] + 16, 16);
    /* Not in XSTATE_BV: initialized. */
    put_le64(rig->guest + 1024 + XS_BV, 1);
    c->gpr[R_RAX] = 7;
    cr_assert_eq(run64(xrstor), -1);
    cr_expect_eq(c->mxcsr, MXCSR_INIT);
    cr_expect_eq(c->ymm[5][0] | c->ymm[5][31], 0);
    /* Headers that raise #GP. */
    uint8_t *header = rig->guest + 1024 + XS_BV;
    put_le64(header, 8);
    cr_expect_eq(run64(xrstor), EXC_GP);
    put_le64(header, 4);
    put_le64(header + 8, XS_COMPACT | 3);
    cr_expect_eq(run64(xrstor), EXC_GP);
    put_le64(header + 8, XS_COMPACT | 15);
    cr_expect_eq(run64(xrstor), EXC_GP);
    put_le64(header + 8, 0);
    header[63] = 1;
    cr_expect_eq(run64(xrstor), -1, "the standard format reads no more than 24 bytes of it");
    header[16] = 1;
    cr_expect_eq(run64(xrstor), EXC_GP);
}

/* fnstenv, fnsave, fldenv, frstor in their 32-bit protected form. */
Test(simd_state, environment)
{
    struct native s;
    for (unsigned n = 0; n < 100; n++) {
        random_state(rig, &s, 0);
        const uint8_t *store = n & 1 ? B(0xdd, 0x36) : B(0xd9, 0x36);
        both(store, 2, &s, 2048);
        memset(rig->guest + 2048 + 12, 0, 16), memset(rig->host + 2048 + 12, 0, 16);
        cr_assert_arr_eq(rig->guest + 2048, rig->host + 2048, 108, "round %u", n);
        cr_assert_arr_eq(rig->c->fx, s.fx, 5, "round %u", n);
        /* Loads what was saved, all masked, with another top. */
        rig->guest[2048] |= 0x3f, rig->host[2048] |= 0x3f;
        uint8_t top = (uint8_t)(rnd(rig) & 0x38);
        rig->guest[2048 + 5] = rig->host[2048 + 5] = top;
        both(n & 1 ? B(0xdd, 0x26) : B(0xd9, 0x26), 2, &s, 2048);
        cr_assert_arr_eq(rig->c->fx, s.fx, 5, "round %u", n);
        for (unsigned i = 0; i < 8; i++)
            cr_assert_arr_eq(rig->c->fx + 32 + 16 * i, s.fx + 32 + 16 * i, 10, "round %u st%u", n,
                             i);
    }
}

Test(simd_state, embedder)
{
    struct emu *c = rig->c;
    struct native s;
    struct vc_fpu f = {.size = sizeof f}, g = {.size = sizeof g};
    random_state(rig, &s, 0);
    emu_fpu_get(c, &f);
    memset(c->ymm, 0, sizeof c->ymm);
    c->mxcsr = 0;
    cr_expect_eq(emu_fpu_set(c, &f), 0);
    cr_expect_arr_eq(c->ymm, s.ymm, sizeof s.ymm);
    emu_fpu_get(c, &g);
    cr_expect_arr_eq(f.xsave, g.xsave, sizeof f.xsave);
    put_le32(f.xsave + 24, 0x10000);
    cr_expect_eq(emu_fpu_set(c, &f), VC_EINVAL);
    put_le32(f.xsave + 24, 0x1f80);
    put_le64(f.xsave + 512, 0x10);
    cr_expect_eq(emu_fpu_set(c, &f), VC_EINVAL);
}

/* ---- other code sizes ---------------------------------------------------------------------- */

struct form32 {
    uint8_t code32[16], host[16];
    uint8_t len;
};

/* Outside 64-bit mode VEX.W means nothing to general registers, VEX.vvvv has
 * three bits, and so has the register in an immediate. */
Test(simd_state, code32)
{
    static const struct form32 forms[] = {
        {{0xc4, 0xe1, 0xf9, 0x6e, 0xca}, {0xc4, 0xe1, 0x79, 0x6e, 0xca}, 5}, /* vmovd */
        {{0xc4, 0xe1, 0xf9, 0x7e, 0xca}, {0xc4, 0xe1, 0x79, 0x7e, 0xca}, 5},
        {{0xc4, 0xe3, 0xe9, 0x22, 0xca, 1}, {0xc4, 0xe3, 0x69, 0x22, 0xca, 1}, 6}, /* vpinsrd */
        {{0xc4, 0xe3, 0xf9, 0x16, 0xca, 1}, {0xc4, 0xe3, 0x79, 0x16, 0xca, 1}, 6}, /* vpextrd */
        {{0xc4, 0xe1, 0xeb, 0x2a, 0xca}, {0xc4, 0xe1, 0x6b, 0x2a, 0xca}, 5},       /* vcvtsi2sd */
        {{0xc4, 0xe1, 0xfb, 0x2d, 0xca}, {0xc4, 0xe1, 0x7b, 0x2d, 0xca}, 5},       /* vcvtsd2si */
        {{0xc4, 0xe2, 0xf0, 0xf2, 0xc2}, {0xc4, 0xe2, 0x70, 0xf2, 0xc2}, 5},       /* andn */
        {{0xc4, 0xe2, 0xe9, 0x98, 0xca}, {0xc4, 0xe2, 0xe9, 0x98, 0xca}, 5},       /* vfmadd132pd */
        {{0x66, 0x0f, 0xfe, 0xca}, {0x66, 0x0f, 0xfe, 0xca}, 4},                   /* paddd */
        {{0xf2, 0x0f, 0x2a, 0xca}, {0xf2, 0x0f, 0x2a, 0xca}, 4},                   /* cvtsi2sd */
        {{0x0f, 0xeb, 0xca}, {0x0f, 0xeb, 0xca}, 3}, /* por mm1, mm2 */
        {{0xd8, 0xc1}, {0xd8, 0xc1}, 2},
    };
    for (unsigned size = 2; size <= 4; size += 2) {
        for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
            struct native s;
            struct insn in;
            struct op op[2];
            rig->c->mode = size == 2 ? MODE_CODE16 : MODE_CODE32;
            cr_assert(decode(rig, size == 2 ? &rig->dec16 : &rig->dec32, size, forms[i].code32, 16,
                             &in, op),
                      "%u-bit form %u", size * 8, i);
            random_state(rig, &s, 0);
            for (unsigned r = 0; r < 16; r++)
                s.gpr[r] = rig->c->gpr[r] = (uint32_t)s.gpr[r];
            cr_expect_eq(run(rig, op), -1);
            native(rig, &s, forms[i].host, forms[i].len);
            const char *what = differ(rig, &s, &in);
            cr_expect_null(what, "%u-bit form %u: %s", size * 8, i, what);
        }
    }
}

Test(simd_state, full_code_memory)
{
    thunk_cache_limit(rig->vm.thunks, 0);
    for (unsigned n = 0; n < 64; n++) {
        struct native s;
        struct insn in;
        struct op op[2];
        uint8_t b[16] = {0x66, 0x0f, (uint8_t)(0xd0 + n), 0xc1};
        if (!decode(rig, &rig->dec64, 8, b, 16, &in, op) || op->base != R_ZERO * 8)
            continue;
        random_state(rig, &s, 0);
        cr_expect_eq(run(rig, op), -1);
        native(rig, &s, b, 4);
        const char *what = differ(rig, &s, &in);
        cr_expect_null(what, "%02x: %s", b[2], what);
    }
    cr_expect_eq(thunk_cache_used(rig->vm.thunks), 0);
}

/* Thunks do not depend on where the instruction or its operand is. */
Test(simd_state, equal_instructions_share)
{
    cr_expect_eq(run64(B(0x66, 0x0f, 0xfe, 0xc1)), -1);
    size_t used = thunk_cache_used(rig->vm.thunks);
    struct insn in;
    struct op op[2];
    cr_assert(decode(rig, &rig->dec64, 8, B(0x66, 0x0f, 0xfe, 0x06), 16, &in, op));
    size_t more = thunk_cache_used(rig->vm.thunks);
    cr_expect_gt(more, used);
    cr_assert(decode(rig, &rig->dec64, 8, B(0x65, 0x66, 0x41, 0x0f, 0xfe, 0x44, 0x90, 0x10), 16,
                     &in, op));
    cr_assert(decode(rig, &rig->dec32, 4, B(0x66, 0x0f, 0xfe, 0x05, 1, 2, 3, 4), 16, &in, op));
    cr_expect_eq(thunk_cache_used(rig->vm.thunks), more);
}
