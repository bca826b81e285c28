/* SPDX-License-Identifier: MIT
 * Typed hypercalls: the input is a signature, then hypercalls with hostile numbers, words
 * and stacks, in 64-bit code and in 32-bit code. Functions look at every byte they get. */
#include "base/err.h"
#include "vm/sig.h"
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define RAM  0x4000ull
#define CODE 0x1000ull

static volatile uint64_t sink;

static int64_t look(const void *a, size_t an, void *b, size_t bn, void *c, size_t cn, const char *s,
                    uint64_t n)
{
    uint64_t sum = strlen(s) + n;
    if (an > VC_HCALL_BUF_MAX || bn > VC_HCALL_BUF_MAX || cn > VC_HCALL_BUF_MAX)
        abort();
    for (size_t i = 0; i < an; i++)
        sum += ((const uint8_t *)a)[i];
    for (size_t i = 0; i < bn; i++)
        sum += ((uint8_t *)b)[i]++;
    for (size_t i = 0; i < cn; i++) {
        if (((uint8_t *)c)[i])
            abort();
        ((uint8_t *)c)[i] = (uint8_t)i;
    }
    sink += sum;
    return (int64_t)sum;
}

static int64_t call_back(vc_cpu *cpu, uint64_t address, uint64_t a)
{
    struct vc_value r, v = {.v.u = a};
    struct vc_call_opts o = {.size = sizeof o, .insns = 200};
    return vc_call(cpu, address % RAM, "i64(u64)", &v, 1, &r, &o) ? -1 : r.v.i;
}

/* Whatever signature: the library calls it as that says, and it looks at nothing. */
static void any(void)
{
    sink++;
}

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        v |= (uint64_t)*in->p++ << (8 * i);
    return v;
}

/* Mostly near the borders of RAM. */
static uint64_t word(struct input *in)
{
    uint8_t how = (uint8_t)take(in, 1);
    switch (how & 7) {
    case 0: return take(in, 8);
    case 1: return RAM - take(in, 1);
    case 2: return take(in, 1) - 128;
    case 3: return 0x2000 + take(in, 1);
    case 4: return 0xff000000 + take(in, 2);
    default: return take(in, 2);
    }
}

static const enum vc_reg order[] = {VC_REG_RDI, VC_REG_RSI, VC_REG_RDX, VC_REG_R10,
                                    VC_REG_R8,  VC_REG_R9,  VC_REG_RSP};

static void play(vc_cpu *cpu, struct input *in)
{
    struct vc_exit x = {.size = sizeof x};
    struct vc_budget b = {.size = sizeof b, .insns = 300};
    for (int i = 0; i < 8 && in->left; i++) {
        uint8_t nr = (uint8_t)take(in, 1);
        if (vc_cpu_reset(cpu, nr & 64 ? VC_MODE_FLAT32 : VC_MODE_LONG64, CODE + (nr >> 7) * 16))
            abort();
        vc_reg_set(cpu, VC_REG_RAX, (nr & 3) | take(in, 1) % 20 << 24);
        for (unsigned r = 0; r < 7; r++)
            vc_reg_set(cpu, order[r], word(in));
        vc_run(cpu, &b, &x);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    char text[128] = {0};
    struct sig sig;
    size_t n = (size_t)take(&in, 1) % (sizeof text - 1);
    n = n < in.left ? n : in.left;
    memcpy(text, in.p, n);
    in.p += n;
    in.left -= n;
    if (!sig_parse(text, false, &sig) && sig_words(&sig, 4) > 2 * VC_SIG_ARGS_MAX)
        abort();

    struct vc_vm_opts opts = {.size = sizeof opts, .engine = VC_ENGINE_INTERP};
    vc_vm *vm = vc_open("emu", &opts);
    if (!vm || vc_map(vm, 0, RAM, VC_MEM_RWX))
        abort();
    /* push rax; out 0xbc, eax; pop rax; hlt. vmcall; ret */
    vc_write(vm, CODE, "\x50\xe7\xbc\x58\xf4", 5);
    vc_write(vm, CODE + 16, "\x0f\x01\xc1\xc3", 4);
    vc_hcall(vm, 0, text, VC_FN(any), NULL);
    vc_hcall(vm, 1, "i64(cbuf,buf,obuf,cstr,u64)", VC_FN(look), NULL);
    vc_hcall(vm, 2, "i64(cpu,addr,u64)", VC_FN(call_back), NULL);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    if (!cpu)
        abort();
    play(cpu, &in);
    if (vc_close(vm))
        abort();
    return 0;
}
