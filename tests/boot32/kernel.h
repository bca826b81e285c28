/* SPDX-License-Identifier: MIT
 * A small 32-bit kernel that checks the processor it runs on. */
#ifndef BOOT32_KERNEL_H
#define BOOT32_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define KCODE 0x08
#define KDATA 0x10
#define UCODE 0x1b
#define UDATA 0x23
#define TSS   0x28
#define BASED 0x30 /* a data segment with a base and a limit */

/* Registers as an entry leaves them on the stack. */
struct frame {
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax;
    uint32_t vector, error;
    uint32_t eip, cs, eflags, user_esp, user_ss;
};

/* main.c */
void print(const char *s);
void print_hex(uint32_t v);
void check(const char *what, bool ok);
void add(uint32_t v); /* to the sum of results */
uint32_t rnd(void);

/* system.c */
extern volatile uint32_t ticks, faults, fault_vector, fault_error, fault_cr2, syscalls;
extern volatile uint32_t fault_skip; /* where a fault goes on; 0: a fault is the end */
void system_init(void);
void interrupt(struct frame *f);
uint32_t user_run(void (*fn)(void)); /* at CPL 3, until it asks to come back */
void check_paging(bool pae);
void check_segments(void);
void check_user(void);

/* compute.c */
void check_compute(void);

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

#endif
