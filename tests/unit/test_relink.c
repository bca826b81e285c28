/* SPDX-License-Identifier: MIT
 * Blocks that are translated anew: jumps that were linked to the old translation lead on
 * to the new one, not through the dispatcher each time. */
#include "api.h"

#define TURNS 100000u

/* Two blocks that jump to each other. */
static const uint8_t first[] = {
    0xb9, 0xa0, 0x86, 0x01, 0x00, /* 1000: mov $100000,%ecx */
    0x48, 0xff, 0xc0,             /* 1005: inc %rax */
    0xe9, 0x73, 0x00, 0x00, 0x00, /* 1008: jmp 1080 */
};
/* The second block's end, which is what is written, is in its second line: the first
 * block depends on the first line, where it looked for who reads its flags. */
#define END 0x10c6u
static const uint8_t end[] = {
    0xff, 0xc9,                         /* 10c6: dec %ecx */
    0x0f, 0x85, 0x37, 0xff, 0xff, 0xff, /* 10c8: jnz 1005 */
    0xf4,                               /* 10ce: hlt */
};

static void turn(vc_cpu *cpu, struct vc_stats *before, struct vc_stats *after)
{
    struct vc_exit x = {.size = sizeof x};
    works(vc_reg_set(cpu, VC_REG_RIP, 0x1000));
    works(vc_cpu_stats(cpu, before));
    works(vc_run(cpu, NULL, &x));
    works(vc_cpu_stats(cpu, after));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_geq(after->insns - before->insns, 4ull * TURNS);
}

Test(relink, a_block_whose_code_was_written_again)
{
    if (strcmp(tested(), "emu") != 0)
        cr_skip_test("%s runs code in another way", tested());
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = VC_ENGINE_JIT};
    struct vc_stats a = {.size = sizeof a}, b = {.size = sizeof b};
    vc_vm *vm = vc_open("emu", &opts);
    if (!vm && vc_errcode() == VC_ENOTSUP)
        cr_skip_test("%s", vc_errmsg());
    cr_assert_not_null(vm);
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_write(vm, 0x1000, first, sizeof first));
    uint8_t nops[END - 0x1080];
    memset(nops, 0x90, sizeof nops);
    works(vc_write(vm, 0x1080, nops, sizeof nops));
    works(vc_write(vm, END, end, sizeof end));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, 0x1000);
    cr_assert_not_null(cpu);
    turn(cpu, &a, &b);
    cr_assert_gt(b.translated, a.translated);
    for (unsigned i = 0; i < 3; i++) {
        works(vc_write(vm, END, end, 1));
        turn(cpu, &a, &b);
        cr_expect_gt(b.translated, a.translated, "its second block was not dropped");
        cr_expect_lt(b.blocks - a.blocks, TURNS / 10);
    }
    vc_close(vm);
}
