/* SPDX-License-Identifier: MIT
 * snippets [-b BACKEND] [WORD...]: runs the snippets, or those whose names have one of the
 * words in them, on every backend that works here, or on that one. */
#include "snip.h"
#include <stdio.h>
#include <unistd.h>

static const struct snippets *const groups[] = {
    &real_mode, &protected_mode, &long_mode, &paging, &code_changes, &io, &debug, &control};

static bool run_one(struct rig *r)
{
    const struct snippet *s = r->snippet;
    static const struct want hlt = {.kind = VC_EXIT_HLT}, down = {.kind = VC_EXIT_SHUTDOWN};
    r->failed = false;
    if (!rig_start(r)) {
        rig_end(r);
        return false;
    }
    if (s->ending != END_OWN) {
        bool going = true;
        for (const struct want *w = s->exits; w->kind && going; w++)
            going = rig_run(r, 0) && rig_want(r, w);
        if (going && rig_run(r, 0)) {
            if (s->ending == END_EXCEPTION)
                rig_want_exception(r, s->vector, s->error, s->at);
            else
                rig_want(r, s->ending == END_HLT ? &hlt : &down);
        } else {
            going = false;
        }
        for (const struct reg_value *v = s->end; v->reg && going; v++)
            rig_want_reg(r, (enum vc_reg)(v->reg - 1), v->value);
        for (const struct mem_value *m = s->mem; m->len && going; m++)
            if (rig_get(r, m->at, m->len) != m->value)
                rig_fail(r, "memory at %#x is %#llx, not %#llx", m->at,
                         (unsigned long long)rig_get(r, m->at, m->len),
                         (unsigned long long)m->value);
    }
    if (s->check)
        s->check(r);
    rig_end(r);
    return !r->failed;
}

struct counts {
    unsigned ran, failed, skipped;
};

static void run_all(const char *name, uint32_t engine, const struct vc_probe_info *info,
                    char **only, struct counts *c)
{
    for (unsigned g = 0; g < sizeof groups / sizeof *groups; g++)
        for (unsigned i = 0; i < groups[g]->n; i++) {
            const struct snippet *s = &groups[g]->list[i];
            struct rig r = {.backend = name, .engine = engine, .snippet = s};
            bool selected = !*only;
            for (char **a = only; *a; a++)
                selected |= strstr(s->name, *a) != NULL;
            if (!selected)
                continue;
            const char *why = difference(s->name, name);
            if (why) {
                printf("skipped: %s: %s\n", s->name, why);
                c->skipped++;
                continue;
            }
            if (s->needs & ~info->features) {
                printf("skipped: %s: %s cannot do it\n", s->name, name);
                c->skipped++;
                continue;
            }
            c->ran++;
            c->failed += !run_one(&r);
        }
}

/* emu runs code in several ways. */
static bool has_engine(const char *name, uint32_t engine)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = engine};
    if (engine == VC_ENGINE_AUTO)
        return true;
    if (strcmp(name, "emu") != 0)
        return false;
    vc_vm *vm = vc_open(name, &opts);
    if (!vm)
        printf("%s: skipped: engine %u: %s\n", name, engine, vc_errmsg());
    vc_close(vm);
    return vm != NULL;
}

int main(int argc, char **argv)
{
    static const uint32_t engines[] = {VC_ENGINE_AUTO, VC_ENGINE_JIT, VC_ENGINE_LOCKSTEP};
    struct counts c = {0, 0, 0};
    unsigned backends = 0;
    const char *name, *only = NULL;
    int opt;
    while ((opt = getopt(argc, argv, "b:")) != -1) {
        if (opt != 'b')
            return 2;
        only = optarg;
    }
    for (unsigned b = 0; (name = vc_backend_name(b)); b++) {
        struct vc_probe_info info = {.size = sizeof info};
        if (only && strcmp(name, only) != 0)
            continue;
        if (vc_probe(name, &info) != 0 || !info.usable) {
            printf("%s: skipped: %s\n", name, info.reason);
            continue;
        }
        backends++;
        for (unsigned e = 0; e < sizeof engines / sizeof *engines; e++)
            if (has_engine(name, engines[e]))
                run_all(name, engines[e], &info, argv + optind, &c);
    }
    bool listed = differences_exist(groups, sizeof groups / sizeof *groups);
    printf("%u backends, %u snippets, %u failed, %u skipped\n", backends, c.ran, c.failed,
           c.skipped);
    return c.failed || !c.ran || !listed;
}
