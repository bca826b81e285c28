/* SPDX-License-Identifier: MIT */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include "../kernels/kernels.h"
#include <stdbool.h>
#include <time.h>

extern const struct kernel os_kernels[]; /* what the operating system does; wall-clock time */

/* The path of this program, for the row that executes it. */
extern const char *self_path;

struct effort {
    int reps;      /* the least of so many ... */
    double target; /* ... repetitions of about so many seconds each */
};

double seconds(clockid_t clock);

/* Prints the rows of one thread's and of two threads' work. False: a wrong result. */
bool smp_rows(struct effort effort);

/* Prints a row: "row GROUP NAME NANOSECONDS". The name may have blanks in the group
 * only as '-'. */
void print_row(const char *group, const char *name, double ns);

#endif
