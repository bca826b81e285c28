/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <unistd.h>
#include "base/util.h"
#include "io/clock.h"

#define MS 1000000ull

static struct clock *clk;

static void setup(void)
{
    clk = clock_new(1000000000);
    cr_assert(clk != NULL);
}
static void teardown(void)
{
    clock_free(clk);
}
TestSuite(clock, .init = setup, .fini = teardown, .timeout = 60);

struct shot {
    struct clock_timer *t;
    _Atomic int count;
    _Atomic uint64_t when;
    _Atomic int order;
};
static _Atomic int order;

static void fire(void *ud)
{
    struct shot *s = ud;
    atomic_store(&s->when, host_now_ns());
    atomic_store(&s->order, atomic_fetch_add(&order, 1));
    atomic_fetch_add(&s->count, 1);
}

static void await(_Atomic int *v, int n)
{
    for (int i = 0; i < 5000 && atomic_load(v) < n; i++)
        usleep(1000);
    cr_assert(atomic_load(v) >= n);
}

Test(clock, free_without_timers)
{
    cr_assert(clock_tsc_hz(clk) == 1000000000);
}

Test(clock, fires_not_before_its_time)
{
    struct shot s = {.t = clock_timer_new(clk, fire, &s)};
    uint64_t at = clock_now(clk) + 20 * MS;
    clock_timer_arm(s.t, at);
    await(&s.count, 1);
    cr_assert(s.when >= at);
    usleep(10000);
    cr_assert(s.count == 1);
    clock_timer_free(s.t);
}

Test(clock, arming_again_replaces_and_disarming_cancels)
{
    struct shot a = {.t = clock_timer_new(clk, fire, &a)};
    struct shot b = {.t = clock_timer_new(clk, fire, &b)};
    uint64_t now = clock_now(clk);
    clock_timer_arm(a.t, now + 10000 * MS);
    clock_timer_arm(b.t, now + 15 * MS);
    clock_timer_arm(a.t, now + 5 * MS);
    clock_timer_disarm(b.t);
    await(&a.count, 1);
    usleep(30000);
    cr_assert(b.count == 0);
    clock_timer_arm(b.t, 0); /* long past: at once */
    await(&b.count, 1);
    clock_timer_free(a.t);
    clock_timer_free(b.t);
}

Test(clock, many_fire_in_order)
{
    enum { N = 100 };
    static struct shot s[N];
    atomic_store(&order, 0);
    uint64_t now = clock_now(clk);
    for (int i = 0; i < N; i++)
        s[i].t = clock_timer_new(clk, fire, &s[i]);
    for (int i = 0; i < N; i++) /* 37 is prime to 100: another order than they fire in */
        clock_timer_arm(s[i * 37 % N].t, now + 30 * MS + (uint64_t)(i * 37 % N) * 1000);
    for (int i = 0; i < N; i += 10)
        clock_timer_disarm(s[i].t);
    await(&order, N - N / 10);
    for (int i = 0, n = 0; i < N; i++)
        if (i % 10)
            cr_assert(s[i].order == n++);
    for (int i = 0; i < N; i++)
        clock_timer_free(s[i].t);
}

static void repeat(void *ud)
{
    struct shot *s = ud;
    if (atomic_fetch_add(&s->count, 1) < 9)
        clock_timer_arm(s->t, clock_now(clk) + MS);
}

Test(clock, fn_arms_itself)
{
    struct shot s = {.t = clock_timer_new(clk, repeat, &s)};
    clock_timer_arm(s.t, clock_now(clk));
    await(&s.count, 10);
    clock_timer_free(s.t);
}

static void free_self(void *ud)
{
    struct shot *s = ud;
    clock_timer_arm(s->t, clock_now(clk)); /* freed all the same */
    clock_timer_free(s->t);
    atomic_fetch_add(&s->count, 1);
}

Test(clock, fn_frees_itself)
{
    struct shot s = {.t = clock_timer_new(clk, free_self, &s)};
    clock_timer_arm(s.t, clock_now(clk));
    await(&s.count, 1);
    usleep(5000);
    cr_assert(s.count == 1);
}

static void slow(void *ud)
{
    struct shot *s = ud;
    atomic_store(&s->order, 1);
    clock_timer_arm(s->t, clock_now(clk) + 1);
    usleep(20000);
    atomic_fetch_add(&s->count, 1);
}

Test(clock, freeing_waits_for_fn)
{
    struct shot s = {.t = clock_timer_new(clk, slow, &s)};
    clock_timer_arm(s.t, clock_now(clk));
    await(&s.order, 1);
    clock_timer_free(s.t);
    int n = s.count;
    cr_assert(n >= 1);
    usleep(50000);
    cr_assert(s.count == n);
}
