/* SPDX-License-Identifier: MIT
 * Large memory: huge pages where the host gives them to those who ask, else pages
 * that come many at once. */
#include "pages.h"
#include "util.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define HUGE  PAGES_HUGE
#define SMALL (1ull << 20) /* up to here all pages come at once */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static size_t rounded(size_t len)
{
    return (len + PAGE_SIZE_4K - 1) & ~(size_t)(PAGE_SIZE_4K - 1);
}

void *pages_new(size_t len)
{
    len = rounded(len);
    size_t slack = len >= HUGE ? HUGE - PAGE_SIZE_4K : 0;
    if (!len || len > SIZE_MAX - slack)
        return NULL;
    uint8_t *p =
        mmap(NULL, len + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (slack) {
        size_t skip = -(uintptr_t)p & (HUGE - 1);
        if (skip)
            munmap(p, skip);
        p += skip;
        if (slack - skip)
            munmap(p + len, slack - skip);
        madvise(p, len, MADV_HUGEPAGE);
    } else if (len <= SMALL) {
        madvise(p, len, MADV_POPULATE_WRITE);
    }
    return p;
}

void pages_free(void *p, size_t len)
{
    if (p)
        munmap(p, rounded(len));
}

bool pages_join(void *p)
{
    static atomic_bool refused; /* what the host does not know it needs not be asked again */
    if ((uintptr_t)p & (HUGE - 1) || atomic_load_explicit(&refused, memory_order_relaxed))
        return false;
    int was = errno;
    bool done = !madvise(p, HUGE, MADV_COLLAPSE);
    if (!done && (errno == EINVAL || errno == ENOSYS || errno == EPERM))
        atomic_store_explicit(&refused, true, memory_order_relaxed);
    errno = was;
    return done;
}
