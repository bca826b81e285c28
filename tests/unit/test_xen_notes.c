/* SPDX-License-Identifier: MIT
 * Kernels that say less than Linux does: no entry, no virtual base, notes in a section
 * only, as mini-os and Xen's test kernels have them. */
#include "xen_rig.h"

struct small {
    struct rig_image im;
    Elf64_Shdr sh[2];
};

/* Linked for where it lies from 0 on; its notes are only its guest's name. */
static struct small small_image(void)
{
    struct small s = {.im = rig_image()};
    s.im.ph[0].p_vaddr = RIG_LOAD;
    s.im.eh.e_entry = RIG_LOAD + 2;
    s.im.eh.e_phnum = 1;
    memset(s.im.note, 0, sizeof s.im.note);
    s.im.note[0] = (struct rig_note){4, 8, XEN_ELFNOTE_GUEST_OS, "Xen", 0x6c6c616d73};
    s.im.eh.e_shoff = offsetof(struct small, sh);
    s.im.eh.e_shentsize = sizeof s.sh[0];
    s.im.eh.e_shnum = 2;
    s.sh[1] = (Elf64_Shdr){.sh_type = SHT_NOTE,
                           .sh_offset = offsetof(struct rig_image, note),
                           .sh_size = sizeof s.im.note[0],
                           .sh_addralign = 4};
    return s;
}

Test(xen_notes, defaults)
{
    struct small s = small_image();
    vc_vm *vm = rig_vm(1);
    cr_assert_eq(rig_boot(vm, &s, sizeof s), 0, "%s", vc_errmsg());
    struct pv_domain *d = vm->pv;
    struct pv_vcpu *v = &d->vcpu[0];
    uint16_t code;
    cr_assert_eq(d->eng->rip(v->bc), RIG_LOAD + 2);           /* the header's entry */
    cr_assert(pv_copy_from(v, &code, RIG_LOAD, sizeof code)); /* mapped from 0 on */
    cr_assert_eq(code, 0xfeeb);
    vc_close(vm);
}

Test(xen_notes, none_that_can_be_used)
{
    struct small s = small_image(), t;
    vc_vm *vm = rig_vm(1);
    t = s; /* nothing of Xen's */
    memcpy(t.im.note[0].name, "Zen", 4);
    cr_assert_eq(rig_boot(vm, &t, sizeof t), VC_EFORMAT);
    t = s; /* an entry for PVH only */
    t.im.note[0].type = XEN_ELFNOTE_PHYS32_ENTRY;
    cr_assert_eq(rig_boot(vm, &t, sizeof t), VC_EFORMAT);
    t = s; /* an entry where nothing is mapped */
    t.im.note[0].type = XEN_ELFNOTE_ENTRY;
    t.im.note[0].desc = RIG_BASE + RIG_LOAD;
    cr_assert_eq(rig_boot(vm, &t, sizeof t), VC_EFORMAT);
    t = s; /* a section that lies, and none behind the end */
    t.sh[1].sh_offset = UINT64_MAX - 8;
    cr_assert_eq(rig_boot(vm, &t, sizeof t), VC_EFORMAT);
    cr_assert_eq(rig_boot(vm, &s, sizeof s.im), VC_EFORMAT);
    cr_assert_eq(rig_boot(vm, &s, sizeof s), 0, "%s", vc_errmsg());
    vc_close(vm);
}
