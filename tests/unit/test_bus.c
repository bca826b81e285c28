/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/err.h"
#include "base/util.h"
#include "cpu/env.h"
#include "io/bus.h"

static struct bus *bus;

static void setup(void)
{
    bus = bus_new();
    cr_assert(bus != NULL);
}
static void teardown(void)
{
    bus_free(bus);
}
TestSuite(bus, .init = setup, .fini = teardown, .timeout = 60);

static int answer(void *ud, struct vc_access *a)
{
    a->data = (uint64_t)(uintptr_t)ud;
    return 0;
}

static int pass(void *ud, struct vc_access *a)
{
    (void)a;
    ++*(int *)ud;
    return ENV_UNHANDLED;
}

static int fail(void *ud, struct vc_access *a)
{
    (void)ud;
    (void)a;
    return VC_EIO;
}

#define UD(n) ((void *)(uintptr_t)(n))

static int64_t read_at(enum vc_space space, uint64_t addr, uint32_t len)
{
    struct vc_access a = {.addr = addr, .len = len};
    int rc = bus_access(bus, space, &a);
    return rc ? -1 : (int64_t)a.data;
}

Test(bus, finds_by_first_byte)
{
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0x20, 2, 0, answer, UD(1)) > 0);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0x10, 8, 0, answer, UD(2)) > 0);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0x22, 1, 0, answer, UD(3)) > 0);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0x20, 2, 0, answer, UD(4)) > 0);
    cr_assert(read_at(VC_SPACE_PORT, 0x20, 1) == 1);
    cr_assert(read_at(VC_SPACE_PORT, 0x21, 4) == 1, "reaches beyond the end");
    cr_assert(read_at(VC_SPACE_PORT, 0x22, 1) == 3);
    cr_assert(read_at(VC_SPACE_PORT, 0x10, 1) == 2);
    cr_assert(read_at(VC_SPACE_PORT, 0x17, 1) == 2);
    cr_assert(read_at(VC_SPACE_PORT, 0x18, 1) == -1);
    cr_assert(read_at(VC_SPACE_PORT, 0x0f, 4) == -1, "reaches into a range");
    cr_assert(read_at(VC_SPACE_PORT, 0x23, 1) == -1);
    cr_assert(read_at(VC_SPACE_MMIO, 0x21, 8) == 4);
}

Test(bus, refuses_bad_ranges)
{
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0, 0, 0, answer, NULL) == VC_EINVAL);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0xffff, 2, 0, answer, NULL) == VC_ERANGE);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0x10000, 1, 0, answer, NULL) == VC_ERANGE);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, ~0ull, 2, 0, answer, NULL) == VC_ERANGE);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, ~0ull, 1, 0, answer, NULL) > 0);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0, 1, 0, NULL, NULL) == VC_EINVAL);
    cr_assert(bus_add(bus, (enum vc_space)2, 0, 1, 0, answer, NULL) == VC_EINVAL);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0, 0x10000, 0, answer, NULL) > 0);
    cr_assert(bus_add(bus, VC_SPACE_PORT, 0x80, 1, 0, answer, NULL) == VC_EEXIST);
    cr_assert(bus_del(bus, 77) == VC_ENOENT);
}

Test(bus, overlaps_at_both_ends)
{
    int id = bus_add(bus, VC_SPACE_MMIO, 0x1000, 0x1000, 0, answer, UD(1));
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0xfff, 2, 0, answer, NULL) == VC_EEXIST);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0x1fff, 1, 0, answer, NULL) == VC_EEXIST);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0, 0x3000, 0, answer, NULL) == VC_EEXIST);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0x2000, 1, 0, answer, NULL) > 0);
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0xfff, 1, 0, answer, NULL) > 0);

    enum vc_space space;
    uint64_t base, len;
    cr_assert(bus_range(bus, id, &space, &base, &len));
    cr_assert(space == VC_SPACE_MMIO && base == 0x1000 && len == 0x1000);
    cr_assert(bus_del(bus, id) == 0);
    cr_assert(bus_del(bus, id) == VC_ENOENT);
    cr_assert(!bus_range(bus, id, &space, &base, &len));
    cr_assert(bus_add(bus, VC_SPACE_MMIO, 0x1000, 1, 0, answer, UD(2)) > 0);
    cr_assert(read_at(VC_SPACE_MMIO, 0x1000, 4) == 2);
}

Test(bus, defaults_are_asked_last_and_in_order)
{
    int first = 0, own = 0;
    bus_add(bus, VC_SPACE_MMIO, 0, 1ull << 52, BUS_DEFAULT, pass, &first);
    bus_add(bus, VC_SPACE_MMIO, 0x5000, 0x1000, BUS_DEFAULT, answer, UD(7));
    bus_add(bus, VC_SPACE_MMIO, 0x5000, 4, 0, answer, UD(1));
    bus_add(bus, VC_SPACE_MMIO, 0x5004, 4, 0, pass, &own);
    cr_assert(read_at(VC_SPACE_MMIO, 0x5000, 4) == 1);
    cr_assert(first == 0);
    cr_assert(read_at(VC_SPACE_MMIO, 0x5004, 4) == 7);
    cr_assert(own == 1 && first == 1);
    cr_assert(read_at(VC_SPACE_MMIO, 0x9000, 4) == -1);
    cr_assert(first == 2);
}

Test(bus, a_handlers_code_comes_back)
{
    struct vc_access a = {.addr = 1, .len = 1};
    bus_add(bus, VC_SPACE_PORT, 1, 1, 0, fail, NULL);
    cr_assert(bus_access(bus, VC_SPACE_PORT, &a) == VC_EIO);
}

struct self {
    int id, calls;
};
static int delete_self(void *ud, struct vc_access *a)
{
    struct self *s = ud;
    a->data = 5;
    s->calls++;
    return bus_del(bus, s->id);
}

Test(bus, a_handler_deletes_itself)
{
    for (unsigned flags = 0; flags <= BUS_UNLOCKED; flags++) {
        struct self s = {0};
        s.id = bus_add(bus, VC_SPACE_PORT, 0x80, 1, flags, delete_self, &s);
        cr_assert(read_at(VC_SPACE_PORT, 0x80, 1) == 5);
        cr_assert(read_at(VC_SPACE_PORT, 0x80, 1) == -1);
        cr_assert(s.calls == 1);
    }
}

static int replace_self(void *ud, struct vc_access *a)
{
    struct self *s = ud;
    bus_del(bus, s->id);
    s->id = bus_add(bus, VC_SPACE_PORT, 0x80, 1, 0, answer, UD(9));
    struct vc_access inner = {.addr = 0x80, .len = 1};
    int rc = bus_access(bus, VC_SPACE_PORT, &inner); /* nested, under the same lock */
    a->data = inner.data;
    return rc;
}

Test(bus, a_handler_replaces_itself)
{
    struct self s = {0};
    s.id = bus_add(bus, VC_SPACE_PORT, 0x80, 1, 0, replace_self, &s);
    cr_assert(read_at(VC_SPACE_PORT, 0x80, 1) == 9);
    cr_assert(read_at(VC_SPACE_PORT, 0x80, 1) == 9);
}

/* ---- threads ------------------------------------------------------------------------ */

struct slow {
    _Atomic int inside, leave, left;
};
static int slow_handler(void *ud, struct vc_access *a)
{
    struct slow *s = ud;
    (void)a;
    atomic_store(&s->inside, 1);
    while (!atomic_load(&s->leave))
        sched_yield();
    usleep(10000);
    atomic_store(&s->left, 1);
    return 0;
}
static void *access_0x80(void *ud)
{
    struct vc_access a = {.addr = 0x80, .len = 1};
    *(int *)ud = bus_access(bus, VC_SPACE_PORT, &a);
    return NULL;
}

Test(bus, deleting_waits_for_a_handler_elsewhere)
{
    for (unsigned flags = 0; flags <= BUS_UNLOCKED; flags++) {
        struct slow s = {0};
        pthread_t t;
        int rc = -1;
        int id = bus_add(bus, VC_SPACE_PORT, 0x80, 1, flags, slow_handler, &s);
        pthread_create(&t, NULL, access_0x80, &rc);
        while (!atomic_load(&s.inside))
            sched_yield();
        atomic_store(&s.leave, 1);
        cr_assert(bus_del(bus, id) == 0);
        cr_assert(atomic_load(&s.left), "came back before the handler did");
        pthread_join(t, NULL);
        cr_assert(rc == ENV_HANDLED);
    }
}

/* A vCPU that waits for the lock must neither block the deletion by its holder
 * nor call the handler afterwards. */
Test(bus, deleting_under_the_lock)
{
    struct self s = {0};
    pthread_t t;
    int rc = -1;
    s.id = bus_add(bus, VC_SPACE_PORT, 0x80, 1, 0, delete_self, &s);
    bus_lock(bus);
    pthread_create(&t, NULL, access_0x80, &rc);
    usleep(20000);
    cr_assert(bus_del(bus, s.id) == 0);
    bus_unlock(bus);
    pthread_join(t, NULL);
    cr_assert(s.calls == 0);
    cr_assert(rc == ENV_UNHANDLED);
}

struct cell {
    _Atomic int alive;
    int plain; /* changed under the bus lock alone */
    bool locked;
};
static _Atomic bool stop;
static _Atomic int bad, hits;

static int cell_handler(void *ud, struct vc_access *a)
{
    struct cell *c = ud;
    if (atomic_load(&c->alive) != 1)
        atomic_fetch_add(&bad, 1);
    if (c->locked)
        c->plain++;
    a->data = 1;
    atomic_fetch_add(&hits, 1);
    return 0;
}

static void *hammer(void *ud)
{
    unsigned x = (unsigned)(uintptr_t)ud;
    while (!atomic_load(&stop)) {
        x = x * 1103515245u + 12345u;
        struct vc_access a = {.addr = 0x1000u + (x >> 16) % 64 * 16, .len = 4};
        bus_access(bus, VC_SPACE_MMIO, &a);
    }
    return NULL;
}

static void *churn(void *ud)
{
    unsigned lane = (unsigned)(uintptr_t)ud;
    for (int round = 0; round < 1500; round++) {
        uint64_t base = 0x1000u + (lane + 2u * (unsigned)(round % 16)) * 16;
        struct cell *c = calloc(1, sizeof *c);
        atomic_store(&c->alive, 1);
        c->locked = round & 1;
        int id =
            bus_add(bus, VC_SPACE_MMIO, base, 16, c->locked ? 0 : BUS_UNLOCKED, cell_handler, c);
        if (id < 0)
            atomic_fetch_add(&bad, 1);
        if (round % 8 == 0)
            usleep(50);
        if (bus_del(bus, id))
            atomic_fetch_add(&bad, 1);
        atomic_store(&c->alive, -1);
        free(c);
    }
    return NULL;
}

Test(bus, add_and_delete_under_access)
{
    struct cell still = {.alive = 1, .locked = true};
    pthread_t reader[2], writer[2];
    bus_add(bus, VC_SPACE_MMIO, 0x1000 + 63 * 16, 16, 0, cell_handler, &still);
    for (unsigned i = 0; i < 2; i++) {
        pthread_create(&reader[i], NULL, hammer, UD(i + 1));
        pthread_create(&writer[i], NULL, churn, UD(i));
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(writer[i], NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(reader[i], NULL);
    cr_assert(atomic_load(&bad) == 0);
    cr_assert(atomic_load(&hits) > 0);
}
