/* SPDX-License-Identifier: MIT
 * What can be watched of a run: counts, samples, names for perf. */
#include "api.h"
#include <fcntl.h>
#include <stdio.h>

/* 64 times: 100000 additions, CPUID, a page that is not mapped is not touched. */
static const uint8_t program[] = {
    0xbf, 0x40, 0x00, 0x00, 0x00, /* mov edi, 64 */
    /* outer: */
    0xbe, 0xa0, 0x86, 0x01, 0x00, /* mov esi, 100000 */
    /* inner: */
    0x48, 0x01, 0xf0, /* add rax, rsi */
    0xff, 0xce,       /* dec esi */
    0x75, 0xf9,       /* jne inner */
    0x0f, 0xa2,       /* cpuid */
    0xff, 0xcf,       /* dec edi */
    0x75, 0xee,       /* jne outer */
    0xf4,             /* hlt */
};

static vc_vm *open_with(uint32_t engine, uint32_t flags, const char *symbols)
{
    struct vc_vm_opts opts = {
        .size = sizeof opts, .engine = engine, .flags = flags, .perf_symbols = symbols};
    return vc_open("emu", &opts);
}

static struct vc_stats run(vc_vm *vm)
{
    cr_assert_not_null(vm, "%s", vc_errmsg());
    vc_cpu *cpu = code_cpu(vm, program, sizeof program);
    struct vc_exit x = {.size = sizeof x};
    struct vc_stats s = {.size = sizeof s};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    works(vc_cpu_stats(cpu, &s));
    return s;
}

Test(watch, counts)
{
    vc_vm *vm = open_with(VC_ENGINE_JIT, 0, NULL);
    struct vc_stats s = run(vm);
    cr_assert_eq(s.insns, 1 + 64 * (1 + 300000 + 3) + 1, "%llu", (unsigned long long)s.insns);
    cr_assert_geq(s.translated, 2);
    cr_assert_leq(s.translated, 8);
    cr_assert_eq(s.exits[VC_EXIT_HLT], 1);
    cr_assert_str_eq(s.steps[0].name, "cpuid");
    cr_assert_leq(s.steps[0].count, 64);
    cr_assert_geq(s.steps[0].count, 40); /* the first few are interpreted as blocks */
    cr_assert_leq(s.callouts_slow, s.callouts);
    for (unsigned i = 0; i < VC_DOING_COUNT; i++)
        cr_assert_eq(s.samples[i], 0);
    works(vc_close(vm));
}

/* How many samples is the host's business, and that there are none, too. */
Test(watch, samples)
{
    vc_vm *vm = open_with(VC_ENGINE_INTERP, VC_OPT_SAMPLE, NULL);
    struct vc_stats s = run(vm);
    cr_assert_eq(s.samples[VC_DOING_TRANSLATED], 0);
    cr_assert_eq(s.samples[VC_DOING_IDLE], 0);
    works(vc_close(vm));
}

/* The lines of this process' map that hold `what`. */
static unsigned named(const char *what)
{
    char path[64], line[512];
    unsigned n = 0;
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, what) != NULL;
    fclose(f);
    return n;
}

static void forget_map(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    unlink(path);
}

Test(watch, perf_map)
{
    char symbols[64];
    snprintf(symbols, sizeof symbols, "/tmp/virtcore-symbols-%ld", (long)getpid());
    int fd = open(symbols, O_CREAT | O_EXCL | O_WRONLY, 0600);
    static const char text[] = "0000000000001000 T begin\n"
                               "not a line of nm\n"
                               "0000000000001008 D data\n"
                               "000000000000100a t inner\n";
    cr_assert_eq(write(fd, text, sizeof text - 1), (ssize_t)(sizeof text - 1));
    close(fd);
    vc_vm *vm = open_with(VC_ENGINE_JIT, VC_OPT_PERF_MAP, symbols);
    run(vm);
    cr_assert_eq(named("virtcore:inner\n"), 1);
    cr_assert_geq(named("virtcore:begin+0x5"), 1);
    cr_assert_eq(named("data"), 0);
    unsigned before = named("virtcore:inner");
    /* A second partition adds to the file of the first. */
    vc_vm *more = open_with(VC_ENGINE_JIT, VC_OPT_PERF_MAP, NULL);
    run(more);
    cr_assert_eq(named("virtcore:0x100a\n"), 1);
    cr_assert_eq(named("virtcore:inner"), before);
    works(vc_close(more));
    works(vc_close(vm));
    forget_map();
    unlink(symbols);
}

Test(watch, refused)
{
    refused(open_with(VC_ENGINE_JIT, VC_OPT_PERF_MAP, "/nonexistent/System.map"), VC_ENOENT);
    refused(open_with(VC_ENGINE_JIT, 1u << 31, NULL), VC_EINVAL);
    forget_map();
}
