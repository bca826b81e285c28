/* SPDX-License-Identifier: MIT
 * Writing the map, a line a translation: address, size, name. */
#include "perf_map.h"
#include "../../../base/err.h"
#include "../../../base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYMBOLS_MAX (4u << 20)
#define NAME_MAX_   120

struct symbol {
    uint64_t addr;
    char *name;
};
struct perf_map {
    FILE *file;
    struct symbol *sym; /* sorted */
    size_t nsym;
};

/* ---- symbols ----------------------------------------------------------------- */

static int by_addr(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static bool add_symbol(struct perf_map *map, size_t *room, uint64_t addr, const char *name)
{
    if (map->nsym == *room) {
        size_t n = *room ? *room * 2 : 4096;
        struct symbol *s = n <= SYMBOLS_MAX ? realloc(map->sym, n * sizeof *s) : NULL;
        if (!s)
            return false;
        map->sym = s;
        *room = n;
    }
    char *copy = strdup(name);
    if (!copy)
        return false;
    map->sym[map->nsym++] = (struct symbol){addr, copy};
    return true;
}

/* Functions only: types t and w of nm. Lines that are something else are passed. */
static int load_symbols(struct perf_map *map, const char *path)
{
    FILE *f = fopen(path, "re");
    char line[512], name[NAME_MAX_ + 1], type;
    unsigned long long addr;
    size_t room = 0;
    bool ok = true;

    if (!f)
        return err_set(VC_ENOENT, "the symbols for perf, %s: %s", path, strerror(errno));
    while (ok && fgets(line, sizeof line, f))
        if (sscanf(line, "%llx %c %120s", &addr, &type, name) == 3 && strchr("tTwW", type))
            ok = add_symbol(map, &room, addr, name);
    fclose(f);
    if (!ok)
        return err_set(VC_ENOMEM, "no host memory for the symbols in %s", path);
    if (map->nsym)
        qsort(map->sym, map->nsym, sizeof *map->sym, by_addr);
    return 0;
}

static const struct symbol *find_symbol(const struct perf_map *map, uint64_t addr)
{
    size_t lo = 0, hi = map->nsym;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (map->sym[mid].addr <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? &map->sym[lo - 1] : NULL;
}

/* ---- the file ----------------------------------------------------------------- */

/* Partitions of one process share the file; who finds no other holding it starts
 * it anew, as the process may have its number from one that is gone. */
static FILE *open_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
        close(fd);
        errno = EACCES;
        return NULL;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0))
        errno = 0; /* then perf finds older lines too */
    flock(fd, LOCK_SH | LOCK_NB);
    FILE *f = fdopen(fd, "a");
    if (f)
        setvbuf(f, NULL, _IOLBF, 0); /* whole lines, also of several partitions */
    else
        close(fd);
    return f;
}

int perf_map_open(const char *symbols, struct perf_map **out)
{
    struct perf_map *map = calloc(1, sizeof *map);
    char path[64];
    int rc = 0;

    if (!map)
        return err_set(VC_ENOMEM, "no host memory for perf's map; close other programs");
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    map->file = open_file(path);
    if (!map->file)
        rc = err_set(VC_EIO, "perf's map %s cannot be written: %s", path, strerror(errno));
    else if (symbols)
        rc = load_symbols(map, symbols);
    if (rc) {
        perf_map_close(map);
        return rc;
    }
    *out = map;
    return 0;
}

void perf_map_close(struct perf_map *map)
{
    if (!map)
        return;
    if (map->file)
        fclose(map->file);
    for (size_t i = 0; i < map->nsym; i++)
        free(map->sym[i].name);
    free(map->sym);
    free(map);
}

/* A full disk costs names, nothing else. */
void perf_map_name(struct perf_map *map, const void *code, size_t size, const char *name)
{
    fprintf(map->file, "%llx %zx %s\n", (unsigned long long)(uintptr_t)code, size, name);
}

void perf_map_block(struct perf_map *map, const void *code, size_t size, uint64_t linear)
{
    char name[NAME_MAX_ + 64];
    const struct symbol *s = find_symbol(map, linear);
    if (s && linear == s->addr)
        snprintf(name, sizeof name, "virtcore:%s", s->name);
    else if (s && linear - s->addr < 1u << 20)
        snprintf(name, sizeof name, "virtcore:%s+%#llx", s->name,
                 (unsigned long long)(linear - s->addr));
    else
        snprintf(name, sizeof name, "virtcore:%#llx", (unsigned long long)linear);
    perf_map_name(map, code, size, name);
}
