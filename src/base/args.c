/* SPDX-License-Identifier: MIT
 * Size-first structures. */
#include "args.h"
#include "err.h"
#include "util.h"

#define ARGS_MAX 16384u /* no structure is that large: a size beyond it is no size */

int args_size(const void *arg, const char *what)
{
    size_t size;
    memcpy(&size, arg, sizeof size);
    if (size < sizeof size || size > ARGS_MAX)
        return err_set(VC_EINVAL, "%s.size is %zu: set it to sizeof(struct vc_%s)", what, size,
                       what);
    return 0;
}

int args_in(void *to, size_t to_size, const void *from, const char *what)
{
    int rc = args_size(from, what);
    if (rc)
        return rc;
    size_t size;
    memcpy(&size, from, sizeof size);
    for (size_t i = to_size; i < size; i++) {
        if (((const uint8_t *)from)[i])
            return err_set(VC_ENOTSUP, "%s sets fields that libvirtcore %s does not know", what,
                           vc_version());
    }
    memcpy(to, from, min_u64(size, to_size));
    memcpy(to, &to_size, sizeof to_size);
    return 0;
}

int args_out(void *to, const void *from, size_t from_size, const char *what)
{
    int rc = args_size(to, what);
    if (rc)
        return rc;
    size_t size, n;
    memcpy(&size, to, sizeof size);
    n = min_u64(size, from_size);
    memcpy((uint8_t *)to + sizeof size, (const uint8_t *)from + sizeof size, n - sizeof size);
    return 0;
}
