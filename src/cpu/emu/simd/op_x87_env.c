/* SPDX-License-Identifier: MIT
 * FNSTENV, FLDENV, FNSAVE, FRSTOR: seven words or doublewords, in the form of
 * protected or of real mode (SDM volume 1, figures 8-9 to 8-12), then the eight
 * registers of ten bytes each. */
#include "fpu.h"
#include "simd.h"
#include "x87.h"

#define REGS_BYTES 80u
#define ENV16      14u
#define ENV32      28u

enum { W_FCW, W_FSW, W_FTW, W_FIP, W_FCS, W_FDP, W_FDS, W_COUNT };

static bool is_wide(const struct op *op)
{
    return op->msize == ENV32 || op->msize == ENV32 + REGS_BYTES;
}

static bool protected_form(const struct emu *c)
{
    return (c->cr0 & CR0_PE) && !(c->rflags & FL_VM);
}

/* Two bits a physical register: 0 valid, 1 zero, 2 special, 3 empty. */
static unsigned tag_of(const uint8_t *st)
{
    uint64_t mantissa = get_le64(st);
    unsigned exponent = get_le16(st + 8) & 0x7fff;
    if (exponent == 0x7fff)
        return 2;
    if (exponent == 0)
        return mantissa ? 2 : 1;
    return mantissa >> 63 ? 0 : 2;
}

static uint16_t full_tags(const struct emu *c)
{
    uint16_t tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        unsigned st = (r - fpu_top(c)) & 7;
        unsigned tag = c->fx[FX_FTW] >> r & 1 ? tag_of(c->fx + FX_ST + 16 * st) : 3;
        tags |= (uint16_t)(tag << (2 * r));
    }
    return tags;
}

static uint8_t short_tags(uint32_t full)
{
    uint8_t tags = 0;
    for (unsigned r = 0; r < 8; r++)
        if ((full >> (2 * r) & 3) != 3)
            tags |= (uint8_t)(1u << r);
    return tags;
}

/* The pointers: offset and selector, or in real mode a linear address whose
 * upper bits share a word with the opcode. */
static void put_pointers(const struct emu *c, uint32_t w[W_COUNT])
{
    uint64_t fip = get_le64(c->fx + FX_FIP), fdp = get_le64(c->fx + FX_FDP);
    uint32_t fop = get_le16(c->fx + FX_FOP) & 0x7ff;
    uint32_t cs = fip >> 32 & 0xffff, ds = fdp >> 32 & 0xffff;
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        cs = ds = 0; /* bits of the offset, not selectors */
    if (protected_form(c)) {
        w[W_FIP] = (uint32_t)fip;
        w[W_FCS] = cs | fop << 16;
        w[W_FDP] = (uint32_t)fdp;
        w[W_FDS] = ds | 0xffff0000;
        return;
    }
    uint32_t ip = (uint32_t)fip + (cs << 4), dp = (uint32_t)fdp + (ds << 4);
    w[W_FIP] = (ip & 0xffff) | 0xffff0000;
    w[W_FCS] = (ip >> 16 & 0xffff) << 12 | fop;
    w[W_FDP] = (dp & 0xffff) | 0xffff0000;
    w[W_FDS] = (dp >> 16 & 0xffff) << 12;
}

static void get_pointers(struct emu *c, const uint32_t w[W_COUNT], bool wide)
{
    uint64_t fip, fdp;
    uint32_t fop = 0;
    if (protected_form(c)) {
        fip = w[W_FIP] | (uint64_t)(w[W_FCS] & 0xffff) << 32;
        fdp = w[W_FDP] | (uint64_t)(w[W_FDS] & 0xffff) << 32;
        if (wide)
            fop = w[W_FCS] >> 16;
    } else {
        fip = (w[W_FIP] & 0xffff) | (uint64_t)(w[W_FCS] >> 12 & 0xffff) << 16;
        fdp = (w[W_FDP] & 0xffff) | (uint64_t)(w[W_FDS] >> 12 & 0xffff) << 16;
        fop = w[W_FCS];
    }
    put_le64(c->fx + FX_FIP, fip);
    put_le64(c->fx + FX_FDP, fdp);
    put_le16(c->fx + FX_FOP, (uint16_t)(fop & 0x7ff));
}

void x87_store_env(struct emu *c, const struct op *op, bool regs)
{
    uint8_t buf[ENV32 + REGS_BYTES];
    uint32_t w[W_COUNT];
    bool wide = is_wide(op);
    unsigned env = wide ? ENV32 : ENV16, len = env + (regs ? REGS_BYTES : 0);
    w[W_FCW] = get_le16(c->fx + FX_FCW) | 0xffff0000;
    w[W_FSW] = get_le16(c->fx + FX_FSW) | 0xffff0000;
    w[W_FTW] = full_tags(c) | 0xffff0000;
    put_pointers(c, w);
    for (unsigned i = 0; i < W_COUNT; i++) {
        if (wide)
            put_le32(buf + 4 * i, w[i]);
        else
            put_le16(buf + 2 * i, (uint16_t)w[i]);
    }
    for (unsigned i = 0; regs && i < 8; i++)
        memcpy(buf + env + 10 * i, c->fx + FX_ST + 16 * i, 10);
    emu_store(c, op, op_linear(c, op, len, true), buf, len);
    if (regs) {
        fpu_init(c);
    } else { /* all exceptions are masked now */
        put_le16(c->fx + FX_FCW, get_le16(c->fx + FX_FCW) | 0x3f);
        fpu_settle(c);
    }
}

void x87_load_env(struct emu *c, const struct op *op, bool regs)
{
    uint8_t buf[ENV32 + REGS_BYTES];
    uint32_t w[W_COUNT];
    bool wide = is_wide(op);
    unsigned env = wide ? ENV32 : ENV16, len = env + (regs ? REGS_BYTES : 0);
    emu_load(c, op, op_linear(c, op, len, false), buf, len);
    for (unsigned i = 0; i < W_COUNT; i++)
        w[i] = wide ? get_le32(buf + 4 * i) : get_le16(buf + 2 * i);
    unsigned top = fpu_top(c);
    put_le16(c->fx + FX_FCW, (uint16_t)w[W_FCW]);
    put_le16(c->fx + FX_FSW, (uint16_t)w[W_FSW]);
    if (!regs)
        fpu_rotate(c, top, fpu_top(c));
    c->fx[FX_FTW] = short_tags(w[W_FTW]);
    get_pointers(c, w, wide);
    for (unsigned i = 0; regs && i < 8; i++)
        memcpy(c->fx + FX_ST + 16 * i, buf + env + 10 * i, 10);
    fpu_settle(c);
}
