/* SPDX-License-Identifier: MIT
 *
 * Lockstep: random guest programs, of 64-bit or 32-bit code, on two partitions, one interpreted and
 * one translated, through the public API only, compared at random instruction
 * counts.
 *
 * A program is closed: whatever goes wrong in it (faults are wanted) its own
 * handlers bring it back, so that it runs until its budget ends. What the manual
 * leaves undefined never reaches a register or memory: the generator defines flags
 * before anything reads them. Only jumps into the middle of instructions lead to code
 * that nobody chose: where that reads undefined flags the program is left out.
 *
 * Flags that nothing reads may be stale in translated code between instructions,
 * where RFLAGS and the frames of interrupts show them: RFLAGS is compared where it
 * is live, and the stacks of the handlers are not compared. A fault finds all of
 * them: what it skips leaves them as they were.
 */
#ifndef LOCKSTEP_H
#define LOCKSTEP_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <virtcore/virtcore.h>

#define FL_CF    0x0001u
#define FL_PF    0x0004u
#define FL_AF    0x0010u
#define FL_ZF    0x0040u
#define FL_SF    0x0080u
#define FL_OF    0x0800u
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

/* ---- memory ------------------------------------------------------------------ */

#define CODE_PAGES 12u
#define CODE_SIZE  (CODE_PAGES * 4096u)
#define DATA_PAGES 16u

/* Guest-physical. */
#define P_PML4     0x00000u
#define P_PDPT     0x01000u
#define P_PD       0x02000u
#define P_PT       0x03000u
#define P_GDT      0x04000u
#define P_TSS      0x04800u
#define P_IDT      0x05000u
#define P_HANDLERS 0x06000u /* code; their data in the next page */
#define P_LENS     0x08000u /* instruction lengths by code offset */
#define P_LOG      0x14000u
#define P_PRIVATE  0x18000u /* stacks of the handlers: to P_CODE, not compared */
#define P_CODE     0x20000u
#define P_ALT      0x30000u /* code pages' other contents */
#define P_DATA     0x40000u
#define P_STACK    0x50000u
#define RAM_SIZE   0x54000u
#define P_MMIO     0xf0000000u /* a page that is trapped, then one that exits */

/* Offsets in the window, 2 MiB of linear addresses; the next 2 MiB are the same
 * again. Its address is a multiple of 4 MiB. */
#define WINDOW    0x200000u
#define W_CODE    0x000000u
#define W_DATA    0x010000u
#define W_STACK   0x020000u
#define W_MMIO    0x030000u
#define W_CODE_RW 0x040000u /* the code's first contents as data */
#define W_SYS     0x080000u /* guest-physical 0 to P_CODE, supervisor */
#define STACK_TOP (W_STACK + 0x3000u)

/* Data pages: plain ones, one with tables and loop counters that random stores
 * miss, a read-only one, one not present, two that a fault handler repairs. */
#define D_PLAIN  0xb000u /* bytes */
#define D_TABLES 0xb000u
#define D_BAD    0xc000u
#define D_FIXED  0xe000u

/* What the handlers work with; at P_HANDLERS + 4096 (handlers.c). */
struct handler_data {
    uint64_t window, head, stack, pt, lens, log, log_at, ncode, code_size, irqs, traps, services,
        resets, cr3, rsp, rsp_private, delta;
};
extern const uint8_t handlers_begin[], handlers_end[], handlers_syscall[];

/* ---- randomness: splitmix64 (Steele, Lea, Flood 2014) -------------------------- */

struct rng {
    uint64_t s;
};
static inline uint64_t rnd(struct rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static inline uint32_t below(struct rng *r, uint32_t n)
{
    return (uint32_t)((rnd(r) >> 32) * n >> 32);
}
static inline bool one_in(struct rng *r, uint32_t n)
{
    return below(r, n) == 0;
}
uint64_t rnd_int(struct rng *r); /* edges and random values of random width */

/* ---- programs: gen*.c ------------------------------------------------------------ */

#define F_FAULT  0x001u
#define F_SMC    0x002u
#define F_ALIAS  0x004u
#define F_PAGING 0x008u
#define F_IO     0x010u
#define F_SIMD   0x020u
#define F_X87    0x040u
#define F_STRING 0x080u
#define F_STEP   0x100u /* bursts of single steps */
#define F_SYS    0x200u /* interrupts, SYSCALL, MSRs */
#define F_STACK  0x400u
#define F_EVENTS 0x800u  /* injected interrupts, kicks */
#define F_MODE   0x1000u /* control bits that decide what is allowed */
#define F_HOST   0x2000u /* what the embedder changes between runs */
#define F_NARROW 0x4000u /* 32-bit code */
#define F_ALL    0x7fffu

struct program {
    uint64_t seed;
    uint32_t features;
    bool user, narrow;
    uint64_t window;   /* linear address */
    uint32_t fs_limit; /* in 32-bit code */
    unsigned size;     /* of its code */
    uint64_t rflags;   /* to start with */
    uint64_t fs, gs;
    uint64_t gpr[16];
    unsigned nsites, site[64]; /* bytes that may become anything */
    uint8_t lens[CODE_SIZE];
    uint8_t code[CODE_SIZE], alt[CODE_SIZE];
    uint8_t data[DATA_PAGES * 4096];
};
void program_make(struct program *p, uint64_t seed, uint32_t features);
/* Collects the vector instructions that the encoder knows. */
void simd_forms_make(void);

/* ---- a partition that runs one: guest.c --------------------------------------------- */

struct guest {
    vc_vm *vm;
    vc_cpu *cpu;
    uint8_t *ram;
    uint64_t start; /* instructions counted before the program */
    uint64_t seed;
    uint64_t events, traffic; /* trapped and unhandled accesses: number, hash */
    bool kicks, extra, logs;  /* extra: a region of no use is mapped */
    int trap;                 /* on a page of data; 0: none */
    struct vc_exit exit;
    int rc;
};
/* logs: its RAM keeps a dirty log. */
bool guest_open(struct guest *g, uint32_t engine, bool logs);
void guest_close(struct guest *g);
bool guest_load(struct guest *g, const struct program *p);
uint64_t guest_insns(struct guest *g); /* since the program began */
/* Runs to that count, answering exits; stops at kicks and failures. */
void guest_run(struct guest *g, uint64_t to);
/* A page of plain data becomes a device's, or RAM again. */
void guest_toggle_trap(struct guest *g);
/* events.c */
void events(struct guest g[2], const struct program *p, struct rng *r);

/* ---- comparing: compare.c ------------------------------------------------------------ */

struct snapshot {
    struct vc_gprs regs;
    struct vc_fpu fpu;
    struct vc_sregs sregs;
    uint64_t insns;
};
void snapshot_take(struct guest *g, struct snapshot *s);
/* Flags whose value matters at the vCPU's next instruction. */
uint32_t flags_live(struct guest *g);
/* Text about what differs; false: nothing does. */
bool differ(struct guest *a, struct guest *b, char *text, size_t n);
/* Does the instruction at ip read flags of *undefined, which the manual left undefined
 * before it? If not, *undefined is what it leaves undefined itself. */
bool reads_undefined(struct guest *g, uint64_t ip, uint32_t *undefined);
bool disassemble(struct guest *g, uint64_t ip, char *text, size_t n);

#endif
