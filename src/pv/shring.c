/* SPDX-License-Identifier: MIT */
#include "shring.h"
#include "../base/util.h"
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/io/blkif.h>

/* Every ring begins alike. */
#define INDEX(r, field) ((uint32_t *)((r)->page[0] + offsetof(struct blkif_sring, field)))
#define ENTRIES_AT      offsetof(struct blkif_sring, ring)

/* In one order with each other: an end that shows its index and then reads the other's
 * event must not read it first. */
static uint32_t load(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

bool shring_map(struct shring *r, const struct pv_front *front, const uint32_t *refs,
                uint32_t npages, uint32_t entry)
{
    *r = (struct shring){.front = front, .entry = entry};
    uint32_t fit = (uint32_t)((npages * PAGE_SIZE_4K - ENTRIES_AT) / entry);
    r->entries = 1u << (31 - __builtin_clz(fit));
    for (; r->npages < npages; r->npages++) {
        uint32_t i = r->npages;
        r->ref[i] = refs[i];
        r->page[i] = front->map(front->ctx, refs[i], true, &r->gpa[i]);
        if (!r->page[i])
            break;
    }
    if (r->npages == npages) {
        /* A guest that connects again goes on where its ring is; what it asked for and
         * has no answer to is asked again. */
        r->rsp_prod = load(INDEX(r, rsp_prod));
        r->req_cons = r->rsp_prod;
        if (load(INDEX(r, req_prod)) - r->rsp_prod <= r->entries)
            return true;
    }
    shring_unmap(r);
    return false;
}

void shring_unmap(struct shring *r)
{
    for (uint32_t i = 0; i < r->npages; i++)
        r->front->unmap(r->front->ctx, r->ref[i], true, r->gpa[i]);
    r->npages = 0;
}

uint32_t shring_waiting(struct shring *r)
{
    uint32_t prod = load(INDEX(r, req_prod));
    /* There is room for as many requests as responses were given. */
    if (prod - r->rsp_prod > r->entries || prod - r->req_cons > r->entries)
        r->broken = true;
    return r->broken ? 0 : prod - r->req_cons;
}

/* Entries may lie across two pages. */
static void copy(const struct shring *r, uint32_t index, void *buf, uint32_t len, bool out)
{
    uint32_t at = (uint32_t)ENTRIES_AT + (index & (r->entries - 1)) * r->entry;
    uint8_t *p = buf;
    while (len) {
        uint32_t off = at % PAGE_SIZE_4K;
        uint32_t n = (uint32_t)min_u64(len, PAGE_SIZE_4K - off);
        uint8_t *shared = r->page[at / PAGE_SIZE_4K] + off;
        memcpy(out ? shared : p, out ? p : shared, n);
        p += n;
        at += n;
        len -= n;
    }
}

void shring_get(const struct shring *r, uint32_t at, void *buf, uint32_t len)
{
    copy(r, r->req_cons + at, buf, len, false);
}

void shring_arm(struct shring *r, uint32_t left)
{
    store(INDEX(r, req_event), r->req_cons + left + 1);
}

void shring_put(struct shring *r, const void *rsp, uint32_t len)
{
    copy(r, r->rsp_prod, (void *)rsp, len, true);
    r->rsp_prod++;
}

bool shring_publish(struct shring *r)
{
    uint32_t old = load(INDEX(r, rsp_prod));
    store(INDEX(r, rsp_prod), r->rsp_prod);
    uint32_t event = load(INDEX(r, rsp_event));
    return r->rsp_prod - event < r->rsp_prod - old;
}
