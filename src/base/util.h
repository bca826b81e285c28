/* SPDX-License-Identifier: MIT
 * Small things everybody needs. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define likely(x)    __builtin_expect(!!(x), 1)
#define unlikely(x)  __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)       (1u << (n))
#define BIT64(n)     (1ull << (n))
#define PAGE_SIZE_4K 4096ull
#define PAGE_MASK_4K (~4095ull)
#define SIZE_2M      (1ull << 21)
#define CACHE_LINE   64u /* the host's */
#define PAGE_MASK_2M (~(SIZE_2M - 1))

/* Built with the address or the thread sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Bytes in guest memory have no alignment: go through memcpy. */
#define DEF_LE(bits)                                                                               \
    static inline uint##bits##_t get_le##bits(const void *p)                                       \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static inline void put_le##bits(void *p, uint##bits##_t v)                                     \
    {                                                                                              \
        memcpy(p, &v, sizeof v);                                                                   \
    }
DEF_LE(16)
DEF_LE(32)
DEF_LE(64)
#undef DEF_LE

static inline uint64_t host_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

#endif
