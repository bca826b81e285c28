/* SPDX-License-Identifier: MIT
 * What happens from the start of day to the end. The command line may ask for another
 * end: "crash" or "reboot". */
#include "kernel.h"
#include <xen/features.h>
#include <xen/sched.h>
#include <xen/version.h>

struct start_info *start_info;
struct shared_info *shared;
static char PAGE_ALIGN shared_page[PAGE];

_Noreturn void shut_down(unsigned reason)
{
    struct sched_shutdown s = {.reason = reason};
    for (;;)
        HC(sched_op, SCHEDOP_shutdown, &s, 0, 0);
}

void check(bool good, const char *what)
{
    if (good)
        return;
    print("pvkernel: ");
    print(what);
    print(": FAILED\n");
    shut_down(SHUTDOWN_crash);
}

static bool asked(const char *word)
{
    const char *line = (const char *)start_info->cmd_line;
    for (; *line; line++) {
        size_t i = 0;
        while (word[i] && line[i] == word[i])
            i++;
        if (!word[i])
            return true;
    }
    return false;
}

static void version_check(void)
{
    struct xen_feature_info f = {.submap_idx = 0};
    long version = HC(xen_version, XENVER_version, 0, 0, 0);
    check(version >> 16 == 4, "the hypervisor's version");
    check(HC(xen_version, XENVER_get_features, &f, 0, 0) == 0, "features");
    check(!(f.submap >> XENFEAT_auto_translated_physmap & 1), "a PV guest has frames of its own");
    print("pvkernel: on Xen 4.");
    print_number((uint64_t)version & 0xffff);
    print("\n");
}

void kernel_main(struct start_info *info)
{
    start_info = info;
    check(length(info->magic) == 14 && info->magic[4] == '3', "start_info");
    check(map_at(shared_page, info->shared_info | PTE_DATA) == 0, "mapping shared_info");
    shared = (struct shared_info *)shared_page;
    static const char early[] = "pvkernel: a line by hypercall\n";
    check(HC(console_io, CONSOLEIO_write, sizeof early - 1, early, 0) == 0, "console_io");

    version_check();
    events_init();
    traps_check();
    memory_check();
    events_check();
    grants_check();
    store_check();
    smp_check();

    if (asked("crash"))
        shut_down(SHUTDOWN_crash);
    print("pvkernel: PASS\n");
    shut_down(asked("reboot") ? SHUTDOWN_reboot : SHUTDOWN_poweroff);
}
