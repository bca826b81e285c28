/* SPDX-License-Identifier: MIT
 * Guests with more code than is kept, decoded or translated: what is too much goes
 * in portions, so that a vCPU is never away for long. Measured in processor time. */
#include "api.h"
#include <time.h>
#include "base/util.h"

#define LINE   64u /* a block */
#define GROUP  64u /* blocks that are gone through again and again */
#define GROUPS 8192u
#define START  (16ull << 20) /* where they begin */

#ifdef SANITIZED
#define AWAY_NS UINT64_MAX
#define ROOM    40000u
#else
#define AWAY_NS 250000000ull
#define ROOM    700000u
#endif

/* inc rax; add rbx, rax; xor rdx, rax; lea rsi, [rax + rdx]; cmp rsi, rax; a jump to
 * the next line. A group's last line: dec ecx; jnz to its first; mov ecx, turns. */
static unsigned put_line(uint8_t *p, bool last, uint32_t turns)
{
    static const uint8_t work[] = {0x48, 0xff, 0xc0, 0x48, 0x01, 0xc3, 0x48, 0x31,
                                   0xc2, 0x48, 0x8d, 0x34, 0x10, 0x48, 0x39, 0xc6};
    unsigned n = sizeof work;
    memcpy(p, work, n);
    if (last) {
        put_le16(p + n, 0xc9ff);
        put_le16(p + n + 2, 0x850f);
        put_le32(p + n + 4, -((GROUP - 1) * LINE + n + 8));
        p[n + 8] = 0xb9;
        put_le32(p + n + 9, turns);
        n += 13;
    }
    p[n] = 0xe9;
    put_le32(p + n + 1, LINE - n - 5);
    return n;
}

static void put_code(vc_vm *vm, uint32_t turns)
{
    size_t len = (size_t)GROUPS * GROUP * LINE;
    uint8_t *code = calloc(1, len);
    cr_assert_not_null(code);
    unsigned n = 0;
    for (unsigned i = 0; i < GROUPS * GROUP; i++)
        n = put_line(code + (size_t)i * LINE, i % GROUP == GROUP - 1, turns);
    put_le32(code + len - LINE + n + 1, -(uint32_t)(len - LINE + n + 5)); /* from the start */
    works(vc_write(vm, START, code, len));
    free(code);
}

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void overflow(uint32_t engine, uint32_t turns)
{
    if (strcmp(tested(), "emu") != 0)
        cr_skip_test("%s runs code in another way", tested());
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = engine};
    struct vc_budget ms = {.size = sizeof ms, .ns = 1000000};
    struct vc_exit x = {.size = sizeof x};
    struct vc_stats s = {.size = sizeof s};
    uint64_t longest = 0;

    vc_vm *vm = vc_open("emu", &opts);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    works(vc_map(vm, 0, START + (64 << 20), VC_MEM_RWX));
    put_code(vm, turns);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, START);
    cr_assert_not_null(cpu, "%s", vc_errmsg());
    works(vc_reg_set(cpu, VC_REG_RCX, turns));
    while (s.decoded < ROOM) {
        uint64_t start = cpu_ns();
        works(vc_run(cpu, &ms, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET, "exit %u", x.kind);
        uint64_t took = cpu_ns() - start;
        longest = took > longest ? took : longest;
        works(vc_cpu_stats(cpu, &s));
    }
    cr_expect_lt(longest, AWAY_NS, "a run of 1 ms took %llu ms of processor time",
                 (unsigned long long)longest / 1000000);
    works(vc_close(vm));
}

Test(overflow, decoded, .timeout = 300)
{
    overflow(VC_ENGINE_INTERP, 2);
}

Test(overflow, translated, .timeout = 300)
{
    overflow(VC_ENGINE_JIT, 16);
}
