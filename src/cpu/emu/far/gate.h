/* SPDX-License-Identifier: MIT
 * Gates: call gates, and those of the interrupt descriptor table (SDM 5.8.3,
 * 6.11, 6.14.1). */
#ifndef EMU_GATE_H
#define EMU_GATE_H

#include "seg.h"

struct gate {
    uint64_t off;
    uint16_t sel;
    uint8_t type; /* SYS_* */
    uint8_t dpl;
    uint8_t params; /* call gates outside long mode: words or doublewords to copy */
    uint8_t ist;    /* interrupt and trap gates in long mode; 0: none */
    bool present;
};

/* upper: the second half, 0 where descriptors have eight bytes. */
static inline struct gate gate_unpack(uint64_t raw, uint64_t upper)
{
    bool narrow = !(raw >> 43 & 1); /* 16-bit gates: the upper words are reserved */

    return (struct gate){
        .off = (raw & 0xffff) | (narrow ? 0 : (raw >> 32 & 0xffff0000) | upper << 32),
        .sel = (uint16_t)(raw >> 16),
        .type = raw >> 40 & 15,
        .dpl = raw >> 45 & 3,
        .params = raw >> 32 & 31,
        .ist = raw >> 32 & 7,
        .present = raw >> 47 & 1,
    };
}

#endif
