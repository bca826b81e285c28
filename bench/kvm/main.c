/* SPDX-License-Identifier: MIT
 * bench-kvm [-b BACKEND] [-r ROUNDS] [-n EXITS]: the library on KVM beside bare ioctls, in
 * turns in one process; the least time of each counts (kicks: the median). Prints lines
 * "row WHAT SIDE NANOSECONDS".
 *
 * bench-kvm boot ROUNDS NAME COMMAND [NAME COMMAND]...: the time from the start of each
 * command (for sh) to the line by which bench-guest says that it is the guest's init. */
#include "kvmbench.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KICKS 21

static const struct guest_code port_out = {
    "port", {0x30, 0xc0, 0xe6, PORT, 0xe2, 0xfc, 0xf4}, 7, false}; /* xor al, al; out; loop; hlt */
static const struct guest_code port_in = {
    "port-in", {0xe4, PORT, 0xe2, 0xfc, 0xf4}, 5, false}; /* in; loop; hlt */
static const struct guest_code mmio = {
    "mmio", /* mov ax, 0xd000; mov ds, ax; mov [0], al; loop; hlt */
    {0xb8, 0x00, 0xd0, 0x8e, 0xd8, 0xa2, 0x00, 0x00, 0xe2, 0xfb, 0xf4},
    11,
    false};
static const struct guest_code hypercall = {
    "hypercall", {0x0f, 0x01, 0xd9, 0xe2, 0xfb, 0xf4}, 6, false}; /* vmmcall; loop; hlt */
static const struct guest_code doorbell = {
    "ioeventfd", {0x30, 0xc0, 0xe6, BELL, 0xe2, 0xfc, 0xf4}, 7, true}; /* as port */
static const struct guest_code spin = {"kick", {0xeb, 0xfe}, 2, false};
static const struct guest_code nothing = {"create", {0xf4}, 1, false};

void complain(const char *what, const char *why)
{
    printf("note %s: %s\n", what, why);
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void row(const char *what, const char *side, double ns)
{
    printf("row %s %s %.0f\n", what, side, ns);
    fflush(stdout);
}

/* ---- exits ------------------------------------------------------------------------ */

static int exits(const struct guest_code *code, unsigned n, const struct side *const *sides,
                 unsigned rounds, uint16_t count)
{
    void *guest[4];
    double least[4];
    int bad = 0;
    for (unsigned i = 0; i < n; i++) {
        guest[i] = sides[i]->open(code);
        least[i] = 1e18;
    }
    for (unsigned r = 0; r < rounds; r++)
        for (unsigned i = 0; i < n; i++) {
            if (!guest[i])
                continue;
            double start = now();
            if (!sides[i]->run(guest[i], count)) {
                complain(code->name, sides[i]->name);
                sides[i]->close(guest[i]);
                guest[i] = NULL;
                continue;
            }
            double took = (now() - start) / count;
            least[i] = took < least[i] ? took : least[i];
        }
    for (unsigned i = 0; i < n; i++) {
        bad |= !guest[i];
        if (guest[i]) {
            row(code->name, sides[i]->name, least[i]);
            sides[i]->close(guest[i]);
        }
    }
    return bad;
}

/* ---- life --------------------------------------------------------------------------- */

/* A VM with its memory and vCPU, made, run once and ended. */
static int lives(unsigned rounds)
{
    const struct side *const sides[] = {&bare, &returned};
    double least[2] = {1e18, 1e18};
    for (unsigned r = 0; r < rounds; r++)
        for (unsigned i = 0; i < 2; i++) {
            double start = now();
            void *guest = sides[i]->open(&nothing);
            if (!guest || !sides[i]->run(guest, 1))
                return 1;
            sides[i]->close(guest);
            double took = now() - start;
            least[i] = took < least[i] ? took : least[i];
        }
    row("create+destroy", "bare", least[0]);
    row("create+destroy", "exit", least[1]);
    return 0;
}

/* ---- kicks ---------------------------------------------------------------------------- */

struct spinner {
    const struct side *side;
    void *guest;
    double end;
    bool ok;
};

static void *spin_main(void *ud)
{
    struct spinner *s = ud;
    s->ok = s->side->spin(s->guest);
    s->end = now();
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* From the kick to the return on the vCPU's thread. */
static double kick(const struct side *side, void *guest)
{
    struct spinner s = {.side = side, .guest = guest};
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin_main, &s))
        return -1;
    usleep(10000); /* it is inside by now */
    double start = now();
    side->kick(guest);
    pthread_join(thread, NULL);
    return s.ok ? s.end - start : -1;
}

static int kicks(void)
{
    const struct side *const sides[] = {&bare, &returned};
    double took[2][KICKS];
    void *guest[2];
    int bad = 0;
    for (unsigned i = 0; i < 2; i++)
        bad |= !(guest[i] = sides[i]->open(&spin));
    for (unsigned r = 0; r < KICKS && !bad; r++)
        for (unsigned i = 0; i < 2; i++)
            bad |= (took[i][r] = kick(sides[i], guest[i])) < 0;
    for (unsigned i = 0; i < 2; i++) {
        if (!bad) {
            qsort(took[i], KICKS, sizeof took[i][0], by_value);
            row("kick", sides[i]->name, took[i][KICKS / 2]);
        }
        if (guest[i])
            sides[i]->close(guest[i]);
    }
    return bad;
}

/* ---- boots ------------------------------------------------------------------------------ */

/* Nanoseconds until the command says it; < 0: it did not. The command ends with it. */
static double boot(const char *command)
{
    int out[2];
    char line[512];
    double took = -1, start = now();
    if (pipe(out))
        return -1;
    pid_t pid = fork();
    if (!pid) {
        dup2(out[1], 1);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    while (pid > 0 && f && took < 0 && fgets(line, sizeof line, f))
        if (strstr(line, "bench: init"))
            took = now() - start;
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (f)
        fclose(f);
    return took;
}

static int boots(int argc, char **argv)
{
    double least[8];
    int rounds = atoi(argv[0]), n = (argc - 1) / 2, bad = 0;
    for (int i = 0; i < n && i < 8; i++)
        least[i] = 1e18;
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < n && i < 8; i++) {
            double took = boot(argv[2 + 2 * i]);
            if (took < 0)
                complain(argv[1 + 2 * i], "did not boot");
            else
                least[i] = took < least[i] ? took : least[i];
            bad |= took < 0;
        }
    for (int i = 0; i < n && i < 8; i++)
        if (least[i] < 1e18)
            row("boot", argv[1 + 2 * i], least[i]);
    return bad;
}

int main(int argc, char **argv)
{
    static const struct side *const all[] = {&bare, &trapped, &returned};
    unsigned rounds = 10, count = 1000;
    int opt, bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && !strcmp(argv[1], "boot"))
        return boots(argc - 2, argv + 2);
    while ((opt = getopt(argc, argv, "b:r:n:")) != -1) {
        switch (opt) {
        case 'b': library_backend = optarg; break;
        case 'r': rounds = (unsigned)atoi(optarg); break;
        case 'n': count = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    bad |= exits(&port_out, 3, all, rounds, (uint16_t)count);
    bad |= exits(&port_in, 3, all, rounds, (uint16_t)count);
    bad |= exits(&mmio, 3, all, rounds, (uint16_t)count);
    /* KVM answers hypercalls itself: what the library does for them stands beside a
     * port's exit. */
    bad |= exits(&hypercall, 1, &all[1], rounds, (uint16_t)count);
    bad |= exits(&doorbell, 2, all, rounds, (uint16_t)count);
    bad |= lives(rounds);
    bad |= kicks();
    return bad;
}
