/* SPDX-License-Identifier: MIT
 * The pending word: how other threads reach a vCPU. Everything here is atomic
 * operations and futex calls, so it may be used in signal handlers. */
#include "env.h"
#include "../base/util.h"
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* mail->nmi: how many NMIs wait, and whether one is being handled. While a
 * handler runs the processor latches one more and drops the rest (SDM 6.7.1).
 * Otherwise it takes an NMI at once, so that a second one that arrives before
 * the vCPU got round to the first must not be merged with it. */
#define NMI_COUNT 0x3u
#define NMI_BUSY  0x4u

static void nmi_count(struct cpu_mail *mail)
{
    uint32_t old = atomic_load(&mail->nmi);
    uint32_t limit;
    do {
        limit = (old & NMI_BUSY) ? 1 : 2;
        if ((old & NMI_COUNT) >= limit)
            return;
    } while (!atomic_compare_exchange_weak(&mail->nmi, &old, old + 1));
}

/* One NMI leaves the latch, if there is one. How many there were. */
static uint32_t nmi_take(struct cpu_mail *mail)
{
    uint32_t old = atomic_load(&mail->nmi);
    do {
        if (!(old & NMI_COUNT))
            return 0;
    } while (!atomic_compare_exchange_weak(&mail->nmi, &old, ((old & NMI_COUNT) - 1) | NMI_BUSY));
    return old & NMI_COUNT;
}

/* The thread is told by the byte, in case that it is only about to go inside, and by a
 * signal, in case that it is there. One who finds the byte set leaves it to whom set
 * it, who has not yet sent, or whose signal made the thread come out and look. */
static void interrupt_inside(struct cpu_mail *mail, _Atomic uint8_t *stop)
{
    atomic_fetch_add(&mail->callers, 1);
    int32_t tid = atomic_load(&mail->inside);
    if (tid && !atomic_exchange(stop, 1)) {
        int saved = errno;
        syscall(SYS_tgkill, getpid(), tid, MAIL_SIGNAL);
        errno = saved;
    }
    atomic_fetch_sub(&mail->callers, 1);
}

void mail_inside(struct cpu_mail *mail, int32_t tid)
{
    atomic_store(atomic_load_explicit(&mail->stop, memory_order_relaxed), 0);
    atomic_store(&mail->inside, tid);
}

void mail_outside(struct cpu_mail *mail)
{
    atomic_store(&mail->inside, 0);
    while (atomic_load(&mail->callers))
        sched_yield();
}

void mail_post(struct cpu_mail *mail, uint32_t bits)
{
    if (bits & PEND_NMI)
        nmi_count(mail);
    atomic_fetch_or(&mail->pending, bits);
    _Atomic uint64_t *bell = atomic_load(&mail->doorbell);
    if (bell)
        atomic_store(bell, 0);
    _Atomic uint8_t *stop = atomic_load(&mail->stop);
    if (stop)
        interrupt_inside(mail, stop);
    /* Sequentially consistent against mail_wait: either it sees the bits, or
     * this sees it asleep, and FUTEX_WAIT compares the word once more. */
    if (unlikely(atomic_load(&mail->asleep))) {
        int saved = errno;
        syscall(SYS_futex, &mail->pending, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        errno = saved;
    }
}

bool mail_clear(struct cpu_mail *mail, uint32_t bits)
{
    atomic_fetch_and(&mail->pending, ~bits);
    if (!(bits & PEND_NMI))
        return true;
    /* The bit goes first and the count after it: a sender counts first and sets
     * the bit after it, so that no NMI is left without its bit. The bit of an
     * NMI that was counted may come when that one has been taken already. */
    uint32_t had = nmi_take(mail);
    if (had > 1)
        atomic_fetch_or(&mail->pending, PEND_NMI);
    return had != 0;
}

void mail_nmi_done(struct cpu_mail *mail)
{
    atomic_fetch_and(&mail->nmi, ~NMI_BUSY);
}

uint32_t mail_wait(struct cpu_mail *mail, uint32_t mask, uint64_t deadline_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                          .tv_nsec = (long)(deadline_ns % 1000000000u)};
    uint32_t seen = atomic_load(&mail->pending);

    if (seen & mask)
        return seen & mask;
    atomic_store(&mail->asleep, 1);
    while (seen = atomic_load(&mail->pending), !(seen & mask)) {
        /* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time. */
        long rc = syscall(SYS_futex, &mail->pending, FUTEX_WAIT_BITSET_PRIVATE, seen,
                          deadline_ns ? &ts : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
        if (rc < 0 && errno == ETIMEDOUT) {
            seen = atomic_load(&mail->pending);
            break;
        }
    }
    atomic_store(&mail->asleep, 0);
    return seen & mask;
}
