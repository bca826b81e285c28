/* SPDX-License-Identifier: MIT
 * Control registers, debug registers, MSRs, CPUID and reset, called directly. */
#include "sys_rig.h"

static struct rig rig;
static struct emu *c;

static void setup(void)
{
    rig_open(&rig, "host");
    c = rig.c;
}

static void teardown(void)
{
    rig_close(&rig);
}

TestSuite(sys_regs, .init = setup, .fini = teardown);

/* ---- reset ------------------------------------------------------------------------ */

Test(sys_regs, reset_state)
{
    cr_assert_eq(c->rip, 0xfff0);
    cr_assert_eq(c->seg[SEG_CS].base, 0xffff0000);
    cr_assert_eq(c->seg[SEG_CS].sel, 0xf000);
    cr_assert_eq(c->cr0, 0x60000010);
    cr_assert_eq(c->dr6, 0xffff0ff0);
    cr_assert_eq(c->dr7, 0x400);
    cr_assert_eq(c->gpr[R_RDX], CPU_SIGNATURE);
    cr_assert_eq(flags_get(c), 2);
    cr_assert_eq(c->mxcsr, 0x1f80);
    cr_assert_eq(c->xcr0, 1);
    cr_assert_eq(c->pat, 0x0007040600070406);
}

Test(sys_regs, init_keeps_what_it_must)
{
    c->ymm[3][7] = 5;
    c->star = 77;
    c->mtrr_def = 0xc06;
    c->gpr[R_RBX] = 1;
    c->cr0 = CR0_CD | CR0_PE | CR0_ET | CR0_WP;
    c->efer = EFER_SCE;
    emu_reset(c, true);
    cr_assert_eq(c->ymm[3][7], 5);
    cr_assert_eq(c->star, 77);
    cr_assert_eq(c->mtrr_def, 0xc06);
    cr_assert_eq(c->gpr[R_RBX], 0);
    cr_assert_eq(c->cr0, CR0_CD | CR0_ET);
    cr_assert_eq(c->efer, 0);
    emu_reset(c, false);
    cr_assert_eq(c->ymm[3][7], 0);
    cr_assert_eq(c->star, 0);
    cr_assert_eq(c->mtrr_def, 0);
    cr_assert_eq(c->cr0, CR0_CD | CR0_NW | CR0_ET);
}

/* ---- CR0, CR3, CR4, EFER ------------------------------------------------------------- */

Test(sys_regs, cr0_combinations)
{
    cr_assert_not(emu_set_cr0(c, CR0_PG), "PG without PE");
    cr_assert_not(emu_set_cr0(c, CR0_NW), "NW without CD");
    cr_assert_not(emu_set_cr0(c, BIT64(32)), "upper half");
    cr_assert(emu_set_cr0(c, CR0_PE | 0x1f00), "bits that do not exist are dropped");
    cr_assert_eq(c->cr0, CR0_PE | CR0_ET);
}

Test(sys_regs, into_long_mode_and_back)
{
    cr_assert(emu_set_cr0(c, CR0_PE));
    cr_assert(emu_set_efer(c, EFER_LME));
    cr_assert_not(emu_set_cr0(c, CR0_PE | CR0_PG), "without PAE");
    cr_assert(emu_set_cr4(c, CR4_PAE));
    c->seg[SEG_CS].attr = 0xa9b;
    cr_assert_not(emu_set_cr0(c, CR0_PE | CR0_PG), "from a segment with L");
    c->seg[SEG_CS].attr = 0xc9b;
    cr_assert(emu_set_cr0(c, CR0_PE | CR0_PG));
    cr_assert_eq(c->efer, EFER_LME | EFER_LMA);
    cr_assert_eq(c->mode & MODE_CODE_MASK, MODE_CODE32);

    cr_assert_not(emu_set_efer(c, 0), "LME while paging");
    cr_assert_not(emu_set_cr4(c, 0), "PAE off in long mode");
    cr_assert_not(emu_set_cr4(c, CR4_PAE | CR4_LA57), "LA57 in long mode");
    cr_assert(emu_set_efer(c, EFER_LME | EFER_NXE), "LMA written as 0 is ignored");
    cr_assert_eq(c->efer, EFER_LME | EFER_LMA | EFER_NXE);

    c->seg[SEG_CS].attr = 0xa9b;
    emu_mode_changed(c);
    cr_assert_eq(c->mode & MODE_CODE_MASK, MODE_CODE64);
    cr_assert_not(emu_set_cr0(c, CR0_PE), "PG off in 64-bit code");
    c->seg[SEG_CS].attr = 0xc9b;
    cr_assert(emu_set_cr0(c, CR0_PE));
    cr_assert_eq(c->efer, EFER_LME | EFER_NXE);
    cr_assert(emu_set_cr4(c, CR4_PAE | CR4_LA57));
}

Test(sys_regs, pcid)
{
    cr_assert_not(emu_set_cr4(c, CR4_PCIDE), "outside long mode");
    rig_long(&rig, 0);
    cr_assert(emu_set_cr3(c, RIG_PML4 | 1));
    cr_assert_not(emu_set_cr4(c, CR4_PAE | CR4_PCIDE), "CR3[11:0] is not 0");
    cr_assert_not(emu_set_cr3(c, RIG_PML4 | BIT64(63)), "bit 63 without PCIDE");
    cr_assert(emu_set_cr3(c, RIG_PML4));
    cr_assert(emu_set_cr4(c, CR4_PAE | CR4_PCIDE));
    cr_assert(emu_set_cr3(c, RIG_PML4 | 0xabc | BIT64(63)));
    cr_assert_eq(c->cr3, RIG_PML4 | 0xabc);
    c->seg[SEG_CS].attr = 0xc9b;
    cr_assert_not(emu_set_cr0(c, CR0_PE), "PG off with PCIDE");
    cr_assert_not(emu_set_cr3(c, BIT64(46)), "above MAXPHYADDR");
}

Test(sys_regs, pae_pointers)
{
    rig_put64(&rig, 0x3000, 0x4001);
    rig_put64(&rig, 0x3008, 0x5003); /* bit 1 is reserved in a PDPTE */
    rig_put64(&rig, 0x3020, 0x6001);
    cr_assert(emu_set_cr0(c, CR0_PE));
    cr_assert(emu_set_cr4(c, CR4_PAE));
    cr_assert(emu_set_cr3(c, 0x3000));
    cr_assert_not(emu_set_cr0(c, CR0_PE | CR0_PG), "reserved bit in a PDPTE");
    cr_assert_eq(c->cr0, CR0_PE | CR0_ET);
    cr_assert(emu_set_cr3(c, 0x3020));
    cr_assert(emu_set_cr0(c, CR0_PE | CR0_PG));
    cr_assert_eq(c->walk.pdpte[0], 0x6001);
    cr_assert_not(emu_set_cr3(c, 0x3000));
    cr_assert_eq(c->cr3, 0x3020);
    cr_assert_eq(c->walk.pdpte[0], 0x6001, "the old ones stay");
}

Test(sys_regs, cr4_reserved)
{
    cr_assert_not(emu_set_cr4(c, CR4_VME));
    cr_assert_not(emu_set_cr4(c, CR4_PVI));
    cr_assert_not(emu_set_cr4(c, BIT64(13)));
    cr_assert_not(emu_set_cr4(c, BIT64(23)));
    cr_assert_not(emu_set_cr4(c, BIT64(40)));
    cr_assert(emu_set_cr4(c, CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
                                 CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_LA57 | CR4_FSGSBASE |
                                 CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS));
}

Test(sys_regs, efer_reserved)
{
    cr_assert_not(emu_set_efer(c, BIT64(1)));
    cr_assert_not(emu_set_efer(c, BIT64(12)), "no SVM");
    cr_assert_not(emu_set_efer(c, EFER_FFXSR));
    cr_assert(emu_set_efer(c, EFER_SCE | EFER_NXE | BIT64(21)));
}

Test(sys_regs, xcr0)
{
    bool avx = cpu_has(c, F_AVX);
    cr_assert_not(emu_set_xcr0(c, 0));
    cr_assert_not(emu_set_xcr0(c, 2));
    cr_assert_not(emu_set_xcr0(c, 5));
    cr_assert_not(emu_set_xcr0(c, 0xff));
    cr_assert(emu_set_xcr0(c, 3));
    cr_assert_eq(emu_set_xcr0(c, 7), avx);
}

/* ---- debug registers --------------------------------------------------------------------- */

Test(sys_regs, dr_fixed_bits)
{
    cr_assert(dr_set(c, 6, 0));
    cr_assert_eq(c->dr6, 0xffff0ff0);
    cr_assert(dr_set(c, 6, 0xffffffff));
    cr_assert_eq(c->dr6, 0xffffefff);
    cr_assert(dr_set(c, 7, 0));
    cr_assert_eq(c->dr7, 0x400);
    cr_assert(dr_set(c, 7, 0xffffffff));
    cr_assert_eq(c->dr7, 0xffff27ff);
    cr_assert_not(dr_set(c, 6, BIT64(32)));
    cr_assert_not(dr_set(c, 7, BIT64(63)));
    cr_assert(dr_set(c, 0, UINT64_MAX));
}

Test(sys_regs, dr_matching)
{
    dr_set(c, 0, 0x1000); /* exec */
    dr_set(c, 1, 0x2002); /* 4-byte write: 0x2000-0x2003 */
    dr_set(c, 2, 0x3000); /* 8-byte read or write */
    dr_set(c, 3, 0x3f8);  /* 1 port */
    dr_set(c, 7, 0x1 | 0x8 | 0x10 | 0x40 | 0xdull << 20 | 0xbull << 24 | 0x2ull << 28);
    cr_assert_eq(dr_match_exec(c, 0x1000), 1);
    cr_assert_eq(dr_match_exec(c, 0x1001), 0);
    cr_assert_eq(dr_match_data(c, 0x1ffc, 4, true), 0);
    cr_assert_eq(dr_match_data(c, 0x1ffd, 4, true), 2);
    cr_assert_eq(dr_match_data(c, 0x2003, 1, true), 2);
    cr_assert_eq(dr_match_data(c, 0x2003, 1, false), 0);
    cr_assert_eq(dr_match_data(c, 0x2004, 8, true), 0);
    cr_assert_eq(dr_match_data(c, 0x3007, 1, false), 4);
    cr_assert_eq(dr_match_data(c, 0x3008, 1, false), 0);
    cr_assert_eq(dr_match_data(c, 0x1ff0, 0x1018, true), 6);
    cr_assert_eq(dr_match_io(c, 0x3f8, 1), 0, "needs CR4.DE");
    c->cr4 |= CR4_DE;
    cr_assert_eq(dr_match_io(c, 0x3f8, 1), 8);
    cr_assert_eq(dr_match_io(c, 0x3f5, 4), 8);
    cr_assert_eq(dr_match_io(c, 0x3f9, 4), 0);
    dr_set(c, 7, 0xdull << 20);
    cr_assert_eq(dr_match_data(c, 0x2000, 4, true), 0, "not enabled");
    cr_assert_not(dr_armed_data(c));
    cr_assert_not(dr_armed_exec(c));
}

Test(sys_regs, dr_report)
{
    dr_set(c, 6, DR6_BS | 2);
    dr_set(c, 7, DR7_GD | 1);
    dr_report(c, 4);
    cr_assert_eq(c->dr6, DR6_FIXED | DR6_BS | 4);
    cr_assert_eq(c->dr7, 0x401);
}

/* ---- MSRs ------------------------------------------------------------------------------------ */

static uint64_t rd(uint32_t index)
{
    uint64_t v = 0xdead;
    cr_assert(emu_msr_read(c, index, &v), "RDMSR %#x", index);
    return v;
}

static bool faults(uint32_t index)
{
    uint64_t v;
    return !emu_msr_read(c, index, &v);
}

Test(sys_regs, msr_plain)
{
    static const struct {
        uint32_t index;
        uint64_t v;
    } t[] = {{MSR_STAR, 0x23001000000000},
             {MSR_LSTAR, 0x123456789abc},
             {MSR_CSTAR, 0xffff800000000000},
             {MSR_FMASK, 0xffffffff},
             {MSR_FS_BASE, 0x123456789abc},
             {MSR_GS_BASE, 0x123456789abc},
             {MSR_KERNEL_GS_BASE, 0xffffffffff000000},
             {MSR_SYSENTER_CS, 0x1234},
             {MSR_SYSENTER_ESP, 0x123456789abc},
             {MSR_SYSENTER_EIP, 0x123456789abc},
             {MSR_TSC_AUX, 0xffffffff},
             {MSR_PAT, 0x07070707},
             {MSR_SYSCFG, 0x740000},
             {MSR_NB_CFG, BIT64(46)}};
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        cr_assert(emu_msr_write(c, t[i].index, t[i].v), "%#x", t[i].index);
        cr_assert_eq(rd(t[i].index), t[i].v, "%#x", t[i].index);
    }
    cr_assert(emu_msr_write(c, MSR_MISC_ENABLE, 0x400c50809 & ~0x1880ull));
    cr_assert_eq(rd(MSR_MISC_ENABLE), (0x400c50809 & ~0x1880ull) | 0x1880);
}

Test(sys_regs, msr_bad_values)
{
    static const uint32_t bases[] = {MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE,
                                     MSR_KERNEL_GS_BASE};
    for (unsigned i = 0; i < ARRAY_LEN(bases); i++) {
        cr_assert_not(emu_msr_write(c, bases[i], 0xaaaaaaaaaaaaaaaa));
        /* The rule follows what the CPU can, not what CR4 says. */
        cr_assert_eq(emu_msr_write(c, bases[i], 0xff4547ceb1600000), cpu_has(c, F_LA57));
    }
    cr_assert_not(emu_msr_write(c, MSR_TSC_AUX, BIT64(32)));
    cr_assert_not(emu_msr_write(c, MSR_PAT, 2));
    cr_assert_not(emu_msr_write(c, MSR_PAT, 3ull << 56));
    cr_assert_not(emu_msr_write(c, MSR_PAT, 8));
    cr_assert_not(emu_msr_write(c, MSR_EFER, BIT64(12)));
    cr_assert_not(emu_msr_write(c, MSR_HWCR, BIT64(40)));
    cr_assert_not(emu_msr_write(c, MSR_DE_CFG, 1));
    cr_assert(emu_msr_write(c, MSR_DEBUGCTL, 0));
    cr_assert_not(emu_msr_write(c, MSR_DEBUGCTL, 2));
}

Test(sys_regs, msr_absent)
{
    /* SPEC_CTRL, PRED_CMD, FLUSH_CMD, APERF, VMX, XSS, AMD's SVM and PPIN. */
    static const uint32_t absent[] = {0x48,  0x49,  0x10b,      0xe8,       0x480,
                                      0xda0, 0xfff, 0xc0010117, 0xc00102f0, 0x4b564d02};
    for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
        cr_assert(faults(absent[i]), "%#x", absent[i]);
        cr_assert_not(emu_msr_write(c, absent[i], 0), "%#x", absent[i]);
    }
    for (uint32_t i = 0xc0010000; i < 0xc0010008; i++) {
        cr_assert(emu_msr_write(c, i, 0xabcd));
        cr_assert_eq(rd(i), 0);
    }
}

Test(sys_regs, msr_machine_check)
{
    unsigned banks = rd(0x179) & 0xff;
    for (unsigned i = 0; i < 32; i++)
        for (unsigned k = 0; k < 4; k++) {
            uint32_t index = 0x400 + 4 * i + k;
            if (i >= banks) {
                cr_assert(faults(index));
                cr_assert_not(emu_msr_write(c, index, 0));
                continue;
            }
            bool status = k == 1, ctl = k == 0;
            cr_assert(emu_msr_write(c, index, 0));
            cr_assert_eq(emu_msr_write(c, index, UINT64_MAX), !status);
            cr_assert_eq(emu_msr_write(c, index, 0xaaaaaaaaaaaaaaaa), !status && !ctl);
        }
    cr_assert(emu_msr_write(c, MSR_HWCR, HWCR_MC_STATUS));
    cr_assert(emu_msr_write(c, 0x401, 5));
    cr_assert_eq(rd(0x401), 5);
}

Test(sys_regs, msr_mtrr)
{
    cr_assert_eq(rd(0xfe) & 0xff, 8);
    cr_assert_not(emu_msr_write(c, 0xfe, 0));
    cr_assert(emu_msr_write(c, 0x2ff, 0xc06));
    cr_assert_not(emu_msr_write(c, 0x2ff, 0xc02));
    cr_assert_not(emu_msr_write(c, 0x2ff, 0x1006));
    cr_assert_eq(rd(0x2ff), 0xc06);
    cr_assert(emu_msr_write(c, 0x250, 0x0606060606060606));
    cr_assert(emu_msr_write(c, 0x26f, 0x0506040100010405));
    cr_assert_not(emu_msr_write(c, 0x26f, 0x07));
    cr_assert_not(emu_msr_write(c, 0x268, 0x1e), "RdMem and WrMem are hidden");
    cr_assert(emu_msr_write(c, MSR_SYSCFG, SYSCFG_FIX_DRAM_MOD));
    cr_assert(emu_msr_write(c, 0x268, 0x1e));
    cr_assert(faults(0x251));
    cr_assert(emu_msr_write(c, 0x200, 0x80000006));
    cr_assert(emu_msr_write(c, 0x20f, 0x3fff80000800));
    cr_assert_not(emu_msr_write(c, 0x201, 0x7fff80000800), "above MAXPHYADDR");
    cr_assert_not(emu_msr_write(c, 0x200, 0x80000106));
    cr_assert(faults(0x210));
}

Test(sys_regs, tsc)
{
    cr_assert_eq(rd(MSR_TSC_ADJUST), 0);
    uint64_t t1 = emu_tsc(c);
    cr_assert(emu_msr_write(c, MSR_TSC_ADJUST, 100000000000));
    uint64_t t2 = emu_tsc(c);
    cr_assert_geq(t2 - t1, 100000000000);
    cr_assert_lt(t2 - t1, 100000000000 + 1000000000);
    cr_assert_eq(rd(MSR_TSC_ADJUST), 100000000000);
    cr_assert(emu_msr_write(c, MSR_TSC_ADJUST, 0));
    t1 = emu_tsc(c);
    cr_assert(emu_msr_write(c, MSR_TSC, 5));
    cr_assert_lt(emu_tsc(c), 10000000000);
    cr_assert_leq(t1, 5 - rd(MSR_TSC_ADJUST), "the adjustment is the step that was made");
}

Test(sys_regs, tsc_deadline_keeps_its_place)
{
    uint64_t at = emu_tsc(c) + 50000000000;
    cr_assert(emu_msr_write(c, MSR_TSC_DEADLINE, at));
    uint64_t host = rig.deadline;
    cr_assert_eq(rd(MSR_TSC_DEADLINE), at);
    cr_assert(emu_msr_write(c, MSR_TSC_ADJUST, 10000000000));
    cr_assert_eq(rd(MSR_TSC_DEADLINE), at);
    cr_assert_eq(rig.deadline, host - 10000000000);
    cr_assert(emu_msr_write(c, MSR_TSC_DEADLINE, 1), "long gone: due now, not in an age");
    cr_assert_leq(host - rig.deadline, 50000000000);
    cr_assert_gt(host - rig.deadline, 40000000000);
    cr_assert(emu_msr_write(c, MSR_TSC_DEADLINE, 0));
    cr_assert_eq(rig.deadline, 0);
}

struct clock_page {
    uint32_t version, pad;
    uint64_t tsc, time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
};

static uint64_t clock_ns(const struct clock_page *p)
{
    uint64_t d = emu_tsc(c) - p->tsc;
    d = p->shift < 0 ? d >> -p->shift : d << p->shift;
    return p->time + (uint64_t)((unsigned __int128)d * p->mul >> 32);
}

Test(sys_regs, kvm_clock)
{
    struct clock_page p;
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME_NEW, 0x2345 & ~3u));
    mem_read(&rig.mem, 0x2344, &p, sizeof p);
    cr_assert_eq(p.version, 0, "not enabled");
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME_NEW, 0x2344 | 1));
    mem_read(&rig.mem, 0x2344, &p, sizeof p);
    cr_assert(p.version && !(p.version & 1));
    cr_assert_eq(p.flags, 1);
    uint64_t t0 = clock_ns(&p), n0 = host_now_ns();
    /* 2 GHz: half a nanosecond a tick. */
    cr_assert_eq((uint64_t)((unsigned __int128)(p.shift < 0 ? 1000000000ull >> -p.shift
                                                            : 1000000000ull << p.shift) *
                                p.mul >>
                            32),
                 500000000);
    while (host_now_ns() - n0 < 1000000)
        ;
    cr_assert_gt(clock_ns(&p), t0);

    /* The guest moves its counter: the clock goes on. */
    uint32_t version = p.version;
    cr_assert(emu_msr_write(c, MSR_TSC, 12345));
    mem_read(&rig.mem, 0x2344, &p, sizeof p);
    cr_assert_neq(p.version, version);
    cr_assert_gt(clock_ns(&p), t0);
    cr_assert_lt(clock_ns(&p), t0 + 10000000000);

    /* Neither unmapped space nor ROM harms anybody. */
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME, 0x3ffffffffff1));
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME, 0xfffffffffffffff1));
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME, 0xf0000001));
    cr_assert_eq(rig_get64(&rig, 0xf0000000), 0);
}

Test(sys_regs, kvm_wall_clock)
{
    struct clock_page p;
    uint32_t w[3];
    cr_assert(emu_msr_write(c, MSR_KVM_WALL_CLOCK_NEW, 0x2400));
    cr_assert(emu_msr_write(c, MSR_KVM_SYSTEM_TIME_NEW, 0x2401 + 0x40));
    mem_read(&rig.mem, 0x2400, w, sizeof w);
    mem_read(&rig.mem, 0x2440, &p, sizeof p);
    cr_assert(w[0] && !(w[0] & 1));
    uint64_t now = (uint64_t)w[1] * 1000000000 + w[2] + clock_ns(&p);
    cr_assert_lt((int64_t)time(NULL) - (int64_t)(now / 1000000000), 3);
    cr_assert_gt((int64_t)time(NULL) - (int64_t)(now / 1000000000), -3);
}

Test(sys_regs, apic_registers)
{
    cr_assert_eq(rd(MSR_APIC_BASE), 0xfee00900);
    cr_assert(faults(0x802), "the APIC decides");
    rig.apic = false;
    cr_assert(faults(MSR_APIC_BASE));
    cr_assert(faults(MSR_TSC_DEADLINE));
}

/* ---- CPUID ------------------------------------------------------------------------------------
 */

static uint32_t cpuid(uint32_t leaf, uint32_t sub, unsigned reg)
{
    uint32_t out[4];
    emu_cpuid(c, leaf, sub, out);
    return out[reg];
}

Test(sys_regs, cpuid_identity)
{
    uint32_t v[4];
    emu_cpuid(c, 0, 0, v);
    cr_assert(!memcmp(&v[1], "Auth", 4) && !memcmp(&v[3], "enti", 4) && !memcmp(&v[2], "cAMD", 4));
    cr_assert_eq(cpuid(1, 0, 0), CPU_SIGNATURE);
    emu_cpuid(c, 0x40000000, 0, v);
    cr_assert(!memcmp(&v[1], "KVMKVMKVM\0\0\0", 12));
    cr_assert_eq(cpuid(0x40000001, 0, 0), 0x0100000b);
    cr_assert_eq(cpuid(0x40000010, 0, 0), 2000000);
    cr_assert_eq(cpuid(0x80000000, 0, 0), 0x80000021);
    cr_assert_eq(cpuid(0x80000008, 0, 0), cpu_has(c, F_LA57) ? 0x392e : 0x302e);
    uint64_t hz = (uint64_t)cpuid(0x15, 0, 2) * cpuid(0x15, 0, 1) / cpuid(0x15, 0, 0);
    cr_assert_eq(hz, 2000000000);
    for (uint32_t leaf = 0x80000022; leaf < 0x80000030; leaf++)
        cr_assert_eq(cpuid(leaf, 0, 0) | cpuid(leaf, 0, 1) | cpuid(leaf, 0, 2), 0);
}

Test(sys_regs, cpuid_follows_state)
{
    cr_assert_not(cpuid(1, 0, 2) >> 27 & 1);
    cr_assert(emu_set_cr4(c, CR4_OSXSAVE));
    cr_assert(cpuid(1, 0, 2) >> 27 & 1);

    cr_assert(cpuid(1, 0, 3) >> 9 & 1);
    rig.apic_base &= ~0x800ull;
    cr_assert_not(cpuid(1, 0, 3) >> 9 & 1);
    cr_assert(cpuid(1, 0, 2) >> 21 & 1, "x2APIC stays when the APIC is merely off");
    rig.apic = false;
    cr_assert_not(cpuid(1, 0, 2) >> 21 & 1);
    cr_assert_not(cpuid(1, 0, 2) >> 24 & 1);

    cr_assert_eq(cpuid(0xd, 0, 1), 576);
    if (cpu_has(c, F_AVX)) {
        cr_assert(emu_set_xcr0(c, 7));
        cr_assert_eq(cpuid(0xd, 0, 1), 832);
        cr_assert_eq(cpuid(0xd, 1, 1), 832);
        cr_assert_eq(cpuid(0xd, 2, 0), 256);
    }
}

Test(sys_regs, cpuid_topology)
{
    c->vm->ncpu = 3;
    cr_assert_eq(cpuid(1, 0, 1) >> 16 & 0xff, 3);
    cr_assert(cpuid(1, 0, 3) >> 28 & 1);
    cr_assert_eq(cpuid(0xb, 1, 0), 2);
    cr_assert_eq(cpuid(0xb, 1, 1), 3);
    cr_assert_eq(cpuid(0xb, 2, 1), 0);
    cr_assert_eq(cpuid(0x80000008, 0, 2), 0x2002);
    c->vm->ncpu = 1;
}

Test(sys_regs, isa_follows_cpuid)
{
    cr_assert(emu_has_isa(c, ZYDIS_ISA_SET_I86));
    cr_assert(emu_has_isa(c, ZYDIS_ISA_SET_LONGMODE));
    cr_assert_not(emu_has_isa(c, ZYDIS_ISA_SET_AVX512F_512));
    cr_assert_not(emu_has_isa(c, ZYDIS_ISA_SET_RDPRU));
    cr_assert_not(emu_has_isa(c, ZYDIS_ISA_SET_RTM));
    cr_assert_not(emu_has_isa(c, ZYDIS_ISA_SET_MONITOR));
    cr_assert_not(emu_has_isa(c, ZYDIS_ISA_SET_XSAVES));
    cr_assert_eq(emu_has_isa(c, ZYDIS_ISA_SET_AVX2), cpuid(7, 0, 1) >> 5 & 1);
    cr_assert_eq(emu_has_isa(c, ZYDIS_ISA_SET_SHA), cpuid(7, 0, 1) >> 29 & 1);
    cr_assert_eq(emu_has_isa(c, ZYDIS_ISA_SET_LZCNT), cpuid(0x80000001, 0, 2) >> 5 & 1);
}

Test(sys_models, by_name)
{
    struct cpu_model host, v2, v3, m;
    cr_assert_eq(cpu_model_find("pentium", &m), VC_ENOENT);
    cr_assert_eq(cpu_model_find("host", &host), 0);
    vc_errclear();
    bool has_v2 = !cpu_model_find("x86-64-v2", &v2);
    if (has_v2) {
        cr_assert_not(model_has(&v2, F_AVX));
        cr_assert_not(model_has(&v2, F_BMI1));
        cr_assert(model_has(&v2, F_SSE4_2));
        cr_assert_eq(v2.xcr0, 0x3);
        cr_assert_eq(v2.linear_bits, 48);
    }
    bool has_v3 = !cpu_model_find("x86-64-v3", &v3);
    cr_assert_eq(has_v3, model_has(&host, F_AVX2) && model_has(&host, F_FMA) &&
                             model_has(&host, F_F16C) && has_v2);
    if (has_v3)
        cr_assert_not(model_has(&v3, F_SHA));
}

/* "-" takes a feature, and what needs it, from the guest; "~" from the host. */
Test(sys_models, without_features)
{
    struct cpu_model m;
    cr_assert_eq(cpu_model_find("host,-avx,-bmi1", &m), 0);
    cr_assert(!model_has(&m, F_AVX) && !model_has(&m, F_AVX2) && !model_has(&m, F_FMA));
    cr_assert(!model_has(&m, F_VAES) && !model_has(&m, F_BMI1) && model_has(&m, F_BMI2));
    cr_assert_eq(m.xcr0, 0x203);
    cr_assert_not(m.host[F_BMI1 / 32] & BIT(F_BMI1 % 32));

    cr_assert_eq(cpu_model_find("host,~sse3,~bmi1,~popcnt", &m), 0);
    cr_assert(!model_has(&m, F_SSE3) && !model_has(&m, F_SSE4_2) && !model_has(&m, F_AVX));
    cr_assert(model_has(&m, F_BMI1) && model_has(&m, F_POPCNT));
    cr_assert_not(m.host[F_BMI1 / 32] & BIT(F_BMI1 % 32));
    cr_assert_not(m.host[F_POPCNT / 32] & BIT(F_POPCNT % 32));

    vc_errclear();
    cr_assert_eq(cpu_model_find("x86-64-v2,~sse4_1", &m), VC_ENOTSUP);
    vc_errclear();
    cr_assert_eq(cpu_model_find("host,-mmx", &m), VC_ENOENT);
    vc_errclear();
    cr_assert_eq(cpu_model_find("host,avx", &m), VC_EINVAL);
    vc_errclear();
    cr_assert_eq(cpu_model_find("host,", &m), VC_EINVAL);
}
