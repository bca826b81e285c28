/* SPDX-License-Identifier: MIT
 * Event channels in the 2-level layout, and the timer. */
#include "kernel.h"
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

extern char event_entry[];
static uint64_t came[sizeof shared->evtchn_pending / 8]; /* ports, by bits */

/* Takes all that is pending for vCPU 0. */
void events_run(void)
{
    struct vcpu_info *v = &shared->vcpu_info[0];
    __atomic_store_n(&v->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    uint64_t words = __atomic_exchange_n(&v->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    for (; words; words &= words - 1) {
        unsigned w = (unsigned)__builtin_ctzll(words);
        uint64_t ports = shared->evtchn_pending[w] & ~shared->evtchn_mask[w];
        __atomic_fetch_and(&shared->evtchn_pending[w], ~ports, __ATOMIC_SEQ_CST);
        __atomic_fetch_or(&came[w], ports, __ATOMIC_SEQ_CST);
    }
}

void events_init(void)
{
    struct callback_register cb = {.type = CALLBACKTYPE_event, .address = (uint64_t)event_entry};
    check(HC(callback_op, CALLBACKOP_register, &cb, 0, 0) == 0, "callback_op");
}

long event_send(uint32_t port)
{
    struct evtchn_send op = {.port = port};
    return HC(event_channel_op, EVTCHNOP_send, &op, 0, 0);
}

void event_unmask(uint32_t port)
{
    struct evtchn_unmask op = {.port = port};
    check(HC(event_channel_op, EVTCHNOP_unmask, &op, 0, 0) == 0, "unmasking a port");
}

uint32_t event_bind_ipi(unsigned cpu)
{
    struct evtchn_bind_ipi op = {.vcpu = cpu};
    check(HC(event_channel_op, EVTCHNOP_bind_ipi, &op, 0, 0) == 0, "bind_ipi");
    return op.port;
}

bool event_take(uint32_t port)
{
    uint64_t bit = 1ull << port % 64;
    return __atomic_fetch_and(&came[port / 64], ~bit, __ATOMIC_SEQ_CST) & bit;
}

/* Events are masked while it looks, and block lets them in again. */
void event_wait(uint32_t port)
{
    volatile uint8_t *mask = &shared->vcpu_info[0].evtchn_upcall_mask;
    for (;;) {
        *mask = 1;
        if (event_take(port))
            break;
        HC(sched_op, SCHEDOP_block, 0, 0, 0);
    }
    *mask = 0;
    if (__atomic_load_n(&shared->vcpu_info[0].evtchn_upcall_pending, __ATOMIC_SEQ_CST))
        HC(xen_version, 0, 0, 0, 0); /* any hypercall delivers what came while masked */
}

/* ---- time ------------------------------------------------------------------------------- */

uint64_t system_time(void)
{
    const volatile struct vcpu_time_info *t = &shared->vcpu_info[0].time;
    uint64_t ns;
    uint32_t version;
    do {
        version = t->version;
        uint32_t lo, hi;
        __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
        uint64_t ticks = ((uint64_t)hi << 32 | lo) - t->tsc_timestamp;
        ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
        ns = t->system_time + (uint64_t)((unsigned __int128)ticks * t->tsc_to_system_mul >> 32);
    } while (version & 1 || version != t->version);
    return ns;
}

void events_check(void)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    check(HC(event_channel_op, EVTCHNOP_bind_virq, &bind, 0, 0) == 0, "bind_virq");
    check(HC(event_channel_op, EVTCHNOP_bind_virq, &bind, 0, 0) == -XEN_EEXIST,
          "one port for a vCPU's timer");
    event_unmask(bind.port);
    for (unsigned i = 1; i <= 3; i++) {
        uint64_t due = system_time() + i * 2000000;
        struct vcpu_set_singleshot_timer set = {.timeout_abs_ns = due};
        check(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &set, 0) == 0, "setting the timer");
        event_wait(bind.port);
        check(system_time() >= due, "the timer came early");
    }
    struct vcpu_set_singleshot_timer late = {.timeout_abs_ns = 1, .flags = VCPU_SSHOTTMR_future};
    check(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &late, 0) == -XEN_ETIME, "a time gone by");
    uint32_t ipi = event_bind_ipi(0);
    check(event_send(ipi) == 0 && !event_take(ipi), "a masked port waits");
    event_unmask(ipi);
    event_wait(ipi);
    print("pvkernel: events and timer\n");
}
