/* SPDX-License-Identifier: MIT
 * What the vector, x87 and bit-manipulation handlers share: the checks before
 * an instruction, and memory operands larger than a register. */
#ifndef EMU_SIMD_H
#define EMU_SIMD_H

#include "../access.h"
#include "../flags.h"
#include "thunk.h"

/* ---- is it available now? (SDM volume 2, 2.4 and volume 3, 2.5) ------------- */

_Noreturn void sse_refuse(struct emu *c, const struct op *op);
_Noreturn void avx_refuse(struct emu *c, const struct op *op);
_Noreturn void mmx_refuse(struct emu *c, const struct op *op);
_Noreturn void x87_refuse(struct emu *c, const struct op *op);

static inline void sse_check(struct emu *c, const struct op *op)
{
    if (unlikely((c->cr0 & (CR0_EM | CR0_TS)) | (~c->cr4 & CR4_OSFXSR)))
        sse_refuse(c, op);
}
static inline bool vex_mode_ok(const struct emu *c)
{
    return (c->cr0 & CR0_PE) && !(c->rflags & FL_VM);
}
static inline void avx_check(struct emu *c, const struct op *op)
{
    if (unlikely(((c->cr0 & (CR0_PE | CR0_TS)) ^ CR0_PE) | (~c->cr4 & CR4_OSXSAVE) |
                 (~c->xcr0 & 6) | (c->rflags & FL_VM)))
        avx_refuse(c, op);
}
/* An x87 exception that is flagged and unmasked waits for the next waiting
 * instruction (SDM volume 1, 8.7). */
static inline bool x87_pending(const struct emu *c)
{
    return get_le16(c->fx + 2) & ~get_le16(c->fx) & 0x3f;
}
static inline void x87_check(struct emu *c, const struct op *op)
{
    if (unlikely((c->cr0 & (CR0_EM | CR0_TS)) || x87_pending(c)))
        x87_refuse(c, op);
}
static inline void mmx_check(struct emu *c, const struct op *op)
{
    if (unlikely((c->cr0 & (CR0_EM | CR0_TS)) || x87_pending(c)))
        mmx_refuse(c, op);
}

/* ---- memory operands --------------------------------------------------------- */

/* The operand's bytes: where they are in RAM, or a copy in c->membuf (which has
 * 64 bytes). Read them once. */
static inline void *simd_load(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    const struct tlb_ent *e = &c->tlb->e[TLB_R][tlb_index(lin)];
    if (tlb_hit(e, lin, size))
        return (void *)(uintptr_t)(lin + e->addend);
    emu_load(c, op, lin, c->membuf, size);
    return c->membuf;
}
static inline __attribute__((always_inline)) void
simd_store(struct emu *c, const struct op *op, uint64_t lin, const void *buf, unsigned size)
{
    unsigned i = tlb_index(lin);
    const struct tlb_ent *e = &c->tlb->e[TLB_W][i];
    if (tlb_hit(e, lin, size)) {
        guest_copy((void *)(uintptr_t)(lin + e->addend), buf, size);
        if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))
            access_stored_code(c, lin, size);
        return;
    }
    emu_store(c, op, lin, buf, size);
}
static inline void simd_align(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    if (unlikely(lin & (size - 1)))
        emu_gp0(c, op);
}

/* Effective addresses that are computed once more: by the address size. */
static inline uint64_t ea_wrap(const struct op *op, uint64_t ea)
{
    return likely(op->asize == 8) ? ea : op->asize == 4 ? (uint32_t)ea : (uint16_t)ea;
}
/* With an index that is not in a general register. */
static inline uint64_t op_ea_index(const struct emu *c, const struct op *op, uint64_t index)
{
    return ea_wrap(op, R64(c, op->base) + (index << op->scale) + (uint64_t)op->disp);
}

/* Vector registers as they are: 16-byte halves. */
typedef uint64_t vec128 __attribute__((vector_size(16), may_alias));

static inline vec128 *xmm(struct emu *c, unsigned n)
{
    return (vec128 *)c->ymm[n];
}

/* ---- the families; false: not one of theirs -------------------------------- */

bool select_bmi(struct emu *c, struct insn *in, struct op *op);
bool select_x87(struct emu *c, struct insn *in, struct op *op);
bool select_xsave(struct emu *c, struct insn *in, struct op *op);
bool select_gather(struct emu *c, struct insn *in, struct op *op);
bool select_simd_move(struct emu *c, struct insn *in, struct op *op);

static inline uint8_t vec_id(const ZydisDecodedOperand *o)
{
    return (uint8_t)ZydisRegisterGetId(o->reg.value);
}
static inline bool is_mem(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}
static inline bool is_vex(const struct insn *in)
{
    return in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
}

#endif
