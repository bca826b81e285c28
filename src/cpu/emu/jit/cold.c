/* SPDX-License-Identifier: MIT
 * The slow paths of a block, written after it; and what they refer to. */
#include "trans.h"
#include <stdlib.h>

/* Pieces of chunks, which the block owns. Large ones, sites, begin lines of the host's cache:
 * what a page check that fails reads of them is one. */
void *trans_own(struct trans *t, size_t size)
{
    size_t unaligned = size < CACHE_LINE ? 15 : CACHE_LINE - 1;
    size = (size + 15) & ~(size_t)15;
    t->chunk_left &= ~unaligned;
    if (t->chunk_left < size) {
        struct jit_chunk *k = jit_chunk_new(t->jit);
        if (!k) {
            t->failed = true;
            return NULL;
        }
        k->next = t->owned;
        t->owned = k;
        t->chunk_left = (OWN_CHUNK - sizeof *k) & ~unaligned;
    }
    void *p = (uint8_t *)t->owned + OWN_CHUNK - t->chunk_left;
    t->chunk_left -= size;
    return p;
}

struct jit_site *trans_site(struct trans *t, unsigned i)
{
    struct jit_site *s = trans_own(t, sizeof *s);
    if (!s)
        return NULL;
    s->parent = t->block;
    s->phys = (t->block->phys & PAGE_MASK_4K) + t->insn[i].off;
    s->before = (uint8_t)i;
    s->slot = JIT_NO_SLOT;
    s->page_mask = t->code32 ? 0xfffff000u : PAGE_MASK_4K;
    s->shadow = i && t->insn[i - 1].zi.mnemonic == ZYDIS_MNEMONIC_STI;
    s->op = t->insn[i].op;
    return s;
}

struct cold *trans_cold_new(struct trans *t, unsigned i, enum cold_kind kind)
{
    if (t->ncold == COLD_MAX) {
        t->failed = true;
        t->ncold--;
    }
    struct cold *k = &t->cold[t->ncold++];
    *k = (struct cold){.insn = i,
                       .kind = kind,
                       .slot = JIT_NO_SLOT,
                       .flags = t->flags,
                       .rm = t->rm,
                       .simd = t->simd,
                       .x87 = t->x87,
                       .fast = t->fast};
    return k;
}

/* RFLAGS to memory as LAHF and SETO see them (CC_HOST), and back. */
void put_flags_save(struct trans *t)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R10, H_RAX);
    put8(a, 0x9f);                               /* lahf */
    put8(a, 0x0f), put8(a, 0x90), put8(a, 0xc0); /* seto al */
    gs_op(a, false, 0x89, H_RAX, EMU_OFF(cc_src));
    mov_reg(a, H_RAX, H_R10);
}

void put_flags_load(struct trans *t)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R10, H_RAX);
    gs_op(a, false, 0x8b, H_RAX, EMU_OFF(cc_src));
    put8(a, 0x04), put8(a, 0x7f); /* add al, 127: overflows when al is 1 */
    put8(a, 0x9e);                /* sahf */
    mov_reg(a, H_RAX, H_R10);
}

void put_carry_load(struct trans *t)
{
    struct asmbuf *a = &t->a;
    put8(a, 0x65), put8(a, 0x0f), put8(a, 0xba), put8(a, 0x24), put8(a, 0x25); /* bt, as in AH */
    put32(a, EMU_OFF(cc_src)), put8(a, 8);
}

static void put_site(struct trans *t, const struct cold *k)
{
    mov_imm64(&t->a, H_R11, (uint64_t)(uintptr_t)k->site);
}

/* After a call of C that did the instruction or more. */
static void put_resume(struct trans *t, const struct cold *k)
{
    if (k->simd)
        call_to(&t->a, t->gates->simd_resume);
    if (k->reload)
        put_flags_load(t);
}

static void put_where(struct trans *t, const struct cold *k)
{
    switch (k->ip) {
    case IP_OFF: put_ip(t, k->off); break;
    case IP_TMP: gs_load(&t->a, H_R10, EMU_OFF(jit_tmp)); break;
    case IP_ENTRY: mem_op(&t->a, 0x8b, H_R10, H_R11, offsetof(struct jcache_ent, lin)); break;
    }
}

/* Is it in the other page? The check's r11 is gone: flags may have been saved since. */
static void put_other(struct trans *t, const struct cold *k)
{
    struct asmbuf *a = &t->a;
    put_linear(t, &k->m, H_R11, 0);
    gs_op(a, true, 0x2b, H_R11, JIT_OTHER_OFF(k->slot, start));
    gs_op(a, true, 0x3b, H_R11, JIT_OTHER_OFF(k->slot, lim));
    uint8_t *neither = jump_cc(a, 3, NULL); /* jae */
    mov_imm64(a, H_R10, JIT_SLOT_OFF(k->slot, start));
    call_to(a, t->gates->other);
    jump_to(a, k->back);
    patch_here(a, neither);
}

static void put_cold(struct trans *t, const struct cold *k)
{
    struct asmbuf *a = &t->a;
    t->fast = k->fast;
    t->flags = k->flags;
    t->rm = k->rm;
    if (k->flags == IN_REGISTERS) /* C shall find them */
        spill_flags(t, FL_ARITH);
    t->x87 = k->x87;
    put_x87_pointers(t);
    switch (k->kind) {
    case COLD_LOOP_END:
        trans_exit(t, k->insn + 1, t->insn[k->insn].off + t->insn[k->insn].op.len,
                   t->insn[k->insn].live_after);
        break;
    case COLD_TAKEN:
        trans_exit(t, k->insn + 1, t->insn[k->insn].op.disp, t->insn[k->insn].live_taken);
        break;
    case COLD_FILL:
        if (k->slot != JIT_NO_SLOT)
            put_other(t, k);
        put_linear(t, &k->m, H_R10, k->m.disp);
        put_site(t, k);
        call_to(a, t->gates->fill);
        jump_to(a, k->back);
        put_resume(t, k);
        jump_to(a, k->after);
        break;
    case COLD_CALLOUT:
        put_site(t, k);
        call_to(a, t->gates->callout);
        put_resume(t, k);
        jump_to(a, k->after);
        break;
    case COLD_STORED:
        put_linear(t, &k->m, H_R10, k->m.disp);
        put_site(t, k);
        call_to(a, t->gates->stored);
        put_resume(t, k);
        jump_to(a, k->back);
        break;
    case COLD_SIMD:
        put_site(t, k);
        call_to(a, t->gates->simd_on);
        jump_to(a, k->back);
        break;
    case COLD_POLL:
        put_where(t, k);
        call_to(a, t->gates->poll);
        jump_to(a, k->back);
        break;
    case COLD_MISS:
        put_where(t, k);
        lea_disp(a, H_R8, H_R8, -(int32_t)(k->insn + 1));
        jump_to(a, t->gates->leave_r10);
        break;
    }
}

void trans_cold(struct trans *t)
{
    for (unsigned n = 0; n < t->ncold && !t->a.full && !t->failed; n++) {
        struct cold k = t->cold[n]; /* more may be added */
        if (k.from)
            patch_here(&t->a, k.from);
        if (k.from2)
            patch_here(&t->a, k.from2);
        put_cold(t, &k);
    }
}
