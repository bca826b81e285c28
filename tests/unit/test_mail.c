/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <pthread.h>
#include "base/util.h"
#include "cpu/env.h"

Test(mail, post_and_clear)
{
    struct cpu_mail m = {.inject = -1};
    mail_post(&m, PEND_KICK | PEND_IRQ);
    cr_assert(atomic_load(&m.pending) == (PEND_KICK | PEND_IRQ));
    mail_clear(&m, PEND_KICK);
    cr_assert(mail_wait(&m, PEND_IRQ | PEND_KICK, 1) == PEND_IRQ);
}

Test(mail, two_nmis_wait_when_none_is_handled)
{
    struct cpu_mail m = {.inject = -1};
    for (int i = 0; i < 3; i++)
        mail_post(&m, PEND_NMI);
    mail_clear(&m, PEND_NMI);
    cr_assert(atomic_load(&m.pending) & PEND_NMI, "the second of three waits");
    mail_nmi_done(&m);
    mail_clear(&m, PEND_NMI);
    cr_assert(!(atomic_load(&m.pending) & PEND_NMI), "the third is lost");
}

Test(mail, one_nmi_waits_while_one_is_handled)
{
    struct cpu_mail m = {.inject = -1};
    mail_post(&m, PEND_NMI);
    mail_clear(&m, PEND_NMI);
    for (int i = 0; i < 10; i++)
        mail_post(&m, PEND_NMI);
    mail_nmi_done(&m);
    mail_clear(&m, PEND_NMI);
    cr_assert(!(atomic_load(&m.pending) & PEND_NMI));
}

Test(mail, the_bit_of_an_nmi_may_be_late)
{
    struct cpu_mail m = {.inject = -1};
    mail_post(&m, PEND_NMI);
    cr_assert(mail_clear(&m, PEND_NMI));
    atomic_fetch_or(&m.pending, PEND_NMI); /* its sender was slow */
    cr_assert(!mail_clear(&m, PEND_NMI));
    cr_assert_eq(atomic_load(&m.pending), 0);
}

Test(mail, wait_times_out)
{
    struct cpu_mail m = {.inject = -1};
    uint64_t t0 = host_now_ns();
    mail_post(&m, PEND_KICK); /* not asked for */
    cr_assert(mail_wait(&m, PEND_IRQ, t0 + 20000000) == 0);
    cr_assert(host_now_ns() - t0 >= 20000000);
    cr_assert(!atomic_load(&m.asleep));
}

struct pair {
    struct cpu_mail ping, pong;
};
enum { ROUNDS = 2000 };

static void *ponger(void *ud)
{
    struct pair *p = ud;
    for (int i = 0; i < ROUNDS; i++) {
        mail_wait(&p->ping, PEND_IRQ, 0);
        mail_clear(&p->ping, PEND_IRQ);
        mail_post(&p->pong, PEND_IRQ);
    }
    return NULL;
}

Test(mail, no_wakeup_is_lost, .timeout = 60)
{
    struct pair p = {.ping.inject = -1};
    pthread_t thread;
    cr_assert(!pthread_create(&thread, NULL, ponger, &p));
    for (int i = 0; i < ROUNDS; i++) {
        mail_post(&p.ping, PEND_IRQ);
        mail_wait(&p.pong, PEND_IRQ, 0);
        mail_clear(&p.pong, PEND_IRQ);
    }
    pthread_join(thread, NULL);
}
