/* SPDX-License-Identifier: MIT
 * A disk: its table, its file systems. */
#include "disk.h"
#include "table.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdlib.h>

/* What holds other things, or is not for us to read, and may have a kernel in it. */
static bool may_hold_kernels(const struct part *p)
{
    return strcmp(p->pub.fs, "swap") != 0 && strcmp(p->pub.fs, "ext4 journal") != 0 &&
           strcmp(p->pub.type, "BIOS boot") != 0 && strcmp(p->pub.type, "Linux swap") != 0 &&
           !(p->pub.flags & VC_PART_EXTENDED);
}

static void open_part(struct disk *d, struct part *p)
{
    const struct fs_ops *ops;
    const char *name = fs_probe(&p->view, &ops);
    if (p->pub.flags & VC_PART_EXTENDED)
        return;
    p->pub.fs = name ? name : "";
    if (!may_hold_kernels(p))
        return;
    p->opaque = name ? report_text(d->r, "%s cannot be read here", name)
                     : "it has no file system that is known";
    if (!ops || d->nvolumes == VOLUMES_MAX)
        return;
    struct volume *v = &d->volume[d->nvolumes];
    err_begin();
    if (!fs_open(&v->fs, ops, &p->view)) {
        v->part = p;
        d->nvolumes++;
        p->pub.flags |= VC_PART_READ;
        p->opaque = NULL;
        return;
    }
    if (vc_errcode() == VC_ENOMEM)
        d->r->no_memory = true;
    p->opaque = report_text(d->r, "its %s cannot be read: %s", name, vc_errmsg());
    err_begin();
}

static void open_all(struct disk *d)
{
    struct vc_report *r = d->r;
    const char *table = table_read(r, &d->view);
    if (!table) {
        struct part *p = report_part(r, &d->view);
        if (p)
            p->pub.name = "(hd0)";
    }
    for (uint32_t i = 0; i < r->pub.parts; i++)
        open_part(d, &r->parts[i]);
    if (table)
        r->pub.what = report_text(r, "disk with a partition table (%s)", table);
    else if (r->parts[0].pub.fs[0])
        r->pub.what =
            report_text(r, "%s file system, on a disk without partitions", r->parts[0].pub.fs);
}

void disk_inspect(struct vc_report *r, struct source *src)
{
    struct disk *d = calloc(1, sizeof *d);
    if (!d) {
        r->no_memory = true;
        return;
    }
    d->r = r;
    d->view = view_all(src);
    open_all(d);
    d->code = boot_sector_code(r, &d->view);
    d->cd = boot_sector_cd(&d->view);
    if (*r->pub.what || d->code) {
        r->pub.kind = VC_FILE_DISK;
        if (!*r->pub.what)
            r->pub.what = "disk without a partition table";
        disk_find_grub(d);
        disk_find_kernels(d);
        disk_find_efi(d);
        disk_judge(d);
    }
    for (unsigned i = 0; i < d->nvolumes; i++)
        fs_close(&d->volume[i].fs);
    free(d);
}
