/* SPDX-License-Identifier: MIT
 * A kernel of nothing with a Xen PV guest's notes. */
#ifndef XEN_IMAGE_H
#define XEN_IMAGE_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <virtcore/virtcore.h>
#include <xen/elfnote.h>

#define RIG_BASE 0xffffffff80000000ull
#define RIG_LOAD 0x100000ull

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
    return RIG_BASE + pfn * 4096;
}

static inline int rig_boot(vc_vm *vm, const void *image, size_t len)
{
    struct vc_boot_opts o = {
        .size = sizeof o, .virt = VC_VIRT_PV, .kernel = image, .kernel_len = len};
    return vc_boot(vm, &o);
}

#endif
