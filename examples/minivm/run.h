/* SPDX-License-Identifier: MIT
 * One guest, from its image to its end. */
#ifndef MINIVM_RUN_H
#define MINIVM_RUN_H

#include "options.h"

/* Runs what the options say. Returns the status to end with. */
int run(const struct options *o);

#endif
