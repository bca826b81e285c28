/* SPDX-License-Identifier: MIT
 *
 * virtcore/xenstore.h - the store through which Xen guests and the machine around them
 * talk: a tree of small values, with watches.
 *
 * A partition has one store; it is there from the first of these calls on, whether a
 * Xen guest runs or not. The embedder is the store's domain 0: it may read and change
 * everything. Guests see it by Xen's protocol, with permissions, and quotas: a guest
 * owns at most 1000 nodes of at most 2048 bytes each, 128 watches and 10 open
 * transactions.
 *
 * Paths are absolute ("/local/domain/1/name"): letters, digits and "-_@" between single
 * slashes, none at the end, at most 3072 bytes and 128 names. Anything else is
 * VC_EINVAL. All calls return VC_ENOTSUP in a library that was built without Xen's
 * headers.
 */
#ifndef VIRTCORE_XENSTORE_H
#define VIRTCORE_XENSTORE_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a value. Its whole length goes to *len (which may be NULL); at most cap bytes
 * are copied to buf, and no terminator. VC_ENOENT when there is no such node. Any
 * thread. */
VC_API int vc_xs_read(vc_vm *vm, const char *path, void *buf, size_t cap, size_t *len);

/* Writes a value of at most 4096 bytes (VC_ERANGE); makes the node, and those above it,
 * when they are missing. A new node has the permissions of the one above it. Any
 * thread. */
VC_API int vc_xs_write(vc_vm *vm, const char *path, const void *value, size_t len);

/* The names of a node's children, sorted, each with its terminator, as vc_xs_read()
 * gives a value: *len is what all of them need. Any thread. */
VC_API int vc_xs_list(vc_vm *vm, const char *path, char *buf, size_t cap, size_t *len);

/* Removes a node and all below it. VC_ENOENT when there is none above it either; not
 * when only the node itself is missing. Any thread. */
VC_API int vc_xs_rm(vc_vm *vm, const char *path);

/* Sets who may what, in Xen's letters: "n0 r1 b2" - domain 0 owns the node, domain 1
 * may read it, 2 may read and write it, all others may do nothing ("n": none, "r", "w",
 * "b": both; the first names the owner and what all others may). At most 8 of them.
 * Any thread. */
VC_API int vc_xs_perms(vc_vm *vm, const char *path, const char *perms);

/* Called once when the watch is set, with the watched path, and after each change of
 * that node or of one below it, with the path that changed; it runs on the thread that
 * made the change (a vCPU's, where the guest did), or on one that is inside such a
 * function already, one at a time for each VM. Changes of the same path may be told as
 * one, and many at once as one of the watched path. It may use every call here. It must
 * not call vc_run or vc_close. */
typedef void vc_xs_watch_fn(void *ud, const char *path);

/* Watches a path, which need not be there; or "@introduceDomain", "@releaseDomain": a
 * guest's connection came or went. Returns an id > 0. Any thread. */
VC_API int vc_xs_watch(vc_vm *vm, const char *path, vc_xs_watch_fn *fn, void *ud);

/* Ends a watch; waits for its function when that runs on another thread, so that `ud`
 * may be freed afterwards. VC_ENOENT for an unknown id. Any thread. */
VC_API int vc_xs_unwatch(vc_vm *vm, int id);

#ifdef __cplusplus
}
#endif
#endif
