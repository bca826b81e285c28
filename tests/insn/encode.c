/* SPDX-License-Identifier: MIT
 * Encodings as records of their fields, so that every field can be walked or drawn at random
 * (SDM volume 2, 2.1-2.3 and 2.7). */
#include "insn.h"
#include <string.h>

static unsigned emit_address(const struct enc *e, uint8_t *out)
{
    unsigned n = 0, mod = e->modrm >> 6, rm = e->modrm & 7;
    out[n++] = e->modrm;
    if (mod == 3)
        return n;
    bool disp32 = mod == 2 || (mod == 0 && rm == 5);
    if (rm == 4) {
        out[n++] = e->sib;
        disp32 |= mod == 0 && (e->sib & 7) == 5;
    }
    unsigned bytes = disp32 ? 4 : mod == 1;
    memcpy(out + n, &e->disp, bytes);
    return n + bytes;
}

unsigned enc_emit(const struct enc *e, uint8_t out[32])
{
    unsigned n = 0;
    const uint8_t prefixes[] = {e->seg, e->p67, e->lock, e->p66, e->rep};
    for (unsigned i = 0; i < sizeof prefixes; i++)
        if (prefixes[i])
            out[n++] = prefixes[i];
    uint8_t rxb = (uint8_t)(!e->r << 7 | !e->x << 6 | !e->b << 5);
    switch (e->kind) {
    case ENC_LEGACY:
        if (e->rex)
            out[n++] = e->rex;
        if (e->map)
            out[n++] = 0x0f;
        if (e->map == 2)
            out[n++] = 0x38;
        if (e->map == 3)
            out[n++] = 0x3a;
        break;
    case ENC_VEX:
    case ENC_XOP:
        out[n++] = e->kind == ENC_VEX ? 0xc4 : 0x8f;
        out[n++] = rxb | e->map;
        out[n++] = (uint8_t)(e->w << 7 | (~e->vvvv & 15) << 3 | (e->l & 1) << 2 | e->pp);
        break;
    case ENC_EVEX:
        out[n++] = 0x62;
        out[n++] = rxb | 0x10 | e->map;
        out[n++] = (uint8_t)(e->w << 7 | (~e->vvvv & 15) << 3 | 4 | e->pp);
        out[n++] = (uint8_t)(e->l << 5 | 8 | e->rep); /* rep: its mask register */
        break;
    }
    out[n++] = e->opcode;
    if (e->has_modrm)
        n += emit_address(e, out + n);
    memcpy(out + n, e->tail, sizeof e->tail);
    return n + sizeof e->tail;
}

/* Zydis 4.0 gives a SIB byte without a base R13D for one when the address size is 32 bits and
 * REX.B is set. */
static void repair_sib(struct insn *in)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    if (!(zi->attributes & ZYDIS_ATTRIB_HAS_SIB) || zi->raw.modrm.mod != 0 || zi->raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            in->op[i].mem.base == ZYDIS_REGISTER_R13D)
            in->op[i].mem.base = ZYDIS_REGISTER_NONE;
}

bool insn_decode(ZydisMachineMode mode, const uint8_t *bytes, unsigned n, struct insn *in)
{
    static ZydisDecoder decoders[ZYDIS_MACHINE_MODE_MAX_VALUE + 1];
    static bool ready[ZYDIS_MACHINE_MODE_MAX_VALUE + 1];
    if (!ready[mode]) {
        ZydisStackWidth width = mode == ZYDIS_MACHINE_MODE_LONG_64          ? ZYDIS_STACK_WIDTH_64
                                : mode == ZYDIS_MACHINE_MODE_LONG_COMPAT_32 ? ZYDIS_STACK_WIDTH_32
                                                                            : ZYDIS_STACK_WIDTH_16;
        if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoders[mode], mode, width)))
            return false;
        ready[mode] = true;
    }
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&decoders[mode], bytes, n < 15 ? n : 15, &in->zi, in->op)))
        return false;
    repair_sib(in);
    return true;
}
