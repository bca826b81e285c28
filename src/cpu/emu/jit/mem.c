/* SPDX-License-Identifier: MIT
 * Memory operands in translated code: the address, the probe of the soft TLB. */
#include "trans.h"
#include <stdlib.h>

static bool in_memory(unsigned guest)
{
    return guest >= 8 && guest <= 11;
}

static unsigned host_of(unsigned guest)
{
    return guest == 4 ? (unsigned)H_R9 : guest;
}

/* Pieces of chunks, which the block owns. */
void *trans_own(struct trans *t, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (t->chunk_left < size) {
        struct jit_chunk *k = calloc(1, OWN_CHUNK);
        if (!k) {
            t->failed = true;
            return NULL;
        }
        k->next = t->owned;
        t->owned = k;
        t->chunk_left = OWN_CHUNK - sizeof *k;
    }
    void *p = (uint8_t *)t->owned + OWN_CHUNK - t->chunk_left;
    t->chunk_left -= size;
    return p;
}

struct jit_site *trans_site(struct trans *t, unsigned i)
{
    struct jit_site *s = trans_own(t, sizeof *s + 2 * sizeof(struct op));
    if (!s)
        return NULL;
    s->parent = t->block;
    s->before = (uint16_t)i;
    s->size = t->insn[i].op.msize;
    s->unit.nops = 1;
    s->unit.op[0] = t->insn[i].op;
    s->unit.op[1] =
        (struct op){.fn = op_jit_return, .off = (uint16_t)(t->insn[i].off + t->insn[i].op.len)};
    return s;
}

struct cold *trans_new_cold(struct trans *t, unsigned i)
{
    struct cold *k = &t->cold[t->ncold++];
    *k = (struct cold){.insn = i, .flags = t->flags, .simd = t->simd};
    return k;
}

/* RFLAGS to memory as LAHF and SETO see them (CC_HOST), and back. */
void put_flags_save(struct trans *t)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R8, H_RAX);
    put8(a, 0x9f);                               /* lahf */
    put8(a, 0x0f), put8(a, 0x90), put8(a, 0xc0); /* seto al */
    gs_op(a, false, 0x89, H_RAX, EMU_OFF(cc_src));
    mov_reg(a, H_RAX, H_R8);
}

void put_flags_load(struct trans *t)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R8, H_RAX);
    gs_op(a, false, 0x8b, H_RAX, EMU_OFF(cc_src));
    put8(a, 0x04), put8(a, 0x7f); /* add al, 127: overflows when al is 1 */
    put8(a, 0x9e);                /* sahf */
    mov_reg(a, H_RAX, H_R8);
}

static void put_sib_lea(struct asmbuf *a, unsigned to, int base, unsigned index, unsigned scale,
                        int32_t disp)
{
    put8(a, 0x48u | (to >> 3 << 2) | (index >> 3 << 1) | (base >= 0 ? (unsigned)base >> 3 : 0));
    put8(a, 0x8d);
    put8(a, (base >= 0 ? 0x80u : 0x00u) | (to & 7) << 3 | 4);
    put8(a, scale << 6 | (index & 7) << 3 | (base >= 0 ? (unsigned)base & 7 : 5));
    put32(a, (uint32_t)disp);
}

static unsigned scale_bits(unsigned scale)
{
    return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
}

bool address_possible(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
    return ti->zi.address_width == 64 && ti->op.disp == (int32_t)ti->op.disp &&
           (m->mem.type == ZYDIS_MEMOP_TYPE_MEM || m->mem.type == ZYDIS_MEMOP_TYPE_AGEN);
}

bool put_address(struct trans *t, const struct tinsn *ti, const ZydisDecodedOperand *m, unsigned to)
{
    struct asmbuf *a = &t->a;
    int64_t disp = ti->op.disp;
    int base = -1, index = -1;

    if (!address_possible(ti, m))
        return false;
    if (m->mem.base == ZYDIS_REGISTER_RIP) {
        gs_load(a, H_R10, GPR_OFF(R_IPB));
        base = H_R10;
    } else if (m->mem.base != ZYDIS_REGISTER_NONE) {
        unsigned n = op_gpr(m->mem.base) / 8u;
        base = (int)host_of(n);
        if (in_memory(n)) {
            gs_load(a, H_R10, GPR_OFF(n));
            base = H_R10;
        }
    }
    if (m->mem.index != ZYDIS_REGISTER_NONE) {
        unsigned n = op_gpr(m->mem.index) / 8u;
        index = (int)host_of(n);
        if (in_memory(n)) {
            gs_load(a, H_R11, GPR_OFF(n));
            index = H_R11;
        }
    }
    if (index >= 0) {
        /* Index number 4 would mean none; no guest register is host rsp. */
        put_sib_lea(a, to, base, (unsigned)index, scale_bits(m->mem.scale), (int32_t)disp);
    } else if (base >= 0) {
        if (disp == 0)
            mov_reg(a, to, (unsigned)base);
        else
            lea_disp(a, to, (unsigned)base, (int32_t)disp);
    } else { /* mov to, imm32 sign-extended */
        put8(a, 0x48u | to >> 3), put8(a, 0xc7), put8(a, 0xc0u | (to & 7));
        put32(a, (uint32_t)disp);
    }
    if (m->type == ZYDIS_OPERAND_TYPE_MEMORY && ti->kind != T_LEA &&
        (ti->op.seg == SEG_FS || ti->op.seg == SEG_GS))
        gs_op(a, true, 0x03, H_R10,
              EMU_OFF(seg) + ti->op.seg * (uint32_t)sizeof(struct seg) +
                  (uint32_t)offsetof(struct seg, base));
    return true;
}

#define SET_OFF(kind)                                                                              \
    ((int32_t)(offsetof(struct tlb_set, e) + (kind) * sizeof(struct tlb_ent) * TLB_N))

struct cold *put_check(struct trans *t, unsigned i, bool write, bool guard, unsigned size)
{
    struct asmbuf *a = &t->a;
    struct cold *k = trans_new_cold(t, i);
    int32_t off = SET_OFF(write ? TLB_W : TLB_R);

    k->kind = COLD_CALLOUT;
    mov_reg(a, H_R11, H_R10);
    put8(a, 0x41), put8(a, 0xc1), put8(a, 0xeb), put8(a, 8); /* shr r11d, 8 */
    put8(a, 0x41), put8(a, 0x81), put8(a, 0xe3);             /* and r11d, index */
    put32(a, (TLB_N - 1) << 4);
    gs_op(a, true, 0x03, H_R11, EMU_OFF(tlb));
    if (size > 1)
        lea_disp(a, H_R8, H_R10, (int32_t)size - 1);
    else
        mov_reg(a, H_R8, H_R10);
    put8(a, 0x49), put8(a, 0x81), put8(a, 0xe0), put32(a, 0xfffff000u); /* and r8, -4096 */
    mem_op(a, 0x3b, H_R8, H_R11, off);
    k->from[0] = jump_cc(a, 5, NULL);
    if (guard) {
        mem_op(a, 0x8b, H_R8, H_R11, (int32_t)offsetof(struct tlb_set, wx));
        put8(a, 0x49), put8(a, 0x83), put8(a, 0x38), put8(a, 0); /* cmp qword [r8], 0 */
        k->from[1] = jump_cc(a, 5, NULL);
    }
    mem_op(a, 0x03, H_R10, H_R11, off + (int32_t)offsetof(struct tlb_ent, addend));
    return k;
}

void put_stored(struct trans *t, unsigned i, unsigned size)
{
    struct asmbuf *a = &t->a;
    struct cold *k = trans_new_cold(t, i);
    mem_op(a, 0x8b, H_R8, H_R11, (int32_t)offsetof(struct tlb_set, wx));
    put8(a, 0x49), put8(a, 0x83), put8(a, 0x38), put8(a, 0);
    k->kind = COLD_STORED;
    k->from[0] = jump_cc(a, 5, NULL);
    k->back = here(a);
    k->site = trans_site(t, i);
    if (k->site)
        k->site->size = (uint16_t)size;
}
