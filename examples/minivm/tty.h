/* SPDX-License-Identifier: MIT
 * The terminal in raw mode, and back again however minivm ends. */
#ifndef MINIVM_TTY_H
#define MINIVM_TTY_H

#include <stdbool.h>

/* Makes stdin raw when it is a terminal; true when it is. */
bool tty_raw(void);
/* As it was before. Any number of times, and in signal handlers. */
void tty_restore(void);

#endif
