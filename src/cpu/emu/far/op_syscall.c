/* SPDX-License-Identifier: MIT
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT, and the bases of FS and GS. The processor
 * presented is an AMD one: SYSCALL works in legacy and compatibility mode, and
 * SYSENTER only outside long mode (AMD APM volume 3). */
#include "far.h"
#include "../sys/sys.h"
#include "../pv.h"

/* Flags kept by a load of RFLAGS from R11. */
#define SYSRET_FLAGS                                                                               \
    (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP | FL_ID)

static void flat_cs_ss(struct emu *c, uint16_t cs, uint16_t cs_attr, uint16_t ss, unsigned cpl)
{
    seg_set_flat(c, SEG_CS, cs, cs_attr, cpl);
    seg_set_flat(c, SEG_SS, ss, ATTR_DATA32, cpl);
    c->cpl = (uint8_t)cpl;
}

/* The trap that TF asks for counts TF as these instructions leave it. */
static void flags_loaded(struct emu *c, uint64_t target)
{
    far_done(c, target);
    if (likely(!(c->rflags & FL_TF)))
        return;
    c->block = NULL; /* the instruction is done: nothing to restart */
    c->op = NULL;
    c->fault.db6 = DR6_BS;
    if (!emu_deliver(c, EV_EXCEPTION, EXC_DB, false, 0, target))
        emu_shutdown(c);
}

static void do_syscall(struct emu *c, const struct op *op)
{
    uint16_t cs = (uint16_t)(c->star >> 32);
    uint64_t next = op_next_ip(c, op);

    if (!(c->efer & EFER_SCE) || real_mode(c))
        emu_ud(c, op);
    if (unlikely(c->env->pv)) {
        c->gpr[R_RCX] = next;
        c->gpr[11] = flags_shown(c, op) & ~(uint64_t)FL_RF;
        c->rip = next;
        pv_syscall(c);
        return;
    }
    if (long_mode(c)) {
        uint64_t target = code64(c) ? c->lstar : c->cstar;
        if (!canonical(c, target))
            emu_gp0(c, op);
        c->gpr[R_RCX] = next;
        c->gpr[11] = flags_shown(c, op) & ~(uint64_t)FL_RF;
        flags_set(c, flags_get(c) & ~(c->fmask | FL_RF | FL_VM));
        flat_cs_ss(c, cs, ATTR_CODE64, (uint16_t)(cs + 8), 0);
        flags_loaded(c, target);
    } else {
        c->gpr[R_RCX] = (uint32_t)next;
        flags_set(c, flags_get(c) & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
        flat_cs_ss(c, cs, ATTR_CODE32, (uint16_t)(cs + 8), 0);
        flags_loaded(c, (uint32_t)c->star);
    }
}

static void do_sysret(struct emu *c, const struct op *op)
{
    uint16_t base = (uint16_t)(c->star >> 48);
    uint64_t target = op->opsize == 8 ? c->gpr[R_RCX] : (uint32_t)c->gpr[R_RCX];

    if (!(c->efer & EFER_SCE))
        emu_ud(c, op);
    if (!protected_mode(c) || c->cpl != 0)
        emu_gp0(c, op);
    if (op->opsize == 8 && !canonical(c, target))
        emu_gp0(c, op);
    if (long_mode(c) && code64(c))
        flags_set(c, c->gpr[11] & SYSRET_FLAGS);
    else
        c->rflags |= FL_IF;
    if (op->opsize == 8)
        flat_cs_ss(c, (uint16_t)(base + 16), ATTR_CODE64, (uint16_t)(base + 8), 3);
    else
        flat_cs_ss(c, base, ATTR_CODE32, (uint16_t)(base + 8), 3);
    flags_loaded(c, target);
}

static void do_sysenter(struct emu *c, const struct op *op)
{
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xfffc;

    if (long_mode(c))
        emu_ud(c, op);
    if (real_mode(c) || !cs)
        emu_gp0(c, op);
    flags_set(c, flags_get(c) & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
    flat_cs_ss(c, cs, ATTR_CODE32, (uint16_t)(cs + 8), 0);
    c->gpr[R_RSP] = (uint32_t)c->sysenter_esp;
    far_done(c, (uint32_t)c->sysenter_eip);
}

static void do_sysexit(struct emu *c, const struct op *op)
{
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xfffc;

    if (long_mode(c))
        emu_ud(c, op);
    if (!protected_mode(c) || c->cpl != 0 || !cs)
        emu_gp0(c, op);
    flat_cs_ss(c, (uint16_t)(cs + 16), ATTR_CODE32, (uint16_t)(cs + 24), 3);
    c->gpr[R_RSP] = (uint32_t)c->gpr[R_RCX];
    far_done(c, (uint32_t)c->gpr[R_RDX]);
}

/* ---- bases of FS and GS -------------------------------------------------------------- */

static void do_swapgs(struct emu *c, const struct op *op)
{
    uint64_t base = c->seg[SEG_GS].base;

    need_cpl0(c, op);
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->kernel_gs_base = base;
    NEXT;
}

static void do_rd_base(struct emu *c, const struct op *op)
{
    if (!(c->cr4 & CR4_FSGSBASE))
        emu_ud(c, op);
    reg_write(c, op->dst, op->opsize, c->seg[op->src].base);
    NEXT;
}

static void do_wr_base(struct emu *c, const struct op *op)
{
    uint64_t base = reg_read(c, op->dst, op->opsize);

    if (!(c->cr4 & CR4_FSGSBASE))
        emu_ud(c, op);
    if (!cpu_canonical(c, base))
        emu_gp0(c, op);
    c->seg[op->src].base = base;
    NEXT;
}

bool select_syscall(struct emu *c, struct insn *in, struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL: op->fn = do_syscall; break;
    case ZYDIS_MNEMONIC_SYSRET: op->fn = do_sysret; break;
    case ZYDIS_MNEMONIC_SYSENTER: op->fn = do_sysenter; break;
    case ZYDIS_MNEMONIC_SYSEXIT: op->fn = do_sysexit; break;
    case ZYDIS_MNEMONIC_SWAPGS: op->fn = do_swapgs; return true;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        if (!emu_has_isa(c, in->zi.meta.isa_set))
            return false;
        op->dst = op_gpr(in->zop[0].reg.value);
        op->src =
            in->zi.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || in->zi.mnemonic == ZYDIS_MNEMONIC_WRFSBASE
                ? SEG_FS
                : SEG_GS;
        op->fn =
            in->zi.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || in->zi.mnemonic == ZYDIS_MNEMONIC_RDGSBASE
                ? do_rd_base
                : do_wr_base;
        return true;
    default: return false;
    }
    in->ends_block = true;
    return true;
}
