/* SPDX-License-Identifier: MIT
 * Reports: made here, read by the calls of virtcore/inspect.h. */
#include "report.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 512u

struct text {
    struct text *next;
    char s[];
};

struct vc_report *report_new(void)
{
    struct vc_report *r = calloc(1, sizeof *r);
    if (r) {
        r->parts = calloc(PARTS_MAX, sizeof *r->parts);
        r->kernels = calloc(KERNELS_MAX, sizeof *r->kernels);
        r->pub.what = "";
    }
    if (!r || !r->parts || !r->kernels) {
        vc_report_free(r);
        err_set(VC_ENOMEM, "the host has no memory for a report");
        return NULL;
    }
    return r;
}

void vc_report_free(vc_report *r)
{
    if (!r)
        return;
    for (struct text *t = r->texts, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(r->parts);
    free(r->kernels);
    free(r);
}

/* What an image says goes to terminals: no control characters, no encodings. */
static const char *keep(struct vc_report *r, const char *s, size_t n)
{
    struct text *t = malloc(sizeof *t + n + 1);
    if (!t) {
        r->no_memory = true;
        return "";
    }
    for (size_t i = 0; i < n; i++)
        t->s[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
    t->s[n] = 0;
    t->next = r->texts;
    r->texts = t;
    return t->s;
}

const char *report_bytes(struct vc_report *r, const void *bytes, size_t n)
{
    return keep(r, bytes, strnlen(bytes, min_u64(n, TEXT_MAX)));
}

static const char *format(struct vc_report *r, const char *fmt, va_list ap)
{
    char buf[TEXT_MAX];
    int n = vsnprintf(buf, sizeof buf, fmt, ap);
    return keep(r, buf, n < 0 ? 0 : min_u64((uint64_t)n, sizeof buf - 1));
}

const char *report_text(struct vc_report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *s = format(r, fmt, ap);
    va_end(ap);
    return s;
}

static void add_line(struct lines *to, const char *line, unsigned at)
{
    if (to->n == LINES_MAX)
        return;
    if (to->n == LINES_MAX - 1)
        line = "there is more, which is left out";
    memmove(to->line + at + 1, to->line + at, (to->n - at) * sizeof *to->line);
    to->line[at] = line;
    to->n++;
}

void report_line(struct vc_report *r, struct lines *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_line(to, format(r, fmt, ap), to->n);
    va_end(ap);
}

void report_yes(struct vc_report *r, struct verdict *v, uint32_t start, bool startable,
                const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_line(&v->reasons, format(r, fmt, ap), v->answer == VC_ANSWER_YES ? v->reasons.n : 0);
    va_end(ap);
    if (v->answer == VC_ANSWER_YES)
        return;
    v->answer = VC_ANSWER_YES;
    v->start = start;
    v->startable = startable;
}

void report_unknown(struct vc_report *r, struct verdict *v, const char *fmt, ...)
{
    va_list ap;
    if (v->answer == VC_ANSWER_YES)
        return;
    va_start(ap, fmt);
    add_line(&v->reasons, format(r, fmt, ap), 0);
    va_end(ap);
    v->answer = VC_ANSWER_UNKNOWN;
}

struct part *report_part(struct vc_report *r, const struct view *v)
{
    if (r->pub.parts == PARTS_MAX)
        return NULL;
    struct part *p = &r->parts[r->pub.parts++];
    p->view = *v;
    p->pub = (struct vc_report_part){
        .start = v->base, .bytes = v->len, .name = "", .type = "", .label = "", .fs = ""};
    if (r->pub.parts == PARTS_MAX)
        report_line(r, &r->facts, "there are more than %u partitions, which are left out",
                    PARTS_MAX);
    return p;
}

struct kernel *report_kernel(struct vc_report *r)
{
    if (r->pub.kernels == KERNELS_MAX)
        return NULL;
    struct kernel *k = &r->kernels[r->pub.kernels++];
    k->pub = (struct vc_report_kernel){.name = "", .version = "", .packed = ""};
    if (r->pub.kernels == KERNELS_MAX)
        report_line(r, &r->facts, "there may be more kernels: %u is as many as are looked at",
                    KERNELS_MAX);
    return k;
}

/* ---- the calls that read it ---------------------------------------------------------- */

int vc_report_info(const vc_report *r, struct vc_report_info *out)
{
    if (!r || !out)
        return err_null(r ? "out" : "report");
    err_begin();
    struct vc_report_info info = r->pub;
    info.facts = r->facts.n;
    return args_out(out, &info, sizeof info, "report_info");
}

static bool kernel_of(const vc_report *r, uint32_t kernel, const struct verdict **virt,
                      const struct lines **facts)
{
    if (kernel != VC_REPORT_FILE && kernel >= r->pub.kernels)
        return false;
    *virt = kernel == VC_REPORT_FILE ? r->virt : r->kernels[kernel].virt;
    *facts = kernel == VC_REPORT_FILE ? &r->facts : &r->kernels[kernel].facts;
    return true;
}

int vc_report_virt(const vc_report *r, uint32_t kernel, uint32_t virt, struct vc_report_virt *out)
{
    const struct verdict *v;
    const struct lines *facts;
    if (!r || !out)
        return err_null(r ? "out" : "report");
    err_begin();
    if (virt >= VIRTS)
        return err_set(VC_EINVAL, "%u is no kind of guest: see enum vc_virt", virt);
    if (!kernel_of(r, kernel, &v, &facts))
        return err_set(VC_ENOENT, "the report has %u kernels, none has number %u", r->pub.kernels,
                       kernel);
    v += virt;
    struct vc_report_virt info = {
        .answer = v->answer, .start = v->start, .startable = v->startable, .reasons = v->reasons.n};
    return args_out(out, &info, sizeof info, "report_virt");
}

const char *vc_report_reason(const vc_report *r, uint32_t kernel, uint32_t virt, uint32_t index)
{
    const struct verdict *v;
    const struct lines *facts;
    if (!r || virt >= VIRTS || !kernel_of(r, kernel, &v, &facts))
        return NULL;
    return index < v[virt].reasons.n ? v[virt].reasons.line[index] : NULL;
}

const char *vc_report_fact(const vc_report *r, uint32_t kernel, uint32_t index)
{
    const struct verdict *v;
    const struct lines *facts;
    if (!r || !kernel_of(r, kernel, &v, &facts))
        return NULL;
    return index < facts->n ? facts->line[index] : NULL;
}

int vc_report_part(const vc_report *r, uint32_t index, struct vc_report_part *out)
{
    if (!r || !out)
        return err_null(r ? "out" : "report");
    err_begin();
    if (index >= r->pub.parts)
        return err_set(VC_ENOENT, "the report has %u partitions, none has number %u", r->pub.parts,
                       index);
    return args_out(out, &r->parts[index].pub, sizeof r->parts[index].pub, "report_part");
}

int vc_report_kernel(const vc_report *r, uint32_t index, struct vc_report_kernel *out)
{
    if (!r || !out)
        return err_null(r ? "out" : "report");
    err_begin();
    if (index >= r->pub.kernels)
        return err_set(VC_ENOENT, "the report has %u kernels, none has number %u", r->pub.kernels,
                       index);
    struct vc_report_kernel info = r->kernels[index].pub;
    info.facts = r->kernels[index].facts.n;
    return args_out(out, &info, sizeof info, "report_kernel");
}
