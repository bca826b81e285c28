/* SPDX-License-Identifier: MIT
 * vCPUs that share host CPUs by weight and cap.
 *
 * One thread decides every slice who may run in the next: it charges each vCPU with the
 * processor time its thread really had, divided by its weight, and lets those go on that
 * were charged least, as many as there are host CPUs for. The others are called out of the
 * guest and wait in sched_wait(). What happens within a slice, such as a vCPU that wakes up
 * while all host CPUs are taken, the host's own scheduler sorts out; since it is charged
 * for, it does not add up. */
#include "sched.h"
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define CPUS_MAX   64u /* of a mask */
#define SLICE_MIN  200u
#define SLICE_MAX  100000u
#define WINDOW_NS  30000000ull
#define CHARGE_ONE ((uint64_t)VC_SCHED_WEIGHT << 8) /* at the usual weight, 256 a nanosecond */

struct vc_sched {
    pthread_mutex_t lock;
    pthread_cond_t some; /* somebody is inside, or it ends */
    pthread_t thread;
    bool over;
    uint64_t host_cpus, slice_ns, window_ns, window_end;
    bool moves; /* its threads are kept on host_cpus */
    unsigned ninside;
    struct vc_cpu *members;
};

/* ---- host CPUs ------------------------------------------------------------------------- */

static uint64_t first64(const cpu_set_t *set)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < CPUS_MAX; i++)
        mask |= CPU_ISSET(i, set) ? BIT64(i) : 0;
    return mask;
}

/* Where the vCPU's thread, which is inside, may run. With the lock. */
static void move_thread(const struct vc_sched *s, struct sched_member *m)
{
    uint64_t to = m->share.pin ? m->share.pin : s->host_cpus;
    cpu_set_t set;
    if (!m->share.pin && !s->moves && !m->moved)
        return;
    if (!m->moved)
        m->moved = !pthread_getaffinity_np(m->thread, sizeof m->old, &m->old);
    CPU_ZERO(&set);
    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (to & BIT64(i))
            CPU_SET(i, &set);
    /* Should that fail, as the host took the CPUs away: it stays where it may be. */
    pthread_setaffinity_np(m->thread, sizeof set, &set);
}

/* ---- deciding ---------------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    return clock_gettime(clock, &ts) ? 0 : (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* With the lock, as the functions below. The vCPU is inside. */
static void charge(struct sched_member *m)
{
    uint64_t now = clock_ns(m->clock), had = now > m->clock_seen ? now - m->clock_seen : 0;
    m->clock_seen += had;
    m->used += had;
    m->ran += had;
    m->window += had;
    m->charge += had * (CHARGE_ONE / m->share.weight);
}

static uint64_t cap_ns(const struct vc_sched *s, const struct sched_member *m)
{
    return m->share.cap ? s->window_ns * m->share.cap / 100 : UINT64_MAX;
}

/* A new window for the caps: who took more than its cap still owes it. */
static void next_window(struct vc_sched *s, uint64_t now)
{
    if (now < s->window_end)
        return;
    uint64_t windows = 1 + (now - s->window_end) / s->window_ns;
    s->window_end += windows * s->window_ns;
    for (struct vc_cpu *c = s->members; c; c = c->sched.next) {
        uint64_t paid = cap_ns(s, &c->sched);
        bool all = c->sched.window <= paid || c->sched.window / windows <= paid;
        c->sched.window = all ? 0 : c->sched.window - paid * windows;
    }
}

/* Does it want a host CPU? One that waits does; one that hardly ran or sleeps does not. */
static bool wants(const struct vc_sched *s, struct vc_cpu *c)
{
    struct sched_member *m = &c->sched;
    if (!m->inside)
        return false;
    if (atomic_load(&m->waits) || atomic_load(&m->stays))
        return true;
    return !atomic_load(&c->mail.asleep) || m->used > s->slice_ns / 8;
}

static void let_run(struct vc_cpu *c, bool turn, uint64_t now)
{
    struct sched_member *m = &c->sched;
    if (atomic_load(&m->waits) == !turn)
        return;
    if (turn) {
        m->waited += now - m->waits_since;
        m->turns++;
    } else {
        m->waits_since = now;
    }
    atomic_store(&m->waits, !turn);
    if (m->inside)
        mail_post(&c->mail, PEND_TURN);
}

/* Of the host CPUs that are free and that it may use, the one that fewest of those who
 * still want one may use, so that pinned ones find theirs. */
static uint64_t pick(const struct vc_sched *s, uint64_t may, uint64_t free)
{
    unsigned fewest = UINT32_MAX;
    uint64_t best = 0;
    for (uint64_t left = may & free; left; left &= left - 1) {
        uint64_t bit = left & -left;
        unsigned others = 0;
        for (struct vc_cpu *c = s->members; c; c = c->sched.next)
            others += c->sched.inside && !c->sched.turn && (c->sched.share.pin & bit);
        if (others < fewest)
            fewest = others, best = bit;
    }
    return best;
}

/* The next to run: who has had least. NULL: nobody else. */
static struct vc_cpu *least(const struct vc_sched *s, uint64_t free)
{
    struct vc_cpu *best = NULL;
    for (struct vc_cpu *c = s->members; c; c = c->sched.next) {
        const struct sched_member *m = &c->sched;
        uint64_t may = m->share.pin ? m->share.pin : s->host_cpus;
        if (m->rested || m->turn || !(may & free) || m->window >= cap_ns(s, m))
            continue;
        if (!best || m->charge < best->sched.charge)
            best = c;
    }
    return best;
}

/* The least that one who wants to run was charged; UINT64_MAX: none wants. */
static uint64_t least_charge(const struct vc_sched *s)
{
    uint64_t least = UINT64_MAX;
    for (struct vc_cpu *c = s->members; c; c = c->sched.next)
        if (!c->sched.rested && c->sched.charge < least)
            least = c->sched.charge;
    return least;
}

static void decide(struct vc_sched *s)
{
    uint64_t now = host_now_ns(), free = s->host_cpus;
    next_window(s, now);
    for (struct vc_cpu *c = s->members; c; c = c->sched.next)
        if (c->sched.inside)
            charge(&c->sched);
    uint64_t floor = least_charge(s);
    for (struct vc_cpu *c = s->members; c; c = c->sched.next) {
        struct sched_member *m = &c->sched;
        /* Who rested did not save up for later. */
        if (m->rested && floor != UINT64_MAX && m->charge < floor)
            m->charge = floor;
        m->rested = !wants(s, c);
        m->used = 0;
        m->turn = false;
    }
    for (struct vc_cpu *c; (c = least(s, free));) {
        c->sched.turn = true;
        free &= ~pick(s, c->sched.share.pin ? c->sched.share.pin : s->host_cpus, free);
    }
    for (struct vc_cpu *c = s->members; c; c = c->sched.next) {
        struct sched_member *m = &c->sched;
        if (m->inside)
            let_run(c, m->turn || (m->rested && m->window < cap_ns(s, m)), now);
    }
}

static void *decider(void *arg)
{
    struct vc_sched *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->over) {
        if (!s->ninside) {
            pthread_cond_wait(&s->some, &s->lock);
            continue;
        }
        decide(s);
        pthread_mutex_unlock(&s->lock);
        struct timespec slice = {(time_t)(s->slice_ns / 1000000000u),
                                 (long)(s->slice_ns % 1000000000u)};
        nanosleep(&slice, NULL);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the vCPU's thread --------------------------------------------------------------------- */

void sched_enter(struct vc_cpu *cpu)
{
    struct vc_sched *s = cpu->sched.sched;
    struct sched_member *m = &cpu->sched;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    m->thread = pthread_self();
    if (pthread_getcpuclockid(m->thread, &m->clock))
        m->clock = CLOCK_MONOTONIC; /* charged for more than it had, not for less */
    m->clock_seen = clock_ns(m->clock);
    m->waits_since = host_now_ns();
    m->inside = true;
    move_thread(s, m);
    if (!s->ninside++)
        pthread_cond_signal(&s->some);
    pthread_mutex_unlock(&s->lock);
}

/* Whose turn it was not does not gain one by leaving and coming back; but it waits for
 * nothing while it is away. */
void sched_leave(struct vc_cpu *cpu)
{
    struct vc_sched *s = cpu->sched.sched;
    struct sched_member *m = &cpu->sched;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    charge(m);
    if (atomic_load(&m->waits))
        m->waited += host_now_ns() - m->waits_since;
    if (m->moved)
        pthread_setaffinity_np(m->thread, sizeof m->old, &m->old);
    m->inside = m->moved = false;
    s->ninside--;
    mail_clear(&cpu->mail, PEND_TURN);
    pthread_mutex_unlock(&s->lock);
}

void sched_wait(struct vc_cpu *cpu, uint64_t deadline_ns)
{
    struct sched_member *m = &cpu->sched;
    bool told = false;
    mail_clear(&cpu->mail, PEND_TURN);
    while (atomic_load(&m->waits)) {
        if (!told)
            vm_pv_waits(cpu->vm, cpu->index, true);
        told = true;
        atomic_store(&m->stays, true);
        if (mail_wait(&cpu->mail, PEND_KICK | PEND_POWER | PEND_TURN, deadline_ns) != PEND_TURN)
            break;
        mail_clear(&cpu->mail, PEND_TURN);
    }
    atomic_store(&m->stays, false);
    if (told)
        vm_pv_waits(cpu->vm, cpu->index, false);
}

/* ---- the calls ------------------------------------------------------------------------------- */

vc_sched *vc_sched_new(const struct vc_sched_opts *opts)
{
    struct vc_sched_opts o = {.size = sizeof o};
    cpu_set_t mine;
    err_begin();
    if (opts && args_in(&o, sizeof o, opts, "opts"))
        return NULL;
    o.slice_us = o.slice_us ? o.slice_us : 2000;
    if (o.slice_us < SLICE_MIN || o.slice_us > SLICE_MAX) {
        err_set(VC_ERANGE, "slice_us is %u: %u to %u are possible", o.slice_us, SLICE_MIN,
                SLICE_MAX);
        return NULL;
    }
    CPU_ZERO(&mine);
    uint64_t may = pthread_getaffinity_np(pthread_self(), sizeof mine, &mine) ? 1 : first64(&mine);
    may = may ? may : 1;
    if (o.host_cpus & ~may) {
        err_set(VC_ERANGE, "host_cpus is %#llx: this thread may use %#llx",
                (unsigned long long)o.host_cpus, (unsigned long long)may);
        return NULL;
    }
    struct vc_sched *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(VC_ENOMEM, "no memory for a scheduler");
        return NULL;
    }
    s->host_cpus = o.host_cpus ? o.host_cpus : may;
    s->moves = o.host_cpus;
    s->slice_ns = o.slice_us * 1000ull;
    s->window_ns = s->slice_ns * 15 > WINDOW_NS ? s->slice_ns * 15 : WINDOW_NS;
    s->window_end = host_now_ns() + s->window_ns;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->some, NULL);
    if (pthread_create(&s->thread, NULL, decider, s)) {
        err_set(VC_ELIMIT, "no thread for a scheduler: the process has as many as it may");
        pthread_cond_destroy(&s->some);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
    }
    return s;
}

int vc_sched_free(vc_sched *s)
{
    if (!s)
        return 0;
    err_begin();
    pthread_mutex_lock(&s->lock);
    bool empty = !s->members;
    s->over = empty;
    pthread_cond_signal(&s->some);
    pthread_mutex_unlock(&s->lock);
    if (!empty)
        return err_set(VC_EBUSY, "vCPUs belong to the scheduler: vc_sched_remove() them, or free "
                                 "them or their partition");
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->some);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return 0;
}

static int check_share(const struct vc_sched *s, struct vc_sched_share *to,
                       const struct vc_sched_share *share)
{
    *to = (struct vc_sched_share){.size = sizeof *to};
    int rc = share ? args_in(to, sizeof *to, share, "share") : 0;
    if (rc)
        return rc;
    to->weight = to->weight ? to->weight : VC_SCHED_WEIGHT;
    if (to->weight > VC_SCHED_WEIGHT_MAX)
        return err_set(VC_ERANGE, "the weight is %u: 1 to %u are possible", to->weight,
                       VC_SCHED_WEIGHT_MAX);
    if (to->cap > 100)
        return err_set(VC_ERANGE, "the cap is %u hundredths: a vCPU can use 100 at most", to->cap);
    if (to->pin & ~s->host_cpus)
        return err_set(VC_ERANGE, "the pin is %#llx: the scheduler has the host CPUs %#llx",
                       (unsigned long long)to->pin, (unsigned long long)s->host_cpus);
    return 0;
}

/* Where the list has it; NULL: it does not. With the lock. */
static struct vc_cpu **member(struct vc_sched *s, const struct vc_cpu *cpu)
{
    struct vc_cpu **at = &s->members;
    while (*at && *at != cpu)
        at = &(*at)->sched.next;
    return *at ? at : NULL;
}

/* What it had beyond the others counts by the new weight. */
static void reweigh(const struct vc_sched *s, struct sched_member *m, uint32_t weight)
{
    uint64_t least = least_charge(s);
    if (m->inside)
        charge(m);
    if (m->charge > least)
        m->charge = least + (uint64_t)((__uint128_t)(m->charge - least) * m->share.weight / weight);
}

/* A member's share changes. false: it is none. */
static bool change(struct vc_sched *s, struct vc_cpu *cpu, const struct vc_sched_share *share)
{
    pthread_mutex_lock(&s->lock);
    bool is = member(s, cpu);
    if (is) {
        reweigh(s, &cpu->sched, share->weight);
        cpu->sched.share = *share;
        if (cpu->sched.inside)
            move_thread(s, &cpu->sched);
    }
    pthread_mutex_unlock(&s->lock);
    return is;
}

int vc_sched_set(vc_sched *s, vc_cpu *cpu, const struct vc_sched_share *share)
{
    struct vc_sched_share to;
    if (!s || !cpu)
        return err_null(s ? "cpu" : "sched");
    err_begin();
    int rc = check_share(s, &to, share);
    if (rc || change(s, cpu, &to))
        return rc;
    rc = cpu_is_lent(cpu) ? err_set(VC_EBUSY, "vCPU %u runs: it joins before", cpu->index)
                          : cpu_enter(cpu);
    if (rc)
        return rc;
    if (cpu->sched.sched) {
        rc = err_set(VC_ESTATE, "vCPU %u belongs to another scheduler", cpu->index);
    } else {
        pthread_mutex_lock(&s->lock);
        cpu->sched =
            (struct sched_member){.sched = s, .next = s->members, .share = to, .rested = true};
        s->members = cpu;
        pthread_mutex_unlock(&s->lock);
    }
    cpu_leave(cpu);
    return rc;
}

static int not_member(const struct vc_cpu *cpu)
{
    return err_set(VC_ESTATE, "vCPU %u does not belong to the scheduler", cpu->index);
}

int vc_sched_remove(vc_sched *s, vc_cpu *cpu)
{
    if (!s || !cpu)
        return err_null(s ? "cpu" : "sched");
    err_begin();
    int rc = cpu_is_lent(cpu) ? err_set(VC_EBUSY, "vCPU %u runs: it leaves after", cpu->index)
                              : cpu_enter(cpu);
    if (rc)
        return rc;
    if (cpu->sched.sched != s)
        rc = not_member(cpu);
    else
        sched_forget(cpu);
    cpu_leave(cpu);
    return rc;
}

void sched_forget(struct vc_cpu *cpu)
{
    struct vc_sched *s = cpu->sched.sched;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    struct vc_cpu **at = member(s, cpu);
    if (at)
        *at = cpu->sched.next;
    pthread_mutex_unlock(&s->lock);
    cpu->sched = (struct sched_member){0};
}

int vc_sched_time(vc_sched *s, vc_cpu *cpu, struct vc_sched_time *out)
{
    if (!s || !cpu || !out)
        return err_null(!s ? "sched" : !cpu ? "cpu" : "out");
    err_begin();
    int rc = args_size(out, "out");
    if (rc)
        return rc;
    struct vc_sched_time t = {.size = sizeof t};
    pthread_mutex_lock(&s->lock);
    struct sched_member *m = &cpu->sched;
    bool is = member(s, cpu);
    if (is) {
        if (m->inside)
            charge(m);
        t.ran_ns = m->ran;
        t.turns = m->turns;
        t.waited_ns = m->waited;
        if (m->inside && atomic_load(&m->waits))
            t.waited_ns += host_now_ns() - m->waits_since;
    }
    pthread_mutex_unlock(&s->lock);
    return is ? args_out(out, &t, sizeof t, "out") : not_member(cpu);
}
