/* SPDX-License-Identifier: MIT
 * XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B: exchanges, locked where asked. */
#include "int.h"

static uint64_t modify_xchg(struct emu *c, const struct op *op, uint64_t old)
{
    (void)old;
    return reg_read(c, op->src, op->opsize);
}

static void xchg_reg(struct emu *c, const struct op *op)
{
    uint64_t a = reg_read(c, op->dst, op->opsize), b = reg_read(c, op->src, op->opsize);
    reg_write(c, op->dst, op->opsize, b);
    reg_write(c, op->src, op->opsize, a);
    NEXT;
}

/* With memory XCHG is always locked. */
static void xchg_mem(struct emu *c, const struct op *op)
{
    uint64_t old = rm_modify(c, op, op->opsize, modify_xchg);
    reg_write(c, op->src, op->opsize, old);
    NEXT;
}

static uint64_t modify_xadd(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t b = reg_read(c, op->src, op->opsize), r = (old + b) & size_mask(op->opsize);
    c->cc_dst = r, c->cc_src = b, c->cc_op = CC_ADD + size_log2(op->opsize);
    return r;
}

static void op_xadd(struct emu *c, const struct op *op)
{
    if (op->flags & OP_RM_MEM) {
        uint64_t old = rm_modify(c, op, op->opsize, modify_xadd);
        reg_write(c, op->src, op->opsize, old);
    } else {
        uint64_t old = reg_read(c, op->dst, op->opsize), r = modify_xadd(c, op, old);
        reg_write(c, op->src, op->opsize, old);
        reg_write(c, op->dst, op->opsize, r);
    }
    NEXT;
}

/* A destination in memory is written in either case, as processors do. */
static uint64_t modify_cmpxchg(struct emu *c, const struct op *op, uint64_t old)
{
    uint64_t a = reg_read(c, R_RAX * 8, op->opsize);
    c->cc_dst = (a - old) & size_mask(op->opsize);
    c->cc_src = old;
    c->cc_op = CC_SUB + size_log2(op->opsize);
    return a == old ? reg_read(c, op->src, op->opsize) : old;
}

static void op_cmpxchg(struct emu *c, const struct op *op)
{
    uint64_t a = reg_read(c, R_RAX * 8, op->opsize), old;
    if (op->flags & OP_RM_MEM) {
        old = rm_modify(c, op, op->opsize, modify_cmpxchg);
    } else {
        /* A register keeps even its upper half when the comparison fails. */
        old = reg_read(c, op->dst, op->opsize);
        uint64_t r = modify_cmpxchg(c, op, old);
        if (old == a)
            reg_write(c, op->dst, op->opsize, r);
    }
    if (old != a)
        reg_write(c, R_RAX * 8, op->opsize, old);
    NEXT;
}

static void set_zf(struct emu *c, bool zf)
{
    flags_set_arith(c, (flags_arith(c) & ~FL_ZF) | (zf ? FL_ZF : 0));
}

GUEST_UNSEEN static bool cas8(void *p, uint64_t *old, uint64_t new)
{
    return __atomic_compare_exchange_n((uint64_t *)p, old, new, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* Two halves of n bytes each: EDX:EAX or RDX:RAX against memory, ECX:EBX or
 * RCX:RBX into it. */
static void wide(struct emu *c, const struct op *op, unsigned n)
{
    uint64_t want[2], new[2], old[2] = {0, 0};
    unsigned size = 2 * n;
    uint64_t lin = op_linear(c, op, size, true);
    if (n == 8 && (lin & 15))
        emu_gp0(c, op);
    want[0] = reg_read(c, R_RAX * 8, n), want[1] = reg_read(c, R_RDX * 8, n);
    new[0] = reg_read(c, R_RBX * 8, n), new[1] = reg_read(c, R_RCX * 8, n);

    void *p = emu_rmw_ptr(c, op, lin, size);
    bool same;
    if (p && n == 4) {
        uint64_t w = want[1] << 32 | want[0], v = new[1] << 32 | new[0];
        same = cas8(p, &w, v);
        old[0] = (uint32_t)w, old[1] = w >> 32;
        emu_rmw_done(c, lin, size);
    } else if (p) {
        /* The operand is aligned to 16, so it is within a page. */
        old[0] = want[0], old[1] = want[1];
        __asm__ volatile("lock cmpxchg16b %[m]"
                         : [m] "+m"(*(unsigned __int128 *)p), "+a"(old[0]), "+d"(old[1]),
                           "=@ccz"(same)
                         : "b"(new[0]), "c"(new[1])
                         : "memory");
        emu_rmw_done(c, lin, size);
    } else {
        uint8_t buf[16];
        emu_probe_store(c, op, lin, size);
        emu_split_lock(c);
        emu_load(c, op, lin, buf, size);
        memcpy(&old[0], buf, n);
        memcpy(&old[1], buf + n, n);
        same = old[0] == want[0] && old[1] == want[1];
        memcpy(buf, same ? &new[0] : &old[0], n);
        memcpy(buf + n, same ? &new[1] : &old[1], n);
        emu_store(c, op, lin, buf, size);
        emu_split_unlock(c);
    }
    if (!same) {
        reg_write(c, R_RAX * 8, n, old[0]);
        reg_write(c, R_RDX * 8, n, old[1]);
    }
    set_zf(c, same);
}

static void op_cmpxchg8b(struct emu *c, const struct op *op)
{
    wide(c, op, 4);
    NEXT;
}

static void op_cmpxchg16b(struct emu *c, const struct op *op)
{
    wide(c, op, 8);
    NEXT;
}

bool select_atomic(struct insn *in, struct op *op)
{
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_CMPXCHG8B: op->fn = op_cmpxchg8b; return true;
    case ZYDIS_MNEMONIC_CMPXCHG16B: op->fn = op_cmpxchg16b; return true;
    case ZYDIS_MNEMONIC_PAUSE: /* F3 90 with REX.B is XCHG R8, rAX */
        if (in->code_size != 8 || !in->zi.raw.rex.B)
            return false;
        op->dst = 8 * 8, op->src = R_RAX * 8;
        op->opsize = in->zi.operand_width / 8;
        op->fn = xchg_reg;
        return true;
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_CMPXCHG: break;
    default: return false;
    }
    enum form f = op_form(in, op);
    op->opsize = (uint8_t)(in->zop[0].size / 8);
    if (f == F_RM) { /* XCHG reg, mem is XCHG mem, reg */
        op->src = op->dst;
        f = F_MR;
    }
    if (f == F_MR)
        op->flags |= OP_RM_MEM;
    if (op->mnemonic == ZYDIS_MNEMONIC_XCHG) {
        op->fn = f == F_MR ? xchg_mem : xchg_reg;
        op->flags |= f == F_MR ? OP_LOCK : 0;
    } else {
        op->fn = op->mnemonic == ZYDIS_MNEMONIC_XADD ? op_xadd : op_cmpxchg;
    }
    return true;
}
