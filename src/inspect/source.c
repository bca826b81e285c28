/* SPDX-License-Identifier: MIT
 * The bytes that are looked at. Read, not mapped: a file that somebody truncates meanwhile
 * would end the program by SIGBUS. */
#include "source.h"
#include "../base/err.h"
#include "../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long long ull;

#define READ_COST 512u /* what a read counts beside its bytes */

static int refuse(int fd, int code, const char *path, const char *why)
{
    if (fd >= 0)
        close(fd);
    return err_set(code, "%s: %s", path, why);
}

static int host_code(int err)
{
    return err == ENOENT || err == ENOTDIR  ? VC_ENOENT
           : err == EACCES || err == EPERM  ? VC_EPERM
           : err == ENOMEM || err == EMFILE ? VC_ENOMEM
                                            : VC_EIO;
}

int source_open(struct source *s, const char *path)
{
    struct stat st;
    uint64_t size = 0;
    /* Looked at before it is opened: opening alone makes some devices do things. */
    if (stat(path, &st))
        return refuse(-1, host_code(errno), path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return refuse(-1, VC_EFORMAT, path, "neither a regular file nor a block device");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st))
        return refuse(fd, host_code(errno), path, strerror(errno));
    if (S_ISREG(st.st_mode))
        size = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode) || ioctl(fd, BLKGETSIZE64, &size))
        return refuse(fd, VC_EIO, path, "the device does not say how large it is");
    if (!size)
        return refuse(fd, VC_EFORMAT, path, "it is empty");
    *s = (struct source){
        .fd = fd, .size = size, .allowance = SOURCE_ALLOWANCE, .unpack = SOURCE_UNPACK};
    return 0;
}

void source_memory(struct source *s, const void *bytes, size_t len)
{
    *s = (struct source){.fd = -1,
                         .bytes = bytes,
                         .size = len,
                         .allowance = SOURCE_ALLOWANCE,
                         .unpack = SOURCE_UNPACK};
}

void source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

struct view view_all(struct source *s)
{
    return (struct view){s, 0, s->size};
}

struct view view_part(const struct view *v, uint64_t off, uint64_t len)
{
    off = min_u64(off, v->len);
    return (struct view){v->src, v->base + off, min_u64(len, v->len - off)};
}

static int read_file(const struct source *s, uint64_t at, uint8_t *to, size_t n)
{
    while (n) {
        ssize_t got = pread(s->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_set(VC_EIO, "reading at %#llx failed: %s", (ull)at,
                           got ? strerror(errno) : "the file shrank meanwhile");
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

int view_read(const struct view *v, uint64_t off, void *to, size_t n)
{
    struct source *s = v->src;
    if (off > v->len || n > v->len - off)
        return err_set(VC_EFORMAT, "%zu bytes at %#llx are behind the end at %#llx", n, (ull)off,
                       (ull)v->len);
    if (s->allowance < n + READ_COST) {
        s->allowance = 0; /* smaller reads shall not go on either */
        return err_set(VC_ELIMIT, "the image takes more reading than any real one");
    }
    s->allowance -= n + READ_COST;
    if (s->fd >= 0)
        return read_file(s, v->base + off, to, n);
    memcpy(to, s->bytes + v->base + off, n);
    return 0;
}

int view_load(const struct view *v, uint64_t off, size_t n, uint8_t **bytes)
{
    uint8_t *p = malloc(n ? n : 1);
    *bytes = NULL;
    if (!p)
        return err_set(VC_ENOMEM, "the host has no memory for %zu bytes of the image", n);
    int rc = view_read(v, off, p, n);
    if (rc)
        free(p);
    else
        *bytes = p;
    return rc;
}
