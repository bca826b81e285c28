/* SPDX-License-Identifier: MIT
 * Memory for generated code. */
#include "code_mem.h"
#include "err.h"
#include "pages.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3: says that the memory may be executed */
#endif

static void *none(void *p)
{
    return p == MAP_FAILED ? NULL : p;
}

/* A memfd mapped twice. errno says why not. */
static bool by_memfd(struct code_mem *m, const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* an older kernel */
        fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return false;
    if (!ftruncate(fd, (off_t)m->size)) {
        int flags = MAP_SHARED | MAP_NORESERVE;
        m->write = none(mmap(NULL, m->size, PROT_READ | PROT_WRITE, flags, fd, 0));
        if (m->write)
            m->exec = none(mmap(NULL, m->size, PROT_READ | PROT_EXEC, flags, fd, 0));
    }
    int cause = errno;
    close(fd);
    errno = cause;
    return m->exec != NULL;
}

/* Where vm.memfd_noexec forbids that: shared memory without a file, of which
 * mremap() with an old size of 0 makes a second mapping (mremap(2)). */
static bool by_sharing(struct code_mem *m)
{
    m->write = none(mmap(NULL, m->size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (!m->write)
        return false;
    void *x = none(mremap(m->write, 0, m->size, MREMAP_MAYMOVE));
    m->exec = x;
    return x && !mprotect(x, m->size, PROT_READ | PROT_EXEC);
}

int code_mem_new(struct code_mem *m, size_t size, const char *name)
{
    *m = (struct code_mem){.size = size};
    if (name && by_memfd(m, name))
        return 0;
    int cause = name ? errno : ENOMEM;
    code_mem_free(m);
    m->size = size;
    if (by_sharing(m))
        return 0;
    code_mem_free(m);
    if (cause == ENOMEM || cause == EMFILE || cause == ENFILE)
        return err_set(VC_ENOMEM, "no memory for generated code: %s", strerror(cause));
    return err_set(VC_EPERM, "the host refuses executable memory: %s", strerror(cause));
}

void code_mem_reach(struct code_mem *m, size_t upto)
{
    const size_t step = 128u << 10, few = 256u << 10;
    while (m->reached < upto && m->reached < m->size) {
        size_t in = m->reached % PAGES_HUGE,
               n = m->size - m->reached < step ? m->size - m->reached : step;
        /* An older host kernel does not know it: then pages come one by one. */
        madvise(m->write + m->reached, n, MADV_POPULATE_WRITE);
        /* Code that is run once here and once there misses the host's TLB more than it
         * misses anything else. */
        bool huge = (m->reached >= PAGES_HUGE || in >= few) &&
                    m->reached - in + PAGES_HUGE <= m->size &&
                    pages_join(m->write + m->reached - in);
        if (huge)
            n = PAGES_HUGE - in;
        madvise((void *)(uintptr_t)(m->exec + m->reached), n, MADV_POPULATE_READ);
        m->reached += n;
    }
}

void code_mem_free(struct code_mem *m)
{
    if (m->write)
        munmap(m->write, m->size);
    if (m->exec)
        munmap((void *)(uintptr_t)m->exec, m->size);
    *m = (struct code_mem){0};
}
