/* SPDX-License-Identifier: MIT
 * Instructions about descriptors: LLDT, LTR, SLDT, STR, LAR, LSL, VERR, VERW,
 * ARPL (SDM volume 2; volume 3, 5.10). */
#include "far.h"
#include "../int/int.h"
#include "../sys/sys.h"

/* Not there in real and virtual-8086 mode. */
static void need_protected(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if (!protected_mode(c))
        emu_raise(c, EXC_UD);
}

static uint16_t selector_operand(struct emu *c, const struct op *op)
{
    return op->flags & OP_RM_MEM ? ld16(c, op, op_linear(c, op, 2, false)) : R16(c, op->src);
}

static void set_zf(struct emu *c, bool on)
{
    uint32_t f = flags_arith(c) & ~FL_ZF;
    flags_set_arith(c, on ? f | FL_ZF : f);
}

/* A handler that ends in a tail call must not have locals whose addresses escape:
 * those are in functions of their own. */
#define NOINLINE __attribute__((noinline))
#define DEF_HANDLER(name)                                                                          \
    static void do_##name(struct emu *c, const struct op *op)                                      \
    {                                                                                              \
        name(c, op);                                                                               \
        NEXT;                                                                                      \
    }

/* ---- LDTR and TR ---------------------------------------------------------------- */

static void do_sldt_str(struct emu *c, const struct op *op)
{
    uint16_t sel = c->seg[op->src].sel;

    need_protected(c, op);
    if (c->cr4 & CR4_UMIP && c->cpl)
        emu_raise_err(c, EXC_GP, 0);
    if (op->flags & OP_RM_MEM)
        st16(c, op, op_linear(c, op, 2, true), sel);
    else
        reg_write(c, op->dst, op->opsize, sel);
    NEXT;
}

/* A descriptor for LDTR or TR; with its upper half in long mode. */
static void read_system(struct emu *c, uint16_t sel, struct desc *d)
{
    uint64_t upper;

    if (sel & 4 || !desc_read(c, sel, d) || d->seg.attr & SEG_A_S)
        seg_fault(c, EXC_GP, sel);
    if (!long_mode(c))
        return;
    if (!desc_read_upper(c, d, &upper))
        seg_fault(c, EXC_GP, sel);
    d->seg.base |= upper << 32;
    if (!cpu_canonical(c, d->seg.base))
        seg_fault(c, EXC_GP, sel);
}

static NOINLINE void lldt(struct emu *c, const struct op *op)
{
    struct desc d;

    need_protected(c, op);
    need_cpl0(c, op);
    uint16_t sel = selector_operand(c, op);
    if (sel_null(sel)) {
        seg_set_null(c, SEG_LDTR, sel);
        return;
    }
    read_system(c, sel, &d);
    if (seg_type(&d.seg) != SYS_LDT)
        seg_fault(c, EXC_GP, sel);
    if (!(d.seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
    c->seg[SEG_LDTR] = d.seg;
}

DEF_HANDLER(lldt)

static NOINLINE void ltr(struct emu *c, const struct op *op)
{
    struct desc d;
    uint8_t busy;

    need_protected(c, op);
    need_cpl0(c, op);
    uint16_t sel = selector_operand(c, op);
    if (sel_null(sel))
        emu_raise_err(c, EXC_GP, 0);
    read_system(c, sel, &d);
    if (seg_type(&d.seg) != SYS_TSS32 && (seg_type(&d.seg) != SYS_TSS16 || long_mode(c)))
        seg_fault(c, EXC_GP, sel);
    if (!(d.seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
    busy = (uint8_t)(d.raw >> 40) | 2;
    sys_store(c, d.addr + 5, &busy, 1);
    d.seg.attr |= 2;
    c->seg[SEG_TR] = d.seg;
}

DEF_HANDLER(ltr)

/* ---- questions ------------------------------------------------------------------- */

/* Types of system descriptors that LAR and LSL answer for. */
#define LAR_TYPES                                                                                  \
    (BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_CALL16) | BIT(SYS_TASK_GATE) |  \
     BIT(SYS_TSS32) | BIT(SYS_TSS32_BUSY) | BIT(SYS_CALL32))
#define LAR_TYPES64 (BIT(SYS_LDT) | BIT(SYS_TSS32) | BIT(SYS_TSS32_BUSY) | BIT(SYS_CALL32))
#define LSL_TYPES                                                                                  \
    (BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_TSS32) | BIT(SYS_TSS32_BUSY))
#define LSL_TYPES64 (BIT(SYS_LDT) | BIT(SYS_TSS32) | BIT(SYS_TSS32_BUSY))

/* The descriptor is there, and this privilege may see it. */
static bool visible(struct emu *c, uint16_t sel, struct desc *d)
{
    if (!desc_read(c, sel, d))
        return false;
    if (seg_conforming(&d->seg))
        return true;
    return c->cpl <= seg_dpl(&d->seg) && sel_rpl(sel) <= seg_dpl(&d->seg);
}

static bool answers(struct emu *c, uint16_t sel, struct desc *d, uint32_t types, uint32_t types64)
{
    if (!visible(c, sel, d))
        return false;
    return d->seg.attr & SEG_A_S || (long_mode(c) ? types64 : types) >> seg_type(&d->seg) & 1;
}

static NOINLINE void lar(struct emu *c, const struct op *op)
{
    struct desc d;

    need_protected(c, op);
    bool ok = answers(c, selector_operand(c, op), &d, LAR_TYPES, LAR_TYPES64);
    if (ok)
        reg_write(c, op->dst, op->opsize, d.raw >> 32 & 0x00ffff00);
    set_zf(c, ok);
}

DEF_HANDLER(lar)

static NOINLINE void lsl(struct emu *c, const struct op *op)
{
    struct desc d;

    need_protected(c, op);
    bool ok = answers(c, selector_operand(c, op), &d, LSL_TYPES, LSL_TYPES64);
    if (ok)
        reg_write(c, op->dst, op->opsize, d.seg.limit);
    set_zf(c, ok);
}

DEF_HANDLER(lsl)

static NOINLINE void verr(struct emu *c, const struct op *op)
{
    struct desc d;

    need_protected(c, op);
    set_zf(c, visible(c, selector_operand(c, op), &d) && seg_readable(&d.seg));
}

DEF_HANDLER(verr)

static NOINLINE void verw(struct emu *c, const struct op *op)
{
    struct desc d;

    need_protected(c, op);
    set_zf(c, visible(c, selector_operand(c, op), &d) && seg_writable(&d.seg));
}

DEF_HANDLER(verw)

static void do_arpl(struct emu *c, const struct op *op)
{
    uint16_t rpl = R16(c, op->src) & 3, sel;
    uint64_t lin = 0;

    need_protected(c, op);
    if (op->flags & OP_RM_MEM) {
        lin = op_linear(c, op, 2, true);
        emu_probe_store(c, op, lin, 2);
        sel = ld16(c, op, lin);
    } else {
        sel = R16(c, op->dst);
    }
    bool raise = sel_rpl(sel) < rpl;
    if (raise && op->flags & OP_RM_MEM)
        st16(c, op, lin, (uint16_t)((sel & ~3u) | rpl));
    else if (raise)
        R16(c, op->dst) = (uint16_t)((sel & ~3u) | rpl);
    set_zf(c, raise);
    NEXT;
}

/* ---- selection ---------------------------------------------------------------------- */

/* The selector operand is the rm operand: at `at` in Zydis' list. */
static void take_rm(struct insn *in, struct op *op, unsigned at)
{
    const ZydisDecodedOperand *rm = &in->zop[at];

    if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY)
        op->flags |= OP_RM_MEM;
    else
        op->src = op_gpr(rm->reg.value);
}

static bool select_store(struct insn *in, struct op *op, unsigned seg)
{
    const ZydisDecodedOperand *rm = &in->zop[0];

    op->src = (uint8_t)seg;
    if (rm->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        op->flags |= OP_RM_MEM;
    } else {
        op->dst = op_gpr(rm->reg.value);
        op->opsize = (uint8_t)(rm->size / 8);
    }
    op->fn = do_sldt_str;
    return true;
}

bool select_desc(struct emu *c, struct insn *in, struct op *op)
{
    (void)c;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SLDT: return select_store(in, op, SEG_LDTR);
    case ZYDIS_MNEMONIC_STR: return select_store(in, op, SEG_TR);
    case ZYDIS_MNEMONIC_LLDT: op->fn = do_lldt; break;
    case ZYDIS_MNEMONIC_LTR: op->fn = do_ltr; break;
    case ZYDIS_MNEMONIC_VERR: op->fn = do_verr; break;
    case ZYDIS_MNEMONIC_VERW: op->fn = do_verw; break;
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
        op->fn = in->zi.mnemonic == ZYDIS_MNEMONIC_LAR ? do_lar : do_lsl;
        op->dst = op_gpr(in->zop[0].reg.value);
        take_rm(in, op, 1);
        return true;
    case ZYDIS_MNEMONIC_ARPL:
        op->fn = do_arpl;
        op->src = op_gpr(in->zop[1].reg.value);
        if (in->zop[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            op->flags |= OP_RM_MEM;
        else
            op->dst = op_gpr(in->zop[0].reg.value);
        return true;
    default: return false;
    }
    take_rm(in, op, 0);
    return true;
}
