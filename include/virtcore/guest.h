/* SPDX-License-Identifier: MIT
 *
 * virtcore/guest.h - for C programs that are guests: calling the host. Inline assembly
 * only, no library; 64-bit code where OUT is allowed.
 *
 *     long n = (long)vc_host(7, 1, buffer, sizeof buffer, "name");
 *     if (VC_HCALL_IS_ERROR(n)) ...
 */
#ifndef VIRTCORE_GUEST_H
#define VIRTCORE_GUEST_H

#include "abi.h"

#ifndef __x86_64__
#error "virtcore/guest.h is for 64-bit guests; virtcore/abi.h says what others do"
#endif

/* Calls the host with n words; those behind w[n] are not read. The red zone is
 * stepped over, so that any function may use it. */
static inline unsigned long vc_host_words(unsigned nr, const unsigned long *w, unsigned n)
{
    unsigned long ret = nr | (unsigned long)(n + 1) << 24;
    unsigned long more = n > 6 ? n - 6 : 0;
    unsigned long di = n > 0 ? w[0] : 0, si = n > 1 ? w[1] : 0, dx = n > 2 ? w[2] : 0;
    register unsigned long r10 __asm__("r10") = n > 3 ? w[3] : 0;
    register unsigned long r8 __asm__("r8") = n > 4 ? w[4] : 0;
    register unsigned long r9 __asm__("r9") = n > 5 ? w[5] : 0;
    register const unsigned long *rest __asm__("r11") = w + 6;
    __asm__ volatile("mov %%rsp, %%rbx\n\t"
                     "lea -128(%%rsp), %%rsp\n\t"
                     "test %%rcx, %%rcx\n\t"
                     "jz 2f\n"
                     "1:\n\t"
                     "push -8(%%r11,%%rcx,8)\n\t"
                     "dec %%rcx\n\t"
                     "jnz 1b\n"
                     "2:\n\t"
                     "push %%rax\n\t"
                     "out %%eax, %[port]\n\t"
                     "pop %%rax\n\t"
                     "mov %%rbx, %%rsp"
                     : "+a"(ret), "+c"(more)
                     : "D"(di), "S"(si), "d"(dx), "r"(r10), "r"(r8), "r"(r9), "r"(rest),
                       [port] "N"(VC_HCALL_PORT)
                     : "rbx", "cc", "memory");
    return ret;
}

/* Up to six words, without memory. */
static inline unsigned long vc_host_regs(unsigned long nr, unsigned long a, unsigned long b,
                                         unsigned long c, unsigned long d, unsigned long e,
                                         unsigned long f)
{
    register unsigned long r10 __asm__("r10") = d;
    register unsigned long r8 __asm__("r8") = e;
    register unsigned long r9 __asm__("r9") = f;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "push %%rax\n\t"
                     "out %%eax, %[port]\n\t"
                     "pop %%rax\n\t"
                     "lea 128(%%rsp), %%rsp"
                     : "+a"(nr)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9),
                       [port] "N"(VC_HCALL_PORT)
                     : "memory");
    return nr;
}

/* vc_host(nr, ...): up to six integers or pointers; says how many they are. */
#define VC_HOST_W_(x)     ((unsigned long)(x))
#define VC_HOST_0_(nr)    vc_host_regs((nr) | 1ul << 24, 0, 0, 0, 0, 0, 0)
#define VC_HOST_1_(nr, a) vc_host_regs((nr) | 2ul << 24, VC_HOST_W_(a), 0, 0, 0, 0, 0)
#define VC_HOST_2_(nr, a, b)                                                                       \
    vc_host_regs((nr) | 3ul << 24, VC_HOST_W_(a), VC_HOST_W_(b), 0, 0, 0, 0)
#define VC_HOST_3_(nr, a, b, c)                                                                    \
    vc_host_regs((nr) | 4ul << 24, VC_HOST_W_(a), VC_HOST_W_(b), VC_HOST_W_(c), 0, 0, 0)
#define VC_HOST_4_(nr, a, b, c, d)                                                                 \
    vc_host_regs((nr) | 5ul << 24, VC_HOST_W_(a), VC_HOST_W_(b), VC_HOST_W_(c), VC_HOST_W_(d), 0, 0)
#define VC_HOST_5_(nr, a, b, c, d, e)                                                              \
    vc_host_regs((nr) | 6ul << 24, VC_HOST_W_(a), VC_HOST_W_(b), VC_HOST_W_(c), VC_HOST_W_(d),     \
                 VC_HOST_W_(e), 0)
#define VC_HOST_6_(nr, a, b, c, d, e, f)                                                           \
    vc_host_regs((nr) | 7ul << 24, VC_HOST_W_(a), VC_HOST_W_(b), VC_HOST_W_(c), VC_HOST_W_(d),     \
                 VC_HOST_W_(e), VC_HOST_W_(f))
#define VC_HOST_PICK_(nr, a, b, c, d, e, f, name, ...) name
#define vc_host(...)                                                                               \
    VC_HOST_PICK_(__VA_ARGS__, VC_HOST_6_, VC_HOST_5_, VC_HOST_4_, VC_HOST_3_, VC_HOST_2_,         \
                  VC_HOST_1_, VC_HOST_0_, 0)                                                       \
    (__VA_ARGS__)

/* A double as a word, and back. */
static inline unsigned long vc_host_from_double(double d)
{
    unsigned long w;
    __builtin_memcpy(&w, &d, sizeof w);
    return w;
}
static inline double vc_host_to_double(unsigned long w)
{
    double d;
    __builtin_memcpy(&d, &w, sizeof d);
    return d;
}

/* Once in a program, outside functions: a return trap by the name vc_guest_return, for
 * guests with page tables of their own (vc_call_opts.ret). */
#define VC_GUEST_RETURN                                                                            \
    __asm__(".pushsection .text\n\t.globl vc_guest_return\n"                                       \
            "vc_guest_return:\n\tout %eax, $0xbd\n\tud2\n\t.popsection")

#endif
