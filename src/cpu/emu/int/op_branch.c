/* SPDX-License-Identifier: MIT
 * Near control transfers: Jcc, JMP, CALL, RET, LOOP, JCXZ. They end blocks. */
#include "../block.h"
#include "int.h"

void jump_near(struct emu *c, const struct op *op, uint64_t ip)
{
    if (likely((c->mode & MODE_CODE_MASK) == MODE_CODE64)) {
        if (unlikely(!canonical(c, ip)))
            emu_gp0(c, op);
    } else if (unlikely(ip > c->seg[SEG_CS].limit)) {
        emu_gp0(c, op);
    }
    c->rip = ip;
}

/* On to the next block without a return to the dispatcher, when nothing asks for
 * it and the jump cache knows the block. Only where the compiler turns this into
 * a jump: a call would pile up frames. */
#if defined(__OPTIMIZE__) && !defined(SANITIZED)
#define CHAIN return chain(c)
static inline __attribute__((always_inline)) void chain(struct emu *c)
{
    uint32_t p = atomic_load_explicit(&c->mail->pending, memory_order_acquire);
    if (unlikely((p & c->pend_mask) ||
                 c->icount >= atomic_load_explicit(&c->icount_check, memory_order_relaxed) ||
                 c->mode & MODE_STEP))
        return;
    uint64_t lin = c->rip + c->seg[SEG_CS].base;
    const struct jcache_ent *e = &c->jcache->e[jcache_index(lin)];
    if (unlikely(e->lin != lin || e->tag != c->jtag))
        return;
    struct block *b = e->block;
    if (unlikely(atomic_load_explicit(&b->dead, memory_order_relaxed) || block_jit(b) ||
                 block_heat(b) == b->warm))
        return;
    c->block = b;
    c->gpr[R_IPB] = c->rip;
    c->icount += b->nops;
    return op_handler(b->op)(c, b->op);
}
#else
#define CHAIN return
#endif

/* IP of a relative branch's target, wrapped by the operand size. */
static inline uint64_t target(const struct emu *c, const struct op *op)
{
    uint64_t ip = c->gpr[R_IPB] + (uint64_t)op->disp;
    return op->opsize == 8 ? ip : op->opsize == 4 ? (uint32_t)ip : (uint16_t)ip;
}

static inline void jump_relative(struct emu *c, const struct op *op)
{
    jump_near(c, op, target(c, op));
}

static inline void jump_if(struct emu *c, const struct op *op, bool taken)
{
    if (taken)
        jump_relative(c, op);
    else
        c->rip = op_next_ip(c, op);
}

/* The common conditions straight from the lazy form; the rest through the flags. */
static inline bool cond_fast(const struct emu *c, unsigned cond)
{
    uint32_t group = c->cc_op & ~3u;
    unsigned shift = 64 - (8u << (c->cc_op & 3));
    if (group == CC_SUB) {
        uint64_t r = c->cc_dst << shift, s = c->cc_src << shift, a = r + s;
        switch (cond) {
        case 2: return a < s;
        case 3: return a >= s;
        case 4: return r == 0;
        case 5: return r != 0;
        case 6: return a <= s;
        case 7: return a > s;
        case 8: return (int64_t)r < 0;
        case 9: return (int64_t)r >= 0;
        case 12: return (int64_t)a < (int64_t)s;
        case 13: return (int64_t)a >= (int64_t)s;
        case 14: return (int64_t)a <= (int64_t)s;
        case 15: return (int64_t)a > (int64_t)s;
        default: break;
        }
    } else if (group != CC_FLAGS && group != CC_HOST) {
        uint64_t r = c->cc_dst << shift;
        switch (cond) {
        case 4: return r == 0;
        case 5: return r != 0;
        case 8: return (int64_t)r < 0;
        case 9: return (int64_t)r >= 0;
        default: break;
        }
    }
    return flags_cond(c, cond);
}

#define DEF_JCC(n)                                                                                 \
    static void jcc_##n(struct emu *c, const struct op *op)                                        \
    {                                                                                              \
        jump_if(c, op, cond_fast(c, n));                                                           \
        CHAIN;                                                                                     \
    }
DEF_JCC(0)
DEF_JCC(1)
DEF_JCC(2)
DEF_JCC(3)
DEF_JCC(4) DEF_JCC(5) DEF_JCC(6) DEF_JCC(7) DEF_JCC(8) DEF_JCC(9) DEF_JCC(10) DEF_JCC(11)
    DEF_JCC(12) DEF_JCC(13) DEF_JCC(14)
        DEF_JCC(15) static op_fn *const jcc[16] = {jcc_0,  jcc_1,  jcc_2,  jcc_3, jcc_4,  jcc_5,
                                                   jcc_6,  jcc_7,  jcc_8,  jcc_9, jcc_10, jcc_11,
                                                   jcc_12, jcc_13, jcc_14, jcc_15};

static void jmp_relative(struct emu *c, const struct op *op)
{
    jump_relative(c, op);
    CHAIN;
}

static void jmp_indirect(struct emu *c, const struct op *op)
{
    uint64_t ip = rm_read(c, op, op->opsize);
    jump_near(c, op, ip);
    CHAIN;
}

/* The target is checked before the push, so that a fault leaves the stack. */
static inline void call(struct emu *c, const struct op *op, uint64_t ip)
{
    jump_near(c, op, ip);
    push_value(c, op, op_next_ip(c, op), op->opsize);
}

static void call_relative(struct emu *c, const struct op *op)
{
    call(c, op, target(c, op));
    CHAIN;
}

static void call_indirect(struct emu *c, const struct op *op)
{
    call(c, op, rm_read(c, op, op->opsize));
    CHAIN;
}

static void ret(struct emu *c, const struct op *op)
{
    uint64_t ip = stack_top(c, op, op->opsize);
    jump_near(c, op, ip);
    stack_set(c, c->gpr[R_RSP] + op->opsize + op->imm);
    CHAIN;
}

/* LOOP, LOOPE, LOOPNE count in the address size's register. */
static uint64_t count_down(struct emu *c, const struct op *op)
{
    uint64_t n = (c->gpr[R_RCX] - 1) & size_mask(op->asize);
    return n;
}

static void loop_common(struct emu *c, const struct op *op, bool cond)
{
    uint64_t n = count_down(c, op);
    jump_if(c, op, n != 0 && cond);
    reg_write(c, R_RCX * 8, op->asize, n);
    CHAIN;
}

static void op_loop(struct emu *c, const struct op *op)
{
    loop_common(c, op, true);
}

static void op_loope(struct emu *c, const struct op *op)
{
    loop_common(c, op, flags_arith(c) & FL_ZF);
}

static void op_loopne(struct emu *c, const struct op *op)
{
    loop_common(c, op, !(flags_arith(c) & FL_ZF));
}

static void op_jcxz(struct emu *c, const struct op *op)
{
    jump_if(c, op, (c->gpr[R_RCX] & size_mask(op->asize)) == 0);
}

static bool near_indirect(struct insn *in, struct op *op, op_fn *fn)
{
    if (in->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR &&
        in->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_SHORT)
        return false;
    if (in->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
        op->flags |= OP_RM_MEM;
    else
        op->dst = op_gpr(in->zop[0].reg.value);
    op->fn = fn;
    return true;
}

static bool is_relative(const struct insn *in)
{
    return in->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && in->zop[0].imm.is_relative;
}

static bool select_near(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        if (is_relative(in)) {
            op->fn = jmp_relative;
            return true;
        }
        return near_indirect(in, op, jmp_indirect);
    case ZYDIS_MNEMONIC_CALL:
        if (is_relative(in)) {
            op->fn = call_relative;
            return true;
        }
        return near_indirect(in, op, call_indirect);
    case ZYDIS_MNEMONIC_RET:
        if (in->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR)
            return false;
        op->imm &= 0xffff;
        op->fn = ret;
        return true;
    case ZYDIS_MNEMONIC_LOOP: op->fn = op_loop; return true;
    case ZYDIS_MNEMONIC_LOOPE: op->fn = op_loope; return true;
    case ZYDIS_MNEMONIC_LOOPNE: op->fn = op_loopne; return true;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        op->fn = op_jcxz;
        op->asize = op->mnemonic == ZYDIS_MNEMONIC_JCXZ    ? 2
                    : op->mnemonic == ZYDIS_MNEMONIC_JECXZ ? 4
                                                           : 8;
        return true;
    default: break;
    }
    if (in->zi.meta.category == ZYDIS_CATEGORY_COND_BR && is_relative(in)) {
        op->fn = jcc[in->zi.opcode & 15];
        return true;
    }
    return false;
}

bool select_branch(struct insn *in, struct op *op)
{
    if (!select_near(in, op))
        return false;
    in->ends_block = true;
    /* In 64-bit mode near branches are 64 bits wide whatever the prefixes. */
    if (in->code_size == 8)
        op->opsize = 8;
    return true;
}
