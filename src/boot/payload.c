/* SPDX-License-Identifier: MIT
 * Unpacks the kernel inside a bzImage. The unpacked size is known beforehand, so
 * that every format works from one buffer into another and a lying stream ends
 * with the output buffer. */
#include "payload.h"
#include "linux_setup.h"
#include "../base/err.h"
#include "../base/pages.h"
#include "../base/util.h"
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LZMA
#include <lzma.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

/* Writes exactly out_len bytes, or returns false and what went wrong. */
typedef bool unpack_fn(const uint8_t *in, size_t len, uint8_t *out, size_t out_len,
                       const char **why);

#ifdef HAVE_ZLIB
static bool unpack_gzip(const uint8_t *in, size_t len, uint8_t *out, size_t out_len,
                        const char **why)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)len,
                  .next_out = out,
                  .avail_out = (uInt)out_len};
    if (len > UINT32_MAX || out_len > UINT32_MAX || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        *why = "zlib cannot start";
        return false;
    }
    int rc = inflate(&z, Z_FINISH);
    bool ok = rc == Z_STREAM_END && z.avail_out == 0;
    if (!ok)
        *why = rc == Z_STREAM_END   ? "it is shorter than it says"
               : rc == Z_DATA_ERROR ? "damaged data"
                                    : "truncated, or longer than it says";
    inflateEnd(&z);
    return ok;
}
#endif

#ifdef HAVE_LZMA
#define XZ_MEMORY_MAX (256ull << 20) /* kernels use dictionaries of 32 MiB to 128 MiB */
static bool unpack_xz(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, const char **why)
{
    uint64_t memory = XZ_MEMORY_MAX;
    size_t in_pos = 0, out_pos = 0;
    lzma_ret rc =
        lzma_stream_buffer_decode(&memory, 0, NULL, in, &in_pos, len, out, &out_pos, out_len);
    switch (rc) {
    case LZMA_OK: break;
    case LZMA_MEM_ERROR: *why = "the host has no memory for its dictionary"; return false;
    case LZMA_MEMLIMIT_ERROR: *why = "its dictionary is larger than 256 MiB"; return false;
    case LZMA_OPTIONS_ERROR: *why = "it uses filters that liblzma does not know"; return false;
    case LZMA_BUF_ERROR: *why = "truncated, or longer than it says"; return false;
    default: *why = "damaged data"; return false;
    }
    *why = "it is shorter than it says";
    return out_pos == out_len;
}
#endif

#ifdef HAVE_LZ4
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20)
/* The legacy frame: magic, then blocks of 8 MiB, each behind its packed size; the
 * last block is shorter. A new magic may come between. */
static bool unpack_lz4(const uint8_t *in, size_t len, uint8_t *out, size_t out_len,
                       const char **why)
{
    size_t at = 0, done = 0;
    len -= 4; /* the unpacked size */
    while (done < out_len) {
        if (len - at < 4) {
            *why = "truncated";
            return false;
        }
        uint32_t packed = get_le32(in + at);
        at += 4;
        if (packed == LZ4_LEGACY_MAGIC)
            continue;
        if (packed == 0 || packed > len - at || packed > INT32_MAX) {
            *why = "a block is longer than the rest of it";
            return false;
        }
        int n = LZ4_decompress_safe((const char *)in + at, (char *)out + done, (int)packed,
                                    (int)min_u64(out_len - done, LZ4_LEGACY_BLOCK));
        if (n <= 0) {
            *why = "damaged data";
            return false;
        }
        at += packed;
        done += (size_t)n;
    }
    return true;
}
#endif

#ifdef HAVE_ZSTD
static bool unpack_zstd(const uint8_t *in, size_t len, uint8_t *out, size_t out_len,
                        const char **why)
{
    /* The size behind the frame is no frame: cut it off. */
    size_t frame = ZSTD_findFrameCompressedSize(in, len);
    size_t n = ZSTD_isError(frame) ? frame : ZSTD_decompress(out, out_len, in, frame);
    if (ZSTD_isError(n)) {
        *why = ZSTD_getErrorName(n);
        return false;
    }
    *why = "it is shorter than it says";
    return n == out_len;
}
#endif

/* What this build has no library for. */
#ifndef HAVE_ZLIB
#define unpack_gzip NULL
#endif
#ifndef HAVE_LZMA
#define unpack_xz NULL
#endif
#ifndef HAVE_LZ4
#define unpack_lz4 NULL
#endif
#ifndef HAVE_ZSTD
#define unpack_zstd NULL
#endif

static const struct format {
    const char *name;
    uint8_t magic[6];
    uint8_t magic_len;
    unpack_fn *unpack;
} formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {"LZ4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {"bzip2", {'B', 'Z', 'h'}, 3, NULL},
    {"LZMA", {0x5d, 0, 0}, 3, NULL},
    {"LZO", {0x89, 'L', 'Z', 'O', 0, 0x0d}, 6, NULL},
    {NULL, {0}, 0, NULL},
};

static const struct format *find(const uint8_t *in, size_t len)
{
    for (const struct format *f = formats; f->name; f++)
        if (len > f->magic_len + 4u && memcmp(in, f->magic, f->magic_len) == 0)
            return f;
    return NULL;
}

const char *payload_format(const uint8_t *in, size_t len)
{
    const struct format *f = find(in, len);
    return f ? f->name : NULL;
}

bool payload_known(const uint8_t *in, size_t len)
{
    const struct format *f = find(in, len);
    return f && f->unpack;
}

int payload_unpack(const uint8_t *in, size_t len, size_t cap, uint8_t **out, size_t *out_len)
{
    const struct format *f = find(in, len);
    if (!f || !f->unpack)
        return err_set(VC_ENOTSUP,
                       "the kernel's payload is packed %s, which this library cannot "
                       "unpack",
                       f ? f->name : "in an unknown format");
    size_t size = get_le32(in + len - 4);
    if (size == 0 || size > cap)
        return err_set(VC_EFORMAT,
                       "the kernel's %s payload says that it unpacks to %zu bytes; it has room for "
                       "%zu",
                       f->name, size, cap);
    uint8_t *buf = pages_new(size);
    if (!buf)
        return err_set(VC_ENOMEM, "the host has no memory for the unpacked kernel of %zu bytes",
                       size);
    const char *why = "";
    if (!f->unpack(in, len, buf, size, &why)) {
        pages_free(buf, size);
        return err_set(VC_EFORMAT, "the kernel's %s payload does not unpack: %s", f->name, why);
    }
    *out = buf;
    *out_len = size;
    return 0;
}

int payload_kernel(const uint8_t *image, size_t len, size_t cap, const uint8_t **kernel,
                   size_t *kernel_len, uint8_t **unpacked)
{
    const uint8_t *packed;
    size_t packed_len;
    *kernel = image;
    *kernel_len = len;
    *unpacked = NULL;
    if (!linux_match(image, len))
        return 0;
    int rc = linux_payload(image, len, &packed, &packed_len);
    if (!rc)
        rc = payload_unpack(packed, packed_len, cap, unpacked, kernel_len);
    *kernel = *unpacked;
    return rc;
}

void payload_free(uint8_t *out, size_t len)
{
    pages_free(out, len);
}
