/* SPDX-License-Identifier: MIT
 * Ballooning: what guests give back is the host's and others', and they take it again. */
#include "xen_audit.h"
#include "xen_pvh_rig.h"
#include <sys/stat.h>
#include <xen/memory.h>

#define MIB   (1ull << 20)
#define FIRST 0x1400u /* 20 MiB: nobody uses it */
#define COUNT 0x300u  /* 3 MiB of frames */

static const uint8_t spin[] = {0xeb, 0xfe};

static vc_vm *pooled(vc_pool *pool, unsigned mib)
{
    struct vc_vm_opts o = {.size = sizeof o, .pool = pool};
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = mib * MIB, .cpus = 1};
    vc_vm *vm = vc_open("pv", &o);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    if (vc_pc(vm, &pc)) {
        cr_assert_eq(vc_errcode(), VC_ELIMIT);
        int rc = vc_close(vm);
        cr_assert_eq(rc, 0);
        return NULL;
    }
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_RESET, 0));
    return vm;
}

static struct rig rig_of(vc_vm *vm, bool pvh)
{
    struct rig r = {.vm = vm, .at = pvh ? 0x40000 : rig_va(0x40)};
    struct rig_image im = pvh ? pvh_image() : rig_image();
    memcpy(im.code, spin, sizeof spin);
    int rc = pvh ? pvh_boot(vm, &im) : rig_boot(vm, &im, sizeof im);
    cr_assert_eq(rc, 0, "%s", vc_errmsg());
    r.d = vm->pv;
    r.v = &r.d->vcpu[0];
    r.scratch = pv_frame_ptr(r.d, 0x40);
    r.v->work = UINT32_MAX;
    return r;
}

/* Frames from `first` on, by lists that fit the page; how many were done. */
static unsigned balloon(struct rig *r, unsigned cmd, uint64_t first, unsigned n)
{
    unsigned done = 0, part, did;
    do {
        struct xen_memory_reservation m = {.domid = DOMID_SELF};
        const uint64_t a[6] = {cmd, r->at};
        part = n - done < 400 ? n - done : 400;
        m.nr_extents = part;
        m.extent_start.p = (void *)(uintptr_t)(r->at + 0x100);
        memcpy(r->scratch, &m, sizeof m);
        for (unsigned i = 0; i < part; i++)
            r->scratch[0x20 + i] = first + done + i;
        did = (unsigned)hc_memory_op(r->v, a);
        done += did;
    } while (did && did == part && done < n);
    return done;
}

static uint64_t host_bytes(const vc_vm *vm)
{
    struct stat st;
    cr_assert_eq(fstat(vm->mem.fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static uint64_t taken(vc_pool *pool)
{
    struct vc_pool_info info = {.size = sizeof info};
    cr_assert_eq(vc_pool_info(pool, &info), 0);
    return info.taken;
}

static void audited(const struct rig *r)
{
    const char *wrong = r->d->pvh ? NULL : xen_audit(r->d);
    cr_assert_null(wrong, "%s", wrong);
}

/* Memory that was written goes to the host, and comes back as zeroes. */
static void gives_and_takes(bool pvh)
{
    vc_pool *pool = vc_pool_new(64 * MIB);
    struct rig r = rig_of(pooled(pool, 32), pvh);
    struct vc_balloon_info info = {.size = sizeof info};
    uint64_t before = taken(pool), one = 1, value;
    for (unsigned i = 0; i < COUNT; i++)
        cr_assert_eq(vc_write(r.vm, (FIRST + i) * PAGE, &one, sizeof one), 0);
    cr_assert_eq(vc_write(r.vm, 0x40000, &one, sizeof one), 0); /* the scratch page is there */
    uint64_t host = host_bytes(r.vm);

    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST, COUNT), COUNT);
    cr_assert_leq(host_bytes(r.vm), host - COUNT * PAGE);
    cr_assert_eq(taken(pool), before - COUNT * PAGE);
    cr_assert_eq(vc_balloon_info(r.vm, &info), 0);
    cr_assert_eq(info.now, 32 * MIB - COUNT * PAGE);
    cr_assert_eq(info.ram, 32 * MIB);
    audited(&r);
    cr_assert_eq(vc_read(r.vm, FIRST * PAGE, &value, sizeof value), VC_EFAULT);
    cr_assert_eq(vc_read(r.vm, FIRST * PAGE - 4, &value, sizeof value), VC_EFAULT);
    cr_assert_eq(vc_read(r.vm, (FIRST + COUNT) * PAGE - 4, &value, sizeof value), VC_EFAULT);
    cr_assert_eq(vc_write(r.vm, FIRST * PAGE, &one, sizeof one), VC_EFAULT);
    cr_assert_null(vc_ptr(r.vm, (FIRST - 1) * PAGE, 2 * PAGE));
    cr_assert_not_null(vc_ptr(r.vm, (FIRST - 1) * PAGE, PAGE));
    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST, 1), 0, "it is not its own");

    cr_assert_eq(balloon(&r, XENMEM_populate_physmap, FIRST, COUNT), COUNT);
    cr_assert_eq(taken(pool), before);
    audited(&r);
    for (unsigned i = 0; i < COUNT; i++) {
        cr_assert_eq(vc_read(r.vm, (FIRST + i) * PAGE, &value, sizeof value), 0);
        cr_assert_eq(value, 0);
    }
    cr_assert_eq(vc_close(r.vm), 0);
    cr_assert_eq(taken(pool), 0);
    cr_assert_eq(vc_pool_free(pool), 0);
}

Test(xen_balloon, pv_gives_and_takes)
{
    gives_and_takes(false);
}

Test(xen_balloon, pvh_gives_and_takes)
{
    gives_and_takes(true);
}

/* Host pages come many at once where nothing was given back. */
Test(xen_balloon, neighbours_do_not_bring_it_back)
{
    struct rig r = rig_new(1);
    uint64_t one = 1, host;
    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST + 5, 1), 1);
    host = host_bytes(r.vm);
    cr_assert_eq(vc_write(r.vm, (FIRST + 4) * PAGE, &one, sizeof one), 0);
    cr_assert_eq(host_bytes(r.vm), host + PAGE);
    cr_assert_eq(vc_close(r.vm), 0);
}

/* Two partitions of 32 MiB in a pool that is too small for both. */
Test(xen_balloon, memory_moves_between_partitions)
{
    vc_pool *pool = vc_pool_new(70 * MIB);
    vc_vm *a_vm = pooled(pool, 32), *b_vm;
    struct rig a = rig_of(a_vm, false), b;
    struct vc_pool_info info = {.size = sizeof info};
    cr_assert_null(pooled(pool, 36));
    cr_assert_eq(balloon(&a, XENMEM_decrease_reservation, FIRST, 0x400), 0x400);
    b_vm = pooled(pool, 36);
    cr_assert_not_null(b_vm, "%s", vc_errmsg());
    b = rig_of(b_vm, true);
    cr_assert_eq(vc_pool_info(pool, &info), 0);
    cr_assert_eq(info.partitions, 2);
    cr_assert_eq(vc_pool_free(pool), VC_EBUSY);

    /* What is left is less than what it gave, */
    unsigned room = (unsigned)((info.bytes - info.taken) / PAGE);
    cr_assert_lt(room, 0x400);
    cr_assert_eq(balloon(&a, XENMEM_populate_physmap, FIRST, 0x400), room);
    /* until the other one gives as much. */
    cr_assert_eq(balloon(&b, XENMEM_decrease_reservation, FIRST, 0x400 - room), 0x400 - room);
    cr_assert_eq(balloon(&a, XENMEM_populate_physmap, FIRST + room, 0x400 - room), 0x400 - room);
    cr_assert_eq(balloon(&b, XENMEM_populate_physmap, FIRST, 1), 0);
    cr_assert_eq(vc_pool_resize(pool, 70 * MIB + PAGE), 0);
    cr_assert_eq(balloon(&b, XENMEM_populate_physmap, FIRST, 2), 1);
    cr_assert_eq(vc_pool_resize(pool, PAGE), 0, "less than is taken");
    cr_assert_eq(balloon(&b, XENMEM_populate_physmap, FIRST + 1, 1), 0);
    audited(&a);

    /* The next guest starts with all memory, where there is room. */
    struct rig_image im = rig_image();
    cr_assert_eq(rig_boot(b_vm, &im, sizeof im), VC_ELIMIT);
    cr_assert_eq(vc_close(a_vm), 0);
    cr_assert_eq(vc_pool_resize(pool, 70 * MIB), 0);
    b = rig_of(b_vm, false);
    cr_assert_eq(b.d->frames, 36 * MIB / PAGE);
    audited(&b);
    cr_assert_eq(vc_close(b_vm), 0);
    cr_assert_eq(vc_pool_free(pool), 0);
}

Test(xen_balloon, limit)
{
    struct rig r = rig_new(1);
    domid_t self = DOMID_SELF;
    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST, 100), 100);
    cr_assert_eq(vc_balloon_limit(r.vm, 32 * MIB - 40 * PAGE), 0);
    cr_assert_eq(balloon(&r, XENMEM_populate_physmap, FIRST, 100), 60);
    cr_assert_eq(with(&r, hc_memory_op, XENMEM_maximum_reservation, &self, sizeof self),
                 32 * MIB / PAGE - 40);
    cr_assert_eq(vc_balloon_limit(r.vm, PAGE), 0);
    cr_assert_eq(r.d->frames, 32 * MIB / PAGE - 40, "it keeps what it has");
    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST + 0x200, 1), 1);
    cr_assert_eq(balloon(&r, XENMEM_populate_physmap, FIRST, 1), 0);
    cr_assert_eq(vc_close(r.vm), 0);
}

/* The guest has used the page before, so translations of it are remembered. */
static void unreachable(const char *engine_name, uint32_t engine)
{
    /* 1: mov eax, [0x1400000]; mov [0x41000], eax; jmp 1b */
    static const uint8_t code[] = {0xa1, 0, 0, 0x40, 1, 0xa3, 0, 0x10, 4, 0, 0xeb, 0xf4};
    struct vc_vm_opts o = {.size = sizeof o, .engine = engine};
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 32 * MIB, .cpus = 1};
    struct vc_budget budget = {.size = sizeof budget, .insns = 3000};
    struct vc_exit exit = {.size = sizeof exit};
    uint32_t value = 0x12345678, seen = 0;
    vc_vm *vm = vc_open("pv", &o);
    if (!vm && vc_errcode() == VC_ENOTSUP)
        return;
    cr_assert_eq(vc_pc(vm, &pc), 0, "%s", vc_errmsg());
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_RESET, 0);
    struct rig_image im = pvh_image();
    memcpy(im.code, code, sizeof code);
    cr_assert_eq(pvh_boot(vm, &im), 0, "%s", vc_errmsg());
    struct rig r = {.vm = vm, .d = vm->pv, .v = &vm->pv->vcpu[0], .at = 0x40000};
    r.scratch = pv_frame_ptr(r.d, 0x40);
    r.v->work = UINT32_MAX;
    const uint32_t expected[] = {value, UINT32_MAX, 0};
    cr_assert_eq(vc_write(vm, FIRST * PAGE, &value, sizeof value), 0);
    for (unsigned i = 0; i < 3; i++) {
        if (i)
            cr_assert_eq(balloon(&r, i == 1 ? XENMEM_decrease_reservation : XENMEM_populate_physmap,
                                 FIRST, 1),
                         1);
        cr_assert_eq(vc_run(cpu, &budget, &exit), 0, "%s", vc_errmsg());
        cr_assert_eq(exit.kind, VC_EXIT_BUDGET);
        cr_assert_eq(vc_read(vm, 0x41000, &seen, sizeof seen), 0);
        cr_assert_eq(seen, expected[i], "%s: %#x", engine_name, seen);
    }
    cr_assert_eq(vc_close(vm), 0);
}

Test(xen_balloon, pvh_cannot_reach_what_it_gave)
{
    unreachable("interpreter", VC_ENGINE_INTERP);
    unreachable("translator", VC_ENGINE_JIT);
}

/* Code that ran there is not there when the page comes back. */
Test(xen_balloon, code_is_forgotten)
{
    /* mov eax, 0x1400000; call eax; jmp to it again; there: inc dword [0x41000]; ret */
    static const uint8_t code[] = {0xb8, 0, 0, 0x40, 1, 0xff, 0xd0, 0xeb, 0xf7};
    static const uint8_t there[] = {0xff, 5, 0, 0x10, 4, 0, 0xc3}, nothing[] = {0xc3};
    struct rig r = rig_code(1, code, sizeof code);
    struct vc_budget budget = {.size = sizeof budget, .insns = 3001};
    struct vc_exit exit = {.size = sizeof exit};
    uint32_t before, after;
    cr_assert_eq(vc_reg_set(r.v->handle, VC_REG_RSP, 0x60000), 0);
    cr_assert_eq(vc_write(r.vm, FIRST * PAGE, there, sizeof there), 0);
    do /* until it is at its start, and not at what goes away */
        cr_assert_eq(vc_run(r.v->handle, &budget, &exit), 0, "%s", vc_errmsg());
    while (exit.rip >= FIRST * PAGE);
    cr_assert_eq(vc_read(r.vm, 0x41000, &before, sizeof before), 0);
    cr_assert_gt(before, 500);
    cr_assert_eq(balloon(&r, XENMEM_decrease_reservation, FIRST, 1), 1);
    cr_assert_eq(balloon(&r, XENMEM_populate_physmap, FIRST, 1), 1);
    memcpy(pv_frame_ptr(r.d, FIRST), nothing, sizeof nothing); /* a store that nobody reports */
    cr_assert_eq(vc_run(r.v->handle, &budget, &exit), 0, "%s", vc_errmsg());
    cr_assert_eq(vc_read(r.vm, 0x41000, &after, sizeof after), 0);
    cr_assert_eq(after, before);
    cr_assert_eq(vc_close(r.vm), 0);
}

Test(xen_balloon, target_is_in_the_xenstore)
{
    struct rig r = rig_new(1);
    struct vc_balloon_info info = {.size = sizeof info};
    char text[16] = "";
    cr_assert_eq(vc_balloon_info(r.vm, &info), 0);
    cr_assert_eq(info.target, 32 * MIB);
    cr_assert_eq(vc_balloon_target(r.vm, 24 * MIB), 0);
    cr_assert_eq(vc_xs_read(r.vm, "/local/domain/1/memory/target", text, sizeof text, NULL), 0);
    cr_assert_str_eq(text, "24576");
    cr_assert_eq(vc_balloon_info(r.vm, &info), 0);
    cr_assert_eq(info.target, 24 * MIB);
    cr_assert_eq(info.now, 32 * MIB, "only the guest's driver gives it back");
    cr_assert_eq(vc_close(r.vm), 0);
}

Test(xen_balloon, refused)
{
    struct vc_balloon_info info = {.size = sizeof info};
    struct vc_pool_info pool_info = {.size = 0};
    struct rig r = rig_new(1);
    vc_vm *none = vc_open("pv", NULL);
    vc_pool *pool = vc_pool_new(PAGE);
    cr_assert_null(vc_pool_new(0));
    cr_assert_eq(vc_errcode(), VC_ERANGE);
    cr_assert_null(vc_pool_new(4095));
    cr_assert_eq(vc_pool_resize(pool, 5000), VC_ERANGE);
    vc_errclear();
    cr_assert_eq(vc_pool_resize(NULL, PAGE), VC_EINVAL);
    cr_assert_eq(vc_pool_info(pool, NULL), VC_EINVAL);
    cr_assert_eq(vc_pool_info(pool, &pool_info), VC_EINVAL);
    cr_assert_eq(vc_pool_free(NULL), 0);
    cr_assert_eq(vc_pool_free(pool), 0);
    vc_errclear();
    cr_assert_eq(vc_balloon_target(NULL, PAGE), VC_EINVAL);
    cr_assert_eq(vc_balloon_target(none, PAGE), VC_ESTATE);
    cr_assert_eq(vc_balloon_limit(none, PAGE), VC_ESTATE);
    cr_assert_eq(vc_balloon_info(none, &info), VC_ESTATE);
    cr_assert_eq(vc_balloon_info(r.vm, NULL), VC_EINVAL);
    const uint64_t wrong[] = {0, 1, PAGE + 1, 32 * MIB + PAGE, UINT64_MAX, UINT64_MAX - 4095};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        cr_assert_eq(vc_balloon_target(r.vm, wrong[i]), VC_ERANGE);
        cr_assert_eq(vc_balloon_limit(r.vm, wrong[i]), VC_ERANGE);
    }
    cr_assert_eq(vc_close(none), 0);
    cr_assert_eq(vc_close(r.vm), 0);
}
