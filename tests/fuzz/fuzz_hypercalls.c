/* SPDX-License-Identifier: MIT
 * Hypercalls of a hostile PV guest: the input is a list of them, with numbers, words and
 * structures that are often nearly right, of exceptions, and of instructions that run for
 * a moment. After each, every frame's counts must be what its holders add up to, no table
 * may lead out of the domain, and what the hypervisor keeps in guest-physical memory must
 * be as it was. */
#include "../unit/xen_audit.h"
#include "../unit/xen_image.h"
#include "vm/vm.h"
#include <sanitizer/lsan_interface.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM     (8u << 20)
#define FREE    0x300u /* frames from here on are nobody's, and mapped writable */
#define SCRATCH (FREE + 64)
#define CODE    (FREE + 66)

enum { RAX, RCX, RDX, RSP = 4, RSI = 6, RDI, R8, R9, R10 };

struct fuzz {
    vc_vm *vm;
    vc_cpu *cpu;
    struct pv_domain *d;
    struct pv_vcpu *v;
    const uint8_t *p;
    size_t n;
    uint64_t kept[2]; /* sums of the hypervisor's memory */
};

static uint64_t take(struct fuzz *f, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n && f->n; i++, f->n--)
        v |= (uint64_t)*f->p++ << (8 * i);
    return v;
}

/* ---- numbers that mean something ------------------------------------------------------- */

static uint64_t frame(struct fuzz *f)
{
    const struct pv_domain *d = f->d;
    uint64_t n = take(f, 1);
    switch (n >> 4) {
    default: return FREE + (n & 7);                  /* few, so that one step meets another's */
    case 8: return d->vcpu[0].kernel_mfn + (n & 15); /* the first tables */
    case 9: return d->special + (n & 7);
    case 10: return d->nmfn + (n & 7);
    case 11: return (d->hidden >> 12) + 508 + (n & 7);
    case 12: return n & 1 ? d->store_mfn : d->console_mfn;
    case 13: return take(f, 2);
    case 14: return n & 1 ? PTE_FRAME >> 12 : (d->hidden + d->hidden_len) >> 12;
    case 15: return n & 1 ? 0 : take(f, 8);
    }
}

static uint64_t entry(struct fuzz *f)
{
    uint64_t e = frame(f) << 12, n = take(f, 1);
    return e | (n & 0xe7) | (n & 8 ? PTE_NX : 0) | (n & 0x10 ? take(f, 1) << 8 : 0);
}

static uint64_t address(struct fuzz *f)
{
    uint64_t n = take(f, 1);
    switch (n >> 5) {
    default: return rig_va(SCRATCH) + (n & 31) * 8;
    case 4: return rig_va(SCRATCH + 1) - (n & 31);
    case 5: return rig_va(frame(f)) + (n & 31) * 8;
    case 6:
        return (const uint64_t[]){0,          HV_OWN_BASE,    MACH2PHYS_VIRT_START,
                                  1ull << 47, UINT64_MAX - 7, 0x8000000000ull,
                                  RIG_BASE,   rig_va(CODE)}[n & 7];
    case 7: return take(f, 8);
    }
}

static uint64_t word(struct fuzz *f)
{
    uint64_t n = take(f, 1);
    switch (n & 7) {
    case 0: return n >> 3;
    case 1: return frame(f);
    case 2: return address(f);
    case 3: return frame(f) << 12 | (n >> 3) * 8;
    case 4: return entry(f);
    case 5: return n & 8 ? DOMID_SELF : n >> 4;
    case 6: return take(f, 4);
    default: return take(f, 1);
    }
}

static uint64_t *scratch(struct fuzz *f)
{
    return pv_frame_ptr(f->d, SCRATCH);
}

/* ---- what the guest does ------------------------------------------------------------------- */

static void hypercall(struct fuzz *f, uint64_t nr, const uint64_t a[5])
{
    uint64_t *g = f->d->eng->gprs(f->v->bc);
    g[RAX] = nr;
    g[RDI] = a[0];
    g[RSI] = a[1];
    g[RDX] = a[2];
    g[R10] = a[3];
    g[R8] = a[4];
    f->d->eng->set_rip(f->v->bc, rig_va(CODE) + 2);
    pv_hook_syscall(f->d, 0);
}

static void any_hypercall(struct fuzz *f)
{
    uint64_t a[5], nr = take(f, 1) % 64;
    for (unsigned i = 0; i < 5; i++)
        a[i] = word(f);
    hypercall(f, nr, a);
}

/* Structures in the scratch page, for the next ones to point to. */
static void fill(struct fuzz *f)
{
    uint64_t at = take(f, 1) % 64, n = take(f, 1) % 16;
    for (uint64_t i = 0; i < n; i++)
        scratch(f)[at + i] = word(f);
}

static void ext(struct fuzz *f)
{
    struct mmuext_op op = {.cmd = (unsigned)take(f, 1) % 24};
    op.arg1.mfn = op.cmd == MMUEXT_SET_LDT ? address(f) & ~0xfffull : frame(f);
    op.arg2.src_mfn = op.cmd == MMUEXT_SET_LDT ? take(f, 1) * 16 : frame(f);
    memcpy(scratch(f), &op, sizeof op);
    hypercall(f, __HYPERVISOR_mmuext_op, (const uint64_t[]){rig_va(SCRATCH), 1, 0, DOMID_SELF, 0});
}

static void update(struct fuzz *f)
{
    uint64_t where = take(f, 1);
    scratch(f)[0] = frame(f) << 12 | (where & 0x3f) * 8 * (where & 0x40 ? 8 : 1) | where >> 7;
    scratch(f)[1] = entry(f);
    hypercall(f, __HYPERVISOR_mmu_update, (const uint64_t[]){rig_va(SCRATCH), 1, 0, DOMID_SELF, 0});
}

static void protect(struct fuzz *f)
{
    uint64_t mfn = frame(f);
    hypercall(f, __HYPERVISOR_update_va_mapping,
              (const uint64_t[]){rig_va(mfn), mfn << 12 | (take(f, 1) & 3), UVMF_INVLPG, 0, 0});
}

/* A table of one or two descriptors of any kind, and its registration. */
static void descriptors(struct fuzz *f)
{
    uint64_t mfn = FREE + take(f, 1) % 8, attr = take(f, 2), n = take(f, 1);
    const struct pv_page *p = &f->d->page[mfn];
    if (p->refs && (!p->types || p->type == TYPE_WRITABLE))
        ((uint64_t *)pv_frame_ptr(f->d, mfn))[n & 3] = attr << 40 | 0xffff;
    if (n & 0x80)
        hypercall(f, __HYPERVISOR_update_descriptor,
                  (const uint64_t[]){mfn << 12 | (n & 0x3f), attr << 40 | take(f, 2), 0, 0, 0});
    scratch(f)[0] = mfn;
    hypercall(f, __HYPERVISOR_set_gdt, (const uint64_t[]){rig_va(SCRATCH), n * 2, 0, 0, 0});
}

static void first_state(struct fuzz *f)
{
    struct vcpu_guest_context *c = pv_frame_ptr(f->d, SCRATCH);
    memset(c, 0, sizeof *c);
    c->flags = VGCF_in_kernel;
    c->gdt_ents = take(f, 1);
    c->gdt_frames[0] = frame(f);
    c->ctrlreg[3] = xen_pfn_to_cr3(frame(f));
    c->ctrlreg[1] = xen_pfn_to_cr3(take(f, 1) & 1 ? frame(f) : 0);
    hypercall(f, __HYPERVISOR_vcpu_op,
              (const uint64_t[]){VCPUOP_initialise, 1, rig_va(SCRATCH), 0, 0});
}

static void balloon(struct fuzz *f)
{
    struct xen_memory_reservation m = {.nr_extents = take(f, 1) % 4, .domid = DOMID_SELF};
    m.extent_start.p = (xen_pfn_t *)(uintptr_t)(rig_va(SCRATCH) + 64);
    memcpy(scratch(f), &m, sizeof m);
    for (unsigned i = 0; i < 4; i++)
        scratch(f)[8 + i] = frame(f);
    hypercall(f, __HYPERVISOR_memory_op,
              (const uint64_t[]){take(f, 1) % 16, rig_va(SCRATCH), 0, 0, 0});
}

static void event(struct fuzz *f)
{
    const struct pv_event ev = {.kind = take(f, 1) % 3,
                                .vector = (uint8_t)take(f, 1),
                                .err = (uint32_t)take(f, 1),
                                .has_err = f->n & 1,
                                .cr2 = address(f),
                                .insn_ip = rig_va(CODE)};
    pv_hook_event(f->d, 0, &ev);
}

/* A grant that a back end maps for a moment. */
static void grant(struct fuzz *f)
{
    uint32_t ref = (uint32_t)take(f, 1) % 40;
    uint64_t gpa, how = take(f, 1);
    if (how & 0x20) { /* the version first */
        scratch(f)[0] = take(f, 1) % 4;
        hypercall(f, __HYPERVISOR_grant_table_op,
                  (const uint64_t[]){GNTTABOP_set_version, rig_va(SCRATCH), 1, 0, 0});
    }
    if (f->d->grant_version == 1) {
        f->d->grant[ref / GRANTS_PER_FRAME][ref % GRANTS_PER_FRAME] = (struct grant_entry_v1){
            .flags = how & 0xf, .domid = (domid_t)(how >> 6), .frame = (uint32_t)frame(f)};
    } else {
        union grant_entry_v2 *g = pv_grant_v2(f->d, ref);
        g->sub_page.frame = frame(f);
        g->sub_page.page_off = (uint16_t)(take(f, 1) * 17);
        g->sub_page.length = (uint16_t)(take(f, 1) * 17);
        g->hdr.domid = (domid_t)(how >> 6);
        g->hdr.flags = (uint16_t)((how & 0xf) | (g->sub_page.length & 1 ? GTF_sub_page : 0));
    }
    uint8_t buf[64] = {0};
    pv_grant_copy(f->d, ref, how & 0x10, (uint32_t)take(f, 1) * 17, buf, sizeof buf);
    uint8_t *p = pv_grant_map(f->d, ref, how & 0x10, &gpa);
    if (!p)
        return;
    if (how & 0x10)
        p[how] = (uint8_t)how;
    pv_grant_unmap(f->d, ref, how & 0x10, gpa);
}

/* The guest maps grants of its own, and gives them back: with handles, entries and addresses
 * that are often right. */
static uint64_t map_place(struct fuzz *f, bool pte)
{
    uint64_t l1, n = take(f, 1), va = rig_va(FREE + (n & 7));
    if (n >> 5 == 7)
        return address(f);
    return pte && pv_entry_find(f->v, va, &l1) ? l1 << 12 | (va >> 12 & 511) * 8 : va;
}

static void grant_map(struct fuzz *f)
{
    uint64_t how = take(f, 1);
    uint32_t ref = 8 + (uint32_t)(how >> 5);
    if (take(f, 1) & 1 && f->d->grant_version == 1)
        f->d->grant[0][ref] = (struct grant_entry_v1){
            .flags = GTF_permit_access, .domid = OWN_DOMID, .frame = (uint32_t)frame(f)};
    else if (f->d->grant_version == 2)
        *pv_grant_v2(f->d, ref) = (union grant_entry_v2){
            .full_page = {.hdr = {.flags = GTF_permit_access, .domid = OWN_DOMID},
                          .frame = frame(f)}};
    const struct gnttab_map_grant_ref m = {.host_addr = map_place(f, how & GNTMAP_contains_pte),
                                           .flags = (uint32_t)how & 0x1f,
                                           .ref = ref,
                                           .dom = OWN_DOMID};
    memcpy(scratch(f), &m, sizeof m);
    hypercall(f, __HYPERVISOR_grant_table_op,
              (const uint64_t[]){GNTTABOP_map_grant_ref, rig_va(SCRATCH), 1, 0, 0});
}

static void grant_unmap(struct fuzz *f)
{
    uint64_t how = take(f, 1);
    const uint32_t handle = (uint32_t)how & 15;
    const struct pv_map *m = handle < f->d->maps_end ? &f->d->maps[handle] : NULL;
    bool pte = m && m->flags & GNTMAP_contains_pte, replace = how & 0x80;
    const struct gnttab_unmap_grant_ref u = {.host_addr = how & 0x10 ? map_place(f, pte) : 0,
                                             .dev_bus_addr = how & 0x20 && m ? m->mfn << 12 : 0,
                                             .handle = handle};
    const struct gnttab_unmap_and_replace r = {
        .host_addr = map_place(f, pte), .new_addr = map_place(f, false), .handle = handle};
    if (replace)
        memcpy(scratch(f), &r, sizeof r);
    else
        memcpy(scratch(f), &u, sizeof u);
    hypercall(f, __HYPERVISOR_grant_table_op,
              (const uint64_t[]){replace ? GNTTABOP_unmap_and_replace : GNTTABOP_unmap_grant_ref,
                                 rig_va(SCRATCH), 1, 0, 0});
}

/* Event channels: queues in frames that are now and then something else, with words
 * that the guest writes as it likes. */
static void events(struct fuzz *f)
{
    static const uint8_t ops[] = {
        EVTCHNOP_init_control, EVTCHNOP_expand_array, EVTCHNOP_set_priority, EVTCHNOP_bind_ipi,
        EVTCHNOP_bind_vcpu,    EVTCHNOP_send,         EVTCHNOP_send,         EVTCHNOP_unmask,
        EVTCHNOP_close,        EVTCHNOP_reset,        EVTCHNOP_alloc_unbound};
    uint8_t op = ops[take(f, 1) % ARRAY_LEN(ops)];
    uint32_t *s = (uint32_t *)scratch(f);
    const struct pv_fifo *q = f->d->fifo;
    memset(s, 0, 64);
    switch (op) {
    case EVTCHNOP_init_control:
        scratch(f)[0] = frame(f);
        s[2] = (uint32_t)take(f, 2) & ~3u;
        s[3] = (uint32_t)take(f, 1) % 3;
        break;
    case EVTCHNOP_expand_array: scratch(f)[0] = frame(f); break;
    case EVTCHNOP_reset: s[0] = DOMID_SELF; break;
    case EVTCHNOP_alloc_unbound: s[0] = DOMID_SELF; break;
    case EVTCHNOP_bind_ipi: s[0] = (uint32_t)take(f, 1) % 3; break;
    default: s[0] = (uint32_t)take(f, 1) % 16; s[1] = (uint32_t)take(f, 1) % 18;
    }
    if (q && q->frames)
        q->words[0][take(f, 1) % 16] ^= (uint32_t)take(f, 1) << 24 | (uint32_t)take(f, 1);
    hypercall(f, __HYPERVISOR_event_channel_op, (const uint64_t[]){op, rig_va(SCRATCH), 0, 0, 0});
    pv_port_notify(f->d, f->d->store_port);
}

/* Stores to tables and others, and privileged instructions; then whatever comes. */
static const char *const known[] = {
    "\x48\x89\x07\x90",
    "\x48\x87\x07\x90",
    "\xf0\x48\x0f\xb1\x37",
    "\xf0\x80\x27\xfd",
    "\x48\x0f\xba\x37\x01",
    "\x89\x07\x90",
    "\x48\x83\x0f\x02",
    "\x48\x31\x37",
    "\x0f\x32",
    "\x0f\x30",
    "\x0f\x20\xd8",
    "\x0f\x22\xd8",
    "\x0f\x22\xe0",
    "\x0f\x22\xc0",
    "\xe4\x42",
    "\xe6\x70",
    "\x0f\x05",
    "\xcd\x80",
    "\x8e\xd0",
    "\x0f\x23\xf8",
};

static void run(struct fuzz *f)
{
    uint8_t *code = pv_frame_ptr(f->d, CODE);
    uint64_t *g = f->d->eng->gprs(f->v->bc), n = take(f, 1);
    struct vc_budget b = {.size = sizeof b, .insns = 12, .ns = 100000};
    struct vc_exit x = {.size = sizeof x};
    const char *s = known[n % ARRAY_LEN(known)];
    size_t len = strlen(s);
    if (f->d->page[CODE].type != TYPE_WRITABLE || !f->d->page[CODE].types)
        return;                   /* it is something else by now */
    *scratch(f) = take(f, 1) & 3; /* the level for ports */
    hypercall(f, __HYPERVISOR_physdev_op,
              (const uint64_t[]){PHYSDEVOP_set_iopl, rig_va(SCRATCH), 0, 0, 0});
    memset(code, 0x90, 64);
    memcpy(code, s, len);
    for (unsigned i = 0; n & 0x80 && i < 8; i++)
        code[len + i] = (uint8_t)take(f, 1);
    f->d->eng->stored(f->v->bc, CODE * PAGE, 64);
    g[RDI] = rig_va(frame(f)) + take(f, 1) * 8;
    g[RAX] = word(f);
    g[RSI] = entry(f);
    g[RCX] = n & 0x40 ? 0xc0000080 + take(f, 1) : take(f, 1);
    g[RDX] = 0;
    g[RSP] = rig_va(SCRATCH + 1) + 2048;
    f->d->eng->set_rip(f->v->bc, rig_va(CODE));
    vc_run(f->cpu, &b, &x);
}

/* ---- what must hold ------------------------------------------------------------------------- */

/* The hypervisor's tables, without the bits that walks set. */
AUDIT uint64_t sum(const uint64_t *t, size_t words)
{
    uint64_t s = 0;
    for (size_t i = 0; i < words; i++)
        s = s * 31 + (t[i] & ~(PTE_A | PTE_D));
    return s;
}

AUDIT void sums(const struct fuzz *f, uint64_t out[2])
{
    const struct pv_domain *d = f->d;
    const uint8_t *hv = d->hv;
    out[0] = sum((const uint64_t *)(hv + ((d->m2p_l3 << 12) - d->hidden)), 1024); /* and its L2 */
    out[1] = sum((const uint64_t *)(hv + ((d->own_l3 << 12) - d->hidden)), 1024);
}

AUDIT void check(const struct fuzz *f)
{
    const char *wrong = xen_audit(f->d);
    uint64_t now[2];
    sums(f, now);
    if (!wrong && memcmp(now, f->kept, sizeof now) != 0)
        wrong = "the hypervisor's own tables changed";
    if (wrong) {
        fprintf(stderr, "audit: %s\n", wrong);
        abort();
    }
}

static void step(struct fuzz *f)
{
    switch (take(f, 1) % 23) {
    case 0: any_hypercall(f); break;
    case 1: fill(f); break;
    case 2:
    case 3: ext(f); break;
    case 4:
    case 5: update(f); break;
    case 6:
    case 7: protect(f); break;
    case 8: first_state(f); break;
    case 9: balloon(f); break;
    case 10: event(f); break;
    case 11: grant(f); break;
    case 12:
    case 13: run(f); break;
    case 14: pv_console_kick(f->d); break;
    case 15:
    case 16: descriptors(f); break;
    case 17:
    case 18: events(f); break;
    case 20: grant_map(f); break;
    case 21:
    case 22: grant_unmap(f); break;
    default: pv_hook_wake(f->d, 0); break;
    }
}

/* The partition stays, the domain is made anew. */
static void open_domain(struct fuzz *f)
{
    static vc_vm *vm;
    static vc_cpu *cpu;
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = VC_ENGINE_INTERP};
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = RAM, .cpus = 2};
    struct rig_image im = rig_image();
    if (!vm) {
        __lsan_disable(); /* some of it is reached from memory that is no heap's */
        vm = vc_open("pv", &opts);
        if (!vm || vc_pc(vm, &pc))
            abort();
        cpu = vc_cpu_new(vm, VC_MODE_RESET, 0);
        if (!cpu || !vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0))
            abort();
        __lsan_enable();
    }
    if (rig_boot(vm, &im, sizeof im))
        abort();
    f->vm = vm;
    f->cpu = cpu;
    f->d = vm->pv;
    f->v = &f->d->vcpu[0];
    sums(f, f->kept);
}

/* A guest that crashed or went down: the next step finds it up. */
static void revive(struct fuzz *f)
{
    atomic_store(&f->vm->power, 0);
    for (unsigned i = 0; i < 2; i++)
        mail_clear(&f->vm->cpu[i]->mail, PEND_POWER | PEND_EVENT);
    atomic_store(&f->v->up, true);
    if (!f->v->kernel) {
        uint64_t *g = f->d->eng->gprs(f->v->bc);
        g[RSP] = f->v->kernel_sp = rig_va(SCRATCH + 1) + 2048;
        f->v->callback[CB_SYSCALL].address = rig_va(CODE);
        pv_hook_syscall(f->d, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.p = data, .n = size};
    open_domain(&f);
    check(&f);
    while (f.n) {
        step(&f);
        check(&f);
        revive(&f);
    }
    /* All is freed with the input that made it, or the fuzzer would look for leaks each time. */
    vm_pv_free(f.vm);
    return 0;
}
