/* SPDX-License-Identifier: MIT
 * Network links: Ethernet frames to and from the world. They know nothing of the device
 * that a guest sees. A frame has no checksum of the wire and is never padded. */
#ifndef IO_NET_H
#define IO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_FRAME_MAX    65550u /* an IP packet of 64 KiB and its Ethernet header */
#define NET_FRAME_MIN    14u
#define NET_QUEUE_MAX    1024u /* frames, and bytes, on their way to user networking */
#define NET_QUEUE_BYTES  (4u << 20)
#define NET_USER_SOCKETS 512u /* of the host, for one guest's connections */

struct net;

/* Who has the other end. send may drop what it has no room for, and must not wait; any
 * thread calls it, but never two at once. */
struct net_ops {
    void (*send)(void *ud, const uint8_t *frame, size_t len);
    void (*free)(void *ud); /* or NULL */
};
/* NULL with the error set; ops->free was called. */
struct net *net_new(const struct net_ops *ops, void *ud);
void net_free(struct net *n); /* may be NULL */

/* A frame for the guest, from whoever has the other end; dropped when nobody listens or
 * when it is no frame. Any thread, but not while it holds what recv needs. */
void net_deliver(struct net *n, const uint8_t *frame, size_t len);

/* The device's side. recv is called one at a time; after net_listen(n, NULL, NULL) it
 * is not called and not running. */
typedef void net_recv_fn(void *ud, const uint8_t *frame, size_t len);
void net_listen(struct net *n, net_recv_fn *recv, void *ud);

/* What a device leaves to be done with a frame of its guest's. */
struct net_offload {
    bool csum;         /* the checksum of TCP or UDP is not there yet */
    uint16_t gso_size; /* TCP in pieces of so many bytes; 0: one frame as it is */
};
/* A frame from the guest; off may be NULL. Frames that are not what they say are sent
 * as they are, or dropped when they were to be cut. Any thread. */
void net_send(struct net *n, const uint8_t *frame, size_t len, const struct net_offload *off);

/* A link by its description; NULL with the error set (VC_ENOTSUP: not in this build):
 *   user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]...[,restrict]
 *       user networking: the guest is 10.0.2.15, the host 10.0.2.2, DHCP, a DNS relay
 *       at 10.0.2.3; ports of the host lead to the guest's; restrict: nothing else
 *   tap,ifname=NAME          a tap device of the host
 *   stream,path=PATH         a Unix stream socket that listens: frames after their
 *                            length in 32 bits, big-endian
 *   dgram,local=PATH,remote=PATH     Unix datagram sockets, a frame each; the remote one
 *                            may come later, or again */
struct net *net_open(const char *spec);
/* The same over a file descriptor, which is the link's then. */
enum net_fd_kind { NET_FD_FRAMES, NET_FD_STREAM };
struct net *net_fd(int fd, enum net_fd_kind kind);
/* Over a Unix datagram socket that is bound to `here`, and sends to whoever is `there` at
 * the time. The name goes with the link. */
struct sockaddr_un;
struct net *net_fd_named(int fd, const struct sockaddr_un *here, const struct sockaddr_un *there);
/* The options behind "user". */
struct net *net_user(const char *options);

/* The address of a guest's link that got none, number `nr` of its machine. Where others may
 * be on the wire it hangs on the description, which is rarely theirs. */
void net_default_mac(const char *spec, unsigned nr, uint8_t mac[6]);

#endif
