/* SPDX-License-Identifier: MIT
 * Integers of all widths: sums over every operator on many values. */
#include "show.h"
#include <stdlib.h>

#define ROUNDS 20000

#define OPERATORS(type, stype, bits)                                                               \
    static void type##_ops(void)                                                                   \
    {                                                                                              \
        for (int i = 0; i < ROUNDS; i++) {                                                         \
            volatile type va = (type)rnd_edge(), vb = (type)rnd_edge();                            \
            type a = va, b = vb;                                                                   \
            stype sa = (stype)a, sb = (stype)b;                                                    \
            unsigned n = b & (bits - 1);                                                           \
            add((uint64_t)(type)(a + b) ^ (uint64_t)(type)(a - b) << 1);                           \
            add((type)((uint64_t)a * b));                                                          \
            add((type)(a & b) ^ (type)(a | b) ^ (type)~a);                                         \
            add((type)(a << n) ^ (uint64_t)(type)(a >> n) << 3);                                   \
            add((uint64_t)(sa >> n));                                                              \
            add((type)(a << n | a >> (-n & (bits - 1))));                                          \
            if (b) {                                                                               \
                add(a / b);                                                                        \
                add(a % b);                                                                        \
                if (sb != -1) {                                                                    \
                    add((uint64_t)(sa / sb));                                                      \
                    add((uint64_t)(sa % sb));                                                      \
                }                                                                                  \
            }                                                                                      \
            add((a < b) | (a <= b) << 1 | (sa < sb) << 2 | (sa <= sb) << 3 | (a == b) << 4);       \
            stype r;                                                                               \
            add(__builtin_add_overflow(sa, sb, &r));                                               \
            add((uint64_t)r);                                                                      \
            add(__builtin_sub_overflow(sa, sb, &r));                                               \
            add((uint64_t)r);                                                                      \
            add(__builtin_mul_overflow(sa, sb, &r));                                               \
            add((uint64_t)r);                                                                      \
        }                                                                                          \
        show(#type);                                                                               \
    }
OPERATORS(uint8_t, int8_t, 8)
OPERATORS(uint16_t, int16_t, 16)
OPERATORS(uint32_t, int32_t, 32)
OPERATORS(uint64_t, int64_t, 64)

static void bits(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        volatile uint64_t va = rnd_edge() | 1ull << (i & 63);
        uint64_t a = va;
        uint32_t b = (uint32_t)a | 1;
        add((uint64_t)__builtin_clzll(a) ^ (uint64_t)__builtin_ctzll(a) << 8);
        add((uint64_t)__builtin_clz(b) ^ (uint64_t)__builtin_ctz(b) << 8);
        add((uint64_t)__builtin_popcountll(a) ^ (uint64_t)__builtin_parityll(a) << 8);
        add(__builtin_bswap64(a) ^ __builtin_bswap32(b) ^ __builtin_bswap16((uint16_t)a));
        add((uint64_t)__builtin_ffsll((long long)a));
        a ^= a - 1;
        add(a & -a);
    }
    show("bits");
}

#ifdef __SIZEOF_INT128__
typedef unsigned __int128 u128;
typedef __int128 i128;

static void wide(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        volatile uint64_t h = rnd_edge(), l = rnd_edge(), h2 = rnd_edge(), l2 = rnd_edge();
        u128 a = (u128)h << 64 | l, b = (i & 1 ? (u128)h2 << 64 : 0) | l2 | 1;
        u128 r[] = {a + b,
                    a - b,
                    a * b,
                    a / b,
                    a % b,
                    a << (h & 127),
                    a >> (l2 & 127),
                    (u128)((i128)a / ((i128)b | 3)),
                    (u128)((i128)a >> (l & 127)),
                    (u128)((i128)a % ((i128)b | 3))};
        for (unsigned n = 0; n < sizeof r / sizeof *r; n++) {
            add((uint64_t)r[n]);
            add((uint64_t)(r[n] >> 64));
        }
        add(a < b);
        add((i128)a < (i128)b);
    }
    show("__int128");
}
#else
static void wide(void)
{
}
#endif

/* The largest thing that comes out of carries: factorials and powers. */
static void big(void)
{
    static uint32_t limb[400];
    unsigned n = 1;
    limb[0] = 1;
    for (uint32_t k = 2; k <= 1000; k++) {
        uint64_t carry = 0;
        for (unsigned i = 0; i < n; i++) {
            carry += (uint64_t)limb[i] * k;
            limb[i] = (uint32_t)carry;
            carry >>= 32;
        }
        if (carry)
            limb[n++] = (uint32_t)carry;
        if (k % 100 == 0)
            for (unsigned i = 0; i < n; i++)
                add(limb[i]);
    }
    show("1000!");
}

static uint32_t crc(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    while (n--) {
        c ^= *p++;
        for (int i = 0; i < 8; i++)
            c = c >> 1 ^ (0xedb88320u & -(c & 1));
    }
    return ~c;
}

static int compare(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return (x > y) - (x < y);
}

static void algorithms(void)
{
    enum { N = 30000 };
    static uint32_t v[N];
    for (int i = 0; i < N; i++)
        v[i] = (uint32_t)rnd();
    add(crc((uint8_t *)v, sizeof v));
    qsort(v, N, sizeof *v, compare);
    for (int i = 0; i < N; i++)
        add(v[i]);
    show("crc32, qsort");

    static uint8_t composite[200000];
    unsigned count = 0;
    for (unsigned i = 2; i < sizeof composite; i++) {
        if (composite[i])
            continue;
        count++;
        for (unsigned k = 2 * i; k < sizeof composite; k += i)
            composite[k] = 1;
    }
    add(count);
    show("primes");
}

int main(void)
{
    uint8_t_ops();
    uint16_t_ops();
    uint32_t_ops();
    uint64_t_ops();
    bits();
    wide();
    big();
    algorithms();
    return 0;
}
