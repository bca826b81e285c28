/* SPDX-License-Identifier: MIT
 * FAT12, FAT16 and FAT32, with long names (Microsoft's FAT specification, 2000; the long names'
 * characters beyond ASCII become '?'). */
#include "fs.h"
#include "../base/err.h"
#include "../base/util.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

typedef unsigned long long ull;

enum {
    BPB_SECTOR = 0x0b,      /* 2: bytes of a sector */
    BPB_CLUSTER = 0x0d,     /* 1: sectors of a cluster */
    BPB_RESERVED = 0x0e,    /* 2: sectors before the first table */
    BPB_TABLES = 0x10,      /* 1 */
    BPB_ROOT = 0x11,        /* 2: entries of the root directory, but for FAT32 */
    BPB_SECTORS16 = 0x13,   /* 2 */
    BPB_TABLE16 = 0x16,     /* 2: sectors of a table */
    BPB_SECTORS32 = 0x20,   /* 4 */
    BPB_TABLE32 = 0x24,     /* 4 */
    BPB_ROOT_CLUSTER = 0x2c /* 4: FAT32 */
};
/* Of a directory entry. */
enum { ENT_ATTR = 11, ENT_CASE = 12, ENT_HIGH = 20, ENT_LOW = 26, ENT_SIZE = 28, ENT_LEN = 32 };

#define ATTR_DIR      0x10u
#define ATTR_LABEL    0x08u
#define ATTR_LONG     0x0fu
#define DIR_BYTES_MAX (65536u * ENT_LEN)
#define CLUSTERS_12   4085u /* fewer clusters: FAT12 */
#define CLUSTERS_16   65525u
#define WINDOW        4096u

struct fat {
    struct view view;
    unsigned bits;              /* 12, 16, 32 */
    uint64_t table, root, data; /* offsets in bytes */
    uint32_t root_len;          /* bytes; 0: FAT32, where it begins at root_cluster */
    uint32_t root_cluster, cluster_len, clusters;
    /* The piece of the table that was read last. */
    uint64_t window_at;
    uint32_t window_len;
    uint8_t window[WINDOW];
};

/* ---- the header -------------------------------------------------------------------------------
 */

static bool power_of_two(uint32_t n)
{
    return n && !(n & (n - 1));
}

/* The counts, without looking whether they fit. */
static bool parse(const uint8_t *b, struct fat *f)
{
    uint32_t sector = get_le16(b + BPB_SECTOR), per = b[BPB_CLUSTER];
    uint32_t reserved = get_le16(b + BPB_RESERVED), tables = b[BPB_TABLES];
    uint64_t table_len = get_le16(b + BPB_TABLE16), sectors = get_le16(b + BPB_SECTORS16);
    uint32_t root_len = get_le16(b + BPB_ROOT) * (uint32_t)ENT_LEN;
    bool fat32 = !table_len;
    if (b[0x1fe] != 0x55 || b[0x1ff] != 0xaa || (b[0] != 0xeb && b[0] != 0xe9) ||
        !power_of_two(sector) || sector < 512 || sector > 4096 || !power_of_two(per) || !reserved ||
        !tables || tables > 4)
        return false;
    if (fat32)
        table_len = get_le32(b + BPB_TABLE32);
    if (!sectors)
        sectors = get_le32(b + BPB_SECTORS32);
    uint64_t root = reserved + tables * table_len;
    uint64_t data = root + (root_len + sector - 1) / sector;
    if (!table_len || sectors <= data || fat32 != !root_len)
        return false;
    uint64_t clusters = (sectors - data) / per;
    f->bits = fat32 ? 32 : clusters < CLUSTERS_12 ? 12 : 16;
    if (!clusters || (!fat32 && clusters >= CLUSTERS_16) || clusters > 0x0ffffff5u ||
        (clusters + 2) * f->bits / 8 > table_len * sector)
        return false;
    f->table = (uint64_t)reserved * sector;
    f->root = root * sector;
    f->data = data * sector;
    f->root_len = root_len;
    f->root_cluster = fat32 ? get_le32(b + BPB_ROOT_CLUSTER) : 0;
    f->cluster_len = sector * per;
    f->clusters = (uint32_t)clusters;
    return true;
}

bool fat_match(const uint8_t *head, size_t len, const char **name)
{
    struct fat f;
    if (len < 512 || !parse(head, &f))
        return false;
    *name = f.bits == 12 ? "FAT12" : f.bits == 16 ? "FAT16" : "FAT32";
    return true;
}

static int fat_open(const struct view *v, void **state)
{
    uint8_t head[512];
    int rc = view_read(v, 0, head, sizeof head);
    if (rc)
        return rc;
    struct fat *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(VC_ENOMEM, "the host has no memory for the file system");
    f->view = *v;
    if (!parse(head, f)) {
        free(f);
        return err_set(VC_EFORMAT, "its first sector is no FAT file system's");
    }
    *state = f;
    return 0;
}

static void fat_close(void *state)
{
    free(state);
}

/* ---- chains of clusters
 * --------------------------------------------------------------------------- */

static int table_bytes(struct fat *f, uint64_t at, uint8_t out[4], unsigned n)
{
    if (!f->window_len || at < f->window_at || at + n > f->window_at + f->window_len) {
        uint64_t off = f->table + at;
        if (off >= f->view.len)
            return err_set(VC_EFORMAT, "its allocation table ends behind its partition");
        f->window_len = 0;
        uint32_t len = (uint32_t)min_u64(WINDOW, f->view.len - off);
        int rc = view_read(&f->view, off, f->window, len);
        if (rc)
            return rc;
        f->window_at = at;
        f->window_len = len;
        if (n > len)
            return err_set(VC_EFORMAT, "its allocation table ends behind its partition");
    }
    memcpy(out, f->window + (at - f->window_at), n);
    return 0;
}

/* What follows a cluster; 0: nothing. */
static int next_cluster(struct fat *f, uint32_t c, uint32_t *next)
{
    uint8_t b[4] = {0};
    uint32_t v;
    int rc;
    if (f->bits == 12) {
        rc = table_bytes(f, c + c / 2, b, 2);
        v = c & 1 ? get_le16(b) >> 4 : get_le16(b) & 0xfff;
        *next = v >= 0xff8 ? 0 : v;
    } else if (f->bits == 16) {
        rc = table_bytes(f, 2ull * c, b, 2);
        v = get_le16(b);
        *next = v >= 0xfff8 ? 0 : v;
    } else {
        rc = table_bytes(f, 4ull * c, b, 4);
        v = get_le32(b) & 0x0fffffff;
        *next = v >= 0x0ffffff8 ? 0 : v;
    }
    if (!rc && *next == 0 && v == 0)
        return err_set(VC_EFORMAT, "a chain of clusters leads to a free one");
    return rc;
}

/* n bytes from where a chain begins; less where it ends first, and the allowance ends it when
 * it is a circle. */
static int read_chain(struct fat *f, uint32_t c, uint8_t *to, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        if (c < 2 || c - 2 >= f->clusters)
            return err_set(VC_EFORMAT, "a chain leads to cluster %u of %u", c, f->clusters);
        size_t piece = min_u64(n - *got, f->cluster_len);
        int rc =
            view_read(&f->view, f->data + (uint64_t)(c - 2) * f->cluster_len, to + *got, piece);
        if (rc)
            return rc;
        *got += piece;
        if (*got == n)
            break;
        rc = next_cluster(f, c, &c);
        if (rc)
            return rc;
        if (!c)
            break;
    }
    return 0;
}

/* ---- directories
 * ------------------------------------------------------------------------------------ */

struct entry {
    char name[256], short_name[13];
    bool dir;
    uint32_t cluster, size;
};

static int load_root(struct fat *f, uint8_t **bytes, size_t *len)
{
    *len = f->root_len;
    return view_load(&f->view, f->root, f->root_len, bytes);
}

/* A directory's bytes, by clusters, up to the entry that begins with 0: most end soon, and a
 * circle of them ends with the most that a directory may have. */
static int load_dir(struct fat *f, uint32_t cluster, uint8_t **bytes, size_t *len)
{
    uint8_t *p = NULL;
    size_t got = 0, room = 0;
    int rc = 0;
    bool end = false;
    if (!cluster)
        return load_root(f, bytes, len);
    while (cluster && got < DIR_BYTES_MAX && !end) {
        size_t n;
        if (room < got + f->cluster_len) {
            room = 2 * (got + f->cluster_len);
            uint8_t *more = realloc(p, room);
            if (!more) {
                rc = err_set(VC_ENOMEM, "the host has no memory for a directory");
                break;
            }
            p = more;
        }
        rc = read_chain(f, cluster, p + got, f->cluster_len, &n);
        if (rc)
            break;
        for (size_t at = got; at < got + n; at += ENT_LEN)
            end |= !p[at];
        got += n;
        if (!end && (rc = next_cluster(f, cluster, &cluster)))
            break;
    }
    if (rc) {
        free(p);
        return rc;
    }
    *bytes = p;
    *len = got;
    return 0;
}

static void short_name(const uint8_t *e, char out[13])
{
    unsigned n = 0;
    for (unsigned i = 0; i < 11; i++) {
        if (i == 8 && e[8] != ' ')
            out[n++] = '.';
        if (e[i] == ' ')
            continue;
        bool lower = e[ENT_CASE] & (i < 8 ? 0x08 : 0x10);
        char c = i == 0 && e[0] == 0x05 ? '?' : (char)e[i];
        out[n++] = lower && c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    out[n] = 0;
}

/* A piece of a long name, 13 characters; they come before the entry, the last piece first. */
static void take_long(const uint8_t *e, char name[256])
{
    static const uint8_t at[13] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    unsigned base = ((e[0] & 0x1fu) - 1) * 13;
    if (!(e[0] & 0x1f) || base + 13 > 255)
        return;
    if (e[0] & 0x40)
        memset(name, 0, 256);
    for (unsigned i = 0; i < 13; i++) {
        uint16_t c = get_le16(e + at[i]);
        name[base + i] = !c || c == 0xffff ? 0 : c < 0x80 ? (char)c : '?';
    }
}

/* The next entry of a directory from *at on; false: there is none. */
static bool next_entry(const uint8_t *dir, size_t len, size_t *at, struct entry *out)
{
    char name[256] = "";
    for (; *at + ENT_LEN <= len && dir[*at]; *at += ENT_LEN) {
        const uint8_t *e = dir + *at;
        if (e[0] == 0xe5) {
            name[0] = 0;
        } else if ((e[ENT_ATTR] & ATTR_LONG) == ATTR_LONG) {
            take_long(e, name);
        } else if (e[ENT_ATTR] & ATTR_LABEL || e[0] == '.') {
            name[0] = 0;
        } else {
            memset(out, 0, sizeof *out);
            short_name(e, out->short_name);
            name[255] = 0;
            snprintf(out->name, sizeof out->name, "%s", *name ? name : out->short_name);
            out->dir = e[ENT_ATTR] & ATTR_DIR;
            out->cluster = get_le16(e + ENT_LOW) | (uint32_t)get_le16(e + ENT_HIGH) << 16;
            out->size = get_le32(e + ENT_SIZE);
            *at += ENT_LEN;
            return true;
        }
    }
    return false;
}

static int find_in(struct fat *f, uint32_t dir, const char *name, size_t n, struct entry *out)
{
    uint8_t *bytes;
    size_t len, at = 0;
    bool found = false;
    int rc = load_dir(f, dir, &bytes, &len);
    if (rc)
        return rc;
    while (!found && next_entry(bytes, len, &at, out))
        found = (strlen(out->name) == n && !strncasecmp(out->name, name, n)) ||
                (strlen(out->short_name) == n && !strncasecmp(out->short_name, name, n));
    free(bytes);
    return found ? 0 : err_set(VC_ENOENT, "there is no such file");
}

/* The root has cluster 0 for FAT12 and FAT16. */
static int find(struct fat *f, const char *path, struct entry *out)
{
    int rc = 0;
    *out = (struct entry){.dir = true, .cluster = f->root_cluster};
    while (!rc) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (!n)
            return 0;
        rc = out->dir ? find_in(f, out->cluster, path, n, out)
                      : err_set(VC_ENOENT, "it is no directory");
        if (!rc && out->dir && !out->cluster)
            rc = err_set(VC_EFORMAT, "a directory has no clusters");
        path += n;
    }
    return rc;
}

/* ---- what the others call
 * ------------------------------------------------------------------------------ */

static int fat_list(void *state, const char *path, fs_name_fn *fn, void *ud)
{
    struct entry e;
    uint8_t *bytes;
    size_t len, at = 0;
    int rc = find(state, path, &e);
    if (!rc && !e.dir)
        rc = err_set(VC_ENOENT, "it is no directory");
    if (!rc)
        rc = load_dir(state, e.cluster, &bytes, &len);
    if (rc)
        return rc;
    for (unsigned n = 0; n < FS_NAMES_MAX && next_entry(bytes, len, &at, &e) && fn(ud, e.name); n++)
        ;
    free(bytes);
    return 0;
}

static int fat_read(void *state, const char *path, size_t max, uint8_t **bytes, size_t *len,
                    uint64_t *size)
{
    struct entry e;
    int rc = find(state, path, &e);
    if (!rc && e.dir)
        rc = err_set(VC_ENOENT, "it is no regular file");
    if (rc)
        return rc;
    *size = e.size;
    size_t n = min_u64(e.size, max);
    *bytes = malloc(n ? n : 1);
    if (!*bytes)
        return err_set(VC_ENOMEM, "the host has no memory for a file of %zu bytes", n);
    rc = read_chain(state, e.cluster, *bytes, n, len);
    if (!rc && *len < n)
        rc = err_set(VC_EFORMAT, "a file of %llu bytes has clusters for %zu", (ull)e.size, *len);
    if (rc) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

const struct fs_ops fat_ops = {fat_open, fat_close, fat_list, fat_read};
