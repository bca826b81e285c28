/* SPDX-License-Identifier: MIT
 * ext2, ext3 and ext4, by libext2fs. The image is hostile input for it as for us, so it sees
 * the image only through a manager of I/O that cannot write, that stays inside the partition
 * and that ends with the allowance; and what would make it take much memory is refused
 * before. */
#ifdef HAVE_EXT2FS
#include "fs.h"
#include "../base/err.h"
#include "../base/util.h"
#include <ext2fs/ext2fs.h>
#include <stdlib.h>

#define DESCRIPTORS_MAX (64ull << 20) /* bytes: libext2fs reads them all at once */

struct ext {
    struct view view;
    ext2_filsys fs;
    int failed; /* the code of our own reading's failure */
};

/* What ext2fs_open2() opens: it hands a name to its manager, and nothing else. */
static _Thread_local struct ext *opening;

/* ---- libext2fs' way to the image ------------------------------------------------------------ */

static const struct struct_io_manager manager;

static errcode_t io_open(const char *name, int flags, io_channel *out)
{
    if (flags & IO_FLAG_RW)
        return EXT2_ET_RO_FILSYS;
    io_channel io = calloc(1, sizeof *io);
    char *copy = strdup(name);
    if (!io || !copy) {
        free(io);
        free(copy);
        return EXT2_ET_NO_MEMORY;
    }
    io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    io->manager = (io_manager)(uintptr_t)&manager; /* only read, though the type does not say so */
    io->name = copy;
    io->block_size = 1024;
    io->refcount = 1;
    io->private_data = opening;
    *out = io;
    return 0;
}

static errcode_t io_close(io_channel io)
{
    if (--io->refcount > 0)
        return 0;
    free(io->name);
    free(io);
    return 0;
}

static errcode_t io_set_blksize(io_channel io, int size)
{
    io->block_size = size;
    return 0;
}

/* A count below 0 is one of bytes. */
static errcode_t io_read64(io_channel io, unsigned long long block, int count, void *to)
{
    struct ext *e = io->private_data;
    uint64_t bsize = (uint64_t)io->block_size;
    uint64_t n = count < 0 ? (uint64_t)(-(int64_t)count) : (uint64_t)count * bsize;
    int rc = block > UINT64_MAX / bsize ? VC_EFORMAT : view_read(&e->view, block * bsize, to, n);
    if (!rc)
        return 0;
    if (rc != VC_EFORMAT)
        e->failed = rc;
    return EXT2_ET_SHORT_READ;
}

static errcode_t io_read(io_channel io, unsigned long block, int count, void *to)
{
    return io_read64(io, block, count, to);
}

static errcode_t io_write64(io_channel io, unsigned long long block, int count, const void *from)
{
    (void)io, (void)block, (void)count, (void)from;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write(io_channel io, unsigned long block, int count, const void *from)
{
    return io_write64(io, block, count, from);
}

static errcode_t io_flush(io_channel io)
{
    (void)io;
    return 0;
}

static const struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "virtcore",
    .open = io_open,
    .close = io_close,
    .set_blksize = io_set_blksize,
    .read_blk = io_read,
    .read_blk64 = io_read64,
    .write_blk = io_write,
    .write_blk64 = io_write64,
    .flush = io_flush,
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static int failed(struct ext *e, errcode_t code)
{
    if (e->failed)
        return e->failed;
    switch (code) {
    case EXT2_ET_FILE_NOT_FOUND:
    case EXT2_ET_NO_DIRECTORY: return err_set(VC_ENOENT, "there is no such file");
    case EXT2_ET_NO_MEMORY:
    case ENOMEM: return err_set(VC_ENOMEM, "the host has no memory for the file system");
    case EXT2_ET_UNSUPP_FEATURE:
    case EXT2_ET_RO_UNSUPP_FEATURE:
        return err_set(VC_EFORMAT, "it has features that libext2fs %s does not know",
                       EXT2FS_VERSION);
    default:
        return err_set(VC_EFORMAT, "it is damaged, or ends behind its partition (libext2fs: %ld)",
                       (long)code);
    }
}

/* Offsets in the superblock (fs/ext4/ext4.h). */
enum {
    SUPER_BLOCKS = 0x04,
    SUPER_LOG_BLOCK = 0x18,
    SUPER_PER_GROUP = 0x20,
    SUPER_INCOMPAT = 0x60,
    SUPER_DESC_SIZE = 0xfe,
    SUPER_BLOCKS_HI = 0x150,
};
#define INCOMPAT_64BIT 0x80u

static int check_size(const struct view *v)
{
    uint8_t s[1024];
    int rc = view_read(v, 1024, s, sizeof s);
    if (rc)
        return rc;
    bool large = get_le32(s + SUPER_INCOMPAT) & INCOMPAT_64BIT;
    uint64_t blocks = get_le32(s + SUPER_BLOCKS), per_group = get_le32(s + SUPER_PER_GROUP);
    uint64_t desc = large ? get_le16(s + SUPER_DESC_SIZE) : 32;
    if (large)
        blocks |= (uint64_t)get_le32(s + SUPER_BLOCKS_HI) << 32;
    if (get_le32(s + SUPER_LOG_BLOCK) > 6 || !per_group)
        return err_set(VC_EFORMAT, "its superblock is damaged");
    if (blocks / per_group >= DESCRIPTORS_MAX / (desc ? desc : 64))
        return err_set(VC_EFORMAT,
                       "its superblock announces %llu blocks in groups of %llu, more "
                       "than are looked at",
                       (unsigned long long)blocks, (unsigned long long)per_group);
    return 0;
}

static void ext_close(void *state)
{
    struct ext *e = state;
    if (e->fs)
        ext2fs_free(e->fs); /* not ext2fs_close(), which writes what has changed */
    free(e);
}

static int ext_open(const struct view *v, void **state)
{
    int rc = check_size(v);
    if (rc)
        return rc;
    struct ext *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(VC_ENOMEM, "the host has no memory for the file system");
    e->view = *v;
    opening = e;
    /* Checksums are the file system's own concern: who wrote the image wrote them too. */
    errcode_t code = ext2fs_open2("image", NULL,
                                  EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS |
                                      EXT2_FLAG_SKIP_MMP | EXT2_FLAG_SOFTSUPP_FEATURES,
                                  0, 0, (io_manager)(uintptr_t)&manager, &e->fs);
    opening = NULL;
    if (code) {
        e->fs = NULL;
        rc = failed(e, code);
        ext_close(e);
        return rc;
    }
    *state = e;
    return 0;
}

/* ---- files --------------------------------------------------------------------------------------
 */

/* Symbolic links are followed, as many as libext2fs allows. */
static int find(struct ext *e, const char *path, ext2_ino_t *ino, struct ext2_inode *inode)
{
    errcode_t code = ext2fs_namei_follow(e->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino);
    if (!code)
        code = ext2fs_read_inode(e->fs, *ino, inode);
    return code ? failed(e, code) : 0;
}

struct listing {
    fs_name_fn *fn;
    void *ud;
    unsigned n;
};

static int list_name(struct ext2_dir_entry *de, int offset, int blocksize, char *buf, void *ud)
{
    struct listing *l = ud;
    char name[256];
    size_t n = (size_t)ext2fs_dirent_name_len(de);
    (void)offset, (void)blocksize, (void)buf;
    memcpy(name, de->name, n);
    name[n] = 0;
    if (!strcmp(name, ".") || !strcmp(name, ".."))
        return 0;
    return l->n++ < FS_NAMES_MAX && l->fn(l->ud, name) ? 0 : DIRENT_ABORT;
}

static int ext_list(void *state, const char *path, fs_name_fn *fn, void *ud)
{
    struct ext *e = state;
    struct listing l = {fn, ud, 0};
    struct ext2_inode inode;
    ext2_ino_t ino;
    int rc = find(e, path, &ino, &inode);
    if (rc)
        return rc;
    if (!LINUX_S_ISDIR(inode.i_mode))
        return err_set(VC_ENOENT, "it is no directory");
    errcode_t code = ext2fs_dir_iterate(e->fs, ino, 0, NULL, list_name, &l);
    return code ? failed(e, code) : 0;
}

static int read_all(struct ext *e, ext2_file_t file, uint8_t *to, size_t n)
{
    while (n) {
        unsigned int got = 0, piece = (unsigned int)min_u64(n, 1u << 20);
        errcode_t code = ext2fs_file_read(file, to, piece, &got);
        if (code || !got)
            return failed(e, code ? code : EXT2_ET_SHORT_READ);
        to += got;
        n -= got;
    }
    return 0;
}

static int ext_read(void *state, const char *path, size_t max, uint8_t **bytes, size_t *len,
                    uint64_t *size)
{
    struct ext *e = state;
    struct ext2_inode inode;
    ext2_ino_t ino;
    ext2_file_t file;
    int rc = find(e, path, &ino, &inode);
    if (rc)
        return rc;
    if (!LINUX_S_ISREG(inode.i_mode))
        return err_set(VC_ENOENT, "it is no regular file");
    *size = EXT2_I_SIZE(&inode);
    *len = min_u64(*size, max);
    *bytes = malloc(*len ? *len : 1);
    if (!*bytes)
        return err_set(VC_ENOMEM, "the host has no memory for a file of %zu bytes", *len);
    errcode_t code = ext2fs_file_open(e->fs, ino, 0, &file);
    rc = code ? failed(e, code) : 0;
    if (!code) {
        rc = read_all(e, file, *bytes, *len);
        ext2fs_file_close(file);
    }
    if (rc) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

const struct fs_ops ext_ops = {ext_open, ext_close, ext_list, ext_read};

#else
/* Without libext2fs nobody reads them: fs_probe() tells their names only. */
typedef int ext_is_not_built;
#endif
