/* SPDX-License-Identifier: MIT
 * Symbols of an ELF image. libelf bounds tables and strings by the image. */
#include "elf.h"
#include "../base/err.h"
#include <gelf.h>
#include <libelf.h>
#include <string.h>
#include <virtcore/base.h>

/* In one symbol table. */
static bool in_table(Elf *e, Elf_Scn *scn, const GElf_Shdr *sh, const char *name, uint64_t *value)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    size_t one = gelf_fsize(e, ELF_T_SYM, 1, EV_CURRENT);
    if (!data || !one)
        return false;
    for (size_t i = 0; i < data->d_size / one && i < INT32_MAX; i++) {
        GElf_Sym sym;
        if (!gelf_getsym(data, (int)i, &sym))
            return false;
        if (sym.st_shndx == SHN_UNDEF)
            continue;
        const char *s = elf_strptr(e, sh->sh_link, sym.st_name);
        if (s && !strcmp(s, name)) {
            *value = sym.st_value;
            return true;
        }
    }
    return false;
}

int elf_symbol(const uint8_t *image, size_t len, const char *name, uint64_t *value)
{
    if (!elf_match(image, len))
        return err_set(VC_EFORMAT, "the image is not an ELF file");
    if (elf_version(EV_CURRENT) == EV_NONE)
        return err_set(VC_ENOTSUP, "libelf is too old");
    /* Only read, though libelf's interface does not say so. */
    Elf *e = elf_memory((char *)(uintptr_t)image, len);
    if (!e || elf_kind(e) != ELF_K_ELF) {
        if (e)
            elf_end(e);
        return err_set(VC_EFORMAT, "the ELF image is damaged: its header (%s)", elf_errmsg(-1));
    }
    bool found = false;
    for (Elf_Scn *scn = NULL; !found && (scn = elf_nextscn(e, scn));) {
        GElf_Shdr sh;
        if (gelf_getshdr(scn, &sh) && sh.sh_type == SHT_SYMTAB)
            found = in_table(e, scn, &sh, name, value);
    }
    elf_end(e);
    return found ? 0 : err_set(VC_ENOENT, "the ELF image has no symbol \"%.64s\"", name);
}
