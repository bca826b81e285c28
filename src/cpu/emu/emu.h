/* SPDX-License-Identifier: MIT
 * One vCPU of the emulation engine: architectural state and what runs it. */
#ifndef EMU_H
#define EMU_H

#include "../backend.h"
#include "../../base/util.h"
#include "../../mmu/mem.h"
#include "../../mmu/walk.h"
#include "op.h"
#include <setjmp.h>
#include <virtcore/cpu.h>

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* A segment register with its hidden part. limit is in bytes (G applied). attr
 * as in struct vc_segment. */
struct seg {
    uint64_t base;
    uint32_t limit;
    uint16_t sel;
    uint16_t attr;
};
#define SEG_A_TYPE      0x00fu
#define SEG_A_S         0x010u
#define SEG_A_DPL_SHIFT 5
#define SEG_A_P         0x080u
#define SEG_A_L         0x200u
#define SEG_A_DB        0x400u
#define SEG_A_G         0x800u

struct dtable {
    uint64_t base;
    uint32_t limit;
};

/* Soft TLB: direct-mapped, one set for each kind of privilege. A tag is the
 * page's linear address; of no page, one that belongs to another entry. */
#define TLB_BITS    11
#define TLB_N       (1u << TLB_BITS)
#define TLB_NONE(i) ((uint64_t)((i) ^ TLB_N / 2) << 12)
enum tlb_kind { TLB_R, TLB_W, TLB_X, TLB_KINDS };
/* A deprivileged guest's kernel is at CPL 3; nobody is at 0 then. */
#define TLB_PV_KERNEL TLB_KERNEL_AC
enum tlb_priv { TLB_KERNEL, TLB_KERNEL_AC, TLB_USER, TLB_NEVER, TLB_PRIVS }; /* NEVER: all slow */
struct tlb_ent {
    uint64_t tag, addend; /* host pointer = linear + addend */
};
/* Of an entry: in which log the page checks are that learn it; a piece of a page of 2 MiB,
 * or of as much that goes as one; of a page of another size; all the 2 MiB around it are
 * read through its addend. */
#define TLB_LOG_OWN    0u /* of this address space only */
#define TLB_LOG_GLOBAL 1u
#define TLB_LOG_READS  2u /* of a deprivileged kernel's half: gone less often than what is written */
#define TLB_LOGS       3u
#define TLB_LOG_MASK   3u
#define TLB_2M         4u
#define TLB_HUGE       8u
#define TLB_WHOLE      16u
struct tlb_set {
    struct tlb_ent e[TLB_KINDS][TLB_N];
    /* Beside e[TLB_W], at its stride: the page's word of lines that hold code, and
     * the guest-physical page. */
    struct {
        _Atomic uint64_t *code;
        uint64_t phys;
    } wx[TLB_N];
    uint64_t xphys[TLB_N];
    uint8_t how[TLB_KINDS][TLB_N]; /* TLB_LOG_OWN... */
};
struct tlb; /* all sets, and what flushing needs: tlb.c */

/* EFLAGS bits. */
#define FL_CF    0x0001u
#define FL_PF    0x0004u
#define FL_AF    0x0010u
#define FL_ZF    0x0040u
#define FL_SF    0x0080u
#define FL_TF    0x0100u
#define FL_IF    0x0200u
#define FL_DF    0x0400u
#define FL_OF    0x0800u
#define FL_IOPL  0x3000u
#define FL_NT    0x4000u
#define FL_RF    0x10000u
#define FL_VM    0x20000u
#define FL_AC    0x40000u
#define FL_VIF   0x80000u
#define FL_VIP   0x100000u
#define FL_ID    0x200000u
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

#define CR0_PE         0x1u
#define CR0_MP         0x2u
#define CR0_EM         0x4u
#define CR0_TS         0x8u
#define CR0_ET         0x10u
#define CR0_NE         0x20u
#define CR0_WP         0x10000u
#define CR0_AM         0x40000u
#define CR0_NW         0x20000000u
#define CR0_CD         0x40000000u
#define CR0_PG         0x80000000u
#define CR4_VME        0x1u
#define CR4_PVI        0x2u
#define CR4_TSD        0x4u
#define CR4_DE         0x8u
#define CR4_PSE        0x10u
#define CR4_PAE        0x20u
#define CR4_MCE        0x40u
#define CR4_PGE        0x80u
#define CR4_PCE        0x100u
#define CR4_OSFXSR     0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP       0x800u
#define CR4_LA57       0x1000u
#define CR4_FSGSBASE   0x10000u
#define CR4_PCIDE      0x20000u
#define CR4_OSXSAVE    0x40000u
#define CR4_SMEP       0x100000u
#define CR4_SMAP       0x200000u
#define CR4_PKE        0x400000u
#define CR4_PKS        0x1000000u
#define EFER_SCE       0x1u
#define EFER_LME       0x100u
#define EFER_LMA       0x400u
#define EFER_NXE       0x800u
#define EFER_FFXSR     0x4000u

enum {
    EXC_DE,
    EXC_DB,
    EXC_NMI,
    EXC_BP,
    EXC_OF,
    EXC_BR,
    EXC_UD,
    EXC_NM,
    EXC_DF,
    EXC_TS = 10,
    EXC_NP,
    EXC_SS,
    EXC_GP,
    EXC_PF,
    EXC_MF = 16,
    EXC_AC,
    EXC_MC,
    EXC_XM
};

/* The complete mode word: part of a block's key. */
#define MODE_CODE16    0u
#define MODE_CODE32    1u
#define MODE_CODE64    2u
#define MODE_CODE_MASK 3u
#define MODE_SS32      4u  /* stack address size 32 (not in 64-bit mode) */
#define MODE_STEP      8u  /* blocks of one instruction */
#define MODE_FLAT      64u /* 32-bit code; CS, DS, ES, SS are all of 4 GiB from 0 on */
#define MODE_PRIV      4   /* shift of the privilege of accesses, enum tlb_priv */
#define MODE_PRIV_MASK (3u << MODE_PRIV)

enum { R_RAX, R_RCX, R_RDX, R_RBX, R_RSP, R_RBP, R_RSI, R_RDI };
#define R_ZERO 16 /* gpr[16] is always 0 */
#define R_IPB  17 /* gpr[17] is ip_base */
#define R_TMP  18 /* for translated code: an address in the making */

/* How arithmetic flags are held until somebody asks: flags.h. */
struct emu {
    /* Hot: what nearly each instruction touches. */
    uint64_t gpr[19];
    uint64_t rip; /* IP of the next instruction; valid in the dispatcher */
    uint64_t cc_dst, cc_src;
    uint32_t cc_op;
    uint32_t rflags;     /* everything but FL_ARITH, which flags.h computes; bit 1 set */
    struct tlb_set *tlb; /* the set of the current privilege */
    const struct op *op; /* the instruction that may fault (emu_at) */
    struct block *block; /* the block that runs */
    uint32_t mode;       /* MODE_* */
    uint8_t cpl;
    uint8_t spans;      /* in 32-bit code: bit SEG_*: data, writable, 4 GiB from its base on */
    uint8_t shadow;     /* 1: interrupts held off until the next instruction is done
                           (STI); 2: debug traps too (MOV SS, POP SS) */
    uint8_t leave;      /* the dispatcher must look at things even if nothing is pending */
    uint8_t halted;     /* in HLT */
    uint32_t pend_mask; /* bits of mail->pending that count now */
    struct cpu_mail *mail;
    uint64_t icount; /* instructions done; ahead by the rest of the block inside one */

    /* Architectural state. */
    struct seg seg[SEG_COUNT];
    struct dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[4], dr6, dr7;
    struct walk_regs walk; /* follows CRs: emu_mode_changed() */
    uint64_t star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_offset, tsc_aux, misc_enable, spec_ctrl;
    uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16], mcg_status, mc_bank[4 * 4];
    uint64_t mcg_ctl, tsc_adjust, hwcr, syscfg, nb_cfg; /* the last three: AMD's */
    uint64_t kvm_system_time, kvm_wall_clock;
    uint32_t pkru, pkrs; /* rights by protection key: op_pkey.c */
    bool nmi_masked;     /* between NMI and IRET */
    bool pv_kernel;      /* at CPL 3, but a deprivileged guest's kernel */
    uint64_t pv_root;    /* of its address space, for notes of what was cached */
    bool wait_sipi;
    bool ac_check;   /* alignment checks on: CR0.AM, EFLAGS.AC, CPL 3 */
    bool db_data;    /* a data or I/O breakpoint is armed in DR7 */
    bool db_exec;    /* an instruction breakpoint is */
    bool step_exit;  /* vc_single_step */
    bool split_held; /* this vCPU holds vm->split_lock */

    /* Vector and x87 state. ymm holds whole registers; fx is the 512-byte FXSAVE64
     * image of which only the x87 part (bytes 0-31 without MXCSR 24-31, and
     * 32-159) is meaningful. */
    _Alignas(64) uint8_t ymm[16][32];
    _Alignas(64) uint8_t fx[512];
    uint64_t fx_header[8]; /* XSAVE's, for translated code */
    uint32_t mxcsr;
    _Alignas(64) uint8_t membuf[64]; /* a memory operand on its way to a thunk */

    /* A pending fault, filled by emu_raise*, taken by the dispatcher. */
    struct {
        uint8_t vector;
        bool has_err;
        uint32_t err;
        uint64_t cr2;
        uint64_t db6; /* #DB: bits to set in DR6 */
    } fault;
    struct { /* vc_inject_exception, delivered by the next run */
        bool valid, has_err;
        uint8_t vector;
        uint32_t err;
        uint64_t cr2;
    } queued;
    uint64_t fault_icount; /* icount at the last fault, */
    uint32_t fault_spin;   /* and how many came since it stood there */
    uint64_t db_hit;       /* DR6 bits of data breakpoints hit by this instruction */
    jmp_buf *jmp;          /* where emu_raise goes: dispatcher, or event delivery */
    jmp_buf *run_jmp;      /* the dispatcher: where exits go */

    /* Accesses of the current instruction that devices answered: replayed when
     * it runs again after an exit. access.c */
    struct {
        uint64_t insn; /* icount identity of the instruction they belong to */
        unsigned n, at;
        bool due; /* the embedder owes an answer for the last one */
        struct {
            uint64_t data;
        } rec[64];
    } replay;
    uint64_t deadline_ns;          /* of the time budget; 0: none */
    uint64_t pace;                 /* instructions until the next look at it, */
    uint64_t pace_ns, pace_icount; /* and when that was worked out */

    _Atomic uint64_t icount_check; /* the dispatcher looks at budgets when icount passes this */
    uint64_t icount_limit;         /* of the instruction budget; UINT64_MAX: none */
    struct decode_out *decoded;
    struct tlb *tlbs;
    struct jcache *jcache; /* rip -> block: block.c */
    /* Of jump cache entries that hold now: TLB slot's generation, mode, privilege. */
    uint64_t jtag;
    struct emu *self; /* for translated code, whose GS base is here */
    struct jit_link *jit_link;
    uint64_t jit_tmp, fill_addend;
    int64_t fuel; /* while translated code runs: fuel_base - fuel is icount */
    uint64_t fuel_base;
    uint64_t run_left; /* turns of a loop, for translated code */
    uint32_t jit_cont;
    struct block *unit; /* the instruction that is interpreted for translated code */
    struct jit_logs *slot_logs;
    unsigned slot_rewinds;
    size_t bytes;      /* of this structure and the slots behind it */
    uint8_t simd_live; /* JIT_SIMD_*: guest vectors and MXCSR are in the host's registers */
    uint8_t simd_may;  /* which of them the guest may use now */
    uint8_t simd_kept; /* what simd_live was, before C was called */
    uint8_t jit_skip;  /* the next block is interpreted */
    uint32_t host_mxcsr;
    uint16_t host_fcw;
    bool gs_taken; /* this run set the thread's GS base */
    unsigned long host_gs;
    struct trans *trans;
    struct emu_vm *vm;
    const struct cpu_env *env;
    vc_cpu *handle;
    unsigned index;
    struct vc_exit *exit;
    int exit_rc;
    struct vc_stats stats;
    struct mem_hold hold;  /* while it is in emu_run */
    uint64_t *steps;       /* by mnemonic: not translated, but interpreted */
    _Atomic uint8_t doing; /* enum vc_doing, for the sampler */
    _Atomic uint64_t samples[VC_DOING_COUNT];
    _Atomic uint32_t in_guest; /* guest code runs, or soon will without a look at the mail */
    struct lockstep *lockstep; /* NULL but for both vCPUs of lockstep/ */
    /* Of lockstep's reference: a word that is never 0, in place of the words of lines
     * that hold code, so that every store reports itself. Else NULL. */
    _Atomic uint64_t *store_watch;
};

/* The partition's part of the engine. */
struct emu_vm {
    struct cpu_env env;
    struct code_cache *code;
    struct thunk_cache *thunks;
    struct jit *jit;               /* NULL: interpreted only */
    char no_jit[160];              /* why, when it was not asked for */
    struct lockstep *lockstep;     /* NULL: not compared */
    struct sampler *sampler;       /* NULL: not asked for */
    struct perf_map *perf_map;     /* NULL: not asked for */
    _Atomic uint64_t translations; /* made so far: jit_seen() */
    struct emu *cpu[64];
    unsigned ncpu;
    pthread_mutex_t lock;
    pthread_mutex_t split_lock; /* LOCK across pages */
    struct cpu_model *model;    /* ../model.h */
    unsigned max_cpus;
};

/* ---- faults: never return; state is as before the instruction ------------- */

/* Notes the current instruction before anything that can fault or look at IP. */
static inline void emu_at(struct emu *c, const struct op *op)
{
    c->op = op;
}
_Noreturn void emu_raise(struct emu *c, unsigned vector); /* no error code */
_Noreturn void emu_raise_err(struct emu *c, unsigned vector, uint32_t err);
_Noreturn void emu_raise_pf(struct emu *c, uint64_t cr2, uint32_t err);
_Noreturn void emu_ud(struct emu *c, const struct op *op);
_Noreturn void emu_gp0(struct emu *c, const struct op *op);
/* Leaves vc_run: kind VC_EXIT_*; c->exit's union is filled. restart: the
 * instruction runs again at the next vc_run (answers are replayed); else it is
 * done and c->rip is set. */
_Noreturn void emu_exit(struct emu *c, uint32_t kind, bool restart);
_Noreturn void emu_exit_error(struct emu *c, int code);
_Noreturn void emu_shutdown(struct emu *c); /* triple fault */

/* IP (not linear) of an instruction and of the next one; wrapped by code size. */
static inline uint64_t op_ip(const struct emu *c, const struct op *op)
{
    return c->gpr[R_IPB] + op->off;
}
static inline uint64_t ip_wrap(const struct emu *c, uint64_t ip)
{
    uint32_t m = c->mode & MODE_CODE_MASK;
    return m == MODE_CODE64 ? ip : m == MODE_CODE32 ? (uint32_t)ip : (uint16_t)ip;
}
static inline uint64_t op_next_ip(const struct emu *c, const struct op *op)
{
    return ip_wrap(c, c->gpr[R_IPB] + op->off + op->len);
}

/* ---- registers ----------------------------------------------------------- */
typedef uint16_t __attribute__((may_alias)) reg16;
typedef uint32_t __attribute__((may_alias)) reg32;
typedef uint64_t __attribute__((may_alias)) reg64;
#define R8(c, o)  (*((uint8_t *)(c)->gpr + (o)))
#define R16(c, o) (*(reg16 *)((uint8_t *)(c)->gpr + (o)))
#define R32(c, o) (*(reg32 *)((uint8_t *)(c)->gpr + (o)))
#define R64(c, o) (*(reg64 *)((uint8_t *)(c)->gpr + (o)))
/* Writes with the width's rule: 32 bits clear the upper half. size 1 takes the
 * byte offset of AH..BH too. */
static inline void reg_write(struct emu *c, unsigned off, unsigned size, uint64_t v)
{
    switch (size) {
    case 1: R8(c, off) = (uint8_t)v; break;
    case 2: R16(c, off) = (uint16_t)v; break;
    case 4: R64(c, off) = (uint32_t)v; break;
    default: R64(c, off) = v; break;
    }
}
static inline uint64_t reg_read(struct emu *c, unsigned off, unsigned size)
{
    switch (size) {
    case 1: return R8(c, off);
    case 2: return R16(c, off);
    case 4: return R32(c, off);
    default: return R64(c, off);
    }
}

/* ---- state changes -------------------------------------------------------- */

/* After any change of CR0, CR4, EFER, CS, SS, CPL, EFLAGS.{VM,AC,IF,TF}, DR7,
 * or shadow: recomputes mode, tlb, walk, pend_mask, ac_check, db_data. Cheap.
 * Does not flush. A handler that calls it must end its block. In flat 32-bit code the
 * upper halves of registers are 0 from here on: a switch from 64-bit mode need not keep
 * them (SDM volume 1, 3.4.1.1), and translated code counts on it. */
void emu_mode_changed(struct emu *c);
/* After a load of DS, ES, FS or GS in 32-bit code. true: it did the above, since the
 * mode is another one, and the handler must leave its block. */
bool emu_segment_loaded(struct emu *c);
/* Clears the upper halves of the registers that 32-bit code has. */
void emu_narrow(struct emu *c);
/* TLB flushes: everything; all but global; one PCID's non-global; one page (in
 * every PCID when global is possible). */
void emu_flush_all(struct emu *c);
void emu_flush_nonglobal(struct emu *c);
void emu_flush_pcid(struct emu *c, uint16_t pcid);
void emu_flush_page(struct emu *c, uint64_t linear);
/* Only translations of those kinds, by bits. */
void emu_flush_page_kinds(struct emu *c, uint64_t linear, unsigned kinds);
void emu_flush_page_pcid(struct emu *c, uint16_t pcid, uint64_t linear);
/* CR3 was loaded: switches to that PCID's sets; keep: bit 63 was set (no flush). */
void emu_switch_cr3(struct emu *c, bool keep);

/* RESET or INIT state (SDM 10.1.1): sys_reset.c. */
void emu_reset(struct emu *c, bool init);

/* ---- control registers, MSRs, CPUID: sys_*.c ------------------------------ */
/* Write a register with the manual's checks; false: #GP(0). Flush and mode
 * update done. Used by MOV CR, LMSW, task of vc_reg_set. */
bool emu_set_cr0(struct emu *c, uint64_t v);
bool emu_set_cr3(struct emu *c, uint64_t v);
bool emu_set_cr4(struct emu *c, uint64_t v);
bool emu_set_efer(struct emu *c, uint64_t v);
bool emu_set_xcr0(struct emu *c, uint64_t v);
bool emu_set_pkru(struct emu *c, uint64_t v);
bool emu_set_pkrs(struct emu *c, uint64_t v);
bool emu_msr_read(struct emu *c, uint32_t index, uint64_t *v);
bool emu_msr_write(struct emu *c, uint32_t index, uint64_t v);
void emu_cpuid(struct emu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);
/* Feature questions for #UD of what CPUID hides: ZYDIS_ISA_SET_* offered? */
bool emu_has_isa(struct emu *c, ZydisISASet isa);
/* Whether an instruction of general registers does on this host what it does in the
 * guest: the host may lack what is done in C, and TZCNT be BSF in the guest. */
bool emu_runs_natively(struct emu *c, ZydisISASet isa);
uint64_t emu_tsc(struct emu *c);

/* ---- events: sys_event.c --------------------------------------------------- */
enum emu_event { EV_EXCEPTION, EV_EXTINT, EV_NMI, EV_SOFTINT, EV_ICEBP };
/* Delivers an event through the IDT at c->rip (SDM 6.12, 6.14; double faults
 * 6.15). Faults in delivery are combined inside. false: triple fault. For
 * EV_SOFTINT and INT3/INTO c->rip is already past the instruction, insn_ip is
 * its start (for faults). */
bool emu_deliver(struct emu *c, enum emu_event type, unsigned vector, bool has_err, uint32_t err,
                 uint64_t insn_ip);

/* Whole x87/SSE/AVX state for the embedder. */
void emu_fpu_get(struct emu *c, struct vc_fpu *fpu);
int emu_fpu_set(struct emu *c, const struct vc_fpu *fpu);

static inline bool canonical(const struct emu *c, uint64_t linear)
{
    unsigned unused = c->cr4 & CR4_LA57 ? 64 - 57 : 64 - 48;
    return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

#endif
