/* SPDX-License-Identifier: MIT
 * What the programs share: pseudo-random values that are the same everywhere, and
 * a sum of results, printed by name. */
#ifndef SHOW_H
#define SHOW_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SHOW_SEED 88172645463325252u
static uint64_t show_seed = SHOW_SEED;

/* xorshift64* (Marsaglia, Vigna) */
static inline uint64_t rnd(void)
{
    show_seed ^= show_seed >> 12;
    show_seed ^= show_seed << 25;
    show_seed ^= show_seed >> 27;
    return show_seed * 2685821657736338717u;
}

/* Values near the edges of their type as often as any others. */
static inline uint64_t rnd_edge(void)
{
    uint64_t r = rnd();
    switch (r >> 61) {
    case 0: return r & 0xff;
    case 1: return ~(r & 0xff);
    case 2: return (1ull << (r & 63)) - (r >> 8 & 1);
    case 3: return (uint64_t)(int64_t)(int32_t)r;
    case 4: return (uint32_t)r;
    default: return r;
    }
}

static uint64_t show_sum = 14695981039346656037u;

/* FNV-1a over 64-bit words. */
static inline void add(uint64_t v)
{
    show_sum = (show_sum ^ v) * 1099511628211u;
    show_sum ^= show_sum >> 29;
}

static inline void add_bytes(const void *p, size_t n)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++)
        add(b[i]);
}

static inline void add_double(double d)
{
    uint64_t v;
    memcpy(&v, &d, sizeof v);
    add(d != d ? 0x7ff8 : v); /* a NaN's bits may depend on the order of operands */
}

static inline void add_float(float f)
{
    uint32_t v;
    memcpy(&v, &f, sizeof v);
    add(f != f ? 0x7fc0 : v);
}

static inline void add_long_double(long double l)
{
    uint64_t v[2] = {0, 0};
    memcpy(v, &l, 10);
    add(l != l ? 0x7fff : v[0] ^ v[1] << 1);
}

/* Prints the sum of what was added since the last one; begins anew. */
static inline void show(const char *name)
{
    printf("%-24s %016llx\n", name, (unsigned long long)show_sum);
    fflush(stdout);
    show_sum = 14695981039346656037u;
    show_seed = SHOW_SEED;
}

#endif
