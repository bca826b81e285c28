/* SPDX-License-Identifier: MIT
 * The host calls a function of the guest's: arguments as the guest's C convention has
 * them (System V psABI for x86-64, 3.2; for i386, 2.2), a run that ends at the return
 * trap, and the vCPU's state as before. */
#include "linear.h"
#include "sig.h"
#include "../base/args.h"
#include "../base/err.h"
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

#define RAX 0
#define RDX 2
#define RSP 4

#define CR0_PE         1u
#define RED_ZONE       128u
#define STACK_MAX      (1u << 20)                         /* bytes that a call puts there */
#define FLAGS_OFF      (0x100ull | 0x400ull | 0x10000ull) /* TF, DF, RF */
#define XMM(fpu, n)    ((fpu)->xsave + 160 + 16 * (n))    /* SDM volume 1, 10.5.1 */
#define XSTATE_BV(fpu) ((fpu)->xsave + 512)               /* ... 13.4.2 */
#define XSTATE_SSE     2u

struct call {
    struct vc_cpu *cpu;
    struct sig sig;
    struct vc_value *args;
    struct vc_call_opts opts;
    struct lin lin;
    uint64_t fn, ret_at; /* linear */
    struct vc_gprs gprs; /* before */
    struct vc_sregs sregs;
    struct vc_fpu fpu;
    /* What goes onto the stack, from sp on. */
    uint64_t sp;
    uint8_t *image;
    uint64_t len;
    uint64_t copy[VC_SIG_ARGS_MAX]; /* linear: where the argument's bytes lie */
};

/* ---- arguments --------------------------------------------------------------------- */

static uint64_t up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

static size_t bytes_of(const struct call *c, unsigned i)
{
    if (c->sig.arg[i] == SIG_CSTR)
        return strlen(c->args[i].v.p) + 1;
    return sig_is_buf(c->sig.arg[i]) ? c->args[i].len : 0;
}

static int check_args(const struct call *c, unsigned nargs)
{
    if (nargs != c->sig.nargs)
        return err_set(VC_EINVAL, "the signature has %u arguments, the call %u", c->sig.nargs,
                       nargs);
    if (nargs && !c->args)
        return err_null("args");
    for (unsigned i = 0; i < nargs; i++) {
        const struct vc_value *a = &c->args[i];
        bool bytes = c->sig.arg[i] == SIG_CSTR || (sig_is_buf(c->sig.arg[i]) && a->len);
        if (bytes && !a->v.p)
            return err_set(VC_EINVAL, "argument %u is NULL", i + 1);
        if (bytes_of(c, i) > STACK_MAX)
            return err_set(VC_ERANGE, "argument %u has more than %u bytes", i + 1, STACK_MAX);
    }
    return 0;
}

/* Integer registers of the 64-bit convention. */
static const uint8_t int_regs[] = {7, 6, 2, 1, 8, 9};

struct placing {
    struct vc_gprs *g;
    struct vc_fpu *fpu;
    unsigned ints, vectors; /* registers used; none in 32-bit code */
    uint8_t *stack;         /* the next word there; NULL: only count */
    unsigned nstack;
};

static void put_word(const struct call *c, struct placing *p, uint64_t w, bool vector)
{
    if (c->lin.word == 8 && vector && p->vectors < 8) {
        if (p->fpu) {
            memset(XMM(p->fpu, p->vectors), 0, 16);
            memcpy(XMM(p->fpu, p->vectors), &w, sizeof w);
        }
        p->vectors++;
    } else if (c->lin.word == 8 && !vector && p->ints < 6) {
        if (p->g)
            p->g->gpr[int_regs[p->ints]] = w;
        p->ints++;
    } else {
        if (p->stack)
            memcpy(p->stack + (size_t)p->nstack * c->lin.word, &w, c->lin.word);
        p->nstack++;
    }
}

static void put_arg(const struct call *c, struct placing *p, unsigned i)
{
    const struct vc_value *a = &c->args[i];
    uint8_t type = c->sig.arg[i];
    if (sig_is_buf(type)) {
        put_word(c, p, c->copy[i], false);
        put_word(c, p, a->len, false);
        return;
    }
    uint64_t w = type == SIG_CSTR ? c->copy[i] : sig_extend(type, a->v.u);
    if (type == SIG_F64) {
        memcpy(&w, &a->v.f, sizeof w);
    } else if (type == SIG_F32) {
        float f = (float)a->v.f;
        w = 0;
        memcpy(&w, &f, sizeof f);
    }
    put_word(c, p, w, sig_is_float(type));
    if (c->lin.word == 4 && sig_type_words(type, 4) == 2)
        put_word(c, p, w >> 32, false);
}

/* From above: bytes of strings and buffers, words, the return address. The stack
 * pointer is a multiple of 16 before the return address goes there. */
static int build_stack(struct call *c, struct placing *p, uint64_t top)
{
    unsigned word = c->lin.word;
    uint64_t bytes = 0, space;
    for (unsigned i = 0; i < c->sig.nargs; i++) {
        bytes += up(bytes_of(c, i), 16);
        put_arg(c, p, i);
    }
    space = up((uint64_t)p->nstack * word, 16);
    if (bytes + space > STACK_MAX)
        return err_set(VC_ERANGE, "the arguments have %llu bytes: %u fit onto the guest's stack",
                       (ull)bytes, STACK_MAX);
    uint64_t args = (top & ~15ull) - bytes - space;
    c->sp = args - word;
    c->len = word + space + bytes;
    c->image = calloc(1, c->len);
    if (!c->image)
        return err_set(VC_ENOMEM, "no memory for a call's arguments");
    memcpy(c->image, &c->ret_at, word);
    uint64_t at = word + space;
    for (unsigned i = 0; i < c->sig.nargs; i++) {
        size_t n = bytes_of(c, i);
        c->copy[i] = c->sp + at;
        if (n && c->sig.arg[i] != SIG_OBUF)
            memcpy(c->image + at, c->args[i].v.p, n);
        at += up(n, 16);
    }
    return 0;
}

static void mark_sse(struct vc_fpu *fpu)
{
    XSTATE_BV(fpu)[0] |= XSTATE_SSE;
}

/* The vCPU at the function's first instruction. */
static int set_up(struct call *c)
{
    const struct backend *be = c->cpu->vm->be;
    struct vc_gprs g = c->gprs;
    struct vc_fpu fpu = c->fpu;
    struct placing count = {0}, place = {.g = &g, .fpu = &fpu};
    uint64_t top = c->opts.stack;
    if (!top) {
        if (!g.gpr[RSP])
            return err_set(VC_EINVAL, "vCPU %u has no stack: set its RSP, or give opts.stack",
                           c->cpu->index);
        top = c->lin.word == 8 ? g.gpr[RSP] - RED_ZONE : lin_addr(&c->lin, c->lin.ss, g.gpr[RSP]);
    }
    int rc = build_stack(c, &count, top);
    if (rc)
        return rc;
    place.stack = c->image + c->lin.word;
    for (unsigned i = 0; i < c->sig.nargs; i++)
        put_arg(c, &place, i);
    if (!lin_write(&c->lin, c->sp, c->image, c->len))
        return err_set(VC_EFAULT,
                       "the guest's stack is not writable memory at %#llx of %#llx bytes",
                       (ull)c->sp, (ull)c->len);
    g.rip = c->lin.word == 8 ? c->fn : (uint32_t)(c->fn - c->lin.cs);
    g.gpr[RSP] = c->lin.word == 8 ? c->sp : (uint32_t)(c->sp - c->lin.ss);
    g.gpr[RAX] = place.vectors; /* for functions with "..." */
    g.rflags &= ~FLAGS_OFF;
    if (place.vectors) {
        mark_sse(&fpu);
        rc = be->fpu(c->cpu->bcpu, true, &fpu);
    }
    return rc ? rc : be->gprs(c->cpu->bcpu, true, &g);
}

/* ---- the run ------------------------------------------------------------------------ */

static bool is_return(const struct vc_exit *x)
{
    return x->kind == VC_EXIT_PORT && x->u.port.write && x->u.port.len == 4 &&
           x->u.port.port == VC_RETURN_PORT;
}

/* A triple fault: nobody handled what the function raised. With AMD's extensions the
 * state after it is undefined (APM 15.14.3), and KVM has reset the vCPU. */
static int fault_error(struct call *c)
{
    struct vc_gprs g = {.size = sizeof g};
    struct vc_sregs s = {.size = sizeof s};
    const struct backend *be = c->cpu->vm->be;
    uint8_t code[8] = {0};
    char bytes[sizeof code * 3 + 1], page[64] = "";
    be->gprs(c->cpu->bcpu, false, &g);
    be->sregs(c->cpu->bcpu, false, &s);
    if ((s.cr0 ^ c->sregs.cr0) & CR0_PE)
        return err_set(VC_EFAULT,
                       "the guest's function at %#llx raised an exception that nobody handles; "
                       "where is not known: this processor's state is lost at a triple fault",
                       (ull)c->fn);
    bool there = lin_read(&c->lin, lin_addr(&c->lin, c->lin.cs, g.rip), code, sizeof code);
    for (unsigned i = 0; i < sizeof code; i++)
        snprintf(bytes + 3 * i, 4, " %02x", code[i]);
    if (s.cr2 != c->sregs.cr2)
        snprintf(page, sizeof page, ", a page fault at %#llx", (ull)s.cr2);
    return err_set(VC_EFAULT,
                   "the guest's function at %#llx raised an exception that nobody handles, at "
                   "%#llx (%s%s)%s",
                   (ull)c->fn, (ull)g.rip, there ? "bytes" : "no code is mapped there",
                   there ? bytes : "", page);
}

static int exit_error(struct call *c)
{
    static const char *const names[] = {
        [VC_EXIT_PORT] = "a port access",
        [VC_EXIT_MMIO] = "an access to no memory",
        [VC_EXIT_HLT] = "HLT",
        [VC_EXIT_POWER] = "the machine going down",
        [VC_EXIT_DEBUG] = "a debug exit",
        [VC_EXIT_HCALL] = "a hypercall",
    };
    const struct vc_exit *x = &c->cpu->exit;
    const char *name = x->kind <= VC_EXIT_HCALL ? names[x->kind] : NULL;
    uint64_t what = x->kind == VC_EXIT_PORT    ? x->u.port.port
                    : x->kind == VC_EXIT_MMIO  ? x->u.mmio.gpa
                    : x->kind == VC_EXIT_HCALL ? x->u.hcall.nr
                                               : 0;
    switch (x->kind) {
    case VC_EXIT_BUDGET:
        return err_set(VC_ELIMIT, "the guest's function at %#llx did not return within its budget",
                       (ull)c->fn);
    case VC_EXIT_KICK:
        return err_set(VC_EKICKED, "the call of the guest's function at %#llx was kicked",
                       (ull)c->fn);
    case VC_EXIT_SHUTDOWN: return fault_error(c);
    default:
        return err_set(VC_ESTATE,
                       "the guest's function at %#llx ended in %s (%#llx) at %#llx that nobody "
                       "handles",
                       (ull)c->fn, name ? name : "an exit", (ull)what, (ull)x->rip);
    }
}

/* The embedder's handler answers exits. 0: go on. */
static int ask(struct call *c)
{
    struct vc_cpu *cpu = c->cpu;
    uint32_t kind = cpu->exit.kind;
    if (!c->opts.exit || kind == VC_EXIT_BUDGET || kind == VC_EXIT_KICK ||
        kind == VC_EXIT_SHUTDOWN || kind == VC_EXIT_POWER)
        return exit_error(c);
    struct vc_exit x = cpu->exit;
    x.size = sizeof x;
    atomic_store(&cpu->lent_to, (uintptr_t)pthread_self());
    int rc = c->opts.exit(c->opts.ud, cpu, &x);
    atomic_store(&cpu->lent_to, 0);
    if (cpu->exit.kind == VC_EXIT_NONE)
        kind = VC_EXIT_NONE; /* it called the guest, which finished the instruction */
    if (rc < 0)
        return err_set(VC_ECALLBACK, "the call's handler of exits ended it with code %d", rc);
    if (kind == VC_EXIT_PORT && !x.u.port.write)
        cpu->exit.u.port.data = x.u.port.data;
    else if (kind == VC_EXIT_MMIO && !x.u.mmio.write)
        cpu->exit.u.mmio.data = x.u.mmio.data;
    else if (kind == VC_EXIT_HCALL)
        cpu->exit.u.hcall.ret = x.u.hcall.ret;
    return 0;
}

static int run(struct call *c)
{
    struct vc_cpu *cpu = c->cpu;
    const struct vc_budget b = {.size = sizeof b, .insns = c->opts.insns, .ns = c->opts.ns};
    struct run_limit limit;
    int rc;
    cpu_limit_push(cpu, &b, &limit);
    do {
        rc = cpu_run_engine(cpu, NULL);
    } while (!rc && !is_return(&cpu->exit) && !(rc = ask(c)));
    cpu_limit_pop(cpu);
    return rc;
}

/* ---- results ---------------------------------------------------------------------------- */

static int take_result(struct call *c, struct vc_value *result)
{
    const struct backend *be = c->cpu->vm->be;
    struct vc_gprs g = {.size = sizeof g};
    int rc = be->gprs(c->cpu->bcpu, false, &g);
    if (rc)
        return rc;
    unsigned word = c->lin.word;
    uint64_t want = word == 8 ? c->sp + word : (uint32_t)(c->sp + word - c->lin.ss);
    if (g.gpr[RSP] != want)
        return err_set(VC_EFAULT,
                       "the guest's function at %#llx returned with the stack pointer at %#llx, "
                       "not %#llx",
                       (ull)c->fn, (ull)g.gpr[RSP], (ull)want);
    uint8_t type = c->sig.ret;
    struct vc_value v = {.v.u = g.gpr[RAX]};
    if (word == 4 && sig_type_words(type, 4) == 2)
        v.v.u = (uint32_t)v.v.u | g.gpr[RDX] << 32;
    else if (word == 4 && type == SIG_ADDR)
        v.v.u = (uint32_t)v.v.u;
    v.v.u = sig_extend(type, v.v.u);
    if (sig_is_float(type)) {
        struct vc_fpu fpu = {.size = sizeof fpu};
        rc = be->fpu(c->cpu->bcpu, false, &fpu);
        float f;
        memcpy(&f, XMM(&fpu, 0), sizeof f);
        memcpy(&v.v.f, XMM(&fpu, 0), sizeof v.v.f);
        if (type == SIG_F32)
            v.v.f = (double)f;
    }
    if (result)
        *result = v;
    return rc;
}

static int take_buffers(struct call *c)
{
    for (unsigned i = 0; i < c->sig.nargs; i++) {
        uint8_t type = c->sig.arg[i];
        if ((type == SIG_BUF || type == SIG_OBUF) &&
            !lin_read(&c->lin, c->copy[i], c->args[i].v.buf, c->args[i].len))
            return err_set(VC_EFAULT, "argument %u's bytes at %#llx are no longer mapped", i + 1,
                           (ull)c->copy[i]);
    }
    return 0;
}

/* ---- the state before and after ------------------------------------------------------------ */

/* An instruction that left with an exit is done before anything else is. */
static int finish_last(struct vc_cpu *cpu)
{
    struct vc_exit *x = &cpu->exit;
    struct hcall_frame *f = hcall_frame(cpu);
    bool due = x->kind == VC_EXIT_PORT || x->kind == VC_EXIT_MMIO || x->kind == VC_EXIT_HCALL;
    if (f ? f->finished : !due)
        return 0;
    bool read = x->kind == VC_EXIT_HCALL || (x->kind == VC_EXIT_PORT && !x->u.port.write) ||
                (x->kind == VC_EXIT_MMIO && !x->u.mmio.write);
    if (!f && read && !cpu->answered)
        return err_set(VC_ESTATE,
                       "vCPU %u left with an exit that waits for its answer: vc_run() "
                       "comes first",
                       cpu->index);
    if (!cpu->vm->be->finish)
        return err_set(VC_ENOTSUP,
                       "%s cannot finish an instruction by itself: call the guest "
                       "outside hypercalls, not after an exit",
                       cpu->vm->be->name);
    int rc = cpu->vm->be->finish(cpu->bcpu, x);
    if (rc)
        return rc;
    memset(x, 0, sizeof *x);
    x->size = sizeof *x;
    cpu->answered = false;
    if (f)
        f->finished = true;
    return 0;
}

static int save(struct call *c)
{
    const struct backend *be = c->cpu->vm->be;
    struct backend_cpu *b = c->cpu->bcpu;
    c->gprs.size = sizeof c->gprs;
    c->sregs.size = sizeof c->sregs;
    c->fpu.size = sizeof c->fpu;
    int rc = be->gprs(b, false, &c->gprs);
    if (!rc)
        rc = be->sregs(b, false, &c->sregs);
    if (!rc)
        rc = be->fpu(b, false, &c->fpu);
    return rc;
}

/* Setting segments and tables drops translations: only where they changed. */
static int restore(struct call *c)
{
    const struct backend *be = c->cpu->vm->be;
    struct backend_cpu *b = c->cpu->bcpu;
    struct vc_sregs s = {.size = sizeof s};
    struct vc_fpu f = {.size = sizeof f};
    int rc = 0;
    if (be->finish && c->cpu->exit.kind != VC_EXIT_NONE)
        be->finish(b, &c->cpu->exit);
    memset(&c->cpu->exit, 0, sizeof c->cpu->exit);
    c->cpu->exit.size = sizeof c->cpu->exit;
    c->cpu->answered = false;
    if (be->sregs(b, false, &s) || memcmp(&s, &c->sregs, sizeof s))
        rc = be->sregs(b, true, &c->sregs);
    if (be->fpu(b, false, &f) || memcmp(&f, &c->fpu, sizeof f)) {
        int rc2 = be->fpu(b, true, &c->fpu);
        rc = rc ? rc : rc2;
    }
    int rc3 = be->gprs(b, true, &c->gprs);
    return rc ? rc : rc3;
}

/* ---- the call ---------------------------------------------------------------------------------
 */

static int check_mode(const struct call *c)
{
    if (c->lin.word == 2)
        return err_set(VC_ENOTSUP,
                       "vCPU %u runs 16-bit code: functions are called in 32-bit and "
                       "64-bit code",
                       c->cpu->index);
    if (c->lin.word == 8)
        return 0;
    if (sig_is_float(c->sig.ret))
        return err_set(VC_ENOTSUP, "functions of 32-bit code return no f32 and f64 here");
    if ((c->fn | c->opts.stack | c->ret_at) >> 32)
        return err_set(VC_ERANGE, "an address is not one of 32-bit code");
    return 0;
}

/* The vCPU must see the library's return trap. */
static int check_trap(const struct call *c)
{
    uint64_t gpa;
    if (!c->opts.ret &&
        (c->cpu->vm->be->translate(c->cpu->bcpu, c->ret_at, VC_ACC_FETCH | c->lin.user, &gpa) ||
         gpa != LONG64_RETURN))
        return err_set(VC_ENOTSUP,
                       "vCPU %u does not see the return trap: map %#llx to itself, or name one of "
                       "the guest's own in opts.ret",
                       c->cpu->index, (ull)c->ret_at);
    return 0;
}

static int call_guest(struct call *c, struct vc_value *result)
{
    struct vc_cpu *cpu = c->cpu;
    int rc = finish_last(cpu);
    if (!rc)
        rc = save(c);
    if (rc)
        return rc;
    lin_of(&c->lin, cpu, &c->sregs);
    rc = check_mode(c);
    if (!rc)
        rc = check_trap(c);
    if (!rc)
        rc = set_up(c);
    if (!rc) {
        uintptr_t lent = atomic_exchange(&cpu->lent_to, 0);
        cpu->calls++;
        rc = run(c);
        cpu->calls--;
        atomic_store(&cpu->lent_to, lent);
        if (!rc)
            rc = take_result(c, result);
        if (!rc)
            rc = take_buffers(c);
    }
    int rc2 = restore(c);
    free(c->image);
    return rc ? rc : rc2;
}

/* The gate held shared and the trap's page there. Within a hypercall it is held. */
static int enter_gate(struct vc_vm *vm, bool nested, bool need_trap)
{
    if (!nested)
        pthread_rwlock_rdlock(&vm->gate);
    if (!need_trap || vm->long64_tables)
        return 0;
    if (nested)
        return err_set(VC_EBUSY, "the return trap's page is not there yet, and a vCPU runs: call "
                                 "the guest once before, or give opts.ret");
    pthread_rwlock_unlock(&vm->gate);
    int rc = vm_pause(vm);
    if (rc)
        return rc;
    rc = preset_long64_tables(vm);
    vm_resume(vm);
    if (!rc)
        pthread_rwlock_rdlock(&vm->gate);
    return rc;
}

static int call_entered(struct call *c, struct vc_value *result, bool nested)
{
    struct vc_vm *vm = c->cpu->vm;
    int rc = vm_check_failed(vm);
    if (!rc && c->cpu->calls == VC_CALL_DEPTH_MAX)
        rc = err_set(VC_ELIMIT, "calls of the guest nest %u deep: that is all", VC_CALL_DEPTH_MAX);
    if (rc)
        return rc;
    rc = enter_gate(vm, nested, !c->opts.ret);
    if (rc)
        return rc;
    rc = call_guest(c, result);
    if (!nested)
        pthread_rwlock_unlock(&vm->gate);
    return rc;
}

static int check_opts(struct call *c)
{
    const struct vc_vm *vm = c->cpu->vm;
    if (c->opts.insns && !(vm->features & VC_FEAT_BUDGET_INSNS))
        return err_set(VC_ENOTSUP, "%s cannot count instructions", vm->be->name);
    if (c->opts.ns && !(vm->features & VC_FEAT_BUDGET_NS))
        return err_set(VC_ENOTSUP, "%s cannot limit a run's time", vm->be->name);
    return 0;
}

int vc_call(vc_cpu *cpu, uint64_t addr, const char *signature, struct vc_value *args,
            unsigned nargs, struct vc_value *result, const struct vc_call_opts *opts)
{
    if (!cpu || !signature)
        return err_null(cpu ? "signature" : "cpu");
    err_begin();
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(VC_ENOMEM, "no memory for a call");
    c->cpu = cpu;
    c->args = args;
    c->fn = addr;
    c->opts.size = sizeof c->opts;
    int rc = opts ? args_in(&c->opts, sizeof c->opts, opts, "call_opts") : 0;
    if (!rc)
        rc = sig_parse(signature, true, &c->sig);
    if (!rc)
        rc = check_args(c, nargs);
    if (!rc)
        rc = check_opts(c);
    c->ret_at = c->opts.ret ? c->opts.ret : LONG64_RETURN;
    bool nested = cpu_is_lent(cpu);
    if (!rc)
        rc = cpu_enter(cpu);
    if (!rc) {
        rc = call_entered(c, result, nested);
        cpu_leave(cpu);
    }
    free(c);
    return rc;
}
