/* SPDX-License-Identifier: MIT
 *
 * Guest snippets: a few instructions with a start state, the exits they must cause and the state
 * they must leave, run on every backend that works here, through the public API only.
 *
 * Each snippet starts in a small world of its own, a kit, in the first 2 MiB of memory:
 *
 *      0x00000 real mode's vectors     0x16000 ring 0's stack (top), from the TSS
 *      0x01000 code                    0x17000 the stack of #DF (top)
 *      0x08000 data                    0x20000 page tables: PML4, PDPT, PD, PT
 *      0x10000 GDT                     0x28000 32-bit page directory
 *      0x11000 IDT                    0x200000 nothing (linear = physical)
 *      0x12000 TSS                    0x300000 a page of ROM
 *      0x13000 handlers             0x40000000 nothing: MMIO
 *
 * The handler of each vector is a HLT of its own, so that the vector shows in RIP.
 */
#ifndef SNIP_H
#define SNIP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define RAM_SIZE   0x200000u
#define ROM_BASE   0x300000u
#define MMIO       0x40000000u
#define K_GDT      0x10000u
#define K_IDT      0x11000u
#define K_TSS      0x12000u
#define K_HANDLERS 0x13000u
#define K_START_SP 0x15000u /* RSP at the start; ring 3: U_START_SP */
#define K_STACK    0x16000u
#define K_IST      0x17000u
#define K_PML4     0x20000u
#define K_PT       0x23000u
#define K_PD32     0x28000u
#define U_START_SP 0x9000u

/* Selectors: real mode has none. */
#define P_CODE    0x08u /* KIT_PROT */
#define P_DATA    0x10u
#define P_UCODE   0x1bu
#define P_UDATA   0x23u
#define L_CODE    0x08u /* KIT_LONG */
#define L_DATA    0x10u
#define L_UCODE32 0x1bu
#define L_UDATA   0x23u
#define L_UCODE   0x2bu

enum kit { KIT_REAL, KIT_PROT, KIT_LONG };
enum {
    E_DE,
    E_DB,
    E_NMI,
    E_BP,
    E_OF,
    E_BR,
    E_UD,
    E_NM,
    E_DF,
    E_TS = 10,
    E_NP,
    E_SS,
    E_GP,
    E_PF,
    E_MF = 16,
    E_AC,
    E_MC,
    E_XM
};

struct rig {
    const char *backend;
    uint32_t engine; /* enum vc_engine */
    const struct snippet *snippet;
    vc_vm *vm;
    vc_cpu *cpu;
    uint8_t *ram;
    struct vc_exit exit;
    bool failed;
};

struct part { /* bytes in memory */
    uint32_t at, len;
    const void *bytes;
};
#define CODE(at, array)                                                                            \
    {                                                                                              \
        at, sizeof array, array                                                                    \
    }
#define DATA(at, string)                                                                           \
    {                                                                                              \
        at, sizeof string - 1, string                                                              \
    }

struct reg_value {
    int reg; /* enum vc_reg + 1; 0 ends the list */
    uint64_t value;
};
#define R(name, value)                                                                             \
    {                                                                                              \
        VC_REG_##name + 1, value                                                                   \
    }

struct mem_value { /* len bytes, little-endian; 0 ends the list */
    uint32_t at, len;
    uint64_t value;
};

/* One exit that must come. data: what a write must carry, or the answer to a
 * read or hypercall. */
struct want {
    uint32_t kind;  /* VC_EXIT_*; 0 ends the list */
    uint64_t where; /* port, address or hypercall number */
    uint32_t len;
    bool write;
    uint64_t data;
};
#define PORT_OUT(port, len, data)                                                                  \
    {                                                                                              \
        VC_EXIT_PORT, port, len, true, data                                                        \
    }
#define PORT_IN(port, len, data)                                                                   \
    {                                                                                              \
        VC_EXIT_PORT, port, len, false, data                                                       \
    }
#define MMIO_OUT(at, len, data)                                                                    \
    {                                                                                              \
        VC_EXIT_MMIO, at, len, true, data                                                          \
    }
#define MMIO_IN(at, len, data)                                                                     \
    {                                                                                              \
        VC_EXIT_MMIO, at, len, false, data                                                         \
    }

/* What must end it. */
enum ending {
    END_HLT,       /* HLT, in the snippet's own code */
    END_EXCEPTION, /* HLT in the handler of .vector: .error, .at */
    END_SHUTDOWN,  /* triple fault */
    END_OWN        /* .check looks for itself */
};

struct snippet {
    const char *name;
    enum kit kit;
    bool user;      /* starts in ring 3 */
    uint32_t pc;    /* 0: 0x1000 */
    uint32_t needs; /* VC_FEAT_* */
    struct part parts[5];
    struct reg_value start[6];
    void (*prepare)(struct rig *r); /* tables, control registers */
    struct want exits[16];          /* before the last one */
    enum ending ending;
    int vector;
    uint32_t error;
    uint64_t at; /* saved instruction pointer */
    struct reg_value end[12];
    struct mem_value mem[6];
    void (*check)(struct rig *r); /* END_OWN: runs it; else looks at what is left */
};

/* rig.c */
__attribute__((format(printf, 2, 3))) void rig_fail(struct rig *r, const char *fmt, ...);
bool rig_start(struct rig *r);
void rig_end(struct rig *r);
/* vc_run with an optional budget in instructions; false: it failed. */
bool rig_run(struct rig *r, uint64_t insns);
bool rig_want(struct rig *r, const struct want *w);
void rig_want_exception(struct rig *r, int vector, uint32_t error, uint64_t at);
uint64_t rig_reg(struct rig *r, enum vc_reg reg);
void rig_set(struct rig *r, enum vc_reg reg, uint64_t value);
void rig_want_reg(struct rig *r, enum vc_reg reg, uint64_t value);
void rig_put(struct rig *r, uint32_t at, uint64_t value, unsigned len);
uint64_t rig_get(struct rig *r, uint32_t at, unsigned len);
void rig_sregs(struct rig *r, bool set, struct vc_sregs *s);
/* The handler of a vector: another address, DPL, or type. */
void rig_gate(struct rig *r, unsigned vector, uint32_t handler, unsigned dpl);
/* What a page's entry grants: the low and high bits, at 0x0067. */
void rig_page(struct rig *r, uint32_t page, uint64_t bits);

struct snippets {
    const char *name;
    const struct snippet *list;
    unsigned n;
};
#define SNIPPETS(list)                                                                             \
    {                                                                                              \
#list, list, sizeof list / sizeof *list                                                    \
    }
extern const struct snippets real_mode, protected_mode, long_mode, paging, code_changes, io, debug,
    control;

/* differences.c */
/* Why the snippet cannot be as it says on that backend, here; NULL: it can. */
const char *difference(const char *snippet, const char *backend);
/* That list names only what there is. */
bool differences_exist(const struct snippets *const *groups, unsigned n);

#endif
