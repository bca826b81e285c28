/* SPDX-License-Identifier: MIT
 * x87. Arithmetic runs as thunks on the FXSAVE image; what only moves control
 * and status words is C. The host never sees a pending exception: an
 * instruction that waits is not run while one is flagged, and what an
 * instruction flags is saved and cleared before the thunk returns. */
#include "fpu.h"
#include "simd.h"
#include "x87.h"

void x87_refuse(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise(c, c->cr0 & (CR0_EM | CR0_TS) ? EXC_NM : EXC_MF);
}

/* An instruction that does not wait for pending exceptions. */
static void nowait_check(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if (c->cr0 & (CR0_EM | CR0_TS))
        emu_raise(c, EXC_NM);
}

/* ---- arithmetic -------------------------------------------------------------- */

static uint64_t pointer(const struct emu *c, uint64_t off, unsigned seg)
{
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        return off;
    return (uint32_t)off | (uint64_t)c->seg[seg].sel << 32;
}

/* Runs the thunk, then makes the error pointers the guest's (SDM volume 1,
 * 8.1.8): the host's are of no use to it and not its business. */
static __attribute__((noinline)) void x87_run(struct emu *c, const struct op *op, void *mem,
                                              uint64_t ea)
{
    struct thunk_env env = {0};
    uint64_t fdp = get_le64(c->fx + FX_FDP);
    unsigned t = op->src2;
    if (t & THUNK_FLAGS)
        env.flags = flags_arith(c) | 2;
    put_le32(c->fx + FX_MXCSR, MXCSR_INIT);
    thunk_of(c, op)(c, mem, &env);
    if (t & THUNK_FLAGS)
        flags_set_arith(c, (uint32_t)env.flags);
    if (t & (THUNK_LOAD | THUNK_STORE))
        fdp = pointer(c, ea, op->seg);
    put_le16(c->fx + FX_FOP, (uint16_t)(op->imm >> X87_FOP_SHIFT));
    put_le64(c->fx + FX_FIP, pointer(c, op_ip(c, op), SEG_CS));
    put_le64(c->fx + FX_FDP, fdp);
}

static void h_x87_reg(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    x87_run(c, op, NULL, 0);
    NEXT;
}

static void h_x87_load(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    uint64_t ea = op_ea(c, op);
    uint64_t lin = seg_linear(c, op, op->seg, ea, op->msize, false);
    x87_run(c, op, simd_load(c, op, lin, op->msize), ea);
    NEXT;
}

#define X87_IE 0x01u
#define X87_OE 0x08u
#define X87_UE 0x10u

/* The store comes before the new state counts, since it may leave for a device
 * and run again. An unmasked exception other than inexact keeps memory as it
 * was (SDM volume 1, 8.5); that it is flagged now means that it is new. */
static __attribute__((noinline)) void x87_store(struct emu *c, const struct op *op)
{
    uint8_t before[FX_XMM], after[FX_XMM];
    uint64_t ea = op_ea(c, op);
    uint64_t lin = seg_linear(c, op, op->seg, ea, op->msize, true);
    emu_probe_store(c, op, lin, op->msize);
    memcpy(before, c->fx, sizeof before);
    x87_run(c, op, c->membuf, ea);
    if (get_le16(c->fx + FX_FSW) & ~get_le16(c->fx + FX_FCW) & (X87_IE | X87_OE | X87_UE))
        return;
    memcpy(after, c->fx, sizeof after);
    memcpy(c->fx, before, sizeof before);
    emu_store(c, op, lin, c->membuf, op->msize);
    memcpy(c->fx, after, sizeof after);
}

static void h_x87_store(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    emu_at(c, op);
    x87_store(c, op);
    NEXT;
}

/* ---- control -------------------------------------------------------------------- */

static void h_fninit(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    fpu_init(c);
    NEXT;
}

static void h_fnclex(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    put_le16(c->fx + FX_FSW, get_le16(c->fx + FX_FSW) & 0x7f00);
    NEXT;
}

static void h_fldcw(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    put_le16(c->fx + FX_FCW, ld16(c, op, op_linear(c, op, 2, false)));
    fpu_settle(c);
    NEXT;
}

static void h_fnstcw(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    st16(c, op, op_linear(c, op, 2, true), get_le16(c->fx + FX_FCW));
    NEXT;
}

static void h_fnstsw(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    st16(c, op, op_linear(c, op, 2, true), get_le16(c->fx + FX_FSW));
    NEXT;
}

static void h_fnstsw_ax(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    R16(c, R_RAX * 8) = get_le16(c->fx + FX_FSW);
    NEXT;
}

/* FNOP; FENI, FDISI and FSETPM do nothing since the 80387. */
static void h_fnop(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    NEXT;
}

static void h_fnop_nowait(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    NEXT;
}

static void h_fwait(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        emu_raise(c, EXC_NM);
    if (x87_pending(c))
        emu_raise(c, EXC_MF);
    NEXT;
}

static void h_fnstenv(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    x87_store_env(c, op, false);
    NEXT;
}

static void h_fnsave(struct emu *c, const struct op *op)
{
    nowait_check(c, op);
    x87_store_env(c, op, true);
    NEXT;
}

static void h_fldenv(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    emu_at(c, op);
    x87_load_env(c, op, false);
    NEXT;
}

static void h_frstor(struct emu *c, const struct op *op)
{
    x87_check(c, op);
    emu_at(c, op);
    x87_load_env(c, op, true);
    NEXT;
}

static op_fn *control_of(const struct insn *in)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FNINIT: return h_fninit;
    case ZYDIS_MNEMONIC_FNCLEX: return h_fnclex;
    case ZYDIS_MNEMONIC_FLDCW: return h_fldcw;
    case ZYDIS_MNEMONIC_FNSTCW: return h_fnstcw;
    case ZYDIS_MNEMONIC_FNSTSW: return is_mem(&in->zop[0]) ? h_fnstsw : h_fnstsw_ax;
    case ZYDIS_MNEMONIC_FNOP: return h_fnop;
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP: return h_fnop_nowait;
    case ZYDIS_MNEMONIC_FWAIT: return h_fwait;
    case ZYDIS_MNEMONIC_FNSTENV: return h_fnstenv;
    case ZYDIS_MNEMONIC_FNSAVE: return h_fnsave;
    case ZYDIS_MNEMONIC_FLDENV: return h_fldenv;
    case ZYDIS_MNEMONIC_FRSTOR: return h_frstor;
    default: return NULL;
    }
}

bool x87_sets_pointers(const struct op *op)
{
    return op->fn == h_x87_reg || op->fn == h_x87_load || op->fn == h_x87_store;
}

bool select_x87(struct emu *c, struct insn *in, struct op *op)
{
    if (in->zi.meta.isa_ext != ZYDIS_ISA_EXT_X87 &&
        in->zi.meta.category != ZYDIS_CATEGORY_X87_ALU &&
        in->zi.meta.category != ZYDIS_CATEGORY_FCMOV)
        return false;
    op->fn = control_of(in);
    if (op->fn)
        return true;
    if (in->zi.opcode < 0xd8 || in->zi.opcode > 0xdf || !thunk_make(c, in, op) ||
        op->msize > sizeof c->membuf)
        return false;
    uint64_t modrm =
        (uint64_t)(in->zi.raw.modrm.mod << 6 | in->zi.raw.modrm.reg << 3 | in->zi.raw.modrm.rm);
    uint64_t fop = (uint64_t)(in->zi.opcode & 7) << 8 | modrm;
    op->imm = (uint32_t)op->imm | fop << X87_FOP_SHIFT;
    op->fn = op->src2 & THUNK_STORE ? h_x87_store : op->src2 & THUNK_LOAD ? h_x87_load : h_x87_reg;
    return true;
}
