/* SPDX-License-Identifier: MIT
 * Where instructions come from. */
#ifndef EMU_FETCH_H
#define EMU_FETCH_H

#include "emu.h"

struct fetch {
    const uint8_t *host;             /* of the byte asked for */
    const struct mem_region *region; /* NULL: no executable RAM there */
    uint64_t gpa;
};

/* Translates for fetching at the current privilege; raises #PF, or #GP when not
 * canonical. */
void fetch_translate(struct emu *c, uint64_t lin, struct fetch *f);
/* CS limit for `bytes` from c->rip, outside 64-bit mode; raises #GP(0). */
void fetch_check_cs(struct emu *c, unsigned bytes);

#endif
