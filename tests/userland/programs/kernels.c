/* SPDX-License-Identifier: MIT
 * Loops that a compiler makes vector code of, over every element type. */
#include "show.h"

#define N 1003

#define KERNELS(type, name, toadd)                                                                 \
    static type name##_a[N], name##_b[N], name##_c[N];                                             \
    static void name##_loops(void)                                                                 \
    {                                                                                              \
        for (int i = 0; i < N; i++) {                                                              \
            name##_a[i] = (type)((int64_t)rnd() >> 40);                                            \
            name##_b[i] = (type)((int64_t)rnd() >> 45);                                            \
        }                                                                                          \
        type sum = 0, least = name##_a[0], most = name##_a[0];                                     \
        int above = 0;                                                                             \
        for (int i = 0; i < N; i++)                                                                \
            name##_c[i] = (type)(name##_a[i] * 3 + name##_b[i]);                                   \
        for (int i = 0; i < N; i++)                                                                \
            toadd((type)name##_c[i]);                                                              \
        for (int i = 0; i < N; i++) {                                                              \
            sum = (type)(sum + name##_a[i]);                                                       \
            least = name##_a[i] < least ? name##_a[i] : least;                                     \
            most = name##_a[i] > most ? name##_a[i] : most;                                        \
            above += name##_a[i] > name##_b[i];                                                    \
        }                                                                                          \
        toadd(sum);                                                                                \
        toadd(least);                                                                              \
        toadd(most);                                                                               \
        add((uint64_t)above);                                                                      \
        for (int i = 0; i < N; i++)                                                                \
            name##_c[i] = name##_a[i] > name##_b[i] ? name##_b[i] : (type)(name##_c[i] - 1);       \
        for (int i = 0; i < N; i++)                                                                \
            toadd(name##_c[(i * 7) % N]);                                                          \
        for (int i = 0; i < N; i++)                                                                \
            name##_c[i] = name##_a[(unsigned)i * 13u % N]; /* gathers, shuffles */                 \
        for (int i = 0; i + 4 <= N; i += 4) {                                                      \
            type t = name##_c[i];                                                                  \
            name##_c[i] = name##_c[i + 3];                                                         \
            name##_c[i + 3] = (type)(t + name##_c[i + 1]);                                         \
        }                                                                                          \
        for (int i = 0; i < N; i++)                                                                \
            toadd(name##_c[i]);                                                                    \
        show(#name);                                                                               \
    }
KERNELS(int8_t, i8, add)
KERNELS(uint8_t, u8, add)
KERNELS(int16_t, i16, add)
KERNELS(uint16_t, u16, add)
KERNELS(int32_t, i32, add)
KERNELS(uint32_t, u32, add)
KERNELS(int64_t, i64, add)
KERNELS(uint64_t, u64, add)
KERNELS(float, f32, add_float)
KERNELS(double, f64, add_double)

static void conversions(void)
{
    for (int r = 0; r < 20; r++) {
        for (int i = 0; i < N; i++) {
            i16_c[i] = (int16_t)(i8_a[i] * i8_b[i]);
            i32_c[i] = i16_a[i] * i16_b[i] + u8_a[i];
            i64_c[i] = (int64_t)i32_a[i] * i32_b[i];
            f32_c[i] = (float)i32_a[i] * 0.5f;
            f64_c[i] = (double)f32_c[i] + i32_b[i];
            u8_c[i] = (uint8_t)(u16_a[i] >> 3);
            u32_c[i] = (uint32_t)(i32_a[i] << (u32_b[i] & 31)) ^ u32_a[i] >> (i & 31);
        }
        for (int i = 0; i < N; i++) {
            i32_a[i] ^= (int32_t)f64_c[i] + i16_c[i];
            add((uint64_t)i64_c[i] + (uint64_t)i32_c[i] + u8_c[i] + u32_c[i]);
            add_double(f64_c[i]);
        }
    }
    show("conversions");
}

static void matrix(void)
{
    enum { M = 48 };
    static double a[M][M], b[M][M], c[M][M];
    static float fa[M][M], fb[M][M], fc[M][M];
    for (int i = 0; i < M; i++)
        for (int k = 0; k < M; k++) {
            a[i][k] = (double)(rnd() % 1000) / 7;
            b[i][k] = (double)(rnd() % 1000) / 3;
            fa[i][k] = (float)a[i][k];
            fb[i][k] = (float)b[i][k];
        }
    for (int i = 0; i < M; i++)
        for (int k = 0; k < M; k++)
            for (int j = 0; j < M; j++) {
                c[i][j] += a[i][k] * b[k][j];
                fc[i][j] += fa[i][k] * fb[k][j];
            }
    for (int i = 0; i < M; i++)
        for (int k = 0; k < M; k++) {
            add_double(c[i][k]);
            add_float(fc[i][k]);
        }
    show("matrix");
}

/* ChaCha20's rounds (RFC 8439): additions, rotations, lanes. */
static void chacha(void)
{
    uint32_t v[16], s[16];
    for (int i = 0; i < 16; i++)
        s[i] = (uint32_t)rnd();
#define ROT(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QR(a, b, c, d)                                                                             \
    a += b, d = ROT(d ^ a, 16), c += d, b = ROT(b ^ c, 12), a += b, d = ROT(d ^ a, 8), c += d,     \
            b = ROT(b ^ c, 7)
    for (int n = 0; n < 2000; n++) {
        memcpy(v, s, sizeof v);
        for (int r = 0; r < 10; r++) {
            for (int i = 0; i < 4; i++)
                QR(v[i], v[4 + i], v[8 + i], v[12 + i]);
            for (int i = 0; i < 4; i++)
                QR(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4]);
        }
        for (int i = 0; i < 16; i++)
            s[i] += v[i];
    }
    add_bytes(s, sizeof s);
    show("chacha");
}

/* The compiler's own vectors, wider than the processor's or not. */
typedef int32_t v8 __attribute__((vector_size(32)));
typedef uint8_t v32 __attribute__((vector_size(32)));
typedef double d4 __attribute__((vector_size(32)));

static void vectors(void)
{
    v8 a, b, m;
    v32 x, y, k;
    d4 d = {1, 2, 3, 4};
    for (int i = 0; i < 2000; i++) {
        for (int n = 0; n < 8; n++) {
            a[n] = (int32_t)rnd();
            b[n] = (int32_t)rnd_edge();
            m[n] = (int32_t)(rnd() & 15);
        }
        for (int n = 0; n < 32; n++) {
            x[n] = (uint8_t)rnd();
            y[n] = (uint8_t)rnd();
            k[n] = (uint8_t)(rnd() & 63);
        }
        v8 r = __builtin_shuffle(a, b, m);
        r += (a > b) & (a ^ b);
        r ^= a * b;
        r -= a >> (m & 31);
        v32 z = __builtin_shuffle(x, y, k);
        v32 above = (v32)(z > y);
        z = ((z & above) | (y & ~above)) + (v32)(x < y);
        d = d * 1.0000001 + (d4){r[0], r[1], r[2], r[3]} / 1e12;
        for (int n = 0; n < 8; n++)
            add((uint64_t)(int64_t)r[n]);
        add_bytes(&z, sizeof z);
        add_double(d[i & 3]);
    }
    show("vector types");
}

int main(void)
{
    i8_loops(), u8_loops(), i16_loops(), u16_loops(), i32_loops();
    u32_loops(), i64_loops(), u64_loops(), f32_loops(), f64_loops();
    conversions();
    matrix();
    chacha();
    vectors();
    return 0;
}
