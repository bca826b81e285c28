/* SPDX-License-Identifier: MIT
 * Translating a block: decodes on past branches that are not taken, works out
 * which flags are live, then writes each instruction, natively or as a call of
 * the interpreter. */
#include "trans.h"
#include "perf_map.h"
#include "../../../mmu/guest.h"
#include "../int/int.h"
#include <stdlib.h>

/* ---- decoding ------------------------------------------------------------------ */

static bool is_jcc(const struct tinsn *t)
{
    return t->op.opsize == insn_word(t) && t->zi.meta.category == ZYDIS_CATEGORY_COND_BR &&
           t->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
           (t->zi.opcode_map == ZYDIS_OPCODE_MAP_0F ? (t->zi.opcode & 0xf0) == 0x80
                                                    : (t->zi.opcode & 0xf0) == 0x70);
}

static void adopt(struct tinsn *ti, const struct op *op, unsigned piece)
{
    ti->op = *op;
    ti->op.off = (uint16_t)(op->off + piece);
    if (op->base == R_IPB * 8)
        ti->op.disp += piece;
    if (ti->zop[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && ti->zop[0].imm.is_relative)
        ti->op.disp += piece;
    ti->off = ti->op.off;
}

/* Pieces up to branches, one after the other while they fall through. */
static void decode(struct trans *t, const uint8_t *bytes, unsigned avail)
{
    unsigned at = 0;
    for (bool more = true; more && at < avail && t->n < TRANS_MAX;) {
        struct decode_out *out = t->c->decoded;
        unsigned room = t->crosses ? 1 : TRANS_MAX - t->n;
        decode_block(t->c, bytes + at, avail - at, avail - at,
                     room < BLOCK_MAX_OPS ? room : BLOCK_MAX_OPS, out);
        if (out->needs_next_page || !out->nops)
            break;
        more = false;
        for (unsigned i = 0; i < out->nops; i++) {
            struct tinsn *ti = &t->insn[t->n];
            ti->bytes = bytes + at + out->op[i].off;
            if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(
                    &t->dec, ti->bytes, avail - at - out->op[i].off, &ti->zi, ti->zop))) {
                t->undecodable = true;
                break;
            }
            adopt(ti, &out->op[i], t->start + at);
            t->n++;
            more = i + 1 == out->nops && (is_jcc(ti) || trans_goes_on(ti)) && !t->crosses;
        }
        at += out->used;
        if (t->undecodable)
            break;
    }
    t->end = t->start + at;
    if (t->undecodable && t->n)
        t->end = t->insn[t->n - 1].off + t->insn[t->n - 1].op.len;
}

/* ---- liveness --------------------------------------------------------------------- */

static uint32_t live_at_ip(struct trans *t, int64_t off)
{
    if (off < 0 || off > 4095)
        return FL_ARITH;
    return flags_live_at(&t->dec, t->page, (unsigned)off, t->lines);
}

static void liveness(struct trans *t)
{
    uint32_t live = live_at_ip(t, t->end), need = 0;
    for (unsigned i = t->n; i-- > 0;) {
        struct tinsn *ti = &t->insn[i];
        flags_effect(&ti->zi, ti->zop, &ti->use, &ti->def);
        /* A store may change the code behind it to such as reads flags. */
        ti->live_after = live = ti->has_access && ti->m.write ? FL_ARITH : live;
        if (ti->kind == T_JCC) {
            ti->live_taken = live_at_ip(t, ti->op.disp);
            live |= ti->live_taken;
        } else if (ti->kind == T_JMP || ti->kind == T_CALL) {
            live = ti->live_after = live_at_ip(t, ti->op.disp);
            need = 0;
        } else if (ti->kind == T_RET || ti->kind == T_JMP_IND || ti->kind == T_CALL_IND) {
            live = ti->live_after = FL_ARITH;
            need = 0;
        } else if (ti->kind == T_CALLOUT || ti->kind == T_END) {
            ti->use = FL_ARITH;
            ti->def = 0;
        }
        live = (live & ~ti->def) | ti->use;
        need = (need & ~ti->def) | ti->use;
        ti->need_before = need;
        if (trans_may_fault(ti))
            live = FL_ARITH; /* a fault's frame shows them all */
        ti->live_before = live;
    }
}

/* ---- the whole block ----------------------------------------------------------------- */

/* Long enough to be replaced by a jump at once. */
static void put_entry(struct trans *t)
{
    static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    for (unsigned i = 0; i < sizeof nop; i++)
        put8(&t->a, nop[i]);
}

static struct jit_block *finish(struct trans *t)
{
    struct jit_block *jb = t->jb;
    /* Where a dropped block's entry goes: the block's start is next. */
    jb->dead = here(&t->a);
    put_ip(t, t->start);
    jump_to(&t->a, t->gates->leave_r10);
    if (t->a.full)
        return NULL;
    jb->code = t->entry + t->a.to_exec;
    jb->entry = t->entry;
    jb->owned = t->owned;
    return jb;
}

struct trans *trans_new(void)
{
    return malloc(sizeof(struct trans));
}

struct jit_block *jit_translate(struct emu *c, struct block *b, const uint8_t *page,
                                const uint8_t *next, uint64_t *lines)
{
    struct jit *jit = c->vm->jit;
    struct trans *t = c->trans;

    memset(t, 0, offsetof(struct trans, cold));
    t->c = c;
    t->block = b;
    t->jit = jit;
    t->gates = jit_gates(jit);
    decoder_init(c, &t->dec);
    t->code32 = (c->mode & MODE_CODE_MASK) == MODE_CODE32;
    t->word = t->code32 ? 4 : 8;
    t->start = (unsigned)(b->phys & 4095);
    guest_copy(t->page, page, 4096);
    t->crosses = next;
    if (next)
        guest_copy(t->page + 4096, next, INSN_MAX);
    t->lines = lines;
    if (!jit_space(jit, &t->a))
        return NULL;
    t->entry = t->a.w;
    t->jb = trans_own(t, sizeof *t->jb);
    if (!t->jb)
        return NULL;
    decode(t, t->page + t->start, 4096 - t->start + (next ? INSN_MAX : 0));
    if (!t->n) {
        jit_chunks_free(jit, t->owned);
        return NULL;
    }
    for (unsigned i = 0; i < t->n; i++)
        t->insn[i].kind = trans_kind(c, &t->insn[i]);
    trans_accesses(t);
    liveness(t);
    t->flags = IN_MEMORY;
    put_entry(t);
    t->loop.start = t->a.w;
    t->loop.on = loop_find(t);
    for (unsigned i = 0; i < t->n && !t->failed && !t->a.full; i++) {
        trans_insn(t, &t->insn[i], i);
        remat_step(t, i);
    }
    if (!t->ended)
        trans_exit(t, t->n, t->end, live_at_ip(t, t->end));
    if (t->loop.on && !t->failed && !t->a.full)
        put_loop(t);
    trans_cold(t);
    struct jit_block *jb = t->failed || t->a.full ? NULL : finish(t);
    if (!jb) {
        jit_chunks_free(jit, t->owned);
        return NULL;
    }
    if (c->vm->perf_map)
        perf_map_block(c->vm->perf_map, jb->code, (size_t)(t->a.w - t->entry), c->rip);
    jit_commit(jit, &t->a);
    *lines |= t->end > t->start
                  ? ((t->end - 1) >> 6 >= 63 ? UINT64_MAX : BIT64(((t->end - 1) >> 6) + 1) - 1) &
                        ~(BIT64(t->start >> 6) - 1)
                  : 0;
    return jb;
}

void jit_block_free(struct jit *jit, struct jit_block *jb)
{
    if (jb)
        jit_chunks_free(jit, jb->owned);
}
