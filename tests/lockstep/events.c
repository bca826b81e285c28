/* SPDX-License-Identifier: MIT
 * What the embedder does between two runs, to both guests alike. */
#include "lockstep.h"
#include <string.h>

/* Other bytes in an instruction that stores change too. */
static void write_code(struct guest *g, const struct program *p, unsigned n, uint8_t v)
{
    if (!p->nsites)
        return;
    unsigned at = p->site[n % p->nsites];
    vc_write(g->vm, P_CODE + at, &v, 1);
    vc_write(g->vm, P_ALT + at, &v, 1);
}

static void set_vector(struct guest *g, unsigned n, uint64_t v)
{
    struct vc_fpu f = {.size = sizeof f};
    vc_fpu_get(g->cpu, &f);
    f.xsave[512] |= 7;
    memcpy(f.xsave + (n & 1 ? 160 : 576) + 8 * (n >> 1 & 31), &v, 8);
    vc_fpu_set(g->cpu, &f);
}

static void single_steps(struct guest *g, unsigned n)
{
    vc_single_step(g->cpu, 1);
    for (unsigned i = 0; i < n; i++)
        guest_run(g, guest_insns(g) + 1);
    vc_single_step(g->cpu, 0);
    if (g->exit.kind == VC_EXIT_DEBUG)
        g->exit.kind = VC_EXIT_BUDGET;
}

static void toggle_region(struct guest *g)
{
    if (!g->extra)
        g->extra = vc_map(g->vm, 0x10000000, 4096, VC_MEM_RWX) == 0;
    else
        g->extra = vc_unmap(g->vm, 0x10000000, 4096) != 0;
}

void events(struct guest g[2], const struct program *p, struct rng *r)
{
    unsigned what = below(r, 24), n = below(r, 256);
    uint64_t v = rnd(r), flags = 0;
    bool host = p->features & F_HOST;
    if (!(p->features & F_EVENTS))
        return;
    vc_reg_get(g[0].cpu, VC_REG_RFLAGS, &flags);
    for (unsigned i = 0; i < 2; i++) {
        vc_cpu *cpu = g[i].cpu;
        switch (what) {
        case 0:
        case 1:
        case 2:
        case 3: vc_inject_irq(cpu, (uint8_t)(0x40 + n % 8)); break;
        case 4: vc_inject_nmi(cpu); break;
        case 5: vc_inject_exception(cpu, 3, 0, 0); break;
        case 6: vc_kick(cpu); break;
        case 7:
            if (host)
                write_code(&g[i], p, n, (uint8_t)v);
            break;
        case 8:
            if (host)
                vc_reg_set(cpu, VC_REG_RFLAGS, flags ^ (v & FL_ARITH));
            break;
        case 9:
            if (host)
                set_vector(&g[i], n, v);
            break;
        case 10:
            if (host)
                single_steps(&g[i], n % 16);
            break;
        case 11:
            if (host)
                guest_toggle_trap(&g[i]);
            break;
        case 12:
            if (host && n % 4 == 0)
                toggle_region(&g[i]);
            break;
        default: break;
        }
    }
}
