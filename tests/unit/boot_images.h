/* SPDX-License-Identifier: MIT
 * A guest to load into, and images to load: shared by the loaders' tests. */
#ifndef TEST_BOOT_IMAGES_H
#define TEST_BOOT_IMAGES_H

#include "base/err.h"
#include "base/util.h"
#include "boot/boot.h"
#include <criterion/criterion.h>
#include <elf.h>
#include <stdlib.h>
#include <virtcore/vm.h>

#define KIB     1024ull
#define MIB     (1024 * KIB)
#define LOW_RAM (48 * MIB)

static struct mem mem;
static struct boot_ram ram;
static struct boot_state st;
static struct vc_boot_opts opts;
static uint8_t dirty[LOW_RAM / 4096 / 8];

static inline void guest_setup(void)
{
    cr_assert_eq(mem_init(&mem, 256 * MIB), 0);
    cr_assert_eq(mem_add(&mem, 0, LOW_RAM, VC_MEM_RWX | VC_MEM_LOG, NULL), 0);
    ram = (struct boot_ram){.low = LOW_RAM, .rsdp = 0xf0000};
    opts = (struct vc_boot_opts){.size = sizeof opts};
}
static inline void guest_teardown(void)
{
    mem_fini(&mem);
}

/* Boots from a copy of exactly len bytes, so that a sanitizer sees each read
 * behind it. */
static inline int boot(const void *image, size_t len)
{
    void *copy = malloc(len ? len : 1);
    memcpy(copy, image, len);
    opts.kernel = copy;
    opts.kernel_len = len;
    err_begin();
    memset(&st, 0, sizeof st);
    int rc = boot_load(&mem, &ram, &opts, &st);
    cr_expect_eq(vc_errcode(), rc);
    free(copy);
    return rc;
}

static inline bool untouched(void)
{
    cr_assert_eq(mem_dirty_fetch(&mem, 0, LOW_RAM, dirty, sizeof dirty), 0);
    for (size_t i = 0; i < sizeof dirty; i++)
        if (dirty[i])
            return false;
    return true;
}

#define ACCEPTED(image, len)                                                                       \
    do {                                                                                           \
        int got_ = boot(image, len);                                                               \
        cr_expect_eq(got_, 0, "%d: %s", got_, vc_errmsg());                                        \
    } while (0)
/* Refused with this code, a sentence that says so, and the guest's memory left
 * as it was. */
#define REFUSED(image, len, code, words)                                                           \
    do {                                                                                           \
        untouched();                                                                               \
        int got_ = boot(image, len);                                                               \
        cr_expect_eq(got_, code, "%d: %s", got_, vc_errmsg());                                     \
        cr_expect(strstr(vc_errmsg(), words) != NULL, "\"%s\" is not in: %s", words, vc_errmsg()); \
        cr_expect(untouched());                                                                    \
    } while (0)

static inline void read_guest(uint64_t gpa, void *buf, size_t len)
{
    cr_assert_eq(mem_read(&mem, gpa, buf, len), 0);
}
static inline uint64_t guest64(uint64_t gpa)
{
    uint64_t v;
    read_guest(gpa, &v, 8);
    return v;
}
static inline uint32_t guest32(uint64_t gpa)
{
    uint32_t v;
    read_guest(gpa, &v, 4);
    return v;
}
static inline bool guest_is(uint64_t gpa, const void *bytes, size_t len)
{
    const void *p = mem_ptr(&mem, gpa, len);
    return p && memcmp(p, bytes, len) == 0;
}

static inline void expect_flat32(void)
{
    cr_expect_eq(st.sregs.cr0 & 0x80000001, 1);
    cr_expect_eq(st.sregs.cr4, 0);
    cr_expect_eq(st.sregs.efer, 0);
    cr_expect_eq(st.sregs.cs.attr, 0xc9b);
    cr_expect_eq(st.sregs.cs.limit, UINT32_MAX);
    cr_expect_eq(st.sregs.ds.attr, 0xc93);
    cr_expect_eq(st.gprs.rflags, 2);
}
static inline void expect_long64(void)
{
    cr_expect_eq(st.sregs.cr0 & 0x80000001, 0x80000001);
    cr_expect_eq(st.sregs.efer, 0x500);
    cr_expect_eq(st.sregs.cs.attr, 0xa9b);
    /* 3 GiB + 5 MiB is mapped to itself. */
    uint64_t pml4e = guest64(st.sregs.cr3);
    uint64_t pdpte = guest64((pml4e & ~0xfffull) + 3 * 8);
    cr_expect_eq(guest64((pdpte & ~0xfffull) + 2 * 8), 0xc0400083);
    /* The segment registers are what the GDT says. */
    cr_expect_eq(guest64(st.sregs.gdt_base + st.sregs.cs.selector), 0x00af9b000000ffff);
    cr_expect_eq(guest64(st.sregs.gdt_base + st.sregs.ds.selector), 0x00cf93000000ffff);
}

/* ---- ELF images ------------------------------------------------------------------- */

struct elf64 {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[4];
    struct {
        Elf64_Nhdr nh;
        char name[4];
        uint64_t desc;
    } note;
    uint8_t data[0x800];
};
/* Two segments at 4 MiB and 5 MiB, and a PVH note. */
static inline struct elf64 elf64_good(void)
{
    struct elf64 e = {
        .eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_EXEC,
               .e_machine = EM_X86_64,
               .e_version = EV_CURRENT,
               .e_entry = 0xffffffff80000010,
               .e_phoff = offsetof(struct elf64, ph),
               .e_ehsize = sizeof(Elf64_Ehdr),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 3,
               .e_shentsize = sizeof(Elf64_Shdr)},
        .ph = {{.p_type = PT_LOAD,
                .p_flags = PF_R | PF_X,
                .p_offset = offsetof(struct elf64, data),
                .p_vaddr = 0xffffffff80000000,
                .p_paddr = 4 * MIB,
                .p_filesz = 0x400,
                .p_memsz = 0x400,
                .p_align = 4096},
               {.p_type = PT_LOAD,
                .p_flags = PF_R | PF_W,
                .p_offset = offsetof(struct elf64, data) + 0x400,
                .p_vaddr = 0xffffffff80100000,
                .p_paddr = 5 * MIB,
                .p_filesz = 0x300,
                .p_memsz = 0x3000,
                .p_align = 4096},
               {.p_type = PT_NOTE,
                .p_offset = offsetof(struct elf64, note),
                .p_filesz = sizeof e.note,
                .p_memsz = sizeof e.note,
                .p_align = 4}},
        .note = {{.n_namesz = 4, .n_descsz = 8, .n_type = 18}, "Xen", 4 * MIB + 0x20},
    };
    for (unsigned i = 0; i < sizeof e.data; i++)
        e.data[i] = (uint8_t)(i * 31 + 7);
    return e;
}

struct elf32 {
    Elf32_Ehdr eh;
    Elf32_Phdr ph[1];
    uint32_t mb[3];
    uint8_t data[0x100];
};
/* One segment at 2 MiB, and a multiboot header. */
static inline struct elf32 elf32_good(void)
{
    struct elf32 e = {
        .eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_EXEC,
               .e_machine = EM_386,
               .e_version = EV_CURRENT,
               .e_entry = 2 * MIB + 4,
               .e_phoff = offsetof(struct elf32, ph),
               .e_ehsize = sizeof(Elf32_Ehdr),
               .e_phentsize = sizeof(Elf32_Phdr),
               .e_phnum = 1,
               .e_shentsize = sizeof(Elf32_Shdr)},
        .ph = {{.p_type = PT_LOAD,
                .p_flags = PF_R | PF_X,
                .p_offset = offsetof(struct elf32, data),
                .p_vaddr = 2 * MIB,
                .p_paddr = 2 * MIB,
                .p_filesz = 0x100,
                .p_memsz = 0x1000,
                .p_align = 4}},
        .mb = {0x1badb002, 3, (uint32_t) - (0x1badb002 + 3)},
    };
    for (unsigned i = 0; i < sizeof e.data; i++)
        e.data[i] = (uint8_t)(i * 13 + 1);
    return e;
}

#endif
