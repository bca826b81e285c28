/* SPDX-License-Identifier: MIT */
#include "kernels.h"

const struct kernel *const kernel_tables[] = {
    integer_kernels, compress_kernels, coremix_kernels,
    memory_kernels,  float_kernels,    vector_kernels,
    code_kernels,    x87_kernels,      0,
};
