/* SPDX-License-Identifier: MIT
 *
 * virtcore/cpu.h - vCPUs: creating, running, stopping, registers.
 *
 * A vCPU is used by one thread at a time and may move between threads. Calls
 * are marked: "any thread" / "the vCPU's user" (the thread that would call
 * vc_run next, while it is not in vc_run).
 * Manual sections: Intel SDM volume 3 (2020-2025 numbering) unless said.
 */
#ifndef VIRTCORE_CPU_H
#define VIRTCORE_CPU_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* First states of a vCPU. */
enum vc_mode {
    VC_MODE_RESET = 0,  /* as after RESET (SDM 10.1.1); pc is ignored */
    VC_MODE_REAL16 = 1, /* real mode, CS base = pc & ~0xffff, IP = pc & 0xffff */
    VC_MODE_FLAT32 = 2, /* protected mode, flat 4 GiB segments, paging off */
    VC_MODE_LONG64 = 3, /* 64-bit mode, the first 4 GiB mapped to themselves;
                           GDT and tables in a private region at 0xfeffc000-0xff00bfff
                           (made on the first use) */
    VC_MODE_WAIT_SIPI = 4 /* as an application processor after INIT */
};

/* Adds a vCPU; they are numbered from 0 in order. pc is the first instruction's
 * linear address. All other registers are 0, interrupts off. NULL on failure:
 * VC_ELIMIT over max_cpus. VM paused. */
VC_API vc_cpu *vc_cpu_new(vc_vm *vm, enum vc_mode mode, uint64_t pc);

/* VC_EBUSY while it runs. cpu may be NULL (0). The vCPU's user. */
VC_API int vc_cpu_free(vc_cpu *cpu);

/* Puts a vCPU back into a first state. The vCPU's user. */
VC_API int vc_cpu_reset(vc_cpu *cpu, enum vc_mode mode, uint64_t pc);

/* The vCPU's number, from 0. Any thread. */
VC_API int vc_cpu_index(const vc_cpu *cpu);

/* Why vc_run came back. */
enum vc_exit_kind {
    VC_EXIT_NONE = 0,
    VC_EXIT_BUDGET = 1,   /* the budget is used up */
    VC_EXIT_KICK = 2,     /* vc_kick */
    VC_EXIT_PORT = 3,     /* port I/O nobody handles: .port */
    VC_EXIT_MMIO = 4,     /* memory access nobody handles: .mmio */
    VC_EXIT_HLT = 5,      /* HLT, and no interrupt controller that could wake it */
    VC_EXIT_SHUTDOWN = 6, /* triple fault; kvm on AMD: the vCPU is as after INIT */
    VC_EXIT_POWER = 7,    /* the platform: reset, power-off, exit: .power */
    VC_EXIT_DEBUG = 8,    /* single step, breakpoint: .debug */
    VC_EXIT_HCALL = 9,    /* hypercall nobody handles: .hcall */
    VC_EXIT_FAILED = 10   /* the engine cannot go on: .failed; vc_run also
                             returns an error */
};

enum vc_power_kind {
    VC_POWER_OFF = 1,
    VC_POWER_RESET = 2,
    VC_POWER_PANIC = 3, /* the guest said that it panicked (pvpanic) */
    VC_POWER_EXIT = 4,  /* isa-debug-exit; code is (value << 1) | 1 */
    VC_POWER_SUSPEND = 5 /* a guest of Xen's suspended itself: vc_resume() lets it go on */
};

struct vc_exit {
    size_t size;
    uint32_t kind; /* enum vc_exit_kind */
    uint32_t pad;
    uint64_t rip; /* of the instruction that exits */
    /* A read (write == 0) expects its answer in `data` before the next vc_run
     * on this vCPU, which completes the instruction; it reads as the value left
     * there (0 unless set). */
    union {
        struct {
            uint16_t port;
            uint8_t len; /* 1, 2, 4 */
            uint8_t write;
            uint32_t data;
        } port;
        struct {
            uint64_t gpa;
            uint32_t len; /* 1, 2, 4 or 8 */
            uint32_t write;
            uint64_t data;
        } mmio;
        struct {
            uint32_t kind; /* enum vc_power_kind */
            uint32_t code;
        } power;
        struct {
            uint64_t dr6; /* what DR6 would say (SDM 18.2.3) */
        } debug;
        struct {
            uint64_t nr;
            uint64_t args[6];
            uint64_t ret; /* set before the next vc_run */
        } hcall;
        struct {
            uint32_t reason;
            uint32_t nbytes;   /* code bytes at rip */
            uint8_t bytes[16];
        } failed;
        uint8_t room[96];
    } u;
};

struct vc_budget {
    size_t size;
    uint64_t insns; /* 0: no limit. emu only (VC_FEAT_BUDGET_INSNS) */
    uint64_t ns;    /* 0: no limit. Wall-clock time. */
};

/* Runs the vCPU until something happens that the library does not handle.
 * budget may be NULL. exit must not be NULL and must be the same memory from
 * call to call while an answer is due (or the answer is put there again).
 * 0 and exit filled, or a negative code: VC_EBUSY when another thread runs this
 * vCPU, VC_ECALLBACK when a callback failed. The vCPU's user. */
VC_API int vc_run(vc_cpu *cpu, const struct vc_budget *budget, struct vc_exit *exit);

/* Makes the current vc_run of that vCPU, or the next one, return with
 * VC_EXIT_KICK. Sticky, never lost, counted once. Any thread, and signal
 * handlers. */
VC_API int vc_kick(vc_cpu *cpu);

/* Register numbers for vc_reg_get/vc_reg_set. */
enum vc_reg {
    VC_REG_RAX = 0, VC_REG_RCX, VC_REG_RDX, VC_REG_RBX, VC_REG_RSP, VC_REG_RBP, VC_REG_RSI,
    VC_REG_RDI, VC_REG_R8, VC_REG_R9, VC_REG_R10, VC_REG_R11, VC_REG_R12, VC_REG_R13,
    VC_REG_R14, VC_REG_R15, VC_REG_RIP, VC_REG_RFLAGS,
    VC_REG_CR0 = 32, VC_REG_CR2, VC_REG_CR3, VC_REG_CR4, VC_REG_CR8, VC_REG_EFER, VC_REG_XCR0,
    VC_REG_PKRU,
    VC_REG_DR0 = 48, VC_REG_DR1, VC_REG_DR2, VC_REG_DR3, VC_REG_DR6, VC_REG_DR7
};

/* One register. VC_EINVAL for an unknown one, or a value that the register
 * cannot hold. The vCPU's user. */
VC_API int vc_reg_get(vc_cpu *cpu, enum vc_reg reg, uint64_t *value);
VC_API int vc_reg_set(vc_cpu *cpu, enum vc_reg reg, uint64_t value);

struct vc_gprs {
    size_t size;
    uint64_t gpr[16]; /* in encoding order: rax rcx rdx rbx rsp rbp rsi rdi r8..r15 */
    uint64_t rip, rflags;
};
VC_API int vc_gprs_get(vc_cpu *cpu, struct vc_gprs *regs);
VC_API int vc_gprs_set(vc_cpu *cpu, const struct vc_gprs *regs);

/* A segment register with its hidden part. attr is the descriptor's: type 3:0,
 * S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11. limit is in bytes. */
struct vc_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attr;
};
struct vc_sregs {
    size_t size;
    struct vc_segment es, cs, ss, ds, fs, gs, ldtr, tr;
    uint64_t gdt_base, idt_base;
    uint32_t gdt_limit, idt_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
};
VC_API int vc_sregs_get(vc_cpu *cpu, struct vc_sregs *sregs);
VC_API int vc_sregs_set(vc_cpu *cpu, const struct vc_sregs *sregs);

/* x87, SSE and AVX state in the standard (not compacted) XSAVE layout, SDM
 * volume 1, 13.4; 832 bytes: legacy region, header, YMM upper halves. PKRU, which
 * the guest finds behind them, is VC_REG_PKRU here. */
struct vc_fpu {
    size_t size;
    uint64_t xcr0;
    uint8_t xsave[832];
};
VC_API int vc_fpu_get(vc_cpu *cpu, struct vc_fpu *fpu);
VC_API int vc_fpu_set(vc_cpu *cpu, const struct vc_fpu *fpu);

/* A model-specific register, as the guest's RDMSR/WRMSR. VC_ENOENT where that
 * would raise #GP. The vCPU's user. */
VC_API int vc_msr_get(vc_cpu *cpu, uint32_t index, uint64_t *value);
VC_API int vc_msr_set(vc_cpu *cpu, uint32_t index, uint64_t value);

/* How the guest would reach a linear address. */
#define VC_ACC_READ 0u
#define VC_ACC_WRITE 1u
#define VC_ACC_FETCH 2u
#define VC_ACC_USER 4u
/* Linear to guest-physical through the vCPU's current page tables, without
 * setting accessed or dirty bits. VC_EFAULT where the access would raise #PF.
 * The vCPU's user. */
VC_API int vc_translate(vc_cpu *cpu, uint64_t linear, uint32_t access, uint64_t *gpa);

/* Asks for an external interrupt (vector 0-255) as an 8259 would: taken when
 * RFLAGS.IF allows. One may wait at a time (VC_EBUSY). Where a local APIC is
 * attached use vc_irq_line or vc_msi. Any thread. */
VC_API int vc_inject_irq(vc_cpu *cpu, uint8_t vector);
VC_API int vc_inject_nmi(vc_cpu *cpu);
/* Raises an exception (vector 0-31) before the next instruction, at once.
 * The vCPU's user. */
VC_API int vc_inject_exception(vc_cpu *cpu, uint8_t vector, uint32_t error_code, uint64_t cr2);

/* Exits with VC_EXIT_DEBUG after every instruction. The vCPU's user. */
VC_API int vc_single_step(vc_cpu *cpu, int on);

/* What a vCPU's thread does within vc_run. */
enum vc_doing {
    VC_DOING_TRANSLATED = 0, /* runs translated code */
    VC_DOING_INTERPRETER = 1, /* interprets, or looks what is next */
    VC_DOING_TRANSLATOR = 2, /* decodes and translates */
    VC_DOING_DEVICES = 3,    /* in devices and in traps of the embedder's */
    VC_DOING_IDLE = 4,       /* sleeps in HLT */
    VC_DOING_COUNT = 8       /* room */
};

struct vc_step_count {
    char name[24]; /* the instruction's mnemonic */
    uint64_t count;
};

struct vc_stats {
    size_t size;
    uint64_t insns;         /* guest instructions done */
    uint64_t blocks;        /* blocks entered through the dispatcher */
    uint64_t decoded;       /* blocks decoded */
    uint64_t tlb_misses;    /* page walks */
    uint64_t tlb_flushes;
    uint64_t port_exits, mmio_exits; /* accesses that left guest code */
    uint64_t irqs, exceptions, hlts;
    uint64_t smc;           /* stores that hit code */
    uint64_t run_ns;        /* wall-clock time in vc_run */
    uint64_t idle_ns;       /* of it, asleep in HLT */
    /* VC_ENGINE_LOCKSTEP: */
    uint64_t lockstep_insns;  /* instructions done by both engines and found equal */
    uint64_t lockstep_pieces; /* comparisons */
    uint64_t lockstep_taken;  /* times the interpreter took the state over, because RAM
                                 was changed from outside during a piece */
    /* The translator. Page checks that find the page that they saw last leave no trace
     * and are not counted, nor are the hits of the interpreter: counting would cost
     * more than the check. */
    uint64_t translated;    /* blocks translated */
    uint64_t check_misses;  /* page checks that had to ask the soft TLB */
    uint64_t check_hits;    /* of them, those that it answered without a page walk */
    uint64_t callouts;      /* instructions interpreted from within translated code */
    uint64_t callouts_slow; /* of them, for an access that was not simple: a device, two
                               pages, a fault, code overwritten */
    uint64_t exits[16];     /* returns of vc_run, by enum vc_exit_kind; hypercalls with a
                               function count, too */
    uint64_t samples[VC_DOING_COUNT]; /* VC_OPT_SAMPLE: how often it was found doing what */
    struct vc_step_count steps[16];   /* callouts but the slow: which instructions are not
                                         translated, most frequent first; "" ends them */
};
/* Counts since the vCPU was made. Exact for the vCPU's user, close for any
 * other thread. */
VC_API int vc_cpu_stats(vc_cpu *cpu, struct vc_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
