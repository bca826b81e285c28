/* SPDX-License-Identifier: MIT
 * vc_inspect() on hostile images. The input is a disk of zeroes and what is written there, so
 * that mutations reach file systems without megabytes of input: a byte for the size, in 4 KiB,
 * then pieces of offset (3 bytes), length (2 bytes) and so many bytes. With a size of 0 the
 * rest is the image as it stands. Reports must be whole: each answer has a reason, no text
 * has anything in it that a terminal would obey. */
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t disk[255 << 12];

static size_t make_disk(const uint8_t *data, size_t size)
{
    size_t len = (size_t)data[0] << 12, at = 1;
    memset(disk, 0, len);
    while (size - at >= 5) {
        size_t to = data[at] | (size_t)data[at + 1] << 8 | (size_t)data[at + 2] << 16;
        size_t n = data[at + 3] | (size_t)data[at + 4] << 8;
        at += 5;
        n = n < size - at ? n : size - at;
        if (to < len)
            memcpy(disk + to, data + at, n < len - to ? n : len - to);
        at += n;
    }
    return len;
}

static void text(const char *s)
{
    if (!s)
        abort();
    for (; *s; s++)
        if (*s < ' ' || *s > '~')
            abort();
}

static void check_verdicts(const vc_report *r, uint32_t kernel)
{
    const char *line;
    for (uint32_t virt = VC_VIRT_HVM; virt <= VC_VIRT_PVH; virt++) {
        struct vc_report_virt v = {.size = sizeof v};
        if (vc_report_virt(r, kernel, virt, &v) || v.answer > VC_ANSWER_UNKNOWN || !v.reasons ||
            (v.answer == VC_ANSWER_YES) != (v.start != VC_START_NONE) ||
            (v.startable && v.answer != VC_ANSWER_YES))
            abort();
        for (uint32_t i = 0; i < v.reasons; i++)
            text(vc_report_reason(r, kernel, virt, i));
    }
    for (uint32_t i = 0; (line = vc_report_fact(r, kernel, i)); i++)
        text(line);
}

static void check(const vc_report *r)
{
    struct vc_report_info info = {.size = sizeof info};
    if (vc_report_info(r, &info))
        abort();
    text(info.what);
    check_verdicts(r, VC_REPORT_FILE);
    for (uint32_t i = 0; i < info.parts; i++) {
        struct vc_report_part p = {.size = sizeof p};
        if (vc_report_part(r, i, &p) || p.start > info.bytes || p.bytes > info.bytes - p.start)
            abort();
        text(p.name), text(p.type), text(p.label), text(p.fs);
    }
    for (uint32_t i = 0; i < info.kernels; i++) {
        struct vc_report_kernel k = {.size = sizeof k};
        if (vc_report_kernel(r, i, &k))
            abort();
        text(k.name), text(k.version), text(k.packed);
        check_verdicts(r, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct vc_inspect_opts opts = {.size = sizeof opts, .bytes = data + 1, .len = size - 1};
    uint8_t *copy = NULL;
    if (data[0]) {
        /* Of its own, so that a sanitizer sees each read behind it. */
        opts.len = make_disk(data, size);
        opts.bytes = copy = malloc(opts.len);
        memcpy(copy, disk, opts.len);
    }
    vc_report *r = vc_inspect(&opts);
    if (r)
        check(r);
    else if (vc_errcode() != VC_ENOMEM)
        abort();
    vc_report_free(r);
    free(copy);
    return 0;
}
