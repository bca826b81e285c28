/* SPDX-License-Identifier: MIT
 * Files that the guest gets. */
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool failed(const char *path, int fd, const char *why)
{
    fprintf(stderr, "minivm: %s: %s\n", path, why);
    if (fd >= 0)
        close(fd);
    return false;
}

/* On huge pages where the host has them: its page faults cost more than reading. */
static char *large(size_t size)
{
    const size_t huge = 2u << 20;
    if (size < huge || size > SIZE_MAX - huge)
        return malloc(size);
    size_t room = (size + huge - 1) & ~(huge - 1);
    char *p = aligned_alloc(huge, room);
    if (p)
        madvise(p, room, MADV_HUGEPAGE);
    return p;
}

/* Read, not mapped: a file that somebody truncates meanwhile would end minivm
 * by SIGBUS. */
bool image_read(struct image *image, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return failed(path, fd, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return failed(path, fd, "not a regular file");
    if (st.st_size <= 0)
        return failed(path, fd, "the file is empty");
    size_t size = (size_t)st.st_size, at = 0;
    char *bytes = large(size);
    if (!bytes)
        return failed(path, fd, "no memory for it");
    while (at < size) {
        ssize_t n = read(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            free(bytes);
            return failed(path, fd, n ? strerror(errno) : "the file shrank while it was read");
        }
        at += (size_t)n;
    }
    close(fd);
    *image = (struct image){bytes, size};
    return true;
}

void image_free(struct image *image)
{
    free(image->bytes);
    *image = (struct image){0};
}

/* The boot protocol's signature, Linux Documentation/arch/x86/boot.rst. */
bool image_is_linux(const struct image *image)
{
    return image->len > 0x206 && !memcmp((const char *)image->bytes + 0x202, "HdrS", 4);
}

/* Whether a word of the line begins so. */
static bool has_word(const char *line, const char *start)
{
    const char *at = line;
    while ((at = strstr(at, start))) {
        if (at == line || at[-1] == ' ')
            return true;
        at++;
    }
    return false;
}

char *image_cmdline(const struct image *image, const char *append, const char *console)
{
    bool linux_image = image_is_linux(image);
    if (!append)
        append = linux_image ? console : "";
    /* A panicked kernel shall reboot at once rather than wait for nobody. */
    const char *more = linux_image && !has_word(append, "panic=") ? " panic=-1" : "";
    char *line;
    return asprintf(&line, "%s%s", append, more) < 0 ? NULL : line;
}
