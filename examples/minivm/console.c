/* SPDX-License-Identifier: MIT
 * The guest's serial port on stdin and stdout. */
#include "console.h"
#include "options.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CTRL_A 0x01

static const char escape_help[] = "\r\n"
                                  "Ctrl-A x       end minivm\r\n"
                                  "Ctrl-A h       this help\r\n"
                                  "Ctrl-A Ctrl-A  send a Ctrl-A to the guest\r\n";

/* ---- output ------------------------------------------------------------------- */

/* Where a line of Linux's says that it panicked: after "[ seconds.fraction] ". */
static bool is_panic(const char *line)
{
    static const char words[] = "Kernel panic - not syncing";
    if (*line == '[') {
        line += 1 + strspn(line + 1, " 0123456789.");
        if (strncmp(line, "] ", 2) != 0)
            return false;
        line += 2;
    }
    return !strncmp(line, words, sizeof words - 1);
}

static void watch(struct console *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n' || bytes[i] == '\r') {
            c->column = 0;
            continue;
        }
        if (c->column >= sizeof c->line - 1)
            continue;
        c->line[c->column++] = bytes[i];
        c->line[c->column] = 0;
        if (is_panic(c->line))
            atomic_store(&c->panicked, true);
    }
}

/* Writes a part; waits for a slow reader, but not beyond the end of the run. */
static bool put(struct console *c, const char *bytes, size_t n)
{
    while (n) {
        struct pollfd fds[2] = {{.fd = STDOUT_FILENO, .events = POLLOUT},
                                {.fd = c->stop_fd, .events = POLLIN}};
        poll(fds, 2, -1);
        if (!(fds[0].revents & POLLOUT)) {
            if (fds[0].revents & (POLLERR | POLLHUP | POLLNVAL))
                return false;
            if (fds[1].revents)
                return true;
            continue;
        }
        ssize_t done = write(STDOUT_FILENO, bytes, n < 512 ? n : 512);
        if (done < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        if (done > 0) {
            bytes += done;
            n -= (size_t)done;
        }
    }
    return true;
}

void console_output(void *console, const void *bytes, size_t n)
{
    struct console *c = console;
    watch(c, bytes, n);
    if (c->mute || put(c, bytes, n))
        return;
    c->mute = true;
    fputs("minivm: nobody reads the guest's output any more\r\n", stderr);
    c->ended(c->ud, STATUS_ERROR);
}

/* ---- input --------------------------------------------------------------------- */

/* Waits for room; false: the run is over. */
static bool ring_put(struct console *c, const unsigned char *bytes, size_t n)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < n && !c->over;) {
        if (c->fill == CONSOLE_ROOM) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        c->ring[(c->head + c->fill++) % CONSOLE_ROOM] = bytes[i++];
    }
    bool going = !c->over;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return going;
}

/* Takes the escape keys out of what was typed. Returns what is left. */
static size_t escapes(struct console *c, unsigned char *bytes, size_t n, bool *escaped)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = bytes[i];
        if (!*escaped) {
            if (b == CTRL_A)
                *escaped = true;
            else
                bytes[out++] = b;
            continue;
        }
        *escaped = false;
        if (b == CTRL_A)
            bytes[out++] = b;
        else if (b == 'x' || b == 'X')
            c->ended(c->ud, STATUS_ESCAPE);
        else if (b == 'h' || b == 'H' || b == '?')
            fputs(escape_help, stderr);
    }
    return out;
}

static void *reader(void *ud)
{
    struct console *c = ud;
    unsigned char buf[1024];
    bool escaped = false;
    for (;;) {
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                {.fd = c->stop_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno == EINTR)
            continue;
        if (fds[1].revents)
            break;
        ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            break; /* the end of the input; the guest runs on */
        size_t left = c->tty ? escapes(c, buf, (size_t)n, &escaped) : (size_t)n;
        if (!ring_put(c, buf, left))
            break;
    }
    return NULL;
}

static void *feeder(void *ud)
{
    struct console *c = ud;
    pthread_mutex_lock(&c->lock);
    while (!c->over) {
        if (!c->fill) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        size_t run = CONSOLE_ROOM - c->head < c->fill ? CONSOLE_ROOM - c->head : c->fill;
        size_t head = c->head;
        pthread_mutex_unlock(&c->lock);
        /* The wait is cut up only to notice the end of a run in which the guest
         * never listens. */
        long n = 0;
        int ready = vc_serial_wait(c->vm, 250);
        if (ready > 0)
            n = vc_serial_in(c->vm, c->ring + head, run);
        pthread_mutex_lock(&c->lock);
        if (ready < 0 || n < 0)
            break;
        if (n > 0) {
            c->head = (c->head + (size_t)n) % CONSOLE_ROOM;
            c->fill -= (size_t)n;
            pthread_cond_broadcast(&c->changed);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

void console_init(struct console *c, bool tty, int stop_fd, void (*ended)(void *ud, int status),
                  void *ud)
{
    memset(c, 0, sizeof *c);
    c->tty = tty;
    c->stop_fd = stop_fd;
    c->ended = ended;
    c->ud = ud;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

int console_start(struct console *c, vc_vm *vm)
{
    c->vm = vm;
    int rc = pthread_create(&c->reader, NULL, reader, c);
    if (rc)
        return rc;
    rc = pthread_create(&c->feeder, NULL, feeder, c);
    if (rc) {
        pthread_cancel(c->reader); /* it is in poll() */
        pthread_join(c->reader, NULL);
        return rc;
    }
    c->started = true;
    return 0;
}

void console_stop(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    c->over = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (c->started) {
        pthread_join(c->reader, NULL);
        pthread_join(c->feeder, NULL);
    }
    c->started = false;
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}
