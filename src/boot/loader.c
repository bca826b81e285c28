/* SPDX-License-Identifier: MIT
 * What the loaders share: finding places, writing. */
#include "loader.h"
#include "../base/err.h"
#include "../base/util.h"

#define PAGE 4096ull

int loader_find_low(struct loader *l, uint64_t len, uint64_t align, const char *what,
                    uint64_t *base)
{
    return layout_find(&l->layout, len, align, PAGE, LAYOUT_EBDA, what, base);
}

static uint64_t initrd_room(const struct loader *l)
{
    return ((uint64_t)l->initrd_len + PAGE - 1) & ~(PAGE - 1);
}

bool loader_initrd_fits(const struct loader *l, uint64_t lo, uint64_t hi)
{
    uint64_t base;
    return layout_search(&l->layout, initrd_room(l), PAGE, lo, hi, &base);
}

int loader_find_initrd(struct loader *l, uint64_t lo, uint64_t hi, uint64_t *base)
{
    *base = 0;
    if (!l->initrd_len)
        return 0;
    return layout_find(&l->layout, initrd_room(l), PAGE, lo, hi, "the initrd", base);
}

int loader_claim_elf(struct loader *l, const struct elf_image *elf)
{
    int rc = 0;
    for (unsigned i = 0; i < elf->nseg && !rc; i++)
        rc = layout_claim(&l->layout, elf->seg[i].paddr, elf->seg[i].memsz, "an ELF segment");
    return rc;
}

int loader_put(struct loader *l, uint64_t gpa, const void *bytes, size_t len)
{
    return mem_write(l->mem, gpa, bytes, len);
}

int loader_zero(struct loader *l, uint64_t gpa, uint64_t len)
{
    static const uint8_t zeroes[65536];
    int rc = 0;
    for (uint64_t n; len && !rc; gpa += n, len -= n) {
        n = min_u64(len, sizeof zeroes);
        rc = mem_write(l->mem, gpa, zeroes, n);
    }
    return rc;
}

int loader_put_elf(struct loader *l, const struct elf_image *elf)
{
    int rc = 0;
    for (unsigned i = 0; i < elf->nseg && !rc; i++) {
        const struct elf_seg *s = &elf->seg[i];
        rc = loader_put(l, s->paddr, s->bytes, s->filesz);
        if (!rc)
            rc = loader_zero(l, s->paddr + s->filesz, s->memsz - s->filesz);
    }
    return rc;
}
