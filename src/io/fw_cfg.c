/* SPDX-License-Identifier: MIT
 * fw_cfg: numbered items and named files that the platform tells its guest
 * (interface: docs/specs/fw_cfg of the QEMU project). Ports: selector at 0x510
 * (16 bits, little-endian), data at 0x511, DMA address at 0x514 (big-endian, the
 * low half at 0x518 starts the transfer). Nothing is writable.
 */
#include "pcdev.h"
#include "../base/err.h"

#include <stdlib.h>

enum {
    KEY_SIGNATURE = 0x00,
    KEY_ID = 0x01,
    KEY_RAM_SIZE = 0x03,
    KEY_NOGRAPHIC = 0x04,
    KEY_NB_CPUS = 0x05,
    KEY_MAX_CPUS = 0x0f,
    KEY_FILE_DIR = 0x19,
    KEY_FILE_FIRST = 0x20
};
#define KEY_WRITE 0x4000u /* the old write channel; not part of the key */

#define ID_TRADITIONAL 0x01u
#define ID_DMA         0x02u

#define DMA_ERROR     0x01u
#define DMA_READ      0x02u
#define DMA_SKIP      0x04u
#define DMA_SELECT    0x08u
#define DMA_WRITE     0x10u
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

static struct fw_cfg_item *find(struct fw_cfg *f, uint16_t key)
{
    for (unsigned i = 0; i < f->nitems; i++)
        if (f->item[i].key == key)
            return &f->item[i];
    return NULL;
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
    f->s.key = key & (uint16_t)~KEY_WRITE;
    f->s.off = 0;
}

/* Bytes of the selected item that are left. */
static uint32_t rest(struct fw_cfg *f, const uint8_t **data)
{
    const struct fw_cfg_item *it = find(f, f->s.key);
    if (!it || f->s.off >= it->len)
        return 0;
    *data = it->data + f->s.off;
    return it->len - f->s.off;
}

static void advance(struct fw_cfg *f, uint32_t n)
{
    uint64_t off = (uint64_t)f->s.off + n;
    f->s.off = off > UINT32_MAX ? UINT32_MAX : (uint32_t)off;
}

static uint8_t next_byte(struct fw_cfg *f)
{
    const uint8_t *data;
    uint8_t v = rest(f, &data) ? *data : 0; /* past the end: zeros */
    advance(f, 1);
    return v;
}

/* Copies n bytes of the selected item, then zeros, into guest memory. */
static bool dma_read(struct fw_cfg *f, uint64_t gpa, uint32_t n)
{
    static const uint8_t zeros[4096];
    while (n) {
        const uint8_t *src = zeros;
        uint32_t part = rest(f, &src);
        if (!part)
            part = sizeof zeros;
        if (part > n)
            part = n;
        if (gpa + part < gpa || !mem_copy_in(f->host->mem, gpa, src, part))
            return false;
        advance(f, part);
        gpa += part;
        n -= part;
    }
    return true;
}

static void dma(struct fw_cfg *f, uint64_t gpa)
{
    uint8_t desc[16];
    uint32_t control, len, result;
    bool ok = true;

    if (!mem_copy_out(f->host->mem, gpa, desc, sizeof desc))
        return; /* nowhere to put an error */
    control = __builtin_bswap32(get_le32(desc));
    len = __builtin_bswap32(get_le32(desc + 4));
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    if (control & DMA_READ)
        ok = dma_read(f, __builtin_bswap64(get_le64(desc + 8)), len);
    else if (control & DMA_WRITE)
        ok = false;
    else if (control & DMA_SKIP)
        advance(f, len);
    result = __builtin_bswap32(ok ? 0 : DMA_ERROR);
    (void)mem_copy_in(f->host->mem, gpa, &result, sizeof result);
}

static uint8_t fw_cfg_read(void *ud, unsigned reg)
{
    struct fw_cfg *f = ud;
    if (reg == 1)
        return next_byte(f);
    if (reg >= 4)
        return (uint8_t)(DMA_SIGNATURE >> (8 * (7 - (reg - 4))));
    return 0xff;
}

int fw_cfg_access(void *ud, struct vc_access *a)
{
    struct fw_cfg *f = ud;
    uint64_t reg = a->addr - PC_PORT_FWCFG;

    if (!a->write)
        return io8_access(a, PC_PORT_FWCFG, 12, fw_cfg_read, NULL, f);
    if (reg == 0 && a->len == 2) {
        select_key(f, (uint16_t)a->data);
    } else if (reg == 4 && a->len == 4) {
        f->s.dma_addr = (uint64_t)__builtin_bswap32((uint32_t)a->data) << 32;
    } else if (reg == 8 && a->len == 4) {
        uint64_t gpa = f->s.dma_addr | __builtin_bswap32((uint32_t)a->data);
        f->s.dma_addr = 0;
        dma(f, gpa);
    }
    return 0;
}

int fw_cfg_set(struct fw_cfg *f, uint16_t key, const void *data, uint32_t len)
{
    struct fw_cfg_item *it = find(f, key);
    uint8_t *copy;

    if (!it && f->nitems == FW_CFG_ITEMS)
        return err_set(VC_ELIMIT, "fw_cfg has room for %u items", FW_CFG_ITEMS);
    copy = malloc(len ? len : 1);
    if (!copy)
        return err_set(VC_ENOMEM, "no memory for a fw_cfg item of %u bytes", len);
    if (len)
        memcpy(copy, data, len);
    if (!it) {
        it = &f->item[f->nitems++];
        it->key = key;
        it->data = NULL;
    }
    free(it->data);
    it->data = copy;
    it->len = len;
    return 0;
}

/* The directory: a count, then {size, key, 0, name[56]} for each, big-endian. */
static int write_dir(struct fw_cfg *f)
{
    uint8_t dir[4 + 64 * FW_CFG_FILES];
    memset(dir, 0, sizeof dir);
    put_le32(dir, __builtin_bswap32(f->nfiles));
    for (unsigned i = 0; i < f->nfiles; i++) {
        uint8_t *e = dir + 4 + 64 * i;
        put_le32(e, __builtin_bswap32(f->file[i].len));
        put_le16(e + 4, __builtin_bswap16(f->file[i].key));
        memcpy(e + 8, f->file[i].name, sizeof f->file[i].name);
    }
    return fw_cfg_set(f, KEY_FILE_DIR, dir, 4 + 64 * f->nfiles);
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t len)
{
    struct fw_cfg_file *file = &f->file[f->nfiles];
    int rc;

    if (f->nfiles == FW_CFG_FILES)
        return err_set(VC_ELIMIT, "fw_cfg has room for %u files", FW_CFG_FILES);
    if (strlen(name) >= sizeof file->name)
        return err_set(VC_EINVAL, "a fw_cfg file's name is at most %zu bytes",
                       sizeof file->name - 1);
    memset(file, 0, sizeof *file);
    file->key = (uint16_t)(KEY_FILE_FIRST + f->nfiles);
    file->len = len;
    memcpy(file->name, name, strlen(name));
    rc = fw_cfg_set(f, file->key, data, len);
    if (rc)
        return rc;
    f->nfiles++;
    return write_dir(f);
}

/* etc/e820: {address, length, type} of RAM, little-endian, packed. */
static int add_e820(struct fw_cfg *f, uint64_t ram)
{
    uint8_t map[2 * 20];
    uint64_t low = min_u64(ram, PC_LOW_RAM_MAX);
    memset(map, 0, sizeof map);
    put_le64(map + 8, low);
    put_le32(map + 16, 1);
    put_le64(map + 20, 1ull << 32);
    put_le64(map + 28, ram - low);
    put_le32(map + 36, 1);
    return fw_cfg_add_file(f, "etc/e820", map, ram > low ? 40 : 20);
}

int fw_cfg_init(struct fw_cfg *f, const struct pc_host *host, uint64_t ram, unsigned cpus)
{
    uint32_t id = ID_TRADITIONAL | ID_DMA;
    uint16_t n = (uint16_t)cpus, nographic = 1;
    int rc;

    memset(f, 0, sizeof *f);
    f->host = host;
    if ((rc = fw_cfg_set(f, KEY_SIGNATURE, "QEMU", 4)) ||
        (rc = fw_cfg_set(f, KEY_ID, &id, sizeof id)) ||
        (rc = fw_cfg_set(f, KEY_RAM_SIZE, &ram, sizeof ram)) ||
        (rc = fw_cfg_set(f, KEY_NOGRAPHIC, &nographic, sizeof nographic)) ||
        (rc = fw_cfg_set(f, KEY_NB_CPUS, &n, sizeof n)) ||
        (rc = fw_cfg_set(f, KEY_MAX_CPUS, &n, sizeof n)))
        return rc;
    return add_e820(f, ram);
}

void fw_cfg_fini(struct fw_cfg *f)
{
    for (unsigned i = 0; i < f->nitems; i++)
        free(f->item[i].data);
    f->nitems = f->nfiles = 0;
}
