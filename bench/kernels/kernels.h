/* SPDX-License-Identifier: MIT
 * Compute kernels that run natively and, the same bytes at the same addresses,
 * inside a guest. They call nothing and touch only their own static data. */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <stdint.h>

struct kernel {
    const char *name;
    const char *group;
    void (*setup)(void);         /* before the first round; not timed */
    uint64_t (*run)(uint64_t n); /* n rounds; returns what they computed */
    uint64_t check_rounds;       /* after setup, so many rounds ... */
    uint64_t check;              /* ... compute this, whoever runs them */
};

/* Each file has a table of its kernels, which ends with one that has no name. */
extern const struct kernel integer_kernels[], compress_kernels[], coremix_kernels[],
    memory_kernels[], float_kernels[], vector_kernels[], code_kernels[], x87_kernels[];
extern const struct kernel *const kernel_tables[]; /* all of them; ends with NULL */

#define FOR_EACH_KERNEL(table, k)                                                                  \
    for (const struct kernel *const *table = kernel_tables; *table; table++)                       \
        for (const struct kernel *k = *table; k->name; k++)

/* The kernels of group "code" write code here and call it: whoever runs them makes
 * it executable first. */
#define CODE_BYTES (64 * 1024)
extern uint8_t code_buffer[CODE_BYTES];

static inline uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static inline uint64_t bits_of(double d)
{
    union {
        double d;
        uint64_t u;
    } v = {.d = d};
    return v.u;
}

/* One step of a hash for checksums. */
static inline uint64_t mix(uint64_t h, uint64_t v)
{
    return (h ^ v) * 0x9e3779b97f4a7c15ull + (h >> 29);
}

#endif
