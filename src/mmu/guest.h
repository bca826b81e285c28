/* SPDX-License-Identifier: MIT
 * Bytes of guest RAM through a host pointer. Other vCPUs and devices may change
 * them at any moment, as on any machine with several processors: such a race is
 * the guest's, and the thread sanitizer, which looks for ours, does not see what
 * goes through here. Sizes of 1, 2, 4 and 8 bytes are one access each, so that
 * what is atomic for the guest stays so. */
#ifndef MMU_GUEST_H
#define MMU_GUEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define GUEST_UNSEEN __attribute__((no_sanitize("thread")))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUEST_UNSEEN __attribute__((no_sanitize("thread")))
#endif
#endif

#ifdef GUEST_UNSEEN

/* memcpy and its kin would be seen, even here. */
typedef uint16_t __attribute__((may_alias, aligned(1))) guest_u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) guest_u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) guest_u64;

GUEST_UNSEEN static inline void guest_copy(void *to, const void *from, size_t n)
{
    switch (n) {
    case 2: *(volatile guest_u16 *)to = *(const volatile guest_u16 *)from; return;
    case 4: *(volatile guest_u32 *)to = *(const volatile guest_u32 *)from; return;
    default: break;
    }
    volatile uint8_t *t = (volatile uint8_t *)to;
    const volatile uint8_t *f = (const volatile uint8_t *)from;
    for (; n >= 8; n -= 8, t += 8, f += 8)
        *(volatile guest_u64 *)t = *(const volatile guest_u64 *)f;
    while (n--)
        *t++ = *f++;
}

/* Within RAM; the ranges may overlap when to is below from. */
GUEST_UNSEEN static inline void guest_move(void *to, const void *from, size_t n)
{
    volatile uint8_t *t = (volatile uint8_t *)to;
    const volatile uint8_t *f = (const volatile uint8_t *)from;
    while (n--)
        *t++ = *f++;
}

GUEST_UNSEEN static inline void guest_fill(void *to, uint8_t byte, size_t n)
{
    volatile uint8_t *t = (volatile uint8_t *)to;
    while (n--)
        *t++ = byte;
}

#else
#define GUEST_UNSEEN

static inline __attribute__((always_inline)) void guest_copy(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}
static inline __attribute__((always_inline)) void guest_move(void *to, const void *from, size_t n)
{
    memmove(to, from, n);
}
static inline __attribute__((always_inline)) void guest_fill(void *to, uint8_t byte, size_t n)
{
    memset(to, byte, n);
}

#endif
#endif
