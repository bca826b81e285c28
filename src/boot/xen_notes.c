/* SPDX-License-Identifier: MIT
 * A kernel's ELF notes for Xen (public/elfnote.h). */
#include "xen_notes.h"
#include "payload.h"
#include "../base/err.h"
#include "../base/util.h"

typedef unsigned long long ull;

/* xen/include/public/elfnote.h, which is not there on every host that looks at kernels. */
enum {
    NOTE_ENTRY = 1,
    NOTE_HYPERCALL_PAGE = 2,
    NOTE_VIRT_BASE = 3,
    NOTE_PADDR_OFFSET = 4,
    NOTE_XEN_VERSION = 5,
    NOTE_GUEST_OS = 6,
    NOTE_GUEST_VERSION = 7,
    NOTE_LOADER = 8,
    NOTE_FEATURES = 10,
    NOTE_HV_START_LOW = 12,
    NOTE_INIT_P2M = 15,
    NOTE_MOD_START_PFN = 16,
    NOTE_SUPPORTED_FEATURES = 17,
};

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
    n->n++;
    switch (type) {
    case NOTE_ENTRY:
        n->entry = number(desc, len);
        n->has_entry = true;
        break;
    case NOTE_VIRT_BASE: n->virt_base = number(desc, len); break;
    case NOTE_PADDR_OFFSET: n->paddr_offset = number(desc, len); break;
    case NOTE_INIT_P2M:
        n->init_p2m = number(desc, len);
        n->has_init_p2m = true;
        break;
    case NOTE_HYPERCALL_PAGE:
        n->hypercall_page = number(desc, len);
        n->has_hypercall_page = true;
        break;
    case NOTE_HV_START_LOW: n->hv_start_low = number(desc, len); break;
    case NOTE_MOD_START_PFN: n->mod_start_pfn = number(desc, len) != 0; break;
    case NOTE_GUEST_OS: string(n->guest_os, sizeof n->guest_os, desc, len); break;
    case NOTE_GUEST_VERSION: string(n->guest_version, sizeof n->guest_version, desc, len); break;
    case NOTE_SUPPORTED_FEATURES:
        n->supported = number(desc, len);
        n->has_supported = true;
        break;
    case NOTE_LOADER: string(n->loader, sizeof n->loader, desc, len); break;
    case NOTE_XEN_VERSION: string(n->xen_version, sizeof n->xen_version, desc, len); break;
    case NOTE_FEATURES: string(n->features, sizeof n->features, desc, len); break;
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

void xen_notes_read(const struct elf_image *elf, struct kernel_notes *n)
{
    memset(n, 0, sizeof *n);
    for (unsigned i = 0; i < elf->nnotes; i++)
        walk(n, elf->notes[i].bytes, elf->notes[i].len);
}

int xen_notes_check_pv(const struct elf_image *elf, struct kernel_notes *n)
{
    const uint64_t page = PAGE_SIZE_4K;
    xen_notes_read(elf, n);
    if (!elf->is64)
        return err_set(VC_EFORMAT, "the kernel is a 32-bit one: PV guests are 64-bit");
    if (!n->n)
        return err_set(VC_EFORMAT, "the kernel has no ELF notes for Xen PV: Linux without "
                                   "CONFIG_XEN_PV has none");
    if (elf->has_pvh && !n->has_entry)
        return err_set(VC_EFORMAT, "the kernel has no note XEN_ELFNOTE_ENTRY, which Xen PV starts "
                                   "by: Linux without CONFIG_XEN_PV has none");
    /* Small kernels say neither: they are linked for where they lie from 0 on. */
    if (!n->has_entry)
        n->entry = elf->e_entry;
    if (!xen_va_allowed(n->virt_base) || n->virt_base & (page - 1) || !xen_va_allowed(n->entry) ||
        (n->has_init_p2m && (!xen_va_allowed(n->init_p2m) || n->init_p2m & (BIT64(39) - 1))))
        return err_set(VC_EFORMAT, "the kernel's ELF notes ask for addresses that a guest may not "
                                   "have");
    if (*n->xen_version && strcmp(n->xen_version, "xen-3.0") != 0)
        return err_set(VC_EFORMAT, "the kernel asks for interface \"%s\", not \"xen-3.0\"",
                       n->xen_version);
    return 0;
}

int xen_notes_extent(const struct elf_image *elf, const struct kernel_notes *n, uint64_t *end)
{
    const uint64_t page = PAGE_SIZE_4K;
    *end = 0;
    for (unsigned i = 0; i < elf->nseg; i++) {
        const struct elf_seg *s = &elf->seg[i];
        uint64_t at = s->paddr - n->paddr_offset;
        if (s->paddr < n->paddr_offset || at > KERNEL_MAX || s->memsz > KERNEL_MAX - at)
            return err_set(VC_EFORMAT,
                           "the kernel's segment at %#llx of %#llx bytes is too far "
                           "from its base",
                           (ull)s->paddr, (ull)s->memsz);
        if (at + s->memsz > *end)
            *end = (at + s->memsz + page - 1) & ~(page - 1);
    }
    if (n->entry < n->virt_base || n->entry - n->virt_base >= *end)
        return err_set(VC_EFORMAT,
                       "the kernel's entry %#llx is not in it: it is mapped from %#llx on",
                       (ull)n->entry, (ull)n->virt_base);
    return 0;
}
