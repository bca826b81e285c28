/* SPDX-License-Identifier: MIT
 * Floating point: float, double and long double, conversions, rounding modes,
 * exception flags, the mathematical functions. */
#include "show.h"
#include <fenv.h>
#include <math.h>
#include <stdlib.h>

#define ROUNDS 4000

static double rnd_double(void)
{
    uint64_t v = rnd();
    double d;
    switch (v & 7) {
    case 0: return (double)(int64_t)rnd_edge();
    case 1: return (double)(int32_t)v * 0x1p-20;
    case 2: v &= 0x800fffffffffffffu; break; /* denormal */
    case 3: return v & 8 ? 0.0 : -0.0;
    case 4: return v & 8 ? HUGE_VAL : -HUGE_VAL;
    default: v = (v & 0x800fffffffffffffu) | (0x3c0 + (v >> 52 & 127)) << 52; break;
    }
    memcpy(&d, &v, sizeof d);
    return d;
}

static void add_flags(void)
{
    add((uint64_t)fetestexcept(FE_ALL_EXCEPT));
    feclearexcept(FE_ALL_EXCEPT);
}

static void basic(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        volatile double va = rnd_double(), vb = rnd_double();
        double a = va, b = vb;
        feclearexcept(FE_ALL_EXCEPT);
        volatile double r[] = {a + b, a - b, a * b, a / b, sqrt(fabs(a))};
        add_flags();
        for (int n = 0; n < 5; n++)
            add_double(r[n]);
        volatile float fa = (float)a, fb = (float)b;
        volatile float f[] = {fa + fb, fa - fb, fa * fb, fa / fb, sqrtf(fabsf(fa))};
        add_flags();
        for (int n = 0; n < 5; n++)
            add_float(f[n]);
        volatile long double la = a, lb = b;
        volatile long double l[] = {la + lb, la - lb, la * lb, la / lb, sqrtl(fabsl(la)), -la};
        add_flags();
        for (int n = 0; n < 6; n++)
            add_long_double(l[n]);
        add(isless(a, b) | isgreater(a, b) << 1 | (a == b) << 2 | isunordered(a, b) << 3);
        add(isless(la, lb) | isgreater(la, lb) << 1 | (la == lb) << 2);
        feclearexcept(FE_ALL_EXCEPT);
    }
    show("+ - * / sqrt");
}

static void conversions(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        volatile int64_t s = (int64_t)rnd_edge();
        volatile uint64_t u = rnd_edge();
        add_double((double)s);
        add_double((double)u);
        add_float((float)s);
        add_float((float)u);
        add_long_double((long double)s);
        add_long_double((long double)u);
        volatile double d = (double)(int32_t)s * 0x1p-7;
        volatile long double l = (long double)s / 1024;
        add((uint64_t)(int64_t)d ^ (uint64_t)(int32_t)d << 32);
        add((uint64_t)(int64_t)l ^ (uint64_t)(int32_t)(l * 0x1p-32L) << 32);
        add((uint64_t)fabs(d) ^ (uint64_t)fabsl(l));
        add((uint64_t)llrint(d) ^ (uint64_t)lround(d) ^ (uint64_t)llrintl(l));
    }
    show("conversions");
}

static void rounding(void)
{
    static const int mode[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int m = 0; m < 4; m++) {
        fesetround(mode[m]);
        for (int i = 0; i < ROUNDS / 4; i++) {
            volatile double a = (double)(int32_t)rnd() / 7, b = (double)(int32_t)rnd() / 3;
            volatile long double l = (long double)a / b, q = l * b;
            volatile float f = (float)(a / b);
            add_double(a / b);
            add_long_double(q);
            add_float(f);
            add_double(rint(a));
            add_double(nearbyint(b));
            add_long_double(rintl(l));
            add((uint64_t)llrint(a));
            add((uint64_t)llrintl(l));
        }
    }
    fesetround(FE_TONEAREST);
    show("rounding modes");
}

static void exceptions(void)
{
    volatile double zero = 0, one = 1, big = 1e308, small = 1e-308, inf = HUGE_VAL;
    volatile long double lzero = 0, lone = 1, lbig = 1e4932L;
    feclearexcept(FE_ALL_EXCEPT);
    volatile double d = one / zero;
    add_flags();
    d = zero / zero;
    add_flags();
    d = big * big;
    add_flags();
    d = small * small;
    add_flags();
    d = one / 3;
    add_flags();
    d = inf - inf;
    add_flags();
    d = sqrt(-one);
    add_flags();
    volatile long double l = lone / lzero;
    add_flags();
    l = lzero / lzero;
    add_flags();
    l = lbig * lbig;
    add_flags();
    l = lone / 3;
    add_flags();
    volatile int64_t i = (int64_t)big;
    add_flags();
    (void)d, (void)l, (void)i;
    fenv_t env;
    feholdexcept(&env);
    d = one / zero;
    feupdateenv(&env);
    add_flags();
    show("exception flags");
}

#define EACH(fn, lo, hi)                                                                           \
    for (int i = 0; i < ROUNDS / 8; i++) {                                                         \
        volatile double x = (lo) + ((hi) - (lo)) * (double)(rnd() >> 11) * 0x1p-53;                \
        add_double(fn(x));                                                                         \
        add_float(fn##f((float)x));                                                                \
        add_long_double(fn##l(x));                                                                 \
    }                                                                                              \
    show(#fn)

static void functions(void)
{
    EACH(sin, -1e5, 1e5);
    EACH(cos, -1e5, 1e5);
    EACH(tan, -100, 100);
    EACH(asin, -1, 1);
    EACH(acos, -1, 1);
    EACH(atan, -100, 100);
    EACH(exp, -300, 300);
    EACH(exp2, -300, 300);
    EACH(expm1, -3, 3);
    EACH(log, 1e-9, 1e9);
    EACH(log2, 1e-9, 1e9);
    EACH(log10, 1e-9, 1e9);
    EACH(log1p, -0.99, 10);
    EACH(sinh, -10, 10);
    EACH(cosh, -10, 10);
    EACH(tanh, -10, 10);
    EACH(cbrt, -1e6, 1e6);
    EACH(erf, -4, 4);
    EACH(lgamma, 0.1, 50);
    EACH(tgamma, 0.1, 20);
    EACH(floor, -1e6, 1e6);
    EACH(ceil, -1e6, 1e6);
    EACH(trunc, -1e6, 1e6);
    EACH(round, -1e6, 1e6);
    EACH(logb, 1e-9, 1e9);
    for (int i = 0; i < ROUNDS / 2; i++) {
        volatile double x = rnd_double(), y = rnd_double(), z = rnd_double();
        int e = 0;
        add_double(fmod(x, y));
        add_double(remainder(x, y));
        add_long_double(fmodl(x, y));
        add_double(fma(x, y, z));
        add_float(fmaf((float)x, (float)y, (float)z));
        add_double(hypot(x, y));
        add_double(atan2(x, y));
        add_long_double(atan2l(x, y));
        add_double(pow(fabs(x), y));
        add_long_double(powl(fabs(x), y));
        add_double(frexp(x, &e));
        add((uint64_t)(isfinite(x) ? e : 0));
        add_double(ldexp(x, (int)(rnd() % 200) - 100));
        add_double(nextafter(x, y));
        add_double(fmin(x, y) + fmax(y, z));
        add_long_double(scalblnl(x, (long)(rnd() % 2000) - 1000));
        add_double(copysign(x, y));
    }
    show("of two and three");
}

static void text(void)
{
    char buf[128];
    for (int i = 0; i < ROUNDS / 2; i++) {
        double d = rnd_double();
        add_bytes(buf, (size_t)snprintf(buf, sizeof buf, "%.17g %a %.3e", d, d, d));
        add_double(strtod(buf, NULL));
        long double l = (long double)d * 1.1L;
        add_bytes(buf, (size_t)snprintf(buf, sizeof buf, "%.21Lg %La", l, l));
        add_long_double(strtold(buf, NULL));
    }
    show("to text and back");
}

int main(void)
{
    basic();
    conversions();
    rounding();
    exceptions();
    functions();
    text();
    return 0;
}
