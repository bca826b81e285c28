/* SPDX-License-Identifier: MIT
 * Runs inside the guest, statically linked: asks Linux for what programs ask it
 * for, and checks what comes back. Prints a line a check; the last says PASS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;

static void check(const char *what, int ok)
{
    printf("guestcheck: %-28s %s\n", what, ok ? "ok" : "FAIL");
    failures += !ok;
}

static double now(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- the processor and time ------------------------------------------------- */

static void check_cpuinfo(long want)
{
    char line[4096];
    long cpus = 0, avx2 = 0, sse42 = 0;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        cpus += !strncmp(line, "processor", 9);
        avx2 += !strncmp(line, "flags", 5) && strstr(line, " avx2");
        sse42 += !strncmp(line, "flags", 5) && strstr(line, " sse4_2");
    }
    if (f)
        fclose(f);
    check("cpuinfo: number of CPUs", cpus == want && sysconf(_SC_NPROCESSORS_ONLN) == want);
    check("cpuinfo: sse4_2 everywhere", sse42 == want);
    check("cpuinfo: avx2 everywhere", avx2 == want || avx2 == 0);
}

static void check_time(void)
{
    double m0 = now(CLOCK_MONOTONIC), last = m0;
    int back = 0;
    for (int i = 0; i < 20000; i++) {
        double m = now(CLOCK_MONOTONIC);
        back += m < last;
        last = m;
    }
    check("time: never backwards", !back);

    double r0 = now(CLOCK_REALTIME);
    m0 = now(CLOCK_MONOTONIC);
    struct timespec ts = {0, 200 * 1000 * 1000};
    nanosleep(&ts, NULL);
    double m = now(CLOCK_MONOTONIC) - m0, r = now(CLOCK_REALTIME) - r0;
    check("time: a sleep is not short", m >= 0.2);
    check("time: the clocks agree", fabs(m - r) < 0.05);
    check("time: the year is plausible", r0 > 1.6e9 && r0 < 4.2e9);
}

/* ---- signals, processes, memory ------------------------------------------------- */

static sigjmp_buf back_here;
static volatile sig_atomic_t got_signal, fault_code;
static void *volatile fault_addr;

static void on_signal(int sig, siginfo_t *info, void *uc)
{
    (void)uc;
    got_signal = sig;
    fault_code = info->si_code;
    fault_addr = info->si_addr;
    if (sig == SIGSEGV || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP)
        siglongjmp(back_here, 1);
}

static void catch_signal(int sig)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(sig, &sa, NULL);
}

static void check_signals(void)
{
    catch_signal(SIGUSR1);
    kill(getpid(), SIGUSR1);
    check("signals: kill", got_signal == SIGUSR1);

    catch_signal(SIGALRM);
    got_signal = 0;
    struct itimerval it = {.it_value = {0, 20000}};
    setitimer(ITIMER_REAL, &it, NULL);
    while (got_signal != SIGALRM)
        __asm__ volatile("pause");
    check("signals: a timer in a busy loop", 1);

    catch_signal(SIGSEGV);
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 1;
    mprotect(p, 4096, PROT_READ);
    got_signal = 0;
    if (!sigsetjmp(back_here, 1))
        p[5] = 2;
    check("signals: write protection",
          got_signal == SIGSEGV && fault_addr == p + 5 && fault_code == SEGV_ACCERR);
    mprotect(p, 4096, PROT_READ | PROT_WRITE);
    p[5] = 3;
    check("signals: writable again", p[5] == 3);

    catch_signal(SIGFPE);
    got_signal = 0;
    volatile int zero = 0, one = 1;
    if (!sigsetjmp(back_here, 1))
        one = one / zero;
    check("signals: division by zero", got_signal == SIGFPE && fault_code == FPE_INTDIV);

    catch_signal(SIGILL);
    got_signal = 0;
    if (!sigsetjmp(back_here, 1))
        __asm__ volatile("ud2");
    check("signals: undefined instruction", got_signal == SIGILL);

    catch_signal(SIGTRAP);
    got_signal = 0;
    if (!sigsetjmp(back_here, 1))
        __asm__ volatile("int3");
    check("signals: breakpoint", got_signal == SIGTRAP);

    /* One that nobody expects shall not come back here. */
    for (int sig = 1; sig < 32; sig++)
        signal(sig, SIG_DFL);
}

static void check_processes(void)
{
    int fd[2], status = -1;
    char buf[16] = "";
    if (pipe(fd))
        return check("processes: pipe", 0);
    pid_t pid = fork();
    if (!pid) {
        close(fd[0]);
        if (write(fd[1], "from child", 10) != 10)
            _exit(1);
        _exit(42);
    }
    close(fd[1]);
    ssize_t n = read(fd[0], buf, sizeof buf);
    waitpid(pid, &status, 0);
    check("processes: fork, pipe, wait",
          n == 10 && !memcmp(buf, "from child", 10) && WEXITSTATUS(status) == 42);

    pid = fork();
    if (!pid) {
        execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    check("processes: exec", WIFEXITED(status) && WEXITSTATUS(status) == 7);

    int bad = 0;
    for (int i = 0; i < 40; i++) {
        pid = fork();
        if (!pid)
            _exit(i);
        waitpid(pid, &status, 0);
        bad += WEXITSTATUS(status) != i;
    }
    check("processes: forty children", !bad);

    char *shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(shared, 0x55, 1 << 20);
    pid = fork();
    if (!pid) {
        memset(shared, 0xaa, 1 << 20);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    int kept = 1;
    for (int i = 0; i < 1 << 20; i += 97)
        kept &= shared[i] == 0x55;
    check("processes: copy on write", kept);
}

/* ---- threads -------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;
static _Atomic long atomic_counter;

static void *count(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
        atomic_counter++;
    }
    return arg;
}

static void check_threads(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    check("threads: mutex and atomics", counter == 80000 && atomic_counter == 80000);
}

/* ---- code that changes, vectors, floating point ------------------------------------------ */

static void check_new_code(void)
{
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*fn)(void) = (int (*)(void))(void *)code;
    int bad = 0;
    for (int i = 0; i < 200; i++) {
        unsigned char body[] = {0xb8, (unsigned char)i, 0, 0, 0, 0xc3}; /* mov eax, i; ret */
        memcpy(code, body, sizeof body);
        bad += fn() != i;
    }
    check("code: rewritten 200 times", !bad);
}

__attribute__((target("avx2,fma"))) static int avx_works(void)
{
    float out[8];
    __m256 v = _mm256_set_ps(8, 7, 6, 5, 4, 3, 2, 1);
    _mm256_storeu_ps(out, _mm256_fmadd_ps(v, v, _mm256_set1_ps(0.5f)));
    __m256i i = _mm256_mullo_epi32(_mm256_set1_epi32(7), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return out[7] == 64.5f && out[0] == 1.5f && _mm256_extract_epi32(i, 6) == 42;
}

/* Vectors of whatever length there are. */
static int other_vectors(void)
{
    __m128i v = _mm_set1_epi32(7);
    __asm__ volatile("" : "+x"(v)::"xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
    int avx = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return _mm_cvtsi128_si32(_mm_mul_epu32(v, v)) == 49 && (!avx || avx_works());
}

static void check_vectors(void)
{
    __m128i a = _mm_set_epi32(4, 3, 2, 1), b = _mm_set1_epi32(10);
    __m128i s = _mm_add_epi32(_mm_slli_epi32(a, 2), b);
    check("vectors: SSE2", _mm_cvtsi128_si32(_mm_shuffle_epi32(s, 0xff)) == 26);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        check("vectors: AVX2 and FMA", avx_works());
    /* State survives other threads and processes using it. */
    __m128i keep = _mm_set1_epi32(0x12345678);
    __asm__ volatile("" : "+x"(keep));
    int status = -1;
    pid_t pid = fork();
    if (!pid)
        _exit(other_vectors() ? 0 : 1);
    waitpid(pid, &status, 0);
    check("vectors: kept across processes", !status && _mm_cvtsi128_si32(keep) == 0x12345678);
}

static void check_floating_point(void)
{
    volatile double two = 2, x = 0.5;
    check("float: sqrt, sin, exp", fabs(sqrt(two) - 1.4142135623730951) < 1e-15 &&
                                       fabs(sin(x) - 0.479425538604203) < 1e-15 &&
                                       fabs(exp(x) - 1.6487212707001282) < 1e-15);
    volatile long double l = 1.0L, third = l / 3.0L;
    check("float: x87 extended precision",
          third * 3.0L == 1.0L && sqrtl(2.0L) * sqrtl(2.0L) != 2.0L);
    char buf[64];
    snprintf(buf, sizeof buf, "%.17g %La", 0.1, 1.0L / 3.0L);
    check("float: printf", !strcmp(buf, "0.10000000000000001 0xa.aaaaaaaaaaaaaabp-5"));
    volatile double inf = HUGE_VAL;
    check("float: NaN and infinity", isnan(inf - inf) && 1 / inf == 0);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    check_cpuinfo(argc > 1 ? atol(argv[1]) : 1);
    check_time();
    check_signals();
    check_processes();
    check_threads();
    check_new_code();
    check_vectors();
    check_floating_point();
    printf("guestcheck: %s\n", failures ? "FAILED" : "PASS");
    return failures != 0;
}
