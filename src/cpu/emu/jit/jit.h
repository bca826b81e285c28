/* SPDX-License-Identifier: MIT
 * The translator: 64-bit and flat 32-bit guest code to host code of the same
 * instruction set.
 *
 * While translated code runs, guest registers live in host registers: the same
 * number for rax rcx rdx rbx rbp rsi rdi r12-r15, host r9 for the guest's rsp;
 * the guest's r8-r11 stay in struct emu, because the host's r10 and r11 are
 * scratch and r8 is the fuel: how many instructions may still be done before the
 * dispatcher has a look. The host's rsp is the host's. GS base is struct emu.
 *
 * Arithmetic flags are in the host's RFLAGS between instructions of a block
 * where they are live, and in memory (cc_op == CC_HOST) at every block's entry
 * and exit. */
#ifndef JIT_H
#define JIT_H

#include "../block.h"
#include "../emu.h"
#include "../tlb.h"

struct jit;

enum jit_string { JIT_MOVS, JIT_STOS, JIT_LODS, JIT_STRINGS };

/* Where translated code leaves to. */
struct jit_gates {
    void (*enter)(struct emu *c, const uint8_t *code);
    const uint8_t *leave;       /* regs to memory, back to C; c->rip is set */
    const uint8_t *leave_r10;   /* the same with c->rip = r10 */
    const uint8_t *leave_entry; /* r11: the jump cache's entry, which has no code */
    const uint8_t *callout;     /* r11: struct jit_site; called */
    const uint8_t *fill;        /* r11: struct jit_site, r10 linear; called. Comes back with
                                   the page's addend in r11; else is a callout that comes
                                   back GATE_SKIP bytes further */
    const uint8_t *other;       /* r10: where a slot is from GS on; called. Its pages change
                                   places; r11: the addend of what is the first one now */
    const uint8_t *stored;      /* after a store to a page with code: r11 site, r10 linear */
    const uint8_t *simd_on;     /* r11 site: vectors into the host registers, when allowed */
    const uint8_t *simd_resume; /* again, after a call of C; they were allowed before */
    const uint8_t *poll;        /* the fuel is used up; r10: where to leave to; called */
    const uint8_t *link;        /* r11: struct jit_link; c->rip is set */
    /* By REP and log2 of the size; called. Come back with CF when it has to be a
     * callout; else r11: the code word of the page stored to. Clobber flags, r10. */
    const uint8_t *string[JIT_STRINGS][2][4];
};
#define GATE_SKIP 5 /* a jump */

/* What a page check remembers, in each vCPU, of the page that it saw last. A base
 * address less `start` is below `lim` when all that the check stands for lies in
 * the page. All zero: no page. */
struct jit_seen_page {
    uint64_t start, lim;
    uint64_t addend;        /* host pointer = linear + addend */
    _Atomic uint64_t *code; /* of a page for writing: its word of lines with code */
};
/* And of another one, which is asked when that fails: places go to and fro. */
struct jit_slot {
    struct jit_seen_page now, other;
};
/* They follow struct emu, so that code reaches them through GS. */
#define JIT_SLOTS     (1u << 18)
#define JIT_SLOTS_OFF ((sizeof(struct emu) + 63) & ~(size_t)63)
#define JIT_SLOT_OFF(n, field)                                                                     \
    ((uint32_t)(JIT_SLOTS_OFF + (size_t)(n) * sizeof(struct jit_slot) +                            \
                offsetof(struct jit_slot, now.field)))
/* The same of the other page. */
#define JIT_OTHER_OFF(n, field)                                                                    \
    (JIT_SLOT_OFF(n, field) + (uint32_t)offsetof(struct jit_slot, other))
#define JIT_NO_SLOT UINT32_MAX
static inline struct jit_slot *jit_slot(struct emu *c, uint32_t n)
{
    return (struct jit_slot *)((uint8_t *)c + JIT_SLOTS_OFF) + n;
}

/* Which slots a vCPU has filled, to be emptied by a flush, in the logs of TLB_LOG_OWN and
 * the others. And for INVLPG from which pages, in chains by the page's hash: its number's,
 * or for a piece of a page of 2 MiB that one's. A slot that learns another page stays in
 * the chain of the first, and may be emptied for nothing. */
#define JIT_NOTES         0xffffu
#define JIT_LOG_PAGE_BITS 13
#define JIT_LOG_HASH      0x9e3779b97f4a7c15ull /* of page numbers, */
#define JIT_LOG_HASH_2M   0xc2b2ae3d27d4eb4full /* and of those of large pages */
struct jit_note {
    uint32_t slot;
    uint16_t next; /* in its chain: index + 1; 0: none */
    uint16_t hash; /* that is its chain */
};
struct jit_logs {
    struct jit_log {
        unsigned n;
        struct jit_note note[JIT_NOTES];
        uint16_t head[1u << JIT_LOG_PAGE_BITS]; /* index + 1; 0: none */
        struct tlb_hull huge;                   /* of pages larger than 2 MiB */
    } log[TLB_LOGS];
};

/* Fields that vCPUs change as they come, in no order. */
#define LOOSE(field)        __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define LOOSE_SET(field, v) __atomic_store_n(&(field), v, __ATOMIC_RELAXED)
/* A place in a translation that C may have to be asked at: about one instruction. */
struct jit_site {
    struct block *parent;
    uint64_t phys;      /* of the instruction */
    uint64_t last_miss; /* icount */
    /* Of linear addresses, their pages' bits: 32-bit code has fewer. What registers and
     * displacement add up to there may be off by multiples of 4 GiB. */
    uint64_t page_mask;
    uint32_t slot;  /* JIT_NO_SLOT: its check goes through the soft TLB */
    int32_t bias;   /* of what is checked against the base address */
    uint16_t span;  /* bytes checked at once */
    uint16_t size;  /* of its own access, */
    uint16_t at;    /* which begins so far into what is checked, */
    uint8_t align;  /* and must be aligned to this + 1 */
    uint8_t seg;    /* in 32-bit code: SEG_FS or SEG_GS, which may have a limit; else 0 */
    uint8_t before; /* instructions of the block done before it */
    uint8_t misses; /* in quick succession */
    bool write;     /* the check is for writing, */
    bool writes;    /* and so is the access itself */
    bool group;     /* the check stands for later accesses too, */
    bool moves;     /* and for 32-bit registers that change between them */
    bool always;    /* not translated: interpreted each time */
    bool stays;     /* the block is left after it in any case */
    bool shadow;    /* STI was before it */
    struct op op;
};

/* A direct jump that may be linked: its displacement, writable. */
struct jit_link {
    uint8_t *disp;
};

#define OWN_CHUNK 1024u /* bytes: seven sites, and some links */
struct jit_chunk {
    struct jit_chunk *next;
    uint64_t pad;
};

/* What a translated block owns; itself in the first of the chunks. */
struct jit_block {
    const uint8_t *code;
    uint8_t *entry;          /* writable alias of code */
    const uint8_t *dead;     /* where the entry goes when the block is dropped */
    struct jit_chunk *owned; /* sites and links, freed with it */
};

/* avx: the guest's vectors are as wide as AVX's. for_perf: the memory has no name of
 * its own. NULL with an error set: this host does not let code be translated. */
struct jit *jit_new(bool avx, bool for_perf);
void jit_free(struct jit *jit);
const struct jit_gates *jit_gates(const struct jit *jit);
bool jit_x87(const struct jit *jit); /* can x87 registers be kept in the host's? */

/* Translates a block; the code cache's lock is held. page: where its page is.
 * next: where the page is that its one instruction reaches into, or NULL. Adds the lines
 * of the first page that it depends on. NULL: not possible now. */
struct jit_block *jit_translate(struct emu *c, struct block *b, const uint8_t *page,
                                const uint8_t *next, uint64_t *lines);
struct trans *trans_new(void);
/* Of the block at phys in that mode: who jumps there leaves translated code, */
void jit_block_kill(struct jit *jit, struct jit_block *jb, uint64_t phys, uint32_t mode);
/* until it is translated again: then on to that. */
void jit_block_again(struct jit *jit, const struct jit_block *jb, uint64_t phys, uint32_t mode);
struct jit_chunk *jit_chunk_new(struct jit *jit); /* cleared */
void jit_chunks_free(struct jit *jit, struct jit_chunk *k);
void jit_block_free(struct jit *jit, struct jit_block *jb);
/* Is the memory used up? Then everything must be dropped, and jit_rewind called
 * when nobody runs old code. */
bool jit_full(const struct jit *jit);
void jit_rewind(struct jit *jit);
unsigned jit_rewinds(const struct jit *jit); /* how many there were */

/* Translated code leads by its jumps to what another vCPU has translated. The
 * processor keeps the order of that one's stores; the thread sanitizer, which does
 * not see the jumps, is told of it here. */
static inline void jit_seen(struct emu *c)
{
#ifdef SANITIZED
    (void)atomic_load_explicit(&c->vm->translations, memory_order_acquire);
#else
    (void)c;
#endif
}

/* Gives the thread's GS base back, when this run took it. */
void jit_off(struct emu *c);
/* Runs translated code from c->rip until it leaves. */
void jit_run(struct emu *c, struct block *b);

/* ---- page checks: fill.c ------------------------------------------------------ */

/* Forgets what this vCPU's checks remember: all; or not what is global. */
void jit_slots_flush(struct emu *c, bool global_too);
/* What lies on a page that INVLPG names: of translations of those kinds, by bits. */
void jit_slots_flush_page(struct emu *c, uint64_t lin, unsigned kinds);
/* Did checks at this instruction miss so often, each within so many instructions of the
 * one before, that they shall not remember but go through the soft TLB? */
#define JIT_SCATTER_INSNS 1000u
#define JIT_SCATTER_TIMES 24u
static inline bool jit_site_scattered(const struct jit_site *s)
{
    return LOOSE(s->misses) >= JIT_SCATTER_TIMES;
}
bool jit_scattered(const struct jit *jit, uint64_t phys);
void jit_scattered_set(struct jit *jit, uint64_t phys);

/* ---- shared by the translator's files ------------------------------------- */
struct asmbuf;
void emit_refill(struct asmbuf *a); /* comes back, or goes on behind itself */
const uint8_t *emit_string(struct asmbuf *a, enum jit_string form, unsigned size_log2, bool rep);
bool jit_space(struct jit *jit, struct asmbuf *a);
void jit_commit(struct jit *jit, const struct asmbuf *a);
uint32_t jit_slot_new(struct jit *jit);
/* Bits of emu.simd_live and simd_may: guest vectors, and x87 or MMX, in the host's
 * registers. */
#define JIT_SIMD_SSE 1u
#define JIT_SIMD_AVX 2u
#define JIT_SIMD_X87 4u
#define JIT_SIMD_VEC (JIT_SIMD_SSE | JIT_SIMD_AVX)
/* Fuel is given out in such portions; a poll between two is cheap. */
#define JIT_FUEL 1024u
uint32_t jit_do_simd_on(struct emu *c, struct jit_site *site);
uint32_t jit_do_callout(struct emu *c, struct jit_site *site);
/* sum: the linear address, or in 32-bit code what has its lower half. */
uint32_t jit_do_stored(struct emu *c, struct jit_site *site, uint64_t sum);
uint32_t jit_do_fill(struct emu *c, struct jit_site *site, uint64_t sum);
op_fn op_jit_return;

/* liveness: flags an instruction reads, surely writes. */
void flags_effect(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop, uint32_t *use,
                  uint32_t *def);
/* Which flags may be read at `off` of the page before they are written. Adds the
 * lines it looked at. */
uint32_t flags_live_at(const ZydisDecoder *dec, const uint8_t *page, unsigned off, uint64_t *lines);

#endif
