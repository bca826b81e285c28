/* SPDX-License-Identifier: MIT
 * The common case of a page check that fails: the soft TLB knows the page. Without C,
 * and with no more registers saved than it needs. */
#include "../tlb.h"
#include "asm.h"
#include "jit.h"

#define SITE_OFF(field) ((uint8_t)offsetof(struct jit_site, field))
_Static_assert(offsetof(struct jit_site, op) <= CACHE_LINE && TLB_R == 0 && TLB_W == 1 &&
                   offsetof(struct tlb_set, e) == 0 && sizeof(struct jit_slot) == 64 &&
                   offsetof(struct jit_site, seg) == offsetof(struct jit_site, align) + 1,
               "what emit_refill counts on");
#define TLB_AT(field, kind) /* beside e[kind], at its stride */                                    \
    ((int32_t)offsetof(struct tlb_set, field) - (int32_t)((kind)*TLB_N * sizeof(struct tlb_ent)))

/* reg = the page of r10. */
static void put_sum_page(struct asmbuf *a, unsigned reg)
{
    mov_reg(a, reg, H_R10);
    put8(a, 0x48), put8(a, 0x81), put8(a, 0xe0u | reg), put32(a, 0xfffff000u); /* and */
}

#define LOG_OFF(field)  ((uint32_t)offsetof(struct jit_log, field))
#define NOTE_OFF(field) /* at index + 1 */                                                         \
    ((uint32_t)(offsetof(struct jit_log, note) + offsetof(struct jit_note, field) -                \
                sizeof(struct jit_note)))
_Static_assert(sizeof(struct jit_note) == 8 && offsetof(struct jit_note, next) == 4 &&
                   offsetof(struct jit_note, hash) == 6,
               "what put_note counts on");

/* rax = the hash of the page that rdx is in. Clobbers rbx. */
static void put_hash(struct asmbuf *a, unsigned shift, uint64_t hash)
{
    mov_imm64(a, H_RBX, hash);
    mov_reg(a, H_RAX, H_RDX);
    put8(a, 0x48), put8(a, 0xc1), put8(a, 0xe8), put8(a, shift); /* shr rax */
    put8(a, 0x48), put8(a, 0x0f), put8(a, 0xaf), put8(a, 0xc3);  /* imul rax, rbx */
    put8(a, 0x48), put8(a, 0xc1), put8(a, 0xe8), put8(a, 64 - JIT_LOG_PAGE_BITS);
}

/* Notes the site's slot in the log at rdi, for the linear page in rdx, esi is how it was
 * entered. Clobbers rax, rbx, rsi. Returns the jump of a log that is full. */
static uint8_t *put_note(struct asmbuf *a)
{
    put8(a, 0x40), put8(a, 0xf6), put8(a, 0xc6), put8(a, TLB_2M); /* test sil */
    uint8_t *small = jump_cc(a, 4, NULL);
    put_hash(a, 21, JIT_LOG_HASH_2M);
    uint8_t *large = jump_to(a, here(a));
    patch_here(a, small);
    put_hash(a, 12, JIT_LOG_HASH);
    patch_here(a, large);
    /* ebx = the chain's first; is it this slot? */
    put8(a, 0x0f), put8(a, 0xb7), put8(a, 0x9c), put8(a, 0x47); /* movzx ebx, [rdi + 2 rax] */
    put32(a, LOG_OFF(head));
    put8(a, 0x85), put8(a, 0xdb); /* test ebx, ebx */
    uint8_t *first = jump_cc(a, 4, NULL);
    put8(a, 0x8b), put8(a, 0xb4), put8(a, 0xdf), put32(a, NOTE_OFF(slot)); /* mov esi */
    put8(a, 0x41), put8(a, 0x3b), put8(a, 0x73), put8(a, SITE_OFF(slot));  /* cmp esi */
    uint8_t *known = jump_cc(a, 4, NULL);
    patch_here(a, first);
    put8(a, 0x8b), put8(a, 0xb7), put32(a, LOG_OFF(n)); /* mov esi */
    put8(a, 0x81), put8(a, 0xfe), put32(a, JIT_NOTES);  /* cmp esi */
    uint8_t *full = jump_cc(a, 3, NULL);                /* jae */
    put8(a, 0xff), put8(a, 0xc6);                       /* inc esi */
    put8(a, 0x89), put8(a, 0xb7), put32(a, LOG_OFF(n)); /* mov */
    put8(a, 0x66), put8(a, 0x89), put8(a, 0xb4), put8(a, 0x47);
    put32(a, LOG_OFF(head));                   /* mov [rdi + 2 rax], si */
    put8(a, 0xc1), put8(a, 0xe0), put8(a, 16); /* shl eax */
    put8(a, 0x09), put8(a, 0xd8);              /* or eax, ebx */
    put8(a, 0x89), put8(a, 0x84), put8(a, 0xf7), put32(a, NOTE_OFF(next)); /* mov, hash too */
    put8(a, 0x41), put8(a, 0x8b), put8(a, 0x43), put8(a, SITE_OFF(slot));  /* mov eax */
    put8(a, 0x89), put8(a, 0x84), put8(a, 0xf7), put32(a, NOTE_OFF(slot)); /* mov */
    patch_here(a, known);
    return full;
}

/* r10 and r11 as for fill. A slot that the soft TLB can fill, while nothing else is to
 * be done, is filled here. What is to be done else: see jit_do_fill. */
void emit_refill(struct asmbuf *a)
{
    static const uint8_t kept[] = {H_RAX, H_RCX, H_RDX, H_RBX, H_RSI, H_RDI};
    uint8_t *slow[10]; /* the places that give up */
    unsigned n = 0;

    for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
        push_pop(a, 0x50, kept[i]);
    /* A slot, no alignment nor segment to check. */
    put8(a, 0x41), put8(a, 0x83), put8(a, 0x7b), put8(a, SITE_OFF(slot)), put8(a, 0xff); /* cmp */
    slow[n++] = jump_cc(a, 4, NULL);
    put8(a, 0x66), put8(a, 0x41), put8(a, 0x83), put8(a, 0x7b); /* cmp word: and seg */
    put8(a, SITE_OFF(align)), put8(a, 0);
    slow[n++] = jump_cc(a, 5, NULL);
    /* Counted as by count_miss, but for the one with which the place is scattered: that
     * is C's. rax is now. */
    gs_load(a, H_RAX, EMU_OFF(fuel_base));
    reg_op(a, 0x29, H_RAX, H_R8); /* sub rax, r8 */
    mov_reg(a, H_RDX, H_RAX);
    mem_op(a, 0x2b, H_RDX, H_R11, SITE_OFF(last_miss));                       /* sub */
    put8(a, 0x48), put8(a, 0x81), put8(a, 0xfa), put32(a, JIT_SCATTER_INSNS); /* cmp rdx */
    uint8_t *far = jump_cc(a, 3, NULL);                                       /* jae */
    put8(a, 0x41), put8(a, 0x80), put8(a, 0x7b), put8(a, SITE_OFF(misses));   /* cmp byte */
    put8(a, JIT_SCATTER_TIMES - 1);
    slow[n++] = jump_cc(a, 3, NULL);                                        /* jae */
    put8(a, 0x41), put8(a, 0xfe), put8(a, 0x43), put8(a, SITE_OFF(misses)); /* inc byte */
    uint8_t *counted = jump_to(a, here(a));
    patch_here(a, far);
    put8(a, 0x41), put8(a, 0xc6), put8(a, 0x43), put8(a, SITE_OFF(misses)), put8(a, 0); /* mov */
    patch_here(a, counted);
    mem_op(a, 0x89, H_RAX, H_R11, SITE_OFF(last_miss));
    /* rcx = its entry in the TLB, esi = how it was entered */
    put8(a, 0x41), put8(a, 0x0f), put8(a, 0xb6), put8(a, 0x4b), put8(a, SITE_OFF(write));
    put8(a, 0xc1), put8(a, 0xe1), put8(a, TLB_BITS); /* shl ecx */
    put8(a, 0x44), put8(a, 0x89), put8(a, 0xd0);     /* mov eax, r10d */
    put8(a, 0xc1), put8(a, 0xe8), put8(a, 12);       /* shr eax, 12 */
    put8(a, 0x25), put32(a, TLB_N - 1);              /* and eax */
    put8(a, 0x01), put8(a, 0xc1);                    /* add ecx, eax */
    gs_load(a, H_RDX, EMU_OFF(tlb));
    put8(a, 0x0f), put8(a, 0xb6), put8(a, 0xb4), put8(a, 0x0a); /* movzx esi, [rdx + rcx] */
    put32(a, (uint32_t)offsetof(struct tlb_set, how));
    put8(a, 0xc1), put8(a, 0xe1), put8(a, 4); /* shl ecx, 4 */
    reg_op(a, 0x01, H_RCX, H_RDX);            /* add rcx, rdx */
    /* rdx = the linear page */
    mov_reg(a, H_RDX, H_R10);
    mem_op(a, 0x23, H_RDX, H_R11, SITE_OFF(page_mask)); /* and */
    mem_op(a, 0x3b, H_RDX, H_RCX, offsetof(struct tlb_ent, tag));
    slow[n++] = jump_cc(a, 5, NULL);
    put_sum_page(a, H_RAX);
    reg_op(a, 0x39, H_RAX, H_RDX); /* cmp rax, rdx */
    uint8_t *same = jump_cc(a, 4, NULL);
    put8(a, 0x41), put8(a, 0x80), put8(a, 0x7b), put8(a, SITE_OFF(moves)), put8(a, 0); /* cmp */
    slow[n++] = jump_cc(a, 5, NULL);
    patch_here(a, same);
    /* all in the page */
    put8(a, 0x44), put8(a, 0x89), put8(a, 0xd0); /* mov eax, r10d */
    put8(a, 0x25), put32(a, 4095);               /* and eax */
    put8(a, 0x41), put8(a, 0x0f), put8(a, 0xb7), put8(a, 0x7b), put8(a, SITE_OFF(span));
    put8(a, 0x01), put8(a, 0xf8);  /* add eax, edi */
    put8(a, 0x3d), put32(a, 4096); /* cmp eax */
    slow[n++] = jump_cc(a, 7, NULL);
    /* noted for flushes */
    put8(a, 0x40), put8(a, 0xf6), put8(a, 0xc6), put8(a, TLB_HUGE | TLB_WHOLE); /* test sil */
    slow[n++] = jump_cc(a, 5, NULL);
    gs_load(a, H_RDI, EMU_OFF(slot_logs));
    put8(a, 0x89), put8(a, 0xf3);                        /* mov ebx, esi */
    put8(a, 0x83), put8(a, 0xe3), put8(a, TLB_LOG_MASK); /* and ebx: which log */
    put8(a, 0x48), put8(a, 0x69), put8(a, 0xdb), put32(a, sizeof(struct jit_log)); /* imul rbx */
    reg_op(a, 0x01, H_RDI, H_RBX);
    slow[n++] = put_note(a);
    /* the slot */
    put8(a, 0x41), put8(a, 0x8b), put8(a, 0x7b), put8(a, SITE_OFF(slot)); /* mov edi, slot */
    put8(a, 0x48), put8(a, 0xc1), put8(a, 0xe7), put8(a, 6);              /* shl rdi, 6 */
    gs_op(a, true, 0x03, H_RDI, EMU_OFF(self));
    for (unsigned i = 0; i < sizeof(struct jit_seen_page); i += 8) {
        mem_op(a, 0x8b, H_RAX, H_RDI, (int32_t)(JIT_SLOT_OFF(0, start) + i));
        mem_op(a, 0x89, H_RAX, H_RDI, (int32_t)(JIT_OTHER_OFF(0, start) + i));
    }
    put_sum_page(a, H_RSI);
    reg_op(a, 0x29, H_RDX, H_RSI); /* sub rdx, rsi: by how much the sum is off */
    put8(a, 0x49), put8(a, 0x63), put8(a, 0x43), put8(a, SITE_OFF(bias)); /* movsxd rax */
    reg_op(a, 0x29, H_RSI, H_RAX);                                        /* sub rsi, rax */
    mem_op(a, 0x89, H_RSI, H_RDI, (int32_t)JIT_SLOT_OFF(0, start));
    put8(a, 0x41), put8(a, 0x0f), put8(a, 0xb7), put8(a, 0x73), put8(a, SITE_OFF(span));
    put8(a, 0xb8), put32(a, 4097); /* mov eax */
    put8(a, 0x29), put8(a, 0xf0);  /* sub eax, esi */
    mem_op(a, 0x89, H_RAX, H_RDI, (int32_t)JIT_SLOT_OFF(0, lim));
    put8(a, 0x41), put8(a, 0x80), put8(a, 0x7b), put8(a, SITE_OFF(write)), put8(a, 0); /* cmp */
    uint8_t *reads = jump_cc(a, 4, NULL);
    mem_op(a, 0x8b, H_RAX, H_RCX, TLB_AT(wx, TLB_W) + 0);
    mem_op(a, 0x89, H_RAX, H_RDI, (int32_t)JIT_SLOT_OFF(0, code));
    patch_here(a, reads);
    mem_op(a, 0x8b, H_R11, H_RCX, offsetof(struct tlb_ent, addend));
    reg_op(a, 0x01, H_R11, H_RDX); /* add r11, rdx */
    mem_op(a, 0x89, H_R11, H_RDI, (int32_t)JIT_SLOT_OFF(0, addend));
    gs_op(a, true, 0xff, 0, EMU_OFF(stats) + offsetof(struct vc_stats, check_misses)); /* inc */
    gs_op(a, true, 0xff, 0, EMU_OFF(stats) + offsetof(struct vc_stats, check_hits));
    for (unsigned i = ARRAY_LEN(kept); i-- > 0;)
        push_pop(a, 0x58, kept[i]);
    put8(a, 0xc3);
    while (n > 0)
        patch_here(a, slow[--n]);
    for (unsigned i = ARRAY_LEN(kept); i-- > 0;)
        push_pop(a, 0x58, kept[i]);
}
