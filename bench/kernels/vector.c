/* SPDX-License-Identifier: MIT
 * AVX2 integers and FMA. */
#include "kernels.h"
#include <immintrin.h>

#define VECTOR static __attribute__((target("avx2,fma")))

#define VEC_N 4096
static float vec_a[VEC_N] __attribute__((aligned(32))), vec_b[VEC_N] __attribute__((aligned(32)));
static int32_t vec_i[VEC_N] __attribute__((aligned(32)));

static void setup_fma(void)
{
    for (int i = 0; i < VEC_N; i++) {
        vec_a[i] = 1.0f + (float)i * 0.001f;
        vec_b[i] = 0.5f - (float)i * 0.0001f;
    }
}

VECTOR uint64_t kernel_fma(uint64_t n)
{
    __m256 acc = _mm256_setzero_ps();
    while (n--)
        for (int i = 0; i < VEC_N; i += 8)
            acc = _mm256_fmadd_ps(_mm256_load_ps(vec_a + i), _mm256_load_ps(vec_b + i), acc);
    __m128 lo = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps(acc, 1));
    lo = _mm_hadd_ps(lo, lo);
    lo = _mm_hadd_ps(lo, lo);
    return (uint64_t)(uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(lo));
}

static void setup_avxint(void)
{
    for (int i = 0; i < VEC_N; i++)
        vec_i[i] = (int32_t)((uint32_t)i * 2654435761u);
}

VECTOR uint64_t kernel_avxint(uint64_t n)
{
    __m256i acc = _mm256_setzero_si256();
    const __m256i k = _mm256_set1_epi32((int32_t)0x9e3779b1);
    while (n--)
        for (int i = 0; i < VEC_N; i += 8) {
            __m256i v = _mm256_load_si256((const __m256i *)(vec_i + i));
            v = _mm256_mullo_epi32(v, k);
            v = _mm256_xor_si256(v, _mm256_srli_epi32(v, 15));
            acc = _mm256_add_epi32(acc, _mm256_shuffle_epi32(v, 0x1b));
        }
    __m128i lo = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
    return (uint64_t)_mm_cvtsi128_si64(lo);
}

/* Counts line ends in 16 KiB of text by comparing 32 bytes at once. */
VECTOR uint64_t kernel_scan(uint64_t n)
{
    const __m256i wanted = _mm256_set1_epi8('\n');
    uint64_t found = 0;
    while (n--)
        for (int i = 0; i < VEC_N; i += 8) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(vec_i + i));
            unsigned hits = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, wanted));
            while (hits) {
                found += (unsigned)i + (unsigned)__builtin_ctz(hits);
                hits &= hits - 1;
            }
        }
    return found;
}

/* A product of two 48 x 48 matrices of floats, eight columns at once. */
#define MUL_N 48
static float mul_a[MUL_N][MUL_N];
static float mul_b[MUL_N][MUL_N] __attribute__((aligned(32)));
static float mul_c[MUL_N][MUL_N] __attribute__((aligned(32)));

static void setup_gemm(void)
{
    for (int i = 0; i < MUL_N; i++)
        for (int j = 0; j < MUL_N; j++) {
            mul_a[i][j] = 0.25f * (float)((i * 3 + j) % 17);
            mul_b[i][j] = 0.5f * (float)((i + j * 5) % 13);
        }
}

VECTOR uint64_t kernel_gemm(uint64_t n)
{
    while (n--) {
        for (int i = 0; i < MUL_N; i++)
            for (int j = 0; j < MUL_N; j += 8) {
                __m256 sum = _mm256_setzero_ps();
                for (int k = 0; k < MUL_N; k++)
                    sum = _mm256_fmadd_ps(_mm256_broadcast_ss(&mul_a[i][k]),
                                          _mm256_load_ps(&mul_b[k][j]), sum);
                _mm256_store_ps(&mul_c[i][j], sum);
            }
        mul_a[n % MUL_N][0] += 0.125f;
    }
    return bits_of((double)mul_c[3][5] + (double)mul_c[MUL_N - 1][0]);
}

const struct kernel vector_kernels[] = {
    {"fma", "avx2", setup_fma, kernel_fma, 3, 0x4611e9c6},
    {"avx2-gemm", "avx2", setup_gemm, kernel_gemm, 3, 0x4081bf0000000000},
    {"avx2-int", "avx2", setup_avxint, kernel_avxint, 3, 0xa45b1aa875ff7f77},
    {"avx2-scan", "avx2", setup_avxint, kernel_scan, 3, 0x5a2eb},
    {0},
};
