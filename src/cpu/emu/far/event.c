/* SPDX-License-Identifier: MIT
 * Delivery of interrupts and exceptions through the IDT (SDM volume 3, chapter
 * 6; volume 2, INT n). A delivery changes registers only when it can't fault any
 * more; what faults in it is delivered in its place, or makes a double fault. */
#include "../access.h"
#include "../flags.h"
#include "gate.h"
#include "stack.h"
#include "../sys/sys.h"
#include "../pv.h"

struct event {
    enum emu_event type;
    uint8_t vector;
    bool has_err;
    uint32_t err;
    bool rf; /* the pushed image has RF set */
};

/* INT n, INT3, INTO: not an event external to the program. */
static bool software(const struct event *ev)
{
    return ev->type == EV_SOFTINT;
}

/* RF is pushed as 1 for fault-class exceptions, but for instruction breakpoints
 * (SDM 17.3.1.1). */
static bool pushes_rf(const struct emu *c, const struct event *ev)
{
    if (ev->type != EV_EXCEPTION)
        return false;
    switch (ev->vector) {
    case EXC_DB: return c->fault.db6 & DR6_BD;
    case EXC_NMI:
    case EXC_BP:
    case EXC_OF:
    case EXC_DF:
    case EXC_MC: return false;
    default: return true;
    }
}

/* ---- real mode ------------------------------------------------------------------ */

static void deliver_real(struct emu *c, const struct event *ev)
{
    uint64_t frame[3] = {flags_shown(c, NULL), c->seg[SEG_CS].sel, c->rip};
    unsigned slot = ev->vector * 4;
    struct stack st;
    uint8_t vec[4];

    if (slot + 3 > c->idt.limit)
        seg_fault(c, EXC_GP, (uint16_t)(ev->vector * 8));
    sys_load(c, (uint32_t)(c->idt.base + slot), vec, 4);
    stack_current(c, &st);
    if (get_le16(vec) > c->seg[SEG_CS].limit)
        emu_raise_err(c, EXC_GP, 0);
    stack_push(c, &st, frame, 3, 2);

    stack_commit(c, &st);
    seg_set_real(c, SEG_CS, get_le16(vec + 2));
    c->rip = get_le16(vec);
    c->rflags &= ~(FL_IF | FL_TF | FL_AC | FL_RF);
}

/* ---- protected and long mode ----------------------------------------------------- */

static struct gate idt_gate(struct emu *c, const struct event *ev)
{
    unsigned code = ev->vector * 8u + 2; /* an error code with the IDT bit (SDM 6.13) */
    unsigned size = long_mode(c) ? 16 : 8;
    unsigned slot = ev->vector * size;
    uint8_t raw[16] = {0};
    struct gate g;

    if (slot + size - 1 > c->idt.limit)
        emu_raise_err(c, EXC_GP, code);
    if (long_mode(c))
        sys_load(c, c->idt.base + slot, raw, 16);
    else
        sys_load(c, (uint32_t)(c->idt.base + slot), raw, 8);
    g = gate_unpack(get_le64(raw), get_le64(raw + 8) & UINT32_MAX);

    /* Task gates are refused: there are no task switches here. */
    bool wide = g.type == SYS_INT32 || g.type == SYS_TRAP32;
    bool narrow = g.type == SYS_INT16 || g.type == SYS_TRAP16;
    if (get_le64(raw) & (uint64_t)SEG_A_S << 40 || !(wide || (narrow && !long_mode(c))))
        emu_raise_err(c, EXC_GP, code);
    if (software(ev) && g.dpl < c->cpl)
        emu_raise_err(c, EXC_GP, code);
    if (!g.present)
        emu_raise_err(c, EXC_NP, code);
    return g;
}

/* The handler's code segment; returns the privilege it runs with. */
static unsigned handler_cs(struct emu *c, uint16_t sel, struct desc *cs)
{
    if (sel_null(sel))
        emu_raise_err(c, EXC_GP, 0);
    if (!desc_read(c, sel, cs) || !seg_is_code(&cs->seg) || seg_dpl(&cs->seg) > c->cpl)
        seg_fault(c, EXC_GP, sel);
    unsigned cpl = seg_conforming(&cs->seg) ? c->cpl : seg_dpl(&cs->seg);
    if (v86_mode(c) && cpl != 0)
        seg_fault(c, EXC_GP, sel);
    if (!(cs->seg.attr & SEG_A_P))
        seg_fault(c, EXC_NP, sel);
    if (long_mode(c) && !seg_code_is64(c, &cs->seg))
        seg_fault(c, EXC_GP, sel);
    return cpl;
}

static void handler_stack(struct emu *c, const struct gate *g, unsigned cpl, struct stack *st)
{
    if (!long_mode(c)) {
        if (cpl != c->cpl)
            stack_inner(c, st, cpl);
        else
            stack_current(c, st);
        return;
    }
    uint64_t rsp = g->ist          ? tss64_rsp(c, g->ist + 3u)
                   : cpl != c->cpl ? tss64_rsp(c, cpl)
                                   : c->gpr[R_RSP];
    stack_wide(c, st, rsp & ~15ull, cpl); /* aligned: SDM 6.14.2 */
}

static void deliver_gate(struct emu *c, const struct event *ev)
{
    struct gate g = idt_gate(c, ev);
    bool v86 = v86_mode(c);
    uint64_t frame[10];
    unsigned n = 0;
    struct stack st;
    struct desc cs;
    unsigned cpl = handler_cs(c, g.sel, &cs);

    handler_stack(c, &g, cpl, &st);
    seg_check_ip(c, &cs.seg, g.off);
    if (v86) {
        frame[n++] = c->seg[SEG_GS].sel;
        frame[n++] = c->seg[SEG_FS].sel;
        frame[n++] = c->seg[SEG_DS].sel;
        frame[n++] = c->seg[SEG_ES].sel;
    }
    if (long_mode(c) || cpl != c->cpl) {
        frame[n++] = c->seg[SEG_SS].sel;
        frame[n++] = c->gpr[R_RSP];
    }
    frame[n++] = flags_shown(c, NULL) | (ev->rf ? FL_RF : 0);
    frame[n++] = c->seg[SEG_CS].sel;
    frame[n++] = c->rip;
    if (ev->has_err)
        frame[n++] = ev->err;
    desc_mark_accessed(c, &cs);
    stack_push(c, &st, frame, n, long_mode(c) ? 8 : g.type & 8 ? 4 : 2);

    stack_commit(c, &st);
    seg_set_cs(c, &cs.seg, cpl);
    if (v86) {
        static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < ARRAY_LEN(data); i++)
            seg_set_null(c, data[i], 0);
    }
    c->rip = g.off;
    c->rflags &= ~(FL_TF | FL_NT | FL_RF | FL_VM);
    if (!(g.type & 1))
        c->rflags &= ~FL_IF;
}

/* ---- faults in delivery ------------------------------------------------------------ */

/* false: it faulted, c->fault says how. Exits of devices don't come this way. */
static bool attempt(struct emu *c, const struct event *ev)
{
    jmp_buf *const outer = c->jmp;
    jmp_buf here;

    if (setjmp(here)) {
        c->jmp = outer;
        return false;
    }
    c->jmp = &here;
    if (real_mode(c))
        deliver_real(c, ev);
    else
        deliver_gate(c, ev);
    c->jmp = outer;
    return true;
}

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT };

/* SDM 6.15, table 6-4. */
static enum severity severity_of(const struct event *ev)
{
    if (ev->type != EV_EXCEPTION)
        return BENIGN;
    switch (ev->vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP: return CONTRIBUTORY;
    case EXC_PF: return PAGE_FAULT;
    default: return BENIGN;
    }
}

/* What an event changes before its handler is looked up. */
static void begin(struct emu *c, struct event *ev)
{
    ev->rf = pushes_rf(c, ev);
    if (ev->type == EV_NMI)
        c->nmi_masked = true;
    if (ev->type == EV_ICEBP)
        c->dr7 &= ~DR7_GD;
    if (ev->type != EV_EXCEPTION)
        return;
    if (ev->vector == EXC_PF)
        c->cr2 = c->fault.cr2;
    else if (ev->vector == EXC_DB)
        dr_report(c, c->fault.db6);
}

bool emu_deliver(struct emu *c, enum emu_event type, unsigned vector, bool has_err, uint32_t err,
                 uint64_t insn_ip)
{
    struct event ev = {.type = type, .vector = (uint8_t)vector, .has_err = has_err, .err = err};

    if (unlikely(c->env->pv)) {
        begin(c, &ev);
        pv_deliver(c, type, vector, has_err, err, insn_ip);
        return true;
    }
    for (;;) {
        begin(c, &ev);
        if (attempt(c, &ev))
            break;

        struct event second = {.type = EV_EXCEPTION,
                               .vector = c->fault.vector,
                               .has_err = c->fault.has_err,
                               .err = c->fault.err};
        /* EXT: the fault comes from delivering an event that the program did
         * not ask for. */
        if (severity_of(&second) == CONTRIBUTORY && second.has_err && !software(&ev))
            second.err |= 1;
        if (ev.type == EV_EXCEPTION && ev.vector == EXC_DF)
            return false;
        enum severity was = severity_of(&ev), is = severity_of(&second);
        if (was != BENIGN && is != BENIGN && !(was == CONTRIBUTORY && is == PAGE_FAULT)) {
            if (is == PAGE_FAULT)
                c->cr2 = c->fault.cr2;
            second = (struct event){.type = EV_EXCEPTION, .vector = EXC_DF, .has_err = true};
        }
        /* The instruction that asked for the event is the one that faults. */
        if (ev.type == EV_SOFTINT || ev.type == EV_ICEBP)
            c->rip = insn_ip;
        ev = second;
    }
    c->shadow = 0;
    emu_mode_changed(c);
    return true;
}
