/* SPDX-License-Identifier: MIT
 * Which CPUID bit offers which of Zydis's ISA sets (SDM volume 2, CPUID; APM volume 3, appendix E).
 */
#include "insn.h"
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
struct bit {
    ZydisISASet isa;
    uint32_t leaf, sub;
    uint8_t reg, bit;
};
#define S(name) ZYDIS_ISA_SET_##name
#define X1      0x80000001u
#define X8      0x80000008u
static const struct bit bits[] = {
    {S(ADOX_ADCX), 7, 0, EBX, 19},
    {S(AES), 1, 0, ECX, 25},
    {S(AMD3DNOW), X1, 0, EDX, 31},
    {S(AVX), 1, 0, ECX, 28},
    {S(AVX2), 7, 0, EBX, 5},
    {S(AVX2GATHER), 7, 0, EBX, 5},
    {S(AVXAES), 1, 0, ECX, 25},
    {S(AVX_GFNI), 7, 0, ECX, 8},
    {S(AVX_VNNI), 7, 1, EAX, 4},
    {S(BMI1), 7, 0, EBX, 3},
    {S(BMI2), 7, 0, EBX, 8},
    {S(CET), 7, 0, ECX, 7},
    {S(CLDEMOTE), 7, 0, ECX, 25},
    {S(CLFLUSHOPT), 7, 0, EBX, 23},
    {S(CLFSH), 1, 0, EDX, 19},
    {S(CLWB), 7, 0, EBX, 24},
    {S(CLZERO), X8, 0, EBX, 0},
    {S(CMOV), 1, 0, EDX, 15},
    {S(CMPXCHG16B), 1, 0, ECX, 13},
    {S(ENQCMD), 7, 0, ECX, 29},
    {S(F16C), 1, 0, ECX, 29},
    {S(FCMOV), 1, 0, EDX, 15},
    {S(FMA), 1, 0, ECX, 12},
    {S(FMA4), X1, 0, ECX, 16},
    {S(FXSAVE), 1, 0, EDX, 24},
    {S(FXSAVE64), 1, 0, EDX, 24},
    {S(GFNI), 7, 0, ECX, 8},
    {S(HRESET), 7, 1, EAX, 22},
    {S(INVPCID), 7, 0, EBX, 10},
    {S(KEYLOCKER), 7, 0, ECX, 23},
    {S(KEYLOCKER_WIDE), 7, 0, ECX, 23},
    {S(LAHF), X1, 0, ECX, 0},
    {S(LWP), X1, 0, ECX, 15},
    {S(LZCNT), X1, 0, ECX, 5},
    {S(MCOMMIT), X8, 0, EBX, 8},
    {S(MONITOR), 1, 0, ECX, 3},
    {S(MONITORX), X1, 0, ECX, 29},
    {S(MOVBE), 1, 0, ECX, 22},
    {S(MOVDIR), 7, 0, ECX, 27},
    {S(MPX), 7, 0, EBX, 14},
    {S(PCLMULQDQ), 1, 0, ECX, 1},
    {S(PCONFIG), 7, 0, EDX, 18},
    {S(PENTIUMMMX), 1, 0, EDX, 23},
    {S(PKU), 7, 0, ECX, 3},
    {S(POPCNT), 1, 0, ECX, 23},
    {S(PT), 0x14, 0, EBX, 4},
    {S(RDPID), 7, 0, ECX, 22},
    {S(RDPRU), X8, 0, EBX, 4},
    {S(RDRAND), 1, 0, ECX, 30},
    {S(RDSEED), 7, 0, EBX, 18},
    {S(RDTSCP), X1, 0, EDX, 27},
    {S(RDWRFSGS), 7, 0, EBX, 0},
    {S(RTM), 7, 0, EBX, 11},
    {S(SERIALIZE), 7, 0, EDX, 14},
    {S(SGX), 7, 0, EBX, 2},
    {S(SGX_ENCLV), 7, 0, EBX, 2},
    {S(SHA), 7, 0, EBX, 29},
    {S(SMAP), 7, 0, EBX, 20},
    {S(SMX), 1, 0, ECX, 6},
    {S(SNP), 0x8000001f, 0, EAX, 4},
    {S(SSE), 1, 0, EDX, 25},
    {S(SSE2), 1, 0, EDX, 26},
    {S(SSE2MMX), 1, 0, EDX, 26},
    {S(SSE3), 1, 0, ECX, 0},
    {S(SSE3X87), 1, 0, ECX, 0},
    {S(SSE4), 1, 0, ECX, 19},
    {S(SSE42), 1, 0, ECX, 20},
    {S(SSE4A), X1, 0, ECX, 6},
    {S(SSEMXCSR), 1, 0, EDX, 25},
    {S(SSE_PREFETCH), 1, 0, EDX, 25},
    {S(SSSE3), 1, 0, ECX, 9},
    {S(SSSE3MMX), 1, 0, ECX, 9},
    {S(SVM), X1, 0, ECX, 2},
    {S(AMD_INVLPGB), X8, 0, EBX, 3},
    {S(TBM), X1, 0, ECX, 21},
    {S(TSX_LDTRK), 7, 0, EDX, 16},
    {S(UINTR), 7, 0, EDX, 5},
    {S(VAES), 7, 0, ECX, 9},
    {S(VMFUNC), 1, 0, ECX, 5},
    {S(VPCLMULQDQ), 7, 0, ECX, 10},
    {S(VTX), 1, 0, ECX, 5},
    {S(WAITPKG), 7, 0, ECX, 5},
    {S(X87), 1, 0, EDX, 0},
    {S(XOP), X1, 0, ECX, 11},
    {S(XSAVE), 1, 0, ECX, 26},
    {S(XSAVEC), 0xd, 1, EAX, 1},
    {S(XSAVEOPT), 0xd, 1, EAX, 0},
    {S(XSAVES), 0xd, 1, EAX, 3},
};
/* Every x86-64 processor has these. */
static const ZydisISASet base[] = {
    S(FAT_NOP),      S(I186),  S(I286PROTECTED), S(I286REAL),    S(I386),        S(I486),
    S(I486REAL),     S(I86),   S(LONGMODE),      S(PAUSE),       S(PENTIUMREAL), S(PPRO),
    S(PREFETCH_NOP), S(RDPMC), S(AMD),           S(PREFETCHWT1),
};

static uint32_t ask(const struct bit *b, bool guest)
{
    uint32_t max[4] = {0}, out[4] = {0};
    if (guest && !engine_absent) {
        engine_cpuid(b->leaf & 0x80000000u, 0, max);
        if (max[0] >= b->leaf && max[0] >> 31 == b->leaf >> 31)
            engine_cpuid(b->leaf, b->sub, out);
    } else {
        __get_cpuid_count(b->leaf, b->sub, &out[0], &out[1], &out[2], &out[3]);
    }
    return out[b->reg] >> b->bit & 1;
}

bool isa_offered(ZydisISASet isa, bool guest)
{
    static uint8_t known[ZYDIS_ISA_SET_MAX_VALUE + 1][2]; /* 0: not asked, else answer + 1 */
    if (known[isa][guest])
        return known[isa][guest] == 2;
    bool yes = false;
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++)
        if (bits[i].isa == isa)
            yes = ask(&bits[i], guest);
    for (unsigned i = 0; i < sizeof base / sizeof *base; i++)
        yes |= base[i] == isa;
    if (isa == S(AVXAES) || isa == S(AVX_GFNI)) /* VEX forms of what has legacy ones */
        yes &= isa_offered(S(AVX), guest);
    known[isa][guest] = yes + 1;
    return yes;
}

bool isa_falls_back(const struct insn *in)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    switch (zi->meta.isa_set) {
    case S(MPX): /* in the space of reserved NOPs, 0F 18-1F */
    case S(CLDEMOTE): return true;
    case S(CET): return zi->opcode_map == ZYDIS_OPCODE_MAP_0F && zi->opcode == 0x1e;
    case S(LZCNT): return true;
    case S(BMI1): return zi->mnemonic == ZYDIS_MNEMONIC_TZCNT;
    default: return false;
    }
}
