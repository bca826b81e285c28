/* SPDX-License-Identifier: MIT
 * The sampler's thread. */
#include "sampler.h"
#include "../../base/err.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define PERIOD_NS 1000000ull

struct sampler {
    struct emu_vm *vm;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t bell;
    bool stop;
};

static void look(struct emu_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->ncpu; i++) {
        struct emu *c = vm->cpu[i];
        uint8_t what = c ? doing_now(c) : DOING_OUTSIDE;
        if (what < VC_DOING_COUNT)
            atomic_fetch_add_explicit(&c->samples[what], 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&vm->lock);
}

static void *sampler_main(void *ud)
{
    struct sampler *s = ud;
    uint64_t next = host_now_ns();

    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        next += PERIOD_NS;
        uint64_t now = host_now_ns();
        if (next < now) /* late: no burst */
            next = now + PERIOD_NS;
        struct timespec ts = {.tv_sec = (time_t)(next / 1000000000u),
                              .tv_nsec = (long)(next % 1000000000u)};
        if (pthread_cond_timedwait(&s->bell, &s->lock, &ts) == ETIMEDOUT && !s->stop)
            look(s->vm);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int sampler_start(struct emu_vm *vm, struct sampler **out)
{
    struct sampler *s = calloc(1, sizeof *s);
    pthread_condattr_t attr;
    sigset_t all, old;

    if (!s)
        return err_set(VC_ENOMEM, "no host memory for the sampler; close other programs");
    s->vm = vm;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->bell, &attr);
    pthread_condattr_destroy(&attr);
    /* Signals are the embedder's threads' business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&s->thread, NULL, sampler_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        pthread_cond_destroy(&s->bell);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return err_set(VC_ENOMEM, "the host gives no thread for the sampler");
    }
    *out = s;
    return 0;
}

void sampler_stop(struct sampler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->bell);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->bell);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
