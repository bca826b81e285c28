/* SPDX-License-Identifier: MIT
 * File systems, to read from. */
#ifndef INSPECT_FS_H
#define INSPECT_FS_H

#include "report.h"

struct fs_ops;
struct fs {
    const struct fs_ops *ops; /* NULL: none is open */
    void *state;
};

/* Each name of a directory, not "." and ".."; false ends it. */
typedef bool fs_name_fn(void *ud, const char *name);

struct fs_ops {
    int (*open)(const struct view *v, void **state); /* VC_EFORMAT: damaged */
    void (*close)(void *state);
    int (*list)(void *state, const char *path, fs_name_fn *fn, void *ud);
    /* *size is the whole file's. */
    int (*read)(void *state, const char *path, size_t max, uint8_t **bytes, size_t *len,
                uint64_t *size);
};

/* What is in there by its magic numbers: a name such as "ext4", "LUKS"; NULL: nothing known.
 * *ops: who reads it; NULL: nobody. */
const char *fs_probe(const struct view *v, const struct fs_ops **ops);
int fs_open(struct fs *fs, const struct fs_ops *ops, const struct view *v);
void fs_close(struct fs *fs);

/* Paths begin with a slash. VC_ENOENT: there is none by that name, or it is of another kind;
 * VC_EFORMAT, VC_ELIMIT, VC_EIO, VC_ENOMEM. */
int fs_list(const struct fs *fs, const char *path, fs_name_fn *fn, void *ud);
/* The first bytes of a file, max of them at most, for free(). */
int fs_read(const struct fs *fs, const char *path, size_t max, uint8_t **bytes, size_t *len,
            uint64_t *size);

#define FS_NAMES_MAX 8192u /* of a directory; the rest is not looked at */

extern const struct fs_ops fat_ops;
bool fat_match(const uint8_t *head, size_t len, const char **name); /* the first 512 bytes */
extern const struct fs_ops ext_ops;                                 /* where libext2fs is */

#endif
