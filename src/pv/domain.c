/* SPDX-License-Identifier: MIT
 * A domain made and taken down: the hypervisor's memory in the partition, its vCPUs. */
#include "domain.h"
#include "../base/err.h"
#include "../base/tsc.h"
#include <assert.h>
#include <stdlib.h>

#define MiB2 (2ull << 20)

/* ---- the hypervisor's memory ------------------------------------------------------------- */

/* Behind the guest's RAM: frames shared with it, the hypervisor's descriptors, page
 * tables of the hypervisor's slots, the table from machine frames to the guest's. */
enum {
    HV_GDT = SPECIAL_COUNT,
    HV_M2P_L3,
    HV_M2P_L2,
    HV_OWN_L3,
    HV_OWN_L2,
    HV_OWN_L1,
    HV_PAGES = HV_OWN_L1 + PV_CPUS_MAX * HV_CPU_PAGES / 512
};
static_assert(HV_PAGES * PAGE <= MiB2, "the table of frames is at 2 MiB");
#define M2P_MAX (BIT64(30) / 8) /* frames that one L2 of large pages covers */

static uint64_t *hv_page(const struct pv_domain *d, unsigned page)
{
    return (uint64_t *)(d->hv + page * PAGE);
}

static uint64_t hv_frame(const struct pv_domain *d, unsigned page)
{
    return (d->hidden >> 12) + page;
}

/* Flat segments of ring 3, where the public headers say: code of 32 bits, data, code of
 * 64 bits. */
static void put_gdt(struct pv_domain *d)
{
    uint64_t *gdt = hv_page(d, HV_GDT);
    gdt[(FLAT_RING3_CS32 & 0xfff) >> 3] = 0x00cffb000000ffffull;
    gdt[(FLAT_RING3_SS64 & 0xfff) >> 3] = 0x00cff3000000ffffull;
    gdt[(FLAT_RING3_CS64 & 0xfff) >> 3] = 0x00affb000000ffffull;
}

static void put_tables(struct pv_domain *d, uint64_t m2p_len)
{
    const uint64_t own = PTE_P | PTE_W | PTE_A, user = PTE_P | PTE_U | PTE_A;
    uint64_t *l2 = hv_page(d, HV_M2P_L2);
    hv_page(d, HV_M2P_L3)[0] = hv_frame(d, HV_M2P_L2) << 12 | user;
    for (uint64_t at = 0; at < m2p_len; at += MiB2)
        l2[at / MiB2] = (d->hidden + MiB2 + at) | user | PTE_D | PTE_PS | PTE_NX;
    hv_page(d, HV_OWN_L3)[0] = hv_frame(d, HV_OWN_L2) << 12 | own;
    for (unsigned i = 0; i < PV_CPUS_MAX * HV_CPU_PAGES / 512; i++)
        hv_page(d, HV_OWN_L2)[i] = hv_frame(d, HV_OWN_L1 + i) << 12 | own;
    d->own_l1 = hv_page(d, HV_OWN_L1);
    for (unsigned i = 0; i < PV_CPUS_MAX; i++)
        d->own_l1[i * HV_CPU_PAGES + FIRST_RESERVED_GDT_PAGE] =
            hv_frame(d, HV_GDT) << 12 | PTE_P | PTE_A | PTE_NX;
    d->m2p_l3 = hv_frame(d, HV_M2P_L3);
    d->own_l3 = hv_frame(d, HV_OWN_L3);
}

static int hidden_make(struct pv_domain *d)
{
    const struct pv_host *h = &d->host;
    uint64_t top = h->ram_high ? (4ull << 30) + h->ram_high : h->ram_low;
    uint64_t at = (top + MiB2 - 1) & ~(MiB2 - 1), nmfn = at >> 12;
    if (nmfn > M2P_MAX)
        return err_set(VC_ERANGE, "a Xen guest's memory ends below 512 GiB");
    uint64_t m2p_len = (nmfn * 8 + MiB2 - 1) & ~(MiB2 - 1);
    uint64_t len = d->pvh ? SPECIAL_COUNT * PAGE : MiB2 + m2p_len;
    int rc = mem_add(h->mem, at, len, VC_MEM_READ | VC_MEM_WRITE, NULL);
    if (rc)
        return rc;
    d->hidden = at;
    d->hidden_len = len;
    d->hv = mem_ptr(h->mem, at, d->hidden_len);
    if (!d->hv)
        return err_set(VC_EINTERNAL, "the hypervisor's memory is not where it was mapped");
    d->special = at >> 12;
    d->nmfn = d->special + SPECIAL_COUNT;
    d->shared = (struct shared_info *)hv_page(d, SPECIAL_SHARED);
    if (d->pvh)
        return 0; /* no tables of the hypervisor's in its own */
    d->m2p = (uint64_t *)(d->hv + MiB2);
    memset(d->m2p, 0xff, m2p_len); /* all of them FRAME_NR */
    put_gdt(d);
    put_tables(d, m2p_len);
    memset(d->shared->evtchn_mask, 0xff, sizeof d->shared->evtchn_mask);
    return 0;
}

static int frames_make(struct pv_domain *d)
{
    const struct pv_host *h = &d->host;
    d->low = mem_ptr(h->mem, 0, h->ram_low);
    d->high = h->ram_high ? mem_ptr(h->mem, 4ull << 30, h->ram_high) : NULL;
    if (!d->low || (h->ram_high && !d->high))
        return err_set(VC_ESTATE, "the partition's RAM is not as vc_pc() mapped it");
    d->page = calloc(d->nmfn, sizeof *d->page);
    d->seen = calloc(d->nmfn, sizeof *d->seen);
    if (!d->page || !d->seen)
        return err_set(VC_ENOMEM, "no host memory for the domain's frames");
    d->npfn = d->free_from = (h->ram_low + h->ram_high) >> 12;
    d->frames = d->limit = d->npfn;
    d->target = d->npfn * PAGE;
    for (uint64_t pfn = 0; pfn < d->npfn; pfn++)
        d->page[pv_pfn_to_mfn(d, pfn)].refs = 1;
    for (uint64_t i = 0; i < SPECIAL_COUNT; i++)
        d->page[d->special + i] = (struct pv_page){
            .refs = 1, .types = 1, .type = TYPE_WRITABLE, .valid = true, .special = true};
    return 0;
}

/* ---- vCPUs --------------------------------------------------------------------------------------
 */

/* Ring 3 in 64-bit mode; the rest of the control registers as the guest will see it. */
static int vcpu_state(struct pv_vcpu *v)
{
    const struct backend *be = v->d->host.be;
    const uint16_t code = 0xafb, data = 0xcf3;
    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g, .rflags = 2};
    int rc = be->reset(v->bc, v->id != 0);
    if (!rc)
        rc = be->sregs(v->bc, false, &s);
    if (rc)
        return rc;
    const struct vc_segment flat = {.limit = UINT32_MAX, .selector = FLAT_RING3_SS64, .attr = data};
    s.es = s.ds = s.ss = flat;
    s.fs = s.gs = s.ldtr = s.tr = (struct vc_segment){0}; /* no TSS: no ports */
    s.cs = (struct vc_segment){.limit = UINT32_MAX, .selector = FLAT_RING3_CS64, .attr = code};
    s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    s.cr4 = 0x620;      /* PAE OSFXSR OSXMMEXCPT */
    s.efer = 0xd01;     /* NXE LMA LME SCE */
    s.cr3 = 0;
    rc = be->sregs(v->bc, true, &s);
    if (!rc)
        rc = be->gprs(v->bc, true, &g);
    /* On from the start, where the CPU model has it: so guests learn of XSAVE. */
    uint64_t cr4 = s.cr4 | BIT64(18);
    v->cr4 = !rc && !be->reg(v->bc, true, VC_REG_CR4, &cr4) ? cr4 : s.cr4;
    return rc;
}

static int vcpu_init(struct pv_domain *d, unsigned i)
{
    struct pv_vcpu *v = &d->vcpu[i];
    v->d = d;
    v->id = i;
    v->bc = d->host.cpu[i].bc;
    v->mail = d->host.cpu[i].mail;
    v->handle = d->host.cpu[i].handle;
    v->kernel = true;
    v->kernel_mfn = v->user_mfn = v->info_mfn = FRAME_NR;
    for (unsigned n = 0; n < PV_SPACES; n++)
        v->space[n].kernel_mfn = v->space[n].user_mfn = FRAME_NR;
    v->info = i < XEN_LEGACY_MAX_VCPUS ? &d->shared->vcpu_info[i] : &v->own_info;
    v->info->evtchn_upcall_mask = !d->pvh;
    v->cr0 = 0x80050033;
    pthread_mutex_init(&v->run_lock, NULL);
    v->run.state = i ? RUNSTATE_offline : RUNSTATE_running;
    v->run.state_entry_time = 0;
    int rc = pv_timers_init(v);
    if (!rc && !d->pvh)
        rc = vcpu_state(v);
    return rc;
}

static const struct pv_hooks hooks = {
    .event = pv_hook_event,
    .syscall = pv_hook_syscall,
    .wake = pv_hook_wake,
    .start = pv_hook_start,
    .cpuid = pv_hook_cpuid,
};

static int vcpus_make(struct pv_domain *d)
{
    int rc = 0;
    d->vcpu = calloc(d->host.ncpu, sizeof *d->vcpu);
    if (!d->vcpu)
        return err_set(VC_ENOMEM, "no host memory for the domain's vCPUs");
    for (unsigned i = 0; i < d->host.ncpu && !rc; i++)
        rc = vcpu_init(d, i);
    return rc;
}

/* ---- life
 * ------------------------------------------------------------------------------------------ */

/* Back ends write to the rings for as long as the domain is there: their pages are never
 * tables, and never given back. */
static int rings_hold(struct pv_domain *d)
{
    if (pv_frame_get_type(d, d->store_mfn, TYPE_WRITABLE) ||
        pv_frame_get_type(d, d->console_mfn, TYPE_WRITABLE))
        return err_set(VC_EINTERNAL, "the pages of xenstore and console are not memory");
    return 0;
}

static void start(struct pv_domain *d)
{
    struct pv_vcpu *v = &d->vcpu[0];
    atomic_store(&v->up, true);
    atomic_store(&v->initialised, true);
    if (!d->pvh) {
        d->eng->note_seen(d->host.bvm, d->seen, d->nmfn);
        d->eng->switch_mode(v->bc, true, v->kernel_mfn << 12);
        pv_space_enter(v);
        pv_descriptors_load(v);
    }
    pv_wallclock_publish(d);
    for (unsigned i = 0; i < (d->pvh ? d->host.ncpu : 1); i++)
        pv_time_publish(&d->vcpu[i]);
}

/* opts: NULL for a PVH guest. */
static int make(struct pv_domain *d, const struct vc_boot_opts *opts)
{
    int rc = hidden_make(d);
    if (!rc)
        rc = frames_make(d);
    if (!rc)
        rc = vcpus_make(d);
    if (rc)
        return rc;
    pv_ports_init(d);
    d->tsc0 = host_tsc();
    d->store_port = (uint32_t)pv_port_new(d, pv_store_kick, d);
    d->console_port = (uint32_t)pv_port_new(d, pv_console_kick, d);
    rc = opts ? pv_domain_build(d, opts) : pvh_make(d);
    if (!rc)
        rc = rings_hold(d);
    if (!rc)
        rc = pv_grants_init(d);
    if (!rc)
        rc = pv_store_attach(d);
    if (!rc)
        rc = d->pvh ? pvh_attach(d) : d->eng->attach(d->host.bvm, &hooks, d);
    if (!rc)
        start(d);
    return rc;
}

static struct pv_domain *domain_new(const struct pv_host *host, const struct vc_boot_opts *opts)
{
    struct pv_domain *d = calloc(1, sizeof *d);
    struct pvh *pvh = opts ? NULL : pvh_alloc();
    if (!d || !(opts || pvh)) {
        free(d);
        free(pvh);
        err_set(VC_ENOMEM, "no host memory for a domain");
        return NULL;
    }
    d->pvh = pvh;
    d->host = *host;
    d->eng = host->be->pv;
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->port_lock, NULL);
    pthread_mutex_init(&d->grant_lock, NULL);
    pthread_mutex_init(&d->console_lock, NULL);
    pthread_cond_init(&d->console_room, NULL);
    if (make(d, opts)) {
        pv_free(d);
        return NULL;
    }
    return d;
}

struct pv_domain *pv_new(const struct pv_host *host, const struct vc_boot_opts *opts)
{
    return domain_new(host, opts);
}

struct pv_domain *pvh_new(const struct pv_host *host, uint64_t *base, uint64_t *len)
{
    struct pv_domain *d = domain_new(host, NULL);
    if (d) {
        *base = d->hidden;
        *len = d->hidden_len;
    }
    return d;
}

void pv_free(struct pv_domain *d)
{
    if (!d)
        return;
    d->eng->attach(d->host.bvm, NULL, NULL);
    pv_store_detach(d);
    for (unsigned i = 0; d->vcpu && i < d->host.ncpu; i++) {
        if (!d->vcpu[i].d)
            continue;
        pv_timers_free(&d->vcpu[i]);
        pvh_reset(&d->vcpu[i]);
        pthread_mutex_destroy(&d->vcpu[i].run_lock);
        free(d->vcpu[i].decoded);
    }
    if (d->pvh)
        pvh_free(d);
    if (d->hidden)
        mem_del(d->host.mem, d->hidden, d->hidden_len);
    free(d->vcpu);
    free(d->page);
    free(d->seen);
    free(d->grant_pins);
    free(d->maps);
    free(d->fifo);
    pthread_cond_destroy(&d->console_room);
    pthread_mutex_destroy(&d->console_lock);
    pthread_mutex_destroy(&d->grant_lock);
    pthread_mutex_destroy(&d->port_lock);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* Timers and other vCPUs may be about to wake it. */
void pv_cpu_gone(struct pv_domain *d, unsigned cpu)
{
    if (cpu >= d->host.ncpu)
        return;
    struct pv_vcpu *v = &d->vcpu[cpu];
    pv_timers_free(v);
    pthread_mutex_lock(&d->port_lock);
    atomic_store(&v->up, false);
    v->bc = NULL;
    v->mail = NULL;
    pthread_mutex_unlock(&d->port_lock);
}
