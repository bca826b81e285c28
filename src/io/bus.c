/* SPDX-License-Identifier: MIT
 * Port and MMIO dispatch.
 *
 * The ranges lie in one immutable table, which a change replaces as a whole.
 * Lookups take no lock: a reader announces itself in one of two counters, and
 * whoever replaced the table waits until both were seen empty. That is only as
 * long as a lookup takes; the handlers run after it, counted by their range. */
#include "bus.h"
#include "../base/err.h"
#include "../base/util.h"
#include "../cpu/env.h"
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

struct range {
    uint64_t base, len;
    uint64_t serial; /* order of registration */
    vc_trap_fn *fn;
    void *ud;
    int id;
    unsigned flags;
    enum vc_space space;
    _Atomic unsigned refs;    /* the table's, and one for each access that found it */
    _Atomic unsigned running; /* handlers that run now, on any thread */
    _Atomic bool dead;        /* deleted: its handler is not called again */
};

/* Groups in the table: each space's ordinary ranges sorted by base, then its
 * BUS_DEFAULT ones in order of registration. */
enum { GROUPS = 4 };
struct table {
    unsigned start[GROUPS + 1]; /* group g is r[start[g]] to r[start[g + 1] - 1] */
    struct range *r[];
};

struct bus {
    pthread_mutex_t big;
    pthread_mutex_t change; /* held by whoever replaces the table */
    pthread_cond_t drained; /* a handler of a dead range returned */
    struct table *_Atomic table;
    _Atomic unsigned phase;      /* low bit: which counter new readers use */
    _Atomic unsigned readers[2]; /* lookups in progress */
    uint64_t serial;
    int last_id;
};

/* The handlers this thread is inside of, innermost first. */
struct frame {
    const struct range *range;
    const struct frame *up;
};
static _Thread_local const struct frame *frames;

enum { GONE = INT_MAX };   /* range_call: deleted before the handler began */
#define DEFAULTS_ONLY 1ull /* table_find: as a serial before all others */

static unsigned group_of(enum vc_space space, unsigned flags)
{
    return 2u * (unsigned)space + ((flags & BUS_DEFAULT) ? 1 : 0);
}

struct bus *bus_new(void)
{
    struct bus *bus = calloc(1, sizeof *bus);
    struct table *t = calloc(1, sizeof *t);
    pthread_mutexattr_t attr;

    if (!bus || !t) {
        free(bus);
        free(t);
        err_set(VC_ENOMEM, "no memory for a bus");
        return NULL;
    }
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&bus->big, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_mutex_init(&bus->change, NULL);
    pthread_cond_init(&bus->drained, NULL);
    atomic_init(&bus->table, t);
    bus->serial = DEFAULTS_ONLY;
    return bus;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    struct table *t = atomic_load(&bus->table);
    for (unsigned i = 0; i < t->start[GROUPS]; i++)
        free(t->r[i]);
    free(t);
    pthread_cond_destroy(&bus->drained);
    pthread_mutex_destroy(&bus->change);
    pthread_mutex_destroy(&bus->big);
    free(bus);
}

void bus_lock(struct bus *bus)
{
    pthread_mutex_lock(&bus->big);
}

void bus_unlock(struct bus *bus)
{
    pthread_mutex_unlock(&bus->big);
}

static void range_put(struct range *r)
{
    if (atomic_fetch_sub(&r->refs, 1) == 1)
        free(r);
}

/* ---- lookup ----------------------------------------------------------------- */

static bool range_holds(const struct range *r, uint64_t addr)
{
    return addr - r->base < r->len && !atomic_load(&r->dead);
}

/* The range of an address. after == 0: the ordinary range, else the first
 * default; otherwise the first default registered after that serial. */
static struct range *table_find(const struct table *t, enum vc_space space, uint64_t addr,
                                uint64_t after)
{
    unsigned g = group_of(space, 0);

    if (!after) {
        unsigned lo = t->start[g], hi = t->start[g + 1];
        while (lo < hi) { /* the last range that begins at or before addr */
            unsigned mid = lo + (hi - lo) / 2;
            if (t->r[mid]->base <= addr)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo > t->start[g] && range_holds(t->r[lo - 1], addr))
            return t->r[lo - 1];
    }
    for (unsigned i = t->start[g + 1]; i < t->start[g + 2]; i++)
        if (t->r[i]->serial > after && range_holds(t->r[i], addr))
            return t->r[i];
    return NULL;
}

/* The same with a reference for the caller. */
static struct range *range_get(struct bus *bus, enum vc_space space, uint64_t addr, uint64_t after)
{
    _Atomic unsigned *readers = &bus->readers[atomic_load(&bus->phase) & 1];

    atomic_fetch_add(readers, 1);
    struct range *r = table_find(atomic_load(&bus->table), space, addr, after);
    if (r)
        atomic_fetch_add(&r->refs, 1);
    atomic_fetch_sub(readers, 1);
    return r;
}

/* ---- access ------------------------------------------------------------------ */

static int range_call(struct bus *bus, struct range *r, struct vc_access *access)
{
    struct frame frame = {.range = r, .up = frames};
    bool locked = !(r->flags & BUS_UNLOCKED);
    int rc = GONE;

    /* Only what really runs is counted: a thread that waits for the lock must
     * not keep bus_del waiting, whose caller may hold it. */
    if (locked)
        bus_lock(bus);
    atomic_fetch_add(&r->running, 1);
    if (!atomic_load(&r->dead)) {
        frames = &frame;
        rc = r->fn(r->ud, access);
        frames = frame.up;
    }
    atomic_fetch_sub(&r->running, 1);
    if (locked)
        bus_unlock(bus);
    if (unlikely(atomic_load(&r->dead))) {
        pthread_mutex_lock(&bus->change);
        pthread_cond_broadcast(&bus->drained);
        pthread_mutex_unlock(&bus->change);
    }
    return rc;
}

/* An access belongs to the range its first byte lies in, whole, even when it
 * reaches beyond that range's end: a device sees what the guest did. A handler
 * that answers ENV_UNHANDLED passes the access on to the defaults. */
int bus_access(struct bus *bus, enum vc_space space, struct vc_access *access)
{
    uint64_t after = 0;

    for (;;) {
        struct range *r = range_get(bus, space, access->addr, after);
        if (!r)
            return ENV_UNHANDLED;
        int rc = range_call(bus, r, access);
        uint64_t next = (r->flags & BUS_DEFAULT) ? r->serial : DEFAULTS_ONLY;
        range_put(r);
        if (rc == GONE)
            continue; /* look again: dead ranges are not found twice */
        if (rc <= 0)
            return rc;
        after = next;
    }
}

/* ---- changes; all under bus->change -------------------------------------------- */

/* Waits until no lookup uses a table that was replaced before. A reader that
 * counts itself after its counter was seen empty finds the new table. One that
 * chose its counter long ago may still arrive in either, hence both. */
static void readers_wait(struct bus *bus)
{
    for (int round = 0; round < 2; round++) {
        unsigned old = atomic_fetch_add(&bus->phase, 1) & 1;
        while (atomic_load(&bus->readers[old]))
            sched_yield(); /* it is a few instructions from done */
    }
}

/* Replaces the table by one without dead ranges and with `add` (may be NULL). */
static int table_replace(struct bus *bus, struct range *add)
{
    struct table *old = atomic_load(&bus->table);
    unsigned n = old->start[GROUPS];
    struct table *t = malloc(sizeof *t + (n + 1) * sizeof t->r[0]);
    unsigned at = 0;

    if (!t)
        return VC_ENOMEM;
    for (unsigned g = 0; g < GROUPS; g++) {
        bool due = add && group_of(add->space, add->flags) == g;
        t->start[g] = at;
        for (unsigned i = old->start[g]; i < old->start[g + 1]; i++) {
            struct range *r = old->r[i];
            if (atomic_load(&r->dead))
                continue;
            if (due && !(add->flags & BUS_DEFAULT) && r->base > add->base) {
                t->r[at++] = add;
                due = false;
            }
            t->r[at++] = r;
        }
        if (due)
            t->r[at++] = add;
    }
    t->start[GROUPS] = at;

    atomic_store(&bus->table, t);
    readers_wait(bus);
    for (unsigned i = 0; i < n; i++)
        if (atomic_load(&old->r[i]->dead))
            range_put(old->r[i]);
    free(old);
    return 0;
}

static struct range *range_by_id(struct bus *bus, int id)
{
    struct table *t = atomic_load(&bus->table);
    for (unsigned i = 0; i < t->start[GROUPS]; i++)
        if (t->r[i]->id == id && !atomic_load(&t->r[i]->dead))
            return t->r[i];
    return NULL;
}

static bool overlaps(struct bus *bus, enum vc_space space, uint64_t base, uint64_t len)
{
    struct table *t = atomic_load(&bus->table);
    unsigned g = group_of(space, 0);

    for (unsigned i = t->start[g]; i < t->start[g + 1]; i++) {
        const struct range *r = t->r[i];
        if (!atomic_load(&r->dead) && base - r->base < r->len)
            return true;
        if (!atomic_load(&r->dead) && r->base - base < len)
            return true;
    }
    return false;
}

static int new_id(struct bus *bus)
{
    do {
        bus->last_id = bus->last_id == INT_MAX ? 1 : bus->last_id + 1;
    } while (range_by_id(bus, bus->last_id));
    return bus->last_id;
}

int bus_add(struct bus *bus, enum vc_space space, uint64_t base, uint64_t len, unsigned flags,
            vc_trap_fn *fn, void *ud)
{
    if (space != VC_SPACE_PORT && space != VC_SPACE_MMIO)
        return err_set(VC_EINVAL, "there is no address space %d", (int)space);
    if (!fn)
        return err_set(VC_EINVAL, "a trap needs a handler");
    if (!len)
        return err_set(VC_EINVAL, "a trap of no addresses");
    if (space == VC_SPACE_PORT && (base > 0xffff || len > 0x10000 - base))
        return err_set(VC_ERANGE, "ports 0x%llx and 0x%llx more: there are 65536",
                       (unsigned long long)base, (unsigned long long)len);
    if (base + (len - 1) < base)
        return err_set(VC_ERANGE, "addresses 0x%llx and 0x%llx more wrap around",
                       (unsigned long long)base, (unsigned long long)len);

    struct range *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(VC_ENOMEM, "no memory for a trap");
    r->space = space;
    r->base = base;
    r->len = len;
    r->flags = flags;
    r->fn = fn;
    r->ud = ud;
    atomic_init(&r->refs, 1);

    pthread_mutex_lock(&bus->change);
    int rc;
    if (!(flags & BUS_DEFAULT) && overlaps(bus, space, base, len)) {
        rc = VC_EEXIST;
    } else {
        int id = r->id = new_id(bus);
        r->serial = ++bus->serial;
        rc = table_replace(bus, r);
        if (!rc)
            rc = id; /* r may be deleted by its own handler from here on */
    }
    pthread_mutex_unlock(&bus->change);

    if (rc < 0) {
        free(r);
        return rc == VC_ENOMEM
                   ? err_set(rc, "no memory for a trap")
                   : err_set(rc, "a trap overlaps %s 0x%llx to 0x%llx",
                             space == VC_SPACE_PORT ? "ports" : "addresses",
                             (unsigned long long)base, (unsigned long long)(base + (len - 1)));
    }
    return rc;
}

int bus_del(struct bus *bus, int id)
{
    pthread_mutex_lock(&bus->change);
    struct range *r = range_by_id(bus, id);
    if (!r) {
        pthread_mutex_unlock(&bus->change);
        return err_set(VC_ENOENT, "there is no trap %d", id);
    }
    atomic_fetch_add(&r->refs, 1);
    atomic_store(&r->dead, true);
    /* Without memory the dead range stays until the next change: lookups pass
     * it by, so deleting never fails. */
    (void)table_replace(bus, NULL);

    unsigned own = 0;
    for (const struct frame *f = frames; f; f = f->up)
        own += f->range == r;
    while (atomic_load(&r->running) > own)
        pthread_cond_wait(&bus->drained, &bus->change);
    pthread_mutex_unlock(&bus->change);
    range_put(r);
    return 0;
}

bool bus_range(struct bus *bus, int id, enum vc_space *space, uint64_t *base, uint64_t *len)
{
    pthread_mutex_lock(&bus->change);
    const struct range *r = range_by_id(bus, id);
    if (r) {
        *space = r->space;
        *base = r->base;
        *len = r->len;
    }
    pthread_mutex_unlock(&bus->change);
    return r != NULL;
}
