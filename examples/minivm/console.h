/* SPDX-License-Identifier: MIT
 * The guest's serial port on stdin and stdout. */
#ifndef MINIVM_CONSOLE_H
#define MINIVM_CONSOLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <virtcore/virtcore.h>

#define CONSOLE_ROOM 65536u

struct console {
    vc_vm *vm;
    bool tty;
    int stop_fd;                         /* readable: the run is over */
    void (*ended)(void *ud, int status); /* the user or the host ends the run */
    void *ud;

    /* Output: looks for the kernel's last words, by line. */
    bool mute; /* stdout is gone */
    char line[64];
    unsigned column;
    _Atomic bool panicked;

    /* Input: one thread reads stdin, the other feeds the guest, so that the
     * escape key works while the guest does not listen. */
    pthread_t reader, feeder;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned char ring[CONSOLE_ROOM];
    size_t head, fill;
    bool over;
};

void console_init(struct console *c, bool tty, int stop_fd, void (*ended)(void *ud, int status),
                  void *ud);
/* vc_serial_out_fn */
void console_output(void *console, const void *bytes, size_t n);
/* Starts and stops the threads of the input. stop_fd is readable by then. */
int console_start(struct console *c, vc_vm *vm);
void console_stop(struct console *c);

#endif
