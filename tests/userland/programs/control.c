/* SPDX-License-Identifier: MIT
 * Control that does not go straight: long jumps, signals and what they show of
 * the faulting instruction, contexts, deep recursion, jump tables, processes. */
#define _GNU_SOURCE
#include "show.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define N 3000

/* ---- jumps ------------------------------------------------------------------ */

static jmp_buf top;

static __attribute__((noinline)) int deeper(int depth, unsigned seed)
{
    volatile char pad[64];
    pad[depth & 63] = (char)seed;
    if (depth < 0)
        return (int)seed;
    if (depth == 0)
        longjmp(top, (int)(seed & 0xffff) + 1);
    return deeper(depth - 1, seed * 1103515245u + 12345u) + pad[depth & 63];
}

static void jumps(void)
{
    for (volatile int i = 0; i < N; i++) {
        volatile double keep = i * 1.5;
        int v = setjmp(top);
        if (!v)
            deeper(i % 200, (unsigned)i);
        add((uint64_t)v);
        add_double(keep);
    }
    show("setjmp");
}

static uint64_t ackermann(uint64_t m, uint64_t n)
{
    return !m ? n + 1 : !n ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static int variadic(int n, ...)
{
    va_list ap;
    va_start(ap, n);
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += i & 1 ? va_arg(ap, double) : (double)va_arg(ap, long long);
    va_end(ap);
    return (int)sum;
}

/* A small machine: indirect jumps through a table. */
static uint32_t machine(const uint8_t *code, unsigned steps)
{
    static const void *const op[] = {&&add_, &&sub_, &&mul_,  &&xor_,
                                     &&rot_, &&jmp_, &&swap_, &&inc_};
    uint32_t a = 1, b = 2;
    unsigned pc = 0;
#define NEXT                                                                                       \
    if (!steps--)                                                                                  \
        return a;                                                                                  \
    goto *op[code[pc++ & 255] & 7]
    NEXT;
add_:
    a += b;
    NEXT;
sub_:
    b -= a;
    NEXT;
mul_:
    a *= b | 1;
    NEXT;
xor_:
    a ^= b >> 3;
    NEXT;
rot_:
    b = b << 7 | b >> 25;
    NEXT;
jmp_:
    pc += a & 15;
    NEXT;
swap_ : {
    uint32_t t = a;
    a = b;
    b = t;
}
    NEXT;
inc_:
    a++;
    NEXT;
}

static void calls(void)
{
    add(ackermann(2, 300));
    add(ackermann(3, 6));
    for (int i = 0; i < N; i++)
        add((uint64_t)variadic(6, (long long)i, 0.5, 7ll, 2.25, (long long)-i, 1e3));
    uint8_t code[256];
    for (int r = 0; r < 20; r++) {
        for (int i = 0; i < 256; i++)
            code[i] = (uint8_t)(rnd() >> 13);
        add(machine(code, 20000));
    }
    show("calls, tables");
}

/* ---- signals ------------------------------------------------------------------ */

static sigjmp_buf back;
static volatile sig_atomic_t got;
static volatile uintptr_t fault_at;
static char *area;

static void on_fault(int sig, siginfo_t *info, void *uc)
{
    (void)uc;
    got = sig;
    fault_at = (uintptr_t)info->si_addr;
    add((uint64_t)sig << 8 | (uint64_t)info->si_code);
    siglongjmp(back, 1);
}

static void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};
    sigaction(sig, &sa, NULL);
}

/* Loads and stores of all widths that begin before and end in forbidden memory. */
static void faults(void)
{
    handle(SIGSEGV, on_fault, 0);
    handle(SIGFPE, on_fault, 0);
    handle(SIGILL, on_fault, 0);
    handle(SIGBUS, on_fault, 0);
    for (volatile int i = 0; i < 200; i++) {
        char *p = area + 4096 - i % 40;
        unsigned width = 1u << (i / 40), n = i & 1;
        memset(area, 0x33, 4096);
        if (!sigsetjmp(back, 1)) {
            switch (width) {
            case 1: n ? (void)(*(volatile uint8_t *)p = 1) : (void)*(volatile uint8_t *)p; break;
            case 2: n ? (void)(*(volatile uint16_t *)p = 1) : (void)*(volatile uint16_t *)p; break;
            case 4: n ? (void)(*(volatile uint32_t *)p = 1) : (void)*(volatile uint32_t *)p; break;
            case 8: n ? (void)(*(volatile uint64_t *)p = 1) : (void)*(volatile uint64_t *)p; break;
            default: memset(p, 7, 64); break;
            }
            add(1);
        } else {
            add(fault_at - (uintptr_t)area);
        }
        if (width < 16) /* a store that faults stores nothing */
            add_bytes(area + 4000, 96);
    }
    volatile int zero = 0, one = 1, least = -2147483647 - 1, minus = -1;
    if (!sigsetjmp(back, 1))
        one = one / zero;
    if (!sigsetjmp(back, 1))
        one = least / minus;
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ud2");
    if (!sigsetjmp(back, 1))
        ((void (*)(void))(uintptr_t)(area + 4096))();
    add(fault_at - (uintptr_t)area);
    show("faults");
}

/* The handler repairs what was wrong; the instruction runs again. */
static volatile int repaired;
static void on_repair(int sig, siginfo_t *info, void *uc)
{
    (void)sig, (void)uc;
    repaired++;
    mprotect((char *)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE);
}

static void repairs(void)
{
    handle(SIGSEGV, on_repair, 0);
    enum { PAGES = 64 };
    char *p = mmap(NULL, PAGES * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    for (int i = 0; i < PAGES * 4096 - 8; i += 509) {
        *(volatile uint64_t *)(p + i) += (uint64_t)i;
        sum += *(volatile uint64_t *)(p + i);
    }
    memset(p + 100, 0x11, PAGES * 4096 - 200);
    add(sum);
    add((uint64_t)repaired);
    munmap(p, PAGES * 4096);
    show("repaired faults");
}

static volatile unsigned long ticks;
static void on_tick(int sig, siginfo_t *info, void *uc)
{
    (void)sig, (void)info, (void)uc;
    ticks++;
}

/* Work that is interrupted all the time comes out the same. */
static void interrupted(void)
{
    handle(SIGALRM, on_tick, SA_RESTART | SA_ONSTACK);
    static char stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&ss, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    double d = 1;
    long double l = 1;
    uint64_t h = 1;
    unsigned rounds = 0;
    while (ticks < 60 || rounds < 30) {
        d = 1, l = 1, h = 1;
        for (int i = 1; i < 4000; i++) {
            d = d * 1.0001 + 1.0 / i;
            l = l * 1.0001L + 1.0L / i;
            h = (h ^ (uint64_t)i) * 1099511628211u;
            h = h << 13 | h >> 51;
        }
        if (rounds++ && (h == 0 || d != d))
            break;
    }
    setitimer(ITIMER_REAL, &none, NULL);
    add_double(d);
    add_long_double(l);
    add(h);
    show("interrupted work");
}

/* ---- contexts, processes -------------------------------------------------------- */

static ucontext_t contexts[3];
static uint64_t context_sum;

static void coroutine(int me)
{
    double keep = me;
    for (int i = 0; i < 200; i++) {
        keep = keep * 1.01 + i;
        context_sum = context_sum * 31 + (uint64_t)keep;
        swapcontext(&contexts[me], &contexts[me == 1 ? 2 : i == 199 ? 0 : 1]);
    }
}

static void switches(void)
{
    static char stack[2][65536];
    for (int i = 1; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stack[i - 1];
        contexts[i].uc_stack.ss_size = sizeof stack[0];
        contexts[i].uc_link = &contexts[0];
        makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
    }
    swapcontext(&contexts[0], &contexts[1]);
    add(context_sum);
    show("contexts");
}

static void processes(void)
{
    for (int i = 0; i < 40; i++) {
        int fd[2], status = 0;
        uint64_t v = 0;
        if (pipe(fd))
            exit(2);
        pid_t pid = fork();
        if (!pid) {
            v = ackermann(2, (uint64_t)i);
            area[i] = (char)i;
            _exit(write(fd[1], &v, sizeof v) == sizeof v ? i : 255);
        }
        if (read(fd[0], &v, sizeof v) != sizeof v || waitpid(pid, &status, 0) != pid)
            exit(3);
        close(fd[0]), close(fd[1]);
        add(v ^ (uint64_t)WEXITSTATUS(status) << 32);
    }
    for (int i = 0; i < 6; i++) {
        static const int how[] = {SIGSEGV, SIGILL, SIGFPE, SIGABRT, SIGKILL, SIGTERM};
        int status = 0;
        pid_t pid = fork();
        if (!pid) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            signal(how[i], SIG_DFL);
            raise(how[i]);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        add((uint64_t)WTERMSIG(status));
    }
    show("processes");
}

int main(void)
{
    area = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || mprotect(area + 4096, 4096, PROT_NONE))
        return 2;
    jumps();
    calls();
    faults();
    repairs();
    interrupted();
    switches();
    processes();
    return 0;
}
