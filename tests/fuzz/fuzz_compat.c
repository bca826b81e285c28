/* SPDX-License-Identifier: MIT
 * Hypercalls of a hostile PVH guest's 32-bit code: numbers, words and structures that are
 * often nearly right. After each the frames' counts must add up, and no more than the
 * handlers' own addresses may reach the buffer between the two layouts. */
#include "../unit/xen_audit.h"
#include "../unit/xen_image.h"
#include "vm/vm.h"
#include <sanitizer/lsan_interface.h>
#include <xen/memory.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM     (8u << 20)
#define SCRATCH 0x300000u /* two pages for structures; those behind are nobody's */
#define HOLE    0x20000u  /* frames from here on are nowhere */

enum { RAX, RCX, RDX, RBX, RBP = 5, RSI, RDI };

struct fuzz {
    struct pv_domain *d;
    struct pv_vcpu *v;
    const uint8_t *p;
    size_t n;
};

static uint32_t take(struct fuzz *f, unsigned n)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < n && f->n; i++, f->n--)
        v |= (uint32_t)*f->p++ << (8 * i);
    return v;
}

static uint32_t frame(struct fuzz *f)
{
    uint32_t n = take(f, 1);
    switch (n >> 5) {
    default: return 0x302 + (n & 15);
    case 4: return (uint32_t)f->d->special + (n & 31) * 4;
    case 5: return HOLE + (n & 3);
    case 6: return (uint32_t)f->d->nmfn - 16 + (n & 31);
    case 7: return take(f, 4);
    }
}

static uint32_t address(struct fuzz *f)
{
    uint32_t n = take(f, 1);
    switch (n >> 5) {
    default: return SCRATCH + (n & 31) * 4;
    case 4: return SCRATCH + 8192 - (n & 31);
    case 5: return frame(f) << 12 | (n & 31) * 4;
    case 6: return UINT32_MAX - (n & 31);
    case 7: return take(f, 4);
    }
}

static uint32_t word(struct fuzz *f)
{
    uint32_t n = take(f, 1);
    switch (n & 7) {
    case 0: return n >> 3;
    case 1: return frame(f);
    case 2: return address(f);
    case 3: return DOMID_SELF;
    case 4: return take(f, 4);
    case 5: return 1u << (n >> 3);
    default: return take(f, 1);
    }
}

static void fill(struct fuzz *f)
{
    uint32_t *scratch = (uint32_t *)(f->d->low + SCRATCH), at = take(f, 1), n = take(f, 1) % 16;
    if (!f->d->page[SCRATCH >> 12].refs) /* it was given back */
        return;
    for (uint32_t i = 0; i < n; i++)
        scratch[at + i] = word(f);
}

static void hypercall(struct fuzz *f)
{
    static const uint8_t likely[] = {
        __HYPERVISOR_grant_table_op,   __HYPERVISOR_memory_op,   __HYPERVISOR_memory_op,
        __HYPERVISOR_sched_op,         __HYPERVISOR_xen_version, __HYPERVISOR_hvm_op,
        __HYPERVISOR_event_channel_op, __HYPERVISOR_console_io,  __HYPERVISOR_vm_assist,
        __HYPERVISOR_vcpu_op,
    };
    static const uint8_t other[] = {RDX, RSI, RDI, RBP};
    uint64_t *g = f->d->eng->gprs(f->v->bc);
    uint32_t nr = take(f, 1);
    g[RAX] = nr & 0x80 ? nr & 0x7f : likely[nr % ARRAY_LEN(likely)];
    g[RBX] = take(f, 1) % 32;
    g[RCX] = address(f);
    for (unsigned i = 0; i < ARRAY_LEN(other); i++)
        g[other[i]] = word(f);
    pv_hypercall32(f->v);
    if (f->v->xlat || g[RAX] > UINT32_MAX)
        abort();
}

/* Structures that are right but for their numbers. */
static void memory(struct fuzz *f)
{
    uint32_t *scratch = (uint32_t *)(f->d->low + SCRATCH), how = take(f, 1);
    uint64_t *g = f->d->eng->gprs(f->v->bc);
    const uint32_t balloon[] = {SCRATCH + 64, 1 + (how >> 6), 0, 0, DOMID_SELF};
    const uint32_t place[] = {DOMID_SELF, how >> 7, take(f, 1) & 0x3f, frame(f)};
    if (!f->d->page[SCRATCH >> 12].refs)
        return;
    for (unsigned i = 0; i < 4; i++)
        scratch[16 + i] = frame(f);
    memcpy(scratch, how & 1 ? balloon : place, how & 1 ? sizeof balloon : sizeof place);
    g[RAX] = __HYPERVISOR_memory_op;
    g[RBX] = !(how & 1) ? XENMEM_add_to_physmap
             : how & 2  ? XENMEM_decrease_reservation
                        : XENMEM_populate_physmap;
    g[RCX] = SCRATCH;
    pv_hypercall32(f->v);
}

/* A frame that the guest has is there, one that it gave back is not. */
AUDIT void check(const struct fuzz *f)
{
    const struct pv_domain *d = f->d;
    uint64_t frames = 0;
    for (uint64_t pfn = 0; pfn < d->npfn; pfn++) {
        const struct pv_page *p = &d->page[pfn];
        const struct mem_region *r = mem_find(d->host.mem, pfn << 12);
        frames += p->refs != 0;
        if (!p->refs != !r || p->types > p->refs || pv_is_table(p->type) ||
            p->type > TYPE_WRITABLE) {
            fprintf(stderr, "audit: frame %#llx\n", (unsigned long long)pfn);
            abort();
        }
    }
    if (frames != d->frames)
        abort();
}

static vc_vm *partition(void)
{
    struct vc_vm_opts opts = {.size = sizeof opts, .engine = VC_ENGINE_INTERP};
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = RAM, .cpus = 2};
    static vc_vm *vm;
    if (vm)
        return vm;
    __lsan_disable(); /* some of it is reached from memory that is no heap's */
    vm = vc_open("pv", &opts);
    if (!vm || vc_pc(vm, &pc) || !vc_cpu_new(vm, VC_MODE_RESET, 0) ||
        !vc_cpu_new(vm, VC_MODE_WAIT_SIPI, 0))
        abort();
    __lsan_enable();
    return vm;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig_image im = rig_image();
    im.note[0] = (struct rig_note){4, 8, XEN_ELFNOTE_PHYS32_ENTRY, "Xen", RIG_LOAD};
    struct vc_boot_opts o = {
        .size = sizeof o, .virt = VC_VIRT_PVH, .kernel = &im, .kernel_len = sizeof im};
    vc_vm *vm = partition();
    if (vc_boot(vm, &o))
        abort();
    struct fuzz f = {.d = vm->pv, .v = &vm->pv->vcpu[0], .p = data, .n = size};
    while (f.n) {
        switch (take(&f, 1) & 3) {
        case 0: fill(&f); break;
        case 1: memory(&f); break;
        default: hypercall(&f); break;
        }
        check(&f);
        atomic_store(&vm->power, 0); /* should it have gone down */
        for (unsigned i = 0; i < 2; i++)
            mail_clear(&vm->cpu[i]->mail, PEND_POWER | PEND_EVENT);
    }
    vm_pv_free(vm);
    return 0;
}
