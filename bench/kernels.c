/* SPDX-License-Identifier: MIT
 * The kernels. Compiled freestanding: no calls out, no stack protector, so that
 * their bytes run anywhere. */
#include "kernels.h"
#include <immintrin.h>
#include <stdbool.h>

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* ---- integer --------------------------------------------------------------------- */

#define SORT_N 4096
static uint32_t sort_data[SORT_N];

static void sort_range(uint32_t *a, long lo, long hi)
{
    while (lo < hi) {
        uint32_t pivot = a[(lo + hi) / 2];
        long i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        sort_range(a, lo, j);
        lo = i;
    }
}

static uint64_t kernel_sort(uint64_t n)
{
    uint64_t sum = 0, s = 88172645463325252ull;
    while (n--) {
        for (unsigned i = 0; i < SORT_N; i++)
            sort_data[i] = (uint32_t)next_random(&s);
        sort_range(sort_data, 0, SORT_N - 1);
        sum += sort_data[SORT_N / 2];
    }
    return sum;
}

#define CRC_N 65536
static uint8_t crc_data[CRC_N];
static uint32_t crc_table[256];

static uint64_t kernel_crc(uint64_t n)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int k = 0; k < 8; k++)
            v = v & 1 ? 0xedb88320u ^ (v >> 1) : v >> 1;
        crc_table[i] = v;
    }
    for (unsigned i = 0; i < CRC_N; i++)
        crc_data[i] = (uint8_t)(i * 7 + (i >> 5));
    while (n--)
        for (unsigned i = 0; i < CRC_N; i++)
            crc = crc_table[(crc ^ crc_data[i]) & 0xff] ^ (crc >> 8);
    return crc;
}

/* A scanner of numbers, words and separators. */
static uint64_t kernel_state(uint64_t n)
{
    uint64_t counts[5] = {0}, s = 1;
    unsigned state = 0;
    while (n--) {
        for (unsigned i = 0; i < 32768; i++) {
            unsigned ch = (unsigned)next_random(&s) & 127;
            switch (state) {
            case 0: state = ch >= '0' && ch <= '9' ? 1 : ch >= 'a' ? 2 : ch == '"' ? 3 : 0; break;
            case 1: state = ch == '.' ? 4 : ch >= '0' && ch <= '9' ? 1 : 0; break;
            case 2: state = ch >= 'a' || ch == '_' ? 2 : 0; break;
            case 3: state = ch == '"' ? 0 : 3; break;
            default: state = ch >= '0' && ch <= '9' ? 4 : ch == 'e' ? 1 : 0; break;
            }
            counts[state]++;
        }
    }
    return counts[0] + 3 * counts[1] + 5 * counts[2] + 7 * counts[3] + 11 * counts[4];
}

/* A stack machine: sums i * i ^ 5 for i below 1000. */
enum { I_PUSH, I_LOAD, I_STORE, I_ADD, I_MUL, I_XOR, I_LESS, I_JUMP_IF, I_HALT };
static const uint8_t program[] = {
    I_PUSH, 0, I_STORE, 0,       I_PUSH, 0,         I_STORE, 1,      /* i = sum = 0 */
    I_LOAD, 0, I_LOAD,  0,       I_MUL,  I_PUSH,    5,       I_XOR,  /* 8: i * i ^ 5 */
    I_LOAD, 1, I_ADD,   I_STORE, 1,                                  /* sum += */
    I_LOAD, 0, I_PUSH,  1,       I_ADD,  I_STORE,   0,               /* i++ */
    I_LOAD, 0, I_PUSH,  250,     I_LESS, I_JUMP_IF, 8,       I_HALT, /* i < 250: again */
};

static uint64_t kernel_interp(uint64_t n)
{
    uint64_t acc = 0;
    while (n--) {
        uint64_t stack[16], var[2] = {0, 0};
        const uint8_t *pc = program;
        unsigned sp = 0;
        for (bool run = true; run;) {
            switch (*pc++) {
            case I_PUSH: stack[sp++] = *pc++; break;
            case I_LOAD: stack[sp++] = var[*pc++]; break;
            case I_STORE: var[*pc++] = stack[--sp]; break;
            case I_ADD: sp--, stack[sp - 1] += stack[sp]; break;
            case I_MUL: sp--, stack[sp - 1] *= stack[sp]; break;
            case I_XOR: sp--, stack[sp - 1] ^= stack[sp]; break;
            case I_LESS: sp--, stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
            case I_JUMP_IF: pc = stack[--sp] ? program + *pc : pc + 1; break;
            default: run = false; break;
            }
        }
        acc += var[1];
    }
    return acc;
}

#define COPY_N (64 * 1024)
static uint64_t copy_a[COPY_N / 8], copy_b[COPY_N / 8];

static uint64_t kernel_copy(uint64_t n)
{
    for (unsigned i = 0; i < COPY_N / 8; i++)
        copy_a[i] = i;
    while (n--) {
        for (unsigned i = 0; i < COPY_N / 8; i++) {
            copy_b[i] = copy_a[i];
            __asm__ volatile("" ::: "memory"); /* one load, one store: not a vector loop */
        }
        copy_a[n & 1023] ^= copy_b[(n * 17) & 1023];
    }
    return copy_a[5] + copy_b[7];
}

/* ---- floating point ------------------------------------------------------------------ */

#define BODIES 5
static double body[BODIES][7];

static uint64_t bits_of(double d)
{
    union {
        double d;
        uint64_t u;
    } v = {.d = d};
    return v.u;
}

static double square_root(double v)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(v)));
}

static uint64_t kernel_nbody(uint64_t n)
{
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 7; k++)
            body[i][k] = (double)((i * 7 + k * 3) % 11) * 0.37 + 0.1 * (i + 1);
    while (n--) {
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
    return bits_of(body[0][0]) ^ bits_of(body[4][2]);
}

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

/* ---- AVX2 --------------------------------------------------------------------------------- */

#define VEC_N 4096
static float vec_a[VEC_N] __attribute__((aligned(32))), vec_b[VEC_N] __attribute__((aligned(32)));
static int32_t vec_i[VEC_N] __attribute__((aligned(32)));

__attribute__((target("avx2,fma"))) static uint64_t kernel_fma(uint64_t n)
{
    for (int i = 0; i < VEC_N; i++) {
        vec_a[i] = 1.0f + (float)i * 0.001f;
        vec_b[i] = 0.5f - (float)i * 0.0001f;
    }
    __m256 acc = _mm256_setzero_ps();
    while (n--)
        for (int i = 0; i < VEC_N; i += 8)
            acc = _mm256_fmadd_ps(_mm256_load_ps(vec_a + i), _mm256_load_ps(vec_b + i), acc);
    __m128 lo = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps(acc, 1));
    lo = _mm_hadd_ps(lo, lo);
    lo = _mm_hadd_ps(lo, lo);
    return (uint64_t)(uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(lo));
}

__attribute__((target("avx2"))) static uint64_t kernel_avxint(uint64_t n)
{
    for (int i = 0; i < VEC_N; i++)
        vec_i[i] = i * 2654435761u;
    __m256i acc = _mm256_setzero_si256();
    const __m256i k = _mm256_set1_epi32(0x9e3779b1);
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

const struct kernel kernels[] = {
    {"sort", "integer", kernel_sort, 200},
    {"crc32", "integer", kernel_crc, 400},
    {"state", "integer", kernel_state, 200},
    {"interp", "integer", kernel_interp, 3000},
    {"copy8", "integer", kernel_copy, 8000},
    {"nbody", "float", kernel_nbody, 200000},
    {"lu", "float", kernel_lu, 400},
    {"fma", "avx2", kernel_fma, 60000},
    {"avx2-int", "avx2", kernel_avxint, 30000},
};
const unsigned kernel_count = sizeof kernels / sizeof kernels[0];
