/* SPDX-License-Identifier: MIT
 * vc_inspect(): kernel, disk, or something else? */
#include "disk.h"
#include "kernel.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdlib.h>

#define HEAD_LEN 32768u

/* ---- what is not raw
 * ------------------------------------------------------------------------------ */

static const struct {
    uint32_t off;
    uint8_t len;
    char bytes[16];
    const char *name, *advice;
} containers[] = {
    {0, 4, "QFI\xfb", "qcow2 image", "convert it: qemu-img convert -O raw"},
    {0, 4, "KDMV", "VMDK image", "convert it: qemu-img convert -O raw"},
    {0, 4, "COWD", "VMDK image", "convert it: qemu-img convert -O raw"},
    {0, 16, "# Disk Descripto", "VMDK descriptor", "convert it: qemu-img convert -O raw"},
    {0, 8, "vhdxfile", "VHDX image", "convert it: qemu-img convert -O raw"},
    {0, 8, "conectix", "VHD image", "convert it: qemu-img convert -O raw"},
    {0x40, 4, "\x7f\x10\xda\xbe", "VDI image", "convert it: qemu-img convert -O raw"},
    {0, 3, "\x1f\x8b\x08", "gzip file", "unpack it first"},
    {0, 6, {'\xfd', '7', 'z', 'X', 'Z', 0}, "xz file", "unpack it first"},
    {0, 4, "\x28\xb5\x2f\xfd", "zstd file", "unpack it first"},
    {0, 3, "BZh", "bzip2 file", "unpack it first"},
};

static bool inspect_container(struct vc_report *r, const uint8_t *head, size_t len)
{
    for (unsigned i = 0; i < ARRAY_LEN(containers); i++) {
        if (len < containers[i].off + (size_t)containers[i].len ||
            memcmp(head + containers[i].off, containers[i].bytes, containers[i].len) != 0)
            continue;
        r->pub.kind = VC_FILE_CONTAINER;
        r->pub.what = containers[i].name;
        for (unsigned v = 0; v < VIRTS; v++) {
            r->virt[v].answer = VC_ANSWER_UNKNOWN;
            report_line(r, &r->virt[v].reasons, "a %s was not looked into: %s", containers[i].name,
                        containers[i].advice);
        }
        return true;
    }
    return false;
}

/* ---- kernels
 * ---------------------------------------------------------------------------------------- */

static const char *kernel_what(const struct kernel *k)
{
    switch (k->pub.kind) {
    case VC_IMAGE_BZIMAGE: return "Linux kernel (bzImage)";
    case VC_IMAGE_PVH: return "ELF kernel with a PVH entry";
    case VC_IMAGE_MULTIBOOT: return "multiboot kernel";
    case VC_IMAGE_ELF: return "ELF program";
    default:
        return k->pub.flags & VC_KERNEL_EFI_STUB ? "EFI program"
                                                 : "kernel that cannot be started on a PC";
    }
}

static void inspect_kernel(struct vc_report *r, struct source *src)
{
    struct view all = view_all(src);
    struct kernel *k = report_kernel(r);
    uint8_t *bytes;
    r->pub.kind = VC_FILE_KERNEL;
    err_begin();
    if (src->size > KERNEL_FILE_MAX) {
        err_set(VC_ERANGE, "a kernel of %llu bytes is larger than any that is looked at (%u MiB)",
                (unsigned long long)src->size, KERNEL_FILE_MAX >> 20);
    } else if (!view_load(&all, 0, src->size, &bytes)) {
        kernel_inspect(r, k, src, bytes, src->size);
        free(bytes);
    } else if (vc_errcode() == VC_ENOMEM) {
        r->no_memory = true;
    }
    for (unsigned v = 0; v < VIRTS && vc_errcode(); v++) {
        k->virt[v].answer = VC_ANSWER_UNKNOWN;
        report_line(r, &k->virt[v].reasons, "%s", vc_errmsg());
    }
    r->pub.what = kernel_what(k);
    memcpy(r->virt, k->virt, sizeof r->virt);
    err_begin();
}

/* ---- the call
 * ------------------------------------------------------------------------------------------ */

static int inspect(struct vc_report *r, struct source *src)
{
    struct view all = view_all(src);
    uint8_t head[HEAD_LEN];
    size_t len = min_u64(src->size, sizeof head);
    int rc = view_read(&all, 0, head, len);
    if (rc)
        return rc;
    r->pub.bytes = src->size;
    if (kernel_match_surely(head, len))
        inspect_kernel(r, src);
    else if (!inspect_container(r, head, len))
        disk_inspect(r, src);
    if (r->pub.kind == VC_FILE_UNKNOWN && kernel_match(head, len)) {
        r->pub.parts = 0;
        r->facts.n = 0;
        inspect_kernel(r, src);
    }
    if (r->pub.kind == VC_FILE_UNKNOWN) {
        r->pub.parts = 0;
        r->facts.n = 0;
        r->pub.what = "of no known kind";
        for (unsigned v = 0; v < VIRTS; v++)
            report_line(r, &r->virt[v].reasons,
                        "it is no kernel, and no disk with a boot sector, a partition table or a "
                        "file system that is known");
        r->virt[VC_VIRT_HVM].answer = VC_ANSWER_UNKNOWN;
        report_line(r, &r->virt[VC_VIRT_HVM].reasons,
                    "raw code cannot be told from other bytes: vc_boot() takes it as "
                    "VC_IMAGE_FLAT");
    }
    return 0;
}

vc_report *vc_inspect(const struct vc_inspect_opts *opts)
{
    struct vc_inspect_opts o = {.size = sizeof o};
    struct source src;
    if (!opts) {
        err_null("opts");
        return NULL;
    }
    err_begin();
    if (args_in(&o, sizeof o, opts, "inspect_opts"))
        return NULL;
    if (!o.path == !o.bytes) {
        err_set(VC_EINVAL, o.path ? "there are both a path and bytes: one of them is to be NULL"
                                  : "there is neither a path nor bytes");
        return NULL;
    }
    if (o.bytes && !o.len) {
        err_set(VC_EINVAL, "there are no bytes: len is 0");
        return NULL;
    }
    if (!o.path)
        source_memory(&src, o.bytes, o.len);
    else if (source_open(&src, o.path))
        return NULL;
    struct vc_report *r = report_new();
    int rc = r ? inspect(r, &src) : VC_ENOMEM;
    source_close(&src);
    if (!rc && r->no_memory)
        rc = err_set(VC_ENOMEM, "the host has no memory for what the image holds");
    if (rc) {
        vc_report_free(r);
        return NULL;
    }
    err_begin();
    return r;
}
