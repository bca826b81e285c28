/* SPDX-License-Identifier: MIT
 * Memory operands in translated code: the address, the check that the page is
 * there, the host's operand. */
#include "trans.h"

#define SET_OFF(kind)                                                                              \
    ((int32_t)(offsetof(struct tlb_set, e) + (kind) * sizeof(struct tlb_ent) * TLB_N))
#define SEG_BASE(seg_)                                                                             \
    (EMU_OFF(seg) + (uint32_t)(seg_) * (uint32_t)sizeof(struct seg) +                              \
     (uint32_t)offsetof(struct seg, base))

/* ---- addresses ------------------------------------------------------------------- */

/* The host register of a guest one that addresses; homed ones are loaded to `spare`. */
static int address_reg(struct trans *t, int guest, unsigned spare)
{
    if (guest < 0)
        return -1;
    if (guest < 16 && !homed(guest))
        return (int)host_reg(guest);
    gs_load(&t->a, spare, GPR_OFF((unsigned)guest));
    return (int)spare;
}

void put_linear(struct trans *t, const struct access *m, unsigned to, int32_t disp)
{
    struct asmbuf *a = &t->a;
    struct hmem h = {address_reg(t, m->base, H_R11), address_reg(t, m->index, H_R10), m->scale,
                     disp, false};
    if (h.base >= 0 && h.index < 0 && !disp)
        mov_reg(a, to, (unsigned)h.base);
    else
        hmem_op(a, 0x8d, to, &h);
    if (m->seg >= 0)
        gs_op(a, true, 0x03, to, SEG_BASE(m->seg));
}

/* r11 += the linear address, of 32 bits. */
static void put_narrow_operand(struct trans *t, const struct access *m)
{
    struct asmbuf *a = &t->a;
    struct hmem h = {address_reg(t, m->base, H_R10), -1, 0, m->disp, false};
    if (m->seg >= 0) {
        gs_load(a, H_R10, SEG_BASE(m->seg));
        if (h.base >= 0)
            hmem_op(a, 0x8d, H_R10, &(struct hmem){H_R10, h.base, 0, 0, false});
        h.base = H_R10;
    }
    h.index = address_reg(t, m->index, H_R10);
    h.scale = m->scale;
    hmem_op_w(a, false, 0x8d, H_R10, &h);
    hmem_op(a, 0x8d, H_R11, &(struct hmem){H_R11, H_R10, 0, 0, false});
}

struct hmem put_operand(struct trans *t, const struct access *m)
{
    struct asmbuf *a = &t->a;
    struct hmem h = {H_R11, -1, 0, m->disp, false};

    if (t->code32 && t->slot == JIT_NO_SLOT) {
        put_narrow_operand(t, m);
        h.disp = 0;
        return h;
    }
    if (m->seg >= 0) {
        gs_load(a, H_R10, SEG_BASE(m->seg));
        hmem_op(a, 0x8d, H_R11, &(struct hmem){H_R11, H_R10, 0, 0, false});
    }
    if (m->index < 0) {
        if (m->base >= 0) { /* no shift: either may be the index */
            h.base = address_reg(t, m->base, H_R10);
            h.index = H_R11;
        }
        return h;
    }
    if (m->base >= 0) {
        int base = address_reg(t, m->base, H_R10);
        hmem_op(a, 0x8d, H_R11, &(struct hmem){base, H_R11, 0, 0, false});
    }
    h.index = address_reg(t, m->index, H_R10);
    h.scale = m->scale;
    return h;
}

void put_collapse(struct trans *t, struct hmem *m)
{
    if (m->base == H_R11 && m->index < 0)
        return;
    hmem_op(&t->a, 0x8d, H_R11, m);
    *m = (struct hmem){H_R11, -1, 0, 0, false};
}

void put_lea(struct trans *t, struct tinsn *ti)
{
    struct asmbuf *a = &t->a;
    const ZydisDecodedOperand *o = &ti->zop[1];
    int guest = op_gpr(ti->zop[0].reg.value) / 8;
    unsigned to = homed(guest) ? (unsigned)H_R10 : host_reg(guest);
    struct access m = {
        .base = o->mem.base == ZYDIS_REGISTER_NONE  ? -1
                : o->mem.base == ZYDIS_REGISTER_RIP ? G_IP
                                                    : op_gpr(o->mem.base) / 8,
        .index = o->mem.index == ZYDIS_REGISTER_NONE ? -1 : op_gpr(o->mem.index) / 8,
        .scale = ti->op.scale,
        .seg = -1,
    };
    put_linear(t, &m, to, (int32_t)ti->op.disp);
    if (ti->zi.operand_width == 32)
        zero_upper(a, to);
    if (homed(guest))
        gs_store(a, to, GPR_OFF((unsigned)guest));
}

/* ---- page checks ------------------------------------------------------------------- */

static struct cold *fill_cold(struct trans *t, unsigned i, const struct access *m, uint32_t slot)
{
    struct cold *k = trans_cold_new(t, i, COLD_FILL);
    k->m = *m;
    k->site = trans_site(t, i);
    if (k->site) {
        k->site->slot = slot;
        k->site->bias = m->disp;
        k->site->span = (uint16_t)m->size;
        k->site->write = k->site->writes = m->write;
    }
    if (t->code32 && m->seg >= 0) {
        k->from2 = put_narrow_seg(t, m->seg);
        if (k->site)
            k->site->seg = (uint8_t)m->seg;
    }
    return k;
}

/* Against what the vCPU remembers for this place. lo, hi: from the base. */
static struct cold *check_slot(struct trans *t, unsigned i, const struct access *m, uint32_t slot)
{
    struct asmbuf *a = &t->a;
    struct cold *k = fill_cold(t, i, m, slot);

    put_linear(t, m, H_R11, 0);
    gs_op(a, true, 0x2b, H_R11, JIT_SLOT_OFF(slot, start));
    gs_op(a, true, 0x3b, H_R11, JIT_SLOT_OFF(slot, lim));
    k->from = jump_cc(a, 3, NULL); /* jae */
    gs_load(a, H_R11, JIT_SLOT_OFF(slot, addend));
    if (!k->from2) /* from there the address is not known yet */
        k->slot = slot;
    return k;
}

/* Through the soft TLB. */
static struct cold *check_tlb(struct trans *t, unsigned i, const struct access *m)
{
    struct asmbuf *a = &t->a;
    struct cold *k = fill_cold(t, i, m, JIT_NO_SLOT);
    int32_t off = SET_OFF(m->write ? TLB_W : TLB_R);

    put_linear(t, m, H_R10, m->disp);
    if (t->code32)
        zero_upper(a, H_R10);
    mov_reg(a, H_R11, H_R10);
    put8(a, 0x41), put8(a, 0xc1), put8(a, 0xeb), put8(a, 8); /* shr r11d, 8 */
    put8(a, 0x41), put8(a, 0x81), put8(a, 0xe3);             /* and r11d, index */
    put32(a, (TLB_N - 1) << 4);
    gs_op(a, true, 0x03, H_R11, EMU_OFF(tlb));
    mem_op(a, 0x2b, H_R10, H_R11, off);                                    /* sub r10, tag */
    put8(a, 0x49), put8(a, 0x81), put8(a, 0xfa), put32(a, 4096 - m->size); /* cmp r10 */
    k->from = jump_cc(a, 7, NULL);                                         /* ja */
    mem_op(a, 0x8b, H_R11, H_R11, off + (int32_t)offsetof(struct tlb_ent, addend));
    return k;
}

bool access_free(const struct trans *t, unsigned i)
{
    const struct tinsn *ti = &t->insn[i];
    return t->fast && ti->has_access && t->insn[ti->lead >= 0 ? ti->lead : (int)i].steps;
}

bool access_clobbers(const struct trans *t, unsigned i)
{
    const struct tinsn *ti = &t->insn[i];
    return ti->has_access && (ti->lead < 0 || ti->m.write) && !access_free(t, i);
}

struct cold *put_check(struct trans *t, unsigned i, const struct access *m)
{
    struct tinsn *ti = &t->insn[i];
    struct cold *k;

    t->slot = ti->slot;
    if (m == &ti->m && (ti->lead >= 0 || access_free(t, i))) {
        t->slot = t->insn[ti->lead >= 0 ? ti->lead : (int)i].slot;
        gs_load(&t->a, H_R11, JIT_SLOT_OFF(t->slot, addend));
        return NULL;
    }
    if (m != &ti->m) { /* an instruction's second access */
        uint64_t phys = (t->block->phys & PAGE_MASK_4K) + ti->off;
        t->slot = jit_scattered(t->jit, phys) ? JIT_NO_SLOT : jit_slot_new(t->jit);
        k = t->slot == JIT_NO_SLOT ? check_tlb(t, i, m) : check_slot(t, i, m, t->slot);
    } else if (ti->slot == JIT_NO_SLOT) {
        k = check_tlb(t, i, m);
    } else {
        struct access all = ti->m; /* of the group */
        all.disp = ti->lo;
        all.size = (unsigned)(ti->hi - ti->lo);
        all.write = ti->group_write;
        k = check_slot(t, i, &all, ti->slot);
        if (k->site) {
            k->site->writes = ti->m.write;
            k->site->group = ti->grouped;
            k->site->moves = ti->moves;
            k->site->at = (uint16_t)(ti->m.disp - ti->lo);
        }
    }
    if (k->site && trans_must_align(ti))
        k->site->align = (uint8_t)(m->size - 1);
    k->back = here(&t->a);
    return k;
}

void put_stored(struct trans *t, unsigned i, const struct access *m, bool stays)
{
    struct asmbuf *a = &t->a;
    struct cold *k = trans_cold_new(t, i, COLD_STORED);

    k->m = *m;
    if (t->slot == JIT_NO_SLOT) {
        put_linear(t, m, H_R10, m->disp);
        put8(a, 0x41), put8(a, 0xc1), put8(a, 0xea), put8(a, 8); /* shr r10d, 8 */
        put8(a, 0x41), put8(a, 0x81), put8(a, 0xe2);             /* and r10d, index */
        put32(a, (TLB_N - 1) << 4);
        gs_op(a, true, 0x03, H_R10, EMU_OFF(tlb));
        mem_op(a, 0x8b, H_R11, H_R10, (int32_t)offsetof(struct tlb_set, wx));
    } else {
        gs_load(a, H_R11, JIT_SLOT_OFF(t->slot, code));
    }
    cmp_r11_0(a);
    k->from = jump_cc(a, 5, NULL);
    k->back = here(a);
    k->site = trans_site(t, i);
    if (k->site) {
        k->site->slot = t->slot;
        k->site->size = (uint16_t)m->size;
        k->site->stays = stays;
    }
}
