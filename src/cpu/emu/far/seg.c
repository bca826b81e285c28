/* SPDX-License-Identifier: MIT
 * Descriptors and segment registers. */
#include "seg.h"
#include "../access.h"

void seg_fault(struct emu *c, unsigned vector, uint16_t sel)
{
    emu_raise_err(c, vector, sel & 0xfffc);
}

/* ---- limits ----------------------------------------------------------------- */

bool seg_within(const struct seg *s, uint64_t off, uint64_t size)
{
    uint64_t last = off + size - 1;

    if ((s->attr & (TYPE_CODE | TYPE_DOWN)) == TYPE_DOWN)
        return off > s->limit && last <= (s->attr & SEG_A_DB ? UINT32_MAX : UINT16_MAX);
    return last <= s->limit;
}

static bool seg_allows(const struct emu *c, const struct seg *s, bool write)
{
    bool allowed =
        s->attr & TYPE_CODE ? !write && s->attr & TYPE_READ : !write || s->attr & TYPE_WRITE;

    /* Real mode knows no types: CS may be written. */
    return s->attr & SEG_A_P && (allowed || real_mode(c));
}

uint64_t seg_check(struct emu *c, const struct op *op, unsigned seg, uint64_t off, unsigned size,
                   bool write)
{
    const struct seg *s = &c->seg[seg];

    if (likely(seg_allows(c, s, write) && seg_within(s, off, size ? size : 1)))
        return (uint32_t)(s->base + off);
    emu_at(c, op);
    emu_raise_err(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

uint64_t seg_room(const struct emu *c, unsigned seg, uint64_t off, bool write)
{
    const struct seg *s = &c->seg[seg];

    if (!seg_allows(c, s, write) || (s->attr & (TYPE_CODE | TYPE_DOWN)) == TYPE_DOWN ||
        off > s->limit)
        return 0;
    return s->limit - off + 1;
}

/* ---- descriptors ------------------------------------------------------------ */

static void desc_unpack(uint64_t raw, uint16_t sel, struct seg *s)
{
    uint32_t limit = (uint32_t)(raw & 0xffff) | (uint32_t)(raw >> 32 & 0xf0000);

    s->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    s->attr = (uint16_t)((raw >> 40 & 0xff) | (raw >> 44 & 0xf00));
    s->limit = s->attr & SEG_A_G ? limit << 12 | 0xfff : limit;
    s->sel = sel;
}

/* The table a selector points into; false: there is none. */
static bool desc_table(const struct emu *c, uint16_t sel, struct dtable *t)
{
    const struct seg *ldt = &c->seg[SEG_LDTR];

    if (!(sel & 4)) {
        *t = c->gdt;
        return true;
    }
    *t = (struct dtable){.base = ldt->base, .limit = ldt->limit};
    return ldt->attr & SEG_A_P;
}

static uint64_t table_linear(const struct emu *c, uint64_t base, unsigned off)
{
    return long_mode(c) ? base + off : (uint32_t)(base + off);
}

bool desc_read(struct emu *c, uint16_t sel, struct desc *d)
{
    struct dtable t;

    if (sel_null(sel) || !desc_table(c, sel, &t) || (sel | 7u) > t.limit)
        return false;
    d->addr = table_linear(c, t.base, sel & 0xfff8);
    d->raw = sys_ld64(c, d->addr);
    desc_unpack(d->raw, sel, &d->seg);
    return true;
}

bool desc_read_upper(struct emu *c, const struct desc *d, uint64_t *upper)
{
    struct dtable t;

    if (!desc_table(c, d->seg.sel, &t) || (d->seg.sel | 7u) + 8 > t.limit)
        return false;
    *upper = sys_ld64(c, d->addr + 8);
    return !(*upper >> 40 & 0x1f);
}

void desc_mark_accessed(struct emu *c, struct desc *d)
{
    uint8_t access = (uint8_t)(d->raw >> 40) | TYPE_ACCESSED;

    if (d->seg.attr & TYPE_ACCESSED)
        return;
    sys_store(c, d->addr + 5, &access, 1);
    d->seg.attr |= TYPE_ACCESSED;
}

/* ---- segment registers without descriptors ------------------------------------- */

/* Real mode keeps limit, size and granularity, so that larger segments loaded
 * in protected mode stay usable. */
void seg_set_real(struct emu *c, unsigned seg, uint16_t sel)
{
    struct seg *s = &c->seg[seg];

    if (!(s->attr & SEG_A_P)) {
        s->limit = 0xffff;
        s->attr = 0;
    }
    s->attr = (s->attr & (SEG_A_G | SEG_A_DB)) | (seg == SEG_CS ? ATTR_CODE16 : ATTR_DATA16);
    s->sel = sel;
    s->base = (uint32_t)sel << 4;
}

void seg_set_v86(struct emu *c, unsigned seg, uint16_t sel)
{
    c->seg[seg] =
        (struct seg){.base = (uint32_t)sel << 4, .limit = 0xffff, .sel = sel, .attr = ATTR_V86};
}

/* An unusable segment. SS keeps the privilege level in its DPL. */
void seg_set_null(struct emu *c, unsigned seg, uint16_t sel)
{
    unsigned dpl = seg == SEG_SS ? sel_rpl(sel) : 0;

    c->seg[seg] = (struct seg){.sel = sel, .attr = (uint16_t)(dpl << SEG_A_DPL_SHIFT)};
}

void seg_set_flat(struct emu *c, unsigned seg, uint16_t sel, uint16_t attr, unsigned dpl)
{
    c->seg[seg] = (struct seg){.limit = UINT32_MAX,
                               .sel = (uint16_t)((sel & 0xfffc) | dpl),
                               .attr = (uint16_t)(attr | dpl << SEG_A_DPL_SHIFT)};
}

/* ---- loads -------------------------------------------------------------------- */

void seg_read_stack(struct emu *c, uint16_t sel, unsigned cpl, unsigned bad, struct desc *d)
{
    if (sel_null(sel))
        seg_fault(c, bad, 0);
    if (!desc_read(c, sel, d) || sel_rpl(sel) != cpl || !seg_writable(&d->seg) ||
        seg_dpl(&d->seg) != cpl)
        seg_fault(c, bad, sel);
    if (!(d->seg.attr & SEG_A_P))
        seg_fault(c, EXC_SS, sel);
}

static void load_ss(struct emu *c, uint16_t sel)
{
    struct desc d;

    /* Null is fine in 64-bit mode but in ring 3 (SDM 5.4.1.1). */
    if (sel_null(sel) && code64(c) && c->cpl != 3 && sel_rpl(sel) == c->cpl) {
        seg_set_null(c, SEG_SS, sel);
        return;
    }
    seg_read_stack(c, sel, c->cpl, EXC_GP, &d);
    desc_mark_accessed(c, &d);
    c->seg[SEG_SS] = d.seg;
}

static void load_data(struct emu *c, unsigned seg, uint16_t sel)
{
    struct desc d;

    if (sel_null(sel)) {
        seg_set_null(c, seg, sel);
        return;
    }
    if (!desc_read(c, sel, &d) || !seg_readable(&d.seg))
        seg_fault(c, EXC_GP, sel);
    if (!seg_conforming(&d.seg) && (sel_rpl(sel) > seg_dpl(&d.seg) || c->cpl > seg_dpl(&d.seg)))
        seg_fault(c, EXC_GP, sel);
    if (!(d.seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
    desc_mark_accessed(c, &d);
    c->seg[seg] = d.seg;
}

void seg_load(struct emu *c, unsigned seg, uint16_t sel)
{
    if (real_mode(c))
        seg_set_real(c, seg, sel);
    else if (v86_mode(c))
        seg_set_v86(c, seg, sel);
    else if (seg == SEG_SS)
        load_ss(c, sel);
    else
        load_data(c, seg, sel);
}

/* ---- code segments ---------------------------------------------------------------- */

bool seg_code_is64(struct emu *c, const struct seg *cs)
{
    if (!long_mode(c) || !(cs->attr & SEG_A_L))
        return false;
    if (cs->attr & SEG_A_DB)
        seg_fault(c, EXC_GP, cs->sel);
    return true;
}

void seg_check_ip(struct emu *c, const struct seg *cs, uint64_t ip)
{
    bool wide = long_mode(c) && cs->attr & SEG_A_L;

    if (wide ? !canonical(c, ip) : ip > cs->limit)
        emu_raise_err(c, EXC_GP, 0);
}

void seg_set_cs(struct emu *c, const struct seg *cs, unsigned cpl)
{
    struct seg *s = &c->seg[SEG_CS];

    *s = *cs;
    s->sel = (uint16_t)((cs->sel & 0xfffc) | cpl);
    if (long_mode(c) && cs->attr & SEG_A_L)
        s->base = 0; /* 64-bit mode ignores it */
    c->cpl = (uint8_t)cpl;
}

void seg_drop_inner(struct emu *c)
{
    static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < ARRAY_LEN(segs); i++) {
        struct seg *s = &c->seg[segs[i]];
        if (!(s->attr & SEG_A_P) || seg_conforming(s) || seg_dpl(s) >= c->cpl)
            continue;
        /* The base stays: 64-bit mode goes on using that of FS and GS. */
        s->sel = 0;
        s->attr = 0;
    }
}
