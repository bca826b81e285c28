/* SPDX-License-Identifier: MIT
 * Links over a file descriptor: tap devices and sockets of whole frames, and streams of
 * frames with their lengths. A thread reads; who sends writes, and drops what does not
 * fit. */
#include "net.h"
#include "../base/err.h"
#include "../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEAD 4u /* a stream's length */

struct link {
    struct net *net;
    int fd, stop;
    enum net_fd_kind kind;
    bool socket, started;
    struct sockaddr_un here, there; /* of datagrams by name; without a path: of none */
    pthread_t thread;
    pthread_mutex_t lock;               /* of what follows */
    uint8_t tail[HEAD + NET_FRAME_MAX]; /* of a frame that a stream took in part */
    size_t tail_len, tail_at;
    bool dead; /* the other end is gone, or broke the format */
    /* The thread's. */
    uint8_t in[HEAD + NET_FRAME_MAX];
    size_t in_len;
};

static void wake(struct link *l)
{
    uint64_t one = 1;
    if (write(l->stop, &one, sizeof one) < 0)
        return; /* it is awake already */
}

/* Bytes written now; -1: the link is gone. */
static ssize_t put(struct link *l, const void *data, size_t len)
{
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    ssize_t n;
    /* A name is looked up each time: who has it may come later, or be another one. */
    if (l->there.sun_path[0])
        n = sendto(l->fd, data, len, flags, (struct sockaddr *)&l->there, sizeof l->there);
    else
        n = l->socket ? send(l->fd, data, len, flags) : write(l->fd, data, len);
    if (n >= 0)
        return n;
    /* A datagram's reader may come yet; a frame that is refused is lost. */
    return l->kind == NET_FD_STREAM && errno != EAGAIN && errno != EINTR ? -1 : 0;
}

static void link_send(void *ud, const uint8_t *frame, size_t len)
{
    struct link *l = ud;
    pthread_mutex_lock(&l->lock);
    if (l->kind == NET_FD_FRAMES) {
        put(l, frame, len);
    } else if (!l->dead && !l->tail_len) {
        uint8_t head[HEAD] = {0, (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
        memcpy(l->tail, head, HEAD);
        memcpy(l->tail + HEAD, frame, len);
        ssize_t n = put(l, l->tail, HEAD + len);
        l->dead = n < 0;
        /* All or nothing is sent of it: the rest goes when there is room. */
        if (n > 0 && (size_t)n < HEAD + len) {
            l->tail_at = (size_t)n;
            l->tail_len = HEAD + len;
            wake(l);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

static void flush_tail(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->tail_len) {
        ssize_t n = put(l, l->tail + l->tail_at, l->tail_len - l->tail_at);
        l->dead |= n < 0;
        l->tail_at += n > 0 ? (size_t)n : 0;
        if (l->tail_at == l->tail_len || l->dead)
            l->tail_len = 0;
    }
    pthread_mutex_unlock(&l->lock);
}

/* Gives whole frames of a stream to the guest; false: it broke the format. */
static bool take_frames(struct link *l)
{
    size_t at = 0;
    while (l->in_len - at >= HEAD) {
        const uint8_t *h = l->in + at;
        size_t len = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
        if (len > NET_FRAME_MAX)
            return false;
        if (l->in_len - at < HEAD + len)
            break;
        net_deliver(l->net, h + HEAD, len);
        at += HEAD + len;
    }
    memmove(l->in, l->in + at, l->in_len - at);
    l->in_len -= at;
    return true;
}

/* false: the link is gone, which poll said of it, or its stream ended. */
static bool get(struct link *l, bool hung)
{
    size_t from = l->kind == NET_FD_STREAM ? l->in_len : 0;
    ssize_t n = read(l->fd, l->in + from, sizeof l->in - from);
    if (l->kind == NET_FD_FRAMES) {
        if (n > 0)
            net_deliver(l->net, l->in, (size_t)n);
        return n > 0 || !hung;
    }
    if (n < 0)
        return !hung && (errno == EAGAIN || errno == EINTR);
    l->in_len += (size_t)n;
    return n && take_frames(l);
}

static void *reader(void *ud)
{
    struct link *l = ud;
    bool gone = false;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        bool tail = l->tail_len;
        pthread_mutex_unlock(&l->lock);
        struct pollfd p[2] = {{l->stop, POLLIN, 0},
                              {gone ? -1 : l->fd, (short)(POLLIN | (tail ? POLLOUT : 0)), 0}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        uint64_t count;
        if (p[0].revents && read(l->stop, &count, sizeof count) == sizeof count &&
            count >= 1ull << 32)
            break; /* link_free(): kicks of link_send() count as one each */
        if (p[1].revents & POLLOUT)
            flush_tail(l);
        if (p[1].revents & ~POLLOUT && !get(l, p[1].revents & (POLLERR | POLLHUP))) {
            gone = true;
            pthread_mutex_lock(&l->lock);
            l->dead = true;
            pthread_mutex_unlock(&l->lock);
        }
    }
    return NULL;
}

static void link_free(void *ud)
{
    struct link *l = ud;
    uint64_t end = 1ull << 32;
    if (l->started) {
        while (write(l->stop, &end, sizeof end) < 0 && errno == EINTR)
            ;
        pthread_join(l->thread, NULL);
    }
    if (l->stop >= 0)
        close(l->stop);
    close(l->fd);
    if (l->here.sun_path[0])
        unlink(l->here.sun_path);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static struct net *link_new(int fd, enum net_fd_kind kind, const struct sockaddr_un *here,
                            const struct sockaddr_un *there)
{
    static const struct net_ops ops = {link_send, link_free};
    struct link *l = calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        if (here)
            unlink(here->sun_path);
        err_set(VC_ENOMEM, "no memory for a network link");
        return NULL;
    }
    if (here)
        l->here = *here, l->there = *there;
    int type;
    socklen_t len = sizeof type;
    l->fd = fd;
    l->kind = kind;
    l->socket = !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    l->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&l->lock, NULL);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    struct net *n = net_new(&ops, l);
    if (!n)
        return NULL;
    l->net = n;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    l->started = l->stop >= 0 && !pthread_create(&l->thread, NULL, reader, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!l->started) {
        net_free(n);
        err_set(VC_ENOMEM, "no thread for a network link");
        return NULL;
    }
    return n;
}

struct net *net_fd(int fd, enum net_fd_kind kind)
{
    return link_new(fd, kind, NULL, NULL);
}

struct net *net_fd_named(int fd, const struct sockaddr_un *here, const struct sockaddr_un *there)
{
    return link_new(fd, NET_FD_FRAMES, here, there);
}
