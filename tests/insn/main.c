/* SPDX-License-Identifier: MIT
 * The instruction test's loop and its report. */
#include "insn.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned reports_left = 40, reports_per_form = 2, form_reports;
static const char *only[16];
static unsigned n_only;
static bool strict, verbose;
static uint64_t seed = 1;

static void usage(FILE *to)
{
    fprintf(to, "usage: insn-test [options] [MNEMONIC...]\n"
                "  -n, --count N     cases for each form (default 48)\n"
                "  -s, --seed N      of the random numbers (default 1)\n"
                "  -r, --reports N   differences shown in full (default 40)\n"
                "  -b, --backend B   default emu; 'self' compares the host with itself\n"
                "  -m, --model M     guest CPU model\n"
                "  -e, --engine E    interp or jit: emu's two ways to run code\n"
                "  -f, --forms-only  no directed tests\n"
                "  -d, --directed-only\n"
                "  -q, --quick       no directed tests of all pairs of bytes, all opcodes\n"
                "  -l, --list        list the forms and what becomes of them\n"
                "  -S, --strict      compare undefined flags too\n"
                "  -v, --verbose     also name the forms which never ran without an exception\n"
                "A MNEMONIC selects the forms whose name starts so.\n");
}

static unsigned disassemble(const uint8_t *bytes, unsigned len, uint64_t ip, char *text, size_t n)
{
    struct insn in;
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    snprintf(text, n, "?");
    if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, len, &in))
        return len;
    ZydisFormatterFormatInstruction(&f, &in.zi, in.op, in.zi.operand_count_visible, text, n, ip,
                                    NULL);
    return in.zi.length;
}

/* The start state: what fits a screen, and the vector registers that are named. */
static void print_start(const struct code *code, const struct state *st)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    uint16_t fcw, fsw;
    uint32_t mxcsr;
    memcpy(&fcw, st->xsave, 2);
    memcpy(&fsw, st->xsave + XS_FSW, 2);
    memcpy(&mxcsr, st->xsave + XS_MXCSR, 4);
    printf("    start: ip %llx ea %llx flags %06llx mxcsr %05x fcw %04x fsw %04x tags %02x\n",
           (unsigned long long)code->ip, (unsigned long long)code->ea,
           (unsigned long long)st->rflags, mxcsr, fcw, fsw, st->xsave[XS_FTW]);
    for (int i = 0; i < 16; i++)
        printf("%s%3s %016llx%s", i % 4 ? " " : "      ", names[i], (unsigned long long)st->gpr[i],
               i % 4 == 3 ? "\n" : "");
    struct insn in;
    if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, code->bytes, code->len, &in))
        return;
    for (unsigned i = 0; i < in.zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in.op[i];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);
        unsigned id = (unsigned)ZydisRegisterGetId(o->reg.value) & 15;
        bool vector = k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM;
        if (!vector && k != ZYDIS_REGCLASS_MMX && k != ZYDIS_REGCLASS_X87)
            continue;
        const uint8_t *p = st->xsave + (vector ? XS_XMM : XS_ST) + 16 * id;
        printf("      %s ", ZydisRegisterGetString(o->reg.value));
        if (k == ZYDIS_REGCLASS_YMM)
            for (int b = 15; b >= 0; b--)
                printf("%02x", st->xsave[XS_YMMH + 16 * id + b]);
        for (int b = vector ? 15 : 9; b >= 0; b--)
            printf("%02x", p[b]);
        printf("\n");
    }
}

void report(struct tally *t, const struct code *code, const struct state *start, const char *text)
{
    char line[160];
    t->differences++;
    if (!reports_left || form_reports >= reports_per_form)
        return;
    reports_left--;
    form_reports++;
    printf("DIFFERENCE");
    for (unsigned at = 0, len; at < code->len; at += len) {
        len = disassemble(code->bytes + at, code->len - at, code->ip + at, line, sizeof line);
        printf("%s", at ? "          " : "");
        for (unsigned i = 0; i < len; i++)
            printf("%s%02x", i ? "" : " ", code->bytes[at + i]);
        printf("  %s\n", line);
    }
    printf("%s", text);
    print_start(code, start);
    fflush(stdout);
}

void run_case(struct tally *t, const struct insn *in, const struct code *code,
              const struct state *start, const uint8_t *mem, bool budgeted)
{
    static struct state host, engine;
    static char text[8192];
    t->cases++;
    memcpy((void *)SCR_BASE, mem, SCR_SIZE);
    memcpy(engine_mem(), mem, SCR_SIZE);
    native_place(code);
    native_run(code, start, &host);
    t->raised[host.vector < 0 ? 32 : host.vector & 31]++;
    static uint8_t host_mem[SCR_SIZE];
    memcpy(host_mem, (void *)SCR_BASE, SCR_SIZE);
    if (!engine_place(code) || !engine_run(code, ENGINE_64, budgeted, start, &engine)) {
        snprintf(text, sizeof text, "    engine: %s; host exception %d\n", engine_why(),
                 host.vector);
        report(t, code, start, text);
        return;
    }
    xsave_normalize(host.xsave);
    xsave_normalize(engine.xsave);
    struct masks m = {~0u, 0xffff};
    if (!strict)
        compare_masks(in, start, &m);
    compare_fix_memory(in, code->ea, host_mem, engine_mem());
    t->sticky += compare_fix_state(in, &host, &engine);
    if (compare(&m, &host, &engine, host_mem, engine_mem(), text, sizeof text))
        report(t, code, start, text);
}

/* Somewhere in the code pages; now and then so that it crosses into the next. */
static uint64_t choose_ip(void)
{
    if (one_in(16))
        return CODE_BASE + 0x1000 * (1 + rnd_below(2)) - 1 - rnd_below(14);
    return CODE_BASE + 0x80 * rnd_below(CODE_SIZE / 0x80 - 2) + rnd_below(16);
}

static void run_form(struct tally *t, const struct form *f, unsigned count)
{
    rng_seed(seed ^ f->key); /* the same cases, whatever other forms are selected */
    static struct state start;
    static uint8_t mem[SCR_SIZE];
    form_reports = 0;
    for (unsigned done = 0, tries = 0; done < count && tries < 8 * count; tries++) {
        struct enc e;
        struct insn in;
        uint8_t bytes[32];
        form_vary(f, &e, &in, bytes);
        for (unsigned i = 0; i < 2; i++) {
            struct code code = {.len = in.zi.length};
            memcpy(code.bytes, bytes, code.len);
            code.ip = choose_ip();
            if (!gen_case(&in, &code, &start, mem))
                break;
            run_case(t, &in, &code, &start, mem, !one_in(4));
            done++;
        }
    }
}

/* What CPUID hides must raise #UD. */
static void run_hidden(struct tally *t, const struct form *f)
{
    static struct state start, engine;
    static uint8_t mem[SCR_SIZE];
    struct code code = {.len = f->in.zi.length, .ip = CODE_BASE + 0x100};
    uint8_t bytes[32];
    form_reports = 0;
    enc_emit(&f->enc, bytes);
    memcpy(code.bytes, bytes, code.len);
    struct insn nop;
    insn_decode(ZYDIS_MACHINE_MODE_LONG_64, (const uint8_t *)"\x90", 1, &nop);
    gen_case(&nop, &code, &start, mem);
    memcpy(engine_mem(), mem, SCR_SIZE);
    t->cases++;
    if (!engine_place(&code) || !engine_run(&code, ENGINE_64, true, &start, &engine)) {
        char text[600];
        snprintf(text, sizeof text, "    engine: %s; CPUID hides %s\n", engine_why(), f->hidden);
        report(t, &code, &start, text);
    } else if (engine.vector != VEC_UD) {
        char text[160];
        snprintf(text, sizeof text, "    engine: exception %d; CPUID hides %s, so #UD is due\n",
                 engine.vector, f->hidden);
        report(t, &code, &start, text);
    }
}

static bool selected(const struct form *f)
{
    const char *name = ZydisMnemonicGetString(f->in.zi.mnemonic);
    for (unsigned i = 0; i < n_only; i++)
        if (strncmp(name, only[i], strlen(only[i])) == 0)
            return true;
    return n_only == 0;
}

/* Counts under a name, for the summary. */
struct counts {
    const char *name[400];
    unsigned n[400], used;
};

static void count(struct counts *c, const char *name, unsigned n)
{
    for (unsigned i = 0; i < c->used; i++)
        if (strcmp(c->name[i], name) == 0) {
            c->n[i] += n;
            return;
        }
    if (c->used < 400) {
        c->name[c->used] = name;
        c->n[c->used++] = n;
    }
}

static void print_counts(const char *title, const struct counts *c, bool lines)
{
    if (!c->used)
        return;
    printf("%s:%s", title, lines ? "\n" : "");
    for (unsigned i = 0; i < c->used; i++)
        if (lines)
            printf("  %5u %s\n", c->n[i], c->name[i]);
        else
            printf("%s %s %u", i ? "," : "", c->name[i], c->n[i]);
    if (!lines)
        printf("\n");
}

static void print_raised(const char *what, const struct tally *t)
{
    printf("exceptions on the host, %s:", what);
    for (int i = 0; i < 32; i++)
        if (t->raised[i])
            printf(" #%d %llu", i, (unsigned long long)t->raised[i]);
    printf("; none %llu\n", (unsigned long long)t->raised[32]);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"count", 1, 0, 'n'},         {"seed", 1, 0, 's'},  {"reports", 1, 0, 'r'},
        {"backend", 1, 0, 'b'},       {"model", 1, 0, 'm'}, {"forms-only", 0, 0, 'f'},
        {"directed-only", 0, 0, 'd'}, {"list", 0, 0, 'l'},  {"strict", 0, 0, 'S'},
        {"engine", 1, 0, 'e'},        {"quick", 0, 0, 'q'}, {"help", 0, 0, 'h'},
        {"verbose", 0, 0, 'v'},       {0, 0, 0, 0}};
    unsigned n_cases = 48;
    const char *backend = "emu", *model = NULL, *engine = "auto";
    bool forms = true, directed = true, quick = false, list = false;
    int opt;
    while ((opt = getopt_long(argc, argv, "n:s:r:b:m:e:fdqlSvh", longs, NULL)) != -1)
        switch (opt) {
        case 'n': n_cases = (unsigned)strtoul(optarg, NULL, 0); break;
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'r': reports_left = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'b': backend = optarg; break;
        case 'm': model = optarg; break;
        case 'e': engine = optarg; break;
        case 'f': directed = false; break;
        case 'd': forms = false; break;
        case 'q': quick = true; break;
        case 'l': list = true; break;
        case 'S': strict = true; break;
        case 'v': verbose = true; break;
        case 'h': usage(stdout); return 0;
        default: usage(stderr); return 2;
        }
    for (; optind < argc && n_only < 16; optind++)
        only[n_only++] = argv[optind];
    engine_absent = strcmp(backend, "self") == 0;
    engine_warmup = strcmp(engine, "jit") == 0 ? 12 : 0;
    rng_seed(seed);

    if (!native_start() || !engine_start(backend, model, engine)) {
        fprintf(stderr, "insn-test: %s\n", engine_why());
        return 2;
    }
    size_t n;
    struct form *all = forms_make(&n);
    struct tally compared = {0}, hidden_tally = {0}, directed_tally = {0}, sequences = {0},
                 narrow = {0};
    static struct counts excluded, hidden, absent, differing, idle;
    unsigned ran = 0, n_hidden = 0;
    for (size_t i = 0; i < n; i++) {
        const struct form *f = &all[i];
        const char *name = ZydisMnemonicGetString(f->in.zi.mnemonic);
        ZydisISASet isa = f->in.zi.meta.isa_set;
        if (!selected(f))
            continue;
        bool lacks =
            !f->excluded && !f->hidden && !isa_offered(isa, false) && !isa_falls_back(&f->in);
        if (list) {
            char text[96];
            uint8_t bytes[32];
            struct code c = {.len = f->in.zi.length};
            enc_emit(&f->enc, bytes);
            memcpy(c.bytes, bytes, c.len);
            disassemble(c.bytes, c.len, 0, text, sizeof text);
            printf("%-14s %-56s %s\n", ZydisISASetGetString(isa), text,
                   f->excluded ? f->excluded
                   : f->hidden ? "hidden"
                   : lacks     ? "host lacks it"
                               : "");
            continue;
        }
        if (f->excluded) {
            count(&excluded, f->excluded, 1);
        } else if (f->hidden) {
            uint64_t before = hidden_tally.differences;
            n_hidden++;
            count(&hidden, f->hidden, 1);
            if (!engine_absent && forms)
                run_hidden(&hidden_tally, f);
            if (hidden_tally.differences > before)
                count(&differing, name, 1);
        } else if (lacks) {
            count(&absent, ZydisISASetGetString(isa), 1);
        } else if (forms) {
            uint64_t before = compared.differences, done = compared.raised[32];
            ran++;
            run_form(&compared, f, n_cases);
            if (compared.differences > before)
                count(&differing, name, (unsigned)(compared.differences - before));
            if (compared.raised[32] == done)
                count(&idle, name, 1);
        }
    }
    if (list)
        return 0;
    if (directed) {
        reports_per_form = 100;
        if (!quick) {
            directed_run(&directed_tally);
            undefined_run(&directed_tally);
        }
        sequences_run(&sequences, all, n, 4000);
        if (!engine_absent && !quick)
            decimal_run(&narrow);
        if (!engine_absent)
            narrow_run(&narrow, all, n, quick ? 2 : 16);
    }
    uint64_t differences = compared.differences + hidden_tally.differences +
                           directed_tally.differences + sequences.differences + narrow.differences;
    print_counts("not run natively", &excluded, true);
    print_counts("hidden by the guest's CPUID, must raise #UD", &hidden, false);
    print_counts("offered to the guest, but not by this host, not compared", &absent, false);
    if (verbose) {
        print_counts("always raised an exception", &idle, false);
        print_raised("forms", &compared);
        print_raised("sequences", &sequences);
        print_raised("narrow", &narrow);
    }
    if (compared.sticky)
        printf("sticky flags of MXCSR differ beside the same #XM: %llu cases\n",
               (unsigned long long)compared.sticky);
    print_counts("differences by mnemonic", &differing, false);
    if (forms)
        printf("%u forms, %llu cases, %llu differences; %u hidden forms, %llu differences\n", ran,
               (unsigned long long)compared.cases, (unsigned long long)compared.differences,
               n_hidden, (unsigned long long)hidden_tally.differences);
    if (directed)
        printf(
            "directed: %llu cases, %llu differences; sequences: %llu, %llu; 32- and 16-bit code: "
            "%llu, %llu\n",
            (unsigned long long)directed_tally.cases,
            (unsigned long long)directed_tally.differences, (unsigned long long)sequences.cases,
            (unsigned long long)sequences.differences, (unsigned long long)narrow.cases,
            (unsigned long long)narrow.differences);
    free(all);
    engine_stop();
    return differences ? 1 : 0;
}
