/* SPDX-License-Identifier: MIT
 * Operand values: random ones, and those at the edges. */
#include "insn.h"
#include <string.h>

static uint64_t rng_state;

void rng_seed(uint64_t seed)
{
    rng_state = seed * 0x9e3779b97f4a7c15ull + 0x1234567ull;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t rnd(void)
{
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t rnd_int(void)
{
    uint64_t v;
    unsigned shift = rnd_below(64);
    switch (rnd_below(8)) {
    case 0: return rnd_below(4);
    case 1: return ~(uint64_t)rnd_below(3);
    case 2: v = 1ull << shift; break;
    case 3: v = (1ull << shift) - 1; break;
    case 4: v = ~0ull << shift; break;
    case 5: /* the extremes of 8, 16, 32 and 64 bits, in every field of that width */
    {
        static const uint64_t edges[] = {0x7f7f7f7f7f7f7f7f, 0x8080808080808080, 0x7fff7fff7fff7fff,
                                         0x8000800080008000, 0x7fffffff7fffffff, 0x8000000080000000,
                                         0x7fffffffffffffff, 0x8000000000000000};
        v = edges[rnd_below(8)];
        break;
    }
    case 6: v = rnd() >> shift; break;
    default: v = rnd(); break;
    }
    return one_in(8) ? v + rnd_below(5) - 2 : v;
}

void rnd_fill(void *to, size_t n)
{
    uint8_t *p = to;
    while (n >= 8) {
        uint64_t v = rnd();
        memcpy(p, &v, 8);
        p += 8;
        n -= 8;
    }
    uint64_t v = rnd();
    memcpy(p, &v, n);
}

/* Floating-point numbers built of fields: exponent and fraction of e and f bits. */
static uint64_t rnd_float(unsigned e, unsigned f)
{
    uint64_t sign = rnd() & 1, emax = (1ull << e) - 1, fmask = (1ull << f) - 1, bias = emax >> 1;
    uint64_t exp, frac = rnd() & fmask;
    switch (rnd_below(16)) {
    case 0: exp = 0, frac = 0; break;
    case 1: exp = emax, frac = 0; break;
    case 2: exp = emax, frac |= 1ull << (f - 1); break;                /* quiet NaN */
    case 3: exp = emax, frac = (frac & ~(1ull << (f - 1))) | 1; break; /* signalling NaN */
    case 4: exp = 0, frac |= 1; break;                                 /* denormal */
    case 5: exp = 0, frac = 1ull << rnd_below(f); break;
    case 6: exp = emax - 1, frac = one_in(2) ? fmask : frac; break;   /* largest */
    case 7: exp = 1, frac = one_in(2) ? 0 : frac; break;              /* smallest normal */
    case 8: exp = bias, frac = one_in(2) ? 0 : frac; break;           /* one and so */
    case 9: exp = bias + f + rnd_below(3) - 1; break;                 /* last integers */
    case 10: exp = bias + 31 - rnd_below(3) % (e > 5 ? 3 : 1); break; /* conversion limits */
    case 11: exp = bias + 63 - rnd_below(3); break;
    case 12: /* small integers and halves */
        exp = bias + rnd_below(6), frac &= ~(fmask >> 4);
        break;
    case 13: exp = rnd() & emax; break;
    default: exp = bias - 8 + rnd_below(17); break;
    }
    return sign << (e + f) | (exp & emax) << f | (frac & fmask);
}

static void rnd_f80(uint8_t *p, size_t n)
{
    uint64_t v = rnd_float(11, 52), frac;
    uint16_t se = (uint16_t)((v >> 63) << 15);
    unsigned exp = (unsigned)(v >> 52) & 0x7ff;
    frac = 1ull << 63 | (v & 0xfffffffffffffull) << 11 | rnd_below(2048);
    switch (rnd_below(12)) {
    case 0: se |= 0x7fff, frac = rnd() | (one_in(2) ? 1ull << 62 : 0); break; /* NaN or invalid */
    case 1: frac &= ~(1ull << 63), se |= exp; break;                          /* unnormal */
    case 2: frac &= ~(1ull << 63); break;                                     /* denormal */
    case 3: break;                                                            /* pseudo-denormal */
    case 4: se |= 0x7ffe; break;
    case 5: se |= 1; break;
    default:
        if (exp == 0x7ff)
            se |= 0x7fff;
        else if (exp == 0)
            frac = (v & 0xfffffffffffffull) ? v & 0xfffffffffffffull : 0;
        else
            se |= (uint16_t)(exp - 1023 + 16383);
        if (exp && (v & 0xfffffffffffffull) == 0)
            frac = 1ull << 63;
        break;
    }
    uint8_t b[10];
    memcpy(b, &frac, 8);
    memcpy(b + 8, &se, 2);
    memcpy(p, b, n < 10 ? n : 10);
}

void rnd_typed(void *to, size_t n, enum fill kind)
{
    uint8_t *p = to;
    static const uint8_t steps[FILL_KINDS] = {8, 8, 4, 8, 10, 2, 8};
    size_t step = steps[kind];
    for (size_t at = 0; at < n; at += step) {
        size_t left = n - at < step ? n - at : step;
        uint64_t v = 0;
        switch (kind) {
        case FILL_BITS: v = rnd(); break;
        case FILL_INT: v = rnd_int(); break;
        case FILL_F32: v = rnd_float(8, 23); break;
        case FILL_F64: v = rnd_float(11, 52); break;
        case FILL_F16: v = rnd_float(5, 10); break;
        case FILL_F80: rnd_f80(p + at, left); continue;
        default: break;
        }
        memcpy(p + at, &v, left);
    }
}
