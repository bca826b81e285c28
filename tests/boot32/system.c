/* SPDX-License-Identifier: MIT
 * Descriptors, interrupts, paging with 32-bit and PAE tables, privilege levels. */
#include "kernel.h"
#include <stddef.h>

#define PTE_P  1u
#define PTE_W  2u
#define PTE_U  4u
#define PTE_PS 0x80u

volatile uint32_t ticks, faults, fault_vector, fault_error, fault_cr2, syscalls, fault_skip;
static uint64_t gdt[8], idt[129];
static uint32_t tss[26];
static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t pae_directory[4][512] __attribute__((aligned(4096)));
static uint64_t pae_table[512] __attribute__((aligned(4096)));
static uint32_t pages[4][1024] __attribute__((aligned(4096)));
static uint8_t user_stack[8192] __attribute__((aligned(4096)));
static uint8_t kernel_stack[16384] __attribute__((aligned(4096)));
extern const uint32_t entry_table[49];
void user_enter(void (*fn)(void), void *stack);
extern uint8_t user_return[];
void sysenter_entry(void);

struct __attribute__((packed)) pointer {
    uint16_t limit;
    uint32_t base;
};

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

static void gate(unsigned n, uint32_t to, unsigned access)
{
    idt[n] = (to & 0xffff) | KCODE << 16 | (uint64_t)access << 40 | (uint64_t)(to >> 16) << 48;
}

static void wrmsr(uint32_t index, uint32_t v)
{
    __asm__ volatile("wrmsr" ::"c"(index), "a"(v), "d"(0));
}

void system_init(void)
{
    gdt[1] = descriptor(0, 0xfffff, 0x9b, 0xc);
    gdt[2] = descriptor(0, 0xfffff, 0x93, 0xc);
    gdt[3] = descriptor(0, 0xfffff, 0xfb, 0xc);
    gdt[4] = descriptor(0, 0xfffff, 0xf3, 0xc);
    gdt[5] = descriptor((uint32_t)(uintptr_t)tss, sizeof tss - 1, 0x89, 0);
    gdt[6] = descriptor((uint32_t)(uintptr_t)pages, 0xfff, 0xf3, 0x4);
    struct pointer p = {sizeof gdt - 1, (uint32_t)(uintptr_t)gdt};
    __asm__ volatile("lgdt %0; ljmp %1, $1f; 1: movl %2, %%ds; movl %2, %%es; movl %2, %%ss\n\t"
                     "movl %2, %%fs; movl %2, %%gs" ::"m"(p),
                     "i"(KCODE), "r"(KDATA)
                     : "memory");
    tss[1] = (uint32_t)(uintptr_t)(kernel_stack + sizeof kernel_stack);
    tss[2] = KDATA;
    tss[25] = sizeof tss << 16;
    __asm__ volatile("ltr %w0" ::"r"(TSS));
    for (unsigned i = 0; i < 48; i++)
        gate(i, entry_table[i], 0x8e);
    gate(3, entry_table[3], 0xee);
    gate(4, entry_table[4], 0xee);
    gate(128, entry_table[48], 0xef);
    p = (struct pointer){sizeof idt - 1, (uint32_t)(uintptr_t)idt};
    __asm__ volatile("lidt %0" ::"m"(p));
    uint32_t cr;
    __asm__ volatile("movl %%cr4, %0; orl $0x600, %0; movl %0, %%cr4\n\t" /* SSE */
                     "movl %%cr0, %0; andl $~0xc, %0; orl $0x22, %0; movl %0, %%cr0; fninit"
                     : "=r"(cr));
    wrmsr(0x174, KCODE); /* SYSENTER: CS, ESP, EIP */
    wrmsr(0x175, (uint32_t)(uintptr_t)(kernel_stack + sizeof kernel_stack));
    wrmsr(0x176, (uint32_t)(uintptr_t)sysenter_entry);
    /* 8259s at vectors 32 and 40, all masked but the timer, which ticks at 1 kHz. */
    static const uint8_t icw[][2] = {
        {0x20, 0x11}, {0xa0, 0x11},       {0x21, 32},       {0xa1, 40},   {0x21, 4},
        {0xa1, 2},    {0x21, 1},          {0xa1, 1},        {0x21, 0xfe}, {0xa1, 0xff},
        {0x43, 0x34}, {0x40, 1193 & 255}, {0x40, 1193 >> 8}};
    for (unsigned i = 0; i < sizeof icw / 2; i++)
        outb(icw[i][0], icw[i][1]);
    __asm__ volatile("sti");
}

/* The system calls of int 0x80: eax 0 comes back with ebx, 1 counts. */
void interrupt(struct frame *f)
{
    if (f->vector == 32) {
        ticks++;
        outb(0x20, 0x20);
    } else if (f->vector == 128 && f->eax == 1) {
        syscalls++;
        f->eax = f->ebx + f->ecx;
    } else if (f->vector == 128) {
        __asm__ volatile("jmp user_return" ::"a"(f->ebx));
    } else {
        faults++;
        fault_vector = f->vector;
        fault_error = f->error;
        __asm__ volatile("movl %%cr2, %0" : "=r"(f->vector));
        fault_cr2 = f->vector;
        if (!fault_skip) {
            print("boot32: fault ");
            print_hex(fault_vector), print(" at "), print_hex(f->eip);
            print("\nboot32: FAILED\n");
            outb(0xf4, 1);
        }
        f->eip = fault_skip;
    }
}

/* Runs one instruction that faults. */
#define FAULTS(vector_, error_, ...)                                                               \
    ({                                                                                             \
        fault_vector = ~0u;                                                                        \
        __asm__ volatile("movl $2f, fault_skip\n1: " __VA_ARGS__ "\n2: movl $0, fault_skip" ::     \
                             : "eax", "ecx", "edx", "cc", "memory");                               \
        fault_vector == (vector_) && fault_error == (error_);                                      \
    })

void check_segments(void)
{
    uint32_t v;
    bool right = true;
    for (uint32_t i = 0; i < 1024; i++)
        pages[0][i] = i * i;
    __asm__ volatile("movl %0, %%fs" ::"r"(BASED));
    for (uint32_t i = 0; i < 1024; i++) {
        __asm__ volatile("movl %%fs:(,%1,4), %0; addl $1, %%fs:(,%1,4)"
                         : "=&r"(v)
                         : "r"(i)
                         : "memory");
        right &= v == i * i && pages[0][i] == i * i + 1;
    }
    check("segment base", right);
    check("segment limit", FAULTS(13, 0, "movl %%fs:4094, %%eax"));
    check("null segment", FAULTS(13, 0, "xorl %%eax, %%eax; movl %%eax, %%gs; movl %%gs:0, %%eax"));
    check("no such selector", FAULTS(13, 0x78, "movl $0x78, %%eax; movl %%eax, %%gs"));
    check("divide error", FAULTS(0, 0, "xorl %%ecx, %%ecx; divl %%ecx"));
    check("bounds", FAULTS(5, 0, "movl $9, %%eax; boundl %%eax, gdt"));
    check("undefined", FAULTS(6, 0, "ud2"));
    check("breakpoint", FAULTS(3, 0, "int3"));
    check("overflow", FAULTS(4, 0, "movb $127, %%al; addb $1, %%al; into"));
    uint32_t before = ticks;
    while (ticks - before < 20)
        __asm__ volatile("hlt");
    check("timer", true);
}

/* ---- paging ------------------------------------------------------------------- */

#define VIRT 0x40000000u /* the first of what the small table maps */

static void map(bool pae, unsigned n, const void *page, uint32_t bits)
{
    uint32_t e = page ? (uint32_t)(uintptr_t)page | bits | PTE_P : 0;
    if (pae)
        pae_table[n] = e;
    else
        table[n] = e;
    __asm__ volatile("invlpg (%0)" ::"r"(VIRT + n * 4096) : "memory");
}

/* The low 16 MiB are themselves, in large pages, for CPL 3 too. */
static void turn_on(bool pae)
{
    uint32_t cr;
    __asm__ volatile("movl %%cr0, %0; andl $0x7fffffff, %0; movl %0, %%cr0" : "=r"(cr));
    for (uint32_t i = 0; i < 4; i++) {
        directory[i] = i << 22 | PTE_PS | PTE_P | PTE_W | PTE_U;
        pdpt[i] = (uint32_t)(uintptr_t)pae_directory[i] | PTE_P;
    }
    for (uint32_t i = 0; i < 8; i++)
        pae_directory[0][i] = i << 21 | PTE_PS | PTE_P | PTE_W | PTE_U;
    directory[VIRT >> 22] = (uint32_t)(uintptr_t)table | PTE_P | PTE_W | PTE_U;
    pae_directory[VIRT >> 30][0] = (uint32_t)(uintptr_t)pae_table | PTE_P | PTE_W | PTE_U;
    __asm__ volatile("movl %%cr4, %0; andl $~0x30, %0; orl %1, %0; movl %0, %%cr4"
                     : "=&r"(cr)
                     : "r"(pae ? 0x20 : 0x10));
    __asm__ volatile("movl %0, %%cr3" ::"r"(pae ? (void *)pdpt : (void *)directory) : "memory");
    __asm__ volatile("movl %%cr0, %0; orl $0x80010000, %0; movl %0, %%cr0; jmp 1f; 1:"
                     : "=r"(cr)
                     :
                     : "memory");
}

void check_paging(bool pae)
{
    volatile uint32_t *at = (uint32_t *)VIRT;
    bool right = true;
    turn_on(pae);
    for (unsigned n = 0; n < 4; n++)
        map(pae, n, pages[3 - n], PTE_W | PTE_U);
    for (uint32_t i = 0; i < 4096; i++)
        at[i] = i ^ 0x12345678;
    for (uint32_t i = 0; i < 4096; i++)
        right &= pages[3 - i / 1024][i % 1024] == (i ^ 0x12345678);
    check(pae ? "PAE tables" : "32-bit tables", right);
    /* One page after the other at one address. */
    for (unsigned i = 0; i < 400; i++) {
        map(pae, 9, pages[i & 3], PTE_W);
        right &= at[9 * 1024] == ((3 - (i & 3)) * 1024 ^ 0x12345678);
    }
    check("mappings that change", right);
    map(pae, 1, pages[2], PTE_U);
    check("write protection", FAULTS(14, 3, "movl %%eax, 0x40001000") && fault_cr2 == VIRT + 4096);
    map(pae, 1, NULL, 0);
    check("page not present", FAULTS(14, 2, "movl $1, 0x40001ffc") && fault_cr2 == VIRT + 0x1ffc);
    check("across pages", FAULTS(14, 0, "movl 0x40000ffe, %%eax") && fault_cr2 == VIRT + 0x1000);
    check("fetch", FAULTS(14, 0, "movl $0x40001010, %%eax; jmp *%%eax"));
    map(pae, 1, pages[2], PTE_W | PTE_U);
    uint32_t before = faults, s = 0;
    for (uint32_t i = 0; i < 4096; i++)
        s += at[i];
    add(s);
    check("no faults then", faults == before);
}

/* ---- CPL 3 ---------------------------------------------------------------------- */

static uint32_t user_sum;

static void user_code(void)
{
    uint32_t v = 1;
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t a = 1;
        __asm__ volatile("int $0x80" : "+a"(a) : "b"(v), "c"(i) : "memory");
        v = a * 3;
        a = v;
        __asm__ volatile("movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:"
                         : "+a"(a)
                         :
                         : "ecx", "edx", "memory", "cc");
        v ^= a;
    }
    user_sum = v;
    __asm__ volatile("int $0x80" ::"a"(0), "b"(v));
}

static void user_forbidden(void)
{
    uint32_t good = 0;
    good += FAULTS(13, 0, "cli");
    good += FAULTS(13, 0, "hlt");
    good += FAULTS(13, 0, "movl %%cr0, %%eax");
    good += FAULTS(13, 0, "inb $0x60, %%al");
    good += FAULTS(13, 33 * 8 + 2, "int $33");
    good += FAULTS(14, 5, "movl 0x40009000, %%eax");
    __asm__ volatile("int $0x80" ::"a"(0), "b"(good));
}

uint32_t user_run(void (*fn)(void))
{
    uint32_t v;
    void *stack = user_stack + sizeof user_stack - 16;
    __asm__ volatile("pushl %2; pushl %1; call user_enter; addl $8, %%esp"
                     : "=a"(v)
                     : "r"(fn), "r"(stack)
                     : "ecx", "edx", "memory", "cc");
    return v;
}

void check_user(void)
{
    uint32_t before = syscalls, v = 1;
    for (uint32_t i = 0; i < 2000; i++) {
        v = (v + i) * 3;
        v ^= v + 1;
    }
    check("system calls", user_run(user_code) == v && syscalls - before == 2000 && user_sum == v);
    check("forbidden at CPL 3", user_run(user_forbidden) == 6);
}
