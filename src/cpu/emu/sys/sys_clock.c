/* SPDX-License-Identifier: MIT
 * The guest's time-stamp counter, which is the host's with an offset (SDM
 * 17.17), and the clock pages of the KVM paravirtual ABI, which say how to make
 * nanoseconds of it. */
#include "sys.h"
#include "../../msr.h"
#include "../lockstep/lockstep.h"
#include "../../../base/tsc.h"
#include <time.h>
#include <virtcore/vm.h>

uint64_t emu_tsc(struct emu *c)
{
    uint64_t now = host_tsc() + c->tsc_offset;
    return unlikely(c->lockstep) ? lockstep_value(c, now) : now;
}

/* ---- clock pages ----------------------------------------------------------------- */

/* nanoseconds = ((ticks << shift) * mul) >> 32; a negative shift goes right. */
struct scale {
    uint32_t mul;
    int8_t shift;
};

static struct scale scale_of(uint64_t hz)
{
    struct scale s = {0, 0};
    uint64_t ns = 1000000000ull;

    /* Until 1 <= ns / hz < 2, so that the multiplier's top bit is set. */
    for (; hz > ns; s.shift--)
        ns <<= 1;
    for (; hz <= ns >> 1; s.shift++)
        hz <<= 1;
    s.mul = (uint32_t)(((unsigned __int128)ns << 31) / hz);
    s.shift++;
    return s;
}

static uint64_t scale_ticks(struct scale s, uint64_t ticks)
{
    ticks = s.shift < 0 ? ticks >> -s.shift : ticks << s.shift;
    return (uint64_t)(((unsigned __int128)ticks * s.mul) >> 32);
}

/* Whether a guest may be given [gpa, gpa + len) by a store: RAM, not ROM. */
static bool writable(struct emu *c, uint64_t gpa, unsigned len)
{
    unsigned pin = mem_pin(c->env->mem); /* the embedder may set the register, too */
    const struct mem_region *first = mem_find(c->env->mem, gpa);
    const struct mem_region *last = mem_find(c->env->mem, gpa + len - 1);
    bool ok = first && last && first->prot & last->prot & VC_MEM_WRITE;
    mem_unpin(c->env->mem, pin);
    return ok;
}

/* Puts a structure that begins with a version there; the version is odd while
 * the rest changes. */
static void publish(struct emu *c, uint64_t gpa, uint8_t *data, unsigned len)
{
    struct mem *mem = c->env->mem;
    uint8_t old[4];

    if (!writable(c, gpa, len) || !mem_copy_out(mem, gpa, old, sizeof old))
        return;
    uint32_t version = get_le32(old) | 1;
    put_le32(data, version);
    if (!mem_copy_in(mem, gpa, data, 4))
        return;
    atomic_thread_fence(memory_order_release);
    mem_copy_in(mem, gpa + 4, data + 4, len - 4);
    atomic_thread_fence(memory_order_release);
    put_le32(data, version + 1);
    mem_copy_in(mem, gpa, data, 4);
}

#define CLOCK_ENABLE     1ull
#define CLOCK_TSC_STABLE 1 /* flag: the same clock on every vCPU */

/* System time is host ticks since they began, in nanoseconds: one and the same
 * line for all vCPUs, so that their clocks agree to the last bit. */
static void publish_clock(struct emu *c)
{
    uint8_t page[32] = {0};

    if (!(c->kvm_system_time & CLOCK_ENABLE) || !c->env->tsc_hz)
        return;
    struct scale s = scale_of(c->env->tsc_hz);
    put_le64(page + 8, c->tsc_offset); /* the guest's counter at time 0 */
    put_le64(page + 16, 0);
    put_le32(page + 24, s.mul);
    page[28] = (uint8_t)s.shift;
    page[29] = CLOCK_TSC_STABLE;
    publish(c, c->kvm_system_time & ~CLOCK_ENABLE, page, sizeof page);
}

void kvm_clock_set(struct emu *c, uint64_t v)
{
    c->kvm_system_time = v;
    publish_clock(c);
}

void kvm_wall_clock_set(struct emu *c, uint64_t v)
{
    uint8_t wall[12] = {0};
    struct timespec ts;

    c->kvm_wall_clock = v;
    if (!c->env->tsc_hz)
        return;
    /* Wall-clock time at system time 0. */
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
    now -= scale_ticks(scale_of(c->env->tsc_hz), host_tsc());
    put_le32(wall + 4, (uint32_t)(now / 1000000000ull));
    put_le32(wall + 8, (uint32_t)(now % 1000000000ull));
    publish(c, v, wall, sizeof wall);
}

/* ---- writing the counter ------------------------------------------------------------ */

static void shift_tsc(struct emu *c, uint64_t by)
{
    uint64_t deadline = 0;

    c->tsc_offset += by;
    c->tsc_adjust += by;
    publish_clock(c);
    /* The local APIC counts host ticks; its deadline keeps its place on the
     * guest's scale. */
    if (c->env->apic_msr &&
        c->env->apic_msr(c->env->ctx, c->index, MSR_TSC_DEADLINE, false, &deadline) && deadline) {
        uint64_t guest = deadline + c->tsc_offset - by;
        tsc_deadline_write(c, guest);
    }
}

void tsc_write(struct emu *c, uint64_t v)
{
    shift_tsc(c, v - emu_tsc(c));
}

void tsc_adjust_write(struct emu *c, uint64_t v)
{
    shift_tsc(c, v - c->tsc_adjust);
}

/* ---- the deadline of the local APIC's timer, on the guest's scale -------------------- */

bool tsc_deadline_read(struct emu *c, uint64_t *v)
{
    if (!c->env->apic_msr || !c->env->apic_msr(c->env->ctx, c->index, MSR_TSC_DEADLINE, false, v))
        return false;
    if (*v)
        *v += c->tsc_offset;
    return true;
}

bool tsc_deadline_write(struct emu *c, uint64_t v)
{
    if (!c->env->apic_msr)
        return false;
    if (v) {
        uint64_t host = host_tsc(), guest = host + c->tsc_offset;
        uint64_t ahead = v > guest ? v - guest : 0;
        v = host + ahead < host ? UINT64_MAX : host + ahead;
    }
    return c->env->apic_msr(c->env->ctx, c->index, MSR_TSC_DEADLINE, true, &v);
}
