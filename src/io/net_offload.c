/* SPDX-License-Identifier: MIT
 * Checksums of TCP and UDP over IPv4 and IPv6 (RFC 793, 768, 791, 8200), and TCP
 * segmentation. Every length is checked against what is there. */
#include "net_offload.h"
#include "../base/util.h"
#include <stdlib.h>

#define ETH_LEN  14u
#define TCP      6u
#define UDP      17u
#define SEGS_MAX 64u /* of one frame; more would be pieces smaller than any real MSS */

static uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

/* The one's complement sum of RFC 1071, not folded. */
static uint64_t sum(const uint8_t *p, size_t len, uint64_t s)
{
    for (; len >= 2; len -= 2, p += 2)
        s += get_be16(p);
    return len ? s + (uint32_t)(p[0] << 8) : s;
}

static uint16_t fold(uint64_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

/* Where a frame's parts are. */
struct parts {
    bool v6;
    uint8_t proto;
    uint32_t ip, l4, data, end; /* offsets; end: of the IP packet */
};

static bool parse(const uint8_t *f, size_t len, struct parts *p)
{
    uint16_t type = get_be16(f + 12);
    p->ip = ETH_LEN;
    if (type == 0x8100 && len >= ETH_LEN + 4) { /* a VLAN's tag (802.1Q) */
        type = get_be16(f + 16);
        p->ip += 4;
    }
    const uint8_t *ip = f + p->ip;
    size_t left = len - p->ip;
    if (type == 0x0800 && left >= 20 && ip[0] >> 4 == 4) {
        uint32_t head = (ip[0] & 15) * 4u, total = get_be16(ip + 2);
        /* A large TCP packet of a guest's may not say how long it is. */
        if (!total)
            total = (uint32_t)left;
        if (head < 20 || total < head || total > left || get_be16(ip + 6) & 0x3fff)
            return false; /* fragments are not whole segments */
        *p = (struct parts){false, ip[9], p->ip, p->ip + head, 0, p->ip + total};
    } else if (type == 0x86dd && left >= 40 && ip[0] >> 4 == 6) {
        uint32_t payload = get_be16(ip + 4);
        if (!payload)
            payload = (uint32_t)left - 40;
        if (payload > left - 40)
            return false;
        *p = (struct parts){true, ip[6], p->ip, p->ip + 40, 0, p->ip + 40 + payload};
    } else {
        return false;
    }
    uint32_t have = p->end - p->l4;
    if (p->proto == TCP && have >= 20) {
        uint32_t head = (f[p->l4 + 12] >> 4) * 4u;
        p->data = p->l4 + head;
        return head >= 20 && head <= have;
    }
    p->data = p->l4 + 8;
    return p->proto == UDP && have >= 8;
}

/* The checksum of TCP or UDP over the whole packet. */
static void checksum(uint8_t *f, const struct parts *p)
{
    uint8_t *field = f + p->l4 + (p->proto == TCP ? 16 : 6);
    uint32_t len = p->end - p->l4;
    uint64_t s = p->v6 ? sum(f + p->ip + 8, 32, 0) : sum(f + p->ip + 12, 8, 0);
    s += p->proto + len;
    put_be16(field, 0);
    uint16_t c = fold(sum(f + p->l4, len, s));
    put_be16(field, p->proto == UDP && !c ? 0xffff : c);
}

/* Sets lengths and IPv4's checksum for a packet that ends at p->end. */
static void ip_lengths(uint8_t *f, const struct parts *p, uint16_t id)
{
    uint8_t *ip = f + p->ip;
    if (p->v6) {
        put_be16(ip + 4, p->end - p->ip - 40);
        return;
    }
    put_be16(ip + 2, p->end - p->ip);
    put_be16(ip + 4, id);
    put_be16(ip + 10, 0);
    put_be16(ip + 10, fold(sum(ip, p->l4 - p->ip, 0)));
}

static void segment(const uint8_t *frame, const struct parts *whole, uint16_t size,
                    offload_emit_fn *emit, void *ud)
{
    uint32_t head = whole->data, left = whole->end - whole->data;
    uint8_t *f = malloc(head + size);
    if (!f)
        return; /* dropped, as networks do */
    uint16_t id = whole->v6 ? 0 : get_be16(frame + whole->ip + 4);
    uint32_t seq = get_be32(frame + whole->l4 + 4);
    const uint8_t *data = frame + head;
    for (unsigned i = 0; left; i++) {
        struct parts p = *whole;
        uint32_t n = left < size ? left : size;
        memcpy(f, frame, head);
        memcpy(f + head, data, n);
        p.end = head + n;
        ip_lengths(f, &p, (uint16_t)(id + i));
        put_be16(f + p.l4 + 4, seq >> 16);
        put_be16(f + p.l4 + 6, seq);
        /* FIN and PSH are the last one's, CWR the first one's (RFC 3168). */
        if (n < left)
            f[p.l4 + 13] &= (uint8_t)~0x09;
        if (i)
            f[p.l4 + 13] &= (uint8_t)~0x80;
        checksum(f, &p);
        emit(ud, f, p.end);
        seq += n;
        data += n;
        left -= n;
    }
    free(f);
}

void offload_run(const uint8_t *frame, size_t len, const struct net_offload *off,
                 offload_emit_fn *emit, void *ud)
{
    struct parts p;
    bool ok = parse(frame, len, &p);
    uint32_t data = ok ? p.end - p.data : 0;
    if (off->gso_size && ok && p.proto == TCP && data > off->gso_size) {
        if (data <= (uint64_t)off->gso_size * SEGS_MAX)
            segment(frame, &p, off->gso_size, emit, ud);
        return;
    }
    uint8_t *f = ok ? malloc(len) : NULL;
    if (!f) {
        emit(ud, frame, len);
        return;
    }
    memcpy(f, frame, len);
    checksum(f, &p);
    emit(ud, f, len);
    free(f);
}
