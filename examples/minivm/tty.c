/* SPDX-License-Identifier: MIT
 * The terminal in raw mode, and back again however minivm ends. */
#include "tty.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static volatile sig_atomic_t is_raw, is_known;

void tty_restore(void)
{
    if (!is_raw)
        return;
    int saved = errno;
    is_raw = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    errno = saved;
}

/* A fault of minivm's own must not leave the user with a mute terminal. The
 * handler is reset on entry, so that the signal's usual end follows. */
static void on_crash(int sig)
{
    tty_restore();
    raise(sig);
}

bool tty_raw(void)
{
    if (!isatty(STDIN_FILENO))
        return false;
    if (!is_known) {
        static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
        if (tcgetattr(STDIN_FILENO, &before))
            return false;
        is_known = 1;
        atexit(tty_restore);
        struct sigaction sa = {.sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER};
        for (unsigned i = 0; i < sizeof crashes / sizeof *crashes; i++)
            sigaction(crashes[i], &sa, NULL);
    }
    struct termios raw = before;
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw))
        return false;
    is_raw = 1;
    return true;
}
