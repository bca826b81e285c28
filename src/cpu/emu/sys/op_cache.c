/* SPDX-License-Identifier: MIT
 * Caches, prefetches, fences, and encodings that do nothing. Guest memory is
 * coherent host memory: only the checks of these instructions remain. */
#include "sys.h"

static void op_nothing(struct emu *c, const struct op *op)
{
    NEXT;
}

static void op_mfence(struct emu *c, const struct op *op)
{
    atomic_thread_fence(memory_order_seq_cst);
    NEXT;
}

/* Loads are done in program order, and the host's own ordering is the guest's:
 * the compiler is what must not reorder here. */
static void op_fence(struct emu *c, const struct op *op)
{
    atomic_signal_fence(memory_order_seq_cst);
    NEXT;
}

/* INVD, WBINVD */
static void op_cache_all(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    NEXT;
}

/* Raises what a byte load would, without touching a device. */
static __attribute__((noinline)) void probe_load(struct emu *c, const struct op *op, uint64_t lin)
{
    struct walk w;

    if (tlb_hit(&c->tlb->e[TLB_R][tlb_index(lin)], lin, 1))
        return;
    emu_at(c, op);
    if (c->efer & EFER_LMA && !canonical(c, lin))
        emu_raise_err(c, op->seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    uint32_t err = mmu_walk(c->env->mem, &c->walk, lin, WALK_READ, c->cpl == 3,
                            c->cpl != 3 && c->rflags & FL_AC, true, &w);
    if (err)
        emu_raise_pf(c, lin, err & ~WALK_FAULT);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: checked like a load of the byte. */
static void op_cache_line(struct emu *c, const struct op *op)
{
    probe_load(c, op, op_linear(c, op, 1, false));
    NEXT;
}

bool select_cache(struct emu *c, struct insn *in, struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD: op->fn = op_cache_all; return true;
    case ZYDIS_MNEMONIC_CLFLUSH: op->fn = op_cache_line; return true;
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB: op->fn = op_cache_line; return emu_has_isa(c, in->zi.meta.isa_set);
    case ZYDIS_MNEMONIC_MFENCE: op->fn = op_mfence; return true;
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_SFENCE: op->fn = op_fence; return true;
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
    /* CET, MPX and CLDEMOTE live in the space of hints: NOPs on a processor that
     * does not have them. */
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_RDSSPD:
    case ZYDIS_MNEMONIC_RDSSPQ:
    case ZYDIS_MNEMONIC_CLDEMOTE:
    case ZYDIS_MNEMONIC_BNDCL:
    case ZYDIS_MNEMONIC_BNDCN:
    case ZYDIS_MNEMONIC_BNDCU:
    case ZYDIS_MNEMONIC_BNDLDX:
    case ZYDIS_MNEMONIC_BNDMK:
    case ZYDIS_MNEMONIC_BNDMOV:
    case ZYDIS_MNEMONIC_BNDSTX: op->fn = op_nothing; return true;
    default: return false;
    }
}
