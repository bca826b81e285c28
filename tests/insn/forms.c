/* SPDX-License-Identifier: MIT
 * All instruction forms: the encoding space is walked, and what Zydis decodes is sorted by
 * mnemonic, opcode and operands. */
#include "insn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void mix(uint64_t *h, uint64_t v)
{
    *h = (*h ^ v) * 0x100000001b3ull;
    *h ^= *h >> 29;
}

/* Two encodings are of one form when mnemonic, opcode and the operands' kinds and sizes agree. */
uint64_t form_key(const struct insn *in)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    uint64_t h = 0xcbf29ce484222325ull;
    uint8_t opcode = zi->opcode;
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (in->op[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
            opcode &= 0xf8;
    mix(&h, zi->mnemonic);
    mix(&h, (uint64_t)zi->encoding << 16 | (uint64_t)zi->opcode_map << 8 | opcode);
    mix(&h, zi->operand_width);
    mix(&h, zi->avx.vector_length);
    mix(&h, zi->attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                              ZYDIS_ATTRIB_HAS_REPNE));
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &in->op[i];
        mix(&h, (uint64_t)o->type << 32 | (uint64_t)o->visibility << 24 | o->size);
        mix(&h, (uint64_t)o->element_type << 32 | (uint64_t)o->encoding << 16 | o->element_size);
        mix(&h, o->actions);
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            bool fixed = o->encoding == ZYDIS_OPERAND_ENCODING_NONE;
            mix(&h, fixed ? 0x1000u + o->reg.value : ZydisRegisterGetClass(o->reg.value));
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            mix(&h, o->mem.type);
        }
    }
    return h;
}

struct set {
    struct form *forms;
    size_t n, room;
    uint32_t *slot; /* open addressing, index + 1 */
    size_t slots;
};

static void add(struct set *s, const struct enc *e, const struct insn *in)
{
    uint64_t key = form_key(in);
    size_t at = key % s->slots;
    for (; s->slot[at]; at = (at + 1) % s->slots)
        if (s->forms[s->slot[at] - 1].key == key)
            return;
    if (s->n == s->room || s->n * 2 > s->slots) {
        fprintf(stderr, "forms: more than %zu\n", s->room);
        exit(2);
    }
    struct form *f = &s->forms[s->n++];
    s->slot[at] = (uint32_t)s->n;
    *f = (struct form){.key = key, .enc = *e, .in = *in};
    f->enc.has_modrm = (in->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
    f->excluded = form_exclude(in);
    if (f->excluded || isa_offered(in->zi.meta.isa_set, true))
        return;
    if (!isa_falls_back(in))
        f->hidden = ZydisISASetGetString(in->zi.meta.isa_set);
    else if (isa_offered(in->zi.meta.isa_set, false))
        f->excluded = "has an older meaning for this guest than for the host";
}

/* Decodes; adds. Returns whether the encoding goes on with a ModRM byte. */
static bool try_one(struct set *s, struct enc *e, struct insn *in)
{
    uint8_t bytes[32];
    unsigned n = enc_emit(e, bytes);
    if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, n, in))
        return true;
    add(s, e, in);
    bool modrm = (in->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
    if ((in->zi.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) && !e->lock) {
        e->lock = 0xf0;
        struct insn locked;
        n = enc_emit(e, bytes);
        if (insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, n, &locked))
            add(s, e, &locked);
        e->lock = 0;
    }
    return modrm;
}

/* One opcode: memory by [rbx] and by [rsi + rdi] (which VSIB forms need), all registers. */
static void walk_opcode(struct set *s, struct enc e, bool every_rm)
{
    struct insn in;
    e.has_modrm = 1;
    e.sib = 0x3e;
    for (unsigned reg = 0; reg < 8; reg++)
        for (unsigned rm = 3; rm < 5; rm++) {
            e.modrm = (uint8_t)(reg << 3 | rm);
            if (!try_one(s, &e, &in))
                return;
        }
    for (unsigned modrm = 0xc0; modrm < 0x100; modrm += every_rm ? 1 : 8) {
        e.modrm = (uint8_t)modrm;
        try_one(s, &e, &in);
    }
}

static void walk_legacy(struct set *s)
{
    static const uint8_t reps[] = {0, 0xf3, 0xf2}, p66s[] = {0, 0x66}, rexs[] = {0, 0x48};
    for (unsigned map = 0; map < 4; map++)
        for (unsigned op = 0; op < 256; op++) {
            /* Prefixes, escapes, and what starts VEX, EVEX and XOP (8F with reg != 0). */
            if (map == 0 && (op == 0x0f || op == 0x26 || op == 0x2e || op == 0x36 || op == 0x3e ||
                             (op & 0xf0) == 0x40 || op == 0x62 || (op >= 0x64 && op <= 0x67) ||
                             op == 0xc4 || op == 0xc5 || op == 0xf0 || op == 0xf2 || op == 0xf3))
                continue;
            if (map == 1 && (op == 0x38 || op == 0x3a))
                continue;
            for (unsigned i = 0; i < 12; i++) {
                struct enc e = {.kind = ENC_LEGACY,
                                .map = (uint8_t)map,
                                .opcode = (uint8_t)op,
                                .rep = reps[i % 3],
                                .p66 = p66s[i / 3 % 2],
                                .rex = rexs[i / 6]};
                walk_opcode(s, e, map < 2);
            }
        }
}

static void walk_vex(struct set *s, enum enc_kind kind)
{
    unsigned first = kind == ENC_XOP ? 8 : 1, last = kind == ENC_XOP    ? 10
                                                     : kind == ENC_EVEX ? 6
                                                                        : 3;
    for (unsigned map = first; map <= last; map++)
        for (unsigned op = 0; op < 256; op++)
            for (unsigned i = 0; i < 4 * 2 * 3; i++) {
                struct enc e = {.kind = (uint8_t)kind,
                                .map = (uint8_t)map,
                                .opcode = (uint8_t)op,
                                .pp = i & 3,
                                .w = i >> 2 & 1,
                                .l = (uint8_t)(i >> 3)};
                if (e.l == 2 && kind != ENC_EVEX)
                    continue;
                walk_opcode(s, e, kind == ENC_VEX && map == 1);
                /* Gathers want distinct registers and, in EVEX, a mask. */
                e.vvvv = kind == ENC_EVEX ? 0 : 5;
                e.rep = kind == ENC_EVEX;
                if (map == 2)
                    walk_opcode(s, e, false);
            }
}

struct form *forms_make(size_t *n)
{
    struct set s = {.room = 16384, .slots = 65536};
    s.forms = calloc(s.room, sizeof *s.forms);
    s.slot = calloc(s.slots, sizeof *s.slot);
    if (!s.forms || !s.slot) {
        fprintf(stderr, "forms: no memory\n");
        exit(2);
    }
    walk_legacy(&s);
    walk_vex(&s, ENC_VEX);
    walk_vex(&s, ENC_XOP);
    walk_vex(&s, ENC_EVEX);
    free(s.slot);
    *n = s.n;
    return s.forms;
}

void forms_undefined(void (*fn)(void *ud, const uint8_t *bytes, unsigned n), void *ud)
{
    static const uint8_t reps[] = {0, 0xf3, 0xf2}, p66s[] = {0, 0x66};
    for (unsigned i = 0; i < 4 * 256 * 6; i++) {
        struct enc e = {.kind = ENC_LEGACY,
                        .map = (uint8_t)(i / 6 / 256),
                        .opcode = (uint8_t)(i / 6),
                        .rep = reps[i % 3],
                        .p66 = p66s[i / 3 % 2],
                        .has_modrm = 1};
        if (e.map == 0 && (e.opcode == 0x0f || e.opcode == 0xc4 || e.opcode == 0xc5 ||
                           e.opcode == 0x62 || e.opcode == 0x8f || (e.opcode & 0xf0) == 0x40))
            continue;
        if (e.map == 1 && (e.opcode == 0x38 || e.opcode == 0x3a || e.opcode == 0x0f))
            continue;
        for (unsigned modrm = 0x03; modrm < 0x100; modrm += modrm < 0xc0 ? 8 : 1) {
            uint8_t bytes[32];
            struct insn in;
            if (modrm > 0x3b && modrm < 0xc0)
                modrm = 0xc0;
            e.modrm = (uint8_t)modrm;
            memset(e.tail, 0xcc, sizeof e.tail); /* where it is an instruction, INT3 ends it */
            unsigned n = enc_emit(&e, bytes);
            if (!insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, n, &in))
                fn(ud, bytes, n < 15 ? n : 15);
        }
    }
}

static void vary_address(struct enc *e)
{
    bool sib = (e->modrm & 7) == 4 && (e->modrm >> 6) != 3;
    unsigned reg = e->modrm & 0x38;
    if (e->modrm >> 6 == 3) {
        e->modrm = (uint8_t)(0xc0 | reg | rnd_below(8));
        return;
    }
    e->sib = (uint8_t)rnd();
    e->disp = one_in(2) ? (int32_t)(int8_t)rnd() : (int32_t)rnd() >> rnd_below(32);
    e->modrm = (uint8_t)(reg | rnd_below(3) << 6 | (sib ? 4 : rnd_below(8)));
}

void form_vary(const struct form *f, struct enc *e, struct insn *in, uint8_t bytes[32])
{
    static const uint8_t segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x65}, reps[] = {0xf2, 0xf3};
    for (unsigned tries = 0; tries < 24; tries++) {
        *e = f->enc;
        rnd_fill(e->tail, sizeof e->tail);
        if (e->has_modrm) {
            if (!one_in(4))
                e->modrm = (uint8_t)((e->modrm & 0xc7) | rnd_below(8) << 3);
            vary_address(e);
        } else if (!one_in(4)) {
            e->opcode = (uint8_t)((e->opcode & 0xf8) | rnd_below(8));
        }
        switch (e->kind) {
        case ENC_LEGACY:
            if (one_in(2))
                e->rex = (uint8_t)(e->rex | 0x40 | rnd_below(8));
            if (!e->rex && one_in(32))
                e->rex = 0x48;
            if (!e->rep && one_in(24))
                e->rep = reps[rnd_below(2)];
            if (!e->p66 && one_in(24))
                e->p66 = 0x66;
            break;
        default:
            e->r = rnd() & 1;
            e->x = rnd() & 1;
            e->b = rnd() & 1;
            if (tries < 12)
                e->vvvv = rnd_below(16);
            if (one_in(16))
                e->w ^= 1;
            break;
        }
        if (one_in(16))
            e->seg = segs[rnd_below(5)];
        if (one_in(16))
            e->p67 = 0x67;
        unsigned n = enc_emit(e, bytes);
        if (insn_decode(ZYDIS_MACHINE_MODE_LONG_64, bytes, n, in) && form_key(in) == f->key &&
            !form_exclude(in))
            return;
    }
    *e = f->enc;
    *in = f->in;
    enc_emit(e, bytes);
}
