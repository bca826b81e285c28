/* SPDX-License-Identifier: MIT
 * The dispatcher: pending events, then a block, then again. Faults arrive here
 * by longjmp and are delivered; exits leave through here. */
#include "run.h"
#include "access.h"
#include "block.h"
#include "flags.h"
#include "jit/jit.h"
#include "lockstep/lockstep.h"
#include "pv.h"
#include "sampler.h"
#include "sys/sys.h"
#include "../../base/err.h"

enum { J_FAULT = 1, J_EXIT = 2 };

/* How far the dispatcher goes without a look at the clock: so many instructions; of a
 * run with a deadline as many as took about CHECK_NS lately, beginning with
 * FIRST_INSNS. */
#define CHECK_INSNS 20000u
#define CHECK_NS    100000u
#define FIRST_INSNS 500u
#define LEAST_INSNS 8u
/* How many faults in a row, with no instruction done in between. */
#define FAULT_SPIN 256u
/* So near the end of an instruction budget it goes one by one: more than a block
 * or a translation does at once. */
#define EXACT_INSNS 160u

/* ---- raising ------------------------------------------------------------------- */

static _Noreturn void raise_fault(struct emu *c)
{
    if (c->split_held)
        emu_split_unlock(c);
    longjmp(*c->jmp, J_FAULT);
}

void emu_raise(struct emu *c, unsigned vector)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.has_err = false;
    c->fault.err = 0;
    raise_fault(c);
}

void emu_raise_err(struct emu *c, unsigned vector, uint32_t err)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.has_err = true;
    c->fault.err = err;
    raise_fault(c);
}

void emu_raise_pf(struct emu *c, uint64_t cr2, uint32_t err)
{
    c->fault.cr2 = cr2;
    emu_raise_err(c, EXC_PF, err);
}

/* ---- leaving ------------------------------------------------------------------- */

/* Gives back the instructions of the block that were not done, from `op` on
 * (that one too when restart), and puts c->rip on it. */
static void back_to(struct emu *c, bool restart)
{
    if (!c->block || !c->op)
        return;
    uint64_t at = (uint64_t)(c->op - c->block->op);
    if (restart) {
        c->icount -= c->block->nops - at;
        c->rip = ip_wrap(c, op_ip(c, c->op));
    } else {
        c->icount -= c->block->nops - at - 1;
    }
    c->block = NULL;
    c->op = NULL;
}

static _Noreturn void leave(struct emu *c)
{
    if (c->split_held)
        emu_split_unlock(c);
    longjmp(*c->run_jmp, J_EXIT);
}

void emu_exit(struct emu *c, uint32_t kind, bool restart)
{
    back_to(c, restart);
    c->exit->kind = kind;
    c->exit->rip = c->rip;
    c->exit_rc = 0;
    leave(c);
}

void emu_exit_error(struct emu *c, int code)
{
    back_to(c, true);
    c->exit->kind = VC_EXIT_FAILED;
    c->exit->rip = c->rip;
    c->exit_rc = code;
    leave(c);
}

void emu_shutdown(struct emu *c)
{
    emu_exit(c, VC_EXIT_SHUTDOWN, false);
}

/* ---- events --------------------------------------------------------------------- */

static void deliver(struct emu *c, enum emu_event type, unsigned vector, bool has_err, uint32_t err)
{
    c->halted = 0;
    if (!emu_deliver(c, type, vector, has_err, err, c->rip))
        emu_shutdown(c);
}

static void deliver_fault(struct emu *c)
{
    bool db = c->fault.vector == EXC_DB;
    back_to(c, true);
    c->stats.exceptions++;
    c->db_hit = 0;
    if (!db)
        c->fault.db6 = 0;
    deliver(c, EV_EXCEPTION, c->fault.vector, c->fault.has_err, c->fault.err);
}

/* #DB as a trap: c->rip is the next instruction. */
static void debug_trap(struct emu *c, uint64_t bits)
{
    c->fault.vector = EXC_DB;
    c->fault.db6 = bits;
    c->stats.exceptions++;
    deliver(c, EV_EXCEPTION, EXC_DB, false, 0);
}

static void take_sipi(struct emu *c)
{
    uint32_t v = atomic_load(&c->mail->sipi_vector) & 0xff;
    mail_clear(c->mail, PEND_SIPI);
    if (!c->wait_sipi)
        return;
    c->wait_sipi = false;
    if (c->env->pv) {
        pv_start(c);
        return;
    }
    if (c->env->hvm && c->env->hvm->start(c->env->pv_ctx, c->index))
        return;
    c->seg[SEG_CS].sel = (uint16_t)(v << 8);
    c->seg[SEG_CS].base = (uint64_t)v << 12;
    c->rip = 0;
    emu_mode_changed(c);
}

static void take_init(struct emu *c)
{
    mail_clear(c->mail, PEND_INIT);
    /* A SIPI that came before this INIT belongs to an earlier start. */
    emu_reset(c, true);
    if (c->env->init)
        c->env->init(c->env->ctx, c->index);
    if (c->env->hvm)
        c->env->hvm->init(c->env->pv_ctx, c->index);
    c->wait_sipi = c->index != 0;
    c->halted = 0;
}

static void take_irq(struct emu *c)
{
    int vector = atomic_exchange(&c->mail->inject, -1);
    if (vector < 0 && c->env->irq_ack) {
        vector = c->env->irq_ack(c->env->ctx, c->index);
        /* Another vector may wait behind an injected one. */
    } else if (!c->env->irq_ack) {
        mail_clear(c->mail, PEND_IRQ);
        if (atomic_load(&c->mail->inject) >= 0)
            mail_post(c->mail, PEND_IRQ);
    }
    if (vector < 0)
        return;
    c->stats.irqs++;
    if (unlikely(c->lockstep))
        lockstep_event(c, EV_EXTINT, (unsigned)vector);
    deliver(c, EV_EXTINT, (unsigned)vector, false, 0);
}

/* Drops what it knows of memory, and of maps that are no more. */
static void forget_memory(struct emu *c)
{
    uint64_t gen = mem_gen(c->env->mem);
    emu_flush_all(c);
    mem_hold_since(&c->hold, gen);
}

/* From here on blocks and memory maps stay for this vCPU. */
static void go_online(struct emu *c)
{
    code_online(c);
    if (mem_hold_begin(c->env->mem, &c->hold))
        forget_memory(c);
}

static void go_offline(struct emu *c)
{
    code_offline(c);
    mem_hold_end(&c->hold);
}

/* Sleeps in HLT or wait-for-SIPI until something counts. */
static void sleep_halted(struct emu *c)
{
    uint32_t mask = c->pend_mask;
    if (c->wait_sipi)
        mask &= ~(PEND_IRQ | PEND_NMI | PEND_EVENT);
    if (!c->env->irq_ack && !c->wait_sipi && !(atomic_load(&c->mail->pending) & mask)) {
        c->halted = 0;
        emu_exit(c, VC_EXIT_HLT, false);
    }
    go_offline(c);
    atomic_store(&c->in_guest, 0);
    uint64_t t0 = host_now_ns();
    const struct hvm_hooks *hvm = c->wait_sipi ? NULL : c->env->hvm;
    doing(c, VC_DOING_IDLE);
    if (hvm)
        hvm->idle(c->env->pv_ctx, c->index, true);
    uint32_t got = mail_wait(c->mail, mask, c->deadline_ns);
    if (hvm)
        hvm->idle(c->env->pv_ctx, c->index, false);
    doing(c, VC_DOING_INTERPRETER);
    c->stats.idle_ns += host_now_ns() - t0;
    atomic_store(&c->in_guest, 1);
    go_online(c);
    if (!got)
        emu_exit(c, VC_EXIT_BUDGET, false);
}

static void take_flush(struct emu *c, uint32_t p)
{
    if (!(p & PEND_FLUSH))
        return;
    mail_clear(c->mail, PEND_FLUSH);
    forget_memory(c);
    code_quiesce(c);
}

/* Everything that the pending word may hold, most urgent first. */
static void take_pending(struct emu *c)
{
    uint32_t p = atomic_load(&c->mail->pending) & c->pend_mask;

    c->block = NULL;
    c->op = NULL;
    if (p & PEND_POWER)
        emu_exit(c, VC_EXIT_POWER, false);
    if (p & PEND_KICK) {
        mail_clear(c->mail, PEND_KICK);
        emu_exit(c, VC_EXIT_KICK, false);
    }
    if (p & PEND_TIME) {
        mail_clear(c->mail, PEND_TIME);
        emu_exit(c, VC_EXIT_BUDGET, false);
    }
    if (p & PEND_TURN) {
        mail_clear(c->mail, PEND_TURN);
        emu_exit(c, VC_EXIT_NONE, false);
    }
    take_flush(c, p);
    if (p & PEND_STOP)
        mail_clear(c->mail, PEND_STOP);
    if (unlikely(c->lockstep) && p & (PEND_INIT | PEND_SIPI))
        lockstep_forget(c);
    if (p & PEND_INIT) {
        take_init(c);
        return;
    }
    if (p & PEND_SIPI) {
        take_sipi(c);
        return;
    }
    if (c->wait_sipi) {
        sleep_halted(c);
        return;
    }
    if (p & PEND_NMI) {
        if (!mail_clear(c->mail, PEND_NMI))
            return;
        c->nmi_masked = true;
        if (unlikely(c->lockstep))
            lockstep_event(c, EV_NMI, EXC_NMI);
        deliver(c, EV_NMI, EXC_NMI, false, 0);
        return;
    }
    if (p & PEND_IRQ) {
        take_irq(c);
        return;
    }
    if (p & PEND_EVENT) {
        mail_clear(c->mail, PEND_EVENT);
        pv_wake(c);
        return;
    }
    if (c->halted)
        sleep_halted(c);
}

/* ---- single steps ------------------------------------------------------------------ */

/* Instructions that deliver an event or trap by TF themselves: no single-step
 * trap comes after them. */
static bool own_trap(const struct emu *c, uint16_t mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INT1: return true;
    case ZYDIS_MNEMONIC_INTO: return flags_arith(c) & FL_OF;
    default: return false;
    }
}

static bool loads_rf(uint16_t mnemonic)
{
    return mnemonic == ZYDIS_MNEMONIC_IRET || mnemonic == ZYDIS_MNEMONIC_IRETD ||
           mnemonic == ZYDIS_MNEMONIC_IRETQ;
}

/* Of a PV guest's, without a fault. */
static bool enters_hypervisor(uint16_t mnemonic)
{
    return mnemonic == ZYDIS_MNEMONIC_SYSCALL || mnemonic == ZYDIS_MNEMONIC_INT ||
           mnemonic == ZYDIS_MNEMONIC_INT3;
}

/* One instruction, with what TF, breakpoints and interrupt shadows ask for.
 * c->db_hit holds data breakpoints that MOV SS put off. */
static void step(struct emu *c)
{
    uint8_t shadow = c->shadow;

    if (c->db_exec && !(c->rflags & FL_RF)) {
        uint64_t hit = dr_match_exec(c, c->rip + c->seg[SEG_CS].base);
        if (hit) {
            c->block = NULL;
            c->op = NULL;
            c->fault.db6 = hit;
            emu_raise(c, EXC_DB);
        }
    }
    struct block *b = block_lookup(c);
    const struct op *op = b->op;
    uint16_t mnemonic = op->mnemonic;
    bool tf = c->rflags & FL_TF && !own_trap(c, mnemonic);

    c->shadow = 0;
    c->block = b;
    c->gpr[R_IPB] = c->rip;
    c->icount += b->nops;
    op->fn(c, op);

    c->block = NULL;
    c->op = NULL;
    if (!loads_rf(mnemonic))
        c->rflags &= ~FL_RF;
    if (!c->shadow && shadow)
        emu_mode_changed(c);
    if (mnemonic == ZYDIS_MNEMONIC_INT1)
        c->db_hit = 0; /* its own #DB was the one */
    if (c->env->pv && enters_hypervisor(mnemonic))
        c->db_hit = 0; /* what MOV SS put off came there, which ignores it */
    if (c->shadow != 2) {
        uint64_t bits = c->db_hit | (tf ? DR6_BS : 0);
        c->db_hit = 0;
        if (bits)
            debug_trap(c, bits);
    }
    if (c->step_exit) {
        c->exit->u.debug.dr6 = DR6_BS;
        emu_exit(c, VC_EXIT_DEBUG, false);
    }
}

/* ---- the loop ------------------------------------------------------------------------ */

/* The count at which the dispatcher looks around; 0 when the doorbell rang. */
static uint64_t bell(const struct emu *c)
{
    return atomic_load_explicit(&c->icount_check, memory_order_relaxed);
}

/* The deadline: is it over? How many instructions until the next look? */
static uint64_t check_clock(struct emu *c)
{
    if (!c->deadline_ns)
        return CHECK_INSNS;
    uint64_t now = host_now_ns();
    if (now >= c->deadline_ns)
        emu_exit(c, VC_EXIT_BUDGET, false);
    uint64_t ns = now - c->pace_ns + 1, done = c->icount - c->pace_icount;
    if (done >= c->pace || ns >= CHECK_NS / 2) {
        uint64_t fit = done * min_u64(CHECK_NS, c->deadline_ns - now) / ns;
        fit = min_u64(fit, min_u64(2 * c->pace, CHECK_INSNS));
        c->pace = fit > LEAST_INSNS ? fit : LEAST_INSNS;
        c->pace_ns = now;
        c->pace_icount = c->icount;
    }
    return c->pace;
}

static void check_budget(struct emu *c)
{
    c->block = NULL;
    c->op = NULL;
    if (c->icount >= c->icount_limit)
        emu_exit(c, VC_EXIT_BUDGET, false);
    uint64_t room = c->icount_limit - c->icount;
    room = room > EXACT_INSNS ? room - EXACT_INSNS : 0;
    atomic_store(&c->icount_check, c->icount + min_u64(check_clock(c), room));
    /* Who posts rings the bell after it: one that was just silenced rings again.
     * All four accesses are in one order. */
    if (atomic_load(&c->mail->pending) & c->pend_mask)
        atomic_store(&c->icount_check, 0);
}

/* Near the end of an instruction budget: one at a time, to stop exactly. */
static void step_exact(struct emu *c)
{
    uint32_t mode = c->mode;
    c->mode |= MODE_STEP;
    jcache_retag(c);
    struct block *b = block_lookup(c);
    c->mode = mode;
    jcache_retag(c);
    c->block = b;
    c->gpr[R_IPB] = c->rip;
    c->icount += b->nops;
    op_handler(b->op)(c, b->op);
}

static _Noreturn void loop(struct emu *c)
{
    for (;;) {
        uint32_t p = atomic_load_explicit(&c->mail->pending, memory_order_acquire);
        if (unlikely(c->lockstep) && !(p & (PEND_KICK | PEND_POWER))) {
            check_budget(c);
            lockstep_turn(c);
            p = atomic_load_explicit(&c->mail->pending, memory_order_acquire);
        }
        if (unlikely((p & c->pend_mask) | c->halted | c->wait_sipi)) {
            take_pending(c);
            continue;
        }
        if (unlikely(c->icount >= bell(c))) {
            check_budget(c);
            if (c->icount >= bell(c) && !(c->mode & MODE_STEP)) {
                step_exact(c);
                continue;
            }
        }
        if (unlikely(c->mode & MODE_STEP)) {
            step(c);
            continue;
        }
        struct block *b = block_lookup(c);
        c->stats.blocks++;
        if (c->vm->jit) {
            const struct jit_block *jb = block_jit(b);
            unsigned heat = jb ? 0 : block_heat(b);
            if (jb && !c->jit_skip) {
                jit_run(c, b);
                continue;
            }
            if (heat >= b->warm && heat < b->warm + 4u) {
                block_translate(c, b);
                if (block_jit(b))
                    continue;
            }
        }
        c->jit_skip = 0;
        c->block = b;
        c->gpr[R_IPB] = c->rip;
        c->icount += b->nops;
        op_handler(b->op)(c, b->op);
    }
}

/* An answer the embedder owes: into the record that the instruction replays. */
static void take_answer(struct emu *c)
{
    if (!c->replay.due || !c->replay.n)
        return;
    c->replay.due = false;
    struct vc_exit *e = c->exit;
    uint64_t v = e->kind == VC_EXIT_PORT    ? e->u.port.data
                 : e->kind == VC_EXIT_HCALL ? e->u.hcall.ret
                                            : e->u.mmio.data;
    c->replay.rec[c->replay.n - 1].data = v;
    c->replay.at = 0;
}

/* An instruction that left for a device is done before anything else happens: an
 * interrupt between its access and its end would find it undone. */
static void finish_restarted(struct emu *c)
{
    if (!c->replay.n || c->replay.insn != c->icount || c->halted || c->wait_sipi)
        return;
    c->block = NULL;
    c->op = NULL;
    take_flush(c, atomic_load(&c->mail->pending) & c->pend_mask);
    if (c->mode & MODE_STEP)
        step(c);
    else
        step_exact(c);
}

static void take_queued(struct emu *c)
{
    c->queued.valid = false;
    c->block = NULL;
    c->op = NULL;
    c->fault.vector = c->queued.vector;
    c->fault.has_err = c->queued.has_err;
    c->fault.err = c->queued.err;
    c->fault.cr2 = c->queued.cr2;
    emu_replay_forget(c);
    deliver_fault(c);
}

/* A guest that faults for ever gets no instruction done: then its faults use up
 * the budget, and the dispatcher looks at the clock. */
static void count_fault(struct emu *c)
{
    if (c->icount != c->fault_icount) {
        c->fault_icount = c->icount;
        c->fault_spin = 0;
    } else if (++c->fault_spin == FAULT_SPIN) {
        c->fault_spin = 0;
        if (c->icount_limit != UINT64_MAX)
            c->icount_limit -= min_u64(FAULT_SPIN, c->icount_limit - c->icount);
        atomic_store_explicit(&c->icount_check, 0, memory_order_relaxed);
    }
}

/* ---- following another vCPU -------------------------------------------------------------- */

/* The string instruction at c->rip, up to where its count is goal->rcx: as many
 * iterations, as if they were all. */
static void part_of_string(struct emu *c, const struct emu_goal *goal)
{
    struct block *b = block_lookup(c);
    const struct op *op = b->op;
    uint64_t mask = op->asize == 8 ? UINT64_MAX : op->asize == 4 ? UINT32_MAX : UINT16_MAX;
    uint64_t n = (c->gpr[R_RCX] - goal->rcx) & mask;

    if (!(op->flags & (OP_REP | OP_REPNE)) || (c->gpr[R_RCX] & mask) < n)
        return;
    reg_write(c, R_RCX * 8, op->asize, n);
    do
        step_exact(c);
    while (c->rip == goal->rip && c->icount == goal->icount);
    if ((c->gpr[R_RCX] & mask) == 0 && c->icount == goal->icount + 1) {
        reg_write(c, R_RCX * 8, op->asize, goal->rcx);
        c->rip = goal->rip;
        c->icount = goal->icount;
    }
}

static void note_step(struct emu *c, struct emu_goal *goal, uint64_t phys)
{
    goal->trail[goal->ntrail++ % GOAL_TRAIL] = (struct emu_step){c->rip, c->icount, phys};
}

enum goal_end emu_run_to(struct emu *c, struct emu_goal *goal)
{
    jmp_buf jb;
    c->jmp = c->run_jmp = &jb;
    atomic_store_explicit(&c->icount_check, 0, memory_order_relaxed);

    int j = setjmp(jb);
    if (j == J_EXIT)
        return c->icount == goal->icount && c->stats.exceptions == goal->faults ? GOAL_REACHED
                                                                                : GOAL_LEFT;
    if (j == J_FAULT) {
        c->jmp = c->run_jmp;
        deliver_fault(c);
        if (c->icount != goal->icount || c->stats.exceptions != goal->faults)
            return GOAL_MISSED;
    }
    for (;;) {
        if (c->icount > goal->icount || c->stats.exceptions > goal->faults)
            return GOAL_MISSED;
        if (c->icount == goal->icount && c->stats.exceptions == goal->faults)
            break;
        if (c->halted)
            return GOAL_MISSED;
        if (c->mode & MODE_STEP) {
            note_step(c, goal, NO_PAGE);
            step(c);
            continue;
        }
        struct block *b = block_lookup(c);
        note_step(c, goal, b->phys2 == NO_PAGE ? b->phys : NO_PAGE);
        if (b->nops > goal->icount - c->icount) {
            step_exact(c);
            continue;
        }
        c->block = b;
        c->gpr[R_IPB] = c->rip;
        c->icount += b->nops;
        op_handler(b->op)(c, b->op);
    }
    if (c->rip == goal->rip && c->gpr[R_RCX] != goal->rcx) {
        if (c->mode & MODE_STEP)
            step(c); /* one iteration */
        else
            part_of_string(c, goal);
    }
    c->block = NULL;
    c->op = NULL;
    return GOAL_REACHED;
}

bool emu_take(struct emu *c, enum emu_event type, unsigned vector)
{
    jmp_buf jb;
    c->jmp = c->run_jmp = &jb;
    if (setjmp(jb))
        return false;
    c->block = NULL;
    c->op = NULL;
    deliver(c, type, vector, false, 0);
    return true;
}

/* ---- a run ------------------------------------------------------------------------------- */

int emu_run(struct emu *c, const struct vc_budget *budget, struct vc_exit *exit)
{
    jmp_buf jb;
    uint64_t t0 = host_now_ns();

    doing(c, VC_DOING_INTERPRETER);
    c->exit = exit;
    c->exit_rc = 0;
    c->jmp = c->run_jmp = &jb;
    c->deadline_ns = budget->ns ? t0 + budget->ns : 0;
    if (budget->ns && c->deadline_ns < t0)
        c->deadline_ns = 0; /* beyond the end of time: no limit */
    c->pace = FIRST_INSNS;
    c->pace_ns = t0;
    c->pace_icount = c->icount;
    c->icount_limit = UINT64_MAX;
    if (budget->insns && budget->insns < UINT64_MAX - c->icount)
        c->icount_limit = c->icount + budget->insns;
    atomic_store(&c->icount_check, 0);
    take_answer(c);
    atomic_store(&c->in_guest, 1);
    go_online(c);
    emu_mode_changed(c);
    if (c->lockstep)
        lockstep_begin(c);

    int j = setjmp(jb);
    if (j != J_EXIT) {
        if (j == J_FAULT) {
            doing(c, VC_DOING_INTERPRETER);
            c->jmp = c->run_jmp;
            deliver_fault(c);
            count_fault(c);
        } else if (c->queued.valid) {
            take_queued(c);
        } else {
            finish_restarted(c);
        }
        loop(c);
    }
    if (c->lockstep && lockstep_end(c)) {
        c->exit->kind = VC_EXIT_FAILED;
        c->exit_rc = VC_EINTERNAL;
    }
    jit_off(c);
    go_offline(c);
    atomic_store(&c->in_guest, 0);
    doing(c, DOING_OUTSIDE);
    c->stats.insns = c->icount;
    c->stats.exits[c->exit->kind & 15]++;
    c->stats.run_ns += host_now_ns() - t0;
    c->run_jmp = c->jmp = NULL;
    return c->exit_rc;
}

int emu_finish(struct emu *c, struct vc_exit *exit)
{
    jmp_buf jb;
    c->exit = exit;
    c->exit_rc = 0;
    c->jmp = c->run_jmp = &jb;
    take_answer(c);
    go_online(c);
    emu_mode_changed(c);
    if (c->lockstep)
        lockstep_begin(c);
    int j = setjmp(jb);
    if (j == J_FAULT) {
        c->jmp = c->run_jmp;
        deliver_fault(c);
    } else if (j != J_EXIT) {
        finish_restarted(c);
    }
    if (c->lockstep && lockstep_end(c)) {
        c->exit->kind = VC_EXIT_FAILED;
        c->exit_rc = VC_EINTERNAL;
    }
    jit_off(c);
    go_offline(c);
    c->stats.insns = c->icount;
    c->run_jmp = c->jmp = NULL;
    return c->exit_rc;
}
