/* SPDX-License-Identifier: MIT
 * Which instruction sets the features of a CPU model open. */
#include "sys.h"

#define B(feat) BIT((feat) % 32)

bool emu_has_isa(struct emu *c, ZydisISASet isa)
{
    switch (isa) {
    /* Every 64-bit processor. */
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I286REAL:
    case ZYDIS_ISA_SET_I286PROTECTED:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486:
    case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_PENTIUMREAL:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_PPRO:
    case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_X87:
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
    case ZYDIS_ISA_SET_LONGMODE:
    case ZYDIS_ISA_SET_AMD: /* SYSCALL and SYSRET outside 64-bit mode */
    case ZYDIS_ISA_SET_RDPMC:
    case ZYDIS_ISA_SET_PAUSE:
    case ZYDIS_ISA_SET_CLFSH: return true;
    /* Encodings that do nothing on processors without the feature. */
    case ZYDIS_ISA_SET_FAT_NOP:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_PREFETCHWT1:
    case ZYDIS_ISA_SET_CLDEMOTE: return true;
    case ZYDIS_ISA_SET_LAHF: return cpu_has(c, F_LAHF);
    case ZYDIS_ISA_SET_CMPXCHG16B: return cpu_has(c, F_CX16);
    case ZYDIS_ISA_SET_POPCNT: return cpu_has(c, F_POPCNT);
    case ZYDIS_ISA_SET_LZCNT: return cpu_has(c, F_ABM);
    case ZYDIS_ISA_SET_MOVBE: return cpu_has(c, F_MOVBE);
    case ZYDIS_ISA_SET_BMI1: return cpu_has(c, F_BMI1);
    case ZYDIS_ISA_SET_BMI2: return cpu_has(c, F_BMI2);
    case ZYDIS_ISA_SET_ADOX_ADCX: return cpu_has(c, F_ADX);
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE3X87: return cpu_has(c, F_SSE3);
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX: return cpu_has(c, F_SSSE3);
    case ZYDIS_ISA_SET_SSE4: return cpu_has(c, F_SSE4_1);
    case ZYDIS_ISA_SET_SSE42: return cpu_has(c, F_SSE4_2);
    case ZYDIS_ISA_SET_PCLMULQDQ: return cpu_has(c, F_PCLMUL);
    case ZYDIS_ISA_SET_AES: return cpu_has(c, F_AES);
    case ZYDIS_ISA_SET_SHA: return cpu_has(c, F_SHA);
    case ZYDIS_ISA_SET_GFNI: return cpu_has(c, F_GFNI);
    case ZYDIS_ISA_SET_AVX: return cpu_has(c, F_AVX);
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER: return cpu_has(c, F_AVX2);
    case ZYDIS_ISA_SET_FMA: return cpu_has(c, F_FMA);
    case ZYDIS_ISA_SET_F16C: return cpu_has(c, F_F16C);
    case ZYDIS_ISA_SET_AVXAES: return cpu_has(c, F_AVX) && cpu_has(c, F_AES);
    case ZYDIS_ISA_SET_AVX_GFNI: return cpu_has(c, F_AVX) && cpu_has(c, F_GFNI);
    case ZYDIS_ISA_SET_VAES: return cpu_has(c, F_VAES);
    case ZYDIS_ISA_SET_VPCLMULQDQ: return cpu_has(c, F_VPCLMUL);
    case ZYDIS_ISA_SET_XSAVE: return cpu_has(c, F_XSAVE);
    case ZYDIS_ISA_SET_XSAVEOPT: return cpu_has(c, F_XSAVEOPT);
    case ZYDIS_ISA_SET_XSAVEC: return cpu_has(c, F_XSAVEC);
    case ZYDIS_ISA_SET_CLFLUSHOPT: return cpu_has(c, F_CLFLUSHOPT);
    case ZYDIS_ISA_SET_CLWB: return cpu_has(c, F_CLWB);
    case ZYDIS_ISA_SET_INVPCID: return cpu_has(c, F_INVPCID);
    case ZYDIS_ISA_SET_SMAP: return cpu_has(c, F_SMAP);
    case ZYDIS_ISA_SET_RDWRFSGS: return cpu_has(c, F_FSGSBASE);
    case ZYDIS_ISA_SET_MOVDIR: return cpu_has(c, F_MOVDIRI) && cpu_has(c, F_MOVDIR64B);
    case ZYDIS_ISA_SET_PKU: return cpu_has(c, F_PKU);
    case ZYDIS_ISA_SET_RDTSCP: return cpu_has(c, F_RDTSCP);
    case ZYDIS_ISA_SET_RDPID: return cpu_has(c, F_RDPID);
    case ZYDIS_ISA_SET_RDRAND: return cpu_has(c, F_RDRAND);
    case ZYDIS_ISA_SET_RDSEED: return cpu_has(c, F_RDSEED);
    default: return false;
    }
}

bool emu_runs_natively(struct emu *c, ZydisISASet isa)
{
    enum cpu_feat f;
    switch (isa) {
    case ZYDIS_ISA_SET_POPCNT: f = F_POPCNT; break;
    case ZYDIS_ISA_SET_SSE42: f = F_SSE4_2; break; /* CRC32 */
    case ZYDIS_ISA_SET_LZCNT: f = F_ABM; break;
    case ZYDIS_ISA_SET_MOVBE: f = F_MOVBE; break;
    case ZYDIS_ISA_SET_BMI1: f = F_BMI1; break;
    case ZYDIS_ISA_SET_BMI2: f = F_BMI2; break;
    case ZYDIS_ISA_SET_ADOX_ADCX: f = F_ADX; break;
    default: return true;
    }
    return cpu_has(c, f) && c->vm->model->host[f / 32] & B(f);
}
