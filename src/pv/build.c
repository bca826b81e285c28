/* SPDX-License-Identifier: MIT
 * A domain's first memory: kernel, start_info, the pages for xenstore and console, page
 * tables, stack; behind them the initrd and the list of frames. In this order, from the
 * kernel's virtual base on, all of it mapped but the initrd. */
#include "domain.h"
#include "../base/err.h"
#include "../boot/loader.h"
#include "../boot/payload.h"
#include "../boot/xen_notes.h"
#include <stdio.h>

typedef unsigned long long ull;

#define ROUND_TO (4ull << 20)   /* the mapped part ends at a multiple of this, */
#define SLACK    (512ull << 10) /* at least so far behind the stack */

/* Frame numbers as the guest's. */
struct plan {
    struct pv_domain *d;
    struct elf_image elf;
    struct kernel_notes notes;
    uint64_t kernel_end, info, store, console, tables, ntables, stack, end;
    uint64_t initrd, initrd_len;
    uint64_t p2m_tables, np2m_tables, p2m, np2m, used;
    uint64_t next_table; /* while tables are made */
};

static uint64_t pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE;
}

static uint8_t *pfn_ptr(const struct pv_domain *d, uint64_t pfn)
{
    return pv_frame_ptr(d, pv_pfn_to_mfn(d, pfn));
}

/* ---- placing ---------------------------------------------------------------------------- */

/* Tables that map n pages from va on, without the L4. */
static uint64_t tables_for(uint64_t va, uint64_t n)
{
    uint64_t last = va + (n - 1) * PAGE, count = 0;
    for (unsigned shift = 21; shift <= 39; shift += 9)
        count += (last >> shift) - (va >> shift) + 1;
    return count;
}

static int place(struct plan *p, const struct vc_boot_opts *o)
{
    struct pv_domain *d = p->d;
    const uint64_t base = p->notes.virt_base;
    uint64_t at;
    int rc = xen_notes_extent(&p->elf, &p->notes, &at);
    if (rc)
        return rc;
    at = p->kernel_end = pages(at);
    p->initrd_len = pages(o->initrd_len);
    if (p->initrd_len && !p->notes.mod_start_pfn) {
        p->initrd = at;
        at += p->initrd_len;
    }
    p->np2m = pages(d->npfn * sizeof(xen_pfn_t));
    if (!p->notes.has_init_p2m) {
        p->p2m = at;
        at += p->np2m;
    }
    p->info = at++;
    p->store = at++;
    p->console = at++;
    p->tables = at;
    /* More tables map more, which may need more tables. */
    for (p->ntables = 1;;) {
        p->stack = p->tables + p->ntables;
        p->end = ((p->stack + 1) * PAGE + SLACK + ROUND_TO - 1) / ROUND_TO * (ROUND_TO / PAGE);
        uint64_t need = 1 + tables_for(base, p->end);
        if (need <= p->ntables)
            break;
        p->ntables = need;
    }
    at = p->end;
    if (p->initrd_len && p->notes.mod_start_pfn) {
        p->initrd = at;
        at += p->initrd_len;
    }
    if (p->notes.has_init_p2m) {
        p->p2m_tables = at;
        p->np2m_tables = tables_for(p->notes.init_p2m, p->np2m);
        p->p2m = at + p->np2m_tables;
        at = p->p2m + p->np2m;
    }
    p->used = at;
    if (base + p->end * PAGE < base)
        return err_set(VC_EFORMAT, "the kernel's virtual base %#llx leaves no room", (ull)base);
    if (at > d->npfn)
        return err_set(VC_ERANGE,
                       "kernel, initrd and page tables take %llu MiB; the guest has %llu MiB",
                       (ull)(at >> 8), (ull)(d->npfn >> 8));
    return 0;
}

/* ---- page tables ---------------------------------------------------------------------------- */

static uint64_t *table_at(struct plan *p, uint64_t *e)
{
    if (!(*e & PTE_P)) {
        uint64_t mfn = pv_pfn_to_mfn(p->d, p->next_table++);
        *e = mfn << 12 | PTE_P | PTE_W | PTE_U | PTE_A;
    }
    return pv_frame_ptr(p->d, PTE_MFN(*e));
}

static bool is_table(const struct plan *p, uint64_t pfn)
{
    return (pfn >= p->tables && pfn < p->tables + p->ntables) ||
           (pfn >= p->p2m_tables && pfn < p->p2m_tables + p->np2m_tables);
}

/* Upper tables are taken first, so that they are in the order of their levels. */
static void map(struct plan *p, uint64_t va, uint64_t pfn, uint64_t n)
{
    uint64_t *l4 = (uint64_t *)pfn_ptr(p->d, p->tables);
    for (; n; n--, va += PAGE, pfn++) {
        uint64_t *l3 = table_at(p, &l4[va >> 39 & 511]);
        uint64_t *l2 = table_at(p, &l3[va >> 30 & 511]);
        uint64_t *l1 = table_at(p, &l2[va >> 21 & 511]);
        l1[va >> 12 & 511] = pv_pfn_to_mfn(p->d, pfn) << 12 | PTE_P | PTE_U | PTE_A | PTE_D |
                             (is_table(p, pfn) ? 0 : PTE_W);
    }
}

static void put_tables(struct plan *p)
{
    p->next_table = p->tables + 1;
    map(p, p->notes.virt_base, 0, p->end);
    if (p->notes.has_init_p2m) {
        p->next_table = p->p2m_tables;
        map(p, p->notes.init_p2m, p->p2m, p->np2m);
    }
}

/* ---- contents
 * ------------------------------------------------------------------------------------ */

/* Guest-physical memory as the guest numbers it: the gap below 4 GiB is not there. */
static void put(struct plan *p, uint64_t at, const void *bytes, uint64_t n)
{
    const uint8_t *from = bytes;
    while (n) {
        uint64_t k = min_u64(n, PAGE - (at & (PAGE - 1)));
        memcpy(pfn_ptr(p->d, at / PAGE) + (at & (PAGE - 1)), from, k);
        from += k;
        at += k;
        n -= k;
    }
}

/* For kernels of before 2020: an entry for each hypercall, 32 bytes apart. */
static void put_hypercall_page(struct plan *p)
{
    uint64_t pfn = (p->notes.hypercall_page - p->notes.virt_base) / PAGE;
    if (!p->notes.has_hypercall_page || p->notes.hypercall_page < p->notes.virt_base ||
        pfn >= p->kernel_end)
        return;
    uint8_t page[PAGE];
    memset(page, 0xcc, sizeof page);
    for (unsigned i = 0; i < PAGE / 32; i++) {
        const uint8_t entry[] = {0x51, 0x41,       0x53,         /* push rcx; push r11 */
                                 0xb8, (uint8_t)i, 0,    0,   0, /* mov eax, i */
                                 0x0f, 0x05,                     /* syscall */
                                 0x41, 0x5b,       0x59, 0xc3};  /* pop r11; pop rcx; ret */
        const uint8_t iret[] = {0x51, 0x41,       0x53, 0x50,    /* push rcx, r11, rax */
                                0xb8, (uint8_t)i, 0,    0,    0, 0x0f, 0x05};
        if (i == __HYPERVISOR_iret)
            memcpy(page + 32 * i, iret, sizeof iret);
        else
            memcpy(page + 32 * i, entry, sizeof entry);
    }
    put(p, pfn * PAGE, page, sizeof page);
}

static void put_info(struct plan *p, const struct vc_boot_opts *o)
{
    struct pv_domain *d = p->d;
    const uint64_t base = p->notes.virt_base;
    struct start_info s = {
        .nr_pages = d->npfn,
        .shared_info = (d->special + SPECIAL_SHARED) << 12,
        .store_mfn = d->store_mfn,
        .store_evtchn = d->store_port,
        .console.domU = {.mfn = d->console_mfn, .evtchn = d->console_port},
        .pt_base = base + p->tables * PAGE,
        .nr_pt_frames = p->ntables,
        .mfn_list = p->notes.has_init_p2m ? p->notes.init_p2m : base + p->p2m * PAGE,
    };
    snprintf(s.magic, sizeof s.magic, "xen-3.0-x86_64");
    if (p->notes.has_init_p2m) {
        s.first_p2m_pfn = p->p2m_tables;
        s.nr_p2m_frames = p->np2m_tables + p->np2m;
    }
    if (p->initrd_len) {
        s.mod_start = p->notes.mod_start_pfn ? p->initrd : base + p->initrd * PAGE;
        s.mod_len = o->initrd_len;
        s.flags = p->notes.mod_start_pfn ? SIF_MOD_START_PFN : 0;
    }
    snprintf((char *)s.cmd_line, sizeof s.cmd_line, "%s", o->cmdline ? o->cmdline : "");
    put(p, p->info * PAGE, &s, sizeof s);
}

static void put_all(struct plan *p, const struct vc_boot_opts *o)
{
    struct pv_domain *d = p->d;
    for (uint64_t pfn = 0; pfn < p->used; pfn++) {
        uint64_t gpa = pv_pfn_to_mfn(d, pfn) << 12;
        const struct mem_region *r = mem_find(d->host.mem, gpa);
        if (r)
            mem_touch(r, gpa);
        memset(pfn_ptr(d, pfn), 0, PAGE);
    }
    for (unsigned i = 0; i < p->elf.nseg; i++) {
        const struct elf_seg *s = &p->elf.seg[i];
        put(p, s->paddr - p->notes.paddr_offset, s->bytes, s->filesz);
    }
    put_hypercall_page(p);
    put(p, p->initrd * PAGE, o->initrd, o->initrd_len);
    for (uint64_t pfn = 0; pfn < d->npfn; pfn++) {
        uint64_t mfn = pv_pfn_to_mfn(d, pfn);
        put(p, p->p2m * PAGE + pfn * sizeof mfn, &mfn, sizeof mfn);
        d->m2p[mfn] = pfn;
    }
    put_info(p, o);
    put_tables(p);
}

/* ---- the first vCPU
 * ------------------------------------------------------------------------------- */

static int start(struct plan *p)
{
    struct pv_vcpu *v = &p->d->vcpu[0];
    const struct pv_engine *e = p->d->eng;
    uint64_t l4 = pv_pfn_to_mfn(p->d, p->tables), *gpr = e->gprs(v->bc);
    int rc = pv_frame_pin(p->d, l4, TYPE_L4);
    if (!rc)
        rc = pv_base_set(v, l4, false);
    if (rc)
        return err_set(VC_EINTERNAL, "the domain's first page tables are refused (%d)", rc);
    e->set_rip(v->bc, p->notes.entry);
    gpr[6] = p->notes.virt_base + p->info * PAGE;
    gpr[4] = p->notes.virt_base + (p->stack + 1) * PAGE;
    e->set_rflags(v->bc, 0x202);
    v->info->evtchn_upcall_mask = 1;
    v->kernel = true;
    v->initialised = true;
    return 0;
}

static int build(struct plan *p, const uint8_t *kernel, size_t len, const struct vc_boot_opts *o)
{
    int rc = elf_parse(kernel, len, &p->elf);
    if (!rc)
        rc = xen_notes_check_pv(&p->elf, &p->notes);
    if (!rc)
        rc = place(p, o);
    if (rc)
        return rc;
    p->d->store_mfn = pv_pfn_to_mfn(p->d, p->store);
    p->d->console_mfn = pv_pfn_to_mfn(p->d, p->console);
    put_all(p, o);
    return start(p);
}

int pv_domain_build(struct pv_domain *d, const struct vc_boot_opts *o)
{
    struct plan p = {.d = d};
    const uint8_t *kernel;
    uint8_t *unpacked;
    size_t len;
    if (o->cmdline && strlen(o->cmdline) >= MAX_GUEST_CMDLINE)
        return err_set(VC_ERANGE, "a PV guest's command line has at most %d bytes",
                       MAX_GUEST_CMDLINE - 1);
    int rc = payload_kernel(o->kernel, o->kernel_len, KERNEL_MAX, &kernel, &len, &unpacked);
    if (!rc)
        rc = build(&p, kernel, len, o);
    payload_free(unpacked, len);
    return rc;
}
