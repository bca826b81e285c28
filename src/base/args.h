/* SPDX-License-Identifier: MIT
 * Structures that cross the API start with their size, so that programs and
 * libraries of different ages agree on what is in them. */
#ifndef BASE_ARGS_H
#define BASE_ARGS_H

#include <stddef.h>

/* Copies the caller's structure into `to`, whose fields keep what they hold
 * where the caller's is shorter. VC_EINVAL for a size that cannot be,
 * VC_ENOTSUP where a longer one sets fields this library does not know. */
int args_in(void *to, size_t to_size, const void *from, const char *what);
/* Copies a result out, as far as the caller's structure reaches; its size field
 * stays what the caller wrote. */
int args_out(void *to, const void *from, size_t from_size, const char *what);
/* Whether the caller's size is plausible at all; sets the error. */
int args_size(const void *arg, const char *what);

#endif
