/* SPDX-License-Identifier: MIT
 * What --stats prints. */
#ifndef MINIVM_STATS_H
#define MINIVM_STATS_H

#include <virtcore/virtcore.h>

void stats_print(vc_cpu *const *cpu, unsigned n);

#endif
