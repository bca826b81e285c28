/* SPDX-License-Identifier: MIT
 * String operations on host memory with the architecture's meaning: element by
 * element, so that a copy onto what lies just ahead repeats itself, each element
 * one access, either direction. On an x86-64 host they are its own instructions,
 * which are as fast as the guest could have them. */
#ifndef EMU_STRING_HOST_H
#define EMU_STRING_HOST_H

#include "../../../mmu/guest.h"
#include <stdbool.h>

/* n of at least 1; size 1, 2, 4 or 8; `down`: to lower addresses. Searches return
 * the elements not looked at, and in *flags those of the last comparison as LAHF
 * and SETO AL leave them in AX. */

#if defined(__x86_64__)

/* Bytes from and to which the C library's copies, which start at once, win over the
 * processor's, which take some time to. */
#define HOST_COPY_MIN 96u
#define HOST_COPY_MAX 1024u

/* An asm template for each size, forwards and backwards. The compiler's code, and
 * everything it calls, has DF clear. */
#define HOST_STRING_CASE(size_, sfx, insn, after, ...)                                             \
    case size_:                                                                                    \
        if (__builtin_expect(down, 0))                                                             \
            __asm__ volatile("std; " insn sfx "; cld" after : __VA_ARGS__);                        \
        else                                                                                       \
            __asm__ volatile(insn sfx after : __VA_ARGS__);                                        \
        break
#define HOST_STRING(insn, after, ...)                                                              \
    switch (size) {                                                                                \
        HOST_STRING_CASE(1, "b", insn, after, __VA_ARGS__);                                        \
        HOST_STRING_CASE(2, "w", insn, after, __VA_ARGS__);                                        \
        HOST_STRING_CASE(4, "l", insn, after, __VA_ARGS__);                                        \
    default: HOST_STRING_CASE(8, "q", insn, after, __VA_ARGS__);                                   \
    }

static inline __attribute__((always_inline)) void host_movs(void *to, const void *from, uint64_t n,
                                                            unsigned size, bool down)
{
    if (n * size - HOST_COPY_MIN < HOST_COPY_MAX - HOST_COPY_MIN && !down &&
        (uintptr_t)to - (uintptr_t)from >= n * size) {
        guest_move(to, from, n * size);
        return;
    }
    HOST_STRING("rep movs", "", "+D"(to), "+S"(from), "+c"(n)::"memory")
}

static inline __attribute__((always_inline)) void host_stos(void *to, uint64_t v, uint64_t n,
                                                            unsigned size, bool down)
{
    if (n * size - HOST_COPY_MIN < HOST_COPY_MAX - HOST_COPY_MIN && !down &&
        (size == 1 || v == 0)) {
        guest_fill(to, (uint8_t)v, n * size);
        return;
    }
    HOST_STRING("rep stos", "", "+D"(to), "+c"(n) : "a"(v) : "memory")
}

static inline uint64_t host_scas(const void *p, uint64_t v, uint64_t n, unsigned size, bool down,
                                 bool unequal, uint16_t *flags)
{
    if (unequal)
        HOST_STRING("repne scas", "; lahf; seto %%al", "+D"(p), "+c"(n), "+a"(v)::"memory", "cc")
    else
        HOST_STRING("repe scas", "; lahf; seto %%al", "+D"(p), "+c"(n), "+a"(v)::"memory", "cc")
    *flags = (uint16_t)v;
    return n;
}

static inline uint64_t host_cmps(const void *a, const void *b, uint64_t n, unsigned size, bool down,
                                 bool unequal, uint16_t *flags)
{
    uint64_t v = 0;
    if (unequal)
        HOST_STRING("repne cmps", "; lahf; seto %%al", "+S"(a), "+D"(b), "+c"(n), "+a"(v)::"memory",
                    "cc")
    else
        HOST_STRING("repe cmps", "; lahf; seto %%al", "+S"(a), "+D"(b), "+c"(n), "+a"(v)::"memory",
                    "cc")
    *flags = (uint16_t)v;
    return n;
}

#else

static inline uint64_t host_element(const void *p, unsigned size)
{
    uint64_t v = 0; /* little-endian, as the guest */
    guest_copy(&v, p, size);
    return v;
}

static inline void host_movs(void *to, const void *from, uint64_t n, unsigned size, bool down)
{
    int64_t step = down ? -(int64_t)size : (int64_t)size;
    uint8_t *t = to;
    for (const uint8_t *f = from; n--; t += step, f += step) {
        uint64_t v = host_element(f, size);
        guest_copy(t, &v, size);
    }
}

static inline void host_stos(void *to, uint64_t v, uint64_t n, unsigned size, bool down)
{
    int64_t step = down ? -(int64_t)size : (int64_t)size;
    for (uint8_t *t = to; n--; t += step)
        guest_copy(t, &v, size);
}

/* LAHF and SETO after a - b. */
static inline uint16_t host_flags(uint64_t a, uint64_t b, unsigned size)
{
    uint64_t mask = size == 8 ? UINT64_MAX : (1ull << size * 8) - 1, top = mask ^ mask >> 1;
    a &= mask;
    b &= mask;
    uint64_t r = (a - b) & mask;
    unsigned f = 2 | (a < b) | (unsigned)(!__builtin_parity((unsigned)r & 0xff)) << 2 |
                 (unsigned)((a ^ b ^ r) & 0x10) | (unsigned)(r == 0) << 6 |
                 (unsigned)((r & top) != 0) << 7;
    return (uint16_t)(f << 8 | (((a ^ b) & (a ^ r) & top) != 0));
}

static inline uint64_t host_search(const void *pa, uint64_t v, const void *pb, uint64_t n,
                                   unsigned size, bool down, bool unequal, uint16_t *flags)
{
    int64_t step = down ? -(int64_t)size : (int64_t)size;
    const uint8_t *a = pa, *b = pb;
    for (;; b += step) {
        uint64_t x = a ? host_element(a, size) : v, y = host_element(b, size);
        *flags = host_flags(x, y, size);
        n--;
        if (!n || !(*flags & 0x4000) != unequal)
            return n;
        a = a ? a + step : a;
    }
}

static inline uint64_t host_scas(const void *p, uint64_t v, uint64_t n, unsigned size, bool down,
                                 bool unequal, uint16_t *flags)
{
    return host_search(NULL, v, p, n, size, down, unequal, flags);
}

static inline uint64_t host_cmps(const void *a, const void *b, uint64_t n, unsigned size, bool down,
                                 bool unequal, uint16_t *flags)
{
    return host_search(a, 0, b, n, size, down, unequal, flags);
}

#endif
#endif
