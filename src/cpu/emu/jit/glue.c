/* SPDX-License-Identifier: MIT
 * Between translated code and C: entering it, interpreting single instructions
 * for it, linking its jumps. */
#include "../access.h"
#include "../flags.h"
#include "../simd/fpu.h"
#include "jit.h"
#include "../sampler.h"
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Flags as LAHF and SETO leave them in AX: what translated code keeps. */
static void flags_to_host(struct emu *c)
{
    if (c->cc_op == CC_HOST)
        return;
    uint32_t f = flags_arith(c);
    c->cc_src = (f & 0xd5) << 8 | (f & FL_OF ? 1 : 0);
    c->cc_op = CC_HOST;
}

void op_jit_return(struct emu *c, const struct op *op)
{
    (void)op;
    c->jit_cont = 1;
}

/* The block was dropped by its own store: leave after the instruction. */
static bool must_leave(const struct jit_site *site)
{
    return atomic_load_explicit(&site->parent->dead, memory_order_relaxed);
}

/* From the fuel to the count of instructions, and back. */
static void count_in(struct emu *c)
{
    c->icount = c->fuel_base - (uint64_t)c->fuel;
}

static uint32_t leave(struct emu *c)
{
    c->fuel = (int64_t)(c->fuel_base - c->icount);
    return 0;
}

static uint32_t go_on(struct emu *c)
{
    c->fuel = (int64_t)(c->fuel_base - c->icount);
    if (atomic_load_explicit(&c->icount_check, memory_order_relaxed) <= c->icount) {
        c->fuel_base = c->icount;
        c->fuel = 0;
    }
    doing(c, VC_DOING_TRANSLATED);
    return 1;
}

/* What translated 32-bit code reaches in host memory depends on it: so it does not hang
 * on what handlers leave in registers. */
static void narrow(struct emu *c)
{
    if (c->mode & MODE_FLAT)
        emu_narrow(c);
}

/* The interpreter goes on with the rest of the block from here. */
static uint32_t interpret_rest(struct emu *c, const struct jit_site *site)
{
    c->icount += site->before;
    c->rip = ip_wrap(c, op_ip(c, &site->op));
    c->jit_skip = 1;
    if (site->shadow) { /* interrupts wait until it is done */
        c->shadow = 1;
        emu_mode_changed(c);
    }
    return leave(c);
}

/* Are all exceptions masked? Else the host would raise what the guest shall. */
static bool x87_masked(const struct emu *c)
{
    return (get_le16(c->fx + FX_FCW) & 0x3f) == 0x3f;
}

uint32_t jit_do_callout(struct emu *c, struct jit_site *site)
{
    struct block *unit = c->unit;
    struct op *op = unit->op;

    jit_seen(c);
    count_in(c);
    doing(c, VC_DOING_INTERPRETER);
    c->stats.callouts++;
    if (site->always)
        c->steps[site->op.mnemonic]++;
    else
        c->stats.callouts_slow++;
    if (jit_site_scattered(site)) {
        jit_scattered_set(c->vm->jit, site->phys);
        code_drop(c, site->parent);
    }
    if (site->group)
        return interpret_rest(c, site);
    unit->nops = 1;
    op[0] = site->op;
    op[1] = (struct op){.fn = op_jit_return, .off = (uint16_t)(op->off + op->len)};
    c->icount += site->before + 1u;
    c->block = unit;
    c->op = op;
    c->jit_cont = 0;
    op->fn(c, op);
    c->block = NULL;
    c->op = NULL;
    flags_to_host(c);
    if (!c->jit_cont)
        return leave(c);
    if (must_leave(site) || (c->simd_kept & JIT_SIMD_X87 && !x87_masked(c))) {
        c->rip = op_next_ip(c, op);
        return leave(c);
    }
    c->icount -= site->before + 1u;
    narrow(c);
    return go_on(c);
}

/* May the guest use vectors, or x87, now, with every exception masked? If not, the
 * interpreter goes on from here: it knows what to raise. */
uint32_t jit_do_simd_on(struct emu *c, struct jit_site *site)
{
    jit_seen(c);
    count_in(c);
    uint8_t need = site->size & 0xff, may = 0, want = need | c->simd_kept;
    bool on = !(c->cr0 & (CR0_EM | CR0_TS));
    if (on && want & JIT_SIMD_VEC && c->cr4 & CR4_OSFXSR && (c->mxcsr & 0x1f80) == 0x1f80)
        may = JIT_SIMD_SSE;
    if (may && c->cr4 & CR4_OSXSAVE && (c->xcr0 & 6) == 6)
        may |= JIT_SIMD_AVX;
    if (on && want & JIT_SIMD_X87 && x87_masked(c))
        may |= JIT_SIMD_X87;
    if ((may & need) == need) {
        c->simd_may = may;
        return go_on(c);
    }
    return interpret_rest(c, site);
}

/* The lines of a store through a slot, whose page may have left the soft TLB. */
static void slot_stored(struct emu *c, const struct jit_slot *slot, uint64_t lin, unsigned size)
{
    unsigned lo = (unsigned)(lin & 4095) >> 6, hi = (unsigned)((lin & 4095) + size - 1) >> 6;
    uint64_t lines = (hi == 63 ? UINT64_MAX : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1), gpa;
    if (!size)
        lines = UINT64_MAX; /* anywhere in the page */
    if (!(atomic_load(slot->now.code) & lines))
        return;
    c->stats.smc++;
    if (mem_of_code_word(c->env->mem, slot->now.code, &gpa))
        code_hit(c->vm, gpa, lines);
}

uint32_t jit_do_stored(struct emu *c, struct jit_site *site, uint64_t sum)
{
    uint64_t lin = sum & (site->page_mask | 4095);
    jit_seen(c);
    count_in(c);
    if (site->slot == JIT_NO_SLOT && !site->size)
        access_stored_code(c, lin & PAGE_MASK_4K, 4096);
    else if (site->slot == JIT_NO_SLOT)
        access_stored_code(c, lin, site->size);
    else
        slot_stored(c, jit_slot(c, site->slot), lin, site->size);
    if (site->stays || !must_leave(site))
        return go_on(c);
    c->icount += site->before + 1u;
    c->rip = op_next_ip(c, &site->op);
    return leave(c);
}

static void link_jump(struct emu *c, struct jit_link *link)
{
    uint64_t lin = c->rip;
    const struct jcache_ent *e = &c->jcache->e[jcache_index(lin)];
    if (e->lin != lin || e->tag != c->jtag)
        return;
    const struct jit_block *to = block_jit(e->block);
    if (!to || e->block->phys2 != NO_PAGE ||
        atomic_load_explicit(&e->block->dead, memory_order_relaxed))
        return;
    jit_seen(c);
    /* Both lie in one code memory, less than 2 GiB long. */
    ptrdiff_t to_exec = to->code - to->entry;
    const uint8_t *from = link->disp + 4 + to_exec;
    int32_t d = (int32_t)(to->code - from);
    __atomic_store_n((int32_t *)(void *)link->disp, d, __ATOMIC_RELEASE);
}

/* GS base is struct emu from the first translated block of a run to its end. By
 * system call: a raw WRGSBASE is lost at context switches where the kernel does
 * not offer it. */
static void jit_on(struct emu *c)
{
    syscall(SYS_arch_prctl, ARCH_GET_GS, &c->host_gs);
    syscall(SYS_arch_prctl, ARCH_SET_GS, c);
    __asm__ volatile("stmxcsr %0" : "=m"(c->host_mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(c->host_fcw));
    c->simd_live = 0;
    c->gs_taken = true;
}

void jit_off(struct emu *c)
{
    if (!c->gs_taken)
        return;
    syscall(SYS_arch_prctl, ARCH_SET_GS, c->host_gs);
    c->gs_taken = false;
}

/* As far as the next look around, in portions. */
static void refuel(struct emu *c)
{
    uint64_t check = atomic_load_explicit(&c->icount_check, memory_order_relaxed);
    uint64_t left = check > c->icount ? check - c->icount : 0;
    uint64_t first = min_u64(left, JIT_FUEL);
    c->fuel = (int64_t)first;
    c->fuel_base = c->icount + first;
}

void jit_run(struct emu *c, struct block *b)
{
    if (unlikely(!c->gs_taken))
        jit_on(c);

    const uint8_t *code = block_jit(b)->code;
    struct jcache_ent *e = &c->jcache->e[jcache_index(c->rip)];
    if (e->block == b)
        e->code = code;
    flags_to_host(c);
    c->jit_link = NULL;
    c->block = NULL;
    c->op = NULL;
    c->gpr[R_IPB] = c->rip & PAGE_MASK_4K;
    narrow(c);
    refuel(c);
    doing(c, VC_DOING_TRANSLATED);
    jit_gates(c->vm->jit)->enter(c, code);
    doing(c, VC_DOING_INTERPRETER);
    count_in(c);
    /* It left by a jump that could be linked: next time, if the target is known
     * by now. Nothing was let go of since. */
    if (c->jit_link)
        link_jump(c, c->jit_link);
}
