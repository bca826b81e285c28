/* SPDX-License-Identifier: MIT
 * 32-bit code, where CS, DS, ES and SS are flat (MODE_FLAT): an offset is a linear
 * address, and what is added up for one wraps at 4 GiB. The upper halves of the guest's
 * eight registers are 0.
 *
 * Addresses are added up in 64 bits all the same: a place's slot remembers by how many
 * times 4 GiB that was off when it learned its page, in `start` and in `addend`, and
 * another multiple misses like another page. That holds as long as each address is
 * added up from what the check saw. Where a check stands for registers that changed by
 * constants since, these must not have wrapped meanwhile:
 * - in a group, the register's new value lies in the reach that is checked, and the fill
 *   refuses pages that are off (jit_site.moves);
 * - in a loop's second body, narrow_steps and put_narrow_turn see to it. */
#include "trans.h"

#define NEAR   4096 /* bytes: displacements with which a loop may advance a base */
#define MARGIN 32u  /* pages */

/* The one-byte forms of INC and DEC, which are REX prefixes in 64-bit mode, and MOV of
 * an absolute address, which is longer there. */
static bool rewritten(const ZydisDecodedInstruction *zi)
{
    return zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           ((zi->opcode & 0xf0) == 0x40 || (zi->opcode & 0xfc) == 0xa0);
}

static bool same_operand(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b)
{
    if (a->type != b->type || a->encoding != b->encoding || a->visibility != b->visibility)
        return false;
    if (a->type == ZYDIS_OPERAND_TYPE_REGISTER)
        return ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_FLAGS ||
               a->reg.value == b->reg.value;
    return a->size == b->size;
}

bool narrow_same(const struct tinsn *ti)
{
    ZydisDecoder dec;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];

    if (rewritten(&ti->zi))
        return true;
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VZEROALL: /* of eight registers only */
    case ZYDIS_MNEMONIC_VZEROUPPER: return false;
    default: break;
    }
    ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, ti->bytes, ti->zi.length, &zi, zop)) ||
        zi.length != ti->zi.length || zi.mnemonic != ti->zi.mnemonic ||
        zi.operand_width != ti->zi.operand_width || zi.operand_count != ti->zi.operand_count)
        return false;
    for (unsigned i = 0; i < zi.operand_count; i++)
        if (!same_operand(&zop[i], &ti->zop[i]))
            return false;
    return true;
}

uint8_t *put_narrow_seg(struct trans *t, int seg)
{
    gs_op(&t->a, false, 0xf6, 0, EMU_OFF(spans)); /* test byte */
    put8(&t->a, 1u << seg);
    return jump_cc(&t->a, 4, NULL);
}

/* A base that advances is as far from 0 and 4 GiB as the address is, but for the
 * displacement. An index that grows beside a base that stays is never above the address,
 * but for that. So neither wraps while the address keeps away from both ends, which
 * put_narrow_turn sees to. */
bool narrow_steps(const struct tinsn *ti, int64_t base, int64_t index)
{
    const struct access *m = &ti->m;
    if (m->seg >= 0)
        return false;
    if (!base && !index)
        return true;
    if (m->disp <= -NEAR || m->disp >= NEAR)
        return false;
    return m->index < 0 || (!base && index > 0);
}

/* The pages that the check remembers reach no further from the address than the margin,
 * and the turns end with them. */
void put_narrow_turn(struct trans *t, const uint8_t *elsewhere)
{
    struct asmbuf *a = &t->a;
    lea_disp(a, H_R10, H_R11, -(int32_t)(MARGIN * 4096));
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xea), put8(a, 12); /* shr r10, 12 */
    put8(a, 0x49), put8(a, 0x81), put8(a, 0xfa), put32(a, (1u << 20) - 2 * MARGIN); /* cmp r10 */
    jump_cc(a, 3, elsewhere);                                                       /* jae */
}
