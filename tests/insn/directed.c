/* SPDX-License-Identifier: MIT
 * What random operands reach too seldom: every pair of bytes with and without carry, and long
 * string operations. */
#include "insn.h"
#include <stdio.h>
#include <string.h>

/* ---- 8-bit arithmetic, exhaustively ---------------------------------------------- */

/* A loop over all values of the second operand, run as guest code and as host code alike:
 *
 *      mov  %esi, %eax         first operand
 *      mov  %ecx, %ebx         second one (CL too: shift counts)
 *      push %r8                flags before
 *      popf
 *      <op>
 *      pushf
 *      pop  %rdx
 *      mov  %ax, (%rdi)        result
 *      mov  %dx, 2(%rdi)       flags
 *      add  $4, %rdi
 *      inc  %cl
 *      jnz  the start
 */
static const uint8_t loop_head[] = {0x89, 0xf0, 0x89, 0xcb, 0x41, 0x50, 0x9d};
static const uint8_t loop_tail[] = {0x9c, 0x5a, 0x66, 0x89, 0x07, 0x66, 0x89, 0x57,
                                    0x02, 0x48, 0x83, 0xc7, 0x04, 0xfe, 0xc1, 0x75};

struct byte_op {
    const char *name;
    uint8_t bytes[3], len;
    enum { ARITH, LOGIC, SHIFT, ROTATE, MUL, ONE } kind;
};
static const struct byte_op byte_ops[] = {
    {"add %bl, %al", {0x00, 0xd8}, 2, ARITH},
    {"adc %bl, %al", {0x10, 0xd8}, 2, ARITH},
    {"sub %bl, %al", {0x28, 0xd8}, 2, ARITH},
    {"sbb %bl, %al", {0x18, 0xd8}, 2, ARITH},
    {"cmp %bl, %al", {0x38, 0xd8}, 2, ARITH},
    {"and %bl, %al", {0x20, 0xd8}, 2, LOGIC},
    {"or %bl, %al", {0x08, 0xd8}, 2, LOGIC},
    {"xor %bl, %al", {0x30, 0xd8}, 2, LOGIC},
    {"test %bl, %al", {0x84, 0xd8}, 2, LOGIC},
    {"shl %cl, %al", {0xd2, 0xe0}, 2, SHIFT},
    {"shr %cl, %al", {0xd2, 0xe8}, 2, SHIFT},
    {"sar %cl, %al", {0xd2, 0xf8}, 2, SHIFT},
    {"rol %cl, %al", {0xd2, 0xc0}, 2, ROTATE},
    {"ror %cl, %al", {0xd2, 0xc8}, 2, ROTATE},
    {"rcl %cl, %al", {0xd2, 0xd0}, 2, ROTATE},
    {"rcr %cl, %al", {0xd2, 0xd8}, 2, ROTATE},
    {"mul %bl", {0xf6, 0xe3}, 2, MUL},
    {"imul %bl", {0xf6, 0xeb}, 2, MUL},
    {"inc %al", {0xfe, 0xc0}, 2, ONE},
    {"dec %al", {0xfe, 0xc8}, 2, ONE},
    {"neg %al", {0xf6, 0xd8}, 2, ONE},
    {"not %al", {0xf6, 0xd0}, 2, ONE},
    {"xadd %bl, %al", {0x0f, 0xc0, 0xd8}, 3, ARITH},
    {"cmpxchg %bl, %al", {0x0f, 0xb0, 0xd8}, 3, ARITH},
};

/* Flags that the manual defines, for this operation and count. */
static uint32_t defined(const struct byte_op *op, unsigned count)
{
    count &= 31;
    switch (op->kind) {
    case LOGIC: return ~FL_AF;
    case MUL: return ~(FL_AF | FL_PF | FL_SF | FL_ZF);
    case SHIFT:
        return ~((count ? FL_AF : 0) | (count > 1 ? FL_OF : 0) |
                 (count >= 8 && op->bytes[1] != 0xf8 ? FL_CF : 0));
    case ROTATE: return ~(count > 1 ? FL_OF : 0u);
    default: return ~0u;
    }
}

/* Where the tables of a run lie. */
#define TABLE_AT 0x1000u

static void byte_run(struct tally *t, const struct byte_op *op, unsigned a, uint64_t flags)
{
    static struct state start, host, engine;
    static uint8_t table[1024];
    struct code code = {.ip = CODE_BASE, .loops = true};
    memcpy(code.bytes, loop_head, sizeof loop_head);
    memcpy(code.bytes + sizeof loop_head, op->bytes, op->len);
    code.len = (uint8_t)(sizeof loop_head + op->len);
    memcpy(code.bytes + code.len, loop_tail, sizeof loop_tail);
    code.len += sizeof loop_tail;
    code.bytes[code.len] = (uint8_t) - (code.len + 1);
    code.len++;

    memset(&start, 0, sizeof start);
    start.xsave[XS_HEADER] = 7;
    start.xsave[XS_MXCSR] = 0x80;
    start.xsave[XS_MXCSR + 1] = 0x1f;
    start.gpr[RSI] = a;
    start.gpr[R8] = flags;
    start.gpr[RDI] = SCR_BASE + TABLE_AT;
    start.gpr[RSP] = SCR_BASE + 0x800;
    start.rflags = FL_IF | 2;
    native_place(&code);
    native_run(&code, &start, &host);
    memcpy(table, (uint8_t *)SCR_BASE + TABLE_AT, sizeof table);
    memset(engine_mem() + TABLE_AT, 0, sizeof table);
    t->cases += 256;
    char text[256];
    if (!engine_place(&code) || !engine_run(&code, ENGINE_64, false, &start, &engine) ||
        engine.vector != VEC_NONE) {
        snprintf(text, sizeof text, "    %s: engine: %s\n", op->name, engine_why());
        report(t, &code, &start, text);
        return;
    }
    const uint8_t *got = engine_mem() + TABLE_AT;
    for (unsigned b = 0; b < 256; b++) {
        uint16_t h[2], e[2];
        memcpy(h, table + 4 * b, 4);
        memcpy(e, got + 4 * b, 4);
        if (h[0] == e[0] && !((h[1] ^ e[1]) & defined(op, b)))
            continue;
        snprintf(
            text, sizeof text,
            "    %s with %02x, %02x, flags %04x: result, flags: host %04x %04x engine %04x %04x\n",
            op->name, a, b, (unsigned)flags, h[0], h[1], e[0], e[1]);
        report(t, &code, &start, text);
    }
}

static void bytes_exhaustive(struct tally *t)
{
    for (unsigned i = 0; i < sizeof byte_ops / sizeof *byte_ops; i++)
        for (unsigned a = 0; a < 256; a++) {
            uint64_t others = rnd() & FL_ARITH & ~FL_CF;
            byte_run(t, &byte_ops[i], a, others | FL_IF | 2);
            byte_run(t, &byte_ops[i], a, others | FL_IF | 2 | FL_CF);
        }
}

/* ---- long strings ------------------------------------------------------------------- */

/* One string instruction of each size with a repeat prefix, counts up to the data pages' size and
 * beyond their end, overlapping source and destination, both directions. */
static void string_case(struct tally *t, uint8_t opcode, unsigned size)
{
    static struct state start;
    static uint8_t mem[SCR_SIZE];
    struct code code = {.ip = CODE_BASE + 0x400 + rnd_below(64), .rep = true};
    code.bytes[code.len++] = one_in(2) ? 0xf3 : 0xf2;
    if (size == 2)
        code.bytes[code.len++] = 0x66;
    if (size == 8)
        code.bytes[code.len++] = 0x48;
    code.bytes[code.len++] = (uint8_t)(opcode | (size > 1));
    struct insn in;
    if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, code.bytes, code.len, &in))
        return;
    gen_case(&in, &code, &start, mem);
    code.rep = true;
    start.gpr[RCX] = rnd_below(SCR_SIZE / size);
    start.gpr[RSI] = SCR_BASE + rnd_below(SCR_SIZE);
    start.gpr[RDI] =
        one_in(2) ? start.gpr[RSI] + rnd_below(64) - 32 : SCR_BASE + rnd_below(SCR_SIZE);
    if (one_in(2)) /* comparisons that go on for long */
        memset(mem + rnd_below(SCR_SIZE / 2), (int)(start.gpr[RAX] = one_in(2) ? 0 : ~0ull),
               SCR_SIZE / 2);
    run_case(t, &in, &code, &start, mem, one_in(2));
}

static void strings(struct tally *t)
{
    static const uint8_t opcodes[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
    for (unsigned n = 0; n < 200; n++)
        for (unsigned i = 0; i < sizeof opcodes; i++)
            for (unsigned size = 1; size <= 8; size *= 2)
                string_case(t, opcodes[i], size);
}

/* ---- undefined opcodes ------------------------------------------------------------------ */

/* What the decoder does not know must be what the host does not know. */
static void undefined_case(void *ud, const uint8_t *bytes, unsigned n)
{
    static struct state start;
    static uint8_t mem[SCR_SIZE];
    struct code code = {.ip = CODE_BASE + 0x200, .len = (uint8_t)n};
    struct insn nop;
    insn_decode(ZYDIS_MACHINE_MODE_LONG_64, (const uint8_t *)"\x90", 1, &nop);
    gen_case(&nop, &code, &start, mem);
    start.gpr[RBX] = SCR_BASE + 0x1000;
    memcpy(code.bytes, bytes, n);
    run_case(ud, &nop, &code, &start, mem, false);
}

void undefined_run(struct tally *t)
{
    forms_undefined(undefined_case, t);
}

void directed_run(struct tally *t)
{
    rng_seed(11);
    bytes_exhaustive(t);
    strings(t);
}
