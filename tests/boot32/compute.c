/* SPDX-License-Identifier: MIT
 * What 32-bit code computes with: the instructions that 64-bit mode took away or
 * changed, among the others. */
#include "kernel.h"

static uint32_t words[1024], copy[1024];

static void integers(void)
{
    for (int i = 0; i < 3000; i++) {
        uint32_t a = rnd(), b = rnd() | 1, q, r, lo, hi, f;
        uint64_t w = (uint64_t)a * b + a;
        add((uint32_t)w ^ (uint32_t)(w >> 32));
        w = (w << (a & 31)) - (w >> (b & 31));
        add((uint32_t)w ^ (uint32_t)(w >> 32));
        __asm__("divl %4" : "=a"(q), "=d"(r) : "a"(a), "d"(b >> 1), "rm"(b) : "cc");
        add(q), add(r);
        __asm__("imull %3" : "=a"(lo), "=d"(hi) : "a"(a), "rm"(b) : "cc");
        add(lo), add(hi);
        /* AH to BH, halves, flags through LAHF and PUSHF. */
        __asm__("addb %%bh, %%ah; adcb %%al, %%bl; rolw $3, %%ax; lahf; xchgb %%al, %%bh"
                : "=a"(lo), "=b"(hi)
                : "a"(a), "b"(b)
                : "cc");
        add(lo), add(hi);
        __asm__("addl %2, %0; pushfl; popl %1" : "+r"(a), "=r"(f) : "r"(b) : "cc");
        add(f & 0x8d5);
        __asm__("shldl $7, %2, %0; rcrl $3, %0; pushfl; popl %1"
                : "+r"(a), "=r"(f)
                : "r"(b)
                : "cc");
        add(a), add(f & 1);
    }
}

static void decimal(void)
{
    for (uint32_t i = 0; i < 65536; i += 7) {
        uint32_t a = i, d = i & 0x9f9f;
        __asm__("daa; aaa" : "+a"(a)::"cc");
        add(a & 0xffff);
        __asm__("das; aas; aam; aad" : "+a"(d)::"cc");
        add(d & 0xffff);
    }
}

static void stacks(void)
{
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t a = i, b = ~i;
        __asm__ volatile("pushal; incl %%eax; decl %%ebx; popal\n\t"
                         "enter $16, $0; movl %%eax, -4(%%ebp); addl %%ebx, -4(%%ebp)\n\t"
                         "movl -4(%%ebp), %%eax; leave\n\t"
                         "pushw %%ax; pushw $7; popl %%ecx; addl %%ecx, %%ebx\n\t"
                         "push %%cs; popl %%ecx; addl %%ecx, %%ebx\n\t"
                         "salc_%=: .byte 0xd6" /* SALC */
                         : "+a"(a), "+b"(b)
                         :
                         : "ecx", "cc", "memory");
        add(a), add(b);
    }
    uint32_t n = 100, s = 0;
    __asm__("1: addl %%ecx, %0; loop 1b; jecxz 2f; ud2; 2:" : "+r"(s), "+c"(n)::"cc");
    add(s);
    static const uint8_t table[256] = {[5] = 99, [200] = 1};
    uint32_t al = 5;
    __asm__("xlatb" : "+a"(al) : "b"(table), "m"(table));
    add(al);
}

static void strings(void)
{
    for (int i = 0; i < 1024; i++)
        words[i] = rnd();
    for (uint32_t i = 1; i < 200; i += 3) {
        void *to = (char *)copy + i, *from = words;
        uint32_t n = i * 4, a = 0x5a5a5a5a, left;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        n = i;
        to = copy;
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(a) : "memory");
        left = 4096, to = copy;
        __asm__ volatile("repe scasb" : "+D"(to), "+c"(left) : "a"(0x5a) : "memory", "cc");
        add(left);
        left = 500, to = words, from = copy;
        __asm__ volatile("std; addl $2000, %%esi; addl $2000, %%edi; repne cmpsl; cld"
                         : "+D"(to), "+S"(from), "+c"(left)::"memory", "cc");
        add(left);
    }
    for (int i = 0; i < 1024; i++)
        add(copy[i]);
}

__attribute__((target("sse2"))) static void floats(void)
{
    double d = 1;
    float f = 1;
    long double l = 1;
    for (int i = 1; i < 3000; i++) {
        d = d * 1.0003 + 1.0 / i;
        f = f * 0.999f + 3.0f / (float)i;
        l = l * 1.00001L - 1.0L / i;
    }
    union {
        double d;
        float f;
        long double l;
        uint32_t w[4];
    } u = {.d = d};
    add(u.w[0]), add(u.w[1]);
    u.f = f;
    add(u.w[0]);
    u.l = l;
    add(u.w[0]), add(u.w[1]), add(u.w[2] & 0xffff);
    __asm__("fldpi; fsin; fldl2e; fyl2x; fstpl %0" : "=m"(u.d));
    add(u.w[1] >> 8);
    for (uint32_t i = 0; i < 300; i++) {
        __asm__ volatile("movd %1, %%xmm0; pshufd $0, %%xmm0, %%xmm0; movdqu (%2), %%xmm7\n\t"
                         "paddd %%xmm7, %%xmm0; pmuludq %%xmm7, %%xmm0; cvtdq2ps %%xmm0, %%xmm1\n\t"
                         "pxor %%xmm1, %%xmm0; movups %%xmm0, %0"
                         : "=m"(u)
                         : "r"(i * 77777), "r"(words + i)
                         : "xmm0", "xmm1", "xmm7", "memory");
        add(u.w[i & 3]);
    }
}

static void sorting(void)
{
    for (int i = 0; i < 1024; i++)
        words[i] = rnd();
    for (int gap = 512; gap; gap /= 2)
        for (int i = gap; i < 1024; i++) {
            uint32_t v = words[i];
            int k = i;
            for (; k >= gap && words[k - gap] > v; k -= gap)
                words[k] = words[k - gap];
            words[k] = v;
        }
    bool sorted = true;
    for (int i = 1; i < 1024; i++)
        sorted &= words[i - 1] <= words[i];
    check("sorted", sorted);
}

/* mov eax, imm; ret, whose immediate changes; then one that changes what follows. */
static uint8_t code[4096] __attribute__((aligned(4096)));
static void new_code(void)
{
    bool right = true;
    uint32_t (*fn)(void) = (uint32_t(*)(void))(uintptr_t)(code + 100);
    code[100] = 0xb8, code[105] = 0xc3;
    for (uint32_t i = 0; i < 5000; i++) {
        *(volatile uint32_t *)(void *)(code + 101) = i * 3;
        right &= fn() == i * 3;
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t v;
        __asm__ volatile("movb %1, 1f+1\n\tjmp 1f\n1:\tmovb $0, %%al\n\tmovzbl %%al, %0"
                         : "=a"(v)
                         : "q"((uint8_t)i)
                         : "memory");
        right &= v == (uint8_t)i;
    }
    check("changed code", right);
}

void check_compute(void)
{
    integers();
    decimal();
    stacks();
    strings();
    floats();
    sorting();
    new_code();
}
