/* SPDX-License-Identifier: MIT
 * Which memory accesses of a block share one page check: those with the same base
 * and index registers, which meanwhile changed by constants only. The first of
 * them checks the whole reach; where that is not within one page, the interpreter
 * does the rest of the block. */
#include "trans.h"

#define OPEN_MAX  8
#define REACH_MAX 256 /* bytes: the longer, the oftener it lies across a page border */

/* What is known of a register: which unknown value, and the constant added since. */
struct value {
    unsigned version;
    int64_t delta;
};

struct open {
    unsigned lead; /* instruction */
    struct value base, index;
};

struct groups {
    bool code32;
    int word; /* bytes of a stack's slot */
    struct value reg[G_IP + 1];
    struct open open[OPEN_MAX];
    unsigned nopen, next;
};

static const struct value nothing;

static struct value value_of(const struct groups *g, int reg)
{
    return reg < 0 ? nothing : g->reg[reg];
}

/* Where the access lies against that of the group's first one. */
static bool same_base(const struct groups *g, const struct access *m, const struct open *o,
                      const struct access *lead, int64_t *disp)
{
    struct value base = value_of(g, m->base), index = value_of(g, m->index);
    if (m->base != lead->base || m->index != lead->index || m->scale != lead->scale ||
        m->seg != lead->seg || base.version != o->base.version || index.version != o->index.version)
        return false;
    *disp = m->disp + (base.delta - o->base.delta) +
            (int64_t)((uint64_t)(index.delta - o->index.delta) << m->scale);
    return *disp == (int32_t)*disp;
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool join(struct trans *t, struct groups *g, struct tinsn *ti)
{
    for (unsigned n = 0; n < g->nopen; n++) {
        struct tinsn *lead = &t->insn[g->open[n].lead];
        int64_t disp;
        if (!same_base(g, &ti->m, &g->open[n], &lead->m, &disp))
            continue;
        int64_t lo = min_i64(lead->lo, disp), hi = max_i64(lead->hi, disp + ti->m.size);
        int64_t moved = value_of(g, ti->m.base).delta - g->open[n].base.delta;
        int64_t index = value_of(g, ti->m.index).delta - g->open[n].index.delta;
        bool moves = g->code32 && (moved || index);
        if (moves) { /* narrow.c says why */
            if (ti->m.index >= 0 || ti->m.seg >= 0)
                continue;
            lo = min_i64(lo, moved);
            hi = max_i64(hi, moved + 1);
        }
        if (hi - lo > REACH_MAX || hi > INT32_MAX)
            continue;
        lead->lo = (int32_t)lo;
        lead->hi = (int32_t)hi;
        lead->grouped = true;
        lead->moves |= moves;
        lead->group_write |= ti->m.write;
        ti->lead = (int)g->open[n].lead;
        return true;
    }
    return false;
}

static void lead(struct trans *t, struct groups *g, unsigned i)
{
    struct tinsn *ti = &t->insn[i];
    ti->lead = -1;
    ti->lo = ti->m.disp;
    ti->hi = ti->m.disp + (int32_t)ti->m.size;
    ti->group_write = ti->m.write;
    ti->grouped = ti->moves = false;
    ti->slot = JIT_NO_SLOT;
    uint64_t phys = (t->block->phys & PAGE_MASK_4K) + ti->off;
    if (jit_scattered(t->jit, phys) || ti->m.disp > INT32_MAX - 64)
        return;
    ti->slot = jit_slot_new(t->jit);
    if (ti->slot == JIT_NO_SLOT)
        return;
    unsigned n = g->nopen < OPEN_MAX ? g->nopen++ : g->next++ % OPEN_MAX;
    g->open[n] = (struct open){i, value_of(g, ti->m.base), value_of(g, ti->m.index)};
}

/* ---- what an instruction does to registers ------------------------------------------ */

static void add(struct groups *g, unsigned reg, int64_t n)
{
    g->reg[reg].delta += n;
}

static void forget(struct groups *g, unsigned reg)
{
    g->reg[reg].version++;
    g->reg[reg].delta = 0;
}

static bool adds_constant(const struct tinsn *ti, int64_t *n)
{
    if (ti->zop[0].type != ZYDIS_OPERAND_TYPE_REGISTER || ti->op.opsize != insn_word(ti))
        return false;
    bool imm = ti->zop[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_ADD: *n = (int64_t)ti->op.imm; return imm;
    case ZYDIS_MNEMONIC_SUB: *n = -(int64_t)ti->op.imm; return imm;
    case ZYDIS_MNEMONIC_INC: *n = 1; return true;
    case ZYDIS_MNEMONIC_DEC: *n = -1; return true;
    case ZYDIS_MNEMONIC_LEA:
        *n = ti->op.disp;
        return ti->zop[1].mem.base == ti->zop[0].reg.value &&
               ti->zop[1].mem.index == ZYDIS_REGISTER_NONE;
    default: return false;
    }
}

static void effects(struct groups *g, const struct tinsn *ti)
{
    int64_t n;
    switch (ti->kind) {
    case T_CALLOUT: /* it may change what memory is seen */ g->nopen = 0; break;
    case T_PUSH: add(g, 4, -g->word); return;
    case T_SYS:
        if (ti->has_access)
            add(g, 4, -g->word);
        if (ti->zi.mnemonic == ZYDIS_MNEMONIC_SWAPGS)
            g->nopen = 0;
        if (ti->has_access)
            return;
        break;
    case T_LEAVE: forget(g, 4), forget(g, 5); return;
    case T_POP:
        add(g, 4, g->word);
        forget(g, op_gpr(ti->zop[0].reg.value) / 8u);
        return;
    default: break;
    }
    if (adds_constant(ti, &n)) {
        add(g, op_gpr(ti->zop[0].reg.value) / 8u, n);
        return;
    }
    for (unsigned i = 0; i < ti->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &ti->zop[i];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        unsigned reg = op_gpr(o->reg.value) / 8u;
        if (reg < 16)
            forget(g, reg);
    }
}

/* ---- accesses ------------------------------------------------------------------------ */

struct access trans_access(const struct tinsn *ti, const ZydisDecodedOperand *o)
{
    struct access m;
    m.base = o->mem.base == ZYDIS_REGISTER_NONE  ? -1
             : o->mem.base == ZYDIS_REGISTER_RIP ? G_IP
                                                 : op_gpr(o->mem.base) / 8;
    m.index = o->mem.index == ZYDIS_REGISTER_NONE ? -1 : op_gpr(o->mem.index) / 8;
    m.scale = o->mem.scale == 8 ? 3 : o->mem.scale == 4 ? 2 : o->mem.scale == 2 ? 1 : 0;
    m.disp = (int32_t)ti->op.disp;
    m.seg = ti->op.seg == SEG_FS || ti->op.seg == SEG_GS ? ti->op.seg : -1;
    m.size = ti->op.msize;
    m.write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    return m;
}

static void of_operand(struct tinsn *ti, const ZydisDecodedOperand *o)
{
    ti->m = trans_access(ti, o);
    ti->has_access = true;
}

/* The slot at its top, or for writing the one below. */
static void of_stack(struct tinsn *ti, int base, bool write)
{
    unsigned word = insn_word(ti);
    ti->m = (struct access){.base = base,
                            .index = -1,
                            .disp = write ? -(int32_t)word : 0,
                            .seg = -1,
                            .size = word,
                            .write = write};
    ti->has_access = true;
}

static void find_access(struct tinsn *ti)
{
    const ZydisDecodedOperand *o;
    ti->has_access = false;
    switch (ti->kind) {
    case T_COPY:
    case T_VECTOR:
    case T_X87:
    case T_DIV:
        o = trans_memory(ti);
        if (o)
            of_operand(ti, o);
        break;
    case T_JMP_IND:
    case T_CALL_IND:
        if (ti->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            of_operand(ti, &ti->zop[0]);
        break;
    case T_SYS:
        if (ti->zi.mnemonic == ZYDIS_MNEMONIC_PUSHFQ || ti->zi.mnemonic == ZYDIS_MNEMONIC_PUSHFD)
            of_stack(ti, 4, true);
        break;
    case T_PUSH:
    case T_CALL: of_stack(ti, 4, true); break;
    case T_POP:
    case T_RET: of_stack(ti, 4, false); break;
    case T_LEAVE: of_stack(ti, 5, false); break;
    default: break;
    }
}

/* ---- loops ----------------------------------------------------------------------------- */

#define STEP_MAX 512 /* bytes a turn */

/* Instruction i goes back to the block's start. Which accesses before it advance
 * by constants? Of several such, the last one is the loop's end. */
static void find_steps(struct trans *t, const struct groups *g, unsigned i)
{
    for (unsigned n = 0; n < i; n++) {
        struct tinsn *ti = &t->insn[n];
        ti->steps = false;
        if (!ti->has_access || ti->lead >= 0 || ti->slot == JIT_NO_SLOT || !ti->invariant)
            continue;
        struct value base = value_of(g, ti->m.base), index = value_of(g, ti->m.index);
        int64_t step = base.delta + (int64_t)((uint64_t)index.delta << ti->m.scale);
        if (base.version || index.version || step > STEP_MAX || step < -STEP_MAX ||
            (g->code32 && !narrow_steps(ti, base.delta, index.delta)))
            continue;
        ti->steps = true;
        ti->step = (int32_t)step;
    }
}

void trans_accesses(struct trans *t)
{
    struct groups g = {.code32 = t->code32, .word = (int)t->word};
    for (unsigned i = 0; i < t->n; i++) {
        struct tinsn *ti = &t->insn[i];
        find_access(ti);
        ti->steps = ti->invariant = false;
        if (ti->has_access && !join(t, &g, ti)) {
            struct value base = value_of(&g, ti->m.base), index = value_of(&g, ti->m.index);
            int64_t start = base.delta + (int64_t)((uint64_t)index.delta << ti->m.scale);
            lead(t, &g, i);
            ti->start = (int32_t)start;
            ti->invariant = !base.version && !index.version && start == (int32_t)start &&
                            (!t->code32 || narrow_steps(ti, base.delta, index.delta));
        }
        effects(&g, ti);
        if ((ti->kind == T_JCC || ti->kind == T_JMP) && ti->op.disp == (int64_t)t->start)
            find_steps(t, &g, i);
    }
}
