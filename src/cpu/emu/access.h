/* SPDX-License-Identifier: MIT
 * How instructions reach guest memory: the one place where guest addresses are
 * checked. Fast paths here, the rest in access.c. */
#ifndef EMU_ACCESS_H
#define EMU_ACCESS_H

#include "emu.h"
#include "../../mmu/guest.h"

/* ---- linear addresses ------------------------------------------------------ */

/* Effective address of the memory operand (offset in its segment). */
static inline uint64_t op_ea(const struct emu *c, const struct op *op)
{
    uint64_t a = R64(c, op->base) + (R64(c, op->index) << op->scale) + (uint64_t)op->disp;
    return likely(op->asize == 8) ? a : op->asize == 4 ? (uint32_t)a : (uint16_t)a;
}
/* Segment checks outside 64-bit mode (SDM 5.3, 5.4): #GP or #SS. */
uint64_t seg_check(struct emu *c, const struct op *op, unsigned seg, uint64_t off, unsigned size,
                   bool write);
/* How many bytes from `off` on pass those checks, as far as one comparison tells: 0
 * where they fail, and for expand-down segments. */
uint64_t seg_room(const struct emu *c, unsigned seg, uint64_t off, bool write);
/* Offset in a segment to linear, checked. In 64-bit mode canonicality is left
 * to the access itself, which knows from op->seg whether to raise #SS. */
static inline uint64_t seg_linear(struct emu *c, const struct op *op, unsigned seg, uint64_t off,
                                  unsigned size, bool write)
{
    if (likely((c->mode & MODE_CODE_MASK) == MODE_CODE64))
        return seg >= SEG_FS ? off + c->seg[seg].base : off;
    return seg_check(c, op, seg, off, size, write);
}
/* Linear address of the memory operand. */
static inline uint64_t op_linear(struct emu *c, const struct op *op, unsigned size, bool write)
{
    return seg_linear(c, op, op->seg, op_ea(c, op), size, write);
}

/* ---- loads and stores at linear addresses, with the current privilege ------ */
/* They raise #PF, #GP/#SS(0) (non-canonical), #AC, and leave for MMIO exits.
 * Everything of a store is checked before its first byte is written. */

uint64_t access_load(struct emu *c, const struct op *op, uint64_t lin, unsigned size);
void access_store(struct emu *c, const struct op *op, uint64_t lin, unsigned size, uint64_t v);
void access_stored_code(struct emu *c, uint64_t lin, unsigned size);

static inline unsigned tlb_index(uint64_t lin)
{
    return (unsigned)(lin >> 12) & (TLB_N - 1);
}
static inline bool tlb_hit(const struct tlb_ent *e, uint64_t lin, unsigned size)
{
    return likely(e->tag == (lin & PAGE_MASK_4K) && (lin & 4095) <= 4096 - size);
}

#define DEF_ACCESS(bits)                                                                           \
    static inline uint##bits##_t ld##bits(struct emu *c, const struct op *op, uint64_t lin)        \
    {                                                                                              \
        const struct tlb_ent *e = &c->tlb->e[TLB_R][tlb_index(lin)];                               \
        if (tlb_hit(e, lin, bits / 8)) {                                                           \
            uint##bits##_t v;                                                                      \
            guest_copy(&v, (const void *)(uintptr_t)(lin + e->addend), sizeof v);                  \
            return v;                                                                              \
        }                                                                                          \
        return (uint##bits##_t)access_load(c, op, lin, bits / 8);                                  \
    }                                                                                              \
    static inline void st##bits(struct emu *c, const struct op *op, uint64_t lin,                  \
                                uint##bits##_t v)                                                  \
    {                                                                                              \
        unsigned i = tlb_index(lin);                                                               \
        const struct tlb_ent *e = &c->tlb->e[TLB_W][i];                                            \
        if (tlb_hit(e, lin, bits / 8)) {                                                           \
            guest_copy((void *)(uintptr_t)(lin + e->addend), &v, sizeof v);                        \
            if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))          \
                access_stored_code(c, lin, bits / 8);                                              \
            return;                                                                                \
        }                                                                                          \
        access_store(c, op, lin, bits / 8, v);                                                     \
    }
DEF_ACCESS(8)
DEF_ACCESS(16)
DEF_ACCESS(32)
DEF_ACCESS(64)
#undef DEF_ACCESS

/* Larger or odd sizes; len <= 4096. Stores are all-or-nothing. */
void emu_load(struct emu *c, const struct op *op, uint64_t lin, void *buf, unsigned len);
void emu_store(struct emu *c, const struct op *op, uint64_t lin, const void *buf, unsigned len);
/* Raises what a store would, without storing (MMIO counts as allowed). */
void emu_probe_store(struct emu *c, const struct op *op, uint64_t lin, unsigned len);
/* A host pointer for a locked read-modify-write of 1-16 bytes, checked for
 * writing; NULL when it crosses a page or is not RAM: then do it by load and
 * store between emu_split_lock() and emu_split_unlock(). After the store through
 * it call access_stored_code(c, lin, size) if *code. */
void *emu_rmw_ptr(struct emu *c, const struct op *op, uint64_t lin, unsigned size);
void emu_rmw_done(struct emu *c, uint64_t lin, unsigned size);
/* Around a read-modify-write that has no pointer. A fault in between releases it. */
void emu_split_lock(struct emu *c);
void emu_split_unlock(struct emu *c);

/* ---- implicit supervisor accesses: descriptor tables, TSS, IDT, stacks of ---- */
/* inner rings. len <= 64. Raise #PF with U = 0. */
void sys_load(struct emu *c, uint64_t lin, void *buf, unsigned len);
void sys_store(struct emu *c, uint64_t lin, const void *buf, unsigned len);
void sys_probe_store(struct emu *c, uint64_t lin, unsigned len);
/* The same with an explicit privilege (3: user). */
void cpl_store(struct emu *c, unsigned cpl, uint64_t lin, const void *buf, unsigned len);
static inline uint64_t sys_ld64(struct emu *c, uint64_t lin)
{
    uint64_t v;
    sys_load(c, lin, &v, 8);
    return v;
}

/* ---- ports ------------------------------------------------------------------- */
/* One port access by the vCPU, replay included. Privilege was checked. */
uint32_t emu_port_in(struct emu *c, const struct op *op, uint16_t port, unsigned size);
void emu_port_out(struct emu *c, const struct op *op, uint16_t port, unsigned size, uint32_t v);
/* The instructions done before the current one: names it until it is done, and
 * replay.insn with it. */
uint64_t emu_insn_id(const struct emu *c);
/* State was changed from outside: nothing is owed any more. */
static inline void emu_replay_forget(struct emu *c)
{
    c->replay.n = c->replay.at = 0;
    c->replay.due = false;
    c->replay.insn = UINT64_MAX;
}
/* A string instruction finished one iteration: forget answers to be replayed. */
static inline void emu_replay_done(struct emu *c)
{
    c->replay.n = c->replay.at = 0;
    c->replay.due = false;
}

#endif
