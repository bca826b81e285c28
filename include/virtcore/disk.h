/* SPDX-License-Identifier: MIT
 *
 * virtcore/disk.h - disks and network links for a guest.
 *
 * What is added here belongs to the partition until vc_close(), whatever guest is loaded.
 * A guest that vc_boot() loads as VC_VIRT_PV finds disks as xvda, xvdb... (Xen's
 * io/blkif.h) and links as eth0, eth1... (io/netif.h), in the order in which they were
 * added; one that runs already sees them appear. Unmodified guests have no device for
 * them yet: vc_boot() refuses VC_VIRT_HVM with VC_ENOTSUP while there are any. On backends
 * without PV guests, and in a library without Xen's headers, the calls are VC_ENOTSUP.
 */
#ifndef VIRTCORE_DISK_H
#define VIRTCORE_DISK_H

#include "base.h"
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An embedder's disk. Offsets and lengths are in bytes, multiples of 512 and inside the
 * disk; pieces add up to at most 4 MiB. All return 0 or a negative code, which the guest
 * sees as an I/O error. They are called on threads of the library's, several at once,
 * also while the partition is paused, until vc_close(). They must not call vc_run() or
 * vc_close(). */
struct vc_disk_ops {
    size_t size;
    int (*read)(void *ud, uint64_t offset, const struct iovec *iov, unsigned n);
    /* NULL: the disk must be VC_DISK_READ_ONLY. */
    int (*write)(void *ud, uint64_t offset, const struct iovec *iov, unsigned n);
    int (*flush)(void *ud);                                  /* NULL: nothing is held back */
    int (*discard)(void *ud, uint64_t offset, uint64_t len); /* NULL: not offered */
    void (*free)(void *ud); /* at vc_close(); not when vc_disk_add() fails; or NULL */
};

struct vc_disk_opts {
    size_t size;
    const char *path;              /* a raw image or block device; NULL: ops */
    const struct vc_disk_ops *ops; /* copied; NULL: path */
    void *ud;
    uint64_t bytes; /* with ops: the disk's size, a multiple of 512, at most 2^50 */
    uint32_t flags; /* VC_DISK_* */
};
#define VC_DISK_READ_ONLY (1u << 0)

/* Adds a disk. Its number, from 0 on, or: VC_EINVAL (neither path nor ops, or both; ops
 * without read), VC_ERANGE (bytes), VC_ENOENT, VC_EPERM, VC_EFORMAT (no file or device
 * that could be a disk), VC_EBUSY (the image is in use for writing, here or in another
 * process; or a vCPU runs), VC_ELIMIT (16 disks), VC_ESTATE (before vc_pc()), VC_ENOTSUP.
 * VM paused. */
VC_API int vc_disk_add(vc_vm *vm, const struct vc_disk_opts *opts);

struct vc_net_opts {
    size_t size;
    /* The other end of the wire:
     *   user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]...[,restrict]
     *       user networking: the guest is 10.0.2.15, the host 10.0.2.2, DHCP, a DNS relay
     *       at 10.0.2.3; ports of the host lead to the guest's; restrict: nothing else
     *   tap,ifname=NAME                  a tap device of the host
     *   stream,path=PATH                 a Unix stream socket that listens: frames after
     *                                    their length in 32 bits, big-endian
     *   dgram,local=PATH,remote=PATH     Unix datagram sockets, a frame each; the remote
     *                                    one may come later, and again; the local one is
     *                                    removed with the link */
    const char *link;
    /* The guest's. All zero: 00:16:3e:00:00:N of a `user` link, 00:16:3e:X:Y:N of others,
     * N its number, X and Y a hash of `link`: guests with the same link need one each. */
    uint8_t mac[6];
};

/* Adds a network link. Its number, from 0 on, or: VC_EINVAL (link, or a mac that is a
 * group's), VC_ELIMIT (8 links), VC_ENOTSUP (also: user networking is not in this build),
 * VC_ESTATE (before vc_pc()), VC_EBUSY (a vCPU runs), or what the host says of the device
 * or socket. VM paused. */
VC_API int vc_net_add(vc_vm *vm, const struct vc_net_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
