/* SPDX-License-Identifier: MIT
 * A guest for back ends: pages, grants and ports without a machine. Grant n is page n. */
#ifndef TESTS_UNIT_FAKE_FRONT_H
#define TESTS_UNIT_FAKE_FRONT_H

#include "pv/front.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FAKE_PAGES
#define FAKE_PAGES 600u
#endif
#define FAKE_PORTS 16u

struct fake {
    struct pv_front front;
    _Alignas(4096) uint8_t page[FAKE_PAGES][4096];
    bool granted[FAKE_PAGES], readonly[FAKE_PAGES];
    unsigned mapped[FAKE_PAGES];
    unsigned faults; /* of the back end: what it unmaps or frees wrongly */
    void (*fn[FAKE_PORTS])(void *ud);
    void *ud[FAKE_PORTS];
    _Atomic unsigned notified[FAKE_PORTS];
    pthread_mutex_t lock;
};

static inline void *fake_map(void *ctx, uint32_t ref, bool write, uint64_t *gpa)
{
    struct fake *f = ctx;
    void *p = NULL;
    pthread_mutex_lock(&f->lock);
    if (ref < FAKE_PAGES && f->granted[ref] && !(write && f->readonly[ref])) {
        f->mapped[ref]++;
        *gpa = (ref * 4096ull) | write;
        p = f->page[ref];
    }
    pthread_mutex_unlock(&f->lock);
    return p;
}

static inline void fake_unmap(void *ctx, uint32_t ref, bool write, uint64_t gpa)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (ref >= FAKE_PAGES || !f->mapped[ref] || gpa != ((ref * 4096ull) | write))
        f->faults++;
    else
        f->mapped[ref]--;
    pthread_mutex_unlock(&f->lock);
}

/* A back end never asks for bytes behind the frame. */
static inline bool fake_copy(void *ctx, uint32_t ref, bool write, uint32_t off, void *buf,
                             uint32_t n)
{
    struct fake *f = ctx;
    uint64_t gpa;
    uint8_t *p = fake_map(ctx, ref, write, &gpa);
    if (!p)
        return false;
    bool in = off <= 4096 && n <= 4096 - off;
    f->faults += !in;
    if (in && write)
        memcpy(p + off, buf, n);
    else if (in)
        memcpy(buf, p + off, n);
    fake_unmap(ctx, ref, write, gpa);
    return in;
}

static inline int fake_connect(void *ctx, uint32_t port, void (*fn)(void *ud), void *ud)
{
    struct fake *f = ctx;
    if (!port || port >= FAKE_PORTS || f->fn[port]) /* port 0 is never anyone's */
        return -22;
    f->fn[port] = fn;
    f->ud[port] = ud;
    return 0;
}

static inline void fake_disconnect(void *ctx, uint32_t port)
{
    struct fake *f = ctx;
    if (port >= FAKE_PORTS || !f->fn[port])
        f->faults++;
    else
        f->fn[port] = NULL;
}

static inline void fake_notify(void *ctx, uint32_t port)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (port < FAKE_PORTS)
        f->notified[port]++;
    pthread_mutex_unlock(&f->lock);
}

/* The guest sends on a port. */
static inline void fake_send(struct fake *f, uint32_t port)
{
    if (f->fn[port])
        f->fn[port](f->ud[port]);
}

static inline struct fake *fake_new(void)
{
    struct fake *f = aligned_alloc(4096, (sizeof *f + 4095) & ~4095ul);
    if (!f)
        abort();
    memset(f, 0, sizeof *f);
    f->front = (struct pv_front){.xs = xs_new(),
                                 .domid = 1,
                                 .ctx = f,
                                 .map = fake_map,
                                 .unmap = fake_unmap,
                                 .copy = fake_copy,
                                 .connect = fake_connect,
                                 .disconnect = fake_disconnect,
                                 .notify = fake_notify};
    memset(f->granted, 1, sizeof f->granted);
    pthread_mutex_init(&f->lock, NULL);
    if (!f->front.xs)
        abort();
    return f;
}

/* How many grants the back end still holds, and what else it did wrong. */
static inline unsigned fake_leaks(const struct fake *f)
{
    unsigned n = f->faults;
    for (unsigned i = 0; i < FAKE_PAGES; i++)
        n += f->mapped[i];
    for (unsigned i = 0; i < FAKE_PORTS; i++)
        n += f->fn[i] != NULL;
    return n;
}

static inline void fake_free(struct fake *f)
{
    xs_free(f->front.xs);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* The guest's node of a device, and what the back end says. */
static inline void fake_say(struct fake *f, const char *dev, const char *node, const char *value)
{
    char path[200];
    snprintf(path, sizeof path, "/local/domain/1/device/%s/%s", dev, node);
    if (xs_write(f->front.xs, path, value, strlen(value)))
        abort();
}

static inline unsigned fake_state(struct fake *f, const char *kind, const char *id)
{
    char path[200];
    uint64_t v = 0;
    snprintf(path, sizeof path, "/local/domain/0/backend/%s/1/%s/state", kind, id);
    xs_read_num(f->front.xs, path, 8, &v);
    return (unsigned)v;
}

#endif
