/* SPDX-License-Identifier: MIT
 * Disk images: what is on them, and what could start from them. */
#ifndef INSPECT_DISK_H
#define INSPECT_DISK_H

#include "fs.h"
#include "grubcfg.h"

#define VOLUMES_MAX 32u

/* A file system that is open. */
struct volume {
    struct part *part;
    struct fs fs;
};
/* A kernel that was found. */
struct found {
    const struct volume *volume;
    const char *path;
    uint64_t hash;
    struct kernel *kernel;
};
struct disk {
    struct vc_report *r;
    struct view view;
    unsigned nvolumes, nfound;
    struct volume volume[VOLUMES_MAX];
    struct found found[KERNELS_MAX];
    /* The grub.cfg that PV-GRUB goes by, and what it starts. */
    const struct volume *cfg_volume; /* NULL: there is none */
    const char *cfg_path;
    struct grubcfg cfg;
    struct kernel *cfg_kernel[GRUB_KERNELS_MAX]; /* NULL: not found */
    const char *efi;  /* what UEFI firmware starts by itself; NULL: nothing */
    bool cd;          /* firmware starts it when it is a CD */
    const char *code; /* what the boot sector's code is; NULL: there is none */
};

/* Fills in the report of a raw disk image. */
void disk_inspect(struct vc_report *r, struct source *src);

/* disk_files.c: kernels, grub.cfg, EFI programs. */
void disk_find_grub(struct disk *d);
void disk_find_kernels(struct disk *d);
void disk_find_efi(struct disk *d);

/* boot_sector.c: whose code the first sector has; NULL: none. */
const char *boot_sector_code(struct vc_report *r, const struct view *disk);
/* Would firmware start it as a CD? */
bool boot_sector_cd(const struct view *disk);

/* disk_verdict.c */
void disk_judge(struct disk *d);

#endif
