/* SPDX-License-Identifier: MIT
 * Integer instructions. */
#include "gen.h"

#define M(x)          ZYDIS_MNEMONIC_##x
#define PICK(g, list) list[below(&(g)->r, sizeof list / sizeof *list)]

static operand dst_op(struct gen *g, unsigned size)
{
    if (size == 1 && one_in(&g->r, 3)) {
        unsigned r = below(&g->r, 4);
        if (may_write(g, BIT(r)))
            return high_op(r);
    }
    return reg_op(dst_reg(g), size);
}

static operand src_op(struct gen *g, unsigned size)
{
    return size == 1 && one_in(&g->r, 3) ? high_op(below(&g->r, 4)) : reg_op(any_reg(g), size);
}

static bool with_mem(struct gen *g, request *q, const struct mem *m)
{
    q->prefixes |= m->prefixes;
    return emit(g, q, m->may_skip);
}

static void alu(struct gen *g)
{
    static const ZydisMnemonic ops[] = {M(ADD), M(OR),  M(ADC), M(SBB), M(AND), M(SUB),
                                        M(XOR), M(CMP), M(ADC), M(SBB), M(MOV), M(TEST)};
    request q = req(PICK(g, ops));
    unsigned size = int_size(g);
    struct mem m;
    bool lockable = q.mnemonic != M(CMP) && q.mnemonic != M(MOV) && q.mnemonic != M(TEST);
    switch (below(&g->r, 6)) {
    case 0:
    case 1:
        add_operand(&q, dst_op(g, size));
        add_operand(&q, src_op(g, size));
        emit(g, &q, false);
        return;
    case 2:
        add_operand(&q, dst_op(g, size));
        add_operand(&q, imm_op(imm_of(g, size)));
        emit(g, &q, false);
        return;
    case 3: /* TEST has no such form */
        m = mem_of(g, size, 0);
        add_operand(&q, dst_op(g, size));
        add_operand(&q, m.op);
        with_mem(g, &q, &m);
        return;
    case 4:
        m = mem_of(g, size, M_WRITE);
        add_operand(&q, m.op);
        add_operand(&q, src_op(g, size));
        break;
    default:
        m = mem_of(g, size, M_WRITE);
        add_operand(&q, m.op);
        add_operand(&q, imm_op(imm_of(g, size)));
        break;
    }
    if (lockable && one_in(&g->r, 5))
        q.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
    with_mem(g, &q, &m);
}

static void unary(struct gen *g)
{
    static const ZydisMnemonic ops[] = {M(INC), M(DEC), M(NEG), M(NOT)};
    request q = req(PICK(g, ops));
    unsigned size = int_size(g);
    if (one_in(&g->r, 2)) {
        add_operand(&q, dst_op(g, size));
        emit(g, &q, false);
        return;
    }
    struct mem m = mem_of(g, size, M_WRITE);
    add_operand(&q, m.op);
    if (one_in(&g->r, 5))
        q.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
    with_mem(g, &q, &m);
}

static void shift(struct gen *g)
{
    static const ZydisMnemonic ops[] = {M(SHL), M(SHR), M(SAR),  M(ROL), M(ROR),
                                        M(RCL), M(RCR), M(SHLD), M(SHRD)};
    request q = req(PICK(g, ops));
    bool two = q.mnemonic == M(SHLD) || q.mnemonic == M(SHRD);
    unsigned size = two ? (one_in(&g->r, 2) ? 4 : 8) : int_size(g);
    struct mem m = {.may_skip = false};
    if (one_in(&g->r, 3)) {
        m = mem_of(g, size, M_WRITE);
        add_operand(&q, m.op);
    } else {
        add_operand(&q, two ? reg_op(dst_reg(g), size) : dst_op(g, size));
    }
    if (two)
        add_operand(&q, reg_op(any_reg(g), size));
    if (one_in(&g->r, 3))
        add_operand(&q, reg_op(RCX, 1));
    else
        add_operand(&q, imm_op(one_in(&g->r, 3) ? 1 : (int64_t)below(&g->r, 66)));
    with_mem(g, &q, &m);
}

static void moves(struct gen *g)
{
    unsigned size = int_size(g), from = int_size(g);
    struct mem m = {.may_skip = false};
    request q;
    switch (below(&g->r, 9)) {
    case 0:
    case 1:
        q = req(one_in(&g->r, 2) ? M(MOVZX) : M(MOVSX));
        from = 1 + below(&g->r, 2);
        size = from == 1 ? (size == 1 ? 2 : size) : size < 4 ? 4 : size;
        add_operand(&q, reg_op(dst_reg(g), size));
        if (one_in(&g->r, 2)) {
            m = mem_of(g, from, 0);
            add_operand(&q, m.op);
        } else {
            add_operand(&q, src_op(g, from));
        }
        with_mem(g, &q, &m);
        return;
    case 2:
        q = req(M(MOVSXD));
        add_operand(&q, reg_op(dst_reg(g), 8));
        add_operand(&q, reg_op(any_reg(g), 4));
        emit(g, &q, false);
        return;
    case 3: {
        q = req(M(LEA));
        m = mem_of(g, 8, M_SAFE);
        if (m.prefixes)
            return;
        add_operand(&q, reg_op(dst_reg(g), 2u << below(&g->r, 3)));
        m.op.mem.size = q.operands[0].reg.value >= ZYDIS_REGISTER_RAX   ? 8
                        : q.operands[0].reg.value >= ZYDIS_REGISTER_EAX ? 4
                                                                        : 2;
        if (one_in(&g->r, 2)) { /* any registers will do */
            m.op.mem.base = (ZydisRegister)(ZYDIS_REGISTER_RAX + any_reg(g));
            m.op.mem.index = (ZydisRegister)(ZYDIS_REGISTER_RAX + dst_reg(g));
            m.op.mem.scale = (uint8_t)(1u << below(&g->r, 4));
            m.op.mem.displacement = imm_of(g, one_in(&g->r, 2) ? 1 : 4);
        }
        add_operand(&q, m.op);
        emit(g, &q, false);
        return;
    }
    case 4: emit_mov_imm64(g, dst_reg(g), rnd_int(&g->r)); return;
    case 5: { /* mov rAX, moffs and back */
        if (g->p->window >> 47 && one_in(&g->r, 2))
            return;
        uint64_t at = g->p->window + W_DATA + below(&g->r, D_PLAIN - 8);
        bool store = one_in(&g->r, 2);
        if (!store && !may_write(g, BIT(RAX)))
            return;
        uint8_t b[10] = {0x48, (uint8_t)(store ? 0xa3 : 0xa1)};
        __builtin_memcpy(b + 2, &at, 8);
        if (g->p->narrow)
            emit_bytes(g, b + 1, 5);
        else if (one_in(&g->r, 2))
            emit_bytes(g, b + 1, 9);
        else
            emit_bytes(g, b, 10);
        return;
    }
    case 6:
        q = req(M(BSWAP));
        add_operand(&q, reg_op(dst_reg(g), one_in(&g->r, 2) ? 4 : 8));
        emit(g, &q, false);
        return;
    case 7: {
        bool store = one_in(&g->r, 2);
        q = req(M(MOVBE));
        size = size == 1 ? 2 : size;
        m = mem_of(g, size, store ? M_WRITE : 0);
        operand r = reg_op(store ? any_reg(g) : dst_reg(g), size);
        add_operand(&q, store ? m.op : r);
        add_operand(&q, store ? r : m.op);
        with_mem(g, &q, &m);
        return;
    }
    default:
        q = req(M(MOV));
        if (one_in(&g->r, 2)) {
            m = mem_of(g, size, M_WRITE);
            add_operand(&q, m.op);
            add_operand(&q, src_op(g, size));
        } else {
            m = mem_of(g, size, 0);
            add_operand(&q, dst_op(g, size));
            add_operand(&q, m.op);
        }
        with_mem(g, &q, &m);
        return;
    }
}

static void atomic(struct gen *g)
{
    static const ZydisMnemonic ops[] = {M(XCHG), M(XADD),      M(CMPXCHG),
                                        M(XCHG), M(CMPXCHG8B), M(CMPXCHG16B)};
    request q = req(PICK(g, ops));
    unsigned size = int_size(g);
    struct mem m = {.may_skip = false};
    if (q.mnemonic == M(CMPXCHG8B) || q.mnemonic == M(CMPXCHG16B)) {
        if (!may_write(g, BIT(RAX) | BIT(RDX)))
            return;
        bool wide = q.mnemonic == M(CMPXCHG16B);
        m = mem_of(g, wide ? 16 : 8, M_WRITE | (wide ? M_ALIGN : 0));
        add_operand(&q, m.op);
        if (one_in(&g->r, 2))
            q.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
        with_mem(g, &q, &m);
        return;
    }
    if (q.mnemonic == M(CMPXCHG) && !may_write(g, BIT(RAX)))
        return;
    if (one_in(&g->r, 2)) {
        m = mem_of(g, size, M_WRITE);
        add_operand(&q, m.op);
        if (one_in(&g->r, 2))
            q.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
    } else {
        add_operand(&q, dst_op(g, size));
    }
    add_operand(&q, q.mnemonic == M(CMPXCHG) ? src_op(g, size) : dst_op(g, size));
    with_mem(g, &q, &m);
}

static void bits(struct gen *g)
{
    static const ZydisMnemonic tests[] = {M(BT), M(BTS), M(BTR), M(BTC)};
    static const ZydisMnemonic scans[] = {M(BSF), M(BSR), M(TZCNT), M(LZCNT), M(POPCNT)};
    unsigned size = 2u << below(&g->r, 3);
    struct mem m = {.may_skip = false};
    request q;
    if (one_in(&g->r, 2)) {
        q = req(PICK(g, scans));
        add_operand(&q, reg_op(dst_reg(g), size));
        if (one_in(&g->r, 3)) {
            m = mem_of(g, size, 0);
            add_operand(&q, m.op);
        } else {
            add_operand(&q, reg_op(any_reg(g), size));
        }
        with_mem(g, &q, &m);
        return;
    }
    q = req(PICK(g, tests));
    if (one_in(&g->r, 2)) {
        m = mem_of(g, size, M_WRITE);
        add_operand(&q, m.op);
        if (q.mnemonic != M(BT) && one_in(&g->r, 4))
            q.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
    } else {
        add_operand(&q, reg_op(dst_reg(g), size));
    }
    if (one_in(&g->r, 2)) {
        add_operand(&q, imm_op((int64_t)below(&g->r, 70)));
    } else {
        unsigned r = any_reg(g);
        if (m.op.type) { /* reaches beyond its operand: a small offset */
            r = dst_reg(g);
            request z = req(M(MOVSX));
            add_operand(&z, reg_op(r, 4));
            add_operand(&z, reg_op(byte_reg(g), 1));
            if (m.op.mem.base == (ZydisRegister)(ZYDIS_REGISTER_RAX + r) ||
                m.op.mem.index == (ZydisRegister)(ZYDIS_REGISTER_RAX + r) ||
                m.op.mem.base == (ZydisRegister)(ZYDIS_REGISTER_EAX + r) ||
                m.op.mem.index == (ZydisRegister)(ZYDIS_REGISTER_EAX + r))
                m.may_skip = true;
            /* It moves a RIP-relative operand's place, not its address. */
            emit(g, &z, false);
            m.may_skip = true;
        }
        add_operand(&q, reg_op(r, size));
    }
    with_mem(g, &q, &m);
}

static void bmi(struct gen *g)
{
    static const ZydisMnemonic two[] = {M(BLSI), M(BLSMSK), M(BLSR), M(ADCX), M(ADOX), M(CRC32)};
    static const ZydisMnemonic rrm[] = {M(ANDN), M(PDEP), M(PEXT), M(MULX)};
    static const ZydisMnemonic rmr[] = {M(BEXTR), M(BZHI), M(SARX), M(SHLX), M(SHRX), M(RORX)};
    unsigned size = one_in(&g->r, 2) ? 4 : 8;
    struct mem m = {.may_skip = false};
    operand rm;
    request q;
    bool mem = one_in(&g->r, 3);
    if (mem) {
        m = mem_of(g, size, 0);
        rm = m.op;
    } else {
        rm = reg_op(any_reg(g), size);
    }
    switch (below(&g->r, 3)) {
    case 0:
        q = req(PICK(g, two));
        add_operand(&q, reg_op(dst_reg(g), size));
        add_operand(&q, rm);
        break;
    case 1:
        q = req(PICK(g, rrm));
        add_operand(&q, reg_op(dst_reg(g), size));
        add_operand(&q, reg_op(q.mnemonic == M(MULX) ? dst_reg(g) : any_reg(g), size));
        add_operand(&q, rm);
        break;
    default:
        q = req(PICK(g, rmr));
        add_operand(&q, reg_op(dst_reg(g), size));
        add_operand(&q, rm);
        add_operand(&q, q.mnemonic == M(RORX) ? imm_op((int64_t)below(&g->r, 64))
                                              : reg_op(any_reg(g), size));
        break;
    }
    with_mem(g, &q, &m);
}

/* A condition into a register: what reads flags. */
void gen_flags(struct gen *g)
{
    static const ZydisMnemonic set[] = {M(SETO),  M(SETNO),  M(SETB),  M(SETNB), M(SETZ), M(SETNZ),
                                        M(SETBE), M(SETNBE), M(SETS),  M(SETNS), M(SETP), M(SETNP),
                                        M(SETL),  M(SETNL),  M(SETLE), M(SETNLE)};
    static const ZydisMnemonic cmov[] = {
        M(CMOVO), M(CMOVNO), M(CMOVB), M(CMOVNB), M(CMOVZ), M(CMOVNZ), M(CMOVBE), M(CMOVNBE),
        M(CMOVS), M(CMOVNS), M(CMOVP), M(CMOVNP), M(CMOVL), M(CMOVNL), M(CMOVLE), M(CMOVNLE)};
    static const ZydisMnemonic plain[] = {M(CMC), M(CLC), M(STC)};
    struct mem m = {.may_skip = false};
    unsigned size = 2u << below(&g->r, 3);
    request q;
    switch (below(&g->r, 8)) {
    case 0:
    case 1:
    case 2:
        q = req(PICK(g, set));
        if (one_in(&g->r, 3)) {
            m = mem_of(g, 1, M_WRITE);
            add_operand(&q, m.op);
        } else {
            add_operand(&q, dst_op(g, 1));
        }
        with_mem(g, &q, &m);
        return;
    case 3:
    case 4:
    case 5:
        q = req(PICK(g, cmov));
        add_operand(&q, reg_op(dst_reg(g), size));
        if (one_in(&g->r, 3)) {
            m = mem_of(g, size, 0);
            add_operand(&q, m.op);
        } else {
            add_operand(&q, reg_op(any_reg(g), size));
        }
        with_mem(g, &q, &m);
        return;
    case 6:
        q = req(PICK(g, plain));
        emit(g, &q, false);
        return;
    default:
        if (!may_write(g, BIT(RAX)))
            return;
        if (one_in(&g->r, 2)) {
            settle(g, FL_ARITH & ~FL_OF);
            EMIT(g, 0x9f); /* lahf */
        } else {
            EMIT(g, 0x9e); /* sahf: all but OF */
            g->undef &= FL_OF;
        }
        return;
    }
}

void gen_muldiv(struct gen *g)
{
    static const ZydisMnemonic ops[] = {M(MUL), M(IMUL), M(DIV), M(IDIV)};
    static const ZydisMnemonic wide[] = {M(CBW), M(CWDE), M(CDQE), M(CWD), M(CDQ), M(CQO)};
    unsigned size = int_size(g);
    struct mem m = {.may_skip = false};
    request q;
    if (one_in(&g->r, 3)) { /* two and three operands */
        size = size == 1 ? 2 : size;
        q = req(M(IMUL));
        add_operand(&q, reg_op(dst_reg(g), size));
        if (one_in(&g->r, 2)) {
            m = mem_of(g, size, 0);
            add_operand(&q, m.op);
        } else {
            add_operand(&q, reg_op(any_reg(g), size));
        }
        if (one_in(&g->r, 2))
            add_operand(&q, imm_op(imm_of(g, size)));
        with_mem(g, &q, &m);
        return;
    }
    if (!may_write(g, BIT(RAX) | BIT(RDX)))
        return;
    if (one_in(&g->r, 4)) {
        q = req(PICK(g, wide));
        emit(g, &q, false);
        return;
    }
    q = req(PICK(g, ops));
    bool div = q.mnemonic == M(DIV) || q.mnemonic == M(IDIV);
    if (div && !has(g, F_FAULT))
        return;
    if (div && !one_in(&g->r, 40)) { /* a quotient that fits, mostly */
        unsigned r = dst_reg(g);
        if (r == RAX || r == RDX)
            return;
        emit2(g, M(OR), reg_op(r, 8), imm_op(1));
        if (size == 1)
            emit2(g, M(MOVZX), reg_op(RAX, 4), reg_op(RAX, 1));
        else if (q.mnemonic == M(DIV))
            emit2(g, M(XOR), reg_op(RDX, 4), reg_op(RDX, 4));
        else
            EMIT(g, 0x48, 0x99); /* cqo */
        add_operand(&q, reg_op(r, q.mnemonic == M(IDIV) && size > 1 ? 8 : size));
    } else if (one_in(&g->r, 2)) {
        m = mem_of(g, size, 0);
        add_operand(&q, m.op);
    } else {
        add_operand(&q, src_op(g, size));
    }
    m.may_skip |= div;
    with_mem(g, &q, &m);
}

void gen_string(struct gen *g)
{
    static const uint8_t ops[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
    if (!may_write(g, BIT(RSI) | BIT(RDI) | BIT(RCX) | BIT(RAX)))
        return;
    bool down = one_in(&g->r, 6);
    unsigned op = PICK(g, ops) | (one_in(&g->r, 2) ? 1u : 0);
    unsigned base = down ? 0x2000 : 0;
    emit_lea(g, RSI, W_DATA + base + below(&g->r, D_PLAIN - 0x3000));
    emit_lea(g, RDI, W_DATA + base + below(&g->r, D_PLAIN - 0x3000));
    uint32_t n = one_in(&g->r, 6) ? 0 : below(&g->r, one_in(&g->r, 6) ? 500 : 20);
    EMIT(g, 0xb9, (uint8_t)n, (uint8_t)(n >> 8), 0, 0); /* mov ecx, n */
    if (down)
        EMIT(g, 0xfd);
    settle_flow(g);
    bool compares = (op & 0xfe) == 0xa6 || (op & 0xfe) == 0xae;
    uint8_t b[3];
    unsigned k = 0;
    if (!one_in(&g->r, 4))
        b[k++] = one_in(&g->r, 2) ? 0xf3 : 0xf2;
    if (op & 1 && one_in(&g->r, 2))
        b[k++] = one_in(&g->r, 2) ? 0x48 : 0x66;
    if (k == 2 && b[1] == 0x66) { /* a REX prefix comes last, 66 before F3 as well */
        b[1] = b[0];
        b[0] = 0x66;
    }
    b[k++] = (uint8_t)op;
    emit_bytes(g, b, k);
    if (compares)
        g->undef = FL_AF; /* none are, but AF was open when it did nothing */
    if (down)
        EMIT(g, 0xfc);
}

void gen_int(struct gen *g)
{
    switch (below(&g->r, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6: alu(g); return;
    case 7:
    case 8: unary(g); return;
    case 9:
    case 10: shift(g); return;
    case 11:
    case 12:
    case 13: moves(g); return;
    case 14: atomic(g); return;
    case 15: bits(g); return;
    case 16: bmi(g); return;
    case 17: gen_muldiv(g); return;
    default: gen_flags(g); return;
    }
}
