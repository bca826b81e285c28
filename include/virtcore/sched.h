/* SPDX-License-Identifier: MIT
 *
 * virtcore/sched.h - vCPUs that share host CPUs.
 *
 * Each vCPU runs on a thread of the embedder's, and the host shares its CPUs among these
 * as it likes. A scheduler shares them as the embedder likes: of the vCPUs that belong to
 * it, of one partition or of many, no more run at a time than it has host CPUs, each gets
 * time in proportion to its weight, and none gets more than its cap. A vCPU that sleeps in
 * HLT needs no host CPU and loses nothing but the time it sleeps.
 *
 * Time is the processor time of the thread inside vc_run() and vc_call(), devices included.
 * A vCPU whose turn it is not waits there; kicks, budgets and the end of the machine reach
 * it all the same. Xen PV guests see that time as `runnable` in their runstates.
 */
#ifndef VIRTCORE_SCHED_H
#define VIRTCORE_SCHED_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vc_sched vc_sched;

struct vc_sched_opts {
    size_t size;
    uint64_t host_cpus; /* bit n: host CPU n, of the first 64; 0: all that the calling thread
                           may use, and vCPUs that are not pinned stay where the host puts
                           them */
    uint32_t slice_us;  /* how often it decides, 200-100000; 0: 2000 */
};

/* NULL with vc_errmsg(): VC_EINVAL, VC_ERANGE (slice_us; a host CPU that the calling thread
 * may not use), VC_ENOMEM, VC_ELIMIT (no thread could be made). opts may be NULL. */
VC_API vc_sched *vc_sched_new(const struct vc_sched_opts *opts);
/* VC_EBUSY while vCPUs belong to it. NULL is allowed. */
VC_API int vc_sched_free(vc_sched *sched);

#define VC_SCHED_WEIGHT     256u
#define VC_SCHED_WEIGHT_MAX 65535u

struct vc_sched_share {
    size_t size;
    uint32_t weight; /* 1-65535; 0: VC_SCHED_WEIGHT */
    uint32_t cap;    /* at most so many hundredths of a host CPU, 1-100; 0: no limit.
                        Counted over 30 ms, or fifteen slices where these are longer */
    uint64_t pin;    /* the host CPUs that it may run on; 0: all of the scheduler's */
};

/* The vCPU belongs to the scheduler with that share from now on; share may be NULL. Again
 * for one that belongs to it: its share changes, which any thread may do at any time. A
 * vCPU leaves by vc_sched_remove() or when it is freed. Joining: the vCPU does not run
 * (VC_EBUSY), and belongs to no other (VC_ESTATE). VC_ERANGE: weight, cap; pin names a host
 * CPU that is not the scheduler's. */
VC_API int vc_sched_set(vc_sched *sched, vc_cpu *cpu, const struct vc_sched_share *share);
/* VC_EBUSY: it runs; VC_ESTATE: it does not belong to it. */
VC_API int vc_sched_remove(vc_sched *sched, vc_cpu *cpu);

struct vc_sched_time {
    size_t size;
    uint64_t ran_ns;    /* processor time since it joined */
    uint64_t waited_ns; /* for its turn */
    uint64_t turns;     /* how often its turn came after it had waited */
};
/* Any thread. VC_ESTATE: it does not belong to it. */
VC_API int vc_sched_time(vc_sched *sched, vc_cpu *cpu, struct vc_sched_time *out);

#ifdef __cplusplus
}
#endif
#endif
