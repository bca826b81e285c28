/* SPDX-License-Identifier: MIT
 * From bytes to predecoded instructions: Zydis decodes, selectors choose the
 * handlers. */
#include "block.h"
#include "int/int.h"

static const ZydisMachineMode machine_mode[] = {
    [MODE_CODE16] = ZYDIS_MACHINE_MODE_LEGACY_16,
    [MODE_CODE32] = ZYDIS_MACHINE_MODE_LEGACY_32,
    [MODE_CODE64] = ZYDIS_MACHINE_MODE_LONG_64,
};

uint8_t op_gpr(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
        return (uint8_t)((reg - ZYDIS_REGISTER_AL) * 8);
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (uint8_t)((reg - ZYDIS_REGISTER_AH) * 8 + 1);
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return (uint8_t)((reg - ZYDIS_REGISTER_SPL + 4) * 8);
    if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
        return (uint8_t)((reg - ZYDIS_REGISTER_AX) * 8);
    if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
        return (uint8_t)((reg - ZYDIS_REGISTER_EAX) * 8);
    if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
        return (uint8_t)((reg - ZYDIS_REGISTER_RAX) * 8);
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return R_IPB * 8;
    return R_ZERO * 8;
}

static uint8_t segment_of(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_ES: return SEG_ES;
    case ZYDIS_REGISTER_CS: return SEG_CS;
    case ZYDIS_REGISTER_SS: return SEG_SS;
    case ZYDIS_REGISTER_FS: return SEG_FS;
    case ZYDIS_REGISTER_GS: return SEG_GS;
    default: return SEG_DS;
    }
}

static uint8_t log2_scale(uint8_t scale)
{
    return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
}

static void fill_memory(struct op *op, const ZydisDecodedOperand *m)
{
    op->base = op_gpr(m->mem.base);
    op->index = R_ZERO * 8;
    if (m->mem.index != ZYDIS_REGISTER_NONE && m->mem.type != ZYDIS_MEMOP_TYPE_VSIB) {
        op->index = op_gpr(m->mem.index);
        op->scale = log2_scale(m->mem.scale);
    }
    op->disp = m->mem.disp.has_displacement ? m->mem.disp.value : 0;
    if (op->base == R_IPB * 8)
        op->disp += op->off + op->len;
    op->seg = segment_of(m->mem.segment);
    op->msize = (uint16_t)(m->size / 8);
}

/* What every handler may want to know. */
static void fill(struct op *op, const struct insn *in, unsigned off)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    bool memory = false, imm = false;

    *op = (struct op){.off = (uint16_t)off,
                      .len = zi->length,
                      .mnemonic = (uint16_t)zi->mnemonic,
                      .opsize = (uint8_t)(zi->operand_width / 8),
                      .asize = (uint8_t)(zi->address_width / 8),
                      .base = R_ZERO * 8,
                      .index = R_ZERO * 8,
                      .seg = SEG_DS};
    if (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        op->flags |= OP_LOCK;
    if (zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        op->flags |= OP_REP;
    if (zi->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        op->flags |= OP_REPNE;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *z = &in->zop[i];
        if (z->type == ZYDIS_OPERAND_TYPE_MEMORY && !memory &&
            z->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
            fill_memory(op, z);
            memory = true;
        } else if (z->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && !imm) {
            op->imm = z->imm.is_signed ? (uint64_t)z->imm.value.s : z->imm.value.u;
            if (z->imm.is_relative)
                op->disp = (int64_t)(off + zi->length) + z->imm.value.s;
            imm = true;
        }
    }
}

void emu_ud(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise(c, EXC_UD);
}

void emu_gp0(struct emu *c, const struct op *op)
{
    emu_at(c, op);
    emu_raise_err(c, EXC_GP, 0);
}

static void op_ud(struct emu *c, const struct op *op)
{
    emu_ud(c, op);
}

/* Longer than 15 bytes. */
static void op_too_long(struct emu *c, const struct op *op)
{
    emu_gp0(c, op);
}

/* The block ends without a control transfer. */
static void op_fallthrough(struct emu *c, const struct op *op)
{
    c->rip = ip_wrap(c, c->gpr[R_IPB] + op->off);
}

void op_dead(struct emu *c, const struct op *op)
{
    uint64_t at = (uint64_t)(op - c->block->op);
    c->icount -= c->block->nops - at;
    c->rip = ip_wrap(c, c->gpr[R_IPB] + op->off);
}

/* Zydis 4.0 gives a SIB byte without a base R13D for one when the address size is 32 bits and
 * REX.B is set (SDM volume 2, table 2-3: REX.B does not count there). */
static void repair_sib(struct insn *in)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    if (zi->address_width != 32 || zi->raw.modrm.mod != 0 || zi->raw.modrm.rm != 4 ||
        zi->raw.sib.base != 5 || !(zi->attributes & ZYDIS_ATTRIB_HAS_SIB))
        return;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        ZydisDecodedOperand *z = &in->zop[i];
        if (z->type == ZYDIS_OPERAND_TYPE_MEMORY && z->mem.base == ZYDIS_REGISTER_R13D) {
            z->mem.base = ZYDIS_REGISTER_NONE;
            z->mem.disp.has_displacement = true;
            z->mem.disp.value = zi->raw.disp.value;
        }
    }
}

/* Not offered by CPUID. The sets that mean older instructions where they are not offered are their
 * selectors' business, and so are hypercalls. */
static bool hidden(struct emu *c, const struct insn *in)
{
    switch (in->zi.meta.isa_set) {
    case ZYDIS_ISA_SET_LZCNT:
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_SVM:
    case ZYDIS_ISA_SET_VTX: return false;
    default: return !emu_has_isa(c, in->zi.meta.isa_set);
    }
}

static bool select_any(struct emu *c, struct insn *in, struct op *op)
{
    if (hidden(c, in))
        return false;
    return select_int(c, in, op) || select_io(c, in, op) || select_far(c, in, op) ||
           select_sys(c, in, op) || select_simd(c, in, op);
}

void decoder_init(const struct emu *c, ZydisDecoder *dec)
{
    unsigned code = c->mode & MODE_CODE_MASK;
    ZydisStackWidth sw = code == MODE_CODE64   ? ZYDIS_STACK_WIDTH_64
                         : c->mode & MODE_SS32 ? ZYDIS_STACK_WIDTH_32
                                               : ZYDIS_STACK_WIDTH_16;
    ZydisDecoderInit(dec, machine_mode[code], sw);
    /* Not offered: their encodings are reserved NOPs, all of them. */
    ZydisDecoderEnableMode(dec, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(dec, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(dec, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
}

void decode_block(struct emu *c, const uint8_t *bytes, unsigned avail, unsigned total,
                  unsigned max_ops, struct decode_out *out)
{
    unsigned code = c->mode & MODE_CODE_MASK;
    ZydisDecoder dec;
    struct insn in;
    unsigned off = 0, n = 0;
    bool ended = false;

    decoder_init(c, &dec);
    out->needs_next_page = false;
    while (n < max_ops && off < avail && !ended) {
        struct op *op = &out->op[n];
        unsigned room = total - off;
        ZyanStatus st = ZydisDecoderDecodeFull(&dec, bytes + off, room, &in.zi, in.zop);
        if (st == ZYDIS_STATUS_NO_MORE_DATA && room < 15) {
            if (n)
                break; /* a block of its own, which may look into the next page */
            if (total == avail) {
                out->needs_next_page = true;
                return;
            }
        }
        if (!ZYAN_SUCCESS(st)) {
            *op = (struct op){.off = (uint16_t)off, .len = 1, .fn = op_ud};
            if (st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
                op->fn = op_too_long;
            off++;
            n++;
            ended = true;
            break;
        }
        if (n && off + in.zi.length > avail)
            break;
        in.bytes = bytes + off;
        in.code_size = code == MODE_CODE64 ? 8 : code == MODE_CODE32 ? 4 : 2;
        in.ss32 = c->mode & MODE_SS32;
        in.ends_block = false;
        repair_sib(&in);
        fill(op, &in, off);
        if (!select_any(c, &in, op)) {
            op->fn = op_ud;
            in.ends_block = true;
        }
        ended = in.ends_block;
        op->flags |= ended ? OP_END : 0;
        off += in.zi.length;
        n++;
    }
    out->nops = n;
    out->used = off;
    out->op[n] = (struct op){.fn = op_fallthrough, .off = (uint16_t)off};
}
