/* SPDX-License-Identifier: MIT
 * Writing instructions, and knowing which flags they leave open. */
#include "gen.h"
#include <string.h>

#define ROOM 256u /* at the end of the code */

uint64_t rnd_int(struct rng *r)
{
    unsigned shift = below(r, 64);
    switch (below(r, 8)) {
    case 0: return below(r, 4);
    case 1: return ~(uint64_t)below(r, 3);
    case 2: return 1ull << shift;
    case 3: return (1ull << shift) - 1;
    case 4: return ~0ull << shift;
    case 5: return 0x8000000080008080ull >> (8 * below(r, 3));
    case 6: return rnd(r) >> shift;
    default: return rnd(r);
    }
}

void emit_raw(struct gen *g, const void *bytes, unsigned n)
{
    if (g->at + n + ROOM > CODE_SIZE) {
        g->full = true;
        return;
    }
    memcpy(g->p->code + g->at, bytes, n);
    g->at += n;
}

void emit_bytes(struct gen *g, const void *bytes, unsigned n)
{
    unsigned at = g->at;
    emit_raw(g, bytes, n);
    if (!g->full)
        g->p->lens[at] = (uint8_t)n;
}

void emit_rex_bytes(struct gen *g, const uint8_t *bytes, unsigned n)
{
    uint8_t b[16];
    unsigned at = 0;
    while (at + 1 < n && (bytes[at] == 0x66 || bytes[at] == 0xf2 || bytes[at] == 0xf3))
        at++;
    if (!g->p->narrow || (bytes[at] & 0xf0) != 0x40) {
        emit_bytes(g, bytes, n);
        return;
    }
    memcpy(b, bytes, at);
    memcpy(b + at, bytes + at + 1, n - at - 1);
    emit_bytes(g, b, n - 1);
}

request req(ZydisMnemonic m)
{
    request q;
    memset(&q, 0, sizeof q);
    q.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
    q.allowed_encodings = ZYDIS_ENCODABLE_ENCODING_LEGACY | ZYDIS_ENCODABLE_ENCODING_VEX;
    q.mnemonic = m;
    return q;
}

void add_operand(request *q, operand o)
{
    q->operands[q->operand_count++] = o;
}

operand reg_op(unsigned reg, unsigned size)
{
    operand o;
    memset(&o, 0, sizeof o);
    o.type = ZYDIS_OPERAND_TYPE_REGISTER;
    switch (size) {
    case 1: /* after the low four of Zydis' 8-bit registers come AH..BH */
        o.reg.value = (ZydisRegister)(ZYDIS_REGISTER_AL + (reg < 4 ? reg : reg + 4));
        break;
    case 2: o.reg.value = (ZydisRegister)(ZYDIS_REGISTER_AX + reg); break;
    case 4: o.reg.value = (ZydisRegister)(ZYDIS_REGISTER_EAX + reg); break;
    default: o.reg.value = (ZydisRegister)(ZYDIS_REGISTER_RAX + reg); break;
    }
    return o;
}

operand high_op(unsigned reg)
{
    operand o = reg_op(0, 1);
    o.reg.value = (ZydisRegister)(ZYDIS_REGISTER_AH + reg);
    return o;
}

operand imm_op(int64_t v)
{
    operand o;
    memset(&o, 0, sizeof o);
    o.type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
    o.imm.s = v;
    return o;
}

operand rip_op(struct gen *g, unsigned where, unsigned size)
{
    operand o;
    memset(&o, 0, sizeof o);
    o.type = ZYDIS_OPERAND_TYPE_MEMORY;
    o.mem.base = ZYDIS_REGISTER_RIP;
    o.mem.displacement = (int64_t)(g->p->window + where);
    if (g->p->narrow) {
        o.mem.base = ZYDIS_REGISTER_NONE;
        o.mem.displacement = (int32_t)(g->p->window + where);
    }
    o.mem.size = (uint16_t)size;
    return o;
}

/* ---- flags --------------------------------------------------------------------- */

/* Flags that an instruction leaves undefined, `def`: defines. What the manual
 * says of shifts depends on the count. */
static uint32_t leaves_open(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zop,
                            uint32_t *def)
{
    const ZydisAccessedFlags *f = zi->cpu_flags;
    uint32_t open = f ? f->undefined & FL_ARITH : 0;
    *def = f ? (f->modified | f->set_0 | f->set_1) & FL_ARITH & ~open : 0;
    bool rotate = false;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: rotate = true; __attribute__((fallthrough));
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: break;
    default:
        if (zi->attributes &
            (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
            *def = 0;
        return open;
    }
    const ZydisDecodedOperand *count =
        zi->mnemonic == ZYDIS_MNEMONIC_SHLD || zi->mnemonic == ZYDIS_MNEMONIC_SHRD ? &zop[2]
                                                                                   : &zop[1];
    uint32_t all = rotate ? FL_CF | FL_OF : FL_ARITH;
    unsigned n = (unsigned)count->imm.value.u & (zi->operand_width == 64 ? 63 : 31);
    if (count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        *def = 0;
        return (rotate ? FL_OF : FL_OF | FL_AF) | (zi->operand_width < 32 ? FL_CF : 0);
    }
    if (!n) {
        *def = 0;
        return 0;
    }
    open = (n == 1 ? 0 : FL_OF) | (rotate ? 0 : FL_AF) |
           (n >= zi->operand_width && !rotate ? FL_CF : 0);
    *def = all & ~open;
    return open;
}

void settle(struct gen *g, uint32_t flags)
{
    if (!(g->undef & flags))
        return;
    unsigned a = any_reg(g), b = any_reg(g);
    switch (below(&g->r, 3)) {
    case 0: /* cmp r64, r64 */
        EMIT(g, 0x48 | (b >> 3 << 2) | a >> 3, 0x39, 0xc0 | (b & 7) << 3 | (a & 7));
        break;
    case 1: /* cmp r32, imm8 */
        EMIT(g, 0x40 | a >> 3, 0x83, 0xf8 | (a & 7), (uint8_t)rnd(&g->r));
        break;
    default: /* cmp r8, r8 */
        EMIT(g, 0x40 | (b >> 3 << 2) | a >> 3, 0x38, 0xc0 | (b & 7) << 3 | (a & 7));
        break;
    }
    g->undef = 0;
}

void settle_flow(struct gen *g)
{
    settle(g, FL_ARITH & ~FL_AF);
    g->undef = FL_AF;
}

/* ---- instructions ----------------------------------------------------------------- */

/* Prefixes that mean nothing (CS does in 32-bit code), another direction of a register
 * pair. */
static unsigned vary(struct gen *g, uint8_t *b, unsigned n, const ZydisDecodedInstruction *zi)
{
    bool modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    bool rip = modrm && zi->raw.modrm.mod == 0 && zi->raw.modrm.rm == 5;
    if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return n;
    if (modrm && zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && zi->raw.modrm.mod == 3 &&
        ((zi->opcode & 0xc4) == 0 || (zi->opcode & 0xfc) == 0x88) && one_in(&g->r, 3)) {
        b[zi->raw.modrm.offset - 1] ^= 2;
        b[zi->raw.modrm.offset] = (uint8_t)(0xc0 | zi->raw.modrm.rm << 3 | zi->raw.modrm.reg);
        if (zi->raw.rex.offset || zi->attributes & ZYDIS_ATTRIB_HAS_REX)
            b[zi->raw.rex.offset] =
                (uint8_t)(0x40 | zi->raw.rex.W << 3 | zi->raw.rex.B << 2 | zi->raw.rex.R);
    }
    if (!rip && n < 14 && zi->meta.branch_type == ZYDIS_BRANCH_TYPE_NONE && one_in(&g->r, 24)) {
        static const uint8_t idle[] = {0x3e, 0x26, 0x36, 0x2e};
        if (zi->attributes & ZYDIS_ATTRIB_HAS_SEGMENT)
            return n;
        memmove(b + 1, b, n);
        b[0] = idle[below(&g->r, g->p->narrow ? 3 : 4)];
        return n + 1;
    }
    return n;
}

static bool encode(struct gen *g, const request *q, uint8_t *b, unsigned *n,
                   ZydisDecodedInstruction *zi, ZydisDecodedOperand *zop)
{
    static ZydisDecoder dec;
    request copy = *q;
    ZyanUSize len = 16;
    bool narrow = g->p->narrow;
    if (narrow) {
        narrow_operands(&copy);
        copy.machine_mode = ZYDIS_MACHINE_MODE_LEGACY_32;
    }
    ZydisDecoderInit(&dec, narrow ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LONG_64,
                     narrow ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
    if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstructionAbsolute(&copy, b, &len, code_ip(g, g->at))))
        return false;
    *n = (unsigned)len;
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, b, len, zi, zop));
}

bool emit(struct gen *g, request *q, bool may_skip)
{
    uint8_t b[16];
    unsigned n;
    uint32_t def;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    if (!encode(g, q, b, &n, &zi, zop))
        return false;
    if (zi.cpu_flags && zi.cpu_flags->tested & g->undef) {
        settle(g, zi.cpu_flags->tested);
        if (!encode(g, q, b, &n, &zi, zop))
            return false;
    }
    uint32_t open = leaves_open(&zi, zop, &def);
    for (unsigned i = 0; g->skips && i < zi.operand_count; i++)
        may_skip |= zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
    n = vary(g, b, n, &zi);
    emit_bytes(g, b, n);
    g->undef = (may_skip ? g->undef : g->undef & ~def) | open;
    return true;
}

bool emit2(struct gen *g, ZydisMnemonic m, operand a, operand b)
{
    request q = req(m);
    add_operand(&q, a);
    add_operand(&q, b);
    return emit(g, &q, false);
}

void emit_mov_imm64(struct gen *g, unsigned reg, uint64_t v)
{
    uint8_t b[10] = {0x48 | reg >> 3, 0xb8 | (reg & 7)};
    memcpy(b + 2, &v, 8);
    if (g->p->narrow)
        emit_bytes(g, b + 1, 5);
    else
        emit_bytes(g, b, 10);
}

void emit_lea(struct gen *g, unsigned reg, unsigned where)
{
    if (g->p->narrow) {
        emit_mov_imm64(g, reg, g->p->window + where);
        return;
    }
    int32_t disp = (int32_t)where - (int32_t)(W_CODE + g->at + 7);
    uint8_t b[7] = {0x48 | (reg >> 3 << 2), 0x8d, 0x05 | (reg & 7) << 3};
    memcpy(b + 3, &disp, 4);
    emit_bytes(g, b, 7);
}

/* ---- jumps --------------------------------------------------------------------------- */

unsigned emit_jump(struct gen *g, int cond, bool near)
{
    settle_flow(g);
    if (near) {
        uint8_t b[6] = {0x0f, 0x80 | (uint8_t)cond};
        unsigned n = 6;
        if (cond < 0)
            b[0] = 0xe9, n = 5;
        emit_bytes(g, b, n);
        return g->at << 1 | 1;
    }
    EMIT(g, cond < 0 ? 0xeb : 0x70 | cond, 0);
    return g->at << 1;
}

void close_jump(struct gen *g, unsigned token)
{
    unsigned from = token >> 1;
    settle_flow(g);
    if (g->full)
        return;
    int32_t disp = (int32_t)(g->at - from);
    if (token & 1)
        memcpy(g->p->code + from - 4, &disp, 4);
    else if (disp < 128)
        g->p->code[from - 1] = (uint8_t)disp;
}

void emit_jump_back(struct gen *g, int cond, unsigned to)
{
    settle_flow(g);
    int32_t disp = (int32_t)to - (int32_t)(g->at + 2);
    if (disp >= -128 && !one_in(&g->r, 4)) {
        EMIT(g, cond < 0 ? 0xeb : 0x70 | cond, (uint8_t)disp);
        return;
    }
    uint8_t b[6] = {0x0f, 0x80 | (uint8_t)cond};
    unsigned n = cond < 0 ? 5 : 6;
    if (cond < 0)
        b[0] = 0xe9;
    disp = (int32_t)to - (int32_t)(g->at + n);
    memcpy(b + n - 4, &disp, 4);
    emit_bytes(g, b, n);
}

void emit_call(struct gen *g, unsigned to)
{
    settle_flow(g);
    uint8_t b[5] = {0xe8};
    int32_t disp = (int32_t)to - (int32_t)(g->at + 5);
    memcpy(b + 1, &disp, 4);
    emit_bytes(g, b, 5);
}
