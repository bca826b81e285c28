/* SPDX-License-Identifier: MIT
 * Which file system it is. */
#include "fs.h"
#include "../base/err.h"
#include "../base/util.h"

/* What is known by name only, and what guests keep kernels in. */
static const struct magic {
    uint32_t off;
    uint8_t len;
    char bytes[12];
    const char *name;
} magics[] = {
    {0, 6, "LUKS\xba\xbe", "LUKS"},
    {512, 8, "LABELONE", "LVM2"},
    {0, 4, "XFSB", "XFS"},
    {0x10040, 8, "_BHRfS_M", "Btrfs"},
    {4086, 10, "SWAPSPACE2", "swap"},
    {0x8001, 5, "CD001", "ISO 9660"},
    {3, 8, "NTFS    ", "NTFS"},
    {3, 8, "EXFAT   ", "exFAT"},
    {3, 8, "-FVE-FS-", "BitLocker"},
    {0, 4, "hsqs", "SquashFS"},
    {1024, 4, "\x10\x20\xf5\xf2", "F2FS"},
    {1024, 4, "\xe2\xe1\xf5\xe0", "EROFS"},
    {4096, 4, "\xfc\x4e\x2b\xa9", "Linux RAID"},
};

/* fs/ext4/ext4.h: offsets in the superblock, which is 1024 bytes behind the start. */
enum { EXT_SUPER = 1024, EXT_MAGIC = 0x38, EXT_COMPAT = 0x5c, EXT_INCOMPAT = 0x60 };
#define EXT_MAGIC_VALUE     0xef53u
#define EXT_HAS_JOURNAL     0x4u
#define EXT_JOURNAL_DEV     0x8u
#define EXT_FILETYPE        0x2u
#define EXT_RECOVER         0x4u
#define EXT3_INCOMPAT_KNOWN (EXT_FILETYPE | EXT_RECOVER | 0x10u)

static const char *ext_name(const uint8_t *super)
{
    if (get_le16(super + EXT_MAGIC) != EXT_MAGIC_VALUE)
        return NULL;
    uint32_t incompat = get_le32(super + EXT_INCOMPAT);
    if (incompat & EXT_JOURNAL_DEV)
        return "ext4 journal";
    if (incompat & ~EXT3_INCOMPAT_KNOWN)
        return "ext4";
    return get_le32(super + EXT_COMPAT) & EXT_HAS_JOURNAL ? "ext3" : "ext2";
}

/* Those at offsets from `from` to below `to`. */
static const char *by_magic(const struct view *v, uint32_t from, uint32_t to)
{
    for (unsigned i = 0; i < ARRAY_LEN(magics); i++) {
        uint8_t bytes[sizeof magics->bytes];
        if (magics[i].off >= from && magics[i].off < to && v->len >= magics[i].off + sizeof bytes &&
            !view_read(v, magics[i].off, bytes, sizeof bytes) &&
            !memcmp(bytes, magics[i].bytes, magics[i].len))
            return magics[i].name;
    }
    return NULL;
}

const char *fs_probe(const struct view *v, const struct fs_ops **ops)
{
    uint8_t head[EXT_SUPER + 1024] = {0};
    const char *name;
    *ops = NULL;
    if (view_read(v, 0, head, min_u64(v->len, sizeof head)))
        return NULL;
    if ((name = by_magic(v, 0, EXT_SUPER)))
        return name;
    if ((name = ext_name(head + EXT_SUPER))) {
#ifdef HAVE_EXT2FS
        if (name[4] == 0)
            *ops = &ext_ops;
#endif
        return name;
    }
    if (fat_match(head, 512, &name)) {
        *ops = &fat_ops;
        return name;
    }
    /* Last: far from the start, what was there before may have survived another mkfs. */
    return by_magic(v, EXT_SUPER, UINT32_MAX);
}

int fs_open(struct fs *fs, const struct fs_ops *ops, const struct view *v)
{
    *fs = (struct fs){0};
    int rc = ops->open(v, &fs->state);
    if (!rc)
        fs->ops = ops;
    return rc;
}

void fs_close(struct fs *fs)
{
    if (fs->ops)
        fs->ops->close(fs->state);
    *fs = (struct fs){0};
}

int fs_list(const struct fs *fs, const char *path, fs_name_fn *fn, void *ud)
{
    return fs->ops ? fs->ops->list(fs->state, path, fn, ud) : VC_ENOENT;
}

int fs_read(const struct fs *fs, const char *path, size_t max, uint8_t **bytes, size_t *len,
            uint64_t *size)
{
    *bytes = NULL;
    *len = 0;
    *size = 0;
    return fs->ops ? fs->ops->read(fs->state, path, max, bytes, len, size) : VC_ENOENT;
}
