/* SPDX-License-Identifier: MIT
 * The back end of a PV disk (Xen's io/blkif.h). */
#ifndef PV_BLKBACK_H
#define PV_BLKBACK_H

#include "front.h"
#include "../io/block.h"

struct blkback;

/* Offers a disk to the guest as virtual device `vdev` (51712: xvda, and 16 more for
 * each next). The front and the disk stay the caller's, and stay until blkback_free().
 * NULL with the error set. */
struct blkback *blkback_new(const struct pv_front *front, struct block *disk, uint32_t vdev);
/* Ends what is under way. VM paused, and not from a watch function. */
void blkback_free(struct blkback *b);

#endif
