/* SPDX-License-Identifier: MIT
 * Getting a thread out of KVM_RUN: by other threads through the mail (mail.c), and by a
 * timer for a budget of time. Both work the same way: the shared byte immediate_exit
 * makes a KVM_RUN that is about to begin return at once, a signal one that has begun.
 *
 * The signal is SIGURG, which does nothing by default. The library gives it a handler
 * unless the embedder has one, and that is as good: what counts is that the kernel
 * interrupts KVM_RUN for it. None is sent to a thread that is not inside vc_run. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* After the deadline the timer goes on in steps: where the handler is the embedder's, a
 * signal between the last look and KVM_RUN is lost, but the next is not. */
#define ALARM_AGAIN_NS 20000000

/* The area shared with the kernel of the vCPU that this thread runs. */
static _Thread_local struct kvm_run *volatile running __attribute__((tls_model("initial-exec")));

static void handler(int signal)
{
    (void)signal;
    struct kvm_run *run = running;
    if (run)
        __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

int kvm_signal_install(void)
{
    struct sigaction now, ours = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    if (sigaction(MAIL_SIGNAL, NULL, &now))
        return err_set(VC_EIO, "signal %d cannot be looked at", MAIL_SIGNAL);
    if (!(now.sa_flags & SA_SIGINFO) && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) &&
        sigaction(MAIL_SIGNAL, &ours, NULL))
        return err_set(VC_EIO, "signal %d cannot have a handler", MAIL_SIGNAL);
    return 0;
}

static int alarm_set(struct kvm_alarm *a, uint64_t deadline_ns)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = MAIL_SIGNAL};
    ev.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    const struct itimerspec when = {
        .it_value = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)},
        .it_interval = {0, ALARM_AGAIN_NS},
    };
    if (timer_create(CLOCK_MONOTONIC, &ev, &a->timer))
        return err_set(errno == EAGAIN ? VC_ELIMIT : VC_EIO,
                       "the host gives no timer for the run's budget: %s (ulimit -i)",
                       strerrordesc_np(errno));
    a->made = true;
    if (timer_settime(a->timer, TIMER_ABSTIME, &when, NULL))
        return err_set(VC_EIO, "the timer for the run's budget cannot be set: %s",
                       strerrordesc_np(errno));
    return 0;
}

int kvm_signal_begin(struct kvm_cpu *c, struct kvm_alarm *a)
{
    sigset_t ours, old;
    *a = (struct kvm_alarm){.made = false};
    running = c->run;
    sigemptyset(&ours);
    sigaddset(&ours, MAIL_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &ours, &old);
    a->blocked = sigismember(&old, MAIL_SIGNAL);
    return c->deadline_ns ? alarm_set(a, c->deadline_ns) : 0;
}

void kvm_signal_end(struct kvm_cpu *c, struct kvm_alarm *a)
{
    mail_outside(c->mail);
    if (a->made)
        timer_delete(a->timer);
    /* A signal that was sent meets this thread at the end of its next system call at
     * the latest: that is to be here. */
    if (a->blocked) {
        sigset_t ours;
        sigemptyset(&ours);
        sigaddset(&ours, MAIL_SIGNAL);
        pthread_sigmask(SIG_BLOCK, &ours, NULL);
    } else {
        syscall(SYS_gettid);
    }
    running = NULL;
}
