/* SPDX-License-Identifier: MIT
 * A vCPU as its scheduler sees it. */
#ifndef VM_SCHED_H
#define VM_SCHED_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <virtcore/sched.h>

struct sched_member {
    struct vc_sched *sched; /* NULL: none. Changes while the vCPU does not run */
    struct vc_cpu *next;    /* of the scheduler's, under its lock as all that follows */
    struct vc_sched_share share;
    bool inside;         /* its thread is in the engine or waits */
    pthread_t thread;    /* that is */
    clockid_t clock;     /* its processor time */
    bool moved;          /* to the host CPUs that it shall use; */
    cpu_set_t old;       /* those it came from */
    uint64_t clock_seen; /* up to which it is charged */
    uint64_t charge;     /* what it had, by weight: who has least is next */
    uint64_t window;     /* what it had of its cap's window; a debt carries over */
    uint64_t used;       /* since the last decision */
    bool rested;         /* it wanted nothing then */
    bool turn;           /* decided: it may run */
    uint64_t ran, waited, turns, waits_since;
    _Atomic bool waits; /* its thread has to wait for its turn */
    _Atomic bool stays; /* and does, or has not woken up yet since it came */
};

/* Around the runs of the engine, on the vCPU's thread. */
void sched_enter(struct vc_cpu *cpu);
void sched_leave(struct vc_cpu *cpu);
/* Waits until it is the vCPU's turn, or the run has to end. */
void sched_wait(struct vc_cpu *cpu, uint64_t deadline_ns);
/* The vCPU is freed. */
void sched_forget(struct vc_cpu *cpu);

#endif
