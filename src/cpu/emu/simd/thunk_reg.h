/* SPDX-License-Identifier: MIT
 * Registers inside a thunk, for the two halves that make one. */
#ifndef EMU_THUNK_REG_H
#define EMU_THUNK_REG_H

#include "thunk.h"

/* rdi = c, rsi = memory operand, r8 = environment, r9 = result; rax and rcx
 * stand for the guest's registers in ModRM.reg and ModRM.rm (rax, rcx, rdx for
 * themselves where an instruction has them implied). Vector registers keep
 * their numbers. All of these may be changed by a called function (System V
 * ABI), so nothing has to be saved. */
enum { HOST_RAX = 0, HOST_RCX = 1, HOST_RSI = 6, HOST_RDI = 7, NO_GPR = 0xff };

static inline bool is_gpr(ZydisRegister r)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(r);
    return k == ZYDIS_REGCLASS_GPR32 || k == ZYDIS_REGCLASS_GPR64;
}

static inline bool is_vector(ZydisRegister r)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(r);
    return k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM;
}

static inline bool is_x87(ZydisRegister r)
{
    ZydisRegisterClass k = ZydisRegisterGetClass(r);
    return k == ZYDIS_REGCLASS_MMX || k == ZYDIS_REGCLASS_X87 || r == ZYDIS_REGISTER_X87CONTROL ||
           r == ZYDIS_REGISTER_X87STATUS || r == ZYDIS_REGISTER_X87TAG;
}

#endif
