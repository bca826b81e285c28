/* SPDX-License-Identifier: MIT
 * What the kernel says, on COM1, and how it ends: port 0xf4. */
#include "kernel.h"

static uint32_t sum = 2166136261u, failures, seed = 2463534242u;

void print(const char *s)
{
    for (; *s; s++) {
        while (!(inb(0x3fd) & 0x20))
            ;
        outb(0x3f8, (uint8_t)*s);
    }
}

void print_hex(uint32_t v)
{
    char s[9] = "";
    for (int i = 0; i < 8; i++)
        s[i] = "0123456789abcdef"[v >> (28 - 4 * i) & 15];
    print(s);
}

void check(const char *what, bool ok)
{
    print("boot32: ");
    print(what);
    print(ok ? " ok\n" : " FAIL\n");
    failures += !ok;
}

void add(uint32_t v)
{
    sum = (sum ^ v) * 16777619u;
    sum ^= sum >> 15;
}

uint32_t rnd(void) /* xorshift (Marsaglia) */
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

void main(uint32_t magic)
{
    check("multiboot's magic number", magic == 0x2badb002);
    system_init();
    check_compute();
    check_segments();
    check_paging(false);
    check_user();
    check_compute();
    check_paging(true);
    check_user();
    check_compute();
    print("boot32: sum ");
    print_hex(sum);
    print(failures ? "\nboot32: FAILED\n" : "\nboot32: PASS\n");
    outb(0xf4, failures ? 1 : 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}
