/* SPDX-License-Identifier: MIT
 * What minivm inspect prints. */
#ifndef MINIVM_INSPECT_H
#define MINIVM_INSPECT_H

/* Looks at a kernel or a disk image. Returns the status to end with. */
int inspect(const char *path);

#endif
