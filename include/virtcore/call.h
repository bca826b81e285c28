/* SPDX-License-Identifier: MIT
 *
 * virtcore/call.h - calls between host and guest: typed hypercalls, which the guest
 * makes (virtcore/guest.h helps it), and functions of the guest that the host calls.
 *
 * Signatures: "i64(u32,buf,cstr)": the result's type, and the arguments' in
 * parentheses, at most 16. Spaces are allowed. Types:
 *
 *   void                    as a result only
 *   i8 i16 i32 i64          integers; upper bits of a word that holds a short one are
 *   u8 u16 u32 u64          ignored, results are extended by sign or zero
 *   f32 f64                 float, double
 *   addr                    a guest linear address, as uint64_t; not looked at
 *   buf                     bytes that are read and written: two words for the guest, and
 *                           two arguments for a C function, void * and size_t
 *   cbuf, obuf              the same, only read (const void *), only written (the function
 *                           gets zeroes)
 *   cstr                    a string: const char *
 *   ud, cpu                 hypercalls only: the registered pointer (void *), the vCPU
 *                           (vc_cpu *). The guest passes nothing for them
 */
#ifndef VIRTCORE_CALL_H
#define VIRTCORE_CALL_H

#include "abi.h"
#include "base.h"
#include "cpu.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VC_SIG_ARGS_MAX 16

/* ---- the guest calls the host -------------------------------------------------- */

/* Any function: VC_FN(labs). Called as its signature says. */
typedef void vc_fn(void);
#define VC_FN(f) ((vc_fn *)(f))

/* Gives hypercall nr to fn. virtcore/abi.h says how the guest calls it.
 *
 * Buffers and strings are copies: their guest addresses are linear ones (in other than
 * 64-bit code offsets in DS), translated page by page through the vCPU's page tables
 * with the rights of the guest's ring, or taken as physical addresses without paging.
 * They must lie in RAM that the partition maps for that use (VC_MEM_*). All is checked
 * before fn is called, and what is wrong is answered with VC_HCALL_E*; a buffer of
 * length 0 may be anywhere. What fn left in a buf or obuf is in guest memory when the
 * guest goes on. Accessed and dirty bits of page tables are not set.
 *
 * fn runs on the vCPU's thread and no library lock is held: those of several vCPUs run
 * at the same time. It may use its vCPU as the vCPU's user does, vc_call included, but
 * not vc_run, vc_cpu_free or vc_cpu_reset (VC_EBUSY).
 *
 * Numbers with a function never reach vc_hcall_set()'s handler. VC_EEXIST: the number
 * has one. VC_EINVAL: the signature is wrong, the sentence says where. VC_ENOTSUP: the
 * library was built without libffi. Takes effect at once. Any thread. */
VC_API int vc_hcall(vc_vm *vm, uint32_t nr, const char *signature, vc_fn *fn, void *ud);

/* Takes it away; waits for calls in flight on other threads, so that `ud` may be freed
 * afterwards. Called by the function itself it returns at once. VC_ENOENT: there is
 * none. Any thread. */
VC_API int vc_hcall_del(vc_vm *vm, uint32_t nr);

/* Within a hypercall's function: when it has returned, the guest's result is
 * VC_HCALL_EFAIL (buffers are not written), and vc_run, or the vc_call it happened in, ends with VC_ECALLBACK; its
 * sentence names the code (negative). VC_ESTATE elsewhere. The vCPU's user. */
VC_API int vc_hcall_stop(vc_cpu *cpu, int code);

/* ---- the host calls the guest ---------------------------------------------------- */

/* An argument or a result. */
struct vc_value {
    union {
        int64_t i;   /* i8 to i64 */
        uint64_t u;  /* u8 to u64, addr */
        double f;    /* f32, f64 */
        const void *p; /* cstr; cbuf, of length len */
        void *buf;     /* buf, obuf, of length len */
    } v;
    size_t len;
};

struct vc_call_opts {
    size_t size;
    /* The budget, as in vc_budget: then the call fails with VC_ELIMIT. 0: none. */
    uint64_t insns, ns;
    uint64_t stack;  /* linear; 0: below what the vCPU's stack pointer says is in use */
    uint64_t ret;    /* linear address of OUT VC_RETURN_PORT, EAX in guest memory; 0: the
                        library's, where that is mapped */
    /* Called for an exit that nobody handles; sets its answer, and may use the vCPU. 0 goes
     * on, a negative code ends the call with VC_ECALLBACK. NULL: it ends with VC_ESTATE. */
    int (*exit)(void *ud, vc_cpu *cpu, struct vc_exit *exit);
    void *ud;
};

/* Calls the function at linear address addr by the guest's C convention (System V: in
 * 64-bit code registers and stack, vectors for f32 and f64; in 32-bit code the stack, and
 * integer results only) and runs the vCPU until it returns. Strings and buffers are
 * copied onto the guest's stack before, buf and obuf back from there after.
 *
 * Afterwards general registers, segments, control registers and vector state are as
 * before; memory, MSRs and debug registers are what the function left. The vCPU must be
 * in 64-bit or 32-bit code where OUT is allowed (ring 0, or IOPL 3), with a stack: SSE is
 * the guest's to turn on (VC_MODE_LONG64 has it on). Interrupts come as the vCPU's flags
 * allow. HLT sleeps, or is an exit, as in vc_run.
 *
 * The library's return trap is one page at 0xff004000, in the region of VC_MODE_LONG64,
 * which is made on the first use (VC_EBUSY when that finds another vCPU running). The
 * vCPU's page tables must map it to itself; those of VC_MODE_LONG64 and of vc_boot() for
 * ELF do. Else name one of the guest's in opts.ret (VC_GUEST_RETURN in virtcore/guest.h).
 *
 * Calls nest: a hypercall's function may call the guest again, VC_CALL_DEPTH_MAX deep.
 *
 * 0, or: VC_EFAULT with a sentence: the function raised an exception that nobody handles,
 * or an address is not mapped. VC_EKICKED: vc_kick (a nested call's run ends too).
 * VC_ELIMIT: the budget, or calls nested too deep. VC_ESTATE: an exit that nobody
 * handles, or the vCPU's last exit waits for its answer. VC_ECALLBACK: vc_hcall_stop or a
 * handler's code. VC_ENOTSUP, VC_EINVAL, VC_ENOMEM. result may be NULL for "void". The
 * vCPU's user. */
VC_API int vc_call(vc_cpu *cpu, uint64_t addr, const char *signature, struct vc_value *args,
                   unsigned nargs, struct vc_value *result, const struct vc_call_opts *opts);
#define VC_CALL_DEPTH_MAX 16

/* ---- programs as guests ------------------------------------------------------------ */

/* Copies a static ELF executable's segments into mapped memory, at their physical
 * addresses, without a platform and without touching a vCPU; *entry (may be NULL) gets
 * its entry point. VC_EFORMAT, or VC_EFAULT where no memory is mapped. Any thread. */
VC_API int vc_elf_load(vc_vm *vm, const void *image, size_t len, uint64_t *entry);
/* The value of a symbol in an ELF image's symbol table. VC_ENOENT: there is none by that
 * name. Any thread. */
VC_API int vc_elf_symbol(const void *image, size_t len, const char *name, uint64_t *value);

#ifdef __cplusplus
}
#endif
#endif
