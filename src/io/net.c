/* SPDX-License-Identifier: MIT
 * Links: the two ends, and opening by description. */
#include "net.h"
#include "net_offload.h"
#include "../base/err.h"
#include "../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct net {
    struct net_ops ops;
    void *ud;
    pthread_mutex_t recv_lock, send_lock;
    net_recv_fn *recv;
    void *recv_ud;
};

struct net *net_new(const struct net_ops *ops, void *ud)
{
    struct net *n = calloc(1, sizeof *n);
    if (!n) {
        err_set(VC_ENOMEM, "no memory for a network link");
        if (ops->free)
            ops->free(ud);
        return NULL;
    }
    n->ops = *ops;
    n->ud = ud;
    pthread_mutex_init(&n->recv_lock, NULL);
    pthread_mutex_init(&n->send_lock, NULL);
    return n;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    if (n->ops.free)
        n->ops.free(n->ud);
    pthread_mutex_destroy(&n->send_lock);
    pthread_mutex_destroy(&n->recv_lock);
    free(n);
}

void net_listen(struct net *n, net_recv_fn *recv, void *ud)
{
    pthread_mutex_lock(&n->recv_lock);
    n->recv = recv;
    n->recv_ud = ud;
    pthread_mutex_unlock(&n->recv_lock);
}

void net_deliver(struct net *n, const uint8_t *frame, size_t len)
{
    if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
        return;
    pthread_mutex_lock(&n->recv_lock);
    if (n->recv)
        n->recv(n->recv_ud, frame, len);
    pthread_mutex_unlock(&n->recv_lock);
}

static void emit(void *ud, const uint8_t *frame, size_t len)
{
    struct net *n = ud;
    n->ops.send(n->ud, frame, len);
}

void net_send(struct net *n, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
        return;
    pthread_mutex_lock(&n->send_lock);
    if (off && (off->csum || off->gso_size))
        offload_run(frame, len, off, emit, n);
    else
        emit(n, frame, len);
    pthread_mutex_unlock(&n->send_lock);
}

/* ---- by description ----------------------------------------------------------------------- */

/* The value of ",name=" in a list of options; false: it is not there, or too long. */
static bool option(const char *options, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);
    for (const char *p = options; *p; p += strcspn(p, ",")) {
        p += *p == ',';
        if (strncmp(p, name, len) || p[len] != '=')
            continue;
        size_t n = strcspn(p + len + 1, ",");
        if (n >= size)
            return false;
        memcpy(value, p + len + 1, n);
        value[n] = 0;
        return n > 0;
    }
    return false;
}

static struct net *host_error(const char *what, const char *name)
{
    int code = errno == ENOENT                         ? VC_ENOENT
               : errno == EPERM || errno == EACCES     ? VC_EPERM
               : errno == EBUSY || errno == EADDRINUSE ? VC_EBUSY
                                                       : VC_EIO;
    err_set(code, "%s %.100s: %s", what, name, strerror(errno));
    return NULL;
}

static struct net *open_tap(const char *options)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (!option(options, "ifname", ifr.ifr_name, sizeof ifr.ifr_name)) {
        err_set(VC_EINVAL, "a tap link needs ifname=NAME, of at most 15 letters");
        return NULL;
    }
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return host_error("tap", "/dev/net/tun");
    if (ioctl(fd, TUNSETIFF, &ifr)) {
        host_error("tap", ifr.ifr_name);
        close(fd);
        return NULL;
    }
    return net_fd(fd, NET_FD_FRAMES);
}

static bool unix_path(const char *options, const char *name, struct sockaddr_un *to)
{
    to->sun_family = AF_UNIX;
    if (option(options, name, to->sun_path, sizeof to->sun_path))
        return true;
    err_set(VC_EINVAL, "the link needs %s=PATH, shorter than %zu", name, sizeof to->sun_path);
    return false;
}

static struct net *open_stream(const char *options)
{
    struct sockaddr_un to = {0};
    if (!unix_path(options, "path", &to))
        return NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) {
        host_error("stream", to.sun_path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return net_fd(fd, NET_FD_STREAM);
}

/* A socket of that name that nobody holds any more: who had it did not come to its end. */
static bool left_behind(const struct sockaddr_un *name)
{
    struct stat st;
    if (lstat(name->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool left = fd >= 0 && connect(fd, (const struct sockaddr *)name, sizeof *name) &&
                errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return left;
}

static struct net *open_dgram(const char *options)
{
    struct sockaddr_un here = {0}, there = {0};
    if (!unix_path(options, "local", &here) || !unix_path(options, "remote", &there))
        return NULL;
    if (left_behind(&here))
        unlink(here.sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here)) {
        host_error("dgram", here.sun_path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return net_fd_named(fd, &here, &there);
}

struct net *net_open(const char *spec)
{
    static const struct {
        const char *kind;
        struct net *(*open)(const char *options);
    } kinds[] = {
        {"user", net_user}, {"tap", open_tap}, {"stream", open_stream}, {"dgram", open_dgram}};
    size_t len = strcspn(spec, ",");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strlen(kinds[i].kind) == len && !strncmp(spec, kinds[i].kind, len))
            return kinds[i].open(spec + len);
    }
    err_set(VC_EINVAL, "\"%.100s\" is no network link: user, tap, stream and dgram are known",
            spec);
    return NULL;
}

void net_default_mac(const char *spec, unsigned nr, uint8_t mac[6])
{
    uint32_t hash = 0;
    if (strcmp(spec, "user") && strncmp(spec, "user,", 5)) {
        hash = 2166136261u; /* FNV-1a */
        for (const char *p = spec; *p; p++)
            hash = (hash ^ (uint8_t)*p) * 16777619u;
        hash ^= hash >> 16;
    }
    memcpy(mac, (const uint8_t[]){0, 0x16, 0x3e, (uint8_t)(hash >> 8), (uint8_t)hash, (uint8_t)nr},
           6);
}
