/* SPDX-License-Identifier: MIT
 * A guest without a kernel or a C library: functions that the host calls by name. It
 * calls the host by <virtcore/guest.h>. */
#include <virtcore/guest.h>

enum { HOST_SAY = 1, HOST_IS_PRIME = 2 }; /* what host.c offers */

double mean(const double *values, unsigned long bytes)
{
    unsigned long n = bytes / sizeof *values;
    double sum = 0;
    for (unsigned long i = 0; i < n; i++)
        sum += values[i];
    return n ? sum / (double)n : 0;
}

long hello(const char *name)
{
    char text[64] = "hello from ";
    unsigned long n = 11;
    while (*name && n < sizeof text - 1)
        text[n++] = *name++;
    return (long)vc_host(HOST_SAY, text, n);
}

/* The host knows what is prime. */
unsigned count_primes(unsigned below)
{
    unsigned n = 0;
    for (unsigned i = 0; i < below; i++)
        n += vc_host(HOST_IS_PRIME, i) == 1;
    return n;
}

/* Nobody handles what this raises. */
long crash(void)
{
    return *(volatile long *)0x4000000000;
}

/* The entry point, for who runs the program instead of calling its functions. */
void _start(void)
{
    for (;;)
        __asm__ volatile("hlt");
}
