/* SPDX-License-Identifier: MIT
 * User networking by libslirp: a network of the guest's own behind the program's
 * sockets. The stack is not for several threads: one has it, the guest's frames come to
 * it by a queue. */
#include "net.h"
#include "../base/err.h"
#include "../base/util.h"

#ifdef HAVE_SLIRP

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TIMERS_MAX 8u

struct frame {
    struct frame *next;
    size_t len;
    uint8_t data[];
};

struct timer {
    SlirpTimerCb fn; /* NULL: free */
    void *ud;
    int64_t at_ms; /* 0: not set */
};

struct user {
    struct net *net;
    Slirp *slirp;
    int wake;
    bool started;
    pthread_t thread;
    struct timer timer[TIMERS_MAX];
    struct pollfd *fds;
    unsigned nfds, fds_cap;
    pthread_mutex_t lock; /* of what follows */
    struct frame *first, **last;
    size_t frames, bytes;
    bool stop;
};

/* ---- what the stack asks for ------------------------------------------------------------ */

static ssize_t to_guest(const void *data, size_t len, void *ud)
{
    net_deliver(((struct user *)ud)->net, data, len);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *ud)
{
    (void)msg, (void)ud;
}

static int64_t now_ns(void *ud)
{
    (void)ud;
    return (int64_t)host_now_ns();
}

static void *timer_new(SlirpTimerCb fn, void *fn_ud, void *ud)
{
    struct user *u = ud;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!u->timer[i].fn) {
            u->timer[i] = (struct timer){fn, fn_ud, 0};
            return &u->timer[i];
        }
    }
    return NULL;
}

static void timer_free(void *timer, void *ud)
{
    (void)ud;
    if (timer)
        *(struct timer *)timer = (struct timer){0};
}

static void timer_mod(void *timer, int64_t at_ms, void *ud)
{
    (void)ud;
    if (timer)
        ((struct timer *)timer)->at_ms = at_ms;
}

static void poll_fd(int fd, void *ud)
{
    (void)fd, (void)ud; /* they are asked for each time */
}

static void wake(void *ud)
{
    uint64_t one = 1;
    if (write(((struct user *)ud)->wake, &one, sizeof one) < 0)
        return; /* it is awake already */
}

static const SlirpCb callbacks = {
    .send_packet = to_guest,
    .guest_error = guest_error,
    .clock_get_ns = now_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = wake,
};

/* ---- the thread --------------------------------------------------------------------------- */

static int fd_add(int fd, int events, void *ud)
{
    struct user *u = ud;
    if (u->nfds == u->fds_cap) {
        unsigned cap = u->fds_cap ? u->fds_cap * 2 : 32;
        struct pollfd *fds = realloc(u->fds, cap * sizeof *fds);
        if (!fds)
            return -1;
        u->fds = fds;
        u->fds_cap = cap;
    }
    short want =
        (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    u->fds[u->nfds] = (struct pollfd){fd, want, 0};
    return (int)u->nfds++;
}

static int fd_events(int index, void *ud)
{
    const struct user *u = ud;
    if (index < 0 || (unsigned)index >= u->nfds)
        return 0;
    short r = u->fds[index].revents;
    return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (r & POLLPRI ? SLIRP_POLL_PRI : 0) | (r & POLLERR ? SLIRP_POLL_ERR : 0) |
           (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Whether a frame may make the stack open one more of the host's sockets. */
static bool opens(const uint8_t *f, size_t len)
{
    if (len < 34 || f[12] != 0x08 || f[13] || f[23] != 6)
        return len >= 34 && f[12] == 0x08 && !f[13]; /* UDP, ICMP */
    size_t tcp = 14 + (f[14] & 15) * 4u;
    return len < tcp + 14 || (f[tcp + 13] & 0x12) == 0x02; /* SYN without ACK */
}

static bool take_frames(struct user *u, bool full)
{
    pthread_mutex_lock(&u->lock);
    struct frame *f = u->first;
    bool stop = u->stop;
    u->first = NULL;
    u->last = &u->first;
    u->frames = u->bytes = 0;
    pthread_mutex_unlock(&u->lock);
    while (f) {
        struct frame *next = f->next;
        if (!stop && !(full && opens(f->data, f->len)))
            slirp_input(u->slirp, f->data, (int)f->len);
        free(f);
        f = next;
    }
    return !stop;
}

/* Runs what is due; the time to the next, at most `wait`. */
static uint32_t timers(struct user *u, uint32_t wait)
{
    int64_t now = (int64_t)(host_now_ns() / 1000000);
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct timer *t = &u->timer[i];
        if (t->fn && t->at_ms && t->at_ms <= now) {
            t->at_ms = 0;
            t->fn(t->ud);
        }
        if (t->fn && t->at_ms && t->at_ms - now < wait)
            wait = t->at_ms > now ? (uint32_t)(t->at_ms - now) : 0;
    }
    return wait;
}

static void *worker(void *ud)
{
    struct user *u = ud;
    bool run = true;
    while (run) {
        uint32_t wait = timers(u, 60000);
        u->nfds = 0;
        fd_add(u->wake, SLIRP_POLL_IN, u);
        slirp_pollfds_fill(u->slirp, &wait, fd_add, u);
        bool full = u->nfds > NET_USER_SOCKETS;
        int rc = u->nfds ? poll(u->fds, u->nfds, (int)min_u64(wait, 60000)) : usleep(10000);
        uint64_t count;
        if (u->nfds && u->fds[0].revents && read(u->wake, &count, sizeof count) < 0)
            u->fds[0].revents = 0;
        slirp_pollfds_poll(u->slirp, rc < 0, fd_events, u);
        run = take_frames(u, full);
    }
    return NULL;
}

/* ---- the link -------------------------------------------------------------------------------- */

static void user_send(void *ud, const uint8_t *frame, size_t len)
{
    struct user *u = ud;
    struct frame *f = malloc(sizeof *f + len);
    if (!f)
        return;
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    pthread_mutex_lock(&u->lock);
    bool room = u->frames < NET_QUEUE_MAX && u->bytes + len <= NET_QUEUE_BYTES;
    bool idle = !u->first;
    if (room) {
        *u->last = f;
        u->last = &f->next;
        u->frames++;
        u->bytes += len;
    }
    pthread_mutex_unlock(&u->lock);
    if (!room)
        free(f);
    else if (idle)
        wake(u);
}

static void user_free(void *ud)
{
    struct user *u = ud;
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    pthread_mutex_unlock(&u->lock);
    if (u->started) {
        wake(u);
        pthread_join(u->thread, NULL);
    }
    while (u->first) {
        struct frame *f = u->first;
        u->first = f->next;
        free(f);
    }
    if (u->slirp)
        slirp_cleanup(u->slirp);
    if (u->wake >= 0)
        close(u->wake);
    free(u->fds);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

/* ---- options -----------------------------------------------------------------------------------
 */

/* "[ADDR]:PORT" up to `end`. */
static bool endpoint(const char *s, const char *end, uint16_t low, struct in_addr *addr, int *port)
{
    char text[64], *colon;
    size_t len = (size_t)(end - s);
    if (len >= sizeof text)
        return false;
    memcpy(text, s, len);
    text[len] = 0;
    colon = strrchr(text, ':');
    if (!colon)
        return false;
    *colon++ = 0;
    if (*text && inet_pton(AF_INET, text, addr) != 1)
        return false;
    char *rest;
    unsigned long v = strtoul(colon, &rest, 10);
    *port = (int)v;
    return *colon >= '0' && *colon <= '9' && !*rest && v >= low && v <= 65535;
}

/* "tcp:[ADDR]:PORT-[ADDR]:PORT" up to `end`. */
static int forward(struct user *u, const char *s, const char *end)
{
    struct in_addr host = {htonl(INADDR_ANY)}, guest = {htonl(0x0a00020f)};
    int host_port, guest_port, udp = !strncmp(s, "udp:", 4);
    const char *dash = memchr(s, '-', (size_t)(end - s));
    if ((!udp && strncmp(s, "tcp:", 4)) || !dash || !endpoint(s + 4, dash, 1, &host, &host_port) ||
        !endpoint(dash + 1, end, 1, &guest, &guest_port))
        return err_set(VC_EINVAL, "\"%.*s\" is not tcp|udp:[ADDR]:PORT-[ADDR]:PORT",
                       (int)min_u64((uint64_t)(end - s), 80), s);
    if (slirp_add_hostfwd(u->slirp, udp, host, host_port, guest, guest_port))
        return err_set(errno == EADDRINUSE ? VC_EBUSY : VC_EIO, "port %d of the host: %s",
                       host_port, strerror(errno));
    return 0;
}

static bool is(const char *s, const char *end, const char *word)
{
    return (size_t)(end - s) == strlen(word) && !strncmp(s, word, strlen(word));
}

static int forwards(struct user *u, const char *options, bool *restricted)
{
    for (const char *s = options; *s;) {
        s += *s == ',';
        const char *end = s + strcspn(s, ",");
        int rc = 0;
        if (is(s, end, "restrict"))
            *restricted = true;
        else if (strncmp(s, "hostfwd=", 8))
            rc = err_set(VC_EINVAL, "\"%.*s\" is no option of user networking",
                         (int)min_u64((uint64_t)(end - s), 80), s);
        else if (u->slirp)
            rc = forward(u, s + 8, end);
        if (rc)
            return rc;
        s = end;
    }
    return 0;
}

static int stack_new(struct user *u, const char *options)
{
    SlirpConfig cfg = {
        .version = 1,
        .in_enabled = true,
        .vnetwork = {htonl(0x0a000200)},
        .vnetmask = {htonl(0xffffff00)},
        .vhost = {htonl(0x0a000202)},
        .vdhcp_start = {htonl(0x0a00020f)},
        .vnameserver = {htonl(0x0a000203)},
    };
    bool restricted = false;
    int rc = forwards(u, options, &restricted); /* looks at them only: there is no stack */
    if (rc)
        return rc;
    cfg.restricted = restricted;
    u->slirp = slirp_new(&cfg, &callbacks, u);
    if (!u->slirp)
        return err_set(VC_ENOMEM, "no memory for user networking");
    return forwards(u, options, &restricted);
}

struct net *net_user(const char *options)
{
    static const struct net_ops ops = {user_send, user_free};
    struct user *u = calloc(1, sizeof *u);
    if (!u) {
        err_set(VC_ENOMEM, "no memory for user networking");
        return NULL;
    }
    u->last = &u->first;
    u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&u->lock, NULL);
    struct net *n = net_new(&ops, u);
    if (!n)
        return NULL;
    u->net = n;
    if (stack_new(u, options)) {
        net_free(n);
        return NULL;
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    u->started = u->wake >= 0 && !pthread_create(&u->thread, NULL, worker, u);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!u->started) {
        net_free(n);
        err_set(VC_ENOMEM, "no thread for user networking");
        return NULL;
    }
    return n;
}

#else

struct net *net_user(const char *options)
{
    (void)options;
    err_set(VC_ENOTSUP, "this library was built without libslirp: it has no user networking");
    return NULL;
}

#endif
