/* SPDX-License-Identifier: MIT
 * x87 and vector state outside of instructions: the FXSAVE64 image in emu.fx
 * (SDM volume 1, 10.5.1) and the XSAVE area.
 *
 * FIP and FDP are kept as the image has them: 64-bit offsets for instructions of
 * 64-bit code, else a 32-bit offset with the selector in bits 47:32. */
#ifndef EMU_FPU_H
#define EMU_FPU_H

#include "../emu.h"

enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4, /* one bit a physical register: not empty */
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    FX_ST = 32, /* ST0 to ST7, 16 bytes each */
    FX_XMM = 160,
    FX_SIZE = 512,
    XS_BV = 512, /* XSTATE_BV and XCOMP_BV: the XSAVE header */
    XS_COMP = 520,
    XS_AVX = 576, /* also in the compacted format: nothing comes before it */
    XS_AVX_LEN = 256,
    XS_SIZE = XS_AVX + XS_AVX_LEN,
    XS_PKRU_LEN = 8 /* 4 of them reserved */
};
#define XS_X87     1u
#define XS_SSE     2u
#define XS_YMM     4u
#define XS_FPU     7u /* what struct vc_fpu holds */
#define XS_PKRU    0x200u
#define XS_ALL     (XS_FPU | XS_PKRU)
#define XS_COMPACT BIT64(63)

/* PKRU comes behind the YMM registers, in the compacted format in their place
 * where the area has none. */
static inline unsigned xs_pkru(bool compact, uint64_t parts)
{
    return compact && !(parts & XS_YMM) ? XS_AVX : XS_SIZE;
}
/* The size of an area that holds such parts. */
static inline unsigned xs_size(uint64_t parts, bool compact)
{
    if (parts & XS_PKRU)
        return xs_pkru(compact, parts) + XS_PKRU_LEN;
    return parts & XS_YMM ? XS_SIZE : XS_AVX;
}

#define MXCSR_VALID 0xffffu /* MXCSR_MASK: the bits that may be set */
#define MXCSR_INIT  0x1f80u

static inline unsigned fpu_top(const struct emu *c)
{
    return get_le16(c->fx + FX_FSW) >> 11 & 7;
}
/* The image holds registers by their place in the stack: when the top changes
 * for itself they change places, so that the physical ones stay. */
void fpu_rotate(struct emu *c, unsigned from, unsigned to);

/* FNINIT (SDM volume 1, 8.1.1); registers keep their contents. */
void fpu_init(struct emu *c);
/* RESET (SDM 10.1.1, table 10-1): x87, vector registers, MXCSR. */
void fpu_reset(struct emu *c);
/* After the status or control word was loaded: ES and B say whether an unmasked
 * exception is flagged; bits that do not exist are cleared. */
void fpu_settle(struct emu *c);
/* Parts of the state that are not in their initial configuration (XINUSE). */
unsigned fpu_in_use(const struct emu *c);
void fpu_init_parts(struct emu *c, unsigned parts, unsigned nregs);

/* An FXSAVE or XSAVE image of the parts in `parts`; wide: 64-bit pointers. */
void fpu_put_x87(const struct emu *c, uint8_t *area, bool wide);
void fpu_get_x87(struct emu *c, const uint8_t *area, bool wide);

/* The backend's view: vc_fpu_get, vc_fpu_set. */
void emu_fpu_get(struct emu *c, struct vc_fpu *out);
int emu_fpu_set(struct emu *c, const struct vc_fpu *in);

#endif
