/* SPDX-License-Identifier: MIT
 * 8042 keyboard controller (IBM PS/2 Hardware Interface Technical Reference,
 * "Keyboard and Auxiliary Device Controller") with a keyboard that answers
 * commands and has no keys, and nothing at the second port.
 */
#include "pcdev.h"

#define ST_OBF      0x01u
#define ST_SYS      0x04u
#define ST_CMD      0x08u
#define ST_UNLOCKED 0x10u
#define ST_AUX      0x20u
#define ST_TIMEOUT  0x40u

#define CFG_KBD_IRQ 0x01u
#define CFG_AUX_IRQ 0x02u
#define CFG_SYS     0x04u
#define CFG_KBD_OFF 0x10u
#define CFG_AUX_OFF 0x20u

#define OUT_RESET 0x01u /* 0 holds the processor in reset */
#define OUT_A20   0x02u

static void set_line(struct i8042 *k, bool *line, unsigned gsi, bool level)
{
    if (*line != level) {
        *line = level;
        irqchip_line(k->host->irq, gsi, level);
    }
}

static void update_irq(struct i8042 *k)
{
    struct i8042_state *s = &k->s;
    bool aux = s->len && (s->aux & 1);
    set_line(k, &s->kbd_line, PC_IRQ_KBD, s->len && !aux && (s->config & CFG_KBD_IRQ));
    set_line(k, &s->aux_line, PC_IRQ_AUX, aux && (s->config & CFG_AUX_IRQ));
}

/* Answers that find no room are lost, as in the real one. */
static void push(struct i8042 *k, uint8_t v, bool aux)
{
    struct i8042_state *s = &k->s;
    if (s->len == ARRAY_LEN(s->queue))
        return;
    s->queue[s->len] = v;
    s->aux = (uint16_t)((s->aux & ~BIT(s->len)) | (aux ? BIT(s->len) : 0));
    s->len++;
    update_irq(k);
}

static uint8_t pop(struct i8042 *k)
{
    struct i8042_state *s = &k->s;
    uint8_t v = s->queue[0]; /* an empty buffer gives its last byte again */
    if (s->len) {
        s->len--;
        if (s->len)
            memmove(s->queue, s->queue + 1, s->len);
        s->aux >>= 1;
        /* An edge for each byte. */
        set_line(k, &s->kbd_line, PC_IRQ_KBD, false);
        set_line(k, &s->aux_line, PC_IRQ_AUX, false);
        s->status &= (uint8_t)~ST_TIMEOUT;
        update_irq(k);
    }
    return v;
}

static void set_outport(struct i8042 *k, uint8_t v)
{
    k->s.outport = v;
    if (!(v & OUT_RESET))
        k->host->power(k->host->ctx, VC_POWER_RESET, 0);
}

/* A byte to the keyboard (technical reference, "Keyboard commands"). */
static void keyboard(struct i8042 *k, uint8_t v)
{
    struct i8042_state *s = &k->s;
    uint8_t cmd = s->kbd_cmd;

    s->kbd_cmd = 0;
    if (cmd && v < 0xed) { /* the argument of the command before */
        push(k, 0xfa, false);
        if (cmd == 0xf0 && v == 0)
            push(k, 2, false); /* scan code set 2 is in use */
        return;
    }
    switch (v) {
    case 0xee: push(k, 0xee, false); break;
    case 0xed:
    case 0xf0:
    case 0xf3:
        s->kbd_cmd = v;
        push(k, 0xfa, false);
        break;
    case 0xf2:
        push(k, 0xfa, false);
        push(k, 0xab, false);
        push(k, 0x83, false);
        break;
    case 0xf4:
    case 0xf5:
    case 0xf6: push(k, 0xfa, false); break;
    case 0xff:
        push(k, 0xfa, false);
        push(k, 0xaa, false);
        break;
    default: push(k, 0xfe, false); break; /* say it again */
    }
}

static void command(struct i8042 *k, uint8_t v)
{
    struct i8042_state *s = &k->s;

    s->status |= ST_CMD;
    s->pending_cmd = 0;
    if (v >= 0x20 && v < 0x40) {
        push(k, v == 0x20 ? s->config : s->ram[v & 31], false);
        return;
    }
    if (v >= 0x60 && v < 0x80) {
        s->pending_cmd = v;
        return;
    }
    if (v >= 0xf0) { /* pulses the low lines of the output port that are 0 in v */
        if (!(v & OUT_RESET))
            k->host->power(k->host->ctx, VC_POWER_RESET, 0);
        return;
    }
    switch (v) {
    case 0xa7: s->config |= CFG_AUX_OFF; break;
    case 0xa8: s->config &= (uint8_t)~CFG_AUX_OFF; break;
    case 0xa9: push(k, 0x00, false); break; /* second port's lines are fine */
    case 0xaa:
        s->status |= ST_SYS;
        push(k, 0x55, false);
        break;
    case 0xab: push(k, 0x00, false); break;
    case 0xad: s->config |= CFG_KBD_OFF; break;
    case 0xae: s->config &= (uint8_t)~CFG_KBD_OFF; break;
    case 0xc0: push(k, 0x80, false); break; /* input port: not locked */
    case 0xd0: push(k, (s->outport & 0x0f) | (s->len ? 0x10 : 0), false); break;
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4: s->pending_cmd = v; break;
    case 0xdd: s->outport &= (uint8_t)~OUT_A20; break;
    case 0xdf: s->outport |= OUT_A20; break;
    default: break;
    }
}

static void data(struct i8042 *k, uint8_t v)
{
    struct i8042_state *s = &k->s;
    uint8_t cmd = s->pending_cmd;

    s->status &= (uint8_t)~ST_CMD;
    s->pending_cmd = 0;
    if (cmd >= 0x60 && cmd < 0x80) {
        s->ram[cmd & 31] = v;
        if (cmd == 0x60) {
            s->config = v;
            s->status = (uint8_t)((s->status & ~ST_SYS) | (v & CFG_SYS ? ST_SYS : 0));
            update_irq(k);
        }
        return;
    }
    switch (cmd) {
    case 0xd1: set_outport(k, v); break;
    case 0xd2: push(k, v, false); break;
    case 0xd3: push(k, v, true); break;
    case 0xd4: /* nobody answers there */
        s->status |= ST_TIMEOUT;
        push(k, 0xfe, true);
        break;
    default:
        s->config &= (uint8_t)~CFG_KBD_OFF; /* a byte to the keyboard opens its line */
        keyboard(k, v);
        break;
    }
}

static uint8_t data_read(void *ud, unsigned reg)
{
    (void)reg;
    return pop(ud);
}

static void data_write(void *ud, unsigned reg, uint8_t v)
{
    (void)reg;
    data(ud, v);
}

static uint8_t status_read(void *ud, unsigned reg)
{
    const struct i8042_state *s = &((struct i8042 *)ud)->s;
    (void)reg;
    return s->status | ST_UNLOCKED | (s->len ? ST_OBF : 0) | (s->len && (s->aux & 1) ? ST_AUX : 0);
}

static void status_write(void *ud, unsigned reg, uint8_t v)
{
    (void)reg;
    command(ud, v);
}

int i8042_data_access(void *ud, struct vc_access *a)
{
    return io8_access(a, 0x60, 1, data_read, data_write, ud);
}

int i8042_status_access(void *ud, struct vc_access *a)
{
    return io8_access(a, 0x64, 1, status_read, status_write, ud);
}

void i8042_init(struct i8042 *k, const struct pc_host *host)
{
    memset(k, 0, sizeof *k);
    k->host = host;
    /* As firmware leaves it: tested, both ports on, translation on. */
    k->s.status = ST_SYS;
    k->s.config = CFG_SYS | 0x40;
    k->s.outport = 0xcf;
}
