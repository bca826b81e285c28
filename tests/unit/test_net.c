/* SPDX-License-Identifier: MIT
 * Network links: sockets, streams, user networking, what is done in hardware's place. */
#include "base/err.h"
#include "base/util.h"
#include "io/net.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- a device --------------------------------------------------------------------------- */

struct device {
    pthread_mutex_t lock;
    unsigned n;
    size_t len[128];
    uint8_t frame[128][2048];
};

static struct device dev = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_frame(void *ud, const uint8_t *frame, size_t len)
{
    struct device *d = ud;
    pthread_mutex_lock(&d->lock);
    unsigned i = d->n++ % 128;
    d->len[i] = len;
    memcpy(d->frame[i], frame, len < 2048 ? len : 2048);
    pthread_mutex_unlock(&d->lock);
}

static unsigned frames(void)
{
    pthread_mutex_lock(&dev.lock);
    unsigned n = dev.n;
    pthread_mutex_unlock(&dev.lock);
    return n;
}

/* Within two seconds. */
static bool got(unsigned n)
{
    for (unsigned i = 0; i < 2000 && frames() < n; i++)
        usleep(1000);
    return frames() >= n;
}

static void no_device(void)
{
    dev.n = 0;
}
TestSuite(net, .init = no_device);

/* ---- descriptors ------------------------------------------------------------------------- */

Test(net, datagrams)
{
    int s[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, s), 0);
    struct net *n = net_fd(s[0], NET_FD_FRAMES);
    cr_assert_not_null(n, "%s", vc_errmsg());
    net_listen(n, on_frame, &dev);
    uint8_t frame[1514] = {1, 2, 3}, in[2000];
    cr_expect_eq(send(s[1], frame, 60, 0), 60);
    cr_expect(got(1));
    cr_expect_eq(dev.len[0], 60);
    cr_expect_eq(dev.frame[0][2], 3);
    cr_expect_eq(send(s[1], frame, 13, 0), 13); /* no frame */
    net_send(n, frame, sizeof frame, NULL);
    cr_expect_eq(recv(s[1], in, sizeof in, 0), 1514);
    net_send(n, frame, 13, NULL);
    net_send(n, frame, NET_FRAME_MAX + 1, NULL);
    for (unsigned i = 0; i < 5000; i++) /* nobody reads: dropped, and nothing hangs */
        net_send(n, frame, sizeof frame, NULL);
    cr_expect_eq(frames(), 1);
    net_listen(n, NULL, NULL);
    cr_expect_eq(send(s[1], frame, 60, 0), 60);
    usleep(20000);
    cr_expect_eq(frames(), 1);
    close(s[1]);
    net_send(n, frame, sizeof frame, NULL);
    usleep(20000);
    net_free(n);
}

Test(net, streams)
{
    int s[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    struct net *n = net_fd(s[0], NET_FD_STREAM);
    cr_assert_not_null(n);
    net_listen(n, on_frame, &dev);
    uint8_t bytes[4 + 100] = {0, 0, 0, 100, 7};
    for (unsigned i = 0; i < sizeof bytes; i++) { /* byte by byte */
        cr_expect_eq(write(s[1], bytes + i, 1), 1);
        if (i % 40 == 0)
            usleep(1000);
    }
    cr_expect(got(1));
    cr_expect_eq(dev.len[0], 100);
    cr_expect_eq(dev.frame[0][0], 7);
    /* More than the socket holds, then read slowly: frames are whole or not there. */
    static uint8_t big[60000], in[70000];
    memset(big, 0x5a, sizeof big);
    for (unsigned i = 0; i < 100; i++)
        net_send(n, big, sizeof big, NULL);
    unsigned whole = 0;
    for (;;) {
        uint8_t head[4];
        ssize_t r = recv(s[1], head, 4, whole ? MSG_DONTWAIT : 0);
        if (r <= 0) {
            usleep(20000);
            r = recv(s[1], head, 4, MSG_DONTWAIT);
            if (r <= 0)
                break;
        }
        cr_assert_eq(r, 4);
        uint32_t len = ntohl(*(uint32_t *)head);
        cr_assert_eq(len, sizeof big);
        cr_assert_eq(recv(s[1], in, len, MSG_WAITALL), len);
        cr_assert_eq(in[len - 1], 0x5a);
        whole++;
    }
    cr_expect_geq(whole, 1);
    cr_expect_lt(whole, 100);
    /* A length that can't be ends it. */
    cr_expect_eq(write(s[1], "\xff\xff\xff\xff", 4), 4);
    usleep(20000);
    cr_expect_eq(write(s[1], bytes, sizeof bytes), sizeof bytes);
    usleep(20000);
    cr_expect_eq(frames(), 1);
    net_free(n);
    close(s[1]);
}

Test(net, descriptions)
{
    static const struct {
        const char *spec;
        int code;
    } bad[] = {
        {"", VC_EINVAL},
        {"use", VC_EINVAL},
        {"tap", VC_EINVAL},
        {"tap,ifname=a-name-that-is-too-long", VC_EINVAL},
        {"stream", VC_EINVAL},
        {"stream,path=/nonexistent/socket", VC_ENOENT},
        {"dgram,local=/tmp/x", VC_EINVAL},
        {"dgram,local=/nonexistent/a,remote=/nonexistent/b", VC_ENOENT},
#ifdef HAVE_SLIRP
        {"user,what", VC_EINVAL},
        {"user,hostfwd=tcp", VC_EINVAL},
        {"user,hostfwd=tcp::1-", VC_EINVAL},
        {"user,hostfwd=tcp::1-:", VC_EINVAL},
        {"user,hostfwd=tcp::70000-:1", VC_EINVAL},
        {"user,hostfwd=sctp::1000-:1", VC_EINVAL},
        {"user,hostfwd=tcp:1.2.3:1000-:1", VC_EINVAL},
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err_begin();
        cr_expect_null(net_open(bad[i].spec), "%s", bad[i].spec);
        cr_expect_eq(vc_errcode(), bad[i].code, "%s: %s", bad[i].spec, vc_errmsg());
    }
    net_free(NULL);
}

static int bound(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    cr_assert_eq(bind(s, (struct sockaddr *)&to, sizeof to), 0);
    return s;
}

/* In any order, and again after either went. */
Test(net, unix_datagrams_by_name)
{
    char a[64], b[64], spec[160];
    snprintf(a, sizeof a, "/tmp/virtcore-net-a-%d", (int)getpid());
    snprintf(b, sizeof b, "/tmp/virtcore-net-b-%d", (int)getpid());
    snprintf(spec, sizeof spec, "dgram,local=%s,remote=%s", a, b);
    close(bound(a)); /* its name is left behind */
    struct net *n = net_open(spec);
    cr_assert_not_null(n, "%s", vc_errmsg());
    uint8_t frame[64] = {9}, in[100];
    net_send(n, frame, sizeof frame, NULL); /* to nobody */
    for (unsigned round = 0; round < 3; round++) {
        int s = bound(b);
        frame[1] = (uint8_t)round;
        net_send(n, frame, sizeof frame, NULL);
        cr_expect_eq(recv(s, in, sizeof in, MSG_DONTWAIT), 64);
        cr_expect_eq(in[1], round);
        close(s);
        unlink(b);
        net_send(n, frame, sizeof frame, NULL);
    }
    err_begin();
    cr_expect_null(net_open(spec));
    cr_expect_eq(vc_errcode(), VC_EBUSY);
    net_free(n);
    cr_expect_neq(access(a, F_OK), 0, "its name stays");
    FILE *f = fopen(a, "w"); /* something else of that name */
    cr_assert(f && !fclose(f));
    cr_expect_null(net_open(spec));
    cr_expect_eq(access(a, F_OK), 0, "a file that is no socket is gone");
    unlink(a);
}

/* Two links that name each other, the second made when the first was there already. */
Test(net, unix_datagrams_to_and_fro)
{
    char a[64], b[64], spec[160];
    snprintf(a, sizeof a, "/tmp/virtcore-net-c-%d", (int)getpid());
    snprintf(b, sizeof b, "/tmp/virtcore-net-d-%d", (int)getpid());
    snprintf(spec, sizeof spec, "dgram,local=%s,remote=%s", a, b);
    struct net *x = net_open(spec);
    snprintf(spec, sizeof spec, "dgram,local=%s,remote=%s", b, a);
    for (unsigned round = 0; round < 2; round++) {
        uint8_t frame[64] = {9};
        struct net *y = net_open(spec);
        cr_assert(x && y, "%s", vc_errmsg());
        no_device();
        net_listen(x, on_frame, &dev);
        net_send(y, frame, sizeof frame, NULL);
        cr_expect(got(1), "no frame came");
        net_listen(x, NULL, NULL);
        no_device();
        net_listen(y, on_frame, &dev);
        net_send(x, frame, sizeof frame, NULL);
        cr_expect(got(1), "no frame came");
        net_free(y);
    }
    net_free(x);
}

/* Machines on one wire have another each; it is the same one each time. */
Test(net, addresses)
{
    uint8_t a[6], b[6], again[6], user[6];
    net_default_mac("tap,ifname=tap0", 0, a);
    net_default_mac("tap,ifname=tap1", 0, b);
    net_default_mac("tap,ifname=tap0", 0, again);
    net_default_mac("user,restrict", 3, user);
    cr_expect_arr_eq(user, ((uint8_t[]){0, 0x16, 0x3e, 0, 0, 3}), 6);
    cr_expect_arr_eq(a, again, 6);
    cr_expect_neq(memcmp(a, b, 6), 0);
    cr_expect_arr_eq(a, user, 3);
}

/* ---- in hardware's place ------------------------------------------------------------------- */

static void grab(void *ud, const uint8_t *frame, size_t len)
{
    on_frame(ud, frame, len);
}

static struct net *loop(void)
{
    static const struct net_ops ops = {grab, NULL};
    struct net *n = net_new(&ops, &dev);
    cr_assert_not_null(n);
    return n;
}

static uint32_t sum16(const uint8_t *p, size_t len, uint32_t s)
{
    for (size_t i = 0; i < len; i++)
        s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s;
}

/* A TCP packet of `data` bytes over IPv4. */
static size_t tcp(uint8_t *f, uint32_t data)
{
    memset(f, 0, 54);
    f[12] = 8;
    f[14] = 0x45;
    f[16] = (uint8_t)((40 + data) >> 8), f[17] = (uint8_t)(40 + data);
    f[19] = 5; /* identification */
    f[22] = 64, f[23] = 6;
    f[26] = 10, f[29] = 15, f[30] = 10, f[33] = 2;
    f[34 + 3] = 80;
    f[41] = 0xff;               /* sequence 255 */
    f[46] = 0x50, f[47] = 0x99; /* CWR, ACK, PSH, FIN */
    for (uint32_t i = 0; i < data; i++)
        f[54 + i] = (uint8_t)(i * 3);
    return 54 + data;
}

/* Both checksums are right. */
static void check(const uint8_t *f, size_t len)
{
    uint32_t total = (uint32_t)(f[16] << 8 | f[17]);
    cr_expect_eq(total + 14, len);
    cr_expect_eq(sum16(f + 14, 20, 0), 0xffff);
    uint32_t s = sum16(f + 26, 8, f[23] + total - 20);
    cr_expect_eq(sum16(f + 34, total - 20, s), 0xffff);
}

Test(net, cuts_tcp)
{
    static uint8_t f[66000];
    struct net *n = loop();
    size_t len = tcp(f, 5000);
    net_send(n, f, len, &(struct net_offload){.csum = true, .gso_size = 1448});
    cr_assert_eq(frames(), 4);
    uint32_t seq = 255, at = 0;
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *o = dev.frame[i];
        uint32_t data = i < 3 ? 1448 : 5000 - 3 * 1448;
        cr_expect_eq(dev.len[i], 54 + data);
        check(o, dev.len[i]);
        cr_expect_eq((uint32_t)(o[40] << 8 | o[41]), seq & 0xffff);
        cr_expect_eq(o[19], 5 + i);
        cr_expect_eq(o[47] & 0x09, i < 3 ? 0 : 0x09);
        cr_expect_eq(o[47] & 0x80, i ? 0 : 0x80);
        for (uint32_t k = 0; k < data; k++)
            cr_assert_eq(o[54 + k], (uint8_t)((at + k) * 3));
        seq += data;
        at += data;
    }
    /* Pieces of a byte are not cut; what is small enough goes as it is. */
    net_send(n, f, len, &(struct net_offload){.csum = true, .gso_size = 1});
    cr_expect_eq(frames(), 4);
    len = tcp(f, 100);
    f[16] = 0, f[17] = 140, memset(f + 24, 0, 2);
    uint32_t s = sum16(f + 14, 20, 0);
    f[24] = (uint8_t)(~s >> 8), f[25] = (uint8_t)~s;
    net_send(n, f, len, &(struct net_offload){.csum = true, .gso_size = 1448});
    cr_expect_eq(frames(), 5);
    check(dev.frame[4], dev.len[4]);
    net_free(n);
}

Test(net, fills_checksums_of_ipv6_and_udp)
{
    uint8_t f[14 + 40 + 8 + 11] = {0};
    struct net *n = loop();
    f[12] = 0x86, f[13] = 0xdd, f[14] = 0x60, f[19] = 19, f[20] = 17, f[21] = 64;
    f[22] = 0xfe, f[37] = 1, f[53] = 2;
    f[59] = 19, f[62] = 'x', f[72] = 'y';
    net_send(n, f, sizeof f, &(struct net_offload){.csum = true});
    cr_assert_eq(frames(), 1);
    const uint8_t *o = dev.frame[0];
    cr_expect_eq(sum16(o + 54, 19, sum16(o + 22, 32, 17 + 19)), 0xffff);
    net_free(n);
}

Test(net, packets_that_lie)
{
    static uint8_t f[66000], g[66000];
    struct net *n = loop();
    size_t len = tcp(f, 2000);
    /* Every byte of the headers, at some values, with both offloads: nothing breaks. */
    for (unsigned at = 12; at < 54; at++) {
        for (unsigned v = 0; v < 256; v += 5) {
            memcpy(g, f, len);
            g[at] = (uint8_t)v;
            for (unsigned cut = 14; cut < len; cut += cut < 60 ? 1 : 700) {
                uint8_t *exact = malloc(cut); /* so that a sanitizer sees its end */
                memcpy(exact, g, cut);
                net_send(n, exact, cut, &(struct net_offload){.csum = true, .gso_size = 536});
                net_send(n, exact, cut, &(struct net_offload){.csum = true});
                free(exact);
            }
        }
    }
    cr_expect_gt(frames(), 1000);
    net_free(n);
}

/* ---- user networking --------------------------------------------------------------------------
 */

#ifdef HAVE_SLIRP

/* UDP from the guest, with its checksum left out. */
static size_t udp(uint8_t *f, uint32_t from, uint32_t to, uint16_t sport, uint16_t dport,
                  const void *data, size_t n)
{
    memset(f, 0, 42);
    memset(f, 0xff, 6);
    f[6] = 0x52, f[11] = 1;
    f[12] = 8;
    f[14] = 0x45;
    f[16] = (uint8_t)((28 + n) >> 8), f[17] = (uint8_t)(28 + n);
    f[22] = 64, f[23] = 17;
    uint32_t be = htonl(from);
    memcpy(f + 26, &be, 4);
    be = htonl(to);
    memcpy(f + 30, &be, 4);
    uint32_t s = sum16(f + 14, 20, 0);
    f[24] = (uint8_t)(~s >> 8), f[25] = (uint8_t)~s;
    f[34] = (uint8_t)(sport >> 8), f[35] = (uint8_t)sport;
    f[36] = (uint8_t)(dport >> 8), f[37] = (uint8_t)dport;
    f[38] = (uint8_t)((8 + n) >> 8), f[39] = (uint8_t)(8 + n);
    memcpy(f + 42, data, n);
    return 42 + n;
}

/* The guest's address, by DHCP (RFC 2131). */
static void dhcp(struct net *n, bool second)
{
    uint8_t f[600], m[300] = {1, 1, 6, 0, 1, 2, 3, 4};
    m[28] = 0x52, m[33] = 1;
    static const uint8_t discover[] = {99, 130, 83, 99, 53, 1, 1, 255};
    static const uint8_t request[] = {99, 130, 83, 99, 53, 1, 3, 50, 4, 10, 0, 2, 15, 255};
    if (second)
        memcpy(m + 236, request, sizeof request);
    else
        memcpy(m + 236, discover, sizeof discover);
    net_send(n, f, udp(f, 0, 0xffffffff, 68, 67, m, sizeof m), NULL);
}

Test(net, user_dhcp_and_udp)
{
    struct net *n = net_open("user");
    cr_assert_not_null(n, "%s", vc_errmsg());
    net_listen(n, on_frame, &dev);
    for (unsigned i = 0; i < 2; i++) {
        dhcp(n, i);
        cr_assert(got(i + 1), "no answer");
        const uint8_t *o = dev.frame[i];
        cr_expect_eq(o[42], 2); /* a reply */
        cr_expect(!memcmp(o + 42 + 16, "\x0a\x00\x02\x0f", 4));
        cr_expect_eq(o[42 + 242], i ? 5 : 2); /* offer, then acknowledgement */
    }
    /* A datagram to the host, and its answer. */
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof me;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    cr_assert_eq(bind(s, (struct sockaddr *)&me, sizeof me), 0);
    cr_assert_eq(getsockname(s, (struct sockaddr *)&me, &len), 0);
    uint8_t f[100], in[100];
    dev.n = 0;
    net_send(n, f, udp(f, 0x0a00020f, 0x0a000202, 1234, ntohs(me.sin_port), "ping", 4), NULL);
    cr_expect_eq(recvfrom(s, in, sizeof in, 0, (struct sockaddr *)&me, &len), 4);
    cr_expect(!memcmp(in, "ping", 4));
    cr_expect_eq(sendto(s, "pong!", 5, 0, (struct sockaddr *)&me, len), 5);
    bool pong = false;
    for (unsigned i = 1; i < 5 && !pong && got(i); i++) {
        uint8_t *o = dev.frame[i - 1];
        if (o[12] == 8 && o[13] == 6 && o[21] == 1) { /* it asks where we are (RFC 826) */
            uint8_t r[42];
            memcpy(r, o, 42);
            memcpy(r, o + 6, 6);
            memcpy(r + 6, "\x52\0\0\0\0\1", 6);
            r[21] = 2;
            memcpy(r + 22, "\x52\0\0\0\0\1", 6);
            memcpy(r + 28, o + 38, 4);
            memcpy(r + 32, o + 22, 10);
            net_send(n, r, 42, NULL);
        }
        pong = o[12] == 8 && !o[13] && !memcmp(o + 42, "pong!", 5);
    }
    cr_expect(pong);
    close(s);
    net_free(n);
}

Test(net, user_forwards_ports)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof me;
    cr_assert_eq(bind(s, (struct sockaddr *)&me, sizeof me), 0);
    cr_assert_eq(getsockname(s, (struct sockaddr *)&me, &len), 0);
    char spec[100];
    snprintf(spec, sizeof spec, "user,restrict,hostfwd=tcp:127.0.0.1:%u-:22", ntohs(me.sin_port));
    err_begin();
    cr_assert_eq(listen(s, 1), 0);
    cr_expect_null(net_open(spec)); /* the port is taken */
    cr_expect(vc_errcode() == VC_EBUSY || vc_errcode() == VC_EIO);
    close(s);
    struct net *n = net_open(spec);
    cr_assert_not_null(n, "%s", vc_errmsg());
    net_listen(n, on_frame, &dev);
    dhcp(n, false);
    dhcp(n, true);
    cr_assert(got(2));
    dev.n = 0;
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(s, (struct sockaddr *)&me, sizeof me);
    cr_expect(got(1)); /* it looks for the guest, or connects to it */
    close(s);
    net_free(n);
}

Test(net, user_flood)
{
    struct net *n = net_open("user");
    cr_assert_not_null(n);
    net_listen(n, on_frame, &dev);
    uint8_t f[1514];
    unsigned seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        size_t len = udp(f, 0x0a00020f, 0x0a000202, (uint16_t)(i % 60000 + 1000), 9, "x", 1);
        if (i % 3 == 0) { /* and nonsense */
            len = 14 + (size_t)rand_r(&seed) % 1400;
            for (size_t k = i % 2 ? 14 : 34; k < len; k++)
                f[k] = (uint8_t)rand_r(&seed);
        }
        net_send(n, f, len, NULL);
    }
    usleep(100000);
    net_free(n);
}

#endif
