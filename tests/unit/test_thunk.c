/* SPDX-License-Identifier: MIT
 * Vector, x87 and bit-manipulation instructions of the interpreter against the
 * same bytes run on the host: every opcode Zydis knows and CPUID offers, with
 * registers and with memory that ends at the end of a page. */
#include "insn_rig.h"

/* Loads of control state, which random numbers would make fault. */
static bool control_state(const struct insn *in, const struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FLDCW: return true;
    default: return op->msize > 32;
    }
}

/* rsp is the host's here; rsi and rdi hold addresses, which differ. */
static bool uses_pointer(const struct insn *in, const struct op *op)
{
    bool memory = op->base != R_ZERO * 8;
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        if (in->zop[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        unsigned n = op_gpr(in->zop[i].reg.value) / 8;
        if (n == R_RSP || (memory && (n == R_RSI || n == R_RDI)))
            return true;
    }
    return false;
}

/* Runs it both ways `times` times. false: not to be run. */
static bool compare(struct rig *r, const uint8_t *b, unsigned n, unsigned times, unsigned *bad)
{
    struct insn in;
    struct op op[2];
    char text[128];
    if (!decode(r, &r->dec64, 8, b, n, &in, op) || control_state(&in, op) || uses_pointer(&in, op))
        return false;
    for (unsigned i = 0; i < times; i++) {
        struct native s;
        random_state(r, &s, op->msize);
        if (op->base == BASE * 8)
            point(r, &s, BASE, 4096 - op->msize);
        if (op->base == R_RDI * 8)
            point(r, &s, R_RDI, 4096 - 16);
        uint64_t length = in.zi.length;
        int fault = run(r, op);
        native(r, &s, b, (unsigned)length);
        const char *what = fault >= 0 ? "an exception" : differ(r, &s, &in);
        if (!what)
            continue;
        name(&in, text, sizeof text);
        if (++*bad <= 20)
            cr_log_error("%s: %s", text, what);
        return true;
    }
    return true;
}

/* ---- every opcode ------------------------------------------------------------------- */

static unsigned put_opcode(uint8_t *b, bool vex, unsigned map, unsigned opcode, unsigned pp, bool w,
                           bool l, unsigned ext, unsigned vvvv)
{
    static const uint8_t prefix[] = {0, 0x66, 0xf3, 0xf2};
    unsigned n = 0;
    if (vex) {
        b[n++] = 0xc4;
        b[n++] = (uint8_t)((~ext & 7) << 5 | map);
        b[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
    } else {
        if (pp)
            b[n++] = prefix[pp];
        if (w || ext)
            b[n++] = (uint8_t)(0x40 | w << 3 | ext);
        b[n++] = 0x0f;
        if (map > 1)
            b[n++] = map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = (uint8_t)opcode;
    return n;
}

/* Calls compare() for the forms of one opcode, with random register numbers. */
static unsigned opcode_forms(struct rig *r, bool vex, unsigned map, unsigned opcode, unsigned times,
                             unsigned *bad)
{
    unsigned done = 0;
    if (map == 1 && (opcode == 0x38 || opcode == 0x3a)) /* the other maps */
        return 0;
    for (unsigned form = 0; form < (vex ? 256u : 128u); form++) {
        unsigned pp = form & 3, w = form >> 2 & 1, mem = form >> 3 & 1, reg = form >> 4 & 7;
        bool l = form >> 7;
        uint64_t x = rnd(r);
        /* Some VEX instructions have no second source: vvvv must be 1111. */
        for (unsigned v = 0; v < (vex ? 2u : 1u); v++) {
            uint8_t b[16] = {0};
            unsigned vvvv = v ? 1 + x % 3 : 0;
            unsigned ext = (x >> 8 & 4) | (mem ? 0 : (x >> 16 & 1));
            unsigned n = put_opcode(b, vex, map, opcode, pp, w, l, ext, vvvv);
            b[n++] = (uint8_t)((mem ? 0 : 0xc0) | reg << 3 | (mem ? BASE : (x >> 24 & 3)));
            b[n++] = (uint8_t)(x >> 32); /* an immediate, perhaps */
            done += compare(r, b, sizeof b, times, bad);
        }
    }
    return done;
}

Test(thunk, every_opcode, .timeout = 120)
{
    struct rig *r = rig_new();
    unsigned done = 0, bad = 0;
    for (unsigned vex = 0; vex < 2; vex++)
        for (unsigned map = 1; map <= 3; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                done += opcode_forms(r, vex, map, opcode, 4, &bad);
    cr_log_info("%u forms, %zu bytes of thunks", done, thunk_cache_used(r->vm.thunks));
    cr_expect_eq(bad, 0, "%u forms differ", bad);
    cr_expect_gt(done, 5000);
    rig_free(r);
}

Test(thunk, every_x87_opcode, .timeout = 60)
{
    struct rig *r = rig_new();
    unsigned done = 0, bad = 0;
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
        for (unsigned modrm = 0; modrm < 256; modrm++) {
            uint8_t b[16] = {(uint8_t)opcode, (uint8_t)modrm};
            if (modrm >= 0xc0 || (modrm & 0xc7) == BASE)
                done += compare(r, b, sizeof b, 24, &bad);
        }
    }
    cr_expect_eq(bad, 0, "%u forms differ", bad);
    cr_expect_gt(done, 300);
    rig_free(r);
}
