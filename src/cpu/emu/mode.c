/* SPDX-License-Identifier: MIT
 * What follows from the control registers, CS, SS and RFLAGS: the mode word, the
 * TLB set, which pending bits count. */
#include "block.h"
#include "far/seg.h"
#include "jit/jit.h"
#include "sys/sys.h"
#include "tlb.h"

/* Segments of data that may be read and written up to 4 GiB from their base. */
static uint8_t find_spans(const struct emu *c)
{
    const uint16_t kind = SEG_A_P | SEG_A_S | TYPE_CODE | TYPE_DOWN | TYPE_WRITE;
    uint8_t spans = 0;
    for (unsigned i = 0; i <= SEG_GS; i++)
        if ((c->seg[i].attr & kind) == (SEG_A_P | SEG_A_S | TYPE_WRITE) &&
            c->seg[i].limit == UINT32_MAX)
            spans |= (uint8_t)(1u << i);
    return spans;
}

/* Is an offset in CS, DS, ES and SS a linear address, and no check needed? */
static bool flat(const struct emu *c)
{
    const unsigned data = 1u << SEG_DS | 1u << SEG_ES | 1u << SEG_SS;
    const struct seg *s = c->seg;
    return (c->spans & data) == data && s[SEG_SS].attr & SEG_A_DB &&
           s[SEG_CS].limit == UINT32_MAX &&
           !(s[SEG_CS].base | s[SEG_DS].base | s[SEG_ES].base | s[SEG_SS].base);
}

static uint32_t mode_word(struct emu *c)
{
    uint32_t m;
    if (c->efer & EFER_LMA && c->seg[SEG_CS].attr & SEG_A_L)
        return MODE_CODE64;
    m = c->seg[SEG_CS].attr & SEG_A_DB ? MODE_CODE32 : MODE_CODE16;
    if (c->seg[SEG_SS].attr & SEG_A_DB)
        m |= MODE_SS32;
    if (m & MODE_CODE32) {
        c->spans = find_spans(c);
        m |= flat(c) ? MODE_FLAT : 0;
    }
    return m;
}

void emu_narrow(struct emu *c)
{
    for (unsigned i = 0; i < 8; i++)
        c->gpr[i] = (uint32_t)c->gpr[i];
}

bool emu_segment_loaded(struct emu *c)
{
    if ((c->mode & MODE_CODE_MASK) != MODE_CODE32 || !((c->mode ^ mode_word(c)) & MODE_FLAT))
        return false;
    emu_mode_changed(c);
    return true;
}

void emu_mode_changed(struct emu *c)
{
    c->db_data = dr_armed_data(c);
    c->db_exec = dr_armed_exec(c);
    c->ac_check = c->cpl == 3 && c->cr0 & CR0_AM && c->rflags & FL_AC;
    c->mode = mode_word(c);
    if (c->mode & MODE_FLAT)
        emu_narrow(c);
    if (c->rflags & FL_TF || c->shadow || c->db_data || c->db_exec || c->step_exit)
        c->mode |= MODE_STEP;

    c->walk.cr0 = c->cr0;
    c->walk.cr3 = c->cr3;
    c->walk.cr4 = c->cr4;
    c->walk.efer = c->efer;
    c->walk.pkru = c->pkru;
    c->walk.pkrs = c->pkrs;
    c->mode |= (uint32_t)tlb_priv(c) << MODE_PRIV;
    if (c->ac_check || c->db_data) {
        if (c->tlb != &c->tlbs->never)
            jit_slots_flush(c, true);
        c->tlb = &c->tlbs->never;
    } else {
        c->tlb = tlb_set(c, tlb_priv(c));
    }

    c->pend_mask = PEND_KICK | PEND_INIT | PEND_SIPI | PEND_FLUSH | PEND_POWER | PEND_STOP |
                   PEND_TIME | PEND_TURN;
    if (!c->shadow) {
        c->pend_mask |= PEND_EVENT;
        if (!c->nmi_masked)
            c->pend_mask |= PEND_NMI;
        if (c->rflags & FL_IF)
            c->pend_mask |= PEND_IRQ;
    }
    jcache_retag(c);
}
