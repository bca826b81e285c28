/* SPDX-License-Identifier: MIT
 * The back end of PV network devices, with a front end that behaves and ones that do
 * not. */
#include "base/err.h"
#include "base/util.h"
#include "fake_front.h"
#include "pv/netback.h"
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <criterion/criterion.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#define TX 1u /* pages of the rings */
#define RX 2u

static struct fake *f;
static struct net *wire;
static struct netback *back;
static unsigned frames;
static size_t last_len;
static uint8_t last[NET_FRAME_MAX];

static void sent(void *ud, const uint8_t *frame, size_t len)
{
    (void)ud;
    frames++;
    last_len = len;
    memcpy(last, frame, len);
}

static struct netif_tx_sring *tx;
static struct netif_rx_sring *rx;
static uint32_t tx_prod, tx_taken, rx_prod, rx_taken;

static void setup(void)
{
    static const struct net_ops ops = {sent, NULL};
    static const uint8_t mac[6] = {0, 0x16, 0x3e, 0, 0, 1};
    f = fake_new();
    wire = net_new(&ops, NULL);
    back = netback_new(&f->front, wire, 0, mac);
    cr_assert_not_null(back, "%s", vc_errmsg());
    cr_assert_eq(fake_state(f, "vif", "0"), XenbusStateInitWait);
    tx = (struct netif_tx_sring *)f->page[TX];
    rx = (struct netif_rx_sring *)f->page[RX];
    frames = 0;
}

static void teardown(void)
{
    netback_free(back);
    net_free(wire);
    cr_expect_eq(fake_leaks(f), 0);
    fake_free(f);
}
TestSuite(xen_net, .init = setup, .fini = teardown);

static void say(const char *node, const char *value)
{
    char path[64];
    snprintf(path, sizeof path, "vif/0");
    fake_say(f, path, node, value);
}

static void connect_split(void)
{
    memset(tx, 0, 4096);
    memset(rx, 0, 4096);
    tx->rsp_event = tx->req_event = rx->rsp_event = rx->req_event = 1;
    tx_prod = tx_taken = rx_prod = rx_taken = 0;
    say("tx-ring-ref", "1");
    say("rx-ring-ref", "2");
    say("event-channel-tx", "3");
    say("event-channel-rx", "4");
    say("request-rx-copy", "1");
    say("feature-sg", "1");
    say("state", "4");
    cr_assert_eq(fake_state(f, "vif", "0"), XenbusStateConnected);
}

static void put(uint32_t gref, uint16_t offset, uint16_t size, uint16_t flags)
{
    tx->ring[tx_prod % 256].req =
        (struct netif_tx_request){gref, offset, flags, (uint16_t)tx_prod, size};
    tx_prod++;
}

static void put_extra(struct netif_extra_info x)
{
    memcpy(&tx->ring[tx_prod++ % 256], &x, sizeof x);
}

static void send(void)
{
    tx->req_prod = tx_prod;
    fake_send(f, 3);
}

static bool any_id; /* what was no request has no number */

static int answer(void)
{
    if (tx->rsp_prod == tx_taken)
        return -99;
    struct netif_tx_response r = tx->ring[tx_taken % 256].rsp;
    cr_expect(any_id || r.status == NETIF_RSP_NULL || r.id == (uint16_t)tx_taken);
    tx_taken++;
    return r.status;
}

Test(xen_net, sends)
{
    connect_split();
    for (unsigned i = 0; i < 4096; i++)
        f->page[10][i] = (uint8_t)i;
    f->readonly[10] = true;
    for (unsigned i = 0; i < 1000; i++) {
        put(10, 100, 60, 0);
        send();
        cr_assert_eq(frames, i + 1);
        cr_assert_eq(last_len, 60);
        cr_assert(!memcmp(last, f->page[10] + 100, 60));
        cr_assert_eq(answer(), NETIF_RSP_OKAY);
        cr_assert_eq(answer(), -99);
    }
    cr_expect_gt(f->notified[3], 0);
    /* In three pieces, of which the last comes later. */
    put(10, 4000, 96 + 4096 + 10, NETTXF_more_data);
    put(11, 0, 4096, NETTXF_more_data);
    send();
    cr_expect_eq(frames, 1000);
    cr_expect_eq(tx->req_event, tx_prod + 1);
    put(12, 5, 10, 0);
    f->page[12][14] = 0x77;
    send();
    cr_expect_eq(frames, 1001);
    cr_expect_eq(last_len, 96 + 4096 + 10);
    cr_expect_eq(last[last_len - 1], 0x77);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(answer(), NETIF_RSP_OKAY);
}

Test(xen_net, cuts_large_packets)
{
    connect_split();
    uint8_t *p = f->page[10];
    memset(p, 0, 54);
    p[12] = 8, p[14] = 0x45, p[16] = (40 + 3000) >> 8, p[17] = (40 + 3000) & 255, p[23] = 6;
    p[46] = 0x50;
    put(10, 0, 54 + 3000, NETTXF_csum_blank | NETTXF_data_validated | NETTXF_extra_info);
    put_extra((struct netif_extra_info){.type = XEN_NETIF_EXTRA_TYPE_GSO,
                                        .u.gso = {.size = 1448, .type = XEN_NETIF_GSO_TYPE_TCPV4}});
    send();
    cr_expect_eq(frames, 3);
    cr_expect_eq(last_len, 54 + 104);
    cr_expect_eq(answer(), NETIF_RSP_OKAY);
    cr_expect_eq(answer(), NETIF_RSP_NULL);
    cr_expect_eq(answer(), -99);
    /* A wish, not a packet. */
    put(10, 0, 60, NETTXF_extra_info);
    put_extra((struct netif_extra_info){.type = XEN_NETIF_EXTRA_TYPE_MCAST_ADD});
    send();
    cr_expect_eq(frames, 3);
    cr_expect_eq(answer(), NETIF_RSP_OKAY);
}

Test(xen_net, bad_packets)
{
    connect_split();
    static const struct {
        uint32_t gref;
        uint16_t offset, size;
    } bad[] = {{FAKE_PAGES, 0, 60},
               {UINT32_MAX, 0, 60},
               {10, 4090, 60},
               {10, 65535, 65535},
               {10, 0, 4097}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        put(bad[i].gref, bad[i].offset, bad[i].size, 0);
        send();
        cr_expect_eq(answer(), NETIF_RSP_ERROR);
    }
    put(10, 0, 60, NETTXF_more_data); /* the pieces are longer than the whole */
    put(11, 0, 60, 0);
    send();
    cr_expect_eq(answer(), NETIF_RSP_ERROR);
    cr_expect_eq(answer(), NETIF_RSP_ERROR);
    put(10, 0, 60, NETTXF_extra_info);
    put_extra((struct netif_extra_info){.type = 77});
    send();
    cr_expect_eq(answer(), NETIF_RSP_ERROR);
    cr_expect_eq(answer(), NETIF_RSP_NULL);
    any_id = true;
    put(10, 0, 60, NETTXF_extra_info);
    for (unsigned i = 0; i < 30; i++)
        put_extra((struct netif_extra_info){.type = XEN_NETIF_EXTRA_TYPE_HASH,
                                            .flags = XEN_NETIF_EXTRA_FLAG_MORE});
    send();
    while (answer() != -99)
        ;
    any_id = false;
    for (unsigned i = 0; i < 40; i++) /* a packet without an end */
        put(10, 0, 60, NETTXF_more_data);
    put(10, 0, 60, 0);
    send();
    while (answer() != -99)
        ;
    cr_expect_eq(tx_taken, tx_prod);
    put(10, 0, 60, 0); /* it still works */
    frames = 0;
    send();
    cr_expect_eq(frames, 1);
    cr_expect_eq(answer(), NETIF_RSP_OKAY);
    tx_prod += 300;
    send();
    cr_expect_eq(answer(), -99);
}

static void room(uint32_t gref)
{
    rx->ring[rx_prod % 256].req = (struct netif_rx_request){(uint16_t)rx_prod, 0, gref};
    rx->req_prod = ++rx_prod;
}

Test(xen_net, receives)
{
    static uint8_t frame[9000];
    connect_split();
    for (unsigned i = 0; i < sizeof frame; i++)
        frame[i] = (uint8_t)(i * 5);
    net_deliver(wire, frame, 1514); /* no room: dropped */
    cr_expect_eq(rx->rsp_prod, 0);
    for (unsigned i = 0; i < 500; i++) {
        room(20);
        net_deliver(wire, frame, 1514);
        cr_assert_eq(rx->rsp_prod, i + 1);
        struct netif_rx_response r = rx->ring[i % 256].rsp;
        cr_assert_eq(r.status, 1514);
        cr_assert_eq(r.id, i);
        cr_assert_eq(r.offset, 0);
        cr_assert_eq(r.flags, NETRXF_data_validated);
        cr_assert(!memcmp(f->page[20], frame, 1514));
    }
    cr_expect_gt(f->notified[4], 0);
    room(30), room(31);
    net_deliver(wire, frame, 9000); /* three pages */
    cr_expect_eq(rx->rsp_prod, 500);
    room(32);
    net_deliver(wire, frame, 9000);
    cr_expect_eq(rx->rsp_prod, 503);
    cr_expect_eq(rx->ring[500 % 256].rsp.flags & NETRXF_more_data, NETRXF_more_data);
    cr_expect_eq(rx->ring[502 % 256].rsp.flags & NETRXF_more_data, 0);
    cr_expect_eq(rx->ring[502 % 256].rsp.status, 9000 - 8192);
    cr_expect(!memcmp(f->page[32], frame + 8192, 9000 - 8192));
    /* Pages that are not the guest's to be written. */
    f->readonly[33] = true;
    room(33);
    net_deliver(wire, frame, 100);
    cr_expect_eq(rx->ring[503 % 256].rsp.status, NETIF_RSP_ERROR);
    room(UINT32_MAX);
    net_deliver(wire, frame, 100);
    cr_expect_eq(rx->ring[504 % 256].rsp.status, NETIF_RSP_ERROR);
    rx->req_prod = rx_prod + 1000;
    net_deliver(wire, frame, 100);
    cr_expect_eq(rx->rsp_prod, 505);
}

Test(xen_net, connections)
{
    connect_split();
    /* Anew, with one port for both, and without a word before. */
    say("state", "1");
    cr_assert_eq(fake_state(f, "vif", "0"), XenbusStateInitWait);
    cr_expect_eq(fake_leaks(f), 0);
    xs_rm(f->front.xs, "/local/domain/1/device/vif/0/event-channel-tx");
    say("event-channel", "5");
    memset(tx, 0, 4096);
    memset(rx, 0, 4096);
    tx->rsp_event = 1;
    tx_prod = 0;
    put(10, 0, 60, 0); /* before the back end is there */
    tx->req_prod = 1;
    say("state", "4");
    cr_assert_eq(fake_state(f, "vif", "0"), XenbusStateConnected);
    cr_expect_eq(frames, 1);
    cr_expect_eq(f->notified[5], 1);
    static const char *const bad[][2] = {
        {"request-rx-copy", "0"}, {"tx-ring-ref", "-1"},           {"rx-ring-ref", "9999"},
        {"event-channel", "77"},  {"multi-queue-num-queues", "2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        say("state", "1");
        say("request-rx-copy", "1"), say("tx-ring-ref", "1"), say("rx-ring-ref", "2");
        say("event-channel", "5"), say("multi-queue-num-queues", "1");
        say(bad[i][0], bad[i][1]);
        say("state", "4");
        cr_expect_eq(fake_state(f, "vif", "0"), XenbusStateClosing, "%s", bad[i][0]);
        cr_expect_eq(fake_leaks(f), 0);
    }
}
