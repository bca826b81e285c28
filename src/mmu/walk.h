/* SPDX-License-Identifier: MIT
 * The page walk: SDM 4.3 (32-bit), 4.4 (PAE), 4.5 (4- and 5-level). */
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "mem.h"

/* What a walk depends on. */
struct walk_regs {
    uint64_t cr0, cr3, cr4, efer;
    uint64_t pdpte[4];  /* PAE: loaded with CR3 (SDM 4.4.1) */
    unsigned phys_bits; /* MAXPHYADDR: bits above are reserved */
    bool gbpages;       /* 1 GiB pages offered by CPUID */
    uint32_t pkru;      /* rights by protection key of user pages; with CR4.PKE */
    uint32_t pkrs;      /* and of supervisor pages; with CR4.PKS */
};

enum walk_access { WALK_READ = 0, WALK_WRITE = 1, WALK_FETCH = 2 };

struct walk {
    uint64_t gpa;   /* of the byte asked for */
    uint64_t entry; /* the leaf entry's own, in 64-bit and PAE paging */
    uint8_t shift; /* log2 of the page's size: 12, 21, 22, 30 */
    bool writable; /* by the R/W bits of all levels */
    bool user;     /* by the U/S bits of all levels */
    bool nx;
    bool global;
    bool dirty;    /* the leaf's D bit is (now) set */
    uint32_t keys; /* the page's protection key as a bit, of a supervisor page 16 higher;
                      0: none counts */
};

/* Page-fault error code bits (SDM 4.7). */
#define PF_P    0x01u
#define PF_W    0x02u
#define PF_U    0x04u
#define PF_RSVD 0x08u
#define PF_I    0x10u
#define PF_PK   0x20u

/* Translates a linear address for an access of CPL `user` (true: CPL 3 and not
 * an implicit supervisor access). `ac` is EFLAGS.AC as SMAP sees it (false for
 * implicit accesses). With update, sets accessed and dirty bits by atomic
 * compare-and-swap as the SDM 4.8 says, retrying when the entry changed
 * meanwhile; without, touches nothing. Returns 0 and fills w, or the page-fault
 * error code | WALK_FAULT. CR0.PG = 0 gives the identity. Checks canonicality
 * never: the caller did. */
#define WALK_FAULT 0x80000000u
uint32_t mmu_walk(struct mem *mem, const struct walk_regs *regs, uint64_t gva,
                  enum walk_access access, bool user, bool ac, bool update, struct walk *w);

/* Loads the four PDPTEs from CR3 for PAE paging. false: a reserved bit is set
 * (the MOV to CR raises #GP). */
bool mmu_load_pdptes(struct mem *mem, struct walk_regs *regs);

#endif
