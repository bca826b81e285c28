/* SPDX-License-Identifier: MIT
 * Memory: copies by 8 and by 16 bytes, a triad, pointer chases, string instructions. */
#include "kernels.h"
#include <immintrin.h>

#define KIB 1024

/* ---- copies of 64 KiB -------------------------------------------------------------- */

#define COPY_BYTES (64 * KIB)
static uint64_t copy_a[COPY_BYTES / 8] __attribute__((aligned(64)));
static uint64_t copy_b[COPY_BYTES / 8] __attribute__((aligned(64)));

static void setup_copy(void)
{
    for (unsigned i = 0; i < COPY_BYTES / 8; i++)
        copy_a[i] = i;
}

/* Of every 61st word: what is not timed should be short. */
static uint64_t copied(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < COPY_BYTES / 8; i += 61)
        sum = mix(sum, copy_b[i]);
    return sum;
}

static uint64_t kernel_copy8(uint64_t n)
{
    while (n--) {
        for (unsigned i = 0; i < COPY_BYTES / 8; i++) {
            copy_b[i] = copy_a[i];
            __asm__ volatile("" ::: "memory"); /* one load, one store: not a vector loop */
        }
        copy_a[n & 1023] ^= copy_b[(n * 17) & 1023];
    }
    return copied();
}

static uint64_t kernel_memcpy(uint64_t n)
{
    while (n--) {
        const __m128i *from = (const __m128i *)copy_a;
        __m128i *to = (__m128i *)copy_b;
        for (unsigned i = 0; i < COPY_BYTES / 16; i += 4) {
            __m128i v0 = _mm_loadu_si128(from + i), v1 = _mm_loadu_si128(from + i + 1);
            __m128i v2 = _mm_loadu_si128(from + i + 2), v3 = _mm_loadu_si128(from + i + 3);
            _mm_storeu_si128(to + i, v0);
            _mm_storeu_si128(to + i + 1, v1);
            _mm_storeu_si128(to + i + 2, v2);
            _mm_storeu_si128(to + i + 3, v3);
        }
        copy_a[n & 1023] ^= copy_b[(n * 17) & 1023];
    }
    return copied();
}

/* ---- a triad over three arrays of 512 KiB ------------------------------------------------ */

#define TRIAD_N (512 * KIB / 8)
static double triad_a[TRIAD_N], triad_b[TRIAD_N], triad_c[TRIAD_N];

static void setup_triad(void)
{
    for (unsigned i = 0; i < TRIAD_N; i++) {
        triad_b[i] = 1.0 + i % 7;
        triad_c[i] = 0.5 * (i % 5);
    }
}

static uint64_t kernel_triad(uint64_t n)
{
    while (n--) {
        for (unsigned i = 0; i < TRIAD_N; i++) {
            triad_a[i] = triad_b[i] + 3.0 * triad_c[i];
            __asm__ volatile("" ::: "memory"); /* scalar */
        }
        triad_b[n % TRIAD_N] += 1.0;
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < TRIAD_N; i += 997)
        sum = mix(sum, bits_of(triad_a[i]));
    return sum;
}

/* ---- pointers followed at random, one to a cache line -------------------------------------- */

struct link {
    struct link *next;
    uint64_t value, pad[6];
};

#define CHASE_MAX (1024 * KIB / sizeof(struct link))
static struct link links[CHASE_MAX] __attribute__((aligned(4096)));
static uint32_t chase_order[CHASE_MAX];

static void chase_make(unsigned count)
{
    uint64_t s = 998877;
    for (unsigned i = 0; i < count; i++)
        chase_order[i] = i;
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned k = (unsigned)(next_random(&s) % (i + 1));
        uint32_t t = chase_order[i];
        chase_order[i] = chase_order[k];
        chase_order[k] = t;
    }
    for (unsigned i = 0; i < count; i++) {
        links[chase_order[i]].next = &links[chase_order[(i + 1) % count]];
        links[chase_order[i]].value = i;
    }
}

static void setup_chase_4k(void)
{
    chase_make(4 * KIB / sizeof(struct link));
}

static void setup_chase_1m(void)
{
    chase_make(CHASE_MAX);
}

/* A round is 1024 links. */
static uint64_t kernel_chase(uint64_t n)
{
    const struct link *at = links;
    uint64_t sum = 0;
    while (n--)
        for (unsigned i = 0; i < 1024; i++) {
            sum += at->value;
            at = at->next;
        }
    return sum;
}

/* ---- REP MOVSB and REP STOSB -------------------- */

static uint8_t rep_from[1024 * KIB] __attribute__((aligned(4096)));
static uint8_t rep_to[1024 * KIB] __attribute__((aligned(4096)));

static void setup_rep(void)
{
    for (unsigned i = 0; i < sizeof rep_from; i++)
        rep_from[i] = (uint8_t)(i * 3 + (i >> 8));
}

static uint64_t movsb(uint64_t n, uint64_t bytes)
{
    uint64_t sum = 0;
    while (n--) {
        void *to = rep_to;
        const void *from = rep_from;
        uint64_t count = bytes;
        rep_from[n & 4095]++;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
        sum = mix(sum, rep_to[n & 4095] + 3ull * rep_to[bytes - 1]);
    }
    return sum;
}

static uint64_t stosb(uint64_t n, uint64_t bytes)
{
    uint64_t sum = 0;
    while (n--) {
        void *to = rep_to;
        uint64_t count = bytes;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(n) : "memory");
        sum = mix(sum, rep_to[n & 4095] + 3ull * rep_to[bytes - 1]);
    }
    return sum;
}

static uint64_t kernel_movsb_4k(uint64_t n)
{
    return movsb(n, 4 * KIB);
}

static uint64_t kernel_movsb_1m(uint64_t n)
{
    return movsb(n, 1024 * KIB);
}

static uint64_t kernel_stosb_4k(uint64_t n)
{
    return stosb(n, 4 * KIB);
}

static uint64_t kernel_stosb_1m(uint64_t n)
{
    return stosb(n, 1024 * KIB);
}

const struct kernel memory_kernels[] = {
    {"copy8", "memory", setup_copy, kernel_copy8, 3, 0x8cdd5d088791f619},
    {"memcpy-sse", "memory", setup_copy, kernel_memcpy, 3, 0x8cdd5d088791f619},
    {"triad", "memory", setup_triad, kernel_triad, 3, 0xad972b8f6e7850cc},
    {"chase-4k", "memory", setup_chase_4k, kernel_chase, 3, 0x17a00},
    {"chase-1m", "memory", setup_chase_1m, kernel_chase, 20, 0x8c61800},
    {"movsb-4k", "rep", setup_rep, kernel_movsb_4k, 3, 0x7b593ac32653f020},
    {"movsb-1m", "rep", setup_rep, kernel_movsb_1m, 3, 0xc3cb3bd563f334cd},
    {"stosb-4k", "rep", 0, kernel_stosb_4k, 3, 0x414949b6a93eba36},
    {"stosb-1m", "rep", 0, kernel_stosb_1m, 3, 0x414949b6a93eba36},
    {0},
};
