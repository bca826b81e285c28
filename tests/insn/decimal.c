/* SPDX-License-Identifier: MIT
 * The decimal adjustments, which 64-bit mode does not have: every AX, both carries, against the
 * manual's pseudo-code (SDM volume 2, AAA AAD AAM AAS DAA DAS). */
#include "insn.h"
#include <stdio.h>
#include <string.h>

struct result {
    uint16_t ax;
    uint32_t flags, defined;
};

static uint32_t szp(uint8_t v)
{
    return (v & 0x80 ? FL_SF : 0) | (v ? 0 : FL_ZF) | (__builtin_parity(v) ? 0 : FL_PF);
}

static struct result aaa_aas(uint16_t ax, bool af, int sign)
{
    bool adjust = (ax & 15) > 9 || af;
    if (adjust)
        ax = (uint16_t)(ax + sign * 0x106);
    return (struct result){ax & 0xff0f, adjust ? FL_AF | FL_CF : 0, FL_AF | FL_CF};
}

static struct result aaa(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)cf, (void)imm;
    return aaa_aas(ax, af, 1);
}

static struct result aas(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)cf, (void)imm;
    return aaa_aas(ax, af, -1);
}

static struct result aam(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)cf, (void)af;
    uint8_t al = (uint8_t)ax % imm, ah = (uint8_t)((uint8_t)ax / imm);
    return (struct result){(uint16_t)(ah << 8 | al), szp(al), FL_SF | FL_ZF | FL_PF};
}

static struct result aad(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)cf, (void)af;
    uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * imm);
    return (struct result){al, szp(al), FL_SF | FL_ZF | FL_PF};
}

static struct result daa(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)imm;
    uint8_t old = (uint8_t)ax, al = old;
    bool carry = false, adjust = (al & 15) > 9 || af;
    if (adjust) {
        carry = cf || al > 0xf9;
        al = (uint8_t)(al + 6);
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(al + 0x60);
        carry = true;
    }
    return (struct result){(uint16_t)((ax & 0xff00) | al),
                           szp(al) | (carry ? FL_CF : 0) | (adjust ? FL_AF : 0), FL_ARITH & ~FL_OF};
}

static struct result das(uint16_t ax, bool cf, bool af, uint8_t imm)
{
    (void)imm;
    uint8_t old = (uint8_t)ax, al = old;
    bool carry = false, adjust = (al & 15) > 9 || af;
    if (adjust) {
        carry = cf || al < 6;
        al = (uint8_t)(al - 6);
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(al - 0x60);
        carry = true;
    }
    return (struct result){(uint16_t)((ax & 0xff00) | al),
                           szp(al) | (carry ? FL_CF : 0) | (adjust ? FL_AF : 0), FL_ARITH & ~FL_OF};
}

static const struct adjust {
    const char *name;
    uint8_t bytes[2], len;
    struct result (*model)(uint16_t ax, bool cf, bool af, uint8_t imm);
} adjusts[] = {
    {"aaa", {0x37}, 1, aaa},          {"aas", {0x3f}, 1, aas},
    {"daa", {0x27}, 1, daa},          {"das", {0x2f}, 1, das},
    {"aam 10", {0xd4, 10}, 2, aam},   {"aam 7", {0xd4, 7}, 2, aam},
    {"aam 255", {0xd4, 255}, 2, aam}, {"aad 10", {0xd5, 10}, 2, aad},
    {"aad 201", {0xd5, 201}, 2, aad},
};

/* 32-bit code, AL from 0 to 255:
 *      mov  %ecx, %eax
 *      push %ebx
 *      popf
 *      <op>
 *      pushf
 *      pop  %edx
 *      mov  %ax, (%edi)
 *      mov  %dx, 2(%edi)
 *      add  $4, %edi
 *      inc  %cl
 *      jnz  the start
 */
static const uint8_t head[] = {0x89, 0xc8, 0x53, 0x9d};
static const uint8_t tail[] = {0x9c, 0x5a, 0x66, 0x89, 0x07, 0x66, 0x89, 0x57,
                               0x02, 0x83, 0xc7, 0x04, 0xfe, 0xc1, 0x75};

static void run_row(struct tally *t, const struct adjust *op, unsigned ah, uint32_t flags)
{
    static struct state start, engine;
    struct code code = {.ip = CODE_BASE, .loops = true};
    char text[256];
    memcpy(code.bytes, head, sizeof head);
    memcpy(code.bytes + sizeof head, op->bytes, op->len);
    code.len = (uint8_t)(sizeof head + op->len);
    memcpy(code.bytes + code.len, tail, sizeof tail);
    code.len += sizeof tail;
    code.bytes[code.len] = (uint8_t) - (code.len + 1);
    code.len++;
    memset(&start, 0, sizeof start);
    start.xsave[XS_HEADER] = 7;
    start.gpr[RCX] = ah << 8;
    start.gpr[RBX] = flags;
    start.gpr[RDI] = SCR_BASE + 0x1000;
    start.gpr[RSP] = SCR_BASE + 0x800;
    start.rflags = FL_IF | 2;
    t->cases += 256;
    if (!engine_place(&code) || !engine_run(&code, ENGINE_32, false, &start, &engine) ||
        engine.vector != VEC_NONE) {
        snprintf(text, sizeof text, "    %s: engine: %s\n", op->name, engine_why());
        report(t, &code, &start, text);
        return;
    }
    for (unsigned al = 0; al < 256; al++) {
        uint16_t got[2];
        memcpy(got, engine_mem() + 0x1000 + 4 * al, 4);
        struct result want =
            op->model((uint16_t)(ah << 8 | al), flags & FL_CF, flags & FL_AF, op->bytes[1]);
        if (got[0] == want.ax && !((got[1] ^ want.flags) & want.defined))
            continue;
        snprintf(text, sizeof text,
                 "    %s of %02x%02x, flags %03x: manual %04x %03x engine %04x %03x\n", op->name,
                 ah, al, (unsigned)flags, want.ax, (unsigned)want.flags, got[0], got[1]);
        report(t, &code, &start, text);
    }
}

void decimal_run(struct tally *t)
{
    static const uint32_t carries[] = {0, FL_CF, FL_AF, FL_CF | FL_AF};
    for (unsigned i = 0; i < sizeof adjusts / sizeof *adjusts; i++)
        for (unsigned ah = 0; ah < 256; ah += i < 4 ? 5 : 1)
            for (unsigned c = 0; c < 4; c++)
                run_row(t, &adjusts[i], ah, carries[c] | FL_IF | 2);
}
