/* SPDX-License-Identifier: MIT
 * The same code on CPU models with fewer features, by each engine: what the guest
 * does not have keeps its older meaning, what the host does not have is done in C,
 * and vectors are kept whole without AVX. */
#include "api.h"

/* What code leaves in rax at its HLT; 0 where there is no such model. */
static uint64_t run_model(const char *model, uint32_t engine, const void *code, size_t len)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = engine, .cpu_model = model};
    vc_vm *vm = vc_open("emu", &opts);
    if (!vm && vc_errcode() == VC_ENOTSUP)
        return 0;
    cr_assert_not_null(vm, "%s: %s", model, vc_errmsg());
    vc_cpu *cpu = code_cpu(vm, code, len);
    struct vc_exit exit = {.size = sizeof exit};
    uint64_t rax = 0;
    works(vc_run(cpu, NULL, &exit));
    cr_assert_eq(exit.kind, VC_EXIT_HLT, "%s, engine %u: exit %u at %#llx", model, engine,
                 exit.kind, (unsigned long long)exit.rip);
    works(vc_reg_get(cpu, VC_REG_RAX, &rax));
    works(vc_close(vm));
    return rax;
}

/*     mov ecx, 100; xor eax, eax
 *  1: mov edx, ecx; and edx, 1; mov ebx, 7
 *     tzcnt ebx, edx; add eax, ebx; mov ebx, 9; lzcnt ebx, edx; add eax, ebx
 *     dec ecx; jnz 1b; hlt */
static const uint8_t counts[] = {
    0xb9, 0x64, 0x00, 0x00, 0x00, 0x31, 0xc0,                         /* */
    0x89, 0xca, 0x83, 0xe2, 0x01, 0xbb, 0x07, 0x00, 0x00, 0x00,       /* */
    0xf3, 0x0f, 0xbc, 0xda, 0x01, 0xd8, 0xbb, 0x09, 0x00, 0x00, 0x00, /* */
    0xf3, 0x0f, 0xbd, 0xda, 0x01, 0xd8, 0xff, 0xc9, 0x75, 0xe1, 0xf4,
};

/* Fifty times each of 0 and 1. */
Test(features, zero_counts)
{
    static const uint32_t engines[] = {VC_ENGINE_INTERP, VC_ENGINE_JIT};
    for (unsigned e = 0; e < 2; e++) {
        const uint64_t here[] = {
            run_model("host", engines[e], counts, sizeof counts),
            run_model("host,~bmi1,~lzcnt", engines[e], counts, sizeof counts),
        };
        for (unsigned i = 0; i < 2; i++)
            cr_assert_eq(here[i], 50 * (0 + 31) + 50 * (32 + 32), "TZCNT, LZCNT: %llu",
                         (unsigned long long)here[i]);
        const uint64_t older[] = {
            run_model("host,-bmi1,-lzcnt", engines[e], counts, sizeof counts),
            run_model("x86-64-v2", engines[e], counts, sizeof counts),
        };
        for (unsigned i = 0; i < 2; i++) /* v2: where the host has it */
            cr_assert(older[i] == 50 * (0 + 0) + 50 * (7 + 9) || (i == 1 && !older[i]),
                      "BSF, BSR: %llu", (unsigned long long)older[i]);
        const uint64_t mixed = run_model("host,-bmi1,~lzcnt", engines[e], counts, sizeof counts);
        cr_assert_eq(mixed, 50 * (0 + 31) + 50 * (7 + 32), "BSF, LZCNT: %llu",
                     (unsigned long long)mixed);
    }
}

/* Sixteen registers that count up, through instructions that leave translated code:
 *     mov rax, cr4; or eax, 0x600; mov cr4, rax; mov eax, 1; movd xmm15, eax
 *     mov ecx, 1000
 *  1: paddd xmm0, xmm15; paddd xmm7, xmm15; paddd xmm8, xmm15; paddd xmm14, xmm15
 *     mov rdx, cr3; dec ecx; jnz 1b
 *     paddd xmm0, xmm7; paddd xmm0, xmm8; paddd xmm0, xmm14; movd eax, xmm0; hlt */
static const uint8_t kept[] = {
    0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x00, 0x00, 0x0f, 0x22, 0xe0,             /* */
    0xb8, 0x01, 0x00, 0x00, 0x00, 0x66, 0x44, 0x0f, 0x6e, 0xf8,                   /* */
    0xb9, 0xe8, 0x03, 0x00, 0x00,                                                 /* */
    0x66, 0x41, 0x0f, 0xfe, 0xc7, 0x66, 0x41, 0x0f, 0xfe, 0xff,                   /* */
    0x66, 0x45, 0x0f, 0xfe, 0xc7, 0x66, 0x45, 0x0f, 0xfe, 0xf7,                   /* */
    0x0f, 0x20, 0xda, 0xff, 0xc9, 0x75, 0xe5,                                     /* */
    0x66, 0x0f, 0xfe, 0xc7, 0x66, 0x41, 0x0f, 0xfe, 0xc0, 0x66, 0x41, 0x0f, 0xfe, /* */
    0xc6, 0x66, 0x0f, 0x7e, 0xc0, 0xf4,
};

Test(features, vectors_without_avx)
{
    static const char *const models[] = {"host", "host,-avx", "host,~avx", "host,~sse3,-popcnt"};
    for (unsigned i = 0; i < sizeof models / sizeof *models; i++)
        for (uint32_t e = VC_ENGINE_INTERP; e <= VC_ENGINE_JIT; e++)
            cr_assert_eq(run_model(models[i], e, kept, sizeof kept), 4000, "%s, engine %u",
                         models[i], e);
}

Test(features, names)
{
    static const char *const wrong[] = {"host,",     "host,avx",           "host,-",
                                        "host,-mmx", "host,-avx,",         "hos",
                                        "host2",     "x86-64-v2,-avx512f", ""};
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct vc_vm_opts opts = {.size = sizeof opts, .cpu_model = wrong[i]};
        vc_errclear();
        cr_assert_null(vc_open("emu", &opts), "'%s'", wrong[i]);
        cr_assert(vc_errcode() == VC_ENOENT || vc_errcode() == VC_EINVAL, "'%s'", wrong[i]);
    }
}
