/* SPDX-License-Identifier: MIT
 * System instructions: CPUID, counters, MSRs, descriptor-table registers, TLB
 * invalidation, HLT, random numbers, XCR0. What is not taken here or elsewhere
 * raises #UD: MONITOR, MWAIT, RSM, the instructions of VMX and SVM among them. */
#include "../simd/fpu.h"
#include "sys.h"
#include "../pv.h"
#include "../lockstep/lockstep.h"
#include "../sampler.h"
#include <sys/random.h>

static void put_edx_eax(struct emu *c, uint64_t v)
{
    c->gpr[R_RAX] = (uint32_t)v;
    c->gpr[R_RDX] = v >> 32;
}

static uint64_t edx_eax(const struct emu *c)
{
    return c->gpr[R_RDX] << 32 | (uint32_t)c->gpr[R_RAX];
}

/* Functions with locals whose address is taken are kept out of the handlers,
 * which then end in a tail call. */
#define OUTLINE __attribute__((noinline))

/* ---- CPUID, counters --------------------------------------------------------------- */

static OUTLINE void cpuid(struct emu *c)
{
    uint32_t out[4];
    emu_cpuid(c, (uint32_t)c->gpr[R_RAX], (uint32_t)c->gpr[R_RCX], out);
    c->gpr[R_RAX] = out[0];
    c->gpr[R_RBX] = out[1];
    c->gpr[R_RCX] = out[2];
    c->gpr[R_RDX] = out[3];
}

static void op_cpuid(struct emu *c, const struct op *op)
{
    cpuid(c);
    NEXT;
}

static void check_tsd(struct emu *c, const struct op *op)
{
    if (unlikely(c->cr4 & CR4_TSD && c->cpl))
        emu_gp0(c, op);
}

static void op_rdtsc(struct emu *c, const struct op *op)
{
    check_tsd(c, op);
    put_edx_eax(c, emu_tsc(c));
    NEXT;
}

static void op_rdtscp(struct emu *c, const struct op *op)
{
    check_tsd(c, op);
    put_edx_eax(c, emu_tsc(c));
    c->gpr[R_RCX] = (uint32_t)c->tsc_aux;
    NEXT;
}

static void op_rdpid(struct emu *c, const struct op *op)
{
    R64(c, op->dst) = (uint32_t)c->tsc_aux;
    NEXT;
}

/* Four counters that never count: AMD's oldest, which every AMD CPU has. */
static void op_rdpmc(struct emu *c, const struct op *op)
{
    if ((c->cpl && !(c->cr4 & CR4_PCE)) || (uint32_t)c->gpr[R_RCX] > 3)
        emu_gp0(c, op);
    put_edx_eax(c, 0);
    NEXT;
}

/* ---- MSRs, XCR0 --------------------------------------------------------------------- */

static OUTLINE bool rdmsr(struct emu *c)
{
    uint64_t v;
    if (!emu_msr_read(c, (uint32_t)c->gpr[R_RCX], &v))
        return false;
    put_edx_eax(c, v);
    return true;
}

static void op_rdmsr(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    if (!rdmsr(c))
        emu_gp0(c, op);
    NEXT;
}

static void op_wrmsr(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    if (!emu_msr_write(c, (uint32_t)c->gpr[R_RCX], edx_eax(c)))
        emu_gp0(c, op);
    c->rip = op_next_ip(c, op);
}

static void op_xgetbv(struct emu *c, const struct op *op)
{
    uint32_t index = (uint32_t)c->gpr[R_RCX];

    if (!(c->cr4 & CR4_OSXSAVE))
        emu_ud(c, op);
    if (index == 0)
        put_edx_eax(c, c->xcr0);
    else if (index == 1 && cpu_has(c, F_XGETBV1))
        put_edx_eax(c, c->xcr0 & fpu_in_use(c));
    else
        emu_gp0(c, op);
    NEXT;
}

static void op_xsetbv(struct emu *c, const struct op *op)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        emu_ud(c, op);
    need_cpl0(c, op);
    if ((uint32_t)c->gpr[R_RCX] || !emu_set_xcr0(c, edx_eax(c)))
        emu_gp0(c, op);
    c->rip = op_next_ip(c, op);
}

/* ---- descriptor-table registers -------------------------------------------------------- */

/* Limit, then the base: 8 bytes in 64-bit mode, else 4, of which LGDT and LIDT
 * take 3 when the operand size is 16. */
static struct dtable load_dtable(struct emu *c, const struct op *op)
{
    bool wide = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    uint8_t b[10] = {0};
    struct dtable t;

    need_cpl0(c, op);
    emu_load(c, op, op_linear(c, op, wide ? 10 : 6, false), b, wide ? 10 : 6);
    t.limit = get_le16(b);
    t.base = get_le64(b + 2);
    if (!wide && op->opsize == 2)
        t.base &= 0xffffff;
    if (wide && !cpu_canonical(c, t.base))
        emu_gp0(c, op);
    return t;
}

static OUTLINE void store_dtable(struct emu *c, const struct op *op, const struct dtable *t)
{
    bool wide = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    uint8_t b[10];

    if (c->cr4 & CR4_UMIP && c->cpl)
        emu_gp0(c, op);
    put_le16(b, (uint16_t)t->limit);
    put_le64(b + 2, t->base);
    emu_store(c, op, op_linear(c, op, wide ? 10 : 6, true), b, wide ? 10 : 6);
}

static void op_lgdt(struct emu *c, const struct op *op)
{
    c->gdt = load_dtable(c, op);
    c->rip = op_next_ip(c, op);
}

static void op_lidt(struct emu *c, const struct op *op)
{
    c->idt = load_dtable(c, op);
    c->rip = op_next_ip(c, op);
}

static void op_sgdt(struct emu *c, const struct op *op)
{
    store_dtable(c, op, &c->gdt);
    NEXT;
}

static void op_sidt(struct emu *c, const struct op *op)
{
    store_dtable(c, op, &c->idt);
    NEXT;
}

/* ---- translations --------------------------------------------------------------------- */

/* Neither limits nor canonicality are checked: such a page has no translation. */
static void op_invlpg(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    uint64_t lin = op_ea(c, op);
    if ((c->mode & MODE_CODE_MASK) != MODE_CODE64)
        lin = (uint32_t)(lin + c->seg[op->seg].base);
    else if (op->seg >= SEG_FS)
        lin += c->seg[op->seg].base;
    emu_flush_page(c, lin);
    c->rip = op_next_ip(c, op);
}

enum { INVPCID_PAGE, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_NONGLOBAL };

static void op_invpcid(struct emu *c, const struct op *op)
{
    uint8_t desc[16];

    need_cpl0(c, op);
    uint64_t type = reg_read(c, op->src, op->opsize);
    emu_load(c, op, op_linear(c, op, 16, false), desc, 16);
    uint64_t pcid = get_le64(desc), lin = get_le64(desc + 8);

    if (type > INVPCID_NONGLOBAL || pcid >> 12)
        emu_gp0(c, op);
    if (type <= INVPCID_CONTEXT && pcid && !(c->cr4 & CR4_PCIDE))
        emu_gp0(c, op);
    switch (type) {
    case INVPCID_PAGE:
        if (!cpu_canonical(c, lin))
            emu_gp0(c, op);
        emu_flush_page_pcid(c, (uint16_t)pcid, lin);
        break;
    case INVPCID_CONTEXT: emu_flush_pcid(c, (uint16_t)pcid); break;
    case INVPCID_ALL: emu_flush_all(c); break;
    default: emu_flush_nonglobal(c); break;
    }
    c->rip = op_next_ip(c, op);
}

/* ---- HLT, STAC, CLAC -------------------------------------------------------------------- */

static void op_hlt(struct emu *c, const struct op *op)
{
    need_cpl0(c, op);
    c->halted = 1;
    c->stats.hlts++;
    c->rip = op_next_ip(c, op);
}

static void set_ac(struct emu *c, const struct op *op, uint32_t ac)
{
    if (c->cpl)
        emu_ud(c, op);
    c->rflags = (c->rflags & ~FL_AC) | ac;
    emu_mode_changed(c);
    c->rip = op_next_ip(c, op);
}

static void op_stac(struct emu *c, const struct op *op)
{
    set_ac(c, op, FL_AC);
}

static void op_clac(struct emu *c, const struct op *op)
{
    set_ac(c, op, 0);
}

/* ---- random numbers ------------------------------------------------------------------------ */

#if defined(__x86_64__)
static bool host_rdrand(uint64_t *v)
{
    uint8_t ok;
    __asm__ volatile("rdrand %0; setc %1" : "=r"(*v), "=qm"(ok) : : "cc");
    return ok;
}

static bool host_rdseed(uint64_t *v)
{
    uint8_t ok;
    __asm__ volatile("rdseed %0; setc %1" : "=r"(*v), "=qm"(ok) : : "cc");
    return ok;
}
#else
static bool host_rdrand(uint64_t *v)
{
    (void)v;
    return false;
}
#define host_rdseed host_rdrand
#endif

static OUTLINE void random_number(struct emu *c, const struct op *op, bool native,
                                  bool (*host)(uint64_t *v))
{
    uint64_t v = 0;
    bool ok = native ? host(&v) : getrandom(&v, sizeof v, GRND_NONBLOCK) == sizeof v;

    if (unlikely(c->lockstep)) {
        ok = lockstep_value(c, ok);
        v = lockstep_value(c, v);
    }
    reg_write(c, op->dst, op->opsize, ok ? v : 0);
    flags_set_arith(c, ok ? FL_CF : 0);
}

static void op_rdrand(struct emu *c, const struct op *op)
{
    random_number(c, op, c->vm->model->host_rdrand, host_rdrand);
    NEXT;
}

static void op_rdseed(struct emu *c, const struct op *op)
{
    random_number(c, op, c->vm->model->host_rdseed, host_rdseed);
    NEXT;
}

/* ---- hypercalls ------------------------------------------------------------------------------ */

/* The handler's answer, or the embedder's, which is there when the instruction
 * runs again. */
static uint64_t hypercall(struct emu *c)
{
    const uint64_t args[6] = {c->gpr[R_RDI], c->gpr[R_RSI], c->gpr[R_RDX],
                              c->gpr[10],    c->gpr[8],     c->gpr[9]};
    uint64_t nr = c->gpr[R_RAX], ret = 0;

    if (c->replay.insn == emu_insn_id(c) && c->replay.n)
        return c->replay.rec[0].data;
    doing(c, VC_DOING_DEVICES);
    int rc = c->env->hcall ? c->env->hcall(c->env->ctx, c->handle, nr, args, &ret) : ENV_UNHANDLED;
    doing(c, VC_DOING_INTERPRETER);
    if (rc < 0)
        emu_exit_error(c, rc);
    if (rc == ENV_HANDLED)
        return ret;
    c->replay.insn = emu_insn_id(c);
    c->replay.n = c->replay.at = 1;
    c->replay.due = true;
    c->exit->u.hcall.nr = nr;
    memcpy(c->exit->u.hcall.args, args, sizeof args);
    c->exit->u.hcall.ret = 0;
    emu_exit(c, VC_EXIT_HCALL, true);
}

/* Answers of the interface that CPUID 0x40000000 names. */
#define KVM_ENOSYS 1000
#define KVM_EPERM  1

/* VMCALL and VMMCALL. Where nobody handles hypercalls, a PC knows none of the
 * numbers, and a bare partition is a CPU without virtualization. */
static void op_hypercall(struct emu *c, const struct op *op)
{
    uint64_t ret;
    if (c->env->hvm && !c->cpl) {
        emu_at(c, op);
        c->rip = op_next_ip(c, op);
        hvm_hypercall(c);
        return;
    }
    if (!c->env->has_hcall || !c->env->has_hcall(c->env->ctx)) {
        if (!c->env->irq_ack)
            emu_ud(c, op);
        ret = (uint64_t)(c->cpl ? -KVM_EPERM : -KVM_ENOSYS);
    } else {
        need_cpl0(c, op);
        emu_at(c, op);
        ret = hypercall(c);
    }
    reg_write(c, R_RAX * 8, (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 8 : 4, ret);
    c->rip = op_next_ip(c, op);
}

/* ---- selection
 * ----------------------------------------------------------------------------------- */

static const struct sys_entry {
    ZydisMnemonic mnemonic;
    op_fn *fn;
    bool ends;
} sys_table[] = {
    {ZYDIS_MNEMONIC_CPUID, op_cpuid, false},    {ZYDIS_MNEMONIC_RDTSC, op_rdtsc, false},
    {ZYDIS_MNEMONIC_RDTSCP, op_rdtscp, false},  {ZYDIS_MNEMONIC_RDPID, op_rdpid, false},
    {ZYDIS_MNEMONIC_RDPMC, op_rdpmc, false},    {ZYDIS_MNEMONIC_RDMSR, op_rdmsr, false},
    {ZYDIS_MNEMONIC_WRMSR, op_wrmsr, true},     {ZYDIS_MNEMONIC_XGETBV, op_xgetbv, false},
    {ZYDIS_MNEMONIC_XSETBV, op_xsetbv, true},   {ZYDIS_MNEMONIC_LGDT, op_lgdt, true},
    {ZYDIS_MNEMONIC_LIDT, op_lidt, true},       {ZYDIS_MNEMONIC_SGDT, op_sgdt, false},
    {ZYDIS_MNEMONIC_SIDT, op_sidt, false},      {ZYDIS_MNEMONIC_INVLPG, op_invlpg, true},
    {ZYDIS_MNEMONIC_INVPCID, op_invpcid, true}, {ZYDIS_MNEMONIC_HLT, op_hlt, true},
    {ZYDIS_MNEMONIC_STAC, op_stac, true},       {ZYDIS_MNEMONIC_CLAC, op_clac, true},
    {ZYDIS_MNEMONIC_RDRAND, op_rdrand, false},  {ZYDIS_MNEMONIC_RDSEED, op_rdseed, false},
};

static bool select_table(struct emu *c, struct insn *in, struct op *op)
{
    for (unsigned i = 0; i < ARRAY_LEN(sys_table); i++) {
        const struct sys_entry *e = &sys_table[i];
        if (e->mnemonic != in->zi.mnemonic)
            continue;
        op->fn = e->fn;
        in->ends_block = e->ends;
        return emu_has_isa(c, in->zi.meta.isa_set);
    }
    return false;
}

bool select_sys(struct emu *c, struct insn *in, struct op *op)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
        op->fn = op_hypercall;
        in->ends_block = true;
        return true;
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED: op->dst = op_gpr(in->zop[0].reg.value); break;
    case ZYDIS_MNEMONIC_INVPCID:
        op->src = op_gpr(in->zop[0].reg.value);
        op->opsize = in->code_size == 8 ? 8 : 4;
        break;
    default: break;
    }
    return select_table(c, in, op) || select_cr(c, in, op) || select_dr(c, in, op) ||
           select_cache(c, in, op) || select_pkey(c, in, op);
}
