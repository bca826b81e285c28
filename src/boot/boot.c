/* SPDX-License-Identifier: MIT
 * From an image's bytes to a loader. */
#include "linux_setup.h"
#include "loader.h"
#include "../base/err.h"
#include "../base/util.h"
#include "payload.h"

static int detect(const uint8_t *image, size_t len, uint32_t *kind)
{
    if (linux_match(image, len)) {
        *kind = VC_IMAGE_BZIMAGE;
        return 0;
    }
    bool elf = elf_match(image, len);
    if (elf) {
        struct elf_image e;
        int rc = elf_parse(image, len, &e);
        if (rc)
            return rc;
        *kind = e.has_pvh ? VC_IMAGE_PVH : VC_IMAGE_ELF;
    }
    if ((!elf || *kind == VC_IMAGE_ELF) && multiboot_match(image, len))
        *kind = VC_IMAGE_MULTIBOOT;
    if (*kind == VC_IMAGE_AUTO)
        return err_set(VC_EFORMAT,
                       "the image of %zu bytes is no bzImage, ELF or multiboot file; raw code has "
                       "to be asked for as VC_IMAGE_FLAT",
                       len);
    return 0;
}

static int check(const struct boot_ram *ram, const struct vc_boot_opts *opts)
{
    if (!opts->kernel || !opts->kernel_len)
        return err_set(VC_EINVAL, "there is no kernel image");
    if (!opts->initrd && opts->initrd_len)
        return err_set(VC_EINVAL, "the initrd is NULL but has %zu bytes", opts->initrd_len);
    if (opts->kernel_len > MEM_GPA_MAX || opts->initrd_len > MEM_GPA_MAX)
        return err_set(VC_ERANGE, "images of %zu and %zu bytes fit into no RAM", opts->kernel_len,
                       opts->initrd_len);
    if (opts->kind > VC_IMAGE_FLAT)
        return err_set(VC_EINVAL, "image kind %u is unknown", opts->kind);
    if (opts->cmdline && strnlen(opts->cmdline, LOADER_CMDLINE_MAX + 1) > LOADER_CMDLINE_MAX)
        return err_set(VC_ERANGE, "the command line is longer than %u bytes", LOADER_CMDLINE_MAX);
    if (ram->low < LAYOUT_1M)
        return err_set(VC_ERANGE, "a PC has at least 1 MiB of RAM");
    return 0;
}

/* The ELF itself, or the one inside a bzImage. */
static int load_pvh(struct loader *l)
{
    uint8_t *unpacked;
    int rc = payload_kernel(l->image, l->len, KERNEL_MAX, &l->image, &l->len, &unpacked);
    if (!rc)
        rc = pvh_load(l);
    payload_free(unpacked, l->len);
    return rc;
}

int boot_load(struct mem *mem, const struct boot_ram *ram, const struct vc_boot_opts *opts,
              struct boot_state *st)
{
    int rc = check(ram, opts);
    if (rc)
        return rc;
    struct loader l = {
        .mem = mem,
        .ram = ram,
        .image = opts->kernel,
        .len = opts->kernel_len,
        .initrd = opts->initrd,
        .initrd_len = opts->initrd_len,
        .cmdline = opts->cmdline ? opts->cmdline : "",
        .st = st,
        .layout = {.ram = ram},
    };
    l.cmdline_len = strlen(l.cmdline);
    uint32_t kind = opts->kind;
    if (kind == VC_IMAGE_AUTO)
        rc = detect(l.image, l.len, &kind);
    if (rc)
        return rc;
    switch (kind) {
    case VC_IMAGE_BZIMAGE: return linux_load(&l);
    case VC_IMAGE_PVH: return load_pvh(&l);
    case VC_IMAGE_MULTIBOOT: return multiboot_load(&l);
    case VC_IMAGE_ELF: return elf_load(&l);
    default: return flat_load(&l);
    }
}
