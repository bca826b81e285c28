/* SPDX-License-Identifier: MIT
 * Functions of the guest's, called by the host: arguments, results, the state afterwards,
 * and functions that do not return. */
#include "calls.h"
#include <stdio.h>

/* Functions at known offsets, each in 16 bytes or several times that. */
#define AT(n) ".balign 16; .org functions_start + " #n "\n"
GUEST(
    functions, AT(0x00) "add %rsi, %rdi; sub %rdx, %rdi; mov %rdi, %rax; ret\n"
    /* 8 integers: the seventh less the eighth, both on the stack */
    AT(0x10) "mov 8(%rsp), %rax; sub 16(%rsp), %rax; ret\n" AT(
        0x20) "mulsd %xmm1, %xmm0; ret\n" AT(0x30) "cvtsi2ss %edi, %xmm1; addss %xmm1, %xmm0; "
                                                   "ret\n" AT(0x40) "ud2\n" AT(0x50) "1: jmp "
                                                                                     "1b\n" AT(0x60) "mov 0x7000000000, %rax; ret\n"
    /* strlen */
    AT(0x70) "xor %eax, %eax; 1: cmpb $0, (%rdi,%rax); je 2f; inc %rax; jmp 1b; 2: ret\n"
    /* bytes + 1 */
    AT(0x90) "mov %rsi, %rax; 1: test %rsi, %rsi; je 2f; incb -1(%rdi,%rsi); dec %rsi; jmp 1b\n"
             "2: ret\n"
    /* changes what it can */
    AT(0xb0) "mov $0x1234, %rbx; mov %rbx, %rbp; mov %rbx, %r15; std; pcmpeqd %xmm7, %xmm7\n"
             "mov %cr4, %rax; or $4, %rax; mov %rax, %cr4; mov %rsp, %rax; ret\n" AT(
                 0xe0) "pop %rax; push %rax; push %rax; ret\n" /* one word too few taken */
    AT(0xf0) "in $0x10, %al; movzx %al, %eax; ret\n" AT(0x100) "hlt; mov $7, %eax; ret\n"
    /* calls the host: hypercall RDI with RSI and RDX; adds 1 */
    AT(0x110) "mov %edi, %eax; mov %rsi, %rdi; mov %rdx, %rsi; sub $128, %rsp; push %rax\n"
              "out %eax, $0xbc; pop %rax; add $128, %rsp; inc %rax; ret\n" AT(
                  0x140) "mov %edi, %eax; mov %rsi, %rdi; mov %rdx, %rsi; vmmcall; inc %rax; "
                         "ret\n" AT(0x160) "mov %al, %al; movzx %al, %eax; ret\n" /* how many
                                                                                     vectors */
    /* a program: signals by a port write, then counts */
    AT(0x170) "mov $5, %ebx; out %al, $0x20; inc %ebx; hlt\n" AT(0x180) "in $0x20, %al; hlt\n"
    /* 9 doubles: the last, on the stack */
    AT(0x190) "movsd 8(%rsp), %xmm0; ret\n" AT(0x1a0) "movb $0, 8(%rdi); xor %eax, %eax; ret\n"
    /* programs: bytes of a string to a port; hypercalls of number 1 as a string */
    AT(0x1b0) "mov $0x8000, %esi; mov $3, %ecx; mov $0x20, %edx; rep outsb; hlt\n" AT(
        0x1d0) "mov $0x8000, %esi; mov $3, %ecx; mov $0xbc, %edx; mov $1, %eax; rep outsl; hlt\n");

#define FN(offset) (CODE + (offset))
enum {
    ADD_SUB = 0x00,
    SEVENTH = 0x10,
    MUL = 0x20,
    ADD_F = 0x30,
    FAULT = 0x40,
    SPIN = 0x50,
    READ_FAR = 0x60,
    LENGTH = 0x70,
    INC_ALL = 0x90,
    CLOBBER = 0xb0,
    UNBALANCED = 0xe0,
    READ_PORT = 0xf0,
    HALT = 0x100,
    HOST = 0x110,
    HOST_VMCALL = 0x140,
    VECTORS = 0x160,
    PROGRAM = 0x170,
    PROGRAM_IN = 0x180,
    NINTH = 0x190,
    PROGRAM_OUTS = 0x1b0,
    PROGRAM_HCALLS = 0x1d0,
};

struct fixture {
    vc_vm *vm;
    vc_cpu *cpu;
};

static struct fixture fixture(void)
{
    struct fixture f = {.vm = open_vm()};
    f.cpu = guest_cpu(f.vm, functions);
    return f;
}

#define V(x)                                                                                       \
    {                                                                                              \
        .v.u = (uint64_t)(x)                                                                       \
    }
#define call(f, fn, sig, result, ...)                                                              \
    vc_call((f).cpu, FN(fn), sig, (struct vc_value[]){__VA_ARGS__},                                \
            sizeof((struct vc_value[]){__VA_ARGS__}) / sizeof(struct vc_value), result, NULL)

/* ---- arguments and results ----------------------------------------------------- */

Test(call, numbers)
{
    struct fixture f = fixture();
    struct vc_value r;
    works(call(f, ADD_SUB, "i64(i64,u32,u8)", &r, V(-5), V(0xfffffffffffffff0), V(0x101)));
    cr_assert_eq(r.v.i, -5 + 0xfffffff0ll - 1);
    works(call(f, ADD_SUB, "u8(i8,i16,i32)", &r, V(0x80), V(-1), V(-1)));
    cr_assert_eq(r.v.u, 0x80);
    works(call(f, ADD_SUB, "i8(u64,u64,u64)", &r, V(0x90), V(0), V(0)));
    cr_assert_eq(r.v.i, -112);
    works(call(f, SEVENTH, "i64(i64,i64,i64,i64,i64,i64,i64,i64)", &r, V(1), V(2), V(3), V(4), V(5),
               V(6), V(700), V(1)));
    cr_assert_eq(r.v.i, 699);
    works(call(f, MUL, "f64(f64,f64)", &r, {.v.f = 1.5}, {.v.f = -3}));
    cr_assert_eq(r.v.f, -4.5);
    works(call(f, ADD_F, "f32(u32,f32)", &r, V(3), {.v.f = 0.25}));
    cr_assert_eq(r.v.f, 3.25);
    works(call(f, NINTH, "f64(f64,f64,f64,f64,f64,f64,f64,f64,f64)", &r, V(0), V(0), V(0), V(0),
               V(0), V(0), V(0), V(0), {.v.f = 9.5}));
    cr_assert_eq(r.v.f, 9.5);
    works(call(f, VECTORS, "u64(f64,i64,f32)", &r, V(0), V(0), V(0)));
    cr_assert_eq(r.v.u, 2);
    works(call(f, ADD_SUB, "void(i64,i64,i64)", NULL, V(0), V(0), V(0)));
    works(vc_close(f.vm));
}

Test(call, strings_and_buffers)
{
    struct fixture f = fixture();
    struct vc_value r;
    works(call(f, LENGTH, "u64(cstr)", &r, {.v.p = "seven77"}));
    cr_assert_eq(r.v.u, 7);
    char b[5] = "abcd";
    works(call(f, INC_ALL, "u64(buf)", &r, {.v.buf = b, .len = 4}));
    cr_assert_eq(r.v.u, 4);
    cr_assert_str_eq(b, "bcde");
    works(call(f, INC_ALL, "u64(cbuf)", &r, {.v.buf = b, .len = 4}));
    cr_assert_str_eq(b, "bcde");
    works(call(f, INC_ALL, "u64(obuf)", &r, {.v.buf = b, .len = 4}));
    cr_assert(!memcmp(b, "\1\1\1\1", 4));
    works(call(f, INC_ALL, "u64(buf)", &r, {.v.buf = NULL, .len = 0}));
    cr_assert_eq(r.v.u, 0);
    works(vc_close(f.vm));
}

Test(call, arguments_that_are_wrong)
{
    struct fixture f = fixture();
    struct vc_value r, a = V(1);
    fails(vc_call(NULL, FN(0), "void()", NULL, 0, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), NULL, NULL, 0, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), "void(", NULL, 0, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), "void(ud)", &a, 1, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), "void(i64)", NULL, 0, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), "void(i64)", NULL, 1, NULL, NULL), VC_EINVAL);
    fails(vc_call(f.cpu, FN(0), "void()", &a, 1, NULL, NULL), VC_EINVAL);
    fails(call(f, LENGTH, "u64(cstr)", &r, {.v.p = NULL}), VC_EINVAL);
    fails(call(f, INC_ALL, "u64(buf)", &r, {.v.p = NULL, .len = 1}), VC_EINVAL);
    fails(call(f, INC_ALL, "u64(buf)", &r, {.v.p = &a, .len = SIZE_MAX}), VC_ERANGE);
    struct vc_call_opts o = {.size = 0};
    fails(vc_call(f.cpu, FN(0), "void()", NULL, 0, NULL, &o), VC_EINVAL);
    /* Stacks: none, not mapped, at the end of RAM, larger than RAM. */
    uint64_t rsp[] = {0, 0x100, 0x80, 0x800000000000, 0x40000000, 0x10000 + 4096};
    for (unsigned i = 0; i < sizeof rsp / sizeof *rsp; i++) {
        works(vc_reg_set(f.cpu, VC_REG_RSP, rsp[i]));
        vc_errclear();
        int rc = vc_call(f.cpu, FN(ADD_SUB), "void(i64,i64,i64)", (struct vc_value[3]){0}, 3, NULL,
                         NULL);
        cr_assert_eq(rc,
                     i == 1   ? 0
                     : i == 0 ? VC_EINVAL
                              : VC_EFAULT,
                     "%u: %d %s", i, rc, vc_errmsg());
        cr_assert_eq(reg(f.cpu, VC_REG_RSP), rsp[i]);
    }
    static char large[100000];
    works(vc_reg_set(f.cpu, VC_REG_RSP, STACK));
    fails(call(f, INC_ALL, "u64(buf)", &r, {.v.p = large, .len = sizeof large}), VC_EFAULT);
    o = (struct vc_call_opts){.size = sizeof o, .stack = 0x9000};
    works(vc_call(f.cpu, FN(CLOBBER), "u64()", NULL, 0, &r, &o));
    cr_assert(r.v.u < 0x9000 && r.v.u > 0x8f00);
    works(vc_close(f.vm));
}

/* ---- the state -------------------------------------------------------------------- */

Test(call, state_as_before)
{
    struct fixture f = fixture();
    struct vc_gprs a = {.size = sizeof a}, b = {.size = sizeof b};
    struct vc_sregs sa = {.size = sizeof sa}, sb = {.size = sizeof sb};
    struct vc_fpu fa = {.size = sizeof fa}, fb = {.size = sizeof fb};
    struct vc_value r;
    for (int i = 0; i < 16; i++)
        a.gpr[i] = (uint64_t)i * 0x0101010101010101;
    a.gpr[4] = STACK - 3; /* any alignment */
    a.rip = FN(SPIN);
    a.rflags = 0x8d7 & ~0x28u;
    works(vc_gprs_set(f.cpu, &a));
    works(vc_fpu_get(f.cpu, &fa));
    memset(fa.xsave + 160, 0x5a, 256);
    fa.xsave[512] |= 3;
    works(vc_fpu_set(f.cpu, &fa));
    works(vc_gprs_get(f.cpu, &a));
    works(vc_sregs_get(f.cpu, &sa));
    works(vc_fpu_get(f.cpu, &fa));
    uint8_t red[128], red2[128];
    works(vc_read(f.vm, STACK - 3 - 128, red, 128));
    works(call(f, CLOBBER, "u64(f64)", &r, {.v.f = 3}));
    cr_assert_eq((r.v.u + 8) % 16, 0, "the stack is not aligned");
    (void)call(f, FAULT, "void(i64)", NULL, V(0));
    works(vc_gprs_get(f.cpu, &b));
    works(vc_sregs_get(f.cpu, &sb));
    works(vc_fpu_get(f.cpu, &fb));
    works(vc_read(f.vm, STACK - 3 - 128, red2, 128));
    cr_assert(!memcmp(&a, &b, sizeof a));
    cr_assert(!memcmp(&sa, &sb, sizeof sa));
    cr_assert(!memcmp(&fa, &fb, sizeof fa));
    cr_assert(!memcmp(red, red2, 128), "the red zone was written to");
    works(vc_close(f.vm));
}

Test(call, in_the_middle_of_a_program)
{
    struct fixture f = fixture();
    struct vc_exit x = {.size = sizeof x};
    struct vc_value r;
    works(vc_reg_set(f.cpu, VC_REG_RIP, FN(PROGRAM)));
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    for (int i = 0; i < 3; i++) {
        works(call(f, ADD_SUB, "i64(i64,i64,i64)", &r, V(i), V(2), V(1)));
        cr_assert_eq(r.v.i, i + 1);
    }
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_eq(reg(f.cpu, VC_REG_RBX), 6, "the write to the port was done again or not at all");

    /* An exit that waits for its answer. */
    works(vc_reg_set(f.cpu, VC_REG_RIP, FN(PROGRAM_IN)));
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    fails(vc_call(f.cpu, FN(HALT), "void()", NULL, 0, NULL, NULL), VC_ESTATE);
    x.u.port.data = 0x55;
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(reg(f.cpu, VC_REG_RAX) & 0xff, 0x55);
    works(vc_close(f.vm));
}

/* ---- functions that do not return ----------------------------------------------------- */

/* Where the processor's state is lost at a triple fault, as with AMD's extensions, it is
 * said that nobody knows. */
static void says_where(const char *words)
{
    bool lost = !strcmp(tested(), "kvm") && strstr(vc_errmsg(), "state is lost");
    cr_assert(lost || strstr(vc_errmsg(), words), "%s", vc_errmsg());
}

Test(call, faults)
{
    struct fixture f = fixture();
    struct vc_value r;
    fails(vc_call(f.cpu, FN(FAULT), "void()", NULL, 0, NULL, NULL), VC_EFAULT);
    says_where("0x1040 (bytes 0f 0b");
    fails(vc_call(f.cpu, FN(READ_FAR), "u64()", NULL, 0, &r, NULL), VC_EFAULT);
    says_where("0x7000000000");
    fails(vc_call(f.cpu, 0x123456789000, "u64()", NULL, 0, &r, NULL), VC_EFAULT);
    fails(vc_call(f.cpu, FN(UNBALANCED), "u64()", NULL, 0, &r, NULL), VC_EFAULT);
    fails(vc_call(f.cpu, FN(HALT), "u64()", NULL, 0, &r, NULL), VC_ESTATE);
    fails(vc_call(f.cpu, FN(READ_PORT), "u64()", NULL, 0, &r, NULL), VC_ESTATE);
    works(call(f, ADD_SUB, "i64(i64,i64,i64)", &r, V(1), V(2), V(1)));
    cr_assert_eq(r.v.i, 2);
    works(vc_close(f.vm));
}

static int on_exit_of_call(void *ud, vc_cpu *cpu, struct vc_exit *x)
{
    struct vc_value r;
    int *n = ud;
    if (++*n > 2)
        return -9;
    if (x->kind == VC_EXIT_PORT) {
        cr_assert_eq(x->u.port.port, 0x10);
        fails(vc_call(cpu, FN(ADD_SUB), "i64()", NULL, 0, &r, NULL), VC_ESTATE);
        x->u.port.data = 0x42;
    } else {
        cr_assert_eq(x->kind, VC_EXIT_HLT);
        works(vc_call(cpu, FN(VECTORS), "u64()", NULL, 0, &r, NULL));
    }
    return 0;
}

Test(call, exits_with_a_handler)
{
    struct fixture f = fixture();
    struct vc_value r;
    int n = 0;
    struct vc_call_opts o = {.size = sizeof o, .exit = on_exit_of_call, .ud = &n};
    works(vc_call(f.cpu, FN(READ_PORT), "u64()", NULL, 0, &r, &o));
    cr_assert_eq(r.v.u, 0x42);
    works(vc_call(f.cpu, FN(HALT), "u64()", NULL, 0, &r, &o));
    cr_assert_eq(r.v.u, 7);
    fails(vc_call(f.cpu, FN(HALT), "u64()", NULL, 0, &r, &o), VC_ECALLBACK);
    works(vc_close(f.vm));
}

Test(call, budget)
{
    struct fixture f = fixture();
    struct vc_budget b = little(1000);
    struct vc_call_opts o = {.size = sizeof o, .insns = b.insns, .ns = b.ns};
    fails(vc_call(f.cpu, FN(SPIN), "void()", NULL, 0, NULL, &o), VC_ELIMIT);
    o = (struct vc_call_opts){.size = sizeof o, .ns = 3000000};
    fails(vc_call(f.cpu, FN(SPIN), "void()", NULL, 0, NULL, &o), VC_ELIMIT);
    works(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, &o));
    works(vc_close(f.vm));
}

static void *kicker(void *cpu)
{
    usleep(20000);
    works(vc_kick(cpu));
    return NULL;
}

Test(call, kick)
{
    struct fixture f = fixture();
    pthread_t t;
    pthread_create(&t, NULL, kicker, f.cpu);
    fails(vc_call(f.cpu, FN(SPIN), "void()", NULL, 0, NULL, NULL), VC_EKICKED);
    pthread_join(t, NULL);
    works(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, NULL));
    works(vc_kick(f.cpu));
    fails(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, NULL), VC_EKICKED);
    works(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, NULL));
    works(vc_close(f.vm));
}

/* ---- calls within calls ------------------------------------------------------------------ */

/* Factorial, half of it in the guest: host(n) = n * (guest(host(n - 1)) - 1). */
static uint64_t via;
static int64_t factorial(vc_cpu *cpu, int64_t n)
{
    struct vc_value r, args[] = {V(1), V(n - 1)};
    if (n <= 1)
        return 1;
    int rc = vc_call(cpu, via, "i64(u32,i64)", args, 2, &r, NULL);
    return rc ? rc : n * (r.v.i - 1);
}

static void nested(unsigned fn)
{
    struct fixture f = fixture();
    struct vc_value r;
    via = FN(fn);
    works(vc_hcall(f.vm, 1, "i64(cpu,i64)", VC_FN(factorial), NULL));
    works(call(f, fn, "i64(u32,i64)", &r, V(1), V(10)));
    cr_assert_eq(r.v.i, 3628800 + 1);
    /* Sixteen deep, and not deeper: the innermost says so, and it comes out as a number. */
    works(call(f, fn, "i64(u32,i64)", &r, V(1), V(VC_CALL_DEPTH_MAX)));
    cr_assert_eq(r.v.i, 20922789888000 + 1);
    works(call(f, fn, "i64(u32,i64)", &r, V(1), V(VC_CALL_DEPTH_MAX + 1)));
    cr_assert_neq(r.v.i, 355687428096000 + 1);
    works(vc_close(f.vm));
}

Test(call, nested)
{
    if (!have_ffi())
        return;
    nested(HOST);
    if (!can(VC_FEAT_HW))
        nested(HOST_VMCALL);
}

static int inner_rc;
static int64_t spin_inside(vc_cpu *cpu, int64_t kick)
{
    if (kick)
        works(vc_kick(cpu));
    struct vc_call_opts o = {.size = sizeof o};
    inner_rc = vc_call(cpu, FN(SPIN), "void()", NULL, 0, NULL, &o);
    return 0;
}

Test(call, kick_and_budget_of_nested)
{
    if (!have_ffi())
        return;
    struct fixture f = fixture();
    works(vc_hcall(f.vm, 1, "i64(cpu,i64)", VC_FN(spin_inside), NULL));
    /* The inner call ends, and so does the outer. */
    fails(call(f, HOST, "i64(u32,i64)", NULL, V(1), V(1)), VC_EKICKED);
    cr_assert_eq(inner_rc, VC_EKICKED);
    struct vc_call_opts o = {.size = sizeof o, .ns = 5000000};
    fails(vc_call(f.cpu, FN(HOST), "i64(u32,i64)", (struct vc_value[]){V(1), V(0)}, 2, NULL, &o),
          VC_ELIMIT);
    cr_assert_eq(inner_rc, VC_ELIMIT);
    works(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, NULL));
    works(vc_close(f.vm));
}

static int64_t stop_deep(vc_cpu *cpu, int64_t n)
{
    struct vc_value r, args[] = {V(1), V(n - 1)};
    if (n == 0)
        return vc_hcall_stop(cpu, -33);
    int rc = vc_call(cpu, FN(HOST), "i64(u32,i64)", args, 2, &r, NULL);
    cr_assert_eq(rc, n == 1 ? VC_ECALLBACK : 0);
    return rc;
}

Test(call, stop_of_nested)
{
    if (!have_ffi())
        return;
    struct fixture f = fixture();
    struct vc_value r;
    works(vc_hcall(f.vm, 1, "i64(cpu,i64)", VC_FN(stop_deep), NULL));
    fails(call(f, HOST, "i64(u32,i64)", &r, V(1), V(0)), VC_ECALLBACK);
    cr_assert_not_null(strstr(vc_errmsg(), "-33"));
    works(call(f, HOST, "i64(u32,i64)", &r, V(1), V(1)));
    cr_assert_eq(r.v.i, VC_ECALLBACK + 1);
    works(call(f, HOST, "i64(u32,i64)", &r, V(1), V(2)));
    works(vc_close(f.vm));
}

/* ---- in the middle of REP OUTS ------------------------------------------------------------- */

Test(call, in_the_middle_of_a_string)
{
    struct fixture f = fixture();
    struct vc_exit x = {.size = sizeof x};
    struct vc_value r;
    works(vc_write(f.vm, 0x8000, "abc", 3));
    works(vc_reg_set(f.cpu, VC_REG_RIP, FN(PROGRAM_OUTS)));
    for (unsigned i = 0; i < 3; i++) {
        works(vc_run(f.cpu, NULL, &x));
        cr_assert_eq(x.kind, VC_EXIT_PORT, "exit %u", x.kind);
        cr_assert_eq(x.u.port.data & 0xff, 'a' + i);
        for (int k = 0; k < 2; k++) {
            works(call(f, ADD_SUB, "i64(i64,i64,i64)", &r, V(k), V(2), V(1)));
            cr_assert_eq(r.v.i, k + 1);
            cr_assert_eq(reg(f.cpu, VC_REG_RCX), 2 - i, "after the call");
            cr_assert_eq(reg(f.cpu, VC_REG_RSI), 0x8001 + i);
        }
    }
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT, "exit %u", x.kind);
    works(vc_close(f.vm));
}

static unsigned times;
static void call_back(vc_cpu *cpu)
{
    struct vc_value r, args[] = {V(times), V(2), V(1)};
    works(vc_call(cpu, FN(ADD_SUB), "i64(i64,i64,i64)", args, 3, &r, NULL));
    cr_assert_eq(r.v.u, times + 1);
    times++;
}

Test(call, in_the_middle_of_a_string_of_hypercalls)
{
    if (!have_ffi())
        return;
    static const uint32_t one[] = {1, 1, 1};
    struct fixture f = fixture();
    struct vc_exit x = {.size = sizeof x};
    times = 0;
    works(vc_hcall(f.vm, 1, "void(cpu)", VC_FN(call_back), NULL));
    works(vc_write(f.vm, 0x8000, one, sizeof one));
    works(vc_reg_set(f.cpu, VC_REG_RIP, FN(PROGRAM_HCALLS)));
    works(vc_run(f.cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT, "exit %u", x.kind);
    cr_assert_eq(times, 3);
    cr_assert_eq(reg(f.cpu, VC_REG_RCX), 0);
    works(vc_close(f.vm));
}

/* ---- other vCPUs and modes --------------------------------------------------------------- */

Test(call, busy)
{
    struct fixture f = fixture();
    struct runner r;
    works(vc_reg_set(f.cpu, VC_REG_RIP, FN(SPIN)));
    runner_start(&r, f.cpu);
    fails(vc_call(f.cpu, FN(VECTORS), "void()", NULL, 0, NULL, NULL), VC_EBUSY);
    runner_stop(&r);
    works(vc_close(f.vm));
}

Test(call, flat_32_bit)
{
    /* a + b by cdecl in EDX:EAX; int sum of bytes */
    static const uint8_t add64[] = {0x8b, 0x44, 0x24, 0x04, 0x8b, 0x54, 0x24, 0x08, 0x03,
                                    0x44, 0x24, 0x0c, 0x13, 0x54, 0x24, 0x10, 0xc3};
    static const uint8_t last[] = {0x8b, 0x44, 0x24, 0x04, 0x8b, 0x4c, 0x24,
                                   0x08, 0x0f, 0xb6, 0x44, 0x08, 0xff, 0xc3};
    vc_vm *vm = open_vm();
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_write(vm, CODE, add64, sizeof add64));
    works(vc_write(vm, CODE + 0x40, last, sizeof last));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_FLAT32, CODE);
    struct vc_value r, args[] = {V(0xffffffffull), V(0x100000002ull)};
    fails(vc_call(cpu, CODE, "u64(u64,u64)", args, 2, &r, NULL), VC_EINVAL); /* no stack */
    works(vc_reg_set(cpu, VC_REG_RSP, STACK));
    works(vc_call(cpu, CODE, "u64(u64,u64)", args, 2, &r, NULL));
    cr_assert_eq(r.v.u, 0x200000001);
    struct vc_value buf = {.v.p = "xyz", .len = 3};
    works(vc_call(cpu, CODE + 0x40, "u8(cbuf)", &buf, 1, &r, NULL));
    cr_assert_eq(r.v.u, 'z');
    fails(vc_call(cpu, CODE, "f64(u64,u64)", args, 2, &r, NULL), VC_ENOTSUP);
    fails(vc_call(cpu, 1ull << 32, "u64(u64,u64)", args, 2, &r, NULL), VC_ERANGE);
    vc_cpu *real = vc_cpu_new(vm, VC_MODE_REAL16, CODE);
    works(vc_reg_set(real, VC_REG_RSP, STACK));
    fails(vc_call(real, CODE, "u64(u64,u64)", args, 2, &r, NULL), VC_ENOTSUP);
    works(vc_close(vm));
}

Test(call, own_page_tables)
{
    /* Only the first 2 MiB, so not the library's trap. */
    struct fixture f = fixture();
    const uint64_t pml4 = 0x5007, pdpt = 0x6007, pd = 0x83;
    struct vc_value r;
    works(vc_map(f.vm, 0x10000, 0x1f0000, VC_MEM_RWX));
    works(vc_write(f.vm, 0x4000, &pml4, 8));
    works(vc_write(f.vm, 0x5000, &pdpt, 8));
    works(vc_write(f.vm, 0x6000, &pd, 8));
    works(vc_reg_set(f.cpu, VC_REG_CR3, 0x4000));
    fails(vc_call(f.cpu, FN(VECTORS), "u64()", NULL, 0, &r, NULL), VC_ENOTSUP);
    works(vc_write(f.vm, 0x3000, "\xe7\xbd", 2));
    struct vc_call_opts o = {.size = sizeof o, .ret = 0x3000};
    works(vc_call(f.cpu, FN(ADD_SUB), "u64(u64,u64,u64)", (struct vc_value[]){V(5), V(6), V(7)}, 3,
                  &r, &o));
    cr_assert_eq(r.v.u, 4);
    works(vc_close(f.vm));
}

/* Engines agree, and lockstep finds no difference in a call and its hypercalls. */
Test(call, every_engine)
{
    if (strcmp(tested(), "emu") || !have_ffi())
        return;
    for (uint32_t e = VC_ENGINE_AUTO; e <= VC_ENGINE_LOCKSTEP; e++) {
        struct vc_vm_opts o = {.size = sizeof o, .engine = e, .max_cpus = 1};
        struct fixture f = {.vm = vc_open("emu", &o)};
        if (!f.vm) {
            cr_assert_eq(vc_errcode(), VC_ENOTSUP);
            continue;
        }
        f.cpu = guest_cpu(f.vm, functions);
        struct vc_value r;
        via = FN(HOST);
        works(vc_hcall(f.vm, 1, "i64(cpu,i64)", VC_FN(factorial), NULL));
        for (int i = 0; i < 200; i++) {
            works(call(f, HOST, "i64(u32,i64)", &r, V(1), V(8)));
            cr_assert_eq(r.v.i, 40321);
            works(call(f, MUL, "f64(f64,f64)", &r, {.v.f = i}, {.v.f = 0.5}));
            cr_assert_eq(r.v.f, i / 2.0);
        }
        works(vc_close(f.vm));
    }
}

/* ---- ELF --------------------------------------------------------------------------------- */

Test(call, elf_refused)
{
    struct fixture f = fixture();
    uint64_t v;
    fails(vc_elf_load(NULL, "x", 1, &v), VC_EINVAL);
    fails(vc_elf_load(f.vm, NULL, 1, &v), VC_EINVAL);
    fails(vc_elf_load(f.vm, "\177ELF", 4, &v), VC_EFORMAT);
    fails(vc_elf_symbol("text", 4, "main", &v), VC_EFORMAT);
    fails(vc_elf_symbol("\177ELF", 4, "main", &v), VC_EFORMAT);
    fails(vc_elf_symbol(NULL, 4, "main", &v), VC_EINVAL);
    fails(vc_elf_symbol("\177ELF", 4, NULL, &v), VC_EINVAL);
    works(vc_close(f.vm));
}
