/* SPDX-License-Identifier: MIT
 * Guest code for the tests of calls between host and guest: assembled here, copied to
 * CODE, position-independent. */
#ifndef TESTS_UNIT_CALLS_H
#define TESTS_UNIT_CALLS_H

#include "api.h"

#define STACK 0xf000ull

#define GUEST(name, code)                                                                          \
    extern const uint8_t name##_start[] __attribute__((visibility("hidden")));                     \
    extern const uint8_t name##_end[] __attribute__((visibility("hidden")));                       \
    __asm__(".pushsection .rodata\n" #name "_start:\n" code "\n" #name "_end:\n.popsection")

/* A vCPU in 64-bit mode at a GUEST, with a stack. */
#define guest_cpu(vm, name) guest_cpu_at(vm, name##_start, (size_t)(name##_end - name##_start))
static inline vc_cpu *guest_cpu_at(vc_vm *vm, const void *code, size_t len)
{
    vc_cpu *cpu = code_cpu(vm, code, len);
    works(vc_reg_set(cpu, VC_REG_RSP, STACK));
    return cpu;
}

static inline uint64_t reg(vc_cpu *cpu, enum vc_reg r)
{
    uint64_t v;
    works(vc_reg_get(cpu, r, &v));
    return v;
}

static inline bool have_ffi(void)
{
    vc_vm *vm = open_vm();
    int rc = vc_hcall(vm, 1, "i64(i64)", VC_FN(labs), NULL);
    works(vc_close(vm));
    return rc != VC_ENOTSUP;
}

#endif
