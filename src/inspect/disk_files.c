/* SPDX-License-Identifier: MIT
 * The files of a disk that starting it depends on. */
#include "disk.h"
#include "kernel.h"
#include "pe.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define CFG_MAX  (1u << 20)
#define HEAD_LEN 32768u

/* A failure other than "there is none" leaves something unseen. */
static void missing(struct disk *d, const struct volume *v, const char *path)
{
    int code = vc_errcode();
    if (code == VC_ENOMEM)
        d->r->no_memory = true;
    if (code && code != VC_ENOENT && !v->part->opaque)
        v->part->opaque = report_text(d->r, "%s cannot be read: %s", path, vc_errmsg());
    err_begin();
}

static bool read_file(struct disk *d, const struct volume *v, const char *path, size_t max,
                      uint8_t **bytes, size_t *len, uint64_t *size)
{
    err_begin();
    if (!fs_read(&v->fs, path, max, bytes, len, size))
        return true;
    missing(d, v, path);
    return false;
}

/* ---- kernels ------------------------------------------------------------------------------------
 */

/* FNV-1a: whether two paths are one kernel, links for instance. */
static uint64_t hash_of(const uint8_t *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull;
    while (n--)
        h = (h ^ *p++) * 0x100000001b3ull;
    return h;
}

static struct found *find_found(struct disk *d, const struct volume *v, const char *path)
{
    for (unsigned i = 0; i < d->nfound; i++)
        if (d->found[i].volume == v && !strcmp(d->found[i].path, path))
            return &d->found[i];
    return NULL;
}

/* Looks into a kernel, once. NULL: it is none, or cannot be read. */
static struct kernel *take_kernel(struct disk *d, const struct volume *v, const char *path,
                                  bool named)
{
    struct found *f = find_found(d, v, path);
    uint8_t *bytes = NULL;
    size_t len;
    uint64_t size;
    struct kernel *k = f ? f->kernel : NULL;
    if (f || d->nfound == KERNELS_MAX || d->r->pub.kernels == KERNELS_MAX ||
        !read_file(d, v, path, HEAD_LEN, &bytes, &len, &size))
        return k;
    bool is_kernel = kernel_match(bytes, len);
    free(bytes);
    if (!is_kernel || size > KERNEL_FILE_MAX) {
        if (named)
            report_line(d->r, &d->r->facts, "%s%s is no kernel", v->part->pub.name, path);
        return NULL;
    }
    if (!read_file(d, v, path, KERNEL_FILE_MAX, &bytes, &len, &size))
        return NULL;
    uint64_t hash = hash_of(bytes, len);
    for (unsigned i = 0; i < d->nfound && !k; i++) {
        f = &d->found[i];
        if (f->hash == hash && f->kernel->pub.bytes == len) {
            k = f->kernel;
            report_line(d->r, &k->facts, "%s%s is the same", v->part->pub.name, path);
        }
    }
    if (!k && (k = report_kernel(d->r))) {
        k->pub.name = report_text(d->r, "%s%s", v->part->pub.name, path);
        kernel_inspect(d->r, k, d->view.src, bytes, len);
    }
    free(bytes);
    if (k)
        d->found[d->nfound++] = (struct found){v, report_text(d->r, "%s", path), hash, k};
    return k;
}

typedef bool wanted_fn(const char *name);
struct search {
    wanted_fn *wanted;
    char names[KERNELS_MAX][256];
    unsigned n;
};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), len = strlen(end);
    return n >= len && !strcasecmp(name + n - len, end);
}

static bool is_efi_name(const char *name)
{
    return ends_with(name, ".efi");
}

static bool is_kernel_name(const char *name)
{
    static const char *const starts[] = {"vmlinuz", "vmlinux", "bzImage", "kernel"};
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++)
        if (!strncmp(name, starts[i], strlen(starts[i])))
            return true;
    return false;
}

static bool is_any_name(const char *name)
{
    (void)name;
    return true;
}

static bool take_name(void *ud, const char *name)
{
    struct search *s = ud;
    if (!s->wanted(name))
        return true;
    snprintf(s->names[s->n++], sizeof *s->names, "%s", name);
    return s->n < KERNELS_MAX;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names first: a file system is not asked for a file while it lists a directory. NULL:
 * none. For free(). */
static struct search *search_dir(struct disk *d, const struct volume *v, const char *dir,
                                 wanted_fn *wanted)
{
    struct search *s = calloc(1, sizeof *s);
    if (!s) {
        d->r->no_memory = true;
        return NULL;
    }
    s->wanted = wanted;
    err_begin();
    if (fs_list(&v->fs, dir, take_name, s))
        missing(d, v, dir);
    qsort(s->names, s->n, sizeof *s->names, by_name);
    return s;
}

static void find_kernels_in(struct disk *d, const struct volume *v, const char *dir,
                            wanted_fn *wanted)
{
    struct search *s = search_dir(d, v, dir, wanted);
    for (unsigned i = 0; s && i < s->n; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", strcmp(dir, "/") ? dir : "", s->names[i]);
        take_kernel(d, v, path, false);
    }
    free(s);
}

void disk_find_kernels(struct disk *d)
{
    for (unsigned i = 0; i < d->nvolumes; i++) {
        find_kernels_in(d, &d->volume[i], "/boot", is_kernel_name);
        find_kernels_in(d, &d->volume[i], "/", is_kernel_name);
        find_kernels_in(d, &d->volume[i], "/EFI/Linux", is_efi_name);
    }
}

/* ---- GRUB
 * ----------------------------------------------------------------------------------------- */

/* The kernel of an entry: in the file system that has the grub.cfg, or, as entries choose
 * theirs by UUID, in the first that has the file. */
static void resolve(struct disk *d, unsigned i)
{
    const struct grub_kernel *g = &d->cfg.kernel[i];
    const char *name = report_text(d->r, "%s", g->path);
    if (g->computed) {
        report_line(d->r, &d->r->facts, "grub.cfg computes the name of a kernel: %s", name);
        return;
    }
    struct kernel *k = take_kernel(d, d->cfg_volume, g->path, true);
    for (unsigned n = 0; n < d->nvolumes && !k; n++)
        if (&d->volume[n] != d->cfg_volume)
            k = take_kernel(d, &d->volume[n], g->path, true);
    d->cfg_kernel[i] = k;
    if (!k) {
        report_line(d->r, &d->r->facts, "grub.cfg names the kernel %s, which was not found", name);
        return;
    }
    k->pub.flags |= VC_KERNEL_IN_GRUB;
    report_line(d->r, &k->facts, "grub.cfg starts it by its entry \"%.90s\", initrd %.100s",
                g->title, *g->initrd ? g->initrd : "none");
    if (*g->params)
        report_line(d->r, &k->facts, "grub.cfg gives it the parameters %.400s", g->params);
}

static bool take_cfg(struct disk *d, const char *path)
{
    for (unsigned i = 0; i < d->nvolumes; i++) {
        const struct volume *v = &d->volume[i];
        uint8_t *text;
        size_t len;
        uint64_t size;
        if (!read_file(d, v, path, CFG_MAX, &text, &len, &size))
            continue;
        d->cfg_volume = v;
        d->cfg_path = path;
        grubcfg_parse(text, len, &d->cfg);
        free(text);
        report_line(d->r, &d->r->facts, "%s%s has %u entries with kernels", v->part->pub.name, path,
                    d->cfg.n);
        return true;
    }
    return false;
}

/* Debian's PV-GRUB and PVH-GRUB search all disks for these two, in this order. */
void disk_find_grub(struct disk *d)
{
    static const char *const others[] = {"/boot/grub2/grub.cfg", "/grub2/grub.cfg",
                                         "/boot/grub/menu.lst"};
    if (take_cfg(d, "/boot/grub/grub.cfg") || take_cfg(d, "/grub/grub.cfg")) {
        for (unsigned i = 0; i < d->cfg.n; i++)
            resolve(d, i);
        return;
    }
    for (unsigned i = 0; i < d->nvolumes; i++) {
        for (unsigned n = 0; n < ARRAY_LEN(others); n++) {
            uint8_t *text;
            size_t len;
            uint64_t size;
            if (!read_file(d, &d->volume[i], others[n], 1, &text, &len, &size))
                continue;
            free(text);
            report_line(d->r, &d->r->facts, "there is %s%s, where PV-GRUB does not look",
                        d->volume[i].part->pub.name, others[n]);
        }
    }
}

/* ---- UEFI
 * ------------------------------------------------------------------------------------------- */

static void look_at_efi(struct disk *d, const struct volume *v, const char *path)
{
    uint8_t *bytes;
    size_t len;
    uint64_t size;
    struct pe pe;
    if (!read_file(d, v, path, HEAD_LEN, &bytes, &len, &size))
        return;
    if (pe_read(bytes, len, &pe))
        report_line(d->r, &d->r->facts, "%s%s is an EFI program for %s", v->part->pub.name, path,
                    pe_machine(pe.machine));
    else
        report_line(d->r, &d->r->facts, "%s%s is no EFI program", v->part->pub.name, path);
    if (pe.machine == PE_X86_64 && !strcasecmp(path, "/EFI/BOOT/BOOTX64.EFI") && !d->efi)
        d->efi = report_text(d->r, "%s%s", v->part->pub.name, path);
    free(bytes);
}

/* Firmware reads FAT only, and starts one name by itself: other names need an entry in its own
 * memory, without which an image comes. */
void disk_find_efi(struct disk *d)
{
    for (unsigned i = 0; i < d->nvolumes; i++) {
        const struct volume *v = &d->volume[i];
        if (strncmp(v->part->pub.fs, "FAT", 3) != 0)
            continue;
        struct search *vendors = search_dir(d, v, "/EFI", is_any_name);
        for (unsigned n = 0; vendors && n < vendors->n; n++) {
            char dir[300], path[600];
            snprintf(dir, sizeof dir, "/EFI/%s", vendors->names[n]);
            struct search *files = search_dir(d, v, dir, is_efi_name);
            for (unsigned f = 0; files && f < files->n; f++) {
                snprintf(path, sizeof path, "%s/%s", dir, files->names[f]);
                look_at_efi(d, v, path);
            }
            free(files);
        }
        free(vendors);
    }
}
