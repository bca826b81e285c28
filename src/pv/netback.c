/* SPDX-License-Identifier: MIT
 * A PV network device: packets of the guest's are gathered from its pages and sent on
 * the thread that notifies; frames for it are copied into the pages that it put up
 * ("rx-copy"), on the link's thread. */
#include "netback.h"
#include "shring.h"
#include "xenbus.h"
#include "../base/err.h"
#include "../base/util.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/io/netif.h>

#define SLOTS_MAX  18u /* of one packet: XEN_NETIF_NR_SLOTS_MIN, which every back end takes */
#define ROUNDS_MAX 8u  /* looks at a ring for one notification */
#define PORT_MAX   (1u << 17)
#define TX_ENTRY   sizeof(union netif_tx_sring_entry)
#define RX_ENTRY   sizeof(union netif_rx_sring_entry)

_Static_assert(SLOTS_MAX == XEN_NETIF_NR_SLOTS_MIN, "slots");

struct netback {
    const struct pv_front *front;
    struct net *link;
    struct xenbus bus;
    /* Each direction has its ring, its lock and its port; one port may be both's. */
    pthread_mutex_t tx_lock, rx_lock;
    struct shring tx, rx;
    uint32_t tx_port, rx_port;
    bool tx_live, rx_live, sg;
    uint8_t *packet; /* the one that is gathered: NET_FRAME_MAX */
};

static void notify(struct netback *n, struct shring *ring, uint32_t port)
{
    if (shring_publish(ring))
        n->front->notify(n->front->ctx, port);
}

/* ---- from the guest ------------------------------------------------------------------------ */

struct packet {
    struct netif_tx_request slot[SLOTS_MAX];
    uint32_t nslots, used; /* used: entries of the ring, with the extra ones */
    struct net_offload off;
    bool control; /* it is no packet, but a wish of the guest's */
};

enum { PACKET_OK, PACKET_PART, PACKET_BAD };

/* The extra entries after the first one, from `at` on; false: not all there, or bad. */
static int extras(struct netback *n, struct packet *p, uint32_t waiting)
{
    struct netif_extra_info x;
    do {
        if (p->used == waiting)
            return PACKET_PART;
        shring_get(&n->tx, p->used++, &x, sizeof x);
        switch (x.type) {
        case XEN_NETIF_EXTRA_TYPE_GSO:
            if (!x.u.gso.size || (x.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 &&
                                  x.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6))
                return PACKET_BAD;
            p->off.gso_size = x.u.gso.size;
            break;
        case XEN_NETIF_EXTRA_TYPE_MCAST_ADD:
        case XEN_NETIF_EXTRA_TYPE_MCAST_DEL: p->control = true; break;
        case XEN_NETIF_EXTRA_TYPE_HASH: break;
        default: return PACKET_BAD;
        }
    } while (x.flags & XEN_NETIF_EXTRA_FLAG_MORE && p->used < SLOTS_MAX);
    return x.flags & XEN_NETIF_EXTRA_FLAG_MORE ? PACKET_BAD : PACKET_OK;
}

/* Copies the entries of the next packet. What a bad one has taken so far is in p->used. */
static int take(struct netback *n, struct packet *p, uint32_t waiting)
{
    memset(p, 0, sizeof *p);
    for (bool more = true; more;) {
        if (p->used == waiting)
            return PACKET_PART;
        if (p->nslots == SLOTS_MAX)
            return PACKET_BAD;
        struct netif_tx_request *s = &p->slot[p->nslots++];
        shring_get(&n->tx, p->used++, s, sizeof *s);
        more = s->flags & NETTXF_more_data;
        if (p->nslots == 1) {
            p->off.csum = s->flags & NETTXF_csum_blank;
            int rc = s->flags & NETTXF_extra_info ? extras(n, p, waiting) : PACKET_OK;
            if (rc)
                return rc;
        } else if (s->flags & NETTXF_extra_info) {
            return PACKET_BAD;
        }
    }
    return PACKET_OK;
}

/* The first slot's size is the packet's, the others' are their own. */
static bool gather(struct netback *n, const struct packet *p, size_t *len)
{
    const struct pv_front *f = n->front;
    uint32_t total = p->slot[0].size, rest = 0, at = 0;
    for (uint32_t i = 1; i < p->nslots; i++)
        rest += p->slot[i].size;
    if (rest >= total && p->nslots > 1)
        return false;
    for (uint32_t i = 0; i < p->nslots; i++) {
        const struct netif_tx_request *s = &p->slot[i];
        uint32_t size = i ? s->size : total - rest;
        if (s->offset + size > PAGE_SIZE_4K || at + size > NET_FRAME_MAX)
            return false;
        if (!f->copy(f->ctx, s->gref, false, s->offset, n->packet + at, size))
            return false;
        at += size;
    }
    *len = at;
    return true;
}

/* Answers each entry of a packet in its place; extra ones have no number. */
static void tx_answer(struct netback *n, const struct packet *p, int status)
{
    uint32_t extra = p->used - p->nslots;
    for (uint32_t i = 0; i < p->nslots; i++) {
        struct netif_tx_response rsp = {.id = p->slot[i].id, .status = (int16_t)status};
        shring_put(&n->tx, &rsp, sizeof rsp);
        for (; !i && extra; extra--)
            shring_put(&n->tx, &(struct netif_tx_response){.status = NETIF_RSP_NULL}, sizeof rsp);
    }
}

/* Sends the packets that wait; how many entries are left, of one that is not whole. */
static uint32_t tx_all(struct netback *n)
{
    for (uint32_t waiting = shring_waiting(&n->tx);;) {
        struct packet p;
        size_t len = 0;
        int rc = waiting ? take(n, &p, waiting) : PACKET_PART;
        if (rc == PACKET_PART)
            return waiting;
        n->tx.req_cons += p.used;
        waiting -= p.used;
        bool ok = !rc && gather(n, &p, &len);
        if (ok && !p.control)
            net_send(n->link, n->packet, len, &p.off);
        tx_answer(n, &p, ok ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
    }
}

/* The guest notified. A guest that sends without end is served again when it notifies
 * again, so that this thread goes on. */
static void tx_kicked(void *ud)
{
    struct netback *n = ud;
    pthread_mutex_lock(&n->tx_lock);
    for (unsigned i = 0; n->tx_live && i < ROUNDS_MAX; i++) {
        uint32_t left = tx_all(n);
        notify(n, &n->tx, n->tx_port);
        shring_arm(&n->tx, left);
        if (shring_waiting(&n->tx) == left)
            break;
    }
    pthread_mutex_unlock(&n->tx_lock);
}

/* ---- to the guest -----------------------------------------------------------------------------
 */

/* Copies a part of a frame into the page of a request; the status that answers it. */
static int rx_fill(struct netback *n, const struct netif_rx_request *r, const uint8_t *data,
                   uint32_t len)
{
    const struct pv_front *f = n->front;
    return f->copy(f->ctx, r->gref, true, 0, (uint8_t *)data, len) ? (int)len : NETIF_RSP_ERROR;
}

/* A frame from the link: dropped when the guest has put up too little room. */
static void rx_frame(void *ud, const uint8_t *frame, size_t len)
{
    struct netback *n = ud;
    uint32_t need = (uint32_t)((len + PAGE_SIZE_4K - 1) / PAGE_SIZE_4K);
    pthread_mutex_lock(&n->rx_lock);
    if (n->rx_live && (need == 1 || n->sg) && shring_waiting(&n->rx) >= need) {
        for (uint32_t i = 0, at = 0; i < need; i++) {
            struct netif_rx_request r;
            uint32_t part = (uint32_t)min_u64(len - at, PAGE_SIZE_4K);
            shring_get(&n->rx, 0, &r, sizeof r);
            n->rx.req_cons++;
            struct netif_rx_response rsp = {
                .id = r.id,
                .flags = (uint16_t)(NETRXF_data_validated | (i + 1 < need ? NETRXF_more_data : 0)),
                .status = (int16_t)rx_fill(n, &r, frame + at, part),
            };
            shring_put(&n->rx, &rsp, sizeof rsp);
            at += part;
        }
        notify(n, &n->rx, n->rx_port);
    }
    pthread_mutex_unlock(&n->rx_lock);
}

/* The guest put up room: nothing waits for it. */
static void rx_kicked(void *ud)
{
    (void)ud;
}

/* ---- coming and going
 * ---------------------------------------------------------------------------- */

static void ring_close(pthread_mutex_t *lock, struct shring *ring, bool *live)
{
    pthread_mutex_lock(lock);
    if (*live)
        shring_unmap(ring);
    *live = false;
    pthread_mutex_unlock(lock);
}

static void disconnect(void *ud)
{
    struct netback *n = ud;
    const struct pv_front *f = n->front;
    net_listen(n->link, NULL, NULL);
    ring_close(&n->tx_lock, &n->tx, &n->tx_live);
    ring_close(&n->rx_lock, &n->rx, &n->rx_live);
    if (n->tx_port)
        f->disconnect(f->ctx, n->tx_port);
    if (n->rx_port && n->rx_port != n->tx_port)
        f->disconnect(f->ctx, n->rx_port);
    n->tx_port = n->rx_port = 0;
}

static bool ring_open(struct netback *n, const char *ref_name, uint32_t entry,
                      pthread_mutex_t *lock, struct shring *ring, bool *live)
{
    struct shring fresh;
    uint64_t v;
    if (!xenbus_get(&n->bus, "", ref_name, UINT32_MAX, &v))
        return false;
    uint32_t ref = (uint32_t)v;
    if (!shring_map(&fresh, n->front, &ref, 1, entry))
        return false;
    pthread_mutex_lock(lock);
    *ring = fresh;
    *live = true;
    pthread_mutex_unlock(lock);
    return true;
}

static bool ports(struct netback *n)
{
    const struct pv_front *f = n->front;
    uint64_t tx, rx;
    if (xenbus_get(&n->bus, "", "event-channel-tx", PORT_MAX, &tx)) {
        if (!xenbus_get(&n->bus, "", "event-channel-rx", PORT_MAX, &rx) || rx == tx)
            return false;
    } else if (!xenbus_get(&n->bus, "", "event-channel", PORT_MAX, &tx)) {
        return false;
    } else {
        rx = tx;
    }
    if (f->connect(f->ctx, (uint32_t)tx, tx_kicked, n))
        return false;
    n->tx_port = (uint32_t)tx;
    if (rx != tx && f->connect(f->ctx, (uint32_t)rx, rx_kicked, n))
        return false;
    n->rx_port = (uint32_t)rx;
    return true;
}

static bool connect(void *ud)
{
    struct netback *n = ud;
    /* Ports first: requests are taken when the rings are there. */
    bool ok = xenbus_get_or(&n->bus, "request-rx-copy", 1, 0) == 1 &&
              xenbus_get_or(&n->bus, "multi-queue-num-queues", 1, 1) == 1 && ports(n);
    n->sg = xenbus_get_or(&n->bus, "feature-sg", 1, 0) == 1;
    ok = ok && ring_open(n, "rx-ring-ref", RX_ENTRY, &n->rx_lock, &n->rx, &n->rx_live) &&
         ring_open(n, "tx-ring-ref", TX_ENTRY, &n->tx_lock, &n->tx, &n->tx_live);
    if (!ok) {
        disconnect(n);
        return false;
    }
    net_listen(n->link, rx_frame, n);
    tx_kicked(n); /* what was sent before */
    return true;
}

static int publish(struct netback *n, uint32_t handle, const uint8_t mac[6])
{
    static const char *const offers[] = {
        "feature-sg",      "feature-gso-tcpv4",         "feature-gso-tcpv6",
        "feature-rx-copy", "feature-ipv6-csum-offload", "feature-split-event-channels",
        "carrier",         "multi-queue-max-queues",
    };
    struct xenbus *bus = &n->bus;
    const char *dirs[] = {bus->path, bus->back};
    int rc = 0;
    for (size_t i = 0; !rc && i < ARRAY_LEN(offers); i++)
        rc = xenbus_set(bus, offers[i], 1);
    rc = rc ? rc : xenbus_set(bus, "feature-rx-flip", 0);
    for (unsigned i = 0; !rc && i < 2; i++) {
        char path[XENBUS_PATH + 16];
        snprintf(path, sizeof path, "%s/mac", dirs[i]);
        rc = xs_printf(n->front->xs, path, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                       mac[3], mac[4], mac[5]);
    }
    rc = rc ? rc : xenbus_set(bus, "handle", handle);
    rc = rc ? rc : xenbus_set_front(bus, "handle", handle);
    return rc ? rc : xenbus_set_front(bus, "mtu", 1500);
}

struct netback *netback_new(const struct pv_front *front, struct net *link, uint32_t handle,
                            const uint8_t mac[6])
{
    struct netback *n = calloc(1, sizeof *n);
    uint8_t *packet = malloc(NET_FRAME_MAX);
    if (!n || !packet) {
        free(n);
        free(packet);
        err_set(VC_ENOMEM, "no memory for a PV network device");
        return NULL;
    }
    n->front = front;
    n->link = link;
    n->packet = packet;
    n->bus.connect = connect;
    n->bus.disconnect = disconnect;
    n->bus.ud = n;
    pthread_mutex_init(&n->tx_lock, NULL);
    pthread_mutex_init(&n->rx_lock, NULL);
    if (xenbus_make(&n->bus, front, "vif", handle) || publish(n, handle, mac) ||
        xenbus_start(&n->bus)) {
        err_set(VC_ENOMEM, "no memory for a PV network device's nodes in the xenstore");
        netback_free(n);
        return NULL;
    }
    return n;
}

void netback_free(struct netback *n)
{
    if (!n)
        return;
    xenbus_stop(&n->bus);
    pthread_mutex_destroy(&n->rx_lock);
    pthread_mutex_destroy(&n->tx_lock);
    free(n->packet);
    free(n);
}
