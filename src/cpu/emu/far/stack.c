/* SPDX-License-Identifier: MIT
 * Stacks of far transfers and event delivery. */
#include "stack.h"
#include "../access.h"

#define CHUNK 64 /* bytes that go at once: cpl_store()'s limit */

void stack_current(struct emu *c, struct stack *st)
{
    uint64_t mask = code64(c) ? UINT64_MAX : c->mode & MODE_SS32 ? UINT32_MAX : UINT16_MAX;

    *st = (struct stack){
        .ss = c->seg[SEG_SS], .sp = c->gpr[R_RSP] & mask, .mask = mask, .cpl = c->cpl};
}

void stack_wide(struct emu *c, struct stack *st, uint64_t rsp, unsigned cpl)
{
    *st = (struct stack){.sp = rsp, .mask = UINT64_MAX, .cpl = (uint8_t)cpl};
    st->load_ss = cpl != c->cpl;
}

/* Reads from the current TSS; #TS(its selector) past its limit. */
static void tss_load(struct emu *c, unsigned off, void *buf, unsigned len)
{
    const struct seg *tr = &c->seg[SEG_TR];

    if (off + len - 1 > tr->limit)
        seg_fault(c, EXC_TS, tr->sel);
    sys_load(c, long_mode(c) ? tr->base + off : (uint32_t)(tr->base + off), buf, len);
}

uint64_t tss64_rsp(struct emu *c, unsigned slot)
{
    uint64_t rsp;

    tss_load(c, 4 + slot * 8, &rsp, 8);
    return rsp;
}

void stack_inner(struct emu *c, struct stack *st, unsigned cpl)
{
    uint8_t buf[6];
    struct desc d;
    uint64_t sp;
    uint16_t ss;

    if (long_mode(c)) {
        stack_wide(c, st, tss64_rsp(c, cpl), cpl);
        return;
    }
    if ((seg_type(&c->seg[SEG_TR]) & ~2u) == SYS_TSS32) {
        tss_load(c, 4 + cpl * 8, buf, 6);
        sp = get_le32(buf);
        ss = get_le16(buf + 4);
    } else {
        tss_load(c, 2 + cpl * 4, buf, 4);
        sp = get_le16(buf);
        ss = get_le16(buf + 2);
    }
    seg_read_stack(c, ss, cpl, EXC_TS, &d);
    desc_mark_accessed(c, &d);
    *st = (struct stack){.ss = d.seg,
                         .mask = d.seg.attr & SEG_A_DB ? UINT32_MAX : UINT16_MAX,
                         .err_sel = ss,
                         .cpl = (uint8_t)cpl,
                         .load_ss = true};
    st->sp = sp & st->mask;
}

/* Checks [off, off + len) and returns its linear address. */
static uint64_t checked_linear(struct emu *c, const struct stack *st, uint64_t off, unsigned len)
{
    if (st->mask == UINT64_MAX) {
        if (!canonical(c, off) || !canonical(c, off + len - 1))
            seg_fault(c, EXC_SS, st->err_sel);
        return off;
    }
    if (!(st->ss.attr & SEG_A_P) || !seg_within(&st->ss, off, len))
        seg_fault(c, EXC_SS, st->err_sel);
    return (uint32_t)(st->ss.base + off);
}

/* [low, low + len) goes past the top of the stack's address space: value by value then. */
static bool wraps(const struct stack *st, uint64_t low, unsigned len)
{
    return low > st->mask - (len - 1);
}

/* The current privilege's accesses are ordinary ones: EFLAGS.AC counts for SMAP. */
static void stack_store(struct emu *c, const struct stack *st, uint64_t lin, const void *buf,
                        unsigned len)
{
    if (st->cpl == c->cpl)
        emu_store(c, NULL, lin, buf, len);
    else
        cpl_store(c, st->cpl, lin, buf, len);
}

void stack_push(struct emu *c, struct stack *st, const uint64_t *v, unsigned n, unsigned size)
{
    uint8_t buf[CHUNK];

    while (n) {
        unsigned k = n * size > CHUNK ? CHUNK / size : n;
        uint64_t low = (st->sp - k * size) & st->mask;
        if (wraps(st, low, k * size)) {
            k = 1;
            low = (st->sp - size) & st->mask;
        }
        for (unsigned i = 0; i < k; i++)
            memcpy(buf + (k - 1 - i) * size, &v[i], size);
        stack_store(c, st, checked_linear(c, st, low, k * size), buf, k * size);
        st->sp = low;
        v += k;
        n -= k;
    }
}

void stack_pop(struct emu *c, struct stack *st, uint64_t *v, unsigned n, unsigned size)
{
    uint8_t buf[CHUNK];

    while (n) {
        unsigned k = n * size > CHUNK ? CHUNK / size : n;
        if (wraps(st, st->sp, k * size))
            k = 1;
        emu_load(c, NULL, checked_linear(c, st, st->sp, k * size), buf, k * size);
        for (unsigned i = 0; i < k; i++) {
            v[i] = 0;
            memcpy(&v[i], buf + i * size, size);
        }
        st->sp = (st->sp + k * size) & st->mask;
        v += k;
        n -= k;
    }
}

void stack_commit(struct emu *c, const struct stack *st)
{
    if (st->load_ss && st->mask == UINT64_MAX)
        seg_set_null(c, SEG_SS, st->cpl);
    else if (st->load_ss)
        c->seg[SEG_SS] = st->ss;
    if (st->mask == UINT16_MAX)
        R16(c, R_RSP * 8) = (uint16_t)st->sp;
    else
        c->gpr[R_RSP] = st->sp;
}
