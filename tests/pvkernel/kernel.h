/* SPDX-License-Identifier: MIT
 * A Xen PV kernel that checks what it runs on, piece by piece. */
#ifndef PVKERNEL_H
#define PVKERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/errno.h>

#define BASE       0xffffffff80000000ull
#define PAGE       4096ull
#define PTE_P      1ull
#define PTE_W      2ull
#define PTE_U      4ull
#define PTE_A      0x20ull
#define PTE_D      0x40ull
#define PTE_DATA   (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define PTE_FRAME  0x000ffffffffff000ull
#define PAGE_ALIGN __attribute__((aligned(4096)))

extern char hypercall_page[];
extern struct start_info *start_info;
extern struct shared_info *shared;

static inline long hypercall(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    register uint64_t r10 __asm__("r10") = d;
    long rax;
    __asm__ volatile("call *%[entry]"
                     : "=a"(rax), "+D"(a), "+S"(b), "+d"(c), "+r"(r10)
                     : [entry] "r"(hypercall_page + 32 * nr)
                     : "rcx", "r11", "r8", "r9", "memory");
    return rax;
}
#define HC(name, a, b, c, d)                                                                       \
    hypercall(__HYPERVISOR_##name, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d))

/* ---- main.c */
void check(bool good, const char *what);
_Noreturn void shut_down(unsigned reason);

/* ---- console.c */
void print(const char *s);
void print_number(uint64_t n);

/* ---- traps.c */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, err, rip, cs, rflags, rsp, ss;
};
void traps_check(void);

/* ---- events.c */
void events_init(void);
uint32_t event_bind_ipi(unsigned cpu);
void event_unmask(uint32_t port);
bool event_take(uint32_t port); /* did it come, since the last time? */
void event_wait(uint32_t port); /* sleeps until it has */
long event_send(uint32_t port);
uint64_t system_time(void);
void events_check(void);

/* ---- memory.c */
uint64_t mfn_of(const void *va);
uint64_t pfn_of(uint64_t mfn);
void *va_of(uint64_t mfn); /* of one of the domain's first frames */
long map_at(const void *va, uint64_t entry);
void memory_check(void);
void grants_check(void);

/* ---- smp.c, store.c */
void smp_check(void);
void store_check(void);

static inline size_t length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

#endif
