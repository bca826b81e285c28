/* SPDX-License-Identifier: MIT
 *
 * virtcore/inspect.h - what a kernel or a disk image is, which kinds of guest it can be,
 * and why.
 *
 * vc_inspect() looks at a file and makes a report; the other calls read it. Nothing is
 * executed, nothing is written, and nothing in the image is trusted: what is damaged is
 * told as such, and an image that leads its readers in circles is given up after a bounded
 * amount of reading. No partition is needed.
 *
 * All strings belong to the report, are plain ASCII (what the image has of other
 * characters is shown as '?') and never NULL. The calls that read a report may be made
 * from any thread, several at once, until vc_report_free().
 */
#ifndef VIRTCORE_INSPECT_H
#define VIRTCORE_INSPECT_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vc_report vc_report;

struct vc_inspect_opts {
    size_t size;
    const char *path;  /* a regular file or a block device; NULL: bytes */
    const void *bytes; /* with path NULL; not kept after the call */
    size_t len;
};

/* Looks at an image. NULL: vc_errmsg() has VC_EINVAL (neither path nor bytes, or both; no
 * bytes), VC_ENOENT, VC_EPERM, VC_EIO (of the host), VC_EFORMAT (an empty file; neither file
 * nor block device), VC_ENOMEM. What is no image of any known kind is a report that says so.
 * Costs at most 2 GiB of reading. Kernels are unpacked, one at a time: memory for one and for
 * what it unpacks to, 512 MiB each at most, and 1 GiB of unpacking in all. Any thread. */
VC_API vc_report *vc_inspect(const struct vc_inspect_opts *opts);
/* NULL is allowed. */
VC_API void vc_report_free(vc_report *report);

/* What the file is. */
enum vc_file_kind {
    VC_FILE_UNKNOWN = 0,
    VC_FILE_KERNEL = 1,   /* a kernel or program: kernel number 0 of the report */
    VC_FILE_DISK = 2,     /* a raw disk image, or a file system of its own */
    VC_FILE_CONTAINER = 3 /* a disk image in a format that is not raw (qcow2, VMDK...), or
                             something packed: nothing inside was looked at */
};

struct vc_report_info {
    size_t size;
    uint64_t bytes;   /* the file's size */
    uint32_t kind;    /* enum vc_file_kind */
    uint32_t parts;   /* partitions and file systems: vc_report_part() */
    uint32_t kernels; /* vc_report_kernel() */
    uint32_t facts;   /* vc_report_fact() with VC_REPORT_FILE */
    const char *what; /* "Linux kernel (bzImage)", "disk with a GPT", ... */
};
VC_API int vc_report_info(const vc_report *report, struct vc_report_info *out);

#define VC_REPORT_FILE UINT32_MAX /* for `kernel`: the file as a whole */

enum vc_answer {
    VC_ANSWER_NO = 0,
    VC_ANSWER_YES = 1,
    VC_ANSWER_UNKNOWN = 2 /* something there could not be looked into; the reasons say what */
};

/* How a guest of that kind comes to run. */
enum vc_start {
    VC_START_NONE = 0,
    VC_START_KERNEL = 1, /* by vc_boot(): the file, or a kernel inside it that is given to
                            vc_boot() beside the disk */
    VC_START_GRUB = 2,   /* PV-GRUB or PVH-GRUB reads the disk's own grub.cfg */
    VC_START_BIOS = 3,   /* a boot sector, by a PC's firmware */
    VC_START_EFI = 4     /* an EFI program, by UEFI firmware */
};

struct vc_report_virt {
    size_t size;
    uint32_t answer;    /* enum vc_answer */
    uint32_t start;     /* enum vc_start: the first way that there is */
    uint32_t startable; /* 1: this build of the library can start it that way */
    uint32_t reasons;   /* vc_report_reason() */
};
/* Can it be a guest of that kind (enum vc_virt)? `kernel` is one of the report's kernels or
 * VC_REPORT_FILE. VC_ENOENT: there is no such kernel; VC_EINVAL: no such kind. */
VC_API int vc_report_virt(const vc_report *report, uint32_t kernel, uint32_t virt,
                          struct vc_report_virt *out);
/* Why: sentences without a full stop, the one that counts most first. NULL: there are not so
 * many. */
VC_API const char *vc_report_reason(const vc_report *report, uint32_t kernel, uint32_t virt,
                                    uint32_t index);
/* What else is worth knowing of the file or of a kernel in it, a sentence each. NULL: there
 * are not so many. */
VC_API const char *vc_report_fact(const vc_report *report, uint32_t kernel, uint32_t index);

#define VC_PART_ACTIVE   (1u << 0) /* an MBR entry that is marked so */
#define VC_PART_EXTENDED (1u << 1) /* an MBR entry that only holds logical ones */
#define VC_PART_ESP      (1u << 2) /* the EFI system partition */
#define VC_PART_READ     (1u << 3) /* its file system was looked into */

struct vc_report_part {
    size_t size;
    uint64_t start, bytes; /* in the file */
    uint32_t number;       /* as the guest's kernel counts; 0: the disk without partitions */
    uint32_t flags;        /* VC_PART_* */
    const char *name;      /* GRUB's: "(hd0,gpt1)" */
    const char *type;      /* "Linux", "EFI system"..., or the type's number */
    const char *label;     /* the partition's, of a GPT; "" */
    const char *fs;        /* "ext4", "FAT16", "LUKS"...; "": none that is known */
};
/* VC_ENOENT: there are not so many. At most 256 are told. */
VC_API int vc_report_part(const vc_report *report, uint32_t index, struct vc_report_part *out);

#define VC_KERNEL_64BIT    (1u << 0)
#define VC_KERNEL_EFI_STUB (1u << 1) /* it is a program for UEFI too */
#define VC_KERNEL_UNPACKED (1u << 2) /* what is packed inside was looked into */
#define VC_KERNEL_IN_GRUB  (1u << 3) /* a grub.cfg of the disk names it */

struct vc_report_kernel {
    size_t size;
    uint64_t bytes;
    uint32_t kind;       /* enum vc_image_kind, as vc_boot() would take it for HVM;
                            VC_IMAGE_AUTO: it would not */
    uint32_t flags;      /* VC_KERNEL_* */
    uint32_t protocol;   /* bzImage: 0x20f is 2.15 */
    uint32_t facts;      /* vc_report_fact() */
    uint64_t entry;      /* of the ELF, physical */
    uint64_t pv_entry;   /* Xen PV's, virtual; 0: none */
    uint64_t pvh_entry;  /* physical; 0: none */
    const char *name;    /* "(hd0,msdos1)/boot/vmlinuz"; "" where the file is the kernel */
    const char *version; /* Linux' own words; "" */
    const char *packed;  /* "xz", "LZ4"...; "" */
};
/* VC_ENOENT: there are not so many. At most 16 are looked at. */
VC_API int vc_report_kernel(const vc_report *report, uint32_t index, struct vc_report_kernel *out);

#ifdef __cplusplus
}
#endif
#endif
