/* SPDX-License-Identifier: MIT
 *
 * lockstep-test [--seed=N] [--seconds=N] [--programs=N] [--features=HEX]
 *               [--differences=N] [--batch=N] [--brief]
 *
 * Runs programs from the seed on until the time or their number is used up.
 * A difference is narrowed down to the instruction count where it shows first.
 */
#include "lockstep.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <signal.h>
#include <unistd.h>

static struct guest pair[2];
static struct program program;
static uint32_t features = F_ALL;
static bool brief; /* differences are named, not narrowed down */
static char text[4096];

struct cut { /* a replay: the slice of this number is shorter, and the last */
    unsigned slice;
    uint64_t length;
};
struct outcome {
    bool differs;
    unsigned slice;
    uint64_t from, length; /* of the slice that differs */
    uint64_t insns;
};

static bool open_pair(bool logs)
{
    return guest_open(&pair[0], VC_ENGINE_INTERP, logs) &&
           guest_open(&pair[1], VC_ENGINE_JIT, logs);
}

static void close_pair(void)
{
    guest_close(&pair[0]);
    guest_close(&pair[1]);
}

static bool stopped(const struct guest *g)
{
    return g->rc || (g->exit.kind != VC_EXIT_BUDGET && g->exit.kind != VC_EXIT_KICK);
}

/* Both to the same count. Kicks arrive at block ends, which are not the same:
 * who stopped first goes on, and both once more, since a fault that was delivered
 * or is yet to come makes no difference in the count. */
static void run_both(uint64_t to)
{
    guest_run(&pair[0], to);
    guest_run(&pair[1], to);
    bool kicked = pair[0].exit.kind == VC_EXIT_KICK || pair[1].exit.kind == VC_EXIT_KICK;
    for (;;) {
        uint64_t a = guest_insns(&pair[0]), b = guest_insns(&pair[1]);
        struct guest *late = a < b ? &pair[0] : &pair[1];
        if (a == b && kicked) {
            kicked = false;
            guest_run(&pair[0], a + 1);
            guest_run(&pair[1], a + 1);
            kicked = pair[0].exit.kind == VC_EXIT_KICK || pair[1].exit.kind == VC_EXIT_KICK;
            continue;
        }
        if (a == b || stopped(late))
            break;
        guest_run(late, a < b ? b : a);
    }
    for (unsigned i = 0; i < 2; i++)
        if (pair[i].exit.kind == VC_EXIT_KICK)
            pair[i].exit.kind = VC_EXIT_BUDGET;
}

static uint64_t slice_length(struct rng *r)
{
    switch (below(r, 8)) {
    case 0: return 1 + below(r, 60);
    case 1: return 5000 + below(r, 20000);
    case 2:
    case 3: return 2000 + below(r, 4000);
    default: return 200 + below(r, 1500);
    }
}

static bool run_program(uint64_t seed, const struct cut *cut, struct outcome *o)
{
    struct rng r = {seed ^ 0x736c69636573ull};
    *o = (struct outcome){.differs = false};
    program_make(&program, seed, features);
    if (!guest_load(&pair[0], &program) || !guest_load(&pair[1], &program))
        return false;
    uint64_t total = 20000 + below(&r, 120000), at = 0;
    while (at < total) {
        uint64_t n = slice_length(&r);
        events(pair, &program, &r);
        if (cut && cut->slice == o->slice)
            n = cut->length;
        o->from = at;
        o->length = n;
        run_both(at + n);
        o->insns = at = guest_insns(&pair[0]);
        if (differ(&pair[0], &pair[1], text, sizeof text)) {
            o->differs = true;
            return true;
        }
        if ((cut && cut->slice == o->slice) || stopped(&pair[0]))
            return true;
        o->slice++;
    }
    return true;
}

/* ---- narrowing down ------------------------------------------------------------- */

/* From `first` on, with new partitions; the last one cut. */
static bool replay(uint64_t first, uint64_t seed, const struct cut *cut, struct outcome *o)
{
    close_pair();
    if (!open_pair(first & 1))
        return false;
    for (uint64_t s = first; s < seed; s++)
        if (!run_program(s, NULL, o))
            return false;
    return run_program(seed, cut, o);
}

#define SOON 64u /* instructions after a difference in which flags may be read */

/* One by one, the interpreter's. Did one read flags that were undefined? */
static bool trace(uint64_t n, bool print)
{
    struct guest *g = &pair[0];
    char line[128];
    uint32_t undefined = 0;
    bool read = false;
    uint64_t end = guest_insns(g) + n;
    for (uint64_t at; (at = guest_insns(g)) < end && !stopped(g);) {
        uint64_t ip = 0;
        vc_reg_get(g->cpu, VC_REG_RIP, &ip);
        struct vc_sregs s = {.size = sizeof s};
        vc_sregs_get(g->cpu, &s);
        read |= reads_undefined(g, ip, &undefined);
        if (print) {
            disassemble(g, ip, line, sizeof line);
            printf("  %8llu %x:%012llx  %s\n", (unsigned long long)at, s.cs.selector,
                   (unsigned long long)ip, line);
        }
        guest_run(g, at + 1);
    }
    return read;
}

/* After how many instructions of the slice it shows first. *first: the program from
 * which on it does. 0: it does not show again. */
static uint64_t narrow(uint64_t *first, uint64_t seed, const struct outcome *found)
{
    struct outcome o;
    uint64_t lo = 0, hi = found->length;
    if (*first != seed && replay(seed, seed, NULL, &o) && o.differs && o.slice == found->slice)
        *first = seed;
    while (hi - lo > 1) {
        struct cut cut = {found->slice, lo + (hi - lo) / 2};
        if (!replay(*first, seed, &cut, &o))
            return 0;
        if (o.differs && o.slice <= found->slice)
            hi = cut.length;
        else
            lo = cut.length;
    }
    return hi;
}

/* false: the program read flags that are undefined, and is left out. */
static bool report(uint64_t first, uint64_t seed, const struct outcome *found)
{
    struct outcome o;
    char shown[sizeof text];
    memcpy(shown, text, sizeof text);
    uint64_t at = narrow(&first, seed, found);
    struct cut before = {found->slice, at > 300 ? at - 300 : 1}, cut = {found->slice, at};
    if (at && replay(first, seed, &before, &o) && trace(at - before.length + SOON, false)) {
        printf("seed %llu is left out: it reads undefined flags\n", (unsigned long long)seed);
        return false;
    }
    printf("difference: seed %llu (features %03x%s) in slice %u, instructions %llu to %llu\n%s",
           (unsigned long long)seed, program.features,
           program.narrow ? ", 32-bit"
           : program.user ? ", user"
                          : "",
           found->slice, (unsigned long long)found->from, (unsigned long long)found->insns, shown);
    if (brief || !at)
        return true;
    printf("again by: lockstep-test --seed=%llu --programs=%llu\n", (unsigned long long)first,
           (unsigned long long)(seed - first + 1));
    if (replay(first, seed, &cut, &o) && o.differs)
        printf("shows first after %llu instructions:\n%s", (unsigned long long)(found->from + at),
               text);
    if (replay(first, seed, &before, &o)) {
        printf("what led there (translated code runs up to some 160 before the end):\n");
        trace(at - before.length, true);
    }
    return true;
}

/* A crash or a hang says where. */
static void on_signal(int signo)
{
    char line[] = "\nlockstep-test: signal   at seed                     \n";
    line[23] = (char)('0' + signo / 10);
    line[24] = (char)('0' + signo % 10);
    char *to = line + sizeof line - 3;
    for (uint64_t v = program.seed; v; v /= 10)
        *to-- = (char)('0' + v % 10);
    if (write(2, line, sizeof line - 1) < 0)
        _exit(126);
    signal(signo, SIG_DFL);
    raise(signo);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, programs = UINT64_MAX, insns = 0, done = 0;
    unsigned differences = 0, most = 1;
    double seconds = 50, start = now();
    uint64_t batch = 7; /* programs that share their partitions, and what is in the caches */
    for (int i = 1; i < argc; i++) {
        const char *v = strchr(argv[i], '=');
        v = v ? v + 1 : "";
        if (!strncmp(argv[i], "--seed=", 7)) {
            seed = strtoull(v, NULL, 0);
        } else if (!strncmp(argv[i], "--seconds=", 10)) {
            seconds = strtod(v, NULL);
        } else if (!strncmp(argv[i], "--programs=", 11)) {
            programs = strtoull(v, NULL, 0);
            seconds = 1e9;
        } else if (!strncmp(argv[i], "--features=", 11)) {
            features = (uint32_t)strtoul(v, NULL, 16);
        } else if (!strncmp(argv[i], "--differences=", 14)) {
            most = (unsigned)strtoul(v, NULL, 0);
        } else if (!strcmp(argv[i], "--brief")) {
            brief = true;
        } else if (!strncmp(argv[i], "--batch=", 8)) {
            batch = strtoull(v, NULL, 0);
        } else {
            fprintf(stderr, "usage: lockstep-test [--seed=N] [--seconds=N] [--programs=N]\n"
                            "                     [--features=HEX] [--differences=N] [--batch=N]\n"
                            "                     [--brief]\n");
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM, SIGABRT};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], on_signal);
    simd_forms_make();
    if (!guest_open(&pair[0], VC_ENGINE_INTERP, seed & 1))
        return 1;
    if (!guest_open(&pair[1], VC_ENGINE_JIT, seed & 1)) {
        printf("skipped: no translator here\n");
        return 0;
    }
    uint64_t first = seed;
    for (; done < programs && now() - start < seconds && differences < most; seed++, done++) {
        struct outcome o;
        if (done && seed - first >= batch) {
            close_pair();
            first = seed;
            if (!open_pair(first & 1))
                return 1;
        }
        alarm(60);
        if (!run_program(seed, NULL, &o))
            return 1;
        alarm(0);
        insns += o.insns;
        if (o.differs) {
            differences += report(first, seed, &o);
            close_pair();
            first = seed + 1;
            if (!open_pair(first & 1))
                return 1;
        }
    }
    close_pair();
    printf("seeds %llu to %llu: %llu instructions on both, %u differences\n",
           (unsigned long long)(seed - done), (unsigned long long)(seed - 1),
           (unsigned long long)insns, differences);
    return differences != 0;
}
