/* SPDX-License-Identifier: MIT
 * Kernels. What decides is what the loaders decide by: the same functions read the image,
 * and their sentences are the reasons. */
#include "kernel.h"
#include "pe.h"
#include "../base/err.h"
#include "../base/util.h"
#include "../boot/linux_setup.h"
#include "../boot/loader.h"
#include "../boot/payload.h"
#include "../boot/xen_notes.h"
#include <stdio.h>

typedef unsigned long long ull;

#define NO_XEN "this library was built without Xen's headers and cannot start it"

/* The failure that a loader's function left, as a reason why not. */
static void no(struct vc_report *r, struct verdict *v, const char *before)
{
    if (vc_errcode() == VC_ENOMEM)
        r->no_memory = true;
    report_line(r, &v->reasons, "%s%s", before, vc_errmsg());
    err_begin();
}

/* ---- notes -------------------------------------------------------------------------------- */

/* xen/include/public/features.h: bits of SUPPORTED_FEATURES. */
static const char *const features[] = {
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "hvm_callback_vector",
    "hvm_safe_pvclock",
    "hvm_pirqs",
    "dom0",
    "grant_map_identity",
    "memory_op_vnode_supported",
    "ARM_SMCCC_supported",
    "linux_rsdp_unrestricted",
};

static void tell_features(struct vc_report *r, struct lines *to, const struct kernel_notes *n)
{
    char list[400] = "";
    size_t at = 0;
    for (unsigned i = 0; i < ARRAY_LEN(features); i++)
        if (n->supported >> i & 1 && at < sizeof list)
            at +=
                (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", features[i]);
    report_line(r, to, "Xen note SUPPORTED_FEATURES: %#llx%s%s%s", (ull)n->supported,
                *list ? " (" : "", list, *list ? ")" : "");
}

static void tell_notes(struct vc_report *r, struct lines *to, const struct elf_image *elf,
                       const struct kernel_notes *n)
{
    if (!n->n) {
        report_line(r, to, "it has no ELF notes for Xen");
        return;
    }
    report_line(r, to, "Xen notes: %u; guest OS \"%s\" %s, interface \"%s\"%s%s", n->n, n->guest_os,
                n->guest_version, n->xen_version, *n->loader ? ", loader " : "", n->loader);
    if (n->has_entry)
        report_line(r, to, "Xen note ENTRY: %#llx (PV), virtual base %#llx", (ull)n->entry,
                    (ull)n->virt_base);
    if (elf->has_pvh)
        report_line(r, to, "Xen note PHYS32_ENTRY: %#x (PVH)", elf->pvh_entry);
    if (n->has_hypercall_page)
        report_line(r, to, "Xen note HYPERCALL_PAGE: %#llx", (ull)n->hypercall_page);
    if (*n->features)
        report_line(r, to, "Xen note FEATURES: %s", n->features);
    if (n->has_supported)
        tell_features(r, to, n);
}

/* ---- an ELF, unpacked or as it is ----------------------------------------------------------- */

static void judge_pv(struct vc_report *r, struct verdict *v, const struct elf_image *elf)
{
    struct kernel_notes n;
    uint64_t end;
    int rc = xen_notes_check_pv(elf, &n);
    if (!rc)
        rc = xen_notes_extent(elf, &n, &end);
    if (rc) {
        no(r, v, "");
        return;
    }
    if (n.has_entry)
        report_yes(r, v, VC_START_KERNEL, XEN_HERE,
                   "it has Xen notes with an entry (XEN_ELFNOTE_ENTRY %#llx)%s%s", (ull)n.entry,
                   *n.features ? " and features " : "", n.features);
    else
        report_yes(r, v, VC_START_KERNEL, XEN_HERE,
                   "it has Xen notes, and starts at the ELF's entry %#llx", (ull)n.entry);
    if (!XEN_HERE)
        report_line(r, &v->reasons, NO_XEN);
}

static void judge_pvh(struct vc_report *r, struct verdict *v, const struct elf_image *elf)
{
    if (!elf->has_pvh) {
        report_line(r, &v->reasons,
                    "it has no PVH entry (XEN_ELFNOTE_PHYS32_ENTRY): Linux without CONFIG_PVH or "
                    "CONFIG_XEN_PVH has none");
    } else if (!elf_holds(elf, elf->pvh_entry)) {
        report_line(r, &v->reasons, "its PVH entry %#x is in none of the ELF segments",
                    elf->pvh_entry);
    } else {
        report_yes(r, v, VC_START_KERNEL, XEN_HERE,
                   "it has a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY %#x)", elf->pvh_entry);
        if (!XEN_HERE)
            report_line(r, &v->reasons, NO_XEN);
    }
}

static const char linux_banner[] = "Linux version ";

/* Linux has its version in its data; the ELF says it nowhere else. */
static void find_version(struct vc_report *r, struct kernel *k, const uint8_t *elf, size_t len)
{
    const uint8_t *at = memmem(elf, len, linux_banner, sizeof linux_banner - 1);
    if (!at || *k->pub.version)
        return;
    at += sizeof linux_banner - 1;
    size_t n = 0, max = min_u64(64, len - (size_t)(at - elf));
    while (n < max && at[n] > ' ')
        n++;
    k->pub.version = report_bytes(r, at, n);
}

/* What is the same whether it came out of a bzImage or not. */
static void look_into_elf(struct vc_report *r, struct kernel *k, const struct elf_image *elf)
{
    struct kernel_notes n;
    xen_notes_read(elf, &n);
    if (elf->is64)
        k->pub.flags |= VC_KERNEL_64BIT;
    k->pub.entry = elf->entry;
    k->pub.pv_entry = n.has_entry ? n.entry : 0;
    k->pub.pvh_entry = elf->has_pvh ? elf->pvh_entry : 0;
    report_line(r, &k->facts, "ELF of %d bits, %u segments to load, entry %#llx",
                elf->is64 ? 64 : 32, elf->nseg, (ull)elf->entry);
    tell_notes(r, &k->facts, elf, &n);
    judge_pv(r, &k->virt[VC_VIRT_PV], elf);
    judge_pvh(r, &k->virt[VC_VIRT_PVH], elf);
}

/* Multiboot 2, which no loader here knows: a magic number at a multiple of 8 bytes. */
static bool is_multiboot2(const uint8_t *image, size_t len)
{
    for (size_t at = 0; at + 16 <= min_u64(len, 32768); at += 8)
        if (get_le32(image + at) == 0xe85250d6u && get_le32(image + at) + get_le32(image + at + 4) +
                                                           get_le32(image + at + 8) +
                                                           get_le32(image + at + 12) ==
                                                       0)
            return true;
    return false;
}

static void inspect_multiboot(struct vc_report *r, struct kernel *k, const uint8_t *image,
                              size_t len)
{
    struct elf_image elf;
    struct verdict *v = &k->virt[VC_VIRT_HVM];
    if (multiboot_parse(image, len, &elf)) {
        no(r, v, "");
        return;
    }
    if (!k->pub.kind)
        k->pub.kind = VC_IMAGE_MULTIBOOT;
    k->pub.entry = elf.entry;
    report_yes(r, v, VC_START_KERNEL, true, "it has a multiboot header, entry %#llx",
               (ull)elf.entry);
}

/* What has no boot protocol that a PC's loader knows is loaded and entered as it is, which
 * is of no use to what is made for another start. */
static void judge_plain_elf(struct vc_report *r, struct kernel *k, const struct elf_image *elf)
{
    struct verdict *hvm = &k->virt[VC_VIRT_HVM];
    k->pub.kind = VC_IMAGE_ELF;
    if (elf->has_interp)
        report_line(r, &hvm->reasons,
                    "it is a program of an operating system: it asks for a "
                    "dynamic linker");
    else if (k->virt[VC_VIRT_PV].answer == VC_ANSWER_YES)
        report_line(r, &hvm->reasons,
                    "its entry is for Xen PV; it has neither a PVH entry nor a "
                    "multiboot header");
    else
        report_yes(r, hvm, VC_START_KERNEL, true,
                   "it is a plain ELF program: loaded, and entered at %#llx by no boot protocol",
                   (ull)elf->entry);
}

static void inspect_elf(struct vc_report *r, struct kernel *k, const uint8_t *image, size_t len)
{
    struct elf_image elf;
    struct verdict *hvm = &k->virt[VC_VIRT_HVM];
    if (elf_parse(image, len, &elf)) {
        const char *why = report_text(r, "%s", vc_errmsg());
        err_begin();
        for (unsigned i = 0; i < VIRTS; i++)
            report_line(r, &k->virt[i].reasons, "%s", why);
        return;
    }
    find_version(r, k, image, len);
    look_into_elf(r, k, &elf);
    if (elf.has_pvh && elf_holds(&elf, elf.pvh_entry)) {
        k->pub.kind = VC_IMAGE_PVH;
        report_yes(r, hvm, VC_START_KERNEL, true, "a PC can enter it at its PVH entry %#x",
                   elf.pvh_entry);
    }
    if (multiboot_match(image, len))
        inspect_multiboot(r, k, image, len);
    if (is_multiboot2(image, len))
        report_line(r, &k->facts, "it has a multiboot 2 header, which is not looked at");
    if (!k->pub.kind && !hvm->reasons.n)
        judge_plain_elf(r, k, &elf);
}

/* ---- bzImage ----------------------------------------------------------------------------------
 */

struct bzimage {
    struct linux_setup setup;
    bool setup_ok;
    const uint8_t *payload;
    size_t payload_len;
    const char *format; /* NULL: unknown */
};

static void tell_setup(struct vc_report *r, struct kernel *k, const struct bzimage *b)
{
    const struct linux_setup *s = &b->setup;
    k->pub.protocol = s->version;
    if (s->name)
        k->pub.version = report_bytes(r, s->name, s->name_len);
    if (s->xloadflags & XLF_KERNEL_64)
        k->pub.flags |= VC_KERNEL_64BIT;
    report_line(
        r, &k->facts, "boot protocol %u.%02u, %s entry, %s, needs %llu KiB at %#llx",
        s->version >> 8, s->version & 0xff, s->xloadflags & XLF_KERNEL_64 ? "64-bit" : "32-bit",
        s->relocatable ? "relocatable" : "not relocatable", (ull)(s->len >> 10), (ull)s->base);
}

/* By the PC's boot protocol. kernel is NULL when it is packed in a way that only its own
 * unpacker knows. */
static void judge_bzimage(struct vc_report *r, struct kernel *k, const struct bzimage *b,
                          const uint8_t *kernel, size_t len, const struct elf_image *elf)
{
    struct verdict *v = &k->virt[VC_VIRT_HVM];
    const struct linux_setup *s = &b->setup;
    unsigned major = s->version >> 8, minor = s->version & 0xff;
    if (!(s->xloadflags & XLF_KERNEL_64)) {
        report_yes(r, v, VC_START_KERNEL, true,
                   "it speaks boot protocol %u.%02u, 32-bit: its own unpacker runs in the guest",
                   major, minor);
    } else if (!kernel) {
        report_yes(r, v, VC_START_KERNEL, true,
                   "it speaks boot protocol %u.%02u with a 64-bit entry: its own unpacker runs in "
                   "the guest",
                   major, minor);
    } else if (len > s->len) {
        report_line(r, &v->reasons,
                    "it unpacks to %zu bytes, more than the %llu that its header announces", len,
                    (ull)s->len);
        return;
    } else if (linux_check_elf(s, elf)) {
        no(r, v, "");
        return;
    } else {
        report_yes(r, v, VC_START_KERNEL, true,
                   "it speaks boot protocol %u.%02u with a 64-bit entry", major, minor);
    }
    k->pub.kind = VC_IMAGE_BZIMAGE;
}

/* A Xen guest's loader needs what could not be unpacked; a PC's only where it would go by the
 * 64-bit entry and knows the format. */
static void unpack_failed(struct vc_report *r, struct kernel *k, const struct bzimage *b,
                          uint32_t answer, const char *why)
{
    struct verdict *hvm = &k->virt[VC_VIRT_HVM];
    for (unsigned i = VC_VIRT_PV; i <= VC_VIRT_PVH; i++) {
        k->virt[i].answer = answer;
        report_line(r, &k->virt[i].reasons, "%s", why);
    }
    if (!b->setup_ok)
        return;
    if (!(b->setup.xloadflags & XLF_KERNEL_64) || !payload_known(b->payload, b->payload_len)) {
        judge_bzimage(r, k, b, NULL, 0, NULL);
        return;
    }
    hvm->answer = answer;
    report_line(r, &hvm->reasons, "%s", why);
}

static void inspect_packed(struct vc_report *r, struct kernel *k, struct source *src,
                           const struct bzimage *b)
{
    uint8_t *kernel = NULL;
    size_t len = 0;
    struct elf_image elf;
    uint64_t size = get_le32(b->payload + b->payload_len - 4);
    if (size <= KERNEL_MAX && size > src->unpack) {
        unpack_failed(r, k, b, VC_ANSWER_UNKNOWN,
                      "it was not unpacked: the kernels of this image unpack to more than 1 GiB "
                      "together");
        return;
    }
    src->unpack -= min_u64(size, src->unpack);
    int rc = payload_unpack(b->payload, b->payload_len, KERNEL_MAX, &kernel, &len);
    if (!rc)
        rc = elf_parse(kernel, len, &elf);
    if (rc) {
        const char *why = report_text(r, "%s", vc_errmsg());
        if (vc_errcode() == VC_ENOMEM)
            r->no_memory = true;
        err_begin();
        unpack_failed(r, k, b, VC_ANSWER_NO, why);
    } else {
        k->pub.flags |= VC_KERNEL_UNPACKED;
        find_version(r, k, kernel, len);
        look_into_elf(r, k, &elf);
        if (b->setup_ok)
            judge_bzimage(r, k, b, kernel, len, &elf);
    }
    payload_free(kernel, len);
}

static void inspect_bzimage(struct vc_report *r, struct kernel *k, struct source *src,
                            const uint8_t *image, size_t len)
{
    struct bzimage b = {0};
    struct pe pe;
    b.setup_ok = linux_setup_read(image, len, &b.setup) == 0;
    if (b.setup_ok)
        tell_setup(r, k, &b);
    else
        no(r, &k->virt[VC_VIRT_HVM], "");
    if (pe_read(image, len, &pe)) {
        k->pub.flags |= VC_KERNEL_EFI_STUB;
        report_line(r, &k->facts, "it has an EFI stub: a program for UEFI on %s",
                    pe_machine(pe.machine));
    }
    if (linux_payload(image, len, &b.payload, &b.payload_len)) {
        const char *why = report_text(r, "%s", vc_errmsg());
        err_begin();
        if (b.setup_ok)
            judge_bzimage(r, k, &b, NULL, 0, NULL);
        report_line(r, &k->virt[VC_VIRT_PV].reasons, "%s", why);
        report_line(r, &k->virt[VC_VIRT_PVH].reasons, "%s", why);
        return;
    }
    b.format = payload_format(b.payload, b.payload_len);
    k->pub.packed = b.format ? b.format : "";
    report_line(r, &k->facts, "%zu bytes of kernel inside, packed with %s", b.payload_len,
                b.format ? b.format : "what nobody knows");
    if (payload_known(b.payload, b.payload_len)) {
        inspect_packed(r, k, src, &b);
        return;
    }
    unpack_failed(r, k, &b, VC_ANSWER_UNKNOWN,
                  report_text(r,
                              "the kernel inside is packed with %s, which this library cannot "
                              "unpack: whether it has Xen notes is not known",
                              b.format ? b.format : "what nobody knows"));
}

/* ---- EFI programs
 * -------------------------------------------------------------------------------- */

static void inspect_pe(struct vc_report *r, struct kernel *k, struct source *src,
                       const struct pe *pe)
{
    k->pub.flags |= VC_KERNEL_EFI_STUB;
    if (pe->linux_image && linux_match(pe->linux_image, pe->linux_len)) {
        report_line(r, &k->facts,
                    "it is a unified kernel image; what follows is of the Linux "
                    "kernel inside, which vc_boot() needs on its own");
        if (pe->cmdline)
            report_line(r, &k->facts, "its command line: %s",
                        report_bytes(r, pe->cmdline, pe->cmdline_len));
        inspect_bzimage(r, k, src, pe->linux_image, pe->linux_len);
        k->pub.kind = VC_IMAGE_AUTO;
        for (unsigned i = 0; i < VIRTS; i++)
            k->virt[i].startable = false;
        return;
    }
    report_line(r, &k->virt[VC_VIRT_PV].reasons, "an EFI program is no kernel for Xen PV");
    report_line(r, &k->virt[VC_VIRT_PVH].reasons, "an EFI program has no PVH entry");
    if (pe->machine != PE_X86_64) {
        report_line(r, &k->virt[VC_VIRT_HVM].reasons, "it is an EFI program for %s",
                    pe_machine(pe->machine));
        return;
    }
    report_yes(r, &k->virt[VC_VIRT_HVM], VC_START_EFI, false,
               "UEFI firmware starts it: it is an EFI program for x86-64");
    report_line(r, &k->virt[VC_VIRT_HVM].reasons,
                "libvirtcore has no UEFI firmware and cannot start it");
}

/* ---- any of them
 * --------------------------------------------------------------------------------- */

bool kernel_match_surely(const uint8_t *head, size_t len)
{
    return linux_match(head, len) || elf_match(head, len);
}

bool kernel_match(const uint8_t *head, size_t len)
{
    struct pe pe;
    return kernel_match_surely(head, len) || pe_read(head, len, &pe) || multiboot_match(head, len);
}

void kernel_inspect(struct vc_report *r, struct kernel *k, struct source *src, const uint8_t *image,
                    size_t len)
{
    struct pe pe;
    k->pub.bytes = len;
    err_begin();
    if (linux_match(image, len)) {
        inspect_bzimage(r, k, src, image, len);
    } else if (elf_match(image, len)) {
        inspect_elf(r, k, image, len);
    } else if (pe_read(image, len, &pe)) {
        inspect_pe(r, k, src, &pe);
    } else if (multiboot_match(image, len)) {
        inspect_multiboot(r, k, image, len);
        report_line(r, &k->virt[VC_VIRT_PV].reasons, "it is no ELF, and has no notes for Xen");
        report_line(r, &k->virt[VC_VIRT_PVH].reasons, "it is no ELF, and has no PVH entry");
    } else {
        for (unsigned i = 0; i < VIRTS; i++)
            report_line(r, &k->virt[i].reasons,
                        "it is no bzImage, ELF, EFI program or multiboot "
                        "image");
    }
    err_begin();
}
