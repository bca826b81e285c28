/* SPDX-License-Identifier: MIT
 *
 * virtcore/virtcore.h - all of libvirtcore.
 */
#ifndef VIRTCORE_H
#define VIRTCORE_H

#include "balloon.h"
#include "base.h"
#include "call.h"
#include "cpu.h"
#include "dev.h"
#include "disk.h"
#include "inspect.h"
#include "pc.h"
#include "sched.h"
#include "vm.h"
#include "xenstore.h"

#endif
