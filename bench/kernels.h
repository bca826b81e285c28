/* SPDX-License-Identifier: MIT
 * Compute kernels that run natively and, the same bytes at the same addresses,
 * inside a guest. They call nothing and touch only their own static data. */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <stdint.h>

/* Runs n rounds and returns a checksum that must not depend on who ran it. */
typedef uint64_t kernel_fn(uint64_t n);

struct kernel {
    const char *name;
    const char *group; /* "integer", "float", "avx2" */
    kernel_fn *fn;
    uint64_t native_rounds; /* some tens of milliseconds natively */
};

extern const struct kernel kernels[];
extern const unsigned kernel_count;

#endif
