/* SPDX-License-Identifier: MIT
 * What the engine did, a vCPU at a time, on stderr. */
#include "stats.h"
#include <stdio.h>

static unsigned long long ull(uint64_t v)
{
    return v;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static void print_time(const struct vc_stats *s)
{
    static const char *const names[] = {"translated code", "interpreter", "translator", "devices",
                                        "idle"};
    uint64_t all = 0;
    for (unsigned i = 0; i < VC_DOING_COUNT; i++)
        all += s->samples[i];
    if (!all)
        return;
    fprintf(stderr, "  time, by %llu samples:", ull(all));
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        fprintf(stderr, "%s %s %.1f%%", i ? "," : "", names[i], percent(s->samples[i], all));
    fputc('\n', stderr);
}

static void print_exits(const struct vc_stats *s)
{
    static const char *const names[] = {"none",     "budget", "kick",  "port",      "MMIO",  "HLT",
                                        "shutdown", "power",  "debug", "hypercall", "failed"};
    const char *between = "  vc_run came back:";
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (s->exits[i]) {
            fprintf(stderr, "%s %s %llu", between, names[i], ull(s->exits[i]));
            between = ",";
        }
    }
    fputc('\n', stderr);
}

static void print_translator(const struct vc_stats *s)
{
    if (!s->translated)
        return;
    fprintf(stderr,
            "  translations %llu; page checks that asked the TLB %llu, %.1f%% of them hits\n"
            "  interpreted from translated code: %llu not translated, %llu accesses not simple\n",
            ull(s->translated), ull(s->check_misses), percent(s->check_hits, s->check_misses),
            ull(s->callouts - s->callouts_slow), ull(s->callouts_slow));
    for (unsigned i = 0; i < 15 && *s->steps[i].name; i++)
        fprintf(stderr, "%s%s %llu",
                i % 5 ? ", "
                : i   ? "\n    "
                      : "    ",
                s->steps[i].name, ull(s->steps[i].count));
    if (*s->steps[0].name)
        fputc('\n', stderr);
}

static void print_cpu(unsigned index, const struct vc_stats *s)
{
    double run = (double)s->run_ns / 1e9, idle = (double)s->idle_ns / 1e9;
    fprintf(stderr,
            "cpu %u: %.3f s, %.3f s of it idle; %llu instructions, %.1f million/s\n"
            "  blocks %llu entered by the dispatcher, %llu decoded; code overwritten %llu\n"
            "  TLB: %llu page walks, %llu flushes (hits leave no trace)\n"
            "  ports %llu, MMIO %llu, interrupts %llu, exceptions %llu, HLT %llu\n",
            index, run, idle, ull(s->insns),
            run > idle ? (double)s->insns / (run - idle) / 1e6 : 0.0, ull(s->blocks),
            ull(s->decoded), ull(s->smc), ull(s->tlb_misses), ull(s->tlb_flushes),
            ull(s->port_exits), ull(s->mmio_exits), ull(s->irqs), ull(s->exceptions), ull(s->hlts));
    print_exits(s);
    print_translator(s);
    print_time(s);
    if (s->lockstep_pieces)
        fprintf(stderr,
                "  lockstep: %llu instructions compared in %llu pieces; taken over %llu times\n",
                ull(s->lockstep_insns), ull(s->lockstep_pieces), ull(s->lockstep_taken));
}

void stats_print(vc_cpu *const *cpu, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct vc_stats s = {.size = sizeof s};
        if (vc_cpu_stats(cpu[i], &s) == 0)
            print_cpu(i, &s);
    }
}
