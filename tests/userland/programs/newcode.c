/* SPDX-License-Identifier: MIT
 * Programs that make code and step through it: functions written, run, changed in
 * place, moved and protected, from one thread and from two; a child that is
 * traced instruction by instruction and by breakpoints. */
#define _GNU_SOURCE
#include "show.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

typedef uint32_t (*function)(uint32_t);

/* mov eax, first argument; add/xor/rol eax, ...; ret */
static size_t compose(unsigned char *p, uint32_t seed)
{
    unsigned char *start = p;
#ifdef __x86_64__
    *p++ = 0x89, *p++ = 0xf8;
#else
    *p++ = 0x8b, *p++ = 0x44, *p++ = 0x24, *p++ = 0x04;
#endif
    for (int i = 0; i < 12; i++) {
        seed = seed * 1664525u + 1013904223u;
        switch (seed >> 30) {
        case 0: *p++ = 0x05, memcpy(p, &seed, 4), p += 4; break;
        case 1: *p++ = 0x35, memcpy(p, &seed, 4), p += 4; break;
        case 2: *p++ = 0xc1, *p++ = 0xc0, *p++ = seed >> 8 & 31; break;
        default: *p++ = 0x69, *p++ = 0xc0, seed |= 1, memcpy(p, &seed, 4), p += 4; break;
        }
    }
    *p++ = 0xc3;
    return (size_t)(p - start);
}

static void written(void)
{
    unsigned char *code =
        mmap(NULL, 16384, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned char *p = code + i * 67 % 16000;
        compose(p, i);
        function fn = (function)(uintptr_t)p;
        for (uint32_t k = 0; k < (i % 50 == 0 ? 100u : 3u); k++)
            add(fn(k));
    }
    /* One immediate changes again and again; the loop around it stays hot. */
    compose(code, 1);
    unsigned char *imm = code;
    *imm++ = 0xb8; /* mov eax, imm */
    for (uint32_t i = 0; i < 20000; i++) {
        memcpy(imm, &i, 4);
        imm[4] = 0xc3;
        add(((function)(uintptr_t)code)(0));
    }
    /* Data beside code. */
    volatile uint32_t *data = (uint32_t *)(void *)(code + 8192 + 128);
    compose(code + 8192, 99);
    for (uint32_t i = 0; i < 20000; i++) {
        *data = i;
        add(((function)(uintptr_t)(code + 8192))(*data));
    }
    munmap(code, 16384);
    show("code written");
}

static void protected(void)
{
    for (uint32_t i = 0; i < 200; i++) {
        unsigned char *code =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        compose(code + i, i);
        mprotect(code, 4096, PROT_READ | PROT_EXEC);
        add(((function)(uintptr_t)(code + i))(i));
        unsigned char *to = mremap(code, 4096, 8192, MREMAP_MAYMOVE);
        add(((function)(uintptr_t)(to + i))(i + 1));
        munmap(to, 8192);
    }
    /* Two mappings of one page: written through one, run through the other. */
    int fd = memfd_create("code", 0);
    if (fd < 0 || ftruncate(fd, 4096))
        exit(2);
    unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *e = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    for (uint32_t i = 0; i < 3000; i++) {
        compose(w + i % 7 * 100, i);
        add(((function)(uintptr_t)(e + i % 7 * 100))(i));
    }
    show("code protected, moved");
}

/* One thread runs what another rewrites: an aligned immediate, so that either
 * value is seen and nothing else. */
static _Atomic int over;
static unsigned char *shared_code;
static uint64_t strange;

static void *runner(void *arg)
{
    (void)arg;
    function fn = (function)(uintptr_t)(shared_code + 3);
    while (!over) {
        uint32_t v = fn(0);
        strange += v != 0x11111111u && v != 0x22222222u;
    }
    return NULL;
}

static void crossed(void)
{
    pthread_t t;
    shared_code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const unsigned char body[] = {0x90, 0x90, 0x90, 0xb8, 0x11, 0x11, 0x11, 0x11, 0xc3};
    memcpy(shared_code, body, sizeof body);
    if (pthread_create(&t, NULL, runner, NULL))
        exit(2);
    _Atomic uint32_t *imm = (_Atomic uint32_t *)(void *)(shared_code + 4);
    for (int i = 0; i < 20000; i++)
        *imm = i & 1 ? 0x11111111u : 0x22222222u;
    *imm = 0x22222222u;
    over = 1;
    pthread_join(t, NULL);
    add(strange);
    add(((function)(uintptr_t)(shared_code + 3))(0));
    show("code of two threads");
}

/* ---- traced ---------------------------------------------------------------------- */

/* Straight code and a loop, between two stops. */
__attribute__((noinline)) static uint32_t traced_work(void)
{
    uint32_t v = 1;
    raise(SIGSTOP);
    for (uint32_t i = 0; i < 30; i++)
        v = (v ^ i) * 16777619u;
    return v;
}

#ifdef __x86_64__
#define IP(r) (r).rip
#define AX(r) (r).rax
#else
#define IP(r) (unsigned long)(r).eip
#define AX(r) (unsigned long)(r).eax
#endif

/* int3; eax = 1; eight times eax = eax * 3 + 1, and the flags; int3 */
static const unsigned char stepped_code[] = {
    0xcc,                      /* int3 */
    0xb8, 1,    0,    0,    0, /* mov eax, 1 */
    0xb9, 8,    0,    0,    0, /* mov ecx, 8 */
    0x8d, 0x44, 0x40, 0x01,    /* lea eax, [rax + rax * 2 + 1] */
    0x50,                      /* push rax */
    0x9c,                      /* pushf */
    0x58,                      /* pop rax */
    0x58,                      /* pop rax */
    0xff, 0xc9,                /* dec ecx */
    0x75, 0xf4,                /* jnz to lea */
    0xcc                       /* int3 */
};

static void traced(void)
{
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, stepped_code, sizeof stepped_code);
    pid_t pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        uint32_t v = traced_work();
        raise(SIGSTOP);
        ((void (*)(void))(uintptr_t)code)();
        _exit((int)(v & 1));
    }
    int status;
    struct user_regs_struct r;
    waitpid(pid, &status, 0);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    add(WIFSTOPPED(status));
    /* A breakpoint in a debug register, two bytes into the code: a virtual machine
     * that this is compared with may not have them. */
    bool breakpoints = !getenv("WHAT") || strcmp(getenv("WHAT"), "make") != 0;
    if (breakpoints) {
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), code + 6);
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1);
    }
    for (uintptr_t at = 1; at <= 6; at += 5) { /* the int3, the breakpoint */
        if (at == 6 && !breakpoints)
            break;
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_GETREGS, pid, 0, &r);
        if (WSTOPSIG(status) != SIGTRAP || IP(r) - (uintptr_t)code != at)
            printf("stopped by %d at %#lx, not at %#lx\n", WSTOPSIG(status),
                   (long)(IP(r) - (uintptr_t)code), (long)at);
    }
    if (breakpoints)
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0);
    else
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0), waitpid(pid, &status, 0);
    unsigned steps = 0;
    for (; steps < 200; steps++) {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_GETREGS, pid, 0, &r);
        add(IP(r) - (uintptr_t)code);
        add(AX(r));
        if (IP(r) - (uintptr_t)code >= sizeof stepped_code)
            break;
    }
    add(steps);
    ptrace(PTRACE_KILL, pid, 0, 0);
    waitpid(pid, &status, 0);
    show("traced");
}

int main(void)
{
    written();
    protected();
    crossed();
    traced();
    return 0;
}
