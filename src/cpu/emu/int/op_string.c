/* SPDX-License-Identifier: MIT
 * MOVS STOS LODS SCAS CMPS with their repeat prefixes. Registers advance with
 * each iteration, so that a fault or an interrupt in the middle is precise;
 * forward copies and fills go by runs within a page. */
#include "../block.h"
#include "int.h"

#define RUN_MAX 65536u /* iterations between looks at the pending word */

static uint64_t reg_masked(const struct emu *c, unsigned r, unsigned asize)
{
    return c->gpr[r] & size_mask(asize);
}

static void advance(struct emu *c, const struct op *op, unsigned r, uint64_t n)
{
    uint64_t step = n * op->opsize;
    uint64_t v = c->gpr[r] + (c->rflags & FL_DF ? 0 - step : step);
    reg_write(c, r * 8, op->asize, v);
}

static bool repeated(const struct op *op)
{
    return op->flags & (OP_REP | OP_REPNE);
}

/* How a string instruction goes on after an iteration. */
static bool must_pause(struct emu *c, unsigned done)
{
    if (c->mode & MODE_STEP)
        return true;
    return done >= 64 &&
           (atomic_load_explicit(&c->mail->pending, memory_order_relaxed) & c->pend_mask ||
            done >= RUN_MAX);
}

/* One iteration; returns false when REPE/REPNE ends it. */
typedef bool iteration(struct emu *c, const struct op *op);
/* Up to n iterations at once without faults; returns how many, 0: do one. */
typedef uint64_t run(struct emu *c, const struct op *op, uint64_t n);

static inline bool repeat(struct emu *c, const struct op *op, iteration *one, run *many)
{
    unsigned done = 0;
    if (!repeated(op)) {
        one(c, op);
        return true;
    }
    for (;;) {
        uint64_t n = reg_masked(c, R_RCX, op->asize);
        if (!n)
            return true;
        uint64_t k = many && !(c->mode & MODE_STEP) ? many(c, op, n) : 0;
        bool on = true;
        if (!k) {
            k = 1;
            on = one(c, op);
        }
        reg_write(c, R_RCX * 8, op->asize, n - k);
        emu_replay_done(c);
        done += (unsigned)min_u64(k, RUN_MAX);
        if (!on || n == k)
            return true;
        if (must_pause(c, done)) {
            op_restart(c, op);
            return false;
        }
    }
}

/* A run of elements within one page on each side; DF clear. */
static uint64_t page_run(uint64_t lin, unsigned size)
{
    return (4096 - (lin & 4095)) / size;
}

static bool simple_segments(const struct emu *c)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64 && !(c->rflags & FL_DF);
}

static uint64_t src_linear(struct emu *c, const struct op *op)
{
    return seg_linear(c, op, op->seg, reg_masked(c, R_RSI, op->asize), op->opsize, false);
}

static uint64_t dst_linear(struct emu *c, const struct op *op, bool write)
{
    return seg_linear(c, op, SEG_ES, reg_masked(c, R_RDI, op->asize), op->opsize, write);
}

static const struct tlb_ent *entry(struct emu *c, enum tlb_kind kind, uint64_t lin)
{
    const struct tlb_ent *e = &c->tlb->e[kind][tlb_index(lin)];
    return e->tag == (lin & PAGE_MASK_4K) ? e : NULL;
}

static bool movs_one(struct emu *c, const struct op *op)
{
    uint64_t v = mem_load(c, op, src_linear(c, op), op->opsize);
    mem_store(c, op, dst_linear(c, op, true), op->opsize, v);
    advance(c, op, R_RSI, 1);
    advance(c, op, R_RDI, 1);
    return true;
}

static uint64_t movs_run(struct emu *c, const struct op *op, uint64_t n)
{
    if (!simple_segments(c))
        return 0;
    unsigned size = op->opsize;
    uint64_t s = src_linear(c, op), d = dst_linear(c, op, true);
    const struct tlb_ent *es = entry(c, TLB_R, s), *ed = entry(c, TLB_W, d);
    if (!es || !ed)
        return 0;
    n = min_u64(n, min_u64(page_run(s, size), page_run(d, size)));
    uint8_t *to = (uint8_t *)(uintptr_t)(d + ed->addend);
    const uint8_t *from = (const uint8_t *)(uintptr_t)(s + es->addend);
    /* Overlap ahead repeats what was just written: element by element. */
    if (to > from && to < from + n * size)
        n = min_u64(n, (uint64_t)(to - from) / size);
    if (!n)
        return 0;
    guest_move(to, from, n * size);
    if (unlikely(atomic_load_explicit(c->tlb->wx[tlb_index(d)].code, memory_order_relaxed)))
        access_stored_code(c, d, (unsigned)(n * size));
    advance(c, op, R_RSI, n);
    advance(c, op, R_RDI, n);
    return n;
}

static bool stos_one(struct emu *c, const struct op *op)
{
    mem_store(c, op, dst_linear(c, op, true), op->opsize, c->gpr[R_RAX]);
    advance(c, op, R_RDI, 1);
    return true;
}

static uint64_t stos_run(struct emu *c, const struct op *op, uint64_t n)
{
    if (!simple_segments(c))
        return 0;
    unsigned size = op->opsize;
    uint64_t d = dst_linear(c, op, true), v = c->gpr[R_RAX];
    const struct tlb_ent *ed = entry(c, TLB_W, d);
    if (!ed)
        return 0;
    n = min_u64(n, page_run(d, size));
    if (!n)
        return 0;
    uint8_t *to = (uint8_t *)(uintptr_t)(d + ed->addend);
    if (size == 1 || v == 0)
        guest_fill(to, (uint8_t)v, n * size);
    else
        for (uint64_t i = 0; i < n; i++)
            guest_copy(to + i * size, &v, size);
    if (unlikely(atomic_load_explicit(c->tlb->wx[tlb_index(d)].code, memory_order_relaxed)))
        access_stored_code(c, d, (unsigned)(n * size));
    advance(c, op, R_RDI, n);
    return n;
}

static bool lods_one(struct emu *c, const struct op *op)
{
    reg_write(c, R_RAX * 8, op->opsize, mem_load(c, op, src_linear(c, op), op->opsize));
    advance(c, op, R_RSI, 1);
    return true;
}

static inline bool compare(struct emu *c, const struct op *op, uint64_t a, uint64_t b)
{
    c->cc_dst = (a - b) & size_mask(op->opsize);
    c->cc_src = b;
    c->cc_op = CC_SUB + size_log2(op->opsize);
    return op->flags & OP_REPNE ? a != b : a == b;
}

static bool scas_one(struct emu *c, const struct op *op)
{
    uint64_t m = mem_load(c, op, dst_linear(c, op, false), op->opsize);
    advance(c, op, R_RDI, 1);
    return compare(c, op, reg_read(c, R_RAX * 8, op->opsize), m);
}

static bool cmps_one(struct emu *c, const struct op *op)
{
    uint64_t a = mem_load(c, op, src_linear(c, op), op->opsize);
    uint64_t b = mem_load(c, op, dst_linear(c, op, false), op->opsize);
    advance(c, op, R_RSI, 1);
    advance(c, op, R_RDI, 1);
    return compare(c, op, a, b);
}

#define DEF_STRING(name, many)                                                                     \
    static void op_##name(struct emu *c, const struct op *op)                                      \
    {                                                                                              \
        if (!repeat(c, op, name##_one, many))                                                      \
            return;                                                                                \
        NEXT;                                                                                      \
    }
DEF_STRING(movs, movs_run)
DEF_STRING(stos, stos_run)
DEF_STRING(lods, NULL)
DEF_STRING(scas, NULL)
DEF_STRING(cmps, NULL)

bool select_string(struct insn *in, struct op *op)
{
    bool sse = in->zi.meta.category != ZYDIS_CATEGORY_STRINGOP;
    switch (op->mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB: op->opsize = 1, op->fn = op_movs; break;
    case ZYDIS_MNEMONIC_MOVSW: op->opsize = 2, op->fn = op_movs; break;
    case ZYDIS_MNEMONIC_MOVSD: /* also an SSE2 instruction */
        if (sse)
            return false;
        op->opsize = 4, op->fn = op_movs;
        break;
    case ZYDIS_MNEMONIC_MOVSQ: op->opsize = 8, op->fn = op_movs; break;
    case ZYDIS_MNEMONIC_STOSB: op->opsize = 1, op->fn = op_stos; break;
    case ZYDIS_MNEMONIC_STOSW: op->opsize = 2, op->fn = op_stos; break;
    case ZYDIS_MNEMONIC_STOSD: op->opsize = 4, op->fn = op_stos; break;
    case ZYDIS_MNEMONIC_STOSQ: op->opsize = 8, op->fn = op_stos; break;
    case ZYDIS_MNEMONIC_LODSB: op->opsize = 1, op->fn = op_lods; break;
    case ZYDIS_MNEMONIC_LODSW: op->opsize = 2, op->fn = op_lods; break;
    case ZYDIS_MNEMONIC_LODSD: op->opsize = 4, op->fn = op_lods; break;
    case ZYDIS_MNEMONIC_LODSQ: op->opsize = 8, op->fn = op_lods; break;
    case ZYDIS_MNEMONIC_SCASB: op->opsize = 1, op->fn = op_scas; break;
    case ZYDIS_MNEMONIC_SCASW: op->opsize = 2, op->fn = op_scas; break;
    case ZYDIS_MNEMONIC_SCASD: op->opsize = 4, op->fn = op_scas; break;
    case ZYDIS_MNEMONIC_SCASQ: op->opsize = 8, op->fn = op_scas; break;
    case ZYDIS_MNEMONIC_CMPSB: op->opsize = 1, op->fn = op_cmps; break;
    case ZYDIS_MNEMONIC_CMPSW: op->opsize = 2, op->fn = op_cmps; break;
    case ZYDIS_MNEMONIC_CMPSD:
        if (sse)
            return false;
        op->opsize = 4, op->fn = op_cmps;
        break;
    case ZYDIS_MNEMONIC_CMPSQ: op->opsize = 8, op->fn = op_cmps; break;
    default: return false;
    }
    op->seg = implicit_segment(in);
    return true;
}
