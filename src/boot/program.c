/* SPDX-License-Identifier: MIT
 * Programs without a boot protocol: raw bytes at 1 MiB, and plain ELF. They start
 * with a stack and find in
 *   RDI  the command line (NUL-terminated),
 *   RSI  the initrd (0: none), RDX  its length;
 * a 32-bit ELF in EDI, ESI and EDX. */
#include "loader.h"
#include "../base/err.h"

#define STACK_LEN 0x4000ull

struct program {
    struct state_tables tables;
    uint64_t stack, cmdline, initrd;
};

static int place(struct loader *l, bool long_mode, struct program *p)
{
    int rc = state_place(l, long_mode, &p->tables);
    if (!rc)
        rc = loader_find_low(l, STACK_LEN, 16, "the stack", &p->stack);
    if (!rc)
        rc = loader_find_low(l, l->cmdline_len + 1, 1, "the command line", &p->cmdline);
    if (!rc)
        rc = loader_find_initrd(l, LAYOUT_1M, LAYOUT_4G, &p->initrd);
    return rc;
}

static int finish(struct loader *l, bool long_mode, const struct program *p, uint64_t entry)
{
    int rc = loader_put(l, p->cmdline, l->cmdline, l->cmdline_len + 1);
    if (!rc)
        rc = loader_put(l, p->initrd, l->initrd, l->initrd_len);
    if (!rc)
        rc = long_mode ? state_long64(l, &p->tables, entry) : state_flat32(l, &p->tables, entry);
    l->st->gprs.gpr[GPR_RSP] = p->stack + STACK_LEN;
    l->st->gprs.gpr[GPR_RDI] = p->cmdline;
    l->st->gprs.gpr[GPR_RSI] = p->initrd;
    l->st->gprs.gpr[GPR_RDX] = l->initrd_len;
    return rc;
}

int flat_load(struct loader *l)
{
    struct program p;
    int rc = layout_claim(&l->layout, LAYOUT_1M, l->len, "the flat image");
    if (!rc)
        rc = place(l, true, &p);
    if (!rc)
        rc = loader_put(l, LAYOUT_1M, l->image, l->len);
    return rc ? rc : finish(l, true, &p, LAYOUT_1M);
}

int elf_load(struct loader *l)
{
    struct elf_image elf;
    struct program p;
    int rc = elf_parse(l->image, l->len, &elf);
    if (!rc)
        rc = loader_claim_elf(l, &elf);
    if (!rc)
        rc = place(l, elf.is64, &p);
    if (!rc)
        rc = loader_put_elf(l, &elf);
    return rc ? rc : finish(l, elf.is64, &p, elf.entry);
}
