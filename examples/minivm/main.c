/* SPDX-License-Identifier: MIT
 * minivm - boots a kernel or runs a program on libvirtcore. */
#include "inspect.h"
#include "options.h"
#include "run.h"
#include <stdio.h>
#include <virtcore/virtcore.h>

static void print_features(uint32_t features)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
        {VC_FEAT_HW, "hardware"},
        {VC_FEAT_SMP, "several vCPUs in parallel"},
        {VC_FEAT_BUDGET_INSNS, "instruction budgets"},
        {VC_FEAT_BUDGET_NS, "time budgets"},
        {VC_FEAT_SINGLE_STEP, "single step"},
        {VC_FEAT_DIRTY_LOG, "dirty log"},
        {VC_FEAT_HCALL, "VMCALL"},
    };
    const char *between = "      can: ";
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (features & names[i].bit) {
            printf("%s%s", between, names[i].name);
            between = ", ";
        }
    }
    putchar('\n');
}

static int probe(void)
{
    const char *name;
    for (unsigned i = 0; (name = vc_backend_name(i)); i++) {
        struct vc_probe_info info = {.size = sizeof info};
        if (vc_probe(name, &info)) {
            fprintf(stderr, "minivm: %s: %s\n", name, vc_errmsg());
            return STATUS_ERROR;
        }
        printf("%-4s  %s\n      %s\n", name, info.usable ? "usable" : "not usable", info.reason);
        if (info.usable) {
            printf("      up to %u vCPUs\n", info.max_cpus);
            print_features(info.features);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options o;
    int rc = options_parse(&o, argc, argv);
    if (rc)
        return rc;
    switch (o.command) {
    case COMMAND_HELP: options_help(); return 0;
    case COMMAND_VERSION: printf("minivm %s\n", vc_version()); return 0;
    case COMMAND_PROBE: return probe();
    case COMMAND_INSPECT: return inspect(o.image);
    default: return run(&o);
    }
}
