/* SPDX-License-Identifier: MIT
 * What lies where in the guest's RAM before it starts. */
#include "layout.h"
#include "../base/err.h"
#include "../base/util.h"

typedef unsigned long long ull;

#define USABLE_MAX 3
static unsigned usable(const struct boot_ram *ram, struct span out[USABLE_MAX])
{
    unsigned n = 0;
    out[n++] = (struct span){0, min_u64(ram->low, LAYOUT_EBDA)};
    if (ram->low > LAYOUT_1M)
        out[n++] = (struct span){LAYOUT_1M, ram->low - LAYOUT_1M};
    if (ram->high)
        out[n++] = (struct span){LAYOUT_4G, ram->high};
    return n;
}

bool layout_in_ram(const struct layout *l, uint64_t base, uint64_t len)
{
    struct span ram[USABLE_MAX];
    unsigned n = usable(l->ram, ram);
    for (unsigned i = 0; i < n; i++)
        if (base >= ram[i].base && base - ram[i].base <= ram[i].len &&
            len <= ram[i].len - (base - ram[i].base))
            return true;
    return false;
}

/* A claimed span that [base, base + len) touches, or NULL. */
static const struct span *taken(const struct layout *l, uint64_t base, uint64_t len)
{
    for (unsigned i = 0; i < l->n; i++)
        if (base < l->used[i].base + l->used[i].len && l->used[i].base < base + len)
            return &l->used[i];
    return NULL;
}

static int claim(struct layout *l, uint64_t base, uint64_t len)
{
    if (l->n == LAYOUT_MAX)
        return err_set(VC_EFORMAT, "the image has more than %d parts", LAYOUT_MAX);
    l->used[l->n++] = (struct span){base, len};
    return 0;
}

int layout_claim(struct layout *l, uint64_t base, uint64_t len, const char *what)
{
    if (len == 0)
        return 0;
    if (!layout_in_ram(l, base, len))
        return err_set(VC_ERANGE,
                       "%s wants %#llx bytes at %#llx, which is not all RAM (0-0x9fc00, "
                       "0x100000-%#llx%s)",
                       what, (ull)len, (ull)base, (ull)l->ram->low,
                       l->ram->high ? ", and from 4 GiB" : "");
    const struct span *u = taken(l, base, len);
    if (u)
        return err_set(VC_EFORMAT,
                       "%s at %#llx of %#llx bytes overlaps another part at %#llx of "
                       "%#llx bytes",
                       what, (ull)base, (ull)len, (ull)u->base, (ull)u->len);
    return claim(l, base, len);
}

/* The highest free place in [lo, hi), all of it RAM; false: none. */
static bool find_in(const struct layout *l, uint64_t len, uint64_t align, uint64_t lo, uint64_t hi,
                    uint64_t *base)
{
    while (hi > lo && hi - lo >= len) {
        uint64_t at = (hi - len) & ~(align - 1);
        if (at < lo)
            return false;
        const struct span *u = taken(l, at, len);
        if (!u) {
            *base = at;
            return true;
        }
        hi = u->base;
    }
    return false;
}

bool layout_search(const struct layout *l, uint64_t len, uint64_t align, uint64_t lo, uint64_t hi,
                   uint64_t *base)
{
    struct span ram[USABLE_MAX];
    for (unsigned i = usable(l->ram, ram); i-- > 0;) {
        uint64_t from = ram[i].base > lo ? ram[i].base : lo;
        if (find_in(l, len, align, from, min_u64(ram[i].base + ram[i].len, hi), base))
            return true;
    }
    return false;
}

int layout_find(struct layout *l, uint64_t len, uint64_t align, uint64_t lo, uint64_t hi,
                const char *what, uint64_t *base)
{
    if (layout_search(l, len, align, lo, hi, base))
        return claim(l, *base, len);
    return err_set(VC_ERANGE,
                   "%s of %#llx bytes finds no free RAM between %#llx and %#llx: the guest has "
                   "%llu MiB",
                   what, (ull)len, (ull)lo, (ull)hi, (ull)((l->ram->low + l->ram->high) >> 20));
}

unsigned layout_memmap(const struct boot_ram *ram, struct memmap_entry map[MEMMAP_MAX])
{
    struct span s[USABLE_MAX];
    unsigned nspans = usable(ram, s), n = 0;
    map[n++] = (struct memmap_entry){s[0].base, s[0].len, MEMMAP_RAM};
    map[n++] = (struct memmap_entry){LAYOUT_EBDA, LAYOUT_1M - LAYOUT_EBDA, MEMMAP_RESERVED};
    for (unsigned i = 1; i < nspans; i++)
        map[n++] = (struct memmap_entry){s[i].base, s[i].len, MEMMAP_RAM};
    if (ram->reserved_len)
        map[n++] = (struct memmap_entry){ram->reserved, ram->reserved_len, MEMMAP_RESERVED};
    return n;
}
