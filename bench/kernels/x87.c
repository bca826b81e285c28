/* SPDX-License-Identifier: MIT
 * The x87: 80-bit arithmetic, square roots, conversions. Nothing that processors
 * round in different ways. */
#include "kernels.h"

static long double coefficient[16];

static void setup_poly(void)
{
    for (int i = 0; i < 16; i++)
        coefficient[i] = 1.0L / (long double)(i * i + 1);
}

static uint64_t kernel_poly(uint64_t n)
{
    long double sum = 0;
    while (n--)
        for (int x = 0; x < 32; x++) {
            long double v = 0, at = (long double)x * 0.03125L;
            for (int i = 0; i < 16; i++)
                v = v * at + coefficient[i];
            sum += v;
        }
    return bits_of((double)sum);
}

static uint64_t kernel_roots(uint64_t n)
{
    uint64_t sum = 0;
    while (n--) {
        long double v = (long double)(int64_t)(n & 1023) + 0.5L;
        for (int i = 0; i < 32; i++) {
            __asm__("fsqrt" : "+t"(v));
            v = (v + 3.0L) / (v * 0.25L) + (long double)i;
            sum += (uint64_t)(int64_t)(v * 1000.0L);
        }
    }
    return sum;
}

const struct kernel x87_kernels[] = {
    {"x87-poly", "x87", setup_poly, kernel_poly, 3, 0x4026f68b902fd2a5},
    {"x87-roots", "x87", 0, kernel_roots, 3, 0x20f08c},
    {0},
};
