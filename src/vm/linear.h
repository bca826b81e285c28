/* SPDX-License-Identifier: MIT
 * Guest memory by linear address: pages through the vCPU's tables, bytes through the
 * partition's map with its protection. For the thread that has the vCPU. */
#ifndef VM_LINEAR_H
#define VM_LINEAR_H

#include "vm.h"

/* Where code of a vCPU finds things, as far as calls need it. */
struct lin {
    struct vc_cpu *cpu;
    uint64_t ds, ss, cs; /* bases; 0 in 64-bit code */
    uint32_t user;       /* VC_ACC_USER in ring 3 */
    unsigned word;       /* 8 in 64-bit code, 4 in 32-bit, 2 in 16-bit */
};

void lin_of(struct lin *l, struct vc_cpu *cpu, const struct vc_sregs *s);

/* A pointer of the guest's as a linear address. */
uint64_t lin_addr(const struct lin *l, uint64_t base, uint64_t offset);

/* All of len bytes mapped for that access (VC_ACC_READ, VC_ACC_WRITE)? */
bool lin_check(const struct lin *l, uint64_t at, uint64_t len, uint32_t access);
bool lin_read(const struct lin *l, uint64_t at, void *buf, uint64_t len);
bool lin_write(const struct lin *l, uint64_t at, const void *buf, uint64_t len);

enum { LIN_STR_OK, LIN_STR_FAULT, LIN_STR_LONG };
/* Bytes up to a 0 into buf, of max bytes. One look at each byte: what the guest changes
 * meanwhile is seen before or after, and buf always ends in 0. */
int lin_string(const struct lin *l, uint64_t at, char *buf, size_t max, size_t *len);

#endif
