/* SPDX-License-Identifier: MIT
 * What programs ask of an operating system. Every row returns how many of its
 * operations went well: as many as were asked for. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static uint64_t os_getpid(uint64_t n)
{
    uint64_t good = 0;
    while (n--)
        good += syscall(SYS_getpid) > 0;
    return good;
}

/* ---- processes ------------------------------------------------------------------------ */

static bool ended_well(pid_t child)
{
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static uint64_t os_fork(uint64_t n)
{
    uint64_t good = 0;
    while (n--) {
        pid_t child = fork();
        if (!child)
            _exit(0);
        good += ended_well(child);
    }
    return good;
}

static uint64_t os_exec(uint64_t n)
{
    char *const argv[] = {"bench-guest", "--exit", NULL}, *const env[] = {NULL};
    uint64_t good = 0;
    while (n--) {
        pid_t child = fork();
        if (!child) {
            execve(self_path, argv, env);
            _exit(1);
        }
        good += ended_well(child);
    }
    return good;
}

/* ---- memory ---------------------------------------------------------------------------- */

static uint8_t *fresh(size_t len)
{
    uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* A round is a page touched; every 1024 are mapped and unmapped at once. */
static uint64_t os_fault(uint64_t n)
{
    uint64_t good = 0;
    while (n) {
        uint64_t pages = n < 1024 ? n : 1024;
        uint8_t *p = fresh(1024 * PAGE);
        if (!p)
            break;
        madvise(p, 1024 * PAGE, MADV_NOHUGEPAGE);
        for (uint64_t i = 0; i < pages; i++) {
            good += p[i * PAGE] == 0;
            p[i * PAGE] = 1;
        }
        munmap(p, 1024 * PAGE);
        n -= pages;
    }
    return good;
}

static uint64_t os_mmap(uint64_t n)
{
    uint64_t good = 0;
    while (n--) {
        uint8_t *p = fresh(16 * PAGE);
        good += p && munmap(p, 16 * PAGE) == 0;
    }
    return good;
}

/* ---- a byte to another process and back ---------------------------------------------------- */

static int to_echo = -1, from_echo = -1;

static void setup_pipe(void)
{
    int there[2], back[2];
    if (to_echo >= 0 || pipe(there) || pipe(back))
        return;
    pid_t child = fork();
    if (!child) {
        char c;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(there[1]);
        close(back[0]);
        while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
            ;
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    to_echo = there[1];
    from_echo = back[0];
}

static uint64_t os_pipe(uint64_t n)
{
    uint64_t good = 0;
    while (n--) {
        char out = (char)n, in = (char)~n;
        if (write(to_echo, &out, 1) != 1 || read(from_echo, &in, 1) != 1)
            break;
        good += in == out;
    }
    return good;
}

/* ---- signals -------------------- */

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void setup_signal(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &act, NULL);
}

static uint64_t os_signal(uint64_t n)
{
    uint64_t good = 0;
    pid_t self = getpid();
    while (n--) {
        sig_atomic_t before = signals;
        kill(self, SIGUSR1);
        good += signals == before + 1;
    }
    return good;
}

/* ---- files ------------------------------------------------------------------------------ */

static char file_name[64];
static int file = -1;
#define FILE_PAGES 16

static void remove_file(void)
{
    unlink(file_name);
}

static void setup_file(void)
{
    uint8_t page[PAGE];
    if (file >= 0)
        return;
    snprintf(file_name, sizeof file_name, "/tmp/bench-guest.%ld", (long)getpid());
    file = open(file_name, O_CREAT | O_EXCL | O_RDWR, 0600);
    atexit(remove_file);
    for (int i = 0; i < FILE_PAGES; i++) {
        memset(page, i + 1, sizeof page);
        if (write(file, page, sizeof page) != sizeof page)
            return;
    }
}

static uint64_t os_read(uint64_t n)
{
    uint8_t page[PAGE];
    uint64_t good = 0;
    while (n--) {
        unsigned at = n % FILE_PAGES;
        good += pread(file, page, PAGE, at * PAGE) == PAGE && page[PAGE - 1] == at + 1;
    }
    return good;
}

static uint64_t os_stat(uint64_t n)
{
    struct stat st;
    uint64_t good = 0;
    while (n--)
        good += stat(file_name, &st) == 0 && st.st_size == FILE_PAGES * PAGE;
    return good;
}

static uint64_t os_open(uint64_t n)
{
    uint64_t good = 0;
    while (n--) {
        int fd = open(file_name, O_RDONLY);
        good += fd >= 0 && close(fd) == 0;
    }
    return good;
}

const struct kernel os_kernels[] = {
    {"getpid", "os", NULL, os_getpid, 3, 3},
    {"fork", "os", NULL, os_fork, 3, 3},
    {"fork-exec", "os", NULL, os_exec, 3, 3},
    {"page-fault", "os", NULL, os_fault, 1030, 1030},
    {"mmap", "os", NULL, os_mmap, 3, 3},
    {"pipe", "os", setup_pipe, os_pipe, 3, 3},
    {"signal", "os", setup_signal, os_signal, 3, 3},
    {"read-4k", "os", setup_file, os_read, 20, 20},
    {"stat", "os", setup_file, os_stat, 3, 3},
    {"open-close", "os", setup_file, os_open, 3, 3},
    {0},
};
