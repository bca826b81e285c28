/* SPDX-License-Identifier: MIT
 * ELF with a PVH note, with a multiboot header, with neither; a.out addresses;
 * raw code. */
#include "boot_images.h"
#include <stdio.h>

TestSuite(images, .init = guest_setup, .fini = guest_teardown);

/* ---- PVH ---------------------------------------------------------------------------- */

static void expect_segments(const struct elf64 *e)
{
    cr_expect(guest_is(4 * MIB, e->data, 0x400));
    cr_expect(guest_is(5 * MIB, e->data + 0x400, 0x300));
    static const uint8_t zero[0x2d00];
    cr_expect(guest_is(5 * MIB + 0x300, zero, sizeof zero));
}

Test(images, pvh)
{
    struct elf64 e = elf64_good();
    memset(mem_ptr(&mem, 5 * MIB, 0x3000), 0xcc, 0x3000);
    opts.cmdline = "one two";
    opts.initrd = "initrd";
    opts.initrd_len = 6;
    ACCEPTED(&e, sizeof e);
    expect_segments(&e);
    expect_flat32();
    cr_expect_eq(st.gprs.rip, 4 * MIB + 0x20);
    uint64_t si = st.gprs.gpr[3];
    cr_expect_eq(guest32(si), 0x336ec578);
    cr_expect_eq(guest32(si + 4), 1);
    cr_expect_eq(guest32(si + 12), 1);
    uint64_t mod = guest64(si + 16);
    cr_expect_eq(guest64(mod), LOW_RAM - 4096);
    cr_expect_eq(guest64(mod + 8), 6);
    cr_expect(guest_is(LOW_RAM - 4096, "initrd", 6));
    cr_expect(guest_is(guest64(si + 24), "one two", 8));
    cr_expect_eq(guest64(si + 32), 0xf0000);
    uint64_t map = guest64(si + 40);
    cr_expect_eq(guest32(si + 48), 3);
    const uint64_t want[3][3] = {
        {0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {0x100000, LOW_RAM - MIB, 1}};
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(guest64(map + 24 * i), want[i][0]);
        cr_expect_eq(guest64(map + 24 * i + 8), want[i][1]);
        cr_expect_eq(guest32(map + 24 * i + 16), want[i][2]);
    }
    opts.initrd_len = 0;
    ACCEPTED(&e, sizeof e);
    si = st.gprs.gpr[3];
    cr_expect_eq(guest32(si + 12), 0);
    cr_expect_eq(guest64(si + 16), 0);
}

Test(images, pvh_note_of_32_bits_and_others_before_it)
{
    struct elf64 e = elf64_good();
    e.note.nh.n_descsz = 4;
    e.note.desc = 4 * MIB + 0x30;
    e.ph[2].p_filesz -= 4;
    ACCEPTED(&e, sizeof e);
    cr_expect_eq(st.gprs.rip, 4 * MIB + 0x30);

    const uint32_t notes[] = {4,          4, 18, 0x00554e47, 7,  4,          4,      17,
                              0x006e6558, 9, 4,  4,          18, 0x006e6558, 4 * MIB};
    memcpy(e.data + 0x700, notes, sizeof notes);
    e.ph[2].p_offset = offsetof(struct elf64, data) + 0x700;
    e.ph[2].p_filesz = sizeof notes;
    ACCEPTED(&e, sizeof e);
    cr_expect_eq(st.gprs.rip, 4 * MIB);
}

Test(images, elf_refusals)
{
    struct elf64 e;
#define BAD(field, value, code, words)                                                             \
    do {                                                                                           \
        e = elf64_good();                                                                          \
        e.field = value;                                                                           \
        REFUSED(&e, sizeof e, code, words);                                                        \
    } while (0)
    opts.kind = VC_IMAGE_PVH;
    BAD(eh.e_ident[0], 0, VC_EFORMAT, "not an ELF");
    BAD(eh.e_ident[EI_CLASS], 7, VC_EFORMAT, "");
    BAD(eh.e_ident[EI_DATA], ELFDATA2MSB, VC_EFORMAT, "");
    BAD(eh.e_machine, EM_AARCH64, VC_EFORMAT, "not for x86");
    BAD(eh.e_type, ET_REL, VC_EFORMAT, "not an executable");
    BAD(eh.e_phnum, 0, VC_EFORMAT, "no loadable segment");
    BAD(eh.e_phnum, 0xfffe, VC_EFORMAT, "program header");
    BAD(eh.e_phentsize, 32, VC_EFORMAT, "");
    BAD(eh.e_phoff, UINT64_MAX - 10, VC_EFORMAT, "");
    BAD(eh.e_phoff, sizeof e - 10, VC_EFORMAT, "");
    BAD(eh.e_entry, 0x1234, VC_EFORMAT, "entry");
    BAD(ph[0].p_filesz, 0x401, VC_EFORMAT, "in memory");
    BAD(ph[0].p_offset, sizeof e - 0x3ff, VC_EFORMAT, "behind the image");
    BAD(ph[0].p_offset, UINT64_MAX - 0x3ff, VC_EFORMAT, "behind the image");
    BAD(ph[1].p_memsz, UINT64_MAX, VC_EFORMAT, "wraps");
    BAD(ph[1].p_memsz, LOW_RAM, VC_ERANGE, "not all RAM");
    BAD(ph[1].p_paddr, 4 * MIB + 0x3ff, VC_EFORMAT, "overlaps");
    BAD(ph[1].p_paddr, 0x9d000, VC_ERANGE, "not all RAM");
    BAD(ph[1].p_paddr, 0xff000, VC_ERANGE, "not all RAM");
    BAD(ph[1].p_paddr, LOW_RAM - 0x2fff, VC_ERANGE, "not all RAM");
    BAD(ph[1].p_paddr, 1ull << 46, VC_ERANGE, "not all RAM");
    BAD(ph[2].p_offset, sizeof e - 8, VC_EFORMAT, "notes");
    BAD(ph[2].p_filesz, UINT64_MAX, VC_EFORMAT, "notes");
    BAD(ph[2].p_filesz, 12, VC_EFORMAT, "no PVH entry");
    BAD(note.nh.n_namesz, 0xffffffff, VC_EFORMAT, "no PVH entry");
    BAD(note.nh.n_descsz, 0xffffffff, VC_EFORMAT, "no PVH entry");
    BAD(note.nh.n_descsz, 2, VC_EFORMAT, "not 4 or 8");
    BAD(note.desc, 1ull << 32, VC_EFORMAT, "32-bit");
    BAD(note.desc, 0x1000, VC_EFORMAT, "none of the ELF segments");
#undef BAD
}

/* What the file still has is enough, or it is refused. */
Test(images, elf_truncated_anywhere)
{
    struct elf64 e = elf64_good();
    opts.kind = VC_IMAGE_PVH;
    for (size_t n = 1; n < offsetof(struct elf64, data) + 0x700; n++) {
        int rc = boot(&e, n);
        cr_expect_eq(rc, VC_EFORMAT, "%zu bytes: %d %s", n, rc, vc_errmsg());
    }
    cr_expect(untouched());
    ACCEPTED(&e, offsetof(struct elf64, data) + 0x700);
}

Test(images, each_word_lies)
{
    const uint32_t lies[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff};
    for (size_t off = 0; off < offsetof(struct elf64, data); off += 2)
        for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
            struct elf64 e = elf64_good();
            memcpy((uint8_t *)&e + off, &lies[i], 4);
            boot(&e, sizeof e);
        }
    for (size_t off = 0; off < offsetof(struct elf32, data); off += 2)
        for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
            struct elf32 e = elf32_good();
            memcpy((uint8_t *)&e + off, &lies[i], 4);
            boot(&e, sizeof e);
        }
}

/* ---- plain ELF -------------------------------------------------------------------------- */

Test(images, plain_elf)
{
    struct elf64 e = elf64_good();
    e.eh.e_phnum = 2;
    opts.cmdline = "hello";
    opts.initrd = "abc";
    opts.initrd_len = 3;
    ACCEPTED(&e, sizeof e);
    expect_segments(&e);
    expect_long64();
    cr_expect_eq(st.gprs.rip, 4 * MIB + 0x10, "virtual entry, physical start");
    cr_expect(guest_is(st.gprs.gpr[7], "hello", 6));
    cr_expect(guest_is(st.gprs.gpr[6], "abc", 3));
    cr_expect_eq(st.gprs.gpr[2], 3);
    cr_expect_eq(st.gprs.gpr[4] & 15, 0);
    cr_expect_not_null(mem_ptr(&mem, st.gprs.gpr[4] - 4096, 4096));

    struct elf32 f = elf32_good();
    f.mb[0] = 0;
    opts.initrd_len = 0;
    ACCEPTED(&f, sizeof f);
    expect_flat32();
    cr_expect_eq(st.gprs.rip, 2 * MIB + 4);
    cr_expect(guest_is(2 * MIB, f.data, sizeof f.data));
    cr_expect_eq(st.gprs.gpr[6], 0);
}

/* ---- multiboot --------------------------------------------------------------------------- */

Test(images, multiboot)
{
    struct elf32 e = elf32_good();
    opts.cmdline = "-v 3";
    opts.initrd = "module!";
    opts.initrd_len = 7;
    ACCEPTED(&e, sizeof e);
    expect_flat32();
    cr_expect_eq(st.gprs.rip, 2 * MIB + 4);
    cr_expect_eq(st.gprs.gpr[0], 0x2badb002);
    uint64_t info = st.gprs.gpr[3];
    cr_expect_eq(guest32(info), 0x24d);
    cr_expect_eq(guest32(info + 4), 639);
    cr_expect_eq(guest32(info + 8), (LOW_RAM - MIB) / 1024);
    cr_expect(guest_is(guest32(info + 16), "kernel -v 3", 12));
    cr_expect_eq(guest32(info + 20), 1);
    uint64_t mod = guest32(info + 24);
    cr_expect(guest_is(guest32(mod), "module!", 7));
    cr_expect_eq(guest32(mod + 4) - guest32(mod), 7);
    cr_expect(guest_is(guest32(mod + 8), "initrd", 7));
    cr_expect_eq(guest32(info + 44), 3 * 24);
    uint64_t map = guest32(info + 48);
    cr_expect_eq(guest32(map), 20);
    cr_expect_eq(guest64(map + 48 + 4), 0x100000);
    cr_expect_eq(guest64(map + 48 + 12), LOW_RAM - MIB);
    cr_expect_eq(guest32(map + 48 + 20), 1);
    cr_expect_not_null(mem_ptr(&mem, guest32(info + 64), 1));
    opts.initrd_len = 0;
    opts.cmdline = NULL;
    ACCEPTED(&e, sizeof e);
    info = st.gprs.gpr[3];
    cr_expect_eq(guest32(info), 0x245);
    cr_expect(guest_is(guest32(info + 16), "kernel", 7));
}

/* 0x100 bytes of code behind a header with addresses. */
struct aout {
    uint8_t before[64];
    uint32_t h[8];
    uint8_t code[0x100];
};
#define MB_AT (3 * MIB)
static struct aout aout_good(void)
{
    struct aout a = {.h = {0x1badb002, 0x10003, (uint32_t) - (0x1badb002 + 0x10003),
                           MB_AT + offsetof(struct aout, h), MB_AT, MB_AT + sizeof a - 16,
                           MB_AT + 0x2000, MB_AT + offsetof(struct aout, code) + 8}};
    memset(a.before, 0x11, sizeof a.before);
    memset(a.code, 0x90, sizeof a.code);
    return a;
}

Test(images, multiboot_by_addresses)
{
    struct aout a = aout_good();
    memset(mem_ptr(&mem, MB_AT, 0x2000), 0xcc, 0x2000);
    ACCEPTED(&a, sizeof a);
    cr_expect(guest_is(MB_AT, &a, sizeof a - 16));
    cr_expect_eq(guest64(MB_AT + sizeof a - 16), 0);
    cr_expect_eq(guest64(MB_AT + 0x2000 - 8), 0);
    cr_expect_eq(st.gprs.rip, MB_AT + offsetof(struct aout, code) + 8);

    a.h[3] = MB_AT; /* what is before the header is not loaded */
    a.h[5] = a.h[6] = 0;
    a.h[7] = MB_AT + 32;
    ACCEPTED(&a, sizeof a);
    cr_expect(guest_is(MB_AT, a.h, sizeof a - 64));

#define BAD(i, value, code, words)                                                                 \
    do {                                                                                           \
        a = aout_good();                                                                           \
        a.h[i] = value;                                                                            \
        a.h[2] = (uint32_t) - (a.h[0] + a.h[1]);                                                   \
        REFUSED(&a, sizeof a, code, words);                                                        \
    } while (0)
    BAD(1, 0x10007, VC_ENOTSUP, "video");
    BAD(1, 0x10103, VC_ENOTSUP, "features");
    BAD(1, 3, VC_EFORMAT, "neither ELF");
    BAD(3, MB_AT - 1, VC_EFORMAT, "wants to be at");
    BAD(3, MB_AT + 65, VC_EFORMAT, "wants to be at");
    BAD(4, MB_AT - 1, VC_EFORMAT, "wants to be at");
    BAD(5, MB_AT - 1, VC_EFORMAT, "to be loaded from");
    BAD(5, MB_AT + sizeof a + 1, VC_EFORMAT, "to be loaded from");
    BAD(6, MB_AT + 16, VC_EFORMAT, "bss");
    BAD(6, 0xffffffff, VC_ERANGE, "not all RAM");
    BAD(7, MB_AT + 0x2000, VC_EFORMAT, "entry");
#undef BAD
    for (size_t n = 1; n < sizeof a - 16; n++) {
        a = aout_good();
        cr_expect_eq(boot(&a, n), VC_EFORMAT);
    }
    a.h[2]++; /* the checksum is what makes it a header */
    REFUSED(&a, sizeof a, VC_EFORMAT, "no bzImage, ELF or multiboot");
    opts.kind = VC_IMAGE_MULTIBOOT;
    REFUSED(&a, sizeof a, VC_EFORMAT, "no multiboot header");
}

Test(images, multiboot_header_reach)
{
    static uint8_t file[16384];
    const uint32_t h[3] = {0x1badb002, 0, (uint32_t)-0x1badb002};
    struct elf32 e = elf32_good();
    memset(e.mb, 0, sizeof e.mb);
    memcpy(file, &e, sizeof e);
    opts.kind = VC_IMAGE_MULTIBOOT;
    memcpy(file + 8192 - 12, h, 12);
    ACCEPTED(file, sizeof file);
    memset(file + 8192 - 12, 0, 12);
    memcpy(file + 8192 - 8, h, 12);
    REFUSED(file, sizeof file, VC_EFORMAT, "no multiboot header");
    memset(file + 8192 - 8, 0, 12);
    memcpy(file + 4098, h, 12); /* not at a multiple of 4 */
    REFUSED(file, sizeof file, VC_EFORMAT, "no multiboot header");
}

/* Low memory belongs to the image first: what the loader adds goes elsewhere. */
Test(images, multiboot_in_low_memory)
{
    struct elf32 e = elf32_good();
    e.ph[0].p_paddr = e.ph[0].p_vaddr = 0x1000;
    e.ph[0].p_memsz = 0x90000;
    e.eh.e_entry = 0x1004;
    ACCEPTED(&e, sizeof e);
    cr_expect_geq(st.gprs.gpr[3], 0x91000);
    cr_expect_geq(st.sregs.gdt_base, 0x91000);
    e.ph[0].p_memsz = 0x9fc00 - 0x1000;
    REFUSED(&e, sizeof e, VC_ERANGE, "finds no free RAM");
}

/* ---- flat, and the options ------------------------------------------------------------------ */

Test(images, flat)
{
    const uint8_t code[] = {0xb0, 0x2a, 0xf4};
    REFUSED(code, sizeof code, VC_EFORMAT, "VC_IMAGE_FLAT");
    opts.kind = VC_IMAGE_FLAT;
    ACCEPTED(code, sizeof code);
    expect_long64();
    cr_expect_eq(st.gprs.rip, 0x100000);
    cr_expect(guest_is(0x100000, code, sizeof code));
    void *big = calloc(1, LOW_RAM);
    REFUSED(big, LOW_RAM, VC_ERANGE, "not all RAM");
    free(big);
}

Test(images, options)
{
    const uint8_t code[] = {0xf4};
    opts.kind = VC_IMAGE_FLAT;
    REFUSED(code, 0, VC_EINVAL, "no kernel image");
    opts.kind = 6;
    REFUSED(code, 1, VC_EINVAL, "unknown");
    opts.kind = VC_IMAGE_FLAT;
    opts.initrd_len = 1;
    REFUSED(code, 1, VC_EINVAL, "initrd");
    opts.initrd = code;
    opts.initrd_len = SIZE_MAX;
    REFUSED(code, 1, VC_ERANGE, "no RAM");
    opts.initrd_len = MEM_GPA_MAX;
    REFUSED(code, 1, VC_ERANGE, "the initrd");
    opts.initrd_len = 0;
    char line[2049];
    memset(line, 'x', sizeof line);
    line[2048] = 0;
    opts.cmdline = line;
    REFUSED(code, 1, VC_ERANGE, "command line");
    line[2047] = 0;
    ACCEPTED(code, 1);
    cr_expect(guest_is(st.gprs.gpr[7], line, 2048));
    ram.low = 512 * KIB;
    REFUSED(code, 1, VC_ERANGE, "1 MiB");
}
