/* SPDX-License-Identifier: MIT
 * The disks and network links of the command line. */
#ifndef MINIVM_DEVICES_H
#define MINIVM_DEVICES_H

#include "options.h"
#include <virtcore/base.h>

/* Adds them to the partition. false: vc_errmsg() says what is wrong. */
bool devices_add(vc_vm *vm, const struct options *o);

#endif
