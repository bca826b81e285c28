/* SPDX-License-Identifier: MIT
 * The state after RESET and INIT (SDM 10.1.1, table 10-1; AMD APM volume 2,
 * 14.1.3). */
#include "../simd/fpu.h"
#include "sys.h"

/* Registers, selectors and tables start afresh both ways. */
static void reset_common(struct emu *c)
{
    memset(c->gpr, 0, sizeof c->gpr);
    c->gpr[R_RDX] = CPU_SIGNATURE;
    c->rip = 0xfff0;
    c->rflags = 2;
    flags_set_arith(c, 0);

    for (unsigned i = 0; i < SEG_COUNT; i++)
        c->seg[i] = (struct seg){.limit = 0xffff, .attr = 0x93};
    c->seg[SEG_CS] = (struct seg){.base = 0xffff0000, .limit = 0xffff, .sel = 0xf000, .attr = 0x9b};
    c->seg[SEG_LDTR].attr = 0x82;
    c->seg[SEG_TR].attr = 0x8b;
    c->gdt = c->idt = (struct dtable){.limit = 0xffff};
    c->cpl = 0;

    c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
    memset(c->walk.pdpte, 0, sizeof c->walk.pdpte);
    memset(c->dr, 0, sizeof c->dr);
    c->dr6 = DR6_FIXED;
    c->dr7 = DR7_FIXED;

    c->shadow = 0;
    c->halted = 0;
    /* NMIs that wait belong to the time before: two at most (src/cpu/mail.c). */
    mail_clear(c->mail, PEND_NMI);
    mail_clear(c->mail, PEND_NMI);
    mail_nmi_done(c->mail);
    c->nmi_masked = c->pv_kernel = false;
    c->db_hit = 0;
    emu_replay_forget(c);
}

static void reset_msrs(struct emu *c)
{
    c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = 0;
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->pat = 0x0007040600070406ull;
    c->tsc_offset = c->tsc_adjust = c->tsc_aux = 0;
    c->misc_enable = 1; /* fast strings */
    c->spec_ctrl = 0;
    c->mtrr_def = 0;
    memset(c->mtrr_fixed, 0, sizeof c->mtrr_fixed);
    memset(c->mtrr_var, 0, sizeof c->mtrr_var);
    c->mcg_status = c->mcg_ctl = 0;
    memset(c->mc_bank, 0, sizeof c->mc_bank);
    c->hwcr = c->syscfg = c->nb_cfg = 0;
    c->kvm_system_time = c->kvm_wall_clock = 0;
    c->pkru = c->pkrs = 0;
}

void emu_reset(struct emu *c, bool init)
{
    reset_common(c);
    if (init) {
        /* Caching control stays as it was. */
        c->cr0 = (c->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    } else {
        c->cr0 = CR0_CD | CR0_NW | CR0_ET;
        fpu_reset(c);
        c->xcr0 = 1;
        reset_msrs(c);
    }
    c->walk.phys_bits = c->vm->model->phys_bits;
    c->walk.gbpages = cpu_has(c, F_PDPE1GB);
    emu_switch_cr3(c, false);
    emu_flush_all(c);
    emu_mode_changed(c);
}
