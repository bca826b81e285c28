/* SPDX-License-Identifier: MIT
 * The translator: 64-bit guest code to host code of the same instruction set.
 *
 * While translated code runs, guest registers live in host registers: the same
 * number for rax rcx rdx rbx rbp rsi rdi r12-r15, host r9 for the guest's rsp;
 * the guest's r8-r11 stay in struct emu, because the host's r8, r10, r11 are
 * scratch. The host's rsp is the host's. GS base is struct emu.
 *
 * Arithmetic flags are in the host's RFLAGS between instructions of a block
 * where they are live, and in memory (cc_op == CC_HOST) at every block's entry
 * and exit. */
#ifndef JIT_H
#define JIT_H

#include "../block.h"
#include "../emu.h"

struct jit;

/* Where translated code leaves to. */
struct jit_gates {
    void (*enter)(struct emu *c, const uint8_t *code);
    const uint8_t *leave;       /* regs to memory, back to C; c->rip is set */
    const uint8_t *leave_r10;   /* the same with c->rip = r10 */
    const uint8_t *lookup;      /* goes on at guest IP r10 through the jump cache */
    const uint8_t *callout;     /* r11: struct jit_site; called */
    const uint8_t *stored;      /* after a store to a page with code: r11 site, r10 linear */
    const uint8_t *simd_on;     /* r11 site: vectors into the host registers, when allowed */
    const uint8_t *simd_resume; /* again, after a call of C; they were allowed before */
    const uint8_t *link;        /* r11: struct jit_link; c->rip is set */
};

/* An instruction that is interpreted from translated code: a block of one whose
 * end comes back. */
struct jit_site {
    struct block *parent;
    uint16_t before;   /* instructions of the block done before it */
    uint16_t size;     /* of its store */
    struct block unit; /* last: has two ops */
};

/* A direct jump that may be linked: its displacement, writable. */
struct jit_link {
    uint8_t *disp;
};

struct jit_chunk {
    struct jit_chunk *next;
    uint64_t pad;
};

/* What a translated block owns. */
struct jit_block {
    const uint8_t *code;
    uint8_t *entry;          /* writable alias of code */
    const uint8_t *dead;     /* where the entry goes when the block is dropped */
    struct jit_chunk *owned; /* sites and links, freed with it */
};

struct jit *jit_new(void);
void jit_free(struct jit *jit);
const struct jit_gates *jit_gates(const struct jit *jit);

/* Translates a block; the code cache's lock is held. page: where its page is.
 * Adds the lines of the page that it depends on. NULL: not possible now. */
struct jit_block *jit_translate(struct emu *c, struct block *b, const uint8_t *page,
                                uint64_t *lines);
struct trans *trans_new(void);
void jit_block_kill(struct jit_block *jb);
void jit_chunks_free(struct jit_chunk *k);
void jit_block_free(struct jit_block *jb);
/* Is the memory used up? Then everything must be dropped, and jit_rewind called
 * when nobody runs old code. */
bool jit_full(const struct jit *jit);
void jit_rewind(struct jit *jit);

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

/* ---- shared by the translator's files ------------------------------------- */
struct asmbuf;
bool jit_space(struct jit *jit, struct asmbuf *a);
void jit_commit(struct jit *jit, const struct asmbuf *a);
/* Bits of emu.simd_live and simd_may. */
#define JIT_SIMD_SSE 1u
#define JIT_SIMD_AVX 2u
uint32_t jit_do_simd_on(struct emu *c, struct jit_site *site);
uint32_t jit_do_callout(struct emu *c, struct jit_site *site);
uint32_t jit_do_stored(struct emu *c, struct jit_site *site, uint64_t lin);
op_fn op_jit_return;

/* liveness: flags an instruction reads, surely writes. */
void flags_effect(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop, uint32_t *use,
                  uint32_t *def);
/* Which flags may be read at `off` of the page before they are written. Adds the
 * lines it looked at. */
uint32_t flags_live_at(const uint8_t *page, unsigned off, uint64_t *lines);

#endif
