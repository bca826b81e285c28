/* SPDX-License-Identifier: MIT
 * Memory for generated code: the same pages mapped twice, once writable and once
 * executable, so that none is ever both. */
#ifndef BASE_CODE_MEM_H
#define BASE_CODE_MEM_H

#include <stddef.h>
#include <stdint.h>

struct code_mem {
    uint8_t *write;
    const uint8_t *exec;
    size_t size, reached;
};

/* name: what the host's tools call the memory; NULL: none, as perf needs it to look in
 * its map. VC_EPERM: the host refuses executable memory; VC_ENOMEM: it has none. */
int code_mem_new(struct code_mem *m, size_t size, const char *name);
/* Before the first `upto` bytes are used: has their pages come many at once, as one
 * fault for each, on either side, costs more. Optional. */
void code_mem_reach(struct code_mem *m, size_t upto);
/* Of what was never made, too: {0}. */
void code_mem_free(struct code_mem *m);

#endif
