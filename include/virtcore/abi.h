/* SPDX-License-Identifier: MIT
 *
 * virtcore/abi.h - hypercalls as guest and host see them. Numbers only: programs on
 * either side include it, freestanding ones too.
 *
 * A guest calls the host by
 *   OUT of EAX to port VC_HCALL_PORT, on every backend; or
 *   VMCALL or VMMCALL in ring 0, where the backend hands them over (emu).
 *
 *   EAX   the hypercall's number in bits 23:0; in bits 31:24 how many argument words
 *         follow, plus 1, or 0 where the guest does not say
 *   words in 64-bit code RDI, RSI, RDX, R10, R8, R9, then 8 bytes each from RSP + 8;
 *         in other code EDI, ESI, EDX, then 4 bytes each from SS:ESP + 4
 *   result  VMCALL: in RAX. OUT: in the word at RSP (SS:ESP), which is the caller's to
 *         reserve: PUSH RAX; OUT 0xbc, EAX; POP RAX. Other registers stay.
 *
 * So the word at RSP is where a function finds its return address, and a function that
 * is nothing but VMCALL and RET gets its words 7 and up where its caller put them.
 */
#ifndef VIRTCORE_ABI_H
#define VIRTCORE_ABI_H

#define VC_HCALL_PORT   0xbc
#define VC_RETURN_PORT  0xbd /* where functions called by vc_call come back to */
#define VC_HCALL_NR_MAX 0xffffff

/* What the guest gets instead of a result. Negative as 32 and as 64 bits. */
#define VC_HCALL_ERROR(n)    ((long long)(int)(0x80564300u | (n)))
#define VC_HCALL_IS_ERROR(v) (((unsigned)(v)&0xffffff00u) == 0x80564300u)
#define VC_HCALL_ENR    VC_HCALL_ERROR(1) /* no function has that number (port only) */
#define VC_HCALL_EARITY VC_HCALL_ERROR(2) /* the guest says another number of words */
#define VC_HCALL_EPTR   VC_HCALL_ERROR(3) /* a buffer or string is not all mapped, or not
                                             so; or the words on the stack are not */
#define VC_HCALL_ESTR   VC_HCALL_ERROR(4) /* a string has no end within VC_HCALL_STR_MAX */
#define VC_HCALL_ELEN   VC_HCALL_ERROR(5) /* a buffer is longer than VC_HCALL_BUF_MAX */
#define VC_HCALL_ENOMEM VC_HCALL_ERROR(6) /* the host has no memory for it */
#define VC_HCALL_EFAIL  VC_HCALL_ERROR(7) /* the host's function failed: vc_hcall_stop */

#define VC_HCALL_BUF_MAX (1u << 20) /* bytes of one buffer */
#define VC_HCALL_STR_MAX (1u << 16) /* bytes of a string, its 0 included */

#endif
