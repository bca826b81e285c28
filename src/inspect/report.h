/* SPDX-License-Identifier: MIT
 * A report while it is made. Everything in it is bounded: what is too much is left out, and
 * the report says so. */
#ifndef INSPECT_REPORT_H
#define INSPECT_REPORT_H

#include "source.h"
#include <stdbool.h>
#include <virtcore/inspect.h>
#include <virtcore/pc.h>

#define LINES_MAX   64u
#define PARTS_MAX   256u
#define KERNELS_MAX 16u
#define VIRTS       3u /* enum vc_virt */

/* Whether this build can start guests of Xen's. */
#ifdef HAVE_XEN
#define XEN_HERE true
#else
#define XEN_HERE false
#endif

struct lines {
    unsigned n;
    const char *line[LINES_MAX];
};
struct verdict {
    uint32_t answer, start;
    bool startable;
    struct lines reasons;
};
struct part {
    struct vc_report_part pub;
    struct view view;
    const char *opaque; /* why not all was seen that may be a kernel; NULL: it was */
};
struct kernel {
    struct vc_report_kernel pub;
    struct verdict virt[VIRTS];
    struct lines facts;
    bool by_grub[VIRTS]; /* the disk's grub.cfg starts it as such a guest */
};
struct text;
struct vc_report {
    struct vc_report_info pub;
    struct verdict virt[VIRTS];
    struct lines facts;
    struct part *parts;     /* PARTS_MAX of them */
    struct kernel *kernels; /* KERNELS_MAX */
    struct text *texts;
    bool no_memory; /* it is not to be had */
};

struct vc_report *report_new(void);

/* A string of the report's; what is not printable ASCII becomes '?'. Never NULL. */
const char *report_text(struct vc_report *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Text that an image has, of at most n bytes or up to its NUL. */
const char *report_bytes(struct vc_report *r, const void *bytes, size_t n);

void report_line(struct vc_report *r, struct lines *to, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* One more way in which it can be such a guest. The first is the one that counts, and comes
 * before all reasons why it cannot in other ways. */
void report_yes(struct vc_report *r, struct verdict *v, uint32_t start, bool startable,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* It may be one, but that could not be seen; such reasons come first. Nothing where it is known
 * that it can be one. */
void report_unknown(struct vc_report *r, struct verdict *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* NULL when there are too many already, which is told once. */
struct part *report_part(struct vc_report *r, const struct view *v);
struct kernel *report_kernel(struct vc_report *r);

#endif
