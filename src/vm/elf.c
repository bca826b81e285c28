/* SPDX-License-Identifier: MIT
 * ELF programs in a partition without a platform: their bytes, their symbols. */
#include "vm.h"
#include "../base/err.h"
#include "../boot/elf.h"

static int zero(struct mem *mem, uint64_t gpa, uint64_t len)
{
    static const uint8_t zeroes[65536];
    int rc = 0;
    for (uint64_t n; len && !rc; gpa += n, len -= n) {
        n = min_u64(len, sizeof zeroes);
        rc = mem_write(mem, gpa, zeroes, n);
    }
    return rc;
}

int vc_elf_load(vc_vm *vm, const void *image, size_t len, uint64_t *entry)
{
    if (!vm || !image)
        return err_null(vm ? "image" : "vm");
    err_begin();
    struct elf_image elf;
    int rc = elf_parse(image, len, &elf);
    /* The whole first, so that nothing is copied of a program that does not fit. */
    for (unsigned i = 0; i < elf.nseg && !rc; i++) {
        if (!mem_is_mapped(&vm->mem, elf.seg[i].paddr, elf.seg[i].memsz))
            rc = err_set(
                VC_EFAULT, "no memory is mapped for the ELF segment at %#llx of %#llx bytes",
                (unsigned long long)elf.seg[i].paddr, (unsigned long long)elf.seg[i].memsz);
    }
    for (unsigned i = 0; i < elf.nseg && !rc; i++) {
        const struct elf_seg *s = &elf.seg[i];
        rc = mem_write(&vm->mem, s->paddr, s->bytes, s->filesz);
        if (!rc)
            rc = zero(&vm->mem, s->paddr + s->filesz, s->memsz - s->filesz);
    }
    if (!rc && entry)
        *entry = elf.entry;
    return rc;
}

int vc_elf_symbol(const void *image, size_t len, const char *name, uint64_t *value)
{
    if (!image || !name || !value)
        return err_null(!image ? "image" : !name ? "name" : "value");
    err_begin();
    return elf_symbol(image, len, name, value);
}
