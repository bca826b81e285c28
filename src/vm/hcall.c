/* SPDX-License-Identifier: MIT
 * Typed hypercalls: the table of functions, and a call from the guest's registers to a
 * C function and back. Nothing of the guest's reaches a function unchecked, and all is
 * copied before it is looked at. */
#include "linear.h"
#include "sig.h"
#include "../base/err.h"
#include <stdlib.h>

#ifdef HAVE_FFI
#include <ffi.h>
#endif

#define RAX       0
#define RSP       4
#define WORDS_MAX (2 * VC_SIG_ARGS_MAX)
#define NR_BITS   24
#define SMALL     256u /* bytes of buffers that need no allocation */
#define ATTR_B    0x400u

struct hcall {
    uint32_t nr;
    struct sig sig;
    vc_fn *fn;
    void *ud;
    unsigned users; /* calls in flight; under vm->lock */
    bool gone;      /* out of the table, freed by its last user or by who removed it */
#ifdef HAVE_FFI
    ffi_cif cif;
    ffi_type *types[WORDS_MAX];
#endif
};

/* ---- the table -------------------------------------------------------------------- */

/* Where nr is, or would be. Under vm->lock. */
static unsigned place(const struct vc_vm *vm, uint32_t nr)
{
    unsigned lo = 0, hi = vm->nhcalls;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (vm->hcalls[mid]->nr < nr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct hcall *look_up(const struct vc_vm *vm, uint32_t nr)
{
    unsigned i = place(vm, nr);
    return i < vm->nhcalls && vm->hcalls[i]->nr == nr ? vm->hcalls[i] : NULL;
}

/* A guest's EAX: the number below, how many words above (virtcore/abi.h). */
static struct hcall *look_up_rax(const struct vc_vm *vm, uint64_t rax)
{
    return rax <= UINT32_MAX ? look_up(vm, (uint32_t)rax & VC_HCALL_NR_MAX) : NULL;
}

bool hcall_known(struct vc_vm *vm, uint64_t rax)
{
    pthread_mutex_lock(&vm->lock);
    bool known = look_up_rax(vm, rax) != NULL;
    pthread_mutex_unlock(&vm->lock);
    return known;
}

static struct hcall *get(struct vc_vm *vm, uint64_t rax)
{
    pthread_mutex_lock(&vm->lock);
    struct hcall *h = look_up_rax(vm, rax);
    if (h)
        h->users++;
    pthread_mutex_unlock(&vm->lock);
    return h;
}

static void put(struct vc_vm *vm, struct hcall *h)
{
    pthread_mutex_lock(&vm->lock);
    bool last = --h->users == 0 && h->gone;
    if (h->gone)
        pthread_cond_broadcast(&vm->hcall_idle);
    pthread_mutex_unlock(&vm->lock);
    if (last)
        free(h);
}

/* Calls of it that are on the calling thread's own stack. Under vm->lock. */
static unsigned own_users(struct vc_vm *vm, const struct hcall *h)
{
    unsigned n = 0;
    uintptr_t self = (uintptr_t)pthread_self();
    for (unsigned i = 0; i < VM_CPUS_MAX; i++) {
        if (!vm->cpu[i] || atomic_load(&vm->cpu[i]->runner) != self)
            continue;
        for (const struct hcall_frame *f = vm->cpu[i]->frame; f; f = f->prev)
            n += f->hcall == h;
    }
    return n;
}

#ifdef HAVE_FFI
static int insert(struct vc_vm *vm, struct hcall *h)
{
    unsigned i = place(vm, h->nr);
    if (i < vm->nhcalls && vm->hcalls[i]->nr == h->nr)
        return err_set(VC_EEXIST, "hypercall %#x has a function already", h->nr);
    if (vm->nhcalls == vm->hcalls_room) {
        unsigned room = vm->hcalls_room ? 2 * vm->hcalls_room : 16;
        struct hcall **more = realloc(vm->hcalls, room * sizeof *more);
        if (!more)
            return err_set(VC_ENOMEM, "no memory for a hypercall");
        vm->hcalls = more;
        vm->hcalls_room = room;
    }
    memmove(&vm->hcalls[i + 1], &vm->hcalls[i], (vm->nhcalls - i) * sizeof *vm->hcalls);
    vm->hcalls[i] = h;
    vm->nhcalls++;
    atomic_store(&vm->has_hcall, true);
    return 0;
}
#endif

int vc_hcall_del(vc_vm *vm, uint32_t nr)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    bus_lock(vm->bus); /* vm->hcall is looked at */
    pthread_mutex_lock(&vm->lock);
    struct hcall *h = look_up(vm, nr);
    if (h) {
        unsigned i = place(vm, nr);
        vm->nhcalls--;
        memmove(&vm->hcalls[i], &vm->hcalls[i + 1], (vm->nhcalls - i) * sizeof *vm->hcalls);
        atomic_store(&vm->has_hcall, vm->hcall || vm->nhcalls);
        h->gone = true;
    }
    pthread_mutex_unlock(&vm->lock);
    bus_unlock(vm->bus);
    if (!h)
        return err_set(VC_ENOENT, "hypercall %#x has no function", nr);

    pthread_mutex_lock(&vm->lock);
    unsigned own = own_users(vm, h);
    h->users++; /* so that it outlives the wait */
    while (h->users > own + 1)
        pthread_cond_wait(&vm->hcall_idle, &vm->lock);
    bool last = --h->users == 0;
    pthread_mutex_unlock(&vm->lock);
    if (last)
        free(h);
    return 0;
}

void hcalls_free(struct vc_vm *vm)
{
    for (unsigned i = 0; i < vm->nhcalls; i++)
        free(vm->hcalls[i]);
    free(vm->hcalls);
}

struct hcall_frame *hcall_frame(struct vc_cpu *cpu)
{
    return cpu->frame && cpu->frame->calls == cpu->calls ? cpu->frame : NULL;
}

int vc_hcall_stop(vc_cpu *cpu, int code)
{
    if (!cpu)
        return err_null("cpu");
    err_begin();
    if (code >= 0)
        return err_set(VC_EINVAL, "code %d is not negative", code);
    if (!cpu_is_lent(cpu) || !hcall_frame(cpu))
        return err_set(VC_ESTATE, "no hypercall's function runs on vCPU %u and this thread",
                       cpu->index);
    cpu->frame->stop = code;
    return 0;
}

/* ---- the call ------------------------------------------------------------------------ */

#ifdef HAVE_FFI

/* A call's arguments on the way from the guest to the function. */
struct marshal {
    struct lin lin;
    const struct hcall *h;
    struct vc_cpu *cpu;
    uint64_t word[WORDS_MAX];
    unsigned nwords;
    union value {
        uint64_t u;
        const void *p;
        size_t n;
    } value[WORDS_MAX];
    void *at[WORDS_MAX]; /* ffi_call's pointers to them */
    unsigned nvalues;
    struct copy {
        uint64_t lin;
        uint8_t *host;
        size_t len;
    } back[VC_SIG_ARGS_MAX]; /* to be written */
    unsigned nback;
    void *heap[VC_SIG_ARGS_MAX];
    unsigned nheap;
    unsigned small; /* bytes used of: */
    _Alignas(16) uint8_t room[SMALL];
};

static ffi_type *const ffi_types[] = {
    [SIG_VOID] = &ffi_type_void,    [SIG_I8] = &ffi_type_sint8,     [SIG_I16] = &ffi_type_sint16,
    [SIG_I32] = &ffi_type_sint32,   [SIG_I64] = &ffi_type_sint64,   [SIG_U8] = &ffi_type_uint8,
    [SIG_U16] = &ffi_type_uint16,   [SIG_U32] = &ffi_type_uint32,   [SIG_U64] = &ffi_type_uint64,
    [SIG_F32] = &ffi_type_float,    [SIG_F64] = &ffi_type_double,   [SIG_ADDR] = &ffi_type_uint64,
    [SIG_BUF] = &ffi_type_pointer,  [SIG_CBUF] = &ffi_type_pointer, [SIG_OBUF] = &ffi_type_pointer,
    [SIG_CSTR] = &ffi_type_pointer, [SIG_UD] = &ffi_type_pointer,   [SIG_CPU] = &ffi_type_pointer,
};

static int prepare(struct hcall *h)
{
    unsigned n = 0;
    for (unsigned i = 0; i < h->sig.nargs; i++) {
        h->types[n++] = ffi_types[h->sig.arg[i]];
        if (sig_is_buf(h->sig.arg[i]))
            h->types[n++] = sizeof(size_t) == 8 ? &ffi_type_uint64 : &ffi_type_uint32;
    }
    if (ffi_prep_cif(&h->cif, FFI_DEFAULT_ABI, n, ffi_types[h->sig.ret], h->types) != FFI_OK)
        return err_set(VC_EINTERNAL, "libffi refuses the signature");
    return 0;
}

int vc_hcall(vc_vm *vm, uint32_t nr, const char *signature, vc_fn *fn, void *ud)
{
    if (!vm || !signature || !fn)
        return err_null(!vm ? "vm" : !fn ? "fn" : "signature");
    err_begin();
    if (nr > VC_HCALL_NR_MAX)
        return err_set(VC_ERANGE, "hypercall %#x: numbers go to %#x", nr, VC_HCALL_NR_MAX);
    struct sig sig;
    int rc = sig_parse(signature, false, &sig);
    if (rc)
        return rc;
    struct hcall *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(VC_ENOMEM, "no memory for a hypercall");
    *h = (struct hcall){.nr = nr, .sig = sig, .fn = fn, .ud = ud};
    rc = prepare(h);
    if (!rc) {
        pthread_mutex_lock(&vm->lock);
        rc = insert(vm, h);
        pthread_mutex_unlock(&vm->lock);
    }
    if (rc)
        free(h);
    return rc;
}

static bool take_words(struct marshal *m, const struct vc_gprs *g, uint64_t stack)
{
    static const uint8_t order[] = {7, 6, 2, 10, 8, 9};
    unsigned word = m->lin.word, nregs = word == 8 ? 6 : 3;
    m->nwords = sig_words(&m->h->sig, word);
    for (unsigned i = 0; i < m->nwords; i++) {
        uint64_t w = 0;
        if (i < nregs)
            w = g->gpr[order[i]];
        else if (!lin_read(&m->lin, stack + word * (1 + i - nregs), &w, word))
            return false;
        m->word[i] = word == 8 ? w : (uint32_t)w;
    }
    return true;
}

static void *room(struct marshal *m, size_t len)
{
    size_t need = (len + 15) & ~(size_t)15;
    if (need <= SMALL - m->small) {
        void *p = m->room + m->small;
        m->small += (unsigned)need;
        return p;
    }
    void *p = malloc(len);
    if (p)
        m->heap[m->nheap++] = p;
    return p;
}

static void add(struct marshal *m, union value v)
{
    m->value[m->nvalues] = v;
    m->at[m->nvalues] = &m->value[m->nvalues];
    m->nvalues++;
}

static long long take_buf(struct marshal *m, uint8_t type, uint64_t ptr, uint64_t len)
{
    if (len > VC_HCALL_BUF_MAX)
        return VC_HCALL_ELEN;
    uint64_t at = lin_addr(&m->lin, m->lin.ds, ptr);
    uint8_t *host = room(m, len);
    if (!host)
        return VC_HCALL_ENOMEM;
    if (type != SIG_CBUF && len) {
        if (!lin_check(&m->lin, at, len, VC_ACC_WRITE))
            return VC_HCALL_EPTR;
        m->back[m->nback++] = (struct copy){at, host, len};
    }
    if (type == SIG_OBUF)
        memset(host, 0, len);
    else if (len && !lin_read(&m->lin, at, host, len))
        return VC_HCALL_EPTR;
    add(m, (union value){.p = host});
    add(m, (union value){.n = (size_t)len});
    return 0;
}

static long long take_string(struct marshal *m, uint64_t ptr)
{
    uint64_t at = lin_addr(&m->lin, m->lin.ds, ptr);
    char *host = malloc(VC_HCALL_STR_MAX);
    size_t len;
    if (!host)
        return VC_HCALL_ENOMEM;
    m->heap[m->nheap++] = host;
    switch (lin_string(&m->lin, at, host, VC_HCALL_STR_MAX, &len)) {
    case LIN_STR_FAULT: return VC_HCALL_EPTR;
    case LIN_STR_LONG: return VC_HCALL_ESTR;
    default: break;
    }
    add(m, (union value){.p = host});
    return 0;
}

static long long take_arg(struct marshal *m, uint8_t type, const uint64_t *w)
{
    switch (type) {
    case SIG_UD: add(m, (union value){.p = m->h->ud}); return 0;
    case SIG_CPU: add(m, (union value){.p = m->cpu}); return 0;
    case SIG_BUF:
    case SIG_CBUF:
    case SIG_OBUF: return take_buf(m, type, w[0], w[1]);
    case SIG_CSTR: return take_string(m, w[0]);
    default: break;
    }
    bool two = m->lin.word == 4 && sig_type_words(type, 4) == 2;
    add(m, (union value){.u = sig_extend(type, two ? w[0] | w[1] << 32 : w[0])});
    return 0;
}

static uint64_t result_word(uint8_t type, const union value *ret)
{
    return sig_extend(type, ret->u);
}

static uint64_t invoke(struct marshal *m, struct hcall_frame *frame)
{
    struct vc_cpu *cpu = m->cpu;
    struct hcall *h = frame->hcall;
    _Alignas(16) union {
        union value v;
        ffi_arg arg;
    } ret = {.v.u = 0};
    uintptr_t self = (uintptr_t)pthread_self();
    frame->prev = cpu->frame;
    frame->calls = cpu->calls;
    cpu->frame = frame;
    atomic_store(&cpu->runner, self);
    atomic_store(&cpu->lent_to, self);
    ffi_call(&h->cif, h->fn, &ret, m->at);
    atomic_store(&cpu->lent_to, 0);
    atomic_store(&cpu->runner, frame->prev ? self : 0);
    cpu->frame = frame->prev;
    return result_word(h->sig.ret, &ret.v);
}

static long long give_back(struct marshal *m)
{
    for (unsigned i = 0; i < m->nback; i++) {
        if (!lin_write(&m->lin, m->back[i].lin, m->back[i].host, m->back[i].len))
            return VC_HCALL_EPTR;
    }
    return 0;
}

static uint64_t call_marshalled(struct marshal *m, struct hcall_frame *frame,
                                const struct vc_gprs *g, uint64_t stack)
{
    const struct sig *sig = &m->h->sig;
    unsigned said = g->gpr[RAX] >> NR_BITS & 0xff, at = 0;
    if (said && said != sig_words(sig, m->lin.word) + 1)
        return (uint64_t)VC_HCALL_EARITY;
    if (!take_words(m, g, stack))
        return (uint64_t)VC_HCALL_EPTR;
    for (unsigned i = 0; i < sig->nargs; i++) {
        long long err = take_arg(m, sig->arg[i], &m->word[at]);
        if (err)
            return (uint64_t)err;
        at += sig_type_words(sig->arg[i], m->lin.word);
    }
    uint64_t ret = invoke(m, frame);
    if (frame->stop)
        return (uint64_t)VC_HCALL_EFAIL;
    long long err = give_back(m);
    return err ? (uint64_t)err : ret;
}

static uint64_t call(struct hcall_frame *frame, const struct lin *l, const struct vc_gprs *g,
                     uint64_t stack)
{
    struct marshal m; /* not cleared: it has the room for small buffers */
    m.lin = *l;
    m.h = frame->hcall;
    m.cpu = l->cpu;
    m.nwords = m.nvalues = m.nback = m.nheap = m.small = 0;
    uint64_t ret = call_marshalled(&m, frame, g, stack);
    while (m.nheap)
        free(m.heap[--m.nheap]);
    return ret;
}

#else

int vc_hcall(vc_vm *vm, uint32_t nr, const char *signature, vc_fn *fn, void *ud)
{
    (void)ud;
    if (!vm || !signature || !fn)
        return err_null(!vm ? "vm" : !fn ? "fn" : "signature");
    err_begin();
    return err_set(VC_ENOTSUP,
                   "hypercall %#x: this library was built without libffi, which calls functions "
                   "by signature; vc_hcall_set() takes hypercalls without one",
                   nr);
}

static uint64_t call(struct hcall_frame *frame, const struct lin *l, const struct vc_gprs *g,
                     uint64_t stack)
{
    (void)frame, (void)l, (void)g, (void)stack;
    return (uint64_t)VC_HCALL_ENR;
}

#endif

/* ---- from and to the engine --------------------------------------------------------------- */

static uint64_t stack_at(const struct lin *l, const struct vc_sregs *s, const struct vc_gprs *g)
{
    uint64_t sp = g->gpr[RSP];
    if (l->word != 8 && !(s->ss.attr & ATTR_B))
        sp &= 0xffff;
    return lin_addr(l, l->ss, sp);
}

/* One that came by the port and has no function: vc_hcall_set()'s. */
static int call_raw(struct vc_cpu *cpu, const struct vc_gprs *g, uint64_t *ret)
{
    const uint64_t args[6] = {g->gpr[7], g->gpr[6], g->gpr[2], g->gpr[10], g->gpr[8], g->gpr[9]};
    struct vc_vm *vm = cpu->vm;
    bus_lock(vm->bus);
    int rc = vm->hcall ? vm->hcall(vm->hcall_ud, cpu, g->gpr[RAX], args, ret) : ENV_UNHANDLED;
    bus_unlock(vm->bus);
    if (rc > 0)
        *ret = (uint64_t)VC_HCALL_ENR;
    return rc < 0 ? rc : 0;
}

/* The instruction was finished when its function called the guest: its result goes to
 * RAX as if it had just come. */
static int late_result(struct vc_cpu *cpu, uint64_t ret)
{
    struct vc_gprs g = {.size = sizeof g};
    int rc = cpu->vm->be->gprs(cpu->bcpu, false, &g);
    g.gpr[RAX] = ret;
    return rc ? rc : cpu->vm->be->gprs(cpu->bcpu, true, &g);
}

static bool is_port(const struct vc_exit *x)
{
    return x->kind == VC_EXIT_PORT && x->u.port.write && x->u.port.len == 4 &&
           x->u.port.port == VC_HCALL_PORT;
}

int hcall_exit(struct vc_cpu *cpu)
{
    struct vc_vm *vm = cpu->vm;
    struct vc_exit *x = &cpu->exit;
    bool port = is_port(x);
    if ((!port && x->kind != VC_EXIT_HCALL) || !vm_has_hcall(vm))
        return 1;
    struct vc_gprs g = {.size = sizeof g};
    struct vc_sregs s = {.size = sizeof s};
    int rc = vm->be->gprs(cpu->bcpu, false, &g);
    if (!rc)
        rc = vm->be->sregs(cpu->bcpu, false, &s);
    if (rc)
        return rc;
    if (port && x->u.port.data != (uint32_t)g.gpr[RAX])
        return 1; /* of a string instruction */
    struct hcall_frame frame = {.hcall = get(vm, g.gpr[RAX])};
    if (!port && !frame.hcall)
        return 1;

    struct lin l;
    lin_of(&l, cpu, &s);
    if (l.word == 2)
        l.word = 4;
    uint64_t stack = stack_at(&l, &s, &g), ret = 0;
    bool slot = port && lin_check(&l, stack, l.word, VC_ACC_WRITE);
    int stop = 0;
    if (port && !slot)
        ; /* nowhere to put a result: nothing is called */
    else if (frame.hcall)
        ret = call(&frame, &l, &g, stack);
    else
        stop = call_raw(cpu, &g, &ret);
    if (frame.hcall)
        put(vm, frame.hcall);
    if (!stop)
        stop = frame.stop;

    if (slot)
        lin_write(&l, stack, &ret, l.word);
    else if (!port && frame.finished)
        rc = late_result(cpu, ret);
    else if (!port)
        x->u.hcall.ret = ret;
    if (!rc && stop) {
        cpu->answered = !frame.finished;
        cpu->callback_rc = stop;
        rc = VC_ECALLBACK;
    }
    return rc;
}
