/* SPDX-License-Identifier: MIT
 * One instruction on the host's CPU: a trampoline loads the whole state from fixed addresses,
 * jumps to the instruction, and saves the whole state where it comes out. Exceptions come as
 * signals, whose frame holds the state. */
#include "insn.h"
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* What the trampoline reads and writes; it lies at CTX, below 2 GiB, so that it is reached without
 * a register. */
#define CTX 0x28000000ull
struct ctx {
    uint8_t in_xsave[XS_SIZE];  /* 0 */
    uint8_t out_xsave[XS_SIZE]; /* 0x340 */
    uint64_t in_gpr[16];        /* 0x680 */
    uint64_t out_gpr[16];       /* 0x700 */
    uint64_t in_flags;          /* 0x780 */
    uint64_t in_rip;            /* 0x788 */
    uint64_t host_rsp;          /* 0x790 */
    uint64_t mark;              /* 0x798: 1: it came out at its branch target */
    uint64_t out_flags;         /* 0x7a0 */
    uint64_t host_flags;        /* 0x7a8 */
    uint64_t exits[2];          /* 0x7b0: where the jumps behind the instruction go */
    uint32_t host_mxcsr;        /* 0x7c0 */
};
_Static_assert(offsetof(struct ctx, out_xsave) == 0x340 && offsetof(struct ctx, in_gpr) == 0x680 &&
                   offsetof(struct ctx, host_rsp) == 0x790 &&
                   offsetof(struct ctx, exits) == 0x7b0 &&
                   offsetof(struct ctx, host_mxcsr) == 0x7c0,
               "the assembly below knows them");

void native_enter(void);
void native_exit(void);
void native_exit_taken(void);
__asm__(".pushsection .text\n"
        ".set ctx, 0x28000000\n"
        ".globl native_enter, native_exit, native_exit_taken\n"
        "native_enter:\n"
        "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "  mov %rsp, (ctx + 0x790)\n"
        "  mov $7, %eax\n xor %edx, %edx\n"
        "  xrstor64 (ctx)\n"
        "  mov $(ctx + 0x780), %esp\n"
        "  popfq\n"
        "  mov (ctx + 0x680), %rax\n mov (ctx + 0x688), %rcx\n mov (ctx + 0x690), %rdx\n"
        "  mov (ctx + 0x698), %rbx\n mov (ctx + 0x6a0), %rsp\n mov (ctx + 0x6a8), %rbp\n"
        "  mov (ctx + 0x6b0), %rsi\n mov (ctx + 0x6b8), %rdi\n mov (ctx + 0x6c0), %r8\n"
        "  mov (ctx + 0x6c8), %r9\n mov (ctx + 0x6d0), %r10\n mov (ctx + 0x6d8), %r11\n"
        "  mov (ctx + 0x6e0), %r12\n mov (ctx + 0x6e8), %r13\n mov (ctx + 0x6f0), %r14\n"
        "  mov (ctx + 0x6f8), %r15\n"
        "  jmp *(ctx + 0x788)\n"
        "native_exit_taken:\n"
        "  movq $1, (ctx + 0x798)\n"
        "native_exit:\n"
        "  mov %rax, (ctx + 0x700)\n mov %rcx, (ctx + 0x708)\n mov %rdx, (ctx + 0x710)\n"
        "  mov %rbx, (ctx + 0x718)\n mov %rsp, (ctx + 0x720)\n mov %rbp, (ctx + 0x728)\n"
        "  mov %rsi, (ctx + 0x730)\n mov %rdi, (ctx + 0x738)\n mov %r8, (ctx + 0x740)\n"
        "  mov %r9, (ctx + 0x748)\n mov %r10, (ctx + 0x750)\n mov %r11, (ctx + 0x758)\n"
        "  mov %r12, (ctx + 0x760)\n mov %r13, (ctx + 0x768)\n mov %r14, (ctx + 0x770)\n"
        "  mov %r15, (ctx + 0x778)\n"
        "  mov $(ctx + 0x7a8), %esp\n"
        "  pushfq\n"
        "  mov $(ctx + 0x7a8), %esp\n"
        "  popfq\n"
        "  mov $7, %eax\n xor %edx, %edx\n"
        "  xsave64 (ctx + 0x340)\n"
        "  fninit\n ldmxcsr (ctx + 0x7c0)\n vzeroupper\n"
        "  mov (ctx + 0x790), %rsp\n"
        "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "  ret\n"
        ".popsection\n");

static volatile sig_atomic_t armed;
static sigjmp_buf back;
static struct state *result;

static void on_signal(int sig, siginfo_t *info, void *uctx)
{
    (void)info;
    if (!armed) {
        signal(sig, SIG_DFL);
        return;
    }
    const ucontext_t *uc = uctx;
    const greg_t *g = uc->uc_mcontext.gregs;
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < 16; i++)
        result->gpr[i] = (uint64_t)g[order[i]];
    result->rip = (uint64_t)g[REG_RIP];
    result->rflags = (uint64_t)g[REG_EFL];
    result->vector = (int)g[REG_TRAPNO];
    result->err = (uint32_t)g[REG_ERR];
    result->cr2 = result->vector == VEC_PF ? (uint64_t)g[REG_CR2] : 0;
    memcpy(result->xsave, uc->uc_mcontext.fpregs, XS_SIZE);
    siglongjmp(back, 1);
}

static bool map_at(uint64_t at, size_t len, int prot)
{
    void *p = mmap((void *)at, len, prot,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    if (p != (void *)at) {
        perror("native: mmap");
        return false;
    }
    return true;
}

bool native_start(void)
{
    if (!map_at(SCR_BASE, SCR_SIZE, PROT_READ | PROT_WRITE) ||
        !map_at(CODE_BASE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
        !map_at(CTX, 0x1000, PROT_READ | PROT_WRITE))
        return false;
    struct ctx *c = (struct ctx *)CTX;
    c->exits[0] = (uint64_t)native_exit;
    c->exits[1] = (uint64_t)native_exit_taken;
    c->host_mxcsr = 0x1f80;
    c->host_flags = 0x202;
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE) != 0) {
        perror("native: arch_prctl");
        return false;
    }
    static uint8_t stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alt, NULL);
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &sa, NULL);
    return true;
}

/* jmp *(ctx.exits[which]) */
static void put_exit(uint64_t at, unsigned which)
{
    uint32_t to = (uint32_t)(CTX + offsetof(struct ctx, exits) + 8 * which);
    uint8_t jmp[7] = {0xff, 0x24, 0x25};
    memcpy(jmp + 3, &to, 4);
    memcpy((void *)at, jmp, sizeof jmp);
}

void native_place(const struct code *code)
{
    memcpy((void *)code->ip, code->bytes, code->len);
    put_exit(code->ip + code->len, 0);
    if (code->taken)
        put_exit(code->taken, 1);
}

void native_run(const struct code *code, const struct state *in, struct state *out)
{
    struct ctx *c = (struct ctx *)CTX;
    memcpy(c->in_xsave, in->xsave, XS_SIZE);
    memcpy(c->in_gpr, in->gpr, sizeof c->in_gpr);
    memset(c->out_xsave + XS_HEADER, 0, 64);
    c->in_flags = in->rflags;
    c->in_rip = code->ip;
    c->mark = 0;
    result = out;
    armed = 1;
    if (sigsetjmp(back, 0) == 0) {
        native_enter();
        armed = 0;
        memcpy(out->xsave, c->out_xsave, XS_SIZE);
        memcpy(out->gpr, c->out_gpr, sizeof out->gpr);
        out->rflags = c->out_flags;
        out->rip = c->mark ? code->taken : code->ip + code->len;
        out->vector = VEC_NONE;
        out->err = 0;
        out->cr2 = 0;
    } else {
        armed = 0;
        __asm__ volatile("fninit\n ldmxcsr %0" : : "m"(c->host_mxcsr));
    }
}

void xsave_normalize(uint8_t xs[XS_SIZE])
{
    uint64_t bv, seven = 7;
    memcpy(&bv, xs + XS_HEADER, 8);
    if (!(bv & 1)) {
        static const uint8_t fresh[6] = {0x7f, 0x03};
        memcpy(xs, fresh, 6);
        memset(xs + XS_ST, 0, 128);
    }
    if (!(bv & 2))
        memset(xs + XS_XMM, 0, 256);
    if (!(bv & 4))
        memset(xs + XS_YMMH, 0, 256);
    memset(xs + 5, 0, 19); /* reserved, FOP, FIP, FDP */
    memset(xs + 28, 0, 4); /* MXCSR_MASK */
    for (int i = 0; i < 8; i++)
        memset(xs + XS_ST + 16 * i + 10, 0, 6);
    memset(xs + 416, 0, XS_YMMH - 416);
    memcpy(xs + XS_HEADER, &seven, 8);
}
