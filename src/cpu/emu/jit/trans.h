/* SPDX-License-Identifier: MIT
 * One translation in progress. */
#ifndef JIT_TRANS_H
#define JIT_TRANS_H

#include "../flags.h"
#include "asm.h"
#include "encode.h"
#include "jit.h"

#define TRANS_MAX 96
#define OWN_CHUNK 2048u /* bytes */

enum trans_kind {
    T_CALLOUT, /* the interpreter does it */
    T_END,     /* so, and it ends the block */
    T_COPY,    /* the same instruction with other registers */
    T_VECTOR,  /* the same, and it needs the guest's vectors in the host's registers */
    T_LEA,
    T_PUSH,
    T_POP,
    T_JCC,
    T_JMP,
    T_CALL,
    T_RET,
    T_JMP_IND,
    T_CALL_IND,
    T_NOP
};

struct tinsn {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    const uint8_t *bytes;
    struct op op; /* the interpreter's, with offsets from the page's start */
    unsigned off; /* in the page */
    enum trans_kind kind;
    uint32_t use, def, live_before, live_after, live_taken;
};

/* Where the arithmetic flags are. */
enum flags_place { IN_MEMORY, IN_HOST };

/* Code out of the way: a slow path, written after the block. */
struct cold {
    uint8_t *from[3];    /* jumps that lead here */
    const uint8_t *back; /* where it goes on */
    struct jit_site *site;
    unsigned insn;
    bool reload; /* flags to the host's before it goes on */
    enum { COLD_CALLOUT, COLD_STORED, COLD_TAKEN, COLD_SIMD } kind;
    enum flags_place flags;
    uint8_t simd; /* JIT_SIMD_*: live in the main path */
};

struct trans {
    struct emu *c;
    struct block *block;
    const struct jit_gates *gates;
    struct asmbuf a;
    uint8_t *entry, *poll_disp;
    uint64_t *lines;
    unsigned start, end; /* offsets in the page */
    unsigned n;
    bool failed, ended, undecodable;
    enum flags_place flags;
    uint8_t simd; /* JIT_SIMD_* that are live for sure */
    struct jit_chunk *owned;
    size_t chunk_left;
    unsigned ncold;
    struct cold cold[3 * TRANS_MAX];
    uint8_t page[4096]; /* the guest's, read once */
    struct tinsn insn[TRANS_MAX];
};

enum trans_kind trans_kind(const struct tinsn *ti);
bool trans_may_fault(const struct tinsn *ti);
void trans_insn(struct trans *t, struct tinsn *ti, unsigned i);
/* Leaves for an offset of the page (may be outside it), `done` instructions of
 * the block done. */
void trans_exit(struct trans *t, unsigned done, int64_t off, uint32_t live);
void trans_cold(struct trans *t);

/* mem.c */
bool address_possible(const struct tinsn *ti, const ZydisDecodedOperand *m);
/* to = linear address of the operand; may use r10 and r11. */
bool put_address(struct trans *t, const struct tinsn *ti, const ZydisDecodedOperand *m,
                 unsigned to);
/* r10 linear -> host pointer, r11 the TLB entry; jumps to cold code on a miss.
 * guard: also when the page holds code. Clobbers r8 and flags. */
struct cold *put_check(struct trans *t, unsigned i, bool write, bool guard, unsigned size);
/* After a store: r11 the TLB entry, r10 the host pointer. */
void put_stored(struct trans *t, unsigned i, unsigned size);
struct jit_site *trans_site(struct trans *t, unsigned i);
void *trans_own(struct trans *t, size_t size);
struct cold *trans_new_cold(struct trans *t, unsigned i);

/* flags to and from memory */
void put_flags_save(struct trans *t);
void put_flags_load(struct trans *t);
/* Before code that clobbers flags of which `live` matter. */
static inline void spill_flags(struct trans *t, uint32_t live)
{
    if (t->flags == IN_HOST && live)
        put_flags_save(t);
    t->flags = IN_MEMORY;
}
static inline void need_flags(struct trans *t, uint32_t live)
{
    if (t->flags == IN_MEMORY && live)
        put_flags_load(t);
    t->flags = IN_HOST;
}

#endif
