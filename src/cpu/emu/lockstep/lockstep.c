/* SPDX-License-Identifier: MIT
 * Lockstep's course. The translated vCPU, the model, runs under the dispatcher as
 * always; before each turn of its loop the reference catches up: as many
 * instructions, then the fault, if there was one, then everything is compared.
 *
 * Each side goes on from its own state, so that a difference that a piece leaves
 * where nobody looks yet comes out later. That is how arithmetic flags are
 * compared: the translator does not keep those that are overwritten before
 * anything can read them, so they are not looked at by themselves; but a wrong one
 * that is read takes another branch or ends up in a register, a frame, memory.
 * Only an interrupt makes them visible at any place: its frame holds those of the
 * reference on both sides.
 *
 * Memory is compared at every place that the reference stored to, with some bytes
 * around, at the end of the piece; and all of it from time to time, which finds
 * stores of the model that the reference does not know, and accessed and dirty
 * bits. */
#include "inner.h"
#include "../access.h"
#include "../block.h"
#include "../flags.h"
#include "../tlb.h"
#include "../../../base/err.h"
#include <stdlib.h>

#define FULL_EVERY (1ull << 27) /* instructions between comparisons of all RAM */

/* ---- coming and going ----------------------------------------------------------------- */

int lockstep_open(struct emu_vm *vm, const struct vc_vm_opts *opts)
{
    struct lockstep *ls = calloc(1, sizeof *ls);
    struct vc_vm_opts o = *opts;
    struct backend_vm *bvm = NULL;
    struct backend_cpu *bc = NULL;

    if (!ls)
        return err_set(VC_ENOMEM, "no host memory for lockstep; close other programs");
    vm->lockstep = ls;
    ls->vm = vm;
    ls->env = vm->env;
    ls->mail = (struct cpu_mail){.inject = -1};
    ls->exit.size = sizeof ls->exit;
    ls->random = 1;
    atomic_store(&ls->ones, UINT64_MAX);
    pthread_mutex_init(&ls->lock, NULL);
    int rc = shadow_open(ls, opts->mem_quota);
    if (rc) {
        pthread_mutex_destroy(&ls->lock);
        free(ls);
        vm->lockstep = NULL;
        return rc;
    }
    answers_setup(ls);
    o.engine = VC_ENGINE_INTERP;
    o.flags = 0;
    rc = backend_emu.open(&o, &ls->telling, &bvm);
    ls->ref_vm = (struct emu_vm *)bvm;
    if (!rc)
        rc = backend_emu.cpu_new(bvm, NULL, 0, &ls->mail, &bc);
    if (rc) {
        lockstep_close(vm);
        return rc;
    }
    ls->ref = (struct emu *)bc;
    ls->ref->lockstep = ls;
    ls->ref->store_watch = &ls->ones;
    ls->ref->exit = &ls->exit;
    vm->env.mem->wrote_ctx = ls;
    vm->env.mem->wrote = lockstep_wrote;
    return 0;
}

void lockstep_close(struct emu_vm *vm)
{
    struct lockstep *ls = vm->lockstep;
    if (!ls)
        return;
    if (vm->env.mem->wrote_ctx == ls) {
        vm->env.mem->wrote = NULL;
        vm->env.mem->wrote_ctx = NULL;
    }
    if (ls->ref)
        backend_emu.cpu_free((struct backend_cpu *)ls->ref);
    if (ls->ref_vm)
        backend_emu.close((struct backend_vm *)ls->ref_vm);
    mem_fini(&ls->shadow);
    pthread_mutex_destroy(&ls->lock);
    free(ls);
    vm->lockstep = NULL;
}

int lockstep_attach(struct emu *c)
{
    struct lockstep *ls = c->vm->lockstep;
    if (ls->model || c->index)
        return err_set(VC_ENOTSUP, "lockstep compares one vCPU: open the partition with the "
                                   "interpreter or the translator for more");
    ls->model = c;
    c->lockstep = ls;
    c->env = &ls->noting;
    return 0;
}

void lockstep_detach(struct emu *c)
{
    if (c->lockstep && c->lockstep->model == c)
        c->lockstep->model = NULL;
}

void lockstep_map_changed(struct emu_vm *vm)
{
    atomic_store(&vm->lockstep->map_changed, true);
}

void lockstep_tamper(struct emu *c, void (*fn)(struct emu *c, void *ud), void *ud)
{
    c->lockstep->tamper = fn;
    c->lockstep->tamper_ud = ud;
}

/* ---- what the reference reports --------------------------------------------------------- */

void lockstep_stored(struct emu *c, uint64_t gpa, unsigned len)
{
    struct lockstep *ls = c->lockstep;
    struct range *last = ls->nstores ? &ls->store[ls->nstores - 1] : NULL;
    if (last && gpa >= last->gpa && gpa + len <= last->gpa + last->len)
        return;
    if (last && gpa == last->gpa + last->len) {
        last->len += len;
        return;
    }
    if (ls->nstores < STORES_MAX)
        ls->store[ls->nstores++] = (struct range){gpa, len};
    else
        ls->stores_full = true;
}

/* ---- comparing --------------------------------------------------------------------------- */

static const char *compare_memory(struct lockstep *ls, uint64_t *where)
{
    for (unsigned i = 0; i < ls->nstores; i++)
        if (shadow_differs(ls, ls->store[i].gpa, ls->store[i].len, where))
            return "memory";
    return NULL;
}

/* What differs; NULL: nothing. */
static const char *compare(struct lockstep *ls, enum goal_end end, bool ending, uint64_t *where)
{
    struct emu *m = ls->model, *r = ls->ref;
    if (end == GOAL_MISSED)
        return "the course of things";
    if (end == GOAL_LEFT) {
        /* Both shut down in the middle of a delivery. */
        if (ending && m->exit->kind == VC_EXIT_SHUTDOWN && ls->exit.kind == VC_EXIT_SHUTDOWN)
            return NULL;
        return "how it ended";
    }
    if (ls->asked_else)
        return "what was asked of devices";
    if (!fields_equal(m, r, (m->stats.lockstep_pieces & 63) == 0 || ending))
        return "registers";
    return compare_memory(ls, where);
}

static bool restarts(uint32_t kind)
{
    return kind == VC_EXIT_PORT || kind == VC_EXIT_MMIO || kind == VC_EXIT_HCALL;
}

/* Was it no difference of theirs: did another thread write RAM, or change the map,
 * while one had run and the other had not? */
static bool excused(struct lockstep *ls)
{
    return shadow_outside(ls) || atomic_load(&ls->map_changed) || ls->log_full;
}

static bool all_memory(struct lockstep *ls)
{
    uint64_t where = 0;
    ls->last_full = ls->model->icount;
    shadow_outside(ls);
    if (!shadow_differs_anywhere(ls, &where) || excused(ls) ||
        !shadow_differs(ls, where, 1, &where))
        return true;
    ls->store[0] = (struct range){where, 1};
    ls->nstores = 1;
    report_difference(ls, "memory that one of them stored to without the other, or to which "
                          "the page walk did");
    return false;
}

/* The interrupt that the model took; false: triple fault. */
static bool take_event(struct lockstep *ls)
{
    if (!ls->event)
        return true;
    ls->event = false;
    if (ls->event_type == EV_NMI)
        ls->ref->nmi_masked = true;
    return emu_take(ls->ref, ls->event_type, ls->event_vector);
}

/* The reference does what the model did. */
static bool follow(struct lockstep *ls, bool ending)
{
    struct emu *m = ls->model, *r = ls->ref;
    uint64_t where = 0;

    if (ls->tamper && m->icount != ls->start_icount)
        ls->tamper(m, ls->tamper_ud);
    ls->goal.icount = m->icount;
    ls->goal.faults = m->stats.exceptions;
    ls->goal.rip = m->rip;
    ls->goal.rcx = m->gpr[R_RCX];
    enum goal_end end = take_event(ls) ? emu_run_to(r, &ls->goal) : GOAL_LEFT;
    if (ending)
        r->halted = m->halted;
    answers_writes(ls);
    if (!(ending && restarts(m->exit->kind)) && ls->told != ls->logged && end == GOAL_REACHED)
        ls->asked_else = true;
    const char *what = compare(ls, end, ending, &where);
    if (what && excused(ls)) {
        ls->fresh = true;
        ls->known = false;
        m->stats.lockstep_taken++;
        return true;
    }
    if (what) {
        report_difference(ls, what);
        return false;
    }
    m->stats.lockstep_pieces++;
    m->stats.lockstep_insns += m->icount - ls->start_icount;
    return true;
}

/* ---- a run -------------------------------------------------------------------------------- */

static void new_piece(struct lockstep *ls)
{
    ls->logged = ls->told = 0;
    ls->log_full = ls->asked_else = ls->stores_full = false;
    ls->nstores = 0;
    ls->start_icount = ls->model->icount;
    ls->start_rip = ls->model->rip;
}

static bool follow_map(struct lockstep *ls)
{
    if (!atomic_exchange(&ls->map_changed, false) && ls->known)
        return true;
    if (!shadow_sync_map(ls))
        return false;
    shadow_sync_ram(ls);
    code_drop_all(ls->ref_vm->code);
    emu_flush_all(ls->ref);
    return true;
}

/* The reference becomes what the model is. */
static bool take_over(struct lockstep *ls)
{
    struct emu *m = ls->model, *r = ls->ref;
    if (!follow_map(ls))
        return false;
    if (!ls->known || shadow_lent(ls))
        shadow_sync_ram(ls);
    shadow_outside(ls);
    fields_copy(r, m);
    r->cpl = m->cpl;
    code_online(r);
    emu_flush_all(r);
    emu_switch_cr3(r, true);
    emu_mode_changed(r);
    /* Neither knows a translation that the other does not. */
    emu_flush_all(m);
    ls->goal.ntrail = 0;
    ls->fresh = false;
    ls->known = true;
    return true;
}

void lockstep_begin(struct emu *c)
{
    struct lockstep *ls = c->lockstep;
    ls->thread = pthread_self();
    ls->fresh = true;
    ls->failed = false;
    ls->event = false;
    new_piece(ls);
    ls->running = true;
}

static _Noreturn void fail(struct lockstep *ls)
{
    ls->failed = true;
    ls->model->block = NULL;
    ls->model->op = NULL;
    emu_exit_error(ls->model, vc_errcode());
}

/* Mostly one block; sometimes so many that linked blocks and loops run as they do
 * otherwise. */
static unsigned piece_length(struct lockstep *ls)
{
    static const unsigned lengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 64, 64, 1000};
    ls->random = ls->random * 6364136223846793005ull + 1442695040888963407ull;
    return lengths[ls->random >> 60];
}

void lockstep_turn(struct emu *c)
{
    struct lockstep *ls = c->lockstep;

    if (!ls->fresh && !follow(ls, false))
        fail(ls);
    if (c->icount - ls->last_full > FULL_EVERY && !ls->fresh && !all_memory(ls))
        fail(ls);
    if (ls->fresh ? !take_over(ls) : !follow_map(ls))
        fail(ls);
    shadow_outside(ls);
    new_piece(ls);
    /* Who rings the bell meanwhile is heard. */
    uint64_t bell = atomic_load(&c->icount_check), soon = c->icount + piece_length(ls);
    if (bell > soon)
        atomic_compare_exchange_strong(&c->icount_check, &bell, soon);
}

int lockstep_end(struct emu *c)
{
    struct lockstep *ls = c->lockstep;
    bool ok = true;
    /* An instruction that a callback broke off is not known. */
    if (!ls->failed && !ls->fresh && !c->exit_rc) {
        ok = follow(ls, true);
        if (ok && !ls->fresh && !restarts(c->exit->kind) && c->exit->kind != VC_EXIT_DEBUG)
            ok = all_memory(ls);
    }
    ls->running = false;
    ls->failed = !ok;
    return ok ? 0 : VC_EINTERNAL;
}

void lockstep_event(struct emu *c, enum emu_event type, unsigned vector)
{
    struct lockstep *ls = c->lockstep;
    if (ls->fresh)
        return;
    flags_set_arith(c, flags_arith(ls->ref));
    ls->event = true;
    ls->event_type = type;
    ls->event_vector = vector;
}

void lockstep_forget(struct emu *c)
{
    c->lockstep->fresh = true;
}
