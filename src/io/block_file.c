/* SPDX-License-Identifier: MIT
 * Disks in files: raw images and the host's block devices. */
#include "block.h"
#include "../base/err.h"
#include "../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int fd_of(void *ud)
{
    return (int)(intptr_t)ud;
}

static int code_of(int err)
{
    return err == ENOMEM ? VC_ENOMEM : err == EOPNOTSUPP ? VC_ENOTSUP : VC_EIO;
}

/* All of a request's bytes, however few the host moves at once. */
static int transfer(int fd, bool write, uint64_t offset, const struct iovec *iov, unsigned n)
{
    size_t skip = 0; /* of the first piece, done already */
    while (n) {
        struct iovec part[32];
        unsigned many = n < ARRAY_LEN(part) ? n : (unsigned)ARRAY_LEN(part);
        memcpy(part, iov, many * sizeof *part);
        part[0].iov_base = (uint8_t *)part[0].iov_base + skip;
        part[0].iov_len -= skip;
        ssize_t got = write ? pwritev(fd, part, (int)many, (off_t)offset)
                            : preadv(fd, part, (int)many, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? code_of(errno) : VC_EIO; /* the file became shorter */
        offset += (uint64_t)got;
        skip += (size_t)got;
        while (n && skip >= iov->iov_len) {
            skip -= iov->iov_len;
            iov++;
            n--;
        }
    }
    return 0;
}

static int file_read(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    return transfer(fd_of(ud), false, offset, iov, n);
}

static int file_write(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    return transfer(fd_of(ud), true, offset, iov, n);
}

static int file_flush(void *ud)
{
    return fdatasync(fd_of(ud)) ? code_of(errno) : 0;
}

static int file_discard(void *ud, uint64_t offset, uint64_t len)
{
    int rc;
    do
        rc = fallocate(fd_of(ud), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                       (off_t)len);
    while (rc && errno == EINTR);
    return rc ? code_of(errno) : 0;
}

static void file_free(void *ud)
{
    close(fd_of(ud));
}

static const struct block_ops file_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .free = file_free,
};

/* The bytes of a file or device; sets the error. */
static int size_of(int fd, const char *path, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_set(VC_EIO, "%.150s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode))
        *size = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode) || ioctl(fd, BLKGETSIZE64, size))
        return err_set(VC_EFORMAT, "%.150s is neither a file nor a block device", path);
    *size -= *size % BLOCK_SECTOR;
    if (!*size)
        return err_set(VC_EFORMAT, "%.150s is shorter than a sector", path);
    return 0;
}

/* One writer, or readers: a lock of the open file, which ends with it. */
static int lock(int fd, const char *path, bool read_only)
{
    struct flock fl = {.l_type = (short)(read_only ? F_RDLCK : F_WRLCK), .l_whence = SEEK_SET};
    if (!fcntl(fd, F_OFD_SETLK, &fl) || (errno != EAGAIN && errno != EACCES))
        return 0; /* file systems without locks have none to break */
    return err_set(VC_EBUSY, "%.150s is in use%s", path, read_only ? " by who writes it" : "");
}

struct block *block_open(const char *path, bool read_only)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int code = errno == ENOENT                                       ? VC_ENOENT
                   : errno == EISDIR                                     ? VC_EFORMAT
                   : errno == EACCES || errno == EROFS || errno == EPERM ? VC_EPERM
                                                                         : VC_EIO;
        err_set(code, "%.150s: %s", path, strerror(errno));
        return NULL;
    }
    uint64_t size;
    if (size_of(fd, path, &size) || lock(fd, path, read_only)) {
        close(fd);
        return NULL;
    }
    return block_new(&file_ops, (void *)(intptr_t)fd, size, read_only);
}
