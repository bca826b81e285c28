/* SPDX-License-Identifier: MIT
 * Loops of one block. The block's body as it is does one turn; then a prologue
 * looks for how many more turns all accesses that advance by constants stay in the
 * pages that they are in, gives the second body so much fuel, and that does these
 * turns without checks. When the fuel is used up it comes here again. */
#include "trans.h"

static bool fits(const struct tinsn *ti, bool last)
{
    switch (ti->kind) {
    case T_COPY:
    case T_VECTOR:
    case T_X87:
    case T_DIV:
    case T_LEA:
    case T_NOP:
    case T_JCC: return true;
    case T_JMP: return last;
    default: return false;
    }
}

/* Does anybody look at the flags, or keep part of them, before all are set? */
static bool flags_seen(const struct trans *t)
{
    for (unsigned i = 0; i < t->loop.last; i++) {
        const struct tinsn *ti = &t->insn[i];
        bool steps = ti->has_access && t->insn[ti->lead >= 0 ? ti->lead : (int)i].steps;
        if (ti->use || ti->kind == T_JCC || ti->kind == T_DIV || (ti->has_access && !steps) ||
            (ti->has_access && trans_must_align(ti)))
            return true;
        if (ti->def == FL_ARITH)
            return false;
        if (trans_flags(ti))
            return true;
    }
    return true;
}

bool loop_find(struct trans *t)
{
    int last = -1;
    for (unsigned i = 0; i < t->n; i++) {
        const struct tinsn *ti = &t->insn[i];
        if ((ti->kind == T_JCC || ti->kind == T_JMP) && ti->op.disp == (int64_t)t->start)
            last = (int)i;
    }
    if (last < 0 || t->insn[0].need_before)
        return false;
    for (int i = 0; i <= last; i++) {
        if (!fits(&t->insn[i], i == last))
            return false;
        t->loop.need_simd |= trans_simd(&t->insn[i]);
    }
    t->loop.last = (unsigned)last;
    t->loop.saves = flags_seen(t);
    return true;
}

/* ---- leaving the second body ----------------------------------------------------------- */

static bool lead_steps(const struct trans *t, unsigned i)
{
    return t->insn[i].has_access && t->insn[i].lead < 0 && t->insn[i].steps;
}

void put_loop_stored(struct trans *t)
{
    struct asmbuf *a = &t->a;
    for (unsigned i = 0; i < t->loop.last; i++) {
        if (!lead_steps(t, i) || !t->insn[i].group_write)
            continue;
        struct cold *k = trans_cold_new(t, i, COLD_STORED);
        k->m = t->insn[i].m;
        gs_load(a, H_R11, JIT_SLOT_OFF(t->insn[i].slot, code));
        cmp_r11_0(a);
        k->from = jump_cc(a, 5, NULL);
        k->back = here(a);
        k->site = trans_site(t, i);
        if (k->site) {
            k->site->slot = t->insn[i].slot;
            k->site->size = 0; /* anywhere in the page */
            k->site->stays = true;
        }
    }
}

/* The jump to the next turn. */
void put_loop_back(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    if (ti->kind == T_JCC) {
        need_flags(t, FL_ARITH);
        struct cold *k = trans_cold_new(t, i, COLD_LOOP_END);
        k->from = jump_cc(a, (ti->zi.opcode & 15) ^ 1, NULL);
    }
    if (t->flags == IN_HOST && t->rm.how && !t->loop.saves)
        t->flags = IN_REGISTERS;
    else if (t->flags == IN_HOST || t->loop.saves)
        spill_flags(t, FL_ARITH);
    put_x87_turn(t);
    put_fuel(a, i + 1);
    jump_cc(a, 15, t->loop.second + a->to_exec); /* jg */
    spill_flags(t, FL_ARITH);
    put_x87_pointers(t);
    put_loop_stored(t);
    put_ip(t, t->start);
    call_to(a, t->gates->poll);
    jump_to(a, t->loop.prologue + a->to_exec);
}

/* ---- entering it ------------------------------------------------------------------------ */

static unsigned log2_up(unsigned n)
{
    unsigned k = 0;
    while (1u << k < n)
        k++;
    return k;
}

/* r11 = the turns after this one for which the access of lead i stays where it is.
 * To the checked body if it is not even now. */
static void put_turns(struct trans *t, unsigned i)
{
    struct asmbuf *a = &t->a;
    const struct tinsn *ti = &t->insn[i];
    const uint8_t *checked = t->loop.start + a->to_exec;

    put_linear(t, &ti->m, H_R11, ti->start);
    if (t->code32 && (ti->start || ti->step))
        put_narrow_turn(t, checked);
    gs_op(a, true, 0x2b, H_R11, JIT_SLOT_OFF(ti->slot, start));
    gs_op(a, true, 0x3b, H_R11, JIT_SLOT_OFF(ti->slot, lim));
    jump_cc(a, 3, checked); /* jae */
    if (ti->group_write) {
        gs_load(a, H_R10, JIT_SLOT_OFF(ti->slot, code));
        put8(a, 0x49), put8(a, 0x83), put8(a, 0x3a), put8(a, 0); /* cmp qword [r10], 0 */
        jump_cc(a, 5, checked);
    }
    if (ti->step > 0) {                              /* what is left behind it: lim - 1 - r11 */
        put8(a, 0x49), put8(a, 0xf7), put8(a, 0xd3); /* not r11 */
        gs_op(a, true, 0x03, H_R11, JIT_SLOT_OFF(ti->slot, lim));
    }
    unsigned by = (unsigned)(ti->step < 0 ? -ti->step : ti->step);
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xeb), put8(a, log2_up(by)); /* shr r11 */
}

/* The least of all turns in run_left. */
static void put_least(struct trans *t, bool first)
{
    struct asmbuf *a = &t->a;
    uint8_t *less = NULL;
    if (!first) {
        gs_op(a, true, 0x3b, H_R11, EMU_OFF(run_left));
        less = jump_cc(a, 3, NULL);
    }
    gs_store(a, H_R11, EMU_OFF(run_left));
    if (less)
        patch_here(a, less);
}

/* No more fuel than for so many turns; what is over counts as never given. */
static void put_ration(struct trans *t, unsigned turn)
{
    struct asmbuf *a = &t->a;
    gs_load(a, H_R11, EMU_OFF(run_left));
    put8(a, 0x4d), put8(a, 0x6b), put8(a, 0xdb), put8(a, turn); /* imul r11, r11, turn */
    lea_disp(a, H_R11, H_R11, (int32_t)turn);
    reg_op(a, 0x39, H_R8, H_R11); /* cmp r8, r11 */
    uint8_t *enough = jump_cc(a, 14, NULL);
    mov_reg(a, H_R10, H_R8);
    reg_op(a, 0x29, H_R10, H_R11);                   /* sub r10, r11 */
    gs_op(a, true, 0x29, H_R10, EMU_OFF(fuel_base)); /* sub [fuel_base], r10 */
    mov_reg(a, H_R8, H_R11);
    patch_here(a, enough);
}

void put_loop(struct trans *t)
{
    struct asmbuf *a = &t->a;
    bool first = true;

    t->loop.prologue = a->w;
    for (unsigned n = 0; n < t->loop.nfrom; n++)
        patch_here(a, t->loop.from[n]);
    t->flags = IN_MEMORY;
    t->rm = (struct remat){0};
    t->simd = 0;
    t->ended = false;
    t->x87 = (struct x87_ptrs){0};
    for (uint8_t bit = JIT_SIMD_SSE; bit <= JIT_SIMD_X87; bit <<= 1)
        if (t->loop.need_simd & bit)
            put_simd(t, bit, 0, bit & JIT_SIMD_VEC ? JIT_SIMD_SSE : 0);
    for (unsigned i = 0; i < t->loop.last; i++) {
        if (!lead_steps(t, i))
            continue;
        put_turns(t, i);
        if (!t->insn[i].step)
            continue;
        put_least(t, first);
        first = false;
    }
    if (!first)
        put_ration(t, t->loop.last + 1);
    while ((uintptr_t)a->w & 15)
        put8(a, 0x90);
    t->loop.second = a->w;
    t->fast = true;
    t->x87 = x87_at_turn(t);
    for (unsigned i = 0; i <= t->loop.last && !t->failed && !a->full; i++) {
        trans_insn(t, &t->insn[i], i);
        remat_step(t, i);
    }
    t->fast = false;
}
