/* SPDX-License-Identifier: MIT
 * System instructions that kernels use all the time, done in place where nothing
 * is the matter: the interpreter does the rest, faults among it. */
#include "trans.h"

static bool segment_read(const struct tinsn *ti)
{
    return ti->zi.mnemonic == ZYDIS_MNEMONIC_MOV &&
           ti->zop[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ti->zop[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(ti->zop[1].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

bool trans_sys(const struct emu *c, const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_PAUSE: return true;
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ: return !c->lockstep; /* both sides see the same */
    default: return segment_read(ti);
    }
}

bool trans_sys_faults(const struct tinsn *ti)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP: return ti->kind == T_SYS;
    default: return false;
    }
}

bool trans_goes_on(const struct tinsn *ti)
{
    return ti->zi.mnemonic == ZYDIS_MNEMONIC_CLI || ti->zi.mnemonic == ZYDIS_MNEMONIC_STI;
}

/* op dword or byte gs:[off], imm of that size; the opcode's extension. */
static void gs_imm32(struct asmbuf *a, unsigned extension, uint32_t off, uint32_t imm)
{
    gs_op(a, false, 0x81, extension, off);
    put32(a, imm);
}
static void gs_imm8(struct asmbuf *a, unsigned opcode, unsigned extension, uint32_t off,
                    unsigned imm)
{
    gs_op(a, false, opcode, extension, off);
    put8(a, imm);
}
enum { X_OR = 1, X_AND = 4, X_CMP = 7 };

/* The slow path: all of the instruction in C, unless the host's flags fail cc. */
static struct cold *unless(struct trans *t, unsigned i, unsigned cc)
{
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->from = jump_cc(&t->a, cc, NULL);
    k->site = trans_site(t, i);
    return k;
}

static struct cold *unless_cpl0(struct trans *t, unsigned i)
{
    gs_imm8(&t->a, 0x80, X_CMP, EMU_OFF(cpl), 0);
    return unless(t, i, 5);
}

static void put_cli(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct cold *k = unless_cpl0(t, i);
    gs_imm32(&t->a, X_AND, EMU_OFF(rflags), ~FL_IF);
    gs_imm32(&t->a, X_AND, EMU_OFF(pend_mask), ~(uint32_t)PEND_IRQ);
    finish_cold(t, k, ti);
}

/* An interrupt that waits is the interpreter's, with the shadow that holds it off for
 * one instruction. One that comes now finds the doorbell, which is looked at no sooner
 * than at the block's end: so there must be one more instruction in it. */
static void put_sti(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    if (i + 1 == t->n) {
        put_callout(t, ti, i);
        t->ended = true;
        return;
    }
    struct cold *k = unless_cpl0(t, i);
    gs_load(a, H_R10, EMU_OFF(mail));
    put8(a, 0x41), put8(a, 0xf7), put8(a, 0x82); /* test dword [r10 + pending], imm32 */
    put32(a, offsetof(struct cpu_mail, pending)), put32(a, PEND_IRQ);
    struct cold *waits = unless(t, i, 5);
    gs_imm32(a, X_OR, EMU_OFF(rflags), FL_IF);
    gs_imm32(a, X_OR, EMU_OFF(pend_mask), PEND_IRQ);
    finish_cold(t, k, ti);
    finish_cold(t, waits, ti);
}

static void put_swapgs(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    uint32_t base =
        EMU_OFF(seg) + SEG_GS * (uint32_t)sizeof(struct seg) + (uint32_t)offsetof(struct seg, base);
    struct cold *k = unless_cpl0(t, i);
    gs_load(a, H_R10, base);
    gs_load(a, H_R11, EMU_OFF(kernel_gs_base));
    gs_store(a, H_R11, base);
    gs_store(a, H_R10, EMU_OFF(kernel_gs_base));
    finish_cold(t, k, ti);
}

static void put_rdtsc(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    bool p = ti->zi.mnemonic == ZYDIS_MNEMONIC_RDTSCP;
    gs_imm8(a, 0xf6, 0, EMU_OFF(cr4), CR4_TSD);
    struct cold *k = unless(t, i, 5);
    if (p)                                           /* not before what comes before it */
        put8(a, 0x0f), put8(a, 0xae), put8(a, 0xe8); /* lfence */
    put8(a, 0x0f), put8(a, 0x31);
    put8(a, 0x48), put8(a, 0xc1), put8(a, 0xe2), put8(a, 32); /* shl rdx, 32 */
    reg_op(a, 0x09, H_RDX, H_RAX);
    gs_op(a, true, 0x03, H_RDX, EMU_OFF(tsc_offset)); /* add */
    put8(a, 0x89), put8(a, 0xd0);                     /* mov eax, edx */
    put8(a, 0x48), put8(a, 0xc1), put8(a, 0xea), put8(a, 32);
    if (p)
        gs_op(a, false, 0x8b, H_RCX, EMU_OFF(tsc_aux));
    finish_cold(t, k, ti);
}

/* Flags are in memory as LAHF and SETO see them. */
static void put_pushf(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, FL_ARITH);
    struct cold *k = put_check(t, i, &ti->m);
    struct hmem h = put_operand(t, &ti->m);
    put8(a, 0x65), put8(a, 0x44), put8(a, 0x0f), put8(a, 0xb6); /* movzx r10d, byte: OF */
    put8(a, 0x14), put8(a, 0x25), put32(a, EMU_OFF(cc_src));
    put8(a, 0x41), put8(a, 0xc1), put8(a, 0xe2), put8(a, 11); /* shl r10d */
    gs_op(a, false, 0x0a, H_R10, EMU_OFF(cc_src) + 1);        /* or r10b, what was AH */
    gs_op(a, false, 0x0b, H_R10, EMU_OFF(rflags));            /* or r10d */
    put8(a, 0x41), put8(a, 0x81), put8(a, 0xe2);              /* and r10d */
    put32(a, ~(FL_VM | FL_RF));
    hmem_op_w(a, !t->code32, 0x89, H_R10, &h);
    put_sp(t, -(int32_t)t->word);
    struct access now = ti->m;
    now.disp = 0;
    if (!access_free(t, i))
        put_stored(t, i, &now, false);
    finish_cold(t, k, ti);
}

static void put_segment_read(struct trans *t, const struct tinsn *ti)
{
    struct asmbuf *a = &t->a;
    unsigned s = (unsigned)ZydisRegisterGetId(ti->zop[1].reg.value);
    int guest = op_gpr(ti->zop[0].reg.value) / 8;
    unsigned to = homed(guest) ? (unsigned)H_R10 : host_reg(guest);
    if (homed(guest) && ti->op.opsize == 2)
        gs_load(a, H_R10, GPR_OFF((unsigned)guest));
    put8(a, 0x65);
    if (ti->op.opsize == 2)
        put8(a, 0x66);
    if (to >= 8)
        put8(a, 0x44);
    if (ti->op.opsize == 2)
        put8(a, 0x8b);
    else
        put8(a, 0x0f), put8(a, 0xb7); /* movzx: 32 bits clear the rest */
    put8(a, 0x04u | (to & 7) << 3), put8(a, 0x25);
    put32(a, EMU_OFF(seg) + s * (uint32_t)sizeof(struct seg) + (uint32_t)offsetof(struct seg, sel));
    if (homed(guest))
        gs_store(a, H_R10, GPR_OFF((unsigned)guest));
}

void put_sys(struct trans *t, struct tinsn *ti, unsigned i)
{
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOV: put_segment_read(t, ti); return;
    case ZYDIS_MNEMONIC_PAUSE: put8(&t->a, 0xf3), put8(&t->a, 0x90); return;
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ: put_pushf(t, ti, i); return;
    default: break;
    }
    keep_flags(t, ti, i);
    switch (ti->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CLI: put_cli(t, ti, i); break;
    case ZYDIS_MNEMONIC_STI: put_sti(t, ti, i); break;
    case ZYDIS_MNEMONIC_CLD: gs_imm32(&t->a, X_AND, EMU_OFF(rflags), ~FL_DF); break;
    case ZYDIS_MNEMONIC_STD: gs_imm32(&t->a, X_OR, EMU_OFF(rflags), FL_DF); break;
    case ZYDIS_MNEMONIC_SWAPGS: put_swapgs(t, ti, i); break;
    default: put_rdtsc(t, ti, i); break;
    }
}
