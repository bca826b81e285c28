/* SPDX-License-Identifier: MIT
 * What the reference ran: its code, and which flags that code left undefined. */
#include "inner.h"
#include "../access.h"
#include "../block.h"
#include "../flags.h"
#include "../jit/jit.h"

#define STEP_BYTES (BLOCK_MAX_OPS * 15u)

ZydisMachineMode code_mode(const struct lockstep *ls)
{
    switch (ls->ref->mode & MODE_CODE_MASK) {
    case MODE_CODE64: return ZYDIS_MACHINE_MODE_LONG_64;
    case MODE_CODE32: return ZYDIS_MACHINE_MODE_LEGACY_32;
    default: return ZYDIS_MACHINE_MODE_LEGACY_16;
    }
}

unsigned code_bytes(struct lockstep *ls, const struct emu_step *step, uint8_t *bytes, unsigned max)
{
    struct emu *r = ls->ref;
    unsigned n = 0;
    if (step->phys != NO_PAGE) {
        n = (unsigned)min_u64(max, 4096 - (step->phys & 4095));
        return mem_copy_out(&ls->shadow, step->phys, bytes, n) ? n : 0;
    }
    while (n < max) {
        uint64_t gpa, lin = step->rip + r->seg[SEG_CS].base + n;
        uint32_t how = VC_ACC_FETCH | (r->cpl == 3 ? VC_ACC_USER : 0);
        if (backend_emu.translate((struct backend_cpu *)r, lin, how, &gpa))
            break;
        unsigned k = (unsigned)min_u64(max - n, 4096 - (gpa & 4095));
        if (!mem_copy_out(&ls->shadow, gpa, bytes + n, k))
            break;
        n += k;
    }
    return n;
}

/* ---- undefined flags ------------------------------------------------------------------- */

struct effect {
    uint32_t writes, undefined;
};

/* Of up to `count` instructions; how many were decoded. */
static unsigned effects(struct lockstep *ls, const struct emu_step *step, unsigned count,
                        struct effect *e)
{
    ZydisDecoder dec;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zop[ZYDIS_MAX_OPERAND_COUNT];
    uint8_t bytes[STEP_BYTES];
    unsigned n = code_bytes(ls, step, bytes, sizeof bytes), at = 0, i;
    ZydisMachineMode mode = code_mode(ls);

    ZydisDecoderInit(&dec, mode,
                     mode == ZYDIS_MACHINE_MODE_LONG_64     ? ZYDIS_STACK_WIDTH_64
                     : mode == ZYDIS_MACHINE_MODE_LEGACY_32 ? ZYDIS_STACK_WIDTH_32
                                                            : ZYDIS_STACK_WIDTH_16);
    for (i = 0; i < count && at < n; i++) {
        uint32_t use;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, bytes + at, n - at, &zi, zop)))
            break;
        flags_effect(&zi, zop, &use, &e[i].writes);
        e[i].undefined = zi.cpu_flags ? zi.cpu_flags->undefined & FL_ARITH : 0;
        at += zi.length;
    }
    return i;
}

/* Are those flags undefined, by the instructions that wrote them last? `done`:
 * instructions that the reference has done. */
static bool undefined(struct lockstep *ls, uint32_t flags, uint64_t done)
{
    const struct emu_goal *g = &ls->goal;
    struct effect e[BLOCK_MAX_OPS];
    for (unsigned k = 1; k <= GOAL_TRAIL && k <= g->ntrail; k++) {
        const struct emu_step *step = &g->trail[(g->ntrail - k) % GOAL_TRAIL];
        unsigned count = (unsigned)min_u64(done - step->icount, BLOCK_MAX_OPS);
        unsigned n = effects(ls, step, count, e);
        if (n < count)
            return false;
        while (n--) {
            flags &= ~e[n].undefined;
            if (!flags)
                return true;
            if (flags & e[n].writes)
                return false;
        }
        done = step->icount;
    }
    return false;
}

uint64_t lockstep_flags(struct emu *c, const struct op *op)
{
    struct lockstep *ls = c->lockstep;
    uint32_t own = flags_arith(c);
    if (!is_reference(c)) {
        answers_note(ls, (struct answer){.kind = ANS_FLAGS, .out = own});
        return flags_get(c);
    }
    uint32_t told = (uint32_t)answers_tell(ls, (struct answer){.kind = ANS_FLAGS})->out;
    if (op)
        emu_at(c, op);
    if (own != told && !ls->asked_else && undefined(ls, own ^ told, emu_insn_id(c)))
        flags_set_arith(c, told);
    return flags_get(c);
}
