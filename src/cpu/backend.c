/* SPDX-License-Identifier: MIT
 * The table of backends. */
#include "backend.h"
#include <string.h>

/* `auto` takes the first that is usable. pv is a guest ABI that only its own
 * guests understand, so it stands behind the engine that always works. */
const struct backend *const backends[] = {&backend_kvm, &backend_emu, &backend_pv, NULL};

const struct backend *backend_find(const char *name)
{
    for (unsigned i = 0; backends[i]; i++) {
        if (!strcmp(backends[i]->name, name))
            return backends[i];
    }
    /* pv with its engine named. */
    if (!strcmp(name, "pv:emu"))
        return &backend_pv;
    if (!strcmp(name, "pv:kvm"))
        return &backend_pv_kvm;
    return NULL;
}
