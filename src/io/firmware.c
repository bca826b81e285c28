/* SPDX-License-Identifier: MIT
 * What a PC's firmware leaves behind (IBM PC/AT Technical Reference, BIOS
 * listing): interrupt vectors whose handlers acknowledge and return, controllers
 * initialized for them, a timer that ticks 18.2 times a second. There are no BIOS
 * services: a software interrupt returns with all registers as they were.
 *
 * The vectors are there for everybody, since they are mere memory. The devices
 * are only set up for guests whose boot protocol starts on a PC with firmware:
 * others may let interrupts in without expecting any. */
#include "firmware.h"
#include "../base/err.h"
#include "../base/util.h"
#include "../cpu/env.h"

#include <assert.h>

#define BIOS_SEG 0xf000u

/* Handlers lie where programs of old times have come to expect them. */
#define OFF_TICK   0xfea5u /* INT 08h: the timer */
#define OFF_MASTER 0xff23u /* other interrupts of the first 8259 */
#define OFF_SLAVE  0xff33u /* those of the second */
#define OFF_IRET   0xff53u /* everything else */

static_assert((BIOS_SEG << 4) + OFF_TICK >= FIRMWARE_CODE, "handlers are above the tables");

/* Counts at 40:6C since midnight, notes midnight at 40:70, calls INT 1Ch. */
static const uint8_t code_tick[] = {
    0x1e,                                                 /*     push ds */
    0x50,                                                 /*     push ax */
    0xb8, 0x40, 0x00,                                     /*     mov ax, 40h */
    0x8e, 0xd8,                                           /*     mov ds, ax */
    0x66, 0xff, 0x06, 0x6c, 0x00,                         /*     inc dword [6ch] */
    0x66, 0x81, 0x3e, 0x6c, 0x00, 0xb0, 0x00, 0x18, 0x00, /*     cmp dword [6ch], 1800b0h */
    0x72, 0x0b,                                           /*     jb 1f */
    0x66, 0x83, 0x26, 0x6c, 0x00, 0x00,                   /*     and dword [6ch], 0 */
    0xc6, 0x06, 0x70, 0x00, 0x01,                         /*     mov byte [70h], 1 */
    0xcd, 0x1c,                                           /* 1:  int 1ch */
    0xb0, 0x20,                                           /*     mov al, 20h */
    0xe6, 0x20,                                           /*     out 20h, al */
    0x58,                                                 /*     pop ax */
    0x1f,                                                 /*     pop ds */
    0xcf,                                                 /*     iret */
};
static const uint8_t code_master[] = {
    0x50,       /* push ax */
    0xb0, 0x20, /* mov al, 20h */
    0xe6, 0x20, /* out 20h, al */
    0x58,       /* pop ax */
    0xcf,       /* iret */
};
static const uint8_t code_slave[] = {
    0x50,       /* push ax */
    0xb0, 0x20, /* mov al, 20h */
    0xe6, 0xa0, /* out a0h, al */
    0xe6, 0x20, /* out 20h, al */
    0x58,       /* pop ax */
    0xcf,       /* iret */
};
static const uint8_t code_iret[] = {0xcf};

#define BASE_MASTER 0x08u
#define BASE_SLAVE  0x70u

static uint16_t handler(unsigned vector)
{
    if (vector == BASE_MASTER)
        return OFF_TICK;
    if (vector > BASE_MASTER && vector < BASE_MASTER + 8)
        return OFF_MASTER;
    if (vector >= BASE_SLAVE && vector < BASE_SLAVE + 8)
        return OFF_SLAVE;
    return OFF_IRET;
}

int firmware_write(struct mem *mem)
{
    static const struct {
        uint16_t off;
        const uint8_t *bytes;
        size_t len;
    } code[] = {
        {OFF_TICK, code_tick, sizeof code_tick},
        {OFF_MASTER, code_master, sizeof code_master},
        {OFF_SLAVE, code_slave, sizeof code_slave},
        {OFF_IRET, code_iret, sizeof code_iret},
    };
    uint8_t ivt[256 * 4];
    int rc = 0;

    for (unsigned i = 0; i < ARRAY_LEN(code) && !rc; i++)
        rc = mem_write(mem, (BIOS_SEG << 4) + code[i].off, code[i].bytes, code[i].len);
    for (unsigned v = 0; v < 256; v++) {
        put_le16(ivt + 4 * v, handler(v));
        put_le16(ivt + 4 * v + 2, BIOS_SEG);
    }
    return rc ? rc : mem_write(mem, 0, ivt, sizeof ivt);
}

int firmware_devices(struct bus *bus)
{
    /* The same ports that firmware writes. Only the timer and the second 8259
     * are let through: nothing else has a driver yet. */
    static const struct {
        uint16_t port;
        uint8_t value;
    } writes[] = {
        {0x20, 0x11}, {0x21, BASE_MASTER}, {0x21, 0x04}, {0x21, 0x01}, {0x21, 0xfa}, /* master */
        {0xa0, 0x11}, {0xa1, BASE_SLAVE},  {0xa1, 0x02}, {0xa1, 0x01}, {0xa1, 0xff}, /* slave */
        {0x43, 0x36}, {0x40, 0},           {0x40, 0}, /* channel 0: square wave, count 65536 */
    };
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++) {
        struct vc_access a = {
            .addr = writes[i].port, .len = 1, .write = true, .data = writes[i].value};
        int rc = bus_access(bus, VC_SPACE_PORT, &a);
        if (rc != ENV_HANDLED)
            return rc < 0 ? rc
                          : err_set(VC_EINTERNAL, "the platform has nothing at port %#x",
                                    writes[i].port);
    }
    return 0;
}
