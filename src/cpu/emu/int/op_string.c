/* SPDX-License-Identifier: MIT
 * MOVS STOS LODS SCAS CMPS with their repeat prefixes. Registers advance with
 * each iteration, so that a fault or an interrupt in the middle is precise. What
 * lies within one page on each side and needs no slow path is a run: the host's
 * own string instruction does it at once (string_host.h). */
#include "../block.h"
#include "int.h"
#include "string_host.h"

/* How much is done between looks at the pending word, in bytes of runs; whatever a
 * device answers takes as long as some hundred bytes. So a REP is away from the
 * dispatcher for some tens of microseconds, or half a millisecond with devices. */
#define LOOK_BYTES 131072u
#define SLOW_BYTES 256u

static uint64_t reg_masked(const struct emu *c, unsigned r, unsigned asize)
{
    return c->gpr[r] & size_mask(asize);
}

static bool down(const struct emu *c)
{
    return c->rflags & FL_DF;
}

static void advance(struct emu *c, const struct op *op, unsigned r, uint64_t n)
{
    uint64_t step = n * op->opsize;
    uint64_t v = c->gpr[r] + (down(c) ? 0 - step : step);
    reg_write(c, r * 8, op->asize, v);
}

/* ---- repeating --------------------------------------------------------------------- */

/* One iteration; returns false when REPE/REPNE ends it. */
typedef bool iteration(struct emu *c, const struct op *op);
/* Up to n iterations at once without faults; returns how many, 0: do one. Clears
 * *on when REPE/REPNE ended them. */
typedef uint64_t run(struct emu *c, const struct op *op, uint64_t n, bool *on);

static bool must_pause(struct emu *c, uint64_t bytes)
{
    if (c->mode & MODE_STEP)
        return true;
    return bytes >= LOOK_BYTES ||
           atomic_load_explicit(&c->mail->pending, memory_order_relaxed) & c->pend_mask;
}

static bool repeat(struct emu *c, const struct op *op, iteration *one, run *many)
{
    uint64_t bytes = 0;
    if (!(op->flags & (OP_REP | OP_REPNE))) {
        one(c, op);
        return true;
    }
    for (;;) {
        uint64_t n = reg_masked(c, R_RCX, op->asize);
        if (!n)
            return true;
        bool on = true;
        uint64_t k = c->mode & MODE_STEP ? 0 : many(c, op, n, &on);
        if (k) {
            bytes += k * op->opsize;
        } else {
            on = one(c, op);
            k = 1;
            bytes += SLOW_BYTES;
        }
        reg_write(c, R_RCX * 8, op->asize, n - k);
        emu_replay_done(c);
        if (!on || n == k)
            return true;
        if (must_pause(c, bytes)) {
            op_restart(c, op);
            return false;
        }
    }
}

/* ---- addresses ------------------------------------------------------------------- */

static uint64_t src_linear(struct emu *c, const struct op *op)
{
    return seg_linear(c, op, op->seg, reg_masked(c, R_RSI, op->asize), op->opsize, false);
}

static uint64_t dst_linear(struct emu *c, const struct op *op, bool write)
{
    return seg_linear(c, op, SEG_ES, reg_masked(c, R_RDI, op->asize), op->opsize, write);
}

/* One side of a run: where its first element is for the host; NULL: no run. */
struct side {
    uint8_t *host;
    uint64_t lin;
    _Atomic uint64_t *code; /* of a page to be written */
};

/* The side at register r, *n cut to the elements that neither leave the page, nor
 * wrap the register, nor pass the segment's limit. */
static struct side side_of(struct emu *c, const struct op *op, unsigned r, unsigned seg,
                           enum tlb_kind kind, uint64_t *n)
{
    unsigned size = op->opsize;
    uint64_t off = reg_masked(c, r, op->asize);
    uint64_t room = size_mask(op->asize) - off; /* bytes after the first */
    struct side s = {.lin = off};

    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64) {
        if (seg >= SEG_FS)
            s.lin += c->seg[seg].base;
    } else {
        uint64_t bytes = seg_room(c, seg, off, kind == TLB_W);
        if (!bytes)
            return s;
        room = min_u64(room, bytes - 1);
        s.lin = (uint32_t)(c->seg[seg].base + off);
    }
    unsigned i = tlb_index(s.lin);
    const struct tlb_ent *e = &c->tlb->e[kind][i];
    room = min_u64(room, 4095 - (s.lin & 4095));
    if (room < size - 1u || e->tag != (s.lin & PAGE_MASK_4K))
        return s;
    if (down(c))
        *n = min_u64(*n, min_u64(off, s.lin & 4095) / size + 1);
    else
        *n = min_u64(*n, (room + 1) / size);
    s.host = (uint8_t *)(uintptr_t)(s.lin + e->addend);
    if (kind == TLB_W)
        s.code = c->tlb->wx[i].code;
    return s;
}

/* After n elements were written. */
static void wrote(struct emu *c, const struct op *op, const struct side *d, uint64_t n)
{
    if (unlikely(atomic_load_explicit(d->code, memory_order_relaxed)))
        access_stored_code(c, down(c) ? d->lin - (n - 1) * op->opsize : d->lin,
                           (unsigned)(n * op->opsize));
}

/* ---- each of them ---------------------------------------------------------------- */

static bool movs_one(struct emu *c, const struct op *op)
{
    uint64_t v = mem_load(c, op, src_linear(c, op), op->opsize);
    mem_store(c, op, dst_linear(c, op, true), op->opsize, v);
    advance(c, op, R_RSI, 1);
    advance(c, op, R_RDI, 1);
    return true;
}

static uint64_t movs_run(struct emu *c, const struct op *op, uint64_t n, bool *on)
{
    (void)on;
    struct side s = side_of(c, op, R_RSI, op->seg, TLB_R, &n);
    struct side d = side_of(c, op, R_RDI, SEG_ES, TLB_W, &n);
    if (!s.host || !d.host)
        return 0;
    host_movs(d.host, s.host, n, op->opsize, down(c));
    wrote(c, op, &d, n);
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

static uint64_t stos_run(struct emu *c, const struct op *op, uint64_t n, bool *on)
{
    (void)on;
    struct side d = side_of(c, op, R_RDI, SEG_ES, TLB_W, &n);
    if (!d.host)
        return 0;
    host_stos(d.host, c->gpr[R_RAX], n, op->opsize, down(c));
    wrote(c, op, &d, n);
    advance(c, op, R_RDI, n);
    return n;
}

static bool lods_one(struct emu *c, const struct op *op)
{
    reg_write(c, R_RAX * 8, op->opsize, mem_load(c, op, src_linear(c, op), op->opsize));
    advance(c, op, R_RSI, 1);
    return true;
}

/* Of several loads into one register the last is the one that shows. */
static uint64_t lods_run(struct emu *c, const struct op *op, uint64_t n, bool *on)
{
    (void)on;
    struct side s = side_of(c, op, R_RSI, op->seg, TLB_R, &n);
    if (!s.host)
        return 0;
    uint64_t v = 0, skip = (n - 1) * op->opsize;
    guest_copy(&v, down(c) ? s.host - skip : s.host + skip, op->opsize);
    reg_write(c, R_RAX * 8, op->opsize, v);
    advance(c, op, R_RSI, n);
    return n;
}

static inline bool compare(struct emu *c, const struct op *op, uint64_t a, uint64_t b)
{
    c->cc_dst = (a - b) & size_mask(op->opsize);
    c->cc_src = b;
    c->cc_op = CC_SUB + size_log2(op->opsize);
    return op->flags & OP_REPNE ? a != b : a == b;
}

/* After a run of n of which `left` were not looked at. */
static uint64_t compared(struct emu *c, const struct op *op, uint64_t n, uint64_t left,
                         uint16_t flags, bool *on)
{
    bool equal = flags & FL_ZF << 8;
    c->cc_src = flags;
    c->cc_op = CC_HOST;
    *on = op->flags & OP_REPNE ? !equal : equal;
    return n - left;
}

static bool scas_one(struct emu *c, const struct op *op)
{
    uint64_t m = mem_load(c, op, dst_linear(c, op, false), op->opsize);
    advance(c, op, R_RDI, 1);
    return compare(c, op, reg_read(c, R_RAX * 8, op->opsize), m);
}

static uint64_t scas_run(struct emu *c, const struct op *op, uint64_t n, bool *on)
{
    uint16_t flags;
    struct side d = side_of(c, op, R_RDI, SEG_ES, TLB_R, &n);
    if (!d.host)
        return 0;
    uint64_t left =
        host_scas(d.host, c->gpr[R_RAX], n, op->opsize, down(c), op->flags & OP_REPNE, &flags);
    n = compared(c, op, n, left, flags, on);
    advance(c, op, R_RDI, n);
    return n;
}

static bool cmps_one(struct emu *c, const struct op *op)
{
    uint64_t a = mem_load(c, op, src_linear(c, op), op->opsize);
    uint64_t b = mem_load(c, op, dst_linear(c, op, false), op->opsize);
    advance(c, op, R_RSI, 1);
    advance(c, op, R_RDI, 1);
    return compare(c, op, a, b);
}

static uint64_t cmps_run(struct emu *c, const struct op *op, uint64_t n, bool *on)
{
    uint16_t flags;
    struct side s = side_of(c, op, R_RSI, op->seg, TLB_R, &n);
    struct side d = side_of(c, op, R_RDI, SEG_ES, TLB_R, &n);
    if (!s.host || !d.host)
        return 0;
    uint64_t left = host_cmps(s.host, d.host, n, op->opsize, down(c), op->flags & OP_REPNE, &flags);
    n = compared(c, op, n, left, flags, on);
    advance(c, op, R_RSI, n);
    advance(c, op, R_RDI, n);
    return n;
}

/* ---- handlers -------------------------------------------------------------------- */

#define DEF_STRING(name)                                                                           \
    static void op_##name(struct emu *c, const struct op *op)                                      \
    {                                                                                              \
        if (!repeat(c, op, name##_one, name##_run))                                                \
            return;                                                                                \
        NEXT;                                                                                      \
    }
DEF_STRING(movs)
DEF_STRING(stos)
DEF_STRING(lods)
DEF_STRING(scas)
DEF_STRING(cmps)

/* MOVS, STOS and LODS as compilers and kernels write them: 64-bit addresses, no
 * segment base, forwards, a few bytes to a page. The rest goes the long way. */

/* Elements to do now; 0: the long way. */
static inline uint64_t flat_count(const struct emu *c, bool rep, unsigned size)
{
    uint64_t n = rep ? c->gpr[R_RCX] : 1;
    return n <= 4096 / size && !(c->rflags & FL_DF) && !(c->mode & MODE_STEP) ? n : 0;
}

static inline bool movs_flat(struct emu *c, bool rep, unsigned size)
{
    uint64_t s = c->gpr[R_RSI], d = c->gpr[R_RDI], n = flat_count(c, rep, size);
    unsigned len = (unsigned)n * size, i = tlb_index(d);
    const struct tlb_ent *es = &c->tlb->e[TLB_R][tlb_index(s)], *ed = &c->tlb->e[TLB_W][i];
    if (!n || !tlb_hit(es, s, len) || !tlb_hit(ed, d, len))
        return false;
    uint8_t *to = (uint8_t *)(uintptr_t)(d + ed->addend);
    const uint8_t *from = (const uint8_t *)(uintptr_t)(s + es->addend);
    if (rep)
        host_movs(to, from, n, size, false);
    else
        guest_copy(to, from, size);
    if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))
        access_stored_code(c, d, len);
    c->gpr[R_RSI] = s + len;
    c->gpr[R_RDI] = d + len;
    if (rep)
        c->gpr[R_RCX] = 0;
    return true;
}

static inline bool stos_flat(struct emu *c, bool rep, unsigned size)
{
    uint64_t d = c->gpr[R_RDI], n = flat_count(c, rep, size);
    unsigned len = (unsigned)n * size, i = tlb_index(d);
    const struct tlb_ent *ed = &c->tlb->e[TLB_W][i];
    if (!n || !tlb_hit(ed, d, len))
        return false;
    uint8_t *to = (uint8_t *)(uintptr_t)(d + ed->addend);
    if (rep)
        host_stos(to, c->gpr[R_RAX], n, size, false);
    else
        guest_copy(to, &c->gpr[R_RAX], size);
    if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))
        access_stored_code(c, d, len);
    c->gpr[R_RDI] = d + len;
    if (rep)
        c->gpr[R_RCX] = 0;
    return true;
}

static inline bool lods_flat(struct emu *c, bool rep, unsigned size)
{
    uint64_t s = c->gpr[R_RSI];
    const struct tlb_ent *es = &c->tlb->e[TLB_R][tlb_index(s)];
    if (rep || !flat_count(c, rep, size) || !tlb_hit(es, s, size))
        return false;
    uint64_t v = 0;
    guest_copy(&v, (const void *)(uintptr_t)(s + es->addend), size);
    reg_write(c, R_RAX * 8, size, v);
    c->gpr[R_RSI] = s + size;
    return true;
}

#define DEF_FLAT(name, bytes)                                                                      \
    static void name##_##bytes(struct emu *c, const struct op *op)                                 \
    {                                                                                              \
        if (unlikely(!name##_flat(c, false, bytes)) && !repeat(c, op, name##_one, name##_run))     \
            return;                                                                                \
        NEXT;                                                                                      \
    }                                                                                              \
    static void rep_##name##_##bytes(struct emu *c, const struct op *op)                           \
    {                                                                                              \
        if (unlikely(!name##_flat(c, true, bytes)) && !repeat(c, op, name##_one, name##_run))      \
            return;                                                                                \
        NEXT;                                                                                      \
    }
#define DEF_FLATS(name)                                                                            \
    DEF_FLAT(name, 1)                                                                              \
    DEF_FLAT(name, 2)                                                                              \
    DEF_FLAT(name, 4)                                                                              \
    DEF_FLAT(name, 8)                                                                              \
    static op_fn *const name##_fns[2][4] = {                                                       \
        {name##_1, name##_2, name##_4, name##_8},                                                  \
        {rep_##name##_1, rep_##name##_2, rep_##name##_4, rep_##name##_8}};
DEF_FLATS(movs)
DEF_FLATS(stos)
DEF_FLATS(lods)

static op_fn *flat_handler(const struct op *op)
{
    bool rep = op->flags & (OP_REP | OP_REPNE);
    unsigned size = size_log2(op->opsize);
    if (op->fn == op_movs)
        return movs_fns[rep][size];
    if (op->fn == op_stos)
        return stos_fns[rep][size];
    if (op->fn == op_lods)
        return lods_fns[rep][size];
    return op->fn;
}

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
    if (in->code_size == 8 && op->asize == 8 && op->seg < SEG_FS)
        op->fn = flat_handler(op);
    return true;
}
