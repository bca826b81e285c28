/* SPDX-License-Identifier: MIT
 * The partition's disks and network links, and their back ends while a guest that can
 * see them is loaded. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../io/block.h"
#include "../io/net.h"
#include <stdlib.h>
#include <virtcore/disk.h>

#ifdef HAVE_XEN

#include "../pv/blkback.h"
#include "../pv/netback.h"
#include "../pv/pv.h"

#define DISKS_MAX 16u
#define LINKS_MAX 8u
#define XVDA      51712u /* Xen's number of the first disk: major 202, 16 minors each */

struct vm_attached {
    struct vm_attached *next;
    unsigned nr; /* among its kind */
    uint8_t mac[6];
    struct block *disk; /* one of the two */
    struct net *link;
    void (*free)(void *ud); /* the embedder's, of its disk */
    void *ud;
    struct blkback *blkback; /* while a guest has it */
    struct netback *netback;
};

/* ---- back ends ------------------------------------------------------------------------ */

static int join(struct vc_vm *vm, struct vm_attached *a)
{
    if (a->disk)
        a->blkback = blkback_new(vm->front, a->disk, XVDA + 16 * a->nr);
    else
        a->netback = netback_new(vm->front, a->link, a->nr, a->mac);
    return a->blkback || a->netback ? 0 : vc_errcode();
}

int vm_attached_join(struct vc_vm *vm)
{
    int rc = 0;
    vm->front = malloc(sizeof *vm->front);
    if (!vm->front)
        return err_set(VC_ENOMEM, "no memory for the guest's disks");
    pv_front_of(vm->pv, vm->front);
    for (struct vm_attached *a = vm->attached; a && !rc; a = a->next)
        rc = join(vm, a);
    return rc;
}

void vm_attached_leave(struct vc_vm *vm)
{
    for (struct vm_attached *a = vm->attached; a; a = a->next) {
        if (a->blkback)
            blkback_free(a->blkback);
        if (a->netback)
            netback_free(a->netback);
        a->blkback = NULL;
        a->netback = NULL;
    }
    free(vm->front);
    vm->front = NULL;
}

static void attached_free(struct vm_attached *a)
{
    if (a->disk)
        block_close(a->disk);
    net_free(a->link);
    if (a->free)
        a->free(a->ud);
    free(a);
}

void vm_attached_free(struct vc_vm *vm)
{
    while (vm->attached) {
        struct vm_attached *a = vm->attached;
        vm->attached = a->next;
        attached_free(a);
    }
}

/* ---- adding ------------------------------------------------------------------------------ */

/* Takes what was made, at the list's end. Its number, or a code: then it is gone. link: how
 * one was described. */
static int add(struct vc_vm *vm, struct vm_attached *made, const char *link)
{
    struct vm_attached **at = &vm->attached, *a;
    unsigned nr = 0;
    for (; *at; at = &(*at)->next)
        nr += !(*at)->disk == !made->disk;
    made->nr = nr;
    if (!made->disk &&
        !(made->mac[0] | made->mac[1] | made->mac[2] | made->mac[3] | made->mac[4] | made->mac[5]))
        net_default_mac(link, nr, made->mac);
    a = malloc(sizeof *a);
    if (!a) {
        if (made->disk)
            block_close(made->disk);
        net_free(made->link);
        return err_set(VC_ENOMEM, "no memory for one more device");
    }
    *a = *made;
    *at = a;
    if (vm->front && join(vm, a)) {
        int rc = vc_errcode();
        *at = NULL;
        a->free = NULL; /* ud stays the caller's */
        attached_free(a);
        return rc;
    }
    return (int)nr;
}

/* May one more of them be added? */
static int check(struct vc_vm *vm, bool disk)
{
    unsigned n = 0, max = disk ? DISKS_MAX : LINKS_MAX;
    if (!vm->be->pv)
        return err_set(VC_ENOTSUP, "backend %s has no device for it yet: open pv", vm->be->name);
    if (!vm->pc)
        return err_set(VC_ESTATE, "call vc_pc() first: a bare partition has no devices");
    for (const struct vm_attached *a = vm->attached; a; a = a->next)
        n += !a->disk != disk;
    return n < max ? 0
                   : err_set(VC_ELIMIT, "there are %u %s already, and may be no more", max,
                             disk ? "disks" : "network links");
}

static struct block *disk_open(const struct vc_disk_opts *o, const struct vc_disk_ops *ops)
{
    bool read_only = o->flags & VC_DISK_READ_ONLY;
    if (o->path)
        return block_open(o->path, read_only);
    const struct block_ops b = {
        .read = ops->read, .write = ops->write, .flush = ops->flush, .discard = ops->discard};
    return block_new(&b, o->ud, o->bytes, read_only);
}

static int disk_add(struct vc_vm *vm, const struct vc_disk_opts *o, const struct vc_disk_ops *ops)
{
    int rc = check(vm, true);
    if (!rc && !o->path == !o->ops)
        rc = err_set(VC_EINVAL, "a disk is a path or ops, one of the two");
    if (!rc && o->flags & ~VC_DISK_READ_ONLY)
        rc = err_set(VC_EINVAL, "flags %#x are not all VC_DISK_*", o->flags);
    if (!rc && !o->path && !ops->read)
        rc = err_set(VC_EINVAL, "ops has no read");
    if (rc)
        return rc;
    struct vm_attached a = {.disk = disk_open(o, ops), .free = ops->free, .ud = o->ud};
    return a.disk ? add(vm, &a, NULL) : vc_errcode();
}

int vc_disk_add(vc_vm *vm, const struct vc_disk_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    struct vc_disk_opts o = {.size = sizeof o};
    struct vc_disk_ops ops = {.size = sizeof ops};
    int rc = args_in(&o, sizeof o, opts, "disk_opts");
    if (!rc && o.ops)
        rc = args_in(&ops, sizeof ops, o.ops, "disk_ops");
    if (rc)
        return rc;
    rc = vm_pause(vm);
    if (rc)
        return rc;
    rc = disk_add(vm, &o, &ops);
    vm_resume(vm);
    return rc;
}

static int net_add(struct vc_vm *vm, const struct vc_net_opts *o)
{
    int rc = check(vm, false);
    if (rc)
        return rc;
    if (o->mac[0] & 1)
        return err_set(VC_EINVAL, "the address %02x:... is a group's", o->mac[0]);
    struct vm_attached a = {.link = net_open(o->link)};
    memcpy(a.mac, o->mac, sizeof a.mac);
    return a.link ? add(vm, &a, o->link) : vc_errcode();
}

int vc_net_add(vc_vm *vm, const struct vc_net_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    struct vc_net_opts o = {.size = sizeof o};
    int rc = args_in(&o, sizeof o, opts, "net_opts");
    if (rc)
        return rc;
    if (!o.link)
        return err_null("opts->link");
    rc = vm_pause(vm);
    if (rc)
        return rc;
    rc = net_add(vm, &o);
    vm_resume(vm);
    return rc;
}

#else

void vm_attached_free(struct vc_vm *vm)
{
    (void)vm;
}

static int no_xen(void)
{
    return err_set(VC_ENOTSUP, "this library was built without Xen's headers: it has no device "
                               "for it");
}

int vc_disk_add(vc_vm *vm, const struct vc_disk_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    return no_xen();
}

int vc_net_add(vc_vm *vm, const struct vc_net_opts *opts)
{
    if (!vm || !opts)
        return err_null(vm ? "opts" : "vm");
    err_begin();
    return no_xen();
}

#endif
