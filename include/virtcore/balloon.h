/* SPDX-License-Identifier: MIT
 *
 * virtcore/balloon.h - host memory that partitions share, and guests that give some of
 * theirs back.
 *
 * A pool is an amount of host memory. The RAM of partitions that were opened with it
 * (vc_vm_opts.pool) is out of it: what vc_map() and vc_pc() map, and a few pages that a
 * Xen guest needs beside its RAM. Memory of the embedder's own (vc_map_host) is not. What
 * would exceed the pool is VC_ELIMIT.
 *
 * Guests of Xen's (backend pv, VC_VIRT_PV and VC_VIRT_PVH) have a balloon driver, which
 * gives pages back that the guest can do without, and takes them again. Pages that were
 * given back are the host's: their memory is freed, the guest cannot reach them, vc_read()
 * and vc_write() there are VC_EFAULT, and the pool has room for another partition. Should
 * the pool have none when a guest takes pages, the guest goes on with what it has; Linux
 * tries again from time to time.
 *
 * Whatever is loaded next by vc_boot() starts with all of the partition's RAM, or gets
 * VC_ELIMIT where the pool has no room for it.
 */
#ifndef VIRTCORE_BALLOON_H
#define VIRTCORE_BALLOON_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A pool of so many bytes, which is an amount only: nothing is allocated. NULL with
 * vc_errmsg(): VC_ERANGE (0, or no multiple of 4096), VC_ENOMEM. Any thread. */
VC_API vc_pool *vc_pool_new(uint64_t bytes);
/* VC_EBUSY while partitions belong to it. NULL is allowed. */
VC_API int vc_pool_free(vc_pool *pool);
/* Its size from now on. It may be less than what is taken: nobody loses anything, and
 * nobody gets more until enough came back. VC_ERANGE as for vc_pool_new(). Any thread. */
VC_API int vc_pool_resize(vc_pool *pool, uint64_t bytes);

struct vc_pool_info {
    size_t size;
    uint64_t bytes;      /* its size */
    uint64_t taken;      /* of them; more than `bytes` after it was made smaller */
    uint32_t partitions; /* that belong to it */
};
/* Any thread. */
VC_API int vc_pool_info(vc_pool *pool, struct vc_pool_info *info);

/* Asks the guest to have so many bytes of its RAM, from 4096 to all of it in multiples of
 * 4096: writes memory/target in its part of the xenstore, as Xen's toolstack does. Its
 * balloon driver does it, as far and as soon as it can; vc_balloon_info() shows how far it
 * came. A guest without a driver does nothing. Returns at once. VC_ERANGE; VC_ESTATE: no
 * guest of Xen's was loaded. Any thread, but not beside vc_boot(). */
VC_API int vc_balloon_target(vc_vm *vm, uint64_t bytes);

/* The guest gets no more than that from now on, whatever its target; what it has already it
 * keeps. All of its RAM until the first call. Values and errors as above. Any thread, but
 * not beside vc_boot(). */
VC_API int vc_balloon_limit(vc_vm *vm, uint64_t bytes);

struct vc_balloon_info {
    size_t size;
    uint64_t ram;    /* bytes of RAM: the most it can have */
    uint64_t now;    /* of them, those that it has; the others were given back */
    uint64_t target; /* the last vc_balloon_target(), or ram */
    uint64_t limit;  /* the last vc_balloon_limit(), or ram */
};
/* VC_ESTATE: no guest of Xen's was loaded. Any thread, but not beside vc_boot(). */
VC_API int vc_balloon_info(vc_vm *vm, struct vc_balloon_info *info);

#ifdef __cplusplus
}
#endif
#endif
