/* SPDX-License-Identifier: MIT
 * From what is on a disk to the kinds of guest that it can be. */
#include "disk.h"
#include "../base/util.h"

static const char *const grubs[VIRTS] = {[VC_VIRT_PV] = "PV-GRUB", [VC_VIRT_PVH] = "PVH-GRUB"};

static const char *first_reason(const struct kernel *k, unsigned virt)
{
    return k->virt[virt].reasons.n ? k->virt[virt].reasons.line[0] : "";
}

/* ---- PV-GRUB and PVH-GRUB
 * ------------------------------------------------------------------------- */

/* PV-GRUB unpacks the kernel itself, and knows what GRUB's files may be packed with. PVH-GRUB
 * starts a bzImage by the PC's protocol, its own unpacker included. */
static bool grub_unpacks(const struct kernel *k, unsigned virt)
{
    const char *p = k->pub.packed;
    return virt == VC_VIRT_PVH || !*p || !strcmp(p, "gzip") || !strcmp(p, "xz") ||
           !strcmp(p, "LZO");
}

static void judge_grub(struct disk *d, unsigned virt)
{
    struct vc_report *r = d->r;
    struct verdict *v = &r->virt[virt];
    if (!d->cfg_volume) {
        report_line(r, &v->reasons, "%s finds no /boot/grub/grub.cfg and no /grub/grub.cfg",
                    grubs[virt]);
        return;
    }
    for (unsigned i = 0; i < d->cfg.n; i++) {
        struct kernel *k = d->cfg_kernel[i];
        bool again = false;
        for (unsigned n = 0; n < i; n++)
            again |= d->cfg_kernel[n] == k;
        if (!k || again)
            continue;
        if (k->virt[virt].answer != VC_ANSWER_YES)
            report_line(r, &v->reasons, "by %s not: kernel %s: %s", grubs[virt], k->pub.name,
                        first_reason(k, virt));
        else if (!grub_unpacks(k, virt))
            report_line(r, &v->reasons,
                        "by %s not: kernel %s is packed with %s, which it cannot "
                        "unpack (gzip, xz and LZO it can)",
                        grubs[virt], k->pub.name, k->pub.packed);
        else {
            k->by_grub[virt] = true;
            report_yes(r, v, VC_START_GRUB, XEN_HERE, "by %s: kernel %s, which %s%s names: %s",
                       grubs[virt], k->pub.name, d->cfg_volume->part->pub.name, d->cfg_path,
                       first_reason(k, virt));
        }
    }
    if (!d->cfg.n)
        report_line(r, &v->reasons, "by %s not: %s%s names no kernel", grubs[virt],
                    d->cfg_volume->part->pub.name, d->cfg_path);
}

/* ---- kernels that are taken out
 * -------------------------------------------------------------------- */

static void judge_kernels(struct disk *d, unsigned virt)
{
    struct vc_report *r = d->r;
    struct verdict *v = &r->virt[virt];
    for (uint32_t i = 0; i < r->pub.kernels; i++) {
        const struct kernel *k = &r->kernels[i];
        const struct verdict *kv = &k->virt[virt];
        if (k->by_grub[virt])
            continue;
        if (kv->answer == VC_ANSWER_YES)
            /* Unmodified guests have no disks here. */
            report_yes(r, v, VC_START_KERNEL, kv->startable && virt != VC_VIRT_HVM,
                       "by its kernel, taken out of the image: %s: %s", k->pub.name,
                       first_reason(k, virt));
        else if (kv->answer == VC_ANSWER_UNKNOWN)
            report_unknown(r, v, "%s: %s", k->pub.name, first_reason(k, virt));
        else if (!(k->pub.flags & VC_KERNEL_IN_GRUB) || virt == VC_VIRT_HVM)
            report_line(r, &v->reasons, "by its kernel not: %s: %s", k->pub.name,
                        first_reason(k, virt));
    }
}

/* ---- a PC's firmware
 * ---------------------------------------------------------------------------------- */

static void judge_firmware(struct disk *d)
{
    struct vc_report *r = d->r;
    struct verdict *v = &r->virt[VC_VIRT_HVM];
    if (d->code)
        report_yes(r, v, VC_START_BIOS, false, "by BIOS: the boot sector has code: %s", d->code);
    else
        report_line(r, &v->reasons, "by BIOS not: there is no code in a boot sector");
    if (d->cd)
        report_yes(r, v, VC_START_BIOS, false,
                   "by BIOS, as a CD: it has a boot record of El Torito");
    if (d->efi)
        report_yes(r, v, VC_START_EFI, false, "by UEFI: there is %s", d->efi);
    else
        report_line(r, &v->reasons, "by UEFI not: no FAT file system has EFI/BOOT/BOOTX64.EFI");
}

/* Where there may be something that was not seen, "no" would be a guess. */
static void judge_rest(struct disk *d, unsigned virt)
{
    struct vc_report *r = d->r;
    struct verdict *v = &r->virt[virt];
    if (!r->pub.kernels && virt != VC_VIRT_HVM)
        report_line(r, &v->reasons, "no kernel was found in the file systems that can be read");
    for (uint32_t i = 0; i < r->pub.parts; i++)
        if (r->parts[i].opaque)
            report_unknown(r, v, "not all of %s was seen: %s", r->parts[i].pub.name,
                           r->parts[i].opaque);
}

void disk_judge(struct disk *d)
{
    judge_firmware(d);
    judge_grub(d, VC_VIRT_PV);
    judge_grub(d, VC_VIRT_PVH);
    for (unsigned virt = 0; virt < VIRTS; virt++) {
        judge_kernels(d, virt);
        judge_rest(d, virt);
    }
    /* Where it is no reason, it is worth knowing nevertheless. */
    for (uint32_t i = 0; i < d->r->pub.parts; i++)
        if (d->r->parts[i].opaque)
            report_line(d->r, &d->r->facts, "%s: %s", d->r->parts[i].pub.name,
                        d->r->parts[i].opaque);
    struct verdict *hvm = &d->r->virt[VC_VIRT_HVM];
    if (hvm->answer == VC_ANSWER_YES)
        report_line(d->r, &hvm->reasons,
                    "libvirtcore has neither firmware nor disks for "
                    "unmodified guests: it cannot start it so");
}
