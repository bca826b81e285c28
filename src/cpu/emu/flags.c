/* SPDX-License-Identifier: MIT
 * Arithmetic flags from the operation that made them (SDM volume 1, 3.4.3.1). */
#include "flags.h"

static uint32_t parity(uint64_t r)
{
    return __builtin_parity((unsigned)r & 0xff) ? 0 : FL_PF;
}

uint32_t flags_arith(const struct emu *c)
{
    if (c->cc_op == CC_FLAGS)
        return (uint32_t)c->cc_src & FL_ARITH;
    if (c->cc_op == CC_HOST)
        return (uint32_t)(c->cc_src >> 8 & 0xd5) | (c->cc_src & 1 ? FL_OF : 0);

    unsigned bits = 8u << (c->cc_op & 3);
    uint64_t mask = bits == 64 ? UINT64_MAX : BIT64(bits) - 1;
    uint64_t top = BIT64(bits - 1);
    uint64_t r = c->cc_dst & mask, s = c->cc_src, a;
    uint32_t f = parity(r) | (r == 0 ? FL_ZF : 0) | (r & top ? FL_SF : 0);

    switch (c->cc_op & ~3u) {
    case CC_ADD:
        s &= mask;
        a = (r - s) & mask;
        f |= r < s ? FL_CF : 0;
        f |= (a ^ s ^ r) & 0x10;
        f |= (~(a ^ s) & (a ^ r) & top) ? FL_OF : 0;
        break;
    case CC_SUB:
        s &= mask;
        a = (r + s) & mask;
        f |= a < s ? FL_CF : 0;
        f |= (a ^ s ^ r) & 0x10;
        f |= ((a ^ s) & (a ^ r) & top) ? FL_OF : 0;
        break;
    case CC_LOGIC: break;
    case CC_INC:
        f |= (uint32_t)s & FL_CF;
        f |= (r & 0xf) == 0 ? FL_AF : 0;
        f |= r == top ? FL_OF : 0;
        break;
    case CC_DEC:
        f |= (uint32_t)s & FL_CF;
        f |= (r & 0xf) == 0xf ? FL_AF : 0;
        f |= r == top - 1 ? FL_OF : 0;
        break;
    case CC_SHL:
        f |= s & top ? FL_CF : 0;
        f |= (s ^ r) & top ? FL_OF : 0;
        break;
    case CC_SAR:
        f |= s & 1 ? FL_CF : 0;
        f |= (s ^ r) & top ? FL_OF : 0;
        break;
    default: break;
    }
    return f;
}

bool flags_cond(const struct emu *c, unsigned cond)
{
    uint32_t f = flags_arith(c);
    bool v;
    switch (cond >> 1) {
    case 0: v = f & FL_OF; break;
    case 1: v = f & FL_CF; break;
    case 2: v = f & FL_ZF; break;
    case 3: v = f & (FL_CF | FL_ZF); break;
    case 4: v = f & FL_SF; break;
    case 5: v = f & FL_PF; break;
    case 6: v = !(f & FL_SF) != !(f & FL_OF); break;
    default: v = (f & FL_ZF) || (!(f & FL_SF) != !(f & FL_OF)); break;
    }
    return v != (cond & 1);
}
