/* SPDX-License-Identifier: MIT
 * The C library's string functions, at all offsets and lengths, with memory that
 * may not be touched right behind (and before) the data. */
#define _GNU_SOURCE
#include "show.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <wchar.h>

#define SPAN 8192

/* A span whose neighbours are out of bounds. */
static char *guarded(void)
{
    char *p = mmap(NULL, SPAN + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + 4096, SPAN, PROT_READ | PROT_WRITE))
        exit(2);
    return p + 4096;
}

static unsigned length(unsigned i)
{
    return i < 300 ? i : (unsigned)(rnd() % 4000);
}

static void fill(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(rnd() % 255 + 1);
}

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static void copies(char *a, char *b)
{
    for (unsigned i = 0; i < 500; i++) {
        unsigned n = length(i), at = i % 67;
        fill(a, SPAN);
        memset(b, (int)i, SPAN);
        memcpy(b + SPAN - n, a + at, n); /* ends at the border */
        memcpy(b, a + SPAN - n, n);
        memmove(a + 64, a + at, n);
        memmove(a + at, a + 100, n);
        memset(b + at + n, 0x5a, n);
        add((uint64_t)((char *)mempcpy(b + at, a + 7, n) - b));
        add_bytes(a, 512 + n);
        add_bytes(b, 512);
        add_bytes(b + SPAN - n, n);
    }
    show("memcpy memmove memset");
}

static void searches(char *a, char *b)
{
    for (unsigned i = 0; i < 1500; i++) {
        unsigned n = length(i) + 1;
        char *s = i & 1 ? a + SPAN - n : a + i % 61, *t = b + SPAN - n;
        fill(s, n);
        s[n - 1] = 0;
        memcpy(t, s, n);
        add(strlen(s));
        add(strnlen(s, n / 2));
        char c = s[n / 3];
        add((uint64_t)(strchrnul(s, c) - s) ^ (uint64_t)(strrchr(s, c) - s) << 16);
        add((uint64_t)((char *)memchr(s, c, n) - s));
        add((uint64_t)((char *)memrchr(s, c, n) - s));
        add((uint64_t)((char *)rawmemchr(s, c) - s));
        add((uint64_t)(strcmp(s, t) + memcmp(s, t, n) + strncmp(s, t, n)));
        if (n > 1)
            t[rnd() % (n - 1)] ^= 0x11;
        add((uint64_t)(sign(strcmp(s, t)) * 9 + sign(memcmp(s, t, n)) * 3 +
                       sign(strncmp(s, t, n / 2))));
        add((uint64_t)sign(strcasecmp(s, t)));
        add(strspn(s, "abcdefgh") + strcspn(s, "xyz\x01") + (strpbrk(s, "qQ!") != NULL));
        char *at = memmem(s, n, s + n / 2, n / 4);
        add((uint64_t)(at - s));
        char c2 = s[n / 2 + n / 4 < n ? n / 2 + n / 4 : n - 1];
        s[n / 2 + n / 4 < n ? n / 2 + n / 4 : n - 1] = 0;
        add((uint64_t)(strstr(a + SPAN - n == s ? s : s, s + n / 2) - s));
        s[n / 2 + n / 4 < n ? n / 2 + n / 4 : n - 1] = c2;
    }
    show("str* mem* searches");
}

static void builds(char *a, char *b)
{
    for (unsigned i = 0; i < 600; i++) {
        unsigned n = length(i) % 2000 + 1;
        char *s = a + SPAN - n;
        fill(s, n);
        s[n - 1] = 0;
        memset(b, 0, SPAN);
        add((uint64_t)(stpcpy(b, s) - b));
        strcat(b, s);
        strncpy(b + 4200, s, n / 2);
        strncat(b + 4200, s, n / 3);
        add((uint64_t)(stpncpy(b + SPAN - n - 8, s, n + 8) - b));
        add_bytes(b, SPAN);
    }
    show("strcpy strcat");
}

static void wides(char *a, char *b)
{
    for (unsigned i = 0; i < 400; i++) {
        unsigned n = length(i) % 900 + 1;
        wchar_t *s = (wchar_t *)(void *)a + SPAN / sizeof(wchar_t) - n;
        wchar_t *t = (wchar_t *)(void *)b + SPAN / sizeof(wchar_t) - n;
        for (unsigned k = 0; k < n; k++)
            s[k] = (wchar_t)(rnd() % 0x10000 + 1);
        s[n - 1] = 0;
        wcscpy(t, s);
        add(wcslen(s) + (uint64_t)wcscmp(s, t));
        add((uint64_t)(wcsrchr(s, s[n / 2]) - s));
        add((uint64_t)(wmemchr(s, s[n / 3], n) - s));
        t[rnd() % n] ^= 0x100;
        add((uint64_t)sign(wcscmp(s, t)) ^ (uint64_t)sign(wmemcmp(s, t, n)));
    }
    show("wide characters");
}

int main(void)
{
    char *a = guarded(), *b = guarded();
    copies(a, b);
    searches(a, b);
    builds(a, b);
    wides(a, b);
    return 0;
}
