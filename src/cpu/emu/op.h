/* SPDX-License-Identifier: MIT
 * The predecoded instruction. Blocks are arrays of these; one handler an
 * instruction, each ending in NEXT or, for the last of a block, returning to
 * the dispatcher with c->rip set. */
#ifndef EMU_OP_H
#define EMU_OP_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

struct emu;
struct op;
typedef void op_fn(struct emu *c, const struct op *op);

struct op {
    op_fn *fn;
    uint64_t imm;      /* immediate, sign-extended to 64 bits; relative branches: see `disp` */
    int64_t disp;      /* displacement; for IP-relative operands it counts from the block's start */
    const void *aux;   /* the handler's own: a thunk, a table */
    uint16_t off;      /* of this instruction from the block's first byte */
    uint16_t msize;    /* bytes of the memory operand; 0: none */
    uint16_t mnemonic; /* ZydisMnemonic */
    uint8_t len;       /* bytes of the instruction */
    /* Registers as byte offsets into emu.gpr (AH is 1): see R8()..R64(). */
    uint8_t dst, src, src2;
    uint8_t base, index; /* of the memory operand; absent: R_ZERO; IP: R_IPB */
    uint8_t scale;       /* shift count 0-3 */
    uint8_t seg;         /* SEG_*: after overrides; SS for rsp/rbp bases */
    uint8_t opsize;      /* operand size in bytes: 1, 2, 4, 8 */
    uint8_t asize;       /* address size in bytes: 2, 4, 8 */
    uint8_t flags;       /* OP_* */
};
#define OP_LOCK  0x01u
#define OP_REP   0x02u /* F3 before a string instruction */
#define OP_REPNE 0x04u /* F2 before a string instruction */
#define OP_END   0x08u /* the handler does not go on to the next op */
#define OP_USER1 0x40u /* the handler's own */
#define OP_USER2 0x80u

/* While decoding: what Zydis says, beside the op that is filled. The decoder
 * has already set len, off, msize, base, index, scale, disp, seg, opsize, asize,
 * flags, mnemonic, and imm of the first immediate operand (sign-extended when
 * signed). A selector sets fn, and dst/src/src2/aux as its handler wants. */
struct insn {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    const uint8_t *bytes;
    unsigned code_size; /* 2, 4, 8: real/16-bit, 32-bit, 64-bit */
    bool ss32;          /* stack address size when not 64-bit: 4 rather than 2 */
    bool ends_block;    /* set by a selector whose handler does not NEXT */
};

/* Selectors: each knows a family of mnemonics; false: not mine. Asked in this
 * order at decode time; what nobody takes raises #UD. */
bool select_int(struct emu *c, struct insn *in,
                struct op *op); /* integer, branches, stack, strings */
bool select_io(struct emu *c, struct insn *in, struct op *op); /* IN OUT INS OUTS */
bool select_far(struct emu *c, struct insn *in,
                struct op *op); /* segments, far transfers, INT, IRET, SYSCALL */
bool select_sys(struct emu *c, struct insn *in,
                struct op *op); /* CRs, MSRs, CPUID, tables, TSC, HLT */
bool select_simd(struct emu *c, struct insn *in,
                 struct op *op); /* x87, MMX, SSE, AVX, XSAVE, and what runs as a thunk */

/* A general register's byte offset for a Zydis register (AH..BH included). */
uint8_t op_gpr(ZydisRegister reg);

/* A handler may be replaced by op_dead meanwhile. */
static inline op_fn *op_handler(const struct op *op)
{
    return __atomic_load_n(&op->fn, __ATOMIC_RELAXED);
}
#define NEXT return op_handler(op + 1)(c, op + 1)

#endif
