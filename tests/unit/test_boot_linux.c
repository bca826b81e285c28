/* SPDX-License-Identifier: MIT
 * bzImage: good ones, old ones, truncated and lying ones. */
#include "boot_images.h"
#include "boot_payloads.h"
#include "boot/payload.h"

TestSuite(bzimage, .init = guest_setup, .fini = guest_teardown);

#define SETUP_LEN 1024u
#define CODE_HEAD 0x240u /* of the protected-mode part, before the payload */

static uint8_t img[8192];
static size_t img_len;

static void put(unsigned off, unsigned size, uint64_t v)
{
    memcpy(img + off, &v, size);
}

/* As a current 64-bit Debian kernel's header, around a payload. */
static void make(const uint8_t *payload, size_t n)
{
    memset(img, 0, sizeof img);
    put(0x1f1, 1, SETUP_LEN / 512 - 1);
    put(0x1fe, 2, 0xaa55);
    put(0x200, 2, 0x6aeb); /* the header ends at 0x26c */
    memcpy(img + 0x202, "HdrS", 4);
    put(0x206, 2, 0x20f);
    put(0x211, 1, 1);
    put(0x214, 4, 0x100000);
    put(0x22c, 4, 0x7fffffff);
    put(0x230, 4, 0x200000);
    put(0x234, 1, 1);
    put(0x235, 1, 0x15);
    put(0x236, 2, 0x3);
    put(0x238, 4, 2047);
    put(0x248, 4, CODE_HEAD);
    put(0x24c, 4, n);
    put(0x250, 8, 0x4141414141414141); /* setup_data: not the image's to give */
    put(0x258, 8, 0x1000000);
    put(0x260, 4, 0x800000);
    for (unsigned i = 0; i < CODE_HEAD; i++)
        img[SETUP_LEN + i] = (uint8_t)(i ^ 0x5a);
    memcpy(img + SETUP_LEN + CODE_HEAD, payload, n);
    img_len = (SETUP_LEN + CODE_HEAD + n + 15) & ~15ull;
    put(0x1f4, 4, (img_len - SETUP_LEN) / 16);
}

static const uint8_t unknown[16] = "unknown format";
static void make_unknown(void)
{
    make(unknown, sizeof unknown);
}

static bool payload_loaded(void)
{
    const uint8_t *p = mem_ptr(&mem, PAYLOAD_AT, PAYLOAD_MEMSZ);
    for (unsigned i = 0; i < PAYLOAD_MEMSZ; i++)
        if (p[i] != (i < PAYLOAD_LEN ? PAYLOAD_BYTE(i) : 0))
            return false;
    return true;
}

Test(bzimage, unpacks_each_format)
{
    const struct {
        const uint8_t *p;
        size_t n;
    } all[] = {{payload_gzip, sizeof payload_gzip},
               {payload_xz, sizeof payload_xz},
               {payload_lz4, sizeof payload_lz4},
               {payload_zstd, sizeof payload_zstd}};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        memset(mem_ptr(&mem, PAYLOAD_AT, PAYLOAD_MEMSZ), 0xcc, PAYLOAD_MEMSZ);
        make(all[i].p, all[i].n);
        ACCEPTED(img, img_len);
        if (!payload_known(all[i].p, all[i].n)) {
            cr_expect_eq(st.gprs.rip, 0x1000200);
            continue;
        }
        cr_expect_eq(st.gprs.rip, PAYLOAD_ENTRY);
        cr_expect(payload_loaded());
        expect_long64();
    }
}

Test(bzimage, fills_the_boot_parameters)
{
    make(payload_gzip, sizeof payload_gzip);
    opts.cmdline = "console=ttyS0 quiet";
    opts.initrd = "an initrd";
    opts.initrd_len = 9;
    ACCEPTED(img, img_len);
    uint64_t bp = st.gprs.gpr[6];
    cr_expect_eq(bp & 4095, 0);
    cr_expect_lt(bp, 0x9fc00);
    uint8_t z[4096];
    read_guest(bp, z, sizeof z);
    cr_expect_eq(memcmp(z + 0x202, "HdrS", 4), 0);
    cr_expect_eq(z[0x210], 0xff);
    cr_expect_eq(z[0x1ef], 0, "sentinel");
    cr_expect_eq(get_le64(z + 0x250), 0);
    cr_expect_eq(get_le64(z + 0x70), 0xf0000);
    cr_expect_eq(get_le64(z + 0x258), 0x1000000);
    cr_expect(guest_is(get_le32(z + 0x228), "console=ttyS0 quiet", 20));
    cr_expect_eq(get_le32(z + 0x218), LOW_RAM - 4096);
    cr_expect_eq(get_le32(z + 0x21c), 9);
    cr_expect(guest_is(LOW_RAM - 4096, "an initrd", 9));
    cr_expect_eq(z[0x1e8], 3);
    const uint64_t want[3][3] = {
        {0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {0x100000, LOW_RAM - MIB, 1}};
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(get_le64(z + 0x2d0 + 20 * i), want[i][0]);
        cr_expect_eq(get_le64(z + 0x2d8 + 20 * i), want[i][1]);
        cr_expect_eq(get_le32(z + 0x2e0 + 20 * i), want[i][2]);
    }
    cr_expect_eq(st.sregs.cs.selector, 0x10);
    cr_expect_eq(st.sregs.ds.selector, 0x18);
}

Test(bzimage, unknown_payloads_unpack_in_the_guest)
{
    make_unknown();
    ACCEPTED(img, img_len);
    cr_expect_eq(st.gprs.rip, 0x1000200);
    cr_expect(guest_is(0x1000000, img + SETUP_LEN, img_len - SETUP_LEN));
    cr_expect_eq(guest32(st.gprs.gpr[6] + 0x214), 0x1000000);
    expect_long64();

    put(0x234, 1, 0); /* not relocatable: at its one place */
    ACCEPTED(img, img_len);
    cr_expect_eq(st.gprs.rip, 0x100200);

    put(0x236, 2, 0); /* 32-bit */
    ACCEPTED(img, img_len);
    cr_expect_eq(st.gprs.rip, 0x100000);
    expect_flat32();

    make_unknown(); /* protocol 2.06: nothing of the later fields counts */
    put(0x206, 2, 0x206);
    put(0x200, 2, 0x3aeb);
    memset(img + 0x23c, 0xff, 0x30);
    ACCEPTED(img, img_len);
    cr_expect_eq(st.gprs.rip, 0x100000);
    expect_flat32();
}

Test(bzimage, initrd_goes_where_it_may)
{
    make_unknown();
    opts.initrd = img;
    opts.initrd_len = 5000;
    put(0x22c, 4, 0x100fff);
    REFUSED(img, img_len, VC_ERANGE, "the initrd");
    put(0x22c, 4, 0x1ffffff);
    ACCEPTED(img, img_len);
    cr_expect_eq(guest32(st.gprs.gpr[6] + 0x218), 0x2000000 - 8192);
    /* Room only below the kernel. */
    put(0x22c, 4, 0x17fffff);
    opts.initrd_len = 4096;
    ACCEPTED(img, img_len);
    cr_expect_eq(guest32(st.gprs.gpr[6] + 0x218), 0x1000000 - 4096);
    /* Room only above 4 GiB. */
    cr_assert_eq(mem_add(&mem, 1ull << 32, 64 * MIB, VC_MEM_RWX, NULL), 0);
    ram.high = 64 * MIB;
    void *big = calloc(1, 50 * MIB);
    memcpy(big, "big", 3);
    opts.initrd = big;
    opts.initrd_len = 50 * MIB;
    ACCEPTED(img, img_len);
    uint64_t bp = st.gprs.gpr[6];
    uint64_t at = guest32(bp + 0x218) | (uint64_t)guest32(bp + 0xc0) << 32;
    cr_expect_eq(at, (1ull << 32) + 14 * MIB);
    cr_expect(guest_is(at, "big", 3));
    cr_expect_eq(guest32(bp + 0x1e8) & 0xff, 4);
    put(0x236, 2, 1); /* the kernel does not take it there */
    REFUSED(img, img_len, VC_ERANGE, "the initrd");
    free(big);
}

Test(bzimage, truncated_anywhere)
{
    make(payload_gzip, sizeof payload_gzip);
    size_t needed = img_len - 15; /* the size counts paragraphs */
    opts.kind = VC_IMAGE_BZIMAGE;
    for (size_t n = 1; n < needed; n++) {
        int rc = boot(img, n);
        cr_expect_eq(rc, VC_EFORMAT, "%zu of %zu bytes: %d %s", n, img_len, rc, vc_errmsg());
    }
    cr_expect(untouched());
}

Test(bzimage, each_field_lies)
{
    const uint32_t lies[] = {0, 1, 15, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
    for (unsigned off = 0x1f0; off < 0x26c; off++)
        for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
            make(payload_gzip, sizeof payload_gzip);
            put(off, 4, lies[i]);
            boot(img, img_len);
            make_unknown();
            put(off, 4, lies[i]);
            boot(img, img_len);
        }
}

Test(bzimage, refuses_with_a_sentence)
{
#define BAD(off, size, v, code, words)                                                             \
    do {                                                                                           \
        make_unknown();                                                                            \
        put(off, size, v);                                                                         \
        REFUSED(img, img_len, code, words);                                                        \
    } while (0)
    opts.kind = VC_IMAGE_BZIMAGE;
    BAD(0x1fe, 2, 0, VC_EFORMAT, "no Linux setup header");
    BAD(0x202, 4, 0, VC_EFORMAT, "no Linux setup header");
    BAD(0x206, 2, 0x205, VC_EFORMAT, "protocol 2.05");
    BAD(0x201, 1, 0x10, VC_EFORMAT, "too early");
    BAD(0x1f1, 1, 200, VC_EFORMAT, "truncated");
    BAD(0x1f4, 4, 0x1000, VC_EFORMAT, "truncated");
    BAD(0x211, 1, 0, VC_EFORMAT, "zImage");
    BAD(0x248, 4, 0xffffffff, VC_EFORMAT, "payload");
    BAD(0x24c, 4, 0xffffffff, VC_EFORMAT, "payload");
    BAD(0x230, 4, 0x300000, VC_EFORMAT, "power of two");
    BAD(0x230, 4, 0, VC_EFORMAT, "power of two");
    BAD(0x258, 8, 0x1100000, VC_EFORMAT, "alignment");
    BAD(0x258, 8, 0x10000, VC_EFORMAT, "between 1 MiB");
    BAD(0x258, 8, 0xfffffffffff00000, VC_EFORMAT, "between 1 MiB");
    BAD(0x258, 8, 0x10000000, VC_ERANGE, "not all RAM");
    BAD(0x260, 4, 0xffffffff, VC_ERANGE, "not all RAM");
    opts.cmdline = "0123456789";
    BAD(0x238, 4, 9, VC_ERANGE, "command line");
}

Test(bzimage, refuses_bad_payloads)
{
    const struct {
        const uint8_t *p;
        size_t n;
    } all[] = {{payload_gzip, sizeof payload_gzip},
               {payload_xz, sizeof payload_xz},
               {payload_lz4, sizeof payload_lz4},
               {payload_zstd, sizeof payload_zstd}};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        uint8_t bad[1024];
        size_t n = all[i].n;
        if (!payload_known(all[i].p, n))
            continue;
        memcpy(bad, all[i].p, n);
        put_le32(bad + n - 4, 0x7fffffff);
        make(bad, n);
        REFUSED(img, img_len, VC_EFORMAT, "room");
        put_le32(bad + n - 4, 0);
        make(bad, n);
        REFUSED(img, img_len, VC_EFORMAT, "room");
        put_le32(bad + n - 4, 0x501);
        make(bad, n);
        REFUSED(img, img_len, VC_EFORMAT, "does not unpack");
        put_le32(bad + n - 4, 0x4ff);
        make(bad, n);
        REFUSED(img, img_len, VC_EFORMAT, "does not unpack");
        /* Each byte of the stream flipped: refused, or harmless. */
        for (size_t at = 8; at < n; at++) {
            memcpy(bad, all[i].p, n);
            bad[at] ^= 0x41;
            make(bad, n);
            boot(img, img_len);
        }
        /* Cut short, the size put behind. */
        for (size_t cut = 16; cut < n; cut += 7) {
            memcpy(bad, all[i].p, n);
            put_le32(bad + cut - 4, 0x500);
            make(bad, cut);
            REFUSED(img, img_len, VC_EFORMAT, "does not unpack");
        }
    }
}

Test(bzimage, refuses_a_kernel_that_unpacks_elsewhere)
{
    if (!payload_known(payload_gzip, sizeof payload_gzip))
        cr_skip("built without zlib");
    make(payload_gzip, sizeof payload_gzip);
    put(0x258, 8, 0x1200000);
    REFUSED(img, img_len, VC_EFORMAT, "outside");
    make(payload_gzip, sizeof payload_gzip);
    put(0x260, 4, 0x1fff);
    REFUSED(img, img_len, VC_EFORMAT, "outside");
    put(0x260, 4, 0x2000);
    ACCEPTED(img, img_len);
}
