/* SPDX-License-Identifier: MIT
 * Writing x86-64 host code: bytes, the few fixed instructions the translator
 * needs, and access to struct emu through GS. */
#ifndef JIT_ASM_H
#define JIT_ASM_H

#include "../emu.h"
#include <stddef.h>

enum host_reg {
    H_RAX,
    H_RCX,
    H_RDX,
    H_RBX,
    H_RSP,
    H_RBP,
    H_RSI,
    H_RDI,
    H_R8,
    H_R9,
    H_R10,
    H_R11,
    H_R12,
    H_R13,
    H_R14,
    H_R15
};

/* Code goes to w (writable); it will run at w + (x - w). */
struct asmbuf {
    uint8_t *w, *end;
    ptrdiff_t to_exec;
    bool full;
};

static inline void put8(struct asmbuf *a, unsigned v)
{
    if (a->w < a->end)
        *a->w++ = (uint8_t)v;
    else
        a->full = true;
}
static inline void put32(struct asmbuf *a, uint32_t v)
{
    if (a->end - a->w >= 4) {
        memcpy(a->w, &v, 4);
        a->w += 4;
    } else {
        a->full = true;
    }
}
static inline void put64(struct asmbuf *a, uint64_t v)
{
    put32(a, (uint32_t)v);
    put32(a, (uint32_t)(v >> 32));
}
static inline const uint8_t *here(const struct asmbuf *a)
{
    return a->w + a->to_exec;
}

#define EMU_OFF(field) ((uint32_t)offsetof(struct emu, field))
#define GPR_OFF(n)     (EMU_OFF(gpr) + 8u * (n))

/* op reg, gs:[disp] or op gs:[disp], reg; opcode of one byte. */
static inline void gs_op(struct asmbuf *a, bool wide, unsigned opcode, unsigned reg, uint32_t disp)
{
    put8(a, 0x65);
    unsigned rex = 0x40u | (wide ? 8u : 0u) | (reg >> 3 << 2);
    if (rex != 0x40)
        put8(a, rex);
    put8(a, opcode);
    put8(a, 0x04u | (reg & 7) << 3);
    put8(a, 0x25);
    put32(a, disp);
}
static inline void gs_load(struct asmbuf *a, unsigned reg, uint32_t disp)
{
    gs_op(a, true, 0x8b, reg, disp);
}
static inline void gs_store(struct asmbuf *a, unsigned reg, uint32_t disp)
{
    gs_op(a, true, 0x89, reg, disp);
}

/* op reg, [base + disp] with a 64-bit operand. */
static inline void mem_op(struct asmbuf *a, unsigned opcode, unsigned reg, unsigned base,
                          int32_t disp)
{
    put8(a, 0x48u | (reg >> 3 << 2) | base >> 3);
    put8(a, opcode);
    bool small = disp >= -128 && disp < 128;
    put8(a, (small ? 0x40u : 0x80u) | (reg & 7) << 3 | (base & 7));
    if ((base & 7) == 4) /* rsp, r12: through a SIB byte */
        put8(a, 0x24);
    if (small)
        put8(a, (uint8_t)disp);
    else
        put32(a, (uint32_t)disp);
}
/* A memory operand of host code. */
struct hmem {
    int base, index; /* host registers; -1: none */
    unsigned scale;  /* shift count of the index */
    int32_t disp;
    bool gs; /* in GS */
};

/* The REX.X and REX.B bits it asks for. */
static inline unsigned hmem_rex(const struct hmem *m)
{
    return (m->index >= 8 ? 2u : 0) | (m->base >= 8 ? 1u : 0);
}
/* ModRM, SIB and displacement. An index is never rsp. */
static inline void put_hmem(struct asmbuf *a, unsigned reg, const struct hmem *m)
{
    unsigned r = (reg & 7) << 3;
    if (m->base < 0) {
        put8(a, r | 4);
        put8(a, m->scale << 6 | (m->index >= 0 ? (unsigned)m->index & 7 : 4u) << 3 | 5);
        put32(a, (uint32_t)m->disp);
        return;
    }
    unsigned base = (unsigned)m->base & 7;
    bool sib = m->index >= 0 || base == 4;
    unsigned mod = m->disp == 0 && base != 5 ? 0 : m->disp == (int8_t)m->disp ? 1 : 2;
    put8(a, mod << 6 | r | (sib ? 4 : base));
    if (sib)
        put8(a, m->scale << 6 | (m->index >= 0 ? (unsigned)m->index & 7 : 4u) << 3 | base);
    if (mod == 1)
        put8(a, (uint8_t)m->disp);
    else if (mod == 2)
        put32(a, (uint32_t)m->disp);
}
/* op reg, [m] or op [m], reg; of 64 bits, or 32. */
static inline void hmem_op_w(struct asmbuf *a, bool wide, unsigned opcode, unsigned reg,
                             const struct hmem *m)
{
    unsigned rex = 0x40u | (wide ? 8u : 0u) | (reg >> 3 << 2) | hmem_rex(m);
    if (m->gs)
        put8(a, 0x65);
    if (rex != 0x40)
        put8(a, rex);
    put8(a, opcode);
    put_hmem(a, reg, m);
}
static inline void hmem_op(struct asmbuf *a, unsigned opcode, unsigned reg, const struct hmem *m)
{
    hmem_op_w(a, true, opcode, reg, m);
}

/* op rm, reg between registers, 64-bit. */
static inline void reg_op(struct asmbuf *a, unsigned opcode, unsigned rm, unsigned reg)
{
    put8(a, 0x48u | (reg >> 3 << 2) | rm >> 3);
    put8(a, opcode);
    put8(a, 0xc0u | (reg & 7) << 3 | (rm & 7));
}
static inline void mov_reg(struct asmbuf *a, unsigned to, unsigned from)
{
    if (to != from)
        reg_op(a, 0x89, to, from);
}
/* mov reg, reg of 32 bits: clears the upper half. */
static inline void zero_upper(struct asmbuf *a, unsigned reg)
{
    if (reg >= 8)
        put8(a, 0x45);
    put8(a, 0x89), put8(a, 0xc0u | (reg & 7) << 3 | (reg & 7));
}
static inline void push_pop(struct asmbuf *a, unsigned opcode, unsigned reg)
{
    if (reg >= 8)
        put8(a, 0x41);
    put8(a, opcode | (reg & 7));
}
static inline void mov_imm64(struct asmbuf *a, unsigned reg, uint64_t v)
{
    if (v <= UINT32_MAX) {
        if (reg >= 8)
            put8(a, 0x41);
        put8(a, 0xb8u | (reg & 7));
        put32(a, (uint32_t)v);
    } else {
        put8(a, 0x48u | reg >> 3);
        put8(a, 0xb8u | (reg & 7));
        put64(a, v);
    }
}
/* cmp qword [r11], 0 */
static inline void cmp_r11_0(struct asmbuf *a)
{
    put8(a, 0x49), put8(a, 0x83), put8(a, 0x3b), put8(a, 0);
}
/* lea reg, [base + disp]. */
static inline void lea_disp(struct asmbuf *a, unsigned reg, unsigned base, int32_t disp)
{
    mem_op(a, 0x8d, reg, base, disp);
}
/* The same of 64 bits, or 32. */
static inline void lea_disp_w(struct asmbuf *a, bool wide, unsigned reg, unsigned base,
                              int32_t disp)
{
    hmem_op_w(a, wide, 0x8d, reg, &(struct hmem){(int)base, -1, 0, disp, false});
}

/* Jumps; the displacement's place is returned for patching. */
static inline uint8_t *jump_to(struct asmbuf *a, const uint8_t *target)
{
    put8(a, 0xe9);
    put32(a, (uint32_t)(target - (here(a) + 4)));
    return a->w - 4;
}
static inline uint8_t *jump_cc(struct asmbuf *a, unsigned cond, const uint8_t *target)
{
    put8(a, 0x0f);
    put8(a, 0x80u | cond);
    put32(a, target ? (uint32_t)(target - (here(a) + 4)) : 0);
    return a->w - 4;
}
/* Points an earlier jump at the current place. */
static inline void patch_here(struct asmbuf *a, uint8_t *disp)
{
    if (a->full)
        return;
    uint32_t v = (uint32_t)(a->w - (disp + 4));
    memcpy(disp, &v, 4);
}
static inline void call_to(struct asmbuf *a, const uint8_t *target)
{
    put8(a, 0xe8);
    put32(a, (uint32_t)(target - (here(a) + 4)));
}

#endif
