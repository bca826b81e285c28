/* SPDX-License-Identifier: MIT
 * A paravirtual guest on this engine: hooks called, state shown to them. */
#include "pv.h"
#include "access.h"
#include "block.h"
#include "far/far.h"
#include "sampler.h"
#include "sys/sys.h"
#include "tlb.h"
#include "../../base/err.h"
#include <sched.h>
#include <time.h>

static struct emu *emu_of(struct backend_cpu *bc)
{
    return (struct emu *)bc;
}

/* ---- calling hooks ---------------------------------------------------------------- */

/* While a hook runs no guest code does, and before it runs again the mail is looked
 * at: flush_others() counts on both. */
static void enter(struct emu *c)
{
    atomic_store(&c->in_guest, 0);
    doing(c, VC_DOING_DEVICES);
}

static void leave(struct emu *c)
{
    doing(c, VC_DOING_INTERPRETER);
    c->shadow = 0;
    emu_mode_changed(c);
    atomic_store(&c->in_guest, 1);
}

void pv_deliver(struct emu *c, enum emu_event type, unsigned vector, bool has_err, uint32_t err,
                uint64_t insn_ip)
{
    struct pv_event ev = {.kind = type == EV_SOFTINT ? PV_EV_SOFT
                                  : type == EV_NMI   ? PV_EV_NMI
                                                     : PV_EV_FAULT,
                          .vector = (uint8_t)vector,
                          .has_err = has_err,
                          .err = err,
                          .cr2 = c->fault.cr2,
                          .insn_ip = insn_ip};
    if (type == EV_EXTINT) /* of the PC's controllers, which this guest has not */
        return;
    if (type == EV_NMI) {
        c->nmi_masked = false; /* the ABI does that */
        mail_nmi_done(c->mail);
    }
    enter(c);
    c->env->pv->event(c->env->pv_ctx, c->index, &ev);
    leave(c);
}

void pv_syscall(struct emu *c)
{
    enter(c);
    c->env->pv->syscall(c->env->pv_ctx, c->index);
    leave(c);
}

void pv_wake(struct emu *c)
{
    c->halted = 0;
    if (!c->env->pv && !c->env->hvm)
        return;
    enter(c);
    if (c->env->pv)
        c->env->pv->wake(c->env->pv_ctx, c->index);
    else
        c->env->hvm->wake(c->env->pv_ctx, c->index);
    leave(c);
}

void hvm_hypercall(struct emu *c)
{
    enter(c);
    c->env->hvm->hypercall(c->env->pv_ctx, c->index);
    leave(c);
}

void pv_start(struct emu *c)
{
    enter(c);
    c->env->pv->start(c->env->pv_ctx, c->index);
    leave(c);
}

/* ---- accessors ----------------------------------------------------------------------- */

static int attach_any(struct backend_vm *bvm, const struct pv_hooks *pv,
                      const struct hvm_hooks *hvm, void *ctx)
{
    struct emu_vm *vm = (struct emu_vm *)bvm;
    if (vm->lockstep)
        return err_set(VC_ENOTSUP, "lockstep knows no paravirtual guests: use another engine");
    vm->env.pv_ctx = ctx;
    vm->env.pv = pv;
    vm->env.hvm = hvm;
    vm->env.pv_seen = NULL;
    return 0;
}

static int attach(struct backend_vm *bvm, const struct pv_hooks *hooks, void *ctx)
{
    return attach_any(bvm, hooks, NULL, ctx);
}

static int attach_hvm(struct backend_vm *bvm, const struct hvm_hooks *hooks, void *ctx)
{
    return attach_any(bvm, NULL, hooks, ctx);
}

static uint64_t *gprs(struct backend_cpu *bc)
{
    return emu_of(bc)->gpr;
}

static uint64_t get_rip(struct backend_cpu *bc)
{
    return emu_of(bc)->rip;
}

static void set_rip(struct backend_cpu *bc, uint64_t rip)
{
    emu_of(bc)->rip = rip;
}

static uint64_t get_rflags(struct backend_cpu *bc)
{
    return flags_get(emu_of(bc));
}

static void set_rflags(struct backend_cpu *bc, uint64_t rflags)
{
    flags_set(emu_of(bc), rflags);
}

static uint16_t selector(struct backend_cpu *bc, enum pv_seg seg)
{
    return emu_of(bc)->seg[seg].sel;
}

static bool is_code64(struct backend_cpu *bc)
{
    const struct emu *c = emu_of(bc);
    return c->seg[SEG_CS].attr & SEG_A_L;
}

/* What may fault is tried: false when it did, with the state as before. */
static bool try_load(struct emu *c, void (*fn)(struct emu *c, const void *arg), const void *arg)
{
    jmp_buf *const outer = c->jmp;
    struct seg saved[SEG_COUNT];
    jmp_buf here;

    memcpy(saved, c->seg, sizeof saved);
    if (setjmp(here)) {
        c->jmp = outer;
        memcpy(c->seg, saved, sizeof saved);
        return false;
    }
    c->jmp = &here;
    fn(c, arg);
    c->jmp = outer;
    return true;
}

static void do_cs_ss(struct emu *c, const void *arg)
{
    const uint16_t *sel = arg;
    struct desc cs, ss;
    far_return_cs(c, sel[0], &cs);
    if (seg_dpl(&cs.seg) != 3)
        seg_fault(c, EXC_GP, sel[0]);
    seg_read_stack(c, sel[1], 3, EXC_GP, &ss);
    desc_mark_accessed(c, &cs);
    desc_mark_accessed(c, &ss);
    seg_set_cs(c, &cs.seg, 3);
    c->seg[SEG_SS] = ss.seg;
}

static bool load_cs_ss(struct backend_cpu *bc, uint16_t cs, uint16_t ss)
{
    const uint16_t sel[2] = {cs | 3, ss | 3};
    return try_load(emu_of(bc), do_cs_ss, sel);
}

static void flat_cs_ss(struct backend_cpu *bc, uint16_t cs, uint16_t ss)
{
    struct emu *c = emu_of(bc);
    seg_set_flat(c, SEG_CS, cs, ATTR_CODE64, 3);
    seg_set_flat(c, SEG_SS, ss, ATTR_DATA32, 3);
    c->cpl = 3;
}

static void do_data(struct emu *c, const void *arg)
{
    const uint16_t *v = arg;
    seg_load(c, v[0], v[1]);
}

static bool load_data(struct backend_cpu *bc, enum pv_seg seg, uint16_t sel)
{
    const uint16_t v[2] = {(uint16_t)seg, sel};
    return try_load(emu_of(bc), do_data, v);
}

static uint64_t get_base(struct backend_cpu *bc, enum pv_seg seg)
{
    return emu_of(bc)->seg[seg].base;
}

static void set_base(struct backend_cpu *bc, enum pv_seg seg, uint64_t base)
{
    emu_of(bc)->seg[seg].base = base;
}

static void set_gdt(struct backend_cpu *bc, uint64_t base, uint32_t limit)
{
    emu_of(bc)->gdt = (struct dtable){base, limit};
}

static void set_ldt(struct backend_cpu *bc, uint64_t base, uint32_t limit)
{
    emu_of(bc)->seg[SEG_LDTR] =
        (struct seg){.base = base, .limit = limit, .sel = limit ? 8 : 0, .attr = limit ? 0x82 : 0};
}

static void note_seen(struct backend_vm *bvm, _Atomic uint64_t *seen, uint64_t n)
{
    struct emu_vm *vm = (struct emu_vm *)bvm;
    vm->env.pv_seen = seen;
    vm->env.pv_seen_n = n;
}

static void space(struct backend_cpu *bc, unsigned number, uint64_t root_mfn, bool fresh)
{
    struct emu *c = emu_of(bc);
    c->pv_root = root_mfn;
    tlb_space(c, number);
    if (fresh)
        tlb_forget_own(c);
}

/* What either mode's own set remembers stays true: each has one root, and what the processor
 * reads for itself, descriptor tables, is the same under both. */
static void switch_mode(struct backend_cpu *bc, bool kernel, uint64_t cr3)
{
    struct emu *c = emu_of(bc);
    c->pv_kernel = kernel;
    c->cr3 = cr3;
    emu_mode_changed(c);
}

static void set_ts(struct backend_cpu *bc, bool ts)
{
    struct emu *c = emu_of(bc);
    c->cr0 = ts ? c->cr0 | CR0_TS : c->cr0 & ~(uint64_t)CR0_TS;
}

static void flush(struct backend_cpu *bc)
{
    emu_flush_all(emu_of(bc));
}

static void flush_page(struct backend_cpu *bc, uint64_t linear, enum pv_forget what)
{
    static const uint8_t kinds[] = {
        [PV_FORGET_WRITES] = BIT(TLB_W),
        [PV_FORGET_DATA] = BIT(TLB_R) | BIT(TLB_W),
        [PV_FORGET_ALL] = BIT(TLB_R) | BIT(TLB_W) | BIT(TLB_X),
    };
    emu_flush_page_kinds(emu_of(bc), linear, kinds[what]);
}

/* A vCPU that is in the guest sees the flag at its next block; a busy host may take
 * its time until the vCPU's thread runs. */
static void wait_flushed(const struct emu *t)
{
    const struct timespec nap = {.tv_nsec = 50000};
    for (unsigned i = 0; atomic_load(&t->in_guest) && atomic_load(&t->mail->pending) & PEND_FLUSH;
         i++) {
        if (i < 64)
            sched_yield();
        else
            nanosleep(&nap, NULL);
    }
}

static void flush_mask(struct emu_vm *vm, uint64_t mask)
{
    for (unsigned i = 0; i < vm->ncpu; i++)
        if (mask >> i & 1 && vm->cpu[i])
            mail_post(vm->cpu[i]->mail, PEND_FLUSH);
    for (unsigned i = 0; i < vm->ncpu; i++)
        if (mask >> i & 1 && vm->cpu[i])
            wait_flushed(vm->cpu[i]);
}

static void flush_others(struct backend_cpu *bc, uint64_t mask)
{
    flush_mask(emu_of(bc)->vm, mask & ~BIT64(emu_of(bc)->index));
}

static void flush_all(struct backend_vm *bvm)
{
    flush_mask((struct emu_vm *)bvm, UINT64_MAX);
}

/* What the soft TLB knows. While others wait for a flush that is still to be done only
 * the tables count: who stores says so first, and who asks for flushes waits for that. */
static void *known_ptr(struct emu *c, uint64_t linear, enum pv_access access, uint64_t *gpa)
{
    const struct tlb_set *set = tlb_set(c, TLB_PV_KERNEL);
    unsigned i = tlb_index(linear);
    const struct tlb_ent *e = &set->e[access == PV_WRITE ? TLB_W : TLB_R][i];
    if (!c->env->pv || !c->pv_kernel || e->tag != (linear & PAGE_MASK_4K) ||
        (gpa && access != PV_WRITE) || atomic_load(&c->mail->pending) & PEND_FLUSH)
        return NULL;
    if (gpa)
        *gpa = set->wx[i].phys | (linear & 4095);
    return (void *)(uintptr_t)(linear + e->addend);
}

static void *ptr(struct backend_cpu *bc, uint64_t linear, enum pv_access access, uint64_t *gpa)
{
    struct emu *c = emu_of(bc);
    struct walk w;
    void *known = known_ptr(c, linear, access, gpa);
    if (known)
        return known;
    if (!canonical(c, linear) ||
        mmu_walk(c->env->mem, &c->walk, linear, access == PV_WRITE ? WALK_WRITE : WALK_READ,
                 c->env->pv != NULL, true, true, &w))
        return NULL;
    const struct mem_region *r = mem_find(c->env->mem, w.gpa);
    if (!r || !(r->prot & (access == PV_WRITE ? VC_MEM_WRITE : VC_MEM_READ)))
        return NULL;
    mem_touch(r, w.gpa);
    if (access == PV_WRITE)
        mem_mark_dirty(r, w.gpa);
    if (gpa)
        *gpa = w.gpa;
    return r->host + (w.gpa - r->gpa);
}

static void stored(struct backend_cpu *bc, uint64_t gpa, unsigned len)
{
    struct emu *c = emu_of(bc);
    const struct mem_region *r = mem_find(c->env->mem, gpa);
    if (r && atomic_load(mem_code_word(r, gpa)))
        mem_stored(c->env->mem, r, gpa, len);
}

static void halt(struct backend_cpu *bc)
{
    struct emu *c = emu_of(bc);
    c->halted = 1;
    c->stats.hlts++;
}

static void park(struct backend_cpu *bc)
{
    emu_of(bc)->wait_sipi = true;
}

static void cpuid(struct backend_cpu *bc, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    emu_cpuid(emu_of(bc), leaf, sub, out);
}

const struct pv_engine emu_pv = {
    .attach = attach,
    .attach_hvm = attach_hvm,
    .gprs = gprs,
    .rip = get_rip,
    .set_rip = set_rip,
    .rflags = get_rflags,
    .set_rflags = set_rflags,
    .selector = selector,
    .code64 = is_code64,
    .load_cs_ss = load_cs_ss,
    .flat_cs_ss = flat_cs_ss,
    .load_data = load_data,
    .base = get_base,
    .set_base = set_base,
    .set_gdt = set_gdt,
    .set_ldt = set_ldt,
    .note_seen = note_seen,
    .space = space,
    .switch_mode = switch_mode,
    .set_ts = set_ts,
    .flush = flush,
    .flush_page = flush_page,
    .flush_others = flush_others,
    .flush_all = flush_all,
    .ptr = ptr,
    .stored = stored,
    .halt = halt,
    .park = park,
    .cpuid = cpuid,
};
