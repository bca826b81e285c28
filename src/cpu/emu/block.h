/* SPDX-License-Identifier: MIT
 * Blocks of predecoded instructions, shared by the partition's vCPUs, found by
 * guest-physical address and mode. A block ends at a control transfer or at its
 * page's border; only a block of one instruction may reach into a second page. */
#ifndef EMU_BLOCK_H
#define EMU_BLOCK_H

#include "emu.h"

#define BLOCK_MAX_OPS 64
#define BLOCK_HOT     12                    /* entries after which most blocks are translated */
#define BLOCK_REACH   (BLOCK_MAX_OPS * 15u) /* bytes that many instructions may have */
#define NO_PAGE       UINT64_MAX

struct block {
    uint64_t phys;  /* of the first byte */
    uint64_t phys2; /* page of the bytes past the border; NO_PAGE: none */
    uint32_t mode;  /* MODE_* */
    uint16_t nops;  /* instructions; ops has one more when the last falls through */
    uint16_t bytes;
    _Atomic uint16_t hot;            /* times entered by the interpreter, about */
    uint16_t warm;                   /* so many, and it is translated */
    _Atomic(struct jit_block *) jit; /* its translation */
    uint64_t lines;                  /* of its first page that it depends on beyond its own bytes */
    _Atomic bool dead;
    uint64_t retired; /* epoch */
    struct block *next_hash;
    struct block *next_page[2]; /* on the lists of phys and phys2 */
    struct block *next_retired;
    struct arena *arena; /* that it is from */
    struct op op[];
};

struct jcache_ent {
    uint64_t lin;
    uint64_t tag;
    struct block *block;
    const void *code; /* where translated code goes on */
};
#define JCACHE_BITS 16
#define INSN_MAX    15 /* bytes of an instruction */
struct jcache {
    struct jcache_ent e[1u << JCACHE_BITS];
    /* The epoch until which this vCPU holds no references; UINT64_MAX: not running.
     * held is the same beyond a sleep, if nothing was freed since. */
    _Atomic uint64_t seen;
    uint64_t held, freed;
    uint64_t safe_gen; /* entries of this generation and later hold blocks that are there */
};

/* Recomputes the tag after a flush or a mode change. */
void jcache_retag(struct emu *c);

struct code_cache *code_cache_new(struct emu_vm *vm);
void code_cache_free(struct code_cache *cc);

/* This vCPU starts or stops holding references to blocks. */
void code_online(struct emu *c);
void code_offline(struct emu *c);
/* Before a vCPU is freed. */
void code_cpu_gone(struct emu *c);
/* Between blocks: lets retired blocks go when there are any. */
void code_quiesce(struct emu *c);

/* The block at c->rip, decoded if need be. Raises #PF, #GP, #UD of the fetch. */
struct block *block_lookup_slow(struct emu *c, uint64_t lin);
static inline unsigned jcache_index(uint64_t lin)
{
    return (unsigned)(lin ^ (lin >> JCACHE_BITS)) & ((1u << JCACHE_BITS) - 1);
}
static inline struct block *block_lookup(struct emu *c)
{
    uint64_t lin = c->rip + c->seg[SEG_CS].base;
    struct jcache_ent *e = &c->jcache->e[jcache_index(lin)];
    if (likely(e->lin == lin && e->tag == c->jtag &&
               !atomic_load_explicit(&e->block->dead, memory_order_relaxed)))
        return e->block;
    return block_lookup_slow(c, lin);
}

static inline struct jit_block *block_jit(const struct block *b)
{
    return atomic_load_explicit(&b->jit, memory_order_acquire);
}
/* One more entry: how many now. Several vCPUs may count at once; some get lost. */
static inline unsigned block_heat(struct block *b)
{
    uint16_t n = (uint16_t)(atomic_load_explicit(&b->hot, memory_order_relaxed) + 1u);
    atomic_store_explicit(&b->hot, n, memory_order_relaxed);
    return n;
}

/* A block became hot: translates it when that is possible now. */
void block_translate(struct emu *c, struct block *b);

/* mem->code_hit: drops blocks of those lines. */
void code_hit(void *ctx, uint64_t gpa_page, uint64_t lines);
/* Drops one block that this vCPU may be inside of. */
void code_drop(struct emu *c, struct block *b);
/* Drops every block (memory map changed). */
void code_drop_all(struct code_cache *cc);

/* decode.c: decodes up to BLOCK_MAX_OPS instructions from bytes (up to `avail`
 * in the first page, of `total` readable, more than avail when the second page
 * is there). Returns ops made, sets *used, *nops. */
struct decode_out {
    struct op op[BLOCK_MAX_OPS + 1];
    unsigned nops, used;
    bool needs_next_page;       /* the first instruction reaches past `total` */
    uint8_t bytes[BLOCK_REACH]; /* the guest's, read once: it may change them meanwhile */
};
void decoder_init(const struct emu *c, ZydisDecoder *dec); /* of the current mode */
void decode_block(struct emu *c, const uint8_t *bytes, unsigned avail, unsigned total,
                  unsigned max_ops, struct decode_out *out);

op_fn op_dead; /* in place of a dropped block's handlers: back to the dispatcher */

#endif
