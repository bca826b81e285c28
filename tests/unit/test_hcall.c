/* SPDX-License-Identifier: MIT
 * Typed hypercalls: signatures, arguments of every type, and what a guest may get wrong. */
#include "calls.h"
#include "vm/sig.h"
#include <stdio.h>

/* ---- signatures ---------------------------------------------------------------- */

Test(hcall, good_signatures)
{
    static const char *const good[] = {
        "void()",
        " void ( ) ",
        "i64(u32,buf,cstr)",
        "u8( i8 ,\ti16, i32,i64)",
        "f64(f32)",
        "addr(addr,obuf,cbuf)",
        "i32(ud,cpu)",
        "u64(u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64,u64)",
    };
    struct sig sig;
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        works(sig_parse(good[i], false, &sig));
    works(sig_parse("i64(u32,buf,cstr)", true, &sig));
    cr_assert_eq(sig.ret, SIG_I64);
    cr_assert_eq(sig.nargs, 3);
    cr_assert_eq(sig_words(&sig, 8), 4);
}

Test(hcall, bad_signatures)
{
    static const char *const bad[] = {
        "",
        "i64",
        "(",
        ")",
        "i64(",
        "i64()x",
        "i64(,)",
        "i64(u32,)",
        "i64(u32 u32)",
        "i65(u32)",
        "buf()",
        "cstr()",
        "ud()",
        "cpu()",
        "i64(void)",
        "i64(u32))",
        "i64((u32)",
        "i6 4()",
        "I64()",
        "i64(u32;u32)",
        "i64(u32,buf,cst)",
        "i64(u32,buf,cstrr)",
        "i64(\n)",
        "i64(u32",
        "u64(u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8)",
        "void(\xff)",
    };
    struct sig sig;
    vc_vm *vm = open_vm();
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        fails(sig_parse(bad[i], false, &sig), VC_EINVAL);
        if (have_ffi())
            fails(vc_hcall(vm, 1, bad[i], VC_FN(labs), NULL), VC_EINVAL);
    }
    fails(sig_parse("i64(ud)", true, &sig), VC_EINVAL);
    fails(sig_parse("i64(cpu)", true, &sig), VC_EINVAL);
    works(vc_close(vm));
}

/* ---- the table -------------------------------------------------------------------- */

Test(hcall, registering)
{
    vc_vm *vm = open_vm();
    fails(vc_hcall(NULL, 1, "i64(i64)", VC_FN(labs), NULL), VC_EINVAL);
    fails(vc_hcall(vm, 1, NULL, VC_FN(labs), NULL), VC_EINVAL);
    fails(vc_hcall(vm, 1, "i64(i64)", NULL, NULL), VC_EINVAL);
    fails(vc_hcall_del(NULL, 1), VC_EINVAL);
    fails(vc_hcall_del(vm, 1), VC_ENOENT);
    fails(vc_hcall_stop(NULL, -1), VC_EINVAL);
    if (!have_ffi()) {
        fails(vc_hcall(vm, 1, "i64(i64)", VC_FN(labs), NULL), VC_ENOTSUP);
        works(vc_close(vm));
        return;
    }
    fails(vc_hcall(vm, VC_HCALL_NR_MAX + 1, "i64(i64)", VC_FN(labs), NULL), VC_ERANGE);
    for (uint32_t i = 0; i < 200; i++)
        works(vc_hcall(vm, i * 7919 % 200, "i64(i64)", VC_FN(labs), NULL));
    fails(vc_hcall(vm, 77, "i64(i64)", VC_FN(labs), NULL), VC_EEXIST);
    for (uint32_t i = 0; i < 200; i += 2)
        works(vc_hcall_del(vm, i));
    fails(vc_hcall_del(vm, 76), VC_ENOENT);
    works(vc_hcall(vm, 76, "i64(i64)", VC_FN(labs), NULL));
    works(vc_hcall(vm, VC_HCALL_NR_MAX, "i64(i64)", VC_FN(labs), NULL));
    works(vc_close(vm));
}

/* ---- calls ---------------------------------------------------------------------------- */

/* The hypercall in RAX with the words in registers, result in RAX; HLT. */
GUEST(by_port, "push %rax; out %eax, $0xbc; pop %rax; hlt; jmp by_port_start");
GUEST(by_vmcall, "vmcall; hlt; jmp by_vmcall_start");
/* The same with words 7 to 10 on the stack: RBX, RBP, R12, R13. */
GUEST(by_stack, "push %r13; push %r12; push %rbp; push %rbx\n"
                "push %rax; out %eax, $0xbc; pop %rax; add $32, %rsp; hlt; jmp by_stack_start");

static const unsigned arg_reg[10] = {VC_REG_RDI, VC_REG_RSI, VC_REG_RDX, VC_REG_R10, VC_REG_R8,
                                     VC_REG_R9,  VC_REG_RBX, VC_REG_RBP, VC_REG_R12, VC_REG_R13};

/* One hypercall by the code at CODE; what is in RAX afterwards. */
static uint64_t host(vc_cpu *cpu, uint64_t rax, const uint64_t *words, unsigned n)
{
    struct vc_exit x = {.size = sizeof x};
    works(vc_reg_set(cpu, VC_REG_RIP, CODE));
    works(vc_reg_set(cpu, VC_REG_RSP, STACK));
    works(vc_reg_set(cpu, VC_REG_RAX, rax));
    for (unsigned i = 0; i < n; i++)
        works(vc_reg_set(cpu, (enum vc_reg)arg_reg[i], words[i]));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT, "exit %u at %#lx", x.kind, (long)x.rip);
    cr_assert_eq(reg(cpu, VC_REG_RSP), STACK);
    return reg(cpu, VC_REG_RAX);
}
#define host_of(cpu, nr, ...)                                                                      \
    host(cpu, nr, (const uint64_t[]){__VA_ARGS__},                                                 \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static int calls;

static int64_t all_ints(int8_t a, int16_t b, int32_t c, int64_t d, uint8_t e, uint16_t f,
                        uint32_t g, uint64_t h)
{
    calls++;
    return a == -1 && b == -2 && c == -3 && d == -4 && e == 0xff && f == 0xfffe &&
           g == 0xfffffffd && h == 0xfffffffffffffffc;
}
static double scale(float a, double b)
{
    calls++;
    return a * b;
}
static float halve(float a)
{
    return a / 2;
}
static int32_t minus(uint32_t a)
{
    return -(int32_t)a;
}
static uint16_t cut(uint64_t a)
{
    return (uint16_t)a;
}
static void nothing(void *ud)
{
    ++*(int *)ud;
}
static uint64_t ten(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                    uint64_t g, uint64_t h, uint64_t i, uint64_t j)
{
    calls++;
    return a +
           10 * (b +
                 10 * (c +
                       10 * (d + 10 * (e + 10 * (f + 10 * (g + 10 * (h + 10 * (i + 10 * j))))))));
}

Test(hcall, every_number)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_stack);
    int n = 0;
    works(vc_hcall(vm, 1, "i64(i8,i16,i32,i64,u8,u16,u32,u64)", VC_FN(all_ints), NULL));
    works(vc_hcall(vm, 2, "f64(f32,f64)", VC_FN(scale), NULL));
    works(vc_hcall(vm, 3, "f32(f32)", VC_FN(halve), NULL));
    works(vc_hcall(vm, 4, "i32(u32)", VC_FN(minus), NULL));
    works(vc_hcall(vm, 5, "u16(u64)", VC_FN(cut), NULL));
    works(vc_hcall(vm, 6, "void(ud)", VC_FN(nothing), &n));
    works(vc_hcall(vm, 7, "u64(u64,u64,u64,u64,u64,u64,u64,u64,u64,u64)", VC_FN(ten), NULL));
    works(vc_hcall(vm, 8, "i64(i64)", VC_FN(labs), NULL));
    uint64_t up = 0xabcdef0000000000; /* bits that a short type ignores */
    cr_assert_eq(host_of(cpu, 1, up | 0xff, up | 0xfffe, up | 0xfffffffd, -4ull, up | 0xff,
                         up | 0xfffe, up | 0xfffffffd, -4ull),
                 1);
    float f = 1.5f;
    double d = -2.25;
    uint64_t fw = 0, dw, rw;
    memcpy(&fw, &f, 4);
    memcpy(&dw, &d, 8);
    rw = host_of(cpu, 2, fw | up, dw);
    memcpy(&d, &rw, 8);
    cr_assert_eq(d, -3.375);
    rw = host_of(cpu, 3, fw);
    cr_assert_eq(rw >> 32, 0);
    memcpy(&f, &rw, 4);
    cr_assert_eq(f, 0.75f);
    cr_assert_eq(host_of(cpu, 4, 5), (uint64_t)-5);
    cr_assert_eq(host_of(cpu, 5, 0x123456789), 0x6789);
    cr_assert_eq(host_of(cpu, 6, 9), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(host_of(cpu, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0), 987654321);
    cr_assert_eq(host_of(cpu, 8, -7ull), 7);
    works(vc_close(vm));
}

Test(hcall, arity)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_port);
    int n = 0;
    works(vc_hcall(vm, 5, "u16(u64)", VC_FN(cut), NULL));
    works(vc_hcall(vm, 6, "void(ud)", VC_FN(nothing), &n));
    cr_assert_eq(host_of(cpu, 5 | 2 << 24, 0x12345), 0x2345);
    cr_assert_eq(host_of(cpu, 5 | 1 << 24, 0x12345), (uint64_t)VC_HCALL_EARITY);
    cr_assert_eq(host_of(cpu, 5 | 3 << 24, 0x12345), (uint64_t)VC_HCALL_EARITY);
    cr_assert_eq(host_of(cpu, 5 | 255u << 24, 0x12345), (uint64_t)VC_HCALL_EARITY);
    cr_assert_eq(host_of(cpu, 6 | 1 << 24, 0), 0);
    cr_assert_eq(host_of(cpu, 6 | 2 << 24, 0), (uint64_t)VC_HCALL_EARITY);
    cr_assert_eq(n, 1);
    cr_assert_eq(host_of(cpu, 4, 0), (uint64_t)VC_HCALL_ENR);
    cr_assert_eq(host_of(cpu, 5 | 1ull << 32, 0), (uint64_t)VC_HCALL_ENR);
    cr_assert(VC_HCALL_IS_ERROR(VC_HCALL_ENR) && !VC_HCALL_IS_ERROR(0) && VC_HCALL_EFAIL < 0);
    works(vc_close(vm));
}

/* ---- buffers and strings ------------------------------------------------------------------ */

struct seen {
    int calls;
    size_t len;
    char text[64];
    size_t text_len;
    uint8_t first, last;
};

static int64_t see(struct seen *s, uint32_t n, void *buf, size_t len, const char *text)
{
    s->calls++;
    s->len = len;
    s->text_len = strlen(text);
    snprintf(s->text, sizeof s->text, "%s", text);
    if (len) {
        s->first = ((uint8_t *)buf)[0];
        s->last = ((uint8_t *)buf)[len - 1];
        memset(buf, (int)n, len);
    }
    return (int64_t)len + n;
}

#define SEE "i64(ud,u32,buf,cstr)"

Test(hcall, buffers)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_port);
    struct seen s = {0};
    works(vc_hcall(vm, 1, SEE, VC_FN(see), &s));
    works(vc_write(vm, 0x3ffe, "abcdef", 6));
    works(vc_write(vm, 0x5000, "name", 5));
    cr_assert_eq(host_of(cpu, 1 | 5 << 24, 0x7a, 0x3ffe, 6, 0x5000), 6 + 0x7a);
    cr_assert_eq(s.first, 'a');
    cr_assert_eq(s.last, 'f');
    cr_assert_str_eq(s.text, "name");
    char back[9] = {0};
    works(vc_read(vm, 0x3ffd, back, 8));
    cr_assert(!memcmp(back, "\0zzzzzz\0", 8));
    /* Of length 0 it may be anywhere. */
    cr_assert_eq(host_of(cpu, 1, 3, UINT64_MAX, 0, 0x5000), 3);
    /* A large one, that no inline room holds, up to the last byte of RAM. */
    cr_assert_eq(host_of(cpu, 1, 0x11, 0x10000 - 20000, 20000 - 0x1000 - 8, 0x5000),
                 20000 - 0x1000 - 8 + 0x11);
    cr_assert_eq(s.calls, 3);
    works(vc_close(vm));
}

static int64_t sum(const void *buf, size_t len)
{
    int64_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((const uint8_t *)buf)[i];
    return n;
}
static uint32_t fill(void *buf, size_t len)
{
    uint32_t dirty = 0;
    for (size_t i = 0; i < len; i++)
        dirty += ((uint8_t *)buf)[i] != 0;
    if (len)
        memset(buf, 7, 1); /* the rest is zero for the guest */
    return dirty;
}

Test(hcall, directions)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_port);
    struct seen s = {0};
    works(vc_map(vm, 0x20000, 0x1000, VC_MEM_ROM));
    works(vc_write(vm, 0x20000, "\1\2\3\4text", 9));
    works(vc_hcall(vm, 1, SEE, VC_FN(see), &s));
    works(vc_hcall(vm, 2, "i64(cbuf)", VC_FN(sum), NULL));
    works(vc_hcall(vm, 3, "u32(obuf)", VC_FN(fill), NULL));
    cr_assert_eq(host_of(cpu, 2, 0x20000, 4), 10);
    cr_assert_eq(host_of(cpu, 3, 0x20000, 4), (uint64_t)VC_HCALL_EPTR);
    cr_assert_eq(host_of(cpu, 1, 0, 0x20000, 4, 0x20004), (uint64_t)VC_HCALL_EPTR);
    cr_assert_eq(s.calls, 0);
    cr_assert_eq(host_of(cpu, 1, 0, 0x4000, 4, 0x20004), 4);
    cr_assert_str_eq(s.text, "text");
    works(vc_write(vm, 0x4000, "garbage", 7));
    cr_assert_eq(host_of(cpu, 3, 0x4000, 4), 0);
    char b[8] = {0};
    works(vc_read(vm, 0x4000, b, 7));
    cr_assert(!memcmp(b, "\7\0\0\0age", 7));
    works(vc_close(vm));
}

static int trap(void *ud, struct vc_access *a)
{
    (void)ud, (void)a;
    return 0;
}

Test(hcall, bad_pointers)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_port);
    struct seen s = {0};
    works(vc_hcall(vm, 1, SEE, VC_FN(see), &s));
    const uint64_t ptr = (uint64_t)VC_HCALL_EPTR, text = 0x5000;
    static const struct {
        uint64_t at, len;
    } bad[] = {
        {0xfff8, 9},  /* one byte behind RAM */
        {0x10000, 1}, /* the first one behind it */
        {UINT64_MAX, 1},
        {UINT64_MAX - 1, 4},     /* wraps */
        {0x0000800000000000, 1}, /* not canonical */
        {0xffff7fffffffffff, 1},
        {0x7ffffffff000, 0x1000}, /* not mapped by the tables */
        {0x100000000, 8},         /* behind the 4 GiB that are */
        {0xfff0, VC_HCALL_BUF_MAX},
    };
    works(vc_write(vm, text, "x", 2));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(host_of(cpu, 1, 1, bad[i].at, bad[i].len, text), ptr, "buffer %u", i);
        cr_assert_eq(host_of(cpu, 1, 1, text, 1, bad[i].at), i && i < 8 ? ptr : 2, "string %u", i);
        s.calls = 0;
    }
    cr_assert_eq(host_of(cpu, 1, 1, 0x4000, VC_HCALL_BUF_MAX + 1, text), (uint64_t)VC_HCALL_ELEN);
    cr_assert_eq(host_of(cpu, 1, 1, 0x4000, UINT64_MAX, text), (uint64_t)VC_HCALL_ELEN);
    /* A trap's pages are no RAM. */
    works(vc_map(vm, 0x40000, 0x3000, VC_MEM_RWX));
    works(vc_trap(vm, VC_SPACE_MMIO, 0x41000, 0x1000, trap, NULL));
    cr_assert_eq(host_of(cpu, 1, 1, 0x40ff0, 16, text), 17);
    cr_assert_eq(host_of(cpu, 1, 1, 0x40ff0, 17, text), ptr);
    cr_assert_eq(host_of(cpu, 1, 1, 0x41fff, 2, text), ptr);
    cr_assert_eq(s.calls, 1);
    works(vc_close(vm));
}

Test(hcall, strings_without_end)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, by_port);
    struct seen s = {0};
    works(vc_hcall(vm, 1, SEE, VC_FN(see), &s));
    works(vc_map(vm, 0x100000, 0x20000, VC_MEM_RWX));
    uint8_t *ram = vc_ptr(vm, 0x100000, 0x20000);
    memset(ram, 'a', 0x20000);
    cr_assert_eq(host_of(cpu, 1, 1, 0, 0, 0x100000), (uint64_t)VC_HCALL_ESTR);
    cr_assert_eq(host_of(cpu, 1, 1, 0, 0, 0x11ff00), (uint64_t)VC_HCALL_EPTR);
    ram[VC_HCALL_STR_MAX] = 0;
    cr_assert_eq(host_of(cpu, 1, 1, 0, 0, 0x100000), (uint64_t)VC_HCALL_ESTR);
    cr_assert_eq(s.calls, 0);
    ram[VC_HCALL_STR_MAX - 1] = 0;
    cr_assert_eq(host_of(cpu, 1, 1, 0, 0, 0x100000), 1);
    cr_assert_eq(s.text_len, VC_HCALL_STR_MAX - 1);
    ram[0x1ffff] = 0;
    cr_assert_eq(host_of(cpu, 1, 1, 0, 0, 0x11ff00), 1);
    cr_assert_eq(s.text_len, 255);
    works(vc_close(vm));
}

Test(hcall, bad_stacks)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu_at(vm, "\xe7\xbc\xf4", 3); /* out 0xbc, eax; hlt */
    struct vc_exit x = {.size = sizeof x};
    calls = 0;
    works(vc_hcall(vm, 7, "u64(u64,u64,u64,u64,u64,u64,u64,u64,u64,u64)", VC_FN(ten), NULL));
    static const uint64_t rsp[] = {0xfff9, 0x10000, UINT64_MAX - 3, 0x800000000000, 0x200000000};
    for (unsigned i = 0; i < 5; i++) {
        works(vc_reg_set(cpu, VC_REG_RIP, CODE));
        works(vc_reg_set(cpu, VC_REG_RAX, 7));
        works(vc_reg_set(cpu, VC_REG_RSP, rsp[i]));
        works(vc_run(cpu, NULL, &x));
        cr_assert_eq(x.kind, VC_EXIT_HLT);
    }
    /* A place for the result, but not for all words. */
    works(vc_reg_set(cpu, VC_REG_RIP, CODE));
    works(vc_reg_set(cpu, VC_REG_RAX, 7));
    works(vc_reg_set(cpu, VC_REG_RSP, 0xffe8));
    works(vc_run(cpu, NULL, &x));
    uint64_t w;
    works(vc_read(vm, 0xffe8, &w, 8));
    cr_assert_eq(w, (uint64_t)VC_HCALL_EPTR);
    cr_assert_eq(calls, 0);
    works(vc_close(vm));
}

/* ---- other ways to call --------------------------------------------------------------------- */

static int raw(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    (void)cpu;
    ++*(int *)ud;
    *ret = nr + args[5];
    return 0;
}

Test(hcall, beside_the_raw_handler)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    int n = 0;
    vc_cpu *cpu = guest_cpu(vm, by_port);
    works(vc_hcall_set(vm, raw, &n));
    works(vc_hcall(vm, 5, "u16(u64)", VC_FN(cut), NULL));
    cr_assert_eq(host_of(cpu, 5, 0x12345), 0x2345);
    cr_assert_eq(n, 0);
    cr_assert_eq(host_of(cpu, 6, 1, 2, 3, 4, 5, 60), 66);
    cr_assert_eq(n, 1);
    works(vc_hcall_set(vm, NULL, NULL));
    cr_assert_eq(host_of(cpu, 6, 1, 2, 3, 4, 5, 60), (uint64_t)VC_HCALL_ENR);
    works(vc_hcall_del(vm, 5));
    /* Without any it is a port as all others. */
    struct vc_exit x = {.size = sizeof x};
    works(vc_reg_set(cpu, VC_REG_RIP, CODE));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    works(vc_close(vm));
}

Test(hcall, by_vmcall)
{
    if (!have_ffi() || can(VC_FEAT_HW))
        return;
    vc_vm *vm = open_vm();
    int n = 0;
    vc_cpu *cpu = guest_cpu(vm, by_vmcall);
    works(vc_hcall(vm, 5, "u16(u64)", VC_FN(cut), NULL));
    cr_assert_eq(host_of(cpu, 5, 0x12345), 0x2345);
    works(vc_hcall_set(vm, raw, &n));
    cr_assert_eq(host_of(cpu, 6, 1, 2, 3, 4, 5, 60), 66);
    works(vc_hcall_set(vm, NULL, NULL));
    struct vc_exit x = {.size = sizeof x};
    works(vc_reg_set(cpu, VC_REG_RIP, CODE));
    works(vc_reg_set(cpu, VC_REG_RAX, 6));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HCALL);
    cr_assert_eq(x.u.hcall.nr, 6);
    works(vc_close(vm));
}

/* 32-bit code without paging: EDI, ESI, EDX, then the stack; wide types take two words. */
static uint64_t wide(uint32_t a, uint64_t b, const char *s, uint32_t d)
{
    return strcmp(s, "flat") ? 0 : a + (uint32_t)(b >> 32) + (uint32_t)b + d;
}

Test(hcall, flat_32_bit)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    /* push 9; push 0x5000; push eax; out 0xbc, eax; pop eax; hlt */
    works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_write(vm, CODE, "\x6a\x09\x68\x00\x50\x00\x00\x50\xe7\xbc\x58\xf4", 12));
    works(vc_write(vm, 0x5000, "flat", 5));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_FLAT32, CODE);
    works(vc_hcall(vm, 5, "u64(u32,u64,cstr,u32)", VC_FN(wide), NULL));
    struct vc_exit x = {.size = sizeof x};
    works(vc_reg_set(cpu, VC_REG_RSP, STACK));
    works(vc_reg_set(cpu, VC_REG_RAX, 5 | 6 << 24));
    works(vc_reg_set(cpu, VC_REG_RDI, 1));
    works(vc_reg_set(cpu, VC_REG_RSI, 20));
    works(vc_reg_set(cpu, VC_REG_RDX, 300));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_eq(reg(cpu, VC_REG_RAX), 330);
    works(vc_close(vm));
}

/* ---- what a function may do --------------------------------------------------------------------
 */

static vc_vm *the_vm;

static int64_t busybody(vc_cpu *cpu, int64_t n)
{
    struct vc_exit x = {.size = sizeof x};
    uint64_t v;
    works(vc_reg_get(cpu, VC_REG_RDI, &v));
    cr_assert_eq(v, (uint64_t)n);
    works(vc_reg_set(cpu, VC_REG_R15, 99));
    works(vc_translate(cpu, CODE, VC_ACC_FETCH, &v));
    fails(vc_run(cpu, NULL, &x), VC_EBUSY);
    fails(vc_cpu_free(cpu), VC_EBUSY);
    fails(vc_cpu_reset(cpu, VC_MODE_RESET, 0), VC_EBUSY);
    fails(vc_close(the_vm), VC_EBUSY);
    fails(vc_hcall_stop(cpu, 0), VC_EINVAL);
    works(vc_hcall_del(the_vm, 1));
    return n + 1;
}

Test(hcall, inside_a_function)
{
    if (!have_ffi())
        return;
    the_vm = open_vm();
    vc_cpu *cpu = guest_cpu(the_vm, by_port);
    works(vc_hcall(the_vm, 1, "i64(cpu,i64)", VC_FN(busybody), NULL));
    works(vc_hcall(the_vm, 2, "i64(i64)", VC_FN(labs), NULL));
    cr_assert_eq(host_of(cpu, 1, 41), 42);
    cr_assert_eq(reg(cpu, VC_REG_R15), 99);
    cr_assert_eq(host_of(cpu, 1, 41), (uint64_t)VC_HCALL_ENR);
    fails(vc_hcall_stop(cpu, -5), VC_ESTATE);
    works(vc_close(the_vm));
}

static int64_t stop(vc_cpu *cpu, int64_t n)
{
    works(vc_hcall_stop(cpu, -77));
    return n;
}

static void stopped(vc_vm *vm, vc_cpu *cpu)
{
    struct vc_exit x = {.size = sizeof x};
    works(vc_hcall(vm, 1, "i64(cpu,i64)", VC_FN(stop), NULL));
    works(vc_reg_set(cpu, VC_REG_RAX, 1));
    fails(vc_run(cpu, NULL, &x), VC_ECALLBACK);
    cr_assert_not_null(strstr(vc_errmsg(), "-77"));
    cr_assert_eq(x.kind, VC_EXIT_NONE);
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_eq(reg(cpu, VC_REG_RAX), (uint64_t)VC_HCALL_EFAIL);
    works(vc_close(vm));
}

Test(hcall, stopping)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    stopped(vm, guest_cpu(vm, by_port));
    vm = open_vm();
    if (!can(VC_FEAT_HW))
        stopped(vm, guest_cpu(vm, by_vmcall));
}

/* ---- budgets and kicks, over many hypercalls
 * ------------------------------------------------------ */

GUEST(forever, "1: mov $2, %eax; push %rax; out %eax, $0xbc; pop %rax; jmp 1b");

static _Atomic int kick_at;
static int64_t maybe_kick(vc_cpu *cpu)
{
    if (kick_at && !--kick_at)
        works(vc_kick(cpu));
    return 0;
}

Test(hcall, budget_and_kick)
{
    if (!have_ffi())
        return;
    vc_vm *vm = open_vm();
    vc_cpu *cpu = guest_cpu(vm, forever);
    struct vc_exit x = {.size = sizeof x};
    works(vc_hcall(vm, 2, "i64(cpu)", VC_FN(maybe_kick), NULL));
    struct vc_budget b = little(1000);
    struct vc_stats s = {.size = sizeof s};
    for (int i = 1; i <= 5; i++) {
        works(vc_run(cpu, &b, &x));
        cr_assert_eq(x.kind, VC_EXIT_BUDGET);
        works(vc_cpu_stats(cpu, &s));
        if (b.insns)
            cr_assert_eq(s.insns, 1000u * (unsigned)i);
    }
    kick_at = 50;
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK);
    works(vc_run(cpu, &b, &x));
    cr_assert_eq(x.kind, VC_EXIT_BUDGET);
    works(vc_close(vm));
}

/* ---- several vCPUs, and functions taken away
 * ---------------------------------------------------------- */

static _Atomic int inside, most;
static int64_t slow(void *ud)
{
    int n = ++inside;
    if (n > most)
        most = n;
    for (int i = 0; i < 50 && most < 2; i++)
        usleep(1000);
    --inside;
    return *(int *)ud;
}

Test(hcall, parallel_and_removed)
{
    if (!have_ffi() || !can(VC_FEAT_SMP))
        return;
    vc_vm *vm = open_vm();
    vc_cpu *a = guest_cpu(vm, forever);
    vc_cpu *b = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    works(vc_reg_set(b, VC_REG_RSP, 0xe000));
    int *ud = calloc(1, sizeof *ud);
    works(vc_hcall(vm, 2, "i64(ud)", VC_FN(slow), ud));
    works(vc_hcall(vm, 3, "i64(i64)", VC_FN(labs), NULL)); /* so that there is one */
    struct runner ra, rb;
    runner_start(&ra, a);
    runner_start(&rb, b);
    for (int i = 0; i < 500 && most < 2; i++)
        usleep(10000);
    works(vc_hcall_del(vm, 2));
    cr_assert_eq(inside, 0);
    free(ud);
    runner_stop(&ra);
    runner_stop(&rb);
    cr_assert_eq(most, 2, "functions of two vCPUs never ran at once");
    works(vc_close(vm));
}
