/* SPDX-License-Identifier: MIT
 * The library's own memory: large pages, and arenas of small objects. */
#include "base/arena.h"
#include "base/pages.h"
#include "base/util.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

Test(pages, zeroes_where_asked)
{
    static const size_t sizes[] = {1, 4096, 100000, 2u << 20, (2u << 20) + 5, 9u << 20};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t *p = pages_new(sizes[i]);
        cr_assert_not_null(p);
        if (sizes[i] >= 2u << 20)
            cr_assert_eq((uintptr_t)p & ((2u << 20) - 1), 0);
        cr_assert_eq(p[0] | p[sizes[i] / 2] | p[sizes[i] - 1], 0);
        memset(p, 0xff, sizes[i]);
        pages_free(p, sizes[i]);
    }
    cr_assert_null(pages_new(0));
    cr_assert_null(pages_new(SIZE_MAX));
    cr_assert_null(pages_new(SIZE_MAX / 2));
    pages_free(NULL, 5);
}

/* A host that has no huge page to give says so; what the memory holds stays either way. */
Test(pages, joined_pages_hold_what_they_held)
{
    const size_t room = 2 * PAGES_HUGE;
    uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    uint8_t *at = p + (-(uintptr_t)p & (PAGES_HUGE - 1));
    at =
        mmap(at, PAGES_HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    cr_assert_neq(at, MAP_FAILED);
    for (size_t i = 0; i < PAGES_HUGE; i += 3 * 4096)
        at[i] = (uint8_t)(i >> 12 | 1);
    errno = 0;
    bool joined = pages_join(at);
    printf("the host %s them\n", joined ? "joined" : "did not join");
    cr_expect_eq(errno, 0);
    cr_expect_not(pages_join(at + 4096), "not at a multiple of 2 MiB");
    for (size_t i = 0; i < PAGES_HUGE; i += 4096)
        cr_assert_eq(at[i], i % (3 * 4096) ? 0 : (uint8_t)(i >> 12 | 1));
    munmap(p, room);
}

#define N 3000

Test(arena, objects_keep_to_themselves)
{
    static uint8_t *at[N];
    static size_t size[N];
    struct arena *a = arena_new();
    cr_assert_not_null(a);
    cr_assert(arena_empty(a));
    uint32_t s = 1;
    for (unsigned round = 0; round < 60000; round++) {
        s = s * 1664525 + 1013904223;
        unsigned i = (s >> 8) % N;
        if (at[i]) {
            for (size_t k = 0; k < size[i]; k += 97)
                cr_assert_eq(at[i][k], (uint8_t)i);
            cr_assert_eq(at[i][size[i] - 1], (uint8_t)i);
            arena_free(a, at[i], size[i]);
            at[i] = NULL;
        } else {
            size[i] = 1 + (s >> 4) % ARENA_MAX;
            at[i] = arena_alloc(a, size[i]);
            cr_assert_not_null(at[i]);
            cr_assert_eq((uintptr_t)at[i] & 15, 0);
            memset(at[i], (int)i, size[i]);
        }
    }
    for (unsigned i = 0; i < N; i++)
        arena_free(a, at[i], size[i]);
    cr_assert(arena_empty(a));
    arena_delete(a);
    arena_delete(NULL);
}

Test(arena, uses_again_what_was_freed)
{
    struct arena *a = arena_new();
    for (unsigned i = 0; i < 100000; i++) {
        void *p = arena_alloc(a, 200), *q = arena_alloc(a, 1000);
        arena_free(a, p, 200);
        arena_free(a, q, 1000);
    }
#ifndef SANITIZED
    cr_assert_leq(arena_used(a), 4096);
#endif
    cr_assert_null(arena_alloc(a, 0));
    cr_assert_null(arena_alloc(a, ARENA_MAX + 1));
    arena_delete(a);
}
