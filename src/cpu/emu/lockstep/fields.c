/* SPDX-License-Identifier: MIT
 * The architectural state of a vCPU, by name: what the reference takes over, what
 * is compared, what a report shows. Arithmetic flags are none of these: see
 * lockstep.c. */
#include "inner.h"
#include <stddef.h>

struct field {
    const char *name;
    uint16_t off, size, unit; /* unit: bytes of one element */
    bool often;
};

#define F(field, unit, often)                                                                      \
    {                                                                                              \
#field, offsetof(struct emu, field), sizeof((struct emu *)0)->field, unit, often           \
    }
/* Part of an array of bytes. */
#define PART(name, field, first, end, unit)                                                        \
    {                                                                                              \
        name, offsetof(struct emu, field) + (first), (end) - (first), unit, true                   \
    }

static const struct field fields[] = {
    {"gpr", offsetof(struct emu, gpr), 16 * 8, 8, true},
    F(rip, 8, true),
    F(rflags, 4, true),
    F(cpl, 1, true),
    F(shadow, 1, true),
    F(halted, 1, true),
    F(mxcsr, 4, true),
    F(ymm, 8, true),
    PART("fcw", fx, 0, 2, 2),
    PART("fsw", fx, 2, 4, 2),
    PART("ftw", fx, 4, 6, 2),
    PART("fop", fx, 6, 8, 2),
    PART("fip", fx, 8, 16, 8),
    PART("fdp", fx, 16, 24, 8),
    PART("st", fx, 32, 160, 8),
#define SEG(n)                                                                                     \
    F(seg[n].sel, 2, true), F(seg[n].base, 8, true), F(seg[n].limit, 4, false),                    \
        F(seg[n].attr, 2, false)
    SEG(SEG_ES),
    SEG(SEG_CS),
    SEG(SEG_SS),
    SEG(SEG_DS),
    SEG(SEG_FS),
    SEG(SEG_GS),
    SEG(SEG_LDTR),
    SEG(SEG_TR),
    F(gdt.base, 8, false),
    F(gdt.limit, 4, false),
    F(idt.base, 8, false),
    F(idt.limit, 4, false),
    F(cr0, 8, true),
    F(cr2, 8, true),
    F(cr3, 8, true),
    F(cr4, 8, true),
    F(efer, 8, false),
    F(xcr0, 8, false),
    F(dr, 8, false),
    F(dr6, 8, false),
    F(dr7, 8, false),
    F(walk.pdpte, 8, false),
    F(star, 8, false),
    F(lstar, 8, false),
    F(cstar, 8, false),
    F(fmask, 8, false),
    F(kernel_gs_base, 8, false),
    F(sysenter_cs, 8, false),
    F(sysenter_esp, 8, false),
    F(sysenter_eip, 8, false),
    F(pat, 8, false),
    F(tsc_offset, 8, false),
    F(tsc_aux, 8, false),
    F(misc_enable, 8, false),
    F(spec_ctrl, 8, false),
    F(mtrr_def, 8, false),
    F(mtrr_fixed, 8, false),
    F(mtrr_var, 8, false),
    F(mcg_status, 8, false),
    F(mc_bank, 8, false),
    F(mcg_ctl, 8, false),
    F(tsc_adjust, 8, false),
    F(hwcr, 8, false),
    F(syscfg, 8, false),
    F(nb_cfg, 8, false),
    F(kvm_system_time, 8, false),
    F(kvm_wall_clock, 8, false),
    F(pkru, 4, true),
    F(pkrs, 4, false),
    F(nmi_masked, 1, false),
    F(wait_sipi, 1, false),
};

void fields_copy(struct emu *to, const struct emu *from)
{
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
        memcpy((uint8_t *)to + fields[i].off, (const uint8_t *)from + fields[i].off,
               fields[i].size);
    to->step_exit = from->step_exit;
    to->db_hit = from->db_hit;
    to->replay = from->replay;
    to->cc_op = from->cc_op;
    to->cc_src = from->cc_src;
    to->cc_dst = from->cc_dst;
    to->icount = from->icount;
    to->stats.exceptions = from->stats.exceptions;
}

bool fields_equal(const struct emu *a, const struct emu *b, bool all)
{
    /* Nearly always all that a piece changed. */
    if (memcmp(a->gpr, b->gpr, 16 * 8) != 0 || a->rip != b->rip ||
        memcmp(a->ymm, b->ymm, sizeof a->ymm) != 0)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
        const struct field *f = &fields[i];
        if ((all || f->often) &&
            memcmp((const uint8_t *)a + f->off, (const uint8_t *)b + f->off, f->size) != 0)
            return false;
    }
    return true;
}

static uint64_t element(const struct emu *c, const struct field *f, unsigned i)
{
    uint64_t v = 0;
    memcpy(&v, (const uint8_t *)c + f->off + (size_t)i * f->unit, f->unit);
    return v;
}

void fields_differences(const struct emu *a, const struct emu *b,
                        void (*fn)(void *ud, const char *name, unsigned i, uint64_t a, uint64_t b),
                        void *ud)
{
    for (unsigned n = 0; n < ARRAY_LEN(fields); n++) {
        const struct field *f = &fields[n];
        for (unsigned i = 0; i < f->size / f->unit; i++)
            if (element(a, f, i) != element(b, f, i))
                fn(ud, f->name, i, element(a, f, i), element(b, f, i));
    }
}
