/* SPDX-License-Identifier: MIT
 * Event file descriptors tied to the guest's writes and to interrupt lines. An engine
 * that can do it without leaving the kernel is asked to; whatever still comes here,
 * because it cannot or did not want to, is done here, with the same effect. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

struct vm_bind {
    struct vm_bind *next;
    int id;
    struct backend_bind b; /* with a descriptor of our own */
    bool engine;           /* the engine does it */
};

/* The thread that waits for descriptors of interrupt lines. */
struct bind_watch {
    pthread_t thread;
    int epoll, quit; /* quit: an eventfd that ends it */
};

/* ---- the guest's writes ---------------------------------------------------------- */

static bool same_place(const struct backend_bind *a, const struct backend_bind *b)
{
    return a->kind == VC_BIND_WRITE && b->kind == VC_BIND_WRITE && a->space == b->space &&
           a->addr == b->addr && a->len == b->len && a->match == b->match &&
           (!a->match || a->data == b->data);
}

static uint64_t low(uint64_t v, uint32_t len)
{
    return len >= 8 ? v : v & (BIT64(8 * len) - 1);
}

bool vm_bind_write(struct vc_vm *vm, enum vc_space space, const struct vc_access *a)
{
    const uint64_t one = 1;
    bool hit = false;
    pthread_mutex_lock(&vm->bind_lock);
    for (const struct vm_bind *v = vm->binds; v && !hit; v = v->next) {
        const struct backend_bind *b = &v->b;
        hit = b->kind == VC_BIND_WRITE && b->space == space && b->addr == a->addr &&
              b->len == a->len && (!b->match || b->data == low(a->data, a->len));
        /* A counter that is full is signalled already. */
        if (hit && write(b->fd, &one, sizeof one) < 0)
            continue;
    }
    pthread_mutex_unlock(&vm->bind_lock);
    return hit;
}

/* ---- interrupt lines ---------------------------------------------------------------- */

/* With the lock held. The counter is taken without waiting: somebody else may have
 * been faster. */
static void pulse(struct vc_vm *vm, const struct vm_bind *v)
{
    uint64_t count;
    struct iovec iov = {&count, sizeof count};
    if (preadv2(v->b.fd, &iov, 1, -1, RWF_NOWAIT) != sizeof count)
        return;
    irqchip_line(vm->irq, v->b.gsi, 1);
    irqchip_line(vm->irq, v->b.gsi, 0);
}

static void *watch_main(void *ud)
{
    struct vc_vm *vm = ud;
    struct epoll_event ev;
    for (;;) {
        int n = epoll_wait(vm->watch->epoll, &ev, 1, -1);
        if (n < 0 && errno != EINTR)
            return NULL;
        if (n < 1)
            continue;
        if (ev.data.u64 == 0)
            return NULL;
        pthread_mutex_lock(&vm->bind_lock);
        for (const struct vm_bind *v = vm->binds; v; v = v->next)
            if ((uint64_t)v->id == ev.data.u64)
                pulse(vm, v);
        pthread_mutex_unlock(&vm->bind_lock);
    }
}

static void watch_free(struct bind_watch *w)
{
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->quit >= 0)
        close(w->quit);
    free(w);
}

/* With the lock held: on the first need. */
static int watch_start(struct vc_vm *vm)
{
    if (vm->watch)
        return 0;
    struct bind_watch *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(VC_ENOMEM, "no memory for a thread that waits for events");
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->quit = eventfd(0, EFD_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0};
    vm->watch = w;
    if (w->epoll >= 0 && w->quit >= 0 && !epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->quit, &ev) &&
        !pthread_create(&w->thread, NULL, watch_main, vm))
        return 0;
    vm->watch = NULL;
    watch_free(w);
    return err_set(VC_ELIMIT, "the host gives no thread or file descriptor to wait for events; "
                              "look at ulimit -n and -u");
}

static int watch_add(struct vc_vm *vm, const struct vm_bind *v)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint64_t)v->id};
    int rc = watch_start(vm);
    if (!rc && epoll_ctl(vm->watch->epoll, EPOLL_CTL_ADD, v->b.fd, &ev))
        rc = err_set(VC_EIO, "the descriptor cannot be waited for: %s", strerrordesc_np(errno));
    return rc;
}

/* ---- the engine's part ---------------------------------------------------------------- */

static bool engine_bind(struct vc_vm *vm, struct vm_bind *v, bool on)
{
    if (!vm->be->bind || !vm->bvm)
        return false;
    bool ok = !vm->be->bind(vm->bvm, on, &v->b);
    if (!ok)
        err_begin(); /* it is done here then */
    return ok;
}

void vm_bind_reopened(struct vc_vm *vm)
{
    pthread_mutex_lock(&vm->bind_lock);
    for (struct vm_bind *v = vm->binds; v; v = v->next)
        v->engine = engine_bind(vm, v, true);
    pthread_mutex_unlock(&vm->bind_lock);
}

/* ---- the calls --------------------------------------------------------------------------- */

static bool is_eventfd(int fd)
{
    char path[40], target[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target);
    return n == 20 && !memcmp(target, "anon_inode:[eventfd]", 20);
}

static int check_write(struct vc_vm *vm, const struct vc_bind *b)
{
    bool port = b->space == VC_SPACE_PORT;
    if (!port && b->space != VC_SPACE_MMIO)
        return err_set(VC_EINVAL, "space %u is neither ports nor MMIO", b->space);
    if (b->len != 1 && b->len != 2 && b->len != 4 && (b->len != 8 || port))
        return err_set(VC_EINVAL, "a write of %u bytes is none of a bus", b->len);
    uint64_t end = port ? 0x10000 : BIT64(52);
    if (b->addr >= end || b->len > end - b->addr)
        return err_set(VC_ERANGE, "%#llx lies above %#llx", (unsigned long long)b->addr,
                       (unsigned long long)end);
    unsigned pin = mem_pin(&vm->mem);
    bool ram = !port && mem_find(&vm->mem, b->addr);
    mem_unpin(&vm->mem, pin);
    return ram ? err_set(VC_ERANGE, "RAM is mapped at %#llx: writes there leave nobody a trace",
                         (unsigned long long)b->addr)
               : 0;
}

static int check_bind(struct vc_vm *vm, const struct vc_bind *b)
{
    if (b->flags & ~VC_BIND_MATCH)
        return err_set(VC_EINVAL, "flags %#x are not all VC_BIND_*", b->flags);
    if (!is_eventfd(b->fd))
        return err_set(VC_EINVAL, "descriptor %d is no eventfd", b->fd);
    switch (b->kind) {
    case VC_BIND_WRITE: return check_write(vm, b);
    case VC_BIND_IRQ:
        if (!vm->irq)
            return err_set(VC_ENOTSUP, "an interrupt line needs the interrupt controllers that "
                                       "vc_pc() attaches");
        return b->gsi > 23 ? err_set(VC_ERANGE, "interrupt line %u: there are 0 to 23", b->gsi) : 0;
    default: return err_set(VC_EINVAL, "kind %u is not one of VC_BIND_*", b->kind);
    }
}

/* With the lock held. */
static int link_bind(struct vc_vm *vm, struct vm_bind *v)
{
    for (const struct vm_bind *other = vm->binds; other; other = other->next)
        if (same_place(&other->b, &v->b))
            return err_set(VC_EEXIST, "such writes to %#llx signal a descriptor already",
                           (unsigned long long)v->b.addr);
    v->id = vm->bind_id == INT_MAX ? 1 : vm->bind_id + 1;
    v->engine = engine_bind(vm, v, true);
    int rc = v->b.kind == VC_BIND_IRQ && !v->engine ? watch_add(vm, v) : 0;
    if (rc)
        return rc;
    vm->bind_id = v->id;
    v->next = vm->binds;
    vm->binds = v;
    atomic_fetch_add(&vm->nbinds, 1);
    return 0;
}

int vc_bind_fd(vc_vm *vm, const struct vc_bind *bind)
{
    if (!vm || !bind)
        return err_null(vm ? "bind" : "vm");
    err_begin();
    struct vc_bind b = {.size = sizeof b};
    int rc = args_in(&b, sizeof b, bind, "bind");
    if (!rc)
        rc = check_bind(vm, &b);
    if (rc)
        return rc;
    struct vm_bind *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(VC_ENOMEM, "no memory for a binding");
    v->b = (struct backend_bind){
        .kind = b.kind,
        .space = (enum vc_space)b.space,
        .addr = b.addr,
        .len = b.len,
        .match = b.flags & VC_BIND_MATCH,
        .data = low(b.data, b.len),
        .gsi = b.gsi,
        .fd = fcntl(b.fd, F_DUPFD_CLOEXEC, 0),
    };
    if (v->b.fd < 0) {
        free(v);
        return err_set(VC_ELIMIT, "no file descriptor is left; raise the limit (ulimit -n)");
    }
    pthread_mutex_lock(&vm->bind_lock);
    rc = link_bind(vm, v);
    pthread_mutex_unlock(&vm->bind_lock);
    if (!rc)
        return v->id;
    close(v->b.fd);
    free(v);
    return rc;
}

static void drop(struct vc_vm *vm, struct vm_bind *v)
{
    if (v->engine)
        engine_bind(vm, v, false);
    else if (v->b.kind == VC_BIND_IRQ)
        epoll_ctl(vm->watch->epoll, EPOLL_CTL_DEL, v->b.fd, NULL);
    close(v->b.fd);
    free(v);
    atomic_fetch_sub(&vm->nbinds, 1);
}

int vc_unbind_fd(vc_vm *vm, int id)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    pthread_mutex_lock(&vm->bind_lock);
    struct vm_bind **at = &vm->binds, *v;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    v = *at;
    if (v) {
        *at = v->next;
        drop(vm, v);
    }
    pthread_mutex_unlock(&vm->bind_lock);
    return v ? 0 : err_set(VC_ENOENT, "no binding has the id %d", id);
}

void vm_binds_free(struct vc_vm *vm)
{
    const uint64_t one = 1;
    if (vm->watch) {
        if (write(vm->watch->quit, &one, sizeof one) == sizeof one)
            pthread_join(vm->watch->thread, NULL);
    }
    while (vm->binds) {
        struct vm_bind *v = vm->binds;
        vm->binds = v->next;
        drop(vm, v);
    }
    if (vm->watch)
        watch_free(vm->watch);
    vm->watch = NULL;
}
