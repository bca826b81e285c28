/* SPDX-License-Identifier: MIT
 * minivm inspect FILE: what it is, which kinds of guest it can be, and why. */
#include "inspect.h"
#include "options.h"
#include <stdio.h>
#include <string.h>
#include <virtcore/virtcore.h>

static const char *const answers[] = {"no", "yes", "not known"}; /* enum vc_answer */
static const struct {
    uint32_t virt;
    const char *name;
} virts[] = {{VC_VIRT_HVM, "hvm"}, {VC_VIRT_PV, "pv"}, {VC_VIRT_PVH, "pvh"}};
#define VIRTS (sizeof virts / sizeof *virts)

static void print_size(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned u = 0;
    double n = (double)bytes;
    for (; n >= 1024 && u + 1 < sizeof units / sizeof *units; u++)
        n /= 1024;
    printf(u ? "%.1f %s" : "%.0f %s", n, units[u]);
}

static void print_facts(const vc_report *r, uint32_t kernel)
{
    const char *line;
    for (uint32_t i = 0; (line = vc_report_fact(r, kernel, i)); i++)
        printf("  %s\n", line);
}

static void print_part(const struct vc_report_part *p)
{
    printf("%-13s at %#-12llx ", p->name, (unsigned long long)p->start);
    print_size(p->bytes);
    printf("%s%s", *p->type ? ", " : "", p->type);
    if (*p->fs)
        printf(", %s%s", p->fs, p->flags & VC_PART_READ ? "" : " (not looked into)");
    if (*p->label)
        printf(", \"%s\"", p->label);
    puts(p->flags & VC_PART_ACTIVE ? ", active" : "");
}

static void print_kernel(const vc_report *r, uint32_t index, const struct vc_report_kernel *k)
{
    if (*k->name)
        printf("\nkernel %s, ", k->name), print_size(k->bytes), putchar('\n');
    if (*k->version)
        printf("  version %s\n", k->version);
    print_facts(r, index);
    if (!*k->name)
        return; /* it is the file: what follows says the same */
    for (unsigned v = 0; v < VIRTS; v++) {
        struct vc_report_virt info = {.size = sizeof info};
        if (vc_report_virt(r, index, virts[v].virt, &info))
            continue;
        const char *why = vc_report_reason(r, index, virts[v].virt, 0);
        printf("  %s: %s%s%s\n", virts[v].name, answers[info.answer], why ? ": " : "",
               why ? why : "");
    }
}

static void print_verdict(const vc_report *r, unsigned v)
{
    struct vc_report_virt info = {.size = sizeof info};
    const char *line;
    if (vc_report_virt(r, VC_REPORT_FILE, virts[v].virt, &info))
        return;
    printf("%s: %s\n", virts[v].name, answers[info.answer]);
    for (uint32_t i = 0; (line = vc_report_reason(r, VC_REPORT_FILE, virts[v].virt, i)); i++)
        printf("  %s\n", line);
}

/* The command line for what can be started at once. */
static void print_command(const vc_report *r, const char *path)
{
    for (unsigned v = 0; v < VIRTS; v++) {
        struct vc_report_virt info = {.size = sizeof info};
        if (vc_report_virt(r, VC_REPORT_FILE, virts[v].virt, &info) || !info.startable)
            continue;
        struct vc_report_info file = {.size = sizeof file};
        if (vc_report_info(r, &file))
            return;
        if (file.kind == VC_FILE_KERNEL)
            printf("minivm run --virt %s --kernel %s\n", virts[v].name, path);
        else if (info.start == VC_START_GRUB)
            printf("minivm run --virt %s --boot pvgrub --disk %s\n", virts[v].name, path);
        else
            printf("minivm run --virt %s --kernel ... --initrd ... --disk %s\n", virts[v].name,
                   path);
    }
}

int inspect(const char *path)
{
    struct vc_inspect_opts opts = {.size = sizeof opts, .path = path};
    vc_report *r = vc_inspect(&opts);
    struct vc_report_info info = {.size = sizeof info};
    if (!r || vc_report_info(r, &info)) {
        fprintf(stderr, "minivm: %s\n", vc_errmsg());
        return STATUS_ERROR;
    }
    printf("%s: %s, ", path, info.what);
    print_size(info.bytes);
    putchar('\n');
    for (uint32_t i = 0; i < info.parts; i++) {
        struct vc_report_part p = {.size = sizeof p};
        if (!vc_report_part(r, i, &p))
            print_part(&p);
    }
    print_facts(r, VC_REPORT_FILE);
    for (uint32_t i = 0; i < info.kernels; i++) {
        struct vc_report_kernel k = {.size = sizeof k};
        if (!vc_report_kernel(r, i, &k))
            print_kernel(r, i, &k);
    }
    putchar('\n');
    int status = STATUS_NONE;
    for (unsigned v = 0; v < VIRTS; v++) {
        struct vc_report_virt virt = {.size = sizeof virt};
        print_verdict(r, v);
        if (!vc_report_virt(r, VC_REPORT_FILE, virts[v].virt, &virt) &&
            virt.answer == VC_ANSWER_YES)
            status = STATUS_OFF;
    }
    putchar('\n');
    print_command(r, path);
    vc_report_free(r);
    return status;
}
