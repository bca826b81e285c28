/* SPDX-License-Identifier: MIT
 * A kernel's ELF notes for Xen (public/elfnote.h). */
#include "build.h"
#include "../base/err.h"
#include <xen/elfnote.h>

/* Numbers have 4 or 8 bytes. */
static uint64_t number(const uint8_t *desc, uint32_t len)
{
    return len == 8 ? get_le64(desc) : len == 4 ? get_le32(desc) : 0;
}

static void string(char *to, size_t room, const uint8_t *desc, uint32_t len)
{
    size_t n = min_u64(room - 1, len);
    memcpy(to, desc, n);
    to[n] = '\0';
}

static void take(struct kernel_notes *n, uint32_t type, const uint8_t *desc, uint32_t len)
{
    n->any = true;
    switch (type) {
    case XEN_ELFNOTE_ENTRY:
        n->entry = number(desc, len);
        n->has_entry = true;
        break;
    case XEN_ELFNOTE_VIRT_BASE: n->virt_base = number(desc, len); break;
    case XEN_ELFNOTE_PADDR_OFFSET: n->paddr_offset = number(desc, len); break;
    case XEN_ELFNOTE_INIT_P2M:
        n->init_p2m = number(desc, len);
        n->has_init_p2m = true;
        break;
    case XEN_ELFNOTE_HYPERCALL_PAGE:
        n->hypercall_page = number(desc, len);
        n->has_hypercall_page = true;
        break;
    case XEN_ELFNOTE_HV_START_LOW: n->hv_start_low = number(desc, len); break;
    case XEN_ELFNOTE_MOD_START_PFN: n->mod_start_pfn = number(desc, len) != 0; break;
    case XEN_ELFNOTE_GUEST_OS: string(n->guest_os, sizeof n->guest_os, desc, len); break;
    case XEN_ELFNOTE_LOADER: string(n->loader, sizeof n->loader, desc, len); break;
    case XEN_ELFNOTE_XEN_VERSION: string(n->xen_version, sizeof n->xen_version, desc, len); break;
    case XEN_ELFNOTE_FEATURES: string(n->features, sizeof n->features, desc, len); break;
    default: break;
    }
}

/* Header of three words, name and descriptor each padded to 4 bytes. */
static void walk(struct kernel_notes *n, const uint8_t *p, uint64_t len)
{
    while (len >= 12) {
        uint64_t name = ((uint64_t)get_le32(p) + 3) & ~3ull, size = get_le32(p + 4);
        uint64_t desc = (size + 3) & ~3ull;
        if (name > len - 12 || size > len - 12 - name)
            return;
        if (get_le32(p) == 4 && !memcmp(p + 12, "Xen", 4))
            take(n, get_le32(p + 8), p + 12 + name, (uint32_t)size);
        uint64_t step = 12 + name + desc;
        if (step > len)
            return;
        p += step;
        len -= step;
    }
}

int pv_notes_read(const struct elf_image *elf, struct kernel_notes *n)
{
    memset(n, 0, sizeof *n);
    for (unsigned i = 0; i < elf->nnotes; i++)
        walk(n, elf->notes[i].bytes, elf->notes[i].len);
    if (!elf->is64)
        return err_set(VC_EFORMAT, "the kernel is a 32-bit one: PV guests are 64-bit");
    if (!n->any || (elf->has_pvh && !n->has_entry))
        return err_set(VC_EFORMAT, "the kernel has no ELF notes for Xen PV: Linux without "
                                   "CONFIG_XEN_PV has none");
    /* Small kernels say neither: they are linked for where they lie from 0 on. */
    if (!n->has_entry)
        n->entry = elf->e_entry;
    if (!pv_va_allowed(n->virt_base) || n->virt_base & (PAGE - 1) || !pv_va_allowed(n->entry) ||
        (n->has_init_p2m && (!pv_va_allowed(n->init_p2m) || n->init_p2m & (BIT64(39) - 1))))
        return err_set(VC_EFORMAT, "the kernel's ELF notes ask for addresses that a guest may not "
                                   "have");
    if (*n->xen_version && strcmp(n->xen_version, "xen-3.0") != 0)
        return err_set(VC_EFORMAT, "the kernel asks for interface \"%s\", not \"xen-3.0\"",
                       n->xen_version);
    return 0;
}
