/* SPDX-License-Identifier: MIT
 * Unpacks the kernel inside a bzImage on the host, which is much faster than the
 * guest's own unpacker under emulation. */
#ifndef BOOT_PAYLOAD_H
#define BOOT_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_MAX (512ull << 20) /* unpacked: more is no kernel */

/* "gzip", "xz", "LZ4"...; NULL: by the first bytes it is none that kernels use. */
const char *payload_format(const uint8_t *in, size_t len);
/* Can this build unpack it? By the first bytes: gzip, xz, LZ4 (legacy frame),
 * zstd. */
bool payload_known(const uint8_t *in, size_t len);

/* Unpacks into memory that the caller gives to payload_free. A kernel's payload ends with its
 * unpacked size in 4 bytes; more than cap is refused. VC_EFORMAT, VC_ENOMEM. */
int payload_unpack(const uint8_t *in, size_t len, size_t cap, uint8_t **out, size_t *out_len);
/* The kernel itself of an image that may be a bzImage: *kernel is in the image or, when
 * *unpacked is not NULL, that memory, for payload_free. */
int payload_kernel(const uint8_t *image, size_t len, size_t cap, const uint8_t **kernel,
                   size_t *kernel_len, uint8_t **unpacked);
void payload_free(uint8_t *out, size_t len);

#endif
