/* SPDX-License-Identifier: MIT
 * ELF executables as loaders see them. libelf reads the tables and bounds them by
 * the image; what the values mean is checked here. */
#include "elf.h"
#include "../base/err.h"
#include "../base/util.h"
#include <gelf.h>
#include <libelf.h>

typedef unsigned long long ull;

/* xen/include/public/elfnote.h: the 32-bit entry of a PVH guest. */
#define NOTE_PHYS32_ENTRY 18u
#define PHNUM_MAX         1024u
#define SHNUM_MAX         1024u

bool elf_match(const uint8_t *image, size_t len)
{
    return len >= SELFMAG && memcmp(image, ELFMAG, SELFMAG) == 0;
}

static bool inside(uint64_t off, uint64_t n, size_t len)
{
    return off <= len && n <= len - off;
}

static int bad(const char *what)
{
    return err_set(VC_EFORMAT, "the ELF image is damaged: %s (%s)", what, elf_errmsg(-1));
}

static int add_segment(struct elf_image *elf, const uint8_t *image, size_t len, size_t index,
                       const GElf_Phdr *ph)
{
    if (ph->p_memsz == 0 && ph->p_filesz == 0)
        return 0;
    if (ph->p_filesz > ph->p_memsz)
        return err_set(VC_EFORMAT,
                       "ELF segment %zu has %#llx bytes in the file and %#llx in memory", index,
                       (ull)ph->p_filesz, (ull)ph->p_memsz);
    if (!inside(ph->p_offset, ph->p_filesz, len))
        return err_set(VC_EFORMAT,
                       "ELF segment %zu (offset %#llx, %#llx bytes) ends behind the image of %#zx "
                       "bytes",
                       index, (ull)ph->p_offset, (ull)ph->p_filesz, len);
    if (ph->p_paddr + ph->p_memsz < ph->p_paddr)
        return err_set(VC_EFORMAT, "ELF segment %zu at %#llx of %#llx bytes wraps around", index,
                       (ull)ph->p_paddr, (ull)ph->p_memsz);
    if (elf->nseg == ELF_SEGS_MAX)
        return err_set(VC_EFORMAT, "the ELF image has more than %d loadable segments",
                       ELF_SEGS_MAX);
    elf->seg[elf->nseg++] = (struct elf_seg){.paddr = ph->p_paddr,
                                             .vaddr = ph->p_vaddr,
                                             .memsz = ph->p_memsz,
                                             .filesz = ph->p_filesz,
                                             .bytes = image + ph->p_offset};
    return 0;
}

static int read_notes(Elf *e, struct elf_image *elf, const uint8_t *image, size_t len,
                      uint64_t offset, uint64_t size, uint64_t align)
{
    if (size == 0)
        return 0;
    if (!inside(offset, size, len))
        return err_set(VC_EFORMAT,
                       "the ELF notes (offset %#llx, %#llx bytes) end behind the image "
                       "of %#zx bytes",
                       (ull)offset, (ull)size, len);
    if (elf->nnotes < ELF_NOTES_MAX) {
        elf->notes[elf->nnotes].bytes = image + offset;
        elf->notes[elf->nnotes++].len = size;
    }
    Elf_Data *data =
        elf_getdata_rawchunk(e, (int64_t)offset, size, align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
    if (!data)
        return bad("its notes");
    GElf_Nhdr note;
    size_t name, desc, next;
    for (size_t at = 0; (next = gelf_getnote(data, at, &note, &name, &desc)) > 0; at = next) {
        const uint8_t *bytes = data->d_buf;
        if (note.n_type != NOTE_PHYS32_ENTRY || note.n_namesz != 4 ||
            memcmp(bytes + name, "Xen", 4) != 0)
            continue;
        uint64_t entry;
        if (note.n_descsz == 4)
            entry = get_le32(bytes + desc);
        else if (note.n_descsz == 8)
            entry = get_le64(bytes + desc);
        else
            return err_set(VC_EFORMAT, "the PVH entry note has %u bytes, not 4 or 8",
                           note.n_descsz);
        if (entry > UINT32_MAX)
            return err_set(VC_EFORMAT, "the PVH entry %#llx is not a 32-bit address", (ull)entry);
        elf->has_pvh = true;
        elf->pvh_entry = (uint32_t)entry;
    }
    return 0;
}

/* Small kernels have notes in sections only, which the linker put into no segment of
 * notes; Xen's own loader looks there, too. Lost or cut off, they are none. */
static int section_notes(Elf *e, struct elf_image *elf, const uint8_t *image, size_t len)
{
    size_t shnum;
    int rc = 0;
    if (elf_getshdrnum(e, &shnum) != 0)
        return 0;
    for (size_t i = 1; i < shnum && i < SHNUM_MAX && !rc; i++) {
        GElf_Shdr sh;
        Elf_Scn *scn = elf_getscn(e, i);
        if (!scn || !gelf_getshdr(scn, &sh))
            return 0;
        if (sh.sh_type == SHT_NOTE && inside(sh.sh_offset, sh.sh_size, len))
            rc = read_notes(e, elf, image, len, sh.sh_offset, sh.sh_size, sh.sh_addralign);
    }
    return rc;
}

bool elf_holds(const struct elf_image *elf, uint64_t paddr)
{
    for (unsigned i = 0; i < elf->nseg; i++)
        if (paddr >= elf->seg[i].paddr && paddr - elf->seg[i].paddr < elf->seg[i].memsz)
            return true;
    return false;
}

/* Kernels give their entry as a physical address, other programs as a virtual
 * one. */
static int find_entry(struct elf_image *elf, uint64_t e_entry)
{
    elf->entry = elf->e_entry = e_entry;
    if (elf_holds(elf, e_entry))
        return 0;
    for (unsigned i = 0; i < elf->nseg; i++) {
        const struct elf_seg *s = &elf->seg[i];
        if (e_entry >= s->vaddr && e_entry - s->vaddr < s->memsz) {
            elf->entry = s->paddr + (e_entry - s->vaddr);
            return 0;
        }
    }
    return err_set(VC_EFORMAT, "the ELF entry %#llx is in none of its segments", (ull)e_entry);
}

static int check_header(const GElf_Ehdr *eh)
{
    if (eh->e_ident[EI_DATA] != ELFDATA2LSB)
        return err_set(VC_EFORMAT, "the ELF image is big-endian, not for x86");
    if (eh->e_machine != EM_X86_64 && eh->e_machine != EM_386)
        return err_set(VC_EFORMAT, "the ELF image is for machine %u, not for x86", eh->e_machine);
    if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
        return err_set(VC_EFORMAT, "the ELF image is of type %u, not an executable", eh->e_type);
    return 0;
}

static int parse(Elf *e, const uint8_t *image, size_t len, struct elf_image *elf)
{
    GElf_Ehdr eh;
    size_t phnum;
    if (elf_kind(e) != ELF_K_ELF || !gelf_getehdr(e, &eh))
        return bad("its header");
    int rc = check_header(&eh);
    if (rc)
        return rc;
    elf->is64 = gelf_getclass(e) == ELFCLASS64;
    size_t entsize = elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (elf_getphdrnum(e, &phnum) != 0)
        return bad("its program headers");
    if (phnum > PHNUM_MAX || eh.e_phentsize != entsize || !inside(eh.e_phoff, phnum * entsize, len))
        return err_set(VC_EFORMAT,
                       "the ELF image says it has %zu program headers of %u bytes at %#llx, in "
                       "%#zx bytes",
                       phnum, eh.e_phentsize, (ull)eh.e_phoff, len);
    for (size_t i = 0; i < phnum && !rc; i++) {
        GElf_Phdr ph;
        if (!gelf_getphdr(e, (int)i, &ph))
            return bad("a program header");
        if (ph.p_type == PT_LOAD)
            rc = add_segment(elf, image, len, i, &ph);
        else if (ph.p_type == PT_INTERP)
            elf->has_interp = true;
        else if (ph.p_type == PT_NOTE)
            rc = read_notes(e, elf, image, len, ph.p_offset, ph.p_filesz, ph.p_align);
    }
    if (!rc && !elf->nnotes)
        rc = section_notes(e, elf, image, len);
    if (rc)
        return rc;
    if (elf->nseg == 0)
        return err_set(VC_EFORMAT, "the ELF image has no loadable segment");
    return find_entry(elf, eh.e_entry);
}

int elf_parse(const uint8_t *image, size_t len, struct elf_image *elf)
{
    memset(elf, 0, sizeof *elf);
    if (!elf_match(image, len))
        return err_set(VC_EFORMAT, "the image is not an ELF file");
    if (elf_version(EV_CURRENT) == EV_NONE)
        return err_set(VC_ENOTSUP, "libelf is too old");
    /* Only read, though libelf's interface does not say so. */
    Elf *e = elf_memory((char *)(uintptr_t)image, len);
    if (!e)
        return bad("its header");
    int rc = parse(e, image, len, elf);
    elf_end(e);
    return rc;
}
