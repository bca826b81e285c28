/* SPDX-License-Identifier: MIT
 * Requests as they are in a ring, for the two ABIs. The structures of the header are
 * x86_64's; x86_32 leaves out the four bytes that align the 64-bit numbers. */
#ifndef PV_BLKIF_ABI_H
#define PV_BLKIF_ABI_H

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdbool.h>
#include <string.h>
#include <xen/io/blkif.h>

#define BLKIF_REQ_64 112u
#define BLKIF_REQ_32 108u
#define BLKIF_GAP_AT 4u /* where x86_32 lacks 4 bytes */

_Static_assert(sizeof(struct blkif_request) == BLKIF_REQ_64, "x86_64's layout");
_Static_assert(sizeof(union blkif_sring_entry) == BLKIF_REQ_64, "x86_64's layout");
_Static_assert(sizeof(struct blkif_response) == 16, "x86_64's layout");

union blkif_any {
    uint8_t bytes[BLKIF_REQ_64];
    struct blkif_request rw;
    struct blkif_request_discard discard;
    struct blkif_request_indirect indirect;
};

static inline uint32_t blkif_entry(bool abi32)
{
    return abi32 ? BLKIF_REQ_32 : BLKIF_REQ_64;
}

/* An entry's bytes, as they came from the ring, become x86_64's. */
static inline void blkif_widen(union blkif_any *r, bool abi32)
{
    if (abi32) {
        memmove(r->bytes + BLKIF_GAP_AT + 4, r->bytes + BLKIF_GAP_AT, BLKIF_REQ_32 - BLKIF_GAP_AT);
        memset(r->bytes + BLKIF_GAP_AT, 0, 4);
    }
}

/* A response's bytes: x86_32's are the same without the padding at the end. */
static inline uint32_t blkif_rsp_len(bool abi32)
{
    return abi32 ? 12 : 16;
}

#endif
