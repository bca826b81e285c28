/* SPDX-License-Identifier: MIT
 * Floating point by SSE2. */
#include "kernels.h"
#include <immintrin.h>

/* ---- five bodies, 16 steps a round ---------------------------------------------------- */

#define BODIES 5
static double body[BODIES][7]; /* place, speed, mass */

static double square_root(double v)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(v)));
}

static void setup_nbody(void)
{
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 7; k++)
            body[i][k] = (double)((i * 7 + k * 3) % 11) * 0.37 + 0.1 * (i + 1);
}

static void nbody_step(void)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], r2 = 0.01;
            for (int k = 0; k < 3; k++) {
                d[k] = body[i][k] - body[j][k];
                r2 += d[k] * d[k];
            }
            double mag = 0.001 / (r2 * square_root(r2));
            for (int k = 0; k < 3; k++) {
                body[i][3 + k] -= d[k] * body[j][6] * mag;
                body[j][3 + k] += d[k] * body[i][6] * mag;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            body[i][k] += 0.001 * body[i][3 + k];
}

static uint64_t kernel_nbody(uint64_t n)
{
    for (n *= 16; n--;)
        nbody_step();
    return bits_of(body[0][0]) ^ bits_of(body[4][2]);
}

/* ---- LU factors of a 64 x 64 matrix ------------------------------------------------------- */

#define LU_N 64
static double lu[LU_N][LU_N];

static uint64_t kernel_lu(uint64_t n)
{
    double sum = 0;
    while (n--) {
        for (int i = 0; i < LU_N; i++)
            for (int j = 0; j < LU_N; j++)
                lu[i][j] = i == j ? 100.0 + i : 1.0 / (1 + i + j);
        for (int k = 0; k < LU_N; k++)
            for (int i = k + 1; i < LU_N; i++) {
                double f = lu[i][k] / lu[k][k];
                lu[i][k] = f;
                for (int j = k + 1; j < LU_N; j++)
                    lu[i][j] -= f * lu[k][j];
            }
        sum += lu[LU_N - 1][LU_N - 1];
    }
    return bits_of(sum);
}

/* ---- a product of two 48 x 48 matrices, scalar ----------------------------------------------- */

#define MUL_N 48
static double mul_a[MUL_N][MUL_N], mul_b[MUL_N][MUL_N], mul_c[MUL_N][MUL_N];

static void setup_matmul(void)
{
    for (int i = 0; i < MUL_N; i++)
        for (int j = 0; j < MUL_N; j++) {
            mul_a[i][j] = 0.25 * ((i * 3 + j) % 17);
            mul_b[i][j] = 0.5 * ((i + j * 5) % 13);
        }
}

static uint64_t kernel_matmul(uint64_t n)
{
    while (n--) {
        for (int i = 0; i < MUL_N; i++)
            for (int j = 0; j < MUL_N; j++) {
                double sum = 0;
                for (int k = 0; k < MUL_N; k++)
                    sum += mul_a[i][k] * mul_b[k][j];
                mul_c[i][j] = sum;
            }
        mul_a[n % MUL_N][0] += 0.125;
    }
    return bits_of(mul_c[3][5] + mul_c[MUL_N - 1][0]);
}

/* ---- the Mandelbrot set, 32 x 32 points
 * ---------------------------------------------------------- */

static uint64_t kernel_mandelbrot(uint64_t n)
{
    uint64_t sum = 0;
    while (n--)
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 32; x++) {
                double cr = -2.0 + x * (3.0 / 32), ci = -1.5 + y * (3.0 / 32);
                double zr = 0, zi = 0;
                unsigned i = 0;
                for (; i < 64 && zr * zr + zi * zi < 4.0; i++) {
                    double t = zr * zr - zi * zi + cr;
                    zi = 2 * zr * zi + ci;
                    zr = t;
                }
                sum += i;
            }
    return sum;
}

const struct kernel float_kernels[] = {
    {"nbody", "float", setup_nbody, kernel_nbody, 3, 0x21dce0656376e1},
    {"lu", "float", 0, kernel_lu, 3, 0x407e8fff37b93f6e},
    {"matmul", "float", setup_matmul, kernel_matmul, 3, 0x4081bf0000000000},
    {"mandelbrot", "float", 0, kernel_mandelbrot, 3, 0xb2b0},
    {0},
};
