/* SPDX-License-Identifier: MIT
 * The instruction a vCPU stands on. */
#include "decode.h"
#include <stdlib.h>

static unsigned fetch(struct pv_vcpu *v, uint64_t rip, uint8_t b[15])
{
    unsigned n = (unsigned)min_u64(15, PAGE - (rip & (PAGE - 1)));
    if (!pv_copy_from(v, b, rip, n))
        return 0;
    if (n < 15 && pv_copy_from(v, b + n, rip + n, 15 - n))
        n = 15;
    return n;
}

/* The instructions that stand for others' work are few: those of a kernel that change
 * page tables. So the last are kept. */
#define KEPT 16u
struct pv_decoded {
    struct kept {
        uint8_t b[15];
        unsigned n; /* 0: none */
        bool wide;
        struct pv_insn in;
    } kept[KEPT];
};

static bool decode(const uint8_t *b, unsigned n, bool wide, struct pv_insn *in)
{
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder,
                     wide ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
                     wide ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b, n, &in->zi, in->op));
}

bool pv_insn_decode(struct pv_vcpu *v, uint64_t rip, struct pv_insn *in)
{
    uint8_t b[15];
    unsigned n = fetch(v, rip, b);
    bool wide = v->d->eng->code64(v->bc);
    if (!n)
        return false;
    if (!v->decoded)
        v->decoded = calloc(1, sizeof *v->decoded); /* without, it is only slower */
    struct kept *k = v->decoded ? &v->decoded->kept[(rip ^ rip >> 4) % KEPT] : NULL;
    if (k && k->n == n && k->wide == wide && !memcmp(k->b, b, n)) {
        *in = k->in;
    } else {
        if (!decode(b, n, wide, in))
            return false;
        if (k) {
            memcpy(k->b, b, n);
            k->n = n;
            k->wide = wide;
            k->in = *in;
        }
    }
    in->rip = rip;
    in->next = rip + in->zi.length;
    return true;
}

bool pv_insn_reg_get(struct pv_vcpu *v, ZydisRegister reg, uint64_t *value)
{
    const uint64_t *gpr = v->d->eng->gprs(v->bc);
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR64: *value = gpr[ZydisRegisterGetId(reg)]; return true;
    case ZYDIS_REGCLASS_GPR32: *value = (uint32_t)gpr[ZydisRegisterGetId(reg)]; return true;
    case ZYDIS_REGCLASS_GPR16: *value = (uint16_t)gpr[ZydisRegisterGetId(reg)]; return true;
    case ZYDIS_REGCLASS_GPR8: break;
    default: return false;
    }
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return false;
    ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    *value = (uint8_t)gpr[ZydisRegisterGetId(wide)];
    return true;
}

bool pv_insn_reg_set(struct pv_vcpu *v, ZydisRegister reg, uint64_t value)
{
    uint64_t *gpr = v->d->eng->gprs(v->bc), *to;
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR64: gpr[ZydisRegisterGetId(reg)] = value; return true;
    case ZYDIS_REGCLASS_GPR32: gpr[ZydisRegisterGetId(reg)] = (uint32_t)value; return true;
    case ZYDIS_REGCLASS_GPR16:
        to = &gpr[ZydisRegisterGetId(reg)];
        *to = (*to & ~0xffffull) | (uint16_t)value;
        return true;
    case ZYDIS_REGCLASS_GPR8: break;
    default: return false;
    }
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return false;
    to =
        &gpr[ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg))];
    *to = (*to & ~0xffull) | (uint8_t)value;
    return true;
}
