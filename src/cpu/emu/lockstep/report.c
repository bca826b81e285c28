/* SPDX-License-Identifier: MIT
 * A difference in words: one sentence for vc_errmsg(), both states and the code
 * for the log. */
#include "inner.h"
#include "../block.h"
#include "../flags.h"
#include "../../../base/err.h"
#include "../../../mmu/guest.h"
#include <stdio.h>

#define SHOW_BLOCKS 6u
#define SHOW_INSNS  24u

static void say(struct lockstep *ls, const char *line)
{
    if (ls->env.log)
        ls->env.log(ls->env.ctx, VC_LOG_ERROR, "lockstep: %s", line);
}

static void name_of(char *to, size_t size, const char *name, unsigned i)
{
    static const char *const gpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    if (!strcmp(name, "gpr"))
        snprintf(to, size, "%s", gpr[i & 15]);
    else if (!strcmp(name, "ymm"))
        snprintf(to, size, "ymm%u bytes %u-%u", i / 4, i % 4 * 8, i % 4 * 8 + 7);
    else if (!strcmp(name, "st"))
        snprintf(to, size, "st%u bytes %u-%u", i / 2, i % 2 * 8, i % 2 * 8 + 7);
    else if (i)
        snprintf(to, size, "%s[%u]", name, i);
    else
        snprintf(to, size, "%s", name);
}

struct first {
    struct lockstep *ls;
    unsigned n;
    char name[48];
    uint64_t model, ref;
};

static void one(void *ud, const char *name, unsigned i, uint64_t model, uint64_t ref)
{
    struct first *f = ud;
    char what[48], line[160];
    name_of(what, sizeof what, name, i);
    snprintf(line, sizeof line, "  %-20s translated %016llx  interpreted %016llx", what,
             (unsigned long long)model, (unsigned long long)ref);
    say(f->ls, line);
    if (!f->n++) {
        snprintf(f->name, sizeof f->name, "%s", what);
        f->model = model;
        f->ref = ref;
    }
}

static void hex(char *to, size_t size, const uint8_t *bytes, unsigned n)
{
    size_t at = 0;
    *to = 0;
    for (unsigned i = 0; i < n && at + 4 < size; i++)
        at += (size_t)snprintf(to + at, size - at, " %02x", bytes[i]);
}

static void memory(struct lockstep *ls, struct first *f)
{
    uint64_t where, last = 1;
    unsigned shown = 0;
    for (unsigned i = 0; i < ls->nstores && shown < 8; i++) {
        if (!shadow_differs(ls, ls->store[i].gpa, ls->store[i].len, &where))
            continue;
        uint64_t base = where & ~15ull;
        if (base == last)
            continue;
        last = base;
        uint8_t model[16], ref[16];
        char line[256], a[64], b[64];
        if (!mem_copy_out(ls->env.mem, base, model, 16) ||
            !mem_copy_out(&ls->shadow, base, ref, 16))
            continue;
        hex(a, sizeof a, model, 16);
        hex(b, sizeof b, ref, 16);
        snprintf(line, sizeof line, "  memory %#llx: translated%s", (unsigned long long)base, a);
        say(ls, line);
        snprintf(line, sizeof line, "  memory %#llx: interpreted%s", (unsigned long long)base, b);
        say(ls, line);
        shown++;
        if (!f->n++) {
            snprintf(f->name, sizeof f->name, "the byte at guest-physical %#llx",
                     (unsigned long long)where);
            f->model = model[where & 15];
            f->ref = ref[where & 15];
        }
    }
}

static void state(struct lockstep *ls, const char *whose, const struct emu *c)
{
    char line[256];
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    snprintf(line, sizeof line, "%s: rip %016llx rflags %08llx cr2 %llx cr3 %llx cpl %u", whose,
             (unsigned long long)c->rip, (unsigned long long)flags_get(c),
             (unsigned long long)c->cr2, (unsigned long long)c->cr3, c->cpl);
    say(ls, line);
    for (unsigned i = 0; i < 16; i += 4) {
        size_t at = 0;
        for (unsigned k = i; k < i + 4; k++)
            at += (size_t)snprintf(line + at, sizeof line - at, "  %s %016llx", names[k],
                                   (unsigned long long)c->gpr[k]);
        say(ls, line);
    }
}

static void listing(struct lockstep *ls, const struct emu_step *step, unsigned count)
{
    uint8_t bytes[SHOW_INSNS * 15];
    unsigned n = code_bytes(ls, step, bytes, sizeof bytes), at = 0;
    uint64_t rip = step->rip;
    ZydisDisassembledInstruction in;
    for (unsigned i = 0; i < count && i < SHOW_INSNS && at < n; i++) {
        char line[200], raw[64];
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(code_mode(ls), rip + at, bytes + at, n - at, &in)))
            break;
        hex(raw, sizeof raw, bytes + at, in.info.length);
        snprintf(line, sizeof line, "  %016llx:%-32s %s", (unsigned long long)(rip + at), raw,
                 in.text);
        say(ls, line);
        at += in.info.length;
    }
    if (!n)
        say(ls, "  (its code cannot be read now)");
}

/* The blocks that the reference went through; the code of the last of them. */
static void trail(struct lockstep *ls)
{
    struct emu_goal *g = &ls->goal;
    unsigned n = g->ntrail, show = n < GOAL_TRAIL ? n : GOAL_TRAIL;
    char line[128];
    for (unsigned i = n - show; i < n; i++) {
        const struct emu_step *s = &g->trail[i % GOAL_TRAIL];
        uint64_t end = i + 1 < n ? g->trail[(i + 1) % GOAL_TRAIL].icount : ls->ref->icount;
        snprintf(line, sizeof line, "block at %#llx, %llu instructions", (unsigned long long)s->rip,
                 (unsigned long long)(end - s->icount));
        say(ls, line);
        if (n - i <= SHOW_BLOCKS)
            listing(ls, s, (unsigned)min_u64(end - s->icount, SHOW_INSNS));
    }
}

void report_difference(struct lockstep *ls, const char *what)
{
    struct emu *m = ls->model, *r = ls->ref;
    struct first f = {.ls = ls};
    char line[256];

    snprintf(line, sizeof line, "translation and interpreter differ in %s", what);
    say(ls, line);
    snprintf(line, sizeof line,
             "%llu instructions after the piece's begin at %#llx, %llu in all; exceptions: "
             "translated %llu, interpreted %llu (last: %u)",
             (unsigned long long)(m->icount - ls->start_icount), (unsigned long long)ls->start_rip,
             (unsigned long long)m->icount, (unsigned long long)m->stats.exceptions,
             (unsigned long long)r->stats.exceptions, r->fault.vector);
    say(ls, line);
    if (m->icount != r->icount) {
        snprintf(line, sizeof line, "the interpreter is %lld instructions further",
                 (long long)(r->icount - m->icount));
        say(ls, line);
    }
    if (ls->asked_else) {
        snprintf(line, sizeof line, "the interpreter asked for: %s; %u answers were left",
                 *ls->question ? ls->question : "nothing more", ls->logged - ls->told);
        say(ls, line);
    }
    fields_differences(m, r, one, &f);
    memory(ls, &f);
    state(ls, "translated", m);
    state(ls, "interpreted", r);
    trail(ls);

    struct emu_step start = {.rip = ls->start_rip, .phys = NO_PAGE};
    m->exit->u.failed.nbytes =
        code_bytes(ls, &start, m->exit->u.failed.bytes, sizeof m->exit->u.failed.bytes);
    if (f.n)
        err_set(VC_EINTERNAL,
                "lockstep: they differ in %s at %#llx, within %llu instructions from %#llx: %s is "
                "%#llx "
                "translated, %#llx interpreted; the log shows both states",
                what, (unsigned long long)m->rip,
                (unsigned long long)(m->icount - ls->start_icount),
                (unsigned long long)ls->start_rip, f.name, (unsigned long long)f.model,
                (unsigned long long)f.ref);
    else
        err_set(VC_EINTERNAL,
                "lockstep: translation and interpreter differ in %s at %#llx, within %llu "
                "instructions from %#llx; the log shows both states",
                what, (unsigned long long)m->rip,
                (unsigned long long)(m->icount - ls->start_icount),
                (unsigned long long)ls->start_rip);
}
