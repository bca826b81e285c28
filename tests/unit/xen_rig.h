/* SPDX-License-Identifier: MIT
 * A Xen PV domain of 32 MiB with a kernel of nothing, whose hypercalls a test makes in
 * its place. */
#ifndef XEN_RIG_H
#define XEN_RIG_H

#include "../../src/pv/domain.h"
#include "../../src/vm/vm.h"
#include <criterion/criterion.h>
#include <elf.h>
#include <xen/elfnote.h>

#define RIG_BASE 0xffffffff80000000ull
#define RIG_LOAD 0x100000ull

struct rig {
    vc_vm *vm;
    struct pv_domain *d;
    struct pv_vcpu *v;
    uint64_t *scratch; /* a page of the guest's for arguments: */
    uint64_t at;       /* its address */
};

struct rig_note {
    uint32_t namesz, descsz, type;
    char name[4];
    uint64_t desc;
} __attribute__((packed));

struct rig_image {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[2];
    struct rig_note note[3];
    uint8_t code[64];
};

static inline struct rig_image rig_image(void)
{
    struct rig_image im = {
        .eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_EXEC,
               .e_machine = EM_X86_64,
               .e_version = EV_CURRENT,
               .e_entry = RIG_BASE + RIG_LOAD,
               .e_phoff = offsetof(struct rig_image, ph),
               .e_ehsize = sizeof(Elf64_Ehdr),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 2},
        .ph = {{.p_type = PT_LOAD,
                .p_flags = PF_X | PF_R,
                .p_offset = offsetof(struct rig_image, code),
                .p_vaddr = RIG_BASE + RIG_LOAD,
                .p_paddr = RIG_LOAD,
                .p_filesz = 64,
                .p_memsz = 65536},
               {.p_type = PT_NOTE,
                .p_offset = offsetof(struct rig_image, note),
                .p_filesz = sizeof im.note,
                .p_align = 4}},
        .note = {{4, 8, XEN_ELFNOTE_ENTRY, "Xen", RIG_BASE + RIG_LOAD},
                 {4, 8, XEN_ELFNOTE_VIRT_BASE, "Xen", RIG_BASE},
                 {4, 8, XEN_ELFNOTE_INIT_P2M, "Xen", 0x8000000000ull}},
        .code = {0xeb, 0xfe},
    };
    return im;
}

static inline uint64_t rig_va(uint64_t pfn)
{
    return RIG_BASE + pfn * PAGE;
}

static inline int rig_boot(vc_vm *vm, const void *image, size_t len)
{
    struct vc_boot_opts o = {
        .size = sizeof o, .virt = VC_VIRT_PV, .kernel = image, .kernel_len = len};
    return vc_boot(vm, &o);
}

static inline vc_vm *rig_vm(unsigned cpus)
{
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 32u << 20, .cpus = cpus};
    vc_vm *vm = vc_open("pv", NULL);
    cr_assert_eq(vc_pc(vm, &pc), 0, "%s", vc_errmsg());
    for (unsigned i = 0; i < cpus; i++)
        cr_assert_not_null(vc_cpu_new(vm, i ? VC_MODE_WAIT_SIPI : VC_MODE_RESET, 0));
    return vm;
}

static inline struct rig rig_new(unsigned cpus)
{
    struct rig r = {.vm = rig_vm(cpus), .at = rig_va(0x40)};
    struct rig_image im = rig_image();
    cr_assert_eq(rig_boot(r.vm, &im, sizeof im), 0, "%s", vc_errmsg());
    r.d = r.vm->pv;
    r.v = &r.d->vcpu[0];
    r.scratch = pv_frame_ptr(r.d, 0x40);
    r.v->work = UINT32_MAX;
    return r;
}

/* A page's mapping at its own place: 0 or Xen's code. */
static inline long rig_map(struct rig *r, uint64_t pfn, uint64_t entry)
{
    const uint64_t a[6] = {rig_va(pfn), entry, UVMF_INVLPG};
    return hc_update_va_mapping(r->v, a);
}

static inline long rig_protect(struct rig *r, uint64_t pfn)
{
    return rig_map(r, pfn, pfn << 12 | PTE_P);
}

static inline long rig_ext(struct rig *r, unsigned cmd, uint64_t mfn)
{
    const struct mmuext_op op = {.cmd = cmd, .arg1.mfn = mfn};
    const uint64_t a[6] = {r->at, 1, 0, DOMID_SELF};
    memcpy(r->scratch, &op, sizeof op);
    return hc_mmuext_op(r->v, a);
}

static inline long rig_update(struct rig *r, uint64_t ptr, uint64_t val)
{
    const struct mmu_update u = {ptr, val};
    const uint64_t a[6] = {r->at, 1, 0, DOMID_SELF};
    memcpy(r->scratch, &u, sizeof u);
    return hc_mmu_update(r->v, a);
}

#endif
