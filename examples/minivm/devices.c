/* SPDX-License-Identifier: MIT
 * The disks and network links of the command line. */
#include "devices.h"
#include <stdlib.h>
#include <string.h>
#include <virtcore/disk.h>

/* FILE[,ro] */
static bool disk_add(vc_vm *vm, const char *spec)
{
    static const char ro[] = ",ro";
    size_t n = strlen(spec), tail = sizeof ro - 1;
    bool read_only = n > tail && !strcmp(spec + n - tail, ro);
    char *path = strndup(spec, read_only ? n - tail : n);
    struct vc_disk_opts opts = {
        .size = sizeof opts, .path = path, .flags = read_only ? VC_DISK_READ_ONLY : 0};
    int nr = path ? vc_disk_add(vm, &opts) : VC_ENOMEM;
    free(path);
    return nr >= 0;
}

bool devices_add(vc_vm *vm, const struct options *o)
{
    for (unsigned i = 0; i < o->ndisks; i++)
        if (!disk_add(vm, o->disk[i]))
            return false;
    for (unsigned i = 0; i < o->nlinks; i++) {
        struct vc_net_opts opts = {.size = sizeof opts, .link = o->link[i]};
        if (vc_net_add(vm, &opts) < 0)
            return false;
    }
    return true;
}
