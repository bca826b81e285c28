/* SPDX-License-Identifier: MIT
 * isa-debug-exit: the guest ends the machine with an exit code of its own.
 */
#include "pcdev.h"

int debugexit_access(void *ud, struct vc_access *a)
{
    const struct pc_host *host = ud;
    uint64_t mask = a->len >= 4 ? 0xffffffffull : (1ull << (8 * a->len)) - 1;

    if (a->write)
        host->power(host->ctx, VC_POWER_EXIT, (uint32_t)((a->data & mask) << 1 | 1));
    else
        a->data = 0;
    return 0;
}
