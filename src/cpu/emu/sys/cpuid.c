/* SPDX-License-Identifier: MIT
 * CPUID: what of its answers depends on this vCPU's state. */
#include "../simd/fpu.h"
#include "sys.h"
#include "../../pv_engine.h"

static void set(uint32_t out[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

/* State components: sizes of areas, then size and place of each component. */
static void leaf_xsave(struct emu *c, uint32_t sub, uint32_t out[4])
{
    uint64_t all = c->vm->model->xcr0;

    if (sub == 0)
        set(out, (uint32_t)all, xs_size(c->xcr0, false), xs_size(all, false), 0);
    else if (sub == 1)
        set(out, c->vm->model->word[CW_D1_EAX],
            model_has(c->vm->model, F_XSAVEC) ? xs_size(c->xcr0, true) : 0, 0, 0);
    else if (sub == 2 && all & XS_YMM)
        set(out, XS_AVX_LEN, XS_AVX, 0, 0);
    else if (sub == 9 && all & XS_PKRU)
        set(out, XS_PKRU_LEN, xs_pkru(false, 0), 0, 0);
}

void emu_cpuid(struct emu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    uint64_t base = 0;
    const struct cpuid_state s = {
        .model = c->vm->model,
        .index = c->index,
        .cores = c->vm->ncpu > 1 ? c->vm->ncpu : 1,
        .apic = c->env->apic_msr && c->env->apic_msr(c->env->ctx, c->index, 0x1b, false, &base),
        .apic_on = base & 0x800,
        .osxsave = c->cr4 & CR4_OSXSAVE,
        .ospke = c->cr4 & CR4_PKE,
        .tsc_hz = c->env->tsc_hz,
    };
    cpuid_answer(&s, leaf, sub, out);
    if (leaf == 0xd)
        leaf_xsave(c, sub, out);
    if (unlikely(c->env->pv))
        c->env->pv->cpuid(c->env->pv_ctx, c->index, leaf, sub, out);
    else if (unlikely(c->env->hvm))
        c->env->hvm->cpuid(c->env->pv_ctx, c->index, leaf, sub, out);
}
