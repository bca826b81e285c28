/* SPDX-License-Identifier: MIT
 *
 * The library on KVM beside KVM alone: the same guests, made once by bare ioctls (bare.c)
 * and once through the library (library.c), measured in turns (main.c).
 *
 * A guest is a few bytes of real-mode code at CODE, in RAM of its own from 0 to RAM. It
 * makes CX exits of one kind and halts.
 */
#ifndef KVMBENCH_H
#define KVMBENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define RAM  0x10000u
#define CODE 0x1000u
#define PORT 0x10
#define BELL 0x11     /* bytes written there signal an eventfd */
#define MMIO 0xd0000u /* nothing is there */

struct guest_code {
    const char *name;
    uint8_t bytes[16];
    uint8_t len;
    bool bell; /* it uses that */
};

/* What is measured of one side. */
struct side {
    const char *name;
    void *(*open)(const struct guest_code *code); /* NULL: errors says why */
    void (*close)(void *guest);
    /* Runs it from CODE with CX = n until it halts; false: it did something else. */
    bool (*run)(void *guest, uint16_t n);
    /* Runs it until kicked; any thread kicks. */
    bool (*spin)(void *guest);
    void (*kick)(void *guest);
};

extern const struct side bare;      /* KVM_RUN in a loop */
extern const struct side trapped;   /* the library, the exits going to a trap */
extern const struct side returned;  /* the library, the exits coming out of vc_run */
extern const char *library_backend; /* "kvm" */

void complain(const char *what, const char *why);

#endif
