/* SPDX-License-Identifier: MIT
 * Partition tables: a PC's (MBR, with logical partitions) and UEFI's (GPT). By hand and not
 * by libblkid: that reads a GPT's entries however many are announced, gigabytes of them, and
 * does not tell which of the two headers it went by. */
#ifndef INSPECT_TABLE_H
#define INSPECT_TABLE_H

#include "report.h"

#define SECTOR 512u

/* Adds the partitions to the report; what is wrong with the table becomes a fact. "MBR", "GPT",
 * or NULL: there is none. */
const char *table_read(struct vc_report *r, const struct view *disk);

/* One entry of an MBR or of a boot record of logical partitions. */
#define MBR_ENTRIES 446u
#define MBR_ENTRY   16u
#define MBR_GPT     0xeeu /* stands for a GPT */

bool gpt_read(struct vc_report *r, const struct view *disk);

#endif
