/* SPDX-License-Identifier: MIT
 * A map for Linux' perf, which looks for names of code that is in no file in
 * /tmp/perf-PID.map. */
#ifndef JIT_PERF_MAP_H
#define JIT_PERF_MAP_H

#include <stddef.h>
#include <stdint.h>

struct perf_map;

/* symbols: a file as System.map, or NULL. VC_ENOENT: that cannot be read; VC_EIO: the
 * map cannot be written. */
int perf_map_open(const char *symbols, struct perf_map **out);
void perf_map_close(struct perf_map *map); /* NULL: nothing; the file stays for perf */

/* Code of size bytes, the translation of what the guest has at the linear address. */
void perf_map_block(struct perf_map *map, const void *code, size_t size, uint64_t linear);
void perf_map_name(struct perf_map *map, const void *code, size_t size, const char *name);

#endif
