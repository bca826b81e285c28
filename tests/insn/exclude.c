/* SPDX-License-Identifier: MIT
 * Forms that cannot be compared with this host's CPU by running them, each with the reason. What is
 * left out here has snippets of its own in tests/snippets, or is not architectural. Privileged
 * instructions are not left out: at CPL 3 both sides must raise the same exception. */
#include "insn.h"

const char *form_exclude(const struct insn *in)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL: return "enters the host's kernel or hypervisor";
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3: return "is what ends a run here";
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ: return "loads segments from the host's descriptor tables";
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW: return "reads the host's descriptor tables";
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW: return "reads the host kernel's registers";
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_XGETBV: return "says what the host is";
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDPRU: return "reads a counter or the host CPU's number";
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED: return "is random";
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: return "moves all components the host has enabled";
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE: return "moves the bases this process lives by";
    case ZYDIS_MNEMONIC_RDPKRU:
    case ZYDIS_MNEMONIC_WRPKRU: return "takes away this process's memory";
    case ZYDIS_MNEMONIC_XBEGIN:
    case ZYDIS_MNEMONIC_XEND:
    case ZYDIS_MNEMONIC_XABORT:
    case ZYDIS_MNEMONIC_XTEST:
        if (isa_offered(zi->meta.isa_set, true))
            return "aborts at any time";
        break;
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_UMWAIT:
    case ZYDIS_MNEMONIC_TPAUSE:
        if (isa_offered(zi->meta.isa_set, true))
            return "waits for an event";
        break;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_RET:
        if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
            return "loads CS from the host's descriptor tables";
        break;
    default: break;
    }
    /* MOV and POP to a segment register. */
    if (zi->operand_count_visible >= 1 && in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(in->op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT &&
        (in->op[0].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
        zi->mnemonic != ZYDIS_MNEMONIC_PUSH)
        return "loads a segment from the host's descriptor tables";
    /* PREFETCHW's encoding with a register: #UD on AMD, nothing on Intel. */
    if (zi->mnemonic == ZYDIS_MNEMONIC_NOP && zi->opcode_map == ZYDIS_OPCODE_MAP_0F &&
        zi->opcode == 0x0d)
        return "differs between vendors";
    /* Near branches with a 16-bit operand size: Intel ignores the prefix, AMD truncates RIP
     * (SDM volume 2, JMP; APM volume 3, JMP near). */
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        uint8_t prefix = zi->raw.prefixes[i].value;
        /* On AMD's a repeat prefix changes what LOOPE and LOOPNE ask for; it is not documented. */
        if ((prefix & 0xfe) == 0xf2 &&
            (zi->mnemonic == ZYDIS_MNEMONIC_LOOPE || zi->mnemonic == ZYDIS_MNEMONIC_LOOPNE))
            return "differs between vendors";
        if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && prefix == 0x66)
            return "differs between vendors";
    }
    return NULL;
}
